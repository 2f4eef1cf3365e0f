/* qwen2.c: Qwen2 and Qwen2.5 dense: llama with biases on q, k and v, rows in plain order. Source: HF
 * modeling_qwen2.py; checked by the losses and gradients of tests/golden/grad. */
#include "models/names.h"

extern const wk_arch wk_arch_qwen2;
const wk_arch wk_arch_qwen2 = {
    .name = "qwen2",
    .hf = {"Qwen2ForCausalLM"},
    .names = wk_names_qwen3,
    .pattern = "A",
    .block = {{
        .tag = 'A',
        .norm = WK_NORM_RMS,
        .attn = {.kind = WK_ATTN_GQA,
                 .rope = WK_ROPE_HALF,
                 .bias = true,
                 .rope_scaling = WK_KEY(ROPE_SCALING)},
        .ffn = {.kind = WK_FFN_GATED, .fn = WK_ACT_SILU},
    }},
    .head = {.tied = WK_IF_ABSENT},
};

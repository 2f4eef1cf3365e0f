/* qwen3.c: Qwen3 dense: llama with norms on q and k. Source: HF modeling_qwen3.py; checked by golden logits. */
#include "models/names.h"

extern const wk_arch wk_arch_qwen3;
const wk_arch wk_arch_qwen3 = {
    .name = "qwen3",
    .hf = {"Qwen3ForCausalLM"},
    .names = wk_names_qwen3,
    .pattern = "A",
    .block = {{
        .tag = 'A',
        .norm = WK_NORM_RMS,
        .attn = {.kind = WK_ATTN_GQA,
                 .qk_norm = WK_PER_HEAD,
                 .rope = WK_ROPE_HALF,
                 .bias = true,
                 .rope_scaling = WK_KEY(ROPE_SCALING)},
        .ffn = {.kind = WK_FFN_GATED, .fn = WK_ACT_SILU},
    }},
    .head = {.tied = WK_IF_ABSENT},
};

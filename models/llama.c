/* llama.c: Llama 1, 2, 3.x and what is stored under its name: Mistral 7B, SmolLM2, TinyLlama.
 * Source: HF modeling_llama.py; checked by golden logits. GGUF files hold the rows of q and k in the order
 * of neighbour pairs; bind puts them back, so rope pairs halves here. */
#include "models/names.h"

extern const wk_arch wk_arch_llama;
const wk_arch wk_arch_llama = {
    .name = "llama",
    .hf = {"LlamaForCausalLM", "MistralForCausalLM"},
    .names = wk_names_llama,
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

/* gemma3.c: Gemma 3 text: five layers with a sliding window, then one that sees everything; norms before and
 * after each half. Source: HF modeling_gemma3.py; checked by golden logits. No GGUF carries the attention
 * scale: it follows from the size (dims.def). */
#include "models/names.h"

#define GEMMA3(T, ...)                                                                             \
    {                                                                                              \
        .tag = T, .norm = WK_NORM_RMS, .post_attn_norm = true, .post_ffn_norm = true,              \
        .attn = {.kind = WK_ATTN_GQA, .qk_norm = WK_PER_HEAD, .rope = WK_ROPE_HALF, __VA_ARGS__},  \
        .ffn = {.kind = WK_FFN_GATED, .fn = WK_ACT_GELU_TANH},                                     \
    }

extern const wk_arch wk_arch_gemma3;
const wk_arch wk_arch_gemma3 = {
    .name = "gemma3",
    .hf = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"},
    .names = wk_names_gemma,
    .embed = {.scale = WK_SCALE_SQRT_DIM},
    .pattern = "LLLLLG",
    .block =
        {
            GEMMA3('L', .rope_base = WK_KEY_OR(ROPE_LOCAL, 10000.0), .window = WK_KEY(WINDOW)),
            GEMMA3('G', .rope_base = WK_KEY(ROPE_BASE), .rope_scaling = WK_KEY(ROPE_SCALING)),
        },
    .attn_scale = WK_KEY_OR_BY_SIZE(ATTN_SCALE),
    .head = {.tied = WK_IF_ABSENT, .softcap = WK_KEY_OR(FINAL_SOFTCAP, 0.0)},
};

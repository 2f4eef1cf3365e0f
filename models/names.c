/* names.c: role -> name of the tensor in GGUF and in Hugging Face files; %d is the layer.
 * Sources: the GGUF naming convention (ggml docs, gguf.md) and the state dicts of the HF models. */
#include "models/names.h"

#define LAYER(part) "model.layers.%d." part

/* What every decoder of the llama line calls alike. */
#define COMMON(quirk_qk, quirk_norm)                                                               \
    {WK_W_TOK_EMBD, "token_embd.weight", "model.embed_tokens.weight", 0},                          \
    {WK_W_OUT_NORM, "output_norm.weight", "model.norm.weight", quirk_norm},                        \
    {WK_W_OUTPUT, "output.weight", "lm_head.weight", 0},                                           \
    {WK_W_ATTN_NORM, "blk.%d.attn_norm.weight", LAYER("input_layernorm.weight"), quirk_norm},      \
    {WK_W_Q, "blk.%d.attn_q.weight", LAYER("self_attn.q_proj.weight"), quirk_qk},                  \
    {WK_W_K, "blk.%d.attn_k.weight", LAYER("self_attn.k_proj.weight"), quirk_qk},                  \
    {WK_W_V, "blk.%d.attn_v.weight", LAYER("self_attn.v_proj.weight"), 0},                         \
    {WK_W_O, "blk.%d.attn_output.weight", LAYER("self_attn.o_proj.weight"), 0},                    \
    {WK_W_GATE, "blk.%d.ffn_gate.weight", LAYER("mlp.gate_proj.weight"), 0},                       \
    {WK_W_UP, "blk.%d.ffn_up.weight", LAYER("mlp.up_proj.weight"), 0},                             \
    {WK_W_DOWN, "blk.%d.ffn_down.weight", LAYER("mlp.down_proj.weight"), 0}

#define BIASES(quirk_qk)                                                                           \
    {WK_W_Q_BIAS, "blk.%d.attn_q.bias", LAYER("self_attn.q_proj.bias"), quirk_qk},                 \
    {WK_W_K_BIAS, "blk.%d.attn_k.bias", LAYER("self_attn.k_proj.bias"), quirk_qk},                 \
    {WK_W_V_BIAS, "blk.%d.attn_v.bias", LAYER("self_attn.v_proj.bias"), 0}

#define QK_NORMS(quirk_norm)                                                                       \
    {WK_W_Q_NORM, "blk.%d.attn_q_norm.weight", LAYER("self_attn.q_norm.weight"), quirk_norm},      \
    {WK_W_K_NORM, "blk.%d.attn_k_norm.weight", LAYER("self_attn.k_norm.weight"), quirk_norm}

/* llama, qwen: the norm before the ffn is called "post attention" in HF files. */
#define FFN_NORM                                                                                   \
    {WK_W_FFN_NORM, "blk.%d.ffn_norm.weight", LAYER("post_attention_layernorm.weight"), 0}
#define ROPE_FREQS {WK_W_ROPE_FREQS, "rope_freqs.weight", NULL, 0} /* HF: made from config.json */
#define END {WK_W_COUNT, NULL, NULL, 0}

const wk_name wk_names_llama[] = {
    COMMON(WK_GGUF_ROTATED, 0), BIASES(WK_GGUF_ROTATED), FFN_NORM, ROPE_FREQS, END,
};

const wk_name wk_names_qwen3[] = {
    COMMON(0, 0), BIASES(0), QK_NORMS(0), FFN_NORM, ROPE_FREQS, END,
};

const wk_name wk_names_gemma[] = {
    COMMON(0, WK_HF_MINUS_ONE),
    QK_NORMS(WK_HF_MINUS_ONE),
    {WK_W_POST_ATTN_NORM, "blk.%d.post_attention_norm.weight",
     LAYER("post_attention_layernorm.weight"), WK_HF_MINUS_ONE},
    {WK_W_FFN_NORM, "blk.%d.ffn_norm.weight", LAYER("pre_feedforward_layernorm.weight"),
     WK_HF_MINUS_ONE},
    {WK_W_POST_FFN_NORM, "blk.%d.post_ffw_norm.weight",
     LAYER("post_feedforward_layernorm.weight"), WK_HF_MINUS_ONE},
    END,
};

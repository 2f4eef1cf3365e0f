/* arch.h: the vocabulary in which architectures are described. A description (models/<name>.c) holds values
 * only; engine/graph/plan.c is its one reader, bind.c reads the names tables, dims.c the keys.
 * A choice that no value here can say gets one new word here, read in plan.c; never an `if` on a name. */
#ifndef WK_ARCH_H
#define WK_ARCH_H

#include <stdbool.h>
#include <stddef.h>

/* Hyper-parameter keys: the rows of engine/graph/dims.def. */
typedef enum wk_key {
    WK_KEY_NONE,
    WK_KEY_N_LAYER, WK_KEY_N_CTX, WK_KEY_DIM, WK_KEY_N_FF, WK_KEY_N_HEAD, WK_KEY_N_HEAD_KV, WK_KEY_HEAD_DIM,
    WK_KEY_HEAD_DIM_V, WK_KEY_N_ROT, WK_KEY_RMS_EPS, WK_KEY_ROPE_BASE, WK_KEY_ROPE_LOCAL, WK_KEY_ROPE_SCALING,
    WK_KEY_WINDOW, WK_KEY_ATTN_SCALE, WK_KEY_ATTN_SOFTCAP, WK_KEY_FINAL_SOFTCAP, WK_KEY_N_VOCAB,
    WK_KEY_COUNT
} wk_key;

/* A number: fixed, read from a key, or a rule. */
typedef enum wk_rule {
    WK_RULE_NONE,           /* zero record: not given; the field's own default */
    WK_RULE_FIXED,          /* .value */
    WK_RULE_KEY,            /* the key; required */
    WK_RULE_KEY_OR,         /* the key, else .value */
    WK_RULE_KEY_OR_BY_SIZE, /* the key, else the row of dims.def for (architecture, layers, dim), else refused */
    WK_RULE_SQRT_DIM,       /* sqrt(dim) */
    WK_RULE_RSQRT_HEAD_DIM  /* 1/sqrt(head_dim) */
} wk_rule;
typedef struct wk_number {
    wk_rule rule;
    wk_key key;
    double value;
} wk_number;
#define WK_FIXED(v) {WK_RULE_FIXED, WK_KEY_NONE, (v)}
#define WK_KEY(k) {WK_RULE_KEY, WK_KEY_##k, 0.0}
#define WK_KEY_OR(k, v) {WK_RULE_KEY_OR, WK_KEY_##k, (v)}
#define WK_KEY_OR_BY_SIZE(k) {WK_RULE_KEY_OR_BY_SIZE, WK_KEY_##k, 0.0}
#define WK_SCALE_SQRT_DIM {WK_RULE_SQRT_DIM, WK_KEY_NONE, 0.0}

/* What a weight is for. Names in files: the names tables. */
typedef enum wk_role {
    WK_W_TOK_EMBD, WK_W_OUT_NORM, WK_W_OUTPUT, WK_W_ROPE_FREQS,
    WK_W_ATTN_NORM, WK_W_Q, WK_W_K, WK_W_V, WK_W_O, WK_W_Q_BIAS, WK_W_K_BIAS, WK_W_V_BIAS, WK_W_Q_NORM, WK_W_K_NORM,
    WK_W_POST_ATTN_NORM, WK_W_FFN_NORM, WK_W_GATE, WK_W_UP, WK_W_DOWN, WK_W_POST_FFN_NORM,
    WK_W_COUNT
} wk_role;

enum { /* wk_name.quirk: how the container stores it */
    WK_GGUF_ROTATED = 1, /* GGUF q/k rows stand in neighbour-pair order; bind puts them back into halves */
    WK_HF_MINUS_ONE = 2  /* HF files store w - 1 */
};
typedef struct wk_name {
    wk_role role;
    const char *gguf, *hf; /* %d = layer */
    int quirk;
} wk_name; /* a table ends with gguf == NULL */

typedef enum wk_norm_kind { WK_NORM_RMS } wk_norm_kind;
typedef enum wk_attn_kind { WK_ATTN_GQA } wk_attn_kind;
typedef enum wk_ffn_kind { WK_FFN_GATED } wk_ffn_kind;
typedef enum wk_qk_norm { WK_QK_NONE, WK_PER_HEAD } wk_qk_norm;
typedef enum wk_rope_kind { WK_ROPE_HALF, WK_ROPE_PAIR } wk_rope_kind;
typedef enum wk_act_fn { WK_ACT_SILU, WK_ACT_GELU_TANH } wk_act_fn; /* order of simd's wk_fn */
typedef enum wk_tied { WK_IF_ABSENT, WK_NEVER } wk_tied;

typedef struct wk_block {
    char tag; /* letter in the pattern; 0 ends the list */
    wk_norm_kind norm;
    bool post_attn_norm, post_ffn_norm;
    struct {
        wk_attn_kind kind;
        wk_qk_norm qk_norm;
        wk_rope_kind rope;
        bool bias;              /* q, k, v have a bias when the file has one */
        wk_number rope_base;    /* default: WK_KEY_OR(ROPE_BASE, 10000) */
        wk_number rope_scaling; /* WK_KEY(ROPE_SCALING): the file's scaling applies; zero: none */
        wk_number window;       /* zero: none */
        wk_number softcap;      /* zero: none */
    } attn;
    struct {
        wk_ffn_kind kind;
        wk_act_fn fn;
    } ffn;
} wk_block;

typedef struct wk_arch {
    const char *name;  /* GGUF general.architecture */
    const char *hf[3]; /* architectures in config.json */
    const wk_name *names;
    struct {
        wk_number scale; /* zero: 1 */
    } embed;
    const char *pattern; /* letters of blocks, repeated over the layers; '*' ends the part used once */
    wk_block block[4];
    wk_number attn_scale; /* default: 1/sqrt(head_dim) */
    struct {
        wk_tied tied;
        wk_number softcap; /* zero: none */
    } head;
} wk_arch;

/* models.c: lookup, NULL if unknown; and the list, ended by NULL. */
const wk_arch *wk_arch_find(const char *name, size_t len);
extern const wk_arch *const wk_archs[];

#endif

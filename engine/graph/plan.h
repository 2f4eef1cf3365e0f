/* plan.h: the plan: a flat list of steps that the CPU, a device and the trainer execute alike. Offsets and
 * indices only, no pointers but those into the model file. Built once, then immutable. */
#ifndef WK_PLAN_H
#define WK_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/err.h"

typedef enum wk_op {
#define WK_OP(name, class, equation) WK_OP_##name,
#include "engine/graph/op.def"
#undef WK_OP
    WK_OP_COUNT
} wk_op;

typedef enum wk_op_class { WK_CLASS_ROW, WK_CLASS_ELEM, WK_CLASS_HEAD, WK_CLASS_CUT, WK_CLASS_ATTN } wk_op_class;
wk_op_class wk_op_class_of(int op);
const char *wk_op_name(int op);

/* A weight bound to its role. Matrices are packed into panels by the device, vectors become f32. */
typedef struct wk_weight {
    const char *name;    /* tensor name, NUL-terminated, owned by the plan's model */
    const uint8_t *data; /* rows as in the file; borrowed from the store */
    int fmt;             /* wk_fmt */
    int role, layer;     /* layer -1: none */
    bool is_vector;      /* one row, used as f32 */
    int32_t n_row, k;    /* rows (output values), row length */
    int32_t unrotate;    /* head_dim if rows are to be taken in un-rotated order (bind.h), else 0 */
    size_t row_bytes;
    int32_t lora_of;     /* A or B of an adapter: the weight that it adapts, whose role and layer it has; else -1 */
    bool is_lora_b;
} wk_weight;
/* File row that stands at row i of the weight (WK_GGUF_ROTATED is undone here). */
static inline int32_t wk_weight_row(const wk_weight *w, int32_t i) {
    if (!w->unrotate) return i;
    const int32_t hd = w->unrotate, h = i / hd, j = i % hd, half = hd / 2;
    return h * hd + (j < half ? 2 * j : 2 * (j - half) + 1);
}

typedef enum wk_val_type { WK_VAL_F32, WK_VAL_A32, WK_VAL_A256 } wk_val_type;
typedef enum wk_val_rows { WK_ROWS_TOK, WK_ROWS_OUT } wk_val_rows; /* T tokens, or R picked rows */

/* A value: [rows, dim], written once. Stages and offsets are filled by stage.c and slots.c. */
typedef struct wk_val {
    uint8_t type, rows;
    int32_t dim;
    int32_t def, last;              /* step that writes it, last step that reads it (-1: nobody) */
    int32_t stage_def, stage_last;
    bool in_row;                    /* written by the row work of its stage */
    bool escapes;                   /* in_row, and read by a later stage */
    bool in_chain;                  /* written and read by one chain alone: off holds WK_CHAIN_ROWS rows; of more, a
                                     * chain makes a block at a time, in memory of the thread's own */
    int32_t chain_at;               /* in_chain: its place among those of its chain */
    size_t off, bytes;              /* shared arena, for the plan's max_tok / max_out */
    size_t priv_off;                /* in_row: per-thread arena, for WK_REDUNDANT rows */
} wk_val;

enum { WK_REDUNDANT = 2 }; /* with at most this many rows every thread does the row work for itself */
enum { WK_CHAIN_ROWS = 8 }; /* up to so many rows pieces of a chain are taken together, as wide as they come */

typedef struct wk_step {
    uint16_t op;
    int16_t layer;   /* -1: before or after the layers */
    int32_t dst;     /* value, -1: none */
    int32_t src[3];  /* values, -1: none */
    int32_t w[2];    /* weights, -1: none */
    /* arguments; what an op does not use is 0 */
    float eps, scale, softcap;
    int32_t n_head, n_head_kv, head_dim;
    int32_t rope;    /* rope: index into plan->rope */
    int32_t window;  /* attn: positions seen, 0 = all */
    uint8_t fn;      /* glu: wk_fn */
    uint8_t pairing; /* rope: wk_rope */
    uint8_t which;   /* kvput: 0 = K, 1 = V */
} wk_step;

/* One row of (cos, sin) per token and rope kind, shared by its layers. DESIGN 9.6. */
typedef struct wk_rope_plan {
    int32_t n_rot;
    double *freq; /* [n_rot/2], scaling applied */
    float mscale; /* multiplies cos and sin (yarn), else 1 */
} wk_rope_plan;
/* cs[n_rot]: n_rot/2 cosines, then n_rot/2 sines of a position. */
void wk_rope_row(float *cs, const wk_rope_plan *r, int32_t pos);

/* A chain: steps that run one after another on the same rows of their outputs, cut into units. */
typedef struct wk_chain {
    int32_t first, n;  /* plan->order[first ..] */
    int32_t unit, n_unit; /* output rows of a unit (multiple of 16, or all rows); number of units */
    int32_t rows;      /* output rows in all */
} wk_chain;
/* A stage: row work, then chains (or one attention step); one barrier after it. */
typedef struct wk_stage {
    int32_t layer;
    int32_t row_first, row_n;     /* plan->order[..]: row steps in order */
    int32_t chain_first, chain_n; /* plan->chain[..] */
    int32_t attn;                 /* step, -1: none */
} wk_stage;

typedef struct wk_plan {
    const struct wk_arch *arch;
    int32_t n_layer, dim, n_head, n_head_kv, head_dim, n_ff, n_vocab, n_ctx_train;
    int32_t max_tok, max_out; /* T and R that the offsets are for */
    int32_t kv_type;          /* wk_kv */
    wk_step *step;       int32_t n_step;
    wk_val *val;         int32_t n_val;
    wk_weight *weight;   int32_t n_weight;
    wk_rope_plan *rope;  int32_t n_rope;
    wk_stage *stage;     int32_t n_stage;
    wk_chain *chain;     int32_t n_chain;
    int32_t *order;      int32_t n_order; /* step indices as the stages list them */
    int32_t tokens_of_layer_max;          /* reserved */
    int32_t logits;                       /* value [R, n_vocab] */
    size_t arena_bytes, priv_bytes;       /* shared arena; per thread */
    size_t weight_bytes;                  /* file bytes of all weights in use */
} wk_plan;

struct wk_store;

/* A LoRA adapter over the model (adapter.h); the store must outlive the plan. */
typedef struct wk_adapter {
    const struct wk_store *store;
    float scale; /* times alpha / rank */
} wk_adapter;
enum { WK_ADAPTERS_MAX = 8 };

typedef struct wk_plan_options {
    int32_t max_tok; /* tokens of a step, > 0 */
    int32_t max_out; /* rows whose logits are wanted, 1 .. max_tok */
    int32_t kv_type;
    bool keep;       /* slots: KEEP (every value its own memory) instead of REUSE */
    bool whole;      /* slots: no value in_chain, for who runs the plan step by step over all rows */
    bool ungrouped;  /* stages of one step each: for the test that grouping changes no bit */
    bool f32_act;    /* no quant steps: every matrix takes f32 values. Not for wk_backend_ops */
    const wk_adapter *adapter; /* n_adapter of them, added up in this order */
    int32_t n_adapter;
} wk_plan_options;

/* Reads dims, binds weights, emits steps, groups stages, places values. s must outlive the plan.
 * Errors: E_ARCH (unknown architecture, named), E_FORMAT (key missing or out of range), E_SHAPE (tensor of a
 * wrong shape: found, wanted, why), E_UNSUPPORTED, E_NOMEM; of adapters as wk_lora_read. Unclaimed tensors: one log warning naming them. */
int wk_plan_build(wk_plan **out, const struct wk_store *s, const wk_plan_options *o, wk_err *err);
void wk_plan_free(wk_plan *p); /* NULL is fine */
/* One line a step, stages as headings. The golden text of an architecture. */
void wk_plan_dump(const wk_plan *p, wk_buf *out);

/* Bytes of rows*dim of a value type, with the layout of quantised activations (plan.c, cpu). ldb: see kernels.h */
static inline size_t wk_val_ldb(int32_t dim) { return ((size_t)dim / 32 + 3) & ~(size_t)1; }
size_t wk_val_bytes(int type, int32_t dim, size_t rows);

#endif

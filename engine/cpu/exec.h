/* exec.h: what the executors of engine/cpu share: the state of a prepared plan and the range of a call. */
#ifndef WK_EXEC_H
#define WK_EXEC_H

#include <stdatomic.h>

#include "engine/base/arena.h"
#include "engine/base/pool.h"
#include "engine/base/warm.h"
#include "engine/cpu/pack.h"
#include "engine/graph/backend.h"
#include "simd/kernels.h"

struct wk_dev {
    wk_kernels k;
    wk_team *team;
    int n_thread;
    wk_host host;
    struct wk_onednn *onednn; /* NULL: products are ours */
};

enum { WK_TOK_BLOCK = 132 }; /* tokens of a matrix product at once: sums of 32 rows are half of L1 */
/* Chains of a stage: q, k, v and an A of each adapter beside each. */
enum { WK_CUT_CHAINS = 3 * (1 + WK_ADAPTERS_MAX), WK_ATTN_COLS = 48 };

/* How the chains of one stage are cut for one number of tokens and of picked rows: tickets of a block of tokens one after
 * the other, chain by chain, so that threads have blocks of their own and find their rows in their own caches. Kept from
 * pass to pass while those numbers stay. */
typedef struct wk_cut {
    uint32_t n_ticket, n_group; /* in all, and of a token block */
    int32_t n_chain, tok_block, n_block, n_rows; /* rows of the stage's values: tokens or picked rows */
    struct {
        int32_t per;    /* units a ticket */
        uint32_t first; /* first ticket of the chain in a block */
    } chain[WK_CUT_CHAINS];
} wk_cut;

/* One piece of attention: nt tokens of a sequence x the heads of one kv head x a run of pages. */
typedef struct wk_attn_task {
    int32_t seq, head, t0, nt; /* t0: index inside the sequence's tokens */
    int32_t page0, page1;      /* pages page0 .. page1-1 */
    int32_t group;             /* arrival counter, -1: the task is the only one of its columns */
    int32_t n_run, run;        /* runs of the group, mine */
    int32_t slot;              /* first partial of the group (one per page) */
} wk_attn_task;
typedef struct wk_attn_list { /* one per distinct window */
    int32_t window;
    int32_t n_task, n_group, n_slot;
    wk_attn_task *task;
} wk_attn_list;

/* Time of one thread by kind of work, written by it alone (backend.h, wk_trace). */
typedef struct wk_clock {
    uint64_t op_ns[WK_OP_COUNT], head_ns, wait_ns;
} wk_clock;

/* Memory that belongs to one thread. */
typedef struct wk_scratch {
    uint8_t *priv;    /* plan->priv_bytes: row work done redundantly */
    wk_panel panel[2];
    float *tail;      /* [WK_TOK_BLOCK][16]: last panel of a matrix whose rows 16 does not divide */
    float *acc_rows;  /* [WK_TOK_BLOCK][32]: sums of a pair of panels between pieces of k */
    float *q, *score; /* attention: [cols][hd], [cols][64] */
    wk_partial acc;   /* attention: of a task's columns */
    uint8_t *lo, *hi;
    void *cast;       /* [hd] in the cache type */
    wk_act q8;        /* Q8_0 cache: the queries as A32, [cols] */
    float *wide;      /* Q8_0 cache: [64][hd] values of a page */
    float *chain;     /* values in_chain: [chain_at][WK_TOK_BLOCK][columns of the range] */
    wk_clock clock;
    uint8_t *base;    /* what is freed */
} wk_scratch;

struct wk_exec {
    wk_dev *dev;
    const wk_plan *plan;
    wk_pages weights, arena, kv;
    wk_warm *warm; /* populates kv in the background */
    wk_packed *w;
    wk_pages wide; /* products by oneDNN: panels of a weight as plain rows */
    struct {
        int32_t weight, panel, n_panel;
    } job;
    /* Stages of the region that runs: from .. to-1, then the row work of rows_of (or WK_NO_STAGE); those products of
     * stage `made` that are oneDNN's have been made, and its row work. */
    struct {
        int32_t from, to, rows_of, made;
    } region;
    wk_scratch *scratch; /* [n_thread] */
    uint32_t n_page;
    wk_part span; /* the stages that it runs */
    size_t kv_head_bytes, kv_page_bytes; /* K and V of one head; a page with the part's layers and all heads */
    int32_t attn_cols;                   /* columns of a task at most */
    float **cs;                          /* per rope kind [max_tok][n_rot]: cos, sin */
    int32_t *tok_pos, *tok_seq;          /* [max_tok] of the batch */
    wk_attn_list *attn;                  /* per window */
    int32_t n_attn, attn_room;
    _Atomic int32_t *arrive;             /* per group */
    float *part;                         /* partials: per slot m[G], l[G], o[G][hd] */
    size_t part_room;                    /* slots */
    wk_cut *cut;                         /* [n_stage] */
    wk_tickets tickets[2];               /* of stages by parity: dealt by rank 0, one stage ahead */
    int32_t cut_tok, cut_out;            /* what they were made for */
    const wk_batch *b;
    uint64_t n_barrier; /* written by rank 0 */
    bool is_traced;
    uint64_t trace_pass, trace_barrier, trace_wall; /* passes and their ns; n_barrier when tracing began */
};

/* Where a call stands: thread, stage, and whether row work is done by every thread for itself. */
typedef struct wk_ctx {
    wk_exec *x;
    int rank, stage;
    bool redundant;
    bool by_block; /* of more than WK_CHAIN_ROWS rows a chain makes those of a range: its own values are the thread's */
    bool made; /* products of the stage by oneDNN are there */
} wk_ctx;

/* Output rows r0 .. r1-1 (ROW steps: all), rows of the value (tokens) t0 .. t1-1. */
typedef struct wk_range {
    int32_t r0, r1, t0, t1;
} wk_range;

typedef void wk_exec_fn(const wk_ctx *c, const wk_step *s, wk_range r);
#define WK_OP(name, class, equation) wk_exec_fn wk_exec_##name;
#include "engine/graph/op.def"
#undef WK_OP

/* Memory of a value as this thread sees it: its own copy of redundant row work, else the shared arena. */
void *wk_val_at(const wk_ctx *c, int32_t v);
static inline float *wk_val_f32(const wk_ctx *c, int32_t v, int32_t t) {
    return (float *)wk_val_at(c, v) + (size_t)t * (size_t)c->x->plan->val[v].dim;
}
/* What a range names of a value: row r.t0 + i, column r.r0 + j at p[i * ld + j]. */
typedef struct wk_piece {
    float *p;
    size_t ld;
} wk_piece;
wk_piece wk_val_piece(const wk_ctx *c, int32_t v, wk_range r);
/* A value as activations, quantised or f32. */
wk_act wk_val_act(const wk_ctx *c, int32_t v);

/* Attention: the lists of tasks of a batch, and one task. */
int wk_attn_plan(wk_exec *x);
void wk_attn_run(const wk_ctx *c, const wk_step *s, const wk_attn_list *l, int32_t task);
wk_attn_list *wk_attn_list_of(wk_exec *x, int32_t window);
/* What attention over a Q8_0 cache needs beside: its size, and its pointers at p. Nothing for other types. */
size_t wk_attn_act_bytes(const wk_plan *p, size_t cols);
void wk_attn_place_act(wk_scratch *s, uint8_t *at, const wk_plan *p, size_t cols);

/* Products by oneDNN, in passes of more rows than this (products.c). wanted: a stage has, for the
 * rows of its cut; run: on rank 0's thread, outside of a region. */
enum { WK_PRODUCT_ROWS = WK_FEW, WK_NO_STAGE = -1 };
bool wk_product_is(const wk_exec *x, const wk_step *s);
bool wk_products_wanted(wk_exec *x, int32_t stage);
size_t wk_products_bytes(const wk_plan *p);
void wk_products_run(wk_exec *x, int32_t stage);

static inline uint8_t *wk_kv_head(const wk_exec *x, uint32_t page, int32_t layer, int32_t head) {
    return x->kv.p + (size_t)page * x->kv_page_bytes +
           ((size_t)(layer - x->span.layer_first) * (size_t)x->plan->n_head_kv + (size_t)head) * x->kv_head_bytes;
}
/* K and V of one head of a page (simd/kernels.h, wk_attn_page). */
static inline size_t wk_kv_elem(int type) { return type == WK_KV_F32 ? 4 : 2; } /* not Q8_0 */
static inline size_t wk_kv_k_bytes(int type, int32_t hd) {
    if (type == WK_KV_Q8_0)
        return WK_KV_PAGE / WK_PANEL * wk_panel_bytes(WK_FMT_Q8_0, (size_t)hd);
    return (size_t)WK_KV_PAGE * (size_t)hd * wk_kv_elem(type);
}
static inline size_t wk_kv_v_bytes(int type, int32_t hd) {
    if (type == WK_KV_Q8_0) return (size_t)WK_KV_PAGE * wk_row_bytes(WK_FMT_Q8_0, (size_t)hd);
    return wk_kv_k_bytes(type, hd);
}

#endif

/* exec.h: what the files of the backend share: the device, a prepared part of a plan, calls that are checked. */
#ifndef WKC_EXEC_H
#define WKC_EXEC_H

#include "gpu/cuda/kernels.h"

struct wk_dev {
    int index;
    wk_host host;
    int sm; /* 10 major + minor */
};

/* As wk_fail: fills err (NULL is fine), returns code. */
int wkc_fail(wk_err *err, int code, const char *fmt, ...) WK_PRINTF(3, 4);

/* Whether the host wants this call to fail (wk_host.fault). */
bool wkc_is_faulty(const wk_dev *d, const char *call);
int wkc_faulted(const wk_dev *d, const char *call, wk_err *err); /* the error of such a call */
/* WICK_OK, or the sentence of a call that failed. */
int wkc_judge(const wk_dev *d, cudaError_t e, const char *call, wk_err *err);
/* A call of the runtime: asked for, made, judged. */
#define WKC_TRY(d, err, name, ...)                                                                        \
    do {                                                                                                  \
        const int wkc_rc = wkc_is_faulty(d, #name) ? wkc_faulted(d, #name, err)                           \
                                                   : wkc_judge(d, name(__VA_ARGS__), #name, err);         \
        if (wkc_rc) return wkc_rc;                                                                        \
    } while (0)

/* Device memory that is cut up from its start, 256 bytes aligned. base NULL: only counts. */
typedef struct wkc_arena {
    uint8_t *base;
    size_t used;
    bool overflow;
} wkc_arena;
void *wkc_take(wkc_arena *a, size_t n, size_t each);

/* Where the numbers of a batch lie in the block that is sent for each pass. Fixed for a capacity, so that the pointers of
 * a graph stay right; what is as long as the pages come last. Offsets are bytes. */
typedef struct wkc_frame {
    int32_t cap; /* tokens, rows and sequences */
    size_t tok, pos, seq_of, out, first, count, pos0, table, bad_tok, page;
} wkc_frame;

enum { WKC_GRAPH_TOK = 8, WKC_GRAPHS = 48, WKC_LOGIT_ROWS = 8 };

/* Memory that the driver takes by itself. A node of an instantiated graph: 64 KiB, as reported for CUDA 11 (362 MB for 500
 * launches, 395 for 1000, 458 for 2000). So graphs have a limit in bytes: WKC_GRAPHS of a small model, fewer of a deep one,
 * WKC_GRAPH_LEAST of any. Code is loaded when a kernel is launched for the first time, and some kernels spill to memory of
 * the device. */
enum { WKC_NODE_BYTES = 64 << 10, WKC_GRAPH_BYTES = 512 << 20, WKC_GRAPH_LEAST = 4, WKC_CODE_BYTES = 64 << 20 };
int32_t wkc_graph_room(const wk_plan *p, const int32_t *step, int32_t n_step, size_t *bytes_each);

typedef struct wkc_graph {
    int32_t n_tok, n_seq, n_out, max_page;
    bool top;
    uint32_t n_use;
    uint64_t last; /* pass */
    cudaGraphExec_t x;
} wkc_graph;

/* What an unfinished pass still owes its batch. */
typedef struct wkc_due {
    const wk_batch *b;
    bool is_traced; /* its marks are set */
    uint64_t t0;
} wkc_due;

struct wk_exec {
    wk_dev *dev;
    const wk_plan *plan;
    wk_part part;
    uint32_t n_page;
    cudaStream_t stream;
    int32_t *step, n_step; /* of the part, in the order they run */
    wkc_mat *w;            /* [n_weight]; p NULL: not used */
    uint8_t **val;         /* [n_val] on the device */
    uint8_t *weights, *work, *cache;
    wkc_kv kv;
    float **cs;            /* [n_rope] [max_tok][n_rot] */
    double **freq;
    bool *rope_used;
    float *logits;
    int32_t *top;          /* [max_out] */
    void *mat_scratch, *attn_scratch;
    bool is_last;
    wkc_frame few, many;
    uint8_t *block, *block_host; /* device, pinned */
    size_t block_bytes;
    float *logits_host;    /* pinned, WKC_LOGIT_ROWS rows */
    int32_t *top_host;
    uint8_t *bad_host;
    wkc_graph graph[WKC_GRAPHS];
    int32_t n_graph, max_graph;
    bool graphs_off; /* capturing failed once */
    wkc_due due;
    uint64_t n_run;
    bool is_traced;
    cudaEvent_t *mark; /* [n_step + 2] */
    int32_t n_mark;
    wk_trace trace;
};

/* The steps of a stage run in this order: its row work, its chains, its attention (as in graph/part.c). */
int32_t wkc_steps(const wk_plan *p, const wk_part *part, int32_t *step);
wk_part wkc_part(const wk_plan *p, const wk_part *asked);
wkc_frame wkc_frame_of(int32_t cap);
uint64_t wkc_now_ns(void);
int wkc_use(const wk_dev *d, wk_err *err); /* makes it this thread's device */

/* prepare.cu */
int wkc_prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n_page, wk_err *err);
void wkc_unprepare(wk_exec *x);
size_t wkc_bytes(const wk_plan *p, const wk_part *part, uint32_t n_page, int n_thread);
size_t wkc_later(const wk_plan *p, const wk_part *part);
int wkc_make_block(wk_exec *x, size_t bytes, wk_err *err);
/* upload.cu */
int wkc_upload(wk_exec *x, wk_err *err);
/* run.cu */
int wkc_run(wk_exec *x, const wk_batch *b, wk_err *err);
int wkc_wait(wk_exec *x, wk_err *err);
int wkc_put(wk_exec *x, int32_t val, int32_t rows, const float *src, wk_err *err);
int wkc_get(wk_exec *x, int32_t val, int32_t rows, float *dst, wk_err *err);
void wkc_drop_graphs(wk_exec *x);
/* steps.cu: launches steps and, between them, marks of a trace */
int wkc_launch_steps(wk_exec *x, const wkc_batch *b, bool top, wk_err *err);
/* measure.cu */
int wkc_measure(wk_dev *d, wk_dev_info *out, wk_err *err);

#endif

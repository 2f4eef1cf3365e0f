/* backend.h: the device interface. Whole plan in, values out. The CPU, CUDA and the fake device of the tests
 * implement it; run/ knows nothing else of a device. */
#ifndef WK_BACKEND_H
#define WK_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/graph/plan.h"

enum { WK_BACKEND_ABI = 1, WK_KV_PAGE = 64 };

typedef struct wk_dev wk_dev;
typedef struct wk_exec wk_exec;

/* What a device may need of its host. */
typedef struct wk_host {
    size_t size;
    int n_thread, n_cpu; /* team of the cpu device */
    uint32_t cpu_mask;   /* levels allowed (simd/level.h) */
    bool (*progress)(void *ud, uint64_t done, uint64_t total); /* while weights are packed; false cancels */
    void *ud;
} wk_host;

/* One sequence of a batch: n_tok tokens from batch token first on, at positions pos0 ...; page i of its
 * table holds positions 64i .. 64i+63 and covers everything up to pos0 + n_tok - 1. */
typedef struct wk_batch_seq {
    int32_t first, n_tok, pos0, n_page;
    const uint32_t *page;
} wk_batch_seq;

/* One forward pass. Everything is borrowed until wait returns. */
typedef struct wk_batch {
    int32_t n_tok, n_seq, n_out;
    const int32_t *tok;     /* [n_tok] */
    const int32_t *out;     /* [n_out] batch tokens whose logits are wanted, ascending */
    const wk_batch_seq *seq;
    const uint32_t *zero;   /* pages handed out anew: zeroed first */
    int32_t n_zero;
    const uint32_t *copy;   /* pairs (dst, src): then copied, all layers */
    int32_t n_copy;
    float *logits;          /* [n_out][n_vocab] */
    /* [n_tok] set to 1 where a value did not fit the cache type (E_NUMERIC); zeroed by the caller */
    uint8_t *bad_tok;
} wk_batch;

/* Time by kind of work since tracing began; *_ns are sums over the threads of a pass but wall_ns. */
typedef struct wk_trace {
    uint64_t n_pass, n_barrier, wall_ns;
    uint64_t op_ns[WK_OP_COUNT];
    uint64_t head_ns; /* the matmul that writes the logits; not in op_ns */
    uint64_t wait_ns; /* in barriers */
} wk_trace;

typedef struct wk_backend_ops {
    uint32_t abi, size; /* WK_BACKEND_ABI, sizeof; both checked by the loader */
    const char *name;
    int (*count)(void);
    int (*open)(wk_dev **out, int index, const wk_host *host, wk_err *err);
    void (*close)(wk_dev *d);
    bool (*can)(wk_dev *d, const wk_step *s);
    /* Packs weights (may drop the file's pages behind it), allocates arenas and n_page pages of KV.
     * The plan must outlive the exec; the store's bytes are not read afterwards. */
    int (*prepare)(wk_exec **out, wk_dev *d, const wk_plan *p, uint32_t n_page, wk_err *err);
    int (*run)(wk_exec *x, const wk_batch *b, wk_err *err);
    int (*wait)(wk_exec *x, wk_err *err);
    void (*unprepare)(wk_exec *x);
    size_t (*bytes)(const wk_plan *p, uint32_t n_page, int n_thread); /* what prepare will take */
    /* Between passes only. start: from zero; stop: passes are not timed; read: what was measured so far. */
    void (*trace_start)(wk_exec *x);
    void (*trace_stop)(wk_exec *x);
    void (*trace_read)(const wk_exec *x, wk_trace *out);
} wk_backend_ops;

#endif

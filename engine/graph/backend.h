/* backend.h: the device interface. Whole plan in, values out. The CPU, CUDA and the fake device of the tests
 * implement it; run/ knows nothing else of a device. */
#ifndef WK_BACKEND_H
#define WK_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/graph/plan.h"

enum { WK_BACKEND_ABI = 3, WK_KV_PAGE = 64 };

typedef struct wk_dev wk_dev;
typedef struct wk_exec wk_exec;

/* What a device may need of its host. */
typedef struct wk_host {
    size_t size;
    int n_thread, n_cpu; /* team of the cpu device */
    uint32_t cpu_mask;   /* levels allowed (simd/level.h) */
    bool (*progress)(void *ud, uint64_t done, uint64_t total); /* while weights are packed; false cancels */
    void *ud;
    /* Asked by a module before each call that can fail for want of the device (memory, copy, launch, wait), with the
     * name of the call: true makes it fail. NULL outside of tests. */
    bool (*fault)(void *fault_ud, const char *call);
    void *fault_ud;
    const struct wk_cpu_options *cpu; /* of the cpu device (engine/cpu/cpu.h), for open and prepare; NULL: defaults */
} wk_host;

/* What a device says of itself; a rate that was not measured is 0. */
typedef struct wk_dev_info {
    char name[96], driver[64];     /* "NVIDIA H100 PCIe", "CUDA 12.4, driver 550.54" */
    uint64_t mem_total, mem_free;  /* bytes; total 0: as much as the machine has */
    double read_rate;              /* bytes a second of the device reading its own memory */
    double put_rate, get_rate;     /* bytes a second of copies to and from it */
    double int8_rate, f16_rate;    /* operations a second (2 per multiply-add), dense, of its matrix units */
} wk_dev_info;

/* Consecutive stages of a plan, run by one exec (part.h), and the layers whose K and V it keeps. NULL where a part is
 * asked for: the whole plan. A value that a part reads and another one wrote is put before run and got after it. */
typedef struct wk_part {
    int32_t stage_first, n_stage;
    int32_t layer_first, n_layer;
} wk_part;

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
    float *logits;          /* [n_out][n_vocab]; written by the part that holds the plan's last stage */
    /* [n_out] or NULL: ids of the largest logits (the lowest id among equals), -1 for a row in which some logit is not
     * finite; with it logits may be NULL. Only where can_top is true of the device that runs the plan's last stage. */
    int32_t *top;
    /* [n_tok] set to 1 where a value did not fit the cache type (E_NUMERIC); zeroed by the caller */
    uint8_t *bad_tok;
} wk_batch;

/* Time by kind of work since tracing began; *_ns are sums over the threads of a pass but wall_ns. */
typedef struct wk_trace {
    uint64_t n_pass, n_barrier, wall_ns;
    uint64_t op_ns[WK_OP_COUNT];
    uint64_t head_ns; /* the matmul that writes the logits; not in op_ns */
    uint64_t wait_ns; /* in barriers */
    uint64_t n_put, n_get, put_bytes, get_bytes, copy_ns; /* values, ids and logits carried between devices */
} wk_trace;

typedef struct wk_backend_ops {
    uint32_t abi, size; /* WK_BACKEND_ABI, sizeof; both checked by the loader */
    const char *name;   /* "cpu" "cuda" "fake" */
    bool can_top;       /* batch.top is understood */
    /* Devices there are. 0 is an answer, not an error: then why[0..n) says in one sentence what is missing. */
    int (*count)(char *why, size_t n);
    /* open, close and all calls with what it gave are one thread's, as is each device's host. err may be NULL anywhere. */
    int (*open)(wk_dev **out, int index, const wk_host *host, wk_err *err);
    void (*close)(wk_dev *d);
    /* measure: take a second at most for the rates; else they are 0. */
    int (*info)(wk_dev *d, bool measure, wk_dev_info *out, wk_err *err);
    /* Whether it can run this step; asked while planning. The step's formats are those of p->weight. */
    bool (*can)(wk_dev *d, const wk_plan *p, const wk_step *s);
    /* Packs weights (may drop the file's pages behind it), allocates arenas and n_page pages of KV.
     * The plan must outlive the exec; the store's bytes are not read afterwards. part NULL: all of the plan. */
    int (*prepare)(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n_page, wk_err *err);
    /* Starts a pass over the part. Later calls on the exec are in order behind it. */
    int (*run)(wk_exec *x, const wk_batch *b, wk_err *err);
    int (*wait)(wk_exec *x, wk_err *err);
    void (*unprepare)(wk_exec *x);
    /* The first `rows` rows of an f32 value [rows, dim], dense: host memory to the exec's, and back (get waits for
     * the pass that writes it). */
    int (*put)(wk_exec *x, int32_t val, int32_t rows, const float *src, wk_err *err);
    int (*get)(wk_exec *x, int32_t val, int32_t rows, float *dst, wk_err *err);
    /* What prepare will take of the device's memory. n_thread: of the cpu's team, 0 elsewhere. SIZE_MAX: overflow. */
    size_t (*bytes)(const wk_plan *p, const wk_part *part, uint32_t n_page, int n_thread);
    /* What passes may take of it beyond that, an allowance: they go on without it, slower. NULL: nothing. */
    size_t (*later)(const wk_plan *p, const wk_part *part);
    /* Between passes only. start: from zero; stop: passes are not timed; read: what was measured so far. */
    void (*trace_start)(wk_exec *x);
    void (*trace_stop)(wk_exec *x);
    void (*trace_read)(const wk_exec *x, wk_trace *out);
} wk_backend_ops;

/* The one symbol that a module exports. */
#define WK_BACKEND_SYMBOL "wick_backend"
typedef const wk_backend_ops *wk_backend_fn(void);

#endif

/* fake.h: a device of the tests: a module like that of a GPU, in plain C over simd/ref. Its memory is its own: counted,
 * limited, poisoned when handed out, between guards. It runs the steps of a plan one after another, each value in
 * memory of its own, and starts nothing before somebody waits for it: a caller that reads too early finds poison.
 *
 * What it does wrong is asked for by the environment, read when the module is asked for its functions and when a device
 * is opened:
 *   WICK_FAKE_ABI=n WICK_FAKE_SIZE=n   what the functions say of themselves
 *   WICK_FAKE_COUNT=n                  devices (1); 0: with a sentence why
 *   WICK_FAKE_MEM=bytes                memory of a device
 *   WICK_FAKE_LATER=bytes              that it says passes may take beside
 *   WICK_FAKE_NOMEM=n                  its n-th allocation fails
 *   WICK_FAKE_FAIL=call:n              the n-th such call of a device fails: open info upload run step wait put get.
 *                                      But for open, info and upload the pass is lost, and those behind it
 *   WICK_FAKE_CANNOT=a,b               operations, formats of weights, or layers ("layer0") that it cannot run
 *   WICK_FAKE_WRONG=a                  an operation whose last result is wrong by one bit
 *   WICK_FAKE_NAN=n                    the n-th row of logits holds a value that is not a number
 *   WICK_FAKE_TOP=0                    it gives logits, no ids
 *   WICK_FAKE_REPORT=file              gets one line when a device is closed */
#ifndef WK_FAKE_H
#define WK_FAKE_H

#include "engine/graph/backend.h"
#include "simd/kernels.h"

typedef enum fake_call {
    FAKE_ALLOC, FAKE_OPEN, FAKE_INFO, FAKE_UPLOAD, FAKE_RUN, FAKE_STEP, FAKE_WAIT, FAKE_PUT, FAKE_GET, FAKE_CALL_COUNT
} fake_call;

typedef struct fake_block fake_block;

struct wk_dev {
    wk_host host;
    wk_kernels k;
    int index;
    size_t mem_total, mem_used, mem_peak;     /* of the device */
    size_t sent;                              /* bytes of logits and ids */
    long n_live, n_alloc, n_guard;            /* blocks, also those of the host; allocations; guards found damaged */
    long n_call[FAKE_CALL_COUNT], fail_at[FAKE_CALL_COUNT]; /* so far; the one that fails, 0: none */
    long n_row, nan_at;                       /* rows of logits so far; the one with a NaN, 0: none */
    char cannot[128], wrong[16], report[512];
};

/* A value of the part. */
typedef struct fake_val {
    uint8_t *mem; /* NULL: not of this part */
    bool is_input;
    int32_t n_put; /* input: rows put since the last pass */
} fake_val;

/* Memory that the steps work in. */
typedef struct fake_scratch {
    wk_panel panel;
    float *sum;      /* matmul: [max_tok][16] */
    uint8_t *row;    /* embed: a row of the file */
    wk_partial acc;  /* attention: [max_tok][heads of a kv head] */
    float *score, *wide;
    uint8_t *lo, *hi, *k, *v;
    wk_act q8;
    float *cs;       /* rope: a row */
} fake_scratch;

struct wk_exec {
    wk_dev *d;
    const wk_plan *p;
    wk_part part;
    uint32_t n_page;
    int32_t step_first, n_step; /* plan->order */
    uint8_t **w;                /* [n_weight] panels or f32 values, NULL: not of this part */
    fake_val *v;                /* [n_val] */
    uint8_t *kv;
    size_t slot_bytes, page_bytes; /* of one position of one head, K or V; of a page */
    fake_scratch s;
    int32_t *pos, *seq, *top; /* of the tokens of a pass; of its rows */
    uint8_t *bad;
    float *logits;
    const wk_batch *b; /* the pass that was asked for; its results are the caller's after wait */
    bool is_done, is_lost;
    wk_trace trace;
    bool is_traced;
};

/* Memory of the device, and of the host beside it. NULL: the sentence is written. */
void *fake_take(wk_dev *d, size_t n, wk_err *err);
void *fake_host(wk_dev *d, size_t n, wk_err *err);
void fake_free(wk_dev *d, void *p);
/* Counts a call. True: it fails. */
bool fake_fails(wk_dev *d, fake_call call);
/* Number of an environment variable, or other. */
long fake_number(const char *name, long other);
void fake_knobs(wk_dev *d);

/* Copies and memory of a part. */
int fake_prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n_page, wk_err *err);
void fake_unprepare(wk_exec *x);
size_t fake_bytes(const wk_plan *p, const wk_part *part, uint32_t n_page, int n_thread);

/* One step for all rows of the batch. wrong: by one bit. */
void fake_step(wk_exec *x, const wk_step *s, bool wrong);
static inline float *fake_f32(const wk_exec *x, int32_t v, int32_t t) {
    return (float *)(void *)x->v[v].mem + (size_t)t * (size_t)x->p->val[v].dim;
}
static inline int32_t fake_max_rows(const wk_plan *p, int32_t v) {
    return p->val[v].rows == WK_ROWS_TOK ? p->max_tok : p->max_out;
}
int fake_kv_fmt(int kv_type);

#endif

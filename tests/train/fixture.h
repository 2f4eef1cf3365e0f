/* fixture.h: a model with its training plan and, where asked, what runs it in f32. Everything fails the running test
 * with a sentence. */
#ifndef WK_TRAIN_FIXTURE_H
#define WK_TRAIN_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/file/store.h"
#include "engine/train/exec.h"
#include "engine/train/grad.h"

enum { WK_NO_LEVEL = 1 << 30 };

typedef struct fixture_options {
    int32_t max_tok;
    int n_thread; /* 0: 2 */
    uint32_t cpu; /* levels allowed; 0: all that this CPU has; WK_NO_LEVEL: ref */
    bool recompute, bf16;
    bool list_only;    /* no executor */
    wk_store *adapter; /* trained instead of the model; becomes the fixture's */
    bool (*is_trained)(void *ud, const wk_weight *w);
    void (*edit)(wk_plan *p); /* before the training plan is made of it */
} fixture_options;

/* Stays where it was opened: the executor points into it. */
typedef struct fixture {
    wk_buf bytes, adapter_bytes; /* of a model in memory */
    wk_store *store, *adapter;
    wk_plan *plan;
    wk_grad *grad;
    wk_team *team;
    wk_kernels k;
    wk_grad_kernels gk;
    wk_sgemm *gemm;
    wk_texec *exec;
} fixture;

void fixture_open(fixture *f, const char *path, const fixture_options *o);
/* bytes becomes the fixture's. */
void fixture_open_memory(fixture *f, wk_buf bytes, const fixture_options *o);
wk_store *store_of(const wk_buf *bytes); /* borrowed */
void fixture_close(fixture *f);

/* Rows that follow each other. */
typedef struct rows {
    int32_t n_tok, n_seq;
    int32_t *tok, *target;
    wk_tseq *seq;
} rows;
/* n_seq sequences of the given lengths with random tokens below n_vocab; every token counts, but of the sequence
 * `masked` (-1: none) only the last third does. */
void rows_make(rows *r, const int32_t *length, int32_t n_seq, int32_t n_vocab, int32_t masked);
void rows_free(rows *r);
wk_tbatch rows_batch(const rows *r);

/* |a - b| / |b| and the cosine, in double. Both zero: 0 and 1. */
typedef struct distance {
    double relative, cosine;
} distance;
distance distance_of(const float *got, const float *want, size_t n);
distance distance_of_double(const float *got, const double *want, size_t n);

/* Index of the parameter of a tensor; fails if there is none. */
int32_t param_of_name(const wk_grad *g, wk_str name);
const char *param_name(const wk_grad *g, int32_t param);

#endif

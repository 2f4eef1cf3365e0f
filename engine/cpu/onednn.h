/* onednn.h: the f32 product of oneDNN. Its library is looked for at run time: a program that never asks for it does not
 * load it (with OpenCL behind it), and runs where it is not installed. */
#ifndef WK_ONEDNN_H
#define WK_ONEDNN_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/err.h"

typedef struct wk_onednn wk_onednn;

/* Row-major; turned: stored with k as rows (a), as columns (b). All extents >= 1. */
typedef struct wk_onednn_call {
    bool turn_a, turn_b, add;
    int64_t m, n, k, lda, ldb, ldc;
    const float *a, *b;
    float *c;
} wk_onednn_call;

/* Built in, and the library is found. */
bool wk_onednn_is_here(void);
/* n_thread: threads of its products. Errors: E_NOMEM; E_UNSUPPORTED: not built in, or the linker's text. */
int wk_onednn_open(wk_onednn **out, int n_thread, wk_err *err);
void wk_onednn_close(wk_onednn *o); /* NULL is fine */
/* On the calling thread and workers of its own OpenMP: never inside a region of the team. */
void wk_onednn_sgemm(const wk_onednn *o, const wk_onednn_call *c);

#endif

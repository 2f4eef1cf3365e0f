/* sgemm.h: the three matrix products of a linear layer in f32, on the team. All matrices are row-major.
 *
 *   NT  C[m,n] (+)= sum_k A[m,k] B[n,k]    y  = x Wt     (x [T,in], W [out,in])
 *   NN  C[m,n] (+)= sum_k A[m,k] B[k,n]    dx = dy W
 *   TN  C[m,n] (+)= sum_k A[k,m] B[k,n]    dW = dyt x
 *
 * Engine `wick` sums every element of C over k ascending by kind F of DESIGN 9.2 (chunks of 64; with `add` the
 * accumulator starts at C), so its bits depend neither on threads nor on the CPU level, and NT gives the bits of a
 * prefill with F32 weights. Engine `onednn` (dnnl_sgemm) is outside that promise. Engine `bf16` rounds both operands to
 * bf16 and sums in f32 by the pairs of simd/grad/grad.h, chunks of 128 over k: its bits depend neither on threads nor on
 * the machine, but they are its own, and a thin product beside it stays f32. It is fast only where
 * WK_CPU_AVX512BF16 is; AUTO never takes it. */
#ifndef WK_SGEMM_H
#define WK_SGEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/base/pool.h"
#include "simd/grad/grad.h"
#include "simd/kernels.h"

typedef enum wk_sgemm_op { WK_SGEMM_NT, WK_SGEMM_NN, WK_SGEMM_TN, WK_SGEMM_OP_COUNT } wk_sgemm_op;
typedef enum wk_sgemm_engine { WK_SGEMM_AUTO, WK_SGEMM_WICK, WK_SGEMM_ONEDNN, WK_SGEMM_BF16, WK_SGEMM_ENGINE_COUNT } wk_sgemm_engine;

/* Some multiply-adds more for every element of C, with operands of their own: sum over few k of A[m,k] B[k,n].
 * scale 1 and `before`: C (+)= A B as a product of its own, to which the call's product is added; else
 * C = fma(scale, A B, C) behind it. The bits are those of the calls one after another. */
typedef struct wk_sgemm_thin {
    int32_t k; /* >= 1 */
    bool before;
    float scale;
    const float *a;
    size_t lda;
    const float *panels; /* B as wk_sgemm_thin_panels gives it */
} wk_sgemm_thin;

typedef struct wk_sgemm_call {
    wk_sgemm_op op;
    int32_t m, n, k; /* each >= 0; k == 0 with add leaves C, without it zeroes C */
    const float *a, *b;
    size_t lda, ldb, ldc; /* elements between rows; no alignment is asked for */
    float *c;             /* overlaps neither a nor b */
    bool add;
    const wk_sgemm_thin *thin; /* NULL: none. k >= 1 then */
} wk_sgemm_call;

/* Bt [n,k] (k_major: B [k,n]), rows ld apart, as panels: dst [n to a whole number of 16][k]. */
void wk_sgemm_thin_panels(float *dst, const float *b, size_t ld, int32_t n, int32_t k, bool k_major);
static inline size_t wk_sgemm_thin_size(int32_t n, int32_t k) { return ((size_t)n + 15) / 16 * 16 * (size_t)k; }

typedef struct wk_sgemm wk_sgemm;

/* team is borrowed, k and gk (bf16 alone asks for it) are for the call. Takes the scratch memory of all threads (a few
 * MB). Errors: E_NOMEM; E_UNSUPPORTED: onednn asked for in a build without it. AUTO: wick until wk_sgemm_probe has
 * chosen. */
int wk_sgemm_new(wk_sgemm **out, const wk_kernels *k, const wk_grad_kernels *gk, wk_team *team, wk_sgemm_engine engine,
                 wk_err *err);
/* What of that memory products will touch whose operands' longest sides are n (of a weight) and k (tokens). */
size_t wk_sgemm_bytes(int32_t n, int32_t k, int n_thread);
void wk_sgemm_free(wk_sgemm *g); /* NULL is fine */
bool wk_sgemm_has_onednn(void);

/* One product; the calling thread is rank 0 of the team, outside a region. Never fails, allocates nothing. Adds
 * 2*m*n*k to the FLOPs counted. */
void wk_sgemm_run(wk_sgemm *g, const wk_sgemm_call *c);

/* AUTO only: times both engines on each of the shapes (some milliseconds each) and remembers the faster one for that
 * (op, m, n, k); other shapes take the one of the nearest. Fills rate [n] with the better FLOP/s, chosen [n] with the
 * engine; with a fixed engine only measures it. scratch: memory for the operands is taken and given back: E_NOMEM. */
typedef struct wk_sgemm_shape {
    wk_sgemm_op op;
    int32_t m, n, k;
} wk_sgemm_shape;
int wk_sgemm_probe(wk_sgemm *g, const wk_sgemm_shape *shape, size_t n, double *rate, wk_sgemm_engine *chosen,
                   wk_err *err);

/* FLOPs of all products since new. */
double wk_sgemm_flops(const wk_sgemm *g);

#endif

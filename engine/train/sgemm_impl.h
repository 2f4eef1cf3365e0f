/* sgemm_impl.h: what the files of the products share: how an operand is packed, the choice of engines. */
#ifndef WK_SGEMM_IMPL_H
#define WK_SGEMM_IMPL_H

#include "engine/base/arena.h"
#include "engine/cpu/onednn.h"
#include "engine/train/sgemm.h"

enum {
    WK_SGEMM_GROUP = 16, /* rows and columns are packed 16 at a time: a panel */
    WK_SGEMM_CHUNK = 64  /* of k: a chunk of kind F */
};

/* One operand: element (i, k), i a row of A or a column of B. */
typedef struct wk_sgemm_side {
    const float *p;
    size_t ld;
    int32_t n, k; /* how many of each there are */
    bool k_major; /* (i, k) stands at p[k*ld + i], else at p[i*ld + k] */
} wk_sgemm_side;

/* Packs i0 .. i0+n-1 (i0 % 16 == 0), k0 .. k0+kn-1; dst belongs to i0 and k0.
 * rows:   [i][k], rows ld >= kn + 16 elements apart: what a tile takes for tokens
 * panels: [i/16][k][16], panels kn*16 elements apart; columns that there are not repeat others or are zero: nobody
 *         reads what comes of them */
void wk_sgemm_pack_rows(float *dst, size_t ld, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0, int32_t kn);
void wk_sgemm_pack_panels(float *dst, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0, int32_t kn);

/* The same as pairs for bf16 (simd/grad/grad.h): k0 and kn count pairs, a pair that there is not half is +0. dst may be of
 * any type: it holds pairs afterwards. */
typedef void (*wk_sgemm_square)(const wk_pair_square *s);
void wk_sgemm_pair_rows(wk_sgemm_square pack, float *dst, size_t ld, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0,
                        int32_t kn);
void wk_sgemm_pair_panels(wk_sgemm_square pack, float *dst, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0,
                          int32_t kn);

/* sgemm_blocks.c: the engines wick and, with gk given, bf16. NULL: no memory. */
typedef struct wk_sgemm_blocks wk_sgemm_blocks;
wk_sgemm_blocks *wk_sgemm_blocks_new(const wk_kernels *k, const wk_grad_kernels *gk, wk_team *team);
void wk_sgemm_blocks_free(wk_sgemm_blocks *g); /* NULL is fine */
void wk_sgemm_blocks_run(wk_sgemm_blocks *g, const wk_sgemm_call *c); /* m, n, k >= 1 */
/* The thin product alone, behind or in front of somebody else's. */
void wk_sgemm_blocks_thin(wk_sgemm_blocks *g, const wk_sgemm_call *c);

/* A shape for which AUTO has chosen. */
typedef struct wk_sgemm_choice {
    wk_sgemm_shape shape;
    double log[3];
    wk_sgemm_engine engine;
} wk_sgemm_choice;

/* Logarithms of the extents: their distance says how like two shapes are. */
void wk_sgemm_logs(double out[3], int32_t m, int32_t n, int32_t k);
/* With this engine, whatever was chosen. */
void wk_sgemm_run_by(wk_sgemm *g, const wk_sgemm_call *c, wk_sgemm_engine e);
wk_sgemm_engine wk_sgemm_asked(const wk_sgemm *g); /* what new was given */
bool wk_sgemm_can_onednn(const wk_sgemm *g);
/* What was only timed is no work. */
void wk_sgemm_uncount(wk_sgemm *g, double flops);
/* Choices of AUTO, taken (freed with g). */
void wk_sgemm_choose(wk_sgemm *g, wk_sgemm_choice *c, size_t n);

#endif

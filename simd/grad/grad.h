/* grad.h: the table of kernels that only training needs, and their contracts: one contract per field, as in
 * simd/kernels.h. Pure functions on pointers. All levels give the bits of simd/grad/ref, compared with memcmp by
 * tests/check. Allowed operations and functions: DESIGN 9.1, 9.4, 9.5 (simd/ref/scalar.h has them on one value).
 * Pointers need no alignment but that of float. Nothing is read or written outside the stated ranges. */
#ifndef WK_GRAD_KERNELS_H
#define WK_GRAD_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "simd/kernels.h"

/* Gradient of attention: n_col columns (query heads x tokens of one kv head) against one page of 64 positions.
 * With s, p, dp, ds of column c and slot i, lo[c] <= i < hi[c], in this order (D: DESIGN 9.7; dots by kind F, so in
 * chunks of 64 with an accumulator of their own each):
 *   s  = (q_c . k_i) * scale          softcap > 0:  t = tanh(s * softcap_inv), s = softcap * t
 *   p  = exp(s - m[c]) * l_inv[c]     dp = do_c . v_i     ds = p * (dp - delta[c])
 *   softcap > 0: ds = ds * fma(-t, t, 1)                  ds = ds * scale
 *   dv[i][d] = fma(p,  do[c][d], dv[i][d])   c ascending
 *   dk[i][d] = fma(ds, q[c][d],  dk[i][d])   c ascending
 *   dq[c][d] = fma(ds, k[i][d],  dq[c][d])   i ascending
 * Slots that a column does not see add nothing; columns that see nothing (hi <= lo) and slots before the first or
 * behind the last that is seen may hold anything, all others are finite. Softmax's row sum needs no pass of its own:
 * delta = sum_d do*o (Dao et al. 2022, FlashAttention, appendix B). */
typedef struct wk_attn_grad {
    int n_col, hd;
    const float *kp, *vp;   /* 4 panels [hd][16 positions] of K and of V, as the K of simd/kernels.h */
    const float *k;         /* [64][hd] rows of K */
    const float *q, *d_o;   /* [n_col][hd]; q not scaled */
    const float *m, *l_inv, *delta; /* [n_col] */
    const uint8_t *lo, *hi; /* [n_col], <= 64 */
    float scale, softcap, softcap_inv;
    float *p, *ds;          /* scratch [n_col][64] each; what they hold afterwards is nobody's */
    float *d_q;             /* [n_col][hd], added to */
    float *d_k, *d_v;       /* [64][hd], added to */
} wk_attn_grad;

/* AdamW (Loshchilov and Hutter 2019) as PyTorch has it. Per element, g is the gradient:
 *   g = g * g_scale
 *   w = w * keep                              keep = 1 - lr*decay, 1 where nothing decays
 *   m = fma(m, b1, g * (1 - b1))              v = fma(v, b2, (g * g) * (1 - b2))
 *   w = w - (m * step) / (sqrt(v) * v_inv + eps)
 * step = lr / (1 - b1^t), v_inv = 1 / sqrt(1 - b2^t), both rounded from double. b1c = 1 - b1, b2c = 1 - b2. */
typedef struct wk_adamw {
    float g_scale, keep, b1, b1c, b2, b2c, step, v_inv, eps;
} wk_adamw;

/* Products in bf16 with sums in f32. A pair is two values of k in 4 bytes, the lower k in the lower half; where k is odd
 * the upper half of the last pair is +0. To pairs: denormal values become zero of their sign, others the nearest bf16
 * (ties to even), a NaN stays one. One pair (a0, a1), (b0, b1) on a sum c, every denormal operand taken as zero:
 *   c = ftz(fma(a1, b1, c))   c = ftz(fma(a0, b0, c))
 * ftz: what is below the least normal after rounding to 24 bits with any exponent becomes zero of its sign. A chunk is
 * 64 pairs, its sum begins at +0; chunks are added in ascending order to what dst holds (first: the first one is stored),
 * by an ordinary addition. A NaN is a NaN: its other bits are nobody's. This is what vdpbf16ps does (found
 * by trial on Zen 4). A chunk is as many instructions as one of kind F, so that dst is visited as seldom. */
enum { WK_PAIR_ROWS = 32, WK_PAIR_COLS = 8, WK_PAIR_SQUARE = 16 };

/* n <= 16 rows, or columns, of k values, kn <= 32 of k, to pairs. k_major: (i, k) stands at src[k*ld + i], else at
 * src[i*ld + k]. panel: dst[p*16 + i], all 16 i are written, +0 where there is none; else dst[i*dst_ld + p]. */
typedef struct wk_pair_square {
    const float *src;
    size_t ld;
    uint32_t *dst;
    size_t dst_ld;
    int n, kn;
    bool k_major, panel;
} wk_pair_square;

typedef struct wk_grad_kernels {
    const char *level; /* highest level that contributed */

    void (*attn)(const wk_attn_grad *a);

    /* One row of y = (x*r)*w:  g = dy*w;  dot = sum of g*x (DESIGN 9.4, lanes by fma(g, x, p));
     * c = (r*r) * (dot / n);  dx = fma(-x, c, g) * r.  add: dx is added to dst, else it is dst. dst may be dy. */
    void (*rms)(float *dst, const float *dy, const float *x, const float *w, float r, int n, bool add);
    /* Columns 0 .. n-1 over n_row rows, rows ascending: dw[i] = fma(dy[t*ld + i], x[t*ld + i] * r[t], dw[i]). */
    void (*rms_w)(float *dw, const float *dy, const float *x, const float *r, size_t ld, int n_row, int n);
    /* Columns over rows ascending: dst[i] = dst[i] + x[t*ld + i]. */
    void (*col_sum)(float *dst, const float *x, size_t ld, int n_row, int n);

    /* y = fn(g) * u.  up: d_u = dy * fn(g);  d_g = (dy * u) * fn'(g). d_g, d_u may be dy, g or u, not each other.
     *   silu:  s = 1/(1 + exp(-g)); fn = g*s; fn' = s * fma(g, 1 - s, 1)
     *   gelu_tanh (z of DESIGN 9.5): s = 1/(1 + exp(-z)); fn = g*s;
     *     z' = fma(g*g, 3*WK_GELU_A, WK_GELU_B) (3*WK_GELU_A rounded to f32 once); fn' = fma(g * z', s * (1 - s), s) */
    void (*glu[WK_FN_COUNT])(float *d_g, float *d_u, const float *dy, const float *g, const float *u, int n);
    /* y = cap * tanh(x * cap_inv), y given: d = dy * fma(-t, t, 1), t = y * cap_inv. dst may be dy. */
    void (*softcap)(float *dst, const float *dy, const float *y, float cap_inv, int n);
    /* dst = fma(c, x, dst) */
    void (*axpy)(float *dst, const float *x, float c, int n);
    /* sum of x*y by DESIGN 9.4 (lanes by fma): attention's delta, and norms with x == y. */
    float (*dot)(const float *x, const float *y, int n);
    void (*adamw)(float *w, float *m, float *v, const float *g, const wk_adamw *a, size_t n);

    /* The products of bf16. pair_tile: as the tile of wk_gemm, w[p].f and x->x hold pairs, klen and x->ld count them;
     * klen: pieces begin at multiples of 64. np <= WK_PAIR_ROWS/16, m <= WK_PAIR_COLS. */
    void (*pair_pack)(const wk_pair_square *s);
    void (*pair_tile)(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen, bool first);
} wk_grad_kernels;

/* Fills every pointer for the given cpu bits (level.h): ref first, each level over it. */
void wk_grad_kernels_init(wk_grad_kernels *k, uint32_t cpu);

void wk_grad_kernels_ref(wk_grad_kernels *k);
void wk_grad_kernels_avx2(wk_grad_kernels *k);
void wk_grad_kernels_avx512(wk_grad_kernels *k);
void wk_grad_kernels_avx512bf16(wk_grad_kernels *k);
void wk_grad_kernels_neon(wk_grad_kernels *k);

#endif

/* pairs.c: products of bf16 by vdpbf16ps: the register tile of simd/avx512/gemm_f.c, a pair where that has a value, and
 * the squares of 16 x 32 values that pack for it. */
#include <assert.h>

#include "simd/avx512/vec512.h"
#include "simd/grad/fill.h"

enum { COLS = WK_PAIR_COLS, CHUNK = 64, SQUARE = WK_PAIR_SQUARE };

/* ---- the tile ------------------------------------------------------------------------------------ */

WK_INLINE __m512bh pairs_at(const float *p) { return (__m512bh)_mm512_loadu_si512(p); }
WK_INLINE __m512bh one_pair(const float *p) {
    int32_t u;
    memcpy(&u, p, sizeof(u));
    return (__m512bh)_mm512_set1_epi32(u);
}

/* One chunk. x: three tokens per base pointer, so that the address is base + {0,1,2}*ld. */
WK_INLINE void chunk(float *dst, size_t ld, const wk_panel *w, const int np, const wk_act *x, const int m, int k0,
                     int kn, bool first) {
    __m512 c[2][COLS];
    const float *w0 = w[0].f + (size_t)k0 * WK_PANEL, *w1 = w[np - 1].f + (size_t)k0 * WK_PANEL;
    const size_t lx = x->ld;
    const float *b0 = x->x + k0, *b1 = b0 + 3 * lx, *b2 = b0 + 6 * lx;
    WK_UNROLL
    for (int j = 0; j < m; j++) c[0][j] = c[1][j] = _mm512_setzero_ps();
    for (int k = 0; k < kn; k++) {
        const __m512bh v0 = pairs_at(w0 + (size_t)k * WK_PANEL), v1 = pairs_at(w1 + (size_t)k * WK_PANEL);
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            const float *b = j < 3 ? b0 : j < 6 ? b1 : b2;
            const __m512bh t = one_pair(b + (size_t)(j % 3) * lx + (size_t)k);
            c[0][j] = _mm512_dpbf16_ps(c[0][j], v0, t);
            if (np == 2) c[1][j] = _mm512_dpbf16_ps(c[1][j], v1, t);
        }
    }
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        WK_UNROLL
        for (int p = 0; p < np; p++) {
            float *d = dst + (size_t)j * ld + (size_t)p * WK_PANEL;
            _mm512_storeu_ps(d, first ? c[p][j] : _mm512_add_ps(_mm512_loadu_ps(d), c[p][j]));
        }
    }
}

#define TILE(NP, M)                                                                                \
    static void tile_##NP##_##M(float *dst, size_t ld, const wk_panel *w, const wk_act *x,         \
                                int klen, bool first) {                                            \
        for (int k0 = 0; k0 < klen; k0 += CHUNK) {                                                 \
            const int kn = klen - k0 < CHUNK ? klen - k0 : CHUNK;                                  \
            chunk(dst, ld, w, NP, x, M, k0, kn, first && k0 == 0);                                 \
        }                                                                                          \
    }
TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(1, 4) TILE(1, 5) TILE(1, 6) TILE(1, 7) TILE(1, 8)
TILE(2, 1) TILE(2, 2) TILE(2, 3) TILE(2, 4) TILE(2, 5) TILE(2, 6) TILE(2, 7) TILE(2, 8)

typedef void (*tile_fn)(float *, size_t, const wk_panel *, const wk_act *, int, bool);

#define ROW(NP)                                                                                    \
    {tile_##NP##_1, tile_##NP##_2, tile_##NP##_3, tile_##NP##_4,                                   \
     tile_##NP##_5, tile_##NP##_6, tile_##NP##_7, tile_##NP##_8}

static void wk_pair_tile_avx512bf16(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,
                                    bool first) {
    static const tile_fn tiles[2][COLS] = {ROW(1), ROW(2)};
    assert(np >= 1 && np <= 2 && m >= 1 && m <= COLS);
    tiles[np - 1][m - 1](dst, ld, w, x, klen, first);
}

/* ---- packing ------------------------------------------------------------------------------------- */

/* The first n of 16 lanes; n <= 0: none. */
WK_INLINE __mmask16 lanes(int n) { return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }

/* 16 pairs along k of one row of values. */
WK_INLINE __m512i along_k(const float *p, int kn) {
    const __m512 low = _mm512_maskz_loadu_ps(lanes(kn), p), high = _mm512_maskz_loadu_ps(lanes(kn - 16), p + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* The pair of k and k + 1 of 16 columns, whose rows these are. */
WK_INLINE __m512i across_k(__m512 even, __m512 odd) {
    const __m512i zip = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                         20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(zip, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
}

/* r[i] lane j <-> r[j] lane i. */
WK_INLINE void turn(__m512i r[SQUARE]) {
    __m512i t[SQUARE];
    WK_UNROLL
    for (int i = 0; i < SQUARE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    WK_UNROLL
    for (int i = 0; i < SQUARE; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    WK_UNROLL
    for (int i = 0; i < 4; i++) { /* r[4b + i]: quarter q is column 4q + i of rows 4b .. 4b + 3 */
        const __m512i a = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88), b = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88),
                      c = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd), d = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
        t[i] = _mm512_shuffle_i32x4(a, b, 0x88);
        t[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
        t[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
    WK_UNROLL
    for (int i = 0; i < SQUARE; i++) r[i] = t[i];
}

static void rows_to_rows(const wk_pair_square *s) {
    const __mmask16 pairs = lanes((s->kn + 1) / 2);
    for (int i = 0; i < s->n; i++)
        _mm512_mask_storeu_epi32(s->dst + (size_t)i * s->dst_ld, pairs, along_k(s->src + (size_t)i * s->ld, s->kn));
}

static void columns_to_panel(const wk_pair_square *s) {
    const __mmask16 here = lanes(s->n);
    for (int k = 0; k < s->kn; k += 2) {
        const float *p = s->src + (size_t)k * s->ld;
        const __m512 even = _mm512_maskz_loadu_ps(here, p),
                     odd = k + 1 < s->kn ? _mm512_maskz_loadu_ps(here, p + s->ld) : _mm512_setzero_ps();
        _mm512_storeu_si512(s->dst + k / 2 * SQUARE, across_k(even, odd));
    }
}

static void rows_to_panel(const wk_pair_square *s) {
    __m512i r[SQUARE];
    for (int i = 0; i < SQUARE; i++)
        r[i] = i < s->n ? along_k(s->src + (size_t)i * s->ld, s->kn) : _mm512_setzero_si512();
    turn(r);
    for (int p = 0; p < (s->kn + 1) / 2; p++) _mm512_storeu_si512(s->dst + p * SQUARE, r[p]);
}

static void columns_to_rows(const wk_pair_square *s) {
    const __mmask16 here = lanes(s->n), pairs = lanes((s->kn + 1) / 2);
    __m512i r[SQUARE];
    for (int p = 0; p < SQUARE; p++) {
        const float *x = s->src + (size_t)(2 * p) * s->ld;
        const __m512 even = 2 * p < s->kn ? _mm512_maskz_loadu_ps(here, x) : _mm512_setzero_ps(),
                     odd = 2 * p + 1 < s->kn ? _mm512_maskz_loadu_ps(here, x + s->ld) : _mm512_setzero_ps();
        r[p] = across_k(even, odd);
    }
    turn(r);
    for (int i = 0; i < s->n; i++) _mm512_mask_storeu_epi32(s->dst + (size_t)i * s->dst_ld, pairs, r[i]);
}

static void wk_pair_pack_avx512bf16(const wk_pair_square *s) {
    if (s->k_major)
        s->panel ? columns_to_panel(s) : columns_to_rows(s);
    else
        s->panel ? rows_to_panel(s) : rows_to_rows(s);
}

void wk_grad_kernels_avx512bf16(wk_grad_kernels *k) {
    k->pair_tile = wk_pair_tile_avx512bf16;
    k->pair_pack = wk_pair_pack_avx512bf16;
}

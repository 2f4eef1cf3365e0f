/* gemm.c: tiles of 16 rows x 4 tokens by smlal, up to 12 tokens a call; kind F 16 rows x 6 tokens.
 *
 * 8 rows at a time: 16 int16 accumulators of 4 tokens, 2 registers of codes, 1 of activations. Kind B32
 * holds codes of 4, 5 and 8 bits, and small ones need a third fewer instructions (dot.h), so a call looks
 * at its codes first; 12 tokens share the look. */
#include "simd/neon/dot.h"
#include "simd/neon/neon.h"

enum { WK_COLS = 4 };

/* Sums of one sub-block, by token. */
typedef struct sums {
    v16i i[WK_COLS];
} sums;

#define FOR_COLS(X) X(0) X(1) X(2) X(3)

/* Four activation codes in every lane. */
WK_INLINE int8x16_t all4(const int8_t *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

#define COLUMN(t) const int8_t *q##t = t < m ? q + (size_t)t * ld : q;
#define KEEP(t)                                                                                    \
    if (t < m && half == 0) out->i[t].a = lo##t, out->i[t].b = hi##t;                              \
    if (t < m && half == 1) out->i[t].c = lo##t, out->i[t].d = hi##t;

/* Rows 0..3 in a, b; rows 4..7 in c, d. */
#define NARROW_BEGIN(t) int16x8_t a##t = vdupq_n_s16(0), b##t = a##t, c##t = a##t, d##t = a##t;
#define NARROW(t)                                                                                  \
    if (t < m) {                                                                                   \
        const int8x16_t x = all4(q##t + 4 * i);                                                    \
        a##t = vmlal_s8(a##t, vget_low_s8(v), vget_low_s8(x));                                     \
        b##t = vmlal_high_s8(b##t, v, x);                                                          \
        c##t = vmlal_s8(c##t, vget_low_s8(w), vget_low_s8(x));                                     \
        d##t = vmlal_high_s8(d##t, w, x);                                                          \
    }
#define NARROW_END(t) const int32x4_t lo##t = dot_rows(a##t, b##t), hi##t = dot_rows(c##t, d##t);

WK_INLINE void sum_narrow(sums *out, const uint8_t *code, const int8_t *q, size_t ld, int m, int n, int half) {
    FOR_COLS(COLUMN)
    FOR_COLS(NARROW_BEGIN)
    for (int i = 0; i < n; i++) {
        const int8x16_t v = vld1q_s8((const int8_t *)code + WK_LINE * i + 32 * half);
        const int8x16_t w = vld1q_s8((const int8_t *)code + WK_LINE * i + 32 * half + 16);
        FOR_COLS(NARROW)
    }
    FOR_COLS(NARROW_END)
    FOR_COLS(KEEP)
}

#define WIDE_BEGIN(t) int32x4_t a##t = vdupq_n_s32(0), b##t = a##t, c##t = a##t, d##t = a##t;
#define WIDE(t)                                                                                    \
    if (t < m) {                                                                                   \
        const int8x16_t x = all4(q##t + 4 * i), y = all4(q##t + 4 * i + 4);                        \
        const int8x8_t x8 = vget_low_s8(x), y8 = vget_low_s8(y);                                   \
        a##t = vpadalq_s16(a##t, vmlal_s8(vmull_s8(vget_low_s8(v0), x8), vget_low_s8(v1), y8));    \
        b##t = vpadalq_s16(b##t, vmlal_high_s8(vmull_high_s8(v0, x), v1, y));                      \
        c##t = vpadalq_s16(c##t, vmlal_s8(vmull_s8(vget_low_s8(w0), x8), vget_low_s8(w1), y8));    \
        d##t = vpadalq_s16(d##t, vmlal_high_s8(vmull_high_s8(w0, x), w1, y));                      \
    }
#define WIDE_END(t)                                                                                \
    const int32x4_t lo##t = vpaddq_s32(a##t, b##t), hi##t = vpaddq_s32(c##t, d##t);

WK_INLINE void sum_wide(sums *out, const uint8_t *code, const int8_t *q, size_t ld, int m, int n, int half) {
    FOR_COLS(COLUMN)
    FOR_COLS(WIDE_BEGIN)
    for (int i = 0; i < n; i += 2) {
        const int8_t *p = (const int8_t *)code + WK_LINE * i + 32 * half;
        const int8x16_t v0 = vld1q_s8(p), w0 = vld1q_s8(p + 16);
        const int8x16_t v1 = vld1q_s8(p + WK_LINE), w1 = vld1q_s8(p + WK_LINE + 16);
        FOR_COLS(WIDE)
    }
    FOR_COLS(WIDE_END)
    FOR_COLS(KEEP)
}

WK_INLINE void sum_codes(sums *out, const uint8_t *code, const int8_t *q, size_t ld, int m, int n, bool wide) {
    if (wide) {
        sum_wide(out, code, q, ld, m, n, 0);
        sum_wide(out, code, q, ld, m, n, 1);
    } else {
        sum_narrow(out, code, q, ld, m, n, 0);
        sum_narrow(out, code, q, ld, m, n, 1);
    }
}

#include "simd/neon/tiles.h"

#define B32(m) tile_block(dst, ld, w, x, m, klen, false, false)
#define B32_WIDE(m) tile_block(dst, ld, w, x, m, klen, true, false)
#define B32M(m) tile_block(dst, ld, w, x, m, klen, false, true)
#define S32(m) tile_super(dst, ld, w, x, m, klen, 32, true, false)
#define S32M(m) tile_super(dst, ld, w, x, m, klen, 32, false, true)
#define S16(m) tile_super(dst, ld, w, x, m, klen, 16, false, false)
#define W256(m) tile_whole(dst, ld, w, x, m, klen, false)
#define W256M(m) tile_whole(dst, ld, w, x, m, klen, true)
WK_TILE(b32, B32)
WK_TILE(b32_wide, B32_WIDE)
WK_TILE(b32m, B32M)
WK_TILE(s32, S32)
WK_TILE(s32m, S32M)
WK_TILE(s16, S16)
WK_TILE(w256, W256)
WK_TILE(w256m, W256M)

/* Every code is -32..31: its upper three bits are equal. */
static bool codes_small(const wk_panel *w, int klen) {
    int8x16_t any = vdupq_n_s8(0);
    for (int i = 0; i < klen; i++) {
        const int8x16_t v = vld1q_s8((const int8_t *)w->code + 16 * i);
        any = vorrq_s8(any, veorq_s8(v, vshrq_n_s8(v, 7)));
    }
    return vmaxvq_u8(vreinterpretq_u8_s8(any)) < 32;
}

#define GEMM(name, tile)                                                                           \
    void wk_gemm_##name##_16x4_neon(float *dst, size_t ld, const wk_panel *w, int np,              \
                                    const wk_act *x, int m, int klen, bool first) {                \
        assert(np == 1);                                                                           \
        (void)np;                                                                                  \
        run_tile(tile, dst, ld, w, x, m, klen, first);                                             \
    }
GEMM(b32, codes_small(w, klen) ? b32 : b32_wide)
GEMM(b32m, b32m)
GEMM(s32, s32)
GEMM(s32m, s32m)
GEMM(s16, s16)
GEMM(w256, w256)
GEMM(w256m, w256m)

/* ---- kind F: 16 rows x 6 tokens, chunks of 64 ---- */

#define FOR_SIX(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define CHAIN_BEGIN(t)                                                                             \
    const float *x##t = x + (t < m ? (size_t)t * ldx : 0);                                         \
    v16 c##t = v16_zero();
#define CHAIN(t)                                                                                   \
    if (t < m) c##t = v16_fma1(c##t, w, x##t[k]);
#define CHAIN_END(t)                                                                               \
    if (t < m) v16_store(dst + (size_t)t * ld, v16_add(v16_load(dst + (size_t)t * ld), c##t));

WK_INLINE void chunk_f(float *dst, size_t ld, const float *f, const float *x, size_t ldx, int m, int n) {
    FOR_SIX(CHAIN_BEGIN)
    for (int k = 0; k < n; k++) {
        const v16 w = v16_load(f + 16 * k);
        FOR_SIX(CHAIN)
    }
    FOR_SIX(CHAIN_END)
}

void wk_gemm_f_16x6_neon(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,
                         bool first) {
    assert(np == 1);
    (void)np;
    for (int t = 0; t < m && first; t++) v16_store(dst + (size_t)t * ld, v16_zero());
    for (int k = 0; k < klen; k += 64) {
        const int n = klen - k < 64 ? klen - k : 64;
        const float *f = w->f + 16 * k, *xk = x->x + k;
        switch (m) {
        case 1: chunk_f(dst, ld, f, xk, x->ld, 1, n); break;
        case 2: chunk_f(dst, ld, f, xk, x->ld, 2, n); break;
        case 3: chunk_f(dst, ld, f, xk, x->ld, 3, n); break;
        case 4: chunk_f(dst, ld, f, xk, x->ld, 4, n); break;
        case 5: chunk_f(dst, ld, f, xk, x->ld, 5, n); break;
        default: chunk_f(dst, ld, f, xk, x->ld, 6, n); break;
        }
    }
}

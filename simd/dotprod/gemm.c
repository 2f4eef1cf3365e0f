/* gemm.c: integer tiles of 16 rows x 4 tokens by sdot, up to 12 tokens a call: 16 accumulators, 4 registers
 * of codes, 4 of activations that serve 4 lines each. */
#include "simd/dotprod/dot.h"
#include "simd/dotprod/dotprod.h"

enum { WK_COLS = 4 };

/* Sums of one sub-block, by token. */
typedef struct sums {
    v16i i[WK_COLS];
} sums;

#define FOR_COLS(X) X(0) X(1) X(2) X(3)
#define BEGIN(t)                                                                                   \
    const int8_t *q##t = t < m ? q + (size_t)t * ld : q;                                           \
    v16i s##t = v16i_zero();
#define LOAD(t) const int8x16_t x##t = vld1q_s8(q##t + 4 * i);
#define STEP(t, l)                                                                                 \
    if (t < m) {                                                                                   \
        s##t.a = vdotq_laneq_s32(s##t.a, a, x##t, l);                                              \
        s##t.b = vdotq_laneq_s32(s##t.b, b, x##t, l);                                              \
        s##t.c = vdotq_laneq_s32(s##t.c, c, x##t, l);                                              \
        s##t.d = vdotq_laneq_s32(s##t.d, d, x##t, l);                                              \
    }
#define LINE(l)                                                                                    \
    {                                                                                              \
        const int8_t *p = (const int8_t *)code + WK_LINE * (i + l);                                \
        const int8x16_t a = vld1q_s8(p), b = vld1q_s8(p + 16);                                     \
        const int8x16_t c = vld1q_s8(p + 32), d = vld1q_s8(p + 48);                                \
        STEP(0, l) STEP(1, l) STEP(2, l) STEP(3, l)                                                \
    }
#define END(t)                                                                                     \
    if (t < m) out->i[t] = s##t;

WK_INLINE void sum_codes(sums *out, const uint8_t *code, const int8_t *q, size_t ld, int m, int n, bool wide) {
    (void)wide;
    FOR_COLS(BEGIN)
    for (int i = 0; i < n; i += 4) {
        FOR_COLS(LOAD)
        LINE(0)
        LINE(1)
        LINE(2)
        LINE(3)
    }
    FOR_COLS(END)
}

#include "simd/neon/tiles.h"

#define B32(m) tile_block(dst, ld, w, x, m, klen, false, false)
#define B32M(m) tile_block(dst, ld, w, x, m, klen, false, true)
#define S32(m) tile_super(dst, ld, w, x, m, klen, 32, false, false)
#define S32M(m) tile_super(dst, ld, w, x, m, klen, 32, false, true)
#define S16(m) tile_super(dst, ld, w, x, m, klen, 16, false, false)
#define W256(m) tile_whole(dst, ld, w, x, m, klen, false)
#define W256M(m) tile_whole(dst, ld, w, x, m, klen, true)
WK_TILE(b32, B32)
WK_TILE(b32m, B32M)
WK_TILE(s32, S32)
WK_TILE(s32m, S32M)
WK_TILE(s16, S16)
WK_TILE(w256, W256)
WK_TILE(w256m, W256M)

#define GEMM(name)                                                                                 \
    void wk_gemm_##name##_16x4_dotprod(float *dst, size_t ld, const wk_panel *w, int np,           \
                                       const wk_act *x, int m, int klen, bool first) {             \
        assert(np == 1);                                                                           \
        (void)np;                                                                                  \
        run_tile(name, dst, ld, w, x, m, klen, first);                                             \
    }
GEMM(b32)
GEMM(b32m)
GEMM(s32)
GEMM(s32m)
GEMM(s16)
GEMM(w256)
GEMM(w256m)

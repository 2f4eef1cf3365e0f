/* gemm.c: integer tiles of 16 rows x 4 tokens by smmla, up to 12 tokens a call.
 *
 * One smmla multiplies 2 tokens x 8 k by 2 rows x 8 k, and its register holds (token, row) pairs:
 *     t0 r0, t0 r1, t1 r0, t1 r1
 * Eight of them, rows 0..15 by twos, are a duo: two tokens. The float part stays in this order: a scale is loaded
 * as r0 r1 r0 r1, what belongs to a token as t0 t0 t1 t1, and only the ends of a call change to rows in lanes.
 * Sums of a sub-block are made in registers; float values are operands in L1: 32 registers do not hold
 * both. four, sub, mins are constants where they are called. */
#include "simd/i8mm/i8mm.h"
#include "simd/neon/vec.h"

enum { TOKENS = 4, DUO = 2 * WK_PANEL };

/* Of a tile: tokens 0, 1 in a; 2, 3 in b, which nobody touches where there are none. */
typedef struct duo {
    int32x4_t v[8];
} duo;
typedef struct sums {
    duo a, b;
} sums;
typedef struct values {
    float a[DUO], b[DUO];
} values;

/* What belongs to the tokens of a tile; behind the last one the first is repeated. */
typedef struct tokens {
    const int8_t *q[TOKENS];
    const float *d[TOKENS], *f32s[TOKENS];
    const int16_t *s32[TOKENS], *s16[TOKENS];
} tokens;

static void tokens_of(tokens *x, const wk_act *act, int t0, int n) {
    for (int i = 0; i < TOKENS; i++) {
        const size_t t = (size_t)(t0 + (i < n ? i : 0)), b = t * act->ldb;
        x->q[i] = act->q + t * act->ld;
        x->d[i] = act->d + b;
        x->f32s[i] = act->f32s + b;
        x->s32[i] = act->s32 + b;
        x->s16[i] = act->s16 + 2 * b;
    }
}

/* ---- the orders of a register ---- */

WK_INLINE float32x4_t by_row(const float *p) {
    uint64_t two;
    memcpy(&two, p, sizeof(two));
    return vreinterpretq_f32_u64(vdupq_n_u64(two));
}
WK_INLINE int16x4_t by_row_s16(const int16_t *p) {
    uint32_t two;
    memcpy(&two, p, sizeof(two));
    return vreinterpret_s16_u32(vdup_n_u32(two));
}
WK_INLINE float32x4_t by_token(const float *t0, const float *t1) {
    return vcombine_f32(vld1_dup_f32(t0), vld1_dup_f32(t1));
}
WK_INLINE int16x4_t by_token_s16(const int16_t *t0, const int16_t *t1) {
    const int32x2_t a = vreinterpret_s32_s16(vld1_dup_s16(t0)), b = vreinterpret_s32_s16(vld1_dup_s16(t1));
    return vreinterpret_s16_s32(vzip1_s32(a, b));
}

/* ---- integers ---- */

WK_INLINE void duo_zero(duo *u) {
    for (int i = 0; i < 8; i++) u->v[i] = vdupq_n_s32(0);
}

/* Upper or lower 8 bytes of both. */
WK_INLINE int8x16_t low8(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
WK_INLINE int8x16_t high8(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

WK_INLINE void step(sums *u, const int8_t *code, int8x16_t x, int8x16_t y, bool four) {
    for (int i = 0; i < 8; i++) {
        const int8x16_t w = vld1q_s8(code + 16 * i);
        u->a.v[i] = vmmlaq_s32(u->a.v[i], x, w);
        if (four) u->b.v[i] = vmmlaq_s32(u->b.v[i], y, w);
    }
}

/* Codes k .. k+n-1 of the piece, n a multiple of 16. */
WK_INLINE void sum_codes(sums *u, const wk_panel *w, const tokens *x, int k, int n, bool four) {
    duo_zero(&u->a);
    duo_zero(&u->b);
    for (int i = k; i < k + n; i += 16) {
        const int8_t *code = (const int8_t *)w->code + 16 * i;
        const int8x16_t x0 = vld1q_s8(x->q[0] + i), x1 = vld1q_s8(x->q[1] + i);
        const int8x16_t x2 = vld1q_s8(x->q[2] + i), x3 = vld1q_s8(x->q[3] + i);
        step(u, code, low8(x0, x1), low8(x2, x3), four);
        step(u, code + WK_I8MM_STEP, high8(x0, x1), high8(x2, x3), four);
    }
}

/* total += u * sc */
WK_INLINE void add_scaled(duo *total, const duo *u, const int16_t *sc) {
    for (int i = 0; i < 8; i++) {
        total->v[i] = vmlaq_s32(total->v[i], u->v[i], vmovl_s16(by_row_s16(sc + 2 * i)));
    }
}

/* ---- floats, in the order of DESIGN 9.2 ---- */

/* acc = fma(a, dx, acc) */
WK_INLINE void accumulate(float *acc, float32x4_t a, float32x4_t dx) {
    vst1q_f32(acc, vfmaq_f32(vld1q_f32(acc), a, dx));
}

/* a = s * F(I); with mins fma(F(asum), m, a). */
WK_INLINE void keep_block(float *acc, const duo *u, const float *s, const float *m, float32x4_t asum,
                          float32x4_t dx, bool mins) {
    for (int i = 0; i < 8; i++) {
        float32x4_t a = vmulq_f32(by_row(s + 2 * i), vcvtq_f32_s32(u->v[i]));
        if (mins) a = vfmaq_f32(a, asum, by_row(m + 2 * i));
        accumulate(acc + 4 * i, a, dx);
    }
}

/* a = fma(F(I), s, a) */
WK_INLINE void add_term(float *a, const duo *u, const float *s) {
    for (int i = 0; i < 8; i++) {
        vst1q_f32(a + 4 * i, vfmaq_f32(vld1q_f32(a + 4 * i), vcvtq_f32_s32(u->v[i]), by_row(s + 2 * i)));
    }
}

/* a = fma(F(M), c, a), M the sum of n mins, each with its sum of codes. */
WK_INLINE void add_mins(float *a, const int16_t *mn, const int16_t *s0, const int16_t *s1, const float *c,
                        int n) {
    duo m;
    duo_zero(&m);
    for (int j = 0; j < n; j++) {
        const int16x4_t s = by_token_s16(s0 + j, s1 + j);
        for (int i = 0; i < 8; i++) m.v[i] = vmlal_s16(m.v[i], by_row_s16(mn + 16 * j + 2 * i), s);
    }
    add_term(a, &m, c);
}

WK_INLINE void keep(float *acc, const float *a, float32x4_t dx) {
    for (int i = 0; i < DUO; i += 4) accumulate(acc + i, vld1q_f32(a + i), dx);
}

/* dx of block b goes to both duos. */
WK_INLINE void keep_values(values *acc, const values *a, const tokens *x, int b, bool four) {
    keep(acc->a, a->a, by_token(x->d[0] + b, x->d[1] + b));
    if (four) keep(acc->b, a->b, by_token(x->d[2] + b, x->d[3] + b));
}

/* ---- kinds ---- */

/* B32, B32M. */
WK_INLINE void tile_block(values *acc, const wk_panel *w, const tokens *x, int klen, bool mins, bool four) {
    for (int b = 0; b < klen / 32; b++) {
        const float *s = w->s + 16 * b, *m = w->c + 16 * b;
        sums u;
        sum_codes(&u, w, x, 32 * b, 32, four);
        keep_block(acc->a, &u.a, s, m, by_token(x->f32s[0] + b, x->f32s[1] + b),
                   by_token(x->d[0] + b, x->d[1] + b), mins);
        if (!four) continue;
        keep_block(acc->b, &u.b, s, m, by_token(x->f32s[2] + b, x->f32s[3] + b),
                   by_token(x->d[2] + b, x->d[3] + b), mins);
    }
}

/* S32, S32M, S16. The first term as an fma from +0 rounds as the product does. */
WK_INLINE void tile_super(values *acc, const wk_panel *w, const tokens *x, int klen, int sub, bool mins,
                          bool four) {
    for (int b = 0; b < klen / 256; b++) {
        values a = {{0}, {0}};
        for (int k = 256 * b; k < 256 * b + 256; k += sub) {
            const float *s = w->s + k / sub * 16;
            sums u;
            sum_codes(&u, w, x, k, sub, four);
            add_term(a.a, &u.a, s);
            if (four) add_term(a.b, &u.b, s);
        }
        if (mins) {
            const int16_t *mn = w->mn + 128 * b;
            const float *c = w->c + 16 * b;
            add_mins(a.a, mn, x->s32[0] + 8 * b, x->s32[1] + 8 * b, c, 8);
            if (four) add_mins(a.b, mn, x->s32[2] + 8 * b, x->s32[3] + 8 * b, c, 8);
        }
        keep_values(acc, &a, x, b, four);
    }
}

/* W256, W256M: integer scales inside one exact sum. */
WK_INLINE void tile_whole(values *acc, const wk_panel *w, const tokens *x, int klen, bool mins, bool four) {
    for (int b = 0; b < klen / 256; b++) {
        const float *s = w->s + 16 * b, *c = w->c + 16 * b;
        values a = {{0}, {0}};
        sums total;
        duo_zero(&total.a);
        duo_zero(&total.b);
        for (int k = 256 * b; k < 256 * b + 256; k += 16) {
            sums u;
            sum_codes(&u, w, x, k, 16, four);
            add_scaled(&total.a, &u.a, w->sc + k);
            if (four) add_scaled(&total.b, &u.b, w->sc + k);
        }
        add_term(a.a, &total.a, s);
        if (four) add_term(a.b, &total.b, s);
        if (mins) {
            const int16_t *mn = w->mn + 256 * b;
            add_mins(a.a, mn, x->s16[0] + 16 * b, x->s16[1] + 16 * b, c, 16);
            if (four) add_mins(a.b, mn, x->s16[2] + 16 * b, x->s16[3] + 16 * b, c, 16);
        }
        keep_values(acc, &a, x, b, four);
    }
}

/* ---- calls ---- */

/* Rows in lanes of two tokens to a duo, and back; t1 may be missing. */
static void load_duo(float *a, const float *t0, const float *t1) {
    for (int i = 0; i < WK_PANEL; i += 4) {
        const float64x2_t x = vreinterpretq_f64_f32(vld1q_f32(t0 + i));
        const float64x2_t y = vreinterpretq_f64_f32(vld1q_f32(t1 + i));
        vst1q_f32(a + 2 * i, vreinterpretq_f32_f64(vzip1q_f64(x, y)));
        vst1q_f32(a + 2 * i + 4, vreinterpretq_f32_f64(vzip2q_f64(x, y)));
    }
}
static void store_duo(float *t0, float *t1, const float *a) {
    for (int i = 0; i < WK_PANEL; i += 4) {
        const float64x2_t x = vreinterpretq_f64_f32(vld1q_f32(a + 2 * i));
        const float64x2_t y = vreinterpretq_f64_f32(vld1q_f32(a + 2 * i + 4));
        if (t1) vst1q_f32(t1 + i, vreinterpretq_f32_f64(vzip2q_f64(x, y)));
        vst1q_f32(t0 + i, vreinterpretq_f32_f64(vzip1q_f64(x, y)));
    }
}

typedef void tile_part(values *acc, const wk_panel *w, const tokens *x, int klen, bool four);

/* One tile of n <= 4 tokens. */
WK_INLINE void run_part(tile_part *part, float *dst, size_t ld, const wk_panel *w, const tokens *x, int n,
                        int klen, bool first) {
    values acc = {{0}, {0}};
    float *t1 = n > 1 ? dst + ld : NULL, *t2 = n > 2 ? dst + 2 * ld : NULL;
    float *t3 = n > 3 ? dst + 3 * ld : NULL;
    if (!first) load_duo(acc.a, dst, t1 ? t1 : dst);
    if (!first && t2) load_duo(acc.b, t2, t3 ? t3 : t2);
    part(&acc, w, x, klen, n > 2);
    store_duo(dst, t1, acc.a);
    if (t2) store_duo(t2, t3, acc.b);
}

WK_INLINE void run_tile(tile_part *part, float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m,
                        int klen, bool first) {
    for (int t = 0; t < m; t += TOKENS) {
        const int n = m - t < TOKENS ? m - t : TOKENS;
        tokens at;
        tokens_of(&at, x, t, n);
        run_part(part, dst + (size_t)t * ld, ld, w, &at, n, klen, first);
    }
}

#define GEMM(name, tile, ...)                                                                      \
    static void name(values *acc, const wk_panel *w, const tokens *x, int klen, bool four) {       \
        if (four) tile(acc, w, x, klen, __VA_ARGS__, true);                                        \
        else tile(acc, w, x, klen, __VA_ARGS__, false);                                            \
    }                                                                                              \
    void wk_gemm_##name##_16x4_i8mm(float *dst, size_t ld, const wk_panel *w, int np,              \
                                    const wk_act *x, int m, int klen, bool first) {                \
        assert(np == 1);                                                                           \
        (void)np;                                                                                  \
        run_tile(name, dst, ld, w, x, m, klen, first);                                             \
    }
GEMM(b32, tile_block, false)
GEMM(b32m, tile_block, true)
GEMM(s32, tile_super, 32, false)
GEMM(s32m, tile_super, 32, true)
GEMM(s16, tile_super, 16, false)
GEMM(w256, tile_whole, false)
GEMM(w256m, tile_whole, true)

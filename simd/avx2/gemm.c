/* gemm.c: tiles of 16 rows x 4 tokens, one per kind; up to 12 tokens a call.
 *
 * The integer sums of one sub-block stay in registers (8 accumulators, 2 lines of codes, 1 broadcast);
 * then they go to a small array in L1, where the float part of DESIGN 9.2 picks them up. Float
 * accumulators are memory operands of the FMAs: with 16 registers there is no room for both.
 *
 * The kinds B32, B32M, S32M and S16 hold codes of several widths. Small codes may be added in int16 (vec.h),
 * 215 against 120 GOP/s, so a call looks at its codes first; 12 tokens share the look. Rejected: a mark
 * left by expand in an unused field of the panel, which a ref expand would not leave. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/codes.h"

enum { LINE = WK_LINE, COLS = 4 };

/* How the products of a line are added. */
typedef enum width {
    WIDTH_4, /* unsigned after the bias, below 16: 8 steps in int16 */
    WIDTH_5, /* unsigned after the bias, below 32: 4 steps */
    WIDTH_6, /* unsigned after the bias, below 64: 2 steps */
    WIDTH_8  /* signed, any */
} width;

/* Sums of one sub-block: token t has rows 0..7 in [2*t], rows 8..15 in [2*t + 1]. */
typedef struct sums {
    __m256i i[2 * COLS];
} sums;

/* One token of a tile and what belongs to it, advanced block by block. */
typedef struct column {
    const float *d, *f32s;
    const int32_t *z32, *z16;
    const int16_t *s32, *s16;
    float *dst;
} column;

WK_INLINE void columns_of(column *c, float *dst, size_t ld, const wk_act *x, int m) {
    for (int t = 0; t < m; t++) {
        const size_t b = (size_t)t * x->ldb;
        c[t] = (column){.d = x->d + b,
                        .f32s = x->f32s + b,
                        .z32 = x->z32 + b,
                        .z16 = x->z16 + 2 * b,
                        .s32 = x->s32 + b,
                        .s16 = x->s16 + 2 * b,
                        .dst = dst + (size_t)t * ld};
    }
}

static void clear(float *dst, size_t ld, int m) {
    for (int t = 0; t < m; t++) memset(dst + (size_t)t * ld, 0, WK_PANEL * sizeof(float));
}

/* ---- sums of a sub-block ---- */

#define FOR_COLS(X) X(0) X(1) X(2) X(3)

/* Adds n lines of unsigned codes in int16. */
#define NARROW(t)                                                                                  \
    if (t < m) {                                                                                   \
        const __m256i a = v_all4(q##t + 4 * i);                                                    \
        lo##t = _mm256_add_epi16(lo##t, _mm256_maddubs_epi16(u_lo, a));                            \
        hi##t = _mm256_add_epi16(hi##t, _mm256_maddubs_epi16(u_hi, a));                            \
    }
#define NARROW_BEGIN(t)                                                                            \
    const int8_t *q##t = t < m ? q + (size_t)t * ld : q;                                           \
    __m256i lo##t = _mm256_setzero_si256(), hi##t = lo##t;
/* by: int16 factors of the pairs (1, or the integer scale of the row). */
#define NARROW_END(t)                                                                              \
    if (t < m) {                                                                                   \
        const __m256i s_lo = _mm256_madd_epi16(lo##t, by_lo),                                      \
                      s_hi = _mm256_madd_epi16(hi##t, by_hi);                                      \
        out->i[2 * t] = add ? _mm256_add_epi32(out->i[2 * t], s_lo) : s_lo;                        \
        out->i[2 * t + 1] = add ? _mm256_add_epi32(out->i[2 * t + 1], s_hi) : s_hi;                \
    }

WK_INLINE void sum_narrow(sums *out, const uint8_t *code, const int8_t *q, size_t ld, int m, int n,
                          int bias, bool add, __m256i by_lo, __m256i by_hi) {
    const __m256i up = _mm256_set1_epi8((char)bias);
    FOR_COLS(NARROW_BEGIN)
    for (int i = 0; i < n; i++) {
        const __m256i w_lo = v_int(code + LINE * i), w_hi = v_int(code + LINE * i + 32);
        const __m256i u_lo = bias ? _mm256_add_epi8(w_lo, up) : w_lo;
        const __m256i u_hi = bias ? _mm256_add_epi8(w_hi, up) : w_hi;
        FOR_COLS(NARROW)
    }
    FOR_COLS(NARROW_END)
}

/* n lines of any signed codes, widened at each step. */
#define WIDE(t)                                                                                    \
    if (t < m) {                                                                                   \
        const __m256i a = v_all4(q##t + 4 * i);                                                    \
        const __m256i p_lo = _mm256_maddubs_epi16(u_lo, _mm256_sign_epi8(a, w_lo));                \
        const __m256i p_hi = _mm256_maddubs_epi16(u_hi, _mm256_sign_epi8(a, w_hi));                \
        lo##t = _mm256_add_epi32(lo##t, v_wide(p_lo));                                             \
        hi##t = _mm256_add_epi32(hi##t, v_wide(p_hi));                                             \
    }
#define WIDE_END(t)                                                                                \
    if (t < m) {                                                                                   \
        out->i[2 * t] = lo##t;                                                                     \
        out->i[2 * t + 1] = hi##t;                                                                 \
    }

WK_INLINE void sum_wide(sums *out, const uint8_t *code, const int8_t *q, size_t ld, int m, int n) {
    FOR_COLS(NARROW_BEGIN)
    for (int i = 0; i < n; i++) {
        const __m256i w_lo = v_int(code + LINE * i), w_hi = v_int(code + LINE * i + 32);
        const __m256i u_lo = _mm256_abs_epi8(w_lo), u_hi = _mm256_abs_epi8(w_hi);
        FOR_COLS(WIDE)
    }
    FOR_COLS(WIDE_END)
}

/* Sums over 32 codes, the bias still in them. */
WK_INLINE void sum_32(sums *out, const uint8_t *code, const int8_t *q, size_t ld, int m, width bits,
                      int bias) {
    const __m256i one = v_ones();
    if (bits == WIDTH_8) {
        sum_wide(out, code, q, ld, m, 8);
    } else if (bits == WIDTH_4) {
        sum_narrow(out, code, q, ld, m, 8, bias, false, one, one);
    } else {
        sum_narrow(out, code, q, ld, m, 4, bias, false, one, one);
        sum_narrow(out, code + 4 * LINE, q + 16, ld, m, 4, bias, true, one, one);
    }
}

/* ---- float part ---- */

/* dst = fma(a, dx, dst) */
WK_INLINE void accumulate(float *dst, __m256 lo, __m256 hi, const float *d) {
    const __m256 dx = _mm256_broadcast_ss(d);
    _mm256_storeu_ps(dst, _mm256_fmadd_ps(lo, dx, _mm256_loadu_ps(dst)));
    _mm256_storeu_ps(dst + 8, _mm256_fmadd_ps(hi, dx, _mm256_loadu_ps(dst + 8)));
}

/* ---- tiles of at most 4 tokens; m, bits, bias and the kind are constants where they are called ---- */

WK_INLINE void tile_block(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m,
                          int klen, width bits, int bias, bool mins) {
    column col[COLS];
    columns_of(col, dst, ld, x, m);
    for (int b = 0; b < klen / 32; b++) {
        const __m256 s_lo = _mm256_loadu_ps(w->s + 16 * b),
                     s_hi = _mm256_loadu_ps(w->s + 16 * b + 8);
        sums s;
        sum_32(&s, w->code + 512 * b, x->q + 32 * b, x->ld, m, bits, bias);
        for (int t = 0; t < m; t++) {
            __m256i i_lo = s.i[2 * t], i_hi = s.i[2 * t + 1];
            if (bias) {
                const __m256i z = v_zero_point(col[t].z32 + b, bias);
                i_lo = _mm256_add_epi32(i_lo, z);
                i_hi = _mm256_add_epi32(i_hi, z);
            }
            __m256 lo = _mm256_mul_ps(s_lo, _mm256_cvtepi32_ps(i_lo));
            __m256 hi = _mm256_mul_ps(s_hi, _mm256_cvtepi32_ps(i_hi));
            if (mins) {
                const __m256 q = _mm256_broadcast_ss(col[t].f32s + b);
                lo = _mm256_fmadd_ps(q, _mm256_loadu_ps(w->c + 16 * b), lo);
                hi = _mm256_fmadd_ps(q, _mm256_loadu_ps(w->c + 16 * b + 8), hi);
            }
            accumulate(col[t].dst, lo, hi, col[t].d + b);
        }
    }
}

/* a of up to 4 tokens, in L1. */
typedef struct values {
    __m256 a[2 * COLS];
} values;

/* a = fma(F(I), s, a) for all tokens. */
WK_INLINE void add_terms(values *v, const sums *i, const float *s, int m) {
    const __m256 lo = _mm256_loadu_ps(s), hi = _mm256_loadu_ps(s + 8);
    for (int t = 0; t < m; t++) {
        v->a[2 * t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(i->i[2 * t]), lo, v->a[2 * t]);
        v->a[2 * t + 1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(i->i[2 * t + 1]), hi, v->a[2 * t + 1]);
    }
}

/* Mins, then dx: the end of a block of 256. sub: codes per min, 0 without mins. */
WK_INLINE void finish_256(const values *v, const wk_panel *w, const column *col, int m, int b,
                          int sub) {
    min_pairs p;
    const int n = sub ? 128 / sub : 0;
    min_pairs_of(&p, sub ? w->mn + 32 * n * b : NULL, n);
    for (int t = 0; t < m; t++) {
        __m256 lo = v->a[2 * t], hi = v->a[2 * t + 1];
        const int16_t *s = sub == 32 ? col[t].s32 + 8 * b : col[t].s16 + 16 * b;
        if (sub) {
            const rows_int mins = sum_pairs(&p, s, n);
            const __m256 c_lo = _mm256_loadu_ps(w->c + 16 * b),
                         c_hi = _mm256_loadu_ps(w->c + 16 * b + 8);
            lo = _mm256_fmadd_ps(_mm256_cvtepi32_ps(mins.lo), c_lo, lo);
            hi = _mm256_fmadd_ps(_mm256_cvtepi32_ps(mins.hi), c_hi, hi);
        }
        accumulate(col[t].dst, lo, hi, col[t].d + b);
    }
}

/* Sums over 16 codes of -32..31 (Q6_K) and their start values: unsigned, 2 steps fit int16. */
WK_INLINE void sum_16(sums *out, const uint8_t *code, const int8_t *q, size_t ld, int m,
                      const column *col, int j) {
    const __m256i one = v_ones();
    sum_narrow(out, code, q, ld, m, 2, 32, false, one, one);
    sum_narrow(out, code + 2 * LINE, q + 8, ld, m, 2, 32, true, one, one);
    for (int t = 0; t < m; t++) {
        const __m256i z = v_zero_point(col[t].z16 + j, 32);
        out->i[2 * t] = _mm256_add_epi32(out->i[2 * t], z);
        out->i[2 * t + 1] = _mm256_add_epi32(out->i[2 * t + 1], z);
    }
}

/* S32, S32M, S16. The first term as an fma from +0 rounds as the product does. */
WK_INLINE void tile_super(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m,
                          int klen, width bits, int sub, bool mins) {
    column col[COLS];
    columns_of(col, dst, ld, x, m);
    for (int b = 0; b < klen / 256; b++) {
        values v;
        for (int t = 0; t < 2 * m; t++) v.a[t] = _mm256_setzero_ps();
        for (int k = 256 * b; k < 256 * b + 256; k += sub) {
            sums i;
            if (sub == 32)
                sum_32(&i, w->code + 16 * k, x->q + k, x->ld, m, bits, 0);
            else if (bits == WIDTH_8)
                sum_wide(&i, w->code + 16 * k, x->q + k, x->ld, m, 4);
            else
                sum_16(&i, w->code + 16 * k, x->q + k, x->ld, m, col, k / 16);
            add_terms(&v, &i, w->s + k / sub * 16, m);
        }
        finish_256(&v, w, col, m, b, mins ? 32 : 0);
    }
}

/* i -= bias * sum of sc_j * (sum of codes j): takes the bias out of a whole block. */
WK_INLINE void drop_bias(sums *i, const int16_t *sc, const column *col, int m, int b) {
    min_pairs p;
    min_pairs_of(&p, sc, 8);
    for (int t = 0; t < m; t++) {
        const rows_int s = sum_pairs(&p, col[t].s16 + 16 * b, 8);
        i->i[2 * t] = _mm256_sub_epi32(i->i[2 * t], _mm256_slli_epi32(s.lo, 2));
        i->i[2 * t + 1] = _mm256_sub_epi32(i->i[2 * t + 1], _mm256_slli_epi32(s.hi, 2));
    }
}

/* W256: codes -4..3 (Q3_K, TQ), made unsigned by a bias of 4. W256M: 0..3 (Q2_K). */
WK_INLINE void tile_whole(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m,
                          int klen, bool mins) {
    column col[COLS];
    columns_of(col, dst, ld, x, m);
    for (int b = 0; b < klen / 256; b++) {
        sums i;
        values v;
        for (int t = 0; t < 2 * m; t++) {
            i.i[t] = _mm256_setzero_si256();
            v.a[t] = _mm256_setzero_ps();
        }
        for (int k = 256 * b; k < 256 * b + 256; k += 16) {
            const __m256i lo = twice(w->sc + k), hi = twice(w->sc + k + 8);
            sum_narrow(&i, w->code + 16 * k, x->q + k, x->ld, m, 4, mins ? 0 : 4, true, lo, hi);
        }
        if (!mins) drop_bias(&i, w->sc + 256 * b, col, m, b);
        add_terms(&v, &i, w->s + 16 * b, m);
        finish_256(&v, w, col, m, b, mins ? 16 : 0);
    }
}

/* ---- calls ---- */

/* body(m) for the constants m = 1..4; m tokens from `at` on. */
#define BY_COUNT(m, body)                                                                          \
    switch (m) {                                                                                   \
    case 1: body(1); break;                                                                        \
    case 2: body(2); break;                                                                        \
    case 3: body(3); break;                                                                        \
    default: body(4); break;                                                                       \
    }

#define TILE(name, ...)                                                                            \
    static void name(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen) { \
        BY_COUNT(m, __VA_ARGS__)                                                                   \
    }
#define B32_4(m) tile_block(dst, ld, w, x, m, klen, WIDTH_4, 8, false)
#define B32_5(m) tile_block(dst, ld, w, x, m, klen, WIDTH_5, 16, false)
#define B32_8(m) tile_block(dst, ld, w, x, m, klen, WIDTH_8, 0, false)
#define B32M_4(m) tile_block(dst, ld, w, x, m, klen, WIDTH_4, 0, true)
#define B32M_5(m) tile_block(dst, ld, w, x, m, klen, WIDTH_5, 0, true)
#define S32_8(m) tile_super(dst, ld, w, x, m, klen, WIDTH_8, 32, false)
#define S32M_4(m) tile_super(dst, ld, w, x, m, klen, WIDTH_4, 32, true)
#define S32M_5(m) tile_super(dst, ld, w, x, m, klen, WIDTH_5, 32, true)
#define S16_6(m) tile_super(dst, ld, w, x, m, klen, WIDTH_6, 16, false)
#define S16_8(m) tile_super(dst, ld, w, x, m, klen, WIDTH_8, 16, false)
#define W256_3(m) tile_whole(dst, ld, w, x, m, klen, false)
#define W256M_2(m) tile_whole(dst, ld, w, x, m, klen, true)
TILE(b32_4, B32_4)
TILE(b32_5, B32_5)
TILE(b32_8, B32_8)
TILE(b32m_4, B32M_4)
TILE(b32m_5, B32M_5)
TILE(s32_8, S32_8)
TILE(s32m_4, S32M_4)
TILE(s32m_5, S32M_5)
TILE(s16_6, S16_6)
TILE(s16_8, S16_8)
TILE(w256_3, W256_3)
TILE(w256m_2, W256M_2)

typedef void tile_fn(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen);

/* m tokens in groups of 4. */
static void run(tile_fn *tile, float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m,
                int klen, bool first) {
    if (first) clear(dst, ld, m);
    for (int t = 0; t < m; t += COLS) {
        const wk_act at = wk_act_at(x, WK_X_A256, t, 0);
        tile(dst + (size_t)t * ld, ld, w, &at, m - t < COLS ? m - t : COLS, klen);
    }
}

/* Every code + bias has none of the bits `above`. */
static bool codes_fit(const wk_panel *w, int klen, int bias, int above) {
    const __m256i up = _mm256_set1_epi8((char)bias), top = _mm256_set1_epi8((char)above);
    for (int k = 0; k < klen; k += 32) {
        __m256i a = _mm256_setzero_si256(), b = a;
        for (int i = 0; i < 8; i++) {
            a = _mm256_or_si256(a, _mm256_add_epi8(up, v_int(w->code + 16 * k + LINE * i)));
            b = _mm256_or_si256(b, _mm256_add_epi8(up, v_int(w->code + 16 * k + LINE * i + 32)));
        }
        if (!_mm256_testz_si256(_mm256_or_si256(a, b), top)) return false;
    }
    return true;
}

#define GEMM(name, tile)                                                                           \
    void wk_gemm_##name##_16x4_avx2(float *dst, size_t ld, const wk_panel *w, int np,              \
                                    const wk_act *x, int m, int klen, bool first) {                \
        assert(np == 1);                                                                           \
        (void)np;                                                                                  \
        run(tile, dst, ld, w, x, m, klen, first);                                                  \
    }
GEMM(b32, codes_fit(w, klen, 8, 0xf0) ? b32_4 : codes_fit(w, klen, 16, 0xe0) ? b32_5 : b32_8)
GEMM(b32m, codes_fit(w, klen, 0, 0xf0) ? b32m_4 : b32m_5)
GEMM(s32, s32_8)
GEMM(s32m, codes_fit(w, klen, 0, 0xf0) ? s32m_4 : s32m_5)
GEMM(s16, codes_fit(w, klen, 32, 0xc0) ? s16_6 : s16_8)
GEMM(w256, w256_3)
GEMM(w256m, w256m_2)

/* ---- kind F: 16 rows x 6 tokens, chunks of 64 ---- */

#define FOR_SIX(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define CHAIN_BEGIN(t)                                                                             \
    const float *x##t = x + (t < m ? (size_t)t * ldx : 0);                                         \
    __m256 lo##t = _mm256_setzero_ps(), hi##t = lo##t;
#define CHAIN(t)                                                                                   \
    if (t < m) {                                                                                   \
        const __m256 v = _mm256_broadcast_ss(x##t + k);                                            \
        lo##t = _mm256_fmadd_ps(w_lo, v, lo##t);                                                   \
        hi##t = _mm256_fmadd_ps(w_hi, v, hi##t);                                                   \
    }
#define CHAIN_END(t)                                                                               \
    if (t < m) {                                                                                   \
        float *d = dst + (size_t)t * ld;                                                           \
        _mm256_storeu_ps(d, _mm256_add_ps(_mm256_loadu_ps(d), lo##t));                             \
        _mm256_storeu_ps(d + 8, _mm256_add_ps(_mm256_loadu_ps(d + 8), hi##t));                     \
    }

WK_INLINE void chunk_f(float *dst, size_t ld, const float *f, const float *x, size_t ldx, int m,
                       int n) {
    FOR_SIX(CHAIN_BEGIN)
    for (int k = 0; k < n; k++) {
        const __m256 w_lo = _mm256_loadu_ps(f + 16 * k), w_hi = _mm256_loadu_ps(f + 16 * k + 8);
        FOR_SIX(CHAIN)
    }
    FOR_SIX(CHAIN_END)
}

void wk_gemm_f_16x6_avx2(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m,
                         int klen, bool first) {
    assert(np == 1);
    (void)np;
    if (first) clear(dst, ld, m);
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

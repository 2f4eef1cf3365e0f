/* gemm.c: tiles of 16 rows x 4 (or 6) tokens, one per kind; up to 12 tokens a call.
 *
 * The int16 sums of a sub-block stay in registers (8 or 12 accumulators, 2 lines of codes, 1 broadcast, products);
 * float accumulators are memory operands of the FMAs in L1: with 16 registers there is no room for both. Four ports take
 * 16 products and 16 additions of a 32-block of 8 rows in 8 cycles, so every further operation shows; hence the
 * inside of a panel is the level's own (codes.h): codes unsigned as maddubs wants them, and how wide they are, written
 * down by expand. Rejected: signed codes and a look at them in each call (Q4_0 112 GMAC/s a core of the peak's 188,
 * now 126). */
#include "simd/avx2/avx2.h"
#include "simd/avx2/codes.h"

enum { LINE = WK_LINE, COLS = V_COLS, COLS_4 = 4 };

/* int32 sums of one sub-block; values a of the tokens of a tile. */
typedef struct sums {
    __m256i i[V_SUMS];
} sums;
typedef struct values {
    __m256 a[V_SUMS];
} values;

/* One token of a tile and what belongs to it. */
typedef struct column {
    const float *d, *f32s;
    const int32_t *z32;
    const int16_t *s32, *s16;
    float *dst;
} column;

WK_INLINE void columns_of(column *c, const int8_t **q, float *dst, size_t ld, const wk_act *x,
                          const int m) {
    V_UNROLL
    for (int t = 0; t < m; t++) {
        const size_t b = (size_t)t * x->ldb;
        q[t] = x->q + (size_t)t * x->ld;
        c[t] = (column){.d = x->d + b,
                        .f32s = x->f32s + b,
                        .z32 = x->z32 + b,
                        .s32 = x->s32 + b,
                        .s16 = x->s16 + 2 * b,
                        .dst = dst + (size_t)t * ld};
    }
}

static void clear(float *dst, size_t ld, int m) {
    for (int t = 0; t < m; t++) memset(dst + (size_t)t * ld, 0, WK_PANEL * sizeof(float));
}

/* ---- sums of a sub-block ---- */

/* n lines of unsigned codes. */
WK_INLINE void lines(__m256i *a, const uint8_t *code, const int8_t *const *q, int k, const int m,
                     const int n) {
    V_UNROLL
    for (int i = 0; i < n; i++)
        v_step(a, v_int(code + LINE * i), v_int(code + LINE * i + 32), q, k + 4 * i, m);
}

/* 32 codes of 0..31: 4 steps fit int16. The zero point is still in the sums. */
WK_INLINE void sum_fives(sums *out, const uint8_t *code, const int8_t *const *q, int k, const int m) {
    const __m256i one = v_ones();
    __m256i a[V_SUMS];
    v_start(a, m);
    lines(a, code, q, k, m, 4);
    v_sums(out->i, a, one, one, false, m);
    v_start(a, m);
    lines(a, code + 4 * LINE, q, k + 16, m, 4);
    v_sums(out->i, a, one, one, true, m);
}

/* 32 codes of 0..15, 8 less where z is given. */
WK_INLINE void sum_fours(sums *out, const uint8_t *code, const int8_t *const *q, int k,
                         const int32_t *z, size_t ldz, const int m) {
    const __m256i one = v_ones();
    __m256i a[V_SUMS];
    if (z) v_start_8(a, z, ldz, m);
    else v_start(a, m);
    lines(a, code, q, k, m, 8);
    v_sums(out->i, a, one, one, false, m);
}

/* 32 codes of 8 bits in two halves, 16*high + low - 128: cheaper than |code| and a sign for each token. */
WK_INLINE void sum_halves(sums *out, const uint8_t *high, const uint8_t *low,
                          const int8_t *const *q, int k, const int32_t *z, size_t ldz, const int m) {
    const __m256i one = v_ones(), sixteen = _mm256_set1_epi16(16);
    __m256i a[V_SUMS];
    v_start_8(a, z, ldz, m);
    lines(a, high, q, k, m, 8);
    v_sums(out->i, a, sixteen, sixteen, false, m);
    v_start(a, m);
    lines(a, low, q, k, m, 8);
    v_sums(out->i, a, one, one, true, m);
}

/* n lines of any signed codes, widened at each step. */
WK_INLINE void sum_signed(sums *out, const uint8_t *code, const int8_t *const *q, int k, const int m,
                          const int n) {
    v_start(out->i, m);
    for (int i = 0; i < n; i++) {
        const __m256i lo = v_int(code + LINE * i), hi = v_int(code + LINE * i + 32);
        V_UNROLL
        for (int t = 0; t < m; t++) {
            const __m256i v = v_all4(q[t] + k + 4 * i);
            out->i[2 * t] = _mm256_add_epi32(out->i[2 * t], v_wide(v_signed(lo, v)));
            out->i[2 * t + 1] = _mm256_add_epi32(out->i[2 * t + 1], v_wide(v_signed(hi, v)));
        }
    }
}

/* 16 signed codes of 6 bits against activations + 128, which are unsigned. start: -128 * (sum of codes), in pairs.
 * Sums wrap on the way, but what they come to is the product of the codes, 8*32*127 = 32512. */
WK_INLINE void sum_sixes(sums *out, const uint8_t *code, const int32_t *start, const uint8_t *u,
                         size_t ld, const int m) {
    const __m256i one = v_ones(), lo0 = v_int(start), hi0 = v_int(start + 8);
    __m256i a[V_SUMS];
    V_UNROLL
    for (int t = 0; t < m; t++) {
        a[2 * t] = lo0;
        a[2 * t + 1] = hi0;
    }
    V_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i lo = v_int(code + LINE * i), hi = v_int(code + LINE * i + 32);
        V_UNROLL
        for (int t = 0; t < m; t++) {
            const __m256i v = v_all4(u + (size_t)t * ld + 4 * i);
            a[2 * t] = _mm256_add_epi16(a[2 * t], _mm256_maddubs_epi16(v, lo));
            a[2 * t + 1] = _mm256_add_epi16(a[2 * t + 1], _mm256_maddubs_epi16(v, hi));
        }
    }
    v_sums(out->i, a, one, one, false, m);
}

/* ---- float part ---- */

/* dst = fma(a, dx, dst) */
WK_INLINE void accumulate(float *dst, __m256 lo, __m256 hi, const float *d) {
    const __m256 dx = _mm256_broadcast_ss(d);
    _mm256_storeu_ps(dst, _mm256_fmadd_ps(lo, dx, _mm256_loadu_ps(dst)));
    _mm256_storeu_ps(dst + 8, _mm256_fmadd_ps(hi, dx, _mm256_loadu_ps(dst + 8)));
}

/* a = fma(F(I), s, a) for all tokens. */
WK_INLINE void add_terms(values *v, const sums *i, const float *s, const int m) {
    const __m256 lo = _mm256_loadu_ps(s), hi = _mm256_loadu_ps(s + 8);
    V_UNROLL
    for (int t = 0; t < m; t++) {
        v->a[2 * t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(i->i[2 * t]), lo, v->a[2 * t]);
        v->a[2 * t + 1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(i->i[2 * t + 1]), hi, v->a[2 * t + 1]);
    }
}
WK_INLINE void clear_values(values *v, const int m) {
    V_UNROLL
    for (int t = 0; t < 2 * m; t++) v->a[t] = _mm256_setzero_ps();
}

/* Mins, then dx: the end of a block of 256. sub: codes per min, 0 without mins. */
WK_INLINE void finish_256(const values *v, const wk_panel *w, const column *col, const int m, int b,
                          const int sub) {
    min_pairs p;
    const int n = sub ? 128 / sub : 0;
    min_pairs_of(&p, sub ? w->mn + 32 * n * b : NULL, n);
    V_UNROLL
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

/* ---- tiles; m, width and the kind are constants where they are called ---- */

/* B32, B32M. */
WK_INLINE void tile_block(float *dst, size_t ld, const wk_panel *w, const wk_act *x, const int m,
                          int klen, const wk_width width, const bool mins) {
    column col[COLS];
    const int8_t *q[COLS];
    columns_of(col, q, dst, ld, x, m);
    for (int b = 0; b < klen / 32; b++) {
        const uint8_t *code = w->code + 512 * b;
        const int k = 32 * b;
        const int32_t *z = x->z32 + b;
        sums s;
        if (width == WK_WIDTH_4)
            sum_fours(&s, code, q, k, mins ? NULL : z, x->ldb, m);
        else if (width == WK_WIDTH_5)
            sum_fives(&s, code, q, k, m);
        else
            sum_halves(&s, code, (const uint8_t *)w->f + 512 * b, q, k, z, x->ldb, m);
        const __m256 s_lo = _mm256_loadu_ps(w->s + 16 * b),
                     s_hi = _mm256_loadu_ps(w->s + 16 * b + 8);
        V_UNROLL
        for (int t = 0; t < m; t++) {
            __m256i i_lo = s.i[2 * t], i_hi = s.i[2 * t + 1];
            if (width == WK_WIDTH_5 && !mins) {
                const __m256i zero = v_zero_point(col[t].z32 + b, 16);
                i_lo = _mm256_add_epi32(i_lo, zero);
                i_hi = _mm256_add_epi32(i_hi, zero);
            }
            __m256 lo = _mm256_mul_ps(s_lo, _mm256_cvtepi32_ps(i_lo));
            __m256 hi = _mm256_mul_ps(s_hi, _mm256_cvtepi32_ps(i_hi));
            if (mins) {
                const __m256 sum = _mm256_broadcast_ss(col[t].f32s + b);
                lo = _mm256_fmadd_ps(sum, _mm256_loadu_ps(w->c + 16 * b), lo);
                hi = _mm256_fmadd_ps(sum, _mm256_loadu_ps(w->c + 16 * b + 8), hi);
            }
            accumulate(col[t].dst, lo, hi, col[t].d + b);
        }
    }
}

/* S32, S32M. The first term as an fma from +0 rounds as the product does. */
WK_INLINE void tile_s32(float *dst, size_t ld, const wk_panel *w, const wk_act *x, const int m,
                        int klen, const wk_width width, const bool mins) {
    column col[COLS];
    const int8_t *q[COLS];
    columns_of(col, q, dst, ld, x, m);
    for (int b = 0; b < klen / 256; b++) {
        values v;
        clear_values(&v, m);
        for (int j = 8 * b; j < 8 * b + 8; j++) {
            const uint8_t *code = w->code + 512 * j;
            const int k = 32 * j;
            sums s;
            if (width == WK_WIDTH_4)
                sum_fours(&s, code, q, k, NULL, 0, m);
            else if (width == WK_WIDTH_5)
                sum_fives(&s, code, q, k, m);
            else if (width == WK_WIDTH_8)
                sum_halves(&s, code, (const uint8_t *)w->f + 512 * j, q, k, x->z32 + j, x->ldb, m);
            else
                sum_signed(&s, code, q, k, m, 8);
            add_terms(&v, &s, w->s + 16 * j, m);
        }
        finish_256(&v, w, col, m, b, mins ? 32 : 0);
    }
}

/* S16. u: the activations + 128, for codes of 6 bits. */
WK_INLINE void tile_s16(float *dst, size_t ld, const wk_panel *w, const wk_act *x, const uint8_t *u,
                        size_t ldu, const int m, int klen) {
    column col[COLS];
    const int8_t *q[COLS];
    columns_of(col, q, dst, ld, x, m);
    for (int b = 0; b < klen / 256; b++) {
        values v;
        clear_values(&v, m);
        for (int j = 16 * b; j < 16 * b + 16; j++) {
            const uint8_t *code = w->code + 256 * j;
            sums s;
            if (u)
                sum_sixes(&s, code, (const int32_t *)(const void *)w->c + 16 * j, u + 16 * j, ldu, m);
            else
                sum_signed(&s, code, q, 16 * j, m, 4);
            add_terms(&v, &s, w->s + 16 * j, m);
        }
        finish_256(&v, w, col, m, b, 0);
    }
}

/* i -= 4 * sum of sc_j * (sum of codes j): takes the zero point out of a whole block. */
WK_INLINE void drop_zero(sums *i, const int16_t *sc, const column *col, const int m, int b) {
    min_pairs p;
    min_pairs_of(&p, sc, 8);
    V_UNROLL
    for (int t = 0; t < m; t++) {
        const rows_int s = sum_pairs(&p, col[t].s16 + 16 * b, 8);
        i->i[2 * t] = _mm256_sub_epi32(i->i[2 * t], _mm256_slli_epi32(s.lo, 2));
        i->i[2 * t + 1] = _mm256_sub_epi32(i->i[2 * t + 1], _mm256_slli_epi32(s.hi, 2));
    }
}

/* W256: codes 0..7, 4 too many (Q3_K, TQ). W256M: 0..3 (Q2_K). */
WK_INLINE void tile_whole(float *dst, size_t ld, const wk_panel *w, const wk_act *x, const int m,
                          int klen, const bool mins) {
    column col[COLS];
    const int8_t *q[COLS];
    columns_of(col, q, dst, ld, x, m);
    for (int b = 0; b < klen / 256; b++) {
        sums i;
        values v;
        v_start(i.i, m);
        clear_values(&v, m);
        for (int k = 256 * b; k < 256 * b + 256; k += 16) {
            __m256i a[V_SUMS];
            v_start(a, m);
            lines(a, w->code + 16 * k, q, k, m, 4);
            v_sums(i.i, a, twice(w->sc + k), twice(w->sc + k + 8), true, m);
        }
        if (!mins) drop_zero(&i, w->sc + 256 * b, col, m, b);
        add_terms(&v, &i, w->s + 16 * b, m);
        finish_256(&v, w, col, m, b, mins ? 16 : 0);
    }
}

/* ---- calls ---- */

/* m tokens, 6, 4, 2 or 1: as many as a tile takes at once. 6 fill all registers, which pays where one set of int16
 * sums is all (Q4_0 121 to 126 GMAC/s); where sums of a sub-block wait for others they would go through memory (Q8_0
 * 64 to 54, Q4_K 130 to 121). */
static int count_of(int left, int cols) {
    return left >= cols ? cols : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}
#define BY_COUNT(m, body)                                                                          \
    switch (m) {                                                                                   \
    case 1: body(1); break;                                                                        \
    case 2: body(2); break;                                                                        \
    default: body(4); break;                                                                       \
    }

#define TILE(name, ...)                                                                            \
    static void name(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen) { \
        BY_COUNT(m, __VA_ARGS__)                                                                   \
    }
#define TILE_6(name, body)                                                                         \
    static void name(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen) { \
        if (m == 6) {                                                                              \
            body(6);                                                                               \
            return;                                                                                \
        }                                                                                          \
        BY_COUNT(m, body)                                                                          \
    }
#define B32_4(m) tile_block(dst, ld, w, x, m, klen, WK_WIDTH_4, false)
#define B32_5(m) tile_block(dst, ld, w, x, m, klen, WK_WIDTH_5, false)
#define B32_8(m) tile_block(dst, ld, w, x, m, klen, WK_WIDTH_8, false)
#define B32M_4(m) tile_block(dst, ld, w, x, m, klen, WK_WIDTH_4, true)
#define B32M_5(m) tile_block(dst, ld, w, x, m, klen, WK_WIDTH_5, true)
#define S32_8(m) tile_s32(dst, ld, w, x, m, klen, WK_WIDTH_8, false)
#define S32_SIGNED(m) tile_s32(dst, ld, w, x, m, klen, WK_WIDTH_SIGNED, false)
#define S32M_4(m) tile_s32(dst, ld, w, x, m, klen, WK_WIDTH_4, true)
#define S32M_5(m) tile_s32(dst, ld, w, x, m, klen, WK_WIDTH_5, true)
#define S16_SIGNED(m) tile_s16(dst, ld, w, x, NULL, 0, m, klen)
#define W256_3(m) tile_whole(dst, ld, w, x, m, klen, false)
#define W256M_2(m) tile_whole(dst, ld, w, x, m, klen, true)
TILE_6(b32_4, B32_4)
TILE(b32_5, B32_5)
TILE(b32_8, B32_8)
TILE_6(b32m_4, B32M_4)
TILE(b32m_5, B32M_5)
TILE(s32_8, S32_8)
TILE(s32_signed, S32_SIGNED)
TILE(s32m_4, S32M_4)
TILE(s32m_5, S32M_5)
TILE(s16_signed, S16_SIGNED)
TILE(w256_3, W256_3)
TILE(w256m_2, W256M_2)

/* Activations + 128. */
#define S16_6(m) tile_s16(dst, ld, w, x, u, WK_KC, m, klen)
static void s16_6(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen) {
    WK_ALIGNED(32) uint8_t u[COLS_4 * WK_KC];
    const __m256i sign = _mm256_set1_epi8((char)0x80);
    assert(klen <= WK_KC);
    for (int t = 0; t < m; t++)
        for (int k = 0; k < klen; k += 32)
            v_put(u + t * WK_KC + k, _mm256_xor_si256(v_int(x->q + (size_t)t * x->ld + k), sign));
    BY_COUNT(m, S16_6)
}

typedef void tile_fn(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen);

/* m tokens in groups. */
static void run(tile_fn *tile, int cols, float *dst, size_t ld, const wk_panel *w, const wk_act *x,
                int m, int klen, bool first) {
    if (first) clear(dst, ld, m);
    for (int t = 0, n; t < m; t += n) {
        const wk_act at = wk_act_at(x, WK_X_A256, t, 0);
        n = count_of(m - t, cols);
        tile(dst + (size_t)t * ld, ld, w, &at, n, klen);
    }
}

/* tile_4: for codes of 4 bits. Kinds that have none do not write that width (and W256, W256M none at all). */
#define GEMM(name, cols_4, tile_4, tile_else)                                                      \
    void wk_gemm_##name##_16x4_avx2(float *dst, size_t ld, const wk_panel *w, int np,              \
                                    const wk_act *x, int m, int klen, bool first) {                \
        const wk_width width = wk_width_of(w);                                                     \
        const bool is_4 = width == WK_WIDTH_4;                                                     \
        assert(np == 1);                                                                           \
        (void)np;                                                                                  \
        run(is_4 ? tile_4 : tile_else, is_4 ? cols_4 : COLS_4, dst, ld, w, x, m, klen, first);     \
    }
GEMM(b32, COLS, b32_4, width == WK_WIDTH_5 ? b32_5 : b32_8)
GEMM(b32m, COLS, b32m_4, b32m_5)
GEMM(s32, COLS_4, s32_8, width == WK_WIDTH_8 ? s32_8 : s32_signed)
GEMM(s32m, COLS_4, s32m_4, s32m_5)
GEMM(s16, COLS_4, s16_6, width == WK_WIDTH_6 ? s16_6 : s16_signed)
GEMM(w256, COLS_4, w256_3, w256_3)
GEMM(w256m, COLS_4, w256m_2, w256m_2)

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

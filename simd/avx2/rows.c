/* rows.c: norms, rope, element functions and reductions over f32 rows. */
#include <math.h>

#include "simd/avx2/avx2.h"
#include "simd/avx2/vec.h"

/* ---- sums over a row: 16 lanes, element i in lane i mod 16 ---- */

WK_INLINE __m256 add_one(__m256 p, __m256 x, bool squares) {
    return squares ? _mm256_fmadd_ps(x, x, p) : _mm256_add_ps(p, x);
}

/* Missing elements of the last 16 are +0 and change no lane. */
WK_INLINE float row_sum(const float *x, int n, bool squares) {
    __m256 lo = _mm256_setzero_ps(), hi = lo;
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        lo = add_one(lo, _mm256_loadu_ps(x + i), squares);
        hi = add_one(hi, _mm256_loadu_ps(x + i + 8), squares);
    }
    if (i < n) lo = add_one(lo, _mm256_maskload_ps(x + i, v_mask(n - i)), squares);
    if (i + 8 < n) hi = add_one(hi, _mm256_maskload_ps(x + i + 8, v_mask(n - i - 8)), squares);
    return v_tree(lo, hi);
}

float wk_sum_avx2(const float *x, int n) { return row_sum(x, n, false); }

void wk_rms_avx2(float *dst, float *r_out, const float *x, const float *w, int n, float eps) {
    const float ss = row_sum(x, n, true);
    const bool finite = (wk_f32_bits(ss) & 0x7f800000u) != 0x7f800000u;
    const float r = finite ? 1.0f / sqrtf(ss / (float)n + eps) : wk_f32_from_bits(0x7fc00000u);
    const __m256 r8 = _mm256_set1_ps(r);
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + i), r8);
        _mm256_storeu_ps(dst + i, _mm256_mul_ps(y, _mm256_loadu_ps(w + i)));
    }
    for (; i < n; i++) dst[i] = x[i] * r * w[i];
    if (r_out) *r_out = r;
}

/* ---- rope ---- */

static void rope_halves(float *x, const float *c, const float *s, int half) {
    float *y = x + half;
    int i = 0;
    for (; i + 8 <= half; i += 8) {
        const __m256 c8 = _mm256_loadu_ps(c + i), s8 = _mm256_loadu_ps(s + i);
        const __m256 x0 = _mm256_loadu_ps(x + i), x1 = _mm256_loadu_ps(y + i);
        _mm256_storeu_ps(x + i, _mm256_fmsub_ps(x0, c8, _mm256_mul_ps(x1, s8)));
        _mm256_storeu_ps(y + i, _mm256_fmadd_ps(x0, s8, _mm256_mul_ps(x1, c8)));
    }
    for (; i < half; i++) {
        const float x0 = x[i], x1 = y[i], t = x1 * s[i], u = x1 * c[i];
        x[i] = fmaf(x0, c[i], -t);
        y[i] = fmaf(x0, s[i], u);
    }
}

/* Even lanes fma(x0, c, -x1*s), odd lanes fma(x0, s, x1*c): one fmaddsub. */
static void rope_neighbours(float *x, const float *c, const float *s, int half) {
    int i = 0;
    for (; i + 4 <= half; i += 4) {
        const __m128 c4 = _mm_loadu_ps(c + i), s4 = _mm_loadu_ps(s + i);
        const __m256 cs = _mm256_set_m128(_mm_unpackhi_ps(c4, s4), _mm_unpacklo_ps(c4, s4));
        const __m256 sc = _mm256_permute_ps(cs, 0xb1);
        const __m256 v = _mm256_loadu_ps(x + 2 * i);
        const __m256 t = _mm256_mul_ps(_mm256_movehdup_ps(v), sc);
        _mm256_storeu_ps(x + 2 * i, _mm256_fmaddsub_ps(_mm256_moveldup_ps(v), cs, t));
    }
    for (; i < half; i++) {
        const float x0 = x[2 * i], x1 = x[2 * i + 1], t = x1 * s[i], u = x1 * c[i];
        x[2 * i] = fmaf(x0, c[i], -t);
        x[2 * i + 1] = fmaf(x0, s[i], u);
    }
}

void wk_rope_halves_avx2(float *x, const float *cs, int n_head, int hd, int n_rot) {
    const int half = n_rot / 2;
    for (int h = 0; h < n_head; h++) rope_halves(x + (size_t)h * (size_t)hd, cs, cs + half, half);
}

void wk_rope_neighbours_avx2(float *x, const float *cs, int n_head, int hd, int n_rot) {
    const int half = n_rot / 2;
    for (int h = 0; h < n_head; h++) {
        rope_neighbours(x + (size_t)h * (size_t)hd, cs, cs + half, half);
    }
}

/* ---- element functions ---- */

typedef enum row_fn { ROW_SILU, ROW_GELU, ROW_ADD, ROW_SCALE, ROW_FMA, ROW_SOFTCAP, ROW_EXP } row_fn;

WK_INLINE __m256 gelu8(__m256 x) {
    const __m256 a = _mm256_set1_ps(WK_GELU_A), b = _mm256_set1_ps(WK_GELU_B);
    return v_gate(x, _mm256_mul_ps(x, _mm256_fmadd_ps(_mm256_mul_ps(x, x), a, b)));
}

WK_INLINE __m256 row_fn8(row_fn f, __m256 a, __m256 b, __m256 c0, __m256 c1) {
    if (f == ROW_SILU) return _mm256_mul_ps(v_gate(a, a), b);
    if (f == ROW_GELU) return _mm256_mul_ps(gelu8(a), b);
    if (f == ROW_ADD) return _mm256_add_ps(a, b);
    if (f == ROW_SCALE) return _mm256_mul_ps(c0, a);
    if (f == ROW_FMA) return _mm256_fmadd_ps(c0, b, a);
    if (f == ROW_SOFTCAP) return _mm256_mul_ps(c0, v_tanh(_mm256_mul_ps(a, c1)));
    return v_exp(_mm256_mul_ps(_mm256_sub_ps(a, c0), c1));
}

/* dst = f(a, b; c0, c1); b is a again where f has one operand. The tail runs masked, on zeros. */
WK_INLINE void row_map(row_fn f, float *dst, const float *a, const float *b, float c0, float c1,
                       int n) {
    const __m256 k0 = _mm256_set1_ps(c0), k1 = _mm256_set1_ps(c1);
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 va = _mm256_loadu_ps(a + i), vb = _mm256_loadu_ps(b + i);
        _mm256_storeu_ps(dst + i, row_fn8(f, va, vb, k0, k1));
    }
    if (i == n) return;
    const __m256i mask = v_mask(n - i);
    const __m256 va = _mm256_maskload_ps(a + i, mask), vb = _mm256_maskload_ps(b + i, mask);
    _mm256_maskstore_ps(dst + i, mask, row_fn8(f, va, vb, k0, k1));
}

void wk_glu_silu_avx2(float *dst, const float *gate, const float *up, int n) {
    row_map(ROW_SILU, dst, gate, up, 0.0f, 0.0f, n);
}
void wk_glu_gelu_tanh_avx2(float *dst, const float *gate, const float *up, int n) {
    row_map(ROW_GELU, dst, gate, up, 0.0f, 0.0f, n);
}
void wk_add_avx2(float *dst, const float *a, const float *b, int n) {
    row_map(ROW_ADD, dst, a, b, 0.0f, 0.0f, n);
}
void wk_scale_avx2(float *dst, const float *x, float c, int n) {
    row_map(ROW_SCALE, dst, x, x, c, 0.0f, n);
}
void wk_fma_avx2(float *dst, const float *y, const float *x, float c, int n) {
    row_map(ROW_FMA, dst, y, x, c, 0.0f, n);
}
void wk_softcap_avx2(float *dst, const float *x, float c, float c_inv, int n) {
    row_map(ROW_SOFTCAP, dst, x, x, c, c_inv, n);
}
void wk_exp_scaled_avx2(float *dst, const float *x, float max, float c, int n) {
    row_map(ROW_EXP, dst, x, x, max, c, n);
}

/* ---- argmax ---- */

/* max_ps(x, m) is x > m ? x : m, which skips NaN. The first equal element is the lowest index. */
int wk_argmax_avx2(const float *x, int n) {
    __m256 m8 = _mm256_set1_ps(wk_f32_from_bits(0xff800000u));
    int i = 0;
    for (; i + 8 <= n; i += 8) m8 = _mm256_max_ps(_mm256_loadu_ps(x + i), m8);
    float lane[8], best;
    _mm256_storeu_ps(lane, m8);
    best = lane[0];
    for (int l = 1; l < 8; l++) best = lane[l] > best ? lane[l] : best;
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    const __m256 b8 = _mm256_set1_ps(best);
    for (i = 0; i + 8 <= n; i += 8) {
        const int hit = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), b8, _CMP_EQ_OQ));
        if (hit) return i + __builtin_ctz((unsigned)hit);
    }
    for (; i < n; i++) {
        if (x[i] == best) return i;
    }
    return -1;
}

/* ---- casts to the cache type ---- */

/* Halves whose exponent is all ones become +0. Returns how many of the 8 there were. */
WK_INLINE int drop_nonfinite16(__m128i *h, short exponent) {
    const __m128i e = _mm_set1_epi16(exponent);
    const __m128i bad = _mm_cmpeq_epi16(_mm_and_si128(*h, e), e);
    *h = _mm_andnot_si128(bad, *h);
    return __builtin_popcount((unsigned)_mm_movemask_epi8(bad)) / 2;
}

int wk_kv_cast_f16_avx2(void *dst, const float *x, int n) {
    wk_f16 *d = dst;
    int bad = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        bad += drop_nonfinite16(&h, 0x7c00);
        _mm_storeu_si128((__m128i *)(d + i), h);
    }
    for (; i < n; i++) {
        const wk_f16 h = wk_f32_to_f16(x[i]);
        const bool is_bad = (h & 0x7c00) == 0x7c00;
        d[i] = is_bad ? 0 : h;
        bad += is_bad;
    }
    return bad;
}

/* Not finite is dropped by the exponent, so the rounding add may spoil a NaN first: it is tested. */
WK_INLINE __m128i round_bf16(__m256i u) {
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i e = _mm256_set1_epi32(0x7f800000);
    const __m256i special = _mm256_cmpeq_epi32(_mm256_and_si256(u, e), e);
    const __m256i v = _mm256_srli_epi32(_mm256_blendv_epi8(r, e, special), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
    return _mm256_castsi256_si128(packed);
}

int wk_kv_cast_bf16_avx2(void *dst, const float *x, int n) {
    wk_bf16 *d = dst;
    int bad = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = round_bf16(v_int(x + i));
        bad += drop_nonfinite16(&h, 0x7f80);
        _mm_storeu_si128((__m128i *)(d + i), h);
    }
    for (; i < n; i++) {
        const wk_bf16 h = wk_f32_to_bf16(x[i]);
        const bool is_bad = (h & 0x7f80) == 0x7f80;
        d[i] = is_bad ? 0 : h;
        bad += is_bad;
    }
    return bad;
}

int wk_kv_cast_f32_avx2(void *dst, const float *x, int n) {
    const __m256i e = _mm256_set1_epi32(0x7f800000);
    float *d = dst;
    int bad = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i v = v_int(x + i);
        const __m256i special = _mm256_cmpeq_epi32(_mm256_and_si256(v, e), e);
        bad += __builtin_popcount((unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(special)));
        v_put(d + i, _mm256_andnot_si256(special, v));
    }
    for (; i < n; i++) {
        const bool is_bad = (wk_f32_bits(x[i]) & 0x7f800000u) == 0x7f800000u;
        d[i] = is_bad ? 0.0f : x[i];
        bad += is_bad;
    }
    return bad;
}

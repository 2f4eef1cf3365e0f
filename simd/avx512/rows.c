/* rows.c: norms, rope, glu, element functions, sums, rounding to the cache types. */
#include <math.h>

#include "simd/avx512/avx512.h"
#include "simd/avx512/vec512.h"

/* Calls BODY with i and mask over 16 values at a time; the last may be partial. */
#define EACH16(i, n, mask, BODY)                                                                   \
    do {                                                                                           \
        int i = 0;                                                                                 \
        for (; i + 16 <= (n); i += 16) {                                                           \
            const __mmask16 mask = 0xffff;                                                         \
            BODY                                                                                   \
        }                                                                                          \
        if (i < (n)) {                                                                             \
            const __mmask16 mask = wk_lanes((n) - i);                                              \
            BODY                                                                                   \
        }                                                                                          \
    } while (0)
#define LOAD(p) _mm512_maskz_loadu_ps(mask, (p) + i)
#define STORE(p, v) _mm512_mask_storeu_ps((p) + i, mask, v)

void wk_rms_avx512(float *dst, float *r_out, const float *x, const float *w, int n, float eps) {
    __m512 p = _mm512_setzero_ps();
    EACH16(i, n, mask, {
        const __m512 v = LOAD(x);
        p = _mm512_mask3_fmadd_ps(v, v, p, mask);
    });
    const float ss = wk_tree512(p);
    const float r = wk_f32_bits(ss) < 0x7f800000u ? 1.0f / sqrtf(ss / (float)n + eps)
                                                  : wk_f32_from_bits(0x7fc00000u);
    const __m512 rv = _mm512_set1_ps(r);
    EACH16(i, n, mask, { STORE(dst, _mm512_mul_ps(_mm512_mul_ps(LOAD(x), rv), LOAD(w))); });
    if (r_out) *r_out = r;
}

void wk_rope_halves_avx512(float *x, const float *cs, int n_head, int hd, int n_rot) {
    const int half = n_rot / 2;
    for (int h = 0; h < n_head; h++, x += hd) {
        EACH16(i, half, mask, {
            const __m512 x0 = LOAD(x);
            const __m512 x1 = LOAD(x + half);
            const __m512 c = LOAD(cs);
            const __m512 s = LOAD(cs + half);
            STORE(x, _mm512_fmsub_ps(x0, c, _mm512_mul_ps(x1, s)));
            STORE(x + half, _mm512_fmadd_ps(x0, s, _mm512_mul_ps(x1, c)));
        });
    }
}

void wk_rope_neighbours_avx512(float *x, const float *cs, int n_head, int hd, int n_rot) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    const __m512i lo = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i hi = _mm512_add_epi32(lo, _mm512_set1_epi32(8));
    const int half = n_rot / 2;
    for (int h = 0; h < n_head; h++, x += hd) {
        EACH16(i, half, mask, {
            const int left = half - i < 16 ? 2 * (half - i) : 32;
            const __mmask16 m0 = wk_lanes(left < 16 ? left : 16);
            const __mmask16 m1 = wk_lanes(left < 16 ? 0 : left - 16);
            const __m512 a = _mm512_maskz_loadu_ps(m0, x + 2 * i);
            const __m512 b = m1 ? _mm512_maskz_loadu_ps(m1, x + 2 * i + 16) : a;
            const __m512 x0 = _mm512_permutex2var_ps(a, even, b);
            const __m512 x1 = _mm512_permutex2var_ps(a, odd, b);
            const __m512 c = LOAD(cs);
            const __m512 s = LOAD(cs + half);
            const __m512 y0 = _mm512_fmsub_ps(x0, c, _mm512_mul_ps(x1, s));
            const __m512 y1 = _mm512_fmadd_ps(x0, s, _mm512_mul_ps(x1, c));
            _mm512_mask_storeu_ps(x + 2 * i, m0, _mm512_permutex2var_ps(y0, lo, y1));
            if (m1) _mm512_mask_storeu_ps(x + 2 * i + 16, m1, _mm512_permutex2var_ps(y0, hi, y1));
        });
    }
}

void wk_glu_silu_avx512(float *dst, const float *gate, const float *up, int n) {
    const __m512 one = _mm512_set1_ps(1.0f);
    EACH16(i, n, mask, {
        const __m512 g = LOAD(gate);
        const __m512 y = _mm512_div_ps(g, _mm512_add_ps(one, wk_exp512(wk_neg512(g))));
        STORE(dst, _mm512_mul_ps(y, LOAD(up)));
    });
}

void wk_glu_gelu_tanh_avx512(float *dst, const float *gate, const float *up, int n) {
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 a = _mm512_set1_ps(WK_GELU_A), b = _mm512_set1_ps(WK_GELU_B);
    EACH16(i, n, mask, {
        const __m512 g = LOAD(gate);
        const __m512 z = _mm512_mul_ps(g, _mm512_fmadd_ps(_mm512_mul_ps(g, g), a, b));
        const __m512 y = _mm512_div_ps(g, _mm512_add_ps(one, wk_exp512(wk_neg512(z))));
        STORE(dst, _mm512_mul_ps(y, LOAD(up)));
    });
}

void wk_add_avx512(float *dst, const float *a, const float *b, int n) {
    EACH16(i, n, mask, { STORE(dst, _mm512_add_ps(LOAD(a), LOAD(b))); });
}

void wk_scale_avx512(float *dst, const float *x, float c, int n) {
    const __m512 cv = _mm512_set1_ps(c);
    EACH16(i, n, mask, { STORE(dst, _mm512_mul_ps(cv, LOAD(x))); });
}

void wk_fma_avx512(float *dst, const float *y, const float *x, float c, int n) {
    const __m512 cv = _mm512_set1_ps(c);
    EACH16(i, n, mask, { STORE(dst, _mm512_fmadd_ps(cv, LOAD(x), LOAD(y))); });
}

void wk_softcap_avx512(float *dst, const float *x, float c, float c_inv, int n) {
    const __m512 cv = _mm512_set1_ps(c), iv = _mm512_set1_ps(c_inv);
    EACH16(i, n, mask, {
        STORE(dst, _mm512_mul_ps(cv, wk_tanh512(_mm512_mul_ps(LOAD(x), iv))));
    });
}

void wk_exp_scaled_avx512(float *dst, const float *x, float max, float c, int n) {
    const __m512 mv = _mm512_set1_ps(max), cv = _mm512_set1_ps(c);
    EACH16(i, n, mask, {
        STORE(dst, wk_exp512(_mm512_mul_ps(_mm512_sub_ps(LOAD(x), mv), cv)));
    });
}

float wk_sum_avx512(const float *x, int n) {
    __m512 p = _mm512_setzero_ps();
    EACH16(i, n, mask, { p = _mm512_mask_add_ps(p, mask, p, LOAD(x)); });
    return wk_tree512(p);
}

/* Two passes: the largest value, then its first place. max(x, best) keeps best where x is NaN. */
int wk_argmax_avx512(const float *x, int n) {
    const float low = wk_f32_from_bits(0xff800000u);
    __m512 b0 = _mm512_set1_ps(low), b1 = b0;
    int i = 0;
    for (; i + 32 <= n; i += 32) {
        b0 = _mm512_max_ps(_mm512_loadu_ps(x + i), b0);
        b1 = _mm512_max_ps(_mm512_loadu_ps(x + i + 16), b1);
    }
    for (; i < n; i += 16) {
        const __mmask16 mask = n - i < 16 ? wk_lanes(n - i) : 0xffff;
        b0 = _mm512_max_ps(_mm512_mask_loadu_ps(b1, mask, x + i), b0);
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(b0, b1)));
    for (i = 0; i < n; i += 16) {
        const __mmask16 mask = n - i < 16 ? wk_lanes(n - i) : 0xffff;
        const __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        const unsigned hit = _mm512_mask_cmp_ps_mask(mask, v, top, _CMP_EQ_OQ);
        if (hit) return i + __builtin_ctz(hit);
    }
    return -1;
}

int wk_kv_cast_f16_avx512(void *dst, const float *x, int n) {
    wk_f16 *d = dst;
    int bad = 0;
    EACH16(i, n, mask, {
        const __m256i h = _mm512_maskz_cvtps_ph(mask, LOAD(x), _MM_FROUND_TO_NEAREST_INT);
        const __m256i e = _mm256_set1_epi16(0x7c00);
        const __mmask16 inf = _mm256_cmpeq_epi16_mask(_mm256_and_si256(h, e), e);
        bad += __builtin_popcount(inf);
        _mm256_mask_storeu_epi16(d + i, mask, _mm256_maskz_mov_epi16((__mmask16)~inf, h));
    });
    return bad;
}

int wk_kv_cast_bf16_avx512(void *dst, const float *x, int n) {
    wk_bf16 *d = dst;
    const __m512i one = _mm512_set1_epi32(1), e = _mm512_set1_epi32(0x7f80);
    int bad = 0;
    EACH16(i, n, mask, {
        const __m512 v = LOAD(x);
        const __m512i u = _mm512_castps_si512(v);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
        const __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd));
        const __m512i h = _mm512_srli_epi32(r, 16);
        const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        const __mmask16 inf = _mm512_cmpeq_epi32_mask(_mm512_and_si512(h, e), e);
        const __mmask16 out = (__mmask16)(nan | inf);
        bad += __builtin_popcount(out);
        const __m256i y = _mm512_cvtepi32_epi16(_mm512_maskz_mov_epi32((__mmask16)~out, h));
        _mm256_mask_storeu_epi16(d + i, mask, y);
    });
    return bad;
}

int wk_kv_cast_f32_avx512(void *dst, const float *x, int n) {
    float *d = dst;
    const __m512i e = _mm512_set1_epi32(0x7f800000);
    int bad = 0;
    EACH16(i, n, mask, {
        const __m512 v = LOAD(x);
        const __m512i u = _mm512_and_si512(_mm512_castps_si512(v), e);
        const __mmask16 out = _mm512_cmpeq_epi32_mask(u, e);
        bad += __builtin_popcount(out);
        STORE(d, _mm512_maskz_mov_ps((__mmask16)~out, v));
    });
    return bad;
}

/* quant.c: activations to int8 by DESIGN 9.3. */
#include <math.h>

#include "simd/avx512/avx512.h"
#include "simd/avx512/vec512.h"
#include "simd/ref/kv_q8.h"

WK_INLINE __m512i abs_bits(const float *x) {
    return _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/* Scale of a block whose largest |x| has these bits; *inv = 0 means that all codes are 0. */
WK_INLINE float block_scale(uint32_t amax, float *inv) {
    *inv = 0.0f;
    if (WK_UNLIKELY(amax >= 0x7f800000u)) return wk_f32_from_bits(0x7fc00000u);
    const float a = wk_f32_from_bits(amax);
    if (a < WK_QUANT_TINY) return 0.0f;
    *inv = 127.0f / a;
    return a * WK_QUANT_STEP;
}

/* 16 codes, their sum. */
WK_INLINE int codes16(int8_t *q, const float *x, __m512 inv) {
    const __m512i i = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), inv));
    const __m128i c = _mm512_cvtepi32_epi8(i);
    _mm_storeu_si128((__m128i *)q, c);
    const __m128i u = _mm_xor_si128(c, _mm_set1_epi8(-128));
    const __m128i s = _mm_sad_epu8(u, _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_unpackhi_epi64(s, s))) - 16 * 128;
}

void wk_quant_a32_avx512(wk_act *dst, int t, const float *x, int k) {
    int8_t *q = dst->q + (size_t)t * dst->ld;
    const size_t b0 = (size_t)t * dst->ldb;
    for (int b = 0; b < k / 32; b++, x += 32, q += 32) {
        float inv;
        const __m512i m = _mm512_max_epu32(abs_bits(x), abs_bits(x + 16));
        dst->d[b0 + (size_t)b] = block_scale(_mm512_reduce_max_epu32(m), &inv);
        int sum = 0;
        if (inv > 0.0f) {
            const __m512 v = _mm512_set1_ps(inv);
            sum = codes16(q, x, v);
            sum += codes16(q + 16, x + 16, v);
        } else {
            memset(q, 0, 32);
        }
        dst->z32[b0 + (size_t)b] = -128 * sum;
        dst->f32s[b0 + (size_t)b] = (float)sum;
    }
}

void wk_quant_a256_avx512(wk_act *dst, int t, const float *x, int k) {
    int8_t *q = dst->q + (size_t)t * dst->ld;
    const size_t b0 = (size_t)t * dst->ldb;
    int32_t *z32 = dst->z32 + b0, *z16 = dst->z16 + 2 * b0;
    int16_t *s32 = dst->s32 + b0, *s16 = dst->s16 + 2 * b0;
    for (int b = 0; b < k / 256; b++, x += 256, q += 256) {
        float inv;
        __m512i m = abs_bits(x), n = abs_bits(x + 16);
        for (int i = 32; i < 256; i += 32) {
            m = _mm512_max_epu32(m, abs_bits(x + i));
            n = _mm512_max_epu32(n, abs_bits(x + i + 16));
        }
        dst->d[b0 + (size_t)b] = block_scale(_mm512_reduce_max_epu32(_mm512_max_epu32(m, n)), &inv);
        const __m512 v = _mm512_set1_ps(inv);
        if (!(inv > 0.0f)) memset(q, 0, 256);
        for (int i = 0; i < 8; i++) {
            int lo = 0, hi = 0;
            if (inv > 0.0f) {
                lo = codes16(q + 32 * i, x + 32 * i, v);
                hi = codes16(q + 32 * i + 16, x + 32 * i + 16, v);
            }
            *s16++ = (int16_t)lo;
            *s16++ = (int16_t)hi;
            *s32++ = (int16_t)(lo + hi);
            *z16++ = -128 * lo;
            *z16++ = -128 * hi;
            *z32++ = -128 * (lo + hi);
        }
    }
}

int wk_kv_cast_q8_0_avx512(void *dst, const float *x, int n) {
    return wk_kv_cast_q8(wk_quant_a32_avx512, dst, x, n);
}

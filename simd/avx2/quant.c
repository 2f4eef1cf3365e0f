/* quant.c: the activation quantiser, A32 and A256. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/vec.h"
#include "simd/ref/kv_q8.h"

/* What turns a block into codes: q = rint(x * inv), d its scale. inv = 0: all codes are 0. */
typedef struct block_scale {
    float d, inv;
} block_scale;

/* Unsigned maximum of bits & 0x7fffffff over n values, n % 32 == 0: sign bits are off, so signed. */
static uint32_t amax_bits(const float *x, int n) {
    const __m256i size = _mm256_set1_epi32(0x7fffffff);
    __m256i m0 = _mm256_setzero_si256(), m1 = m0;
    for (int i = 0; i < n; i += 16) {
        m0 = _mm256_max_epi32(m0, _mm256_and_si256(size, v_int(x + i)));
        m1 = _mm256_max_epi32(m1, _mm256_and_si256(size, v_int(x + i + 8)));
    }
    return (uint32_t)v_max_i32(_mm256_max_epi32(m0, m1));
}

static block_scale scale_of(uint32_t bits) {
    const float amax = wk_f32_from_bits(bits);
    if (bits >= 0x7f800000u) return (block_scale){wk_f32_from_bits(0x7fc00000u), 0.0f};
    if (amax < WK_QUANT_TINY) return (block_scale){0.0f, 0.0f};
    return (block_scale){amax * WK_QUANT_STEP, 127.0f / amax};
}

WK_INLINE __m256i codes8(const float *x, __m256 inv) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inv));
}

/* 32 codes in order. Not computed where all are 0: x * 0 may be NaN. */
WK_INLINE __m256i codes32(const float *x, float inv) {
    if (!(inv > 0.0f)) return _mm256_setzero_si256();
    const __m256 f = _mm256_set1_ps(inv);
    const __m256i a = _mm256_packs_epi32(codes8(x, f), codes8(x + 8, f));
    const __m256i b = _mm256_packs_epi32(codes8(x + 16, f), codes8(x + 24, f));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
}

/* Sums of codes 0..15 and 16..31. */
WK_INLINE void sums16(int32_t *s, __m256i q) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    __m256i v = v_wide(pairs);
    v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0x4e));
    v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0xb1));
    s[0] = _mm256_extract_epi32(v, 0);
    s[1] = _mm256_extract_epi32(v, 4);
}

void wk_quant_a32_avx2(wk_act *dst, int t, const float *x, int k) {
    const size_t row = (size_t)t * dst->ldb;
    int8_t *q = dst->q + (size_t)t * dst->ld;
    for (int b = 0; b < k / 32; b++) {
        const block_scale s = scale_of(amax_bits(x + 32 * b, 32));
        const __m256i v = codes32(x + 32 * b, s.inv);
        int32_t sum[2];
        sums16(sum, v);
        v_put(q + 32 * b, v);
        dst->d[row + (size_t)b] = s.d;
        dst->z32[row + (size_t)b] = -128 * (sum[0] + sum[1]);
        dst->f32s[row + (size_t)b] = (float)(sum[0] + sum[1]);
    }
}

void wk_quant_a256_avx2(wk_act *dst, int t, const float *x, int k) {
    const size_t row = (size_t)t * dst->ldb;
    int8_t *q = dst->q + (size_t)t * dst->ld;
    block_scale s = {0.0f, 0.0f};
    for (int b = 0; b < k / 32; b++) {
        if (b % 8 == 0) {
            s = scale_of(amax_bits(x + 32 * b, 256));
            dst->d[row + (size_t)(b / 8)] = s.d;
        }
        const __m256i v = codes32(x + 32 * b, s.inv);
        const size_t i = row + (size_t)b;
        int32_t sum[2];
        sums16(sum, v);
        v_put(q + 32 * b, v);
        dst->z32[i] = -128 * (sum[0] + sum[1]);
        dst->s32[i] = (int16_t)(sum[0] + sum[1]);
        for (size_t h = 0; h < 2; h++) {
            dst->z16[2 * i + h] = -128 * sum[h];
            dst->s16[2 * i + h] = (int16_t)sum[h];
        }
    }
}

int wk_kv_cast_q8_0_avx2(void *dst, const float *x, int n) {
    return wk_kv_cast_q8(wk_quant_a32_avx2, dst, x, n);
}

/* peak.c: yardstick of the level: vpmaddubsw with vpaddw, and vfmadd231ps of 256 bits.
 *
 * Sixteen registers hold 14 sums of f32 and two operands; the cores that have AVX2 need 8 to 10 for full speed. The
 * products of int8 do not wait for each other, only their sums do, one cycle each: four operands give four different
 * products, remade in every round. */
#include <immintrin.h>

#include "simd/avx2/avx2.h"
#include "simd/peak.h"

enum { F32_CHAINS = 14, I8_SUMS = 8, I8_LANES = 32, F32_LANES = 8 };

uint64_t wk_peak_i8_avx2(uint64_t n) {
    __m256i acc[I8_SUMS], u[2] = {_mm256_set1_epi8(1), _mm256_set1_epi8(2)},
                          q[2] = {_mm256_set1_epi8(3), _mm256_set1_epi8(-4)};
    WK_EACH(i, I8_SUMS) {
        acc[i] = _mm256_setzero_si256();
        WK_OPAQUE(acc[i]);
    }
    for (uint64_t round = 0; round < n; round++) {
        WK_EACH(half, 2) {
            WK_OPAQUE(u[0]);
            WK_OPAQUE(u[1]);
            WK_EACH(i, 4) {
                const __m256i product = _mm256_maddubs_epi16(u[i & 1], q[i >> 1]);
                acc[4 * half + i] = _mm256_add_epi16(acc[4 * half + i], product);
            }
        }
    }
    WK_EACH(i, I8_SUMS) WK_OPAQUE(acc[i]);
    return n * I8_SUMS * I8_LANES;
}

uint64_t wk_peak_f32_avx2(uint64_t n) {
    __m256 acc[F32_CHAINS];
    __m256 w = _mm256_set1_ps(0.5f), x = _mm256_set1_ps(1.0f);
    WK_OPAQUE(w);
    WK_OPAQUE(x);
    WK_PEAK_RUN(acc, F32_CHAINS, _mm256_setzero_ps(), n, acc[i] = _mm256_fmadd_ps(w, x, acc[i]));
    return n * F32_CHAINS * F32_LANES;
}

uint64_t wk_read_avx2(const void *p, size_t n) {
    const __m256i *b = p;
    __m256i acc[8];
    WK_EACH(i, 8) acc[i] = _mm256_setzero_si256();
    for (size_t at = 0; at < n / 32; at += 8) {
        WK_EACH(i, 8) acc[i] = _mm256_xor_si256(acc[i], _mm256_load_si256(b + at + i));
    }
    WK_EACH(i, 7) acc[0] = _mm256_xor_si256(acc[0], acc[i + 1]);
    const __m128i half = _mm_xor_si128(_mm256_castsi256_si128(acc[0]), _mm256_extracti128_si256(acc[0], 1));
    return (uint64_t)_mm_cvtsi128_si64(half) ^ (uint64_t)_mm_extract_epi64(half, 1);
}

/* peak.c: yardsticks of the level: vfmadd231ps and loads of 512 bits. Integer products are those of the level below. */
#include "simd/avx512/avx512.h"
#include "simd/avx512/vec512.h"
#include "simd/peak.h"

enum { CHAINS = 24, LANES = 16 };

uint64_t wk_peak_f32_avx512(uint64_t n) {
    __m512 acc[CHAINS];
    __m512 w = _mm512_set1_ps(0.5f), x = _mm512_set1_ps(1.0f);
    WK_OPAQUE(w);
    WK_OPAQUE(x);
    WK_PEAK_RUN(acc, CHAINS, _mm512_setzero_ps(), n, acc[i] = _mm512_fmadd_ps(w, x, acc[i]));
    return n * CHAINS * LANES;
}

uint64_t wk_read_avx512(const void *p, size_t n) {
    const uint8_t *b = p;
    __m512i acc[8];
    WK_EACH(i, 8) acc[i] = _mm512_setzero_si512();
    for (size_t at = 0; at < n; at += 512) {
        wk_ahead(b + at, 512);
        WK_EACH(i, 8) acc[i] = _mm512_xor_si512(acc[i], _mm512_load_si512(b + at + 64 * i));
    }
    WK_EACH(i, 7) acc[0] = _mm512_xor_si512(acc[0], acc[i + 1]);
    return (uint64_t)_mm512_reduce_add_epi64(acc[0]);
}

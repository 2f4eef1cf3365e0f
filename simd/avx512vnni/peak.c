/* peak.c: yardstick of the level: vpdpbusd of 512 bits. */
#include "simd/avx512/vec512.h"
#include "simd/avx512vnni/avx512vnni.h"
#include "simd/peak.h"

enum { CHAINS = 24, LANES = 64 };

uint64_t wk_peak_i8_avx512vnni(uint64_t n) {
    __m512i acc[CHAINS];
    __m512i w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(-4);
    WK_OPAQUE(w);
    WK_OPAQUE(x);
    WK_PEAK_RUN(acc, CHAINS, _mm512_setzero_si512(), n, acc[i] = _mm512_dpbusd_epi32(acc[i], w, x));
    return n * CHAINS * LANES;
}

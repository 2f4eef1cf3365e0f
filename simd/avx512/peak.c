/* peak.c: yardstick of the level: vfmadd231ps of 512 bits. Integer products are those of the level below. */
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

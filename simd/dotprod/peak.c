/* peak.c: yardstick of the level: sdot. */
#include <arm_neon.h>

#include "simd/dotprod/dotprod.h"
#include "simd/peak.h"

enum { CHAINS = 24, LANES = 16 };

uint64_t wk_peak_i8_dotprod(uint64_t n) {
    int32x4_t acc[CHAINS];
    int8x16_t w = vdupq_n_s8(3), x = vdupq_n_s8(-4);
    WK_OPAQUE(w);
    WK_OPAQUE(x);
    WK_PEAK_RUN(acc, CHAINS, vdupq_n_s32(0), n, acc[i] = vdotq_s32(acc[i], w, x));
    return n * CHAINS * LANES;
}

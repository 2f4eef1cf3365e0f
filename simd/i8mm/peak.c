/* peak.c: yardstick of the level: smmla, 32 products each. */
#include <arm_neon.h>

#include "simd/i8mm/i8mm.h"
#include "simd/peak.h"

enum { CHAINS = 24, PRODUCTS = 32 };

uint64_t wk_peak_i8_i8mm(uint64_t n) {
    int32x4_t acc[CHAINS];
    const int8x16_t w = vdupq_n_s8(3), x = vdupq_n_s8(-4);
    WK_PEAK_RUN(acc, CHAINS, vdupq_n_s32(0), n, acc[i] = vmmlaq_s32(acc[i], w, x));
    return n * CHAINS * PRODUCTS;
}

/* peak.c: yardstick of the level: smlal of int8 to int16, fmla of 128 bits. */
#include <arm_neon.h>

#include "simd/neon/neon.h"
#include "simd/peak.h"

enum { CHAINS = 24, I8_LANES = 8, F32_LANES = 4 };

uint64_t wk_peak_i8_neon(uint64_t n) {
    int16x8_t acc[CHAINS];
    int8x8_t w = vdup_n_s8(3), x = vdup_n_s8(-4);
    WK_OPAQUE(w);
    WK_OPAQUE(x);
    WK_PEAK_RUN(acc, CHAINS, vdupq_n_s16(0), n, acc[i] = vmlal_s8(acc[i], w, x));
    return n * CHAINS * I8_LANES;
}

uint64_t wk_peak_f32_neon(uint64_t n) {
    float32x4_t acc[CHAINS];
    float32x4_t w = vdupq_n_f32(0.5f), x = vdupq_n_f32(1.0f);
    WK_OPAQUE(w);
    WK_OPAQUE(x);
    WK_PEAK_RUN(acc, CHAINS, vdupq_n_f32(0.0f), n, acc[i] = vfmaq_f32(acc[i], w, x));
    return n * CHAINS * F32_LANES;
}

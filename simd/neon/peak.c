/* peak.c: yardstick of the level: smlal of int8 to int16, fmla and loads of 128 bits. */
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

uint64_t wk_read_neon(const void *p, size_t n) {
    const uint64_t *b = p;
    uint64x2_t acc[16];
    WK_EACH(i, 16) acc[i] = vdupq_n_u64(0);
    for (size_t at = 0; at < n / 8; at += 32) {
        WK_EACH(i, 16) acc[i] = veorq_u64(acc[i], vld1q_u64(b + at + 2 * i));
    }
    WK_EACH(i, 15) acc[0] = veorq_u64(acc[0], acc[i + 1]);
    return vgetq_lane_u64(acc[0], 0) ^ vgetq_lane_u64(acc[0], 1);
}

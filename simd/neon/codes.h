/* codes.h: packed bits to codes, 16 bytes (4 rows x 4 k) at a time; shared by expand and gemv.
 *
 * The lines of the packed formats are written down in simd/format.h. */
#ifndef WK_NEON_CODES_H
#define WK_NEON_CODES_H

#include "simd/neon/vec.h"

/* Register i of a line. */
WK_INLINE uint8x16_t v_part(const uint8_t *line, int i) { return vld1q_u8(line + 16 * i); }
WK_INLINE uint8x16_t v_low4(uint8x16_t v) { return vandq_u8(v, vdupq_n_u8(15)); }
WK_INLINE uint8x16_t v_high4(uint8x16_t v) { return vshrq_n_u8(v, 4); }
/* Unsigned codes minus their zero point. */
WK_INLINE int8x16_t v_less(uint8x16_t v, int zero) {
    return vreinterpretq_s8_u8(vsubq_u8(v, vdupq_n_u8((uint8_t)zero)));
}
/* Bit `bit` of each byte as `value`, or 0. */
WK_INLINE uint8x16_t v_bit(uint8x16_t h, int bit, int value) {
    return vandq_u8(vtstq_u8(h, vdupq_n_u8((uint8_t)(1 << bit))), vdupq_n_u8((uint8_t)value));
}
/* The low nibble with the fifth bit from h, the high one likewise. */
WK_INLINE uint8x16_t v_five_low(uint8x16_t v, uint8x16_t h, int bit) {
    return vorrq_u8(v_low4(v), v_bit(h, bit, 16));
}
WK_INLINE uint8x16_t v_five_high(uint8x16_t v, uint8x16_t h, int bit) {
    return vorrq_u8(v_high4(v), v_bit(h, bit, 16));
}
/* Two bits of h, from bit 2j on, moved to bits 4 and 5. */
WK_INLINE uint8x16_t v_top2(uint8x16_t h, int j) {
    const uint8x16_t v = vshlq_u8(h, vdupq_n_s8((int8_t)(4 - 2 * j)));
    return vandq_u8(v, vdupq_n_u8(0x30));
}
/* Q8_0 is stored as code + 128. */
WK_INLINE int8x16_t v_byte(uint8x16_t v) {
    return vreinterpretq_s8_u8(veorq_u8(v, vdupq_n_u8(0x80)));
}
/* The 16 values of IQ4_NL. */
WK_INLINE int8x16_t v_iq4_table(void) {
    static const int8_t value[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
    return vld1q_s8(value);
}

/* The 8 scales and 8 mins of Q4_K and Q5_K, [8][16] bytes each, out of their 12 planes. */
typedef struct k4_scales {
    int8_t sc[128], mn[128];
} k4_scales;

WK_INLINE void k4_scales_of(k4_scales *s, const uint8_t *planes) {
    const uint8x16_t six = vdupq_n_u8(63), top = vdupq_n_u8(0x30);
    for (int i = 0; i < 64; i += 16) { /* one plane at a time: j = 0..3, and j + 4 */
        const uint8x16_t a = vld1q_u8(planes + i), b = vld1q_u8(planes + 64 + i);
        const uint8x16_t c = vld1q_u8(planes + 128 + i);
        const uint8x16_t a_high = vandq_u8(vshrq_n_u8(a, 2), top), b_high = vandq_u8(vshrq_n_u8(b, 2), top);
        vst1q_s8(s->sc + i, vreinterpretq_s8_u8(vandq_u8(a, six)));
        vst1q_s8(s->mn + i, vreinterpretq_s8_u8(vandq_u8(b, six)));
        vst1q_s8(s->sc + 64 + i, vreinterpretq_s8_u8(vorrq_u8(v_low4(c), a_high)));
        vst1q_s8(s->mn + 64 + i, vreinterpretq_s8_u8(vorrq_u8(v_high4(c), b_high)));
    }
}

/* M: sum over 8 sub-blocks of min * (sum of codes). */
WK_INLINE v16i k4_mins(const int8_t *mn, const int16_t *s) {
    v16i m = v16i_zero();
    for (int j = 0; j < 8; j++) {
        const int8x16_t v = vld1q_s8(mn + 16 * j);
        const int16x8_t lo = vmovl_s8(vget_low_s8(v)), hi = vmovl_high_s8(v);
        m.a = vmlal_n_s16(m.a, vget_low_s16(lo), s[j]);
        m.b = vmlal_high_n_s16(m.b, lo, s[j]);
        m.c = vmlal_n_s16(m.c, vget_low_s16(hi), s[j]);
        m.d = vmlal_high_n_s16(m.d, hi, s[j]);
    }
    return m;
}

#endif

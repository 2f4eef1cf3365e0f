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
/* The 16 values of MXFP4, doubled. */
WK_INLINE int8x16_t v_mxfp4_table(void) {
    static const int8_t value[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    return vld1q_s8(value);
}
/* Two bits of v, from bit 2j on. */
WK_INLINE uint8x16_t v_two(uint8x16_t v, int j) {
    return vandq_u8(vshlq_u8(v, vdupq_n_s8((int8_t)(-2 * j))), vdupq_n_u8(3));
}

/* 2^(e - 128) of 16 exponents; the lowest two are denormal. */
WK_INLINE uint32x4_t v_e8m0_bits(uint32x4_t e) {
    const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
    const uint32x4_t denormal = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e));
    return vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), denormal, normal);
}
WK_INLINE v16 v16_e8m0_half(const uint8_t *p) {
    const uint8x16_t v = vld1q_u8(p);
    const uint16x8_t lo = vmovl_u8(vget_low_u8(v)), hi = vmovl_high_u8(v);
    return (v16){vreinterpretq_f32_u32(v_e8m0_bits(vmovl_u16(vget_low_u16(lo)))),
                 vreinterpretq_f32_u32(v_e8m0_bits(vmovl_high_u16(lo))),
                 vreinterpretq_f32_u32(v_e8m0_bits(vmovl_u16(vget_low_u16(hi)))),
                 vreinterpretq_f32_u32(v_e8m0_bits(vmovl_high_u16(hi)))};
}

/* The 8 scales of IQ4_XS, [8][16]: p has the high halfwords, then four planes of nibbles. */
WK_INLINE void xs_scales_of(int8_t *sc, const uint8_t *p) {
    const uint8x16_t a = vld1q_u8(p), b = vld1q_u8(p + 16);
    const uint8x16_t first = vuzp1q_u8(a, b), second = vuzp2q_u8(a, b);
    for (int j = 0; j < 8; j += 2) {
        const uint8x16_t v = vld1q_u8(p + 32 + 8 * j), h = j < 4 ? first : second;
        vst1q_s8(sc + 16 * j, v_less(vorrq_u8(v_low4(v), v_top2(h, j % 4)), 32));
        vst1q_s8(sc + 16 * j + 16, v_less(vorrq_u8(v_high4(v), v_top2(h, j % 4 + 1)), 32));
    }
}

WK_INLINE void put_wide(int16_t *dst, int8x16_t v) {
    vst1q_s16(dst, vmovl_s8(vget_low_s8(v)));
    vst1q_s16(dst + 8, vmovl_high_s8(v));
}
/* The 16 scales of Q3_K, [16][16], out of 8 planes of nibbles and 4 of two bits. */
WK_INLINE void k3_scales_of(int16_t *sc, const uint8_t *planes) {
    for (int j = 0; j < 16; j++) {
        const uint8x16_t v = vld1q_u8(planes + j % 8 * 16), h = vld1q_u8(planes + 128 + j % 4 * 16);
        put_wide(sc + 16 * j, v_less(vorrq_u8(j < 8 ? v_low4(v) : v_high4(v), v_top2(h, j / 4)), 32));
    }
}
/* The 16 scales and 16 mins of Q2_K, [16][16]. */
WK_INLINE void k2_scales_of(int16_t *sc, int16_t *mn, const uint8_t *planes) {
    for (int j = 0; j < 256; j += 16) {
        const uint8x16_t v = vld1q_u8(planes + j);
        put_wide(sc + j, vreinterpretq_s8_u8(v_low4(v)));
        put_wide(mn + j, vreinterpretq_s8_u8(v_high4(v)));
    }
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

/* expand_tq.c: TQ1_0 and TQ2_0 to signed codes, the inside of a panel as ref has it; 1 as every integer scale. */
#include "simd/neon/codes.h"
#include "simd/neon/neon.h"

/* v >= least, unsigned: 255 or 0. */
WK_INLINE uint8x16_t at_least(uint8x16_t v, int least) { return vcgeq_u8(v, vdupq_n_u8((uint8_t)least)); }

/* n lines of packed bytes: digit i (0..4) of each to n lines of codes. A byte is a fraction of 256 in base 3: times 3
 * drops a digit, and the next one is its third of 0..255. Returns the codes behind. */
WK_INLINE uint8_t *put_digits(uint8_t *code, const uint8_t *qs, int n, int n_digit) {
    for (int g = 0; g < 4 * n; g++) {
        uint8x16_t v = vld1q_u8(qs + 16 * g);
        for (int i = 0; i < n_digit; i++) {
            const uint8x16_t least = vsubq_u8(vdupq_n_u8(255), at_least(v, 86));
            vst1q_u8(code + WK_LINE * n * i + 16 * g, vsubq_u8(least, at_least(v, 171)));
            v = vmulq_u8(v, vdupq_n_u8(3));
        }
    }
    return code + WK_LINE * n * n_digit;
}

WK_INLINE void block_tq1_0(uint8_t *code, const uint8_t *qs) {
    code = put_digits(code, qs, 8, 5);
    code = put_digits(code, qs + 512, 4, 5);
    put_digits(code, qs + 768, 1, 4);
}

/* Bits as Q2_K. */
WK_INLINE void block_tq2_0(uint8_t *code, const uint8_t *qs) {
    for (int j = 0; j < 8; j++, code += 512) {
        for (int i = 0; i < 512; i += 16) {
            const uint8x16_t v = v_two(vld1q_u8(qs + j / 4 * 512 + i), j % 4);
            vst1q_u8(code + i, vsubq_u8(v, vdupq_n_u8(1)));
        }
    }
}

#define EXPAND(name)                                                                               \
    void wk_expand_##name##_neon(wk_panel *dst, const void *w, int k0, int klen) {                 \
        const size_t bytes = 16 * sizeof(wk_block_##name);                                         \
        const uint8_t *b = (const uint8_t *)w + (size_t)(k0 / 256) * bytes;                        \
        for (int i = 0; i < klen; i += 8) vst1q_s16(dst->sc + i, vdupq_n_s16(1));                  \
        for (int i = 0; i < klen / 256; i++, b += bytes) {                                         \
            v16_store(dst->s + 16 * i, v16_f16(b));                                                \
            block_##name(dst->code + 4096 * i, b + 32);                                            \
        }                                                                                          \
    }
EXPAND(tq1_0)
EXPAND(tq2_0)

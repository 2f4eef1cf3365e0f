/* iq.h: the IQ2 and IQ3 formats: 8 values share a sign byte and one entry (IQ2) or two (IQ3) of a code book.
 *
 * Every such block begins with d, and a panel keeps the order of the file's fields in dwords. So the same
 * functions read both: byte i of the field at offset `at` of the block lies
 *   in the file (n = 1)     at  at + i
 *   in a panel (n = 16)     at  16 * at + i / 4 * 64 + i % 4, counted from the lane's dword of the block
 * <format>_codes gives the 8 signed codes of group i (0..31), <format>_scale the factor of sub-block j: halves
 * and quarters, so that d * scale is exact. */
#ifndef WK_IQ_H
#define WK_IQ_H

#include "engine/base/attr.h"
#include "simd/quant/quant.h"

/* Code books, packed: see make_grid.py. 64-byte aligned. */
extern const uint16_t wk_grid_iq2_xxs[256], wk_grid_iq2_xs[512], wk_grid_iq2_s[1024];
extern const uint16_t wk_grid_iq3_xxs[256], wk_grid_iq3_s[512];

/* 8 numbers of 2 bits to the magnitudes 8, 25, 43. No sum leaves its byte. */
static inline uint64_t wk_grid_8(uint32_t packed) {
    const uint64_t one = 0x0101010101010101u;
    uint64_t x = packed;
    x = (x | x << 24) & 0x000000ff000000ffu;
    x = (x | x << 12) & 0x000f000f000f000fu;
    x = (x | x << 6) & 0x0303030303030303u;
    return 8 * one + 17 * (x & one) + 35 * (x >> 1 & one);
}

/* 4 nibbles, one a byte. */
static inline uint32_t wk_grid_4(uint32_t packed) {
    const uint32_t x = (packed | packed << 8) & 0x00ff00ffu;
    return (x | x << 4) & 0x0f0f0f0fu;
}
/* 4, 12, .. 52, and 62. */
static inline uint32_t wk_grid_4_xxs(uint32_t packed) {
    const uint32_t x = wk_grid_4(packed);
    return 0x04040404u + 8 * x + 2 * (x & x >> 1 & x >> 2 & 0x01010101u);
}
/* 1, 3, .. 15. */
static inline uint32_t wk_grid_4_s(uint32_t packed) { return 0x01010101u + 2 * wk_grid_4(packed); }

/* Byte i negated where bit i of sign stands; magnitudes are never 0. */
static inline uint64_t wk_signed_8(uint64_t x, uint32_t sign) {
    const uint64_t one = 0x0101010101010101u;
    const uint64_t bit = (sign * one) & 0x8040201008040201u;
    const uint64_t minus = ((bit + 0x7f * one) >> 7) & one;
    return (x ^ minus * 255) + minus;
}
/* Seven signs; the eighth makes their number even. */
static inline uint32_t wk_sign_7(uint32_t s) {
    s &= 127;
    return s | ((0x6996u >> ((s ^ s >> 4) & 15)) & 1) << 7;
}

WK_INLINE uint32_t wk_iq_byte(const uint8_t *p, int n, size_t at, int i) {
    return p[(size_t)n * at + (size_t)(i / 4 * 4 * n + i % 4)];
}
WK_INLINE uint32_t wk_iq_word(const uint8_t *p, int n, size_t at, int i) {
    uint32_t v;
    memcpy(&v, p + (size_t)n * (at + 4 * (size_t)i), 4);
    return v;
}
/* Nibble j of the scales at offset `at`. */
WK_INLINE uint32_t wk_iq_nibble(const uint8_t *p, int n, size_t at, int j) {
    return wk_iq_byte(p, n, at, j / 2) >> (4 * (j % 2)) & 15;
}

/* 4 entries, then a dword with 4 x 7 signs and a scale, for every 32. */
WK_INLINE uint64_t wk_iq2_xxs_codes(const uint8_t *p, int n, int i) {
    const size_t qs = offsetof(wk_block_iq2_xxs, qs);
    const uint32_t entry = wk_iq_byte(p, n, qs, i / 4 * 8 + i % 4);
    const uint32_t sign = wk_iq_word(p, n, qs, i / 4 * 2 + 1) >> (7 * (i % 4));
    return wk_signed_8(wk_grid_8(wk_grid_iq2_xxs[entry]), wk_sign_7(sign));
}
WK_INLINE float wk_iq2_xxs_scale(const uint8_t *p, int n, int j) {
    const uint32_t word = wk_iq_word(p, n, offsetof(wk_block_iq2_xxs, qs), 2 * j + 1);
    return ((float)(word >> 28) + 0.5f) * 0.25f;
}

/* 9 bits of entry and 7 signs for every 8, a scale for every 16. */
WK_INLINE uint64_t wk_iq2_xs_codes(const uint8_t *p, int n, int i) {
    const size_t qs = offsetof(wk_block_iq2_xs, qs);
    const uint32_t v = wk_iq_byte(p, n, qs, 2 * i) | wk_iq_byte(p, n, qs, 2 * i + 1) << 8;
    return wk_signed_8(wk_grid_8(wk_grid_iq2_xs[v & 511]), wk_sign_7(v >> 9));
}
WK_INLINE float wk_iq2_xs_scale(const uint8_t *p, int n, int j) {
    return ((float)wk_iq_nibble(p, n, offsetof(wk_block_iq2_xs, scales), j) + 0.5f) * 0.25f;
}

/* 10 bits of entry, two of them in qh, and 8 signs for every 8, a scale for every 16. */
WK_INLINE uint64_t wk_iq2_s_codes(const uint8_t *p, int n, int i) {
    const uint32_t high = wk_iq_byte(p, n, offsetof(wk_block_iq2_s, qh), i / 4) >> (2 * (i % 4)) & 3;
    const uint32_t entry = wk_iq_byte(p, n, offsetof(wk_block_iq2_s, qs), i) | high << 8;
    const uint32_t sign = wk_iq_byte(p, n, offsetof(wk_block_iq2_s, signs), i);
    return wk_signed_8(wk_grid_8(wk_grid_iq2_s[entry]), sign);
}
WK_INLINE float wk_iq2_s_scale(const uint8_t *p, int n, int j) {
    return ((float)wk_iq_nibble(p, n, offsetof(wk_block_iq2_s, scales), j) + 0.5f) * 0.25f;
}

/* 2 entries for every 8; behind them a dword with 4 x 7 signs and a scale for every 32. */
WK_INLINE uint64_t wk_iq3_xxs_codes(const uint8_t *p, int n, int i) {
    const size_t qs = offsetof(wk_block_iq3_xxs, qs);
    const uint32_t low = wk_grid_4_xxs(wk_grid_iq3_xxs[wk_iq_byte(p, n, qs, 2 * i)]);
    const uint32_t high = wk_grid_4_xxs(wk_grid_iq3_xxs[wk_iq_byte(p, n, qs, 2 * i + 1)]);
    const uint32_t sign = wk_iq_word(p, n, offsetof(wk_block_iq3_xxs, signs), i / 4) >> (7 * (i % 4));
    return wk_signed_8(low | (uint64_t)high << 32, wk_sign_7(sign));
}
WK_INLINE float wk_iq3_xxs_scale(const uint8_t *p, int n, int j) {
    const uint32_t word = wk_iq_word(p, n, offsetof(wk_block_iq3_xxs, signs), j);
    return ((float)(word >> 28) + 0.5f) * 0.5f;
}

/* 2 entries of 9 bits, the ninth in qh, and 8 signs for every 8, a scale for every 32. */
WK_INLINE uint64_t wk_iq3_s_codes(const uint8_t *p, int n, int i) {
    const size_t qs = offsetof(wk_block_iq3_s, qs);
    const uint32_t ninth = wk_iq_byte(p, n, offsetof(wk_block_iq3_s, qh), i / 4) >> (2 * (i % 4));
    const uint32_t a = wk_iq_byte(p, n, qs, 2 * i) | (ninth & 1) << 8;
    const uint32_t b = wk_iq_byte(p, n, qs, 2 * i + 1) | (ninth & 2) << 7;
    const uint64_t high = wk_grid_4_s(wk_grid_iq3_s[b]);
    const uint32_t sign = wk_iq_byte(p, n, offsetof(wk_block_iq3_s, signs), i);
    return wk_signed_8(wk_grid_4_s(wk_grid_iq3_s[a]) | high << 32, sign);
}
WK_INLINE float wk_iq3_s_scale(const uint8_t *p, int n, int j) {
    return (float)(1 + 2 * wk_iq_nibble(p, n, offsetof(wk_block_iq3_s, scales), j));
}

/* A file row: value = (d * scale) * code; n_sub scales a block. */
typedef uint64_t wk_iq_codes(const uint8_t *p, int n, int i);
typedef float wk_iq_scale(const uint8_t *p, int n, int j);

WK_INLINE void wk_iq_decode(float *dst, const uint8_t *p, int k, size_t bytes, wk_iq_codes *codes,
                            wk_iq_scale *scale, int n_sub) {
    for (int k0 = 0; k0 < k; k0 += 256, p += bytes) {
        wk_f16 h;
        memcpy(&h, p, 2);
        const float d = wk_f16_to_f32(h);
        for (int i = 0; i < 32; i++, dst += 8) {
            int8_t code[8];
            const uint64_t v = codes(p, 1, i);
            const float s = d * scale(p, 1, i * n_sub / 32);
            memcpy(code, &v, 8);
            for (int e = 0; e < 8; e++) dst[e] = s * (float)code[e];
        }
    }
}

#endif

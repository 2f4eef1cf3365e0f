/* expand_iq.c: the IQ2 and IQ3 formats to signed codes, the inside of a panel as ref has it. First the indices of a
 * whole block, two to the dword of a row; then its entries of the code book one by one, in their place; then codes and
 * signs, 4 rows at a time. Apart, since a vector that is loaded just after its parts were stored waits for them.
 * Fields of a panel: simd/quant/iq.h. */
#include "simd/neon/codes.h"
#include "simd/neon/neon.h"
#include "simd/quant/iq.h"

enum { PAIRS = 32 }; /* entries of a line: two for each of 16 rows */

/* Field at offset `at` of the file's block b. */
#define FIELD(b, type, field) ((b) + 16 * offsetof(type, field))

/* Four bytes in every dword. */
WK_INLINE uint8x16_t bytes4(int a, int b, int c, int d) {
    const uint32_t v = (uint32_t)a | (uint32_t)b << 8 | (uint32_t)c << 16 | (uint32_t)d << 24;
    return vreinterpretq_u8_u32(vdupq_n_u32(v));
}
/* Bytes a, b, c, d of its dword in every dword; 0 where one is NONE. */
enum { NONE = 0x80 };
WK_INLINE uint8x16_t pick(uint8x16_t v, int a, int b, int c, int d) {
    static const uint32_t dword[4] = {0, 0x04040404, 0x08080808, 0x0c0c0c0c};
    return vqtbl1q_u8(v, vorrq_u8(vreinterpretq_u8_u32(vld1q_u32(dword)), bytes4(a, b, c, d)));
}
WK_INLINE uint32x4_t dwords(uint8x16_t v) { return vreinterpretq_u32_u8(v); }
WK_INLINE uint8x16_t load_entries(const uint16_t *e) { return vreinterpretq_u8_u16(vld1q_u16(e)); }
/* A dword of bytes shifted to the right. */
WK_INLINE uint32x4_t down(uint8x16_t v, int n) { return vshlq_u32(dwords(v), vdupq_n_s32(-n)); }
/* Two numbers of n bits, from bits `from` and from + n of every dword on, to bits 8 and 24. */
WK_INLINE uint8x16_t spread(uint32x4_t v, int from, int n) {
    const uint32x4_t mask = vdupq_n_u32((1u << n) - 1);
    const uint32x4_t low = vandq_u32(vshlq_u32(v, vdupq_n_s32(-from)), mask);
    const uint32x4_t high = vandq_u32(vshlq_u32(v, vdupq_n_s32(-from - n)), mask);
    return vreinterpretq_u8_u32(vorrq_u32(vshlq_n_u32(low, 8), vshlq_n_u32(high, 24)));
}
/* Indices out of bytes a and b of q. high: what each has from bit 8 on. */
WK_INLINE void put_index(uint16_t *e, uint8x16_t q, int a, int b, uint8x16_t high) {
    vst1q_u16(e, vreinterpretq_u16_u8(vorrq_u8(pick(q, a, NONE, b, NONE), high)));
}

/* Indices to entries. */
WK_INLINE void look_up(uint16_t *e, const uint16_t *book, int n) {
    for (int i = 0; i < n; i += 4) {
        uint64_t v;
        memcpy(&v, e + i, 8);
        e[i] = book[v & 0xffff];
        e[i + 1] = book[v >> 16 & 0xffff];
        e[i + 2] = book[v >> 32 & 0xffff];
        e[i + 3] = book[v >> 48];
    }
}

/* Codes in v are negated where the bit of nibble `half` of byte `at` of sign stands. */
WK_INLINE void put_signed(uint8_t *code, uint8x16_t v, uint8x16_t sign, int at, int half) {
    const uint8x16_t bit = half ? bytes4(16, 32, 64, 128) : bytes4(1, 2, 4, 8);
    const uint8x16_t minus = vtstq_u8(pick(sign, at, at, at, at), bit);
    vst1q_u8(code, vsubq_u8(veorq_u8(v, minus), minus));
}
/* Seven signs a byte; the eighth makes their number even. */
WK_INLINE uint8x16_t sign_8(uint8x16_t s) { return vorrq_u8(s, vshlq_n_u8(vcntq_u8(s), 7)); }
/* 4 x 7 signs of a dword. */
WK_INLINE uint8x16_t sign_28(uint8x16_t v) {
    const uint32x4_t w = dwords(v);
    const uint8x16_t a = vreinterpretq_u8_u32(vshlq_n_u32(w, 1)), b = vreinterpretq_u8_u32(vshlq_n_u32(w, 2));
    const uint8x16_t c = vreinterpretq_u8_u32(vshlq_n_u32(w, 3));
    const uint8x16_t low = vorrq_u8(vandq_u8(v, bytes4(0x7f, 0, 0, 0)), vandq_u8(a, bytes4(0, 0x7f, 0, 0)));
    const uint8x16_t high = vorrq_u8(vandq_u8(b, bytes4(0, 0, 0x7f, 0)), vandq_u8(c, bytes4(0, 0, 0, 0x7f)));
    return sign_8(vorrq_u8(low, high));
}

/* IQ2: 8 values of 4 rows; byte 2 * word of e is the entry of the first four, the next byte that of the others. */
WK_INLINE void put_8(uint8_t *code, uint8x16_t e, int word, uint8x16_t sign, int at) {
    static const uint8_t sizes[16] = {8, 25, 43};
    for (int half = 0; half < 2; half++) {
        const int byte = 2 * word + half;
        const int8x16_t by = vreinterpretq_s8_u8(bytes4(0, 0xfe, 0xfc, 0xfa)); /* -2, -4, -6 */
        const uint8x16_t v = vshlq_u8(pick(e, byte, byte, byte, byte), by);
        const uint8x16_t size = vqtbl1q_u8(vld1q_u8(sizes), vandq_u8(v, vdupq_n_u8(3)));
        put_signed(code + WK_LINE * half, size, sign, at, half);
    }
}
/* IQ2: 32 values of 4 rows, e: two lines of entries. Sign bytes lie in order, or 0, 2, 1, 3. */
WK_INLINE void put_iq2(uint8_t *code, const uint16_t *e, uint8x16_t sign, bool crossed) {
    const uint8x16_t a = load_entries(e), b = load_entries(e + PAIRS);
    put_8(code, a, 0, sign, 0);
    put_8(code + 128, a, 1, sign, crossed ? 2 : 1);
    put_8(code + 256, b, 0, sign, crossed ? 1 : 2);
    put_8(code + 384, b, 1, sign, 3);
}
/* IQ3: 32 values of 4 rows, e: four lines of entries, each of four nibbles. */
WK_INLINE void put_iq3(uint8_t *code, const uint16_t *e, uint8x16_t sizes, uint8x16_t sign) {
    const int8x16_t by = vreinterpretq_s8_u8(bytes4(0, 0xfc, 0, 0xfc)); /* -4 */
    for (int i = 0; i < 4; i++) {
        const uint8x16_t a = load_entries(e + PAIRS * i);
        for (int half = 0; half < 2; half++) {
            const uint8x16_t v = vshlq_u8(pick(a, 2 * half, 2 * half, 2 * half + 1, 2 * half + 1), by);
            put_signed(code + 128 * i + WK_LINE * half, vqtbl1q_u8(sizes, v_low4(v)), sign, i, half);
        }
    }
}

/* s = d * scale, 4 rows: (scale + 1/2) * unit, exact. */
WK_INLINE void put_half_scale(float *s, const float *d, uint32x4_t scale, float unit) {
    const float32x4_t v = vaddq_f32(vcvtq_f32_u32(scale), vdupq_n_f32(0.5f));
    vst1q_f32(s, vmulq_f32(vld1q_f32(d), vmulq_f32(v, vdupq_n_f32(unit))));
}
/* Nibble j of the scales that begin at p, 4 rows. */
WK_INLINE uint32x4_t nibble(const uint8_t *p, int j) {
    return vandq_u32(down(vld1q_u8(p + WK_LINE * (j / 8)), 4 * (j % 8)), vdupq_n_u32(15));
}
WK_INLINE void put_nibble_scales(float *s, const float *d, const uint8_t *p) {
    for (int i = 0; i < 64; i++) put_half_scale(s + 4 * i, d + 4 * (i % 4), nibble(p + 16 * (i % 4), i / 4), 0.25f);
}

/* Of 32 values each, 4 rows: where they begin in a field of 4 bytes a row, in their codes, in lines of indices. */
#define EACH_PART(i, j, h) for (int i = 0, j = 0, h = 0; i < 32; i++, j = i / 4, h = i % 4)

WK_INLINE void block_iq2_xxs(uint8_t *code, float *s, const float *d, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq2_xxs, qs);
    const uint8x16_t none = vdupq_n_u8(0);
    uint16_t e[16 * PAIRS];
    EACH_PART(i, j, h) {
        const uint8x16_t q = vld1q_u8(qs + 128 * j + 16 * h);
        put_index(e + 64 * j + 8 * h, q, 0, 1, none);
        put_index(e + 64 * j + 8 * h + PAIRS, q, 2, 3, none);
    }
    look_up(e, wk_grid_iq2_xxs, 16 * PAIRS);
    EACH_PART(i, j, h) {
        const uint8x16_t w = vld1q_u8(qs + 128 * j + WK_LINE + 16 * h);
        put_iq2(code + 512 * j + 16 * h, e + 64 * j + 8 * h, sign_28(w), false);
        put_half_scale(s + 4 * i, d + 4 * h, down(w, 28), 0.25f);
    }
}

WK_INLINE void block_iq2_xs(uint8_t *code, float *s, const float *d, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq2_xs, qs);
    uint16_t e[16 * PAIRS];
    put_nibble_scales(s, d, FIELD(b, wk_block_iq2_xs, scales));
    for (int i = 0; i < 16 * PAIRS; i += 8)
        vst1q_u16(e + i, vandq_u16(vreinterpretq_u16_u8(vld1q_u8(qs + 2 * i)), vdupq_n_u16(511)));
    look_up(e, wk_grid_iq2_xs, 16 * PAIRS);
    EACH_PART(i, j, h) {
        const uint16x8_t a = vreinterpretq_u16_u8(vld1q_u8(qs + 128 * j + 16 * h));
        const uint16x8_t c = vreinterpretq_u16_u8(vld1q_u8(qs + 128 * j + WK_LINE + 16 * h));
        const uint16x8_t sign = vsliq_n_u16(vshrq_n_u16(a, 9), vshrq_n_u16(c, 9), 8);
        put_iq2(code + 512 * j + 16 * h, e + 64 * j + 8 * h, sign_8(vreinterpretq_u8_u16(sign)), true);
    }
}

WK_INLINE void block_iq2_s(uint8_t *code, float *s, const float *d, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq2_s, qs), *qh = FIELD(b, wk_block_iq2_s, qh);
    const uint8_t *signs = FIELD(b, wk_block_iq2_s, signs);
    uint16_t e[16 * PAIRS];
    put_nibble_scales(s, d, FIELD(b, wk_block_iq2_s, scales));
    EACH_PART(i, j, h) {
        const uint8x16_t q = vld1q_u8(qs + 16 * i);
        const uint32x4_t top = down(vld1q_u8(qh + WK_LINE * (j / 4) + 16 * h), 8 * (j % 4));
        put_index(e + 64 * j + 8 * h, q, 0, 1, spread(top, 0, 2));
        put_index(e + 64 * j + 8 * h + PAIRS, q, 2, 3, spread(top, 4, 2));
    }
    look_up(e, wk_grid_iq2_s, 16 * PAIRS);
    EACH_PART(i, j, h) put_iq2(code + 512 * j + 16 * h, e + 64 * j + 8 * h, vld1q_u8(signs + 16 * i), false);
}

WK_INLINE void block_iq3_xxs(uint8_t *code, float *s, const float *d, const uint8_t *b) {
    static const uint8_t sizes[16] = {4, 12, 20, 28, 36, 44, 52, 62};
    const uint8_t *qs = FIELD(b, wk_block_iq3_xxs, qs), *signs = FIELD(b, wk_block_iq3_xxs, signs);
    const uint8x16_t none = vdupq_n_u8(0);
    uint16_t e[32 * PAIRS];
    for (int i = 0; i < 64; i++) { /* 16 values, 4 rows */
        const uint8x16_t q = vld1q_u8(qs + 16 * i);
        put_index(e + 64 * (i / 4) + 8 * (i % 4), q, 0, 1, none);
        put_index(e + 64 * (i / 4) + 8 * (i % 4) + PAIRS, q, 2, 3, none);
    }
    look_up(e, wk_grid_iq3_xxs, 32 * PAIRS);
    EACH_PART(i, j, h) {
        const uint8x16_t w = vld1q_u8(signs + 16 * i);
        put_iq3(code + 512 * j + 16 * h, e + 128 * j + 8 * h, vld1q_u8(sizes), sign_28(w));
        put_half_scale(s + 4 * i, d + 4 * h, down(w, 28), 0.5f);
    }
}

WK_INLINE void block_iq3_s(uint8_t *code, float *s, const float *d, const uint8_t *b) {
    static const uint8_t sizes[16] = {1, 3, 5, 7, 9, 11, 13, 15};
    const uint8_t *qs = FIELD(b, wk_block_iq3_s, qs), *qh = FIELD(b, wk_block_iq3_s, qh);
    const uint8_t *signs = FIELD(b, wk_block_iq3_s, signs), *scales = FIELD(b, wk_block_iq3_s, scales);
    uint16_t e[32 * PAIRS];
    EACH_PART(i, j, h) {
        const uint32x4_t ninth = down(vld1q_u8(qh + WK_LINE * (j / 4) + 16 * h), 8 * (j % 4));
        for (int g = 0; g < 4; g += 2) {
            const uint8x16_t q = vld1q_u8(qs + 128 * j + WK_LINE * (g / 2) + 16 * h);
            put_index(e + 128 * j + PAIRS * g + 8 * h, q, 0, 1, spread(ninth, 2 * g, 1));
            put_index(e + 128 * j + PAIRS * (g + 1) + 8 * h, q, 2, 3, spread(ninth, 2 * g + 2, 1));
        }
    }
    look_up(e, wk_grid_iq3_s, 32 * PAIRS);
    EACH_PART(i, j, h) {
        const uint32x4_t n = nibble(scales + 16 * h, j), scale = vaddq_u32(vaddq_u32(n, n), vdupq_n_u32(1));
        put_iq3(code + 512 * j + 16 * h, e + 128 * j + 8 * h, vld1q_u8(sizes), vld1q_u8(signs + 16 * i));
        vst1q_f32(s + 4 * i, vmulq_f32(vld1q_f32(d + 4 * h), vcvtq_f32_u32(scale)));
    }
}

#define EXPAND(name, n_sub)                                                                        \
    void wk_expand_##name##_neon(wk_panel *dst, const void *w, int k0, int klen) {                 \
        const size_t bytes = 16 * sizeof(wk_block_##name);                                         \
        const uint8_t *b = (const uint8_t *)w + (size_t)(k0 / 256) * bytes;                        \
        for (int i = 0; i < klen / 256; i++, b += bytes) {                                         \
            float d[16];                                                                           \
            v16_store(d, v16_f16(b));                                                              \
            block_##name(dst->code + 4096 * i, dst->s + 16 * (n_sub) * i, d, b);                   \
        }                                                                                          \
    }
EXPAND(iq2_xxs, 8)
EXPAND(iq2_xs, 16)
EXPAND(iq2_s, 16)
EXPAND(iq3_xxs, 8)
EXPAND(iq3_s, 8)

/* quant.h: what the files of simd/quant share: field layouts, the unpacking of scales, small tools.
 *
 * A format brings a layout (data), decode and perhaps encode; pack, unpack, decode_lane and find_nonfinite
 * are one routine each over the layout (simd/format.c). Names end in the id of formats.def, because the
 * table is generated from it. */
#ifndef WK_QUANT_H
#define WK_QUANT_H

#include <stdint.h>
#include <string.h>

#include "simd/format.h"

/* What pack does to a unit besides moving it. */
enum { WK_TURN_NONE, WK_TURN_SIGN, WK_TURN_QH };
/* What a unit must be: any bits, or a finite number. */
enum { WK_UNIT_BITS, WK_UNIT_F16, WK_UNIT_BF16, WK_UNIT_F32, WK_UNIT_E8M0 };

/* The largest e8m0 scale with which every e2m1 code is finite; 255 is NaN. */
enum { WK_E8M0_MAX = 252 };

enum { WK_FIELD_MAX = 5, WK_BLOCK_BYTES_MAX = 256 };

/* count units of unit bytes at byte `at` of a file block; packed as [count][16] units. */
typedef struct wk_field {
    uint8_t at, unit, count, turn, value;
} wk_field;

/* The fields of a block in the order in which a panel holds them. */
typedef struct wk_layout {
    int n_field;
    wk_field field[WK_FIELD_MAX];
} wk_layout;

#define WK_FIELD(type, name, unit, turn, value)                                                    \
    { offsetof(type, name), unit, sizeof(((type *)0)->name) / (unit), turn, value }
#define WK_FIELD_F16(type, name) WK_FIELD(type, name, 2, WK_TURN_NONE, WK_UNIT_F16)
#define WK_FIELD_CODES(type, name) WK_FIELD(type, name, 4, WK_TURN_NONE, WK_UNIT_BITS)
#define WK_FIELD_PLANES(type, name) WK_FIELD(type, name, 1, WK_TURN_NONE, WK_UNIT_BITS)

#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note)                                   \
    extern const wk_layout wk_layout_##id;                                                         \
    void wk_decode_##id(float *dst, const void *row, int k);
#include "simd/formats.def"
#undef WK_FORMAT

/* Layout of a format: for tests that must know where the scales stand. */
const wk_layout *wk_format_layout(int fmt);

void wk_encode_F32(void *row, const float *x, int k);
void wk_encode_F16(void *row, const float *x, int k);
void wk_encode_BF16(void *row, const float *x, int k);
void wk_encode_Q4_0(void *row, const float *x, int k);
void wk_encode_Q4_1(void *row, const float *x, int k);
void wk_encode_Q5_0(void *row, const float *x, int k);
void wk_encode_Q5_1(void *row, const float *x, int k);
void wk_encode_Q8_0(void *row, const float *x, int k);
void wk_encode_Q2_K(void *row, const float *x, int k);
void wk_encode_Q3_K(void *row, const float *x, int k);
void wk_encode_Q4_K(void *row, const float *x, int k);
void wk_encode_Q5_K(void *row, const float *x, int k);
void wk_encode_Q6_K(void *row, const float *x, int k);
void wk_encode_MXFP4(void *row, const float *x, int k);

/* The 16 values of the 4-bit table formats. */
extern const int8_t wk_iq4_code[16];
/* The 16 codes of MXFP4: twice the e2m1 numbers. */
extern const int8_t wk_mxfp4_code[16];

/* 2^(e - 128): half of the e8m0 scale, for codes that are doubled. The lowest two are denormal. */
static inline float wk_e8m0_half(uint8_t e) {
    return wk_f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* Digit i (0..4) of a byte of TQ1_0 minus 1: the byte is a fraction of 256 in base 3, rounded up. */
static inline int wk_tq1_digit(uint8_t v, int i) {
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    return ((uint8_t)(v * power[i]) * 3 >> 8) - 1;
}

/* Bit 4j + b of a fifth-bit dword to bit 8b + j: a rotation of the five index bits, made of four swaps of
 * two index bits each. */
static inline uint32_t wk_bits_swap(uint32_t x, uint32_t mask, int shift) {
    const uint32_t t = ((x >> shift) ^ x) & mask;
    return x ^ t ^ (t << shift);
}
static inline uint32_t wk_qh_pack(uint32_t x) {
    x = wk_bits_swap(x, 0x0000ccccu, 14);
    x = wk_bits_swap(x, 0x00aa00aau, 7);
    x = wk_bits_swap(x, 0x0c0c0c0cu, 2);
    return wk_bits_swap(x, 0x22222222u, 1);
}
static inline uint32_t wk_qh_unpack(uint32_t x) {
    x = wk_bits_swap(x, 0x22222222u, 1);
    x = wk_bits_swap(x, 0x0c0c0c0cu, 2);
    x = wk_bits_swap(x, 0x00aa00aau, 7);
    return wk_bits_swap(x, 0x0000ccccu, 14);
}

/* 6-bit scale and min j (0..7) of Q4_K and Q5_K; the 12 bytes lie `step` apart (1 in a file block, 16 in a
 * panel). */
static inline int wk_k4_scale(const uint8_t *s, int step, int j) {
    if (j < 4) return s[j * step] & 63;
    return (s[(j + 4) * step] & 15) | ((s[(j - 4) * step] >> 6) << 4);
}
static inline int wk_k4_min(const uint8_t *s, int step, int j) {
    if (j < 4) return s[(j + 4) * step] & 63;
    return (s[(j + 4) * step] >> 4) | ((s[j * step] >> 6) << 4);
}
/* Signed 6-bit scale j (0..15) of Q3_K. */
static inline int wk_k3_scale(const uint8_t *s, int step, int j) {
    const int low = j < 8 ? s[j * step] & 15 : s[(j - 8) * step] >> 4;
    return (low | (((s[(8 + (j & 3)) * step] >> (2 * (j >> 2))) & 3) << 4)) - 32;
}
/* Signed 6-bit scale j (0..7) of IQ4_XS. */
static inline int wk_iq4_xs_scale(const uint8_t *low, int step, unsigned high, int j) {
    const int l = (low[j / 2 * step] >> (4 * (j & 1))) & 15;
    return (int)((unsigned)l | ((high >> (2 * j)) & 3u) << 4) - 32;
}

/* Towards zero, held to lo..hi; NaN gives lo. */
static inline int wk_encode_clamp(float v, int lo, int hi) {
    if (!(v > (float)lo)) return lo;
    return v >= (float)hi ? hi : (int)v;
}

/* Value of largest magnitude of 32, with its sign; the first one on ties. */
static inline float wk_encode_extreme(const float *x) {
    float best = 0.0f, amax = 0.0f;
    for (int i = 0; i < 32; i++) {
        const float a = x[i] < 0.0f ? -x[i] : x[i];
        if (a > amax) {
            amax = a;
            best = x[i];
        }
    }
    return best;
}

/* Smallest and largest of 32. */
static inline void wk_encode_range(float *min, float *max, const float *x) {
    *min = *max = x[0];
    for (int i = 1; i < 32; i++) {
        if (x[i] < *min) *min = x[i];
        if (x[i] > *max) *max = x[i];
    }
}

#endif

/* mxfp4.c: 32 values, value = 2^(e - 128) * code, code twice an e2m1 number; nibbles as Q4_0. OCP Microscaling
 * Formats 1.0: e = 255 is NaN; from 253 on the largest codes are beyond f32, so those are refused as well. */
#include "simd/quant/quant.h"

typedef wk_block_mxfp4 block;

const wk_layout wk_layout_MXFP4 = {
    2, {WK_FIELD(block, e, 1, WK_TURN_NONE, WK_UNIT_E8M0), WK_FIELD_CODES(block, qs)}};

const int8_t wk_mxfp4_code[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void wk_decode_MXFP4(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), dst += 32) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_e8m0_half(b.e);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)wk_mxfp4_code[b.qs[i] & 15];
            dst[i + 16] = d * (float)wk_mxfp4_code[b.qs[i] >> 4];
        }
    }
}

/* Nearest code; half way is the smaller one, zero has no sign. The limits are exact multiples of d. */
static unsigned nearest(float x, float d) {
    static const float limit[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5.0f, 7.0f, 10.0f};
    const float size = x < 0.0f ? -x : x;
    unsigned n = 0;
    for (int i = 0; i < 7; i++) n += size > limit[i] * d;
    return x < 0.0f && n ? n + 8 : n;
}

/* The power of two below the extreme value becomes 4 (code 8). */
void wk_encode_MXFP4(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), x += 32) {
        const uint32_t power = wk_f32_bits(wk_encode_extreme(x)) >> 23 & 255;
        block b = {.e = (uint8_t)(power > 2 ? power - 2 : 0)};
        const float d = wk_e8m0_half(b.e);
        for (int i = 0; i < 16; i++) {
            b.qs[i] = (uint8_t)(nearest(x[i], d) | nearest(x[i + 16], d) << 4);
        }
        memcpy(p, &b, sizeof(b));
    }
}

/* q8_0.c: 32 signed bytes, value = d * byte. A panel holds the bytes with the sign bit turned, as unsigned
 * codes of zero point 128. */
#include "simd/quant/quant.h"

typedef wk_block_q8_0 block;

const wk_layout wk_layout_Q8_0 = {
    2, {WK_FIELD_F16(block, d), WK_FIELD(block, qs, 4, WK_TURN_SIGN, WK_UNIT_BITS)}};

void wk_decode_Q8_0(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), dst += 32) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d);
        for (int i = 0; i < 32; i++) dst[i] = d * (float)b.qs[i];
    }
}

/* Nearest, half away from zero. */
static int round_away(float v) {
    const int whole = wk_encode_clamp(v, -127, 127);
    const float rest = v - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

void wk_encode_Q8_0(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), x += 32) {
        const float extreme = wk_encode_extreme(x);
        const float d = (extreme < 0.0f ? -extreme : extreme) / 127.0f;
        const float inv = d != 0.0f ? 1.0f / d : 0.0f;
        block b = {.d = wk_f32_to_f16(d)};
        for (int i = 0; i < 32; i++) b.qs[i] = (int8_t)round_away(x[i] * inv);
        memcpy(p, &b, sizeof(b));
    }
}

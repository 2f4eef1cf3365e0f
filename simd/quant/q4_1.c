/* q4_1.c: 32 values, value = d * nibble + m; low nibbles are k, high nibbles k + 16. */
#include <math.h>

#include "simd/quant/quant.h"

typedef wk_block_q4_1 block;

const wk_layout wk_layout_Q4_1 = {
    3, {WK_FIELD_F16(block, d), WK_FIELD_F16(block, m), WK_FIELD_CODES(block, qs)}};

void wk_decode_Q4_1(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), dst += 32) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d), m = wk_f16_to_f32(b.m);
        for (int i = 0; i < 16; i++) {
            dst[i] = fmaf(d, (float)(b.qs[i] & 15), m);
            dst[i + 16] = fmaf(d, (float)(b.qs[i] >> 4), m);
        }
    }
}

/* Smallest value at code 0, largest at 15. */
void wk_encode_Q4_1(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), x += 32) {
        float min, max;
        wk_encode_range(&min, &max, x);
        const float d = (max - min) / 15.0f, inv = d != 0.0f ? 1.0f / d : 0.0f;
        block b = {.d = wk_f32_to_f16(d), .m = wk_f32_to_f16(min)};
        for (int i = 0; i < 16; i++) {
            const int lo = wk_encode_clamp((x[i] - min) * inv + 0.5f, 0, 15);
            const int hi = wk_encode_clamp((x[i + 16] - min) * inv + 0.5f, 0, 15);
            b.qs[i] = (uint8_t)(lo | (hi << 4));
        }
        memcpy(p, &b, sizeof(b));
    }
}

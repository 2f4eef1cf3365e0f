/* q5_1.c: 32 values, value = d * code + m; nibbles as Q4_0, the fifth bit of k is bit k of qh. */
#include <math.h>

#include "simd/quant/quant.h"

typedef wk_block_q5_1 block;

const wk_layout wk_layout_Q5_1 = {4,
                                  {WK_FIELD_F16(block, d), WK_FIELD_F16(block, m),
                                   WK_FIELD(block, qh, 4, WK_TURN_QH, WK_UNIT_BITS),
                                   WK_FIELD_CODES(block, qs)}};

void wk_decode_Q5_1(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), dst += 32) {
        block b;
        uint32_t qh;
        memcpy(&b, p, sizeof(b));
        memcpy(&qh, b.qh, 4);
        const float d = wk_f16_to_f32(b.d), m = wk_f16_to_f32(b.m);
        for (int i = 0; i < 16; i++) {
            const int lo = (b.qs[i] & 15) | (int)(((qh >> i) & 1u) << 4);
            const int hi = (b.qs[i] >> 4) | (int)(((qh >> (i + 16)) & 1u) << 4);
            dst[i] = fmaf(d, (float)lo, m);
            dst[i + 16] = fmaf(d, (float)hi, m);
        }
    }
}

/* Smallest value at code 0, largest at 31. */
void wk_encode_Q5_1(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), x += 32) {
        float min, max;
        wk_encode_range(&min, &max, x);
        const float d = (max - min) / 31.0f, inv = d != 0.0f ? 1.0f / d : 0.0f;
        block b = {.d = wk_f32_to_f16(d), .m = wk_f32_to_f16(min)};
        uint32_t qh = 0;
        for (int i = 0; i < 16; i++) {
            const int lo = wk_encode_clamp((x[i] - min) * inv + 0.5f, 0, 31);
            const int hi = wk_encode_clamp((x[i + 16] - min) * inv + 0.5f, 0, 31);
            b.qs[i] = (uint8_t)((lo & 15) | ((hi & 15) << 4));
            qh |= (uint32_t)(lo >> 4) << i | (uint32_t)(hi >> 4) << (i + 16);
        }
        memcpy(b.qh, &qh, 4);
        memcpy(p, &b, sizeof(b));
    }
}

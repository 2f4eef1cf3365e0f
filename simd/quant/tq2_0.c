/* tq2_0.c: 256 values, value = d * (two bits - 1): -1, 0, 1 (the fourth number, 2, is legal). Bits as Q2_K: byte
 * l of a 32-byte half of qs holds k = l, l + 32, l + 64, l + 96 of its 128. */
#include "simd/quant/quant.h"

typedef wk_block_tq2_0 block;

const wk_layout wk_layout_TQ2_0 = {2, {WK_FIELD_F16(block, d), WK_FIELD_CODES(block, qs)}};

void wk_decode_TQ2_0(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), dst += 256) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d);
        for (int i = 0; i < 256; i++) {
            const int code = (b.qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
            dst[i] = d * (float)(code - 1);
        }
    }
}

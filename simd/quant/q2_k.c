/* q2_k.c: 256 values in 16 sub-blocks of 16, value = d * sc_j * code - dmin * min_j. A scale byte holds sc
 * (low nibble) and min. Byte l of a 32-byte half of qs holds k = l, l + 32, l + 64, l + 96 of its 128. */
#include <math.h>

#include "simd/quant/quant.h"

typedef wk_block_q2_k block;

const wk_layout wk_layout_Q2_K = {4,
                                  {WK_FIELD_F16(block, d), WK_FIELD_F16(block, dmin),
                                   WK_FIELD_PLANES(block, scales), WK_FIELD_CODES(block, qs)}};

void wk_decode_Q2_K(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), dst += 256) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d), c = -wk_f16_to_f32(b.dmin);
        for (int i = 0; i < 256; i++) {
            const int sc = b.scales[i / 16] & 15, mn = b.scales[i / 16] >> 4;
            const int code = (b.qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
            dst[i] = fmaf(d * (float)sc, (float)code, c * (float)mn);
        }
    }
}

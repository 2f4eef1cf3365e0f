/* iq4_xs.c: 256 values in 8 sub-blocks of 32, value = d * sc_j * table[nibble]; in a sub-block low nibbles are
 * k, high nibbles k + 16. */
#include "simd/quant/quant.h"

typedef wk_block_iq4_xs block;

const wk_layout wk_layout_IQ4_XS = {4,
                                    {WK_FIELD_F16(block, d),
                                     WK_FIELD(block, scales_h, 2, WK_TURN_NONE, WK_UNIT_BITS),
                                     WK_FIELD_PLANES(block, scales_l), WK_FIELD_CODES(block, qs)}};

void wk_decode_IQ4_XS(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), dst += 256) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d);
        for (int i = 0; i < 256; i++) {
            const int nibble = (b.qs[i / 32 * 16 + i % 16] >> (i % 32 / 16 * 4)) & 15;
            const int sc = wk_iq4_xs_scale(b.scales_l, 1, b.scales_h, i / 32);
            dst[i] = d * (float)sc * (float)wk_iq4_code[nibble];
        }
    }
}

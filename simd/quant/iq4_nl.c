/* iq4_nl.c: 32 values, value = d * table[nibble]; nibbles as Q4_0. */
#include "simd/quant/quant.h"

typedef wk_block_iq4_nl block;

const wk_layout wk_layout_IQ4_NL = {2, {WK_FIELD_F16(block, d), WK_FIELD_CODES(block, qs)}};

const int8_t wk_iq4_code[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                1,    13,   25,  38,  53,  69,  89,  113};

void wk_decode_IQ4_NL(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), dst += 32) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)wk_iq4_code[b.qs[i] & 15];
            dst[i + 16] = d * (float)wk_iq4_code[b.qs[i] >> 4];
        }
    }
}

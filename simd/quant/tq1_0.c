/* tq1_0.c: 256 values, value = d * (digit - 1), five base-3 digits to a byte (wk_tq1_digit), first digits first:
 * 32 bytes of qs hold k, k + 32, .. k + 128 of 160; 16 bytes k, k + 16, .. k + 64 of the next 80; 4 bytes of qh
 * four digits each, k, k + 4, .. k + 12 of the last 16. */
#include "simd/quant/quant.h"

typedef wk_block_tq1_0 block;

const wk_layout wk_layout_TQ1_0 = {
    3, {WK_FIELD_F16(block, d), WK_FIELD_CODES(block, qs), WK_FIELD_CODES(block, qh)}};

void wk_decode_TQ1_0(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), dst += 256) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d);
        for (int i = 0; i < 160; i++) dst[i] = d * (float)wk_tq1_digit(b.qs[i % 32], i / 32);
        for (int i = 0; i < 80; i++) {
            dst[160 + i] = d * (float)wk_tq1_digit(b.qs[32 + i % 16], i / 16);
        }
        for (int i = 0; i < 16; i++) dst[240 + i] = d * (float)wk_tq1_digit(b.qh[i % 4], i / 4);
    }
}

/* q3_k.c: 256 values in 16 sub-blocks of 16, value = d * sc_j * (code - 4). Low two bits as Q2_K; the third
 * bit of k is bit k / 32 of hmask[k % 32]. */
#include "simd/quant/quant.h"

typedef wk_block_q3_k block;

const wk_layout wk_layout_Q3_K = {4,
                                  {WK_FIELD_F16(block, d), WK_FIELD_PLANES(block, scales),
                                   WK_FIELD_CODES(block, hmask), WK_FIELD_CODES(block, qs)}};

void wk_decode_Q3_K(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), dst += 256) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d);
        for (int i = 0; i < 256; i++) {
            const int low = (b.qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
            const int high = (b.hmask[i % 32] >> (i / 32)) & 1;
            dst[i] = d * (float)wk_k3_scale(b.scales, 1, i / 16) * (float)(low + 4 * high - 4);
        }
    }
}

/* q6_k.c: 256 values in 16 sub-blocks of 16, value = d * sc_j * (code - 32). In each half of 128: byte l of
 * 64 bytes of ql holds the low four bits of k = l and l + 64; byte l of 32 bytes of qh the high two bits of
 * k = l, l + 32, l + 64, l + 96. */
#include "simd/quant/quant.h"

typedef wk_block_q6_k block;

const wk_layout wk_layout_Q6_K = {4,
                                  {WK_FIELD_F16(block, d), WK_FIELD_PLANES(block, scales),
                                   WK_FIELD_CODES(block, qh), WK_FIELD_CODES(block, ql)}};

void wk_decode_Q6_K(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), dst += 256) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d);
        for (int i = 0; i < 256; i++) {
            const int half = i / 128, l = i % 128;
            const int low = (b.ql[half * 64 + l % 64] >> (l / 64 * 4)) & 15;
            const int high = (b.qh[half * 32 + l % 32] >> (l / 32 * 2)) & 3;
            dst[i] = d * (float)b.scales[i / 16] * (float)((low | (high << 4)) - 32);
        }
    }
}

/* q4_k.c: 256 values in 8 sub-blocks of 32, value = d * sc_j * nibble - dmin * min_j. Byte l of a 32-byte
 * quarter of qs holds k = l and l + 32 of its 64. */
#include <math.h>

#include "simd/quant/fit.h"
#include "simd/quant/quant.h"

typedef wk_block_q4_k block;

const wk_layout wk_layout_Q4_K = {4,
                                  {WK_FIELD_F16(block, d), WK_FIELD_F16(block, dmin),
                                   WK_FIELD_PLANES(block, scales), WK_FIELD_CODES(block, qs)}};

void wk_decode_Q4_K(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), dst += 256) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d), c = -wk_f16_to_f32(b.dmin);
        for (int i = 0; i < 256; i++) {
            const int code = (b.qs[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4)) & 15;
            dst[i] = fmaf(d * (float)wk_k4_scale(b.scales, 1, i / 32), (float)code,
                          c * (float)wk_k4_min(b.scales, 1, i / 32));
        }
    }
}

void wk_encode_Q4_K(void *row, const float *x, int k) {
    static const wk_fit_how how = {.n = 32, .top = 15, .first = -1.0f, .step = 0.1f, .n_step = 20};
    uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), x += 256) {
        wk_fit_k4 f;
        wk_fit_super(&f, x, &how);
        block b = {.d = f.d, .dmin = f.dmin};
        memcpy(b.scales, f.scales, sizeof(b.scales));
        for (int i = 0; i < 128; i++) {
            const uint8_t *c = f.code + i / 32 * 64 + i % 32;
            b.qs[i] = (uint8_t)(c[0] | c[32] << 4);
        }
        memcpy(p, &b, sizeof(b));
    }
}

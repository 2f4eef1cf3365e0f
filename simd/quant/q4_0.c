/* q4_0.c: 32 values, value = d * (nibble - 8); low nibbles are k, high nibbles k + 16. */
#include "simd/quant/quant.h"

typedef wk_block_q4_0 block;

const wk_layout wk_layout_Q4_0 = {2, {WK_FIELD_F16(block, d), WK_FIELD_CODES(block, qs)}};

void wk_decode_Q4_0(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), dst += 32) {
        block b;
        memcpy(&b, p, sizeof(b));
        const float d = wk_f16_to_f32(b.d);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((b.qs[i] & 15) - 8);
            dst[i + 16] = d * (float)((b.qs[i] >> 4) - 8);
        }
    }
}

/* The extreme value becomes -8: d = extreme / -8, codes rounded half up. */
void wk_encode_Q4_0(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 32, p += sizeof(block), x += 32) {
        const float d = wk_encode_extreme(x) / -8.0f, inv = d != 0.0f ? 1.0f / d : 0.0f;
        block b = {.d = wk_f32_to_f16(d)};
        for (int i = 0; i < 16; i++) {
            const int lo = wk_encode_clamp(x[i] * inv + 8.5f, 0, 15);
            const int hi = wk_encode_clamp(x[i + 16] * inv + 8.5f, 0, 15);
            b.qs[i] = (uint8_t)(lo | (hi << 4));
        }
        memcpy(p, &b, sizeof(b));
    }
}

/* bf16.c: bfloat16, nearest even. */
#include "simd/quant/quant.h"

const wk_layout wk_layout_BF16 = {1, {{0, 2, 1, WK_TURN_NONE, WK_UNIT_BF16}}};

void wk_decode_BF16(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int i = 0; i < k; i++) {
        wk_bf16 h;
        memcpy(&h, p + 2 * (size_t)i, 2);
        dst[i] = wk_bf16_to_f32(h);
    }
}

void wk_encode_BF16(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int i = 0; i < k; i++) {
        const wk_bf16 h = wk_f32_to_bf16(x[i]);
        memcpy(p + 2 * (size_t)i, &h, 2);
    }
}

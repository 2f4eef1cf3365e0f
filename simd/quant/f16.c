/* f16.c: IEEE half, nearest even. */
#include "simd/quant/quant.h"

const wk_layout wk_layout_F16 = {1, {{0, 2, 1, WK_TURN_NONE, WK_UNIT_F16}}};

void wk_decode_F16(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    for (int i = 0; i < k; i++) {
        wk_f16 h;
        memcpy(&h, p + 2 * (size_t)i, 2);
        dst[i] = wk_f16_to_f32(h);
    }
}

void wk_encode_F16(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int i = 0; i < k; i++) {
        const wk_f16 h = wk_f32_to_f16(x[i]);
        memcpy(p + 2 * (size_t)i, &h, 2);
    }
}

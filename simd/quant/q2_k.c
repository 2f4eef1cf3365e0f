/* q2_k.c: 256 values in 16 sub-blocks of 16, value = d * sc_j * code - dmin * min_j. A scale byte holds sc
 * (low nibble) and min. Byte l of a 32-byte half of qs holds k = l, l + 32, l + 64, l + 96 of its 128. */
#include <math.h>

#include "simd/quant/fit.h"
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

/* Scale and min of sub-block j in four bits each, and its codes once more by what these four bits say. */
static void encode_sub(block *b, int j, uint8_t *code, const float *x, int scale, int min) {
    const float d = wk_f16_to_f32(b->d) * (float)scale, m = wk_f16_to_f32(b->dmin) * (float)min;
    b->scales[j] = (uint8_t)(scale | min << 4);
    if (!(d > 0.0f)) return;
    for (int i = 0; i < 16; i++) code[i] = (uint8_t)wk_fit_round((x[i] + m) / d, 0, 3);
}

static void encode_block(block *b, const float *x) {
    static const wk_fit_how how = {
        .n = 16, .top = 3, .first = -0.5f, .step = 0.1f, .n_step = 15, .absolute = true};
    uint8_t code[256];
    float scale[16], min[16], w[256], most = 0.0f, most_min = 0.0f;
    for (int i = 0; i < 256; i++) w[i] = x[i] < 0.0f ? -x[i] : x[i];
    for (int j = 0; j < 16; j += WK_FIT_LANES)
        wk_fit_with_min(code + 16 * j, scale + j, min + j, x + 16 * j, w + 16 * j, &how);
    for (int j = 0; j < 16; j++) {
        if (scale[j] > most) most = scale[j];
        if (min[j] > most_min) most_min = min[j];
    }
    b->d = wk_f32_to_f16(most / 15.0f);
    b->dmin = wk_f32_to_f16(most_min / 15.0f);
    const float inv = most > 0.0f ? 15.0f / most : 0.0f,
                inv_min = most_min > 0.0f ? 15.0f / most_min : 0.0f;
    for (int j = 0; j < 16; j++)
        encode_sub(b, j, code + 16 * j, x + 16 * j, wk_fit_round(inv * scale[j], 0, 15),
                   wk_fit_round(inv_min * min[j], 0, 15));
    for (int i = 0; i < 256; i++) {
        uint8_t *q = &b->qs[i / 128 * 32 + i % 32];
        *q = (uint8_t)(*q | code[i] << (i % 128 / 32 * 2));
    }
}

void wk_encode_Q2_K(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), x += 256) {
        block b = {.d = 0};
        encode_block(&b, x);
        memcpy(p, &b, sizeof(b));
    }
}

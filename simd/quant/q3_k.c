/* q3_k.c: 256 values in 16 sub-blocks of 16, value = d * sc_j * (code - 4). Low two bits as Q2_K; the third
 * bit of k is bit k / 32 of hmask[k % 32]. */
#include "simd/quant/fit.h"
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

static void put_scale(uint8_t *s, int j, int scale) {
    s[j % 8] = (uint8_t)(s[j % 8] | (scale & 15) << (j / 8 * 4));
    s[8 + j % 4] = (uint8_t)(s[8 + j % 4] | (scale >> 4) << (j / 4 * 2));
}

/* The scale of largest magnitude becomes -32. */
static void encode_block(block *b, const float *x) {
    uint8_t code[256];
    float scale[16], most = 0.0f, size = 0.0f;
    for (int j = 0; j < 16; j++) {
        scale[j] = wk_fit_walk(code + 16 * j, x + 16 * j, 4);
        const float a = scale[j] < 0.0f ? -scale[j] : scale[j];
        if (a > size) {
            size = a;
            most = scale[j];
        }
    }
    const float inv = size > 0.0f ? -32.0f / most : 0.0f;
    b->d = size > 0.0f ? wk_f32_to_f16(1.0f / inv) : 0;
    for (int j = 0; j < 16; j++) {
        const int sc = size > 0.0f ? wk_fit_round(inv * scale[j], -32, 31) : -32;
        const float d = wk_f16_to_f32(b->d) * (float)sc;
        put_scale(b->scales, j, sc + 32);
        if (!(d > 0.0f || d < 0.0f)) continue;
        for (int i = 16 * j; i < 16 * (j + 1); i++)
            code[i] = (uint8_t)(wk_fit_round(x[i] / d, -4, 3) + 4);
    }
    for (int i = 0; i < 256; i++) {
        uint8_t *low = &b->qs[i / 128 * 32 + i % 32], *high = &b->hmask[i % 32];
        *low = (uint8_t)(*low | (code[i] & 3) << (i % 128 / 32 * 2));
        *high = (uint8_t)(*high | (code[i] >> 2) << (i / 32));
    }
}

void wk_encode_Q3_K(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), x += 256) {
        block b = {.d = 0};
        encode_block(&b, x);
        memcpy(p, &b, sizeof(b));
    }
}

/* q6_k.c: 256 values in 16 sub-blocks of 16, value = d * sc_j * (code - 32). In each half of 128: byte l of
 * 64 bytes of ql holds the low four bits of k = l and l + 64; byte l of 32 bytes of qh the high two bits of
 * k = l, l + 32, l + 64, l + 96. */
#include "simd/quant/fit.h"
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

/* The scale of largest magnitude becomes -128. */
static void encode_block(block *b, const float *x) {
    uint8_t code[256];
    float scale[16], most = 0.0f, size = 0.0f;
    for (int j = 0; j < 16; j += WK_FIT_LANES)
        wk_fit_nearest(code + 16 * j, scale + j, x + 16 * j, 32);
    for (int j = 0; j < 16; j++) {
        const float a = scale[j] < 0.0f ? -scale[j] : scale[j];
        if (a > size) {
            size = a;
            most = scale[j];
        }
    }
    if (!(size >= 1e-15f)) return; /* all zero */
    const float inv = -128.0f / most;
    b->d = wk_f32_to_f16(1.0f / inv);
    for (int j = 0; j < 16; j++) {
        b->scales[j] = (int8_t)wk_fit_round(inv * scale[j], -128, 127);
        const float d = wk_f16_to_f32(b->d) * (float)b->scales[j];
        if (!(d > 0.0f || d < 0.0f)) continue;
        for (int i = 16 * j; i < 16 * (j + 1); i++)
            code[i] = (uint8_t)(wk_fit_round(x[i] / d, -32, 31) + 32);
    }
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, l = i % 128;
        uint8_t *low = &b->ql[half * 64 + l % 64], *high = &b->qh[half * 32 + l % 32];
        *low = (uint8_t)(*low | (code[i] & 15) << (l / 64 * 4));
        *high = (uint8_t)(*high | (code[i] >> 4) << (l / 32 * 2));
    }
}

void wk_encode_Q6_K(void *row, const float *x, int k) {
    uint8_t *p = row;
    for (int k0 = 0; k0 < k; k0 += 256, p += sizeof(block), x += 256) {
        block b = {.d = 0};
        encode_block(&b, x);
        memcpy(p, &b, sizeof(b));
    }
}

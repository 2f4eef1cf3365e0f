/* rows.h: file rows as f32 for a level whose flags bring a multiply-add and vectors: loops over the codes of a block,
 * plain C that its compiler makes vectors of. Included once by each, which calls fill_rows and adds F16. The values are
 * those of the formats' own decode, operation by operation. Formats that are not here look their codes up one by one. */
#include <math.h>

#include "engine/base/attr.h"
#include "simd/kernels.h"
#include "simd/quant/quant.h"

enum { PART = 32 };

/* Every loop reads the file's bytes and writes values, with nothing between: arrays of codes would pass through memory. */
#define VALUES(n, value)                                                                                               \
    for (int i = 0; i < (n); i++) y[i] = (value)

/* A row: the statements for a block, y being its place, AT a field of it, and F16 one that is a half. */
#define AT(field) (p + offsetof(type, field))
#define ROWS(id, block_type, size, ...)                                                                                \
    static void decode_##id(float *restrict dst, const void *restrict row, int k) {                                    \
        typedef block_type type;                                                                                       \
        const uint8_t *p = (const uint8_t *)row;                                                                       \
        for (int k0 = 0; k0 < k; k0 += (size), p += sizeof(type)) {                                                    \
            float *y = dst + k0;                                                                                       \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }

WK_INLINE float half(const uint8_t *p) {
    wk_f16 h;
    memcpy(&h, p, 2);
    return wk_f16_to_f32(h);
}
WK_INLINE uint32_t word(const uint8_t *p) {
    uint32_t w;
    memcpy(&w, p, 4);
    return w;
}
/* Bit i of a word, as the fifth bit of a code. */
WK_INLINE int fifth(uint32_t bits, int i) { return (int)((bits >> i) & 1u) << 4; }

ROWS(Q4_0, wk_block_q4_0, PART, {
    const uint8_t *qs = AT(qs);
    const float d = half(AT(d));
    VALUES(16, d * (float)((qs[i] & 15) - 8));
    y += 16;
    VALUES(16, d * (float)((qs[i] >> 4) - 8));
})
ROWS(Q4_1, wk_block_q4_1, PART, {
    const uint8_t *qs = AT(qs);
    const float d = half(AT(d)), m = half(AT(m));
    VALUES(16, fmaf(d, (float)(qs[i] & 15), m));
    y += 16;
    VALUES(16, fmaf(d, (float)(qs[i] >> 4), m));
})
ROWS(Q5_0, wk_block_q5_0, PART, {
    const uint8_t *qs = AT(qs);
    const uint32_t qh = word(AT(qh));
    const float d = half(AT(d));
    VALUES(16, d * (float)(((qs[i] & 15) | fifth(qh, i)) - 16));
    y += 16;
    VALUES(16, d * (float)(((qs[i] >> 4) | fifth(qh >> 16, i)) - 16));
})
ROWS(Q5_1, wk_block_q5_1, PART, {
    const uint8_t *qs = AT(qs);
    const uint32_t qh = word(AT(qh));
    const float d = half(AT(d)), m = half(AT(m));
    VALUES(16, fmaf(d, (float)((qs[i] & 15) | fifth(qh, i)), m));
    y += 16;
    VALUES(16, fmaf(d, (float)((qs[i] >> 4) | fifth(qh >> 16, i)), m));
})
ROWS(Q8_0, wk_block_q8_0, PART, {
    const int8_t *qs = (const int8_t *)AT(qs);
    const float d = half(AT(d));
    VALUES(32, d * (float)qs[i]);
})

/* K-quants: 256 values; a part j is 32 of them, a sub-block 16. */
#define EACH(j, n) for (int j = 0; j < 256 / (n); j++, y += (n))

ROWS(Q2_K, wk_block_q2_k, 256, {
    const float d = half(AT(d)), c = -half(AT(dmin));
    EACH(j, 16) {
        const uint8_t *qs = AT(qs) + j / 8 * 32 + j % 2 * 16;
        const int sc = AT(scales)[j], at = j % 8 / 2 * 2;
        const float s = d * (float)(sc & 15), m = c * (float)(sc >> 4);
        VALUES(16, fmaf(s, (float)((qs[i] >> at) & 3), m));
    }
})
ROWS(Q3_K, wk_block_q3_k, 256, {
    const float d = half(AT(d));
    EACH(j, 16) {
        const uint8_t *qs = AT(qs) + j / 8 * 32 + j % 2 * 16, *high = AT(hmask) + j % 2 * 16;
        const int at = j % 8 / 2 * 2, bit = j / 2;
        const float s = d * (float)wk_k3_scale(AT(scales), 1, j);
        VALUES(16, s * (float)(((qs[i] >> at) & 3) + 4 * ((high[i] >> bit) & 1) - 4));
    }
})
ROWS(Q4_K, wk_block_q4_k, 256, {
    const float d = half(AT(d)), c = -half(AT(dmin));
    EACH(j, PART) {
        const uint8_t *qs = AT(qs) + j / 2 * 32;
        const int at = j % 2 * 4;
        const float s = d * (float)wk_k4_scale(AT(scales), 1, j), m = c * (float)wk_k4_min(AT(scales), 1, j);
        VALUES(PART, fmaf(s, (float)((qs[i] >> at) & 15), m));
    }
})
ROWS(Q5_K, wk_block_q5_k, 256, {
    const float d = half(AT(d)), c = -half(AT(dmin));
    EACH(j, PART) {
        const uint8_t *qs = AT(qs) + j / 2 * 32, *high = AT(qh);
        const int at = j % 2 * 4;
        const float s = d * (float)wk_k4_scale(AT(scales), 1, j), m = c * (float)wk_k4_min(AT(scales), 1, j);
        VALUES(PART, fmaf(s, (float)(((qs[i] >> at) & 15) | ((high[i] >> j) & 1) << 4), m));
    }
})
ROWS(Q6_K, wk_block_q6_k, 256, {
    const int8_t *scales = (const int8_t *)AT(scales);
    const float d = half(AT(d));
    EACH(j, 16) {
        const uint8_t *ql = AT(ql) + j / 8 * 64 + j % 4 * 16, *qh = AT(qh) + j / 8 * 32 + j % 2 * 16;
        const int low = j % 8 / 4 * 4, high = j % 8 / 2 * 2;
        const float s = d * (float)scales[j];
        VALUES(16, s * (float)((((ql[i] >> low) & 15) | ((qh[i] >> high) & 3) << 4) - 32));
    }
})

static void decode_BF16(float *dst, const void *row, int k) {
    const uint8_t *p = (const uint8_t *)row;
    for (int i = 0; i < k; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * (size_t)i, 2);
        const uint32_t u = (uint32_t)h << 16;
        memcpy(dst + i, &u, 4);
    }
}

static void fill_rows(wk_kernels *k) {
    k->decode[WK_FMT_BF16] = decode_BF16;
    k->decode[WK_FMT_Q4_0] = decode_Q4_0;
    k->decode[WK_FMT_Q4_1] = decode_Q4_1;
    k->decode[WK_FMT_Q5_0] = decode_Q5_0;
    k->decode[WK_FMT_Q5_1] = decode_Q5_1;
    k->decode[WK_FMT_Q8_0] = decode_Q8_0;
    k->decode[WK_FMT_Q2_K] = decode_Q2_K;
    k->decode[WK_FMT_Q3_K] = decode_Q3_K;
    k->decode[WK_FMT_Q4_K] = decode_Q4_K;
    k->decode[WK_FMT_Q5_K] = decode_Q5_K;
    k->decode[WK_FMT_Q6_K] = decode_Q6_K;
}

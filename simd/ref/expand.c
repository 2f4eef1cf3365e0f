/* expand.c: 16 packed rows, one piece of k -> signed codes, f32 scales, integer scales and mins. Every inner
 * loop runs over the 64 bytes of a W4 line (16 rows x 4 k) or over the 16 rows. */
#include <string.h>

#include "simd/quant/iq.h"
#include "simd/ref/ref.h"

enum { LINE = 64 }; /* bytes of 16 rows x 4 k */

static void halves(float *dst, const uint8_t *src) {
    for (int r = 0; r < WK_PANEL; r++) {
        wk_f16 h;
        memcpy(&h, src + 2 * r, 2);
        dst[r] = wk_f16_to_f32(h);
    }
}

/* -h: +0 turns into -0, which no sum can tell. */
static void halves_negated(float *dst, const uint8_t *src) {
    halves(dst, src);
    for (int r = 0; r < WK_PANEL; r++) dst[r] = -dst[r];
}

/* One line of nibbles: low ones and high ones to two lines of codes. */
static void nibbles(int8_t *low, int8_t *high, const uint8_t *qs, int zero) {
    for (int i = 0; i < LINE; i++) low[i] = (int8_t)((qs[i] & 15) - zero);
    for (int i = 0; i < LINE; i++) high[i] = (int8_t)((qs[i] >> 4) - zero);
}

static void nibbles_table(int8_t *low, int8_t *high, const uint8_t *qs, const int8_t *table) {
    for (int i = 0; i < LINE; i++) low[i] = table[qs[i] & 15];
    for (int i = 0; i < LINE; i++) high[i] = table[qs[i] >> 4];
}

/* Adds `value` to every code of a line whose bit stands in qh. */
static void high_bit(int8_t *code, const uint8_t *qh, int bit, int value) {
    for (int i = 0; i < LINE; i++) code[i] = (int8_t)(code[i] + (((qh[i] >> bit) & 1) ? value : 0));
}

/* 32 codes of a 32-block: dword g of qs holds k = 4g and, high, 16 + 4g. */
static void block32(int8_t *code, const uint8_t *qs, const uint8_t *qh, int zero) {
    for (int g = 0; g < 4; g++) {
        int8_t *low = code + g * LINE, *high = code + (g + 4) * LINE;
        nibbles(low, high, qs + g * LINE, zero);
        if (!qh) continue;
        high_bit(low, qh, g, 16);
        high_bit(high, qh, g + 4, 16);
    }
}

static void block_q4_0(wk_panel *dst, int b, const uint8_t *p) {
    halves(dst->s + b * 16, p);
    block32((int8_t *)dst->code + b * 512, p + 32, NULL, 8);
}

static void block_q4_1(wk_panel *dst, int b, const uint8_t *p) {
    halves(dst->s + b * 16, p);
    halves(dst->c + b * 16, p + 32);
    block32((int8_t *)dst->code + b * 512, p + 64, NULL, 0);
}

static void block_q5_0(wk_panel *dst, int b, const uint8_t *p) {
    halves(dst->s + b * 16, p);
    block32((int8_t *)dst->code + b * 512, p + 96, p + 32, 16);
}

static void block_q5_1(wk_panel *dst, int b, const uint8_t *p) {
    halves(dst->s + b * 16, p);
    halves(dst->c + b * 16, p + 32);
    block32((int8_t *)dst->code + b * 512, p + 128, p + 64, 0);
}

static void block_q8_0(wk_panel *dst, int b, const uint8_t *p) {
    halves(dst->s + b * 16, p);
    for (int i = 0; i < 512; i++) dst->code[b * 512 + i] = p[32 + i] ^ 0x80;
}

static void block_iq4_nl(wk_panel *dst, int b, const uint8_t *p) {
    int8_t *code = (int8_t *)dst->code + b * 512;
    halves(dst->s + b * 16, p);
    for (int g = 0; g < 4; g++)
        nibbles_table(code + g * LINE, code + (g + 4) * LINE, p + 32 + g * LINE, wk_iq4_code);
}

static void block_mxfp4(wk_panel *dst, int b, const uint8_t *p) {
    int8_t *code = (int8_t *)dst->code + b * 512;
    for (int r = 0; r < WK_PANEL; r++) dst->s[b * 16 + r] = wk_e8m0_half(p[r]);
    for (int g = 0; g < 4; g++)
        nibbles_table(code + g * LINE, code + (g + 4) * LINE, p + 16 + g * LINE, wk_mxfp4_code);
}

/* s_j = d * sc_j (exact) and mn_j of Q4_K, Q5_K. */
static void scales_k4(float *s, int16_t *mn, const float *d, const uint8_t *planes) {
    for (int j = 0; j < 8; j++) {
        for (int r = 0; r < WK_PANEL; r++) {
            s[j * 16 + r] = d[r] * (float)wk_k4_scale(planes + r, 16, j);
            mn[j * 16 + r] = (int16_t)wk_k4_min(planes + r, 16, j);
        }
    }
}

/* 256 nibbles: lines 8q .. 8q+7 of qs hold, low and high, the two 32s of quarter q. */
static void nibbles_k(int8_t *code, const uint8_t *qs) {
    for (int g = 0; g < 32; g++) {
        int8_t *low = code + (g / 8 * 16 + g % 8) * LINE;
        nibbles(low, low + 8 * LINE, qs + g * LINE, 0);
    }
}

static void block_q4_k(wk_panel *dst, int b, const uint8_t *p) {
    float d[WK_PANEL];
    halves(d, p);
    halves_negated(dst->c + b * 16, p + 32);
    scales_k4(dst->s + b * 128, dst->mn + b * 128, d, p + 64);
    nibbles_k((int8_t *)dst->code + b * 4096, p + 256);
}

static void block_q5_k(wk_panel *dst, int b, const uint8_t *p) {
    int8_t *code = (int8_t *)dst->code + b * 4096;
    float d[WK_PANEL];
    halves(d, p);
    halves_negated(dst->c + b * 16, p + 32);
    scales_k4(dst->s + b * 128, dst->mn + b * 128, d, p + 64);
    nibbles_k(code, p + 256 + 512);
    for (int g = 0; g < 64; g++) high_bit(code + g * LINE, p + 256 + g % 8 * LINE, g / 8, 16);
}

static void block_q6_k(wk_panel *dst, int b, const uint8_t *p) {
    const uint8_t *sc = p + 32, *qh = p + 288, *ql = p + 1312;
    int8_t *code = (int8_t *)dst->code + b * 4096;
    float d[WK_PANEL];
    halves(d, p);
    for (int i = 0; i < 256; i++) dst->s[b * 256 + i] = d[i % 16] * (float)(int8_t)sc[i];
    for (int g = 0; g < 64; g++) { /* line g of its half: k = 4g of 128 */
        const int half = g / 32, l = g % 32;
        const uint8_t *low = ql + (half * 16 + l % 16) * LINE,
                      *high = qh + (half * 8 + l % 8) * LINE;
        const int low_shift = l / 16 * 4, high_shift = l / 8 * 2;
        for (int i = 0; i < LINE; i++) {
            const int bits = ((high[i] >> high_shift) & 3) << 4;
            code[g * LINE + i] = (int8_t)((((low[i] >> low_shift) & 15) | bits) - 32);
        }
    }
}

/* Line g (k = 4g of 256) of the two-bit codes of Q2_K and Q3_K. */
static void two_bits(int8_t *code, const uint8_t *qs) {
    for (int g = 0; g < 64; g++) {
        const uint8_t *line = qs + (g / 32 * 8 + g % 8) * LINE;
        const int shift = g % 32 / 8 * 2;
        for (int i = 0; i < LINE; i++) code[g * LINE + i] = (int8_t)((line[i] >> shift) & 3);
    }
}

static void block_q3_k(wk_panel *dst, int b, const uint8_t *p) {
    int8_t *code = (int8_t *)dst->code + b * 4096;
    halves(dst->s + b * 16, p);
    for (int i = 0; i < 256; i++) {
        dst->sc[b * 256 + i] = (int16_t)wk_k3_scale(p + 32 + i % 16, 16, i / 16);
    }
    two_bits(code, p + 736);
    for (int i = 0; i < 4096; i++) code[i] = (int8_t)(code[i] - 4);
    for (int g = 0; g < 64; g++) high_bit(code + g * LINE, p + 224 + g % 8 * LINE, g / 8, 4);
}

static void block_q2_k(wk_panel *dst, int b, const uint8_t *p) {
    halves(dst->s + b * 16, p);
    halves_negated(dst->c + b * 16, p + 32);
    for (int i = 0; i < 256; i++) {
        dst->sc[b * 256 + i] = p[64 + i] & 15;
        dst->mn[b * 256 + i] = p[64 + i] >> 4;
    }
    two_bits((int8_t *)dst->code + b * 4096, p + 320);
}

static void block_iq4_xs(wk_panel *dst, int b, const uint8_t *p) {
    int8_t *code = (int8_t *)dst->code + b * 4096;
    float d[WK_PANEL];
    halves(d, p);
    for (int i = 0; i < 128; i++) {
        uint16_t high;
        memcpy(&high, p + 32 + i % 16 * 2, 2);
        dst->s[b * 128 + i] = d[i % 16] * (float)wk_iq4_xs_scale(p + 64 + i % 16, 16, high, i / 16);
    }
    for (int g = 0; g < 32; g++) {
        int8_t *low = code + (g / 4 * 8 + g % 4) * LINE;
        nibbles_table(low, low + 4 * LINE, p + 128 + g * LINE, wk_iq4_code);
    }
}

/* Row by row: 8 codes are two dwords of the lane. */
WK_INLINE void block_iq(wk_panel *dst, int b, const uint8_t *p, wk_iq_codes *codes,
                        wk_iq_scale *scale, int n_sub) {
    float d[WK_PANEL];
    halves(d, p);
    for (int r = 0; r < WK_PANEL; r++) {
        const uint8_t *lane = p + 4 * r;
        uint8_t *code = dst->code + b * 4096 + 4 * r;
        float *s = dst->s + b * n_sub * 16 + r;
        for (int i = 0; i < 32; i++, code += 2 * LINE) {
            const uint64_t v = codes(lane, 16, i);
            const uint32_t low = (uint32_t)v, high = (uint32_t)(v >> 32);
            memcpy(code, &low, 4);
            memcpy(code + LINE, &high, 4);
        }
        for (int j = 0; j < n_sub; j++) s[j * 16] = d[r] * scale(lane, 16, j);
    }
}

static void block_iq2_xxs(wk_panel *dst, int b, const uint8_t *p) {
    block_iq(dst, b, p, wk_iq2_xxs_codes, wk_iq2_xxs_scale, 8);
}
static void block_iq2_xs(wk_panel *dst, int b, const uint8_t *p) {
    block_iq(dst, b, p, wk_iq2_xs_codes, wk_iq2_xs_scale, 16);
}
static void block_iq2_s(wk_panel *dst, int b, const uint8_t *p) {
    block_iq(dst, b, p, wk_iq2_s_codes, wk_iq2_s_scale, 16);
}
static void block_iq3_xxs(wk_panel *dst, int b, const uint8_t *p) {
    block_iq(dst, b, p, wk_iq3_xxs_codes, wk_iq3_xxs_scale, 8);
}
static void block_iq3_s(wk_panel *dst, int b, const uint8_t *p) {
    block_iq(dst, b, p, wk_iq3_s_codes, wk_iq3_s_scale, 8);
}

/* d, and 1 as the integer scale of every 16. */
static void scales_tq(wk_panel *dst, int b, const uint8_t *p) {
    halves(dst->s + b * 16, p);
    for (int i = 0; i < 256; i++) dst->sc[b * 256 + i] = 1;
}

static void block_tq2_0(wk_panel *dst, int b, const uint8_t *p) {
    int8_t *code = (int8_t *)dst->code + b * 4096;
    scales_tq(dst, b, p);
    two_bits(code, p + 32);
    for (int i = 0; i < 4096; i++) code[i] = (int8_t)(code[i] - 1);
}

/* n lines of packed bytes hold n_digit digits of as many lines of codes. */
static void digits(int8_t *code, const uint8_t *qs, int n, int n_digit) {
    for (int g = 0; g < n * n_digit; g++) {
        const uint8_t *line = qs + g % n * LINE;
        for (int i = 0; i < LINE; i++) {
            code[g * LINE + i] = (int8_t)wk_tq1_digit(line[i], g / n);
        }
    }
}

static void block_tq1_0(wk_panel *dst, int b, const uint8_t *p) {
    int8_t *code = (int8_t *)dst->code + b * 4096;
    scales_tq(dst, b, p);
    digits(code, p + 32, 8, 5);
    digits(code + 40 * LINE, p + 32 + 8 * LINE, 4, 5);
    digits(code + 60 * LINE, p + 32 + 12 * LINE, 1, 4);
}

static void block_f32(wk_panel *dst, int b, const uint8_t *p) { memcpy(dst->f + b * 16, p, 64); }

static void block_f16(wk_panel *dst, int b, const uint8_t *p) { halves(dst->f + b * 16, p); }

static void block_bf16(wk_panel *dst, int b, const uint8_t *p) {
    for (int r = 0; r < WK_PANEL; r++) {
        wk_bf16 h;
        memcpy(&h, p + 2 * r, 2);
        dst->f[b * 16 + r] = wk_bf16_to_f32(h);
    }
}

/* The block functions carry lower-case names; this list ties them to the ids. */
#define EXPAND(id, name)                                                                           \
    static void wk_expand_##name##_ref(wk_panel *dst, const void *w, int k0, int klen) {           \
        const wk_format *f = &wk_formats[WK_FMT_##id];                                             \
        const size_t bytes = (size_t)f->bytes * WK_PANEL;                                          \
        const uint8_t *p = (const uint8_t *)w + (size_t)(k0 / f->block) * bytes;                   \
        for (int b = 0; b < klen / f->block; b++) block_##name(dst, b, p + (size_t)b * bytes);     \
    }
#define FORMATS(X)                                                                                 \
    X(F32, f32)                                                                                    \
    X(F16, f16)                                                                                    \
    X(BF16, bf16)                                                                                  \
    X(Q4_0, q4_0)                                                                                  \
    X(Q4_1, q4_1)                                                                                  \
    X(Q5_0, q5_0)                                                                                  \
    X(Q5_1, q5_1)                                                                                  \
    X(Q8_0, q8_0)                                                                                  \
    X(Q2_K, q2_k)                                                                                  \
    X(Q3_K, q3_k)                                                                                  \
    X(Q4_K, q4_k)                                                                                  \
    X(Q5_K, q5_k)                                                                                  \
    X(Q6_K, q6_k)                                                                                  \
    X(IQ4_NL, iq4_nl)                                                                              \
    X(IQ4_XS, iq4_xs)                                                                              \
    X(IQ2_XXS, iq2_xxs)                                                                            \
    X(IQ2_XS, iq2_xs)                                                                              \
    X(IQ2_S, iq2_s)                                                                                \
    X(IQ3_XXS, iq3_xxs)                                                                            \
    X(IQ3_S, iq3_s)                                                                                \
    X(TQ1_0, tq1_0)                                                                                \
    X(TQ2_0, tq2_0)                                                                                \
    X(MXFP4, mxfp4)
#define COUNT(id, name) +1

FORMATS(EXPAND)
static_assert(FORMATS(COUNT) == WK_FMT_COUNT, "every format expands");

#define ROW(id, name) [WK_FMT_##id] = wk_expand_##name##_ref,
static wk_expand_fn *const table[WK_FMT_COUNT] = {FORMATS(ROW)};

void wk_fill_expand_ref(wk_kernels *k) {
    for (int f = 0; f < WK_FMT_COUNT; f++) {
        k->expand[f] = table[f];
        k->decode[f] = wk_formats[f].decode;
    }
}

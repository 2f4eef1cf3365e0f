/* repack.cpp: file rows to the planes of layout.h, on the host. A block is exploded to one code a byte and packed again:
 * two short loops a format instead of one clever one for each; it runs once, at upload. */
#include <string.h>

#include "gpu/cuda/layout.h"

extern "C" {
#include "simd/quant/iq.h"
}

namespace {

/* A block with everything spread out: codes as the device wants them, not yet packed. */
struct spread {
    uint8_t code[256];
    uint16_t d, m; /* f16 bits, or e8m0 */
    int8_t sc[16];
    uint8_t mn[16];
};

uint8_t u8(int v) { return (uint8_t)v; }
int8_t i8(int v) { return (int8_t)v; }

void nibbles32(uint8_t *code, const uint8_t *qs) {
    for (int i = 0; i < 16; i++) code[i] = u8(qs[i] & 15);
    for (int i = 0; i < 16; i++) code[16 + i] = u8(qs[i] >> 4);
}
void fifth32(uint8_t *code, const uint8_t qh[4]) {
    uint32_t h;
    memcpy(&h, qh, 4);
    for (int i = 0; i < 32; i++) code[i] = u8(code[i] | (int)(h >> i & 1) << 4);
}
/* Low nibbles of 32 bytes are 32 codes, high ones the next 32. */
void nibbles_k(uint8_t *code, const uint8_t *qs) {
    for (int q = 0; q < 4; q++, qs += 32, code += 64) {
        for (int i = 0; i < 32; i++) code[i] = u8(qs[i] & 15);
        for (int i = 0; i < 32; i++) code[32 + i] = u8(qs[i] >> 4);
    }
}
void two_bits(uint8_t *code, const uint8_t *qs) {
    for (int half = 0; half < 2; half++, qs += 32)
        for (int j = 0; j < 4; j++, code += 32)
            for (int i = 0; i < 32; i++) code[i] = u8(qs[i] >> (2 * j) & 3);
}
/* Bit j of byte i belongs to code 32j + i. */
void one_bit(uint8_t *code, const uint8_t *qh, int shift) {
    for (int j = 0; j < 8; j++, code += 32)
        for (int i = 0; i < 32; i++) code[i] = u8(code[i] | (qh[i] >> j & 1) << shift);
}

void take(spread *s, const wk_block_q4_0 &b) { s->d = b.d, nibbles32(s->code, b.qs); }
void take(spread *s, const wk_block_q4_1 &b) { s->d = b.d, s->m = b.m, nibbles32(s->code, b.qs); }
void take(spread *s, const wk_block_q5_0 &b) { s->d = b.d, nibbles32(s->code, b.qs), fifth32(s->code, b.qh); }
void take(spread *s, const wk_block_q5_1 &b) {
    s->d = b.d, s->m = b.m, nibbles32(s->code, b.qs), fifth32(s->code, b.qh);
}
void take(spread *s, const wk_block_q8_0 &b) { s->d = b.d, memcpy(s->code, b.qs, 32); }
void take(spread *s, const wk_block_iq4_nl &b) { s->d = b.d, nibbles32(s->code, b.qs); }
void take(spread *s, const wk_block_mxfp4 &b) { s->d = b.e, nibbles32(s->code, b.qs); }

void take(spread *s, const wk_block_q2_k &b) {
    s->d = b.d, s->m = b.dmin, two_bits(s->code, b.qs);
    for (int j = 0; j < 16; j++) s->sc[j] = i8(b.scales[j] & 15), s->mn[j] = u8(b.scales[j] >> 4);
}
void take(spread *s, const wk_block_q3_k &b) {
    s->d = b.d, two_bits(s->code, b.qs), one_bit(s->code, b.hmask, 2);
    for (int j = 0; j < 16; j++) s->sc[j] = i8(wk_k3_scale(b.scales, 1, j));
}
void scales_k4(spread *s, const uint8_t *scales) {
    for (int j = 0; j < 8; j++) s->sc[j] = i8(wk_k4_scale(scales, 1, j)), s->mn[j] = u8(wk_k4_min(scales, 1, j));
}
void take(spread *s, const wk_block_q4_k &b) {
    s->d = b.d, s->m = b.dmin, nibbles_k(s->code, b.qs), scales_k4(s, b.scales);
}
void take(spread *s, const wk_block_q5_k &b) {
    s->d = b.d, s->m = b.dmin, nibbles_k(s->code, b.qs), one_bit(s->code, b.qh, 4), scales_k4(s, b.scales);
}
void take(spread *s, const wk_block_q6_k &b) {
    s->d = b.d, memcpy(s->sc, b.scales, 16);
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 128; i++) {
            const int low = b.ql[half * 64 + i % 64] >> (i / 64 * 4) & 15;
            s->code[half * 128 + i] = u8(low | (b.qh[half * 32 + i % 32] >> (i / 32 * 2) & 3) << 4);
        }
}
void take(spread *s, const wk_block_iq4_xs &b) {
    s->d = b.d;
    for (int j = 0; j < 8; j++) {
        nibbles32(s->code + 32 * j, b.qs + 16 * j);
        s->sc[j] = i8(wk_iq4_xs_scale(b.scales_l, 1, b.scales_h, j));
    }
}
void take(spread *s, const wk_block_tq2_0 &b) {
    s->d = b.d, two_bits(s->code, b.qs), memset(s->sc, 1, sizeof(s->sc));
}
void take(spread *s, const wk_block_tq1_0 &b) {
    s->d = b.d, memset(s->sc, 1, sizeof(s->sc));
    for (int i = 0; i < 160; i++) s->code[i] = u8(wk_tq1_digit(b.qs[i % 32], i / 32) + 1);
    for (int i = 0; i < 80; i++) s->code[160 + i] = u8(wk_tq1_digit(b.qs[32 + i % 16], i / 16) + 1);
    for (int i = 0; i < 16; i++) s->code[240 + i] = u8(wk_tq1_digit(b.qh[i % 4], i / 4) + 1);
}

/* shift: of a magnitude to its number; bits: of that number, behind which the sign stands. f: the inverse of d's
 * factor, so that a scale is a whole number. */
template <class C, class S>
void take_iq(spread *s, const uint8_t *p, C codes, S scale, int n_sub, int shift, int bits, float f) {
    memcpy(&s->d, p, 2);
    for (int i = 0; i < 32; i++) {
        const uint64_t v = codes(p, 1, i);
        for (int e = 0; e < 8; e++) {
            const int c = (int8_t)(v >> (8 * e));
            s->code[8 * i + e] = u8((c < 0 ? -c : c) >> shift | (c < 0) << bits);
        }
    }
    for (int j = 0; j < n_sub; j++) s->sc[j] = i8((int)(scale(p, 1, j) * f));
}
const uint8_t *bytes_of(const void *p) { return (const uint8_t *)p; }
void take(spread *s, const wk_block_iq2_xxs &b) {
    take_iq(s, bytes_of(&b), wk_iq2_xxs_codes, wk_iq2_xxs_scale, 8, 4, 2, 8.0f);
}
void take(spread *s, const wk_block_iq2_xs &b) {
    take_iq(s, bytes_of(&b), wk_iq2_xs_codes, wk_iq2_xs_scale, 16, 4, 2, 8.0f);
}
void take(spread *s, const wk_block_iq2_s &b) {
    take_iq(s, bytes_of(&b), wk_iq2_s_codes, wk_iq2_s_scale, 16, 4, 2, 8.0f);
}
void take(spread *s, const wk_block_iq3_xxs &b) {
    take_iq(s, bytes_of(&b), wk_iq3_xxs_codes, wk_iq3_xxs_scale, 8, 3, 3, 4.0f);
}
void take(spread *s, const wk_block_iq3_s &b) {
    take_iq(s, bytes_of(&b), wk_iq3_s_codes, wk_iq3_s_scale, 8, 1, 3, 1.0f);
}

/* Two bits of 32 codes from bit `from` on, to two words. */
void pack_two(uint32_t *w, const uint8_t *code, int from) {
    w[0] = w[1] = 0;
    for (int i = 0; i < 32; i++) w[i / 16] |= (uint32_t)(code[i] >> from & 3) << (8 * (i % 4) + i % 16 / 4 * 2);
}

void pack_unit(uint32_t *low, uint32_t *high, const uint8_t *code, const wkc_layout &l) {
    if (l.low == 8) memcpy(low, code, 32);
    if (l.low == 2) pack_two(low, code, 0);
    if (l.low == 4) {
        uint8_t b[16];
        for (int i = 0; i < 16; i++) {
            const uint8_t *c = l.look == WKC_LOOK_TABLE ? code + 2 * i : code + i / 4 * 8 + i % 4;
            b[i] = u8((c[0] & 15) | (c[l.look == WKC_LOOK_TABLE ? 1 : 4] & 15) << 4);
        }
        memcpy(low, b, 16);
    }
    if (l.high == 2) pack_two(high, code, l.low);
    if (l.high == 1) {
        *high = 0;
        for (int i = 0; i < 32; i++) *high |= (uint32_t)(code[i] >> l.low & 1) << (8 * (i % 4) + i / 4);
    }
}

void put_d(uint8_t *p, const spread &s, const wkc_layout &l) {
    if (l.d == WKC_D_E8M0) {
        *p = (uint8_t)s.d;
        return;
    }
    memcpy(p, &s.d, 2);
    if (l.mins) memcpy(p + 2, &s.m, 2);
}

template <class B> void repack(uint8_t *const plane[WKC_PLANE], const uint8_t *row, int32_t k, const wkc_layout &l) {
    const int n_unit = l.block / WKC_UNIT, n_sub = WKC_UNIT / l.sub, n_scale = wkc_scale_bytes(l);
    uint8_t *low = plane[0], *high = plane[1], *d = plane[2], *sc = plane[3];
    for (int32_t k0 = 0; k0 < k; k0 += l.block, row += sizeof(B), d += wkc_d_bytes(l)) {
        B b;
        spread s;
        memcpy(&b, row, sizeof(b));
        take(&s, b);
        put_d(d, s, l);
        for (int u = 0; u < n_unit; u++) {
            uint32_t w[8], h[2];
            pack_unit(w, h, s.code + WKC_UNIT * u, l);
            memcpy(low, w, 4 * (size_t)l.low);
            if (l.high) memcpy(high, h, 4 * (size_t)l.high);
            low += 4 * l.low, high += 4 * l.high;
            if (!n_scale) continue;
            for (int j = 0; j < n_sub; j++) sc[j] = (uint8_t)s.sc[u * n_sub + j];
            for (int j = 0; l.mins && j < n_sub; j++) sc[n_sub + j] = s.mn[u * n_sub + j];
            sc += n_scale;
        }
    }
}

} // namespace

void wkc_repack_row(uint8_t *const plane[WKC_PLANE], int fmt, const uint8_t *row, int32_t k) {
    const wkc_layout l = wkc_layout_of(fmt);
    const size_t size = fmt == WK_FMT_F32 ? 4 : 2;
    switch (fmt) {
    case WK_FMT_F32:
    case WK_FMT_F16:
    case WK_FMT_BF16:
        memcpy(plane[0], row, (size_t)k * size);
        memset(plane[0] + (size_t)k * size, 0, (size_t)(wkc_pad(k) - k) * size);
        break;
#define REPACK(id, type) \
    case WK_FMT_##id: repack<type>(plane, row, k, l); break;
        REPACK(Q4_0, wk_block_q4_0)
        REPACK(Q4_1, wk_block_q4_1)
        REPACK(Q5_0, wk_block_q5_0)
        REPACK(Q5_1, wk_block_q5_1)
        REPACK(Q8_0, wk_block_q8_0)
        REPACK(IQ4_NL, wk_block_iq4_nl)
        REPACK(MXFP4, wk_block_mxfp4)
        REPACK(Q2_K, wk_block_q2_k)
        REPACK(Q3_K, wk_block_q3_k)
        REPACK(Q4_K, wk_block_q4_k)
        REPACK(Q5_K, wk_block_q5_k)
        REPACK(Q6_K, wk_block_q6_k)
        REPACK(IQ4_XS, wk_block_iq4_xs)
        REPACK(IQ2_XXS, wk_block_iq2_xxs)
        REPACK(IQ2_XS, wk_block_iq2_xs)
        REPACK(IQ2_S, wk_block_iq2_s)
        REPACK(IQ3_XXS, wk_block_iq3_xxs)
        REPACK(IQ3_S, wk_block_iq3_s)
        REPACK(TQ1_0, wk_block_tq1_0)
        REPACK(TQ2_0, wk_block_tq2_0)
    default: break;
    }
}

void wkc_table(int8_t table[16], float *factor, int fmt) {
    *factor = fmt == WK_FMT_IQ2_XXS || fmt == WK_FMT_IQ2_XS || fmt == WK_FMT_IQ2_S ? 0.125f
              : fmt == WK_FMT_IQ3_XXS                                              ? 0.25f
                                                                                   : 1.0f;
    memset(table, 0, 16);
    if (fmt == WK_FMT_IQ4_NL || fmt == WK_FMT_IQ4_XS) memcpy(table, wk_iq4_code, 16);
    if (fmt == WK_FMT_MXFP4) memcpy(table, wk_mxfp4_code, 16);
    if (fmt != WK_FMT_IQ3_XXS && fmt != WK_FMT_IQ3_S) return;
    for (int i = 0; i < 16; i++) {
        const int j = i % 8, v = fmt == WK_FMT_IQ3_S ? 1 + 2 * j : 4 + 8 * j + 2 * (j == 7);
        table[i] = i8(i < 8 ? v : -v);
    }
}

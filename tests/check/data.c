/* data.c: weights of every format and activations of every kind, plain and nasty. */
#include <string.h>

#include "simd/quant/quant.h"
#include "tests/check/check.h"

/* A finite half: near 0.01, or zero, denormal, largest, negative zero. */
static uint16_t half_of(ck *c, ck_weight w) {
    static const uint16_t nasty[] = {0x0000, 0x8000, 0x0001, 0x83ff,
                                     0x0400, 0x7bff, 0xfbff, 0x3c00};
    if (w == CK_W_SCALES && ck_range(c, 0, 2)) return nasty[ck_u32(c) % WK_COUNT(nasty)];
    return wk_f32_to_f16(ck_gauss(c) * 0.01f);
}

static void set_value(ck *c, uint8_t *p, int value, ck_weight w) {
    float f;
    if (value == WK_UNIT_F32) {
        ck_floats(c, &f, 1, w == CK_W_SCALES ? CK_MIXED : CK_GAUSS);
        memcpy(p, &f, 4);
        return;
    }
    if (value == WK_UNIT_E8M0) {
        *p = (uint8_t)(w == CK_W_SCALES ? ck_range(c, 0, WK_E8M0_MAX) : ck_range(c, 115, 125));
        return;
    }
    uint16_t h = half_of(c, w);
    if (value == WK_UNIT_BF16 && w == CK_W_SCALES)
        h = (uint16_t)(ck_u32(c) % 0x7f80u | (ck_u32(c) & 0x8000u));
    if (value == WK_UNIT_BF16 && w != CK_W_SCALES) h = wk_f32_to_bf16(ck_gauss(c));
    memcpy(p, &h, 2);
}

static void fill_codes(ck *c, uint8_t *p, size_t bytes, ck_weight w) {
    for (size_t i = 0; i < bytes; i++) {
        const int pick = w == CK_W_SCALES ? ck_range(c, 0, 3) : 0;
        if (w == CK_W_ONES || pick == 1)
            p[i] = 0xff;
        else if (w == CK_W_ZERO || pick == 2)
            p[i] = 0;
        else
            p[i] = (uint8_t)ck_u32(c);
    }
}

bool ck_has_book(int fmt) {
    return fmt == WK_FMT_IQ2_XXS || fmt == WK_FMT_IQ2_XS || fmt == WK_FMT_IQ2_S || fmt == WK_FMT_IQ3_XXS ||
           fmt == WK_FMT_IQ3_S;
}

/* Bits `at` .. of a field. */
static void put_bits(uint8_t *p, unsigned at, unsigned bits, uint32_t v) {
    for (unsigned i = at; i < at + bits; i++, v >>= 1)
        p[i / 8] = (uint8_t)((p[i / 8] & ~(1u << i % 8)) | (v & 1u) << i % 8);
}

/* Group i of 8 values of a block: numbers a (and b, of IQ3) in the code book, and the signs. */
static void put_book(uint8_t *p, int fmt, unsigned i, uint32_t a, uint32_t b, uint32_t sign) {
    const unsigned word = i / 4 * 64, at = i % 4;
    if (fmt == WK_FMT_IQ2_XXS) {
        put_bits(p + offsetof(wk_block_iq2_xxs, qs), word + 8 * at, 8, a);
        put_bits(p + offsetof(wk_block_iq2_xxs, qs), word + 32 + 7 * at, 7, sign);
    } else if (fmt == WK_FMT_IQ2_XS) {
        put_bits(p + offsetof(wk_block_iq2_xs, qs), 16 * i, 9, a);
        put_bits(p + offsetof(wk_block_iq2_xs, qs), 16 * i + 9, 7, sign);
    } else if (fmt == WK_FMT_IQ2_S) {
        put_bits(p + offsetof(wk_block_iq2_s, qs), 8 * i, 8, a);
        put_bits(p + offsetof(wk_block_iq2_s, qh), 2 * i, 2, a >> 8);
        put_bits(p + offsetof(wk_block_iq2_s, signs), 8 * i, 8, sign);
    } else if (fmt == WK_FMT_IQ3_XXS) {
        put_bits(p + offsetof(wk_block_iq3_xxs, qs), 16 * i, 8, a);
        put_bits(p + offsetof(wk_block_iq3_xxs, qs), 16 * i + 8, 8, b);
        put_bits(p + offsetof(wk_block_iq3_xxs, signs), word / 2 + 7 * at, 7, sign);
    } else {
        put_bits(p + offsetof(wk_block_iq3_s, qs), 16 * i, 8, a);
        put_bits(p + offsetof(wk_block_iq3_s, qs), 16 * i + 8, 8, b);
        put_bits(p + offsetof(wk_block_iq3_s, qh), 2 * i, 2, (a >> 8 & 1) | (b >> 8 & 1) << 1);
        put_bits(p + offsetof(wk_block_iq3_s, signs), 8 * i, 8, sign);
    }
}

/* Block n. Odd factors: after 1024 blocks a group of the same place has met all numbers, and all signs. */
static void fill_book(uint8_t *p, int fmt, uint32_t n) {
    for (uint32_t i = 0; i < 32; i++)
        put_book(p, fmt, i, n + 33 * i, 7 * n + 101 * i + 1, 5 * n + n / 256 + 11 * i);
}

void ck_rows(ck *c, void *rows, int fmt, int n_row, int k, ck_weight w) {
    const wk_layout *l = wk_format_layout(fmt);
    const size_t bytes = wk_formats[fmt].bytes,
                 n = (size_t)n_row * (size_t)k / wk_formats[fmt].block;
    uint8_t *p = rows;
    fill_codes(c, p, n * bytes, w);
    for (size_t b = 0; b < n; b++, p += bytes) {
        if (w == CK_W_BOOK && ck_has_book(fmt)) fill_book(p, fmt, (uint32_t)b);
        for (int i = 0; i < l->n_field; i++) {
            const wk_field *f = &l->field[i];
            if (f->value != WK_UNIT_BITS) set_value(c, p + f->at, f->value, w);
        }
    }
}

void *ck_panels(ck *c, int fmt, int n_row, int k, ck_weight w) {
    const size_t row = wk_row_bytes(fmt, (size_t)k), panel = wk_panel_bytes(fmt, (size_t)k);
    const int n_panel = (n_row + 15) / 16;
    uint8_t *rows = ck_in(c, row * (size_t)n_row), *out = ck_in(c, panel * (size_t)n_panel);
    ck_rows(c, rows, fmt, n_row, k, w);
    for (int p = 0; p < n_panel; p++) {
        const int n = n_row - 16 * p < 16 ? n_row - 16 * p : 16;
        wk_formats[fmt].pack(out + (size_t)p * panel, rows + (size_t)p * 16 * row, row, n, k);
    }
    return out;
}

/* Codes at the ends and scales of all sizes, with the sums that belong to them. */
static void nasty_codes(ck *c, wk_act *a, int act, int t, ck_x x) {
    const int block = act == WK_X_A32 ? 32 : 256;
    int8_t *q = a->q + (size_t)t * a->ld;
    const size_t i0 = (size_t)t * a->ldb;
    for (int k = 0; k < a->k; k++) q[k] = ck_u32(c) & 1 ? 127 : -127;
    if (ck_range(c, 0, 1)) memset(q, ck_u32(c) & 1 ? 127 : -127, (size_t)a->k);
    for (int b = 0; b < a->k / block; b++) {
        ck_floats(c, &a->d[i0 + (size_t)b], 1, x == CK_X_NASTY ? CK_MIXED : CK_GAUSS);
    }
    for (int s = 0; s < a->k / 16; s++) {
        int sum = 0;
        for (int i = 0; i < 16; i++) sum += q[16 * s + i];
        if (act != WK_X_A256) continue;
        a->s16[2 * i0 + (size_t)s] = (int16_t)sum;
        a->z16[2 * i0 + (size_t)s] = -128 * sum;
    }
    for (int s = 0; s < a->k / 32; s++) {
        int sum = 0;
        for (int i = 0; i < 32; i++) sum += q[32 * s + i];
        a->z32[i0 + (size_t)s] = -128 * sum;
        if (act == WK_X_A256)
            a->s32[i0 + (size_t)s] = (int16_t)sum;
        else
            a->f32s[i0 + (size_t)s] = (float)sum;
    }
}

static wk_act quant_act(ck *c, int act, int n, int k, ck_x x) {
    const size_t last = (size_t)n - 1, ldb = ((size_t)k / 32 + 1) & ~(size_t)1,
                 b32 = last * ldb + (size_t)k / 32;
    const size_t b16 = 2 * last * ldb + (size_t)k / 16, block = act == WK_X_A32 ? 32 : 256;
    wk_act a = {.n = n, .k = k, .ld = 32 * ldb, .ldb = ldb};
    a.q = ck_in(c, last * a.ld + (size_t)k);
    a.d = ck_in(c, (last * ldb + (size_t)k / block) * 4);
    a.z32 = ck_in(c, b32 * 4);
    a.z16 = ck_in(c, b16 * 4);
    a.f32s = ck_in(c, b32 * 4);
    a.s32 = ck_in(c, b32 * 2);
    a.s16 = ck_in(c, b16 * 2);
    float *row = ck_in(c, (size_t)k * 4);
    for (int t = 0; t < n; t++) {
        const bool nasty = x == CK_X_NASTY && t % 3 == 1;
        ck_floats(c, row, (size_t)k, nasty ? CK_MIXED : CK_GAUSS);
        if (nasty && t % 2) row[ck_range(c, 0, k - 1)] = wk_f32_from_bits(0x7f800000u);
        if (x == CK_X_ENDS || (x == CK_X_NASTY && t % 3 == 2))
            nasty_codes(c, &a, act, t, x);
        else
            c->ref->quant[act](&a, t, row, k);
    }
    return a;
}

wk_act ck_act(ck *c, int act, int n, int k, ck_x x) {
    if (act != WK_X_F32) return quant_act(c, act, n, k, x);
    wk_act a = {.n = n, .k = k, .ld = (size_t)k + 3};
    float *v = ck_in(c, (((size_t)n - 1) * a.ld + (size_t)k) * 4);
    for (int t = 0; t < n; t++) {
        const ck_data data = x == CK_X_NASTY && t % 3 == 1 ? CK_BITS
                             : x == CK_X_NASTY             ? CK_MIXED
                                                           : CK_GAUSS;
        ck_floats(c, v + (size_t)t * a.ld, (size_t)k, data);
    }
    a.x = v;
    return a;
}

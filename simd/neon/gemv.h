/* gemv.h: one token against packed panels, straight from the packed bits; written on the dot.h that the
 * including file has chosen. Inline code only; gemv_list.h makes functions of it.
 *
 * Codes are used as they are stored, zero point and all; the zero point is taken out once per sub-block by the
 * sums that come with the activations. A panel is one forward stream, fetched WK_AHEAD bytes ahead. */
#ifndef WK_NEON_GEMV_H
#define WK_NEON_GEMV_H

#include "simd/neon/codes.h"

enum { WK_AHEAD = 2048 };

#define WK_FOR_4(X) X(0) X(1) X(2) X(3)

WK_INLINE void fetch(const uint8_t *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += WK_LINE) v_ahead(p, WK_AHEAD + i);
}

/* i - zero * (sum of codes) out of the stored -128 * (sum of codes), zero = 128 >> shift: exact. */
WK_INLINE v16i drop_zero(v16i i, int32_t z, int shift) {
    const int32x4_t v = vdupq_n_s32(z >> shift);
    return v16i_add(i, (v16i){v, v, v, v});
}
WK_INLINE int8x16_t plain(uint8x16_t v) { return vreinterpretq_s8_u8(v); }

/* ---- blocks of 32 ---- */

#define NIBBLES(g)                                                                                 \
    for (int i = 0; i < 4; i++) {                                                                  \
        const uint8x16_t v = v_part(qs + WK_LINE * (g), i);                                        \
        DOT(&d, i, plain(v_low4(v)), a, g);                                                        \
        DOT(&e, i, plain(v_high4(v)), b, g);                                                       \
    }
WK_INLINE v16i sum_nibbles(const uint8_t *qs, const int8_t *q) {
    const int8x16_t a = vld1q_s8(q), b = vld1q_s8(q + 16);
    dot16 d = dot_none(), e = d;
    WK_FOR_4(NIBBLES)
    return dot_both(&d, &e);
}

#define FIVES(g)                                                                                   \
    for (int i = 0; i < 4; i++) {                                                                  \
        const uint8x16_t v = v_part(qs + WK_LINE * (g), i), h = v_part(qh, i);                     \
        DOT(&d, i, plain(v_five_low(v, h, g)), a, g);                                              \
        DOT(&e, i, plain(v_five_high(v, h, (g) + 4)), b, g);                                       \
    }
WK_INLINE v16i sum_fives(const uint8_t *qs, const uint8_t *qh, const int8_t *q) {
    const int8x16_t a = vld1q_s8(q), b = vld1q_s8(q + 16);
    dot16 d = dot_none(), e = d;
    WK_FOR_4(FIVES)
    return dot_both(&d, &e);
}

#define BYTES(at, l, m)                                                                            \
    for (int i = 0; i < 4; i++) {                                                                  \
        const uint8x16_t v = v_part(qs + (at) + WK_LINE * (l), i);                                 \
        const uint8x16_t w = v_part(qs + (at) + WK_LINE * (m), i);                                 \
        DOT_PAIR(&d, i, v_byte(v), v_byte(w), a, l, m);                                            \
    }
WK_INLINE v16i sum_bytes(const uint8_t *qs, const int8_t *q) {
    dot_wide d = dot_wide_none();
    for (int k = 0; k < 32; k += 16) {
        const int8x16_t a = vld1q_s8(q + k);
        BYTES(16 * k, 0, 1)
        BYTES(16 * k, 2, 3)
    }
    return dot_wide_sum(&d);
}

#define TABLE(l, m)                                                                                \
    for (int i = 0; i < 4; i++) {                                                                  \
        const uint8x16_t v = v_part(qs + WK_LINE * (l), i), w = v_part(qs + WK_LINE * (m), i);     \
        DOT_PAIR(&d, i, vqtbl1q_s8(table, v_low4(v)), vqtbl1q_s8(table, v_low4(w)), a, l, m);      \
        DOT_PAIR(&d, i, vqtbl1q_s8(table, v_high4(v)), vqtbl1q_s8(table, v_high4(w)), b, l, m);    \
    }
WK_INLINE v16i sum_table(const uint8_t *qs, const int8_t *q) {
    const int8x16_t a = vld1q_s8(q), b = vld1q_s8(q + 16), table = v_iq4_table();
    dot_wide d = dot_wide_none();
    TABLE(0, 1)
    TABLE(2, 3)
    return dot_wide_sum(&d);
}

#define SMALL_TABLE(g)                                                                             \
    for (int i = 0; i < 4; i++) {                                                                  \
        const uint8x16_t v = v_part(qs + WK_LINE * (g), i);                                        \
        DOT(&d, i, vqtbl1q_s8(table, v_low4(v)), a, g);                                            \
        DOT(&e, i, vqtbl1q_s8(table, v_high4(v)), b, g);                                           \
    }
WK_INLINE v16i sum_mxfp4(const uint8_t *qs, const int8_t *q) {
    const int8x16_t a = vld1q_s8(q), b = vld1q_s8(q + 16), table = v_mxfp4_table();
    dot16 d = dot_none(), e = d;
    WK_FOR_4(SMALL_TABLE)
    return dot_both(&d, &e);
}

/* Where the fields of a packed block stand, and the zero point as 128 >> shift. */
typedef struct field32 {
    int bytes, m, qh, qs, shift; /* m, qh, shift: 0 where there is none */
} field32;

/* s * F(I), with the min where there is one. */
WK_INLINE v16 value32(int fmt, field32 f, const uint8_t *p, const wk_act *x, int b) {
    const int8_t *q = x->q + 32 * b;
    v16i i;
    if (fmt == WK_FMT_Q8_0) i = sum_bytes(p + f.qs, q);
    else if (fmt == WK_FMT_IQ4_NL) i = sum_table(p + f.qs, q);
    else if (fmt == WK_FMT_MXFP4) i = sum_mxfp4(p + f.qs, q);
    else if (f.qh) i = sum_fives(p + f.qs, p + f.qh, q);
    else i = sum_nibbles(p + f.qs, q);
    if (f.shift) i = drop_zero(i, x->z32[b], f.shift);
    const v16 a = v16_mul(fmt == WK_FMT_MXFP4 ? v16_e8m0_half(p) : v16_f16(p), v16_float(i));
    return f.m ? v16_fma1(a, v16_f16(p + f.m), x->f32s[b]) : a;
}

WK_INLINE void gemv32(int fmt, field32 f, float *dst, const void *w, const wk_act *x, int n_panel, int k) {
    const size_t block = (size_t)f.bytes * WK_PANEL, panel = wk_panel_bytes(fmt, (size_t)k);
    for (int n = 0; n < n_panel; n++) {
        const uint8_t *p = (const uint8_t *)w + (size_t)n * panel;
        v16 acc = v16_zero();
        for (int b = 0; b < k / 32; b++, p += block) {
            fetch(p, block);
            acc = v16_fma1(acc, value32(fmt, f, p, x, b), x->d[b]);
        }
        v16_store(dst + 16 * n, acc);
    }
}

/* ---- Q4_K, Q5_K ---- */

/* a = fma(F(I), d * sc, a) */
WK_INLINE v16 add_term(v16 a, v16i i, v16 d, const int8_t *sc) {
    return v16_fma(a, v16_float(i), v16_mul(d, v16_s8(vld1q_s8(sc))));
}

/* Line g of 4: low nibbles are k = 4g, high ones k = 4g + 32 of a quarter of 64. */
#define QUARTER(g)                                                                                 \
    for (int i = 0; i < 4; i++) {                                                                  \
        const uint8x16_t v = v_part(qs + WK_LINE * (g), i);                                        \
        const uint8x16_t h = qh ? v_part(qh + WK_LINE * (g), i) : vdupq_n_u8(0);                   \
        const uint8x16_t l = qh ? v_five_low(v, h, 2 * c) : v_low4(v);                             \
        const uint8x16_t u = qh ? v_five_high(v, h, 2 * c + 1) : v_high4(v);                       \
        DOT(low, i, plain(l), a, g);                                                               \
        DOT(high, i, plain(u), b, g);                                                              \
    }
WK_INLINE void half_quarter(dot16 *low, dot16 *high, const uint8_t *qs, const uint8_t *qh, const int8_t *q,
                            int c) {
    const int8x16_t a = vld1q_s8(q), b = vld1q_s8(q + 32);
    WK_FOR_4(QUARTER)
}

/* a of one block. head: d, dmin, scales 256 bytes; then qh (Q5_K) 512; then qs 2048. */
WK_INLINE v16 value_k4(const uint8_t *p, const wk_act *x, int b, bool five) {
    const uint8_t *qh = five ? p + 256 : NULL, *qs = five ? p + 768 : p + 256;
    const v16 s = v16_f16(p);
    v16 a = v16_zero();
    k4_scales k;
    k4_scales_of(&k, p + 64);
    for (int c = 0; c < 4; c++, qs += 512) {
        const int8_t *q = x->q + 256 * b + 64 * c;
        dot16 low = dot_none(), high = low;
        fetch(qs, five ? 704 : 576);
        half_quarter(&low, &high, qs, qh, q, c);
        half_quarter(&low, &high, qs + 256, five ? qh + 256 : NULL, q + 16, c);
        a = add_term(a, dot_sum(&low), s, k.sc + 32 * c);
        a = add_term(a, dot_sum(&high), s, k.sc + 32 * c + 16);
    }
    return v16_fma(a, v16_float(k4_mins(k.mn, x->s32 + 8 * b)), v16_neg(v16_f16(p + 32)));
}

/* ---- Q6_K ---- */

/* Line g of 4: the low nibble of ql with bits 2j of qh, the high one with bits 2j + 4. */
#define SIXES(g)                                                                                   \
    for (int i = 0; i < 4; i++) {                                                                  \
        const uint8x16_t v = v_part(ql + WK_LINE * (g), i), h = v_part(qh + WK_LINE * (g), i);     \
        DOT(&d, i, plain(vorrq_u8(v_low4(v), v_top2(h, j))), a, g);                                \
        DOT(&e, i, plain(vorrq_u8(v_high4(v), v_top2(h, j + 2))), b, g);                           \
    }
/* The two 16s that share 4 lines of ql: k = 32 j and 32 j + 64 of a half. */
WK_INLINE void sums6(v16i *low, v16i *high, const uint8_t *ql, const uint8_t *qh, const int8_t *q, int j) {
    const int8x16_t a = vld1q_s8(q + 32 * j), b = vld1q_s8(q + 32 * j + 64);
    dot16 d = dot_none(), e = d;
    WK_FOR_4(SIXES)
    *low = dot_sum(&d);
    *high = dot_sum(&e);
}

/* a of one block: d, scales 288 bytes; qh 1024; ql 2048. sum[n] belongs to k = 16 n of a half. */
WK_INLINE v16 value_q6(const uint8_t *p, const wk_act *x, int b) {
    const v16 s = v16_f16(p);
    v16 a = v16_zero();
    for (int half = 0; half < 2; half++) {
        const uint8_t *qh = p + 288 + 512 * half, *ql = p + 1312 + 1024 * half;
        const int8_t *q = x->q + 256 * b + 128 * half;
        const int32_t *z = x->z16 + 16 * b + 8 * half;
        v16i sum[8];
        for (int i = 0; i < 2; i++) {
            fetch(p + 1728 * half + 896 * i, 896); /* 14 lines of 53 */
            for (int j = 0; j < 2; j++) {
                const uint8_t *line = ql + 512 * j + 256 * i;
                sums6(&sum[2 * j + i], &sum[2 * j + i + 4], line, qh + 256 * i, q + 16 * i, j);
            }
        }
        for (int n = 0; n < 8; n++) {
            const int8_t *sc = (const int8_t *)p + 32 + 128 * half + 16 * n;
            a = add_term(a, drop_zero(sum[n], z[n], 2), s, sc);
        }
    }
    return a;
}

/* ---- IQ4_XS ---- */

/* a of one block: d, scales 128 bytes; then qs 2048. */
WK_INLINE v16 value_xs(const uint8_t *p, const wk_act *x, int b) {
    const v16 s = v16_f16(p);
    v16 a = v16_zero();
    int8_t sc[128];
    fetch(p, 128);
    xs_scales_of(sc, p + 32);
    for (int j = 0; j < 8; j++) {
        const uint8_t *qs = p + 128 + 256 * j;
        fetch(qs, 256);
        a = add_term(a, sum_table(qs, x->q + 256 * b + 32 * j), s, sc + 16 * j);
    }
    return a;
}

/* ---- Q2_K, Q3_K ---- */

/* Line g of 4: bits 2j hold k = 32 j + 4g of a half; with hm, bit `bit` of it is the third. */
#define TWOS(g)                                                                                    \
    for (int i = 0; i < 4; i++) {                                                                  \
        uint8x16_t v = v_two(v_part(qs + WK_LINE * (g), i), j);                                    \
        if (hm) v = vorrq_u8(v, v_bit(v_part(hm + WK_LINE * (g), i), bit, 4));                     \
        DOT(&d, i, plain(v), a, g);                                                                \
    }
WK_INLINE v16i sum_twos(const uint8_t *qs, const uint8_t *hm, const int8_t *q, int j, int bit) {
    const int8x16_t a = vld1q_s8(q);
    dot16 d = dot_none();
    WK_FOR_4(TWOS)
    return dot_sum(&d);
}

/* Sum over 16 sub-blocks of sc * (sum of 16), sub-block n at k = 16 n; with hm the zero point is 4. */
WK_INLINE v16i sum_scaled(const int16_t *sc, const uint8_t *qs, const uint8_t *hm, const wk_act *x, int b) {
    v16i total = v16i_zero();
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 2; i++) { /* four lines hold four 16s */
            const uint8_t *line = qs + 512 * half + 256 * i, *third = hm ? hm + 256 * i : NULL;
            fetch(line, 256 + (hm ? 128 : 0));
            for (int j = 0; j < 4; j++) {
                const int n = 8 * half + 2 * j + i;
                v16i sum = sum_twos(line, third, x->q + 256 * b + 16 * n, j, 4 * half + j);
                if (hm) sum = drop_zero(sum, x->z16[16 * b + n], 5);
                total = v16i_mla(total, sum, sc + 16 * n);
            }
        }
    }
    return total;
}

/* d, dmin, scales 320 bytes; then qs 1024. */
WK_INLINE v16 value_q2(const uint8_t *p, const wk_act *x, int b) {
    int16_t sc[256], mn[256];
    v16i m = v16i_zero();
    fetch(p, 320);
    k2_scales_of(sc, mn, p + 64);
    const v16 a = v16_mul(v16_f16(p), v16_float(sum_scaled(sc, p + 320, NULL, x, b)));
    for (int j = 0; j < 16; j++) m = v16i_mla1(m, mn + 16 * j, x->s16[16 * b + j]);
    return v16_fma(a, v16_float(m), v16_neg(v16_f16(p + 32)));
}

/* d, scales 224 bytes; hmask 512; then qs 1024. */
WK_INLINE v16 value_q3(const uint8_t *p, const wk_act *x, int b) {
    int16_t sc[256];
    fetch(p, 224);
    k3_scales_of(sc, p + 32);
    return v16_mul(v16_f16(p), v16_float(sum_scaled(sc, p + 736, p + 224, x, b)));
}

/* ---- blocks of 256 ---- */

WK_INLINE v16 value256(int fmt, const uint8_t *p, const wk_act *x, int b) {
    if (fmt == WK_FMT_Q2_K) return value_q2(p, x, b);
    if (fmt == WK_FMT_Q3_K) return value_q3(p, x, b);
    if (fmt == WK_FMT_Q6_K) return value_q6(p, x, b);
    if (fmt == WK_FMT_IQ4_XS) return value_xs(p, x, b);
    return value_k4(p, x, b, fmt == WK_FMT_Q5_K);
}

WK_INLINE void gemv256(int fmt, float *dst, const void *w, const wk_act *x, int n_panel, int k) {
    const size_t block = (size_t)wk_formats[fmt].bytes * WK_PANEL, panel = wk_panel_bytes(fmt, (size_t)k);
    for (int n = 0; n < n_panel; n++) {
        const uint8_t *p = (const uint8_t *)w + (size_t)n * panel;
        v16 acc = v16_zero();
        for (int b = 0; b < k / 256; b++, p += block) {
            acc = v16_fma1(acc, value256(fmt, p, x, b), x->d[b]);
        }
        v16_store(dst + 16 * n, acc);
    }
}

#endif

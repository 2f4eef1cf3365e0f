/* expand.c: packed panel -> codes and scales in the form of this level (avx512vnni.h). */
#include "simd/avx512vnni/avx512vnni.h"
#include "simd/avx512vnni/codes.h"

WK_INLINE void put(uint8_t *code, int group, __m512i v) {
    _mm512_storeu_si512(code + 64 * group, v);
}
WK_INLINE __m512i plus(__m512i v, int zp) {
    return _mm512_add_epi8(v, wk_set8(zp));
}
/* Codes of a block of 32 start here; so do those of a super-block with 64 groups. */
#define EACH_BLOCK(b, block, bytes)                                                                \
    const uint8_t *b = (const uint8_t *)w + (size_t)(k0 / (block)) * (16 * (bytes));               \
    const size_t piece = (size_t)(klen / (block)) * (16 * (bytes));                                \
    uint8_t *code = dst->code;                                                                     \
    for (int i = 0; i < klen / (block);                                                            \
         wk_fetch(b + piece, 16 * (bytes)), i++, b += 16 * (bytes), code += 16 * (block))

void wk_expand_q4_0_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 32, 18) {
        _mm512_storeu_ps(dst->s + 16 * i, wk_f16_512(b));
        for (int g = 0; g < 4; g++) {
            const __m512i v = wk_line(b + 32 + 64 * g);
            put(code, g, plus(wk_lo4(v), 120));
            put(code, g + 4, plus(wk_hi4(v), 120));
        }
    }
}

void wk_expand_iq4_nl_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    const __m512i table = wk_iq4_table();
    EACH_BLOCK(b, 32, 18) {
        _mm512_storeu_ps(dst->s + 16 * i, wk_f16_512(b));
        for (int g = 0; g < 4; g++) {
            const __m512i v = wk_line(b + 32 + 64 * g);
            put(code, g, _mm512_shuffle_epi8(table, wk_lo4(v)));
            put(code, g + 4, _mm512_shuffle_epi8(table, wk_hi4(v)));
        }
    }
}

void wk_expand_mxfp4_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    const __m512i table = wk_mxfp4_table();
    EACH_BLOCK(b, 32, 17) {
        _mm512_storeu_ps(dst->s + 16 * i, wk_e8m0_half_512(b));
        for (int g = 0; g < 4; g++) {
            const __m512i v = wk_line(b + 16 + 64 * g);
            put(code, g, _mm512_shuffle_epi8(table, wk_lo4(v)));
            put(code, g + 4, _mm512_shuffle_epi8(table, wk_hi4(v)));
        }
    }
}

void wk_expand_q4_1_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 32, 20) {
        _mm512_storeu_ps(dst->s + 16 * i, wk_f16_512(b));
        _mm512_storeu_ps(dst->c + 16 * i, wk_f16_512(b + 32));
        for (int g = 0; g < 4; g++) {
            const __m512i v = wk_line(b + 64 + 64 * g);
            put(code, g, wk_lo4(v));
            put(code, g + 4, wk_hi4(v));
        }
    }
}

/* Fifth bit of group g is bit g of every byte of qh. */
WK_INLINE void five(uint8_t *code, const uint8_t *qs, __m512i qh, int zp) {
    WK_UNROLL
    for (int g = 0; g < 4; g++) {
        const __m512i v = wk_line(qs + 64 * g);
        put(code, g, plus(wk_or_and(wk_lo4(v), wk_shift(qh, 4 - g), 0x10), zp));
        put(code, g + 4, plus(wk_or_and(wk_hi4(v), wk_shift(qh, -g), 0x10), zp));
    }
}

void wk_expand_q5_0_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 32, 22) {
        _mm512_storeu_ps(dst->s + 16 * i, wk_f16_512(b));
        five(code, b + 96, wk_line(b + 32), 112);
    }
}

void wk_expand_q5_1_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 32, 24) {
        _mm512_storeu_ps(dst->s + 16 * i, wk_f16_512(b));
        _mm512_storeu_ps(dst->c + 16 * i, wk_f16_512(b + 32));
        five(code, b + 128, wk_line(b + 64), 0);
    }
}

void wk_expand_q8_0_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 32, 34) {
        _mm512_storeu_ps(dst->s + 16 * i, wk_f16_512(b));
        for (int g = 0; g < 8; g++) put(code, g, wk_line(b + 32 + 64 * g));
    }
}

/* d, dmin and the planes of Q4_K, Q5_K. */
WK_INLINE void scales_k(wk_panel *dst, const uint8_t *b, int i) {
    uint8_t sc[128] WK_ALIGNED(64), mn[128] WK_ALIGNED(64);
    const __m512 d = wk_f16_512(b);
    wk_scales_k4(sc, mn, b + 64);
    _mm512_storeu_ps(dst->c + 16 * i, wk_neg512(wk_f16_512(b + 32)));
    for (int j = 0; j < 8; j++) {
        const __m512 s = _mm512_cvtepi32_ps(wk_u8_lanes(sc + 16 * j));
        _mm512_storeu_ps(dst->s + 128 * i + 16 * j, _mm512_mul_ps(d, s));
    }
    for (int j = 0; j < 8; j += 2)
        _mm512_storeu_si512(dst->mn + 128 * i + 16 * j, wk_pair16(mn + 16 * j, mn + 16 * j + 16));
}

void wk_expand_q4_k_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 256, 144) {
        scales_k(dst, b, i);
        for (int g = 0; g < 32; g++) {
            const __m512i v = wk_line(b + 256 + 64 * g);
            const int at = g / 8 * 16 + g % 8;
            put(code, at, wk_lo4(v));
            put(code, at + 8, wk_hi4(v));
        }
    }
}

void wk_expand_q5_k_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 256, 176) {
        scales_k(dst, b, i);
        for (int g = 0; g < 8; g++) {
            const __m512i h = wk_line(b + 256 + 64 * g);
            WK_UNROLL
            for (int c = 0; c < 4; c++) {
                const __m512i v = wk_line(b + 768 + 64 * (8 * c + g));
                put(code, 16 * c + g, wk_or_and(wk_lo4(v), wk_shift(h, 4 - 2 * c), 0x10));
                put(code, 16 * c + g + 8, wk_or_and(wk_hi4(v), wk_shift(h, 3 - 2 * c), 0x10));
            }
        }
    }
}

void wk_expand_q6_k_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 256, 210) {
        const __m512 d = wk_f16_512(b);
        for (int j = 0; j < 16; j++) {
            const __m512 s = _mm512_cvtepi32_ps(wk_s8_lanes(b + 32 + 16 * j));
            _mm512_storeu_ps(dst->s + 256 * i + 16 * j, _mm512_mul_ps(d, s));
        }
        for (int g = 0; g < 16; g++) {
            const int n = g / 8, at = 32 * n + g % 8;
            const uint8_t *ql = b + 1312 + 64 * (16 * n + g % 8);
            const __m512i h = wk_line(b + 288 + 64 * g), v = wk_line(ql), u = wk_line(ql + 512);
            put(code, at, plus(wk_or_and(wk_lo4(v), wk_shift(h, 4), 0x30), 96));
            put(code, at + 8, plus(wk_or_and(wk_lo4(u), wk_shift(h, 2), 0x30), 96));
            put(code, at + 16, plus(wk_or_and(wk_hi4(v), h, 0x30), 96));
            put(code, at + 24, plus(wk_or_and(wk_hi4(u), wk_shift(h, -2), 0x30), 96));
        }
    }
}

void wk_expand_iq4_xs_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    const __m512i table = wk_iq4_table();
    EACH_BLOCK(b, 256, 136) {
        const __m512 d = wk_f16_512(b);
        const __m512i sh = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(b + 32)));
        WK_UNROLL
        for (int j = 0; j < 8; j++) {
            const __m512 s = _mm512_cvtepi32_ps(wk_scale_iq4_xs(b + 64, sh, j));
            _mm512_storeu_ps(dst->s + 128 * i + 16 * j, _mm512_mul_ps(d, s));
        }
        for (int g = 0; g < 32; g++) {
            const __m512i v = wk_line(b + 128 + 64 * g);
            const int at = g / 4 * 8 + g % 4;
            put(code, at, _mm512_shuffle_epi8(table, wk_lo4(v)));
            put(code, at + 4, _mm512_shuffle_epi8(table, wk_hi4(v)));
        }
    }
}

void wk_expand_q2_k_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 256, 84) {
        uint8_t mn[256] WK_ALIGNED(64);
        __m512i sc[16]; /* in both halves of a lane: a 16-bit product is two bytes, 3 * 15 each */
        _mm512_storeu_ps(dst->s + 16 * i, wk_f16_512(b));
        _mm512_storeu_ps(dst->c + 16 * i, wk_neg512(wk_f16_512(b + 32)));
        for (int j = 0; j < 4; j++)
            _mm512_store_si512(mn + 64 * j, wk_hi4(wk_line(b + 64 + 64 * j)));
        for (int j = 0; j < 16; j++) {
            const __m512i v = wk_u8_lanes(b + 64 + 16 * j);
            const __m512i s = _mm512_and_si512(v, _mm512_set1_epi32(15));
            sc[j] = _mm512_or_si512(s, _mm512_slli_epi32(s, 16));
        }
        for (int j = 0; j < 16; j += 2)
            _mm512_storeu_si512(dst->mn + 256 * i + 16 * j,
                                wk_pair16(mn + 16 * j, mn + 16 * j + 16));
        for (int g = 0; g < 16; g++) {
            const __m512i v = wk_line(b + 320 + 64 * g);
            WK_UNROLL
            for (int j = 0; j < 4; j++) {
                const int at = g / 8 * 32 + 8 * j + g % 8;
                const __m512i q = _mm512_and_si512(wk_shift(v, -2 * j), wk_set8(3));
                put(code, at, _mm512_mullo_epi16(q, sc[at / 4]));
            }
        }
    }
}

/* Groups of half n of a super-block. 128 - (u - 4)*(t - 32) = 4t + u*(32 - t) modulo 256, where
 * u = 0..7 is the code + 4 and t = 0..63 the scale + 32. Byte products by two 16-bit ones. */
WK_INLINE void fold_q3(uint8_t *code, const uint8_t *hm, const uint8_t *qs, const __m512i *mul,
                       const __m512i *add, const int n) {
    const __m512i even = _mm512_set1_epi16(0x00ff);
    for (int g = 0; g < 8; g++) {
        const __m512i v = wk_line(qs + 64 * (8 * n + g)), h = wk_line(hm + 64 * g);
        WK_UNROLL
        for (int j = 0; j < 4; j++) {
            const int at = 32 * n + 8 * j + g;
            const __m512i u = wk_code_q3(v, h, n, j);
            const __m512i p0 = _mm512_mullo_epi16(_mm512_and_si512(u, even), mul[at / 4]);
            const __m512i p1 = _mm512_mullo_epi16(_mm512_andnot_si512(even, u), mul[at / 4]);
            const __m512i p = _mm512_ternarylogic_epi32(even, p0, p1, 0xca);
            put(code, at, _mm512_add_epi8(p, add[at / 4]));
        }
    }
}

void wk_expand_q3_k_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(b, 256, 110) {
        uint8_t sc[256] WK_ALIGNED(64);
        __m512i mul[16], add[16];
        wk_scales_q3(sc, b + 32);
        _mm512_storeu_ps(dst->s + 16 * i, wk_neg512(wk_f16_512(b)));
        for (int j = 0; j < 16; j++) {
            const __m512i t = wk_u8_lanes(sc + 16 * j);
            const __m512i t2 = _mm512_or_si512(t, _mm512_slli_epi32(t, 16));
            mul[j] = _mm512_sub_epi16(_mm512_set1_epi16(32), t2);
            add[j] = _mm512_slli_epi16(_mm512_or_si512(t2, _mm512_slli_epi16(t2, 8)), 2);
        }
        fold_q3(code, b + 224, b + 736, mul, add, 0);
        fold_q3(code, b + 224, b + 736, mul, add, 1);
    }
}

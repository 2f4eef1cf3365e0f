/* expand_iq.c: the IQ2 and IQ3 formats to the form of this level (avx512vnni.h), all 16 rows at once; gemv is that
 * and a tile of one token, of which expand takes five sixths. A code book is looked up in registers, 32 entries at
 * once, two to the dword of a row: a gather takes one at a time. The next piece is asked for ahead: its fields are too
 * many streams for the hardware (n = 1 of IQ2_S 17 GOP/s without, 30 with). Fields of a panel: simd/quant/iq.h. */
#include "simd/avx512vnni/avx512vnni.h"
#include "simd/avx512vnni/codes.h"
#include "simd/quant/iq.h"
#include "simd/ref/by_tile.h"

/* Field at offset `at` of the file's block b. */
#define FIELD(b, type, field) ((b) + 16 * offsetof(type, field))

/* Four bytes in every dword, and two 16-bit numbers. */
WK_INLINE __m512i bytes4(const int a, const int b, const int c, const int d) {
    return _mm512_set1_epi32((int)((uint32_t)a | (uint32_t)b << 8 | (uint32_t)c << 16 | (uint32_t)d << 24));
}
WK_INLINE __m512i words2(const int a, const int b) { return _mm512_set1_epi32(a | b << 16); }
/* Bytes a, b, c, d of its dword in every dword; 0 where one is NONE. */
enum { NONE = 0x80 };
WK_INLINE __m512i pick(__m512i v, const int a, const int b, const int c, const int d) {
    const __m512i dword = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    return _mm512_shuffle_epi8(v, _mm512_or_si512(dword, bytes4(a, b, c, d)));
}
WK_INLINE __m512i table16(__m128i t) { return _mm512_broadcast_i32x4(t); }

/* Entries of a code book of n = 256, 512, 1024: the low 6 bits of an index choose in two registers, the others
 * between pairs of them. */
WK_INLINE __m512i entries(const uint16_t *book, const int n, __m512i index) {
    __m512i v[16];
    WK_UNROLL
    for (int i = 0; i < n / 64; i++) {
        const uint8_t *p = (const uint8_t *)(book + 64 * i);
        v[i] = _mm512_permutex2var_epi16(wk_line(p), index, wk_line(p + 64));
    }
    WK_UNROLL
    for (int step = 1; step < n / 64; step *= 2) {
        const __mmask32 second = _mm512_test_epi16_mask(index, _mm512_set1_epi16((short)(64 * step)));
        WK_UNROLL
        for (int i = 0; i < n / 64; i += 2 * step)
            v[i] = _mm512_mask_mov_epi16(v[i], second, v[i + step]);
    }
    return v[0];
}

/* Byte i of sign: signs of 8 values. Codes + 128 in v; those whose bit of nibble `half` of byte `at` stands are
 * turned around 128. */
WK_INLINE void put_signed(uint8_t *code, __m512i v, __m512i sign, const int at, const int half) {
    const __m512i bit = half ? bytes4(16, 32, 64, 128) : bytes4(1, 2, 4, 8);
    const __mmask64 minus = _mm512_test_epi8_mask(pick(sign, at, at, at, at), bit);
    _mm512_storeu_si512(code, _mm512_mask_sub_epi8(v, minus, _mm512_setzero_si512(), v));
}
/* Seven signs a byte; the eighth makes their number even. */
WK_INLINE __m512i sign_8(__m512i s) {
    const __m512i odd = table16(_mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0,
                                              -128, -128, 0));
    const __m512i x = wk_lo4(_mm512_xor_si512(s, _mm512_srli_epi16(s, 4)));
    return _mm512_or_si512(s, _mm512_shuffle_epi8(odd, x));
}
/* 4 x 7 signs of a dword. */
WK_INLINE __m512i sign_28(__m512i w) {
    __m512i s = _mm512_and_si512(w, bytes4(0x7f, 0, 0, 0));
    s = _mm512_ternarylogic_epi32(s, _mm512_slli_epi32(w, 1), bytes4(0, 0x7f, 0, 0), 0xf8);
    s = _mm512_ternarylogic_epi32(s, _mm512_slli_epi32(w, 2), bytes4(0, 0, 0x7f, 0), 0xf8);
    s = _mm512_ternarylogic_epi32(s, _mm512_slli_epi32(w, 3), bytes4(0, 0, 0, 0x7f), 0xf8);
    return sign_8(s);
}

/* IQ2: two lines for 8 values; byte 2 * word of e is the first one's entry, the next byte the second one's. A byte of
 * four numbers, each 0, 1 or 2, to four bytes: 0, 1, 2 or 0, 4, 8. */
WK_INLINE void put_8(uint8_t *code, __m512i e, const int word, __m512i sign, const int at) {
    const __m512i size = table16(_mm_setr_epi8((char)136, (char)153, (char)171, 0, (char)153, 0, 0, 0,
                                               (char)171, 0, 0, 0, 0, 0, 0, 0));
    WK_UNROLL
    for (int half = 0; half < 2; half++) {
        const int byte = 2 * word + half;
        const __m512i v = _mm512_srlv_epi16(pick(e, byte, byte, byte, byte), words2(0, 4));
        const __m512i number = _mm512_and_si512(v, bytes4(3, 12, 3, 12));
        put_signed(code + 64 * half, _mm512_shuffle_epi8(size, number), sign, at, half);
    }
}
/* IQ2: 32 values; a: entries of the first two 8s, b: of the others. Sign bytes lie in this order, or 0, 2, 1, 3. */
WK_INLINE void put_iq2(uint8_t *code, __m512i a, __m512i b, __m512i sign, const bool crossed) {
    put_8(code, a, 0, sign, 0);
    put_8(code + 128, a, 1, sign, crossed ? 2 : 1);
    put_8(code + 256, b, 0, sign, crossed ? 1 : 2);
    put_8(code + 384, b, 1, sign, 3);
}
/* IQ3: 8 values, a line for each entry of four nibbles. */
WK_INLINE void put_iq3(uint8_t *code, __m512i e, __m512i size, __m512i sign, const int at) {
    WK_UNROLL
    for (int half = 0; half < 2; half++) {
        const __m512i v = pick(e, 2 * half, NONE, 2 * half + 1, NONE);
        const __m512i both = _mm512_or_si512(v, _mm512_slli_epi16(v, 4));
        const __m512i number = wk_lo4(both);
        put_signed(code + 64 * half, _mm512_shuffle_epi8(size, number), sign, at, half);
    }
}

/* s = d * scale: (scale + 1/2) * unit, exact. */
WK_INLINE void put_half_scale(float *s, __m512 d, __m512i scale, const float unit) {
    const __m512 v = _mm512_add_ps(_mm512_cvtepi32_ps(scale), _mm512_set1_ps(0.5f));
    _mm512_storeu_ps(s, _mm512_mul_ps(d, _mm512_mul_ps(v, _mm512_set1_ps(unit))));
}
/* Nibble j of the scales that begin at p. */
WK_INLINE __m512i nibble(const uint8_t *p, const int j) {
    const __m512i v = _mm512_srl_epi32(wk_line(p + 64 * (j / 8)), _mm_cvtsi32_si128(4 * (j % 8)));
    return _mm512_and_si512(v, _mm512_set1_epi32(15));
}
WK_INLINE void put_nibble_scales(float *s, __m512 d, const uint8_t *p) {
    for (int j = 0; j < 16; j++) put_half_scale(s + 16 * j, d, nibble(p, j), 0.25f);
}
/* Bits of the 32 values j: byte j of the field at p, over both bytes of every 16. */
WK_INLINE __m512i high_bits(const uint8_t *p, int j) {
    const __m512i v = _mm512_srl_epi32(wk_line(p + 64 * (j / 4)), _mm_cvtsi32_si128(8 * (j % 4)));
    return pick(v, NONE, 0, NONE, 0);
}

WK_INLINE void block_iq2_xxs(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq2_xxs, qs);
    const __m512 d = wk_f16_512(b);
    for (int j = 0; j < 8; j++, code += 512) {
        const __m512i q = wk_line(qs + 128 * j), w = wk_line(qs + 128 * j + 64);
        const __m512i e0 = entries(wk_grid_iq2_xxs, 256, pick(q, 0, NONE, 1, NONE));
        const __m512i e1 = entries(wk_grid_iq2_xxs, 256, pick(q, 2, NONE, 3, NONE));
        put_iq2(code, e0, e1, sign_28(w), false);
        put_half_scale(s + 16 * j, d, _mm512_srli_epi32(w, 28), 0.25f);
    }
}

WK_INLINE void block_iq2_xs(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq2_xs, qs);
    const __m512i nine = words2(511, 511), seven = bytes4(0, 0x7f, 0, 0x7f);
    put_nibble_scales(s, wk_f16_512(b), FIELD(b, wk_block_iq2_xs, scales));
    for (int j = 0; j < 8; j++, code += 512) {
        const __m512i q0 = wk_line(qs + 128 * j), q1 = wk_line(qs + 128 * j + 64);
        const __m512i e0 = entries(wk_grid_iq2_xs, 512, _mm512_and_si512(q0, nine));
        const __m512i e1 = entries(wk_grid_iq2_xs, 512, _mm512_and_si512(q1, nine));
        const __m512i sign = _mm512_ternarylogic_epi32(_mm512_srli_epi16(q0, 9),
                                                       _mm512_srli_epi16(q1, 1), seven, 0xf8);
        put_iq2(code, e0, e1, sign_8(sign), true);
    }
}

WK_INLINE void block_iq2_s(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq2_s, qs), *qh = FIELD(b, wk_block_iq2_s, qh);
    const uint8_t *signs = FIELD(b, wk_block_iq2_s, signs);
    const __m512i two = words2(0x300, 0x300);
    put_nibble_scales(s, wk_f16_512(b), FIELD(b, wk_block_iq2_s, scales));
    for (int j = 0; j < 8; j++, code += 512) {
        const __m512i q = wk_line(qs + 64 * j), h = high_bits(qh, j);
        const __m512i h0 = _mm512_srlv_epi16(h, words2(0, 2)), h1 = _mm512_srlv_epi16(h, words2(4, 6));
        const __m512i i0 = _mm512_ternarylogic_epi32(pick(q, 0, NONE, 1, NONE), h0, two, 0xf8);
        const __m512i i1 = _mm512_ternarylogic_epi32(pick(q, 2, NONE, 3, NONE), h1, two, 0xf8);
        put_iq2(code, entries(wk_grid_iq2_s, 1024, i0), entries(wk_grid_iq2_s, 1024, i1),
                wk_line(signs + 64 * j), false);
    }
}

WK_INLINE void block_iq3_xxs(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq3_xxs, qs), *signs = FIELD(b, wk_block_iq3_xxs, signs);
    const __m512i size = table16(_mm_setr_epi8((char)132, (char)140, (char)148, (char)156, (char)164,
                                               (char)172, (char)180, (char)190, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m512 d = wk_f16_512(b);
    for (int j = 0; j < 8; j++) {
        const __m512i w = wk_line(signs + 64 * j), sign = sign_28(w);
        put_half_scale(s + 16 * j, d, _mm512_srli_epi32(w, 28), 0.5f);
        WK_UNROLL
        for (int i = 0; i < 4; i += 2, code += 256) {
            const __m512i q = wk_line(qs + 128 * j + 32 * i);
            const __m512i e0 = entries(wk_grid_iq3_xxs, 256, pick(q, 0, NONE, 1, NONE));
            const __m512i e1 = entries(wk_grid_iq3_xxs, 256, pick(q, 2, NONE, 3, NONE));
            put_iq3(code, e0, size, sign, i);
            put_iq3(code + 128, e1, size, sign, i + 1);
        }
    }
}

WK_INLINE void block_iq3_s(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq3_s, qs), *qh = FIELD(b, wk_block_iq3_s, qh);
    const uint8_t *signs = FIELD(b, wk_block_iq3_s, signs), *scales = FIELD(b, wk_block_iq3_s, scales);
    const __m512i size = table16(_mm_setr_epi8((char)129, (char)131, (char)133, (char)135, (char)137,
                                               (char)139, (char)141, (char)143, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m512i ninth = words2(0x100, 0x100);
    const __m512 d = wk_f16_512(b);
    for (int j = 0; j < 8; j++) {
        const __m512i sign = wk_line(signs + 64 * j), h = high_bits(qh, j);
        const __m512i scale = _mm512_add_epi32(_mm512_slli_epi32(nibble(scales, j), 1), _mm512_set1_epi32(1));
        _mm512_storeu_ps(s + 16 * j, _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale)));
        WK_UNROLL
        for (int i = 0; i < 4; i += 2, code += 256) {
            const __m512i q = wk_line(qs + 128 * j + 32 * i);
            const __m512i h0 = _mm512_srlv_epi16(h, words2(2 * i, 2 * i + 1));
            const __m512i h1 = _mm512_srlv_epi16(h, words2(2 * i + 2, 2 * i + 3));
            const __m512i i0 = _mm512_ternarylogic_epi32(pick(q, 0, NONE, 1, NONE), h0, ninth, 0xf8);
            const __m512i i1 = _mm512_ternarylogic_epi32(pick(q, 2, NONE, 3, NONE), h1, ninth, 0xf8);
            put_iq3(code, entries(wk_grid_iq3_s, 512, i0), size, sign, i);
            put_iq3(code + 128, entries(wk_grid_iq3_s, 512, i1), size, sign, i + 1);
        }
    }
}

#define EXPAND(id, name, kinds, n_sub)                                                             \
    void wk_expand_##name##_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {           \
        const size_t bytes = 16 * sizeof(wk_block_##name);                                         \
        const uint8_t *b = (const uint8_t *)w + (size_t)(k0 / 256) * bytes;                        \
        for (int i = 0; i < klen / 256; i++, b += bytes) {                                         \
            wk_fetch(b + (size_t)(klen / 256) * bytes, bytes);                                     \
            block_##name(dst->code + 4096 * i, dst->s + 16 * (n_sub) * i, b);                      \
        }                                                                                          \
    }                                                                                              \
    void wk_gemv_##name##_avx512vnni(float *dst, const void *w, const wk_act *x, int n_panel,      \
                                     int k) {                                                      \
        wk_gemv_by_tile(WK_FMT_##id, wk_expand_##name##_avx512vnni,                                \
                        wk_gemm_##kinds##_32x6_avx512vnni, dst, w, x, n_panel, k);                 \
    }
EXPAND(IQ2_XXS, iq2_xxs, s32, 8)
EXPAND(IQ2_XS, iq2_xs, s16, 16)
EXPAND(IQ2_S, iq2_s, s16, 16)
EXPAND(IQ3_XXS, iq3_xxs, s32, 8)
EXPAND(IQ3_S, iq3_s, s32, 8)

/* expand_iq.c: the IQ2 and IQ3 formats to signed codes (codes.h); gemv is that and a tile of one token. First the
 * indices of a whole block, two to the dword of a row; then its entries of the code book one by one, in their place;
 * then codes and signs, 8 rows at a time. Apart, since a vector that is loaded just after its parts were stored waits
 * for them. Fields of a panel: simd/quant/iq.h. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/codes.h"
#include "simd/quant/iq.h"
#include "simd/ref/by_tile.h"

enum { PAIRS = 32 }; /* entries of a line: two for each of 16 rows */

/* Field at offset `at` of the file's block b. */
#define FIELD(b, type, field) ((b) + 16 * offsetof(type, field))

/* Four bytes in every dword. */
WK_INLINE __m256i bytes4(const int a, const int b, const int c, const int d) {
    return _mm256_set1_epi32((int)((uint32_t)a | (uint32_t)b << 8 | (uint32_t)c << 16 | (uint32_t)d << 24));
}
/* Bytes a, b, c, d of its dword in every dword; 0 where one is NONE. */
enum { NONE = 0x80 };
WK_INLINE __m256i pick(__m256i v, const int a, const int b, const int c, const int d) {
    const __m256i dword = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    return _mm256_shuffle_epi8(v, _mm256_or_si256(dword, bytes4(a, b, c, d)));
}
WK_INLINE __m256i or_and(__m256i a, __m256i b, __m256i mask) {
    return _mm256_or_si256(a, _mm256_and_si256(b, mask));
}

/* Indices to entries. */
WK_INLINE void look_up(uint16_t *e, const uint16_t *book, int n) {
    for (int i = 0; i < n; i += 4) {
        uint64_t v;
        memcpy(&v, e + i, 8);
        e[i] = book[v & 0xffff];
        e[i + 1] = book[v >> 16 & 0xffff];
        e[i + 2] = book[v >> 32 & 0xffff];
        e[i + 3] = book[v >> 48];
    }
}

/* Codes in v are negated where the bit of nibble `half` of byte `at` of sign stands. */
WK_INLINE void put_signed(uint8_t *code, __m256i v, __m256i sign, const int at, const int half) {
    const __m256i bit = half ? bytes4(16, 32, 64, 128) : bytes4(1, 2, 4, 8);
    const __m256i minus = _mm256_cmpeq_epi8(_mm256_and_si256(pick(sign, at, at, at, at), bit), bit);
    v_put(code, _mm256_sub_epi8(_mm256_xor_si256(v, minus), minus));
}
/* Seven signs a byte; the eighth makes their number even. */
WK_INLINE __m256i sign_8(__m256i s) {
    const __m256i odd = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0));
    const __m256i x = v_low4(_mm256_xor_si256(s, _mm256_srli_epi16(s, 4)));
    return _mm256_or_si256(s, _mm256_shuffle_epi8(odd, x));
}
/* 4 x 7 signs of a dword. */
WK_INLINE __m256i sign_28(__m256i w) {
    __m256i s = _mm256_and_si256(w, bytes4(0x7f, 0, 0, 0));
    s = or_and(s, _mm256_slli_epi32(w, 1), bytes4(0, 0x7f, 0, 0));
    s = or_and(s, _mm256_slli_epi32(w, 2), bytes4(0, 0, 0x7f, 0));
    s = or_and(s, _mm256_slli_epi32(w, 3), bytes4(0, 0, 0, 0x7f));
    return sign_8(s);
}

/* IQ2: two half lines for 8 values; byte 2 * word of e is the first one's entry, the next byte the second one's. A byte
 * of four numbers, each 0, 1 or 2, to four bytes: 0, 1, 2 or 0, 4, 8. */
WK_INLINE void put_8(uint8_t *code, __m256i e, const int word, __m256i sign, const int at) {
    const __m256i size = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(8, 25, 43, 0, 25, 0, 0, 0, 43, 0, 0, 0, 0, 0, 0, 0));
    V_UNROLL
    for (int half = 0; half < 2; half++) {
        const int byte = 2 * word + half;
        const __m256i v = _mm256_and_si256(pick(e, byte, byte, byte, byte), bytes4(0x03, 0x0c, 0x30, 0xc0));
        const __m256i number = v_low4(_mm256_or_si256(v, _mm256_srli_epi16(v, 4)));
        put_signed(code + WK_LINE * half, _mm256_shuffle_epi8(size, number), sign, at, half);
    }
}
/* IQ2: 32 values of 8 rows, e: two lines of entries. Sign bytes lie in order, or 0, 2, 1, 3. */
WK_INLINE void put_iq2(uint8_t *code, const uint16_t *e, __m256i sign, const bool crossed) {
    const __m256i a = v_int(e), b = v_int(e + PAIRS);
    put_8(code, a, 0, sign, 0);
    put_8(code + 128, a, 1, sign, crossed ? 2 : 1);
    put_8(code + 256, b, 0, sign, crossed ? 1 : 2);
    put_8(code + 384, b, 1, sign, 3);
}
/* IQ3: 32 values of 8 rows, e: four lines of entries, each of four nibbles. */
WK_INLINE void put_iq3(uint8_t *code, const uint16_t *e, __m256i size, __m256i sign) {
    V_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i a = v_int(e + PAIRS * i);
        V_UNROLL
        for (int half = 0; half < 2; half++) {
            const __m256i v = pick(a, 2 * half, NONE, 2 * half + 1, NONE);
            const __m256i number = v_low4(_mm256_or_si256(v, _mm256_slli_epi16(v, 4)));
            put_signed(code + 128 * i + WK_LINE * half, _mm256_shuffle_epi8(size, number), sign, i, half);
        }
    }
}

/* s = d * scale, 8 rows: (scale + 1/2) * unit, exact. */
WK_INLINE void put_half_scale(float *s, __m256 d, __m256i scale, const float unit) {
    const __m256 v = _mm256_add_ps(_mm256_cvtepi32_ps(scale), _mm256_set1_ps(0.5f));
    _mm256_storeu_ps(s, _mm256_mul_ps(d, _mm256_mul_ps(v, _mm256_set1_ps(unit))));
}
/* Nibble j of the scales that begin at p, 8 rows. */
WK_INLINE __m256i nibble(const uint8_t *p, int j) {
    const __m256i v = _mm256_srl_epi32(v_int(p + WK_LINE * (j / 8)), _mm_cvtsi32_si128(4 * (j % 8)));
    return _mm256_and_si256(v, _mm256_set1_epi32(15));
}
WK_INLINE void put_nibble_scales(float *s, const uint8_t *d, const uint8_t *p) {
    for (int j = 0; j < 16; j++, s += 16) {
        put_half_scale(s, v_f16(d), nibble(p, j), 0.25f);
        put_half_scale(s + 8, v_f16(d + 16), nibble(p + 32, j), 0.25f);
    }
}
/* Byte j of the field at p, four times; 8 rows. */
WK_INLINE __m256i high_bits(const uint8_t *p, int j) {
    const __m256i v = _mm256_srl_epi32(v_int(p + WK_LINE * (j / 4)), _mm_cvtsi32_si128(8 * (j % 4)));
    return pick(v, 0, 0, 0, 0);
}
/* Indices out of bytes a and b of q. high: what each has from bit 8 on. */
WK_INLINE void put_index(uint16_t *e, __m256i q, const int a, const int b, __m256i high) {
    v_put(e, _mm256_or_si256(pick(q, a, NONE, b, NONE), high));
}

WK_INLINE void block_iq2_xxs(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq2_xxs, qs);
    const __m256i zero = _mm256_setzero_si256();
    WK_ALIGNED(32) uint16_t e[16 * PAIRS];
    for (int i = 0; i < 16; i++) { /* 32 values, 8 rows */
        const __m256i q = v_int(qs + 128 * (i / 2) + 32 * (i % 2));
        put_index(e + 64 * (i / 2) + 16 * (i % 2), q, 0, 1, zero);
        put_index(e + 64 * (i / 2) + 16 * (i % 2) + PAIRS, q, 2, 3, zero);
    }
    look_up(e, wk_grid_iq2_xxs, 16 * PAIRS);
    for (int i = 0; i < 16; i++) {
        const int j = i / 2, h = i % 2;
        const __m256i w = v_int(qs + 128 * j + 64 + 32 * h);
        put_iq2(code + 512 * j + 32 * h, e + 64 * j + 16 * h, sign_28(w), false);
        put_half_scale(s + 16 * j + 8 * h, v_f16(b + 16 * h), _mm256_srli_epi32(w, 28), 0.25f);
    }
}

WK_INLINE void block_iq2_xs(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq2_xs, qs);
    const __m256i nine = _mm256_set1_epi16(511), seven = bytes4(0, 0x7f, 0, 0x7f);
    WK_ALIGNED(32) uint16_t e[16 * PAIRS];
    put_nibble_scales(s, b, FIELD(b, wk_block_iq2_xs, scales));
    for (int i = 0; i < 16 * PAIRS; i += 16) v_put(e + i, _mm256_and_si256(v_int(qs + 2 * i), nine));
    look_up(e, wk_grid_iq2_xs, 16 * PAIRS);
    for (int i = 0; i < 16; i++) {
        const int j = i / 2, h = i % 2;
        const __m256i q0 = v_int(qs + 128 * j + 32 * h), q1 = v_int(qs + 128 * j + 64 + 32 * h);
        const __m256i sign = or_and(_mm256_srli_epi16(q0, 9), _mm256_srli_epi16(q1, 1), seven);
        put_iq2(code + 512 * j + 32 * h, e + 64 * j + 16 * h, sign_8(sign), true);
    }
}

WK_INLINE void block_iq2_s(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq2_s, qs), *qh = FIELD(b, wk_block_iq2_s, qh);
    const uint8_t *signs = FIELD(b, wk_block_iq2_s, signs);
    const __m256i low = _mm256_set1_epi32(0x300), high = _mm256_set1_epi32(0x3000000);
    WK_ALIGNED(32) uint16_t e[16 * PAIRS];
    put_nibble_scales(s, b, FIELD(b, wk_block_iq2_s, scales));
    for (int i = 0; i < 16; i++) {
        const __m256i q = v_int(qs + 32 * i), h = high_bits(qh + 32 * (i % 2), i / 2);
        uint16_t *at = e + 64 * (i / 2) + 16 * (i % 2);
        put_index(at, q, 0, 1, or_and(_mm256_and_si256(h, low), _mm256_srli_epi32(h, 2), high));
        put_index(at + PAIRS, q, 2, 3,
                  or_and(_mm256_and_si256(_mm256_srli_epi32(h, 4), low), _mm256_srli_epi32(h, 6), high));
    }
    look_up(e, wk_grid_iq2_s, 16 * PAIRS);
    for (int i = 0; i < 16; i++)
        put_iq2(code + 512 * (i / 2) + 32 * (i % 2), e + 64 * (i / 2) + 16 * (i % 2), v_int(signs + 32 * i), false);
}

WK_INLINE void block_iq3_xxs(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq3_xxs, qs), *signs = FIELD(b, wk_block_iq3_xxs, signs);
    const __m256i size = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(4, 12, 20, 28, 36, 44, 52, 62, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m256i zero = _mm256_setzero_si256();
    WK_ALIGNED(32) uint16_t e[32 * PAIRS];
    for (int i = 0; i < 32; i++) { /* 16 values, 8 rows */
        const __m256i q = v_int(qs + 32 * i);
        put_index(e + 64 * (i / 2) + 16 * (i % 2), q, 0, 1, zero);
        put_index(e + 64 * (i / 2) + 16 * (i % 2) + PAIRS, q, 2, 3, zero);
    }
    look_up(e, wk_grid_iq3_xxs, 32 * PAIRS);
    for (int i = 0; i < 16; i++) {
        const int j = i / 2, h = i % 2;
        const __m256i w = v_int(signs + 32 * i);
        put_iq3(code + 512 * j + 32 * h, e + 128 * j + 16 * h, size, sign_28(w));
        put_half_scale(s + 16 * j + 8 * h, v_f16(b + 16 * h), _mm256_srli_epi32(w, 28), 0.5f);
    }
}

WK_INLINE void block_iq3_s(uint8_t *code, float *s, const uint8_t *b) {
    const uint8_t *qs = FIELD(b, wk_block_iq3_s, qs), *qh = FIELD(b, wk_block_iq3_s, qh);
    const uint8_t *signs = FIELD(b, wk_block_iq3_s, signs), *scales = FIELD(b, wk_block_iq3_s, scales);
    const __m256i size = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(1, 3, 5, 7, 9, 11, 13, 15, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m256i low = _mm256_set1_epi32(0x100), high = _mm256_set1_epi32(0x1000000), one = _mm256_set1_epi32(1);
    WK_ALIGNED(32) uint16_t e[32 * PAIRS];
    for (int i = 0; i < 16; i++) { /* 32 values, 8 rows */
        const int j = i / 2;
        __m256i h = high_bits(qh + 32 * (i % 2), j);
        for (int g = 0; g < 4; g++, h = _mm256_srli_epi32(h, 2)) {
            const __m256i ninth = or_and(_mm256_and_si256(h, low), _mm256_srli_epi32(h, 1), high);
            const __m256i q = v_int(qs + 128 * j + WK_LINE * (g / 2) + 32 * (i % 2));
            uint16_t *at = e + 128 * j + PAIRS * g + 16 * (i % 2);
            if (g % 2) put_index(at, q, 2, 3, ninth);
            else put_index(at, q, 0, 1, ninth);
        }
    }
    look_up(e, wk_grid_iq3_s, 32 * PAIRS);
    for (int i = 0; i < 16; i++) {
        const int j = i / 2, h = i % 2;
        const __m256i n = nibble(scales + 32 * h, j), scale = _mm256_add_epi32(_mm256_add_epi32(n, n), one);
        put_iq3(code + 512 * j + 32 * h, e + 128 * j + 16 * h, size, v_int(signs + 32 * i));
        _mm256_storeu_ps(s + 16 * j + 8 * h, _mm256_mul_ps(v_f16(b + 16 * h), _mm256_cvtepi32_ps(scale)));
    }
}

#define EXPAND(id, name, kinds, n_sub)                                                             \
    void wk_expand_##name##_avx2(wk_panel *dst, const void *w, int k0, int klen) {                 \
        const size_t bytes = 16 * sizeof(wk_block_##name);                                         \
        const uint8_t *b = (const uint8_t *)w + (size_t)(k0 / 256) * bytes;                        \
        wk_width_put(dst, WK_WIDTH_SIGNED);                                                        \
        for (int i = 0; i < klen / 256; i++, b += bytes) {                                         \
            block_##name(dst->code + 4096 * i, dst->s + 16 * (n_sub) * i, b);                      \
        }                                                                                          \
    }                                                                                              \
    void wk_gemv_##name##_avx2(float *dst, const void *w, const wk_act *x, int n_panel, int k) {   \
        wk_gemv_by_tile(WK_FMT_##id, wk_expand_##name##_avx2, wk_gemm_##kinds##_16x4_avx2, dst, w, \
                        x, n_panel, k);                                                            \
    }
EXPAND(IQ2_XXS, iq2_xxs, s32, 8)
EXPAND(IQ2_XS, iq2_xs, s16, 16)
EXPAND(IQ2_S, iq2_s, s16, 16)
EXPAND(IQ3_XXS, iq3_xxs, s32, 8)
EXPAND(IQ3_S, iq3_s, s32, 8)

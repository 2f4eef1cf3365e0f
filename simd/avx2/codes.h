/* codes.h: packed bits to codes, 32 bytes (8 rows x 4 k) at a time; shared by expand and gemv.
 *
 * Lines of the packed formats are written down in simd/format.h. A fifth bit is moved to bit 4 of its
 * byte by a shift of the whole lane; bits that cross a byte are cut off by the mask. */
#ifndef WK_AVX2_CODES_H
#define WK_AVX2_CODES_H

#include "simd/avx2/vec.h"

enum { WK_LINE = 64 }; /* bytes of 16 rows x 4 k */

/* The inside of a panel, where it is not ref's (simd/kernels.h). Written by expand in sc[0], which no kind but W256
 * and W256M uses:
 *   4       codes 0..15: B32 8 too many
 *   5       codes 0..31: B32 16 too many
 *   6       codes -32..31; c: int16 pairs of -128 * (sum of 16 codes, k % 4 < 2 and the others)
 *   8       code: the upper four bits of codes + 128, f: the lower four
 *   signed  as ref has it
 * W256: codes 0..7, 4 too many. */
typedef enum wk_width {
    WK_WIDTH_4 = 4,
    WK_WIDTH_5 = 5,
    WK_WIDTH_6 = 6,
    WK_WIDTH_8 = 8,
    WK_WIDTH_SIGNED = 9
} wk_width;
WK_INLINE wk_width wk_width_of(const wk_panel *w) { return (wk_width)w->sc[0]; }
WK_INLINE void wk_width_put(wk_panel *w, wk_width width) { w->sc[0] = (int16_t)width; }

/* qh shifted right by g: codes g (low nibbles) and g + 4 (high) of a 32-block. */
WK_INLINE __m256i v_five_low(__m256i v, __m256i h) {
    return _mm256_or_si256(v_low4(v),
                           _mm256_and_si256(_mm256_slli_epi32(h, 4), _mm256_set1_epi8(16)));
}
WK_INLINE __m256i v_five_high(__m256i v, __m256i h) {
    return _mm256_or_si256(v_high4(v), _mm256_and_si256(h, _mm256_set1_epi8(16)));
}
/* Bits `bit`.. of each byte moved to bit 4 under the mask; left or right by a whole-lane shift. */
WK_INLINE __m256i v_bits_to(__m256i v, int bit, int to, int mask) {
    const __m128i n = _mm_cvtsi32_si128(bit < to ? to - bit : bit - to);
    const __m256i s = bit < to ? _mm256_sll_epi32(v, n) : _mm256_srl_epi32(v, n);
    return _mm256_and_si256(s, _mm256_set1_epi8((char)mask));
}

/* The 16 values of IQ4_NL and IQ4_XS. */
WK_INLINE __m256i v_iq4_table(void) {
    return _mm256_broadcastsi128_si256(
        _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113));
}
/* The same + 128, upper four bits and lower four. */
WK_INLINE __m256i v_iq4_high(void) {
    return v_high4(_mm256_xor_si256(v_iq4_table(), _mm256_set1_epi8((char)0x80)));
}
WK_INLINE __m256i v_iq4_low(void) { return v_low4(v_iq4_table()); }
/* The 16 codes of MXFP4, zero added to each. */
WK_INLINE __m256i v_mxfp4_table(int zero) {
    const __m128i t = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
    return _mm256_broadcastsi128_si256(_mm_add_epi8(t, _mm_set1_epi8((char)zero)));
}

/* The 8 scales and 8 mins of Q4_K and Q5_K, [8][16] bytes each, out of their 12 planes. */
typedef struct k4_scales {
    uint8_t sc[128], mn[128];
} k4_scales;

WK_INLINE void k4_scales_of(k4_scales *s, const uint8_t *planes) {
    const __m256i six = _mm256_set1_epi8(63), two = _mm256_set1_epi8((char)0xc0);
    for (int i = 0; i < 64; i += 32) { /* two planes at a time: j = 0..3, and j + 4 */
        const __m256i a = v_int(planes + i), b = v_int(planes + 64 + i),
                      c = v_int(planes + 128 + i);
        const __m256i a_high = _mm256_srli_epi16(_mm256_and_si256(a, two), 2);
        const __m256i b_high = _mm256_srli_epi16(_mm256_and_si256(b, two), 2);
        v_put(s->sc + i, _mm256_and_si256(a, six));
        v_put(s->mn + i, _mm256_and_si256(b, six));
        v_put(s->sc + 64 + i, _mm256_or_si256(v_low4(c), a_high));
        v_put(s->mn + 64 + i, _mm256_or_si256(v_high4(c), b_high));
    }
}

/* Scales and mins of Q2_K: the nibbles of 16 planes. */
WK_INLINE void scales_q2_k(int16_t *sc, int16_t *mn, const uint8_t *planes) {
    for (int i = 0; i < 256; i += 16) {
        const __m256i v = _mm256_cvtepu8_epi16(v_int128(planes + i));
        v_put(sc + i, v_low4(v));
        v_put(mn + i, _mm256_srli_epi16(v, 4));
    }
}

/* Scales of Q3_K, two planes at a time: four bits of planes 0..7, two of planes 8..11, minus 32. */
WK_INLINE void scales_q3_k(int16_t *sc, const uint8_t *planes) {
    const __m256i z = _mm256_set1_epi8(32);
    for (int j = 0; j < 16; j += 2) {
        const __m256i v = v_int(planes + j % 8 * 16);
        const __m256i h = v_bits_to(v_int(planes + 128 + j % 4 * 16), j / 4 * 2, 4, 0x30);
        const __m256i low = j < 8 ? v_low4(v) : v_high4(v);
        const __m256i s = _mm256_sub_epi8(_mm256_or_si256(low, h), z);
        v_put(sc + 16 * j, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(s)));
        v_put(sc + 16 * j + 16, _mm256_cvtepi8_epi16(_mm256_extracti128_si256(s, 1)));
    }
}

/* Scale j of IQ4_XS: four bits of plane j/2, two of the high halfword, minus 32. */
WK_INLINE __m256 scale_iq4_xs(const uint8_t *high, const uint8_t *low, int j) {
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)(low + j / 2 * 16));
    const __m256i l = _mm256_srl_epi32(_mm256_cvtepu8_epi32(bytes), _mm_cvtsi32_si128(j % 2 * 4));
    const __m256i h =
        _mm256_srl_epi32(_mm256_cvtepu16_epi32(v_int128(high)), _mm_cvtsi32_si128(2 * j));
    const __m256i top = _mm256_slli_epi32(_mm256_and_si256(h, _mm256_set1_epi32(3)), 4);
    const __m256i s = _mm256_or_si256(_mm256_and_si256(l, _mm256_set1_epi32(15)), top);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(s, _mm256_set1_epi32(32)));
}

/* Sum over 32 codes of 8 rows, table values in two halves of four bits: 16*high + low - 128. z: of the block. Half the
 * work on the ports that multiply of |code| and a sign for each activation. */
WK_INLINE __m256i sum_table(const uint8_t *qs, const int8_t *q, const int32_t *z) {
    const __m256i t_high = v_iq4_high(), t_low = v_iq4_low();
    __m256i a = _mm256_slli_epi32(_mm256_set1_epi32(*z), 12), b = _mm256_setzero_si256();
    for (int g = 0; g < 4; g++) {
        const __m256i v = v_int(qs + WK_LINE * g), even = v_low4(v), odd = v_high4(v);
        const __m256i q0 = v_all4(q + 4 * g), q1 = v_all4(q + 16 + 4 * g);
        a = _mm256_add_epi16(a, _mm256_maddubs_epi16(_mm256_shuffle_epi8(t_high, even), q0));
        b = _mm256_add_epi16(b, _mm256_maddubs_epi16(_mm256_shuffle_epi8(t_low, even), q0));
        a = _mm256_add_epi16(a, _mm256_maddubs_epi16(_mm256_shuffle_epi8(t_high, odd), q1));
        b = _mm256_add_epi16(b, _mm256_maddubs_epi16(_mm256_shuffle_epi8(t_low, odd), q1));
    }
    return v_halves(a, b);
}

/* ---- sums with integer scales ---- */

/* int16 mins of two neighbouring sub-blocks as pairs: rows 0..3 and 8..11, rows 4..7 and 12..15. */
typedef struct min_pairs {
    __m256i a[8], b[8];
} min_pairs;

WK_INLINE void min_pairs_of(min_pairs *p, const int16_t *mn, int n) {
    for (int j = 0; j < n; j++) {
        const __m256i even = v_int(mn + 32 * j), odd = v_int(mn + 32 * j + 16);
        p->a[j] = _mm256_unpacklo_epi16(even, odd);
        p->b[j] = _mm256_unpackhi_epi16(even, odd);
    }
}

/* 16 rows of integers. */
typedef struct rows_int {
    __m256i lo, hi;
} rows_int;

/* M: sum over 2n sub-blocks of min * (sum of codes). */
WK_INLINE rows_int sum_pairs(const min_pairs *p, const int16_t *s, int n) {
    __m256i a = _mm256_setzero_si256(), b = a;
    for (int j = 0; j < n; j++) {
        const __m256i v = v_all4(s + 2 * j);
        a = _mm256_add_epi32(a, _mm256_madd_epi16(p->a[j], v));
        b = _mm256_add_epi32(b, _mm256_madd_epi16(p->b[j], v));
    }
    return (rows_int){_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)};
}

/* Integer scales of 16 rows as int16 pairs: the madd that widens also scales. */
WK_INLINE __m256i twice(const int16_t *sc) {
    const __m256i v = _mm256_cvtepu16_epi32(v_int128(sc));
    return _mm256_or_si256(v, _mm256_slli_epi32(v, 16));
}

#endif

/* codes.h: from the packed lines of a panel to code bytes and scales; shared by expand and gemv. */
#ifndef WK_CODES_AVX512VNNI_H
#define WK_CODES_AVX512VNNI_H

#include "simd/avx512/vec512.h"

WK_INLINE __m512i wk_line(const uint8_t *p) {
    return _mm512_loadu_si512(p);
}
/* Bring what is expanded after the products of this piece nearer. */
WK_INLINE void wk_fetch(const uint8_t *p, const size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)p + i, _MM_HINT_T1);
}
/* A line, with the one WK_AHEAD bytes on requested: requests are spread over the work, as bursts of
 * more than a few lines cost up to a third of the bandwidth. */
WK_INLINE __m512i wk_line_ahead(const uint8_t *p) {
    wk_ahead(p, 64);
    return _mm512_loadu_si512(p);
}
/* 4 bytes in every lane. */
WK_INLINE __m512i wk_bcast32(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}
/* sum + codes . 4 activations, of which the caller gives the address. */
WK_INLINE __m512i wk_dot4(__m512i sum, __m512i codes, const int8_t *q) {
    return _mm512_dpbusd_epi32(sum, codes, wk_bcast32(q));
}
WK_INLINE __m512i wk_set8(int v) {
    return _mm512_set1_epi8((char)v);
}
/* Low and high nibbles. */
WK_INLINE __m512i wk_lo4(__m512i v) {
    return _mm512_and_si512(v, wk_set8(0x0f));
}
WK_INLINE __m512i wk_hi4(__m512i v) {
    return _mm512_and_si512(_mm512_srli_epi16(v, 4), wk_set8(0x0f));
}
/* a | (b & mask) in one operation. */
WK_INLINE __m512i wk_or_and(__m512i a, __m512i b, int mask) {
    return _mm512_ternarylogic_epi32(a, b, wk_set8(mask), 0xf8);
}
/* v shifted left by n (right when n < 0); bits that cross a byte are masked by the caller. */
WK_INLINE __m512i wk_shift(__m512i v, const int n) {
    if (n == 0) return v;
    return n > 0 ? _mm512_slli_epi16(v, (unsigned)(n & 15))
                 : _mm512_srli_epi16(v, (unsigned)(-n & 15));
}

/* IQ4 table + 128 (ggml's kvalues_iq4nl), and its lookup by nibbles. */
WK_INLINE __m512i wk_iq4_table(void) {
    return _mm512_broadcast_i32x4(
        _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153, (char)166,
                      (char)181, (char)197, (char)217, (char)241));
}

/* MXFP4: codes + 128, and the scales 2^(e - 128) of 16 bytes e. */
WK_INLINE __m512i wk_mxfp4_table(void) {
    const __m128i t = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
    return _mm512_broadcast_i32x4(_mm_xor_si128(t, _mm_set1_epi8(-128)));
}
WK_INLINE __m512 wk_e8m0_half_512(const uint8_t *p) {
    const __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    const __m512i low = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    const __m512i high = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __mmask16 normal = _mm512_cmpgt_epi32_mask(e, _mm512_set1_epi32(1));
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(low, normal, high));
}

/* 16 bytes as 16 lanes. */
WK_INLINE __m512i wk_u8_lanes(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
WK_INLINE __m512i wk_s8_lanes(const uint8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}

/* Q4_K and Q5_K: 12 planes to sc[8][16], mn[8][16]. Both 64-byte aligned. */
WK_INLINE void wk_scales_k4(uint8_t *sc, uint8_t *mn, const uint8_t *planes) {
    const __m512i a = wk_line(planes), b = wk_line(planes + 64), c = wk_line(planes + 128);
    _mm512_store_si512(sc, _mm512_and_si512(a, wk_set8(0x3f)));
    _mm512_store_si512(mn, _mm512_and_si512(b, wk_set8(0x3f)));
    _mm512_store_si512(sc + 64, wk_or_and(wk_lo4(c), _mm512_srli_epi16(a, 2), 0x30));
    _mm512_store_si512(mn + 64, wk_or_and(wk_hi4(c), _mm512_srli_epi16(b, 2), 0x30));
}

/* Q3_K: 12 planes to scales + 32, s[16][16], 64-byte aligned. */
WK_INLINE void wk_scales_q3(uint8_t *s, const uint8_t *planes) {
    const __m512i a = wk_line(planes), b = wk_line(planes + 64), h = wk_line(planes + 128);
    _mm512_store_si512(s, wk_or_and(wk_lo4(a), _mm512_slli_epi16(h, 4), 0x30));
    _mm512_store_si512(s + 64, wk_or_and(wk_lo4(b), _mm512_slli_epi16(h, 2), 0x30));
    _mm512_store_si512(s + 128, wk_or_and(wk_hi4(a), h, 0x30));
    _mm512_store_si512(s + 192, wk_or_and(wk_hi4(b), _mm512_srli_epi16(h, 2), 0x30));
}

/* Q3_K: code + 4 of half n, shift 2j. */
WK_INLINE __m512i wk_code_q3(__m512i v, __m512i h, const int n, const int j) {
    const __m512i q = _mm512_and_si512(wk_shift(v, -2 * j), wk_set8(3));
    return wk_or_and(q, wk_shift(h, 2 - 4 * n - j), 4);
}

/* Two planes of bytes to [16][2] int16. */
WK_INLINE __m512i wk_pair16(const uint8_t *p, const uint8_t *q) {
    return _mm512_or_si512(wk_u8_lanes(p), _mm512_slli_epi32(wk_u8_lanes(q), 16));
}

/* IQ4_XS: scale of sub-block j (0..7) as int32, from sl planes and the widened sh. */
WK_INLINE __m512i wk_scale_iq4_xs(const uint8_t *sl, __m512i sh, const int j) {
    const __m512i v = wk_u8_lanes(sl + 16 * (j / 2));
    const __m512i n = _mm512_and_si512(j % 2 ? _mm512_srli_epi32(v, 4) : v, _mm512_set1_epi32(15));
    const int up = 4 - 2 * j;
    const __m512i h = up >= 0 ? _mm512_slli_epi32(sh, (unsigned)(up & 31))
                              : _mm512_srli_epi32(sh, (unsigned)(-up & 31));
    const __m512i u = _mm512_ternarylogic_epi32(n, h, _mm512_set1_epi32(0x30), 0xf8);
    return _mm512_sub_epi32(u, _mm512_set1_epi32(32));
}

#endif

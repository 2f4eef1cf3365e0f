/* expand_tq.c: TQ1_0 and TQ2_0 to the form of this level (avx512vnni.h): numbers 0, 1, 2 (TQ2_0 also 3), one more than
 * the code, and 1 as every scale: 128 - code * 1 = 129 - number. gemv is that and a tile of one token. */
#include "simd/avx512vnni/avx512vnni.h"
#include "simd/avx512vnni/codes.h"

/* n lines of packed bytes: digit i (0..4) of each to n lines of codes. A byte is a fraction of 256 in base 3: times 3
 * drops a digit, and the next one is its third of 0..255. Returns the codes behind. */
WK_INLINE uint8_t *put_digits(uint8_t *code, const uint8_t *qs, const int n, const int n_digit) {
    const __m512i one = wk_set8(1);
    for (int g = 0; g < n; g++) {
        __m512i v = wk_line(qs + 64 * g);
        WK_UNROLL
        for (int i = 0; i < n_digit; i++) {
            const __mmask64 low = _mm512_cmplt_epu8_mask(v, wk_set8(86));
            const __mmask64 high = _mm512_cmpge_epu8_mask(v, wk_set8((char)171));
            __m512i c = _mm512_mask_add_epi8(wk_set8(-128), low, wk_set8(-128), one);
            c = _mm512_mask_sub_epi8(c, high, c, one);
            _mm512_storeu_si512(code + 64 * (n * i + g), c);
            v = _mm512_add_epi8(v, _mm512_add_epi8(v, v));
        }
    }
    return code + 64 * n * n_digit;
}

WK_INLINE void block_tq1_0(uint8_t *code, const uint8_t *qs) {
    code = put_digits(code, qs, 8, 5);
    code = put_digits(code, qs + 512, 4, 5);
    put_digits(code, qs + 768, 1, 4);
}

/* Bits as Q2_K. */
WK_INLINE void block_tq2_0(uint8_t *code, const uint8_t *qs) {
    for (int g = 0; g < 16; g++) {
        const __m512i v = wk_line(qs + 64 * g);
        WK_UNROLL
        for (int j = 0; j < 4; j++) {
            const __m512i number = _mm512_and_si512(wk_shift(v, -2 * j), wk_set8(3));
            uint8_t *line = code + 64 * (g / 8 * 32 + 8 * j + g % 8);
            _mm512_storeu_si512(line, _mm512_sub_epi8(wk_set8((char)129), number));
        }
    }
}

#define EXPAND(name)                                                                               \
    void wk_expand_##name##_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {           \
        const size_t bytes = 16 * sizeof(wk_block_##name);                                         \
        const uint8_t *b = (const uint8_t *)w + (size_t)(k0 / 256) * bytes;                        \
        for (int i = 0; i < klen / 256; i++, b += bytes) {                                         \
            wk_fetch(b + (size_t)(klen / 256) * bytes, bytes);                                     \
            _mm512_storeu_ps(dst->s + 16 * i, wk_neg512(wk_f16_512(b)));                           \
            block_##name(dst->code + 4096 * i, b + 32);                                            \
        }                                                                                          \
    }
EXPAND(tq1_0)
EXPAND(tq2_0)

/* expand_tq.c: TQ1_0 and TQ2_0: numbers 0, 1, 2 (TQ2_0 also 3), one more than the code, and 3 on top, as W256 wants
 * them (codes.h); 1 as every integer scale. gemv is that and a tile of one token. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/codes.h"
#include "simd/ref/by_tile.h"

/* v >= least, unsigned: -1 or 0. */
WK_INLINE __m256i at_least(__m256i v, int least) {
    return _mm256_cmpeq_epi8(_mm256_max_epu8(v, _mm256_set1_epi8((char)least)), v);
}

/* n lines of packed bytes: digit i (0..4) of each to n lines of codes. A byte is a fraction of 256 in base 3: times 3
 * drops a digit, and the next one is its third of 0..255. Returns the codes behind. */
WK_INLINE uint8_t *put_digits(uint8_t *code, const uint8_t *qs, const int n, const int n_digit) {
    const __m256i three = _mm256_set1_epi8(3);
    for (int g = 0; g < 2 * n; g++) {
        __m256i v = v_int(qs + 32 * g);
        V_UNROLL
        for (int i = 0; i < n_digit; i++) {
            const __m256i c = _mm256_sub_epi8(_mm256_sub_epi8(three, at_least(v, 86)), at_least(v, 171));
            v_put(code + WK_LINE * n * i + 32 * g, c);
            v = _mm256_add_epi8(v, _mm256_add_epi8(v, v));
        }
    }
    return code + WK_LINE * n * n_digit;
}

WK_INLINE void block_tq1_0(uint8_t *code, const uint8_t *qs) {
    code = put_digits(code, qs, 8, 5);
    code = put_digits(code, qs + 512, 4, 5);
    put_digits(code, qs + 768, 1, 4);
}

/* Bits as Q2_K. */
WK_INLINE void block_tq2_0(uint8_t *code, const uint8_t *qs) {
    const __m256i three = _mm256_set1_epi8(3);
    for (int j = 0; j < 8; j++, code += 512) {
        for (int i = 0; i < 512; i += 32) {
            const __m256i v = v_bits_to(v_int(qs + j / 4 * 512 + i), j % 4 * 2, 0, 3);
            v_put(code + i, _mm256_add_epi8(v, three));
        }
    }
}

#define EXPAND(id, name)                                                                           \
    void wk_expand_##name##_avx2(wk_panel *dst, const void *w, int k0, int klen) {                 \
        const size_t bytes = 16 * sizeof(wk_block_##name);                                         \
        const uint8_t *b = (const uint8_t *)w + (size_t)(k0 / 256) * bytes;                        \
        for (int i = 0; i < klen; i += 16) v_put(dst->sc + i, _mm256_set1_epi16(1));               \
        for (int i = 0; i < klen / 256; i++, b += bytes) {                                         \
            _mm256_storeu_ps(dst->s + 16 * i, v_f16(b));                                           \
            _mm256_storeu_ps(dst->s + 16 * i + 8, v_f16(b + 16));                                  \
            block_##name(dst->code + 4096 * i, b + 32);                                            \
        }                                                                                          \
    }                                                                                              \
    void wk_gemv_##name##_avx2(float *dst, const void *w, const wk_act *x, int n_panel, int k) {   \
        wk_gemv_by_tile(WK_FMT_##id, wk_expand_##name##_avx2, wk_gemm_w256_16x4_avx2, dst, w, x,   \
                        n_panel, k);                                                               \
    }
EXPAND(TQ1_0, tq1_0)
EXPAND(TQ2_0, tq2_0)

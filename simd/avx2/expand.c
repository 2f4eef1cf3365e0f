/* expand.c: one piece of a packed panel to signed codes and f32 scales, the inside that ref writes. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/codes.h"

WK_INLINE void put_f16(float *dst, const uint8_t *src) {
    _mm256_storeu_ps(dst, v_f16(src));
    _mm256_storeu_ps(dst + 8, v_f16(src + 16));
}

/* -h: the min enters as fma(M, -dmin, a). */
WK_INLINE void put_f16_negated(float *dst, const uint8_t *src) {
    _mm256_storeu_ps(dst, _mm256_xor_ps(v_f16(src), v_sign_bits()));
    _mm256_storeu_ps(dst + 8, _mm256_xor_ps(v_f16(src + 16), v_sign_bits()));
}

/* s = d * sc, exact. */
WK_INLINE void put_scaled(float *s, const float *d, __m256 lo, __m256 hi) {
    _mm256_storeu_ps(s, _mm256_mul_ps(_mm256_loadu_ps(d), lo));
    _mm256_storeu_ps(s + 8, _mm256_mul_ps(_mm256_loadu_ps(d + 8), hi));
}

/* ---- blocks of 32 ---- */

/* 32 codes: dword g of qs holds k = 4g and, high, 16 + 4g. zero: zero point. */
WK_INLINE void nibbles32(uint8_t *code, const uint8_t *qs, int zero) {
    const __m256i z = _mm256_set1_epi8((char)zero);
    for (int i = 0; i < 256; i += 32) {
        const __m256i v = v_int(qs + i);
        v_put(code + i, _mm256_sub_epi8(v_low4(v), z));
        v_put(code + 256 + i, _mm256_sub_epi8(v_high4(v), z));
    }
}

WK_INLINE void fives32(uint8_t *code, const uint8_t *qs, const uint8_t *qh, int zero) {
    const __m256i z = _mm256_set1_epi8((char)zero);
    for (int r = 0; r < 64; r += 32) {
        __m256i h = v_int(qh + r);
        for (int i = r; i < 256; i += WK_LINE, h = _mm256_srli_epi32(h, 1)) {
            const __m256i v = v_int(qs + i);
            v_put(code + i, _mm256_sub_epi8(v_five_low(v, h), z));
            v_put(code + 256 + i, _mm256_sub_epi8(v_five_high(v, h), z));
        }
    }
}

/* high: distance from the line of the low nibbles to that of the high ones. */
WK_INLINE void table_line(uint8_t *code, const uint8_t *qs, int high, __m256i table) {
    for (int i = 0; i < WK_LINE; i += 32) {
        const __m256i v = v_int(qs + i);
        v_put(code + i, _mm256_shuffle_epi8(table, v_low4(v)));
        v_put(code + high + i, _mm256_shuffle_epi8(table, v_high4(v)));
    }
}

WK_INLINE void block_q4_0(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    nibbles32(dst->code + 512 * b, p + 32, 8);
}

WK_INLINE void block_q4_1(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    put_f16(dst->c + 16 * b, p + 32);
    nibbles32(dst->code + 512 * b, p + 64, 0);
}

WK_INLINE void block_q5_0(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    fives32(dst->code + 512 * b, p + 96, p + 32, 16);
}

WK_INLINE void block_q5_1(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    put_f16(dst->c + 16 * b, p + 32);
    fives32(dst->code + 512 * b, p + 128, p + 64, 0);
}

WK_INLINE void block_q8_0(wk_panel *dst, int b, const uint8_t *p) {
    const __m256i sign = _mm256_set1_epi8((char)0x80);
    put_f16(dst->s + 16 * b, p);
    for (int i = 0; i < 512; i += 32) {
        v_put(dst->code + 512 * b + i, _mm256_xor_si256(v_int(p + 32 + i), sign));
    }
}

WK_INLINE void block_iq4_nl(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    for (int i = 0; i < 256; i += WK_LINE) {
        table_line(dst->code + 512 * b + i, p + 32 + i, 256, v_iq4_table());
    }
}

WK_INLINE void block_mxfp4(wk_panel *dst, int b, const uint8_t *p) {
    _mm256_storeu_ps(dst->s + 16 * b, v_e8m0_half(p));
    _mm256_storeu_ps(dst->s + 16 * b + 8, v_e8m0_half(p + 8));
    for (int i = 0; i < 256; i += WK_LINE) {
        table_line(dst->code + 512 * b + i, p + 16 + i, 256, v_mxfp4_table(0));
    }
}

/* ---- blocks of 256 ---- */

/* d, dmin and the 6-bit scales and mins: 256 bytes. */
WK_INLINE void head_k4(wk_panel *dst, int b, const uint8_t *p) {
    float d[16];
    k4_scales k;
    put_f16(d, p);
    put_f16_negated(dst->c + 16 * b, p + 32);
    k4_scales_of(&k, p + 64);
    for (int i = 0; i < 128; i += 16) {
        put_scaled(dst->s + 128 * b + i, d, v_u8(k.sc + i), v_u8(k.sc + i + 8));
        v_put(dst->mn + 128 * b + i, _mm256_cvtepu8_epi16(v_int128(k.mn + i)));
    }
}

/* Lines 8c .. 8c+7 of qs hold, low and high, the two 32s of quarter c; with five bits, line i of qh holds
 * the bits 2c and 2c+1 for them. */
WK_INLINE void codes_k4(uint8_t *code, const uint8_t *qs, const uint8_t *qh) {
    for (int c = 0; c < 4; c++, code += 1024, qs += 512) {
        for (int i = 0; i < 512; i += 32) {
            const __m256i v = v_int(qs + i);
            __m256i low = v_low4(v), high = v_high4(v);
            if (qh) {
                const __m256i h = v_int(qh + i);
                low = _mm256_or_si256(low, v_bits_to(h, 2 * c, 4, 16));
                high = _mm256_or_si256(high, v_bits_to(h, 2 * c + 1, 4, 16));
            }
            v_put(code + i, low);
            v_put(code + 512 + i, high);
        }
    }
}

WK_INLINE void block_q4_k(wk_panel *dst, int b, const uint8_t *p) {
    head_k4(dst, b, p);
    codes_k4(dst->code + 4096 * b, p + 256, NULL);
}

WK_INLINE void block_q5_k(wk_panel *dst, int b, const uint8_t *p) {
    head_k4(dst, b, p);
    codes_k4(dst->code + 4096 * b, p + 768, p + 256);
}

/* 8 lines of 32 values (from a quarter of 128): low nibbles or high ones, two bits of qh, minus 32. */
WK_INLINE void sixes32(uint8_t *code, const uint8_t *ql, const uint8_t *qh, int quarter) {
    const __m256i z = _mm256_set1_epi8(32);
    ql += quarter % 2 * 512;
    for (int i = 0; i < 512; i += 32) {
        const __m256i v = v_int(ql + i), h = v_bits_to(v_int(qh + i), 2 * quarter, 4, 0x30);
        const __m256i low = quarter < 2 ? v_low4(v) : v_high4(v);
        v_put(code + i, _mm256_sub_epi8(_mm256_or_si256(low, h), z));
    }
}

WK_INLINE void block_q6_k(wk_panel *dst, int b, const uint8_t *p) {
    const uint8_t *sc = p + 32, *qh = p + 288, *ql = p + 1312;
    uint8_t *code = dst->code + 4096 * b;
    float d[16];
    put_f16(d, p);
    for (int i = 0; i < 256; i += 16) {
        put_scaled(dst->s + 256 * b + i, d, v_s8(sc + i), v_s8(sc + i + 8));
    }
    for (int half = 0; half < 2; half++, qh += 512, ql += 1024) {
        for (int j = 0; j < 4; j++, code += 512) sixes32(code, ql, qh, j);
    }
}

/* Two bits of qs, with the third bit of Q3_K where hmask is given: unset means minus 4. */
WK_INLINE void two_bits(uint8_t *code, const uint8_t *qs, const uint8_t *hmask) {
    const __m256i four = _mm256_set1_epi8(4);
    for (int j = 0; j < 8; j++, code += 512) {
        const uint8_t *line = qs + j / 4 * 512;
        for (int i = 0; i < 512; i += 32) {
            __m256i v = v_bits_to(v_int(line + i), j % 4 * 2, 0, 3);
            if (hmask) {
                v = _mm256_or_si256(v, v_bits_to(v_int(hmask + i), j, 2, 4));
                v = _mm256_sub_epi8(v, four);
            }
            v_put(code + i, v);
        }
    }
}

WK_INLINE void block_q3_k(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    scales_q3_k(dst->sc + 256 * b, p + 32);
    two_bits(dst->code + 4096 * b, p + 736, p + 224);
}

WK_INLINE void block_q2_k(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    put_f16_negated(dst->c + 16 * b, p + 32);
    scales_q2_k(dst->sc + 256 * b, dst->mn + 256 * b, p + 64);
    two_bits(dst->code + 4096 * b, p + 320, NULL);
}

WK_INLINE void block_iq4_xs(wk_panel *dst, int b, const uint8_t *p) {
    float d[16];
    put_f16(d, p);
    for (int j = 0; j < 8; j++) {
        const __m256 lo = scale_iq4_xs(p + 32, p + 64, j), hi = scale_iq4_xs(p + 48, p + 72, j);
        uint8_t *code = dst->code + 4096 * b + 512 * j;
        put_scaled(dst->s + 128 * b + 16 * j, d, lo, hi);
        for (int i = 0; i < 256; i += WK_LINE) {
            table_line(code + i, p + 128 + 256 * j + i, 256, v_iq4_table());
        }
    }
}

/* ---- floats ---- */

WK_INLINE void floats(wk_panel *dst, int k, const uint8_t *p, int fmt) {
    _mm256_storeu_ps(dst->f + 16 * k, v_weight(p, 0, fmt));
    _mm256_storeu_ps(dst->f + 16 * k + 8, v_weight(p, 8, fmt));
}
WK_INLINE void block_f32(wk_panel *dst, int b, const uint8_t *p) { floats(dst, b, p, WK_FMT_F32); }
WK_INLINE void block_f16(wk_panel *dst, int b, const uint8_t *p) { floats(dst, b, p, WK_FMT_F16); }
WK_INLINE void block_bf16(wk_panel *dst, int b, const uint8_t *p) {
    floats(dst, b, p, WK_FMT_BF16);
}

/* Bring a block of the next piece nearer, which is expanded after the products of this one. */
WK_INLINE void fetch(const uint8_t *p, const size_t bytes) {
    for (size_t i = 0; i < bytes; i += WK_LINE) _mm_prefetch((const char *)p + i, _MM_HINT_T1);
}

#define EXPAND(name, type, block)                                                                  \
    void wk_expand_##name##_avx2(wk_panel *dst, const void *w, int k0, int klen) {                 \
        const size_t bytes = sizeof(type) * WK_PANEL, piece = (size_t)(klen / (block)) * bytes;    \
        const uint8_t *p = (const uint8_t *)w + (size_t)(k0 / (block)) * bytes;                    \
        for (int b = 0; b < klen / (block); b++, p += bytes) {                                     \
            fetch(p + piece, bytes);                                                               \
            block_##name(dst, b, p);                                                               \
        }                                                                                          \
    }
EXPAND(f32, float, 1)
EXPAND(f16, wk_f16, 1)
EXPAND(bf16, wk_bf16, 1)
EXPAND(q4_0, wk_block_q4_0, 32)
EXPAND(q4_1, wk_block_q4_1, 32)
EXPAND(q5_0, wk_block_q5_0, 32)
EXPAND(q5_1, wk_block_q5_1, 32)
EXPAND(q8_0, wk_block_q8_0, 32)
EXPAND(iq4_nl, wk_block_iq4_nl, 32)
EXPAND(q2_k, wk_block_q2_k, 256)
EXPAND(q3_k, wk_block_q3_k, 256)
EXPAND(q4_k, wk_block_q4_k, 256)
EXPAND(q5_k, wk_block_q5_k, 256)
EXPAND(q6_k, wk_block_q6_k, 256)
EXPAND(iq4_xs, wk_block_iq4_xs, 256)
EXPAND(mxfp4, wk_block_mxfp4, 32)

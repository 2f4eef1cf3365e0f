/* expand.c: one piece of a packed panel to the codes that maddubs wants (codes.h) and f32 scales. */
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

/* 32 codes: dword g of qs holds k = 4g and, high, 16 + 4g. */
WK_INLINE void nibbles32(uint8_t *code, const uint8_t *qs) {
    for (int i = 0; i < 256; i += 32) {
        const __m256i v = v_int(qs + i);
        v_put(code + i, v_low4(v));
        v_put(code + 256 + i, v_high4(v));
    }
}

WK_INLINE void fives32(uint8_t *code, const uint8_t *qs, const uint8_t *qh) {
    for (int r = 0; r < 64; r += 32) {
        __m256i h = v_int(qh + r);
        for (int i = r; i < 256; i += WK_LINE, h = _mm256_srli_epi32(h, 1)) {
            const __m256i v = v_int(qs + i);
            v_put(code + i, v_five_low(v, h));
            v_put(code + 256 + i, v_five_high(v, h));
        }
    }
}

/* 32 codes out of a table of 16. */
WK_INLINE void table32(uint8_t *code, const uint8_t *qs, __m256i table) {
    for (int i = 0; i < 256; i += 32) {
        const __m256i v = v_int(qs + i);
        v_put(code + i, _mm256_shuffle_epi8(table, v_low4(v)));
        v_put(code + 256 + i, _mm256_shuffle_epi8(table, v_high4(v)));
    }
}
WK_INLINE void iq4_32(wk_panel *dst, int block, const uint8_t *qs) {
    table32(dst->code + 512 * block, qs, v_iq4_high());
    table32((uint8_t *)dst->f + 512 * block, qs, v_iq4_low());
}

WK_INLINE void block_q4_0(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    nibbles32(dst->code + 512 * b, p + 32);
}

WK_INLINE void block_q4_1(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    put_f16(dst->c + 16 * b, p + 32);
    nibbles32(dst->code + 512 * b, p + 64);
}

WK_INLINE void block_q5_0(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    fives32(dst->code + 512 * b, p + 96, p + 32);
}

WK_INLINE void block_q5_1(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    put_f16(dst->c + 16 * b, p + 32);
    fives32(dst->code + 512 * b, p + 128, p + 64);
}

/* Stored as code + 128. */
WK_INLINE void block_q8_0(wk_panel *dst, int b, const uint8_t *p) {
    uint8_t *low = (uint8_t *)dst->f + 512 * b;
    put_f16(dst->s + 16 * b, p);
    for (int i = 0; i < 512; i += 32) {
        const __m256i v = v_int(p + 32 + i);
        v_put(dst->code + 512 * b + i, v_high4(v));
        v_put(low + i, v_low4(v));
    }
}

WK_INLINE void block_iq4_nl(wk_panel *dst, int b, const uint8_t *p) {
    put_f16(dst->s + 16 * b, p);
    iq4_32(dst, b, p + 32);
}

/* 4..28: 16 too many. */
WK_INLINE void block_mxfp4(wk_panel *dst, int b, const uint8_t *p) {
    _mm256_storeu_ps(dst->s + 16 * b, v_e8m0_half(p));
    _mm256_storeu_ps(dst->s + 16 * b + 8, v_e8m0_half(p + 8));
    table32(dst->code + 512 * b, p + 16, v_mxfp4_table(16));
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

/* 8 lines of 32 values (from a quarter of 128): low nibbles or high ones, two bits of qh, minus 32; and the start
 * values of their two 16s. */
WK_INLINE void sixes32(uint8_t *code, int32_t *start, const uint8_t *ql, const uint8_t *qh,
                       int quarter) {
    const __m256i z = _mm256_set1_epi8(32), one = _mm256_set1_epi8(1);
    ql += quarter % 2 * 512;
    for (int half = 0; half < 2; half++, start += 16, code += 256, ql += 256, qh += 256) {
        __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (int i = 0; i < 256; i += 32) {
            const __m256i v = v_int(ql + i), h = v_bits_to(v_int(qh + i), 2 * quarter, 4, 0x30);
            const __m256i six = _mm256_or_si256(quarter < 2 ? v_low4(v) : v_high4(v), h);
            const __m256i c = _mm256_sub_epi8(six, z);
            v_put(code + i, c);
            sum[i / 32 % 2] = _mm256_sub_epi16(sum[i / 32 % 2], _mm256_maddubs_epi16(one, c));
        }
        v_put(start, _mm256_slli_epi16(sum[0], 7));
        v_put(start + 8, _mm256_slli_epi16(sum[1], 7));
    }
}

WK_INLINE void block_q6_k(wk_panel *dst, int b, const uint8_t *p) {
    const uint8_t *sc = p + 32, *qh = p + 288, *ql = p + 1312;
    uint8_t *code = dst->code + 4096 * b;
    int32_t *start = (int32_t *)(void *)dst->c + 256 * b;
    float d[16];
    put_f16(d, p);
    for (int i = 0; i < 256; i += 16) {
        put_scaled(dst->s + 256 * b + i, d, v_s8(sc + i), v_s8(sc + i + 8));
    }
    for (int half = 0; half < 2; half++, qh += 512, ql += 1024) {
        for (int j = 0; j < 4; j++, code += 512, start += 32) sixes32(code, start, ql, qh, j);
    }
}

/* Two bits of qs, with the third bit of Q3_K where hmask is given. */
WK_INLINE void two_bits(uint8_t *code, const uint8_t *qs, const uint8_t *hmask) {
    for (int j = 0; j < 8; j++, code += 512) {
        const uint8_t *line = qs + j / 4 * 512;
        for (int i = 0; i < 512; i += 32) {
            __m256i v = v_bits_to(v_int(line + i), j % 4 * 2, 0, 3);
            if (hmask) v = _mm256_or_si256(v, v_bits_to(v_int(hmask + i), j, 2, 4));
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
        put_scaled(dst->s + 128 * b + 16 * j, d, lo, hi);
        iq4_32(dst, 8 * b + j, p + 128 + 256 * j);
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

#define EXPAND(name, type, block, width)                                                           \
    void wk_expand_##name##_avx2(wk_panel *dst, const void *w, int k0, int klen) {                 \
        const size_t bytes = sizeof(type) * WK_PANEL, piece = (size_t)(klen / (block)) * bytes;    \
        const uint8_t *p = (const uint8_t *)w + (size_t)(k0 / (block)) * bytes;                    \
        if (width) wk_width_put(dst, width);                                                       \
        for (int b = 0; b < klen / (block); b++, p += bytes) {                                     \
            fetch(p + piece, bytes);                                                               \
            block_##name(dst, b, p);                                                               \
        }                                                                                          \
    }
EXPAND(f32, float, 1, 0)
EXPAND(f16, wk_f16, 1, 0)
EXPAND(bf16, wk_bf16, 1, 0)
EXPAND(q4_0, wk_block_q4_0, 32, WK_WIDTH_4)
EXPAND(q4_1, wk_block_q4_1, 32, WK_WIDTH_4)
EXPAND(q5_0, wk_block_q5_0, 32, WK_WIDTH_5)
EXPAND(q5_1, wk_block_q5_1, 32, WK_WIDTH_5)
EXPAND(q8_0, wk_block_q8_0, 32, WK_WIDTH_8)
EXPAND(iq4_nl, wk_block_iq4_nl, 32, WK_WIDTH_8)
EXPAND(q2_k, wk_block_q2_k, 256, 0)
EXPAND(q3_k, wk_block_q3_k, 256, 0)
EXPAND(q4_k, wk_block_q4_k, 256, WK_WIDTH_4)
EXPAND(q5_k, wk_block_q5_k, 256, WK_WIDTH_5)
EXPAND(q6_k, wk_block_q6_k, 256, WK_WIDTH_6)
EXPAND(iq4_xs, wk_block_iq4_xs, 256, WK_WIDTH_8)
EXPAND(mxfp4, wk_block_mxfp4, 32, WK_WIDTH_5)

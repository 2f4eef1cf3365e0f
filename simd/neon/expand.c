/* expand.c: packed panel -> signed codes and scales, the inside of a panel as ref has it. */
#include "simd/neon/codes.h"
#include "simd/neon/neon.h"

/* p: packed block i of the piece. */
#define EACH_BLOCK(p, block, bytes)                                                                \
    const uint8_t *p = (const uint8_t *)w + (size_t)(k0 / (block)) * (16 * (bytes));               \
    for (int i = 0; i < klen / (block); i++, p += 16 * (bytes))

WK_INLINE void put(int8_t *code, int part, int8x16_t v) { vst1q_s8(code + 16 * part, v); }

/* Lines g of qs to groups g and g + apart, zero point off; with five, bits g and g + 4 of qh on top. */
WK_INLINE void nibbles(int8_t *code, const uint8_t *qs, const uint8_t *qh, int zero) {
    for (int g = 0; g < 4; g++) {
        for (int i = 0; i < 4; i++) {
            const uint8x16_t v = v_part(qs + WK_LINE * g, i);
            const uint8x16_t h = qh ? v_part(qh, i) : vdupq_n_u8(0);
            const uint8x16_t low = qh ? v_five_low(v, h, g) : v_low4(v);
            const uint8x16_t high = qh ? v_five_high(v, h, g + 4) : v_high4(v);
            put(code, 4 * g + i, v_less(low, zero));
            put(code, 4 * g + 16 + i, v_less(high, zero));
        }
    }
}

void wk_expand_q4_0_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 32, 18) {
        v16_store(dst->s + 16 * i, v16_f16(p));
        nibbles((int8_t *)dst->code + 512 * i, p + 32, NULL, 8);
    }
}

void wk_expand_q4_1_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 32, 20) {
        v16_store(dst->s + 16 * i, v16_f16(p));
        v16_store(dst->c + 16 * i, v16_f16(p + 32));
        nibbles((int8_t *)dst->code + 512 * i, p + 64, NULL, 0);
    }
}

void wk_expand_q5_0_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 32, 22) {
        v16_store(dst->s + 16 * i, v16_f16(p));
        nibbles((int8_t *)dst->code + 512 * i, p + 96, p + 32, 16);
    }
}

void wk_expand_q5_1_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 32, 24) {
        v16_store(dst->s + 16 * i, v16_f16(p));
        v16_store(dst->c + 16 * i, v16_f16(p + 32));
        nibbles((int8_t *)dst->code + 512 * i, p + 128, p + 64, 0);
    }
}

void wk_expand_q8_0_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 32, 34) {
        v16_store(dst->s + 16 * i, v16_f16(p));
        for (int n = 0; n < 32; n++) {
            put((int8_t *)dst->code + 512 * i, n, v_byte(vld1q_u8(p + 32 + 16 * n)));
        }
    }
}

/* 32 codes: low nibbles k, high ones k + 16. */
WK_INLINE void by_table(int8_t *code, const uint8_t *qs, int8x16_t table) {
    for (int n = 0; n < 16; n++) {
        const uint8x16_t v = vld1q_u8(qs + 16 * n);
        put(code, n, vqtbl1q_s8(table, v_low4(v)));
        put(code, n + 16, vqtbl1q_s8(table, v_high4(v)));
    }
}

void wk_expand_iq4_nl_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 32, 18) {
        v16_store(dst->s + 16 * i, v16_f16(p));
        by_table((int8_t *)dst->code + 512 * i, p + 32, v_iq4_table());
    }
}

void wk_expand_mxfp4_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 32, 17) {
        v16_store(dst->s + 16 * i, v16_e8m0_half(p));
        by_table((int8_t *)dst->code + 512 * i, p + 16, v_mxfp4_table());
    }
}

void wk_expand_iq4_xs_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 256, 136) {
        const v16 d = v16_f16(p);
        int8_t sc[128];
        xs_scales_of(sc, p + 32);
        for (int j = 0; j < 8; j++) {
            v16_store(dst->s + 128 * i + 16 * j, v16_mul(d, v16_s8(vld1q_s8(sc + 16 * j))));
            by_table((int8_t *)dst->code + 4096 * i + 512 * j, p + 128 + 256 * j, v_iq4_table());
        }
    }
}

/* Line l of half h: bits 2j hold k = 128 h + 32 j + 4 l; with hm, bit 4h + j of its line l is the third, less 4. */
WK_INLINE void twos(int8_t *code, const uint8_t *qs, const uint8_t *hm) {
    for (int g = 0; g < 64; g++) { /* by line of codes */
        const int half = g / 32, j = g / 8 % 4, l = g % 8;
        for (int n = 0; n < 4; n++) {
            uint8x16_t v = v_two(v_part(qs + WK_LINE * (8 * half + l), n), j);
            if (hm) v = vorrq_u8(v, v_bit(v_part(hm + WK_LINE * l, n), 4 * half + j, 4));
            put(code + WK_LINE * g, n, v_less(v, hm ? 4 : 0));
        }
    }
}

void wk_expand_q2_k_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 256, 84) {
        v16_store(dst->s + 16 * i, v16_f16(p));
        v16_store(dst->c + 16 * i, v16_neg(v16_f16(p + 32)));
        k2_scales_of(dst->sc + 256 * i, dst->mn + 256 * i, p + 64);
        twos((int8_t *)dst->code + 4096 * i, p + 320, NULL);
    }
}

void wk_expand_q3_k_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 256, 110) {
        v16_store(dst->s + 16 * i, v16_f16(p));
        k3_scales_of(dst->sc + 256 * i, p + 32);
        twos((int8_t *)dst->code + 4096 * i, p + 736, p + 224);
    }
}

/* d, dmin and the planes of Q4_K, Q5_K. */
static void scales_k4(wk_panel *dst, const uint8_t *p, int i) {
    const v16 d = v16_f16(p);
    k4_scales k;
    k4_scales_of(&k, p + 64);
    v16_store(dst->c + 16 * i, v16_neg(v16_f16(p + 32)));
    for (int j = 0; j < 8; j++) {
        const int8x16_t mn = vld1q_s8(k.mn + 16 * j);
        v16_store(dst->s + 128 * i + 16 * j, v16_mul(d, v16_s8(vld1q_s8(k.sc + 16 * j))));
        vst1q_s16(dst->mn + 128 * i + 16 * j, vmovl_s8(vget_low_s8(mn)));
        vst1q_s16(dst->mn + 128 * i + 16 * j + 8, vmovl_high_s8(mn));
    }
}

void wk_expand_q4_k_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 256, 144) {
        scales_k4(dst, p, i);
        for (int g = 0; g < 32; g++) {
            int8_t *code = (int8_t *)dst->code + 4096 * i + WK_LINE * (g / 8 * 16 + g % 8);
            for (int n = 0; n < 4; n++) {
                const uint8x16_t v = v_part(p + 256 + WK_LINE * g, n);
                put(code, n, vreinterpretq_s8_u8(v_low4(v)));
                put(code, n + 32, vreinterpretq_s8_u8(v_high4(v)));
            }
        }
    }
}

void wk_expand_q5_k_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 256, 176) {
        scales_k4(dst, p, i);
        for (int g = 0; g < 32; g++) {
            int8_t *code = (int8_t *)dst->code + 4096 * i + WK_LINE * (g / 8 * 16 + g % 8);
            for (int n = 0; n < 4; n++) {
                const uint8x16_t v = v_part(p + 768 + WK_LINE * g, n);
                const uint8x16_t h = v_part(p + 256 + WK_LINE * (g % 8), n);
                put(code, n, vreinterpretq_s8_u8(v_five_low(v, h, g / 8 * 2)));
                put(code, n + 32, vreinterpretq_s8_u8(v_five_high(v, h, g / 8 * 2 + 1)));
            }
        }
    }
}

void wk_expand_q6_k_neon(wk_panel *dst, const void *w, int k0, int klen) {
    EACH_BLOCK(p, 256, 210) {
        const v16 d = v16_f16(p);
        for (int j = 0; j < 16; j++) {
            const int8x16_t sc = vreinterpretq_s8_u8(vld1q_u8(p + 32 + 16 * j));
            v16_store(dst->s + 256 * i + 16 * j, v16_mul(d, v16_s8(sc)));
        }
        for (int g = 0; g < 16; g++) { /* line g % 8 of half g / 8: k = 4 (g % 8) + {0, 32, 64, 96} */
            int8_t *code = (int8_t *)dst->code + 4096 * i + WK_LINE * (g / 8 * 32 + g % 8);
            const uint8_t *ql = p + 1312 + WK_LINE * (g / 8 * 16 + g % 8);
            for (int n = 0; n < 4; n++) {
                const uint8x16_t h = v_part(p + 288 + WK_LINE * g, n);
                const uint8x16_t a = v_part(ql, n), b = v_part(ql + 8 * WK_LINE, n);
                put(code, n, v_less(vorrq_u8(v_low4(a), v_top2(h, 0)), 32));
                put(code, n + 32, v_less(vorrq_u8(v_low4(b), v_top2(h, 1)), 32));
                put(code, n + 64, v_less(vorrq_u8(v_high4(a), v_top2(h, 2)), 32));
                put(code, n + 96, v_less(vorrq_u8(v_high4(b), v_top2(h, 3)), 32));
            }
        }
    }
}

#define EXPAND_F(id, name)                                                                         \
    void wk_expand_##name##_neon(wk_panel *dst, const void *w, int k0, int klen) {                 \
        for (int k = 0; k < klen; k++) {                                                           \
            v16_store(dst->f + 16 * k, v16_weight(w, 16 * (size_t)(k0 + k), WK_FMT_##id));         \
        }                                                                                          \
    }
EXPAND_F(F32, f32)
EXPAND_F(F16, f16)
EXPAND_F(BF16, bf16)

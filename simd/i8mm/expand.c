/* expand.c: NEON's expand, then rows by pairs, in L1 and in place. Paired once here
 * instead of in the tile: 8 zips for 16 smmla of 4 tokens are a third of the work there, and a panel serves
 * all tokens of a prompt. */
#include "simd/i8mm/i8mm.h"
#include "simd/neon/neon.h"
#include "simd/neon/vec.h"

/* [k/4][16][4] to [k/8][8][2][8]: two lines at a time, dword l of the first beside dword l of the second. */
static void pair_rows(uint8_t *code, int klen) {
    for (int k = 0; k < klen; k += 8, code += WK_I8MM_STEP) {
        uint32x4_t low[4], high[4];
        for (int i = 0; i < 4; i++) {
            low[i] = vreinterpretq_u32_u8(vld1q_u8(code + 16 * i));
            high[i] = vreinterpretq_u32_u8(vld1q_u8(code + WK_LINE + 16 * i));
        }
        for (int i = 0; i < 4; i++) {
            vst1q_u8(code + 32 * i, vreinterpretq_u8_u32(vzip1q_u32(low[i], high[i])));
            vst1q_u8(code + 32 * i + 16, vreinterpretq_u8_u32(vzip2q_u32(low[i], high[i])));
        }
    }
}

#define EXPAND(name, below)                                                                        \
    void wk_expand_##name##_i8mm(wk_panel *dst, const void *w, int k0, int klen) {                 \
        below(dst, w, k0, klen);                                                                   \
        pair_rows(dst->code, klen);                                                                \
    }
#define OF_NEON(name) EXPAND(name, wk_expand_##name##_neon)
OF_NEON(q4_0)
OF_NEON(q4_1)
OF_NEON(q5_0)
OF_NEON(q5_1)
OF_NEON(q8_0)
OF_NEON(q2_k)
OF_NEON(q3_k)
OF_NEON(q4_k)
OF_NEON(q5_k)
OF_NEON(q6_k)
OF_NEON(iq4_nl)
OF_NEON(iq4_xs)
OF_NEON(mxfp4)
OF_NEON(iq2_xxs)
OF_NEON(iq2_xs)
OF_NEON(iq2_s)
OF_NEON(iq3_xxs)
OF_NEON(iq3_s)
OF_NEON(tq1_0)
OF_NEON(tq2_0)

/* quant.c: the activation quantiser, A32 and A256. */
#include "simd/neon/neon.h"
#include "simd/neon/vec.h"
#include "simd/ref/kv_q8.h"

/* What turns a block into codes: q = rint(x * inv), d its scale. inv = 0: all codes are 0. */
typedef struct block_scale {
    float d, inv;
} block_scale;

/* Unsigned maximum of bits & 0x7fffffff over n values, n % 32 == 0. */
static uint32_t amax_bits(const float *x, int n) {
    const uint32x4_t size = vdupq_n_u32(0x7fffffffu);
    uint32x4_t m0 = vdupq_n_u32(0), m1 = m0;
    for (int i = 0; i < n; i += 8) {
        m0 = vmaxq_u32(m0, vandq_u32(size, vreinterpretq_u32_f32(vld1q_f32(x + i))));
        m1 = vmaxq_u32(m1, vandq_u32(size, vreinterpretq_u32_f32(vld1q_f32(x + i + 4))));
    }
    return vmaxvq_u32(vmaxq_u32(m0, m1));
}

static block_scale scale_of(uint32_t bits) {
    const float amax = wk_f32_from_bits(bits);
    if (bits >= 0x7f800000u) return (block_scale){wk_f32_from_bits(0x7fc00000u), 0.0f};
    if (amax < WK_QUANT_TINY) return (block_scale){0.0f, 0.0f};
    return (block_scale){amax * WK_QUANT_STEP, 127.0f / amax};
}

/* Nearest even, as rint. */
WK_INLINE int16x4_t codes4(const float *x, float inv) {
    return vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inv)));
}

/* 16 codes. Not computed where all are 0: x * 0 may be NaN. */
WK_INLINE int8x16_t codes16(const float *x, float inv) {
    if (!(inv > 0.0f)) return vdupq_n_s8(0);
    const int16x8_t a = vcombine_s16(codes4(x, inv), codes4(x + 4, inv));
    const int16x8_t b = vcombine_s16(codes4(x + 8, inv), codes4(x + 12, inv));
    return vcombine_s8(vmovn_s16(a), vmovn_s16(b));
}

/* Writes 32 codes; sum: of the first 16 and of the others. */
WK_INLINE void put32(int8_t *q, int sum[2], const float *x, float inv) {
    for (int h = 0; h < 2; h++) {
        const int8x16_t v = codes16(x + 16 * h, inv);
        vst1q_s8(q + 16 * h, v);
        sum[h] = vaddlvq_s8(v);
    }
}

void wk_quant_a32_neon(wk_act *dst, int t, const float *x, int k) {
    const size_t row = (size_t)t * dst->ldb;
    int8_t *q = dst->q + (size_t)t * dst->ld;
    for (int b = 0; b < k / 32; b++) {
        const block_scale s = scale_of(amax_bits(x + 32 * b, 32));
        const size_t i = row + (size_t)b;
        int sum[2];
        put32(q + 32 * b, sum, x + 32 * b, s.inv);
        dst->d[i] = s.d;
        dst->z32[i] = -128 * (sum[0] + sum[1]);
        dst->f32s[i] = (float)(sum[0] + sum[1]);
    }
}

void wk_quant_a256_neon(wk_act *dst, int t, const float *x, int k) {
    const size_t row = (size_t)t * dst->ldb;
    int8_t *q = dst->q + (size_t)t * dst->ld;
    block_scale s = {0.0f, 0.0f};
    for (int b = 0; b < k / 32; b++) {
        if (b % 8 == 0) {
            s = scale_of(amax_bits(x + 32 * b, 256));
            dst->d[row + (size_t)(b / 8)] = s.d;
        }
        const size_t i = row + (size_t)b;
        int sum[2];
        put32(q + 32 * b, sum, x + 32 * b, s.inv);
        dst->z32[i] = -128 * (sum[0] + sum[1]);
        dst->s32[i] = (int16_t)(sum[0] + sum[1]);
        for (size_t h = 0; h < 2; h++) {
            dst->z16[2 * i + h] = -128 * sum[h];
            dst->s16[2 * i + h] = (int16_t)sum[h];
        }
    }
}

int wk_kv_cast_q8_0_neon(void *dst, const float *x, int n) {
    return wk_kv_cast_q8(wk_quant_a32_neon, dst, x, n);
}

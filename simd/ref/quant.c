/* quant.c: the activation quantiser of DESIGN 9.3. */
#include <math.h>
#include <string.h>

#include "engine/base/half.h"
#include "simd/poly.h"
#include "simd/ref/kv_q8.h"
#include "simd/ref/ref.h"

/* n codes and their scale. amax is an integer maximum, so NaN cannot hide in it. */
static float quant_block(int8_t *q, const float *x, int n) {
    uint32_t bits = 0;
    for (int i = 0; i < n; i++) {
        const uint32_t a = wk_f32_bits(x[i]) & 0x7fffffffu;
        bits = a > bits ? a : bits;
    }
    const float amax = wk_f32_from_bits(bits);
    if (bits >= 0x7f800000u || amax < WK_QUANT_TINY) {
        memset(q, 0, (size_t)n);
        return bits >= 0x7f800000u ? wk_f32_from_bits(0x7fc00000u) : 0.0f;
    }
    const float inv = 127.0f / amax;
    for (int i = 0; i < n; i++) q[i] = (int8_t)rintf(x[i] * inv);
    return amax * WK_QUANT_STEP;
}

static int sum_codes(const int8_t *q, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += q[i];
    return sum;
}

static void wk_quant_a32_ref(wk_act *dst, int t, const float *x, int k) {
    int8_t *q = dst->q + (size_t)t * dst->ld;
    const size_t i0 = (size_t)t * dst->ldb;
    for (int b = 0; b < k / 32; b++) {
        dst->d[i0 + (size_t)b] = quant_block(q + 32 * b, x + 32 * b, 32);
        const int sum = sum_codes(q + 32 * b, 32);
        dst->z32[i0 + (size_t)b] = -128 * sum;
        dst->f32s[i0 + (size_t)b] = (float)sum;
    }
}

static void wk_quant_a256_ref(wk_act *dst, int t, const float *x, int k) {
    int8_t *q = dst->q + (size_t)t * dst->ld;
    const size_t i0 = (size_t)t * dst->ldb;
    for (int b = 0; b < k / 256; b++) {
        dst->d[i0 + (size_t)b] = quant_block(q + 256 * b, x + 256 * b, 256);
    }
    for (int b = 0; b < k / 16; b++) {
        const int sum = sum_codes(q + 16 * b, 16);
        dst->s16[2 * i0 + (size_t)b] = (int16_t)sum;
        dst->z16[2 * i0 + (size_t)b] = -128 * sum;
    }
    for (int b = 0; b < k / 32; b++) {
        const int sum = sum_codes(q + 32 * b, 32);
        dst->s32[i0 + (size_t)b] = (int16_t)sum;
        dst->z32[i0 + (size_t)b] = -128 * sum;
    }
}

/* Plain f32 activations are used as they are: an empty body, so that no pointer of the table is NULL. */
static void wk_quant_f32_ref(wk_act *dst, int t, const float *x, int k) {
    (void)dst;
    (void)t;
    (void)x;
    (void)k;
}

static int wk_kv_cast_q8_0_ref(void *dst, const float *x, int n) {
    return wk_kv_cast_q8(wk_quant_a32_ref, dst, x, n);
}

void wk_fill_quant_ref(wk_kernels *k) {
    k->quant[WK_X_F32] = wk_quant_f32_ref;
    k->quant[WK_X_A32] = wk_quant_a32_ref;
    k->quant[WK_X_A256] = wk_quant_a256_ref;
    k->kv_cast[WK_KV_Q8_0] = wk_kv_cast_q8_0_ref;
}

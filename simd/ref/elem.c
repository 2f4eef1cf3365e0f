/* elem.c: row sums, norm, rope, the element functions, argmax and the cast to the cache type. */
#include <math.h>
#include <string.h>

#include "simd/ref/ref.h"
#include "simd/ref/scalar.h"

static float sum_squares(const float *x, int n) {
    float p[16] = {0};
    for (int i = 0; i < n; i++) p[i % 16] = fmaf(x[i], x[i], p[i % 16]);
    return wk_tree16(p);
}

static float wk_sum_ref(const float *x, int n) {
    float p[16] = {0};
    for (int i = 0; i < n; i++) p[i % 16] = p[i % 16] + x[i];
    return wk_tree16(p);
}

static void wk_rms_ref(float *dst, float *r_out, const float *x, const float *w, int n, float eps) {
    const float ss = sum_squares(x, n);
    float r = 1.0f / sqrtf(ss / (float)n + eps);
    /* A row of Inf would give r = 0 and hide the fault. */
    if ((wk_f32_bits(ss) & 0x7f800000u) == 0x7f800000u) r = wk_f32_from_bits(0x7fc00000u);
    for (int i = 0; i < n; i++) dst[i] = (x[i] * r) * w[i];
    if (r_out) *r_out = r;
}

/* Turns one pair. */
static void turn(float *x0, float *x1, float c, float s) {
    const float a = *x0, b = *x1, bs = b * s, bc = b * c;
    *x0 = fmaf(a, c, -bs);
    *x1 = fmaf(a, s, bc);
}

static void wk_rope_halves_ref(float *x, const float *cs, int n_head, int hd, int n_rot) {
    const int half = n_rot / 2;
    for (int h = 0; h < n_head; h++, x += hd) {
        for (int i = 0; i < half; i++) turn(&x[i], &x[i + half], cs[i], cs[half + i]);
    }
}

static void wk_rope_neighbours_ref(float *x, const float *cs, int n_head, int hd, int n_rot) {
    const int half = n_rot / 2;
    for (int h = 0; h < n_head; h++, x += hd) {
        for (int i = 0; i < half; i++) turn(&x[2 * i], &x[2 * i + 1], cs[i], cs[half + i]);
    }
}

static void wk_glu_silu_ref(float *dst, const float *gate, const float *up, int n) {
    for (int i = 0; i < n; i++) dst[i] = wk_silu_scalar(gate[i]) * up[i];
}

static void wk_glu_gelu_tanh_ref(float *dst, const float *gate, const float *up, int n) {
    for (int i = 0; i < n; i++) dst[i] = wk_gelu_tanh_scalar(gate[i]) * up[i];
}

static void wk_add_ref(float *dst, const float *a, const float *b, int n) {
    for (int i = 0; i < n; i++) dst[i] = a[i] + b[i];
}

static void wk_scale_ref(float *dst, const float *x, float c, int n) {
    for (int i = 0; i < n; i++) dst[i] = c * x[i];
}

static void wk_fma_ref(float *dst, const float *y, const float *x, float c, int n) {
    for (int i = 0; i < n; i++) dst[i] = fmaf(c, x[i], y[i]);
}

static void wk_softcap_ref(float *dst, const float *x, float c, float c_inv, int n) {
    for (int i = 0; i < n; i++) dst[i] = wk_softcap_scalar(x[i], c, c_inv);
}

static void wk_exp_scaled_ref(float *dst, const float *x, float max, float c, int n) {
    for (int i = 0; i < n; i++) dst[i] = wk_exp_scalar((x[i] - max) * c);
}

static int wk_argmax_ref(const float *x, int n) {
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (x[i] != x[i]) continue;
        if (best < 0 || x[i] > x[best]) best = i;
    }
    return best;
}

static int wk_kv_cast_f32_ref(void *dst, const float *x, int n) {
    int bad = 0;
    for (int i = 0; i < n; i++) {
        uint32_t u = wk_f32_bits(x[i]);
        if ((u & 0x7f800000u) == 0x7f800000u) {
            u = 0;
            bad++;
        }
        memcpy((uint8_t *)dst + 4 * (size_t)i, &u, 4);
    }
    return bad;
}

static int wk_kv_cast_f16_ref(void *dst, const float *x, int n) {
    int bad = 0;
    for (int i = 0; i < n; i++) {
        wk_f16 h = wk_f32_to_f16(x[i]);
        if ((h & 0x7c00u) == 0x7c00u) {
            h = 0;
            bad++;
        }
        memcpy((uint8_t *)dst + 2 * (size_t)i, &h, 2);
    }
    return bad;
}

static int wk_kv_cast_bf16_ref(void *dst, const float *x, int n) {
    int bad = 0;
    for (int i = 0; i < n; i++) {
        wk_bf16 h = wk_f32_to_bf16(x[i]);
        if ((h & 0x7f80u) == 0x7f80u) {
            h = 0;
            bad++;
        }
        memcpy((uint8_t *)dst + 2 * (size_t)i, &h, 2);
    }
    return bad;
}

void wk_fill_elem_ref(wk_kernels *k) {
    k->rms = wk_rms_ref;
    k->rope[WK_ROPE_HALVES] = wk_rope_halves_ref;
    k->rope[WK_ROPE_NEIGHBOURS] = wk_rope_neighbours_ref;
    k->glu[WK_FN_SILU] = wk_glu_silu_ref;
    k->glu[WK_FN_GELU_TANH] = wk_glu_gelu_tanh_ref;
    k->add = wk_add_ref;
    k->scale = wk_scale_ref;
    k->fma = wk_fma_ref;
    k->softcap = wk_softcap_ref;
    k->exp_scaled = wk_exp_scaled_ref;
    k->sum = wk_sum_ref;
    k->argmax = wk_argmax_ref;
    k->kv_cast[WK_KV_F32] = wk_kv_cast_f32_ref;
    k->kv_cast[WK_KV_F16] = wk_kv_cast_f16_ref;
    k->kv_cast[WK_KV_BF16] = wk_kv_cast_bf16_ref;
}

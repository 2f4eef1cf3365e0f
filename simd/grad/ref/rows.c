/* rows.c: gradients of norms, glu and softcap, sums, AdamW, in the order that simd/grad/grad.h writes. */
#include <math.h>

#include "simd/grad/fill.h"
#include "simd/ref/scalar.h"

static float wk_dot_ref(const float *x, const float *y, int n) {
    float p[16] = {0};
    for (int i = 0; i < n; i++) p[i % 16] = fmaf(x[i], y[i], p[i % 16]);
    return wk_tree16(p);
}

static void wk_rms_grad_ref(float *dst, const float *dy, const float *x, const float *w, float r, int n,
                            bool add) {
    float p[16] = {0};
    for (int i = 0; i < n; i++) p[i % 16] = fmaf(dy[i] * w[i], x[i], p[i % 16]);
    const float dot = wk_tree16(p), c = (r * r) * (dot / (float)n);
    for (int i = 0; i < n; i++) {
        const float dx = fmaf(-x[i], c, dy[i] * w[i]) * r;
        dst[i] = add ? dst[i] + dx : dx;
    }
}

static void wk_rms_w_grad_ref(float *dw, const float *dy, const float *x, const float *r, size_t ld,
                              int n_row, int n) {
    for (int t = 0; t < n_row; t++) {
        const float *dyt = dy + (size_t)t * ld, *xt = x + (size_t)t * ld;
        for (int i = 0; i < n; i++) dw[i] = fmaf(dyt[i], xt[i] * r[t], dw[i]);
    }
}

static void wk_col_sum_ref(float *dst, const float *x, size_t ld, int n_row, int n) {
    for (int t = 0; t < n_row; t++) {
        for (int i = 0; i < n; i++) dst[i] = dst[i] + x[(size_t)t * ld + (size_t)i];
    }
}

static float sigmoid(float x) { return 1.0f / (1.0f + wk_exp_scalar(-x)); }

static void wk_glu_grad_silu_ref(float *d_g, float *d_u, const float *dy, const float *g, const float *u,
                                 int n) {
    for (int i = 0; i < n; i++) {
        const float s = sigmoid(g[i]), fn = g[i] * s, d_fn = s * fmaf(g[i], 1.0f - s, 1.0f);
        const float to_u = dy[i] * fn, to_g = (dy[i] * u[i]) * d_fn; /* the outputs may be an input */
        d_u[i] = to_u;
        d_g[i] = to_g;
    }
}

static void wk_glu_grad_gelu_tanh_ref(float *d_g, float *d_u, const float *dy, const float *g,
                                      const float *u, int n) {
    for (int i = 0; i < n; i++) {
        const float x = g[i], x2 = x * x, s = sigmoid(x * fmaf(x2, WK_GELU_A, WK_GELU_B));
        const float d_z = fmaf(x2, WK_GELU_A3, WK_GELU_B);
        const float fn = x * s, d_fn = fmaf(x * d_z, s * (1.0f - s), s);
        const float to_u = dy[i] * fn, to_g = (dy[i] * u[i]) * d_fn;
        d_u[i] = to_u;
        d_g[i] = to_g;
    }
}

static void wk_softcap_grad_ref(float *dst, const float *dy, const float *y, float cap_inv, int n) {
    for (int i = 0; i < n; i++) {
        const float t = y[i] * cap_inv;
        dst[i] = dy[i] * fmaf(-t, t, 1.0f);
    }
}

static void wk_axpy_ref(float *dst, const float *x, float c, int n) {
    for (int i = 0; i < n; i++) dst[i] = fmaf(c, x[i], dst[i]);
}

static void wk_adamw_ref(float *w, float *m, float *v, const float *g, const wk_adamw *a, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float gi = g[i] * a->g_scale, wi = w[i] * a->keep;
        m[i] = fmaf(m[i], a->b1, gi * a->b1c);
        v[i] = fmaf(v[i], a->b2, (gi * gi) * a->b2c);
        w[i] = wi - (m[i] * a->step) / (sqrtf(v[i]) * a->v_inv + a->eps);
    }
}

void wk_fill_rows_grad_ref(wk_grad_kernels *k) {
    k->rms = wk_rms_grad_ref;
    k->rms_w = wk_rms_w_grad_ref;
    k->col_sum = wk_col_sum_ref;
    k->glu[WK_FN_SILU] = wk_glu_grad_silu_ref;
    k->glu[WK_FN_GELU_TANH] = wk_glu_grad_gelu_tanh_ref;
    k->softcap = wk_softcap_grad_ref;
    k->axpy = wk_axpy_ref;
    k->dot = wk_dot_ref;
    k->adamw = wk_adamw_ref;
}

/* attn.c: the gradient of attention over one page, in the order that simd/grad/grad.h writes. */
#include <math.h>

#include "simd/grad/fill.h"
#include "simd/ref/scalar.h"

/* x . slot i of panels, kind F. */
static float dot_slot(const float *panels, const float *x, int hd, int i) {
    const float *w = panels + (size_t)(i / 16) * (size_t)hd * 16 + i % 16;
    float acc = 0.0f;
    for (int d0 = 0; d0 < hd; d0 += 64) {
        const int d1 = hd - d0 < 64 ? hd : d0 + 64;
        float c = 0.0f;
        for (int d = d0; d < d1; d++) c = fmaf(w[(size_t)d * 16], x[d], c);
        acc = acc + c;
    }
    return acc;
}

/* p and ds of column c, slot i. */
static void weights(const wk_attn_grad *a, int c, int i) {
    const size_t at = (size_t)c * (size_t)a->hd, to = (size_t)c * WK_KV_SLOTS + (size_t)i;
    float s = dot_slot(a->kp, a->q + at, a->hd, i) * a->scale, t = 0.0f;
    if (a->softcap > 0.0f) {
        t = wk_tanh_scalar(s * a->softcap_inv);
        s = a->softcap * t;
    }
    const float p = wk_exp_scalar(s - a->m[c]) * a->l_inv[c];
    float ds = p * (dot_slot(a->vp, a->d_o + at, a->hd, i) - a->delta[c]);
    if (a->softcap > 0.0f) ds = ds * fmaf(-t, t, 1.0f);
    a->p[to] = p;
    a->ds[to] = ds * a->scale;
}

static void add_scaled(float *dst, const float *x, float c, int n) {
    for (int i = 0; i < n; i++) dst[i] = fmaf(c, x[i], dst[i]);
}

static void wk_attn_grad_ref(const wk_attn_grad *a) {
    const size_t hd = (size_t)a->hd;
    for (int c = 0; c < a->n_col; c++) {
        const size_t at = (size_t)c * hd;
        const float *p = a->p + (size_t)c * WK_KV_SLOTS, *ds = a->ds + (size_t)c * WK_KV_SLOTS;
        for (int i = a->lo[c]; i < a->hi[c]; i++) {
            const size_t row = (size_t)i * hd;
            weights(a, c, i);
            add_scaled(a->d_v + row, a->d_o + at, p[i], a->hd);
            add_scaled(a->d_k + row, a->q + at, ds[i], a->hd);
            add_scaled(a->d_q + at, a->k + row, ds[i], a->hd);
        }
    }
}

void wk_fill_attn_grad_ref(wk_grad_kernels *k) { k->attn = wk_attn_grad_ref; }

/* attn.c: attention over one KV page, the merge of pages and the last division. DESIGN 9.7. */
#include <math.h>
#include <string.h>

#include "simd/ref/ref.h"
#include "simd/ref/scalar.h"

/* Value i of a K panel or V row of the page's type. */
static float kv_value(const void *p, wk_kv type, size_t i) {
    const uint8_t *b = p;
    uint16_t h;
    float f;
    if (type == WK_KV_F32) {
        memcpy(&f, b + 4 * i, 4);
        return f;
    }
    memcpy(&h, b + 2 * i, 2);
    return type == WK_KV_F16 ? wk_f16_to_f32(h) : wk_bf16_to_f32(h);
}

/* q . k of slot i, kind F. */
static float dot_slot(const wk_attn_page *a, const float *q, int i) {
    const size_t base = (size_t)(i / 16) * (size_t)a->hd * 16 + (size_t)(i % 16);
    float acc = 0.0f;
    for (int d0 = 0; d0 < a->hd; d0 += 64) {
        const int d1 = a->hd - d0 < 64 ? a->hd : d0 + 64;
        float c = 0.0f;
        for (int d = d0; d < d1; d++)
            c = fmaf(kv_value(a->k, a->type, base + (size_t)d * 16), q[d], c);
        acc = acc + c;
    }
    return acc;
}

/* Scores of slots lo .. hi - 1 and their maximum. */
static float scores(const wk_attn_page *a, float *s, const float *q, int lo, int hi) {
    float m = WK_ATTN_M0;
    for (int i = lo; i < hi; i++) {
        s[i] = dot_slot(a, q, i) * a->scale;
        if (a->softcap > 0.0f) s[i] = wk_softcap_scalar(s[i], a->softcap, a->softcap_inv);
        if (s[i] > m) m = s[i];
    }
    return m;
}

/* Masked slots have e = +0: they add +0 to l and fma(+0, v, o) = o, so they are left out. */
static void column(float *m, float *l, float *o, const wk_attn_page *a, int c) {
    float *s = a->score + (size_t)c * WK_KV_SLOTS, p[16] = {0};
    const int lo = a->lo[c], hi = a->hi[c];
    *m = scores(a, s, a->q + (size_t)c * (size_t)a->hd, lo, hi);
    memset(o, 0, (size_t)a->hd * sizeof(float));
    for (int i = lo; i < hi; i++) {
        s[i] = wk_exp_scalar(s[i] - *m);
        p[i % 16] = p[i % 16] + s[i];
        const size_t row = (size_t)i * (size_t)a->hd;
        for (int d = 0; d < a->hd; d++)
            o[d] = fmaf(s[i], kv_value(a->v, a->type, row + (size_t)d), o[d]);
    }
    *l = wk_tree16(p);
}

static void wk_attn_page_ref(wk_partial *out, const wk_attn_page *a) {
    for (int c = 0; c < a->n_col; c++) {
        column(&out->m[c], &out->l[c], out->o + (size_t)c * (size_t)a->hd, a, c);
    }
}

static void wk_attn_merge_ref(wk_partial *acc, const wk_partial *p, int n_col, int hd) {
    for (int c = 0; c < n_col; c++) {
        const float max = p->m[c] > acc->m[c] ? p->m[c] : acc->m[c];
        const float a = wk_exp_scalar(acc->m[c] - max), b = wk_exp_scalar(p->m[c] - max);
        float *o = acc->o + (size_t)c * (size_t)hd;
        const float *po = p->o + (size_t)c * (size_t)hd;
        acc->m[c] = max;
        acc->l[c] = fmaf(acc->l[c], a, p->l[c] * b);
        for (int d = 0; d < hd; d++) o[d] = fmaf(o[d], a, po[d] * b);
    }
}

static void wk_attn_finish_ref(float *dst, size_t ld, const wk_partial *acc, int n_col, int hd) {
    for (int c = 0; c < n_col; c++) {
        const float inv = 1.0f / acc->l[c], *o = acc->o + (size_t)c * (size_t)hd;
        for (int d = 0; d < hd; d++) dst[(size_t)c * ld + (size_t)d] = o[d] * inv;
    }
}

void wk_fill_attn_ref(wk_kernels *k) {
    k->attn_page = wk_attn_page_ref;
    k->attn_merge = wk_attn_merge_ref;
    k->attn_finish = wk_attn_finish_ref;
}

/* attn.c: attention over one KV page, the merge of pages and the last division. DESIGN 9.7. */
#include <math.h>
#include <string.h>

#include "simd/ref/ref.h"
#include "simd/ref/scalar.h"

/* Value i of a K panel or V row of a float type. */
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

/* Value d of slot i. */
static float v_value(const wk_attn_page *a, int i, int d) {
    const size_t at = (size_t)i * (size_t)a->hd + (size_t)d;
    if (a->type != WK_KV_Q8_0) return kv_value(a->v, a->type, at);
    const size_t n_scale = (size_t)a->hd / 32 * WK_KV_SLOTS;
    const int8_t *code = (const int8_t *)a->v + n_scale * sizeof(wk_f16);
    return (float)code[at] * kv_value(a->v, WK_KV_F16, at / 32);
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

static float product(const wk_attn_page *a, const float *s, const float *q, int i) {
    return a->type == WK_KV_Q8_0 ? s[i] : dot_slot(a, q, i);
}

/* Scores of slots lo .. hi - 1 and their maximum. */
static float scores(const wk_attn_page *a, float *s, const float *q, int lo, int hi) {
    float m = WK_ATTN_M0;
    for (int i = lo; i < hi; i++) {
        s[i] = product(a, s, q, i) * a->scale;
        if (a->softcap > 0.0f) s[i] = wk_softcap_scalar(s[i], a->softcap, a->softcap_inv);
        if (s[i] > m) m = s[i];
    }
    return m;
}

/* o = fma(o, *a, page's o * *b), or the page's o where a is NULL. Masked slots have e = +0: they add +0 to l and
 * fma(+0, v, o) = o, so they are left out. */
static void values(float *o, const wk_attn_page *p, const float *e, int lo, int hi, const float *a,
                   float b) {
    for (int d = 0; d < p->hd; d++) {
        float c = 0.0f;
        for (int i = lo; i < hi; i++) c = fmaf(e[i], v_value(p, i, d), c);
        o[d] = a ? fmaf(o[d], *a, c * b) : c;
    }
}

static void column(float *m, float *l, float *o, const wk_attn_page *p, int c) {
    float *s = p->score + (size_t)c * WK_KV_SLOTS, sum[16] = {0};
    const int lo = p->lo[c], hi = p->hi[c];
    const float max = scores(p, s, p->q + (size_t)c * (size_t)p->hd, lo, hi);
    for (int i = lo; i < hi; i++) {
        s[i] = wk_exp_scalar(s[i] - max);
        sum[i % 16] = sum[i % 16] + s[i];
    }
    const float total = wk_tree16(sum);
    if (p->merge) {
        const float top = max > *m ? max : *m, a = wk_exp_scalar(*m - top),
                    b = wk_exp_scalar(max - top);
        values(o, p, s, lo, hi, &a, b);
        *m = top;
        *l = fmaf(*l, a, total * b);
    } else {
        values(o, p, s, lo, hi, NULL, 1.0f);
        *m = max;
        *l = total;
    }
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

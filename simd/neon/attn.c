/* attn.c: attention over one KV page, the merge of pages, the last division.
 *
 * Both products keep sixteen FMA chains in flight whatever the number of columns: QK takes 1, 2 or 4
 * columns x 4, 2 or 1 panels of 16 positions, PV takes 1, 2 or 4 columns x 64, 32 or 16 dims. A group of
 * columns runs over the union of what its columns see; a slot that a column does not see has e = +0. */
#include <math.h>

#include "simd/neon/neon.h"
#include "simd/neon/vec.h"

enum { SLOTS = WK_KV_SLOTS, CHUNK = 64 };

/* Columns c .. c + n - 1 of a page and the slots that any of them sees. */
typedef struct group {
    int c, n, lo, hi;
    ptrdiff_t ahead; /* the page's, for its first group alone */
} group;

/* What the running o and the page's o of each column are multiplied by where they are merged. */
typedef struct factors {
    float old[4], page[4];
} factors;

/* The same place of the next page. */
WK_INLINE void fetch(const void *p, size_t off, ptrdiff_t ahead) {
    v_ahead((const uint8_t *)p + off, (size_t)ahead);
}

WK_INLINE size_t at(int row, int width) { return (size_t)row * (size_t)width; }

/* Largest group of 4, 2 or 1 columns from c on. */
static group group_at(const wk_attn_page *a, int c) {
    const int left = a->n_col - c;
    group g = {c, left >= 4 ? 4 : left >= 2 ? 2 : 1, SLOTS, 0, c ? 0 : a->ahead};
    for (int i = c; i < c + g.n; i++) {
        if (a->hi[i] <= a->lo[i]) continue;
        if (a->lo[i] < g.lo) g.lo = a->lo[i];
        if (a->hi[i] > g.hi) g.hi = a->hi[i];
    }
    return g;
}

/* ---- q . k, kind F ---- */

/* Chain s: column s / n_panel, panel s % n_panel. */
#define FOR_4(X) X(0) X(1) X(2) X(3)
#define QK_BEGIN(s)                                                                                \
    const int p##s = s % n_panel, c##s = s / n_panel;                                              \
    v16 a##s = v16_zero();
#define QK_STEP(s)                                                                                 \
    a##s = v16_fma1(a##s, v16_weight(k, at(p##s, 16 * hd) + 16 * (size_t)d, fmt), q[at(c##s, hd) + (size_t)d]);
#define QK_END(s)                                                                                  \
    {                                                                                              \
        float *o = score + at(c##s, SLOTS) + 16 * p##s;                                            \
        v16_store(o, v16_add(v16_load(o), a##s));                                                  \
    }

/* Adds dims d0 .. d1-1 of n_panel panels to the scores of 4 / n_panel columns. */
WK_INLINE void qk_chunk(float *score, const void *k, const float *q, int hd, int d0, int d1,
                        ptrdiff_t ahead, int n_panel, int fmt) {
    FOR_4(QK_BEGIN)
    for (int d = d0; d < d1; d++) {
        for (int p = 0; p < n_panel && ahead && (fmt == WK_FMT_F32 || d % 2 == 0); p++)
            fetch(k, (at(p, 16 * hd) + 16 * (size_t)d) * (size_t)v_weight_bytes(fmt), ahead);
        FOR_4(QK_STEP)
    }
    FOR_4(QK_END)
}

/* Scores of the panels that hold slots lo .. hi-1. */
WK_INLINE void qk(const wk_attn_page *a, const group *g, int n_panel, int fmt) {
    const int hd = a->hd, first = g->lo / (16 * n_panel) * n_panel;
    const size_t panel_bytes = at(16 * hd, v_weight_bytes(fmt));
    for (int p = first; 16 * p < g->hi; p += n_panel) {
        const uint8_t *k = (const uint8_t *)a->k + (size_t)p * panel_bytes;
        float *score = a->score + at(g->c, SLOTS) + 16 * p;
        for (int c = 0; c < g->n; c++) memset(score + at(c, SLOTS), 0, sizeof(float) * 16 * (size_t)n_panel);
        for (int d = 0; d < hd; d += CHUNK) {
            const int end = hd - d < CHUNK ? hd : d + CHUNK;
            qk_chunk(score, k, a->q + at(g->c, hd), hd, d, end, g->ahead, n_panel, fmt);
        }
    }
}

/* ---- softmax of one column ---- */

WK_INLINE float32x4_t final_score(const wk_attn_page *a, float32x4_t s) {
    s = vmulq_n_f32(s, a->scale);
    if (!(a->softcap > 0.0f)) return s;
    return vmulq_n_f32(v_tanh(vmulq_n_f32(s, a->softcap_inv)), a->softcap);
}

/* Lanes of slots i .. i+3 that lie in lo .. hi-1. */
WK_INLINE uint32x4_t seen(int i, int lo, int hi) {
    static const int32_t lane[4] = {0, 1, 2, 3};
    const int32x4_t slot = vaddq_s32(vld1q_s32(lane), vdupq_n_s32(i));
    return vandq_u32(vcgeq_s32(slot, vdupq_n_s32(lo)), vcltq_s32(slot, vdupq_n_s32(hi)));
}

/* Turns the scores of slots 16*(lo/16) .. into e; slots not seen into +0. NaN is never the maximum. */
static void softmax(float *m, float *l, const wk_attn_page *a, const group *g, int c) {
    float *s = a->score + at(c, SLOTS);
    const int lo = a->lo[c], hi = a->hi[c], from = g->lo / 16 * 16, to = (g->hi + 15) / 16 * 16;
    float32x4_t max = vdupq_n_f32(WK_ATTN_M0);
    for (int i = from; i < to; i += 4) {
        const float32x4_t v = final_score(a, vld1q_f32(s + i));
        max = vbslq_f32(vandq_u32(vcgtq_f32(v, max), seen(i, lo, hi)), v, max);
        vst1q_f32(s + i, v);
    }
    *m = vmaxvq_f32(max);
    float32x4_t sum[4] = {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)};
    for (int i = from; i < to; i += 16) {
        for (int j = 0; j < 4; j++) {
            const float32x4_t e = v_exp(vsubq_f32(vld1q_f32(s + i + 4 * j), vdupq_n_f32(*m)));
            const uint32x4_t kept = vandq_u32(vreinterpretq_u32_f32(e), seen(i + 4 * j, lo, hi));
            sum[j] = vaddq_f32(sum[j], vreinterpretq_f32_u32(kept));
            vst1q_f32(s + i + 4 * j, vreinterpretq_f32_u32(kept));
        }
    }
    *l = v_tree((v16){sum[0], sum[1], sum[2], sum[3]});
}

/* ---- e . v: one F chunk ---- */

/* Chain s: column s / n_wide, dims 16 * (s % n_wide) .. + 15. */
#define PV_BEGIN(s)                                                                                \
    const int x##s = s % n_wide * 16, c##s = s / n_wide;                                           \
    v16 a##s = v16_zero();
#define PV_STEP(s)                                                                                 \
    a##s = v16_fma1(a##s, v16_weight(v, at(i, hd) + (size_t)x##s, fmt), score[at(c##s, SLOTS) + (size_t)i]);
#define PV_END(s) put_16(o + at(c##s, hd) + x##s, a##s, f, c##s);

/* 16 dims of column c; f NULL: not merged. */
WK_INLINE void put_16(float *o, v16 v, const factors *f, int c) {
    if (f) {
        const v16 page = {vmulq_n_f32(v.a, f->page[c]), vmulq_n_f32(v.b, f->page[c]),
                          vmulq_n_f32(v.c, f->page[c]), vmulq_n_f32(v.d, f->page[c])};
        v = v16_fma1(page, v16_load(o), f->old[c]);
    }
    v16_store(o, v);
}

/* 4 / n_wide columns x 16 * n_wide dims. */
WK_INLINE void pv_tile(float *o, const float *score, const void *v, int hd, int lo, int hi,
                       const factors *f, ptrdiff_t ahead, int n_wide, int fmt) {
    FOR_4(PV_BEGIN)
    for (int i = lo; i < hi; i++) {
        for (int b = 0; b < 16 * n_wide * v_weight_bytes(fmt) && ahead; b += 64)
            fetch(v, at(i, hd) * (size_t)v_weight_bytes(fmt) + (size_t)b, ahead);
        FOR_4(PV_STEP)
    }
    FOR_4(PV_END)
}

/* 16 dims of column c. */
WK_INLINE void pv_16(float *o, const float *score, const void *v, int hd, int lo, int hi, const factors *f,
                     int c, int fmt) {
    v16 a = v16_zero();
    for (int i = lo; i < hi; i++) a = v16_fma1(a, v16_weight(v, at(i, hd), fmt), score[i]);
    put_16(o, a, f, c);
}

WK_INLINE float value_at(const void *v, size_t i, int fmt) {
    if (fmt == WK_FMT_F16) return wk_f16_to_f32(((const wk_f16 *)v)[i]);
    if (fmt == WK_FMT_BF16) return wk_bf16_to_f32(((const wk_bf16 *)v)[i]);
    return ((const float *)v)[i];
}

WK_INLINE void pv_1(float *o, const float *score, const void *v, int hd, int lo, int hi, const factors *f,
                    int c, int fmt) {
    float a = 0.0f;
    for (int i = lo; i < hi; i++) a = fmaf(score[i], value_at(v, at(i, hd), fmt), a);
    *o = f ? fmaf(*o, f->old[c], a * f->page[c]) : a;
}

WK_INLINE void pv(float *o, const wk_attn_page *a, const group *g, const factors *f, int n_wide,
                  int fmt) {
    const int hd = a->hd, lo = g->lo, hi = g->hi;
    const uint8_t *v = a->v;
    const float *score = a->score + at(g->c, SLOTS);
    o += at(g->c, hd);
    int d = 0;
    for (; d + 16 * n_wide <= hd; d += 16 * n_wide) {
        pv_tile(o + d, score, v + at(d, v_weight_bytes(fmt)), hd, lo, hi, f, g->ahead, n_wide, fmt);
    }
    for (int c = 0; c < g->n; c++) {
        int e = d;
        for (; e + 16 <= hd; e += 16) {
            const uint8_t *ve = v + at(e, v_weight_bytes(fmt));
            pv_16(o + at(c, hd) + e, score + at(c, SLOTS), ve, hd, lo, hi, f, c, fmt);
        }
        for (; e < hd; e++) {
            const uint8_t *ve = v + at(e, v_weight_bytes(fmt));
            pv_1(o + at(c, hd) + e, score + at(c, SLOTS), ve, hd, lo, hi, f, c, fmt);
        }
    }
}

/* ---- the page ---- */

static void nothing_seen(wk_partial *out, const wk_attn_page *a, int c) {
    out->m[c] = WK_ATTN_M0;
    out->l[c] = 0.0f;
    memset(out->o + at(c, a->hd), 0, (size_t)a->hd * sizeof(float));
}

/* Merges m and l of a group's page into the running ones. */
static void join(wk_partial *out, factors *f, const group *g, const float *m, const float *l) {
    float x[8] = {0}, top[4];
    for (int i = 0; i < g->n; i++) {
        const float was = out->m[g->c + i];
        top[i] = m[i] > was ? m[i] : was;
        x[i] = was - top[i];
        x[4 + i] = m[i] - top[i];
    }
    vst1q_f32(f->old, v_exp(vld1q_f32(x)));
    vst1q_f32(f->page, v_exp(vld1q_f32(x + 4)));
    for (int i = 0; i < g->n; i++) {
        out->m[g->c + i] = top[i];
        const float add = l[i] * f->page[i];
        out->l[g->c + i] = fmaf(out->l[g->c + i], f->old[i], add);
    }
}

/* wide: 4 / (columns of the group); has_qk: the products stand in score. */
WK_INLINE void page_group(wk_partial *out, const wk_attn_page *a, const group *g, int wide,
                          bool has_qk, int fmt) {
    float m[4], l[4];
    factors f;
    if (!has_qk) qk(a, g, wide, fmt);
    for (int i = 0; i < g->n; i++) softmax(&m[i], &l[i], a, g, g->c + i);
    if (a->merge) {
        join(out, &f, g, m, l);
    } else {
        memcpy(out->m + g->c, m, (size_t)g->n * sizeof(float));
        memcpy(out->l + g->c, l, (size_t)g->n * sizeof(float));
    }
    pv(out->o, a, g, a->merge ? &f : NULL, wide, fmt);
}

WK_INLINE void page(wk_partial *out, const wk_attn_page *a, bool has_qk, int fmt) {
    for (int c = 0; c < a->n_col;) {
        const group g = group_at(a, c);
        c += g.n;
        if (g.hi <= g.lo) {
            for (int i = g.c; i < c && !a->merge; i++) nothing_seen(out, a, i);
        } else if (g.n == 4) {
            page_group(out, a, &g, 1, has_qk, fmt);
        } else if (g.n == 2) {
            page_group(out, a, &g, 2, has_qk, fmt);
        } else {
            page_group(out, a, &g, 4, has_qk, fmt);
        }
    }
}

static void page_f16(wk_partial *out, const wk_attn_page *a) { page(out, a, false, WK_FMT_F16); }
static void page_bf16(wk_partial *out, const wk_attn_page *a) { page(out, a, false, WK_FMT_BF16); }
static void page_f32(wk_partial *out, const wk_attn_page *a) { page(out, a, false, WK_FMT_F32); }

/* Values of the slots that some column sees, into a->wide. */
static void decode_v(const wk_attn_page *a) {
    const int n_block = a->hd / 32;
    const wk_f16 *d = a->v;
    const int8_t *q = (const int8_t *)a->v + at(SLOTS, n_block) * sizeof(*d);
    int lo = SLOTS, hi = 0;
    for (int c = 0; c < a->n_col; c++) {
        if (a->hi[c] <= a->lo[c]) continue;
        lo = a->lo[c] < lo ? a->lo[c] : lo;
        hi = a->hi[c] > hi ? a->hi[c] : hi;
    }
    if (hi <= lo) return;
    d += at(lo, n_block);
    q += at(lo, a->hd);
    float *y = a->wide + at(lo, a->hd);
    for (int i = lo; i < hi; i++, d += n_block)
        for (int b = 0; b < n_block; b++, q += 32, y += 32) {
            const size_t part = 68, next = (at(i, n_block) + (size_t)b) * part; /* of K and V together */
            if (a->ahead) {
                fetch(a->k, next, a->ahead);
                fetch(a->k, next + 64, a->ahead);
            }
            for (int j = 0; j < 32; j += 16) {
                const float32x4_t k = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(d[b])));
                v16_store(y + j, v16_mul(v16_s8(vld1q_s8(q + j)), (v16){k, k, k, k}));
            }
        }
}

static void page_q8_0(wk_partial *out, const wk_attn_page *a) {
    wk_attn_page b = *a;
    b.v = a->wide;
    b.ahead = 0; /* of another place */
    decode_v(a);
    page(out, &b, true, WK_FMT_F32);
}

void wk_attn_page_neon(wk_partial *out, const wk_attn_page *a) {
    static void (*const of[WK_KV_TYPE_COUNT])(wk_partial *, const wk_attn_page *) = {
        [WK_KV_F16] = page_f16, [WK_KV_F32] = page_f32, [WK_KV_BF16] = page_bf16, [WK_KV_Q8_0] = page_q8_0};
    of[a->type](out, a);
}

/* ---- merge ---- */

static float exp_1(float x) { return vgetq_lane_f32(v_exp(vdupq_n_f32(x)), 0); }

static void merge_values(float *o, const float *p, float a, float b, int hd) {
    int d = 0;
    for (; d + 4 <= hd; d += 4) {
        vst1q_f32(o + d, vfmaq_n_f32(vmulq_n_f32(vld1q_f32(p + d), b), vld1q_f32(o + d), a));
    }
    for (; d < hd; d++) {
        const float add = p[d] * b;
        o[d] = fmaf(o[d], a, add);
    }
}

void wk_attn_merge_neon(wk_partial *acc, const wk_partial *p, int n_col, int hd) {
    for (int c = 0; c < n_col; c++) {
        const float max = p->m[c] > acc->m[c] ? p->m[c] : acc->m[c];
        const float a = exp_1(acc->m[c] - max), b = exp_1(p->m[c] - max), add = p->l[c] * b;
        acc->m[c] = max;
        acc->l[c] = fmaf(acc->l[c], a, add);
        merge_values(acc->o + at(c, hd), p->o + at(c, hd), a, b, hd);
    }
}

void wk_attn_finish_neon(float *dst, size_t ld, const wk_partial *acc, int n_col, int hd) {
    for (int c = 0; c < n_col; c++) {
        const float inv = 1.0f / acc->l[c], *o = acc->o + at(c, hd);
        float *y = dst + (size_t)c * ld;
        int d = 0;
        for (; d + 4 <= hd; d += 4) vst1q_f32(y + d, vmulq_n_f32(vld1q_f32(o + d), inv));
        for (; d < hd; d++) y[d] = o[d] * inv;
    }
}

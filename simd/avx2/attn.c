/* attn.c: attention over one KV page, the merge of pages, the last division.
 *
 * Both products keep eight FMA chains in flight whatever the number of columns: QK takes 1, 2 or 4
 * columns x 4, 2 or 1 panels of 16 positions, PV takes 1, 2 or 4 columns x 64, 32 or 16 dims. A group of
 * columns runs over the union of what its columns see; a slot that a column does not see has e = +0. */
#include <math.h>

#include "simd/avx2/avx2.h"
#include "simd/avx2/vec.h"

enum { SLOTS = WK_KV_SLOTS, CHUNK = 64 };

/* Columns c .. c + n - 1 of a page and the slots that any of them sees. */
typedef struct group {
    int c, n, lo, hi;
} group;

WK_INLINE size_t at(int row, int width) { return (size_t)row * (size_t)width; }

/* Largest group of 4, 2 or 1 columns from c on. */
static group group_at(const wk_attn_page *a, int c) {
    const int left = a->n_col - c;
    group g = {c, left >= 4 ? 4 : left >= 2 ? 2 : 1, SLOTS, 0};
    for (int i = c; i < c + g.n; i++) {
        if (a->hi[i] <= a->lo[i]) continue;
        if (a->lo[i] < g.lo) g.lo = a->lo[i];
        if (a->hi[i] > g.hi) g.hi = a->hi[i];
    }
    return g;
}

/* ---- q . k, kind F ---- */

/* Chain (j, i): column j, panel i. Eight chains of two registers' halves: 4 pairs (lo, hi). */
#define FOR_4(X) X(0) X(1) X(2) X(3)
#define QK_BEGIN(s)                                                                                \
    const int p##s = s % n_panel, c##s = s / n_panel;                                              \
    __m256 lo##s = _mm256_setzero_ps(), hi##s = lo##s;
#define QK_STEP(s)                                                                                 \
    {                                                                                              \
        const __m256 v = _mm256_broadcast_ss(q + at(c##s, hd) + d);                                \
        const size_t i = at(p##s, 16 * hd) + 16 * (size_t)d;                                       \
        lo##s = _mm256_fmadd_ps(v_weight(k, i, fmt), v, lo##s);                                    \
        hi##s = _mm256_fmadd_ps(v_weight(k, i + 8, fmt), v, hi##s);                                \
    }
#define QK_END(s)                                                                                  \
    {                                                                                              \
        float *o = score + at(c##s, SLOTS) + 16 * p##s;                                            \
        _mm256_storeu_ps(o, _mm256_add_ps(_mm256_loadu_ps(o), lo##s));                             \
        _mm256_storeu_ps(o + 8, _mm256_add_ps(_mm256_loadu_ps(o + 8), hi##s));                     \
    }

/* Adds dims d0 .. d1-1 of n_panel panels to the scores of 4 / n_panel columns. */
WK_INLINE void qk_chunk(float *score, const void *k, const float *q, int hd, int d0, int d1,
                        int n_panel, int fmt) {
    FOR_4(QK_BEGIN)
    for (int d = d0; d < d1; d++) {
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
        for (int c = 0; c < g->n; c++)
            memset(score + at(c, SLOTS), 0, sizeof(float) * 16 * (size_t)n_panel);
        for (int d = 0; d < hd; d += CHUNK) {
            const int end = hd - d < CHUNK ? hd : d + CHUNK;
            qk_chunk(score, k, a->q + at(g->c, hd), hd, d, end, n_panel, fmt);
        }
    }
}

/* ---- softmax of one column ---- */

WK_INLINE __m256 final_score(const wk_attn_page *a, __m256 s) {
    s = _mm256_mul_ps(s, _mm256_set1_ps(a->scale));
    if (!(a->softcap > 0.0f)) return s;
    const __m256 t = v_tanh(_mm256_mul_ps(s, _mm256_set1_ps(a->softcap_inv)));
    return _mm256_mul_ps(_mm256_set1_ps(a->softcap), t);
}

/* Lanes of slots i .. i+7 that lie in lo .. hi-1. */
WK_INLINE __m256 seen(int i, int lo, int hi) {
    const __m256i from = v_mask(lo - i), to = v_mask(hi - i);
    return _mm256_castsi256_ps(_mm256_andnot_si256(from, to));
}

/* s > m ? s : m skips NaN, as max_ps(s, m) does. */
static float largest(__m256 m8) {
    float lane[8], m;
    _mm256_storeu_ps(lane, m8);
    m = lane[0];
    for (int i = 1; i < 8; i++) m = lane[i] > m ? lane[i] : m;
    return m;
}

/* Turns the scores of slots 16*(lo/16) .. into e; slots not seen into +0. */
static void softmax(float *m, float *l, const wk_attn_page *a, const group *g, int c) {
    float *s = a->score + at(c, SLOTS);
    const int lo = a->lo[c], hi = a->hi[c], from = g->lo / 16 * 16, to = (g->hi + 15) / 16 * 16;
    const __m256 none = _mm256_set1_ps(WK_ATTN_M0);
    __m256 max = none;
    for (int i = from; i < to; i += 8) {
        const __m256 v = final_score(a, _mm256_loadu_ps(s + i));
        max = _mm256_max_ps(_mm256_blendv_ps(none, v, seen(i, lo, hi)), max);
        _mm256_storeu_ps(s + i, v);
    }
    *m = largest(max);
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = from; i < to; i += 8) {
        const __m256 e = v_exp(_mm256_sub_ps(_mm256_loadu_ps(s + i), _mm256_set1_ps(*m)));
        const __m256 kept = _mm256_and_ps(e, seen(i, lo, hi));
        sum[i / 8 % 2] = _mm256_add_ps(sum[i / 8 % 2], kept);
        _mm256_storeu_ps(s + i, kept);
    }
    *l = v_tree(sum[0], sum[1]);
}

/* ---- e . v: one F chunk ---- */

/* Chain s: column s / n_wide, dims 16 * (s % n_wide) .. + 15. */
#define PV_BEGIN(s)                                                                                \
    const int x##s = s % n_wide * 16, c##s = s / n_wide;                                           \
    __m256 lo##s = _mm256_setzero_ps(), hi##s = lo##s;
#define PV_STEP(s)                                                                                 \
    {                                                                                              \
        const __m256 e = _mm256_broadcast_ss(score + at(c##s, SLOTS) + i);                         \
        lo##s = _mm256_fmadd_ps(e, v_weight(v, at(i, hd) + (size_t)x##s, fmt), lo##s);             \
        hi##s = _mm256_fmadd_ps(e, v_weight(v, at(i, hd) + (size_t)x##s + 8, fmt), hi##s);         \
    }
#define PV_END(s)                                                                                  \
    _mm256_storeu_ps(o + at(c##s, hd) + x##s, lo##s);                                              \
    _mm256_storeu_ps(o + at(c##s, hd) + x##s + 8, hi##s);

/* 4 / n_wide columns x 16 * n_wide dims. */
WK_INLINE void pv_tile(float *o, const float *score, const void *v, int hd, int lo, int hi,
                       int n_wide, int fmt) {
    FOR_4(PV_BEGIN)
    for (int i = lo; i < hi; i++) {
        FOR_4(PV_STEP)
    }
    FOR_4(PV_END)
}

/* 16 dims of one column. */
WK_INLINE void pv_16(float *o, const float *score, const void *v, int hd, int lo, int hi, int fmt) {
    __m256 a = _mm256_setzero_ps(), b = a;
    for (int i = lo; i < hi; i++) {
        const __m256 e = _mm256_broadcast_ss(score + i);
        a = _mm256_fmadd_ps(e, v_weight(v, at(i, hd), fmt), a);
        b = _mm256_fmadd_ps(e, v_weight(v, at(i, hd) + 8, fmt), b);
    }
    _mm256_storeu_ps(o, a);
    _mm256_storeu_ps(o + 8, b);
}

WK_INLINE float value_at(const void *v, size_t i, int fmt) {
    if (fmt == WK_FMT_F16) return wk_f16_to_f32(((const wk_f16 *)v)[i]);
    if (fmt == WK_FMT_BF16) return wk_bf16_to_f32(((const wk_bf16 *)v)[i]);
    return ((const float *)v)[i];
}

WK_INLINE void pv_1(float *o, const float *score, const void *v, int hd, int lo, int hi, int fmt) {
    float a = 0.0f;
    for (int i = lo; i < hi; i++) a = fmaf(score[i], value_at(v, at(i, hd), fmt), a);
    *o = a;
}

WK_INLINE void pv(float *o, const wk_attn_page *a, const group *g, int n_wide, int fmt) {
    const int hd = a->hd, lo = g->lo, hi = g->hi;
    const uint8_t *v = a->v;
    const float *score = a->score + at(g->c, SLOTS);
    o += at(g->c, hd);
    int d = 0;
    for (; d + 16 * n_wide <= hd; d += 16 * n_wide) {
        pv_tile(o + d, score, v + at(d, v_weight_bytes(fmt)), hd, lo, hi, n_wide, fmt);
    }
    for (int c = 0; c < g->n; c++) {
        int e = d;
        for (; e + 16 <= hd; e += 16) {
            const uint8_t *ve = v + at(e, v_weight_bytes(fmt));
            pv_16(o + at(c, hd) + e, score + at(c, SLOTS), ve, hd, lo, hi, fmt);
        }
        for (; e < hd; e++) {
            const uint8_t *ve = v + at(e, v_weight_bytes(fmt));
            pv_1(o + at(c, hd) + e, score + at(c, SLOTS), ve, hd, lo, hi, fmt);
        }
    }
}

/* ---- the page ---- */

static void nothing_seen(wk_partial *out, const wk_attn_page *a, int c) {
    out->m[c] = WK_ATTN_M0;
    out->l[c] = 0.0f;
    memset(out->o + at(c, a->hd), 0, (size_t)a->hd * sizeof(float));
}

/* wide: 4 / (columns of the group). */
WK_INLINE void page_group(wk_partial *out, const wk_attn_page *a, const group *g, int wide,
                          int fmt) {
    qk(a, g, wide, fmt);
    for (int c = g->c; c < g->c + g->n; c++) softmax(&out->m[c], &out->l[c], a, g, c);
    pv(out->o, a, g, wide, fmt);
}

WK_INLINE void page(wk_partial *out, const wk_attn_page *a, int fmt) {
    for (int c = 0; c < a->n_col;) {
        const group g = group_at(a, c);
        c += g.n;
        if (g.hi <= g.lo) {
            for (int i = g.c; i < c; i++) nothing_seen(out, a, i);
        } else if (g.n == 4) {
            page_group(out, a, &g, 1, fmt);
        } else if (g.n == 2) {
            page_group(out, a, &g, 2, fmt);
        } else {
            page_group(out, a, &g, 4, fmt);
        }
    }
}

static void page_f16(wk_partial *out, const wk_attn_page *a) { page(out, a, WK_FMT_F16); }
static void page_bf16(wk_partial *out, const wk_attn_page *a) { page(out, a, WK_FMT_BF16); }
static void page_f32(wk_partial *out, const wk_attn_page *a) { page(out, a, WK_FMT_F32); }

void wk_attn_page_avx2(wk_partial *out, const wk_attn_page *a) {
    if (a->type == WK_KV_F16)
        page_f16(out, a);
    else if (a->type == WK_KV_BF16)
        page_bf16(out, a);
    else
        page_f32(out, a);
}

/* ---- merge ---- */

static float exp_1(float x) { return _mm256_cvtss_f32(v_exp(_mm256_set1_ps(x))); }

static void merge_values(float *o, const float *p, float a, float b, int hd) {
    const __m256 a8 = _mm256_set1_ps(a), b8 = _mm256_set1_ps(b);
    int d = 0;
    for (; d + 8 <= hd; d += 8) {
        const __m256 add = _mm256_mul_ps(_mm256_loadu_ps(p + d), b8);
        _mm256_storeu_ps(o + d, _mm256_fmadd_ps(_mm256_loadu_ps(o + d), a8, add));
    }
    for (; d < hd; d++) {
        const float add = p[d] * b;
        o[d] = fmaf(o[d], a, add);
    }
}

void wk_attn_merge_avx2(wk_partial *acc, const wk_partial *p, int n_col, int hd) {
    for (int c = 0; c < n_col; c++) {
        const float max = p->m[c] > acc->m[c] ? p->m[c] : acc->m[c];
        const float a = exp_1(acc->m[c] - max), b = exp_1(p->m[c] - max), add = p->l[c] * b;
        acc->m[c] = max;
        acc->l[c] = fmaf(acc->l[c], a, add);
        merge_values(acc->o + at(c, hd), p->o + at(c, hd), a, b, hd);
    }
}

void wk_attn_finish_avx2(float *dst, size_t ld, const wk_partial *acc, int n_col, int hd) {
    for (int c = 0; c < n_col; c++) {
        const float inv = 1.0f / acc->l[c], *o = acc->o + at(c, hd);
        float *y = dst + (size_t)c * ld;
        const __m256 inv8 = _mm256_set1_ps(inv);
        int d = 0;
        for (; d + 8 <= hd; d += 8)
            _mm256_storeu_ps(y + d, _mm256_mul_ps(_mm256_loadu_ps(o + d), inv8));
        for (; d < hd; d++) y[d] = o[d] * inv;
    }
}

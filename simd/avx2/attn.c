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
    bool is_full;    /* every column sees all slots */
    ptrdiff_t ahead; /* the page's, for its first group alone */
} group;

/* What the running o and the page's o of each column are multiplied by where they are merged. */
typedef struct factors {
    float old[4], page[4];
} factors;

/* The same place of the next page, towards L2. */
WK_INLINE void fetch(const void *p, size_t off, ptrdiff_t ahead) {
    _mm_prefetch((const char *)((uintptr_t)p + off + (uintptr_t)ahead), _MM_HINT_T1);
}

WK_INLINE size_t at(int row, int width) { return (size_t)row * (size_t)width; }

/* Largest group of 4, 2 or 1 columns from c on. */
static group group_at(const wk_attn_page *a, int c) {
    const int left = a->n_col - c;
    group g = {c, left >= 4 ? 4 : left >= 2 ? 2 : 1, SLOTS, 0, true, c ? 0 : a->ahead};
    for (int i = c; i < c + g.n; i++) {
        g.is_full = g.is_full && a->lo[i] == 0 && a->hi[i] == SLOTS;
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
        for (int c = 0; c < g->n; c++)
            memset(score + at(c, SLOTS), 0, sizeof(float) * 16 * (size_t)n_panel);
        for (int d = 0; d < hd; d += CHUNK) {
            const int end = hd - d < CHUNK ? hd : d + CHUNK;
            qk_chunk(score, k, a->q + at(g->c, hd), hd, d, end, g->ahead, n_panel, fmt);
        }
    }
}

/* ---- softmax: the columns of a group side by side, so that one hides the latency of another ---- */

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

/* Four rows of 8 lanes to y[0..3]: h = 4, 2, 1 of DESIGN 9.4 for all at once. */
#define FOLD(OP, y, x)                                                                             \
    {                                                                                              \
        float lane[8];                                                                             \
        const __m256 ab = OP(_mm256_permute2f128_ps(x[0], x[1], 0x20),                             \
                             _mm256_permute2f128_ps(x[0], x[1], 0x31));                            \
        const __m256 cd = OP(_mm256_permute2f128_ps(x[2], x[3], 0x20),                             \
                             _mm256_permute2f128_ps(x[2], x[3], 0x31));                            \
        const __m256 two =                                                                         \
            OP(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));                  \
        _mm256_storeu_ps(lane, OP(two, _mm256_permute_ps(two, 0xb1)));                             \
        (y)[0] = lane[0], (y)[1] = lane[4], (y)[2] = lane[2], (y)[3] = lane[6];                    \
    }

/* Turns the scores of slots 16*(lo/16) .. of n columns into e; slots not seen into +0. is_full: none is.
 * max_ps(s, m) keeps m where s is NaN. */
WK_INLINE void softmax(float *m, float *l, const wk_attn_page *a, const group *g, int n,
                       bool is_full) {
    float *score = a->score + at(g->c, SLOTS);
    const int from = g->lo / 16 * 16, to = (g->hi + 15) / 16 * 16;
    const __m256 none = _mm256_set1_ps(WK_ATTN_M0), zero = _mm256_setzero_ps();
    __m256 max[4] = {none, none, none, none}, sum[4];
    __m256 even[4] = {zero, zero, zero, zero}, odd[4] = {zero, zero, zero, zero};
    for (int i = from; i < to; i += 8)
        for (int j = 0; j < n; j++) {
            float *s = score + at(j, SLOTS) + i;
            const __m256 v = final_score(a, _mm256_loadu_ps(s));
            const __m256 mask = is_full ? v : seen(i, a->lo[g->c + j], a->hi[g->c + j]);
            max[j] = _mm256_max_ps(is_full ? v : _mm256_blendv_ps(none, v, mask), max[j]);
            _mm256_storeu_ps(s, v);
        }
    FOLD(_mm256_max_ps, m, max)
    for (int i = from; i < to; i += 16)
        for (int h = 0; h < 2; h++)
            for (int j = 0; j < n; j++) {
                float *s = score + at(j, SLOTS) + i + 8 * h;
                __m256 e = v_exp_down(_mm256_sub_ps(_mm256_loadu_ps(s), _mm256_broadcast_ss(m + j)));
                if (!is_full)
                    e = _mm256_and_ps(e, seen(i + 8 * h, a->lo[g->c + j], a->hi[g->c + j]));
                if (h)
                    odd[j] = _mm256_add_ps(odd[j], e);
                else
                    even[j] = _mm256_add_ps(even[j], e);
                _mm256_storeu_ps(s, e);
            }
    for (int j = 0; j < 4; j++) sum[j] = _mm256_add_ps(even[j], odd[j]);
    FOLD(_mm256_add_ps, l, sum)
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
#define PV_END(s) put_16(o + at(c##s, hd) + x##s, lo##s, hi##s, f, c##s);

/* 16 dims of column c; f NULL: not merged. */
WK_INLINE void put_16(float *o, __m256 lo, __m256 hi, const factors *f, int c) {
    if (f) {
        const __m256 old = _mm256_set1_ps(f->old[c]), page = _mm256_set1_ps(f->page[c]);
        lo = _mm256_fmadd_ps(_mm256_loadu_ps(o), old, _mm256_mul_ps(lo, page));
        hi = _mm256_fmadd_ps(_mm256_loadu_ps(o + 8), old, _mm256_mul_ps(hi, page));
    }
    _mm256_storeu_ps(o, lo);
    _mm256_storeu_ps(o + 8, hi);
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
WK_INLINE void pv_16(float *o, const float *score, const void *v, int hd, int lo, int hi,
                     const factors *f, int c, int fmt) {
    __m256 a = _mm256_setzero_ps(), b = a;
    for (int i = lo; i < hi; i++) {
        const __m256 e = _mm256_broadcast_ss(score + i);
        a = _mm256_fmadd_ps(e, v_weight(v, at(i, hd), fmt), a);
        b = _mm256_fmadd_ps(e, v_weight(v, at(i, hd) + 8, fmt), b);
    }
    put_16(o, a, b, f, c);
}

WK_INLINE float value_at(const void *v, size_t i, int fmt) {
    if (fmt == WK_FMT_F16) return wk_f16_to_f32(((const wk_f16 *)v)[i]);
    if (fmt == WK_FMT_BF16) return wk_bf16_to_f32(((const wk_bf16 *)v)[i]);
    return ((const float *)v)[i];
}

WK_INLINE void pv_1(float *o, const float *score, const void *v, int hd, int lo, int hi,
                    const factors *f, int c, int fmt) {
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
    _mm256_storeu_ps(f->old, v_exp(_mm256_loadu_ps(x)));
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
    if (g->is_full)
        softmax(m, l, a, g, 4 / wide, true);
    else
        softmax(m, l, a, g, 4 / wide, false);
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
            const __m256 d8 = _mm256_set1_ps(_cvtsh_ss(d[b]));
            for (int j = 0; j < 32; j += 8)
                _mm256_storeu_ps(y + j, _mm256_mul_ps(v_s8(q + j), d8));
        }
}

static void page_q8_0(wk_partial *out, const wk_attn_page *a) {
    wk_attn_page b = *a;
    b.v = a->wide;
    b.ahead = 0; /* of another place */
    decode_v(a);
    page(out, &b, true, WK_FMT_F32);
}

void wk_attn_page_avx2(wk_partial *out, const wk_attn_page *a) {
    static void (*const of[WK_KV_TYPE_COUNT])(wk_partial *, const wk_attn_page *) = {
        [WK_KV_F16] = page_f16,
        [WK_KV_F32] = page_f32,
        [WK_KV_BF16] = page_bf16,
        [WK_KV_Q8_0] = page_q8_0};
    of[a->type](out, a);
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

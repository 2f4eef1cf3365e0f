/* attn.c: attention of a group of columns against one KV page (DESIGN 9.7).
 *
 * QK: positions in lanes, 4 or 2 panels x up to 6 columns; K is converted in registers and shared by the columns (from
 * f32 it is 2 % faster: not worth a copy). Softmax: the columns of a group side by side, so that the exps and the trees
 * of one hide the latency of the other. PV: dims in lanes, 4 vectors x up to 6 columns, or 8 x up to 3; a page is
 * merged into the running result as it leaves the registers. */
#include "simd/avx512/avx512.h"
#include "simd/avx512/vec512.h"

enum { COLS = 6, SLOTS = WK_KV_SLOTS };

/* Columns c .. c + m - 1 and the slots that any of them sees. */
typedef struct group {
    int c, i0, i1;
    ptrdiff_t ahead; /* the page's, for its first group alone */
} group;
/* What the running o and the page's o of each column are multiplied by. */
typedef struct factors {
    WK_ALIGNED(64) float old[16];
    WK_ALIGNED(64) float page[16];
} factors;

WK_INLINE __m512 load_kv(const void *p, size_t i, __mmask16 mask, const wk_kv type) {
    if (type == WK_KV_F32) return _mm512_maskz_loadu_ps(mask, (const float *)p + i);
    const __m256i h = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)p + i);
    return type == WK_KV_F16 ? _mm512_cvtph_ps(h) : wk_widen_bf16(h);
}
WK_INLINE size_t elem(const wk_kv type) {
    return type == WK_KV_F32 ? 4 : 2;
}
/* The same place of the next page, towards L2. */
WK_INLINE void fetch(const void *p, size_t at, ptrdiff_t ahead) {
    _mm_prefetch((const char *)((uintptr_t)p + at + (uintptr_t)ahead), _MM_HINT_T1);
}

/* score[c][16*p0 ..] = (q_c . k_i by kind F) * scale for np panels. */
WK_INLINE void qk(const wk_attn_page *a, const group *g, const int m, const wk_kv type, int p0,
                  const int np) {
    const size_t hd = (size_t)a->hd, panel = hd * WK_PANEL;
    const uint8_t *k = (const uint8_t *)a->k + (size_t)p0 * panel * elem(type);
    const float *q = a->q + (size_t)g->c * hd;
    const __m512 scale = _mm512_set1_ps(a->scale);
    float *score = a->score + (size_t)g->c * SLOTS + 16 * p0;
    for (size_t d0 = 0; d0 < hd; d0 += 64) {
        const size_t d1 = hd - d0 < 64 ? hd : d0 + 64;
        __m512 c[4][COLS];
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            WK_UNROLL
            for (int i = 0; i < np; i++) c[i][j] = _mm512_setzero_ps();
        }
        for (size_t d = d0; d < d1; d++) {
            __m512 w[4];
            WK_UNROLL
            for (int i = 0; i < np; i++) {
                w[i] = load_kv(k, (size_t)i * panel + d * WK_PANEL, 0xffff, type);
            }
            if (g->ahead && (type == WK_KV_F32 || d % 2 == 0)) { /* a line at a time */
                WK_UNROLL
                for (int i = 0; i < np; i++)
                    fetch(k, ((size_t)i * panel + d * WK_PANEL) * elem(type), g->ahead);
            }
            WK_UNROLL
            for (int j = 0; j < m; j++) {
                const __m512 v = _mm512_set1_ps(q[(size_t)j * hd + d]);
                WK_UNROLL
                for (int i = 0; i < np; i++) c[i][j] = _mm512_fmadd_ps(w[i], v, c[i][j]);
            }
        }
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            WK_UNROLL
            for (int i = 0; i < np; i++) {
                float *s = score + j * SLOTS + 16 * i;
                __m512 x = d0 ? _mm512_add_ps(_mm512_loadu_ps(s), c[i][j]) : c[i][j];
                if (d1 == hd) x = _mm512_mul_ps(x, scale);
                _mm512_storeu_ps(s, x);
            }
        }
    }
}

/* ---- softmax --------------------------------------------------------------------------------------- */

/* Six rows of 16 lanes to their sums or maxima in lanes 0 .. 5: h = 8, 4, 2, 1 of DESIGN 9.4 for all at once. */
#define FOLD(OP, y, x)                                                                             \
    {                                                                                              \
        const __m512 ab = OP(_mm512_shuffle_f32x4(x[0], x[1], 0x44),                               \
                             _mm512_shuffle_f32x4(x[0], x[1], 0xee));                              \
        const __m512 cd = OP(_mm512_shuffle_f32x4(x[2], x[3], 0x44),                               \
                             _mm512_shuffle_f32x4(x[2], x[3], 0xee));                              \
        const __m512 ef = OP(_mm512_shuffle_f32x4(x[4], x[5], 0x44),                               \
                             _mm512_shuffle_f32x4(x[4], x[5], 0xee));                              \
        const __m512 abcd =                                                                        \
            OP(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));            \
        const __m512 efef =                                                                        \
            OP(_mm512_shuffle_f32x4(ef, ef, 0x88), _mm512_shuffle_f32x4(ef, ef, 0xdd));            \
        const __m512 two =                                                                         \
            OP(_mm512_shuffle_ps(abcd, efef, 0x44), _mm512_shuffle_ps(abcd, efef, 0xee));          \
        const __m512 one = OP(two, _mm512_permute_ps(two, 0xb1));                                  \
        y = _mm512_permutexvar_ps(                                                                 \
            _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), one);              \
    }

/* Slots that column c sees, one bit each. */
WK_INLINE uint64_t seen(const wk_attn_page *a, int c) {
    const unsigned lo = a->lo[c], hi = a->hi[c];
    return hi <= lo ? 0 : (~0ull >> (64 - hi)) & (~0ull << lo);
}

/* Maxima of m columns; the scores are scaled and capped first where that is still to be done. */
WK_INLINE __m512 maxima(const wk_attn_page *a, const group *g, const int m, const bool is_scaled) {
    const __m512 scale = _mm512_set1_ps(a->scale), cap = _mm512_set1_ps(a->softcap),
                 cap_inv = _mm512_set1_ps(a->softcap_inv);
    const bool capped = a->softcap > 0.0f;
    float *score = a->score + (size_t)g->c * SLOTS;
    __m512 max[COLS], y;
    WK_UNROLL
    for (int j = 0; j < COLS; j++) max[j] = _mm512_set1_ps(WK_ATTN_M0);
    for (int i = g->i0 & ~15; i < g->i1; i += 16) {
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            float *p = score + j * SLOTS + i;
            __m512 s = _mm512_loadu_ps(p);
            if (!is_scaled) s = _mm512_mul_ps(s, scale);
            if (capped) s = _mm512_mul_ps(cap, wk_tanh512(_mm512_mul_ps(s, cap_inv)));
            if (!is_scaled || capped) _mm512_storeu_ps(p, s);
            /* a NaN in s leaves the maximum as it is */
            max[j] = _mm512_mask_max_ps(max[j], (__mmask16)(seen(a, g->c + j) >> i), s, max[j]);
        }
    }
    FOLD(_mm512_max_ps, y, max)
    return y;
}

/* Scores to weights e_i; their sums. */
WK_INLINE __m512 weights(const wk_attn_page *a, const group *g, const int m, __m512 max) {
    WK_ALIGNED(64) float of[16];
    _mm512_store_ps(of, max);
    float *score = a->score + (size_t)g->c * SLOTS;
    __m512 sum[COLS], y;
    WK_UNROLL
    for (int j = 0; j < COLS; j++) sum[j] = _mm512_setzero_ps();
    for (int i = g->i0 & ~15; i < g->i1; i += 16) {
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            float *p = score + j * SLOTS + i;
            const __mmask16 mask = (__mmask16)(seen(a, g->c + j) >> i);
            const __m512 e =
                wk_exp512_masked(mask, _mm512_sub_ps(_mm512_loadu_ps(p), _mm512_set1_ps(of[j])));
            sum[j] = _mm512_add_ps(sum[j], e);
            _mm512_storeu_ps(p, e);
        }
    }
    FOLD(_mm512_add_ps, y, sum)
    return y;
}

/* Merges m and l of a page into the running ones (lanes are columns). */
WK_INLINE void join(float *m, float *l, factors *f, __mmask16 lanes, __m512 page_m, __m512 page_l) {
    const __m512 was = _mm512_maskz_loadu_ps(lanes, m), l_was = _mm512_maskz_loadu_ps(lanes, l);
    const __mmask16 higher = _mm512_cmp_ps_mask(page_m, was, _CMP_GT_OQ);
    const __m512 top = _mm512_mask_mov_ps(was, higher, page_m);
    const __m512 old = wk_exp512_masked(0xffff, _mm512_sub_ps(was, top)),
                 page = wk_exp512_masked(0xffff, _mm512_sub_ps(page_m, top));
    _mm512_mask_storeu_ps(m, lanes, top);
    _mm512_mask_storeu_ps(l, lanes, _mm512_fmadd_ps(l_was, old, _mm512_mul_ps(page_l, page)));
    _mm512_store_ps(f->old, old);
    _mm512_store_ps(f->page, page);
}

/* ---- e . v ----------------------------------------------------------------------------------------- */

/* 16 values of a Q8_0 row. */
WK_INLINE __m512 decode_q8(const int8_t *code, __m512 scale) {
    const __m128i c = _mm_loadu_si128((const __m128i *)code);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(c)), scale);
}
WK_INLINE const int8_t *codes_of(const wk_attn_page *a) {
    return (const int8_t *)a->v + (size_t)a->hd * (SLOTS / 32 * sizeof(wk_f16));
}

/* Dims d .. d + 15 of slot i. Q8_0: the scales stand in a->wide. */
WK_INLINE __m512 load_v(const wk_attn_page *a, const void *v, size_t i, size_t d, __mmask16 mask,
                        const wk_kv type) {
    const size_t at = i * (size_t)a->hd + d;
    if (type != WK_KV_Q8_0) return load_kv(v, at, mask, type);
    return decode_q8(codes_of(a) + at, _mm512_set1_ps(a->wide[at / 32]));
}

/* Row i of the page that comes next, nv vectors from d0 on; Q8_0: as large a part of K and V together, as its K is
 * not read here. */
WK_INLINE void fetch_v(const wk_attn_page *a, const void *v, size_t i, size_t d0, const int nv,
                       ptrdiff_t ahead, const wk_kv type) {
    if (type == WK_KV_Q8_0) {
        const size_t part = 34, at = d0 / 16 * part * SLOTS + i * part * (size_t)nv; /* 2 x 17 bytes */
        WK_UNROLL
        for (int b = 0; b < 34 * nv; b += 64) fetch(a->k, at + (size_t)b, ahead);
        return;
    }
    WK_UNROLL
    for (int b = 0; b < (int)elem(type) * 16 * nv; b += 64)
        fetch(v, (i * (size_t)a->hd + d0) * elem(type) + (size_t)b, ahead);
}

/* o[c][d0 ..] over the slots of g; nv vectors of dims, the last one under mask; f: merged into o. */
WK_INLINE void pv(float *o, const wk_attn_page *a, const void *v, const group *g, const int m,
                  size_t d0, const int nv, __mmask16 mask, const factors *f, const wk_kv type) {
    const size_t hd = (size_t)a->hd;
    const float *e = a->score + (size_t)g->c * SLOTS;
    __m512 c[8][COLS];
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        WK_UNROLL
        for (int n = 0; n < nv; n++) c[n][j] = _mm512_setzero_ps();
    }
    for (int i = g->i0; i < g->i1; i++) {
        __m512 w[8];
        WK_UNROLL
        for (int n = 0; n < nv; n++) {
            const size_t d = d0 + 16 * (size_t)n;
            w[n] = load_v(a, v, (size_t)i, d, nv == 1 ? mask : 0xffff, type);
        }
        if (g->ahead) fetch_v(a, v, (size_t)i, d0, nv, g->ahead, type);
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            const __m512 p = _mm512_set1_ps(e[j * SLOTS + i]);
            WK_UNROLL
            for (int n = 0; n < nv; n++) c[n][j] = _mm512_fmadd_ps(p, w[n], c[n][j]);
        }
    }
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        WK_UNROLL
        for (int n = 0; n < nv; n++) {
            float *y = o + (size_t)(g->c + j) * hd + d0 + 16 * (size_t)n;
            const __mmask16 k = nv == 1 ? mask : 0xffff;
            __m512 x = c[n][j];
            if (f)
                x = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(k, y), _mm512_set1_ps(f->old[j]),
                                    _mm512_mul_ps(x, _mm512_set1_ps(f->page[j])));
            _mm512_mask_storeu_ps(y, k, x);
        }
    }
}

/* ---- a group of columns ---------------------------------------------------------------------------- */

static WK_NOINLINE void nothing_seen(wk_partial *out, const wk_attn_page *a, int c0, int m) {
    if (a->merge) return;
    for (int c = c0; c < c0 + m; c++) {
        out->m[c] = WK_ATTN_M0;
        out->l[c] = 0.0f;
    }
    memset(out->o + (size_t)c0 * (size_t)a->hd, 0, (size_t)m * (size_t)a->hd * sizeof(float));
}

/* m columns from c0 on. kt: type of K, Q8_0: the products stand in score; vt: type of v. */
WK_INLINE void run_group(wk_partial *out, const wk_attn_page *a, const void *v, int c0, const int m,
                         const wk_kv kt, const wk_kv vt) {
    group g = {c0, SLOTS, 0, c0 ? 0 : a->ahead};
    for (int c = c0; c < c0 + m; c++) {
        if (a->hi[c] <= a->lo[c]) continue;
        if (a->lo[c] < g.i0) g.i0 = a->lo[c];
        if (a->hi[c] > g.i1) g.i1 = a->hi[c];
    }
    if (g.i1 <= g.i0) {
        nothing_seen(out, a, c0, m);
        return;
    }
    if (kt != WK_KV_Q8_0) {
        if (g.i0 < 32 && g.i1 > 32)
            qk(a, &g, m, kt, 0, 4);
        else
            qk(a, &g, m, kt, g.i0 < 32 ? 0 : 2, 2);
    }
    const __mmask16 lanes = (__mmask16)((1 << m) - 1);
    const __m512 max = maxima(a, &g, m, kt != WK_KV_Q8_0), sum = weights(a, &g, m, max);
    factors mem, *f = NULL;
    if (a->merge) {
        f = &mem;
        join(out->m + c0, out->l + c0, f, lanes, max, sum);
    } else {
        _mm512_mask_storeu_ps(out->m + c0, lanes, max);
        _mm512_mask_storeu_ps(out->l + c0, lanes, sum);
    }
    const size_t hd = (size_t)a->hd;
    size_t d = 0;
    if (m <= 3)
        for (; d + 128 <= hd; d += 128) pv(out->o, a, v, &g, m, d, 8, 0xffff, f, vt);
    for (; d + 64 <= hd; d += 64) pv(out->o, a, v, &g, m, d, 4, 0xffff, f, vt);
    for (; d < hd; d += 16) {
        const __mmask16 mask = hd - d < 16 ? wk_lanes((int)(hd - d)) : 0xffff;
        pv(out->o, a, v, &g, m, d, 1, mask, f, vt);
    }
}

#define GROUP(M, NAME, KT, VT)                                                                     \
    static WK_NOINLINE void group_##NAME##_##M(wk_partial *out, const wk_attn_page *a,             \
                                               const void *v, int c0) {                            \
        run_group(out, a, v, c0, M, KT, VT);                                                       \
    }
#define GROUPS(NAME, KT, VT)                                                                       \
    GROUP(1, NAME, KT, VT)                                                                         \
    GROUP(2, NAME, KT, VT)                                                                         \
    GROUP(3, NAME, KT, VT)                                                                         \
    GROUP(4, NAME, KT, VT)                                                                         \
    GROUP(5, NAME, KT, VT)                                                                         \
    GROUP(6, NAME, KT, VT)
GROUPS(f16, WK_KV_F16, WK_KV_F16)
GROUPS(f32, WK_KV_F32, WK_KV_F32)
GROUPS(bf16, WK_KV_BF16, WK_KV_BF16)
GROUPS(q8, WK_KV_Q8_0, WK_KV_Q8_0)
GROUPS(q8_wide, WK_KV_Q8_0, WK_KV_F32)

typedef void (*group_fn)(wk_partial *, const wk_attn_page *, const void *, int);

#define ROW(NAME)                                                                                  \
    {group_##NAME##_1, group_##NAME##_2, group_##NAME##_3,                                         \
     group_##NAME##_4, group_##NAME##_5, group_##NAME##_6}

/* Scales of all slots as f32, into a->wide. */
static void widen_scales(const wk_attn_page *a) {
    const wk_f16 *d = a->v;
    for (size_t i = 0; i < (size_t)a->hd * (SLOTS / 32); i += 16)
        _mm512_storeu_ps(a->wide + i, wk_f16_512(d + i));
}

/* Values of the slots that some column sees as f32, into a->wide. */
static void widen_values(const wk_attn_page *a) {
    const wk_f16 *d = a->v;
    int lo = SLOTS, hi = 0;
    for (int c = 0; c < a->n_col; c++) {
        if (a->hi[c] <= a->lo[c]) continue;
        lo = a->lo[c] < lo ? a->lo[c] : lo;
        hi = a->hi[c] > hi ? a->hi[c] : hi;
    }
    const size_t from = (size_t)lo * (size_t)a->hd, to = (size_t)hi * (size_t)a->hd;
    for (size_t i = from; i < to; i += 32) {
        const __m512 scale = _mm512_set1_ps(_cvtsh_ss(d[i / 32]));
        _mm512_storeu_ps(a->wide + i, decode_q8(codes_of(a) + i, scale));
        _mm512_storeu_ps(a->wide + i + 16, decode_q8(codes_of(a) + i + 16, scale));
    }
}

void wk_attn_page_avx512(wk_partial *out, const wk_attn_page *a) {
    static const group_fn of_type[WK_KV_TYPE_COUNT][COLS] = {[WK_KV_F16] = ROW(f16),
                                                             [WK_KV_F32] = ROW(f32),
                                                             [WK_KV_BF16] = ROW(bf16),
                                                             [WK_KV_Q8_0] = ROW(q8)};
    static const group_fn wide[COLS] = ROW(q8_wide);
    const group_fn *groups = of_type[a->type];
    const void *v = a->v;
    if (a->type == WK_KV_Q8_0 && a->n_col > COLS) { /* several groups would decode V again and again */
        widen_values(a);
        groups = wide;
        v = a->wide;
    } else if (a->type == WK_KV_Q8_0) {
        widen_scales(a);
    }
    for (int c = 0; c < a->n_col;) { /* even groups: 8 columns are 4 + 4, not 6 + 2 */
        const int left = a->n_col - c, n = (left + COLS - 1) / COLS, m = (left + n - 1) / n;
        groups[m - 1](out, a, v, c);
        c += m;
    }
}

void wk_attn_merge_avx512(wk_partial *acc, const wk_partial *p, int n_col, int hd) {
    for (int c0 = 0; c0 < n_col; c0 += 16) {
        const int m = n_col - c0 < 16 ? n_col - c0 : 16;
        const __mmask16 lanes = wk_lanes(m);
        factors f;
        join(acc->m + c0, acc->l + c0, &f, lanes, _mm512_maskz_loadu_ps(lanes, p->m + c0),
             _mm512_maskz_loadu_ps(lanes, p->l + c0));
        for (int j = 0; j < m; j++) {
            const __m512 old = _mm512_set1_ps(f.old[j]), page = _mm512_set1_ps(f.page[j]);
            float *o = acc->o + (size_t)(c0 + j) * (size_t)hd;
            const float *n = p->o + (size_t)(c0 + j) * (size_t)hd;
            for (int d = 0; d < hd; d += 16) {
                const __mmask16 k = hd - d < 16 ? wk_lanes(hd - d) : 0xffff;
                const __m512 t = _mm512_mul_ps(_mm512_maskz_loadu_ps(k, n + d), page);
                _mm512_mask_storeu_ps(o + d, k,
                                      _mm512_fmadd_ps(_mm512_maskz_loadu_ps(k, o + d), old, t));
            }
        }
    }
}

void wk_attn_finish_avx512(float *dst, size_t ld, const wk_partial *acc, int n_col, int hd) {
    for (int c = 0; c < n_col; c++) {
        const __m512 r = _mm512_set1_ps(1.0f / acc->l[c]);
        const float *o = acc->o + (size_t)c * (size_t)hd;
        for (int d = 0; d < hd; d += 16) {
            const __mmask16 k = hd - d < 16 ? wk_lanes(hd - d) : 0xffff;
            _mm512_mask_storeu_ps(dst + (size_t)c * ld + d, k,
                                  _mm512_mul_ps(_mm512_maskz_loadu_ps(k, o + d), r));
        }
    }
}

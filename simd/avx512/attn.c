/* attn.c: attention of a group of columns against one KV page (DESIGN 9.7).
 * QK: positions in lanes, 4 vectors x up to 6 columns; K is converted in registers and shared by the columns.
 * PV: dims in lanes, 4 vectors x up to 6 columns, or 8 x up to 3 (more chains for one-column decode). */
#include "simd/avx512/avx512.h"
#include "simd/avx512/vec512.h"

enum { COLS = 6 };

WK_INLINE __m512 load_kv(const void *p, size_t i, __mmask16 mask, const wk_kv type) {
    if (type == WK_KV_F32) return _mm512_maskz_loadu_ps(mask, (const float *)p + i);
    const __m256i h = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)p + i);
    return type == WK_KV_F16 ? _mm512_cvtph_ps(h) : wk_widen_bf16(h);
}

/* score[c][0..63] = q_c . k_i by kind F. */
WK_INLINE void qk(const wk_attn_page *a, int c0, const int m, const wk_kv type) {
    const size_t hd = (size_t)a->hd, panel = hd * WK_PANEL;
    const float *q = a->q + (size_t)c0 * hd;
    float *score = a->score + (size_t)c0 * WK_KV_SLOTS;
    for (size_t d0 = 0; d0 < hd; d0 += 64) {
        const size_t d1 = hd - d0 < 64 ? hd : d0 + 64;
        __m512 c[4][COLS];
        WK_UNROLL
        for (int j = 0; j < m; j++)
            c[0][j] = c[1][j] = c[2][j] = c[3][j] = _mm512_setzero_ps();
        for (size_t d = d0; d < d1; d++) {
            __m512 k[4];
            WK_UNROLL
            for (int i = 0; i < 4; i++)
                k[i] = load_kv(a->k, (size_t)i * panel + d * WK_PANEL, 0xffff, type);
            WK_UNROLL
            for (int j = 0; j < m; j++) {
                const __m512 v = _mm512_set1_ps(q[(size_t)j * hd + d]);
                WK_UNROLL
                for (int i = 0; i < 4; i++) c[i][j] = _mm512_fmadd_ps(k[i], v, c[i][j]);
            }
        }
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            WK_UNROLL
            for (int i = 0; i < 4; i++) {
                float *s = score + j * WK_KV_SLOTS + 16 * i;
                _mm512_storeu_ps(s, d0 ? _mm512_add_ps(_mm512_loadu_ps(s), c[i][j]) : c[i][j]);
            }
        }
    }
}

/* Scores to weights e_i of one column; m and l of the page. */
static WK_NOINLINE void soften(const wk_attn_page *a, int c, float *m, float *l) {
    float *score = a->score + (size_t)c * WK_KV_SLOTS;
    const unsigned lo = a->lo[c], hi = a->hi[c];
    const __m512 scale = _mm512_set1_ps(a->scale);
    if (hi <= lo) {
        WK_UNROLL
        for (int i = 0; i < 4; i++) _mm512_storeu_ps(score + 16 * i, _mm512_setzero_ps());
        *m = WK_ATTN_M0;
        *l = 0.0f;
        return;
    }
    const uint64_t seen = (~0ull >> (64 - hi)) & (~0ull << lo);
    const __m512 low = _mm512_set1_ps(WK_ATTN_M0);
    __m512 s[4], max = low, sum = _mm512_setzero_ps();
    WK_UNROLL
    for (int i = 0; i < 4; i++) {
        s[i] = _mm512_mul_ps(_mm512_loadu_ps(score + 16 * i), scale);
        if (a->softcap > 0.0f) {
            const __m512 t = wk_tanh512(_mm512_mul_ps(s[i], _mm512_set1_ps(a->softcap_inv)));
            s[i] = _mm512_mul_ps(_mm512_set1_ps(a->softcap), t);
        }
        const __mmask16 mask = (__mmask16)(seen >> (16 * i));
        max = _mm512_max_ps(_mm512_mask_mov_ps(low, mask, s[i]), max);
    }
    *m = _mm512_reduce_max_ps(max);
    WK_UNROLL
    for (int i = 0; i < 4; i++) {
        const __mmask16 mask = (__mmask16)(seen >> (16 * i));
        const __m512 x = _mm512_sub_ps(s[i], _mm512_set1_ps(*m));
        const __m512 e = _mm512_maskz_mov_ps(mask, wk_exp512(x));
        sum = _mm512_add_ps(sum, e);
        _mm512_storeu_ps(score + 16 * i, e);
    }
    *l = wk_tree512(sum);
}

/* o[c][d0 ..] over positions i0 <= i < i1; nv vectors of dims, the last one under mask. */
WK_INLINE void pv(float *o, const wk_attn_page *a, int c0, const int m, size_t d0, const int nv,
                  __mmask16 mask, int i0, int i1, const wk_kv type) {
    const size_t hd = (size_t)a->hd;
    const float *e = a->score + (size_t)c0 * WK_KV_SLOTS;
    __m512 c[8][COLS];
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        WK_UNROLL
        for (int v = 0; v < nv; v++) c[v][j] = _mm512_setzero_ps();
    }
    for (int i = i0; i < i1; i++) {
        __m512 w[8];
        WK_UNROLL
        for (int v = 0; v < nv; v++)
            w[v] = load_kv(a->v, (size_t)i * hd + d0 + 16 * (size_t)v, nv == 1 ? mask : 0xffff,
                           type);
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            const __m512 p = _mm512_set1_ps(e[j * WK_KV_SLOTS + i]);
            WK_UNROLL
            for (int v = 0; v < nv; v++) c[v][j] = _mm512_fmadd_ps(p, w[v], c[v][j]);
        }
    }
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        WK_UNROLL
        for (int v = 0; v < nv; v++)
            _mm512_mask_storeu_ps(o + (size_t)(c0 + j) * hd + d0 + 16 * (size_t)v,
                                  nv == 1 ? mask : 0xffff, c[v][j]);
    }
}

/* m columns from c0 on. */
WK_INLINE void group(wk_partial *out, const wk_attn_page *a, int c0, const int m,
                     const wk_kv type) {
    qk(a, c0, m, type);
    int i0 = WK_KV_SLOTS, i1 = 0;
    for (int c = c0; c < c0 + m; c++) {
        soften(a, c, &out->m[c], &out->l[c]);
        if (a->hi[c] <= a->lo[c]) continue;
        if (a->lo[c] < i0) i0 = a->lo[c];
        if (a->hi[c] > i1) i1 = a->hi[c];
    }
    const size_t hd = (size_t)a->hd;
    size_t d = 0;
    if (m <= 3)
        for (; d + 128 <= hd; d += 128) pv(out->o, a, c0, m, d, 8, 0xffff, i0, i1, type);
    for (; d + 64 <= hd; d += 64) pv(out->o, a, c0, m, d, 4, 0xffff, i0, i1, type);
    for (; d < hd; d += 16) {
        const __mmask16 mask = hd - d < 16 ? wk_lanes((int)(hd - d)) : 0xffff;
        pv(out->o, a, c0, m, d, 1, mask, i0, i1, type);
    }
}

#define GROUP(M, NAME, TYPE)                                                                       \
    static WK_NOINLINE void group_##NAME##_##M(wk_partial *out, const wk_attn_page *a, int c0) {   \
        group(out, a, c0, M, TYPE);                                                                \
    }
#define GROUPS(NAME, TYPE)                                                                         \
    GROUP(1, NAME, TYPE)                                                                           \
    GROUP(2, NAME, TYPE)                                                                           \
    GROUP(3, NAME, TYPE)                                                                           \
    GROUP(4, NAME, TYPE)                                                                           \
    GROUP(5, NAME, TYPE)                                                                           \
    GROUP(6, NAME, TYPE)
GROUPS(f16, WK_KV_F16)
GROUPS(f32, WK_KV_F32)
GROUPS(bf16, WK_KV_BF16)

typedef void (*group_fn)(wk_partial *, const wk_attn_page *, int);

#define ROW(NAME)                                                                                  \
    {group_##NAME##_1, group_##NAME##_2, group_##NAME##_3,                                         \
     group_##NAME##_4, group_##NAME##_5, group_##NAME##_6}

void wk_attn_page_avx512(wk_partial *out, const wk_attn_page *a) {
    static const group_fn groups[WK_KV_TYPE_COUNT][COLS] = {
        [WK_KV_F16] = ROW(f16), [WK_KV_F32] = ROW(f32), [WK_KV_BF16] = ROW(bf16)};
    for (int c = 0; c < a->n_col;) { /* even groups: 8 columns are 4 + 4, not 6 + 2 */
        const int left = a->n_col - c, n = (left + COLS - 1) / COLS, m = (left + n - 1) / n;
        groups[a->type][m - 1](out, a, c);
        c += m;
    }
}

void wk_attn_merge_avx512(wk_partial *acc, const wk_partial *p, int n_col, int hd) {
    for (int c = 0; c < n_col; c++) {
        const float m = p->m[c] > acc->m[c] ? p->m[c] : acc->m[c];
        const __m128 x = _mm_setr_ps(acc->m[c] - m, p->m[c] - m, 0.0f, 0.0f);
        const __m128 e = _mm512_castps512_ps128(wk_exp512(_mm512_castps128_ps512(x)));
        const float a = _mm_cvtss_f32(e), b = _mm_cvtss_f32(_mm_movehdup_ps(e));
        acc->m[c] = m;
        const float lb = p->l[c] * b;
        const __m128 l = _mm_fmadd_ss(_mm_set_ss(acc->l[c]), _mm_set_ss(a), _mm_set_ss(lb));
        acc->l[c] = _mm_cvtss_f32(l);
        const __m512 av = _mm512_set1_ps(a), bv = _mm512_set1_ps(b);
        float *o = acc->o + (size_t)c * (size_t)hd;
        const float *n = p->o + (size_t)c * (size_t)hd;
        for (int d = 0; d < hd; d += 16) {
            const __mmask16 k = hd - d < 16 ? wk_lanes(hd - d) : 0xffff;
            const __m512 t = _mm512_mul_ps(_mm512_maskz_loadu_ps(k, n + d), bv);
            const __m512 y = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(k, o + d), av, t);
            _mm512_mask_storeu_ps(o + d, k, y);
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

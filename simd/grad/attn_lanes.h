/* attn_lanes.h: the gradient of attention over one page, written once over the vector of a level (its lanes.h) and
 * included once by each. Columns that see nothing are left out; what is left are runs of columns, and for a run:
 *
 *   scores   positions in lanes, G_DOT_VECS vectors x up to G_COLS columns, one pass over K and one over V;
 *            then p and ds of a column, +0 where it does not see. From here on a product with such a slot may be
 *            made or left out: fma(+0, x, y) = y.
 *   updates  dims in lanes, 4 rows x up to G_VECS vectors. dq: rows are columns, steps are slots. dv and dk: rows
 *            are slots, steps are columns. Dims are taken in blocks, so that what the steps read stays in L1.
 *
 * Measured on Zen 4, one thread, 48 columns that see all, of the f32 peak (117 GOP/s): avx512 0.88 with head dim 64,
 * 0.93 with 256; avx2 0.81 and 0.88 (with 4 columns and 2 vectors, eight chains, 0.54: the FMA latency shows). */
#include "simd/grad/fill.h"

enum { SLOTS = WK_KV_SLOTS, CHUNK = 64, SPAN = G_DOT_VECS * G_LANES, ROWS = 4 };

/* Columns c .. c + n - 1 of a run and the slots that any of them sees. */
typedef struct group {
    int c, n, lo, hi;
} group;

static group group_at(const wk_attn_grad *a, int c, int n) {
    group g = {c, n, SLOTS, 0};
    for (int j = c; j < c + n; j++) {
        if (a->lo[j] < g.lo) g.lo = a->lo[j];
        if (a->hi[j] > g.hi) g.hi = a->hi[j];
    }
    return g;
}

/* Columns of the next group: most, or what is left in powers of two. */
static int next_size(int left, int most) {
    return left >= most ? most : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* ---- scores ---- */

/* dst[j*SLOTS ..] = slots i .. i + SPAN - 1 of panels . x_j by kind F, for m columns j. */
WK_INLINE void dots(float *dst, const float *panels, const float *x, size_t hd, int i, const int m) {
    const float *w = panels + (size_t)(i / 16) * hd * 16 + i % 16;
    for (size_t d0 = 0; d0 < hd; d0 += CHUNK) {
        const size_t d1 = hd - d0 < CHUNK ? hd : d0 + CHUNK;
        g_vec c[G_DOT_VECS][G_COLS];
        G_UNROLL
        for (int n = 0; n < G_DOT_VECS; n++) {
            G_UNROLL
            for (int j = 0; j < m; j++) c[n][j] = g_all(0.0f);
        }
        for (size_t d = d0; d < d1; d++) {
            g_vec v[G_DOT_VECS];
            G_UNROLL
            for (int n = 0; n < G_DOT_VECS; n++)
                v[n] = g_load(w + (size_t)(n * G_LANES / 16) * hd * 16 + d * 16 + n * G_LANES % 16);
            G_UNROLL
            for (int j = 0; j < m; j++) {
                const g_vec xj = g_all(x[(size_t)j * hd + d]);
                G_UNROLL
                for (int n = 0; n < G_DOT_VECS; n++) c[n][j] = g_fma(v[n], xj, c[n][j]);
            }
        }
        G_UNROLL
        for (int j = 0; j < m; j++) {
            G_UNROLL
            for (int n = 0; n < G_DOT_VECS; n++) {
                float *s = dst + j * SLOTS + n * G_LANES;
                g_store(s, d0 ? g_add(g_load(s), c[n][j]) : c[n][j]);
            }
        }
    }
}

/* q.k and do.v of a group into p and ds, for the spans that it sees. */
WK_INLINE void products(const wk_attn_grad *a, const group *g, const int m) {
    const size_t hd = (size_t)a->hd, at = (size_t)g->c * hd, to = (size_t)g->c * SLOTS;
    for (int i = g->lo / SPAN * SPAN; i < g->hi; i += SPAN) {
        dots(a->p + to + i, a->kp, a->q + at, hd, i, m);
        dots(a->ds + to + i, a->vp, a->d_o + at, hd, i, m);
    }
}

/* Products of column c to p and ds. */
WK_INLINE void weights(const wk_attn_grad *a, int c, const bool capped) {
    const int lo = a->lo[c], hi = a->hi[c];
    float *p = a->p + (size_t)c * SLOTS, *ds = a->ds + (size_t)c * SLOTS;
    const g_vec m = g_all(a->m[c]), l_inv = g_all(a->l_inv[c]), delta = g_all(a->delta[c]);
    const g_vec scale = g_all(a->scale), cap = g_all(a->softcap), cap_inv = g_all(a->softcap_inv);
    const g_vec zero = g_all(0.0f), one = g_all(1.0f);
    for (int i = 0; i < SLOTS; i += G_LANES) {
        if (i + G_LANES <= lo || i >= hi) {
            g_store(p + i, zero);
            g_store(ds + i, zero);
            continue;
        }
        g_vec s = g_mul(g_load(p + i), scale), t = zero;
        if (capped) {
            t = g_tanh(g_mul(s, cap_inv));
            s = g_mul(cap, t);
        }
        const g_vec pi = g_mul(g_exp(g_sub(s, m)), l_inv);
        g_vec dsi = g_mul(pi, g_sub(g_load(ds + i), delta));
        if (capped) dsi = g_mul(dsi, g_fnma(t, t, one));
        g_store(p + i, g_seen(pi, i, lo, hi));
        g_store(ds + i, g_seen(g_mul(dsi, scale), i, lo, hi));
    }
}

#define PRODUCTS(M)                                                                                \
    static void products_##M(const wk_attn_grad *a, const group *g) { products(a, g, M); }
PRODUCTS(1)
PRODUCTS(2)
PRODUCTS(4)
#if G_COLS == 8
PRODUCTS(8)
#elif G_COLS == 6
PRODUCTS(6)
#endif

static void scores(const wk_attn_grad *a, int c0, int c1) {
    static void (*const of[G_COLS + 1])(const wk_attn_grad *, const group *) = {
        [1] = products_1, [2] = products_2, [4] = products_4,
#if G_COLS == 8
        [8] = products_8
#elif G_COLS == 6
        [6] = products_6
#endif
    };
    for (int c = c0; c < c1;) {
        const group g = group_at(a, c, next_size(c1 - c, G_COLS));
        of[g.n](a, &g);
        c += g.n;
    }
    for (int c = c0; c < c1; c++) {
        if (a->softcap > 0.0f)
            weights(a, c, true);
        else
            weights(a, c, false);
    }
}

/* ---- updates ---- */

/* acc[r][d] = fma(coef[r*by_row + s*by_step], x[s][d], acc[r][d]), s ascending; rows of acc and x: hd apart. */
typedef struct tile {
    float *acc;
    const float *coef, *x;
    size_t hd, by_row, by_step;
    int n_step;
    int left; /* lanes of the last vector */
} tile;

/* cut: the last vector is not whole. */
WK_INLINE void update(const tile *t, const int rows, const int nv, const bool cut) {
    const float *coef = t->coef, *x = t->x;
    const size_t hd = t->hd, by_row = t->by_row;
    g_vec c[ROWS][G_VECS];
    G_UNROLL
    for (int r = 0; r < rows; r++) {
        G_UNROLL
        for (int n = 0; n < nv; n++) {
            const float *y = t->acc + (size_t)r * hd + n * G_LANES;
            c[r][n] = cut && n == nv - 1 ? g_load_n(y, t->left) : g_load(y);
        }
    }
    for (int s = 0; s < t->n_step; s++) {
        g_vec v[G_VECS];
        G_UNROLL
        for (int n = 0; n < nv; n++)
            v[n] = cut && n == nv - 1 ? g_load_n(x + n * G_LANES, t->left) : g_load(x + n * G_LANES);
        G_UNROLL
        for (int r = 0; r < rows; r++) {
            const g_vec e = g_all(coef[(size_t)r * by_row]);
            G_UNROLL
            for (int n = 0; n < nv; n++) c[r][n] = g_fma(e, v[n], c[r][n]);
        }
        x += hd;
        coef += t->by_step;
    }
    G_UNROLL
    for (int r = 0; r < rows; r++) {
        G_UNROLL
        for (int n = 0; n < nv; n++) {
            float *y = t->acc + (size_t)r * hd + n * G_LANES;
            if (cut && n == nv - 1)
                g_store_n(y, c[r][n], t->left);
            else
                g_store(y, c[r][n]);
        }
    }
}

typedef void (*update_fn)(const tile *t);

#define UPDATE(R, V)                                                                               \
    static void update_##R##x##V(const tile *t) { update(t, R, V, false); }                        \
    static void update_##R##x##V##_cut(const tile *t) { update(t, R, V, true); }
#define UPDATES(V) UPDATE(1, V) UPDATE(2, V) UPDATE(4, V)
#define UPDATE_ROW(V)                                                                              \
    {{update_1x##V, update_1x##V##_cut},                                                           \
     {update_2x##V, update_2x##V##_cut},                                                           \
     {update_4x##V, update_4x##V##_cut}}
UPDATES(1)
UPDATES(2)
#if G_VECS >= 3
UPDATES(3)
#endif
#if G_VECS == 4
UPDATES(4)
#endif

/* [vectors - 1][log2 of rows][cut] */
static const update_fn updates[G_VECS][3][2] = {UPDATE_ROW(1), UPDATE_ROW(2),
#if G_VECS >= 3
                                                UPDATE_ROW(3),
#endif
#if G_VECS == 4
                                                UPDATE_ROW(4)
#endif
};

/* Dims d .. d + n - 1: nv vectors. */
typedef struct dims {
    int d, n, nv;
} dims;

static void update_rows(tile *t, const dims *b, int rows) {
    t->left = b->n - (b->nv - 1) * G_LANES;
    updates[b->nv - 1][rows / 2][t->left < G_LANES](t);
}

static void update_q(const wk_attn_grad *a, const dims *b, int c0, int c1) {
    const size_t hd = (size_t)a->hd, d = (size_t)b->d;
    for (int c = c0; c < c1;) {
        const group g = group_at(a, c, next_size(c1 - c, ROWS));
        tile t = {.acc = a->d_q + (size_t)c * hd + d,
                  .coef = a->ds + (size_t)c * SLOTS + g.lo,
                  .x = a->k + (size_t)g.lo * hd + d,
                  .hd = hd,
                  .by_row = SLOTS,
                  .by_step = 1,
                  .n_step = g.hi - g.lo};
        update_rows(&t, b, g.n);
        c += g.n;
    }
}

/* first .. last - 1: columns of a run; all that see one of the ROWS slots of a block lie among them. */
typedef struct viewers {
    int first[SLOTS / ROWS], last[SLOTS / ROWS];
} viewers;

static void find_viewers(viewers *v, const wk_attn_grad *a, int c0, int c1) {
    for (int b = 0; b < SLOTS / ROWS; b++) v->first[b] = v->last[b] = c0;
    for (int c = c0; c < c1; c++) {
        for (int b = a->lo[c] / ROWS; b * ROWS < a->hi[c]; b++) {
            if (v->last[b] == c0) v->first[b] = c;
            v->last[b] = c + 1;
        }
    }
}

/* dst [64][hd] += coef^T . x over the columns of a run. */
static void update_kv(float *dst, const wk_attn_grad *a, const float *coef, const float *x, const dims *b,
                      const viewers *v) {
    const size_t hd = (size_t)a->hd, d = (size_t)b->d;
    for (int i = 0; i < SLOTS; i += ROWS) {
        const int first = v->first[i / ROWS], last = v->last[i / ROWS];
        if (first == last) continue;
        tile t = {.acc = dst + (size_t)i * hd + d,
                  .coef = coef + (size_t)first * SLOTS + i,
                  .x = x + (size_t)first * hd + d,
                  .hd = hd,
                  .by_row = 1,
                  .by_step = SLOTS,
                  .n_step = last - first};
        update_rows(&t, b, ROWS);
    }
}

/* ---- the page ---- */

/* Columns c0 .. c1 - 1, each of which sees something. */
static void run(const wk_attn_grad *a, int c0, int c1) {
    const int n_vec = (a->hd + G_LANES - 1) / G_LANES, n_block = (n_vec + G_VECS - 1) / G_VECS;
    viewers v;
    scores(a, c0, c1);
    find_viewers(&v, a, c0, c1);
    dims b = {0, 0, 0};
    for (int i = 0; i < n_block; i++, b.d += b.n) { /* even blocks: 5 vectors are 3 + 2, not 4 + 1 */
        b.nv = n_vec * (i + 1) / n_block - n_vec * i / n_block;
        b.n = a->hd - b.d < b.nv * G_LANES ? a->hd - b.d : b.nv * G_LANES;
        update_q(a, &b, c0, c1);
        update_kv(a->d_v, a, a->p, a->d_o, &b, &v);
        update_kv(a->d_k, a, a->ds, a->q, &b, &v);
    }
}

static void G_NAME(wk_attn_grad)(const wk_attn_grad *a) {
    for (int c = 0; c < a->n_col;) {
        const int c0 = c;
        while (c < a->n_col && a->lo[c] < a->hi[c]) c++;
        if (c > c0)
            run(a, c0, c);
        else
            c++;
    }
}

void G_NAME(wk_fill_attn_grad)(wk_grad_kernels *k) { k->attn = G_NAME(wk_attn_grad); }

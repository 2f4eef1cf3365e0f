/* rows_lanes.h: gradients over rows, sums and AdamW, written once over the vector of a level (its lanes.h) and
 * included once by each. A sum over a row has 16 lanes, element i in lane i mod 16: G_PARTS vectors. Tails run
 * masked, on +0: they add +0 to a sum and store nothing else. */
#include "simd/grad/fill.h"

enum { G_PARTS = 16 / G_LANES, G_BLOCK = 4 /* rows that a pass over columns takes at a time */ };

/* n is a constant where a whole vector is meant. */
WK_INLINE g_vec part(const float *p, int n) { return n >= G_LANES ? g_load(p) : g_load_n(p, n); }
WK_INLINE void put(float *p, g_vec v, int n) {
    if (n >= G_LANES)
        g_store(p, v);
    else
        g_store_n(p, v, n);
}

/* The statements with i and left, the elements from i on that count, over a vector at a time. */
#define EACH(type, i, left, n, ...)                                                                \
    do {                                                                                           \
        type i = 0;                                                                                \
        for (; i + G_LANES <= (n); i += G_LANES) {                                                 \
            const int left = G_LANES;                                                              \
            __VA_ARGS__                                                                            \
        }                                                                                          \
        if (i < (n)) {                                                                             \
            const int left = (int)((n) - i);                                                       \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    } while (0)

/* ---- sums over a row ---- */

/* Sum of (x*w)*y, or of x*y where w is NULL. */
WK_INLINE float sum_products(const float *x, const float *w, const float *y, int n) {
    g_vec p[G_PARTS];
    G_UNROLL
    for (int j = 0; j < G_PARTS; j++) p[j] = g_all(0.0f);
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        G_UNROLL
        for (int j = 0; j < G_PARTS; j++) {
            const int e = i + j * G_LANES;
            const g_vec v = g_load(x + e);
            p[j] = g_fma(w ? g_mul(v, g_load(w + e)) : v, g_load(y + e), p[j]);
        }
    }
    G_UNROLL
    for (int j = 0; j < G_PARTS; j++) {
        const int e = i + j * G_LANES, left = n - e;
        if (left <= 0) break;
        const g_vec v = part(x + e, left);
        p[j] = g_fma(w ? g_mul(v, part(w + e, left)) : v, part(y + e, left), p[j]);
    }
    return g_tree(p);
}

static float G_NAME(wk_dot)(const float *x, const float *y, int n) { return sum_products(x, NULL, y, n); }

static void G_NAME(wk_rms_grad)(float *dst, const float *dy, const float *x, const float *w, float r, int n,
                                bool add) {
    const float dot = sum_products(dy, w, x, n);
    const g_vec c = g_all((r * r) * (dot / (float)n)), rv = g_all(r);
    EACH(int, i, left, n, {
        const g_vec g = g_mul(part(dy + i, left), part(w + i, left));
        const g_vec dx = g_mul(g_fnma(part(x + i, left), c, g), rv);
        put(dst + i, add ? g_add(part(dst + i, left), dx) : dx, left);
    });
}

/* ---- columns in lanes: a few rows at a time, so that memory is read in long runs ---- */

static void rms_w_block(float *dw, const float *dy, const float *x, const float *r, size_t ld, int n) {
    g_vec rv[G_BLOCK];
    G_UNROLL
    for (int t = 0; t < G_BLOCK; t++) rv[t] = g_all(r[t]);
    EACH(int, i, left, n, {
        g_vec v = part(dw + i, left);
        G_UNROLL
        for (int t = 0; t < G_BLOCK; t++) {
            const size_t e = (size_t)t * ld + (size_t)i;
            v = g_fma(part(dy + e, left), g_mul(part(x + e, left), rv[t]), v);
        }
        put(dw + i, v, left);
    });
}

static void rms_w_row(float *dw, const float *dy, const float *x, float r, int n) {
    const g_vec rv = g_all(r);
    EACH(int, i, left, n, {
        const g_vec xr = g_mul(part(x + i, left), rv);
        put(dw + i, g_fma(part(dy + i, left), xr, part(dw + i, left)), left);
    });
}

static void G_NAME(wk_rms_w_grad)(float *dw, const float *dy, const float *x, const float *r, size_t ld,
                                  int n_row, int n) {
    int t = 0;
    for (; t + G_BLOCK <= n_row; t += G_BLOCK) {
        rms_w_block(dw, dy + (size_t)t * ld, x + (size_t)t * ld, r + t, ld, n);
    }
    for (; t < n_row; t++) rms_w_row(dw, dy + (size_t)t * ld, x + (size_t)t * ld, r[t], n);
}

static void G_NAME(wk_col_sum)(float *dst, const float *x, size_t ld, int n_row, int n) {
    int t = 0;
    for (; t + G_BLOCK <= n_row; t += G_BLOCK) {
        const float *row = x + (size_t)t * ld;
        EACH(int, i, left, n, {
            g_vec v = part(dst + i, left);
            G_UNROLL
            for (int b = 0; b < G_BLOCK; b++) v = g_add(v, part(row + (size_t)b * ld + (size_t)i, left));
            put(dst + i, v, left);
        });
    }
    for (; t < n_row; t++) {
        const float *row = x + (size_t)t * ld;
        EACH(int, i, left, n, { put(dst + i, g_add(part(dst + i, left), part(row + i, left)), left); });
    }
}

/* ---- element functions ---- */

WK_INLINE g_vec sigmoid(g_vec x) {
    const g_vec one = g_all(1.0f);
    return g_div(one, g_add(one, g_exp(g_neg(x))));
}

static void G_NAME(wk_glu_grad_silu)(float *d_g, float *d_u, const float *dy, const float *g, const float *u,
                                     int n) {
    const g_vec one = g_all(1.0f);
    EACH(int, i, left, n, {
        const g_vec x = part(g + i, left), d = part(dy + i, left), s = sigmoid(x);
        const g_vec d_fn = g_mul(s, g_fma(x, g_sub(one, s), one));
        const g_vec to_g = g_mul(g_mul(d, part(u + i, left)), d_fn);
        put(d_u + i, g_mul(d, g_mul(x, s)), left);
        put(d_g + i, to_g, left);
    });
}

static void G_NAME(wk_glu_grad_gelu_tanh)(float *d_g, float *d_u, const float *dy, const float *g,
                                          const float *u, int n) {
    const g_vec one = g_all(1.0f), a = g_all(WK_GELU_A), a3 = g_all(WK_GELU_A3), b = g_all(WK_GELU_B);
    EACH(int, i, left, n, {
        const g_vec x = part(g + i, left), d = part(dy + i, left), x2 = g_mul(x, x);
        const g_vec s = sigmoid(g_mul(x, g_fma(x2, a, b)));
        const g_vec d_fn = g_fma(g_mul(x, g_fma(x2, a3, b)), g_mul(s, g_sub(one, s)), s);
        const g_vec to_g = g_mul(g_mul(d, part(u + i, left)), d_fn);
        put(d_u + i, g_mul(d, g_mul(x, s)), left);
        put(d_g + i, to_g, left);
    });
}

static void G_NAME(wk_softcap_grad)(float *dst, const float *dy, const float *y, float cap_inv, int n) {
    const g_vec inv = g_all(cap_inv), one = g_all(1.0f);
    EACH(int, i, left, n, {
        const g_vec t = g_mul(part(y + i, left), inv);
        put(dst + i, g_mul(part(dy + i, left), g_fnma(t, t, one)), left);
    });
}

static void G_NAME(wk_axpy)(float *dst, const float *x, float c, int n) {
    const g_vec cv = g_all(c);
    EACH(int, i, left, n, { put(dst + i, g_fma(cv, part(x + i, left), part(dst + i, left)), left); });
}

static void G_NAME(wk_adamw)(float *w, float *m, float *v, const float *g, const wk_adamw *a, size_t n) {
    const g_vec g_scale = g_all(a->g_scale), keep = g_all(a->keep), eps = g_all(a->eps);
    const g_vec b1 = g_all(a->b1), b1c = g_all(a->b1c), b2 = g_all(a->b2), b2c = g_all(a->b2c);
    const g_vec step = g_all(a->step), v_inv = g_all(a->v_inv);
    EACH(size_t, i, left, n, {
        const g_vec gi = g_mul(part(g + i, left), g_scale), wi = g_mul(part(w + i, left), keep);
        const g_vec mi = g_fma(part(m + i, left), b1, g_mul(gi, b1c));
        const g_vec vi = g_fma(part(v + i, left), b2, g_mul(g_mul(gi, gi), b2c));
        put(m + i, mi, left);
        put(v + i, vi, left);
        const g_vec under = g_add(g_mul(g_sqrt(vi), v_inv), eps);
        put(w + i, g_sub(wi, g_div(g_mul(mi, step), under)), left);
    });
}

void G_NAME(wk_fill_rows_grad)(wk_grad_kernels *k) {
    k->rms = G_NAME(wk_rms_grad);
    k->rms_w = G_NAME(wk_rms_w_grad);
    k->col_sum = G_NAME(wk_col_sum);
    k->glu[WK_FN_SILU] = G_NAME(wk_glu_grad_silu);
    k->glu[WK_FN_GELU_TANH] = G_NAME(wk_glu_grad_gelu_tanh);
    k->softcap = G_NAME(wk_softcap_grad);
    k->axpy = G_NAME(wk_axpy);
    k->dot = G_NAME(wk_dot);
    k->adamw = G_NAME(wk_adamw);
}

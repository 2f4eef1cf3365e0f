/* check_grad_oracle.c: simd/grad/ref against the equations in double. u = 2^-24 is the error of one rounding; a bound
 * is the roundings on the path of a value times the magnitudes that they round. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "simd/poly.h"
#include "tests/check/check_grad.h"

static const double u = 0x1p-24;

static void near(ck *c, const char *name, size_t i, float got, double want, double bound) {
    const double err = fabs((double)got - want);
    if (!(err <= bound))
        ck_fail(c, "%s[%zu] = %g, exact %g: error %g, bound %g", name, i, (double)got, want, err, bound);
}

/* Sum and sum of magnitudes of n products. */
typedef struct sum {
    double value, mass;
} sum;
static sum products(const float *x, const float *y, int n) {
    sum s = {0, 0};
    for (int i = 0; i < n; i++) {
        s.value += (double)x[i] * (double)y[i];
        s.mass += fabs((double)x[i] * (double)y[i]);
    }
    return s;
}

/* ---- attention --------------------------------------------------------------------------------- */

/* A value and how far ref may be off. */
typedef struct about {
    double x, err;
} about;

/* p and ds of one column and slot. A dot is off by its chunk of 64, the chunks and the scale; a score's error
 * is relative in p, beside 10 roundings of exp, the difference and the factor. */
static void weight(about *p, about *ds, const wk_attn_grad *a, int c, const float *k, const float *v) {
    const size_t at = (size_t)c * (size_t)a->hd;
    const double path = 64 + a->hd / 64.0 + 3, scale = (double)a->scale, delta = (double)a->delta[c];
    const sum qk = products(a->q + at, k, a->hd), ov = products(a->d_o + at, v, a->hd);
    double s = qk.value * scale, s_err = path * u * qk.mass * scale, slope = 1, slope_err = 0;
    if (a->softcap > 0.0f) {
        const double cap = (double)a->softcap, t = tanh(s / cap), t_err = s_err / cap + 8 * u;
        s = cap * t;
        s_err = cap * t_err + u * fabs(s);
        slope = 1 - t * t;
        slope_err = 2 * fabs(t) * t_err + 4 * u;
    }
    p->x = exp(s - (double)a->m[c]) * (double)a->l_inv[c];
    p->err = p->x * (1.01 * s_err + u * fabs(s - (double)a->m[c]) + 10 * u);
    const double d = ov.value - delta, d_err = path * u * ov.mass + 2 * u * (fabs(ov.value) + fabs(delta));
    ds->x = p->x * d * slope * scale;
    ds->err = scale * (p->err * fabs(d) * slope + p->x * d_err * slope + p->x * fabs(d) * slope_err) +
              8 * u * fabs(ds->x) + u * p->err;
}

/* y += w . x, rounded once. */
static void add(about *y, const about *w, const float *x, int n) {
    for (int i = 0; i < n; i++) {
        const double part = w->x * (double)x[i];
        y[i].x += part;
        y[i].err += 1.01 * w->err * fabs((double)x[i]) + u * fabs(part);
    }
}

static about *start(about *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = (about){(double)x[i], 0};
    return y;
}

/* Each of n_step additions rounds a value that is no larger than the sum of magnitudes so far: err holds u times
 * that sum, mass of the start included below. */
static void compare(ck *c, const char *name, const float *got, const float *was, const about *y, size_t n,
                    int n_step) {
    for (size_t i = 0; i < n; i++)
        near(c, name, i, got[i], y[i].x, (n_step + 1) * (y[i].err + u * fabs((double)was[i])));
}

enum { MAX_COL = 8, MAX_HD = 64, SLOTS = WK_KV_SLOTS };

static void body_attn(ck *c, int softcap) {
    static about q[MAX_COL * MAX_HD], k[SLOTS * MAX_HD], v[SLOTS * MAX_HD];
    for (int i = 0; i < 120; i++) {
        const int n_col = ck_range(c, 1, MAX_COL), hd = ck_range(c, 1, MAX_HD);
        if (!ck_case(c, "%d columns, head dim %d", n_col, hd)) continue;
        const ck_grad_page t = ck_page_data(c, n_col, hd, softcap);
        const size_t n = (size_t)n_col * (size_t)hd, rows = (size_t)SLOTS * (size_t)hd;
        start(q, t.d_q.want, n);
        start(k, t.d_k.want, rows);
        start(v, t.d_v.want, rows);
        const wk_attn_grad a = ck_page_side(&t, true);
        grad_of(c)->ref->attn(&a);
        for (int j = 0; j < n_col; j++) {
            for (int s = a.lo[j]; s < a.hi[j]; s++) {
                const size_t at = (size_t)j * (size_t)hd, row = (size_t)s * (size_t)hd;
                float v_row[MAX_HD];
                for (int d = 0; d < hd; d++) v_row[d] = a.vp[(s / 16 * hd + d) * 16 + s % 16];
                about p, ds;
                weight(&p, &ds, &a, j, a.k + row, v_row);
                add(v + row, &p, a.d_o + at, hd);
                add(k + row, &ds, a.q + at, hd);
                add(q + at, &ds, a.k + row, hd);
            }
        }
        compare(c, "d_v", a.d_v, t.d_v.want, v, rows, n_col);
        compare(c, "d_k", a.d_k, t.d_k.want, k, rows, n_col);
        compare(c, "d_q", a.d_q, t.d_q.want, q, n, SLOTS);
    }
}

/* ---- rows -------------------------------------------------------------------------------------- */

static void body_rms(ck *c, int add_to) {
    for (int i = 0; i < 200; i++) {
        const int n = i < 100 ? i + 1 : ck_range(c, 100, 3000);
        if (!ck_case(c, "n %d", n)) continue;
        const size_t len = (size_t)n;
        const float *dy = ck_in_floats(c, len, CK_GAUSS), *x = ck_in_floats(c, len, CK_GAUSS);
        const float *w = ck_in_floats(c, len, CK_GAUSS), *was = ck_in_floats(c, len, CK_GAUSS);
        float *y = ck_in(c, len * 4);
        memcpy(y, was, len * 4);
        const double r = fabs((double)ck_gauss(c)) + 0.1, rf = (double)(float)r;
        double dot = 0, mass = 0;
        for (size_t j = 0; j < len; j++) {
            const double part = (double)dy[j] * (double)w[j] * (double)x[j];
            dot += part;
            mass += fabs(part);
        }
        const double f = rf * rf / n, path = n / 16.0 + 5 + 6; /* lanes, tree, g, mean, squares */
        grad_of(c)->ref->rms(y, dy, x, w, (float)r, n, add_to);
        for (size_t j = 0; j < len; j++) {
            const double g = (double)dy[j] * (double)w[j], xc = (double)x[j] * f * dot;
            const double base = add_to ? (double)was[j] : 0, want = (g - xc) * rf;
            near(c, "dx", j, y[j], base + want,
                 u * (rf * (4 * fabs(g) + 4 * fabs(xc) + path * fabs((double)x[j]) * f * mass) + fabs(base + want)));
        }
    }
}

static void body_columns(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        const int n_row = ck_range(c, 0, 200), n = ck_range(c, 1, 40);
        if (!ck_case(c, "%d rows of %d", n_row, n)) continue;
        const size_t all = (size_t)n_row * (size_t)n, len = (size_t)n;
        const float *dy = ck_in_floats(c, all, CK_GAUSS), *x = ck_in_floats(c, all, CK_GAUSS);
        const float *r = ck_in_floats(c, (size_t)n_row, CK_GAUSS), *was = ck_in_floats(c, len, CK_GAUSS);
        float *dw = ck_in(c, len * 4), *s = ck_in(c, len * 4);
        memcpy(dw, was, len * 4);
        memcpy(s, was, len * 4);
        grad_of(c)->ref->rms_w(dw, dy, x, r, len, n_row, n);
        grad_of(c)->ref->col_sum(s, x, len, n_row, n);
        for (size_t j = 0; j < len; j++) {
            sum a = {(double)was[j], fabs((double)was[j])}, b = a;
            for (size_t t = 0; t < (size_t)n_row; t++) {
                const double part = (double)dy[t * len + j] * (double)x[t * len + j] * (double)r[t];
                a.value += part, a.mass += fabs(part);
                b.value += (double)x[t * len + j], b.mass += fabs((double)x[t * len + j]);
            }
            near(c, "rms_w", j, dw[j], a.value, (n_row + 2) * u * a.mass);
            near(c, "col_sum", j, s[j], b.value, (n_row + 1) * u * b.mass);
        }
    }
}

/* s carries 5 roundings and those of its argument z (3 |z| u), also where 1 - s is taken; then few more. */
static void body_glu(ck *c, int fn) {
    for (int i = 0; i < 200; i++) {
        if (!ck_case(c, "64 values")) continue;
        const float *dy = ck_in_floats(c, 64, CK_GAUSS), *up = ck_in_floats(c, 64, CK_GAUSS);
        float *g = ck_in_floats(c, 64, CK_GAUSS), *d_g = ck_in(c, 256), *d_u = ck_in(c, 256);
        for (int j = 0; j < 64; j++) g[j] *= i % 4 ? 1.0f : 5.0f;
        grad_of(c)->ref->glu[fn](d_g, d_u, dy, g, up, 64);
        for (size_t j = 0; j < 64; j++) {
            const double x = (double)g[j], b = 2 * 0.7978845608028654, a = b * 0.044715;
            const double z = fn == WK_FN_SILU ? x : x * (a * x * x + b), d_z = fn == WK_FN_SILU ? 1 : 3 * a * x * x + b;
            if (z < -86) continue; /* there exp is held */
            const double s = 1 / (1 + exp(-z)), d = (double)dy[j], du = d * (double)up[j];
            const double rel = (10 + 6 * fabs(z)) * u;
            near(c, "d_u", j, d_u[j], d * x * s, rel * fabs(d * x * s));
            near(c, "d_g", j, d_g[j], du * (s + x * d_z * s * (1 - s)), 2 * rel * fabs(du) * s * (1 + fabs(x * d_z)));
        }
    }
}

static void body_small(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 200; i++) {
        const int n = i < 100 ? i + 1 : ck_range(c, 100, 3000);
        if (!ck_case(c, "n %d", n)) continue;
        const size_t len = (size_t)n;
        const float *x = ck_in_floats(c, len, CK_GAUSS), *was = ck_in_floats(c, len, CK_GAUSS);
        float *y = ck_in(c, len * 4), by = ck_gauss(c);
        const sum s = products(x, was, n);
        near(c, "dot", 0, grad_of(c)->ref->dot(x, was, n), s.value, (n / 16.0 + 5) * u * s.mass);
        memcpy(y, was, len * 4);
        grad_of(c)->ref->axpy(y, x, by, n);
        for (size_t j = 0; j < len; j++) {
            const double want = (double)was[j] + (double)by * (double)x[j];
            near(c, "axpy", j, y[j], want, u * fabs(want));
        }
        grad_of(c)->ref->softcap(y, x, was, 0.125f, n);
        for (size_t j = 0; j < len; j++) {
            const double t = (double)was[j] * 0.125;
            near(c, "softcap", j, y[j], (double)x[j] * (1 - t * t), 4 * u * fabs((double)x[j]) * (1 + t * t));
        }
    }
}

static void body_adamw(ck *c, int arg) {
    (void)arg;
    const wk_adamw a = {0.37f, 0.999f, 0.9f, 0.1f, 0.95f, 0.05f, 3e-3f, 1.7f, 1e-8f};
    for (int i = 0; i < 100; i++) {
        enum { N = 64 };
        if (!ck_case(c, "64 values")) continue;
        const float *g = ck_in_floats(c, N, CK_GAUSS);
        float *w = ck_in_floats(c, N, CK_GAUSS), *m = ck_in_floats(c, N, CK_GAUSS);
        float *v = ck_in_floats(c, N, CK_GAUSS), was[3][N];
        for (int j = 0; j < N; j++) v[j] *= v[j];
        memcpy(was[0], w, sizeof(was[0]));
        memcpy(was[1], m, sizeof(was[1]));
        memcpy(was[2], v, sizeof(was[2]));
        grad_of(c)->ref->adamw(w, m, v, g, &a, N);
        for (size_t j = 0; j < N; j++) {
            const double gj = (double)g[j] * (double)a.g_scale, w0 = (double)was[0][j] * (double)a.keep;
            const double m0 = (double)was[1][j] * (double)a.b1, m1 = gj * (double)a.b1c, mj = m0 + m1;
            const double vj = (double)was[2][j] * (double)a.b2 + gj * gj * (double)a.b2c;
            const double m_err = 3 * u * (fabs(m0) + fabs(m1));
            const double by = (double)a.step / (sqrt(vj) * (double)a.v_inv + (double)a.eps), want = w0 - mj * by;
            near(c, "m", j, m[j], mj, m_err);
            near(c, "v", j, v[j], vj, 5 * u * vj);
            near(c, "w", j, w[j], want, by * (m_err + 10 * u * fabs(mj)) + u * (fabs(w0) + fabs(want)));
        }
    }
}

void ck_grad_oracle(ck *c) {
    ck_kernel(c, "attn", false, body_attn, false);
    ck_kernel(c, "attn softcap", false, body_attn, true);
    ck_kernel(c, "rms", false, body_rms, false);
    ck_kernel(c, "rms add", false, body_rms, true);
    ck_kernel(c, "columns", false, body_columns, 0);
    ck_kernel(c, "silu", false, body_glu, WK_FN_SILU);
    ck_kernel(c, "gelu_tanh", false, body_glu, WK_FN_GELU_TANH);
    ck_kernel(c, "dot axpy softcap", false, body_small, 0);
    ck_kernel(c, "adamw", false, body_adamw, 0);
}

/* oracle.c: ref against sums in double, within the bounds of DESIGN 9.9 and KERNELS 12.3. u = 2^-24 is half a
 * unit in the last place of f32, the error of one rounding. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "simd/dmath.h"
#include "simd/poly.h"
#include "simd/quant/quant.h"
#include "tests/check/check.h"

static const double u = 0x1p-24;

/* ---- dot products ------------------------------------------------------------------------------ */

/* Roundings on the path of one output, by kind. */
static double path(int kind, int k) {
    const double b32 = k / 32.0, b256 = k / 256.0;
    switch (kind) {
    case WK_KIND_B32: return 1 + b32;
    case WK_KIND_B32M: return 2 + b32;
    case WK_KIND_S32: return 8 + b256;
    case WK_KIND_S32M: return 9 + b256;
    case WK_KIND_S16: return 16 + b256;
    case WK_KIND_W256: return 1 + b256;
    case WK_KIND_W256M: return 2 + b256;
    default: return 64 + k / 64.0;
    }
}

/* The row with its min scale (dmin, m) zeroed: what is left of a value is s * code. */
static void zero_mins(uint8_t *row, int fmt, int k) {
    const size_t at = fmt == WK_FMT_Q2_K ? offsetof(wk_block_q2_k, dmin) : 2;
    for (int b = 0; b < k / wk_formats[fmt].block; b++) {
        memset(row + (size_t)b * wk_formats[fmt].bytes + at, 0, 2);
    }
}

static bool has_mins(int kind) {
    return kind == WK_KIND_B32M || kind == WK_KIND_S32M || kind == WK_KIND_W256M;
}

/* Sum and sum of magnitudes of one row and token. v: values, p: their part s * code. */
static void dot(double *sum, double *mass, const float *v, const float *p, const wk_act *x,
                int act) {
    *sum = *mass = 0;
    for (int i = 0; i < x->k; i++) {
        double xi;
        if (act == WK_X_F32)
            xi = (double)x->x[i];
        else
            xi = (double)x->q[i] * (double)x->d[i / (act == WK_X_A32 ? 32 : 256)];
        *sum += (double)v[i] * xi;
        *mass += (fabs((double)p[i]) + fabs((double)v[i] - (double)p[i])) * fabs(xi);
    }
}

static void body_dot(ck *c, int fmt) {
    const wk_format *f = &wk_formats[fmt];
    for (int i = 0; i < 60; i++) {
        const int k = f->block == 1 ? ck_range(c, 1, 1000)
                                    : f->block * ck_range(c, 1, f->block == 32 ? 48 : 6);
        if (!ck_case(c, "k %d, data %d", k, i % 3)) continue;
        const size_t row = wk_row_bytes(fmt, (size_t)k);
        uint8_t *rows = ck_in(c, 16 * row), *panel = ck_in(c, wk_panel_bytes(fmt, (size_t)k));
        ck_rows(c, rows, fmt, 16, k, (ck_weight)(i % 3));
        f->pack(panel, rows, row, 16, k);
        const wk_act x = ck_act(c, f->act, 1, k, i % 4 == 3 ? CK_X_ENDS : CK_X_PLAIN);
        float *v = ck_in(c, (size_t)k * 4), *p = ck_in(c, (size_t)k * 4), y[16];
        c->ref->gemv[fmt](y, panel, &x, 1, k);
        for (int r = 0; r < 16; r++) {
            double sum, mass;
            f->decode(v, rows + (size_t)r * row, k);
            if (has_mins(f->kind)) zero_mins(rows + (size_t)r * row, fmt, k);
            f->decode(p, rows + (size_t)r * row, k);
            dot(&sum, &mass, v, p, &x, f->act);
            const double bound = (path(f->kind, k) + 2) * u * mass, err = fabs((double)y[r] - sum);
            if (!(err <= bound))
                ck_fail(c, "row %d: %g, exact %g: error %g, bound %g", r, (double)y[r], sum, err,
                        bound);
        }
    }
}

/* Noise of the quantised activations: NMSE at most 4e-5 (A32), 7e-5 (A256) on Gaussian data. */
static void body_quant(ck *c, int act) {
    enum { K = 4096 };
    const int block = act == WK_X_A32 ? 32 : 256;
    const double most = act == WK_X_A32 ? 4e-5 : 7e-5;
    for (int i = 0; i < 20; i++) {
        if (!ck_case(c, "k %d", K)) continue;
        const float *x = ck_in_floats(c, K, CK_GAUSS);
        wk_act a = ck_act(c, act, 1, K, CK_X_PLAIN);
        c->ref->quant[act](&a, 0, x, K);
        double err = 0, sum = 0;
        for (int j = 0; j < K; j++) {
            const double d = (double)a.q[j] * (double)a.d[j / block] - (double)x[j];
            err += d * d;
            sum += (double)x[j] * (double)x[j];
            if (a.q[j] == -128) ck_fail(c, "code -128");
        }
        if (!(err <= most * sum)) ck_fail(c, "NMSE %g, at most %g", err / sum, most);
        for (int b = 0; b < K / 16; b++) {
            int s = 0;
            for (int j = 0; j < 16; j++) s += a.q[16 * b + j];
            if (act == WK_X_A256 && (a.s16[b] != s || a.z16[b] != -128 * s))
                ck_fail(c, "sum of 16");
        }
    }
}

/* ---- functions --------------------------------------------------------------------------------- */

/* |got - want| <= rel * |want| + abs; NaN is wrong. */
static void near(ck *c, const char *name, float x, float got, double want, double rel,
                 double least) {
    const double err = fabs((double)got - want);
    if (!(err <= rel * fabs(want) + least))
        ck_fail(c, "%s(%a) = %a, exact %a", name, (double)x, (double)got, want);
}

/* Distance in units of the last place of the exact value. */
static double ulps(float got, double want) {
    int e;
    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1.0, e - 24);
}

static void body_exp(ck *c, int arg) {
    (void)arg;
    float x, y;
    double worst = 0;
    for (uint32_t b = 0; b < 0xff800000u; b += 4099) {
        if (b == 0 && !ck_case(c, "stride 4099 over all bits")) return;
        x = wk_f32_from_bits(b);
        if (x != x) continue;
        c->ref->exp_scaled(&y, &x, 0.0f, 1.0f, 1);
        if (x < WK_EXP_LO) {
            if (y != 0.0f) ck_fail(c, "exp(%a) = %a, wanted 0", (double)x, (double)y);
            continue;
        }
        worst = fmax(worst, ulps(y, exp(fmin((double)x, 88.0))));
    }
    if (!(worst <= 1.0)) ck_fail(c, "error %g ulp", worst);
    if (!ck_case(c, "special values")) return;
    x = 0.0f;
    c->ref->exp_scaled(&y, &x, 0.0f, 1.0f, 1);
    if (y != 1.0f) ck_fail(c, "exp(0) = %a", (double)y);
    x = wk_f32_from_bits(0x7fc00000u);
    c->ref->exp_scaled(&y, &x, 0.0f, 1.0f, 1);
    if (y == y) ck_fail(c, "exp(NaN) = %a", (double)y);
}

/* silu: exp 2u, 1 + e, /, *: 5u with the argument exact. gelu: z carries 3 roundings, which exp turns into
 * 3 |z| u more. tanh: 1 - t loses digits near zero, so the error is absolute there. Below -86 exp is held. */
static void body_fn(ck *c, int arg) {
    (void)arg;
    const float one = 1.0f, cap = 30.0f, inv = 1.0f / 30.0f;
    float x, y;
    for (uint32_t b = 0; b < 0xff800000u; b += 8191) {
        if (b == 0 && !ck_case(c, "stride 8191 over all bits")) return;
        x = wk_f32_from_bits(b);
        if (x != x || fabsf(x) > 80.0f) continue;
        const double d = (double)x;
        c->ref->glu[WK_FN_SILU](&y, &x, &one, 1);
        near(c, "silu", x, y, d / (1 + exp(-d)), 8 * u, 0x1p-149);
        const double z = 2 * 0.7978845608028654 * (d + 0.044715 * d * d * d);
        c->ref->glu[WK_FN_GELU_TANH](&y, &x, &one, 1);
        if (z > -86) near(c, "gelu", x, y, d / (1 + exp(-z)), (8 + 6 * fabs(z)) * u, 0x1p-149);
        c->ref->softcap(&y, &x, cap, inv, 1);
        near(c, "softcap", x, y, 30 * tanh(d / 30), 4 * u, 30 * 4 * u);
    }
}

static void body_rms(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 200; i++) {
        const int n = i < 100 ? i + 1 : ck_range(c, 100, 3000);
        if (!ck_case(c, "n %d", n)) continue;
        const float *x = ck_in_floats(c, (size_t)n, CK_GAUSS),
                    *w = ck_in_floats(c, (size_t)n, CK_GAUSS);
        float *y = ck_in(c, (size_t)n * 4), r;
        double ss = 0, sum = 0, mass = 0;
        for (int j = 0; j < n; j++) {
            ss += (double)x[j] * (double)x[j];
            sum += (double)x[j];
            mass += fabs((double)x[j]);
        }
        c->ref->rms(y, &r, x, w, n, 1e-5f);
        const double want = 1 / sqrt(ss / n + (double)1e-5f);
        const double rel =
            ((n / 16.0 + 5) / 2 + 4) * u; /* lanes, tree, mean; halved by the root; root and / */
        near(c, "r", (float)n, r, want, rel, 0);
        for (int j = 0; j < n; j++)
            near(c, "rms", x[j], y[j], (double)x[j] * want * (double)w[j], rel + 3 * u, 0);
        near(c, "sum", (float)n, c->ref->sum(x, n), sum, 0, (n / 16.0 + 5) * u * mass);
    }
}

static void body_rope(ck *c, int kind) {
    enum { HD = 64 };
    for (int i = 0; i < 60; i++) {
        const int n_rot = 2 * ck_range(c, 1, HD / 2), half = n_rot / 2;
        if (!ck_case(c, "%d turned", n_rot)) continue;
        float *x = ck_in_floats(c, HD, CK_GAUSS), *y = ck_in(c, HD * 4),
              *cs = ck_in(c, (size_t)n_rot * 4);
        memcpy(y, x, HD * 4);
        for (int j = 0; j < half; j++) {
            double s, co;
            wk_sincos((double)ck_range(c, 0, 100000) * 0.37, &s, &co);
            cs[j] = (float)co;
            cs[half + j] = (float)s;
        }
        c->ref->rope[kind](y, cs, 1, HD, n_rot);
        for (int j = 0; j < half; j++) {
            const int i0 = kind == WK_ROPE_HALVES ? j : 2 * j,
                      i1 = kind == WK_ROPE_HALVES ? j + half : 2 * j + 1;
            const double a = (double)x[i0], b = (double)x[i1], co = (double)cs[j],
                         s = (double)cs[half + j];
            const double least = 3 * u * (fabs(a) + fabs(b));
            near(c, "rope", x[i0], y[i0], a * co - b * s, 0, least);
            near(c, "rope", x[i1], y[i1], a * s + b * co, 0, least);
        }
        if (memcmp(x + n_rot, y + n_rot, (HD - (size_t)n_rot) * 4))
            ck_fail(c, "a value behind n_rot changed");
    }
}

/* ---- attention --------------------------------------------------------------------------------- */

enum { PAGES = 3, HD_MAX = 128 };

/* softmax(q.k * scale) . v in double over PAGES pages, of which the slots lo .. hi - 1 are seen. A score is
 * off by delta, so a weight is off by 2 delta and the 20 roundings of exp, sums and merges; o by that of the
 * mass of e * v. */
static void attention(double *o, double *bound, const float *q, const float *k, const float *v,
                      int hd, int lo, int hi, double scale) {
    double s[PAGES * 64], m = -HUGE_VAL, l = 0, delta = 0, mass[HD_MAX] = {0};
    for (int i = lo; i < hi; i++) {
        double sum = 0, abs_sum = 0;
        for (int d = 0; d < hd; d++) {
            sum += (double)q[d] * (double)k[i * hd + d];
            abs_sum += fabs((double)q[d] * (double)k[i * hd + d]);
        }
        s[i] = sum * scale;
        m = fmax(m, s[i]);
        delta = fmax(delta, (64 + hd / 64.0 + 4) * u * abs_sum * scale + 2 * u * fabs(s[i]));
    }
    memset(o, 0, (size_t)hd * sizeof(double));
    for (int i = lo; i < hi; i++) {
        const double e = exp(s[i] - m);
        l += e;
        for (int d = 0; d < hd; d++) {
            o[d] += e * (double)v[i * hd + d];
            mass[d] += e * fabs((double)v[i * hd + d]);
        }
    }
    for (int d = 0; d < hd; d++) {
        o[d] /= l;
        bound[d] = (4 * delta + (64 + 40) * u) * mass[d] / l;
    }
}

static void attend(ck *c, float *y, const float *q, const float *k, const float *v, int hd, int lo,
                   int hi, float scale) {
    float m = WK_ATTN_M0, l = 0.0f, o[HD_MAX] = {0}, pm, pl, po[HD_MAX], score[64];
    float *page = ck_in(c, (size_t)hd * 64 * 4);
    wk_partial acc = {&m, &l, o}, p = {&pm, &pl, po};
    for (int i = 0; i < PAGES; i++) {
        const int a = lo - 64 * i, b = hi - 64 * i;
        const uint8_t from = (uint8_t)(a < 0    ? 0
                                       : a > 64 ? 64
                                                : a),
                      to = (uint8_t)(b < 0    ? 0
                                     : b > 64 ? 64
                                              : b);
        for (int s = 0; s < 64; s++) {
            for (int d = 0; d < hd; d++)
                page[(s / 16 * hd + d) * 16 + s % 16] = k[(64 * i + s) * hd + d];
        }
        const wk_attn_page in = {.n_col = 1,
                                 .hd = hd,
                                 .type = WK_KV_F32,
                                 .k = page,
                                 .v = v + 64 * i * hd,
                                 .q = q,
                                 .lo = &from,
                                 .hi = &to,
                                 .scale = scale,
                                 .score = score};
        c->ref->attn_page(&p, &in);
        c->ref->attn_merge(&acc, &p, 1, hd);
    }
    c->ref->attn_finish(y, (size_t)hd, &acc, 1, hd);
}

static void body_attn(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 120; i++) {
        const int hd = ck_range(c, 1, HD_MAX), lo = ck_range(c, 0, PAGES * 64 - 1);
        const int hi = ck_range(c, lo + 1, PAGES * 64);
        if (!ck_case(c, "head dim %d, slots %d to %d", hd, lo, hi)) continue;
        const size_t n = (size_t)hd * PAGES * 64;
        const float *q = ck_in_floats(c, (size_t)hd, CK_GAUSS), *k = ck_in_floats(c, n, CK_GAUSS);
        const float *v = ck_in_floats(c, n, CK_GAUSS);
        const float scale = i % 3 ? 1.0f / sqrtf((float)hd) : 1.5f;
        float *y = ck_in(c, (size_t)hd * 4);
        double want[HD_MAX], bound[HD_MAX];
        attend(c, y, q, k, v, hd, lo, hi, scale);
        attention(want, bound, q, k, v, hd, lo, hi, (double)scale);
        for (int d = 0; d < hd; d++) near(c, "o", (float)d, y[d], want[d], 0, bound[d]);
    }
}

/* ---- double functions -------------------------------------------------------------------------- */

static void near_double(ck *c, const char *name, double x, double got, long double want) {
    const long double err = fabsl((long double)got - want);
    if (!(err <= 1e-14L * fabsl(want))) ck_fail(c, "%s(%a) = %a, exact %La", name, x, got, want);
}

static double uniform(ck *c) { return ((double)ck_u32(c) + (double)ck_u32(c) * 0x1p-32) * 0x1p-32; }

static void body_dmath(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 60000; i++) {
        if (i % 100 == 0 && !ck_case(c, "100 values from %d", i)) continue;
        double x = (uniform(c) * 2 - 1) * ldexp(1.0, ck_range(c, -20, 24)), s, co;
        if (i % 4 == 0)
            x = (double)ck_range(c, 1, 1 << 23) * 1.5707963267948966; /* next to a zero */
        wk_sincos(x, &s, &co);
        near_double(c, "sin", x, s, sinl((long double)x));
        near_double(c, "cos", x, co, cosl((long double)x));
        x = (uniform(c) * 2 - 1) * 700;
        near_double(c, "exp", x, wk_dexp(x), expl((long double)x));
        x = i % 2 ? exp(x) : 1 + (uniform(c) - 0.5) * ldexp(1.0, -ck_range(c, 0, 40));
        near_double(c, "log", x, wk_dlog(x), logl((long double)x));
        const double base = 1 + uniform(c) * 1e7, y = uniform(c) * 2 - 1;
        near_double(c, "pow", base, wk_dpow(base, y), powl((long double)base, (long double)y));
    }
    if (!ck_case(c, "special values")) return;
    double s, co;
    wk_sincos(0.0, &s, &co);
    if (s != 0 || co != 1) ck_fail(c, "sincos(0)");
    if (wk_dexp(0) != 1 || wk_dlog(1) != 0 || wk_dpow(10000, 0) != 1)
        ck_fail(c, "exp(0), log(1), pow(b, 0)");
    if (wk_dexp(-800) != 0 || !isinf(wk_dexp(800)) || !isinf(wk_dlog(0)) || !isnan(wk_dlog(-1))) {
        ck_fail(c, "the ends of exp and log");
    }
    if (fabs(wk_dlog(0x1p-1070) - log(0x1p-1070)) > 1e-12) ck_fail(c, "log of a denormal");
}

void ck_oracle(ck *c) {
    for (int f = 0; f < WK_FMT_COUNT; f++) ck_kernel(c, wk_formats[f].name, false, body_dot, f);
    ck_kernel(c, "A32", false, body_quant, WK_X_A32);
    ck_kernel(c, "A256", false, body_quant, WK_X_A256);
    ck_kernel(c, "exp", false, body_exp, 0);
    ck_kernel(c, "functions", false, body_fn, 0);
    ck_kernel(c, "rms, sum", false, body_rms, 0);
    ck_kernel(c, "rope halves", false, body_rope, WK_ROPE_HALVES);
    ck_kernel(c, "rope neighbours", false, body_rope, WK_ROPE_NEIGHBOURS);
    ck_kernel(c, "attention", false, body_attn, 0);
    ck_kernel(c, "dmath", false, body_dmath, 0);
}

/* check_grad_rows.c: gradients of norms, glu and softcap, sums, AdamW. */
#include <stdio.h>
#include <string.h>

#include "tests/check/check_grad.h"

static const int sizes[] = {0,  1,  2,  3,  4,  5,  7,  8,  9,   12,  15,  16,  17,  20,  23,  24,
                            25, 31, 32, 33, 40, 47, 48, 63, 64,  65,  70,  96,  127, 128, 129, 255,
                            256, 257, 576, 1000};
enum { N_SIZE = (int)WK_COUNT(sizes) };

static ck_data data_of(int i) { return (ck_data)(i % CK_DATA_COUNT); }

/* Both outputs begin as the same data. */
static ck_pair started(ck *c, size_t n, ck_data data) {
    const ck_pair p = ck_out(c, n * 4);
    ck_floats(c, p.want, n, data);
    if (n) memcpy(p.got, p.want, n * 4);
    return p;
}

static void body_rms(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 900; i++) {
        const int n = i < 200 ? i : sizes[i % N_SIZE];
        const bool in_place = i & 1, add = i & 2;
        if (!ck_case(c, "n %d, data %d,%s%s", n, i % 3, in_place ? " in place" : "", add ? " add" : ""))
            continue;
        const size_t len = (size_t)n;
        const float *x = ck_in_floats(c, len, data_of(i)), *w = ck_in_floats(c, len, data_of(i / 3));
        const float *dy = ck_in_floats(c, len, data_of(i)), r = ck_gauss(c);
        const ck_pair y = started(c, len, CK_GAUSS);
        grad_of(c)->ref->rms(y.want, in_place ? y.want : dy, x, w, r, n, add);
        grad_of(c)->k->rms(y.got, in_place ? y.got : dy, x, w, r, n, add);
        ck_same_f32(c, &y, "dst");
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *x = ck_in_floats(c, 2048, CK_GAUSS), *w = ck_in_floats(c, 2048, CK_GAUSS);
    float *y = ck_in_floats(c, 2048, CK_GAUSS), *d = ck_in(c, 2048 * 4);
    CK_BENCH(c, "2048", 2048.0 * 4, 0, grad_of(c)->k->rms(d, y, x, w, 0.5f, 2048, false));
}

/* rms_w, or col_sum. */
static void body_columns(ck *c, int is_sum) {
    for (int i = 0; i < 600; i++) {
        const int n = sizes[i % N_SIZE], n_row = i % 7 == 6 ? 100 : ck_range(c, 0, 12), more = i % 5 * 3;
        if (!ck_case(c, "%d rows of %d, ld %d, data %d", n_row, n, n + more, i % 3)) continue;
        const size_t ld = (size_t)(n + more);
        const size_t all = n_row && n ? ((size_t)n_row - 1) * ld + (size_t)n : 0;
        const float *dy = ck_in_floats(c, all, data_of(i)), *x = ck_in_floats(c, all, data_of(i));
        const float *r = ck_in_floats(c, (size_t)n_row, CK_GAUSS);
        const ck_pair y = started(c, (size_t)n, CK_GAUSS);
        if (is_sum) {
            grad_of(c)->ref->col_sum(y.want, x, ld, n_row, n);
            grad_of(c)->k->col_sum(y.got, x, ld, n_row, n);
        } else {
            grad_of(c)->ref->rms_w(y.want, dy, x, r, ld, n_row, n);
            grad_of(c)->k->rms_w(y.got, dy, x, r, ld, n_row, n);
        }
        ck_same_f32(c, &y, "dst");
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *dy = ck_in_floats(c, 576 * 512, CK_GAUSS), *x = ck_in_floats(c, 576 * 512, CK_GAUSS);
    const float *r = ck_in_floats(c, 512, CK_GAUSS);
    float *y = ck_in_floats(c, 576, CK_GAUSS);
    if (is_sum)
        CK_BENCH(c, "512 rows of 576", 4.0 * 576 * 512, 0, grad_of(c)->k->col_sum(y, x, 576, 512, 576));
    else
        CK_BENCH(c, "512 rows of 576", 8.0 * 576 * 512, 0, grad_of(c)->k->rms_w(y, dy, x, r, 576, 512, 576));
}

/* Each output apart, or on one of the three inputs, but not both on the same. */
static void body_glu(ck *c, int fn) {
    for (int i = 0; i < 1300; i++) {
        const int n = i < 200 ? i : sizes[i % N_SIZE], on_g = i % 4, on_u = i / 4 % 4;
        if (on_g == on_u && on_g) continue;
        if (!ck_case(c, "n %d, data %d, d_g on %d, d_u on %d", n, i % 3, on_g, on_u)) continue;
        const size_t len = (size_t)n;
        const ck_pair out_g = ck_out(c, len * 4), out_u = ck_out(c, len * 4);
        const ck_pair in[3] = {started(c, len, data_of(i)), started(c, len, data_of(i / 3)),
                               started(c, len, data_of(i))};
        const ck_pair *g = on_g ? &in[on_g - 1] : &out_g, *u = on_u ? &in[on_u - 1] : &out_u;
        grad_of(c)->ref->glu[fn](g->want, u->want, in[0].want, in[1].want, in[2].want, n);
        grad_of(c)->k->glu[fn](g->got, u->got, in[0].got, in[1].got, in[2].got, n);
        (void)(ck_same_f32(c, &out_g, "d_g") && ck_same_f32(c, &out_u, "d_u") &&
               ck_same_f32(c, &in[0], "dy") && ck_same_f32(c, &in[1], "g") && ck_same_f32(c, &in[2], "u"));
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *dy = ck_in_floats(c, 1536, CK_GAUSS), *g = ck_in_floats(c, 1536, CK_GAUSS);
    const float *u = ck_in_floats(c, 1536, CK_GAUSS);
    float *a = ck_in(c, 1536 * 4), *b = ck_in(c, 1536 * 4);
    CK_BENCH(c, "1536", 5.0 * 1536 * 4, 0, grad_of(c)->k->glu[fn](a, b, dy, g, u, 1536));
}

static void body_softcap(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 500; i++) {
        const int n = i < 200 ? i : sizes[i % N_SIZE];
        if (!ck_case(c, "n %d, data %d%s", n, i % 3, i & 1 ? ", in place" : "")) continue;
        const float *dy = ck_in_floats(c, (size_t)n, data_of(i)), *y = ck_in_floats(c, (size_t)n, data_of(i));
        const ck_pair d = started(c, (size_t)n, data_of(i));
        grad_of(c)->ref->softcap(d.want, i & 1 ? d.want : dy, y, 1.0f / 30.0f, n);
        grad_of(c)->k->softcap(d.got, i & 1 ? d.got : dy, y, 1.0f / 30.0f, n);
        ck_same_f32(c, &d, "dst");
    }
}

static void body_axpy(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 500; i++) {
        const int n = i < 200 ? i : sizes[i % N_SIZE];
        if (!ck_case(c, "n %d, data %d", n, i % 3)) continue;
        const float *x = ck_in_floats(c, (size_t)n, data_of(i)), by = ck_gauss(c);
        const ck_pair d = started(c, (size_t)n, data_of(i));
        grad_of(c)->ref->axpy(d.want, x, by, n);
        grad_of(c)->k->axpy(d.got, x, by, n);
        ck_same_f32(c, &d, "dst");
    }
}

static void body_dot(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 500; i++) {
        const int n = i < 200 ? i : sizes[i % N_SIZE];
        if (!ck_case(c, "n %d, data %d", n, i % 3)) continue;
        const float *x = ck_in_floats(c, (size_t)n, data_of(i));
        const float *y = i % 4 ? ck_in_floats(c, (size_t)n, data_of(i)) : x;
        const ck_pair s = ck_out(c, 4);
        *(float *)s.want = grad_of(c)->ref->dot(x, y, n);
        *(float *)s.got = grad_of(c)->k->dot(x, y, n);
        ck_same_f32(c, &s, "dot");
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *x = ck_in_floats(c, 576, CK_GAUSS), *y = ck_in_floats(c, 576, CK_GAUSS);
    volatile float sink;
    CK_BENCH(c, "576", 576.0 * 8, 0, sink = grad_of(c)->k->dot(x, y, 576));
    (void)sink;
}

static void body_adamw(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 500; i++) {
        const size_t n = (size_t)(i < 200 ? i : sizes[i % N_SIZE]);
        if (!ck_case(c, "n %zu, data %d", n, i % 3)) continue;
        const float *g = ck_in_floats(c, n, data_of(i));
        const ck_pair w = started(c, n, data_of(i)), m = started(c, n, data_of(i)), v = started(c, n, data_of(i));
        const wk_adamw a = {.g_scale = i % 2 ? 1.0f : 0.37f, .keep = i % 5 ? 0.99997f : 1.0f,
                            .b1 = 0.9f, .b1c = 0.1f, .b2 = 0.95f, .b2c = 0.05f,
                            .step = 3e-4f, .v_inv = 1.7f, .eps = i % 7 ? 1e-8f : 0.0f};
        for (size_t j = 0; j < n && i % 3 == 0; j++) {
            ((float *)v.want)[j] *= ((float *)v.want)[j];
            ((float *)v.got)[j] = ((float *)v.want)[j];
        }
        grad_of(c)->ref->adamw(w.want, m.want, v.want, g, &a, n);
        grad_of(c)->k->adamw(w.got, m.got, v.got, g, &a, n);
        (void)(ck_same_f32(c, &w, "w") && ck_same_f32(c, &m, "m") && ck_same_f32(c, &v, "v"));
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const size_t n = 1 << 20;
    float *w = ck_in_floats(c, n, CK_GAUSS), *g = ck_in_floats(c, n, CK_GAUSS);
    float *m = ck_in_floats(c, n, CK_GAUSS), *v = ck_in(c, n * 4);
    for (size_t j = 0; j < n; j++) v[j] = m[j] * m[j];
    const wk_adamw a = {1.0f, 0.9999f, 0.9f, 0.1f, 0.95f, 0.05f, 1e-6f, 1.0f, 1e-8f};
    CK_BENCH(c, "2^20, memory", 28.0 * (double)n, 0, grad_of(c)->k->adamw(w, m, v, g, &a, n));
    CK_BENCH(c, "2^12, cache", 28.0 * 4096, 0, grad_of(c)->k->adamw(w, m, v, g, &a, 4096));
}

void ck_grad_rows(ck *c) {
    const wk_grad_kernels *k = grad_of(c)->k, *b = grad_of(c)->below;
    ck_kernel(c, "rms", b && k->rms == b->rms, body_rms, 0);
    ck_kernel(c, "rms_w", b && k->rms_w == b->rms_w, body_columns, false);
    ck_kernel(c, "col_sum", b && k->col_sum == b->col_sum, body_columns, true);
    for (int i = 0; i < WK_FN_COUNT; i++) {
        ck_kernel(c, i == WK_FN_SILU ? "silu" : "gelu_tanh", b && k->glu[i] == b->glu[i], body_glu, i);
    }
    ck_kernel(c, "softcap", b && k->softcap == b->softcap, body_softcap, 0);
    ck_kernel(c, "axpy", b && k->axpy == b->axpy, body_axpy, 0);
    ck_kernel(c, "dot", b && k->dot == b->dot, body_dot, 0);
    ck_kernel(c, "adamw", b && k->adamw == b->adamw, body_adamw, 0);
}

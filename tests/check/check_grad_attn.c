/* check_grad_attn.c: the gradient of attention over a page. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/check/check_grad.h"

enum { SLOTS = WK_KV_SLOTS };

static const int head_dims[] = {1,  2,  5,  8,  15, 16, 17, 24,  31,  32,  33,
                                48, 63, 64, 65, 72, 80, 96, 112, 128, 192, 256};
static const int columns[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 24, 33, 48};

/* Empty, full, one slot, the causal edge, a window, any. */
static void range(ck *c, uint8_t *lo, uint8_t *hi) {
    const int a = ck_range(c, 0, 63), b = ck_range(c, 0, 64);
    switch (ck_range(c, 0, 7)) {
    case 0: *lo = 0, *hi = 64; break;
    case 1: *lo = (uint8_t)a, *hi = (uint8_t)(a + 1); break;
    case 2: *lo = (uint8_t)a, *hi = (uint8_t)a; break;
    case 3: *lo = 0, *hi = (uint8_t)b; break;
    case 4: *lo = (uint8_t)a, *hi = 64; break;
    case 5: *lo = 64, *hi = 0; break;
    case 6: *lo = 0, *hi = 0; break;
    default: *lo = (uint8_t)(a < b ? a : b), *hi = (uint8_t)(a < b ? b : a); break;
    }
}

/* Ranges of their own, those of tokens and heads on the diagonal, or none empty. */
static void ranges(ck *c, uint8_t *lo, uint8_t *hi, int n, int kind) {
    const int first = ck_range(c, 0, 63), heads = ck_range(c, 1, 4), window = ck_range(c, 4, 64);
    for (int j = 0; j < n; j++) {
        range(c, &lo[j], &hi[j]);
        if (kind == 1) {
            const int last = first + j / heads;
            hi[j] = (uint8_t)(last < 63 ? last + 1 : 64);
            lo[j] = (uint8_t)(last - window > 0 ? (last - window < 63 ? last - window : 63) : 0);
        }
        if (kind == 2 && lo[j] >= hi[j]) lo[j] = 0, hi[j] = (uint8_t)ck_range(c, 1, 64);
    }
}

static const float not_a_number = NAN;

/* Rows [64][hd] and the same as panels; slots outside lo .. hi - 1 hold NaN. rows may be NULL. */
static void page(ck *c, float *rows, float *panels, int hd, int lo, int hi) {
    for (int i = 0; i < SLOTS; i++) {
        for (int d = 0; d < hd; d++) {
            const float x = i < lo || i >= hi ? not_a_number : ck_gauss(c);
            if (rows) rows[i * hd + d] = x;
            panels[(i / 16 * hd + d) * 16 + i % 16] = x;
        }
    }
}

static ck_pair sum_pair(ck *c, size_t n) {
    const ck_pair p = ck_out(c, n * 4);
    ck_floats(c, p.want, n, CK_GAUSS);
    memcpy(p.got, p.want, n * 4);
    return p;
}

ck_grad_page ck_page_data(ck *c, int n_col, int hd, bool softcap) {
    const size_t n = (size_t)n_col, d = (size_t)hd, nd = n * d * 4;
    uint8_t *lo = ck_in(c, n), *hi = ck_in(c, n);
    float *kp = ck_in(c, d * 256), *vp = ck_in(c, d * 256), *k = ck_in(c, d * 256);
    float *q = ck_in(c, nd), *d_o = ck_in(c, nd), *m = ck_in(c, n * 4), *l_inv = ck_in(c, n * 4),
          *delta = ck_in(c, n * 4);
    int from = SLOTS, to = 0;
    ranges(c, lo, hi, n_col, ck_range(c, 0, 2));
    for (size_t j = 0; j < n; j++) {
        const bool sees = lo[j] < hi[j];
        if (sees && lo[j] < from) from = lo[j];
        if (sees && hi[j] > to) to = hi[j];
        for (size_t e = j * d; e < (j + 1) * d; e++) {
            q[e] = sees ? ck_gauss(c) : not_a_number;
            d_o[e] = sees ? ck_gauss(c) : not_a_number;
        }
        m[j] = sees ? ck_gauss(c) + 2.0f : not_a_number;
        l_inv[j] = sees ? (float)ck_range(c, 1, 1000) * 0x1p-10f : not_a_number;
        delta[j] = sees ? ck_gauss(c) : not_a_number;
    }
    page(c, k, kp, hd, from, to);
    page(c, NULL, vp, hd, from, to);
    ck_grad_page t = {.a = {.n_col = n_col, .hd = hd, .kp = kp, .vp = vp, .k = k, .q = q, .d_o = d_o,
                       .m = m, .l_inv = l_inv, .delta = delta, .lo = lo, .hi = hi,
                       .scale = ck_range(c, 0, 3) ? 1.0f / sqrtf((float)hd) : 3.0f},
                 .p = ck_out(c, n * SLOTS * 4), .ds = ck_out(c, n * SLOTS * 4)};
    if (softcap) t.a.softcap = 30.0f, t.a.softcap_inv = 1.0f / 30.0f;
    t.d_q = sum_pair(c, n * d);
    t.d_k = sum_pair(c, SLOTS * d);
    t.d_v = sum_pair(c, SLOTS * d);
    return t;
}

wk_attn_grad ck_page_side(const ck_grad_page *t, bool got) {
    wk_attn_grad a = t->a;
    a.p = got ? t->p.got : t->p.want;
    a.ds = got ? t->ds.got : t->ds.want;
    a.d_q = got ? t->d_q.got : t->d_q.want;
    a.d_k = got ? t->d_k.got : t->d_k.want;
    a.d_v = got ? t->d_v.got : t->d_v.want;
    return a;
}

static void bench(ck *c, int n_col, int hd, bool diagonal, const char *shape) {
    c->n_slot = 0;
    ck_grad_page t = ck_page_data(c, n_col, hd, false);
    const size_t n = (size_t)n_col, d = (size_t)hd;
    double seen = 0;
    page(c, (float *)(uintptr_t)t.a.k, (float *)(uintptr_t)t.a.kp, hd, 0, SLOTS);
    page(c, NULL, (float *)(uintptr_t)t.a.vp, hd, 0, SLOTS);
    ck_floats(c, (float *)(uintptr_t)t.a.q, n * d, CK_GAUSS);
    ck_floats(c, (float *)(uintptr_t)t.a.d_o, n * d, CK_GAUSS);
    for (size_t j = 0; j < n; j++) {
        ((float *)(uintptr_t)t.a.m)[j] = 4.0f;
        ((float *)(uintptr_t)t.a.l_inv)[j] = ((float *)(uintptr_t)t.a.delta)[j] = 0x1p-10f;
        ((uint8_t *)(uintptr_t)t.a.lo)[j] = 0;
        ((uint8_t *)(uintptr_t)t.a.hi)[j] = (uint8_t)(diagonal ? 1 + j * 64 / n : 64);
        seen += t.a.hi[j];
    }
    const wk_attn_grad a = ck_page_side(&t, true);
    CK_BENCH(c, shape, 0, 10.0 * hd * seen, grad_of(c)->k->attn(&a));
}

static void body_attn(ck *c, int softcap) {
    for (int i = 0; i < 700; i++) {
        const int hd = head_dims[i % (int)WK_COUNT(head_dims)], n = columns[i % (int)WK_COUNT(columns)];
        const int n_col = i == 0 ? 0 : hd > 100 && i % 5 ? (n + 2) / 3 : n;
        if (!ck_case(c, "%d columns, head dim %d", n_col, hd)) continue;
        ck_grad_page t = ck_page_data(c, n_col, hd, softcap);
        wk_attn_grad a = ck_page_side(&t, false);
        grad_of(c)->ref->attn(&a);
        a = ck_page_side(&t, true);
        grad_of(c)->k->attn(&a);
        memcpy(t.p.got, t.p.want, t.p.bytes); /* nobody's, but for the guards */
        memcpy(t.ds.got, t.ds.want, t.ds.bytes);
        (void)(ck_same_f32(c, &t.d_v, "d_v") && ck_same_f32(c, &t.d_k, "d_k") &&
               ck_same_f32(c, &t.d_q, "d_q") && ck_same(c, &t.p, "p") && ck_same(c, &t.ds, "ds"));
    }
    if (!c->bench || softcap) return;
    bench(c, 48, 64, false, "48 columns, hd 64");
    bench(c, 48, 80, false, "48 columns, hd 80");
    bench(c, 48, 128, false, "48 columns, hd 128");
    bench(c, 48, 256, false, "48 columns, hd 256");
    bench(c, 48, 64, true, "diagonal, hd 64");
    bench(c, 12, 64, false, "12 columns, hd 64");
    bench(c, 3, 64, false, "3 columns, hd 64");
}

void ck_grad_attn(ck *c) {
    const ck_grad *g = grad_of(c);
    const bool same = g->below && g->k->attn == g->below->attn;
    ck_kernel(c, "attn", same, body_attn, false);
    ck_kernel(c, "attn softcap", same, body_attn, true);
}

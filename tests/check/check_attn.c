/* check_attn.c: attention over a page, the merge of pages, the last division. */
#include <math.h>
#include <string.h>

#include "simd/poly.h"
#include "tests/check/check.h"

static const int head_dims[] = {1,  2,  5,  8,  15, 16, 20,  24,  31,  32, 33,
                                48, 64, 65, 72, 80, 96, 112, 128, 192, 256};
static const int columns[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 24, 33};

/* Finite values of the cache type; Q8_0: a page's V, scales and codes apart. */
static void *cache(ck *c, wk_kv type, size_t n, bool nasty) {
    const size_t size = type == WK_KV_F32 ? 4 : 2;
    if (type == WK_KV_Q8_0) {
        uint8_t *p = ck_in(c, n / 32 * 34);
        for (size_t i = 0; i < n / 32; i++) {
            const wk_f16 d = nasty ? (wk_f16)ck_range(c, 0, 0x7bff) : wk_f32_to_f16(ck_gauss(c) * 0x1p-6f);
            memcpy(p + 2 * i, &d, 2);
        }
        for (size_t i = 0; i < n; i++) p[n / 16 + i] = (uint8_t)(int8_t)ck_range(c, -127, 127);
        return p;
    }
    uint8_t *p = ck_in(c, n * size);
    for (size_t i = 0; i < n; i++) {
        float x = ck_gauss(c);
        if (nasty && ck_range(c, 0, 3) == 0) x *= type == WK_KV_F16 ? 6000.0f : 1e9f;
        if (nasty && ck_range(c, 0, 3) == 0) x = ck_u32(c) & 1 ? 0.0f : -0x1p-24f;
        c->ref->kv_cast[type](p + i * size, &x, 1);
    }
    return p;
}

/* All kinds of visible ranges: empty, full, one slot, the causal edge, a window. */
static void ranges(ck *c, uint8_t *lo, uint8_t *hi, int n) {
    for (int i = 0; i < n; i++) {
        const int a = ck_range(c, 0, 63), b = ck_range(c, 0, 64);
        switch (ck_range(c, 0, 6)) {
        case 0: lo[i] = 0, hi[i] = 64; break;
        case 1: lo[i] = (uint8_t)a, hi[i] = (uint8_t)(a + 1); break;
        case 2: lo[i] = (uint8_t)a, hi[i] = (uint8_t)a; break;
        case 3: lo[i] = 0, hi[i] = (uint8_t)b; break;
        case 4: lo[i] = (uint8_t)a, hi[i] = 64; break;
        case 5: lo[i] = 64, hi[i] = 0; break;
        default: lo[i] = (uint8_t)(a < b ? a : b), hi[i] = (uint8_t)(a < b ? b : a); break;
        }
    }
}

/* A running maximum: the start value, an ordinary one, or a far one. */
static float maximum(ck *c) {
    switch (ck_range(c, 0, 3)) {
    case 0: return WK_ATTN_M0;
    case 1: return ck_gauss(c) * 100.0f;
    default: return ck_gauss(c);
    }
}

/* A running result as it may stand before a page. */
static void running(ck *c, const wk_partial *p, size_t n, size_t hd, ck_data data) {
    ck_floats(c, p->l, n, CK_GAUSS);
    ck_floats(c, p->o, n * hd, data);
    for (size_t j = 0; j < n; j++) {
        p->m[j] = maximum(c);
        if (p->m[j] > WK_ATTN_M0) continue;
        p->l[j] = 0.0f;
        memset(p->o + j * hd, 0, hd * 4);
    }
}

/* Products of the panels of 16 slots that a column sees, rubbish elsewhere: what a Q8_0 page begins with. */
static void products(ck *c, float *score, const wk_attn_page *a, int bad) {
    int lo = 64, hi = 0;
    for (int i = 0; i < a->n_col; i++) {
        if (a->hi[i] <= a->lo[i]) continue;
        lo = a->lo[i] < lo ? a->lo[i] : lo;
        hi = a->hi[i] > hi ? a->hi[i] : hi;
    }
    for (int i = 0; i < a->n_col * 64; i++) {
        const bool known = i % 64 >= lo / 16 * 16 && i % 64 < (hi + 15) / 16 * 16;
        score[i] = known && i / 64 != bad ? ck_gauss(c) * 4.0f : wk_f32_from_bits(0x7fc00000u);
    }
}

static void page_one(ck *c, wk_kv type, int n_col, int hd, int data) {
    const size_t n = (size_t)n_col, d = (size_t)hd;
    float *q = ck_in_floats(c, n * d, CK_GAUSS);
    uint8_t *lo = ck_in(c, n), *hi = ck_in(c, n);
    ranges(c, lo, hi, n_col);
    const int bad = data == 3 ? ck_range(c, 0, n_col - 1) : -1; /* a column with a NaN */
    if (bad >= 0)
        q[(size_t)bad * d + (size_t)ck_range(c, 0, hd - 1)] = wk_f32_from_bits(0x7fc00000u);
    const ck_pair m = ck_out(c, n * 4), l = ck_out(c, n * 4), o = ck_out(c, n * d * 4);
    const ck_pair score = ck_out(c, n * WK_KV_SLOTS * 4), wide = ck_out(c, d * WK_KV_SLOTS * 4);
    wk_attn_page a = {.n_col = n_col,
                      .hd = hd,
                      .type = type,
                      .merge = ck_u32(c) & 1,
                      .q = q,
                      .lo = lo,
                      .hi = hi,
                      .k = type == WK_KV_Q8_0 ? NULL : cache(c, type, d * 64, data == 1),
                      .v = cache(c, type, d * 64, data >= 1),
                      .scale = data == 2 ? 40.0f : 1.0f / sqrtf((float)hd)};
    if (ck_u32(c) & 1) {
        a.softcap = 50.0f;
        a.softcap_inv = 1.0f / 50.0f;
    }
    wk_partial want = {m.want, l.want, o.want}, got = {m.got, l.got, o.got};
    if (a.merge) {
        running(c, &want, n, d, CK_GAUSS);
        memcpy(m.got, m.want, m.bytes);
        memcpy(l.got, l.want, l.bytes);
        memcpy(o.got, o.want, o.bytes);
    }
    if (type == WK_KV_Q8_0) {
        products(c, score.want, &a, bad);
        memcpy(score.got, score.want, score.bytes);
    }
    a.score = score.want;
    a.wide = wide.want;
    c->ref->attn_page(&want, &a);
    a.score = score.got;
    a.wide = wide.got;
    c->k->attn_page(&got, &a);
    if (bad >= 0)
        ((float *)m.got)[bad] = ((float *)m.want)[bad]; /* the maximum of NaN is nobody's promise */
    memcpy(score.got, score.want, score.bytes);
    memcpy(wide.got, wide.want, wide.bytes);
    (void)(ck_same_f32(c, &m, "m") && ck_same_f32(c, &l, "l") && ck_same_f32(c, &o, "o") &&
           ck_same(c, &score, "score") && ck_same(c, &wide, "wide"));
}

static void page_bench(ck *c, wk_kv type, int n_col) {
    const int hd = 64;
    const size_t n = (size_t)n_col;
    c->n_slot = 0;
    float *q = ck_in_floats(c, n * 64, CK_GAUSS);
    uint8_t *lo = ck_in(c, n), *hi = ck_in(c, n);
    memset(lo, 0, n);
    memset(hi, 64, n);
    wk_attn_page a = {.n_col = n_col,
                      .hd = hd,
                      .type = type,
                      .q = q,
                      .lo = lo,
                      .hi = hi,
                      .scale = 0.125f,
                      .merge = true,
                      .k = cache(c, type, 64 * 64, false),
                      .v = cache(c, type, 64 * 64, false),
                      .wide = ck_in(c, 64 * 64 * 4),
                      .score = ck_in_floats(c, n * 64, CK_GAUSS)};
    /* with room behind: masked accesses that end at a guard page take the slow way (10 x on Zen 4) */
    wk_partial p = {ck_in(c, n * 4 + 64), ck_in(c, n * 4 + 64), ck_in(c, n * 64 * 4)};
    running(c, &p, n, 64, CK_GAUSS);
    const double bytes = type == WK_KV_Q8_0 ? 68.0 * 64 : 2.0 * 64 * 64 * (type == WK_KV_F32 ? 4 : 2);
    CK_BENCH(c,
             n_col == 1   ? "1 column, hd 64"
             : n_col == 3 ? "3 columns, hd 64"
             : n_col == 4 ? "4 columns, hd 64"
                          : "48 columns, hd 64",
             bytes, (type == WK_KV_Q8_0 ? 2.0 : 4.0) * 64 * 64 * n_col, c->k->attn_page(&p, &a));
}

static void body_page(ck *c, int type) {
    for (int i = 0; i < 500; i++) {
        const int any = head_dims[i % (int)WK_COUNT(head_dims)],
                  n = columns[i % (int)WK_COUNT(columns)];
        const int hd = type == WK_KV_Q8_0 ? (any + 31) / 32 * 32 : any;
        const int n_col = hd > 100 && n > 8 ? 8 : n;
        if (ck_case(c, "%d columns, head dim %d, data %d", n_col, hd, i / 2 % 4)) {
            page_one(c, (wk_kv)type, n_col, hd, i / 2 % 4);
        }
    }
    if (!c->bench) return;
    page_bench(c, (wk_kv)type, 1);
    page_bench(c, (wk_kv)type, 3);
    page_bench(c, (wk_kv)type, 4);
    page_bench(c, (wk_kv)type, 48);
}

static void body_merge(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 600; i++) {
        const int hd = head_dims[i % (int)WK_COUNT(head_dims)],
                  n_col = columns[i % (int)WK_COUNT(columns)];
        const size_t n = (size_t)n_col, d = (size_t)hd;
        if (!ck_case(c, "%d columns, head dim %d", n_col, hd)) continue;
        const ck_pair m = ck_out(c, n * 4), l = ck_out(c, n * 4), o = ck_out(c, n * d * 4);
        const wk_partial want = {m.want, l.want, o.want}, got = {m.got, l.got, o.got};
        const wk_partial p = {ck_in(c, n * 4), ck_in_floats(c, n, CK_GAUSS),
                              ck_in_floats(c, n * d, CK_GAUSS)};
        running(c, &want, n, d, i % 7 ? CK_GAUSS : CK_MIXED);
        for (size_t j = 0; j < n; j++) p.m[j] = ck_range(c, 0, 3) ? maximum(c) : want.m[j];
        memcpy(got.m, want.m, n * 4);
        memcpy(got.l, want.l, n * 4);
        memcpy(got.o, want.o, n * d * 4);
        wk_partial acc = want;
        c->ref->attn_merge(&acc, &p, n_col, hd);
        acc = got;
        c->k->attn_merge(&acc, &p, n_col, hd);
        (void)(ck_same_f32(c, &m, "m") && ck_same_f32(c, &l, "l") && ck_same_f32(c, &o, "o"));
    }
    if (!c->bench) return;
    c->n_slot = 0;
    wk_partial p = {ck_in_floats(c, 20, CK_GAUSS), ck_in_floats(c, 20, CK_GAUSS),
                    ck_in_floats(c, 256, CK_GAUSS)};
    wk_partial acc = {ck_in_floats(c, 20, CK_GAUSS), ck_in(c, 80), ck_in(c, 1024)};
    memset(acc.l, 0, 16);
    memset(acc.o, 0, 1024);
    CK_BENCH(c, "4 columns, hd 64", 0, 0, c->k->attn_merge(&acc, &p, 4, 64));
}

static void body_finish(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 300; i++) {
        const int hd = head_dims[i % (int)WK_COUNT(head_dims)],
                  n_col = columns[i % (int)WK_COUNT(columns)];
        const size_t n = (size_t)n_col, d = (size_t)hd, ld = d + (size_t)(i % 4 * 8);
        if (!ck_case(c, "%d columns, head dim %d, ld %zu", n_col, hd, ld)) continue;
        const wk_partial acc = {ck_in(c, n * 4), ck_in_floats(c, n, i % 3 ? CK_GAUSS : CK_MIXED),
                                ck_in_floats(c, n * d, i % 3 ? CK_GAUSS : CK_MIXED)};
        const ck_pair y = ck_out(c, ((n - 1) * ld + d) * 4);
        c->ref->attn_finish(y.want, ld, &acc, n_col, hd);
        c->k->attn_finish(y.got, ld, &acc, n_col, hd);
        ck_same_f32(c, &y, "dst");
    }
}

void ck_attn(ck *c) {
    static const char *const name[] = {"page f16", "page f32", "page bf16", "page q8_0"};
    const bool page = c->below && c->k->attn_page == c->below->attn_page;
    for (int i = 0; i < WK_KV_TYPE_COUNT; i++) ck_kernel(c, name[i], page, body_page, i);
    ck_kernel(c, "merge", c->below && c->k->attn_merge == c->below->attn_merge, body_merge, 0);
    ck_kernel(c, "finish", c->below && c->k->attn_finish == c->below->attn_finish, body_finish, 0);
}

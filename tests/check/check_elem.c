/* check_elem.c: sums, norm, rope, element functions, argmax, the cast to the cache type. */
#include <stdio.h>
#include <string.h>

#include "tests/check/check.h"

static const int sizes[] = {0,  1,  2,  3,  4,   7,   8,   9,   12,  15,  16, 17,
                            20, 23, 24, 25, 31,  32,  33,  40,  47,  48,  49, 63,
                            64, 65, 70, 96, 127, 128, 129, 255, 256, 257, 576};

static ck_data data_of(int i) { return (ck_data)(i % CK_DATA_COUNT); }

/* A copy of x as both outputs, for kernels that work in place. */
static ck_pair in_place(ck *c, const float *x, int n) {
    const ck_pair p = ck_out(c, (size_t)n * 4);
    if (n) memcpy(p.want, x, (size_t)n * 4);
    if (n) memcpy(p.got, x, (size_t)n * 4);
    return p;
}

/* ---- rows -------------------------------------------------------------------------------------- */

static void body_rms(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 900; i++) {
        const int n = i < 200 ? i + 1 : sizes[i % (int)WK_COUNT(sizes)] + 1;
        const float eps = i % 3 ? 1e-5f : 1e-6f;
        if (!ck_case(c, "n %d, data %d, %s", n, i % 3, i & 1 ? "in place" : "apart")) continue;
        const float *x = ck_in_floats(c, (size_t)n, data_of(i)),
                    *w = ck_in_floats(c, (size_t)n, data_of(i / 3));
        const ck_pair y = i & 1 ? in_place(c, x, n) : ck_out(c, (size_t)n * 4), r = ck_out(c, 4);
        c->ref->rms(y.want, i % 5 ? r.want : NULL, i & 1 ? y.want : x, w, n, eps);
        c->k->rms(y.got, i % 5 ? r.got : NULL, i & 1 ? y.got : x, w, n, eps);
        (void)(ck_same_f32(c, &y, "dst") && ck_same_f32(c, &r, "r"));
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *x = ck_in_floats(c, 2048, CK_GAUSS), *w = ck_in_floats(c, 2048, CK_GAUSS);
    float *y = ck_in(c, 2048 * 4);
    CK_BENCH(c, "2048", 2048.0 * 4, 0, c->k->rms(y, NULL, x, w, 2048, 1e-5f));
}

static void body_sum(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 400; i++) {
        const int n = i < 150 ? i : i < 390 ? sizes[i % (int)WK_COUNT(sizes)] : 4096 - i % 3;
        if (!ck_case(c, "n %d, data %d", n, i % 3)) continue;
        const float *x = ck_in_floats(c, (size_t)n, i % 3 == 2 ? CK_BITS : CK_GAUSS);
        const ck_pair s = ck_out(c, 4);
        *(float *)s.want = c->ref->sum(x, n);
        *(float *)s.got = c->k->sum(x, n);
        ck_same_f32(c, &s, "sum");
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *x = ck_in_floats(c, 4096, CK_GAUSS);
    volatile float sink;
    CK_BENCH(c, "4096", 4096.0 * 4, 0, sink = c->k->sum(x, 4096));
    (void)sink;
}

static void body_argmax(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 1200; i++) {
        const int n = i < 150 ? i : sizes[i % (int)WK_COUNT(sizes)];
        if (!ck_case(c, "n %d, data %d", n, i % 6)) continue;
        float *x = ck_in_floats(c, (size_t)n, i % 6 == 0 ? CK_BITS : CK_GAUSS);
        for (int j = 0; j < n; j++) {
            if (i % 6 == 1) x[j] = (float)ck_range(c, -2, 2); /* ties, both zeros */
            if (i % 6 == 1 && x[j] == 0.0f && ck_u32(c) & 1) x[j] = -0.0f;
            if (i % 6 == 2) x[j] = wk_f32_from_bits(0xffc00000u);
            if (i % 6 == 3) x[j] = wk_f32_from_bits(0xff800000u | (ck_range(c, 0, 3) ? 1u : 0u));
            if (i % 6 == 4) x[j] = ck_range(c, 0, 2) ? x[j] : wk_f32_from_bits(0x7fc00000u);
            if (i % 6 == 5) x[j] = -x[j] * x[j] - 1.0f;
        }
        if (n && i % 6 == 2 && i % 4 == 0) x[ck_range(c, 0, n - 1)] = -0x1.fffffep+127f;
        const int want = c->ref->argmax(x, n), got = c->k->argmax(x, n);
        if (want != got) ck_fail(c, "index %d, wanted %d", got, want);
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *x = ck_in_floats(c, 32768, CK_GAUSS);
    volatile int sink;
    CK_BENCH(c, "32768", 32768.0 * 4, 0, sink = c->k->argmax(x, 32768));
    (void)sink;
}

static void body_rope(ck *c, int kind) {
    static const int dims[] = {2, 4, 6, 8, 16, 20, 32, 40, 64, 80, 96, 112, 128, 256};
    for (int i = 0; i < 420; i++) {
        const int hd = dims[i % (int)WK_COUNT(dims)], n_head = ck_range(c, 1, 5);
        const int n_rot = i % 3 == 0 ? hd : i % 3 == 1 ? hd / 4 * 2 : 2 * ck_range(c, 0, hd / 2);
        if (!ck_case(c, "%d heads of %d, %d turned, data %d", n_head, hd, n_rot, i / 3 % 3))
            continue;
        const float *x = ck_in_floats(c, (size_t)(n_head * hd), data_of(i / 3));
        const float *cs = ck_in_floats(c, (size_t)n_rot, i % 2 ? CK_GAUSS : CK_MIXED);
        const ck_pair y = in_place(c, x, n_head * hd);
        c->ref->rope[kind](y.want, cs, n_head, hd, n_rot);
        c->k->rope[kind](y.got, cs, n_head, hd, n_rot);
        ck_same_f32(c, &y, "x");
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *cs = ck_in_floats(c, 64, CK_GAUSS);
    float *x = ck_in_floats(c, 32 * 64, CK_GAUSS);
    for (int i = 0; i < 32; i++) ((float *)cs)[i] = 1.0f, ((float *)cs)[i + 32] = 0.0f;
    CK_BENCH(c, "32 x 64", 32.0 * 64 * 4, 0, c->k->rope[kind](x, cs, 32, 64, 64));
}

/* ---- element functions ------------------------------------------------------------------------- */

typedef enum fn { FN_SILU, FN_GELU_TANH, FN_ADD, FN_SCALE, FN_FMA, FN_SOFTCAP, FN_EXP_SCALED, FN_COUNT } fn;
static const char *const fn_name[] = {"silu", "gelu_tanh", "add", "scale",
                                      "fma",  "softcap",   "exp_scaled"};

typedef struct fn_args {
    float c, c_inv, max;
} fn_args;

static void call(const wk_kernels *k, fn f, float *dst, const float *a, const float *b, int n,
                 fn_args v) {
    switch (f) {
    case FN_SILU: k->glu[WK_FN_SILU](dst, a, b, n); break;
    case FN_GELU_TANH: k->glu[WK_FN_GELU_TANH](dst, a, b, n); break;
    case FN_ADD: k->add(dst, a, b, n); break;
    case FN_SCALE: k->scale(dst, a, v.c, n); break;
    case FN_FMA: k->fma(dst, a, b, v.c, n); break;
    case FN_SOFTCAP: k->softcap(dst, a, v.c, v.c_inv, n); break;
    default: k->exp_scaled(dst, a, v.max, v.c, n); break;
    }
}

static fn_args args_of(ck *c, fn f, int i) {
    static const float caps[] = {30.0f, 50.0f, 1.0f, 0.7f};
    const float cap = caps[i & 3];
    if (f == FN_SOFTCAP) return (fn_args){cap, 1.0f / cap, 0.0f};
    if (f == FN_SCALE || f == FN_FMA) return (fn_args){i % 4 ? ck_gauss(c) : 0x1p-130f, 0.0f, 0.0f};
    return (fn_args){i % 3 ? 1.0f : 1.25f, 0.0f, i % 4 ? 0.0f : ck_gauss(c)};
}

/* The range in which a function has a shape; CK_BITS elsewhere. */
static void shape_range(ck *c, float *x, int n, int i) {
    static const float width[] = {1.0f, 10.0f, 45.0f, 100.0f};
    for (int j = 0; j < n; j++) x[j] = ck_gauss(c) * width[i & 3];
}

static void body_fn(ck *c, int arg) {
    const fn f = (fn)arg;
    for (int i = 0; i < 1500; i++) {
        const int n = i < 300 ? i % 100 : sizes[i % (int)WK_COUNT(sizes)];
        const int alias = f == FN_SOFTCAP || f == FN_EXP_SCALED ? 0 : i % (f == FN_SCALE ? 2 : 3);
        if (!ck_case(c, "n %d, data %d, %s", n, i % 5, alias ? "in place" : "apart")) continue;
        float *a = ck_in_floats(c, (size_t)n, data_of(i)),
              *b = ck_in_floats(c, (size_t)n, data_of(i / 3));
        if (i % 5 > 1) shape_range(c, a, n, i);
        const ck_pair y = alias ? in_place(c, alias == 1 ? a : b, n) : ck_out(c, (size_t)n * 4);
        const fn_args v = args_of(c, f, i);
        call(c->ref, f, y.want, alias == 1 ? y.want : a, alias == 2 ? y.want : b, n, v);
        call(c->k, f, y.got, alias == 1 ? y.got : a, alias == 2 ? y.got : b, n, v);
        ck_same_f32(c, &y, "dst");
    }
    if (!c->bench) return;
    c->n_slot = 0;
    float *a = ck_in_floats(c, 2048, CK_GAUSS), *b = ck_in_floats(c, 2048, CK_GAUSS),
          *y = ck_in(c, 2048 * 4);
    const fn_args v = args_of(c, f, 1);
    CK_BENCH(c, "2048", 2048.0 * 4, 0, call(c->k, f, y, a, b, 2048, v));
}

/* All exponents, both signs; with --long every one of the 2^32 values. */
static void body_fn_sweep(ck *c, int arg) {
    enum { N = 4096 };
    const fn f = (fn)arg;
    const uint32_t step = c->exhaustive ? 1 : 5003;
    const fn_args v = {1.0f, 1.0f, 0.0f};
    for (uint64_t base = 0; base < 0x100000000u; base += (uint64_t)step * N) {
        if (!ck_case(c, "bits %08x on, step %u", (unsigned)base, (unsigned)step)) continue;
        float *x = ck_in(c, N * 4), *one = ck_in(c, N * 4);
        for (uint32_t i = 0; i < N; i++) {
            x[i] = wk_f32_from_bits((uint32_t)base + i * step);
            one[i] = 1.0f;
        }
        const ck_pair y = ck_out(c, N * 4);
        call(c->ref, f, y.want, x, one, N, v);
        call(c->k, f, y.got, x, one, N, v);
        ck_same_f32(c, &y, "dst");
    }
}

static void run_fn(ck *c, fn f, bool inherited) {
    char name[32];
    ck_kernel(c, fn_name[f], inherited, body_fn, (int)f);
    if (f == FN_ADD || f == FN_SCALE || f == FN_FMA) return;
    snprintf(name, sizeof(name), "%s sweep", fn_name[f]);
    ck_kernel(c, name, inherited, body_fn_sweep, (int)f);
}

/* ---- the cast ---------------------------------------------------------------------------------- */

static void body_kv_cast(ck *c, int type) {
    const size_t size = type == WK_KV_F32 ? 4 : 2;
    for (int i = 0; i < 1500; i++) {
        const int any = i < 300 ? i % 100 : sizes[i % (int)WK_COUNT(sizes)];
        const int n = type == WK_KV_Q8_0 ? any / 32 * 32 : any;
        if (!ck_case(c, "n %d, data %d", n, i % 4)) continue;
        float *x = ck_in_floats(c, (size_t)n, data_of(i % 4));
        for (int j = 0; j < n && i % 4 == 3;
             j++) { /* halfway cases, denormal halves, the way to Inf */
            const uint32_t u = ck_u32(c);
            const uint32_t e = (uint32_t)ck_range(c, 100, 144), tail = u & 1   ? 0x1000u
                                                                       : u & 2 ? 0x8000u
                                                                               : 0xfffu;
            x[j] = wk_f32_from_bits((u & 0x807f0000u) | (e << 23) | tail);
        }
        const ck_pair y = ck_out(c, type == WK_KV_Q8_0 ? (size_t)n / 32 * 34 : (size_t)n * size);
        const int want = c->ref->kv_cast[type](y.want, x, n),
                  got = c->k->kv_cast[type](y.got, x, n);
        if (ck_same(c, &y, "dst") && want != got) ck_fail(c, "count %d, wanted %d", got, want);
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *x = ck_in_floats(c, 2048, CK_GAUSS);
    float *y = ck_in(c, 2048 * 4);
    CK_BENCH(c, "2048", 2048.0 * 4, 0, c->k->kv_cast[type](y, x, 2048));
}

void ck_elem(ck *c) {
    const wk_kernels *k = c->k, *b = c->below;
    static const char *const kv[] = {"kv_cast f16", "kv_cast f32", "kv_cast bf16",
                                     "kv_cast q8_0"};
    ck_kernel(c, "rms", b && k->rms == b->rms, body_rms, 0);
    ck_kernel(c, "sum", b && k->sum == b->sum, body_sum, 0);
    ck_kernel(c, "argmax", b && k->argmax == b->argmax, body_argmax, 0);
    for (int i = 0; i < WK_ROPE_COUNT; i++) {
        ck_kernel(c, i ? "rope neighbours" : "rope halves", b && k->rope[i] == b->rope[i],
                  body_rope, i);
    }
    run_fn(c, FN_SILU, b && k->glu[WK_FN_SILU] == b->glu[WK_FN_SILU]);
    run_fn(c, FN_GELU_TANH, b && k->glu[WK_FN_GELU_TANH] == b->glu[WK_FN_GELU_TANH]);
    run_fn(c, FN_ADD, b && k->add == b->add);
    run_fn(c, FN_SCALE, b && k->scale == b->scale);
    run_fn(c, FN_FMA, b && k->fma == b->fma);
    run_fn(c, FN_SOFTCAP, b && k->softcap == b->softcap);
    run_fn(c, FN_EXP_SCALED, b && k->exp_scaled == b->exp_scaled);
    for (int i = 0; i < WK_KV_TYPE_COUNT; i++)
        ck_kernel(c, kv[i], b && k->kv_cast[i] == b->kv_cast[i], body_kv_cast, i);
}

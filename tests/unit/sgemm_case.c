/* sgemm_case.c: operands in exact allocations, and the products one element at a time. */
#include "tests/unit/sgemm_case.h"

#include <math.h>
#include <string.h>

#include "engine/base/arena.h"
#include "tests/unit/unit.h"

float sgemm_case_next(uint32_t *s) {
    *s = *s * 1664525u + 1013904223u;
    return (float)(int32_t)(*s >> 8) * 0x1p-23f - 1.0f;
}

float *sgemm_case_floats(uint32_t *seed, size_t n) {
    float *p = (float *)wk_alloc(n * sizeof(float));
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) p[i] = sgemm_case_next(seed);
    return p;
}

static size_t extent(int32_t rows, size_t ld, int32_t cols) {
    return rows && cols ? (size_t)(rows - 1) * ld + (size_t)cols : 0;
}

static float a_at(const wk_sgemm_call *c, int32_t i, int32_t k) {
    return c->a[c->op == WK_SGEMM_TN ? (size_t)k * c->lda + (size_t)i : (size_t)i * c->lda + (size_t)k];
}

static float b_at(const wk_sgemm_call *c, int32_t j, int32_t k) {
    return c->b[c->op == WK_SGEMM_NT ? (size_t)j * c->ldb + (size_t)k : (size_t)k * c->ldb + (size_t)j];
}

static float element(const wk_sgemm_call *c, int32_t i, int32_t j) {
    float acc = c->add ? c->c[(size_t)i * c->ldc + (size_t)j] : 0.0f;
    for (int32_t k0 = 0; k0 < c->k; k0 += 64) {
        float sum = 0.0f;
        for (int32_t k = k0; k < c->k && k < k0 + 64; k++) sum = fmaf(b_at(c, j, k), a_at(c, i, k), sum);
        acc = acc + sum;
    }
    return acc;
}

/* Of a value in -1 .. 1 that is no denormal: add half a unit, or a little less where the last bit is even, and cut. */
static float rounded(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000;
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* The upper one of two k comes first, chunks of 128. */
static float element_bf16(const wk_sgemm_call *c, int32_t i, int32_t j) {
    float acc = c->add ? c->c[(size_t)i * c->ldc + (size_t)j] : 0.0f;
    for (int32_t k0 = 0; k0 < c->k; k0 += 128) {
        float sum = 0.0f;
        for (int32_t k = k0; k < c->k && k < k0 + 128; k += 2) {
            if (k + 1 < c->k) sum = fmaf(rounded(a_at(c, i, k + 1)), rounded(b_at(c, j, k + 1)), sum);
            sum = fmaf(rounded(a_at(c, i, k)), rounded(b_at(c, j, k)), sum);
        }
        acc = acc + sum;
    }
    return acc;
}

void sgemm_case_make(sgemm_case *o, wk_sgemm_op op, sgemm_shape s, bool add, size_t gap) {
    const int32_t a_cols = op == WK_SGEMM_TN ? s.m : s.k, b_cols = op == WK_SGEMM_NT ? s.k : s.n;
    const int32_t a_rows = op == WK_SGEMM_TN ? s.k : s.m, b_rows = op == WK_SGEMM_NT ? s.n : s.k;
    wk_sgemm_call *c = &o->call;
    *c = (wk_sgemm_call){.op = op, .m = s.m, .n = s.n, .k = s.k, .add = add};
    c->lda = (size_t)a_cols + gap;
    c->ldb = (size_t)b_cols + 2 * gap;
    c->ldc = (size_t)s.n + 3 * gap;
    o->n_c = 2 * SGEMM_GUARD + extent(s.m, c->ldc, s.n);
    c->a = o->a = sgemm_case_floats(&o->seed, extent(a_rows, c->lda, a_cols));
    c->b = o->b = sgemm_case_floats(&o->seed, extent(b_rows, c->ldb, b_cols));
    o->before = sgemm_case_floats(&o->seed, o->n_c);
    o->want = sgemm_case_floats(&o->seed, o->n_c);
    o->c = sgemm_case_floats(&o->seed, o->n_c);
    memcpy(o->want, o->before, o->n_c * sizeof(float));
    c->c = o->before + SGEMM_GUARD;
    for (int32_t i = 0; i < s.m; i++)
        for (int32_t j = 0; j < s.n; j++)
            o->want[SGEMM_GUARD + (size_t)i * c->ldc + (size_t)j] = (o->bf16 ? element_bf16 : element)(c, i, j);
    c->c = o->c + SGEMM_GUARD;
}

void sgemm_case_free(sgemm_case *o) {
    wk_free(o->a);
    wk_free(o->b);
    wk_free(o->c);
    wk_free(o->want);
    wk_free(o->before);
}

void sgemm_case_fail(const sgemm_case *o, const char *level, int n_thread) {
    const wk_sgemm_call *c = &o->call;
    size_t at = 0;
    while (!memcmp(&o->c[at], &o->want[at], sizeof(float))) at++;
    fail_msg("op %d m %d n %d k %d add %d ldc %zu, %s, %d threads: value %td of C is %a, not %a", (int)c->op,
             (int)c->m, (int)c->n, (int)c->k, (int)c->add, c->ldc, level, n_thread, (ptrdiff_t)at - SGEMM_GUARD,
             (double)o->c[at], (double)o->want[at]);
}

double sgemm_case_distance(const sgemm_case *o) {
    double d = 0, all = 0;
    for (size_t i = 0; i < o->n_c; i++) {
        const double e = (double)o->c[i] - (double)o->want[i];
        d += e * e;
        all += (double)o->want[i] * (double)o->want[i];
    }
    return sqrt(d / all);
}

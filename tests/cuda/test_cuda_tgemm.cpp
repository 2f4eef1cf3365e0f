/* test_cuda_tgemm.cpp: the products of training, in f32 and in bf16, against sums in double: every order, both tile
 * sizes, edges, operands that begin anywhere; the same bits twice. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <vector>

extern "C" {
#include <cmocka.h>
}
#include "engine/base/half.h"
#include "gpu/cuda/grad/tkernels.h"

typedef std::vector<float> floats;

static float uniform(void) {
    static uint32_t seed = 1;
    seed = seed * 1664525u + 1013904223u;
    return (float)((int)((seed >> 8) % 20001) - 10000) * 1e-4f;
}
static floats random_floats(size_t n) {
    floats x(n);
    for (float &v : x) v = uniform();
    return x;
}
/* off: values before the first. */
static float *on_device(const floats &x, size_t off) {
    float *p = nullptr;
    assert_int_equal(cudaMalloc(&p, (off + x.size() + 1) * sizeof(float)), cudaSuccess);
    if (!x.empty())
        assert_int_equal(cudaMemcpy(p + off, x.data(), x.size() * sizeof(float), cudaMemcpyHostToDevice), cudaSuccess);
    return p;
}
static double value(float x, bool bf16) { return bf16 ? wk_bf16_to_f32(wk_f32_to_bf16(x)) : x; }

struct product {
    wkc_gemm_op op;
    int m, n, k;
    float alpha;
    bool add, bf16;
    size_t off;
};

static floats multiply(const product &p, const floats &a, const floats &b, const floats &c0) {
    float *da = on_device(a, p.off), *db = on_device(b, p.off), *dc = on_device(c0, p.off);
    floats c(c0.size());
    (p.bf16 ? wkc_tgemm_bf16 : wkc_tgemm)(nullptr, p.op, p.m, p.n, p.k, p.alpha, da + p.off, db + p.off, p.add, dc + p.off);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    if (!c.empty())
        assert_int_equal(cudaMemcpy(c.data(), dc + p.off, c.size() * sizeof(float), cudaMemcpyDeviceToHost), cudaSuccess);
    cudaFree(da), cudaFree(db), cudaFree(dc);
    return c;
}

static void check(const product &p) {
    const int m = p.m, n = p.n, k = p.k;
    const floats a = random_floats((size_t)m * k), b = random_floats((size_t)n * k), c0 = random_floats((size_t)m * n);
    const floats c = multiply(p, a, b, c0);
    double e = 0, s = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double x = 0;
            for (int d = 0; d < k; d++)
                x += value(a[p.op == WKC_GEMM_TN ? (size_t)d * m + i : (size_t)i * k + d], p.bf16) *
                     value(b[p.op == WKC_GEMM_NT ? (size_t)j * k + d : (size_t)d * n + j], p.bf16);
            x = x * (double)p.alpha + (p.add ? (double)c0[(size_t)i * n + j] : 0.0);
            const double y = (double)c[(size_t)i * n + j] - x;
            e += y * y, s += x * x;
        }
    if (!(e <= 1e-12 * s)) fail_msg("op %d, %d x %d x %d, bf16 %d: %g", (int)p.op, m, n, k, (int)p.bf16, e / s);
    if (p.add) return;
    const floats again = multiply(p, a, b, c0);
    if (!c.empty()) assert_memory_equal(c.data(), again.data(), c.size() * sizeof(float));
}

static void test_small(void **state) {
    (void)state;
    static const int shape[][3] = {{1, 1, 1}, {64, 64, 16}, {65, 63, 17}, {3, 130, 40}, {130, 5, 33}, {64, 64, 64}, {72, 68, 100},
                                   {7, 9, 0}, {0, 5, 3}, {5, 0, 3}, {66, 70, 31}};
    for (int op = 0; op < 3; op++)
        for (const int *s : shape)
            for (int i = 0; i < 8; i++)
                check({(wkc_gemm_op)op, s[0], s[1], s[2], i % 2 ? 0.5f : 1.0f, i % 2 != 0, i / 2 % 2 != 0, (size_t)(i / 4)});
}
static void test_large(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++)
        check({(wkc_gemm_op)(i / 2), 128 * 10 + 5, 128 * 11 + 3, 19, 2.0f, i / 2 == 1, i % 2 != 0, 0});
    for (int op = 0; op < 3; op++) check({(wkc_gemm_op)op, 128 * 12, 128 * 11, 68, 1.0f, op == 2, true, 0});
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small), cmocka_unit_test(test_large)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

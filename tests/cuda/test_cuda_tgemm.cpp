/* test_cuda_tgemm.cpp: the f32 products of training against sums in double: every order, both tile sizes, edges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <vector>

extern "C" {
#include <cmocka.h>
}
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
static float *on_device(const floats &x) {
    float *p = nullptr;
    assert_int_equal(cudaMalloc(&p, x.size() * sizeof(float)), cudaSuccess);
    assert_int_equal(cudaMemcpy(p, x.data(), x.size() * sizeof(float), cudaMemcpyHostToDevice), cudaSuccess);
    return p;
}

static void check(wkc_gemm_op op, int m, int n, int k, float alpha, bool add) {
    const floats a = random_floats((size_t)m * k), b = random_floats((size_t)n * k), c0 = random_floats((size_t)m * n);
    float *da = on_device(a), *db = on_device(b), *dc = on_device(c0);
    floats c(c0.size());
    wkc_tgemm(nullptr, op, m, n, k, alpha, da, db, add, dc);
    assert_int_equal(cudaMemcpy(c.data(), dc, c.size() * sizeof(float), cudaMemcpyDeviceToHost), cudaSuccess);
    double e = 0, s = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double x = 0;
            for (int d = 0; d < k; d++)
                x += (double)a[op == WKC_GEMM_TN ? (size_t)d * m + i : (size_t)i * k + d] *
                     (double)b[op == WKC_GEMM_NT ? (size_t)j * k + d : (size_t)d * n + j];
            x = x * (double)alpha + (add ? (double)c0[(size_t)i * n + j] : 0.0);
            e += ((double)c[(size_t)i * n + j] - x) * ((double)c[(size_t)i * n + j] - x), s += x * x;
        }
    if (!(e <= 1e-12 * s)) fail_msg("op %d, %d x %d x %d: %g", (int)op, m, n, k, e / s);
    cudaFree(da), cudaFree(db), cudaFree(dc);
}

static void test_small(void **state) {
    (void)state;
    static const int shape[][3] = {{1, 1, 1}, {64, 64, 16}, {65, 63, 17}, {3, 130, 40}, {130, 5, 33}};
    for (int op = 0; op < 3; op++)
        for (const int *s : shape)
            for (int add = 0; add < 2; add++) check((wkc_gemm_op)op, s[0], s[1], s[2], add ? 0.5f : 1.0f, add);
}
static void test_large(void **state) {
    (void)state;
    for (int op = 0; op < 3; op++) check((wkc_gemm_op)op, 128 * 10 + 5, 128 * 11 + 3, 19, 2.0f, op == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small), cmocka_unit_test(test_large)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

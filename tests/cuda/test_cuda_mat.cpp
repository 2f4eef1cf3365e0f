/* test_cuda_mat.cpp: the matrix kernels of gpu/cuda on the emulator: every format, from file bytes through repacking to
 * products and embeddings, against plain double sums over decoded weights and the CPU's quantised activations. So what is
 * left as a difference is the order of the float sums: NMSE 1e-10, far below the 1e-6 that a device is allowed. Memory of
 * the device ends at a page that cannot be touched. WKC_EMU_REVERSE=1 runs everything in the opposite order. */
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>

#include <vector>

extern "C" {
#include <cmocka.h>

#include "simd/kernels.h"
#include "simd/quant/quant.h"
#include "simd/ref/ref.h"
}
#include "gpu/cuda/matrix.h"

typedef std::vector<float> floats;

static uint32_t seed = 1;
static uint32_t rnd(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}
static float uniform(void) { return (float)((int)(rnd() % 20001) - 10000) * 1e-4f; }

/* ---- a matrix with its file bytes, on the device, and as f32 ------------------------------------------------------ */

struct matrix {
    wk_weight w;
    std::vector<uint8_t> file;
    wkc_mat m;
    uint8_t *p;
};

/* Random codes; scales are finite, of either sign. */
static void fill_row(uint8_t *row, int fmt, int k) {
    const wk_format *f = &wk_formats[fmt];
    const wk_layout *l = wk_format_layout(fmt);
    for (size_t i = 0; i < wk_row_bytes(fmt, (size_t)k); i++) row[i] = (uint8_t)rnd();
    for (int b = 0; b < k / f->block; b++)
        for (int i = 0; i < l->n_field; i++)
            for (int j = 0; j < l->field[i].count; j++) {
                uint8_t *p = row + (size_t)b * f->bytes + l->field[i].at + j * l->field[i].unit;
                const float v = uniform();
                const wk_f16 h = wk_f32_to_f16(v), g = wk_f32_to_bf16(v);
                if (l->field[i].value == WK_UNIT_F16) memcpy(p, &h, 2);
                if (l->field[i].value == WK_UNIT_BF16) memcpy(p, &g, 2);
                if (l->field[i].value == WK_UNIT_F32) memcpy(p, &v, 4);
                if (l->field[i].value == WK_UNIT_E8M0) *p = (uint8_t)(rnd() % 8 ? 120 + rnd() % 8 : rnd() % 3);
            }
}

/* Rows in two pieces through one stage. */
static bool upload(matrix *x, int32_t *bad, int n_thread = 1) {
    const int32_t piece = (x->m.n_row + 1) / 2;
    uint8_t *stage;
    cudaStream_t s;
    cudaStreamCreate(&s);
    assert_int_equal(cudaMallocHost(&stage, wkc_stage_bytes(&x->w, piece)), 0);
    bool ok = true;
    for (int32_t row = 0; ok && row < x->m.n_row; row += piece) {
        const int32_t left = x->m.n_row - row;
        ok = wkc_mat_upload(&x->m, &x->w, row, left < piece ? left : piece, stage, n_thread, s, bad);
        cudaStreamSynchronize(s);
    }
    cudaFreeHost(stage);
    cudaStreamDestroy(s);
    return ok;
}

static void make(matrix *x, int fmt, int n_row, int k, int unrotate) {
    const size_t bytes = wk_row_bytes(fmt, (size_t)k);
    x->file.resize(bytes * (size_t)n_row);
    for (int i = 0; i < n_row; i++) fill_row(x->file.data() + bytes * (size_t)i, fmt, k);
    memset(&x->w, 0, sizeof(x->w));
    x->w.data = x->file.data();
    x->w.fmt = fmt, x->w.n_row = n_row, x->w.k = k, x->w.unrotate = unrotate, x->w.row_bytes = bytes;
    const size_t size = wkc_mat_bytes(&x->w);
    assert_true(size > 0 && size % 256 == 0);
    assert_int_equal(cudaMalloc(&x->p, size), 0);
    wkc_mat_init(&x->m, &x->w, x->p);
}

static floats decoded(const matrix &x) {
    floats f((size_t)x.w.n_row * (size_t)x.w.k);
    for (int32_t i = 0; i < x.w.n_row; i++)
        wk_formats[x.w.fmt].decode(f.data() + (size_t)i * (size_t)x.w.k,
                                   x.w.data + (size_t)wk_weight_row(&x.w, i) * x.w.row_bytes, x.w.k);
    return f;
}

/* ---- activations: the CPU's, to which the device's must be equal ----------------------------------------------------- */

struct acts {
    int type, n, k;
    floats x, value; /* as given, as quantised */
    std::vector<int8_t> q;
    floats d;
    std::vector<int16_t> s16;
};

static void reference(acts *a) {
    wk_kernels ref;
    wk_fill_quant_ref(&ref);
    const size_t n = (size_t)a->n, k = (size_t)a->k, block = (size_t)wkc_act_block(a->type);
    std::vector<int8_t> q(n * k);
    floats d(n * k / 32), f32s(n * k / 32);
    std::vector<int32_t> z32(n * k / 32), z16(n * k / 16);
    std::vector<int16_t> s32(n * k / 32), s16(n * k / 16);
    wk_act act = {a->n, a->k, k, k / 32, NULL, q.data(), d.data(), z32.data(), z16.data(), f32s.data(), s32.data(), s16.data()};
    for (int t = 0; t < a->n; t++)
        ref.quant[a->type == WK_VAL_A256 ? WK_X_A256 : WK_X_A32](&act, t, a->x.data() + (size_t)t * k, a->k);
    a->q = q;
    for (size_t i = 0; i < n * k / 16; i++) {
        int sum = 0;
        for (size_t j = 0; j < 16; j++) sum += q[16 * i + j];
        a->s16.push_back((int16_t)sum);
    }
    for (size_t t = 0; t < n; t++)
        for (size_t b = 0; b < k / block; b++) a->d.push_back(d[t * (k / 32) + b]);
    a->value.resize(n * k);
    for (size_t i = 0; i < n * k; i++) a->value[i] = a->d[i / k * (k / block) + i % k / block] * (float)q[i];
}

static acts activations(int type, int n, int k) {
    acts a;
    a.type = type, a.n = n, a.k = k;
    for (int i = 0; i < n * k; i++) a.x.push_back(uniform() * (i % 97 == 0 ? 10.0f : 1.0f));
    a.value = a.x;
    if (type != WK_VAL_F32) reference(&a);
    return a;
}

template <class T> static T *put(const std::vector<T> &v) {
    T *p;
    assert_int_equal(cudaMalloc(&p, v.size() * sizeof(T)), 0);
    cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice);
    return p;
}
template <class T> static std::vector<T> get(const void *p, size_t n) {
    std::vector<T> v(n);
    cudaDeviceSynchronize();
    cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost);
    return v;
}

/* The value on the device, with room for more rows than there are. */
static void *put_acts(const acts &a, size_t rows) {
    if (a.type == WK_VAL_F32) return put(a.x);
    float *x = put(a.x);
    uint8_t *p;
    assert_int_equal(cudaMalloc(&p, wkc_act_bytes(a.type, a.k, rows)), 0);
    wkc_quant(NULL, a.type, x, a.n, a.k, rows, p);
    cudaDeviceSynchronize();
    cudaFree(x);
    return p;
}

/* ---- the tests ------------------------------------------------------------------------------------------------------- */

static int type_of(int fmt) {
    const int act = wk_formats[fmt].act;
    return act == WK_X_A32 ? WK_VAL_A32 : act == WK_X_A256 ? WK_VAL_A256 : WK_VAL_F32;
}

/* NMSE of the product against double sums; rows of zeros must be exact. */
static void check_product(const matrix &x, const floats &w, int n, bool extra_rows) {
    const int k = x.w.k, n_row = x.w.n_row, guard = 64;
    const acts a = activations(type_of(x.w.fmt), n, k);
    const size_t rows = (size_t)n + (extra_rows ? 3 : 0), size = (size_t)n * (size_t)n_row;
    void *p = put_acts(a, rows);
    float *dst = put(floats(size + guard, 7.0f));
    wkc_matmul(NULL, &x.m, p, a.type, n, rows, dst + guard, NULL);
    const floats y = get<float>(dst, size + guard);
    for (int i = 0; i < guard; i++) assert_true(y[(size_t)i] == 7.0f);
    double err = 0.0, all = 0.0;
    for (int t = 0; t < n; t++)
        for (int r = 0; r < n_row; r++) {
            double sum = 0.0;
            for (int i = 0; i < k; i++)
                sum += (double)w[(size_t)r * (size_t)k + (size_t)i] * (double)a.value[(size_t)t * (size_t)k + (size_t)i];
            const double e = sum - (double)y[(size_t)guard + (size_t)t * (size_t)n_row + (size_t)r];
            err += e * e, all += sum * sum;
        }
    if (!(err <= 1e-10 * all))
        fail_msg("%s: %d x %d, %d tokens: NMSE %g", wk_formats[x.w.fmt].name, n_row, k, n, err / all);
    cudaFree(p);
    cudaFree(dst);
}

static void check_shape(int fmt, int n_row, int k, const int *n, int count) {
    matrix x;
    int32_t bad = -1;
    make(&x, fmt, n_row, k, 0);
    assert_true(upload(&x, &bad));
    const floats w = decoded(x);
    for (int i = 0; i < count; i++) check_product(x, w, n[i], i % 2);
    cudaFree(x.p);
}

/* Every number of tokens with one number of rows, every number of rows with some tokens, k from one block to several
 * stages. `test_cuda_mat all`: everything with everything, minutes; another word: the test of that name. */
static bool everything;
static void test_products(void **state) {
    (void)state;
    const int all[] = {1, 2, 3, 7, 8, 9, 16, 17, 33}, some[] = {2, 9}, many[] = {130}, n_row[] = {1, 15, 16, 17, 48, 130};
    for (int fmt = 0; fmt < WK_FMT_COUNT; fmt++) {
        const int block = wk_formats[fmt].block == 1 ? 32 : wk_formats[fmt].block;
        for (int i = 0; i < (int)WK_COUNT(n_row); i++)
            for (int b = 1; b <= 3; b++) {
                const bool whole = everything || (n_row[i] == 17 && b == 3);
                if (!whole && b != 1 + i % 3) continue;
                check_shape(fmt, n_row[i], b * block, whole ? all : some, (int)(whole ? WK_COUNT(all) : WK_COUNT(some)));
            }
        check_shape(fmt, 5, 2304, some, (int)WK_COUNT(some)); /* 72 units: warps share k */
        check_shape(fmt, 70, 256, many, (int)WK_COUNT(many));
    }
}

/* However many threads repack: the same bytes, and the same first row that is not finite. */
static void test_threads(void **state) {
    (void)state;
    for (int fmt = 0; fmt < WK_FMT_COUNT; fmt++) {
        matrix x;
        int32_t bad = -1;
        make(&x, fmt, 601, 2304, 0);
        const size_t n = wkc_mat_bytes(&x.w);
        std::vector<uint8_t> want(n), got(n);
        for (int n_thread : {1, 2, 7, 100}) {
            assert_int_equal(cudaMemset(x.p, 0x5a, n), 0);
            assert_true(upload(&x, &bad, n_thread));
            assert_int_equal(cudaMemcpy(got.data(), x.p, n, cudaMemcpyDeviceToHost), 0);
            if (n_thread == 1) want = got;
            assert_memory_equal(got.data(), want.data(), n);
        }
        if (fmt != WK_FMT_F32) {
            cudaFree(x.p);
            continue;
        }
        for (int row : {290, 288, 12, 0}) {
            const float nan = NAN;
            memcpy(x.file.data() + x.w.row_bytes * (size_t)row + 400, &nan, 4);
            for (int n_thread : {1, 2, 7}) {
                bad = -1;
                assert_false(upload(&x, &bad, n_thread));
                assert_int_equal(bad, row);
            }
        }
        cudaFree(x.p);
    }
}

/* Rows of k that nothing divides. */
static void test_float_lengths(void **state) {
    (void)state;
    const int n[] = {1, 3, 9, 70};
    for (int fmt = WK_FMT_F32; fmt <= WK_FMT_BF16; fmt++)
        for (int k : {1, 4, 15, 66, 1028, 1031}) check_shape(fmt, 19, k, n, 4);
}

static void test_quant(void **state) {
    (void)state;
    for (int type : {(int)WK_VAL_A32, (int)WK_VAL_A256})
        for (int k : {256, 768, 1024})
            for (int kk = type == WK_VAL_A32 ? k - 96 : k, i = 0; i < 1; i++) {
                acts a = activations(type, 5, kk);
                const size_t size = (size_t)kk;
                for (size_t j = 0; j < 256 && j < size; j++) a.x[size + j] = 0.0f, a.x[2 * size + j] *= 1e-38f;
                a.x[3 * size + 5] = INFINITY, a.x[4 * size + 40] = NAN, a.x[3 * size + 70] = -0.0f;
                a.d.clear(), a.s16.clear();
                reference(&a);
                uint8_t *p = (uint8_t *)put_acts(a, 9);
                const wkc_a v = wkc_act_of(type, p, kk, 9);
                assert_memory_equal(get<int8_t>(v.q, a.q.size()).data(), a.q.data(), a.q.size());
                assert_memory_equal(get<int16_t>(v.s16, a.s16.size()).data(), a.s16.data(), 2 * a.s16.size());
                const floats d = get<float>(v.d, a.d.size());
                for (size_t j = 0; j < d.size(); j++)
                    assert_true(d[j] == a.d[j] || (isnan(d[j]) && isnan(a.d[j])));
                cudaFree(p);
            }
}

/* A token with a value that is not finite gives NaN in its own row of the result alone. */
static void test_nan(void **state) {
    (void)state;
    for (int fmt : {(int)WK_FMT_Q4_1, (int)WK_FMT_Q6_K, (int)WK_FMT_F16})
        for (int n : {2, 9}) {
            matrix x;
            int32_t bad;
            make(&x, fmt, 20, 512, 0);
            assert_true(upload(&x, &bad));
            acts a = activations(type_of(fmt), n, 512);
            a.x[512 + 300] = NAN;
            void *p = put_acts(a, (size_t)n);
            float *dst = put(floats((size_t)n * 20));
            wkc_matmul(NULL, &x.m, p, a.type, n, (size_t)n, dst, NULL);
            const floats y = get<float>(dst, (size_t)n * 20);
            for (size_t i = 0; i < y.size(); i++) assert_true(isnan(y[i]) == (i / 20 == 1));
            cudaFree(p), cudaFree(dst), cudaFree(x.p);
        }
}

static void test_embed(void **state) {
    (void)state;
    const std::vector<int32_t> id = {3, 0, 47, -1, 48, 20};
    for (int fmt = 0; fmt < WK_FMT_COUNT; fmt++)
        for (int unrotate : {0, 16}) {
            const int k = wk_formats[fmt].block == 1 ? 100 : 512;
            const float scale = unrotate ? 1.0f : 22.627417f;
            matrix x;
            int32_t bad;
            make(&x, fmt, 48, k, unrotate);
            assert_true(upload(&x, &bad));
            const floats w = decoded(x);
            int32_t *tok = put(id);
            float *dst;
            cudaMalloc(&dst, id.size() * (size_t)k * sizeof(float));
            wkc_embed(NULL, &x.m, tok, (int32_t)id.size(), scale, dst);
            const floats y = get<float>(dst, id.size() * (size_t)k);
            for (size_t i = 0; i < y.size(); i++) {
                const int32_t r = id[i / (size_t)k];
                const float want = r < 0 || r >= 48 ? 0.0f : w[(size_t)r * (size_t)k + i % (size_t)k] * scale;
                if (y[i] != want)
                    fail_msg("%s: row %d, value %d: %g, not %g", wk_formats[fmt].name, (int)r, (int)i % k, (double)y[i],
                             (double)want);
            }
            cudaFree(tok), cudaFree(dst), cudaFree(x.p);
        }
}

static void test_refused(void **state) {
    (void)state;
    for (int fmt = 0; fmt < WK_FMT_COUNT; fmt++) {
        const wk_layout *l = wk_format_layout(fmt);
        for (int i = 0; i < l->n_field; i++) {
            if (l->field[i].value == WK_UNIT_BITS) continue;
            matrix x;
            int32_t bad = -1;
            make(&x, fmt, 20, 256, 0);
            memset(x.file.data() + 13 * x.w.row_bytes + l->field[i].at, 0xff, l->field[i].unit);
            assert_false(upload(&x, &bad));
            assert_int_equal(bad, 13);
            cudaFree(x.p);
        }
    }
    wk_weight none;
    memset(&none, 0, sizeof(none));
    none.fmt = WK_FMT_Q4_K, none.n_row = 4, none.k = 100;
    assert_int_equal(wkc_mat_bytes(&none), 0);
}

/* A vector is f32 on the device, its values un-rotated one by one. */
static void test_vector(void **state) {
    (void)state;
    for (int fmt = WK_FMT_F32; fmt <= WK_FMT_BF16; fmt++)
        for (int unrotate : {0, 10}) {
            matrix x;
            int32_t bad = -1;
            make(&x, fmt, 1, 100, unrotate);
            x.w.is_vector = true, x.w.n_row = 100;
            cudaFree(x.p);
            cudaMalloc(&x.p, wkc_mat_bytes(&x.w));
            wkc_mat_init(&x.m, &x.w, x.p);
            assert_true(upload(&x, &bad));
            floats want(100);
            wk_formats[fmt].decode(want.data(), x.file.data(), 100);
            const floats y = get<float>(x.p, 100);
            for (int32_t i = 0; i < 100; i++)
                assert_true(y[(size_t)i] == want[(size_t)(unrotate ? wk_weight_row(&x.w, i) : i)]);
            cudaFree(x.p);
        }
}

int main(int argc, char **argv) {
    everything = argc > 1 && !strcmp(argv[1], "all");
    if (argc > 1 && !everything) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quant),    cmocka_unit_test(test_embed),
                                       cmocka_unit_test(test_vector),   cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_nan),      cmocka_unit_test(test_float_lengths),
                                       cmocka_unit_test(test_threads),  cmocka_unit_test(test_products)};
    return cmocka_run_group_tests_name("cuda_mat", tests, NULL, NULL);
}

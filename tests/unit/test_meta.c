/* test_meta.c: what an open store answers: tensors by name, metadata by key with type and range, arrays,
 * values as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/attr.h"
#include "engine/file/store.h"
#include "simd/format.h"

#define GOOD "tests/golden/good"

static void check_sentence(const wk_err *err, const char *begin, const char *part) {
    if (!strstr(err->message, begin) || !strstr(err->message, part)) {
        fail_msg("no \"%s\" and \"%s\" in: %s", begin, part, err->message);
    }
}

/* ---- getters ----------------------------------------------------------------------------------- */

static wk_store *open_good(const char *path) {
    wk_store *s = NULL;
    wk_err err = {0};
    if (wk_store_open(&s, path, &err)) fail_msg("%s", err.message);
    return s;
}

static void test_plain(void **state) {
    (void)state;
    wk_store *s = open_good(GOOD "/plain_v3.gguf");
    assert_int_equal(wk_store_version(s), 3);
    assert_int_equal(wk_store_meta_count(s), 3);
    assert_int_equal(wk_store_tensor_count(s), 2);
    assert_true(wk_str_is(wk_store_meta_key(s, 0), "general.architecture"));
    assert_int_equal(wk_store_meta_type(s, 2), WK_META_U32);
    const wk_tensor *t = wk_store_find(s, WK_STR("token_embd.weight"));
    assert_non_null(t);
    assert_ptr_equal(t, wk_store_tensor(s, 0));
    assert_int_equal(t->n_dim, 2);
    assert_true(t->ne[0] == 8 && t->ne[1] == 4 && t->ne[2] == 1 && t->ne[3] == 1);
    assert_int_equal(t->fmt, WK_FMT_F32);
    assert_int_equal(t->bytes, 128);
    for (int i = 0; i < 32; i++) {
        float x;
        memcpy(&x, t->data + 4 * i, 4);
        assert_true(x == (float)i);
    }
    const wk_tensor *u = wk_store_find(s, WK_STR("output_norm.weight"));
    assert_true(u && u->data == t->data + 128 && u->data + u->bytes == t->data + 160);
    assert_null(wk_store_find(s, WK_STR("output_norm.weigh")));
    assert_null(wk_store_find(s, WK_STR("")));
    wk_store_close(s);
}

static void test_places(void **state) {
    (void)state;
    wk_store *s = open_good(GOOD "/align_4096.gguf");
    const uint64_t n = wk_store_file_bytes(s);
    assert_int_equal(n, 4096 + 32);
    wk_store_close(s);
    s = open_good(GOOD "/quant_rows.gguf");
    assert_int_equal(wk_store_find(s, WK_STR("q4_0"))->bytes, 72);
    assert_int_equal(wk_store_find(s, WK_STR("q8_0"))->bytes, 102);
    assert_int_equal(wk_store_find(s, WK_STR("q4_k"))->bytes, 144);
    assert_int_equal(wk_store_find(s, WK_STR("f16"))->bytes, 12);
    assert_int_equal(wk_store_find(s, WK_STR("f16"))->n_dim, 4);
    wk_store_close(s);
    s = open_good(GOOD "/tensors_600.gguf");
    for (int i = 0; i < 600; i++) {
        char name[24];
        (void)snprintf(name, sizeof(name), "blk.%d.w", i);
        assert_ptr_equal(wk_store_find(s, wk_cstr(name)), wk_store_tensor(s, (size_t)i));
    }
    wk_store_close(s);
}

static uint64_t get_u64(const wk_store *s, const char *key) {
    uint64_t x = 0;
    wk_err err = {0};
    if (wk_meta_u64(s, key, 0, UINT64_MAX, &x, &err) != 1) fail_msg("%s: %s", key, err.message);
    return x;
}

static double get_f64(const wk_store *s, const char *key) {
    double x = 0;
    wk_err err = {0};
    if (wk_meta_f64(s, key, -HUGE_VAL, HUGE_VAL, &x, &err) != 1)
        fail_msg("%s: %s", key, err.message);
    return x;
}

static void test_integers(void **state) {
    (void)state;
    wk_store *s = open_good(GOOD "/every_type.gguf");
    assert_int_equal(get_u64(s, "x.u8"), 255);
    assert_int_equal(get_u64(s, "x.u16"), 65535);
    assert_int_equal(get_u64(s, "x.u32"), UINT32_MAX);
    assert_true(get_u64(s, "x.u64") == UINT64_MAX);
    assert_int_equal(get_u64(s, "x.small_i64"), 7);
    assert_int_equal(get_u64(s, "x.int"), 12);
    assert_int_equal(get_u64(s, "x.zero"), 0);
    uint64_t x = 99;
    wk_err err = {0};
    assert_int_equal(wk_meta_u64(s, "x.absent", 0, 1, &x, &err), 0);
    assert_int_equal(err.code, 0);
    static const char *const wrong[] = {"x.i8",  "x.i16",  "x.i32", "x.i64",
                                        "x.f32", "x.bool", "x.str", "x.a4"};
    for (size_t i = 0; i < WK_COUNT(wrong); i++) {
        assert_int_equal(wk_meta_u64(s, wrong[i], 0, UINT64_MAX, &x, &err), WICK_E_FORMAT);
        check_sentence(&err, "every_type.gguf: ", wrong[i]);
    }
    assert_int_equal(wk_meta_u64(s, "x.int", 12, 12, &x, &err), 1);
    assert_int_equal(x, 12);
    x = 99;
    assert_int_equal(wk_meta_u64(s, "x.int", 13, 20, &x, &err), WICK_E_FORMAT);
    assert_string_equal(err.message,
                        GOOD "/every_type.gguf: x.int is i32 12, wanted an integer in 13 .. 20");
    assert_int_equal(wk_meta_u64(s, "x.int", 0, 11, &x, &err), WICK_E_FORMAT);
    assert_int_equal(x, 99);
    assert_int_equal(wk_meta_u64(s, "x.int", 0, 11, &x, NULL), WICK_E_FORMAT);
    wk_store_close(s);
}

static void test_reals(void **state) {
    (void)state;
    wk_store *s = open_good(GOOD "/every_type.gguf");
    assert_true(get_f64(s, "x.f32") == (double)0.1f);
    assert_true(get_f64(s, "x.f64") == 1e-300);
    assert_true(get_f64(s, "x.i64") == -0x1p63);
    assert_true(get_f64(s, "x.u64") == 0x1p64);
    assert_true(isinf(get_f64(s, "x.inf")));
    double x = 0;
    wk_err err = {0};
    assert_int_equal(wk_meta_f64(s, "x.int", 12, 12, &x, &err), 1);
    assert_true(x == 12);
    x = 5;
    assert_int_equal(wk_meta_f64(s, "x.nan", -HUGE_VAL, HUGE_VAL, &x, &err), WICK_E_FORMAT);
    check_sentence(&err, "every_type.gguf: x.nan is f32 ", "wanted a number in");
    assert_int_equal(wk_meta_f64(s, "x.inf", 0, 1e300, &x, &err), WICK_E_FORMAT);
    assert_int_equal(wk_meta_f64(s, "x.bool", 0, 1, &x, &err), WICK_E_FORMAT);
    assert_int_equal(wk_meta_f64(s, "x.str", 0, 1, &x, &err), WICK_E_FORMAT);
    assert_int_equal(wk_meta_f64(s, "x.absent", 0, 1, &x, &err), 0);
    assert_true(x == 5);
    wk_store_close(s);
}

static void test_bool_and_str(void **state) {
    (void)state;
    wk_store *s = open_good(GOOD "/every_type.gguf");
    wk_err err = {0};
    bool b = false;
    wk_str str = WK_STR("kept");
    assert_int_equal(wk_meta_bool(s, "x.bool", &b, &err), 1);
    assert_true(b);
    assert_int_equal(wk_meta_bool(s, "x.false", &b, &err), 1);
    assert_false(b);
    assert_int_equal(wk_meta_bool(s, "x.u8", &b, &err), WICK_E_FORMAT);
    assert_int_equal(wk_meta_bool(s, "x", &b, &err), 0);
    assert_int_equal(wk_meta_str(s, "x.none", &str, &err), WICK_E_FORMAT);
    assert_int_equal(wk_meta_str(s, "x.absent", &str, &err), 0);
    assert_true(wk_str_is(str, "kept"));
    assert_int_equal(wk_meta_str(s, "x.empty", &str, &err), 1);
    assert_int_equal(str.n, 0);
    assert_int_equal(wk_meta_str(s, "x.bytes", &str, &err), 1);
    assert_int_equal(str.n, 3);
    assert_memory_equal(str.p, "\xff\0\xc3", 3);
    wk_store_close(s);
}

static wk_array get_array(const wk_store *s, const char *key, int type, size_t n) {
    wk_array a = {0};
    wk_err err = {0};
    if (wk_meta_array(s, key, &a, &err) != 1) fail_msg("%s: %s", key, err.message);
    assert_int_equal(a.type, type);
    assert_int_equal(a.n, n);
    return a;
}

static void test_arrays(void **state) {
    (void)state;
    wk_store *s = open_good(GOOD "/every_type.gguf");
    static const int fixed[] = {0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12};
    for (size_t i = 0; i < WK_COUNT(fixed); i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "x.a%d", fixed[i]);
        const wk_array a = get_array(s, key, fixed[i], 3);
        assert_true(wk_array_real(&a, 0) == 1 && wk_array_real(&a, 1) == 0 &&
                    wk_array_real(&a, 2) == 1);
        if (fixed[i] != WK_META_F32 && fixed[i] != WK_META_F64) {
            assert_true(wk_array_int(&a, 0) == 1 && wk_array_int(&a, 1) == 0 &&
                        wk_array_int(&a, 2) == 1);
        }
    }
    const wk_array ai = get_array(s, "x.ai", WK_META_I32, 3);
    assert_true(wk_array_int(&ai, 0) == -1 && wk_array_int(&ai, 2) == INT32_MIN &&
                wk_array_real(&ai, 0) == -1);
    const wk_array au = get_array(s, "x.au", WK_META_U64, 2);
    assert_true(wk_array_int(&au, 0) == INT64_MAX && wk_array_int(&au, 1) == 5);
    const wk_array af = get_array(s, "x.af", WK_META_F32, 2);
    assert_true(wk_array_real(&af, 0) == 0.5 && wk_array_real(&af, 1) == -2.0);
    const wk_array as = get_array(s, "x.a8", WK_META_STR, 4);
    assert_true(wk_str_is(wk_array_str(&as, 0), "a") && wk_array_str(&as, 1).n == 0);
    assert_true(wk_str_is(wk_array_str(&as, 2), "\xc3\xa9\"") &&
                wk_str_is(wk_array_str(&as, 3), "\xff"));
    (void)get_array(s, "x.none", WK_META_U8, 0);
    (void)get_array(s, "x.no_str", WK_META_STR, 0);
    wk_array a;
    wk_err err = {0};
    assert_int_equal(wk_meta_array(s, "x.absent", &a, &err), 0);
    assert_int_equal(wk_meta_array(s, "x.u8", &a, &err), WICK_E_FORMAT);
    wk_store_close(s);
    s = open_good(GOOD "/nested_arrays.gguf");
    assert_int_equal(wk_meta_array(s, "n.2", &a, &err), WICK_E_FORMAT);
    check_sentence(&err, "nested_arrays.gguf: n.2 is [array ", "wanted a one-dimensional array");
    wk_store_close(s);
}

/* ---- text -------------------------------------------------------------------------------------- */

static void check_text(const wk_store *s, const char *key, size_t cap, const char *want) {
    char text[512];
    for (size_t i = 0; i < wk_store_meta_count(s); i++) {
        if (!wk_str_is(wk_store_meta_key(s, i), key)) continue;
        const size_t n = wk_store_meta_text(s, i, text, cap);
        assert_string_equal(text, want);
        assert_int_equal(n, strlen(want));
        assert_true(n < cap);
        return;
    }
    fail_msg("%s is not there", key);
}

static void test_text(void **state) {
    (void)state;
    wk_store *s = open_good(GOOD "/every_type.gguf");
    check_text(s, "x.u64", 100, "18446744073709551615");
    check_text(s, "x.i64", 100, "-9223372036854775808");
    check_text(s, "x.f32", 100, "0.1");
    check_text(s, "x.f64", 100, "1e-300");
    check_text(s, "x.a12", 100, "[f64 \xc3\x97 3] 1, 0, 1");
    check_text(s, "x.sum", 100, "0.30000000000000004");
    check_text(s, "x.pi", 100, "3.1415927");
    check_text(s, "x.nan", 100, "nan");
    check_text(s, "x.inf", 100, "inf");
    check_text(s, "x.million", 100, "1000000");
    check_text(s, "x.bool", 100, "true");
    check_text(s, "x.empty", 100, "\"\"");
    check_text(s, "x.str", 100, "\"say \\\"hi\\\"\\n\\t\\\\ \\x1b[31m \xc3\xa9\\xe2\\x80\\xae\"");
    check_text(s, "x.str", 11, "\"say \\\"\xe2\x80\xa6");
    check_text(s, "x.bytes", 100, "\"\\xff\\x00\\xc3\"");
    check_text(s, "x.ai", 100, "[i32 \xc3\x97 3] -1, 2, -2147483648");
    check_text(s, "x.a8", 100, "[string \xc3\x97 4] \"a\", \"\", \"\xc3\xa9\\\"\", \"\\xff\"");
    check_text(s, "x.none", 100, "[u8 \xc3\x97 0]");
    check_text(s, "x.long", 27, "[u32 \xc3\x97 1000] 0, 1, 2, \xe2\x80\xa6");
    check_text(s, "x.u32", 1, "");
    check_text(s, "x.u32", 4, "\xe2\x80\xa6");
    wk_store_close(s);
    s = open_good(GOOD "/nested_arrays.gguf");
    check_text(s, "n.2", 100, "[array \xc3\x97 3] \xe2\x80\xa6");
    check_text(s, "n.empty", 100, "[array \xc3\x97 0]");
    wk_store_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_places),
        cmocka_unit_test(test_integers),     cmocka_unit_test(test_reals),
        cmocka_unit_test(test_bool_and_str), cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

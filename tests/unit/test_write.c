/* test_write.c: what is written reads back equal; copies are equal byte for byte; what fails leaves nothing behind and
 * the old file whole. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/file/store_impl.h"
#include "engine/file/write.h"
#include "simd/format.h"
#include "tests/fuzz/walk_store.h"
#include "tests/unit/unit.h"

static char folder[] = "/tmp/wick_write_XXXXXX";

static const char *path_of(const char *name) {
    static char path[200];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}
static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

/* Files in the folder. */
static int count_files(void) {
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

static wk_store *open_ok(const char *path) {
    wk_store *s = NULL;
    wk_err err = {0};
    if (wk_store_open(&s, path, &err)) fail_msg("%s", err.message);
    assert_true(wk_walk_store(s));
    return s;
}

static void save_ok(wk_writer *w, const char *path) {
    wk_err err = {0};
    if (wk_writer_save(w, path, &err)) fail_msg("%s", err.message);
}

/* ---- round trips ------------------------------------------------------------------------------- */

static const float values[70] = {0, 1, -2, 3.5f, 1e-30f};

static const void *row_of(void *ud, uint64_t row) {
    const uint64_t *stop = (const uint64_t *)ud;
    static float x[7];
    if (stop && row == *stop) return NULL;
    for (int i = 0; i < 7; i++) x[i] = (float)row * 10 + (float)i;
    return x;
}

static wk_writer *make_all(void) {
    static const wk_str strs[] = {{"one", 3}, {"", 0}, {"a\0b", 3}};
    static const float reals[] = {1.5f, -0.0f};
    static const int32_t ints[] = {-1, INT32_MAX, INT32_MIN};
    wk_writer *w = wk_writer_new();
    assert_non_null(w);
    wk_writer_str(w, "general.architecture", WK_STR("llama"));
    wk_writer_u32(w, "u32", UINT32_MAX);
    wk_writer_u64(w, "u64", UINT64_MAX);
    wk_writer_i32(w, "i32", -7);
    wk_writer_f32(w, "f32", 1.25f);
    wk_writer_bool(w, "yes", true);
    wk_writer_bool(w, "no", false);
    wk_writer_str_array(w, "strs", strs, 3);
    wk_writer_f32_array(w, "reals", reals, 2);
    wk_writer_i32_array(w, "ints", ints, 3);
    wk_writer_i32_array(w, "none", ints, 0);
    wk_writer_add(w, &(wk_writer_tensor){"a", WK_FMT_F32, 2, {35, 2, 1, 1}, values, NULL, NULL});
    wk_writer_add(w, &(wk_writer_tensor){"b", WK_FMT_F32, 1, {1, 1, 1, 1}, values + 3, NULL, NULL});
    wk_writer_add(w, &(wk_writer_tensor){"rows", WK_FMT_F32, 4, {7, 2, 3, 2}, NULL, row_of, NULL});
    return w;
}

static void check_keys(const wk_store *s) {
    uint64_t u = 0;
    double f = 0;
    bool b = false;
    wk_array a = {0};
    assert_int_equal(wk_meta_u64(s, "u32", 0, UINT64_MAX, &u, NULL), 1);
    assert_int_equal(u, UINT32_MAX);
    assert_int_equal(wk_meta_u64(s, "u64", 0, UINT64_MAX, &u, NULL), 1);
    assert_true(u == UINT64_MAX);
    assert_int_equal(wk_meta_f64(s, "i32", -10, 10, &f, NULL), 1);
    assert_true(f == -7);
    assert_int_equal(wk_meta_f64(s, "f32", -10, 10, &f, NULL), 1);
    assert_true(f == 1.25);
    assert_int_equal(wk_meta_bool(s, "yes", &b, NULL), 1);
    assert_true(b);
    assert_int_equal(wk_meta_bool(s, "no", &b, NULL), 1);
    assert_false(b);
    assert_int_equal(wk_meta_array(s, "strs", &a, NULL), 1);
    assert_int_equal(a.n, 3);
    assert_true(wk_str_is(wk_array_str(&a, 0), "one"));
    assert_int_equal(wk_array_str(&a, 1).n, 0);
    assert_int_equal(wk_array_str(&a, 2).n, 3);
    assert_int_equal(wk_meta_array(s, "reals", &a, NULL), 1);
    assert_true(wk_array_real(&a, 0) == 1.5);
    assert_int_equal(wk_meta_array(s, "ints", &a, NULL), 1);
    assert_int_equal(wk_array_int(&a, 2), INT32_MIN);
    assert_int_equal(wk_meta_array(s, "none", &a, NULL), 1);
    assert_int_equal(a.n, 0);
}

static void test_everything_back(void **state) {
    (void)state;
    wk_writer *w = make_all();
    save_ok(w, path_of("all.gguf"));
    wk_store *s = open_ok(path_of("all.gguf"));
    assert_int_equal(wk_store_meta_count(s), 11);
    check_keys(s);
    assert_int_equal(wk_store_tensor_count(s), 3);
    const wk_tensor *a = wk_store_find(s, WK_STR("a")), *rows = wk_store_find(s, WK_STR("rows"));
    assert_non_null(a);
    assert_non_null(rows);
    assert_int_equal(a->bytes, 70 * sizeof(float));
    assert_memory_equal(a->data, values, a->bytes);
    assert_memory_equal(wk_store_find(s, WK_STR("b"))->data, values + 3, sizeof(float));
    assert_int_equal(rows->n_dim, 4);
    assert_int_equal(rows->ne[2], 3);
    for (uint64_t r = 0; r < 12; r++) assert_memory_equal(rows->data + r * 28, row_of(NULL, r), 28);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal((size_t)(wk_store_tensor(s, i)->data - s->p) % 32, 0);
    wk_store_close(s);
    wk_writer_free(w);
    assert_int_equal(count_files(), 1);
    assert_int_equal(unlink(path_of("all.gguf")), 0);
}

/* A key given twice stands where it stood first, with its last value; the same writer saves again. */
static void test_key_replaced(void **state) {
    (void)state;
    wk_store *tiny = open_ok("tests/golden/tiny/llama.gguf");
    wk_writer *w = wk_writer_new();
    wk_writer_u32(w, "a", 1);
    wk_writer_meta_of(w, tiny, NULL, NULL);
    wk_writer_str(w, "a", WK_STR("two"));
    wk_writer_str(w, "general.architecture", WK_STR("none"));
    wk_str v;
    for (int i = 0; i < 2; i++) {
        save_ok(w, path_of("twice.gguf"));
        wk_store *s = open_ok(path_of("twice.gguf"));
        assert_int_equal(wk_store_meta_count(s), wk_store_meta_count(tiny) + 1);
        assert_true(wk_str_is(wk_store_meta_key(s, 0), "a"));
        assert_int_equal(wk_meta_str(s, "a", &v, NULL), 1);
        assert_true(wk_str_is(v, "two"));
        assert_int_equal(wk_meta_str(s, "general.architecture", &v, NULL), 1);
        assert_true(wk_str_is(v, "none"));
        wk_store_close(s);
    }
    wk_writer_free(w);
    wk_store_close(tiny);
    assert_int_equal(unlink(path_of("twice.gguf")), 0);
}

static void test_nothing(void **state) {
    (void)state;
    wk_writer *w = wk_writer_new();
    save_ok(w, path_of("nothing.gguf"));
    wk_writer_free(w);
    wk_store *s = open_ok(path_of("nothing.gguf"));
    assert_int_equal(wk_store_meta_count(s) + wk_store_tensor_count(s), 0);
    wk_store_close(s);
    assert_int_equal(unlink(path_of("nothing.gguf")), 0);
}

/* ---- copies ------------------------------------------------------------------------------------ */

static int same_format(void *ud, const wk_tensor *t) {
    (void)ud;
    return t->fmt;
}

static void check_same(const wk_store *a, const wk_store *b, const char *name) {
    size_t skipped = 0;
    for (size_t i = 0; i < wk_store_meta_count(a); i++) {
        const wk_str key = wk_store_meta_key(a, i);
        if (wk_str_is(key, "general.alignment") || wk_str_starts(key, WK_STR("split."))) {
            skipped++;
            continue;
        }
        const wk_str va = wk_store_meta_raw(a, i), vb = wk_store_meta_raw(b, i - skipped);
        if (!wk_str_eq(key, wk_store_meta_key(b, i - skipped)) || !wk_str_eq(va, vb))
            fail_msg("%s: metadata %zu differs", name, i);
    }
    assert_int_equal(wk_store_meta_count(a) - skipped, wk_store_meta_count(b));
    assert_int_equal(wk_store_tensor_count(a), wk_store_tensor_count(b));
    for (size_t i = 0; i < wk_store_tensor_count(a); i++) {
        const wk_tensor *x = wk_store_tensor(a, i), *y = wk_store_tensor(b, i);
        if (!wk_str_eq(x->name, y->name) || x->fmt != y->fmt || x->n_dim != y->n_dim ||
            memcmp(x->ne, y->ne, sizeof(x->ne)) || x->bytes != y->bytes ||
            memcmp(x->data, y->data, x->bytes))
            fail_msg("%s: tensor %zu differs", name, i);
    }
}

static void copy_one(const char *path) {
    wk_store *a = open_ok(path);
    wk_err err = {0};
    if (wk_requant(a, path_of("copy.gguf"), same_format, NULL, &err))
        fail_msg("%s: %s", path, err.message);
    wk_store *b = open_ok(path_of("copy.gguf"));
    check_same(a, b, path);
    wk_store_close(a);
    wk_store_close(b);
    assert_int_equal(unlink(path_of("copy.gguf")), 0);
}

static int copy_folder(const char *from) {
    char path[512];
    int n = 0;
    DIR *d = opendir(from);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) {
        const size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".gguf") != 0) continue;
        (void)snprintf(path, sizeof(path), "%s/%s", from, e->d_name);
        copy_one(path);
        n++;
    }
    (void)closedir(d);
    return n;
}

static void test_copies(void **state) {
    (void)state;
    assert_true(copy_folder("tests/golden/tiny") >= 3);
    assert_true(copy_folder("tests/golden/good") >= 19);
    copy_one("tests/golden/split/good_plain-00002-of-00003.gguf");
    copy_one("tests/golden/split/good_no_tensors_first-00001-of-00003.gguf");
    assert_int_equal(count_files(), 0);
}

/* ---- other formats ----------------------------------------------------------------------------- */

static int all_of(void *ud, const wk_tensor *t) { return t->n_dim > 1 ? *(const int *)ud : t->fmt; }

/* Each row is what the table's functions make of it; the keys say so. */
static void check_requant(const wk_store *a, int fmt) {
    float x[1024];
    uint8_t want[4096];
    wk_err err = {0};
    uint64_t type = 99;
    if (wk_requant(a, path_of("other.gguf"), all_of, &fmt, &err)) fail_msg("%s", err.message);
    wk_store *b = open_ok(path_of("other.gguf"));
    for (size_t i = 0; i < wk_store_tensor_count(a); i++) {
        const wk_tensor *s = wk_store_tensor(a, i), *t = wk_store_tensor(b, i);
        const int k = (int)s->ne[0];
        assert_true(k <= 1024);
        assert_int_equal(t->fmt, s->n_dim > 1 ? fmt : s->fmt);
        if (t->fmt == s->fmt) continue;
        for (uint64_t r = 0; r < s->ne[1] * s->ne[2] * s->ne[3]; r++) {
            wk_formats[s->fmt].decode(x, s->data + r * wk_row_bytes(s->fmt, s->ne[0]), k);
            wk_formats[fmt].encode(want, x, k);
            const size_t n = wk_row_bytes(fmt, s->ne[0]);
            assert_memory_equal(t->data + r * n, want, n);
        }
    }
    assert_int_equal(wk_meta_u64(b, "general.file_type", 0, 100, &type, NULL), 1);
    assert_int_equal(type, fmt == WK_FMT_Q8_0 ? 7 : fmt == WK_FMT_BF16 ? 32 : 1);
    wk_store_close(b);
    assert_int_equal(unlink(path_of("other.gguf")), 0);
}

static void test_requant(void **state) {
    (void)state;
    wk_store *s = open_ok("tests/golden/tiny/llama.gguf");
    check_requant(s, WK_FMT_F16);
    check_requant(s, WK_FMT_BF16);
    check_requant(s, WK_FMT_Q8_0);
    wk_store_close(s);
}

static void test_requant_refuses(void **state) {
    (void)state;
    static const float bad[32] = {[5] = (float)INFINITY};
    wk_store *s = open_ok("tests/golden/tiny/llama.gguf");
    wk_err err = {0};
    int fmt = WK_FMT_TQ1_0;
    assert_int_equal(wk_requant(s, path_of("no.gguf"), all_of, &fmt, &err), WICK_E_UNSUPPORTED);
    if (!strstr(err.message, "TQ1_0")) fail_msg("%s", err.message);
    wk_store_close(s);
    wk_writer *w = make_all();
    wk_writer_add(w, &(wk_writer_tensor){"bad", WK_FMT_F32, 2, {16, 2, 1, 1}, bad, NULL, NULL});
    save_ok(w, path_of("bad.gguf"));
    wk_writer_free(w);
    s = open_ok(path_of("bad.gguf"));
    fmt = WK_FMT_Q8_0;
    assert_int_equal(wk_requant(s, path_of("no.gguf"), all_of, &fmt, &err), WICK_E_UNSUPPORTED);
    if (!strstr(err.message, "rows of 35 elements do not divide")) fail_msg("%s", err.message);
    fmt = WK_FMT_F16;
    assert_int_equal(wk_requant(s, path_of("no.gguf"), all_of, &fmt, &err), WICK_E_NUMERIC);
    if (!strstr(err.message, "bad: row 0 holds")) fail_msg("%s", err.message);
    wk_store_close(s);
    assert_int_equal(unlink(path_of("bad.gguf")), 0);
    assert_int_equal(count_files(), 0);
}

/* ---- failures ---------------------------------------------------------------------------------- */

static void check_old(const char *path) {
    char text[8] = {0};
    assert_int_equal(wk_os_read_small(path, text, sizeof(text)), 3);
    assert_string_equal(text, "old");
    assert_int_equal(count_files(), 1);
}

static void write_old(const char *path) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite("old", 1, 3, f), 3);
    assert_int_equal(fclose(f), 0);
}

static void test_each_call_fails(void **state) {
    (void)state;
    const char *path = path_of("old.gguf");
    write_old(path);
    wk_writer *w = make_all();
    wk_err err = {0};
    for (uint32_t n = 1; n <= 5; n++) { /* open, write, fsync, close, rename */
        wk_os_fail_at(n, ENOSPC);
        assert_int_equal(wk_writer_save(w, path, &err), WICK_E_IO);
        wk_os_fail_at(0, 0);
        if (!strstr(err.message, "No space left")) fail_msg("%u: %s", n, err.message);
        check_old(path);
    }
    wk_os_fail_at(6, ENOSPC);
    assert_int_equal(wk_writer_save(w, path, &err), WICK_OK);
    wk_os_fail_at(0, 0);
    wk_writer_free(w);
    assert_int_equal(unlink(path), 0);
}

static void test_no_memory(void **state) {
    (void)state;
    const char *path = path_of("old.gguf");
    write_old(path);
    for (uint64_t n = 1;; n++) {
        wk_err err = {0};
        wk_alloc_fail_at(n, true);
        wk_writer *w = wk_writer_new();
        if (!w) continue;
        wk_writer_str(w, "key", WK_STR("value"));
        wk_writer_add(w,
                      &(wk_writer_tensor){"a", WK_FMT_F32, 1, {70, 1, 1, 1}, values, NULL, NULL});
        const int rc = wk_writer_save(w, path, &err);
        wk_alloc_fail_at(0, false);
        wk_writer_free(w);
        if (rc == WICK_OK) break;
        if (rc != WICK_E_NOMEM && !strstr(err.message, "sync its folder"))
            fail_msg("%s", err.message);
        if (rc == WICK_E_NOMEM) check_old(path);
        assert_true(n < 50);
    }
    assert_int_equal(unlink(path), 0);
}

/* A disk that is full after 64 KiB. */
static void test_full(void **state) {
    (void)state;
    const char *path = path_of("old.gguf");
    struct rlimit was;
    write_old(path);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    const struct rlimit small = {65536, was.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    wk_writer *w = make_all();
    static uint8_t big[3 << 20];
    wk_writer_add(w,
                  &(wk_writer_tensor){"big", WK_FMT_F32, 1, {3 << 18, 1, 1, 1}, big, NULL, NULL});
    wk_err err = {0};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const int rc = wk_writer_save(w, path, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(rc, WICK_E_IO);
    if (!strstr(err.message, "old.gguf: cannot write it: File too large"))
        fail_msg("%s", err.message);
    check_old(path);
    wk_writer_free(w);
    assert_int_equal(unlink(path), 0);
}

static void refuse_path(wk_writer *w, const char *path, const char *says) {
    wk_err err = {0};
    assert_int_equal(wk_writer_save(w, path, &err), WICK_E_IO);
    if (!strstr(err.message, says)) fail_msg("%s: %s", path, err.message);
}

static void test_places(void **state) {
    (void)state;
    wk_writer *w = make_all();
    refuse_path(w, "", "empty");
    refuse_path(w, folder, "is a folder");
    refuse_path(w, "/dev/null", "no regular file");
    refuse_path(w, path_of("absent/x.gguf"), "No such file");
    if (geteuid() != 0) {
        assert_int_equal(chmod(folder, 0500), 0);
        refuse_path(w, path_of("x.gguf"), "Permission denied");
        assert_int_equal(chmod(folder, 0700), 0);
    }
    wk_writer_free(w);
    assert_int_equal(count_files(), 0);
}

static void test_stopped(void **state) {
    (void)state;
    uint64_t stop = 3;
    wk_err err = {0};
    wk_writer *w = wk_writer_new();
    wk_writer_add(w, &(wk_writer_tensor){"rows", WK_FMT_F32, 2, {7, 5, 1, 1}, NULL, row_of, &stop});
    assert_int_equal(wk_writer_save(w, path_of("x.gguf"), &err), WICK_E_CANCELED);
    if (!strstr(err.message, "rows: stopped by the caller at row 3 of 5"))
        fail_msg("%s", err.message);
    wk_writer_free(w);
    assert_int_equal(count_files(), 0);
}

static void test_shapes(void **state) {
    (void)state;
    static const wk_writer_tensor bad[] = {
        {"x", WK_FMT_Q8_0, 1, {33, 1, 1, 1}, values, NULL, NULL},
        {"x", WK_FMT_F32, 1, {0, 1, 1, 1}, values, NULL, NULL},
        {"x", WK_FMT_F32, 2, {4, 0, 1, 1}, values, NULL, NULL},
        {"x", WK_FMT_F32, 5, {4, 1, 1, 1}, values, NULL, NULL},
        {"x", WK_FMT_F32, 0, {4, 1, 1, 1}, values, NULL, NULL},
        {"x", WK_FMT_COUNT, 1, {4, 1, 1, 1}, values, NULL, NULL},
        {"x", WK_FMT_F32, 4, {1u << 30, 1u << 30, 1u << 30, 2}, values, NULL, NULL},
    };
    for (size_t i = 0; i < WK_COUNT(bad); i++) {
        wk_err err = {0};
        wk_writer *w = wk_writer_new();
        wk_writer_add(w, &bad[i]);
        assert_int_equal(wk_writer_save(w, path_of("x.gguf"), &err), WICK_E_SHAPE);
        wk_writer_free(w);
    }
    assert_int_equal(count_files(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_back),
        cmocka_unit_test(test_key_replaced),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_requant),
        cmocka_unit_test(test_requant_refuses),
        cmocka_unit_test(test_each_call_fails),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_shapes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* test_dir.c: folders, links and small files: what is there afterwards, and that a failure names its path. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/dir.h"

static char root[64];

static int make_root(void **state) {
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/wick_dir_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}
static int drop_root(void **state) {
    (void)state;
    return wk_dir_remove(root, NULL);
}

static const char *at(const char *name) {
    static char path[4][160];
    static int i;
    i = (i + 1) % 4;
    (void)snprintf(path[i], sizeof(path[i]), "%s/%s", root, name);
    return path[i];
}

static void text_is(const char *path, const char *want) {
    char got[64] = "";
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    (void)!fread(got, 1, sizeof(got) - 1, f);
    (void)fclose(f);
    assert_string_equal(got, want);
}

static void collect(void *ud, const char *name) {
    char *all = ud;
    (void)snprintf(all + strlen(all), 256 - strlen(all), "%s ", name);
}

static void test_make_list_remove(void **state) {
    (void)state;
    wk_err err;
    char all[256] = "";
    assert_int_equal(wk_dir_make(at("a/b/c"), &err), 0);
    assert_int_equal(wk_dir_make(at("a/b/c"), &err), 0); /* there already */
    assert_true(wk_dir_exists(at("a/b")));
    assert_false(wk_file_exists(at("a/b")));
    for (const char *const *n = (const char *const[]){"z", "B", "a", "10", "9", NULL}; *n; n++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "a/b/c/%s", *n);
        assert_int_equal(wk_file_write(at(name), wk_cstr(*n), &err), 0);
    }
    assert_int_equal(wk_dir_list(at("a/b/c"), collect, all, &err), 0);
    assert_string_equal(all, "10 9 B a z ");
    assert_int_equal(wk_dir_remove(at("a/b/c"), &err), 0);
    assert_false(wk_dir_exists(at("a/b/c")));
    assert_int_equal(wk_dir_remove(at("a/b/c"), &err), 0);     /* absent is fine */
    assert_int_equal(wk_dir_remove(at("a"), &err), WICK_E_IO); /* a folder inside */
    assert_non_null(strstr(err.message, "a/b"));
    assert_int_equal(wk_dir_remove(at("a/b"), &err), 0);
    assert_int_equal(wk_dir_remove(at("a"), &err), 0);
}

static void test_refusals(void **state) {
    (void)state;
    wk_err err;
    assert_int_equal(wk_file_write(at("f"), wk_cstr("x"), &err), 0);
    assert_int_equal(wk_dir_make(at("f/g"), &err), WICK_E_IO);
    assert_non_null(strstr(err.message, "/f/g"));
    assert_int_equal(wk_dir_make(at("f"), &err), WICK_E_IO);
    assert_int_equal(wk_dir_list(at("absent"), collect, NULL, &err), WICK_E_IO);
    assert_non_null(strstr(err.message, strerror(ENOENT)));
    assert_int_equal(wk_file_rename(at("absent"), at("g"), &err), WICK_E_IO);
    char longest[6000];
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(wk_dir_make(longest, &err), WICK_E_IO);
    assert_int_equal(wk_file_remove(at("f"), &err), 0);
    assert_int_equal(wk_file_remove(at("f"), &err), 0);
}

static void test_links_and_exchange(void **state) {
    (void)state;
    wk_err err;
    assert_int_equal(wk_dir_make(at("one"), &err), 0);
    assert_int_equal(wk_dir_make(at("two"), &err), 0);
    assert_int_equal(wk_file_write(at("one/f"), wk_cstr("1"), &err), 0);
    assert_int_equal(wk_file_write(at("two/f"), wk_cstr("2"), &err), 0);
    assert_int_equal(wk_file_link(at("latest"), "one", &err), 0);
    text_is(at("latest/f"), "1");
    assert_int_equal(wk_file_link(at("latest"), "two", &err), 0); /* in place of the old one */
    text_is(at("latest/f"), "2");
    assert_int_equal(wk_dir_exchange(at("one"), at("two"), &err), 0);
    text_is(at("one/f"), "2");
    text_is(at("two/f"), "1");
    assert_int_equal(wk_file_write(at("one/f"), wk_cstr("longer"), &err), 0); /* replaced whole */
    text_is(at("one/f"), "longer");
    assert_true(wk_disk_free(root) > 0);
    assert_int_equal(wk_dir_remove(at("one"), &err), 0);
    assert_int_equal(wk_dir_remove(at("two"), &err), 0);
    assert_int_equal(wk_file_remove(at("latest"), &err), 0); /* the link, dangling now */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_make_list_remove),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_links_and_exchange)};
    return cmocka_run_group_tests(tests, make_root, drop_root);
}

/* test_cuda_module.c: test_cuda_module libwick_cuda.so: what nvcc and the linker made is a module: it loads with or
 * without a driver, gives its table, and says in a sentence why there is no device. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/graph/backend.h"

static const char *path;

static const wk_backend_ops *load(void) {
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    wk_backend_fn *fn = NULL;
    if (!so) fail_msg("%s", dlerror());
    *(void **)&fn = dlsym(so, WK_BACKEND_SYMBOL);
    assert_non_null(fn);
    return fn();
}

static void test_table(void **state) {
    const wk_backend_ops *ops = load();
    (void)state;
    assert_int_equal(ops->abi, WK_BACKEND_ABI);
    assert_int_equal(ops->size, sizeof(*ops));
    assert_string_equal(ops->name, "cuda");
    assert_true(ops->count && ops->open && ops->close && ops->info && ops->can && ops->prepare && ops->run && ops->wait);
    assert_true(ops->unprepare && ops->put && ops->get && ops->bytes);
    assert_true(ops->trace_start && ops->trace_stop && ops->trace_read);
}

static void test_count(void **state) {
    const wk_backend_ops *ops = load();
    char why[200] = "";
    const wk_host host = {.size = sizeof(host)};
    wk_dev *d = NULL;
    wk_err err = {0};
    (void)state;
    const int n = ops->count(why, sizeof(why));
    assert_in_range(n, 0, 1024);
    print_message("%d devices%s%s\n", n, n ? "" : ": ", why);
    if (n == 0) assert_true(strlen(why) > 10);
    assert_int_equal(ops->open(&d, n, &host, &err), WICK_E_DEVICE);
    assert_null(d);
    assert_non_null(strstr(err.message, "devices"));
    assert_int_equal(ops->count(NULL, 0), n);
}

/* Two modules in one process must not meet each other's symbols. */
static void test_exports(void **state) {
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    (void)state;
    assert_non_null(so);
    assert_null(dlsym(so, "wk_formats"));
    assert_null(dlsym(so, "wkc_fail"));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_exports),
    };
    if (argc < 2) return 2;
    path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}

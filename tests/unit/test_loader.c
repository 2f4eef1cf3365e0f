/* test_loader.c: names of devices, where modules are looked for, and modules that are refused with a sentence. */
#include "tests/unit/unit.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/attr.h"
#include "gpu/loader/loader.h"

/* LIB_DIR: the folder of the planted modules and of this program. */

static void refused(const char *spec, int code, const char *word) {
    wk_err err = {0};
    int index = 0;
    const wk_backend_ops *ops = (const wk_backend_ops *)&err;
    assert_int_equal(wk_gpu_load(&ops, spec, &index, &err), code);
    assert_null(ops);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not say \"%s\"", err.message, word);
    assert_int_equal(wk_gpu_load(&ops, spec, &index, NULL), code);
}

static void test_names(void **s) {
    (void)s;
    static const char *const bad[] = {"", ":1", "cu da", "CUDA", "../cuda", "libwick_cuda.so", "cuda:x", "cuda:-1", "cuda:1:2",
                                      "cu/da", "waytoolongforakind"};
    for (size_t i = 0; i < WK_COUNT(bad); i++) refused(bad[i], WICK_E_ARG, "is unknown");
    refused("cuda:1024", WICK_E_ARG, "0 .. 1023");
    refused("cuda:99999999999999999999", WICK_E_ARG, "0 .. 1023");
    assert_int_equal(wk_gpu_name_bytes("cuda:1"), 4);
    assert_int_equal(wk_gpu_name_bytes("/a:b:12"), 4);
    assert_int_equal(wk_gpu_name_bytes("/a:b"), 4);
    assert_int_equal(wk_gpu_name_bytes("cuda:"), 5);
    assert_string_equal(wk_gpu_kind(0), "cuda");
    assert_null(wk_gpu_kind(1));
    assert_null(wk_gpu_kind(-1));
    char longest[PATH_MAX + 16];
    memset(longest, 'a', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = 0;
    refused(longest, WICK_E_ARG, "at most");
}

static void test_missing(void **s) {
    (void)s;
    refused("nosuch", WICK_E_DEVICE, "no module for nosuch: libwick_nosuch.so is neither in /");
    refused("nosuch:3", WICK_E_DEVICE, "libwick_nosuch.so");
    refused("/no/such/libwick_x.so:1", WICK_E_DEVICE, "there is no module /no/such/libwick_x.so");
}

/* Neither the current folder nor the loader's search path can bring a module in. */
static void test_no_search(void **s) {
    (void)s;
    char dir[] = "/tmp/wick-loader-XXXXXX", from[PATH_MAX], to[PATH_MAX], cwd[PATH_MAX];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(from, sizeof(from), "%s/libwick_plantgood.so", LIB_DIR);
    (void)snprintf(to, sizeof(to), "%s/libwick_stray.so", dir);
    assert_int_equal(symlink(from, to), 0);
    assert_int_equal(setenv("LD_LIBRARY_PATH", dir, 1), 0);
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    assert_int_equal(chdir(dir), 0);
    refused("stray", WICK_E_DEVICE, "libwick_stray.so is neither");
    assert_int_equal(chdir(cwd), 0);
    assert_int_equal(unsetenv("LD_LIBRARY_PATH"), 0);
    assert_int_equal(unlink(to), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void test_bad_modules(void **s) {
    (void)s;
    char numbers[128];
    refused("plantabi", WICK_E_ABI, "has version 10 of the device interface, this wick has version 3");
    (void)snprintf(numbers, sizeof(numbers), "has %u bytes of device interface, this wick has %u",
                   (unsigned)sizeof(wk_backend_ops) - 8, (unsigned)sizeof(wk_backend_ops));
    refused("plantshort", WICK_E_ABI, numbers);
    refused("plantnoname", WICK_E_ABI, "a function of the device interface is missing");
    refused("planthole", WICK_E_ABI, "a function of the device interface is missing");
    refused("plantnosymbol", WICK_E_DEVICE, "it has no wick_backend");
    refused("plantnull", WICK_E_DEVICE, "gives nothing");
    refused("plantnone", WICK_E_DEVICE, "no device of plant: planted: no driver is loaded");
    refused("plantunresolved", WICK_E_DEVICE, "wick_plant_nowhere");
    refused("plantgood:2", WICK_E_DEVICE, "plant has 2 devices, index 2 was asked for");
}

static void test_no_library(void **s) {
    (void)s;
    char path[] = "/tmp/wick-loader-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "no library", 10), 10);
    assert_int_equal(close(fd), 0);
    refused(path, WICK_E_DEVICE, "the module cannot be loaded: ");
    assert_int_equal(unlink(path), 0);
    refused("/tmp", WICK_E_DEVICE, "cannot be loaded");
}

/* By kind and by path: the same module, loaded once. */
static void test_good(void **s) {
    (void)s;
    wk_err err = {0};
    char path[PATH_MAX];
    const wk_backend_ops *a = NULL, *b = NULL;
    wk_dev *d = NULL;
    int index = -1;
    if (wk_gpu_load(&a, "plantgood", &index, &err)) fail_msg("%s", err.message);
    assert_int_equal(index, 0);
    (void)snprintf(path, sizeof(path), "%s/libwick_plantgood.so:1", LIB_DIR);
    assert_int_equal(wk_gpu_load(&b, path, &index, &err), WICK_OK);
    assert_int_equal(index, 1);
    assert_ptr_equal(a, b);
    assert_int_equal(a->open(&d, index, NULL, &err), WICK_E_DEVICE);
    assert_string_equal(err.message, "planted: device 1 does not open");
    if (wk_gpu_module(&a, "plantnone", &index, &err)) fail_msg("%s", err.message); /* counting is the caller's */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),       cmocka_unit_test(test_missing),    cmocka_unit_test(test_no_search),
        cmocka_unit_test(test_bad_modules), cmocka_unit_test(test_no_library), cmocka_unit_test(test_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Files, clock, chance, futex: what is mapped, what is refused by name, what fails on demand. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/os.h"
#include "tests/unit/unit.h"

static char folder[] = "/tmp/wick_os_XXXXXX";

static const char *path_of(const char *name) {
    static char path[200];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void write_file(const char *path, const char *text, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}
static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

static void maps(void **state) {
    (void)state;
    const char *path = path_of("file");
    write_file(path, "0123456789", 10);
    wk_map_file m;
    wk_err e = {0};
    assert_int_equal(wk_os_map(&m, path, &e), WICK_OK);
    assert_int_equal(m.n, 10);
    assert_memory_equal(m.p, "0123456789", 10);
    assert_true(m.mtime_ns > 0);
    wk_os_drop(m.p, m.n);
    wk_os_drop(m.p, 1u << 12);
    assert_memory_equal(m.p, "0123456789", 10);
    wk_os_unmap(&m);
    wk_os_unmap(&m);
    write_file(path, "", 0);
    assert_int_equal(wk_os_map(&m, path, &e), WICK_OK);
    assert_int_equal(m.n, 0);
    wk_os_unmap(&m);
    assert_int_equal(unlink(path), 0);
}

static void refuse(const char *path, const char *says) {
    wk_map_file m = {.n = 5};
    wk_err e = {0};
    assert_int_equal(wk_os_map(&m, path, &e), WICK_E_IO);
    assert_int_equal(m.n, 0);
    if (!strstr(e.message, says)) fail_msg("%s: %s", path, e.message);
}

static void refuses(void **state) {
    (void)state;
    refuse(folder, "is a folder");
    refuse("/dev/null", "is a device");
    refuse(path_of("absent"), "No such file");
    refuse(path_of("bad\x1b[31m"), "bad\\x1b[31m");
    const char *fifo = path_of("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    refuse(fifo, "is a FIFO");
    assert_int_equal(unlink(fifo), 0);
}

static void fails_on_demand(void **state) {
    (void)state;
    const char *path = path_of("file");
    write_file(path, "abc", 3);
    static const char *const says[] = {"cannot open it: Input/output error",
                                       "size: Input/output error",
                                       "cannot map it: Input/output error"};
    for (uint32_t n = 0; n < 3; n++) {
        wk_os_fail_at(n + 1, EIO);
        refuse(path, says[n]);
    }
    wk_os_fail_at(1, EINTR); /* tried again */
    wk_map_file m;
    assert_int_equal(wk_os_map(&m, path, NULL), WICK_OK);
    wk_os_unmap(&m);
    char buf[8];
    wk_os_fail_at(2, EIO);
    assert_int_equal(wk_os_read_small(path, buf, sizeof(buf)), -1);
    wk_os_fail_at(2, EINTR);
    assert_int_equal(wk_os_read_small(path, buf, sizeof(buf)), 3);
    wk_os_fail_at(0, 0);
    assert_int_equal(unlink(path), 0);
}

static void reads_small(void **state) {
    (void)state;
    char buf[8];
    const char *path = path_of("file");
    write_file(path, "0123456789", 10);
    assert_int_equal(wk_os_read_small(path, buf, sizeof(buf)), 7);
    assert_string_equal(buf, "0123456");
    assert_int_equal(wk_os_read_small(path, buf, 1), 0);
    assert_int_equal(wk_os_read_small(path, buf, 0), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(wk_os_read_small(path, buf, sizeof(buf)), -1);
    assert_int_equal(wk_os_read_small(folder, buf, sizeof(buf)), -1);
}

static void chance_and_clock(void **state) {
    (void)state;
    uint64_t a[4] = {0}, b[4] = {0};
    wk_os_random(a, sizeof(a));
    wk_os_random(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    const uint64_t t = wk_os_now_ns();
    uint32_t word = 1;
    wk_os_futex_wait(&word, 0, -1);       /* not equal: returns at once */
    wk_os_futex_wait(&word, 1, 20000000); /* nobody wakes it */
    const uint64_t took = wk_os_now_ns() - t;
    assert_true(took >= 10000000 && took < 10000000000u);
}

static void *set_word(void *arg) {
    uint32_t *w = (uint32_t *)arg;
    (void)usleep(10000);
    __atomic_store_n(w, 1, __ATOMIC_SEQ_CST);
    wk_os_futex_wake_all(w);
    return NULL;
}

static void futex_wakes(void **state) {
    (void)state;
    uint32_t word = 0;
    pthread_t th;
    assert_int_equal(pthread_create(&th, NULL, set_word, &word), 0);
    while (!__atomic_load_n(&word, __ATOMIC_SEQ_CST)) wk_os_futex_wait(&word, 0, -1);
    assert_int_equal(pthread_join(th, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps),
        cmocka_unit_test(refuses),
        cmocka_unit_test(fails_on_demand),
        cmocka_unit_test(reads_small),
        cmocka_unit_test(chance_and_clock),
        cmocka_unit_test(futex_wakes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* test_packcache.c: what was stored comes back bit for bit; whatever is altered, not ours alone, or of another key is
 * not believed; the folder keeps its limit; a disk that fails leaves nothing behind; a key changes with what it is of. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/own.h"
#include "engine/cpu/packcache.h"
#include "engine/file/store.h"
#include "simd/format.h"
#include "tests/unit/unit.h"

enum { TOTAL = (5 << 20) + 123 * 64, ROOM = 64 << 20, HEAD = 4096 };

static char dir[64];
static wk_team *team;
static uint8_t *data, *got;
static const wk_hash key = {1, 2};

static int set_up(void **state) {
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/wick_cache_XXXXXX");
    if (!mkdtemp(dir)) return -1;
    team = wk_team_new(2, 2);
    data = wk_alloc(TOTAL);
    got = wk_alloc(TOTAL);
    if (!team || !data || !got) return -1;
    uint32_t x = 1;
    for (size_t i = 0; i < TOTAL; i++) data[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
    return 0;
}

static int tear_down(void **state) {
    char cmd[128];
    (void)state;
    wk_team_free(team);
    wk_free(data);
    wk_free(got);
    (void)snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    return system(cmd);
}

static const char *path_of(wk_hash k) {
    static char path[160];
    (void)snprintf(path, sizeof(path), "%s/wick-%016llx%016llx.pack", dir, (unsigned long long)k.hi,
                   (unsigned long long)k.lo);
    return path;
}

static bool store_it(wk_hash k, uint64_t max) {
    return wk_cache_store(dir, max, k, data, TOTAL, team);
}

static wk_cache_found load_it(wk_hash k) {
    memset(got, 0xee, TOTAL);
    const wk_cache_found f = wk_cache_load(dir, k, got, TOTAL, team);
    if (f == WK_CACHE_GOOD) assert_memory_equal(got, data, TOTAL);
    return f;
}

static void comes_back(void **state) {
    (void)state;
    struct stat st;
    assert_int_equal(load_it(key), WK_CACHE_NONE);
    assert_true(store_it(key, ROOM));
    assert_int_equal(load_it(key), WK_CACHE_GOOD);
    assert_int_equal(stat(path_of(key), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(load_it((wk_hash){1, 3}), WK_CACHE_NONE);
    assert_int_equal(wk_cache_load(dir, key, got, TOTAL - 64, team),
                     WK_CACHE_BAD); /* another size */
    assert_int_equal(rename(path_of(key), "/tmp/wick_cache_moved"), 0);
    assert_int_equal(rename("/tmp/wick_cache_moved", path_of((wk_hash){9, 9})), 0);
    assert_int_equal(load_it((wk_hash){9, 9}), WK_CACHE_BAD); /* under another name */
}

static void flip(long at) {
    FILE *f = fopen(path_of(key), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    const int c = fgetc(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    assert_true(fputc(c ^ 1, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void altered(void **state) {
    (void)state;
    /* magic, version, piece, key, total, sums, sum of the head; first, middle and last byte of the data */
    static const long at[] = {
        0, 8, 12, 16, 32, 40, 71, 88, 103, HEAD, HEAD + (2 << 20) - 1, HEAD + (4 << 20), -1};
    assert_true(store_it(key, ROOM));
    for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
        flip(at[i]);
        if (load_it(key) != WK_CACHE_BAD) fail_msg("byte %ld was changed and not seen", at[i]);
        flip(at[i]);
        assert_int_equal(load_it(key), WK_CACHE_GOOD);
    }
    static const long size[] = {0, 39, HEAD, HEAD + TOTAL - 1, HEAD + TOTAL + 1};
    for (size_t i = 0; i < sizeof(size) / sizeof(*size); i++) {
        assert_int_equal(truncate(path_of(key), size[i]), 0);
        assert_int_equal(load_it(key), WK_CACHE_BAD);
        assert_true(store_it(key, ROOM)); /* over it */
        assert_int_equal(load_it(key), WK_CACHE_GOOD);
    }
}

static void of_others(void **state) {
    (void)state;
    assert_true(store_it(key, ROOM));
    assert_int_equal(chmod(path_of(key), 0620), 0);
    assert_int_equal(load_it(key), WK_CACHE_BAD);
    assert_int_equal(chmod(path_of(key), 0600), 0);
    assert_int_equal(chmod(dir, 0777), 0);
    assert_int_equal(load_it(key), WK_CACHE_BAD);
    assert_false(store_it((wk_hash){3, 3}, ROOM));
    assert_int_equal(chmod(dir, 0755), 0); /* reading is no harm */
    assert_int_equal(load_it(key), WK_CACHE_GOOD);
    const wk_hash other = {4, 4};
    char target[160];
    (void)snprintf(target, sizeof(target), "%s", path_of(key));
    assert_int_equal(symlink(target, path_of(other)), 0);
    assert_int_equal(load_it(other), WK_CACHE_BAD);
    assert_false(wk_cache_store("/proc/nowhere", ROOM, key, data, TOTAL, team));
    assert_false(wk_cache_store("/dev/null", ROOM, key, data, TOTAL, team));
    if (geteuid() == 0) { /* of another user */
        assert_int_equal(chown(target, 12345, 12345), 0);
        assert_int_equal(load_it(key), WK_CACHE_BAD);
    }
}

static void limit(void **state) {
    (void)state;
    const wk_hash k[] = {{1, 0}, {2, 0}, {3, 0}, {4, 0}};
    const uint64_t one = HEAD + TOTAL;
    for (int i = 0; i < 3; i++) {
        const struct timespec t[2] = {{1000 + i, 0}, {1000 + i, 0}};
        assert_true(store_it(k[i], 3 * one));
        assert_int_equal(utimensat(AT_FDCWD, path_of(k[i]), t, 0), 0);
    }
    assert_int_equal(load_it(k[0]), WK_CACHE_GOOD); /* used now: the second is the oldest */
    assert_true(store_it(k[3], 3 * one));
    assert_int_equal(load_it(k[1]), WK_CACHE_NONE);
    assert_int_equal(load_it(k[0]), WK_CACHE_GOOD);
    assert_int_equal(load_it(k[2]), WK_CACHE_GOOD);
    assert_int_equal(load_it(k[3]), WK_CACHE_GOOD);
    assert_false(store_it(
        key, one - 1)); /* larger than the whole folder may be: nothing is thrown away for it */
    assert_int_equal(load_it(k[3]), WK_CACHE_GOOD);
}

static void failing_disk(void **state) {
    (void)state;
    bool stored = false;
    for (uint32_t n = 1; n < 20 && !stored; n++) {
        wk_os_fail_at(n, ENOSPC);
        stored = store_it(key, ROOM);
        wk_os_fail_at(0, 0);
        assert_int_equal(load_it(key), stored ? WK_CACHE_GOOD : WK_CACHE_NONE);
    }
    assert_true(stored);
}

/* ---- key ---------------------------------------------------------------------------------------- */

static void key_of_weights(void **state) {
    (void)state;
    static uint8_t rows[2][64 * 128];
    wk_packed out[2] = {{.in_use = true}, {.in_use = true}};
    wk_weight w[2];
    for (int i = 0; i < 2; i++)
        w[i] = (wk_weight){.name = i ? "b" : "a",
                           .data = rows[i],
                           .fmt = WK_FMT_F16,
                           .n_row = 64,
                           .k = 64,
                           .row_bytes = 128,
                           .lora_of = -1};
    const wk_plan p = {.weight = w, .n_weight = 2};
    wk_hash seen[9];
    seen[0] = wk_cache_key(&p, out, key);
    seen[1] = wk_cache_key(&p, out, (wk_hash){2, 2});
    out[1].in_use = false;
    seen[2] = wk_cache_key(&p, out, key);
    out[1].in_use = true;
    w[0].name = "c";
    seen[3] = wk_cache_key(&p, out, key);
    w[0].name = "a";
    w[1].unrotate = 32;
    seen[4] = wk_cache_key(&p, out, key);
    w[1].unrotate = 0;
    w[1].fmt = WK_FMT_BF16;
    seen[5] = wk_cache_key(&p, out, key);
    w[1].fmt = WK_FMT_F16;
    w[1].data = rows[1];
    rows[1][0] = 1;
    seen[6] = wk_cache_key(&p, out, key);
    rows[1][0] = 0;
    rows[1][sizeof(rows[1]) - 1] = 1;
    seen[7] = wk_cache_key(&p, out, key);
    rows[1][sizeof(rows[1]) - 1] = 0;
    rows[0][sizeof(rows[0]) / 2] = 1;
    seen[8] = wk_cache_key(&p, out, key);
    rows[0][sizeof(rows[0]) / 2] = 0;
    for (int i = 0; i < 9; i++)
        for (int j = 0; j < i; j++)
            if (seen[i].lo == seen[j].lo && seen[i].hi == seen[j].hi)
                fail_msg("keys %d and %d are one", i, j);
    const wk_hash again = wk_cache_key(&p, out, key);
    assert_true(again.lo == seen[0].lo && again.hi == seen[0].hi);
}

static bool identity(const char *path, wk_hash *h) {
    wk_store *s = NULL;
    wk_err err = {0};
    if (wk_store_open(&s, path, &err)) fail_msg("%s", err.message);
    const bool ok = wk_store_identity(s, h);
    wk_store_close(s);
    return ok;
}

static void key_of_files(void **state) {
    (void)state;
    wk_hash a, b, c;
    char path[160], cmd[1000];
    wk_store *s = NULL;
    (void)snprintf(path, sizeof(path), "%s/model.gguf", dir);
    (void)snprintf(cmd, sizeof(cmd), "cp tests/golden/tiny/llama.gguf '%s'", path);
    assert_int_equal(system(cmd), 0);
    assert_false(identity(path, &a)); /* too young */
    (void)usleep(2100000);
    assert_true(identity(path, &a));
    assert_true(identity(path, &b));
    assert_true(a.lo == b.lo && a.hi == b.hi);
    /* one byte of a weight, size and modification time as before */
    (void)snprintf(cmd, sizeof(cmd),
                   "cp -p '%s' '%s.old' && printf x | dd of='%s' bs=1 seek=200000 conv=notrunc "
                   "2>/dev/null && touch -r '%s.old' '%s'",
                   path, path, path, path, path);
    assert_int_equal(system(cmd), 0);
    (void)usleep(2100000);
    assert_true(identity(path, &c));
    assert_true(a.lo != c.lo || a.hi != c.hi);
    assert_int_equal(wk_store_open(&s, WK_STORE_TINY, NULL), WICK_OK);
    assert_false(wk_store_identity(s, &a)); /* no file */
    wk_store_close(s);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {CASE(comes_back),  CASE(altered),      CASE(of_others),
                                       CASE(limit),       CASE(failing_disk), CASE(key_of_weights),
                                       CASE(key_of_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Energy counters in a made-up /sys: packages only, counters that begin again, none, and a power that is given. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/app/energy.h"
#include "tests/unit/unit.h"

static char root[64];

static void put(const char *folder, const char *name, const char *text) {
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/sys/class/powercap/%s/%s", root, folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void zone(const char *folder, const char *name, const char *energy) {
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/sys/class/powercap/%s", root, folder);
    assert_int_equal(mkdir(path, 0700), 0);
    put(folder, "name", name);
    if (energy) put(folder, "energy_uj", energy);
    put(folder, "max_energy_range_uj", "1000000000\n");
}

static int setup(void **state) {
    static const char *const parts[] = {"", "/sys", "/sys/class", "/sys/class/powercap"};
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/wick-energy-%ld", (long)getpid());
    for (size_t i = 0; i < 4; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s%s", root, parts[i]);
        if (mkdir(path, 0700)) return 1;
    }
    return 0;
}

static int cleanup(void **state) {
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", root);
    return system(command);
}

static bool near(double a, double b) { return a - b < 1e-9 && b - a < 1e-9; }

static void none(void **state) {
    wk_energy e;
    (void)state;
    wk_energy_open(&e, "/nonexistent", 0);
    assert_int_equal(e.source, WK_ENERGY_NONE);
    assert_non_null(strstr(e.why, "not readable"));
    assert_true(near(wk_energy_read(&e), 0));
}

static void locked(void **state) {
    wk_energy e;
    (void)state;
    zone("intel-rapl:3", "package-3\n",
         NULL); /* the counter is hidden, as from a person who is not root */
    wk_energy_open(&e, root, 0);
    assert_int_equal(e.source, WK_ENERGY_NONE);
    assert_non_null(strstr(e.why, "chmod a+r"));
}

static void packages(void **state) {
    wk_energy e;
    (void)state;
    zone("intel-rapl:0", "package-0\n", "999000000\n");
    zone("intel-rapl:1", "package-1\n", "5000000\n");
    zone("intel-rapl:2", "psys\n", "7\n"); /* holds the packages: not added */
    wk_energy_open(&e, root, 0);
    assert_int_equal(e.source, WK_ENERGY_RAPL);
    assert_int_equal(e.n_zone, 2);
    assert_true(near(wk_energy_read(&e), 0));
    put("intel-rapl:1", "energy_uj", "7500000\n");
    assert_true(near(wk_energy_read(&e), 2.5));
    put("intel-rapl:0", "energy_uj", "4000000\n"); /* began again at 1000 J: 1 + 4 */
    assert_true(near(wk_energy_read(&e), 7.5));
    put("intel-rapl:0", "energy_uj", "garbage\n"); /* not a number: nothing is added */
    assert_true(near(wk_energy_read(&e), 7.5));
    put("intel-rapl:0", "energy_uj", "5000000\n");
    assert_true(near(wk_energy_read(&e), 8.5));
}

static void estimated(void **state) {
    wk_energy e;
    (void)state;
    wk_energy_open(&e, root, 40);
    assert_int_equal(e.source, WK_ENERGY_WATTS);
    const double before = wk_energy_read(&e);
    const double spent = wk_energy_read(&e) - before;
    assert_true(spent >= 0 && spent < 400); /* 40 W for less than ten seconds */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(none), cmocka_unit_test(locked),
                                       cmocka_unit_test(packages), cmocka_unit_test(estimated)};
    return cmocka_run_group_tests(tests, setup, cleanup);
}

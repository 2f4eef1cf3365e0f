/* What a process may use, read from made-up trees: SMT, holes, cgroup v1 and v2, containers. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "engine/base/os.h"
#include "tests/unit/unit.h"

typedef struct tree {
    char root[64];
} tree;

static int tree_make(void **state) {
    static tree t;
    (void)snprintf(t.root, sizeof(t.root), "/tmp/wick_tree_XXXXXX");
    *state = &t;
    return mkdtemp(t.root) ? 0 : -1;
}

static int tree_remove(void **state) {
    char cmd[128];
    (void)snprintf(cmd, sizeof(cmd), "rm -rf '%s'", ((const tree *)*state)->root);
    return system(cmd);
}

/* Writes root/path, making its folders. */
static void put(const tree *t, const char *path, const char *text) {
    char full[512];
    (void)snprintf(full, sizeof(full), "%s%s", t->root, path);
    for (char *p = full + strlen(t->root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        (void)mkdir(full, 0700); /* may be there already */
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void siblings(const tree *t, int cpu, const char *list) {
    char path[128];
    (void)snprintf(path, sizeof(path),
                   "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    put(t, path, list);
}

static const uint64_t all8[] = {0xff};

static void nothing_to_read(void **state) {
    const tree *t = (const tree *)*state;
    wk_machine m;
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_int_equal(m.n_affinity, 8);
    assert_int_equal(m.n_core, 8);
    assert_int_equal(m.n_thread, 8);
    assert_true(m.quota == 0.0 && m.mem_cgroup == 0 && m.mem_free == UINT64_MAX);
    static const uint64_t none[] = {0};
    wk_os_machine_at(&m, t->root, none, 1);
    assert_int_equal(m.n_thread, 1);
}

static void cores(void **state) {
    const tree *t = (const tree *)*state;
    static const char *const near[] = {"0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"};
    for (int i = 0; i < 8; i++) siblings(t, i, near[i]);
    siblings(t, 64, "64-65\n");
    siblings(t, 65, "64-65\n");
    siblings(t, 66, "junk");
    put(t, "/proc/meminfo", "MemTotal:       100 kB\nMemAvailable:    1000 kB\n");
    wk_machine m;
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_int_equal(m.n_affinity, 8);
    assert_int_equal(m.n_core, 4);
    assert_true(m.mem_free == 1000 * 1024);
    static const uint64_t some[] = {0xf1, 7}; /* 0, 4-7, 64, 65, 66: cores 0, 5, 6, 7, 64, 66 */
    wk_os_machine_at(&m, t->root, some, 2);
    assert_int_equal(m.n_affinity, 8);
    assert_int_equal(m.n_core, 6);
}

/* A file of each CPU; NULL: none. */
static void capacities(const tree *t, const char *const c[8]) {
    for (int i = 0; i < 8; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cpu_capacity", i);
        if (c[i]) put(t, path, c[i]);
    }
}

static void kinds_of_cores(void **state) {
    const tree *t = (const tree *)*state;
    wk_machine m;
    /* Arm: one large, three middle (0.7), four small. */
    capacities(t, (const char *const[]){"1024\n", "720", "720", "720", "300", "300", "300", "300"});
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.n_core == 8 && m.n_fast == 4 && m.n_thread == 4 && m.n_affinity == 8);
    static const uint64_t small[] = {0xf0}; /* among the small ones all are alike */
    wk_os_machine_at(&m, t->root, small, 1);
    assert_true(m.n_core == 4 && m.n_fast == 4 && m.n_thread == 4);
    capacities(t,
               (const char *const[]){"1024", "junk", "", "99999999999999", NULL, NULL, NULL, NULL});
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.n_fast == 4 && m.n_thread == 4);
    capacities(t, (const char *const[]){"7", "7", "7", "7", "7", "7", "7", "7"});
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.n_fast == 8 && m.n_thread == 8);
    /* x86: two cores with two threads each, four small ones. */
    siblings(t, 0, "0-1");
    siblings(t, 1, "0-1");
    siblings(t, 2, "2-3");
    siblings(t, 3, "2-3");
    put(t, "/sys/devices/cpu_core/cpus", "0-3\n");
    put(t, "/sys/devices/cpu_atom/cpus", "4-7\n");
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.n_core == 6 && m.n_fast == 2 && m.n_thread == 2 && m.n_affinity == 8);
    wk_os_machine_at(&m, t->root, small, 1);
    assert_true(m.n_core == 4 && m.n_fast == 4 && m.n_thread == 4);
    static const uint64_t mixed[] = {0x3a}; /* 1, 3, 4, 5 */
    wk_os_machine_at(&m, t->root, mixed, 1);
    assert_true(m.n_core == 4 && m.n_fast == 2 && m.n_thread == 2);
    put(t, "/sys/devices/cpu_core/cpus", "0-3,5,7-");
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_int_equal(m.n_fast, 3);
    put(t, "/sys/devices/cpu_core/cpus", "junk");
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_int_equal(m.n_fast, 6);
}

static void cgroup_v2(void **state) {
    const tree *t = (const tree *)*state;
    put(t, "/proc/meminfo", "MemAvailable: 1000000 kB\n");
    put(t, "/proc/self/cgroup", "0::/a/b/c\n");
    put(t, "/proc/self/mountinfo",
        "20 1 8:1 / / rw - ext4 /dev/sda rw\n30 20 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - "
        "cgroup2 cgroup2 rw\n");
    put(t, "/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    put(t, "/sys/fs/cgroup/a/b/cpu.max", "250000 100000\n");
    put(t, "/sys/fs/cgroup/a/cpu.max", "800000 100000\n");
    put(t, "/sys/fs/cgroup/a/b/c/memory.max", "max\n");
    put(t, "/sys/fs/cgroup/a/b/memory.max", "1000000\n");
    put(t, "/sys/fs/cgroup/a/b/memory.current", "900000\n");
    put(t, "/sys/fs/cgroup/a/b/memory.stat", "anon 5\ninactive_file 300000\nactive_file 7\n");
    put(t, "/sys/fs/cgroup/a/memory.max", "900000\n");
    put(t, "/sys/fs/cgroup/a/memory.current", "100000\n");
    wk_machine m;
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.quota == 2.5);
    assert_int_equal(m.n_thread, 2);
    assert_true(m.mem_cgroup == 900000 && m.mem_free == 400000);
    put(t, "/sys/fs/cgroup/a/b/memory.current", "5000000\n"); /* over its limit */
    put(t, "/sys/fs/cgroup/cpu.max", "50000 100000\n");
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.mem_free == 0 && m.quota == 0.5);
    assert_int_equal(m.n_thread, 1);
}

/* A container without a cgroup namespace: the group is the host's path, the mount shows a part of it. */
static void cgroup_v2_container(void **state) {
    const tree *t = (const tree *)*state;
    put(t, "/proc/self/cgroup", "0::/docker/123/job\n");
    put(t, "/proc/self/mountinfo",
        "30 20 0:27 /docker/123 /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    put(t, "/sys/fs/cgroup/job/cpu.max", "300000 100000");
    put(t, "/sys/fs/cgroup/cpu.max", "400000 100000");
    wk_machine m;
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.quota == 3.0);
    put(t, "/sys/fs/cgroup4/cpu.max", "100000 100000");
    put(t, "/proc/self/cgroup",
        "0::/docker/1234\n"); /* beside the mount: only the mount is known */
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.quota == 4.0);
    put(t, "/proc/self/mountinfo", "30 20 0:27 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    put(t, "/proc/self/cgroup", "0::/../outside\n");
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.quota == 4.0);
}

static void cgroup_v1(void **state) {
    const tree *t = (const tree *)*state;
    put(t, "/proc/meminfo", "MemAvailable: 1000000 kB\n");
    put(t, "/proc/self/cgroup", "12:cpuset:/x\n5:cpu,cpuacct:/job\n4:memory:/job/deep\n0::/\n");
    put(t, "/proc/self/mountinfo",
        "30 20 0:26 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        "31 20 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        "32 20 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    put(t, "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "150000\n");
    put(t, "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    put(t, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put(t, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put(t, "/sys/fs/cgroup/memory/job/deep/memory.limit_in_bytes", "9223372036854771712\n");
    put(t, "/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "500000\n");
    put(t, "/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "400000\n");
    put(t, "/sys/fs/cgroup/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 50000\n");
    wk_machine m;
    wk_os_machine_at(&m, t->root, all8, 1);
    assert_true(m.quota == 1.5);
    assert_int_equal(m.n_thread, 1);
    assert_true(m.mem_cgroup == 500000 && m.mem_free == 150000);
}

static void odd_files(void **state) {
    const tree *t = (const tree *)*state;
    static const char *const odd[] = {"",
                                      "\n",
                                      "::",
                                      "0:",
                                      "a b c d",
                                      "- cgroup2 ",
                                      "1 2 3 4 5 - cgroup2 x y",
                                      "99999999999999999999999 5",
                                      "0 0",
                                      "5 0",
                                      "-1 100000",
                                      " 1 1"};
    enum { N = sizeof(odd) / sizeof(odd[0]) };
    for (size_t i = 0; i < N; i++) {
        put(t, "/proc/self/cgroup", i % 2 ? odd[i] : "0::/a");
        put(t, "/proc/self/mountinfo", i % 3 ? "1 2 3 / /c rw - cgroup2 x y" : odd[i]);
        put(t, "/c/a/cpu.max", odd[i]);
        put(t, "/c/a/memory.max", odd[N - 1 - i]);
        put(t, "/proc/meminfo", odd[i]);
        siblings(t, 0, odd[i]);
        wk_machine m;
        wk_os_machine_at(&m, t->root, all8, 1);
        assert_int_equal(m.n_affinity, 8);
        assert_true(m.n_thread >= 1 && m.n_thread <= 8 && m.quota >= 0.0);
    }
}

static void this_machine(void **state) {
    (void)state;
    wk_machine m;
    wk_os_machine(&m);
    assert_true(m.n_affinity >= 1 && m.n_core >= 1 && m.n_core <= m.n_affinity);
    assert_true(m.n_thread >= 1 && m.n_thread <= m.n_core && m.mem_free > 0);
}

#define TREE_TEST(f) cmocka_unit_test_setup_teardown(f, tree_make, tree_remove)

int main(void) {
    const struct CMUnitTest tests[] = {
        TREE_TEST(nothing_to_read), TREE_TEST(cores),
        TREE_TEST(cgroup_v2),       TREE_TEST(cgroup_v2_container),
        TREE_TEST(cgroup_v1),       TREE_TEST(odd_files),
        TREE_TEST(kinds_of_cores),  cmocka_unit_test(this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

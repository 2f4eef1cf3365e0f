/* test_cpus.c: which CPUs a team is bound to, from made-up trees; and a team that is bound, and free again. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/cpus.h"
#include "engine/base/os.h"
#include "engine/base/pool.h"
#include "tests/unit/unit.h"

static char root[64];

static int tree_make(void **state) {
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/wick_cpus_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tree_remove(void **state) {
    char cmd[128];
    (void)state;
    (void)snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
    return system(cmd);
}

static void put(const char *path, const char *text) {
    char full[512];
    (void)snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        (void)mkdir(full, 0700); /* may be there already */
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void siblings(int cpu, const char *list) {
    char path[128];
    (void)snprintf(path, sizeof(path),
                   "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    put(path, list);
}

static void want(const char *list, uint64_t mask, const char *order) {
    int32_t cpu[64], n = 0;
    char text[256] = "";
    wk_err err = {0};
    if (wk_cpus_choose_at(cpu, &n, 64, list, root, &mask, 1, &err))
        fail_msg("%s: %s", list ? list : "all", err.message);
    for (int32_t i = 0; i < n; i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%d", i ? " " : "", (int)cpu[i]);
    assert_string_equal(text, order);
}

static void one_per_core_first(void **state) {
    (void)state;
    want(NULL, 0xb, "0 1 3"); /* nothing is told: each a core */
    static const char *const near[] = {"0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"};
    for (int i = 0; i < 8; i++) siblings(i, near[i]);
    want(NULL, 0xff, "0 1 2 3 4 5 6 7");
    want("0,4,1,5", 0xff, "0 1 4 5");
    want("4-7,0", 0xff, "0 5 6 7 4");
    want("6", 0xff, "6");
    want(NULL, 0xf0, "4 5 6 7");
    want("3,3,3-3", 0xff, "3");
    put("/sys/devices/cpu_core/cpus", "2-3,6-7\n"); /* the others are small */
    want(NULL, 0xff, "2 3 0 1 4 5 6 7");
}

static void refused(void **state) {
    (void)state;
    static const struct {
        const char *list, *says;
    } bad[] = {{"2", "CPU 2 is not one of those that this process may use (0-1,3,5-6)"},
               {"0-3", "CPU 2 is not one"},
               {"5-99999999999", "CPU 7 is not one"},
               {"", "\"\" is no list of CPUs such as 0-3,8"},
               {"0;1", "is no list"},
               {"0-", "is no list"},
               {"0,", "is no list"},
               {"a", "is no list"},
               {"3-1", "no CPU to bind"},
               {"99999999999999999999", "is no list"}};
    const uint64_t mask = 0x6b;
    int32_t cpu[64], n;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        wk_err err = {0};
        assert_int_equal(wk_cpus_choose_at(cpu, &n, 64, bad[i].list, root, &mask, 1, &err),
                         WICK_E_ARG);
        if (!strstr(err.message, bad[i].says)) fail_msg("%s: %s", bad[i].list, err.message);
    }
    wk_err err = {0};
    assert_int_equal(wk_cpus_choose_at(cpu, &n, 2, "0,1,3", root, &mask, 1, &err), WICK_E_ARG);
}

static void nodes(void **state) {
    (void)state;
    char text[128];
    const uint64_t all = 0xff, left = 0x0f;
    assert_int_equal(wk_os_nodes_at(text, sizeof(text), root, &all, 1), 1); /* not told */
    assert_string_equal(text, "");
    put("/sys/devices/system/node/online", "0-1,3\n");
    put("/sys/devices/system/node/node0/cpulist", "0-3\n");
    put("/sys/devices/system/node/node1/cpulist", "4-7\n");
    put("/sys/devices/system/node/node3/cpulist", "\n"); /* memory alone */
    assert_int_equal(wk_os_nodes_at(text, sizeof(text), root, &all, 1), 2);
    assert_string_equal(text, "0: CPUs 0-3, 1: CPUs 4-7");
    assert_int_equal(wk_os_nodes_at(text, sizeof(text), root, &left, 1), 1);
    assert_string_equal(text, "0: CPUs 0-3");
    assert_int_equal(wk_os_nodes_at(text, 5, root, &all, 1), 2); /* cut */
    assert_string_equal(text, "0: C");
}

typedef struct seen {
    int32_t cpu[3];
    int n_allowed[3];
} seen;

static void look(void *ud, int rank) {
    seen *s = ud;
    cpu_set_t set;
    s->cpu[rank] = wk_os_cpu();
    s->n_allowed[rank] = sched_getaffinity(0, sizeof(set), &set) ? -1 : CPU_COUNT(&set);
}

static void a_team_is_bound(void **state) {
    (void)state;
    int32_t cpu[1024], n = 0;
    seen s;
    wk_machine m;
    wk_os_machine(&m);
    assert_int_equal(wk_cpus_choose(cpu, &n, 1024, NULL, NULL), WICK_OK);
    assert_int_equal(n, m.n_affinity);
    wk_team *t = wk_team_new(3, m.n_affinity);
    assert_non_null(t);
    assert_true(wk_team_bind(t, cpu, n));
    wk_team_run(t, look, &s);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(s.cpu[i], cpu[i % n]);
        assert_int_equal(s.n_allowed[i], 1);
    }
    static const int32_t none[] = {CPU_SETSIZE - 1};
    if (m.n_affinity < CPU_SETSIZE) assert_false(wk_team_bind(t, none, 1));
    wk_team_run(t, look, &s);
    for (int i = 0; i < 3; i++) assert_int_equal(s.n_allowed[i], m.n_affinity);
    assert_true(wk_team_bind(t, cpu, n));
    wk_team_free(t);
    look(&s, 0);
    assert_int_equal(s.n_allowed[0], m.n_affinity);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_per_core_first, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(refused, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(nodes, tree_make, tree_remove),
        cmocka_unit_test(a_team_is_bound)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

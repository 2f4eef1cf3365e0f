/* Matrix products of training: every element has the bits of kind F (chunks of 64 over k, the accumulator at +0 or at C)
 * for every op, extents round the borders of panels, tiles and chunks, unaligned operands, strides with room between
 * rows, 1 to 6 threads and every CPU level; nothing is written beside C. oneDNN is near. */
#include <math.h>
#include <stdio.h>

#include "engine/base/arena.h"
#include "engine/train/sgemm.h"
#include "simd/level.h"
#include "tests/unit/sgemm_case.h"
#include "tests/unit/unit.h"

enum { N_CPU = 2, N_TEAM = 4 };

static const int team_size[N_TEAM] = {1, 2, 3, 6}; /* up to 4 each packs for itself */

typedef struct engines {
    wk_team *team[N_TEAM];
    wk_kernels k[8];
    const char *level[8];
    int n_level;
    wk_sgemm *g[8][N_TEAM];
} engines;

static int open_all(void **state) {
    static engines e;
    const uint32_t cpu = wk_cpu_detect();
    for (int t = 0; t < N_TEAM; t++)
        if (!(e.team[t] = wk_team_new(team_size[t], N_CPU))) return -1;
    for (int l = 0; l < wk_level_count; l++) {
        if ((wk_levels[l].mask & cpu) != wk_levels[l].mask) continue;
        wk_kernels_init(&e.k[e.n_level], wk_levels[l].mask);
        e.level[e.n_level] = wk_levels[l].name;
        for (int t = 0; t < N_TEAM; t++)
            if (wk_sgemm_new(&e.g[e.n_level][t], &e.k[e.n_level], NULL, e.team[t], WK_SGEMM_WICK, NULL)) return -1;
        e.n_level++;
    }
    *state = &e;
    return 0;
}

static int close_all(void **state) {
    engines *e = (engines *)*state;
    for (int t = 0; t < N_TEAM; t++) {
        for (int l = 0; l < e->n_level; l++) wk_sgemm_free(e->g[l][t]);
        wk_team_free(e->team[t]);
    }
    return 0;
}

/* One case on the levels and teams that pick says: bit l*N_TEAM + t. */
static void check(const engines *e, wk_sgemm_op op, sgemm_shape s, bool add, size_t gap, uint32_t pick) {
    sgemm_case o = {.seed = (uint32_t)(s.m * 31 + s.n * 7 + s.k)};
    sgemm_case_make(&o, op, s, add, gap);
    for (int l = 0; l < e->n_level; l++)
        for (int t = 0; t < N_TEAM; t++) {
            if (!(pick >> (l * N_TEAM + t) & 1)) continue;
            memcpy(o.c, o.before, o.n_c * sizeof(float));
            wk_sgemm_run(e->g[l][t], &o.call);
            if (memcmp(o.c, o.want, o.n_c * sizeof(float))) sgemm_case_fail(&o, e->level[l], team_size[t]);
        }
    sgemm_case_free(&o);
}

/* All extents of the list for all ops; levels and teams take turns. */
static void borders(void **state) {
    static const int32_t extents[] = {0, 1, 15, 16, 17, 63, 64, 65};
    const engines *e = (const engines *)*state;
    const int n = (int)WK_COUNT(extents), ways = e->n_level * N_TEAM;
    int turn = 0;
    for (int i = 0; i < n * n * n; i++) {
        const sgemm_shape s = {extents[i % n], extents[i / n % n], extents[i / n / n]};
        for (int op = 0; op < WK_SGEMM_OP_COUNT; op++, turn++) {
            check(e, (wk_sgemm_op)op, s, turn & 1, turn % 3 ? 0 : 3, 1u << (turn % ways));
            check(e, (wk_sgemm_op)op, s, !(turn & 1), turn % 3 ? 5 : 0, 1u << ((turn + turn / ways) % ways));
        }
    }
}

/* Several pieces of k, several strips, ends of all kinds; everything on everything. */
static void large(void **state) {
    static const sgemm_shape shapes[] = {{129, 97, 1155}, {97, 130, 700}, {8, 300, 512},
                                   {300, 8, 96},    {1, 513, 130}, {200, 1, 640},
                                   {77, 7, 1100}};
    const engines *e = (const engines *)*state;
    for (size_t i = 0; i < WK_COUNT(shapes); i++)
        for (int op = 0; op < WK_SGEMM_OP_COUNT; op++)
            check(e, (wk_sgemm_op)op, shapes[i], i & 1, i & 2, ~0u);
}

/* A thin product inside a wide one against the same by itself: its own call in front, or a product into a buffer and
 * an fma over it behind. */
static void check_thin(const engines *e, sgemm_shape s, int32_t rank, bool before, bool add, size_t gap, uint32_t pick) {
    sgemm_case o = {.seed = (uint32_t)(s.m + 3 * rank)};
    sgemm_case_make(&o, before ? WK_SGEMM_NN : WK_SGEMM_NT, s, add, gap);
    float *u = sgemm_case_floats(&o.seed, (size_t)s.m * (size_t)rank), *b = sgemm_case_floats(&o.seed, (size_t)s.n * (size_t)rank),
          *panels = sgemm_case_floats(&o.seed, wk_sgemm_thin_size(s.n, rank)), *buffer = sgemm_case_floats(&o.seed, (size_t)s.m * (size_t)s.n);
    const wk_sgemm_thin thin = {.k = rank,
                                .before = before,
                                .scale = before ? 1.0f : 1.7f,
                                .a = u,
                                .lda = (size_t)rank,
                                .panels = panels};
    const size_t ldb = (size_t)(before ? s.n : rank);
    wk_sgemm_call alone = o.call;
    alone.k = rank;
    alone.a = u;
    alone.b = b;
    alone.lda = (size_t)rank;
    alone.ldb = ldb;
    alone.add = false;
    if (!before) {
        alone.c = buffer;
        alone.ldc = (size_t)s.n;
    }
    wk_sgemm_thin_panels(panels, b, ldb, s.n, rank, before);
    for (int l = 0; l < e->n_level; l++)
        for (int t = 0; t < N_TEAM; t++) {
            if (!(pick >> (l * N_TEAM + t) & 1)) continue;
            wk_sgemm_call c = o.call;
            memcpy(o.want, o.before, o.n_c * sizeof(float));
            c.c = o.want + SGEMM_GUARD;
            if (before) {
                alone.c = c.c;
                alone.ldc = c.ldc;
                alone.add = add;
                c.add = true;
                wk_sgemm_run(e->g[l][t], &alone);
            }
            wk_sgemm_run(e->g[l][t], &c);
            if (!before) wk_sgemm_run(e->g[l][t], &alone);
            for (size_t i = 0; !before && i < (size_t)s.m * (size_t)s.n; i++) {
                float *y = c.c + i / (size_t)s.n * c.ldc + i % (size_t)s.n;
                *y = fmaf(thin.scale, buffer[i], *y);
            }
            c = o.call;
            c.thin = &thin;
            memcpy(o.c, o.before, o.n_c * sizeof(float));
            wk_sgemm_run(e->g[l][t], &c);
            if (memcmp(o.c, o.want, o.n_c * sizeof(float))) sgemm_case_fail(&o, e->level[l], team_size[t]);
        }
    wk_free(u);
    wk_free(b);
    wk_free(panels);
    wk_free(buffer);
    sgemm_case_free(&o);
}

/* Own side of rows and of columns, ends of all kinds, lines that fall upon each other, and several stages. */
static void thin_inside(void **state) {
    static const sgemm_shape shapes[] = {{129, 97, 1155}, {97, 130, 70}, {1, 33, 5}, {40, 1, 64}, {64, 1024, 65}};
    static const int32_t ranks[] = {1, 8, 65, 130};
    const engines *e = (const engines *)*state;
    const uint32_t best = 15u << (N_TEAM * (e->n_level - 1));
    for (size_t i = 0; i < WK_COUNT(shapes); i++)
        for (size_t r = 0; r < WK_COUNT(ranks); r++)
            for (int how = 0; how < 4; how++)
                check_thin(e, shapes[i], ranks[r], how & 1, how & 2, shapes[i].n == 1024 ? 0 : r, r == 1 ? ~0u : best);
    for (int how = 0; how < 4; how++) {
        check_thin(e, (sgemm_shape){2055, 2070, 3}, 8, how & 1, how & 2, 1, best);
        check_thin(e, (sgemm_shape){65, 66, 13000}, 8, how & 1, how & 2, 0, best);
    }
}

/* More of the shared side, and more k, than the packed memory holds: several stages. */
static void stages(void **state) {
    const engines *e = (const engines *)*state;
    const uint32_t best = 15u << (N_TEAM * (e->n_level - 1));
    for (int op = 0; op < WK_SGEMM_OP_COUNT; op++) {
        check(e, (wk_sgemm_op)op, (sgemm_shape){2055, 2070, 3}, false, 1, best);
        check(e, (wk_sgemm_op)op, (sgemm_shape){65, 66, 13000}, true, 0, best);
        check(e, (wk_sgemm_op)op, (sgemm_shape){3, 5, 66000}, false, 0, best);
    }
}

static void counts_flops(void **state) {
    const engines *e = (const engines *)*state;
    sgemm_case o = {.seed = 1};
    sgemm_case_make(&o, WK_SGEMM_NN, (sgemm_shape){3, 5, 7}, false, 0);
    const double before = wk_sgemm_flops(e->g[0][0]);
    wk_sgemm_run(e->g[0][0], &o.call);
    assert_true(wk_sgemm_flops(e->g[0][0]) - before == 210.0);
    sgemm_case_free(&o);
}

static void hot_path_allocates_nothing(void **state) {
    const engines *e = (const engines *)*state;
    sgemm_case o = {.seed = 1};
    sgemm_case_make(&o, WK_SGEMM_TN, (sgemm_shape){70, 90, 600}, false, 0);
    const uint64_t before = wk_alloc_count();
    wk_sgemm_run(e->g[0][1], &o.call);
    assert_true(wk_alloc_count() == before);
    sgemm_case_free(&o);
}

/* o holds a result: the same with a thin product in front or behind. */
static void thin_is_near(wk_sgemm *g, sgemm_case *o) {
    wk_sgemm_call c = o->call;
    float u[130], b[67], panels[80];
    for (int i = 0; i < 130; i++) u[i] = sgemm_case_next(&o->seed);
    for (int i = 0; i < 67; i++) b[i] = sgemm_case_next(&o->seed);
    wk_sgemm_thin_panels(panels, b, 1, 67, 1, false);
    for (int before = 0; before < 2; before++) {
        const float scale = before ? 1.0f : 0.5f;
        const wk_sgemm_thin thin = {.k = 1, .before = before, .scale = scale, .a = u, .lda = 1, .panels = panels};
        c.thin = &thin;
        memcpy(o->c, o->before, o->n_c * sizeof(float));
        wk_sgemm_run(g, &c);
        for (int i = 0; i < 130; i++)
            for (int j = 0; j < 67; j++) o->c[SGEMM_GUARD + (size_t)i * c.ldc + (size_t)j] -= thin.scale * u[i] * b[j];
        assert_true(sgemm_case_distance(o) < 1e-5);
    }
}

static void onednn_is_near(void **state) {
    const engines *e = (const engines *)*state;
    wk_sgemm *g = NULL;
    wk_err err = {0};
    if (!wk_sgemm_has_onednn()) {
        assert_int_equal(wk_sgemm_new(&g, &e->k[0], NULL, e->team[1], WK_SGEMM_ONEDNN, &err), WICK_E_UNSUPPORTED);
        print_message("no oneDNN here: %s\n", err.message);
        skip();
    }
    assert_int_equal(wk_sgemm_new(&g, &e->k[0], NULL, e->team[1], WK_SGEMM_ONEDNN, &err), WICK_OK);
    for (int op = 0; op < WK_SGEMM_OP_COUNT; op++)
        for (int add = 0; add < 2; add++) {
            sgemm_case o = {.seed = 5};
            sgemm_case_make(&o, (wk_sgemm_op)op, (sgemm_shape){130, 67, 300}, add, 3);
            memcpy(o.c, o.before, o.n_c * sizeof(float));
            wk_sgemm_run(g, &o.call);
            assert_true(sgemm_case_distance(&o) < 1e-5);
            thin_is_near(g, &o);
            sgemm_case_free(&o);
        }
    wk_sgemm_free(g);
}

/* What is chosen is what runs: its bits tell. Times are anybody's guess here, only that they are there is asked. */
static void probe_chooses(void **state) {
    static const wk_sgemm_shape shapes[] = {
        {WK_SGEMM_NT, 64, 96, 80}, {WK_SGEMM_NN, 64, 80, 96}, {WK_SGEMM_TN, 96, 80, 64}};
    const engines *e = (const engines *)*state;
    const wk_kernels *k = &e->k[e->n_level - 1];
    for (int asked = 0; asked < WK_SGEMM_BF16; asked++) {
        wk_sgemm *g = NULL;
        double rate[3] = {0};
        wk_sgemm_engine chosen[3] = {WK_SGEMM_AUTO, WK_SGEMM_AUTO, WK_SGEMM_AUTO};
        if (asked == WK_SGEMM_ONEDNN && !wk_sgemm_has_onednn()) continue;
        assert_int_equal(wk_sgemm_new(&g, k, NULL, e->team[0], (wk_sgemm_engine)asked, NULL), WICK_OK);
        assert_int_equal(wk_sgemm_probe(g, shapes, 3, rate, chosen, NULL), WICK_OK);
        for (int i = 0; i < 3; i++) {
            assert_true(rate[i] > 1e6 && isfinite(rate[i]));
            assert_true(chosen[i] == WK_SGEMM_WICK || chosen[i] == WK_SGEMM_ONEDNN);
            if (asked) assert_int_equal(chosen[i], asked);
            sgemm_case o = {.seed = 9};
            sgemm_case_make(&o, shapes[i].op, (sgemm_shape){shapes[i].m, shapes[i].n, shapes[i].k}, false, 0);
            memcpy(o.c, o.before, o.n_c * sizeof(float));
            wk_sgemm_run(g, &o.call);
            if (chosen[i] == WK_SGEMM_WICK) assert_memory_equal(o.c, o.want, o.n_c * sizeof(float));
            assert_true(sgemm_case_distance(&o) < 1e-5);
            sgemm_case_free(&o);
        }
        assert_true(wk_sgemm_flops(g) == 3 * 2.0 * 64 * 96 * 80); /* what was timed is not counted */
        wk_sgemm_free(g);
    }
}

static void no_memory(void **state) {
    const engines *e = (const engines *)*state;
    wk_sgemm *g = NULL;
    wk_err err = {0};
    wk_alloc_fail_at(1, true);
    const int rc = wk_sgemm_new(&g, &e->k[0], NULL, e->team[0], WK_SGEMM_WICK, &err);
    wk_alloc_fail_at(0, false);
    assert_int_equal(rc, WICK_E_NOMEM);
    assert_null(g);
    wk_sgemm_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(borders),      cmocka_unit_test(large),
        cmocka_unit_test(thin_inside),
        cmocka_unit_test(stages),       cmocka_unit_test(counts_flops),
        cmocka_unit_test(onednn_is_near), cmocka_unit_test(probe_chooses),
        cmocka_unit_test(hot_path_allocates_nothing), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

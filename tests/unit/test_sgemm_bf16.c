/* Matrix products in bf16: every element has the bits of its definition (operands rounded, pairs of k, chunks of 128) for
 * every op, extents round the borders of panels, tiles, pairs and chunks, unaligned operands, strides with room between
 * rows, 1 to 6 threads, with the CPU's instructions and without; nothing is written beside C. */
#include <math.h>
#include <string.h>

#include "engine/base/arena.h"
#include "simd/level.h"
#include "tests/unit/sgemm_case.h"
#include "tests/unit/unit.h"

enum { N_CPU = 2, N_TEAM = 4, N_WAY = 2, REF = 0, NATIVE = 1 };

static const int team_size[N_TEAM] = {1, 2, 3, 6}; /* up to 4 each packs for itself */
static const char *const way_name[N_WAY] = {"ref", "native"};

typedef struct engines {
    wk_team *team[N_TEAM];
    wk_kernels k;
    wk_grad_kernels gk[N_WAY];
    wk_sgemm *g[N_WAY][N_TEAM]; /* NULL: this CPU has it not */
} engines;

static bool is_native(void) { return wk_cpu_detect() & WK_CPU_AVX512BF16; }

static int open_all(void **state) {
    static engines e;
    wk_kernels_init(&e.k, wk_cpu_detect());
    wk_grad_kernels_ref(&e.gk[REF]);
    wk_grad_kernels_init(&e.gk[NATIVE], wk_cpu_detect());
    for (int t = 0; t < N_TEAM; t++) {
        if (!(e.team[t] = wk_team_new(team_size[t], N_CPU))) return -1;
        for (int w = 0; w < N_WAY; w++) {
            if (w == NATIVE && !is_native()) continue;
            if (wk_sgemm_new(&e.g[w][t], &e.k, &e.gk[w], e.team[t], WK_SGEMM_BF16, NULL)) return -1;
        }
    }
    *state = &e;
    return 0;
}

static int close_all(void **state) {
    engines *e = (engines *)*state;
    for (int t = 0; t < N_TEAM; t++) {
        for (int w = 0; w < N_WAY; w++) wk_sgemm_free(e->g[w][t]);
        wk_team_free(e->team[t]);
    }
    return 0;
}

/* One case on the ways and teams that pick says: bit w*N_TEAM + t. */
static void check(const engines *e, wk_sgemm_op op, sgemm_shape s, bool add, size_t gap, uint32_t pick) {
    sgemm_case o = {.seed = (uint32_t)(s.m * 31 + s.n * 7 + s.k), .bf16 = true};
    sgemm_case_make(&o, op, s, add, gap);
    for (int w = 0; w < N_WAY; w++)
        for (int t = 0; t < N_TEAM; t++) {
            if (!(pick >> (w * N_TEAM + t) & 1) || !e->g[w][t]) continue;
            memcpy(o.c, o.before, o.n_c * sizeof(float));
            wk_sgemm_run(e->g[w][t], &o.call);
            if (memcmp(o.c, o.want, o.n_c * sizeof(float))) sgemm_case_fail(&o, way_name[w], team_size[t]);
        }
    sgemm_case_free(&o);
}

/* All extents of the list for all ops; ways and teams take turns. */
static void borders(void **state) {
    static const int32_t extents[] = {0, 1, 2, 15, 17, 31, 32, 33, 65, 129};
    const engines *e = (const engines *)*state;
    const int n = (int)WK_COUNT(extents), ways = N_WAY * N_TEAM;
    int turn = 0;
    for (int i = 0; i < n * n * n; i++) {
        const sgemm_shape s = {extents[i % n], extents[i / n % n], extents[i / n / n]};
        for (int op = 0; op < WK_SGEMM_OP_COUNT; op++, turn++)
            check(e, (wk_sgemm_op)op, s, turn & 1, turn % 3 ? 0 : 3, 1u << (turn % ways) | 1u << ((turn + 3) % ways));
    }
}

/* Several pieces of k, strips, ends of all kinds, several stages. */
static void large(void **state) {
    static const sgemm_shape shapes[] = {{129, 97, 2311}, {97, 130, 1400}, {8, 300, 1024}, {300, 8, 97},
                                         {1, 513, 130},   {200, 1, 1281},  {64, 1024, 65}};
    const engines *e = (const engines *)*state;
    for (size_t i = 0; i < WK_COUNT(shapes); i++)
        for (int op = 0; op < WK_SGEMM_OP_COUNT; op++) check(e, (wk_sgemm_op)op, shapes[i], i & 1, i & 2, ~0u);
    for (int op = 0; op < WK_SGEMM_OP_COUNT && is_native(); op++) {
        check(e, (wk_sgemm_op)op, (sgemm_shape){2055, 2070, 3}, false, 1, 15u << N_TEAM);
        check(e, (wk_sgemm_op)op, (sgemm_shape){65, 66, 26001}, true, 0, 15u << N_TEAM);
    }
}

/* A thin product beside it is that of f32, in front or behind. */
static void thin_stays_f32(void **state) {
    const engines *e = (const engines *)*state;
    enum { M = 70, N = 90, K = 130, RANK = 8 };
    wk_sgemm *wide = e->g[is_native()][1], *f32 = NULL;
    assert_int_equal(wk_sgemm_new(&f32, &e->k, NULL, e->team[1], WK_SGEMM_WICK, NULL), WICK_OK);
    for (int before = 0; before < 2; before++) {
        sgemm_case o = {.seed = 3, .bf16 = true};
        sgemm_case_make(&o, before ? WK_SGEMM_NN : WK_SGEMM_NT, (sgemm_shape){M, N, K}, false, 0);
        float *u = sgemm_case_floats(&o.seed, M * RANK), *b = sgemm_case_floats(&o.seed, N * RANK),
              *panels = sgemm_case_floats(&o.seed, wk_sgemm_thin_size(N, RANK)), *y = sgemm_case_floats(&o.seed, M * N);
        wk_sgemm_thin_panels(panels, b, RANK, N, RANK, false);
        const wk_sgemm_thin thin = {.k = RANK, .before = before, .scale = before ? 1.0f : 1.7f, .a = u, .lda = RANK, .panels = panels};
        wk_sgemm_call c = o.call, alone = o.call;
        alone.op = WK_SGEMM_NT;
        alone.a = u, alone.b = b, alone.k = RANK, alone.lda = alone.ldb = RANK;
        if (before) {
            wk_sgemm_run(f32, &alone);
            c.add = true;
            wk_sgemm_run(wide, &c);
        } else {
            alone.c = y;
            wk_sgemm_run(wide, &c);
            wk_sgemm_run(f32, &alone);
            for (int i = 0; i < M * N; i++) c.c[i] = fmaf(thin.scale, y[i], c.c[i]);
        }
        memcpy(o.want, o.c, o.n_c * sizeof(float));
        c = o.call;
        c.thin = &thin;
        wk_sgemm_run(wide, &c);
        if (memcmp(o.c, o.want, o.n_c * sizeof(float))) sgemm_case_fail(&o, "thin", 2);
        wk_free(u);
        wk_free(b);
        wk_free(panels);
        wk_free(y);
        sgemm_case_free(&o);
    }
    wk_sgemm_free(f32);
}

/* Near the product of f32, and not it. */
static void near_f32(void **state) {
    const engines *e = (const engines *)*state;
    for (int op = 0; op < WK_SGEMM_OP_COUNT; op++) {
        sgemm_case o = {.seed = 5};
        sgemm_case_make(&o, (wk_sgemm_op)op, (sgemm_shape){130, 67, 300}, true, 3);
        memcpy(o.c, o.before, o.n_c * sizeof(float));
        wk_sgemm_run(e->g[is_native()][2], &o.call);
        const double d = sgemm_case_distance(&o);
        assert_true(d < 0x1p-7 && d > 1e-5);
        sgemm_case_free(&o);
    }
}

static void hot_path(void **state) {
    const engines *e = (const engines *)*state;
    sgemm_case o = {.seed = 1, .bf16 = true};
    sgemm_case_make(&o, WK_SGEMM_TN, (sgemm_shape){70, 90, 600}, false, 0);
    const uint64_t before = wk_alloc_count();
    const double flops = wk_sgemm_flops(e->g[REF][1]);
    wk_sgemm_run(e->g[REF][1], &o.call);
    assert_true(wk_alloc_count() == before);
    assert_true(wk_sgemm_flops(e->g[REF][1]) - flops == 2.0 * 70 * 90 * 600);
    sgemm_case_free(&o);
}

/* The probe measures this engine and no other. */
static void probe(void **state) {
    static const wk_sgemm_shape shapes[] = {{WK_SGEMM_NT, 64, 96, 80}, {WK_SGEMM_TN, 96, 80, 64}};
    const engines *e = (const engines *)*state;
    double rate[2] = {0};
    wk_sgemm_engine chosen[2] = {WK_SGEMM_AUTO, WK_SGEMM_AUTO};
    assert_int_equal(wk_sgemm_probe(e->g[REF][0], shapes, 2, rate, chosen, NULL), WICK_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(chosen[i], WK_SGEMM_BF16);
        assert_true(rate[i] > 1e5 && isfinite(rate[i]));
    }
}

static void has_instructions(void **state) {
    (void)state;
    if (is_native()) return;
    print_message("this CPU has no AVX512_BF16: the definition alone was tested\n");
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(borders),  cmocka_unit_test(large), cmocka_unit_test(thin_stays_f32), cmocka_unit_test(near_f32),
        cmocka_unit_test(hot_path), cmocka_unit_test(probe), cmocka_unit_test(has_instructions),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

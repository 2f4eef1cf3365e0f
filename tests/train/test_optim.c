/* test_optim.c: schedules at their corners, the norm of gradients, AdamW against double, and independence of the team. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/train/optim.h"
#include "engine/train/trainer.h"
#include "simd/level.h"

static void near(double a, double b) {
    if (!(fabs(a - b) <= 1e-12 * (1.0 + fabs(b)))) fail_msg("%.17g, wanted %.17g", a, b);
}

static void test_schedule(void **state) {
    (void)state;
    wk_schedule s = {WK_LR_COSINE, 100, 10, 1.0, 0.1};
    near(wk_schedule_lr(&s, 0), 1.0 / 11.0);
    near(wk_schedule_lr(&s, 9), 10.0 / 11.0);
    near(wk_schedule_lr(&s, 10), 1.0);
    near(wk_schedule_lr(&s, 99), 0.1);
    s.kind = WK_LR_LINEAR;
    near(wk_schedule_lr(&s, 99), 0.1);
    near(wk_schedule_lr(&s, 10), 1.0);
    s.steps = 21; /* warmup 10, then 10 equal falls */
    near(wk_schedule_lr(&s, 15), 1.0 - 0.9 * 0.5);
    s = (wk_schedule){WK_LR_WSD, 101, 0, 2.0, 0.0};
    near(wk_schedule_lr(&s, 79), 2.0);
    near(wk_schedule_lr(&s, 90), 1.0);
    near(wk_schedule_lr(&s, 100), 0.0);
    s.kind = WK_LR_CONST;
    near(wk_schedule_lr(&s, 100), 2.0);
    s = (wk_schedule){WK_LR_COSINE, 1, 0, 3.0, 0.5}; /* one step: the peak */
    near(wk_schedule_lr(&s, 0), 3.0);
    for (int k = 0; k < WK_LR_COUNT; k++) assert_non_null(wk_schedule_name((wk_lr_kind)k));
}

enum { N_PARAM = 3 };
static const wk_param params[N_PARAM] = {
    {0, 0, 9001, true}, {1, 9008, 17, false}, {2, 9040, 4096, true}};
enum { N_ELEM = 9040 + 4096 };

typedef struct run {
    float w[N_ELEM], g[N_ELEM];
    double norm;
} run;

static float value(uint32_t i, uint32_t salt) {
    uint32_t x = i * 2654435761u + salt * 97u;
    x ^= x >> 15;
    x *= 2246822519u;
    return (float)(int32_t)(x ^ x >> 13) * 0x1p-31f;
}

static void three_steps(run *r, int n_thread, uint32_t cpu) {
    wk_grad g = {.param = (wk_param *)(uintptr_t)params, .n_param = N_PARAM, .n_elem = N_ELEM};
    wk_grad_kernels gk;
    wk_err err;
    wk_optim o;
    const wk_optim_options opt = {0.1, 0.9, 0.95, 1e-8};
    wk_team *team = wk_team_new(n_thread, n_thread);
    wk_grad_kernels_init(&gk, cpu);
    for (uint32_t i = 0; i < N_ELEM; i++) r->w[i] = value(i, 1);
    memset(r->g, 0, sizeof(r->g));
    assert_int_equal(wk_optim_init(&o, &g, &gk, team, r->w, r->g, &opt, &err), 0);
    for (int64_t t = 1; t <= 3; t++) {
        for (int p = 0; p < N_PARAM; p++)
            for (size_t i = 0; i < params[p].n; i++)
                r->g[params[p].off + i] = value((uint32_t)(params[p].off + i), 2 + (uint32_t)t);
        r->norm = wk_optim_norm(&o);
        wk_optim_step(&o, t, 1e-2, 0.5);
        for (size_t i = 0; i < N_ELEM; i++) assert_true(r->g[i] == 0.0f);
    }
    wk_optim_fini(&o);
    wk_team_free(team);
}

static void test_update(void **state) {
    (void)state;
    static run a, b;
    three_steps(&a, 1, 0);
    for (int n = 1; n <= 3; n++) {
        three_steps(&b, n, wk_cpu_detect());
        assert_memory_equal(a.w, b.w, sizeof(a.w));
        assert_true(a.norm == b.norm);
    }
    double norm = 0.0;
    for (int p = 0; p < N_PARAM; p++)
        for (size_t i = params[p].off; i < params[p].off + params[p].n; i++) {
            double w = (double)value((uint32_t)i, 1), m = 0.0, v = 0.0;
            norm += (double)value((uint32_t)i, 5) * (double)value((uint32_t)i, 5);
            for (int t = 1; t <= 3; t++) {
                const double g = 0.5 * (double)value((uint32_t)i, 2 + (uint32_t)t);
                w -= params[p].decays ? 1e-2 * 0.1 * w : 0.0;
                m = 0.9 * m + 0.1 * g;
                v = 0.95 * v + 0.05 * g * g;
                w -= 1e-2 * (m / (1 - pow(0.9, t))) / (sqrt(v / (1 - pow(0.95, t))) + 1e-8);
            }
            if (fabs(w - (double)a.w[i]) > 2e-6)
                fail_msg("element %zu is %.9g, wanted %.9g", i, (double)a.w[i], w);
        }
    if (fabs(a.norm / sqrt(norm) - 1.0) > 1e-6)
        fail_msg("norm %.9g, wanted %.9g", a.norm, sqrt(norm));
}

static void test_normal(void **state) {
    (void)state;
    enum { N = 200000 };
    double sum = 0.0, squares = 0.0, fourth = 0.0, neighbours = 0.0, last = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        const double x = wk_normal(7, 3, i);
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
        neighbours += x * last;
        last = x;
    }
    assert_true(fabs(sum / N) < 0.01);
    assert_true(fabs(squares / N - 1.0) < 0.02);
    assert_true(fabs(fourth / N - 3.0) < 0.1);
    assert_true(fabs(neighbours / N) < 0.01);
    assert_true(wk_normal(7, 3, 5) == wk_normal(7, 3, 5));
    assert_true(wk_normal(7, 4, 5) != wk_normal(7, 3, 5));
}

/* Ranks that know nothing of each other would write the same folder. */
static void test_ranks_without_mpi(void **state) {
    (void)state;
    if (wk_comm_built_in()) {
        print_message("skipped: this build has MPI\n");
        skip();
    }
    wk_err err;
    wk_trainer *t;
    const wk_train_config c = {.model = "absent.gguf", .ranks = true, .steps = 1, .batch = 1};
    assert_int_equal(wk_trainer_open(&t, &c, &err), WICK_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "MPI"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_schedule),
                                       cmocka_unit_test(test_update),
                                       cmocka_unit_test(test_normal),
                                       cmocka_unit_test(test_ranks_without_mpi)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

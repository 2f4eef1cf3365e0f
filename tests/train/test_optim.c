/* test_optim.c: schedules at their corners, the norm of gradients, AdamW against double, and independence of the team. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/half.h"
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

static void some_steps(run *r, wk_optim_kind kind, int n_step, int n_thread, uint32_t cpu) {
    wk_grad g = {.param = (wk_param *)(uintptr_t)params, .n_param = N_PARAM, .n_elem = N_ELEM};
    wk_grad_kernels gk;
    wk_err err;
    wk_optim o;
    const wk_optim_options opt = {0.1, 0.9, 0.95, 1e-8, kind};
    wk_team *team = wk_team_new(n_thread, n_thread);
    wk_grad_kernels_init(&gk, cpu);
    for (uint32_t i = 0; i < N_ELEM; i++) r->w[i] = value(i, 1);
    memset(r->g, 0, sizeof(r->g));
    assert_int_equal(wk_optim_init(&o, &g, &gk, team, r->w, r->g, &opt, &err), 0);
    for (int64_t t = 1; t <= n_step; t++) {
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
    some_steps(&a, WK_OPTIM_ADAMW, 3, 1, 0);
    for (int n = 1; n <= 3; n++) {
        some_steps(&b, WK_OPTIM_ADAMW, 3, n, wk_cpu_detect());
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

/* The same bits for every team and level. */
static void check_same_bits(wk_optim_kind kind, run *a, int n_step) {
    static run b;
    some_steps(a, kind, n_step, 1, 0);
    for (int n = 1; n <= 3; n++) {
        some_steps(&b, kind, n_step, n, wk_cpu_detect());
        assert_memory_equal(a->w, b.w, sizeof(b.w));
    }
}

static void test_sgd(void **state) {
    (void)state;
    static run a;
    check_same_bits(WK_OPTIM_SGD, &a, 4);
    for (int p = 0; p < N_PARAM; p++)
        for (size_t i = params[p].off; i < params[p].off + params[p].n; i++) {
            double w = (double)value((uint32_t)i, 1), m = 0.0;
            for (int t = 1; t <= 4; t++) {
                m = 0.9 * m + 0.5 * (double)value((uint32_t)i, 2 + (uint32_t)t);
                w = w * (params[p].decays ? 1 - 1e-2 * 0.1 : 1.0) - 1e-2 * m;
            }
            if (fabs(w - (double)a.w[i]) > 5e-7) fail_msg("element %zu is %.9g, wanted %.9g", i, (double)a.w[i], w);
        }
}

/* Against AdamW in double: v is off by at most a step of bf16 (1/128) a time, either way, so that the errors of many
 * elements cancel. */
static void test_v16(void **state) {
    (void)state;
    enum { STEPS = 12 };
    static run a;
    double bias = 0.0, size = 0.0;
    size_t n = 0;
    check_same_bits(WK_OPTIM_ADAMW_V16, &a, STEPS);
    for (int p = 0; p < N_PARAM; p++)
        for (size_t i = params[p].off; i < params[p].off + params[p].n; i++) {
            double w = (double)value((uint32_t)i, 1), m = 0.0, v = 0.0, moved = 0.0;
            for (int t = 1; t <= STEPS; t++) {
                const double g = 0.5 * (double)value((uint32_t)i, 2 + (uint32_t)t);
                w -= params[p].decays ? 1e-2 * 0.1 * w : 0.0;
                m = 0.9 * m + 0.1 * g;
                v = 0.95 * v + 0.05 * g * g;
                const double step = 1e-2 * (m / (1 - pow(0.9, t))) / (sqrt(v / (1 - pow(0.95, t))) + 1e-8);
                w -= step;
                moved += fabs(step);
            }
            const double error = (double)a.w[i] - w;
            if (fabs(error) > 0.02 * moved + 2e-6) /* sqrt(v): half of the 1/128 a time, some times over */
                fail_msg("element %zu is %.9g, wanted %.9g after moves of %.3g", i, (double)a.w[i], w, moved);
            bias += error;
            size += fabs(error);
            n++;
        }
    assert_true(size / (double)n > 1e-6); /* it is no f32 in disguise */
    if (fabs(bias) > 0.1 * size) fail_msg("the errors lean to one side: %.3g of %.3g", bias, size);
}

/* With beta2 0.999 v moves by less than half a step of bf16: rounded to the nearest it would stand still. */
static void test_v16_moves(void **state) {
    (void)state;
    enum { N = 4096, STEPS = 700 };
    static float w[N], g[N];
    static const wk_param all = {0, 0, N, false};
    wk_grad grad = {.param = (wk_param *)(uintptr_t)&all, .n_param = 1, .n_elem = N};
    const wk_optim_options opt = {0.0, 0.9, 0.999, 1e-8, WK_OPTIM_ADAMW_V16};
    wk_grad_kernels gk;
    wk_err err;
    wk_optim o;
    wk_team *team = wk_team_new(1, 1);
    wk_grad_kernels_init(&gk, wk_cpu_detect());
    assert_int_equal(wk_optim_init(&o, &grad, &gk, team, w, g, &opt, &err), 0);
    for (int64_t t = 1; t <= STEPS; t++) {
        for (int i = 0; i < N; i++) g[i] = 1.0f;
        wk_optim_step(&o, t, 1e-3, 1.0);
    }
    double mean = 0.0;
    for (int i = 0; i < N; i++) mean += (double)wk_bf16_to_f32(((const wk_bf16 *)(const void *)o.v.p)[i]) / N;
    const double want = 1.0 - pow(0.999, STEPS);
    if (fabs(mean - want) > 2e-3) fail_msg("v is %.5f after %d steps, wanted %.5f", mean, STEPS, want);
    wk_optim_fini(&o);
    wk_team_free(team);
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
                                       cmocka_unit_test(test_sgd),
                                       cmocka_unit_test(test_v16),
                                       cmocka_unit_test(test_v16_moves),
                                       cmocka_unit_test(test_normal),
                                       cmocka_unit_test(test_ranks_without_mpi)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Training with products in bf16: losses and gradients are near those of f32, and not the same; they have the same bits
 * for every number of threads, with recomputation, and by the CPU's instructions as by the definition. */
#include <math.h>
#include <string.h>

#include "simd/level.h"
#include "tests/train/fixture.h"
#include "tests/train/tiny_gguf.h"
#include "tests/unit/unit.h"

enum { MAX_TOK = 256, RANK = 6 };
/* Rounding of an operand is up to 2^-9 relative, of a product 2^-8, averaged in sums; through some layers there and back
 * this gives 1e-2: measured 4e-3 to 2.8e-2. Wrong pairs, or halves, give 0.3 and more. */
#define GRAD_BOUND 5e-2
#define COSINE_BOUND 1e-3
#define LOSS_BOUND 2e-2

static const tiny_spec models[] = {
    {.name = "llama", .arch = "llama", .dim = 64, .n_ff = 176, .n_layer = 3, .n_head = 4, .n_head_kv = 2, .head_dim = 16,
     .n_vocab = 257, .untied = true, .amplitude = 0.15f, .seed = 31},
    {.name = "qwen2", .arch = "qwen2", .dim = 76, .n_ff = 132, .n_layer = 3, .n_head = 6, .n_head_kv = 2, .head_dim = 22,
     .n_vocab = 300, .bias = true, .untied = true, .amplitude = 0.15f, .seed = 21},
    {.name = "gemma3", .arch = "gemma3", .dim = 44, .n_ff = 70, .n_layer = 3, .n_head = 4, .n_head_kv = 1, .head_dim = 24,
     .n_vocab = 130, .window = 40, .softcap = 4.0f, .amplitude = 0.2f, .seed = 22},
};
enum { N_MODEL = (int)WK_COUNT(models) };
static const int32_t lengths[] = {131, 1, 64, 17};

static void open_as(fixture *f, const tiny_spec *m, bool adapter, fixture_options o) {
    wk_buf b, a;
    wk_buf_init(&b, 0);
    wk_buf_init(&a, 0);
    tiny_build(&b, m);
    o.max_tok = MAX_TOK;
    if (adapter) {
        tiny_build_adapter(&a, m, RANK);
        o.adapter = store_of(&a);
    }
    fixture_open_memory(f, b, &o);
    f->adapter_bytes = a;
}

static double run(fixture *f, const tiny_spec *m) {
    rows r;
    wk_tloss loss;
    rows_make(&r, lengths, 4, m->n_vocab, 0);
    const wk_tbatch b = rows_batch(&r);
    wk_texec_run(f->exec, &b, true, &loss);
    rows_free(&r);
    return loss.sum / (double)loss.counted;
}

static void check_near(const tiny_spec *m, bool adapter) {
    fixture a, b;
    double worst = 0, least = 1;
    open_as(&a, m, adapter, (fixture_options){.bf16 = true});
    open_as(&b, m, adapter, (fixture_options){0});
    const double got = run(&a, m), want = run(&b, m);
    if (!(fabs(got - want) <= LOSS_BOUND) || got == want)
        fail_msg("%s: the loss is %.9f, in f32 %.9f", m->name, got, want);
    for (int32_t i = 0; i < a.grad->n_param; i++) {
        const wk_param *p = &a.grad->param[i];
        const distance d = distance_of(wk_texec_grads(a.exec) + p->off, wk_texec_grads(b.exec) + p->off, p->n);
        if (!(d.relative <= GRAD_BOUND) || !(d.cosine >= 1 - COSINE_BOUND) || d.relative == 0)
            fail_msg("%s: %s: distance %.2e, cosine 1 - %.1e", m->name, param_name(a.grad, i), d.relative, 1 - d.cosine);
        worst = d.relative > worst ? d.relative : worst;
        least = d.relative < least ? d.relative : least;
    }
    print_message("%s%s: loss %.6f, in f32 %.6f; gradients differ by %.1e to %.1e\n", m->name, adapter ? ", adapter" : "", got,
                  want, least, worst);
    fixture_close(&a);
    fixture_close(&b);
}

static void near_f32(void **state) {
    (void)state;
    for (int i = 0; i < N_MODEL; i++) check_near(&models[i], false);
}

static void adapter_near_f32(void **state) {
    (void)state;
    for (int i = 0; i < N_MODEL; i++) check_near(&models[i], true);
}

static void check_same(const char *what, bool adapter, fixture_options x, fixture_options y) {
    x.bf16 = y.bf16 = true;
    for (int i = 0; i < N_MODEL; i++) {
        fixture a, b;
        open_as(&a, &models[i], adapter, x);
        open_as(&b, &models[i], adapter, y);
        for (int again = 0; again < 2; again++) { /* the second time adds */
            const double p = run(&a, &models[i]), q = run(&b, &models[i]);
            if (memcmp(&p, &q, sizeof(p)) != 0 ||
                memcmp(wk_texec_grads(a.exec), wk_texec_grads(b.exec), a.grad->n_elem * sizeof(float)) != 0)
                fail_msg("%s, %s%s: not the same bits", models[i].name, what, adapter ? ", adapter" : "");
        }
        fixture_close(&a);
        fixture_close(&b);
    }
}

static void threads(void **state) {
    (void)state;
    for (int n = 2; n <= 5; n += 3)
        for (int adapter = 0; adapter < 2; adapter++)
            check_same("threads", adapter, (fixture_options){.n_thread = 1}, (fixture_options){.n_thread = n});
}

static void recompute(void **state) {
    (void)state;
    for (int adapter = 0; adapter < 2; adapter++)
        check_same("recompute", adapter, (fixture_options){0}, (fixture_options){.recompute = true});
}

static void instructions(void **state) {
    (void)state;
    if (!(wk_cpu_detect() & WK_CPU_AVX512BF16)) {
        print_message("this CPU has no AVX512_BF16: the definition alone was tested\n");
        skip();
    }
    check_same("ref", false, (fixture_options){.cpu = WK_NO_LEVEL}, (fixture_options){0});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_f32),  cmocka_unit_test(adapter_near_f32), cmocka_unit_test(threads),
        cmocka_unit_test(recompute), cmocka_unit_test(instructions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_steps.c: the list of training steps against central differences of itself, and the executor against the list.
 * The first proves the rules, the second the kernels; neither needs a file. */
#include <math.h>

#include "engine/base/arena.h"
#include "simd/kernels.h"
#include "tests/train/fixture.h"
#include "tests/train/oracle_steps.h"
#include "tests/train/tiny_gguf.h"
#include "tests/unit/unit.h"

/* Steps that no known architecture asks for, but the operations can do. */
static void cap_scores(wk_plan *p) {
    for (int32_t i = 0; i < p->n_step; i++)
        if (p->step[i].op == WK_OP_attn) p->step[i].softcap = 0.7f;
}
static void pair_neighbours(wk_plan *p) {
    for (int32_t i = 0; i < p->n_step; i++)
        if (p->step[i].op == WK_OP_rope) p->step[i].pairing = WK_ROPE_NEIGHBOURS;
}

typedef struct subject {
    tiny_spec m;
    void (*edit)(wk_plan *p);
    int32_t rank; /* of an adapter that is trained; 0: the model is */
} subject;

static void open_subject(fixture *f, const subject *s, fixture_options o) {
    wk_buf b, a;
    wk_buf_init(&b, 0);
    wk_buf_init(&a, 0);
    tiny_build(&b, &s->m);
    o.edit = s->edit;
    if (s->rank) {
        tiny_build_adapter(&a, &s->m, s->rank);
        o.adapter = store_of(&a);
    }
    fixture_open_memory(f, b, &o);
    f->adapter_bytes = a;
}

/* ---- rules: central differences ------------------------------------------------------------------ */

#define SHAPE(width, ff, layers, heads, heads_kv, head, vocab)                                     \
    .dim = width, .n_ff = ff, .n_layer = layers, .n_head = heads, .n_head_kv = heads_kv,          \
    .head_dim = head, .n_vocab = vocab

enum { PER_TENSOR = 64 };
static const double STEP = 2e-5, RULES_BOUND = 1e-8;

static const subject small[] = {
    {{.name = "llama", .arch = "llama", SHAPE(12, 10, 2, 4, 2, 6, 11),
      .untied = true, .seed = 1}, NULL, 0},
    {{.name = "qwen2", .arch = "qwen2", SHAPE(8, 10, 2, 4, 2, 4, 11),
      .bias = true, .seed = 9}, NULL, 0},
    {{.name = "llama tied, capped scores", .arch = "llama", SHAPE(6, 10, 1, 3, 1, 4, 7),
      .amplitude = 0.9f, .seed = 2}, cap_scores, 0},
    {{.name = "qwen3, neighbours", .arch = "qwen3", SHAPE(8, 12, 2, 2, 1, 6, 9),
      .bias = true, .seed = 3}, pair_neighbours, 0},
    {{.name = "gemma3", .arch = "gemma3", SHAPE(8, 6, 6, 2, 1, 4, 9),
      .window = 4, .softcap = 1.5f, .seed = 4}, NULL, 0},
    {{.name = "llama, adapter", .arch = "llama", SHAPE(12, 10, 2, 4, 2, 6, 11),
      .seed = 1}, NULL, 2},
    {{.name = "gemma3, adapter wider than some", .arch = "gemma3", SHAPE(8, 6, 6, 2, 1, 4, 9),
      .window = 4, .softcap = 1.5f, .seed = 4}, NULL, 7},
};

static double loss_at(oracle *o, const wk_tbatch *b, double *x, double value) {
    const double old = *x;
    *x = value;
    const double loss = oracle_run(o, b, false, NULL);
    *x = old;
    return loss;
}

/* Central differences at one and two steps: what remains is of the fourth order, and a step may be so large that the
 * rounding of the loss does not matter. */
static double slope(oracle *o, const wk_tbatch *b, double *x) {
    const double one = loss_at(o, b, x, *x + STEP) - loss_at(o, b, x, *x - STEP);
    const double two = loss_at(o, b, x, *x + 2.0 * STEP) - loss_at(o, b, x, *x - 2.0 * STEP);
    return (8.0 * one - two) / (12.0 * STEP);
}

/* Up to 64 entries of one parameter; the largest error. */
static double check_param(oracle *o, const wk_tbatch *b, const wk_grad *g, int32_t param) {
    int64_t n;
    double *w = oracle_weight(o, g->param[param].weight, &n), worst = 0.0;
    double *want = wk_new_n(double, (size_t)n);
    memcpy(want, oracle_grad(o, param), (size_t)n * sizeof(*want));
    assert_int_equal(n, g->param[param].n);
    for (uint32_t i = 0; i < PER_TENSOR && i < n; i++) {
        const int64_t at =
            n <= PER_TENSOR
                ? i
                : (int64_t)((tiny_uniform(9, (uint32_t)param, i) + 1.0) / 2.0 * (double)n);
        const double error = fabs(slope(o, b, &w[at]) - want[at]) / fmax(1.0, fabs(want[at]));
        if (!(error <= worst)) worst = error;
    }
    wk_free(want);
    return worst;
}

static void check_rules(const subject *s, bool recompute) {
    static const int32_t length[] = {5, 1, 9};
    fixture f;
    open_subject(&f, s,
                 (fixture_options){.max_tok = 15, .recompute = recompute, .list_only = true});
    rows r;
    rows_make(&r, length, 3, s->m.n_vocab, 2);
    const wk_tbatch b = rows_batch(&r);
    oracle *o = oracle_new(f.grad);
    double worst = 0.0;
    assert_int_equal(f.grad->n_param, s->rank ? 14 * s->m.n_layer : f.plan->n_weight);
    for (int32_t p = 0; p < f.grad->n_param; p++) {
        (void)oracle_run(o, &b, true, NULL);
        const double error = check_param(o, &b, f.grad, p);
        if (!(error <= RULES_BOUND))
            fail_msg("%s, recompute %d: %s is off by %.1e", s->m.name, recompute,
                     param_name(f.grad, p), error);
        if (error > worst) worst = error;
    }
    print_message("%s, recompute %d: %d tensors, largest error %.1e\n", s->m.name, recompute,
                  (int)f.grad->n_param, worst);
    oracle_free(o);
    rows_free(&r);
    fixture_close(&f);
}

static void test_rules(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++)
        for (int recompute = 0; recompute < 2; recompute++) check_rules(&small[i], recompute);
}

/* ---- kernels: the executor against the list ------------------------------------------------------ */

static const double LOSS_BOUND = 1e-6;
/* f32 against double behind two to six layers: 2e-6 is what it comes to. */
static const double KERNELS_BOUND = 4e-6;

static const subject larger[] = {
    {{.name = "qwen2", .arch = "qwen2", SHAPE(68, 100, 2, 6, 2, 18, 131),
      .bias = true, .untied = true, .amplitude = 0.15f, .seed = 5}, NULL, 0},
    {{.name = "llama, capped scores", .arch = "llama", SHAPE(64, 80, 2, 2, 1, 64, 97),
      .amplitude = 0.2f, .seed = 6}, cap_scores, 0},
    {{.name = "qwen3, neighbours", .arch = "qwen3", SHAPE(36, 130, 2, 4, 4, 80, 65),
      .amplitude = 0.15f, .seed = 7}, pair_neighbours, 0},
    {{.name = "gemma3", .arch = "gemma3", SHAPE(40, 48, 6, 4, 1, 16, 70),
      .window = 70, .softcap = 3.0f, .amplitude = 0.6f, .seed = 31}, NULL, 0},
    {{.name = "qwen2, adapter", .arch = "qwen2", SHAPE(68, 100, 2, 6, 2, 18, 131),
      .bias = true, .untied = true, .amplitude = 0.15f, .seed = 5}, NULL, 5},
    {{.name = "llama, adapter", .arch = "llama", SHAPE(64, 80, 2, 2, 1, 64, 97),
      .amplitude = 0.2f, .seed = 6}, NULL, 16},
};

static void check_kernels(const subject *s, bool recompute) {
    static const int32_t length[] = {150, 1, 70, 64, 3};
    fixture f;
    open_subject(&f, s, (fixture_options){.max_tok = 300, .recompute = recompute});
    rows r;
    rows_make(&r, length, 5, s->m.n_vocab, 2);
    const wk_tbatch b = rows_batch(&r);
    oracle *o = oracle_new(f.grad);
    wk_tloss got;
    int64_t counted;
    wk_texec_run(f.exec, &b, true, &got);
    const double loss = oracle_run(o, &b, true, &counted);
    double worst = 0.0;
    assert_int_equal(got.counted, counted);
    if (!(fabs(got.sum - loss) <= LOSS_BOUND * loss))
        fail_msg("%s: loss %.9f, wanted %.9f", s->m.name, got.sum, loss);
    for (int32_t p = 0; p < f.grad->n_param; p++) {
        const wk_param *w = &f.grad->param[p];
        const distance d =
            distance_of_double(wk_texec_grads(f.exec) + w->off, oracle_grad(o, p), w->n);
        if (!(d.relative <= KERNELS_BOUND))
            fail_msg("%s, recompute %d: %s is off by %.1e", s->m.name, recompute,
                     param_name(f.grad, p), d.relative);
        if (d.relative > worst) worst = d.relative;
    }
    print_message("%s, recompute %d: largest distance %.1e, loss %.1e\n", s->m.name, recompute,
                  worst, fabs(got.sum - loss) / loss);
    oracle_free(o);
    rows_free(&r);
    fixture_close(&f);
}

static void test_kernels(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(larger) / sizeof(larger[0]); i++)
        for (int recompute = 0; recompute < 2; recompute++) check_kernels(&larger[i], recompute);
}

/* ---- frozen weights ------------------------------------------------------------------------------ */

static bool one_matrix(void *ud, const wk_weight *w) {
    (void)ud;
    return strcmp(w->name, "blk.1.attn_v.weight") == 0 ||
           strcmp(w->name, "blk.1.ffn_norm.weight") == 0;
}

/* What is trained gets the gradient it has when everything is; what is frozen costs no step below it. */
static void test_frozen(void **state) {
    (void)state;
    static const int32_t length[] = {33, 70};
    fixture all, two;
    open_subject(&all, &larger[0], (fixture_options){.max_tok = 128});
    open_subject(&two, &larger[0], (fixture_options){.max_tok = 128, .is_trained = one_matrix});
    rows r;
    rows_make(&r, length, 2, larger[0].m.n_vocab, 0);
    const wk_tbatch b = rows_batch(&r);
    wk_tloss x, y;
    wk_texec_run(all.exec, &b, true, &x);
    wk_texec_run(two.exec, &b, true, &y);
    assert_true(x.sum == y.sum && x.counted == y.counted);
    assert_int_equal(two.grad->n_param, 2);
    for (int32_t i = 0; i < 2; i++) {
        const int32_t j = param_of_name(all.grad, wk_cstr(param_name(two.grad, i)));
        assert_memory_equal(wk_texec_grads(two.exec) + two.grad->param[i].off,
                            wk_texec_grads(all.exec) + all.grad->param[j].off,
                            two.grad->param[i].n * sizeof(float));
    }
    for (int32_t i = two.grad->n_forward; i < two.grad->n_step; i++)
        assert_true(two.grad->step[i].layer != 0);
    rows_free(&r);
    fixture_close(&all);
    fixture_close(&two);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules), cmocka_unit_test(test_kernels),
                                       cmocka_unit_test(test_frozen)};
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_grad.c: losses, gradients and steps of training against references in double, and the promises about bits.
 *
 * tests/golden/grad is the project's own (make_grad.py). References of other makers are looked for in
 * ../shared/data/ref and read by the same code. The bounds are those of f32 sums against double; they hold per tensor,
 * since a bound on elements lets a gradient of zeros pass. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/arena.h"
#include "engine/train/optim.h"
#include "simd/level.h"
#include "tests/train/fixture.h"
#include "tests/train/prefill.h"
#include "tests/train/reference.h"
#include "tests/train/tiny_gguf.h"
#include "tests/unit/unit.h"

enum { MAX_TOK = 256, N_STEP = 10 };
static const double GRAD_BOUND = 1e-5, COSINE_BOUND = 1e-9, LOSS_BOUND = 1e-6, STEP_BOUND = 1e-5;
static const double ORDER_BOUND = 1e-6; /* the same sums in another order */

typedef struct model {
    const char *name, *other; /* file in tests/golden/grad, and in ../shared/data/ref/own */
    int32_t n_seq, n_row;     /* sequences, tokens of each */
} model;
static const model models[] = {{"llama_gqa_untied", "llama_gqa_untied", 3, 24},
                               {"qwen3_qknorm_tied", "qwen3_qknorm_tied_hd16", 3, 24},
                               {"qwen2_bias_tied", "qwen2_bias_tied", 3, 24},
                               {"gemma3_windows_cap", NULL, 2, 70}};
enum { N_MODEL = sizeof(models) / sizeof(models[0]) };

static void open_model(fixture *f, const model *m, const fixture_options *o) {
    char path[128];
    fixture_options with = *o;
    with.max_tok = m->n_seq * m->n_row;
    (void)snprintf(path, sizeof(path), "tests/golden/grad/%s.gguf", m->name);
    fixture_open(f, path, &with);
}

static reference *open_own(const model *m) {
    char path[128];
    (void)snprintf(path, sizeof(path), "tests/golden/grad/%s.ref.gguf", m->name);
    reference *r = reference_open(path);
    assert_non_null(r);
    return r;
}

/* Of another maker; NULL: not here, which is said. */
static reference *open_other(const model *m) {
    char path[128];
    if (!m->other) return NULL;
    (void)snprintf(path, sizeof(path), "../shared/data/ref/own/%s.safetensors", m->other);
    reference *r = reference_open(path);
    if (!r) print_message("not compared: %s is not there\n", path);
    return r;
}

/* ---- batches of a reference ------------------------------------------------------------------------ */

/* Sequences of n_row tokens; targets: all, or those of the masked case. */
static void read_rows(rows *r, const reference *ref, const model *m, bool masked) {
    enum { ROOM = 512 };
    double x[ROOM], want[ROOM];
    const int32_t n = m->n_seq * m->n_row;
    *r = (rows){.n_tok = n, .n_seq = m->n_seq};
    r->tok = wk_new_n(int32_t, (size_t)n);
    r->target = wk_new_n(int32_t, (size_t)n);
    r->seq = wk_new_n(wk_tseq, (size_t)m->n_seq);
    assert_int_equal(reference_reals(ref, "tokens", x, ROOM), n + m->n_seq);
    if (masked) assert_int_equal(reference_reals(ref, "masked.targets", want, ROOM), n);
    for (int32_t i = 0; i < n; i++) {
        const int32_t at = i / m->n_row * (m->n_row + 1) + i % m->n_row;
        r->tok[i] = (int32_t)x[at];
        r->target[i] = masked ? (int32_t)want[i] : (int32_t)x[at + 1];
        if (r->target[i] < 0) r->target[i] = -1;
    }
    for (int32_t i = 0; i < m->n_seq; i++) r->seq[i] = (wk_tseq){i * m->n_row, m->n_row};
}

/* ---- comparing ------------------------------------------------------------------------------------- */

/* Gradients of the mean against every tensor prefix + name that the reference has. Returns how many. */
static int32_t check_grads(fixture *f, const reference *r, const char *prefix, int64_t counted,
                           double *worst) {
    int32_t n_found = 0;
    for (int32_t i = 0; i < f->grad->n_param; i++) {
        const wk_param *p = &f->grad->param[i];
        float *want = reference_of(r, prefix, f->plan, &f->plan->weight[p->weight], p->n);
        if (!want) continue;
        n_found++;
        for (size_t j = 0; j < p->n; j++) want[j] = (float)((double)want[j] * (double)counted);
        const distance d = distance_of(wk_texec_grads(f->exec) + p->off, want, p->n);
        if (!(d.relative <= GRAD_BOUND) || !(d.cosine >= 1.0 - COSINE_BOUND))
            fail_msg("%s%s: distance %.2e, cosine 1 - %.1e", prefix, param_name(f->grad, i),
                     d.relative, 1.0 - d.cosine);
        if (d.relative > *worst) *worst = d.relative;
        wk_free(want);
    }
    return n_found;
}

static void check_real(const char *what, double got, double want, double bound) {
    if (!(fabs(got - want) <= bound))
        fail_msg("%s is %.12f, wanted %.12f within %.1e", what, got, want, bound);
}

static void zero_grads(fixture *f) {
    memset(wk_texec_grads(f->exec), 0, f->grad->n_elem * sizeof(float));
}

static wk_tloss run_rows(fixture *f, const rows *r, bool backward) {
    const wk_tbatch b = rows_batch(r);
    wk_tloss loss;
    wk_texec_run(f->exec, &b, backward, &loss);
    return loss;
}

static double norm_of(const fixture *f) {
    double sum = 0.0;
    const float *g = wk_texec_grads(f->exec);
    for (size_t i = 0; i < f->grad->n_elem; i++) sum += (double)g[i] * (double)g[i];
    return sqrt(sum);
}

/* ---- T1: losses and gradients ---------------------------------------------------------------------- */

static void check_plain(const model *m, const reference *ref) {
    fixture f;
    rows r;
    double worst = 0.0;
    open_model(&f, m, &(fixture_options){0});
    read_rows(&r, ref, m, false);
    const wk_tloss loss = run_rows(&f, &r, true);
    assert_int_equal(loss.counted, m->n_seq * m->n_row);
    check_real("the loss", loss.sum / (double)loss.counted, reference_real(ref, "loss"),
               LOSS_BOUND);
    assert_int_equal(check_grads(&f, ref, "grad.", loss.counted, &worst), f.plan->n_weight);
    check_real("the norm", norm_of(&f) / (double)loss.counted, reference_real(ref, "grad_norm"),
               LOSS_BOUND);
    print_message("%s%s: %d tensors, largest distance %.1e; loss within %.1e\n", m->name,
                  reference_is_hf(ref) ? " (other maker)" : "", (int)f.grad->n_param, worst,
                  fabs(loss.sum / (double)loss.counted - reference_real(ref, "loss")));
    rows_free(&r);
    fixture_close(&f);
}

/* ---- T4: masks ------------------------------------------------------------------------------------- */

static void check_masked(const model *m, const reference *ref) {
    fixture f;
    rows r;
    double worst = 0.0;
    open_model(&f, m, &(fixture_options){0});
    read_rows(&r, ref, m, true);
    const wk_tloss loss = run_rows(&f, &r, true);
    const double mean = loss.sum / (double)loss.counted;
    check_real("the masked loss", mean, reference_real(ref, "masked.loss"), LOSS_BOUND);
    assert_true(fabs(mean - reference_real(ref, "masked.loss_if_mean_of_means")) > 1e-4);
    assert_true(check_grads(&f, ref, "masked.grad.", loss.counted, &worst) > 5);
    rows_free(&r);
    fixture_close(&f);
}

/* The numbers themselves, so that a reference made anew cannot move them. */
static void test_known_losses(void **state) {
    static const double plain[] = {4.638757211947, 4.665031049938, 4.638401284154};
    static const double masked[] = {4.629899649365, 4.690087008465, 4.636699216841};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        reference *r = open_own(&models[i]);
        check_real("loss", reference_real(r, "loss"), plain[i], 1e-9);
        check_real("masked.loss", reference_real(r, "masked.loss"), masked[i], 1e-9);
        reference_close(r);
    }
}

/* ---- T2: ten steps of AdamW ------------------------------------------------------------------------- */

static void check_after(fixture *f, const reference *ref) {
    int32_t n = 0;
    for (int32_t i = 0; i < f->grad->n_param; i++) {
        const wk_param *p = &f->grad->param[i];
        float *want = reference_of(ref, "after10.", f->plan, &f->plan->weight[p->weight], p->n);
        if (!want) continue;
        n++;
        const distance d = distance_of(wk_texec_params(f->exec) + p->off, want, p->n);
        /* Where a gradient is all but zero its sign is a matter of rounding, and so is a whole step. */
        if (!(d.relative <= 5e-4))
            fail_msg("%s after ten steps: distance %.1e", param_name(f->grad, i), d.relative);
        wk_free(want);
    }
    assert_true(n > 4);
}

static void step_and_check(fixture *f, const rows *r, wk_optim *opt, int64_t t, double lr,
                           double loss, double norm) {
    const wk_tloss got = run_rows(f, r, true);
    const double n = (double)got.counted, have = wk_optim_norm(opt) / n;
    check_real("the loss of a step", got.sum / n, loss, STEP_BOUND * loss);
    check_real("the norm of a step", have, norm, 1e-4 * norm);
    wk_optim_step(opt, t, lr, (have > 1.0 ? 1.0 / (have + 1e-6) : 1.0) / n);
}

static void run_steps(fixture *f, const rows *r, const reference *ref, double lr) {
    double loss[N_STEP], norm[N_STEP];
    wk_err err = {0};
    wk_optim opt;
    const wk_optim_options o = {.decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    assert_int_equal(reference_reals(ref, "adamw.losses", loss, N_STEP), N_STEP);
    assert_int_equal(reference_reals(ref, "adamw.norms", norm, N_STEP), N_STEP);
    if (wk_optim_init(&opt, f->grad, &f->gk, f->team, wk_texec_params(f->exec),
                      wk_texec_grads(f->exec), &o, &err))
        fail_msg("%s", err.message);
    for (int i = 0; i < N_STEP; i++) step_and_check(f, r, &opt, i + 1, lr, loss[i], norm[i]);
    wk_optim_fini(&opt);
}

static void check_steps(const model *m, const reference *ref) {
    fixture f;
    rows r;
    open_model(&f, m, &(fixture_options){0});
    read_rows(&r, ref, m, false);
    run_steps(&f, &r, ref, 3e-3);
    check_after(&f, ref);
    rows_free(&r);
    fixture_close(&f);
}

static void each_reference(void (*check)(const model *m, const reference *ref)) {
    for (size_t i = 0; i < N_MODEL; i++) {
        reference *own = open_own(&models[i]), *other = open_other(&models[i]);
        check(&models[i], own);
        if (other) check(&models[i], other);
        reference_close(own);
        reference_close(other);
    }
}

static void test_gradients(void **state) { (void)state, each_reference(check_plain); }
static void test_masks(void **state) { (void)state, each_reference(check_masked); }
static void test_steps(void **state) { (void)state, each_reference(check_steps); }

/* ---- T3: adapters ----------------------------------------------------------------------------------- */

static wk_store *open_adapter(const model *m) {
    char path[128];
    wk_err err = {0};
    wk_store *s = NULL;
    (void)snprintf(path, sizeof(path), "tests/golden/grad/%s.lora.gguf", m->name);
    if (wk_store_open(&s, path, &err)) fail_msg("%s", err.message);
    return s;
}

static double check_factors(fixture *f, const reference *ref, int64_t counted) {
    double worst = 0.0;
    for (int32_t i = 0; i < f->grad->n_param; i++) {
        const wk_param *p = &f->grad->param[i];
        const wk_weight *w = &f->plan->weight[p->weight];
        float *want =
            reference_of(ref, w->is_lora_b ? "lora.gradB." : "lora.gradA.", f->plan, w, p->n);
        assert_non_null(want);
        for (size_t j = 0; j < p->n; j++) want[j] = (float)((double)want[j] * (double)counted);
        const distance d = distance_of(wk_texec_grads(f->exec) + p->off, want, p->n);
        if (!(d.relative <= GRAD_BOUND) || !(d.cosine >= 1.0 - COSINE_BOUND))
            fail_msg("%s: distance %.2e, cosine 1 - %.1e", param_name(f->grad, i), d.relative,
                     1.0 - d.cosine);
        if (d.relative > worst) worst = d.relative;
        wk_free(want);
    }
    return worst;
}

static void check_adapter(const model *m, const reference *ref) {
    fixture f;
    rows r;
    open_model(&f, m, &(fixture_options){.adapter = open_adapter(m)});
    read_rows(&r, ref, m, false);
    const wk_tloss loss = run_rows(&f, &r, true);
    const double want = reference_real(ref, "lora.loss"), got = loss.sum / (double)loss.counted;
    check_real("the loss with an adapter", got, want, LOSS_BOUND);
    assert_true(f.grad->n_param >= 28);
    print_message("%s%s: %d factors, largest distance %.1e\n", m->name,
                  reference_is_hf(ref) ? " (other maker)" : "", (int)f.grad->n_param,
                  check_factors(&f, ref, loss.counted));
    rows_free(&r);
    fixture_close(&f);
}
static void test_adapters(void **state) { (void)state, each_reference(check_adapter); }

static float *logits_of(fixture *f, const rows *r);

/* With B = 0 the logits are the base's, bit for bit. */
static void test_adapter_of_zeros(void **state) {
    (void)state;
    for (size_t i = 0; i < N_MODEL; i++) {
        const model *m = &models[i];
        fixture base, f;
        rows r;
        reference *ref = open_own(m);
        open_model(&base, m, &(fixture_options){0});
        open_model(&f, m, &(fixture_options){.adapter = open_adapter(m)});
        for (int32_t p = 0; p < f.grad->n_param; p++)
            if (f.plan->weight[f.grad->param[p].weight].is_lora_b)
                memset(wk_texec_params(f.exec) + f.grad->param[p].off, 0,
                       f.grad->param[p].n * sizeof(float));
        read_rows(&r, ref, m, false);
        float *a = logits_of(&base, &r), *b = logits_of(&f, &r);
        assert_memory_equal(a, b, (size_t)r.n_tok * (size_t)f.plan->n_vocab * sizeof(float));
        wk_free(a);
        wk_free(b);
        rows_free(&r);
        reference_close(ref);
        fixture_close(&base);
        fixture_close(&f);
    }
}

/* ---- T5: micro-batches ------------------------------------------------------------------------------ */

static void test_accumulation(void **state) {
    (void)state;
    for (size_t i = 0; i < N_MODEL; i++) {
        const model *m = &models[i];
        reference *ref = open_own(m);
        fixture one, parts;
        rows r;
        wk_tloss sum = {0}, part;
        open_model(&one, m, &(fixture_options){0});
        open_model(&parts, m, &(fixture_options){0});
        read_rows(&r, ref, m, true);
        const wk_tloss whole = run_rows(&one, &r, true);
        for (int32_t s = 0; s < r.n_seq; s++) {
            const wk_tseq seq = {0, r.seq[s].n_tok};
            const wk_tbatch b = {seq.n_tok, 1, r.tok + r.seq[s].first, r.target + r.seq[s].first,
                                 &seq};
            wk_texec_run(parts.exec, &b, true, &part);
            sum.sum += part.sum;
            sum.counted += part.counted;
        }
        assert_int_equal(sum.counted, whole.counted);
        check_real("the loss in parts", sum.sum, whole.sum, 1e-9 * whole.sum);
        for (int32_t p = 0; p < one.grad->n_param; p++) {
            const wk_param *w = &one.grad->param[p];
            const distance d = distance_of(wk_texec_grads(parts.exec) + w->off,
                                           wk_texec_grads(one.exec) + w->off, w->n);
            if (!(d.relative <= ORDER_BOUND))
                fail_msg("%s: %s differs in parts by %.1e", m->name, param_name(one.grad, p),
                         d.relative);
        }
        rows_free(&r);
        reference_close(ref);
        fixture_close(&one);
        fixture_close(&parts);
    }
}

/* ---- T6, T7: bits ------------------------------------------------------------------------------------ */

/* Long enough for several pages, chunks and panels; odd everywhere. */
static const tiny_spec odd[] = {
    {.name = "qwen2",
     .arch = "qwen2",
     .dim = 76,
     .n_ff = 132,
     .n_layer = 3,
     .n_head = 6,
     .n_head_kv = 2,
     .head_dim = 22,
     .n_vocab = 300,
     .bias = true,
     .untied = true,
     .amplitude = 0.15f,
     .seed = 21},
    {.name = "gemma3",
     .arch = "gemma3",
     .dim = 44,
     .n_ff = 70,
     .n_layer = 7,
     .n_head = 4,
     .n_head_kv = 1,
     .head_dim = 24,
     .n_vocab = 130,
     .window = 40,
     .softcap = 4.0f,
     .amplitude = 0.2f,
     .seed = 22},
};
static const int32_t odd_length[] = {131, 1, 64, 17};

static void open_odd(fixture *f, const tiny_spec *m, fixture_options o) {
    wk_buf b;
    wk_buf_init(&b, 0);
    tiny_build(&b, m);
    o.max_tok = MAX_TOK;
    fixture_open_memory(f, b, &o);
}

/* Loss and gradients of the same work done in two ways are the same bits. */
static void check_same(const tiny_spec *m, const char *what, fixture_options a, fixture_options b) {
    fixture f, g;
    rows r;
    open_odd(&f, m, a);
    open_odd(&g, m, b);
    rows_make(&r, odd_length, 4, m->n_vocab, 0);
    for (int i = 0; i < 2; i++) { /* the second time adds */
        const wk_tloss x = run_rows(&f, &r, true), y = run_rows(&g, &r, true);
        if (memcmp(&x.sum, &y.sum, sizeof(x.sum)) != 0)
            fail_msg("%s, %s: the loss differs", m->name, what);
        for (int32_t p = 0; p < f.grad->n_param; p++) {
            const wk_param *w = &f.grad->param[p];
            if (memcmp(wk_texec_grads(f.exec) + w->off, wk_texec_grads(g.exec) + w->off,
                       w->n * sizeof(float)) != 0)
                fail_msg("%s, %s: the gradient of %s differs", m->name, what,
                         param_name(f.grad, p));
        }
    }
    rows_free(&r);
    fixture_close(&f);
    fixture_close(&g);
}

static void test_recompute(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        check_same(&odd[i], "recompute", (fixture_options){0},
                   (fixture_options){.recompute = true});
}

static void test_threads(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        for (int n = 2; n <= 3; n++)
            check_same(&odd[i], n == 2 ? "two threads" : "three threads",
                       (fixture_options){.n_thread = 1}, (fixture_options){.n_thread = n});
}

static void test_levels(void **state) {
    (void)state;
    const uint32_t cpu = wk_cpu_detect();
    int n = 0;
    for (int level = 1; level < wk_level_count; level++) {
        if ((cpu & wk_levels[level].mask) != wk_levels[level].mask) continue;
        n++;
        for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
            check_same(&odd[i], wk_levels[level].name, (fixture_options){.cpu = WK_NO_LEVEL},
                       (fixture_options){.cpu = wk_levels[level].mask});
    }
    print_message("%d levels above ref\n", n);
}

/* AdamW and the norm: no bit depends on the team or the level either. */
static void test_steps_same(void **state) {
    (void)state;
    static const wk_optim_options o = {.decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    static const fixture_options how[2] = {{.n_thread = 1, .cpu = WK_NO_LEVEL}, {.n_thread = 3}};
    fixture f[2];
    wk_optim opt[2];
    double norm[2];
    wk_err err = {0};
    rows r;
    rows_make(&r, odd_length, 4, odd[0].n_vocab, 0);
    for (int i = 0; i < 2; i++) {
        open_odd(&f[i], &odd[0], how[i]);
        if (wk_optim_init(&opt[i], f[i].grad, &f[i].gk, f[i].team, wk_texec_params(f[i].exec),
                          wk_texec_grads(f[i].exec), &o, &err))
            fail_msg("%s", err.message);
    }
    for (int t = 1; t <= 3; t++) {
        for (int i = 0; i < 2; i++) {
            (void)run_rows(&f[i], &r, true);
            norm[i] = wk_optim_norm(&opt[i]);
            wk_optim_step(&opt[i], t, 1e-2, 1.0 / norm[i]);
        }
        assert_memory_equal(&norm[0], &norm[1], sizeof(norm[0]));
        assert_memory_equal(wk_texec_params(f[0].exec), wk_texec_params(f[1].exec),
                            f[0].grad->n_elem * sizeof(float));
    }
    for (int i = 0; i < 2; i++) {
        wk_optim_fini(&opt[i]);
        fixture_close(&f[i]);
    }
    rows_free(&r);
}

/* ---- T9: training's logits are prefill's ------------------------------------------------------------- */

typedef struct logits {
    float *p;
    int32_t n_vocab;
} logits;
static void take_row(void *ud, int32_t t, const float *row) {
    const logits *l = ud;
    memcpy(l->p + (size_t)t * (size_t)l->n_vocab, row, (size_t)l->n_vocab * sizeof(float));
}

/* The fixture's model opened anew: preparing a device gives the bytes of its file back to the system, and bytes in
 * memory would be zeros afterwards. */
static wk_store *open_again(const fixture *f, wk_buf *copy) {
    wk_err err = {0};
    wk_store *s = NULL;
    wk_buf_init(copy, 0);
    if (f->bytes.n) assert_true(wk_buf_add(copy, f->bytes.p, f->bytes.n));
    const int rc = f->bytes.n ? wk_store_open_memory(&s, copy->p, copy->n, "tiny.gguf", &err)
                              : wk_store_open(&s, wk_store_path(f->store), &err);
    if (rc) fail_msg("%s", err.message);
    return s;
}

/* [n_tok, n_vocab], wk_free'd by the caller */
static float *logits_of(fixture *f, const rows *r) {
    const wk_tbatch b = rows_batch(r);
    logits l = {wk_new_n(float, (size_t)r->n_tok *(size_t)f->plan->n_vocab), f->plan->n_vocab};
    assert_non_null(l.p);
    wk_texec_logits(f->exec, &b, take_row, &l);
    return l.p;
}

static void check_logits(fixture *f, const rows *r, const char *name) {
    float *got = logits_of(f, r);
    for (int32_t s = 0; s < r->n_seq; s++) {
        wk_buf copy;
        wk_store *again = open_again(f, &copy);
        float *want = prefill(again, NULL, r->tok + r->seq[s].first, r->seq[s].n_tok);
        const size_t row = (size_t)f->plan->n_vocab, first = (size_t)r->seq[s].first;
        for (size_t t = 0; t < (size_t)r->seq[s].n_tok; t++)
            if (memcmp(got + (first + t) * row, want + t * row, row * sizeof(float)) != 0)
                fail_msg("%s: sequence %d, token %zu: logits differ from prefill's", name, (int)s,
                         t);
        wk_free_aligned(want);
        wk_store_close(again);
        wk_buf_fini(&copy);
    }
    wk_free(got);
}

static void test_prefill_logits(void **state) {
    (void)state;
    fixture f;
    rows r;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        for (int recompute = 0; recompute < 2; recompute++) {
            open_odd(&f, &odd[i], (fixture_options){.recompute = recompute});
            rows_make(&r, odd_length, 4, odd[i].n_vocab, 0);
            check_logits(&f, &r, odd[i].name);
            rows_free(&r);
            fixture_close(&f);
        }
    for (size_t i = 0; i < N_MODEL; i++) {
        reference *ref = open_own(&models[i]);
        open_model(&f, &models[i], &(fixture_options){0});
        read_rows(&r, ref, &models[i], false);
        check_logits(&f, &r, models[i].name);
        rows_free(&r);
        fixture_close(&f);
        reference_close(ref);
    }
}

/* ---- T17: a trained model ----------------------------------------------------------------------------- */

static void read_story(rows *r, const reference *ref, int32_t n_seq, int32_t n_row) {
    enum { ROOM = 96 };
    double tok[ROOM], want[ROOM];
    static const int32_t length[] = {48, 48};
    rows_make(r, length, n_seq, 1, -1);
    assert_int_equal(reference_reals(ref, "input_ids", tok, ROOM), n_seq * n_row);
    assert_int_equal(reference_reals(ref, "targets", want, ROOM), n_seq * n_row);
    for (int32_t i = 0; i < r->n_tok; i++) {
        r->tok[i] = (int32_t)tok[i];
        r->target[i] = (int32_t)want[i];
    }
}

static void check_story_logits(fixture *f, const rows *r, const reference *ref) {
    const size_t n = (size_t)r->n_tok * (size_t)f->plan->n_vocab;
    float *got = logits_of(f, r);
    float *want = reference_f32(ref, "logits", n);
    double worst = 0.0;
    assert_non_null(want);
    for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    print_message("story: largest difference of logits %.1e\n", worst);
    assert_true(worst <= 1e-4);
    wk_free(want);
    wk_free(got);
}

static void test_story(void **state) {
    (void)state;
    const char *path = getenv("WICK_STORY");
    reference *ref = reference_open("../shared/data/ref/story656k_ref.safetensors");
    if (!path || !ref) {
        print_message("skipped: %s\n",
                      path ? "../shared/data/ref/story656k_ref.safetensors is not there"
                           : "WICK_STORY names no converted story model");
        reference_close(ref);
        skip();
    }
    fixture f;
    rows r;
    double worst = 0.0;
    fixture_open(&f, path, &(fixture_options){.max_tok = 96});
    read_story(&r, ref, 2, 48);
    check_story_logits(&f, &r, ref);
    const wk_tloss loss = run_rows(&f, &r, true);
    check_real("the loss", loss.sum / 96.0, reference_real(ref, "loss"), LOSS_BOUND);
    assert_int_equal(check_grads(&f, ref, "grad.", 96, &worst), f.grad->n_param);
    print_message("story: %d tensors, largest distance %.1e\n", (int)f.grad->n_param, worst);
    zero_grads(&f);
    run_steps(&f, &r, ref, 1e-3);
    rows_free(&r);
    fixture_close(&f);
    reference_close(ref);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_losses), cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_masks),        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_adapters),     cmocka_unit_test(test_adapter_of_zeros),
        cmocka_unit_test(test_accumulation), cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_levels),
        cmocka_unit_test(test_steps_same),   cmocka_unit_test(test_prefill_logits),
        cmocka_unit_test(test_story),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

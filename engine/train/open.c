/* open.c: a run is put together: team, products, plan, memory, what a checkpoint left. */
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/train/trainer.h"
#include "simd/level.h"

static int copy_strings(wk_trainer *t, wk_err *err) {
    const char **const field[] = {&t->c.model, &t->c.adapter, &t->c.data, &t->c.dir, &t->c.resume,
                                 &t->c.device};
    for (size_t i = 0; i < WK_COUNT(field); i++) {
        if (!*field[i]) continue;
        t->strings[i] = wk_strdup_n(*field[i], strlen(*field[i]));
        if (!t->strings[i]) return wk_fail(err, WICK_E_NOMEM, "no memory for the paths of the run");
        *field[i] = t->strings[i];
    }
    return WICK_OK;
}

static int take_team(wk_trainer *t, wk_err *err) {
    wk_machine m;
    wk_os_machine(&m);
    t->n_thread = t->c.threads > 0 ? t->c.threads : m.n_thread;
    t->team = wk_team_new(t->n_thread, m.n_affinity);
    if (!t->team)
        return wk_fail(err, WICK_E_NOMEM, "no memory for a team of %d threads", t->n_thread);
    const uint32_t cpu = wk_cpu_detect() & t->c.cpu_mask;
    wk_kernels_init(&t->k, cpu);
    wk_grad_kernels_init(&t->gk, cpu);
    return WICK_OK;
}

/* The products of one micro-batch, each shape once. */
static void add_shape(wk_trainer *t, wk_sgemm_op op, int32_t m, int32_t n, int32_t k) {
    for (size_t i = 0; i < t->n_shape; i++) {
        const wk_sgemm_shape *a = &t->shape[i];
        if (a->op == op && a->m == m && a->n == n && a->k == k) return;
    }
    t->shape[t->n_shape++] = (wk_sgemm_shape){op, m, n, k};
}

static int list_shapes(wk_trainer *t, wk_err *err) {
    const wk_grad *g = t->s.grad;
    t->shape = wk_new_n(wk_sgemm_shape, 3 * (size_t)g->n_step);
    if (!t->shape) return wk_fail(err, WICK_E_NOMEM, "no memory for the list of products");
    for (int32_t i = 0; i < g->n_step; i++) {
        const wk_tstep *s = &g->step[i];
        if (s->w < 0) continue;
        const wk_weight *w = &g->plan->weight[s->w];
        const int32_t rows = s->op == WK_TOP_head ? wk_texec_chunk(g) : g->max_tok;
        if (s->op == WK_OP_matmul || s->op == WK_TOP_head)
            add_shape(t, WK_SGEMM_NT, rows, w->n_row, w->k);
        if (s->op == WK_TOP_matmul_dx || (s->op == WK_TOP_head && s->dst[0] >= 0))
            add_shape(t, WK_SGEMM_NN, rows, w->k, w->n_row);
        if (s->op == WK_TOP_matmul_dw || (s->op == WK_TOP_head && s->param >= 0))
            add_shape(t, WK_SGEMM_TN, w->n_row, w->k, rows);
    }
    t->rate = wk_new_n(double, t->n_shape + 1);
    t->engine = wk_new_n(wk_sgemm_engine, t->n_shape + 1);
    return t->rate && t->engine ? WICK_OK
                                : wk_fail(err, WICK_E_NOMEM, "no memory for the list of products");
}

/* Peak over the model's products: their FLOPs over the time that they take at the best rate found. */
static int probe_products(wk_trainer *t, wk_err *err) {
    WK_TRY(list_shapes(t, err));
    WK_TRY(wk_sgemm_probe(t->gemm, t->shape, t->n_shape, t->rate, t->engine, err));
    double flops = 0.0, s = 0.0;
    for (size_t i = 0; i < t->n_shape; i++) {
        const double n =
            2.0 * (double)t->shape[i].m * (double)t->shape[i].n * (double)t->shape[i].k;
        if (!(t->rate[i] > 0.0)) continue;
        flops += n;
        s += n / t->rate[i];
    }
    t->peak = s > 0.0 ? flops / s : 0.0;
    return WICK_OK;
}

static int take_batch(wk_trainer *t, wk_err *err) {
    const size_t n = (size_t)t->s.grad->max_tok;
    t->tok = wk_new_n(int32_t, n);
    t->target = wk_new_n(int32_t, n);
    t->seq = wk_new_n(wk_tseq, n);
    return t->tok && t->target && t->seq
               ? WICK_OK
               : wk_fail(err, WICK_E_NOMEM, "no memory for a micro-batch");
}

static int open_host(wk_trainer *t, wk_err *err) {
    WK_TRY(wk_sgemm_new(&t->gemm, &t->k, &t->gk, t->team, t->s.target.bf16 ? WK_SGEMM_BF16 : (wk_sgemm_engine)t->c.gemm, err));
    const wk_texec_options o = {.team = t->team, .k = &t->k, .gk = &t->gk, .gemm = t->gemm};
    const wk_optim_options p = {
        .decay = t->c.decay, .beta1 = t->c.beta1, .beta2 = t->c.beta2, .eps = t->c.eps,
        .kind = (wk_optim_kind)t->c.optimizer};
    WK_TRY(probe_products(t, err));
    return wk_compute_host(&t->x, t->s.grad, &o, &p, err);
}

/* No products are probed: what a device could do at best is not known, and no share of it is told. */
static int open_device(wk_trainer *t, wk_err *err) {
    const wk_target *d = &t->s.target;
    const wk_tdev_options o = {.index = d->index,
                               .bf16 = d->bf16,
                               .decay = t->c.decay,
                               .beta1 = t->c.beta1,
                               .beta2 = t->c.beta2,
                               .eps = t->c.eps,
                               .host = &d->host};
    return wk_compute_device(&t->x, t->s.grad, d->ops, &o, err);
}

static void compare_target(const wk_trainer *t) {
    if (strcmp(t->ran_on, t->s.target.name) != 0)
        wk_log(WK_LOG_WARN, "the run was begun on %s and goes on on %s: its numbers will differ in the last digits from an "
                            "uninterrupted one", wk_show(wk_cstr(t->ran_on)).text, t->s.target.name);
    if (t->ran_bf16 != t->s.target.bf16)
        wk_log(WK_LOG_WARN, "the run was begun with products in %s, it goes on with %s: its numbers will differ",
               t->ran_bf16 ? "bf16" : "f32", t->s.target.bf16 ? "bf16" : "f32");
}

static int open_all(wk_trainer *t, wk_err *err) {
    WK_TRY(copy_strings(t, err));
    WK_TRY(wk_target_check(&t->c, err));
    if (t->c.resume) WK_TRY(wk_ckpt_read(t, t->c.resume, err));
    if (t->c.ranks && !wk_comm_built_in())
        return wk_fail(err, WICK_E_UNSUPPORTED, "several ranks need a build with MPI, this one has none");
    if (t->c.ranks) WK_TRY(wk_comm_open(&t->comm, err));
    WK_TRY(take_team(t, err));
    WK_TRY(wk_setup_open(&t->s, &t->c, t->n_thread, err));
    if (t->s.cost.fits == 0 && t->c.fit_check) return wk_setup_refuse(&t->s, err);
    if (t->c.resume) compare_target(t);
    WK_TRY(t->s.target.ops ? open_device(t, err) : open_host(t, err));
    if (!t->s.adapter) wk_store_drop(t->s.store); /* the weights are f32 now */
    WK_TRY(take_batch(t, err));
    t->schedule =
        (wk_schedule){(wk_lr_kind)t->c.schedule, t->c.steps, t->c.warmup, t->c.lr, t->c.lr_end};
    if (!t->c.resume) return WICK_OK;
    WK_TRY(wk_ckpt_moments(t, t->c.resume, err));
    wk_data_drawn(t->s.data, &t->s.train, 0, (uint64_t)t->run.step * (uint64_t)t->c.batch, t->drawn);
    return WICK_OK;
}

int wk_trainer_open(wk_trainer **out, const wk_train_config *c, wk_err *err) {
    *out = NULL;
    wk_trainer *t = wk_new(wk_trainer);
    if (!t) return wk_fail(err, WICK_E_NOMEM, "no memory for the trainer");
    t->c = *c;
    t->run.best_val = 1e300;
    const int rc = open_all(t, err);
    if (rc) {
        wk_trainer_close(t);
        return rc;
    }
    *out = t;
    return WICK_OK;
}

void wk_trainer_close(wk_trainer *t) {
    if (!t) return;
    wk_compute_close(&t->x);
    wk_sgemm_free(t->gemm);
    wk_setup_close(&t->s);
    wk_team_free(t->team);
    wk_comm_close(t->comm);
    wk_free(t->tok);
    wk_free(t->target);
    wk_free(t->seq);
    wk_free(t->shape);
    wk_free(t->rate);
    wk_free(t->engine);
    for (size_t i = 0; i < WK_COUNT(t->strings); i++) wk_free(t->strings[i]);
    wk_free(t);
}

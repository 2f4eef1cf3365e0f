/* setup.c: opens what a run is made of and chooses, from its cost, the micro-batch and whether layers are recomputed.
 * Nothing large is allocated. */
#include <stdio.h>

#include "engine/base/ck.h"
#include "engine/base/os.h"
#include "engine/graph/dims.h"
#include "engine/train/trainer.h"

enum {
    MOST_MICRO = 4096,        /* tokens of a micro-batch that is chosen here */
    PAGE = 4096,
    ONEDNN_BYTES = 4 << 20,
    LOGIT_BYTES = 64 << 20,   /* most of a chunk: exec.c */
    WIDE_BYTES = 32 << 20,    /* it works in pieces */
    PROGRAM_BYTES = 5 << 20,  /* the program, its libraries, their heaps */
    MOST_CTX = 1 << 20
};

static bool is_adapter(void *ud, const wk_weight *w) {
    (void)ud;
    return w->lora_of >= 0;
}

static int make_grad(wk_setup *s, int32_t micro, bool recompute, wk_err *err) {
    const wk_grad_options o = {
        .max_tok = micro, .recompute = recompute, .is_trained = s->adapter ? is_adapter : NULL};
    wk_grad_free(s->grad);
    s->grad = NULL;
    return wk_grad_build(&s->grad, s->plan, &o, err);
}

/* ---- cost ---------------------------------------------------------------------------------------- */

static double pairs(double n, double window) {
    const double w = window > 0 && window < n ? window : n;
    return w * (w + 1) / 2 + (n - w) * w;
}

double wk_grad_flops(const wk_grad *g, int32_t n_ctx) {
    double sum = 0.0;
    for (int32_t i = 0; i < g->n_step; i++) {
        const wk_tstep *s = &g->step[i];
        const wk_weight *w = s->w >= 0 ? &g->plan->weight[s->w] : NULL;
        const double product = w ? 2.0 * (double)n_ctx * (double)w->n_row * (double)w->k : 0.0;
        const double thin = s->thin >= 0 ? 2.0 * (double)n_ctx * (double)g->plan->weight[s->thin].n_row *
                                               (double)g->plan->weight[s->thin].k
                                         : 0.0;
        const double attn = pairs(n_ctx, s->of->window) * s->of->n_head * s->of->head_dim;
        switch (s->op) {
        case WK_OP_matmul:
        case WK_TOP_matmul_dx:
        case WK_TOP_matmul_dw: sum += product + thin; break;
        case WK_TOP_head: sum += product * (1 + (s->dst[0] >= 0) + (s->param >= 0)); break;
        case WK_OP_attn: sum += 4 * attn; break;
        case WK_TOP_attn_dx: sum += 10 * attn; break;
        default: break;
        }
    }
    return sum;
}

/* What an arena of so many bytes takes (base/arena.c). */
static uint64_t whole(uint64_t bytes) {
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* What oneDNN was measured to take for itself: its code, and copies of operands: logits, and two of the widest layer. */
static uint64_t onednn_bytes(const wk_setup *s, const wk_train_config *c) {
    if (s->target.bf16 || c->gemm == WK_SGEMM_WICK || !wk_sgemm_has_onednn()) return 0;
    const uint64_t row = (uint64_t)s->grad->max_tok * sizeof(float), logits = row * (uint64_t)s->plan->n_vocab,
                   wide = 2 * row * (uint64_t)s->plan->n_ff;
    return ONEDNN_BYTES + (logits < LOGIT_BYTES ? logits : LOGIT_BYTES) + (wide < WIDE_BYTES ? wide : WIDE_BYTES);
}

/* The part that lies on a device, and what the host still takes: the program, and copies of the moments while a checkpoint
 * is written. */
static int fill_device(wk_setup *s, wk_err *err) {
    wk_train_cost *z = &s->cost;
    const uint64_t parts = z->weights + z->grads + z->moments + z->activations;
    const wk_tdev_options o = {.index = s->target.index, .bf16 = s->target.bf16, .host = &s->target.host};
    const size_t bytes = s->target.ops->bytes(s->grad, &o);
    if (bytes == SIZE_MAX) return wk_fail(err, WICK_E_FIT, "the bytes of training overflow");
    z->device_need = bytes;
    z->device_free = s->target.mem_free;
    z->scratch = bytes > parts ? bytes - parts : 0; /* with frozen weights */
    z->need = z->base + 2 * whole(s->grad->n_elem * sizeof(float)) + PROGRAM_BYTES;
    return WICK_OK;
}

static int32_t fit_of(uint64_t need, uint64_t available) {
    return need > available ? 0 : need > available / 10 * 9 ? 1 : 2;
}

static int fill_cost(wk_setup *s, const wk_train_config *c, int n_thread, wk_err *err) {
    wk_train_cost *z = &s->cost;
    size_t params, values, scratch;
    if (!wk_texec_bytes(s->grad, n_thread, &params, &values, &scratch))
        return wk_fail(err, WICK_E_FIT, "the bytes of training overflow");
    wk_machine machine;
    wk_os_machine(&machine);
    *z = (wk_train_cost){.weights = params / 2,
                         .grads = params / 2,
                         .activations = values,
                         .scratch = scratch,
                         .available = machine.mem_free};
    for (int32_t i = 0; i < s->plan->n_weight; i++) {
        const wk_weight *w = &s->plan->weight[i];
        z->params += (uint64_t)(w->is_vector ? 1 : w->n_row) * (uint64_t)w->k;
    }
    for (int32_t i = 0; i < s->grad->n_param; i++) z->trainable += s->grad->param[i].n;
    const uint64_t n_elem = s->grad->n_elem, m = n_elem * sizeof(float),
                   v = n_elem * wk_optim_v_bytes((wk_optim_kind)c->optimizer);
    z->moments = m + v;
    z->base = s->adapter ? wk_store_file_bytes(s->store) : 0;
    z->need = z->base + whole(z->weights) + whole(z->grads) + whole(m) + whole(v) + whole(z->activations) +
              whole(z->scratch) + wk_sgemm_bytes(s->plan->n_ff, s->grad->max_tok, n_thread) + PROGRAM_BYTES +
              onednn_bytes(s, c);
    z->micro = s->grad->max_tok;
    z->recompute = s->grad->recompute;
    z->n_ctx = c->n_ctx;
    z->batch = c->batch;
    if (s->target.ops) WK_TRY(fill_device(s, err));
    const int32_t here = fit_of(z->need, z->available), there = fit_of(z->device_need, z->device_free);
    z->fits = here < there ? here : there;
    z->flops_per_token = wk_grad_flops(s->grad, c->n_ctx) / (double)c->n_ctx;
    z->tokens_per_step = (uint64_t)c->batch * (uint64_t)c->n_ctx;
    if (s->data) z->epoch_tokens = wk_data_samples(s->data, &s->train) * (uint64_t)c->n_ctx;
    if (s->data && c->by_document) z->epoch_tokens = wk_data_tokens(s->data, WK_SPLIT_TRAIN);
    return WICK_OK;
}

static bool fits_well(const wk_train_cost *z) {
    return z->need <= z->available / 10 * 7 && z->device_need <= z->device_free / 10 * 7;
}

/* The largest micro-batch whose need is at most 70 % of what there is: whole samples, halved until it fits, first with
 * all activations kept, then recomputed. What does not fit at all is left at the smallest. */
static int choose(wk_setup *s, wk_train_config *c, int n_thread, wk_err *err) {
    const bool free_micro = c->micro == 0, free_recompute = c->recompute < 0;
    const int64_t whole = (int64_t)c->batch * c->n_ctx,
                  most = whole < MOST_MICRO ? whole : MOST_MICRO;
    const int32_t top = free_micro
                            ? (int32_t)(most / c->n_ctx > 0 ? most / c->n_ctx * c->n_ctx : c->n_ctx)
                            : c->micro;
    for (int again = free_recompute ? 0 : c->recompute; again <= 1; again++) {
        for (int32_t n = top / c->n_ctx; n >= 1; n /= 2) {
            const int32_t micro = free_micro ? n * c->n_ctx : c->micro;
            WK_TRY(make_grad(s, micro, again, err));
            WK_TRY(fill_cost(s, c, n_thread, err));
            if (fits_well(&s->cost) || !free_micro) break;
        }
        if (fits_well(&s->cost) || !free_recompute) break;
    }
    c->micro = s->grad->max_tok;
    c->recompute = s->grad->recompute;
    return WICK_OK;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static int make_plan(wk_setup *s, const wk_train_config *c, wk_err *err) {
    const wk_adapter a = {.store = s->adapter, .scale = 1.0f};
    const int64_t most = (int64_t)c->batch * c->n_ctx;
    const int32_t max_tok = (int32_t)(c->micro > 0                                 ? c->micro
                                      : most > MOST_MICRO && c->n_ctx < MOST_MICRO ? MOST_MICRO
                                      : most < c->n_ctx                            ? c->n_ctx
                                                                                   : most);
    const wk_plan_options o = {.max_tok = max_tok,
                               .max_out = max_tok,
                               .kv_type = WK_KV_F32,
                               .f32_act = true,
                               .adapter = s->adapter ? &a : NULL,
                               .n_adapter = s->adapter ? 1 : 0};
    return wk_plan_build(&s->plan, s->store, &o, err);
}

static int resolve_ctx(wk_setup *s, wk_train_config *c, wk_err *err) {
    uint64_t longest = 0;
    wk_str arch = {0};
    char key[128];
    const int rc = wk_meta_str(s->store, "general.architecture", &arch, err);
    if (rc < 0) return rc;
    (void)snprintf(key, sizeof(key), "%.*s.context_length", (int)(arch.n < 64 ? arch.n : 64),
                   rc ? arch.p : "");
    if (wk_meta_u64(s->store, key, 1, MOST_CTX * 16, &longest, NULL) != 1) longest = 1024;
    if (c->n_ctx == 0) c->n_ctx = (int32_t)(longest < 1024 ? longest : 1024);
    if (c->n_ctx < 1 || c->n_ctx > MOST_CTX)
        return wk_fail(err, WICK_E_ARG, "samples of %d tokens, wanted 1 .. %d", (int)c->n_ctx,
                       MOST_CTX);
    if ((uint64_t)c->n_ctx > longest)
        return wk_fail(err, WICK_E_ARG, "samples of %d tokens, the model's context is %llu",
                       (int)c->n_ctx, (unsigned long long)longest);
    return WICK_OK;
}

static int check_numbers(const wk_train_config *c, wk_err *err) {
    if (c->batch < 1 || c->batch > 1 << 20)
        return wk_fail(err, WICK_E_ARG, "a batch of %d samples, wanted 1 .. %d", (int)c->batch,
                       1 << 20);
    if (c->steps < 1)
        return wk_fail(err, WICK_E_ARG, "%lld steps, wanted 1 or more", (long long)c->steps);
    if (c->micro && c->micro < c->n_ctx)
        return wk_fail(err, WICK_E_ARG, "a micro-batch of %d tokens does not hold a sample of %d",
                       (int)c->micro, (int)c->n_ctx);
    if (!(c->lr > 0.0 && c->lr <= 10.0))
        return wk_fail(err, WICK_E_ARG, "a learning rate of %g, wanted above 0, at most 10", c->lr);
    if (!(c->lr_end >= 0.0 && c->lr_end <= 1.0))
        return wk_fail(err, WICK_E_ARG, "a last learning rate of %g of the peak, wanted 0 .. 1",
                       c->lr_end);
    if (!(c->beta1 >= 0.0 && c->beta1 < 1.0 && c->beta2 >= 0.0 && c->beta2 < 1.0))
        return wk_fail(err, WICK_E_ARG, "beta1 %g and beta2 %g, wanted 0 <= beta < 1", c->beta1,
                       c->beta2);
    if (!(c->eps > 0.0 && c->decay >= 0.0 && c->clip >= 0.0))
        return wk_fail(err, WICK_E_ARG,
                       "eps %g, decay %g, clip %g: eps above 0, the others not below", c->eps,
                       c->decay, c->clip);
    return WICK_OK;
}

static int open_data(wk_setup *s, const wk_train_config *c, wk_err *err) {
    const wk_unit unit = c->by_document ? WK_UNIT_DOCS : WK_UNIT_ROWS;
    s->train = (wk_sample_spec){.split = WK_SPLIT_TRAIN,
                                .unit = unit,
                                .n_ctx = c->n_ctx,
                                .doc_mask = c->doc_mask,
                                .seed = (uint64_t)c->seed};
    s->val = s->train;
    s->val.split = WK_SPLIT_VAL;
    s->val.in_order = true;
    if (!c->data) return WICK_OK;
    WK_TRY(wk_data_open(&s->data, c->data, wk_tok_hash(s->store), err));
    WK_TRY(wk_data_mix(s->data, &s->train, c->data, err));
    const uint64_t n = wk_data_samples(s->data, &s->train);
    if (n >= (uint64_t)c->batch) return WICK_OK;
    return wk_fail(err, WICK_E_ARG,
                   "%s: %llu samples of %d tokens to train on, a batch takes %d: more text, a "
                   "smaller batch or a shorter context is needed",
                   wk_show(wk_cstr(c->data)).text, (unsigned long long)n, (int)c->n_ctx,
                   (int)c->batch);
}

/* Every id is an index into the embedding. */
static int check_vocab(const wk_setup *s, const wk_train_config *c, wk_err *err) {
    if (!s->data || wk_data_vocab(s->data) <= s->plan->n_vocab) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "%s: holds ids up to %d, the model has %d", wk_show(wk_cstr(c->data)).text,
                   (int)wk_data_vocab(s->data) - 1, (int)s->plan->n_vocab);
}

int wk_setup_open(wk_setup *s, wk_train_config *c, int n_thread, wk_err *err) {
    *s = (wk_setup){0};
    int rc = wk_target_find(&s->target, c, n_thread, err);
    if (!rc) rc = wk_store_open(&s->store, c->model, err);
    if (!rc && c->adapter) rc = wk_store_open(&s->adapter, c->adapter, err);
    if (!rc) rc = resolve_ctx(s, c, err);
    if (!rc) rc = check_numbers(c, err);
    if (!rc) rc = open_data(s, c, err);
    if (!rc) rc = make_plan(s, c, err);
    if (!rc) rc = check_vocab(s, c, err);
    if (!rc) rc = choose(s, c, n_thread, err);
    if (c->warmup < 0) c->warmup = c->steps / 50;
    if (c->warmup >= c->steps) c->warmup = c->steps - 1;
    if (rc) wk_setup_close(s);
    return rc;
}

void wk_setup_close(wk_setup *s) {
    wk_grad_free(s->grad);
    wk_plan_free(s->plan);
    wk_data_close(s->data);
    wk_store_close(s->adapter);
    wk_store_close(s->store);
    *s = (wk_setup){0};
}

int wk_setup_refuse(const wk_setup *s, wk_err *err) {
    const wk_train_cost *z = &s->cost;
    if (z->device_need > z->device_free)
        return wk_fail(err, WICK_E_FIT, "training needs %.3f GB of %s, %.3f GB are free there (for %d tokens at once%s)",
                       (double)z->device_need * 1e-9, s->target.name, (double)z->device_free * 1e-9, (int)z->micro,
                       z->recompute ? ", recomputed" : "");
    return wk_fail(err, WICK_E_FIT,
                   "training needs %.1f GB, %.1f GB are available (weights, gradients and moments "
                   "%.1f, activations %.1f for %d tokens at once%s)",
                   (double)z->need * 1e-9, (double)z->available * 1e-9,
                   (double)(z->weights + z->grads + z->moments) * 1e-9,
                   (double)z->activations * 1e-9, (int)z->micro,
                   z->recompute ? ", recomputed" : "");
}

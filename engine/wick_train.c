/* wick_train.c: the public face of training: options in, records out. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/buf.h"
#include "engine/base/os.h"
#include "engine/train/trainer.h"
#include "engine/wick_model.h"
#include "engine/wick_x.h"

struct wick_x_trainer {
    wk_trainer *t;
};

/* A record of the library into one of the caller, which may be older and shorter. */
static wick_status give(void *dst, const void *src, size_t n, const char *what, wick_error *err) {
    return dst && wk_result_give(dst, src, n) ? WICK_OK : wk_options_bad_size(what, err);
}

static wick_status null_arg(const char *what, wick_error *err) {
    return wk_fail(err, WICK_E_ARG, "%s must be given", what);
}

/* ---- files --------------------------------------------------------------------------------------- */

wick_status wick_x_model_init(const wick_x_shape *shape, const char *tokenizer, uint64_t seed,
                              const char *out, wick_error *err) {
    if (!shape || !tokenizer || !out) return null_arg("shape, tokenizer and out", err);
    const wk_shape s = {shape->dim,  shape->n_layer, shape->n_head,   shape->n_head_kv,
                        shape->n_ff, shape->n_ctx,   shape->tied != 0, shape->plain != 0};
    return wk_model_init(&s, tokenizer, seed, out, err);
}

wick_status wick_x_shape_of(const char *preset, wick_x_shape *out, wick_error *err) {
    char names[128];
    if (!preset || !out) return null_arg("preset and out", err);
    const wk_shape *s = wk_shape_find(preset, names, sizeof(names));
    if (!s)
        return wk_fail(err, WICK_E_ARG, "there is no preset \"%s\", there are %s",
                       wk_show(wk_cstr(preset)).text, names);
    const wick_x_shape r = {0,       s->dim,   s->n_layer, s->n_head, s->n_head_kv,
                            s->n_ff, s->n_ctx, s->tied, 0};
    return give(out, &r, sizeof(r), "wick_x_shape", err);
}

/* ---- options ------------------------------------------------------------------------------------- */

static wick_status read_options(wk_train_config *c, const wick_x_train_options *o,
                                wick_error *err) {
    wick_x_train_options a = WICK_X_TRAIN_OPTIONS_INIT;
    if (!o) return null_arg("options", err);
    if (!wk_options_take(&a, sizeof(a), o)) return wk_options_bad_size("wick_x_train_options", err);
    if (!a.model && !a.resume) return null_arg("model or resume", err);
    if (a.schedule < 0 || a.schedule >= WK_LR_COUNT)
        return wk_fail(err, WICK_E_ARG, "schedule is %d, wanted 0 .. %d", (int)a.schedule,
                       WK_LR_COUNT - 1);
    if (a.gemm < 0 || a.gemm > WK_SGEMM_ONEDNN)
        return wk_fail(err, WICK_E_ARG, "gemm is %d, wanted 0 .. %d", (int)a.gemm, WK_SGEMM_ONEDNN);
    if (a.optimizer < 0 || a.optimizer >= WK_OPTIM_COUNT)
        return wk_fail(err, WICK_E_ARG, "optimizer is %d, wanted 0 .. %d", (int)a.optimizer, WK_OPTIM_COUNT - 1);
    if (a.threads < 0 || a.threads > 1024)
        return wk_fail(err, WICK_E_ARG, "threads is %d, wanted 0 .. 1024", (int)a.threads);
    if (a.keep < 0 || a.micro < 0 || a.n_ctx < 0)
        return wk_fail(err, WICK_E_ARG, "keep, micro and n_ctx must not be negative");
    if (a.bf16 != 0 && a.bf16 != 1 && a.bf16 != WICK_AUTO)
        return wk_fail(err, WICK_E_ARG, "bf16 is %d, wanted 0, 1 or %d (auto)", (int)a.bf16, WICK_AUTO);
    *c = (wk_train_config){.model = a.model,
                           .adapter = a.adapter,
                           .data = a.data,
                           .dir = a.dir,
                           .resume = a.resume,
                           .n_ctx = a.n_ctx,
                           .by_document = a.by_document,
                           .doc_mask = a.doc_mask,
                           .batch = a.batch,
                           .micro = a.micro,
                           .recompute = a.recompute < 0 ? -1 : a.recompute != 0,
                           .steps = a.steps,
                           .warmup = a.warmup,
                           .schedule = a.schedule,
                           .lr = a.lr,
                           .lr_end = a.lr_end,
                           .decay = a.decay,
                           .beta1 = a.beta1,
                           .beta2 = a.beta2,
                           .eps = a.eps,
                           .clip = a.clip,
                           .seed = a.seed,
                           .gemm = a.gemm,
                           .threads = a.threads,
                           .keep = a.keep,
                           .fit_check = !a.no_fit_check,
                           .ranks = a.ranks != 0,
                           .optimizer = a.optimizer,
                           .device = a.device,
                           .bf16 = a.bf16,
                           .cpu_mask = wk_setup_cpu_mask(),
                           .arith = WICK_ARITH};
    return WICK_OK;
}

static wick_x_train_cost cost_of(const wk_train_config *c, const wk_train_cost *z) {
    return (wick_x_train_cost){.params = z->params,
                               .trainable = z->trainable,
                               .base = z->base,
                               .weights = z->weights,
                               .grads = z->grads,
                               .moments = z->moments,
                               .activations = z->activations,
                               .scratch = z->scratch,
                               .need = z->need,
                               .available = z->available,
                               .micro = z->micro,
                               .recompute = z->recompute,
                               .n_ctx = z->n_ctx,
                               .batch = z->batch,
                               .fits = z->fits,
                               .flops_per_token = z->flops_per_token,
                               .tokens_per_step = z->tokens_per_step,
                               .tokens = z->tokens_per_step * (uint64_t)c->steps,
                               .epoch_tokens = z->epoch_tokens,
                               .device_need = z->device_need,
                               .device_free = z->device_free};
}

wick_status wick_x_train_device(const wick_x_train_options *o, char *name, size_t cap, wick_error *err) {
    wick_x_train_options a = WICK_X_TRAIN_OPTIONS_INIT;
    wk_target d;
    wk_machine m;
    if (!o || (cap && !name)) return null_arg("options and name", err);
    if (!wk_options_take(&a, sizeof(a), o)) return wk_options_bad_size("wick_x_train_options", err);
    const wk_train_config c = {.device = a.device,
                               .bf16 = a.bf16,
                               .ranks = a.ranks != 0,
                               .optimizer = a.optimizer,
                               .gemm = a.gemm,
                               .cpu_mask = wk_setup_cpu_mask()};
    wk_os_machine(&m);
    WK_TRY(wk_target_find(&d, &c, a.threads > 0 ? a.threads : m.n_thread, err));
    if (cap) (void)snprintf(name, cap, "%s", d.name);
    return WICK_OK;
}

wick_status wick_x_train_plan(const wick_x_train_options *o, wick_x_train_cost *out,
                              wick_error *err) {
    wk_train_config c;
    wk_setup s;
    wk_machine m;
    WK_TRY(read_options(&c, o, err));
    if (!out) return null_arg("out", err);
    wk_os_machine(&m);
    WK_TRY(wk_setup_open(&s, &c, c.threads ? c.threads : m.n_thread, err));
    const wick_x_train_cost r = cost_of(&c, &s.cost);
    wk_setup_close(&s);
    return give(out, &r, sizeof(r), "wick_x_train_cost", err);
}

/* ---- the trainer --------------------------------------------------------------------------------- */

wick_status wick_x_trainer_open(const wick_x_train_options *o, wick_x_trainer **out,
                                wick_error *err) {
    wk_train_config c;
    if (!out) return null_arg("out", err);
    *out = NULL;
    WK_TRY(read_options(&c, o, err));
    wick_x_trainer *t = wk_new(wick_x_trainer);
    if (!t) return wk_fail(err, WICK_E_NOMEM, "no memory for the trainer");
    const int rc = wk_trainer_open(&t->t, &c, err);
    if (rc) {
        wk_free(t);
        return rc;
    }
    *out = t;
    return WICK_OK;
}

void wick_x_trainer_close(wick_x_trainer *t) {
    if (!t) return;
    wk_trainer_close(t->t);
    wk_free(t);
}

wick_status wick_x_trainer_step(wick_x_trainer *t, wick_x_train_step *out, wick_error *err) {
    wk_train_step s;
    if (!t || !out) return null_arg("trainer and out", err);
    const int rc = wk_trainer_step(t->t, &s, err);
    if (rc && rc != WICK_E_NUMERIC) return rc;
    const wick_x_train_step r = {.step = s.step,
                                 .tokens = s.tokens,
                                 .tokens_step = s.tokens_step,
                                 .counted = s.counted,
                                 .loss = s.loss,
                                 .lr = s.lr,
                                 .gnorm = s.gnorm,
                                 .z = s.z,
                                 .skipped = s.skipped,
                                 .n_skipped = t->t->run.n_skipped,
                                 .s = s.s,
                                 .forward_s = s.forward_s,
                                 .backward_s = s.backward_s,
                                 .update_s = s.update_s,
                                 .comm_s = s.comm_s,
                                 .data_s = s.data_s,
                                 .flops = s.flops,
                                 .gemm_peak = t->t->peak};
    const int given = give(out, &r, sizeof(r), "wick_x_train_step", rc ? NULL : err);
    return rc ? rc : given;
}

wick_status wick_x_trainer_probe(wick_x_trainer *t, int32_t n, double *seconds, uint64_t *tokens,
                                 wick_error *err) {
    if (!t || !seconds || !tokens) return null_arg("trainer, seconds and tokens", err);
    return wk_trainer_probe(t->t, n, seconds, tokens, err);
}

wick_status wick_x_trainer_schedule(wick_x_trainer *t, int64_t steps, int64_t warmup,
                                    wick_error *err) {
    return t ? wk_trainer_schedule(t->t, steps, warmup, err) : null_arg("trainer", err);
}

wick_status wick_x_trainer_eval(wick_x_trainer *t, uint64_t max_tokens, wick_x_train_eval *out,
                                wick_error *err) {
    wk_train_eval e;
    if (!t || !out) return null_arg("trainer and out", err);
    WK_TRY(wk_trainer_eval(t->t, max_tokens, &e, err));
    const double nats = e.counted ? e.sum / (double)e.counted : 0.0;
    const wick_x_train_eval r = {.loss = nats,
                                 .counted = e.counted,
                                 .s = e.s,
                                 .bits_per_byte =
                                     e.bytes ? e.sum / 0.69314718055994531 / (double)e.bytes : 0.0};
    return give(out, &r, sizeof(r), "wick_x_train_eval", err);
}

wick_status wick_x_trainer_save(wick_x_trainer *t, double val_loss, char *path, size_t cap,
                                wick_error *err) {
    if (!t || (cap && !path)) return null_arg("trainer and path", err);
    return wk_trainer_save(t->t, val_loss, path, cap, err);
}

wick_status wick_x_trainer_export(wick_x_trainer *t, const char *path, wick_error *err) {
    if (!t || !path) return null_arg("trainer and path", err);
    return wk_trainer_export(t->t, path, err);
}

wick_status wick_x_trainer_gemms(const wick_x_trainer *t, char *text, size_t cap, size_t *len) {
    static const char *const ops[WK_SGEMM_OP_COUNT] = {"NT", "NN", "TN"};
    static const char *const engines[WK_SGEMM_ENGINE_COUNT] = {"auto", "wick", "onednn", "bf16"};
    wk_buf b;
    if (!t || !len || (cap && !text)) return WICK_E_ARG;
    wk_buf_init(&b, 0);
    for (size_t i = 0; i < t->t->n_shape; i++) {
        const wk_sgemm_shape *s = &t->t->shape[i];
        (void)wk_buf_addf(&b, "%s %d x %d x %d: %s %.0f GFLOP/s\n", ops[s->op], (int)s->m,
                          (int)s->n, (int)s->k, engines[t->t->engine[i]], t->t->rate[i] * 1e-9);
    }
    *len = b.n;
    if (cap > b.n) memcpy(text, wk_buf_str(&b).p, b.n + 1);
    const wick_status rc = b.failed ? WICK_E_NOMEM : cap && cap <= b.n ? WICK_E_ARG : WICK_OK;
    wk_buf_fini(&b);
    return rc;
}

wick_status wick_x_trainer_forward(wick_x_trainer *t, const wick_token *tok, size_t n_tok,
                                   float *logits, double *loss, wick_error *err) {
    if (!t || !tok || !loss) return null_arg("trainer, tokens and loss", err);
    if (n_tok > INT32_MAX) return wk_fail(err, WICK_E_ARG, "%zu tokens are too many", n_tok);
    return wk_trainer_forward(t->t, tok, (int32_t)n_tok, logits, loss, err);
}

wick_status wick_x_trainer_rank(const wick_x_trainer *t, int *rank, int *size) {
    if (!t || !rank || !size) return WICK_E_ARG;
    *rank = wk_comm_rank(t->t->comm);
    *size = wk_comm_size(t->t->comm);
    return WICK_OK;
}

wick_status wick_x_trainer_mix(const wick_x_trainer *t, double *share, double *wanted, size_t cap, size_t *n) {
    uint64_t sum = 0;
    if (!t || !n || (cap && (!share || !wanted))) return WICK_E_ARG;
    *n = t->t->s.data ? wk_data_parts(t->t->s.data) : 0;
    for (size_t i = 0; i < *n; i++) sum += t->t->drawn[i];
    for (size_t i = 0; i < *n && i < cap; i++) {
        share[i] = sum ? (double)t->t->drawn[i] / (double)sum : 0;
        wanted[i] = wk_data_part_share(t->t->s.data, (uint32_t)i);
    }
    return WICK_OK;
}

wick_status wick_x_trainer_sum(wick_x_trainer *t, double *value, wick_error *err) {
    if (!t || !value) return null_arg("trainer and value", err);
    return wk_comm_sum_f64(t->t->comm, value, 1, err);
}

wick_status wick_x_trainer_cost(const wick_x_trainer *t, wick_x_train_cost *out) {
    if (!t || !out) return WICK_E_ARG;
    const wick_x_train_cost r = cost_of(&t->t->c, &t->t->s.cost);
    return give(out, &r, sizeof(r), "wick_x_train_cost", NULL);
}

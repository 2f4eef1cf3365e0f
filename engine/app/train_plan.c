/* train_plan.c: what a run takes and how long it is, in words: the first lines, --plan. */
#include <stdio.h>
#include <string.h>

#include "engine/app/train_impl.h"
#include "engine/base/err.h"
#include "engine/base/os.h"

static const double year = 365.25 * 86400.0; /* seconds */

wick_x_train_options wk_train_options(const wk_train *t) {
    const wk_run *r = &t->run;
    wick_x_train_options o = WICK_X_TRAIN_OPTIONS_INIT;
    o.model = r->model;
    o.adapter = r->adapter[0] ? r->adapter : NULL;
    o.data = r->data[0] ? r->data : NULL;
    o.dir = t->dir;
    o.resume = t->from[0] ? t->from : NULL;
    o.n_ctx = (int32_t)r->n_ctx;
    o.by_document = (int32_t)r->by_document;
    o.doc_mask = (int32_t)r->doc_mask;
    o.batch = (int32_t)r->batch;
    o.micro = (int32_t)r->micro;
    o.recompute = (int32_t)r->recompute;
    o.steps = r->steps;
    o.warmup = r->warmup;
    o.schedule = (int32_t)r->schedule;
    if (r->lr > 0) o.lr = r->lr;
    o.lr_end = r->lr_end;
    o.decay = r->decay;
    o.beta2 = r->beta2;
    o.seed = r->seed;
    o.gemm = (int32_t)r->gemm;
    o.optimizer = (int32_t)r->optimizer;
    o.device = r->device[0] ? r->device : NULL;
    o.bf16 = (int32_t)r->bf16;
    o.threads = (int32_t)r->threads;
    o.keep = (int32_t)r->keep;
    o.no_fit_check = wk_flag(t->args, WK_ARG_NO_FIT);
    o.ranks = wk_flag(t->args, WK_ARG_RANKS);
    return o;
}

/* ---- the first lines ----------------------------------------------------------------------------- */

static void say_model(const wk_train *t, wk_buf *b) {
    const wk_run *r = &t->run;
    int n_core = 0, n_affinity = 0, n_thread = 0;
    double quota = 0;
    char levels[96];
    (void)wick_x_machine(&n_core, &n_affinity, &quota, &n_thread, levels,
                         sizeof(levels)); /* zeros are told as they are */
    (void)wk_buf_addf(b, "wick %-6s %s", r->command, r->title);
    if (t->tune)
        (void)wk_buf_addf(b, " \xc2\xb7 LoRA r%lld on %s \xc2\xb7 %s of %s trainable", (long long)r->rank,
                          wk_show(wk_cstr(r->on)).text, wk_word_count((double)r->trainable).text,
                          wk_word_count((double)r->params).text);
    else
        (void)wk_buf_addf(b, " \xc2\xb7 %s parameters, vocabulary %lld", wk_word_count((double)r->params).text,
                          (long long)r->n_vocab);
    if (t->on_device) {
        (void)wk_buf_addf(b, " \xc2\xb7 on %s \xc2\xb7 %s\n", t->device, r->bf16 ? "products in bf16" : "f32");
        return;
    }
    (void)wk_buf_addf(b, " \xc2\xb7 %d threads \xc2\xb7 f32, ", r->threads ? (int)r->threads : n_thread);
    wk_log_products(t, b);
    (void)wk_buf_addc(b, '\n');
}

static void say_data(const wk_train *t, wk_buf *b) {
    const wk_run *r = &t->run;
    (void)wk_buf_addf(b, "data       %s tokens in %s documents", wk_word_count((double)r->train_tokens).text,
                      wk_word_count((double)r->train_docs).text);
    if (r->train_bytes && r->train_tokens && !r->by_document) /* of documents only what counts has bytes */
        (void)wk_buf_addf(b, ", %.2f bytes each", (double)r->train_bytes / (double)r->train_tokens);
    if (r->val_tokens)
        (void)wk_buf_addf(b, " \xc2\xb7 %s held out (%s documents)", wk_word_count((double)r->val_tokens).text,
                          wk_word_count((double)r->val_docs).text);
    else
        (void)wk_buf_adds(b, " \xc2\xb7 no document held out");
    (void)wk_buf_addf(b, " \xc2\xb7 %lld %s a step, %lld tokens at most each\n", (long long)r->batch,
                      r->by_document ? "documents" : "rows", (long long)r->n_ctx);
}

static void say_memory(const wk_train *t, wk_buf *b) {
    static const char *const optimizer[] = {"AdamW", "AdamW (v in bf16)", "momentum"};
    const wick_x_train_cost *c = &t->cost;
    (void)wk_buf_adds(b, "memory    ");
    if (c->base) (void)wk_buf_addf(b, " base %s \xc2\xb7", wk_word_bytes((double)c->base).text);
    (void)wk_buf_addf(
        b, " %s+grads+%s %s \xc2\xb7 activations %s (%d tokens at once, recompute %s) \xc2\xb7 scratch %s",
        t->tune ? "adapters" : "weights", optimizer[t->run.optimizer], wk_word_bytes((double)(c->weights + c->grads + c->moments)).text,
        wk_word_bytes((double)c->activations).text, (int)c->micro, c->recompute ? "on" : "off",
        wk_word_bytes((double)c->scratch).text);
    if (t->on_device)
        (void)wk_buf_addf(b, " \xc2\xb7 %s %s of %s free", t->device, wk_word_bytes((double)c->device_need).text,
                          wk_word_bytes((double)c->device_free).text);
    const uint64_t samples = wk_train_sample_bytes(t);
    if (samples) (void)wk_buf_addf(b, " \xc2\xb7 samples %s", wk_word_bytes((double)samples).text);
    (void)wk_buf_addf(b, " \xc2\xb7 %s %s", t->on_device ? "here" : "peak", wk_word_bytes((double)(c->need + samples)).text);
    (void)wk_buf_addf(b, " of %s\n", wk_word_bytes((double)c->available).text);
}

static void say_plan(const wk_train *t, wk_buf *b, double seconds, bool measured) {
    static const char *const schedule[] = {"cosine", "linear", "wsd", "const"};
    const wk_run *r = &t->run;
    const double total = wk_train_step_tokens(t) * (double)r->steps;
    (void)wk_buf_addf(b, "plan       %s tokens", wk_word_count(total).text);
    if (r->train_tokens > 0) (void)wk_buf_addf(b, " = %.3g times the data", total / (double)r->train_tokens);
    (void)wk_buf_addf(b, " \xc2\xb7 %lld steps of %s \xc2\xb7 lr %.3g %s, warm-up %lld", (long long)r->steps,
                      wk_word_count(wk_train_step_tokens(t)).text, r->lr, schedule[r->schedule],
                      (long long)(r->warmup < 0 ? r->steps / 50 : r->warmup));
    if (measured || r->budget > 0 || !t->on_device) /* of a device no rate is known before it is measured */
        (void)wk_buf_addf(b, " \xc2\xb7 %s%s", measured ? "" : "about ", wk_word_time(seconds).text);
    if (t->energy.source == WK_ENERGY_NONE)
        (void)wk_buf_addf(b, " \xc2\xb7 energy: %s\n", t->energy.why);
    else if (t->energy.source == WK_ENERGY_WATTS)
        (void)wk_buf_addf(b, " \xc2\xb7 energy: %.3g kWh, estimated with %.4g W, not measured\n",
                          t->energy.watts * seconds / 3.6e6, t->energy.watts);
    else
        (void)wk_buf_adds(b, " \xc2\xb7 energy: measured\n");
}

static void say_run(const wk_train *t, wk_buf *b) {
    const wk_run *r = &t->run;
    (void)wk_buf_addf(b, "run        %s \xc2\xb7 every so many steps: ", wk_show(wk_cstr(t->dir)).text);
    (void)wk_buf_addf(b,
                      "checkpoint %lld (%lld kept), validation %lld (%s tokens), sample %lld \xc2\xb7 Ctrl-C ends the "
                      "step, saves and stops\n",
                      (long long)r->save_every, (long long)r->keep, (long long)r->eval_every,
                      wk_word_count((double)r->eval_tokens).text, (long long)r->sample_every);
}

/* By what the last step took; before the first, by the peak. */
static double seconds_of(const wk_train *t) {
    if (t->step_s > 0) return t->step_s * (double)(t->run.steps - t->step);
    return wk_train_step_tokens(t) * (double)t->run.steps / wk_train_expected_rate(t);
}

static void say(wk_buf *b) {
    for (const char *p = b->p; p && *p; p = strchr(p, '\n') + 1) wk_say(false, "%.*s\n", (int)strcspn(p, "\n"), p);
    wk_buf_fini(b);
}

void wk_train_head(const wk_train *t) {
    wk_buf b;
    if (t->quiet || t->silent) return;
    wk_buf_init(&b, 0);
    say_model(t, &b);
    say_data(t, &b);
    say_memory(t, &b);
    say(&b);
}

void wk_train_say_mix(wk_train *t) {
    double share[WICK_X_MIX_MAX], wanted[WICK_X_MIX_MAX];
    size_t n = 0;
    wk_buf b;
    if (wick_x_trainer_mix(t->trainer, share, wanted, WICK_X_MIX_MAX, &n) || n == 0) return;
    wk_buf_init(&b, 0);
    for (size_t i = 0; i < n; i++) (void)wk_buf_addf(&b, "%s%.4f of %.4f", i ? ", " : "", share[i], wanted[i]);
    wk_train_say(t, "mixture    %s \xc2\xb7 drawn %s\n", wk_show(wk_cstr(t->run.sources)).text, wk_buf_str(&b).p);
    wk_buf_fini(&b);
}

void wk_train_head_plan(const wk_train *t) {
    wk_buf b;
    if (t->quiet || t->silent) return;
    wk_buf_init(&b, 0);
    say_plan(t, &b, t->run.budget > 0 && !t->resumed ? t->run.budget : seconds_of(t), t->step_s > 0);
    say_run(t, &b);
    say(&b);
}

/* ---- --plan -------------------------------------------------------------------------------------- */

/* Tokens of the sources by the tokenizer's rate over their first 64 KiB. */
static wick_status guess_tokens(wk_train *t, wick_error *err) {
    enum { LOOK = 65536 };
    wick_model *m = NULL;
    double bytes = 0, rate = 4;
    for (size_t i = 0; i < t->n_source; i++) {
        wk_map_file map = {0};
        size_t n = 0;
        WK_TRY(wk_os_map(&map, t->source[i], err));
        const size_t look = map.n < LOOK ? map.n : LOOK;
        const int width = wk_train_id_width(t, map.p, map.n);
        if (width) rate = width;
        if (i == 0 && look && !width && wick_model_open(t->run.tok, NULL, &m, NULL) == WICK_OK &&
            wick_tokenize(m, (const char *)map.p, look, 0, NULL, 0, &n) >= WICK_E_ARG && n > 0)
            rate = (double)look / (double)n;
        wick_model_close(m);
        m = NULL;
        bytes += (double)map.n;
        wk_os_unmap(&map);
    }
    t->run.train_tokens = (int64_t)(bytes / rate * (1 - t->run.val_share));
    t->run.val_tokens = (int64_t)(bytes / rate * t->run.val_share);
    t->run.train_bytes = (int64_t)(bytes * (1 - t->run.val_share));
    const double docs = t->run.by_document ? bytes / 500 : bytes / 16384;
    t->run.train_docs = (int64_t)(docs * (1 - t->run.val_share)) + 1;
    t->run.val_docs = (int64_t)(docs * t->run.val_share) + 1;
    return WICK_OK;
}

/* What ends first, in a sentence. */
static void verdict(const wk_train *t, wk_buf *b, double seconds) {
    const wick_x_train_cost *c = &t->cost;
    const double passes =
        t->run.train_tokens ? wk_train_step_tokens(t) * (double)t->run.steps / (double)t->run.train_tokens : 0;
    if (c->device_need > c->device_free) {
        (void)wk_buf_addf(b, "ends first memory of %s: needs %s", t->device, wk_word_bytes((double)c->device_need).text);
        (void)wk_buf_addf(b, ", %s are free%s\n", wk_word_bytes((double)c->device_free).text,
                          c->recompute ? "" : "; --recompute on and a smaller --micro take less");
        return;
    }
    if (!c->fits) (void)wk_buf_addf(b, "ends first memory: needs %s", wk_word_bytes((double)c->need).text);
    if (!c->fits)
        (void)wk_buf_addf(b, ", %s are available%s\n", wk_word_bytes((double)c->available).text,
                          c->recompute ? "" : "; --recompute on and a smaller --micro take less");
    else if (seconds > year && !t->on_device)
        (void)wk_buf_addf(b, "ends first time: %s on this machine\n", wk_word_time(seconds).text);
    else if (passes > 20)
        (void)wk_buf_addf(
            b, "ends first data: seen %.0f times, the model will know it by heart; more text or a smaller model\n",
            passes);
    else if (c->fits == 1)
        (void)wk_buf_adds(b, "ends first memory: less than 10 % to spare\n");
    else
        (void)wk_buf_adds(b, "ends first nothing: it fits, it ends, the data suffice\n");
}

/* What the size of the vocabulary costs. */
static void say_vocab(const wk_train *t, wk_buf *b) {
    wick_x_shape s = {.size = sizeof(s)};
    const double n = (double)t->run.n_vocab;
    if (!t->args->v[WK_ARG_PRESET].given || wick_x_shape_of(t->args->v[WK_ARG_PRESET].s, &s, NULL)) return;
    (void)wk_buf_addf(b, "vocabulary %.0f tokens hold %.0f %% of the parameters", n,
                      100 * n * s.dim / (double)t->cost.params);
    if (n < 32000) (void)wk_buf_addf(b, "; 32000 would add %s", wk_word_count((32000 - n) * s.dim).text);
    (void)wk_buf_adds(b, "\n");
}

static void plan_object(wk_train *t, const char *word, double seconds) {
    wk_emit *e = t->emit;
    const wick_x_train_cost *c = &t->cost;
    const struct {
        const char *name;
        double v;
    } rows[] = {{"params", (double)c->params},
                {"trainable", (double)c->trainable},
                {"need", (double)c->need},
                {"available", (double)c->available},
                {"base", (double)c->base},
                {"weights", (double)c->weights},
                {"grads", (double)c->grads},
                {"moments", (double)c->moments},
                {"activations", (double)c->activations},
                {"scratch", (double)c->scratch},
                {"samples", (double)wk_train_sample_bytes(t)},
                {"device_need", (double)c->device_need},
                {"device_free", (double)c->device_free},
                {"micro", c->micro},
                {"recompute", c->recompute},
                {"n_ctx", c->n_ctx},
                {"batch", (double)t->run.batch},
                {"steps", (double)t->run.steps},
                {"train_tokens", (double)t->run.train_tokens}};
    wk_emit_begin(e, "done");
    wk_emit_str(e, "model", wk_cstr(t->run.title));
    wk_emit_str(e, "verdict", wk_cstr(word));
    wk_emit_str(e, "device", wk_cstr(t->device));
    for (size_t i = 0; i < WK_COUNT(rows); i++) wk_emit_int(e, rows[i].name, (int64_t)rows[i].v);
    wk_emit_num(e, "flops_per_token", c->flops_per_token);
    wk_emit_num(e, "tokens", wk_train_step_tokens(t) * (double)t->run.steps);
    if (!t->on_device || t->run.budget > 0) wk_emit_num(e, "seconds", seconds);
    wk_emit_done(e);
}

wick_status wk_train_plan(wk_train *t, int *code, wick_error *err) {
    static const char *const words[] = {"does not fit", "tight", "fits"};
    wk_buf b;
    if (!t->run.data[0]) WK_TRY(guess_tokens(t, err));
    WK_TRY(wk_train_choose(t, err));
    const wick_x_train_cost *c = &t->cost;
    const double seconds = t->run.budget > 0 ? t->run.budget : seconds_of(t);
    *code = c->fits == 2 ? 0 : c->fits == 1 ? 3 : 4;
    if (t->emit->mode != WK_EMIT_TEXT) {
        plan_object(t, words[c->fits], seconds);
        return WICK_OK;
    }
    wk_buf_init(&b, 0);
    say_model(t, &b);
    say_data(t, &b);
    say_memory(t, &b);
    say_plan(t, &b, seconds, false);
    if (t->on_device)
        (void)wk_buf_addf(&b, "cost       %.3g GFLOP a token \xc2\xb7 a run measures its rate\n", c->flops_per_token * 1e-9);
    else
        (void)wk_buf_addf(&b,
                      "cost       %.3g GFLOP a token \xc2\xb7 %s tokens/s at %.0f %% of the f32 peak measured now; a "
                      "run measures itself\n",
                      c->flops_per_token * 1e-9, wk_word_count(wk_train_expected_rate(t)).text, 100 * WK_TRAIN_OF_PEAK);
    say_vocab(t, &b);
    verdict(t, &b, seconds);
    (void)wk_buf_addf(&b, "verdict    %s\n", words[c->fits]);
    if (!b.failed) (void)wk_out_write(&t->emit->out, b.p, b.n); /* kept in out.error */
    wk_buf_fini(&b);
    return WICK_OK;
}

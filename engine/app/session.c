/* session.c: opening with progress, streaming an answer, the footer. */
#include "engine/app/session.h"

#include <stdio.h>
#include <string.h>

#include "engine/app/signals.h"
#include "engine/base/err.h"
#include "engine/base/str.h"
#include "engine/wick_x.h"

static void warn(wk_session *s, const char *text, size_t n) {
    pthread_mutex_lock(&s->lock);
    wk_progress_clear(&s->progress);
    wk_emit_warning(s->emit, text, n);
    pthread_mutex_unlock(&s->lock);
}

static void on_log(void *ud, int level, const char *text, size_t len) {
    wk_session *s = ud;
    if (level <= WICK_LOG_WARN)
        warn(s, text, len);
    else if (wk_flag(s->args, WK_ARG_VERBOSE))
        wk_say(s->quiet, "%.*s\n", (int)len, text);
}

/* On the terminal, and as an event. */
static void show_progress(wk_session *s, const char *what, double done, double cached, double total, const char *unit) {
    wk_emit *e = s->emit;
    pthread_mutex_lock(&s->lock);
    if (wk_progress_show(&s->progress, what, done, cached, total, unit) && e->mode == WK_EMIT_JSONL) {
        wk_emit_begin(e, "progress");
        wk_emit_str(e, "phase", wk_cstr(what));
        wk_emit_num(e, "done", done);
        wk_emit_num(e, "cached", cached);
        wk_emit_num(e, "total", total);
        wk_emit_str(e, "unit", wk_cstr(unit));
        wk_emit_end(e);
    }
    pthread_mutex_unlock(&s->lock);
}

static int on_load(void *ud, const char *phase, uint64_t done, uint64_t total) {
    wk_session *s = ud;
    (void)phase;
    show_progress(s, "loading", (double)done / 1e6, 0, (double)total / 1e6, "MB");
    return wk_signals_interrupted() || wk_signals_terminated();
}

static void first_line(const wk_session *s) {
    char name[128] = "model", format[32] = "", levels[96];
    int n_core = 0, n_affinity = 0, n_thread = 0;
    double quota = 0;
    static const char *const kv[] = {"f16", "f32", "bf16", "q8_0"};
    (void)wick_model_get(s->model, "name", name, sizeof(name), NULL); /* absent: the words above stand */
    (void)wick_model_get(s->model, "format", format, sizeof(format), NULL);
    (void)wick_x_machine(&n_core, &n_affinity, &quota, &n_thread, levels, sizeof(levels));
    wk_say(s->quiet, "%s %s \xc2\xb7 ctx %d \xc2\xb7 kv %s \xc2\xb7 %d threads (%d cores, affinity %d, cgroup quota ",
           wk_show(wk_cstr(name)).text, wk_show(wk_cstr(format)).text, (int)s->stats.n_ctx,
           kv[s->args->v[WK_ARG_KV].i], (int)s->stats.threads, n_core, n_affinity);
    if (quota > 0)
        wk_say(s->quiet, "%.1f) \xc2\xb7 cpu %s", quota, s->stats.cpu_level);
    else
        wk_say(s->quiet, "none) \xc2\xb7 cpu %s", s->stats.cpu_level);
    if (s->stats.gpu_layers)
        wk_say(s->quiet, " \xc2\xb7 %s\n", s->stats.device);
    else
        wk_say(s->quiet, "\n");
}

static wick_status setup(wk_session *s, wick_error *err) {
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    o.log = on_log;
    o.log_ud = s;
    o.min_level = WICK_LOG_INFO;
    o.cpu_level = s->args->v[WK_ARG_CPU].s;
    return wick_setup(&o, err);
}

wick_engine_options wk_session_engine(const wk_args *a) {
    static const int32_t kv[] = {WICK_KV_F16, WICK_KV_F32, WICK_KV_BF16, WICK_KV_Q8_0};
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.n_ctx = (int32_t)a->v[WK_ARG_CTX].i;
    o.threads = (int32_t)a->v[WK_ARG_THREADS].i;
    o.n_batch = (int32_t)a->v[WK_ARG_BATCH].i;
    o.kv_type = kv[a->v[WK_ARG_KV].i];
    o.max_seqs = 1;
    o.no_prefix_cache = wk_flag(a, WK_ARG_NO_CACHE);
    o.no_fit_check = wk_flag(a, WK_ARG_NO_FIT);
    o.adapters = a->lora;
    o.adapter_scale = a->lora_scale;
    o.n_adapters = (size_t)a->v[WK_ARG_LORA].i;
    o.device = a->v[WK_ARG_DEVICE].s;
    if (a->v[WK_ARG_GPU_LAYERS].given)
        (void)wk_args_gpu_layers(a->v[WK_ARG_GPU_LAYERS].s, &o.gpu_layers, NULL); /* checked when it was read */
    return o;
}

static wick_status open_engine(wk_session *s, const char *path, wick_error *err) {
    wick_engine_options o = wk_session_engine(s->args);
    if (wick_x_fit_check(path, &o, err)) return wk_fail_at(err, "%s", wk_show(wk_cstr(path)).text);
    WK_TRY(wick_model_open(path, NULL, &s->model, err));
    o.progress = on_load;
    o.progress_ud = s;
    const wick_status rc = wick_engine_open(s->model, &o, &s->engine, err);
    wk_progress_clear(&s->progress);
    if (rc) return rc == WICK_E_DEVICE ? rc : wk_fail_at(err, "%s", wk_show(wk_cstr(path)).text);
    s->stats = (wick_stats)WICK_STATS_INIT;
    (void)wick_engine_stats(s->engine, &s->stats); /* its size is set */
    return WICK_OK;
}

static const char fallback[] = "the default model is not installed (./start fetches it): the built-in story teller answers";

wick_status wk_session_open(wk_session *s, const wk_args *a, wk_emit *emit, wick_error *err) {
    *s = (wk_session){.args = a, .emit = emit, .quiet = emit->quiet, .color = wk_args_color(a, 2)};
    pthread_mutex_init(&s->lock, NULL);
    wk_progress_init(&s->progress, s->quiet, s->color);
    wk_signals_open();
    WK_TRY(setup(s, err));
    WK_TRY(open_engine(s, a->model_path, err));
    first_line(s);
    if (a->falls_back) wk_emit_warning(emit, fallback, sizeof(fallback) - 1);
    return WICK_OK;
}

static void close_model(wk_session *s) {
    wick_engine_close(s->engine);
    wick_model_close(s->model);
    s->engine = NULL;
    s->model = NULL;
}

void wk_session_close(wk_session *s) {
    if (!s->args) return;
    close_model(s);
    wk_signals_close();
    pthread_mutex_destroy(&s->lock);
    const wick_setup_options quiet = WICK_SETUP_OPTIONS_INIT;
    (void)wick_setup(&quiet, NULL); /* the sink points into s */
    s->args = NULL;
}

wick_status wk_session_switch(wk_session *s, const char *path, const char *old_path, wick_status *back,
                              wick_error *err) {
    wick_model *probe = NULL;
    wick_error lost = {0};
    *back = WICK_OK;
    WK_TRY(wick_model_open(path, NULL, &probe, err)); /* header only; what is open stays open */
    const bool talks = wk_session_has_template(probe);
    wick_model_close(probe);
    if (!talks)
        return wk_fail(err, WICK_E_TEMPLATE, "%s has no chat template, so it cannot hold a conversation",
                       wk_show(wk_cstr(path)).text);
    close_model(s); /* first: both may not fit */
    const wick_status rc = open_engine(s, path, err);
    if (!rc) {
        first_line(s);
        return WICK_OK;
    }
    close_model(s);
    *back = open_engine(s, old_path, &lost);
    return rc;
}

bool wk_session_has_template(const wick_model *m) {
    size_t len = 0;
    return wick_model_get(m, "chat_template", NULL, 0, &len) == WICK_OK && len > 0;
}

static void add_bias(wk_session *s, wick_request_options *o) {
    size_t n;
    const char *const *list = wk_args_list(s->args, WK_ARG_BIAS, &n);
    for (size_t i = 0; i < n; i++)
        (void)wk_args_bias(list[i], &s->bias_token[i], &s->bias_value[i], NULL); /* checked when it was read */
    o->bias_token = s->bias_token;
    o->bias_value = s->bias_value;
    o->n_bias = n;
}

wick_request_options wk_session_request(wk_session *s) {
    const wk_args *a = s->args;
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    o.max_tokens = (int32_t)a->v[WK_ARG_MAX_TOKENS].i;
    if (a->v[WK_ARG_TEMP].given) o.temperature = a->v[WK_ARG_TEMP].d;
    if (a->v[WK_ARG_TOP_P].given) o.top_p = a->v[WK_ARG_TOP_P].d;
    o.min_p = a->v[WK_ARG_MIN_P].d;
    o.top_k = (int32_t)a->v[WK_ARG_TOP_K].i;
    if (a->v[WK_ARG_SEED].given) o.seed = a->v[WK_ARG_SEED].i;
    o.repeat_penalty = a->v[WK_ARG_REPEAT].d;
    o.frequency_penalty = a->v[WK_ARG_FREQUENCY].d;
    o.presence_penalty = a->v[WK_ARG_PRESENCE].d;
    add_bias(s, &o);
    o.stop = wk_args_list(a, WK_ARG_STOP, &o.n_stop);
    if (wk_flag(a, WK_ARG_HASH)) o.flags |= WICK_REQ_HASH;
    if (wk_flag(a, WK_ARG_IGNORE_EOS)) o.flags |= WICK_REQ_IGNORE_END;
    return o;
}

/* ---- one answer ---------------------------------------------------------------------------------- */

static void on_text(wk_session *s, const wick_event *ev, wick_request *r, wk_answer *answer) {
    wk_emit *e = s->emit;
    pthread_mutex_lock(&s->lock);
    wk_progress_clear(&s->progress);
    (void)wk_buf_add(&answer->text, ev->text, ev->text_len); /* checked at the end */
    if (e->mode == WK_EMIT_TEXT) (void)wk_out_text(&e->out, ev->text, ev->text_len);
    if (e->mode == WK_EMIT_JSONL) {
        wk_emit_begin(e, "text");
        wk_emit_str(e, "text", (wk_str){ev->text, ev->text_len});
        wk_emit_end(e);
    }
    if (e->out.error) wick_cancel(r);
    pthread_mutex_unlock(&s->lock);
}

static void on_event(wk_session *s, const wick_event *ev, wick_request *r, wk_answer *answer) {
    switch (ev->type) {
    case WICK_EV_ADMITTED:
        show_progress(s, "prompt", ev->n_cached, ev->n_cached, ev->n_prompt, "tokens");
        break;
    case WICK_EV_PROGRESS:
        show_progress(s, "prompt", ev->n_done, ev->n_cached, ev->n_prompt, "tokens");
        break;
    case WICK_EV_TEXT:
        on_text(s, ev, r, answer);
        break;
    case WICK_EV_WARNING:
        warn(s, ev->text, ev->text_len);
        break;
    default:
        break;
    }
}

wick_status wk_session_answer(wk_session *s, const wick_request_options *o, wk_answer *answer, wick_error *err) {
    wick_request *r = NULL;
    wick_event ev = WICK_EVENT_INIT;
    wk_buf_reset(&answer->text);
    answer->result = (wick_result)WICK_RESULT_INIT;
    WK_TRY(wick_submit(s->engine, o, &r, err));
    wk_signals_watch(r);
    wick_status rc = WICK_OK;
    do {
        rc = wick_next(r, -1, &ev);
        if (rc) break;
        on_event(s, &ev, r, answer);
    } while (ev.type != WICK_EV_DONE && ev.type != WICK_EV_ERROR);
    wk_progress_clear(&s->progress);
    wk_signals_watch(NULL);
    answer->interrupted = wk_signals_interrupted();
    wk_signals_forget();
    wk_signals_calm();
    (void)wick_request_result(r, &answer->result); /* its size is set */
    if (!rc && ev.type == WICK_EV_ERROR) {
        rc = ev.error.code;
        *err = ev.error;
    }
    wick_request_free(r);
    if (!rc && answer->text.failed) rc = wk_fail(err, WICK_E_NOMEM, "no memory for the answer");
    return rc;
}

const char *wk_finish_word(int32_t finish) {
    static const char *const words[] = {"none", "stop", "length", "tool", "cancel", "error"};
    return finish >= 0 && finish < (int32_t)WK_COUNT(words) ? words[finish] : "none";
}

double wk_session_rate(const wick_result *r) {
    return r->decode_s > 0 && r->n_generated > 1 ? (r->n_generated - 1) / r->decode_s : 0;
}

bool wk_session_full(const wk_session *s, const wick_result *r) {
    return r->finish == WICK_FINISH_LENGTH && r->n_prompt + r->n_generated >= s->stats.n_ctx;
}

void wk_session_footer(wk_session *s, const wick_result *r) {
    const bool verbose = wk_flag(s->args, WK_ARG_VERBOSE);
    if (s->progress.tty || verbose)
        wk_say(s->quiet, "%s%d prompt (%d cached) \xc2\xb7 %d tok \xc2\xb7 %.1f tok/s \xc2\xb7 first %.2f s \xc2\xb7 ctx %d/%d%s\n",
               s->color ? "\033[2m" : "", (int)r->n_prompt, (int)r->n_cached, (int)r->n_generated,
               wk_session_rate(r), r->first_s, (int)(r->n_prompt + r->n_generated), (int)s->stats.n_ctx,
               s->color ? "\033[0m" : "");
    if (wk_session_full(s, r)) {
        char text[96];
        const int n = snprintf(text, sizeof(text), "the answer was cut at the context of %d tokens",
                               (int)s->stats.n_ctx);
        warn(s, text, (size_t)n);
    }
    if (verbose) wk_say(s->quiet, "seed %lld\n", (long long)r->seed);
}

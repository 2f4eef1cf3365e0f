/* session.c: opening with progress, streaming an answer, the footer. */
#include "engine/app/session.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/err.h"
#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/wick_x.h"

static void on_log(void *ud, int level, const char *text, size_t len) {
    const wk_session *s = ud;
    if (level <= WICK_LOG_WARN || wk_flag(s->args, WK_ARG_VERBOSE))
        wk_say(s->quiet, "%s%.*s\n", level <= WICK_LOG_WARN ? "warning: " : "", (int)len, text);
}

static int on_load(void *ud, const char *phase, uint64_t done, uint64_t total) {
    wk_session *s = ud;
    (void)phase;
    wk_progress_show(&s->progress, "loading", (double)done / 1e6, (double)total / 1e6, "MB");
    return 0;
}

static void first_line(const wk_session *s) {
    char name[128] = "model", format[32] = "", levels[96];
    int n_core = 0, n_affinity = 0, n_thread = 0;
    double quota = 0;
    static const char *const kv[] = {"f16", "f32", "bf16"};
    (void)wick_model_get(s->model, "name", name, sizeof(name), NULL);
    (void)wick_model_get(s->model, "format", format, sizeof(format), NULL);
    (void)wick_x_machine(&n_core, &n_affinity, &quota, &n_thread, levels, sizeof(levels));
    wk_say(s->quiet, "%s %s · ctx %d · kv %s · %d threads (%d cores, affinity %d, cgroup quota ", name, format,
           (int)s->stats.n_ctx, kv[s->args->v[WK_ARG_KV].i], (int)s->stats.threads, n_core, n_affinity);
    if (quota > 0)
        wk_say(s->quiet, "%.1f) · cpu %s\n", quota, s->stats.cpu_level);
    else
        wk_say(s->quiet, "none) · cpu %s\n", s->stats.cpu_level);
}

static wick_status setup(wk_session *s, wick_error *err) {
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    o.log = on_log;
    o.log_ud = s;
    o.min_level = WICK_LOG_INFO;
    o.cpu_level = s->args->v[WK_ARG_CPU].s;
    return wick_setup(&o, err);
}

wick_status wk_session_open(wk_session *s, const wk_args *a, wick_error *err) {
    static const int32_t kv[] = {WICK_KV_F16, WICK_KV_F32, WICK_KV_BF16};
    *s = (wk_session){.args = a, .quiet = wk_flag(a, WK_ARG_QUIET), .color = wk_args_color(a, 2)};
    wk_progress_init(&s->progress, s->quiet);
    WK_TRY(setup(s, err));
    WK_TRY(wick_model_open(a->model_path, NULL, &s->model, err));
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.n_ctx = (int32_t)a->v[WK_ARG_CTX].i;
    o.threads = (int32_t)a->v[WK_ARG_THREADS].i;
    o.n_batch = (int32_t)a->v[WK_ARG_BATCH].i;
    o.kv_type = kv[a->v[WK_ARG_KV].i];
    o.max_seqs = 1;
    o.no_prefix_cache = wk_flag(a, WK_ARG_NO_CACHE);
    o.no_fit_check = wk_flag(a, WK_ARG_NO_FIT);
    o.progress = on_load;
    o.progress_ud = s;
    const wick_status rc = wick_engine_open(s->model, &o, &s->engine, err);
    wk_progress_clear(&s->progress);
    if (rc) return wk_fail_at(err, "%s", a->model_path);
    s->stats = (wick_stats)WICK_STATS_INIT;
    (void)wick_engine_stats(s->engine, &s->stats); /* its size is set */
    first_line(s);
    return WICK_OK;
}

void wk_session_close(wk_session *s) {
    wick_engine_close(s->engine);
    wick_model_close(s->model);
}

wick_request_options wk_session_request(const wk_session *s) {
    const wk_args *a = s->args;
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    o.max_tokens = (int32_t)a->v[WK_ARG_MAX_TOKENS].i;
    if (a->v[WK_ARG_TEMP].given) o.temperature = a->v[WK_ARG_TEMP].d;
    if (a->v[WK_ARG_TOP_P].given) o.top_p = a->v[WK_ARG_TOP_P].d;
    o.min_p = a->v[WK_ARG_MIN_P].d;
    o.top_k = (int32_t)a->v[WK_ARG_TOP_K].i;
    if (a->v[WK_ARG_SEED].given) o.seed = a->v[WK_ARG_SEED].i;
    o.stop = a->list;
    o.n_stop = a->n_list;
    if (wk_flag(a, WK_ARG_HASH)) o.flags |= WICK_REQ_HASH;
    if (wk_flag(a, WK_ARG_IGNORE_EOS)) o.flags |= WICK_REQ_IGNORE_END;
    return o;
}

/* ---- messages ------------------------------------------------------------------------------------ */

void wk_messages_begin(wk_buf *b, const char *system) {
    wk_buf_reset(b);
    (void)wk_buf_adds(b, "{\"messages\":["); /* a failed append stays in b->failed */
    if (system) wk_messages_add(b, "system", system, strlen(system));
}

void wk_messages_add(wk_buf *b, const char *role, const char *text, size_t n) {
    if (b->n && b->p[b->n - 1] != '[') (void)wk_buf_addc(b, ',');
    (void)wk_buf_addf(b, "{\"role\":\"%s\",\"content\":", role);
    wk_json_put_str(b, (wk_str){text, n});
    (void)wk_buf_addc(b, '}');
}

void wk_messages_end(wk_buf *b, wk_buf *request) {
    wk_buf_reset(request);
    (void)wk_buf_add(request, b->p, b->n);
    (void)wk_buf_adds(request, "],\"add_generation_prompt\":true}");
    if (b->failed) request->failed = true;
}

/* ---- one answer ---------------------------------------------------------------------------------- */

/* The request that SIGINT cancels; wick_cancel is async-signal-safe. */
static wick_request *_Atomic running;
static _Atomic int stopped;

static void on_interrupt(int sig) {
    (void)sig;
    wick_request *r = atomic_load(&running);
    atomic_store(&stopped, 1);
    if (r) wick_cancel(r);
}

static void catch_interrupt(struct sigaction *old) {
    struct sigaction sa;
    memset(&sa, 0, sizeof(sa));
    sa.sa_handler = on_interrupt;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, old);
}

static void on_event(wk_session *s, const wick_event *ev, wick_request *r, wk_out *out, wk_buf *answer) {
    switch (ev->type) {
    case WICK_EV_PROGRESS:
        wk_progress_show(&s->progress, "prompt", ev->n_done, ev->n_prompt, "tokens");
        break;
    case WICK_EV_TEXT:
        wk_progress_clear(&s->progress);
        if (answer) (void)wk_buf_add(answer, ev->text, ev->text_len); /* checked by its user */
        if (!wk_out_text(out, ev->text, ev->text_len)) wick_cancel(r);
        break;
    case WICK_EV_WARNING:
        wk_say(s->quiet, "warning: %.*s\n", (int)ev->text_len, ev->text);
        break;
    default:
        break;
    }
}

wick_status wk_session_answer(wk_session *s, const wick_request_options *o, wk_out *out, wk_buf *answer, wick_result *result,
                              bool *interrupted, wick_error *err) {
    wick_request *r = NULL;
    wick_event ev = WICK_EVENT_INIT;
    struct sigaction old;
    WK_TRY(wick_submit(s->engine, o, &r, err));
    atomic_store(&stopped, 0);
    atomic_store(&running, r);
    catch_interrupt(&old);
    wick_status rc = WICK_OK;
    do {
        rc = wick_next(r, -1, &ev);
        if (rc) break;
        on_event(s, &ev, r, out, answer);
    } while (ev.type != WICK_EV_DONE && ev.type != WICK_EV_ERROR);
    wk_progress_clear(&s->progress);
    sigaction(SIGINT, &old, NULL);
    atomic_store(&running, NULL);
    *interrupted = atomic_load(&stopped) != 0;
    (void)wick_request_result(r, result); /* its size is set by the caller */
    if (!rc && ev.type == WICK_EV_ERROR) {
        rc = ev.error.code;
        *err = ev.error;
    }
    wick_request_free(r);
    return rc;
}

void wk_session_footer(const wk_session *s, const wick_result *r) {
    const double rate = r->decode_s > 0 && r->n_generated > 1 ? (r->n_generated - 1) / r->decode_s : 0;
    wk_say(s->quiet, "%s%d prompt (%d cached) · %d tok · %.1f tok/s · first %.2f s · ctx %d/%d%s\n", s->color ? "\033[2m" : "",
           (int)r->n_prompt, (int)r->n_cached, (int)r->n_generated, rate, r->first_s, (int)(r->n_prompt + r->n_generated),
           (int)s->stats.n_ctx, s->color ? "\033[0m" : "");
    if (r->finish == WICK_FINISH_LENGTH && r->n_prompt + r->n_generated >= s->stats.n_ctx)
        wk_say(s->quiet, "warning: the answer was cut at the context of %d tokens\n", (int)s->stats.n_ctx);
    if (wk_flag(s->args, WK_ARG_VERBOSE)) wk_say(s->quiet, "seed %lld\n", (long long)r->seed);
}

/* wick_request.c: requests of the public API: checked and copied, their events, and the calls that run one to its end. */
#include <stdatomic.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/utf8.h"
#include "engine/wick_model.h"
#include "engine/wick_x.h"

/* The public request is the engine's; the handle keeps what only the caller needs. */
struct wick_request {
    wk_request *r;
};

enum { MAX_BIAS = 1024 };

static wick_status check_real(const char *name, double v, double min, double max, wick_error *err) {
    if (v >= min && v <= max) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "%s is %g, it must lie in %g .. %g", name, v, min, max);
}

static double recommended(const wk_store *s, const char *key, double min, double max,
                          double otherwise) {
    double v;
    return wk_meta_f64(s, key, min, max, &v, NULL) == 1 ? v : otherwise;
}

static wick_status sampling_of(wk_sampling *p, const wk_store *s, const wick_request_options *o,
                               wick_error *err) {
    const bool temp_auto = o->temperature <= WICK_AUTO_F, top_p_auto = o->top_p <= WICK_AUTO_F;
    p->temperature =
        temp_auto ? recommended(s, "general.sampling.temp", 0, 100, 0.7) : o->temperature;
    p->top_p = top_p_auto ? recommended(s, "general.sampling.top_p", 0x1p-20, 1, 0.95) : o->top_p;
    p->min_p = o->min_p;
    p->top_k = o->top_k;
    if (!(p->temperature >= 0 && p->temperature <= 100))
        return wk_fail(err, WICK_E_ARG, "temperature is %g, it must lie in 0 .. 100",
                       p->temperature);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return wk_fail(err, WICK_E_ARG, "top_p is %g, it must lie in (0, 1]", p->top_p);
    if (!(p->min_p >= 0 && p->min_p < 1))
        return wk_fail(err, WICK_E_ARG, "min_p is %g, it must lie in [0, 1)", p->min_p);
    p->repeat_penalty = o->repeat_penalty == 1.0 ? 0.0 : o->repeat_penalty;
    p->frequency_penalty = o->frequency_penalty;
    p->presence_penalty = o->presence_penalty;
    WK_TRY(check_real("repeat_penalty", o->repeat_penalty, o->repeat_penalty == 0.0 ? 0.0 : 0.01,
                      10, err));
    WK_TRY(check_real("frequency_penalty", o->frequency_penalty, -10, 10, err));
    WK_TRY(check_real("presence_penalty", o->presence_penalty, -10, 10, err));
    WK_TRY(wk_check_range("top_k", p->top_k, 0, INT32_MAX, err));
    WK_TRY(wk_check_range("seed", o->seed, WICK_AUTO, INT64_MAX, err));
    p->seed = (uint64_t)o->seed;
    if (o->seed == WICK_AUTO) {
        wk_os_random(&p->seed, sizeof(p->seed));
        p->seed >>= 1; /* it is returned as a signed number */
    }
    return WICK_OK;
}

/* n_answer: tokens that must have room behind the prompt. */
static wick_status check_length(const wick_engine *e, size_t n, size_t n_answer, wick_error *err) {
    const int32_t n_ctx = wk_engine_n_ctx(e->e);
    if (n == 0) return wk_fail(err, WICK_E_ARG, "the prompt is empty");
    if (n > (size_t)n_ctx - n_answer)
        return wk_fail(err, WICK_E_CONTEXT, "the prompt has %zu tokens, the context holds %d%s", n,
                       (int)n_ctx, n_answer ? " with one for the answer" : "");
    return WICK_OK;
}

/* The prompt's ids in memory of the caller's to free. Its length is checked before anything is taken for it. */
static wick_status prompt_ids(const wick_engine *e, const wick_request_options *o, int32_t **out,
                              size_t *n, wick_error *err) {
    const wick_model *m = e->model;
    *out = NULL;
    *n = 0;
    for (size_t cap = 0;
         ;) { /* once for the count, once for the ids; again if a template's clock made it longer */
        int rc = WICK_OK;
        if (o->tokens) {
            *n = o->n_tokens;
            if (cap) memcpy(*out, o->tokens, *n * sizeof(int32_t));
        } else if (o->chat) {
            rc = wk_chat_render(m->chat, (wk_str){o->chat, o->chat_len}, NULL, *out, cap, n, err);
        } else {
            const wk_run run = {{o->text, o->text_len}, false};
            rc = wk_tok_encode(m->tok, &run, 1, WK_TOK_BOS, *out, cap, n);
            if (rc)
                (void)wk_fail(err, rc, "no memory to encode a prompt of %zu bytes", o->text_len);
        }
        if (rc || (cap && *n <= cap)) return rc;
        WK_TRY(check_length(e, *n, 1, err));
        cap = *n;
        wk_free(*out);
        *out = wk_new_n(int32_t, cap);
        if (!*out) return wk_fail(err, WICK_E_NOMEM, "no memory for a prompt of %zu tokens", cap);
    }
}

static wick_status check_prompt(const wick_engine *e, const int32_t *id, size_t n, size_t n_answer,
                                wick_error *err) {
    const int32_t n_vocab = wk_engine_n_vocab(e->e);
    WK_TRY(check_length(e, n, n_answer, err));
    for (size_t i = 0; i < n; i++)
        if (id[i] < 0 || id[i] >= n_vocab)
            return wk_fail(err, WICK_E_ARG, "token %zu of the prompt is %d, the vocabulary has %d",
                           i, (int)id[i], (int)n_vocab);
    return WICK_OK;
}

static wick_status check_request(const wick_request_options *o, wick_error *err) {
    const int given = (o->tokens != NULL) + (o->text != NULL) + (o->chat != NULL);
    if (given != 1)
        return wk_fail(err, WICK_E_ARG,
                       "a request has one prompt: tokens, text or chat; %d were given", given);
    WK_TRY(wk_check_range("max_tokens", o->max_tokens, 0, INT32_MAX, err));
    WK_TRY(wk_check_range("n", o->n, 0, INT32_MAX, err));
    if (o->n > 1) return wk_missing("more than one choice (n)", err);
    if (o->flags & ~(uint32_t)(WICK_REQ_HASH | WICK_REQ_IGNORE_END))
        return wk_fail(err, WICK_E_ARG, "flags 0x%x hold a flag that is unknown",
                       (unsigned)o->flags);
    if (o->grammar) return wk_missing("a grammar", err);
    return WICK_OK;
}

static wk_str stop_at(const wick_request_options *o, size_t i) {
    return o->stop_len ? (wk_str){o->stop[i], o->stop_len[i]} : wk_cstr(o->stop[i]);
}

static wick_status check_lists(const wick_request_options *o, int32_t n_vocab, wick_error *err) {
    if ((o->n_stop && !o->stop) || (o->n_bias && (!o->bias_token || !o->bias_value)))
        return wk_fail(err, WICK_E_ARG,
                       "a list of %zu stop strings and %zu biases was announced, but not given",
                       o->n_stop, o->n_bias);
    WK_TRY(wk_check_range("stop strings", (int64_t)o->n_stop, 0, 16, err));
    for (size_t i = 0; i < o->n_stop; i++) {
        if (!o->stop[i]) return wk_fail(err, WICK_E_ARG, "stop string %zu is not given", i);
        const wk_str s = stop_at(o, i);
        if (s.n > WK_STOP_MAX)
            return wk_fail(err, WICK_E_ARG, "stop string %zu has %zu bytes, at most %d are taken",
                           i, s.n, (int)WK_STOP_MAX);
        if (!wk_utf8_valid(s))
            return wk_fail(err, WICK_E_ARG, "stop string %zu is not valid UTF-8", i);
    }
    if (o->n_bias > MAX_BIAS)
        return wk_fail(err, WICK_E_ARG, "%zu token biases, at most %d are taken", o->n_bias,
                       MAX_BIAS);
    for (size_t i = 0; i < o->n_bias; i++) {
        WK_TRY(wk_check_range("token of a bias", o->bias_token[i], 0, n_vocab - 1, err));
        WK_TRY(check_real("bias", (double)o->bias_value[i], -1000, 1000, err));
    }
    return WICK_OK;
}

/* The request's own copy of the biases. */
static wick_status copy_bias(wk_request *r, const wick_request_options *o, wick_error *err) {
    if (!o->n_bias) return WICK_OK;
    r->bias_token = wk_new_n(int32_t, o->n_bias);
    r->bias_value = wk_new_n(float, o->n_bias);
    if (!r->bias_token || !r->bias_value)
        return wk_fail(err, WICK_E_NOMEM, "no memory for %zu token biases", o->n_bias);
    memcpy(r->bias_token, o->bias_token, o->n_bias * sizeof(int32_t));
    memcpy(r->bias_value, o->bias_value, o->n_bias * sizeof(float));
    r->sampling.bias_token = r->bias_token;
    r->sampling.bias_value = r->bias_value;
    r->sampling.n_bias = (int32_t)o->n_bias;
    return WICK_OK;
}

static size_t stops_of(wk_str *stop, const wick_request_options *o) {
    size_t n = 0;
    for (size_t i = 0; i < o->n_stop; i++) {
        const wk_str s = stop_at(o, i);
        if (s.n) stop[n++] = s;
    }
    return n;
}

/* A request with its prompt, or with the error that is its first and last event. */
static wick_status make_request(wick_engine *e, const wick_request_options *o, wk_request **out,
                                wick_error *err) {
    wk_sampling p = {0};
    wk_str stop[16];
    wick_error prompt_err = {0};
    int32_t *id = NULL;
    size_t n = 0;
    WK_TRY(sampling_of(&p, e->model->store, o, err));
    int bad = prompt_ids(e, o, &id, &n, &prompt_err);
    if (!bad) bad = check_prompt(e, id, n, 1, &prompt_err);
    const int32_t n_ctx = wk_engine_n_ctx(e->e), n_prompt = bad ? 0 : (int32_t)n;
    const int32_t left = n_ctx - n_prompt,
                  want = o->max_tokens && o->max_tokens < left ? o->max_tokens : left;
    int rc = wk_request_new(out, e->model->tok, id, n_prompt, bad ? 0 : n_prompt + want, stop,
                            stops_of(stop, o), err);
    wk_free(id);
    if (rc) return rc;
    wk_request *r = *out;
    r->engine = e->e;
    wk_engine_hold(e->e);
    r->sampling = p;
    WK_TRY(copy_bias(r, o, err));
    r->hash_logits = (o->flags & WICK_REQ_HASH) != 0;
    r->ignore_end = (o->flags & WICK_REQ_IGNORE_END) != 0;
    if (o->cache_salt)
        r->salt = wk_hash_bytes((wk_hash){0, 0}, o->cache_salt, strlen(o->cache_salt));
    if (bad) {
        r->error = prompt_err;
        r->error.code = bad;
        wk_request_end(r, WK_FIN_ERROR);
    }
    return WICK_OK;
}

wick_status wick_submit(wick_engine *e, const wick_request_options *opt, wick_request **out,
                        wick_error *err) {
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    if (!e || !opt || !out)
        return wk_fail(err, WICK_E_ARG, "submit: engine, options and out must be given");
    *out = NULL;
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("request options", err);
    WK_TRY(check_request(&o, err));
    WK_TRY(check_lists(&o, wk_engine_n_vocab(e->e), err));
    wick_request *r = wk_new(wick_request);
    if (!r) return wk_fail(err, WICK_E_NOMEM, "no memory for a request");
    int rc = make_request(e, &o, &r->r, err);
    if (!rc && r->r->finish == WK_FIN_NONE) rc = wk_engine_submit(e->e, r->r, err);
    if (rc) {
        wick_request_free(r);
        return rc;
    }
    *out = r;
    return WICK_OK;
}

wick_status wick_next(wick_request *r, int timeout_ms, wick_event *ev) {
    if (!r || !ev) return WICK_E_ARG;
    if (!wk_has_size(ev)) return WICK_E_ABI; /* before an event is taken */
    wk_ring_event e;
    wk_str text = {"", 0};
    WK_TRY(wk_request_next(r->r, timeout_ms, &e, &text));
    wick_event v = {.type = e.type, .text = text.p, .text_len = text.n, .n_prompt = e.a};
    if (e.type == WK_EV_ADMITTED) v.n_cached = e.b;
    if (e.type == WK_EV_PROGRESS) v.n_done = e.b;
    if (e.type == WK_EV_ERROR) v.error = r->r->error;
    wk_engine_wake(r->r->engine);         /* there is room again */
    (void)wk_result_give(ev, &v, sizeof(v)); /* its size was looked at */
    return WICK_OK;
}

int wick_request_fd(wick_request *r) { return r ? wk_request_fd(r->r) : -1; }

void wick_cancel(wick_request *r) {
    if (!r) return;
    atomic_store(&r->r->cancel, 1);
    wk_engine_wake(r->r->engine);
}

static double seconds(uint64_t from, uint64_t to) {
    return to > from ? (double)(to - from) * 1e-9 : 0.0;
}

wick_status wick_request_result(const wick_request *q, wick_result *out) {
    if (!q || !out) return WICK_E_ARG;
    const wk_request *r = q->r;
    if (!atomic_load(&r->over)) { /* the rest is being written */
        const wick_result v = {.n_prompt = r->n_prompt, .seed = (int64_t)r->sampling.seed};
        return wk_result_give(out, &v, sizeof(v)) ? WICK_OK : WICK_E_ABI;
    }
    const wick_result v = {.n_prompt = r->n_prompt,
                           .n_cached = r->n_cached,
                           .n_generated = r->n_generated,
                           .finish = (int32_t)r->finish,
                           .prompt_s = r->t_first ? seconds(r->t_admit, r->t_first) : 0,
                           .decode_s = r->t_first ? seconds(r->t_first, r->t_end) : 0,
                           .first_s = r->t_first ? seconds(r->t_submit, r->t_first) : 0,
                           .seed = (int64_t)r->sampling.seed,
                           .hash = {r->hash.lo, r->hash.hi},
                           .flags = r->engine && (wk_engine_on_device(r->engine) || wk_engine_has_other_bits(r->engine))
                                        ? WICK_RESULT_DEVICE_BITS
                                        : 0,
                           .error = r->error};
    return wk_result_give(out, &v, sizeof(v)) ? WICK_OK : WICK_E_ABI;
}

void wick_request_free(wick_request *r) {
    if (!r) return;
    if (r->r) {
        wk_engine *e = r->r->engine;
        atomic_store(&r->r->cancel, 1);
        if (e) wk_engine_wake(e);
        wk_request_drop(r->r);
        wk_engine_drop(e);
    }
    wk_free(r);
}

/* ---- one call ------------------------------------------------------------------------------------ */

wick_status wick_generate(wick_engine *e, const wick_request_options *o,
                          int (*on_text)(void *, const char *, size_t), void *ud, wick_result *out,
                          wick_error *err) {
    wick_request *r = NULL;
    wick_event ev = WICK_EVENT_INIT;
    if (out && !wk_has_size(out)) return wk_options_bad_size("result", err);
    WK_TRY(wick_submit(e, o, &r, err));
    int rc = WICK_OK;
    while (!rc && (rc = wick_next(r, -1, &ev)) == WICK_OK) {
        if (ev.type == WICK_EV_TEXT && on_text && on_text(ud, ev.text, ev.text_len)) {
            on_text = NULL; /* what is in the ring already is not wanted either */
            wick_cancel(r);
        }
        if (ev.type == WICK_EV_ERROR) {
            if (err) *err = ev.error;
            rc = ev.error.code;
        }
        if (ev.type == WICK_EV_DONE) break;
    }
    if (out) {
        const int give = wick_request_result(r, out);
        if (!rc) rc = give;
    }
    wick_request_free(r);
    return rc;
}

/* Runs a scoring request to its end. */
static wick_status run_score(wick_engine *e, wk_request *r, wick_error *err) {
    wick_request q = {.r = r};
    wick_event ev = WICK_EVENT_INIT;
    r->engine = e->e;
    int rc = wk_engine_submit(e->e, r, err);
    while (!rc && (rc = wick_next(&q, -1, &ev)) == WICK_OK && ev.type != WICK_EV_DONE &&
           ev.type != WICK_EV_ERROR) {
    }
    if (!rc && ev.type == WICK_EV_ERROR) {
        if (err) *err = ev.error;
        rc = ev.error.code;
    }
    return rc;
}

static wick_status score(wick_engine *e, const wick_token *t, size_t n, float *logprobs,
                         void (*on_row)(void *, int32_t, const float *, int32_t), void *ud,
                         wick_error *err) {
    wk_request *r = NULL;
    WK_TRY(check_prompt(e, t, n, 0, err));
    WK_TRY(wk_request_new(&r, e->model->tok, t, (int32_t)n, (int32_t)n, NULL, 0, err));
    r->score = wk_new_n(float, n + 1);
    r->on_row = on_row;
    r->on_row_ud = ud;
    const int rc = r->score ? run_score(e, r, err)
                            : wk_fail(err, WICK_E_NOMEM, "no memory to score %zu tokens", n);
    if (!rc && logprobs) memcpy(logprobs, r->score, n * sizeof(float));
    wk_request_drop(r);
    return rc;
}

wick_status wick_score(wick_engine *e, const wick_token *t, size_t n, float *logprobs,
                       wick_error *err) {
    if (!e || !t || !logprobs)
        return wk_fail(err, WICK_E_ARG, "score: engine, tokens and logprobs must be given");
    return score(e, t, n, logprobs, NULL, NULL, err);
}

wick_status wick_x_logits(wick_engine *e, const wick_token *t, size_t n,
                          void (*on_row)(void *ud, int32_t pos, const float *logits,
                                         int32_t n_vocab),
                          void *ud, wick_error *err) {
    if (!e || !t || !on_row)
        return wk_fail(err, WICK_E_ARG, "logits: engine, tokens and on_row must be given");
    return score(e, t, n, NULL, on_row, ud, err);
}

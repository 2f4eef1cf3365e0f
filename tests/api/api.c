/* api.c: helpers of the tests in this folder. */
#include "tests/api/api.h"

#include <stdio.h>
#include <time.h>

wick_model *api_model(const char *path) {
    wick_error err = {0};
    wick_model *m = NULL;
    if (wick_model_open(path, NULL, &m, &err)) fail_msg("%s: %s", path, err.message);
    return m;
}

wick_engine *api_engine(wick_model *m, int32_t n_ctx, void (*change)(wick_engine_options *o)) {
    wick_error err = {0};
    wick_engine *e = NULL;
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.n_ctx = n_ctx;
    o.threads = 1;
    if (change) change(&o);
    if (wick_engine_open(m, &o, &e, &err)) fail_msg("engine: %s", err.message);
    return e;
}

wick_request_options api_ids(const wick_token *t, size_t n, int32_t max_tokens) {
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    o.tokens = t;
    o.n_tokens = n;
    o.max_tokens = max_tokens;
    o.temperature = 0;
    o.flags = WICK_REQ_HASH | WICK_REQ_IGNORE_END;
    return o;
}

wick_request *api_submit(wick_engine *e, const wick_request_options *o) {
    wick_error err = {0};
    wick_request *r = NULL;
    if (wick_submit(e, o, &r, &err)) fail_msg("submit: %s", err.message);
    assert_non_null(r);
    return r;
}

static void take_text(answer *a, const wick_event *ev) {
    assert_true(ev->text_len > 0);
    if (!api_utf8(ev->text, ev->text_len)) fail_msg("a text event of %zu bytes is not valid UTF-8", ev->text_len);
    assert_true(a->n + ev->text_len < sizeof(a->text));
    memcpy(a->text + a->n, ev->text, ev->text_len);
    a->n += ev->text_len;
    a->n_text++;
}

static void take_event(answer *a, const wick_event *ev) {
    switch (ev->type) {
    case WICK_EV_ADMITTED: /* the first one, once */
        assert_int_equal(a->n_admitted + a->n_progress + a->n_text, 0);
        a->n_admitted++;
        a->n_prompt = ev->n_prompt;
        a->n_cached = ev->n_cached;
        return;
    case WICK_EV_PROGRESS: /* before any text, growing, below the whole */
        assert_int_equal(a->n_text, 0);
        assert_int_equal(a->n_admitted, 1);
        assert_true(ev->n_done > a->last_done && ev->n_done < ev->n_prompt);
        a->last_done = ev->n_done;
        a->n_progress++;
        return;
    case WICK_EV_TEXT:
        assert_int_equal(a->n_admitted, 1);
        take_text(a, ev);
        return;
    default:
        fail_msg("event of type %d", (int)ev->type);
    }
}

void api_read(wick_request *r, answer *a) {
    memset(a, 0, sizeof(*a));
    api_read_on(r, a);
}

void api_read_on(wick_request *r, answer *a) {
    wick_event ev = WICK_EVENT_INIT;
    for (;;) {
        assert_int_equal(wick_next(r, 60000, &ev), WICK_OK);
        if (ev.type == WICK_EV_DONE || ev.type == WICK_EV_ERROR) break;
        take_event(a, &ev);
    }
    a->text[a->n] = 0;
    a->last_type = ev.type;
    if (ev.type == WICK_EV_ERROR) {
        a->error = ev.error;
        assert_true(ev.error.code < 0);
        assert_true(ev.error.message[0] != 0);
    }
    assert_int_equal(wick_next(r, 0, &ev), WICK_E_ARG); /* nothing behind the last one */
    a->result = (wick_result)WICK_RESULT_INIT;
    assert_int_equal(wick_request_result(r, &a->result), WICK_OK);
    assert_int_equal(a->result.finish == WICK_FINISH_ERROR, a->last_type == WICK_EV_ERROR);
    assert_int_not_equal(a->result.finish, WICK_FINISH_NONE);
}

void api_run(wick_engine *e, const wick_request_options *o, answer *a) {
    wick_request *r = api_submit(e, o);
    api_read(r, a);
    wick_request_free(r);
}

wick_token api_token_of(const wick_model *m, const char *text) {
    wick_token t[8];
    size_t n = 0;
    assert_int_equal(wick_tokenize(m, text, strlen(text), 0, t, 8, &n), WICK_OK);
    assert_int_equal(n, 1);
    return t[0];
}

uint64_t api_next(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void api_fill(wick_token *t, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) t[i] = (wick_token)(2 + api_next(&seed) % 256);
}

/* Unicode table 3-7, byte by byte. */
bool api_utf8(const char *p, size_t n) {
    const unsigned char *s = (const unsigned char *)p;
    for (size_t i = 0; i < n;) {
        const unsigned c = s[i];
        const size_t more = c < 0x80 ? 0 : c < 0xc2 || c > 0xf4 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        if (more == 9 || i + more >= n) return false;
        const unsigned lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        if (more && (s[i + 1] < lo || s[i + 1] > hi)) return false;
        for (size_t k = 2; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80) return false;
        i += more + 1;
    }
    return true;
}

void api_sleep_ms(int ms) {
    const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

void api_idle(const wick_engine *e) {
    wick_stats s = WICK_STATS_INIT;
    for (int i = 0; i < 6000; i++) {
        assert_int_equal(wick_engine_stats(e, &s), WICK_OK);
        if (s.running == 0 && s.waiting == 0 && s.pages_free == s.pages_total) return;
        api_sleep_ms(5);
    }
    fail_msg("%d run, %d wait, %d of %d pages are free", (int)s.running, (int)s.waiting, (int)s.pages_free,
             (int)s.pages_total);
}

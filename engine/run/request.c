/* request.c: life of a request record and its ring. */
#include "engine/run/request.h"

#include <limits.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/base/os.h"

enum { ROOM_EVENTS = 4, MAX_PIECE = 4096 }; /* events that one step may add at most; stream.h */

static int copy_stops(wk_request *r, const wk_str *stop, size_t n_stop) {
    size_t total = 1;
    for (size_t i = 0; i < n_stop; i++)
        if (!wk_add(&total, total, stop[i].n)) return WICK_E_NOMEM;
    r->stop_text = wk_alloc(total);
    r->stop = wk_new_n(wk_str, n_stop + 1);
    if (!r->stop_text || !r->stop) return WICK_E_NOMEM;
    char *p = r->stop_text;
    for (size_t i = 0; i < n_stop; i++) {
        memcpy(p, stop[i].p, stop[i].n);
        r->stop[i] = (wk_str){p, stop[i].n};
        p += stop[i].n;
    }
    r->n_stop = n_stop;
    return WICK_OK;
}

static int take_memory(wk_request *r, int32_t n_room) {
    const size_t room = (size_t)n_room;
    r->tok = wk_new_n(int32_t, room + 1);
    r->page = wk_new_n(uint32_t, room / WK_KV_PAGE + 2);
    r->ring_text = wk_alloc(WK_RING_TEXT);
    r->read_text = wk_alloc(WK_RING_TEXT + 1);
    return r->tok && r->page && r->ring_text && r->read_text ? WICK_OK : WICK_E_NOMEM;
}

int wk_request_new(wk_request **out, const wk_tok *tok, const int32_t *prompt, int32_t n_prompt,
                   int32_t n_room, const wk_str *stop, size_t n_stop, wk_err *err) {
    wk_request *r = wk_new(wk_request);
    if (!r) return wk_fail(err, WICK_E_NOMEM, "no memory for a request");
    atomic_init(&r->ref, 1);
    pthread_mutex_init(&r->mu, NULL);
    r->fd = -1;
    wk_buf_init(&r->text, WK_STEP_TEXT);
    if (copy_stops(r, stop, n_stop) || take_memory(r, n_room) ||
        wk_stream_init(&r->stream, tok, r->stop, n_stop, MAX_PIECE) ||
        !wk_buf_room(&r->text, WK_STEP_TEXT)) {
        wk_request_drop(r);
        return wk_fail(err, WICK_E_NOMEM, "no memory for a request of %d tokens", (int)n_room);
    }
    if (n_prompt) memcpy(r->tok, prompt, (size_t)n_prompt * sizeof(int32_t));
    r->n_prompt = r->n_tok = n_prompt;
    r->max_tokens = n_room - n_prompt;
    r->t_submit = wk_os_now_ns();
    *out = r;
    return WICK_OK;
}

void wk_request_hold(wk_request *r) { atomic_fetch_add(&r->ref, 1); }

void wk_request_drop(wk_request *r) {
    if (!r || atomic_fetch_sub(&r->ref, 1) != 1) return;
    wk_stream_fini(&r->stream);
    wk_buf_fini(&r->text);
    wk_free(r->stop_text);
    wk_free(r->stop);
    wk_free(r->tok);
    wk_free(r->page);
    wk_free(r->bias_token);
    wk_free(r->bias_value);
    wk_free(r->score);
    wk_free(r->ring_text);
    wk_free(r->read_text);
    wk_os_event_close(r->fd);
    pthread_mutex_destroy(&r->mu);
    wk_free(r);
}

bool wk_request_has_room(wk_request *r) {
    pthread_mutex_lock(&r->mu);
    const bool yes =
        r->ev_n + ROOM_EVENTS < WK_RING_EVENTS && r->text_n + WK_STEP_TEXT < WK_RING_TEXT;
    pthread_mutex_unlock(&r->mu);
    return yes;
}

static void push_text(wk_request *r, wk_str text) {
    uint32_t at = (r->text_head + r->text_n) % WK_RING_TEXT;
    for (size_t i = 0; i < text.n; i++) {
        r->ring_text[at] = text.p[i];
        at = at + 1 == WK_RING_TEXT ? 0 : at + 1;
    }
    r->text_n += (uint32_t)text.n;
}

void wk_request_put(wk_request *r, wk_event_type type, wk_str text, int32_t a, int32_t b) {
    pthread_mutex_lock(&r->mu);
    const bool last = type == WK_EV_DONE || type == WK_EV_ERROR;
    const bool fits =
        r->ev_n < WK_RING_EVENTS - (last ? 0u : 1u) && text.n <= WK_RING_TEXT - r->text_n;
    if (fits) {
        push_text(r, text);
        r->ev[(r->ev_head + r->ev_n++) % WK_RING_EVENTS] =
            (wk_ring_event){(uint8_t)type, (uint32_t)text.n, a, b};
        atomic_fetch_add(&r->ready, 1);
        wk_os_event_set(r->fd);
    }
    pthread_mutex_unlock(&r->mu);
    if (fits) wk_os_futex_wake_all((const uint32_t *)(void *)&r->ready);
}

void wk_request_end(wk_request *r, wk_finish finish) {
    r->finish = finish;
    r->t_end = wk_os_now_ns();
    atomic_store(&r->over, true);
    wk_request_put(r, finish == WK_FIN_ERROR ? WK_EV_ERROR : WK_EV_DONE, (wk_str){"", 0}, 0, 0);
}

/* Takes the oldest event; false if there is none. */
static bool take(wk_request *r, wk_ring_event *ev, wk_str *text) {
    pthread_mutex_lock(&r->mu);
    const bool any = r->ev_n > 0;
    if (any) {
        *ev = r->ev[r->ev_head];
        r->ev_head = (r->ev_head + 1) % WK_RING_EVENTS;
        r->ev_n--;
        for (uint32_t i = 0; i < ev->text_n; i++)
            r->read_text[i] = r->ring_text[(r->text_head + i) % WK_RING_TEXT];
        r->read_text[ev->text_n] = 0;
        r->text_head = (r->text_head + ev->text_n) % WK_RING_TEXT;
        r->text_n -= ev->text_n;
        *text = (wk_str){r->read_text, ev->text_n};
        if (r->ev_n == 0) wk_os_event_clear(r->fd);
    }
    pthread_mutex_unlock(&r->mu);
    return any;
}

int wk_request_next(wk_request *r, int timeout_ms, wk_ring_event *ev, wk_str *text) {
    if (r->ended) return WICK_E_ARG;
    const uint64_t end = wk_os_now_ns() + (timeout_ms > 0 ? (uint64_t)timeout_ms * 1000000u : 0);
    for (;;) {
        const uint32_t seen = atomic_load(&r->ready);
        if (take(r, ev, text)) break;
        int64_t wait = -1;
        if (timeout_ms >= 0) {
            const uint64_t now = wk_os_now_ns();
            if (now >= end) return WICK_E_TIMEOUT;
            wait = (int64_t)(end - now);
        }
        wk_os_futex_wait((const uint32_t *)(void *)&r->ready, seen, wait);
    }
    r->ended = ev->type == WK_EV_DONE || ev->type == WK_EV_ERROR;
    return WICK_OK;
}

int wk_request_fd(wk_request *r) {
    pthread_mutex_lock(&r->mu);
    if (r->fd < 0 && !r->ended) {
        r->fd = wk_os_event_open();
        if (r->ev_n) wk_os_event_set(r->fd);
    }
    const int fd = r->fd;
    pthread_mutex_unlock(&r->mu);
    return fd;
}

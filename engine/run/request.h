/* request.h: one prompt in flight: its tokens, its pages, and the ring of events towards its reader.
 *
 * Writer of everything but the ring's reading side and `cancel`: the engine thread once the request is queued.
 * The ring: one writer (engine), one reader (the caller's thread), under `mu`. Two owners: caller and engine. */
#ifndef WK_REQUEST_H
#define WK_REQUEST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/hash.h"
#include "engine/run/kv.h"
#include "engine/run/sampler.h"
#include "engine/text/stream.h"

enum {
    WK_RING_EVENTS = 256,
    WK_RING_TEXT = 65536,
    WK_STOP_MAX = 1024,    /* bytes of a stop string */
    WK_STEP_TEXT = 16384   /* bytes that one token may release: thrice what was held back and one piece of 4096 */
};

typedef enum wk_event_type { WK_EV_ADMITTED, WK_EV_PROGRESS, WK_EV_TEXT, WK_EV_WARNING, WK_EV_DONE, WK_EV_ERROR } wk_event_type;
typedef enum wk_finish { WK_FIN_NONE, WK_FIN_STOP, WK_FIN_LENGTH, WK_FIN_TOOL, WK_FIN_CANCEL, WK_FIN_ERROR } wk_finish;

typedef struct wk_ring_event {
    uint8_t type;
    uint32_t text_n; /* bytes of the text ring that belong to it */
    int32_t a, b;    /* ADMITTED: prompt, cached; PROGRESS: prompt, done */
} wk_ring_event;

typedef struct wk_request {
    _Atomic int ref;
    _Atomic uint32_t cancel;
    struct wk_engine *engine; /* holds a reference */

    /* set before it is queued, then read-only */
    wk_sampling sampling;
    int32_t n_prompt, max_tokens;
    bool hash_logits, ignore_end;
    wk_hash salt;
    char *stop_text; /* owner of the stop strings */
    wk_str *stop;
    size_t n_stop;
    int32_t *bias_token; /* owner of the sampling's bias */
    float *bias_value;
    float *score; /* not NULL: no generation, log-probabilities of the prompt are written here */
    void (*on_row)(void *ud, int32_t pos, const float *logits, int32_t n); /* scoring: every row, on the engine thread */
    void *on_row_ud;

    /* engine thread */
    int32_t *tok;      /* [n_prompt + max_tokens] */
    int32_t n_tok;     /* known */
    int32_t n_past;    /* in the cache */
    int32_t n_cached;
    uint32_t *page;    /* [pages of n_prompt + max_tokens] */
    int32_t n_page, n_reserved; /* held; still promised by admission */
    int32_t n_known;   /* leading pages whose hash stands in `chain` */
    wk_hash chain;     /* of the leading full pages */
    wk_stream stream;
    wk_buf text;       /* what one token gave */
    uint64_t t_submit, t_admit, t_first, t_end; /* ns */
    int32_t n_generated;
    wk_finish finish;
    wk_hash hash;
    wk_err error;
    _Atomic bool over; /* set last: the engine writes nothing more but the ring */
    int32_t next_progress;

    /* ring */
    pthread_mutex_t mu;
    _Atomic uint32_t ready; /* counts what was put in; the reader's futex word */
    wk_ring_event ev[WK_RING_EVENTS];
    uint32_t ev_head, ev_n;
    uint32_t text_head, text_n;
    int fd;            /* eventfd, -1 until asked for */
    bool ended;        /* DONE or ERROR was read */
    char *ring_text;   /* [WK_RING_TEXT] */
    char *read_text;   /* [WK_RING_TEXT + 1] what the last read event holds */
} wk_request;

/* n_room: tokens that prompt and answer may have together. prompt is copied. */
int wk_request_new(wk_request **out, const wk_tok *tok, const int32_t *prompt, int32_t n_prompt, int32_t n_room,
                   const wk_str *stop, size_t n_stop, wk_err *err);
void wk_request_hold(wk_request *r);
void wk_request_drop(wk_request *r); /* frees with the last owner */

/* Engine side. Room for at least one token's text and events? If not, the sequence is parked. */
bool wk_request_has_room(wk_request *r);
void wk_request_put(wk_request *r, wk_event_type type, wk_str text, int32_t a, int32_t b);
void wk_request_end(wk_request *r, wk_finish finish); /* DONE, or ERROR when r->error is set */

/* Reader side. WICK_OK, E_TIMEOUT, E_ARG (already ended). */
int wk_request_next(wk_request *r, int timeout_ms, wk_ring_event *ev, wk_str *text);
int wk_request_fd(wk_request *r);

#endif

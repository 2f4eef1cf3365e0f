/* session.h: a model and an engine opened as the command line wants them, and one answer. For run and chat. */
#ifndef WK_SESSION_H
#define WK_SESSION_H

#include <pthread.h>

#include "engine/app/args.h"
#include "engine/app/emit.h"
#include "engine/app/out.h"
#include "engine/base/buf.h"

typedef struct wk_session {
    const wk_args *args;
    wk_emit *emit;
    wick_model *model;
    wick_engine *engine;
    bool quiet, color;
    pthread_mutex_t lock; /* progress, emit: the library logs and reports from its own thread too */
    wk_progress progress;
    wick_stats stats;
    wick_token bias_token[WK_ARG_LIST_MAX]; /* of the last request */
    float bias_value[WK_ARG_LIST_MAX];
} wk_session;

typedef struct wk_answer {
    wk_buf text;
    wick_result result;
    bool interrupted; /* by SIGINT; what was said is kept */
} wk_answer;

/* The engine options that the command line asks for; one sequence at a time. */
wick_engine_options wk_session_engine(const wk_args *a);
/* Also takes the signals (signals.h), and says the first line on stderr (model, context, threads and why, level). A
 * failed open is closed by wk_session_close too. */
wick_status wk_session_open(wk_session *s, const wk_args *a, wk_emit *emit, wick_error *err);
void wk_session_close(wk_session *s);
/* Another model in the place of this one; if it cannot be opened, the old one is opened again: WICK_OK in *back. */
wick_status wk_session_switch(wk_session *s, const char *path, const char *old_path, wick_status *back,
                              wick_error *err);
bool wk_session_has_template(const wick_model *m);

/* One answer: text goes to stdout as it comes (or into events, or nowhere with --json), and into answer->text. */
wick_status wk_session_answer(wk_session *s, const wick_request_options *o, wk_answer *answer, wick_error *err);
/* The request options that the settings ask for; they borrow from s until the next call. */
wick_request_options wk_session_request(wk_session *s);

/* 38 prompt (0 cached) · 96 tok · 21.4 tok/s · first 0.31 s · ctx 308/8192, on a terminal or with -v */
void wk_session_footer(wk_session *s, const wick_result *r);
/* "stop", "length" ... */
const char *wk_finish_word(int32_t finish);
/* Tokens a second after the first one. */
double wk_session_rate(const wick_result *r);
/* The answer ends where the context ends. */
bool wk_session_full(const wk_session *s, const wick_result *r);

#endif

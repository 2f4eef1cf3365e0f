/* session.h: a model and an engine opened as the command line wants them, and one answer. For run and chat. */
#ifndef WK_SESSION_H
#define WK_SESSION_H

#include "engine/app/args.h"
#include "engine/app/out.h"
#include "engine/base/buf.h"

typedef struct wk_session {
    const wk_args *args;
    wick_model *model;
    wick_engine *engine;
    bool quiet, color;
    wk_progress progress;
    wick_stats stats;
} wk_session;

/* Says the first line on stderr (model, context, threads and why, level). */
wick_status wk_session_open(wk_session *s, const wk_args *a, wick_error *err);
void wk_session_close(wk_session *s);

/* Streams one answer to out; answer (may be NULL) gets its text. SIGINT ends the answer: *interrupted, and the text so
 * far stays. */
wick_status wk_session_answer(wk_session *s, const wick_request_options *o, wk_out *out, wk_buf *answer, wick_result *result,
                              bool *interrupted, wick_error *err);
/* The request options that the command line asks for. */
wick_request_options wk_session_request(const wk_session *s);
/* {"messages":[...],"add_generation_prompt":true} begins with the system message, if there is one. */
void wk_messages_begin(wk_buf *b, const char *system);
void wk_messages_add(wk_buf *b, const char *role, const char *text, size_t n);
void wk_messages_end(wk_buf *b, wk_buf *request); /* request gets the closed JSON; b stays open */

/* 38 prompt (0 cached) · 96 tok · 21.4 tok/s · first 0.31 s · ctx 308/8192 */
void wk_session_footer(const wk_session *s, const wick_result *r);

#endif

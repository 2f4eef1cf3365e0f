/* dialog.h: the state of chat, between its loop (cmd_chat.c) and its commands (slash.c). */
#ifndef WK_DIALOG_H
#define WK_DIALOG_H

#include "engine/app/repl.h"
#include "engine/app/session.h"
#include "engine/app/talk.h"

typedef struct wk_dialog {
    wk_args *args;
    wk_session s;
    wk_emit emit;
    wk_talk talk;
    wk_repl repl;
    wk_buf message, request, file; /* file: what /file has read, it goes in front of the next message */
    wk_answer answer;              /* the last one */
    int32_t n_used;                /* tokens of the context after it */
    int64_t n_retry;               /* of the same message */
    bool leave;
    int code;                      /* exit code when leaving */
} wk_dialog;

/* One turn. A failed one is said and taken back, and the conversation goes on; a status means that it cannot. */
wick_status wk_dialog_ask(wk_dialog *d, wk_str text, wick_error *err);

/* One command line, which begins with a slash. */
wick_status wk_slash(wk_dialog *d, const char *line, wick_error *err);
void wk_slash_complete(void *ud, const char *line, size_t n, wk_buf *insert, wk_buf *list);

/* Opens $VISUAL or $EDITOR on text; on success text holds what was saved. */
wick_status wk_editor(wk_buf *text, wick_error *err);

#endif

/* repl.h: lines from a person or a pipe. With libedit: editing, history, completion, bracketed paste; without it, on a
 * dumb terminal or from a pipe: plain lines. */
#ifndef WK_REPL_H
#define WK_REPL_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

typedef enum wk_repl_why {
    WK_REPL_LINE,
    WK_REPL_END,       /* end of the input, Ctrl-D */
    WK_REPL_INTERRUPT, /* Ctrl-C */
    WK_REPL_SIGNAL,    /* SIGTERM or SIGHUP: leave */
    WK_REPL_TOO_LONG
} wk_repl_why;

/* What completes the line before the cursor: insert gets the bytes that can only follow, list the choices (each
 * followed by a NUL) where there are several. */
typedef void wk_repl_complete(void *ud, const char *line, size_t n, wk_buf *insert, wk_buf *list);

enum { WK_REPL_LINE_MAX = 16 << 20, WK_REPL_PASTE_MAX = 1 << 20 };

typedef struct wk_repl {
    bool person, color;  /* somebody types: prompts are shown */
    void *edit, *past, *screen; /* EditLine, History, FILE of the terminal; NULL: plain lines */
    wk_repl_complete *complete;
    void *ud;
    wk_buf line, paste;
    const char *prompt;
    char prompt_text[32];
    wk_repl_why why;
    bool event;          /* the character just read stands for a signal, nobody typed it */
    bool paste_cut;      /* a paste was longer than the limit and was not taken */
    char history[4096];  /* path, "" = not kept */
    size_t in_at, in_n;  /* plain: bytes read and not yet used */
    char in[65536];
} wk_repl;

void wk_repl_open(wk_repl *r, bool color, wk_repl_complete *complete, void *ud);
void wk_repl_close(wk_repl *r);
/* Why lines are plain though a person types; NULL: they are not. */
const char *wk_repl_plain(const wk_repl *r);
/* The next line, without its newline, in r->line; with WK_REPL_INTERRUPT what had been typed. prompt: "> ". */
wk_repl_why wk_repl_read(wk_repl *r, const char *prompt);
/* A whole message for the history. The status is that of writing the file. */
int wk_repl_remember(wk_repl *r, wk_str text, wk_err *err);

#endif

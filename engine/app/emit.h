/* emit.h: what a program reads: one object with --json, events with --jsonl; and warnings, in every mode.
 *
 * Every object begins with "schema":"wick.COMMAND/1"; an event also has "type". Warnings go to stderr at once, become
 * an event with --jsonl, and stand again in the last object. */
#ifndef WK_EMIT_H
#define WK_EMIT_H

#include "engine/app/args.h"
#include "engine/app/out.h"
#include "engine/base/buf.h"
#include "engine/base/str.h"

enum { WK_EMIT_TEXT, WK_EMIT_JSON, WK_EMIT_JSONL };

typedef struct wk_emit {
    int mode;
    const char *command;
    bool quiet;
    wk_out out;
    wk_buf line;     /* the object that is being written */
    wk_buf warnings; /* elements of the last object's array */
} wk_emit;

void wk_emit_init(wk_emit *e, const wk_args *a);
void wk_emit_fini(wk_emit *e);
/* An object: begin, members, end. type is written with --jsonl only. */
void wk_emit_begin(wk_emit *e, const char *type);
void wk_emit_key(wk_emit *e, const char *key); /* the caller appends the value to e->line */
void wk_emit_str(wk_emit *e, const char *key, wk_str s);
void wk_emit_int(wk_emit *e, const char *key, int64_t v);
void wk_emit_num(wk_emit *e, const char *key, double v); /* not finite: null */
void wk_emit_bool(wk_emit *e, const char *key, bool v);
void wk_emit_end(wk_emit *e);
/* The last object: begins with type "done", ends with the warnings. */
void wk_emit_done(wk_emit *e);

void wk_emit_warning(wk_emit *e, const char *text, size_t n);
/* The end of a command: what could not be written is an error; one line on stderr and, for a program, an object.
 * Returns the exit code: code, or that of the status. */
int wk_emit_finish(wk_emit *e, wick_status rc, wick_error *err, int code);

#endif

/* jinja.h: the Jinja subset of chat templates (SERVER 13): lexer, flat code, machine, budgets. Strings carry
 * runs {template, user} through every operation, so that user text can be told from template text. */
#ifndef WK_JINJA_H
#define WK_JINJA_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/json.h"

typedef struct wk_jinja wk_jinja; /* a parsed template; immutable, any thread */

/* E_TEMPLATE with line and cause. src is copied. */
int wk_jinja_parse(wk_jinja **out, wk_str src, wk_err *err);
void wk_jinja_free(wk_jinja *j);

typedef struct wk_jinja_budget {
    uint64_t steps;     /* 10 M */
    size_t out_bytes;   /* 8 MiB */
    size_t value_bytes; /* 64 MiB */
    int depth;          /* 100 */
    int64_t now;        /* unix time for strftime_now */
} wk_jinja_budget;
#define WK_JINJA_BUDGET                                                                            \
    { 10000000u, (size_t)8 << 20, (size_t)64 << 20, 100, 0 }

/* Output: text and the runs it is made of (ascending, covering all of it). */
typedef struct wk_jinja_run {
    size_t begin, end;
    bool user;
} wk_jinja_run;
typedef struct wk_jinja_out {
    wk_buf text;
    wk_jinja_run *run;
    size_t n_run, room;
} wk_jinja_out;
void wk_jinja_out_fini(wk_jinja_out *o);

/* Renders with the members of ctx (a JSON object) as variables. Strings of ctx are user text; the
 * members listed in `trusted` (NULL-ended names, such as bos_token, or roles under messages[].role) are
 * template text. E_TEMPLATE: raise_exception, a type error, a budget (named). */
int wk_jinja_render(const wk_jinja *j, const wk_json *ctx, const char *const *trusted,
                    const wk_jinja_budget *b, wk_jinja_out *out, wk_err *err);

#endif

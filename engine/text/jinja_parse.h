/* jinja_parse.h: the parser's record and what its two files share: expressions (jinja_expr.c) and
 * statements (jinja.c). Every function returns a status; errors are E_TEMPLATE with the line. */
#ifndef WK_JINJA_PARSE_H
#define WK_JINJA_PARSE_H

#include "engine/base/map.h"
#include "engine/text/jinja_lex.h"
#include "engine/text/jinja_val.h"

enum {
    WK_JP_NONE,
    WK_JP_FALSE,
    WK_JP_TRUE,
    WK_JP_UNDEF
}; /* the first constants of every template */

typedef struct wk_jp_loop {
    size_t next;  /* its NEXT operation */
    size_t chain; /* breaks: the last JUMP + 1; each holds the one before it */
} wk_jp_loop;

typedef struct wk_jp {
    wk_jinja *t;
    wk_jlex lex;
    wk_jtoken now, ahead;
    bool has_ahead;
    uint32_t line; /* of the token that was taken last */
    int depth;
    wk_jp_loop *loop; /* innermost, NULL outside */
    wk_map names;
    wk_err *err;
} wk_jp;

int wk_jp_no_memory(wk_jp *p);
int wk_jp_fail(wk_jp *p, const char *found, wk_str text); /* "template line 3: FOUND 'TEXT'" */
int wk_jp_unexpected(wk_jp *p, const char *wanted);
int wk_jp_next(wk_jp *p);
int wk_jp_peek(wk_jp *p); /* fills ahead */
int wk_jp_expect(wk_jp *p, int op, const char *wanted);
int wk_jp_deeper(wk_jp *p); /* the caller takes p->depth back */
bool wk_jp_at(const wk_jp *p, int op);
bool wk_jp_at_name(const wk_jp *p, const char *name);

int wk_jp_emit(wk_jp *p, wk_jop op);
#define WK_JP_EMIT(p, name, ...) wk_jp_emit((p), (wk_jop){.op = WK_JOP_##name, __VA_ARGS__})
/* Makes the jump at `at` go to the operation that comes next. Jumps are relative, so that an expression
 * stays right when it is moved. */
void wk_jp_land(wk_jp *p, size_t at);
int32_t wk_jp_back_to(const wk_jp *p, size_t to);

int wk_jp_str(wk_jp *p, wk_str text, wk_jv *v); /* borrows */
int wk_jp_constant(wk_jp *p, wk_jv v, int32_t *id);
int wk_jp_intern(wk_jp *p, wk_str name, uint32_t *id);
int wk_jp_name(wk_jp *p, uint32_t *id); /* takes a name */

int wk_jp_expr(wk_jp *p, bool ternary);
/* a, b, c: one value, or a tuple if there is a comma. explicit: in parentheses, may be empty. */
int wk_jp_tuple(wk_jp *p, bool ternary, bool explicit);
int wk_jp_filter(wk_jp *p); /* name and arguments, applied to what is on the stack */

#endif

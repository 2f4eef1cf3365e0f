/* jinja_lex.h: template text -> tokens, with the white space rules of trim_blocks, lstrip_blocks and '-'. */
#ifndef WK_JINJA_LEX_H
#define WK_JINJA_LEX_H

#include "engine/base/err.h"
#include "engine/base/str.h"

enum {
    WK_JT_END,
    WK_JT_DATA,
    WK_JT_BLOCK,     /* {% */
    WK_JT_BLOCK_END, /* %} */
    WK_JT_PRINT,     /* {{ */
    WK_JT_PRINT_END, /* }} */
    WK_JT_NAME,
    WK_JT_STR, /* text: between the quotes, escapes not resolved */
    WK_JT_INT,
    WK_JT_REAL,
    WK_JT_OP /* op: the character, or one of the pairs below */
};
enum { WK_JT_EQ = 1, WK_JT_NE, WK_JT_GE, WK_JT_LE, WK_JT_FLOORDIV, WK_JT_POW };

typedef struct wk_jtoken {
    int kind, op;
    wk_str text;
    uint32_t line;
} wk_jtoken;

#define WK_JLEX_NEST 256
typedef struct wk_jlex {
    const char *p, *end;
    uint32_t line;
    bool at_line_start;      /* the last tag took the end of its line with it */
    int mode;                /* WK_JT_DATA outside tags, else the kind that opened the tag */
    wk_jtoken pending;       /* the opening that follows a text */
    char open[WK_JLEX_NEST]; /* brackets that wait for their ends */
    size_t n_open;
    wk_err *err;
} wk_jlex;

/* src: valid UTF-8, line ends are \n. */
void wk_jlex_init(wk_jlex *x, wk_str src, wk_err *err);
int wk_jlex_next(wk_jlex *x, wk_jtoken *t); /* E_TEMPLATE */

#endif

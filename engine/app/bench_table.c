/* bench_table.c: see bench_table.h. */
#include "engine/app/bench_table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/utf8.h"

void wk_table_init(wk_table *t, const char *align) {
    *t = (wk_table){.align = align, .n_col = (int)strlen(align)};
    if (t->n_col > WK_TABLE_COLUMNS) t->n_col = WK_TABLE_COLUMNS;
}

void wk_table_fini(wk_table *t) {
    wk_free(t->cell);
    t->cell = NULL;
}

void wk_table_cell(wk_table *t, const char *fmt, ...) {
    if (t->n_cell == t->cap) {
        const int cap = t->cap ? 2 * t->cap : 64;
        void *p = wk_realloc_array(t->cell, (size_t)cap, sizeof(*t->cell));
        if (!p) {
            t->failed = true;
            return;
        }
        t->cell = p;
        t->cap = cap;
    }
    char *out = t->cell[t->n_cell++];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(out, WK_TABLE_CELL, fmt, ap); /* a cell that is too long is cut */
    va_end(ap);
    for (char *p = out; *p; p++)
        if (*p == '|' || *p == '\n') *p = '/';
}

static int width(const char *s) {
    const wk_str t = wk_cstr(s);
    return wk_utf8_valid(t) ? (int)wk_utf8_count(t) : (int)t.n;
}

static void put_cell(const wk_table *t, wk_buf *b, int col, int w, const char *s) {
    const int pad = w - width(s);
    if (t->align[col] == 'r')
        (void)wk_buf_addf(b, " %*s%s |", pad, "", s);
    else
        (void)wk_buf_addf(b, " %s%*s |", s, pad, "");
}

static void put_rule(const wk_table *t, wk_buf *b, const int *w) {
    (void)wk_buf_adds(b, "|");
    for (int c = 0; c < t->n_col; c++) {
        (void)wk_buf_addc(b, t->align[c] == 'l' ? ':' : '-');
        for (int i = 0; i < w[c]; i++) (void)wk_buf_addc(b, '-');
        (void)wk_buf_adds(b, t->align[c] == 'r' ? ":|" : "-|");
    }
    (void)wk_buf_adds(b, "\n");
}

void wk_table_put(wk_table *t, wk_buf *b) {
    int w[WK_TABLE_COLUMNS] = {0};
    while (!t->failed && t->n_cell % t->n_col) wk_table_cell(t, "%s", "");
    if (t->failed) {
        b->failed = true;
        return;
    }
    for (int i = 0; i < t->n_cell; i++) {
        const int n = width(t->cell[i]);
        if (n > w[i % t->n_col]) w[i % t->n_col] = n;
    }
    for (int i = 0; i < t->n_cell; i += t->n_col) {
        (void)wk_buf_adds(b, "|");
        for (int c = 0; c < t->n_col; c++) put_cell(t, b, c, w[c], t->cell[i + c]);
        (void)wk_buf_adds(b, "\n");
        if (i == 0) put_rule(t, b, w);
    }
}

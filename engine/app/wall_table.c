/* wall_table.c: the cells of the report. They are made once and then written as HTML, as JSON and as Markdown, so that
 * the same number stands in all three. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_table.h"
#include "engine/app/svg.h"
#include "engine/app/wall_impl.h"
#include "engine/base/json.h"
#include "engine/base/str.h"

static int columns_of(const char *s) {
    int n = 1;
    for (; *s; s++) n += *s == '|';
    return n;
}

void wk_wall_table_begin(wk_wall *w, const char *id, const char *title, const char *columns) {
    wk_wall_report *r = &w->report;
    if (r->n_table == WK_WALL_TABLES) {
        r->text.failed = true;
        return;
    }
    r->table[r->n_table++] = (wk_wall_table){id, title, columns, r->n_cell, columns_of(columns), 0};
}

static wk_wall_cell *add(wk_wall *w) {
    wk_wall_report *r = &w->report;
    if (r->n_cell == WK_WALL_CELLS || !r->n_table) {
        r->text.failed = true;
        return NULL;
    }
    r->table[r->n_table - 1].n_cell++;
    wk_wall_cell *c = &r->cell[r->n_cell++];
    *c = (wk_wall_cell){.at = r->text.n};
    return c;
}

void wk_wall_say(wk_wall *w, const char *fmt, ...) {
    char text[1024];
    wk_wall_cell *c = add(w);
    va_list ap;
    if (!c) return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* no sentence is so long */
    va_end(ap);
    c->n = strlen(text);
    (void)wk_buf_add(&w->report.text, text, c->n); /* failure stays in text */
}

/* Four digits for people. */
static int shown(char out[32], double v) {
    const double a = fabs(v);
    if (a < 1e6 && fabs(v - rint(v)) <= 0) return snprintf(out, 32, "%.0f", v);
    if (a >= 1e6 || a < 1e-3) return snprintf(out, 32, "%.3g", v);
    return snprintf(out, 32, "%.*f", a >= 1000 ? 0 : a >= 100 ? 1 : a >= 10 ? 2 : 3, v);
}

void wk_wall_num(wk_wall *w, double v) {
    char text[32];
    wk_wall_cell *c = add(w);
    if (!c || !isfinite(v) || fabs(v) <= 0) return;
    c->number = true;
    c->v = v;
    c->n = (size_t)shown(text, v);
    (void)wk_buf_add(&w->report.text, text, c->n); /* failure stays in text */
}

const wk_wall_table *wk_wall_table_find(const wk_wall *w, const char *id) {
    for (int i = 0; i < w->report.n_table; i++)
        if (strcmp(w->report.table[i].id, id) == 0) return &w->report.table[i];
    return NULL;
}

static wk_str text_of(const wk_wall *w, const wk_wall_cell *c) {
    return c->n ? (wk_str){w->report.text.p + c->at, c->n} : (wk_str){"", 0};
}

static wk_str column(const wk_wall_table *t, int i) {
    const char *s = t->columns;
    while (i-- > 0) s += strcspn(s, "|") + 1;
    return (wk_str){s, strcspn(s, "|")};
}

static bool holds_numbers(const wk_wall *w, const wk_wall_table *t, int c) {
    for (int i = c; i < t->n_cell; i += t->n_col)
        if (w->report.cell[t->first + i].number) return true;
    return false;
}

/* ---- three forms --------------------------------------------------------------------------------- */

void wk_wall_table_html(const wk_wall *w, const wk_wall_table *t, wk_buf *out) {
    (void)wk_buf_addf(out, "<table id=\"t-%s\">\n<caption>%s</caption>\n<thead><tr>", t->id, t->title);
    for (int c = 0; c < t->n_col; c++) {
        (void)wk_buf_adds(out, holds_numbers(w, t, c) ? "<th class=\"r\">" : "<th>"); /* failure stays in out, as below */
        wk_svg_escape(out, column(t, c));
        (void)wk_buf_adds(out, "</th>");
    }
    (void)wk_buf_adds(out, "</tr></thead>\n<tbody>\n");
    for (int i = 0; i < t->n_cell; i++) {
        const wk_wall_cell *c = &w->report.cell[t->first + i];
        const bool first = i % t->n_col == 0, head = first && !c->number;
        if (first) (void)wk_buf_adds(out, "<tr>");
        if (c->number)
            (void)wk_buf_addf(out, "<td class=\"r\"><data value=\"%.6g\">", c->v);
        else
            (void)wk_buf_adds(out, head ? "<th>" : "<td>");
        wk_svg_escape(out, text_of(w, c));
        (void)wk_buf_adds(out, c->number ? "</data></td>" : head ? "</th>" : "</td>");
        if ((i + 1) % t->n_col == 0) (void)wk_buf_adds(out, "</tr>\n");
    }
    (void)wk_buf_adds(out, "</tbody>\n</table>\n");
}

void wk_wall_table_text(const wk_wall *w, const wk_wall_table *t, wk_buf *out) {
    wk_table md;
    char align[WK_WALL_COLUMNS + 1] = "";
    for (int c = 0; c < t->n_col && c < WK_WALL_COLUMNS; c++) {
        align[c] = holds_numbers(w, t, c) ? 'r' : 'l';
        align[c + 1] = 0;
    }
    (void)wk_buf_addf(out, "%s\n\n", t->title); /* failure stays in out, as below */
    wk_table_init(&md, align);
    for (int c = 0; c < t->n_col; c++) wk_table_cell(&md, "%.*s", (int)column(t, c).n, column(t, c).p);
    for (int i = 0; i < t->n_cell; i++) {
        const wk_str s = text_of(w, &w->report.cell[t->first + i]);
        wk_table_cell(&md, "%.*s", (int)s.n, s.p);
    }
    wk_table_put(&md, out);
    wk_table_fini(&md);
    (void)wk_buf_adds(out, "\n");
}

static void put_table(const wk_wall *w, const wk_wall_table *t, wk_buf *out) {
    (void)wk_buf_addf(out, "\"%s\":{\"title\":", t->id); /* failure stays in out, as below */
    wk_json_put_str(out, wk_cstr(t->title));
    (void)wk_buf_adds(out, ",\"columns\":[");
    for (int c = 0; c < t->n_col; c++) {
        if (c) (void)wk_buf_addc(out, ',');
        wk_json_put_str(out, column(t, c));
    }
    (void)wk_buf_adds(out, "],\"rows\":[");
    for (int i = 0; i < t->n_cell; i++) {
        const wk_wall_cell *c = &w->report.cell[t->first + i];
        (void)wk_buf_adds(out, i == 0 ? "[" : i % t->n_col ? "," : "],[");
        if (c->number)
            (void)wk_buf_addf(out, "%.6g", c->v);
        else
            wk_json_put_str(out, text_of(w, c));
    }
    (void)wk_buf_adds(out, t->n_cell ? "]]}" : "]}");
}

void wk_wall_json(wk_wall *w) {
    wk_emit *e = w->b.emit;
    wk_emit_begin(e, "done");
    wk_emit_str(e, "model", wk_cstr(w->base));
    wk_emit_bool(e, "quick", w->quick);
    wk_emit_bool(e, "complete", !w->b.stopped);
    wk_emit_int(e, "repeats", w->rounds);
    wk_emit_key(e, "tables");
    (void)wk_buf_addc(&e->line, '{'); /* failure stays in line, as below */
    for (int i = 0; i < w->report.n_table; i++) {
        if (i) (void)wk_buf_addc(&e->line, ',');
        put_table(w, &w->report.table[i], &e->line);
    }
    (void)wk_buf_addc(&e->line, '}');
    wk_emit_done(e);
}

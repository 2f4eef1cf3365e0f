/* svg.c: see svg.h. Axes, ticks and markers are reckoned here, by additions and halvings only, so that no libm can move
 * a digit.
 *
 *      TOP   title, legend
 *   LEFT +----------------------+
 *        |                      |  PLOT_H
 *        +----------------------+ RIGHT
 *     BOTTOM   ticks, label                                             */
#include "engine/app/svg.h"

#include <math.h>
#include <stdio.h>

#include "engine/base/attr.h"
#include "engine/base/utf8.h"

enum {
    WIDTH = 720,
    HEAD = 44,
    FOOT = 34,
    PLOT = 320,
    LEFT = 72,
    RIGHT = 24,
    TOP = 58,
    BOTTOM = 48,
    TICKS = WK_SVG_TICKS
};

typedef wk_svg_axis axis;

static const char style[] = "<style>svg{color:#1b1f24;background:#fff;font:13px "
                            "system-ui,sans-serif}text{fill:currentColor}"
                            ".g{stroke:currentColor;stroke-opacity:.15}.a{stroke:currentColor}.m{"
                            "stroke:currentColor;stroke-dasharray:5 4}"
                            ".t{font-weight:600}.n{font-size:11px;fill-opacity:.75}"
                            ".s0{color:#0072b2}.s1{color:#d55e00}.s2{color:#009e73}.s3{color:#"
                            "cc79a7}.s4{color:#e69f00}.s5{color:#56b4e9}.s6{color:#8c6bb1}"
                            ".s7{color:#7f7f7f}.l{fill:none;stroke:currentColor;stroke-width:2}.e{"
                            "stroke:currentColor}.k{fill:currentColor}"
                            ".o{fill:none;stroke:currentColor;stroke-width:2}"
                            "@media(prefers-color-scheme:dark){svg{color:#e6e6e6;background:#"
                            "15181c}.s0{color:#4ea7e0}.s1{color:#ff8c42}"
                            ".s2{color:#2fc99a}}</style>\n";

/* ---- text ---------------------------------------------------------------------------------------- */

/* Escaped; what XML cannot hold (control bytes, invalid UTF-8) becomes a question mark. */
void wk_svg_escape(wk_buf *b, wk_str s) {
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0;
        const int n = wk_utf8_decode(s.p + i, s.n - i, &cp);
        const char c = s.p[i];
        if (n == 0 || cp < 0x20 || cp == 0x7f || cp == 0xfffe || cp == 0xffff)
            (void)wk_buf_addc(b, '?');
        else if (c == '&')
            (void)wk_buf_adds(b, "&amp;");
        else if (c == '<')
            (void)wk_buf_adds(b, "&lt;");
        else if (c == '>')
            (void)wk_buf_adds(b, "&gt;");
        else if (c == '"')
            (void)wk_buf_adds(b, "&quot;");
        else
            (void)wk_buf_add(b, s.p + i, (size_t)n);
        i += n ? (size_t)n : 1;
    }
}

void wk_svg_label(wk_buf *b, double x, double y, const char *attributes, wk_str text) {
    (void)wk_buf_addf(b, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, attributes);
    wk_svg_escape(b, text);
    (void)wk_buf_adds(b, "</text>\n");
}

/* ---- axes ---------------------------------------------------------------------------------------- */

/* log2 of x > 0: halvings for the whole part, squarings for 30 bits behind the point. */
static double log_2(double x) {
    double whole = 0, part = 0, bit = 0.5;
    while (x >= 2) {
        x *= 0.5;
        whole += 1;
    }
    while (x < 1) {
        x *= 2;
        whole -= 1;
    }
    for (int i = 0; i < 30; i++, bit *= 0.5) {
        x *= x;
        if (x < 2) continue;
        x *= 0.5;
        part += bit;
    }
    return whole + part;
}

static bool shown(const axis *a, double v) { return isfinite(v) && (!a->log || v > 0); }

double wk_svg_place(const axis *a, double v) {
    const double at = a->log ? log_2(v) : v, span = a->high - a->low;
    return a->from + (span > 0 ? (at - a->low) / span : 0.5) * (a->to - a->from);
}

/* 1, 2 or 5 times a power of ten, so that at most 6 steps lie in span. */
static double nice_step(double span) {
    static const double of_ten[] = {1, 2, 5};
    double ten = 1;
    while (ten * 6 > span && ten > 1e-12) ten *= 0.1;
    for (;; ten *= 10)
        for (int i = 0; i < 3; i++)
            if (of_ten[i] * ten * 6 >= span) return of_ten[i] * ten;
}

void wk_svg_axis_linear(wk_svg_axis *a, bool from_zero) {
    if (from_zero && a->low > 0) a->low = 0;
    if (a->high <= a->low) a->high = a->low + 1;
    const double step = nice_step(a->high - a->low);
    double first = 0;
    while (first > a->low) first -= step;
    while (first + step <= a->low) first += step;
    a->low = first;
    for (double t = first; a->n < TICKS; t += step) {
        a->tick[a->n++] = t;
        if (t >= a->high) break;
    }
    a->high = a->tick[a->n - 1];
}

static double two_to(int n) {
    double v = 1;
    for (; n > 0; n--) v *= 2;
    for (; n < 0; n++) v *= 0.5;
    return v;
}

void wk_svg_axis_log(wk_svg_axis *a) {
    int low = (int)a->low, high = (int)a->high, step = 1;
    if (low > a->low) low--;
    if (high < a->high) high++;
    if (high == low) high++;
    while ((high - low) / step >= TICKS - 1) step++;
    a->low = low;
    a->high = high;
    for (int t = low; t <= high && a->n < TICKS; t += step) a->tick[a->n++] = two_to(t);
}

static void stretch(axis *a, double v, bool *any) {
    if (!shown(a, v)) return;
    const double at = a->log ? log_2(v) : v;
    if (!*any || at < a->low) a->low = at;
    if (!*any || at > a->high) a->high = at;
    *any = true;
}

static void set_axes(const wk_svg_plot *p, axis *x, axis *y) {
    bool any_x = false, any_y = false;
    for (int s = 0; s < p->n_series; s++)
        for (int i = 0; i < p->series[s].n; i++) {
            const wk_svg_series *r = &p->series[s];
            stretch(x, r->x[i], &any_x);
            stretch(y, r->y[i], &any_y);
            if (r->high[i] > 0) stretch(y, r->high[i], &any_y);
            if (r->high[i] > 0) stretch(y, r->low[i], &any_y);
        }
    if (p->mark > 0) stretch(y, p->mark, &any_y);
    if (x->log)
        wk_svg_axis_log(x);
    else
        wk_svg_axis_linear(x, false);
    if (y->log)
        wk_svg_axis_log(y);
    else
        wk_svg_axis_linear(y, !p->free_y);
}

/* 0.25, 1500, 20k, 3M */
static wk_str tick_text(char out[24], double v) {
    const double a = v < 0 ? -v : v;
    const char *unit = a >= 1e7 ? "M" : a >= 1e4 ? "k" : "";
    const int n = snprintf(out, 24, "%.6g%s", a >= 1e7 ? v * 1e-6 : a >= 1e4 ? v * 1e-3 : v, unit);
    return (wk_str){out, n > 0 ? (size_t)n : 0};
}

void wk_svg_line(wk_buf *b, const char *class, double x0, double y0, double x1, double y1) {
    (void)wk_buf_addf(b, "<path class=\"%s\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", class, x0, y0, x1,
                      y1);
}

static void put_axes(wk_buf *b, const wk_svg_plot *p, const axis *x, const axis *y) {
    char text[24];
    for (int i = 0; i < y->n; i++) {
        const double at = wk_svg_place(y, y->tick[i]);
        wk_svg_line(b, "g", x->from, at, x->to, at);
        wk_svg_label(b, x->from - 8, at + 4, " text-anchor=\"end\"", tick_text(text, y->tick[i]));
    }
    for (int i = 0; i < x->n; i++) {
        const double at = wk_svg_place(x, x->tick[i]);
        wk_svg_line(b, "a", at, y->from, at, y->from + 4);
        wk_svg_label(b, at, y->from + 19, " text-anchor=\"middle\"", tick_text(text, x->tick[i]));
    }
    wk_svg_line(b, "a", x->from, y->from, x->to, y->from);
    wk_svg_label(b, (x->from + x->to) / 2, y->from + 38, " text-anchor=\"middle\"",
              wk_cstr(p->x_label));
    wk_svg_label(b, LEFT - 60, y->to - 10, " class=\"n\"", wk_cstr(p->y_label));
    wk_svg_label(b, LEFT, y->to - 34, " class=\"t\"", wk_cstr(p->title));
    if (p->mark > 0) {
        wk_svg_line(b, "m", x->from, wk_svg_place(y, p->mark), x->to, wk_svg_place(y, p->mark));
        wk_svg_label(b, x->to - 4, wk_svg_place(y, p->mark) - 5, " class=\"n\" text-anchor=\"end\"",
                  wk_cstr(p->mark_text));
    }
}

/* ---- series -------------------------------------------------------------------------------------- */

void wk_svg_marker(wk_buf *b, int shape, double x, double y) {
    static const struct {
        const char *class, *path;
    } shapes[WK_SVG_SERIES] = {{"k", "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"},
                               {"k", "m-4 -4h8v8h-8z"},
                               {"k", "m0 -5l5 9h-10z"},
                               {"k", "m0 -5.5l5 5.5l-5 5.5l-5 -5.5z"},
                               {"k", "m0 5l5 -9h-10z"},
                               {"o", "m-5 0h10m-5 -5v10"},
                               {"o", "m-4 -4l8 8m-8 0l8 -8"},
                               {"o", "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"}};
    (void)wk_buf_addf(b, "<path class=\"%s\" d=\"M%.1f %.1f%s\"/>\n", shapes[shape].class, x, y,
                      shapes[shape].path);
}

static void put_series(wk_buf *b, const wk_svg_series *s, int index, const axis *x, const axis *y) {
    bool pen = false;
    (void)wk_buf_addf(b, "<g class=\"s%d\">\n<path class=\"l\" d=\"M%.1f %.1f", index, x->from,
                      y->from);
    for (int i = 0; i < s->n && i < WK_SVG_POINTS; i++) {
        if (!shown(x, s->x[i]) || !shown(y, s->y[i])) continue;
        (void)wk_buf_addf(b, "%c%.1f %.1f", pen ? 'L' : 'M', wk_svg_place(x, s->x[i]), wk_svg_place(y, s->y[i]));
        pen = true;
    }
    (void)wk_buf_adds(b, "\"/>\n");
    for (int i = 0; i < s->n && i < WK_SVG_POINTS; i++) {
        if (!shown(x, s->x[i]) || !shown(y, s->y[i])) continue;
        if (s->high[i] > s->low[i] && shown(y, s->low[i]))
            wk_svg_line(b, "e", wk_svg_place(x, s->x[i]), wk_svg_place(y, s->low[i]), wk_svg_place(x, s->x[i]),
                     wk_svg_place(y, s->high[i]));
        wk_svg_marker(b, index, wk_svg_place(x, s->x[i]), wk_svg_place(y, s->y[i]));
    }
    (void)wk_buf_adds(b, "</g>\n");
}

static void put_legend(wk_buf *b, const wk_svg_plot *p, double y) {
    double x = LEFT;
    for (int s = 0; s < p->n_series && p->n_series > 1; s++) {
        const wk_str name = p->series[s].name;
        (void)wk_buf_addf(b, "<g class=\"s%d\">\n", s);
        wk_svg_marker(b, s, x + 5, y - 4);
        (void)wk_buf_adds(b, "</g>\n");
        wk_svg_label(b, x + 15, y, "", name);
        x += 34 + 7.5 * (double)(wk_utf8_valid(name) ? wk_utf8_count(name) : name.n);
    }
}

void wk_svg_begin(wk_buf *b, int n_plot, wk_str title, wk_str description) {
    const int height = HEAD + n_plot * PLOT + FOOT;
    (void)wk_buf_addf(b,
                      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                      "viewBox=\"0 0 %d %d\" "
                      "role=\"img\">\n<title>",
                      WIDTH, height, WIDTH, height);
    wk_svg_escape(b, title);
    (void)wk_buf_adds(b, "</title>\n<desc>");
    wk_svg_escape(b, description);
    (void)wk_buf_adds(b, "</desc>\n");
    (void)wk_buf_adds(b, style);
    wk_svg_label(b, LEFT, 28, " class=\"t\" font-size=\"16\"", title);
}

void wk_svg_plot_put(wk_buf *b, int index, const wk_svg_plot *p) {
    const double top = HEAD + index * PLOT;
    axis x = {.log = p->log_x, .from = LEFT, .to = WIDTH - RIGHT};
    axis y = {.log = p->log_y, .from = top + PLOT - BOTTOM, .to = top + TOP};
    set_axes(p, &x, &y);
    put_axes(b, p, &x, &y);
    put_legend(b, p, top + TOP - 14);
    for (int s = 0; s < p->n_series && s < WK_SVG_SERIES; s++)
        put_series(b, &p->series[s], s, &x, &y);
}

void wk_svg_end(wk_buf *b, int n_plot, wk_str caption) {
    wk_svg_label(b, LEFT, HEAD + n_plot * PLOT + 18, " class=\"n\"", caption);
    (void)wk_buf_adds(b, "</svg>\n");
}

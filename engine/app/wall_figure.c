/* wall_figure.c: roofline, gaps, memory, threads, jitter, readers. Every number is taken from the table below the
 * picture. */
#include "engine/app/wall_figure.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/attr.h"

/* ---- pieces -------------------------------------------------------------------------------------- */

void wk_fig_begin(wk_buf *out, int height, const char *title, const char *alt) {
    (void)wk_buf_addf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\">\n<title>", WK_FIG_W, height);
    wk_svg_escape(out, wk_cstr(title)); /* failure stays in out, as below */
    (void)wk_buf_adds(out, "</title>\n<desc>");
    wk_svg_escape(out, wk_cstr(alt));
    (void)wk_buf_adds(out, "</desc>\n");
}

void wk_fig_end(wk_buf *out) { (void)wk_buf_adds(out, "</svg>\n"); }

wk_svg_axis wk_fig_decades(int low, int high, double from, double to) {
    wk_svg_axis a = {.log = true, .from = from, .to = to};
    const int step = (high - low) / (WK_SVG_TICKS - 1) + 1;
    if (high <= low) high = low + 1;
    for (int k = low; k <= high && a.n < WK_SVG_TICKS; k += step) a.tick[a.n++] = pow(10, k);
    a.low = low * log2(10);
    a.high = high * log2(10);
    return a;
}

void wk_fig_hold(double v, int *low, int *high) {
    if (!(v > 0) || !isfinite(v)) return;
    const double at = log10(v);
    if (floor(at) < *low) *low = (int)floor(at);
    if (ceil(at) > *high) *high = (int)ceil(at);
}

void wk_fig_text(wk_buf *out, double x, double y, const char *attributes, const char *fmt, ...) {
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* labels are short */
    va_end(ap);
    wk_svg_label(out, x, y, attributes, wk_cstr(text));
}

/* 0.1, 100, 10k, 1M, 1B, 1T; before: a word and a blank. */
static void tick(wk_buf *out, double x, double y, const char *attributes, const char *before, double v) {
    static const struct {
        double of;
        const char *unit;
    } units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e4, "k"}};
    for (size_t i = 0; i < WK_COUNT(units); i++)
        if (v >= 0.999 * units[i].of) {
            wk_fig_text(out, x, y, attributes, "%s%.3g%s", before, v / (units[i].of > 1e5 ? units[i].of : 1e3), units[i].unit);
            return;
        }
    wk_fig_text(out, x, y, attributes, "%s%.4g", before, v);
}

void wk_fig_axes(wk_buf *out, const wk_svg_axis *x, const wk_svg_axis *y, const char *x_label, const char *y_label) {
    for (int i = 0; i < y->n; i++) {
        const double at = wk_svg_place(y, y->tick[i]);
        wk_svg_line(out, "g", x->from, at, x->to, at);
        tick(out, x->from - 7, at + 4, " text-anchor=\"end\"", "", y->tick[i]);
    }
    for (int i = 0; i < x->n; i++) {
        const double at = wk_svg_place(x, x->tick[i]);
        wk_svg_line(out, "g", at, y->from, at, y->to);
        tick(out, at, y->from + 18, " text-anchor=\"middle\"", "", x->tick[i]);
    }
    wk_svg_line(out, "a", x->from, y->from, x->to, y->from);
    wk_fig_text(out, (x->from + x->to) / 2, y->from + 38, " text-anchor=\"middle\"", "%s", x_label);
    if (y->n) wk_fig_text(out, x->from - 60 > 4 ? x->from - 60 : 4, y->to - 14, " class=\"n\"", "%s", y_label);
}

void wk_fig_line_put(wk_buf *out, const wk_svg_axis *x, const wk_svg_axis *y, const wk_fig_line *line) {
    bool pen = false;
    (void)wk_buf_addf(out, "<g class=\"s%d\">\n<path class=\"l d%d\" d=\"", line->style, line->style);
    for (int i = 0; i < line->n; i++) {
        if ((x->log && line->x[i] <= 0) || (y->log && line->y[i] <= 0)) continue;
        (void)wk_buf_addf(out, "%c%.1f %.1f", pen ? 'L' : 'M', wk_svg_place(x, line->x[i]), wk_svg_place(y, line->y[i]));
        pen = true;
    }
    (void)wk_buf_adds(out, pen ? "\"/>\n" : "M0 0\"/>\n");
    for (int i = 0; i < line->n && !line->bare; i++)
        if ((!x->log || line->x[i] > 0) && (!y->log || line->y[i] > 0))
            wk_svg_marker(out, line->style, wk_svg_place(x, line->x[i]), wk_svg_place(y, line->y[i]));
    (void)wk_buf_adds(out, "</g>\n");
}

void wk_fig_legend(wk_buf *out, double x, double y, int style, const char *name) {
    (void)wk_buf_addf(out, "<g class=\"s%d\"><path class=\"l d%d\" d=\"M%.1f %.1fh30\"/></g>\n", style, style, x, y - 4);
    wk_fig_text(out, x + 36, y, "", "%s", name);
}

int wk_fig_rows(const wk_wall_table *t) { return t && t->n_col ? t->n_cell / t->n_col : 0; }

double wk_fig_cell(const wk_wall *w, const wk_wall_table *t, int row, int col) {
    const wk_wall_cell *c = &w->report.cell[t->first + row * t->n_col + col];
    return c->number ? c->v : 0;
}

wk_str wk_fig_name(const wk_wall *w, const wk_wall_table *t, int row) {
    const wk_wall_cell *c = &w->report.cell[t->first + row * t->n_col];
    return (wk_str){c->n ? w->report.text.p + c->at : "", c->n};
}

/* ---- 1 roofline ---------------------------------------------------------------------------------- */

static void roof(wk_buf *out, const wk_svg_axis *x, const wk_svg_axis *y, double bytes, double flops, int style, const char *name) {
    const double right = x->tick[x->n - 1], ridge = flops / bytes, floor_at = y->tick[0] * 1e9 / bytes;
    const double left = floor_at > x->tick[0] ? floor_at : x->tick[0]; /* the slope begins where the frame does */
    const double xs[3] = {left, ridge, right}, ys[3] = {left * bytes / 1e9, flops / 1e9, flops / 1e9};
    if (!(bytes > 0) || !(flops > 0) || ridge <= left || ridge >= right) return;
    const wk_fig_line line = {3, style, true, xs, ys};
    wk_fig_line_put(out, x, y, &line);
    wk_fig_text(out, x->to - 4, wk_svg_place(y, flops / 1e9) - 6, " class=\"n\" text-anchor=\"end\"", "%s", name);
}

static int shape_of(wk_str name) {
    if (wk_str_starts(name, WK_STR("decode"))) return 0;
    if (wk_str_starts(name, WK_STR("prefill"))) return 1;
    if (wk_str_starts(name, WK_STR("training"))) return name.n > 14 ? 4 : 2;
    return wk_str_starts(name, WK_STR("LoRA")) ? 3 : 6;
}

/* Names stand in the legend; at the ends of decode stands the number of readers. */
static void roof_point(const wk_wall *w, wk_buf *out, const wk_svg_axis *x, const wk_svg_axis *y, const wk_wall_table *t, int i) {
    const wk_str name = wk_fig_name(w, t, i);
    const double px = wk_svg_place(x, wk_fig_cell(w, t, i, 1)), py = wk_svg_place(y, wk_fig_cell(w, t, i, 2));
    const int shape = shape_of(name);
    (void)wk_buf_addf(out, "<g class=\"s%d\">\n", shape);
    wk_svg_marker(out, shape, px, py);
    (void)wk_buf_adds(out, "</g>\n");
    if (i == 0) wk_fig_text(out, px + 9, py + 5, " class=\"n h\"", "1 reader");
    if (wk_str_is(name, "decode, 32 readers")) wk_fig_text(out, px, py + 18, " class=\"n h\" text-anchor=\"middle\"", "32");
}

static void roof_legend(wk_buf *out) {
    static const struct {
        int shape, x;
        const char *name;
    } all[] = {{0, 150, "decode"}, {1, 222, "prefill 512"}, {2, 322, "training"}, {4, 402, "with recompute"}, {3, 536, "LoRA"}, {6, 594, "optimizer pass"}};
    for (size_t i = 0; i < WK_COUNT(all); i++) {
        (void)wk_buf_addf(out, "<g class=\"s%d\">\n", all[i].shape);
        wk_svg_marker(out, all[i].shape, all[i].x, 16);
        (void)wk_buf_adds(out, "</g>\n");
        wk_fig_text(out, all[i].x + 9, 20, "", "%s", all[i].name);
    }
}

bool wk_wall_roofline(const wk_wall *w, wk_buf *out) {
    const wk_wall_table *t = wk_wall_table_find(w, "roofline");
    const int n = wk_fig_rows(t), height = WK_FIG_H + 60;
    int xl = -1, xh = 4, yl = 9, yh = 0, last = -1;
    if (!n || wk_wall_read(w) <= 0) return false;
    for (int i = 0; i < n; i++) {
        wk_fig_hold(wk_fig_cell(w, t, i, 1), &xl, &xh);
        wk_fig_hold(wk_fig_cell(w, t, i, 2), &yl, &yh);
        if (wk_str_starts(wk_fig_name(w, t, i), WK_STR("decode, "))) last = i;
    }
    wk_fig_hold(wk_wall_gpus[0].flops / 1e9, &yl, &yh);
    const wk_svg_axis x = wk_fig_decades(xl, xh, WK_FIG_LEFT, WK_FIG_W - WK_FIG_RIGHT), y = wk_fig_decades(yl, yh, height - WK_FIG_BOTTOM, WK_FIG_TOP);
    wk_fig_begin(out, height, "Roofline", "Rate of each phase against its FLOP per byte, under the roofs of this CPU and of a GPU by its figures. "
                                          "Decode moves to the right as readers join; training stands at the right end.");
    wk_fig_axes(out, &x, &y, "FLOP a byte", "GFLOP/s");
    roof(out, &x, &y, wk_wall_read(w), wk_wall_i8(w), 5, "this CPU, int8");
    roof(out, &x, &y, wk_wall_read(w), wk_wall_f32(w), 7, "this CPU, f32");
    roof(out, &x, &y, wk_wall_gpus[0].bytes, wk_wall_gpus[0].flops, 6, "H200, from its figures");
    if (last > 0)
        (void)wk_buf_addf(out, "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n"
                               "<path class=\"arrow\" marker-end=\"url(#tip)\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n",
                          wk_svg_place(&x, wk_fig_cell(w, t, 0, 1)), wk_svg_place(&y, wk_fig_cell(w, t, 0, 2)) - 14,
                          wk_svg_place(&x, wk_fig_cell(w, t, last, 1)), wk_svg_place(&y, wk_fig_cell(w, t, last, 2)) - 14);
    for (int i = 0; i < n; i++) roof_point(w, out, &x, &y, t, i);
    roof_legend(out);
    wk_fig_end(out);
    return true;
}

/* ---- 2 two gaps ---------------------------------------------------------------------------------- */

bool wk_wall_two_gaps(const wk_wall *w, wk_buf *out) {
    const wk_wall_table *t = wk_wall_table_find(w, "two-gaps");
    const int n = wk_fig_rows(t), row = 64, height = WK_FIG_TOP + WK_FIG_BOTTOM + row * n;
    int low = 9, high = 0;
    for (int i = 0; i < n; i++)
        for (int c = 1; c <= 2; c++) wk_fig_hold(wk_fig_cell(w, t, i, c), &low, &high);
    if (!n || high <= low) return false;
    const wk_svg_axis x = wk_fig_decades(low, high, 180, WK_FIG_W - WK_FIG_RIGHT), y = {.from = height - WK_FIG_BOTTOM, .to = WK_FIG_TOP};
    wk_fig_begin(out, height, "Two gaps", "Tokens a second of this CPU and of a GPU by its figures, for decode and for training, with the ratio between them.");
    wk_fig_axes(out, &x, &y, "tok/s", "");
    for (int i = 0; i < n; i++) {
        const double at = WK_FIG_TOP + row * (i + 0.5), a = wk_fig_cell(w, t, i, 1), b = wk_fig_cell(w, t, i, 2);
        if (!(a > 0) || !(b > 0)) continue;
        const double xa = wk_svg_place(&x, a), xb = wk_svg_place(&x, b);
        wk_svg_label(out, 172, at + 4, " text-anchor=\"end\"", wk_fig_name(w, t, i));
        wk_svg_line(out, "m", xa, at, xb, at);
        (void)wk_buf_adds(out, "<g class=\"s0\">\n");
        wk_svg_marker(out, 0, xa, at);
        (void)wk_buf_adds(out, "</g>\n<g class=\"s1\">\n");
        wk_svg_marker(out, 1, xb, at);
        (void)wk_buf_adds(out, "</g>\n");
        tick(out, xa, at + 20, " class=\"n\" text-anchor=\"middle\"", "CPU ", a);
        tick(out, xb, at + 20, " class=\"n\" text-anchor=\"middle\"", "GPU ", b);
        wk_fig_text(out, (xa + xb) / 2, at - 8, " class=\"t\" text-anchor=\"middle\"", "%.0f x", b / a);
    }
    wk_fig_end(out);
    return true;
}

/* ---- 4 memory ------------------------------------------------------------------------------------ */

static void hatches(wk_buf *out) {
    static const char *const path[5] = {"", "M0 4h8", "M4 0v8", "M0 8L8 0", "M0 0L8 8M0 8L8 0"};
    (void)wk_buf_adds(out, "<defs>\n");
    for (int i = 0; i < 5; i++)
        (void)wk_buf_addf(out, "<pattern id=\"h%d\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" class=\"s%d\"><path class=\"f\" d=\"M0 0h8v8h-8z\"/>"
                               "<path class=\"w\" d=\"M0 0%s\"/></pattern>\n", i, i, path[i]);
    (void)wk_buf_adds(out, "</defs>\n");
}

bool wk_wall_memory(const wk_wall *w, wk_buf *out) {
    static const char *const parts[5] = {"weights", "gradients", "moments", "activations or KV", "rest"};
    static const int part_x[5] = {14, 104, 200, 296, 446};
    const wk_wall_table *t = wk_wall_table_find(w, "memory");
    const int n = wk_fig_rows(t), row = 46, height = WK_FIG_TOP + WK_FIG_BOTTOM + row * n + 10;
    const double ram = (double)w->available / 1e9;
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, fmax(wk_fig_cell(w, t, i, 6), wk_fig_cell(w, t, i, 7)) / 1e3);
    if (!n) return false;
    wk_svg_axis x = {.high = most, .from = 200, .to = WK_FIG_W - 30}, y = {.from = height - WK_FIG_BOTTOM, .to = WK_FIG_TOP};
    const bool near = ram < 3 * most;
    if (near && ram > most) x.high = ram * 1.02;
    wk_svg_axis_linear(&x, true);
    wk_fig_begin(out, height, "Memory of each job", "Stacked bars of the planned memory of serving and training, a diamond for the measured peak, and the memory available.");
    hatches(out);
    wk_fig_axes(out, &x, &y, "GB", "");
    for (int i = 0; i < n; i++) {
        double at = 0;
        const double top = WK_FIG_TOP + row * i + 14;
        wk_svg_label(out, 192, top + 15, " text-anchor=\"end\"", wk_fig_name(w, t, i));
        for (int c = 0; c < 5; c++) {
            const double v = wk_fig_cell(w, t, i, 1 + c) / 1e3;
            const double from = wk_svg_place(&x, at), to = wk_svg_place(&x, at + v);
            at += v;
            if (to - from >= 0.2) (void)wk_buf_addf(out, "<path class=\"b\" fill=\"url(#h%d)\" d=\"M%.1f %.1fH%.1fv22H%.1fz\"/>\n", c, from, top, to, from);
        }
        const double rss = wk_fig_cell(w, t, i, 7) / 1e3;
        if (rss > 0) (void)wk_buf_adds(out, "<g class=\"peak\">\n");
        if (rss > 0) wk_svg_marker(out, 3, wk_svg_place(&x, rss), top + 11);
        if (rss > 0) (void)wk_buf_adds(out, "</g>\n");
    }
    for (int c = 0; c < 5; c++) {
        (void)wk_buf_addf(out, "<path class=\"b\" fill=\"url(#h%d)\" d=\"M%d 8h20v14h-20z\"/>\n", c, part_x[c]);
        wk_fig_text(out, part_x[c] + 25, 20, "", "%s", parts[c]);
    }
    (void)wk_buf_adds(out, "<g class=\"peak\">\n");
    wk_svg_marker(out, 3, 520, 15);
    (void)wk_buf_adds(out, "</g>\n");
    wk_fig_text(out, 530, 20, "", "measured peak");
    if (near) {
        wk_svg_line(out, "m", wk_svg_place(&x, ram), y.from, wk_svg_place(&x, ram), y.to);
        wk_fig_text(out, wk_svg_place(&x, ram) - 5, y.to + 8, " class=\"n\" text-anchor=\"end\"", "%.1f GB available", ram);
    } else {
        wk_fig_text(out, x.to, y.to + 8, " class=\"n h\" text-anchor=\"end\"", "%.1f GB available: beyond the right edge", ram);
    }
    wk_fig_end(out);
    return true;
}

/* ---- 5 threads ----------------------------------------------------------------------------------- */

bool wk_wall_threads(const wk_wall *w, wk_buf *out) {
    static const char *const names[] = {"decode", "training", "as many times as threads"};
    const wk_wall_table *t = wk_wall_table_find(w, "threads");
    const int n = wk_fig_rows(t);
    if (n < 2 || wk_fig_cell(w, t, 0, 1) <= 0) return false;
    double xs[WK_WALL_SWEEP], ys[WK_WALL_SWEEP];
    const double most = wk_fig_cell(w, t, n - 1, 0);
    wk_svg_axis x = {.low = 1, .high = most, .from = WK_FIG_LEFT, .to = WK_FIG_W - WK_FIG_RIGHT},
                y = {.high = most, .from = WK_FIG_H - WK_FIG_BOTTOM, .to = WK_FIG_TOP + 20};
    for (int i = 0; i < n && i < WK_SVG_TICKS; i++) x.tick[x.n++] = wk_fig_cell(w, t, i, 0);
    wk_svg_axis_linear(&y, true);
    wk_fig_begin(out, WK_FIG_H, "Threads", "Speed of decode and of training as a multiple of one thread's, by the number of threads.");
    wk_fig_axes(out, &x, &y, "threads", "times the speed of one thread");
    for (int s = 0; s < 3; s++) {
        const double one = s == 2 ? 1 : wk_fig_cell(w, t, 0, 1 + s);
        int k = 0;
        for (int i = 0; i < n && one > 0; i++) {
            const double v = wk_fig_cell(w, t, i, s == 2 ? 0 : 1 + s);
            if (!(v > 0)) continue;
            xs[k] = wk_fig_cell(w, t, i, 0);
            ys[k++] = v / one;
        }
        const wk_fig_line line = {k, s == 2 ? 7 : s, s == 2, xs, ys};
        if (k) wk_fig_line_put(out, &x, &y, &line);
        if (k) wk_fig_legend(out, WK_FIG_LEFT + 160 * s + 60, 22, line.style, names[s]);
    }
    wk_fig_end(out);
    return true;
}

/* ---- 6 jitter ------------------------------------------------------------------------------------ */

bool wk_wall_jitter(const wk_wall *w, wk_buf *out) {
    static const char *const names[] = {"alone", "with pauses of 100 ms", "beside a trainer"};
    const wk_wall_gaps *all[] = {&w->alone, &w->stalled, &w->beside};
    double ys[WK_WALL_GAPS], xs[WK_WALL_GAPS];
    const double reading = 200; /* ms a token at 5 tokens a second */
    int low = 9, high = 0;
    if (!w->alone.n) return false;
    for (int k = 0; k < 3; k++) {
        if (!all[k]->n) continue;
        wk_fig_hold(1e3 * all[k]->s[0], &low, &high);
        wk_fig_hold(1e3 * all[k]->s[all[k]->n - 1], &low, &high);
    }
    wk_fig_hold(reading, &low, &high);
    const wk_svg_axis x = wk_fig_decades(low, high, WK_FIG_LEFT, WK_FIG_W - WK_FIG_RIGHT);
    wk_svg_axis y = {.high = 100, .from = WK_FIG_H - WK_FIG_BOTTOM, .to = WK_FIG_TOP + 20};
    wk_svg_axis_linear(&y, true);
    wk_fig_begin(out, WK_FIG_H, "Between two tokens", "Share of the gaps between tokens that are shorter than a time, alone, with pauses and beside a trainer; a line at reading speed.");
    wk_fig_axes(out, &x, &y, "ms between two tokens", "% of the gaps are shorter");
    for (int k = 0, at = 0; k < 3; k++) {
        if (!all[k]->n) continue;
        for (int i = 0; i < all[k]->n; i++) {
            xs[i] = 1e3 * all[k]->s[i];
            ys[i] = 100.0 * (i + 1) / all[k]->n;
        }
        const wk_fig_line line = {all[k]->n, k, true, xs, ys};
        wk_fig_line_put(out, &x, &y, &line);
        wk_fig_legend(out, WK_FIG_LEFT + 60 + (at == 0 ? 0 : at == 1 ? 110 : 330), 22, k, names[k]);
        at++;
    }
    const double px = wk_svg_place(&x, reading);
    wk_svg_line(out, "m", px, y.from, px, y.to);
    wk_fig_text(out, px + 4, y.from - 10, " class=\"n\"", "reading speed");
    wk_fig_end(out);
    return true;
}

/* ---- 7 readers ----------------------------------------------------------------------------------- */

static void panel(const wk_wall *w, wk_buf *out, const wk_wall_table *t, double from, double to, int first, int n_col, const char *label) {
    double xs[WK_WALL_BATCHES], ys[WK_WALL_BATCHES];
    const int n = wk_fig_rows(t);
    int low = 9, high = -3;
    wk_svg_axis x = {.log = true, .low = 0, .high = log2(wk_fig_cell(w, t, n - 1, 0)), .from = from, .to = to};
    wk_svg_axis_log(&x);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < n_col; c++) wk_fig_hold(wk_fig_cell(w, t, i, first + c), &low, &high);
    const wk_svg_axis y = wk_fig_decades(low, high, WK_FIG_H - WK_FIG_BOTTOM, WK_FIG_TOP + 20);
    wk_fig_axes(out, &x, &y, "readers", label);
    for (int c = 0; c < n_col; c++) {
        for (int i = 0; i < n; i++) {
            xs[i] = wk_fig_cell(w, t, i, 0);
            ys[i] = wk_fig_cell(w, t, i, first + c);
        }
        const wk_fig_line line = {n, first - 1 + c, false, xs, ys};
        wk_fig_line_put(out, &x, &y, &line);
    }
}

bool wk_wall_users(const wk_wall *w, wk_buf *out) {
    const wk_wall_table *t = wk_wall_table_find(w, "users");
    if (wk_fig_rows(t) < 2) return false;
    wk_fig_begin(out, WK_FIG_H, "Readers together", "Left: tokens a second of all readers together and of each, by the number of readers. Right: the 95th percentile of a step.");
    panel(w, out, t, WK_FIG_LEFT, 430, 1, 2, "tok/s");
    panel(w, out, t, 520, WK_FIG_W - WK_FIG_RIGHT, 3, 1, "p95 of a step, ms");
    wk_fig_legend(out, WK_FIG_LEFT + 60, 22, 0, "together");
    wk_fig_legend(out, WK_FIG_LEFT + 190, 22, 1, "each");
    wk_fig_end(out);
    return true;
}

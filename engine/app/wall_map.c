/* wall_map.c: figure 3, parameters x tokens: lines of equal time by the measured rate, places that are known, and the
 * sizes that do not fit. A job below and left of a line ends within its time. */
#include <math.h>
#include <stdio.h>

#include "engine/app/wall_figure.h"
#include "engine/base/attr.h"

enum { N_LOW = 5, N_HIGH = 11, T_LOW = 5, T_HIGH = 13 };

static const struct {
    const char *name;
    double s;
} spans[] = {{"an hour", 3600}, {"a night", 43200}, {"a week", 604800}, {"a year", 31557600}};

static const struct {
    const char *name;
    double n, tokens;
    bool lora, left; /* left: its name stands on the left side */
} places[] = {{"260K", 260e3, 5.2e6, false, false},        {"15M", 15.2e6, 304e6, false, false},
              {"110M", 110e6, 2.2e9, false, false},        {"GPT-2 124M, 10 B tokens", 124e6, 10e9, false, true},
              {"1B at 20 tokens each", 1e9, 20e9, false, false}, {"7B, 2 T tokens", 6.74e9, 2e12, false, true},
              {"LoRA 135M", 135e6, 3e6, true, true},       {"LoRA 1B", 1e9, 3e6, true, false}};

/* tokens = rate x time / (k N), cut at the frame. */
static void iso(wk_buf *out, const wk_svg_axis *x, const wk_svg_axis *y, double rate, double k, int i, int style) {
    const double product = rate * spans[i].s / k, left = x->tick[0], right = pow(10, N_HIGH), top = pow(10, T_HIGH), bottom = pow(10, T_LOW);
    double n0 = left, n1 = right;
    if (product / n0 > top) n0 = product / top;
    if (product / n1 < bottom) n1 = product / bottom;
    if (!(n0 < n1)) return;
    const double xs[2] = {n0, n1}, ys[2] = {product / n0, product / n1};
    const wk_fig_line line = {2, style, true, xs, ys};
    wk_fig_line_put(out, x, y, &line);
    /* The names stand on a diagonal of their own, so that they do not lie over each other. */
    const double at = n0 * pow(n1 / n0, style == 0 ? 0.10 : 0.80);
    if (style == 0)
        wk_fig_text(out, fmax(wk_svg_place(x, at) - 5, x->from + 52), wk_svg_place(y, product / at) + 14, " class=\"n h\" text-anchor=\"end\"", "%s", spans[i].name);
    else
        wk_fig_text(out, wk_svg_place(x, at) + 5, wk_svg_place(y, product / at) - 5, " class=\"n h\"", "%s, LoRA", spans[i].name);
}

static void too_large(wk_buf *out, const wk_svg_axis *x, const wk_svg_axis *y, double n, int hatch, int line, const char *name) {
    const double right = pow(10, N_HIGH);
    if (!(n > 0) || n >= right) return;
    const double from = wk_svg_place(x, n > x->tick[0] ? n : x->tick[0]);
    (void)wk_buf_addf(out, "<path fill=\"url(#z%d)\" d=\"M%.1f %.1fH%.1fV%.1fH%.1fz\"/>\n", hatch, from, y->from, x->to, y->to, from);
    wk_svg_line(out, "m", from, y->from, from, y->to);
    const bool near = from + 150 > x->to; /* too little room on the right side */
    wk_fig_text(out, near ? x->to - 4 : from + 4, y->to + 14 + 15 * line, near ? " class=\"n h\" text-anchor=\"end\"" : " class=\"n h\"", "%s", name);
}

static void zones(const wk_wall *w, wk_buf *out, const wk_svg_axis *x, const wk_svg_axis *y) {
    static const char *const path[3] = {"M0 10L10 0", "M0 0L10 10", "M0 5h10"};
    (void)wk_buf_adds(out, "<defs>\n");
    for (int i = 0; i < 3; i++)
        (void)wk_buf_addf(out, "<pattern id=\"z%d\" width=\"10\" height=\"10\" patternUnits=\"userSpaceOnUse\"><path class=\"z\" d=\"%s\"/></pattern>\n", i, path[i]);
    (void)wk_buf_adds(out, "</defs>\n");
    const double room = (double)w->available;
    too_large(out, x, y, room / 16, 0, 0, "full does not fit");
    too_large(out, x, y, room / 2.2, 1, 1, "LoRA on F16 does not fit");
    too_large(out, x, y, room / 0.7, 2, 2, "QLoRA does not fit");
}

bool wk_wall_map(const wk_wall *w, wk_buf *out) {
    const double full = wk_wall_train_rate(w, WK_JOB_FULL), lora = wk_wall_train_rate(w, WK_JOB_LORA);
    const int height = WK_FIG_H + 120;
    const wk_svg_axis x = wk_fig_decades(N_LOW, N_HIGH, WK_FIG_LEFT, WK_FIG_W - WK_FIG_RIGHT),
                      y = wk_fig_decades(T_LOW, T_HIGH, height - WK_FIG_BOTTOM, WK_FIG_TOP + 20);
    if (full <= 0 && lora <= 0) return false;
    wk_fig_begin(out, height, "Frontier map", "Parameters against tokens: lines of equal time for full training and for LoRA by the measured rates, known models as landmarks, "
                                              "and hatched sizes that do not fit in memory.");
    zones(w, out, &x, &y);
    wk_fig_axes(out, &x, &y, "parameters", "tokens trained on");
    for (size_t i = 0; i < WK_COUNT(spans); i++) {
        if (full > 0) iso(out, &x, &y, full, 6, (int)i, 0);
        if (lora > 0 && (i == 1 || i == 3)) iso(out, &x, &y, lora, 4, (int)i, 1);
    }
    for (size_t i = 0; i < WK_COUNT(places); i++) {
        const double px = wk_svg_place(&x, places[i].n), py = wk_svg_place(&y, places[i].tokens);
        (void)wk_buf_addf(out, "<g class=\"%s\">\n", places[i].lora ? "s3" : "k0");
        wk_svg_marker(out, places[i].lora ? 3 : 1, px, py);
        (void)wk_buf_adds(out, "</g>\n");
        wk_svg_label(out, places[i].left ? px - 9 : px + 9, py + 4, places[i].left ? " class=\"h\" text-anchor=\"end\"" : " class=\"h\"", wk_cstr(places[i].name));
    }
    wk_fig_legend(out, WK_FIG_LEFT + 130, 22, 0, "full training, 6N FLOP a token");
    if (lora > 0) wk_fig_legend(out, WK_FIG_LEFT + 390, 22, 1, "LoRA, 4N FLOP a token");
    wk_fig_end(out);
    return true;
}

/* The table of the figure: how long each place takes here. */
void wk_wall_map_table(wk_wall *w) {
    const double full = wk_wall_train_rate(w, WK_JOB_FULL), lora = wk_wall_train_rate(w, WK_JOB_LORA), room = (double)w->available;
    wk_wall_table_begin(w, "map", "Figure 3: frontier map", "place|parameters|tokens|time here|how far|fits in memory");
    for (size_t i = 0; i < WK_COUNT(places); i++) {
        const double rate = places[i].lora ? lora : full, flops = (places[i].lora ? 4 : 6) * places[i].n * places[i].tokens,
                     done = w->job[places[i].lora ? WK_JOB_LORA : WK_JOB_FULL].flops;
        wk_wall_say(w, "%s", places[i].name);
        wk_wall_num(w, places[i].n);
        wk_wall_num(w, places[i].tokens);
        wk_wall_say(w, "%s", rate > 0 ? wk_wall_duration(flops / rate).text : "not measured");
        wk_wall_say(w, "%s", rate > 0 ? *wk_wall_far(flops, done) ? "order of magnitude" : "within 1000 x of what was measured" : "");
        wk_wall_say(w, "%s", places[i].n * (places[i].lora ? 2.2 : 16) < room ? "yes" : "no");
    }
    for (size_t i = 0; i < WK_COUNT(spans); i++) {
        wk_wall_say(w, "%s, 20 tokens per parameter", spans[i].name);
        const double n = sqrt(full * spans[i].s / 120);
        wk_wall_num(w, n);
        wk_wall_num(w, 20 * n);
        wk_wall_say(w, "%s", full > 0 ? spans[i].name : "not measured");
        wk_wall_say(w, "%s", full > 0 && *wk_wall_far(full * spans[i].s, w->job[WK_JOB_FULL].flops) ? "order of magnitude" : "");
        wk_wall_say(w, "%s", n * 16 < room ? "yes" : "no");
    }
}

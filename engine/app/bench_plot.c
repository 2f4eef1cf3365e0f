/* bench_plot.c: the standard plots of a result: speed against chunk size, depth and clients; programs in turn. */
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/app/svg.h"
#include "engine/base/attr.h"

typedef struct chart {
    const char *prefix, *title, *x_label;
    bool log_x;
} chart;

static const chart charts[] = {
    {"prefill ", "Prompt speed by length", "tokens of the prompt", true},
    {"decode", "Decoding behind a context", "tokens before", false},
    {"batch ", "Decoding for several at once, all together", "sequences", true},
    {"split ", "Decoding with layers on a device", "layers on the device", false}};
static const double reading_speed = 5; /* tokens a second that a person reads */

/* The number that a row's name ends with: "prefill 512", "decode @8192", "decode". */
static double place_of(const char *name) {
    double v = 0;
    for (; *name; name++) v = *name >= '0' && *name <= '9' ? 10 * v + (*name - '0') : 0;
    return v;
}

/* What one series is: a program, or a device. */
static const char *series_name(const wk_bench *b, const wk_bench_row *r) {
    return r->who[0] ? r->who : b->n_target ? r->device : "";
}

static bool is_split(const wk_bench_row *r) { return strncmp(r->name, "split ", 6) == 0; }

static bool belongs(const wk_bench *b, const wk_bench_row *r, const chart *c, const char *who) {
    if (r->n == 0 || (r->kind != WK_BENCH_ENGINE && r->kind != WK_BENCH_AGAINST)) return false;
    return strncmp(r->name, c->prefix, strlen(c->prefix)) == 0 && strcmp(series_name(b, r), who) == 0 &&
           (!is_split(r) || r->n_tok == 1);
}

static void add_points(const wk_bench *b, const chart *c, const char *who, wk_svg_series *s) {
    for (int i = 0; i < b->n_row && s->n < WK_SVG_POINTS; i++) {
        if (!belongs(b, &b->row[i], c, who)) continue;
        const wk_stat t = wk_stat_of(b->row[i].value, b->row[i].n);
        s->x[s->n] = is_split(&b->row[i]) ? b->row[i].gpu_layers : place_of(b->row[i].name);
        s->y[s->n] = t.median;
        s->low[s->n] = t.p10;
        s->high[s->n++] = t.p90;
    }
}

/* One series without peers, else one a program. */
static int series_of(const wk_bench *b, const chart *c, wk_svg_series *s) {
    int n = 0;
    for (int i = 0; i < b->n_row && n < WK_SVG_SERIES; i++) {
        const char *who = series_name(b, &b->row[i]);
        bool known = !belongs(b, &b->row[i], c, who);
        for (int k = 0; k < n; k++) known |= wk_str_is(s[k].name, who);
        if (known) continue;
        s[n] = (wk_svg_series){.name = wk_cstr(who)};
        add_points(b, c, who, &s[n++]);
    }
    return n;
}

void wk_plot_put(const wk_bench *b, wk_buf *out) {
    const wk_bench_machine *m = &b->machine;
    wk_svg_series s[WK_SVG_SERIES];
    char text[512];
    int n_plot = 0, at = 0;
    for (size_t i = 0; i < WK_COUNT(charts); i++) n_plot += series_of(b, &charts[i], s) > 0;
    int n = snprintf(text, sizeof(text), "%s %s", m->name[0] ? m->name : "wick bench", m->format);
    const wk_str title = {text, (size_t)n};
    char about[512];
    n = snprintf(about, sizeof(about),
                 "%s; %s; threads %s; governor %s; %s; %s; %s, %llu bytes, xxh3 %s", m->cpu,
                 m->level, m->threads, m->governor, m->kernel, m->build, m->model,
                 (unsigned long long)m->model_bytes, m->hash);
    wk_svg_begin(out, n_plot, title,
                 (wk_str){about, n < (int)sizeof(about) ? (size_t)n : sizeof(about) - 1});
    for (size_t i = 0; i < WK_COUNT(charts); i++) {
        const int n_series = series_of(b, &charts[i], s);
        if (!n_series) continue;
        const wk_svg_plot p = {.title = charts[i].title,
                               .x_label = charts[i].x_label,
                               .y_label = "tok/s",
                               .log_x = charts[i].log_x,
                               .n_series = n_series,
                               .series = s,
                               .mark = i == 1 ? reading_speed : 0,
                               .mark_text = "reading speed"};
        wk_svg_plot_put(out, at++, &p);
    }
    n = snprintf(text, sizeof(text), "%s, %s, %d threads, %s; bars: p10 to p90", m->cpu, m->level,
                 m->n_thread, m->build);
    wk_svg_end(out, n_plot, (wk_str){text, (size_t)n});
}

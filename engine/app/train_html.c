/* train_html.c: report.html: curves, numbers, samples and options of a run, one file without scripts or foreign parts,
 * made anew from log.jsonl whenever a checkpoint is written. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/svg.h"
#include "engine/app/train_impl.h"
#include "engine/base/arena.h"
#include "engine/base/dir.h"
#include "engine/base/err.h"
#include "engine/base/json.h"
#include "engine/base/os.h"

enum { POINTS = 60, TABLE = 24, SAMPLES_SHOWN = 40 };

typedef struct rows {
    wk_run_row *row;
    size_t n, room;
} rows;

static const struct {
    const char *name;
    size_t at;
} fields[] = {
#define F(name)                                                                                                        \
    { #name, offsetof(wk_run_row, name) }
    F(tokens), F(loss),  F(counted), F(val),   F(bpb),   F(lr),     F(gnorm),  F(z),   F(tok_s),
    F(flops),  F(share), F(t_fwd),   F(t_bwd), F(t_upd), F(t_comm), F(t_data), F(rss), F(j_cpu),
#undef F
};

static double field(const wk_run_row *r, size_t at) {
    double v;
    memcpy(&v, (const char *)r + at, sizeof(v));
    return v;
}

/* ---- log.jsonl ----------------------------------------------------------------------------------- */

static bool add_row(rows *x, wk_str line) {
    wk_json_doc *doc = NULL;
    if (x->n == x->room) {
        const size_t room = x->room ? 2 * x->room : 1024;
        wk_run_row *more = wk_realloc_array(x->row, room, sizeof(*more));
        if (!more) return false;
        x->row = more;
        x->room = room;
    }
    if (wk_json_parse(&doc, line, 2, 64, NULL)) return true; /* cut by a crash: left out */
    wk_run_row *r = &x->row[x->n++];
    r->step = wk_json_int(wk_json_get(wk_json_root(doc), "step"));
    for (size_t i = 0; i < WK_COUNT(fields); i++) {
        const wk_json *v = wk_json_get(wk_json_root(doc), fields[i].name);
        const double d =
            wk_json_type(v) == WK_JSON_INT || wk_json_type(v) == WK_JSON_REAL ? wk_json_real(v) : (double)NAN;
        memcpy((char *)r + fields[i].at, &d, sizeof(d));
    }
    wk_json_free(doc);
    return true;
}

static wick_status read_rows(const wk_train *t, rows *x, wick_error *err) {
    char path[WK_RUN_PATH];
    wk_map_file map = {0};
    WK_TRY(wk_train_path(t, path, "log.jsonl", err));
    WK_TRY(wk_os_map(&map, path, err));
    bool ok = true;
    for (size_t at = 0; at < map.n && ok;) {
        const char *p = (const char *)map.p + at, *end = memchr(p, '\n', map.n - at);
        const size_t n = end ? (size_t)(end - p) : map.n - at;
        ok = add_row(x, (wk_str){p, n});
        at += n + 1;
    }
    wk_os_unmap(&map);
    return ok ? WICK_OK : wk_fail(err, WICK_E_NOMEM, "no memory for %zu rows of the log", x->n);
}

/* ---- curves -------------------------------------------------------------------------------------- */

static int bin_of(const rows *x, int64_t step) {
    const double last = (double)x->row[x->n - 1].step;
    return step < 1 ? 0 : (int)((double)(step - 1) * POINTS / fmax(last, 1));
}

/* At most POINTS points: the mean of a field over stretches of steps of the same length. */
static void put_series(wk_svg_series *s, const rows *x, const char *name, size_t at, double factor) {
    double sum[POINTS] = {0}, steps[POINTS] = {0}, n[POINTS] = {0};
    *s = (wk_svg_series){.name = wk_cstr(name)};
    for (size_t i = 0; i < x->n; i++) {
        const double v = field(&x->row[i], at);
        const int bin = bin_of(x, x->row[i].step);
        if (!isfinite(v) || bin >= POINTS) continue;
        sum[bin] += v;
        steps[bin] += (double)x->row[i].step;
        n[bin]++;
    }
    for (int bin = 0; bin < POINTS; bin++) {
        if (n[bin] == 0) continue;
        s->x[s->n] = steps[bin] / n[bin];
        s->y[s->n++] = factor * sum[bin] / n[bin];
    }
}

/* A sum of fields over the sum of others, by stretch. */
static void put_phase(wk_svg_series *s, const rows *x, const char *name, size_t at) {
    double part[POINTS] = {0}, all[POINTS] = {0}, steps[POINTS] = {0}, n[POINTS] = {0};
    *s = (wk_svg_series){.name = wk_cstr(name)};
    for (size_t i = 0; i < x->n; i++) {
        const wk_run_row *r = &x->row[i];
        const int bin = bin_of(x, r->step);
        if (!isfinite(r->tok_s) || bin >= POINTS) continue;
        part[bin] += field(r, at);
        all[bin] += r->t_fwd + r->t_bwd + r->t_upd + r->t_comm + r->t_data;
        steps[bin] += (double)r->step;
        n[bin]++;
    }
    for (int bin = 0; bin < POINTS; bin++) {
        if (!(all[bin] > 0)) continue;
        s->x[s->n] = steps[bin] / n[bin];
        s->y[s->n++] = 100 * part[bin] / all[bin];
    }
}

static void put_plot(wk_buf *b, int *n, const wk_svg_plot *p) {
    wk_svg_plot_put(b, *n, p);
    ++*n;
}

#define AT(name) offsetof(wk_run_row, name)
static void put_curves(wk_buf *b, const wk_train *t, const rows *x) {
    enum { N = 5 };
    wk_svg_series *s = wk_new_n(wk_svg_series, 5);
    int n = 0;
    if (!s) {
        b->failed = true;
        return;
    }
    wk_svg_begin(b, N, wk_cstr(t->run.title),
                 WK_STR("loss, learning rate and gradient norm, speed, phases, memory by step"));
    put_series(&s[0], x, "training", AT(loss), 1);
    put_series(&s[1], x, "held out", AT(val), 1);
    put_plot(b, &n,
             &(wk_svg_plot){.title = "Loss of a token",
                            .x_label = "step",
                            .y_label = "nats",
                            .free_y = true,
                            .n_series = s[1].n ? 2 : 1,
                            .series = s});
    put_series(&s[0], x, "learning rate x 1000", AT(lr), 1000);
    put_series(&s[1], x, "gradient norm", AT(gnorm), 1);
    put_plot(
        b, &n,
        &(wk_svg_plot){
            .title = "Learning rate and gradient norm", .x_label = "step", .y_label = "", .n_series = 2, .series = s});
    put_series(&s[0], x, "tokens a second", AT(tok_s), 1);
    put_plot(b, &n,
             &(wk_svg_plot){.title = "Speed", .x_label = "step", .y_label = "tok/s", .n_series = 1, .series = s});
    put_phase(&s[0], x, "forward", AT(t_fwd));
    put_phase(&s[1], x, "backward", AT(t_bwd));
    put_phase(&s[2], x, "update", AT(t_upd));
    put_phase(&s[3], x, "ranks", AT(t_comm));
    put_phase(&s[4], x, "data", AT(t_data));
    put_plot(
        b, &n,
        &(wk_svg_plot){
            .title = "Where the time of a step goes", .x_label = "step", .y_label = "%", .n_series = 5, .series = s});
    put_series(&s[0], x, "resident", AT(rss), 1.0 / (1 << 20));
    put_plot(b, &n,
             &(wk_svg_plot){.title = "Memory",
                            .x_label = "step",
                            .y_label = "MiB",
                            .n_series = 1,
                            .series = s,
                            .mark = (double)(t->cost.need + wk_train_sample_bytes(t)) / (1 << 20),
                            .mark_text = "planned"});
    wk_svg_end(b, N, WK_STR("points are means over stretches of steps; log.jsonl has every step"));
    wk_free(s);
}
#undef AT

/* ---- tables -------------------------------------------------------------------------------------- */

static void put_cell(wk_buf *b, double v, int digits) {
    if (!isfinite(v))
        (void)wk_buf_adds(b, "<td></td>");
    else
        (void)wk_buf_addf(b, "<td>%.*g</td>", digits, v);
}

/* Rows with a validation, else evenly chosen ones; at most TABLE. */
static void put_table(wk_buf *b, const rows *x) {
    size_t n_val = 0, seen = 0;
    for (size_t i = 0; i < x->n; i++) n_val += isfinite(x->row[i].val) ? 1 : 0;
    const size_t n = n_val ? n_val : x->n, every = n / TABLE + 1;
    (void)wk_buf_adds(b, "<h2>Numbers</h2>\n<table><tr><th>step</th><th>tokens</th><th>loss</th><th>held "
                         "out</th><th>bits a byte</th><th>rate</th>"
                         "<th>gradient</th><th>tok/s</th><th>% of GEMM peak</th><th>MiB</th><th>J</th></tr>\n");
    for (size_t i = 0; i < x->n; i++) {
        const wk_run_row *r = &x->row[i];
        if (n_val && !isfinite(r->val)) continue;
        if (seen++ % every && i + 1 < x->n) continue;
        (void)wk_buf_addf(b, "<tr><td>%lld</td>", (long long)r->step);
        put_cell(b, r->tokens, 9);
        put_cell(b, r->loss, 5);
        put_cell(b, r->val, 5);
        put_cell(b, r->bpb, 4);
        put_cell(b, r->lr, 3);
        put_cell(b, r->gnorm, 3);
        put_cell(b, r->tok_s, 4);
        put_cell(b, 100 * r->share, 3);
        put_cell(b, r->rss / (1 << 20), 4);
        put_cell(b, r->j_cpu, 4);
        (void)wk_buf_adds(b, "</tr>\n");
    }
    (void)wk_buf_adds(b, "</table>\n");
}

static void put_memory(wk_buf *b, const wk_train *t) {
    const wick_x_train_cost *c = &t->cost;
    const uint64_t samples = wk_train_sample_bytes(t);
    const struct {
        const char *name;
        uint64_t bytes;
    } parts[] = {{"base, mapped", c->base},        {"weights that are trained", c->weights}, {"gradients", c->grads},
                 {"moments", c->moments}, {"activations", c->activations},          {"scratch", c->scratch},
                 {"engine that draws samples", samples}, {"planned in all", c->need + samples},      {"available at the start", c->available}};
    (void)wk_buf_adds(b, "<h2>Memory as planned</h2>\n<table>\n");
    for (size_t i = 0; i < WK_COUNT(parts); i++)
        (void)wk_buf_addf(b, "<tr><th>%s</th><td>%.1f MiB</td></tr>\n", parts[i].name,
                          (double)parts[i].bytes / (1 << 20));
    (void)wk_buf_addf(b, "<tr><th>at once</th><td>%d tokens, recompute %s</td></tr>\n</table>\n", (int)c->micro,
                      c->recompute ? "on" : "off");
}

static void put_options(wk_buf *b, const wk_train *t) {
    char value[WK_RUN_TEXT];
    const char *name, *meaning;
    (void)wk_buf_adds(b, "<h2>Options and hashes</h2>\n<table class=\"o\">\n");
    for (size_t i = 0; wk_run_member(&t->run, i, &name, &meaning, value); i++) {
        if (!value[0]) continue;
        (void)wk_buf_addf(b, "<tr><th>%s</th><td>", name);
        wk_svg_escape(b, wk_cstr(value));
        (void)wk_buf_addf(b, "</td><td>%s</td></tr>\n", meaning);
    }
    (void)wk_buf_addf(b, "<tr><th>arithmetic</th><td>%d</td><td>WICK_ARITH</td></tr>\n</table>\n", WICK_ARITH);
}

static void put_products(wk_buf *b, const wk_train *t) {
    char text[8192];
    size_t len = 0;
    if (wick_x_trainer_gemms(t->trainer, text, sizeof(text), &len) || len == 0) return;
    (void)wk_buf_adds(b, "<h2>Matrix products</h2>\n<pre>");
    for (const char *p = text; *p; p += strcspn(p, "\n") + (p[strcspn(p, "\n")] == '\n')) {
        wk_svg_escape(b, (wk_str){p, strcspn(p, "\n")});
        (void)wk_buf_adds(b, "\n");
    }
    (void)wk_buf_adds(b, "</pre>\n");
}

/* ---- samples ------------------------------------------------------------------------------------- */

static size_t headings(wk_str s) {
    size_t n = 0;
    for (size_t i = 0; i + 8 < s.n; i++) n += (i == 0 || s.p[i - 1] == '\n') && memcmp(s.p + i, "== step ", 8) == 0;
    return n;
}

static void put_samples(wk_buf *b, const wk_train *t) {
    char path[WK_RUN_PATH];
    wk_map_file map = {0};
    if (wk_train_path(t, path, "samples.txt", NULL) || !wk_file_exists(path) || wk_os_map(&map, path, NULL)) return;
    const wk_str s = {(const char *)map.p, map.n};
    const size_t n = headings(s);
    size_t seen = 0;
    bool open = false;
    (void)wk_buf_adds(b, "<h2>Samples</h2>\n<p>Going on from: ");
    wk_svg_escape(b, wk_cstr(t->run.prompt));
    (void)wk_buf_adds(b, "</p>\n");
    for (size_t at = 0; at < s.n;) {
        const char *end = memchr(s.p + at, '\n', s.n - at);
        const wk_str line = {s.p + at, end ? (size_t)(end - s.p) - at : s.n - at};
        const bool heading = line.n > 8 && memcmp(line.p, "== step ", 8) == 0;
        if (heading) {
            (void)wk_buf_adds(b, open ? "</pre>\n" : "");
            open = seen++ + SAMPLES_SHOWN >= n;
            if (open) (void)wk_buf_addf(b, "<h3>step %lld</h3>\n<pre>", (long long)strtoll(line.p + 8, NULL, 10));
        } else if (open) {
            wk_svg_escape(b, line);
            (void)wk_buf_adds(b, "\n");
        }
        at += line.n + 1;
    }
    (void)wk_buf_adds(b, open ? "</pre>\n" : "");
    wk_os_unmap(&map);
}

/* ---- the page ------------------------------------------------------------------------------------ */

static void put_head(wk_buf *b, const wk_train *t, const rows *x) {
    (void)wk_buf_adds(b, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                         "content=\"width=device-width\">\n<title>");
    wk_svg_escape(b, wk_cstr(t->run.title));
    (void)wk_buf_adds(
        b, "</title>\n<style>body{font:15px/1.5 system-ui,sans-serif;max-width:760px;margin:2em auto;padding:0 "
           "1em;color:#1b1f24;background:#fff}"
           "table{border-collapse:collapse;font-size:13px}th,td{padding:2px 10px;border-bottom:1px solid "
           "#8885;text-align:right}"
           "table.o td,table.o th,th:first-child{text-align:left}table.o "
           "td{overflow-wrap:anywhere}pre{white-space:pre-wrap;"
           "overflow-wrap:anywhere;background:#8881;padding:.7em;font-size:13px}svg{max-width:100%;height:auto}"
           "h3{font-size:14px;margin:1em 0 "
           ".2em}@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#15181c}}</style></"
           "head><body>\n<h1>wick ");
    (void)wk_buf_addf(b, "%s: ", t->run.command);
    wk_svg_escape(b, wk_cstr(t->run.title));
    (void)wk_buf_addf(b, "</h1>\n<p>%s parameters, %s of them trained; step %lld of %lld",
                      wk_word_count((double)t->run.params).text, wk_word_count((double)t->run.trainable).text,
                      (long long)t->step, (long long)t->run.steps);
    if (x->n) (void)wk_buf_addf(b, "; %s tokens", wk_word_count(x->row[x->n - 1].tokens).text);
    if (isfinite(t->best_val))
        (void)wk_buf_addf(b, "; best loss held out %.4g at step %lld", t->best_val, (long long)t->best_step);
    if (t->energy.source == WK_ENERGY_NONE) (void)wk_buf_addf(b, "; energy %s", t->energy.why);
    if (t->energy.source == WK_ENERGY_WATTS)
        (void)wk_buf_addf(b, "; energy estimated with %.4g W, not measured", t->energy.watts);
    (void)wk_buf_adds(b, ".</p>\n");
}

wick_status wk_train_html(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH];
    rows x = {0};
    wk_buf b;
    wk_buf_init(&b, 0);
    wick_status rc = wk_train_path(t, path, "report.html", err);
    if (!rc) rc = read_rows(t, &x, err);
    if (!rc) {
        put_head(&b, t, &x);
        put_curves(&b, t, &x);
        put_table(&b, &x);
        put_samples(&b, t);
        put_memory(&b, t);
        put_products(&b, t);
        put_options(&b, t);
        (void)wk_buf_adds(&b, "</body></html>\n");
        rc = b.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the report")
                      : wk_file_write(path, wk_buf_str(&b), err);
    }
    wk_buf_fini(&b);
    wk_free(x.row);
    return rc;
}

/* wall_html.c: the page: one file, no scripts, no fonts, nothing fetched. Written beside and renamed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/svg.h"
#include "engine/app/wall_impl.h"
#include "engine/base/attr.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n"
    ":root{color-scheme:light dark}\n"
    "body{font:15px/1.45 system-ui,sans-serif;color:#1b1f24;background:#fff;max-width:980px;margin:0 auto;padding:16px 20px}\n"
    "h1{font-size:24px;margin:.4em 0}h2{font-size:19px;margin:1.6em 0 .4em}\n"
    "table{border-collapse:collapse;margin:10px 0 22px;width:100%;font-size:13px}\n"
    "caption{text-align:left;font-weight:600;padding:4px 0}\n"
    "th,td{border-bottom:1px solid #c8ccd1;padding:4px 8px;text-align:left;vertical-align:top;font-weight:400}\n"
    "thead th{border-bottom:2px solid #555;font-weight:600}.r{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\n"
    "#t-comparison tbody th,#t-verdict tbody th{font-weight:600}\n"
    "figure{margin:18px 0 0}figcaption{font-size:13px}svg{width:100%;height:auto;font:13px system-ui,sans-serif;background:#fff}\n"
    "text{fill:currentColor}.g{stroke:currentColor;stroke-opacity:.15}.a{stroke:currentColor}\n"
    ".m{stroke:currentColor;stroke-dasharray:5 4}.t{font-weight:600}.n{font-size:11.5px}\n"
    ".h{paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}\n"
    ".s0{color:#0072b2}.s1{color:#d55e00}.s2{color:#009e73}.s3{color:#cc79a7}.s4{color:#e69f00}.s5{color:#56b4e9}.s6{color:#8c6bb1}.s7{color:#7f7f7f}.k0{color:#333}\n"
    ".l{fill:none;stroke:currentColor;stroke-width:2}.d1{stroke-dasharray:8 4}.d2{stroke-dasharray:2 3}.d3{stroke-dasharray:10 3 2 3}\n"
    ".d4{stroke-dasharray:5 2}.d5{stroke-dasharray:6 3 1 3}.d6{stroke-dasharray:12 5}.d7{stroke-dasharray:4 6}\n"
    ".k{fill:currentColor}.o{fill:none;stroke:currentColor;stroke-width:2}.b{stroke:currentColor;stroke-width:1}\n"
    ".f{fill:currentColor;fill-opacity:.75}.w{fill:none;stroke:#fff;stroke-width:1.6}.z{fill:none;stroke:currentColor;stroke-opacity:.28}\n"
    ".arrow{fill:none;stroke:currentColor;stroke-width:1.2}.peak .k{stroke:#fff;stroke-width:1.2}\n"
    "@media(prefers-color-scheme:dark){body,svg{color:#e6e6e6;background:#15181c}.h{stroke:#15181c}.s0{color:#4ea7e0}.s1{color:#ff8c42}.s2{color:#2fc99a}.k0{color:#ccc}\n"
    "th,td{border-color:#3a4048}thead th{border-color:#999}.w,.peak .k{stroke:#15181c}}\n"
    "@media print{body{max-width:none}figure{break-inside:avoid}}\n</style>\n";

static const struct {
    const char *id; /* of the table below */
    bool (*draw)(const wk_wall *w, wk_buf *out);
    const char *title, *caption;
} figures[] = {
    {"roofline", wk_wall_roofline, "1. Roofline",
     "A phase under the slope waits for memory, one under the flat roof for arithmetic. Arrow: from 1 reader to 32."},
    {"two-gaps", wk_wall_two_gaps, "2. Two gaps", "What a GPU would add, by its figures: a different factor for each job."},
    {"map", wk_wall_map, "3. Frontier map",
     "What ends below a line ends within its time. Extrapolated from the measured steps at one size; small models fit caches, large ones may be slower; "
     "beyond 1000 times of what was measured it is an order of magnitude."},
    {"memory", wk_wall_memory, "4. Memory", "Planned parts and the peak that was measured."},
    {"threads", wk_wall_threads, "5. Threads", "Decode flattens when memory is busy; training goes on as long as there are cores."},
    {"jitter", wk_wall_jitter, "6. Between two tokens", "The further right a line ends, the longer a reader has to wait now and then."},
    {"users", wk_wall_users, "7. Readers together", "Weights are read once for all: together they are faster, each is slower."}};

static void put(const wk_wall *w, const char *id, wk_buf *out) {
    const wk_wall_table *t = wk_wall_table_find(w, id);
    if (t && t->n_cell) wk_wall_table_html(w, t, out);
}

static void put_figures(const wk_wall *w, wk_buf *out) {
    for (size_t i = 0; i < WK_COUNT(figures); i++) {
        (void)wk_buf_addf(out, "<h2>%s</h2>\n<figure>\n", figures[i].title); /* failure stays in out, as below */
        if (!figures[i].draw(w, out)) (void)wk_buf_adds(out, "<p>Not drawn: nothing was measured for it.</p>\n");
        (void)wk_buf_addf(out, "<figcaption>%s</figcaption>\n</figure>\n", figures[i].caption);
        put(w, figures[i].id, out);
    }
}

static void put_page(const wk_wall *w, wk_buf *out) {
    const wk_bench_machine *m = &w->b.machine;
    (void)wk_buf_adds(out, head); /* failure stays in out, as below */
    (void)wk_buf_adds(out, "<title>wick wall: ");
    wk_svg_escape(out, wk_cstr(m->name));
    (void)wk_buf_adds(out, "</title>\n</head>\n<body>\n<h1>Where this computer ends: ");
    wk_svg_escape(out, wk_cstr(m->name));
    (void)wk_buf_adds(out, " on ");
    wk_svg_escape(out, wk_cstr(m->cpu));
    (void)wk_buf_addf(out, "</h1>\n<p>One model, one file, the same kernels, both jobs: serving and training. Every number is measured here or reckoned from one that is, "
                           "by the formula beside it; what comes from elsewhere says so.%s%s</p>\n",
                      w->quick ? " Measured with --quick: fewer repeats." : "", w->b.stopped ? " Stopped by a signal: not everything is there." : "");
    put(w, "verdict", out);
    (void)wk_buf_adds(out, "<h2>Training against inference</h2>\n");
    put(w, "comparison", out);
    put_figures(w, out);
    (void)wk_buf_adds(out, "<h2>How long it would take</h2>\n");
    put(w, "forecast", out);
    (void)wk_buf_adds(out, "<h2>Before buying</h2>\n");
    put(w, "advice", out);
    put(w, "too-strong", out);
    (void)wk_buf_adds(out, "<h2>Measured rows</h2>\n");
    put(w, "measured", out);
    put(w, "probes", out);
    put(w, "products", out);
    put(w, "machine", out);
    (void)wk_buf_adds(out, "</body>\n</html>\n");
}

static wick_status write_file(const char *path, const wk_buf *b, wick_error *err) {
    char beside[4200];
    (void)snprintf(beside, sizeof(beside), "%.4090s.part", path);
    FILE *f = fopen(beside, "wb");
    if (!f) return wk_fail(err, WICK_E_IO, "%s: %s", wk_show(wk_cstr(path)).text, strerror(errno));
    const bool whole = fwrite(b->p, 1, b->n, f) == b->n;
    const int why = errno;
    if (fclose(f) == 0 && whole && rename(beside, path) == 0) return WICK_OK;
    (void)unlink(beside); /* the error is said already */
    return wk_fail(err, WICK_E_IO, "%s could not be written: %s", wk_show(wk_cstr(path)).text, strerror(why));
}

wick_status wk_wall_html(wk_wall *w, const char *path, wick_error *err) {
    wk_buf out;
    wk_buf_init(&out, 0);
    put_page(w, &out);
    const wick_status rc = out.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the page") : write_file(path, &out, err);
    wk_buf_fini(&out);
    return rc;
}

/* bench_text.c: the result as Markdown that also reads well on a terminal. */
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/app/bench_table.h"
#include "engine/base/attr.h"
#include "engine/base/str.h"

/* Four digits or so: 1524, 320.1, 31.62, 3.214 */
typedef struct number {
    char text[32];
} number;

static number num(double v) {
    number n;
    const double a = v < 0 ? -v : v;
    (void)snprintf(n.text, sizeof(n.text), "%.*f",
                   a >= 1000  ? 0
                   : a >= 100 ? 1
                   : a >= 10  ? 2
                              : 3,
                   v);
    return n;
}

static number percent(double share) {
    number n = {""};
    if (share > 0)
        (void)snprintf(n.text, sizeof(n.text), "%.*f %%", share < 0.0995 ? 1 : 0, 100 * share);
    return n;
}

static bool has_kind(const wk_bench *b, wk_bench_kind kind) {
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].kind == kind) return true;
    return false;
}

static double probe_of(const wk_bench *b, int probe) {
    return probe < 0 ? 0 : wk_stat_of(b->row[probe].value, b->row[probe].n).median;
}

/* "36.2 GB/s read", "1074 GOP/s i8" */
static void limit_of(const wk_bench *b, const wk_bench_row *r, bool of_peak, char *out,
                     size_t cap) {
    const int probe = of_peak ? r->peak_probe : r->read_probe;
    const double limit = of_peak ? r->limit_peak : r->limit_read;
    out[0] = 0;
    if (limit > 0)
        (void)snprintf(out, cap, "%.*f %s %s of %s", limit < 99.95 ? 1 : 0, limit, of_peak ? "GOP/s" : "GB/s",
                       of_peak ? r->peak : "read", r->device);
    if (probe < 0 || !b->row[probe].n) return;
    const double v = probe_of(b, probe);
    (void)snprintf(out, cap, "%.*f %s %s", v < 99.95 ? 1 : 0, v, b->row[probe].unit,
                   of_peak ? b->row[probe].peak : "read");
}

/* Time of a pass against the row's base, round by round. */
static double step_ratio(const wk_bench *b, const wk_bench_row *r, wk_stat *spread) {
    const wk_bench_row *base = &b->row[r->base];
    double ratio[WK_BENCH_ROUNDS];
    int n = 0;
    for (int i = 0; i < r->n && i < base->n; i++)
        if (r->value[i] > 0 && base->per_pass > 0)
            ratio[n++] = r->per_pass / r->value[i] / (base->per_pass / base->value[i]);
    *spread = wk_stat_of(ratio, n);
    return spread->median;
}

static void remarks(const wk_bench *b, const wk_bench_row *r, char *out, size_t cap) {
    char other[64];
    wk_stat s;
    size_t n = 0;
    out[0] = 0;
    const double share = wk_round_share(b, r, r->of_peak),
                 second = wk_round_share(b, r, !r->of_peak);
    if (r->n) limit_of(b, r, r->of_peak, out, cap);
    n = strlen(out);
    if (r->n && share > 0 && second > share) { /* the other limit is the one that binds */
        limit_of(b, r, !r->of_peak, other, sizeof(other));
        n += (size_t)snprintf(out + n, cap - n, "; %s of %s", percent(second).text, other);
    }
    if (r->base >= 0 && r->n && n < cap) {
        const double ratio = step_ratio(b, r, &s);
        const char *base = b->row[r->base].name;
        if (s.p10 <= 1 && s.p90 >= 1)
            n += (size_t)snprintf(out + n, cap - n, "%sstep no different from %s", n ? "; " : "", base);
        else
            n += (size_t)snprintf(out + n, cap - n, "%sstep %.2fx of %s", n ? "; " : "", ratio, base);
    }
    if (r->note[0] && n < cap)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? "; " : "", r->note);
    if (r->hash_differs && n < cap)
        (void)snprintf(out + n, cap - n, "; LOGITS DIFFER FROM ROUND TO ROUND");
}

static void put_range(wk_table *t, const wk_stat *s) {
    if (s->n > 1)
        wk_table_cell(t, "%s .. %s", num(s->p10).text, num(s->p90).text);
    else
        wk_table_cell(t, "%s", "");
}

static void put_energy(wk_table *t, const wk_bench *b, const wk_bench_row *r) {
    const double gross = 1e3 * (wk_stat_of(r->joules, r->n).median + wk_stat_of(r->dev_joules, r->n).median);
    if (gross <= 0)
        wk_table_cell(t, "%s", "");
    else if (b->energy.source == WK_ENERGY_WATTS)
        wk_table_cell(t, "%s est.", num(gross).text);
    else
        wk_table_cell(t, "%s", num(gross).text);
}

static bool has_energy(const wk_bench *b) {
    bool card = false;
    for (int i = 0; i < b->n_row; i++) card |= b->row[i].n && wk_stat_of(b->row[i].dev_joules, b->row[i].n).median > 0;
    return card || b->energy.source != WK_ENERGY_NONE;
}

static void put_device_head(wk_table *t) {
    static const char *const head[] = {"device", "pass p50 ms", "p99", "copied B/tok", "copy ms/tok"};
    for (size_t i = 0; i < WK_COUNT(head); i++) wk_table_cell(t, "%s", head[i]);
}

static void put_device(wk_table *t, const wk_bench_row *r) {
    wk_table_cell(t, "%s", r->device);
    wk_table_cell(t, "%s", r->n ? num(wk_stat_of(r->p50, r->n).median).text : "");
    wk_table_cell(t, "%s", r->n ? num(wk_stat_of(r->p99, r->n).median).text : "");
    wk_table_cell(t, "%.0f", r->put_bytes + r->get_bytes);
    wk_table_cell(t, "%s", r->copy_s > 0 ? num(1e3 * r->copy_s).text : "");
}

static void put_engine(const wk_bench *b, wk_buf *out) {
    const bool energy = has_energy(b), many = b->n_target > 0;
    wk_table t;
    char text[WK_TABLE_CELL];
    wk_table_init(&t, many ? energy ? "lrrrrlrrrrrl" : "lrrrrlrrrrl" : energy ? "lrrrrrl" : "lrrrrl");
    static const char *const head[] = {"engine: passes alone", "tok/s", "p10 .. p90", "ms/pass",
                                       "share"};
    for (size_t i = 0; i < WK_COUNT(head); i++) wk_table_cell(&t, "%s", head[i]);
    if (many) put_device_head(&t);
    if (energy) wk_table_cell(&t, "%s", "mJ/tok");
    wk_table_cell(&t, "%s", "of what the machine gave");
    for (int i = 0; i < b->n_row; i++) {
        const wk_bench_row *r = &b->row[i];
        if (r->kind != WK_BENCH_ENGINE) continue;
        const wk_stat s = wk_stat_of(r->value, r->n);
        wk_table_cell(&t, "%s", r->name);
        wk_table_cell(&t, "%s", r->n ? num(s.median).text : "-");
        put_range(&t, &s);
        wk_table_cell(&t, "%s",
                      s.median > 0 && r->per_pass > 0 ? num(1e3 * r->per_pass / s.median).text
                                                      : "");
        wk_table_cell(&t, "%s", percent(wk_round_share(b, r, r->of_peak)).text);
        if (many) put_device(&t, r);
        if (energy) put_energy(&t, b, r);
        remarks(b, r, text, sizeof(text));
        wk_table_cell(&t, "%s", text);
    }
    wk_table_put(&t, out);
    wk_table_fini(&t);
    (void)wk_buf_adds(out, "\n");
}

/* Rows with a unit of their own: end to end, probes. */
static void put_plain(const wk_bench *b, wk_bench_kind kind, const char *title, wk_buf *out) {
    wk_table t;
    char text[WK_TABLE_CELL];
    wk_table_init(&t, "lrlrl");
    wk_table_cell(&t, "%s", title);
    wk_table_cell(&t, "%s", "median");
    wk_table_cell(&t, "%s", "");
    wk_table_cell(&t, "%s", "p10 .. p90");
    wk_table_cell(&t, "%s", "");
    for (int i = 0; i < b->n_row; i++) {
        const wk_bench_row *r = &b->row[i];
        if (r->kind != kind) continue;
        const wk_stat s = wk_stat_of(r->value, r->n);
        if (b->n_target)
            wk_table_cell(&t, "%s, %s", r->name, r->device);
        else
            wk_table_cell(&t, "%s", r->name);
        wk_table_cell(&t, "%s", r->n ? num(s.median).text : "-");
        wk_table_cell(&t, "%s", r->n ? r->unit : "");
        put_range(&t, &s);
        remarks(b, r, text, sizeof(text));
        const double share = wk_round_share(b, r, r->of_peak);
        if (share > 0)
            wk_table_cell(&t, "%s of %s", percent(share).text, text);
        else
            wk_table_cell(&t, "%s", text);
    }
    wk_table_put(&t, out);
    wk_table_fini(&t);
    (void)wk_buf_adds(out, "\n");
}

/* A line a format, a column a batch. */
static void put_kernels(const wk_bench *b, wk_buf *out) {
    wk_table t;
    const char *format = "";
    wk_table_init(&t, "lrrrrr");
    static const char *const head[] = {"kernel",    "n=1 GB/s",    "n=4 GOP/s",
                                       "n=8 GOP/s", "n=128 GOP/s", "pack GB/s"};
    for (size_t i = 0; i < WK_COUNT(head); i++) wk_table_cell(&t, "%s", head[i]);
    const wk_bench_row *last = NULL;
    for (int i = 0; i < b->n_row; i++) {
        const wk_bench_row *r = &b->row[i];
        if (r->kind != WK_BENCH_KERNEL) continue;
        if (r->format != format && last)
            wk_table_cell(&t, "%s",
                          last->pack_s > 0 ? num((double)last->bytes / last->pack_s / 1e9).text
                                           : "");
        if (r->format != format) wk_table_cell(&t, "%s", r->format);
        format = r->format;
        last = r;
        const wk_stat s = wk_stat_of(r->value, r->n);
        const double share = wk_round_share(b, r, r->of_peak);
        if (!r->n)
            wk_table_cell(&t, "%s", "-");
        else if (share > 0)
            wk_table_cell(&t, "%s (%s)", num(s.median).text, percent(share).text);
        else
            wk_table_cell(&t, "%s", num(s.median).text);
    }
    if (last)
        wk_table_cell(&t, "%s",
                      last->pack_s > 0 ? num((double)last->bytes / last->pack_s / 1e9).text : "");
    wk_table_put(&t, out);
    wk_table_fini(&t);
    (void)wk_buf_adds(out, "\nIn brackets: of the read bandwidth of the same bytes (n=1), of the "
                           "peak of the level (n>1), in the same"
                           " round.\n\n");
}

/* Kinds of work by their time in decoding, the whole first; what is less than 0.05 % is left out. */
static const wk_bench_work *next_work(const wk_bench *b, const wk_bench_work *last) {
    const wk_bench_work *best = NULL;
    for (int i = 0; i < b->n_work; i++) {
        const wk_bench_work *w = &b->work[i];
        if (w->share[0] < 0.0005 && w->share[1] < 0.0005) continue;
        const bool later =
            !last || w->share[0] < last->share[0] || (w->share[0] <= last->share[0] && w > last);
        if (later && (!best || w->share[0] > best->share[0])) best = w;
    }
    return best;
}

static void put_work(const wk_bench *b, wk_buf *out) {
    wk_table t;
    wk_table_init(&t, "lrrrr");
    static const char *const head[] = {"time by kind of work", "decode ms/tok", "share",
                                       "prefill ms/tok", "share"};
    for (size_t i = 0; i < WK_COUNT(head); i++) wk_table_cell(&t, "%s", head[i]);
    for (const wk_bench_work *w = next_work(b, NULL); w; w = next_work(b, w)) {
        wk_table_cell(&t, "%s", w->name);
        for (int k = 0; k < 2; k++) {
            wk_table_cell(&t, "%s", w->seconds[k] > 0 ? num(1e3 * w->seconds[k]).text : "");
            wk_table_cell(&t, "%s", percent(w->share[k]).text);
        }
    }
    wk_table_put(&t, out);
    wk_table_fini(&t);
    (void)wk_buf_adds(out, "\n");
}

/* ---- against ------------------------------------------------------------------------------------- */

static const char *verdict(const wk_interval *r) {
    return r->low > 1 ? "faster" : r->high < 1 ? "slower" : "no difference";
}

static void put_against(const wk_bench *b, wk_buf *out) {
    wk_table t;
    wk_table_init(&t, "llrrrl");
    static const char *const head[] = {"against, in turn", "program", "tok/s",
                                       "p10 .. p90",       "wick is", "95 % interval"};
    for (size_t i = 0; i < WK_COUNT(head); i++) wk_table_cell(&t, "%s", head[i]);
    for (int i = 0; i < b->n_row; i++) {
        const wk_bench_row *r = &b->row[i];
        if (r->kind != WK_BENCH_AGAINST) continue;
        const wk_stat s = wk_stat_of(r->value, r->n);
        const double share = wk_stat_of(r->share_sum, r->n).median;
        wk_table_cell(&t, "%s", strcmp(r->who, "wick") == 0 ? r->name : "");
        wk_table_cell(&t, "%s", r->who);
        wk_table_cell(&t, "%s", r->n ? num(s.median).text : "-");
        put_range(&t, &s);
        if (r->ratio.median > 0) {
            wk_table_cell(&t, "%.2fx", r->ratio.median);
            wk_table_cell(&t, "%.2f .. %.2f %s", r->ratio.low, r->ratio.high, verdict(&r->ratio));
        } else {
            wk_table_cell(&t, "%s", "");
            if (share > 0)
                wk_table_cell(&t, "%s of %s", percent(share).text, r->note);
            else
                wk_table_cell(&t, "%s", "");
        }
    }
    wk_table_put(&t, out);
    wk_table_fini(&t);
    (void)wk_buf_adds(out, "\n");
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].kind == WK_BENCH_AGAINST && b->row[i].ratio.median > 0 && b->row[i].note[0])
            (void)wk_buf_addf(out, "%s, %s: %s\n", b->row[i].who, b->row[i].name, b->row[i].note);
    (void)wk_buf_adds(out, "\n");
}

/* ---- machine ------------------------------------------------------------------------------------- */

static void line(wk_table *t, const char *key, const char *value) {
    if (!*value) return;
    wk_table_cell(t, "%s", key);
    wk_table_cell(t, "%s", value);
}

static void put_machine(const wk_bench *b, wk_buf *out) {
    const wk_bench_machine *m = &b->machine;
    char text[WK_TABLE_CELL];
    wk_table t;
    wk_table_init(&t, "ll");
    line(&t, "machine", m->cpu);
    (void)snprintf(text, sizeof(text), "%s (runs: %s)", m->level, m->levels);
    line(&t, "level", text);
    line(&t, "threads", m->threads);
    line(&t, "governor", m->governor);
    line(&t, "memory", m->memory);
    line(&t, "load", m->load);
    line(&t, "kernel", m->kernel);
    line(&t, "build", m->build);
    if (m->model[0]) {
        (void)snprintf(text, sizeof(text), "%.90s, %.1f MB, xxh3 %.16s", m->model,
                       (double)m->model_bytes / 1e6, m->hash);
        line(&t, "model", text);
    }
    for (int i = 0; i < b->n_row; i++) {
        if (!b->row[i].has_hash || strncmp(b->row[i].name, "decode", 7) != 0 || strcmp(b->row[i].device, "cpu") != 0)
            continue;
        (void)snprintf(text, sizeof(text), "%016llx (last logits of decode)",
                       (unsigned long long)b->row[i].hash);
        line(&t, "logits", text);
    }
    if (b->energy.source == WK_ENERGY_NONE) {
        line(&t, "energy", b->energy.why);
    } else if (b->energy.source == WK_ENERGY_WATTS) {
        (void)snprintf(text, sizeof(text), "estimated with %.1f W, not measured", b->energy.watts);
        line(&t, "energy", text);
    } else {
        (void)snprintf(text, sizeof(text), "RAPL, gross; idle machine %.1f W", b->energy.idle);
        line(&t, "energy", text);
    }
    wk_table_put(&t, out);
    wk_table_fini(&t);
}

void wk_text_put(const wk_bench *b, wk_buf *out) {
    const wk_bench_machine *m = &b->machine;
    if (m->model[0])
        (void)wk_buf_addf(out, "%s %s, %d threads, %s%s%s%s\n\n", m->name, m->format, m->n_thread,
                          m->level, m->kv[0] ? ", kv " : "", m->kv,
                          b->stopped ? " (stopped: not all rounds)" : "");
    if (has_kind(b, WK_BENCH_AGAINST)) put_against(b, out);
    if (has_kind(b, WK_BENCH_ENGINE)) put_engine(b, out);
    if (has_kind(b, WK_BENCH_END)) put_plain(b, WK_BENCH_END, "end to end", out);
    if (has_kind(b, WK_BENCH_KERNEL)) put_kernels(b, out);
    if (!has_kind(b, WK_BENCH_ENGINE) && !has_kind(b, WK_BENCH_END) &&
        !has_kind(b, WK_BENCH_KERNEL) && has_kind(b, WK_BENCH_PROBE))
        put_plain(b, WK_BENCH_PROBE, "peaks", out);
    if (b->n_work) put_work(b, out);
    for (int i = 0; i < b->n_line; i++) (void)wk_buf_addf(out, "- %s\n", b->line[i]);
    if (b->n_line) (void)wk_buf_addc(out, '\n');
    put_machine(b, out);
}

/* bench_data.c: the result for programs: JSON, JSON lines, CSV. Each holds the machine block. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/base/attr.h"
#include "engine/base/json.h"
#include "engine/base/str.h"

const char *wk_data_kind(wk_bench_kind kind) {
    static const char *const words[WK_BENCH_KIND_COUNT] = {"engine", "end-to-end", "kernel",
                                                           "probe", "against"};
    return words[kind];
}

/* ---- machine ------------------------------------------------------------------------------------- */

typedef struct field {
    const char *key, *text; /* text NULL: the number */
    double number;
} field;

enum { FIELDS = 20 };

static const char *energy_word(const wk_energy *e) {
    return e->source == WK_ENERGY_RAPL    ? "rapl"
           : e->source == WK_ENERGY_WATTS ? "estimated"
                                          : e->why;
}

static int fields_of(const wk_bench *b, char hash[24], field f[FIELDS]) {
    const wk_bench_machine *m = &b->machine;
    hash[0] = 0;
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].has_hash && strcmp(b->row[i].name, "decode") == 0 && strcmp(b->row[i].device, "cpu") == 0)
            (void)snprintf(hash, 24, "%016llx", (unsigned long long)b->row[i].hash);
    double read = 0;
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].kind == WK_BENCH_PROBE && !b->row[i].peak && b->row[i].n)
            read = wk_stat_of(b->row[i].value, b->row[i].n).median;
    const field all[] = {{"cpu", m->cpu, 0},
                         {"level", m->level, 0},
                         {"levels", m->levels, 0},
                         {"threads", NULL, m->n_thread},
                         {"threads_why", m->threads, 0},
                         {"governor", m->governor, 0},
                         {"load", m->load, 0},
                         {"read_gb_s", NULL, read},
                         {"kernel", m->kernel, 0},
                         {"build", m->build, 0},
                         {"arith", NULL, WICK_ARITH},
                         {"model", m->model, 0},
                         {"model_bytes", NULL, (double)m->model_bytes},
                         {"model_xxh3", m->hash, 0},
                         {"format", m->format, 0},
                         {"kv", m->kv, 0},
                         {"n_ctx", NULL, m->n_ctx},
                         {"logits", hash, 0},
                         {"energy", energy_word(&b->energy), 0}};
    memcpy(f, all, sizeof(all));
    return (int)WK_COUNT(all);
}

static void put_machine(wk_bench *b) {
    wk_buf *out = &b->emit->line;
    char hash[24];
    field f[FIELDS];
    const int n = fields_of(b, hash, f);
    wk_emit_key(b->emit, "machine");
    for (int i = 0; i < n; i++) {
        (void)wk_buf_addf(out, "%s\"%s\":", i ? "," : "{", f[i].key);
        if (f[i].text)
            wk_json_put_str(out, wk_cstr(f[i].text));
        else
            (void)wk_buf_addf(out, "%.15g", f[i].number);
    }
    (void)wk_buf_addc(out, '}');
}

/* ---- rows ---------------------------------------------------------------------------------------- */

/* What a row's columns are, once for JSON and CSV. */
typedef struct columns {
    wk_stat s;
    double ms_per_pass, share, share_read, share_peak, probe, joules, above_idle;
    const char *share_of;
} columns;

static double probe_value(const wk_bench *b, int probe) {
    return probe < 0 ? 0 : wk_stat_of(b->row[probe].value, b->row[probe].n).median;
}

static double above_idle(const wk_bench *b, const wk_bench_row *r) {
    double v[WK_BENCH_ROUNDS];
    for (int i = 0; i < r->n; i++)
        v[i] = r->joules[i] - (r->value[i] > 0 ? b->energy.idle / r->value[i] : 0);
    return b->energy.source == WK_ENERGY_RAPL ? wk_stat_of(v, r->n).median : 0;
}

static columns columns_of(const wk_bench *b, const wk_bench_row *r) {
    columns c = {.s = wk_stat_of(r->value, r->n), .share_of = ""};
    const int probe = r->of_peak ? r->peak_probe : r->read_probe;
    if (c.s.median > 0 && r->per_pass > 0) c.ms_per_pass = 1e3 * r->per_pass / c.s.median;
    c.share_read = wk_round_share(b, r, false);
    c.share_peak = wk_round_share(b, r, true);
    c.share = r->of_peak ? c.share_peak : c.share_read;
    if (r->kind == WK_BENCH_AGAINST) c.share = wk_stat_of(r->share_sum, r->n).median;
    c.probe = probe_value(b, probe);
    if (probe >= 0) c.share_of = r->of_peak ? b->row[probe].peak : "read";
    const double limit = r->of_peak ? r->limit_peak : r->limit_read;
    if (limit > 0) c.probe = limit;
    if (limit > 0) c.share_of = r->of_peak ? r->peak : "read";
    c.joules = wk_stat_of(r->joules, r->n).median;
    c.above_idle = c.joules > 0 ? above_idle(b, r) : 0;
    return c;
}

static void put_num(wk_buf *out, const char *key, double v) {
    if (isfinite(v))
        (void)wk_buf_addf(out, ",\"%s\":%.6g", key, v);
    else
        (void)wk_buf_addf(out, ",\"%s\":null", key);
}

/* 0 stands for "not known" here and is left out. */
static void put_known(wk_buf *out, const char *key, double v) {
    if (v > 0) put_num(out, key, v);
}

static void put_text(wk_buf *out, const char *key, const char *text) {
    if (!*text) return;
    (void)wk_buf_addf(out, ",\"%s\":", key);
    wk_json_put_str(out, wk_cstr(text));
}

static void put_values(wk_buf *out, const wk_bench_row *r) {
    (void)wk_buf_adds(out, ",\"values\":[");
    for (int i = 0; i < r->n; i++) (void)wk_buf_addf(out, "%s%.6g", i ? "," : "", r->value[i]);
    (void)wk_buf_addc(out, ']');
}

static void put_against(wk_buf *out, const wk_bench_row *r) {
    put_text(out, "who", r->who);
    if (r->ratio.median <= 0) return;
    put_num(out, "ratio", r->ratio.median);
    put_num(out, "ratio_low", r->ratio.low);
    put_num(out, "ratio_high", r->ratio.high);
    put_text(out, "verdict",
             r->ratio.low > 1    ? "faster"
             : r->ratio.high < 1 ? "slower"
                                 : "no difference");
}

static void put_copies(wk_buf *out, const wk_bench_row *r) {
    (void)wk_buf_addf(out, ",\"gpu_layers\":%d,\"outside_bits\":%s", (int)r->gpu_layers,
                      r->gpu_layers > 0 ? "true" : "false");
    if (!r->n) return;
    put_num(out, "p50_ms", wk_stat_of(r->p50, r->n).median);
    put_num(out, "p99_ms", wk_stat_of(r->p99, r->n).median);
    put_num(out, "put_bytes", r->put_bytes);
    put_num(out, "get_bytes", r->get_bytes);
    put_num(out, "copy_ms", 1e3 * r->copy_s);
    put_known(out, "joules_device", wk_stat_of(r->dev_joules, r->n).median);
}

/* The members of a row, after "kind". */
static void put_row(const wk_bench *b, wk_buf *out, const wk_bench_row *r) {
    const columns c = columns_of(b, r);
    (void)wk_buf_addf(out, "\"kind\":\"%s\"", wk_data_kind(r->kind));
    put_text(out, "name", r->name);
    put_text(out, "device", r->device);
    put_text(out, "unit", r->unit);
    (void)wk_buf_addf(out, ",\"less_is_better\":%s,\"n\":%d", r->less_is_better ? "true" : "false",
                      r->n);
    if (r->n) {
        put_num(out, "median", c.s.median);
        put_num(out, "p10", c.s.p10);
        put_num(out, "p90", c.s.p90);
        put_values(out, r);
    }
    put_known(out, "ms_per_pass", c.ms_per_pass);
    put_known(out, "share", c.share);
    put_text(out, "share_of", c.share > 0 ? c.share_of : "");
    put_known(out, "probe", c.probe);
    put_known(out, "share_read", c.share_read);
    put_known(out, "share_peak", c.share_peak);
    put_known(out, "joules_per_token", c.joules);
    put_known(out, "joules_above_idle", c.above_idle);
    if (r->pack_s > 0) put_num(out, "pack_s", r->pack_s);
    if (r->has_hash) (void)wk_buf_addf(out, ",\"logits\":\"%016llx\"", (unsigned long long)r->hash);
    if (r->hash_differs) (void)wk_buf_adds(out, ",\"logits_differ\":true");
    if (r->kind == WK_BENCH_AGAINST) put_against(out, r);
    if (b->n_target && r->kind == WK_BENCH_ENGINE) put_copies(out, r);
    put_text(out, "note", r->note);
}

static void put_work(const wk_bench *b, wk_buf *out) {
    for (int i = 0; i < b->n_work; i++) {
        const wk_bench_work *w = &b->work[i];
        (void)wk_buf_addf(out, "%s{\"work\":", i ? "," : "");
        wk_json_put_str(out, wk_cstr(w->name));
        put_num(out, "decode_ms", 1e3 * w->seconds[0]);
        put_num(out, "decode_share", w->share[0]);
        put_num(out, "prefill_ms", 1e3 * w->seconds[1]);
        put_num(out, "prefill_share", w->share[1]);
        (void)wk_buf_addc(out, '}');
    }
}

static void put_events(wk_bench *b) {
    for (int i = 0; i < b->n_row; i++) {
        wk_emit_begin(b->emit, "row");
        (void)wk_buf_addc(&b->emit->line, ',');
        put_row(b, &b->emit->line, &b->row[i]);
        wk_emit_end(b->emit);
    }
}

static void put_rows(wk_bench *b) {
    wk_buf *out = &b->emit->line;
    wk_emit_key(b->emit, "rows");
    (void)wk_buf_addc(out, '[');
    for (int i = 0; i < b->n_row; i++) {
        (void)wk_buf_adds(out, i ? ",{" : "{");
        put_row(b, out, &b->row[i]);
        (void)wk_buf_addc(out, '}');
    }
    (void)wk_buf_addc(out, ']');
}

static void put_devices(wk_bench *b) {
    wk_buf *out = &b->emit->line;
    wk_emit_key(b->emit, "devices");
    for (int i = 0; i < b->n_target; i++) {
        const wk_bench_target *t = &b->target[i];
        (void)wk_buf_addf(out, "%s{\"device\":", i ? "," : "[");
        wk_json_put_str(out, wk_cstr(t->label));
        put_text(out, "name", t->info.name);
        put_text(out, "driver", t->info.driver);
        put_text(out, "why", t->why);
        put_text(out, "energy", t->is_cpu ? energy_word(&b->energy) : t->nvml.why[0] ? t->nvml.why : "nvml");
        put_known(out, "read_gb_s", t->info.read_rate / 1e9);
        put_known(out, "put_gb_s", t->info.put_rate / 1e9);
        put_known(out, "get_gb_s", t->info.get_rate / 1e9);
        put_known(out, "i8_gop_s", t->info.int8_rate / 1e9);
        put_known(out, "f16_gop_s", t->info.f16_rate / 1e9);
        (void)wk_buf_addc(out, '}');
    }
    (void)wk_buf_addc(out, ']');
    wk_emit_key(b->emit, "verdicts");
    (void)wk_buf_addc(out, '[');
    for (int i = 0; i < b->n_line; i++) {
        if (i) (void)wk_buf_addc(out, ',');
        wk_json_put_str(out, wk_cstr(b->line[i]));
    }
    (void)wk_buf_addc(out, ']');
}

void wk_data_json(wk_bench *b) {
    if (b->emit->mode == WK_EMIT_JSONL) put_events(b);
    wk_emit_begin(b->emit, "done");
    put_machine(b);
    if (b->emit->mode == WK_EMIT_JSON) put_rows(b);
    if (b->n_work) {
        wk_emit_key(b->emit, "trace");
        (void)wk_buf_addc(&b->emit->line, '[');
        put_work(b, &b->emit->line);
        (void)wk_buf_addc(&b->emit->line, ']');
    }
    if (b->n_target) put_devices(b);
    wk_emit_bool(b->emit, "complete", !b->stopped);
    wk_emit_done(b->emit);
}

/* ---- CSV ----------------------------------------------------------------------------------------- */

static void csv_text(wk_buf *out, const char *s) {
    (void)wk_buf_addc(out, '"');
    for (; *s; s++) {
        if (*s == '"') (void)wk_buf_addc(out, '"');
        (void)wk_buf_addc(out, *s);
    }
    (void)wk_buf_adds(out, "\",");
}

static void csv_num(wk_buf *out, double v) {
    if (v != 0 && isfinite(v)) (void)wk_buf_addf(out, "%.6g", v);
    (void)wk_buf_addc(out, ',');
}

static void csv_row(const wk_bench *b, wk_buf *out, const wk_bench_row *r, const field *f, int n) {
    const columns c = columns_of(b, r);
    const double v[] = {r->n,    c.s.median, c.s.p10,         c.s.p90,      c.ms_per_pass, c.share,
                        c.probe, c.joules,   r->ratio.median, r->ratio.low, r->ratio.high};
    csv_text(out, wk_data_kind(r->kind));
    csv_text(out, r->name);
    csv_text(out, r->who);
    csv_text(out, r->unit);
    for (size_t i = 0; i < WK_COUNT(v); i++) csv_num(out, v[i]);
    csv_text(out, c.share > 0 ? c.share_of : "");
    csv_text(out, r->note);
    csv_text(out, r->device);
    const double d[] = {r->gpu_layers, wk_stat_of(r->p50, r->n).median, wk_stat_of(r->p99, r->n).median, r->put_bytes,
                        r->get_bytes, 1e3 * r->copy_s, wk_stat_of(r->dev_joules, r->n).median};
    for (size_t i = 0; i < WK_COUNT(d); i++) csv_num(out, d[i]);
    for (int i = 0; i < n; i++) {
        if (f[i].text)
            csv_text(out, f[i].text);
        else
            (void)wk_buf_addf(out, "%.15g,", f[i].number);
    }
    (void)wk_buf_adds(out, b->stopped ? "stopped\n" : "complete\n");
}

/* The machine block stands in every row, so that rows of several machines can be put into one file. */
void wk_data_csv(const wk_bench *b, wk_buf *out) {
    char hash[24];
    field f[FIELDS];
    const int n = fields_of(b, hash, f);
    (void)wk_buf_adds(out, "kind,name,who,unit,n,median,p10,p90,ms_per_pass,share,probe,joules_per_"
                           "token,ratio,ratio_low,"
                           "ratio_high,share_of,note,device,gpu_layers,p50_ms,p99_ms,put_bytes,get_bytes,copy_ms,joules_device");
    for (int i = 0; i < n; i++) (void)wk_buf_addf(out, ",%s", f[i].key);
    (void)wk_buf_adds(out, ",state\n");
    for (int i = 0; i < b->n_row; i++) csv_row(b, out, &b->row[i], f, n);
}

/* eval_out.c: the numbers of `wick eval` as a Markdown table or as an object. */
#include <math.h>
#include <stdio.h>

#include "engine/app/bench_table.h"
#include "engine/app/eval_impl.h"

static void put_table(wk_eval *e, wk_buf *out) {
    wk_table t;
    wk_table_init(&t, "llrlr");
    static const char *const head[] = {"task", "metric", "value", "95 % interval", "of"};
    for (size_t i = 0; i < WK_COUNT(head); i++) wk_table_cell(&t, "%s", head[i]);
    for (int i = 0; i < e->n_row; i++) {
        const wk_eval_row *r = &e->row[i];
        wk_table_cell(&t, "%s", r->task);
        wk_table_cell(&t, "%s", r->metric);
        wk_table_cell(&t, "%.6g", r->value);
        if (r->low < r->high)
            wk_table_cell(&t, "%.6g .. %.6g", r->low, r->high);
        else
            wk_table_cell(&t, "%s", "");
        wk_table_cell(&t, "%llu %s", (unsigned long long)r->n, r->of);
    }
    wk_table_put(&t, out);
    wk_table_fini(&t);
}

static void put_text(wk_eval *e) {
    wk_buf out;
    wk_buf_init(&out, 0);
    put_table(e, &out);
    if (e->text.n) {
        (void)wk_buf_adds(&out, "\n"); /* failure stays in out, as below */
        (void)wk_buf_add(&out, e->text.p, e->text.n - 1);
    }
    if (out.failed)
        e->emit->line.failed = true;
    else
        (void)wk_out_write(&e->emit->out, out.p, out.n); /* kept in out.error */
    wk_buf_fini(&out);
}

/* More digits than the table: two runs are compared by them. */
static void put_number(wk_buf *b, const char *key, double v) {
    if (isfinite(v))
        (void)wk_buf_addf(b, ",\"%s\":%.12g", key, v); /* failure stays in b */
    else
        (void)wk_buf_addf(b, ",\"%s\":null", key);
}

static void put_rows(wk_eval *e) {
    wk_buf *b = &e->emit->line;
    wk_emit_key(e->emit, "results");
    (void)wk_buf_addc(b, '['); /* failure stays in b, as below */
    for (int i = 0; i < e->n_row; i++) {
        const wk_eval_row *r = &e->row[i];
        (void)wk_buf_addf(b, "%s{\"task\":\"%s\",\"metric\":\"%s\"", i ? "," : "", r->task, r->metric);
        put_number(b, "value", r->value);
        if (r->low < r->high) {
            put_number(b, "low", r->low);
            put_number(b, "high", r->high);
        }
        (void)wk_buf_addf(b, ",\"n\":%llu,\"of\":\"%s\"}", (unsigned long long)r->n, r->of);
    }
    (void)wk_buf_addc(b, ']');
}

/* As they stand on the command line, with their scales. */
static void put_adapters(wk_eval *e) {
    size_t n = 0;
    wk_buf *b = &e->emit->line;
    const char *const *list = wk_args_list(e->args, WK_ARG_LORA, &n);
    if (n == 0) return;
    wk_emit_key(e->emit, "lora");
    for (size_t i = 0; i < n; i++) {
        (void)wk_buf_addc(b, i ? ',' : '['); /* failure stays in b, as below */
        wk_json_put_str(b, wk_cstr(list[i]));
    }
    (void)wk_buf_addc(b, ']');
}

static void put_object(wk_eval *e) {
    wick_stats stats = WICK_STATS_INIT;
    wk_emit *o = e->emit;
    wk_emit_begin(o, "done");
    wk_emit_str(o, "model", wk_cstr(e->m.path));
    if (e->other.path) wk_emit_str(o, "other", wk_cstr(e->other.path));
    if (e->rival.path) wk_emit_str(o, "against", wk_cstr(e->rival.path));
    put_adapters(e);
    wk_emit_int(o, "ctx", e->m.n_ctx);
    wk_emit_bool(o, "bos", e->m.bos >= 0);
    if (wick_engine_stats(e->m.engine, &stats) == WICK_OK) {
        wk_emit_int(o, "threads", stats.threads);
        wk_emit_str(o, "cpu", wk_cstr(stats.cpu_level));
    }
    wk_emit_int(o, "arithmetic", WICK_ARITH);
    put_rows(e);
    if (e->samples.n) {
        wk_emit_key(o, "samples");
        (void)wk_buf_addc(&o->line, '['); /* failure stays in line, as below */
        (void)wk_buf_add(&o->line, e->samples.p, e->samples.n);
        (void)wk_buf_addc(&o->line, ']');
    }
    wk_emit_done(o);
}

void wk_eval_put(wk_eval *e) {
    if (e->emit->mode == WK_EMIT_TEXT)
        put_text(e);
    else
        put_object(e);
}

/* bench_gate.c: this result against an older one, row by row; the older file is foreign text. */
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/app/bench_table.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"
#include "engine/base/json.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum { OLD_MAX = 16 << 20, DEPTH = 16, VALUES = 200000 };

typedef struct gate {
    wk_bench *b;
    wk_table table;
    bool seen[WK_BENCH_ROWS];
    int n_compared;
    char model[40], cpu[100];
} gate;

static void copy_text(char *out, size_t cap, const wk_json *v) {
    const wk_str s = wk_json_str(v);
    (void)snprintf(out, cap, "%.*s", (int)cap - 1, wk_show(s).text);
}

static wk_bench_row *row_named(gate *g, const wk_json *old) {
    const wk_str kind = wk_json_str(wk_json_get(old, "kind")),
                 name = wk_json_str(wk_json_get(old, "name")),
                 who = wk_json_str(wk_json_get(old, "who"));
    wk_str device = wk_json_str(wk_json_get(old, "device"));
    if (!device.n) device = WK_STR("cpu"); /* of before there were others */
    for (int i = 0; i < g->b->n_row; i++) {
        wk_bench_row *r = &g->b->row[i];
        if (r->kind == WK_BENCH_PROBE || !wk_str_is(kind, wk_data_kind(r->kind)) ||
            !wk_str_is(name, r->name))
            continue;
        if (wk_str_is(who, r->who) && wk_str_is(device, r->device)) return r;
    }
    return NULL;
}

static const char *word_of(int sign) {
    return sign > 0 ? "better" : sign < 0 ? "LOSS" : "no difference";
}

/* Rows of peers and of the machine alone are no loss of ours. */
static void compare(gate *g, const wk_json *old) {
    wk_bench_row *r = row_named(g, old);
    if (!r || r->n == 0 || g->seen[r - g->b->row]) return;
    if (r->kind == WK_BENCH_AGAINST && strcmp(r->who, "wick") != 0) return;
    const wk_stat before = {.n = (int)wk_json_int(wk_json_get(old, "n")),
                            .median = wk_json_real(wk_json_get(old, "median")),
                            .p10 = wk_json_real(wk_json_get(old, "p10")),
                            .p90 = wk_json_real(wk_json_get(old, "p90"))};
    if (before.n < 1 || !(before.median > 0)) return;
    const wk_stat now = wk_stat_of(r->value, r->n);
    const int sign = wk_stat_compare(&before, &now, r->less_is_better);
    g->seen[r - g->b->row] = true;
    g->n_compared++;
    if (sign < 0) g->b->n_loss++;
    wk_table_cell(&g->table, "%s", r->name);
    wk_table_cell(&g->table, "%.4g %s", before.median, r->unit);
    wk_table_cell(&g->table, "%.4g %s", now.median, r->unit);
    wk_table_cell(&g->table, "%+.1f %%", 100 * (now.median / before.median - 1));
    const double a = wk_stat_spread(&before), c = wk_stat_spread(&now);
    wk_table_cell(&g->table, "%.1f %%", 100 * (a > c ? a : c));
    wk_table_cell(&g->table, "%s", word_of(sign));
}

/* An object with "rows" (--json), or one row of --jsonl. */
static void take(gate *g, const wk_json *v) {
    const wk_json *rows = wk_json_get(v, "rows"), *machine = wk_json_get(v, "machine");
    if (machine) {
        copy_text(g->model, sizeof(g->model), wk_json_get(machine, "model_xxh3"));
        copy_text(g->cpu, sizeof(g->cpu), wk_json_get(machine, "cpu"));
    }
    for (size_t i = 0; i < wk_json_count(rows); i++) compare(g, wk_json_at(rows, i));
    if (wk_str_is(wk_json_str(wk_json_get(v, "type")), "row")) compare(g, v);
}

static wick_status take_text(gate *g, wk_str text, wick_error *err) {
    wk_json_doc *d = NULL;
    WK_TRY(wk_json_parse(&d, text, DEPTH, VALUES, err));
    const bool ours =
        wk_str_is(wk_json_str(wk_json_get(wk_json_root(d), "schema")), "wick.bench/1");
    if (ours) take(g, wk_json_root(d));
    wk_json_free(d);
    return ours ? WICK_OK
                : wk_fail(err, WICK_E_FORMAT,
                          "an object of the schema wick.bench/1 is wanted, found another one");
}

/* The whole file, else its lines. */
static wick_status take_file(gate *g, wk_str text, wick_error *err) {
    const char *end = memchr(text.p, '\n', text.n);
    if (!end || !memchr(text.p, '}', (size_t)(end - text.p)) ||
        (size_t)(end - text.p) + 1 >= text.n)
        return take_text(g, text, err);
    while (text.n) {
        end = memchr(text.p, '\n', text.n);
        const size_t n = end ? (size_t)(end - text.p) : text.n;
        if (n) WK_TRY(take_text(g, (wk_str){text.p, n}, err));
        text.p += n;
        text.n -= n;
        if (text.n) {
            text.p++;
            text.n--;
        }
    }
    return WICK_OK;
}

static void say_foreign(gate *g) {
    const char *what = NULL;
    if (g->cpu[0] && strcmp(g->cpu, g->b->machine.cpu) != 0)
        what = "the older result is from another CPU";
    else if (g->model[0] && g->b->machine.hash[0] && strcmp(g->model, g->b->machine.hash) != 0)
        what = "the older result is of another model file";
    if (what) wk_emit_warning(g->b->emit, what, strlen(what));
}

static void head(wk_table *t) {
    static const char *const words[] = {"gate", "before", "now", "change", "spread", "verdict"};
    wk_table_init(t, "lrrrrl");
    for (size_t i = 0; i < WK_COUNT(words); i++) wk_table_cell(t, "%s", words[i]);
}

wick_status wk_gate_check(wk_bench *b, wk_buf *text, wick_error *err) {
    const char *path = b->args->v[WK_ARG_GATE].s;
    wk_map_file file = {0};
    gate *g = wk_new(gate);
    if (!g) return wk_fail(err, WICK_E_NOMEM, "no memory for the comparison");
    g->b = b;
    head(&g->table);
    wick_status rc = wk_os_map(&file, path, err);
    if (!rc && (file.n == 0 || file.n > OLD_MAX))
        rc = wk_fail(err, WICK_E_FORMAT, "%zu bytes found, a result of 1 byte to 16 MiB is wanted",
                     file.n);
    if (!rc) rc = take_file(g, (wk_str){(const char *)file.p, file.n}, err);
    if (!rc && g->n_compared == 0)
        rc = wk_fail(err, WICK_E_FORMAT,
                     "no row of it was measured now, so there is nothing to compare");
    wk_os_unmap(&file);
    if (!rc) {
        say_foreign(g);
        wk_table_put(&g->table, text);
    } else {
        (void)wk_fail_at(err, "--gate %s", wk_show(wk_cstr(path)).text);
    }
    wk_table_fini(&g->table);
    wk_free(g);
    return rc;
}

/* cmd_bench.c: how fast this is here, and how much of what the machine gives that is. */
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/app/cmd.h"
#include "engine/app/signals.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

static void write_text(wk_bench *b, const wk_buf *text) {
    if (text->failed)
        b->emit->line.failed = true;
    else if (text->n)
        (void)wk_out_write(&b->emit->out, text->p, text->n); /* kept in out.error */
}

static void put_result(wk_bench *b, const wk_buf *gate) {
    wk_buf text;
    wk_buf_init(&text, 0);
    if (b->wish.format == WK_BENCH_MD) wk_text_put(b, &text);
    if (b->wish.format == WK_BENCH_CSV) wk_data_csv(b, &text);
    if (b->wish.format == WK_BENCH_SVG) wk_plot_put(b, &text);
    if (b->wish.format == WK_BENCH_JSON || b->wish.format == WK_BENCH_JSONL) wk_data_json(b);
    if (b->wish.format == WK_BENCH_MD && gate->n) {
        (void)wk_buf_adds(&text, "\n");
        (void)wk_buf_add(&text, gate->p, gate->n);
    }
    write_text(b, &text);
    wk_buf_fini(&text);
    if (b->wish.format != WK_BENCH_MD && gate->n) wk_say(b->emit->quiet, "%s", gate->p);
}

/* The probes of bandwidth that the rows were compared with, for the block. */
static void put_memory(wk_bench *b) {
    for (int i = 0; i < b->n_row; i++) {
        const wk_bench_row *r = &b->row[i];
        if (r->kind != WK_BENCH_PROBE || r->peak || !r->n) continue;
        const wk_stat s = wk_stat_of(r->value, r->n);
        (void)snprintf(b->machine.memory, sizeof(b->machine.memory), "%s: %.1f GB/s (%.1f .. %.1f)",
                       r->name, s.median, s.low, s.high);
        if (r->threads == b->machine.n_thread) return;
    }
}

void wk_bench_put_model(wk_bench *b) {
    static const char *const kv[] = {"f16", "f32", "bf16", "q8_0"};
    wk_bench_machine *m = &b->machine;
    char name[96] = "";
    (void)wick_model_get(b->model, "name", name, sizeof(name),
                         NULL); /* absent: the file's name stands */
    (void)snprintf(m->name, sizeof(m->name), "%.90s",
                   name[0] ? wk_show(wk_cstr(name)).text : m->model);
    (void)wick_model_get(b->model, "format", m->format, sizeof(m->format), NULL);
    (void)snprintf(m->kv, sizeof(m->kv), "%s", kv[b->args->v[WK_ARG_KV].i]);
    if (!b->engine) return;
    (void)snprintf(m->level, sizeof(m->level), "%s", b->stats.cpu_level);
    m->n_thread = b->stats.threads;
    m->n_ctx = b->stats.n_ctx;
}

/* The peers' file: opened for its names, so that no engine stands beside theirs. */
static wick_status bench_peers(wk_bench *b, wick_error *err) {
    WK_TRY(wick_model_open(b->args->model_path, NULL, &b->model, err));
    wk_bench_put_model(b);
    wk_round_close(b);
    return wk_peer_run(b, err);
}

static wick_status bench_model(wk_bench *b, wick_error *err) {
    WK_TRY(wk_machine_model(b, err));
    if (b->args->v[WK_ARG_AGAINST].given) return bench_peers(b, err);
    WK_TRY(wk_round_setup(b, err));
    if (b->wish.devices) return wk_device_all(b, err);
    WK_TRY(b->wish.only & WK_ONLY_LOAD ? wk_answer_load(b, err) : wk_round_open(b, err));
    if (!b->engine) return WICK_OK; /* stopped before anything was open */
    wk_bench_put_model(b);
    const wk_bench_machine *m = &b->machine;
    wk_say(b->emit->quiet, "%s %s \xc2\xb7 ctx %d \xc2\xb7 kv %s \xc2\xb7 threads %s \xc2\xb7 cpu %s\n", m->name,
           m->format, m->n_ctx, m->kv, m->threads, m->level);
    wk_energy_idle(&b->energy);
    wk_round_rows(b);
    if (wk_flag(b->args, WK_ARG_KERNELS)) wk_kernel_rows(b);
    WK_TRY(wk_round_run(b, b->wish.reps, err));
    if (b->wish.soak > 0 && !b->stopped) WK_TRY(wk_round_soak(b, err));
    if (wk_flag(b->args, WK_ARG_TRACE) && !b->stopped) WK_TRY(wk_trace_work(b, err));
    return WICK_OK;
}

/* Without a model: what the machine gives, and kernels. */
static wick_status bench_machine(wk_bench *b, wick_error *err) {
    WK_TRY(wk_round_setup(b, err));
    if (wk_flag(b->args, WK_ARG_PEAKS)) wk_kernel_peaks(b);
    if (wk_flag(b->args, WK_ARG_KERNELS)) wk_kernel_rows(b);
    return wk_round_run(b, b->wish.reps, err);
}

/* The model when one is named or needed; kernels and peaks do without. */
static wick_status find_model(wk_bench *b, wk_args *a, wick_error *err) {
    const bool alone = wk_flag(a, WK_ARG_PEAKS) || wk_flag(a, WK_ARG_KERNELS);
    const bool named = a->n_positional || a->v[WK_ARG_MODEL].from == WK_FROM_FLAG;
    if (alone && (!named || wk_flag(a, WK_ARG_PEAKS))) return WICK_OK;
    WK_TRY(wk_args_model(a, err));
    if (a->n_positional)
        return wk_fail(err, WICK_E_ARG, "\"%s\" is one argument too many; bench wants one model",
                       wk_show(wk_cstr(a->positional[0])).text);
    b->wish.has_model = true;
    return WICK_OK;
}

static wick_status run(wk_bench *b, wk_args *a, wk_buf *gate, wick_error *err) {
    WK_TRY(wk_wish_read(&b->wish, a, err));
    if (b->wish.format == WK_BENCH_JSON) b->emit->mode = WK_EMIT_JSON;
    if (b->wish.format == WK_BENCH_JSONL) b->emit->mode = WK_EMIT_JSONL;
    WK_TRY(find_model(b, a, err));
    wk_machine_block(b);
    wk_energy_open(&b->energy, "", a->v[WK_ARG_WATTS].d);
    WK_TRY(b->wish.has_model ? bench_model(b, err) : bench_machine(b, err));
    put_memory(b);
    if (a->v[WK_ARG_GATE].given) WK_TRY(wk_gate_check(b, gate, err));
    put_result(b, gate);
    return WICK_OK;
}

static int exit_code(const wk_bench *b) {
    if (wk_signals_terminated()) return wk_signals_terminated();
    if (b->stopped) return 130;
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].failed || b->row[i].hash_differs) return 1;
    return b->n_loss ? 7 : 0;
}

static bool make_room(wk_bench *b) {
    b->row = wk_new_n(wk_bench_row, WK_BENCH_ROWS);
    b->passes = wk_new_n(double, WK_BENCH_STEPS);
    return b->row && b->passes;
}

int wk_cmd_bench(wk_args *a) {
    wick_error err = {0};
    wk_emit e;
    wk_buf gate;
    wk_emit_init(&e, a);
    wk_buf_init(&gate, 0);
    wk_bench b = {.args = a, .emit = &e, .depth_limit = INT32_MAX};
    pthread_mutex_init(&b.lock, NULL);
    wk_progress_init(&b.progress, e.quiet, wk_args_color(a, 2));
    wk_signals_open();
    wick_status rc = make_room(&b) ? run(&b, a, &gate, &err)
                                   : wk_fail(&err, WICK_E_NOMEM, "no memory for the rows");
    wk_progress_clear(&b.progress);
    wk_round_close(&b);
    const int code = exit_code(&b);
    const wick_setup_options quiet = WICK_SETUP_OPTIONS_INIT;
    (void)wick_setup(&quiet, NULL); /* the sink points into b */
    wk_signals_close();
    pthread_mutex_destroy(&b.lock);
    wk_free(b.row);
    wk_free(b.passes);
    wk_buf_fini(&gate);
    return wk_emit_finish(&e, rc, &err, code);
}

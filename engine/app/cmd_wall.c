/* cmd_wall.c: one model, one machine: what decides the speed of serving it and of training it, and where this computer
 * stops being enough. */
#include <stdio.h>
#include <string.h>

#include "engine/app/cmd.h"
#include "engine/app/signals.h"
#include "engine/app/wall_impl.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum { ROUNDS = 5, QUICK_ROUNDS = 2, DECODE = 48, QUICK_DECODE = 16, STALL_EVERY = 90, QUICK_STALL_EVERY = 60 };

/* ---- setting up ---------------------------------------------------------------------------------- */

static void set_wish(wk_wall *w) {
    static const int32_t clients[WK_WALL_BATCHES] = {1, 2, 4, 8, 16, 32};
    wk_bench_wish *x = &w->b.wish;
    w->rounds = w->quick ? QUICK_ROUNDS : ROUNDS;
    x->reps = w->rounds;
    x->tg = w->quick ? QUICK_DECODE : DECODE;
    x->pp = (wk_bench_list){1, {512}};
    x->depth = (wk_bench_list){1, {0}};
    x->clients.n = WK_WALL_BATCHES;
    memcpy(x->clients.v, clients, sizeof(clients));
    x->only = WK_ONLY_PREFILL | WK_ONLY_DECODE | WK_ONLY_BATCH;
    x->has_model = true;
}

/* 1, 2, 4 ... and the full number. */
static void set_sweep(wk_wall *w) {
    w->n_thread = w->b.stats.threads;
    for (int t = 1; t < w->n_thread && w->n_sweep < WK_WALL_SWEEP - 1; t *= 2) w->sweep[w->n_sweep++] = t;
    w->sweep[w->n_sweep++] = w->n_thread;
}

static double clock_now(void) {
    char text[4096];
    double v = 0;
    if (wk_os_read_small("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", text, sizeof(text)) > 0 &&
        sscanf(text, "%lf", &v) == 1)
        return v / 1e3;
    if (wk_os_read_small("/proc/cpuinfo", text, sizeof(text)) <= 0) return 0;
    const char *at = strstr(text, "cpu MHz"), *colon = at ? strchr(at, ':') : NULL;
    return colon && sscanf(colon + 1, "%lf", &v) == 1 ? v : 0;
}

static void put_names(wk_wall *w) {
    wk_bench_machine *m = &w->b.machine;
    char name[96] = "";
    (void)wick_model_get(w->b.model, "name", name, sizeof(name), NULL); /* absent: the file's name stands */
    (void)snprintf(m->name, sizeof(m->name), "%.90s", name[0] ? wk_show(wk_cstr(name)).text : m->model);
    (void)wick_model_get(w->b.model, "format", m->format, sizeof(m->format), NULL);
    (void)snprintf(m->kv, sizeof(m->kv), "f16");
    (void)snprintf(m->level, sizeof(m->level), "%s", w->b.stats.cpu_level);
    m->n_thread = w->b.stats.threads;
    m->n_ctx = w->b.stats.n_ctx;
}

static void stop_rows(wk_wall *w) {
    for (int i = 0; i < w->b.n_row; i++) w->b.row[i].measure = NULL;
}

/* ---- what is measured ---------------------------------------------------------------------------- */

static wick_status serve(wk_wall *w, wick_error *err) {
    wk_bench *b = &w->b;
    WK_TRY(wk_round_open(b, err));
    set_sweep(w);
    put_names(w);
    wk_wall_shape(w);
    wk_say(b->emit->quiet, "%s %s \xc2\xb7 threads %s \xc2\xb7 cpu %s\n", b->machine.name, b->machine.format,
           b->machine.threads, b->machine.level);
    wk_energy_idle(&b->energy);
    w->clock_mhz[0] = clock_now();
    wk_wall_machine_rows(w);
    wk_wall_serve_rows(w);
    wick_status rc = wk_wall_device_rows(w, err);
    if (!rc) rc = wk_round_run(b, w->rounds, err);
    stop_rows(w);
    wk_wall_device_close(w);
    WK_TRY(rc);
    WK_TRY(wk_wall_serve_sweep(w, err));
    wk_round_close(b);
    return WICK_OK;
}

static wick_status train(wk_wall *w, wick_error *err) {
    WK_TRY(wick_model_open(w->base, NULL, &w->b.model, err)); /* its pieces make the text */
    WK_TRY(wk_wall_train_all(w, err));
    stop_rows(w);
    wk_say(w->b.emit->quiet, "training by threads, and beside a pause\n");
    WK_TRY(wk_wall_train_sweep(w, err));
    WK_TRY(wk_wall_stalls(w, err));
    wk_round_close(&w->b);
    return WICK_OK;
}

/* Peak memory of each job, in a process of its own. */
static wick_status memory(wk_wall *w, wick_error *err) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    wick_fit_result fit = WICK_FIT_RESULT_INIT;
    wk_say(w->b.emit->quiet, "peak memory of each job\n");
    o.n_ctx = 2048;
    if (!wick_fit(w->base, &o, &fit, NULL)) w->serve_need = fit.need;
    (void)wick_x_memory(&w->available, &(uint64_t){0}); /* cannot fail */
    for (int j = 0; j <= WK_CHILD_SERVE && !wk_round_stopped(&w->b); j++) {
        const bool train = j < WK_CHILD_SERVE;
        wk_wall_child c;
        wick_error why = {0};
        if (train && (!w->job[j].row || !w->job[j].row->n)) continue;
        if (w->quick && j == WK_JOB_RECOMPUTE) continue;
        const wick_status rc = wk_wall_child_begin(w, &c, j, &why);
        if (rc == WICK_E_CANCELED) *err = why;
        if (rc == WICK_E_CANCELED) return rc;
        if (rc) continue; /* no number then */
        wk_wall_child_end(&c);
        if (train)
            w->job[j].rss = c.rss;
        else
            w->serve_rss = c.rss;
    }
    return WICK_OK;
}

/* Between its tokens: alone, with pauses, beside a trainer. */
static wick_status gaps(wk_wall *w, wick_error *err) {
    wk_wall_child c;
    wick_error why = {0};
    const int j = w->job[WK_JOB_FULL].row && w->job[WK_JOB_FULL].row->n ? WK_JOB_FULL : WK_JOB_LORA;
    wk_say(w->b.emit->quiet, "gaps between tokens, alone and beside a trainer\n");
    WK_TRY(wk_round_open(&w->b, err));
    WK_TRY(wk_wall_gaps_take(w, &w->alone, 0, err));
    WK_TRY(wk_wall_gaps_take(w, &w->stalled, w->quick ? QUICK_STALL_EVERY : STALL_EVERY, err));
    if (!w->job[j].row || !w->job[j].row->n) {
        (void)snprintf(w->beside_why, sizeof(w->beside_why), "not measured: there is no training step to run beside it");
        return WICK_OK;
    }
    wick_status rc = wk_wall_child_begin(w, &c, j, &why);
    if (rc == WICK_E_CANCELED) *err = why;
    if (rc == WICK_E_CANCELED) return rc;
    if (rc) {
        (void)snprintf(w->beside_why, sizeof(w->beside_why), "not measured: %.200s", why.message);
        return WICK_OK;
    }
    rc = wk_wall_gaps_take(w, &w->beside, 0, err);
    wk_wall_child_end(&c);
    w->beside_tok_s = c.rate;
    return rc;
}

static wick_status measure(wk_wall *w, wick_error *err) {
    static wick_status (*const part[])(wk_wall *, wick_error *) = {serve, train, memory, gaps};
    for (size_t i = 0; i < WK_COUNT(part) && !wk_round_stopped(&w->b); i++) {
        const wick_status rc = part[i](w, err);
        wk_progress_clear(&w->b.progress);
        if (rc && !wk_round_stopped(&w->b)) return rc;
    }
    w->clock_mhz[1] = clock_now();
    return WICK_OK;
}

/* ---- result -------------------------------------------------------------------------------------- */

static void put_text(wk_wall *w) {
    wk_buf out;
    wk_buf_init(&out, 0);
    for (int i = 0; i < w->report.n_table; i++) wk_wall_table_text(w, &w->report.table[i], &out);
    if (out.failed)
        w->b.emit->line.failed = true;
    else
        (void)wk_out_write(&w->b.emit->out, out.p, out.n); /* kept in out.error */
    wk_buf_fini(&out);
}

static wick_status put_result(wk_wall *w, wick_error *err) {
    wk_wall_tables(w);
    if (w->report.text.failed) return wk_fail(err, WICK_E_NOMEM, "no memory for the report");
    if (w->args.v[WK_ARG_HTML].given) WK_TRY(wk_wall_html(w, w->args.v[WK_ARG_HTML].s, err));
    if (w->b.emit->mode == WK_EMIT_TEXT)
        put_text(w);
    else
        wk_wall_json(w);
    return WICK_OK;
}

static wick_status run(wk_wall *w, wick_error *err) {
    wk_bench *b = &w->b;
    w->begun = (double)wk_os_now_ns() * 1e-9;
    w->quick = wk_flag(&w->args, WK_ARG_QUICK);
    (void)snprintf(w->base, sizeof(w->base), "%s", w->args.model_path);
    set_wish(w);
    WK_TRY(wk_wall_device_list(w, err));
    wk_machine_block(b);
    WK_TRY(wk_machine_model(b, err));
    wk_energy_open(&b->energy, "", w->args.v[WK_ARG_WATTS].d);
    WK_TRY(wk_round_setup(b, err));
    WK_TRY(wk_wall_folder(w, err));
    WK_TRY(measure(w, err));
    return put_result(w, err);
}

static int exit_code(const wk_wall *w) {
    if (wk_signals_terminated()) return wk_signals_terminated();
    if (w->b.stopped) return 130;
    for (int i = 0; i < w->b.n_row; i++)
        if (w->b.row[i].failed && wk_wall_is_device(&w->b.row[i])) return 1; /* asked for, and not there */
    return 0;
}

static wick_status make_room(wk_wall *w, wick_error *err) {
    w->b.row = wk_new_n(wk_bench_row, WK_BENCH_ROWS);
    w->b.passes = wk_new_n(double, WK_BENCH_STEPS);
    w->report.cell = wk_new_n(wk_wall_cell, WK_WALL_CELLS);
    wk_buf_init(&w->report.text, 0);
    if (w->b.row && w->b.passes && w->report.cell) return WICK_OK;
    return wk_fail(err, WICK_E_NOMEM, "no memory for the rows");
}

static wick_status find_model(wk_args *a, wick_error *err) {
    WK_TRY(wk_args_model(a, err));
    if (!a->n_positional) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "\"%s\" is one argument too many; wall wants one model",
                   wk_show(wk_cstr(a->positional[0])).text);
}

int wk_cmd_wall(wk_args *a) {
    wick_error err = {0};
    wk_emit e;
    wk_emit_init(&e, a);
    wick_status rc = find_model(a, &err);
    if (!rc && a->v[WK_ARG_JOB].given) {
        wk_emit_fini(&e);
        return wk_wall_child_main(a);
    }
    wk_wall *w = wk_new(wk_wall);
    if (!w && !rc) rc = wk_fail(&err, WICK_E_NOMEM, "no memory for the rows");
    if (rc) {
        wk_free(w);
        return wk_emit_finish(&e, rc, &err, 1);
    }
    w->args = *a;
    w->b.args = &w->args;
    w->b.emit = &e;
    w->b.depth_limit = INT32_MAX;
    pthread_mutex_init(&w->b.lock, NULL);
    wk_progress_init(&w->b.progress, e.quiet, wk_args_color(a, 2));
    wk_signals_open();
    rc = make_room(w, &err);
    if (!rc) rc = run(w, &err);
    wk_progress_clear(&w->b.progress);
    wk_round_close(&w->b);
    wk_wall_folder_remove(w);
    const int code = exit_code(w);
    const wick_setup_options quiet = WICK_SETUP_OPTIONS_INIT;
    (void)wick_setup(&quiet, NULL); /* the sink points into w */
    wk_signals_close();
    pthread_mutex_destroy(&w->b.lock);
    wk_free(w->b.row);
    wk_free(w->b.passes);
    wk_free(w->report.cell);
    wk_buf_fini(&w->report.text);
    wk_free(w);
    return wk_emit_finish(&e, rc, &err, code);
}

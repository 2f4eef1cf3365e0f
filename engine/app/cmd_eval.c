/* cmd_eval.c: what a model knows: perplexity, distance to another model, tasks with right answers, samples. */
#include <stdio.h>
#include <string.h>

#include "engine/app/cmd.h"
#include "engine/app/eval_impl.h"
#include "engine/app/signals.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"

enum { WINDOW = 512, ROOM = 2048 };

typedef struct wish {
    int n;
    wk_eval_task task[WK_EVAL_TASK_COUNT];
    int32_t n_ctx;
} wish;

static int task_of(wk_str s) {
    for (int i = 0; i < WK_EVAL_TASK_COUNT; i++)
        if (wk_str_is(s, wk_eval_task_name((wk_eval_task)i))) return i;
    return -1;
}

static bool has(const wish *w, wk_eval_task t) {
    for (int i = 0; i < w->n; i++)
        if (w->task[i] == t) return true;
    return false;
}

static wick_status read_tasks(wish *w, const wk_args *a, wick_error *err) {
    const char *p = a->v[WK_ARG_TASK].given ? a->v[WK_ARG_TASK].s : a->v[WK_ARG_KL].given ? "kl" : "ppl";
    while (*p) {
        const size_t n = strcspn(p, ",");
        const int t = task_of((wk_str){p, n});
        if (t < 0)
            return wk_fail(err, WICK_E_ARG,
                           "--task \"%s\" is none of ppl, kl, hellaswag, choice, lastword, exact, samples",
                           wk_show((wk_str){p, n}).text);
        if (has(w, (wk_eval_task)t))
            return wk_fail(err, WICK_E_ARG, "--task names %s twice", wk_eval_task_name((wk_eval_task)t));
        w->task[w->n++] = (wk_eval_task)t;
        p += n + (p[n] == ',');
    }
    return w->n ? WICK_OK : wk_fail(err, WICK_E_ARG, "--task is empty");
}

/* FILE for every task, or TASK=FILE for one. */
static wick_status read_data(wk_eval *e, const wish *w, wick_error *err) {
    size_t n = 0;
    const char *const *list = wk_args_list(e->args, WK_ARG_EVAL_DATA, &n);
    for (size_t i = 0; i < n; i++) {
        const size_t name = strcspn(list[i], "=");
        const int t = list[i][name] == '=' ? task_of((wk_str){list[i], name}) : -1;
        if (t >= 0) e->data[t] = list[i] + name + 1;
        for (int k = 0; t < 0 && k < WK_EVAL_TASK_COUNT; k++)
            if (!e->data[k]) e->data[k] = list[i];
    }
    for (int i = 0; i < w->n; i++)
        if (!e->data[w->task[i]] && w->task[i] != WK_EVAL_SAMPLES)
            return wk_fail(err, WICK_E_ARG, "%s wants a file: --data FILE", wk_eval_task_name(w->task[i]));
    return WICK_OK;
}

static wick_status read_wish(wk_eval *e, wish *w, wick_error *err) {
    const wk_args *a = e->args;
    WK_TRY(read_tasks(w, a, err));
    WK_TRY(read_data(e, w, err));
    const bool text = has(w, WK_EVAL_PPL) || has(w, WK_EVAL_KL);
    w->n_ctx = a->v[WK_ARG_EVAL_CTX].given ? (int32_t)a->v[WK_ARG_EVAL_CTX].i : text ? WINDOW : ROOM;
    e->limit = a->v[WK_ARG_LIMIT].i;
    if (has(w, WK_EVAL_KL) && !a->v[WK_ARG_KL].given)
        return wk_fail(err, WICK_E_ARG, "kl wants another model to compare with: --kl FILE.gguf");
    if (a->v[WK_ARG_MAX_KL].given && !has(w, WK_EVAL_KL))
        return wk_fail(err, WICK_E_ARG, "--max-kl wants the task kl and --kl FILE.gguf");
    if (a->n_positional)
        return wk_fail(err, WICK_E_ARG, "\"%s\" is one argument too many; eval wants one model",
                       wk_show(wk_cstr(a->positional[0])).text);
    return WICK_OK;
}

static wick_status run_tasks(wk_eval *e, const wish *w, wick_error *err) {
    static wick_status (*const run[WK_EVAL_TASK_COUNT])(wk_eval *, wick_error *) = {
        wk_eval_ppl, wk_eval_kl, wk_eval_hellaswag, wk_eval_choice, wk_eval_lastword, wk_eval_exact, wk_eval_samples};
    for (int i = 0; i < w->n; i++) {
        wick_status rc = run[w->task[i]](e, err);
        if (!rc && e->rival.path) rc = wk_eval_pair(e, w->task[i], run[w->task[i]], err);
        wk_progress_clear(&e->progress);
        if (rc) return rc;
    }
    return WICK_OK;
}

static wick_status run(wk_eval *e, wk_args *a, wick_error *err) {
    wish w = {0};
    WK_TRY(wk_args_model(a, err));
    WK_TRY(read_wish(e, &w, err));
    WK_TRY(wk_eval_setup(e, err));
    WK_TRY(wk_eval_open(e, &e->m, e->args->model_path, w.n_ctx, err));
    if (has(&w, WK_EVAL_KL)) WK_TRY(wk_eval_open(e, &e->other, e->args->v[WK_ARG_KL].s, w.n_ctx, err));
    if (a->v[WK_ARG_EVAL_AGAINST].given) WK_TRY(wk_eval_open(e, &e->rival, a->v[WK_ARG_EVAL_AGAINST].s, w.n_ctx, err));
    WK_TRY(run_tasks(e, &w, err));
    wk_eval_put(e);
    return WICK_OK;
}

/* 7: farther away than --max-kl allows. */
static int exit_code(const wk_eval *e) {
    const wk_value *most = &e->args->v[WK_ARG_MAX_KL];
    if (wk_signals_terminated()) return wk_signals_terminated();
    if (!most->given || !(e->kl_mean > most->d)) return 0;
    wk_say(e->emit->quiet, "wick: the mean KL is %.6g, --max-kl is %.6g\n", e->kl_mean, most->d);
    return 7;
}

int wk_cmd_eval(wk_args *a) {
    wick_error err = {0};
    wk_emit emit;
    wk_emit_init(&emit, a);
    wk_eval *e = wk_new(wk_eval);
    if (!e) return wk_emit_finish(&emit, wk_fail(&err, WICK_E_NOMEM, "no memory for the results"), &err, 1);
    e->args = a;
    e->emit = &emit;
    wk_buf_init(&e->text, 0);
    wk_buf_init(&e->samples, 0);
    wk_buf_init(&e->unit[0], 0);
    wk_buf_init(&e->unit[1], 0);
    pthread_mutex_init(&e->lock, NULL);
    wk_progress_init(&e->progress, emit.quiet, wk_args_color(a, 2));
    wk_signals_open();
    const wick_status rc = run(e, a, &err);
    wk_progress_clear(&e->progress);
    int code = rc ? 1 : exit_code(e);
    const int ended = wk_signals_terminated();
    wk_eval_close(&e->m);
    wk_eval_close(&e->other);
    wk_eval_close(&e->rival);
    const wick_setup_options quiet = WICK_SETUP_OPTIONS_INIT;
    (void)wick_setup(&quiet, NULL); /* the sink points into e */
    wk_signals_close();
    pthread_mutex_destroy(&e->lock);
    wk_buf_fini(&e->text);
    wk_buf_fini(&e->samples);
    wk_buf_fini(&e->unit[0]);
    wk_buf_fini(&e->unit[1]);
    wk_free(e);
    code = wk_emit_finish(&emit, rc, &err, code);
    return ended ? ended : code;
}

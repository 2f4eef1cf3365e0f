/* cmd_train.c: train and tune: a model from text, an adapter for a model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/cmd.h"
#include "engine/app/env.h"
#include "engine/app/signals.h"
#include "engine/app/train_impl.h"
#include "engine/base/dir.h"
#include "engine/base/err.h"
#include "engine/base/hash.h"

/* The same file is opened again and again: each warning once. */
static bool is_new(wk_train *t, const char *text, size_t len) {
    const char *colon = memchr(text, ':', len); /* the path of the file */
    const size_t skip = colon ? (size_t)(colon - text) : 0;
    const uint64_t h = wk_hash_bytes((wk_hash){0}, text + skip, len - skip).lo | 1;
    for (size_t i = 0; i < WK_COUNT(t->warned); i++) {
        if (t->warned[i] == h) return false;
        if (t->warned[i]) continue;
        t->warned[i] = h;
        return true;
    }
    return true;
}

static void on_log(void *ud, int level, const char *text, size_t len) {
    wk_train *t = ud;
    if (t->silent) return;
    if (level <= WICK_LOG_WARN && is_new(t, text, len)) {
        wk_progress_clear(&t->progress);
        wk_emit_warning(t->emit, text, len);
    } else if (level > WICK_LOG_WARN && wk_flag(t->args, WK_ARG_VERBOSE)) {
        wk_train_say(t, "%.*s\n", (int)(len < 900 ? len : 900), text);
    }
}

static wick_status setup(wk_train *t, wick_error *err) {
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    o.log = on_log;
    o.log_ud = t;
    o.min_level = WICK_LOG_INFO;
    o.cpu_level = t->args->v[WK_ARG_CPU].s;
    return wick_setup(&o, err);
}

/* ---- --plan -------------------------------------------------------------------------------------- */

/* In a folder for the moment: the sizes of a model that is not there yet need its file. */
static wick_status plan(wk_train *t, int *code, wick_error *err) {
    const char *place = wk_env("TMPDIR");
    if (t->resumed) return wk_fail(err, WICK_E_ARG, "--plan is for a run that has not begun");
    (void)snprintf(t->dir, sizeof(t->dir), "%.3000s/wick-plan-XXXXXX", place ? place : "/tmp");
    if (!mkdtemp(t->dir))
        return wk_fail(err, WICK_E_IO, "%s: no folder could be made there", wk_show(wk_cstr(t->dir)).text);
    wick_status rc = wk_train_sketch(t, err);
    if (!rc) rc = wk_train_plan(t, code, err);
    (void)wk_dir_remove(t->dir, NULL); /* what is left there is the system's to clean */
    return rc;
}

/* ---- the end ------------------------------------------------------------------------------------- */

static const char *kept(const wk_train *t) { return isfinite(t->best_val) ? "best" : "latest"; }

/* The adapter, or the model, that the command line asked for, from the checkpoint that did best on what was held out. */
static wick_status deliver(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH + 32];
    wk_run *r = &t->run;
    (void)snprintf(path, sizeof(path), "%s/%s/%s", t->dir, kept(t), t->tune ? "adapter.gguf" : "model.gguf");
    if (r->out[0]) WK_TRY(wk_train_copy(path, r->out, err));
    if (!r->merge[0]) return WICK_OK;
    wk_train_say(t, "merging into %s\n", wk_show(wk_cstr(r->merge)).text);
    return wick_x_merge(r->model, path, 1.0, r->type[0] ? r->type : NULL, r->merge, err);
}

static void say_use(wk_train *t) {
    const wk_run *r = &t->run;
    const char *prompt = r->prompt[0] && !strchr(r->prompt, '"') && strlen(r->prompt) < 60 ? r->prompt : "...";
    char path[WK_RUN_PATH + 32];
    (void)snprintf(path, sizeof(path), "%s/%s/%s", t->dir, kept(t), t->tune ? "adapter.gguf" : "model.gguf");
    const char *result = r->out[0] ? r->out : path;
    wk_train_say(t, "report     %s/report.html\n", t->dir);
    if (t->tune)
        wk_train_say(t, "use        wick run %s --lora %s \"%s\"\n", r->model, result, prompt);
    else
        wk_train_say(t, "use        wick run %s %s\"%s\"\n", result, r->sample_chat ? "" : "--raw ", prompt);
    if (r->merge[0]) wk_train_say(t, "merged     wick run %s \"%s\"\n", r->merge, prompt);
}

static void say_done(wk_train *t, int code) {
    char val[96] = "", loss[48] = "";
    if (isfinite(t->loss)) (void)snprintf(loss, sizeof(loss), " \xc2\xb7 loss %.4g", t->loss);
    if (isfinite(t->val))
        (void)snprintf(val, sizeof(val), " \xc2\xb7 val %.4g, %.3g bits a byte (best %.4g at step %lld)", t->val, t->bpb,
                       t->best_val, (long long)t->best_step);
    wk_train_say(t, "%s     %lld of %lld steps%s%s \xc2\xb7 %s\n", code ? "ended " : "done  ", (long long)t->step,
                 (long long)t->run.steps, loss, val, wk_word_time(wk_train_now() - t->begun).text);
}

static void say_resume(wk_train *t) {
    if (t->saved >= 0)
        wk_train_say(t, "saved at step %lld; go on with: wick %s --resume %s\n", (long long)t->saved, t->run.command,
                     t->dir);
}

static void emit_done(wk_train *t, int code) {
    wk_emit *e = t->emit;
    char path[WK_RUN_PATH + 32];
    if (e->mode == WK_EMIT_TEXT) return;
    (void)snprintf(path, sizeof(path), "%s/%s/%s", t->dir, kept(t), t->tune ? "adapter.gguf" : "model.gguf");
    wk_emit_begin(e, "done");
    wk_emit_str(e, "finish", wk_cstr(code ? "interrupted" : "done"));
    wk_emit_str(e, "run", wk_cstr(t->dir));
    wk_emit_int(e, "step", t->step);
    wk_emit_int(e, "steps", t->run.steps);
    wk_emit_int(e, "saved", t->saved);
    wk_emit_num(e, "loss", t->loss);
    wk_emit_num(e, "val", t->val);
    wk_emit_num(e, "bits_per_byte", t->bpb);
    wk_emit_num(e, "best_val", t->best_val);
    wk_emit_int(e, "best_step", t->best_step);
    wk_emit_str(e, "result", wk_cstr(!code && t->run.out[0] ? t->run.out : path));
    wk_emit_num(e, "seconds", wk_train_now() - t->begun);
    wk_emit_done(e);
}

/* ---- a run --------------------------------------------------------------------------------------- */

/* What the others of a job wait for. */
static wick_status make_files(wk_train *t, bool *done, wick_error *err) {
    WK_TRY(wk_train_enter(t, err));
    if (!t->resumed) WK_TRY(wk_train_files(t, done, err));
    if (*done) return WICK_OK;
    if (!t->resumed) WK_TRY(wk_train_choose(t, err));
    WK_TRY(wk_run_save(t, err));
    return wk_flag(t->args, WK_ARG_RANKS) ? wk_train_call(t, err) : WICK_OK;
}

static wick_status run(wk_train *t, int *code, wick_error *err) {
    bool done = false;
    if (t->silent)
        WK_TRY(wk_train_wait(t, err));
    else
        WK_TRY(make_files(t, &done, err));
    if (done) {
        wk_train_say(t, "%s: ready; the same command without --until goes on from here\n",
                     wk_show(wk_cstr(t->dir)).text);
        return WICK_OK;
    }
    WK_TRY(wk_train_open(t, err));
    if (!t->silent) WK_TRY(wk_log_open(t, err));
    wick_status rc = wk_train_steps(t, code, err);
    if (t->silent) return rc;
    wk_progress_clear(&t->progress);
    if (!rc && !*code) rc = deliver(t, err);
    if (!rc) say_done(t, *code);
    if (!rc) wk_train_say_mix(t);
    if (!rc && !*code) say_use(t);
    if (rc || *code) say_resume(t);
    if (!rc) emit_done(t, *code);
    return rc;
}

static wick_status command(wk_train *t, int *code, wick_error *err) {
    WK_TRY(setup(t, err));
    WK_TRY(wk_train_read(t, err));
    wk_energy_open(&t->energy, "", t->args->v[WK_ARG_WATTS].d);
    return wk_flag(t->args, WK_ARG_TRAIN_PLAN) ? plan(t, code, err) : run(t, code, err);
}

static int train_or_tune(const wk_args *a, bool tune) {
    wick_error err = {0};
    wk_emit e;
    int code = 0;
    wk_emit_init(&e, a);
    wk_train t = {.args = a,
                  .emit = &e,
                  .tune = tune,
                  .quiet = e.quiet,
                  .lock = -1,
                  .n_rank = 1,
                  .begun = wk_train_now(),
                  .saved = -1,
                  .loss = (double)NAN,
                  .val = (double)NAN,
                  .bpb = (double)NAN,
                  .best_val = (double)NAN};
    t.silent = wk_flag(a, WK_ARG_RANKS) && wk_train_is_follower();
    wk_progress_init(&t.progress, e.quiet, wk_args_color(a, 2));
    wk_buf_init(&t.names, 1 << 20);
    wk_buf_init(&t.line, 0);
    wk_signals_open();
    const wick_status rc = command(&t, &code, &err);
    wk_progress_clear(&t.progress);
    wick_x_trainer_close(t.trainer);
    wk_train_leave(&t);
    wk_buf_fini(&t.names);
    wk_buf_fini(&t.line);
    const wick_setup_options quiet = WICK_SETUP_OPTIONS_INIT;
    (void)wick_setup(&quiet, NULL); /* the sink points into t */
    const int ended = rc == WICK_E_CANCELED ? wk_signals_terminated() : 0;
    wk_signals_close();
    const int last = wk_emit_finish(&e, rc, &err, code);
    return ended ? ended : last;
}

int wk_cmd_train(wk_args *a) { return train_or_tune(a, false); }
int wk_cmd_tune(wk_args *a) { return train_or_tune(a, true); }

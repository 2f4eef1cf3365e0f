/* cmd_plan.c: will it fit, and the steps that a model becomes. */
#include "engine/app/cmd.h"
#include "engine/app/emit.h"
#include "engine/base/err.h"
#include "engine/wick_x.h"

static wick_status steps(const wk_args *a, wk_emit *e, wick_error *err) {
    size_t len = 0;
    WK_TRY(wick_x_steps(a->model_path, NULL, 0, &len, err));
    wk_buf b;
    wk_buf_init(&b, 0);
    char *text = wk_buf_room(&b, len + 1);
    const wick_status rc = text ? wick_x_steps(a->model_path, text, len + 1, &len, err)
                                : wk_fail(err, WICK_E_NOMEM, "no memory for the step list");
    if (!rc && e->mode == WK_EMIT_TEXT) {
        (void)wk_out_write(&e->out, text, len); /* kept in out.error */
    } else if (!rc) {
        wk_emit_begin(e, "done");
        wk_emit_str(e, "model", wk_cstr(a->model_path));
        wk_emit_str(e, "steps", (wk_str){text, len});
        wk_emit_done(e);
    }
    wk_buf_fini(&b);
    return rc;
}

static const char *verdict(const wick_fit_result *f, int *code) {
    const bool tight = f->fits && (double)f->need > 0.9 * (double)f->available;
    *code = f->fits ? tight ? 3 : 0 : 4;
    return f->fits ? tight ? "tight" : "fits" : "does not fit";
}

static void put_table(wk_emit *e, const wick_fit_result *f, const char *word) {
    wk_buf *b = &e->line;
    (void)wk_buf_addf(b, "weights      %9.1f MB\nKV cache     %9.1f MB  (%d tokens, f16)\nactivations  %9.1f MB\n",
                      (double)f->weights / 1e6, (double)f->kv / 1e6, (int)f->n_ctx, (double)f->activations / 1e6);
    (void)wk_buf_addf(b, "needs        %9.1f MB  (with 67 MB of margin)\navailable    %9.1f MB\nverdict      %s\n",
                      (double)f->need / 1e6, (double)f->available / 1e6, word);
    if (!b->failed) (void)wk_out_write(&e->out, b->p, b->n); /* kept in out.error */
}

static void put_object(wk_emit *e, const wk_args *a, const wick_fit_result *f, const char *word) {
    wk_emit_begin(e, "done");
    wk_emit_str(e, "model", wk_cstr(a->model_path));
    wk_emit_str(e, "verdict", wk_cstr(word));
    wk_emit_int(e, "need", (int64_t)f->need);
    wk_emit_int(e, "available", (int64_t)f->available);
    wk_emit_int(e, "weights", (int64_t)f->weights);
    wk_emit_int(e, "kv", (int64_t)f->kv);
    wk_emit_int(e, "activations", (int64_t)f->activations);
    wk_emit_int(e, "n_ctx", f->n_ctx);
    wk_emit_int(e, "threads", f->threads);
    wk_emit_done(e);
}

static wick_status memory(const wk_args *a, wk_emit *e, int *code, wick_error *err) {
    wick_fit_result f = WICK_FIT_RESULT_INIT;
    WK_TRY(wick_fit(a->model_path, NULL, &f, err));
    const char *word = verdict(&f, code);
    if (e->mode == WK_EMIT_TEXT)
        put_table(e, &f, word);
    else
        put_object(e, a, &f, word);
    return WICK_OK;
}

int wk_cmd_plan(wk_args *a) {
    wick_error err = {0};
    wk_emit e;
    int code = 0;
    wk_emit_init(&e, a);
    wick_status rc = wk_args_model(a, &err);
    if (!rc) rc = wk_flag(a, WK_ARG_STEPS) ? steps(a, &e, &err) : memory(a, &e, &code, &err);
    return wk_emit_finish(&e, rc, &err, code);
}

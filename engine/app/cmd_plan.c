/* cmd_plan.c: will it fit, and the steps that a model becomes. */
#include "engine/app/cmd.h"
#include "engine/app/out.h"
#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/wick_x.h"

static wick_status steps(const wk_args *a, wk_out *out, wick_error *err) {
    size_t len = 0;
    WK_TRY(wick_x_steps(a->model_path, NULL, 0, &len, err));
    wk_buf b;
    wk_buf_init(&b, 0);
    char *text = wk_buf_room(&b, len + 1);
    const wick_status rc = text ? wick_x_steps(a->model_path, text, len + 1, &len, err)
                                : wk_fail(err, WICK_E_NOMEM, "no memory for the step list");
    if (!rc) (void)wk_out_write(out, text, len); /* kept in out->error */
    wk_buf_fini(&b);
    return rc;
}

static wick_status memory(const wk_args *a, wk_out *out, int *code, wick_error *err) {
    wick_fit_result f = WICK_FIT_RESULT_INIT;
    wk_buf b;
    WK_TRY(wick_fit(a->model_path, NULL, &f, err));
    wk_buf_init(&b, 0);
    (void)wk_buf_addf(&b, "weights      %9.1f MB\nKV cache     %9.1f MB  (%d tokens, f16)\nactivations  %9.1f MB\n",
                      (double)f.weights / 1e6, (double)f.kv / 1e6, (int)f.n_ctx, (double)f.activations / 1e6);
    (void)wk_buf_addf(&b, "needs        %9.1f MB  (with 67 MB of margin)\navailable    %9.1f MB\n", (double)f.need / 1e6,
                      (double)f.available / 1e6);
    const bool tight = f.fits && (double)f.need > 0.9 * (double)f.available;
    (void)wk_buf_adds(&b, f.fits ? tight ? "verdict      tight\n" : "verdict      fits\n" : "verdict      does not fit\n");
    *code = f.fits ? tight ? 3 : 0 : 4;
    (void)wk_out_write(out, b.p, b.n); /* kept in out->error */
    const bool failed = b.failed;
    wk_buf_fini(&b);
    return failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the table") : WICK_OK;
}

int wk_cmd_plan(wk_args *a) {
    wick_error err = {0};
    int code = 0;
    wk_out out = wk_out_stdout();
    wick_status rc = wk_args_model(a, &err);
    if (!rc) rc = wk_flag(a, WK_ARG_STEPS) ? steps(a, &out, &err) : memory(a, &out, &code, &err);
    if (!rc) rc = wk_out_end(&out, &err);
    if (!rc) return code;
    err.code = rc;
    return wk_report(&err);
}

/* cmd_plan.c: will it fit, and the steps that a model becomes. */
#include "engine/app/cmd.h"
#include "engine/app/emit.h"
#include "engine/app/session.h"
#include "engine/base/err.h"
#include "engine/wick_x.h"

static wick_status steps(const wk_args *a, wk_emit *e, wick_error *err) {
    size_t len = 0;
    const wick_engine_options o = wk_session_engine(a);
    WK_TRY(wick_x_steps(a->model_path, &o, NULL, 0, &len, err));
    wk_buf b;
    wk_buf_init(&b, 0);
    char *text = wk_buf_room(&b, len + 1);
    const wick_status rc = text ? wick_x_steps(a->model_path, &o, text, len + 1, &len, err)
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
    const bool tight = f->fits && ((double)f->need > 0.9 * (double)f->available ||
                                   (f->device_free && (double)f->device_need > 0.9 * (double)f->device_free));
    *code = f->fits ? tight ? 3 : 0 : 4;
    return f->fits ? tight ? "tight" : "fits" : "does not fit";
}

static bool is_device_full(const wick_fit_result *f) { return f->device_free && f->device_need > f->device_free; }

enum { CTX_STEP = 256 };

/* The longest context that fits, in steps of 256 tokens: the smallest change that helps. 0: none does. */
static int32_t longest_context(const wk_args *a, const wick_fit_result *f) {
    int32_t low = 0, high = f->n_ctx / CTX_STEP;
    while (low < high) {
        wick_engine_options o = wk_session_engine(a);
        wick_fit_result g = WICK_FIT_RESULT_INIT;
        const int32_t mid = (low + high + 1) / 2;
        o.n_ctx = mid * CTX_STEP;
        if (wick_fit(a->model_path, &o, &g, NULL) == WICK_OK && g.fits)
            low = mid;
        else
            high = mid - 1;
    }
    return low * CTX_STEP;
}

static void put_table(wk_emit *e, const wk_args *a, const wick_fit_result *f, const char *word, int32_t fitting) {
    static const char *const kv[] = {"f16", "f32", "bf16", "q8_0"};
    wk_buf *b = &e->line;
    (void)wk_buf_addf(b, "weights      %9.1f MB\nKV cache     %9.1f MB  (%d tokens, %s)\nactivations  %9.1f MB\n",
                      (double)f->weights / 1e6, (double)f->kv / 1e6, (int)f->n_ctx, kv[a->v[WK_ARG_KV].i],
                      (double)f->activations / 1e6);
    if (f->gpu_layers) /* the lines above are what is left for this machine */
        (void)wk_buf_addf(b, "on device    %9.1f MB  of %.1f MB free\ndevice       %s\n", (double)f->device_need / 1e6,
                          (double)f->device_free / 1e6, f->device);
    (void)wk_buf_addf(b, "needs        %9.1f MB  (with 67 MB of margin)\navailable    %9.1f MB\nverdict      %s\n",
                      (double)f->need / 1e6, (double)f->available / 1e6, word);
    if (is_device_full(f))
        (void)wk_buf_adds(b, "fits with    fewer layers on the device: --gpu-layers auto takes what fits\n");
    else if (!f->fits && fitting)
        (void)wk_buf_addf(b, "fits with    --ctx %d\n", (int)fitting);
    else if (!f->fits)
        (void)wk_buf_adds(b, "fits with    no context at all: the weights are too large for this machine\n");
    if (!b->failed) (void)wk_out_write(&e->out, b->p, b->n); /* kept in out.error */
}

static void put_object(wk_emit *e, const wk_args *a, const wick_fit_result *f, const char *word, int32_t fitting) {
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
    wk_emit_str(e, "device", wk_cstr(f->device));
    wk_emit_int(e, "layers", f->n_layer);
    wk_emit_int(e, "gpu_layers", f->gpu_layers);
    if (f->gpu_layers) wk_emit_int(e, "device_need", (int64_t)f->device_need);
    if (f->gpu_layers) wk_emit_int(e, "device_free", (int64_t)f->device_free);
    if (!f->fits && !is_device_full(f)) wk_emit_int(e, "ctx_that_fits", fitting);
    wk_emit_done(e);
}

static wick_status memory(const wk_args *a, wk_emit *e, int *code, wick_error *err) {
    wick_fit_result f = WICK_FIT_RESULT_INIT;
    const wick_engine_options o = wk_session_engine(a);
    WK_TRY(wick_fit(a->model_path, &o, &f, err));
    const char *word = verdict(&f, code);
    const int32_t fitting = f.fits || is_device_full(&f) ? 0 : longest_context(a, &f);
    if (e->mode == WK_EMIT_TEXT)
        put_table(e, a, &f, word, fitting);
    else
        put_object(e, a, &f, word, fitting);
    return WICK_OK;
}

static void on_log(void *ud, int level, const char *text, size_t len) {
    if (level <= WICK_LOG_WARN) wk_emit_warning(ud, text, len);
}

/* Warnings: layers that stay on the cpu, threads without CPUs. */
static void listen(wk_emit *e) {
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    if (e) o.log = on_log;
    o.log_ud = e;
    (void)wick_setup(&o, NULL); /* no level is asked for */
}

int wk_cmd_plan(wk_args *a) {
    wick_error err = {0};
    wk_emit e;
    int code = 0;
    wk_emit_init(&e, a);
    listen(&e);
    wick_status rc = wk_args_model(a, &err);
    if (!rc) rc = wk_flag(a, WK_ARG_STEPS) ? steps(a, &e, &err) : memory(a, &e, &code, &err);
    listen(NULL);
    return wk_emit_finish(&e, rc, &err, code);
}

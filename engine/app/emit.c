/* emit.c: see emit.h. Failed appends stay in line.failed and become "no memory" in wk_emit_finish. */
#include "engine/app/emit.h"

#include <math.h>
#include <string.h>

#include "engine/base/err.h"
#include "engine/base/json.h"

void wk_emit_init(wk_emit *e, const wk_args *a) {
    *e = (wk_emit){.command = wk_args_command_name(a->cmd), .quiet = wk_flag(a, WK_ARG_QUIET), .out = wk_out_stdout()};
    if (wk_flag(a, WK_ARG_JSON)) e->mode = WK_EMIT_JSON;
    if (wk_flag(a, WK_ARG_JSONL)) e->mode = WK_EMIT_JSONL;
    wk_buf_init(&e->line, 0);
    wk_buf_init(&e->warnings, 1 << 20);
}

void wk_emit_fini(wk_emit *e) {
    wk_buf_fini(&e->line);
    wk_buf_fini(&e->warnings);
}

void wk_emit_begin(wk_emit *e, const char *type) {
    wk_buf_reset(&e->line);
    (void)wk_buf_addf(&e->line, "{\"schema\":\"wick.%s/1\"", e->command);
    if (e->mode == WK_EMIT_JSONL) wk_emit_str(e, "type", wk_cstr(type));
}

void wk_emit_key(wk_emit *e, const char *key) { (void)wk_buf_addf(&e->line, ",\"%s\":", key); }

void wk_emit_str(wk_emit *e, const char *key, wk_str s) {
    wk_emit_key(e, key);
    wk_json_put_str(&e->line, s);
}

void wk_emit_int(wk_emit *e, const char *key, int64_t v) {
    wk_emit_key(e, key);
    (void)wk_buf_addf(&e->line, "%lld", (long long)v);
}

void wk_emit_num(wk_emit *e, const char *key, double v) {
    wk_emit_key(e, key);
    if (isfinite(v))
        (void)wk_buf_addf(&e->line, "%.6g", v);
    else
        (void)wk_buf_adds(&e->line, "null");
}

void wk_emit_bool(wk_emit *e, const char *key, bool v) {
    wk_emit_key(e, key);
    (void)wk_buf_adds(&e->line, v ? "true" : "false");
}

void wk_emit_end(wk_emit *e) {
    (void)wk_buf_adds(&e->line, "}\n");
    if (!e->line.failed) (void)wk_out_write(&e->out, e->line.p, e->line.n); /* kept in out.error */
}

static void put_warnings(wk_emit *e) {
    wk_emit_key(e, "warnings");
    (void)wk_buf_addc(&e->line, '[');
    (void)wk_buf_add(&e->line, e->warnings.p, e->warnings.n);
    (void)wk_buf_addc(&e->line, ']');
}

void wk_emit_done(wk_emit *e) {
    put_warnings(e);
    wk_emit_end(e);
}

void wk_emit_warning(wk_emit *e, const char *text, size_t n) {
    wk_say(e->quiet, "warning: %.*s\n", (int)n, text);
    if (e->warnings.n) (void)wk_buf_addc(&e->warnings, ',');
    wk_json_put_str(&e->warnings, (wk_str){text, n});
    if (e->mode != WK_EMIT_JSONL) return;
    wk_emit_begin(e, "warning");
    wk_emit_str(e, "text", (wk_str){text, n});
    wk_emit_end(e);
}

static void put_error(wk_emit *e, const wick_error *err) {
    char word[32];
    const char *message = err->message[0] ? err->message : wick_strerror(err->code);
    wk_emit_begin(e, "error");
    wk_emit_key(e, "error");
    (void)wk_buf_adds(&e->line, "{\"message\":");
    wk_json_put_str(&e->line, wk_cstr(message));
    (void)wk_buf_addf(&e->line, ",\"type\":\"%s\",\"param\":null,\"code\":%d}", wk_status_word(err->code, word),
                      (int)err->code);
    wk_emit_done(e);
}

int wk_emit_finish(wk_emit *e, wick_status rc, wick_error *err, int code) {
    if (!rc && (e->line.failed || e->warnings.failed)) rc = wk_fail(err, WICK_E_NOMEM, "no memory for the output");
    if (!rc) rc = wk_out_end(&e->out, err);
    if (rc) {
        err->code = rc;
        if (e->mode != WK_EMIT_TEXT) put_error(e, err);
        code = wk_report(err);
    }
    wk_emit_fini(e);
    return code;
}

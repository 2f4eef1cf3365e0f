/* cmd_show.c: what a model file holds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/cmd.h"
#include "engine/app/emit.h"
#include "engine/base/err.h"
#include "engine/base/json.h"
#include "engine/base/str.h"
#include "engine/wick_x.h"

enum { SHOW_MAX = 256 << 20 };

static const char *const keys[][2] = {
    {"name", "name"}, {"architecture", "arch"}, {"parameters", "n_param"}, {"bytes", "bytes"}, {"format", "format"},
    {"layers", "n_layer"}, {"dim", "dim"}, {"heads", "n_head"}, {"kv heads", "n_head_kv"}, {"context", "n_ctx"},
    {"vocabulary", "n_vocab"}, {"tokenizer", "tokenizer"}, {"bos", "bos"}, {"eos", "eos"}};

static size_t template_len(const wick_model *m) {
    size_t len = 0;
    return wick_model_get(m, "chat_template", NULL, 0, &len) == WICK_OK ? len : 0;
}

/* ---- table --------------------------------------------------------------------------------------- */

static void add_summary(wk_buf *b, const wick_model *m, const char *path) {
    (void)wk_buf_addf(b, "%-14s %s\n", "file", wk_show(wk_cstr(path)).text); /* failure stays in b, as below */
    for (size_t i = 0; i < WK_COUNT(keys); i++) {
        char v[256];
        if (wick_model_get(m, keys[i][1], v, sizeof(v), NULL)) continue;
        (void)wk_buf_addf(b, "%-14s %s\n", keys[i][0], wk_show(wk_cstr(v)).text);
    }
    if (template_len(m))
        (void)wk_buf_addf(b, "%-14s %zu bytes (--template prints it)\n", "chat template", template_len(m));
    else
        (void)wk_buf_addf(b, "%-14s none: `wick run --raw` continues a text, chat is refused\n", "chat template");
}

static void add_meta(wk_buf *b, const wick_model *m) {
    (void)wk_buf_adds(b, "\nmetadata\n");
    const char *key;
    size_t n;
    char v[160];
    for (size_t i = 0; wick_x_meta(m, i, &key, &n, v, sizeof(v)) == WICK_OK; i++)
        (void)wk_buf_addf(b, "  %-44s %s\n", wk_show((wk_str){key, n}).text, v);
}

static void add_tensors(wk_buf *b, const wick_model *m) {
    (void)wk_buf_adds(b, "\ntensors\n");
    const char *name, *format;
    size_t n;
    uint64_t ne[4], bytes;
    int n_dim;
    for (size_t i = 0; wick_x_tensor(m, i, &name, &n, &format, ne, &n_dim, &bytes) == WICK_OK; i++) {
        (void)wk_buf_addf(b, "  %-36s %-7s [", wk_show((wk_str){name, n}).text, format);
        for (int d = 0; d < n_dim; d++) (void)wk_buf_addf(b, "%s%llu", d ? ", " : "", (unsigned long long)ne[d]);
        (void)wk_buf_addf(b, "] %llu bytes\n", (unsigned long long)bytes);
    }
}

/* ---- object -------------------------------------------------------------------------------------- */

/* Whole numbers as numbers, everything else as text. */
static void emit_value(wk_emit *e, const char *key, const char *v) {
    char *end;
    errno = 0;
    const long long i = strtoll(v, &end, 10);
    if (*v && *end == 0 && errno == 0)
        wk_emit_int(e, key, i);
    else
        wk_emit_str(e, key, wk_cstr(v));
}

static void emit_meta(wk_emit *e, const wick_model *m) {
    const char *key;
    size_t n;
    char v[1024];
    wk_emit_key(e, "metadata");
    (void)wk_buf_addc(&e->line, '{'); /* failure stays in line, as below */
    for (size_t i = 0; wick_x_meta(m, i, &key, &n, v, sizeof(v)) == WICK_OK; i++) {
        if (i) (void)wk_buf_addc(&e->line, ',');
        wk_json_put_str(&e->line, (wk_str){key, n});
        (void)wk_buf_addc(&e->line, ':');
        wk_json_put_str(&e->line, wk_cstr(v));
    }
    (void)wk_buf_addc(&e->line, '}');
}

static void emit_tensors(wk_emit *e, const wick_model *m) {
    const char *name, *format;
    size_t n;
    uint64_t ne[4], bytes;
    int n_dim;
    wk_buf *b = &e->line;
    wk_emit_key(e, "tensors");
    (void)wk_buf_addc(b, '[');
    for (size_t i = 0; wick_x_tensor(m, i, &name, &n, &format, ne, &n_dim, &bytes) == WICK_OK; i++) {
        (void)wk_buf_adds(b, i ? ",{\"name\":" : "{\"name\":");
        wk_json_put_str(b, (wk_str){name, n});
        (void)wk_buf_addf(b, ",\"format\":\"%s\",\"bytes\":%llu,\"shape\":[", format, (unsigned long long)bytes);
        for (int d = 0; d < n_dim; d++) (void)wk_buf_addf(b, "%s%llu", d ? "," : "", (unsigned long long)ne[d]);
        (void)wk_buf_adds(b, "]}");
    }
    (void)wk_buf_addc(b, ']');
}

static wick_status add_template(wk_buf *b, const wick_model *m, wick_error *err) {
    size_t len = template_len(m);
    if (len == 0) return wk_fail(err, WICK_E_TEMPLATE, "the file has no chat template");
    char *text = wk_buf_room(b, len + 1);
    if (!text || wick_model_get(m, "chat_template", text, len + 1, &len))
        return wk_fail(err, WICK_E_NOMEM, "no memory for a template of %zu bytes", len);
    b->n--; /* the NUL */
    return WICK_OK;
}

static wick_status show_object(const wk_args *a, wk_emit *e, const wick_model *m, wick_error *err) {
    wk_buf text;
    wick_status rc = WICK_OK;
    wk_buf_init(&text, 0);
    wk_emit_begin(e, "done");
    wk_emit_str(e, "file", wk_cstr(a->model_path));
    for (size_t i = 0; i < WK_COUNT(keys); i++) {
        char v[256];
        if (wick_model_get(m, keys[i][1], v, sizeof(v), NULL) == WICK_OK) emit_value(e, keys[i][1], v);
    }
    if (template_len(m) || wk_flag(a, WK_ARG_TEMPLATE)) rc = add_template(&text, m, err);
    if (text.n) wk_emit_str(e, "chat_template", wk_buf_str(&text));
    if (!wk_flag(a, WK_ARG_TEMPLATE)) emit_meta(e, m);
    if (wk_flag(a, WK_ARG_TENSORS)) emit_tensors(e, m);
    if (!rc) wk_emit_done(e);
    wk_buf_fini(&text);
    return rc;
}

static wick_status show_table(const wk_args *a, wk_emit *e, const wick_model *m, wick_error *err) {
    wk_buf *b = &e->line;
    if (wk_flag(a, WK_ARG_TEMPLATE)) {
        WK_TRY(add_template(b, m, err));
        (void)wk_buf_addc(b, '\n');
    } else {
        add_summary(b, m, a->model_path);
        add_meta(b, m);
        if (wk_flag(a, WK_ARG_TENSORS)) add_tensors(b, m);
    }
    if (!b->failed) (void)wk_out_write(&e->out, b->p, b->n); /* kept in out.error */
    return WICK_OK;
}

int wk_cmd_show(wk_args *a) {
    wick_error err = {0};
    wick_model *m = NULL;
    wk_emit e;
    wk_emit_init(&e, a);
    e.line.cap = SHOW_MAX;
    wick_status rc = wk_args_model(a, &err);
    if (!rc) rc = wick_model_open(a->model_path, NULL, &m, &err);
    if (!rc) rc = e.mode == WK_EMIT_TEXT ? show_table(a, &e, m, &err) : show_object(a, &e, m, &err);
    wick_model_close(m);
    return wk_emit_finish(&e, rc, &err, 0);
}

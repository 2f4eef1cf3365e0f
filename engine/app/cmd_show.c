/* cmd_show.c: what a model file holds. */
#include <stdio.h>
#include <string.h>

#include "engine/app/cmd.h"
#include "engine/app/out.h"
#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/str.h"
#include "engine/wick_x.h"

static void add_row(wk_buf *b, const wick_model *m, const char *label, const char *key) {
    char v[256];
    if (wick_model_get(m, key, v, sizeof(v), NULL)) return;
    (void)wk_buf_addf(b, "%-14s %s\n", label, wk_show(wk_cstr(v)).text); /* failure stays in b */
}

static void add_summary(wk_buf *b, const wick_model *m, const char *path) {
    (void)wk_buf_addf(b, "%-14s %s\n", "file", path);
    static const char *const keys[][2] = {
        {"name", "name"}, {"architecture", "arch"}, {"parameters", "n_param"}, {"bytes", "bytes"}, {"format", "format"},
        {"layers", "n_layer"}, {"dim", "dim"}, {"heads", "n_head"}, {"kv heads", "n_head_kv"}, {"context", "n_ctx"},
        {"vocabulary", "n_vocab"}, {"tokenizer", "tokenizer"}, {"bos", "bos"}, {"eos", "eos"}};
    for (size_t i = 0; i < WK_COUNT(keys); i++) add_row(b, m, keys[i][0], keys[i][1]);
    size_t len = 0;
    const bool has = wick_model_get(m, "chat_template", NULL, 0, &len) == WICK_OK && len > 0;
    if (has)
        (void)wk_buf_addf(b, "%-14s %zu bytes (--template prints it)\n", "chat template", len);
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

static wick_status add_template(wk_buf *b, const wick_model *m, wick_error *err) {
    size_t len = 0;
    if (wick_model_get(m, "chat_template", NULL, 0, &len) || len == 0)
        return wk_fail(err, WICK_E_TEMPLATE, "the file has no chat template");
    char *text = wk_buf_room(b, len + 1);
    if (!text || wick_model_get(m, "chat_template", text, len + 1, &len))
        return wk_fail(err, WICK_E_NOMEM, "no memory for a template of %zu bytes", len);
    text[len] = '\n';
    return WICK_OK;
}

int wk_cmd_show(wk_args *a) {
    wick_error err = {0};
    wick_model *m = NULL;
    wk_buf b;
    wk_buf_init(&b, (size_t)64 << 20);
    wk_out out = wk_out_stdout();
    wick_status rc = wk_args_model(a, &err);
    if (!rc) rc = wick_model_open(a->model_path, NULL, &m, &err);
    if (!rc && wk_flag(a, WK_ARG_TEMPLATE)) {
        rc = add_template(&b, m, &err);
    } else if (!rc) {
        add_summary(&b, m, a->model_path);
        add_meta(&b, m);
        if (wk_flag(a, WK_ARG_TENSORS)) add_tensors(&b, m);
    }
    if (!rc && b.failed) rc = wk_fail(&err, WICK_E_NOMEM, "no memory for the table");
    if (!rc) (void)wk_out_write(&out, b.p, b.n);
    if (!rc) rc = wk_out_end(&out, &err);
    wick_model_close(m);
    wk_buf_fini(&b);
    if (!rc) return 0;
    err.code = rc;
    return wk_report(&err);
}

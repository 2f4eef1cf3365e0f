/* cmd_tokenize.c: text as ids, pieces and byte offsets. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/cmd.h"
#include "engine/app/emit.h"
#include "engine/base/err.h"
#include "engine/base/json.h"
#include "engine/base/str.h"
#include "engine/wick_x.h"

enum { TEXT_MAX = 256 << 20 };

static wick_status read_text(wk_buf *b, const wk_args *a, wick_error *err) {
    for (size_t i = 0; i < a->n_positional; i++) {
        if (i) (void)wk_buf_addc(b, ' ');
        (void)wk_buf_adds(b, a->positional[i]);
    }
    char tmp[65536];
    while (a->n_positional == 0 && !b->failed) {
        const ssize_t n = read(STDIN_FILENO, tmp, sizeof(tmp));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return wk_fail(err, WICK_E_IO, "stdin could not be read: %s", strerror(errno));
        if (n == 0) break;
        (void)wk_buf_add(b, tmp, (size_t)n);
    }
    return b->failed ? wk_fail(err, WICK_E_ARG, "the text is longer than %d MiB", TEXT_MAX >> 20) : WICK_OK;
}

static void add_lines(wk_buf *b, const wick_model *m, const wick_token *id, size_t n, bool ids_only) {
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        char piece[4096];
        size_t len = 0;
        int control = 0;
        if (ids_only) {
            (void)wk_buf_addf(b, "%s%d", i ? " " : "", (int)id[i]);
            continue;
        }
        (void)wick_x_piece(m, id[i], piece, sizeof(piece), &len, &control); /* ids come from the vocabulary */
        if (len >= sizeof(piece)) len = 0;
        (void)wk_buf_addf(b, "%7d  %6zu  ", (int)id[i], at);
        wk_json_put_str(b, (wk_str){piece, len});
        (void)wk_buf_adds(b, control ? "  control\n" : "\n");
        if (!control) at += len;
    }
    if (ids_only) (void)wk_buf_addc(b, '\n');
}

/* Decodes again; exit 7 if anything is lost. */
static bool round_trip(const wick_model *m, const wick_token *id, size_t n, const wk_buf *text) {
    size_t len = 0;
    wk_buf b;
    wk_buf_init(&b, 0);
    char *back = wk_buf_room(&b, text->n + 64);
    const bool ok = back && wick_detokenize(m, id, n, WICK_TOK_SHOW_SPECIAL, back, text->n + 64, &len) == WICK_OK &&
                    len == text->n && memcmp(back, text->p, len) == 0;
    wk_buf_fini(&b);
    return ok;
}

/* {"id":1,"offset":0,"piece":"a","control":false} of every token, or the ids alone. */
static void emit_tokens(wk_emit *e, const wick_model *m, const wick_token *id, size_t n, bool ids_only) {
    size_t at = 0;
    wk_buf *b = &e->line;
    wk_emit_key(e, ids_only ? "ids" : "tokens");
    (void)wk_buf_addc(b, '['); /* failure stays in b, as below */
    for (size_t i = 0; i < n; i++) {
        char piece[4096];
        size_t len = 0;
        int control = 0;
        if (i) (void)wk_buf_addc(b, ',');
        if (ids_only) {
            (void)wk_buf_addf(b, "%d", (int)id[i]);
            continue;
        }
        (void)wick_x_piece(m, id[i], piece, sizeof(piece), &len, &control); /* ids come from the vocabulary */
        if (len >= sizeof(piece)) len = 0;
        (void)wk_buf_addf(b, "{\"id\":%d,\"offset\":%zu,\"piece\":", (int)id[i], at);
        wk_json_put_str(b, (wk_str){piece, len});
        (void)wk_buf_addf(b, ",\"control\":%s}", control ? "true" : "false");
        if (!control) at += len;
    }
    (void)wk_buf_addc(b, ']');
}

static void put_tokens(const wk_args *a, wk_emit *e, const wick_model *m, const wick_token *id, size_t n,
                       const bool *lost) {
    const bool ids_only = wk_flag(a, WK_ARG_TOKENS);
    if (e->mode == WK_EMIT_TEXT) {
        add_lines(&e->line, m, id, n, ids_only);
        if (!e->line.failed) (void)wk_out_write(&e->out, e->line.p, e->line.n); /* kept in out.error */
        return;
    }
    wk_emit_begin(e, "done");
    wk_emit_str(e, "model", wk_cstr(a->model_path));
    wk_emit_int(e, "n", (int64_t)n);
    emit_tokens(e, m, id, n, ids_only);
    if (wk_flag(a, WK_ARG_CHECK)) wk_emit_bool(e, "lossless", !*lost);
    wk_emit_done(e);
}

static wick_status encode(const wk_args *a, const wick_model *m, const wk_buf *text, wk_emit *e, bool *lost,
                          wick_error *err) {
    const uint32_t flags = wk_flag(a, WK_ARG_SPECIAL) ? WICK_TOK_SPECIAL : 0;
    size_t n = 0;
    const char *p = text->p ? text->p : "";
    const wick_status sized = wick_tokenize(m, p, text->n, flags, NULL, 0, &n);
    if (sized) return wk_fail(err, sized, "the text could not be encoded: %s", wick_strerror(sized));
    wk_buf ids;
    wk_buf_init(&ids, 0);
    wick_token *id = (wick_token *)(void *)wk_buf_room(&ids, (n + 1) * sizeof(*id));
    if (!id) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu tokens", n);
    const wick_status rc = wick_tokenize(m, p, text->n, flags, id, n + 1, &n);
    if (!rc && wk_flag(a, WK_ARG_CHECK)) *lost = !round_trip(m, id, n, text);
    if (!rc) put_tokens(a, e, m, id, n, lost);
    wk_buf_fini(&ids);
    return rc ? wk_fail(err, rc, "the text could not be encoded: %s", wick_strerror(rc)) : WICK_OK;
}

int wk_cmd_tokenize(wk_args *a) {
    static const char changed[] = "the tokens do not decode to the same text";
    wick_error err = {0};
    wick_model *m = NULL;
    wk_buf text;
    wk_emit e;
    bool lost = false;
    wk_emit_init(&e, a);
    wk_buf_init(&text, TEXT_MAX);
    wick_status rc = wk_args_model(a, &err);
    if (!rc) rc = read_text(&text, a, &err);
    if (!rc) rc = wick_model_open(a->model_path, NULL, &m, &err);
    if (!rc) rc = encode(a, m, &text, &e, &lost, &err);
    wick_model_close(m);
    wk_buf_fini(&text);
    const int code = wk_emit_finish(&e, rc, &err, lost ? 7 : 0);
    if (!rc && lost) wk_say(false, "wick: %s\n", changed);
    return code;
}

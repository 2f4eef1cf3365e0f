/* cmd_chat.c: a conversation: a message in, an answer out, commands that begin with a slash. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/cmd.h"
#include "engine/app/dialog.h"
#include "engine/app/signals.h"
#include "engine/base/err.h"
#include "engine/base/os.h"

/* ---- one message --------------------------------------------------------------------------------- */

/* Ends with an odd number of backslashes: the last one joins the next line. */
static bool continues(wk_str s) {
    size_t n = 0;
    while (n < s.n && s.p[s.n - 1 - n] == '\\') n++;
    return n % 2 == 1;
}

/* Lines up to one that ends with three quotes; b holds what stood behind the first three. */
static wk_repl_why read_block(wk_repl *r, wk_buf *b) {
    for (;;) {
        if (wk_str_ends(wk_buf_str(b), WK_STR("\"\"\""))) {
            b->p[b->n -= 3] = 0;
            if (b->n && b->p[b->n - 1] == '\n') b->p[--b->n] = 0;
            return WK_REPL_LINE;
        }
        const wk_repl_why why = wk_repl_read(r, ". ");
        if (why != WK_REPL_LINE) return why;
        if (b->n) (void)wk_buf_addc(b, '\n');
        if (!wk_buf_add(b, r->line.p, r->line.n)) return WK_REPL_TOO_LONG;
    }
}

/* The next message in b. is_text: several lines, so it is no command whatever it begins with. */
static wk_repl_why read_message(wk_repl *r, wk_buf *b, bool *is_text) {
    wk_buf_reset(b);
    *is_text = true;
    wk_repl_why why = wk_repl_read(r, "> ");
    wk_str line = wk_buf_str(&r->line);
    if (why != WK_REPL_LINE) return why;
    if (wk_str_starts(line, WK_STR("\"\"\""))) {
        if (!wk_buf_add(b, line.p + 3, line.n - 3)) return WK_REPL_TOO_LONG;
        return read_block(r, b);
    }
    while (continues(line)) {
        (void)wk_buf_add(b, line.p, line.n - 1); /* checked below */
        (void)wk_buf_addc(b, '\n');
        why = wk_repl_read(r, ". ");
        if (why != WK_REPL_LINE) return why == WK_REPL_END ? WK_REPL_LINE : why;
        line = wk_buf_str(&r->line);
    }
    *is_text = b->n > 0 || (line.n && memchr(line.p, '\n', line.n));
    return wk_buf_add(b, line.n ? line.p : "", line.n) ? WK_REPL_LINE : WK_REPL_TOO_LONG;
}

/* ---- one turn ------------------------------------------------------------------------------------ */

static void say_full(const wk_dialog *d, int32_t n) {
    wk_say(d->s.quiet, "  /clear would free %d tokens, /undo the last message\n", (int)n);
}

/* What was said is kept, unless it is nothing. */
static void keep_answer(wk_dialog *d, size_t before) {
    const wk_answer *a = &d->answer;
    const bool nothing = a->interrupted && a->text.n == 0;
    if (nothing)
        wk_talk_cut(&d->talk, before);
    else
        wk_talk_add(&d->talk, WK_TALK_ASSISTANT, wk_buf_str(&a->text));
    if (a->interrupted)
        wk_say(d->s.quiet, nothing ? "  stopped before the first word; the message is taken back\n"
                                   : "  stopped; what was said is kept\n");
    d->n_used = nothing ? d->n_used : a->result.n_prompt + a->result.n_generated;
}

wick_status wk_dialog_ask(wk_dialog *d, wk_str text, wick_error *err) {
    wick_error said = {0};
    const size_t before = wk_talk_count(&d->talk);
    wk_talk_add(&d->talk, WK_TALK_USER, text);
    wk_talk_request(&d->talk, &d->request);
    if (d->request.failed) return wk_fail(err, WICK_E_NOMEM, "no memory for the conversation");
    wick_request_options o = wk_session_request(&d->s);
    o.chat = d->request.p;
    o.chat_len = d->request.n;
    if (d->args->v[WK_ARG_SEED].given) o.seed += d->n_retry; /* the same seed would give the same answer */
    const wick_status rc = wk_session_answer(&d->s, &o, &d->answer, &said);
    if (rc) {
        wk_talk_cut(&d->talk, before);
        said.code = rc;
        const int code = wk_report(&said);
        if (isatty(STDIN_FILENO) != 1) d->code = code; /* a script learns of it at the end */
        if (rc == WICK_E_CONTEXT) say_full(d, d->n_used);
        return WICK_OK;
    }
    (void)wk_out_write(&d->emit.out, "\n", 1); /* kept in out.error */
    keep_answer(d, before);
    wk_session_footer(&d->s, &d->answer.result);
    if (wk_session_full(&d->s, &d->answer.result)) say_full(d, d->n_used);
    return wk_out_end(&d->emit.out, err);
}

/* The message behind what /file has read. */
static wick_status ask_with_file(wk_dialog *d, wick_error *err) {
    wk_str text = wk_buf_str(&d->message);
    d->n_retry = 0;
    if (d->file.n == 0) return wk_dialog_ask(d, text, err);
    if (!wk_buf_add(&d->file, text.p, text.n)) return wk_fail(err, WICK_E_NOMEM, "no memory for the message");
    const wick_status rc = wk_dialog_ask(d, wk_buf_str(&d->file), err);
    wk_buf_reset(&d->file);
    return rc;
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static wick_status take(wk_dialog *d, bool is_text, wick_error *err) {
    wick_error said = {0};
    if (d->repl.paste_cut) wk_say(false, "  a paste of more than 1 MiB was not taken; /file reads up to 4 MiB\n");
    if (d->message.n == 0) return WICK_OK;
    if (wk_repl_remember(&d->repl, wk_buf_str(&d->message), &said)) {
        wk_say(d->s.quiet, "warning: history: %s; it is not kept any more\n", said.message);
        d->repl.history[0] = 0;
    }
    if (is_text || d->message.p[0] != '/') return ask_with_file(d, err);
    while (d->message.p[d->message.n - 1] == ' ') d->message.p[--d->message.n] = 0;
    const wick_status rc = wk_slash(d, d->message.p, &said);
    if (rc) {
        said.code = rc;
        (void)wk_report(&said);
    }
    return wk_out_end(&d->emit.out, err);
}

/* Ctrl-C at the prompt: it gives up a line; on an empty one it says how to leave, and twice in a second it leaves. */
static void on_interrupt(wk_dialog *d, uint64_t *last) {
    const uint64_t now = wk_os_now_ns();
    if (d->repl.line.n || d->message.n) {
        *last = 0;
        return;
    }
    if (*last && now - *last < 1000000000u) {
        d->leave = true;
        d->code = 130;
        return;
    }
    *last = now;
    wk_say(false, "%s  Ctrl-D or /exit leaves; so does Ctrl-C twice\n", d->repl.edit ? "" : "\n");
}

static wick_status converse(wk_dialog *d, wick_error *err) {
    wick_status rc = WICK_OK;
    uint64_t last = 0;
    bool is_text;
    while (!rc && !d->leave && !wk_signals_terminated()) {
        switch (read_message(&d->repl, &d->message, &is_text)) {
        case WK_REPL_LINE:
            rc = take(d, is_text, err);
            last = 0;
            break;
        case WK_REPL_INTERRUPT:
            on_interrupt(d, &last);
            break;
        case WK_REPL_TOO_LONG:
            return wk_fail(err, WICK_E_ARG, "a message is longer than %d MiB", WK_REPL_LINE_MAX >> 20);
        case WK_REPL_END:
            if (d->message.n) rc = take(d, true, err); /* a block that the end of the input closes */
            d->leave = true;
            if (d->repl.person) wk_say(false, "\n");
            break;
        default:
            if (d->repl.person) wk_say(false, "\n");
            return WICK_OK;
        }
    }
    return rc;
}

static wick_status start(wk_dialog *d, wick_error *err) {
    const char *system = d->args->v[WK_ARG_SYSTEM].s, *plain;
    WK_TRY(wk_session_open(&d->s, d->args, &d->emit, err));
    if (!wk_session_has_template(d->s.model))
        return wk_fail(err, WICK_E_TEMPLATE,
                       "%s has no chat template, so it cannot hold a conversation; `wick run --raw` continues a text",
                       wk_show(wk_cstr(d->args->model_path)).text);
    if (system) wk_talk_system(&d->talk, wk_cstr(system));
    wk_repl_open(&d->repl, d->s.color, wk_slash_complete, d);
    plain = wk_repl_plain(&d->repl);
    if (plain && wk_flag(d->args, WK_ARG_VERBOSE)) wk_say(d->s.quiet, "plain lines, no editing: %s\n", plain);
    if (d->repl.person) wk_say(d->s.quiet, "  /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves\n");
    return WICK_OK;
}

static void init(wk_dialog *d, wk_args *a) {
    memset(d, 0, sizeof(*d));
    d->args = a;
    wk_emit_init(&d->emit, a);
    d->emit.mode = WK_EMIT_TEXT; /* run --json never comes here */
    wk_talk_init(&d->talk);
    wk_buf_init(&d->message, WK_REPL_LINE_MAX);
    wk_buf_init(&d->request, 0);
    wk_buf_init(&d->file, WK_REPL_LINE_MAX);
    wk_buf_init(&d->answer.text, 0);
}

int wk_cmd_chat(wk_args *a) {
    wick_error err = {0};
    wk_dialog d;
    init(&d, a);
    wick_status rc = a->model_path[0] ? WICK_OK : wk_args_model(a, &err);
    if (!rc) rc = start(&d, &err);
    if (!rc) rc = converse(&d, &err);
    const int ended = wk_signals_terminated();
    wk_repl_close(&d.repl);
    wk_session_close(&d.s);
    wk_talk_fini(&d.talk);
    wk_buf_fini(&d.message);
    wk_buf_fini(&d.request);
    wk_buf_fini(&d.file);
    wk_buf_fini(&d.answer.text);
    const int code = wk_emit_finish(&d.emit, rc, &err, d.code);
    return ended ? ended : code;
}

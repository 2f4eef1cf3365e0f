/* cmd_chat.c: a plain conversation: one line in, one answer out. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/cmd.h"
#include "engine/app/session.h"
#include "engine/base/err.h"

typedef struct chat {
    wk_session *s;
    wk_out out;
    wk_buf messages, request, answer, line;
    bool tty;
    size_t in_at, in_n; /* bytes read from stdin and not yet used */
    char in[65536];
} chat;

enum { LINE_MAX_BYTES = 16 << 20 };

static void say_help(const chat *c) {
    wk_say(false, "  /clear  forget the conversation\n  /stats  memory and speed\n  /exit   leave (or Ctrl-D)\n");
    (void)c;
}

static void say_stats(const chat *c) {
    wick_stats st = WICK_STATS_INIT;
    if (wick_engine_stats(c->s->engine, &st)) return;
    wk_say(false, "  %llu prompt tokens (%llu more from the cache), %llu generated, %llu steps; weights %.0f MB, KV %.0f MB\n",
           (unsigned long long)st.prompt_tokens, (unsigned long long)st.cached_tokens,
           (unsigned long long)st.generated_tokens, (unsigned long long)st.steps, (double)st.bytes_weights / 1e6,
           (double)st.bytes_kv / 1e6);
}

static void restart(chat *c) { wk_messages_begin(&c->messages, c->s->args->v[WK_ARG_SYSTEM].s); }

/* true: leave. */
static bool command(chat *c, const char *line) {
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) return true;
    if (strcmp(line, "/clear") == 0) {
        restart(c);
        wk_say(false, "  the conversation is forgotten\n");
    } else if (strcmp(line, "/stats") == 0) {
        say_stats(c);
    } else {
        if (strcmp(line, "/help") != 0) wk_say(false, "  unknown command %.60s\n", line);
        say_help(c);
    }
    return false;
}

/* One turn. A failed turn is said and taken back; the conversation goes on. */
static wick_status turn(chat *c, const char *text, size_t n, wick_error *err) {
    wick_result res = WICK_RESULT_INIT;
    bool interrupted = false;
    const size_t before = c->messages.n;
    wk_messages_add(&c->messages, "user", text, n);
    wk_messages_end(&c->messages, &c->request);
    wk_buf_reset(&c->answer);
    if (c->request.failed) return wk_fail(err, WICK_E_NOMEM, "no memory for the conversation");
    wick_request_options o = wk_session_request(c->s);
    o.chat = c->request.p;
    o.chat_len = c->request.n;
    const wick_status rc = wk_session_answer(c->s, &o, &c->out, &c->answer, &res, &interrupted, err);
    if (rc) {
        c->messages.n = before;
        (void)wk_report(err);
        if (rc == WICK_E_CONTEXT) wk_say(c->s->quiet, "  /clear would free the whole context\n");
        return WICK_OK;
    }
    (void)wk_out_write(&c->out, "\n", 1); /* kept in out.error */
    wk_messages_add(&c->messages, "assistant", c->answer.p ? c->answer.p : "", c->answer.n);
    if (interrupted) wk_say(c->s->quiet, "  stopped; what was said is kept\n");
    if (c->tty) wk_session_footer(c->s, &res);
    return wk_out_end(&c->out, err);
}

/* The next line of stdin, without its end; false at the end of the input. */
static bool read_line(chat *c) {
    wk_buf_reset(&c->line);
    for (;;) {
        const char *end = c->in_n ? memchr(c->in + c->in_at, '\n', c->in_n) : NULL;
        const size_t n = end ? (size_t)(end - (c->in + c->in_at)) : c->in_n;
        (void)wk_buf_add(&c->line, c->in + c->in_at, n); /* over the cap: the line is cut, and said below */
        c->in_at += end ? n + 1 : n;
        c->in_n -= end ? n + 1 : n;
        if (end) return true;
        const ssize_t got = read(STDIN_FILENO, c->in, sizeof(c->in));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return c->line.n > 0;
        c->in_at = 0;
        c->in_n = (size_t)got;
    }
}

static wick_status converse(chat *c, wick_error *err) {
    wick_status rc = WICK_OK;
    restart(c);
    while (!rc) {
        if (c->tty) wk_say(false, c->s->color ? "\033[1m> \033[0m" : "> ");
        if (!read_line(c)) break;
        if (c->line.failed) return wk_fail(err, WICK_E_ARG, "a line is longer than %d MiB", LINE_MAX_BYTES >> 20);
        while (c->line.n && c->line.p[c->line.n - 1] == '\r') c->line.p[--c->line.n] = 0;
        if (c->line.n == 0) continue;
        if (c->line.p[0] != '/')
            rc = turn(c, c->line.p, c->line.n, err);
        else if (command(c, c->line.p))
            break;
    }
    if (c->tty) wk_say(false, "\n");
    return rc;
}

static wick_status need_template(const wk_session *s, wick_error *err) {
    size_t len = 0;
    if (wick_model_get(s->model, "chat_template", NULL, 0, &len) == WICK_OK && len > 0) return WICK_OK;
    return wk_fail(err, WICK_E_TEMPLATE, "%s has no chat template, so it cannot hold a conversation; `wick run --raw` continues a text",
                   s->args->model_path);
}

int wk_cmd_chat(wk_args *a) {
    wick_error err = {0};
    wk_session s = {0};
    chat c = {.s = &s, .out = wk_out_stdout(), .tty = isatty(STDIN_FILENO) == 1};
    wk_buf_init(&c.messages, (size_t)32 << 20);
    wk_buf_init(&c.request, (size_t)33 << 20);
    wk_buf_init(&c.answer, 0);
    wk_buf_init(&c.line, LINE_MAX_BYTES);
    wick_status rc = a->model_path[0] ? WICK_OK : wk_args_model(a, &err);
    if (!rc) rc = wk_session_open(&s, a, &err);
    if (!rc) rc = need_template(&s, &err);
    if (!rc && c.tty) wk_say(s.quiet, "  /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves\n");
    if (!rc) rc = converse(&c, &err);
    wk_session_close(&s);
    wk_buf_fini(&c.messages);
    wk_buf_fini(&c.request);
    wk_buf_fini(&c.answer);
    wk_buf_fini(&c.line);
    if (!rc) return 0;
    err.code = rc;
    return wk_report(&err);
}

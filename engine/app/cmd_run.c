/* cmd_run.c: one prompt, one answer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/cmd.h"
#include "engine/app/session.h"
#include "engine/base/err.h"

enum { PROMPT_MAX = 32 << 20 };

/* The prompt: what is left on the command line, else stdin. */
static wick_status read_prompt(wk_buf *b, const wk_args *a, wick_error *err) {
    for (size_t i = 0; i < a->n_positional; i++) {
        if (i) (void)wk_buf_addc(b, ' ');
        (void)wk_buf_adds(b, a->positional[i]);
    }
    if (a->n_positional == 0) {
        char tmp[65536];
        for (;;) {
            const ssize_t n = read(STDIN_FILENO, tmp, sizeof(tmp));
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return wk_fail(err, WICK_E_IO, "stdin could not be read: %s", strerror(errno));
            if (n == 0 || b->failed) break;
            (void)wk_buf_add(b, tmp, (size_t)n);
        }
    }
    if (b->failed) return wk_fail(err, WICK_E_ARG, "the prompt is longer than %d MiB", PROMPT_MAX >> 20);
    if (b->n == 0) return wk_fail(err, WICK_E_ARG, "there is no prompt: neither on the command line nor on stdin");
    return WICK_OK;
}

static bool has_template(const wick_model *m) {
    size_t len = 0;
    return wick_model_get(m, "chat_template", NULL, 0, &len) == WICK_OK && len > 0;
}

static wick_status answer(wk_session *s, const wk_buf *prompt, wk_out *out, bool *interrupted, wick_error *err) {
    wk_buf messages, request;
    wick_result res = WICK_RESULT_INIT;
    wick_request_options o = wk_session_request(s);
    wk_buf_init(&messages, 0);
    wk_buf_init(&request, 0);
    const bool raw = wk_flag(s->args, WK_ARG_RAW), plain = raw || !has_template(s->model);
    if (!raw && plain) wk_say(s->quiet, "warning: the model has no chat template, the text is continued as it is (--raw)\n");
    if (plain) {
        o.text = prompt->p;
        o.text_len = prompt->n;
    } else {
        wk_messages_begin(&messages, s->args->v[WK_ARG_SYSTEM].s);
        wk_messages_add(&messages, "user", prompt->p, prompt->n);
        wk_messages_end(&messages, &request);
        o.chat = request.p;
        o.chat_len = request.n;
    }
    wick_status rc = request.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the prompt")
                                    : wk_session_answer(s, &o, out, NULL, &res, interrupted, err);
    if (!rc) {
        (void)wk_out_write(out, "\n", 1); /* kept in out->error */
        if (wk_flag(s->args, WK_ARG_HASH)) {
            char line[64];
            const int n = snprintf(line, sizeof(line), "hash %016llx%016llx\n", (unsigned long long)res.hash[1],
                                   (unsigned long long)res.hash[0]);
            (void)wk_out_write(out, line, (size_t)n);
        }
        rc = wk_out_end(out, err);
        wk_session_footer(s, &res);
    }
    wk_buf_fini(&messages);
    wk_buf_fini(&request);
    return rc;
}

int wk_cmd_run(wk_args *a) {
    wick_error err = {0};
    wk_session s = {0};
    wk_buf prompt;
    bool interrupted = false;
    wk_out out = wk_out_stdout();
    wk_buf_init(&prompt, PROMPT_MAX);
    wick_status rc = wk_args_model(a, &err);
    if (!rc && a->n_positional == 0 && !wk_flag(a, WK_ARG_RAW) && isatty(STDIN_FILENO) == 1) return wk_cmd_chat(a);
    if (!rc) rc = read_prompt(&prompt, a, &err);
    if (!rc) rc = wk_session_open(&s, a, &err);
    if (!rc) rc = answer(&s, &prompt, &out, &interrupted, &err);
    wk_session_close(&s);
    wk_buf_fini(&prompt);
    if (rc) {
        err.code = rc;
        return wk_report(&err);
    }
    return interrupted ? 130 : 0;
}

/* cmd_run.c: one prompt, one answer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/cmd.h"
#include "engine/app/session.h"
#include "engine/app/signals.h"
#include "engine/app/talk.h"
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

static void put_hash(char out[33], const wick_result *r) {
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)r->hash[1], (unsigned long long)r->hash[0]);
}

/* The object of --json, the last event of --jsonl (whose text has been sent). */
static void emit_done(wk_session *s, const wk_answer *answer) {
    wk_emit *e = s->emit;
    const wick_result *r = &answer->result;
    char hash[33];
    wk_emit_begin(e, "done");
    wk_emit_str(e, "model", wk_cstr(s->args->model_path));
    if (e->mode == WK_EMIT_JSON) wk_emit_str(e, "text", wk_buf_str(&answer->text));
    wk_emit_str(e, "finish", wk_cstr(wk_finish_word(r->finish)));
    wk_emit_int(e, "prompt_tokens", r->n_prompt);
    wk_emit_int(e, "cached_tokens", r->n_cached);
    wk_emit_int(e, "generated_tokens", r->n_generated);
    wk_emit_num(e, "prompt_s", r->prompt_s);
    wk_emit_num(e, "decode_s", r->decode_s);
    wk_emit_num(e, "first_s", r->first_s);
    wk_emit_num(e, "tokens_per_s", wk_session_rate(r));
    wk_emit_int(e, "seed", r->seed);
    wk_emit_int(e, "n_ctx", s->stats.n_ctx);
    wk_emit_int(e, "threads", s->stats.threads);
    wk_emit_str(e, "cpu", wk_cstr(s->stats.cpu_level));
    wk_emit_str(e, "device", wk_cstr(s->stats.device));
    wk_emit_int(e, "arithmetic", WICK_ARITH);
    wk_emit_bool(e, "device_bits", (r->flags & WICK_RESULT_DEVICE_BITS) != 0);
    put_hash(hash, r);
    if (wk_flag(s->args, WK_ARG_HASH)) wk_emit_str(e, "hash", wk_cstr(hash));
    wk_emit_done(e);
}

static void finish_text(wk_session *s, const wick_result *r) {
    wk_out *out = &s->emit->out;
    char hash[33];
    (void)wk_out_write(out, "\n", 1); /* kept in out->error, as below */
    if (!wk_flag(s->args, WK_ARG_HASH)) return;
    put_hash(hash, r);
    (void)wk_out_write(out, "hash ", 5);
    (void)wk_out_write(out, hash, 32);
    (void)wk_out_write(out, "\n", 1);
}

static wick_status answer_prompt(wk_session *s, const wk_buf *prompt, wk_answer *answer, wick_error *err) {
    static const char no_template[] = "the model has no chat template, the text is continued as it is (--raw)";
    wk_talk talk;
    wk_buf request;
    wick_request_options o = wk_session_request(s);
    wk_talk_init(&talk);
    wk_buf_init(&request, 0);
    const bool raw = wk_flag(s->args, WK_ARG_RAW), plain = raw || !wk_session_has_template(s->model);
    if (!raw && plain) wk_emit_warning(s->emit, no_template, sizeof(no_template) - 1);
    if (plain) {
        o.text = prompt->p;
        o.text_len = prompt->n;
    } else {
        const char *system = s->args->v[WK_ARG_SYSTEM].s;
        if (system) wk_talk_system(&talk, wk_cstr(system));
        wk_talk_add(&talk, WK_TALK_USER, wk_buf_str(prompt));
        wk_talk_request(&talk, &request);
        o.chat = request.p;
        o.chat_len = request.n;
    }
    const wick_status rc = request.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the prompt")
                                          : wk_session_answer(s, &o, answer, err);
    wk_talk_fini(&talk);
    wk_buf_fini(&request);
    return rc;
}

static wick_status run(wk_session *s, const wk_buf *prompt, bool *interrupted, wick_error *err) {
    wk_answer answer = {.text = {0}};
    wk_buf_init(&answer.text, 0);
    const wick_status rc = answer_prompt(s, prompt, &answer, err);
    *interrupted = answer.interrupted;
    if (!rc) {
        if (s->emit->mode == WK_EMIT_TEXT) finish_text(s, &answer.result);
        wk_session_footer(s, &answer.result);
        if (s->emit->mode != WK_EMIT_TEXT) emit_done(s, &answer);
    }
    wk_buf_fini(&answer.text);
    return rc;
}

/* On a terminal, without a prompt, run is chat. */
static bool wants_chat(const wk_args *a) {
    const bool program = wk_flag(a, WK_ARG_RAW) || wk_flag(a, WK_ARG_JSON) || wk_flag(a, WK_ARG_JSONL);
    return a->n_positional == 0 && !program && isatty(STDIN_FILENO) == 1;
}

int wk_cmd_run(wk_args *a) {
    wick_error err = {0};
    wk_session s = {0};
    wk_emit e;
    wk_buf prompt;
    bool interrupted = false;
    wk_emit_init(&e, a);
    wk_buf_init(&prompt, PROMPT_MAX);
    wick_status rc = wk_args_model(a, &err);
    if (!rc && wants_chat(a)) {
        wk_emit_fini(&e);
        return wk_cmd_chat(a);
    }
    if (!rc) rc = read_prompt(&prompt, a, &err);
    if (!rc) rc = wk_session_open(&s, a, &e, &err);
    if (!rc) rc = run(&s, &prompt, &interrupted, &err);
    const int ended = wk_signals_terminated();
    wk_session_close(&s);
    wk_buf_fini(&prompt);
    const int code = wk_emit_finish(&e, rc, &err, interrupted ? 130 : 0);
    return ended ? ended : code;
}

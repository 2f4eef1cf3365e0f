/* eval_gen.c: what the model writes: answers compared with the right ones, and samples to read. */
#include <string.h>

#include "engine/app/eval_impl.h"
#include "engine/app/session.h"
#include "engine/app/signals.h"
#include "engine/base/err.h"
#include "engine/base/utf8.h"

enum { ANSWER_TOKENS = 320, SAMPLE_TOKENS = 64, ANSWER_MOST = 1 << 20, SAMPLES = 16 };

static int on_text(void *ud, const char *s, size_t n) {
    wk_buf *b = ud;
    (void)wk_buf_add(b, s, n); /* full: seen below */
    return b->failed || wk_signals_interrupted() || wk_signals_terminated();
}

/* Through the model's template where it has one, else as it is. */
static wick_status generate(wk_eval *e, wk_str prompt, bool chat, wick_request_options *o, wk_buf *answer,
                            wick_error *err) {
    wk_buf request;
    wick_result result = WICK_RESULT_INIT;
    wk_buf_init(&request, 0);
    wk_buf_reset(answer);
    if (chat) {
        (void)wk_buf_adds(&request, "{\"messages\":[{\"role\":\"user\",\"content\":"); /* checked below */
        wk_json_put_str(&request, prompt);
        (void)wk_buf_adds(&request, "}],\"add_generation_prompt\":true}");
        o->chat = request.p;
        o->chat_len = request.n;
    } else {
        o->text = prompt.p;
        o->text_len = prompt.n;
    }
    wick_status rc = request.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for a prompt")
                                    : wick_generate(e->m.engine, o, on_text, answer, &result, err);
    wk_buf_fini(&request);
    if (!rc && answer->failed) rc = wk_fail(err, WICK_E_NOMEM, "an answer is longer than %d MiB", ANSWER_MOST >> 20);
    if (!rc && (wk_signals_interrupted() || wk_signals_terminated()))
        rc = wk_fail(err, WICK_E_CANCELED, "stopped by a signal");
    return rc;
}

static int32_t length(const wk_eval *e, int32_t otherwise) {
    const wk_value *v = &e->args->v[WK_ARG_MAX_TOKENS];
    const int32_t n = v->given ? (int32_t)v->i : otherwise, room = e->m.n_ctx / 2;
    return n < room ? n : room;
}

/* ---- exact --------------------------------------------------------------------------------------- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Without blanks, the sign of money, commas between digits and a point at the end. */
static void clean(wk_buf *out, wk_str s) {
    wk_buf_reset(out);
    (void)wk_buf_adds(out, ""); /* p is text from now on */
    for (size_t i = 0; i < s.n && s.p[i] != '\n'; i++) {
        const char c = s.p[i];
        const bool comma = c == ',' && i && i + 1 < s.n && is_digit(s.p[i - 1]) && is_digit(s.p[i + 1]);
        if (c == ' ' || c == '$' || c == '\t' || c == '\r' || comma) continue;
        (void)wk_buf_addc(out, c);
    }
    while (out->n && out->p[out->n - 1] == '.') out->n--;
}

/* Behind the last ####; false: there is none. */
static bool behind_mark(wk_str s, wk_str *out) {
    for (size_t i = s.n >= 4 ? s.n - 4 + 1 : 0; i-- > 0;)
        if (memcmp(s.p + i, "####", 4) == 0) {
            *out = (wk_str){s.p + i + 4, s.n - i - 4};
            return true;
        }
    return false;
}

/* The last number of a text. */
static bool last_number(wk_str s, wk_str *out) {
    size_t end = s.n;
    while (end && !is_digit(s.p[end - 1])) end--;
    size_t at = end;
    while (at && (is_digit(s.p[at - 1]) || s.p[at - 1] == ',' || s.p[at - 1] == '.')) at--;
    if (at && s.p[at - 1] == '-') at--;
    *out = (wk_str){s.p + at, end - at};
    return end > 0;
}

typedef struct exam {
    wk_buf prompt, answer, want, have;
    uint64_t n, marked, numbered;
} exam;

static bool same(const exam *x) { return wk_str_eq(wk_buf_str(&x->want), wk_buf_str(&x->have)); }

static wick_status one_question(wk_eval *e, exam *x, wk_str question, wk_str answer, wick_error *err) {
    static const char wish[] = "\nThink step by step. End with a line: #### and the answer.";
    const bool chat = wk_session_has_template(e->m.model);
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    wk_str right, said;
    o.temperature = 0;
    o.max_tokens = length(e, ANSWER_TOKENS);
    if (!behind_mark(answer, &right)) right = answer;
    clean(&x->want, right);
    wk_buf_reset(&x->prompt);
    if (!chat) (void)wk_buf_adds(&x->prompt, "Question: "); /* checked below */
    (void)wk_buf_add(&x->prompt, question.p, question.n);
    (void)wk_buf_adds(&x->prompt, chat ? wish : "\nAnswer:");
    if (x->prompt.failed || x->want.failed) return wk_fail(err, WICK_E_NOMEM, "no memory for a question");
    WK_TRY(generate(e, wk_buf_str(&x->prompt), chat, &o, &x->answer, err));
    const bool marked = behind_mark(wk_buf_str(&x->answer), &said);
    const uint64_t before = x->numbered;
    if (marked) {
        clean(&x->have, said);
        x->marked += same(x);
    }
    if (marked || last_number(wk_buf_str(&x->answer), &said)) {
        clean(&x->have, said);
        x->numbered += same(x);
    }
    wk_eval_unit(e, (double)(x->numbered - before));
    x->n++;
    return WICK_OK;
}

wick_status wk_eval_exact(wk_eval *e, wick_error *err) {
    wk_eval_file f;
    exam x = {0};
    wk_buf *const all[] = {&x.prompt, &x.answer, &x.want, &x.have};
    for (size_t i = 0; i < WK_COUNT(all); i++) wk_buf_init(all[i], ANSWER_MOST);
    wick_status rc = wk_eval_file_open(&f, e->data[WK_EVAL_EXACT], err);
    const double total = rc ? 0 : wk_eval_count(&f, 1, e->limit);
    while (!rc && (!e->limit || x.n < (uint64_t)e->limit)) {
        wk_json_doc *doc = NULL;
        wk_str question = {0}, answer = {0};
        rc = wk_eval_json(&f, &doc, err);
        if (rc || !doc) break;
        rc = wk_eval_member(&f, wk_json_root(doc), "question", &question, err);
        if (!rc) rc = wk_eval_member(&f, wk_json_root(doc), "answer", &answer, err);
        if (!rc && one_question(e, &x, question, answer, err)) rc = wk_eval_at(&f, err);
        if (!rc) rc = wk_eval_step(e, "exact", (double)x.n, total, "questions", err);
        wk_json_free(doc);
    }
    if (!rc) wk_eval_share_add(e, WK_EVAL_EXACT, "exact behind ####", x.marked, x.n, "questions");
    if (!rc) wk_eval_share_add(e, WK_EVAL_EXACT, "exact, or last number", x.numbered, x.n, "questions");
    for (size_t i = 0; i < WK_COUNT(all); i++) wk_buf_fini(all[i]);
    wk_eval_file_close(&f);
    return rc;
}

/* ---- samples ------------------------------------------------------------------------------------- */

/* Foreign text as Markdown quotes it: control bytes become blanks, a line stays a line. */
static void quote(wk_buf *b, wk_str s) {
    (void)wk_buf_adds(b, "> "); /* failure stays in b */
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        if (c == '\n')
            (void)wk_buf_adds(b, "\n> ");
        else
            (void)wk_buf_addc(b, (char)(c < 0x20 || c == 0x7f ? ' ' : c));
    }
    (void)wk_buf_adds(b, "\n\n");
}

static wick_status one_sample(wk_eval *e, wk_str prompt, wk_buf *answer, wick_error *err) {
    const wk_args *a = e->args;
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    o.temperature = a->v[WK_ARG_TEMP].given ? a->v[WK_ARG_TEMP].d : 0;
    o.seed = a->v[WK_ARG_SEED].given ? a->v[WK_ARG_SEED].i : 1;
    o.max_tokens = length(e, SAMPLE_TOKENS);
    WK_TRY(generate(e, prompt, false, &o, answer, err));
    quote(&e->text, prompt);
    e->text.n -= e->text.n > 1 ? 2 : 0; /* the answer goes on where the prompt ends */
    const size_t at = e->text.n;
    quote(&e->text, wk_buf_str(answer));
    if (e->text.n > at + 2) {
        memmove(e->text.p + at, e->text.p + at + 2, e->text.n - at - 2);
        e->text.n -= 2;
    }
    (void)wk_buf_adds(&e->samples, e->samples.n ? ",{\"prompt\":" : "{\"prompt\":");
    wk_json_put_str(&e->samples, prompt);
    (void)wk_buf_adds(&e->samples, ",\"text\":");
    wk_json_put_str(&e->samples, wk_buf_str(answer));
    (void)wk_buf_addc(&e->samples, '}');
    return e->text.failed || e->samples.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the samples") : WICK_OK;
}

wick_status wk_eval_samples(wk_eval *e, wick_error *err) {
    static const char *const prompts[] = {"Once upon a time", "The capital of France is", "def main():"};
    wk_eval_file f = {0};
    wk_buf answer;
    const char *path = e->data[WK_EVAL_SAMPLES];
    const uint64_t most = e->limit ? (uint64_t)e->limit : SAMPLES;
    uint64_t n = 0;
    wk_buf_init(&answer, ANSWER_MOST);
    wick_status rc = path ? wk_eval_file_open(&f, path, err) : WICK_OK;
    while (!rc && n < most) {
        wk_str prompt = {0};
        if (path && !wk_eval_line(&f, &prompt)) break;
        if (!path && n == WK_COUNT(prompts)) break;
        if (!path) prompt = wk_cstr(prompts[n]);
        if (!prompt.n) continue;
        rc = one_sample(e, prompt, &answer, err);
        if (rc && path) rc = wk_eval_at(&f, err);
        n++;
        if (!rc) rc = wk_eval_step(e, "samples", (double)n, path ? wk_eval_count(&f, 1, 0) + (double)n : 3, "texts", err);
    }
    if (!rc) (void)wk_eval_row_add(e, WK_EVAL_SAMPLES, "texts", (double)n, n, "texts");
    wk_buf_fini(&answer);
    if (path) wk_eval_file_close(&f);
    return rc;
}

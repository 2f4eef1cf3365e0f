/* train_sample.c: what the model says while it is trained, by the engine that will serve it. */
#include <stdio.h>
#include <string.h>

#include "engine/app/signals.h"
#include "engine/app/train_impl.h"
#include "engine/base/dir.h"
#include "engine/base/err.h"
#include "engine/base/json.h"

enum { SAY = 64, ROOM = 512, AT_ONCE = 64 }; /* tokens of an answer; of the context; of a step of the prompt */

static int on_text(void *ud, const char *s, size_t n) {
    (void)wk_buf_add(ud, s, n); /* looked at when it is written */
    return wk_signals_interrupted() || wk_signals_terminated();
}

static wick_status say(const wk_train *t, wick_engine *e, bool chat, wk_buf *out, wick_error *err) {
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    wick_result r = WICK_RESULT_INIT;
    wk_buf request;
    wk_buf_init(&request, 0);
    if (chat) {
        (void)wk_buf_adds(&request, "{\"messages\":[{\"role\":\"user\",\"content\":");
        wk_json_put_str(&request, wk_cstr(t->run.prompt));
        (void)wk_buf_adds(&request, "}],\"add_generation_prompt\":true}");
        o.chat = request.p;
        o.chat_len = request.n;
    } else {
        o.text = t->run.prompt[0] ? t->run.prompt : "\n";
        o.text_len = strlen(o.text);
    }
    o.max_tokens = SAY;
    o.temperature = 0.7;
    o.top_p = 0.95;
    o.seed = 1; /* the same draws at every step: what changes is the model */
    const wick_status rc = request.failed ? WICK_E_NOMEM : wick_generate(e, &o, on_text, out, &r, err);
    wk_buf_fini(&request);
    return rc == WICK_E_CANCELED ? WICK_OK : rc;
}

static wick_engine_options engine_of(const wk_train *t) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.n_ctx = t->cost.n_ctx < ROOM ? t->cost.n_ctx : ROOM;
    o.max_seqs = 1;
    o.n_batch = AT_ONCE;
    o.threads = (int32_t)t->run.threads;
    return o;
}

uint64_t wk_train_sample_bytes(const wk_train *t) {
    wick_engine_options o = engine_of(t);
    wick_fit_result f = WICK_FIT_RESULT_INIT;
    o.no_fit_check = 1;
    return t->run.sample_every && t->run.model[0] && !wick_fit(t->run.model, &o, &f, NULL) ? f.weights + f.kv + f.activations
                                                                                                   : 0;
}

/* The weights as they are now, through a file that goes again. */
static wick_status answer(const wk_train *t, const char *file, wk_buf *out, wick_error *err) {
    wick_model *m = NULL;
    wick_engine *e = NULL;
    wick_engine_options o = engine_of(t);
    const char *const adapters[] = {file};
    size_t len = 0;
    WK_TRY(wick_x_trainer_export(t->trainer, file, err));
    wick_status rc = wick_model_open(t->tune ? t->run.model : file, NULL, &m, err);
    if (t->tune) {
        o.adapters = adapters;
        o.n_adapters = 1;
    }
    if (!rc) rc = wick_engine_open(m, &o, &e, err);
    const bool chat =
        !rc && t->run.sample_chat && wick_model_get(m, "chat_template", NULL, 0, &len) == WICK_OK && len > 0;
    if (!rc) rc = say(t, e, chat, out, err);
    wick_engine_close(e);
    wick_model_close(m);
    return rc;
}

static wick_status put(wk_train *t, const wk_buf *text, wick_error *err) {
    char path[WK_RUN_PATH];
    WK_TRY(wk_train_path(t, path, "samples.txt", err));
    FILE *f = fopen(path, "ab");
    bool ok = f != NULL;
    if (f) {
        ok = fprintf(f, "== step %lld ==\n%s%.*s\n\n", (long long)t->step, t->run.sample_chat ? "" : t->run.prompt,
                     (int)text->n, wk_buf_str(text).p) > 0;
        if (fclose(f)) ok = false;
    }
    return ok ? WICK_OK : wk_fail(err, WICK_E_IO, "%s could not be written", wk_show(wk_cstr(path)).text);
}

/* Its first line, for who looks on. */
static void show(wk_train *t, const wk_buf *text) {
    const wk_str s = wk_buf_str(text);
    size_t n = 0, from = 0;
    while (from < s.n && (unsigned char)s.p[from] <= ' ') from++;
    while (from + n < s.n && n < 76 && s.p[from + n] != '\n') n++;
    while (n && from + n < s.n && ((unsigned char)s.p[from + n] & 0xc0) == 0x80) n--; /* not inside a character */
    wk_train_say(t, "sample     %s\n", wk_show((wk_str){s.p + from, n}).text);
    if (t->emit->mode != WK_EMIT_JSONL) return;
    wk_emit_begin(t->emit, "sample");
    wk_emit_int(t->emit, "step", t->step);
    wk_emit_str(t->emit, "prompt", wk_cstr(t->run.prompt));
    wk_emit_str(t->emit, "text", s);
    wk_emit_end(t->emit);
}

void wk_train_sample(wk_train *t) {
    char file[WK_RUN_PATH];
    wick_error err = {0};
    wk_buf text;
    wk_buf_init(&text, 1 << 20);
    wick_status rc = wk_train_path(t, file, "sample.gguf", &err);
    if (!rc) rc = answer(t, file, &text, &err);
    (void)wk_file_remove(file, NULL); /* the next one writes over it */
    const bool stopped = wk_signals_interrupted() || wk_signals_terminated();
    if (!rc && !stopped) rc = put(t, &text, &err);
    if (!rc && !stopped) show(t, &text);
    wk_buf_fini(&text);
    if (!rc) return;
    t->no_samples = true;
    (void)wk_fail_at(&err, "no more samples");
    wk_emit_warning(t->emit, err.message, strlen(err.message));
}

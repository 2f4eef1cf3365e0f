/* eval_open.c: opening a model to be judged, its tokens, and the numbers found so far. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/eval_impl.h"
#include "engine/app/session.h"
#include "engine/app/signals.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"

enum { ROWS_MOST = 256, ROWS_LEAST = 16, LOGIT_BYTES = 128 << 20, TEXT_MOST = 256 << 20 };

static void on_log(void *ud, int level, const char *text, size_t len) {
    wk_eval *e = ud;
    if (level > WICK_LOG_WARN) return;
    pthread_mutex_lock(&e->lock);
    wk_progress_clear(&e->progress);
    wk_emit_warning(e->emit, text, len);
    pthread_mutex_unlock(&e->lock);
}

static int on_load(void *ud, const char *phase, uint64_t done, uint64_t total) {
    wk_eval *e = ud;
    (void)phase;
    pthread_mutex_lock(&e->lock);
    (void)wk_progress_show(&e->progress, "loading", (double)done / 1e6, 0, (double)total / 1e6,
                           "MB"); /* drawn or not */
    pthread_mutex_unlock(&e->lock);
    return wk_signals_interrupted() || wk_signals_terminated();
}

wick_status wk_eval_setup(wk_eval *e, wick_error *err) {
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    o.log = on_log;
    o.log_ud = e;
    o.min_level = WICK_LOG_WARN;
    o.cpu_level = e->args->v[WK_ARG_CPU].s;
    return wick_setup(&o, err);
}

static int32_t number_of(const wick_model *m, const char *key) {
    char text[32] = "";
    (void)wick_model_get(m, key, text, sizeof(text), NULL); /* absent: 0 */
    const long long v = strtoll(text, NULL, 10);
    return v < 0 || v > INT32_MAX ? 0 : (int32_t)v;
}

/* A scoring pass takes as many tokens as it may give rows of logits. */
static int32_t rows_of(int32_t n_vocab) {
    const int32_t fit = (int32_t)((size_t)LOGIT_BYTES / sizeof(float) / (size_t)(n_vocab > 0 ? n_vocab : 1));
    return fit > ROWS_MOST ? ROWS_MOST : fit < ROWS_LEAST ? ROWS_LEAST : fit;
}

static wick_status open_engine(wk_eval *e, wk_eval_model *m, int32_t n_ctx, wick_error *err) {
    wick_engine_options o = wk_session_engine(e->args);
    if (m != &e->m) o.n_adapters = 0; /* what distances are from is the file as it is */
    WK_TRY(wick_model_open(m->path, NULL, &m->model, err));
    const int32_t trained = number_of(m->model, "n_ctx");
    m->n_vocab = number_of(m->model, "n_vocab");
    m->n_ctx = trained && trained < n_ctx ? trained : n_ctx;
    o.n_ctx = m->n_ctx;
    o.max_seqs = rows_of(m->n_vocab);
    o.kv_tokens = (m->n_ctx + 63) / 64 * 64 + 64;
    o.progress = on_load;
    o.progress_ud = e;
    WK_TRY(wick_x_fit_check(m->path, &o, err));
    return wick_engine_open(m->model, &o, &m->engine, err);
}

wick_status wk_eval_open(wk_eval *e, wk_eval_model *m, const char *path, int32_t n_ctx, wick_error *err) {
    wick_token first[2];
    size_t n = 0;
    m->path = path;
    m->bos = -1;
    const wick_status rc = open_engine(e, m, n_ctx, err);
    wk_progress_clear(&e->progress);
    if (rc) return wk_fail_at(err, "%s", wk_show(wk_cstr(path)).text);
    const wick_status begun = wick_tokenize(m->model, "", 0, WICK_TOK_BOS, first, 2, &n);
    if (!begun && n > 0) m->bos = first[0];
    return WICK_OK;
}

void wk_eval_close(wk_eval_model *m) {
    wick_engine_close(m->engine);
    wick_model_close(m->model);
    m->engine = NULL;
    m->model = NULL;
}

wick_status wk_eval_tokens(const wk_eval_model *m, wk_str text, bool bos, wk_tokens *out, wick_error *err) {
    out->n = 0;
    if (text.n > TEXT_MOST)
        return wk_fail(err, WICK_E_ARG, "the text has %zu bytes, at most %d MiB are taken", text.n, TEXT_MOST >> 20);
    size_t cap = text.n + 16; /* a token stands for a byte at least, control tokens apart */
    void *p = wk_realloc_array(out->t, cap, sizeof(*out->t));
    if (!p) return wk_fail(err, WICK_E_NOMEM, "no memory for the tokens of %zu bytes", text.n);
    out->t = p;
    wick_status rc = wick_tokenize(m->model, text.n ? text.p : "", text.n, bos ? WICK_TOK_BOS : 0, out->t, cap, &out->n);
    if (!rc) return WICK_OK;
    out->n = 0;
    return wk_fail(err, rc, "the text could not be encoded: %s", wick_strerror(rc));
}

void wk_eval_tokens_fini(wk_tokens *t) {
    wk_free(t->t);
    *t = (wk_tokens){0};
}

size_t wk_eval_bytes(const wk_eval_model *m, wick_token id) {
    char piece[4096];
    size_t len = 0;
    int control = 0;
    const wick_status rc = wick_x_piece(m->model, id, piece, sizeof(piece), &len, &control);
    return rc || control ? 0 : len;
}

wick_status wk_eval_step(wk_eval *e, const char *task, double done, double total, const char *unit, wick_error *err) {
    if (wk_signals_interrupted() || wk_signals_terminated())
        return wk_fail(err, WICK_E_CANCELED, "stopped by a signal after %.0f of %.0f %s of %s", done, total, unit, task);
    pthread_mutex_lock(&e->lock);
    (void)wk_progress_show(&e->progress, task, done, 0, total, unit); /* drawn or not */
    pthread_mutex_unlock(&e->lock);
    return WICK_OK;
}

const char *wk_eval_task_name(wk_eval_task t) {
    static const char *const name[WK_EVAL_TASK_COUNT] = {"ppl",      "kl",    "hellaswag", "choice",
                                                         "lastword", "exact", "samples"};
    return name[t];
}

wk_eval_row *wk_eval_row_add(wk_eval *e, wk_eval_task task, const char *metric, double value, uint64_t n,
                             const char *of) {
    if (e->second || e->n_row == WK_EVAL_ROWS) return NULL;
    wk_eval_row *r = &e->row[e->n_row++];
    *r = (wk_eval_row){.task = wk_eval_task_name(task), .metric = metric, .value = value, .n = n, .of = of};
    return r;
}

void wk_eval_share_add(wk_eval *e, wk_eval_task task, const char *metric, uint64_t hits, uint64_t n, const char *of) {
    const double z = 1.959963984540054, count = (double)n, p = n ? (double)hits / count : 0;
    wk_eval_row *r = wk_eval_row_add(e, task, metric, p, n, of);
    if (!r || !n) return;
    const double scale = 1 + z * z / count, mid = (p + z * z / (2 * count)) / scale,
                 half = z * sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / scale;
    r->low = mid - half;
    r->high = mid + half;
}

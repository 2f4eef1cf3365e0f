/* fake.c: the functions of the module. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/attr.h"
#include "tests/fake/fake.h"

static const char *const op_name[WK_OP_COUNT] = {
#define WK_OP(name, class, equation) [WK_OP_##name] = #name,
#include "engine/graph/op.def"
#undef WK_OP
};

static uint64_t now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int lost(wk_exec *x, const char *what, wk_err *err) {
    x->is_lost = true;
    return wk_fail(err, WICK_E_DEVICE, "fake device %d: %s failed, the device is lost", x->d->index, what);
}

/* ---- the device ---------------------------------------------------------------------------------- */

static int fake_count(char *why, size_t n) {
    const long count = fake_number("WICK_FAKE_COUNT", 1);
    if (count == 0 && why && n) (void)snprintf(why, n, "there is no fake device: WICK_FAKE_COUNT is 0");
    return (int)count;
}

/* One line for the test that looks for what was not given back. */
static void report(const wk_dev *d) {
    FILE *f = d->report[0] ? fopen(d->report, "a") : NULL;
    if (!f) return;
    (void)fprintf(f, "live=%ld bytes=%zu guards=%ld peak=%zu allocs=%ld steps=%ld sent=%zu\n", d->n_live, d->mem_used,
                  d->n_guard, d->mem_peak, d->n_alloc, d->n_call[FAKE_STEP], d->sent);
    (void)fclose(f);
}

static void fake_close(wk_dev *d) {
    if (!d) return;
    report(d);
    free(d);
}

static int fake_open(wk_dev **out, int index, const wk_host *host, wk_err *err) {
    const int n = fake_count(NULL, 0);
    if (host->size < sizeof(*host))
        return wk_fail(err, WICK_E_ABI, "fake device: the host's record has %zu bytes, wanted %zu", host->size,
                       sizeof(*host));
    if (index < 0 || index >= n)
        return wk_fail(err, WICK_E_DEVICE, "there are %d fake devices, index %d was asked for", n, index);
    wk_dev *d = calloc(1, sizeof(*d));
    if (!d) return wk_fail(err, WICK_E_NOMEM, "no memory for the fake device");
    d->host = *host;
    d->index = index;
    wk_kernels_ref(&d->k);
    fake_knobs(d);
    if (fake_fails(d, FAKE_OPEN)) {
        fake_close(d);
        return wk_fail(err, WICK_E_DEVICE, "fake device %d could not be opened", index);
    }
    *out = d;
    return WICK_OK;
}

/* Numbers of a middling GPU: nothing is measured. */
static int fake_info(wk_dev *d, bool measure, wk_dev_info *out, wk_err *err) {
    if (fake_fails(d, FAKE_INFO)) return wk_fail(err, WICK_E_DEVICE, "fake device %d: no information", d->index);
    *out = (wk_dev_info){.mem_total = d->mem_total, .mem_free = d->mem_total - d->mem_used};
    (void)snprintf(out->name, sizeof(out->name), "fake device %d", d->index);
    (void)snprintf(out->driver, sizeof(out->driver), "fake 1.0");
    if (!measure) return WICK_OK;
    out->read_rate = 9e11;
    out->put_rate = 2.2e10;
    out->get_rate = 2.1e10;
    out->int8_rate = 4e14;
    out->f16_rate = 2e14;
    return WICK_OK;
}

/* Whether a comma-separated list holds the word. */
static bool is_listed(const char *at, const char *word) {
    const size_t n = strlen(word);
    while (*at) {
        const size_t m = strcspn(at, ",");
        if (m == n && memcmp(at, word, n) == 0) return true;
        at += m + (at[m] == ',');
    }
    return false;
}

static bool fake_can(wk_dev *d, const wk_plan *p, const wk_step *s) {
    char layer[16];
    (void)snprintf(layer, sizeof(layer), "layer%d", s->layer);
    if (s->op >= WK_OP_COUNT || is_listed(d->cannot, op_name[s->op]) || is_listed(d->cannot, layer)) return false;
    return s->w[0] < 0 || !is_listed(d->cannot, wk_formats[p->weight[s->w[0]].fmt].name);
}

/* ---- a pass -------------------------------------------------------------------------------------- */

static bool has_head(const wk_exec *x) { return x->part.stage_first + x->part.n_stage == x->p->n_stage; }

static int bad_batch(wk_err *err, const char *what, int32_t found, int32_t most) {
    return wk_fail(err, WICK_E_ARG, "fake device: %s is %d, at most %d is right", what, (int)found, (int)most);
}

static int check_seq(const wk_exec *x, const wk_batch_seq *s, int32_t n_tok, wk_err *err) {
    if (s->first < 0 || s->n_tok < 1 || s->first + s->n_tok > n_tok)
        return bad_batch(err, "the end of a sequence's tokens", s->first + s->n_tok, n_tok);
    const int32_t need = (s->pos0 + s->n_tok + WK_KV_PAGE - 1) / WK_KV_PAGE;
    if (s->pos0 < 0 || s->n_page < need)
        return wk_fail(err, WICK_E_ARG, "fake device: %d pages for %d positions", (int)s->n_page,
                       (int)(s->pos0 + s->n_tok));
    for (int32_t i = 0; i < need; i++)
        if (s->page[i] >= x->n_page) return bad_batch(err, "a page", (int32_t)s->page[i], (int32_t)x->n_page - 1);
    return WICK_OK;
}

static int check_pages(const wk_exec *x, const uint32_t *page, int32_t n, wk_err *err) {
    for (int32_t i = 0; i < n; i++)
        if (page[i] >= x->n_page) return bad_batch(err, "a page", (int32_t)page[i], (int32_t)x->n_page - 1);
    return WICK_OK;
}

static int check_inputs(const wk_exec *x, const wk_batch *b, wk_err *err) {
    for (int32_t i = 0; i < x->p->n_val; i++) {
        const int32_t want = x->p->val[i].rows == WK_ROWS_TOK ? b->n_tok : b->n_out;
        if (x->v[i].is_input && x->v[i].n_put < want)
            return wk_fail(err, WICK_E_ARG, "fake device: %d rows of value %d were put, the pass reads %d",
                           (int)x->v[i].n_put, (int)i, (int)want);
    }
    return WICK_OK;
}

static int check_batch(const wk_exec *x, const wk_batch *b, wk_err *err) {
    if (b->n_tok < 1 || b->n_tok > x->p->max_tok || b->n_out < 0 || b->n_out > x->p->max_out)
        return wk_fail(err, WICK_E_ARG, "a batch of %d tokens and %d rows, the plan takes %d and %d", (int)b->n_tok,
                       (int)b->n_out, (int)x->p->max_tok, (int)x->p->max_out);
    for (int32_t i = 0; i < b->n_seq; i++) WK_TRY(check_seq(x, &b->seq[i], b->n_tok, err));
    for (int32_t i = 0; i < b->n_out; i++)
        if (b->out[i] < (i ? b->out[i - 1] + 1 : 0) || b->out[i] >= b->n_tok)
            return bad_batch(err, "a row that is wanted", b->out[i], b->n_tok - 1);
    for (int32_t i = 0; i < b->n_tok && b->tok && x->part.stage_first == 0; i++)
        if (b->tok[i] < 0 || (x->p->n_vocab && b->tok[i] >= x->p->n_vocab))
            return bad_batch(err, "a token", b->tok[i], x->p->n_vocab - 1);
    WK_TRY(check_pages(x, b->zero, b->n_zero, err));
    WK_TRY(check_pages(x, b->copy, 2 * b->n_copy, err));
    if (has_head(x) && b->n_out && !b->logits && !b->top)
        return wk_fail(err, WICK_E_ARG, "fake device: no room for %d rows of logits", (int)b->n_out);
    return check_inputs(x, b, err);
}

static void begin(wk_exec *x) {
    const wk_batch *b = x->b;
    for (int32_t s = 0; s < b->n_seq; s++)
        for (int32_t i = 0; i < b->seq[s].n_tok; i++) {
            x->pos[b->seq[s].first + i] = b->seq[s].pos0 + i;
            x->seq[b->seq[s].first + i] = s;
        }
    for (int32_t i = 0; i < b->n_zero; i++) memset(x->kv + b->zero[i] * x->page_bytes, 0, x->page_bytes);
    for (int32_t i = 0; i < b->n_copy; i++)
        memcpy(x->kv + b->copy[2 * i] * x->page_bytes, x->kv + b->copy[2 * i + 1] * x->page_bytes, x->page_bytes);
    memset(x->bad, 0, (size_t)b->n_tok);
}

static size_t value_bytes(const wk_exec *x, int32_t v) {
    const wk_val *val = &x->p->val[v];
    const size_t rows = (size_t)fake_max_rows(x->p, v);
    return val->type == WK_VAL_F32 ? rows * (size_t)val->dim * sizeof(float) : rows * wk_val_ldb(val->dim) * 32;
}

/* What the pass will write, or what was put for the last one: neither may be taken for something. */
static void poison(wk_exec *x, bool inputs) {
    for (int32_t i = 0; i < x->p->n_val; i++) {
        fake_val *v = &x->v[i];
        if (!v->mem || v->is_input != inputs) continue;
        memset(v->mem, 0xff, value_bytes(x, i));
        v->n_put = 0;
    }
}

/* Logits and their largest, where the part has them. */
static void finish(wk_exec *x) {
    const size_t n = (size_t)x->p->n_vocab;
    if (!has_head(x)) return;
    for (int32_t i = 0; i < x->b->n_out; i++) {
        float *row = fake_f32(x, x->p->logits, i);
        if (x->d->nan_at && ++x->d->n_row == x->d->nan_at) row[n - 1] = NAN;
        memcpy(x->logits + (size_t)i * n, row, n * sizeof(float));
        x->top[i] = isfinite(x->d->k.sum(row, (int)n)) ? x->d->k.argmax(row, (int)n) : -1;
    }
}

static int execute(wk_exec *x, wk_err *err) {
    if (x->is_lost) return lost(x, "an earlier call", err);
    if (!x->b || x->is_done) return WICK_OK;
    const uint64_t t0 = now_ns();
    begin(x);
    poison(x, false);
    for (int32_t i = 0; i < x->n_step; i++) {
        const wk_step *s = &x->p->step[x->p->order[x->step_first + i]];
        if (fake_fails(x->d, FAKE_STEP)) return lost(x, op_name[s->op], err);
        const uint64_t t = now_ns();
        fake_step(x, s, strcmp(x->d->wrong, op_name[s->op]) == 0);
        const bool head = s->op == WK_OP_matmul && s->dst == x->p->logits;
        if (x->is_traced) *(head ? &x->trace.head_ns : &x->trace.op_ns[s->op]) += now_ns() - t;
    }
    finish(x);
    poison(x, true);
    x->is_done = true;
    if (x->is_traced) x->trace.wall_ns += now_ns() - t0;
    x->trace.n_pass++;
    return WICK_OK;
}

/* A result of the part that has the logits, counted as what a device sends. */
static void send(wk_exec *x, void *dst, const void *src, size_t n) {
    if (!has_head(x) || !dst || !n) return;
    memcpy(dst, src, n);
    x->d->sent += n;
    x->trace.n_get++;
    x->trace.get_bytes += n;
}

/* Hands the results of the pass over. */
static void deliver(wk_exec *x) {
    const wk_batch *b = x->b;
    if (!b) return;
    for (int32_t i = 0; i < b->n_tok && b->bad_tok; i++) b->bad_tok[i] |= x->bad[i];
    send(x, b->logits, x->logits, (size_t)b->n_out * (size_t)x->p->n_vocab * sizeof(float));
    send(x, b->top, x->top, (size_t)b->n_out * sizeof(int32_t));
    x->b = NULL;
}

static int drain(wk_exec *x, wk_err *err) {
    WK_TRY(execute(x, err));
    deliver(x);
    return WICK_OK;
}

static int fake_run(wk_exec *x, const wk_batch *b, wk_err *err) {
    WK_TRY(drain(x, err));
    if (fake_fails(x->d, FAKE_RUN)) return lost(x, "run", err);
    WK_TRY(check_batch(x, b, err));
    if (has_head(x) && b->logits && b->n_out)
        memset(b->logits, 0xff, (size_t)b->n_out * (size_t)x->p->n_vocab * sizeof(float));
    x->b = b;
    x->is_done = false;
    return WICK_OK;
}

static int fake_wait(wk_exec *x, wk_err *err) {
    if (fake_fails(x->d, FAKE_WAIT)) return lost(x, "wait", err);
    return drain(x, err);
}

/* ---- values -------------------------------------------------------------------------------------- */

static int check_value(const wk_exec *x, int32_t val, int32_t rows, size_t *bytes, wk_err *err) {
    if (val < 0 || val >= x->p->n_val || !x->v[val].mem || x->p->val[val].type != WK_VAL_F32 || rows < 0 ||
        rows > fake_max_rows(x->p, val))
        return wk_fail(err, WICK_E_ARG, "fake device: %d rows of value %d are not to be had of this part", (int)rows,
                       (int)val);
    *bytes = (size_t)rows * (size_t)x->p->val[val].dim * sizeof(float);
    return WICK_OK;
}

static int fake_put(wk_exec *x, int32_t val, int32_t rows, const float *src, wk_err *err) {
    size_t n = 0;
    const uint64_t t0 = now_ns();
    WK_TRY(execute(x, err));
    if (fake_fails(x->d, FAKE_PUT)) return lost(x, "put", err);
    WK_TRY(check_value(x, val, rows, &n, err));
    if (!x->v[val].is_input)
        return wk_fail(err, WICK_E_ARG, "fake device: value %d is written by the part itself", (int)val);
    if (n) memcpy(x->v[val].mem, src, n);
    x->v[val].n_put = rows;
    x->trace.n_put++;
    x->trace.put_bytes += n;
    x->trace.copy_ns += now_ns() - t0;
    return WICK_OK;
}

static int fake_get(wk_exec *x, int32_t val, int32_t rows, float *dst, wk_err *err) {
    size_t n = 0;
    WK_TRY(execute(x, err));
    const uint64_t t0 = now_ns();
    if (fake_fails(x->d, FAKE_GET)) return lost(x, "get", err);
    WK_TRY(check_value(x, val, rows, &n, err));
    if (n) memcpy(dst, x->v[val].mem, n);
    x->trace.n_get++;
    x->trace.get_bytes += n;
    x->trace.copy_ns += now_ns() - t0;
    return WICK_OK;
}

static void fake_trace_start(wk_exec *x) {
    x->trace = (wk_trace){0};
    x->is_traced = true;
}
static void fake_trace_stop(wk_exec *x) { x->is_traced = false; }
static void fake_trace_read(const wk_exec *x, wk_trace *out) { *out = x->trace; }

static size_t fake_later(const wk_plan *p, const wk_part *part) {
    (void)p;
    (void)part;
    return (size_t)fake_number("WICK_FAKE_LATER", 0);
}

#define FAKE_OPS                                                                                   \
    .abi = WK_BACKEND_ABI, .size = sizeof(wk_backend_ops), .name = "fake", .can_top = true,         \
    .count = fake_count, .open = fake_open, .close = fake_close, .info = fake_info,                \
    .can = fake_can, .prepare = fake_prepare, .run = fake_run, .wait = fake_wait,                  \
    .unprepare = fake_unprepare, .put = fake_put, .get = fake_get, .bytes = fake_bytes, .later = fake_later, \
    .trace_start = fake_trace_start, .trace_stop = fake_trace_stop, .trace_read = fake_trace_read

WK_EXPORT const wk_backend_ops *wick_backend(void);

const wk_backend_ops *wick_backend(void) {
    static wk_backend_ops ops = {FAKE_OPS};
    ops.abi = (uint32_t)fake_number("WICK_FAKE_ABI", WK_BACKEND_ABI);
    ops.size = (uint32_t)fake_number("WICK_FAKE_SIZE", (long)sizeof(wk_backend_ops));
    ops.can_top = fake_number("WICK_FAKE_TOP", 1) != 0;
    return &ops;
}

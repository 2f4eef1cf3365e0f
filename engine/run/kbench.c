/* kbench.c: a plan made by hand. Its input is the one value that a caller can write, the batch's logits buffer, so that
 * nothing but the quantisation and the product is in the time of a pass. */
#include "engine/run/kbench.h"

#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/rng.h"
#include "engine/cpu/cpu.h"
#include "engine/graph/slots.h"
#include "simd/format.h"

enum { MAX_ROWS = 1 << 20, MAX_K = 1 << 18, MAX_TOK = 4096, MAX_THREADS = 1024 };
enum { POOL_ROWS = 64, HEAD_DIM = 32, SEED_W = 11, SEED_X = 12 };

/* ---- checks -------------------------------------------------------------------------------------- */

static int check_number(const char *name, int32_t v, int32_t max, wk_err *err) {
    if (v >= 1 && v <= max) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "kernel: %s is %d, it must lie in 1 .. %d", name, (int)v,
                   (int)max);
}

static int check(const wk_kbench_options *o, wk_err *err) {
    const wk_format *f = &wk_formats[o->fmt];
    WK_TRY(check_number("n_row", o->n_row, MAX_ROWS, err));
    WK_TRY(check_number("k", o->k, MAX_K, err));
    WK_TRY(check_number("n_tok", o->n_tok, MAX_TOK, err));
    WK_TRY(check_number("threads", o->threads, MAX_THREADS, err));
    if (o->k % f->block != 0)
        return wk_fail(err, WICK_E_UNSUPPORTED, "kernel: k is %d, %s has blocks of %d", (int)o->k,
                       f->name, (int)f->block);
    return WICK_OK;
}

static uint32_t pages_of(int32_t n) { return (uint32_t)((n + WK_KV_PAGE - 1) / WK_KV_PAGE); }
static size_t input_bytes(const wk_plan *p) {
    return (size_t)p->max_tok * (size_t)p->dim * sizeof(float);
}

static int check_memory(const wk_kbench *b, int n_thread, const wk_machine *m, wk_err *err) {
    const wk_plan *p = &b->plan;
    const uint64_t need = (uint64_t)wk_cpu_backend()->bytes(p, NULL, pages_of(p->max_tok), n_thread) +
                          p->weight_bytes + input_bytes(p);
    if (need <= m->mem_free) return WICK_OK;
    return wk_fail(err, WICK_E_FIT, "kernel: needs %llu MB, %llu MB are available",
                   (unsigned long long)(need / 1000000),
                   (unsigned long long)(m->mem_free / 1000000));
}

/* ---- data ---------------------------------------------------------------------------------------- */

typedef struct source {
    uint64_t seed;
    uint32_t at, word[4];
} source;

static uint32_t next(source *s) {
    if (s->at % 4 == 0) {
        const uint32_t counter[4] = {s->at / 4, 0, 0, 0};
        wk_philox(s->word, s->seed, counter);
    }
    return s->word[s->at++ % 4];
}
static float uniform(source *s) { return (float)(int32_t)next(s) * 0x1p-31f; }

/* A file row of a format: values in -1 .. 1, or random bits whose scales are finite numbers. */
static void random_row(uint8_t *row, source *s, int fmt, float *x, int32_t k) {
    const wk_format *f = &wk_formats[fmt];
    if (f->encode) {
        for (int32_t i = 0; i < k; i++) x[i] = uniform(s);
        f->encode(row, x, k);
        return;
    }
    for (size_t at = 0; at < wk_row_bytes(fmt, (size_t)k); at += f->bytes) {
        do {
            for (size_t i = 0; i < f->bytes; i++) row[at + i] = (uint8_t)next(s);
        } while (f->find_nonfinite(row + at, f->block) >= 0);
    }
}

/* Some rows, over and over: time does not depend on what they hold. x: room for k values. */
static void fill_rows(uint8_t *rows, const wk_weight *w, float *x) {
    source s = {.seed = SEED_W};
    for (int32_t i = 0; i < w->n_row; i++) {
        uint8_t *row = rows + (size_t)i * w->row_bytes;
        if (i < POOL_ROWS)
            random_row(row, &s, w->fmt, x, w->k);
        else
            memcpy(row, rows + (size_t)(i % POOL_ROWS) * w->row_bytes, w->row_bytes);
    }
}

static void fill_input(wk_kbench *b) {
    source s = {.seed = SEED_X};
    const size_t n = (size_t)b->plan.max_tok * (size_t)b->plan.dim;
    for (size_t i = 0; i < n; i++) b->x[i] = uniform(&s);
}

static bool make_batch(wk_kbench *b) {
    const size_t n = (size_t)b->plan.max_tok;
    b->x = wk_alloc_aligned(input_bytes(&b->plan));
    b->tok = wk_new_n(int32_t, n);
    b->bad = wk_new_n(uint8_t, n);
    b->page = wk_new_n(uint32_t, pages_of(b->plan.max_tok));
    if (!b->x || !b->tok || !b->bad || !b->page) return false;
    for (uint32_t i = 0; i < pages_of(b->plan.max_tok); i++) b->page[i] = i;
    return true;
}

/* ---- plan ---------------------------------------------------------------------------------------- */

static wk_val_type quantised(int act) { return act == WK_X_A32 ? WK_VAL_A32 : WK_VAL_A256; }

static void set_values(wk_kbench *b, const wk_kbench_options *o) {
    const int act = wk_formats[o->fmt].act;
    b->val[WK_KBENCH_X] = (wk_val){.type = WK_VAL_F32, .dim = o->k};
    b->val[WK_KBENCH_Q] = (wk_val){.type = WK_VAL_F32, .dim = o->k, .in_row = true};
    if (act != WK_X_F32) b->val[WK_KBENCH_Q].type = (uint8_t)quantised(act);
    b->val[WK_KBENCH_Y] = (wk_val){.type = WK_VAL_F32, .dim = o->n_row};
    for (int i = 0; i < WK_KBENCH_VALS; i++) b->val[i].rows = WK_ROWS_TOK;
}

/* Step 0 quantises, step 1 multiplies; kind F has the second alone. */
static void set_steps(wk_kbench *b, const wk_kbench_options *o) {
    const wk_step none = {.layer = -1, .dst = -1, .src = {-1, -1, -1}, .w = {-1, -1}};
    const int32_t n_row_step = wk_formats[o->fmt].act == WK_X_F32 ? 0 : 1;
    const int32_t unit = o->n_row < WK_PANEL ? o->n_row : WK_PANEL;
    wk_step *quant = &b->step[0], *product = &b->step[n_row_step];
    *quant = *product = none;
    quant->op = WK_OP_quant;
    quant->src[0] = WK_KBENCH_X;
    quant->dst = WK_KBENCH_Q;
    product->op = WK_OP_matmul;
    product->src[0] = n_row_step ? WK_KBENCH_Q : WK_KBENCH_X;
    product->dst = WK_KBENCH_Y;
    product->w[0] = 0;
    b->order[0] = 0;
    b->order[1] = 1;
    b->chain = (wk_chain){.first = n_row_step,
                          .n = 1,
                          .unit = unit,
                          .n_unit = (o->n_row + unit - 1) / unit,
                          .rows = o->n_row};
    b->stage = (wk_stage){.layer = -1, .row_n = n_row_step, .chain_n = 1, .attn = -1};
    b->plan.n_step = b->plan.n_order = n_row_step + 1;
}

/* Attention has no step, but prepare makes room for one head of it. The input is placed as logits are. */
static int set_plan(wk_kbench *b, const wk_kbench_options *o, wk_err *err) {
    const size_t row_bytes = wk_row_bytes(o->fmt, (size_t)o->k);
    b->weight = (wk_weight){.name = "random weights",
                             .lora_of = -1,
                            .fmt = o->fmt,
                            .layer = -1,
                            .n_row = o->n_row,
                            .k = o->k,
                            .row_bytes = row_bytes};
    b->plan = (wk_plan){.n_layer = 1,
                        .dim = o->k,
                        .n_head = 1,
                        .n_head_kv = 1,
                        .head_dim = HEAD_DIM,
                        .max_tok = o->n_tok,
                        .max_out = 1,
                        .kv_type = WK_KV_F16,
                        .step = b->step,
                        .val = b->val,
                        .n_val = WK_KBENCH_VALS,
                        .weight = &b->weight,
                        .n_weight = 1,
                        .stage = &b->stage,
                        .n_stage = 1,
                        .chain = &b->chain,
                        .n_chain = 1,
                        .order = b->order,
                        .logits = WK_KBENCH_X,
                        .weight_bytes = row_bytes * (size_t)o->n_row};
    set_values(b, o);
    set_steps(b, o);
    return wk_slots_place(&b->plan, false, true, err);
}

/* ---- device -------------------------------------------------------------------------------------- */

/* After each weight; there is one. */
static bool on_packed(void *ud, uint64_t done, uint64_t total) {
    wk_kbench *b = ud;
    (void)done, (void)total; /* all of it */
    b->pack_ns = wk_os_now_ns() - b->pack_begin_ns;
    return true;
}

static int open_device(wk_kbench *b, const wk_kbench_options *o, int n_cpu, wk_err *err) {
    const wk_backend_ops *ops = wk_cpu_backend();
    const wk_host host = {.size = sizeof(host),
                          .n_thread = o->threads,
                          .n_cpu = n_cpu,
                          .cpu_mask = o->cpu_mask,
                          .progress = on_packed,
                          .ud = b};
    wk_pages rows = {0};
    WK_TRY(ops->open(&b->dev, 0, &host, err));
    if (!wk_pages_map(&rows, b->plan.weight_bytes))
        return wk_fail(err, WICK_E_NOMEM, "no memory for %zu MB of weights",
                       b->plan.weight_bytes / 1000000);
    fill_rows(rows.p, &b->weight, b->x);
    fill_input(b);
    b->weight.data = rows.p;
    b->pack_begin_ns = wk_os_now_ns();
    const int rc = ops->prepare(&b->exec, b->dev, &b->plan, NULL, pages_of(o->n_tok), err);
    wk_pages_unmap(&rows);
    b->weight.data = NULL; /* the packed ones are read from here on */
    return rc;
}

int wk_kbench_open(wk_kbench **out, const wk_kbench_options *o, wk_err *err) {
    int rc = WICK_OK;
    wk_machine m;
    WK_TRY(check(o, err));
    wk_kbench *b = wk_new(wk_kbench);
    if (!b) return wk_fail(err, WICK_E_NOMEM, "no memory for a plan of one product");
    wk_os_machine(&m);
    if ((rc = set_plan(b, o, err))) goto out;
    if ((rc = check_memory(b, o->threads, &m, err))) goto out;
    if (!make_batch(b)) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for %d tokens of %d values", (int)o->n_tok,
                     (int)o->k);
        goto out;
    }
    if ((rc = open_device(b, o, m.n_affinity, err))) goto out;
    *out = b;
    b = NULL;
out:
    wk_kbench_close(b);
    return rc;
}

void wk_kbench_close(wk_kbench *b) {
    if (!b) return;
    wk_cpu_backend()->unprepare(b->exec);
    wk_cpu_backend()->close(b->dev);
    wk_free_aligned(b->x);
    wk_free(b->tok);
    wk_free(b->bad);
    wk_free(b->page);
    wk_free(b);
}

int wk_kbench_pass(wk_kbench *b, double *seconds, wk_err *err) {
    const wk_backend_ops *ops = wk_cpu_backend();
    const int32_t n = b->plan.max_tok;
    const wk_batch_seq seq = {.n_tok = n, .n_page = (int32_t)pages_of(n), .page = b->page};
    const wk_batch batch = {
        .n_tok = n, .n_seq = 1, .tok = b->tok, .seq = &seq, .logits = b->x, .bad_tok = b->bad};
    const uint64_t t0 = wk_os_now_ns();
    WK_TRY(ops->run(b->exec, &batch, err));
    WK_TRY(ops->wait(b->exec, err));
    *seconds = (double)(wk_os_now_ns() - t0) * 1e-9;
    return WICK_OK;
}

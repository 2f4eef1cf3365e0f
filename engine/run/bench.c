/* bench.c: passes of a made-up batch between two rounds of the engine. It borrows the scheduler's batch arrays, which
 * every round fills anew, and pages of the pool that no request was promised. */
#include "engine/run/bench.h"

#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/rng.h"
#include "engine/run/sched.h"
#include "simd/format.h"

/* ---- cost ---------------------------------------------------------------------------------------- */

size_t wk_bench_packed(int fmt, int32_t n_row, int32_t k) {
    return wk_panel_bytes(fmt, (size_t)k) * (((size_t)n_row + WK_PANEL - 1) / WK_PANEL);
}

/* Of one value. Q8_0: a code and its share of an f16 scale (kernels.h). */
static double kv_bytes(int32_t type) {
    return type == WK_KV_F32 ? 4.0 : type == WK_KV_Q8_0 ? 34.0 / 32 : 2.0;
}

void wk_cost_of(wk_cost *out, const wk_plan *p) {
    *out = (wk_cost){0};
    for (int32_t i = 0; i < p->n_step; i++) {
        const wk_step *s = &p->step[i];
        if (s->op == WK_OP_attn) {
            out->kv_bytes_per_pos += 2.0 * s->n_head_kv * s->head_dim * kv_bytes(p->kv_type);
            out->attn_macs_per_pos += 2.0 * s->n_head * s->head_dim;
        }
        if (s->op != WK_OP_matmul) continue;
        const wk_weight *w = &p->weight[s->w[0]];
        *(s->layer < 0 ? &out->head_macs : &out->layer_macs) += (double)w->n_row * w->k;
        out->weight_bytes += (double)wk_bench_packed(w->fmt, w->n_row, w->k);
    }
}

/* ---- passes -------------------------------------------------------------------------------------- */

enum { MAX_REPS = 1 << 20, MAX_POS = 1 << 29, TOKEN_SEED = 0x7069636b };

/* One measurement on the engine's thread. */
typedef struct pass {
    wk_engine *e;
    wk_pass o;
    double *seconds;
    wk_hash *hash;    /* may be NULL */
    uint32_t *page;   /* [n_seq][per_seq] */
    int32_t per_seq;
    int32_t seq, tok; /* the next token of the pass that is under way */
} pass;

static int check_number(const char *name, int64_t v, int64_t min, int64_t max, wk_err *err) {
    if (v >= min && v <= max) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "pass: %s is %lld, it must lie in %lld .. %lld", name,
                   (long long)v, (long long)min, (long long)max);
}

static int check_pass(const wk_sched *s, const wk_pass *o, wk_err *err) {
    WK_TRY(check_number("n_seq", o->n_seq, 1, s->max_seqs, err));
    WK_TRY(check_number("n_tok", o->n_tok, 1, MAX_POS, err));
    WK_TRY(check_number("depth", o->depth, 0, MAX_POS, err));
    WK_TRY(check_number("warmup", o->warmup, 0, MAX_REPS, err));
    return check_number("reps", o->reps, 1, MAX_REPS, err);
}

static size_t count_pages(const pass *p) { return (size_t)p->o.n_seq * (size_t)p->per_seq; }

/* All pages that the pass needs, or none. */
static int take_pages(pass *p, wk_sched *s, wk_err *err) {
    const size_t want = count_pages(p), total = wk_kv_total(s->pool),
                 found = wk_kv_available(s->pool) - s->promised;
    if (want > found)
        return wk_fail(err, WICK_E_FIT,
                       "%d sequences of %lld positions take %zu, the KV cache holds %zu%s",
                       (int)p->o.n_seq, (long long)p->o.depth + p->o.n_tok, want * WK_KV_PAGE,
                       found * WK_KV_PAGE, want > total ? "" : " beside the requests that run");
    p->page = wk_new_n(uint32_t, want);
    if (!p->page) return wk_fail(err, WICK_E_NOMEM, "no memory for a table of %zu pages", want);
    for (size_t i = 0; i < want; i++) p->page[i] = wk_kv_take(s->pool);
    return WICK_OK;
}

static void release_pages(pass *p, wk_sched *s) {
    for (size_t i = p->page ? count_pages(p) : 0; i-- > 0;) wk_kv_release(s->pool, p->page[i]);
    wk_free(p->page);
}

static int32_t token_at(const wk_sched *s, int32_t seq, int32_t i) {
    const uint32_t counter[4] = {(uint32_t)i, (uint32_t)seq, 0, 0};
    uint32_t r[4];
    wk_philox(r, TOKEN_SEED, counter);
    return (int32_t)(r[0] % (uint32_t)s->plan->n_vocab);
}

static wk_batch empty_batch(wk_sched *s) {
    return (wk_batch){.tok = s->b_tok,
                      .out = s->b_out,
                      .seq = s->b_seq,
                      .logits = s->logits,
                      .bad_tok = s->b_bad};
}

/* n tokens of the sequence that is next; the last of the sequence wants its logits. */
static void add_tokens(pass *p, wk_sched *s, wk_batch *b, int32_t n) {
    for (int32_t i = 0; i < n; i++) s->b_tok[b->n_tok + i] = token_at(s, p->seq, p->tok + i);
    s->b_seq[b->n_seq++] =
        (wk_batch_seq){.first = b->n_tok,
                       .n_tok = n,
                       .pos0 = p->o.depth + p->tok,
                       .n_page = p->per_seq,
                       .page = p->page + (size_t)p->seq * (size_t)p->per_seq};
    b->n_tok += n;
    p->tok += n;
    if (p->tok < p->o.n_tok) return;
    s->b_out[b->n_out++] = b->n_tok - 1;
    p->tok = 0;
    p->seq++;
}

/* Sequence after sequence, as many tokens and rows as a step takes. */
static void plan_step(pass *p, wk_sched *s, wk_batch *b) {
    *b = empty_batch(s);
    while (p->seq < p->o.n_seq && b->n_tok < s->plan->max_tok && b->n_out < s->plan->max_out) {
        const int32_t left = p->o.n_tok - p->tok, room = s->plan->max_tok - b->n_tok;
        add_tokens(p, s, b, left < room ? left : room);
    }
}

static int run_step(pass *p, wk_sched *s, const wk_batch *b, double *seconds, wk_err *err) {
    if (wk_engine_is_closing(p->e))
        return wk_fail(err, WICK_E_CANCELED, "the engine was closed");
    memset(s->b_bad, 0, (size_t)b->n_tok);
    const uint64_t t0 = wk_os_now_ns();
    WK_TRY(s->ops->run(s->exec, b, err));
    WK_TRY(s->ops->wait(s->exec, err));
    *seconds += (double)(wk_os_now_ns() - t0) * 1e-9;
    for (int32_t i = 0; i < b->n_tok; i++)
        if (s->b_bad[i])
            return wk_fail(err, WICK_E_NUMERIC, "a key or value does not fit the cache type");
    return WICK_OK;
}

/* Zeroes all pages. A batch has one token at least: it stands where the pass will put its first. */
static int zero_pages(pass *p, wk_sched *s, wk_err *err) {
    double ignored = 0;
    wk_batch b = empty_batch(s);
    s->b_tok[0] = token_at(s, 0, 0);
    s->b_seq[0] = (wk_batch_seq){
        .n_tok = 1, .pos0 = p->o.depth, .n_page = p->per_seq, .page = p->page};
    b.n_tok = b.n_seq = 1;
    b.zero = p->page;
    b.n_zero = (int32_t)count_pages(p); /* not more than the pool has */
    return run_step(p, s, &b, &ignored, err);
}

static void hash_rows(const wk_sched *s, const wk_batch *b, wk_hash *hash) {
    const size_t v = (size_t)s->plan->n_vocab;
    for (int32_t row = 0; row < b->n_out; row++) {
        const float *x = s->logits + (size_t)row * v;
        for (size_t i = 0; i < v; i++) s->row[i] = x[i] + 0.0f; /* zero has one sign */
        *hash = wk_hash_bytes(*hash, s->row, v * sizeof(float));
    }
}

static int one_pass(pass *p, wk_sched *s, double *seconds, wk_hash *hash, wk_err *err) {
    wk_batch b;
    p->seq = p->tok = 0;
    *seconds = 0;
    if (hash) *hash = (wk_hash){0, 0};
    while (p->seq < p->o.n_seq) {
        plan_step(p, s, &b);
        if (!hash && s->can_top) { /* as the scheduler does for whoever takes the largest logit */
            b.top = s->b_top;
            b.logits = NULL;
        }
        WK_TRY(run_step(p, s, &b, seconds, err));
        if (hash) hash_rows(s, &b, hash);
    }
    return WICK_OK;
}

static int all_passes(pass *p, wk_sched *s, wk_err *err) {
    double ignored;
    wk_trace before;
    s->ops->trace_read(s->exec, &before);
    WK_TRY(zero_pages(p, s, err));
    /* A hash wants logits: of a pass whose time is not taken, where ids are less to carry and there is such a pass. */
    const bool early = s->can_top && p->o.warmup > 0;
    for (int32_t i = 0; i < p->o.warmup; i++)
        WK_TRY(one_pass(p, s, &ignored, early && i + 1 == p->o.warmup ? p->hash : NULL, err));
    if (s->is_traced && before.n_pass == 0) s->ops->trace_start(s->exec);
    for (int32_t i = 0; i < p->o.reps; i++)
        WK_TRY(one_pass(p, s, &p->seconds[i], early || i + 1 < p->o.reps ? NULL : p->hash, err));
    return WICK_OK;
}

static int pass_call(wk_sched *s, void *ud, wk_err *err) {
    pass *p = ud;
    WK_TRY(check_pass(s, &p->o, err));
    p->per_seq = (p->o.depth + p->o.n_tok + WK_KV_PAGE - 1) / WK_KV_PAGE;
    int rc = take_pages(p, s, err);
    if (!rc) rc = all_passes(p, s, err);
    release_pages(p, s);
    return rc;
}

int wk_pass_run(wk_engine *e, const wk_pass *o, double *seconds, wk_hash *hash, wk_err *err) {
    pass p = {.e = e, .o = *o, .seconds = seconds, .hash = hash};
    return wk_engine_call(e, pass_call, &p, err);
}

/* ---- trace --------------------------------------------------------------------------------------- */

static int trace_set_call(wk_sched *s, void *ud, wk_err *err) {
    const bool *on = ud;
    (void)err; /* cannot fail */
    if (*on)
        s->ops->trace_start(s->exec);
    else
        s->ops->trace_stop(s->exec);
    s->is_traced = *on;
    return WICK_OK;
}

static int trace_get_call(wk_sched *s, void *ud, wk_err *err) {
    (void)err; /* cannot fail */
    s->ops->trace_read(s->exec, ud);
    return WICK_OK;
}

int wk_trace_set(wk_engine *e, bool on, wk_err *err) {
    return wk_engine_call(e, trace_set_call, &on, err);
}
int wk_trace_get(wk_engine *e, wk_trace *out, wk_err *err) {
    return wk_engine_call(e, trace_get_call, out, err);
}

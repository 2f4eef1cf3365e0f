/* sched.c: the step planner. Decoding sequences first, one token each; then prompts in order of arrival fill the
 * step. A request is admitted when the pages of its whole prompt and answer can be promised, so a running request
 * never fails because another arrived. What is computed for a sequence does not depend on what shares its step. */
#include "engine/run/sched.h"

#include <math.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/base/os.h"

int wk_sched_open(wk_sched *s, int32_t max_queue, wk_err *err) {
    const size_t t = (size_t)s->plan->max_tok, o = (size_t)s->plan->max_out,
                 q = (size_t)s->max_seqs;
    const size_t v = (size_t)s->plan->n_vocab;
    s->wait_room = max_queue;
    s->active = wk_new_n(wk_request *, q);
    s->waiting = wk_new_n(wk_request *, (size_t)max_queue);
    s->b_tok = wk_new_n(int32_t, t);
    s->b_out = wk_new_n(int32_t, o);
    s->b_out_seq = wk_new_n(int32_t, o);
    s->b_top = wk_new_n(int32_t, o);
    s->b_seq = wk_new_n(wk_batch_seq, q);
    s->b_req = wk_new_n(wk_request *, q);
    s->b_zero = wk_new_n(uint32_t, t / WK_KV_PAGE + 2 * q);
    s->b_bad = wk_new_n(uint8_t, t);
    s->logits = wk_alloc_aligned(o * v * sizeof(float));
    s->row = wk_alloc_aligned(v * sizeof(float));
    if (!s->active || !s->waiting || !s->b_tok || !s->b_out || !s->b_out_seq || !s->b_top ||
        !s->b_seq || !s->b_req || !s->b_zero || !s->b_bad || !s->logits || !s->row)
        return wk_fail(err, WICK_E_NOMEM, "no memory for a batch of %zu tokens", t);
    return wk_sampler_open(&s->sampler, s->kern, s->plan->n_vocab, err);
}

void wk_sched_close(wk_sched *s) {
    wk_free(s->active);
    wk_free(s->waiting);
    wk_free(s->b_tok);
    wk_free(s->b_out);
    wk_free(s->b_out_seq);
    wk_free(s->b_top);
    wk_free(s->b_seq);
    wk_free(s->b_req);
    wk_free(s->b_zero);
    wk_free(s->b_bad);
    wk_free_aligned(s->logits);
    wk_free_aligned(s->row);
    wk_sampler_close(s->sampler);
}

void wk_sched_enqueue(wk_sched *s, wk_request *r) {
    s->waiting[(s->wait_head + s->n_waiting++) % s->wait_room] = r;
}

/* ---- pages --------------------------------------------------------------------------------------- */

/* Leading pages that are known already; at least one token is left to compute. */
static void take_prefix(wk_sched *s, wk_request *r) {
    r->chain = r->salt;
    if (!s->prefix_cache || r->score) return;
    while ((r->n_page + 1) * WK_KV_PAGE < r->n_prompt) {
        const int32_t *tok = r->tok + r->n_page * WK_KV_PAGE;
        const uint32_t page = wk_kv_find(s->pool, r->chain, tok);
        if (page == WK_NO_PAGE) break;
        wk_kv_hold(s->pool, page);
        r->chain = wk_kv_chain(r->chain, tok);
        r->page[r->n_page++] = page;
    }
    r->n_known = r->n_page;
    r->n_past = r->n_cached = r->n_page * WK_KV_PAGE;
}

static void drop_pages(wk_sched *s, wk_request *r) {
    for (int32_t i = r->n_page; i-- > 0;)
        wk_kv_release(s->pool, r->page[i]); /* tails are reused first */
    r->n_page = 0;
    s->promised -= (uint32_t)r->n_reserved;
    r->n_reserved = 0;
}

/* Remembers the pages that the step filled. */
static void remember_pages(wk_sched *s, wk_request *r) {
    if (!s->prefix_cache || r->score) return;
    while ((r->n_known + 1) * WK_KV_PAGE <= r->n_past) {
        const int32_t *tok = r->tok + r->n_known * WK_KV_PAGE;
        wk_kv_remember(s->pool, r->page[r->n_known++], r->chain, tok);
        r->chain = wk_kv_chain(r->chain, tok);
    }
}

/* Pages for everything before position end; handed-out ones go to the zero list. */
static void cover(wk_sched *s, wk_request *r, int32_t end, int32_t *n_zero) {
    while (r->n_page * WK_KV_PAGE < end) {
        const uint32_t page = wk_kv_take(s->pool); /* promised at admission: never WK_NO_PAGE */
        r->page[r->n_page++] = page;
        r->n_reserved--;
        s->promised--;
        s->b_zero[(*n_zero)++] = page;
    }
}

/* ---- admission and end --------------------------------------------------------------------------- */

static void finish(wk_sched *s, int32_t i, wk_finish how) {
    wk_request *r = s->active[i];
    drop_pages(s, r);
    memmove(&s->active[i], &s->active[i + 1], (size_t)(s->n_active - i - 1) * sizeof(*s->active));
    s->n_active--;
    wk_request_end(r, how);
    wk_request_drop(r);
}

static void finish_error(wk_sched *s, int32_t i, int code, const char *what) {
    (void)wk_fail(&s->active[i]->error, code, "%s", what);
    finish(s, i, WK_FIN_ERROR);
}

static bool admit_one(wk_sched *s, wk_request *r) {
    take_prefix(s, r);
    const int32_t last = r->n_prompt + (r->score ? 0 : r->max_tokens);
    const int32_t need = (last + WK_KV_PAGE - 1) / WK_KV_PAGE - r->n_page;
    if (wk_kv_available(s->pool) < s->promised + (uint32_t)need) {
        drop_pages(s, r);
        r->n_past = r->n_cached = r->n_known = 0;
        return false;
    }
    r->n_reserved = need;
    s->promised += (uint32_t)need;
    r->t_admit = wk_os_now_ns();
    s->active[s->n_active++] = r;
    atomic_fetch_add(&s->n_cached_tok, (uint64_t)r->n_cached);
    atomic_fetch_sub(&s->s_waiting, 1); /* before its reader can know */
    wk_request_put(r, WK_EV_ADMITTED, (wk_str){"", 0}, r->n_prompt, r->n_cached);
    return true;
}

static void admit(wk_sched *s) {
    while (s->n_waiting && s->n_active < s->max_seqs) {
        if (!admit_one(s, s->waiting[s->wait_head]))
            return; /* first come, first served: nobody overtakes */
        s->wait_head = (s->wait_head + 1) % s->wait_room;
        s->n_waiting--;
    }
}

/* Cancelled ones leave wherever they stand, so that a place in the queue is free at once. */
static void drop_cancelled(wk_sched *s) {
    for (int32_t i = s->n_active; i-- > 0;)
        if (atomic_load(&s->active[i]->cancel)) finish(s, i, WK_FIN_CANCEL);
    int32_t kept = 0;
    for (int32_t i = 0; i < s->n_waiting; i++) {
        wk_request *r = s->waiting[(s->wait_head + i) % s->wait_room];
        if (atomic_load(&r->cancel)) {
            atomic_fetch_sub(&s->s_waiting, 1); /* before its reader can know */
            wk_request_end(r, WK_FIN_CANCEL);
            wk_request_drop(r);
        } else {
            s->waiting[(s->wait_head + kept++) % s->wait_room] = r;
        }
    }
    s->n_waiting = kept;
}

void wk_sched_cancel_all(wk_sched *s) {
    while (s->n_active) finish_error(s, s->n_active - 1, WICK_E_CANCELED, "the engine was closed");
    while (s->n_waiting) {
        wk_request *r = s->waiting[s->wait_head];
        s->wait_head = (s->wait_head + 1) % s->wait_room;
        s->n_waiting--;
        (void)wk_fail(&r->error, WICK_E_CANCELED, "the engine was closed");
        wk_request_end(r, WK_FIN_ERROR);
        wk_request_drop(r);
    }
}

/* ---- one step ------------------------------------------------------------------------------------ */

/* Rows of logits that n tokens of r would need. */
static int32_t rows_wanted(const wk_request *r, int32_t n) {
    if (r->score) return n;
    return r->n_past + n == r->n_tok ? 1 : 0;
}

static void add_to_batch(wk_sched *s, wk_batch *b, wk_request *r, int32_t n) {
    const int32_t rows = rows_wanted(r, n);
    cover(s, r, r->n_past + n, &b->n_zero);
    memcpy(s->b_tok + b->n_tok, r->tok + r->n_past, (size_t)n * sizeof(int32_t));
    s->b_seq[b->n_seq] = (wk_batch_seq){b->n_tok, n, r->n_past, r->n_page, r->page};
    for (int32_t i = 0; i < rows; i++) {
        s->b_out[b->n_out] = b->n_tok + n - rows + i;
        s->b_out_seq[b->n_out++] = b->n_seq;
    }
    s->b_req[b->n_seq++] = r;
    b->n_tok += n;
}

/* Where all rows are for requests that take the largest logit and show none, the device may say which it is: an id is
 * carried instead of a vocabulary. One that looks at its logits brings them for its whole step. */
static void ask_for_ids(const wk_sched *s, wk_batch *b) {
    if (!s->can_top) return;
    for (int32_t i = 0; i < b->n_out; i++) {
        const wk_request *r = s->b_req[s->b_out_seq[i]];
        if (r->score || r->hash_logits || !wk_sample_is_argmax(&r->sampling)) return;
    }
    b->top = s->b_top;
    b->logits = NULL;
}

static void plan_step(wk_sched *s, wk_batch *b) {
    *b = (wk_batch){.tok = s->b_tok,
                    .out = s->b_out,
                    .seq = s->b_seq,
                    .zero = s->b_zero,
                    .logits = s->logits,
                    .bad_tok = s->b_bad};
    for (int pass = 0; pass < 2; pass++) /* 0: decoding, 1: prompts */
        for (int32_t i = 0; i < s->n_active; i++) {
            wk_request *r = s->active[i];
            const int32_t left = r->n_tok - r->n_past, room = s->plan->max_tok - b->n_tok;
            if ((left > 1 || r->n_generated == 0) != (pass == 1) || room < 1) continue;
            if (!r->score && !wk_request_has_room(r)) continue; /* its reader is slow: parked */
            int32_t n = left < room ? left : room;
            const int32_t out_room = s->plan->max_out - b->n_out;
            if (rows_wanted(r, n) > out_room) n = r->score ? out_room : n - 1;
            if (n > 0) add_to_batch(s, b, r, n);
        }
    memset(s->b_bad, 0, (size_t)b->n_tok);
    ask_for_ids(s, b);
}

static void hash_logits(wk_sched *s, wk_request *r, const float *logits) {
    const int32_t n = s->plan->n_vocab;
    for (int32_t i = 0; i < n; i++) s->row[i] = logits[i] + 0.0f; /* zero has one sign */
    r->hash = wk_hash_bytes(r->hash, s->row, (size_t)n * sizeof(float));
}

static void put_text(wk_request *r) {
    if (r->text.n) wk_request_put(r, WK_EV_TEXT, wk_buf_str(&r->text), 0, 0);
}

/* One sampled token: WK_FIN_NONE to go on, WK_FIN_ERROR with the reason in r->error. Text goes to the ring. */
static wk_finish accept(wk_sched *s, wk_request *r, int32_t id) {
    bool stopped = false;
    if (r->n_generated == 0) r->t_first = wk_os_now_ns();
    wk_buf_reset(&r->text);
    const bool ends = !r->ignore_end && wk_tok_is_end(s->tok, id);
    int rc = WICK_OK;
    if (!ends) {
        r->tok[r->n_tok++] = id;
        r->n_generated++;
        atomic_fetch_add(&s->n_gen_tok, 1);
        rc = wk_stream_put(&r->stream, id, &r->text, &stopped);
    }
    const bool full = r->n_generated >= r->max_tokens;
    if (!rc && !stopped && (ends || full)) rc = wk_stream_end(&r->stream, &r->text);
    if (rc) { /* memory was taken at open: only a vocabulary of very long texts can do it */
        (void)wk_fail(&r->error, WICK_E_UNSUPPORTED,
                      "the text of token %d is longer than the %d bytes of a step", (int)id,
                      (int)WK_STEP_TEXT);
        return WK_FIN_ERROR;
    }
    put_text(r);
    return stopped || ends ? WK_FIN_STOP : full ? WK_FIN_LENGTH : WK_FIN_NONE;
}

static int32_t index_of(const wk_sched *s, const wk_request *r) {
    for (int32_t i = 0; i < s->n_active; i++)
        if (s->active[i] == r) return i;
    return -1;
}

static void score_row(wk_sched *s, wk_request *r, int32_t pos, const float *logits) {
    if (r->on_row) r->on_row(r->on_row_ud, pos, logits, s->plan->n_vocab);
    if (pos + 1 < r->n_prompt)
        r->score[pos + 1] = (float)wk_log_prob(s->sampler, logits, r->tok[pos + 1]);
}

/* NaN and infinities stay in a sum; a device that gives ids tells of them by an id that is none. */
static bool is_finite_row(const wk_sched *s, const wk_batch *b, int32_t row, const float *logits) {
    return b->top ? b->top[row] >= 0 : isfinite(s->kern->sum(logits, s->plan->n_vocab));
}

/* What a row of logits, or its id, means for its request. */
static void use_row(wk_sched *s, const wk_batch *b, int32_t row) {
    wk_request *r = s->b_req[s->b_out_seq[row]];
    const int32_t at = index_of(s, r);
    if (at < 0) return; /* ended earlier in this step */
    const float *logits = s->logits + (size_t)row * (size_t)s->plan->n_vocab; /* not written where b->top is */
    if (!is_finite_row(s, b, row, logits)) {
        finish_error(s, at, WICK_E_NUMERIC,
                     "the model computed a logit that is not a finite number");
        return;
    }
    const wk_batch_seq *q = &s->b_seq[s->b_out_seq[row]];
    const int32_t pos = q->pos0 + b->out[row] - q->first;
    if (r->hash_logits) hash_logits(s, r, logits);
    if (r->score) {
        score_row(s, r, pos, logits);
        return;
    }
    const wk_history h = {r->tok, r->n_prompt, r->n_tok};
    const int32_t id = b->top ? b->top[row]
                              : wk_sample(s->sampler, logits, &r->sampling, &h, (uint64_t)pos + 1, 0);
    const wk_finish how = accept(s, r, id);
    if (how != WK_FIN_NONE) finish(s, at, how);
}

static void advance(wk_sched *s, const wk_batch *b, int32_t i) {
    wk_request *r = s->b_req[i];
    const wk_batch_seq *q = &b->seq[i];
    for (int32_t t = 0; t < q->n_tok; t++)
        if (b->bad_tok[q->first + t]) {
            finish_error(s, index_of(s, r), WICK_E_NUMERIC,
                         "a key or value does not fit the cache type");
            s->b_req[i] = NULL;
            return;
        }
    r->n_past += q->n_tok;
    if (r->n_past <= r->n_prompt) atomic_fetch_add(&s->n_prompt_tok, (uint64_t)q->n_tok);
    remember_pages(s, r);
    if (r->n_past < r->n_prompt)
        wk_request_put(r, WK_EV_PROGRESS, (wk_str){"", 0}, r->n_prompt, r->n_past);
}

static void publish(wk_sched *s) {
    atomic_store(&s->s_running, s->n_active);
    atomic_store(&s->s_waiting, s->n_waiting);
    atomic_store(&s->s_free, (int32_t)wk_kv_available(s->pool));
    atomic_store(&s->s_known, (int32_t)wk_kv_remembered(s->pool));
}

static void fail_batch(wk_sched *s, const wk_batch *b, const wk_err *err) {
    for (int32_t i = 0; i < b->n_seq; i++)
        finish_error(s, index_of(s, s->b_req[i]), err->code, err->message);
}

bool wk_sched_round(wk_sched *s) {
    wk_batch b;
    wk_err err = {0};
    drop_cancelled(s);
    admit(s);
    plan_step(s, &b);
    publish(s);
    if (b.n_tok == 0) return false;
    if (s->ops->run(s->exec, &b, &err) || s->ops->wait(s->exec, &err)) {
        fail_batch(s, &b, &err);
        return true;
    }
    atomic_fetch_add(&s->n_step, 1);
    for (int32_t i = 0; i < b.n_seq; i++) advance(s, &b, i);
    for (int32_t i = 0; i < b.n_out; i++)
        if (s->b_req[s->b_out_seq[i]]) use_row(s, &b, i);
    for (int32_t i = s->n_active; i-- > 0;) /* scoring ends with the prompt */
        if (s->active[i]->score && s->active[i]->n_past >= s->active[i]->n_prompt)
            finish(s, i, WK_FIN_LENGTH);
    publish(s);
    return true;
}

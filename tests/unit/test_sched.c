/* test_sched.c: the step planner over a device that only looks.
 *
 * The device keeps the token of every cached position, page by page, and makes its next token from all tokens before
 * it as it finds them there: a page that was mixed up, handed out twice, not zeroed, or shared with the wrong prefix
 * changes the answer. Every batch is checked against what the planner promises. */
#include "tests/unit/unit.h"

#include <math.h>

#include "engine/base/arena.h"
#include "engine/base/rng.h"
#include "engine/run/sched.h"
#include "simd/level.h"

enum { MAX_TOK = 48, MAX_OUT = 6, MAX_SEQS = 5, QUEUE = 12, N_PAGE = 24, N_CTX = 640, MAX_LIVE = 64 };

struct wk_exec {
    const wk_plan *plan;
    int32_t cell[N_PAGE][WK_KV_PAGE]; /* -1: zeroed */
    int fail;                         /* 1: run fails, 2: NaN logits, 3: bad token in the first sequence */
    uint64_t n_run, n_ids; /* passes; of them such as wanted ids alone */
    bool mixed; /* a batch had prompts and decoding */
    int32_t one_tok_after_prompt;
};

typedef struct fixture {
    wk_sched s;
    wk_exec x;
    wk_plan plan;
    wk_kernels k;
    wk_store *store;
    wk_tok *tok;
    uint32_t counter;
} fixture;

static uint32_t next(fixture *f, uint32_t n) {
    uint32_t out[4];
    const uint32_t c[4] = {f->counter++, 0, 0, 0};
    wk_philox(out, 3, c);
    return out[0] % n;
}

/* ---- the device ---------------------------------------------------------------------------------- */

static uint32_t mix(uint32_t h, int32_t tok) { return (h ^ (uint32_t)tok) * 16777619u + 12345u; }
static int32_t token_of(uint32_t h, int32_t n_vocab) { return (int32_t)(2 + (h >> 8) % ((uint32_t)n_vocab - 2)); }

static uint32_t hash_until(const wk_exec *x, const wk_batch_seq *q, int32_t end) {
    uint32_t h = 1;
    for (int32_t i = 0; i < end; i++) {
        const int32_t t = x->cell[q->page[i / WK_KV_PAGE]][i % WK_KV_PAGE];
        assert_true(t >= 0);
        h = mix(h, t);
    }
    return h;
}

static void write_tokens(wk_exec *x, const wk_batch *b) {
    for (int32_t i = 0; i < b->n_zero; i++)
        for (int j = 0; j < WK_KV_PAGE; j++) x->cell[b->zero[i]][j] = -1;
    for (int32_t s = 0; s < b->n_seq; s++)
        for (int32_t i = 0; i < b->seq[s].n_tok; i++) {
            const int32_t pos = b->seq[s].pos0 + i;
            int32_t *cell = &x->cell[b->seq[s].page[pos / WK_KV_PAGE]][pos % WK_KV_PAGE];
            assert_int_equal(*cell, -1); /* a page is zeroed when handed out and each place written once */
            *cell = b->tok[b->seq[s].first + i];
        }
}

static void check_batch(wk_exec *x, const wk_batch *b) {
    int32_t at = 0;
    assert_true(b->n_tok >= 1 && b->n_tok <= MAX_TOK && b->n_out <= MAX_OUT && b->n_seq <= MAX_SEQS);
    for (int32_t s = 0; s < b->n_seq; s++) {
        const wk_batch_seq *q = &b->seq[s];
        assert_int_equal(q->first, at);
        assert_true(q->n_tok >= 1 && q->n_page * WK_KV_PAGE >= q->pos0 + q->n_tok);
        assert_true(q->n_page * WK_KV_PAGE < q->pos0 + q->n_tok + WK_KV_PAGE);
        for (int32_t i = 0; i < q->n_page; i++) assert_true(q->page[i] < N_PAGE);
        at += q->n_tok;
    }
    assert_int_equal(at, b->n_tok);
    for (int32_t i = 0; i < b->n_out; i++) assert_true(b->out[i] < b->n_tok && (i == 0 || b->out[i] > b->out[i - 1]));
    for (int32_t i = 0; i < b->n_tok; i++) assert_int_equal(b->bad_tok[i], 0);
    (void)x;
}

static int fake_run(wk_exec *x, const wk_batch *b, wk_err *err) {
    check_batch(x, b);
    x->n_run++;
    if (x->fail == 1) return wk_fail(err, WICK_E_DEVICE, "the device is on fire");
    write_tokens(x, b);
    for (int32_t i = 0; i < b->n_out; i++) {
        int32_t s = 0;
        while (b->out[i] >= b->seq[s].first + b->seq[s].n_tok) s++;
        const uint32_t h = hash_until(x, &b->seq[s], b->seq[s].pos0 + b->out[i] - b->seq[s].first + 1);
        const int32_t id = token_of(h, x->plan->n_vocab);
        if (b->top) b->top[i] = x->fail == 2 ? -1 : id;
        if (!b->logits) continue;
        float *row = b->logits + (size_t)i * (size_t)x->plan->n_vocab;
        for (int32_t v = 0; v < x->plan->n_vocab; v++) row[v] = 0;
        row[id] = x->fail == 2 ? NAN : 10;
    }
    x->n_ids += b->n_out && !b->logits;
    if (x->fail == 3) b->bad_tok[b->seq[0].first] = 1;
    return WICK_OK;
}
static int fake_wait(wk_exec *x, wk_err *err) {
    (void)x, (void)err;
    return WICK_OK;
}
static const wk_backend_ops fake = {
    .abi = WK_BACKEND_ABI, .size = sizeof(fake), .name = "fake", .run = fake_run, .wait = fake_wait};

/* ---- fixture ------------------------------------------------------------------------------------- */

static fixture *open_fixture(uint32_t n_page, bool prefix_cache) {
    wk_err err = {0};
    fixture *f = wk_new(fixture);
    assert_non_null(f);
    if (wk_store_open(&f->store, "tests/golden/tiny/llama.gguf", &err) || wk_tok_open(&f->tok, f->store, &err) ||
        wk_kv_open(&f->s.pool, n_page, &err))
        fail_msg("%s", err.message);
    f->plan = (wk_plan){.max_tok = MAX_TOK, .max_out = MAX_OUT, .n_vocab = wk_tok_count(f->tok)};
    wk_kernels_init(&f->k, wk_cpu_detect());
    f->x.plan = &f->plan;
    memset(f->x.cell, 0x7f, sizeof(f->x.cell));
    f->s.ops = &fake;
    f->s.exec = &f->x;
    f->s.plan = &f->plan;
    f->s.tok = f->tok;
    f->s.kern = &f->k;
    f->s.prefix_cache = prefix_cache;
    f->s.n_ctx = N_CTX;
    f->s.max_seqs = MAX_SEQS;
    assert_int_equal(wk_sched_open(&f->s, QUEUE, &err), WICK_OK);
    return f;
}

static void close_fixture(fixture *f) {
    assert_int_equal(f->s.n_active, 0);
    assert_int_equal(f->s.promised, 0);
    assert_int_equal(wk_kv_available(f->s.pool), wk_kv_total(f->s.pool));
    wk_sched_close(&f->s);
    wk_kv_close(f->s.pool);
    wk_tok_close(f->tok);
    wk_store_close(f->store);
    wk_free(f);
}

/* Queued, and still the caller's too. */
static wk_request *ask(fixture *f, const int32_t *prompt, int32_t n, int32_t n_answer) {
    wk_request *r = NULL;
    assert_int_equal(wk_request_new(&r, f->tok, prompt, n, n + n_answer, NULL, 0, NULL), WICK_OK);
    r->ignore_end = true;
    wk_request_hold(r);
    wk_sched_enqueue(&f->s, r);
    atomic_fetch_add(&f->s.s_waiting, 1);
    return r;
}

static void check_answer(const fixture *f, const wk_request *r) {
    uint32_t h = 1;
    for (int32_t i = 0; i < r->n_tok; i++) {
        if (i >= r->n_prompt && r->tok[i] != token_of(h, f->plan.n_vocab))
            fail_msg("token %d of a prompt of %d: %d, wanted %d", (int)i, (int)r->n_prompt, (int)r->tok[i],
                     (int)token_of(h, f->plan.n_vocab));
        h = mix(h, r->tok[i]);
    }
}

/* Reads what waits; true after the last event. */
static bool drain(wk_request *r, int limit) {
    wk_ring_event ev;
    wk_str text;
    while (!r->ended && limit-- && wk_request_next(r, 0, &ev, &text) == WICK_OK) {
    }
    return r->ended;
}

/* ---- tests --------------------------------------------------------------------------------------- */

/* Prompts out of few beginnings, random lengths, readers that sleep, cancels. All that finish say what they must. */
static void live(bool prefix_cache, bool can_top) {
    fixture *f = open_fixture(N_PAGE, prefix_cache);
    f->s.can_top = can_top;
    wk_request *r[MAX_LIVE] = {0};
    int32_t prompt[500];
    int n_done = 0, n_cached = 0;
    for (int round = 0; round < 6000; round++) {
        const uint32_t i = next(f, MAX_LIVE);
        if (!r[i] && f->s.n_waiting < QUEUE) {
            const int32_t n = next(f, 4) ? 1 + (int32_t)next(f, 400) : 64 * (1 + (int32_t)next(f, 6));
            const int32_t kind = (int32_t)next(f, 3);
            for (int32_t k = 0; k < n; k++) prompt[k] = 2 + (k / 70 + kind * 10) % 200;
            if (next(f, 2)) prompt[n / 2] = 250;
            r[i] = ask(f, prompt, n, 1 + (int32_t)next(f, 100));
            if (next(f, 5) == 0) r[i]->sampling.temperature = 1e-4; /* draws, and cannot draw another one */
        } else if (r[i] && next(f, 40) == 0) {
            atomic_store(&r[i]->cancel, 1);
        }
        (void)wk_sched_round(&f->s);
        for (int k = 0; k < MAX_LIVE; k++) {
            if (!r[k] || !drain(r[k], (int)next(f, 3) * 50)) continue;
            assert_true(r[k]->finish == WK_FIN_LENGTH || r[k]->finish == WK_FIN_CANCEL);
            check_answer(f, r[k]);
            n_done += r[k]->finish == WK_FIN_LENGTH;
            n_cached += r[k]->n_cached > 0;
            wk_request_drop(r[k]);
            r[k] = NULL;
        }
    }
    int n_left = MAX_LIVE;
    for (int guard = 0; n_left && guard < 20000; guard++) { /* with readers that read all come to an end */
        (void)wk_sched_round(&f->s);
        n_left = 0;
        for (int k = 0; k < MAX_LIVE; k++) n_left += r[k] && !drain(r[k], 1000);
    }
    assert_int_equal(n_left, 0);
    for (int k = 0; k < MAX_LIVE; k++)
        if (r[k]) {
            check_answer(f, r[k]);
            wk_request_drop(r[k]);
        }
    print_message("%d done, %d from a known prefix, %llu steps\n", n_done, n_cached, (unsigned long long)f->x.n_run);
    assert_true(n_done > 50);
    assert_int_equal(n_cached > 0, prefix_cache);
    assert_true(can_top ? f->x.n_ids > 100 && f->x.n_ids + 100 < f->x.n_run : f->x.n_ids == 0);
    close_fixture(f);
}

static void test_random_with_prefixes(void **s) { (void)s, live(true, false); }
static void test_random_without_prefixes(void **s) { (void)s, live(false, false); }
static void test_random_by_ids(void **s) { (void)s, live(true, true); }

/* Whoever looks at logits gets them, and whoever shares the step; the answer is the same. */
static void test_who_wants_logits(void **s) {
    (void)s;
    static const float value = -100;
    static const int32_t token = 255, prompt[] = {5, 6, 7};
    for (int what = 0; what < 7; what++) {
        fixture *f = open_fixture(N_PAGE, false);
        f->s.can_top = what != 6;
        wk_request *r = ask(f, prompt, 3, 4), *other = ask(f, prompt, 2, 4);
        if (what == 1) r->sampling.temperature = 1e-4;
        if (what == 2) r->sampling.n_bias = 1, r->sampling.bias_token = &token, r->sampling.bias_value = &value;
        if (what == 3) r->sampling.repeat_penalty = 1.1;
        if (what == 4) r->sampling.presence_penalty = 0.1;
        if (what == 5) r->hash_logits = true;
        while (wk_sched_round(&f->s)) {
        }
        assert_true(drain(r, 100) && drain(other, 100));
        assert_int_equal(r->n_generated, 4);
        if (what != 3) check_answer(f, r);
        check_answer(f, other);
        assert_int_equal(f->x.n_ids, what ? 0 : f->x.n_run);
        wk_request_drop(r);
        wk_request_drop(other);
        close_fixture(f);
    }
}

/* Who came first is admitted first, although a smaller one would fit. */
static void test_nobody_overtakes(void **s) {
    (void)s;
    fixture *f = open_fixture(6, true);
    int32_t prompt[300];
    for (int i = 0; i < 300; i++) prompt[i] = 2 + i % 200;
    wk_request *big = ask(f, prompt, 250, 10), *second = ask(f, prompt + 7, 200, 10), *small = ask(f, prompt + 9, 5, 5);
    assert_true(wk_sched_round(&f->s));
    assert_int_equal(f->s.n_active, 1);
    assert_int_equal(f->s.n_waiting, 2);
    int guard = 0;
    while (!big->over && guard++ < 100) (void)wk_sched_round(&f->s);
    (void)wk_sched_round(&f->s);
    assert_int_equal(f->s.n_active, 2);
    assert_int_equal(f->s.n_waiting, 0);
    while (wk_sched_round(&f->s)) {
    }
    assert_true(drain(big, 1000) && drain(second, 1000) && drain(small, 1000));
    check_answer(f, big);
    check_answer(f, second);
    check_answer(f, small);
    wk_request_drop(big);
    wk_request_drop(second);
    wk_request_drop(small);
    close_fixture(f);
}

/* A cancelled one leaves the middle of the queue at once, the order of the others stays. */
static void test_cancel_in_the_queue(void **s) {
    (void)s;
    fixture *f = open_fixture(6, true);
    int32_t prompt[300] = {0};
    for (int i = 0; i < 300; i++) prompt[i] = 2 + i % 200;
    wk_request *r[6];
    r[0] = ask(f, prompt, 250, 100); /* all pages */
    assert_true(wk_sched_round(&f->s));
    for (int i = 1; i < 6; i++) r[i] = ask(f, prompt + i, 250, 100);
    atomic_store(&r[1]->cancel, 1);
    atomic_store(&r[3]->cancel, 1);
    (void)wk_sched_round(&f->s);
    assert_true(r[1]->over && r[3]->over);
    assert_int_equal(f->s.n_waiting, 3);
    assert_int_equal(atomic_load(&f->s.s_waiting), 3);
    const int order[] = {0, 2, 4, 5};
    for (int k = 0; k < 4; k++) { /* each in its turn */
        for (int guard = 0; guard < 400 && !r[order[k]]->over; guard++) {
            (void)wk_sched_round(&f->s);
            (void)drain(r[order[k]], 1000);
        }
        assert_true(r[order[k]]->over);
        check_answer(f, r[order[k]]);
        for (int j = k + 1; j < 4; j++) assert_false(r[order[j]]->over);
    }
    for (int i = 0; i < 6; i++) wk_request_drop(r[i]);
    close_fixture(f);
}

static void check_failure(int how, int code, int n_lost, bool can_top) {
    fixture *f = open_fixture(N_PAGE, true);
    f->s.can_top = can_top;
    int32_t prompt[40];
    wk_request *r[3];
    int lost = 0;
    for (int i = 0; i < 40; i++) prompt[i] = 2 + i;
    for (int i = 0; i < 3; i++) r[i] = ask(f, prompt + i, 10, 20);
    for (int i = 0; i < 4; i++) assert_true(wk_sched_round(&f->s));
    f->x.fail = how;
    assert_true(wk_sched_round(&f->s));
    f->x.fail = 0;
    while (wk_sched_round(&f->s)) {
    }
    for (int i = 0; i < 3; i++) {
        assert_true(drain(r[i], 1000));
        if (r[i]->finish == WK_FIN_ERROR) {
            assert_int_equal(r[i]->error.code, code);
            assert_true(r[i]->error.message[0] != 0);
            lost++;
        } else {
            assert_int_equal(r[i]->finish, WK_FIN_LENGTH);
            assert_int_equal(r[i]->n_generated, 20);
        }
        check_answer(f, r[i]);
        wk_request_drop(r[i]);
    }
    assert_int_equal(lost, n_lost);
    close_fixture(f);
}

static void test_device_fails(void **s) { (void)s, check_failure(1, WICK_E_DEVICE, 3, true); }
static void test_logits_are_no_numbers(void **s) { (void)s, check_failure(2, WICK_E_NUMERIC, 3, false); }
static void test_ids_of_no_numbers(void **s) { (void)s, check_failure(2, WICK_E_NUMERIC, 3, true); }
static void test_cache_overflows(void **s) { (void)s, check_failure(3, WICK_E_NUMERIC, 1, true); }

/* Scoring brings all rows, MAX_OUT at a time, beside others. */
static void test_score_rows(void **s) {
    (void)s;
    fixture *f = open_fixture(N_PAGE, true);
    int32_t prompt[100];
    for (int i = 0; i < 100; i++) prompt[i] = 2 + i * 2;
    wk_request *r = ask(f, prompt, 100, 0), *other = ask(f, prompt, 20, 30);
    r->score = wk_new_n(float, 101);
    assert_non_null(r->score);
    while (wk_sched_round(&f->s)) {
    }
    assert_true(drain(r, 1000) && drain(other, 1000));
    assert_int_equal(r->finish, WK_FIN_LENGTH);
    check_answer(f, other);
    uint32_t h = 1;
    const double z = log(exp(10) + f->plan.n_vocab - 1);
    for (int i = 0; i < 99; i++) {
        h = mix(h, prompt[i]);
        const double want = (token_of(h, f->plan.n_vocab) == prompt[i + 1] ? 10 : 0) - z;
        assert_true(fabs((double)r->score[i + 1] - want) < 1e-5);
    }
    wk_request_drop(r);
    wk_request_drop(other);
    close_fixture(f);
}

/* Decoding goes before prompts: a long prompt does not stop who is talking. */
static void test_decoding_goes_first(void **s) {
    (void)s;
    fixture *f = open_fixture(N_PAGE, true);
    int32_t prompt[400];
    for (int i = 0; i < 400; i++) prompt[i] = 2 + i % 250;
    wk_request *talker = ask(f, prompt, 5, 100);
    (void)wk_sched_round(&f->s);
    wk_request *reader = ask(f, prompt, 400, 5);
    for (int i = 0; i < 8; i++) {
        const int32_t before = talker->n_generated, past = reader->n_past;
        assert_true(wk_sched_round(&f->s));
        assert_int_equal(talker->n_generated, before + 1);
        assert_int_equal(reader->n_past, past + MAX_TOK - 1);
    }
    wk_sched_cancel_all(&f->s);
    assert_true(drain(talker, 1000) && drain(reader, 1000));
    assert_int_equal(talker->error.code, WICK_E_CANCELED);
    wk_request_drop(talker);
    wk_request_drop(reader);
    close_fixture(f);
}

/* Texts that a vocabulary should not have: refused with a sentence, not cut. */
static void test_text_too_long_for_a_step(void **s) {
    (void)s;
    fixture *f = open_fixture(N_PAGE, true);
    const int32_t prompt[] = {5, 6, 7};
    wk_request *r = ask(f, prompt, 3, 20);
    r->text.cap = 0; /* as if every token were longer: one byte of text is too much */
    r->text.failed = false;
    wk_buf_fini(&r->text);
    wk_buf_init(&r->text, 1);
    for (int i = 0; i < 60 && !r->over; i++) (void)wk_sched_round(&f->s);
    assert_true(drain(r, 1000));
    if (r->finish == WK_FIN_ERROR) {
        assert_int_equal(r->error.code, WICK_E_UNSUPPORTED);
        assert_non_null(strstr(r->error.message, "token"));
    } else {
        fail_msg("the request ended by %d", (int)r->finish);
    }
    wk_request_drop(r);
    close_fixture(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_with_prefixes),  cmocka_unit_test(test_random_without_prefixes),
        cmocka_unit_test(test_random_by_ids),         cmocka_unit_test(test_who_wants_logits),
        cmocka_unit_test(test_nobody_overtakes),      cmocka_unit_test(test_cancel_in_the_queue),
        cmocka_unit_test(test_device_fails),          cmocka_unit_test(test_logits_are_no_numbers),
        cmocka_unit_test(test_ids_of_no_numbers),
        cmocka_unit_test(test_cache_overflows),       cmocka_unit_test(test_score_rows),
        cmocka_unit_test(test_decoding_goes_first),   cmocka_unit_test(test_text_too_long_for_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

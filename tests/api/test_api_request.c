/* test_api_request.c: requests through wick.h: arguments, events, ends, cancelling, queue and context limits, sampling,
 * penalties, prefix cache. What it costs and what many threads do: test_api_load.c. */
#include "tests/api/api.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct fixture {
    wick_model *m;
    wick_engine *e; /* 4096 tokens, 8 sequences */
    wick_token a, b; /* "A", "B" */
} fixture;

static int set_up(void **state) {
    static fixture f;
    f.m = api_model(TINY_LLAMA);
    f.e = api_engine(f.m, 4096, NULL);
    f.a = api_token_of(f.m, "A");
    f.b = api_token_of(f.m, "B");
    *state = &f;
    return 0;
}
static int tear_down(void **state) {
    fixture *f = *state;
    wick_engine_close(f->e);
    wick_model_close(f->m);
    return 0;
}

/* ---- arguments ----------------------------------------------------------------------------------- */

static void refused(wick_engine *e, const wick_request_options *o, wick_status want, const char *word) {
    wick_error err = {0};
    wick_request *r = (wick_request *)&err;
    assert_int_equal(wick_submit(e, o, &r, &err), want);
    assert_null(r);
    assert_int_equal(err.code, want);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not name %s", err.message, word);
}

static void test_submit_refuses(void **s) {
    const fixture *f = *s;
    wick_request *r = NULL;
    wick_event ev = WICK_EVENT_INIT;
    wick_result res = WICK_RESULT_INIT;
    const wick_token t[] = {5, 6, 7};
    const wick_request_options ok = api_ids(t, 3, 2);
    assert_int_equal(wick_submit(NULL, &ok, &r, NULL), WICK_E_ARG);
    assert_int_equal(wick_submit(f->e, NULL, &r, NULL), WICK_E_ARG);
    assert_int_equal(wick_submit(f->e, &ok, NULL, NULL), WICK_E_ARG);
    assert_int_equal(wick_next(NULL, 0, &ev), WICK_E_ARG);
    assert_int_equal(wick_request_result(NULL, &res), WICK_E_ARG);
#define REFUSED(field, value, status, word)                                                                            \
    do {                                                                                                               \
        wick_request_options o = ok;                                                                                   \
        o.field = value;                                                                                               \
        refused(f->e, &o, status, word);                                                                               \
    } while (0)
    REFUSED(size, 0, WICK_E_ABI, "size");
    REFUSED(text, "two prompts", WICK_E_ARG, "2 were given");
    REFUSED(tokens, NULL, WICK_E_ARG, "0 were given");
    REFUSED(max_tokens, -1, WICK_E_ARG, "max_tokens");
    REFUSED(n, 2, WICK_E_UNSUPPORTED, "(n)");
    REFUSED(n, -1, WICK_E_ARG, "n is -1");
    REFUSED(flags, 1u << 20, WICK_E_ARG, "flag");
    REFUSED(grammar, (const wick_grammar *)&ev, WICK_E_UNSUPPORTED, "grammar");
    REFUSED(temperature, -0.5, WICK_E_ARG, "temperature");
    REFUSED(temperature, 101.0, WICK_E_ARG, "temperature");
    REFUSED(temperature, (double)NAN, WICK_E_ARG, "temperature");
    REFUSED(top_p, 0.0, WICK_E_ARG, "top_p");
    REFUSED(top_p, 1.5, WICK_E_ARG, "top_p");
    REFUSED(top_p, (double)NAN, WICK_E_ARG, "top_p");
    REFUSED(min_p, 1.0, WICK_E_ARG, "min_p");
    REFUSED(min_p, -0.1, WICK_E_ARG, "min_p");
    REFUSED(top_k, -1, WICK_E_ARG, "top_k");
    REFUSED(seed, -2, WICK_E_ARG, "seed");
    REFUSED(repeat_penalty, 0.001, WICK_E_ARG, "repeat_penalty");
    REFUSED(repeat_penalty, -1.0, WICK_E_ARG, "repeat_penalty");
    REFUSED(frequency_penalty, 11.0, WICK_E_ARG, "frequency_penalty");
    REFUSED(presence_penalty, (double)INFINITY, WICK_E_ARG, "presence_penalty");
    REFUSED(n_stop, 1, WICK_E_ARG, "stop");
    REFUSED(n_bias, 1, WICK_E_ARG, "bias");
#undef REFUSED
}

static void test_submit_refuses_lists(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {5, 6, 7};
    const wick_request_options ok = api_ids(t, 3, 2);
    const char *many[17];
    for (int i = 0; i < 17; i++) many[i] = "x";
    wick_request_options o = ok;
    o.stop = many;
    o.n_stop = 17;
    refused(f->e, &o, WICK_E_ARG, "stop strings");
    const char *const bad[] = {"fine", "\xff"}, *const none[] = {NULL};
    o.stop = bad;
    o.n_stop = 2;
    refused(f->e, &o, WICK_E_ARG, "stop string 1");
    o.stop = none;
    o.n_stop = 1;
    refused(f->e, &o, WICK_E_ARG, "stop string 0");
    char *huge = malloc(100000);
    assert_non_null(huge);
    memset(huge, 'a', 99999);
    huge[99999] = 0;
    const char *const longs[] = {huge};
    o.stop = longs;
    refused(f->e, &o, WICK_E_ARG, "99999");
    free(huge);
    o = ok;
    wick_token id[1025] = {0};
    float v[1025] = {0};
    o.bias_token = id;
    o.bias_value = v;
    o.n_bias = 1025;
    refused(f->e, &o, WICK_E_ARG, "1025");
    o.n_bias = 1;
    id[0] = TINY_VOCAB;
    refused(f->e, &o, WICK_E_ARG, "288");
    id[0] = -1;
    refused(f->e, &o, WICK_E_ARG, "-1");
    id[0] = 3;
    v[0] = 1001;
    refused(f->e, &o, WICK_E_ARG, "bias");
    v[0] = NAN;
    refused(f->e, &o, WICK_E_ARG, "bias");
}

/* What is wrong with the prompt is the first event. */
static void bad_prompt(wick_engine *e, const wick_request_options *o, wick_status want, const char *word1,
                       const char *word2) {
    answer a;
    wick_event ev = WICK_EVENT_INIT;
    wick_request *r = api_submit(e, o);
    assert_int_equal(wick_next(r, 0, &ev), WICK_OK);
    assert_int_equal(ev.type, WICK_EV_ERROR);
    wick_request_free(r);
    api_run(e, o, &a);
    assert_int_equal(a.last_type, WICK_EV_ERROR);
    assert_int_equal(a.error.code, want);
    assert_int_equal(a.result.error.code, want);
    assert_int_equal(a.n_admitted, 0);
    if (!strstr(a.error.message, word1) || !strstr(a.error.message, word2))
        fail_msg("\"%s\" does not hold %s and %s", a.error.message, word1, word2);
}

static void test_bad_prompts(void **s) {
    const fixture *f = *s;
    static wick_token t[5000];
    api_fill(t, 5000, 3);
    wick_request_options o = api_ids(t, 4096, 1);
    bad_prompt(f->e, &o, WICK_E_CONTEXT, "4096 tokens", "holds 4096");
    o.n_tokens = 5000;
    bad_prompt(f->e, &o, WICK_E_CONTEXT, "5000", "4096");
    o.n_tokens = SIZE_MAX / 8; /* nobody looks at the ids of what is too long */
    bad_prompt(f->e, &o, WICK_E_CONTEXT, "2305843009213693951", "4096");
    o.n_tokens = 0;
    bad_prompt(f->e, &o, WICK_E_ARG, "prompt", "empty");
    t[2] = 288;
    o.n_tokens = 5;
    bad_prompt(f->e, &o, WICK_E_ARG, "token 2", "288");
    t[2] = -3;
    bad_prompt(f->e, &o, WICK_E_ARG, "token 2", "-3");
    wick_request_options c = WICK_REQUEST_OPTIONS_INIT;
    c.chat = "not json";
    c.chat_len = 8;
    answer a;
    api_run(f->e, &c, &a);
    assert_int_equal(a.last_type, WICK_EV_ERROR);
    assert_true(a.error.code == WICK_E_TEMPLATE || a.error.code == WICK_E_ARG);
    c.chat = NULL;
    c.text = "";
    bad_prompt(f->e, &c, WICK_E_ARG, "prompt", "empty");
}

static void test_smaller_and_larger_options(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {5, 6, 7};
    answer a, b;
    struct {
        wick_request_options o;
        uint8_t future[40];
    } big;
    memset(&big, 0, sizeof(big));
    big.o = api_ids(t, 3, 5);
    big.o.size = sizeof(big);
    api_run(f->e, &big.o, &a);
    assert_int_equal(a.result.n_generated, 5);
    memset(&big, 0xee, sizeof(big));
    big.o = api_ids(t, 3, 5);
    big.o.seed = 7;
    memset((char *)&big.o + offsetof(wick_request_options, grammar), 0xee,
           sizeof(big) - offsetof(wick_request_options, grammar));
    big.o.size = offsetof(wick_request_options, grammar);
    api_run(f->e, &big.o, &b);
    assert_int_equal(b.result.seed, 7);
    assert_true(b.result.finish == WICK_FINISH_LENGTH || b.result.finish == WICK_FINISH_STOP);
    wick_request *r = api_submit(f->e, &big.o);
    wick_event ev;
    memset(&ev, 0xee, sizeof(ev));
    ev.size = offsetof(wick_event, text);
    assert_int_equal(wick_next(r, 60000, &ev), WICK_OK);
    assert_int_equal(ev.type, WICK_EV_ADMITTED);
    assert_int_equal(ev.n_prompt, (int32_t)0xeeeeeeee);
    ev.size = 0;
    assert_int_equal(wick_next(r, 60000, &ev), WICK_E_ABI); /* and no event is lost by it */
    memset(&a, 0, sizeof(a));
    a.n_admitted = 1;
    api_read_on(r, &a);
    assert_memory_equal(a.text, b.text, b.n + 1);
    wick_result res;
    memset(&res, 0xee, sizeof(res));
    res.size = offsetof(wick_result, n_generated);
    assert_int_equal(wick_request_result(r, &res), WICK_OK);
    assert_int_equal(res.n_prompt, 3);
    assert_int_equal(res.n_generated, (int32_t)0xeeeeeeee);
    wick_request_free(r);
}

/* ---- events and ends ----------------------------------------------------------------------------- */

static void test_event_order(void **s) {
    const fixture *f = *s;
    wick_token t[1200];
    answer a;
    api_fill(t, 1200, 4);
    const wick_request_options o = api_ids(t, 1200, 30);
    api_run(f->e, &o, &a);
    assert_int_equal(a.n_admitted, 1);
    assert_int_equal(a.n_prompt, 1200);
    assert_int_equal(a.n_cached, 0);
    assert_int_equal(a.n_progress, 1200 / WICK_N_BATCH); /* 256, 512, 768, 1024 */
    assert_int_equal(a.last_done, 1024);
    assert_int_equal(a.last_type, WICK_EV_DONE);
    assert_int_equal(a.result.finish, WICK_FINISH_LENGTH);
    assert_int_equal(a.result.n_generated, 30);
    assert_int_equal(a.result.n_prompt, 1200);
    assert_true(a.result.prompt_s > 0 && a.result.decode_s > 0 && a.result.first_s >= a.result.prompt_s);
    assert_true(a.result.hash[0] != 0 || a.result.hash[1] != 0);
}

static void test_context_full_ends_with_length(void **s) {
    const fixture *f = *s;
    static wick_token t[4095];
    answer a;
    api_fill(t, 4095, 5);
    wick_request_options o = api_ids(t, 4095, 0);
    api_run(f->e, &o, &a);
    assert_int_equal(a.result.finish, WICK_FINISH_LENGTH);
    assert_int_equal(a.result.n_generated, 1);
    o.n_tokens = 4000;
    o.max_tokens = INT32_MAX;
    api_run(f->e, &o, &a);
    assert_int_equal(a.result.finish, WICK_FINISH_LENGTH);
    assert_int_equal(a.result.n_generated, 96);
}

/* Biases that leave nothing but the given tokens. */
typedef struct biases {
    wick_token id[2];
    float v[2];
} biases;
static wick_request_options biased(const biases *b, size_t n, const wick_token *t, size_t n_tok, int32_t max_tokens) {
    wick_request_options o = api_ids(t, n_tok, max_tokens);
    o.bias_token = b->id;
    o.bias_value = b->v;
    o.n_bias = n;
    return o;
}

static void test_bias_forces_and_forbids(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {9, 8, 7};
    answer a;
    biases b = {{f->a, f->b}, {1000, 900}};
    wick_request_options o = biased(&b, 1, t, 3, 6);
    api_run(f->e, &o, &a);
    assert_string_equal(a.text, "AAAAAA");
    o.temperature = 1;
    o.top_p = 1;
    o.seed = 3;
    api_run(f->e, &o, &a); /* with sampling too */
    assert_string_equal(a.text, "AAAAAA");
    b.v[0] = -1000;
    b.v[1] = 500;
    o.n_bias = 2;
    api_run(f->e, &o, &a);
    assert_string_equal(a.text, "BBBBBB");
    b.id[0] = f->b; /* the same token twice: both count */
    b.v[0] = -1000;
    api_run(f->e, &o, &a);
    assert_null(strchr(a.text, 'B'));
}

/* The model's logits are below 10: margins of 5 and more decide. */
static void test_penalties(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {9, 8, 7};
    answer a;
    const biases b = {{f->a, f->b}, {195, 175}};
    wick_request_options o = biased(&b, 2, t, 3, 8);
    api_run(f->e, &o, &a);
    assert_string_equal(a.text, "AAAAAAAA");
    o.frequency_penalty = 10; /* A 195 185 175 165: after three it is B's turn at the latest */
    api_run(f->e, &o, &a);
    assert_memory_equal(a.text, "AA", 2);
    assert_non_null(strchr(a.text, 'B'));
    size_t n_a = 0;
    for (const char *p = a.text; *p; p++) n_a += *p == 'A';
    assert_true(n_a >= 4 && n_a <= 6); /* two before, then by turns */
    o.frequency_penalty = 0;
    o.presence_penalty = 10;
    const biases c = {{f->a, f->b}, {195, 190}};
    o.bias_value = c.v;
    api_run(f->e, &o, &a); /* A 195, then A 185 < B 190, then 185 > 180 */
    assert_memory_equal(a.text, "AB", 2);
    o.presence_penalty = 0;
    o.repeat_penalty = 10;
    api_run(f->e, &o, &a);
    assert_memory_equal(a.text, "AB", 2);
    const wick_token seen[] = {9, f->a}; /* the repeat penalty counts the prompt too, the others do not */
    o.tokens = seen;
    o.n_tokens = 2;
    api_run(f->e, &o, &a);
    assert_int_equal(a.text[0], 'B');
    o.repeat_penalty = 0;
    o.frequency_penalty = 10;
    api_run(f->e, &o, &a);
    assert_int_equal(a.text[0], 'A');
}

static void stop_case(wick_engine *e, wick_request_options *o, const char *stop, const char *want, int32_t n_generated,
                      int32_t finish) {
    answer a;
    const char *const list[] = {"never", stop, ""};
    o->stop = list;
    o->n_stop = 3; /* an empty one is none */
    api_run(e, o, &a);
    assert_string_equal(a.text, want);
    assert_int_equal(a.result.n_generated, n_generated);
    assert_int_equal(a.result.finish, finish);
}

static void test_stop_strings(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {9, 8, 7};
    const biases b = {{f->a, f->b}, {1000, 900}};
    wick_request_options o = biased(&b, 1, t, 3, 6);
    stop_case(f->e, &o, "AAA", "", 3, WICK_FINISH_STOP);
    stop_case(f->e, &o, "A", "", 1, WICK_FINISH_STOP);
    stop_case(f->e, &o, "AAAB", "AAAAAA", 6, WICK_FINISH_LENGTH); /* held back, then given at the end */
    stop_case(f->e, &o, "AAAAAAA", "AAAAAA", 6, WICK_FINISH_LENGTH);
    o.tokens = t;
    const size_t len[] = {2};
    const char *const cut[] = {"AAXX"}; /* by length, not by NUL */
    answer a;
    o.stop = cut;
    o.stop_len = len;
    o.n_stop = 1;
    api_run(f->e, &o, &a);
    assert_int_equal(a.result.n_generated, 2);
    assert_int_equal(a.n, 0);
}

/* The longest stop strings that are taken: everything held back comes out in the end. */
static void test_long_stop_string_loses_nothing(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {9, 8, 7};
    const biases b = {{f->a, f->b}, {1000, 900}};
    static char stop[1025];
    answer a;
    memset(stop, 'A', 1023);
    stop[1023] = 'B';
    const char *const list[] = {stop};
    wick_request_options o = biased(&b, 1, t, 3, 1500);
    o.stop = list;
    o.n_stop = 1;
    api_run(f->e, &o, &a);
    assert_int_equal(a.n, 1500);
    assert_int_equal(a.result.finish, WICK_FINISH_LENGTH);
}

static void test_end_token_stops(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {9, 8, 7};
    const biases b = {{1, f->b}, {1000, 900}};
    wick_request_options o = biased(&b, 1, t, 3, 6);
    answer a;
    o.flags = 0;
    api_run(f->e, &o, &a);
    assert_int_equal(a.result.finish, WICK_FINISH_STOP);
    assert_int_equal(a.result.n_generated, 0);
    assert_int_equal(a.n, 0);
    o.flags = WICK_REQ_IGNORE_END;
    api_run(f->e, &o, &a);
    assert_int_equal(a.result.finish, WICK_FINISH_LENGTH);
    assert_int_equal(a.result.n_generated, 6);
    assert_int_equal(a.n, 0); /* control tokens have no text */
}

/* ---- sampling ------------------------------------------------------------------------------------ */

static void test_seed_reproduces(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {20, 30, 40, 50};
    answer a, b;
    wick_request_options o = api_ids(t, 4, 60);
    o.temperature = 1.5;
    o.top_p = 0.9;
    o.top_k = 50;
    o.min_p = 0.02;
    o.seed = 42;
    api_run(f->e, &o, &a);
    assert_int_equal(a.result.seed, 42);
    api_run(f->e, &o, &b);
    assert_memory_equal(a.result.hash, b.result.hash, sizeof(a.result.hash));
    assert_memory_equal(a.text, b.text, a.n + 1);
    o.seed = 43;
    api_run(f->e, &o, &b);
    assert_memory_not_equal(a.result.hash, b.result.hash, sizeof(a.result.hash));
    o.seed = WICK_AUTO; /* the seed that is told gives the same again */
    api_run(f->e, &o, &a);
    assert_true(a.result.seed >= 0);
    o.seed = a.result.seed;
    api_run(f->e, &o, &b);
    assert_memory_equal(a.result.hash, b.result.hash, sizeof(a.result.hash));
    o.seed = WICK_AUTO;
    api_run(f->e, &o, &b);
    assert_true(a.result.seed != b.result.seed);
}

static void test_greedy_limits(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {20, 30, 40, 50};
    answer a, b;
    wick_request_options o = api_ids(t, 4, 40);
    api_run(f->e, &o, &a);
    o.temperature = 1.0;
    o.top_p = 1.0;
    o.top_k = 1;
    api_run(f->e, &o, &b);
    assert_memory_equal(a.result.hash, b.result.hash, sizeof(a.result.hash));
    o.top_k = 0;
    o.temperature = 1e-4;
    api_run(f->e, &o, &b);
    assert_memory_equal(a.result.hash, b.result.hash, sizeof(a.result.hash));
    o.temperature = 1e-300;
    api_run(f->e, &o, &b);
    assert_memory_equal(a.result.hash, b.result.hash, sizeof(a.result.hash));
}

/* p over the vocabulary sums to one, and the greedy token has the largest. */
static void test_score_is_a_distribution(void **s) {
    const fixture *f = *s;
    wick_error err = {0};
    wick_token t[21];
    float lp[21], best = -INFINITY;
    api_fill(t, 20, 8);
    double sum = 0, first = 0;
    for (wick_token id = 0; id < TINY_VOCAB; id++) {
        t[20] = id;
        assert_int_equal(wick_score(f->e, t, 21, lp, &err), WICK_OK);
        assert_true(lp[0] == 0.0f);
        for (int i = 1; i < 21; i++) assert_true(lp[i] < 0);
        if (id == 0) first = (double)lp[7];
        assert_true((double)lp[7] == first); /* the past does not depend on what follows */
        sum += exp((double)lp[20]);
        if (lp[20] > best) best = lp[20];
    }
    if (fabs(sum - 1) > 1e-5) fail_msg("the probabilities sum to %.9f", sum);
    assert_true(best > -6); /* more than uniform */
}

/* Score rows come in pieces of a step: the same numbers for any length. */
static void test_score_pieces(void **s) {
    const fixture *f = *s;
    static wick_token t[1500];
    static float a[1500], b[1500];
    api_fill(t, 1500, 9);
    wick_error err = {0};
    assert_int_equal(wick_score(f->e, t, 1500, a, &err), WICK_OK);
    assert_int_equal(wick_score(f->e, t, 700, b, &err), WICK_OK);
    assert_memory_equal(a, b, 700 * sizeof(float));
    assert_int_equal(wick_score(f->e, t, 1, b, &err), WICK_OK);
    assert_true(b[0] == 0.0f);
    assert_int_equal(wick_score(NULL, t, 1, b, &err), WICK_E_ARG);
    assert_int_equal(wick_score(f->e, NULL, 1, b, &err), WICK_E_ARG);
    assert_int_equal(wick_score(f->e, t, 1, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_score(f->e, t, 0, b, &err), WICK_E_ARG);
    t[3] = 1000;
    assert_int_equal(wick_score(f->e, t, 4, b, &err), WICK_E_ARG);
    t[3] = 5;
    static wick_token many[4097];
    api_fill(many, 4097, 1);
    assert_int_equal(wick_score(f->e, many, 4097, a, &err), WICK_E_CONTEXT);
    assert_non_null(strstr(err.message, "4097"));
    assert_non_null(strstr(err.message, "4096"));
    assert_int_equal(wick_score(f->e, many, 4097, a, NULL), WICK_E_CONTEXT);
    api_idle(f->e);
}

/* ---- prefix cache -------------------------------------------------------------------------------- */

static void test_prefix_cache(void **s) {
    const fixture *f = *s;
    wick_token t[300];
    answer a, b;
    api_fill(t, 300, 11);
    wick_request_options o = api_ids(t, 300, 8);
    api_run(f->e, &o, &a);
    assert_int_equal(a.n_cached, 0);
    api_run(f->e, &o, &b);
    assert_int_equal(b.n_cached, 256);
    assert_int_equal(b.result.n_cached, 256);
    assert_memory_equal(a.result.hash, b.result.hash, sizeof(a.result.hash));
    o.cache_salt = "x";
    api_run(f->e, &o, &b);
    assert_int_equal(b.n_cached, 0);
    assert_memory_equal(a.result.hash, b.result.hash, sizeof(a.result.hash));
    api_run(f->e, &o, &b);
    assert_int_equal(b.n_cached, 256);
    o.cache_salt = "y";
    api_run(f->e, &o, &b);
    assert_int_equal(b.n_cached, 0);
    o.cache_salt = NULL;
    o.n_tokens = 128; /* one token must be left to compute */
    api_run(f->e, &o, &b);
    assert_int_equal(b.n_cached, 64);
    t[100]++;
    o.n_tokens = 300;
    api_run(f->e, &o, &b);
    assert_int_equal(b.n_cached, 64);
    api_idle(f->e);
}

/* What was generated is a prefix as well: the next turn of a talk. */
static void test_answer_is_cached(void **s) {
    const fixture *f = *s;
    wick_token t[300];
    answer a;
    api_fill(t, 60, 12);
    const biases b = {{f->a, f->b}, {1000, 900}};
    wick_request_options o = biased(&b, 1, t, 60, 100);
    api_run(f->e, &o, &a);
    for (int i = 60; i < 170; i++) t[i] = f->a;
    o.n_tokens = 170;
    api_run(f->e, &o, &a);
    assert_int_equal(a.n_cached, 128);
}

static void no_cache(wick_engine_options *o) { o->no_prefix_cache = 1; }

static void test_no_prefix_cache(void **s) {
    const fixture *f = *s;
    wick_token t[300];
    answer a;
    api_fill(t, 300, 11);
    wick_engine *e = api_engine(f->m, 512, no_cache);
    const wick_request_options o = api_ids(t, 300, 2);
    for (int i = 0; i < 2; i++) {
        api_run(e, &o, &a);
        assert_int_equal(a.n_cached, 0);
    }
    wick_engine_close(e);
}

/* ---- odd engines --------------------------------------------------------------------------------- */

static const wick_engine_options *odd; /* what the next engine is like */
static void be_odd(wick_engine_options *o) {
    const int32_t n_ctx = o->n_ctx;
    *o = *odd;
    o->n_ctx = n_ctx;
}

/* The smallest and the strangest shapes give the same logits: one token a step, more seats than tokens, more threads
 * than processors. Six requests at once, so that they are in each other's way. */
static void test_odd_engines(void **s) {
    const fixture *f = *s;
    static const struct {
        int32_t n_batch, max_seqs, max_queue, threads;
    } shape[] = {{0, 0, 0, 1}, {1, 1, 6, 1}, {1, 256, 6, 2}, {3, 5, 100, 3}, {4096, 256, 1 << 16, 2}, {65, 2, 6, 5}};
    wick_token t[150];
    wick_request *r[6];
    answer a;
    uint64_t hash[6][2];
    api_fill(t, 150, 21);
    for (size_t i = 0; i < sizeof(shape) / sizeof(*shape); i++) {
        wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
        o.n_batch = shape[i].n_batch;
        o.max_seqs = shape[i].max_seqs;
        o.max_queue = shape[i].max_queue;
        o.threads = shape[i].threads;
        odd = &o;
        wick_engine *e = api_engine(f->m, 200, be_odd);
        for (int k = 0; k < 6; k++) {
            const wick_request_options q = api_ids(t + k, 150 - 29 * (size_t)k, 20);
            r[k] = api_submit(e, &q);
        }
        for (int k = 0; k < 6; k++) {
            api_read(r[k], &a);
            assert_int_equal(a.result.n_generated, 20);
            if (i == 0) memcpy(hash[k], a.result.hash, sizeof(hash[k]));
            assert_memory_equal(hash[k], a.result.hash, sizeof(hash[k]));
            wick_request_free(r[k]);
        }
        api_idle(e);
        wick_engine_close(e);
    }
}

static void test_smallest_context(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {5, 6};
    answer a;
    wick_request_options o = api_ids(t, 1, 0);
    wick_engine *e = api_engine(f->m, 1, NULL);
    bad_prompt(e, &o, WICK_E_CONTEXT, "1 tokens", "holds 1");
    wick_engine_close(e);
    e = api_engine(f->m, 2, NULL);
    api_run(e, &o, &a);
    assert_int_equal(a.result.n_generated, 1);
    assert_int_equal(a.result.finish, WICK_FINISH_LENGTH);
    wick_engine_close(e);
}

/* ---- one call ------------------------------------------------------------------------------------ */

static int stop_at_first(void *ud, const char *text, size_t n) {
    (void)text, (void)n;
    ++*(int *)ud;
    return 1;
}
static int collect(void *ud, const char *text, size_t n) {
    answer *a = ud;
    memcpy(a->text + a->n, text, n);
    a->n += n;
    a->text[a->n] = 0;
    return 0;
}

static void test_generate(void **s) {
    const fixture *f = *s;
    const wick_token t[] = {9, 8, 7};
    const biases b = {{f->a, f->b}, {1000, 900}};
    wick_request_options o = biased(&b, 1, t, 3, 9);
    wick_result res = WICK_RESULT_INIT;
    wick_error err = {0};
    answer a = {.n = 0};
    assert_int_equal(wick_generate(f->e, &o, collect, &a, &res, &err), WICK_OK);
    assert_string_equal(a.text, "AAAAAAAAA");
    assert_int_equal(res.n_generated, 9);
    assert_int_equal(wick_generate(f->e, &o, NULL, NULL, NULL, NULL), WICK_OK);
    int calls = 0;
    o.max_tokens = 4000;
    assert_int_equal(wick_generate(f->e, &o, stop_at_first, &calls, &res, &err), WICK_OK);
    assert_int_equal(calls, 1); /* it said stop: it is not asked again */
    assert_int_equal(res.finish, WICK_FINISH_CANCEL);
    o.n_tokens = 0;
    assert_int_equal(wick_generate(f->e, &o, collect, &a, &res, &err), WICK_E_ARG);
    assert_int_equal(err.code, WICK_E_ARG);
    assert_int_equal(res.finish, WICK_FINISH_ERROR);
    assert_int_equal(wick_generate(NULL, &o, collect, &a, &res, &err), WICK_E_ARG);
    assert_int_equal(wick_generate(f->e, NULL, collect, &a, &res, &err), WICK_E_ARG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submit_refuses),        cmocka_unit_test(test_submit_refuses_lists),
        cmocka_unit_test(test_bad_prompts),           cmocka_unit_test(test_smaller_and_larger_options),
        cmocka_unit_test(test_event_order),           cmocka_unit_test(test_context_full_ends_with_length),
        cmocka_unit_test(test_bias_forces_and_forbids), cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_stop_strings),          cmocka_unit_test(test_long_stop_string_loses_nothing),
        cmocka_unit_test(test_end_token_stops),       cmocka_unit_test(test_seed_reproduces),
        cmocka_unit_test(test_greedy_limits),         cmocka_unit_test(test_score_is_a_distribution),
        cmocka_unit_test(test_score_pieces),          cmocka_unit_test(test_prefix_cache),
        cmocka_unit_test(test_answer_is_cached),      cmocka_unit_test(test_no_prefix_cache),
        cmocka_unit_test(test_odd_engines),           cmocka_unit_test(test_smallest_context),
        cmocka_unit_test(test_generate),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

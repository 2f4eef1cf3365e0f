/* test_api_load.c: requests beside each other: cancelling at every moment, a full queue, a slow reader, descriptors,
 * what a token costs in allocations and page faults, and many threads at once. */
#include "tests/api/api.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

/* Sanitizers map memory of their own: page faults are counted without them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static wick_model *model;

static int set_up(void **state) {
    (void)state;
    model = api_model(TINY_LLAMA);
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    wick_model_close(model);
    return 0;
}

static void one_seat(wick_engine_options *o) {
    o->max_seqs = 1;
    o->max_queue = 1;
}
static void one_in_queue(wick_engine_options *o) {
    o->max_queue = 1;
    o->n_batch = 4096;
}
static void eight(wick_engine_options *o) {
    o->kv_tokens = 8 * o->n_ctx;
    o->threads = 2;
}

static void wait_event(wick_request *r, int type) {
    wick_event ev = WICK_EVENT_INIT;
    for (;;) {
        assert_int_equal(wick_next(r, 60000, &ev), WICK_OK);
        if (ev.type == type) return;
        assert_true(ev.type != WICK_EV_DONE && ev.type != WICK_EV_ERROR);
    }
}

/* ---- cancel -------------------------------------------------------------------------------------- */

static void test_cancel_at_every_moment(void **s) {
    (void)s;
    wick_token t[700];
    answer a;
    api_fill(t, 700, 1);
    wick_engine *e = api_engine(model, 4096, NULL);
    const wick_request_options o = api_ids(t, 700, 0);
    for (int when = 0; when < 4; when++) {
        wick_request *r = api_submit(e, &o);
        if (when == 1) wait_event(r, WICK_EV_ADMITTED);
        if (when == 2) wait_event(r, WICK_EV_TEXT);
        wick_cancel(r);
        wick_cancel(r);
        wick_event ev = WICK_EVENT_INIT;
        do assert_int_equal(wick_next(r, 60000, &ev), WICK_OK);
        while (ev.type != WICK_EV_DONE && ev.type != WICK_EV_ERROR);
        assert_int_equal(ev.type, WICK_EV_DONE);
        wick_result res = WICK_RESULT_INIT;
        assert_int_equal(wick_request_result(r, &res), WICK_OK);
        assert_int_equal(res.finish, WICK_FINISH_CANCEL);
        if (when == 3) wick_cancel(r);
        wick_request_free(r);
    }
    wick_request_options few = api_ids(t, 5, 3);
    wick_request *r = api_submit(e, &few); /* after the end nothing changes */
    api_read(r, &a);
    wick_cancel(r);
    wick_result res = WICK_RESULT_INIT;
    assert_int_equal(wick_request_result(r, &res), WICK_OK);
    assert_int_equal(res.finish, WICK_FINISH_LENGTH);
    wick_request_free(r);
    api_idle(e);
    wick_engine_close(e);
}

/* A request that waits ends at once when it is cancelled, and its place in the queue is free. */
static void test_cancel_while_waiting(void **s) {
    (void)s;
    wick_token t[8];
    answer a;
    wick_error err = {0};
    api_fill(t, 8, 1);
    wick_engine *e = api_engine(model, 4096, one_seat);
    const wick_request_options o = api_ids(t, 8, 0);
    wick_request *running = api_submit(e, &o), *no = NULL;
    wait_event(running, WICK_EV_ADMITTED); /* nobody reads on: it keeps its seat, parked */
    wick_request *waiting = api_submit(e, &o);
    assert_int_equal(wick_submit(e, &o, &no, &err), WICK_E_BUSY);
    assert_null(no);
    assert_non_null(strstr(err.message, "1"));
    wick_event ev = WICK_EVENT_INIT;
    assert_int_equal(wick_next(waiting, 20, &ev), WICK_E_TIMEOUT);
    wick_cancel(waiting);
    assert_int_equal(wick_next(waiting, 20000, &ev), WICK_OK);
    assert_int_equal(ev.type, WICK_EV_DONE);
    wick_request *next = api_submit(e, &o);
    wick_request_free(next); /* the same by freeing */
    for (int i = 0; i < 2000; i++) {
        if (wick_submit(e, &o, &next, NULL) == WICK_OK) break;
        api_sleep_ms(5);
        next = NULL;
    }
    assert_non_null(next);
    wick_cancel(running);
    wait_event(next, WICK_EV_TEXT); /* the seat goes on to it */
    wick_request_free(next);
    wick_request_free(waiting);
    memset(&a, 0, sizeof(a));
    a.n_admitted = 1;
    api_read_on(running, &a);
    assert_int_equal(a.result.finish, WICK_FINISH_CANCEL);
    wick_request_free(running);
    api_idle(e);
    wick_engine_close(e);
}

/* What runs does not wait: a queue of one takes the next while a long step goes on. */
static void test_running_is_not_queued(void **s) {
    (void)s;
    static wick_token t[4000];
    wick_error err = {0};
    api_fill(t, 4000, 2);
    wick_engine *e = api_engine(model, 4096, one_in_queue);
    const wick_request_options o = api_ids(t, 4000, 1), small = api_ids(t, 4, 1);
    wick_request *r = api_submit(e, &o), *q = NULL;
    wick_event ev = WICK_EVENT_INIT;
    assert_int_equal(wick_next(r, 60000, &ev), WICK_OK);
    assert_int_equal(ev.type, WICK_EV_ADMITTED);
    if (wick_submit(e, &small, &q, &err)) fail_msg("%s", err.message);
    wick_request_free(q);
    wait_event(r, WICK_EV_DONE);
    wick_request_free(r);
    wick_engine_close(e);
}

/* ---- a slow reader ------------------------------------------------------------------------------- */

static uint64_t generated(const wick_engine *e) {
    wick_stats s = WICK_STATS_INIT;
    assert_int_equal(wick_engine_stats(e, &s), WICK_OK);
    return s.generated_tokens;
}

static void test_slow_reader_is_parked(void **s) {
    (void)s;
    static answer a, b;
    wick_token t[8];
    api_fill(t, 8, 5);
    wick_engine *e = api_engine(model, 2048, eight);
    const wick_request_options o = api_ids(t, 8, 1000), small = api_ids(t + 2, 4, 100);
    api_run(e, &o, &b);
    wick_request *slow = api_submit(e, &o);
    uint64_t before, now = generated(e);
    do {
        before = now;
        api_sleep_ms(200);
        now = generated(e);
    } while (now != before || now < 1001);
    assert_true(now - 1000 < 1000); /* it stands */
    api_run(e, &small, &a);
    assert_int_equal(a.result.n_generated, 100);
    api_read(slow, &a);
    assert_int_equal(a.result.n_generated, 1000);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.text, b.text, b.n); /* nothing was lost, nothing changed */
    assert_memory_equal(a.result.hash, b.result.hash, sizeof(a.result.hash));
    wick_request_free(slow);
    wick_engine_close(e);
}

/* ---- descriptor ---------------------------------------------------------------------------------- */

static bool readable(int fd, int ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

static void test_request_fd(void **s) {
    (void)s;
    wick_token t[8];
    api_fill(t, 8, 5);
    wick_engine *e = api_engine(model, 512, NULL);
    const wick_request_options o = api_ids(t, 8, 40);
    for (int late = 0; late < 2; late++) {
        wick_request *r = api_submit(e, &o);
        if (late) api_sleep_ms(50); /* events are there before the descriptor */
        const int fd = wick_request_fd(r);
        assert_true(fd >= 0);
        assert_int_equal(wick_request_fd(r), fd);
        wick_event ev = WICK_EVENT_INIT;
        do {
            assert_true(readable(fd, 60000));
            wick_status rc;
            while ((rc = wick_next(r, 0, &ev)) == WICK_OK && ev.type != WICK_EV_DONE) {
            }
            assert_true(rc == WICK_OK || rc == WICK_E_TIMEOUT);
        } while (ev.type != WICK_EV_DONE);
        assert_false(readable(fd, 0));
        wick_request_free(r);
    }
    wick_request_options bad = api_ids(t, 0, 1);
    wick_request *r = api_submit(e, &bad);
    assert_true(readable(wick_request_fd(r), 0)); /* an error is an event */
    wick_request_free(r);
    wick_engine_close(e);
}

static void test_next_timeouts(void **s) {
    (void)s;
    wick_token t[8];
    api_fill(t, 8, 5);
    wick_engine *e = api_engine(model, 512, one_seat);
    const wick_request_options o = api_ids(t, 8, 0);
    wick_request *first = api_submit(e, &o);
    wait_event(first, WICK_EV_ADMITTED);
    wick_request *r = api_submit(e, &o);
    wick_event ev = WICK_EVENT_INIT;
    struct timespec a, b;
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(wick_next(r, 0, &ev), WICK_E_TIMEOUT);
    assert_int_equal(wick_next(r, 30, &ev), WICK_E_TIMEOUT);
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= 29);
    assert_int_equal(wick_next(r, 0, NULL), WICK_E_ARG);
    wick_request_free(first);
    wait_event(r, WICK_EV_TEXT);
    wick_request_free(r);
    wick_engine_close(e);
}

/* A result before the end says what is known then. */
static void test_result_while_running(void **s) {
    (void)s;
    wick_token t[8];
    api_fill(t, 8, 5);
    wick_engine *e = api_engine(model, 4096, NULL);
    wick_request_options o = api_ids(t, 8, 0);
    o.seed = 77;
    wick_request *r = api_submit(e, &o);
    for (int i = 0; i < 1000; i++) {
        wick_result res = WICK_RESULT_INIT;
        assert_int_equal(wick_request_result(r, &res), WICK_OK);
        assert_int_equal(res.finish, WICK_FINISH_NONE);
        assert_int_equal(res.n_prompt, 8);
        assert_int_equal(res.seed, 77);
    }
    wick_request_free(r);
    wick_engine_close(e);
}

static void *read_all(void *ud) {
    static answer a; /* one reader at a time */
    api_read(ud, &a);
    assert_int_equal(a.error.code, WICK_E_CANCELED);
    return NULL;
}

/* A reader that waits when the engine closes is told so. */
static void test_close_wakes_readers(void **s) {
    (void)s;
    wick_token t[8];
    pthread_t th;
    api_fill(t, 8, 5);
    for (int i = 0; i < 10; i++) {
        wick_engine *e = api_engine(model, 4096, one_seat);
        const wick_request_options o = api_ids(t, 8, 0);
        wick_request *first = api_submit(e, &o);
        wait_event(first, WICK_EV_ADMITTED);
        wick_request *r = i % 2 ? api_submit(e, &o) : first; /* one that runs, one that waits */
        if (i % 2) {
            assert_int_equal(pthread_create(&th, NULL, read_all, r), 0);
            api_sleep_ms(i);
            wick_engine_close(e);
            (void)pthread_join(th, NULL);
            wick_request_free(r);
        } else {
            wick_engine_close(e);
        }
        wick_event ev = WICK_EVENT_INIT;
        do assert_int_equal(wick_next(first, -1, &ev), WICK_OK);
        while (ev.type != WICK_EV_ERROR);
        assert_int_equal(ev.error.code, WICK_E_CANCELED);
        wick_request_free(first);
    }
}

/* ---- costs --------------------------------------------------------------------------------------- */

static void read_until(wick_request *r, int *n_text, int want) {
    wick_event ev = WICK_EVENT_INIT;
    while (*n_text < want) {
        assert_int_equal(wick_next(r, 60000, &ev), WICK_OK);
        assert_true(ev.type != WICK_EV_DONE && ev.type != WICK_EV_ERROR);
        *n_text += ev.type == WICK_EV_TEXT;
    }
}

static void check_costs(wick_engine *e, const wick_request_options *o) {
    wick_stats a = WICK_STATS_INIT, b = WICK_STATS_INIT;
    struct rusage ra, rb;
    int n = 0;
    wick_request *r = api_submit(e, o);
    read_until(r, &n, 1);
    (void)wick_engine_stats(e, &a);
    read_until(r, &n, 50);
    (void)wick_engine_stats(e, &b);
    assert_int_equal(a.allocations, b.allocations);
    read_until(r, &n, 300); /* once round the ring */
    (void)getrusage(RUSAGE_SELF, &ra);
    read_until(r, &n, 900);
    (void)getrusage(RUSAGE_SELF, &rb);
    (void)wick_engine_stats(e, &b);
    assert_int_equal(a.allocations, b.allocations);
    if (!SANITIZED) {
        assert_int_equal(ra.ru_majflt, rb.ru_majflt);
        if (rb.ru_minflt - ra.ru_minflt > 8) fail_msg("%ld page faults in 600 tokens", rb.ru_minflt - ra.ru_minflt);
    }
    wick_request_free(r);
    api_idle(e);
}

static void test_tokens_allocate_nothing(void **s) {
    (void)s;
    wick_token t[8];
    const char *const stop[] = {"no such end", "AAAAAAAA"};
    const wick_token id[] = {4, 5};
    const float v[] = {1, -1};
    api_fill(t, 8, 5);
    wick_engine *e = api_engine(model, 4096, eight);
    wick_request_options o = api_ids(t, 8, 0);
    check_costs(e, &o);
    o.temperature = 0.8;
    o.top_p = 0.9;
    o.top_k = 40;
    o.min_p = 0.01;
    o.seed = 1;
    check_costs(e, &o);
    o.stop = stop;
    o.n_stop = 2;
    o.bias_token = id;
    o.bias_value = v;
    o.n_bias = 2;
    o.repeat_penalty = 1.1;
    o.frequency_penalty = 0.5;
    o.presence_penalty = 0.5;
    o.top_k = 0;
    check_costs(e, &o);
    wick_engine_close(e);
}

/* ---- everything at random ------------------------------------------------------------------------ */

static void test_counters_return(void **s) {
    (void)s;
    wick_token t[400];
    uint64_t seed = 99;
    wick_engine *e = api_engine(model, 1024, NULL);
    wick_request *r[16] = {0};
    api_fill(t, 400, 5);
    for (int i = 0; i < 200; i++) {
        const uint64_t x = api_next(&seed);
        wick_request **at = &r[x % 16];
        wick_request_free(*at);
        *at = NULL;
        t[x % 400] = (wick_token)(2 + x % 200);
        wick_request_options o = api_ids(t, 1 + x / 16 % 400, (int32_t)(x / 8192 % 50) + 1);
        if (wick_submit(e, &o, at, NULL)) continue;
        if (x & 1u << 20) wick_cancel(*at);
        wick_event ev = WICK_EVENT_INIT;
        if (x & 1u << 21) (void)wick_next(*at, (int)(x >> 22 & 3), &ev);
    }
    for (int i = 0; i < 16; i++) wick_request_free(r[i]);
    api_idle(e);
    wick_engine_close(e);
}

typedef struct crowd {
    wick_engine *e;
    _Atomic int stop;
    _Atomic long n_done, n_cancelled, n_busy, n_bad;
} crowd;
typedef struct member {
    pthread_t thread;
    crowd *c;
    uint64_t seed;
} member;

static bool at_end(const wick_event *ev) { return ev->type == WICK_EV_DONE || ev->type == WICK_EV_ERROR; }

static void one_life(crowd *c, uint64_t x) {
    wick_token t[300];
    wick_request *r = NULL;
    wick_event ev = WICK_EVENT_INIT;
    wick_result res = WICK_RESULT_INIT;
    wick_stats st = WICK_STATS_INIT;
    api_fill(t, 300, x % 5); /* shared prefixes */
    wick_request_options o = api_ids(t, 1 + x / 7 % 300, 1 + (int32_t)(x / 4096 % 40));
    if (x & 1u << 24) o.temperature = 1.0;
    if (x & 1u << 25) o.cache_salt = "other";
    const wick_status rc = wick_submit(c->e, &o, &r, NULL);
    if (rc == WICK_E_BUSY) {
        atomic_fetch_add(&c->n_busy, 1);
        api_sleep_ms(1);
        return;
    }
    if (rc) {
        atomic_fetch_add(&c->n_bad, 1);
        return;
    }
    const unsigned reads = (unsigned)(x >> 32) % 60;
    wick_status got = WICK_OK;
    for (unsigned i = 0; i < reads && !(got == WICK_OK && i && at_end(&ev)); i++)
        got = wick_next(r, (int)(x >> 40 & 1) - 1, &ev);
    (void)wick_request_result(r, &res);
    (void)wick_engine_stats(c->e, &st);
    if (x & 1u << 26) wick_cancel(r);
    if (x & 1u << 27)
        while (!at_end(&ev) && wick_next(r, -1, &ev) == WICK_OK) {
        }
    if (at_end(&ev) && ev.type == WICK_EV_DONE) {
        (void)wick_request_result(r, &res);
        if (res.finish == WICK_FINISH_LENGTH && res.n_generated == o.max_tokens)
            atomic_fetch_add(&c->n_done, 1);
        else if (res.finish == WICK_FINISH_CANCEL)
            atomic_fetch_add(&c->n_cancelled, 1);
        else
            atomic_fetch_add(&c->n_bad, 1);
    } else if (at_end(&ev)) {
        atomic_fetch_add(&c->n_bad, 1);
    }
    wick_request_free(r);
}

static void *live(void *ud) {
    member *m = ud;
    while (!atomic_load(&m->c->stop)) one_life(m->c, api_next(&m->seed));
    return NULL;
}

static void test_sixteen_threads(void **s) {
    (void)s;
    crowd c = {.e = api_engine(model, 512, eight)};
    member m[16];
    for (int i = 0; i < 16; i++) {
        m[i] = (member){.c = &c, .seed = (uint64_t)i * 1000003};
        assert_int_equal(pthread_create(&m[i].thread, NULL, live, &m[i]), 0);
    }
    api_sleep_ms(3000);
    atomic_store(&c.stop, 1);
    for (int i = 0; i < 16; i++) (void)pthread_join(m[i].thread, NULL);
    print_message("%ld done, %ld cancelled, %ld refused\n", atomic_load(&c.n_done), atomic_load(&c.n_cancelled),
                  atomic_load(&c.n_busy));
    assert_int_equal(atomic_load(&c.n_bad), 0);
    assert_true(atomic_load(&c.n_done) > 0 && atomic_load(&c.n_cancelled) > 0);
    api_idle(c.e);
    wick_engine_close(c.e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancel_at_every_moment), cmocka_unit_test(test_cancel_while_waiting),
        cmocka_unit_test(test_running_is_not_queued),  cmocka_unit_test(test_slow_reader_is_parked),
        cmocka_unit_test(test_request_fd),             cmocka_unit_test(test_next_timeouts),
        cmocka_unit_test(test_result_while_running),   cmocka_unit_test(test_close_wakes_readers),
        cmocka_unit_test(test_tokens_allocate_nothing),
        cmocka_unit_test(test_counters_return),        cmocka_unit_test(test_sixteen_threads),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

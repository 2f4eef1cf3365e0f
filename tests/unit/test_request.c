/* test_request.c: the ring of events between the engine and a reader. */
#include "tests/unit/unit.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "engine/run/request.h"

static wk_request *new_request(void) {
    wk_request *r = NULL;
    const int32_t prompt[] = {1, 2, 3};
    assert_int_equal(wk_request_new(&r, NULL, prompt, 3, 10, NULL, 0, NULL), WICK_OK);
    assert_int_equal(r->n_prompt, 3);
    assert_int_equal(r->max_tokens, 7);
    return r;
}

/* Byte i of the endless text that the tests send. */
static char byte_at(uint64_t i) { return (char)('a' + (i * 31 + i / 7) % 26); }

static void put(wk_request *r, uint64_t *sent, uint32_t n) {
    static char text[WK_STEP_TEXT];
    for (uint32_t i = 0; i < n; i++) text[i] = byte_at(*sent + i);
    wk_request_put(r, WK_EV_TEXT, (wk_str){text, n}, 0, 0);
    *sent += n;
}

static uint32_t get(wk_request *r, uint64_t *read) {
    wk_ring_event ev;
    wk_str text;
    assert_int_equal(wk_request_next(r, 0, &ev, &text), WICK_OK);
    assert_int_equal(ev.type, WK_EV_TEXT);
    assert_int_equal(ev.text_n, text.n);
    assert_int_equal(text.p[text.n], 0);
    for (size_t i = 0; i < text.n; i++) assert_int_equal(text.p[i], byte_at(*read + i));
    *read += text.n;
    return ev.text_n;
}

/* Sizes from 1 to the most, the ring many times round: what comes out is what went in, in the same pieces. */
static void test_texts_keep_their_order(void **s) {
    (void)s;
    wk_request *r = new_request();
    uint64_t sent = 0, read = 0;
    uint32_t size[4096], n_put = 0, n_got = 0;
    while (n_put < 4096) {
        while (n_put < 4096 && wk_request_has_room(r)) {
            size[n_put] = 1 + (n_put * 2654435761u >> 5) % (n_put % 3 ? 40 : WK_STEP_TEXT);
            put(r, &sent, size[n_put++]);
        }
        for (uint32_t k = 1 + n_put % 7; k-- && n_got < n_put;) assert_int_equal(get(r, &read), size[n_got++]);
    }
    while (n_got < n_put) assert_int_equal(get(r, &read), size[n_got++]);
    assert_int_equal(sent, read);
    wk_request_drop(r);
}

/* Whatever its reader left, the last event has a place. */
static void test_last_event_always_fits(void **s) {
    (void)s;
    wk_request *r = new_request();
    wk_ring_event ev;
    wk_str text;
    for (int i = 0; i < 2 * WK_RING_EVENTS; i++) wk_request_put(r, WK_EV_PROGRESS, (wk_str){"", 0}, 3, i);
    assert_false(wk_request_has_room(r));
    wk_request_end(r, WK_FIN_LENGTH);
    int n = 0;
    while (wk_request_next(r, 0, &ev, &text) == WICK_OK && ev.type == WK_EV_PROGRESS) assert_int_equal(ev.b, n++);
    assert_int_equal(n, WK_RING_EVENTS - 1);
    assert_int_equal(ev.type, WK_EV_DONE);
    assert_int_equal(wk_request_next(r, 0, &ev, &text), WICK_E_ARG);
    assert_int_equal(wk_request_next(r, -1, &ev, &text), WICK_E_ARG);
    wk_request_drop(r);
}

/* With room there is room for everything that one step may say. */
static void test_room_is_enough_for_a_step(void **s) {
    (void)s;
    wk_request *r = new_request();
    uint64_t sent = 0, read = 0;
    while (wk_request_has_room(r)) put(r, &sent, WK_STEP_TEXT - 1);
    assert_true(sent >= WK_RING_TEXT - 2 * WK_STEP_TEXT);
    get(r, &read);
    assert_true(wk_request_has_room(r));
    put(r, &sent, WK_STEP_TEXT);
    wk_request_end(r, WK_FIN_STOP);
    while (read < sent) get(r, &read);
    wk_request_drop(r);
}

static bool readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void test_descriptor(void **s) {
    (void)s;
    wk_request *r = new_request();
    uint64_t sent = 0, read = 0;
    put(r, &sent, 5);
    const int fd = wk_request_fd(r);
    assert_true(fd >= 0);
    assert_true(readable(fd)); /* what was there before it counts */
    put(r, &sent, 6);
    get(r, &read);
    assert_true(readable(fd));
    get(r, &read);
    assert_false(readable(fd));
    put(r, &sent, 7);
    assert_true(readable(fd));
    wk_request_drop(r);
    wk_request_drop(NULL);
}

/* ---- two threads --------------------------------------------------------------------------------- */

enum { N_SENT = 20000 };

static void *writer(void *ud) {
    wk_request *r = ud;
    uint64_t sent = 0;
    for (uint32_t i = 0; i < N_SENT;) {
        if (!wk_request_has_room(r)) continue;
        put(r, &sent, 1 + i++ % 9);
        if (i % 5000 == 0) { /* let the reader fall asleep */
            const struct timespec t = {0, 3000000};
            (void)nanosleep(&t, NULL);
        }
    }
    wk_request_end(r, WK_FIN_STOP);
    wk_request_drop(r);
    return NULL;
}

static void test_reader_waits(void **s) {
    (void)s;
    wk_request *r = new_request();
    pthread_t th;
    wk_ring_event ev;
    wk_str text;
    uint64_t read = 0, n = 0;
    assert_int_equal(wk_request_next(r, 1, &ev, &text), WICK_E_TIMEOUT);
    wk_request_hold(r);
    assert_int_equal(pthread_create(&th, NULL, writer, r), 0);
    for (;;) {
        const int rc = wk_request_next(r, n % 2 ? -1 : 10000, &ev, &text);
        assert_int_equal(rc, WICK_OK);
        if (ev.type == WK_EV_DONE) break;
        for (size_t i = 0; i < text.n; i++) assert_int_equal(text.p[i], byte_at(read + i));
        read += text.n;
        n++;
    }
    assert_int_equal(n, N_SENT);
    (void)pthread_join(th, NULL);
    wk_request_drop(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_keep_their_order),    cmocka_unit_test(test_last_event_always_fits),
        cmocka_unit_test(test_room_is_enough_for_a_step), cmocka_unit_test(test_descriptor),
        cmocka_unit_test(test_reader_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

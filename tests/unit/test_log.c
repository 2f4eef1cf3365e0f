/* The sink: silent by default, filtered by level, lines cut at 1 KiB. */
#include "engine/base/log.h"
#include "tests/unit/unit.h"

typedef struct seen {
    int n, level;
    size_t len;
    char text[2048];
} seen;

static void keep(void *ud, int level, const char *text, size_t len) {
    seen *s = (seen *)ud;
    s->n++;
    s->level = level;
    s->len = len;
    memcpy(s->text, text, len);
    s->text[len] = '\0';
}

static void filters(void **state) {
    (void)state;
    seen s = {0};
    wk_log(WK_LOG_ERROR, "nobody hears");
    wk_log_set(keep, &s, WK_LOG_WARN);
    wk_log(WK_LOG_INFO, "below");
    assert_int_equal(s.n, 0);
    wk_log(WK_LOG_WARN, "at %d", 1);
    wk_log(WK_LOG_ERROR, "above %s", "it");
    assert_int_equal(s.n, 2);
    assert_int_equal(s.level, WK_LOG_ERROR);
    assert_string_equal(s.text, "above it");
    wk_log_set(NULL, NULL, 0);
    wk_log(WK_LOG_ERROR, "silent again");
    assert_int_equal(s.n, 2);
}

static void cuts(void **state) {
    (void)state;
    seen s = {0};
    char text[1500];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    wk_log_set(keep, &s, WK_LOG_DEBUG);
    wk_log(WK_LOG_DEBUG, "%s", text);
    wk_log_set(NULL, NULL, 0);
    assert_int_equal(s.len, 1023);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(filters), cmocka_unit_test(cuts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

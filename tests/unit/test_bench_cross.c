/* Where a device begins to be ahead, on planted signs. */
#include "engine/app/bench_cross.h"
#include "tests/unit/unit.h"

static void check(const wk_cross_point *given, int n, int want, const char *sentence) {
    wk_cross_point p[8];
    char text[300];
    for (int i = 0; i < n; i++) p[i] = given[i];
    assert_int_equal(wk_cross_find(p, n), want);
    for (int i = 0; i < n; i++) p[i] = given[i];
    wk_cross_say(p, n, "prompt, by time", "cuda:0", "tokens", text, sizeof(text));
    assert_string_equal(text, sentence);
}

static void in_the_middle(void **state) {
    const wk_cross_point p[] = {{512, 1}, {1, -1}, {32, 1}, {8, 0}, {128, 1}}; /* in any order */
    const wk_cross_point behind[] = {{1, -1}, {2, 1}};
    (void)state;
    check(p, 5, 2, "prompt, by time: cuda:0 is ahead of cpu from 32 tokens on (8: no difference)");
    check(behind, 2, 1, "prompt, by time: cuda:0 is ahead of cpu from 2 tokens on (1: behind)");
}

static void at_the_ends(void **state) {
    const wk_cross_point all[] = {{1, 1}, {8, 1}}, none[] = {{1, -1}, {8, -1}}, same[] = {{1, -1}, {8, 0}};
    (void)state;
    check(all, 2, 0, "prompt, by time: cuda:0 is ahead of cpu at every measured place, 1 .. 8 tokens");
    check(none, 2, -1, "prompt, by time: no crossover up to 8 tokens: there cuda:0 is behind cpu");
    check(same, 2, -1, "prompt, by time: no crossover up to 8 tokens: there cuda:0 is no different from cpu");
}

/* Ahead and behind again: only the last stretch counts. */
static void twice(void **state) {
    const wk_cross_point p[] = {{1, 1}, {8, -1}, {32, 1}}, lost[] = {{1, 1}, {8, -1}};
    (void)state;
    check(p, 3, 2, "prompt, by time: cuda:0 is ahead of cpu from 32 tokens on (8: behind)");
    check(lost, 2, -1,
          "prompt, by time: no crossover up to 8 tokens: there cuda:0 is behind cpu, though ahead at some smaller ones");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_the_middle), cmocka_unit_test(at_the_ends),
                                       cmocka_unit_test(twice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

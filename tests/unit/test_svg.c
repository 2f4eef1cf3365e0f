/* SVG plots: the bytes of a golden file, foreign text, and series that are empty, single, infinite or not above zero.
 *
 * usage: test_svg [--write]   (run from the repository root; --write makes the golden file anew) */
#include <math.h>
#include <stdio.h>

#include "engine/app/svg.h"
#include "tests/unit/unit.h"

static const char golden[] = "tests/golden/svg/bench.svg";

static void sample(wk_buf *b) {
    wk_svg_series s[WK_SVG_SERIES];
    memset(s, 0, sizeof(s));
    static const char *const names[] = {"wick", "llama-bench", "ik",    "<&\">",
                                        "five", "six",         "seven", "eight"};
    for (int k = 0; k < WK_SVG_SERIES; k++) {
        s[k].name = wk_cstr(names[k]);
        s[k].n = 5;
        for (int i = 0; i < 5; i++) {
            s[k].x[i] = 1 << (2 * i);
            s[k].y[i] = 100.0 * (i + 1) / (k + 1);
            s[k].low[i] = s[k].y[i] * 0.9;
            s[k].high[i] = s[k].y[i] * 1.1;
        }
    }
    const wk_svg_plot all = {.title = "Prompt speed",
                             .x_label = "tokens",
                             .y_label = "tok/s",
                             .log_x = true,
                             .n_series = WK_SVG_SERIES,
                             .series = s};
    const wk_svg_plot one = {.title = "Decoding",
                             .x_label = "tokens before",
                             .y_label = "tok/s",
                             .log_y = true,
                             .n_series = 1,
                             .series = s,
                             .mark = 5,
                             .mark_text = "reading speed"};
    wk_svg_begin(b, 2, WK_STR("a <title> & \"more\""), WK_STR("machine \x01 \xff\xc3\xa9"));
    wk_svg_plot_put(b, 0, &all);
    wk_svg_plot_put(b, 1, &one);
    wk_svg_end(b, 2, WK_STR("caption"));
}

static int write_golden(void) {
    wk_buf b;
    wk_buf_init(&b, 0);
    sample(&b);
    FILE *f = fopen(golden, "wb");
    const bool ok = f && fwrite(b.p, 1, b.n, f) == b.n;
    wk_buf_fini(&b);
    return f && fclose(f) == 0 && ok ? 0 : 1;
}

static void bytes(void **state) {
    (void)state;
    static char want[65536];
    wk_buf b;
    wk_buf_init(&b, 0);
    sample(&b);
    FILE *f = fopen(golden, "rb");
    assert_non_null(f);
    const size_t n = fread(want, 1, sizeof(want), f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(b.n, n);
    assert_memory_equal(b.p, want, n);
    assert_true(b.n < 60000);
    wk_buf_fini(&b);
}

static void escaped(void **state) {
    (void)state;
    wk_buf b;
    wk_buf_init(&b, 0);
    sample(&b);
    assert_non_null(strstr(b.p, "a &lt;title&gt; &amp; &quot;more&quot;"));
    assert_non_null(strstr(b.p, "machine ? ?\xc3\xa9"));
    assert_non_null(strstr(b.p, "&lt;&amp;&quot;&gt;"));
    wk_buf_fini(&b);
}

static void odd_series(void **state) {
    (void)state;
    static wk_svg_series s[2];
    const double values[] = {0, -1, 1e-300, 1e300, (double)INFINITY, (double)NAN, 1};
    for (int lx = 0; lx < 2; lx++)
        for (int ly = 0; ly < 2; ly++)
            for (int n = 0; n <= 7; n++) {
                wk_buf b;
                wk_buf_init(&b, 0);
                s[0] = (wk_svg_series){.name = WK_STR("a"), .n = n};
                s[1] = (wk_svg_series){.name = WK_STR("b"), .n = n > 0};
                s[1].x[0] = s[1].y[0] = 3;
                for (int i = 0; i < n; i++) s[0].x[i] = s[0].y[6 - i] = values[i];
                const wk_svg_plot p = {.title = "t",
                                       .x_label = "x",
                                       .y_label = "y",
                                       .log_x = lx,
                                       .log_y = ly,
                                       .n_series = 2,
                                       .series = s};
                wk_svg_begin(&b, 1, WK_STR(""), WK_STR(""));
                wk_svg_plot_put(&b, 0, &p);
                wk_svg_end(&b, 1, WK_STR(""));
                assert_false(b.failed);
                assert_null(strstr(b.p, "nan"));
                assert_null(strstr(b.p, "inf"));
                assert_true(b.n < 60000);
                wk_buf_fini(&b);
            }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--write") == 0) return write_golden();
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes), cmocka_unit_test(escaped),
                                       cmocka_unit_test(odd_series)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Slices, and foreign text made safe. */
#include "engine/base/str.h"
#include "engine/base/utf8.h"
#include "tests/unit/unit.h"

static void slices(void **state) {
    (void)state;
    const wk_str s = WK_STR("blk.3.attn_q"), none = {NULL, 0};
    assert_true(wk_str_is(s, "blk.3.attn_q"));
    assert_false(wk_str_is(s, "blk.3.attn_k"));
    assert_true(wk_str_starts(s, WK_STR("blk.")) && wk_str_ends(s, WK_STR("_q")));
    assert_false(wk_str_starts(s, WK_STR("blk.4")) || wk_str_ends(s, WK_STR("_k")));
    assert_false(wk_str_starts(WK_STR("b"), s) || wk_str_ends(WK_STR("q"), s));
    assert_true(wk_str_eq(none, WK_STR("")) && wk_str_starts(s, none) && wk_str_ends(none, none));
    assert_int_equal(wk_cstr(NULL).n, 0);
}

static void shows(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } t[] = {
        {"plain text", "plain text"},
        {"tab\tline\n", "tab\\x09line\\x0a"},
        {"\x1b[31m", "\\x1b[31m"},
        {"\x7f", "\\x7f"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xc2\x85", "\\xc2\\x85"},
        {"\xff\xfe", "\\xff\\xfe"},
        {"\xe2\x80\xae", "\\xe2\\x80\\xae"},
        {"\xe2\x81\xa6", "\\xe2\\x81\\xa6"},
        {"\xe2\x82\xac", "\xe2\x82\xac"},
        {"cut\xe2\x82", "cut\\xe2\\x82"},
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
        assert_string_equal(wk_show(wk_cstr(t[i].in)).text, t[i].out);
    assert_string_equal(wk_show((wk_str){"a\0b", 3}).text, "a\\x00b");
    assert_string_equal(wk_show((wk_str){NULL, 0}).text, "");
}

/* Whatever comes in, what goes out is short, valid and printable. */
static void shows_anything(void **state) {
    (void)state;
    char in[200];
    uint32_t x = 1;
    for (int round = 0; round < 5000; round++) {
        for (size_t i = 0; i < sizeof(in); i++) {
            x = x * 1664525u + 1013904223u;
            in[i] = (char)(round % 2 ? x >> 24 : 0xe0u | (x >> 24 & 0x3fu));
        }
        const size_t n = x % sizeof(in);
        const wk_shown s = wk_show((wk_str){in, n});
        const size_t len = strlen(s.text);
        assert_true(len <= 83);
        assert_true(wk_utf8_valid(wk_cstr(s.text)));
        for (size_t i = 0; i < len; i++) assert_true((uint8_t)s.text[i] >= 0x20);
    }
    memset(in, 'a', sizeof(in));
    assert_int_equal(strlen(wk_show((wk_str){in, 80}).text), 80);
    assert_int_equal(strlen(wk_show((wk_str){in, 81}).text), 83);
    assert_string_equal(wk_show((wk_str){in, 81}).text + 80, "\xe2\x80\xa6");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(slices), cmocka_unit_test(shows),
                                       cmocka_unit_test(shows_anything)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* JSON: what is read, what is refused and with which words, what is written. */
#include "engine/base/arena.h"
#include "engine/base/json.h"
#include "tests/unit/unit.h"

static wk_json_doc *parse(const char *text) {
    wk_json_doc *d = NULL;
    wk_err e = {0};
    if (wk_json_parse(&d, wk_cstr(text), 64, 1000, &e)) fail_msg("%s: %s", text, e.message);
    return d;
}

static void reads(void **state) {
    (void)state;
    wk_json_doc *d = parse(
        "{\"s\": \"a\\u00fc\\ud83d\\ude00\\u0000b\", \"i\": -9223372036854775808, \"r\": 1.5e3,"
        " \"t\": true, \"n\": null, \"a\": [1, [], {}], \"\": 0}");
    const wk_json *v = wk_json_root(d);
    assert_int_equal(wk_json_type(v), WK_JSON_OBJECT);
    assert_int_equal(wk_json_count(v), 7);
    const wk_str s = wk_json_str(wk_json_get(v, "s"));
    assert_true(wk_str_eq(s, WK_STR("a\xc3\xbc\xf0\x9f\x98\x80\0b")));
    assert_true(wk_json_int(wk_json_get(v, "i")) == INT64_MIN);
    assert_true(wk_json_real(wk_json_get(v, "r")) == 1500.0);
    assert_true(wk_json_real(wk_json_get(v, "i")) == -0x1p63);
    assert_true(wk_json_bool(wk_json_get(v, "t")));
    assert_int_equal(wk_json_type(wk_json_get(v, "n")), WK_JSON_NULL);
    const wk_json *a = wk_json_get(v, "a");
    assert_int_equal(wk_json_count(a), 3);
    assert_int_equal(wk_json_int(wk_json_at(a, 0)), 1);
    assert_int_equal(wk_json_type(wk_json_at(a, 1)), WK_JSON_ARRAY);
    assert_int_equal(wk_json_type(wk_json_at(a, 2)), WK_JSON_OBJECT);
    assert_null(wk_json_at(a, 3));
    assert_null(wk_json_get(v, "absent"));
    wk_json_free(d);
    d = parse(" 7 ");
    assert_int_equal(wk_json_int(wk_json_root(d)), 7);
    wk_json_free(d);
}

static void walks_in_order(void **state) {
    (void)state;
    wk_json_doc *d = parse("{\"z\": 0, \"y\": 1, \"x\": 2, \"a\": 3, \"k\": 4}");
    const wk_json *v = wk_json_root(d), *m;
    void *it = NULL;
    wk_str key;
    static const char order[] = "zyxak";
    for (size_t i = 0; i < 5; i++) {
        assert_true(wk_json_member(v, i, &key, &m));
        assert_true(key.n == 1 && key.p[0] == order[i] && wk_json_int(m) == (int64_t)i);
        assert_true(wk_json_next(v, &it, &key, &m));
        assert_true(key.n == 1 && key.p[0] == order[i] && wk_json_int(m) == (int64_t)i);
    }
    assert_false(wk_json_member(v, 5, &key, &m));
    assert_false(wk_json_next(v, &it, &key, &m));
    wk_json_free(d);
}

static void forgives_wrong_types(void **state) {
    (void)state;
    wk_json_doc *d = parse("[1]");
    const wk_json *v = wk_json_root(d), *m;
    wk_str key;
    void *it = NULL;
    assert_null(wk_json_get(v, "x"));
    assert_null(wk_json_get(NULL, "x"));
    assert_null(wk_json_at(NULL, 0));
    assert_int_equal(wk_json_type(NULL), WK_JSON_NULL);
    assert_int_equal(wk_json_count(NULL), 0);
    assert_int_equal(wk_json_str(v).n, 0);
    assert_non_null(wk_json_str(NULL).p);
    assert_int_equal(wk_json_int(v), 0);
    assert_false(wk_json_bool(v));
    assert_true(wk_json_real(NULL) == 0.0);
    assert_false(wk_json_member(v, 0, &key, &m) || wk_json_next(v, &it, &key, &m));
    assert_null(wk_json_root(NULL));
    wk_json_free(d);
    wk_json_free(NULL);
}

static void refuses(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } t[] = {
        {"", "line 1"},
        {"{", "line 1"},
        {"[1,]", "column 4"},
        {"{\"a\":1,\n\"a\":2}", "line 2"},
        {"[1] x", "end of file"},
        {"[1][2]", "end of file"},
        {"\"\\ud800\"", "\\uD800"},
        {"\"\xff\"", "unable to decode byte"},
        {"\"\xed\xa0\x80\"", "unable to decode byte"},
        {"\"a", "line 1"},
        {"\"a\\", "line 1"},
        {"[99999999999999999999]", "too big"},
        {"[1e999]", "overflow"},
        {"[NaN]", "invalid"},
        {"[01]", "line 1"},
        {"[\"a\tb\"]", "control character"},
        {"{\"a\\u0000\": 1}", "NUL"},
        {"// comment\n1", "line 1"},
        {"]]]]", "line 1"},
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        wk_json_doc *d = NULL;
        wk_err e = {0};
        if (wk_json_parse(&d, wk_cstr(t[i].text), 64, 1000, &e) != WICK_E_ARG || d)
            fail_msg("taken: %s", t[i].text);
        if (!strstr(e.message, t[i].says)) fail_msg("%s: %s", t[i].text, e.message);
    }
    wk_json_doc *d;
    wk_err e = {0};
    assert_int_equal(wk_json_parse(&d, (wk_str){"1\0", 2}, 64, 1000, &e), WICK_E_ARG);
    assert_string_equal(e.message, "JSON has a NUL byte at line 1, column 2");
    assert_int_equal(wk_json_parse(&d, (wk_str){NULL, 0}, 64, 1000, NULL), WICK_E_ARG);
}

static int parse_limits(wk_str text, int depth, size_t values, wk_err *e) {
    wk_json_doc *d;
    const int rc = wk_json_parse(&d, text, depth, values, e);
    wk_json_free(d);
    return rc;
}

static void keeps_limits(void **state) {
    (void)state;
    wk_err e = {0};
    assert_int_equal(parse_limits(WK_STR("[[[1]]]"), 3, 100, &e), WICK_OK);
    assert_int_equal(parse_limits(WK_STR("[[\n[1]]]"), 2, 100, &e), WICK_E_ARG);
    assert_string_equal(e.message, "JSON has more nested levels than 2 at line 2, column 1");
    assert_int_equal(parse_limits(WK_STR("[[1], [2], {\"a\": 3}]"), 2, 100, &e), WICK_OK);
    assert_int_equal(parse_limits(WK_STR("[1,2,3]"), 9, 4, &e), WICK_OK);
    assert_int_equal(parse_limits(WK_STR("[1,2,3]"), 9, 3, &e), WICK_E_ARG);
    assert_string_equal(e.message, "JSON has more values than 3 at line 1, column 5");
    assert_int_equal(parse_limits(WK_STR("[\"[[[[,,,,\\\"[[[[\"]"), 1, 3, &e), WICK_OK);
    enum { DEEP = 1000000 };
    char *deep = (char *)wk_alloc(DEEP);
    memset(deep, '[', DEEP);
    assert_int_equal(parse_limits((wk_str){deep, DEEP}, 64, DEEP, &e), WICK_E_ARG);
    memset(deep, ',', DEEP);
    assert_int_equal(parse_limits((wk_str){deep, DEEP}, 64, 1000, &e), WICK_E_ARG);
    wk_free(deep);
    wk_alloc_fail_at(1, false);
    assert_int_equal(parse_limits(WK_STR("1"), 9, 3, &e), WICK_E_NOMEM);
}

static void writes(void **state) {
    (void)state;
    wk_buf b;
    wk_buf_init(&b, 0);
    wk_json_put_str(&b, WK_STR("a\"b\\c\n\t\r\b\f\0\x1f\x7f/\xc3\xbc\xff"
                               "e\xe2\x82"));
    assert_string_equal(b.p,
                        "\"a\\\"b\\\\c\\n\\t\\r\\b\\f\\u0000\\u001f\\u007f/\xc3\xbc\xef\xbf\xbd"
                        "e"
                        "\xef\xbf\xbd\xef\xbf\xbd\"");
    wk_json_doc *d = parse(b.p);
    assert_int_equal(wk_json_type(wk_json_root(d)), WK_JSON_STR);
    wk_json_free(d);
    wk_buf_reset(&b);
    wk_json_put_str(&b, (wk_str){NULL, 0});
    assert_string_equal(b.p, "\"\"");
    wk_buf_fini(&b);
    wk_buf_init(&b, 5);
    wk_json_put_str(&b, WK_STR("too long"));
    assert_true(b.failed && b.n <= 5);
    wk_buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(walks_in_order),
        cmocka_unit_test(forgives_wrong_types),
        cmocka_unit_test(refuses),
        cmocka_unit_test(keeps_limits),
        cmocka_unit_test(writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_jinja.c: the template engine against texts that Python's jinja2 made (tests/golden/make_jinja.py), the
 * provenance of text, and templates that must be refused within their budgets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/json.h"
#include "engine/base/os.h"
#include "engine/text/jinja.h"

#define NOW 1767323045 /* 2026-01-02 03:04:05 UTC, the clock of the golden texts */

static wk_str file_text(const wk_map_file *m) { return (wk_str){(const char *)m->p, m->n}; }

/* Renders src with the JSON text vars. */
static int render(wk_str src, wk_str vars, const char *const *trusted, wk_jinja_out *out,
                  wk_err *err) {
    wk_jinja_budget budget = WK_JINJA_BUDGET;
    wk_jinja *j = NULL;
    wk_json_doc *doc = NULL;
    budget.now = NOW;
    *out = (wk_jinja_out){0};
    int rc = wk_json_parse(&doc, vars, 64, 100000, err);
    if (!rc) rc = wk_jinja_parse(&j, src, err);
    if (!rc) rc = wk_jinja_render(j, wk_json_root(doc), trusted, &budget, out, err);
    wk_jinja_free(j);
    wk_json_free(doc);
    return rc;
}

/* ---- golden texts ------------------------------------------------------------------------------ */

static bool check_row(const wk_json *row, wk_str vars) {
    wk_jinja_out out;
    wk_err err = {0};
    const wk_str name = wk_json_str(wk_json_get(row, "name")),
                 want = wk_json_str(wk_json_get(row, "text"));
    const bool should = wk_json_bool(wk_json_get(row, "ok"));
    const int rc = render(wk_json_str(wk_json_get(row, "template")), vars, NULL, &out, &err);
    const bool ok = should ? rc == WICK_OK && wk_str_eq(wk_buf_str(&out.text), want)
                           : rc == WICK_E_TEMPLATE && err.message[0];
    if (!ok) {
        print_message("%.*s: %s\n", (int)name.n, name.p, rc ? err.message : "wrong text");
        print_message("  want: %.*s\n  have: %.*s\n", (int)want.n, want.p, (int)out.text.n,
                      out.text.n ? out.text.p : "");
    }
    wk_jinja_out_fini(&out);
    return ok;
}

static void check_file(const char *path) {
    wk_map_file rows, vars;
    wk_err err = {0};
    size_t n = 0, n_bad = 0;
    assert_int_equal(wk_os_map(&rows, path, &err), WICK_OK);
    assert_int_equal(wk_os_map(&vars, "tests/golden/jinja/context.json", &err), WICK_OK);
    for (wk_str rest = file_text(&rows); rest.n; n++) {
        const char *end = memchr(rest.p, '\n', rest.n);
        const size_t len = end ? (size_t)(end - rest.p) : rest.n;
        wk_json_doc *row = NULL;
        assert_int_equal(wk_json_parse(&row, (wk_str){rest.p, len}, 64, 10000, &err), WICK_OK);
        n_bad += !check_row(wk_json_root(row), file_text(&vars));
        wk_json_free(row);
        rest = (wk_str){rest.p + len + (end != NULL), rest.n - len - (end != NULL)};
    }
    wk_os_unmap(&rows);
    wk_os_unmap(&vars);
    assert_true(n > 100);
    assert_int_equal(n_bad, 0);
}

static void every_construct(void **state) {
    (void)state;
    check_file("tests/golden/jinja/constructs.jsonl");
}

static void random_expressions(void **state) {
    (void)state;
    check_file("tests/golden/jinja/random.jsonl");
    const char *more = getenv("WICK_JINJA_CASES");
    if (more) check_file(more);
}

/* ---- provenance -------------------------------------------------------------------------------- */

/* want: the text with user runs in «»-like marks: [ and ]. */
static void check_runs(const char *src, const char *want) {
    static const char vars[] =
        "{\"x\":\"AbC\",\"y\":\" q \",\"bos\":\"<s>\",\"u\":\"\\u00e9z\",\"m\":[{\"role\":\"user\","
        "\"content\":\"Hi\"}],\"d\":{\"k\":\"v\"},\"j\":\"{\\\"a\\\": \\\"b\\\"}\"}";
    static const char *const trusted[] = {"bos", "m[].role", NULL};
    wk_jinja_out out;
    wk_err err = {0};
    wk_buf shown;
    if (render(wk_cstr(src), wk_cstr(vars), trusted, &out, &err))
        fail_msg("%s: %s", src, err.message);
    wk_buf_init(&shown, 0);
    for (size_t i = 0; i < out.n_run; i++) {
        const wk_jinja_run *r = &out.run[i];
        assert_true(r->begin < r->end && r->end <= out.text.n);
        assert_true(r->begin == (i ? out.run[i - 1].end : 0));
        if (i) assert_true(r->user != out.run[i - 1].user);
        if (r->user) assert_true(wk_buf_addc(&shown, '['));
        assert_true(wk_buf_add(&shown, out.text.p + r->begin, r->end - r->begin));
        if (r->user) assert_true(wk_buf_addc(&shown, ']'));
    }
    if (!wk_str_is(wk_buf_str(&shown), want))
        fail_msg("%s gives %s, not %s", src, shown.n ? shown.p : "", want);
    wk_buf_fini(&shown);
    wk_jinja_out_fini(&out);
}

static void user_text_stays_user_text(void **state) {
    static const char *const row[][2] = {
        {"a{{ x }}b", "a[AbC]b"},
        {"{{ bos }}{{ x }}{{ m[0].role }}{{ m[0].content }}", "<s>[AbC]user[Hi]"},
        {"{{ '<' + x + '>' }}", "<[AbC]>"},
        {"{{ '<' ~ x ~ 1 }}", "<[AbC]1"},
        {"{{ x | upper }}{{ x.lower() }}{{ ('a' ~ x) | upper }}", "[ABCabc]A[ABC]"},
        {"{{ ('a' ~ x ~ 'b')[::-1] }}", "b[CbA]a"},
        {"{{ ('a' ~ x ~ 'b')[1:3] }}{{ ('a' ~ x)[:2] }}", "[Ab]a[A]"},
        {"{{ [x, 'c', x] | join('-') }}", "[AbC]-c-[AbC]"},
        {"{{ ', '.join([x, 'c']) }}", "[AbC], c"},
        {"{{ 'a-b' | replace('-', x) }}{{ x | replace('b', '-') }}", "a[AbC]b[A]-[C]"},
        {"{{ 'a-b'.replace('-', x) }}", "a[AbC]b"},
        {"{{ ('.' ~ y) | trim }}{{ (' ' ~ y ~ ' .') | trim }}", ".[ qq ] ."},
        {"{{ ('1,' ~ x ~ ',2').split(',') | join('+') }}", "1+[AbC]+2"},
        {"{{ ('1,' ~ x ~ ',2').split(',')[1] }}", "[AbC]"},
        {"{{ x | tojson }}{{ d | tojson }}", "\"[AbC]\"{\"[k]\": \"[v]\"}"},
        {"{{ d }}{{ [x] }}", "{'[k]': '[v]'}['[AbC]']"},
        {"{{ j | from_json }}", "{'[a]': '[b]'}"},
        {"{% set z %}<{{ x }}>{% endset %}{{ z | lower }}", "<[abc]>"},
        {"{% macro m(a) %}({{ a }}){% endmacro %}{{ m(x) | upper }}", "([ABC])"},
        {"{% filter upper %}a{{ x }}{% endfilter %}", "A[ABC]"},
        {"{{ ('a\\n' ~ x) | indent(2) }}", "a\n  [AbC]"},
        {"{{ (x ~ '&')| escape }}{{ '<'|safe + x }}", "[AbC]&amp;<[AbC]"},
        {"{{ '{}-{}'.format(x, 1) }}", "[AbC]-1"},
        {"{{ x * 2 }}{{ ('a' ~ x) * 2 }}", "[AbCAbC]a[AbC]a[AbC]"},
        {"{% for c in 'a' ~ x %}{{ c }}.{% endfor %}", "a.[A].[b].[C]."},
        {"{{ ('\xc3\xa9' ~ u) | upper }}{{ u | tojson(ensure_ascii=true) }}",
         "\xc3\x89[\xc3\x89Z]\"[\\u00e9z]\""},
        {"{% set ns = namespace(t='') %}{% for i in range(3) %}{% set ns.t = ns.t + 'a' + x %}{% "
         "endfor %}{{ ns.t }}",
         "a[AbC]a[AbC]a[AbC]"},
        {"{{ d.items() | list | first | last }}{% for k in d %}{{ k }}{% endfor %}", "[vk]"},
        {"{{ (x ~ 'z').title() }}{{ x | string }}{{ x | default('q') }}", "[Abc]z[AbCAbC]"},
        {"{{ strftime_now('%Y') }}{{ 3 }}{{ none }}", "20263None"},
    };
    (void)state;
    for (size_t i = 0; i < WK_COUNT(row); i++) check_runs(row[i][0], row[i][1]);
}

/* A string that grows by itself shares its space: the older one must not change. */
static void grown_strings_do_not_touch_each_other(void **state) {
    static const char src[] =
        "{% set a = 'x' * 200 %}{% set b = a + '1' %}{% set c = b + '2' %}{% set d = b + '3' %}"
        "{{ b[-2:] }}{{ c[-2:] }}{{ d[-2:] }}{{ (c + '4')[-3:] }}{{ (d + '5')[-3:] }}{{ c[-2:] }}";
    wk_jinja_out out;
    wk_err err = {0};
    (void)state;
    assert_int_equal(render(wk_cstr(src), WK_STR("{}"), NULL, &out, &err), WICK_OK);
    assert_string_equal(out.text.p, "x112131241351"
                                    "2");
    wk_jinja_out_fini(&out);
}

/* ---- refusals ---------------------------------------------------------------------------------- */

static void refused(const char *src, const char *want) {
    wk_jinja_out out;
    wk_err err = {0};
    const uint64_t begin = wk_os_now_ns();
    const int rc = render(wk_cstr(src), WK_STR("{\"l\":[1,2]}"), NULL, &out, &err);
    const double seconds = (double)(wk_os_now_ns() - begin) * 1e-9;
    if (rc != WICK_E_TEMPLATE) fail_msg("%.60s: code %d, %s", src, rc, err.message);
    if (!strstr(err.message, want))
        fail_msg("%.60s: '%s' where '%s' is wanted", src, err.message, want);
    if (seconds > 10)
        fail_msg("%.60s took %.1f s", src, seconds); /* 1 s on a quiet machine without sanitizers */
}

static void messages_name_line_and_cause(void **state) {
    static const char *const row[][2] = {
        {"a\nb\n{% frobnicate %}", "line 3: unknown tag 'frobnicate'"},
        {"\n{{ 1 | frob }}", "line 2: unknown filter 'frob'"},
        {"{{ 1 is frob }}", "line 1: unknown test 'frob'"},
        {"\n\n{{ frob(1) }}", "line 3: 'frob' is undefined"},
        {"{% include 'a' %}", "cannot use the tag 'include'"},
        {"{% for x in l recursive %}{% endfor %}", "not supported in a for: 'recursive'"},
        {"{% for x in l %}{% else %}{% endfor %}", "not supported in a for: 'else'"},
        {"{% raw %}{% endraw %}", "cannot use the tag 'raw'"},
        {"\n{% if 1 %}\n\n", "line 2: 'if' has no end"},
        {"{{ l.x.y }}", "a list has no attribute 'x'"},
        {"{{ raise_exception('stop ' ~ 1) }}", "line 1: raised: stop 1"},
        {"{{ f(*l) }}", "not supported in a call: '*'"},
        {"{{ 'a\\N{DASH}' }}", "an escape cannot be read"},
        {"{{ 99999999999999999999 }}", "does not fit 64 bits"},
        {"{{ -9223372036854775807 - 2 }}", "does not fit 64 bits"},
        {"{{ (-9223372036854775807 - 1) // -1 }}", "does not fit 64 bits"},
        {"{{ (-9223372036854775807 - 1) | abs }}", "does not fit 64 bits"},
        {"{{ 2 ** 64 }}", "does not fit 64 bits"},
        {"{{ range(0, 9223372036854775807, 1)[::-1][5] ~ range(-9223372036854775807, "
         "9223372036854775807) }}",
         "too long"},
        {"{{ l | map('map', 'map', 'upper') | list | tojson }}", "a int cannot be iterated over"},
        {"\xff", "not valid UTF-8"},
    };
    (void)state;
    for (size_t i = 0; i < WK_COUNT(row); i++) refused(row[i][0], row[i][1]);
}

static const char *const bombs[][2] = {
    {"{% for i in range(1000000000) %}{% endfor %}", "steps"},
    {"{% for i in range(1000000000) %}{% set x = i * 2 %}{% endfor %}", "steps"},
    {"{% for i in range(100000) %}{% for j in range(100000) %}{{ j }}{% endfor %}{% endfor %}",
     "more than"},
    {"{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% "
     "endfor %}",
     "bytes"},
    {"{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% "
     "endfor %}",
     "bytes"},
    {"{% set ns = namespace(s='aa') %}{% for i in range(100) %}{% set ns.s = ns.s.replace('a', "
     "ns.s) %}{% endfor %}",
     "bytes"},
    {"{% set ns = namespace(s=['a']) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% "
     "endfor %}",
     "bytes"},
    {"{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] | "
     "join %}{% endfor %}",
     "bytes"},
    {"{% set ns = namespace(s='a\\nb') %}{% for i in range(100) %}{% set ns.s = ns.s | "
     "indent(100000000) %}{% endfor %}",
     "more than"},
    {"{{ '{0}{0}{0}{0}' * 100000 }}{{ ('{0}' * 100000).format('a' * 100000) }}", "bytes"},
    {"{{ 'a' * 1000000000 }}", "more than"},
    {"{{ '' * 9223372036854775807 }}{{ [0] * 9223372036854775807 }}", "bytes"},
    {"{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}", "bytes"},
    {"{{ range(1000000000) | list }}", "bytes"},
    {"{{ range(1000000000) | join }}", "bytes"},
    {"{{ range(1000000000) | sum }}", "steps"},
    {"{{ 1.5 in range(1000000000) }}", "steps"},
    {"{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "nested deeper than 100"},
    {"{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
     "nested deeper than 100"},
    {"{% set q = [] %}{% set _ = q.append(q) %}{{ q | tojson }}", "nested deeper than 100"},
    {"{% set q = [] %}{% set _ = q.append(q) %}{{ q }}", "nested deeper than 100"},
    {"{% set q = [] %}{% set _ = q.append(q) %}{% set r = [] %}{% set _ = r.append(r) %}{{ q "
     "== r }}",
     "nested deeper than 100"},
    {"{% set ns = namespace(q=[]) %}{% for i in range(100000) %}{% set ns.q = [ns.q] %}{% "
     "endfor %}{{ ns.q }}",
     "nested deeper than 100"},
    {"{% set q = [1] %}{% for x in q %}{% set _ = q.append(x) %}{% endfor %}", "more than"},
    {"{% set q = namespace(d={}) %}{% for i in range(10000000) %}{% set _ = q.d.update({i: i}) "
     "%}{% endfor %}",
     "more than"},
    {"{% set ns = namespace(s='a' * 4000000) %}{% for i in range(100000) %}{% set x = "
     "ns.s.count('b') %}{% endfor %}",
     "steps"},
    {"{% set ns = namespace(s='a' * 4000000) %}{% for i in range(100000) %}{% set x = "
     "ns.s[2000000] %}{% endfor %}",
     "more than"},
    {"{% set s = 'a' * 2000000 %}{{ (s ~ 'b' ~ s).rfind('b' ~ s ~ 'c') }}{{ s.rfind(('a' * "
     "1000000) ~ 'b') }}",
     "steps"},
    {"{{ 'x' | tojson(indent=1000000) }}", "indent"},
};

static void bombs_end_at_their_budget(void **state) {
    (void)state;
    for (size_t i = 0; i < WK_COUNT(bombs); i++) refused(bombs[i][0], bombs[i][1]);
}

/* left * n, middle, right * n */
static void refused_nest(const char *left, const char *middle, const char *right,
                         const char *want) {
    wk_buf b;
    wk_buf_init(&b, 0);
    for (int i = 0; i < 100000; i++) (void)wk_buf_adds(&b, left); /* checked below */
    (void)wk_buf_adds(&b, middle);
    for (int i = 0; i < 100000; i++) (void)wk_buf_adds(&b, right);
    assert_false(b.failed);
    refused(b.p, want);
    wk_buf_fini(&b);
}

static void deep_nesting(void **state) {
    static const char deep[] = "nested deeper than 100";
    (void)state;
    refused_nest("{{ (", "1", ") }}", deep);
    refused_nest("{% if 1 %}", "", "{% endif %}", deep);
    refused_nest("{% for x in l %}", "", "{% endfor %}", deep);
    refused_nest("{% set x %}", "", "{% endset %}", deep);
    refused_nest("{% macro m() %}", "", "{% endmacro %}", deep);
    refused_nest("{% filter trim %}", "", "{% endfilter %}", deep);
    refused_nest("{% generation %}", "", "{% endgeneration %}", deep);
    enum { ROOM = 300000 };
    char *text = malloc(ROOM);
    assert_non_null(text);
    static const char *const repeated[] = {"(",       "[",      "{1:",      "-",
                                           "not ",    "l[",     "f(",       "1 if 1 else ",
                                           "1 and (", "l|map(", "1 is in(", "1 if ("};
    for (size_t i = 0; i < WK_COUNT(repeated); i++) {
        size_t n = 3;
        memcpy(text, "{{ ", 4);
        while (n + 40 < ROOM) n += (size_t)snprintf(text + n, ROOM - n, "%s", repeated[i]);
        (void)snprintf(text + n, ROOM - n, "1 }}"); /* fits */
        refused(text, deep);
    }
    free(text);
}

/* Long but flat: chains are loops, not recursion. */
static void long_chains(void **state) {
    static const char *const part[][2] = {{"1", " + 1"},   {"1", " ~ 1"},      {"1", " and 1"},
                                          {"1", " == 1"},  {"l", "[0:]"},      {"1", " | string"},
                                          {"'a'", " 'a'"}, {"'a'", ".upper()"}};
    enum { LONG = 700000 };
    char *text = malloc(LONG);
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < WK_COUNT(part); i++) {
        size_t n = (size_t)snprintf(text, LONG, "{{ (%s", part[i][0]);
        for (int k = 0; k < 50000; k++) {
            memcpy(text + n, part[i][1], strlen(part[i][1]));
            n += strlen(part[i][1]);
        }
        (void)snprintf(text + n, LONG - n, ") is defined }}"); /* fits */
        wk_jinja_out out;
        wk_err err = {0};
        const int rc = render(wk_cstr(text), WK_STR("{\"l\":[1,2]}"), NULL, &out, &err);
        if (rc) fail_msg("%s: %s", part[i][1], err.message);
        assert_string_equal(out.text.p, "True");
        wk_jinja_out_fini(&out);
    }
    free(text);
}

/* Each prefix of a template that has everything either renders or is refused with a line. */
static void cut_anywhere(void **state) {
    static const char src[] =
        "{# c #}{%- macro m(a, b=[1, {'k': 'v'}]) -%}{{ a | default('x', true) }}{%- endmacro %}\n"
        "{% set ns = namespace(n=0) %}{% for k, v in {'a': 1}.items() if v is not none %}{% set "
        "ns.n = loop.index0 %}"
        "{% if k in 'ab' and not (v < 1 or v >= 3) %}{{ m(k, b=2)[::-1] ~ \"\\u00e9\" }}{% elif 1 "
        "%}{% break %}{% else %}"
        "{{- 'y' if v else 'n' -}}{% endif %}{% endfor %}{% filter upper %}q{% endfilter %}{% "
        "generation %}g{% endgeneration %}";
    (void)state;
    for (size_t n = 0; n < sizeof(src); n++) {
        wk_jinja_out out;
        wk_err err = {0};
        const int rc = render((wk_str){src, n}, WK_STR("{}"), NULL, &out, &err);
        assert_true(rc == WICK_OK || (rc == WICK_E_TEMPLATE && strstr(err.message, "line")));
        if (n == sizeof(src) - 1) assert_int_equal(rc, WICK_OK);
        wk_jinja_out_fini(&out);
    }
}

static void variables_must_be_an_object(void **state) {
    wk_jinja_out out;
    wk_err err = {0};
    (void)state;
    assert_int_equal(render(WK_STR("a"), WK_STR("[1]"), NULL, &out, &err), WICK_E_ARG);
}

static void no_memory_anywhere(void **state) {
    static const char src[] = "{% macro m(a) %}<{{ a }}>{% endmacro %}{% for x in l %}{{ m(x ~ "
                              "'a') | upper | tojson }}{% endfor %}"
                              "{{ {'a': l, 'b': 2} }}{{ 'a,b'.split(',') | join(x) }}";
    (void)state;
    for (uint64_t n = 1;; n++) {
        wk_jinja_out out;
        wk_err err = {0};
        wk_alloc_fail_at(n, false);
        const int rc = render(wk_cstr(src), WK_STR("{\"l\":[1,2],\"x\":\"u\"}"), NULL, &out, &err);
        wk_alloc_fail_at(0, false);
        wk_jinja_out_fini(&out);
        if (rc == WICK_OK) break;
        assert_int_equal(rc, WICK_E_NOMEM);
        assert_true(n < 1000);
    }
}

/* ---- all of it on a small stack ---------------------------------------------------------------- */

static int run_all(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_construct),
        cmocka_unit_test(random_expressions),
        cmocka_unit_test(user_text_stays_user_text),
        cmocka_unit_test(grown_strings_do_not_touch_each_other),
        cmocka_unit_test(messages_name_line_and_cause),
        cmocka_unit_test(bombs_end_at_their_budget),
        cmocka_unit_test(deep_nesting),
        cmocka_unit_test(long_chains),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(variables_must_be_an_object),
        cmocka_unit_test(no_memory_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

static void *on_thread(void *rc) {
    *(int *)rc = run_all();
    return NULL;
}

int main(void) {
    pthread_attr_t attr;
    pthread_t thread;
    int rc = 1;
    if (pthread_attr_init(&attr) || pthread_attr_setstacksize(&attr, 256 << 10)) return 1;
    if (pthread_create(&thread, &attr, on_thread, &rc) || pthread_join(thread, NULL)) return 1;
    return rc;
}

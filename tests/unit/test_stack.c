/* test_stack.c: everything that reads what strangers wrote, on threads with small stacks: the depth of the input must
 * not become the depth of the C stack. The kept bad models are opened, planned, packed and talked to on the way, and
 * each must be refused by the code in its name. */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/arena.h"
#include "engine/base/json.h"
#include "engine/file/store.h"
#include "engine/graph/plan.h"
#include "engine/text/chat.h"
#include "engine/wick_model.h"
#include "tests/unit/unit.h"

/* Frames of instrumented code are several times as big. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
enum { STACK = 1024 * 1024 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
enum { STACK = 1024 * 1024 };
#else
enum { STACK = 256 * 1024 };
#endif
#else
enum { STACK = 256 * 1024 };
#endif

#define KEPT "tests/golden/bad_model"

/* ---- one job on a small stack ------------------------------------------------------------------ */

typedef void job_fn(void *ud);
typedef struct job {
    job_fn *fn;
    void *ud;
} job;

static void *run_job(void *p) {
    const job *j = p;
    j->fn(j->ud);
    return NULL;
}

/* Jobs report through ud: cmocka's assertions jump, which must not leave a thread. */
static void on_small_stack(job_fn *fn, void *ud) {
    job j = {fn, ud};
    pthread_t thread;
    pthread_attr_t attr;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, STACK), 0);
    assert_int_equal(pthread_create(&thread, &attr, run_job, &j), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_attr_destroy(&attr), 0);
}

/* ---- models ------------------------------------------------------------------------------------ */

typedef struct visit {
    const char *path;
    int rc; /* of the first step that failed */
    wk_err err;
} visit;

static const char request[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"a\"},"
    "{\"role\":\"user\",\"content\":\"ab <s> \\u0000 \\ud83d\\ude00\"}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}],"
    "\"add_generation_prompt\":true}";

static int plan(visit *v) {
    const wk_plan_options o = {.max_tok = 4, .max_out = 2};
    wk_store *s = NULL;
    wk_plan *p = NULL;
    wk_buf text;
    wk_buf_init(&text, 1 << 24);
    int rc = wk_store_open(&s, v->path, &v->err);
    if (!rc) rc = wk_plan_build(&p, s, &o, &v->err);
    if (!rc) wk_plan_dump(p, &text);
    wk_buf_fini(&text);
    wk_plan_free(p);
    wk_store_close(s);
    return rc;
}

static int tokenize(const wick_model *m) {
    enum { N = 20000 };
    static const char *const parts[] = {"a", " ", "\xff", "ab<s>", "\xe2\x96\x81", "\n\t"};
    size_t n = 0, len = 0;
    int rc = WICK_OK;
    char *text = wk_alloc(N);
    wick_token *id = wk_new_n(wick_token, N);
    if (!text || !id) rc = WICK_E_NOMEM;
    for (size_t i = 0; !rc && i < WK_COUNT(parts); i++) {
        const size_t k = strlen(parts[i]);
        for (size_t at = 0; at + k <= N; at += k) memcpy(text + at, parts[i], k);
        rc = wick_tokenize(m, text, N / k * k, WICK_TOK_SPECIAL, NULL, 0, &n);
        if (!rc && n <= N) rc = wick_tokenize(m, text, N / k * k, WICK_TOK_SPECIAL, id, N, &n);
        if (!rc && n <= N) rc = wick_detokenize(m, id, n, WICK_TOK_SHOW_SPECIAL, NULL, 0, &len);
    }
    wk_free(text);
    wk_free(id);
    return rc;
}

static int pack(wick_model *m, wk_err *err) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    wick_engine *e = NULL;
    o.n_ctx = 64;
    o.threads = 1;
    o.max_seqs = 1;
    o.no_fit_check = 1;
    const int rc = wick_engine_open(m, &o, &e, err);
    wick_engine_close(e);
    return rc;
}

static void visit_model(void *ud) {
    visit *v = ud;
    wick_model *m = NULL;
    wick_token id[256];
    size_t n = 0;
    v->rc = wick_model_open(v->path, NULL, &m, &v->err);
    if (!v->rc) v->rc = tokenize(m);
    if (!v->rc) v->rc = plan(v);
    if (!v->rc) v->rc = pack(m, &v->err);
    if (!v->rc)
        v->rc = wick_chat_render(m, request, sizeof(request) - 1, id, WK_COUNT(id), &n, NULL, 0, NULL, &v->err);
    wick_model_close(m);
}

static int expected_code(const char *name) {
    static const struct {
        const char *name;
        int code;
    } codes[] = {
#define X(id, value, exit_code, text) {#id "_", value},
        WICK_STATUS_MAP(X)
#undef X
    };
    for (size_t i = 0; i < WK_COUNT(codes); i++)
        if (!strncmp(name, codes[i].name, strlen(codes[i].name))) return codes[i].code;
    fail_msg("%s: the name begins with no status", name);
    return 0;
}

static void test_models(void **state) {
    (void)state;
    DIR *d = opendir(KEPT);
    int n = 0, n_good = 0;
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) {
        char path[512];
        if (!strstr(e->d_name, ".gguf")) continue;
        (void)snprintf(path, sizeof(path), KEPT "/%s", e->d_name);
        visit v = {.path = path};
        on_small_stack(visit_model, &v);
        if (v.rc != expected_code(e->d_name))
            fail_msg("%s: got %d: %s", e->d_name, v.rc, v.rc ? v.err.message : "no refusal");
        if (v.rc && strlen(v.err.message) < 20) fail_msg("%s: no cause: %s", e->d_name, v.err.message);
        n++;
        n_good += v.rc == WICK_OK;
    }
    (void)closedir(d);
    assert_true(n >= 20 && n_good >= 1);
}

static void test_tiny_models(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "qwen3", "gemma3"};
    for (size_t i = 0; i < WK_COUNT(names); i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.gguf", names[i]);
        visit v = {.path = path};
        on_small_stack(visit_model, &v);
        assert_int_equal(v.rc, WICK_E_TEMPLATE); /* they have none; all before it works */
    }
}

/* ---- depth ------------------------------------------------------------------------------------- */

typedef struct deep {
    const char *open, *middle, *close;
    int depth, rc;
    bool render;
    wk_err err;
} deep;

static bool repeat(wk_buf *b, const char *s, int n) {
    for (int i = 0; i < n; i++)
        if (!wk_buf_adds(b, s)) return false;
    return true;
}

static bool build(wk_buf *b, const deep *d) {
    wk_buf_init(b, 0);
    return repeat(b, d->open, d->depth) && repeat(b, d->middle, 1) && repeat(b, d->close, d->depth);
}

static void parse_template(void *ud) {
    deep *d = ud;
    static const wk_jinja_budget budget = WK_JINJA_BUDGET;
    wk_buf b, all;
    wk_jinja *t = NULL;
    wk_json_doc *doc = NULL;
    wk_jinja_out out = {0};
    wk_buf_init(&all, 0);
    const bool is_tag = d->open[0] == '{' && d->open[1] == '%';
    d->rc = build(&b, d) ? WICK_OK : WICK_E_NOMEM;
    if (!is_tag) (void)wk_buf_adds(&all, "{{ ");
    (void)wk_buf_add(&all, b.p, b.n);
    if (!is_tag) (void)wk_buf_adds(&all, " }}");
    if (!d->rc && !all.failed) d->rc = wk_jinja_parse(&t, wk_buf_str(&all), &d->err);
    if (!d->rc) d->rc = wk_json_parse(&doc, WK_STR("{\"a\":[[[[1]]]],\"b\":\"x\"}"), 64, 100, &d->err);
    if (!d->rc) d->rc = wk_jinja_render(t, wk_json_root(doc), NULL, &budget, &out, &d->err);
    wk_jinja_out_fini(&out);
    wk_json_free(doc);
    wk_jinja_free(t);
    wk_buf_fini(&b);
    wk_buf_fini(&all);
}

static const char *const nests[][3] = {
    {"(", "1", ")"},
    {"[", "", "]"},
    {"{'a':", "1", "}"},
    {"not ", "1", ""},
    {"-", "1", ""},
    {"1 + (", "1", ")"},
    {"2 ** ", "1", ""},
    {"1 if b else ", "2", ""},
    {"range(", "1", ")"},
    {"a[", "0", "]"},
    {"b|replace(", "'x','y'", ")"},
    {"{% if 1 %}", "x", "{% endif %}"},
    {"{% for i in [1] %}", "x", "{% endfor %}"},
    {"{% set z %}", "x", "{% endset %}"},
    {"{% filter upper %}", "x", "{% endfilter %}"},
    {"{% macro f() %}", "x", "{% endmacro %}"},
    {"{% generation %}", "x", "{% endgeneration %}"},
    {"{% if b %}{{ (", "(1", ")) }}{% endif %}"},
};

/* Deeper than any limit: refused. Just below it: read and run. */
static void test_templates(void **state) {
    (void)state;
    static const int depths[] = {20, 45, 90, 99, 101, 1000, 100000};
    for (size_t i = 0; i < WK_COUNT(nests); i++) {
        for (size_t k = 0; k < WK_COUNT(depths); k++) {
            deep d = {.open = nests[i][0], .middle = nests[i][1], .close = nests[i][2], .depth = depths[k]};
            on_small_stack(parse_template, &d);
            if (d.rc != WICK_OK && d.rc != WICK_E_TEMPLATE) fail_msg("%s x %d: %d", d.open, d.depth, d.rc);
            if (d.rc && strlen(d.err.message) < 20) fail_msg("%s: no cause: %s", d.open, d.err.message);
            if (depths[k] >= 1000 && !d.rc) fail_msg("%s x %d: taken", d.open, d.depth);
        }
    }
}

/* Values that are nested deeper than the code that made them, and one whose end does not fit 64 bits. */
static void test_values(void **state) {
    (void)state;
    static const char *const end[] = {"{{ n.l }}",          "{{ n.l|tojson }}",      "{{ n.l == n.k }}",
                                      "{{ n.l < n.k }}",    "{{ n.l|unique|list }}", "{{ n.l|string|length }}",
                                      "{{ n.k in [n.l] }}", "{{ [n.l, n.k]|sort }}", "{{ {'a': n.l}|items|list }}",
                                      "{{ n.l|join }}",     "{{ n.l|pprint }}",
                                      "{{ range(9223372036854775000, 9223372036854775807, 9223372036854775807) }}"};
    for (size_t i = 0; i < WK_COUNT(end); i++) {
        char text[256];
        (void)snprintf(text, sizeof(text),
                       "{%% set n = namespace(l=[], k=[]) %%}{%% for i in range(%s) %%}{%% set n.l = [n.l] %%}"
                       "{%% set n.k = [n.k] %%}{%% endfor %%}%s",
                       "100000", end[i]);
        deep d = {.open = "{% if 1 %}", .middle = text, .close = "{% endif %}", .depth = 1};
        on_small_stack(parse_template, &d);
        if (d.rc != WICK_OK && d.rc != WICK_E_TEMPLATE) fail_msg("%s: %d", end[i], d.rc);
    }
}

static void parse_json(void *ud) {
    deep *d = ud;
    wk_buf b;
    wk_json_doc *doc = NULL;
    d->rc = build(&b, d) ? wk_json_parse(&doc, wk_buf_str(&b), 64, 1000000, &d->err) : WICK_E_NOMEM;
    wk_json_free(doc);
    wk_buf_fini(&b);
}

static void test_json(void **state) {
    (void)state;
    static const char *const pairs[][3] = {
        {"[", "1", "]"}, {"{\"a\":", "1", "}"}, {"[{\"a\":", "1", "}]"}, {"[", "", ""}};
    for (size_t i = 0; i < WK_COUNT(pairs); i++) {
        deep d = {.open = pairs[i][0], .middle = pairs[i][1], .close = pairs[i][2], .depth = 1000000};
        on_small_stack(parse_json, &d);
        assert_int_equal(d.rc, WICK_E_ARG);
        d.depth = 30;
        on_small_stack(parse_json, &d);
        assert_int_equal(d.rc, i < 3 ? WICK_OK : WICK_E_ARG);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),    cmocka_unit_test(test_tiny_models), cmocka_unit_test(test_templates),
        cmocka_unit_test(test_values),    cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_jinja_corpus.c: every template of a folder in nine contexts, against what Python's jinja2 makes of them.
 *
 *   WICK_TEMPLATES=DIR        folder with *.jinja (not committed: each has its own licence)
 *   WICK_TEMPLATE_GOLDENS=F   what oracle.py --mutable --out wrote: one JSON object a line
 *
 * Passes if all texts are equal to the byte and all that raise there raise here; 77 without the two. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/os.h"
#include "engine/text/jinja.h"

#define NOW 1767323045 /* 2026-01-02 03:04:05 UTC, the clock of the oracle */

static wk_str file_text(const wk_map_file *m) { return (wk_str){(const char *)m->p, m->n}; }

/* The nine contexts, as the oracle has them. */
#define TOOLS                                                                                      \
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Get "        \
    "weather \\u00e9 <x>\","                                                                       \
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\","           \
    "\"description\":\"City\"},"                                                                   \
    "\"days\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1.0,\"default\":3},\"unit\":{"       \
    "\"type\":\"string\","                                                                         \
    "\"enum\":[\"C\",\"F\"]}},\"required\":[\"city\"]}}}]"
#define USER "{\"role\":\"user\",\"content\":\"Hi <|im_end|> \\u4f60\\u597d\"}"
#define ASSISTANT "{\"role\":\"assistant\",\"content\":\"Hello.\"}"
#define SYSTEM "{\"role\":\"system\",\"content\":\"Be terse.\"}"
#define RESULT                                                                                     \
    "{\"role\":\"tool\",\"tool_call_id\":\"call00001\",\"name\":\"get_weather\",\"content\":\"{"   \
    "\\\"t\\\": 3.0}\"}"
#define CALL(arguments)                                                                            \
    "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call00001\",\"type\":"     \
    "\"function\","                                                                                \
    "\"function\":{\"name\":\"get_weather\",\"arguments\":" arguments "}}]}"
#define COMMON "\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_generation_prompt\":true"

static const struct {
    const char *name, *json;
} contexts[] = {
    {"user", "{\"messages\":[" USER "]," COMMON "}"},
    {"sys", "{\"messages\":[" SYSTEM "," USER "]," COMMON "}"},
    {"multi", "{\"messages\":[" SYSTEM "," USER "," ASSISTANT "," USER "]," COMMON "}"},
    {"tools", "{\"messages\":[" SYSTEM "," USER "],\"tools\":" TOOLS "," COMMON "}"},
    {"toolcall_obj",
     "{\"messages\":[" SYSTEM "," USER
     "," CALL("{\"city\":\"Rome\",\"days\":2}") "," RESULT "],\"tools\":" TOOLS "," COMMON "}"},
    {"toolcall_str",
     "{\"messages\":[" SYSTEM "," USER
     "," CALL("\"{\\\"city\\\": \\\"Rome\\\"}\"") "," RESULT "],\"tools\":" TOOLS "," COMMON "}"},
    {"parts", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{"
              "\"type\":\"text\","
              "\"text\":\"b\"}]}]," COMMON "}"},
    {"think", "{\"messages\":[" USER
              ",{\"role\":\"assistant\",\"content\":\"x\",\"reasoning_content\":\"r\"}," USER
              "],\"enable_thinking\":true,\"reasoning_effort\":\"low\"," COMMON "}"},
    {"nothink", "{\"messages\":[" USER "],\"enable_thinking\":false," COMMON "}"},
};

static const char *context_json(wk_str name) {
    for (size_t i = 0; i < WK_COUNT(contexts); i++)
        if (wk_str_is(name, contexts[i].name)) return contexts[i].json;
    return NULL;
}

/* The runs must cover the text without gaps. */
static bool runs_cover(const wk_jinja_out *out) {
    size_t at = 0;
    for (size_t i = 0; i < out->n_run; i++) {
        if (out->run[i].begin != at || out->run[i].end <= at) return false;
        at = out->run[i].end;
    }
    return at == out->text.n;
}

static bool agrees(const wk_json *row, const wk_jinja *j, const wk_json *ctx, wk_err *err) {
    static const char *const trusted[] = {"bos_token", "eos_token", "messages[].role", NULL};
    wk_jinja_budget budget = WK_JINJA_BUDGET;
    wk_jinja_out out;
    budget.now = NOW;
    const bool want = wk_json_bool(wk_json_get(row, "ok"));
    const int rc = wk_jinja_render(j, ctx, trusted, &budget, &out, err);
    bool ok = want == (rc == WICK_OK);
    if (rc == WICK_OK && want) {
        const wk_str text = wk_json_str(wk_json_get(row, "text"));
        ok = wk_str_eq(wk_buf_str(&out.text), text) && runs_cover(&out);
        size_t i = 0;
        while (i < text.n && i < out.text.n && text.p[i] == out.text.p[i]) i++;
        if (!ok)
            (void)wk_fail(err, WICK_E_TEMPLATE, "the texts differ at byte %zu: '%.40s'", i,
                          out.text.p + i);
    }
    wk_jinja_out_fini(&out);
    return ok;
}

static bool check_row(const wk_json *row, const char *folder) {
    char path[4096];
    wk_err err = {0};
    wk_map_file src = {0};
    wk_jinja *j = NULL;
    wk_json_doc *ctx = NULL;
    const wk_str name = wk_json_str(wk_json_get(row, "template")),
                 context = wk_json_str(wk_json_get(row, "context"));
    const char *json = context_json(context);
    (void)snprintf(path, sizeof(path), "%s/%.*s.jinja", folder, (int)name.n, name.p);
    bool ok = json && !wk_os_map(&src, path, &err) &&
              !wk_json_parse(&ctx, wk_cstr(json), 64, 100000, &err) &&
              !wk_jinja_parse(&j, file_text(&src), &err) && agrees(row, j, wk_json_root(ctx), &err);
    if (!ok) printf("%.*s %.*s: %s\n", (int)name.n, name.p, (int)context.n, context.p, err.message);
    wk_jinja_free(j);
    wk_json_free(ctx);
    wk_os_unmap(&src);
    return ok;
}

int main(void) {
    const char *folder = getenv("WICK_TEMPLATES"), *goldens = getenv("WICK_TEMPLATE_GOLDENS");
    size_t n = 0, n_good = 0;
    wk_map_file rows;
    wk_err err = {0};
    if (!folder || !goldens) return 77;
    if (wk_os_map(&rows, goldens, &err)) {
        printf("%s\n", err.message);
        return 1;
    }
    for (wk_str rest = file_text(&rows); rest.n;) {
        const char *end = memchr(rest.p, '\n', rest.n);
        const size_t len = end ? (size_t)(end - rest.p) : rest.n;
        wk_json_doc *row = NULL;
        if (wk_json_parse(&row, (wk_str){rest.p, len}, 64, 100000, &err))
            printf("row %zu: %s\n", n, err.message);
        else
            n_good += check_row(wk_json_root(row), folder);
        wk_json_free(row);
        n++;
        rest = (wk_str){rest.p + len + (end != NULL), rest.n - len - (end != NULL)};
    }
    printf("%zu of %zu agree\n", n_good, n);
    wk_os_unmap(&rows);
    return n == 0 || n_good != n;
}

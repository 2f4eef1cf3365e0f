/* chat_norm.c: the request is written anew, member by member, as the template can read it. What is not
 * touched is copied; numbers keep their kind (1 and 1.0 print differently). */
#include "engine/text/chat_norm.h"

#include <string.h>

#include "engine/text/jinja_val.h"

#define TOOL_PROMPT                                                                                \
    "You can call the functions below. To call one, write nothing but\n<tool_call>\n"              \
    "{\"name\": the name of the function, \"arguments\": {its arguments}}\n</tool_call>\n"         \
    "Each line is the JSON description of one function.\n<tools>\n"

typedef struct norm {
    const wk_chat_how *how;
    const wk_json *tools; /* NULL: none */
    wk_buf *out;
    wk_buf before; /* goes before the text of the first user or of the system */
    wk_err *err;
    bool first;  /* no message was written yet */
    bool merged; /* before was used */
} norm;

/* ---- copying ----------------------------------------------------------------------------------- */

/* Failures of appending stay in the buffer; wk_chat_rewrite looks once, at the end. */
static void put(wk_buf *b, const char *s) { (void)wk_buf_adds(b, s); }

/* Depth was limited when the request was read. */
static void copy(wk_buf *b, const wk_json *v) {
    char text[40];
    void *it = NULL;
    wk_str key;
    const wk_json *m;
    const char *glue = "";
    switch (wk_json_type(v)) {
    case WK_JSON_NULL: put(b, "null"); break;
    case WK_JSON_BOOL: put(b, wk_json_bool(v) ? "true" : "false"); break;
    case WK_JSON_INT: (void)wk_buf_addf(b, "%lld", (long long)wk_json_int(v)); break; /* as above */
    case WK_JSON_REAL:
        (void)wk_buf_add(b, text, wk_j_real_text(text, wk_json_real(v)));
        break; /* as above */
    case WK_JSON_STR: wk_json_put_str(b, wk_json_str(v)); break;
    case WK_JSON_ARRAY:
        put(b, "[");
        for (size_t i = 0, n = wk_json_count(v); i < n; i++, glue = ", ") {
            put(b, glue);
            copy(b, wk_json_at(v, i));
        }
        put(b, "]");
        break;
    default:
        put(b, "{");
        for (; wk_json_next(v, &it, &key, &m); glue = ", ") {
            put(b, glue);
            wk_json_put_str(b, key);
            put(b, ": ");
            copy(b, m);
        }
        put(b, "}");
    }
}

void wk_chat_put_json(wk_buf *out, const wk_json *v) { copy(out, v); }

static void key_of(wk_buf *b, const char *glue, wk_str key) {
    put(b, glue);
    wk_json_put_str(b, key);
    put(b, ":");
}

static bool is_null(const wk_json *v) { return wk_json_type(v) == WK_JSON_NULL; }
static bool has(const norm *n, unsigned trait) { return (n->how->traits & trait) != 0; }

/* ---- content ----------------------------------------------------------------------------------- */

static int part_text(const norm *n, const wk_json *part, size_t i, wk_str *text) {
    const wk_json *t = wk_json_get(part, "text");
    const wk_str type = wk_json_str(wk_json_get(part, "type"));
    const bool known =
        wk_str_is(type, "text") || wk_str_is(type, "input_text") || wk_str_is(type, "output_text");
    if (!known || wk_json_type(t) != WK_JSON_STR)
        return wk_fail(n->err, WICK_E_ARG,
                       "messages[%zu].content has a part of type '%s', only text is read", i,
                       wk_show(type).text);
    *text = wk_json_str(t);
    return WICK_OK;
}

/* The text of a message's content: a string, null, or parts one behind the other. */
static int content_text(const norm *n, const wk_json *content, size_t i, wk_buf *text) {
    const int type = wk_json_type(content);
    if (type == WK_JSON_STR)
        (void)wk_buf_add(text, wk_json_str(content).p,
                         wk_json_str(content).n); /* seen at the end */
    else if (type == WK_JSON_ARRAY) {
        for (size_t k = 0; k < wk_json_count(content); k++) {
            wk_str part;
            WK_TRY(part_text(n, wk_json_at(content, k), i, &part));
            (void)wk_buf_add(text, part.p, part.n); /* as above */
        }
    } else if (type != WK_JSON_NULL)
        return wk_fail(n->err, WICK_E_ARG,
                       "messages[%zu].content is neither a string nor a list of parts", i);
    return WICK_OK;
}

static int put_parts(const norm *n, const wk_json *content, size_t i, wk_str before) {
    const char *glue = "";
    put(n->out, "[");
    if (before.n) {
        put(n->out, "{\"type\":\"text\",\"text\":");
        wk_json_put_str(n->out, before);
        put(n->out, "}");
        glue = ",";
    }
    for (size_t k = 0; k < wk_json_count(content); k++, glue = ",") {
        wk_str part;
        WK_TRY(part_text(n, wk_json_at(content, k), i, &part));
        put(n->out, glue);
        put(n->out, "{\"type\":\"text\",\"text\":");
        wk_json_put_str(n->out, part);
        put(n->out, "}");
    }
    put(n->out, "]");
    return WICK_OK;
}

/* before and after surround the text, an empty line between. */
static int put_content(norm *n, const wk_json *content, size_t i, wk_str before, wk_str after,
                       bool may_be_null) {
    wk_buf text;
    const bool null = is_null(content) && may_be_null && !has(n, WK_CHAT_FILL_NULL);
    if (null && !before.n && !after.n) {
        put(n->out, "null");
        return WICK_OK;
    }
    if (wk_json_type(content) == WK_JSON_ARRAY && has(n, WK_CHAT_PARTS) && !after.n)
        return put_parts(n, content, i, before);
    wk_buf_init(&text, 0);
    (void)wk_buf_add(&text, before.p, before.n); /* seen below */
    if (before.n) put(&text, "\n\n");
    const int rc = content_text(n, content, i, &text);
    if (after.n) put(&text, text.n ? "\n\n" : "");
    (void)wk_buf_add(&text, after.p, after.n); /* seen below */
    wk_json_put_str(n->out, wk_buf_str(&text));
    if (text.failed) n->out->failed = true;
    wk_buf_fini(&text);
    return rc;
}

/* ---- tool calls -------------------------------------------------------------------------------- */

/* An object, or its text, as the template wants it. What is no object stays what it is. */
static void put_arguments(norm *n, const wk_json *arguments) {
    const int type = wk_json_type(arguments);
    wk_json_doc *doc = NULL;
    wk_err ignored;
    if (type == WK_JSON_OBJECT && has(n, WK_CHAT_STRING_ARGS)) {
        wk_buf text;
        wk_buf_init(&text, 0);
        copy(&text, arguments);
        wk_json_put_str(n->out, wk_buf_str(&text));
        if (text.failed) n->out->failed = true;
        wk_buf_fini(&text);
        return;
    }
    if (type == WK_JSON_STR && !has(n, WK_CHAT_STRING_ARGS)) {
        const wk_str s = wk_json_str(arguments);
        if (s.n && !wk_json_parse(&doc, s, 32, 100000, &ignored) &&
            wk_json_type(wk_json_root(doc)) == WK_JSON_OBJECT)
            arguments = wk_json_root(doc);
    }
    copy(n->out, arguments);
    wk_json_free(doc);
}

/* Writes an object with one member by `one`, the rest copied. */
static void put_with(norm *n, const wk_json *v, const char *member,
                     void (*one)(norm *n, const wk_json *v)) {
    void *it = NULL;
    wk_str key;
    const wk_json *m;
    const char *glue = "";
    if (wk_json_type(v) != WK_JSON_OBJECT) {
        copy(n->out, v);
        return;
    }
    put(n->out, "{");
    for (; wk_json_next(v, &it, &key, &m); glue = ",") {
        key_of(n->out, glue, key);
        if (wk_str_is(key, member))
            one(n, m);
        else
            copy(n->out, m);
    }
    put(n->out, "}");
}

static void put_function(norm *n, const wk_json *v) { put_with(n, v, "arguments", put_arguments); }

static void put_calls(norm *n, const wk_json *calls) {
    put(n->out, "[");
    for (size_t i = 0; i < wk_json_count(calls); i++) {
        if (i) put(n->out, ",");
        put_with(n, wk_json_at(calls, i), "function", put_function);
    }
    put(n->out, "]");
}

/* For a template that knows no tools: the calls as the tool prompt asks for them. */
static void describe_calls(norm *n, const wk_json *calls, wk_buf *text) {
    for (size_t i = 0; i < wk_json_count(calls); i++) {
        const wk_json *f = wk_json_get(wk_json_at(calls, i), "function"),
                      *arguments = wk_json_get(f, "arguments");
        put(text, "<tool_call>\n{\"name\": ");
        copy(text, wk_json_get(f, "name"));
        put(text, ", \"arguments\": ");
        const wk_str as_text = wk_json_str(arguments);
        if (as_text.n)
            (void)wk_buf_add(text, as_text.p, as_text.n); /* seen at the end */
        else
            copy(text, arguments);
        put(text, i + 1 < wk_json_count(calls) ? "}\n</tool_call>\n" : "}\n</tool_call>");
    }
    if (text->failed) n->out->failed = true;
}

/* ---- tools ------------------------------------------------------------------------------------- */

static void put_properties(norm *n, const wk_json *properties);

static void put_parameters(norm *n, const wk_json *v) {
    put_with(n, v, "properties", put_properties);
}

/* An object with a description, "" where it has none; so are the parameters of a function. */
static void put_described(norm *n, const wk_json *v) {
    void *it = NULL;
    wk_str key;
    const wk_json *m;
    if (wk_json_type(v) != WK_JSON_OBJECT) {
        copy(n->out, v);
        return;
    }
    const bool fill = is_null(wk_json_get(v, "description"));
    put(n->out, fill ? "{\"description\":\"\"" : "{");
    for (const char *glue = fill ? "," : ""; wk_json_next(v, &it, &key, &m);) {
        if (fill && wk_str_is(key, "description")) continue;
        key_of(n->out, glue, key);
        if (wk_str_is(key, "parameters"))
            put_parameters(n, m);
        else
            copy(n->out, m);
        glue = ",";
    }
    put(n->out, "}");
}

static void put_properties(norm *n, const wk_json *properties) {
    void *it = NULL;
    wk_str key;
    const wk_json *m;
    const char *glue = "";
    if (wk_json_type(properties) != WK_JSON_OBJECT) {
        copy(n->out, properties);
        return;
    }
    put(n->out, "{");
    for (; wk_json_next(properties, &it, &key, &m); glue = ",") {
        key_of(n->out, glue, key);
        put_described(n, m);
    }
    put(n->out, "}");
}

static void put_tools(norm *n) {
    put(n->out, ",\"tools\":[");
    for (size_t i = 0; i < wk_json_count(n->tools); i++) {
        if (i) put(n->out, ",");
        if (has(n, WK_CHAT_FILL_NAMES))
            put_with(n, wk_json_at(n->tools, i), "function", put_described);
        else
            copy(n->out, wk_json_at(n->tools, i));
    }
    put(n->out, "]");
}

static void describe_tools(norm *n, wk_buf *text) {
    put(text, TOOL_PROMPT);
    for (size_t i = 0; i < wk_json_count(n->tools); i++) {
        copy(text, wk_json_at(n->tools, i));
        put(text, "\n");
    }
    put(text, "</tools>");
}

/* The variables of the one template that has them. */
static void put_functions(norm *n) {
    wk_buf text;
    wk_buf_init(&text, 0);
    put(&text, "[");
    for (size_t i = 0; n->tools && i < wk_json_count(n->tools); i++) {
        const wk_json *tool = wk_json_at(n->tools, i), *function = wk_json_get(tool, "function");
        if (i) put(&text, ", ");
        copy(&text, function ? function : tool);
    }
    put(&text, "]");
    key_of(n->out, ",", WK_STR("functions"));
    wk_json_put_str(n->out, wk_buf_str(&text));
    wk_buf_reset(&text);
    (void)wk_j_time(&text, WK_STR("%Y-%m-%d %H:%M:%S UTC"), n->how->now); /* all of it is known */
    key_of(n->out, ",", WK_STR("datetime"));
    wk_json_put_str(n->out, wk_buf_str(&text));
    if (text.failed) n->out->failed = true;
    wk_buf_fini(&text);
}

/* ---- messages ---------------------------------------------------------------------------------- */

/* A role is trusted text (templates build special tokens from it), so it is held to harmless characters. */
static int role_of(const norm *n, const wk_json *m, size_t i, wk_str *role) {
    const wk_json *r = wk_json_get(m, "role");
    if (wk_json_type(m) != WK_JSON_OBJECT)
        return wk_fail(n->err, WICK_E_ARG, "messages[%zu] is not an object", i);
    if (wk_json_type(r) != WK_JSON_STR)
        return wk_fail(n->err, WICK_E_ARG, "messages[%zu] has no role", i);
    *role = wk_json_str(r);
    bool ok = role->n > 0 && role->n <= 32;
    for (size_t k = 0; ok && k < role->n; k++)
        ok = (role->p[k] >= 'a' && role->p[k] <= 'z') || (role->p[k] >= 'A' && role->p[k] <= 'Z') ||
             (role->p[k] >= '0' && role->p[k] <= '9') || role->p[k] == '_' || role->p[k] == '-';
    if (!ok)
        return wk_fail(n->err, WICK_E_ARG,
                       "messages[%zu].role is '%s', wanted is a word of up to 32 letters", i,
                       wk_show(*role).text);
    if (wk_str_is(*role, "developer") && !has(n, WK_CHAT_DEVELOPER)) *role = WK_STR("system");
    return WICK_OK;
}

static void begin_message(norm *n, wk_str role) {
    put(n->out, n->first ? "{\"role\":" : ",{\"role\":");
    n->first = false;
    wk_json_put_str(n->out, role);
}

static void put_member(norm *n, wk_str key, const wk_json *v) {
    key_of(n->out, ",", key);
    if (wk_str_is(key, "tool_calls") && wk_json_type(v) == WK_JSON_ARRAY)
        put_calls(n, v);
    else
        copy(n->out, v);
}

static bool is_ours_in_message(const norm *n, wk_str key) {
    return wk_str_is(key, "role") || wk_str_is(key, "content") ||
           (has(n, WK_CHAT_INJECT_TOOLS) && wk_str_is(key, "tool_calls"));
}

/* after: text that the content gets at its end. */
static int put_message(norm *n, const wk_json *m, size_t i, wk_str role, wk_str after) {
    const bool system = wk_str_is(role, "system"), user = wk_str_is(role, "user");
    const bool merge = has(n, WK_CHAT_MERGE_SYSTEM);
    const wk_str text = wk_buf_str(&n->before);
    const bool use = !n->merged && text.n && (merge ? user : system);
    void *it = NULL;
    wk_str key;
    const wk_json *v;
    begin_message(n, role);
    key_of(n->out, ",", WK_STR("content"));
    if (use && !merge) after = text;
    WK_TRY(put_content(n, wk_json_get(m, "content"), i, use && merge ? text : WK_STR(""), after,
                       !system && !user));
    if (use) n->merged = true;
    while (wk_json_next(m, &it, &key, &v))
        if (!is_null(v) && !is_ours_in_message(n, key))
            put_member(n, key, v); /* null means absent */
    if (wk_str_is(role, "tool") && has(n, WK_CHAT_FILL_NAMES) && is_null(wk_json_get(m, "name")))
        put(n->out, ",\"name\":\"\"");
    put(n->out, "}");
    return WICK_OK;
}

/* An assistant's message; its calls become text where the template knows no tools. */
static int put_assistant(norm *n, const wk_json *m, size_t i, wk_str role) {
    const wk_json *calls = wk_json_get(m, "tool_calls");
    wk_buf text;
    wk_buf_init(&text, 0);
    if (has(n, WK_CHAT_INJECT_TOOLS) && wk_json_type(calls) == WK_JSON_ARRAY)
        describe_calls(n, calls, &text);
    const int rc = put_message(n, m, i, role, wk_buf_str(&text));
    wk_buf_fini(&text);
    return rc;
}

/* Results from *i on, as one message of the user; *i is then the last of them. */
static int put_results(norm *n, const wk_json *messages, size_t *i) {
    wk_buf text;
    int rc = WICK_OK;
    wk_buf_init(&text, 0);
    for (size_t k = *i; !rc && k < wk_json_count(messages); k++) {
        const wk_json *m = wk_json_at(messages, k);
        if (!wk_str_is(wk_json_str(wk_json_get(m, "role")), "tool")) break;
        *i = k;
        put(&text, text.n ? "\n<tool_response>\n" : "<tool_response>\n");
        rc = content_text(n, wk_json_get(m, "content"), k, &text);
        put(&text, "\n</tool_response>");
    }
    begin_message(n, WK_STR("user"));
    key_of(n->out, ",", WK_STR("content"));
    wk_json_put_str(n->out, wk_buf_str(&text));
    put(n->out, "}");
    if (text.failed) n->out->failed = true;
    wk_buf_fini(&text);
    return rc;
}

/* A message that is nothing but what was gathered. */
static void put_gathered(norm *n, const char *role) {
    begin_message(n, wk_cstr(role));
    key_of(n->out, ",", WK_STR("content"));
    wk_json_put_str(n->out, wk_buf_str(&n->before));
    put(n->out, "}");
    n->merged = true;
}

/* Gathers what has no place of its own: system texts, the description of tools. */
static int gather(norm *n, const wk_json *messages, bool *has_target) {
    const bool merge = has(n, WK_CHAT_MERGE_SYSTEM);
    for (size_t i = 0; i < wk_json_count(messages); i++) {
        const wk_json *m = wk_json_at(messages, i);
        wk_str role;
        WK_TRY(role_of(n, m, i, &role));
        if (wk_str_is(role, merge ? "user" : "system")) *has_target = true;
        if (!merge || !wk_str_is(role, "system")) continue;
        if (n->before.n) put(&n->before, "\n\n");
        WK_TRY(content_text(n, wk_json_get(m, "content"), i, &n->before));
    }
    if (n->tools && has(n, WK_CHAT_INJECT_TOOLS)) {
        if (n->before.n) put(&n->before, "\n\n");
        describe_tools(n, &n->before);
    }
    return WICK_OK;
}

static int put_messages(norm *n, const wk_json *messages) {
    const bool merge = has(n, WK_CHAT_MERGE_SYSTEM);
    bool has_target = false;
    WK_TRY(gather(n, messages, &has_target));
    put(n->out, "\"messages\":[");
    if (n->before.n && !has_target) put_gathered(n, merge ? "user" : "system");
    for (size_t i = 0; i < wk_json_count(messages); i++) {
        wk_str role;
        WK_TRY(role_of(n, wk_json_at(messages, i), i, &role));
        if (merge && wk_str_is(role, "system")) continue;
        if (wk_str_is(role, "tool") && has(n, WK_CHAT_INJECT_TOOLS))
            WK_TRY(put_results(n, messages, &i));
        else
            WK_TRY(put_assistant(n, wk_json_at(messages, i), i, role));
    }
    put(n->out, "]");
    return WICK_OK;
}

/* ---- the request ------------------------------------------------------------------------------- */

void wk_chat_common(wk_buf *out, wk_str bos, wk_str eos) {
    key_of(out, "{", WK_STR("bos_token"));
    wk_json_put_str(out, bos);
    key_of(out, ",", WK_STR("eos_token"));
    wk_json_put_str(out, eos);
    put(out, ",");
}

/* Members that are written elsewhere, or trusted and so never taken from a request. */
static bool is_ours(const norm *n, wk_str key) {
    static const char *const ours[] = {"messages", "tools", "bos_token", "eos_token"};
    for (size_t i = 0; i < WK_COUNT(ours); i++)
        if (wk_str_is(key, ours[i])) return true;
    return has(n, WK_CHAT_FUNCTIONS) && (wk_str_is(key, "functions") || wk_str_is(key, "datetime"));
}

static int put_request(norm *n, const wk_json *request) {
    const wk_json *messages = wk_json_get(request, "messages"),
                  *tools = wk_json_get(request, "tools"), *v;
    void *it = NULL;
    wk_str key;
    if (wk_json_type(messages) != WK_JSON_ARRAY || wk_json_count(messages) == 0)
        return wk_fail(n->err, WICK_E_ARG, "messages is not a list with at least one message");
    if (!is_null(tools) && wk_json_type(tools) != WK_JSON_ARRAY)
        return wk_fail(n->err, WICK_E_ARG, "tools is not a list");
    if (!is_null(tools) && wk_json_count(tools)) n->tools = tools;
    wk_chat_common(n->out, n->how->bos, n->how->eos);
    WK_TRY(put_messages(n, messages));
    if (n->tools && !has(n, WK_CHAT_INJECT_TOOLS)) put_tools(n);
    if (has(n, WK_CHAT_FUNCTIONS)) put_functions(n);
    if (is_null(wk_json_get(request, "add_generation_prompt")))
        put(n->out, ",\"add_generation_prompt\":true");
    while (wk_json_next(request, &it, &key, &v)) {
        if (is_null(v) || is_ours(n, key)) continue;
        key_of(n->out, ",", key);
        copy(n->out, v);
    }
    put(n->out, "}");
    return WICK_OK;
}

int wk_chat_rewrite(const wk_chat_how *how, const wk_json *request, wk_buf *out, wk_err *err) {
    norm n = {.how = how, .out = out, .err = err, .first = true};
    if (wk_json_type(request) != WK_JSON_OBJECT)
        return wk_fail(err, WICK_E_ARG, "the request is not a JSON object");
    wk_buf_init(&n.before, 0);
    int rc = put_request(&n, request);
    if (!rc && (out->failed || n.before.failed))
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for the request");
    wk_buf_fini(&n.before);
    return rc;
}

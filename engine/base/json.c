/* json.c: jansson behind a fence, and a writer of string literals.
 *
 * jansson recurses over nested values and pays memory as it reads, so a scan of one pass counts depth,
 * values and bytes first; what passes it costs a bounded amount of stack and memory.
 * Rejected: jansson's allocator hook, with a cap. It is one setting for the whole process, and a host
 * program that uses jansson itself would free its blocks through ours. */
#include "engine/base/json.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/utf8.h"

struct wk_json_doc {
    json_t *root;
};

static const json_t *node(const wk_json *v) { return (const json_t *)v; }
static const wk_json *handle(const json_t *j) { return (const wk_json *)j; }

/* ---- the scan ---------------------------------------------------------------------------------- */

static int refuse_at(wk_str text, size_t at, const char *found, wk_err *err) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        column++;
        if (text.p[i] == '\n') {
            line++;
            column = 1;
        }
    }
    return wk_fail(err, WICK_E_ARG, "JSON has %s at line %zu, column %zu", found, line, column);
}

static int refuse_limit(wk_str text, size_t at, const char *what, size_t limit, wk_err *err) {
    char found[64];
    (void)snprintf(found, sizeof(found), "more %s than %zu", what, limit); /* always fits */
    return refuse_at(text, at, found, err);
}

/* Index of the quote that ends the string whose first byte is at i, or text.n. */
static size_t string_end(wk_str text, size_t i) {
    while (i < text.n && text.p[i] != '"') i += text.p[i] == '\\' ? 2 : 1;
    return i < text.n ? i : text.n;
}

/* Every value but the first follows a comma, a colon or an opening bracket. Whether the text is JSON at
 * all is not asked here. */
static int scan(wk_str text, int max_depth, size_t max_values, wk_err *err) {
    /* jansson takes a NUL for the end and would pass over what follows. */
    const char *nul = text.n ? (const char *)memchr(text.p, '\0', text.n) : NULL;
    if (nul) return refuse_at(text, (size_t)(nul - text.p), "a NUL byte", err);
    int depth = 0;
    size_t values = 1;
    for (size_t i = 0; i < text.n; i++) {
        const char c = text.p[i];
        if (c == '"') i = string_end(text, i + 1);
        if ((c == ']' || c == '}') && depth > 0) depth--;
        if ((c == '[' || c == '{') && ++depth > max_depth)
            return refuse_limit(text, i, "nested levels", (size_t)max_depth, err);
        if ((c == '[' || c == '{' || c == ',') && ++values > max_values)
            return refuse_limit(text, i, "values", max_values, err);
    }
    return WICK_OK;
}

/* ---- reading ----------------------------------------------------------------------------------- */

int wk_json_parse(wk_json_doc **out, wk_str text, int max_depth, size_t max_values, wk_err *err) {
    *out = NULL;
    WK_TRY(scan(text, max_depth, max_values, err));
    wk_json_doc *d = wk_new(wk_json_doc);
    if (!d) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu bytes of JSON", text.n);
    json_error_t e;
    memset(&e, 0, sizeof(e));
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    d->root = json_loadb(text.n ? text.p : "", text.n, flags, &e);
    if (d->root) {
        *out = d;
        return WICK_OK;
    }
    wk_free(d);
    if (json_error_code(&e) == json_error_out_of_memory)
        return wk_fail(err, WICK_E_NOMEM, "no memory for %zu bytes of JSON", text.n);
    return wk_fail(err, WICK_E_ARG, "JSON is wrong at line %d, column %d: %s", e.line, e.column,
                   wk_show(wk_cstr(e.text)).text);
}

void wk_json_free(wk_json_doc *d) {
    if (!d) return;
    json_decref(d->root);
    wk_free(d);
}

const wk_json *wk_json_root(const wk_json_doc *d) { return d ? handle(d->root) : NULL; }

int wk_json_type(const wk_json *v) {
    if (!v) return WK_JSON_NULL;
    switch (json_typeof(node(v))) {
    case JSON_OBJECT: return WK_JSON_OBJECT;
    case JSON_ARRAY: return WK_JSON_ARRAY;
    case JSON_STRING: return WK_JSON_STR;
    case JSON_INTEGER: return WK_JSON_INT;
    case JSON_REAL: return WK_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return WK_JSON_BOOL;
    case JSON_NULL: break;
    }
    return WK_JSON_NULL;
}

bool wk_json_bool(const wk_json *v) { return json_is_true(node(v)); }
int64_t wk_json_int(const wk_json *v) { return json_integer_value(node(v)); }
double wk_json_real(const wk_json *v) { return json_number_value(node(v)); }

wk_str wk_json_str(const wk_json *v) {
    if (!json_is_string(node(v))) return WK_STR("");
    return (wk_str){json_string_value(node(v)), json_string_length(node(v))};
}

size_t wk_json_count(const wk_json *v) {
    const json_t *j = node(v);
    return json_is_object(j) ? json_object_size(j) : json_array_size(j);
}

const wk_json *wk_json_at(const wk_json *v, size_t i) { return handle(json_array_get(node(v), i)); }

const wk_json *wk_json_get(const wk_json *v, const char *key) {
    return handle(json_object_get(node(v), key));
}

/* jansson's iterators take a mutable object although they only read it. */
static json_t *loose(const wk_json *v) {
    union {
        const wk_json *in;
        json_t *out;
    } u = {v};
    return u.out;
}

static bool read_iter(void *at, wk_str *key, const wk_json **value) {
    if (!at) return false;
    *key = (wk_str){json_object_iter_key(at), json_object_iter_key_len(at)};
    *value = handle(json_object_iter_value(at));
    return true;
}

bool wk_json_next(const wk_json *v, void **it, wk_str *key, const wk_json **value) {
    if (!json_is_object(node(v))) return false;
    *it = *it ? json_object_iter_next(loose(v), *it) : json_object_iter(loose(v));
    return read_iter(*it, key, value);
}

bool wk_json_member(const wk_json *v, size_t i, wk_str *key, const wk_json **value) {
    if (!json_is_object(node(v)) || i >= json_object_size(node(v))) return false;
    void *at = json_object_iter(loose(v));
    while (at && i-- > 0) at = json_object_iter_next(loose(v), at);
    return read_iter(at, key, value);
}

/* ---- writing ----------------------------------------------------------------------------------- */

static void put_escape(wk_buf *b, uint32_t cp) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *p = cp ? strchr(from, (int)cp) : NULL;
    if (p)
        (void)wk_buf_addf(b, "\\%c", to[p - from]); /* failure stays in b */
    else
        (void)wk_buf_addf(b, "\\u%04x", cp);
}

void wk_json_put_str(wk_buf *b, wk_str s) {
    (void)wk_buf_addc(b, '"'); /* failures stay in b, here and below */
    size_t run = 0;            /* start of what can be copied as it is */
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0;
        const int len = wk_utf8_decode(s.p + i, s.n - i, &cp);
        if (len && cp >= 0x20 && cp != '"' && cp != '\\' && cp != 0x7f) {
            i += (size_t)len;
            continue;
        }
        (void)wk_buf_add(b, s.p + run, i - run);
        if (len)
            put_escape(b, cp);
        else
            (void)wk_buf_adds(b, "\xef\xbf\xbd");
        i += len ? (size_t)len : 1;
        run = i;
    }
    if (run < s.n) (void)wk_buf_add(b, s.p + run, s.n - run);
    (void)wk_buf_addc(b, '"');
}

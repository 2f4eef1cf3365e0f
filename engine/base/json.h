/* json.h: strict JSON in (jansson behind limits; the only file that includes it), and a writer out.
 *
 * Reading: a scan without recursion checks depth, number of values and size before the parser runs;
 * duplicate keys, trailing text, lone surrogates and invalid UTF-8 are refused. The tree is then
 * walked through wk_json handles (opaque jansson pointers). */
#ifndef WK_JSON_H
#define WK_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

typedef struct wk_json wk_json; /* a borrowed node; lives as long as its document */
typedef struct wk_json_doc wk_json_doc;
enum { WK_JSON_NULL, WK_JSON_BOOL, WK_JSON_INT, WK_JSON_REAL, WK_JSON_STR, WK_JSON_ARRAY, WK_JSON_OBJECT };

/* max_depth, max_values: limits (64 and 1M for requests, 16M for tokenizer.json). WICK_E_ARG on bad text,
 * with line and column. */
int wk_json_parse(wk_json_doc **out, wk_str text, int max_depth, size_t max_values, wk_err *err);
void wk_json_free(wk_json_doc *d);
const wk_json *wk_json_root(const wk_json_doc *d);

int wk_json_type(const wk_json *v); /* NULL gives WK_JSON_NULL */
bool wk_json_bool(const wk_json *v);
int64_t wk_json_int(const wk_json *v);
double wk_json_real(const wk_json *v); /* ints too */
wk_str wk_json_str(const wk_json *v);
size_t wk_json_count(const wk_json *v); /* array or object */
const wk_json *wk_json_at(const wk_json *v, size_t i);          /* array element */
const wk_json *wk_json_get(const wk_json *v, const char *key);  /* object member, NULL if absent */
/* Object members in order of the text: i from 0; false at the end. Costs O(i): for big objects take
 * wk_json_next, which is O(1). */
bool wk_json_member(const wk_json *v, size_t i, wk_str *key, const wk_json **value);
/* The same, one member after the other: *it starts as NULL and belongs to this loop. */
bool wk_json_next(const wk_json *v, void **it, wk_str *key, const wk_json **value);

/* Writing: appends a JSON string literal (escaped, invalid UTF-8 becomes U+FFFD). */
void wk_json_put_str(wk_buf *b, wk_str s);

#endif

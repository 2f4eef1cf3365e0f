/* jinja_text.c: values as text, as Python's str, repr and json.dumps write them. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/jinja_val.h"

/* ---- numbers ----------------------------------------------------------------------------------- */

/* strtod and printf read and write the decimal point of the locale, so neither ever sees one here:
 * 1.25e3 is handed over as 125e1. */
bool wk_j_parse_real(wk_str s, double *d) {
    char text[400];
    size_t n = 0, i = 0;
    long scale = 0;
    bool point = false;
    for (; i < s.n && ((s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '.' || s.p[i] == '_' ||
                       (i == 0 && (s.p[i] == '-' || s.p[i] == '+')));
         i++) {
        if (n > sizeof(text) - 40 || (s.p[i] == '.' && point)) return false;
        if (s.p[i] == '.')
            point = true;
        else if (s.p[i] != '_') {
            text[n++] = s.p[i];
            scale -= point;
        }
    }
    if (n == 0 || (n == 1 && (text[0] == '-' || text[0] == '+'))) return false;
    if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
        char exponent[12] = {0};
        if (s.n - i - 1 == 0 || s.n - i - 1 > 9) return false;
        memcpy(exponent, s.p + i + 1, s.n - i - 1);
        char *end = NULL;
        scale += strtol(exponent, &end, 10);
        if (*end || exponent[0] == ' ') return false;
        i = s.n;
    }
    if (i < s.n) return false;
    (void)snprintf(text + n, sizeof(text) - n, "e%ld", scale); /* fits: 40 bytes were kept free */
    *d = strtod(text, NULL);
    return true;
}

/* Shortest digits that read back as d > 0, and the power of ten of the first. */
static int shortest(double d, char digit[20], int *power) {
    for (int n = 1;; n++) {
        char text[40];
        (void)snprintf(text, sizeof(text), "%.*e", n - 1,
                       d); /* at most 17 digits and an exponent */
        char *p = text;
        int k = 0;
        for (; *p && *p != 'e'; p++)
            if (*p >= '0' && *p <= '9') digit[k++] = *p;
        digit[k] = 0;
        *power = (int)strtol(*p ? p + 1 : p, NULL, 10);
        (void)snprintf(text, sizeof(text), "%se%d", digit, *power - (k - 1));
        const double back = strtod(text, NULL);
        if (n == 17 || !(back < d || back > d)) return k;
    }
}

size_t wk_j_real_text(char out[40], double d) {
    char digit[20];
    int power, at = 0;
    const char *sign = d < 0 || (!(d > 0) && !(d < 0) && __builtin_signbit(d)) ? "-" : "";
    if (d != d) return (size_t)snprintf(out, 40, "nan");
    if (d - d != d - d) return (size_t)snprintf(out, 40, "%sinf", sign);
    if (!(d > 0) && !(d < 0)) return (size_t)snprintf(out, 40, "%s0.0", sign);
    int n = shortest(d < 0 ? -d : d, digit, &power);
    while (n > 1 && digit[n - 1] == '0') digit[--n] = 0;
    at = snprintf(out, 40, "%s", sign);
    if (power < -4 || power >= 16)
        return (size_t)(at + snprintf(out + at, (size_t)(40 - at), "%c%s%se%c%02d", digit[0],
                                      n > 1 ? "." : "", digit + 1, power < 0 ? '-' : '+',
                                      power < 0 ? -power : power));
    if (power < 0)
        return (size_t)(at + snprintf(out + at, (size_t)(40 - at), "0.%.*s%s", -power - 1, "0000",
                                      digit));
    for (int i = 0; i <= power || i < n; i++) {
        if (i == power + 1) out[at++] = '.';
        out[at++] = i < n ? digit[i] : '0';
    }
    if (n <= power + 1) at += snprintf(out + at, (size_t)(40 - at), ".0");
    return (size_t)at;
}

static bool put_c(wk_jvm *vm, wk_jpad *p, const char *s) {
    return wk_j_put(vm, p, wk_cstr(s), false);
}

static bool put_number(wk_jvm *vm, wk_jpad *p, wk_jv v) {
    char text[40];
    if (v.tag == WK_J_INT)
        (void)snprintf(text, sizeof(text), "%lld", (long long)v.u.i);
    else
        text[wk_j_real_text(text, v.u.d)] = 0;
    return wk_j_charge(vm, v.tag == WK_J_REAL ? 1024 : 0) && put_c(vm, p, text);
}

/* ---- str and repr ------------------------------------------------------------------------------ */

static bool printable(uint32_t cp) {
    if (cp < 0x7f) return cp >= 0x20;
    return wk_cp_is_letter(cp) || wk_cp_is_number(cp) || wk_cp_is_mark(cp) || wk_cp_is_punct(cp) ||
           wk_cp_is_symbol(cp);
}

/* The escape that repr uses for cp, or "" for a character that stands for itself. */
static void repr_escape(char out[12], uint32_t cp, char quote) {
    out[0] = 0;
    if (cp == (uint32_t)quote || cp == '\\')
        (void)snprintf(out, 12, "\\%c", (int)cp);
    else if (cp == '\n' || cp == '\r' || cp == '\t')
        (void)snprintf(out, 12, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    else if (!printable(cp))
        (void)snprintf(out, 12, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
}

/* The escape that json.dumps uses. */
static void json_escape(char out[16], uint32_t cp, bool ascii) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *at = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    out[0] = 0;
    if (at)
        (void)snprintf(out, 16, "\\%c", to[at - from]);
    else if (cp < 0x20 || (ascii && cp > 0x7e && cp < 0x10000 && cp != 0x7f))
        (void)snprintf(out, 16, "\\u%04x", cp);
    else if (ascii && cp >= 0x10000)
        (void)snprintf(out, 16, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                       0xdc00 + (cp & 0x3ff));
}

/* how: the quote of a repr, or 'j' JSON, 'a' JSON in ASCII. An escape belongs to whom its character did. */
static bool put_escaped(wk_jvm *vm, wk_jpad *p, const wk_jstr *s, char how) {
    char escape[16];
    size_t kept = 0;
    if (!(how == 'j' ? wk_j_charge(vm, s->n) : wk_j_charge_each(vm, s->n))) return false;
    for (size_t i = 0; i < s->n;) {
        uint32_t cp = 0;
        int len = wk_utf8_decode(s->p + i, s->n - i, &cp);
        if (len == 0) len = 1;
        if (how == 'j' || how == 'a')
            json_escape(escape, cp, how == 'a');
        else
            repr_escape(escape, cp, how);
        if (escape[0]) {
            if (!wk_j_put_part(vm, p, s, kept, i)) return false;
            if (!wk_j_put(vm, p, wk_cstr(escape), s->mask ? s->mask[i] : s->user)) return false;
            kept = i + (size_t)len;
        }
        i += (size_t)len;
    }
    return wk_j_put_part(vm, p, s, kept, s->n);
}

static bool put_repr_str(wk_jvm *vm, wk_jpad *p, const wk_jstr *s) {
    const bool has_one = s->n && memchr(s->p, '\'', s->n),
               has_two = s->n && memchr(s->p, '"', s->n);
    const char *quote = has_one && !has_two ? "\"" : "'";
    return put_c(vm, p, quote) && put_escaped(vm, p, s, quote[0]) && put_c(vm, p, quote);
}

static bool put_list(wk_jvm *vm, wk_jpad *p, wk_jv v) {
    static const char *const begin[] = {"[", "(", "dict_items([", "dict_keys([", "dict_values(["};
    static const char *const end[] = {"]", ")", "])", "])", "])"};
    const wk_jlist *l = v.u.list;
    if (v.kind == WK_J_AS_GENERATOR)
        return wk_j_fail(vm, "a generator cannot be printed; put |list before it");
    if (!put_c(vm, p, begin[v.kind])) return false;
    for (size_t i = 0; i < l->n; i++) {
        if (i && !put_c(vm, p, ", ")) return false;
        if (!wk_j_put_repr(vm, p, l->v[i])) return false;
    }
    if (v.kind == WK_J_AS_TUPLE && l->n == 1 && !put_c(vm, p, ",")) return false;
    return put_c(vm, p, end[v.kind]);
}

static bool put_dict(wk_jvm *vm, wk_jpad *p, const wk_jdict *d) {
    bool first = true;
    if (!put_c(vm, p, "{")) return false;
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->slot[i].key.tag == WK_J_MISSING) continue;
        if (!first && !put_c(vm, p, ", ")) return false;
        if (!wk_j_put_repr(vm, p, d->slot[i].key) || !put_c(vm, p, ": ")) return false;
        if (!wk_j_put_repr(vm, p, d->slot[i].value)) return false;
        first = false;
    }
    return put_c(vm, p, "}");
}

static bool put_range(wk_jvm *vm, wk_jpad *p, const wk_jrange *r) {
    char text[100];
    const long long begin = r->begin, step = r->step;
    long long end; /* a whole number of steps away, which may lie beyond what 64 bits hold */
    if (__builtin_add_overflow(begin, step * (long long)r->n, &end))
        end = step > 0 ? INT64_MAX : INT64_MIN;
    if (step == 1)
        (void)snprintf(text, sizeof(text), "range(%lld, %lld)", begin, end);
    else
        (void)snprintf(text, sizeof(text), "range(%lld, %lld, %lld)", begin, end, step);
    return put_c(vm, p, text);
}

bool wk_j_put_repr(wk_jvm *vm, wk_jpad *p, wk_jv v) {
    switch (v.tag) {
    case WK_J_UNDEF: return put_c(vm, p, "Undefined");
    case WK_J_NONE: return put_c(vm, p, "None");
    case WK_J_BOOL: return put_c(vm, p, v.u.b ? "True" : "False");
    case WK_J_INT:
    case WK_J_REAL: return put_number(vm, p, v);
    case WK_J_STR: return put_repr_str(vm, p, v.u.s);
    case WK_J_RANGE: return put_range(vm, p, v.u.range);
    case WK_J_LIST:
    case WK_J_DICT: break;
    default: return wk_j_fail(vm, "a %s cannot be printed", wk_j_type(v));
    }
    if (!wk_j_enter(vm)) return false;
    const bool ok = v.tag == WK_J_LIST ? put_list(vm, p, v) : put_dict(vm, p, v.u.dict);
    wk_j_leave(vm);
    return ok;
}

bool wk_j_put_value(wk_jvm *vm, wk_jpad *p, wk_jv v) {
    if (v.tag == WK_J_STR) return wk_j_put_str(vm, p, v.u.s);
    if (v.tag == WK_J_UNDEF) return true;
    return wk_j_put_repr(vm, p, v);
}

bool wk_j_to_str(wk_jvm *vm, wk_jv v, const wk_jstr **s) {
    if (v.tag != WK_J_STR) {
        wk_jpad *p = wk_j_pad(vm);
        if (!p || !wk_j_put_value(vm, p, v) || !wk_j_pad_done(vm, p, &v)) return false;
    }
    *s = v.u.s;
    return true;
}

/* ---- JSON -------------------------------------------------------------------------------------- */

typedef struct writer {
    wk_jvm *vm;
    wk_jpad *p;
    const wk_jstr *item, *colon; /* separators */
    const wk_jstr *indent;       /* NULL: all on one line */
    bool ascii, sort;
} writer;

static bool write_json(writer *w, wk_jv v, size_t level);

static bool new_line(writer *w, size_t level) {
    if (!w->indent) return true;
    if (!put_c(w->vm, w->p, "\n")) return false;
    for (size_t i = 0; i < level; i++)
        if (!wk_j_put_str(w->vm, w->p, w->indent)) return false;
    return true;
}

static bool next_item(writer *w, bool first, size_t level) {
    return (first || wk_j_put_str(w->vm, w->p, w->item)) && new_line(w, level);
}

static bool json_string(writer *w, const wk_jstr *s) {
    return put_c(w->vm, w->p, "\"") && put_escaped(w->vm, w->p, s, w->ascii ? 'a' : 'j') &&
           put_c(w->vm, w->p, "\"");
}

static bool json_list(writer *w, const wk_jlist *l, size_t level) {
    if (!put_c(w->vm, w->p, "[")) return false;
    for (size_t i = 0; i < l->n; i++)
        if (!next_item(w, i == 0, level + 1) || !write_json(w, l->v[i], level + 1)) return false;
    return (l->n == 0 || new_line(w, level)) && put_c(w->vm, w->p, "]");
}

static bool json_real(writer *w, double d) {
    char text[40];
    text[wk_j_real_text(text, d)] = 0;
    if (d != d) return put_c(w->vm, w->p, "NaN");
    if (d - d != d - d) return put_c(w->vm, w->p, d < 0 ? "-Infinity" : "Infinity");
    return wk_j_charge(w->vm, 1024) && put_c(w->vm, w->p, text);
}

static bool json_scalar(writer *w, wk_jv v) {
    if (v.tag == WK_J_NONE) return put_c(w->vm, w->p, "null");
    if (v.tag == WK_J_BOOL) return put_c(w->vm, w->p, v.u.b ? "true" : "false");
    if (v.tag == WK_J_INT) return put_number(w->vm, w->p, v);
    if (v.tag == WK_J_REAL) return json_real(w, v.u.d);
    return wk_j_fail(w->vm, "a %s has no JSON form", wk_j_type(v));
}

static bool json_key(writer *w, wk_jv key) {
    if (key.tag == WK_J_STR) return json_string(w, key.u.s);
    return put_c(w->vm, w->p, "\"") && json_scalar(w, key) && put_c(w->vm, w->p, "\"");
}

static bool json_dict(writer *w, wk_jv v, size_t level) {
    wk_jv key;
    if (!wk_j_to_list(w->vm, v, WK_J_AS_LIST, &key)) return false;
    if (w->sort && !wk_j_sort(w->vm, key.u.list, key.u.list->v, false)) return false;
    if (!put_c(w->vm, w->p, "{")) return false;
    for (size_t i = 0; i < key.u.list->n; i++) {
        wk_jv value;
        if (!wk_j_dict_get(w->vm, v.u.dict, key.u.list->v[i], &value))
            continue; /* never: nothing removes it */
        if (!next_item(w, i == 0, level + 1) || !json_key(w, key.u.list->v[i])) return false;
        if (!wk_j_put_str(w->vm, w->p, w->colon) || !write_json(w, value, level + 1)) return false;
    }
    return (key.u.list->n == 0 || new_line(w, level)) && put_c(w->vm, w->p, "}");
}

static bool write_json(writer *w, wk_jv v, size_t level) {
    if (v.tag == WK_J_STR) return json_string(w, v.u.s);
    const bool is_list = v.tag == WK_J_LIST && v.kind <= WK_J_AS_TUPLE;
    if (!is_list && v.tag != WK_J_DICT) return json_scalar(w, v);
    if (!wk_j_enter(w->vm)) return false;
    const bool ok = is_list ? json_list(w, v.u.list, level) : json_dict(w, v, level);
    wk_j_leave(w->vm);
    return ok;
}

static bool separators(writer *w, wk_jv v) {
    if (v.tag == WK_J_MISSING || v.tag == WK_J_NONE) return true;
    if (v.tag != WK_J_LIST || v.u.list->n != 2 || v.u.list->v[0].tag != WK_J_STR ||
        v.u.list->v[1].tag != WK_J_STR)
        return wk_j_fail(w->vm, "tojson wants two strings as separators");
    w->item = v.u.list->v[0].u.s;
    w->colon = v.u.list->v[1].u.s;
    return true;
}

#define MAX_INDENT 1000

static bool indentation(wk_jvm *vm, wk_jv v, wk_jv *out) {
    char blank[MAX_INDENT];
    int64_t n;
    *out = v;
    if (v.tag == WK_J_STR || v.tag == WK_J_MISSING || v.tag == WK_J_NONE) return true;
    if (!wk_j_index(v, &n))
        return wk_j_fail(vm, "tojson wants a number as indent, not a %s", wk_j_type(v));
    if (n > MAX_INDENT) return wk_j_fail(vm, "tojson wants an indent up to %d", MAX_INDENT);
    if (n < 0) n = 0;
    memset(blank, ' ', sizeof(blank));
    return wk_j_str_new(vm, (wk_str){blank, (size_t)n}, false, out);
}

bool wk_j_tojson(wk_jvm *vm, const wk_jv *a, const wk_jcall *c, wk_jv *out) {
    static const wk_jstr comma = {.p = ", ", .n = 2}, bare_comma = {.p = ",", .n = 1},
                         colon = {.p = ": ", .n = 2};
    wk_jv indent;
    (void)c; /* the signature of all rows */
    if (!indentation(vm, a[2], &indent)) return false;
    writer w = {.vm = vm, .colon = &colon, .ascii = wk_j_truth(a[1]), .sort = wk_j_truth(a[4])};
    if (indent.tag == WK_J_STR) w.indent = indent.u.s;
    w.item = w.indent ? &bare_comma : &comma;
    if (!separators(&w, a[3])) return false;
    w.p = wk_j_pad(vm);
    return w.p && write_json(&w, a[0], 0) && wk_j_pad_done(vm, w.p, out);
}

static bool any_user(const wk_jstr *s) {
    return s->mask ? memchr(s->mask, 1, s->n) != NULL : s->user;
}

bool wk_j_from_json(wk_jvm *vm, const wk_jv *a, const wk_jcall *c, wk_jv *out) {
    wk_json_doc *doc = NULL;
    wk_err why = {0};
    (void)c; /* the signature of all rows */
    if (a[0].tag != WK_J_STR)
        return wk_j_fail(vm, "from_json wants a str, not a %s", wk_j_type(a[0]));
    const wk_jstr *s = a[0].u.s;
    if (!wk_j_charge(vm, s->n * 8)) return false;
    if (wk_json_parse(&doc, wk_j_text(s), 64, 1000000, &why))
        return wk_j_fail(vm, "from_json: %s", why.message);
    const bool ok = wk_j_import(vm, wk_json_root(doc), NULL, true, any_user(s), out);
    wk_json_free(doc);
    return ok;
}

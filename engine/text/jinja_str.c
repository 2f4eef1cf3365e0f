/* jinja_str.c: what can be done to strings. Results keep the provenance of the bytes that they are made of. */
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/jinja_val.h"

#define ROW(name) static bool name(wk_jvm *vm, const wk_jv *a, const wk_jcall *c, wk_jv *out)

bool wk_j_is_space(uint32_t cp) { return wk_cp_is_space(cp) || (cp >= 0x1c && cp <= 0x1f); }

/* Code point that begins at i; valid text, so always at least one byte. */
static size_t cp_at(const wk_jstr *s, size_t i, uint32_t *cp) {
    const int len = wk_utf8_decode(s->p + i, s->n - i, cp);
    return len > 0 ? (size_t)len : 1;
}

static size_t cp_before(const wk_jstr *s, size_t i, uint32_t *cp) {
    size_t begin = i - 1;
    while (begin > 0 && ((uint8_t)s->p[begin] & 0xc0u) == 0x80u) begin--;
    (void)cp_at(s, begin, cp); /* its length is i - begin */
    return begin;
}

static bool want_str(wk_jvm *vm, wk_jv v, const char *who) {
    return v.tag == WK_J_STR || wk_j_fail(vm, "%s wants a str, not a %s", who, wk_j_type(v));
}

/* A whole number, or what is given where the argument is missing or none. */
static bool want_int(wk_jvm *vm, wk_jv v, const char *who, int64_t missing, int64_t *n) {
    *n = missing;
    if (v.tag == WK_J_MISSING || v.tag == WK_J_NONE) return true;
    return wk_j_index(v, n) || wk_j_fail(vm, "%s wants a number, not a %s", who, wk_j_type(v));
}

static bool is_given(wk_jv v) { return v.tag != WK_J_MISSING && v.tag != WK_J_NONE; }

/* First place of what in s from `at` on, s->n + 1 if there is none. */
static size_t find(const wk_jstr *s, const wk_jstr *what, size_t at) {
    if (what->n == 0) return at;
    if (what->n > s->n - at) return s->n + 1;
    const char *p = (const char *)memmem(s->p + at, s->n - at, what->p, what->n);
    return p ? (size_t)(p - s->p) : s->n + 1;
}

/* Last place of what that ends at `end` or before; *at is s->n + 1 if there is none. */
static bool find_back(wk_jvm *vm, const wk_jstr *s, const wk_jstr *what, size_t end, size_t *at) {
    for (size_t i = end; i >= what->n; i--) {
        *at = i - what->n;
        if (what->n == 0) return true;
        if (s->p[*at] != what->p[0]) continue;
        if (!wk_j_charge(vm, what->n)) return false;
        if (memcmp(s->p + *at, what->p, what->n) == 0) return true;
    }
    *at = s->n + 1;
    return true;
}

/* ---- strip ------------------------------------------------------------------------------------- */

static bool in_set(uint32_t cp, const wk_jstr *set) {
    if (!set) return wk_j_is_space(cp);
    for (size_t i = 0; i < set->n;) {
        uint32_t other = 0;
        i += cp_at(set, i, &other);
        if (other == cp) return true;
    }
    return false;
}

bool wk_j_strip(wk_jvm *vm, const wk_jstr *s, const wk_jstr *set, int sides, wk_jv *out) {
    size_t begin = 0, end = s->n;
    uint32_t cp = 0;
    while ((sides & 1) && begin < end) {
        const size_t len = cp_at(s, begin, &cp);
        if (!in_set(cp, set)) break;
        if (!wk_j_charge(vm, set ? set->n : 0)) return false;
        begin += len;
    }
    while ((sides & 2) && end > begin) {
        const size_t at = cp_before(s, end, &cp);
        if (!in_set(cp, set)) break;
        if (!wk_j_charge(vm, set ? set->n : 0)) return false;
        end = at;
    }
    return wk_j_slice(vm, s, begin, end, out);
}

static bool strip(wk_jvm *vm, const wk_jv *a, int sides, wk_jv *out) {
    if (is_given(a[1]) && !want_str(vm, a[1], "strip")) return false;
    return wk_j_strip(vm, a[0].u.s, is_given(a[1]) ? a[1].u.s : NULL, sides, out);
}

ROW(row_strip) {
    (void)c; /* here and below: the signature of all rows */
    return strip(vm, a, 3, out);
}
ROW(row_lstrip) {
    (void)c;
    return strip(vm, a, 1, out);
}
ROW(row_rstrip) {
    (void)c;
    return strip(vm, a, 2, out);
}

/* ---- split, join, replace ---------------------------------------------------------------------- */

static bool add_part(wk_jvm *vm, wk_jv list, const wk_jstr *s, size_t begin, size_t end) {
    wk_jv part;
    return wk_j_charge(vm, end - begin) && wk_j_slice(vm, s, begin, end, &part) &&
           wk_j_append(vm, list.u.list, part);
}

static bool split_on(wk_jvm *vm, const wk_jstr *s, const wk_jstr *sep, uint64_t max, wk_jv list) {
    size_t at = 0;
    if (sep->n == 0) return wk_j_fail(vm, "split with an empty separator");
    for (; max > 0; max--) {
        const size_t next = find(s, sep, at);
        if (next > s->n) break;
        if (!add_part(vm, list, s, at, next)) return false;
        at = next + sep->n;
    }
    return add_part(vm, list, s, at, s->n);
}

static size_t skip(const wk_jstr *s, size_t i, bool space) {
    while (i < s->n) {
        uint32_t cp = 0;
        const size_t len = cp_at(s, i, &cp);
        if (wk_j_is_space(cp) != space) break;
        i += len;
    }
    return i;
}

/* Without a separator: runs of white space; after max splits the rest as it is. */
static bool split_space(wk_jvm *vm, const wk_jstr *s, uint64_t max, wk_jv list) {
    size_t at = skip(s, 0, true);
    for (; at < s->n && max > 0; max--) {
        const size_t end = skip(s, at, false);
        if (!add_part(vm, list, s, at, end)) return false;
        at = skip(s, end, true);
    }
    return at >= s->n || add_part(vm, list, s, at, s->n);
}

ROW(row_split) {
    int64_t max;
    (void)c;
    if (!want_int(vm, a[2], "split", -1, &max) || !wk_j_list(vm, WK_J_AS_LIST, out)) return false;
    const uint64_t limit = max < 0 ? UINT64_MAX : (uint64_t)max;
    if (!is_given(a[1]))
        return wk_j_charge_each(vm, a[0].u.s->n) && split_space(vm, a[0].u.s, limit, *out);
    return want_str(vm, a[1], "split") && split_on(vm, a[0].u.s, a[1].u.s, limit, *out);
}

static void reverse(wk_jlist *l) {
    for (size_t i = 0, j = l->n; i + 1 < j; i++) {
        const wk_jv swap = l->v[i];
        l->v[i] = l->v[--j];
        l->v[j] = swap;
    }
}

ROW(row_rsplit) {
    const wk_jstr *s = a[0].u.s;
    size_t end = s->n;
    int64_t max;
    (void)c;
    if (!want_str(vm, a[1], "rsplit") || !want_int(vm, a[2], "rsplit", -1, &max)) return false;
    if (a[1].u.s->n == 0) return wk_j_fail(vm, "rsplit with an empty separator");
    if (!wk_j_list(vm, WK_J_AS_LIST, out)) return false;
    for (; max != 0; max--) {
        size_t at;
        if (!find_back(vm, s, a[1].u.s, end, &at)) return false;
        if (at > s->n) break;
        if (!add_part(vm, *out, s, at + a[1].u.s->n, end)) return false;
        end = at;
    }
    if (!add_part(vm, *out, s, 0, end)) return false;
    reverse(out->u.list);
    return true;
}

/* Ends of lines as str.splitlines sees them: length of the one at i, or 0. */
static size_t line_end(const wk_jstr *s, size_t i) {
    uint32_t cp = 0;
    const size_t len = cp_at(s, i, &cp);
    if (cp == '\r') return i + 1 < s->n && s->p[i + 1] == '\n' ? 2 : 1;
    const bool ends = (cp >= 0x0a && cp <= 0x0c) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 ||
                      cp == 0x2028 || cp == 0x2029;
    return ends ? len : 0;
}

bool wk_j_lines(wk_jvm *vm, const wk_jstr *s, bool keep_ends, wk_jv *out) {
    size_t at = 0;
    if (!wk_j_charge_each(vm, s->n) || !wk_j_list(vm, WK_J_AS_LIST, out)) return false;
    for (size_t i = 0; i < s->n;) {
        const size_t end = line_end(s, i);
        if (end && !add_part(vm, *out, s, at, keep_ends ? i + end : i)) return false;
        i +=
            end ? end
                : (size_t)(wk_utf8_lead((uint8_t)s->p[i]) > 0 ? wk_utf8_lead((uint8_t)s->p[i]) : 1);
        if (end) at = i;
    }
    return at >= s->n || add_part(vm, *out, s, at, s->n);
}

ROW(row_splitlines) {
    (void)c;
    return wk_j_lines(vm, a[0].u.s, wk_j_truth(a[1]), out);
}

ROW(row_join) {
    wk_jiter it;
    wk_jv v;
    bool more = true;
    (void)c;
    wk_jpad *p = wk_j_pad(vm);
    if (!p || !wk_j_iter(vm, &it, a[1])) return false;
    for (bool first = true;; first = false) {
        if (!wk_j_next(vm, &it, &v, &more)) return false;
        if (!more) return wk_j_pad_done(vm, p, out);
        if (!first && !wk_j_put_str(vm, p, a[0].u.s)) return false;
        if (!want_str(vm, v, "join") || !wk_j_put_str(vm, p, v.u.s)) return false;
    }
}

/* An empty `from` stands before every code point and at the end. */
static bool replace_nothing(wk_jvm *vm, const wk_jstr *s, const wk_jstr *to, int64_t max,
                            wk_jpad *p) {
    if (!wk_j_charge_each(vm, s->n)) return false;
    for (size_t i = 0; i < s->n;) {
        uint32_t cp = 0;
        const size_t len = cp_at(s, i, &cp);
        if (max != 0 && !wk_j_put_str(vm, p, to)) return false;
        if (max != 0) max--;
        if (!wk_j_put_part(vm, p, s, i, i + len)) return false;
        i += len;
    }
    return max == 0 || wk_j_put_str(vm, p, to);
}

bool wk_j_replace(wk_jvm *vm, const wk_jstr *s, const wk_jstr *from, const wk_jstr *to, int64_t max,
                  wk_jv *out) {
    size_t at = 0;
    if (from->n && (max == 0 || find(s, from, 0) > s->n)) {
        *out = wk_j_strv(s);
        return wk_j_charge(vm, s->n);
    }
    wk_jpad *p = wk_j_pad(vm);
    if (!p) return false;
    if (from->n == 0) return replace_nothing(vm, s, to, max, p) && wk_j_pad_done(vm, p, out);
    for (; max != 0; max--) {
        const size_t next = find(s, from, at);
        if (next > s->n) break;
        if (!wk_j_charge(vm, 0) || !wk_j_put_part(vm, p, s, at, next) || !wk_j_put_str(vm, p, to))
            return false;
        at = next + from->n;
    }
    return wk_j_put_part(vm, p, s, at, s->n) && wk_j_pad_done(vm, p, out);
}

ROW(row_replace) {
    int64_t max;
    (void)c;
    if (!want_str(vm, a[1], "replace") || !want_str(vm, a[2], "replace")) return false;
    return want_int(vm, a[3], "replace", -1, &max) &&
           wk_j_replace(vm, a[0].u.s, a[1].u.s, a[2].u.s, max, out);
}

/* ---- case -------------------------------------------------------------------------------------- */

static bool is_cased(uint32_t cp) { return wk_cp_lower(cp) != cp || wk_cp_upper(cp) != cp; }

/* Whether the next code point begins a word: 't' after what has no case (str.title), 'T' after white space
 * and some brackets (the filter). */
static bool begins_word(char how, uint32_t cp) {
    if (how == 'c') return false;
    if (how == 't') return !is_cased(cp);
    return wk_j_is_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp));
}

bool wk_j_case(wk_jvm *vm, const wk_jstr *s, int how, wk_jv *out) {
    char text[256];
    size_t n = 0, from = 0;
    bool first = true;
    wk_jpad *p = wk_j_pad(vm);
    if (!p || !wk_j_charge_each(vm, s->n)) return false;
    for (size_t i = 0; i < s->n;) {
        uint32_t cp = 0;
        const size_t len = cp_at(s, i, &cp);
        const bool up = how == 'u' || (how != 'l' && first);
        if (n && (n > sizeof(text) - 8 || (s->mask && s->mask[i] != s->mask[from]))) {
            if (!wk_j_put(vm, p, (wk_str){text, n}, s->mask ? s->mask[from] : s->user))
                return false;
            n = 0;
        }
        if (n == 0) from = i;
        if (up && cp == 0xdf) { /* the one common letter whose upper case is two */
            memcpy(text + n, how == 'u' ? "SS" : "Ss", 2);
            n += 2;
        } else
            n += (size_t)wk_utf8_encode(text + n, up ? wk_cp_upper(cp) : wk_cp_lower(cp));
        first = begins_word((char)how, cp);
        i += len;
    }
    return wk_j_put(vm, p, (wk_str){text, n}, s->n && s->mask ? s->mask[from] : s->user) &&
           wk_j_pad_done(vm, p, out);
}

ROW(row_upper) {
    (void)c;
    return wk_j_case(vm, a[0].u.s, 'u', out);
}
ROW(row_lower) {
    (void)c;
    return wk_j_case(vm, a[0].u.s, 'l', out);
}
ROW(row_title) {
    (void)c;
    return wk_j_case(vm, a[0].u.s, 't', out);
}
ROW(row_capitalize) {
    (void)c;
    return wk_j_case(vm, a[0].u.s, 'c', out);
}

/* ---- questions --------------------------------------------------------------------------------- */

static bool has_affix(const wk_jstr *s, const wk_jstr *x, bool at_end) {
    return at_end ? wk_str_ends(wk_j_text(s), wk_j_text(x))
                  : wk_str_starts(wk_j_text(s), wk_j_text(x));
}

/* One string, or a tuple of them. */
static bool affix(wk_jvm *vm, const wk_jv *a, bool at_end, wk_jv *out) {
    const char *who = at_end ? "endswith" : "startswith";
    *out = wk_j_bool(false);
    if (!wk_j_is_list(a[1], WK_J_AS_TUPLE)) {
        if (!want_str(vm, a[1], who)) return false;
        *out = wk_j_bool(has_affix(a[0].u.s, a[1].u.s, at_end));
        return true;
    }
    for (size_t i = 0; i < a[1].u.list->n; i++) {
        const wk_jv v = a[1].u.list->v[i];
        if (!want_str(vm, v, who) || !wk_j_charge(vm, v.u.s->n)) return false;
        if (has_affix(a[0].u.s, v.u.s, at_end)) *out = wk_j_bool(true);
    }
    return true;
}

ROW(row_startswith) {
    (void)c;
    return affix(vm, a, false, out);
}
ROW(row_endswith) {
    (void)c;
    return affix(vm, a, true, out);
}

static bool found(const wk_jstr *s, size_t at, wk_jv *out) {
    *out = wk_j_int(at > s->n ? -1 : (int64_t)wk_utf8_count((wk_str){s->p, at}));
    return true;
}

ROW(row_find) {
    (void)c;
    return want_str(vm, a[1], "find") && wk_j_charge(vm, a[0].u.s->n) &&
           found(a[0].u.s, find(a[0].u.s, a[1].u.s, 0), out);
}
ROW(row_rfind) {
    size_t at;
    (void)c;
    if (!want_str(vm, a[1], "rfind") || !wk_j_charge(vm, a[0].u.s->n)) return false;
    return find_back(vm, a[0].u.s, a[1].u.s, a[0].u.s->n, &at) && found(a[0].u.s, at, out);
}
ROW(row_index) {
    return row_find(vm, a, c, out) &&
           (out->u.i >= 0 || wk_j_fail(vm, "index does not find its text"));
}
ROW(row_count) {
    const wk_jstr *s = a[0].u.s;
    int64_t n = 0;
    (void)c;
    if (!want_str(vm, a[1], "count") || !wk_j_charge(vm, s->n)) return false;
    if (a[1].u.s->n == 0)
        n = (int64_t)wk_utf8_count(wk_j_text(s)) + 1;
    else
        for (size_t at = find(s, a[1].u.s, 0); at <= s->n; at = find(s, a[1].u.s, at + a[1].u.s->n))
            n++;
    *out = wk_j_int(n);
    return true;
}

/* True for a text that is not empty and all of one class. */
static bool all_of(wk_jvm *vm, const wk_jstr *s, char class, wk_jv *out) {
    bool ok = s->n > 0;
    for (size_t i = 0; ok && i < s->n;) {
        uint32_t cp = 0;
        i += cp_at(s, i, &cp);
        ok = class == 's'   ? wk_j_is_space(cp)
             : class == 'd' ? wk_cp_is_number(cp)
             : class == 'a' ? wk_cp_is_letter(cp)
                            : wk_cp_is_letter(cp) || wk_cp_is_number(cp);
    }
    *out = wk_j_bool(ok);
    return wk_j_charge_each(vm, s->n);
}

ROW(row_isspace) {
    (void)c;
    return all_of(vm, a[0].u.s, 's', out);
}
ROW(row_isdigit) {
    (void)c;
    return all_of(vm, a[0].u.s, 'd', out);
}
ROW(row_isalpha) {
    (void)c;
    return all_of(vm, a[0].u.s, 'a', out);
}
ROW(row_isalnum) {
    (void)c;
    return all_of(vm, a[0].u.s, 'n', out);
}

ROW(row_removeprefix) {
    (void)c;
    if (!want_str(vm, a[1], "removeprefix")) return false;
    const bool has = has_affix(a[0].u.s, a[1].u.s, false);
    return wk_j_slice(vm, a[0].u.s, has ? a[1].u.s->n : 0, a[0].u.s->n, out);
}
ROW(row_removesuffix) {
    (void)c;
    if (!want_str(vm, a[1], "removesuffix")) return false;
    const bool has = has_affix(a[0].u.s, a[1].u.s, true);
    return wk_j_slice(vm, a[0].u.s, 0, a[0].u.s->n - (has ? a[1].u.s->n : 0), out);
}

/* ---- format: {} {0} {name} {{ }} --------------------------------------------------------------- */

static bool format_value(wk_jvm *vm, const wk_jcall *c, wk_str field, size_t *next, wk_jv *out) {
    size_t i = 0;
    bool is_number = field.n > 0 && field.n < 4;
    for (size_t k = 0; k < field.n; k++) {
        if (field.p[k] < '0' || field.p[k] > '9')
            is_number = false;
        else
            i = i * 10 + (size_t)(field.p[k] - '0');
    }
    if (field.n == 0) i = (*next)++;
    if (field.n == 0 || is_number) {
        if (i + 1 >= c->n) return wk_j_fail(vm, "format has no argument %zu", i);
        *out = c->v[i + 1];
        return true;
    }
    for (size_t k = 0; k < c->n_kw; k++) {
        if (!wk_str_eq(wk_j_text(vm->t->name[c->kw_name[k]].u.s), field)) continue;
        *out = c->kw[k];
        return true;
    }
    return wk_j_fail(vm, "format has no argument '%s' (conversions are not supported)",
                     wk_show(field).text);
}

ROW(row_format) {
    const wk_jstr *s = a[0].u.s;
    size_t kept = 0, next = 0;
    wk_jpad *p = wk_j_pad(vm);
    if (!p) return false;
    for (size_t i = 0; i < s->n; i++) {
        const char b = s->p[i];
        wk_jv v;
        if (b != '{' && b != '}') continue;
        if (!wk_j_put_part(vm, p, s, kept, i)) return false;
        kept = i + 1;
        if (i + 1 < s->n && s->p[i + 1] == b) {
            i++; /* doubled: the second is text */
            continue;
        }
        const char *end = b == '{' ? (const char *)memchr(s->p + i, '}', s->n - i) : NULL;
        if (!end) return wk_j_fail(vm, "format with a single '%c'", b);
        const wk_str field = {s->p + i + 1, (size_t)(end - s->p) - i - 1};
        if (!format_value(vm, c, field, &next, &v) || !wk_j_put_value(vm, p, v)) return false;
        i += field.n + 1;
        kept = i + 1;
    }
    return wk_j_put_part(vm, p, s, kept, s->n) && wk_j_pad_done(vm, p, out);
}

const wk_jrow wk_j_str_rows[] = {
    {"split", row_split, 0, false, {"sep", "maxsplit"}},
    {"rsplit", row_rsplit, 1, false, {"sep", "maxsplit"}},
    {"splitlines", row_splitlines, 0, false, {"keepends"}},
    {"strip", row_strip, 0, false, {"chars"}},
    {"lstrip", row_lstrip, 0, false, {"chars"}},
    {"rstrip", row_rstrip, 0, false, {"chars"}},
    {"startswith", row_startswith, 1, false, {"prefix"}},
    {"endswith", row_endswith, 1, false, {"suffix"}},
    {"replace", row_replace, 2, false, {"old", "new", "count"}},
    {"join", row_join, 1, false, {"iterable"}},
    {"upper", row_upper, 0, false, {NULL}},
    {"lower", row_lower, 0, false, {NULL}},
    {"title", row_title, 0, false, {NULL}},
    {"capitalize", row_capitalize, 0, false, {NULL}},
    {"find", row_find, 1, false, {"sub"}},
    {"rfind", row_rfind, 1, false, {"sub"}},
    {"index", row_index, 1, false, {"sub"}},
    {"count", row_count, 1, false, {"sub"}},
    {"isspace", row_isspace, 0, false, {NULL}},
    {"isdigit", row_isdigit, 0, false, {NULL}},
    {"isalpha", row_isalpha, 0, false, {NULL}},
    {"isalnum", row_isalnum, 0, false, {NULL}},
    {"removeprefix", row_removeprefix, 1, false, {"prefix"}},
    {"removesuffix", row_removesuffix, 1, false, {"suffix"}},
    {"format", row_format, 0, true, {NULL}},
    {NULL, NULL, 0, false, {NULL}},
};

/* jinja_filter.c: filters, and the calling of the rows of all tables. */
#include <stdio.h>
#include <string.h>

#include "engine/text/jinja_val.h"

#define ROW(name) static bool name(wk_jvm *vm, const wk_jv *a, const wk_jcall *c, wk_jv *out)

static bool is_given(wk_jv v) { return v.tag != WK_J_MISSING && v.tag != WK_J_NONE; }

/* ---- calling ----------------------------------------------------------------------------------- */

static bool bind_keyword(wk_jvm *vm, const wk_jrow *row, const wk_jcall *c, size_t k, wk_jv *a) {
    const wk_jstr *name = vm->t->name[c->kw_name[k]].u.s;
    for (int i = 0; i < WK_J_MAX_PARAM && row->param[i]; i++) {
        if (!wk_str_is(wk_j_text(name), row->param[i]) || a[i + 1].tag != WK_J_MISSING) continue;
        a[i + 1] = c->kw[k];
        return true;
    }
    return wk_j_fail(vm, "%s cannot take the argument '%s'", row->name,
                     wk_show(wk_j_text(name)).text);
}

bool wk_j_call_row(wk_jvm *vm, const wk_jrow *row, const wk_jcall *c, wk_jv *out) {
    wk_jv a[1 + WK_J_MAX_PARAM];
    size_t n_param = 0;
    if (c->n - 1 < row->n_need && (row->any || c->n_kw == 0))
        return wk_j_fail(vm, "%s wants %d arguments, not %zu", row->name, row->n_need, c->n - 1);
    if (row->any) return row->fn(vm, c->v, c, out);
    while (n_param < WK_J_MAX_PARAM && row->param[n_param]) n_param++;
    if (c->n - 1 > n_param)
        return wk_j_fail(vm, "%s takes %zu arguments, not %zu", row->name, n_param, c->n - 1);
    for (size_t i = 0; i <= WK_J_MAX_PARAM; i++)
        a[i] = i < c->n ? c->v[i] : (wk_jv){.tag = WK_J_MISSING};
    for (size_t k = 0; k < c->n_kw; k++)
        if (!bind_keyword(vm, row, c, k, a)) return false;
    for (size_t i = 0; i < row->n_need; i++)
        if (a[i + 1].tag == WK_J_MISSING)
            return wk_j_fail(vm, "%s wants the argument '%s'", row->name, row->param[i]);
    return row->fn(vm, a, c, out);
}

const wk_jrow *wk_j_find_row(const wk_jrow *rows, wk_str name) {
    if (name.n == 0) return rows; /* the start of a table, for those who count from there */
    for (; rows->name; rows++)
        if (wk_str_is(name, rows->name)) return rows;
    return NULL;
}

/* ---- filters over text ------------------------------------------------------------------------- */

/* str(v); Undefined is empty, as everywhere. */
static bool text_of(wk_jvm *vm, wk_jv v, const wk_jstr **s) { return wk_j_to_str(vm, v, s); }

/* What some filters make of a safe string is safe. */
static bool as_safe_as(wk_jv v, wk_jv *out) {
    if (wk_j_is_safe(v)) out->kind = WK_J_SAFE;
    return true;
}

ROW(f_string) {
    const wk_jstr *s;
    (void)c; /* here and below: the signature of all rows */
    if (!text_of(vm, a[0], &s)) return false;
    *out = wk_j_strv(s);
    return as_safe_as(a[0], out);
}

/* Nothing is escaped when it is printed; but safe + other escapes the other, and templates have that. */
ROW(f_safe) {
    if (!f_string(vm, a, c, out)) return false;
    out->kind = WK_J_SAFE;
    return true;
}

static bool cased(wk_jvm *vm, wk_jv v, int how, wk_jv *out) {
    const wk_jstr *s;
    return text_of(vm, v, &s) && wk_j_case(vm, s, how, out) && (how == 'T' || as_safe_as(v, out));
}

ROW(f_upper) {
    (void)c;
    return cased(vm, a[0], 'u', out);
}
ROW(f_lower) {
    (void)c;
    return cased(vm, a[0], 'l', out);
}
ROW(f_title) {
    (void)c;
    return cased(vm, a[0], 'T', out);
}
ROW(f_capitalize) {
    (void)c;
    return cased(vm, a[0], 'c', out);
}

ROW(f_trim) {
    const wk_jstr *s, *set = NULL;
    (void)c;
    if (!text_of(vm, a[0], &s) || (is_given(a[1]) && !text_of(vm, a[1], &set))) return false;
    return wk_j_strip(vm, s, set, 3, out) && as_safe_as(a[0], out);
}

ROW(f_replace) {
    const wk_jstr *s, *from, *to;
    int64_t max = -1;
    (void)c;
    if (is_given(a[3]) && !wk_j_index(a[3], &max))
        return wk_j_fail(vm, "replace wants a number, not a %s", wk_j_type(a[3]));
    return text_of(vm, a[0], &s) && text_of(vm, a[1], &from) && text_of(vm, a[2], &to) &&
           wk_j_replace(vm, s, from, to, max, out);
}

bool wk_j_escape(wk_jvm *vm, const wk_jstr *s, wk_jv *out) {
    static const char special[] = "&<>'\"";
    static const char *const entity[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    size_t kept = 0;
    wk_jpad *p = wk_j_pad(vm);
    if (!p) return false;
    for (size_t i = 0; i < s->n; i++) {
        const char *at = s->p[i] ? strchr(special, s->p[i]) : NULL;
        if (!at) continue;
        if (!wk_j_put_part(vm, p, s, kept, i)) return false;
        if (!wk_j_put(vm, p, wk_cstr(entity[at - special]), s->mask ? s->mask[i] : s->user))
            return false;
        kept = i + 1;
    }
    return wk_j_put_part(vm, p, s, kept, s->n) && wk_j_pad_done(vm, p, out);
}

ROW(f_escape) {
    const wk_jstr *s;
    (void)c;
    if (!text_of(vm, a[0], &s)) return false;
    *out = a[0];
    if (!wk_j_is_safe(a[0]) && !wk_j_escape(vm, s, out)) return false;
    out->kind = WK_J_SAFE;
    return true;
}

typedef struct indenting {
    const wk_jstr *with;
    bool first, blank;
} indenting;

static bool put_indented(wk_jvm *vm, const wk_jlist *line, const indenting *in, wk_jv *out) {
    wk_jpad *p = wk_j_pad(vm);
    if (!p) return false;
    for (size_t i = 0; i < line->n; i++) {
        const wk_jstr *s = line->v[i].u.s;
        const bool with = i == 0 ? in->first : in->blank || s->n > 0;
        if (i && !wk_j_put(vm, p, WK_STR("\n"), false)) return false;
        if (with && !wk_j_put_str(vm, p, in->with)) return false;
        if (!wk_j_put_str(vm, p, s)) return false;
    }
    return wk_j_pad_done(vm, p, out);
}

/* indent(width=4, first=False, blank=False); a line end at the end stays, as an empty last line. */
ROW(f_indent) {
    static const wk_jstr newline = {.p = "\n", .n = 1}, space = {.p = " ", .n = 1};
    wk_jv text, lines, with = wk_j_int(4);
    (void)c;
    if (a[0].tag != WK_J_STR) return wk_j_fail(vm, "indent wants a str, not a %s", wk_j_type(a[0]));
    if (is_given(a[1])) with = a[1];
    if (with.tag != WK_J_STR && !wk_j_math(vm, WK_J_MUL, wk_j_strv(&space), with, &with))
        return false;
    if (with.tag != WK_J_STR) return wk_j_fail(vm, "indent wants a width");
    if (!wk_j_concat(vm, a[0].u.s, &newline, &text) || !wk_j_lines(vm, text.u.s, false, &lines))
        return false;
    const indenting in = {with.u.s, wk_j_truth(a[2]) && a[2].tag != WK_J_MISSING,
                          wk_j_truth(a[3]) && a[3].tag != WK_J_MISSING};
    return put_indented(vm, lines.u.list, &in, out) && as_safe_as(a[0], out);
}

/* ---- filters over one value -------------------------------------------------------------------- */

ROW(f_default) {
    (void)c;
    *out = a[0];
    if (a[0].tag != WK_J_UNDEF && !(wk_j_truth(a[2]) && !wk_j_truth(a[0]))) return true;
    if (a[1].tag != WK_J_MISSING) *out = a[1];
    return a[1].tag != WK_J_MISSING || wk_j_str_view(vm, WK_STR(""), false, out);
}

ROW(f_length) {
    int64_t n;
    (void)c;
    if (!wk_j_length(vm, a[0], &n)) return false;
    *out = wk_j_int(n);
    return true;
}

static bool parse_int(wk_str s, int64_t *n) {
    bool minus = s.n && s.p[0] == '-', any = false;
    *n = 0;
    for (size_t i = s.n && (s.p[0] == '-' || s.p[0] == '+'); i < s.n; i++) {
        if (s.p[i] == '_' && any) continue;
        if (s.p[i] < '0' || s.p[i] > '9') return false;
        const int64_t d = minus ? -(s.p[i] - '0') : s.p[i] - '0';
        if (__builtin_mul_overflow(*n, (int64_t)10, n) || __builtin_add_overflow(*n, d, n))
            return false;
        any = true;
    }
    return any;
}

/* int and float give the default (0) for what is no number. */
static bool number_of(wk_jvm *vm, wk_jv v, bool whole, wk_jv *out) {
    int64_t i;
    double d;
    bool real;
    if (v.tag == WK_J_UNDEF) return wk_j_undefined(vm, v);
    if (v.tag == WK_J_STR) {
        wk_jv t;
        if (!wk_j_strip(vm, v.u.s, NULL, 3, &t)) return false;
        if (whole && parse_int(wk_j_text(t.u.s), &i))
            v = wk_j_int(i);
        else if (wk_j_parse_real(wk_j_text(t.u.s), &d))
            v = wk_j_real(d);
    }
    if (!wk_j_number(v, &i, &d, &real)) return true;
    if (whole && real && !(d > -9e18 && d < 9e18)) return true;
    *out = !whole ? wk_j_real(d) : wk_j_int(real ? (int64_t)d : i);
    return true;
}

ROW(f_int) {
    (void)c;
    *out = a[1].tag == WK_J_MISSING ? wk_j_int(0) : a[1];
    return number_of(vm, a[0], true, out);
}
ROW(f_float) {
    (void)c;
    *out = a[1].tag == WK_J_MISSING ? wk_j_real(0) : a[1];
    return number_of(vm, a[0], false, out);
}
ROW(f_abs) {
    (void)c;
    int64_t i;
    double d;
    bool real;
    if (!wk_j_number(a[0], &i, &d, &real))
        return wk_j_fail(vm, "abs wants a number, not a %s", wk_j_type(a[0]));
    *out = real ? wk_j_real(d < 0 ? -d : d) : wk_j_int(i);
    if (!real && i < 0) return wk_j_math(vm, WK_J_SUB, wk_j_int(0), a[0], out);
    return true;
}

/* ---- filters over sequences -------------------------------------------------------------------- */

/* The value behind a path such as "tool_calls.0.name"; other (NULL: none) stands for what is undefined on
 * the way. */
static bool attribute_or(wk_jvm *vm, wk_jv v, wk_jv path, const wk_jv *other, wk_jv *out) {
    int64_t i;
    if (path.tag != WK_J_STR) {
        if (!wk_j_item(vm, v, path, out)) return false;
        if (other && out->tag == WK_J_UNDEF) *out = *other;
        return true;
    }
    const wk_jstr *s = path.u.s;
    for (size_t at = 0; at <= s->n;) {
        const char *dot = (const char *)memchr(s->p + at, '.', s->n - at);
        const size_t end = dot ? (size_t)(dot - s->p) : s->n;
        wk_jv part;
        if (!wk_j_slice(vm, s, at, end, &part)) return false;
        if (part.u.s->n && part.u.s->p[0] != '-' && parse_int(wk_j_text(part.u.s), &i))
            part = wk_j_int(i);
        if (!wk_j_charge(vm, 0) || !wk_j_item(vm, v, part, &v)) return false;
        if (other && v.tag == WK_J_UNDEF) v = *other;
        at = end + 1;
    }
    *out = v;
    return true;
}

static bool attribute_of(wk_jvm *vm, wk_jv v, wk_jv path, wk_jv *out) {
    return attribute_or(vm, v, path, NULL, out);
}

/* What a sort compares: the attribute, in lower case unless case counts. */
static bool sort_key(wk_jvm *vm, wk_jv v, wk_jv path, bool case_counts, wk_jv *out) {
    *out = v;
    if (is_given(path) && !attribute_of(vm, v, path, out)) return false;
    return case_counts || out->tag != WK_J_STR || wk_j_case(vm, out->u.s, 'l', out);
}

static bool sort_keys(wk_jvm *vm, const wk_jlist *l, wk_jv path, bool case_counts, wk_jv **key) {
    *key = (wk_jv *)wk_j_get_n(vm, l->n, sizeof(wk_jv));
    if (!*key) return false;
    for (size_t i = 0; i < l->n; i++)
        if (!wk_j_charge(vm, 0) || !sort_key(vm, l->v[i], path, case_counts, &(*key)[i]))
            return false;
    return true;
}

static bool yes(wk_jv v) { return v.tag != WK_J_MISSING && wk_j_truth(v); }

ROW(f_sort) { /* reverse, case_sensitive, attribute */
    wk_jv *key;
    (void)c;
    return wk_j_to_list(vm, a[0], WK_J_AS_LIST, out) &&
           sort_keys(vm, out->u.list, a[3], yes(a[2]), &key) &&
           wk_j_sort(vm, out->u.list, key, yes(a[1]));
}

bool wk_j_pairs(wk_jvm *vm, wk_jv v, int kind, wk_jv *out) {
    if (!wk_j_list(vm, kind, out)) return false;
    for (uint32_t i = 0; i < v.u.dict->n; i++) {
        const wk_jslot *s = &v.u.dict->slot[i];
        wk_jv pair;
        if (s->key.tag == WK_J_MISSING) continue;
        if (!wk_j_charge(vm, 0) || !wk_j_pair(vm, s->key, s->value, &pair)) return false;
        if (!wk_j_append(vm, out->u.list, pair)) return false;
    }
    return true;
}

ROW(f_dictsort) { /* case_sensitive, by, reverse */
    wk_jv *key;
    int64_t by = 0;
    (void)c;
    if (a[0].tag == WK_J_UNDEF) return wk_j_undefined(vm, a[0]);
    if (a[0].tag != WK_J_DICT)
        return wk_j_fail(vm, "dictsort wants a dict, not a %s", wk_j_type(a[0]));
    if (a[2].tag == WK_J_STR && wk_str_is(wk_j_text(a[2].u.s), "value"))
        by = 1;
    else if (a[2].tag != WK_J_MISSING &&
             !(a[2].tag == WK_J_STR && wk_str_is(wk_j_text(a[2].u.s), "key")))
        return wk_j_fail(vm, "dictsort wants 'key' or 'value'");
    return wk_j_pairs(vm, a[0], WK_J_AS_LIST, out) &&
           sort_keys(vm, out->u.list, wk_j_int(by), yes(a[1]), &key) &&
           wk_j_sort(vm, out->u.list, key, yes(a[3]));
}

ROW(f_items) {
    (void)c;
    if (a[0].tag == WK_J_UNDEF) return wk_j_list(vm, WK_J_AS_GENERATOR, out);
    if (a[0].tag != WK_J_DICT)
        return wk_j_fail(vm, "items wants a dict, not a %s", wk_j_type(a[0]));
    return wk_j_pairs(vm, a[0], WK_J_AS_GENERATOR, out);
}

ROW(f_list) {
    (void)c;
    return wk_j_to_list(vm, a[0], WK_J_AS_LIST, out);
}

ROW(f_join) { /* d, attribute */
    static const wk_jstr none = {.p = ""};
    const wk_jstr *glue = &none, *s;
    wk_jiter it;
    wk_jv v;
    bool more = true;
    (void)c;
    if (a[1].tag != WK_J_MISSING && !text_of(vm, a[1], &glue)) return false;
    wk_jpad *p = wk_j_iter(vm, &it, a[0]) ? wk_j_pad(vm) : NULL;
    if (!p) return false;
    for (bool first = true;; first = false) {
        if (!wk_j_next(vm, &it, &v, &more)) return false;
        if (!more) return wk_j_pad_done(vm, p, out);
        if (is_given(a[2]) && !attribute_of(vm, v, a[2], &v)) return false;
        if (!first && !wk_j_put_str(vm, p, glue)) return false;
        if (!text_of(vm, v, &s) || !wk_j_put_str(vm, p, s)) return false;
    }
}

ROW(f_first) {
    wk_jiter it;
    bool more;
    (void)c;
    *out = wk_j_undef();
    return wk_j_iter(vm, &it, a[0]) && wk_j_next(vm, &it, out, &more);
}
ROW(f_last) {
    wk_jv l;
    (void)c;
    *out = wk_j_undef();
    if (!wk_j_to_list(vm, a[0], WK_J_AS_LIST, &l)) return false;
    if (l.u.list->n) *out = l.u.list->v[l.u.list->n - 1];
    return true;
}
ROW(f_reverse) {
    const wk_jv at[3] = {wk_j_none(), wk_j_none(), wk_j_int(-1)};
    wk_jv l = a[0];
    (void)c;
    if (l.tag == WK_J_STR) return wk_j_part(vm, l, at, out);
    if (!wk_j_to_list(vm, l, WK_J_AS_LIST, &l) || !wk_j_part(vm, l, at, out)) return false;
    out->kind = WK_J_AS_GENERATOR;
    return true;
}
ROW(f_sum) { /* attribute, start */
    wk_jiter it;
    wk_jv v;
    bool more = true;
    (void)c;
    *out = a[2].tag == WK_J_MISSING ? wk_j_int(0) : a[2];
    if (!wk_j_iter(vm, &it, a[0])) return false;
    for (;;) {
        if (!wk_j_next(vm, &it, &v, &more)) return false;
        if (!more) return true;
        if (is_given(a[1]) && !attribute_of(vm, v, a[1], &v)) return false;
        if (!wk_j_math(vm, WK_J_ADD, *out, v, out)) return false;
    }
}

static bool extreme(wk_jvm *vm, const wk_jv *a, int sign,
                    wk_jv *out) { /* case_sensitive, attribute */
    wk_jv l, *key;
    size_t best = 0;
    *out = wk_j_undef();
    if (!wk_j_to_list(vm, a[0], WK_J_AS_LIST, &l) ||
        !sort_keys(vm, l.u.list, a[2], yes(a[1]), &key))
        return false;
    for (size_t i = 1; i < l.u.list->n; i++) {
        int order;
        if (!wk_j_order(vm, key[i], key[best], &order)) return false;
        if (order * sign > 0) best = i;
    }
    if (l.u.list->n) *out = l.u.list->v[best];
    return true;
}
ROW(f_min) {
    (void)c;
    return extreme(vm, a, -1, out);
}
ROW(f_max) {
    (void)c;
    return extreme(vm, a, 1, out);
}

ROW(f_unique) { /* case_sensitive, attribute */
    wk_jv l, seen, *key, v;
    (void)c;
    if (!wk_j_to_list(vm, a[0], WK_J_AS_LIST, &l) ||
        !sort_keys(vm, l.u.list, a[2], yes(a[1]), &key))
        return false;
    if (!wk_j_dict(vm, &seen) || !wk_j_list(vm, WK_J_AS_GENERATOR, out)) return false;
    for (size_t i = 0; i < l.u.list->n; i++) {
        if (wk_j_dict_get(vm, seen.u.dict, key[i], &v)) continue;
        if (!wk_j_dict_put(vm, seen.u.dict, key[i], wk_j_none())) return false;
        if (!wk_j_append(vm, out->u.list, l.u.list->v[i])) return false;
    }
    return true;
}

/* The rest of a call as a call of its own: v, then the arguments from `from` on. */
static bool call_with(wk_jvm *vm, const wk_jrow *row, wk_jv v, const wk_jcall *c, size_t from,
                      wk_jv *out) {
    wk_jv arg[72]; /* more than a call can have */
    wk_jcall inner = {.v = arg, .n = 1, .kw = c->kw, .kw_name = c->kw_name, .n_kw = c->n_kw};
    arg[0] = v;
    for (size_t i = from; i < c->n && inner.n < WK_COUNT(arg); i++) arg[inner.n++] = c->v[i];
    if (!wk_j_enter(vm)) return false;
    const bool ok = wk_j_charge(vm, 0) && wk_j_call_row(vm, row, &inner, out);
    wk_j_leave(vm);
    return ok;
}

static const wk_jrow *named_row(wk_jvm *vm, wk_jv name, bool is_test) {
    const char *what = is_test ? "test" : "filter";
    if (name.tag != WK_J_STR || name.u.s->n == 0) {
        (void)wk_j_fail(vm, "the name of a %s is missing", what); /* always false */
        return NULL;
    }
    const wk_str text = wk_j_text(name.u.s);
    const wk_jrow *row = is_test ? wk_j_find_test(text) : wk_j_find_filter(text);
    if (!row) (void)wk_j_fail(vm, "unknown %s '%s'", what, wk_show(text).text); /* always false */
    return row;
}

static const wk_jv *keyword(const wk_jvm *vm, const wk_jcall *c, const char *name) {
    for (size_t k = 0; k < c->n_kw; k++)
        if (wk_str_is(wk_j_text(vm->t->name[c->kw_name[k]].u.s), name)) return &c->kw[k];
    return NULL;
}

/* map('filter', ...) or map(attribute='x', default=y). What counts as false, none too, gives nothing. */
ROW(f_map) {
    wk_jiter it;
    wk_jv v;
    bool more = true;
    if (!wk_j_truth(a[0])) return wk_j_list(vm, WK_J_AS_GENERATOR, out);
    const wk_jv *attribute = c->n == 1 ? keyword(vm, c, "attribute") : NULL,
                *other = keyword(vm, c, "default");
    const wk_jrow *row = attribute ? NULL : named_row(vm, c->n > 1 ? c->v[1] : wk_j_none(), false);
    if ((!attribute && !row) || !wk_j_iter(vm, &it, a[0]) || !wk_j_list(vm, WK_J_AS_GENERATOR, out))
        return false;
    for (;;) {
        if (!wk_j_next(vm, &it, &v, &more)) return false;
        if (!more) return true;
        if (attribute && !attribute_or(vm, v, *attribute, other, &v)) return false;
        if (row && !call_with(vm, row, v, c, 2, &v)) return false;
        if (!wk_j_append(vm, out->u.list, v)) return false;
    }
}

/* select and reject, with attr: over an attribute named first. The test, if any, comes next. */
static bool choose(wk_jvm *vm, const wk_jcall *c, bool attr, bool keep, wk_jv *out) {
    const size_t at = attr ? 2 : 1;
    wk_jiter it;
    wk_jv v, answer;
    bool more = true;
    if (!wk_j_truth(c->v[0])) return wk_j_list(vm, WK_J_AS_GENERATOR, out);
    const wk_jrow *row = c->n > at ? named_row(vm, c->v[at], true) : NULL;
    if (vm->rc || !wk_j_iter(vm, &it, c->v[0]) || !wk_j_list(vm, WK_J_AS_GENERATOR, out))
        return false;
    for (;;) {
        if (!wk_j_next(vm, &it, &v, &more)) return false;
        if (!more) return true;
        answer = v;
        if (attr && !attribute_of(vm, v, c->v[1], &answer)) return false;
        if (row && !call_with(vm, row, answer, c, at + 1, &answer)) return false;
        if (wk_j_truth(answer) == keep && !wk_j_append(vm, out->u.list, v)) return false;
    }
}

ROW(f_select) {
    (void)a;
    return choose(vm, c, false, true, out);
}
ROW(f_reject) {
    (void)a;
    return choose(vm, c, false, false, out);
}
ROW(f_selectattr) {
    (void)a;
    return choose(vm, c, true, true, out);
}
ROW(f_rejectattr) {
    (void)a;
    return choose(vm, c, true, false, out);
}

const wk_jrow *wk_j_find_filter(wk_str name) {
    static const wk_jrow rows[] = {
        {"tojson", wk_j_tojson, 0, false, {"ensure_ascii", "indent", "separators", "sort_keys"}},
        {"from_json", wk_j_from_json, 0, false, {NULL}},
        {"string", f_string, 0, false, {NULL}},
        {"safe", f_safe, 0, false, {NULL}},
        {"upper", f_upper, 0, false, {NULL}},
        {"lower", f_lower, 0, false, {NULL}},
        {"title", f_title, 0, false, {NULL}},
        {"capitalize", f_capitalize, 0, false, {NULL}},
        {"trim", f_trim, 0, false, {"chars"}},
        {"replace", f_replace, 2, false, {"old", "new", "count"}},
        {"escape", f_escape, 0, false, {NULL}},
        {"e", f_escape, 0, false, {NULL}},
        {"indent", f_indent, 0, false, {"width", "first", "blank"}},
        {"default", f_default, 0, false, {"default_value", "boolean"}},
        {"d", f_default, 0, false, {"default_value", "boolean"}},
        {"length", f_length, 0, false, {NULL}},
        {"count", f_length, 0, false, {NULL}},
        {"int", f_int, 0, false, {"default"}},
        {"float", f_float, 0, false, {"default"}},
        {"abs", f_abs, 0, false, {NULL}},
        {"sort", f_sort, 0, false, {"reverse", "case_sensitive", "attribute"}},
        {"dictsort", f_dictsort, 0, false, {"case_sensitive", "by", "reverse"}},
        {"items", f_items, 0, false, {NULL}},
        {"list", f_list, 0, false, {NULL}},
        {"join", f_join, 0, false, {"d", "attribute"}},
        {"first", f_first, 0, false, {NULL}},
        {"last", f_last, 0, false, {NULL}},
        {"reverse", f_reverse, 0, false, {NULL}},
        {"sum", f_sum, 0, false, {"attribute", "start"}},
        {"min", f_min, 0, false, {"case_sensitive", "attribute"}},
        {"max", f_max, 0, false, {"case_sensitive", "attribute"}},
        {"unique", f_unique, 0, false, {"case_sensitive", "attribute"}},
        {"map", f_map, 0, true, {NULL}},
        {"select", f_select, 0, true, {NULL}},
        {"reject", f_reject, 0, true, {NULL}},
        {"selectattr", f_selectattr, 1, true, {NULL}},
        {"rejectattr", f_rejectattr, 1, true, {NULL}},
        {NULL, NULL, 0, false, {NULL}},
    };
    return wk_j_find_row(rows, name);
}

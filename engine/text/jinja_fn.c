/* jinja_fn.c: methods of dicts and lists, functions, tests. */
#include <stdio.h>
#include <string.h>

#include "engine/text/jinja_val.h"

#define ROW(name) static bool name(wk_jvm *vm, const wk_jv *a, const wk_jcall *c, wk_jv *out)

/* ---- methods of dicts and lists ---------------------------------------------------------------- */

ROW(d_get) {
    (void)c;
    *out = a[2].tag == WK_J_MISSING ? wk_j_none() : a[2];
    if (!wk_j_can_be_key(a[1]) && a[1].tag != WK_J_UNDEF)
        return wk_j_fail(vm, "a %s cannot be the key of a dict", wk_j_type(a[1]));
    (void)wk_j_dict_get(vm, a[0].u.dict, a[1], out); /* absent: the default stays */
    return true;
}
ROW(d_items) {
    (void)c;
    return wk_j_pairs(vm, a[0], WK_J_AS_ITEMS, out);
}
ROW(d_keys) {
    (void)c;
    return wk_j_to_list(vm, a[0], WK_J_AS_KEYS, out);
}
ROW(d_values) {
    (void)c;
    if (!wk_j_list(vm, WK_J_AS_VALUES, out)) return false;
    for (uint32_t i = 0; i < a[0].u.dict->n; i++) {
        const wk_jslot *s = &a[0].u.dict->slot[i];
        if (s->key.tag == WK_J_MISSING) continue;
        if (!wk_j_charge(vm, 0) || !wk_j_append(vm, out->u.list, s->value)) return false;
    }
    return true;
}
ROW(d_pop) {
    (void)c;
    if (wk_j_dict_pop(vm, a[0].u.dict, a[1], out)) return true;
    *out = a[2];
    return a[2].tag != WK_J_MISSING || wk_j_fail(vm, "pop does not find its key");
}
static bool put_all(wk_jvm *vm, wk_jdict *to, const wk_jdict *from) {
    for (uint32_t i = 0; i < from->n; i++) {
        if (from->slot[i].key.tag == WK_J_MISSING) continue;
        if (!wk_j_charge(vm, 0) || !wk_j_dict_put(vm, to, from->slot[i].key, from->slot[i].value))
            return false;
    }
    return true;
}
static bool put_keywords(wk_jvm *vm, wk_jdict *to, const wk_jcall *c) {
    for (size_t k = 0; k < c->n_kw; k++)
        if (!wk_j_dict_put(vm, to, vm->t->name[c->kw_name[k]], c->kw[k])) return false;
    return true;
}
ROW(d_update) {
    *out = wk_j_none();
    if (c->n > 2 || (c->n == 2 && a[1].tag != WK_J_DICT))
        return wk_j_fail(vm, "update wants one dict");
    return (c->n < 2 || a[1].u.dict == a[0].u.dict || put_all(vm, a[0].u.dict, a[1].u.dict)) &&
           put_keywords(vm, a[0].u.dict, c);
}
ROW(d_copy) {
    (void)c;
    return wk_j_dict(vm, out) && put_all(vm, out->u.dict, a[0].u.dict);
}

ROW(l_append) {
    (void)c;
    *out = wk_j_none();
    return wk_j_append(vm, a[0].u.list, a[1]);
}
ROW(l_extend) {
    wk_jv more;
    (void)c;
    *out = wk_j_none();
    if (!wk_j_to_list(vm, a[1], WK_J_AS_LIST, &more)) return false;
    for (size_t i = 0; i < more.u.list->n; i++)
        if (!wk_j_append(vm, a[0].u.list, more.u.list->v[i])) return false;
    return true;
}
ROW(l_pop) {
    wk_jlist *l = a[0].u.list;
    int64_t i = -1;
    (void)c;
    if (a[1].tag != WK_J_MISSING && !wk_j_index(a[1], &i))
        return wk_j_fail(vm, "pop wants a number, not a %s", wk_j_type(a[1]));
    if (i < 0) i += (int64_t)l->n;
    if (i < 0 || i >= (int64_t)l->n) return wk_j_fail(vm, "pop from a list of %zu", l->n);
    *out = l->v[i];
    const size_t after = l->n - 1 - (size_t)i;
    if (!wk_j_charge(vm, after * sizeof(wk_jv))) return false;
    memmove(l->v + i, l->v + i + 1, after * sizeof(wk_jv));
    l->n--;
    return true;
}
ROW(l_insert) {
    wk_jlist *l = a[0].u.list;
    int64_t i = 0;
    (void)c;
    *out = wk_j_none();
    if (!wk_j_index(a[1], &i))
        return wk_j_fail(vm, "insert wants a number, not a %s", wk_j_type(a[1]));
    if (i < 0) i += (int64_t)l->n;
    const size_t at = i < 0 ? 0 : i > (int64_t)l->n ? l->n : (size_t)i;
    const size_t after = l->n - at;
    if (!wk_j_charge(vm, after * sizeof(wk_jv)) || !wk_j_append(vm, l, a[2])) return false;
    memmove(l->v + at + 1, l->v + at, after * sizeof(wk_jv));
    l->v[at] = a[2];
    return true;
}
static bool find_in(wk_jvm *vm, const wk_jlist *l, wk_jv what, int64_t *first, int64_t *n) {
    *first = -1;
    *n = 0;
    for (size_t i = 0; i < l->n; i++) {
        bool equal;
        if (!wk_j_equal(vm, l->v[i], what, &equal)) return false;
        if (equal && (*n)++ == 0) *first = (int64_t)i;
    }
    return true;
}
ROW(l_index) {
    int64_t i, n;
    (void)c;
    if (!find_in(vm, a[0].u.list, a[1], &i, &n)) return false;
    *out = wk_j_int(i);
    return n > 0 || wk_j_fail(vm, "index does not find its value");
}
ROW(l_count) {
    int64_t i, n;
    (void)c;
    if (!find_in(vm, a[0].u.list, a[1], &i, &n)) return false;
    *out = wk_j_int(n);
    return true;
}

const wk_jrow *wk_j_find_method(wk_jv self, wk_str name) {
    static const wk_jrow dict[] = {
        {"get", d_get, 1, false, {"key", "default"}}, {"items", d_items, 0, false, {NULL}},
        {"keys", d_keys, 0, false, {NULL}},           {"values", d_values, 0, false, {NULL}},
        {"pop", d_pop, 1, false, {"key", "default"}}, {"update", d_update, 0, true, {NULL}},
        {"copy", d_copy, 0, false, {NULL}},           {NULL, NULL, 0, false, {NULL}},
    };
    static const wk_jrow list[] = {
        {"index", l_index, 1, false, {"value"}},
        {"count", l_count, 1, false, {"value"}},
        {"append", l_append, 1, false, {"object"}}, /* from here on: not for tuples */
        {"pop", l_pop, 0, false, {"index"}},
        {"extend", l_extend, 1, false, {"iterable"}},
        {"insert", l_insert, 2, false, {"index", "object"}},
        {NULL, NULL, 0, false, {NULL}},
    };
    if (name.n == 0) return NULL;
    if (self.tag == WK_J_STR) return wk_j_find_row(wk_j_str_rows, name);
    if (self.tag == WK_J_DICT) return wk_j_find_row(dict, name);
    if (self.tag != WK_J_LIST || self.kind > WK_J_AS_TUPLE) return NULL;
    const wk_jrow *row = wk_j_find_row(list, name);
    return row && self.kind == WK_J_AS_TUPLE && row - list >= 2 ? NULL : row;
}

/* ---- functions --------------------------------------------------------------------------------- */

ROW(g_namespace) {
    (void)a;
    if (c->n > 2 || (c->n == 2 && c->v[1].tag != WK_J_DICT))
        return wk_j_fail(vm, "namespace wants one dict");
    if (!wk_j_dict(vm, out) || (c->n == 2 && !put_all(vm, out->u.dict, c->v[1].u.dict)))
        return false;
    out->tag = WK_J_SPACE;
    return put_keywords(vm, out->u.dict, c);
}
ROW(g_dict) {
    const bool ok = g_namespace(vm, a, c, out);
    out->tag = WK_J_DICT;
    return ok;
}
ROW(g_raise_exception) {
    const wk_jstr *s;
    (void)c;
    (void)out;
    return wk_j_to_str(vm, a[1], &s) && wk_j_fail(vm, "raised: %s", wk_show(wk_j_text(s)).text);
}

/* n with step > 0 or < 0 from begin to end, without overflow. */
static bool range_length(wk_jvm *vm, wk_jrange *r, int64_t end) {
    uint64_t gap = 0, step = r->step > 0 ? (uint64_t)r->step : 0 - (uint64_t)r->step;
    if (r->step > 0 && end > r->begin) gap = (uint64_t)end - (uint64_t)r->begin;
    if (r->step < 0 && end < r->begin) gap = (uint64_t)r->begin - (uint64_t)end;
    const uint64_t n = gap ? (gap - 1) / step + 1 : 0;
    if (n > (uint64_t)INT64_MAX / step) return wk_j_fail(vm, "a range is too long");
    r->n = (int64_t)n;
    return true;
}
ROW(g_range) {
    int64_t v[3] = {0, 0, 1};
    (void)c;
    const int n = a[2].tag == WK_J_MISSING ? 1 : a[3].tag == WK_J_MISSING ? 2 : 3;
    for (int i = 0; i < n; i++) {
        if (a[i + 1].tag == WK_J_UNDEF) return wk_j_undefined(vm, a[i + 1]);
        if (!wk_j_index(a[i + 1], &v[i]))
            return wk_j_fail(vm, "range wants numbers, not a %s", wk_j_type(a[i + 1]));
    }
    if (v[2] == 0) return wk_j_fail(vm, "range with the step 0");
    wk_jrange *r = (wk_jrange *)wk_j_get(vm, sizeof(*r));
    if (!r) return false;
    *r = (wk_jrange){.begin = n == 1 ? 0 : v[0], .step = v[2]};
    *out = (wk_jv){.tag = WK_J_RANGE, .u.range = r};
    return range_length(vm, r, n == 1 ? v[0] : v[1]);
}

/* Days since 1970-01-01 to year, month (1..12), day (1..31): eras of 400 years that begin in March. */
static void civil(int64_t days, int *year, int *month, int *day) {
    const int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
    const int64_t doe = z - era * 146097,
                  yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), m = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(yoe + era * 400) + (*month <= 2);
}

static int day_of_year(int year, int month, int day) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return before[month - 1] + day + (leap && month > 2);
}

/* One conversion of strftime in UTC and the C locale; "" for one that is not known. */
static void time_field(char out[32], char field, int64_t now) {
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    static const char *const week[] = {"Thursday", "Friday",  "Saturday", "Sunday",
                                       "Monday",   "Tuesday", "Wednesday"};
    const int64_t days = now / 86400 - (now % 86400 < 0), second = now - days * 86400;
    const int hour = (int)(second / 3600), minute = (int)(second / 60 % 60);
    const int weekday = (int)((days % 7 + 7) % 7);
    int y, m, d;
    civil(days, &y, &m, &d);
    out[0] = 0;
    switch (field) {
    case 'Y': (void)snprintf(out, 32, "%d", y); break;
    case 'y': (void)snprintf(out, 32, "%02d", y % 100); break;
    case 'm': (void)snprintf(out, 32, "%02d", m); break;
    case 'd': (void)snprintf(out, 32, "%02d", d); break;
    case 'e': (void)snprintf(out, 32, "%2d", d); break;
    case 'H': (void)snprintf(out, 32, "%02d", hour); break;
    case 'I': (void)snprintf(out, 32, "%02d", (hour + 11) % 12 + 1); break;
    case 'p': (void)snprintf(out, 32, "%s", hour < 12 ? "AM" : "PM"); break;
    case 'M': (void)snprintf(out, 32, "%02d", minute); break;
    case 'S': (void)snprintf(out, 32, "%02d", (int)(second % 60)); break;
    case 'j': (void)snprintf(out, 32, "%03d", day_of_year(y, m, d)); break;
    case 'B': (void)snprintf(out, 32, "%s", months[m - 1]); break;
    case 'b': (void)snprintf(out, 32, "%.3s", months[m - 1]); break;
    case 'A': (void)snprintf(out, 32, "%s", week[weekday]); break;
    case 'a': (void)snprintf(out, 32, "%.3s", week[weekday]); break;
    case 'F': (void)snprintf(out, 32, "%d-%02d-%02d", y, m, d); break;
    case 'T': (void)snprintf(out, 32, "%02d:%02d:%02d", hour, minute, (int)(second % 60)); break;
    case 'Z': (void)snprintf(out, 32, "UTC"); break;
    case '%': (void)snprintf(out, 32, "%%"); break;
    default: break;
    }
}

bool wk_j_time(wk_buf *out, wk_str format, int64_t now) {
    char field[32];
    for (size_t i = 0; i < format.n; i++) {
        if (format.p[i] != '%' || i + 1 == format.n) {
            (void)wk_buf_addc(out, format.p[i]); /* failure stays in out */
            continue;
        }
        time_field(field, format.p[++i], now);
        if (!field[0]) return false;
        (void)wk_buf_adds(out, field); /* as above */
    }
    return true;
}

ROW(g_strftime_now) {
    wk_buf text;
    (void)c;
    if (a[1].tag != WK_J_STR)
        return wk_j_fail(vm, "strftime_now wants a str, not a %s", wk_j_type(a[1]));
    wk_buf_init(&text, 4096);
    const bool known = wk_j_time(&text, wk_j_text(a[1].u.s), vm->budget->now);
    bool ok = known && !text.failed;
    if (!ok)
        (void)wk_j_fail(vm, "strftime_now cannot write the format '%s'",
                        wk_show(wk_j_text(a[1].u.s)).text);
    ok = ok && wk_j_str_new(vm, wk_buf_str(&text), a[1].u.s->user || a[1].u.s->mask, out);
    wk_buf_fini(&text);
    return ok;
}

const wk_jrow *wk_j_find_global(wk_str name) {
    static const wk_jrow rows[] = {
        {"namespace", g_namespace, 0, true, {NULL}},
        {"dict", g_dict, 0, true, {NULL}},
        {"raise_exception", g_raise_exception, 1, false, {"message"}},
        {"range", g_range, 1, false, {"start", "stop", "step"}},
        {"strftime_now", g_strftime_now, 1, false, {"format"}},
        {NULL, NULL, 0, false, {NULL}},
    };
    return name.n ? wk_j_find_row(rows, name) : NULL;
}

/* ---- tests ------------------------------------------------------------------------------------- */

#define ANSWER(name, answer)                                                                       \
    ROW(name) {                                                                                    \
        (void)vm;                                                                                  \
        (void)c;                                                                                   \
        *out = wk_j_bool(answer);                                                                  \
        return true;                                                                               \
    }
ANSWER(t_defined, a[0].tag != WK_J_UNDEF)
ANSWER(t_undefined, a[0].tag == WK_J_UNDEF)
ANSWER(t_none, a[0].tag == WK_J_NONE)
ANSWER(t_string, a[0].tag == WK_J_STR)
ANSWER(t_boolean, a[0].tag == WK_J_BOOL)
ANSWER(t_true, a[0].tag == WK_J_BOOL && a[0].u.b)
ANSWER(t_false, a[0].tag == WK_J_BOOL && !a[0].u.b)
ANSWER(t_integer, a[0].tag == WK_J_INT)
ANSWER(t_float, a[0].tag == WK_J_REAL)
ANSWER(t_number, a[0].tag == WK_J_BOOL || a[0].tag == WK_J_INT || a[0].tag == WK_J_REAL)
ANSWER(t_mapping, a[0].tag == WK_J_DICT)
ANSWER(t_iterable, a[0].tag == WK_J_UNDEF || (a[0].tag >= WK_J_STR && a[0].tag <= WK_J_RANGE))
ANSWER(t_sequence, a[0].tag == WK_J_UNDEF || a[0].tag == WK_J_STR || a[0].tag == WK_J_DICT ||
                       a[0].tag == WK_J_RANGE ||
                       (a[0].tag == WK_J_LIST && a[0].kind <= WK_J_AS_TUPLE))
ANSWER(t_callable, a[0].tag == WK_J_MACRO || a[0].tag == WK_J_FN || a[0].tag == WK_J_BOUND)
#undef ANSWER

#define COMPARE(name, op)                                                                          \
    ROW(name) {                                                                                    \
        bool holds;                                                                                \
        (void)c;                                                                                   \
        if (!wk_j_compare(vm, op, a[0], a[1], &holds)) return false;                               \
        *out = wk_j_bool(holds);                                                                   \
        return true;                                                                               \
    }
COMPARE(t_eq, WK_J_EQ)
COMPARE(t_ne, WK_J_NE)
COMPARE(t_lt, WK_J_LT)
COMPARE(t_le, WK_J_LE)
COMPARE(t_gt, WK_J_GT)
COMPARE(t_ge, WK_J_GE)
COMPARE(t_in, WK_J_IN)
#undef COMPARE

static bool divisible(wk_jvm *vm, wk_jv v, wk_jv by, int64_t rest, wk_jv *out) {
    bool equal;
    wk_jv r;
    if (!wk_j_math(vm, WK_J_MOD, v, by, &r) || !wk_j_equal(vm, r, wk_j_int(rest), &equal))
        return false;
    *out = wk_j_bool(equal);
    return true;
}
ROW(t_odd) {
    (void)c;
    return divisible(vm, a[0], wk_j_int(2), 1, out);
}
ROW(t_even) {
    (void)c;
    return divisible(vm, a[0], wk_j_int(2), 0, out);
}
ROW(t_divisibleby) {
    (void)c;
    return divisible(vm, a[0], a[1], 0, out);
}

const wk_jrow *wk_j_find_test(wk_str name) {
    static const wk_jrow rows[] = {
        {"defined", t_defined, 0, false, {NULL}},
        {"undefined", t_undefined, 0, false, {NULL}},
        {"none", t_none, 0, false, {NULL}},
        {"string", t_string, 0, false, {NULL}},
        {"boolean", t_boolean, 0, false, {NULL}},
        {"true", t_true, 0, false, {NULL}},
        {"false", t_false, 0, false, {NULL}},
        {"integer", t_integer, 0, false, {NULL}},
        {"float", t_float, 0, false, {NULL}},
        {"number", t_number, 0, false, {NULL}},
        {"mapping", t_mapping, 0, false, {NULL}},
        {"iterable", t_iterable, 0, false, {NULL}},
        {"sequence", t_sequence, 0, false, {NULL}},
        {"callable", t_callable, 0, false, {NULL}},
        {"equalto", t_eq, 1, false, {"other"}},
        {"eq", t_eq, 1, false, {"other"}},
        {"==", t_eq, 1, false, {"other"}},
        {"ne", t_ne, 1, false, {"other"}},
        {"!=", t_ne, 1, false, {"other"}},
        {"lt", t_lt, 1, false, {"other"}},
        {"lessthan", t_lt, 1, false, {"other"}},
        {"<", t_lt, 1, false, {"other"}},
        {"le", t_le, 1, false, {"other"}},
        {"<=", t_le, 1, false, {"other"}},
        {"gt", t_gt, 1, false, {"other"}},
        {"greaterthan", t_gt, 1, false, {"other"}},
        {">", t_gt, 1, false, {"other"}},
        {"ge", t_ge, 1, false, {"other"}},
        {">=", t_ge, 1, false, {"other"}},
        {"in", t_in, 1, false, {"seq"}},
        {"odd", t_odd, 0, false, {NULL}},
        {"even", t_even, 0, false, {NULL}},
        {"divisibleby", t_divisibleby, 1, false, {"num"}},
        {NULL, NULL, 0, false, {NULL}},
    };
    return wk_j_find_row(rows, name);
}

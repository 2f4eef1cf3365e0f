/* jinja_ops.c: attributes, items, slices, arithmetic and comparison, by Python's rules. */
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/jinja_val.h"

/* ---- undefined --------------------------------------------------------------------------------- */

bool wk_j_undefined(wk_jvm *vm, wk_jv v) {
    const wk_shown name = wk_show(v.u.s ? wk_j_text(v.u.s) : WK_STR(""));
    const char *owner = v.kind ? wk_j_type((wk_jv){.tag = (uint8_t)(v.kind - 1)}) : NULL;
    if (owner && v.u.s) return wk_j_fail(vm, "a %s has no attribute '%s'", owner, name.text);
    if (owner) return wk_j_fail(vm, "a %s has no such element", owner);
    return v.u.s ? wk_j_fail(vm, "'%s' is undefined", name.text)
                 : wk_j_fail(vm, "a value is undefined");
}

static wk_jv absent(wk_jv owner, wk_jv name) {
    wk_jv v = wk_j_undef();
    v.kind = (uint8_t)(owner.tag + 1);
    if (name.tag == WK_J_STR) v.u.s = name.u.s;
    return v;
}

/* ---- attributes -------------------------------------------------------------------------------- */

static bool look_ahead(wk_jvm *vm, wk_jloop *l) {
    return l->has_after || wk_j_next(vm, &l->it, &l->after, &l->has_after);
}

static bool loop_item(wk_jvm *vm, wk_jloop *l, wk_str name, wk_jv *out) {
    if (wk_str_is(name, "previtem")) {
        if (l->has_before) *out = l->before;
        return true;
    }
    if (!look_ahead(vm, l)) return false;
    if (wk_str_is(name, "last"))
        *out = wk_j_bool(!l->has_after);
    else if (l->has_after)
        *out = l->after;
    return true;
}

static bool loop_attr(wk_jvm *vm, wk_jloop *l, wk_str name, wk_jv *out) {
    static const char *const number[] = {"index",  "index0", "revindex", "revindex0",
                                         "length", "depth",  "depth0"};
    const int64_t value[] = {l->index0 + 1,
                             l->index0,
                             l->length - l->index0,
                             l->length - l->index0 - 1,
                             l->length,
                             1,
                             0};
    for (size_t i = 0; i < WK_COUNT(number); i++) {
        if (!wk_str_is(name, number[i])) continue;
        *out = wk_j_int(value[i]);
        return true;
    }
    if (wk_str_is(name, "first")) *out = wk_j_bool(l->index0 == 0);
    if (wk_str_is(name, "previtem") || wk_str_is(name, "nextitem") || wk_str_is(name, "last"))
        return loop_item(vm, l, name, out);
    return true;
}

static bool bound(wk_jvm *vm, wk_jv self, const wk_jrow *row, wk_jv *out) {
    wk_jbound *b = (wk_jbound *)wk_j_get(vm, sizeof(*b));
    if (!b) return false;
    *b = (wk_jbound){self, row};
    *out = (wk_jv){.tag = WK_J_BOUND, .u.bound = b};
    return true;
}

bool wk_j_attr(wk_jvm *vm, wk_jv v, wk_jv name, wk_jv *out) {
    if (v.tag == WK_J_UNDEF) return wk_j_undefined(vm, v);
    const wk_jrow *row = wk_j_find_method(v, wk_j_text(name.u.s));
    if (row) return bound(vm, v, row, out);
    *out = absent(v, name);
    if (v.tag == WK_J_LOOP) return loop_attr(vm, v.u.loop, wk_j_text(name.u.s), out);
    if (v.tag == WK_J_DICT || v.tag == WK_J_SPACE)
        (void)wk_j_dict_get(vm, v.u.dict, name, out); /* else absent */
    return true;
}

/* ---- items and slices -------------------------------------------------------------------------- */

/* Byte at which code point i of s begins, s.n if there is none. */
static size_t offset_of(const wk_jstr *s, size_t i) {
    size_t at = 0;
    while (at < s->n && (i > 0 || ((uint8_t)s->p[at] & 0xc0u) == 0x80u)) {
        at++;
        if (at < s->n && ((uint8_t)s->p[at] & 0xc0u) != 0x80u) i--;
    }
    return at;
}

static bool str_item(wk_jvm *vm, const wk_jstr *s, int64_t i, wk_jv *out) {
    const size_t begin = offset_of(s, (size_t)i);
    const wk_jstr rest = {.p = s->p + begin, .n = s->n - begin};
    return wk_j_slice(vm, s, begin, begin + offset_of(&rest, 1), out);
}

static bool index_item(wk_jvm *vm, wk_jv v, int64_t i, wk_jv *out) {
    int64_t n;
    if (!wk_j_length(vm, v, &n)) return false;
    if (i < 0) i += n;
    if (i < 0 || i >= n) return true;
    if (v.tag == WK_J_STR && !wk_j_charge(vm, v.u.s->n * 2)) return false;
    if (v.tag == WK_J_STR) {
        if (!str_item(vm, v.u.s, i, out)) return false;
        out->kind = v.kind;
        return true;
    }
    if (v.tag == WK_J_RANGE)
        *out = wk_j_int(v.u.range->begin + i * v.u.range->step);
    else
        *out = v.u.list->v[i];
    return true;
}

static bool is_sequence(wk_jv v) {
    return v.tag == WK_J_STR || v.tag == WK_J_RANGE ||
           (v.tag == WK_J_LIST && v.kind <= WK_J_AS_TUPLE);
}

bool wk_j_item(wk_jvm *vm, wk_jv v, wk_jv key, wk_jv *out) {
    int64_t i;
    if (v.tag == WK_J_UNDEF) return wk_j_undefined(vm, v);
    *out = absent(v, key);
    if (v.tag == WK_J_DICT && wk_j_dict_get(vm, v.u.dict, key, out)) return true;
    if (is_sequence(v) && wk_j_index(key, &i)) return index_item(vm, v, i, out);
    return key.tag != WK_J_STR || wk_j_attr(vm, v, key, out);
}

typedef struct span {
    int64_t begin, step, n;
} span;

static int64_t clamp(int64_t i, int64_t n, bool back) {
    if (i < 0) i += n;
    if (i < 0) return back ? -1 : 0;
    if (i >= n) return back ? n - 1 : n;
    return i;
}

static bool slice_span(wk_jvm *vm, const wk_jv bound_at[3], int64_t n, span *s) {
    int64_t value[3] = {0, 0, 1};
    bool has[3];
    for (int i = 0; i < 3; i++) {
        has[i] = bound_at[i].tag != WK_J_NONE;
        if (bound_at[i].tag == WK_J_UNDEF) return wk_j_undefined(vm, bound_at[i]);
        if (has[i] && !wk_j_index(bound_at[i], &value[i]))
            return wk_j_fail(vm, "a slice wants numbers, not a %s", wk_j_type(bound_at[i]));
    }
    const int64_t step = value[2];
    if (step == 0) return wk_j_fail(vm, "the step of a slice is 0");
    const bool back = step < 0;
    const int64_t begin = has[0] ? clamp(value[0], n, back) : back ? n - 1 : 0;
    const int64_t end = has[1] ? clamp(value[1], n, back) : back ? -1 : n;
    const int64_t gap = back ? begin - end : end - begin;
    const uint64_t stride = back ? 0 - (uint64_t)step : (uint64_t)step;
    *s = (span){begin, step, gap > 0 ? (int64_t)((uint64_t)(gap - 1) / stride) + 1 : 0};
    return true;
}

static bool str_part(wk_jvm *vm, const wk_jstr *s, const span *at, wk_jv *out) {
    if (at->step == 1 || at->n == 0) {
        const size_t begin = at->n ? offset_of(s, (size_t)at->begin) : 0;
        const wk_jstr rest = {.p = s->p + begin, .n = s->n - begin};
        return wk_j_slice(vm, s, begin, at->n ? begin + offset_of(&rest, (size_t)at->n) : begin,
                          out);
    }
    const size_t n = wk_utf8_count(wk_j_text(s));
    size_t *offset = (size_t *)wk_j_get_n(vm, n + 1, sizeof(size_t));
    wk_jpad *p = offset ? wk_j_pad(vm) : NULL;
    if (!p) return false;
    for (size_t i = 0, k = 0; i < s->n; i++)
        if (((uint8_t)s->p[i] & 0xc0u) != 0x80u) offset[k++] = i;
    offset[n] = s->n;
    for (int64_t k = 0; k < at->n; k++) {
        const size_t i = (size_t)(at->begin + k * at->step);
        if (!wk_j_put_part(vm, p, s, offset[i], offset[i + 1])) return false;
    }
    return wk_j_pad_done(vm, p, out);
}

static bool list_part(wk_jvm *vm, wk_jv v, const span *at, wk_jv *out) {
    if (!wk_j_list(vm, v.kind, out)) return false;
    for (int64_t k = 0; k < at->n; k++)
        if (!wk_j_charge(vm, 16) ||
            !wk_j_append(vm, out->u.list, v.u.list->v[at->begin + k * at->step]))
            return false;
    return true;
}

bool wk_j_part(wk_jvm *vm, wk_jv v, const wk_jv bound_at[3], wk_jv *out) {
    int64_t n;
    span at = {0};
    if (v.tag == WK_J_UNDEF) return wk_j_undefined(vm, v);
    if (!is_sequence(v)) return wk_j_fail(vm, "a %s cannot be sliced", wk_j_type(v));
    if (!wk_j_length(vm, v, &n) || !slice_span(vm, bound_at, n, &at)) return false;
    if (v.tag == WK_J_STR && !wk_j_charge(vm, v.u.s->n * 2)) return false;
    if (v.tag == WK_J_STR) {
        if (!str_part(vm, v.u.s, &at, out)) return false;
        out->kind = v.kind;
        return true;
    }
    if (v.tag == WK_J_LIST) return list_part(vm, v, &at, out);
    const wk_jrange *r = v.u.range;
    wk_jrange *part = (wk_jrange *)wk_j_get(vm, sizeof(*part));
    if (!part) return false;
    *part = (wk_jrange){.n = at.n, .step = r->step, .begin = r->begin};
    if (at.n) part->begin = r->begin + at.begin * r->step;
    if (at.n > 1) part->step = r->step * at.step;
    *out = (wk_jv){.tag = WK_J_RANGE, .u.range = part};
    return true;
}

/* ---- arithmetic -------------------------------------------------------------------------------- */

static bool too_big(wk_jvm *vm) { return wk_j_fail(vm, "a number does not fit 64 bits"); }

static bool int_pow(wk_jvm *vm, int64_t x, int64_t n, wk_jv *out) {
    int64_t r = 1;
    for (;;) {
        if ((n & 1) && __builtin_mul_overflow(r, x, &r)) return too_big(vm);
        n >>= 1;
        if (n == 0) break;
        if (__builtin_mul_overflow(x, x, &x)) return too_big(vm);
    }
    *out = wk_j_int(r);
    return true;
}

static bool int_math(wk_jvm *vm, int op, int64_t x, int64_t y, wk_jv *out) {
    int64_t r = 0;
    if (op >= WK_J_DIV && op <= WK_J_MOD && y == 0) return wk_j_fail(vm, "a division by zero");
    if (op == WK_J_ADD && __builtin_add_overflow(x, y, &r)) return too_big(vm);
    if (op == WK_J_SUB && __builtin_sub_overflow(x, y, &r)) return too_big(vm);
    if (op == WK_J_MUL && __builtin_mul_overflow(x, y, &r)) return too_big(vm);
    if (op == WK_J_POW) return int_pow(vm, x, y, out);
    if (op == WK_J_FLOORDIV) {
        if (y == -1 && __builtin_sub_overflow((int64_t)0, x, &r)) return too_big(vm);
        if (y != -1) r = x / y - ((x % y != 0) && ((x < 0) != (y < 0)));
    }
    if (op == WK_J_MOD && y != -1) {
        r = x % y;
        if (r != 0 && ((r < 0) != (y < 0))) r += y;
    }
    *out = wk_j_int(r);
    return true;
}

static double floor_of(double x) {
    if (!(x > -4503599627370496.0 && x < 4503599627370496.0))
        return x; /* 2^52: whole already, or NaN */
    const double t = (double)(int64_t)x;
    return t > x ? t - 1 : t;
}

static bool real_pow(wk_jvm *vm, double x, double y, wk_jv *out) {
    if (y < -2000 || y > 2000 || floor_of(y) < y)
        return wk_j_fail(vm, "a power wants a whole exponent up to 2000");
    double r = 1;
    for (int n = (int)(y < 0 ? -y : y); n > 0; n--) r *= x;
    *out = wk_j_real(y < 0 ? 1 / r : r);
    return true;
}

static bool real_math(wk_jvm *vm, int op, double x, double y, wk_jv *out) {
    double r = 0;
    if (op >= WK_J_DIV && op <= WK_J_MOD && !(y < 0) && !(y > 0))
        return wk_j_fail(vm, "a division by zero");
    switch (op) {
    case WK_J_ADD: r = x + y; break;
    case WK_J_SUB: r = x - y; break;
    case WK_J_MUL: r = x * y; break;
    case WK_J_DIV: r = x / y; break;
    case WK_J_FLOORDIV: r = floor_of(x / y); break;
    case WK_J_MOD: r = x - floor_of(x / y) * y; break;
    default: return real_pow(vm, x, y, out);
    }
    *out = wk_j_real(r);
    return true;
}

static bool repeat(wk_jvm *vm, wk_jv v, int64_t times, wk_jv *out) {
    if (v.tag == WK_J_STR) {
        wk_jpad *p = wk_j_pad(vm);
        if (!p) return false;
        for (int64_t i = 0; v.u.s->n && i < times; i++)
            if (!wk_j_put_str(vm, p, v.u.s)) return false;
        return wk_j_pad_done(vm, p, out);
    }
    if (!wk_j_list(vm, v.kind, out)) return false;
    for (int64_t i = 0; v.u.list->n && i < times; i++)
        for (size_t k = 0, n = v.u.list->n; k < n; k++)
            if (!wk_j_charge(vm, 16) || !wk_j_append(vm, out->u.list, v.u.list->v[k])) return false;
    return true;
}

static bool add_lists(wk_jvm *vm, const wk_jlist *a, const wk_jlist *b, int kind, wk_jv *out) {
    if (!wk_j_list(vm, kind, out) || !wk_j_charge(vm, (a->n + b->n) * sizeof(wk_jv))) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!wk_j_append(vm, out->u.list, a->v[i])) return false;
    for (size_t i = 0; i < b->n; i++)
        if (!wk_j_append(vm, out->u.list, b->v[i])) return false;
    return true;
}

/* Text with text; if one of them is safe, the other is escaped. */
static bool add_text(wk_jvm *vm, wk_jv x, wk_jv y, wk_jv *out) {
    const bool safe = wk_j_is_safe(x) || wk_j_is_safe(y);
    if (safe && !wk_j_is_safe(x) && !wk_j_escape(vm, x.u.s, &x)) return false;
    if (safe && !wk_j_is_safe(y) && !wk_j_escape(vm, y.u.s, &y)) return false;
    if (!wk_j_concat(vm, x.u.s, y.u.s, out)) return false;
    out->kind = safe ? WK_J_SAFE : 0;
    return true;
}

static bool is_plain(wk_jv v) {
    return v.tag == WK_J_STR || (v.tag == WK_J_LIST && v.kind <= WK_J_AS_TUPLE);
}

bool wk_j_math(wk_jvm *vm, int op, wk_jv x, wk_jv y, wk_jv *out) {
    static const char *const sign[] = {"+", "-", "*", "/", "//", "%", "**"};
    int64_t i, j;
    double a, b;
    bool real_a, real_b;
    if (x.tag == WK_J_UNDEF) return wk_j_undefined(vm, x);
    if (y.tag == WK_J_UNDEF) return wk_j_undefined(vm, y);
    if (op == WK_J_ADD && x.tag == WK_J_STR && y.tag == WK_J_STR) return add_text(vm, x, y, out);
    if (op == WK_J_ADD && x.tag == y.tag && x.kind == y.kind && is_plain(x))
        return add_lists(vm, x.u.list, y.u.list, x.kind, out);
    if (op == WK_J_MUL && is_plain(x) && wk_j_index(y, &j)) return repeat(vm, x, j, out);
    if (op == WK_J_MUL && is_plain(y) && wk_j_index(x, &i)) return repeat(vm, y, i, out);
    if (!wk_j_number(x, &i, &a, &real_a) || !wk_j_number(y, &j, &b, &real_b))
        return wk_j_fail(vm, "a %s and a %s have no '%s'", wk_j_type(x), wk_j_type(y), sign[op]);
    if (real_a || real_b || (op == WK_J_DIV && j != 0) || (op == WK_J_POW && j < 0))
        return real_math(vm, op, a, b, out);
    return int_math(vm, op, i, j, out);
}

bool wk_j_compare(wk_jvm *vm, int op, wk_jv x, wk_jv y, bool *holds) {
    int order = 0;
    if (op == WK_J_EQ || op == WK_J_NE) {
        if (!wk_j_equal(vm, x, y, holds)) return false;
        if (op == WK_J_NE) *holds = !*holds;
        return true;
    }
    if (op == WK_J_IN || op == WK_J_NOT_IN) {
        if (!wk_j_contains(vm, y, x, holds)) return false;
        if (op == WK_J_NOT_IN) *holds = !*holds;
        return true;
    }
    if (x.tag == WK_J_UNDEF) return wk_j_undefined(vm, x);
    if (y.tag == WK_J_UNDEF) return wk_j_undefined(vm, y);
    if (!wk_j_order(vm, x, y, &order)) return false;
    if (x.tag == WK_J_REAL || y.tag == WK_J_REAL) { /* NaN is in no order */
        int64_t i;
        double d, e;
        bool real;
        if (wk_j_number(x, &i, &d, &real) && wk_j_number(y, &i, &e, &real) && (d != d || e != e)) {
            *holds = false;
            return true;
        }
    }
    *holds = op == WK_J_LT   ? order < 0
             : op == WK_J_LE ? order <= 0
             : op == WK_J_GT ? order > 0
                             : order >= 0;
    return true;
}

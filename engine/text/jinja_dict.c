/* jinja_dict.c: ordered dicts; equality, order and iteration over all values. */
#include <string.h>

#include "engine/base/hash.h"
#include "engine/base/utf8.h"
#include "engine/text/jinja_val.h"

/* ---- dicts ------------------------------------------------------------------------------------- */

#define SMALL 8u /* up to here a dict is searched from front to back */

bool wk_j_dict(wk_jvm *vm, wk_jv *out) {
    wk_jdict *d = (wk_jdict *)wk_j_get(vm, sizeof(*d));
    *out = (wk_jv){.tag = WK_J_DICT, .u.dict = d};
    return d != NULL;
}

bool wk_j_can_be_key(wk_jv v) { return v.tag >= WK_J_NONE && v.tag <= WK_J_STR; }

/* Equal keys have equal hashes: 1, 1.0 and true are one key, as in Python. */
static uint64_t hash_of(const wk_jvm *vm, wk_jv key) {
    const wk_hash seed = {vm->seed, 0};
    int64_t i;
    double d;
    bool real;
    if (key.tag == WK_J_STR) return wk_hash_bytes(seed, key.u.s->p, key.u.s->n).lo;
    if (!wk_j_number(key, &i, &d, &real)) return 0;
    return wk_hash_bytes(seed, &d, sizeof(d)).lo;
}

static bool same_key(wk_jv a, wk_jv b) {
    int64_t i, j;
    double x, y;
    bool real, real2;
    if (a.tag == WK_J_STR && b.tag == WK_J_STR)
        return wk_str_eq(wk_j_text(a.u.s), wk_j_text(b.u.s));
    if (a.tag == WK_J_NONE || b.tag == WK_J_NONE) return a.tag == b.tag;
    if (!wk_j_number(a, &i, &x, &real) || !wk_j_number(b, &j, &y, &real2)) return false;
    return real || real2 ? !(x < y) && !(x > y) : i == j;
}

/* Slot of key, or d->n. */
static uint32_t dict_find(const wk_jdict *d, wk_jv key, uint64_t hash) {
    if (!d->index) {
        for (uint32_t i = 0; i < d->n; i++)
            if (d->slot[i].hash == hash && same_key(d->slot[i].key, key)) return i;
        return d->n;
    }
    for (uint32_t at = (uint32_t)hash & d->mask; d->index[at]; at = (at + 1) & d->mask) {
        const uint32_t i = d->index[at] - 1;
        if (d->slot[i].hash == hash && same_key(d->slot[i].key, key)) return i;
    }
    return d->n;
}

static void index_add(wk_jdict *d, uint32_t i) {
    uint32_t at = (uint32_t)d->slot[i].hash & d->mask;
    while (d->index[at]) at = (at + 1) & d->mask;
    d->index[at] = i + 1;
}

static bool dict_grow(wk_jvm *vm, wk_jdict *d) {
    const uint32_t room = d->room ? d->room * 2 : 4;
    if (room > UINT32_MAX / 4) return wk_j_fail(vm, "a dict has more than %u members", d->room);
    wk_jslot *slot = (wk_jslot *)wk_j_get_n(vm, room, sizeof(*slot));
    if (!slot || !wk_j_charge(vm, d->n * sizeof(*slot))) return false;
    if (d->n) memcpy(slot, d->slot, d->n * sizeof(*slot));
    d->slot = slot;
    d->room = room;
    if (room <= SMALL) return true;
    d->index = (uint32_t *)wk_j_get_n(vm, (size_t)room * 2, sizeof(uint32_t));
    if (!d->index) return false;
    d->mask = room * 2 - 1;
    for (uint32_t i = 0; i < d->n; i++) index_add(d, i);
    return true;
}

bool wk_j_dict_put(wk_jvm *vm, wk_jdict *d, wk_jv key, wk_jv value) {
    if (!wk_j_can_be_key(key))
        return wk_j_fail(vm, "a %s cannot be the key of a dict", wk_j_type(key));
    const uint64_t hash = hash_of(vm, key);
    uint32_t i = dict_find(d, key, hash);
    if (i == d->n) {
        if (d->n == d->room && !dict_grow(vm, d)) return false;
        d->slot[i] = (wk_jslot){.key = key, .hash = hash};
        d->n++;
        d->live++;
        if (d->index) index_add(d, i);
    }
    d->slot[i].value = value;
    return true;
}

bool wk_j_dict_get(wk_jvm *vm, const wk_jdict *d, wk_jv key, wk_jv *value) {
    if (!wk_j_can_be_key(key)) return false;
    const uint32_t i = dict_find(d, key, hash_of(vm, key));
    if (i == d->n) return false;
    *value = d->slot[i].value;
    return true;
}

/* The slot stays, so that the index needs no repair. */
bool wk_j_dict_pop(wk_jvm *vm, wk_jdict *d, wk_jv key, wk_jv *value) {
    if (!wk_j_can_be_key(key)) return false;
    const uint32_t i = dict_find(d, key, hash_of(vm, key));
    if (i == d->n) return false;
    *value = d->slot[i].value;
    d->slot[i].key = (wk_jv){.tag = WK_J_MISSING};
    d->live--;
    return true;
}

/* ---- equality and order ------------------------------------------------------------------------ */

static bool list_equal(wk_jvm *vm, const wk_jlist *a, const wk_jlist *b, bool *equal) {
    *equal = a->n == b->n;
    for (size_t i = 0; *equal && i < a->n && i < b->n; i++)
        if (!wk_j_equal(vm, a->v[i], b->v[i], equal)) return false;
    return true;
}

static bool dict_equal(wk_jvm *vm, const wk_jdict *a, const wk_jdict *b, bool *equal) {
    *equal = a->live == b->live;
    for (uint32_t i = 0; *equal && i < a->n; i++) {
        wk_jv v;
        if (a->slot[i].key.tag == WK_J_MISSING) continue;
        *equal = wk_j_dict_get(vm, b, a->slot[i].key, &v);
        if (*equal && !wk_j_equal(vm, a->slot[i].value, v, equal)) return false;
    }
    return true;
}

static bool range_equal(const wk_jrange *a, const wk_jrange *b) {
    if (a->n != b->n) return false;
    return a->n == 0 || (a->begin == b->begin && (a->n == 1 || a->step == b->step));
}

static bool nested_equal(wk_jvm *vm, wk_jv a, wk_jv b, bool *equal) {
    if (!wk_j_enter(vm)) return false;
    bool ok = true;
    if (a.tag == WK_J_DICT)
        ok = dict_equal(vm, a.u.dict, b.u.dict, equal);
    else if (a.kind == b.kind && a.kind <= WK_J_AS_TUPLE)
        ok = list_equal(vm, a.u.list, b.u.list, equal);
    else
        *equal = a.u.list == b.u.list;
    wk_j_leave(vm);
    return ok;
}

bool wk_j_equal(wk_jvm *vm, wk_jv a, wk_jv b, bool *equal) {
    int64_t i;
    double d;
    bool real;
    *equal = false;
    if (!wk_j_charge(vm, a.tag == WK_J_STR ? a.u.s->n : 0)) return false;
    if (wk_j_number(a, &i, &d, &real)) {
        *equal = wk_j_number(b, &i, &d, &real) && same_key(a, b) &&
                 !(a.tag == WK_J_REAL && a.u.d != a.u.d);
        return true;
    }
    if (a.tag != b.tag) return true;
    switch (a.tag) {
    case WK_J_UNDEF:
    case WK_J_NONE: *equal = true; return true;
    case WK_J_STR: *equal = same_key(a, b); return true;
    case WK_J_RANGE: *equal = range_equal(a.u.range, b.u.range); return true;
    case WK_J_LIST:
    case WK_J_DICT: return nested_equal(vm, a, b, equal);
    default: *equal = a.u.loop == b.u.loop; return true;
    }
}

static int str_order(const wk_jstr *a, const wk_jstr *b) {
    const size_t n = a->n < b->n ? a->n : b->n;
    const int c = n ? memcmp(a->p, b->p, n) : 0; /* UTF-8 sorts like its code points */
    if (c) return c < 0 ? -1 : 1;
    return (a->n > b->n) - (a->n < b->n);
}

static bool list_order(wk_jvm *vm, const wk_jlist *a, const wk_jlist *b, int *order) {
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        bool equal;
        if (!wk_j_equal(vm, a->v[i], b->v[i], &equal)) return false;
        if (!equal) return wk_j_order(vm, a->v[i], b->v[i], order);
    }
    *order = (a->n > b->n) - (a->n < b->n);
    return true;
}

bool wk_j_order(wk_jvm *vm, wk_jv a, wk_jv b, int *order) {
    int64_t i, j;
    double x, y;
    bool real, real2;
    if (wk_j_number(a, &i, &x, &real) && wk_j_number(b, &j, &y, &real2)) {
        *order = real || real2 ? (x > y) - (x < y) : (i > j) - (i < j);
        return wk_j_charge(vm, 0);
    }
    if (a.tag == WK_J_STR && b.tag == WK_J_STR) {
        *order = str_order(a.u.s, b.u.s);
        return wk_j_charge(vm, a.u.s->n);
    }
    if (a.tag == WK_J_LIST && b.tag == WK_J_LIST && a.kind == b.kind && a.kind <= WK_J_AS_TUPLE) {
        if (!wk_j_enter(vm)) return false;
        const bool ok = list_order(vm, a.u.list, b.u.list, order);
        wk_j_leave(vm);
        return ok;
    }
    return wk_j_fail(vm, "a %s and a %s have no order", wk_j_type(a), wk_j_type(b));
}

static bool str_contains(wk_jvm *vm, const wk_jstr *s, wk_jv what, bool *found) {
    if (what.tag != WK_J_STR)
        return wk_j_fail(vm, "'in' a str wants a str, not a %s", wk_j_type(what));
    *found = what.u.s->n == 0 || memmem(s->p, s->n, what.u.s->p, what.u.s->n);
    return wk_j_charge(vm, s->n);
}

bool wk_j_contains(wk_jvm *vm, wk_jv where, wk_jv what, bool *found) {
    wk_jv v;
    wk_jiter it;
    bool more = true;
    *found = false;
    if (where.tag == WK_J_STR) return str_contains(vm, where.u.s, what, found);
    if (where.tag == WK_J_DICT) {
        if (!wk_j_can_be_key(what) && what.tag != WK_J_UNDEF)
            return wk_j_fail(vm, "a %s cannot be the key of a dict", wk_j_type(what));
        *found = wk_j_dict_get(vm, where.u.dict, what, &v);
        return true;
    }
    if (!wk_j_iter(vm, &it, where)) return false;
    while (!*found) {
        if (!wk_j_next(vm, &it, &v, &more)) return false;
        if (!more) return true;
        if (!wk_j_equal(vm, v, what, found)) return false;
    }
    return true;
}

/* ---- iteration --------------------------------------------------------------------------------- */

bool wk_j_iter(wk_jvm *vm, wk_jiter *it, wk_jv v) {
    *it = (wk_jiter){.of = v};
    switch (v.tag) {
    case WK_J_UNDEF:
    case WK_J_STR:
    case WK_J_LIST:
    case WK_J_DICT:
    case WK_J_RANGE: return true;
    default: return wk_j_fail(vm, "a %s cannot be iterated over", wk_j_type(v));
    }
}

static bool str_next(wk_jvm *vm, wk_jiter *it, wk_jv *v, bool *more) {
    const wk_jstr *s = it->of.u.s;
    *more = it->i < s->n;
    if (!*more) return true;
    size_t len = (size_t)wk_utf8_lead((uint8_t)s->p[it->i]);
    if (len == 0 || len > s->n - it->i)
        len = 1; /* strings are valid UTF-8; this is for the reader */
    it->i += len;
    return wk_j_slice(vm, s, it->i - len, it->i, v);
}

bool wk_j_next(wk_jvm *vm, wk_jiter *it, wk_jv *v, bool *more) {
    *more = false;
    if (!wk_j_charge(vm, 0)) return false;
    if (it->of.tag == WK_J_STR) return str_next(vm, it, v, more);
    if (it->of.tag == WK_J_LIST) {
        wk_jlist *l = it->of.u.list;
        size_t *at = it->of.kind == WK_J_AS_GENERATOR ? &l->at : &it->i;
        *more = *at < l->n;
        if (*more) *v = l->v[(*at)++];
    } else if (it->of.tag == WK_J_DICT) {
        const wk_jdict *d = it->of.u.dict;
        while (it->i < d->n && d->slot[it->i].key.tag == WK_J_MISSING) it->i++;
        *more = it->i < d->n;
        if (*more) *v = d->slot[it->i++].key;
    } else if (it->of.tag == WK_J_RANGE) {
        const wk_jrange *r = it->of.u.range;
        *more = (int64_t)it->i < r->n;
        if (*more) *v = wk_j_int(r->begin + r->step * (int64_t)it->i++);
    }
    return true;
}

bool wk_j_length(wk_jvm *vm, wk_jv v, int64_t *n) {
    *n = 0;
    if (v.tag == WK_J_STR)
        *n = (int64_t)wk_utf8_count(wk_j_text(v.u.s));
    else if (v.tag == WK_J_LIST && v.kind != WK_J_AS_GENERATOR)
        *n = (int64_t)v.u.list->n;
    else if (v.tag == WK_J_DICT)
        *n = v.u.dict->live;
    else if (v.tag == WK_J_RANGE)
        *n = v.u.range->n;
    else if (v.tag != WK_J_UNDEF)
        return wk_j_fail(vm, "a %s has no length", wk_j_type(v));
    return wk_j_charge(vm, v.tag == WK_J_STR ? v.u.s->n : 0);
}

bool wk_j_to_list(wk_jvm *vm, wk_jv v, int kind, wk_jv *out) {
    wk_jiter it;
    wk_jv e;
    bool more = true;
    if (!wk_j_iter(vm, &it, v) || !wk_j_list(vm, kind, out)) return false;
    for (;;) {
        if (!wk_j_next(vm, &it, &e, &more)) return false;
        if (!more) return true;
        if (!wk_j_append(vm, out->u.list, e)) return false;
    }
}

/* ---- sort -------------------------------------------------------------------------------------- */

typedef struct sorting {
    const wk_jv *key;
    bool reverse;
} sorting;

/* Merges [a, b) and [b, c) of from into to. */
static bool merge(wk_jvm *vm, const sorting *s, const size_t *from, size_t *to, size_t a, size_t b,
                  size_t c) {
    size_t i = a, j = b;
    for (size_t k = a; k < c; k++) {
        int order = 0;
        if (i < b && j < c && !wk_j_order(vm, s->key[from[i]], s->key[from[j]], &order))
            return false;
        if (s->reverse) order = -order;
        if (i < b && (j >= c || order <= 0))
            to[k] = from[i++];
        else
            to[k] = from[j++];
    }
    return true;
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

bool wk_j_sort(wk_jvm *vm, wk_jlist *l, const wk_jv *key, bool reverse) {
    const sorting s = {key, reverse};
    const size_t n = l->n;
    size_t *from = (size_t *)wk_j_get_n(vm, n, sizeof(size_t));
    size_t *to = from ? (size_t *)wk_j_get_n(vm, n, sizeof(size_t)) : NULL;
    wk_jv *sorted = to ? (wk_jv *)wk_j_get_n(vm, n, sizeof(wk_jv)) : NULL;
    if (!sorted) return false;
    for (size_t i = 0; i < n; i++) from[i] = i;
    for (size_t w = 1; w < n; w *= 2) {
        for (size_t a = 0; a < n; a += 2 * w)
            if (!merge(vm, &s, from, to, a, least(a + w, n), least(a + 2 * w, n))) return false;
        size_t *swap = from;
        from = to;
        to = swap;
    }
    for (size_t i = 0; i < n; i++) sorted[i] = l->v[from[i]];
    if (n) l->v = sorted;
    l->room = n ? n : l->room;
    return true;
}

/* jinja_val.c: memory, budgets, strings with provenance, pads, lists. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/ck.h"
#include "engine/text/jinja_val.h"

bool wk_j_fail(wk_jvm *vm, const char *fmt, ...) {
    if (vm->rc) return false; /* the first failure is the cause */
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a cut message is still a message */
    va_end(ap);
    vm->rc = wk_fail(vm->err, WICK_E_TEMPLATE, "template line %u: %s", vm->line, text);
    return false;
}

static bool no_memory(wk_jvm *vm) {
    if (!vm->rc) vm->rc = wk_fail(vm->err, WICK_E_NOMEM, "no memory to render the template");
    return false;
}

static bool too_much(wk_jvm *vm) {
    return wk_j_fail(vm, "its values take more than %zu bytes", vm->budget->value_bytes);
}

bool wk_j_grow(void *array, size_t *room, size_t n, size_t size) {
    if (n < *room) return true;
    const size_t want = *room ? *room * 2 : 16;
    void *p;
    memcpy(&p, array, sizeof(p));
    p = wk_realloc_array(p, want, size);
    if (!p) return false;
    memcpy(array, &p, sizeof(p));
    *room = want;
    return true;
}

void *wk_j_get(wk_jvm *vm, size_t n) {
    size_t all;
    if (!wk_add(&all, n, vm->arena.used) || !wk_add(&all, all, vm->pad_bytes) ||
        all > vm->budget->value_bytes) {
        (void)too_much(vm); /* always false */
        return NULL;
    }
    void *p = wk_arena_get(&vm->arena, n);
    if (!p) (void)no_memory(vm); /* always false */
    return p;
}

void *wk_j_get_n(wk_jvm *vm, size_t n, size_t size) {
    size_t all;
    if (!wk_mul(&all, n, size)) {
        (void)too_much(vm); /* always false */
        return NULL;
    }
    return wk_j_get(vm, all);
}

bool wk_j_charge(wk_jvm *vm, size_t bytes) {
    vm->steps += 1 + bytes / 32;
    if (vm->steps <= vm->budget->steps) return true;
    return wk_j_fail(vm, "it takes more than %llu steps", (unsigned long long)vm->budget->steps);
}

bool wk_j_charge_each(wk_jvm *vm, size_t bytes) { return wk_j_charge(vm, bytes * 16); }

bool wk_j_enter(wk_jvm *vm) {
    if (++vm->nest <= WK_J_NEST) return true;
    return wk_j_fail(vm, "a value is nested deeper than %d", WK_J_NEST);
}

void wk_j_leave(wk_jvm *vm) { vm->nest--; }

const char *wk_j_type(wk_jv v) {
    static const char *const name[WK_J_TAG_COUNT] = {
        "undefined", "None",  "bool",     "int",    "float",     "str",  "list",   "dict",
        "range",     "macro", "function", "method", "namespace", "loop", "missing"};
    static const char *const list[] = {"list",      "tuple",       "dict_items",
                                       "dict_keys", "dict_values", "generator"};
    return v.tag == WK_J_LIST ? list[v.kind] : name[v.tag];
}

/* ---- strings ----------------------------------------------------------------------------------- */

static wk_jstr *str_get(wk_jvm *vm, wk_jv *out) {
    wk_jstr *s = (wk_jstr *)wk_j_get(vm, sizeof(*s));
    if (s) *out = wk_j_strv(s);
    return s;
}

bool wk_j_str_view(wk_jvm *vm, wk_str text, bool user, wk_jv *out) {
    wk_jstr *s = str_get(vm, out);
    if (!s) return false;
    *s = (wk_jstr){.p = text.n ? text.p : "", .n = text.n, .user = user};
    return true;
}

bool wk_j_str_new(wk_jvm *vm, wk_str text, bool user, wk_jv *out) {
    char *p = (char *)wk_j_get(vm, text.n);
    if (!p) return false;
    if (text.n) memcpy(p, text.p, text.n);
    return wk_j_charge(vm, text.n) && wk_j_str_view(vm, (wk_str){p, text.n}, user, out);
}

bool wk_j_slice(wk_jvm *vm, const wk_jstr *s, size_t begin, size_t end, wk_jv *out) {
    wk_jstr *part = str_get(vm, out);
    if (!part) return false;
    *part = (wk_jstr){.p = s->p + begin, .n = end - begin, .user = s->user};
    if (s->mask) part->mask = s->mask + begin;
    return true;
}

/* Space behind a concatenated string. Whoever ends where the space begins may write on; everybody else
 * makes a copy. So a loop that adds to a string costs what it adds, not the square of it. */
typedef struct wk_jroom {
    char *p;
    uint8_t *mask;
    size_t used, cap;
} wk_jroom;

static void fill_mask(uint8_t *to, const wk_jstr *s) {
    if (s->n == 0) return;
    if (s->mask)
        memcpy(to, s->mask, s->n);
    else
        memset(to, s->user, s->n);
}

static bool mixed(const wk_jstr *a, const wk_jstr *b) {
    return a->mask || b->mask || a->user != b->user;
}

static wk_jroom *room_new(wk_jvm *vm, const wk_jstr *a, const wk_jstr *b, bool masked) {
    wk_jroom *room = (wk_jroom *)wk_j_get(vm, sizeof(*room));
    size_t n, cap;
    if (!room) return NULL;
    if (!wk_add(&n, a->n, b->n) || !wk_mul(&cap, n, n < 128 ? 1 : 2))
        cap = SIZE_MAX; /* too much below */
    room->cap = cap;
    room->p = (char *)wk_j_get(vm, cap);
    if (!room->p) return NULL;
    if (masked && !(room->mask = (uint8_t *)wk_j_get(vm, cap))) return NULL;
    if (!wk_j_charge(vm, a->n)) return NULL;
    memcpy(room->p, a->p, a->n);
    if (masked) fill_mask(room->mask, a);
    room->used = a->n;
    return room;
}

static bool fits(const wk_jstr *a, const wk_jstr *b, bool masked) {
    const wk_jroom *room = a->room;
    return room && a->p + a->n == room->p + room->used && room->cap - room->used >= b->n &&
           (!masked || room->mask);
}

bool wk_j_concat(wk_jvm *vm, const wk_jstr *a, const wk_jstr *b, wk_jv *out) {
    *out = wk_j_strv(b->n == 0 ? a : b);
    if (a->n == 0 || b->n == 0) return true;
    const bool masked = mixed(a, b);
    wk_jroom *room = fits(a, b, masked) ? a->room : room_new(vm, a, b, masked);
    wk_jstr *s = room && wk_j_charge(vm, b->n) ? str_get(vm, out) : NULL;
    if (!s) return false;
    memcpy(room->p + room->used, b->p, b->n);
    if (room->mask) fill_mask(room->mask + room->used, b);
    room->used += b->n;
    const size_t n = a->n + b->n;
    *s = (wk_jstr){.p = room->p + room->used - n, .n = n, .room = room, .user = a->user};
    if (masked) s->mask = room->mask + room->used - n;
    return true;
}

/* ---- pads -------------------------------------------------------------------------------------- */

wk_jpad *wk_j_pad(wk_jvm *vm) {
    if (!wk_j_grow(&vm->pad, &vm->room_pad, vm->n_pad, sizeof(wk_jpad *))) {
        (void)no_memory(vm); /* always false */
        return NULL;
    }
    if (vm->n_pad == vm->have_pad) {
        wk_jpad *p = wk_new(wk_jpad);
        if (!p) {
            (void)no_memory(vm); /* always false */
            return NULL;
        }
        vm->pad[vm->have_pad++] = p;
    }
    wk_jpad *p = vm->pad[vm->n_pad++];
    p->n = 0;
    p->user = p->masked = false;
    return p;
}

void wk_j_pad_drop(wk_jvm *vm, wk_jpad *p) {
    (void)p; /* named for the reader: the last one */
    vm->n_pad--;
}

/* Text and mask grow together, so that a pad turns mixed without a further failure. */
static bool pad_reserve(wk_jvm *vm, wk_jpad *p, size_t more) {
    size_t need, twice;
    if (!wk_add(&need, p->n, more)) return too_much(vm);
    if (need <= p->room) return true;
    size_t room = p->room < 512 ? 1024 : p->room * 2;
    if (room < need) room = need;
    if (!wk_mul(&twice, room - p->room, 2)) return too_much(vm);
    if (vm->pad_bytes + twice + vm->arena.used > vm->budget->value_bytes) return too_much(vm);
    char *text = (char *)wk_realloc_array(p->p, room, 1);
    if (text) p->p = text;
    uint8_t *mask = text ? (uint8_t *)wk_realloc_array(p->mask, room, 1) : NULL;
    if (mask) p->mask = mask;
    if (!text || !mask) return no_memory(vm);
    vm->pad_bytes += twice;
    p->room = room;
    return true;
}

static void pad_mark(wk_jpad *p, size_t n, const uint8_t *mask, bool user) {
    if (!p->masked && p->n == 0 && !mask) p->user = user;
    if (!p->masked && (mask || user != p->user)) {
        if (p->n) memset(p->mask, p->user, p->n);
        p->masked = true;
    }
    if (!p->masked) return;
    if (mask)
        memcpy(p->mask + p->n, mask, n);
    else
        memset(p->mask + p->n, user, n);
}

static bool put(wk_jvm *vm, wk_jpad *p, const char *text, size_t n, const uint8_t *mask,
                bool user) {
    if (n == 0) return true;
    if (!wk_j_charge(vm, n) || !pad_reserve(vm, p, n)) return false;
    pad_mark(p, n, mask, user);
    memcpy(p->p + p->n, text, n);
    p->n += n;
    return true;
}

bool wk_j_put(wk_jvm *vm, wk_jpad *p, wk_str text, bool user) {
    return put(vm, p, text.p, text.n, NULL, user);
}

bool wk_j_put_part(wk_jvm *vm, wk_jpad *p, const wk_jstr *s, size_t begin, size_t end) {
    return put(vm, p, s->p + begin, end - begin, s->mask ? s->mask + begin : NULL, s->user);
}

bool wk_j_pad_done(wk_jvm *vm, wk_jpad *p, wk_jv *out) {
    wk_j_pad_drop(vm, p);
    char *text = (char *)wk_j_get(vm, p->n);
    uint8_t *mask = p->masked && text ? (uint8_t *)wk_j_get(vm, p->n) : NULL;
    wk_jstr *s = text && (mask || !p->masked) ? str_get(vm, out) : NULL;
    if (!s) return false;
    if (p->n) memcpy(text, p->p, p->n);
    if (mask) memcpy(mask, p->mask, p->n);
    *s = (wk_jstr){.p = text, .mask = mask, .n = p->n, .user = p->user};
    return true;
}

/* ---- lists, truth, numbers --------------------------------------------------------------------- */

bool wk_j_list(wk_jvm *vm, int kind, wk_jv *out) {
    wk_jlist *l = (wk_jlist *)wk_j_get(vm, sizeof(*l));
    *out = (wk_jv){.tag = WK_J_LIST, .kind = (uint8_t)kind, .u.list = l};
    return l != NULL;
}

bool wk_j_append(wk_jvm *vm, wk_jlist *l, wk_jv v) {
    if (l->n == l->room) {
        const size_t room = l->room ? l->room * 2 : 4;
        wk_jv *p = (wk_jv *)wk_j_get_n(vm, room, sizeof(wk_jv));
        if (!p) return false;
        if (l->n) memcpy(p, l->v, l->n * sizeof(wk_jv));
        l->v = p;
        l->room = room;
    }
    l->v[l->n++] = v;
    return true;
}

bool wk_j_pair(wk_jvm *vm, wk_jv a, wk_jv b, wk_jv *out) {
    wk_jv pair;
    if (!wk_j_list(vm, WK_J_AS_TUPLE, &pair)) return false;
    if (!(pair.u.list->v = (wk_jv *)wk_j_get_n(vm, 2, sizeof(wk_jv)))) return false;
    pair.u.list->v[0] = a;
    pair.u.list->v[1] = b;
    pair.u.list->n = pair.u.list->room = 2;
    *out = pair;
    return true;
}

bool wk_j_truth(wk_jv v) {
    switch (v.tag) {
    case WK_J_BOOL: return v.u.b;
    case WK_J_INT: return v.u.i != 0;
    case WK_J_REAL: return v.u.d < 0 || v.u.d > 0 || v.u.d != v.u.d;
    case WK_J_STR: return v.u.s->n != 0;
    case WK_J_LIST: return v.kind == WK_J_AS_GENERATOR || v.u.list->n != 0;
    case WK_J_DICT: return v.u.dict->live != 0;
    case WK_J_RANGE: return v.u.range->n != 0;
    default: return v.tag != WK_J_UNDEF && v.tag != WK_J_NONE && v.tag != WK_J_MISSING;
    }
}

bool wk_j_index(wk_jv v, int64_t *i) {
    if (v.tag != WK_J_INT && v.tag != WK_J_BOOL) return false;
    *i = v.tag == WK_J_INT ? v.u.i : v.u.b;
    return true;
}

bool wk_j_number(wk_jv v, int64_t *i, double *d, bool *is_real) {
    *is_real = v.tag == WK_J_REAL;
    if (*is_real) {
        *i = 0;
        *d = v.u.d;
        return true;
    }
    if (!wk_j_index(v, i)) return false;
    *d = (double)*i;
    return true;
}

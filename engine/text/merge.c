/* merge.c: the merge loop. Words of up to SHORT symbols use arrays that are searched and shifted, since
 * almost all words are that short and then nothing is faster; longer ones a heap of candidate pairs over
 * a linked list, so that a megabyte of one letter costs n log n. */
#include "engine/text/merge.h"

#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"

enum { SHORT = 32 };
#define NONE UINT32_MAX

typedef struct wk_merge_cand {
    uint64_t key; /* rank, then place: the order of merging */
    uint32_t len; /* bytes of both symbols when the pair was found: other now = stale */
    uint32_t id;
} wk_merge_cand;

bool wk_merge_reserve(wk_merge *m, size_t n_sym) {
    if (n_sym <= m->room) return true;
    size_t room = m->room ? m->room : 64;
    while (room < n_sym)
        if (!wk_mul(&room, room, 2)) return false;
    wk_sym *p = (wk_sym *)wk_realloc_array(m->sym, room, sizeof(*p));
    if (!p) return false;
    m->sym = p;
    m->room = room;
    return true;
}

static bool reserve_heap(wk_merge *m, size_t n_sym) {
    if (n_sym <= m->heap_room) return true;
    wk_free(m->heap);
    wk_free(m->link);
    m->heap_room = 0;
    size_t room;
    m->heap = wk_mul(&room, n_sym, 2) ? wk_new_n(wk_merge_cand, room) : NULL;
    m->link = m->heap ? wk_new_n(uint32_t, room) : NULL;
    if (!m->link) return false;
    m->heap_room = n_sym;
    return true;
}

void wk_merge_fini(wk_merge *m) {
    wk_free(m->sym);
    wk_free(m->heap);
    wk_free(m->link);
    *m = (wk_merge){0};
}

/* ---- short words ------------------------------------------------------------------------------- */

static wk_merged found(wk_merge_find *find, const void *ud, const wk_sym *l) {
    wk_merged r = {NONE, WK_NO_ID};
    if (!find(ud, l, l + 1, &r)) r = (wk_merged){NONE, WK_NO_ID};
    return r;
}

static size_t merge_short(wk_sym *sym, size_t n, wk_merge_find *find, const void *ud) {
    wk_merged pair[SHORT];
    for (size_t i = 0; i + 1 < n; i++) pair[i] = found(find, ud, &sym[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (pair[i].rank < pair[best].rank) best = i;
        if (pair[best].id == WK_NO_ID) break;
        sym[best].len += sym[best + 1].len;
        sym[best].id = pair[best].id;
        n--;
        for (size_t i = best + 1; i < n; i++) sym[i] = sym[i + 1];
        for (size_t i = best; i + 1 < n; i++) pair[i] = pair[i + 1];
        if (best + 1 < n) pair[best] = found(find, ud, &sym[best]);
        if (best > 0) pair[best - 1] = found(find, ud, &sym[best - 1]);
    }
    return n;
}

/* ---- long words -------------------------------------------------------------------------------- */

static void sift_down(wk_merge_cand *heap, size_t n, size_t i) {
    const wk_merge_cand c = heap[i];
    for (;;) {
        size_t kid = 2 * i + 1;
        if (kid >= n) break;
        if (kid + 1 < n && heap[kid + 1].key < heap[kid].key) kid++;
        if (c.key <= heap[kid].key) break;
        heap[i] = heap[kid];
        i = kid;
    }
    heap[i] = c;
}

static void sift_up(wk_merge_cand *heap, size_t i) {
    const wk_merge_cand c = heap[i];
    while (i > 0 && c.key < heap[(i - 1) / 2].key) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = c;
}

typedef struct list {
    wk_sym *sym;
    uint32_t *prev, *next;
    wk_merge_find *find;
    const void *ud;
} list;

static bool candidate(const list *t, uint32_t l, wk_merge_cand *c) {
    const uint32_t r = l == NONE ? NONE : t->next[l];
    wk_merged m;
    if (r == NONE || !t->find(t->ud, &t->sym[l], &t->sym[r], &m)) return false;
    *c = (wk_merge_cand){((uint64_t)m.rank << 32) | l, t->sym[l].len + t->sym[r].len, m.id};
    return true;
}

static size_t push(const list *t, wk_merge_cand *heap, size_t n, uint32_t l) {
    if (!candidate(t, l, &heap[n])) return n;
    sift_up(heap, n);
    return n + 1;
}

/* Merges c if both its symbols are still what they were. A symbol only ever grows, so the sum of the
 * lengths tells. */
static bool apply(const list *t, const wk_merge_cand *c) {
    const uint32_t l = (uint32_t)c->key, r = t->next[l];
    if (t->sym[l].len == 0 || r == NONE || t->sym[l].len + t->sym[r].len != c->len) return false;
    t->sym[l].len = c->len;
    t->sym[l].id = c->id;
    t->sym[r].len = 0;
    t->next[l] = t->next[r];
    if (t->next[r] != NONE) t->prev[t->next[r]] = l;
    return true;
}

/* Each merge takes one candidate away and adds at most two: 2 * n_sym places are enough. */
static size_t merge_long(wk_merge *m, size_t n_sym, wk_merge_find *find, const void *ud) {
    const list t = {m->sym, m->link, m->link + n_sym, find, ud};
    wk_merge_cand *heap = m->heap;
    size_t n = 0;
    for (size_t i = 0; i < n_sym; i++) {
        t.prev[i] = i ? (uint32_t)(i - 1) : NONE;
        t.next[i] = i + 1 < n_sym ? (uint32_t)(i + 1) : NONE;
    }
    for (size_t i = 0; i + 1 < n_sym; i++) n += candidate(&t, (uint32_t)i, &heap[n]) ? 1 : 0;
    for (size_t i = n / 2; i-- > 0;) sift_down(heap, n, i);
    while (n > 0) {
        const wk_merge_cand c = heap[0];
        heap[0] = heap[--n];
        if (n) sift_down(heap, n, 0);
        if (!apply(&t, &c)) continue;
        const uint32_t l = (uint32_t)c.key;
        n = push(&t, heap, n, t.prev[l]);
        n = push(&t, heap, n, l);
    }
    size_t n_out = 0;
    for (uint32_t i = 0; i != NONE; i = t.next[i]) m->sym[n_out++] = m->sym[i];
    return n_out;
}

bool wk_merge_run(wk_merge *m, size_t n_sym, wk_merge_find *find, const void *ud, size_t *n_out) {
    if (n_sym <= SHORT) {
        *n_out = merge_short(m->sym, n_sym, find, ud);
        return true;
    }
    if (n_sym >= NONE || !reserve_heap(m, n_sym)) return false;
    *n_out = merge_long(m, n_sym, find, ud);
    return true;
}

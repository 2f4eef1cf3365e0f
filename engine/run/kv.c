/* kv.c: pages on three lists: held (no list), free, and remembered-but-idle in order of last use. */
#include "engine/run/kv.h"

#include <string.h>

#include "engine/base/arena.h"

typedef struct page_rec {
    uint32_t ref;
    uint32_t prev, next;  /* idle list, or next free */
    uint32_t bucket_next; /* chain of a hash bucket */
    bool known;
    wk_hash before, hash; /* known: prefix before it, prefix with it */
    int32_t tok[WK_KV_PAGE];
} page_rec;

struct wk_kv_pool {
    page_rec *page;
    uint32_t *bucket;
    uint32_t n_page, n_bucket;
    uint32_t free, n_free;           /* stack */
    uint32_t oldest, newest, n_idle; /* remembered and held by nobody */
    uint32_t n_known;
};

int wk_kv_open(wk_kv_pool **out, uint32_t n_page, wk_err *err) {
    wk_kv_pool *p = wk_new(wk_kv_pool);
    if (!p) return wk_fail(err, WICK_E_NOMEM, "no memory for the page table");
    p->n_page = n_page;
    p->n_bucket = 64;
    while (p->n_bucket < n_page) p->n_bucket *= 2;
    p->page = wk_new_n(page_rec, n_page);
    p->bucket = wk_new_n(uint32_t, p->n_bucket);
    if (!p->page || !p->bucket) {
        wk_kv_close(p);
        return wk_fail(err, WICK_E_NOMEM, "no memory for the records of %u KV pages", n_page);
    }
    memset(p->bucket, 0xff, p->n_bucket * sizeof(uint32_t));
    p->free = p->oldest = p->newest = WK_NO_PAGE;
    for (uint32_t i = n_page; i-- > 0;) {
        p->page[i].next = p->free;
        p->free = i;
    }
    p->n_free = n_page;
    *out = p;
    return WICK_OK;
}

void wk_kv_close(wk_kv_pool *p) {
    if (!p) return;
    wk_free(p->page);
    wk_free(p->bucket);
    wk_free(p);
}

uint32_t wk_kv_total(const wk_kv_pool *p) { return p->n_page; }
uint32_t wk_kv_available(const wk_kv_pool *p) { return p->n_free + p->n_idle; }
uint32_t wk_kv_remembered(const wk_kv_pool *p) { return p->n_known; }

static void idle_remove(wk_kv_pool *p, uint32_t i) {
    page_rec *r = &p->page[i];
    if (r->prev == WK_NO_PAGE)
        p->oldest = r->next;
    else
        p->page[r->prev].next = r->next;
    if (r->next == WK_NO_PAGE)
        p->newest = r->prev;
    else
        p->page[r->next].prev = r->prev;
    p->n_idle--;
}

static void idle_append(wk_kv_pool *p, uint32_t i) {
    page_rec *r = &p->page[i];
    r->prev = p->newest;
    r->next = WK_NO_PAGE;
    if (p->newest == WK_NO_PAGE)
        p->oldest = i;
    else
        p->page[p->newest].next = i;
    p->newest = i;
    p->n_idle++;
}

static uint32_t *bucket_of(wk_kv_pool *p, wk_hash h) {
    return &p->bucket[h.lo & (p->n_bucket - 1)];
}

static void forget(wk_kv_pool *p, uint32_t i) {
    uint32_t *at = bucket_of(p, p->page[i].hash);
    while (*at != i) at = &p->page[*at].bucket_next;
    *at = p->page[i].bucket_next;
    p->page[i].known = false;
    p->n_known--;
}

uint32_t wk_kv_take(wk_kv_pool *p) {
    uint32_t i = p->free;
    if (i != WK_NO_PAGE) {
        p->free = p->page[i].next;
        p->n_free--;
    } else {
        i = p->oldest;
        if (i == WK_NO_PAGE) return WK_NO_PAGE;
        idle_remove(p, i);
        forget(p, i);
    }
    p->page[i].ref = 1;
    return i;
}

void wk_kv_hold(wk_kv_pool *p, uint32_t page) {
    if (p->page[page].ref++ == 0) idle_remove(p, page);
}

void wk_kv_release(wk_kv_pool *p, uint32_t page) {
    page_rec *r = &p->page[page];
    if (--r->ref > 0) return;
    if (r->known) {
        idle_append(p, page);
        return;
    }
    r->next = p->free;
    p->free = page;
    p->n_free++;
}

wk_hash wk_kv_chain(wk_hash before, const int32_t tok[WK_KV_PAGE]) {
    return wk_hash_bytes(before, tok, WK_KV_PAGE * sizeof(int32_t));
}

uint32_t wk_kv_find(wk_kv_pool *p, wk_hash before, const int32_t tok[WK_KV_PAGE]) {
    const wk_hash h = wk_kv_chain(before, tok);
    for (uint32_t i = *bucket_of(p, h); i != WK_NO_PAGE; i = p->page[i].bucket_next) {
        const page_rec *r = &p->page[i];
        if (r->hash.lo == h.lo && r->hash.hi == h.hi && r->before.lo == before.lo &&
            r->before.hi == before.hi && memcmp(r->tok, tok, sizeof(r->tok)) == 0)
            return i;
    }
    return WK_NO_PAGE;
}

void wk_kv_remember(wk_kv_pool *p, uint32_t page, wk_hash before, const int32_t tok[WK_KV_PAGE]) {
    page_rec *r = &p->page[page];
    if (r->known || wk_kv_find(p, before, tok) != WK_NO_PAGE) return;
    r->known = true;
    r->before = before;
    r->hash = wk_kv_chain(before, tok);
    memcpy(r->tok, tok, sizeof(r->tok));
    uint32_t *b = bucket_of(p, r->hash);
    r->bucket_next = *b;
    *b = page;
    p->n_known++;
}

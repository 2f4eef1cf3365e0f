/* arena.c: all memory of the house; see arena.h.
 *
 * Every small block carries its size in 16 bytes before it. That costs less than it seems and lets
 * caller hooks be two functions: a hook needs no realloc, and none can be called with a wrong size. */
#include "engine/base/arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/ck.h"

enum { HEAD = 16, LINE = 64, BLOCK_MIN = 4096, BLOCK_MAX = 1 << 20 };
#define HUGE_PAGE ((size_t)2 << 20)

/* Process-wide by nature: hooks are written before any engine exists; the counters are atomic. */
static struct {
    void *(*alloc)(void *ud, size_t n);
    void (*dealloc)(void *ud, void *p);
    void *ud;
    uint64_t count;   /* atomic: writer any thread, reader the hot-path test */
    uint64_t fail_in; /* atomic: allocations until the one that fails, 0 = off */
    bool fail_later;  /* written before fail_in */
} mem;

void wk_alloc_hooks(void *(*alloc)(void *ud, size_t n), void (*dealloc)(void *ud, void *p),
                    void *ud) {
    mem.alloc = alloc;
    mem.dealloc = dealloc;
    mem.ud = ud;
}

uint64_t wk_alloc_count(void) { return __atomic_load_n(&mem.count, __ATOMIC_RELAXED); }

void wk_alloc_fail_at(uint64_t n, bool and_later) {
    mem.fail_later = and_later;
    __atomic_store_n(&mem.fail_in, n, __ATOMIC_RELEASE);
}

/* True when the fault hook wants this allocation to fail. */
static bool must_fail(void) {
    uint64_t left = __atomic_load_n(&mem.fail_in, __ATOMIC_ACQUIRE);
    while (left) {
        const uint64_t then = left == 1 && mem.fail_later ? 1 : left - 1;
        if (__atomic_compare_exchange_n(&mem.fail_in, &left, then, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            return left == 1;
    }
    return false;
}

static void counted(void) { __atomic_fetch_add(&mem.count, 1, __ATOMIC_RELAXED); }

/* n > 0 zeroed bytes from the hook or from libc. */
static void *raw_get(size_t n) {
    if (must_fail()) return NULL;
    void *p = mem.alloc ? mem.alloc(mem.ud, n) : calloc(1, n);
    if (!p) return NULL;
    if (mem.alloc) memset(p, 0, n);
    counted();
    return p;
}

static void raw_put(void *p) {
    if (mem.dealloc)
        mem.dealloc(mem.ud, p);
    else
        free(p);
}

void *wk_alloc(size_t n) {
    size_t all;
    if (!wk_add(&all, n, HEAD)) return NULL;
    uint8_t *p = (uint8_t *)raw_get(all);
    if (!p) return NULL;
    memcpy(p, &n, sizeof(n));
    return p + HEAD;
}

void *wk_alloc_array(size_t n_elem, size_t size) {
    size_t n;
    return wk_mul(&n, n_elem, size) ? wk_alloc(n) : NULL;
}

/* libc can often grow a block where it stands; a hook cannot. */
static void *regrow_libc(uint8_t *head, size_t all) {
    if (must_fail()) return NULL;
    uint8_t *q = (uint8_t *)realloc(head, all);
    if (q) counted();
    return q;
}

void *wk_realloc_array(void *p, size_t n_elem, size_t size) {
    size_t n, all;
    if (!wk_mul(&n, n_elem, size) || !wk_add(&all, n, HEAD)) return NULL;
    if (!p) return wk_alloc(n);
    uint8_t *head = (uint8_t *)p - HEAD;
    if (!mem.alloc) {
        uint8_t *q = (uint8_t *)regrow_libc(head, all);
        if (!q) return NULL;
        memcpy(q, &n, sizeof(n));
        return q + HEAD;
    }
    size_t old;
    memcpy(&old, head, sizeof(old));
    void *q = wk_alloc(n);
    if (!q) return NULL;
    memcpy(q, p, old < n ? old : n);
    raw_put(head);
    return q;
}

void wk_free(void *p) {
    if (p) raw_put((uint8_t *)p - HEAD);
}

void *wk_alloc_aligned(size_t n) {
    size_t all;
    if (!wk_add(&all, n, LINE + sizeof(void *))) return NULL;
    uint8_t *raw = (uint8_t *)raw_get(all);
    if (!raw) return NULL;
    const uintptr_t first = (uintptr_t)raw + sizeof(void *);
    uint8_t *p = raw + sizeof(void *) + (LINE - first % LINE) % LINE;
    memcpy(p - sizeof(void *), &raw, sizeof(raw));
    return p;
}

void wk_free_aligned(void *p) {
    if (!p) return;
    void *raw;
    memcpy(&raw, (uint8_t *)p - sizeof(void *), sizeof(raw));
    raw_put(raw);
}

char *wk_strdup_n(const char *p, size_t n) {
    size_t all;
    if (!wk_add(&all, n, 1)) return NULL;
    char *s = (char *)wk_alloc(all);
    if (s && n) memcpy(s, p, n);
    return s;
}

static bool map_pages(wk_pages *m, size_t n, int advice) {
    *m = (wk_pages){0};
    size_t all;
    if (!wk_align(&all, n ? n : 1, HUGE_PAGE) || !wk_add(&all, all, HUGE_PAGE)) return false;
    if (must_fail()) return false;
    void *base = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return false;
    const size_t skip = (HUGE_PAGE - (uintptr_t)base % HUGE_PAGE) % HUGE_PAGE;
    m->base = base;
    m->base_n = all;
    m->p = (uint8_t *)base + skip;
    m->n = n;
    const size_t whole = n / HUGE_PAGE * HUGE_PAGE; /* behind it small pages, so that no more is taken than asked for */
    if (whole) (void)madvise(m->p, whole, advice); /* a wish: 4 KiB pages work too */
    (void)madvise(m->p + whole, all - skip - whole, MADV_NOHUGEPAGE);
    counted();
    return true;
}

bool wk_pages_map(wk_pages *m, size_t n) { return map_pages(m, n, MADV_HUGEPAGE); }
bool wk_pages_map_small(wk_pages *m, size_t n) { return map_pages(m, n, MADV_NOHUGEPAGE); }

void wk_pages_unmap(wk_pages *m) {
    if (m->base) (void)munmap(m->base, m->base_n); /* cannot fail for a range that we mapped */
    *m = (wk_pages){0};
}

/* Blocks hang in a list, newest first; a block's bytes stand behind its head. */
typedef struct wk_arena_block {
    struct wk_arena_block *next;
    size_t n, used;
} wk_arena_block;
#define BLOCK_HEAD ((sizeof(wk_arena_block) + 15) & ~(size_t)15)

void wk_arena_init(wk_arena *a, size_t cap) { *a = (wk_arena){.cap = cap}; }

/* Blocks grow with what is in use, so that small parses stay small and big ones make few calls. */
static wk_arena_block *block_new(const wk_arena *a, size_t n) {
    size_t room = a->used < BLOCK_MIN ? BLOCK_MIN : a->used < BLOCK_MAX ? a->used : BLOCK_MAX;
    if (room < n) room = n;
    size_t all;
    if (!wk_add(&all, room, BLOCK_HEAD)) return NULL;
    wk_arena_block *b = (wk_arena_block *)wk_alloc(all);
    if (b) b->n = room;
    return b;
}

void *wk_arena_get(wk_arena *a, size_t n) {
    size_t want, used;
    if (!wk_align(&want, n ? n : 1, 16) || !wk_add(&used, a->used, want)) return NULL;
    if (a->cap && used > a->cap) return NULL;
    wk_arena_block *b = a->head;
    if (!b || b->n - b->used < want) {
        b = block_new(a, want);
        if (!b) return NULL;
        b->next = a->head;
        a->head = b;
    }
    uint8_t *p = (uint8_t *)b + BLOCK_HEAD + b->used;
    b->used += want;
    a->used = used;
    return p;
}

void wk_arena_fini(wk_arena *a) {
    while (a->head) {
        wk_arena_block *next = a->head->next;
        wk_free(a->head);
        a->head = next;
    }
    a->used = 0;
}

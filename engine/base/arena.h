/* arena.h: all memory of the house. The only caller of malloc, free and anonymous mmap.
 *
 * Small objects: wk_alloc / wk_free with a fault hook (n-th allocation fails) and a counter that
 * proves that the hot path allocates nothing. Big ones: wk_pages, huge-page anonymous memory. */
#ifndef WK_ARENA_H
#define WK_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed memory of n bytes (n = 0 gives a valid pointer), or NULL. */
void *wk_alloc(size_t n);
/* n_elem * size bytes, zeroed, checked product. */
void *wk_alloc_array(size_t n_elem, size_t size);
/* Like realloc with a checked product; new bytes are not zeroed; on failure NULL and p stays valid. */
void *wk_realloc_array(void *p, size_t n_elem, size_t size);
void wk_free(void *p); /* NULL is fine */
/* 64-byte aligned, zeroed. Freed with wk_free_aligned. */
void *wk_alloc_aligned(size_t n);
void wk_free_aligned(void *p);
/* A NUL-terminated copy. */
char *wk_strdup_n(const char *p, size_t n);

#define wk_new(type) ((type *)wk_alloc(sizeof(type)))
#define wk_new_n(type, n) ((type *)wk_alloc_array((n), sizeof(type)))

/* Caller hooks (wick_setup). alloc gets (ud, bytes), returns NULL on failure. NULL, NULL = malloc. */
void wk_alloc_hooks(void *(*alloc)(void *ud, size_t n), void (*dealloc)(void *ud, void *p), void *ud);
/* Total successful allocation calls so far (atomic); the hot-path test compares two readings. */
uint64_t wk_alloc_count(void);
/* Fault injection: the n-th allocation from now on fails (1 = the next); and_later: all after it too.
 * n = 0 switches it off. */
void wk_alloc_fail_at(uint64_t n, bool and_later);

/* Anonymous pages: 2 MiB aligned, huge pages asked for, zero-filled by the kernel on first touch. */
typedef struct wk_pages {
    uint8_t *p;
    size_t n;   /* bytes usable */
    void *base; /* private */
    size_t base_n;
} wk_pages;
bool wk_pages_map(wk_pages *m, size_t n); /* false: no memory */
bool wk_pages_map_small(wk_pages *m, size_t n); /* the same, huge pages refused */
void wk_pages_unmap(wk_pages *m);         /* zeroed record is fine */

/* Bump arena in chained blocks with a hard cap on the total: for parsers. All freed at once. */
typedef struct wk_arena {
    struct wk_arena_block *head;
    size_t used, cap; /* bytes handed out, limit (0 = none) */
} wk_arena;
void wk_arena_init(wk_arena *a, size_t cap);
void *wk_arena_get(wk_arena *a, size_t n); /* 16-byte aligned, zeroed; NULL: no memory or over the cap */
void wk_arena_fini(wk_arena *a);

#endif

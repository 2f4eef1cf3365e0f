/* merge.h: the one merge loop behind BPE and SPM: of all neighbours that may merge, the pair of lowest
 * rank merges first, the leftmost of equals; until none is left. */
#ifndef WK_MERGE_H
#define WK_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WK_NO_ID UINT32_MAX

typedef struct wk_sym {
    uint32_t at, len; /* bytes of the text; len 0 = merged away */
    uint32_t id;      /* WK_NO_ID: no token has this text */
} wk_sym;

typedef struct wk_merged {
    uint32_t rank, id;
} wk_merged;

/* What l and its right neighbour r merge to; false = nothing. */
typedef bool wk_merge_find(const void *ud, const wk_sym *l, const wk_sym *r, wk_merged *out);

/* Symbols of one word, and scratch that grows to the longest word seen. */
typedef struct wk_merge {
    wk_sym *sym; /* room for `room` */
    size_t room, heap_room;
    uint32_t *link; /* [2 * heap_room] left and right neighbours */
    struct wk_merge_cand *heap;
} wk_merge;

bool wk_merge_reserve(wk_merge *m, size_t n_sym); /* false: no memory */
/* Merges sym[0 .. n_sym); the result stands in sym[0 .. *n_out). O(n log n). False: no memory. */
bool wk_merge_run(wk_merge *m, size_t n_sym, wk_merge_find *find, const void *ud, size_t *n_out);
void wk_merge_fini(wk_merge *m);

#endif

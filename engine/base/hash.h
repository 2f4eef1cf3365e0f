/* hash.h: 128-bit hash (xxHash XXH3; the only file that includes it). Prefix chain, logits, caches. */
#ifndef WK_HASH_H
#define WK_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct wk_hash {
    uint64_t lo, hi;
} wk_hash;

/* Hash of n bytes chained to seed (a zero record starts a chain). Same value on every machine. */
wk_hash wk_hash_bytes(wk_hash seed, const void *p, size_t n);

#endif

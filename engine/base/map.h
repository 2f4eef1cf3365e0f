/* map.h: byte string -> u32, open addressing, seeded hash. Keys are borrowed and must outlive it. */
#ifndef WK_MAP_H
#define WK_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/str.h"

typedef struct wk_map {
    struct wk_map_slot *slot;
    uint32_t n, mask;
    uint64_t seed;
} wk_map;

bool wk_map_init(wk_map *m, uint32_t n_expected);                 /* false: no memory */
bool wk_map_put(wk_map *m, wk_str key, uint32_t value, bool *was); /* keeps the first value; *was: key existed */
bool wk_map_get(const wk_map *m, wk_str key, uint32_t *value);
void wk_map_fini(wk_map *m);

#endif

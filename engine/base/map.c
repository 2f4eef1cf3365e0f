/* map.c: open addressing with linear probing, at most 3/4 full. The seed comes from the system, so
 * that nobody outside can choose keys that collide; no output may depend on the order of slots. */
#include "engine/base/map.h"

#include "engine/base/arena.h"
#include "engine/base/hash.h"
#include "engine/base/os.h"

typedef struct wk_map_slot {
    const char *p; /* NULL = free */
    size_t n;
    uint32_t hash, value;
} wk_map_slot;

static uint32_t hash_of(const wk_map *m, wk_str key) {
    return (uint32_t)wk_hash_bytes((wk_hash){m->seed, 0}, key.p, key.n).lo;
}

/* The slot that holds the key, or the free one where it belongs. */
static wk_map_slot *find(const wk_map *m, wk_str key, uint32_t hash) {
    for (uint32_t i = hash & m->mask;; i = (i + 1) & m->mask) {
        wk_map_slot *s = &m->slot[i];
        if (!s->p) return s;
        if (s->hash == hash && wk_str_eq((wk_str){s->p, s->n}, key)) return s;
    }
}

static bool is_full(uint32_t n, uint32_t mask) { return n >= mask - mask / 4; }

static bool resize(wk_map *m, uint32_t mask) {
    wk_map_slot *slot = wk_new_n(wk_map_slot, (size_t)mask + 1);
    if (!slot) return false;
    for (uint32_t i = 0; m->slot && i <= m->mask; i++) {
        if (!m->slot[i].p) continue;
        uint32_t j = m->slot[i].hash & mask;
        while (slot[j].p) j = (j + 1) & mask;
        slot[j] = m->slot[i];
    }
    wk_free(m->slot);
    m->slot = slot;
    m->mask = mask;
    return true;
}

bool wk_map_init(wk_map *m, uint32_t n_expected) {
    *m = (wk_map){0};
    uint32_t mask = 15;
    while (is_full(n_expected, mask)) {
        if (mask >= UINT32_MAX / 4) return false;
        mask = 2 * mask + 1;
    }
    wk_os_random(&m->seed, sizeof(m->seed));
    return resize(m, mask);
}

bool wk_map_put(wk_map *m, wk_str key, uint32_t value, bool *was) {
    const uint32_t hash = hash_of(m, key);
    wk_map_slot *s = find(m, key, hash);
    if (was) *was = s->p != NULL;
    if (s->p) return true;
    if (is_full(m->n + 1, m->mask)) {
        if (m->mask >= UINT32_MAX / 4 || !resize(m, 2 * m->mask + 1)) return false;
        s = find(m, key, hash);
    }
    *s = (wk_map_slot){key.p ? key.p : "", key.n, hash, value};
    m->n++;
    return true;
}

bool wk_map_get(const wk_map *m, wk_str key, uint32_t *value) {
    if (!m->slot) return false;
    const wk_map_slot *s = find(m, key, hash_of(m, key));
    if (!s->p) return false;
    *value = s->value;
    return true;
}

void wk_map_fini(wk_map *m) {
    wk_free(m->slot);
    *m = (wk_map){0};
}

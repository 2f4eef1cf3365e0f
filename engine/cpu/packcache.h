/* packcache.h: packed weights kept on disk from one start to the next.
 *
 * A file is a hint, never trusted: own user, nobody else may write it, size, version, key, a checksum of the header and
 * one of each piece; whatever differs is a miss, and the weights are packed as usual. Writing it never fails a start. */
#ifndef WK_PACKCACHE_H
#define WK_PACKCACHE_H

#include "engine/base/hash.h"
#include "engine/base/pool.h"
#include "engine/cpu/pack.h"

/* What the file must be for: the files that the weights come from, and each weight that is in use . */
wk_hash wk_cache_key(const wk_plan *p, const wk_packed *w, wk_hash files);

typedef enum wk_cache_found { WK_CACHE_NONE, WK_CACHE_BAD, WK_CACHE_GOOD } wk_cache_found;
/* dir/wick-KEY.pack into dst (fresh pages, total bytes) with the team. BAD: there is one, but it is not to be believed;
 * dst may then hold anything. */
wk_cache_found wk_cache_load(const char *dir, wk_hash key, uint8_t *dst, size_t total,
                             wk_team *team);
/* Writes it, if the folder may hold so much (max bytes in all, what was used longest ago goes) and a tenth of the disk's
 * free space stays free. false: it was not written. */
bool wk_cache_store(const char *dir, uint64_t max, wk_hash key, const uint8_t *src, size_t total,
                    wk_team *team);

#endif

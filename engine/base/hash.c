/* hash.c: XXH3-128 chained over a 128-bit seed. XXH3 itself takes 64 bits of seed; folding the other
 * half in by a second, 32-byte hash keeps the whole of the chain without the streaming state. */
#include "engine/base/hash.h"

#include <string.h>
#include <xxhash.h>

wk_hash wk_hash_bytes(wk_hash seed, const void *p, size_t n) {
    const XXH128_hash_t a = XXH3_128bits_withSeed(n ? p : "", n, seed.lo);
    const uint64_t link[4] = {seed.lo, seed.hi, a.low64, a.high64};
    unsigned char bytes[sizeof(link)]; /* little endian, so that every machine hashes the same */
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(link[i / 8] >> (8 * (i % 8)));
    const XXH128_hash_t h = XXH3_128bits(bytes, sizeof(bytes));
    return (wk_hash){h.low64, h.high64};
}

/* permute.c: a keyed permutation of 0 .. n-1 without a table: a Feistel network on the smallest square of a power of
 * two that holds n, walked until it is below n (Black, Rogaway: Ciphers with arbitrary finite domains, 2002). The domain is
 * less than 4 n, so a walk takes less than 4 rounds on average. */
#include "engine/base/rng.h"
#include "engine/train/data.h"

enum { ROUNDS = 8 };

static uint64_t round_of(uint64_t half, uint32_t i, uint64_t seed, uint64_t epoch) {
    const uint32_t counter[4] = {(uint32_t)half, (uint32_t)epoch, (uint32_t)(epoch >> 32), i};
    uint32_t out[4];
    wk_philox(out, seed, counter);
    return out[0];
}

uint64_t wk_permute(uint64_t i, uint64_t n, uint64_t seed, uint64_t epoch) {
    int bits = 1; /* of a half */
    if (n < 2) return 0;
    while (bits < 32 && (n - 1) >> (2 * bits)) bits++;
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    do {
        uint64_t left = i >> bits, right = i & mask;
        for (uint32_t k = 0; k < ROUNDS; k++) {
            const uint64_t next = left ^ (round_of(right, k, seed, epoch) & mask);
            left = right;
            right = next;
        }
        i = (left << bits) | right;
    } while (i >= n);
    return i;
}

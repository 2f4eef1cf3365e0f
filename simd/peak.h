/* peak.h: how the levels write their yardstick: chains of one instruction, each in a register of its own. The sums
 * start equal and take equal operands; WK_OPAQUE keeps the compiler from seeing that they are one, and from folding
 * operands that it knows (clang makes an addition of a fused multiply-add of two constants). */
#ifndef WK_PEAK_H
#define WK_PEAK_H

#include <stdint.h>

#include "engine/base/attr.h"

/* Chains are arrays indexed by constants: every loop over them must be unrolled whole. */
#if defined(__clang__)
#define WK_EACH(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#define WK_EACH(i, n) _Pragma("GCC unroll 32") for (int i = 0; i < (n); i++)
#endif

/* acc: array of n vectors, all start; then `rounds` times step for every i; then the sums count as used. */
#define WK_PEAK_RUN(acc, n, start, rounds, step)                                                   \
    do {                                                                                           \
        WK_EACH(i, n) {                                                                            \
            (acc)[i] = start;                                                                      \
            WK_OPAQUE((acc)[i]);                                                                   \
        }                                                                                          \
        for (uint64_t round_ = 0; round_ < (rounds); round_++) WK_EACH(i, n) step;                 \
        WK_EACH(i, n) WK_OPAQUE((acc)[i]);                                                         \
    } while (0)

#endif

/* kv_q8.h: values to blocks of a Q8_0 cache by a level's own quantiser (DESIGN 9.3, 9.7). */
#ifndef WK_KV_Q8_H
#define WK_KV_Q8_H

#include <string.h>

#include "engine/base/attr.h"
#include "engine/base/half.h"
#include "simd/kernels.h"

typedef void wk_quant_fn(wk_act *dst, int t, const float *x, int k);

enum { WK_KV_Q8_RUN = 256 }; /* values at a time */

WK_INLINE int wk_kv_cast_q8(wk_quant_fn *quant, void *dst, const float *x, int n) {
    uint8_t *b = dst;
    int8_t q[WK_KV_Q8_RUN];
    float d[WK_KV_Q8_RUN / 32], f32s[WK_KV_Q8_RUN / 32];
    int32_t z[WK_KV_Q8_RUN / 32];
    wk_act a = {.n = 1, .ld = WK_KV_Q8_RUN, .ldb = WK_KV_Q8_RUN / 32};
    a.q = q;
    a.d = d;
    a.z32 = z;
    a.f32s = f32s;
    int bad = 0;
    for (int i = 0; i < n; i += WK_KV_Q8_RUN) {
        const int run = n - i < WK_KV_Q8_RUN ? n - i : WK_KV_Q8_RUN;
        quant(&a, 0, x + i, run);
        for (int j = 0; j < run / 32; j++, b += sizeof(wk_block_q8_0)) {
            wk_block_q8_0 block = {.d = wk_f32_to_f16(d[j])};
            if ((block.d & 0x7c00u) == 0x7c00u) { /* NaN too */
                block.d = 0;
                bad++;
            } else {
                memcpy(block.qs, q + 32 * j, 32);
            }
            memcpy(b, &block, sizeof(block));
        }
    }
    return bad;
}

#endif

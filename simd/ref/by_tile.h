/* by_tile.h: a gemv made of expand and a level's tile of one token, for integer formats without a kernel of their
 * own at that level. */
#ifndef WK_BY_TILE_H
#define WK_BY_TILE_H

#include "engine/base/attr.h"
#include "simd/ref/ref.h"

typedef void wk_tile_fn(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m,
                        int klen, bool first);

typedef struct wk_piece {
    uint8_t code[WK_PANEL_CODE];
    float s[WK_PANEL_SUB], c[WK_PANEL_SUB];
    int16_t mn[WK_PANEL_SUB], sc[WK_PANEL_SUB];
} wk_piece;

WK_INLINE void wk_gemv_by_tile(int fmt, wk_expand_fn *expand, wk_tile_fn *tile, float *dst,
                               const void *w, const wk_act *x, int n_panel, int k) {
    const size_t bytes = wk_panel_bytes(fmt, (size_t)k);
    WK_ALIGNED(64) wk_piece mem;
    wk_panel panel = {.code = mem.code, .s = mem.s, .c = mem.c, .mn = mem.mn, .sc = mem.sc};
    for (int p = 0; p < n_panel; p++) {
        const uint8_t *wp = (const uint8_t *)w + (size_t)p * bytes;
        for (int k0 = 0; k0 < k; k0 += WK_KC) {
            const int klen = k - k0 < WK_KC ? k - k0 : WK_KC;
            const wk_act at = wk_act_at(x, wk_formats[fmt].act, 0, k0);
            expand(&panel, wp, k0, klen);
            tile(dst + WK_PANEL * p, WK_PANEL, &panel, 1, &at, 1, klen, k0 == 0);
        }
    }
}

#endif

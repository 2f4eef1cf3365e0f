/* dot.h: integer sums of 16 rows by sdot by lane: four k of a row in an int32 lane, no budget to keep.
 * The names are those of simd/neon/dot.h. */
#ifndef WK_DOTPROD_DOT_H
#define WK_DOTPROD_DOT_H

#include "simd/neon/vec.h"

/* Part i: rows 4i .. 4i+3. */
typedef struct dot16 {
    int32x4_t v[4];
} dot16, dot_wide;

WK_INLINE dot16 dot_none(void) {
    const int32x4_t z = vdupq_n_s32(0);
    return (dot16){{z, z, z, z}};
}
WK_INLINE dot_wide dot_wide_none(void) { return dot_none(); }

/* Part i of a line times lane l of q; of two lines times lanes l and m. */
#define DOT(d, i, w, q, l) (d)->v[i] = vdotq_laneq_s32((d)->v[i], w, q, l)
#define DOT_PAIR(d, i, v, w, q, l, m)                                                              \
    do {                                                                                           \
        DOT(d, i, v, q, l);                                                                        \
        DOT(d, i, w, q, m);                                                                        \
    } while (0)

WK_INLINE v16i dot_sum(const dot16 *d) { return (v16i){d->v[0], d->v[1], d->v[2], d->v[3]}; }
WK_INLINE v16i dot_wide_sum(const dot_wide *d) { return dot_sum(d); }
WK_INLINE v16i dot_both(const dot16 *d, const dot16 *e) { return v16i_add(dot_sum(d), dot_sum(e)); }

#endif

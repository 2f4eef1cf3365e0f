/* dot.h: integer sums of 16 rows by smlal: int16 products of the four k of a row side by side, folded into
 * int32 at the end. The budget of an int16 lane is 32767: 8 lines of codes -32..31 (32512), 4 lines of
 * 0..63 (32004), 2 lines of any int8 (32512); activations are -127..127.
 *
 * simd/dotprod/dot.h gives the same names by sdot; gemv.h and tiles.h are written on either. */
#ifndef WK_NEON_DOT_H
#define WK_NEON_DOT_H

#include "simd/neon/vec.h"

/* Lane l of q (codes 4l .. 4l+3) in every lane. */
#define V_LANE4(q, l) vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(q), l))

/* Part i: rows 4i, 4i+1 in lo[i], rows 4i+2, 4i+3 in hi[i]. */
typedef struct dot16 {
    int16x8_t lo[4], hi[4];
} dot16;

WK_INLINE dot16 dot_none(void) {
    const int16x8_t z = vdupq_n_s16(0);
    return (dot16){{z, z, z, z}, {z, z, z, z}};
}
WK_INLINE void dot_part(dot16 *d, int i, int8x16_t w, int8x16_t q) {
    d->lo[i] = vmlal_s8(d->lo[i], vget_low_s8(w), vget_low_s8(q));
    d->hi[i] = vmlal_high_s8(d->hi[i], w, q);
}
/* Part i of a line times lane l of q. */
#define DOT(d, i, w, q, l) dot_part(d, i, w, V_LANE4(q, l))

WK_INLINE int32x4_t dot_rows(int16x8_t lo, int16x8_t hi) {
    return vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi));
}
WK_INLINE v16i dot_sum(const dot16 *d) {
    return (v16i){dot_rows(d->lo[0], d->hi[0]), dot_rows(d->lo[1], d->hi[1]), dot_rows(d->lo[2], d->hi[2]),
                  dot_rows(d->lo[3], d->hi[3])};
}
/* The sum of two; the budget is theirs together. */
WK_INLINE v16i dot_both(const dot16 *d, const dot16 *e) {
    dot16 s;
    for (int i = 0; i < 4; i++) {
        s.lo[i] = vaddq_s16(d->lo[i], e->lo[i]);
        s.hi[i] = vaddq_s16(d->hi[i], e->hi[i]);
    }
    return dot_sum(&s);
}

/* Any int8 codes: two lines at a time, folded at once. */
typedef struct dot_wide {
    int32x4_t lo[4], hi[4];
} dot_wide;

WK_INLINE dot_wide dot_wide_none(void) {
    const int32x4_t z = vdupq_n_s32(0);
    return (dot_wide){{z, z, z, z}, {z, z, z, z}};
}
WK_INLINE void dot_pair_part(dot_wide *d, int i, int8x16_t v, int8x16_t w, int8x16_t q, int8x16_t r) {
    int16x8_t lo = vmull_s8(vget_low_s8(v), vget_low_s8(q)), hi = vmull_high_s8(v, q);
    lo = vmlal_s8(lo, vget_low_s8(w), vget_low_s8(r));
    hi = vmlal_high_s8(hi, w, r);
    d->lo[i] = vpadalq_s16(d->lo[i], lo);
    d->hi[i] = vpadalq_s16(d->hi[i], hi);
}
/* Part i of two lines v, w times lanes l, m of q. */
#define DOT_PAIR(d, i, v, w, q, l, m) dot_pair_part(d, i, v, w, V_LANE4(q, l), V_LANE4(q, m))

WK_INLINE v16i dot_wide_sum(const dot_wide *d) {
    return (v16i){vpaddq_s32(d->lo[0], d->hi[0]), vpaddq_s32(d->lo[1], d->hi[1]),
                  vpaddq_s32(d->lo[2], d->hi[2]), vpaddq_s32(d->lo[3], d->hi[3])};
}

#endif

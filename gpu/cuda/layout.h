/* layout.h: how a quantised matrix lies on the device: one list for the host's repacking and the kernels' traits.
 *
 * A row is cut in units of 32 values, whatever the block of its format. A unit's codes are `low` bits each in one plane
 * and `high` more bits in another, so every lane of a warp loads whole aligned words: 32 codes of b bits are b words.
 *
 *   plane 0  codes   [n_row][n_unit][low] words     word w, by low:
 *                       8  codes 4w .. 4w+3, one a byte
 *                       4  byte b: code 8w+b, and code 8w+4+b in the high nibble; formats with a table: nibble i is 8w+i
 *                       2  byte b, bits 2j: code 16w + 4j + b
 *   plane 1  high    [n_row][n_unit][high] words    1: byte b, bit j: code 4j + b;  2: as low = 2
 *   plane 2  d       [n_row][n_block] f16, or f16 pairs (d, min), or one byte of e8m0
 *   plane 3  scales  [n_row][n_unit] of blocks of 256: int8 for each `sub` values, then as many mins
 *
 * So all formats share a kernel text, and what is expensive to decode is decoded once, at upload: the code books of IQ2_*
 * become 3 bits (magnitude, sign; 3.3 to 3.6 bits a value instead of 2.1 to 2.6), those of IQ3_* a table of 16 (4.3
 * instead of 3.1 to 3.4), TQ1_0 is TQ2_0. The 6-bit scales of the K-quants become bytes (Q4_K: 148 bytes for 144, Q3_K:
 * 114 for 110). F32, F16 and BF16 are rows padded with zeros to a multiple of 8 values, in plane 0. */
#ifndef WKC_LAYOUT_H
#define WKC_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

extern "C" {
#include "simd/format.h"
}

enum { WKC_LOOK_NONE, WKC_LOOK_TABLE, WKC_LOOK_IQ2 }; /* a code is a number; an index; magnitude and sign of IQ2 */
enum { WKC_D_F16, WKC_D_E8M0 };
enum { WKC_UNIT = 32, WKC_PLANE = 4, WKC_ALIGN = 256 };

/*    id       low high zero block sub mins look   d */
#define WKC_FORMATS(X)                           \
    X(Q4_0,    4, 0,  8,  32, 32, 0, NONE,  F16)  \
    X(Q4_1,    4, 0,  0,  32, 32, 1, NONE,  F16)  \
    X(Q5_0,    4, 1, 16,  32, 32, 0, NONE,  F16)  \
    X(Q5_1,    4, 1,  0,  32, 32, 1, NONE,  F16)  \
    X(Q8_0,    8, 0,  0,  32, 32, 0, NONE,  F16)  \
    X(IQ4_NL,  4, 0,  0,  32, 32, 0, TABLE, F16)  \
    X(MXFP4,   4, 0,  0,  32, 32, 0, TABLE, E8M0) \
    X(Q2_K,    2, 0,  0, 256, 16, 1, NONE,  F16)  \
    X(Q3_K,    2, 1,  4, 256, 16, 0, NONE,  F16)  \
    X(Q4_K,    4, 0,  0, 256, 32, 1, NONE,  F16)  \
    X(Q5_K,    4, 1,  0, 256, 32, 1, NONE,  F16)  \
    X(Q6_K,    4, 2, 32, 256, 16, 0, NONE,  F16)  \
    X(IQ4_XS,  4, 0,  0, 256, 32, 0, TABLE, F16)  \
    X(IQ2_XXS, 2, 1,  0, 256, 32, 0, IQ2,   F16)  \
    X(IQ2_XS,  2, 1,  0, 256, 16, 0, IQ2,   F16)  \
    X(IQ2_S,   2, 1,  0, 256, 16, 0, IQ2,   F16)  \
    X(IQ3_XXS, 4, 0,  0, 256, 32, 0, TABLE, F16)  \
    X(IQ3_S,   4, 0,  0, 256, 32, 0, TABLE, F16)  \
    X(TQ1_0,   2, 0,  1, 256, 32, 0, NONE,  F16)  \
    X(TQ2_0,   2, 0,  1, 256, 32, 0, NONE,  F16)

/* A row of the list for code that chooses at run time. low 0: not in the list. */
typedef struct wkc_layout {
    int low, high, zero, block, sub, mins, look, d;
} wkc_layout;

static inline wkc_layout wkc_layout_of(int fmt) {
    switch (fmt) {
#define WKC_CASE(id, low, high, zero, block, sub, mins, look, d) \
    case WK_FMT_##id: return {low, high, zero, block, sub, mins, WKC_LOOK_##look, WKC_D_##d};
        WKC_FORMATS(WKC_CASE)
#undef WKC_CASE
    default: return {0, 0, 0, 1, 0, 0, 0, 0};
    }
}

static inline int wkc_scale_bytes(const wkc_layout &l) { return l.block == 256 ? 32 / l.sub * (1 + l.mins) : 0; }
static inline int wkc_d_bytes(const wkc_layout &l) { return l.d == WKC_D_E8M0 ? 1 : l.mins ? 4 : 2; }
static inline size_t wkc_align(size_t n) { return (n + WKC_ALIGN - 1) & ~(size_t)(WKC_ALIGN - 1); }
/* Values of a padded row of F32, F16, BF16. */
static inline int32_t wkc_pad(int32_t k) { return (int32_t)(((int64_t)k + 7) & ~(int64_t)7); }
static inline bool wkc_is_float(int fmt) { return fmt == WK_FMT_F32 || fmt == WK_FMT_F16 || fmt == WK_FMT_BF16; }

/* Bytes of one row in each plane. */
static inline void wkc_plane_bytes(size_t bytes[WKC_PLANE], int fmt, int32_t k) {
    const wkc_layout l = wkc_layout_of(fmt);
    const size_t unit = (size_t)k / WKC_UNIT;
    bytes[0] = l.low ? unit * 4 * (size_t)l.low : (size_t)wkc_pad(k) * (fmt == WK_FMT_F32 ? 4 : 2);
    bytes[1] = unit * 4 * (size_t)l.high;
    bytes[2] = l.low ? (size_t)k / (size_t)l.block * (size_t)wkc_d_bytes(l) : 0;
    bytes[3] = unit * (size_t)wkc_scale_bytes(l);
}

/* repack.cpp: one file row into the row's part of each plane. */
void wkc_repack_row(uint8_t *const plane[WKC_PLANE], int fmt, const uint8_t *row, int32_t k);
/* The 16 values of a format with a table; factor: by which d is multiplied. */
void wkc_table(int8_t table[16], float *factor, int fmt);

#endif

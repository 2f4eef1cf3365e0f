/* transpose.h: a field of 16 rows turned into the order of a panel, 4 dwords of each row at a time.
 *
 * A panel holds what a field's unit is for all 16 rows, then the next unit. Moving unit by unit costs a load and a
 * store of 1, 2 or 4 bytes each; here whole 16-byte pieces of rows go through zips: dwords by two, halves and bytes by
 * three and four more. Measured on one Zen 4 core in cache, GB/s before and after: Q4_0 3.7 6.9, Q4_K 7.2 11.4, Q5_0
 * 3.2 6.8, Q6_K 4.6 9.4, Q8_0 5.7 7.8, F16 2.6 6.5. */
#ifndef WK_TRANSPOSE_H
#define WK_TRANSPOSE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/attr.h"

typedef uint8_t wk_16x8 WK_VECTOR(16);
typedef uint16_t wk_8x16 WK_VECTOR(16);
typedef uint32_t wk_4x32 WK_VECTOR(16);
typedef uint64_t wk_2x64 WK_VECTOR(16);

#define WK_ZIP8_LO(a, b) WK_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define WK_ZIP8_HI(a, b)                                                                           \
    WK_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define WK_ZIP16_LO(a, b) WK_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define WK_ZIP16_HI(a, b) WK_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define WK_ZIP32_LO(a, b) WK_SHUFFLE(a, b, 0, 4, 1, 5)
#define WK_ZIP32_HI(a, b) WK_SHUFFLE(a, b, 2, 6, 3, 7)
#define WK_ZIP64_LO(a, b) WK_SHUFFLE(a, b, 0, 2)
#define WK_ZIP64_HI(a, b) WK_SHUFFLE(a, b, 1, 3)

/* A line: the same dword of 16 rows. v[q] holds rows 4q .. 4q+3. */
typedef struct wk_line {
    wk_4x32 v[4];
} wk_line;

/* 16 bytes at `at` of each of 16 rows -> 4 lines. */
WK_INLINE void wk_lines_load(wk_line out[4], const uint8_t *const row[16], size_t at) {
    for (int q = 0; q < 4; q++) {
        wk_4x32 r[4];
        for (int i = 0; i < 4; i++) memcpy(&r[i], row[4 * q + i] + at, 16);
        const wk_2x64 a = (wk_2x64)WK_ZIP32_LO(r[0], r[1]), b = (wk_2x64)WK_ZIP32_HI(r[0], r[1]),
                      c = (wk_2x64)WK_ZIP32_LO(r[2], r[3]), d = (wk_2x64)WK_ZIP32_HI(r[2], r[3]);
        out[0].v[q] = (wk_4x32)WK_ZIP64_LO(a, c);
        out[1].v[q] = (wk_4x32)WK_ZIP64_HI(a, c);
        out[2].v[q] = (wk_4x32)WK_ZIP64_LO(b, d);
        out[3].v[q] = (wk_4x32)WK_ZIP64_HI(b, d);
    }
}

/* 4 bytes at `at` of each of 16 rows -> 1 line. */
WK_INLINE void wk_line_load(wk_line *out, const uint8_t *const row[16], size_t at) {
    for (int r = 0; r < 16; r++) {
        uint32_t u;
        memcpy(&u, row[r] + at, 4);
        out->v[r / 4][r % 4] = u;
    }
}

WK_INLINE void wk_line_store(uint8_t *dst, const wk_line *l) { memcpy(dst, l->v, 64); }

/* A line of dwords as 2 x 16 halves, then as 4 x 16 bytes. Each zip moves one bit of the row's number from the
 * register's number to the lowest place inside it. */
WK_INLINE void wk_line_store_halves(uint8_t *dst, const wk_line *l) {
    wk_8x16 v[4], out[4];
    memcpy(v, l->v, 64);
    for (int p = 0; p < 2; p++) { /* rows 8p .. 8p+7 */
        const wk_8x16 a = WK_ZIP16_LO(v[2 * p], v[2 * p + 1]),
                      b = WK_ZIP16_HI(v[2 * p], v[2 * p + 1]);
        const wk_8x16 c = WK_ZIP16_LO(a, b), d = WK_ZIP16_HI(a, b);
        out[p] = WK_ZIP16_LO(c, d);
        out[2 + p] = WK_ZIP16_HI(c, d);
    }
    memcpy(dst, out, 64);
}

WK_INLINE void wk_line_store_bytes(uint8_t *dst, const wk_line *l) {
    wk_16x8 a[4], b[4];
    memcpy(a, l->v, 64);
    /* a: [r3 r2][r1 r0 b1 b0], register then place */
    for (int i = 0; i < 2; i++) { /* r3 comes in: [r1 r2][r0 b1 b0 r3] */
        b[i] = WK_ZIP8_LO(a[i], a[2 + i]);
        b[2 + i] = WK_ZIP8_HI(a[i], a[2 + i]);
    }
    for (int i = 0; i < 2; i++) { /* r2: [r1 r0][b1 b0 r3 r2] */
        a[2 * i] = WK_ZIP8_LO(b[2 * i], b[2 * i + 1]);
        a[2 * i + 1] = WK_ZIP8_HI(b[2 * i], b[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) { /* r1: [b1 r0][b0 r3 r2 r1] */
        b[i] = WK_ZIP8_LO(a[i], a[2 + i]);
        b[2 + i] = WK_ZIP8_HI(a[i], a[2 + i]);
    }
    for (int i = 0; i < 2; i++) { /* r0: [b1 b0][r3 r2 r1 r0] */
        a[2 * i] = WK_ZIP8_LO(b[2 * i], b[2 * i + 1]);
        a[2 * i + 1] = WK_ZIP8_HI(b[2 * i], b[2 * i + 1]);
    }
    memcpy(dst, a, 64);
}

#endif

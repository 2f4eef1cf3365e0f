/* bench_cross.h: from which length, batch or depth on one device is ahead of another. */
#ifndef WK_BENCH_CROSS_H
#define WK_BENCH_CROSS_H

#include <stddef.h>

/* A measured place. sign: +1 the device is ahead by more than the spread, -1 behind, 0 no difference. */
typedef struct wk_cross_point {
    double x;
    int sign;
} wk_cross_point;

/* Sorts the points. The first one from which on the device is ahead at each that was measured; -1: there is none. */
int wk_cross_find(wk_cross_point *p, int n);
/* The same as a sentence: "prompt, by time: cuda:0 is ahead of cpu from 32 tokens on (8: no difference)". Nothing is said
 * of places between the measured ones. n > 0. */
void wk_cross_say(wk_cross_point *p, int n, const char *what, const char *device, const char *unit, char *out,
                  size_t cap);

#endif

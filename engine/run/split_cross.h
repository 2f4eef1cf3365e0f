/* split_cross.h: values that one part of a split writes and a later one reads, and their memory on the host. */
#ifndef WK_SPLIT_CROSS_H
#define WK_SPLIT_CROSS_H

#include "engine/run/split.h"

/* A value on its way from the part that writes it to one that reads it. */
typedef struct wk_split_crossing {
    int32_t val, from, to;
    bool fetches; /* the first of its value: brings it to the host */
    float *at;    /* [rows][dim] */
} wk_split_crossing;

typedef struct wk_split_cross {
    wk_split_crossing *c; /* [n] by `to` */
    int32_t n;
    float *staging;
} wk_split_cross;

/* On failure what was taken stays, for free. Errors: E_SHAPE (a value that no earlier part writes, too many at one border,
 * sizes that overflow), E_NOMEM. */
int wk_split_cross_plan(wk_split_cross *x, const wk_plan *p, const wk_split_part *part, int32_t n, wk_err *err);
void wk_split_cross_free(wk_split_cross *x); /* zeros are fine */
/* The part that runs a stage, -1: none. */
int32_t wk_split_part_of(const wk_split_part *part, int32_t n, int32_t stage);

#endif

/* split.h: a plan on several devices, part after part, as one device.
 *
 *   put -> part 0 -> get   put -> part 1 -> get   put -> part 2
 *
 * A value that one part writes and a later one reads goes through memory of the host that prepare took. */
#ifndef WK_SPLIT_H
#define WK_SPLIT_H

#include "engine/graph/backend.h"

/* A device and what it runs; a device may have several parts. name: for error sentences, kept by the caller. */
typedef struct wk_split_part {
    const wk_backend_ops *ops;
    wk_dev *dev;
    const char *name;
    wk_part part;
} wk_split_part;

/* The functions of a split: name "split". open and count refuse (wk_split_open makes the device), bytes knows no device
 * and gives SIZE_MAX. prepare takes whole plans only (part NULL). run waits for every part but the last. An error of a
 * part ends the pass, named; later passes start anew. Of the copies of values a trace counts what the device says, or
 * what was asked of it, whichever is more. */
const wk_backend_ops *wk_split_backend(void);

/* parts [n], in order and without gaps; copied. The devices stay the caller's and outlive d. close frees the record. */
int wk_split_open(wk_dev **out, const wk_split_part *part, int32_t n, wk_err *err);
/* Bytes of host memory that prepare takes for what is carried from part to part; SIZE_MAX: overflow. */
size_t wk_split_bytes(const wk_plan *p, const wk_part *part, int32_t n);

#endif

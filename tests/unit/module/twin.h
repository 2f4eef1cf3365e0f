/* twin.h: what a test may change of the twin, a module that is the cpu under another name. The test finds it by dlsym. */
#ifndef WK_TWIN_H
#define WK_TWIN_H

#include <stdbool.h>
#include <stdint.h>

typedef struct twin_knobs {
    uint64_t mem_total, mem_free; /* of the device */
    double read_rate, put_rate, get_rate; /* when measured */
    int cannot_layer;        /* -2: it can run all; -1: neither what precedes nor what follows the layers */
    bool cannot;             /* it can run nothing */
    int n_device;
    /* what the n-th call from now on does: fail; 0: none */
    int open_at, info_at, prepare_at, run_at, wait_at, put_at, get_at;
    /* counted */
    int n_open, n_close, n_prepare, n_unprepare, n_run, n_measure;
    int n_layer, layer_first, n_stage; /* of the last part prepared; layer_first -1: the whole plan */
} twin_knobs;

#define TWIN_KNOBS {1ULL << 30, 1ULL << 30, 0, 0, 0, -2, false, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

#endif

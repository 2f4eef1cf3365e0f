/* cpu.h: the host CPU as a device. */
#ifndef WK_CPU_H
#define WK_CPU_H

#include "engine/base/hash.h"
#include "engine/graph/backend.h"
#include "simd/kernels.h"

enum { WK_PIN_MAX = 256 };
/* What the cpu device alone understands (wk_host.cpu); a zeroed record is the default. */
typedef struct wk_cpu_options {
    bool small_pages;          /* no huge pages for weights, activations and cache */
    int32_t pin[WK_PIN_MAX], n_pin; /* CPUs that the team is bound to, in the order of its ranks; 0: it is not */
    int n_node;                /* memory nodes: with more than one a bound team touches the weights first that it reads */
    const char *cache_dir;     /* packed weights are kept there; NULL: they are not */
    uint64_t cache_max;        /* bytes that the folder may hold, 0: 16 GiB */
    wk_hash cache_key;         /* of the files that the weights come from; zero: they are not kept */
    struct wk_cpu_report *report; /* what prepare took is added there; NULL: nobody asks */
    bool onednn; /* products of F32, F16 and BF16 weights by oneDNN in passes of many rows: other bits */
} wk_cpu_options;
/* What packing took; faults of the process meanwhile. */
enum { WK_CACHE_OFF, WK_CACHE_HIT, WK_CACHE_MISS, WK_CACHE_REFUSED }; /* refused: a file was there, and not believed */
typedef struct wk_cpu_report {
    uint64_t pack_ns, store_ns, bytes, minor, major;
    int cache;
    bool stored; /* for the next start */
} wk_cpu_report;

/* Products of a plan that oneDNN would make, and those that it would not. */
void wk_cpu_count_products(const wk_plan *p, int *n_float, int *n_other);

/* The one row of functions; static, thread-safe. */
const wk_backend_ops *wk_cpu_backend(void);

/* The kernel table of an open cpu device (for samplers and doctor), and the name of its level. */
const wk_kernels *wk_cpu_kernels(const wk_dev *d);

/* Barriers passed and steps run so far by an exec: for tests and traces. */
uint64_t wk_cpu_barriers(const wk_exec *x);

#endif

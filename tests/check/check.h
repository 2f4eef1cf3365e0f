/* check.h: the harness that compares kernels with simd/ref, bit by bit.
 *
 * A kernel is checked by a body that makes data, runs ref and the kernel under test on it, and compares whole
 * output buffers, guard zones included. Inputs end at a page that may not be touched, so reading one byte too
 * far is found as well. Everything is deterministic: a body's random numbers depend on its name only.
 *
 * The same body is the benchmark (--bench), and check_selftest runs the bodies on kernels with planted bugs. */
#ifndef WK_CHECK_H
#define WK_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/attr.h"
#include "simd/kernels.h"

enum { CK_GUARD = 256 }; /* bytes compared on each side of an output */

/* One level under test. */
typedef struct ck {
    const char *level;
    const wk_kernels *k, *ref;
    const wk_kernels
        *below; /* the level below: what was inherited is not compared again; or NULL */
    const wk_format *formats;
    bool quiet, verbose, bench, exhaustive;
    int thin; /* take one case of `thin` */
    /* running state */
    uint64_t rng, n_pick;
    char family[24], kernel[48], what[160];
    long n_case, n_kernel, n_inherited, n_fail; /* of the family */
    int n_fail_kernel;
    int n_slot;
} ck;

typedef struct ck_family {
    const char *name;
    void (*run)(ck *c);
} ck_family;

void ck_gemv(ck *c);
void ck_few(ck *c);
void ck_gemm(ck *c);
void ck_quant(ck *c);
void ck_elem(ck *c);
void ck_attn(ck *c);
void ck_format(ck *c);
void ck_oracle(ck *c);

/* WK_CHECK_SHRINK of the environment, for slow machines: one case of so many is taken; 1 where it is not set. */
int ck_shrink(void);

/* Runs one family and prints its line; returns the number of wrong cases. */
long ck_family_run(ck *c, const ck_family *f);

/* Runs body for one kernel; a touch of forbidden memory counts as one wrong case. inherited: the pointer is
 * that of the level below. */
void ck_kernel(ck *c, const char *name, bool inherited, void (*body)(ck *c, int arg), int arg);

/* Begins a case: releases the memory of the one before. False: thinned out, skip it. */
bool ck_case(ck *c, const char *fmt, ...) WK_PRINTF(2, 3);
/* Counts a wrong case and prints it. */
void ck_fail(ck *c, const char *fmt, ...) WK_PRINTF(2, 3);

/* Memory of a case. in: ends at a forbidden page. */
void *ck_in(ck *c, size_t bytes);

/* Two equal output buffers between guard zones, filled with the same pattern. */
typedef struct ck_pair {
    void *want, *got;
    size_t bytes;
} ck_pair;
ck_pair ck_out(ck *c, size_t bytes);
/* Whole buffers and guards: as f32 (zeros of one sign, NaN of one payload), or as bytes. */
bool ck_same_f32(ck *c, const ck_pair *p, const char *name);
bool ck_same(ck *c, const ck_pair *p, const char *name);

/* Random numbers and data. */
uint32_t ck_u32(ck *c);
int ck_range(ck *c, int lo, int hi); /* both included */
float ck_gauss(ck *c);
typedef enum ck_data {
    CK_GAUSS,
    CK_MIXED, /* and zeros, denormals, huge ones: finite */
    CK_BITS,  /* any 32 bits: NaN and Inf too */
    CK_DATA_COUNT
} ck_data;
void ck_floats(ck *c, float *x, size_t n, ck_data data);
float *ck_in_floats(ck *c, size_t n, ck_data data);

/* n_row file rows of a format; weights that a loader would accept. */
typedef enum ck_weight {
    CK_W_PLAIN,
    CK_W_ONES,
    CK_W_ZERO,
    CK_W_SCALES,
    CK_W_COUNT,
    CK_W_BOOK /* formats with code books: all entries and signs in turn; others: plain */
} ck_weight;
bool ck_has_book(int fmt);
enum { CK_BOOK_ROWS = 64, CK_BOOK_K = 4096 }; /* with these, all of them occur in all places */
void ck_rows(ck *c, void *rows, int fmt, int n_row, int k, ck_weight w);
/* The same, packed: ceil(n_row / 16) panels. */
void *ck_panels(ck *c, int fmt, int n_row, int k, ck_weight w);

/* n tokens of an activation kind; arrays a kind does not own hold rubbish. */
typedef enum ck_x { CK_X_PLAIN, CK_X_ENDS, CK_X_NASTY, CK_X_COUNT } ck_x;
wk_act ck_act(ck *c, int act, int n, int k, ck_x x);

/* Times `call`: best of a few runs; prints ns per call, GB/s and GOP/s where given. */
double ck_now(void);
void ck_bench_print(ck *c, const char *shape, double seconds, double bytes, double ops);
#define CK_BENCH(c, shape, bytes, ops, call)                                                       \
    do {                                                                                           \
        double best_ = 1e9;                                                                        \
        for (int round_ = 0; round_ < 5; round_++) {                                               \
            int n_ = 0;                                                                            \
            const double t0_ = ck_now();                                                           \
            double t_;                                                                             \
            do {                                                                                   \
                call;                                                                              \
                n_++;                                                                              \
                t_ = ck_now() - t0_;                                                               \
            } while (t_ < 0.004);                                                                  \
            if (t_ / n_ < best_) best_ = t_ / n_;                                                  \
        }                                                                                          \
        ck_bench_print(c, shape, best_, bytes, ops);                                               \
    } while (0)

#endif

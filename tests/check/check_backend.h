/* check_backend.h: a device module beside the cpu: every operation, format and shape by plans made by hand, then whole
 * models, cut at every border. */
#ifndef WK_CHECK_BACKEND_H
#define WK_CHECK_BACKEND_H

#include <stdbool.h>

#include "engine/base/attr.h"
#include "engine/graph/backend.h"
#include "tests/check/check.h"

enum { BC_TOK = 70, BC_PAGE = 12 }; /* tokens of a pass, pages of the cache */

/* One run of the program. */
typedef struct bc {
    const wk_backend_ops *mod, *cpu;
    wk_dev *mod_dev, *cpu_dev;
    bool nmse; /* compare by NMSE, else bit by bit */
    int thin;  /* take one case of so many */
    ck rnd;    /* random numbers, weights */
    char what[200];
    uint64_t n_pick;
    long n_case, n_fail, n_cannot;
    long op_case[WK_OP_COUNT], op_cannot[WK_OP_COUNT]; /* cases by the operation they are about */
    long fmt_case[WK_FMT_COUNT], fmt_cannot[WK_FMT_COUNT];
    double worst;
} bc;

/* Begins a case. False: thinned out. */
bool bc_case(bc *c, const char *fmt, ...) WK_PRINTF(2, 3);
void bc_fail(bc *c, const char *fmt, ...) WK_PRINTF(2, 3);
/* Compares n values. bound: of the NMSE, where that is asked for. */
bool bc_same(bc *c, const char *name, const float *want, const float *got, size_t n, double bound);
/* True if the module can run every step of a part; else counts it. */
bool bc_can(bc *c, const wk_plan *p, const wk_part *part, int op, int fmt);
/* NMSE allowed where values are f32 all along, where some are rounded, and by the type of the cache. */
static const double BC_EXACT = 1e-6, BC_ROUNDED = 1e-4;
static inline double bc_cache_bound(int kv_type) { return kv_type == WK_KV_F32 ? BC_EXACT : BC_ROUNDED; }

void bc_ops(bc *c);
void bc_models(bc *c);

#endif

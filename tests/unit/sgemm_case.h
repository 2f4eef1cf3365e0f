/* sgemm_case.h: a product of random values and what it must give, for test_sgemm and test_sgemm_bf16. */
#ifndef WK_SGEMM_CASE_H
#define WK_SGEMM_CASE_H

#include "engine/train/sgemm.h"

enum { SGEMM_GUARD = 37 };

typedef struct sgemm_shape {
    int32_t m, n, k;
} sgemm_shape;

/* Operands of one case in exact allocations, so that a sanitizer sees what is read beside them. */
typedef struct sgemm_case {
    wk_sgemm_call call;
    float *a, *b, *c, *want, *before;
    size_t n_c;
    uint32_t seed;
    bool bf16; /* want is what that engine gives */
} sgemm_case;

float sgemm_case_next(uint32_t *seed); /* -1 .. 1 */
float *sgemm_case_floats(uint32_t *seed, size_t n);
/* gap: elements between rows. The last row ends where its allocation ends; C has a guard in front and behind. */
void sgemm_case_make(sgemm_case *o, wk_sgemm_op op, sgemm_shape s, bool add, size_t gap);
void sgemm_case_free(sgemm_case *o);
/* c is not want: fails the test and says where. */
void sgemm_case_fail(const sgemm_case *o, const char *level, int n_thread);
double sgemm_case_distance(const sgemm_case *o); /* of c from want, relative L2 */

#endif

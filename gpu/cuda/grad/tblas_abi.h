/* tblas_abi.h: what is used of cuBLASLt's C interface (11.0 and later, the same since), declared here: its header comes with
 * few installs of nvcc, and nothing of the library is linked. Matrices lie by columns. */
#ifndef WKC_TBLAS_ABI_H
#define WKC_TBLAS_ABI_H

#include <cstddef>
#include <cstdint>

enum { WKC_LT_32F = 0, WKC_LT_16BF = 14 };           /* cudaDataType */
enum { WKC_LT_COMPUTE_32F = 68 };                    /* cublasComputeType_t: f32 sums, no TF32 */
enum { WKC_LT_DESC_TRANSA = 3, WKC_LT_DESC_TRANSB }; /* int32_t, of: */
enum { WKC_LT_OP_N = 0, WKC_LT_OP_T = 1 };
enum { WKC_LT_PREF_WORKSPACE = 1 };                  /* uint64_t */
enum { WKC_LT_PREF_ALIGN_A = 5, WKC_LT_PREF_ALIGN_B, WKC_LT_PREF_ALIGN_C, WKC_LT_PREF_ALIGN_D }; /* uint32_t */

typedef void *wkc_lt, *wkc_lt_desc, *wkc_lt_layout, *wkc_lt_pref;
typedef struct wkc_lt_algo {
    uint64_t data[8];
} wkc_lt_algo;
typedef struct wkc_lt_found {
    wkc_lt_algo algo;
    size_t workspace;
    int status;
    float waves;
    int reserved[4];
} wkc_lt_found;

/* name of the function, result, parameters; a status of 0 is success */
#define WKC_LT_CALLS(X)                                                                                                     \
    X(cublasLtGetVersion, size_t, (void))                                                                                   \
    X(cublasLtCreate, int, (wkc_lt * lt))                                                                                   \
    X(cublasLtDestroy, int, (wkc_lt lt))                                                                                    \
    X(cublasLtMatmulDescCreate, int, (wkc_lt_desc * d, int compute, int scale))                                             \
    X(cublasLtMatmulDescSetAttribute, int, (wkc_lt_desc d, int attr, const void *v, size_t n))                              \
    X(cublasLtMatmulDescDestroy, int, (wkc_lt_desc d))                                                                      \
    X(cublasLtMatrixLayoutCreate, int, (wkc_lt_layout * l, int type, uint64_t rows, uint64_t cols, int64_t ld))             \
    X(cublasLtMatrixLayoutDestroy, int, (wkc_lt_layout l))                                                                  \
    X(cublasLtMatmulPreferenceCreate, int, (wkc_lt_pref * p))                                                               \
    X(cublasLtMatmulPreferenceSetAttribute, int, (wkc_lt_pref p, int attr, const void *v, size_t n))                        \
    X(cublasLtMatmulPreferenceDestroy, int, (wkc_lt_pref p))                                                                \
    X(cublasLtMatmulAlgoGetHeuristic, int,                                                                                  \
      (wkc_lt lt, wkc_lt_desc op, wkc_lt_layout a, wkc_lt_layout b, wkc_lt_layout c, wkc_lt_layout d, wkc_lt_pref p,        \
       int want, wkc_lt_found *out, int *n_out))                                                                            \
    X(cublasLtMatmul, int,                                                                                                  \
      (wkc_lt lt, wkc_lt_desc op, const void *alpha, const void *a, wkc_lt_layout la, const void *b, wkc_lt_layout lb,      \
       const void *beta, const void *c, wkc_lt_layout lc, void *d, wkc_lt_layout ld, const wkc_lt_algo *algo,               \
       void *workspace, size_t n_workspace, cudaStream_t stream))

#endif

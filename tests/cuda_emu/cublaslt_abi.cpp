/* cublaslt_abi.cpp: gpu/cuda/grad/tblas_abi.h says what NVIDIA's header says. Nothing runs: it compiles or not. */
#include <cublasLt.h>

#include "gpu/cuda/grad/tblas_abi.h"

#define SAME(a, b) static_assert(static_cast<int>(a) == static_cast<int>(b), #a)

SAME(WKC_LT_32F, CUDA_R_32F);
SAME(WKC_LT_16BF, CUDA_R_16BF);
SAME(WKC_LT_COMPUTE_32F, CUBLAS_COMPUTE_32F);
SAME(WKC_LT_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(WKC_LT_DESC_TRANSB, CUBLASLT_MATMUL_DESC_TRANSB);
SAME(WKC_LT_OP_N, CUBLAS_OP_N);
SAME(WKC_LT_OP_T, CUBLAS_OP_T);
SAME(WKC_LT_PREF_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(WKC_LT_PREF_ALIGN_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(WKC_LT_PREF_ALIGN_B, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
SAME(WKC_LT_PREF_ALIGN_C, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
SAME(WKC_LT_PREF_ALIGN_D, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME(sizeof(wkc_lt_algo), sizeof(cublasLtMatmulAlgo_t));
SAME(sizeof(wkc_lt_found), sizeof(cublasLtMatmulHeuristicResult_t));
SAME(offsetof(wkc_lt_found, workspace), offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
SAME(offsetof(wkc_lt_found, status), offsetof(cublasLtMatmulHeuristicResult_t, state));

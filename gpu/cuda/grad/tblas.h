/* tblas.h: products by cuBLASLt, where its library is found. */
#ifndef WKC_TBLAS_H
#define WKC_TBLAS_H

#include "gpu/cuda/grad/tkernels.h"

/* Bytes, what NVIDIA advises for the largest devices. The emulator maps device memory for each call: less there. */
#ifdef WKC_EMU
enum { WKC_BLAS_WORKSPACE = 64 << 10 };
#else
enum { WKC_BLAS_WORKSPACE = 32 << 20 };
#endif

typedef struct wkc_blas wkc_blas;
typedef struct wkc_product {
    wkc_gemm_op op;
    int m, n, k; /* 1 and more */
    bool bf16;   /* of a and b */
} wkc_product;

/* why: a line about the library, or why there is none. Loads it; it is never unloaded. */
bool wkc_blas_is_here(char *why, size_t n);
/* For the device that is set. NULL: why says it. */
wkc_blas *wkc_blas_open(char *why, size_t n);
void wkc_blas_close(wkc_blas *b);
/* Whether it has something for this product; where x, y and c begin tells its alignment. */
bool wkc_blas_can(wkc_blas *b, const wkc_product *p, const void *x, const void *y, const float *c);
/* c (+)= alpha x . y. Its status; WKC_BLAS_NONE where it has nothing for this product and nothing was done. */
enum { WKC_BLAS_OK = 0, WKC_BLAS_NONE = -1 };
int wkc_blas_multiply(wkc_blas *b, cudaStream_t s, const wkc_product *p, float alpha, const void *x, const void *y, bool add,
                      float *c, void *workspace);

#endif

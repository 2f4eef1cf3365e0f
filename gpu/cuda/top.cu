/* top.cu: the largest value of each row. One block a row: 256 Ki logits are 1 MiB, which one multiprocessor reads in
 * about a hundredth of the pass that made them; several blocks a row would need memory to meet in. */
#include <limits.h>

#include "gpu/cuda/kernels.h"

enum { TOP_THREADS = 1024, TOP_WARPS = TOP_THREADS / 32 };

typedef struct best {
    float x;
    int id; /* INT_MAX: none yet */
} best;

static inline __device__ void take(best *b, float x, int id) {
    if (x > b->x || (x == b->x && id < b->id)) *b = {x, id};
}

/* What is not finite wins over everything, under an id that is none and below all others. */
static inline __device__ void look(best *b, float x, int id) {
    const bool fine = fabsf(x) < INFINITY;
    take(b, fine ? x : INFINITY, fine ? id : -1);
}

static inline __device__ best best_of_warp(best b) {
    for (int o = 16; o > 0; o /= 2) {
        const float x = __shfl_xor_sync(0xffffffffu, b.x, o);
        const int id = __shfl_xor_sync(0xffffffffu, b.id, o);
        take(&b, x, id);
    }
    return b;
}

static __global__ void __launch_bounds__(TOP_THREADS) top_row(const float *x, int dim, int32_t *top) {
    __shared__ float xs[TOP_WARPS];
    __shared__ int ids[TOP_WARPS];
    const float *row = x + (size_t)blockIdx.x * (size_t)dim;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    best b = {-INFINITY, INT_MAX};
    const int n4 = (size_t)row % 16 ? 0 : dim / 4; /* rows of an odd length are not all aligned */
    const float4 *row4 = (const float4 *)row;
    WKC_UNROLL
    for (int i = (int)threadIdx.x; i < n4; i += TOP_THREADS) {
        const float4 v = row4[i];
        look(&b, v.x, 4 * i);
        look(&b, v.y, 4 * i + 1);
        look(&b, v.z, 4 * i + 2);
        look(&b, v.w, 4 * i + 3);
    }
    for (int i = 4 * n4 + (int)threadIdx.x; i < dim; i += TOP_THREADS) look(&b, row[i], i);
    b = best_of_warp(b);
    if (lane == 0) xs[warp] = b.x, ids[warp] = b.id;
    __syncthreads();
    if (warp) return;
    b = {xs[lane], ids[lane]};
    b = best_of_warp(b);
    if (lane == 0) top[blockIdx.x] = b.id;
}

void wkc_top(cudaStream_t s, const float *x, int32_t n, int32_t dim, int32_t *top) {
    if (n > 0) WKC_LAUNCH(top_row, dim3((unsigned)n), dim3(TOP_THREADS), 0, s, x, dim, top);
}

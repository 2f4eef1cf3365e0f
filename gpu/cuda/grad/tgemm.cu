/* tgemm.cu: products in f32, without TF32. A block makes a square tile of 16 * PER values a side; each of its 256 threads
 * PER x PER of them. Pieces of K go through shared memory. One block owns a value and adds in the order of K. */
#include "gpu/cuda/grad/tkernels.h"

enum { SIDE = 16, DEPTH = 16, THREADS = SIDE * SIDE, PAD = 4, SMALL = 4, LARGE = 8, ENOUGH = 128 };

struct gemm_args {
    int m, n, k;
    float alpha;
    const float *a, *b;
    float *c;
    bool add;
};

/* A tile [DEPTH][16 * PER] of x; rows of x are along K (k_rows: x[k][n]) or along the tile (x[n][k]). */
template <int PER, bool K_ROWS>
static __device__ void fetch(float (*tile)[SIDE * PER + PAD], const float *x, int n0, int n, int k0, int k) {
    WKC_UNROLL
    for (int e = 0; e < PER; e++) {
        const int i = (int)threadIdx.x + e * THREADS;
        const int j = K_ROWS ? i % (SIDE * PER) : i / DEPTH, d = K_ROWS ? i / (SIDE * PER) : i % DEPTH;
        const bool in = n0 + j < n && k0 + d < k;
        const size_t at = K_ROWS ? (size_t)(k0 + d) * (size_t)n + (size_t)(n0 + j)
                                 : (size_t)(n0 + j) * (size_t)k + (size_t)(k0 + d);
        tile[d][j] = in ? x[at] : 0.0f;
    }
}

template <int PER>
static __device__ void multiply(float (*acc)[PER], const float *a, const float *b, int ty, int tx) {
    float x[PER], y[PER];
    WKC_UNROLL
    for (int i = 0; i < PER; i++) x[i] = a[ty + SIDE * i];
    WKC_UNROLL
    for (int j = 0; j < PER; j++) y[j] = b[tx + SIDE * j];
    WKC_UNROLL
    for (int i = 0; i < PER; i++)
        WKC_UNROLL
        for (int j = 0; j < PER; j++) acc[i][j] = fmaf(x[i], y[j], acc[i][j]);
}

template <int PER> static __device__ void store(const gemm_args &g, float (*acc)[PER], int m0, int n0, int ty, int tx) {
    WKC_UNROLL
    for (int i = 0; i < PER; i++)
        WKC_UNROLL
        for (int j = 0; j < PER; j++) {
            const int m = m0 + ty + SIDE * i, n = n0 + tx + SIDE * j;
            if (m >= g.m || n >= g.n) continue;
            float *c = g.c + (size_t)m * (size_t)g.n + (size_t)n;
            *c = g.add ? fmaf(g.alpha, acc[i][j], *c) : g.alpha * acc[i][j];
        }
}

template <int PER, bool A_K_ROWS, bool B_K_ROWS> static __global__ void __launch_bounds__(THREADS) gemm(gemm_args g) {
    __shared__ float a[DEPTH][SIDE * PER + PAD], b[DEPTH][SIDE * PER + PAD];
    const int m0 = (int)blockIdx.y * SIDE * PER, n0 = (int)blockIdx.x * SIDE * PER;
    const int ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE;
    float acc[PER][PER] = {};
    for (int k0 = 0; k0 < g.k; k0 += DEPTH) {
        fetch<PER, A_K_ROWS>(a, g.a, m0, g.m, k0, g.k);
        fetch<PER, B_K_ROWS>(b, g.b, n0, g.n, k0, g.k);
        __syncthreads();
        WKC_UNROLL
        for (int d = 0; d < DEPTH; d++) multiply<PER>(acc, a[d], b[d], ty, tx);
        __syncthreads();
    }
    store<PER>(g, acc, m0, n0, ty, tx);
}

template <int PER> static void launch(cudaStream_t s, wkc_gemm_op op, const gemm_args &g) {
    const int side = SIDE * PER;
    const dim3 grid((unsigned)((g.n + side - 1) / side), (unsigned)((g.m + side - 1) / side));
    if (op == WKC_GEMM_NT) WKC_LAUNCH((gemm<PER, false, false>), grid, THREADS, 0, s, g);
    else if (op == WKC_GEMM_NN) WKC_LAUNCH((gemm<PER, false, true>), grid, THREADS, 0, s, g);
    else WKC_LAUNCH((gemm<PER, true, true>), grid, THREADS, 0, s, g);
}

void wkc_tgemm(cudaStream_t s, wkc_gemm_op op, int m, int n, int k, float alpha, const float *a, const float *b, bool add,
               float *c) {
    const gemm_args g = {m, n, k, alpha, a, b, c, add};
    if (m < 1 || n < 1) return;
    /* Large tiles where there are enough of them. */
    const size_t large = ((size_t)m + SIDE * LARGE - 1) / (SIDE * LARGE) * (((size_t)n + SIDE * LARGE - 1) / (SIDE * LARGE));
    if (large >= ENOUGH) launch<LARGE>(s, op, g);
    else launch<SMALL>(s, op, g);
}

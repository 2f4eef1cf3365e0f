/* tgemm_bf16.cu: products of f32 operands that are rounded to bf16 on their way into shared memory, with f32 sums, by matrix
 * units. A block of 8 warps makes a square tile of SIDE values a side, a warp half of its rows and a quarter of its columns.
 *
 *   While a piece of K is multiplied the next one is on its way from global memory in registers (a copy past registers could
 *   not round); it goes into the other of two buffers, so a piece costs one barrier.
 *   A tile lies as its operand does: lines along K, or rows of K along the lines. The load of fragments turns the second.
 *   Rows are 16 bytes longer than what they hold, so that eight of them meet different banks.
 *
 * One warp owns a value and adds in the order of K: a run repeats bit for bit. */
#include "gpu/cuda/grad/tkernels.h"

#include "gpu/cuda/grad/mma_bf16.cuh"

enum { DEPTH = 32, THREADS = 256, PAD = 8, SMALL = 64, LARGE = 128, ENOUGH = 128 };

/* x[n][k], or x[k][n] for rows of K; quads: rows begin at 16 bytes, so that four values are read at once. */
struct operand {
    const float *x;
    int n;
    bool quads;
};
struct bf16_args {
    operand a, b;
    int k;
    float alpha;
    float *c;
    bool add, pairs;
};

/* Sizes of a tile, its place in a thread's hands: pieces of four values. */
template <int SIDE, bool K_ROWS> struct tile {
    static constexpr int pitch = (K_ROWS ? SIDE : DEPTH) + PAD, rows = K_ROWS ? DEPTH : SIDE;
    static constexpr int row_quads = (K_ROWS ? SIDE : DEPTH) / 4, pieces = rows * row_quads / THREADS;
};

static __device__ float4 read4(const float *p, int left, bool quads) {
    if (quads && left >= 4) return *(const float4 *)(const void *)p;
    return make_float4(left > 0 ? p[0] : 0.0f, left > 1 ? p[1] : 0.0f, left > 2 ? p[2] : 0.0f, left > 3 ? p[3] : 0.0f);
}

template <int SIDE, bool K_ROWS>
static __device__ void fetch(float4 *hand, const operand &o, int n0, int k0, int k) {
    typedef tile<SIDE, K_ROWS> T;
    const int row0 = K_ROWS ? k0 : n0, at0 = K_ROWS ? n0 : k0, n_row = K_ROWS ? k : o.n, n_at = K_ROWS ? o.n : k;
    WKC_UNROLL
    for (int e = 0; e < T::pieces; e++) {
        const int i = (int)threadIdx.x + e * THREADS, row = row0 + i / T::row_quads, at = at0 + 4 * (i % T::row_quads);
        const int left = row < n_row ? n_at - at : 0;
        hand[e] = left > 0 ? read4(o.x + (size_t)row * (size_t)n_at + (size_t)at, left, o.quads)
                           : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
}

template <int SIDE, bool K_ROWS> static __device__ void put(uint16_t *t, const float4 *hand) {
    typedef tile<SIDE, K_ROWS> T;
    WKC_UNROLL
    for (int e = 0; e < T::pieces; e++) {
        const int i = (int)threadIdx.x + e * THREADS;
        *(uint2 *)(void *)(t + i / T::row_quads * T::pitch + 4 * (i % T::row_quads)) =
            make_uint2(wkc_pack_bf16(hand[e].x, hand[e].y), wkc_pack_bf16(hand[e].z, hand[e].w));
    }
}

/* Four blocks of 8 lines and 8 of K, from line n and k on; lane i names a row of block i / 8. A: lines change first; b: K. */
template <int SIDE, bool K_ROWS, bool IS_A>
static __device__ void fragments(uint32_t r[4], const uint16_t *t, int n, int k, int lane) {
    typedef tile<SIDE, K_ROWS> T;
    const int one = lane / 8 % 2 * 8, two = lane / 16 * 8, row = lane % 8;
    const int line = n + (IS_A ? one : two), deep = k + (IS_A ? two : one);
    if (K_ROWS) wkc_load_trans(r, t + (deep + row) * T::pitch + line);
    else wkc_load_lines(r, t + (line + row) * T::pitch + deep);
}

template <int SIDE, bool A_K_ROWS, bool B_K_ROWS>
static __device__ void multiply(float (*acc)[SIDE / 32][4], const uint16_t *a, const uint16_t *b, int m, int n, int lane) {
    enum { N = SIDE / 32 };
    WKC_UNROLL
    for (int k = 0; k < DEPTH; k += 16) {
        uint32_t y[N][2], x[4];
        WKC_UNROLL
        for (int j = 0; j < N; j += 2) {
            fragments<SIDE, B_K_ROWS, false>(x, b, n + 8 * j, k, lane);
            y[j][0] = x[0], y[j][1] = x[1], y[j + 1][0] = x[2], y[j + 1][1] = x[3];
        }
        WKC_UNROLL
        for (int i = 0; i < N; i++) {
            fragments<SIDE, A_K_ROWS, true>(x, a, m + 16 * i, k, lane);
            WKC_UNROLL
            for (int j = 0; j < N; j++) wkc_mma_bf16(acc[i][j], x, y[j][0], y[j][1]);
        }
    }
}

/* Values n and n + 1 of a row. */
static __device__ void store2(const bf16_args &g, int m, int n, float x, float y) {
    float *const c = g.c + (size_t)m * (size_t)g.b.n + (size_t)n;
    if (m >= g.a.n || n >= g.b.n) return;
    if (g.pairs) {
        float2 *const p = (float2 *)(void *)c;
        const float2 old = g.add ? *p : make_float2(0.0f, 0.0f);
        *p = make_float2(fmaf(g.alpha, x, old.x), fmaf(g.alpha, y, old.y));
        return;
    }
    c[0] = fmaf(g.alpha, x, g.add ? c[0] : 0.0f);
    if (n + 1 < g.b.n) c[1] = fmaf(g.alpha, y, g.add ? c[1] : 0.0f);
}

template <int SIDE, bool A_K_ROWS, bool B_K_ROWS>
static __global__ void __launch_bounds__(THREADS) gemm(bf16_args g) {
    typedef tile<SIDE, A_K_ROWS> A;
    typedef tile<SIDE, B_K_ROWS> B;
    __shared__ __align__(16) uint16_t a[2][A::rows * A::pitch];
    __shared__ __align__(16) uint16_t b[2][B::rows * B::pitch];
    const int m0 = (int)blockIdx.y * SIDE, n0 = (int)blockIdx.x * SIDE;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int m = warp / 4 * (SIDE / 2), n = warp % 4 * (SIDE / 4);
    float acc[SIDE / 32][SIDE / 32][4] = {};
    float4 x[A::pieces], y[B::pieces];
    fetch<SIDE, A_K_ROWS>(x, g.a, m0, 0, g.k);
    fetch<SIDE, B_K_ROWS>(y, g.b, n0, 0, g.k);
    for (int k0 = 0, now = 0; k0 < g.k; k0 += DEPTH, now ^= 1) {
        put<SIDE, A_K_ROWS>(a[now], x);
        put<SIDE, B_K_ROWS>(b[now], y);
        __syncthreads(); /* who comes here has read the other buffer, which is written next */
        if (k0 + DEPTH < g.k) {
            fetch<SIDE, A_K_ROWS>(x, g.a, m0, k0 + DEPTH, g.k);
            fetch<SIDE, B_K_ROWS>(y, g.b, n0, k0 + DEPTH, g.k);
        }
        multiply<SIDE, A_K_ROWS, B_K_ROWS>(acc, a[now], b[now], m, n, lane);
    }
    WKC_UNROLL
    for (int i = 0; i < SIDE / 32; i++)
        WKC_UNROLL
        for (int j = 0; j < SIDE / 32; j++) {
            const int row = m0 + m + 16 * i + lane / 4, col = n0 + n + 8 * j + lane % 4 * 2;
            store2(g, row, col, acc[i][j][0], acc[i][j][1]);
            store2(g, row + 8, col, acc[i][j][2], acc[i][j][3]);
        }
}

template <int SIDE> static void launch(cudaStream_t s, wkc_gemm_op op, const bf16_args &g) {
    const dim3 grid((unsigned)((g.b.n + SIDE - 1) / SIDE), (unsigned)((g.a.n + SIDE - 1) / SIDE));
    if (op == WKC_GEMM_NT) WKC_LAUNCH((gemm<SIDE, false, false>), grid, THREADS, 0, s, g);
    else if (op == WKC_GEMM_NN) WKC_LAUNCH((gemm<SIDE, false, true>), grid, THREADS, 0, s, g);
    else WKC_LAUNCH((gemm<SIDE, true, true>), grid, THREADS, 0, s, g);
}

/* Four values a thread; dst begins at 8 bytes. quads: x at 16. */
static __global__ void __launch_bounds__(THREADS) round4(const float *x, size_t n, bool quads, uint16_t *dst) {
    const size_t i = 4 * ((size_t)blockIdx.x * THREADS + threadIdx.x);
    if (i >= n) return;
    const float4 v = read4(x + i, n - i < 4 ? (int)(n - i) : 4, quads);
    const uint2 w = make_uint2(wkc_pack_bf16(v.x, v.y), wkc_pack_bf16(v.z, v.w));
    if (n - i >= 4) {
        *(uint2 *)(void *)(dst + i) = w;
        return;
    }
    dst[i] = (uint16_t)w.x;
    if (n - i > 1) dst[i + 1] = (uint16_t)(w.x >> 16);
    if (n - i > 2) dst[i + 2] = (uint16_t)w.y;
}

void wkc_tround(cudaStream_t s, const float *x, size_t n, uint16_t *dst) {
    if (!n) return;
    const bool quads = (uintptr_t)(const void *)x % 16 == 0;
    WKC_LAUNCH(round4, (unsigned)((n + 4 * THREADS - 1) / (4 * THREADS)), THREADS, 0, s, x, n, quads, dst);
}

/* row: values of a row of x. */
static operand operand_of(const float *x, int n, int row) {
    return {x, n, row % 4 == 0 && (uintptr_t)(const void *)x % 16 == 0};
}

void wkc_tgemm_bf16(cudaStream_t s, wkc_gemm_op op, int m, int n, int k, float alpha, const float *a, const float *b, bool add,
                    float *c) {
    if (m < 1 || n < 1) return;
    const bf16_args g = {operand_of(a, m, op == WKC_GEMM_TN ? m : k),
                         operand_of(b, n, op == WKC_GEMM_NT ? k : n),
                         k,
                         alpha,
                         c,
                         add,
                         n % 2 == 0 && (uintptr_t)(void *)c % 8 == 0};
    /* Large tiles where there are enough of them. */
    const size_t large = ((size_t)m + LARGE - 1) / LARGE * (((size_t)n + LARGE - 1) / LARGE);
    if (large >= ENOUGH) launch<LARGE>(s, op, g);
    else launch<SMALL>(s, op, g);
}

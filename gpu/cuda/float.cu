/* float.cu: products of F32, F16 and BF16 weights with f32 activations: plain f32 FMA, so the same error class as the CPU.
 * Matrix units would need activations of fewer bits (bf16: NMSE 1e-6 alone) or several products for each; not taken. */
#include "gpu/cuda/formats.cuh"

template <class T> struct wkc_real;
template <> struct wkc_real<float> {
    WKC_FN float at(float v) { return v; }
};
template <> struct wkc_real<__half> {
    WKC_FN float at(__half v) { return __half2float(v); }
};
template <> struct wkc_real<__nv_bfloat16> {
    WKC_FN float at(__nv_bfloat16 v) { return __bfloat162float(v); }
};

/* N (4 or 8) neighbouring weights in loads of 16 or 8 bytes; rows are padded to 8. */
template <class T, int N> struct alignas(sizeof(T) * 4 < 16 ? (sizeof(T) * N < 16 ? 8 : 16) : 16) wkc_pack {
    T v[N];
};
template <class T, int N> WKC_FN void weights(float v[N], const T *p) {
    const wkc_pack<T, N> w = *(const wkc_pack<T, N> *)p;
    WKC_UNROLL
    for (int i = 0; i < N; i++) v[i] = wkc_real<T>::at(w.v[i]);
}
/* 4 activations from i on of a row of k, 0 beyond it. Rows are aligned where 4 divides k. */
WKC_FN void four(float v[4], const float *x, int i, int k) {
    if (k % 4 == 0 && i < k) {
        const wkc_pack<float, 4> u = *(const wkc_pack<float, 4> *)(x + i);
        for (int j = 0; j < 4; j++) v[j] = u.v[j];
    } else {
        for (int j = 0; j < 4; j++) v[j] = i + j < k ? x[i + j] : 0.0f;
    }
}

enum { WARPS = 4, ROWS = 2 };

/* As gemv.cu: a lane takes 8 weights of two rows for all activations; the block's warps share k. */
template <class T, int N>
__global__ void __launch_bounds__(32 * WARPS) gemv_f(const T *w, int n_row, int k, int kp, const float *x, int n, float *dst) {
    __shared__ float part[WARPS][ROWS * N];
    const int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32), row0 = (int)blockIdx.x * ROWS;
    float acc[ROWS][N];
    WKC_UNROLL
    for (int i = 0; i < ROWS * N; i++) acc[i / N][i % N] = 0.0f;
    for (int i = (int)threadIdx.x * 8; i < kp; i += 8 * 32 * WARPS) {
        float v[ROWS][8];
        WKC_UNROLL
        for (int r = 0; r < ROWS; r++)
            weights<T, 8>(v[r], w + (size_t)(row0 + r < n_row ? row0 + r : n_row - 1) * (size_t)kp + i);
        WKC_UNROLL
        for (int c = 0; c < N; c++) {
            const float *xc = x + (size_t)(c < n ? c : 0) * (size_t)k;
            float u[8];
            four(u, xc, i, k);
            four(u + 4, xc, i + 4, k);
            WKC_UNROLL
            for (int j = 0; j < 8 * ROWS; j++) acc[j / 8][c] = fmaf(v[j / 8][j % 8], u[j % 8], acc[j / 8][c]);
        }
    }
    WKC_UNROLL
    for (int i = 0; i < ROWS * N; i++) {
        float a = acc[i / N][i % N];
        WKC_UNROLL
        for (int m = 16; m > 0; m /= 2) a += __shfl_xor_sync(0xffffffffu, a, m);
        if (lane == 0) part[warp][i] = a;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < ROWS * N; i += 32 * WARPS) {
        float v = 0.0f;
        for (int j = 0; j < WARPS; j++) v += part[j][i];
        const int r = row0 + i / N, c = i % N;
        if (r < n_row && c < n) dst[(size_t)c * (size_t)n_row + (size_t)r] = v;
    }
}

enum { TILE = 64, DEEP = 16, PAD = 4, SIDE = 4 }; /* a block: 64 x 64, 16 of k at a time; a thread: 4 x 4 */

template <class T>
__global__ void __launch_bounds__(256) gemm_f(const T *w, int n_row, int k, int kp, const float *x, int n, float *dst) {
    __shared__ __align__(16) float a[DEEP][TILE + PAD], b[DEEP][TILE + PAD]; /* turned: [k][row], [k][column] */
    const int tid = (int)threadIdx.x, row0 = (int)blockIdx.x * TILE, col0 = (int)blockIdx.y * TILE;
    const int line = tid / 4, at = tid % 4 * 4; /* what this thread brings */
    const int row = row0 + line < n_row ? row0 + line : n_row - 1, col = col0 + line < n ? col0 + line : n - 1;
    const int tr = tid % 16 * SIDE, tc = tid / 16 * SIDE;
    float acc[SIDE][SIDE], v[4] = {0.0f, 0.0f, 0.0f, 0.0f}, u[4];
    WKC_UNROLL
    for (int i = 0; i < SIDE * SIDE; i++) acc[i / SIDE][i % SIDE] = 0.0f;
    for (int k0 = 0; k0 < kp; k0 += DEEP) {
        const bool in = k0 + at < kp;
        if (in) weights<T, 4>(v, w + (size_t)row * (size_t)kp + k0 + at);
        four(u, x + (size_t)col * (size_t)k, k0 + at, k);
        WKC_UNROLL
        for (int i = 0; i < 4; i++) a[at + i][line] = in ? v[i] : 0.0f, b[at + i][line] = u[i];
        __syncthreads();
        WKC_UNROLL
        for (int d = 0; d < DEEP; d++) {
            const wkc_pack<float, 4> p = *(const wkc_pack<float, 4> *)&a[d][tr], q = *(const wkc_pack<float, 4> *)&b[d][tc];
            WKC_UNROLL
            for (int i = 0; i < SIDE * SIDE; i++)
                acc[i / SIDE][i % SIDE] = fmaf(p.v[i % SIDE], q.v[i / SIDE], acc[i / SIDE][i % SIDE]);
        }
        __syncthreads();
    }
    WKC_UNROLL
    for (int i = 0; i < SIDE * SIDE; i++) {
        const int c = col0 + tc + i / SIDE, r = row0 + tr + i % SIDE;
        if (c < n && r < n_row) dst[(size_t)c * (size_t)n_row + (size_t)r] = acc[i / SIDE][i % SIDE];
    }
}

template <class T> static void gemv_of(cudaStream_t s, const wkc_mat *m, const float *x, int32_t n, float *dst) {
    auto f = n == 1 ? gemv_f<T, 1> : n == 2 ? gemv_f<T, 2> : n <= 4 ? gemv_f<T, 4> : gemv_f<T, 8>;
    const dim3 grid((unsigned)((m->n_row + ROWS - 1) / ROWS));
    WKC_LAUNCH(f, grid, dim3(32 * WARPS), 0, s, (const T *)m->p, m->n_row, m->k, wkc_pad(m->k), x, n, dst);
}
template <class T> static void gemm_of(cudaStream_t s, const wkc_mat *m, const float *x, int32_t n, float *dst) {
    auto f = gemm_f<T>;
    const dim3 grid((unsigned)((m->n_row + TILE - 1) / TILE), (unsigned)((n + TILE - 1) / TILE));
    WKC_LAUNCH(f, grid, dim3(256), 0, s, (const T *)m->p, m->n_row, m->k, wkc_pad(m->k), x, n, dst);
}

void wkc_gemv_f(cudaStream_t s, const wkc_mat *m, const float *x, int32_t n, float *dst) {
    if (m->fmt == WK_FMT_F32) gemv_of<float>(s, m, x, n, dst);
    if (m->fmt == WK_FMT_F16) gemv_of<__half>(s, m, x, n, dst);
    if (m->fmt == WK_FMT_BF16) gemv_of<__nv_bfloat16>(s, m, x, n, dst);
}
void wkc_gemm_f(cudaStream_t s, const wkc_mat *m, const float *x, int32_t n, float *dst) {
    if (m->fmt == WK_FMT_F32) gemm_of<float>(s, m, x, n, dst);
    if (m->fmt == WK_FMT_F16) gemm_of<__half>(s, m, x, n, dst);
    if (m->fmt == WK_FMT_BF16) gemm_of<__nv_bfloat16>(s, m, x, n, dst);
}

/* gemv.cu: quantised weights times 1 to 8 rows of activations. A lane takes a unit of 32 weights of ROWS neighbouring
 * rows and uses it for all activations while it is in registers: weights are read once, 16 bytes a lane and load. Long
 * rows are shared by the block's warps, which keeps more loads in the air when a matrix has few rows. */
#include "gpu/cuda/formats.cuh"

enum { WARPS = 4, ROWS = 2 };

/* P of the header of formats.cuh for one unit: sum of sc * (code . q - zero * sum q); *mins: sum of mn * sum q. */
template <class F>
WKC_FN int unit_dot(int *mins, const int code[8], const int q[8], const wkc_scale &s, const int sum[2]) {
    int p = 0;
    *mins = 0;
    WKC_UNROLL
    for (int j = 0; j < F::N_SUB; j++) {
        const int n = 8 / F::N_SUB, all = F::N_SUB == 1 ? sum[0] + sum[1] : sum[j];
        int dot = F::ZERO ? -F::ZERO * all : 0;
        WKC_UNROLL
        for (int i = 0; i < n; i++) dot = __dp4a(code[j * n + i], q[j * n + i], dot);
        p += F::SC_BYTES ? s.sc[j] * dot : dot;
        if (F::MINS) *mins += F::SC_BYTES ? s.mn[j] * all : all;
    }
    return p;
}

/* One unit of ROWS rows for all N columns. */
template <class F, int N>
WKC_FN void unit_all(float (&acc)[ROWS][N], const wkc_w &w, const wkc_a &x, const int row[ROWS], int unit, int n) {
    const int n_block = w.n_unit / F::UNITS;
    int code[ROWS][8];
    wkc_scale scale[ROWS];
    WKC_UNROLL
    for (int r = 0; r < ROWS; r++) {
        wkc_raw<F> raw;
        wkc_load<F>(raw, w, row[r], unit);
        wkc_codes<F, false>(code[r], raw, w.table);
        scale[r] = wkc_scale_of<F>(raw, w.factor);
    }
    WKC_UNROLL
    for (int c = 0; c < N; c++) {
        const size_t t = (size_t)(c < n ? c : 0), at = t * (size_t)w.n_unit + (size_t)unit;
        int q[8], sum[2] = {0, 0};
        wkc_words<8>((uint32_t *)q, (const uint8_t *)x.q + at * 32);
        const float d = x.d[t * (size_t)n_block + (size_t)(unit / F::UNITS)];
        if (F::SUMS) {
            const uint32_t v = *(const uint32_t *)(x.s16 + at * 2);
            sum[0] = (int16_t)(v & 0xffffu), sum[1] = (int16_t)(v >> 16);
        }
        WKC_UNROLL
        for (int r = 0; r < ROWS; r++) {
            int mins;
            const int p = unit_dot<F>(&mins, code[r], q, scale[r], sum);
            float a = scale[r].d * (float)p;
            if (F::MINS) a = fmaf((float)mins, scale[r].m, a);
            acc[r][c] = fmaf(a, d, acc[r][c]);
        }
    }
}

/* SHARE warps for one group of rows. */
template <class F, int N, int SHARE>
__global__ void __launch_bounds__(32 * WARPS) gemv(wkc_w w, wkc_a x, int n, float *dst) {
    __shared__ float part[WARPS][ROWS * N];
    const int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    const int row0 = ((int)blockIdx.x * (WARPS / SHARE) + warp / SHARE) * ROWS;
    int row[ROWS];
    float acc[ROWS][N];
    WKC_UNROLL
    for (int r = 0; r < ROWS; r++) { /* rows beyond the last read it again, and are not stored */
        row[r] = row0 + r < w.n_row ? row0 + r : w.n_row - 1;
        for (int c = 0; c < N; c++) acc[r][c] = 0.0f;
    }
    for (int u = warp % SHARE * 32 + lane; u < w.n_unit; u += 32 * SHARE) unit_all<F, N>(acc, w, x, row, u, n);
    WKC_UNROLL
    for (int r = 0; r < ROWS; r++) {
        WKC_UNROLL
        for (int c = 0; c < N; c++) {
            WKC_UNROLL
            for (int m = 16; m > 0; m /= 2) acc[r][c] += __shfl_xor_sync(0xffffffffu, acc[r][c], m);
            if (lane == 0) part[warp][r * N + c] = acc[r][c];
        }
    }
    if (SHARE > 1)
        __syncthreads();
    else
        __syncwarp();
    if (warp % SHARE) return;
    for (int i = lane; i < ROWS * N; i += 32) {
        float v = 0.0f;
        for (int j = 0; j < SHARE; j++) v += part[warp + j][i];
        const int r = row0 + i / N, c = i % N;
        if (r < w.n_row && c < n) dst[(size_t)c * (size_t)w.n_row + (size_t)r] = v;
    }
}

template <class F, int N> static void start(cudaStream_t s, const wkc_w *w, const wkc_a *x, int32_t n, float *dst) {
    const bool share = w->n_unit >= 64; /* each lane has something to do even so */
    const int rows = share ? ROWS : ROWS * WARPS;
    auto f = share ? gemv<F, N, WARPS> : gemv<F, N, 1>;
    WKC_LAUNCH(f, dim3((unsigned)((w->n_row + rows - 1) / rows)), dim3(32 * WARPS), 0, s, *w, *x, n, dst);
}
/* 3 is done as 4, 5 to 7 as 8: the missing columns repeat the first, from the cache. */
template <class F> static void choose(cudaStream_t s, const wkc_w *w, const wkc_a *x, int32_t n, float *dst) {
    if (n == 1)
        start<F, 1>(s, w, x, n, dst);
    else if (n == 2)
        start<F, 2>(s, w, x, n, dst);
    else if (n <= 4)
        start<F, 4>(s, w, x, n, dst);
    else
        start<F, 8>(s, w, x, n, dst);
}

void wkc_gemv(cudaStream_t s, int fmt, const wkc_w *w, const wkc_a *x, int32_t n, float *dst) {
    switch (fmt) {
#define CASE(id, ...) \
    case WK_FMT_##id: return choose<WKC_KIND(__VA_ARGS__)>(s, w, x, n, dst);
        WKC_FORMATS(CASE)
#undef CASE
    default: return;
    }
}

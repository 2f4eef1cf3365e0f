/* gemm.cu: quantised weights times more than 8 rows of activations, by the integer matrix units. A block makes 32 WM rows
 * of weights x 32 WN columns; 4 units (128 values of k) at a time, weights are decoded to int8 in shared memory, each once
 * for all columns of the block. A warp makes 32 x 32; where columns are few, the block's warps share k (4 / WN of them)
 * and add up at the end. Scales are applied in f32 behind each unit (or half of one).
 *
 * The next 128 values come into registers while these are multiplied: instead of cp.async, because weights are decoded on
 * their way to shared memory anyway, and it is the same on sm_75. */
#include "gpu/cuda/mma.cuh"

enum {
    STEP = 4,                    /* units of a stage */
    LINE = STEP * WKC_UNIT + 16, /* bytes of a row in shared memory: 36 words, so that 8 rows x 4 lanes meet 32 banks */
    PART = 32                    /* rows and columns of a warp; accumulators of a lane */
};

/* An integer of less than 22 bits as a float: the sum starts at 1.5 * 2^23, whose bits count in ones. */
static constexpr int MAGIC = 0x4b400000;
WKC_FN float unmagic(int c) { return __int_as_float(c) - 12582912.0f; }

template <class F, int WM, int WN> struct gemm_tile {
    static constexpr int WK = 4 / WN, THREADS = WM * 128, BM = PART * WM, BN = PART * WN;
    static constexpr int N_SCALE = STEP * F::N_SUB, N_MIN = F::MINS ? N_SCALE : 1;
    static constexpr int X_LOADS = BN * STEP * 2 / THREADS, D_LOADS = BN * STEP / THREADS;
    static_assert(BM * STEP == THREADS && D_LOADS >= 1, "a thread decodes one unit of weights a stage");

    alignas(16) int8_t code[(BM + BN) * LINE]; /* weights, then activations; at the end sums on their way between warps */
    float scale[N_SCALE][BM], min[N_MIN][BM], d[STEP][BN], sum[N_MIN][BN];
    static_assert((WK / 2) * WM * WN * PART * 32 * 4 <= (BM + BN) * LINE, "half of the sums fit");
};

/* A stage on its way through registers. */
template <class F, int WM, int WN> struct gemm_next {
    typedef gemm_tile<F, WM, WN> T;
    wkc_raw<F> raw;
    wkc_4w q[T::X_LOADS];
    float d[T::D_LOADS];
    uint32_t sum[T::D_LOADS];
};

template <class F, int WM, int WN>
WKC_FN void fetch(gemm_next<F, WM, WN> &next, const wkc_w &w, const wkc_a &x, int row0, int col0, int n, int u0) {
    typedef gemm_tile<F, WM, WN> T;
    const int tid = (int)threadIdx.x, last = w.n_unit - 1, n_block = w.n_unit / F::UNITS;
    const int row = row0 + tid / STEP, unit = u0 + tid % STEP;
    wkc_load<F>(next.raw, w, row < w.n_row ? row : w.n_row - 1, unit < last ? unit : last);
    WKC_UNROLL
    for (int i = 0; i < T::X_LOADS; i++) {
        const int at = tid + i * T::THREADS, c = col0 + at / (2 * STEP), u = u0 + at % (2 * STEP) / 2;
        const size_t t = (size_t)(c < n ? c : n - 1) * (size_t)w.n_unit + (size_t)(u < last ? u : last);
        next.q[i] = ((const wkc_4w *)x.q)[2 * t + (size_t)(at % 2)];
    }
    WKC_UNROLL
    for (int i = 0; i < T::D_LOADS; i++) {
        const int at = tid + i * T::THREADS, c = col0 + at / STEP, v = u0 + at % STEP, u = v < last ? v : last;
        const size_t t = (size_t)(c < n ? c : n - 1);
        next.d[i] = x.d[t * (size_t)n_block + (size_t)(u / F::UNITS)];
        next.sum[i] = F::MINS ? *(const uint32_t *)(x.s16 + (t * (size_t)w.n_unit + (size_t)u) * 2) : 0;
    }
}

/* A unit beyond the last counts nothing: its scales are 0. */
template <class F, int WM, int WN>
WKC_FN void stage(gemm_tile<F, WM, WN> &s, const gemm_next<F, WM, WN> &next, const wkc_w &w, int u0) {
    typedef gemm_tile<F, WM, WN> T;
    const int tid = (int)threadIdx.x, row = tid / STEP, unit = tid % STEP;
    const bool in = u0 + unit < w.n_unit;
    int code[8];
    wkc_codes<F, true>(code, next.raw, w.table);
    const wkc_scale v = wkc_scale_of<F>(next.raw, w.factor);
    wkc_4w *dst = (wkc_4w *)(s.code + row * LINE + unit * WKC_UNIT);
    WKC_UNROLL
    for (int i = 0; i < 2; i++) {
        wkc_4w c;
        for (int j = 0; j < 4; j++) c.v[j] = (uint32_t)code[4 * i + j];
        dst[i] = c;
    }
    WKC_UNROLL
    for (int j = 0; j < F::N_SUB; j++) {
        s.scale[unit * F::N_SUB + j][row] = in ? F::SC_BYTES ? v.d * (float)v.sc[j] : v.d : 0.0f;
        if (F::MINS) s.min[unit * F::N_SUB + j][row] = in ? F::SC_BYTES ? v.m * (float)v.mn[j] : v.m : 0.0f;
    }
    WKC_UNROLL
    for (int i = 0; i < T::X_LOADS; i++) {
        const int at = tid + i * T::THREADS;
        *(wkc_4w *)(s.code + (T::BM + at / (2 * STEP)) * LINE + at % (2 * STEP) * 16) = next.q[i];
    }
    WKC_UNROLL
    for (int i = 0; i < T::D_LOADS; i++) {
        const int at = tid + i * T::THREADS, c = at / STEP, u = at % STEP;
        const int a = (int16_t)(next.sum[i] & 0xffffu), b = (int16_t)(next.sum[i] >> 16);
        s.d[u][c] = next.d[i];
        if (!F::MINS) continue;
        if (F::N_SUB == 1) s.sum[u][c] = next.d[i] * (float)(a + b);
        if (F::N_SUB == 2) s.sum[2 * u][c] = next.d[i] * (float)a, s.sum[2 * u + F::N_SUB - 1][c] = next.d[i] * (float)b;
    }
}

/* One unit of a warp's 32 x 32: acc[2][4][4], fragments of mma.cuh. */
template <class F, int WM, int WN>
WKC_FN void multiply(float (&acc)[2][4][4], const gemm_tile<F, WM, WN> &s, int row0, int col0, int unit) {
    typedef gemm_tile<F, WM, WN> T;
    const int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    int a[2][4];
    WKC_UNROLL
    for (int i = 0; i < 8; i++)
        a[i / 4][i % 4] =
            *(const int *)(s.code + (row0 + i / 4 * 16 + i % 2 * 8 + g) * LINE + unit * WKC_UNIT + i % 4 / 2 * 16 + 4 * t);
    WKC_UNROLL
    for (int ni = 0; ni < 4; ni++) {
        const int col = col0 + 8 * ni, c0 = col + 2 * t;
        const int8_t *p = s.code + (T::BM + col + g) * LINE + unit * WKC_UNIT + 4 * t;
        const int b[2] = {*(const int *)p, *(const int *)(p + 16)};
        const float d[2] = {s.d[unit][c0], s.d[unit][c0 + 1]};
        WKC_UNROLL
        for (int j = 0; j < F::N_SUB; j++) {
            const int at = unit * F::N_SUB + j;
            WKC_UNROLL
            for (int mi = 0; mi < 2; mi++) {
                const int r0 = row0 + 16 * mi + g;
                int c[4] = {MAGIC, MAGIC, MAGIC, MAGIC};
                if (F::N_SUB == 1)
                    wkc_mma_k32(c, a[mi], b);
                else
                    wkc_mma_k16(c, a[mi] + 2 * j, b[j]);
                WKC_UNROLL
                for (int e = 0; e < 4; e++) {
                    const int r = r0 + e / 2 * 8;
                    acc[mi][ni][e] = fmaf(unmagic(c[e]), s.scale[at][r] * d[e % 2], acc[mi][ni][e]);
                    if (F::MINS) acc[mi][ni][e] = fmaf(s.min[at][r], s.sum[at][c0 + e % 2], acc[mi][ni][e]);
                }
            }
        }
    }
}

/* Sums of the warps that share k, by halves, into the first of them. */
template <class F, int WM, int WN> WKC_FN void add_up(float (&acc)[2][4][4], gemm_tile<F, WM, WN> &s, int tile, int wk) {
    typedef gemm_tile<F, WM, WN> T;
    float *buf = (float *)s.code, *a = &acc[0][0][0];
    const int lane = (int)(threadIdx.x % 32);
    for (int part = T::WK / 2; part > 0; part /= 2) {
        __syncthreads();
        if (wk >= part && wk < 2 * part)
            WKC_UNROLL
            for (int i = 0; i < PART; i++) buf[((tile * part + wk - part) * PART + i) * 32 + lane] = a[i];
        __syncthreads();
        if (wk < part)
            WKC_UNROLL
            for (int i = 0; i < PART; i++) a[i] += buf[((tile * part + wk) * PART + i) * 32 + lane];
    }
}

template <class F, int WM, int WN> __global__ void __launch_bounds__(WM * 128) gemm(wkc_w w, wkc_a x, int n, float *dst) {
    typedef gemm_tile<F, WM, WN> T;
    __shared__ T s;
    const int row0 = (int)blockIdx.x * T::BM, col0 = (int)blockIdx.y * T::BN;
    const int warp = (int)(threadIdx.x / 32), lane = (int)(threadIdx.x % 32);
    const int wk = warp % T::WK, tile = warp / T::WK, wm = tile % WM, wn = tile / WM;
    gemm_next<F, WM, WN> next;
    float acc[2][4][4];
    WKC_UNROLL
    for (int i = 0; i < 32; i++) acc[i / 16][i / 4 % 4][i % 4] = 0.0f;
    fetch<F, WM, WN>(next, w, x, row0, col0, n, 0);
    for (int u0 = 0; u0 < w.n_unit; u0 += STEP) {
        stage<F, WM, WN>(s, next, w, u0);
        __syncthreads();
        if (u0 + STEP < w.n_unit) fetch<F, WM, WN>(next, w, x, row0, col0, n, u0 + STEP);
        for (int u = wk; u < STEP; u += T::WK) multiply<F, WM, WN>(acc, s, PART * wm, PART * wn, u);
        __syncthreads();
    }
    add_up<F, WM, WN>(acc, s, tile, wk);
    if (wk) return;
    WKC_UNROLL
    for (int i = 0; i < 32; i++) {
        const int r = row0 + PART * wm + i / 16 * 16 + i % 4 / 2 * 8 + lane / 4;
        const int c = col0 + PART * wn + i / 4 % 4 * 8 + lane % 4 * 2 + i % 2;
        if (r < w.n_row && c < n) dst[(size_t)c * (size_t)w.n_row + (size_t)r] = acc[i / 16][i / 4 % 4][i % 4];
    }
}

template <class F, int WM, int WN>
static void start(cudaStream_t s, const wkc_w *w, const wkc_a *x, int32_t n, float *dst) {
    typedef gemm_tile<F, WM, WN> T;
    auto f = gemm<F, WM, WN>;
    const dim3 grid((unsigned)((w->n_row + T::BM - 1) / T::BM), (unsigned)((n + T::BN - 1) / T::BN));
    WKC_LAUNCH(f, grid, dim3(T::THREADS), 0, s, *w, *x, n, dst);
}
template <class F> static void choose(cudaStream_t s, const wkc_w *w, const wkc_a *x, int32_t n, float *dst) {
    if (n <= 32)
        start<F, 1, 1>(s, w, x, n, dst);
    else if (n <= 64)
        start<F, 2, 2>(s, w, x, n, dst);
    else
        start<F, 2, 4>(s, w, x, n, dst);
}

void wkc_gemm(cudaStream_t s, int fmt, const wkc_w *w, const wkc_a *x, int32_t n, float *dst) {
    switch (fmt) {
#define CASE(id, ...) \
    case WK_FMT_##id: return choose<WKC_KIND(__VA_ARGS__)>(s, w, x, n, dst);
        WKC_FORMATS(CASE)
#undef CASE
    default: return;
    }
}

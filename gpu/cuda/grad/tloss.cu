/* tloss.cu: cross-entropy of rows of logits, the norm of the gradients, and AdamW. */
#include "gpu/cuda/grad/tkernels.h"

enum { THREADS = 256, WARPS = THREADS / 32 };
static const unsigned ALL = 0xffffffffu;

/* The same result for every thread; room for one value a warp. */
static __device__ float block_max(float v, float *room) {
    for (int d = 16; d > 0; d >>= 1) v = fmaxf(v, __shfl_xor_sync(ALL, v, d));
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    for (int i = 0; i < WARPS; i++) v = fmaxf(v, room[i]);
    return v;
}
static __device__ double block_sum(double v, double *room) {
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(ALL, v, d);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    double s = 0.0;
    for (int i = 0; i < WARPS; i++) s += room[i];
    return s;
}

/* ---- loss -------------------------------------------------------------------------------------------------------- */

/* d loss / d logit = p - [i == target], times the slope of the cap. */
static __device__ void gradients(float *row, int n, int target, float top, double sum, float cap_inv) {
    const float inv = (float)(1.0 / sum);
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        const float t = row[i] * cap_inv, d = expf(row[i] - top) * inv - (i == target ? 1.0f : 0.0f);
        row[i] = cap_inv > 0.0f ? d * fmaf(-t, t, 1.0f) : d;
    }
}

static __global__ void __launch_bounds__(THREADS)
    loss_rows(float *logits, const int32_t *target, int n, float softcap, float cap_inv, bool back, double *loss) {
    __shared__ float tops[WARPS];
    __shared__ double sums[WARPS];
    float *const row = logits + (size_t)blockIdx.x * (size_t)n;
    const int hit = target[blockIdx.x];
    float top = -3.402823466e38f;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        if (softcap > 0.0f) row[i] = softcap * tanhf(row[i] * cap_inv);
        top = fmaxf(top, row[i]);
    }
    top = block_max(top, tops);
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) sum += (double)expf(row[i] - top);
    sum = block_sum(sum, sums);
    /* a sum that is not a number, or infinite, has no logarithm: NaN */
    if (threadIdx.x == 0)
        loss[blockIdx.x] = sum > 0.0 && sum < 1e300 ? log(sum) + (double)top - (double)row[hit] : (sum - sum) / (sum - sum);
    __syncthreads();
    if (back) gradients(row, n, hit, top, sum, cap_inv);
}

void wkc_tloss(cudaStream_t s, float *logits, const int32_t *target, int32_t n, int32_t n_vocab, float softcap, bool back,
               double *loss) {
    const float inv = softcap > 0.0f ? (float)(1.0 / (double)softcap) : 0.0f;
    if (n > 0) WKC_LAUNCH(loss_rows, (unsigned)n, THREADS, 0, s, logits, target, n_vocab, softcap, inv, back, loss);
}

/* ---- norm and update --------------------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS) squares(const float *x, size_t n, double *part) {
    __shared__ double room[WARPS];
    double s = 0.0;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (size_t)gridDim.x * THREADS)
        s += (double)x[i] * (double)x[i];
    s = block_sum(s, room);
    if (threadIdx.x == 0) part[blockIdx.x] = s;
}

void wkc_tsquares(cudaStream_t s, const float *x, size_t n, double *part) {
    WKC_LAUNCH(squares, WKC_TNORM_BLOCKS, THREADS, 0, s, x, n, part);
}

static __global__ void __launch_bounds__(THREADS)
    adamw(float *w, float *m, float *v, const float *g, wk_adamw a, size_t n) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const float gi = g[i] * a.g_scale, wi = w[i] * a.keep;
    m[i] = fmaf(m[i], a.b1, gi * a.b1c);
    v[i] = fmaf(v[i], a.b2, gi * gi * a.b2c);
    w[i] = wi - m[i] * a.step / (sqrtf(v[i]) * a.v_inv + a.eps);
}

void wkc_tadamw(cudaStream_t s, float *w, float *m, float *v, const float *g, const wk_adamw *a, size_t n) {
    if (n) WKC_LAUNCH(adamw, (unsigned)((n + THREADS - 1) / THREADS), THREADS, 0, s, w, m, v, g, *a, n);
}

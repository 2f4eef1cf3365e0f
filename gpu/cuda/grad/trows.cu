/* trows.cu: norms there and back, sums over columns, element by element work and the rows of the embedding. */
#include "gpu/cuda/grad/tkernels.h"

enum { ELEMS = 256, COLUMNS = 32, GROUPS = 16 }; /* threads; columns of a block, and threads over its rows */
static const unsigned ALL = 0xffffffffu;

static unsigned blocks_of(size_t n, size_t each) { return (unsigned)((n + each - 1) / each); }
/* Threads for a row, at most ELEMS. */
static unsigned threads_of(int dim) { return dim >= ELEMS ? (unsigned)ELEMS : 32u * blocks_of((size_t)dim, 32); }

/* The same sum for every thread of the block; all of them call it. */
static __device__ float block_sum(float v) {
    __shared__ float part[32];
    const int t = (int)threadIdx.x, n = (int)blockDim.x / 32;
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(ALL, v, d);
    if (t % 32 == 0) part[t / 32] = v;
    __syncthreads();
    float s = 0.0f;
    for (int i = 0; i < n; i++) s += part[i];
    return s;
}

/* ---- norms ------------------------------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(ELEMS)
    rms_there(const float *x, const float *w, int dim, float eps, float *dst, float *r) {
    const size_t at = (size_t)blockIdx.x * (size_t)dim;
    float s = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += (int)blockDim.x) s = fmaf(x[at + (size_t)i], x[at + (size_t)i], s);
    s = block_sum(s);
    /* a sum that is not finite gives NaN: 0 would hide the fault */
    const float f = s <= 3.402823466e38f ? 1.0f / sqrtf(s / (float)dim + eps) : __int_as_float(0x7fc00000);
    for (int i = (int)threadIdx.x; i < dim; i += (int)blockDim.x) dst[at + (size_t)i] = x[at + (size_t)i] * f * w[i];
    if (r && threadIdx.x == 0) r[blockIdx.x] = f;
}

void wkc_trms(cudaStream_t s, const float *x, const float *w, size_t n, int32_t dim, float eps, float *dst, float *r) {
    if (n) WKC_LAUNCH(rms_there, (unsigned)n, threads_of(dim), 0, s, x, w, dim, eps, dst, r);
}

/* dx may be dy. */
static __global__ void __launch_bounds__(ELEMS)
    rms_back(const float *dy, const float *x, const float *r, const float *w, int dim, bool add, float *dx) {
    const size_t at = (size_t)blockIdx.x * (size_t)dim;
    float s = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += (int)blockDim.x) s = fmaf(dy[at + (size_t)i] * w[i], x[at + (size_t)i], s);
    s = block_sum(s);
    const float f = r[blockIdx.x], c = f * f * (s / (float)dim);
    for (int i = (int)threadIdx.x; i < dim; i += (int)blockDim.x) {
        const float d = fmaf(-x[at + (size_t)i], c, dy[at + (size_t)i] * w[i]) * f;
        dx[at + (size_t)i] = add ? dx[at + (size_t)i] + d : d;
    }
}

void wkc_trms_dx(cudaStream_t s, const float *dy, const float *x, const float *r, const float *w, size_t n, int32_t dim,
                 bool add, float *dx) {
    if (n) WKC_LAUNCH(rms_back, (unsigned)n, threads_of(dim), 0, s, dy, x, r, w, dim, add, dx);
}

static __global__ void __launch_bounds__(ELEMS) dots(const float *a, const float *b, int dim, float *dst) {
    const size_t at = (size_t)blockIdx.x * (size_t)dim;
    float s = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += (int)blockDim.x) s = fmaf(a[at + (size_t)i], b[at + (size_t)i], s);
    s = block_sum(s);
    if (threadIdx.x == 0) dst[blockIdx.x] = s;
}

void wkc_tdots(cudaStream_t s, const float *a, const float *b, size_t n, int32_t dim, float *dst) {
    if (n) WKC_LAUNCH(dots, (unsigned)n, threads_of(dim), 0, s, a, b, dim, dst);
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */

/* A thread takes every GROUPS-th row of its column; the first one adds up what they found. */
static __global__ void __launch_bounds__(COLUMNS *GROUPS)
    columns(const float *dy, const float *x, const float *r, int n, int dim, float *dw) {
    __shared__ float part[GROUPS][COLUMNS];
    const int lane = (int)threadIdx.x % COLUMNS, group = (int)threadIdx.x / COLUMNS, i = (int)blockIdx.x * COLUMNS + lane;
    float s = 0.0f;
    for (int t = group; i < dim && t < n; t += GROUPS) {
        const size_t at = (size_t)t * (size_t)dim + (size_t)i;
        s = x ? fmaf(dy[at], x[at] * r[t], s) : s + dy[at];
    }
    part[group][lane] = s;
    __syncthreads();
    if (group || i >= dim) return;
    for (int g = 1; g < GROUPS; g++) s += part[g][lane];
    dw[i] += s;
}

void wkc_tcolumns(cudaStream_t s, const float *dy, const float *x, const float *r, int n, int dim, float *dw) {
    if (n > 0) WKC_LAUNCH(columns, blocks_of((size_t)dim, COLUMNS), COLUMNS * GROUPS, 0, s, dy, x, r, n, dim, dw);
}

/* ---- element by element ------------------------------------------------------------------------------------------ */

static __global__ void __launch_bounds__(ELEMS) scale_all(float c, const float *x, size_t n, float *dst) {
    const size_t i = (size_t)blockIdx.x * ELEMS + threadIdx.x;
    if (i < n) dst[i] = c * x[i];
}

void wkc_tscale(cudaStream_t s, float c, const float *x, size_t n, float *dst) {
    if (n) WKC_LAUNCH(scale_all, blocks_of(n, ELEMS), ELEMS, 0, s, c, x, n, dst);
}

struct slope {
    float fn, d;
};
static __device__ slope silu(float g) {
    const float s = 1.0f / (1.0f + expf(-g));
    return {g * s, s * fmaf(g, 1.0f - s, 1.0f)};
}
static __device__ slope gelu(float g) {
    const float a = 0x1.2444f2p-4f, b = 0x1.988454p+0f; /* 0.044715 * 2 sqrt(2/pi), 2 sqrt(2/pi) */
    const float s = 1.0f / (1.0f + expf(-g * fmaf(g * g, a, b))), dz = fmaf(g * g, 3.0f * a, b);
    return {g * s, fmaf(g * dz, s * (1.0f - s), s)};
}

/* The outputs may be an input. */
static __global__ void __launch_bounds__(ELEMS)
    glu_back(int fn, const float *dy, const float *g, const float *u, size_t n, float *dg, float *du) {
    const size_t i = (size_t)blockIdx.x * ELEMS + threadIdx.x;
    if (i >= n) return;
    const slope f = fn == WK_FN_SILU ? silu(g[i]) : gelu(g[i]);
    const float to_u = dy[i] * f.fn, to_g = dy[i] * u[i] * f.d;
    du[i] = to_u;
    dg[i] = to_g;
}

void wkc_tglu_dx(cudaStream_t s, int fn, const float *dy, const float *g, const float *u, size_t n, float *dg, float *du) {
    if (n) WKC_LAUNCH(glu_back, blocks_of(n, ELEMS), ELEMS, 0, s, fn, dy, g, u, n, dg, du);
}

static __global__ void __launch_bounds__(ELEMS) negate_sines(const float *cs, size_t n, int n_rot, float *back) {
    const size_t i = (size_t)blockIdx.x * ELEMS + threadIdx.x;
    if (i < n) back[i] = (int)(i % (size_t)n_rot) < n_rot / 2 ? cs[i] : -cs[i];
}

void wkc_tnegate_sines(cudaStream_t s, const float *cs, int32_t n, int32_t n_rot, float *back) {
    const size_t all = (size_t)n * (size_t)n_rot;
    if (all) WKC_LAUNCH(negate_sines, blocks_of(all, ELEMS), ELEMS, 0, s, cs, all, n_rot, back);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(ELEMS)
    embed_rows(const float *w, const int32_t *tok, int dim, float scale, float *dst) {
    const int i = (int)(blockIdx.y * ELEMS + threadIdx.x);
    if (i < dim)
        dst[(size_t)blockIdx.x * (size_t)dim + (size_t)i] = scale * w[(size_t)tok[blockIdx.x] * (size_t)dim + (size_t)i];
}

void wkc_tembed(cudaStream_t s, const float *w, const int32_t *tok, int32_t n, int32_t dim, float scale, float *dst) {
    if (n < 1) return;
    const dim3 grid((unsigned)n, blocks_of((size_t)dim, ELEMS));
    WKC_LAUNCH(embed_rows, grid, ELEMS, 0, s, w, tok, dim, scale, dst);
}

static __global__ void __launch_bounds__(ELEMS) unpick_rows(const float *src, const int32_t *at, int dim, float *dst) {
    const int i = (int)(blockIdx.y * ELEMS + threadIdx.x), row = at[blockIdx.x];
    if (i < dim)
        dst[(size_t)blockIdx.x * (size_t)dim + (size_t)i] = row < 0 ? 0.0f : src[(size_t)row * (size_t)dim + (size_t)i];
}

void wkc_tunpick(cudaStream_t s, const float *src, const int32_t *at, int32_t n, int32_t dim, float *dst) {
    if (n < 1) return;
    const dim3 grid((unsigned)n, blocks_of((size_t)dim, ELEMS));
    WKC_LAUNCH(unpick_rows, grid, ELEMS, 0, s, src, at, dim, dst);
}

static __global__ void __launch_bounds__(ELEMS) embed_back(const float *dy, const int32_t *tok, const int32_t *order,
                                                            const int32_t *start, int dim, float scale, float *dw) {
    const int i = (int)(blockIdx.y * ELEMS + threadIdx.x), j0 = start[blockIdx.x], j1 = start[blockIdx.x + 1];
    if (i >= dim) return;
    float *const to = dw + (size_t)tok[order[j0]] * (size_t)dim + (size_t)i;
    float s = *to;
    for (int j = j0; j < j1; j++) s = fmaf(scale, dy[(size_t)order[j] * (size_t)dim + (size_t)i], s);
    *to = s;
}

void wkc_tembed_dw(cudaStream_t s, const float *dy, const int32_t *tok, const int32_t *order, const int32_t *start,
                   int32_t n_id, int32_t dim, float scale, float *dw) {
    if (n_id < 1) return;
    const dim3 grid((unsigned)n_id, blocks_of((size_t)dim, ELEMS));
    WKC_LAUNCH(embed_back, grid, ELEMS, 0, s, dy, tok, order, start, dim, scale, dw);
}

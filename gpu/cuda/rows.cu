/* rows.cu: norms, element by element work, picked rows and rope. All of it is bound by memory: what counts is four values
 * a load where rows allow it, and one launch an operation. Sums are taken in another order than the CPU's (DESIGN 9: a
 * device is compared with a bound); everything else is the CPU's formula. */
#include "gpu/cuda/kernels.h"

#include "simd/kernels.h"

enum { ELEMS = 256, MOST = 1024 }; /* threads of a block */
static const unsigned ALL = 0xffffffffu;

static bool by_four(const void *p) { return (uintptr_t)p % 16 == 0; }
static unsigned blocks_of(size_t n, size_t each) { return (unsigned)((n + each - 1) / each); }

/* ---- norms ------------------------------------------------------------------------------------------------------- */

static __device__ float warp_sum(float v) {
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(ALL, v, d);
    return v;
}

/* The factor of a row; a sum that is not finite gives NaN: 0 would hide the fault. */
static __device__ float factor_of(float ss, int dim, float eps) {
    if (!(ss <= 3.402823466e38f)) return __int_as_float(0x7fc00000);
    return 1.0f / sqrtf(ss / (float)dim + eps);
}

static __device__ float square4(float4 v, float s) { return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, s)))); }
static __device__ float4 norm4(float4 v, float r, float4 w) {
    return make_float4(v.x * r * w.x, v.y * r * w.y, v.z * r * w.z, v.w * r * w.w);
}

/* Pieces of T (float, or float4: n_piece of them) by the threads first, first + step, ... */
static __device__ float sum_of(const float *x, int n_piece, int first, int step) {
    float s = 0.0f;
    for (int i = first; i < n_piece; i += step) s = fmaf(x[i], x[i], s);
    return s;
}
static __device__ float sum_of(const float4 *x, int n_piece, int first, int step) {
    float s = 0.0f;
    for (int i = first; i < n_piece; i += step) s = square4(x[i], s);
    return s;
}
static __device__ void scale_to(float *dst, const float *x, const float *w, float r, int n_piece, int first, int step) {
    for (int i = first; i < n_piece; i += step) dst[i] = x[i] * r * w[i];
}
static __device__ void scale_to(float4 *dst, const float4 *x, const float4 *w, float r, int n_piece, int first, int step) {
    for (int i = first; i < n_piece; i += step) dst[i] = norm4(x[i], r, w[i]);
}

/* A block a row. */
template <class T>
static __global__ void __launch_bounds__(MOST) rms_rows(const T *x, const T *w, int dim, int n_piece, float eps, T *dst) {
    __shared__ float part[32];
    const int t = (int)threadIdx.x, n = (int)blockDim.x;
    const size_t at = (size_t)blockIdx.x * (size_t)n_piece;
    float s = warp_sum(sum_of(x + at, n_piece, t, n));
    if (t % 32 == 0) part[t / 32] = s;
    __syncthreads();
    s = warp_sum(t % 32 < n / 32 ? part[t % 32] : 0.0f);
    scale_to(dst + at, x + at, w, factor_of(s, dim, eps), n_piece, t, n);
}

void wkc_rms(cudaStream_t s, const float *x, const float *w, int32_t n, int32_t dim, float eps, float *dst) {
    if (n < 1) return;
    const bool four = dim % 4 == 0 && by_four(x) && by_four(w) && by_four(dst);
    const int pieces = four ? dim / 4 : dim, warps = (pieces + 31) / 32;
    const unsigned threads = 32u * (unsigned)(warps < MOST / 32 ? warps : MOST / 32);
    if (four)
        WKC_LAUNCH(rms_rows<float4>, (unsigned)n, threads, 0, s, (const float4 *)x, (const float4 *)w, dim, pieces, eps,
                   (float4 *)dst);
    else
        WKC_LAUNCH(rms_rows<float>, (unsigned)n, threads, 0, s, x, w, dim, pieces, eps, dst);
}

/* A warp a head. Heads follow each other over the rows: a row is a whole number of them. */
template <class T>
static __global__ void __launch_bounds__(ELEMS)
    rms_heads(const T *x, const T *w, size_t n_head, int head_dim, int n_piece, float eps, T *dst) {
    const size_t head = (size_t)blockIdx.x * (ELEMS / 32) + threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    if (head >= n_head) return;
    const size_t at = head * (size_t)n_piece;
    const float s = warp_sum(sum_of(x + at, n_piece, lane, 32));
    scale_to(dst + at, x + at, w, factor_of(s, head_dim, eps), n_piece, lane, 32);
}

void wkc_headrms(cudaStream_t s, const float *x, const float *w, int32_t n, int32_t dim, int32_t head_dim, float eps,
                 float *dst) {
    if (n < 1) return;
    const size_t heads = (size_t)n * (size_t)(dim / head_dim);
    const unsigned grid = blocks_of(heads, ELEMS / 32);
    if (head_dim % 4 == 0 && by_four(x) && by_four(w) && by_four(dst))
        WKC_LAUNCH(rms_heads<float4>, grid, ELEMS, 0, s, (const float4 *)x, (const float4 *)w, heads, head_dim,
                   head_dim / 4, eps, (float4 *)dst);
    else
        WKC_LAUNCH(rms_heads<float>, grid, ELEMS, 0, s, x, w, heads, head_dim, head_dim, eps, dst);
}

/* ---- element by element ------------------------------------------------------------------------------------------ */

struct add_fn {
    __device__ float operator()(float a, float b) const { return a + b; }
};
struct fma_fn {
    float c;
    __device__ float operator()(float x, float y) const { return fmaf(c, x, y); }
};
struct silu_fn {
    __device__ float operator()(float g, float u) const { return g / (1.0f + expf(-g)) * u; }
};
struct gelu_fn {
    __device__ float operator()(float g, float u) const {
        const float z = g * fmaf(g * g, 0x1.2444f2p-4f, 0x1.988454p+0f); /* 0.044715 * 2 sqrt(2/pi), 2 sqrt(2/pi) */
        return g / (1.0f + expf(-z)) * u;
    }
};
struct cap_fn {
    float c, inv;
    __device__ float operator()(float x, float) const { return c * tanhf(x * inv); }
};

template <class F> static __device__ float4 map4(F f, float4 a, float4 b) {
    return make_float4(f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w));
}
template <class F> static __device__ float map4(F f, float a, float b) { return f(a, b); }

/* dst may be a or b. */
template <class F, class T>
static __global__ void __launch_bounds__(ELEMS) map_all(F f, const T *a, const T *b, size_t n, T *dst) {
    const size_t i = (size_t)blockIdx.x * ELEMS + threadIdx.x;
    if (i < n) dst[i] = map4(f, a[i], b[i]);
}

template <class F> static void map(cudaStream_t s, F f, const float *a, const float *b, size_t n, float *dst) {
    if (!n) return;
    if (n % 4 == 0 && by_four(a) && by_four(b) && by_four(dst))
        WKC_LAUNCH((map_all<F, float4>), blocks_of(n / 4, ELEMS), ELEMS, 0, s, f, (const float4 *)a, (const float4 *)b, n / 4,
                   (float4 *)dst);
    else
        WKC_LAUNCH((map_all<F, float>), blocks_of(n, ELEMS), ELEMS, 0, s, f, a, b, n, dst);
}

void wkc_add(cudaStream_t s, const float *a, const float *b, size_t n, float *dst) { map(s, add_fn{}, a, b, n, dst); }
void wkc_lora(cudaStream_t s, float c, const float *x, const float *y, size_t n, float *dst) {
    map(s, fma_fn{c}, x, y, n, dst);
}
void wkc_glu(cudaStream_t s, int fn, const float *gate, const float *up, size_t n, float *dst) {
    if (fn == WK_FN_SILU) map(s, silu_fn{}, gate, up, n, dst);
    else map(s, gelu_fn{}, gate, up, n, dst);
}
void wkc_softcap(cudaStream_t s, float c, const float *x, size_t n, float *dst) {
    map(s, cap_fn{c, (float)(1.0 / (double)c)}, x, x, n, dst);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

template <class T> static __global__ void __launch_bounds__(ELEMS) add_row(const T *x, const T *b, int n_piece, T *dst) {
    const int i = (int)(blockIdx.y * ELEMS + threadIdx.x);
    const size_t at = (size_t)blockIdx.x * (size_t)n_piece + (size_t)i;
    if (i < n_piece) dst[at] = map4(add_fn{}, x[at], b[i]);
}

void wkc_bias(cudaStream_t s, const float *x, const float *b, int32_t n, int32_t dim, float *dst) {
    if (n < 1) return;
    const bool four = dim % 4 == 0 && by_four(x) && by_four(b) && by_four(dst);
    const int pieces = four ? dim / 4 : dim;
    const dim3 grid((unsigned)n, blocks_of((size_t)pieces, ELEMS));
    if (four) WKC_LAUNCH(add_row<float4>, grid, ELEMS, 0, s, (const float4 *)x, (const float4 *)b, pieces, (float4 *)dst);
    else WKC_LAUNCH(add_row<float>, grid, ELEMS, 0, s, x, b, pieces, dst);
}

template <class T>
static __global__ void __launch_bounds__(ELEMS) pick_rows(const T *x, const int32_t *row, int n_piece, T *dst) {
    const int i = (int)(blockIdx.y * ELEMS + threadIdx.x);
    if (i < n_piece) dst[(size_t)blockIdx.x * (size_t)n_piece + (size_t)i] = x[(size_t)row[blockIdx.x] * (size_t)n_piece + (size_t)i];
}

void wkc_pick(cudaStream_t s, const float *x, const int32_t *row, int32_t n, int32_t dim, float *dst) {
    if (n < 1) return;
    const bool four = dim % 4 == 0 && by_four(x) && by_four(dst);
    const int pieces = four ? dim / 4 : dim;
    const dim3 grid((unsigned)n, blocks_of((size_t)pieces, ELEMS));
    if (four) WKC_LAUNCH(pick_rows<float4>, grid, ELEMS, 0, s, (const float4 *)x, row, pieces, (float4 *)dst);
    else WKC_LAUNCH(pick_rows<float>, grid, ELEMS, 0, s, x, row, pieces, dst);
}

/* ---- rope -------------------------------------------------------------------------------------------------------- */

/* In double: angles reach the context's length, and a float's sine of 100000 is off by 0.004. */
static __global__ void __launch_bounds__(ELEMS)
    rope_rows(const double *freq, int n_pair, float mscale, const int32_t *pos, float *cs) {
    const int i = (int)(blockIdx.y * ELEMS + threadIdx.x);
    if (i >= n_pair) return;
    float *const row = cs + (size_t)blockIdx.x * 2 * (size_t)n_pair;
    double sn, cn;
    sincos((double)pos[blockIdx.x] * freq[i], &sn, &cn);
    row[i] = (float)(cn * (double)mscale);
    row[n_pair + i] = (float)(sn * (double)mscale);
}

void wkc_rope_table(cudaStream_t s, const double *freq, int32_t n_rot, float mscale, const int32_t *pos, int32_t n,
                    float *cs) {
    if (n < 1 || n_rot < 2) return;
    WKC_LAUNCH(rope_rows, dim3((unsigned)n, blocks_of((size_t)n_rot / 2, ELEMS)), ELEMS, 0, s, freq, n_rot / 2, mscale, pos,
               cs);
}

struct turned {
    float y0, y1;
};
static __device__ turned turn(float a, float b, float c, float sn) {
    turned r;
    r.y0 = fmaf(a, c, -(b * sn));
    r.y1 = fmaf(a, sn, b * c);
    return r;
}
static __device__ void turn_at(float *dst, const float *x, int i0, int i1, float c, float sn) {
    const turned r = turn(x[i0], x[i1], c, sn);
    dst[i0] = r.y0;
    dst[i1] = r.y1;
}

/* Items of a head: its pairs, then what is not turned. dst may be x. */
static __global__ void __launch_bounds__(ELEMS)
    rope_pairs(int pairing, const float *x, const float *cs, int n_head, int head_dim, int n_pair, float *dst) {
    const int items = head_dim - n_pair, j = (int)(blockIdx.y * ELEMS + threadIdx.x), h = j / items, i = j % items;
    if (h >= n_head) return;
    const size_t at = ((size_t)blockIdx.x * (size_t)n_head + (size_t)h) * (size_t)head_dim;
    const float *const c = cs + (size_t)blockIdx.x * 2 * (size_t)n_pair;
    if (i >= n_pair) dst[at + (size_t)(n_pair + i)] = x[at + (size_t)(n_pair + i)];
    else if (pairing == WK_ROPE_HALVES) turn_at(dst + at, x + at, i, i + n_pair, c[i], c[n_pair + i]);
    else turn_at(dst + at, x + at, 2 * i, 2 * i + 1, c[i], c[n_pair + i]);
}

/* Halves, four pairs a thread; head_dim and n_pair count fours. */
static __global__ void __launch_bounds__(ELEMS)
    rope_halves4(const float4 *x, const float4 *cs, int n_head, int head_dim, int n_pair, float4 *dst) {
    const int items = head_dim - n_pair, j = (int)(blockIdx.y * ELEMS + threadIdx.x), h = j / items, i = j % items;
    if (h >= n_head) return;
    const size_t at = ((size_t)blockIdx.x * (size_t)n_head + (size_t)h) * (size_t)head_dim + (size_t)i;
    if (i >= n_pair) {
        dst[at + (size_t)n_pair] = x[at + (size_t)n_pair];
        return;
    }
    const float4 *const row = cs + (size_t)blockIdx.x * 2 * (size_t)n_pair;
    const float4 a = x[at], b = x[at + (size_t)n_pair], c = row[i], sn = row[n_pair + i];
    const turned p = turn(a.x, b.x, c.x, sn.x), q = turn(a.y, b.y, c.y, sn.y), r = turn(a.z, b.z, c.z, sn.z),
                 t = turn(a.w, b.w, c.w, sn.w);
    dst[at] = make_float4(p.y0, q.y0, r.y0, t.y0);
    dst[at + (size_t)n_pair] = make_float4(p.y1, q.y1, r.y1, t.y1);
}

void wkc_rope(cudaStream_t s, int pairing, const float *x, const float *cs, int32_t n, int32_t dim, int32_t head_dim,
              int32_t n_rot, float *dst) {
    if (n < 1) return;
    const int heads = dim / head_dim, n_pair = n_rot / 2;
    const bool four = pairing == WK_ROPE_HALVES && head_dim % 4 == 0 && n_pair % 4 == 0 && by_four(x) && by_four(cs) && by_four(dst);
    const int items = four ? (head_dim - n_pair) / 4 : head_dim - n_pair;
    const dim3 grid((unsigned)n, blocks_of((size_t)heads * (size_t)items, ELEMS));
    if (four)
        WKC_LAUNCH(rope_halves4, grid, ELEMS, 0, s, (const float4 *)x, (const float4 *)cs, heads, head_dim / 4, n_pair / 4,
                   (float4 *)dst);
    else
        WKC_LAUNCH(rope_pairs, grid, ELEMS, 0, s, pairing, x, cs, heads, head_dim, n_pair, dst);
}

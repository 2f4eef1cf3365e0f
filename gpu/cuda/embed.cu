/* embed.cu: rows of a matrix as f32, the CPU's bits: d * sc is exact, then one product or one fma a value, then the
 * plan's scale. An id that the matrix does not have gives zeros: the engine has checked ids, this keeps loads inside. */
#include "gpu/cuda/formats.cuh"

template <class F> __global__ void embed_q(wkc_w w, const int32_t *tok, float scale, float *dst) {
    const int unit = (int)(blockIdx.x * blockDim.x + threadIdx.x), row = tok[blockIdx.y];
    if (unit >= w.n_unit) return;
    const bool in = row >= 0 && row < w.n_row;
    float *out = dst + ((size_t)blockIdx.y * (size_t)w.n_unit + (size_t)unit) * 32;
    wkc_raw<F> raw;
    int code[8];
    wkc_load<F>(raw, w, in ? row : 0, unit);
    wkc_codes<F, true>(code, raw, w.table);
    const wkc_scale s = wkc_scale_of<F>(raw, w.factor);
    WKC_UNROLL
    for (int i = 0; i < 32; i++) {
        const int j = i / F::SUB;
        const float c = (float)(int8_t)(code[i / 4] >> (8 * (i % 4))), d = F::SC_BYTES ? s.d * (float)s.sc[j] : s.d;
        const float v = F::MINS ? fmaf(d, c, F::SC_BYTES ? s.m * (float)s.mn[j] : s.m) : d * c;
        out[i] = in ? v * scale : 0.0f;
    }
}

WKC_FN float value(float v) { return v; }
WKC_FN float value(__half v) { return __half2float(v); }
WKC_FN float value(__nv_bfloat16 v) { return __bfloat162float(v); }

template <class T>
__global__ void embed_f(const T *w, int n_row, int k, int kp, const int32_t *tok, float scale, float *dst) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), row = tok[blockIdx.y];
    if (i >= k) return;
    const bool in = row >= 0 && row < n_row;
    dst[(size_t)blockIdx.y * (size_t)k + (size_t)i] =
        in ? value(w[(size_t)row * (size_t)kp + (size_t)i]) * scale : 0.0f;
}

enum { MAX_GRID_Y = 65535, THREADS = 128 };

template <class F> static void start_q(cudaStream_t s, const wkc_w *w, const int32_t *tok, int n, float scale, float *dst) {
    auto f = embed_q<F>;
    const dim3 grid((unsigned)((w->n_unit + THREADS - 1) / THREADS), (unsigned)n);
    WKC_LAUNCH(f, grid, dim3(THREADS), 0, s, *w, tok, scale, dst);
}
template <class T> static void start_f(cudaStream_t s, const wkc_mat *m, const int32_t *tok, int n, float scale, float *dst) {
    auto f = embed_f<T>;
    const dim3 grid((unsigned)((m->k + THREADS - 1) / THREADS), (unsigned)n);
    WKC_LAUNCH(f, grid, dim3(THREADS), 0, s, (const T *)m->p, m->n_row, m->k, wkc_pad(m->k), tok, scale, dst);
}

static void some(cudaStream_t s, const wkc_mat *m, const int32_t *tok, int n, float scale, float *dst) {
    const wkc_w w = wkc_w_of(m);
    switch (m->fmt) {
    case WK_FMT_F32: return start_f<float>(s, m, tok, n, scale, dst);
    case WK_FMT_F16: return start_f<__half>(s, m, tok, n, scale, dst);
    case WK_FMT_BF16: return start_f<__nv_bfloat16>(s, m, tok, n, scale, dst);
#define CASE(id, ...) \
    case WK_FMT_##id: return start_q<WKC_KIND(__VA_ARGS__)>(s, &w, tok, n, scale, dst);
        WKC_FORMATS(CASE)
#undef CASE
    default: return;
    }
}

void wkc_embed(cudaStream_t s, const wkc_mat *m, const int32_t *tok, int32_t n, float scale, float *dst) {
    for (int32_t i = 0; i < n; i += MAX_GRID_Y)
        some(s, m, tok + i, n - i < MAX_GRID_Y ? n - i : MAX_GRID_Y, scale, dst + (size_t)i * (size_t)m->k);
}

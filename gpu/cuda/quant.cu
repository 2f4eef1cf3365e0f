/* quant.cu: f32 activations to int8 by blocks, bit for bit as simd/ref/quant.c: amax as an integer maximum, one true
 * division, rint. So a product of the device differs from the CPU's in the order of its float sums only. */
#include "gpu/cuda/formats.cuh"
extern "C" {
#include "simd/poly.h"
}

/* A lane has PER consecutive values; LANES lanes make a block, 16 / PER of them a sum. */
template <int PER, int LANES>
__global__ void quant(const float *x, int n, int dim, int8_t *q, float *d, int16_t *s16) {
    const int lane = (int)(threadIdx.x % 32);
    const int warp = (int)(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
    const int per_row = (dim + 32 * PER - 1) / (32 * PER); /* warps */
    const int row = warp / per_row, i = (warp % per_row * 32 + lane) * PER;
    const bool in = row < n && i < dim; /* whole blocks only */
    float v[PER];
    uint32_t bits = 0;
    WKC_UNROLL
    for (int j = 0; j < PER / 4; j++) {
        wkc_4w u = {{0, 0, 0, 0}};
        if (in) u = *(const wkc_4w *)(x + (size_t)row * (size_t)dim + i + 4 * j);
        for (int e = 0; e < 4; e++) {
            v[4 * j + e] = __uint_as_float(u.v[e]);
            const uint32_t a = u.v[e] & 0x7fffffffu;
            bits = a > bits ? a : bits;
        }
    }
    WKC_UNROLL
    for (int m = LANES / 2; m > 0; m /= 2) {
        const uint32_t o = __shfl_xor_sync(0xffffffffu, bits, m);
        bits = o > bits ? o : bits;
    }
    const float amax = __uint_as_float(bits);
    const bool finite = bits < 0x7f800000u, some = finite && amax >= WK_QUANT_TINY;
    const float inv = some ? 127.0f / amax : 0.0f;
    int sum = 0;
    uint32_t word[PER / 4];
    WKC_UNROLL
    for (int j = 0; j < PER; j++) {
        const int c = some ? (int)rintf(v[j] * inv) : 0;
        sum += c;
        word[j / 4] = (j % 4 ? word[j / 4] : 0) | (uint32_t)(c & 255) << (8 * (j % 4));
    }
    WKC_UNROLL
    for (int m = 8 / PER; m > 0; m /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, m);
    if (!in) return;
    const size_t at = (size_t)row * (size_t)dim + (size_t)i;
    WKC_UNROLL
    for (int j = 0; j < PER / 4; j++) ((uint32_t *)(q + at))[j] = word[j];
    if (lane % (16 / PER) == 0) s16[at / 16] = (int16_t)sum;
    if (lane % LANES == 0)
        d[at / (PER * LANES)] = !finite ? __uint_as_float(0x7fc00000u) : some ? amax * WK_QUANT_STEP : 0.0f;
}

void wkc_quant(cudaStream_t s, int type, const float *x, int32_t n, int32_t dim, size_t rows, void *dst) {
    enum { WARPS = 4 };
    const wkc_a a = wkc_act_of(type, dst, dim, rows);
    const int per = type == WK_VAL_A256 ? 256 : 128; /* values of a warp */
    const int n_warp = n * ((dim + per - 1) / per);
    auto f = type == WK_VAL_A256 ? quant<8, 32> : quant<4, 8>;
    if (n <= 0) return;
    WKC_LAUNCH(f, dim3((unsigned)((n_warp + WARPS - 1) / WARPS)), dim3(32 * WARPS), 0, s, x, n, dim, (int8_t *)a.q,
               (float *)a.d, (int16_t *)a.s16);
}

/* kv.cuh: where the values of a cache page lie, and how kernels read them.
 *
 * A page holds its layers in order, a layer its kv heads, a head K and then V of 64 positions. Values go in chunks of 8
 * dims of one position, hd/8 chunks a head:
 *
 *   K   [hd/8][64 positions][8]   attention gives a thread a position: neighbouring threads read neighbouring chunks,
 *                                 and a dot product needs no exchange between threads
 *   V   [64 positions][hd/8][8]   a thread has dims and walks positions: rows as they are
 *
 * A chunk has 8 bytes of Q8_0 codes, 16 of f16 and bf16, 32 of f32. Behind the codes of Q8_0 stand its f16 scales, K's
 * [hd/32][64], V's [64][hd/32]. */
#ifndef WKC_KV_CUH
#define WKC_KV_CUH

#include "gpu/cuda/kernels.h"
#include "simd/format.h"

#ifdef WKC_EMU
#define WKC_PRAGMA(text)
#else
#define WKC_PRAGMA(text) _Pragma(#text)
#endif

enum { WKC_CHUNK = 8, WKC_HEAD_DIM_MAX = 256 };

/* Bytes of a chunk. */
__host__ __device__ constexpr int wkc_chunk_bytes(int type) {
    return type == WK_KV_F32 ? 32 : type == WK_KV_Q8_0 ? 8 : 16;
}
/* Bytes of K, and of V, of a head of a page; the scales of Q8_0 are 1/16 of its codes. */
__host__ __device__ constexpr size_t wkc_kv_half(int type, int head_dim) {
    return (size_t)(WK_KV_PAGE * head_dim / WKC_CHUNK * wkc_chunk_bytes(type)) +
           (type == WK_KV_Q8_0 ? (size_t)(WK_KV_PAGE * head_dim / 16) : 0);
}

/* A head of one layer, in every page. */
typedef struct wkc_kv_head {
    uint8_t *p;         /* head 0 of the layer in page 0 */
    size_t page, head;  /* bytes from page to page, head to head */
    int hd;
} wkc_kv_head;

static inline wkc_kv_head wkc_kv_layer(const wkc_kv *kv, int32_t layer) {
    const size_t at = (size_t)(layer - kv->layer_first) * (size_t)kv->n_head_kv * kv->head_bytes;
    return {kv->p + at, kv->page_bytes, kv->head_bytes, kv->head_dim};
}

static inline __device__ float wkc_half_bits(uint32_t h) {
    return __half2float(__ushort_as_half((unsigned short)h));
}

/* Two values of a word of f16 or bf16. */
template <int TYPE> static inline __device__ void wkc_word(float *f, uint32_t w) {
    if (TYPE == WK_KV_BF16) {
        f[0] = __uint_as_float(w << 16);
        f[1] = __uint_as_float(w & 0xffff0000u);
    } else {
        f[0] = wkc_half_bits(w & 0xffffu);
        f[1] = wkc_half_bits(w >> 16);
    }
}

/* Four codes as floats: a byte put below the exponent of 2^23 is 2^23 + byte, which costs an addition where a conversion
 * runs at a quarter of the rate. */
static inline __device__ void wkc_codes(float *f, uint32_t w) {
    const uint32_t u = w ^ 0x80808080u;
    WKC_UNROLL
    for (int i = 0; i < 4; i++) f[i] = __uint_as_float(0x4b000000u | ((u >> (8 * i)) & 0xffu)) - 8388736.0f;
}

/* A chunk at p. Q8_0: codes, times the scale at d. */
template <int TYPE> static inline __device__ void wkc_chunk(float *f, const uint8_t *p, const uint8_t *d) {
    if (TYPE == WK_KV_F32) {
        const float4 a = ((const float4 *)p)[0], b = ((const float4 *)p)[1];
        f[0] = a.x, f[1] = a.y, f[2] = a.z, f[3] = a.w;
        f[4] = b.x, f[5] = b.y, f[6] = b.z, f[7] = b.w;
    } else if (TYPE == WK_KV_Q8_0) {
        const uint2 u = *(const uint2 *)p;
        const float s = wkc_half_bits(*(const uint16_t *)d);
        wkc_codes(f, u.x);
        wkc_codes(f + 4, u.y);
        WKC_UNROLL
        for (int i = 0; i < WKC_CHUNK; i++) f[i] *= s;
    } else {
        const uint4 u = *(const uint4 *)p;
        wkc_word<TYPE>(f, u.x);
        wkc_word<TYPE>(f + 2, u.y);
        wkc_word<TYPE>(f + 4, u.z);
        wkc_word<TYPE>(f + 6, u.w);
    }
}

/* Chunk c of a slot: bytes from the head's K (V) on; and the scale of Q8_0. */
static inline __device__ int wkc_k_at(int type, int c, int slot) {
    return (c * WK_KV_PAGE + slot) * wkc_chunk_bytes(type);
}
static inline __device__ int wkc_k_scale(int hd, int c, int slot) {
    return WK_KV_PAGE * hd + (c / 4 * WK_KV_PAGE + slot) * 2;
}
static inline __device__ int wkc_v_at(int type, int hd, int c, int slot) {
    return (slot * (hd / WKC_CHUNK) + c) * wkc_chunk_bytes(type);
}
static inline __device__ int wkc_v_scale(int hd, int c, int slot) {
    return WK_KV_PAGE * hd + (slot * (hd / 32) + c / 4) * 2;
}

template <int TYPE> static inline __device__ void wkc_k_chunk(float *f, const uint8_t *k, int hd, int c, int slot) {
    wkc_chunk<TYPE>(f, k + wkc_k_at(TYPE, c, slot), k + wkc_k_scale(hd, c, slot));
}
template <int TYPE> static inline __device__ void wkc_v_chunk(float *f, const uint8_t *v, int hd, int c, int slot) {
    wkc_chunk<TYPE>(f, v + wkc_v_at(TYPE, hd, c, slot), v + wkc_v_scale(hd, c, slot));
}

#endif

/* kv.cu: the cache: its size, pages zeroed and copied, K and V put into it. kv.cuh has the order of bytes. */
#include "gpu/cuda/kv.cuh"

bool wkc_kv_init(wkc_kv *kv, int kv_type, int32_t head_dim, int32_t n_head_kv, int32_t layer_first, int32_t n_layer) {
    if (kv_type < 0 || kv_type >= WK_KV_TYPE_COUNT || head_dim <= 0 || n_head_kv <= 0 || n_layer < 0) return false;
    if (head_dim % WKC_CHUNK || head_dim > WKC_HEAD_DIM_MAX) return false;
    if (kv_type == WK_KV_Q8_0 && head_dim % 32) return false;
    const size_t head = 2 * wkc_kv_half(kv_type, head_dim), heads = (size_t)n_head_kv * (size_t)n_layer;
    if (heads > SIZE_MAX / head) return false;
    *kv = {nullptr, kv_type, head_dim, n_head_kv, layer_first, n_layer, head, heads * head};
    return true;
}

/* ---- pages --------------------------------------------------------------------------------------- */

/* A thread has the same 16 bytes of every page, so a page that is written and read by two pairs of the list is as if the
 * pairs ran one after another. */
static __global__ void zero_pages(uint8_t *p, size_t page_bytes, const uint32_t *zero, int n) {
    const size_t step = (size_t)gridDim.x * blockDim.x, n16 = page_bytes / 16;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n16; i += step)
        for (int j = 0; j < n; j++) ((uint4 *)(p + zero[j] * page_bytes))[i] = make_uint4(0, 0, 0, 0);
}

static __global__ void copy_pages(uint8_t *p, size_t page_bytes, const uint32_t *copy, int n) {
    const size_t step = (size_t)gridDim.x * blockDim.x, n16 = page_bytes / 16;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n16; i += step)
        for (int j = 0; j < n; j++)
            ((uint4 *)(p + copy[2 * j] * page_bytes))[i] = ((const uint4 *)(p + copy[2 * j + 1] * page_bytes))[i];
}

void wkc_kv_pages(cudaStream_t s, const wkc_kv *kv, const uint32_t *zero, int32_t n_zero, const uint32_t *copy,
                  int32_t n_copy) {
    const unsigned most = 1024, threads = 256;
    const size_t want = (kv->page_bytes / 16 + threads - 1) / threads;
    const dim3 grid(want < most ? (unsigned)want : most), block(threads);
    if (!want) return;
    if (n_zero > 0) WKC_LAUNCH(zero_pages, grid, block, 0, s, kv->p, kv->page_bytes, zero, n_zero);
    if (n_copy > 0) WKC_LAUNCH(copy_pages, grid, block, 0, s, kv->p, kv->page_bytes, copy, n_copy);
}

/* ---- put ----------------------------------------------------------------------------------------- */

/* One launch's arguments; what a step and its batch say. */
typedef struct put_args {
    wkc_kv_head kv;
    const float *x;
    const int32_t *seq_of, *pos, *table;
    const uint32_t *page;
    uint8_t *bad_tok;
    int n_tok, n_head_kv;
} put_args;

/* bits, or +0 with *bad set where the exponent is all ones: Inf, NaN, or what rounds to Inf. */
static inline __device__ uint32_t finite(uint32_t bits, uint32_t exponent, bool *bad) {
    if ((bits & exponent) != exponent) return bits;
    *bad = true;
    return 0;
}

template <int TYPE> static inline __device__ uint32_t cast16(float x, bool *bad) {
    if (TYPE == WK_KV_F16) return finite(__half_as_ushort(__float2half_rn(x)), 0x7c00u, bad);
    const uint32_t u = finite(__float_as_uint(x), 0x7f800000u, bad); /* nearest even, as engine/base/half.h */
    return finite((u + 0x7fffu + ((u >> 16) & 1u)) >> 16, 0x7f80u, bad);
}

template <int TYPE> static inline __device__ uint32_t cast_pair(const float *x, bool *bad) {
    const uint32_t lo = cast16<TYPE>(x[0], bad), hi = cast16<TYPE>(x[1], bad);
    return lo | hi << 16;
}

/* The quantiser of DESIGN 9.3; four neighbouring threads have the 32 values of a block, and all of a warp come here. */
static inline __device__ void put_q8(uint8_t *dst, uint8_t *scale, const float *x, bool writes, bool first, bool *bad) {
    uint32_t bits = 0;
    for (int i = 0; i < WKC_CHUNK; i++) {
        const uint32_t a = __float_as_uint(x[i]) & 0x7fffffffu; /* an integer maximum: NaN cannot hide in it */
        bits = a > bits ? a : bits;
    }
    for (int o = 1; o < 4; o *= 2) {
        const uint32_t a = __shfl_xor_sync(0xffffffffu, bits, o);
        bits = a > bits ? a : bits;
    }
    if (!writes) return;
    const float amax = __uint_as_float(bits);
    uint32_t d = 0, code[2] = {0, 0};
    if (bits >= 0x7f800000u) {
        *bad = true;
    } else if (amax >= 0x1p-100f) {
        bool wide = false;
        d = finite(__half_as_ushort(__float2half_rn(amax * 0x1.020408p-7f)), 0x7c00u, &wide);
        const float inv = 127.0f / amax;
        for (int i = 0; i < WKC_CHUNK && !wide; i++)
            code[i / 4] |= ((uint32_t)(int)rintf(x[i] * inv) & 0xffu) << (8 * (i % 4));
        *bad = *bad || wide;
    }
    *(uint2 *)dst = make_uint2(code[0], code[1]);
    if (first) *(uint16_t *)scale = (uint16_t)d;
}

/* A thread has a chunk. Threads past the end, and rows of no sequence (a padded batch has them), take part in the
 * exchange of put_q8 with zeros and write nothing. */
template <int TYPE> static __global__ void put(put_args a, int which) {
    const int hd = a.kv.hd, nc = hd / WKC_CHUNK, per_tok = a.n_head_kv * nc;
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int t = (int)(i / per_tok), head = (int)(i % per_tok) / nc, c = (int)(i % nc);
    const int seq = t < a.n_tok ? a.seq_of[t] : -1;
    float x[WKC_CHUNK] = {0};
    uint8_t *dst = nullptr, *scale = nullptr;
    if (seq >= 0) {
        const int pos = a.pos[t], slot = pos % WK_KV_PAGE;
        const uint32_t page = a.page[a.table[seq] + pos / WK_KV_PAGE];
        uint8_t *at = a.kv.p + page * a.kv.page + (size_t)head * a.kv.head + (which ? wkc_kv_half(TYPE, hd) : 0);
        dst = at + (which ? wkc_v_at(TYPE, hd, c, slot) : wkc_k_at(TYPE, c, slot));
        scale = at + (which ? wkc_v_scale(hd, c, slot) : wkc_k_scale(hd, c, slot));
        const float4 *src = (const float4 *)(a.x + i * WKC_CHUNK), lo = src[0], hi = src[1];
        x[0] = lo.x, x[1] = lo.y, x[2] = lo.z, x[3] = lo.w;
        x[4] = hi.x, x[5] = hi.y, x[6] = hi.z, x[7] = hi.w;
    }
    bool bad = false;
    if (TYPE == WK_KV_Q8_0) {
        put_q8(dst, scale, x, dst != nullptr, c % 4 == 0, &bad);
    } else if (dst && TYPE == WK_KV_F32) {
        for (int j = 0; j < WKC_CHUNK; j++) ((uint32_t *)dst)[j] = finite(__float_as_uint(x[j]), 0x7f800000u, &bad);
    } else if (dst) {
        *(uint4 *)dst = make_uint4(cast_pair<TYPE>(x, &bad), cast_pair<TYPE>(x + 2, &bad), cast_pair<TYPE>(x + 4, &bad),
                                   cast_pair<TYPE>(x + 6, &bad));
    }
    if (bad) a.bad_tok[t] = 1;
}

void wkc_kv_put(cudaStream_t s, const wkc_kv *kv, int32_t layer, int which, const float *x, const wkc_batch *b) {
    const int64_t n = (int64_t)b->n_tok * kv->n_head_kv * (kv->head_dim / WKC_CHUNK);
    const put_args a = {wkc_kv_layer(kv, layer), x,        b->seq_of,     b->pos, b->table, b->page, b->bad_tok,
                        b->n_tok,                kv->n_head_kv};
    const dim3 block(128), grid((unsigned)((n + 127) / 128));
    if (n <= 0) return;
    if (kv->kv_type == WK_KV_F32) WKC_LAUNCH(put<WK_KV_F32>, grid, block, 0, s, a, which);
    else if (kv->kv_type == WK_KV_F16) WKC_LAUNCH(put<WK_KV_F16>, grid, block, 0, s, a, which);
    else if (kv->kv_type == WK_KV_BF16) WKC_LAUNCH(put<WK_KV_BF16>, grid, block, 0, s, a, which);
    else WKC_LAUNCH(put<WK_KV_Q8_0>, grid, block, 0, s, a, which);
}

/* attn_mma.cu: the tile kernel of an f16 cache by matrix units: a block has 64 columns, a warp 16 of them with all 64
 * positions of a page and all dims, so that probabilities never leave its registers.
 *
 *   K   the chunks of a page (kv.cuh) are b fragments as they lie: a warp reads 128 neighbouring bytes
 *   V   rows, 16 bytes apart from each other more than their length, so that eight of them meet different banks
 *   q   two f16 whose sum is q to 22 bits, q being divided by a power of two near its largest value: a score is as good as
 *       one of f32, which one f16 is not where scores are large. They lie in shared memory as a fragments
 *   p   one f16; the sum of a column is that of the rounded ones. Its NMSE (1e-7 in the worst head of the
 *       test) is from here
 *
 * While a page's scores are made its V is on the way, and during the sum of values the next page's K. */
#include "gpu/cuda/attn.cuh"
#include "gpu/cuda/mma_f16.cuh"
#ifndef WKC_EMU
#include <cuda_pipeline.h>
#endif

enum { WARPS = 4, THREADS = 32 * WARPS, PAGE = WK_KV_PAGE, TILES = PAGE / 8 };

/* Shared memory: [WARPS][hd/16][hi, lo][lane] of q, K, V. */
typedef struct parts {
    uint4 *q, *k, *v;
} parts;
__host__ __device__ static inline int q_words(int hd) { return WARPS * (hd / 16) * 2 * 32; }
__host__ __device__ static inline int k_words(int hd) { return PAGE * hd / WKC_CHUNK; }
__host__ __device__ static inline int v_words(int hd) { return PAGE * (hd / WKC_CHUNK + 1); }

/* A lane's two columns, g and g + 8 of the warp. */
typedef struct rows2 {
    int pos[2];     /* -1: no column */
    float factor[2]; /* of a score */
    float m[2], l[2]; /* l: this lane's part */
} rows2;

/* The power of two that brings x to 1 .. 2, bits: x's; 0 and what is not finite stay what they are. */
static inline __device__ float to_one(uint32_t bits) {
    const uint32_t e = bits >> 23;
    return e < 1 || e > 253 ? 1.0f : __uint_as_float((254 - e) << 23);
}

/* q of the warp's columns as fragments, and what scores are to be multiplied with. at[i]: column g + 8i; NULL: none. */
static inline __device__ void load_q(uint4 *q, float *factor, const float *const *at, int hd, float scale, int lane) {
    const int t = lane % 4;
    float inv[2];
    for (int i = 0; i < 2; i++) {
        uint32_t most = 0;
        for (int d = 2 * t; d < hd && at[i]; d += 8)
            for (int j = 0; j < 2; j++) {
                const uint32_t a = __float_as_uint(at[i][d + j]) & 0x7fffffffu;
                most = a > most ? a : most;
            }
        for (int o = 1; o < 4; o *= 2) {
            const uint32_t a = __shfl_xor_sync(0xffffffffu, most, o);
            most = a > most ? a : most;
        }
        inv[i] = to_one(most);
        factor[i] = scale / inv[i];
    }
    for (int k = 0; k < hd / 16; k++) {
        uint32_t hi[4], lo[4];
        WKC_UNROLL
        for (int e = 0; e < 4; e++) {
            const float *p = at[e % 2];
            const int d = 16 * k + 8 * (e / 2) + 2 * t;
            const float x = p ? p[d] * inv[e % 2] : 0.0f, y = p ? p[d + 1] * inv[e % 2] : 0.0f;
            hi[e] = wkc_pack_f16(x, y);
            lo[e] = wkc_pack_f16(x - wkc_f16_low(hi[e]), y - wkc_f16_high(hi[e]));
        }
        q[(2 * k) * 32 + lane] = make_uint4(hi[0], hi[1], hi[2], hi[3]);
        q[(2 * k + 1) * 32 + lane] = make_uint4(lo[0], lo[1], lo[2], lo[3]);
    }
}

/* K is copied as it lies, V row by row with a gap. */
static inline __device__ void fetch_k(uint4 *k, const uint8_t *src, int hd) {
    for (int i = (int)threadIdx.x; i < k_words(hd); i += THREADS) __pipeline_memcpy_async(k + i, (const uint4 *)src + i, 16);
}
static inline __device__ void fetch_v(uint4 *v, const uint8_t *src, int hd) {
    const int nc = hd / WKC_CHUNK, step_row = THREADS / nc, step_c = THREADS % nc;
    int row = (int)threadIdx.x / nc, c = (int)threadIdx.x % nc;
    for (int i = (int)threadIdx.x; i < PAGE * nc; i += THREADS) {
        __pipeline_memcpy_async(v + row * (nc + 1) + c, (const uint4 *)src + i, 16);
        row += step_row, c += step_c;
        if (c >= nc) row++, c -= nc;
    }
}

/* s[j]: positions 8j .. 8j + 7 of the page. */
static inline __device__ void scores(float (*s)[4], const uint4 *q, const uint4 *k, int hd, int lane) {
    WKC_UNROLL
    for (int i = 0; i < 4 * TILES; i++) s[i / 4][i % 4] = 0.0f;
    const uint32_t *words = (const uint32_t *)k + lane; /* lane 4g + t: word t of position g's chunk */
    WKC_PRAGMA(unroll 2)
    for (int d = 0; d < hd / 16; d++) {
        const uint4 h = q[(2 * d) * 32 + lane], l = q[(2 * d + 1) * 32 + lane];
        const uint32_t hi[4] = {h.x, h.y, h.z, h.w}, lo[4] = {l.x, l.y, l.z, l.w};
        const uint32_t *b = words + 2 * d * PAGE * 4;
        WKC_UNROLL
        for (int j = 0; j < TILES; j++) {
            const uint32_t b0 = b[32 * j], b1 = b[32 * j + 4 * PAGE];
            wkc_mma_f16(s[j], hi, b0, b1);
            wkc_mma_f16(s[j], lo, b0, b1);
        }
    }
}

/* Scores to probabilities as a fragments, p[i]: positions 16i .. 16i + 15; old: what a column's values shrink by. */
static inline __device__ void softmax(const wkc_attn_args *a, rows2 *r, float (*s)[4], uint32_t (*p)[4], float *old,
                                      int pos0, int lane) {
    WKC_UNROLL
    for (int i = 0; i < 2; i++) {
        const int lo = wkc_first_seen(r->pos[i], a->window) - pos0 - 2 * (lane % 4),
                  hi = r->pos[i] - pos0 - 2 * (lane % 4);
        float m = WKC_M0;
        WKC_UNROLL
        for (int j = 0; j < 2 * TILES; j++) {
            float *x = &s[j / 2][2 * i + j % 2];
            const int at = 8 * (j / 2) + j % 2;
            *x = at <= hi && at >= lo ? wkc_score(a, *x * r->factor[i]) : -INFINITY; /* exp2f: +0 */
            m = fmaxf(m, *x);
        }
        for (int o = 1; o < 4; o *= 2) m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, o));
        m = fmaxf(m, r->m[i]);
        old[i] = exp2f(r->m[i] - m);
        r->m[i] = m;
        float sum = 0.0f;
        WKC_UNROLL
        for (int j = 0; j < TILES; j++) {
            const uint32_t w = wkc_pack_f16(exp2f(s[j][2 * i] - m), exp2f(s[j][2 * i + 1] - m));
            sum += wkc_f16_low(w) + wkc_f16_high(w);
            p[j / 2][2 * (j % 2) + i] = w;
        }
        r->l[i] = fmaf(r->l[i], old[i], sum);
    }
}

/* o[n] = o[n] * old + p . V of dims 8n .. 8n + 7. */
template <int NT>
static inline __device__ void values(float (*o)[4], const float *old, const uint32_t (*p)[4], const uint4 *v, int nc,
                                     int lane) {
    WKC_UNROLL
    for (int n = 0; n < 4 * NT; n++) o[n / 4][n % 4] *= old[n % 4 / 2];
    const uint4 *row = v + lane % 16 * (nc + 1) + lane / 16;
    WKC_UNROLL
    for (int n = 0; n < NT; n += 2) {
        if (n >= nc) break;
        WKC_UNROLL
        for (int i = 0; i < PAGE / 16; i++) {
            uint32_t b[4];
            wkc_load_trans(b, row + i * 16 * (nc + 1) + n);
            wkc_mma_f16(o[n], p[i], b[0], b[1]);
            wkc_mma_f16(o[n + 1], p[i], b[2], b[3]);
        }
    }
}

template <int NT>
static inline __device__ void write_out(float (*o)[4], const rows2 *r, float *const *dst, int nc, int lane) {
    for (int i = 0; i < 2; i++) {
        float l = r->l[i];
        for (int k = 1; k < 4; k *= 2) l += __shfl_xor_sync(0xffffffffu, l, k);
        const float inv = 1.0f / l;
        if (!dst[i]) continue;
        WKC_UNROLL
        for (int n = 0; n < NT; n++)
            if (n < nc)
                *(float2 *)(dst[i] + 8 * n + 2 * (lane % 4)) = make_float2(o[n][2 * i] * inv, o[n][2 * i + 1] * inv);
    }
}

/* grid: tile, kv head. NT: room for heads of 8 NT dims. */
template <int NT> static __global__ void __launch_bounds__(THREADS) mma_kernel(const wkc_attn_args a) {
    WKC_SHARED(uint4, shared);
    const int hd = a.kv.hd, nc = hd / WKC_CHUNK, h = (int)blockIdx.y, warp = (int)threadIdx.x / 32,
              lane = (int)threadIdx.x % 32;
    wkc_cols s;
    int c0;
    if (!wkc_find_tile(&a, &s, &c0)) return;
    const int last = (c0 + WKC_TILE_COLS < s.n ? c0 + WKC_TILE_COLS : s.n) - 1;
    const int page0 = wkc_first_seen(s.pos0 + c0 / a.group, a.window) / PAGE, page1 = (s.pos0 + last / a.group) / PAGE + 1;
    const parts m = {shared + warp * (hd / 16) * 2 * 32, shared + q_words(hd), shared + q_words(hd) + k_words(hd)};
    const uint8_t *kv = wkc_page_of(&a, s.seq, h, page0);
    fetch_k(m.k, kv, hd);
    __pipeline_commit();
    fetch_v(m.v, kv + wkc_kv_half(WK_KV_F16, hd), hd);
    __pipeline_commit();
    rows2 r;
    const float *q[2];
    float *dst[2], o[NT][4], c[TILES][4], old[2];
    uint32_t p[PAGE / 16][4];
    WKC_UNROLL
    for (int i = 0; i < 2; i++) {
        const int col = c0 + 16 * warp + lane / 4 + 8 * i;
        const size_t at = col < s.n ? wkc_col_at(&a, &s, h, col) : 0;
        q[i] = col < s.n ? a.q + at : nullptr, dst[i] = col < s.n ? a.dst + at : nullptr;
        r.pos[i] = col < s.n ? s.pos0 + col / a.group : -1;
        r.m[i] = WKC_M0, r.l[i] = 0.0f;
    }
    load_q(m.q, r.factor, q, hd, a.scale, lane);
    WKC_UNROLL
    for (int n = 0; n < 4 * NT; n++) o[n / 4][n % 4] = 0.0f;
    for (int page = page0; page < page1; page++) {
        if (page + 1 < page1) kv = wkc_page_of(&a, s.seq, h, page + 1);
        __pipeline_wait_prior(1); /* K is here; of each copy this thread's part, so all wait for all */
        __syncthreads();
        scores(c, m.q, m.k, hd, lane);
        __syncthreads();
        if (page + 1 < page1) fetch_k(m.k, kv, hd);
        __pipeline_commit();
        softmax(&a, &r, c, p, old, page * PAGE, lane);
        __pipeline_wait_prior(1); /* V is here */
        __syncthreads();
        values<NT>(o, old, p, m.v, nc, lane);
        __syncthreads();
        if (page + 1 < page1) fetch_v(m.v, kv + wkc_kv_half(WK_KV_F16, hd), hd);
        __pipeline_commit();
    }
    write_out<NT>(o, &r, dst, nc, lane);
}

template <int NT> static bool launch(cudaStream_t s, const wkc_attn_args *a, dim3 grid, int shared) {
    if (shared > 48 * 1024) {
        if (cudaPeekAtLastError() != cudaSuccess) return true; /* of a launch before: steps.cu is to find it */
        if (cudaFuncSetAttribute(mma_kernel<NT>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared) != cudaSuccess) {
            (void)cudaGetLastError();
            return false;
        }
    }
    WKC_LAUNCH(mma_kernel<NT>, grid, dim3(THREADS), (size_t)shared, s, *a);
    return true;
}

bool wkc_attn_mma(cudaStream_t s, int type, const wkc_attn_args *a, dim3 grid) {
    const int hd = a->kv.hd, shared = 16 * (q_words(hd) + k_words(hd) + v_words(hd));
    if (type != WK_KV_F16 || hd % 16) return false;
    return hd <= 64    ? launch<8>(s, a, grid, shared)
           : hd <= 128 ? launch<16>(s, a, grid, shared)
                       : launch<32>(s, a, grid, shared);
}

/* mma_f16.cuh: the f16 matrix units of a warp, c[16][8] += a[16][16] . b[16][8] in f32, and the load that turns rows of
 * shared memory into b. Two f16 in a word, the lower k (or column) in the lower half.
 *
 * Fragments are those of PTX's m16n8k16 (lane = 4g + t):
 *   a[0] row g, k 2t, 2t+1    a[1] row g + 8, same k      a[2], a[3] the same with k + 8
 *   b[0] column g, k 2t, 2t+1                             b[1] with k + 8
 *   c[0], c[1] row g, columns 2t, 2t+1                    c[2], c[3] row g + 8
 * so k 16 is two of sm_75's m16n8k8. */
#ifndef WKC_MMA_F16_CUH
#define WKC_MMA_F16_CUH

#include "gpu/cuda/launch.h"

static inline __device__ uint32_t wkc_pack_f16(float lo, float hi) {
    const uint32_t l = __half_as_ushort(__float2half_rn(lo)), h = __half_as_ushort(__float2half_rn(hi));
    return l | h << 16;
}
static inline __device__ float wkc_f16_low(uint32_t w) {
    return __half2float(__ushort_as_half((unsigned short)(w & 0xffffu)));
}
static inline __device__ float wkc_f16_high(uint32_t w) { return __half2float(__ushort_as_half((unsigned short)(w >> 16))); }

#if defined(WKC_EMU)

struct wkc_fragments_f16 {
    uint32_t a[4], b[2];
};
static inline float wkc_dot2_emu(uint32_t x, uint32_t y, float c) {
    return c + wkc_f16_low(x) * wkc_f16_low(y) + wkc_f16_high(x) * wkc_f16_high(y);
}
/* One exchange of all fragments, then lane 4g + t adds up its four sums. */
static inline void wkc_mma_f16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    const wkc_fragments_f16 mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    const wkc_fragments_f16 *all = (const wkc_fragments_f16 *)wkc_emu_warp_exchange(&mine, sizeof(mine));
    for (int e = 0; e < 4; e++)
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < 4; i++)
                c[e] = wkc_dot2_emu(all[4 * g + i].a[2 * k + e / 2], all[4 * (2 * t + e % 2) + i].b[k], c[e]);
}

/* ldmatrix.x4.trans: four 8 x 8 matrices of f16; lane i names row i % 8 of matrix i / 8 (16 bytes, in shared memory);
 * lane 4g + t gets rows 2t and 2t + 1 of column g of each. */
static inline void wkc_load_trans(uint32_t r[4], const void *row) {
    const void *const *all = (const void *const *)wkc_emu_warp_exchange(&row, sizeof(row));
    const int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    for (int m = 0; m < 4; m++) {
        const uint16_t *lo = (const uint16_t *)all[8 * m + 2 * t], *hi = (const uint16_t *)all[8 * m + 2 * t + 1];
        r[m] = lo[g] | (uint32_t)hi[g] << 16;
    }
}

#else

static inline __device__ void wkc_mma_f16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

static inline __device__ void wkc_load_trans(uint32_t r[4], const void *row) {
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

#endif
#endif

/* mma_bf16.cuh: the bf16 matrix units of a warp, c[16][8] += a[16][16] . b[16][8] in f32, from sm_80 on. Fragments are those
 * of mma_f16.cuh, whose load of rows that run along a column of b serves here too; here is the load of rows along k. */
#ifndef WKC_MMA_BF16_CUH
#define WKC_MMA_BF16_CUH

#include <cstdint>
#include <cstring>

#include "gpu/cuda/mma_f16.cuh"

/* Two values, rounded to nearest even; the lower k in the lower half. */
static inline __device__ uint32_t wkc_pack_bf16(float lo, float hi) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(lo, hi);
    uint32_t w;
    memcpy(&w, &both, sizeof(w));
    return w;
}

#if defined(WKC_EMU)

static inline float wkc_dot2_bf16_emu(uint32_t x, uint32_t y, float c) {
    return c + __uint_as_float(x << 16) * __uint_as_float(y << 16) +
           __uint_as_float(x & 0xffff0000u) * __uint_as_float(y & 0xffff0000u);
}
static inline void wkc_mma_bf16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    const wkc_fragments_f16 mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    const wkc_fragments_f16 *all = (const wkc_fragments_f16 *)wkc_emu_warp_exchange(&mine, sizeof(mine));
    for (int e = 0; e < 4; e++)
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < 4; i++)
                c[e] = wkc_dot2_bf16_emu(all[4 * g + i].a[2 * k + e / 2], all[4 * (2 * t + e % 2) + i].b[k], c[e]);
}

/* ldmatrix.x4: four 8 x 8 matrices; lane i names row i % 8 of matrix i / 8; lane 4g + t gets values 2t, 2t + 1 of row g. */
static inline void wkc_load_lines(uint32_t r[4], const void *row) {
    const void *const *all = (const void *const *)wkc_emu_warp_exchange(&row, sizeof(row));
    const int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    for (int m = 0; m < 4; m++) memcpy(&r[m], (const uint8_t *)all[8 * m + g] + 4 * t, sizeof(r[m]));
}

#else

static inline __device__ void wkc_mma_bf16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    (void)c, (void)a, (void)b0, (void)b1;
    __trap(); /* refused at open */
#endif
}

static inline __device__ void wkc_load_lines(uint32_t r[4], const void *row) {
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

#endif
#endif

/* mma.cuh: the integer matrix units of a warp: c[16][8] += a[16][16 or 32] . b[16 or 32][8], int8 to int32.
 *
 * Fragments are those of PTX's m16n8k32 (lane = 4g + t):
 *   a[0] row g, k 4t .. 4t+3    a[1] row g + 8, same k     a[2], a[3] the same with k + 16
 *   b[0] column g, k 4t .. 4t+3                            b[1] with k + 16
 *   c[0], c[1] row g, columns 2t, 2t+1                     c[2], c[3] row g + 8
 * so k 32 is two steps of k 16, and k 16 is two of sm_75's m8n8k16, rows g and rows g + 8. */
#ifndef WKC_MMA_CUH
#define WKC_MMA_CUH

#include "gpu/cuda/formats.cuh"

#if defined(WKC_EMU)

/* What the unit does: one exchange of all fragments, then lane 4g + t adds up its four sums. steps: of k 16. */
struct wkc_fragments {
    int a[4], b[2];
};
WKC_FN void wkc_mma_emu(int c[4], const wkc_fragments &mine, int steps) {
    const int lane = (int)(threadIdx.x & 31u), g = lane / 4, t = lane % 4;
    const wkc_fragments *all = (const wkc_fragments *)wkc_emu_warp_exchange(&mine, sizeof(mine));
    for (int s = 0; s < steps; s++)
        for (int e = 0; e < 4; e++)
            for (int i = 0; i < 4; i++)
                c[e] = __dp4a(all[4 * g + i].a[2 * s + e / 2], all[4 * (2 * t + e % 2) + i].b[s], c[e]);
}
WKC_FN void wkc_mma_k16(int c[4], const int a[2], int b) { wkc_mma_emu(c, {{a[0], a[1], 0, 0}, {b, 0}}, 1); }
WKC_FN void wkc_mma_k32(int c[4], const int a[4], const int b[2]) {
    wkc_mma_emu(c, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, 2);
}

#elif __CUDA_ARCH__ >= 800

WKC_FN void wkc_mma_k16(int c[4], const int a[2], int b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}
WKC_FN void wkc_mma_k32(int c[4], const int a[4], const int b[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else

WKC_FN void wkc_mma_k16(int c[4], const int a[2], int b) {
    for (int i = 0; i < 2; i++)
        asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
            : "+r"(c[2 * i]), "+r"(c[2 * i + 1])
            : "r"(a[i]), "r"(b));
}
WKC_FN void wkc_mma_k32(int c[4], const int a[4], const int b[2]) {
    wkc_mma_k16(c, a, b[0]);
    wkc_mma_k16(c, a + 2, b[1]);
}

#endif
#endif

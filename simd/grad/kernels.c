/* kernels.c: one cpu word, one table, as simd/kernels.c. Pure. */
#include "engine/base/attr.h"
#include "simd/grad/grad.h"
#include "simd/level.h"

void wk_grad_kernels_init(wk_grad_kernels *k, uint32_t cpu) {
    wk_grad_kernels_ref(k); /* from here on every pointer is valid */
#if WK_X86_64
    if (!(cpu & WK_CPU_AVX2)) return;
    wk_grad_kernels_avx2(k);
    if (!(cpu & WK_CPU_AVX512)) return;
    wk_grad_kernels_avx512(k);
    if (!(cpu & WK_CPU_AVX512BF16)) return;
    wk_grad_kernels_avx512bf16(k);
#elif WK_ARM64
    if (!(cpu & WK_CPU_NEON)) return;
    wk_grad_kernels_neon(k);
#else
    (void)cpu;
#endif
}

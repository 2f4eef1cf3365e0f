/* kernels.c: one cpu word, one table. Pure. */
#include "simd/kernels.h"

#include "engine/base/attr.h"
#include "simd/level.h"

void wk_kernels_init(wk_kernels *k, uint32_t cpu) {
    wk_kernels_ref(k); /* from here on every pointer but those of few is valid */
#if WK_X86_64
    if (!(cpu & WK_CPU_AVX2)) return;
    wk_kernels_avx2(k);
    if (!(cpu & WK_CPU_AVX512)) return;
    wk_kernels_avx512(k);
    if (!(cpu & WK_CPU_AVX512VNNI)) return;
    wk_kernels_avx512vnni(k);
#elif WK_ARM64
    if (!(cpu & WK_CPU_NEON)) return;
    wk_kernels_neon(k);
    if (!(cpu & WK_CPU_DOTPROD)) return;
    wk_kernels_dotprod(k);
    if (!(cpu & WK_CPU_I8MM)) return;
    wk_kernels_i8mm(k);
#else
    (void)cpu;
#endif
}

/* decode.c: file rows as f32 at this level: simd/quant/rows.h, and halves by the CPU's own conversion. */
#include <immintrin.h>

#include "simd/avx2/avx2.h"
#include "simd/quant/rows.h"

static void decode_F16(float *dst, const void *row, int k) {
    const uint8_t *p = (const uint8_t *)row;
    int i = 0;
    for (; i + 8 <= k; i += 8) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 2 * i))));
    for (; i < k; i++) {
        wk_f16 h;
        memcpy(&h, p + 2 * i, 2);
        dst[i] = wk_f16_to_f32(h);
    }
}

void wk_fill_decode_avx2(wk_kernels *k) {
    fill_rows(k);
    k->decode[WK_FMT_F16] = decode_F16;
}

/* decode.c: file rows as f32 at this level: simd/quant/rows.h, and halves by the CPU's own conversion. */
#include <immintrin.h>

#include "simd/avx512/avx512.h"
#include "simd/quant/rows.h"

static void decode_F16(float *dst, const void *row, int k) {
    const uint8_t *p = (const uint8_t *)row;
    int i = 0;
    for (; i + 16 <= k; i += 16) _mm512_storeu_ps(dst + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 2 * i))));
    for (; i < k; i++) {
        wk_f16 h;
        memcpy(&h, p + 2 * i, 2);
        dst[i] = wk_f16_to_f32(h);
    }
}

void wk_fill_decode_avx512(wk_kernels *k) {
    fill_rows(k);
    k->decode[WK_FMT_F16] = decode_F16;
}

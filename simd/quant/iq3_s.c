/* iq3_s.c: 256 values in 8 sub-blocks of 32, value = d * (1 + 2 sc_j) * (1, 3, .. 15) with a sign.
 * The code book and the signs are read in simd/quant/iq.h. */
#include "simd/quant/iq.h"

typedef wk_block_iq3_s block;

const wk_layout wk_layout_IQ3_S = {
    5,
    {WK_FIELD_F16(block, d), WK_FIELD_CODES(block, qs), WK_FIELD_CODES(block, qh),
     WK_FIELD_CODES(block, signs), WK_FIELD_CODES(block, scales)}};

void wk_decode_IQ3_S(float *dst, const void *row, int k) {
    wk_iq_decode(dst, row, k, sizeof(block), wk_iq3_s_codes, wk_iq3_s_scale, 8);
}

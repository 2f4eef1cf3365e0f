/* iq2_s.c: 256 values in 16 sub-blocks of 16, value = d * (sc_j + 1/2) / 4 * (8, 25 or 43) with a sign.
 * The code book and the signs are read in simd/quant/iq.h. */
#include "simd/quant/iq.h"

typedef wk_block_iq2_s block;

const wk_layout wk_layout_IQ2_S = {
    5,
    {WK_FIELD_F16(block, d), WK_FIELD_CODES(block, qs), WK_FIELD_CODES(block, signs),
     WK_FIELD_CODES(block, qh), WK_FIELD_CODES(block, scales)}};

void wk_decode_IQ2_S(float *dst, const void *row, int k) {
    wk_iq_decode(dst, row, k, sizeof(block), wk_iq2_s_codes, wk_iq2_s_scale, 16);
}

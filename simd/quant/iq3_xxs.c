/* iq3_xxs.c: 256 values in 8 sub-blocks of 32, value = d * (sc_j + 1/2) / 2 * (4, 12, .. 52 or 62) with a sign.
 * The code book and the signs are read in simd/quant/iq.h. */
#include "simd/quant/iq.h"

typedef wk_block_iq3_xxs block;

const wk_layout wk_layout_IQ3_XXS = {
    3, {WK_FIELD_F16(block, d), WK_FIELD_CODES(block, qs), WK_FIELD_CODES(block, signs)}};

void wk_decode_IQ3_XXS(float *dst, const void *row, int k) {
    wk_iq_decode(dst, row, k, sizeof(block), wk_iq3_xxs_codes, wk_iq3_xxs_scale, 8);
}

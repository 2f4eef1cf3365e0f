/* f32.c: IEEE single. */
#include "simd/quant/quant.h"

const wk_layout wk_layout_F32 = {1, {{0, 4, 1, WK_TURN_NONE, WK_UNIT_F32}}};

void wk_decode_F32(float *dst, const void *row, int k) { memcpy(dst, row, (size_t)k * 4); }

void wk_encode_F32(void *row, const float *x, int k) { memcpy(row, x, (size_t)k * 4); }

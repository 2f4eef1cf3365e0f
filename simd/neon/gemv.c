/* gemv.c: one token against packed panels, integer kinds, by smlal. */
#include "simd/neon/dot.h"
#include "simd/neon/neon.h"

#define WK_OF_LEVEL(fn) fn##_neon
#include "simd/neon/gemv_list.h"

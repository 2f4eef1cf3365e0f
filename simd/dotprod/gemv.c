/* gemv.c: one token against packed panels, integer kinds, by sdot by lane. */
#include "simd/dotprod/dot.h"
#include "simd/dotprod/dotprod.h"

#define WK_OF_LEVEL(fn) fn##_dotprod
#include "simd/neon/gemv_list.h"

/* rows.c: gradients over rows, sums and AdamW at this level. */
#include "simd/grad/avx2/lanes.h"
#include "simd/grad/rows_lanes.h"

/* attn.c: the gradient of attention at this level. */
#include "simd/grad/neon/lanes.h"
#include "simd/grad/attn_lanes.h"

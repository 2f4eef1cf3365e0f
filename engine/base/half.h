/* half.h: f16, bf16 <-> f32 in integer arithmetic, nearest even, denormals and NaN kept. Exact on
 * every machine; levels use their own instructions, which give the same bits. */
#ifndef WK_HALF_H
#define WK_HALF_H

#include <stdint.h>
#include <string.h>

typedef uint16_t wk_f16;
typedef uint16_t wk_bf16;

static inline uint32_t wk_f32_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}
static inline float wk_f32_from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}
static inline float wk_f16_to_f32(wk_f16 h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t e = (h >> 10) & 31u, m = h & 0x3ffu;
    if (e == 31) return wk_f32_from_bits(sign | 0x7f800000u | (m << 13));
    if (e != 0) return wk_f32_from_bits(sign | ((e + 112u) << 23) | (m << 13));
    const float v = (float)m * 0x1p-24f; /* exact */
    return wk_f32_from_bits(wk_f32_bits(v) | sign);
}
static inline wk_f16 wk_f32_to_f16(float x) {
    const uint32_t u = wk_f32_bits(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (wk_f16)(sign | 0x7e00u | ((a >> 13) & 0x3ffu)); /* NaN, quiet */
    if (a >= 0x477ff000u) return (wk_f16)(sign | 0x7c00u);                       /* rounds to Inf */
    if (a < 0x38800000u) { /* denormal: the f32 adder rounds to a multiple of 2^-24 */
        const float r = wk_f32_from_bits(a) + 0x1p-1f;
        return (wk_f16)(sign | (wk_f32_bits(r) - 0x3f000000u));
    }
    const uint32_t odd = (a >> 13) & 1u;
    return (wk_f16)(sign | ((a - 0x38000000u + 0xfffu + odd) >> 13));
}
static inline float wk_bf16_to_f32(wk_bf16 h) { return wk_f32_from_bits((uint32_t)h << 16); }
static inline wk_bf16 wk_f32_to_bf16(float x) {
    const uint32_t u = wk_f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (wk_bf16)((u >> 16) | 0x40u);
    return (wk_bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

#endif

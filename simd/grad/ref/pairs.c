/* pairs.c: products of bf16 with sums in f32, as simd/grad/grad.h defines them, one value at a time. */
#include <math.h>
#include <string.h>

#include "simd/grad/fill.h"

enum { CHUNK = 64 }; /* pairs */
static const uint32_t EXPONENT = 0x7f800000, MAGNITUDE = 0x7fffffff, QUIET = 0x40;

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static float of_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* Denormal values are zero. */
static float flushed(float x) {
    const uint32_t u = bits_of(x);
    return u & EXPONENT ? x : of_bits(u & ~MAGNITUDE);
}

static uint32_t to_bf16(float x) {
    const uint32_t u = bits_of(flushed(x));
    if ((u & MAGNITUDE) > EXPONENT) return (u >> 16) | QUIET;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

/* ftz(fma(a, b, c)) of operands that are not denormal. A sum that rounds up to the least normal is small enough to be
 * computed 2^64 times as large, where it can be seen from which side it came. */
static float add_product(float a, float b, float c) {
    const float least = 0x1p-126f, y = fmaf(a, b, c);
    if (fabsf(y) != least) return flushed(y);
    const bool a_less = fabsf(a) < fabsf(b);
    const float big = fmaf((a_less ? a : b) * 0x1p64f, a_less ? b : a, c * 0x1p64f);
    return fabsf(big) < least * 0x1p64f ? copysignf(0.0f, y) : y;
}

static float add_pair(uint32_t a, uint32_t b, float c) {
    const float high = add_product(flushed(of_bits(a & 0xffff0000)), flushed(of_bits(b & 0xffff0000)), c);
    return add_product(flushed(of_bits(a << 16)), flushed(of_bits(b << 16)), high);
}

static uint32_t pair_at(const float *p, size_t i) {
    uint32_t u;
    memcpy(&u, p + i, sizeof(u));
    return u;
}

static void wk_pair_tile_ref(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,
                             bool first) {
    for (int i = 0; i < np * WK_PANEL * m; i++) {
        const int t = i / (np * WK_PANEL), r = i % (np * WK_PANEL);
        const float *a = w[r / WK_PANEL].f + r % WK_PANEL, *b = x->x + (size_t)t * x->ld;
        float *y = dst + (size_t)t * ld + r;
        for (int k0 = 0; k0 < klen; k0 += CHUNK) {
            float c = 0.0f;
            for (int k = k0; k < klen && k < k0 + CHUNK; k++)
                c = add_pair(pair_at(a, (size_t)k * WK_PANEL), pair_at(b, (size_t)k), c);
            *y = first && k0 == 0 ? c : *y + c;
        }
    }
}

static uint32_t bf16_at(const wk_pair_square *s, int i, int k) {
    if (i >= s->n || k >= s->kn) return 0;
    return to_bf16(s->src[s->k_major ? (size_t)k * s->ld + (size_t)i : (size_t)i * s->ld + (size_t)k]);
}

static void wk_pair_pack_ref(const wk_pair_square *s) {
    for (int p = 0; p < (s->kn + 1) / 2; p++)
        for (int i = 0; i < (s->panel ? WK_PANEL : s->n); i++)
            s->dst[s->panel ? (size_t)(p * WK_PANEL + i) : (size_t)i * s->dst_ld + (size_t)p] =
                bf16_at(s, i, 2 * p) | bf16_at(s, i, 2 * p + 1) << 16;
}

void wk_fill_pairs_ref(wk_grad_kernels *k) {
    k->pair_tile = wk_pair_tile_ref;
    k->pair_pack = wk_pair_pack_ref;
}

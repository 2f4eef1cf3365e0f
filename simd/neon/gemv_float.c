/* gemv_float.c: one token against panels of floats. Four chunks of 64 k run side by side: sixteen chains
 * fill the FMA latency; their sums are added in the order of the chunks. */
#include "simd/neon/neon.h"
#include "simd/neon/vec.h"

enum { CHUNK = 64, FLIGHT = 4, AHEAD = 2048 };

/* Four chunks; meanwhile what follows in each is fetched. */
WK_INLINE v16 four_chunks(v16 acc, const uint8_t *p, const float *x, int fmt) {
    const int row = WK_PANEL * v_weight_bytes(fmt), chunk = CHUNK * row;
    v16 a = v16_zero(), b = a, c = a, d = a;
    for (int i = 0; i < CHUNK; i++) {
        for (int j = 0; j < FLIGHT; j++) v_ahead(p + j * chunk + i * row, AHEAD);
        a = v16_fma1(a, v16_weight(p + i * row, 0, fmt), x[i]);
        b = v16_fma1(b, v16_weight(p + chunk + i * row, 0, fmt), x[CHUNK + i]);
        c = v16_fma1(c, v16_weight(p + 2 * chunk + i * row, 0, fmt), x[2 * CHUNK + i]);
        d = v16_fma1(d, v16_weight(p + 3 * chunk + i * row, 0, fmt), x[3 * CHUNK + i]);
    }
    return v16_add(v16_add(v16_add(v16_add(acc, a), b), c), d);
}

/* At most 64 k. */
WK_INLINE v16 one_chunk(v16 acc, const uint8_t *p, const float *x, int n, int fmt) {
    v16 a = v16_zero();
    for (int i = 0; i < n; i++, p += WK_PANEL * v_weight_bytes(fmt)) a = v16_fma1(a, v16_weight(p, 0, fmt), x[i]);
    return v16_add(acc, a);
}

WK_INLINE void gemv_f(float *dst, const void *w, const wk_act *x, int n_panel, int k, int fmt) {
    const size_t row = (size_t)(WK_PANEL * v_weight_bytes(fmt)), panel = wk_panel_bytes(fmt, (size_t)k);
    for (int n = 0; n < n_panel; n++) {
        const uint8_t *p = (const uint8_t *)w + (size_t)n * panel;
        v16 acc = v16_zero();
        int i = 0;
        for (; i + FLIGHT * CHUNK <= k; i += FLIGHT * CHUNK) {
            acc = four_chunks(acc, p + (size_t)i * row, x->x + i, fmt);
        }
        for (; i < k; i += CHUNK) {
            acc = one_chunk(acc, p + (size_t)i * row, x->x + i, k - i < CHUNK ? k - i : CHUNK, fmt);
        }
        v16_store(dst + 16 * n, acc);
    }
}

#define GEMV_F(id, name)                                                                           \
    void wk_gemv_##name##_neon(float *dst, const void *w, const wk_act *x, int n_panel, int k) {   \
        gemv_f(dst, w, x, n_panel, k, WK_FMT_##id);                                                \
    }
GEMV_F(F32, f32)
GEMV_F(F16, f16)
GEMV_F(BF16, bf16)

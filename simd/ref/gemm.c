/* gemm.c: the tiles, one per kind, in the order of DESIGN 9.2. A tile is a loop over its 16-row panels and
 * tokens; the integer kinds differ only in how a (the block's value before the activation scale) is made. */
#include <math.h>
#include <string.h>

#include "engine/base/attr.h"
#include "simd/ref/ref.h"

/* One token's view of an activation piece. */
typedef struct column {
    const int8_t *q;
    const float *d, *f32s, *x;
    const int16_t *s32, *s16;
} column;

/* a[16] of block b. */
typedef void block_fn(float a[16], const wk_panel *w, const column *x, int b);

static column column_of(const wk_act *x, int t) {
    const size_t i = (size_t)t;
    return (column){.q = x->q + i * x->ld,
                    .d = x->d + i * x->ldb,
                    .f32s = x->f32s + i * x->ldb,
                    .s32 = x->s32 + i * x->ldb,
                    .s16 = x->s16 + 2 * i * x->ldb};
}

/* Exact sums of 16 rows over n codes (a multiple of 4). */
WK_INLINE void dot16(int32_t sum[16], const uint8_t *code, const int8_t *q, int n) {
    int32_t part[64] = {0};
    const int8_t *c = (const int8_t *)code;
    for (int k = 0; k < n; k += 4, c += 64) {
        for (int r = 0; r < 16; r++) {
            for (int i = 0; i < 4; i++) part[4 * r + i] += c[4 * r + i] * q[k + i];
        }
    }
    for (int r = 0; r < 16; r++) {
        sum[r] = part[4 * r] + part[4 * r + 1] + part[4 * r + 2] + part[4 * r + 3];
    }
}

/* B32, B32M: one sum, d; then the min with the sum of the codes. */
WK_INLINE void block_b32_any(float a[16], const wk_panel *w, const column *x, int b, bool mins) {
    int32_t sum[16];
    dot16(sum, w->code + b * 512, x->q + b * 32, 32);
    for (int r = 0; r < 16; r++) a[r] = w->s[b * 16 + r] * (float)sum[r];
    if (!mins) return;
    for (int r = 0; r < 16; r++) a[r] = fmaf(x->f32s[b], w->c[b * 16 + r], a[r]);
}
static void block_b32(float a[16], const wk_panel *w, const column *x, int b) {
    block_b32_any(a, w, x, b, false);
}
static void block_b32m(float a[16], const wk_panel *w, const column *x, int b) {
    block_b32_any(a, w, x, b, true);
}

/* a = fma(F(M), c, a), M = sum of mn_j * (sum of codes j) over n sub-blocks. */
WK_INLINE void add_mins(float a[16], const int16_t *mn, const int16_t *sums, const float *c,
                        int n) {
    int32_t m[16] = {0};
    for (int j = 0; j < n; j++) {
        for (int r = 0; r < 16; r++) m[r] += mn[j * 16 + r] * sums[j];
    }
    for (int r = 0; r < 16; r++) a[r] = fmaf((float)m[r], c[r], a[r]);
}

/* S kinds: sums over sub-blocks of `sub` codes, each with its own scale. */
WK_INLINE void block_s_any(float a[16], const wk_panel *w, const column *x, int b, int sub) {
    const int n = 256 / sub;
    int32_t sum[16];
    for (int j = 0; j < n; j++) {
        const float *s = w->s + (b * n + j) * 16;
        dot16(sum, w->code + b * 4096 + j * sub * 16, x->q + b * 256 + j * sub, sub);
        for (int r = 0; r < 16; r++) {
            a[r] = j == 0 ? s[r] * (float)sum[r] : fmaf((float)sum[r], s[r], a[r]);
        }
    }
}
static void block_s32(float a[16], const wk_panel *w, const column *x, int b) {
    block_s_any(a, w, x, b, 32);
}
static void block_s32m(float a[16], const wk_panel *w, const column *x, int b) {
    block_s_any(a, w, x, b, 32);
    add_mins(a, w->mn + b * 128, x->s32 + b * 8, w->c + b * 16, 8);
}
static void block_s16(float a[16], const wk_panel *w, const column *x, int b) {
    block_s_any(a, w, x, b, 16);
}

/* W kinds: integer scales inside one exact sum over 256. */
static void block_w256(float a[16], const wk_panel *w, const column *x, int b) {
    int32_t total[16] = {0}, sum[16];
    for (int j = 0; j < 16; j++) {
        dot16(sum, w->code + b * 4096 + j * 256, x->q + b * 256 + j * 16, 16);
        for (int r = 0; r < 16; r++) total[r] += w->sc[(b * 16 + j) * 16 + r] * sum[r];
    }
    for (int r = 0; r < 16; r++) a[r] = w->s[b * 16 + r] * (float)total[r];
}
static void block_w256m(float a[16], const wk_panel *w, const column *x, int b) {
    block_w256(a, w, x, b);
    add_mins(a, w->mn + b * 256, x->s16 + b * 16, w->c + b * 16, 16);
}

WK_INLINE void start(float acc[16], const float *dst, bool first) {
    if (first)
        memset(acc, 0, 16 * sizeof(float));
    else
        memcpy(acc, dst, 16 * sizeof(float));
}

WK_INLINE void tile_int(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m,
                        int n_block, bool first, block_fn *block) {
    for (int t = 0; t < m; t++) {
        const column col = column_of(x, t);
        for (int p = 0; p < np; p++) {
            float *out = dst + (size_t)t * ld + 16 * p, acc[16], a[16];
            start(acc, out, first);
            for (int b = 0; b < n_block; b++) {
                block(a, &w[p], &col, b);
                for (int r = 0; r < 16; r++) acc[r] = fmaf(a[r], col.d[b], acc[r]);
            }
            memcpy(out, acc, sizeof(acc));
        }
    }
}

#define TILE(name, block_k)                                                                        \
    static void wk_gemm_##name##_ref(float *dst, size_t ld, const wk_panel *w, int np,             \
                                     const wk_act *x, int m, int klen, bool first) {               \
        tile_int(dst, ld, w, np, x, m, klen / (block_k), first, block_##name);                     \
    }
TILE(b32, 32)
TILE(b32m, 32)
TILE(s32, 256)
TILE(s32m, 256)
TILE(s16, 256)
TILE(w256, 256)
TILE(w256m, 256)

/* acc = acc + c, c an fma chain from +0 over one chunk of 64. */
static void wk_gemm_f_ref(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m,
                          int klen, bool first) {
    for (int t = 0; t < m; t++) {
        const float *xt = x->x + (size_t)t * x->ld;
        for (int p = 0; p < np; p++) {
            float *out = dst + (size_t)t * ld + 16 * p, acc[16];
            start(acc, out, first);
            for (int k0 = 0; k0 < klen; k0 += 64) {
                const int k1 = klen - k0 < 64 ? klen : k0 + 64;
                float c[16] = {0};
                for (int k = k0; k < k1; k++) {
                    for (int r = 0; r < 16; r++) c[r] = fmaf(w[p].f[k * 16 + r], xt[k], c[r]);
                }
                for (int r = 0; r < 16; r++) acc[r] = acc[r] + c[r];
            }
            memcpy(out, acc, sizeof(acc));
        }
    }
}

void wk_fill_gemm_ref(wk_kernels *k) {
    const wk_gemm geometry = {.rows = WK_REF_ROWS, .cols = WK_REF_COLS, .kc = WK_REF_KC};
    for (int i = 0; i < WK_KIND_COUNT; i++) k->gemm[i] = geometry;
    k->gemm[WK_KIND_F].tile = wk_gemm_f_ref;
    k->gemm[WK_KIND_B32].tile = wk_gemm_b32_ref;
    k->gemm[WK_KIND_B32M].tile = wk_gemm_b32m_ref;
    k->gemm[WK_KIND_S32].tile = wk_gemm_s32_ref;
    k->gemm[WK_KIND_S32M].tile = wk_gemm_s32m_ref;
    k->gemm[WK_KIND_S16].tile = wk_gemm_s16_ref;
    k->gemm[WK_KIND_W256].tile = wk_gemm_w256_ref;
    k->gemm[WK_KIND_W256M].tile = wk_gemm_w256m_ref;
}

/* check_selftest.c: the harness must find bugs. Each row plants one into a table that is otherwise ref (or into
 * the format table) and runs one family: if nothing is reported, the harness is blind there and this fails. A
 * clean table must pass every family. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "simd/poly.h"
#include "simd/quant/iq.h"
#include "simd/ref/scalar.h"
#include "tests/check/check.h"

/* What a bug may change. */
typedef struct patient {
    wk_kernels k;
    wk_format formats[WK_FMT_COUNT];
} patient;

static wk_kernels ref(void) {
    wk_kernels k;
    wk_kernels_ref(&k);
    return k;
}

/* ---- gemv -------------------------------------------------------------------------------------- */

static void gemv_short_k(float *dst, const void *w, const wk_act *x, int n_panel, int k) {
    ref().gemv[WK_FMT_Q4_0](dst, w, x, n_panel, k);
    if (k == 576)
        ref().gemv[WK_FMT_Q4_0](dst, w, x, 1, k - 32); /* the last block of one length, one panel */
}
static void gemv_last_panel(float *dst, const void *w, const wk_act *x, int n_panel, int k) {
    ref().gemv[WK_FMT_Q6_K](dst, w, x, n_panel > 3 ? n_panel - 1 : n_panel, k);
}
/* Q8_0 as 255 levels: +128 is never met by random codes, only by 0x00 in a panel. */
static void gemv_saturates(float *dst, const void *w, const wk_act *x, int n_panel, int k) {
    uint8_t copy[1 << 20];
    const size_t bytes = wk_panel_bytes(WK_FMT_Q8_0, (size_t)k), n = bytes * (size_t)n_panel;
    memcpy(copy, w, n);
    for (size_t i = 0; i < n; i++) {
        if (i % bytes % 544 >= 32 && copy[i] == 0) copy[i] = 1;
    }
    ref().gemv[WK_FMT_Q8_0](dst, copy, x, n_panel, k);
}
/* One chunk of 64 too long: adds c to acc at 128 instead of at 64. */
static void gemv_long_chunk(float *dst, const void *w, const wk_act *x, int n_panel, int k) {
    for (int p = 0; p < n_panel; p++) {
        const float *f =
            (const float *)((const uint8_t *)w + (size_t)p * wk_panel_bytes(WK_FMT_F32, (size_t)k));
        for (int r = 0; r < 16; r++) {
            float acc = 0.0f;
            for (int k0 = 0; k0 < k; k0 += 128) {
                float c = 0.0f;
                for (int i = k0; i < k && i < k0 + 128; i++) c = fmaf(f[i * 16 + r], x->x[i], c);
                acc = acc + c;
            }
            dst[p * 16 + r] = acc;
        }
    }
}
static void gemv_reads_past(float *dst, const void *w, const wk_act *x, int n_panel, int k) {
    volatile int8_t sink = x->q[k];
    (void)sink;
    ref().gemv[WK_FMT_Q4_K](dst, w, x, n_panel, k);
}
static void gemv_writes_before(float *dst, const void *w, const wk_act *x, int n_panel, int k) {
    ref().gemv[WK_FMT_Q5_1](dst, w, x, n_panel, k);
    dst[-1] = 0.0f;
}

/* ---- few tokens -------------------------------------------------------------------------------- */

static void few_by_gemv(float *dst, size_t ld, const void *w, const wk_act *x, int m, int n_panel,
                        int k, int fmt) {
    for (int t = 0; t < m; t++) {
        const wk_act view = wk_act_at(x, wk_formats[fmt].act, t, 0);
        ref().gemv[fmt](dst + (size_t)t * ld, w, &view, n_panel, k);
    }
}
/* The third token of four reads the codes of the second. */
static void few_token_twice(float *dst, size_t ld, const void *w, const wk_act *x, int m, int n_panel,
                            int k) {
    few_by_gemv(dst, ld, w, x, m, n_panel, k, WK_FMT_Q4_1);
    if (m == 4) memcpy(dst + 2 * ld, dst + ld, (size_t)n_panel * 64);
}
static void few_row_apart(float *dst, size_t ld, const void *w, const wk_act *x, int m, int n_panel,
                          int k) {
    few_by_gemv(dst, ld, w, x, m, n_panel, k, WK_FMT_Q6_K);
    dst[(size_t)n_panel * 16] = 0.0f; /* between two rows */
}

/* ---- expand and tiles -------------------------------------------------------------------------- */

static void expand_zero_point(wk_panel *dst, const void *w, int k0, int klen) {
    ref().expand[WK_FMT_Q4_0](dst, w, k0, klen);
    for (int i = 0; i < klen * 16; i++) dst->code[i]++;
}
static void expand_scale_order(wk_panel *dst, const void *w, int k0, int klen) {
    ref().expand[WK_FMT_Q6_K](dst, w, k0, klen);
    for (int i = 0; i < 16; i++) {
        const float t = dst->s[i];
        dst->s[i] = dst->s[16 + i];
        dst->s[16 + i] = t;
    }
}
static void expand_other_block(wk_panel *dst, const void *w, int k0, int klen) {
    ref().expand[WK_FMT_Q3_K](dst, w, k0 == 512 ? 256 : k0, klen);
}
static void expand_no_fifth_bit(wk_panel *dst, const void *w, int k0, int klen) {
    ref().expand[WK_FMT_Q5_0](dst, w, k0, klen);
    for (int i = 0; i < 64; i++) dst->code[7 * 64 + i] &= 0xef;
}
static void expand_min_order(wk_panel *dst, const void *w, int k0, int klen) {
    ref().expand[WK_FMT_Q5_K](dst, w, k0, klen);
    for (int i = 0; i < 16; i++) {
        const int16_t t = dst->mn[64 + i];
        dst->mn[64 + i] = dst->mn[80 + i];
        dst->mn[80 + i] = t;
    }
}

/* Panel block b of a piece, and the code of row r, value k in it. */
static const uint8_t *block_at(const void *w, int fmt, int k0, int b) {
    return (const uint8_t *)w + (size_t)(k0 / 256 + b) * 16 * wk_formats[fmt].bytes;
}
static int8_t *code_at(wk_panel *p, int b, int r, int k) {
    return (int8_t *)p->code + b * 4096 + k / 4 * 64 + 4 * r + k % 4;
}
/* The last entry of the largest code book, in the last of 32 groups only. */
static void expand_last_entry(wk_panel *dst, const void *w, int k0, int klen) {
    ref().expand[WK_FMT_IQ2_S](dst, w, k0, klen);
    for (int i = 0; i < klen / 256 * 16; i++) {
        const uint8_t *lane = block_at(w, WK_FMT_IQ2_S, k0, i / 16) + 4 * (i % 16);
        const uint32_t low = wk_iq_byte(lane, 16, offsetof(wk_block_iq2_s, qs), 31);
        const uint32_t high = wk_iq_byte(lane, 16, offsetof(wk_block_iq2_s, qh), 7) >> 6;
        int8_t *code = code_at(dst, i / 16, i % 16, 255);
        if ((low | high << 8) == 1023) *code = (int8_t)(*code > 0 ? 25 : -25);
    }
}
/* The ninth bit of an entry lost. */
static void expand_no_ninth_bit(wk_panel *dst, const void *w, int k0, int klen) {
    uint8_t copy[16 * 110 * 64];
    memcpy(copy, w, (size_t)(k0 + klen) / 256 * 16 * 110);
    for (int b = k0 / 256; b < (k0 + klen) / 256; b++) copy[1760 * b + 16 * 66 + 4 * 15] &= 0x7f; /* row 15 */
    ref().expand[WK_FMT_IQ3_S](dst, copy, k0, klen);
}
/* The eighth sign of one of 128 patterns. */
static void expand_eighth_sign(wk_panel *dst, const void *w, int k0, int klen) {
    ref().expand[WK_FMT_IQ2_XXS](dst, w, k0, klen);
    for (int i = 0; i < klen / 256 * 16; i++) {
        const uint8_t *lane = block_at(w, WK_FMT_IQ2_XXS, k0, i / 16) + 4 * (i % 16);
        int8_t *code = code_at(dst, i / 16, i % 16, 31);
        if ((wk_iq_word(lane, 16, 2, 1) >> 21 & 127) == 0x6b) *code = (int8_t)-*code;
    }
}
/* A digit of TQ1_0 with the border between 1 and 2 one too high. */
static void expand_late_digit(wk_panel *dst, const void *w, int k0, int klen) {
    ref().expand[WK_FMT_TQ1_0](dst, w, k0, klen);
    for (int i = 0; i < klen / 256 * 16; i++)
        if (block_at(w, WK_FMT_TQ1_0, k0, i / 16)[32 + 4 * (i % 16)] == 171) *code_at(dst, i / 16, i % 16, 0) = 0;
}

/* mul and add where the law has fma. */
static void tile_f_no_fma(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m,
                          int klen, bool first) {
    for (int i = 0; i < m * np * 16; i++) {
        const int t = i / (np * 16), p = i / 16 % np, r = i % 16;
        float *out = dst + (size_t)t * ld + 16 * p + r, acc = first ? 0.0f : *out;
        for (int k0 = 0; k0 < klen; k0 += 64) {
            float c = 0.0f;
            for (int k = k0; k < klen && k < k0 + 64; k++)
                c = w[p].f[k * 16 + r] * x->x[(size_t)t * x->ld + (size_t)k] + c;
            acc = acc + c;
        }
        *out = acc;
    }
}
/* One chain over k instead of chunks. */
static void tile_f_no_chunks(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x,
                             int m, int klen, bool first) {
    for (int i = 0; i < m * np * 16; i++) {
        const int t = i / (np * 16), p = i / 16 % np, r = i % 16;
        float *out = dst + (size_t)t * ld + 16 * p + r, acc = first ? 0.0f : *out;
        for (int k = 0; k < klen; k++)
            acc = fmaf(w[p].f[k * 16 + r], x->x[(size_t)t * x->ld + (size_t)k], acc);
        *out = acc;
    }
}
static void tile_past_end(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m,
                          int klen, bool first) {
    ref().gemm[WK_KIND_B32].tile(dst, ld, w, np, x, m, klen, first);
    dst[(size_t)(m - 1) * ld + (size_t)np * 16] = 0.0f;
}
static void tile_forgets(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m,
                         int klen, bool first) {
    (void)first;
    ref().gemm[WK_KIND_S16].tile(dst, ld, w, np, x, m, klen, true);
}
static void tile_drops_token(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x,
                             int m, int klen, bool first) {
    ref().gemm[WK_KIND_W256].tile(dst, ld, w, np, x, m == 3 ? 2 : m, klen, first);
}
static void tile_drops_panel(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x,
                             int m, int klen, bool first) {
    ref().gemm[WK_KIND_W256M].tile(dst, ld, w, 1, x, m, klen, first);
    (void)np;
}
/* Tokens by pairs: the partner that the last odd one lacks is stored too. */
static void tile_stores_partner(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x,
                                int m, int klen, bool first) {
    ref().gemm[WK_KIND_S32M].tile(dst, ld, w, np, x, m, klen, first);
    if (m % 2) memcpy(dst + (size_t)m * ld, dst + (size_t)(m - 1) * ld, 16 * sizeof(float));
}
/* Rows by pairs: those of the last pair change places. */
static void tile_swaps_rows(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x,
                            int m, int klen, bool first) {
    ref().gemm[WK_KIND_B32M].tile(dst, ld, w, np, x, m, klen, first);
    const float r = dst[14];
    dst[14] = dst[15];
    dst[15] = r;
}
/* min * sum first, then the codes: the same real number, other roundings. */
static void tile_swapped_min(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x,
                             int m, int klen, bool first) {
    for (int i = 0; i < m * np * 16; i++) {
        const int t = i / (np * 16), p = i / 16 % np, r = i % 16;
        const size_t b0 = (size_t)t * x->ldb;
        float *out = dst + (size_t)t * ld + 16 * p + r, acc = first ? 0.0f : *out;
        for (int b = 0; b < klen / 32; b++) {
            int sum = 0;
            for (int k = 32 * b; k < 32 * b + 32; k++) {
                sum += (int8_t)w[p].code[k / 4 * 64 + r * 4 + k % 4] *
                       x->q[(size_t)t * x->ld + (size_t)k];
            }
            const float min = x->f32s[b0 + (size_t)b] * w[p].c[b * 16 + r];
            acc = fmaf(fmaf((float)sum, w[p].s[b * 16 + r], min), x->d[b0 + (size_t)b], acc);
        }
        *out = acc;
    }
}
/* An int16 sum that saturates at the ends of the codes. */
static void tile_saturates(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m,
                           int klen, bool first) {
    wk_act copy = *x;
    int8_t q[8 * 1024];
    for (int t = 0; t < m; t++) {
        int run = 0;
        copy.q = q;
        memcpy(q, x->q + (size_t)t * x->ld, (size_t)klen);
        for (int k = 0; k < klen; k++) run = q[k] == 127 ? run + 1 : 0;
        if (run >= 64) q[klen - 1] = 126;
        copy.d = x->d + (size_t)t * x->ldb;
        ref().gemm[WK_KIND_S32].tile(dst + (size_t)t * ld, ld, w, np, &copy, 1, klen, first);
    }
}

/* ---- quantiser --------------------------------------------------------------------------------- */

static void quant_half_away(wk_act *dst, int t, const float *x, int k) {
    ref().quant[WK_X_A32](dst, t, x, k);
    int8_t *q = dst->q + (size_t)t * dst->ld;
    for (int i = 0; i < k; i++) {
        float amax = 0.0f;
        for (int j = i / 32 * 32; j < i / 32 * 32 + 32; j++)
            amax = fabsf(x[j]) > amax ? fabsf(x[j]) : amax;
        const float v = x[i] * (127.0f / amax);
        if (!(fabsf(v) <= 127.0f)) continue;
        if (fabsf(v - (float)(int)v) == 0.5f) q[i] = (int8_t)((int)v + (v > 0.0f ? 1 : -1));
    }
}
static void quant_hides_nan(wk_act *dst, int t, const float *x, int k) {
    ref().quant[WK_X_A32](dst, t, x, k);
    for (int b = 0; b < k / 32; b++) {
        float *d = dst->d + (size_t)t * dst->ldb + b;
        if (*d != *d) *d = 0.0f;
    }
}
static void quant_no_s16(wk_act *dst, int t, const float *x, int k) {
    wk_act copy = *dst;
    int16_t s16[1 << 12];
    copy.s16 = s16;
    ref().quant[WK_X_A256](&copy, t, x, k);
}
static void quant_tiny(wk_act *dst, int t, const float *x, int k) {
    ref().quant[WK_X_A256](dst, t, x, k);
    for (int b = 0; b < k / 256; b++) {
        float amax = 0.0f;
        for (int i = 0; i < 256; i++)
            amax = fabsf(x[256 * b + i]) > amax ? fabsf(x[256 * b + i]) : amax;
        if (amax == WK_QUANT_TINY) dst->d[(size_t)t * dst->ldb + (size_t)b] = 0.0f;
    }
}
static void quant_foreign_array(wk_act *dst, int t, const float *x, int k) {
    ref().quant[WK_X_A32](dst, t, x, k);
    dst->s16[2 * (size_t)t * dst->ldb] = 1;
}

static void decode_no_min(float *dst, const void *row, int k) {
    const uint8_t *p = row;
    ref().decode[WK_FMT_Q4_1](dst, row, k);
    for (int i = 0; i < k; i++) {
        wk_block_q4_1 b;
        memcpy(&b, p + (size_t)(i / 32) * sizeof(b), sizeof(b));
        dst[i] = (float)((b.qs[i % 16] >> (i % 32 / 16 * 4)) & 15) * wk_f16_to_f32(b.d); /* without m */
    }
}
static void decode_shift(float *dst, const void *row, int k) {
    ref().decode[WK_FMT_Q5_K](dst, row, k);
    dst[k - 1] = dst[k - 2];
}

/* ---- rows and elements ------------------------------------------------------------------------- */

static void rms_one_lane(float *dst, float *r_out, const float *x, const float *w, int n,
                         float eps) {
    float ss = 0.0f;
    for (int i = 0; i < n; i++) ss = fmaf(x[i], x[i], ss);
    const float r = ss - ss == 0.0f ? 1.0f / sqrtf(ss / (float)n + eps) : ss - ss;
    for (int i = 0; i < n; i++) dst[i] = (x[i] * r) * w[i];
    if (r_out) *r_out = r;
}
static void rms_hides_inf(float *dst, float *r_out, const float *x, const float *w, int n,
                          float eps) {
    float r;
    ref().rms(dst, &r, x, w, n, eps);
    if (r != r) r = 0.0f;
    if (r_out) *r_out = r;
}
static void rms_other_product(float *dst, float *r_out, const float *x, const float *w, int n,
                              float eps) {
    float r, y[8192];
    ref().rms(y, &r, x, w, n, eps);
    for (int i = 0; i < n; i++) dst[i] = x[i] * (r * w[i]);
    if (r_out) *r_out = r;
}
static float sum_tree_first(const float *x, int n) {
    float p[8] = {0}, s = 0.0f;
    for (int i = 0; i < n; i++) p[i % 8] += x[i];
    for (int l = 0; l < 8; l++) s += p[l];
    return s;
}
static int argmax_last(const float *x, int n) {
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (x[i] == x[i] && (best < 0 || x[i] >= x[best])) best = i;
    }
    return best;
}
static int argmax_stuck_on_nan(const float *x, int n) {
    int best = n ? 0 : -1;
    for (int i = 1; i < n; i++) {
        if (x[i] > x[best]) best = i;
    }
    return best;
}
static int argmax_no_infinity(const float *x, int n) {
    int best = -1;
    float max = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (x[i] > max) max = x[best = i];
    }
    return best;
}
static void rope_uses_new(float *x, const float *cs, int n_head, int hd, int n_rot) {
    for (int h = 0; h < n_head; h++, x += hd) {
        for (int i = 0; i < n_rot / 2; i++) {
            const float c = cs[i], s = cs[n_rot / 2 + i];
            x[i] = fmaf(x[i], c, -(x[i + n_rot / 2] * s));
            x[i + n_rot / 2] = fmaf(x[i], s, x[i + n_rot / 2] * c);
        }
    }
}
static void rope_other_fma(float *x, const float *cs, int n_head, int hd, int n_rot) {
    for (int h = 0; h < n_head; h++, x += hd) {
        for (int i = 0; i < n_rot / 2; i++) {
            const float c = cs[i], s = cs[n_rot / 2 + i], a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = fmaf(-b, s, a * c);
            x[2 * i + 1] = fmaf(a, s, b * c);
        }
    }
}
static void silu_no_tail(float *dst, const float *gate, const float *up, int n) {
    ref().glu[WK_FN_SILU](dst, gate, up, n > 16 ? n / 16 * 16 : n);
}
static void silu_flushes_denormal(float *dst, const float *gate, const float *up, int n) {
    ref().glu[WK_FN_SILU](dst, gate, up, n);
    for (int i = 0; i < n; i++) {
        if (fabsf(dst[i]) < 0x1p-126f) dst[i] = 0.0f;
    }
}
static void gelu_drops_nan(float *dst, const float *gate, const float *up, int n) {
    ref().glu[WK_FN_GELU_TANH](dst, gate, up, n);
    for (int i = 0; i < n; i++) {
        if (dst[i] != dst[i]) dst[i] = 0.0f;
    }
}
static void add_writes_past(float *dst, const float *a, const float *b, int n) {
    ref().add(dst, a, b, n);
    if (n % 8 == 7) dst[n] = 0.0f;
}
static void scale_short(float *dst, const float *x, float c, int n) {
    ref().scale(dst, x, c, n == 65 ? 64 : n);
}
static void fma_rounds_twice(float *dst, const float *y, const float *x, float c, int n) {
    for (int i = 0; i < n; i++) dst[i] = y[i] + c * x[i];
}
static void softcap_divides(float *dst, const float *x, float c, float c_inv, int n) {
    (void)c_inv;
    for (int i = 0; i < n; i++) dst[i] = c * wk_tanh_scalar(x[i] / c);
}
static void exp_fused(float *dst, const float *x, float max, float c, int n) {
    for (int i = 0; i < n; i++) dst[i] = wk_exp_scalar(fmaf(x[i], c, -(max * c)));
}
static void exp_one_bit(float *dst, const float *x, float max, float c, int n) {
    ref().exp_scaled(dst, x, max, c, n);
    for (int i = 0; i < n; i++) {
        if (x[i] < -85.9f && dst[i] > 0.0f) dst[i] = 0.0f;
    }
}
static int cast_truncates(void *dst, const float *x, int n) {
    const int bad = ref().kv_cast[WK_KV_BF16](dst, x, n);
    for (int i = 0; i < n; i++) {
        const uint16_t h = (uint16_t)(wk_f32_bits(x[i]) >> 16);
        if ((h & 0x7f80u) != 0x7f80u) memcpy((uint8_t *)dst + 2 * i, &h, 2);
    }
    return bad;
}
static int cast_counts_nothing(void *dst, const float *x, int n) {
    (void)ref().kv_cast[WK_KV_F32](dst, x, n);
    return 0;
}
static int cast_keeps_inf(void *dst, const float *x, int n) {
    const int bad = ref().kv_cast[WK_KV_F16](dst, x, n);
    for (int i = 0; i < n; i++) {
        const uint16_t h = wk_f32_to_f16(x[i]);
        memcpy((uint8_t *)dst + 2 * i, &h, 2);
    }
    return bad;
}
/* A scale that is Inf becomes +0 and its codes stay. */
static int cast_q8_keeps_codes(void *dst, const float *x, int n) {
    const int bad = ref().kv_cast[WK_KV_Q8_0](dst, x, n);
    for (int i = 0; i < n / 32; i++) {
        uint8_t *b = (uint8_t *)dst + 34 * i;
        if (bad && (b[0] | b[1]) == 0) b[2] = 127;
    }
    return bad;
}

/* ---- attention --------------------------------------------------------------------------------- */

static void page_one_more(wk_partial *out, const wk_attn_page *a) {
    uint8_t hi[64];
    wk_attn_page b = *a;
    for (int c = 0; c < a->n_col; c++)
        hi[c] = a->hi[c] > a->lo[c] && a->hi[c] < 64 ? (uint8_t)(a->hi[c] + 1) : a->hi[c];
    b.hi = hi;
    ref().attn_page(out, &b);
}
static void page_no_cap(wk_partial *out, const wk_attn_page *a) {
    wk_attn_page b = *a;
    b.softcap = 0.0f;
    ref().attn_page(out, &b);
}
static void page_plain_sum(wk_partial *out, const wk_attn_page *a) {
    ref().attn_page(out, a);
    for (int c = 0; c < a->n_col; c++) {
        float l = 0.0f;
        for (int i = a->lo[c]; i < a->hi[c]; i++) l += a->score[c * WK_KV_SLOTS + i];
        out->l[c] = l;
    }
}
static void page_empty_is_stale(wk_partial *out, const wk_attn_page *a) {
    float o[256];
    for (int c = 0; c < a->n_col; c++) {
        float *oc = out->o + (size_t)c * (size_t)a->hd;
        wk_attn_page b = *a;
        wk_partial p = {&out->m[c], &out->l[c], oc};
        b.n_col = 1;
        b.q += (size_t)c * (size_t)a->hd;
        b.lo += c;
        b.hi += c;
        memcpy(o, oc, (size_t)a->hd * 4);
        ref().attn_page(&p, &b);
        if (a->hi[c] <= a->lo[c]) memcpy(oc, o, (size_t)a->hd * 4);
    }
}
static void page_score_past_end(wk_partial *out, const wk_attn_page *a) {
    ref().attn_page(out, a);
    a->score[a->n_col * WK_KV_SLOTS] = 0.0f;
}
static void page_overwrites(wk_partial *out, const wk_attn_page *a) {
    wk_attn_page b = *a;
    b.merge = false;
    ref().attn_page(out, &b);
}
static void page_q8_one_scale(wk_partial *out, const wk_attn_page *a) { /* of the last slot */
    wk_attn_page b = *a;
    uint8_t v[34 * 64];
    if (a->type == WK_KV_Q8_0 && a->hd == 32) {
        memcpy(v, a->v, sizeof(v));
        v[63 * 2 + 1] ^= 4;
        b.v = v;
    }
    ref().attn_page(out, &b);
}
static void merge_no_fma(wk_partial *acc, const wk_partial *p, int n_col, int hd) {
    for (int c = 0; c < n_col; c++) {
        const float max = p->m[c] > acc->m[c] ? p->m[c] : acc->m[c];
        const float a = wk_exp_scalar(acc->m[c] - max), b = wk_exp_scalar(p->m[c] - max);
        acc->m[c] = max;
        acc->l[c] = fmaf(acc->l[c], a, p->l[c] * b);
        for (int d = 0; d < hd; d++)
            acc->o[c * hd + d] = acc->o[c * hd + d] * a + p->o[c * hd + d] * b;
    }
}
static void merge_old_max(wk_partial *acc, const wk_partial *p, int n_col, int hd) {
    float m[64];
    memcpy(m, acc->m, (size_t)n_col * 4);
    ref().attn_merge(acc, p, n_col, hd);
    memcpy(acc->m, m, (size_t)n_col * 4);
}
static void finish_divides(float *dst, size_t ld, const wk_partial *acc, int n_col, int hd) {
    for (int i = 0; i < n_col * hd; i++)
        dst[(size_t)(i / hd) * ld + (size_t)(i % hd)] = acc->o[i] / acc->l[i / hd];
}
static void finish_ignores_ld(float *dst, size_t ld, const wk_partial *acc, int n_col, int hd) {
    (void)ld;
    ref().attn_finish(dst, (size_t)hd, acc, n_col, hd);
}

/* ---- formats ----------------------------------------------------------------------------------- */

static void pack_no_padding(void *dst, const void *rows, size_t row_bytes, int n_row, int k) {
    const size_t used = 16 * wk_row_bytes(WK_FMT_Q3_K, (size_t)k),
                 all = wk_panel_bytes(WK_FMT_Q3_K, (size_t)k);
    uint8_t old[64];
    memcpy(old, (uint8_t *)dst + used, all - used);
    wk_formats[WK_FMT_Q3_K].pack(dst, rows, row_bytes, n_row, k);
    memcpy((uint8_t *)dst + used, old, all - used);
}
static void pack_stale_rows(void *dst, const void *rows, size_t row_bytes, int n_row, int k) {
    wk_formats[WK_FMT_Q8_0].pack(dst, rows, row_bytes, n_row, k);
    if (n_row < 16) ((uint8_t *)dst)[30] = 1; /* row 15's scale */
}
static void unpack_other_lane(void *row, const void *panel, int lane, int k) {
    wk_formats[WK_FMT_Q4_1].unpack(row, panel, lane == 15 ? 14 : lane, k);
}
static void decode_swapped_nibbles(float *dst, const void *panel, int lane, int k) {
    wk_formats[WK_FMT_Q4_K].decode_lane(dst, panel, lane, k);
    const float t = dst[0];
    dst[0] = dst[32];
    dst[32] = t;
}
static int finite_always(const void *row, int k) {
    (void)row;
    (void)k;
    return -1;
}
static void encode_flips_bit(void *row, const float *x, int k) {
    wk_formats[WK_FMT_Q8_0].encode(row, x, k);
    ((uint8_t *)row)[2] ^= 0x10;
}

/* ---- the list ---------------------------------------------------------------------------------- */

static const ck_family format = {"format", ck_format}, quant = {"quant", ck_quant},
                       gemv = {"gemv", ck_gemv}, few = {"few", ck_few}, gemm = {"gemm", ck_gemm}, elem = {"elem", ck_elem},
                       attn = {"attn", ck_attn};

#define BUGS(X)                                                                                    \
    X(gemv, k.gemv[WK_FMT_Q4_0], gemv_short_k)                                                     \
    X(gemv, k.gemv[WK_FMT_Q6_K], gemv_last_panel)                                                  \
    X(gemv, k.gemv[WK_FMT_Q8_0], gemv_saturates)                                                   \
    X(gemv, k.gemv[WK_FMT_F32], gemv_long_chunk)                                                   \
    X(gemv, k.gemv[WK_FMT_Q4_K], gemv_reads_past)                                                  \
    X(gemv, k.gemv[WK_FMT_Q5_1], gemv_writes_before)                                               \
    X(few, k.few[WK_FMT_Q4_1].run, few_token_twice)                                                 \
    X(few, k.few[WK_FMT_Q6_K].run, few_row_apart)                                                   \
    X(gemm, k.expand[WK_FMT_Q4_0], expand_zero_point)                                              \
    X(gemm, k.expand[WK_FMT_Q6_K], expand_scale_order)                                             \
    X(gemm, k.expand[WK_FMT_Q3_K], expand_other_block)                                             \
    X(gemm, k.expand[WK_FMT_Q5_0], expand_no_fifth_bit)                                            \
    X(gemm, k.expand[WK_FMT_Q5_K], expand_min_order)                                               \
    X(gemm, k.expand[WK_FMT_IQ2_S], expand_last_entry)                                             \
    X(gemm, k.expand[WK_FMT_IQ3_S], expand_no_ninth_bit)                                           \
    X(gemm, k.expand[WK_FMT_IQ2_XXS], expand_eighth_sign)                                          \
    X(gemm, k.expand[WK_FMT_TQ1_0], expand_late_digit)                                             \
    X(gemm, k.gemm[WK_KIND_F].tile, tile_f_no_fma)                                                 \
    X(gemm, k.gemm[WK_KIND_F].tile, tile_f_no_chunks)                                              \
    X(gemm, k.gemm[WK_KIND_B32].tile, tile_past_end)                                               \
    X(gemm, k.gemm[WK_KIND_S16].tile, tile_forgets)                                                \
    X(gemm, k.gemm[WK_KIND_W256].tile, tile_drops_token)                                           \
    X(gemm, k.gemm[WK_KIND_W256M].tile, tile_drops_panel)                                          \
    X(gemm, k.gemm[WK_KIND_S32M].tile, tile_stores_partner)                                        \
    X(gemm, k.gemm[WK_KIND_B32M].tile, tile_swaps_rows)                                            \
    X(gemm, k.gemm[WK_KIND_B32M].tile, tile_swapped_min)                                           \
    X(gemm, k.gemm[WK_KIND_S32].tile, tile_saturates)                                              \
    X(quant, k.quant[WK_X_A32], quant_half_away)                                                   \
    X(quant, k.quant[WK_X_A32], quant_hides_nan)                                                   \
    X(quant, k.quant[WK_X_A256], quant_no_s16)                                                     \
    X(quant, k.quant[WK_X_A256], quant_tiny)                                                       \
    X(quant, k.quant[WK_X_A32], quant_foreign_array)                                               \
    X(quant, k.decode[WK_FMT_Q4_1], decode_no_min)                                                 \
    X(quant, k.decode[WK_FMT_Q5_K], decode_shift)                                                  \
    X(elem, k.rms, rms_one_lane)                                                                   \
    X(elem, k.rms, rms_hides_inf)                                                                  \
    X(elem, k.rms, rms_other_product)                                                              \
    X(elem, k.sum, sum_tree_first)                                                                 \
    X(elem, k.argmax, argmax_last)                                                                 \
    X(elem, k.argmax, argmax_stuck_on_nan)                                                         \
    X(elem, k.argmax, argmax_no_infinity)                                                          \
    X(elem, k.rope[WK_ROPE_HALVES], rope_uses_new)                                                 \
    X(elem, k.rope[WK_ROPE_NEIGHBOURS], rope_other_fma)                                            \
    X(elem, k.glu[WK_FN_SILU], silu_no_tail)                                                       \
    X(elem, k.glu[WK_FN_SILU], silu_flushes_denormal)                                              \
    X(elem, k.glu[WK_FN_GELU_TANH], gelu_drops_nan)                                                \
    X(elem, k.add, add_writes_past)                                                                \
    X(elem, k.scale, scale_short)                                                                  \
    X(elem, k.fma, fma_rounds_twice)                                                               \
    X(elem, k.softcap, softcap_divides)                                                            \
    X(elem, k.exp_scaled, exp_fused)                                                               \
    X(elem, k.exp_scaled, exp_one_bit)                                                             \
    X(elem, k.kv_cast[WK_KV_BF16], cast_truncates)                                                 \
    X(elem, k.kv_cast[WK_KV_F32], cast_counts_nothing)                                             \
    X(elem, k.kv_cast[WK_KV_Q8_0], cast_q8_keeps_codes)                                            \
    X(elem, k.kv_cast[WK_KV_F16], cast_keeps_inf)                                                  \
    X(attn, k.attn_page, page_one_more)                                                            \
    X(attn, k.attn_page, page_overwrites)                                                          \
    X(attn, k.attn_page, page_q8_one_scale)                                                        \
    X(attn, k.attn_page, page_no_cap)                                                              \
    X(attn, k.attn_page, page_plain_sum)                                                           \
    X(attn, k.attn_page, page_empty_is_stale)                                                      \
    X(attn, k.attn_page, page_score_past_end)                                                      \
    X(attn, k.attn_merge, merge_no_fma)                                                            \
    X(attn, k.attn_merge, merge_old_max)                                                           \
    X(attn, k.attn_finish, finish_divides)                                                         \
    X(attn, k.attn_finish, finish_ignores_ld)                                                      \
    X(format, formats[WK_FMT_Q3_K].pack, pack_no_padding)                                          \
    X(format, formats[WK_FMT_Q8_0].pack, pack_stale_rows)                                          \
    X(format, formats[WK_FMT_Q4_1].unpack, unpack_other_lane)                                      \
    X(format, formats[WK_FMT_Q4_K].decode_lane, decode_swapped_nibbles)                            \
    X(format, formats[WK_FMT_Q5_K].find_nonfinite, finite_always)                                  \
    X(format, formats[WK_FMT_Q8_0].encode, encode_flips_bit)

#define PLANT(family, field, bug)                                                                  \
    static void plant_##bug(patient *p) { p->field = bug; }
BUGS(PLANT)

typedef struct bug {
    const ck_family *family;
    const char *name;
    void (*plant)(patient *p);
} bug;

#define ROW(family, field, bug) {&family, #bug, plant_##bug},
static const bug bugs[] = {BUGS(ROW)};

/* Wrong cases of a family on ref with one bug, or with none. What is ref's own pointer is not compared. */
static long run(const ck_family *f, void (*plant)(patient *p)) {
    patient p = {.k = ref()};
    const wk_kernels plain = ref();
    memcpy(p.formats, wk_formats, sizeof(p.formats));
    for (int i = 0; i < WK_FMT_COUNT; i++) p.k.few[i].cols = WK_FEW; /* of the planted ones: ref has none */
    if (plant) plant(&p);
    ck c = {.level = "planted",
            .k = &p.k,
            .ref = &plain,
            .below = plant ? &plain : NULL,
            .formats = p.formats,
            .quiet = plant != NULL,
            .thin = f == &gemm || f == &gemv ? ck_shrink() : 1}; /* most cases, most time */
    return ck_family_run(&c, f);
}

int main(void) {
    const ck_family *const all[] = {&format, &quant, &gemv, &gemm, &elem, &attn};
    int n_missed = 0;
    for (size_t i = 0; i < WK_COUNT(all); i++) {
        if (run(all[i], NULL) == 0) continue;
        printf("WRONG %s: a clean table is reported broken\n", all[i]->name);
        n_missed++;
    }
    for (size_t i = 0; i < WK_COUNT(bugs); i++) {
        const long n = run(bugs[i].family, bugs[i].plant);
        printf("%s %-7s %-24s %ld wrong cases\n", n ? "found " : "MISSED", bugs[i].family->name,
               bugs[i].name, n);
        n_missed += n == 0;
    }
    printf("check_selftest: %zu bugs planted, %d missed\n", WK_COUNT(bugs), n_missed);
    return n_missed ? 1 : 0;
}

/* rows.c: norms, rope, element functions and reductions over f32 rows. */
#include <math.h>

#include "simd/neon/neon.h"
#include "simd/neon/vec.h"

/* ---- sums over a row: 16 lanes, element i in lane i mod 16 ---- */

WK_INLINE v16 add_one(v16 p, v16 x, bool squares) { return squares ? v16_fma(p, x, x) : v16_add(p, x); }

/* Missing elements of the last 16 are +0 and change no lane. */
WK_INLINE float row_sum(const float *x, int n, bool squares) {
    v16 p = v16_zero();
    int i = 0;
    for (; i + 16 <= n; i += 16) p = add_one(p, v16_load(x + i), squares);
    if (i < n) {
        float rest[16] = {0};
        memcpy(rest, x + i, (size_t)(n - i) * sizeof(float));
        p = add_one(p, v16_load(rest), squares);
    }
    return v_tree(p);
}

float wk_sum_neon(const float *x, int n) { return row_sum(x, n, false); }

void wk_rms_neon(float *dst, float *r_out, const float *x, const float *w, int n, float eps) {
    const float ss = row_sum(x, n, true);
    const bool finite = (wk_f32_bits(ss) & 0x7f800000u) != 0x7f800000u;
    const float r = finite ? 1.0f / sqrtf(ss / (float)n + eps) : wk_f32_from_bits(0x7fc00000u);
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        vst1q_f32(dst + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), r), vld1q_f32(w + i)));
    }
    for (; i < n; i++) dst[i] = x[i] * r * w[i];
    if (r_out) *r_out = r;
}

/* ---- rope ---- */

/* Turns four pairs: y0 = fma(x0, c, -x1*s), y1 = fma(x0, s, x1*c). */
WK_INLINE void turn4(float32x4_t *x0, float32x4_t *x1, float32x4_t c, float32x4_t s) {
    const float32x4_t t = vmulq_f32(*x1, s), u = vmulq_f32(*x1, c);
    *x1 = vfmaq_f32(u, *x0, s);
    *x0 = vfmaq_f32(vnegq_f32(t), *x0, c);
}

static void turn1(float *x0, float *x1, float c, float s) {
    const float a = *x0, t = *x1 * s, u = *x1 * c;
    *x0 = fmaf(a, c, -t);
    *x1 = fmaf(a, s, u);
}

static void rope_halves(float *x, const float *c, const float *s, int half) {
    int i = 0;
    for (; i + 4 <= half; i += 4) {
        float32x4_t x0 = vld1q_f32(x + i), x1 = vld1q_f32(x + half + i);
        turn4(&x0, &x1, vld1q_f32(c + i), vld1q_f32(s + i));
        vst1q_f32(x + i, x0);
        vst1q_f32(x + half + i, x1);
    }
    for (; i < half; i++) turn1(&x[i], &x[half + i], c[i], s[i]);
}

static void rope_neighbours(float *x, const float *c, const float *s, int half) {
    int i = 0;
    for (; i + 4 <= half; i += 4) {
        float32x4x2_t v = vld2q_f32(x + 2 * i);
        turn4(&v.val[0], &v.val[1], vld1q_f32(c + i), vld1q_f32(s + i));
        vst2q_f32(x + 2 * i, v);
    }
    for (; i < half; i++) turn1(&x[2 * i], &x[2 * i + 1], c[i], s[i]);
}

void wk_rope_halves_neon(float *x, const float *cs, int n_head, int hd, int n_rot) {
    const int half = n_rot / 2;
    for (int h = 0; h < n_head; h++) rope_halves(x + (size_t)h * (size_t)hd, cs, cs + half, half);
}

void wk_rope_neighbours_neon(float *x, const float *cs, int n_head, int hd, int n_rot) {
    const int half = n_rot / 2;
    for (int h = 0; h < n_head; h++) {
        rope_neighbours(x + (size_t)h * (size_t)hd, cs, cs + half, half);
    }
}

/* ---- element functions ---- */

typedef enum row_fn { ROW_SILU, ROW_GELU, ROW_ADD, ROW_SCALE, ROW_FMA, ROW_SOFTCAP, ROW_EXP } row_fn;

WK_INLINE float32x4_t gelu4(float32x4_t x) {
    const float32x4_t a = vdupq_n_f32(WK_GELU_A), b = vdupq_n_f32(WK_GELU_B);
    return v_gate(x, vmulq_f32(x, vfmaq_f32(b, vmulq_f32(x, x), a)));
}

WK_INLINE float32x4_t row_fn4(row_fn f, float32x4_t a, float32x4_t b, float32x4_t c0, float32x4_t c1) {
    if (f == ROW_SILU) return vmulq_f32(v_gate(a, a), b);
    if (f == ROW_GELU) return vmulq_f32(gelu4(a), b);
    if (f == ROW_ADD) return vaddq_f32(a, b);
    if (f == ROW_SCALE) return vmulq_f32(c0, a);
    if (f == ROW_FMA) return vfmaq_f32(a, c0, b);
    if (f == ROW_SOFTCAP) return vmulq_f32(c0, v_tanh(vmulq_f32(a, c1)));
    return v_exp(vmulq_f32(vsubq_f32(a, c0), c1));
}

/* dst = f(a, b; c0, c1); b is a again where f has one operand. The tail runs on a copy, beside zeros. */
WK_INLINE void row_map(row_fn f, float *dst, const float *a, const float *b, float c0, float c1, int n) {
    const float32x4_t k0 = vdupq_n_f32(c0), k1 = vdupq_n_f32(c1);
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        vst1q_f32(dst + i, row_fn4(f, vld1q_f32(a + i), vld1q_f32(b + i), k0, k1));
    }
    if (i == n) return;
    const size_t bytes = (size_t)(n - i) * sizeof(float);
    float ra[4] = {0}, rb[4] = {0};
    memcpy(ra, a + i, bytes);
    memcpy(rb, b + i, bytes);
    vst1q_f32(ra, row_fn4(f, vld1q_f32(ra), vld1q_f32(rb), k0, k1));
    memcpy(dst + i, ra, bytes);
}

void wk_glu_silu_neon(float *dst, const float *gate, const float *up, int n) {
    row_map(ROW_SILU, dst, gate, up, 0.0f, 0.0f, n);
}
void wk_glu_gelu_tanh_neon(float *dst, const float *gate, const float *up, int n) {
    row_map(ROW_GELU, dst, gate, up, 0.0f, 0.0f, n);
}
void wk_add_neon(float *dst, const float *a, const float *b, int n) {
    row_map(ROW_ADD, dst, a, b, 0.0f, 0.0f, n);
}
void wk_scale_neon(float *dst, const float *x, float c, int n) {
    row_map(ROW_SCALE, dst, x, x, c, 0.0f, n);
}
void wk_fma_neon(float *dst, const float *y, const float *x, float c, int n) {
    row_map(ROW_FMA, dst, y, x, c, 0.0f, n);
}
void wk_softcap_neon(float *dst, const float *x, float c, float c_inv, int n) {
    row_map(ROW_SOFTCAP, dst, x, x, c, c_inv, n);
}
void wk_exp_scaled_neon(float *dst, const float *x, float max, float c, int n) {
    row_map(ROW_EXP, dst, x, x, max, c, n);
}

/* ---- argmax ---- */

/* x > m ? x : m skips NaN (fmax would not). The first equal element is the lowest index. */
int wk_argmax_neon(const float *x, int n) {
    float32x4_t m = vdupq_n_f32(wk_f32_from_bits(0xff800000u));
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        const float32x4_t v = vld1q_f32(x + i);
        m = vbslq_f32(vcgtq_f32(v, m), v, m);
    }
    float best = vmaxvq_f32(m);
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    const float32x4_t b = vdupq_n_f32(best);
    for (i = 0; i + 4 <= n; i += 4) {
        if (vmaxvq_u32(vceqq_f32(vld1q_f32(x + i), b))) break;
    }
    for (; i < n; i++) {
        if (x[i] == best) return i;
    }
    return -1;
}

/* ---- casts to the cache type; what is not finite becomes +0 and is counted ---- */

/* Halves whose exponent is all ones. */
WK_INLINE uint16x4_t nonfinite4(uint16x4_t h, uint16_t exponent) {
    const uint16x4_t e = vdup_n_u16(exponent);
    return vceq_u16(vand_u16(h, e), e);
}
WK_INLINE int count4(uint16x4_t mask) { return vaddv_u16(vshr_n_u16(mask, 15)); }

int wk_kv_cast_f16_neon(void *dst, const float *x, int n) {
    wk_f16 *d = dst;
    int bad = 0, i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint16x4_t h = vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i)));
        const uint16x4_t lost = nonfinite4(h, 0x7c00);
        vst1_u16(d + i, vbic_u16(h, lost));
        bad += count4(lost);
    }
    for (; i < n; i++) {
        const wk_f16 h = wk_f32_to_f16(x[i]);
        const bool is_bad = (h & 0x7c00) == 0x7c00;
        d[i] = is_bad ? 0 : h;
        bad += is_bad;
    }
    return bad;
}

/* Nearest even; the rounding may spoil a NaN, so what is not finite is taken as Inf. */
WK_INLINE uint16x4_t round_bf16(uint32x4_t u) {
    const uint32x4_t e = vdupq_n_u32(0x7f800000u);
    const uint32x4_t special = vceqq_u32(vandq_u32(u, e), e);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    const uint32x4_t r = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd);
    return vshrn_n_u32(vbslq_u32(special, e, r), 16);
}

int wk_kv_cast_bf16_neon(void *dst, const float *x, int n) {
    wk_bf16 *d = dst;
    int bad = 0, i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint16x4_t h = round_bf16(vreinterpretq_u32_f32(vld1q_f32(x + i)));
        const uint16x4_t lost = nonfinite4(h, 0x7f80);
        vst1_u16(d + i, vbic_u16(h, lost));
        bad += count4(lost);
    }
    for (; i < n; i++) {
        const wk_bf16 h = wk_f32_to_bf16(x[i]);
        const bool is_bad = (h & 0x7f80) == 0x7f80;
        d[i] = is_bad ? 0 : h;
        bad += is_bad;
    }
    return bad;
}

int wk_kv_cast_f32_neon(void *dst, const float *x, int n) {
    const uint32x4_t e = vdupq_n_u32(0x7f800000u);
    float *d = dst;
    int bad = 0, i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint32x4_t v = vreinterpretq_u32_f32(vld1q_f32(x + i));
        const uint32x4_t lost = vceqq_u32(vandq_u32(v, e), e);
        vst1q_f32(d + i, vreinterpretq_f32_u32(vbicq_u32(v, lost)));
        bad += (int)vaddvq_u32(vshrq_n_u32(lost, 31));
    }
    for (; i < n; i++) {
        const bool is_bad = (wk_f32_bits(x[i]) & 0x7f800000u) == 0x7f800000u;
        d[i] = is_bad ? 0.0f : x[i];
        bad += is_bad;
    }
    return bad;
}

/* check_grad_planted.c: kernels with planted bugs. Each must be reported, or the checks are blind. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "simd/ref/scalar.h"
#include "tests/check/check_grad.h"

static wk_grad_kernels ref(void) {
    wk_grad_kernels k = {0};
    wk_grad_kernels_ref(&k);
    return k;
}

/* ---- against ref: one bit, one element, one byte too far ---- */

static void attn_one_slot_more(const wk_attn_grad *a) {
    uint8_t hi[64];
    wk_attn_grad b = *a;
    for (int c = 0; c < a->n_col; c++)
        hi[c] = a->hi[c] > a->lo[c] && a->hi[c] < 64 ? (uint8_t)(a->hi[c] + 1) : a->hi[c];
    b.hi = hi;
    ref().attn(&b);
}
static void attn_no_window(const wk_attn_grad *a) {
    uint8_t lo[64];
    wk_attn_grad b = *a;
    for (int c = 0; c < a->n_col; c++) lo[c] = a->hi[c] > a->lo[c] ? 0 : a->lo[c];
    b.lo = lo;
    ref().attn(&b);
}
static void attn_columns_backwards(const wk_attn_grad *a) {
    for (int c = a->n_col - 1; c >= 0; c--) {
        wk_attn_grad b = *a;
        const size_t at = (size_t)c * (size_t)a->hd;
        b.n_col = 1;
        b.q += at, b.d_o += at, b.d_q += at;
        b.m += c, b.l_inv += c, b.delta += c, b.lo += c, b.hi += c;
        ref().attn(&b);
    }
}
static void attn_scratch_past_end(const wk_attn_grad *a) {
    ref().attn(a);
    a->ds[a->n_col * WK_KV_SLOTS] = 0.0f;
}
static void rms_forgets_add(float *dst, const float *dy, const float *x, const float *w, float r, int n,
                            bool add) {
    (void)add;
    ref().rms(dst, dy, x, w, r, n, false);
}
static void rms_w_other_product(float *dw, const float *dy, const float *x, const float *r, size_t ld,
                                int n_row, int n) {
    for (int t = 0; t < n_row; t++) {
        for (int i = 0; i < n; i++) {
            const size_t e = (size_t)t * ld + (size_t)i;
            dw[i] = fmaf(dy[e] * x[e], r[t], dw[i]);
        }
    }
}
static void col_sum_no_stride(float *dst, const float *x, size_t ld, int n_row, int n) {
    (void)ld;
    ref().col_sum(dst, x, (size_t)n, n_row, n);
}
static void silu_in_place(float *d_g, float *d_u, const float *dy, const float *g, const float *u, int n) {
    for (int i = 0; i < n; i++) { /* d_u is written before its place is read */
        const float s = 1.0f / (1.0f + wk_exp_scalar(-g[i])), fn = g[i] * s;
        const float d_fn = s * fmaf(g[i], 1.0f - s, 1.0f);
        d_u[i] = dy[i] * fn;
        d_g[i] = (dy[i] * u[i]) * d_fn;
    }
}
static void gelu_no_tail(float *d_g, float *d_u, const float *dy, const float *g, const float *u, int n) {
    ref().glu[WK_FN_GELU_TANH](d_g, d_u, dy, g, u, n > 17 ? n / 16 * 16 : n);
}
static void softcap_no_fma(float *dst, const float *dy, const float *y, float cap_inv, int n) {
    for (int i = 0; i < n; i++) {
        const float t = y[i] * cap_inv, t2 = t * t;
        dst[i] = dy[i] * (1.0f - t2);
    }
}
static void axpy_past_end(float *dst, const float *x, float c, int n) {
    ref().axpy(dst, x, c, n);
    dst[n] = 0.0f;
}
static float dot_one_lane(const float *x, const float *y, int n) {
    float p = 0.0f;
    for (int i = 0; i < n; i++) p = fmaf(x[i], y[i], p);
    return p;
}
static float dot_reads_past(const float *x, const float *y, int n) {
    volatile float more = x[n];
    (void)more;
    return ref().dot(x, y, n);
}
static void adamw_reciprocal(float *w, float *m, float *v, const float *g, const wk_adamw *a, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float gi = g[i] * a->g_scale, wi = w[i] * a->keep;
        m[i] = fmaf(m[i], a->b1, gi * a->b1c);
        v[i] = fmaf(v[i], a->b2, (gi * gi) * a->b2c);
        w[i] = wi - (m[i] * a->step) * (1.0f / (sqrtf(v[i]) * a->v_inv + a->eps));
    }
}

/* ---- against the sums in double: a wrong formula ---- */

static void attn_no_scale(const wk_attn_grad *a) { /* of ds */
    wk_attn_grad b = *a;
    float q[48 * 64];
    if (a->n_col * a->hd > (int)WK_COUNT(q)) return;
    for (int i = 0; i < a->n_col * a->hd; i++) q[i] = a->q[i] * a->scale;
    b.q = q;
    b.scale = 1.0f;
    ref().attn(&b);
}
static void attn_no_delta(const wk_attn_grad *a) {
    static const float zero[64] = {0};
    wk_attn_grad b = *a;
    b.delta = zero;
    ref().attn(&b);
}
static void attn_cap_not_derived(const wk_attn_grad *a) {
    wk_attn_grad b = *a;
    b.softcap = 0.0f;
    ref().attn(&b);
}
static void rms_mean_of_wrong_n(float *dst, const float *dy, const float *x, const float *w, float r, int n,
                                bool add) {
    float p = 0.0f;
    for (int i = 0; i < n; i++) p += dy[i] * w[i] * x[i];
    const float c = r * r * (p / (float)(n + 1));
    for (int i = 0; i < n; i++) {
        const float dx = (dy[i] * w[i] - x[i] * c) * r;
        dst[i] = add ? dst[i] + dx : dx;
    }
}
static void gelu_as_silu(float *d_g, float *d_u, const float *dy, const float *g, const float *u, int n) {
    for (int i = 0; i < n; i++) {
        const float z = 1.702f * g[i], s = 1.0f / (1.0f + wk_exp_scalar(-z)), y = dy[i];
        d_g[i] = y * u[i] * (s + z * s * (1.0f - s));
        d_u[i] = y * g[i] * s;
    }
}
static void adamw_decays_twice(float *w, float *m, float *v, const float *g, const wk_adamw *a, size_t n) {
    for (size_t i = 0; i < n; i++) w[i] *= a->keep;
    ref().adamw(w, m, v, g, a, n);
}

enum { PAIRS = 256 };
/* The lower half of every pair comes first. */
static void pairs_low_first(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen, bool first) {
    static uint32_t a[2][PAIRS * 16], b[WK_PAIR_COLS][PAIRS];
    wk_panel turned[2];
    wk_act y = *x;
    for (int p = 0; p < np; p++) {
        memcpy(a[p], w[p].f, (size_t)klen * 64);
        for (int i = 0; i < klen * 16; i++) a[p][i] = a[p][i] >> 16 | a[p][i] << 16;
        turned[p] = (wk_panel){.f = (float *)(void *)a[p]};
    }
    for (int t = 0; t < m; t++) {
        memcpy(b[t], x->x + (size_t)t * x->ld, (size_t)klen * 4);
        for (int i = 0; i < klen; i++) b[t][i] = b[t][i] >> 16 | b[t][i] << 16;
    }
    y.x = (float *)(void *)b;
    y.ld = PAIRS;
    ref().pair_tile(dst, ld, turned, np, &y, m, klen, first);
}
static void pairs_half_a_chunk(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen, bool first) {
    for (int k = 0; k < klen; k += 32) {
        wk_panel at[2];
        wk_act y = *x;
        for (int p = 0; p < np; p++) at[p] = (wk_panel){.f = w[p].f + k * 16};
        y.x = x->x + k;
        ref().pair_tile(dst, ld, at, np, &y, m, klen - k < 32 ? klen - k : 32, first && k == 0);
    }
}
static void pack_truncates(const wk_pair_square *s) {
    ref().pair_pack(s);
    uint32_t u;
    if (s->n == 0 || s->kn == 0) return;
    memcpy(&u, s->src, sizeof(u));
    if ((u & 0x7f800000) != 0 && (u & 0x7f800000) != 0x7f800000) s->dst[0] = (s->dst[0] & 0xffff0000) | u >> 16;
}
static void pack_odd_k(const wk_pair_square *s) {
    wk_pair_square even = *s;
    even.kn &= ~1;
    ref().pair_pack(&even);
}

/* ---- the list ---- */

#define BUGS(X)                                                                                    \
    X(attn, attn, attn_one_slot_more)                                                              \
    X(attn, attn, attn_no_window)                                                                  \
    X(attn, attn, attn_columns_backwards)                                                          \
    X(attn, attn, attn_scratch_past_end)                                                           \
    X(rows, rms, rms_forgets_add)                                                                  \
    X(rows, rms_w, rms_w_other_product)                                                            \
    X(rows, col_sum, col_sum_no_stride)                                                            \
    X(rows, glu[WK_FN_SILU], silu_in_place)                                                        \
    X(rows, glu[WK_FN_GELU_TANH], gelu_no_tail)                                                    \
    X(rows, softcap, softcap_no_fma)                                                               \
    X(rows, axpy, axpy_past_end)                                                                   \
    X(rows, dot, dot_one_lane)                                                                     \
    X(rows, dot, dot_reads_past)                                                                   \
    X(rows, adamw, adamw_reciprocal)                                                               \
    X(pairs, pair_tile, pairs_low_first)                                                           \
    X(pairs, pair_tile, pairs_half_a_chunk)                                                        \
    X(pairs, pair_pack, pack_truncates)                                                            \
    X(pairs, pair_pack, pack_odd_k)                                                                \
    X(oracle, attn, attn_no_scale)                                                                 \
    X(oracle, attn, attn_no_delta)                                                                 \
    X(oracle, attn, attn_cap_not_derived)                                                          \
    X(oracle, rms, rms_mean_of_wrong_n)                                                            \
    X(oracle, glu[WK_FN_GELU_TANH], gelu_as_silu)                                                  \
    X(oracle, adamw, adamw_decays_twice)

typedef enum kind { KIND_rows, KIND_attn, KIND_oracle, KIND_pairs } kind;
typedef struct bug {
    kind kind;
    const char *name;
    void (*plant)(wk_grad_kernels *k);
} bug;

#define PLANT(family, field, name)                                                                 \
    static void plant_##name(wk_grad_kernels *k) { k->field = name; }
BUGS(PLANT)
#define ROW(family, field, name) {KIND_##family, #name, plant_##name},
static const bug bugs[] = {BUGS(ROW)};

/* What is ref's own pointer is not compared again. */
static long run(const bug *b) {
    static const ck_family of[] = {{"rows", ck_grad_rows}, {"attn", ck_grad_attn}, {"oracle", ck_grad_oracle},
                                   {"pairs", ck_grad_pairs}};
    const wk_grad_kernels plain = ref();
    wk_grad_kernels k = ref();
    b->plant(&k);
    ck_grad g = {.base = {.level = "planted", .quiet = true, .thin = b->kind == KIND_attn ? ck_shrink() : 1},
                 .k = &k,
                 .ref = b->kind == KIND_oracle ? &k : &plain,
                 .below = b->kind == KIND_oracle ? NULL : &plain};
    return ck_family_run(&g.base, &of[b->kind]);
}

long ck_grad_planted(void) {
    long n_missed = 0;
    for (size_t i = 0; i < WK_COUNT(bugs); i++) {
        const long n = run(&bugs[i]);
        if (n) continue;
        printf("MISSED %s\n", bugs[i].name);
        n_missed++;
    }
    printf("%zu bugs planted, %ld missed\n", WK_COUNT(bugs), n_missed);
    return n_missed;
}

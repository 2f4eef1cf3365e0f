/* fit.c: scales of sub-blocks. */
#include "simd/quant/fit.h"

#include <math.h>
#include <string.h>

#include "engine/base/attr.h"

enum { MOST = 32 }; /* values of a sub-block */
#define TINY 1e-15f /* a sub-block of smaller values is zero */

static float size_of(float x) { return x < 0.0f ? -x : x; }

/* Four sub-blocks side by side, one a lane: the sums of a lane keep the order of its values. One sub-block after the
 * other, Q4_K took 95 ns a value; so it takes 25 (Zen 4, gcc and clang, SSE2). Eight in vectors of 32 bytes were tried:
 * 23 ns with clang, 60 with gcc, which keeps such vectors in memory. */
typedef float lanes WK_VECTOR(16);
typedef int32_t mask WK_VECTOR(16); /* of a comparison: all bits or none */

#define EACH(l) for (int l = 0; l < WK_FIT_LANES; l++)

/* m ? a : b */
#define CHOOSE(m, a, b) ((lanes)(((mask)(a) & (m)) | ((mask)(b) & ~(m))))
#define ALL(v) ((lanes){0} + (v))

/* wk_fit_round, left as a float. */
#define ROUND(out, v, lo, hi)                                                                      \
    do {                                                                                           \
        const lanes low_ = CHOOSE((mask)((v) < (hi)), v, hi);                                      \
        const lanes in_ = CHOOSE((mask)((v) > (lo)), low_, lo);                                    \
        (out) = (in_ + 0x1.8p23f) - 0x1.8p23f;                                                     \
    } while (0)

static void turn(lanes *out, const float *x, int n) {
    for (int i = 0; i < n; i++) EACH(l) out[i][l] = x[l * n + i];
}

/* ---- scale and min ------------------------------------------------------------------------------- */

/* The sub-blocks, and sums over them that no candidate changes. */
typedef struct subs {
    const wk_fit_how *how;
    lanes x[MOST], w[MOST], min, max, sum_w, sum_x;
} subs;
/* Codes with the scale and the (negative) min that fit them best; det > 0: they say something. */
typedef struct fit {
    lanes code[MOST], scale, min, det, error;
} fit;

static void look_at(subs *s, const float *x, const float *w) {
    const wk_fit_how *how = s->how;
    turn(s->x, x, how->n);
    turn(s->w, w, how->n);
    s->min = s->max = s->x[0];
    s->sum_w = s->w[0];
    s->sum_x = s->w[0] * s->x[0];
    for (int i = 1; i < how->n; i++) {
        const lanes v = s->x[i];
        s->min = CHOOSE((mask)(v < s->min), v, s->min);
        s->max = CHOOSE((mask)(v > s->max), v, s->max);
        s->sum_w += s->w[i];
        s->sum_x += s->w[i] * v;
    }
    s->min = CHOOSE((mask)(s->min > 0.0f), ALL(0.0f), s->min);
}

/* f's error with its scale and min. */
static void judge(fit *f, const subs *s) {
    const mask size = (mask)((lanes){0} <= 0.0f) & 0x7fffffff;
    lanes e = ALL(0.0f);
    for (int i = 0; i < s->how->n; i++) {
        const lanes d = f->scale * f->code[i] + f->min - s->x[i];
        e += s->w[i] * (s->how->absolute ? (lanes)((mask)d & size) : d * d);
    }
    f->error = e;
}

/* The codes of scale range / steps over the range as it is, and their weighted least squares. */
static void attempt(fit *f, const subs *s, float steps) {
    const lanes inv = steps / (s->max - s->min), zero = ALL(0.0f), top = ALL((float)s->how->top);
    lanes a = zero, a2 = zero, xa = zero;
    for (int i = 0; i < s->how->n; i++) {
        const lanes v = inv * (s->x[i] - s->min);
        lanes c;
        ROUND(c, v, zero, top);
        const lanes wc = s->w[i] * c;
        f->code[i] = c;
        a += wc;
        a2 += wc * c;
        xa += wc * s->x[i];
    }
    f->det = s->sum_w * a2 - a * a;
    const lanes scale = (s->sum_w * xa - s->sum_x * a) / f->det,
                min = (a2 * s->sum_x - a * xa) / f->det;
    const mask above = (mask)(min > 0.0f);
    f->scale = CHOOSE(above, xa / a2, scale);
    f->min = CHOOSE(above, zero, min);
}

static bool any(const mask *m) {
    int32_t bits = 0;
    EACH(l) bits |= (*m)[l];
    return bits != 0;
}

/* What is better than best; the next candidates start from its min. */
static void keep(fit *best, subs *s, const fit *f) {
    const mask better = (mask)(f->det > 0.0f) & (mask)(f->error < best->error);
    if (!any(&better)) return;
    for (int i = 0; i < s->how->n; i++) best->code[i] = CHOOSE(better, f->code[i], best->code[i]);
    best->error = CHOOSE(better, f->error, best->error);
    best->scale = CHOOSE(better, f->scale, best->scale);
    s->min = CHOOSE(better, f->min, s->min);
}

void wk_fit_with_min(uint8_t *code, float *scale, float *min, const float *x, const float *w,
                     const wk_fit_how *how) {
    subs s = {.how = how};
    fit best, f;
    look_at(&s, x, w);
    const lanes range = s.max - s.min;
    attempt(&best, &s, (float)how->top);
    best.scale = 1.0f / ((float)how->top / range);
    best.min = s.min;
    judge(&best, &s);
    for (int i = 0; i <= how->n_step; i++) {
        attempt(&f, &s, how->first + how->step * (float)i + (float)how->top);
        judge(&f, &s);
        keep(&best, &s, &f);
    }
    EACH(l) {
        const bool flat = !(range[l] > 0.0f);
        scale[l] = flat ? 0.0f : best.scale[l];
        min[l] = -s.min[l];
        for (int i = 0; i < how->n; i++) code[l * how->n + i] = flat ? 0 : (uint8_t)best.code[i][l];
    }
}

/* ---- scale alone --------------------------------------------------------------------------------- */

enum { N16 = 16 };

static float extreme(const float *x) {
    float best = 0.0f, most = 0.0f;
    for (int i = 0; i < N16; i++) {
        if (!(size_of(x[i]) > most)) continue;
        most = size_of(x[i]);
        best = x[i];
    }
    return best;
}

/* Codes about zero for one candidate, with sum w x l and sum w l l. */
typedef struct trials {
    lanes code[N16], xl, l2;
} trials;

static void try_scales(trials *t, const lanes *x, const lanes *most, float steps, float top) {
    const lanes inv = -steps / *most, lo = ALL(-top), hi = ALL(top - 1.0f);
    lanes xl = ALL(0.0f), l2 = ALL(0.0f);
    for (int i = 0; i < N16; i++) {
        const lanes v = inv * x[i], w = x[i] * x[i];
        lanes c;
        ROUND(c, v, lo, hi);
        t->code[i] = c;
        xl += w * x[i] * c;
        l2 += w * c * c;
    }
    t->xl = xl;
    t->l2 = l2;
}

void wk_fit_nearest(uint8_t *code, float *scale, const float *x, int top) {
    lanes xt[N16], most, fitted, best;
    trials kept, t;
    turn(xt, x, N16);
    EACH(l) most[l] = extreme(x + l * N16);
    try_scales(&kept, xt, &most, (float)top, (float)top);
    fitted = CHOOSE((mask)(kept.l2 > 0.0f), kept.xl / kept.l2, ALL(0.0f));
    best = fitted * kept.xl;
    for (int step = -9; step <= 9; step++) {
        if (step == 0) continue;
        try_scales(&t, xt, &most, (float)top + 0.1f * (float)step, (float)top);
        const mask better = (mask)(t.l2 > 0.0f) & (mask)(t.xl * t.xl > best * t.l2);
        if (!any(&better)) continue;
        for (int i = 0; i < N16; i++) kept.code[i] = CHOOSE(better, t.code[i], kept.code[i]);
        fitted = CHOOSE(better, t.xl / t.l2, fitted);
        best = CHOOSE(better, fitted * t.xl, best);
    }
    EACH(l) {
        const bool zero = !(size_of(most[l]) >= TINY);
        scale[l] = zero ? 0.0f : fitted[l];
        for (int i = 0; i < N16; i++)
            code[l * N16 + i] = zero ? 0 : (uint8_t)((int)kept.code[i][l] + top);
    }
}

/* ---- scale alone, code by code ------------------------------------------------------------------- */

typedef struct trial {
    int8_t l[N16];
    float xl, l2;
} trial;

static trial try_scale(const float *x, float inv, int top) {
    trial t = {.xl = 0.0f, .l2 = 0.0f};
    for (int i = 0; i < N16; i++) {
        const int l = wk_fit_round(inv * x[i], -top, top - 1);
        const float w = x[i] * x[i];
        t.l[i] = (int8_t)l;
        t.xl += w * x[i] * (float)l;
        t.l2 += w * (float)l * (float)l;
    }
    return t;
}

/* One code against all others as they are: whether another one correlates better. */
static bool improve(trial *t, const float *x, int i, int top) {
    const float w = x[i] * x[i], l = (float)t->l[i];
    float xl = t->xl - w * x[i] * l, l2 = t->l2 - w * l * l;
    if (!(xl > 0.0f)) return false;
    const int other = wk_fit_round(x[i] * l2 / xl, -top, top - 1);
    if (other == t->l[i]) return false;
    xl += w * x[i] * (float)other;
    l2 += w * (float)other * (float)other;
    if (!(l2 > 0.0f && xl * xl * t->l2 > t->xl * t->xl * l2)) return false;
    t->l[i] = (int8_t)other;
    t->xl = xl;
    t->l2 = l2;
    return true;
}

float wk_fit_walk(uint8_t *code, const float *x, int top) {
    const float most = extreme(x);
    if (!(size_of(most) >= TINY)) {
        memset(code, 0, N16);
        return 0.0f;
    }
    trial t = try_scale(x, -(float)top / most, top);
    for (int round = 0; round < 5; round++) {
        bool changed = false;
        for (int i = 0; i < N16; i++) changed |= improve(&t, x, i, top);
        if (!changed) break;
    }
    for (int i = 0; i < N16; i++) code[i] = (uint8_t)(t.l[i] + top);
    return t.l2 > 0.0f ? t.xl / t.l2 : 0.0f;
}

/* ---- blocks of Q4_K and Q5_K --------------------------------------------------------------------- */

enum { N_SUB = 8, N32 = 32, SIX_BITS = 63 };

static void put_k4(uint8_t *s, int j, int scale, int min) {
    if (j < 4) {
        s[j] = (uint8_t)scale;
        s[j + 4] = (uint8_t)min;
        return;
    }
    s[j + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
    s[j - 4] = (uint8_t)(s[j - 4] | (scale >> 4) << 6);
    s[j] = (uint8_t)(s[j] | (min >> 4) << 6);
}

static void weigh(float *w, const float *x) {
    float sum = 0.0f;
    for (int i = 0; i < N32; i++) sum += x[i] * x[i];
    const float mean = sqrtf(sum / (float)N32);
    for (int i = 0; i < N32; i++) w[i] = mean + size_of(x[i]);
}

void wk_fit_super(wk_fit_k4 *out, const float *x, const wk_fit_how *how) {
    float scale[N_SUB], min[N_SUB], w[N_SUB * N32], most = 0.0f, most_min = 0.0f;
    for (int j = 0; j < N_SUB; j++) weigh(w + N32 * j, x + N32 * j);
    for (int j = 0; j < N_SUB; j += WK_FIT_LANES)
        wk_fit_with_min(out->code + N32 * j, scale + j, min + j, x + N32 * j, w + N32 * j, how);
    for (int j = 0; j < N_SUB; j++) {
        if (scale[j] > most) most = scale[j];
        if (min[j] > most_min) most_min = min[j];
    }
    const float inv = most > 0.0f ? (float)SIX_BITS / most : 0.0f,
                inv_min = most_min > 0.0f ? (float)SIX_BITS / most_min : 0.0f;
    out->d = wk_f32_to_f16(most / (float)SIX_BITS);
    out->dmin = wk_f32_to_f16(most_min / (float)SIX_BITS);
    memset(out->scales, 0, sizeof(out->scales));
    for (int j = 0; j < N_SUB; j++) {
        const int sc = wk_fit_round(inv * scale[j], 0, SIX_BITS),
                  mn = wk_fit_round(inv_min * min[j], 0, SIX_BITS);
        const float d = wk_f16_to_f32(out->d) * (float)sc, m = wk_f16_to_f32(out->dmin) * (float)mn;
        put_k4(out->scales, j, sc, mn);
        if (!(d > 0.0f)) continue; /* what the codes are is all the same */
        for (int i = N32 * j; i < N32 * (j + 1); i++)
            out->code[i] = (uint8_t)wk_fit_round((x[i] + m) / d, 0, how->top);
    }
}

/* selftest.c: the kernels of a level against the reference, bit for bit, on this machine and now. The thorough form of
 * it is tests/check; this one runs in a fraction of a second wherever wick runs. */
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/rng.h"
#include "engine/run/probe.h"
#include "simd/kernels.h"
#include "simd/level.h"

enum { K = 768, N_PANEL = 3, N_TOK = 7, HD = 64, N_COL = 5, ROWS = N_PANEL * WK_PANEL };

typedef struct test {
    wk_kernels ref, level;
    uint32_t counter;
    uint64_t n;
    wk_buf *wrong;
    uint8_t *rows, *panels, *mem;
    float *x, *a, *b;
    wk_act act;
    wk_panel panel[2];
} test;

static uint32_t next(test *t) {
    uint32_t out[4];
    const uint32_t c[4] = {t->counter++, 0, 0, 0};
    wk_philox(out, 7, c);
    return out[0];
}
static float uniform(test *t) { return (float)(int32_t)next(t) * 0x1p-31f; }

static void compare(test *t, const char *what, const char *id, const float *a, const float *b,
                    size_t n) {
    t->n++;
    for (size_t i = 0; i < n; i++) {
        const float x = a[i] + 0.0f, y = b[i] + 0.0f; /* zero has one sign */
        if (memcmp(&x, &y, sizeof(x)) == 0) continue;
        (void)wk_buf_addf(t->wrong, "%s%s %s", t->wrong->n ? ", " : "", what, id);
        return;
    }
}

/* A file row of random codes with sane scales: every f16 field of every format lies where a scale is at most 2^-3. */
static void random_rows(test *t, int fmt) {
    const size_t row = wk_row_bytes(fmt, K);
    for (size_t i = 0; i < ROWS * row; i++) t->rows[i] = (uint8_t)next(t);
    if (wk_formats[fmt].encode) {
        for (int r = 0; r < ROWS; r++) {
            for (int k = 0; k < K; k++) t->x[k] = uniform(t);
            wk_formats[fmt].encode(t->rows + (size_t)r * row, t->x, K);
        }
        return;
    }
    for (size_t b = 0; b < ROWS * row; b += wk_formats[fmt].bytes) { /* clear what is not finite */
        uint8_t *block = t->rows + b;
        while (wk_formats[fmt].find_nonfinite(block, wk_formats[fmt].block) >= 0)
            for (size_t i = 0; i < wk_formats[fmt].bytes; i++) block[i] = (uint8_t)next(t);
    }
}

static void check_format(test *t, int fmt) {
    const wk_format *f = &wk_formats[fmt];
    const size_t row = wk_row_bytes(fmt, K), panel = wk_panel_bytes(fmt, K);
    wk_act act = t->act;
    random_rows(t, fmt);
    for (int p = 0; p < N_PANEL; p++)
        f->pack(t->panels + (size_t)p * panel, t->rows + (size_t)p * 16 * row, row, 16, K);
    for (int i = 0; i < N_TOK * K; i++) t->x[i] = uniform(t);
    if (f->act == WK_X_F32) {
        act.ld = K;
        act.x = t->x;
    } else {
        for (int i = 0; i < N_TOK; i++) t->ref.quant[f->act](&act, i, t->x + (size_t)i * K, K);
    }
    t->ref.gemv[fmt](t->a, t->panels, &act, N_PANEL, K);
    t->level.gemv[fmt](t->b, t->panels, &act, N_PANEL, K);
    compare(t, "gemv", f->name, t->a, t->b, ROWS);
    for (int tok = 0; tok < N_TOK;
         tok++) { /* the tile gives the same numbers as the reference's own dot */
        const wk_act one = wk_act_at(&act, f->act, tok, 0);
        t->ref.gemv[fmt](t->a + (size_t)tok * 16, t->panels, &one, 1, K);
    }
    const wk_gemm *g = &t->level.gemm[f->kind];
    for (int k0 = 0; k0 < K; k0 += g->kc) {
        const int klen = K - k0 < g->kc ? K - k0 : g->kc;
        t->level.expand[fmt](&t->panel[0], t->panels, k0, klen);
        for (int tok = 0; tok < N_TOK; tok += g->cols) {
            const wk_act v = wk_act_at(&act, f->act, tok, k0);
            g->tile(t->b + (size_t)tok * 16, 16, t->panel, 1, &v,
                    N_TOK - tok < g->cols ? N_TOK - tok : g->cols, klen, k0 == 0);
        }
    }
    compare(t, "gemm", f->name, t->a, t->b, N_TOK * 16);
}

static void check_rows(test *t) {
    float w[K];
    for (int i = 0; i < K; i++) w[i] = uniform(t);
    for (int i = 0; i < 2 * K; i++) t->x[i] = 8 * uniform(t);
    const float *x = t->x, *y = t->x + K;
    const int n = K - 3;
    t->ref.rms(t->a, NULL, x, w, n, 1e-5f);
    t->level.rms(t->b, NULL, x, w, n, 1e-5f);
    compare(t, "rms", "", t->a, t->b, (size_t)n);
    for (int f = 0; f < WK_FN_COUNT; f++) {
        t->ref.glu[f](t->a, x, y, n);
        t->level.glu[f](t->b, x, y, n);
        compare(t, "glu", f == WK_FN_SILU ? "silu" : "gelu", t->a, t->b, (size_t)n);
    }
    t->ref.exp_scaled(t->a, x, 8, 1.5f, n);
    t->level.exp_scaled(t->b, x, 8, 1.5f, n);
    compare(t, "exp", "", t->a, t->b, (size_t)n);
    t->ref.fma(t->a, x, y, 1.5f, n);
    t->level.fma(t->b, x, y, 1.5f, n);
    compare(t, "fma", "", t->a, t->b, (size_t)n);
    t->a[0] = t->ref.sum(x, n);
    t->b[0] = t->level.sum(x, n);
    compare(t, "sum", "", t->a, t->b, 1);
}

static void check_quant(test *t) {
    static const char *const name[] = {"f32", "a32", "a256"};
    for (int i = 0; i < K; i++) t->x[i] = 3 * uniform(t);
    for (int kind = WK_X_A32; kind < WK_X_COUNT; kind++) {
        wk_act v = t->act;
        t->ref.quant[kind](&v, 0, t->x, K);
        t->level.quant[kind](&v, 1, t->x, K);
        const size_t blocks = kind == WK_X_A32 ? K / 32 : K / 256;
        for (int i = 0; i < K; i++) {
            t->a[i] = (float)v.q[i];
            t->b[i] = (float)v.q[v.ld + (size_t)i];
        }
        compare(t, "quant", name[kind], t->a, t->b, K);
        compare(t, "scale", name[kind], v.d, v.d + v.ldb, blocks);
    }
}

static void check_attention(test *t) {
    uint8_t lo[N_COL] = {0, 3, 0, 17, 63}, hi[N_COL] = {64, 64, 1, 40, 64};
    uint16_t *k = (uint16_t *)(void *)t->mem, *v = k + WK_KV_SLOTS * HD;
    float *score = (float *)(void *)(v + WK_KV_SLOTS * HD);
    float *out[2] = {t->a, t->b};
    for (int i = 0; i < 2 * WK_KV_SLOTS * HD; i++) k[i] = wk_f32_to_f16(uniform(t));
    for (int i = 0; i < N_COL * HD; i++) t->x[i] = uniform(t);
    const wk_attn_page a = {.n_col = N_COL,
                            .hd = HD,
                            .type = WK_KV_F16,
                            .k = k,
                            .v = v,
                            .q = t->x,
                            .lo = lo,
                            .hi = hi,
                            .scale = 0.125f,
                            .score = score};
    for (int i = 0; i < 2; i++) {
        wk_partial p = {out[i], out[i] + N_COL, out[i] + 2 * N_COL};
        (i ? t->level : t->ref).attn_page(&p, &a);
    }
    compare(t, "attention", "f16", t->a, t->b, N_COL * (HD + 2));
}

static size_t up64(size_t n) { return (n + 63) & ~(size_t)63; }

/* One block of memory, cut up. */
static bool take_memory(test *t) {
    const size_t ldb = K / 32 + 2, rows = (size_t)ROWS * K * 4,
                 floats = up64((size_t)N_TOK * K * 4 + 4096),
                 attn = (size_t)4 * WK_KV_SLOTS * HD + (size_t)N_COL * WK_KV_SLOTS * 4,
                 act = up64((size_t)N_TOK * ldb * 64),
                 panel = (size_t)WK_PANEL_CODE * 4 + (size_t)WK_PANEL_SUB * 16;
    uint8_t *m =
        wk_alloc_aligned(2 * up64(rows) + 3 * floats + up64(attn) + 7 * act + 2 * up64(panel) * 2);
    if (!m) return false;
    t->rows = m;
    t->panels = m += up64(rows);
    t->x = (float *)(void *)(m += up64(rows));
    t->a = (float *)(void *)(m += floats);
    t->b = (float *)(void *)(m += floats);
    t->mem = m += floats;
    m += up64(attn);
    t->act = (wk_act){.n = N_TOK, .k = K, .ld = 32 * ldb, .ldb = ldb};
    t->act.q = (int8_t *)m;
    t->act.d = (float *)(void *)(m += act);
    t->act.z32 = (int32_t *)(void *)(m += act);
    t->act.f32s = (float *)(void *)(m += act);
    t->act.z16 = (int32_t *)(void *)(m += act);
    t->act.s32 = (int16_t *)(void *)(m += act);
    t->act.s16 = (int16_t *)(void *)(m += act);
    m += act;
    for (int i = 0; i < 2; i++, m += up64(panel) * 2) {
        t->panel[i] = (wk_panel){.code = m, .f = (float *)(void *)(m + WK_PANEL_CODE)};
        uint8_t *s = m + WK_PANEL_CODE + (size_t)WK_PANEL_CODE * 4;
        t->panel[i].s = (float *)(void *)s;
        t->panel[i].c = (float *)(void *)(s + (size_t)WK_PANEL_SUB * 4);
        t->panel[i].mn = (int16_t *)(void *)(s + (size_t)WK_PANEL_SUB * 8);
        t->panel[i].sc = (int16_t *)(void *)(s + (size_t)WK_PANEL_SUB * 10);
    }
    return true;
}

int wk_selftest(int level, uint64_t *n_compared, wk_buf *wrong, wk_err *err) {
    if (level < 0 || level >= wk_level_count)
        return wk_fail(err, WICK_E_ARG, "there is no CPU level %d", level);
    test *t = wk_new(test);
    if (!t || !take_memory(t)) {
        wk_free(t);
        return wk_fail(err, WICK_E_NOMEM, "no memory for the self-test");
    }
    t->wrong = wrong;
    wk_kernels_init(&t->ref, 0);
    wk_kernels_init(&t->level, wk_levels[level].mask);
    for (int f = 0; f < WK_FMT_COUNT; f++) check_format(t, f);
    check_rows(t);
    check_quant(t);
    check_attention(t);
    *n_compared = t->n;
    wk_free_aligned(t->rows);
    wk_free(t);
    return WICK_OK;
}

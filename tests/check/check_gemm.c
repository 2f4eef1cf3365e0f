/* check_gemm.c: expand + tile of every format, walked as the engine walks them, against ref's gemv token by
 * token. Where a level keeps ref's tile of a kind, its expand must give ref's panel byte for byte. */
#include <stdio.h>
#include <string.h>

#include "tests/check/check.h"

enum { MAX_PANEL = 2 };

typedef struct job {
    int fmt, n_panel, n, k, piece;
    const uint8_t *w;
    wk_act x;
    wk_panel panel[MAX_PANEL];
} job;

static wk_panel panel_new(ck *c) {
    return (wk_panel){.f = ck_in(c, (size_t)WK_PANEL_CODE * 4),
                      .code = ck_in(c, WK_PANEL_CODE),
                      .s = ck_in(c, (size_t)WK_PANEL_SUB * 4),
                      .c = ck_in(c, (size_t)WK_PANEL_SUB * 4),
                      .mn = ck_in(c, (size_t)WK_PANEL_SUB * 2),
                      .sc = ck_in(c, (size_t)WK_PANEL_SUB * 2)};
}

/* Rows of one panel pair, one piece of k, all tokens. */
static void run_piece(const wk_kernels *k, job *j, float *dst, size_t ld, int p0, int k0) {
    const wk_format *f = &wk_formats[j->fmt];
    const wk_gemm *g = &k->gemm[f->kind];
    const int np = j->n_panel - p0 < g->rows / 16 ? j->n_panel - p0 : g->rows / 16;
    const int klen = j->k - k0 < j->piece ? j->k - k0 : j->piece;
    const size_t bytes = wk_panel_bytes(j->fmt, (size_t)j->k);
    for (int p = 0; p < np; p++)
        k->expand[j->fmt](&j->panel[p], j->w + (size_t)(p0 + p) * bytes, k0, klen);
    for (int t = 0; t < j->n; t += g->cols) {
        const wk_act view = wk_act_at(&j->x, f->act, t, k0);
        const int m = j->n - t < g->cols ? j->n - t : g->cols;
        g->tile(dst + (size_t)t * ld + 16 * p0, ld, j->panel, np, &view, m, klen, k0 == 0);
    }
}

static void run(const wk_kernels *k, job *j, float *dst, size_t ld) {
    const int step = k->gemm[wk_formats[j->fmt].kind].rows / 16;
    for (int p = 0; p < j->n_panel; p += step) {
        for (int k0 = 0; k0 < j->k; k0 += j->piece) run_piece(k, j, dst, ld, p, k0);
    }
}

enum { BOOK = -1 }; /* of flavours */

static void one(ck *c, int fmt, int n_row, int n, int k, int piece, int flavour) {
    if (!ck_case(c, "%d rows, %d tokens, k %d in pieces of %d, data %d", n_row, n, k, piece,
                 flavour))
        return;
    const int act = wk_formats[fmt].act;
    job j = {.fmt = fmt, .n_panel = (n_row + 15) / 16, .n = n, .k = k, .piece = piece};
    j.w = ck_panels(c, fmt, n_row, k, flavour == BOOK ? CK_W_BOOK : (ck_weight)(flavour % CK_W_COUNT));
    j.x = ck_act(c, act, n, k, flavour == BOOK ? CK_X_PLAIN : (ck_x)(flavour % CK_X_COUNT));
    for (int p = 0; p < MAX_PANEL; p++) j.panel[p] = panel_new(c);
    const size_t ld = (size_t)j.n_panel * 16 + 5;
    const ck_pair y = ck_out(c, ld * (size_t)n * 4);
    for (int t = 0; t < n; t++) {
        const wk_act view = wk_act_at(&j.x, act, t, 0);
        c->ref->gemv[fmt]((float *)y.want + (size_t)t * ld, j.w, &view, j.n_panel, k);
    }
    run(c->k, &j, y.got, ld);
    ck_same_f32(c, &y, "dst");
}

static void check_geometry(ck *c, int kind) {
    const wk_gemm *g = &c->k->gemm[kind];
    if (!ck_case(c, "geometry")) return;
    const bool rows_ok = g->rows == 16 || g->rows == 32, kc_ok = g->kc % 256 == 0 && g->kc >= 256;
    if (!rows_ok || !kc_ok || g->kc > WK_KC || g->cols == 0) {
        ck_fail(c, "%d rows x %d tokens, kc %d", g->rows, g->cols, g->kc);
    }
}

static void body_bench(ck *c, int fmt) {
    const int n_row = 64, n = 48, k = 2048;
    c->n_slot = 0;
    job j = {.fmt = fmt, .n_panel = n_row / 16, .n = n, .k = k};
    j.piece = c->k->gemm[wk_formats[fmt].kind].kc;
    j.w = ck_panels(c, fmt, n_row, k, CK_W_PLAIN);
    j.x = ck_act(c, wk_formats[fmt].act, n, k, CK_X_PLAIN);
    for (int p = 0; p < MAX_PANEL; p++) j.panel[p] = panel_new(c);
    float *y = ck_in(c, (size_t)n_row * (size_t)n * 4);
    CK_BENCH(c, "64x2048 x 48", 0, 2.0 * n_row * k * n, run(c->k, &j, y, (size_t)n_row));
    CK_BENCH(c, "expand 512", 512.0 * 16, 0, c->k->expand[fmt](&j.panel[0], j.w, 512, 512));
}

static void body(ck *c, int fmt) {
    static const int rows[] = {1, 16, 17, 30, 33, 48, 70};
    const int block = wk_formats[fmt].block, kind = wk_formats[fmt].kind,
              cols = c->k->gemm[kind].cols;
    /* The longest piece only where it is all of k: later ones begin at multiples of 256. */
    const int pieces[] = {256, 512, c->k->gemm[kind].kc, block == 32 ? WK_KC_WHOLE : 256};
    check_geometry(c, kind);
    for (int i = 0; i < 180; i++) {
        const int n = i < 2 * cols + 2 && i < 40 ? i + 1 : ck_range(c, 1, 40);
        const int k =
            block == 1 ? ck_range(c, 1, 200) : block * ck_range(c, 1, block == 32 ? 12 : 2);
        const int piece = pieces[k > pieces[3] ? i % 3 : i % 4];
        one(c, fmt, rows[i % (int)WK_COUNT(rows)], n, k, piece, i);
    }
    for (int i = 0; i < 60; i++) { /* several pieces, the last one short */
        const int k =
            block == 1 ? ck_range(c, 256, 900) : block * ck_range(c, 1, block == 32 ? 44 : 5);
        const int piece = pieces[k > pieces[3] ? i % 3 : i % 4];
        one(c, fmt, rows[i % (int)WK_COUNT(rows)], ck_range(c, 1, 9), k, piece, i);
    }
    if (ck_has_book(fmt)) one(c, fmt, CK_BOOK_ROWS, 2, CK_BOOK_K, c->k->gemm[kind].kc, BOOK);
    if (c->bench) body_bench(c, fmt);
}

/* ---- expand alone ------------------------------------------------------------------------------ */

typedef struct panel_pair {
    ck_pair f, code, s, c, mn, sc;
} panel_pair;

static panel_pair pair_new(ck *c) {
    return (panel_pair){.f = ck_out(c, (size_t)WK_PANEL_CODE * 4),
                        .code = ck_out(c, WK_PANEL_CODE),
                        .s = ck_out(c, (size_t)WK_PANEL_SUB * 4),
                        .c = ck_out(c, (size_t)WK_PANEL_SUB * 4),
                        .mn = ck_out(c, (size_t)WK_PANEL_SUB * 2),
                        .sc = ck_out(c, (size_t)WK_PANEL_SUB * 2)};
}

static void body_expand(ck *c, int fmt) {
    const int block = wk_formats[fmt].block;
    for (int i = 0; i < 60; i++) {
        const int k = block == 1 ? ck_range(c, 1, 1100) : block * ck_range(c, 1, 1024 / block);
        const int k0 = ck_range(c, 0, (k - 1) / 256) * 256;
        const int most = k - k0 < WK_KC ? k - k0 : WK_KC, klen = most / block * block;
        if (!ck_case(c, "k %d, %d values from %d", k, klen, k0)) continue;
        const void *w = ck_panels(c, fmt, ck_range(c, 1, 16), k, (ck_weight)(i % CK_W_COUNT));
        const panel_pair p = pair_new(c);
        wk_panel want = {p.code.want, p.f.want, p.s.want, p.c.want, p.mn.want, p.sc.want};
        wk_panel got = {p.code.got, p.f.got, p.s.got, p.c.got, p.mn.got, p.sc.got};
        c->ref->expand[fmt](&want, w, k0, klen);
        c->k->expand[fmt](&got, w, k0, klen);
        (void)(ck_same_f32(c, &p.f, "f") && ck_same(c, &p.code, "code") &&
               ck_same_f32(c, &p.s, "s") && ck_same_f32(c, &p.c, "c") && ck_same(c, &p.mn, "mn") &&
               ck_same(c, &p.sc, "sc"));
    }
}

void ck_gemm(ck *c) {
    for (int f = 0; f < WK_FMT_COUNT; f++) {
        const int kind = wk_formats[f].kind;
        const bool same_tile = c->below && c->k->gemm[kind].tile == c->below->gemm[kind].tile;
        const bool same_expand = c->below && c->k->expand[f] == c->below->expand[f];
        char name[32];
        ck_kernel(c, wk_formats[f].name, same_tile && same_expand, body, f);
        if (c->k->gemm[kind].tile != c->ref->gemm[kind].tile ||
            c->k->expand[f] == c->ref->expand[f])
            continue;
        snprintf(name, sizeof(name), "%s expand", wk_formats[f].name);
        ck_kernel(c, name, same_expand, body_expand, f);
    }
}

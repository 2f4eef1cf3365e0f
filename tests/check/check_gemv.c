/* check_gemv.c: gemv of every format, and the passes for few tokens. */
#include <stdio.h>

#include "tests/check/check.h"

static const int k_block32[] = {32,  64,  96,  128, 160, 192, 224, 256, 288,
                                320, 352, 480, 512, 544, 576, 800, 1056};
static const int k_block256[] = {256, 512, 768, 1024, 1280, 1792};
static const int k_float[] = {1,  2,  3,   7,   8,   15,  16,  17,  31,  33,  48,  63,  64, 65,
                              66, 96, 127, 128, 129, 191, 192, 255, 256, 257, 300, 512, 577};

enum { BOOK = -1 }; /* of flavours */

static void one(ck *c, int fmt, int n_row, int k, int flavour) {
    const int n_panel = (n_row + 15) / 16;
    if (!ck_case(c, "%d rows, k %d, data %d", n_row, k, flavour)) return;
    const ck_weight weight = flavour == BOOK ? CK_W_BOOK : (ck_weight)(flavour % CK_W_COUNT);
    const ck_x act = flavour == BOOK ? CK_X_PLAIN : (ck_x)(flavour % CK_X_COUNT);
    const void *w = ck_panels(c, fmt, n_row, k, weight);
    const wk_act x = ck_act(c, wk_formats[fmt].act, 1, k, act);
    const ck_pair y = ck_out(c, (size_t)n_panel * 16 * 4);
    c->ref->gemv[fmt](y.want, w, &x, n_panel, k);
    c->k->gemv[fmt](y.got, w, &x, n_panel, k);
    ck_same_f32(c, &y, "dst");
}

/* m tokens at once give what each gives alone. */
static void one_few(ck *c, int fmt, int n_row, int m, int k, int flavour) {
    const int n_panel = (n_row + 15) / 16;
    if (!ck_case(c, "%d rows, %d tokens, k %d, data %d", n_row, m, k, flavour)) return;
    const void *w = ck_panels(c, fmt, n_row, k, (ck_weight)(flavour % CK_W_COUNT));
    const wk_act x = ck_act(c, wk_formats[fmt].act, m, k, (ck_x)(flavour % CK_X_COUNT));
    const size_t ld = (size_t)n_panel * 16 + 5;
    const ck_pair y = ck_out(c, ld * (size_t)m * 4);
    for (int t = 0; t < m; t++) {
        const wk_act view = wk_act_at(&x, wk_formats[fmt].act, t, 0);
        c->ref->gemv[fmt]((float *)y.want + (size_t)t * ld, w, &view, n_panel, k);
    }
    c->k->few[fmt].run(y.got, ld, w, &x, m, n_panel, k);
    ck_same_f32(c, &y, "dst");
}

static void body_few(ck *c, int fmt) {
    const bool small = wk_formats[fmt].block == 32;
    const int *list = small ? k_block32 : k_block256;
    const size_t n = small ? WK_COUNT(k_block32) : WK_COUNT(k_block256);
    for (size_t i = 0; i < n; i++) {
        for (int f = 0; f < CK_W_COUNT * CK_X_COUNT; f++)
            one_few(c, fmt, ck_range(c, 1, 70), 2 + f % (c->k->few[fmt].cols - 1), list[i], f);
    }
    for (int m = 2; m <= c->k->few[fmt].cols; m++) one_few(c, fmt, 33, m, list[n / 2], m);
}

static void body_bench(ck *c, int fmt) {
    const int n_row = 64, k = 2048;
    c->n_slot = 0;
    const void *w = ck_panels(c, fmt, n_row, k, CK_W_PLAIN);
    const wk_act x = ck_act(c, wk_formats[fmt].act, 1, k, CK_X_PLAIN);
    float *y = ck_in(c, (size_t)n_row * 4);
    const double bytes = (double)wk_panel_bytes(fmt, (size_t)k) * n_row / 16;
    CK_BENCH(c, "64x2048 (in cache)", bytes, 2.0 * n_row * k,
             c->k->gemv[fmt](y, w, &x, n_row / 16, k));
}

static void body(ck *c, int fmt) {
    const int block = wk_formats[fmt].block;
    const int *list = block == 1 ? k_float : block == 32 ? k_block32 : k_block256;
    const size_t n = block == 1    ? WK_COUNT(k_float)
                     : block == 32 ? WK_COUNT(k_block32)
                                   : WK_COUNT(k_block256);
    const int flavours = CK_W_COUNT * CK_X_COUNT;
    for (size_t i = 0; i < n; i++) {
        for (int f = 0; f < 2 * flavours; f++) one(c, fmt, ck_range(c, 1, 70), list[i], f);
    }
    for (int n_row = 1; n_row <= 97; n_row += 8) one(c, fmt, n_row, list[n / 2], n_row % flavours);
    if (ck_has_book(fmt)) one(c, fmt, CK_BOOK_ROWS, CK_BOOK_K, BOOK);
    if (c->bench) body_bench(c, fmt);
}

void ck_gemv(ck *c) {
    for (int f = 0; f < WK_FMT_COUNT; f++) {
        const bool inherited = c->below && c->k->gemv[f] == c->below->gemv[f];
        ck_kernel(c, wk_formats[f].name, inherited, body, f);
    }
}

void ck_few(ck *c) {
    for (int f = 0; f < WK_FMT_COUNT; f++) {
        if (!c->k->few[f].run) continue; /* this level takes the way by expand and tile */
        const bool inherited = c->below && c->k->few[f].run == c->below->few[f].run;
        ck_kernel(c, wk_formats[f].name, inherited, body_few, f);
    }
}

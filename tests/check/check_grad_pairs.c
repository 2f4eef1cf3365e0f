/* check_grad_pairs.c: the products of bf16: packing and tile against ref, bit by bit, with values of all kinds; ref
 * against double. */
#include <math.h>
#include <string.h>

#include "tests/check/check_grad.h"

enum { CHUNK = 64, MOST = 2 * CHUNK + 3 };
static const int pairs[] = {0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, MOST};

/* ---- packing ------------------------------------------------------------------------------------- */

/* Rows end at a forbidden page; what is not written keeps its pattern, which is compared too. */
static void body_pack(ck *c, int arg) {
    for (int i = 0; i < 1200; i++) {
        const bool k_major = arg & 1, panel = arg & 2;
        const int n = i < 17 ? i : ck_range(c, 0, 16), kn = i < 33 ? i : ck_range(c, 0, 32), gap = i % 3 * 5;
        if (!ck_case(c, "n %d, kn %d, gap %d, data %d", n, kn, gap, i % 3)) continue;
        const size_t row = (size_t)(k_major ? n : kn), n_row = (size_t)(k_major ? kn : n), ld = row + (size_t)gap;
        const float *x = ck_in_floats(c, n_row && row ? (n_row - 1) * ld + row : 0, (ck_data)(i % CK_DATA_COUNT));
        const ck_pair y = ck_out(c, 16 * 20 * 4);
        wk_pair_square s = {.src = x, .ld = ld, .dst = y.want, .dst_ld = 20, .n = n, .kn = kn, .k_major = k_major, .panel = panel};
        grad_of(c)->ref->pair_pack(&s);
        s.dst = y.got;
        grad_of(c)->k->pair_pack(&s);
        ck_same(c, &y, "dst");
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const float *x = ck_in_floats(c, 1 << 16, CK_GAUSS);
    const ck_pair y = ck_out(c, 16 * 16 * 4);
    const wk_pair_square s = {.src = x, .ld = 512, .dst = y.got, .dst_ld = 16, .n = 16, .kn = 32, .k_major = arg & 1, .panel = arg & 2};
    CK_BENCH(c, "16 x 32", 16 * 32 * 6, 0, grad_of(c)->k->pair_pack(&s));
}

/* ---- the tile ------------------------------------------------------------------------------------ */

/* Products and sums round the least normal: 2^-126 with a 24 bits mantissa behind it. */
static uint32_t tiny(ck *c) {
    const uint32_t exponent = (uint32_t)(127 - ck_range(c, 58, 76)), sign = ck_u32(c) & 1;
    return sign << 15 | exponent << 7 | (ck_u32(c) & 0x7f);
}

/* A sum that begins at 2^-126, and products of 2^-151 to 2^-148: some of the sums round up to the least normal. */
enum { EDGE = CK_DATA_COUNT + 1, DATA_COUNT, EXPONENT = 1 << 7 };
static void fill_edge(ck *c, uint32_t *p, size_t n, size_t by, size_t wrap, int exponent) {
    for (size_t i = 0; i < n; i++) {
        const uint32_t low = (uint32_t)((127 + exponent) * EXPONENT) | (ck_u32(c) & 0x7f) | (ck_u32(c) & 1) << 15;
        const uint32_t high = (uint32_t)((127 + exponent) * EXPONENT) | (ck_u32(c) & 0x7f) | (ck_u32(c) & 1) << 15;
        p[i] = i / by % wrap ? high << 16 | low : (127 - 63) * EXPONENT;
    }
}

static void fill(ck *c, uint32_t *p, size_t n, int data) {
    if (data == CK_DATA_COUNT) {
        for (size_t i = 0; i < n; i++) p[i] = tiny(c) << 16 | tiny(c);
    } else if (data == CK_BITS) {
        for (size_t i = 0; i < n; i++) p[i] = ck_u32(c);
    } else {
        for (size_t i = 0; i < n; i++) {
            float x[2];
            uint32_t u[2];
            ck_floats(c, x, 2, (ck_data)data);
            memcpy(u, x, sizeof(u));
            p[i] = u[0] >> 16 | (u[1] & 0xffff0000);
        }
    }
}

static void body_tile(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 900; i++) {
        const int n = pairs[i % (int)WK_COUNT(pairs)], np = 1 + i % 2, m = 1 + i / 2 % WK_PAIR_COLS, data = i / 3 % DATA_COUNT;
        const bool first = i / 5 % 2;
        if (!ck_case(c, "%d pairs, %d panels, %d columns,%s data %d", n, np, m, first ? " first," : "", data)) continue;
        const size_t ld = (size_t)(np * WK_PANEL + i % 4), ldx = (size_t)(n + i % 7), wn = (size_t)n * WK_PANEL;
        uint32_t *w0 = ck_in(c, wn * 4), *w1 = ck_in(c, wn * 4), *b = ck_in(c, ((size_t)(m - 1) * ldx + (size_t)n) * 4);
        if (data == EDGE) {
            fill_edge(c, w0, wn, 16, SIZE_MAX, -63);
            fill_edge(c, w1, wn, 16, SIZE_MAX, -63);
            fill_edge(c, b, (size_t)(m - 1) * ldx + (size_t)n, 1, ldx ? ldx : 1, -88);
        } else {
            fill(c, w0, wn, data);
            fill(c, w1, wn, data);
            fill(c, b, (size_t)(m - 1) * ldx + (size_t)n, data);
        }
        const wk_panel w[2] = {{.f = (float *)(void *)w0}, {.f = (float *)(void *)w1}};
        const wk_act x = {.n = m, .k = n, .ld = ldx, .x = (float *)(void *)b};
        const size_t all = (size_t)(m - 1) * ld + (size_t)(np * WK_PANEL);
        const ck_pair y = ck_out(c, all * 4);
        ck_floats(c, y.want, all, data == CK_BITS ? CK_BITS : CK_GAUSS);
        memcpy(y.got, y.want, all * 4);
        grad_of(c)->ref->pair_tile(y.want, ld, w, np, &x, m, n, first);
        grad_of(c)->k->pair_tile(y.got, ld, w, np, &x, m, n, first);
        ck_same_f32(c, &y, "dst");
    }
    if (!c->bench) return;
    c->n_slot = 0;
    uint32_t *w0 = ck_in(c, 512 * 64), *w1 = ck_in(c, 512 * 64), *b = ck_in(c, 8 * 528 * 4);
    fill(c, w0, 512 * 16, CK_GAUSS);
    fill(c, w1, 512 * 16, CK_GAUSS);
    fill(c, b, 8 * 528, CK_GAUSS);
    const wk_panel w[2] = {{.f = (float *)(void *)w0}, {.f = (float *)(void *)w1}};
    const wk_act x = {.n = 8, .k = 512, .ld = 528, .x = (float *)(void *)b};
    const ck_pair y = ck_out(c, 8 * 32 * 4);
    memset(y.got, 0, 8 * 32 * 4);
    CK_BENCH(c, "32 x 8 x 1024", 0, 2.0 * 32 * 8 * 1024, grad_of(c)->k->pair_tile(y.got, 32, w, 2, &x, 8, 512, true));
}

void ck_grad_pairs(ck *c) {
    const wk_grad_kernels *k = grad_of(c)->k, *b = grad_of(c)->below;
    static const char *const names[] = {"pack_rows", "pack_columns_to_rows", "pack_rows_to_panel", "pack_columns"};
    for (int i = 0; i < 4; i++) ck_kernel(c, names[i], b && k->pair_pack == b->pair_pack, body_pack, i);
    ck_kernel(c, "pair_tile", b && k->pair_tile == b->pair_tile, body_tile, 0);
}

/* ---- ref against double -------------------------------------------------------------------------- */

/* A product of k values through packing and tile. Rounding to 8 bits: 2^-8 relative per value at most half a unit, so
 * 2^-8 + 2^-18 of each product; the sums add 64 pairs, the chunks and their trips at 2^-24 each. */
static void body_oracle(ck *c, int arg) {
    (void)arg;
    for (int i = 0; i < 200; i++) {
        const int k = i < 150 ? i : ck_range(c, 150, 2 * MOST), n = (k + 1) / 2;
        if (!ck_case(c, "k %d", k)) continue;
        const float *a = ck_in_floats(c, (size_t)k, CK_GAUSS), *b = ck_in_floats(c, (size_t)k, CK_GAUSS);
        uint32_t row[MOST + 16], panel[MOST * 16 + 256];
        float y[16] = {0};
        double want = 0, mass = 0;
        for (int k0 = 0; k0 < k; k0 += 32) {
            const int kn = k - k0 < 32 ? k - k0 : 32;
            grad_of(c)->ref->pair_pack(&(wk_pair_square){.src = a + k0, .ld = 0, .dst = row + k0 / 2, .dst_ld = 0, .n = 1, .kn = kn});
            grad_of(c)->ref->pair_pack(
                &(wk_pair_square){.src = b + k0, .ld = 1, .dst = panel + k0 / 2 * 16, .n = 1, .kn = kn, .panel = true, .k_major = true});
        }
        for (int j = 0; j < k; j++) {
            want += (double)a[j] * (double)b[j];
            mass += fabs((double)a[j] * (double)b[j]);
        }
        const wk_panel w = {.f = (float *)(void *)panel};
        const wk_act x = {.n = 1, .k = n, .ld = (size_t)n, .x = (float *)(void *)row};
        grad_of(c)->ref->pair_tile(y, 16, &w, 1, &x, 1, n, true);
        const double bound = mass * (0x1p-8 + 0x1p-18 + 140 * 0x1p-24) + 1e-37;
        if (k && !(fabs((double)y[0] - want) <= bound))
            ck_fail(c, "%g, exact %g: bound %g", (double)y[0], want, bound);
        if (k > 100 && fabs((double)y[0] - want) < mass * 1e-9) ck_fail(c, "%g is too good for bf16", (double)y[0]);
    }
}

void ck_grad_pairs_oracle(ck *c) { ck_kernel(c, "pair_tile", false, body_oracle, 0); }

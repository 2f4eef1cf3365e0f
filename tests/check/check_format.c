/* check_format.c: the format table. Panels are the file's bits permuted: unpack(pack(x)) == x; what a panel's
 * expansion says is what decode says of the file; the plain encoders give the bytes of the public reference. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "simd/quant/quant.h"
#include "tests/check/check.h"

static int some_k(ck *c, int fmt) {
    const int block = wk_formats[fmt].block;
    return block == 1 ? ck_range(c, 1, 600) : block * ck_range(c, 1, block == 32 ? 20 : 4);
}

/* pack writes the whole panel and no more, unpack gives every row back, missing rows are zero bytes. */
static void body_round_trip(ck *c, int fmt) {
    const wk_format *f = &c->formats[fmt];
    for (int i = 0; i < 120; i++) {
        const int k = some_k(c, fmt), n_row = i < 16 ? i + 1 : ck_range(c, 1, 16);
        if (!ck_case(c, "%d rows, k %d, data %d", n_row, k, i % CK_W_COUNT)) continue;
        const size_t row = wk_row_bytes(fmt, (size_t)k), stride = row + (size_t)(i % 3),
                     n = (size_t)n_row;
        const size_t bytes = wk_panel_bytes(fmt, (size_t)k), used = row * WK_PANEL;
        uint8_t *rows = ck_in(c, (n - 1) * stride + row), *flat = ck_in(c, n * row);
        ck_rows(c, flat, fmt, n_row, k, (ck_weight)(i % CK_W_COUNT));
        for (size_t r = 0; r < n; r++) memcpy(rows + r * stride, flat + r * row, row);
        const ck_pair panel = ck_out(c, bytes), back = ck_out(c, row);
        f->pack(panel.got, rows, stride, n_row, k);
        memcpy(panel.want, panel.got, used);
        memset((uint8_t *)panel.want + used, 0, bytes - used);
        if (!ck_same(c, &panel, "panel")) continue;
        for (int r = 0; r < WK_PANEL; r++) {
            if (r < n_row)
                memcpy(back.want, flat + (size_t)r * row, row);
            else
                memset(back.want, 0, row);
            f->unpack(back.got, panel.got, r, k);
            if (!ck_same(c, &back, "row")) break;
        }
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const size_t row = wk_row_bytes(fmt, 4096);
    uint8_t *rows = ck_in(c, row * 16), *panel = ck_in(c, wk_panel_bytes(fmt, 4096));
    ck_rows(c, rows, fmt, 16, 4096, CK_W_PLAIN);
    CK_BENCH(c, "pack 16x4096", (double)row * 16, 0, f->pack(panel, rows, row, 16, 4096));
    float *x = ck_in(c, 4096 * 4);
    CK_BENCH(c, "decode_lane 4096", (double)row, 0, f->decode_lane(x, panel, 3, 4096));
}

static void body_decode_lane(ck *c, int fmt) {
    const wk_format *f = &c->formats[fmt];
    for (int i = 0; i < 60; i++) {
        const int k = some_k(c, fmt);
        if (!ck_case(c, "k %d, data %d", k, i % CK_W_COUNT)) continue;
        const size_t row = wk_row_bytes(fmt, (size_t)k);
        uint8_t *rows = ck_in(c, row * 16), *panel = ck_in(c, wk_panel_bytes(fmt, (size_t)k));
        ck_rows(c, rows, fmt, 16, k, (ck_weight)(i % CK_W_COUNT));
        f->pack(panel, rows, row, 16, k);
        const ck_pair x = ck_out(c, (size_t)k * 4);
        for (int r = 0; r < WK_PANEL; r++) {
            f->decode(x.want, rows + (size_t)r * row, k);
            f->decode_lane(x.got, panel, r, k);
            if (!ck_same(c, &x, "value")) break;
        }
    }
}

/* Value of row r, element i of an expanded panel: s*code, with mins fma(s, code, c*mn). */
static float panel_value(const wk_panel *p, int kind, int i, int r) {
    if (kind == WK_KIND_F) return p->f[i * 16 + r];
    const float code = (float)(int8_t)p->code[i / 4 * 64 + r * 4 + i % 4];
    const int sub = i / (kind == WK_KIND_S16                             ? 16
                         : kind == WK_KIND_W256 || kind == WK_KIND_W256M ? 256
                                                                         : 32);
    float s = p->s[sub * 16 + r];
    if (kind == WK_KIND_W256 || kind == WK_KIND_W256M) s *= (float)p->sc[i / 16 * 16 + r];
    if (kind == WK_KIND_B32M) return fmaf(s, code, p->c[i / 32 * 16 + r]);
    if (kind == WK_KIND_S32M)
        return fmaf(s, code, p->c[i / 256 * 16 + r] * (float)p->mn[i / 32 * 16 + r]);
    if (kind == WK_KIND_W256M)
        return fmaf(s, code, p->c[i / 256 * 16 + r] * (float)p->mn[i / 16 * 16 + r]);
    return s * code;
}

static void body_expand(ck *c, int fmt) {
    const wk_format *f = &c->formats[fmt];
    for (int i = 0; i < 40; i++) {
        const int k = some_k(c, fmt), klen = k < WK_KC ? k : WK_KC;
        if (!ck_case(c, "k %d, data %d", k, i % CK_W_COUNT)) continue;
        const size_t row = wk_row_bytes(fmt, (size_t)k);
        uint8_t *rows = ck_in(c, row * 16), *packed = ck_in(c, wk_panel_bytes(fmt, (size_t)k));
        ck_rows(c, rows, fmt, 16, k, (ck_weight)(i % CK_W_COUNT));
        f->pack(packed, rows, row, 16, k);
        wk_panel p = {ck_in(c, WK_PANEL_CODE),
                      ck_in(c, (size_t)WK_PANEL_CODE * 4),
                      ck_in(c, (size_t)WK_PANEL_SUB * 4),
                      ck_in(c, (size_t)WK_PANEL_SUB * 4),
                      ck_in(c, (size_t)WK_PANEL_SUB * 2),
                      ck_in(c, (size_t)WK_PANEL_SUB * 2)};
        c->ref->expand[fmt](&p, packed, 0, klen);
        float *decoded = ck_in(c, (size_t)k * 4);
        const ck_pair x = ck_out(c, (size_t)klen * 4);
        for (int r = 0; r < WK_PANEL; r++) {
            f->decode(decoded, rows + (size_t)r * row, k);
            memcpy(x.want, decoded, (size_t)klen * 4);
            for (int e = 0; e < klen; e++) ((float *)x.got)[e] = panel_value(&p, f->kind, e, r);
            if (!ck_same_f32(c, &x, "value")) break;
        }
    }
}

/* A planted Inf or NaN in any unit that must be finite is found in its block. */
static void body_nonfinite(ck *c, int fmt) {
    const wk_format *f = &c->formats[fmt];
    const wk_layout *l = wk_format_layout(fmt);
    for (int i = 0; i < 60; i++) {
        const int k = some_k(c, fmt), n_block = k / f->block, at = ck_range(c, 0, n_block - 1);
        if (!ck_case(c, "k %d, block %d", k, at)) continue;
        uint8_t *row = ck_in(c, wk_row_bytes(fmt, (size_t)k));
        ck_rows(c, row, fmt, 1, k, CK_W_SCALES);
        if (f->find_nonfinite(row, k) != -1) ck_fail(c, "a finite row is refused");
        for (int j = 0; j < l->n_field; j++) {
            const wk_field *d = &l->field[j];
            if (d->value == WK_UNIT_BITS) continue;
            uint8_t old[4], *p = row + (size_t)at * f->bytes + d->at;
            memcpy(old, p, d->unit);
            p[d->unit - 1] |= 0x7f;
            if (d->unit > 1) p[d->unit - 2] |= 0xfc; /* all exponent bits of f16, bf16, f32 */
            if (d->value == WK_UNIT_E8M0) *p = (uint8_t)ck_range(c, WK_E8M0_MAX + 1, 255);
            const int found = f->find_nonfinite(row, k);
            if (found != at) ck_fail(c, "field %d: found in block %d, planted in %d", j, found, at);
            memcpy(p, old, d->unit);
        }
    }
}

/* ---- encoders ---------------------------------------------------------------------------------- */

static const char golden_dir[] = "shared/data/ggml-quant-golden";

static size_t load(void *dst, size_t max, const char *dir, const char *name, int k, const char *part) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s_%d_noim_%s.bin", dir, name, k, part);
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    const size_t n = fread(dst, 1, max, file);
    fclose(file);
    return n;
}

static void body_golden(ck *c, int fmt) {
    static const char *const dirs[] = {golden_dir, "../shared/data/ggml-quant-golden"};
    const wk_format *f = &c->formats[fmt];
    char name[16];
    float x[1024];
    size_t dir = 0;
    const int k = f->block == 256 ? 512 : 64;
    const size_t bytes = 2 * (size_t)k * sizeof(*x);
    snprintf(name, sizeof(name), "%s", f->name);
    for (char *p = name; *p; p++) *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    if (!ck_case(c, "two rows of %d", k)) return;
    const size_t row = wk_row_bytes(fmt, (size_t)k);
    const ck_pair y = ck_out(c, 2 * row);
    while (dir < WK_COUNT(dirs) && load(x, bytes, dirs[dir], name, k, "input") != bytes) dir++;
    if (dir == WK_COUNT(dirs)) {
        if (!c->quiet) printf("  SKIP golden bytes of %s: %s is not there\n", f->name, golden_dir);
        return;
    }
    if (load(y.want, 2 * row, dirs[dir], name, k, "expected") != 2 * row)
        ck_fail(c, "expected bytes are missing");
    for (size_t r = 0; r < 2; r++) f->encode((uint8_t *)y.got + r * row, x + (size_t)k * r, k);
    ck_same(c, &y, "block");
}

/* decode(encode(x)) is within half a step; on values that decode gave, encode is exact where it promises. */
static void body_encode(ck *c, int fmt) {
    const wk_format *f = &c->formats[fmt];
    static const double step[WK_FMT_COUNT] = {
        [WK_FMT_F16] = 0x1p-11,    [WK_FMT_BF16] = 0x1p-8,    [WK_FMT_Q4_0] = 1.01 / 8,
        [WK_FMT_Q4_1] = 1.01 / 15, [WK_FMT_Q5_0] = 1.01 / 16, [WK_FMT_Q5_1] = 1.01 / 31,
        [WK_FMT_Q8_0] = 0.51 / 127,   [WK_FMT_MXFP4] = 1.01 / 4,
        /* of the largest value of the block: fitted scales are no promise for single values */
        [WK_FMT_Q2_K] = 1.0 / 2,      [WK_FMT_Q3_K] = 1.0 / 3, [WK_FMT_Q4_K] = 1.0 / 7,
        [WK_FMT_Q5_K] = 1.0 / 14,     [WK_FMT_Q6_K] = 1.0 / 24};
    for (int i = 0; i < 60; i++) {
        const int unit = f->block == 256 ? 256 : 32, k = unit * ck_range(c, 1, 256 / unit + 1);
        if (!ck_case(c, "k %d", k)) continue;
        float *x = ck_in_floats(c, (size_t)k, CK_GAUSS), *y = ck_in(c, (size_t)k * 4);
        uint8_t *row = ck_in(c, wk_row_bytes(fmt, (size_t)k));
        if (i == 0) memset(x, 0, (size_t)k * 4);
        f->encode(row, x, k);
        f->decode(y, row, k);
        for (int j = 0; j < k; j++) {
            double amax = 0;
            for (int b = j / unit * unit; b < j / unit * unit + unit; b++)
                amax = fmax(amax, fabs((double)x[b]));
            const double err = fabs((double)x[j] - (double)y[j]);
            if (err <= step[fmt] * amax + 0.002 * amax * (step[fmt] > 0.003)) continue;
            ck_fail(c, "[%d] %g comes back as %g", j, (double)x[j], (double)y[j]);
            break;
        }
    }
}

/* ---- the table --------------------------------------------------------------------------------- */

static uint32_t qh_plain(uint32_t x) {
    uint32_t y = 0;
    for (int k = 0; k < 32; k++) y |= ((x >> k) & 1u) << (8 * (k % 4) + k / 4);
    return y;
}

/* Offsets of format.h, typed by hand: byte `at` of row r's file block stands at `packed` + r * unit. */
enum { ROW = 7 };
static const struct {
    int fmt, at, packed, unit;
} spot[] = {
    {WK_FMT_Q4_0, 2 + 5, 32 + 64 + 1, 4},
    {WK_FMT_Q4_1, 2, 32, 2},
    {WK_FMT_Q4_1, 4 + 15, 64 + 3 * 64 + 3, 4},
    {WK_FMT_Q5_0, 6 + 4, 96 + 64, 4},
    {WK_FMT_Q5_1, 8, 128, 4},
    {WK_FMT_Q2_K, 80, 0, 2},
    {WK_FMT_Q2_K, 3, 64 + 48, 1},
    {WK_FMT_Q2_K, 16 + 63, 320 + 15 * 64 + 3, 4},
    {WK_FMT_Q3_K, 108, 0, 2},
    {WK_FMT_Q3_K, 96 + 11, 32 + 11 * 16, 1},
    {WK_FMT_Q3_K, 31, 224 + 7 * 64 + 3, 4},
    {WK_FMT_Q3_K, 32, 736, 4},
    {WK_FMT_Q4_K, 2, 32, 2},
    {WK_FMT_Q4_K, 4 + 11, 64 + 176, 1},
    {WK_FMT_Q4_K, 16 + 127, 256 + 31 * 64 + 3, 4},
    {WK_FMT_Q5_K, 16, 256, 4},
    {WK_FMT_Q5_K, 48, 768, 4},
    {WK_FMT_Q6_K, 208, 0, 2},
    {WK_FMT_Q6_K, 192 + 15, 32 + 240, 1},
    {WK_FMT_Q6_K, 128, 288, 4},
    {WK_FMT_Q6_K, 0, 1312, 4},
    {WK_FMT_IQ4_XS, 2, 32, 2},
    {WK_FMT_IQ4_XS, 4 + 3, 64 + 48, 1},
    {WK_FMT_IQ4_XS, 8 + 9, 128 + 2 * 64 + 1, 4},
    {WK_FMT_IQ4_NL, 2, 32, 4},
    {WK_FMT_IQ2_XXS, 0, 0, 2},
    {WK_FMT_IQ2_XXS, 2 + 63, 32 + 15 * 64 + 3, 4},
    {WK_FMT_IQ2_XS, 66 + 5, 1056 + 64 + 1, 4},
    {WK_FMT_IQ2_S, 34, 544, 4},
    {WK_FMT_IQ2_S, 66, 1056, 4},
    {WK_FMT_IQ2_S, 74 + 7, 1184 + 64 + 3, 4},
    {WK_FMT_IQ3_XXS, 66 + 4, 1056 + 64, 4},
    {WK_FMT_IQ3_S, 66, 1056, 4},
    {WK_FMT_IQ3_S, 74, 1184, 4},
    {WK_FMT_IQ3_S, 106 + 3, 1696 + 3, 4},
    {WK_FMT_TQ1_0, 52, 0, 2},
    {WK_FMT_TQ1_0, 0, 32, 4},
    {WK_FMT_TQ1_0, 48 + 3, 800 + 3, 4},
    {WK_FMT_TQ2_0, 64, 0, 2},
    {WK_FMT_TQ2_0, 4, 32 + 64, 4},
    {WK_FMT_MXFP4, 0, 0, 1},
    {WK_FMT_MXFP4, 1 + 15, 16 + 3 * 64 + 3, 4},
    {WK_FMT_F32, 0, 0, 4},
    {WK_FMT_BF16, 0, 0, 2},
    {WK_FMT_F16, 1, 1, 2},
};

static void check_spot(ck *c, int fmt, size_t at_row, size_t at_panel) {
    const wk_format *f = &c->formats[fmt];
    const int k = 2 * f->block;
    const size_t row = 2 * (size_t)f->bytes;
    uint8_t *rows = ck_in(c, 16 * row), *panel = ck_in(c, wk_panel_bytes(fmt, (size_t)k));
    memset(rows, 0, 16 * row);
    rows[(size_t)ROW * row + f->bytes + at_row] = 0x5a; /* second block */
    f->pack(panel, rows, row, 16, k);
    const size_t at = 16 * (size_t)f->bytes + at_panel;
    if (panel[at] != 0x5a) ck_fail(c, "panel byte %zu is %02x, wanted 5a", at, panel[at]);
}

static void body_layout(ck *c, int arg) {
    (void)arg;
    for (size_t i = 0; i < WK_COUNT(spot); i++)
        if (ck_case(c, "%s byte %d", c->formats[spot[i].fmt].name, spot[i].at))
            check_spot(c, spot[i].fmt, (size_t)spot[i].at, (size_t)(spot[i].packed + ROW * spot[i].unit));
    for (int i = 0; i < 200; i++) {
        const uint32_t x = i < 32 ? 1u << i : ck_u32(c);
        if (!ck_case(c, "qh %08x", (unsigned)x)) continue;
        if (wk_qh_pack(x) != qh_plain(x))
            ck_fail(c, "%08x, wanted %08x", (unsigned)wk_qh_pack(x), (unsigned)qh_plain(x));
        if (wk_qh_unpack(wk_qh_pack(x)) != x) ck_fail(c, "does not come back");
    }
}

static void body_names(ck *c, int arg) {
    (void)arg;
    for (int f = 0; f < WK_FMT_COUNT; f++) {
        if (!ck_case(c, "%s", c->formats[f].name)) continue;
        if (wk_format_of_gguf(c->formats[f].gguf) != f) ck_fail(c, "not found by its gguf id");
        if (wk_format_of_name(c->formats[f].name) != f) ck_fail(c, "not found by its name");
    }
    if (!ck_case(c, "lookups")) return;
    if (wk_format_of_name("q4_k") != WK_FMT_Q4_K) ck_fail(c, "q4_k in lower case");
    if (wk_format_of_name("Q4_") != -1 || wk_format_of_name("Q4_KX") != -1 ||
        wk_format_of_name("") != -1) {
        ck_fail(c, "a part of a name is taken for it");
    }
    if (wk_format_of_gguf(4) != -1 || wk_format_of_gguf(0xffffffffu) != -1)
        ck_fail(c, "an unknown id is found");
}

void ck_format(ck *c) {
    char name[32];
    ck_kernel(c, "names", false, body_names, 0);
    ck_kernel(c, "layout", false, body_layout, 0);
    for (int f = 0; f < WK_FMT_COUNT; f++) {
        const wk_format *t = &c->formats[f];
#define RUN(label, body)                                                                           \
    snprintf(name, sizeof(name), "%s %s", t->name, label);                                         \
    ck_kernel(c, name, false, body, f)
        RUN("round trip", body_round_trip);
        RUN("decode_lane", body_decode_lane);
        RUN("expand", body_expand);
        RUN("nonfinite", body_nonfinite);
        if (!t->encode) continue;
        RUN("encode", body_encode);
        if (t->block > 1 && f != WK_FMT_MXFP4) { /* MXFP4: tests/golden/test_formats.c */
            RUN("golden", body_golden);
        }
#undef RUN
    }
}

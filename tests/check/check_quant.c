/* check_quant.c: the activation quantisers. */
#include "simd/poly.h"
#include "tests/check/check.h"

typedef struct act_pair {
    ck_pair q, d, z32, z16, f32s, s32, s16;
} act_pair;

static act_pair pair_new(ck *c, int n, int k, size_t ldb) {
    const size_t last = (size_t)n - 1, b32 = last * ldb + (size_t)k / 32,
                 b16 = 2 * last * ldb + (size_t)k / 16;
    return (act_pair){.q = ck_out(c, last * ldb * 32 + (size_t)k),
                      .d = ck_out(c, b32 * 4),
                      .z32 = ck_out(c, b32 * 4),
                      .z16 = ck_out(c, b16 * 4),
                      .f32s = ck_out(c, b32 * 4),
                      .s32 = ck_out(c, b32 * 2),
                      .s16 = ck_out(c, b16 * 2)};
}

/* What the rules of 9.3 turn on: amax at the threshold, ties between codes, a lone NaN or Inf. */
static void spice(ck *c, float *x, int n) {
    const int at = ck_range(c, 0, n - 1);
    switch (ck_range(c, 0, 8)) {
    case 0:
        for (int i = 0; i < n; i++) x[i] = 0.0f;
        break;
    case 1:
        for (int i = 0; i < n; i++) x[i] = (float)ck_range(c, -254, 254) * 0.5f;
        x[at] = 127.0f;
        break;
    case 2:
        for (int i = 0; i < n; i++) x[i] *= 0x1p-104f;
        x[at] = ck_u32(c) & 1 ? WK_QUANT_TINY : 0x1.fffffep-101f;
        break;
    case 3: x[at] = wk_f32_from_bits(0x7f800000u | (ck_u32(c) & 0x80000000u)); break;
    case 4: x[at] = wk_f32_from_bits(0x7fc00001u | (ck_u32(c) & 0x80000000u)); break;
    case 5: x[at] = -0x1.fffffep+127f; break;
    case 6:
        for (int i = 0; i < n; i++) x[i] = wk_f32_from_bits(ck_u32(c) & 0x807fffffu);
        break;
    default: break;
    }
}

static void one(ck *c, int act, int n, int k) {
    const int block = act == WK_X_A32 ? 32 : 256;
    const size_t ldb = ((size_t)k / 32 + 1) & ~(size_t)1;
    const act_pair p = pair_new(c, n, k, ldb);
    wk_act want = {.n = n,
                   .k = k,
                   .ld = 32 * ldb,
                   .ldb = ldb,
                   .q = p.q.want,
                   .d = p.d.want,
                   .z32 = p.z32.want,
                   .z16 = p.z16.want,
                   .f32s = p.f32s.want,
                   .s32 = p.s32.want,
                   .s16 = p.s16.want};
    wk_act got = {.n = n,
                  .k = k,
                  .ld = 32 * ldb,
                  .ldb = ldb,
                  .q = p.q.got,
                  .d = p.d.got,
                  .z32 = p.z32.got,
                  .z16 = p.z16.got,
                  .f32s = p.f32s.got,
                  .s32 = p.s32.got,
                  .s16 = p.s16.got};
    float *x = ck_in(c, (size_t)k * 4);
    for (int t = 0; t < n; t++) {
        ck_floats(c, x, (size_t)k, ck_range(c, 0, 3) ? CK_GAUSS : CK_MIXED);
        for (int b = 0; b < k; b += block) spice(c, x + b, block);
        c->ref->quant[act](&want, t, x, k);
        c->k->quant[act](&got, t, x, k);
    }
    (void)(ck_same(c, &p.q, "q") && ck_same_f32(c, &p.d, "d") && ck_same(c, &p.z32, "z32") &&
           ck_same(c, &p.z16, "z16") && ck_same_f32(c, &p.f32s, "f32s") &&
           ck_same(c, &p.s32, "s32") && ck_same(c, &p.s16, "s16"));
}

static void body(ck *c, int act) {
    const int block = act == WK_X_A32 ? 32 : 256;
    for (int i = 0; i < 600; i++) {
        const int n = ck_range(c, 1, 4), k = block * ck_range(c, 1, act == WK_X_A32 ? 20 : 5);
        if (ck_case(c, "%d tokens, k %d", n, k)) one(c, act, n, k);
    }
    if (!c->bench) return;
    c->n_slot = 0;
    const wk_act a = ck_act(c, act, 1, 2048, CK_X_PLAIN);
    const float *x = ck_in_floats(c, 2048, CK_GAUSS);
    wk_act dst = a;
    CK_BENCH(c, "2048", 2048.0 * 4, 0, c->k->quant[act](&dst, 0, x, 2048));
}

static void body_decode(ck *c, int fmt) {
    const int block = wk_formats[fmt].block;
    for (int i = 0; i < 60; i++) {
        const int k = block == 1 ? ck_range(c, 1, 600) : block * ck_range(c, 1, block == 32 ? 20 : 4);
        if (!ck_case(c, "k %d, data %d", k, i % CK_W_COUNT)) continue;
        uint8_t *row = ck_in(c, wk_row_bytes(fmt, (size_t)k));
        ck_rows(c, row, fmt, 1, k, (ck_weight)(i % CK_W_COUNT));
        const ck_pair x = ck_out(c, (size_t)k * 4);
        c->ref->decode[fmt](x.want, row, k);
        c->k->decode[fmt](x.got, row, k);
        ck_same(c, &x, "value");
    }
    if (!c->bench) return;
    c->n_slot = 0;
    uint8_t *row = ck_in(c, wk_row_bytes(fmt, 4096));
    float *x = ck_in(c, 4096 * 4);
    ck_rows(c, row, fmt, 1, 4096, CK_W_PLAIN);
    CK_BENCH(c, "decode 4096", (double)wk_row_bytes(fmt, 4096), 0, c->k->decode[fmt](x, row, 4096));
}

void ck_quant(ck *c) {
    for (int x = WK_X_A32; x <= WK_X_A256; x++) {
        const bool inherited = c->below && c->k->quant[x] == c->below->quant[x];
        ck_kernel(c, x == WK_X_A32 ? "A32" : "A256", inherited, body, x);
    }
    for (int f = 0; f < WK_FMT_COUNT; f++)
        if (c->k->decode[f] != c->ref->decode[f])
            ck_kernel(c, wk_formats[f].name, c->below && c->k->decode[f] == c->below->decode[f], body_decode, f);
}

/* tiles.h: the float part of the integer tiles, 16 rows x 4 tokens, in the order of DESIGN 9.2.
 *
 * The including file brings WK_COLS, sums and
 *   sum_codes(sums *out, const uint8_t *code, const int8_t *q, size_t ld, int m, int n, bool wide)
 * which sums n lines (4 or 8) of signed codes for m tokens; wide: codes beyond -32..31.
 * The sums of a sub-block are made in registers and picked up here; float accumulators are operands of
 * the FMAs in L1: 32 registers do not hold both. m, wide, sub, mins are constants where they are called. */
#ifndef WK_NEON_TILES_H
#define WK_NEON_TILES_H

/* One token of a tile and what belongs to it. */
typedef struct column {
    const float *d, *f32s;
    const int16_t *s32, *s16;
    float *dst;
} column;

WK_INLINE void columns_of(column *c, float *dst, size_t ld, const wk_act *x, int m) {
    for (int t = 0; t < m; t++) {
        const size_t b = (size_t)t * x->ldb;
        c[t] = (column){.d = x->d + b,
                        .f32s = x->f32s + b,
                        .s32 = x->s32 + b,
                        .s16 = x->s16 + 2 * b,
                        .dst = dst + (size_t)t * ld};
    }
}

/* dst = fma(a, dx, dst) */
WK_INLINE void accumulate(const column *c, v16 a, int b) {
    v16_store(c->dst, v16_fma1(v16_load(c->dst), a, c->d[b]));
}

/* B32, B32M. */
WK_INLINE void tile_block(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen,
                          bool wide, bool mins) {
    column col[WK_COLS];
    columns_of(col, dst, ld, x, m);
    for (int b = 0; b < klen / 32; b++) {
        const v16 s = v16_load(w->s + 16 * b);
        sums u;
        sum_codes(&u, w->code + 512 * b, x->q + 32 * b, x->ld, m, 8, wide);
        for (int t = 0; t < m; t++) {
            v16 a = v16_mul(s, v16_float(u.i[t]));
            if (mins) a = v16_fma1(a, v16_load(w->c + 16 * b), col[t].f32s[b]);
            accumulate(&col[t], a, b);
        }
    }
}

/* a = fma(F(M), c, a); n mins, each with its sum of codes. */
WK_INLINE v16 add_mins(v16 a, const int16_t *mn, const int16_t *s, const float *c, int n) {
    v16i m = v16i_zero();
    for (int j = 0; j < n; j++) m = v16i_mla1(m, mn + 16 * j, s[j]);
    return v16_fma(a, v16_float(m), v16_load(c));
}

/* S32, S32M, S16. The first term as an fma from +0 rounds as the product does. */
WK_INLINE void tile_super(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen,
                          int sub, bool wide, bool mins) {
    column col[WK_COLS];
    columns_of(col, dst, ld, x, m);
    for (int b = 0; b < klen / 256; b++) {
        v16 a[WK_COLS];
        for (int t = 0; t < m; t++) a[t] = v16_zero();
        for (int k = 256 * b; k < 256 * b + 256; k += sub) {
            const v16 s = v16_load(w->s + k / sub * 16);
            sums u;
            sum_codes(&u, w->code + 16 * k, x->q + k, x->ld, m, sub / 4, wide);
            for (int t = 0; t < m; t++) a[t] = v16_fma(a[t], v16_float(u.i[t]), s);
        }
        for (int t = 0; t < m; t++) {
            if (mins) a[t] = add_mins(a[t], w->mn + 128 * b, col[t].s32 + 8 * b, w->c + 16 * b, 8);
            accumulate(&col[t], a[t], b);
        }
    }
}

/* W256, W256M: integer scales inside one exact sum. */
WK_INLINE void tile_whole(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen,
                          bool mins) {
    column col[WK_COLS];
    columns_of(col, dst, ld, x, m);
    for (int b = 0; b < klen / 256; b++) {
        v16i total[WK_COLS];
        for (int t = 0; t < m; t++) total[t] = v16i_zero();
        for (int k = 256 * b; k < 256 * b + 256; k += 16) {
            sums u;
            sum_codes(&u, w->code + 16 * k, x->q + k, x->ld, m, 4, false);
            for (int t = 0; t < m; t++) total[t] = v16i_mla(total[t], u.i[t], w->sc + k);
        }
        for (int t = 0; t < m; t++) {
            v16 a = v16_mul(v16_load(w->s + 16 * b), v16_float(total[t]));
            if (mins) a = add_mins(a, w->mn + 256 * b, col[t].s16 + 16 * b, w->c + 16 * b, 16);
            accumulate(&col[t], a, b);
        }
    }
}

/* ---- calls ---- */

typedef void tile_part(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen);

/* body(m) for the constants m = 1..4. */
#define WK_TILE(name, body)                                                                        \
    static void name(float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m, int klen) { \
        switch (m) {                                                                               \
        case 1: body(1); break;                                                                    \
        case 2: body(2); break;                                                                    \
        case 3: body(3); break;                                                                    \
        default: body(4); break;                                                                   \
        }                                                                                          \
    }

/* m tokens in groups of WK_COLS. */
WK_INLINE void run_tile(tile_part *tile, float *dst, size_t ld, const wk_panel *w, const wk_act *x, int m,
                        int klen, bool first) {
    for (int t = 0; t < m; t += WK_COLS) {
        const wk_act at = wk_act_at(x, WK_X_A256, t, 0);
        const int n = m - t < WK_COLS ? m - t : WK_COLS;
        float *d = dst + (size_t)t * ld;
        for (int i = 0; i < n && first; i++) v16_store(d + (size_t)i * ld, v16_zero());
        tile(d, ld, w, &at, n, klen);
    }
}

#endif

/* kernels.h: the table of kernels and their contracts. One contract per field, written here once; the
 * levels carry no prose. Every function is pure: no threads, no allocation, no globals. All levels give
 * the bits of simd/ref (DESIGN 9), compared with memcmp by tests/check.
 *
 * Pointers of activations, panels and f32 rows are 64-byte aligned at token / panel starts only where
 * said so; kernels use unaligned loads. Nothing is read or written outside the stated ranges. */
#ifndef WK_KERNELS_H
#define WK_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "simd/format.h"

/* n tokens of k values, as f32 (kind F) or quantised by DESIGN 9.3. k % 32 == 0 for A32, % 256 for A256.
 * Token t: x + t*ld (f32), q + t*ld; everything per 32 values: index t*ldb + k/32; per 16: t*2*ldb + k/16.
 * For quantised acts ld == 32*ldb and ldb is even. */
typedef struct wk_act {
    int n, k;
    size_t ld, ldb;
    const float *x; /* WK_X_F32 only: the values themselves */
    int8_t *q;      /* codes, -127..127 */
    float *d;       /* scale: A32 d[t*ldb + k/32], A256 d[t*ldb + k/256] */
    int32_t *z32;   /* -128 * sum of 32 codes: the start value of an accumulator over codes + 128 */
    int32_t *z16;   /* the same over 16 codes (A256) */
    float *f32s;    /* (float)(sum of 32 codes) (A32) */
    int16_t *s32;   /* sum of 32 codes (A256) */
    int16_t *s16;   /* sum of 16 codes (A256) */
} wk_act;

/* The same activations from token t0 and value k0 on (k0 a multiple of the block). */
static inline wk_act wk_act_at(const wk_act *a, int x_kind, int t0, int k0) {
    wk_act r = *a;
    const size_t t = (size_t)t0, k = (size_t)k0, b = t * a->ldb + k / 32;
    r.n = a->n - t0;
    r.k = a->k - k0;
    if (x_kind == WK_X_F32) {
        r.x = a->x + t * a->ld + k;
        return r;
    }
    r.q = a->q + t * a->ld + k;
    r.d = a->d + t * a->ldb + (x_kind == WK_X_A32 ? k / 32 : k / 256);
    r.z32 = a->z32 + b;
    r.f32s = a->f32s + b;
    r.s32 = a->s32 + b;
    r.z16 = a->z16 + 2 * t * a->ldb + k / 16;
    r.s16 = a->s16 + 2 * t * a->ldb + k / 16;
    return r;
}

/* 16 rows expanded for one piece of k, in L1. The inside belongs to a level: a level may change what stands
 * in code, s, c, mn only where it brings expand and gemm of the whole kind. As ref has it:
 *   kind F      f    [k][16] f32
 *   others      code [k/4][16][4] signed codes, zero point removed
 *               s    [n_sub][16] f32 scales s_j (sub-block = 32; S16 16; W256* 256: d)
 *               c    [n_blk][16] f32: m (B32M), -dmin (S32M, W256M)
 *               mn   [n_sub][16] int16: integer mins (S32M per 32, W256M per 16)
 *               sc   [k/16][16] int16: integer scales (W256, W256M) */
typedef struct wk_panel {
    uint8_t *code;
    float *f, *s, *c;
    int16_t *mn, *sc;
} wk_panel;
enum { WK_FEW = 8 }; /* tokens that one pass over packed panels can take, at the level that takes most */
enum {
    WK_KC = 512,                        /* longest piece of k; pieces begin at multiples of 256 */
    WK_KC_WHOLE = 640,                  /* but a row of k values up to this may be one piece */
    WK_PANEL_CODE = WK_KC_WHOLE * 16,   /* bytes; as f32 (kind F) four times that */
    WK_PANEL_SUB = WK_KC_WHOLE / 16 * 16 /* elements of s, c, mn, sc */
};

/* Geometry and tile of one kind. tile: dst[t*ld + 16*p + r] (+)= row r of panel w[p] . token t,
 *   p < np (1 <= np <= rows/16), t < m (1 <= m <= cols), over klen values of the expanded piece; x is a
 *   view that starts at the piece (wk_act_at). first: accumulators start at +0, else at what dst holds, so
 *   pieces of one k follow each other bit-exactly. klen: multiple of the kind's block (F: pieces start at
 *   multiples of 64; the last chunk may be short). */
typedef struct wk_gemm {
    uint8_t rows, cols; /* register tile: weight rows (16 or 32) x tokens */
    uint16_t kc;        /* preferred piece of k, multiple of 256, <= WK_KC */
    void (*tile)(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,
                 bool first);
} wk_gemm;

/* Two or more tokens straight from the packed panels. run: 2 <= m <= cols tokens, dst[t*ld + 16*p + r]; NULL where a
 * level has none: then by expand and tile. */
typedef struct wk_few {
    void (*run)(float *dst, size_t ld, const void *w, const wk_act *x, int m, int n_panel, int k);
    uint8_t cols; /* <= WK_FEW */
    uint8_t most; /* tokens up to which passes of it take no longer than expand and tile; 255: any number */
} wk_few;

typedef enum wk_rope { WK_ROPE_HALVES, WK_ROPE_NEIGHBOURS, WK_ROPE_COUNT } wk_rope;
typedef enum wk_fn { WK_FN_SILU, WK_FN_GELU_TANH, WK_FN_COUNT } wk_fn;
enum { WK_KV_SLOTS = 64 }; /* positions of a KV page: the unit of memory and of arithmetic (DESIGN 9.7) */

/* One KV page of one kv head; attention of n_col columns (query heads x tokens) against it.
 *   F16 F32 BF16  K: 4 panels [hd][16 positions] (panel i: positions 16i .. 16i+15); V: rows [64][hd]
 *   Q8_0          hd % 32 == 0. K: 4 packed panels of WK_FMT_Q8_0, 64 rows of k = hd. Its products are those of
 *                 any Q8_0 matrix: the caller leaves them in score, by gemv or gemm, for every panel of 16
 *                 positions that a column sees; k and q are not read.
 *                 V: f16 scales [64][hd/32], then codes int8 [64][hd]; the value is scale*code, exactly.
 * Slots that no column sees may be skipped: they change no bit (DESIGN 9.7). */
typedef struct wk_attn_page {
    int n_col, hd;
    wk_kv type;
    bool merge; /* out is a running result that the page is merged into, as by attn_merge; else it is written */
    const void *k, *v;
    const float *q; /* column c: q + c*hd, hd values, not yet scaled */
    const uint8_t *lo, *hi; /* column c sees slots lo[c] <= i < hi[c]; none if hi <= lo */
    float scale, softcap, softcap_inv; /* s = (q.k)*scale; softcap > 0: softcap*tanh(s*softcap_inv) */
    float *score; /* scratch [n_col][64]; Q8_0: q.k on entry */
    float *wide;  /* scratch [64][hd], Q8_0 only */
    ptrdiff_t ahead; /* bytes from this page to the one that comes next, V behind K in both; 0: none. A hint */
} wk_attn_page;
/* m, l [n_col]; o [n_col][hd]. A column that sees nothing: m = WK_ATTN_M0, l = 0, o = 0. */
typedef struct wk_partial {
    float *m, *l, *o;
} wk_partial;

typedef enum wk_peak { WK_PEAK_I8, WK_PEAK_F32, WK_PEAK_COUNT } wk_peak;

typedef struct wk_kernels {
    const char *level; /* highest level that contributed */

    /* 16*n_panel rows x one token straight from the packed panels. dst: 16*n_panel f32. x->n >= 1, token 0. */
    void (*gemv[WK_FMT_COUNT])(float *dst, const void *w, const wk_act *x, int n_panel, int k);
    wk_few few[WK_FMT_COUNT];
    /* Values k0 .. k0+klen-1 of ONE packed panel w (of full row length k, for the address of a block) into
     * dst; k0 % 256 == 0; klen <= WK_KC, or k <= WK_KC_WHOLE; a multiple of the block (or the rest of the row). */
    void (*expand[WK_FMT_COUNT])(wk_panel *dst, const void *w, int k0, int klen);
    wk_gemm gemm[WK_KIND_COUNT];
    /* k values of a file row whose scales are finite: the bits of the format's own decode. k % block == 0. */
    void (*decode[WK_FMT_COUNT])(float *dst, const void *row, int k);

    /* Token t of dst from k f32 values. Non-finite block: d = NaN, q = 0. [WK_X_F32] is never called. */
    void (*quant[WK_X_COUNT])(wk_act *dst, int t, const float *x, int k);

    /* dst = (x*r)*w, r = 1/sqrt(ss/n + eps) by DESIGN 9.4; dst may be x; r_out may be NULL. */
    void (*rms)(float *dst, float *r_out, const float *x, const float *w, int n, float eps);
    /* In place on n_head heads of hd values; pairs (i, i+n_rot/2) or (2i, 2i+1) for i < n_rot/2;
     * cs: n_rot/2 cosines, then n_rot/2 sines. */
    void (*rope[WK_ROPE_COUNT])(float *x, const float *cs, int n_head, int hd, int n_rot);
    /* dst = fn(gate) * up by DESIGN 9.5; dst may be gate or up. */
    void (*glu[WK_FN_COUNT])(float *dst, const float *gate, const float *up, int n);
    void (*add)(float *dst, const float *a, const float *b, int n);   /* dst may be a or b */
    void (*scale)(float *dst, const float *x, float c, int n);        /* dst = c*x, may be x */
    void (*fma)(float *dst, const float *y, const float *x, float c, int n); /* dst = fma(c, x, y), may be y or x */
    void (*softcap)(float *dst, const float *x, float c, float c_inv, int n); /* c*tanh(x*c_inv) */
    void (*exp_scaled)(float *dst, const float *x, float max, float c, int n); /* exp((x - max)*c) */
    float (*sum)(const float *x, int n);                              /* DESIGN 9.4 */
    /* Largest value and its lowest index, NaN skipped; -1 if there is none. */
    int (*argmax)(const float *x, int n);

    /* n values to the cache type, contiguous; non-finite results are stored as +0 and counted. Q8_0: n/32
     * blocks of wk_block_q8_0, n % 32 == 0; a block whose scale is not finite is all +0 and counts once. */
    int (*kv_cast[WK_KV_TYPE_COUNT])(void *dst, const float *x, int n);
    void (*attn_page)(wk_partial *out, const wk_attn_page *a);
    /* acc = merge(acc, p) for n_col columns, DESIGN 9.7. */
    void (*attn_merge)(wk_partial *acc, const wk_partial *p, int n_col, int hd);
    /* dst[c*ld ..] = o * (1/l). */
    void (*attn_finish)(float *dst, size_t ld, const wk_partial *acc, int n_col, int hd);

    /* n rounds of the multiply-add that the level's products are made of, in as many independent chains as its
     * registers hold beside the operands, no memory touched. Returns the multiply-adds done. A yardstick for
     * bench: it computes nothing, so levels need not agree. */
    uint64_t (*peak[WK_PEAK_COUNT])(uint64_t n);
    /* Reads n bytes once, ascending, with the widest loads: the yardstick of memory. n % 512 == 0, p % 64 == 0.
     * Returns something of all of them. */
    uint64_t (*read)(const void *p, size_t n);
} wk_kernels;

/* Fills every pointer for the given cpu bits (level.h): ref first, each level over it. */
void wk_kernels_init(wk_kernels *k, uint32_t cpu);

void wk_kernels_ref(wk_kernels *k);
void wk_kernels_avx2(wk_kernels *k);
void wk_kernels_avx512(wk_kernels *k);
void wk_kernels_avx512vnni(wk_kernels *k);
void wk_kernels_neon(wk_kernels *k);
void wk_kernels_dotprod(wk_kernels *k);
void wk_kernels_i8mm(wk_kernels *k);

#endif

/* sgemm_pack.c: operands of a product in the order that the tile reads. What lies with k as it is wanted is copied, else
 * it is turned, 4 x 4 values at a time. All of it is done once per value, for some hundred multiply-adds; it shows
 * nevertheless, so lines are fetched ahead: rows lie too far apart for the prefetcher of the CPU. */
#include <string.h>

#include "engine/train/sgemm_impl.h"
#include "simd/transpose.h"

enum { GROUP = WK_SGEMM_GROUP, LINE = GROUP * (int)sizeof(float), QUAD = 4, AHEAD = 8 };

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

WK_INLINE wk_4x32 load(const float *p) {
    wk_4x32 v;
    memcpy(&v, p, sizeof(v));
    return v;
}
WK_INLINE void store(float *p, wk_2x64 v) { memcpy(p, &v, sizeof(v)); }

/* dst[i*dst_ld + r] = src[r*src_ld + i] for r, i < 4. Written out: loops over arrays of vectors stay loops and pass
 * through memory. */
WK_INLINE void turn_quad(float *dst, size_t dst_ld, const float *src, size_t src_ld) {
    const wk_4x32 r0 = load(src), r1 = load(src + src_ld), r2 = load(src + 2 * src_ld), r3 = load(src + 3 * src_ld);
    const wk_2x64 a = (wk_2x64)WK_ZIP32_LO(r0, r1), b = (wk_2x64)WK_ZIP32_HI(r0, r1),
                  c = (wk_2x64)WK_ZIP32_LO(r2, r3), d = (wk_2x64)WK_ZIP32_HI(r2, r3);
    store(dst, WK_ZIP64_LO(a, c));
    store(dst + dst_ld, WK_ZIP64_HI(a, c));
    store(dst + 2 * dst_ld, WK_ZIP64_LO(b, d));
    store(dst + 3 * dst_ld, WK_ZIP64_HI(b, d));
}

/* 16 x 16 values. Four rows a time, a whole line of each: 16 rows that lie a power of two apart would push each other
 * out of L1 before their lines are used up. ahead: elements from src to what is turned next. */
static void turn_square(float *dst, size_t dst_ld, const float *src, size_t src_ld, size_t ahead) {
    for (size_t r = 0; r < GROUP; r += QUAD) {
        const float *s = src + r * src_ld;
        float *d = dst + r;
        for (size_t i = 0; i < QUAD; i++) __builtin_prefetch(s + i * src_ld + ahead);
        turn_quad(d, dst_ld, s, src_ld);
        turn_quad(d + QUAD * dst_ld, dst_ld, s + QUAD, src_ld);
        turn_quad(d + 2 * QUAD * dst_ld, dst_ld, s + 2 * QUAD, src_ld);
        turn_quad(d + 3 * QUAD * dst_ld, dst_ld, s + 3 * QUAD, src_ld);
    }
}

/* The same for n rows of m values, both at most 16. */
static void turn_part(float *dst, size_t dst_ld, const float *src, size_t src_ld, int32_t n, int32_t m) {
    for (int32_t r = 0; r < n; r++)
        for (int32_t i = 0; i < m; i++)
            dst[(size_t)i * dst_ld + (size_t)r] = src[(size_t)r * src_ld + (size_t)i];
}

static void rows_turned(float *dst, size_t ld, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0,
                        int32_t kn) {
    for (int32_t k = 0; k < kn; k += GROUP)
        for (int32_t i = 0; i < n; i += GROUP) {
            const float *src = s->p + (size_t)(k0 + k) * s->ld + (size_t)(i0 + i);
            float *d = dst + (size_t)i * ld + (size_t)k;
            if (k + GROUP <= kn && i + GROUP <= n)
                turn_square(d, ld, src, s->ld, k + 2 * GROUP <= kn ? GROUP * s->ld : 0);
            else
                turn_part(d, ld, src, s->ld, least(kn - k, GROUP), least(n - i, GROUP));
        }
}

void wk_sgemm_pack_rows(float *dst, size_t ld, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0,
                        int32_t kn) {
    if (s->k_major) {
        rows_turned(dst, ld, s, i0, n, k0, kn);
        return;
    }
    for (int32_t i = 0; i < n; i++)
        memcpy(dst + (size_t)i * ld, s->p + (size_t)(i0 + i) * s->ld + (size_t)k0, (size_t)kn * sizeof(float));
}

static void panels_copied(float *dst, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0, int32_t kn) {
    const int32_t whole = n / GROUP, rest = n % GROUP;
    const size_t ld = (size_t)kn * GROUP;
    float *last = dst + (size_t)whole * ld;
    for (int32_t k = 0; k < kn; k++) {
        const float *src = s->p + (size_t)(k0 + k) * s->ld + (size_t)i0;
        const size_t ahead = k + AHEAD < kn ? AHEAD * s->ld : 0;
        for (int32_t p = 0; p < whole; p++) {
            __builtin_prefetch(src + (size_t)p * GROUP + ahead);
            memcpy(dst + (size_t)p * ld + (size_t)k * GROUP, src + (size_t)p * GROUP, LINE);
        }
        if (!rest) continue;
        memset(last + (size_t)k * GROUP, 0, LINE);
        memcpy(last + (size_t)k * GROUP, src + (size_t)whole * GROUP, (size_t)rest * sizeof(float));
    }
}

void wk_sgemm_thin_panels(float *dst, const float *b, size_t ld, int32_t n, int32_t k, bool k_major) {
    const wk_sgemm_side s = {b, ld, n, k, k_major};
    wk_sgemm_pack_panels(dst, &s, 0, n, 0, k);
}

void wk_sgemm_pack_panels(float *dst, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0, int32_t kn) {
    if (s->k_major) {
        panels_copied(dst, s, i0, n, k0, kn);
        return;
    }
    for (int32_t i = 0; i < n; i += GROUP) {
        const float *src = s->p + (size_t)(i0 + i) * s->ld + (size_t)k0;
        float *d = dst + (size_t)i * (size_t)kn;
        for (int32_t k = 0; k < kn; k += GROUP)
            if (k + GROUP <= kn && i + GROUP <= n)
                turn_square(d + (size_t)k * GROUP, GROUP, src + k, s->ld, k + 2 * GROUP <= kn ? GROUP : 0);
            else
                turn_part(d + (size_t)k * GROUP, GROUP, src + k, s->ld, least(n - i, GROUP), least(kn - k, GROUP));
    }
}

/* ---- pairs --------------------------------------------------------------------------------------- */

/* Lines of a square that comes later: rows lie too far apart for the prefetcher of the CPU. */
static void fetch(const float *p, size_t ld, int32_t n_row, int32_t n) {
    for (int32_t r = 0; r < n_row; r++)
        for (int32_t i = 0; i < n; i += GROUP) __builtin_prefetch(p + (size_t)r * ld + (size_t)i);
}

/* Squares of 16 x 16 pairs, first along that of both directions in which the source lies. */
static void squares(wk_sgemm_square pack, wk_pair_square q, float *dst, size_t i_step, size_t p_step, const wk_sgemm_side *s,
                    int32_t i0, int32_t n, int32_t k0, int32_t kn) {
    const int32_t n_i = (n + GROUP - 1) / GROUP, n_p = (kn + GROUP - 1) / GROUP;
    const size_t i_src = s->k_major ? 1 : s->ld, k_src = s->k_major ? s->ld : 1;
    for (int32_t at = 0; at < n_i * n_p; at++) {
        const int32_t i = (s->k_major ? at % n_i : at / n_p) * GROUP, p = (s->k_major ? at / n_i : at % n_p) * GROUP;
        q.src = s->p + (size_t)(i0 + i) * i_src + (size_t)(2 * (k0 + p)) * k_src;
        q.dst = (uint32_t *)(void *)(dst + (size_t)i * i_step + (size_t)p * p_step);
        q.n = least(n - i, GROUP);
        q.kn = least(least(s->k - 2 * (k0 + p), 2 * (kn - p)), 2 * GROUP);
        if (s->k_major && p + 2 * GROUP <= kn) fetch(q.src + 2 * GROUP * s->ld, s->ld, 2 * GROUP, 1);
        if (!s->k_major && p + 2 * GROUP <= kn) fetch(q.src + 2 * GROUP, s->ld, q.n, 2 * GROUP);
        pack(&q);
    }
}

void wk_sgemm_pair_rows(wk_sgemm_square pack, float *dst, size_t ld, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0,
                        int32_t kn) {
    squares(pack, (wk_pair_square){.ld = s->ld, .dst_ld = ld, .k_major = s->k_major}, dst, ld, 1, s, i0, n, k0, kn);
}

void wk_sgemm_pair_panels(wk_sgemm_square pack, float *dst, const wk_sgemm_side *s, int32_t i0, int32_t n, int32_t k0,
                          int32_t kn) {
    squares(pack, (wk_pair_square){.ld = s->ld, .k_major = s->k_major, .panel = true}, dst, (size_t)kn, GROUP, s, i0, n, k0, kn);
}

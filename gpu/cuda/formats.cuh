/* formats.cuh: reading a unit of 32 weights on the device: a traits type from each row of layout.h's list, and one text
 * that loads and decodes them all. Formats with equal rows (IQ4_XS and IQ3_*) are one type, so one kernel.
 *
 * A unit's value i is  d * factor * sc[i / sub] * code_i  +-  m * mn[i / sub]. */
#ifndef WKC_FORMATS_CUH
#define WKC_FORMATS_CUH

#include "gpu/cuda/matrix.h"

#ifdef WKC_EMU
#define WKC_FN static inline
#else
#define WKC_FN static __device__ __forceinline__
#endif

template <int LOW_, int HIGH_, int ZERO_, int BLOCK_, int SUB_, int MINS_, int LOOK_, int D_> struct wkc_kind {
    static constexpr int LOW = LOW_, HIGH = HIGH_, ZERO = ZERO_, BLOCK = BLOCK_, SUB = SUB_, MINS = MINS_, LOOK = LOOK_,
                         D = D_;
    static constexpr int N_SUB = 32 / SUB_;       /* scales of a unit */
    static constexpr int UNITS = BLOCK_ / 32;     /* units of a block */
    static constexpr bool SUMS = ZERO_ || MINS_;  /* sums of the activations are wanted */
    static constexpr int SC_BYTES = BLOCK_ == 256 ? N_SUB * (1 + MINS_) : 0;
    static constexpr int D_BYTES = D_ == WKC_D_E8M0 ? 1 : MINS_ ? 4 : 2;
};

/* X(kind type) for one format: f<wkc_kind<...>>(args). */
#define WKC_KIND(low, high, zero, block, sub, mins, look, d) \
    wkc_kind<low, high, zero, block, sub, mins, WKC_LOOK_##look, WKC_D_##d>

/* 16 and 8 bytes in one load. */
struct alignas(16) wkc_4w {
    uint32_t v[4];
};
struct alignas(8) wkc_2w {
    uint32_t v[2];
};

template <int N> WKC_FN void wkc_words(uint32_t *dst, const uint8_t *p) {
    if (N >= 4) {
        WKC_UNROLL
        for (int i = 0; i < N / 4; i++) {
            const wkc_4w v = ((const wkc_4w *)p)[i];
            for (int j = 0; j < 4; j++) dst[4 * i + j] = v.v[j];
        }
    } else if (N == 2) {
        const wkc_2w v = *(const wkc_2w *)p;
        dst[0] = v.v[0], dst[1] = v.v[1];
    } else if (N == 1) {
        dst[0] = *(const uint32_t *)p;
    }
}
/* 1, 2 or 4 bytes. */
template <int BYTES> WKC_FN uint32_t wkc_bytes(const uint8_t *p) {
    return BYTES == 4 ? *(const uint32_t *)p : BYTES == 2 ? *(const uint16_t *)p : BYTES == 1 ? *p : 0;
}

/* A unit as it lies in memory: few registers, so that the next one can be on its way while this one is used. */
template <class F> struct wkc_raw {
    uint32_t low[F::LOW], high[F::HIGH ? F::HIGH : 1], d, sc;
};
template <class F> WKC_FN void wkc_load(wkc_raw<F> &r, const wkc_w &w, int row, int unit) {
    const size_t at = (size_t)row * (size_t)w.n_unit + (size_t)unit;
    const size_t block = (size_t)row * (size_t)(w.n_unit / F::UNITS) + (size_t)(unit / F::UNITS);
    wkc_words<F::LOW>(r.low, w.code + at * (4 * F::LOW));
    if (F::HIGH) wkc_words<F::HIGH>(r.high, w.high + at * (4 * F::HIGH));
    r.d = wkc_bytes<F::D_BYTES>(w.d + block * F::D_BYTES);
    r.sc = F::SC_BYTES ? wkc_bytes<F::SC_BYTES>(w.sc + at * F::SC_BYTES) : 0;
}

struct wkc_scale {
    float d, m; /* m: with its sign */
    int sc[2], mn[2];
};
WKC_FN float wkc_half(uint32_t bits) { return __half2float(__ushort_as_half((unsigned short)bits)); }
template <class F> WKC_FN wkc_scale wkc_scale_of(const wkc_raw<F> &r, float factor) {
    wkc_scale s = {0.0f, 0.0f, {1, 1}, {1, 1}};
    if (F::D == WKC_D_E8M0)
        s.d = __uint_as_float(r.d < 2 ? 0x00200000u << r.d : (r.d - 1) << 23); /* 2^(e - 128) */
    else
        s.d = wkc_half(r.d & 0xffffu);
    s.d *= factor;
    if (F::MINS) s.m = F::BLOCK == 256 ? -wkc_half(r.d >> 16) : wkc_half(r.d >> 16);
    WKC_UNROLL
    for (int j = 0; j < F::N_SUB && F::SC_BYTES; j++) {
        s.sc[j] = (int8_t)(r.sc >> (8 * j));
        if (F::MINS) s.mn[j] = (int)(r.sc >> (8 * (F::N_SUB + j)) & 255);
    }
    return s;
}

/* The entries of the table at the 4 nibbles of v's low half. */
WKC_FN uint32_t wkc_look(const uint32_t table[4], uint32_t v) {
    const uint32_t a = __byte_perm(table[0], table[1], v & 0x7777u), b = __byte_perm(table[2], table[3], v & 0x7777u);
    return __byte_perm(a, b, 0x3210u | (v & 0x8888u) >> 1);
}

/* The unit's 32 codes in order, 4 a word, signed bytes. SIGNED: with the zero point taken off; else the caller does it by
 * the sum of the activations, which is cheaper where a unit is used for few of them. */
template <class F, bool SIGNED> WKC_FN void wkc_codes(int code[8], const wkc_raw<F> &r, const uint32_t table[4]) {
    uint32_t c[8];
    WKC_UNROLL
    for (int i = 0; i < 8; i++) {
        if (F::LOW == 8)
            c[i] = r.low[i % F::LOW];
        else if (F::LOOK == WKC_LOOK_TABLE)
            c[i] = wkc_look(table, r.low[i / 2 % F::LOW] >> (16 * (i % 2)));
        else if (F::LOW == 4)
            c[i] = r.low[i / 2 % F::LOW] >> (4 * (i % 2)) & 0x0f0f0f0fu;
        else
            c[i] = r.low[i / 4 % F::LOW] >> (2 * (i % 4)) & 0x03030303u;
        const uint32_t one = F::HIGH == 1 ? r.high[0] >> i & 0x01010101u : 0;
        if (F::LOOK == WKC_LOOK_IQ2) { /* 8, 25, 43; a byte is never 0, so that minus never carries */
            const uint32_t size = 0x08080808u + 17u * (c[i] & 0x01010101u) + 35u * (c[i] >> 1 & 0x01010101u);
            c[i] = (size ^ one * 255u) + one;
        } else if (F::HIGH == 1) {
            c[i] |= one << F::LOW;
        } else if (F::HIGH == 2) {
            c[i] |= (r.high[i / 4 % (F::HIGH ? F::HIGH : 1)] >> (2 * (i % 4)) & 0x03030303u) << F::LOW;
        }
        if (SIGNED && F::ZERO) c[i] = ((c[i] | 0x80808080u) - F::ZERO * 0x01010101u) ^ 0x80808080u;
        code[i] = (int)c[i];
    }
}

#endif

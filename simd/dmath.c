/* dmath.c: elementary functions in double from + - * / fma, one order for every machine. Range reduction with
 * constants in parts, then the plain Taylor series, taken far enough that its remainder is below 2^-56 on the
 * reduced range: speed is no matter here, a series needs no table of fitted numbers. */
#include "simd/dmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/attr.h"

static uint64_t bits_of(double x) {
    uint64_t u;
    memcpy(&u, &x, 8);
    return u;
}

static double from_bits(uint64_t u) {
    double x;
    memcpy(&x, &u, 8);
    return x;
}

static const double dnan = 0.0 / 0.0, dinf = 1.0 / 0.0;

/* 1 - z/a0 * (1 - z/a1 * (1 - ...)), innermost first: a Taylor series with alternating signs. */
static double alternating(double z, const double *a, int n) {
    double p = 1.0;
    for (int i = n - 1; i >= 0; i--) p = fma(-p, z / a[i], 1.0);
    return p;
}

/* |r| <= pi/4 */
static double sin_small(double r) {
    static const double a[] = {2 * 3,   4 * 5,   6 * 7,   8 * 9,  10 * 11,
                               12 * 13, 14 * 15, 16 * 17, 18 * 19};
    return r * alternating(r * r, a, (int)WK_COUNT(a));
}

static double cos_small(double r) {
    static const double a[] = {1 * 2,   3 * 4,   5 * 6,   7 * 8,  9 * 10,
                               11 * 12, 13 * 14, 15 * 16, 17 * 18};
    return alternating(r * r, a, (int)WK_COUNT(a));
}

/* pi/2 in three parts of 53 bits: n * part is taken off by fma, so what is left keeps 53 bits for every x up
 * to 2^24, however near a multiple of pi/2 it lies. */
void wk_sincos(double x, double *s, double *c) {
    if (!(x >= -0x1p40 && x <= 0x1p40)) {
        *s = *c = dnan;
        return;
    }
    const double n = rint(x * 0x1.45f306dc9c883p-1);
    double r = fma(-n, 0x1.921fb54442d18p+0, x);
    r = fma(-n, 0x1.1a62633145c07p-54, r);
    r = fma(n, 0x1.f1976b7ed8fbcp-110, r);
    const double sn = sin_small(r), cn = cos_small(r);
    const unsigned quarter = (unsigned)((int64_t)n & 3);
    *s = quarter & 1 ? cn : sn;
    *c = quarter & 1 ? sn : cn;
    if (quarter & 2) *s = -*s;
    if (quarter == 1 || quarter == 2) *c = -*c;
}

/* 2^n for n in -1022 .. 1023. */
static double power_of_2(int n) { return from_bits((uint64_t)(n + 1023) << 52); }

double wk_dexp(double x) {
    if (x != x) return x;
    if (x > 709.8) return dinf;
    if (x < -745.2) return 0.0;
    const double n = rint(x * 0x1.71547652b82fep+0);
    double r = fma(-n, 0x1.62e42fefa39efp-1, x);
    r = fma(-n, 0x1.abc9e3b39803fp-56, r);
    double p = 1.0;
    for (int i = 15; i > 0; i--) p = fma(p, r / (double)i, 1.0);
    const int half = (int)n / 2; /* two steps, so that the result may be denormal or near the top */
    return p * power_of_2(half) * power_of_2((int)n - half);
}

/* x = m * 2^e, m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m - 1) / (m + 1)). */
double wk_dlog(double x) {
    if (!(x > 0.0)) return x == 0.0 ? -dinf : dnan;
    if (x == dinf) return x;
    int e = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        e = -54;
    }
    const uint64_t u = bits_of(x);
    e += (int)(u >> 52) - 1023;
    double m = from_bits((u & 0x000fffffffffffffu) | 0x3ff0000000000000u);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        e++;
    }
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 0.0;
    for (int i = 25; i >= 3; i -= 2) p = fma(p, z, 1.0 / (double)i);
    const double tail = 2.0 * s * z * p; /* log m = 2 s + tail */
    return fma((double)e, 0x1.62e42fefa39efp-1,
               2.0 * s + fma((double)e, 0x1.abc9e3b39803fp-56, tail));
}

double wk_dpow(double base, double y) { return wk_dexp(y * wk_dlog(base)); }

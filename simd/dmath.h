/* dmath.h: sin, cos, exp, log, pow in double for what is made once outside hot loops (rope rows, scaling).
 * Plain + - * / fma in a fixed order, so every machine gives the same bits; error below 1e-14 relative in
 * the ranges used (angles up to 2^24). */
#ifndef WK_DMATH_H
#define WK_DMATH_H

void wk_sincos(double x, double *s, double *c);
double wk_dexp(double x);
double wk_dlog(double x); /* x > 0 */
double wk_dpow(double base, double y); /* base > 0 */

#endif

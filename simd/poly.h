/* poly.h: every constant of the element functions, once. DESIGN 9.3, 9.5. A change of any of them is a
 * new WICK_ARITH. */
#ifndef WK_POLY_H
#define WK_POLY_H

#define WK_QUANT_TINY 0x1p-100f      /* amax below this gives an all-zero block */
#define WK_QUANT_STEP 0x1.020408p-7f /* 1/127 */

#define WK_EXP_LO (-86.0f)
#define WK_EXP_HI 88.0f
#define WK_EXP_LOG2E 0x1.715476p+0f
#define WK_EXP_SHIFT 0x1.8p23f /* x*log2e + this: n stands in the low bits */
#define WK_EXP_LN2_HI 0x1.62e430p-1f /* r = fma(n, -hi, x) */
#define WK_EXP_LN2_LO 0x1.05c610p-29f /* r = fma(n, +lo, r) */
#define WK_EXP_C0 0x1.6a23d0p-10f
#define WK_EXP_C1 0x1.123a20p-7f
#define WK_EXP_C2 0x1.5558f2p-5f
#define WK_EXP_C3 0x1.555492p-3f
#define WK_EXP_C4 0x1.fffffcp-2f
#define WK_EXP_C5 1.0f
#define WK_EXP_C6 1.0f

#define WK_GELU_A 0x1.2444f2p-4f /* 0.044715 * 2 sqrt(2/pi) */
#define WK_GELU_B 0x1.988454p+0f /* 2 sqrt(2/pi) */

#define WK_ATTN_M0 (-0x1p127f) /* running maximum before the first page */

#endif

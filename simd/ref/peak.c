/* peak.c: yardstick of plain C: what the compiler makes of multiply-adds over 64 lanes, int16 and f32. Every value
 * depends on the last one, so that no round can be folded into another. */
#include "simd/ref/ref.h"

enum { LANES = 64 };

static uint64_t wk_peak_i8_ref(uint64_t n) {
    int16_t acc[LANES], all = 0;
    for (int i = 0; i < LANES; i++) acc[i] = (int16_t)i;
    for (uint64_t round = 0; round < n; round++)
        for (int i = 0; i < LANES; i++) acc[i] = (int16_t)(acc[i] * 3 + 1);
    for (int i = 0; i < LANES; i++) all |= acc[i]; /* they stay different: one at most is 0 */
    return all ? n * LANES : 0;
}

static uint64_t wk_peak_f32_ref(uint64_t n) {
    float acc[LANES], all = 0;
    for (int i = 0; i < LANES; i++) acc[i] = (float)i;
    for (uint64_t round = 0; round < n; round++)
        for (int i = 0; i < LANES; i++) acc[i] = acc[i] * 0.5f + 1.0f;
    for (int i = 0; i < LANES; i++) all += acc[i]; /* each goes to 2 */
    return all > 0 ? n * LANES : 0;
}

static uint64_t wk_read_ref(const void *p, size_t n) {
    const uint64_t *b = p;
    uint64_t w = 0, x = 0, y = 0, z = 0;
    for (size_t i = 0; i < n / 8; i += 8) {
        w ^= b[i] ^ b[i + 4];
        x ^= b[i + 1] ^ b[i + 5];
        y ^= b[i + 2] ^ b[i + 6];
        z ^= b[i + 3] ^ b[i + 7];
    }
    return w ^ x ^ y ^ z;
}

void wk_fill_peak_ref(wk_kernels *k) {
    k->peak[WK_PEAK_I8] = wk_peak_i8_ref;
    k->peak[WK_PEAK_F32] = wk_peak_f32_ref;
    k->read = wk_read_ref;
}

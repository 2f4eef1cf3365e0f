/* schedule.c: the learning rate of a step. Doubles; the cosine by our own routine, so a run repeats itself anywhere. */
#include "engine/train/optim.h"
#include "simd/dmath.h"

static const char *const names[WK_LR_COUNT] = {[WK_LR_COSINE] = "cosine",
                                               [WK_LR_LINEAR] = "linear",
                                               [WK_LR_WSD] = "wsd",
                                               [WK_LR_CONST] = "const"};

const char *wk_schedule_name(wk_lr_kind kind) { return names[kind]; }

/* How much of the fall is left at part x of it, 0 <= x <= 1. */
static double left_at(wk_lr_kind kind, double x) {
    double sn, cs;
    switch (kind) {
    case WK_LR_COSINE: wk_sincos(x * 3.14159265358979323846, &sn, &cs); return 0.5 * (1.0 + cs);
    case WK_LR_LINEAR: return 1.0 - x;
    case WK_LR_WSD: /* warm up, stable, decay: the last fifth (Hu et al. 2024, MiniCPM, section 4) */
        return x < 0.8 ? 1.0 : (1.0 - x) / 0.2;
    default: return 1.0;
    }
}

double wk_schedule_lr(const wk_schedule *s, int64_t i) {
    if (i < s->warmup) return s->lr * (double)(i + 1) / (double)(s->warmup + 1);
    const int64_t n = s->steps - s->warmup - 1;
    const double left = left_at(s->kind, n > 0 ? (double)(i - s->warmup) / (double)n : 0.0);
    return s->lr * (s->lr_end + (1.0 - s->lr_end) * left);
}

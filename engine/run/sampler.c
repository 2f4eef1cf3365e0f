/* sampler.c: candidates are ordered by (logit descending, id ascending), but only as far down as the filters and
 * the draw look: the vocabulary is split into bands of logits, each sorted when it is reached. */
#include "engine/run/sampler.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/rng.h"
#include "simd/dmath.h"

typedef struct cand {
    float l;
    int32_t id;
} cand;

struct wk_sampler {
    const wk_kernels *k;
    int32_t n;       /* vocabulary */
    float *w;        /* [n] weights exp((l - max) / T) */
    float *adjusted; /* [n] logits with bias and penalties */
    int32_t *count;  /* [n] all zero between draws */
    cand *c;         /* [n] */
    /* of the draw at hand */
    int32_t n_sorted, n_cand; /* c[0..n_sorted) is final; NaN logits are no candidates */
    int32_t limit;            /* candidates that are still in */
    float max, band;          /* logits of the next band lie above max - band */
    float step;
    double total; /* weights of the candidates that are in */
};

enum { CHUNK = 4096, BANDS = 24 };

int wk_sampler_open(wk_sampler **out, const wk_kernels *k, int32_t n_vocab, wk_err *err) {
    wk_sampler *s = wk_new(wk_sampler);
    if (s) {
        s->k = k;
        s->n = n_vocab;
        s->w = wk_alloc_aligned((size_t)n_vocab * sizeof(float));
        s->c = wk_new_n(cand, (size_t)n_vocab);
        s->adjusted = wk_alloc_aligned((size_t)n_vocab * sizeof(float));
        s->count = wk_new_n(int32_t, (size_t)n_vocab);
    }
    if (!s || !s->w || !s->c || !s->adjusted || !s->count) {
        wk_sampler_close(s);
        return wk_fail(err, WICK_E_NOMEM, "no memory for a sampler over %d tokens", (int)n_vocab);
    }
    *out = s;
    return WICK_OK;
}

void wk_sampler_close(wk_sampler *s) {
    if (!s) return;
    wk_free_aligned(s->w);
    wk_free_aligned(s->adjusted);
    wk_free(s->count);
    wk_free(s->c);
    wk_free(s);
}

/* The vocabulary sum: chunks of 4096 in f32 lanes, chunk sums in double, ascending. */
static double vocabulary_sum(const wk_sampler *s) {
    double sum = 0;
    for (int32_t i = 0; i < s->n; i += CHUNK)
        sum += (double)s->k->sum(s->w + i, s->n - i < CHUNK ? s->n - i : CHUNK);
    return sum;
}

static bool before(cand a, cand b) { return a.l > b.l || (a.l == b.l && a.id < b.id); }

/* Heap sort: no recursion, no allocation, the order is total, so any correct sort gives the same list. */
static void sift(cand *c, int32_t i, int32_t n) {
    const cand x = c[i];
    for (;;) {
        int32_t j = 2 * i + 1;
        if (j >= n) break;
        if (j + 1 < n && before(c[j], c[j + 1])) j++;
        if (!before(x, c[j])) break;
        c[i] = c[j];
        i = j;
    }
    c[i] = x;
}
static void sort_band(cand *c, int32_t n) {
    for (int32_t i = n / 2; i-- > 0;) sift(c, i, n);
    for (int32_t m = n - 1; m > 0; m--) {
        const cand t = c[0];
        c[0] = c[m];
        c[m] = t;
        sift(c, 0, m);
    }
}

/* Sorts bands until candidate i is final; false when there is none. */
static bool reach(wk_sampler *s, int32_t i) {
    while (i >= s->n_sorted && s->n_sorted < s->n_cand) {
        s->band += s->step;
        const bool rest = s->band > (float)BANDS * s->step;
        const float cut = s->max - s->band;
        int32_t m = s->n_sorted;
        for (int32_t j = m; j < s->n_cand; j++) {
            if (!rest && s->c[j].l <= cut) continue;
            const cand t = s->c[j];
            s->c[j] = s->c[m];
            s->c[m++] = t;
        }
        sort_band(s->c + s->n_sorted, m - s->n_sorted);
        s->n_sorted = m;
    }
    return i < s->n_sorted;
}

/* Lowers the limit to n candidates and sums their weights in order. */
static void keep(wk_sampler *s, int32_t n) {
    s->limit = n;
    s->total = 0;
    for (int32_t i = 0; i < n && reach(s, i); i++) s->total += (double)s->w[s->c[i].id];
}

static void filter_top_k(wk_sampler *s, const wk_sampling *p) {
    if (p->top_k < s->limit) keep(s, p->top_k);
}
static void filter_top_p(wk_sampler *s, const wk_sampling *p) {
    double sum = 0;
    int32_t i = 0;
    while (i < s->limit && reach(s, i)) {
        sum += (double)s->w[s->c[i++].id];
        if (sum >= p->top_p * s->total) break;
    }
    keep(s, i);
}
static void filter_min_p(wk_sampler *s, const wk_sampling *p) {
    int32_t i = 0;
    while (i < s->limit && reach(s, i) && (double)s->w[s->c[i].id] >= p->min_p) i++;
    keep(s, i > 0 ? i : 1);
}

static void begin(wk_sampler *s, const float *logits, float max, float inv_t) {
    s->max = max;
    s->n_sorted = s->n_cand = 0;
    s->band = 0;
    s->step = 3.0f / inv_t;
    s->k->exp_scaled(s->w, logits, max, inv_t, s->n);
    for (int32_t i = 0; i < s->n; i++) {
        if (logits[i] == logits[i])
            s->c[s->n_cand++] = (cand){logits[i], i};
        else
            s->w[i] = 0; /* NaN: no candidate, no weight */
    }
    s->limit = s->n_cand;
    s->total = vocabulary_sum(s);
}

/* ---- bias and penalties -------------------------------------------------------------------------- */

static void adjust_bias(wk_sampler *s, const wk_sampling *p, const wk_history *h) {
    (void)h;
    for (int32_t i = 0; i < p->n_bias; i++) s->adjusted[p->bias_token[i]] += p->bias_value[i];
}

static void clear_counts(wk_sampler *s, const wk_history *h) {
    for (int32_t i = 0; i < h->n_tok; i++) s->count[h->tok[i]] = 0;
}

static void adjust_repeat(wk_sampler *s, const wk_sampling *p, const wk_history *h) {
    const float r = (float)p->repeat_penalty;
    for (int32_t i = 0; i < h->n_tok; i++) {
        const int32_t id = h->tok[i];
        if (s->count[id]++) continue;
        const float l = s->adjusted[id];
        s->adjusted[id] = l > 0 ? l / r : l * r;
    }
    clear_counts(s, h);
}

static void adjust_count(wk_sampler *s, const wk_sampling *p, const wk_history *h) {
    const float f = (float)p->frequency_penalty, once = (float)p->presence_penalty;
    for (int32_t i = h->n_prompt; i < h->n_tok; i++) s->count[h->tok[i]]++;
    for (int32_t i = h->n_prompt; i < h->n_tok; i++) {
        const int32_t id = h->tok[i];
        if (s->count[id] == 0) continue; /* done */
        s->adjusted[id] = s->adjusted[id] - fmaf((float)s->count[id], f, once);
        s->count[id] = 0;
    }
}

static bool is_adjusted(const wk_sampling *p) {
    bool any = false;
#define WK_ADJUST(name, on, what) any = any || (on);
#define WK_FILTER(name, on, what)
#include "engine/run/sampler.def"
#undef WK_ADJUST
#undef WK_FILTER
    return any;
}

static bool is_greedy(const wk_sampling *p) { return p->temperature < 0x1p-100; }

bool wk_sample_is_argmax(const wk_sampling *p) { return is_greedy(p) && !is_adjusted(p); }

/* The logits themselves where nothing is adjusted. */
static const float *adjust(wk_sampler *s, const float *logits, const wk_sampling *p,
                           const wk_history *h) {
    if (!is_adjusted(p)) return logits;
    memcpy(s->adjusted, logits, (size_t)s->n * sizeof(float));
#define WK_FILTER(name, on, what)
#define WK_ADJUST(name, on, what)                                                                  \
    if (on) adjust_##name(s, p, h);
#include "engine/run/sampler.def"
#undef WK_ADJUST
#undef WK_FILTER
    return s->adjusted;
}

static int32_t draw(wk_sampler *s, double target) {
    double sum = 0;
    int32_t i = 0, last = 0;
    for (; i < s->limit && reach(s, i); i++) {
        sum += (double)s->w[s->c[i].id];
        if (s->w[s->c[i].id] > 0) last = i;
        if (sum > target) return s->c[i].id;
    }
    return s->c[last].id; /* rounding of the sums: the last one that has a weight */
}

int32_t wk_sample(wk_sampler *s, const float *raw, const wk_sampling *p, const wk_history *h,
                  uint64_t position, uint32_t choice) {
    const float *logits = adjust(s, raw, p, h);
    const int best = s->k->argmax(logits, s->n);
    if (best < 0 || is_greedy(p)) return best;
    begin(s, logits, logits[best], (float)(1.0 / p->temperature));
#define WK_ADJUST(name, on, what)
#define WK_FILTER(name, on, what)                                                                  \
    if (on) filter_##name(s, p);
#include "engine/run/sampler.def"
#undef WK_ADJUST
#undef WK_FILTER
    uint32_t r[4];
    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), 0, choice};
    wk_philox(r, p->seed, counter);
    return draw(s, (double)(r[0] >> 8) * 0x1p-24 * s->total);
}

double wk_log_prob(wk_sampler *s, const float *logits, int32_t id) {
    const int best = s->k->argmax(logits, s->n);
    if (best < 0) return (double)logits[id]; /* NaN */
    s->k->exp_scaled(s->w, logits, logits[best], 1.0f, s->n);
    return (double)logits[id] - (double)logits[best] - wk_dlog(vocabulary_sum(s));
}

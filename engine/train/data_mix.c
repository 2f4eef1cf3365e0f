/* data_mix.c: samples of several files in given shares. Of every WK_DATA_BLOCK samples each part has the same number; a
 * permutation keyed by the block spreads them, and which of its samples a part gives is counted by block and slot:
 *
 *   sample i -> block i / 1000, slot = permuted i % 1000:  | part 0: 700 slots | part 1: 300 slots |
 *               slot 712 of block 5 -> sample 5 * 300 + 12 of part 1, in the order of that part's own epochs
 *
 * So a share is met exactly every 1000 samples, every sample of a part comes equally often (where one epoch ends inside a
 * block, the next may begin there before it), and no state but the number of the sample is kept. Drawing each sample by
 * chance would do without blocks, but a part's next sample would then not follow from i alone. */
#include "engine/base/err.h"
#include "engine/train/data_impl.h"

static const uint64_t BLOCK_KEY = (uint64_t)1 << 63; /* epochs of the blocks: no part ever comes to them */

uint32_t wk_data_parts(const wk_data *d) { return (uint32_t)d->n_part; }
double wk_data_part_share(const wk_data *d, uint32_t part) { return part < d->n_part ? d->weight[part] : 0; }

bool wk_data_is_mixed(const wk_sample_spec *s) {
    for (size_t k = 0; k < WK_DATA_PARTS; k++)
        if (s->quota[k]) return true;
    return false;
}

/* Documents of a part among those that are trained on. */
typedef struct range {
    uint64_t begin, end;
} range;
static range range_of(const wk_data *d, uint64_t part) {
    return (range){part ? d->part_train_end[part - 1] : 0, d->part_train_end[part]};
}

static uint64_t samples_of(const wk_data *d, const wk_sample_spec *s, uint64_t part) {
    const range r = range_of(d, part);
    const uint64_t *at = d->split[WK_SPLIT_TRAIN].at, n = at[r.end] - at[r.begin];
    if (s->unit == WK_UNIT_DOCS) return r.end - r.begin;
    return n ? (n - 1) / (uint64_t)s->n_ctx : 0;
}

uint64_t wk_data_mix_samples(const wk_data *d, const wk_sample_spec *s) {
    uint64_t n = 0;
    for (uint64_t k = 0; k < d->n_part; k++) n += samples_of(d, s, k);
    return n;
}

/* ---- quotas -------------------------------------------------------------------------------------- */

/* Tokens of a sample of the part on average. */
static double mean_len(const wk_data *d, const wk_sample_spec *s, uint64_t part) {
    const range r = range_of(d, part);
    double sum = 0;
    if (s->unit == WK_UNIT_ROWS) return s->n_ctx;
    for (uint64_t i = r.begin; i < r.end; i++) sum += wk_data_doc_len(d, s, i);
    return sum / (double)(r.end - r.begin);
}

/* Whole numbers that add up to the block: what rounding down leaves goes where it took most. */
static void round_quotas(wk_sample_spec *s, double want[WK_DATA_PARTS], uint64_t n) {
    double sum = 0;
    int left = WK_DATA_BLOCK;
    for (uint64_t k = 0; k < n; k++) sum += want[k];
    for (uint64_t k = 0; k < n; k++) {
        want[k] *= WK_DATA_BLOCK / sum;
        s->quota[k] = (uint16_t)(want[k] + 1e-9);
        left -= s->quota[k];
    }
    for (; left > 0; left--) {
        uint64_t most = 0;
        for (uint64_t k = 1; k < n; k++)
            if (want[k] - s->quota[k] > want[most] - s->quota[most]) most = k;
        s->quota[most]++;
    }
}

int wk_data_mix(const wk_data *d, wk_sample_spec *s, const char *path, wk_err *err) {
    const wk_shown name = wk_show(wk_cstr(path));
    double want[WK_DATA_PARTS] = {0};
    if (d->n_part == 0) return WICK_OK;
    for (uint64_t k = 0; k < d->n_part; k++) {
        if (samples_of(d, s, k) == 0)
            return wk_fail(err, WICK_E_ARG, "%s: part %llu of the mixture has no whole sample of %d tokens", name.text,
                           (unsigned long long)k + 1, (int)s->n_ctx);
        want[k] = d->weight[k] / mean_len(d, s, k);
    }
    round_quotas(s, want, d->n_part);
    for (uint64_t k = 0; k < d->n_part; k++)
        if (s->quota[k] == 0)
            return wk_fail(err, WICK_E_ARG, "%s: part %llu of the mixture is less than one of %d samples", name.text,
                           (unsigned long long)k + 1, WK_DATA_BLOCK);
    return WICK_OK;
}

/* ---- places -------------------------------------------------------------------------------------- */

/* Which part sample i is of; *i becomes its number among that part's samples. */
static uint64_t part_of(const wk_sample_spec *s, uint64_t *i) {
    const uint64_t block = *i / WK_DATA_BLOCK;
    uint64_t slot = wk_permute(*i % WK_DATA_BLOCK, WK_DATA_BLOCK, s->seed, BLOCK_KEY + block), k = 0;
    while (slot >= s->quota[k]) slot -= s->quota[k++]; /* the quotas add up to the block */
    *i = block * s->quota[k] + slot;
    return k;
}

static uint64_t place_in(const wk_data *d, const wk_sample_spec *s, uint64_t part, uint64_t i) {
    const uint64_t n = samples_of(d, s, part), at = wk_permute(i % n, n, s->seed + part, i / n);
    const range r = range_of(d, part);
    if (s->unit == WK_UNIT_DOCS) return r.begin + at;
    return d->split[WK_SPLIT_TRAIN].at[r.begin] + at * (uint64_t)s->n_ctx;
}

uint64_t wk_data_mix_place(const wk_data *d, const wk_sample_spec *s, uint64_t i) {
    const uint64_t part = part_of(s, &i);
    return place_in(d, s, part, i);
}

void wk_data_drawn(const wk_data *d, const wk_sample_spec *s, uint64_t first, uint64_t end,
                   uint64_t tokens[WK_DATA_PARTS]) {
    if (!wk_data_is_mixed(s)) return;
    for (uint64_t i = first; i < end; i++) {
        uint64_t at = i;
        const uint64_t part = part_of(s, &at);
        const bool docs = s->unit == WK_UNIT_DOCS;
        tokens[part] += (uint64_t)(docs ? wk_data_doc_len(d, s, place_in(d, s, part, at)) : s->n_ctx);
    }
}

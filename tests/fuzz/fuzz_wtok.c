/* fuzz_wtok.c: any bytes as a packed file, as they are and with the hash put right: refused, or every sample of every
 * kind lies inside it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/train/data_impl.h"

enum { MOST = 9 };

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void want(bool b) {
    if (!b) __builtin_trap();
}

static void walk_sample(const wk_data *d, const wk_sample_spec *s, uint64_t i) {
    int32_t tok[MOST], target[MOST], n_seq = 0, at = 0;
    wk_tseq seq[MOST];
    const int32_t n = wk_data_sample(d, s, i, tok, target, seq, &n_seq);
    want(n >= 1 && n <= s->n_ctx && n_seq >= 1 && n_seq <= n);
    for (int32_t k = 0; k < n; k++)
        want(tok[k] >= 0 && tok[k] < wk_data_vocab(d) && target[k] >= -1 && target[k] < wk_data_vocab(d));
    for (int32_t k = 0; k < n_seq; k++) {
        want(seq[k].first == at && seq[k].n_tok > 0);
        at += seq[k].n_tok;
    }
    want(at == n);
}

static void walk(const wk_data *d) {
    for (int kind = 0; kind < 16; kind++) {
        wk_sample_spec s = {.split = kind & 1 ? WK_SPLIT_VAL : WK_SPLIT_TRAIN,
                            .unit = kind & 2 ? WK_UNIT_DOCS : WK_UNIT_ROWS,
                            .n_ctx = kind & 4 ? MOST : 1,
                            .doc_mask = kind & 8,
                            .in_order = kind & 4};
        if (!(kind & 5) && wk_data_mix(d, &s, "f", NULL)) continue; /* a mixture where the file is one */
        const uint64_t n = wk_data_samples(d, &s);
        want(wk_data_cut(d, &s) <= wk_data_tokens(d, s.split));
        want(wk_data_counted(d, s.split) <= wk_data_tokens(d, s.split));
        for (uint64_t i = 0; i < n && i < 50; i++) walk_sample(d, &s, i);
        if (n) walk_sample(d, &s, UINT64_MAX - 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    uint8_t *copy = (uint8_t *)malloc(n ? n : 1);
    want(copy != NULL);
    if (n) memcpy(copy, p, n);
    for (int round = 0; round < 2; round++) {
        wk_data *d = NULL;
        wk_err err = {0};
        const int rc = wk_data_open_memory(&d, copy, n, "f", 0, &err);
        want(rc ? !d && rc == err.code : d != NULL);
        if (d) walk(d);
        wk_data_close(d);
        if (n < WK_WTOK_FOOT) break;
        const wk_hash h = wk_wtok_hash(copy, n);
        memcpy(copy + n - 16, &h.lo, 8);
        memcpy(copy + n - 8, &h.hi, 8);
    }
    free(copy);
    return 0;
}

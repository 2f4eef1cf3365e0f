/* trun.cu: a micro-batch: its numbers are sent, the steps launched, the losses fetched and summed in their order. */
#include <algorithm>
#include <cstring>

#include "gpu/cuda/grad/tdev.h"

int wkc_task(const wk_tdev *d, wk_err *err) {
    return wkc_is_faulty(d->dev, "launch") ? wkc_faulted(d->dev, "launch", err) : WICK_OK;
}

static int check(const wk_tdev *d, const wk_tbatch *b, wk_err *err) {
    const wk_plan *p = d->g->plan;
    if (b->n_tok < 1 || b->n_tok > d->g->max_tok)
        return wkc_fail(err, WICK_E_ARG, "a micro-batch of %d tokens, wanted 1 .. %d", (int)b->n_tok, (int)d->g->max_tok);
    for (int32_t t = 0; t < b->n_tok; t++)
        if (b->tok[t] < 0 || b->tok[t] >= p->n_vocab || b->target[t] >= p->n_vocab)
            return wkc_fail(err, WICK_E_ARG, "token %d of the micro-batch is %d, its target %d: the model has %d",
                            (int)t, (int)b->tok[t], (int)b->target[t], (int)p->n_vocab);
    return WICK_OK;
}

/* Places inside of sequences, and the tiles of attention. */
static void note_sequences(wk_tdev *d, const wk_tbatch *b, int32_t *list) {
    d->n_tile = 0;
    for (int32_t i = 0; i < b->n_seq; i++)
        for (int32_t t = 0; t < b->seq[i].n_tok; t++) {
            list[d->frame.pos + (size_t)(b->seq[i].first + t)] = t;
            if (t % WKC_TATTN_ROWS) continue;
            const wkc_ttile tile = {b->seq[i].first, b->seq[i].n_tok, t};
            memcpy(list + d->frame.tile + 3 * (size_t)d->n_tile++, &tile, sizeof(tile));
        }
}

/* Tokens by id, those of an id in their order. */
static void note_ids(wk_tdev *d, const wk_tbatch *b, int32_t *order, int32_t *start) {
    d->n_id = 0;
    for (int32_t t = 0; t < b->n_tok; t++) order[t] = t;
    std::sort(order, order + b->n_tok,
              [b](int32_t x, int32_t y) { return b->tok[x] != b->tok[y] ? b->tok[x] < b->tok[y] : x < y; });
    for (int32_t i = 0; i < b->n_tok; i++)
        if (i == 0 || b->tok[order[i]] != b->tok[order[i - 1]]) start[d->n_id++] = i;
    start[d->n_id] = b->n_tok;
}

static void note_batch(wk_tdev *d, const wk_tbatch *b) {
    int32_t *const list = d->block_host;
    const wkc_tframe *f = &d->frame;
    d->n_tok = b->n_tok;
    d->n_out = 0;
    memset(list, 0, f->n * sizeof(int32_t));
    memcpy(list + f->tok, b->tok, (size_t)b->n_tok * sizeof(int32_t));
    for (int32_t t = 0; t < b->n_tok; t++) {
        list[f->back + (size_t)t] = b->target[t] < 0 ? -1 : d->n_out;
        if (b->target[t] < 0) continue;
        list[f->out + (size_t)d->n_out] = t;
        list[f->target + (size_t)d->n_out++] = b->target[t];
    }
    note_sequences(d, b, list);
    note_ids(d, b, list + f->order, list + f->start);
}

static int make_ropes(wk_tdev *d, wk_err *err) {
    const wk_plan *p = d->g->plan;
    WK_TRY(wkc_task(d, err));
    for (int32_t i = 0; i < p->n_rope; i++) {
        wkc_rope_table(d->stream, d->freq[i], p->rope[i].n_rot, p->rope[i].mscale, d->block + d->frame.pos, d->n_tok,
                       d->cs[i]);
        wkc_tnegate_sines(d->stream, d->cs[i], d->n_tok, p->rope[i].n_rot, d->cs_back[i]);
    }
    return wkc_judge(d->dev, cudaGetLastError(), "launch", err);
}

static int launch_all(wk_tdev *d, wk_err *err) {
    WKC_TRY(d->dev, err, cudaMemcpyAsync, d->block, d->block_host, d->frame.n * sizeof(int32_t), cudaMemcpyHostToDevice,
            d->stream);
    WK_TRY(make_ropes(d, err));
    const int32_t n = d->backward ? d->g->n_step : d->g->n_forward;
    for (int32_t i = 0; i < n; i++) WK_TRY(wkc_tstep(d, &d->g->step[i], err));
    if (d->n_out)
        WKC_TRY(d->dev, err, cudaMemcpyAsync, d->sums_host, d->loss, (size_t)d->n_out * sizeof(double),
                cudaMemcpyDeviceToHost, d->stream);
    WKC_TRY(d->dev, err, cudaStreamSynchronize, d->stream);
    return WICK_OK;
}

int wkc_trun(wk_tdev *d, const wk_tbatch *b, bool backward, wk_tloss *out, wk_err *err) {
    *out = {0.0, 0};
    WK_TRY(wkc_use(d->dev, err));
    WK_TRY(check(d, b, err));
    d->backward = backward;
    note_batch(d, b);
    const int rc = launch_all(d, err);
    if (rc) {
        (void)cudaStreamSynchronize(d->stream); /* the lists may be on their way */
        return rc;
    }
    out->counted = d->n_out;
    for (int32_t i = 0; i < d->n_out; i++) out->sum += d->sums_host[i];
    return WICK_OK;
}

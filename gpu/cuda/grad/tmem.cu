/* tmem.cu: the memory of training on a device. What is taken is walked once to count and once to hand out, so that
 * bytes() says what open takes. Weights are decoded to f32 on the host, some rows at a time. */
#include "gpu/cuda/grad/tdev.h"
#include "gpu/cuda/mem.h"
#include "simd/format.h"

enum { LOGIT_BYTES = 64 << 20, STAGE = 1 << 20 /* floats */ };

/* Rows of logits at a time, which stay below LOGIT_BYTES. */
static int32_t chunk_of(const wk_grad *g) {
    const size_t n_vocab = (size_t)g->plan->weight[g->step[g->n_forward - 1].w].n_row;
    size_t n = LOGIT_BYTES / sizeof(float) / n_vocab;
    if (n > 64) n = n / 64 * 64;
    if (n < 1) n = 1;
    return n < (size_t)g->max_tok ? (int32_t)n : g->max_tok;
}

static wkc_tframe frame_of(int32_t max_tok) {
    const size_t n = (size_t)max_tok;
    return {0, n, 2 * n, 3 * n, 4 * n, 5 * n, 6 * n, 7 * n + 1, 10 * n + 1};
}

static size_t n_of(const wk_weight *w) { return (w->is_vector ? 1 : (size_t)w->n_row) * (size_t)w->k; }

static void lay_out_weights(wkc_arena *a, const wk_grad *g, wk_tdev *d) {
    float *arena[WK_TDEV_ARENA_COUNT];
    for (int i = 0; i < WK_TDEV_ARENA_COUNT; i++) {
        arena[i] = (float *)wkc_take(a, g->n_elem, sizeof(float));
        if (d) d->arena[i] = arena[i];
    }
    for (int32_t i = 0; i < g->plan->n_weight; i++) {
        const int32_t param = g->param_of[i];
        float *const frozen = param < 0 ? (float *)wkc_take(a, n_of(&g->plan->weight[i]), sizeof(float)) : NULL;
        if (d) d->weight[i] = param < 0 ? frozen : d->arena[WK_TDEV_PARAMS] + g->param[param].off;
    }
}

static void lay_out_work(wkc_arena *a, const wk_grad *g, wk_tdev *d) {
    const size_t max_tok = (size_t)g->max_tok;
    uint8_t *const values = (uint8_t *)wkc_take(a, g->arena_bytes, 1);
    const int32_t n_vocab = g->plan->weight[g->step[g->n_forward - 1].w].n_row;
    float *const logits = (float *)wkc_take(a, (size_t)chunk_of(g) * (size_t)n_vocab, sizeof(float));
    double *const loss = (double *)wkc_take(a, max_tok, sizeof(double));
    double *const part = (double *)wkc_take(a, WKC_TNORM_BLOCKS, sizeof(double));
    int32_t *const block = (int32_t *)wkc_take(a, frame_of(g->max_tok).n, sizeof(int32_t));
    if (d) d->values = values, d->logits = logits, d->loss = loss, d->part = part, d->block = block;
    for (int32_t i = 0; i < g->plan->n_rope; i++) {
        const size_t rot = (size_t)g->plan->rope[i].n_rot;
        float *const cs = (float *)wkc_take(a, max_tok * rot, sizeof(float));
        float *const back = (float *)wkc_take(a, max_tok * rot, sizeof(float));
        double *const freq = (double *)wkc_take(a, rot / 2, sizeof(double));
        if (d) d->cs[i] = cs, d->cs_back[i] = back, d->freq[i] = freq;
    }
}

static size_t longer(size_t a, size_t b) { return a > b ? a : b; }

/* The longest first operand of a product (values of a pass, logits), and the longest second one (weights, values). */
static void operands_of(const wk_grad *g, size_t *first, size_t *second) {
    const size_t n_vocab = (size_t)g->plan->weight[g->step[g->n_forward - 1].w].n_row;
    size_t dim = 1;
    for (int32_t i = 0; i < g->n_val; i++) dim = longer(dim, (size_t)g->val[i].dim);
    *first = longer((size_t)g->max_tok * dim, (size_t)chunk_of(g) * n_vocab);
    *second = (size_t)g->max_tok * dim;
    for (int32_t i = 0; i < g->plan->n_weight; i++) *second = longer(*second, n_of(&g->plan->weight[i]));
}

static void lay_out_blas(wkc_arena *a, const wk_grad *g, wkc_tspace s, wk_tdev *d) {
    size_t n[2] = {0, 0};
    if (!s.blas) return;
    void *const workspace = wkc_take(a, WKC_BLAS_WORKSPACE, 1);
    if (d) d->workspace = workspace;
    if (!s.bf16) return;
    operands_of(g, &n[0], &n[1]);
    for (int i = 0; i < 2; i++) {
        uint16_t *const operand = (uint16_t *)wkc_take(a, n[i], sizeof(uint16_t));
        if (d) d->half[i] = operand;
    }
}

static void lay_out(wkc_arena *a, const wk_grad *g, wkc_tspace s, wk_tdev *d) {
    lay_out_weights(a, g, d);
    lay_out_work(a, g, d);
    lay_out_blas(a, g, s, d);
}

static wkc_tspace space_of(const wk_tdev *d) { return {d->blas != NULL, d->o.bf16}; }

size_t wkc_tbytes(const wk_grad *g, wkc_tspace s) {
    wkc_arena a = {NULL, 0, false};
    lay_out(&a, g, s, NULL);
    return a.overflow ? SIZE_MAX : a.used;
}

static int take_memory(wk_tdev *d, wk_err *err) {
    const size_t n = wkc_tbytes(d->g, space_of(d)), max_tok = (size_t)d->g->max_tok;
    const size_t parts = WKC_TNORM_BLOCKS, sums = max_tok > parts ? max_tok : parts;
    if (n == SIZE_MAX) return wkc_fail(err, WICK_E_FIT, "the bytes of training overflow the address space");
    WKC_TRY(d->dev, err, cudaStreamCreateWithFlags, &d->stream, cudaStreamNonBlocking);
    WKC_TRY(d->dev, err, cudaMalloc, &d->memory, n);
    WKC_TRY(d->dev, err, cudaHostAlloc, &d->block_host, d->frame.n * sizeof(int32_t), cudaHostAllocDefault);
    WKC_TRY(d->dev, err, cudaHostAlloc, &d->sums_host, sums * sizeof(double), cudaHostAllocDefault);
    wkc_arena a = {d->memory, 0, false};
    lay_out(&a, d->g, space_of(d), d);
    return WICK_OK;
}

int wkc_tmake(wk_tdev *d, wk_err *err) {
    const wk_plan *p = d->g->plan;
    d->chunk = chunk_of(d->g);
    d->frame = frame_of(d->g->max_tok);
    d->weight = wkc_new<float *>((size_t)p->n_weight);
    d->cs = wkc_new<float *>((size_t)p->n_rope);
    d->cs_back = wkc_new<float *>((size_t)p->n_rope);
    d->freq = wkc_new<double *>((size_t)p->n_rope);
    if (!d->weight || !d->cs || !d->cs_back || !d->freq)
        return wkc_fail(err, WICK_E_NOMEM, "no memory for the device's state");
    const int rc = take_memory(d, err);
    if (rc != WICK_E_NOMEM) return rc;
    size_t have = 0, total = 0;
    (void)cudaMemGetInfo(&have, &total);
    return wkc_fail(err, rc, "cuda device %d has no memory for training: %zu MiB are needed, %zu of %zu MiB are free",
                    d->dev->index, wkc_tbytes(d->g, space_of(d)) >> 20, have >> 20, total >> 20);
}

void wkc_tdrop(wk_tdev *d) {
    if (d->stream) (void)cudaStreamSynchronize(d->stream);
    (void)cudaFree(d->memory);
    (void)cudaFreeHost(d->block_host);
    (void)cudaFreeHost(d->sums_host);
    if (d->stream) (void)cudaStreamDestroy(d->stream);
    (void)cudaGetLastError();
    delete[] d->weight;
    delete[] d->cs;
    delete[] d->cs_back;
    delete[] d->freq;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/* Row i of a weight; a vector is its own only row, its values in un-rotated order (F kinds alone: a value is a block). */
static void decode_row(float *dst, const wk_weight *w, int32_t i) {
    const wk_format *f = &wk_formats[w->fmt];
    if (!w->is_vector || !w->unrotate) {
        f->decode(dst, w->data + (size_t)(w->is_vector ? 0 : wk_weight_row(w, i)) * w->row_bytes, w->k);
        return;
    }
    for (int32_t j = 0; j < w->k; j++) f->decode(dst + j, w->data + (size_t)wk_weight_row(w, j) * f->bytes, 1);
}

static int check_row(const wk_weight *w, int32_t i, wk_err *err) {
    const int32_t row = w->is_vector ? 0 : wk_weight_row(w, i);
    if (wk_formats[w->fmt].find_nonfinite(w->data + (size_t)row * w->row_bytes, w->k) < 0) return WICK_OK;
    return wkc_fail(err, WICK_E_FORMAT, "%s: row %d holds a value that is not a finite number", w->name, (int)row);
}

static int load_weight(wk_tdev *d, int32_t weight, float *stage, size_t room, wk_err *err) {
    const wk_weight *w = &d->g->plan->weight[weight];
    const size_t k = (size_t)w->k;
    const int32_t n_row = w->is_vector ? 1 : w->n_row, each = (int32_t)(room / k);
    for (int32_t r = 0; r < n_row; r += each) {
        const int32_t n = n_row - r < each ? n_row - r : each;
        for (int32_t i = 0; i < n; i++) {
            WK_TRY(check_row(w, r + i, err));
            decode_row(stage + (size_t)i * k, w, r + i);
        }
        WKC_TRY(d->dev, err, cudaMemcpy, d->weight[weight] + (size_t)r * k, stage, (size_t)n * k * sizeof(float),
                cudaMemcpyHostToDevice);
    }
    return WICK_OK;
}

static int zero_all(wk_tdev *d, wk_err *err) {
    for (int i = 0; i < WK_TDEV_ARENA_COUNT; i++) /* parameters too: the gaps between them */
        WKC_TRY(d->dev, err, cudaMemset, d->arena[i], 0, d->g->n_elem * sizeof(float));
    WKC_TRY(d->dev, err, cudaDeviceSynchronize);
    return WICK_OK;
}

int wkc_tload(wk_tdev *d, wk_err *err) {
    const wk_plan *p = d->g->plan;
    size_t room = STAGE;
    for (int32_t i = 0; i < p->n_weight; i++)
        if ((size_t)p->weight[i].k > room) room = (size_t)p->weight[i].k;
    WK_TRY(zero_all(d, err));
    for (int32_t i = 0; i < p->n_rope; i++)
        WKC_TRY(d->dev, err, cudaMemcpy, d->freq[i], p->rope[i].freq, (size_t)p->rope[i].n_rot / 2 * sizeof(double),
                cudaMemcpyHostToDevice);
    float *const stage = wkc_new<float>(room);
    int rc = stage ? WICK_OK : wkc_fail(err, WICK_E_NOMEM, "no memory to decode weights");
    for (int32_t i = 0; i < p->n_weight && !rc; i++) rc = load_weight(d, i, stage, room, err);
    delete[] stage;
    return rc;
}

/* prepare.cu: the memory of a part of a plan on the device. What is taken is walked once in lay_out, to count (base NULL)
 * and then to hand out, so that wkc_bytes says what prepare takes.
 *
 * Values keep the offsets of the plan: its lifetimes are those of stages, which run here one after another. A value whose
 * layout here is larger than the plan's (none today) gets memory of its own behind. */
#include <cstring>

#include "gpu/cuda/exec.h"
#include "gpu/cuda/mem.h"

static const size_t ALIGN = 256;

/* ---- steps, arenas ----------------------------------------------------------------------------------------------- */

int32_t wkc_steps(const wk_plan *p, const wk_part *part, int32_t *step) {
    int32_t n = 0;
    for (int32_t i = part->stage_first; i < part->stage_first + part->n_stage; i++) {
        const wk_stage *st = &p->stage[i];
        for (int32_t j = 0; j < st->row_n; j++) step[n++] = p->order[st->row_first + j];
        for (int32_t c = 0; c < st->chain_n; c++) {
            const wk_chain *ch = &p->chain[st->chain_first + c];
            for (int32_t j = 0; j < ch->n; j++) step[n++] = p->order[ch->first + j];
        }
        if (st->attn >= 0) step[n++] = st->attn;
    }
    return n;
}

wk_part wkc_part(const wk_plan *p, const wk_part *asked) {
    const wk_part all = {0, p->n_stage, 0, p->n_layer};
    return asked ? *asked : all;
}

void *wkc_take(wkc_arena *a, size_t n, size_t each) {
    size_t bytes, end;
    if (__builtin_mul_overflow(n, each, &bytes) || __builtin_add_overflow(bytes, ALIGN - 1, &bytes) ||
        __builtin_add_overflow(a->used, bytes & ~(ALIGN - 1), &end)) {
        a->overflow = true;
        return NULL;
    }
    uint8_t *p = a->base ? a->base + a->used : NULL;
    a->used = end;
    return p;
}

wkc_frame wkc_frame_of(int32_t cap) {
    const size_t n = (size_t)cap * sizeof(int32_t);
    wkc_frame f;
    f.cap = cap;
    size_t *const of[] = {&f.tok, &f.pos, &f.seq_of, &f.out, &f.first, &f.count, &f.pos0, &f.table};
    size_t at = 0;
    for (size_t *o : of) {
        *o = at;
        at += n;
    }
    f.bad_tok = at;
    f.page = (at + (size_t)cap + 15) & ~(size_t)15;
    return f;
}

/* ---- what a part needs ------------------------------------------------------------------------------------------- */

/* The lists that say which; n_step steps. */
typedef struct need {
    const wk_plan *p;
    wk_part part;
    const int32_t *step;
    int32_t n_step;
    uint32_t n_page;
} need;

static bool uses_weight(const need *n, int32_t w) {
    for (int32_t i = 0; i < n->n_step; i++)
        if (n->p->step[n->step[i]].w[0] == w || n->p->step[n->step[i]].w[1] == w) return true;
    return false;
}
static bool uses_rope(const need *n, int32_t r) {
    for (int32_t i = 0; i < n->n_step; i++)
        if (n->p->step[n->step[i]].op == WK_OP_rope && n->p->step[n->step[i]].rope == r) return true;
    return false;
}
static bool has_op(const need *n, int op) {
    for (int32_t i = 0; i < n->n_step; i++)
        if (n->p->step[n->step[i]].op == op) return true;
    return false;
}
/* Some value of the part lies in the logits' memory. */
static bool writes_logits(const need *n) {
    for (int32_t i = 0; i < n->n_step; i++)
        if (n->p->step[n->step[i]].dst == n->p->logits) return true;
    return false;
}

static size_t rows_of(const wk_plan *p, const wk_val *v) {
    return (size_t)(v->rows == WK_ROWS_TOK ? p->max_tok : p->max_out);
}

static void lay_out_weights(wkc_arena *a, const need *n, wk_exec *x) {
    for (int32_t i = 0; i < n->p->n_weight; i++) {
        const wk_weight *w = &n->p->weight[i];
        if (!uses_weight(n, i)) continue;
        uint8_t *p = (uint8_t *)wkc_take(a, wkc_mat_bytes(w), 1);
        if (x) wkc_mat_init(&x->w[i], w, p);
    }
}

static void lay_out_values(wkc_arena *a, const need *n, wk_exec *x) {
    const wk_plan *p = n->p;
    uint8_t *arena = (uint8_t *)wkc_take(a, p->arena_bytes, 1);
    float *logits = writes_logits(n) ? (float *)wkc_take(a, (size_t)p->max_out * (size_t)p->n_vocab, sizeof(float)) : NULL;
    if (x) {
        x->logits = logits;
        x->is_last = writes_logits(n);
    }
    for (int32_t i = 0; i < p->n_val; i++) {
        const wk_val *v = &p->val[i];
        const size_t bytes = wkc_act_bytes(v->type, v->dim, rows_of(p, v));
        uint8_t *at = v->off == SIZE_MAX ? (uint8_t *)logits : arena ? arena + v->off : NULL;
        if (v->off != SIZE_MAX && bytes > v->bytes) at = (uint8_t *)wkc_take(a, bytes, 1);
        if (x) x->val[i] = at;
    }
}

static void lay_out_scratch(wkc_arena *a, const need *n, wk_exec *x) {
    const wk_plan *p = n->p;
    size_t mat = 0;
    for (int32_t i = 0; i < n->n_step; i++) {
        const wk_step *s = &p->step[n->step[i]];
        if (s->op != WK_OP_matmul) continue;
        const size_t m = wkc_matmul_scratch(&p->weight[s->w[0]], (int32_t)rows_of(p, &p->val[s->dst]));
        if (m > mat) mat = m;
    }
    wkc_kv kv;
    memset(&kv, 0, sizeof(kv));
    size_t attn = 0;
    if (has_op(n, WK_OP_attn) && wkc_kv_init(&kv, p->kv_type, p->head_dim, p->n_head_kv, n->part.layer_first, n->part.n_layer))
        attn = wkc_attn_scratch(&kv, p->n_head, p->max_tok, n->n_page);
    void *const m = wkc_take(a, mat, 1), *const t = wkc_take(a, attn, 1), *const top = wkc_take(a, (size_t)p->max_out, 4);
    if (!x) return;
    x->mat_scratch = m;
    x->attn_scratch = t;
    x->top = (int32_t *)top;
}

static void lay_out_ropes(wkc_arena *a, const need *n, wk_exec *x) {
    for (int32_t i = 0; i < n->p->n_rope; i++) {
        if (!uses_rope(n, i)) continue;
        const size_t rot = (size_t)n->p->rope[i].n_rot;
        void *const cs = wkc_take(a, (size_t)n->p->max_tok * rot, sizeof(float)), *const freq = wkc_take(a, rot / 2, sizeof(double));
        if (!x) continue;
        x->cs[i] = (float *)cs;
        x->freq[i] = (double *)freq;
        x->rope_used[i] = true;
    }
}

static void lay_out_work(wkc_arena *a, const need *n, wk_exec *x) {
    lay_out_values(a, n, x);
    lay_out_scratch(a, n, x);
    lay_out_ropes(a, n, x);
}

static void lay_out_cache(wkc_arena *a, const need *n, wk_exec *x) {
    wkc_kv kv;
    memset(&kv, 0, sizeof(kv));
    if ((has_op(n, WK_OP_attn) || has_op(n, WK_OP_kvput)) &&
        wkc_kv_init(&kv, n->p->kv_type, n->p->head_dim, n->p->n_head_kv, n->part.layer_first, n->part.n_layer))
        kv.p = (uint8_t *)wkc_take(a, n->n_page, kv.page_bytes);
    if (x) x->kv = kv;
}

/* Of the block of a batch, to begin with: a table of all pages, and all of them zeroed or copied. */
static size_t block_bytes(const wk_plan *p, uint32_t n_page) {
    const int32_t cap = p->max_tok > WKC_GRAPH_TOK ? p->max_tok : WKC_GRAPH_TOK;
    return wkc_frame_of(cap).page + ((size_t)n_page * 4 + (size_t)cap) * sizeof(uint32_t);
}

size_t wkc_bytes(const wk_plan *p, const wk_part *part, uint32_t n_page, int n_thread) {
    need n = {p, wkc_part(p, part), NULL, 0, n_page};
    int32_t *step = wkc_new<int32_t>((size_t)p->n_step);
    wkc_arena a = {NULL, 0, false};
    (void)n_thread;
    if (!step) return SIZE_MAX;
    n.step = step;
    n.n_step = wkc_steps(p, &n.part, step);
    lay_out_weights(&a, &n, NULL);
    lay_out_work(&a, &n, NULL);
    lay_out_cache(&a, &n, NULL);
    (void)wkc_take(&a, block_bytes(p, n_page), 1);
    delete[] step;
    return a.overflow ? SIZE_MAX : a.used;
}

size_t wkc_later(const wk_plan *p, const wk_part *part) {
    const wk_part all = wkc_part(p, part);
    int32_t *step = wkc_new<int32_t>((size_t)p->n_step);
    size_t each = 0;
    if (!step) return SIZE_MAX;
    const int32_t n = wkc_graph_room(p, step, wkc_steps(p, &all, step), &each);
    delete[] step;
    return WKC_CODE_BYTES + (size_t)n * each;
}

/* ---- prepare ----------------------------------------------------------------------------------------------------- */

typedef void lay_fn(wkc_arena *a, const need *n, wk_exec *x);

static int take_bytes(wk_exec *x, size_t n, uint8_t **out, wk_err *err) {
    WKC_TRY(x->dev, err, cudaMalloc, out, n);
    return WICK_OK;
}

/* Counts, takes the memory, and hands it out. */
static int take_memory(wk_exec *x, const need *n, lay_fn *lay, const char *what, uint8_t **out, wk_err *err) {
    wkc_arena a = {NULL, 0, false};
    lay(&a, n, NULL);
    if (a.overflow) return wkc_fail(err, WICK_E_FIT, "the %s of this model overflow the address space", what);
    const int rc = take_bytes(x, a.used ? a.used : ALIGN, out, err);
    if (rc == WICK_E_NOMEM) {
        size_t have = 0, total = 0;
        (void)cudaMemGetInfo(&have, &total);
        return wkc_fail(err, rc, "cuda device %d has no memory for %zu MiB of %s: %zu of %zu MiB are free", x->dev->index,
                        a.used >> 20, what, have >> 20, total >> 20);
    }
    if (rc) return rc;
    a.base = *out;
    a.used = 0;
    lay(&a, n, x);
    return WICK_OK;
}

/* The block of a batch, on both sides. Graphs hold pointers into it. */
int wkc_make_block(wk_exec *x, size_t bytes, wk_err *err) {
    wkc_drop_graphs(x);
    (void)cudaFree(x->block);
    (void)cudaFreeHost(x->block_host);
    x->block = x->block_host = NULL;
    x->block_bytes = 0;
    WKC_TRY(x->dev, err, cudaMalloc, &x->block, bytes);
    WKC_TRY(x->dev, err, cudaHostAlloc, &x->block_host, bytes, cudaHostAllocDefault);
    x->block_bytes = bytes;
    return WICK_OK;
}

static int make_host_side(wk_exec *x, wk_err *err) {
    const wk_plan *p = x->plan;
    const size_t rows = (size_t)(p->max_out < WKC_LOGIT_ROWS ? p->max_out : WKC_LOGIT_ROWS);
    if (x->is_last)
        WKC_TRY(x->dev, err, cudaHostAlloc, &x->logits_host, rows * (size_t)p->n_vocab * sizeof(float), cudaHostAllocDefault);
    WKC_TRY(x->dev, err, cudaHostAlloc, &x->top_host, (size_t)p->max_out * sizeof(int32_t), cudaHostAllocDefault);
    WKC_TRY(x->dev, err, cudaHostAlloc, &x->bad_host, (size_t)p->max_tok, cudaHostAllocDefault);
    return wkc_make_block(x, block_bytes(p, x->n_page), err);
}

/* On the stream that reads them: it does not wait for the default one, and a copy from memory that is not pinned may still
 * be under way when cudaMemcpy is back. */
static int send_ropes(wk_exec *x, wk_err *err) {
    for (int32_t i = 0; i < x->plan->n_rope; i++)
        if (x->rope_used[i])
            WKC_TRY(x->dev, err, cudaMemcpyAsync, x->freq[i], x->plan->rope[i].freq,
                    (size_t)x->plan->rope[i].n_rot / 2 * sizeof(double), cudaMemcpyHostToDevice, x->stream);
    return WICK_OK;
}

static int fill(wk_exec *x, wk_err *err) {
    need n = {x->plan, x->part, x->step, x->n_step, x->n_page};
    WKC_TRY(x->dev, err, cudaStreamCreateWithFlags, &x->stream, cudaStreamNonBlocking);
    WK_TRY(take_memory(x, &n, lay_out_weights, "weights", &x->weights, err));
    WK_TRY(take_memory(x, &n, lay_out_work, "activations", &x->work, err));
    WK_TRY(take_memory(x, &n, lay_out_cache, "KV cache", &x->cache, err));
    WK_TRY(make_host_side(x, err));
    WK_TRY(send_ropes(x, err));
    return wkc_upload(x, err);
}

void wkc_unprepare(wk_exec *x) {
    if (!x) return;
    (void)cudaSetDevice(x->dev->index); /* nobody is left to tell of a device that is lost */
    if (x->stream) (void)cudaStreamSynchronize(x->stream);
    wkc_drop_graphs(x);
    for (int32_t i = 0; i < x->n_mark; i++) (void)cudaEventDestroy(x->mark[i]);
    void *const device[] = {x->weights, x->work, x->cache, x->block};
    void *const host[] = {x->block_host, x->logits_host, x->top_host, x->bad_host};
    for (void *p : device) (void)cudaFree(p);
    for (void *p : host) (void)cudaFreeHost(p);
    if (x->stream) (void)cudaStreamDestroy(x->stream);
    (void)cudaGetLastError();
    delete[] x->step;
    delete[] x->w;
    delete[] x->val;
    delete[] x->cs;
    delete[] x->freq;
    delete[] x->rope_used;
    delete[] x->mark;
    delete x;
}

int wkc_prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n_page, wk_err *err) {
    WK_TRY(wkc_use(d, err));
    wk_exec *x = new (std::nothrow) wk_exec();
    if (!x) return wkc_fail(err, WICK_E_NOMEM, "no memory for the device's state");
    x->dev = d;
    x->plan = p;
    x->part = wkc_part(p, part);
    x->n_page = n_page;
    x->step = wkc_new<int32_t>((size_t)p->n_step);
    x->w = wkc_new<wkc_mat>((size_t)p->n_weight);
    x->val = wkc_new<uint8_t *>((size_t)p->n_val);
    x->cs = wkc_new<float *>((size_t)p->n_rope);
    x->freq = wkc_new<double *>((size_t)p->n_rope);
    x->rope_used = wkc_new<bool>((size_t)p->n_rope);
    x->few = wkc_frame_of(WKC_GRAPH_TOK);
    x->many = wkc_frame_of(p->max_tok > WKC_GRAPH_TOK ? p->max_tok : WKC_GRAPH_TOK);
    int rc = WICK_E_NOMEM;
    if (!x->step || !x->w || !x->val || !x->cs || !x->freq || !x->rope_used) {
        (void)wkc_fail(err, rc, "no memory for the device's state");
    } else {
        size_t each = 0;
        x->n_step = wkc_steps(p, &x->part, x->step);
        x->max_graph = wkc_graph_room(p, x->step, x->n_step, &each);
        rc = fill(x, err);
    }
    if (rc) wkc_unprepare(x);
    else *out = x;
    return rc;
}

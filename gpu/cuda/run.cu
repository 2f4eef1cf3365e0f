/* run.cu: a pass: its numbers go to the device in one copy, its steps run, what it made comes back.
 *
 * Passes of a few tokens are bound by launches, a dozen a layer: those of the same shape are replayed as a CUDA graph. The
 * length of the longest sequence is part of the shape, rounded up so that it changes seldom. A shape is captured when it
 * comes the second time. */
#include <cstring>

#include "gpu/cuda/exec.h"
#include "gpu/cuda/mem.h"

/* ---- the numbers of a batch -------------------------------------------------------------------------------------- */

/* 1, 2, 3, 4, 6, 8, 12, 16, 24 ... */
static int32_t round_pages(int32_t n) {
    int32_t step = 1;
    while (4 * step < n) step *= 2;
    return (n + step - 1) / step * step;
}

static size_t pages_of(const wk_batch *b) {
    size_t n = 0;
    for (int32_t i = 0; i < b->n_seq; i++) n += (size_t)b->seq[i].n_page;
    return n;
}

static int32_t *ints(const wk_exec *x, size_t at) { return (int32_t *)(void *)(x->block_host + at); }

static void write_sequences(wk_exec *x, const wkc_frame *f, const wk_batch *b) {
    int32_t at = 0;
    for (int32_t i = 0; i < b->n_tok; i++) ints(x, f->seq_of)[i] = -1; /* not what an earlier batch had there */
    for (int32_t i = 0; i < b->n_seq; i++) {
        const wk_batch_seq *s = &b->seq[i];
        ints(x, f->first)[i] = s->first;
        ints(x, f->count)[i] = s->n_tok;
        ints(x, f->pos0)[i] = s->pos0;
        ints(x, f->table)[i] = at;
        if (s->n_page) memcpy(ints(x, f->page) + at, s->page, (size_t)s->n_page * sizeof(uint32_t));
        at += s->n_page;
        for (int32_t j = 0; j < s->n_tok; j++) {
            ints(x, f->pos)[s->first + j] = s->pos0 + j;
            ints(x, f->seq_of)[s->first + j] = i;
        }
    }
}

/* Everything after the pages: the pages to zero, and the pairs to copy. */
static void write_lists(wk_exec *x, size_t at, const wk_batch *b) {
    if (b->n_zero) memcpy(x->block_host + at, b->zero, (size_t)b->n_zero * sizeof(uint32_t));
    at += (size_t)b->n_zero * sizeof(uint32_t);
    if (b->n_copy) memcpy(x->block_host + at, b->copy, 2 * (size_t)b->n_copy * sizeof(uint32_t));
}

static void point_into(wkc_batch *d, const wk_exec *x, const wkc_frame *f) {
    uint8_t *p = x->block;
    d->tok = (const int32_t *)(p + f->tok);
    d->pos = (const int32_t *)(p + f->pos);
    d->seq_of = (const int32_t *)(p + f->seq_of);
    d->out = (const int32_t *)(p + f->out);
    d->first = (const int32_t *)(p + f->first);
    d->count = (const int32_t *)(p + f->count);
    d->pos0 = (const int32_t *)(p + f->pos0);
    d->table = (const int32_t *)(p + f->table);
    d->page = (const uint32_t *)(p + f->page);
    d->bad_tok = p + f->bad_tok;
}

/* Sends the block, and makes the cache's pages. */
static int send_batch(wk_exec *x, const wkc_frame *f, const wk_batch *b, wkc_batch *d, wk_err *err) {
    const size_t lists = f->page + pages_of(b) * sizeof(uint32_t),
                 n = lists + ((size_t)b->n_zero + 2 * (size_t)b->n_copy) * sizeof(uint32_t);
    if (n > x->block_bytes) WK_TRY(wkc_make_block(x, n + n / 2, err));
    memcpy(ints(x, f->tok), b->tok, (size_t)b->n_tok * sizeof(int32_t));
    if (b->n_out) memcpy(ints(x, f->out), b->out, (size_t)b->n_out * sizeof(int32_t));
    memset(x->block_host + f->bad_tok, 0, (size_t)b->n_tok);
    write_sequences(x, f, b);
    write_lists(x, lists, b);
    point_into(d, x, f);
    WKC_TRY(x->dev, err, cudaMemcpyAsync, x->block, x->block_host, n, cudaMemcpyHostToDevice, x->stream);
    if (x->is_traced) {
        x->trace.n_put++;
        x->trace.put_bytes += n;
    }
    if (!x->kv.p || (!b->n_zero && !b->n_copy)) return WICK_OK;
    const uint32_t *zero = (const uint32_t *)(x->block + lists);
    wkc_kv_pages(x->stream, &x->kv, zero, b->n_zero, zero + b->n_zero, b->n_copy);
    return wkc_judge(x->dev, cudaGetLastError(), "launch", err);
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

void wkc_drop_graphs(wk_exec *x) {
    for (int32_t i = 0; i < x->n_graph; i++)
        if (x->graph[i].x) (void)cudaGraphExecDestroy(x->graph[i].x);
    x->n_graph = 0;
}

/* Graphs that are kept of these steps, and what one of them takes. Attention may launch two kernels; the tables of rope and
 * the largest logits are no steps. */
int32_t wkc_graph_room(const wk_plan *p, const int32_t *step, int32_t n_step, size_t *bytes_each) {
    size_t n = (size_t)n_step + (size_t)p->n_rope + 1;
    for (int32_t i = 0; i < n_step; i++) n += p->step[step[i]].op == WK_OP_attn;
    *bytes_each = n * WKC_NODE_BYTES;
    const size_t room = WKC_GRAPH_BYTES / *bytes_each;
    return room > WKC_GRAPHS ? (int32_t)WKC_GRAPHS : room < WKC_GRAPH_LEAST ? (int32_t)WKC_GRAPH_LEAST : (int32_t)room;
}

/* The shape's place: found, new, or that of the one not used longest. */
static wkc_graph *graph_of(wk_exec *x, const wkc_batch *b, bool top) {
    wkc_graph *oldest = &x->graph[0];
    for (int32_t i = 0; i < x->n_graph; i++) {
        wkc_graph *g = &x->graph[i];
        if (g->n_tok == b->n_tok && g->n_seq == b->n_seq && g->n_out == b->n_out && g->max_page == b->max_page && g->top == top)
            return g;
        if (g->last < oldest->last) oldest = g;
    }
    if (x->n_graph < x->max_graph) oldest = &x->graph[x->n_graph++];
    else if (oldest->x) (void)cudaGraphExecDestroy(oldest->x);
    const wkc_graph fresh = {b->n_tok, b->n_seq, b->n_out, b->max_page, top, 0, 0, NULL};
    *oldest = fresh;
    return oldest;
}

/* Launches go into a graph. *is_made false: this machine cannot, and nothing was launched. */
static int capture(wk_exec *x, wkc_graph *g, const wkc_batch *b, bool *is_made, wk_err *err) {
    cudaGraph_t graph = NULL;
    wk_err why;
    *is_made = false;
    memset(&why, 0, sizeof(why));
    if (cudaStreamBeginCapture(x->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        (void)cudaGetLastError(); /* or the launches that follow would be blamed for it */
        return WICK_OK;
    }
    const int rc = wkc_launch_steps(x, b, g->top, &why);
    const bool ended = cudaStreamEndCapture(x->stream, &graph) == cudaSuccess && graph;
    if (rc == WICK_OK && ended) *is_made = cudaGraphInstantiate(&g->x, graph, 0) == cudaSuccess;
    if (graph) (void)cudaGraphDestroy(graph);
    if (!*is_made) g->x = NULL;
    (void)cudaGetLastError();
    if (!ended) return WICK_OK; /* the capture was refused half-way: whatever is wrong with the steps shows without it */
    if (rc && err) *err = why;
    return rc;
}

static int launch_pass(wk_exec *x, const wkc_batch *b, bool top, wk_err *err) {
    if (b->n_tok > WKC_GRAPH_TOK || x->is_traced || x->graphs_off) return wkc_launch_steps(x, b, top, err);
    wkc_graph *g = graph_of(x, b, top);
    g->last = x->n_run;
    if (!g->x && g->n_use++ > 0) {
        bool is_made;
        WK_TRY(capture(x, g, b, &is_made, err));
        x->graphs_off = !is_made;
    }
    if (!g->x) return wkc_launch_steps(x, b, top, err);
    WKC_TRY(x->dev, err, cudaGraphLaunch, g->x, x->stream);
    return WICK_OK;
}

/* ---- what comes back --------------------------------------------------------------------------------------------- */

static bool wants_logits(const wk_exec *x, const wk_batch *b) { return x->is_last && b->n_out && b->logits; }
static bool wants_top(const wk_exec *x, const wk_batch *b) { return x->is_last && b->n_out && b->top; }
static size_t logit_bytes(const wk_exec *x, const wk_batch *b) {
    return (size_t)b->n_out * (size_t)x->plan->n_vocab * sizeof(float);
}

/* Many rows of logits go straight to where they are wanted, when they are waited for. */
static int fetch(wk_exec *x, const wkc_batch *d, const wk_batch *b, wk_err *err) {
    WKC_TRY(x->dev, err, cudaMemcpyAsync, x->bad_host, d->bad_tok, (size_t)b->n_tok, cudaMemcpyDeviceToHost, x->stream);
    if (wants_top(x, b))
        WKC_TRY(x->dev, err, cudaMemcpyAsync, x->top_host, x->top, (size_t)b->n_out * sizeof(int32_t), cudaMemcpyDeviceToHost,
                x->stream);
    if (wants_logits(x, b) && b->n_out <= WKC_LOGIT_ROWS)
        WKC_TRY(x->dev, err, cudaMemcpyAsync, x->logits_host, x->logits, logit_bytes(x, b), cudaMemcpyDeviceToHost, x->stream);
    return WICK_OK;
}

static void hand_over(wk_exec *x, const wk_batch *b) {
    for (int32_t i = 0; i < b->n_tok && b->bad_tok; i++)
        if (x->bad_host[i]) b->bad_tok[i] = 1;
    if (wants_top(x, b)) memcpy(b->top, x->top_host, (size_t)b->n_out * sizeof(int32_t));
    if (wants_logits(x, b) && b->n_out <= WKC_LOGIT_ROWS) memcpy(b->logits, x->logits_host, logit_bytes(x, b));
}

static int read_marks(wk_exec *x, wk_err *err) {
    wk_trace *t = &x->trace;
    for (int32_t i = 0; i < x->n_step; i++) {
        const wk_step *s = &x->plan->step[x->step[i]];
        const bool head = s->op == WK_OP_matmul && s->dst == x->plan->logits;
        float ms = 0.0f;
        WKC_TRY(x->dev, err, cudaEventElapsedTime, &ms, x->mark[i], x->mark[i + 1]);
        *(head ? &t->head_ns : &t->op_ns[s->op]) += (uint64_t)((double)ms * 1e6);
    }
    return WICK_OK;
}

static void count_get(wk_exec *x, size_t bytes, uint64_t t0) {
    if (!x->is_traced) return;
    x->trace.n_get++;
    x->trace.get_bytes += bytes;
    if (t0) x->trace.copy_ns += wkc_now_ns() - t0;
}

static int finish(wk_exec *x, const wkc_due *due, wk_err *err) {
    const wk_batch *b = due->b;
    WKC_TRY(x->dev, err, cudaStreamSynchronize, x->stream);
    if (wants_logits(x, b) && b->n_out > WKC_LOGIT_ROWS)
        WKC_TRY(x->dev, err, cudaMemcpy, b->logits, x->logits, logit_bytes(x, b), cudaMemcpyDeviceToHost);
    hand_over(x, b);
    if (wants_logits(x, b)) count_get(x, logit_bytes(x, b), 0);
    if (wants_top(x, b)) count_get(x, (size_t)b->n_out * sizeof(int32_t), 0);
    if (!due->is_traced || !x->is_traced) return WICK_OK;
    x->trace.n_pass++;
    x->trace.wall_ns += wkc_now_ns() - due->t0;
    return read_marks(x, err);
}

int wkc_wait(wk_exec *x, wk_err *err) {
    const wkc_due due = x->due;
    if (!due.b) return WICK_OK;
    x->due.b = NULL; /* whatever comes */
    WK_TRY(wkc_use(x->dev, err));
    return finish(x, &due, err);
}

/* ---- a pass ------------------------------------------------------------------------------------------------------ */

static int make_marks(wk_exec *x, wk_err *err) {
    if (!x->is_traced) return WICK_OK;
    if (!x->mark) x->mark = wkc_new<cudaEvent_t>((size_t)x->n_step + 1);
    if (!x->mark) return wkc_fail(err, WICK_E_NOMEM, "no memory for a trace of %d steps", (int)x->n_step);
    for (; x->n_mark < x->n_step + 1; x->n_mark++)
        WKC_TRY(x->dev, err, cudaEventCreateWithFlags, &x->mark[x->n_mark], cudaEventDefault);
    return WICK_OK;
}

static int start(wk_exec *x, const wk_batch *b, wk_err *err) {
    const bool few = b->n_tok <= WKC_GRAPH_TOK && b->n_out <= WKC_GRAPH_TOK && b->n_seq <= WKC_GRAPH_TOK;
    wkc_batch d;
    memset(&d, 0, sizeof(d));
    d.n_tok = b->n_tok;
    d.n_seq = b->n_seq;
    d.n_out = b->n_out;
    for (int32_t i = 0; i < b->n_seq; i++)
        if (b->seq[i].n_page > d.max_page) d.max_page = b->seq[i].n_page;
    d.max_page = round_pages(d.max_page);
    WK_TRY(make_marks(x, err));
    WK_TRY(send_batch(x, few ? &x->few : &x->many, b, &d, err));
    WK_TRY(launch_pass(x, &d, wants_top(x, b), err));
    return fetch(x, &d, b, err);
}

int wkc_run(wk_exec *x, const wk_batch *b, wk_err *err) {
    const wk_plan *p = x->plan;
    if (b->n_tok < 1 || b->n_tok > p->max_tok || b->n_out < 0 || b->n_out > p->max_out || b->n_seq > b->n_tok)
        return wkc_fail(err, WICK_E_ARG, "a batch of %d tokens, %d sequences and %d rows, the plan takes %d tokens and %d rows",
                        (int)b->n_tok, (int)b->n_seq, (int)b->n_out, (int)p->max_tok, (int)p->max_out);
    WK_TRY(wkc_use(x->dev, err));
    WK_TRY(wkc_wait(x, err)); /* the block of the last pass is used again */
    const uint64_t t0 = x->is_traced ? wkc_now_ns() : 0;
    x->n_run++;
    const int rc = start(x, b, err);
    if (rc) {
        (void)cudaStreamSynchronize(x->stream); /* nothing of it is on its way when the caller hears of it */
        (void)cudaGetLastError();
        return rc;
    }
    const wkc_due due = {b, x->is_traced, t0};
    x->due = due;
    return WICK_OK;
}

/* ---- values of other parts --------------------------------------------------------------------------------------- */

static int value_bytes(const wk_exec *x, int32_t val, int32_t rows, size_t *bytes, wk_err *err) {
    const wk_val *v = &x->plan->val[val];
    const int32_t most = v->rows == WK_ROWS_TOK ? x->plan->max_tok : x->plan->max_out;
    if (v->type != WK_VAL_F32 || v->off == SIZE_MAX || rows < 0 || rows > most)
        return wkc_fail(err, WICK_E_ARG, "%d rows of value %d cannot be carried: f32 values of at most %d rows can", (int)rows,
                        (int)val, (int)most);
    *bytes = (size_t)rows * (size_t)v->dim * sizeof(float);
    return WICK_OK;
}

int wkc_put(wk_exec *x, int32_t val, int32_t rows, const float *src, wk_err *err) {
    size_t n = 0;
    WK_TRY(value_bytes(x, val, rows, &n, err));
    WK_TRY(wkc_use(x->dev, err));
    if (!n) return WICK_OK;
    const uint64_t t0 = x->is_traced ? wkc_now_ns() : 0;
    WKC_TRY(x->dev, err, cudaMemcpyAsync, x->val[val], src, n, cudaMemcpyHostToDevice, x->stream);
    WKC_TRY(x->dev, err, cudaStreamSynchronize, x->stream); /* src is the caller's again */
    if (!x->is_traced) return WICK_OK;
    x->trace.n_put++;
    x->trace.put_bytes += n;
    x->trace.copy_ns += wkc_now_ns() - t0;
    return WICK_OK;
}

int wkc_get(wk_exec *x, int32_t val, int32_t rows, float *dst, wk_err *err) {
    size_t n = 0;
    WK_TRY(value_bytes(x, val, rows, &n, err));
    WK_TRY(wkc_use(x->dev, err));
    if (!n) return WICK_OK;
    WKC_TRY(x->dev, err, cudaStreamSynchronize, x->stream); /* apart, so that the copy's time is its own */
    const uint64_t t0 = x->is_traced ? wkc_now_ns() : 0;
    WKC_TRY(x->dev, err, cudaMemcpyAsync, dst, x->val[val], n, cudaMemcpyDeviceToHost, x->stream);
    WKC_TRY(x->dev, err, cudaStreamSynchronize, x->stream);
    count_get(x, n, t0);
    return WICK_OK;
}

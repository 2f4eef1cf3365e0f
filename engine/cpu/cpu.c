/* cpu.c: the host CPU as a device: prepare a plan, run a batch through its stages. */
#include "engine/cpu/cpu.h"

#include <string.h>

#include "engine/base/ck.h"
#include "engine/base/os.h"
#include "engine/cpu/exec.h"
#include "engine/cpu/onednn.h"
#include "simd/dmath.h"
#include "simd/level.h"

static wk_exec_fn *const exec_of[WK_OP_COUNT] = {
#define WK_OP(name, class, equation) [WK_OP_##name] = wk_exec_##name,
#include "engine/graph/op.def"
#undef WK_OP
};

/* Attention: t0 .. t1-1 are tasks of its list. */
void wk_exec_attn(const wk_ctx *c, const wk_step *s, wk_range r) {
    const wk_attn_list *l = wk_attn_list_of(c->x, s->window);
    for (int32_t i = r.t0; i < r.t1; i++) wk_attn_run(c, s, l, i);
}

void *wk_val_at(const wk_ctx *c, int32_t v) {
    const wk_val *val = &c->x->plan->val[v];
    if (c->redundant && val->in_row && val->stage_def == c->stage)
        return c->x->scratch[c->rank].priv + val->priv_off;
    if (val->off == SIZE_MAX) return c->x->b->logits;
    return c->x->arena.p + val->off;
}

wk_piece wk_val_piece(const wk_ctx *c, int32_t v, wk_range r) {
    const wk_val *val = &c->x->plan->val[v];
    if (val->in_chain && c->by_block) {
        const size_t ld = (size_t)(r.r1 - r.r0);
        return (wk_piece){c->x->scratch[c->rank].chain + (size_t)val->chain_at * WK_TOK_BLOCK * ld, ld};
    }
    return (wk_piece){wk_val_f32(c, v, r.t0) + r.r0, (size_t)val->dim};
}

static size_t up64(size_t n) { return (n + 63) & ~(size_t)63; }

wk_act wk_val_act(const wk_ctx *c, int32_t v) {
    const wk_val *val = &c->x->plan->val[v];
    uint8_t *p = wk_val_at(c, v);
    const size_t dim = (size_t)val->dim, ldb = wk_val_ldb(val->dim);
    wk_act a = {
        .n = c->x->plan->max_tok, .k = val->dim, .ld = dim, .x = (const float *)(const void *)p};
    if (val->type == WK_VAL_F32) return a;
    const bool own = c->redundant && val->in_row && val->stage_def == c->stage;
    const size_t rows =
        own ? (size_t)WK_REDUNDANT
            : (size_t)(val->rows == WK_ROWS_TOK ? c->x->plan->max_tok : c->x->plan->max_out);
    a.x = NULL;
    a.ld = 32 * ldb;
    a.ldb = ldb;
    a.q = (int8_t *)p;
    p += up64(rows * 32 * ldb);
    a.d = (float *)(void *)p;
    p += up64(rows * ldb * 4);
    a.z32 = (int32_t *)(void *)p;
    p += up64(rows * ldb * 4);
    a.f32s = (float *)(void *)p;
    p += up64(rows * ldb * 4);
    a.z16 = (int32_t *)(void *)p;
    p += up64(rows * ldb * 8);
    a.s32 = (int16_t *)(void *)p;
    p += up64(rows * ldb * 2);
    a.s16 = (int16_t *)(void *)p;
    return a;
}

/* ---- cutting a stage ---------------------------------------------------------------------------- */

static int32_t rows_of_stage(const wk_exec *x, const wk_stage *st) {
    const wk_plan *p = x->plan;
    const wk_step *s = &p->step[p->order[p->chain[st->chain_first].first]];
    const int32_t v = s->dst >= 0 ? s->dst : s->src[0];
    return p->val[v].rows == WK_ROWS_TOK ? x->b->n_tok : x->b->n_out;
}

/* Activations of a block of tokens: those of quantised weights, plain ones (of 1 MiB of L2). K = 2048, 128 tokens, share of
 * the f32 peak with 480 and 600 KiB: F32 0.82, 0.85, F16 0.80, 0.84; K = 8192 of the int8 peak: Q4_0 0.69, 0.67. */
enum { ACT_L2 = 480 << 10, ACT_L2_F32 = 600 << 10 };

/* Bytes of weights that one unit of a chain reads; tokens whose activations stay in L2, if that is fewer than it says. */
static void chain_cost(const wk_exec *x, const wk_chain *ch, size_t *unit_bytes, size_t *n_tok) {
    const wk_plan *p = x->plan;
    *unit_bytes = 0;
    for (int32_t i = 0; i < ch->n; i++) {
        const wk_step *s = &p->step[p->order[ch->first + i]];
        if (s->op != WK_OP_matmul) continue;
        const wk_weight *w = &p->weight[s->w[0]];
        const wk_packed *k = &x->w[s->w[0]];
        *unit_bytes += k->panel_bytes * (size_t)((ch->unit + WK_PANEL - 1) / WK_PANEL);
        const bool plain = wk_formats[w->fmt].act == WK_X_F32;
        const size_t n = (size_t)(plain ? ACT_L2_F32 : ACT_L2) / ((size_t)w->k * (plain ? 4 : 1));
        if (n < *n_tok) *n_tok = n;
    }
}

enum { TICKET_MIN = 16384, TICKET_MAX = 65536, BLOCK_STEP = 12 };

/* Many rows: the smallest piece is work enough, in pairs of panels for the tile. */
static int32_t units_of_block(const wk_chain *ch) {
    return ch->unit % (2 * WK_PANEL) && ch->n_unit > 1 ? 2 : 1;
}

/* Memory of a thread for the values of a chain, block by block. */
static size_t chain_bytes(const wk_plan *p) {
    size_t most = 0;
    for (int32_t i = 0; i < p->n_chain; i++) {
        const wk_chain *ch = &p->chain[i];
        const int32_t cols = units_of_block(ch) * ch->unit;
        size_t n = 0;
        for (int32_t j = 0; j < ch->n; j++) {
            const int32_t dst = p->step[p->order[ch->first + j]].dst;
            if (dst >= 0 && p->val[dst].in_chain && (size_t)p->val[dst].chain_at >= n) n = (size_t)p->val[dst].chain_at + 1;
        }
        n *= (size_t)(cols < ch->rows ? cols : ch->rows) * WK_TOK_BLOCK * sizeof(float);
        if (n > most) most = n;
    }
    return most;
}

static int32_t units_per_ticket(const wk_chain *ch, size_t unit_bytes, size_t total, int n_thread,
                                int32_t n_rows) {
    size_t want = total / (8 * (size_t)n_thread);
    want = want < TICKET_MIN ? TICKET_MIN : want > TICKET_MAX ? TICKET_MAX : want;
    int32_t per = unit_bytes ? (int32_t)(want / unit_bytes) : ch->n_unit;
    if (n_rows > 1) return units_of_block(ch);
    per = per < 1 ? 1 : per + (per > 1 && per % 2); /* pairs of panels */
    return per < ch->n_unit ? per : ch->n_unit;
}

static void cut_chains(wk_exec *x, const wk_stage *st, wk_cut *cut) {
    const wk_plan *p = x->plan;
    size_t unit[WK_CUT_CHAINS], total = 0, n_tok = WK_TOK_BLOCK;
    cut->n_chain = st->chain_n;
    cut->n_rows = rows_of_stage(x, st);
    for (int32_t i = 0; i < st->chain_n; i++) {
        const wk_chain *ch = &p->chain[st->chain_first + i];
        chain_cost(x, ch, &unit[i], &n_tok);
        total += unit[i] * (size_t)ch->n_unit;
    }
    const int32_t block = n_tok < 4 * BLOCK_STEP ? 4 * BLOCK_STEP : (int32_t)n_tok;
    cut->n_block = (cut->n_rows + block - 1) / block;
    const int32_t even = cut->n_block ? (cut->n_rows + cut->n_block - 1) / cut->n_block : 1;
    cut->tok_block = (even + BLOCK_STEP - 1) / BLOCK_STEP * BLOCK_STEP;
    uint32_t n = 0;
    for (int32_t i = 0; i < st->chain_n; i++) {
        const wk_chain *ch = &p->chain[st->chain_first + i];
        cut->chain[i].per = units_per_ticket(ch, unit[i], total, x->dev->n_thread, cut->n_rows);
        cut->chain[i].first = n;
        n += (uint32_t)((ch->n_unit + cut->chain[i].per - 1) / cut->chain[i].per);
    }
    cut->n_group = n;
    cut->n_ticket = n * (uint32_t)cut->n_block;
}

/* All stages, when the batch has another shape than the last one. */
static void cut_stages(wk_exec *x) {
    if (x->b->n_tok == x->cut_tok && x->b->n_out == x->cut_out) return;
    for (int32_t i = x->span.stage_first; i < x->span.stage_first + x->span.n_stage; i++)
        if (x->plan->stage[i].chain_n) cut_chains(x, &x->plan->stage[i], &x->cut[i]);
    x->cut_tok = x->b->n_tok;
    x->cut_out = x->b->n_out;
}

static wk_tickets *tickets_of(wk_exec *x, int32_t stage) { return &x->tickets[stage & 1]; }

static void deal_stage(wk_exec *x, int32_t stage) {
    if (stage >= x->span.stage_first + x->span.n_stage) return;
    const int32_t attn = x->plan->stage[stage].attn;
    wk_cut *cut = &x->cut[stage];
    if (attn >= 0) {
        cut->n_ticket = (uint32_t)wk_attn_list_of(x, x->plan->step[attn].window)->n_task;
        wk_tickets_set_free(tickets_of(x, stage), cut->n_ticket, x->dev->n_thread);
        return;
    }
    wk_tickets_set(tickets_of(x, stage), cut->n_ticket, x->dev->n_thread);
}

/* ---- one pass ----------------------------------------------------------------------------------- */

static void exec_step(const wk_ctx *c, const wk_step *s, wk_range r) {
    if (c->made && wk_product_is(c->x, s)) return;
    if (!c->x->is_traced) {
        exec_of[s->op](c, s, r);
        return;
    }
    wk_clock *clock = &c->x->scratch[c->rank].clock;
    const bool head = s->op == WK_OP_matmul && s->dst == c->x->plan->logits;
    const uint64_t t0 = wk_os_now_ns();
    exec_of[s->op](c, s, r);
    *(head ? &clock->head_ns : &clock->op_ns[s->op]) += wk_os_now_ns() - t0;
}

static void run_row_step(const wk_ctx *c, const wk_step *s) {
    const wk_plan *p = c->x->plan;
    const bool tok = s->dst < 0 || p->val[s->dst].rows == WK_ROWS_TOK;
    const int32_t n = tok ? c->x->b->n_tok : c->x->b->n_out,
                  dim = s->dst < 0 ? 0 : p->val[s->dst].dim;
    wk_range r = {0, dim, 0, n};
    if (!c->redundant) {
        r.t0 = (int32_t)((int64_t)n * c->rank / c->x->dev->n_thread);
        r.t1 = (int32_t)((int64_t)n * (c->rank + 1) / c->x->dev->n_thread);
    }
    if (r.t1 > r.t0) exec_step(c, s, r);
}

static void barrier(const wk_ctx *c) {
    if (c->rank == 0) c->x->n_barrier++;
    const uint64_t t0 = c->x->is_traced ? wk_os_now_ns() : 0;
    wk_team_barrier(c->x->dev->team, c->rank);
    if (t0) c->x->scratch[c->rank].clock.wait_ns += wk_os_now_ns() - t0;
}

/* Row work: by every thread for itself when rows are few; else rows are dealt out. */
static void run_row_work(wk_ctx *c, const wk_stage *st) {
    wk_exec *x = c->x;
    const wk_plan *p = x->plan;
    bool plain = x->dev->n_thread > 1 && x->b->n_tok <= WK_REDUNDANT &&
                 x->b->n_out <= WK_REDUNDANT && st->chain_n;
    for (int32_t i = 0; i < st->row_n; i++) {
        const wk_val *v = &p->val[p->step[p->order[st->row_first + i]].dst];
        if (v->escapes && v->type != WK_VAL_F32) plain = false;
    }
    c->redundant = plain;
    for (int32_t i = 0; i < st->row_n; i++) {
        const wk_step *s = &p->step[p->order[st->row_first + i]];
        if (s->op == WK_OP_pick && !plain) barrier(c); /* reads rows of other threads */
        run_row_step(c, s);
        if (plain && c->rank == 0 && p->val[s->dst].escapes) {
            const wk_val *v = &p->val[s->dst];
            const size_t rows = (size_t)(v->rows == WK_ROWS_TOK ? x->b->n_tok : x->b->n_out);
            memcpy(x->arena.p + v->off, wk_val_at(c, s->dst),
                   rows * (size_t)v->dim * sizeof(float));
        }
    }
    if (st->row_n && !plain && st->chain_n) barrier(c);
}

/* Steps of one chain on the units of n of its tickets from `group` on, for one token block. */
static void run_units(const wk_ctx *c, const wk_chain *ch, const wk_cut *cut, int32_t i, int32_t group, int32_t n,
                      int32_t block) {
    const wk_plan *p = c->x->plan;
    wk_range r = {.r0 = group * cut->chain[i].per * ch->unit, .t0 = block * cut->tok_block};
    r.r1 = r.r0 + n * cut->chain[i].per * ch->unit;
    if (r.r1 > ch->rows) r.r1 = ch->rows;
    r.t1 = r.t0 + cut->tok_block < cut->n_rows ? r.t0 + cut->tok_block : cut->n_rows;
    if (r.t1 <= r.t0) return;
    for (int32_t j = 0; j < ch->n; j++) exec_step(c, &p->step[p->order[ch->first + j]], r);
}

/* n tickets from `ticket` on, of one token block: those of a chain at once. */
static void run_tickets(const wk_ctx *c, const wk_stage *st, const wk_cut *cut, uint32_t ticket,
                        uint32_t n) {
    const uint32_t block = ticket / cut->n_group;
    ticket %= cut->n_group;
    const uint32_t end = ticket + n;
    int32_t i = cut->n_chain - 1;
    while (i > 0 && ticket < cut->chain[i].first) i--;
    for (uint32_t stop; ticket < end; ticket = stop, i++) {
        const uint32_t next = i + 1 < cut->n_chain ? cut->chain[i + 1].first : cut->n_group;
        stop = end < next ? end : next;
        run_units(c, &c->x->plan->chain[st->chain_first + i], cut, i, (int32_t)(ticket - cut->chain[i].first),
                  (int32_t)(stop - ticket), (int32_t)block);
    }
}

static void run_stage(wk_ctx *c, int32_t stage) {
    wk_exec *x = c->x;
    const wk_stage *st = &x->plan->stage[stage];
    wk_cut *cut = &x->cut[stage];
    c->stage = stage;
    c->made = stage == x->region.made;
    if (!c->made) run_row_work(c, st);
    c->by_block = st->chain_n && cut->n_rows > WK_CHAIN_ROWS;
    wk_tickets *tickets = tickets_of(x, stage);
    uint32_t ticket;
    if (st->attn >= 0) {
        const wk_step *s = &x->plan->step[st->attn];
        while (wk_tickets_next(tickets, c->rank, &ticket))
            exec_step(c, s, (wk_range){.t0 = (int32_t)ticket, .t1 = (int32_t)ticket + 1});
    } else if (st->chain_n) {
        uint32_t n = 1; /* few rows: a stream of weights that runs long is read faster than short ones in turn */
        while (c->by_block ? wk_tickets_next(tickets, c->rank, &ticket)
                           : wk_tickets_next_run(tickets, c->rank, &ticket, &n))
            run_tickets(c, st, cut, ticket, n);
    }
    if (c->rank == 0) deal_stage(x, stage + 1);
    barrier(c);
}

/* cos and sin of the positions of this thread's tokens. */
static void fill_rope(wk_exec *x, int rank) {
    const int32_t n = x->b->n_tok, t0 = (int32_t)((int64_t)n * rank / x->dev->n_thread),
                  t1 = (int32_t)((int64_t)n * (rank + 1) / x->dev->n_thread);
    for (int32_t i = 0; i < x->plan->n_rope; i++) {
        const wk_rope_plan *r = &x->plan->rope[i];
        for (int32_t t = t0; t < t1; t++)
            wk_rope_row(x->cs[i] + (size_t)t * (size_t)r->n_rot, r, x->tok_pos[t]);
    }
}

/* Pages handed out anew are zeroed, then shared tails copied: a copy's target may be a new page. */
static void fill_pages(const wk_ctx *c) {
    const wk_exec *x = c->x;
    const int rank = c->rank;
    for (int32_t i = rank; i < x->b->n_zero; i += x->dev->n_thread)
        memset(x->kv.p + (size_t)x->b->zero[i] * x->kv_page_bytes, 0, x->kv_page_bytes);
    if (x->b->n_copy && x->b->n_zero) barrier(c);
    for (int32_t i = rank; i < x->b->n_copy; i += x->dev->n_thread)
        memcpy(x->kv.p + (size_t)x->b->copy[2 * i] * x->kv_page_bytes,
               x->kv.p + (size_t)x->b->copy[2 * i + 1] * x->kv_page_bytes, x->kv_page_bytes);
}

static void run_rank(void *ud, int rank) {
    wk_exec *x = ud;
    wk_ctx c = {.x = x, .rank = rank};
    if (x->region.made == WK_NO_STAGE) { /* the first region of the pass */
        fill_pages(&c);
        fill_rope(x, rank);
        barrier(&c);
    }
    for (int32_t s = x->region.from; s < x->region.to; s++) run_stage(&c, s);
    if (x->region.rows_of == WK_NO_STAGE) return;
    c.stage = x->region.rows_of;
    c.made = false;
    run_row_work(&c, &x->plan->stage[c.stage]);
}

/* One region for the pass, or one up to each stage that has products of oneDNN's. */
static void run_regions(wk_exec *x) {
    const int32_t end = x->span.stage_first + x->span.n_stage;
    int32_t from = x->span.stage_first, made = WK_NO_STAGE;
    for (;;) {
        int32_t to = made == from ? from + 1 : from;
        while (to < end && !(x->dev->onednn && wk_products_wanted(x, to))) to++;
        x->region.from = from;
        x->region.to = to;
        x->region.made = made;
        x->region.rows_of = to < end ? to : WK_NO_STAGE;
        wk_team_run(x->dev->team, run_rank, x);
        if (to == end) return;
        wk_products_run(x, to);
        from = made = to;
    }
}

static int cpu_run(wk_exec *x, const wk_batch *b, wk_err *err) {
    if (b->n_tok < 1 || b->n_tok > x->plan->max_tok || b->n_out > x->plan->max_out)
        return wk_fail(err, WICK_E_ARG,
                       "a batch of %d tokens and %d rows, the plan takes %d and %d", (int)b->n_tok,
                       (int)b->n_out, (int)x->plan->max_tok, (int)x->plan->max_out);
    x->b = b;
    for (int32_t s = 0; s < b->n_seq; s++)
        for (int32_t i = 0; i < b->seq[s].n_tok; i++) {
            x->tok_pos[b->seq[s].first + i] = b->seq[s].pos0 + i;
            x->tok_seq[b->seq[s].first + i] = s;
        }
    WK_TRY(wk_attn_plan(x));
    cut_stages(x);
    deal_stage(x, x->span.stage_first);
    const uint64_t t0 = x->is_traced ? wk_os_now_ns() : 0;
    run_regions(x);
    if (x->is_traced) x->trace_wall += wk_os_now_ns() - t0;
    x->trace_pass++;
    x->b = NULL;
    return WICK_OK;
}

static int cpu_wait(wk_exec *x, wk_err *err) {
    (void)x; /* run returns when the pass is done */
    (void)err;
    return WICK_OK;
}

/* ---- values of other parts ---------------------------------------------------------------------- */

static int value_bytes(const wk_exec *x, int32_t val, int32_t rows, size_t *bytes, wk_err *err) {
    if (val < 0 || val >= x->plan->n_val)
        return wk_fail(err, WICK_E_ARG, "value %d cannot be carried: the plan has %d", (int)val, (int)x->plan->n_val);
    const wk_val *v = &x->plan->val[val];
    const int32_t most = v->rows == WK_ROWS_TOK ? x->plan->max_tok : x->plan->max_out;
    if (v->type != WK_VAL_F32 || v->off == SIZE_MAX || v->in_chain || rows < 0 || rows > most)
        return wk_fail(err, WICK_E_ARG, "%d rows of value %d cannot be carried: f32 values of at most %d rows can", (int)rows,
                       (int)val, (int)most);
    *bytes = (size_t)rows * (size_t)v->dim * sizeof(float);
    return WICK_OK;
}

static int cpu_put(wk_exec *x, int32_t val, int32_t rows, const float *src, wk_err *err) {
    size_t n = 0;
    WK_TRY(value_bytes(x, val, rows, &n, err));
    if (n) memcpy(x->arena.p + x->plan->val[val].off, src, n);
    return WICK_OK;
}

static int cpu_get(wk_exec *x, int32_t val, int32_t rows, float *dst, wk_err *err) {
    size_t n = 0;
    WK_TRY(value_bytes(x, val, rows, &n, err));
    if (n) memcpy(dst, x->arena.p + x->plan->val[val].off, n);
    return WICK_OK;
}

/* ---- trace -------------------------------------------------------------------------------------- */

static void cpu_trace_start(wk_exec *x) {
    for (int i = 0; i < x->dev->n_thread; i++) x->scratch[i].clock = (wk_clock){0};
    x->trace_pass = x->trace_wall = 0;
    x->trace_barrier = x->n_barrier;
    x->is_traced = true;
}

static void cpu_trace_stop(wk_exec *x) { x->is_traced = false; }

static void cpu_trace_read(const wk_exec *x, wk_trace *out) {
    *out = (wk_trace){.n_pass = x->trace_pass,
                      .n_barrier = x->n_barrier - x->trace_barrier,
                      .wall_ns = x->trace_wall};
    for (int i = 0; i < x->dev->n_thread; i++) {
        const wk_clock *c = &x->scratch[i].clock;
        for (int op = 0; op < WK_OP_COUNT; op++) out->op_ns[op] += c->op_ns[op];
        out->head_ns += c->head_ns;
        out->wait_ns += c->wait_ns;
    }
}

/* ---- prepare ------------------------------------------------------------------------------------ */

static size_t scratch_bytes(const wk_plan *p, size_t cols, size_t *part) {
    const size_t hd = (size_t)p->head_dim;
    const size_t sizes[] = {
        up64(p->priv_bytes), /* 0 private values */
        2 * (size_t)WK_PANEL_CODE,
        2 * (size_t)WK_PANEL_CODE * 4, /* 1, 2 codes, f32 */
        2 * (size_t)WK_PANEL_SUB * 12, /* 3 s, c (f32), mn, sc (i16) */
        (size_t)WK_TOK_BLOCK * 3 * WK_PANEL * 4, /* 4 acc_rows, tail */
        up64(cols * hd * 4),
        up64(cols * WK_KV_PAGE * 4),   /* 5, 6 q, score */
        up64(cols * (hd + 2) * 4), /* 7 a partial */
        2 * up64(cols),
        up64(hd * 4), /* 8, 9 limits, cast */
        wk_attn_act_bytes(p, cols), /* 10 queries as A32, values as f32 */
        chain_bytes(p), /* 11 values of chains */
    };
    size_t total = 64;
    for (size_t i = 0; i < WK_COUNT(sizes); i++) {
        if (part) part[i] = total;
        total += up64(sizes[i]);
    }
    return total;
}

static bool make_scratch(wk_scratch *s, const wk_plan *p, size_t cols) {
    size_t at[12];
    s->base = wk_alloc_aligned(scratch_bytes(p, cols, at));
    if (!s->base) return false;
    uint8_t *b = s->base;
    s->priv = b + at[0];
    for (size_t i = 0; i < 2; i++) {
        s->panel[i].code = b + at[1] + i * WK_PANEL_CODE;
        s->panel[i].f = (float *)(void *)(b + at[2] + i * WK_PANEL_CODE * 4);
        uint8_t *sub = b + at[3] + i * (size_t)WK_PANEL_SUB * 12;
        s->panel[i].s = (float *)(void *)sub;
        s->panel[i].c = (float *)(void *)(sub + (size_t)WK_PANEL_SUB * 4);
        s->panel[i].mn = (int16_t *)(void *)(sub + (size_t)WK_PANEL_SUB * 8);
        s->panel[i].sc = (int16_t *)(void *)(sub + (size_t)WK_PANEL_SUB * 10);
    }
    s->acc_rows = (float *)(void *)(b + at[4]);
    s->tail = s->acc_rows + (size_t)WK_TOK_BLOCK * 2 * WK_PANEL;
    s->q = (float *)(void *)(b + at[5]);
    s->score = (float *)(void *)(b + at[6]);
    float *part = (float *)(void *)(b + at[7]);
    s->acc = (wk_partial){part, part + cols, part + 2 * cols};
    s->lo = b + at[8];
    s->hi = b + at[8] + up64(cols);
    s->cast = b + at[9];
    wk_attn_place_act(s, b + at[10], p, cols);
    s->chain = (float *)(void *)(b + at[11]);
    return true;
}

static wk_part all_of(const wk_plan *p) { return (wk_part){0, p->n_stage, 0, p->n_layer}; }

static size_t kv_head_bytes(const wk_plan *p) {
    return wk_kv_k_bytes(p->kv_type, p->head_dim) + wk_kv_v_bytes(p->kv_type, p->head_dim);
}
static size_t kv_page_bytes(const wk_plan *p, const wk_part *part) {
    return kv_head_bytes(p) * (size_t)part->n_layer * (size_t)p->n_head_kv;
}
static size_t attn_columns(const wk_plan *p) {
    const int32_t g = p->n_head / p->n_head_kv;
    return (size_t)(g > WK_ATTN_COLS ? g : WK_ATTN_COLS);
}

/* Partials, one per page and head; tasks: token blocks, one ragged block a sequence, runs of pages. */
static size_t part_bytes(const wk_plan *p, uint32_t n_page) {
    return (size_t)n_page * (size_t)p->n_head * ((size_t)p->head_dim + 2) * sizeof(float);
}
static size_t attn_tasks(const wk_plan *p, uint32_t n_page, int n_thread) {
    return (size_t)p->n_head_kv * (2 * (size_t)p->max_tok + n_page / 2 + 4 * (size_t)n_thread);
}

static bool make_attn(wk_exec *x) {
    const wk_plan *p = x->plan;
    x->attn_cols = (int32_t)attn_columns(p);
    x->part_room = (size_t)x->n_page * (size_t)p->n_head_kv;
    x->part = wk_alloc_aligned(part_bytes(p, x->n_page));
    x->attn_room = (int32_t)attn_tasks(p, x->n_page, x->dev->n_thread);
    x->arrive = wk_alloc_array((size_t)x->attn_room, sizeof(*x->arrive));
    x->attn = wk_new_n(wk_attn_list, (size_t)p->n_layer);
    if (!x->part || !x->arrive || !x->attn) return false;
    for (int32_t i = 0; i < p->n_step; i++) {
        if (p->step[i].op != WK_OP_attn || wk_attn_list_of(x, p->step[i].window)) continue;
        wk_attn_list *l = &x->attn[x->n_attn++];
        l->window = p->step[i].window;
        l->task = wk_new_n(wk_attn_task, (size_t)x->attn_room);
        if (!l->task) return false;
    }
    return true;
}

static bool make_rows(wk_exec *x) {
    const wk_plan *p = x->plan;
    const size_t n = (size_t)p->max_tok;
    x->tok_pos = wk_new_n(int32_t, n);
    x->tok_seq = wk_new_n(int32_t, n);
    x->cs = wk_new_n(float *, (size_t)p->n_rope + 1);
    x->scratch = wk_new_n(wk_scratch, (size_t)x->dev->n_thread);
    if (!x->tok_pos || !x->tok_seq || !x->cs || !x->scratch) return false;
    for (int32_t i = 0; i < p->n_rope; i++) {
        x->cs[i] = wk_alloc_aligned(n * (size_t)p->rope[i].n_rot * sizeof(float));
        if (!x->cs[i]) return false;
    }
    for (int i = 0; i < x->dev->n_thread; i++)
        if (!make_scratch(&x->scratch[i], p, attn_columns(p))) return false;
    return true;
}

static void cpu_unprepare(wk_exec *x) {
    if (!x) return;
    for (int i = 0; x->scratch && i < x->dev->n_thread; i++) wk_free_aligned(x->scratch[i].base);
    for (int32_t i = 0; x->cs && i < x->plan->n_rope; i++) wk_free_aligned(x->cs[i]);
    for (int32_t i = 0; i < x->n_attn; i++) wk_free(x->attn[i].task);
    wk_free(x->attn);
    wk_free((void *)x->arrive);
    wk_free_aligned(x->part);
    wk_free(x->scratch);
    wk_free(x->cs);
    wk_free(x->tok_pos);
    wk_free(x->tok_seq);
    wk_free(x->w);
    wk_free_aligned(x->cut);
    wk_warm_stop(x->warm);
    wk_pages_unmap(&x->weights);
    wk_pages_unmap(&x->arena);
    wk_pages_unmap(&x->kv);
    wk_pages_unmap(&x->wide);
    wk_free_aligned(x);
}

enum { KV_FIRST = 16 << 20 }; /* bytes of the cache that the first some hundred positions take */

/* First touch by the team of what the first requests need; the rest of the cache is populated in the background. Its
 * pages are zeroed by the team when they are handed out (fill_pages). */
static void touch_rank(void *ud, int rank) {
    wk_exec *x = ud;
    const struct {
        uint8_t *p;
        size_t n;
    } m[] = {{x->arena.p, x->arena.n},
             {(uint8_t *)x->part, part_bytes(x->plan, x->n_page)},
             {x->kv.p, x->kv.n < KV_FIRST ? x->kv.n : KV_FIRST}};
    for (size_t i = 0; i < WK_COUNT(m); i++) {
        const size_t t = (size_t)x->dev->n_thread, a = m[i].n * (size_t)rank / t,
                     b = m[i].n * ((size_t)rank + 1) / t;
        wk_os_populate(m[i].p + a, b - a, true);
    }
}

static bool map_pages(const wk_dev *d, wk_pages *m, size_t n) {
    return d->host.cpu && d->host.cpu->small_pages ? wk_pages_map_small(m, n) : wk_pages_map(m, n);
}

static int cpu_prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n_page,
                       wk_err *err) {
    int rc = WICK_OK;
    size_t kv_bytes;
    wk_exec *x = wk_alloc_aligned(sizeof(*x));
    if (!x) return wk_fail(err, WICK_E_NOMEM, "no memory for the device's state");
    x->dev = d;
    x->plan = p;
    x->span = part ? *part : all_of(p);
    x->n_page = n_page;
    x->kv_head_bytes = kv_head_bytes(p);
    x->kv_page_bytes = kv_page_bytes(p, &x->span);
    x->w = wk_new_n(wk_packed, (size_t)p->n_weight + 1);
    x->cut = wk_alloc_aligned((size_t)p->n_stage * sizeof(*x->cut));
    if (!x->w || !x->cut || !wk_mul(&kv_bytes, x->kv_page_bytes, n_page) || !make_rows(x) ||
        !make_attn(x) || !map_pages(d, &x->arena, p->arena_bytes + 64) ||
        !map_pages(d, &x->kv, kv_bytes + 64) ||
        (d->onednn && !wk_pages_map(&x->wide, wk_products_bytes(p)))) {
        rc = wk_fail(err, WICK_E_NOMEM,
                     "no memory for %zu MiB of activations and %zu MiB of KV cache",
                     p->arena_bytes >> 20, (x->kv_page_bytes >> 10) * n_page >> 10);
        goto out;
    }
    if ((rc = wk_pack_all(x->w, &x->weights, p, &x->span, d->team, &d->host, err))) goto out;
    wk_team_run(d->team, touch_rank, x);
    if (x->kv.n > KV_FIRST) x->warm = wk_warm_start(x->kv.p + KV_FIRST, x->kv.n - KV_FIRST);
    *out = x;
    x = NULL;
out:
    cpu_unprepare(x);
    return rc;
}

/* What a mapping takes when all of it is touched (arena.c). */
static size_t mapped(size_t n) {
    const size_t page = 4096;
    return n > SIZE_MAX - page ? n : (n + page - 1) / page * page;
}

static size_t count_windows(const wk_plan *p) {
    size_t n = 0;
    for (int32_t i = 0; i < p->n_step; i++) {
        if (p->step[i].op != WK_OP_attn) continue;
        int32_t j = 0;
        while (p->step[j].op != WK_OP_attn || p->step[j].window != p->step[i].window) j++;
        n += j == i;
    }
    return n;
}

/* In the order of cpu_prepare. */
static size_t cpu_bytes(const wk_plan *p, const wk_part *asked, uint32_t n_page, int n_thread) {
    const wk_part part = asked ? *asked : all_of(p);
    size_t weights = 0, kv, rows = 2 * sizeof(int32_t);
    if (!wk_pack_bytes(p, &part, &weights) || !wk_mul(&kv, kv_page_bytes(p, &part), n_page)) return SIZE_MAX;
    for (int32_t i = 0; i < p->n_rope; i++) rows += (size_t)p->rope[i].n_rot * sizeof(float);
    const size_t attn = attn_tasks(p, n_page, n_thread) *
                        (sizeof(_Atomic int32_t) + count_windows(p) * sizeof(wk_attn_task));
    return mapped(weights) + mapped(p->arena_bytes + 64) + mapped(kv + 64) +
           rows * (size_t)p->max_tok + attn + part_bytes(p, n_page) +
           (size_t)n_thread * scratch_bytes(p, attn_columns(p), NULL);
}

/* ---- the device --------------------------------------------------------------------------------- */

static int cpu_count(char *why, size_t n) {
    (void)why;
    (void)n;
    return 1;
}

static void cpu_close(wk_dev *d) {
    if (!d) return;
    wk_team_free(d->team);
    wk_onednn_close(d->onednn);
    wk_free(d);
}

static int cpu_open(wk_dev **out, int index, const wk_host *host, wk_err *err) {
    if (index != 0)
        return wk_fail(err, WICK_E_DEVICE, "there is one cpu device, index %d was asked for",
                       index);
    wk_dev *d = wk_new(wk_dev);
    if (!d) return wk_fail(err, WICK_E_NOMEM, "no memory for the cpu device");
    d->host = *host;
    d->n_thread = host->n_thread;
    wk_kernels_init(&d->k, wk_cpu_detect() & host->cpu_mask);
    d->team = wk_team_new(host->n_thread, host->n_cpu);
    if (!d->team) {
        cpu_close(d);
        return wk_fail(err, WICK_E_NOMEM, "a team of %d threads could not be made", host->n_thread);
    }
    if (host->cpu && host->cpu->n_pin && !wk_team_bind(d->team, host->cpu->pin, host->cpu->n_pin)) {
        cpu_close(d);
        return wk_fail(err, WICK_E_UNSUPPORTED, "the system does not let threads be bound to CPUs");
    }
    const int rc = host->cpu && host->cpu->onednn ? wk_onednn_open(&d->onednn, d->n_thread, err) : WICK_OK;
    if (rc) {
        cpu_close(d);
        return rc;
    }
    *out = d;
    return WICK_OK;
}

static int cpu_info(wk_dev *d, bool measure, wk_dev_info *out, wk_err *err) {
    (void)d;
    (void)measure; /* the bench's probes do it */
    (void)err;
    wk_machine m;
    wk_os_machine(&m);
    *out = (wk_dev_info){.name = "host", .mem_total = m.mem_cgroup, .mem_free = m.mem_free};
    return WICK_OK;
}

static bool cpu_can(wk_dev *d, const wk_plan *p, const wk_step *s) {
    (void)d;
    (void)p;
    return s->op < WK_OP_COUNT;
}

const wk_backend_ops *wk_cpu_backend(void) {
    static const wk_backend_ops ops = {.abi = WK_BACKEND_ABI,
                                       .size = sizeof(wk_backend_ops),
                                       .name = "cpu",
                                       .count = cpu_count,
                                       .open = cpu_open,
                                       .close = cpu_close,
                                       .info = cpu_info,
                                       .can = cpu_can,
                                       .prepare = cpu_prepare,
                                       .run = cpu_run,
                                       .wait = cpu_wait,
                                       .unprepare = cpu_unprepare,
                                       .put = cpu_put,
                                       .get = cpu_get,
                                       .bytes = cpu_bytes,
                                       .trace_start = cpu_trace_start,
                                       .trace_stop = cpu_trace_stop,
                                       .trace_read = cpu_trace_read};
    return &ops;
}

const wk_kernels *wk_cpu_kernels(const wk_dev *d) { return &d->k; }

uint64_t wk_cpu_barriers(const wk_exec *x) { return x->n_barrier; }

/* backend_ops.c: plans made by hand around one operation. Its inputs are values that steps before the part would write;
 * its result is read by a step behind it: the part alone is run, as a device runs its share of a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/arena.h"
#include "engine/graph/slots.h"
#include "engine/graph/stage.h"
#include "tests/check/check_backend.h"

enum { MOST = 12, N_VOCAB = 37 };

typedef struct hand {
    wk_plan p;
    wk_step step[MOST];
    wk_val val[MOST];
    wk_weight weight[MOST];
    uint8_t *rows[MOST];
    wk_rope_plan rope;
    double freq[128];
    wk_part part;
    int32_t n_in, out;
} hand;

/* One pass. */
typedef struct pass {
    int32_t n_tok, n_out;
    int32_t tok[BC_TOK], out[BC_TOK];
    wk_batch_seq seq[4];
    int32_t n_seq, n_zero;
    const uint32_t *zero;
} pass;

static void begin(hand *h, int32_t n_head, int32_t n_head_kv, int32_t head_dim, int kv_type) {
    memset(h, 0, sizeof(*h));
    h->p = (wk_plan){.n_layer = 1, .dim = 32, .n_head = n_head, .n_head_kv = n_head_kv, .head_dim = head_dim,
                     .n_ff = 32, .n_vocab = N_VOCAB, .n_ctx_train = 1024, .max_tok = BC_TOK, .max_out = BC_TOK,
                     .kv_type = kv_type, .step = h->step, .val = h->val, .weight = h->weight, .rope = &h->rope};
}
static void begin_plain(hand *h) { begin(h, 1, 1, 32, WK_KV_F16); }

static int32_t add_step(hand *h, wk_step s, int type, int rows, int32_t dim) {
    wk_plan *p = &h->p;
    s.dst = -1;
    for (int i = 0; i < 3; i++)
        if (s.src[i] >= 0) h->val[s.src[i]].last = p->n_step;
    if (dim) {
        s.dst = p->n_val;
        h->val[p->n_val++] =
            (wk_val){.type = (uint8_t)type, .rows = (uint8_t)rows, .dim = dim, .def = p->n_step, .last = -1};
    }
    h->step[p->n_step++] = s;
    return s.dst;
}

static wk_step step_of(int op, int32_t a, int32_t b) {
    return (wk_step){.op = (uint16_t)op, .src = {a, b, -1}, .w = {-1, -1}};
}

/* All inputs come first. */
static int32_t input(hand *h, int32_t dim) {
    h->n_in++;
    return add_step(h, step_of(WK_OP_embed, -1, -1), WK_VAL_F32, WK_ROWS_TOK, dim);
}
static int32_t f32(hand *h, wk_step s, int32_t dim) {
    const int rows = s.src[0] >= 0 ? h->val[s.src[0]].rows : WK_ROWS_TOK;
    return h->out = add_step(h, s, WK_VAL_F32, s.op == WK_OP_pick ? WK_ROWS_OUT : rows, dim);
}

static int32_t add_weight(bc *c, hand *h, int fmt, int32_t n_row, int32_t k, bool is_vector, ck_weight kind) {
    const int32_t i = h->p.n_weight++;
    const size_t row = wk_row_bytes(fmt, (size_t)k);
    /* Shared: a device may drop the pages that it has read, which must lose nothing. */
    h->rows[i] = mmap(NULL, row * (size_t)n_row, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (h->rows[i] == MAP_FAILED) exit(2);
    ck_rows(&c->rnd, h->rows[i], fmt, n_row, k, kind);
    h->weight[i] = (wk_weight){.name = "weight", .data = h->rows[i], .fmt = fmt, .layer = 0, .is_vector = is_vector,
                               .n_row = n_row, .k = k, .row_bytes = row, .lora_of = -1};
    h->p.weight_bytes += row * (size_t)n_row;
    return i;
}

/* The step that reads the result, and the stages. */
static bool finish(bc *c, hand *h) {
    wk_err err = {0};
    h->p.logits = add_step(h, step_of(WK_OP_pick, h->out, -1), WK_VAL_F32, WK_ROWS_OUT, N_VOCAB);
    for (int32_t i = 0; i < h->p.n_step; i++) h->step[i].layer = 0;
    if (wk_stage_build(&h->p, true, &err) || wk_slots_place(&h->p, false, true, &err)) {
        bc_fail(c, "%s", err.message);
        return false;
    }
    h->part = (wk_part){.stage_first = h->n_in, .n_stage = h->p.n_stage - h->n_in - 1, .n_layer = 1};
    return true;
}

static void fini(hand *h) {
    for (int i = 0; i < h->p.n_weight; i++)
        (void)munmap(h->rows[i], h->weight[i].row_bytes * (size_t)h->weight[i].n_row);
    wk_free(h->p.order);
    wk_free(h->p.chain);
    wk_free(h->p.stage);
}

static void floats(bc *c, float *x, size_t n, ck_data data) {
    for (size_t i = 0; i < n; i++) x[i] = ck_gauss(&c->rnd);
    if (data != CK_GAUSS) ck_floats(&c->rnd, x, n, data);
}

/* One device, one pass. */
static bool go(bc *c, const wk_backend_ops *ops, wk_exec *x, const hand *h, const wk_batch *b, float *const *in,
               float *out) {
    wk_err err = {0};
    bool ok = true;
    const int32_t rows = h->val[h->out].rows == WK_ROWS_TOK ? b->n_tok : b->n_out;
    for (int32_t i = 0; i < h->n_in && ok; i++) ok = !ops->put(x, i, b->n_tok, in[i], &err);
    if (!ok || ops->run(x, b, &err) || ops->get(x, h->out, rows, out, &err) || ops->wait(x, &err)) {
        bc_fail(c, "%s: %s", ops->name, err.message);
        return false;
    }
    return true;
}

static void run_pass(bc *c, hand *h, wk_exec *const *x, const pass *p, ck_data data, double bound) {
    float *in[4] = {0};
    const size_t n = (size_t)(h->val[h->out].rows == WK_ROWS_TOK ? p->n_tok : p->n_out) * (size_t)h->val[h->out].dim;
    float *want = malloc((n + 1) * sizeof(float)), *got = malloc((n + 1) * sizeof(float));
    uint8_t bad[2][BC_TOK] = {{0}};
    for (int32_t i = 0; i < h->n_in; i++) {
        const size_t m = (size_t)p->n_tok * (size_t)h->val[i].dim;
        in[i] = malloc(m * sizeof(float));
        if (!in[i]) exit(2);
        floats(c, in[i], m, data);
    }
    if (!want || !got) exit(2);
    memset(got, 0xff, n * sizeof(float));
    got[n] = 1.5f;
    wk_batch b = {.n_tok = p->n_tok, .n_seq = p->n_seq, .n_out = p->n_out, .tok = p->tok, .out = p->out, .seq = p->seq,
                  .zero = p->zero, .n_zero = p->n_zero, .bad_tok = bad[0]};
    wk_batch b1 = b;
    b1.bad_tok = bad[1];
    if (go(c, c->cpu, x[0], h, &b, in, want) && go(c, c->mod, x[1], h, &b1, in, got) &&
        bc_same(c, "result", want, got, n, bound)) {
        if (memcmp(&got[n], &(float){1.5f}, sizeof(float)) != 0) bc_fail(c, "more rows were written than asked for");
        if (memcmp(bad[0], bad[1], BC_TOK) != 0) bc_fail(c, "other tokens are marked as not fitting the cache");
    }
    for (int i = 0; i < 4; i++) free(in[i]);
    free(want);
    free(got);
}

/* Prepares both; false: nothing to run. */
static bool open_both(bc *c, hand *h, wk_exec **x) {
    wk_err err = {0};
    x[0] = x[1] = NULL;
    if (c->cpu->prepare(&x[0], c->cpu_dev, &h->p, &h->part, BC_PAGE, &err) ||
        c->mod->prepare(&x[1], c->mod_dev, &h->p, &h->part, BC_PAGE, &err)) {
        bc_fail(c, "prepare: %s", err.message);
        return false;
    }
    for (int i = 0; i < h->p.n_weight; i++) /* is not read again */
        memset(h->rows[i], 0xee, h->weight[i].row_bytes * (size_t)h->weight[i].n_row);
    return true;
}
static void close_both(bc *c, wk_exec **x) {
    c->cpu->unprepare(x[0]);
    c->mod->unprepare(x[1]);
}

/* n tokens of one sequence from position 0 on; the third part of their rows is wanted. */
static pass plain_pass(bc *c, int32_t n) {
    static const uint32_t page[] = {3, 1, 2};
    pass p = {.n_tok = n, .n_seq = 1, .zero = page, .n_zero = 3};
    p.seq[0] = (wk_batch_seq){0, n, 0, 3, page};
    for (int32_t i = 0; i < n; i++) {
        p.tok[i] = ck_range(&c->rnd, 0, N_VOCAB - 1);
        if (i % 3 == n % 3 || n == 1) p.out[p.n_out++] = i;
    }
    return p;
}

/* A case with several numbers of tokens. */
static void run_rows(bc *c, hand *h, int op, int fmt, ck_data data, double bound) {
    static const int32_t n_tok[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 33, BC_TOK};
    wk_exec *x[2];
    if (finish(c, h) && bc_can(c, &h->p, &h->part, op, fmt) && open_both(c, h, x)) {
        for (size_t i = 0; i < WK_COUNT(n_tok); i++) {
            const pass p = plain_pass(c, n_tok[i]);
            run_pass(c, h, x, &p, data, bound);
        }
        close_both(c, x);
    }
    fini(h);
}

/* Data that only equal bits can be asked of. */
static ck_data nasty(const bc *c, int i) { return c->nmse || i % 2 == 0 ? CK_GAUSS : CK_MIXED; }

/* ---- matrices ------------------------------------------------------------------------------------ */

static void check_matmul(bc *c, int fmt, int32_t k, int32_t n_row, ck_weight kind, ck_data data) {
    hand h;
    const int act = wk_formats[fmt].act;
    if (!bc_case(c, "matmul %s, %d rows of %d, weights %d, values %d", wk_formats[fmt].name, (int)n_row, (int)k,
                 (int)kind, (int)data))
        return;
    begin_plain(&h);
    int32_t x = input(&h, k);
    if (act != WK_X_F32)
        x = add_step(&h, step_of(WK_OP_quant, x, -1), act == WK_X_A32 ? WK_VAL_A32 : WK_VAL_A256, WK_ROWS_TOK, k);
    wk_step s = step_of(WK_OP_matmul, x, -1);
    s.w[0] = add_weight(c, &h, fmt, n_row, k, false, kind);
    (void)f32(&h, s, n_row);
    if (act != WK_X_F32) c->op_case[WK_OP_quant]++;
    run_rows(c, &h, WK_OP_matmul, fmt, data, fmt == WK_FMT_F32 ? BC_EXACT : BC_ROUNDED);
}

static void matmuls(bc *c, int fmt) {
    static const int32_t by_block[3][5] = {{1, 33, 64, 200, 577}, {1, 3, 5, 8, 21}, {1, 2, 3, 5, 0}};
    static const int32_t n_row[] = {1, 16, 17, 100};
    const int32_t block = wk_formats[fmt].block;
    const int32_t *of = by_block[block == 1 ? 0 : block == 32 ? 1 : 2];
    for (int i = 0; i < 5; i++)
        for (size_t j = 0; j < WK_COUNT(n_row) && of[i]; j++) {
            check_matmul(c, fmt, of[i] * block, n_row[j], CK_W_PLAIN, CK_GAUSS);
            if (c->nmse) continue;
            check_matmul(c, fmt, of[i] * block, n_row[j], (ck_weight)(1 + (i + (int)j) % (CK_W_COUNT - 1)),
                         nasty(c, i + (int)j));
        }
}

static void check_embed(bc *c, int fmt, int32_t k, float scale) {
    hand h;
    if (!bc_case(c, "embed %s, rows of %d, scale %g", wk_formats[fmt].name, (int)k, (double)scale)) return;
    begin_plain(&h);
    wk_step s = step_of(WK_OP_embed, -1, -1);
    s.w[0] = add_weight(c, &h, fmt, N_VOCAB, k, false, CK_W_PLAIN);
    s.scale = scale;
    (void)f32(&h, s, k);
    run_rows(c, &h, WK_OP_embed, fmt, CK_GAUSS, BC_EXACT);
}

/* ---- rows and elements --------------------------------------------------------------------------- */

static void check_rms(bc *c, int fmt, int32_t n_head, int32_t dim, int op, int i) {
    hand h;
    if (!bc_case(c, "%s of %d x %d, %s", wk_op_name(op), (int)n_head, (int)dim, wk_formats[fmt].name)) return;
    begin(&h, n_head, n_head, dim, WK_KV_F16);
    wk_step s = step_of(op, input(&h, n_head * dim), -1);
    s.w[0] = add_weight(c, &h, fmt, 1, dim, true, CK_W_PLAIN);
    s.eps = 1e-5f;
    s.n_head = s.n_head_kv = n_head;
    s.head_dim = dim;
    (void)f32(&h, s, n_head * dim);
    run_rows(c, &h, op, -1, nasty(c, i), BC_EXACT);
}

/* Element by element; two sources, or one and a vector. */
static void check_elem(bc *c, int op, int fn, int32_t dim, int i) {
    hand h;
    if (!bc_case(c, "%s %d of %d", wk_op_name(op), fn, (int)dim)) return;
    begin_plain(&h);
    const int32_t a = input(&h, dim), b = op == WK_OP_add || op == WK_OP_lora || op == WK_OP_glu ? input(&h, dim) : -1;
    wk_step s = step_of(op, a, b);
    s.fn = (uint8_t)fn;
    if (op == WK_OP_bias) s.w[0] = add_weight(c, &h, WK_FMT_F32, 1, dim, true, CK_W_PLAIN);
    if (op == WK_OP_lora) s.scale = 0.37f;
    if (op == WK_OP_softcap) s.softcap = 30.0f;
    (void)f32(&h, s, dim);
    run_rows(c, &h, op, -1, nasty(c, i), BC_EXACT);
}

static void check_rope(bc *c, int pairing, int32_t n_head, int32_t hd, int32_t n_rot, float mscale) {
    hand h;
    if (!bc_case(c, "rope %d, %d heads of %d, %d turned, by %g", pairing, (int)n_head, (int)hd, (int)n_rot,
                 (double)mscale))
        return;
    begin(&h, n_head, n_head, hd, WK_KV_F16);
    h.rope = (wk_rope_plan){.n_rot = n_rot, .freq = h.freq, .mscale = mscale};
    h.p.n_rope = 1;
    double f = 1;
    for (int32_t i = 0; i < n_rot / 2; i++, f *= 0.7) h.freq[i] = f;
    wk_step s = step_of(WK_OP_rope, input(&h, n_head * hd), -1);
    s.n_head = s.n_head_kv = n_head;
    s.head_dim = hd;
    s.pairing = (uint8_t)pairing;
    (void)f32(&h, s, n_head * hd);
    run_rows(c, &h, WK_OP_rope, -1, CK_GAUSS, BC_EXACT);
}

/* ---- cache and attention ------------------------------------------------------------------------- */

typedef struct heads {
    int32_t n, n_kv, dim, window;
    float softcap;
} heads;

static void attention_plan(hand *h, const heads *a, int kv) {
    begin(h, a->n, a->n_kv, a->dim, kv);
    const int32_t q = input(h, a->n * a->dim), k = input(h, a->n_kv * a->dim), v = input(h, a->n_kv * a->dim);
    wk_step s = step_of(WK_OP_kvput, k, -1);
    s.n_head = s.n_head_kv = a->n_kv;
    s.head_dim = a->dim;
    (void)add_step(h, s, 0, 0, 0);
    s.src[0] = v;
    s.which = 1;
    (void)add_step(h, s, 0, 0, 0);
    s = step_of(WK_OP_attn, q, -1);
    s.n_head = a->n;
    s.n_head_kv = a->n_kv;
    s.head_dim = a->dim;
    s.window = a->window;
    s.softcap = a->softcap;
    s.scale = 0.125f;
    (void)f32(h, s, a->n * a->dim);
}

/* Two sequences: one begins with 70 tokens and goes on by one, the other comes later with some. */
static void run_attention(bc *c, hand *h, wk_exec **x, ck_data data, double bound) {
    static const uint32_t page[2][4] = {{3, 0, 7, 8}, {5, 2, 1, 4}};
    static const int32_t step[][2] = {{BC_TOK, 0}, {1, 0}, {1, 20}, {40, 30}, {1, 1}, {0, 44}, {30, 1}, {1, 1}, {2, 3}};
    int32_t past[2] = {0};
    for (size_t i = 0; i < WK_COUNT(step); i++) {
        uint32_t zero[8];
        pass p = {.zero = zero};
        for (int s = 0; s < 2; s++) {
            const int32_t n = step[i][s], end = past[s] + n;
            if (!n) continue;
            for (int32_t j = (past[s] + 63) / 64; j < (end + 63) / 64; j++) zero[p.n_zero++] = page[s][j];
            p.seq[p.n_seq++] = (wk_batch_seq){p.n_tok, n, past[s], (end + 63) / 64, page[s]};
            p.n_tok += n;
            past[s] = end;
        }
        run_pass(c, h, x, &p, data, bound);
    }
}

static void check_attention(bc *c, const heads *a, int kv, ck_data data) {
    static const char *const name[WK_KV_TYPE_COUNT] = {"f16", "f32", "bf16", "q8_0"};
    hand h;
    wk_exec *x[2];
    if (kv == WK_KV_Q8_0 && a->dim % 32) return;
    if (!bc_case(c, "attention, %s cache, %d/%d heads of %d, window %d, cap %g, values %d", name[kv], (int)a->n,
                 (int)a->n_kv, (int)a->dim, (int)a->window, (double)a->softcap, (int)data))
        return;
    attention_plan(&h, a, kv);
    c->op_case[WK_OP_kvput]++;
    if (finish(c, &h) && bc_can(c, &h.p, &h.part, WK_OP_attn, -1) && open_both(c, &h, x)) {
        run_attention(c, &h, x, data, bc_cache_bound(kv));
        close_both(c, x);
    }
    fini(&h);
}

static void attentions(bc *c) {
    static const heads of[] = {{1, 1, 32, 0, 0},  {4, 2, 64, 0, 0},  {6, 1, 96, 0, 30},   {3, 3, 64, 5, 0},
                               {4, 1, 128, 64, 0}, {2, 2, 80, 100, 0}, {8, 2, 16, 65, 50}, {9, 3, 64, 0, 0},
                               {2, 1, 256, 0, 0}};
    for (size_t i = 0; i < WK_COUNT(of); i++)
        for (int kv = 0; kv < WK_KV_TYPE_COUNT; kv++) {
            check_attention(c, &of[i], kv, CK_GAUSS);
            if (!c->nmse) check_attention(c, &of[i], kv, CK_MIXED); /* values that do not fit */
        }
}

void bc_ops(bc *c) {
    static const int32_t dim[] = {1, 16, 17, 64, 100, 576};
    for (int fmt = 0; fmt < WK_FMT_COUNT; fmt++) {
        matmuls(c, fmt);
        check_embed(c, fmt, 3 * wk_formats[fmt].block, 1.0f);
        check_embed(c, fmt, (wk_formats[fmt].block == 1 ? 65 : 5) * wk_formats[fmt].block, 7.5f);
    }
    for (int i = 0; i < (int)WK_COUNT(dim); i++) {
        check_rms(c, i % 2 ? WK_FMT_F32 : WK_FMT_F16, 1, dim[i], WK_OP_rms, i);
        for (int fn = 0; fn < WK_FN_COUNT; fn++) check_elem(c, WK_OP_glu, fn, dim[i], i);
        check_elem(c, WK_OP_bias, 0, dim[i], i);
        check_elem(c, WK_OP_add, 0, dim[i], i);
        check_elem(c, WK_OP_lora, 0, dim[i], i);
        check_elem(c, WK_OP_softcap, 0, dim[i], i);
        check_elem(c, WK_OP_pick, 0, dim[i], i);
    }
    for (int i = 0; i < 4; i++) check_rms(c, WK_FMT_F32, i + 1, 16 << i, WK_OP_headrms, i);
    for (int pairing = 0; pairing < WK_ROPE_COUNT; pairing++) {
        check_rope(c, pairing, 1, 32, 32, 1.0f);
        check_rope(c, pairing, 3, 64, 48, 1.25f);
        check_rope(c, pairing, 2, 80, 32, 1.0f);
        check_rope(c, pairing, 4, 128, 128, 1.0f);
    }
    attentions(c);
}

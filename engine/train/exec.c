/* exec.c: memory of a training plan, its weights as f32, and the loop over its steps. */
#include "engine/train/exec.h"

#include <string.h>

#include "engine/base/ck.h"
#include "engine/base/os.h"
#include "engine/train/exec_impl.h"
#include "simd/format.h"

enum {
    LOGIT_BYTES = 64 << 20, /* of one chunk of the head */
    HEAD_ROWS = 4096,       /* of a frozen head decoded at a time, at least */
    PAGE = WK_KV_SLOTS
};

/* ---- sizes --------------------------------------------------------------------------------------- */

typedef struct sizes {
    size_t params, values, scratch;                      /* bytes */
    size_t n_pos, n_decoded, n_thin, n_logits, n_capped, n_mine; /* floats but n_pos */
    int32_t chunk, cols;
} sizes;

static bool is_matrix_of(const wk_grad *g, int32_t weight, int op) {
    for (int32_t i = 0; i < g->n_step; i++)
        if (g->step[i].op == op && g->step[i].w == weight) return true;
    return false;
}

/* Floats that hold any frozen matrix, of the head HEAD_ROWS rows. */
static size_t decoded_floats(const wk_grad *g) {
    size_t most = 0;
    for (int32_t i = 0; i < g->plan->n_weight; i++) {
        const wk_weight *w = &g->plan->weight[i];
        if (w->is_vector || g->param_of[i] >= 0) continue;
        size_t rows = (size_t)w->n_row;
        if (!is_matrix_of(g, i, WK_OP_matmul)) rows = rows < HEAD_ROWS ? rows : HEAD_ROWS;
        if (rows * (size_t)w->k > most) most = rows * (size_t)w->k;
    }
    return most;
}

/* And any thin matrix as panels. */
static size_t thin_floats(const wk_grad *g) {
    size_t most = 0;
    for (int32_t i = 0; i < g->n_step; i++) {
        if (g->step[i].thin < 0) continue;
        const wk_weight *w = &g->plan->weight[g->step[i].thin];
        const size_t n = w->is_lora_b ? wk_sgemm_thin_size(w->n_row, w->k) : wk_sgemm_thin_size(w->k, w->n_row);
        most = n > most ? n : most;
    }
    return most;
}

static const wk_tstep *head_of(const wk_grad *g) { return &g->step[g->n_forward - 1]; }

static bool add_floats(size_t *sum, size_t n, size_t times) {
    size_t b;
    return wk_mul(&b, n, sizeof(float)) && wk_align(&b, b, 64) && wk_mul(&b, b, times) &&
           wk_add(sum, *sum, b);
}

/* Of one thread, in floats; the bytes of lo and hi as floats too. */
static size_t thread_floats(const wk_plan *p, size_t cols, size_t n_pos) {
    const size_t hd = (size_t)p->head_dim;
    return cols * (4 * hd + 2 * PAGE + 3) + 2 * n_pos * hd + cols / 2 + 16;
}

int32_t wk_texec_chunk(const wk_grad *g) {
    const size_t n = LOGIT_BYTES / sizeof(float) / (size_t)g->plan->weight[head_of(g)->w].n_row / 64 * 64;
    return n < 64 ? g->max_tok < 64 ? g->max_tok : 64 : n < (size_t)g->max_tok ? (int32_t)n : g->max_tok;
}

static bool size_all(sizes *z, const wk_grad *g, int n_thread) {
    const wk_plan *p = g->plan;
    const size_t max_tok = (size_t)g->max_tok, longest = (max_tok + PAGE - 1) / PAGE * PAGE;
    const size_t n_vocab = (size_t)p->weight[head_of(g)->w].n_row;
    const int32_t group = p->n_head / p->n_head_kv;
    *z = (sizes){.chunk = wk_texec_chunk(g), .cols = group > WK_TATTN_COLS ? group : WK_TATTN_COLS};
    z->n_pos = longest + longest / 4 / PAGE * PAGE;
    z->n_decoded = decoded_floats(g);
    z->n_thin = thin_floats(g);
    z->n_logits = (size_t)z->chunk * n_vocab;
    z->n_capped = head_of(g)->scale > 0.0f ? n_vocab : 0;
    z->n_mine = thread_floats(p, (size_t)z->cols, longest);
    z->values = g->arena_bytes;
    const size_t kv = (size_t)p->n_head_kv * (size_t)p->head_dim;
    bool ok = add_floats(&z->params, g->n_elem, 2) && add_floats(&z->scratch, kv * z->n_pos, 3) &&
              add_floats(&z->scratch, z->n_decoded, 1) && add_floats(&z->scratch, z->n_thin, 1) &&
              add_floats(&z->scratch, z->n_logits, 1) &&
              add_floats(&z->scratch, z->n_capped, (size_t)n_thread) &&
              add_floats(&z->scratch, z->n_mine, (size_t)n_thread);
    for (int32_t i = 0; i < p->n_rope && ok; i++)
        ok = add_floats(&z->scratch, (size_t)p->rope[i].n_rot * max_tok, 2);
    for (int32_t i = 0; i < p->n_weight && ok; i++)
        if (p->weight[i].is_vector && g->param_of[i] < 0)
            ok = add_floats(&z->scratch, (size_t)p->weight[i].k, 1);
    return ok;
}

bool wk_texec_bytes(const wk_grad *g, int n_thread, size_t *params, size_t *values,
                    size_t *scratch) {
    sizes z;
    if (!size_all(&z, g, n_thread)) return false;
    *params = z.params;
    *values = z.values;
    *scratch = z.scratch;
    return true;
}

/* ---- memory -------------------------------------------------------------------------------------- */

static float *take(uint8_t **at, size_t n) {
    float *p = (float *)(void *)*at;
    *at += (n * sizeof(float) + 63) & ~(size_t)63;
    return p;
}

static void place_mine(wk_tscratch *m, float *at, const sizes *z, size_t hd, size_t longest) {
    const size_t cols = (size_t)z->cols;
    float **const part[] = {&m->q, &m->d_o, &m->o,     &m->d_q, &m->p,  &m->ds,
                            &m->m, &m->l,   &m->delta, &m->d_k, &m->d_v};
    const size_t n[] = {cols * hd, cols * hd, cols * hd, cols * hd,    cols * PAGE, cols * PAGE,
                        cols,      cols,      cols,      longest * hd, longest * hd};
    for (size_t i = 0; i < WK_COUNT(part); i++) {
        *part[i] = at;
        at += n[i];
    }
    m->lo = (uint8_t *)at;
    m->hi = m->lo + cols;
}

static void place_scratch(wk_texec *x, const sizes *z) {
    const wk_plan *p = x->plan;
    uint8_t *at = x->scratch.p;
    const size_t hd = (size_t)p->head_dim, kv = (size_t)p->n_head_kv * hd * z->n_pos;
    x->n_pos = z->n_pos;
    x->kp = take(&at, kv);
    x->k_rows = take(&at, kv);
    x->vp = x->v_rows = take(&at, kv); /* one is of the way there, the other of the way back */
    x->n_decoded = z->n_decoded;
    x->decoded = take(&at, z->n_decoded);
    x->thin = take(&at, z->n_thin);
    x->chunk = z->chunk;
    x->logits = take(&at, z->n_logits);
    x->capped = take(&at, z->n_capped * (size_t)x->n_thread);
    const size_t longest = ((size_t)x->g->max_tok + PAGE - 1) / PAGE * PAGE;
    for (int i = 0; i < x->n_thread; i++)
        place_mine(&x->mine[i], take(&at, z->n_mine), z, hd, longest);
    for (int32_t i = 0; i < p->n_rope; i++) {
        x->cs[i] = take(&at, (size_t)p->rope[i].n_rot * (size_t)x->g->max_tok);
        x->cs_back[i] = take(&at, (size_t)p->rope[i].n_rot * (size_t)x->g->max_tok);
    }
    for (int32_t i = 0; i < p->n_weight; i++)
        if (p->weight[i].is_vector && x->g->param_of[i] < 0)
            x->vector[i] = take(&at, (size_t)p->weight[i].k);
}

static bool take_memory(wk_texec *x, const sizes *z) {
    const size_t n_rope = (size_t)x->plan->n_rope + 1, max_tok = (size_t)x->g->max_tok;
    x->vector = wk_new_n(float *, (size_t)x->plan->n_weight + 1);
    x->cs = wk_new_n(float *, n_rope);
    x->cs_back = wk_new_n(float *, n_rope);
    x->row_loss = wk_new_n(double, max_tok);
    x->out = wk_new_n(int32_t, max_tok);
    x->mine = wk_new_n(wk_tscratch, (size_t)x->n_thread);
    if (!x->vector || !x->cs || !x->cs_back || !x->row_loss || !x->out || !x->mine) return false;
    if (!wk_pages_map(&x->params, z->params / 2) || !wk_pages_map(&x->grads, z->params / 2) ||
        !wk_pages_map(&x->values, z->values) || !wk_pages_map(&x->scratch, z->scratch))
        return false;
    place_scratch(x, z);
    return true;
}

/* ---- weights as f32 ------------------------------------------------------------------------------ */

/* Row i of a weight; a vector is its own only row, its values in un-rotated order. */
static void decode_row(const wk_kernels *k, float *dst, const wk_weight *w, int32_t i) {
    if (!w->is_vector || !w->unrotate) {
        k->decode[w->fmt](dst, w->data + (size_t)(w->is_vector ? 0 : wk_weight_row(w, i)) * w->row_bytes,
                          w->k);
        return;
    }
    for (int32_t j = 0; j < w->k; j++) /* F kinds alone store vectors: a value is a block */
        k->decode[w->fmt](dst + j, w->data + (size_t)wk_weight_row(w, j) * wk_formats[w->fmt].bytes, 1);
}

static int check_row(const wk_weight *w, int32_t i, wk_err *err) {
    const int32_t row = w->is_vector ? 0 : wk_weight_row(w, i);
    if (wk_formats[w->fmt].find_nonfinite(w->data + (size_t)row * w->row_bytes, w->k) < 0)
        return WICK_OK;
    return wk_fail(err, WICK_E_FORMAT, "%s: row %d holds a value that is not a finite number",
                   w->name, (int)row);
}

static int load(wk_texec *x, wk_err *err) {
    for (int32_t i = 0; i < x->plan->n_weight; i++) {
        const wk_weight *w = &x->plan->weight[i];
        const int32_t param = x->g->param_of[i], n_row = w->is_vector ? 1 : w->n_row;
        float *dst =
            param >= 0 ? (float *)(void *)x->params.p + x->g->param[param].off : x->vector[i];
        for (int32_t r = 0; r < n_row; r++) {
            WK_TRY(check_row(w, r, err));
            if (dst) decode_row(x->o.k, dst + (size_t)r * (size_t)w->k, w, r);
        }
    }
    return WICK_OK;
}

const float *wk_tvector(const wk_texec *x, int32_t weight) {
    const int32_t param = x->g->param_of[weight];
    return param >= 0 ? (const float *)(const void *)x->params.p + x->g->param[param].off
                      : x->vector[weight];
}

bool wk_tmatrix_is_param(const wk_texec *x, int32_t weight) { return x->g->param_of[weight] >= 0; }

typedef struct decoding {
    wk_texec *x;
    const wk_weight *w;
    int32_t r0, r1;
} decoding;

static void decode_share(void *ud, int rank) {
    const decoding *d = ud;
    const int32_t n = d->r1 - d->r0;
    for (int32_t i = wk_share(n, rank, d->x->n_thread); i < wk_share(n, rank + 1, d->x->n_thread);
         i++)
        decode_row(d->x->o.k, d->x->decoded + (size_t)i * (size_t)d->w->k, d->w, d->r0 + i);
}

const float *wk_tmatrix(wk_texec *x, int32_t weight, int32_t r0, int32_t r1) {
    const wk_weight *w = &x->plan->weight[weight];
    const int32_t param = x->g->param_of[weight];
    const size_t at = (size_t)r0 * (size_t)w->k;
    if (param >= 0) return (const float *)(const void *)x->params.p + x->g->param[param].off + at;
    if (w->fmt == WK_FMT_F32 && !w->unrotate && (uintptr_t)w->data % sizeof(float) == 0)
        return (const float *)(const void *)w->data + at;
    decoding d = {x, w, r0, r1};
    wk_team_run(x->o.team, decode_share, &d);
    return x->decoded;
}

wk_sgemm_thin wk_tthin(const wk_texec *x, const wk_tstep *s) {
    const wk_weight *w = &x->plan->weight[s->thin];
    const float *p = (const float *)(const void *)x->params.p + x->g->param[x->g->param_of[s->thin]].off;
    const int32_t rank = w->is_lora_b ? w->k : w->n_row, n = w->is_lora_b ? w->n_row : w->k;
    wk_sgemm_thin_panels(x->thin, p, (size_t)w->k, n, rank, !w->is_lora_b);
    return (wk_sgemm_thin){.k = rank,
                           .before = !w->is_lora_b,
                           .scale = s->scale,
                           .a = wk_tval_at(x, s->src[1]),
                           .lda = (size_t)rank,
                           .panels = x->thin};
}

/* ---- lifetime ------------------------------------------------------------------------------------ */

int wk_texec_new(wk_texec **out, const wk_grad *g, const wk_texec_options *o, wk_err *err) {
    *out = NULL;
    sizes z;
    const int n = wk_team_size(o->team);
    if (!size_all(&z, g, n)) return wk_fail(err, WICK_E_FIT, "the bytes of training overflow");
    wk_texec *x = wk_new(wk_texec);
    if (!x) return wk_fail(err, WICK_E_NOMEM, "no memory for training");
    *x = (wk_texec){.g = g, .plan = g->plan, .o = *o, .n_thread = n};
    const int rc = take_memory(x, &z) ? load(x, err)
                                      : wk_fail(err, WICK_E_NOMEM,
                                                "no memory for training: %zu MB of parameters and "
                                                "gradients, %zu of activations, %zu of scratch",
                                                z.params >> 20, z.values >> 20, z.scratch >> 20);
    if (rc) {
        wk_texec_free(x);
        return rc;
    }
    *out = x;
    return WICK_OK;
}

void wk_texec_free(wk_texec *x) {
    if (!x) return;
    wk_pages_unmap(&x->params);
    wk_pages_unmap(&x->grads);
    wk_pages_unmap(&x->values);
    wk_pages_unmap(&x->scratch);
    wk_free(x->vector);
    wk_free(x->cs);
    wk_free(x->cs_back);
    wk_free(x->row_loss);
    wk_free(x->out);
    wk_free(x->mine);
    wk_free(x);
}

float *wk_texec_params(wk_texec *x) { return (float *)(void *)x->params.p; }
float *wk_texec_grads(wk_texec *x) { return (float *)(void *)x->grads.p; }

/* ---- running ------------------------------------------------------------------------------------- */

/* Steps that call products or open regions of their own. */
static const bool is_alone[WK_TOP_COUNT] = {
    [WK_OP_matmul] = true,     [WK_OP_attn] = true,       [WK_TOP_head] = true,
    [WK_TOP_matmul_dx] = true, [WK_TOP_matmul_dw] = true, [WK_TOP_attn_dx] = true};

static wk_texec_fn *const fns[WK_TOP_COUNT] = {
    [WK_OP_embed] = wk_texec_embed,     [WK_OP_rms] = wk_texec_rms,
    [WK_OP_headrms] = wk_texec_headrms, [WK_OP_matmul] = wk_texec_matmul,
    [WK_OP_bias] = wk_texec_bias,       [WK_OP_rope] = wk_texec_rope,
    [WK_OP_attn] = wk_texec_attn,       [WK_OP_add] = wk_texec_add,
    [WK_OP_glu] = wk_texec_glu,         [WK_OP_pick] = wk_texec_pick,
    [WK_OP_lora] = wk_texec_lora,
#define WK_TOP(name, operands, equation) [WK_TOP_##name] = wk_texec_##name,
#include "engine/train/pack.def"
#undef WK_TOP
};

typedef struct region {
    wk_texec *x;
    const wk_tstep *s;
} region;
static void run_share(void *ud, int rank) {
    const region *r = ud;
    fns[r->s->op](r->x, r->s, rank, r->x->n_thread);
}

static void run_step(wk_texec *x, const wk_tstep *s) {
    if (is_alone[s->op]) {
        fns[s->op](x, s, 0, 1);
        return;
    }
    region r = {x, s};
    wk_team_run(x->o.team, run_share, &r);
}

/* Rows of cos and sin by the place of each token in its sequence, and the turned-back ones. */
static void rope_share(void *ud, int rank) {
    const wk_texec *x = ud;
    for (int32_t i = 0; i < x->plan->n_rope; i++) {
        const wk_rope_plan *r = &x->plan->rope[i];
        const size_t n = (size_t)r->n_rot;
        for (int32_t s = 0; s < x->b->n_seq; s++)
            for (int32_t pos = rank; pos < x->b->seq[s].n_tok; pos += x->n_thread) {
                float *there = x->cs[i] + (size_t)(x->b->seq[s].first + pos) * n;
                float *back = x->cs_back[i] + (size_t)(x->b->seq[s].first + pos) * n;
                wk_rope_row(there, r, pos);
                memcpy(back, there, n * sizeof(float));
                for (size_t j = n / 2; j < n; j++) back[j] = -there[j];
            }
    }
}

static void begin(wk_texec *x, const wk_tbatch *b, bool backward) {
    x->b = b;
    x->backward = backward;
    x->loss = x->head_back = 0.0;
    wk_team_run(x->o.team, rope_share, x);
}

double wk_tnow(void) { return (double)wk_os_now_ns() * 1e-9; }

/* The steps of a layer stand together on the way back, from the last layer to the first; then those of no layer. */
static void run_back(wk_texec *x) {
    const wk_grad *g = x->g;
    for (int32_t i = g->n_forward; i < g->n_step; i++) {
        const wk_tstep *s = &g->step[i];
        run_step(x, s);
        const bool ends = i + 1 == g->n_step || g->step[i + 1].layer != s->layer;
        if (ends && s->layer >= 0 && x->on_layer) x->on_layer(x->on_layer_ud, s->layer);
    }
    if (x->on_layer) x->on_layer(x->on_layer_ud, -1);
}

void wk_texec_run(wk_texec *x, const wk_tbatch *b, bool backward, wk_tloss *out) {
    const double t0 = wk_tnow();
    begin(x, b, backward);
    x->n_out = 0;
    for (int32_t t = 0; t < b->n_tok; t++)
        if (b->target[t] >= 0) x->out[x->n_out++] = t;
    for (int32_t i = 0; i < x->g->n_forward; i++) run_step(x, &x->g->step[i]);
    const double t1 = wk_tnow();
    if (backward) run_back(x);
    x->clock.forward += t1 - t0 - x->head_back;
    x->clock.backward += wk_tnow() - t1 + x->head_back;
    *out = (wk_tloss){x->loss, x->n_out};
}

void wk_texec_on_layer(wk_texec *x, void (*on_layer)(void *ud, int32_t layer), void *ud) {
    x->on_layer = on_layer;
    x->on_layer_ud = ud;
}

void wk_texec_logits(wk_texec *x, const wk_tbatch *b,
                     void (*on_row)(void *ud, int32_t t, const float *logits), void *ud) {
    begin(x, b, false);
    x->n_out = b->n_tok;
    for (int32_t t = 0; t < b->n_tok; t++) x->out[t] = t;
    for (int32_t i = 0; i + 1 < x->g->n_forward; i++) run_step(x, &x->g->step[i]);
    wk_texec_head_logits(x, head_of(x->g), on_row, ud);
}

void wk_texec_clock(const wk_texec *x, wk_tclock *out) { *out = x->clock; }
double wk_texec_flops(const wk_texec *x) { return x->flops + wk_sgemm_flops(x->o.gemm); }

/* plan.c: the only forward pass: walks the pattern of a description and emits steps. It knows choices, never
 * names: what an architecture wants stands in arch.h's words. */
#include "engine/graph/plan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/graph/adapter.h"
#include "engine/graph/bind.h"
#include "engine/graph/dims.h"
#include "engine/graph/slots.h"
#include "engine/graph/stage.h"
#include "models/arch.h"
#include "simd/dmath.h"
#include "simd/format.h"

static_assert((int)WK_VAL_F32 == (int)WK_X_F32 && (int)WK_VAL_A32 == (int)WK_X_A32 &&
                  (int)WK_VAL_A256 == (int)WK_X_A256,
              "a value type is an activation type");

enum {
    STEPS_PER_LAYER = 32, /* at most; append() asserts it */
    STEPS_PER_LORA = 3,
    STEPS_BESIDE = 8,
    N_BLOCK = sizeof(((wk_arch *)0)->block) / sizeof(wk_block),
    MOST_TOK = 1 << 20
};

/* The numbers of one block of the pattern, evaluated. */
typedef struct block_args {
    int32_t rope, window;
    float softcap;
} block_args;

typedef struct build {
    wk_plan *p;
    const wk_arch *a;
    const wk_dims *d;
    const wk_binding *w;
    int32_t layer; /* of the steps being emitted */
    int32_t step_room;
    block_args block[N_BLOCK];
    float embed_scale, attn_scale, head_softcap;
    bool f32_act;
    wk_lora_list lora;
} build;

/* ---- rope ---------------------------------------------------------------------------------------- */

/* Largest integer <= x for |x| < 2^31. */
static double floor_of(double x) {
    const double t = (double)(int64_t)x;
    return t > x ? t - 1.0 : t;
}

/* Pair index at which a wave turns n times over the original context (YaRN, eq. 22 solved for the index). */
static double yarn_pair(const wk_scaling *y, double base, int32_t n_rot, double n) {
    const double two_pi = 6.283185307179586;
    return (double)n_rot * wk_dlog(y->n_ctx_orig / (n * two_pi)) / (2.0 * wk_dlog(base));
}

static double clamp(double x, double lo, double hi) {
    return x < lo ? lo : x > hi ? hi : x;
}

/* YaRN (Peng et al. 2023, section 3.2): fast pairs keep their frequency, slow ones are stretched, with a linear
 * ramp between them; the attention temperature goes into cos and sin. */
static void scale_yarn(wk_rope_plan *r, const wk_scaling *y, double base) {
    const double last = (double)r->n_rot - 1.0;
    const double low = clamp(floor_of(yarn_pair(y, base, r->n_rot, y->beta_fast)), 0.0, last);
    double high = clamp(-floor_of(-yarn_pair(y, base, r->n_rot, y->beta_slow)), 0.0, last);
    if (high <= low) high = low + 0.001; /* a step instead of a ramp */
    for (int32_t i = 0; i < r->n_rot / 2; i++) {
        const double stretched = clamp(((double)i - low) / (high - low), 0.0, 1.0);
        r->freq[i] = r->freq[i] / y->factor * stretched + r->freq[i] * (1.0 - stretched);
    }
    const double temperature = y->factor > 1.0 ? 0.1 * wk_dlog(y->factor) + 1.0 : 1.0;
    r->mscale = (float)(y->attn_factor * temperature);
}

static float f32_at(const uint8_t *p, int32_t i) {
    float f;
    memcpy(&f, p + (size_t)i * sizeof(f), sizeof(f));
    return f;
}

/* llama3 scaling comes as a tensor: what each frequency is divided by. */
static int scale_factors(wk_rope_plan *r, const wk_tensor *t, const wk_store *s, wk_err *err) {
    for (int32_t i = 0; i < r->n_rot / 2; i++) {
        const float f = f32_at(t->data, i);
        if (!(f >= 1e-6f && f <= 1e6f))
            return wk_fail(err, WICK_E_FORMAT,
                           "%s: rope_freqs.weight holds %g at index %d, wanted a factor in "
                           "1e-6 .. 1e6",
                           wk_dims_label(s).text, (double)f, (int)i);
        r->freq[i] /= (double)f;
    }
    return WICK_OK;
}

static int make_rope(wk_rope_plan *r, const build *b, const wk_store *s, double base, bool scaled,
                     wk_err *err) {
    const wk_scaling *sc = &b->d->scaling;
    r->n_rot = b->d->n_rot;
    r->mscale = 1.0f;
    r->freq = wk_new_n(double, (size_t)r->n_rot / 2);
    if (!r->freq) return wk_fail(err, WICK_E_NOMEM, "no memory for the rope frequencies");
    for (int32_t i = 0; i < r->n_rot / 2; i++)
        r->freq[i] = wk_dpow(base, -2.0 * (double)i / (double)r->n_rot);
    if (!scaled) return WICK_OK;
    if (b->w->rope_freqs) WK_TRY(scale_factors(r, b->w->rope_freqs, s, err));
    if (sc->kind == WK_SCALING_YARN && base <= 1.0)
        return wk_fail(err, WICK_E_FORMAT, "%s: yarn scaling needs a rope base above 1",
                       wk_dims_label(s).text);
    if (sc->kind == WK_SCALING_YARN) scale_yarn(r, sc, base);
    for (int32_t i = 0; i < r->n_rot / 2 && sc->kind == WK_SCALING_LINEAR; i++)
        r->freq[i] /= sc->factor;
    return WICK_OK;
}

/* One rope per distinct (base, scaling): blocks that agree share their rows of cos and sin. */
static int make_ropes(build *b, const wk_store *s, wk_err *err) {
    static const wk_number default_base = WK_KEY_OR(ROPE_BASE, 10000.0);
    double base[N_BLOCK];
    bool scaled[N_BLOCK];
    b->p->rope = wk_new_n(wk_rope_plan, N_BLOCK);
    if (!b->p->rope) return wk_fail(err, WICK_E_NOMEM, "no memory for the rope frequencies");
    for (int32_t i = 0; i < N_BLOCK && b->a->block[i].tag; i++) {
        const wk_block *blk = &b->a->block[i];
        const wk_number *n =
            blk->attn.rope_base.rule == WK_RULE_NONE ? &default_base : &blk->attn.rope_base;
        double want = 0.0;
        if (wk_dims_number(&want, b->d, b->a, n, 0.0, err))
            return wk_fail_at(err, "%s", wk_dims_label(s).text);
        const bool sc = blk->attn.rope_scaling.rule != WK_RULE_NONE;
        int32_t r = 0;
        while (r < b->p->n_rope && !(base[r] == want && scaled[r] == sc)) r++;
        b->block[i].rope = r;
        if (r < b->p->n_rope) continue;
        base[r] = want;
        scaled[r] = sc;
        b->p->n_rope++;
        WK_TRY(make_rope(&b->p->rope[r], b, s, want, sc, err));
    }
    return WICK_OK;
}

void wk_rope_row(float *cs, const wk_rope_plan *r, int32_t pos) {
    const int32_t half = r->n_rot / 2;
    for (int32_t i = 0; i < half; i++) {
        double sn, cn;
        wk_sincos((double)pos * r->freq[i], &sn, &cn);
        cs[i] = (float)(cn * (double)r->mscale);
        cs[half + i] = (float)(sn * (double)r->mscale);
    }
}

/* ---- the other numbers --------------------------------------------------------------------------- */

static int make_numbers(build *b, wk_err *err) {
    static const wk_number default_scale = {WK_RULE_RSQRT_HEAD_DIM, WK_KEY_NONE, 0.0};
    const wk_number *attn =
        b->a->attn_scale.rule == WK_RULE_NONE ? &default_scale : &b->a->attn_scale;
    double v = 0.0;
    WK_TRY(wk_dims_number(&v, b->d, b->a, &b->a->embed.scale, 1.0, err));
    b->embed_scale = (float)v;
    WK_TRY(wk_dims_number(&v, b->d, b->a, attn, 1.0, err));
    b->attn_scale = (float)v;
    WK_TRY(wk_dims_number(&v, b->d, b->a, &b->a->head.softcap, 0.0, err));
    b->head_softcap = (float)v;
    for (int32_t i = 0; i < N_BLOCK && b->a->block[i].tag; i++) {
        WK_TRY(wk_dims_number(&v, b->d, b->a, &b->a->block[i].attn.window, 0.0, err));
        b->block[i].window = (int32_t)v;
        WK_TRY(wk_dims_number(&v, b->d, b->a, &b->a->block[i].attn.softcap, 0.0, err));
        b->block[i].softcap = (float)v;
    }
    return WICK_OK;
}

/* ---- emitting ------------------------------------------------------------------------------------ */

/* Appends a step; what it reads is alive at least until here. */
static void append(build *b, wk_step s) {
    wk_plan *p = b->p;
    assert(p->n_step < b->step_room);
    for (int i = 0; i < 3; i++)
        if (s.src[i] >= 0) p->val[s.src[i]].last = p->n_step;
    p->step[p->n_step++] = s;
}

static wk_step step_of(const build *b, wk_op op, int32_t src0, int32_t src1) {
    return (wk_step){.op = (uint16_t)op,
                     .layer = (int16_t)b->layer,
                     .dst = -1,
                     .src = {src0, src1, -1},
                     .w = {-1, -1}};
}

static int32_t emit(build *b, wk_step s, int type, int rows, int32_t dim) {
    wk_plan *p = b->p;
    s.dst = p->n_val;
    p->val[p->n_val++] = (wk_val){
        .type = (uint8_t)type, .rows = (uint8_t)rows, .dim = dim, .def = p->n_step, .last = -1};
    append(b, s);
    return s.dst;
}

static int32_t like(build *b, wk_step s, int32_t v) {
    return emit(b, s, WK_VAL_F32, b->p->val[v].rows, b->p->val[v].dim);
}

static int32_t weight(const build *b, wk_role role) {
    return wk_bound(b->w, role, b->layer);
}

static int32_t rms(build *b, int32_t x, wk_role role) {
    wk_step s = step_of(b, WK_OP_rms, x, -1);
    s.w[0] = weight(b, role);
    s.eps = b->d->eps;
    return like(b, s, x);
}

/* The activations that n matrices want of x: itself, or one quantised copy per type that occurs. */
static void activations(build *b, int32_t x, const int32_t *w, int n, int32_t *act) {
    for (int i = 0; i < n; i++) {
        const int type = b->f32_act ? WK_VAL_F32 : wk_formats[b->p->weight[w[i]].fmt].act;
        act[i] = type == WK_VAL_F32 ? x : -1;
        for (int j = 0; j < i && act[i] < 0; j++)
            if (b->p->val[act[j]].type == type) act[i] = act[j];
        if (act[i] < 0)
            act[i] =
                emit(b, step_of(b, WK_OP_quant, x, -1), type, b->p->val[x].rows, b->p->val[x].dim);
    }
}

static int32_t matmul(build *b, int32_t act, int32_t w) {
    wk_step s = step_of(b, WK_OP_matmul, act, -1);
    s.w[0] = w;
    return emit(b, s, WK_VAL_F32, b->p->val[act].rows, b->p->weight[w].n_row);
}

static int32_t bias(build *b, int32_t x, wk_role role) {
    wk_step s = step_of(b, WK_OP_bias, x, -1);
    s.w[0] = weight(b, role);
    return s.w[0] < 0 ? x : like(b, s, x);
}

/* A matrix and its adapters on their way: what they read may be computed side by side with others before what they
 * give is added. */
typedef struct linear {
    int32_t w, y;               /* weight; product and bias */
    int32_t u[WK_ADAPTERS_MAX]; /* x A^T of each adapter that w has */
} linear;

/* x as the matrix wants it is act; A takes the values themselves. */
static linear begin(build *b, int32_t x, int32_t act, int32_t w, wk_role bias_role) {
    linear l = {.w = w, .y = matmul(b, act, w)};
    if (bias_role != WK_W_COUNT) l.y = bias(b, l.y, bias_role);
    for (int32_t i = 0, n = 0; i < b->lora.n; i++)
        if (b->lora.lora[i].base == w) l.u[n++] = matmul(b, x, b->lora.lora[i].a);
    return l;
}

static int32_t end(build *b, const linear *l) {
    int32_t y = l->y;
    for (int32_t i = 0, n = 0; i < b->lora.n; i++) {
        const wk_lora *a = &b->lora.lora[i];
        if (a->base != l->w) continue;
        wk_step s = step_of(b, WK_OP_lora, y, matmul(b, l->u[n++], a->b));
        s.scale = a->scale;
        y = like(b, s, y);
    }
    return y;
}

static bool is_adapted(const build *b, int32_t w) {
    for (int32_t i = 0; i < b->lora.n; i++)
        if (b->lora.lora[i].base == w) return true;
    return false;
}

/* One matrix with activations of its own. */
static int32_t project(build *b, int32_t x, wk_role role) {
    const int32_t w = weight(b, role);
    int32_t act;
    activations(b, x, &w, 1, &act);
    const linear l = begin(b, x, act, w, WK_W_COUNT);
    return end(b, &l);
}

static int32_t add(build *b, int32_t y, int32_t x) {
    return like(b, step_of(b, WK_OP_add, y, x), x);
}

/* ---- attention ----------------------------------------------------------------------------------- */

static wk_step head_step(const build *b, wk_op op, int32_t src, int32_t n_head) {
    wk_step s = step_of(b, op, src, -1);
    s.n_head = n_head;
    s.n_head_kv = b->d->n_head_kv;
    s.head_dim = b->d->head_dim;
    return s;
}

static int32_t head_rms(build *b, int32_t x, int32_t n_head, wk_role role) {
    wk_step s = head_step(b, WK_OP_headrms, x, n_head);
    s.w[0] = weight(b, role);
    s.eps = b->d->eps;
    return like(b, s, x);
}

static int32_t rope(build *b, int32_t x, int32_t n_head, const wk_block *blk, int32_t index) {
    wk_step s = head_step(b, WK_OP_rope, x, n_head);
    s.rope = index;
    s.pairing = (uint8_t)blk->attn.rope;
    return like(b, s, x);
}

static void kv_put(build *b, int32_t x, int which) {
    wk_step s = head_step(b, WK_OP_kvput, x, b->d->n_head_kv);
    s.which = (uint8_t)which;
    append(b, s);
}

static int32_t attn(build *b, int32_t q, const block_args *args) {
    wk_step s = head_step(b, WK_OP_attn, q, b->d->n_head);
    s.scale = b->attn_scale;
    s.softcap = args->softcap;
    s.window = args->window;
    return like(b, s, q);
}

/* Queries, keys, values of x; keys and values go to the cache. Returns the queries. With adapters all that reads x
 * comes first: one stage for it, and one for what is added. */
static int32_t qkv(build *b, int32_t x, const wk_block *blk, const block_args *args) {
    static const wk_role bias_of[3] = {WK_W_Q_BIAS, WK_W_K_BIAS, WK_W_V_BIAS};
    const int32_t w[3] = {weight(b, WK_W_Q), weight(b, WK_W_K), weight(b, WK_W_V)};
    const bool norm = blk->attn.qk_norm == WK_PER_HEAD;
    const bool first = is_adapted(b, w[0]) || is_adapted(b, w[1]) || is_adapted(b, w[2]);
    int32_t act[3];
    linear l[3];
    activations(b, x, w, 3, act);
    for (int i = 0; i < 3 && first; i++) l[i] = begin(b, x, act[i], w[i], bias_of[i]);
    if (!first) l[0] = begin(b, x, act[0], w[0], bias_of[0]);
    int32_t q = end(b, &l[0]);
    if (norm) q = head_rms(b, q, b->d->n_head, WK_W_Q_NORM);
    q = rope(b, q, b->d->n_head, blk, args->rope);
    if (!first) l[1] = begin(b, x, act[1], w[1], bias_of[1]);
    int32_t k = end(b, &l[1]);
    if (norm) k = head_rms(b, k, b->d->n_head_kv, WK_W_K_NORM);
    k = rope(b, k, b->d->n_head_kv, blk, args->rope);
    kv_put(b, k, 0);
    if (!first) l[2] = begin(b, x, act[2], w[2], bias_of[2]);
    kv_put(b, end(b, &l[2]), 1);
    return q;
}

static int32_t attention(build *b, int32_t x, const wk_block *blk, const block_args *args) {
    const int32_t q = qkv(b, rms(b, x, WK_W_ATTN_NORM), blk, args);
    int32_t y = project(b, attn(b, q, args), WK_W_O);
    if (blk->post_attn_norm) y = rms(b, y, WK_W_POST_ATTN_NORM);
    return add(b, y, x);
}

/* ---- feed-forward, layers, head ------------------------------------------------------------------ */

static int32_t ffn(build *b, int32_t x, const wk_block *blk) {
    const int32_t w[2] = {weight(b, WK_W_GATE), weight(b, WK_W_UP)};
    int32_t act[2];
    const int32_t h = rms(b, x, WK_W_FFN_NORM);
    activations(b, h, w, 2, act);
    const linear l0 = begin(b, h, act[0], w[0], WK_W_COUNT), l1 = begin(b, h, act[1], w[1], WK_W_COUNT);
    const int32_t gate = end(b, &l0), up = end(b, &l1);
    wk_step s = step_of(b, WK_OP_glu, gate, up);
    s.fn = (uint8_t)blk->ffn.fn;
    int32_t y = project(b, like(b, s, gate), WK_W_DOWN);
    if (blk->post_ffn_norm) y = rms(b, y, WK_W_POST_FFN_NORM);
    return add(b, y, x);
}

static int32_t embed(build *b) {
    wk_step s = step_of(b, WK_OP_embed, -1, -1);
    s.w[0] = weight(b, WK_W_TOK_EMBD);
    s.scale = b->embed_scale;
    return emit(b, s, WK_VAL_F32, WK_ROWS_TOK, b->d->dim);
}

/* Logits of the rows that are wanted; without an output matrix the embedding serves. */
static int32_t head(build *b, int32_t x) {
    x = emit(b, step_of(b, WK_OP_pick, x, -1), WK_VAL_F32, WK_ROWS_OUT, b->d->dim);
    x = rms(b, x, WK_W_OUT_NORM);
    x = project(b, x, weight(b, WK_W_OUTPUT) >= 0 ? WK_W_OUTPUT : WK_W_TOK_EMBD);
    if (b->head_softcap == 0.0f) return x;
    wk_step s = step_of(b, WK_OP_softcap, x, -1);
    s.softcap = b->head_softcap;
    return like(b, s, x);
}

static int emit_all(build *b, wk_err *err) {
    const size_t n = (size_t)b->d->n_layer * STEPS_PER_LAYER + STEPS_BESIDE + /* at most 2^20 + 8 */
                     (size_t)b->lora.n * STEPS_PER_LORA;
    b->step_room = (int32_t)n;
    b->p->step = wk_new_n(wk_step, n);
    b->p->val = wk_new_n(wk_val, n);
    if (!b->p->step || !b->p->val)
        return wk_fail(err, WICK_E_NOMEM, "no memory for the plan of %zu steps", n);
    b->layer = -1;
    int32_t x = embed(b);
    for (b->layer = 0; b->layer < b->d->n_layer; b->layer++) {
        const wk_block *blk = wk_dims_block(b->a, b->layer);
        const block_args *args = &b->block[blk - b->a->block];
        x = ffn(b, attention(b, x, blk, args), blk);
    }
    b->layer = -1;
    b->p->logits = head(b, x);
    return WICK_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------- */

static int find_arch(const wk_arch **out, const wk_store *s, wk_err *err) {
    wk_str name = {0};
    const int rc = wk_meta_str(s, "general.architecture", &name, err);
    if (rc < 0) return rc;
    if (rc == 0)
        return wk_fail(err, WICK_E_FORMAT,
                       "%s: general.architecture is missing, so this is no model",
                       wk_dims_label(s).text);
    *out = wk_arch_find(name.p, name.n);
    if (*out) return WICK_OK;
    char known[96] = "";
    for (size_t i = 0, at = 0; wk_archs[i] && at < sizeof(known); i++) {
        const int put =
            snprintf(known + at, sizeof(known) - at, "%s%s", i ? ", " : "", wk_archs[i]->name);
        at += put > 0 ? (size_t)put : 0;
    }
    return wk_fail(err, WICK_E_ARCH, "%s: architecture \"%s\" is not known, known are %s",
                   wk_dims_label(s).text, wk_show(name).text, known);
}

static int check_options(const wk_plan_options *o, wk_err *err) {
    if (o->max_tok < 1 || o->max_tok > MOST_TOK)
        return wk_fail(err, WICK_E_ARG, "max_tok is %d, wanted 1 .. %d", (int)o->max_tok,
                       (int)MOST_TOK);
    if (o->max_out < 1 || o->max_out > o->max_tok)
        return wk_fail(err, WICK_E_ARG, "max_out is %d, wanted 1 .. max_tok %d", (int)o->max_out,
                       (int)o->max_tok);
    return WICK_OK;
}

/* The model's, and behind them those of the adapters. */
static int take_weights(build *b, const wk_store *s, const wk_plan_options *o, wk_binding *w, wk_err *err) {
    wk_plan *p = b->p;
    p->weight = w->weight;
    p->n_weight = w->n_weight;
    w->weight = NULL;
    w->n_weight = 0;
    WK_TRY(wk_lora_bind(&b->lora, p, s, o->adapter, o->n_adapter, err));
    for (int32_t i = 0; i < p->n_weight; i++) {
        size_t n = 0;
        if (!wk_mul(&n, (size_t)p->weight[i].n_row, p->weight[i].row_bytes) ||
            !wk_add(&p->weight_bytes, p->weight_bytes, n))
            return wk_fail(err, WICK_E_FIT, "the bytes of the weights overflow");
    }
    return WICK_OK;
}

static wk_plan *new_plan(const wk_arch *a, const wk_dims *d, const wk_plan_options *o) {
    wk_plan *p = wk_new(wk_plan);
    if (!p) return NULL;
    *p = (wk_plan){.arch = a,
                   .n_layer = d->n_layer,
                   .dim = d->dim,
                   .n_head = d->n_head,
                   .n_head_kv = d->n_head_kv,
                   .head_dim = d->head_dim,
                   .n_ff = d->n_ff,
                   .n_vocab = d->n_vocab,
                   .n_ctx_train = d->n_ctx,
                   .max_tok = o->max_tok,
                   .max_out = o->max_out,
                   .kv_type = o->kv_type};
    return p;
}

/* p holds everything made so far, so that the caller frees it whatever happens. */
static int fill_plan(build *b, const wk_store *s, const wk_plan_options *o, wk_binding *w,
                     wk_err *err) {
    WK_TRY(make_ropes(b, s, err));
    if (make_numbers(b, err)) return wk_fail_at(err, "%s", wk_dims_label(s).text);
    WK_TRY(take_weights(b, s, o, w, err));
    WK_TRY(emit_all(b, err));
    WK_TRY(wk_stage_build(b->p, o->ungrouped, err));
    return wk_slots_place(b->p, o->keep, o->whole, err);
}

/* Blocks of a Q8_0 cache lie inside a head. */
static int check_cache(const wk_dims *d, const wk_plan_options *o, wk_err *err) {
    if (o->kv_type != WK_KV_Q8_0 || d->head_dim % 32 == 0) return WICK_OK;
    return wk_fail(err, WICK_E_UNSUPPORTED,
                   "a q8_0 KV cache needs a head_dim that is a multiple of 32, this model's is %d: take f16",
                   (int)d->head_dim);
}

int wk_plan_build(wk_plan **out, const wk_store *s, const wk_plan_options *o, wk_err *err) {
    wk_err own;
    if (!err) err = &own; /* messages are put together from parts */
    const wk_arch *a = NULL;
    wk_dims d;
    wk_binding w;
    *out = NULL;
    WK_TRY(check_options(o, err));
    WK_TRY(find_arch(&a, s, err));
    WK_TRY(wk_dims_read(&d, s, a, err));
    WK_TRY(check_cache(&d, o, err));
    WK_TRY(wk_bind(&w, s, a, &d, err));
    int rc;
    build b = {.p = new_plan(a, &d, o), .a = a, .d = &d, .w = &w, .f32_act = o->f32_act};
    if (!b.p) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for the plan");
        goto out;
    }
    if ((rc = fill_plan(&b, s, o, &w, err))) goto out;
    *out = b.p;
    b.p = NULL; /* success: ownership leaves */
out:
    wk_plan_free(b.p);
    wk_lora_list_fini(&b.lora);
    wk_binding_fini(&w);
    return rc;
}

void wk_plan_free(wk_plan *p) {
    if (!p) return;
    for (int32_t i = 0; i < p->n_rope; i++) wk_free(p->rope[i].freq);
    wk_weights_free(p->weight, p->n_weight);
    wk_free(p->rope);
    wk_free(p->step);
    wk_free(p->val);
    wk_free(p->stage);
    wk_free(p->chain);
    wk_free(p->order);
    wk_free(p);
}

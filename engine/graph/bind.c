/* bind.c: finds the tensor of every role, compares its shape with the one that follows from the dims, and says
 * in a sentence what is wrong with it. */
#include "engine/graph/bind.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/base/log.h"
#include "simd/format.h"

typedef enum extent { ONE, DIM, FF, VOCAB, Q_DIM, KV_DIM, HEAD, PAIRS } extent;

/* Shape of each role: [rows, row length]; a vector is one row. */
static const struct {
    uint8_t rows, k;
    bool is_global;
} shapes[WK_W_COUNT] = {
    [WK_W_TOK_EMBD] = {VOCAB, DIM, true},
    [WK_W_OUT_NORM] = {ONE, DIM, true},
    [WK_W_OUTPUT] = {VOCAB, DIM, true},
    [WK_W_ROPE_FREQS] = {ONE, PAIRS, true},
    [WK_W_ATTN_NORM] = {ONE, DIM, false},
    [WK_W_Q] = {Q_DIM, DIM, false},
    [WK_W_K] = {KV_DIM, DIM, false},
    [WK_W_V] = {KV_DIM, DIM, false},
    [WK_W_O] = {DIM, Q_DIM, false},
    [WK_W_Q_BIAS] = {ONE, Q_DIM, false},
    [WK_W_K_BIAS] = {ONE, KV_DIM, false},
    [WK_W_V_BIAS] = {ONE, KV_DIM, false},
    [WK_W_Q_NORM] = {ONE, HEAD, false},
    [WK_W_K_NORM] = {ONE, HEAD, false},
    [WK_W_POST_ATTN_NORM] = {ONE, DIM, false},
    [WK_W_FFN_NORM] = {ONE, DIM, false},
    [WK_W_GATE] = {FF, DIM, false},
    [WK_W_UP] = {FF, DIM, false},
    [WK_W_DOWN] = {DIM, FF, false},
    [WK_W_POST_FFN_NORM] = {ONE, DIM, false},
};

/* Value of each extent, and the words for it in a message. */
static int32_t size_of(const wk_dims *d, int e) {
    const int32_t size[] = {[ONE] = 1,           [DIM] = d->dim,        [FF] = d->n_ff,
                            [VOCAB] = d->n_vocab, [Q_DIM] = d->q_dim,    [KV_DIM] = d->kv_dim,
                            [HEAD] = d->head_dim, [PAIRS] = d->n_rot / 2};
    return size[e];
}

static void explain(char *out, size_t cap, const wk_dims *d, int e) {
    if (e == Q_DIM) {
        (void)snprintf(out, cap, "%d heads x %d", (int)d->n_head, (int)d->head_dim);
    } else if (e == KV_DIM) {
        (void)snprintf(out, cap, "%d kv heads x %d", (int)d->n_head_kv, (int)d->head_dim);
    } else if (e == VOCAB) {
        (void)snprintf(out, cap, "%d tokens", (int)d->n_vocab);
    } else if (e == PAIRS) {
        (void)snprintf(out, cap, "rope over %d", (int)d->n_rot);
    } else {
        static const char *const word[] = {
            [ONE] = "", [DIM] = "dim", [FF] = "ffn", [HEAD] = "head_dim"};
        (void)snprintf(out, cap, "%s %d", word[e], (int)size_of(d, e));
    }
}

typedef struct text {
    char p[96];
} text;

/* "[2048,4096] (16 heads x 128, dim 4096)" */
static text wanted_text(const wk_dims *d, wk_role role) {
    const int rows = shapes[role].rows, k = shapes[role].k;
    char why_rows[32], why_k[32];
    text t;
    explain(why_rows, sizeof(why_rows), d, rows);
    explain(why_k, sizeof(why_k), d, k);
    if (rows == ONE)
        (void)snprintf(t.p, sizeof(t.p), "[%d] (%s)", (int)size_of(d, k), why_k);
    else
        (void)snprintf(t.p, sizeof(t.p), "[%d,%d] (%s, %s)", (int)size_of(d, rows),
                       (int)size_of(d, k), why_rows, why_k);
    return t;
}

static text found_text(const wk_tensor *t) {
    text out;
    size_t n = 0;
    for (int i = t->n_dim - 1; i >= 0 && n < sizeof(out.p); i--) {
        const int put = snprintf(out.p + n, sizeof(out.p) - n, "%c%llu", n ? ',' : '[',
                                 (unsigned long long)t->ne[i]);
        n += put > 0 ? (size_t)put : 0;
    }
    if (n < sizeof(out.p)) (void)snprintf(out.p + n, sizeof(out.p) - n, "]");
    return out;
}

/* ---- which roles a block has -------------------------------------------------------------------- */

typedef enum need { NEED_NO, NEED_MAY, NEED_MUST } need;
static need when(bool b) { return b ? NEED_MUST : NEED_NO; }

static bool any_scaling(const wk_arch *a) {
    for (size_t i = 0; i < WK_COUNT(a->block); i++)
        if (a->block[i].attn.rope_scaling.rule != WK_RULE_NONE) return true;
    return false;
}

/* blk: NULL for the roles of the whole model. */
static need need_of(const wk_arch *a, const wk_block *blk, wk_role role) {
    switch (role) {
    case WK_W_OUTPUT:
        return a->head.tied == WK_IF_ABSENT ? NEED_MAY : NEED_MUST;
    case WK_W_ROPE_FREQS:
        return any_scaling(a) ? NEED_MAY : NEED_NO;
    case WK_W_Q_BIAS:
    case WK_W_K_BIAS:
    case WK_W_V_BIAS:
        return blk->attn.bias ? NEED_MAY : NEED_NO;
    case WK_W_Q_NORM:
    case WK_W_K_NORM:
        return when(blk->attn.qk_norm == WK_PER_HEAD);
    case WK_W_POST_ATTN_NORM:
        return when(blk->post_attn_norm);
    case WK_W_POST_FFN_NORM:
        return when(blk->post_ffn_norm);
    default:
        return NEED_MUST;
    }
}

/* ---- one tensor --------------------------------------------------------------------------------- */

typedef struct binder {
    wk_binding *b;
    const wk_store *s;
    const wk_arch *a;
    const wk_dims *d;
    wk_err *err;
} binder;

enum { NAME_MAX_BYTES = 64 };

/* The name of a layer's tensor: %d replaced. Formats come from tables, but never reach printf. */
static void make_name(char out[NAME_MAX_BYTES], const char *pattern, int32_t layer) {
    const char *at = strstr(pattern, "%d");
    if (!at)
        (void)snprintf(out, NAME_MAX_BYTES, "%s", pattern);
    else
        (void)snprintf(out, NAME_MAX_BYTES, "%.*s%d%s", (int)(at - pattern), pattern, (int)layer,
                       at + 2);
}

static bool is_float(int fmt) { return wk_formats[fmt].kind == WK_KIND_F; }

static int check_shape(const binder *u, const wk_tensor *t, const char *name, wk_role role) {
    const uint64_t k = (uint64_t)size_of(u->d, shapes[role].k),
                   n = (uint64_t)size_of(u->d, shapes[role].rows);
    if (t->ne[0] != k || t->ne[1] != n || t->ne[2] != 1 || t->ne[3] != 1)
        return wk_fail(u->err, WICK_E_SHAPE, "%s: %s is %s, %s wants %s", wk_dims_label(u->s).text,
                       name, found_text(t).p, u->a->name, wanted_text(u->d, role).p);
    if (shapes[role].rows == ONE && !is_float(t->fmt))
        return wk_fail(u->err, WICK_E_UNSUPPORTED,
                       "%s: %s is stored as %s, a vector must be F32, F16 or BF16",
                       wk_dims_label(u->s).text, name, wk_formats[t->fmt].name);
    return WICK_OK;
}

/* GGUF stores q and k of llama with the rows of a head in neighbour order. Undoing it moves whole heads, so a
 * rope over a part of the head would pair other rows; and a bias would have to be moved too. No known model
 * has either, so both are refused rather than guessed at. */
static int check_rotated(const binder *u, const char *name, wk_role role) {
    if (shapes[role].rows == ONE)
        return wk_fail(u->err, WICK_E_UNSUPPORTED,
                       "%s: %s: a bias on rotated rows is not supported", wk_dims_label(u->s).text,
                       name);
    if (u->d->n_rot != u->d->head_dim)
        return wk_fail(u->err, WICK_E_UNSUPPORTED,
                       "%s: %s has rotated rows and a rope over %d of %d, only a rope "
                       "over the whole head is supported",
                       wk_dims_label(u->s).text, name, (int)u->d->n_rot, (int)u->d->head_dim);
    return WICK_OK;
}

static int claim_rope_freqs(const binder *u, const wk_tensor *t, const char *name) {
    if (t->fmt != WK_FMT_F32)
        return wk_fail(u->err, WICK_E_UNSUPPORTED, "%s: %s is stored as %s, wanted F32",
                       wk_dims_label(u->s).text, name, wk_formats[t->fmt].name);
    u->b->rope_freqs = t;
    return WICK_OK;
}

static int claim(const binder *u, const wk_name *n, int32_t layer, const wk_tensor *t,
                 const char *name) {
    WK_TRY(check_shape(u, t, name, n->role));
    if (n->role == WK_W_ROPE_FREQS) return claim_rope_freqs(u, t, name);
    const bool rotated = n->quirk == WK_GGUF_ROTATED;
    if (rotated) WK_TRY(check_rotated(u, name, n->role));
    char *own = wk_strdup_n(name, strlen(name));
    if (!own) return wk_fail(u->err, WICK_E_NOMEM, "no memory for the names of the weights");
    wk_binding *b = u->b;
    b->at[(size_t)(layer + 1) * WK_W_COUNT + (size_t)n->role] = b->n_weight;
    b->weight[b->n_weight++] = (wk_weight){
        .name = own,
        .data = t->data,
        .fmt = t->fmt,
        .role = (int)n->role,
        .layer = layer,
        .is_vector = shapes[n->role].rows == ONE,
        .n_row = size_of(u->d, shapes[n->role].rows),
        .k = size_of(u->d, shapes[n->role].k),
        .unrotate = rotated ? u->d->head_dim : 0,
        .row_bytes = wk_row_bytes(t->fmt, (size_t)t->ne[0]),
        .lora_of = -1,
    };
    return WICK_OK;
}

static int bind_one(const binder *u, const wk_name *n, int32_t layer, const wk_block *blk) {
    const need want = need_of(u->a, blk, n->role);
    if (want == NEED_NO) return WICK_OK;
    char name[NAME_MAX_BYTES];
    make_name(name, n->gguf, layer);
    const wk_tensor *t = wk_store_find(u->s, wk_cstr(name));
    if (t) return claim(u, n, layer, t, name);
    if (want == NEED_MAY) return WICK_OK;
    return wk_fail(u->err, WICK_E_FORMAT, "%s: %s is missing, %s wants %s",
                   wk_dims_label(u->s).text, name, u->a->name, wanted_text(u->d, n->role).p);
}

/* ---- all of them -------------------------------------------------------------------------------- */

/* Names of tensors that no role asked for: they change nothing, which the user should know. */
static void warn_unclaimed(const binder *u) {
    enum { NAMED = 5 };
    const size_t n = wk_store_tensor_count(u->s);
    const size_t used = (size_t)u->b->n_weight + (u->b->rope_freqs ? 1 : 0);
    if (used >= n) return;
    bool *claimed = wk_new_n(bool, n);
    if (!claimed) return; /* only a warning is lost */
    const wk_tensor *first = wk_store_tensor(u->s, 0);
    for (int32_t i = 0; i < u->b->n_weight; i++)
        claimed[wk_store_find(u->s, wk_cstr(u->b->weight[i].name)) - first] = true;
    if (u->b->rope_freqs) claimed[u->b->rope_freqs - first] = true;
    char list[5 * 104] = "";
    size_t at = 0, named = 0;
    for (size_t i = 0; i < n && named < NAMED; i++) {
        if (claimed[i]) continue;
        const wk_shown shown = wk_show(wk_store_tensor(u->s, i)->name);
        const int put =
            snprintf(list + at, sizeof(list) - at, "%s%s", named++ ? ", " : "", shown.text);
        at += put > 0 ? (size_t)put : 0;
    }
    wk_log(WK_LOG_WARN, "%s: %zu of %zu tensors are not used by %s: %s%s", wk_dims_label(u->s).text,
           n - used, n, u->a->name, list, n - used > named ? " ..." : "");
    wk_free(claimed);
}

static int reserve(const binder *u) {
    const size_t layers = (size_t)u->d->n_layer + 1;
    size_t n_at;
    if (!wk_mul(&n_at, layers, WK_W_COUNT))
        return wk_fail(u->err, WICK_E_NOMEM, "no memory for %zu layers", layers);
    u->b->at = wk_new_n(int32_t, n_at);
    u->b->weight =
        wk_new_n(wk_weight, wk_store_tensor_count(u->s)); /* each tensor is claimed once at most */
    if (!u->b->at || !u->b->weight)
        return wk_fail(u->err, WICK_E_NOMEM, "no memory for %zu layers", layers);
    for (size_t i = 0; i < n_at; i++) u->b->at[i] = -1;
    return WICK_OK;
}

static int bind_all(const binder *u) {
    for (const wk_name *n = u->a->names; n->gguf; n++)
        if (shapes[n->role].is_global) WK_TRY(bind_one(u, n, -1, NULL));
    for (int32_t layer = 0; layer < u->d->n_layer; layer++) {
        const wk_block *blk = wk_dims_block(u->a, layer);
        for (const wk_name *n = u->a->names; n->gguf; n++)
            if (!shapes[n->role].is_global) WK_TRY(bind_one(u, n, layer, blk));
    }
    return WICK_OK;
}

int wk_bind(wk_binding *b, const wk_store *s, const wk_arch *a, const wk_dims *d, wk_err *err) {
    const binder u = {.b = b, .s = s, .a = a, .d = d, .err = err};
    *b = (wk_binding){.n_layer = d->n_layer};
    int rc = reserve(&u);
    if (!rc) rc = bind_all(&u);
    if (rc) {
        wk_binding_fini(b);
        return rc;
    }
    warn_unclaimed(&u);
    return WICK_OK;
}

void wk_weights_free(wk_weight *w, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        char *name;
        memcpy(&name, &w[i].name, sizeof(name)); /* ours since claim() */
        wk_free(name);
    }
    wk_free(w);
}

void wk_binding_fini(wk_binding *b) {
    wk_weights_free(b->weight, b->n_weight);
    wk_free(b->at);
    *b = (wk_binding){0};
}

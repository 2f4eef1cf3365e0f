/* dims.c: reads dims.def's keys, derives what may be absent, checks the relations. */
#include "engine/graph/dims.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/attr.h"

typedef enum key_type { TYPE_INT, TYPE_REAL } key_type;
typedef enum absent { ABSENT_REQUIRED, ABSENT_OPTIONAL, ABSENT_DERIVED } absent;

typedef struct row {
    wk_key key;
    key_type type;
    absent absent;
    const char *pattern; /* %s: the architecture */
    double min, max;
} row;

static const row rows[] = {
#define WK_DIM(k, t, p, lo, hi, a) {WK_KEY_##k, TYPE_##t, ABSENT_##a, p, lo, hi},
#include "engine/graph/dims.def"
#undef WK_DIM
};

typedef enum size_rule { RSQRT_HEAD_DIM, RSQRT_DIM_PER_HEAD } size_rule;
static const struct {
    wk_key key;
    const char *arch;
    int32_t n_layer, dim;
    size_rule rule;
} sizes[] = {
#define WK_BY_SIZE(k, arch, layers, dim, rule) {WK_KEY_##k, arch, layers, dim, rule},
#include "engine/graph/dims.def"
#undef WK_BY_SIZE
};

typedef struct key_text {
    char p[128];
} key_text;

/* The part of a pattern behind "%s", with the architecture before it. */
static key_text key_of(const char *pattern, const wk_arch *a) {
    key_text k;
    (void)snprintf(k.p, sizeof(k.p), "%s%s", a->name, pattern + 2);
    return k;
}

static const row *row_of(wk_key key) {
    for (size_t i = 0; i < WK_COUNT(rows); i++)
        if (rows[i].key == key) return &rows[i];
    return NULL;
}

wk_shown wk_dims_label(const wk_store *s) {
    enum { TAIL = 60 };
    wk_str path = wk_cstr(wk_store_path(s));
    if (path.n > TAIL) {
        path.p += path.n - TAIL;
        path.n = TAIL;
        while (path.n && ((unsigned char)*path.p & 0xc0u) == 0x80u) path.p++, path.n--;
    }
    return wk_show(path);
}

/* ---- keys -------------------------------------------------------------------------------------- */

/* An array stands for one number if all its elements are equal. 1 found, 0 no array, < 0 refused. */
static int read_equal(double *out, const wk_store *s, const row *r, const char *key, wk_err *err) {
    wk_array v;
    if (wk_meta_array(s, key, &v, NULL) != 1) return 0;
    if (v.type == WK_META_STR || v.type == WK_META_F32 || v.type == WK_META_F64 || v.n == 0)
        return wk_fail(err, WICK_E_FORMAT, "%s: %s is an array of %zu %s, wanted integers",
                       wk_dims_label(s).text, key, v.n,
                       v.type == WK_META_STR ? "strings" : "elements");
    const int64_t first = wk_array_int(&v, 0);
    for (size_t i = 1; i < v.n; i++) {
        const int64_t other = wk_array_int(&v, i);
        if (other != first)
            return wk_fail(err, WICK_E_UNSUPPORTED,
                           "%s: %s differs between layers (%lld in layer 0, %lld in layer %zu), "
                           "one value is supported",
                           wk_dims_label(s).text, key, (long long)first, (long long)other, i);
    }
    if ((double)first < r->min || (double)first > r->max)
        return wk_fail(err, WICK_E_FORMAT, "%s: %s is %lld, wanted an integer in %.0f .. %.0f",
                       wk_dims_label(s).text, key, (long long)first, r->min, r->max);
    *out = (double)first;
    return 1;
}

/* 1 found, 0 absent, < 0 refused. */
static int read_key(double *out, const wk_store *s, const wk_arch *a, const row *r, wk_err *err) {
    const key_text k = key_of(r->pattern, a);
    if (r->type == TYPE_REAL) return wk_meta_f64(s, k.p, r->min, r->max, out, err);
    int rc = read_equal(out, s, r, k.p, err);
    if (rc) return rc;
    uint64_t u = 0;
    rc = wk_meta_u64(s, k.p, (uint64_t)r->min, (uint64_t)r->max, &u, err);
    if (rc == 1) *out = (double)u;
    return rc;
}

static int read_rows(wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err) {
    for (size_t i = 0; i < WK_COUNT(rows); i++) {
        const row *r = &rows[i];
        const int rc = read_key(&d->key[r->key], s, a, r, err);
        if (rc < 0) return rc;
        d->has[r->key] = rc == 1;
        if (rc == 0 && r->absent == ABSENT_REQUIRED)
            return wk_fail(err, WICK_E_FORMAT, "%s: %s is missing, %s needs it",
                           wk_dims_label(s).text, key_of(r->pattern, a).p, a->name);
    }
    return WICK_OK;
}

/* In the range of the key's row. */
static int32_t int_of(const wk_dims *d, wk_key key) { return (int32_t)d->key[key]; }

static void derive(wk_dims *d, wk_key key, int32_t value) {
    if (d->has[key]) return;
    d->has[key] = true;
    d->key[key] = (double)value;
}

/* ---- relations --------------------------------------------------------------------------------- */

static int check_heads(wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err) {
    d->n_head = int_of(d, WK_KEY_N_HEAD);
    derive(d, WK_KEY_N_HEAD_KV, d->n_head);
    d->n_head_kv = int_of(d, WK_KEY_N_HEAD_KV);
    if (d->n_head % d->n_head_kv)
        return wk_fail(err, WICK_E_FORMAT,
                       "%s: %s.attention.head_count %d is not a multiple of head_count_kv %d",
                       wk_dims_label(s).text, a->name, (int)d->n_head, (int)d->n_head_kv);
    if (!d->has[WK_KEY_HEAD_DIM] && (d->dim % d->n_head || d->dim / d->n_head < 2))
        return wk_fail(err, WICK_E_FORMAT,
                       "%s: %s.embedding_length %d is not a multiple of head_count %d, and "
                       "attention.key_length is missing",
                       wk_dims_label(s).text, a->name, (int)d->dim, (int)d->n_head);
    derive(d, WK_KEY_HEAD_DIM, d->dim / d->n_head);
    d->head_dim = int_of(d, WK_KEY_HEAD_DIM);
    derive(d, WK_KEY_HEAD_DIM_V, d->head_dim);
    if (int_of(d, WK_KEY_HEAD_DIM_V) != d->head_dim)
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "%s: %s.attention.value_length %d differs from key_length %d, equal "
                       "ones are supported",
                       wk_dims_label(s).text, a->name, (int)int_of(d, WK_KEY_HEAD_DIM_V),
                       (int)d->head_dim);
    d->q_dim = d->n_head * d->head_dim; /* at most 2^27 by the bounds of dims.def */
    d->kv_dim = d->n_head_kv * d->head_dim;
    return WICK_OK;
}

static int check_rot(wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err) {
    derive(d, WK_KEY_N_ROT, d->head_dim);
    d->n_rot = int_of(d, WK_KEY_N_ROT);
    if (d->n_rot % 2 || d->n_rot > d->head_dim)
        return wk_fail(err, WICK_E_FORMAT,
                       "%s: %s.rope.dimension_count is %d, wanted an even number up to "
                       "the head's %d",
                       wk_dims_label(s).text, a->name, (int)d->n_rot, (int)d->head_dim);
    return WICK_OK;
}

/* Every layer has tensors of its own: a count beyond theirs is a lie, and is not worth an allocation. */
static int check_layers(wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err) {
    d->n_layer = int_of(d, WK_KEY_N_LAYER);
    if ((size_t)d->n_layer > wk_store_tensor_count(s))
        return wk_fail(err, WICK_E_FORMAT,
                       "%s: %s.block_count is %d, but the file has only %zu tensors",
                       wk_dims_label(s).text, a->name, (int)d->n_layer, wk_store_tensor_count(s));
    return WICK_OK;
}

static const wk_name *embedding_name(const wk_arch *a) {
    const wk_name *n = a->names;
    while (n->gguf && n->role != WK_W_TOK_EMBD) n++;
    return n;
}

/* The vocabulary is counted where it is stored; metadata that only repeats the number is not asked. */
static int count_vocab(wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err) {
    enum { MOST = 1 << 28 };
    const char *name = embedding_name(a)->gguf;
    const wk_tensor *t = wk_store_find(s, wk_cstr(name));
    if (!t) return wk_fail(err, WICK_E_FORMAT, "%s: %s is missing", wk_dims_label(s).text, name);
    if (t->ne[1] < 1 || t->ne[1] > MOST)
        return wk_fail(err, WICK_E_SHAPE, "%s: %s has %llu rows, wanted 1 .. %d",
                       wk_dims_label(s).text, name, (unsigned long long)t->ne[1], (int)MOST);
    d->n_vocab = (int32_t)t->ne[1];
    derive(d, WK_KEY_N_VOCAB, d->n_vocab);
    wk_array tokens;
    const int rc = wk_meta_array(s, "tokenizer.ggml.tokens", &tokens, err);
    if (rc < 0) return rc;
    if (rc == 1 && tokens.n != t->ne[1])
        return wk_fail(err, WICK_E_SHAPE,
                       "%s: tokenizer.ggml.tokens has %zu entries, %s has %d rows",
                       wk_dims_label(s).text, tokens.n, name, (int)d->n_vocab);
    return WICK_OK;
}

/* ---- rope scaling ------------------------------------------------------------------------------ */

static int read_real(double *out, const wk_store *s, const wk_arch *a, const char *pattern,
                     double lo, double hi, wk_err *err) {
    return wk_meta_f64(s, key_of(pattern, a).p, lo, hi, out, err);
}

static int read_yarn(wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err) {
    static const char *const beyond[] = {"%s.rope.scaling.yarn_log_multiplier",
                                         "%s.rope.scaling.yarn_ext_factor",
                                         "%s.rope.scaling.yarn_attn_factor"};
    wk_scaling *y = &d->scaling;
    double ignored;
    for (size_t i = 0; i < WK_COUNT(beyond); i++)
        if (read_real(&ignored, s, a, beyond[i], -1e30, 1e30, NULL))
            return wk_fail(err, WICK_E_UNSUPPORTED, "%s: %s is not supported",
                           wk_dims_label(s).text, key_of(beyond[i], a).p);
    y->attn_factor = 1.0;
    y->beta_fast = 32.0;
    y->beta_slow = 1.0;
    const struct {
        const char *key;
        double *to, lo, hi;
        bool required;
    } keys[] = {
        {"%s.rope.scaling.original_context_length", &y->n_ctx_orig, 1.0, 16777216.0, true},
        {"%s.rope.scaling.attn_factor", &y->attn_factor, 1e-3, 1e3, false},
        {"%s.rope.scaling.yarn_beta_fast", &y->beta_fast, 1e-3, 1e6, false},
        {"%s.rope.scaling.yarn_beta_slow", &y->beta_slow, 1e-3, 1e6, false},
    };
    for (size_t i = 0; i < WK_COUNT(keys); i++) {
        const int rc = read_real(keys[i].to, s, a, keys[i].key, keys[i].lo, keys[i].hi, err);
        if (rc < 0) return rc;
        if (rc == 0 && keys[i].required)
            return wk_fail(err, WICK_E_FORMAT, "%s: %s is missing, yarn scaling needs it",
                           wk_dims_label(s).text, key_of(keys[i].key, a).p);
    }
    return WICK_OK;
}

/* A file without a type but with a factor means linear: that is how the first converters wrote it. */
static int read_scaling(wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err) {
    const char *type_key = "%s.rope.scaling.type";
    wk_str type = WK_STR("linear");
    const int typed = wk_meta_str(s, key_of(type_key, a).p, &type, err);
    if (typed < 0) return typed;
    double factor = 1.0;
    int rc = read_real(&factor, s, a, "%s.rope.scaling.factor", 1e-6, 1e6, err);
    if (rc == 0) rc = read_real(&factor, s, a, "%s.rope.scale_linear", 1e-6, 1e6, err);
    if (rc < 0) return rc;
    const bool is_yarn = wk_str_is(type, "yarn");
    if (!is_yarn && !wk_str_is(type, "linear") && !wk_str_is(type, "none"))
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "%s: %s is \"%s\", supported are none, linear and yarn",
                       wk_dims_label(s).text, key_of(type_key, a).p, wk_show(type).text);
    if (wk_str_is(type, "none") || (rc == 0 && !typed)) return WICK_OK;
    if (rc == 0)
        return wk_fail(err, WICK_E_FORMAT,
                       "%s: %s.rope.scaling.factor is missing, %s scaling needs it",
                       wk_dims_label(s).text, a->name, wk_show(type).text);
    d->scaling.factor = factor;
    d->scaling.kind = is_yarn ? WK_SCALING_YARN : WK_SCALING_LINEAR;
    return is_yarn ? read_yarn(d, s, a, err) : WICK_OK;
}

/* ---- the pattern of layers --------------------------------------------------------------------- */

const wk_block *wk_dims_block(const wk_arch *a, int32_t layer) {
    const char *star = strchr(a->pattern, '*');
    const size_t n_once = star ? (size_t)(star - a->pattern) : 0;
    const char *rest = star ? star + 1 : a->pattern;
    const size_t i = (size_t)layer;
    const char tag = i < n_once ? a->pattern[i] : rest[(i - n_once) % strlen(rest)];
    for (size_t b = 0; b < WK_COUNT(a->block) && a->block[b].tag; b++)
        if (a->block[b].tag == tag) return &a->block[b];
    return NULL;
}

static bool has_window(const wk_arch *a, int32_t layer) {
    return wk_dims_block(a, layer)->attn.window.rule != WK_RULE_NONE;
}

/* Newer files say which layers slide: a period, or a bool for each. It must be what the description says. */
static int check_pattern(const wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err) {
    const key_text key = key_of("%s.attention.sliding_window_pattern", a);
    bool any = false;
    for (size_t b = 0; b < WK_COUNT(a->block); b++)
        any |= a->block[b].attn.window.rule != WK_RULE_NONE;
    if (!any) return WICK_OK;
    wk_array v = {0};
    uint64_t period = 0;
    const bool is_array = wk_meta_array(s, key.p, &v, NULL) == 1;
    if (!is_array) {
        const int rc = wk_meta_u64(s, key.p, 0, 32767, &period, err);
        if (rc <= 0) return rc;
    } else if (v.type == WK_META_STR || v.n != (size_t)d->n_layer) {
        return wk_fail(err, WICK_E_FORMAT,
                       "%s: %s has %zu entries, wanted a bool for each of %d layers",
                       wk_dims_label(s).text, key.p, v.n, (int)d->n_layer);
    }
    for (int32_t i = 0; i < d->n_layer; i++) {
        const bool slides = is_array ? wk_array_int(&v, (size_t)i) != 0
                                     : period == 0 || ((uint64_t)i + 1) % period != 0;
        if (slides != has_window(a, i))
            return wk_fail(err, WICK_E_UNSUPPORTED,
                           "%s: %s gives layer %d %s, %s here is \"%s\" repeated",
                           wk_dims_label(s).text, key.p, (int)i, slides ? "a window" : "no window",
                           a->name, a->pattern);
    }
    return WICK_OK;
}

/* ------------------------------------------------------------------------------------------------ */

int wk_dims_read(wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err) {
    memset(d, 0, sizeof(*d));
    WK_TRY(read_rows(d, s, a, err));
    WK_TRY(check_layers(d, s, a, err));
    d->n_ctx = int_of(d, WK_KEY_N_CTX);
    d->dim = int_of(d, WK_KEY_DIM);
    d->n_ff = int_of(d, WK_KEY_N_FF);
    d->eps = (float)d->key[WK_KEY_RMS_EPS];
    WK_TRY(check_heads(d, s, a, err));
    WK_TRY(check_rot(d, s, a, err));
    WK_TRY(count_vocab(d, s, a, err));
    WK_TRY(read_scaling(d, s, a, err));
    return check_pattern(d, s, a, err);
}

static double rsqrt_of(double x) {
    return 1.0 / sqrt(x);
}

static int by_size(double *out, const wk_dims *d, const wk_arch *a, wk_key key, wk_err *err) {
    for (size_t i = 0; i < WK_COUNT(sizes); i++) {
        if (sizes[i].key != key || strcmp(sizes[i].arch, a->name) != 0) continue;
        if (sizes[i].n_layer != d->n_layer || sizes[i].dim != d->dim) continue;
        *out = rsqrt_of(sizes[i].rule == RSQRT_HEAD_DIM ? (double)d->head_dim
                                                        : (double)d->dim / (double)d->n_head);
        return WICK_OK;
    }
    return wk_fail(err, WICK_E_UNSUPPORTED,
                   "%s is missing and no %s of %d layers and dim %d is known, so its value "
                   "cannot be told",
                   key_of(row_of(key)->pattern, a).p, a->name, (int)d->n_layer, (int)d->dim);
}

int wk_dims_number(double *out, const wk_dims *d, const wk_arch *a, const wk_number *n, double none,
                   wk_err *err) {
    const bool has = n->key != WK_KEY_NONE && d->has[n->key];
    switch (n->rule) {
    case WK_RULE_NONE:
        *out = none;
        return WICK_OK;
    case WK_RULE_FIXED:
        *out = n->value;
        return WICK_OK;
    case WK_RULE_SQRT_DIM:
        *out = sqrt((double)d->dim);
        return WICK_OK;
    case WK_RULE_RSQRT_HEAD_DIM:
        *out = rsqrt_of((double)d->head_dim);
        return WICK_OK;
    case WK_RULE_KEY_OR:
        *out = has ? d->key[n->key] : n->value;
        return WICK_OK;
    case WK_RULE_KEY_OR_BY_SIZE:
        if (!has) return by_size(out, d, a, n->key, err);
        *out = d->key[n->key];
        return WICK_OK;
    case WK_RULE_KEY:
        break;
    }
    if (!has)
        return wk_fail(err, WICK_E_FORMAT, "%s is missing, %s needs it",
                       key_of(row_of(n->key)->pattern, a).p, a->name);
    *out = d->key[n->key];
    return WICK_OK;
}

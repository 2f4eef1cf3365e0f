/* adapter.c: reads LoRA files, checks them against their base, and binds them to the weights of a plan. */
#include "engine/graph/adapter.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/base/log.h"
#include "engine/graph/dims.h"
#include "models/arch.h"
#include "simd/format.h"

static const wk_str SUFFIX_A = {".lora_a", 7}, SUFFIX_B = {".lora_b", 7};

/* ---- the hash of a base -------------------------------------------------------------------------- */

enum { HASH_EDGE = 4096 };

wk_hash wk_base_hash(const wk_store *s) {
    wk_hash h = {0, 0};
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        const size_t n = t->bytes < HASH_EDGE ? t->bytes : HASH_EDGE;
        uint8_t head[5 * 8];
        for (int j = 0; j < 5; j++) { /* the same bytes on every machine */
            const uint64_t v = j < 4 ? t->ne[j] : wk_formats[t->fmt].gguf;
            for (int b = 0; b < 8; b++) head[8 * j + b] = (uint8_t)(v >> (8 * b));
        }
        h = wk_hash_bytes(h, t->name.p, t->name.n);
        h = wk_hash_bytes(h, head, sizeof(head));
        h = wk_hash_bytes(h, t->data, n);
        h = wk_hash_bytes(h, t->data + t->bytes - n, n);
    }
    return h;
}

void wk_base_hash_text(char out[WK_HASH_TEXT], const wk_store *s) {
    const wk_hash h = wk_base_hash(s);
    (void)snprintf(out, WK_HASH_TEXT, "%016llx%016llx", (unsigned long long)h.hi,
                   (unsigned long long)h.lo);
}

/* ---- keys ---------------------------------------------------------------------------------------- */

/* A key that must have one value. */
static int want_word(const wk_store *s, const char *key, wk_str want, int code, const char *why,
                     wk_err *err) {
    wk_str found;
    const int rc = wk_meta_str(s, key, &found, err);
    if (rc < 0) return rc;
    if (rc && wk_str_eq(found, want)) return WICK_OK;
    return wk_fail(err, code, "%s: %s is %s%s%s, wanted \"%s\"%s", wk_dims_label(s).text, key,
                   rc ? "\"" : "missing", rc ? wk_show(found).text : "", rc ? "\"" : "",
                   wk_show(want).text, why);
}

static int check_keys(wk_lora_file *f, const wk_store *s, const wk_store *base, wk_err *err) {
    wk_str arch = {"", 0};
    WK_TRY(want_word(s, "general.type", WK_STR("adapter"), WICK_E_FORMAT, ": this is no adapter",
                     err));
    WK_TRY(want_word(s, "adapter.type", WK_STR("lora"), WICK_E_UNSUPPORTED, "", err));
    const int rc = wk_meta_str(base, "general.architecture", &arch, err);
    if (rc < 0) return rc;
    WK_TRY(want_word(s, "general.architecture", arch, WICK_E_ARCH, ", the model's", err));
    const int got = wk_meta_f64(s, "adapter.lora.alpha", -1e6, 1e6, &f->alpha, err);
    return got < 0 ? got : WICK_OK;
}

static void warn_other_base(const wk_store *s, const wk_store *base) {
    wk_str made_for;
    char is[WK_HASH_TEXT];
    if (wk_meta_str(s, "wick.base.hash", &made_for, NULL) != 1) return;
    wk_base_hash_text(is, base);
    if (wk_str_is(made_for, is)) return;
    wk_log(WK_LOG_WARN,
           "%s was made for another base than %s: its wick.base.hash is %s, this model's is %s",
           wk_dims_label(s).text, wk_dims_label(base).text, wk_show(made_for).text, is);
}

/* ---- tensors ------------------------------------------------------------------------------------- */

static int check_floats(const wk_store *s, const wk_tensor *t, wk_err *err) {
    const wk_format *f = &wk_formats[t->fmt];
    if (f->kind != WK_KIND_F)
        return wk_fail(err, WICK_E_UNSUPPORTED, "%s: %s is stored as %s, wanted F32, F16 or BF16",
                       wk_dims_label(s).text, wk_show(t->name).text, f->name);
    const size_t row_bytes = wk_row_bytes(t->fmt, (size_t)t->ne[0]);
    for (uint64_t r = 0; r < t->ne[1]; r++)
        if (f->find_nonfinite(t->data + (size_t)r * row_bytes, (int)t->ne[0]) >= 0)
            return wk_fail(err, WICK_E_FORMAT,
                           "%s: %s holds a value that is not a finite number (row %llu of %llu)",
                           wk_dims_label(s).text, wk_show(t->name).text, (unsigned long long)r,
                           (unsigned long long)t->ne[1]);
    return WICK_OK;
}

static int wrong_shape(const wk_store *s, const wk_tensor *t, uint64_t k, uint64_t rows,
                       const char *why, wk_err *err) {
    return wk_fail(err, WICK_E_SHAPE, "%s: %s is %llu x %llu, wanted %llu x %llu: %s",
                   wk_dims_label(s).text, wk_show(t->name).text, (unsigned long long)t->ne[0],
                   (unsigned long long)t->ne[1], (unsigned long long)k, (unsigned long long)rows,
                   why);
}

/* A (in, r), B (r, out). */
static int check_shapes(const wk_store *s, wk_lora_pair *p, wk_err *err) {
    const wk_tensor *w = p->base, *a = p->a, *b = p->b;
    if (w->ne[2] != 1 || w->ne[3] != 1 || w->n_dim < 2)
        return wk_fail(err, WICK_E_SHAPE, "%s: %s adapts a tensor that is no matrix",
                       wk_dims_label(s).text, wk_show(a->name).text);
    if (a->ne[0] != w->ne[0] || a->ne[2] != 1 || a->ne[3] != 1)
        return wrong_shape(s, a, w->ne[0], a->ne[1], "rows as long as the base's", err);
    if (b->ne[0] != a->ne[1] || b->ne[2] != 1 || b->ne[3] != 1)
        return wrong_shape(s, b, a->ne[1], w->ne[1], "its rows are as long as A has rows, the rank",
                           err);
    if (b->ne[1] != w->ne[1])
        return wrong_shape(s, b, a->ne[1], w->ne[1], "as many rows as the base", err);
    if (a->ne[1] > w->ne[0] && a->ne[1] > w->ne[1])
        return wk_fail(err, WICK_E_SHAPE, "%s: %s has the rank %llu, more than the matrix",
                       wk_dims_label(s).text, wk_show(a->name).text, (unsigned long long)a->ne[1]);
    p->rank = (int32_t)a->ne[1];
    return WICK_OK;
}

/* The other half of a pair; NULL if it is missing or a name does not fit. */
static const wk_tensor *other_half(const wk_store *s, wk_str stem, wk_str suffix) {
    char name[256];
    if (stem.n + suffix.n > sizeof(name)) return NULL;
    memcpy(name, stem.p, stem.n);
    memcpy(name + stem.n, suffix.p, suffix.n);
    return wk_store_find(s, (wk_str){name, stem.n + suffix.n});
}

static int check_base(const wk_store *s, const wk_store *base, wk_str stem, wk_err *err) {
    if (wk_str_is(stem, "token_embd.weight") || wk_str_is(stem, "output.weight"))
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "%s adapts %s; adapters of the embedding and the head are not supported yet",
                       wk_dims_label(s).text, wk_show(stem).text);
    if (wk_store_find(base, stem)) return WICK_OK;
    return wk_fail(err, WICK_E_FORMAT, "%s adapts %s, which %s does not have",
                   wk_dims_label(s).text, wk_show(stem).text, wk_dims_label(base).text);
}

/* One tensor of the file; a pair comes into being at its A. */
static int read_tensor(wk_lora_file *f, const wk_store *s, const wk_store *base, const wk_tensor *t,
                       wk_err *err) {
    const bool is_a = wk_str_ends(t->name, SUFFIX_A), is_b = wk_str_ends(t->name, SUFFIX_B);
    if (wk_str_ends(t->name, WK_STR("_norm.weight")))
        return WICK_OK; /* others write it, nobody reads it */
    if (!is_a && !is_b)
        return wk_fail(err, WICK_E_FORMAT, "%s: %s ends with neither .lora_a nor .lora_b",
                       wk_dims_label(s).text, wk_show(t->name).text);
    const wk_str stem = {t->name.p, t->name.n - SUFFIX_A.n};
    WK_TRY(check_base(s, base, stem, err));
    const wk_tensor *other = other_half(s, stem, is_a ? SUFFIX_B : SUFFIX_A);
    if (!other)
        return wk_fail(err, WICK_E_FORMAT, "%s: %s has no %s beside it", wk_dims_label(s).text,
                       wk_show(t->name).text, is_a ? ".lora_b" : ".lora_a");
    WK_TRY(check_floats(s, t, err));
    if (is_b) return WICK_OK;
    wk_lora_pair p = {.base = wk_store_find(base, stem), .a = t, .b = other};
    WK_TRY(check_shapes(s, &p, err));
    f->pair[f->n_pair++] = p;
    return WICK_OK;
}

int wk_lora_read(wk_lora_file *out, const wk_store *s, const wk_store *base, wk_err *err) {
    wk_lora_file f = {0};
    const size_t n = wk_store_tensor_count(s);
    int rc = check_keys(&f, s, base, err);
    *out = (wk_lora_file){0};
    if (rc) return rc;
    f.pair = wk_new_n(wk_lora_pair, n);
    if (!f.pair) return wk_fail(err, WICK_E_NOMEM, "no memory for an adapter of %zu tensors", n);
    for (size_t i = 0; i < n && !rc; i++) rc = read_tensor(&f, s, base, wk_store_tensor(s, i), err);
    if (!rc && f.n_pair == 0)
        rc = wk_fail(err, WICK_E_FORMAT, "%s: it adapts nothing: no .lora_a in it",
                     wk_dims_label(s).text);
    if (rc) {
        wk_lora_fini(&f);
        return rc;
    }
    warn_other_base(s, base);
    *out = f;
    return WICK_OK;
}

void wk_lora_fini(wk_lora_file *f) {
    wk_free(f->pair);
    *f = (wk_lora_file){0};
}

double wk_lora_scale(const wk_lora_file *f, const wk_lora_pair *p, double scale) {
    const bool plain = f->alpha >= 0.0 && f->alpha <= 0.0;
    return plain ? scale : scale * f->alpha / (double)p->rank;
}

/* ---- weights of a plan --------------------------------------------------------------------------- */

static int32_t weight_of(const wk_plan *p, int32_t n_weight, wk_str name) {
    for (int32_t i = 0; i < n_weight; i++)
        if (wk_str_is(name, p->weight[i].name)) return i;
    return -1;
}

/* A (is_b false) or B as a weight of the plan, for which there is room. */
static int add_weight(wk_plan *p, int32_t base, const wk_tensor *t, bool is_b, wk_err *err) {
    const wk_weight *w = &p->weight[base];
    char *name = wk_strdup_n(t->name.p, t->name.n);
    if (!name) return wk_fail(err, WICK_E_NOMEM, "no memory for the names of the weights");
    p->weight[p->n_weight++] = (wk_weight){
        .name = name,
        .data = t->data,
        .fmt = t->fmt,
        .role = w->role,
        .layer = w->layer,
        .n_row = (int32_t)t->ne[1],
        .k = (int32_t)t->ne[0],
        .unrotate = is_b ? w->unrotate : 0,
        .row_bytes = wk_row_bytes(t->fmt, (size_t)t->ne[0]),
        .lora_of = base,
        .is_lora_b = is_b,
    };
    return WICK_OK;
}

static int bind_file(wk_lora_list *l, wk_plan *p, int32_t n_base, const wk_lora_file *f,
                     double scale, const wk_store *s, wk_err *err) {
    wk_weight *all = (wk_weight *)wk_realloc_array(
        p->weight, (size_t)p->n_weight + 2 * (size_t)f->n_pair, sizeof(*all));
    if (all) p->weight = all;
    wk_lora *lora =
        (wk_lora *)wk_realloc_array(l->lora, (size_t)l->n + (size_t)f->n_pair, sizeof(*lora));
    if (lora) l->lora = lora;
    if (!all || !lora) return wk_fail(err, WICK_E_NOMEM, "no memory for the weights of an adapter");
    for (int32_t i = 0; i < f->n_pair; i++) {
        const wk_lora_pair *q = &f->pair[i];
        const int32_t base = weight_of(p, n_base, q->base->name);
        if (base < 0 || p->weight[base].is_vector)
            return wk_fail(err, WICK_E_FORMAT,
                           "%s adapts %s, which the model does not use as a matrix",
                           wk_dims_label(s).text, wk_show(q->base->name).text);
        l->lora[l->n++] = (wk_lora){.base = base,
                                    .a = p->n_weight,
                                    .b = p->n_weight + 1,
                                    .scale = (float)wk_lora_scale(f, q, scale)};
        WK_TRY(add_weight(p, base, q->a, false, err));
        WK_TRY(add_weight(p, base, q->b, true, err));
    }
    return WICK_OK;
}

static int bind_one(wk_lora_list *l, wk_plan *p, int32_t n_base, const wk_store *base,
                    const wk_adapter *a, wk_err *err) {
    wk_lora_file f;
    WK_TRY(wk_lora_read(&f, a->store, base, err));
    const int rc = bind_file(l, p, n_base, &f, (double)a->scale, a->store, err);
    wk_lora_fini(&f);
    return rc;
}

int wk_lora_bind(wk_lora_list *out, wk_plan *p, const wk_store *base, const wk_adapter *a,
                 int32_t n, wk_err *err) {
    const int32_t n_base = p->n_weight;
    *out = (wk_lora_list){0};
    if (n < 0 || n > WK_ADAPTERS_MAX)
        return wk_fail(err, WICK_E_ARG, "%d adapters, at most %d are taken", (int)n,
                       WK_ADAPTERS_MAX);
    for (int32_t i = 0; i < n; i++) {
        const int rc = bind_one(out, p, n_base, base, &a[i], err);
        if (!rc) continue;
        wk_lora_list_fini(out);
        return rc;
    }
    return WICK_OK;
}

void wk_lora_list_fini(wk_lora_list *l) {
    wk_free(l->lora);
    *l = (wk_lora_list){0};
}

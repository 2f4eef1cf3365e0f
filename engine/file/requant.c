/* requant.c: a model file in other formats: every row that changes is decoded to f32 and encoded again, one row at a
 * time, so that memory does not grow with the model. */
#include "engine/base/arena.h"
#include "engine/file/store_impl.h"
#include "engine/file/write.h"
#include "simd/format.h"

typedef struct requant {
    const wk_requant_how *how;
    float *x;     /* [longest row] */
    uint8_t *out; /* of the longest row in f32: no format takes more */
    wk_err why;   /* code 0, or why a row could not be made */
} requant;

/* A tensor on its way from one format to another. */
typedef struct change {
    requant *q;
    const wk_tensor *t;
    int fmt;
    bool is_changed; /* its values */
} change;

static const void *next_row(void *ud, uint64_t row) {
    const change *c = (const change *)ud;
    const int k = (int)c->t->ne[0];
    const wk_format *from = &wk_formats[c->t->fmt];
    const uint8_t *p = c->t->data + (size_t)row * wk_row_bytes(c->t->fmt, (size_t)k);
    if (from->find_nonfinite(p, k) >= 0) {
        (void)wk_fail(&c->q->why, WICK_E_NUMERIC,
                      "%s: row %llu holds a number that is infinite or undefined",
                      wk_show(c->t->name).text, (unsigned long long)row);
        return NULL;
    }
    from->decode(c->q->x, p, k);
    if (c->is_changed) c->q->how->change(c->q->how->ud, c->t, row, c->q->x);
    wk_formats[c->fmt].encode(c->q->out, c->q->x, k);
    return c->q->out;
}

static int check_format(const wk_tensor *t, int fmt, wk_err *err) {
    const wk_format *f = fmt >= 0 && fmt < WK_FMT_COUNT ? &wk_formats[fmt] : NULL;
    if (!f || !f->encode)
        return wk_fail(err, WICK_E_UNSUPPORTED, "%s: the format %s cannot be written yet",
                       wk_show(t->name).text, f ? f->name : "asked for");
    if (t->ne[0] % f->block)
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "%s: rows of %llu elements do not divide into %s blocks of %d",
                       wk_show(t->name).text, (unsigned long long)t->ne[0], f->name, f->block);
    return WICK_OK;
}

static int add_tensor(wk_writer *w, change *c, wk_err *err) {
    char *name = wk_strdup_n(c->t->name.p, c->t->name.n);
    if (!name) return wk_fail(err, WICK_E_NOMEM, "no memory for the name of a tensor");
    wk_writer_tensor out = {.name = name, .fmt = c->fmt, .n_dim = c->t->n_dim};
    memcpy(out.ne, c->t->ne, sizeof(out.ne));
    if (c->fmt == c->t->fmt && !c->is_changed)
        out.data = c->t->data;
    else {
        out.row = next_row;
        out.ud = c;
    }
    wk_writer_add(w, &out);
    wk_free(name);
    return WICK_OK;
}

/* Of a file in parts: what says so. */
static bool is_of_model(void *ud, wk_str key) {
    (void)ud;
    return !wk_str_starts(key, WK_STR("split."));
}

/* general.file_type by the format that most elements of matrices have: a number for people, 0: unknown ones too. */
static uint32_t file_type(const uint64_t *elements) {
    static const struct {
        int fmt;
        uint32_t type;
    } types[] = {{WK_FMT_F32, 0},   {WK_FMT_F16, 1},   {WK_FMT_Q4_0, 2},  {WK_FMT_Q4_1, 3},
                 {WK_FMT_Q8_0, 7},  {WK_FMT_Q5_0, 8},  {WK_FMT_Q5_1, 9},  {WK_FMT_Q2_K, 10},
                 {WK_FMT_Q3_K, 12}, {WK_FMT_Q4_K, 15}, {WK_FMT_Q5_K, 17}, {WK_FMT_Q6_K, 18},
                 {WK_FMT_BF16, 32}, {WK_FMT_MXFP4, 38}};
    size_t best = 0;
    for (size_t i = 1; i < sizeof(types) / sizeof(types[0]); i++)
        if (elements[types[i].fmt] > elements[types[best].fmt]) best = i;
    return types[best].type;
}

/* The keys that speak of formats; a copy in its own formats keeps what it has. */
static void say_formats(wk_writer *w, const change *c, size_t n) {
    uint64_t elements[WK_FMT_COUNT] = {0};
    bool changed = false, quantized = false;
    for (size_t i = 0; i < n; i++) {
        const wk_tensor *t = c[i].t;
        changed = changed || c[i].fmt != t->fmt;
        quantized = quantized || wk_formats[c[i].fmt].block > 1;
        if (t->n_dim > 1) elements[c[i].fmt] += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    if (!changed) return;
    wk_writer_u32(w, "general.file_type", file_type(elements));
    if (quantized) wk_writer_u32(w, "general.quantization_version", 2);
}

int wk_requant_matrix(const wk_tensor *t, int fmt) {
    return t->n_dim > 1 && t->ne[0] % wk_formats[fmt].block == 0 ? fmt : t->fmt;
}

int wk_requant(const wk_store *s, const char *path, int (*fmt_of)(void *ud, const wk_tensor *t),
               void *ud, wk_err *err) {
    const wk_requant_how how = {.fmt_of = fmt_of, .ud = ud};
    return wk_requant_by(s, path, &how, err);
}

int wk_requant_by(const wk_store *s, const char *path, const wk_requant_how *how, wk_err *err) {
    const size_t n = wk_store_tensor_count(s);
    size_t longest = 0;
    int rc = WICK_OK;
    requant q = {.how = how};
    wk_writer *w = wk_writer_new();
    change *c = wk_new_n(change, n);
    for (size_t i = 0; i < n; i++) {
        const size_t k = (size_t)wk_store_tensor(s, i)->ne[0];
        if (k > longest) longest = k;
    }
    q.x = wk_new_n(float, longest);
    q.out = (uint8_t *)wk_alloc_array(longest, sizeof(float));
    if (!w || !c || !q.x || !q.out) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for rows of %zu elements", longest);
        goto out;
    }
    wk_writer_meta_of(w, s, is_of_model, NULL);
    for (size_t i = 0; i < n; i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        c[i] = (change){.q = &q, .t = t, .fmt = how->fmt_of(how->ud, t)};
        c[i].is_changed = how->is_changed && how->is_changed(how->ud, t);
        if ((c[i].fmt != t->fmt || c[i].is_changed) && (rc = check_format(t, c[i].fmt, err)))
            goto out;
        if ((rc = add_tensor(w, &c[i], err))) goto out;
    }
    say_formats(w, c, n);
    rc = wk_writer_save(w, path, err);
    if (q.why.code) rc = q.why.code;
    if (q.why.code && err) *err = q.why;
out:
    wk_writer_free(w);
    wk_free(c);
    wk_free(q.x);
    wk_free(q.out);
    return rc;
}

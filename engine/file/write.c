/* write.c: GGUF v3 files. The whole header is made in memory, small as it is; the data goes through one buffer, so
 * that rows made one by one do not cost a call each. */
#include "engine/file/write.h"

#include "engine/base/arena.h"
#include "engine/base/buf.h"
#include "engine/base/ck.h"
#include "engine/base/half.h"
#include "engine/base/os.h"
#include "engine/file/store_impl.h"
#include "simd/format.h"

enum { ALIGN = 32, CHUNK = 1 << 20, DIM_MAX = 4 };

/* One key: its value with the type in front, as the file holds it. */
typedef struct entry {
    char *key;
    wk_buf own;   /* the value, or empty: */
    wk_str taken; /* the bytes of another file */
} entry;

typedef struct out_tensor {
    wk_writer_tensor t;
    char *name; /* t.name, ours */
    size_t row_bytes;
    uint64_t n_row;
    uint64_t offset;
} out_tensor;

struct wk_writer {
    entry *meta;
    out_tensor *tensor;
    size_t n_meta, room_meta, n_tensor, room_tensor;
    bool failed; /* no memory somewhere */
};

wk_writer *wk_writer_new(void) { return wk_new(wk_writer); }

void wk_writer_free(wk_writer *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_meta; i++) {
        wk_free(w->meta[i].key);
        wk_buf_fini(&w->meta[i].own);
    }
    for (size_t i = 0; i < w->n_tensor; i++) wk_free(w->tensor[i].name);
    wk_free(w->meta);
    wk_free(w->tensor);
    wk_free(w);
}

/* Room for one more element behind n; NULL: no memory, and p stays. */
static void *grow(void *p, size_t n, size_t *room, size_t size) {
    if (n < *room) return p;
    size_t more = *room ? *room : 32;
    if (!wk_add(&more, *room, more)) return NULL;
    void *q = wk_realloc_array(p, more, size);
    if (q) *room = more;
    return q;
}

/* ---- metadata ---------------------------------------------------------------------------------- */

/* The entry of a key, emptied; a new one at the end if there was none. NULL: no memory. */
static entry *entry_of(wk_writer *w, wk_str key) {
    for (size_t i = 0; i < w->n_meta; i++) {
        entry *e = &w->meta[i];
        if (!wk_str_eq(wk_cstr(e->key), key)) continue;
        e->taken = (wk_str){NULL, 0};
        wk_buf_reset(&e->own);
        return e;
    }
    entry *all = (entry *)grow(w->meta, w->n_meta, &w->room_meta, sizeof(entry));
    char *own = wk_strdup_n(key.p, key.n);
    if (all) w->meta = all;
    if (!all || !own) {
        wk_free(own);
        w->failed = true;
        return NULL;
    }
    w->meta[w->n_meta] = (entry){.key = own};
    wk_buf_init(&w->meta[w->n_meta].own, 0);
    return &w->meta[w->n_meta++];
}

static void put_le(wk_buf *b, uint64_t v, int n) {
    uint8_t bytes[8];
    for (int i = 0; i < n; i++) bytes[i] = (uint8_t)(v >> (8 * i));
    (void)wk_buf_add(b, bytes, (size_t)n); /* a failure shows in b->failed */
}

static void put_str(wk_buf *b, wk_str s) {
    put_le(b, s.n, 8);
    (void)wk_buf_add(b, s.p, s.n); /* as above */
}

static void put_fixed(wk_writer *w, const char *key, int type, uint64_t bits, int n) {
    entry *e = entry_of(w, wk_cstr(key));
    if (!e) return;
    put_le(&e->own, (uint64_t)type, 4);
    put_le(&e->own, bits, n);
}

void wk_writer_u32(wk_writer *w, const char *key, uint32_t v) {
    put_fixed(w, key, WK_META_U32, v, 4);
}
void wk_writer_u64(wk_writer *w, const char *key, uint64_t v) {
    put_fixed(w, key, WK_META_U64, v, 8);
}
void wk_writer_i32(wk_writer *w, const char *key, int32_t v) {
    put_fixed(w, key, WK_META_I32, (uint32_t)v, 4);
}
void wk_writer_f32(wk_writer *w, const char *key, float v) {
    put_fixed(w, key, WK_META_F32, wk_f32_bits(v), 4);
}
void wk_writer_bool(wk_writer *w, const char *key, bool v) {
    put_fixed(w, key, WK_META_BOOL, v, 1);
}

void wk_writer_str(wk_writer *w, const char *key, wk_str v) {
    entry *e = entry_of(w, wk_cstr(key));
    if (!e) return;
    put_le(&e->own, WK_META_STR, 4);
    put_str(&e->own, v);
}

/* The entry with the head of an array in it. */
static wk_buf *array_of(wk_writer *w, const char *key, int type, size_t n) {
    entry *e = entry_of(w, wk_cstr(key));
    if (!e) return NULL;
    put_le(&e->own, WK_META_ARRAY, 4);
    put_le(&e->own, (uint64_t)type, 4);
    put_le(&e->own, n, 8);
    return &e->own;
}

void wk_writer_str_array(wk_writer *w, const char *key, const wk_str *v, size_t n) {
    wk_buf *b = array_of(w, key, WK_META_STR, n);
    for (size_t i = 0; b && i < n; i++) put_str(b, v[i]);
}
void wk_writer_f32_array(wk_writer *w, const char *key, const float *v, size_t n) {
    wk_buf *b = array_of(w, key, WK_META_F32, n);
    for (size_t i = 0; b && i < n; i++) put_le(b, wk_f32_bits(v[i]), 4);
}
void wk_writer_i32_array(wk_writer *w, const char *key, const int32_t *v, size_t n) {
    wk_buf *b = array_of(w, key, WK_META_I32, n);
    for (size_t i = 0; b && i < n; i++) put_le(b, (uint32_t)v[i], 4);
}

void wk_writer_meta_of(wk_writer *w, const wk_store *s, bool (*want)(void *ud, wk_str key),
                       void *ud) {
    for (size_t i = 0; i < wk_store_meta_count(s); i++) {
        const wk_str key = wk_store_meta_key(s, i);
        if (wk_str_is(key, "general.alignment"))
            continue; /* ours is the one meant by its absence */
        if (want && !want(ud, key)) continue;
        entry *e = entry_of(w, key);
        if (e) e->taken = wk_store_meta_raw(s, i);
    }
}

/* ---- tensors ----------------------------------------------------------------------------------- */

void wk_writer_add(wk_writer *w, const wk_writer_tensor *t) {
    out_tensor *all =
        (out_tensor *)grow(w->tensor, w->n_tensor, &w->room_tensor, sizeof(out_tensor));
    char *name = wk_strdup_n(t->name, strlen(t->name));
    if (all) w->tensor = all;
    if (!all || !name) {
        wk_free(name);
        w->failed = true;
        return;
    }
    out_tensor *o = &w->tensor[w->n_tensor++];
    *o = (out_tensor){.t = *t, .name = name};
    o->t.name = name;
}

/* Sizes of one tensor; *end: where its data ends, aligned. */
static int measure(out_tensor *o, size_t *end, wk_err *err) {
    const wk_writer_tensor *t = &o->t;
    const wk_shown name = wk_show(wk_cstr(t->name));
    if (t->n_dim < 1 || t->n_dim > DIM_MAX || t->fmt < 0 || t->fmt >= WK_FMT_COUNT)
        return wk_fail(err, WICK_E_SHAPE, "%s: %d dimensions of format %d cannot be written",
                       name.text, t->n_dim, t->fmt);
    const wk_format *f = &wk_formats[t->fmt];
    if (t->ne[0] == 0 || t->ne[0] > INT32_MAX || t->ne[0] % f->block)
        return wk_fail(err, WICK_E_SHAPE,
                       "%s: rows of %llu elements do not divide into %s blocks of %d", name.text,
                       (unsigned long long)t->ne[0], f->name, f->block);
    size_t n_row = 1, bytes, ne;
    bool fits = true;
    for (int d = 1; d < t->n_dim; d++)
        fits = fits && t->ne[d] && wk_u64_to_size(&ne, t->ne[d]) && wk_mul(&n_row, n_row, ne);
    o->row_bytes = wk_row_bytes(t->fmt, (size_t)t->ne[0]);
    o->n_row = n_row;
    o->offset = *end;
    fits = fits && wk_mul(&bytes, n_row, o->row_bytes) && wk_align(&bytes, bytes, ALIGN) &&
           wk_add(end, *end, bytes);
    return fits ? WICK_OK
                : wk_fail(err, WICK_E_SHAPE, "%s: its size is zero or overflows", name.text);
}

/* ---- the file ---------------------------------------------------------------------------------- */

static int make_header(wk_writer *w, wk_buf *b, wk_err *err) {
    size_t end = 0;
    bool failed = w->failed;
    (void)wk_buf_add(b, "GGUF", 4); /* failures are asked for at the end, here and below */
    put_le(b, 3, 4);
    put_le(b, w->n_tensor, 8);
    put_le(b, w->n_meta, 8);
    for (size_t i = 0; i < w->n_meta; i++) {
        const entry *e = &w->meta[i];
        const wk_str v = e->taken.p ? e->taken : wk_buf_str(&e->own);
        failed = failed || e->own.failed;
        put_str(b, wk_cstr(e->key));
        (void)wk_buf_add(b, v.p, v.n);
    }
    for (size_t i = 0; i < w->n_tensor && !failed; i++) {
        out_tensor *o = &w->tensor[i];
        WK_TRY(measure(o, &end, err));
        put_str(b, wk_cstr(o->t.name));
        put_le(b, (uint64_t)o->t.n_dim, 4);
        for (int d = 0; d < o->t.n_dim; d++) put_le(b, o->t.ne[d], 8);
        put_le(b, wk_formats[o->t.fmt].gguf, 4);
        put_le(b, o->offset, 8);
    }
    (void)wk_buf_room(b, (ALIGN - b->n % ALIGN) % ALIGN);
    if (!failed && !b->failed) return WICK_OK;
    return wk_fail(err, WICK_E_NOMEM, "no memory for the header of %zu keys and %zu tensors",
                   w->n_meta, w->n_tensor);
}

/* Bytes on their way to the file. */
typedef struct stream {
    wk_out_file *f;
    uint8_t *buf; /* [CHUNK] */
    size_t n;
    wk_err *err;
} stream;

static int flush(stream *s) {
    const size_t n = s->n;
    s->n = 0;
    return wk_os_out_write(s->f, s->buf, n, s->err);
}

static int put_bytes(stream *s, const void *p, size_t n) {
    if (n > CHUNK - s->n) WK_TRY(flush(s));
    if (n > CHUNK) return wk_os_out_write(s->f, p, n, s->err);
    memcpy(s->buf + s->n, p, n);
    s->n += n;
    return WICK_OK;
}

static int put_tensor(stream *s, const out_tensor *o) {
    static const uint8_t zero[ALIGN] = {0};
    const wk_writer_tensor *t = &o->t;
    const size_t bytes = o->row_bytes * (size_t)o->n_row;
    if (t->data) WK_TRY(put_bytes(s, t->data, bytes));
    for (uint64_t r = 0; !t->data && r < o->n_row; r++) {
        const void *row = t->row(t->ud, r);
        if (!row)
            return wk_fail(s->err, WICK_E_CANCELED, "%s: stopped by the caller at row %llu of %llu",
                           wk_show(wk_cstr(t->name)).text, (unsigned long long)r,
                           (unsigned long long)o->n_row);
        WK_TRY(put_bytes(s, row, o->row_bytes));
    }
    return put_bytes(s, zero, (ALIGN - bytes % ALIGN) % ALIGN);
}

int wk_writer_save(wk_writer *w, const char *path, wk_err *err) {
    wk_buf head;
    wk_out_file f = {0};
    stream s = {.f = &f, .err = err};
    wk_buf_init(&head, 0);
    int rc = make_header(w, &head, err);
    if (rc) goto out;
    s.buf = (uint8_t *)wk_alloc(CHUNK);
    if (!s.buf) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory to write a file through");
        goto out;
    }
    if ((rc = wk_os_out_open(&f, path, err))) goto out;
    if ((rc = put_bytes(&s, head.p, head.n))) goto out;
    for (size_t i = 0; i < w->n_tensor; i++)
        if ((rc = put_tensor(&s, &w->tensor[i]))) goto out;
    if ((rc = flush(&s))) goto out;
    rc = wk_os_out_commit(&f, err);
out:
    wk_os_out_abandon(&f);
    wk_buf_fini(&head);
    wk_free(s.buf);
    return rc;
}

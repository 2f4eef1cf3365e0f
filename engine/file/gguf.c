/* gguf.c: the GGUF container, versions 2 and 3, little endian.
 *
 *   "GGUF" u32 version  u64 n_tensor  u64 n_meta
 *   n_meta   x { str key, u32 type, value }        str = u64 length, bytes; array = u32 type, u64 n, elements
 *   n_tensor x { str name, u32 n_dim, u64 ne[n_dim], u32 type, u64 offset }
 *   padding to general.alignment (32), then the data; offsets count from there
 *
 * The header is walked twice with the same code: first to check its structure and to count, then, with
 * memory for what was counted, to note it down. So a count that lies costs nothing, memory is at most
 * four times the bytes of the header, and a file that changes between the walks meets the same checks.
 * Source of the layout: ggml's public gguf.md and gguf.h. */
#include "engine/base/ck.h"
#include "engine/base/rd.h"
#include "engine/base/utf8.h"
#include "engine/file/store_impl.h"
#include "simd/format.h"

enum {
    MAGIC = 0x46554747, /* "GGUF" */
    KEY_MAX = 64 * 1024,
    NAME_MAX_BYTES = 4 * 1024,
    ARRAY_DEPTH = 8,
    ALIGN_DEFAULT = 32,
    ALIGN_MIN = 8,
    ALIGN_MAX = 64 * 1024,
    META_MIN = 13,   /* bytes of the smallest entry: empty key, type, one byte */
    TENSOR_MIN = 24, /* of the smallest tensor info */
    SHOWN = 48       /* bytes of a name in a message */
};

typedef struct gguf {
    wk_store *s;
    wk_rd r;
    wk_err *err;
    /* What is being read, for messages: "tensor", "tensor info", its number, its name once known. */
    const char *kind, *info;
    size_t index;
    wk_str name;
    size_t n_str;   /* strings in arrays so far */
    bool fill;      /* second walk */
    size_t data_at; /* second walk: where the data begins; a multiple of align */
    size_t align;
} gguf;

static wk_shown show_name(wk_str name) {
    return wk_show((wk_str){name.p, name.n < SHOWN ? name.n : SHOWN});
}

/* Names the record in front of the sentence that err holds. */
static int at_record(gguf *g, int rc) {
    if (!g->err) return rc;
    if (!g->name.n) return wk_fail_at(g->err, "%s %zu", g->kind, g->index);
    return wk_fail_at(g->err, "%s %zu (%s)", g->kind, g->index, show_name(g->name).text);
}

/* `return FAIL_RECORD(g, code, "…", …)`: what is wrong with the record that is being read. */
#define FAIL_RECORD(g, ...) at_record(g, wk_fail((g)->err, __VA_ARGS__))

static int truncated(gguf *g) {
    const size_t want = g->r.want, at = wk_rd_at(&g->r), n = g->s->n;
    if (!g->name.n) {
        return wk_fail(g->err, WICK_E_FORMAT,
                       "truncated: %s %zu needs %zu bytes at offset %zu, the file has %zu", g->info,
                       g->index, want, at, n);
    }
    return wk_fail(g->err, WICK_E_FORMAT,
                   "truncated: %s %zu (%s) needs %zu bytes at offset %zu, the file has %zu",
                   g->info, g->index, show_name(g->name).text, want, at, n);
}

static int too_many(gguf *g, uint64_t n, size_t size) {
    return wk_fail(
        g->err, WICK_E_FORMAT,
        "truncated: %s %zu (%s) declares %llu elements of %zu bytes or more at offset %zu, "
        "the file has %zu",
        g->info, g->index, show_name(g->name).text, (unsigned long long)n, size, wk_rd_at(&g->r),
        g->s->n);
}

/* A list of n elements of at least `size` bytes must fit into what is left. */
static int check_count(gguf *g, uint64_t n, size_t size) {
    return n <= wk_rd_left(&g->r) / size ? WICK_OK : too_many(g, n, size);
}

static bool is_clean(wk_str s) {
    for (size_t i = 0; i < s.n; i++) {
        if ((uint8_t)s.p[i] < 0x20 || s.p[i] == 0x7f) return false;
    }
    return wk_utf8_valid(s);
}

/* The key or name of the record. */
static int read_name(gguf *g, size_t max) {
    g->name = (wk_str){NULL, 0};
    wk_str s;
    if (!wk_rd_str(&g->r, &s)) return truncated(g);
    if (s.n == 0) return FAIL_RECORD(g, WICK_E_FORMAT, "the name is empty");
    g->name = s;
    if (s.n > max) {
        return FAIL_RECORD(g, WICK_E_FORMAT, "the name has %zu bytes, at most %zu are allowed", s.n,
                           max);
    }
    if (!is_clean(s)) {
        return FAIL_RECORD(g, WICK_E_FORMAT, "the name holds control bytes or invalid UTF-8");
    }
    return WICK_OK;
}

/* ---- metadata ---------------------------------------------------------------------------------- */

static int check_bools(gguf *g, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (p[i] > 1) {
            return FAIL_RECORD(g, WICK_E_FORMAT, "a bool holds %d, it must be 0 or 1", p[i]);
        }
    }
    return WICK_OK;
}

/* n values of a type with a fixed size. */
static int read_fixed(gguf *g, uint32_t type, uint64_t n) {
    const size_t size = wk_meta_type_bytes((int)type);
    size_t count, bytes;
    if (!wk_u64_to_size(&count, n) || !wk_mul(&bytes, count, size)) return too_many(g, n, size);
    const uint8_t *p = wk_rd_take(&g->r, bytes);
    if (!p) return truncated(g);
    return type == WK_META_BOOL ? check_bools(g, p, bytes) : WICK_OK;
}

/* n strings; those of one-dimensional arrays are noted, they are asked for by number later. */
static int read_strings(gguf *g, uint64_t n, bool note) {
    WK_TRY(check_count(g, n, 8));
    const size_t first = wk_rd_at(&g->r);
    for (uint64_t i = 0; i < n; i++) {
        const size_t at = wk_rd_at(&g->r) - first;
        wk_str s;
        if (!wk_rd_str(&g->r, &s)) return truncated(g);
        if (!note) continue;
        if (at > UINT32_MAX)
            return FAIL_RECORD(g, WICK_E_UNSUPPORTED, "an array of strings is longer than 4 GiB, at string %llu of %llu",
                               (unsigned long long)i, (unsigned long long)n);
        if (g->fill) {
            if (g->n_str == g->s->n_str)
                return wk_fail(g->err, WICK_E_IO, "changed while it was read");
            g->s->str_off[g->n_str] = (uint32_t)at;
        }
        g->n_str++;
    }
    return WICK_OK;
}

static int read_array_head(gguf *g, uint32_t *type, uint64_t *n) {
    if (!wk_rd_u32(&g->r, type) || !wk_rd_u64(&g->r, n)) return truncated(g);
    if (*type < WK_META_TYPE_COUNT) return WICK_OK;
    return FAIL_RECORD(g, WICK_E_FORMAT, "an array has elements of the unknown type %u", *type);
}

/* The arrays inside an array, without recursion: todo[d] = arrays still to be read at depth d. */
static int read_nested(gguf *g, uint64_t n) {
    uint64_t todo[ARRAY_DEPTH - 1]; /* depth 1 is the array that was read already */
    size_t d = 0;
    WK_TRY(check_count(g, n, 12));
    todo[0] = n;
    for (;;) {
        while (d > 0 && todo[d] == 0) d--;
        if (todo[d] == 0) return WICK_OK;
        todo[d]--;
        uint32_t type;
        uint64_t k;
        WK_TRY(read_array_head(g, &type, &k));
        if (type == WK_META_STR) {
            WK_TRY(read_strings(g, k, false));
        } else if (type != WK_META_ARRAY) {
            WK_TRY(read_fixed(g, type, k));
        } else if (k > 0) {
            WK_TRY(check_count(g, k, 12));
            if (++d == ARRAY_DEPTH - 1) {
                return FAIL_RECORD(g, WICK_E_FORMAT, "arrays are nested deeper than %d",
                                   ARRAY_DEPTH);
            }
            todo[d] = k;
        }
    }
}

static int read_array(gguf *g, wk_meta_rec *m) {
    uint32_t type;
    uint64_t n;
    WK_TRY(read_array_head(g, &type, &n));
    m->val_at = wk_rd_at(&g->r);
    m->elem = (uint8_t)type;
    m->first_str = g->n_str;
    m->n = (size_t)n; /* where that cuts n, the elements do not fit either */
    if (type == WK_META_STR) return read_strings(g, n, true);
    if (type == WK_META_ARRAY) return read_nested(g, n);
    return read_fixed(g, type, n);
}

static int read_value(gguf *g, wk_meta_rec *m) {
    wk_str str;
    m->val_at = wk_rd_at(&g->r);
    if (m->type == WK_META_ARRAY) return read_array(g, m);
    if (m->type != WK_META_STR) return read_fixed(g, m->type, 1);
    return wk_rd_str(&g->r, &str) ? WICK_OK : truncated(g);
}

static int read_meta(gguf *g, size_t i) {
    g->index = i;
    WK_TRY(read_name(g, KEY_MAX));
    const size_t key_end = wk_rd_at(&g->r);
    uint32_t type;
    if (!wk_rd_u32(&g->r, &type)) return truncated(g);
    if (type >= WK_META_TYPE_COUNT) {
        return FAIL_RECORD(g, WICK_E_FORMAT, "the value has the unknown type %u", type);
    }
    wk_meta_rec m = {
        .key_at = key_end - g->name.n, .key_n = (uint32_t)g->name.n, .type = (uint8_t)type, .n = 1};
    WK_TRY(read_value(g, &m));
    if (g->fill) g->s->meta[i] = m;
    return WICK_OK;
}

static int index_meta(gguf *g) {
    int64_t dup;
    wk_store_sort_meta(g->s, &dup);
    if (dup < 0) return WICK_OK;
    return wk_fail(g->err, WICK_E_FORMAT, "metadata %lld repeats the key %s", (long long)dup,
                   show_name(wk_store_meta_key(g->s, (size_t)dup)).text);
}

/* general.alignment, if it is there, and with it the place of the data. */
static int find_data(gguf *g, size_t header_bytes) {
    const wk_meta_rec *m = wk_store_key(g->s, WK_STR("general.alignment"));
    uint32_t align = ALIGN_DEFAULT;
    if (m) {
        if (m->type != WK_META_U32) {
            return wk_fail(g->err, WICK_E_FORMAT,
                           "general.alignment has the type %s, it must be u32",
                           wk_meta_type_name(m->type));
        }
        wk_rd r = wk_rd_of(g->s->p + m->val_at, sizeof(align));
        if (!wk_rd_u32(&r, &align)) return truncated(g);
    }
    if (align < ALIGN_MIN || align > ALIGN_MAX || (align & (align - 1))) {
        return wk_fail(g->err, WICK_E_FORMAT,
                       "general.alignment is %u, it must be a power of two in %d .. %d", align,
                       ALIGN_MIN, ALIGN_MAX);
    }
    g->align = align;
    if (wk_align(&g->data_at, header_bytes, align)) return WICK_OK;
    return wk_fail(g->err, WICK_E_BOUNDS, "the header of %zu bytes leaves no room for data",
                   header_bytes);
}

/* ---- tensors ----------------------------------------------------------------------------------- */

/* ggml's names of the types that formats.def does not list (yet); "" = never assigned. */
static const char *ggml_type_name(uint32_t type) {
    static const char *const names[] = {
        "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
        "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
        "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
        "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
        "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
        "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",
    };
    return type < sizeof(names) / sizeof(names[0]) ? names[type] : "";
}

static int refuse_type(gguf *g, uint32_t type) {
    const char *name = ggml_type_name(type);
    if (!*name) return FAIL_RECORD(g, WICK_E_UNSUPPORTED, "type %u is not known here", type);
    return FAIL_RECORD(g, WICK_E_UNSUPPORTED, "type %u (%s) is not supported here", type, name);
}

static int read_shape(gguf *g, wk_tensor *t) {
    uint32_t n_dim;
    if (!wk_rd_u32(&g->r, &n_dim)) return truncated(g);
    if (n_dim < 1 || n_dim > 4) {
        return FAIL_RECORD(g, WICK_E_SHAPE, "it has %u dimensions, 1 .. 4 are allowed", n_dim);
    }
    t->n_dim = (int)n_dim;
    for (uint32_t d = 0; d < 4; d++) t->ne[d] = 1;
    for (uint32_t d = 0; d < n_dim; d++) {
        if (!wk_rd_u64(&g->r, &t->ne[d])) return truncated(g);
        if (t->ne[d] == 0) return FAIL_RECORD(g, WICK_E_SHAPE, "dimension %u is zero", d);
    }
    return WICK_OK;
}

/* Bytes of the tensor from its shape. */
static int size_tensor(gguf *g, wk_tensor *t) {
    const wk_format *f = &wk_formats[t->fmt];
    const uint64_t k = t->ne[0];
    if (k % f->block) {
        return FAIL_RECORD(g, WICK_E_SHAPE,
                           "rows of %llu elements do not divide into %s blocks of %d",
                           (unsigned long long)k, f->name, f->block);
    }
    if (k > INT32_MAX) {
        return FAIL_RECORD(g, WICK_E_SHAPE, "rows of %llu elements are longer than %d",
                           (unsigned long long)k, INT32_MAX);
    }
    size_t bytes = (size_t)k / f->block, ne;
    bool fits = wk_mul(&bytes, bytes, f->bytes);
    for (int d = 1; d < 4; d++)
        fits = fits && wk_u64_to_size(&ne, t->ne[d]) && wk_mul(&bytes, bytes, ne);
    t->bytes = bytes;
    if (fits) return WICK_OK;
    return FAIL_RECORD(g, WICK_E_BOUNDS, "its size overflows: %s %llu x %llu x %llu x %llu",
                       f->name, (unsigned long long)k, (unsigned long long)t->ne[1],
                       (unsigned long long)t->ne[2], (unsigned long long)t->ne[3]);
}

/* The data inside the file. */
static int place_tensor(gguf *g, wk_tensor *t, uint64_t offset) {
    if (offset % g->align) {
        return FAIL_RECORD(g, WICK_E_BOUNDS, "offset %llu is not a multiple of the alignment %zu",
                           (unsigned long long)offset, g->align);
    }
    const size_t n = g->s->n, room = g->data_at < n ? n - g->data_at : 0;
    if (offset > room || t->bytes > room - (size_t)offset) {
        return FAIL_RECORD(g, WICK_E_BOUNDS,
                           "%zu bytes at %zu + %llu lie outside the file of %zu bytes", t->bytes,
                           g->data_at, (unsigned long long)offset, n);
    }
    t->data = g->s->p + g->data_at + (size_t)offset;
    return WICK_OK;
}

static int read_tensor(gguf *g, size_t i) {
    g->index = i;
    WK_TRY(read_name(g, NAME_MAX_BYTES));
    wk_tensor t = {.name = g->name};
    WK_TRY(read_shape(g, &t));
    uint32_t type;
    uint64_t offset;
    if (!wk_rd_u32(&g->r, &type) || !wk_rd_u64(&g->r, &offset)) return truncated(g);
    if (!g->fill) return WICK_OK;
    t.fmt = wk_format_of_gguf(type);
    if (t.fmt < 0) return refuse_type(g, type);
    WK_TRY(size_tensor(g, &t));
    WK_TRY(place_tensor(g, &t, offset));
    g->s->tensor[i] = t;
    return WICK_OK;
}

static int index_tensors(gguf *g) {
    int64_t dup;
    wk_store_sort_tensors(g->s, &dup);
    if (dup < 0) return WICK_OK;
    return wk_fail(g->err, WICK_E_FORMAT, "tensor %lld repeats the name %s", (long long)dup,
                   show_name(g->s->tensor[dup].name).text);
}

/* If any two tensors overlap, two neighbours in the order of places do. */
static int check_overlap(gguf *g) {
    const wk_store *s = g->s;
    wk_store_sort_places(g->s);
    for (size_t i = 1; i < s->n_tensor; i++) {
        const wk_tensor *a = &s->tensor[s->tmp[i - 1]], *b = &s->tensor[s->tmp[i]];
        if (a->bytes <= (size_t)(b->data - a->data)) continue;
        g->index = s->tmp[i];
        g->name = b->name;
        return FAIL_RECORD(g, WICK_E_BOUNDS,
                           "it begins at %zu and overlaps tensor %u, bytes %zu .. %zu of "
                           "the file of %zu",
                           (size_t)(b->data - s->p), s->tmp[i - 1], (size_t)(a->data - s->p),
                           (size_t)(a->data - s->p) + a->bytes - 1, s->n);
    }
    return WICK_OK;
}

/* ---- the file ---------------------------------------------------------------------------------- */

static int check_version(gguf *g, uint32_t v) {
    g->s->version = v;
    if (v == 2 || v == 3) return WICK_OK;
    if ((v & 0xffffu) == 0 && v != 0) {
        return wk_fail(
            g->err, WICK_E_UNSUPPORTED,
            "a big-endian GGUF file (version field 0x%08x); only little-endian ones are read", v);
    }
    return wk_fail(g->err, WICK_E_FORMAT, "GGUF version %u; versions 2 and 3 are read", v);
}

/* Version and counts; the counts are believed only up to what the rest of the file can hold. */
static int read_header(gguf *g) {
    uint32_t version;
    uint64_t n_tensor, n_meta;
    if (!wk_rd_u32(&g->r, &version)) goto cut;
    WK_TRY(check_version(g, version));
    if (!wk_rd_u64(&g->r, &n_tensor) || !wk_rd_u64(&g->r, &n_meta)) goto cut;
    const size_t left = wk_rd_left(&g->r);
    if (n_meta > left / META_MIN || n_tensor > left / TENSOR_MIN) {
        return wk_fail(g->err, WICK_E_FORMAT,
                       "truncated: %llu metadata entries and %llu tensors do not fit into "
                       "the %zu bytes after the header",
                       (unsigned long long)n_meta, (unsigned long long)n_tensor, left);
    }
    g->s->n_meta = (size_t)n_meta;
    g->s->n_tensor = (size_t)n_tensor;
    return WICK_OK;
cut:
    return wk_fail(g->err, WICK_E_FORMAT,
                   "truncated: the header needs %zu bytes at offset %zu, the file has %zu",
                   g->r.want, wk_rd_at(&g->r), g->s->n);
}

static int walk_meta(gguf *g) {
    g->kind = g->info = "metadata";
    for (size_t i = 0; i < g->s->n_meta; i++) WK_TRY(read_meta(g, i));
    g->s->meta_end = wk_rd_at(&g->r);
    return WICK_OK;
}

static int walk_tensors(gguf *g) {
    g->kind = "tensor";
    g->info = "tensor info";
    for (size_t i = 0; i < g->s->n_tensor; i++) WK_TRY(read_tensor(g, i));
    return WICK_OK;
}

int wk_gguf_parse(wk_store *s, wk_err *err) {
    gguf g = {.s = s, .r = wk_rd_of(s->p, s->n), .err = err};
    uint32_t magic;
    if (!wk_rd_u32(&g.r, &magic) || magic != MAGIC) return wk_foreign_refuse(s->p, s->n, err);
    WK_TRY(read_header(&g));
    const wk_rd body = g.r;
    WK_TRY(walk_meta(&g)); /* first walk: check and count */
    WK_TRY(walk_tensors(&g));
    const size_t header_bytes = wk_rd_at(&g.r);
    s->n_str = g.n_str;
    WK_TRY(wk_store_reserve(s, err));
    g.r = body; /* second walk: note down */
    g.fill = true;
    g.n_str = 0;
    WK_TRY(walk_meta(&g));
    WK_TRY(index_meta(&g));
    WK_TRY(find_data(&g, header_bytes));
    WK_TRY(walk_tensors(&g));
    WK_TRY(index_tensors(&g));
    return check_overlap(&g);
}

/* meta.c: metadata by key, with the type and the range that the caller wants, and as text. What is read
 * here was inside the file when the store was opened. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/half.h"
#include "engine/base/rd.h"
#include "engine/base/utf8.h"
#include "engine/file/store_impl.h"

static const struct {
    const char *name;
    size_t bytes;
} types[WK_META_TYPE_COUNT] = {
    [WK_META_U8] = {"u8", 1},       [WK_META_I8] = {"i8", 1},     [WK_META_U16] = {"u16", 2},
    [WK_META_I16] = {"i16", 2},     [WK_META_U32] = {"u32", 4},   [WK_META_I32] = {"i32", 4},
    [WK_META_F32] = {"f32", 4},     [WK_META_BOOL] = {"bool", 1}, [WK_META_STR] = {"string", 0},
    [WK_META_ARRAY] = {"array", 0}, [WK_META_U64] = {"u64", 8},   [WK_META_I64] = {"i64", 8},
    [WK_META_F64] = {"f64", 8},
};

const char *wk_meta_type_name(int type) {
    return types[type].name;
}
size_t wk_meta_type_bytes(int type) {
    return types[type].bytes;
}

/* ---- values ------------------------------------------------------------------------------------ */

typedef enum kind { KIND_UINT, KIND_INT, KIND_REAL, KIND_OTHER } kind;

/* One number as the widest of its kind. */
typedef struct number {
    kind kind;
    uint64_t u; /* KIND_UINT */
    int64_t i;  /* KIND_INT */
    double f;   /* all */
} number;

static number of_uint(uint64_t u) {
    return (number){.kind = KIND_UINT, .u = u, .f = (double)u};
}
static number of_real(double f) {
    return (number){.kind = KIND_REAL, .f = f};
}
static number of_int(int64_t i) {
    if (i >= 0) return of_uint((uint64_t)i);
    return (number){.kind = KIND_INT, .i = i, .f = (double)i};
}

static double f64_of_bits(uint64_t bits) {
    double f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* The value of a fixed-size type at p. Negative integers become KIND_INT, all others KIND_UINT. */
static number number_at(int type, const uint8_t *p) {
    wk_rd r = wk_rd_of(p, types[type].bytes);
    uint8_t b1 = 0;
    uint16_t b2 = 0;
    uint32_t b4 = 0;
    uint64_t b8 = 0;
    const bool got = wk_rd_left(&r) == 1   ? wk_rd_u8(&r, &b1)
                     : wk_rd_left(&r) == 2 ? wk_rd_u16(&r, &b2)
                     : wk_rd_left(&r) == 4 ? wk_rd_u32(&r, &b4)
                                           : wk_rd_u64(&r, &b8);
    if (!got) return (number){.kind = KIND_OTHER};
    switch (type) {
    case WK_META_U8:
    case WK_META_BOOL:
        return of_uint(b1);
    case WK_META_I8:
        return of_int((int8_t)b1);
    case WK_META_U16:
        return of_uint(b2);
    case WK_META_I16:
        return of_int((int16_t)b2);
    case WK_META_U32:
        return of_uint(b4);
    case WK_META_I32:
        return of_int((int32_t)b4);
    case WK_META_U64:
        return of_uint(b8);
    case WK_META_I64:
        return of_int((int64_t)b8);
    case WK_META_F32:
        return of_real((double)wk_f32_from_bits(b4));
    default:
        return of_real(f64_of_bits(b8));
    }
}

static wk_str str_at(const uint8_t *p) {
    wk_rd r = wk_rd_of(p, sizeof(uint64_t));
    uint64_t n = 0;
    (void)wk_rd_u64(&r, &n); /* the string was inside the file at open */
    return (wk_str){(const char *)p + sizeof(uint64_t), (size_t)n};
}

/* ---- text -------------------------------------------------------------------------------------- */

/* Writes whole pieces until one does not fit, then an ellipsis, for which there is always room. */
typedef struct writer {
    char *p;
    size_t n, room; /* written; for pieces */
    bool full;
} writer;

#define ELLIPSIS "\xe2\x80\xa6"

static writer writer_of(char *buf, size_t cap) {
    const size_t kept = sizeof(ELLIPSIS); /* with the NUL */
    return (writer){.p = buf, .room = cap > kept ? cap - kept : 0};
}

static void put(writer *w, const char *p, size_t n) {
    if (w->full) return;
    if (n > w->room - w->n) {
        w->full = true;
        return;
    }
    memcpy(w->p + w->n, p, n);
    w->n += n;
}

static void put_text(writer *w, const char *s) {
    put(w, s, strlen(s));
}

/* Shortest decimal that reads back as the same float or double. */
static void put_real(writer *w, double f, bool is_f32) {
    char text[40];
    if (f >= -1e15 && f <= 1e15 && f == (double)(int64_t)f) { /* 1000000, not 1e+06 */
        (void)snprintf(text, sizeof(text), "%.0f", f);
        put_text(w, text);
        return;
    }
    for (int digits = is_f32 ? 6 : 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, f);
        const double back = strtod(text, NULL);
        if (back == f || (is_f32 && (float)back == (float)f)) break;
    }
    put_text(w, text);
}

static void put_number(writer *w, int type, const uint8_t *p) {
    const number v = number_at(type, p);
    char text[24];
    if (type == WK_META_BOOL) {
        put_text(w, v.u ? "true" : "false");
    } else if (v.kind == KIND_REAL) {
        put_real(w, v.f, type == WK_META_F32);
    } else {
        if (v.kind == KIND_INT)
            (void)snprintf(text, sizeof(text), "%lld", (long long)v.i);
        else
            (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)v.u);
        put_text(w, text);
    }
}

/* Character by character, so that a long text is escaped by the same rules as a short one. */
static void put_quoted(writer *w, wk_str s) {
    put(w, "\"", 1);
    for (size_t i = 0; i < s.n && !w->full;) {
        uint32_t cp;
        const int k = wk_utf8_decode(s.p + i, s.n - i, &cp);
        const size_t n = k > 0 ? (size_t)k : 1;
        const char c = s.p[i];
        if (c == '\n')
            put_text(w, "\\n");
        else if (c == '\t')
            put_text(w, "\\t");
        else if (c == '"')
            put_text(w, "\\\"");
        else if (c == '\\')
            put_text(w, "\\\\");
        else if (c >= 0x20 && c < 0x7f)
            put(w, &c, 1);
        else
            put_text(w, wk_show((wk_str){s.p + i, n}).text);
        i += n;
    }
    put(w, "\"", 1);
}

static void put_array(writer *w, const wk_store *s, const wk_meta_rec *m) {
    char head[64];
    (void)snprintf(head, sizeof(head), "[%s \xc3\x97 %zu]", types[m->elem].name, m->n);
    put_text(w, head);
    if (m->elem == WK_META_ARRAY) {
        if (m->n) put_text(w, " " ELLIPSIS);
        return;
    }
    for (size_t i = 0; i < m->n && !w->full; i++) {
        put_text(w, i ? ", " : " ");
        if (m->elem == WK_META_STR)
            put_quoted(w, str_at(s->p + m->val_at + s->str_off[m->first_str + i]));
        else
            put_number(w, m->elem, s->p + m->val_at + i * types[m->elem].bytes);
    }
}

static void put_value(writer *w, const wk_store *s, const wk_meta_rec *m) {
    if (m->type == WK_META_ARRAY)
        put_array(w, s, m);
    else if (m->type == WK_META_STR)
        put_quoted(w, str_at(s->p + m->val_at));
    else
        put_number(w, m->type, s->p + m->val_at);
}

size_t wk_store_meta_text(const wk_store *s, size_t i, char *buf, size_t cap) {
    if (cap == 0) return 0;
    writer w = writer_of(buf, cap);
    put_value(&w, s, &s->meta[i]);
    if (w.full && cap >= sizeof(ELLIPSIS)) {
        memcpy(buf + w.n, ELLIPSIS, sizeof(ELLIPSIS) - 1);
        w.n += sizeof(ELLIPSIS) - 1;
    }
    buf[w.n] = '\0';
    return w.n;
}

/* ---- getters ----------------------------------------------------------------------------------- */

/* Refuses the value of m: "F.gguf: KEY is TYPE VALUE, wanted …". */
static int refuse(const wk_store *s, const wk_meta_rec *m, wk_err *err, const char *want) {
    char found[48];
    (void)wk_store_meta_text(s, (size_t)(m - s->meta), found, sizeof(found));
    return wk_fail(err, WICK_E_FORMAT, "%s: %s is %s%s%s, wanted %s", s->label,
                   wk_show(wk_store_meta_key(s, (size_t)(m - s->meta))).text,
                   m->type == WK_META_ARRAY ? "" : types[m->type].name,
                   m->type == WK_META_ARRAY ? "" : " ", found, want);
}

int wk_meta_u64(const wk_store *s, const char *key, uint64_t min, uint64_t max, uint64_t *out,
                wk_err *err) {
    const wk_meta_rec *m = wk_store_key(s, wk_cstr(key));
    if (!m) return 0;
    const size_t size = types[m->type].bytes;
    if (size && m->type != WK_META_BOOL) {
        const number v = number_at(m->type, s->p + m->val_at);
        if (v.kind == KIND_UINT && v.u >= min && v.u <= max) {
            *out = v.u;
            return 1;
        }
    }
    char want[80];
    (void)snprintf(want, sizeof(want), "an integer in %llu .. %llu", (unsigned long long)min,
                   (unsigned long long)max);
    return refuse(s, m, err, want);
}

int wk_meta_f64(const wk_store *s, const char *key, double min, double max, double *out,
                wk_err *err) {
    const wk_meta_rec *m = wk_store_key(s, wk_cstr(key));
    if (!m) return 0;
    if (types[m->type].bytes && m->type != WK_META_BOOL) {
        const number v = number_at(m->type, s->p + m->val_at);
        if (v.f >= min && v.f <= max) { /* false for NaN */
            *out = v.f;
            return 1;
        }
    }
    char want[80];
    (void)snprintf(want, sizeof(want), "a number in %g .. %g", min, max);
    return refuse(s, m, err, want);
}

int wk_meta_bool(const wk_store *s, const char *key, bool *out, wk_err *err) {
    const wk_meta_rec *m = wk_store_key(s, wk_cstr(key));
    if (!m) return 0;
    if (m->type != WK_META_BOOL) return refuse(s, m, err, "a bool");
    *out = number_at(m->type, s->p + m->val_at).u != 0;
    return 1;
}

int wk_meta_str(const wk_store *s, const char *key, wk_str *out, wk_err *err) {
    const wk_meta_rec *m = wk_store_key(s, wk_cstr(key));
    if (!m) return 0;
    if (m->type != WK_META_STR) return refuse(s, m, err, "a string");
    *out = str_at(s->p + m->val_at);
    return 1;
}

int wk_meta_array(const wk_store *s, const char *key, wk_array *out, wk_err *err) {
    const wk_meta_rec *m = wk_store_key(s, wk_cstr(key));
    if (!m) return 0;
    if (m->type != WK_META_ARRAY || m->elem == WK_META_ARRAY)
        return refuse(s, m, err, "a one-dimensional array");
    *out = (wk_array){.type = m->elem, .n = m->n, .p = s->p + m->val_at};
    if (m->elem == WK_META_STR) out->str_off = s->str_off + m->first_str;
    return 1;
}

/* ---- elements ---------------------------------------------------------------------------------- */

int64_t wk_array_int(const wk_array *a, size_t i) {
    const size_t size = types[a->type].bytes;
    assert(i < a->n && size);
    if (!size) return 0;
    const number v = number_at(a->type, a->p + i * size);
    if (v.kind == KIND_UINT)
        return v.u > INT64_MAX ? INT64_MAX : (int64_t)v.u; /* out of every range of ids */
    return v.kind == KIND_INT ? v.i : 0;
}

double wk_array_real(const wk_array *a, size_t i) {
    const size_t size = types[a->type].bytes;
    assert(i < a->n && size);
    return size ? number_at(a->type, a->p + i * size).f : 0.0;
}

wk_str wk_array_str(const wk_array *a, size_t i) {
    assert(i < a->n && a->type == WK_META_STR);
    return a->str_off ? str_at(a->p + a->str_off[i]) : (wk_str){"", 0};
}

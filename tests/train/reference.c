/* reference.c: one reader for two containers. */
#include "tests/train/reference.h"

#include <stdio.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/json.h"
#include "engine/base/os.h"
#include "engine/file/store.h"
#include "models/arch.h"
#include "simd/format.h"
#include "tests/unit/unit.h"

struct reference {
    wk_store *gguf; /* or */
    wk_map_file map;
    wk_json_doc *header;
    const uint8_t *body;
    size_t body_n;
};

enum { NAME = 192 };

/* 8 bytes of length, so much JSON: name -> dtype, shape, data_offsets; then the data. */
static void open_safetensors(reference *r, const char *path) {
    wk_err err = {0};
    uint64_t n;
    if (wk_os_map(&r->map, path, &err)) fail_msg("%s", err.message);
    assert_true(r->map.n > sizeof(n));
    memcpy(&n, r->map.p, sizeof(n));
    assert_true(n <= r->map.n - sizeof(n));
    const wk_str text = {(const char *)r->map.p + sizeof(n), (size_t)n};
    if (wk_json_parse(&r->header, text, 8, 1 << 20, &err)) fail_msg("%s: %s", path, err.message);
    r->body = r->map.p + sizeof(n) + n;
    r->body_n = r->map.n - sizeof(n) - (size_t)n;
}

reference *reference_open(const char *path) {
    wk_err err = {0};
    if (access(path, R_OK) != 0) return NULL;
    reference *r = wk_new(reference);
    assert_non_null(r);
    const size_t n = strlen(path);
    if (n > 12 && strcmp(path + n - 12, ".safetensors") == 0)
        open_safetensors(r, path);
    else if (wk_store_open(&r->gguf, path, &err))
        fail_msg("%s", err.message);
    return r;
}

void reference_close(reference *r) {
    if (!r) return;
    wk_store_close(r->gguf);
    wk_json_free(r->header);
    wk_os_unmap(&r->map);
    wk_free(r);
}

bool reference_is_hf(const reference *r) { return r->header != NULL; }

/* ---- tensors ------------------------------------------------------------------------------------- */

/* The bytes of a tensor of a safetensors file, NULL if it is absent. */
static const uint8_t *find_hf(const reference *r, const char *name, wk_str *type, size_t *bytes) {
    const wk_json *t = wk_json_get(wk_json_root(r->header), name);
    if (!t) return NULL;
    const wk_json *at = wk_json_get(t, "data_offsets");
    const int64_t from = wk_json_int(wk_json_at(at, 0)), to = wk_json_int(wk_json_at(at, 1));
    assert_true(from >= 0 && to >= from && (size_t)to <= r->body_n);
    *type = wk_json_str(wk_json_get(t, "dtype"));
    *bytes = (size_t)(to - from);
    return r->body + from;
}

float *reference_f32(const reference *r, const char *name, size_t n) {
    const uint8_t *p = NULL;
    size_t bytes = 0;
    wk_str type = WK_STR("F32");
    if (r->gguf) {
        const wk_tensor *t = wk_store_find(r->gguf, wk_cstr(name));
        if (!t) return NULL;
        assert_int_equal(t->fmt, WK_FMT_F32);
        p = t->data;
        bytes = t->bytes;
    } else if (!(p = find_hf(r, name, &type, &bytes))) {
        return NULL;
    }
    if (bytes != n * sizeof(float) || !wk_str_is(type, "F32"))
        fail_msg("%s has %zu bytes of %.*s, wanted %zu values F32", name, bytes, (int)type.n,
                 type.p, n);
    float *out = wk_new_n(float, n);
    assert_non_null(out);
    memcpy(out, p, bytes);
    return out;
}

/* What Hugging Face files call a weight. */
static void hf_name(char out[NAME], const wk_plan *p, const wk_weight *w) {
    const wk_name *n = p->arch->names;
    while (n->gguf && (int)n->role != w->role) n++;
    assert_non_null(n->hf);
    const char *at = strstr(n->hf, "%d");
    if (at)
        (void)snprintf(out, NAME, "%.*s%d%s", (int)(at - n->hf), n->hf, (int)w->layer, at + 2);
    else
        (void)snprintf(out, NAME, "%s", n->hf);
}

float *reference_of(const reference *r, const char *prefix, const wk_plan *p, const wk_weight *w,
                    size_t n) {
    char name[NAME], full[2 * NAME];
    if (r->gguf)
        (void)snprintf(name, sizeof(name), "%s",
                       w->lora_of >= 0 ? p->weight[w->lora_of].name : w->name);
    else
        hf_name(name, p, w);
    char *end = strstr(name, ".weight");
    if (!r->gguf && strncmp(prefix, "lora.", 5) == 0 && end) *end = '\0';
    (void)snprintf(full, sizeof(full), "%s%s", prefix, name);
    return reference_f32(r, full, n);
}

/* ---- numbers ------------------------------------------------------------------------------------- */

static size_t reals_of_gguf(const wk_store *s, const char *key, double *out, size_t room) {
    char full[NAME];
    wk_array a;
    (void)snprintf(full, sizeof(full), "ref.%s", key);
    if (wk_meta_array(s, full, &a, NULL) != 1)
        return wk_meta_f64(s, full, -1e300, 1e300, out, NULL) == 1 ? 1 : 0;
    const bool is_real = a.type == WK_META_F32 || a.type == WK_META_F64;
    for (size_t i = 0; i < a.n && i < room; i++)
        out[i] = is_real ? wk_array_real(&a, i) : (double)wk_array_int(&a, i);
    return a.n;
}

static double element(const uint8_t *p, wk_str type, size_t i) {
    int32_t i32;
    int64_t i64;
    double f64;
    if (wk_str_is(type, "I32")) return memcpy(&i32, p + 4 * i, 4), (double)i32;
    if (wk_str_is(type, "I64")) return memcpy(&i64, p + 8 * i, 8), (double)i64;
    if (!wk_str_is(type, "F64")) fail_msg("a number of type %.*s", (int)type.n, type.p);
    return memcpy(&f64, p + 8 * i, 8), f64;
}

size_t reference_reals(const reference *r, const char *key, double *out, size_t room) {
    if (r->gguf) return reals_of_gguf(r->gguf, key, out, room);
    wk_str type;
    size_t bytes;
    const uint8_t *p = find_hf(r, key, &type, &bytes);
    if (!p) return 0;
    const size_t n = bytes / (wk_str_is(type, "I32") ? 4 : 8);
    for (size_t i = 0; i < n && i < room; i++) out[i] = element(p, type, i);
    return n;
}

double reference_real(const reference *r, const char *key) {
    double x = 0.0;
    if (reference_reals(r, key, &x, 1) != 1) fail_msg("there is no number %s", key);
    return x;
}

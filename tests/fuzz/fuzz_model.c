/* fuzz_model.c: a whole model by its structure. The input is a list of edits of a small good model: keys, types,
 * values, arrays, shapes, names, data; the file is written anew after them, so that it passes the container and its
 * faults reach hyper-parameters, tensors, vocabulary and template. Then everything that opening a model does is done
 * from memory: refused with a sentence, or a model that plans, encodes and renders. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "engine/base/buf.h"
#include "engine/base/rd.h"
#include "engine/file/store.h"
#include "engine/graph/plan.h"
#include "engine/text/chat.h"
#include "simd/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BASE "tests/golden/bad_model/OK_small.gguf"

enum { METAS = 64, TENSORS = 32, EDITS = 24, DATA_MAX = 1 << 16 };

static void want(bool b) {
    if (!b) __builtin_trap();
}

/* ---- the model as pieces ----------------------------------------------------------------------- */

typedef struct meta {
    wk_str key, value; /* value: as in the file */
    uint32_t type;
} meta;

typedef struct tensor {
    wk_str name;
    uint32_t n_dim, type;
    uint64_t ne[4];
    wk_str data;
} tensor;

typedef struct model {
    meta meta[METAS];
    tensor tensor[TENSORS];
    size_t n_meta, n_tensor;
    wk_arena arena; /* what edits made */
    wk_rd in;       /* edits */
} model;

static size_t size_of(uint32_t type) {
    static const uint8_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof(size) ? size[type] : 0;
}

/* The base is good: what fails here is a broken test. */
static wk_str take_value(wk_rd *r, uint32_t type) {
    const uint8_t *begin = r->p;
    wk_str s;
    uint32_t elem = 0;
    uint64_t n = 1;
    if (type == WK_META_ARRAY) want(wk_rd_u32(r, &elem) && wk_rd_u64(r, &n));
    if (type != WK_META_ARRAY) elem = type;
    for (uint64_t i = 0; i < n; i++)
        want(elem == WK_META_STR ? wk_rd_str(r, &s) : wk_rd_skip(r, size_of(elem)));
    return (wk_str){(const char *)begin, (size_t)(r->p - begin)};
}

static void read_base(model *m, const uint8_t *p, size_t n) {
    wk_rd r = wk_rd_of(p, n);
    uint64_t n_tensor = 0, n_meta = 0, offset[TENSORS];
    want(wk_rd_skip(&r, 8) && wk_rd_u64(&r, &n_tensor) && wk_rd_u64(&r, &n_meta));
    want(n_tensor <= TENSORS && n_meta <= METAS);
    for (; m->n_meta < n_meta; m->n_meta++) {
        meta *k = &m->meta[m->n_meta];
        want(wk_rd_str(&r, &k->key) && wk_rd_u32(&r, &k->type));
        k->value = take_value(&r, k->type);
    }
    for (; m->n_tensor < n_tensor; m->n_tensor++) {
        tensor *t = &m->tensor[m->n_tensor];
        want(wk_rd_str(&r, &t->name) && wk_rd_u32(&r, &t->n_dim) && t->n_dim <= 4);
        for (uint32_t d = 0; d < 4; d++) t->ne[d] = 1;
        for (uint32_t d = 0; d < t->n_dim; d++) want(wk_rd_u64(&r, &t->ne[d]));
        want(wk_rd_u32(&r, &t->type) && t->type == 0 && wk_rd_u64(&r, &offset[m->n_tensor]));
    }
    const size_t at = (wk_rd_at(&r) + 31) / 32 * 32;
    for (size_t i = 0; i < m->n_tensor; i++) {
        tensor *t = &m->tensor[i];
        t->data = (wk_str){(const char *)p + at + offset[i], (size_t)(t->ne[0] * t->ne[1] * 4)};
    }
}

static void put64(wk_buf *b, uint64_t x) { (void)wk_buf_add(b, &x, 8); } /* failure stays in b, as below */
static void put32(wk_buf *b, uint32_t x) { (void)wk_buf_add(b, &x, 4); }
static void put_str(wk_buf *b, wk_str s) {
    put64(b, s.n);
    (void)wk_buf_add(b, s.p, s.n);
}
static void align(wk_buf *b) {
    while (b->n % 32) (void)wk_buf_addc(b, 0);
}

static void write_model(wk_buf *b, const model *m) {
    uint64_t offset = 0;
    put32(b, 0x46554747);
    put32(b, 3);
    put64(b, m->n_tensor);
    put64(b, m->n_meta);
    for (size_t i = 0; i < m->n_meta; i++) {
        put_str(b, m->meta[i].key);
        put32(b, m->meta[i].type);
        (void)wk_buf_add(b, m->meta[i].value.p, m->meta[i].value.n);
    }
    for (size_t i = 0; i < m->n_tensor; i++) {
        const tensor *t = &m->tensor[i];
        put_str(b, t->name);
        put32(b, t->n_dim);
        for (uint32_t d = 0; d < t->n_dim; d++) put64(b, t->ne[d]);
        put32(b, t->type);
        put64(b, offset);
        offset += (t->data.n + 31) / 32 * 32;
    }
    align(b);
    for (size_t i = 0; i < m->n_tensor; i++) {
        (void)wk_buf_add(b, m->tensor[i].data.p, m->tensor[i].data.n);
        align(b);
    }
}

/* ---- edits ------------------------------------------------------------------------------------- */

static uint8_t next(model *m) {
    uint8_t b = 0;
    (void)wk_rd_u8(&m->in, &b); /* at the end: zeros */
    return b;
}

static uint64_t number(model *m) {
    static const uint64_t odd[] = {0,           1,          2,          3,           4,          5,
                                   7,           8,          16,         31,          32,         127,
                                   255,         256,        65535,      0x7fffffff,  0x80000000, 0xffffffff,
                                   1ull << 32,  1ull << 40, 1ull << 61, 1ull << 62,  1ull << 63, UINT64_MAX,
                                   0x7fc00000u, 0x7f800000, 0xff800000, 0x3f800000u, 0x7f7fffff, 0x3ff0000000000000};
    const uint8_t k = next(m);
    uint64_t x = 0;
    if (k < 2 * WK_COUNT(odd)) return odd[k % WK_COUNT(odd)];
    for (int i = 0; i < k % 8; i++) x = x << 8 | next(m);
    return x;
}

static wk_str text(model *m) {
    static const char *const odd[] = {"",     "llama", "qwen3", "gemma3",  "gpt2",       "<0x00>",
                                      "yarn", "ab",    "%s%n",  "\x1b[m",  "<|im_end|>", "<0xZZ>",
                                      "none", "linear", "default", "\xe2\x96\x81"};
    const uint8_t k = next(m);
    if (k < WK_COUNT(odd)) return wk_cstr(odd[k]);
    const size_t left = wk_rd_left(&m->in), n = k < left ? k : left;
    return (wk_str){(const char *)wk_rd_take(&m->in, n), n};
}

static wk_str keep(model *m, const wk_buf *b) {
    char *p = wk_arena_get(&m->arena, b->n + 1);
    want(p && !b->failed);
    if (b->n) memcpy(p, b->p, b->n);
    return (wk_str){p, b->n};
}

static void set_value(model *m, meta *k) {
    static const uint8_t types[] = {0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12};
    wk_buf b;
    const uint32_t type = types[next(m) % sizeof(types)];
    uint64_t x = number(m);
    if (type == WK_META_BOOL) x &= 1;
    wk_buf_init(&b, 0);
    (void)wk_buf_add(&b, &x, size_of(type));
    k->type = type;
    k->value = keep(m, &b);
    wk_buf_fini(&b);
}

static void set_text(model *m, meta *k) {
    wk_buf b;
    wk_buf_init(&b, 0);
    put_str(&b, text(m));
    k->type = WK_META_STR;
    k->value = keep(m, &b);
    wk_buf_fini(&b);
}

/* An array of the same kind or another, longer or shorter, one element of it new. */
static void set_array(model *m, meta *k) {
    const uint32_t elem = next(m) % WK_META_TYPE_COUNT;
    const uint64_t n = next(m) % 40, odd = n ? next(m) % n : 0;
    wk_buf b;
    if (elem == WK_META_ARRAY) return;
    wk_buf_init(&b, 0);
    put32(&b, elem);
    put64(&b, n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t x = i == odd ? number(m) : i;
        if (elem == WK_META_BOOL) x &= 1;
        if (elem != WK_META_STR)
            (void)wk_buf_add(&b, &x, size_of(elem));
        else
            put_str(&b, i == odd ? text(m) : (wk_str){&"abcdefgh"[i % 8], 1 + i % 3 % (8 - i % 8)});
    }
    k->type = WK_META_ARRAY;
    k->value = keep(m, &b);
    wk_buf_fini(&b);
}

/* One element of an array, its length and the others kept. */
static void set_element(model *m, meta *k) {
    wk_rd r = wk_rd_of(k->value.p, k->value.n);
    uint32_t elem = 0;
    uint64_t n = 0;
    wk_buf b;
    if (k->type != WK_META_ARRAY || !wk_rd_u32(&r, &elem) || !wk_rd_u64(&r, &n) || n == 0) return;
    const uint64_t odd = next(m) % n;
    wk_buf_init(&b, 0);
    put32(&b, elem);
    put64(&b, n);
    for (uint64_t i = 0; i < n; i++) {
        const wk_str old = take_value(&r, elem);
        uint64_t x = i == odd ? number(m) : 0;
        if (elem == WK_META_BOOL) x &= 1;
        if (i != odd)
            (void)wk_buf_add(&b, old.p, old.n);
        else if (elem == WK_META_STR)
            put_str(&b, text(m));
        else
            (void)wk_buf_add(&b, &x, size_of(elem));
    }
    k->value = keep(m, &b);
    wk_buf_fini(&b);
}

static void drop_meta(model *m, meta *k) { *k = m->meta[--m->n_meta]; }

/* Under another name: an architecture's key, or any. */
static void set_key(model *m, meta *k) {
    static const char *const names[] = {
        "llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.freq_base", "llama.attention.scale",
        "llama.rope.scaling.original_context_length", "tokenizer.ggml.merges", "tokenizer.ggml.pre",
        "tokenizer.ggml.eot_token_id", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix",
        "general.alignment", "split.count", "split.no", "split.tensors.count", "llama.vocab_size", "general.name"};
    const uint8_t i = next(m);
    if (m->n_meta == METAS) return;
    meta *copy = &m->meta[m->n_meta];
    *copy = *k;
    copy->key = i < 128 ? wk_cstr(names[i % WK_COUNT(names)]) : text(m);
    for (size_t j = 0; j < m->n_meta; j++)
        if (wk_str_eq(m->meta[j].key, copy->key)) return; /* twice is the container's affair */
    m->n_meta++;
}

/* Every "llama." becomes another architecture's. */
static void set_arch(model *m, meta *k) {
    static const char *const archs[] = {"qwen3", "gemma3", "llama"};
    const char *arch = archs[next(m) % WK_COUNT(archs)];
    (void)k;
    for (size_t i = 0; i < m->n_meta; i++) {
        wk_buf b;
        wk_buf_init(&b, 0);
        if (wk_str_starts(m->meta[i].key, WK_STR("llama."))) {
            (void)wk_buf_adds(&b, arch);
            (void)wk_buf_add(&b, m->meta[i].key.p + 5, m->meta[i].key.n - 5);
            m->meta[i].key = keep(m, &b);
        } else if (wk_str_is(m->meta[i].key, "general.architecture")) {
            put_str(&b, wk_cstr(arch));
            m->meta[i].type = WK_META_STR;
            m->meta[i].value = keep(m, &b);
        }
        wk_buf_fini(&b);
    }
}

/* Data of the size that the shape wants, if that is small. */
static void refill(model *m, tensor *t) {
    const int fmt = wk_format_of_gguf(t->type);
    if (fmt < 0 || t->ne[0] > 4096 || t->ne[1] > 4096 || t->ne[2] > 16 || t->ne[3] > 16) return;
    const size_t n = wk_row_bytes(fmt, (size_t)t->ne[0]) * (size_t)(t->ne[1] * t->ne[2] * t->ne[3]);
    char *p = n && n <= DATA_MAX ? wk_arena_get(&m->arena, n) : NULL;
    if (!p) return;
    for (size_t i = 0; i < n && t->data.n; i++) p[i] = t->data.p[i % t->data.n];
    t->data = (wk_str){p, n};
}

static void set_shape(model *m, tensor *t) {
    const uint32_t d = next(m) % 4;
    t->ne[d] = number(m);
    if (d >= t->n_dim) t->n_dim = d + 1;
    refill(m, t);
}

static void set_type(model *m, tensor *t) {
    t->type = next(m) % 42;
    refill(m, t);
}

static void set_data(model *m, tensor *t) {
    char *p = wk_arena_get(&m->arena, t->data.n + 1);
    const size_t at = next(m);
    const uint64_t x = number(m);
    want(p);
    if (t->data.n) memcpy(p, t->data.p, t->data.n);
    if (t->data.n >= 4) memcpy(p + at * 4 % (t->data.n - 3), &x, 4);
    t->data.p = p;
}

static void set_name(model *m, tensor *t) {
    static const char *const names[] = {"output.weight",          "rope_freqs.weight",        "blk.0.attn_q.bias",
                                        "blk.1.attn_norm.weight", "blk.0.attn_q_norm.weight",
                                        "blk.0.post_ffw_norm.weight"};
    const uint8_t i = next(m);
    if (m->n_tensor == TENSORS) return;
    tensor copy = *t;
    copy.name = i < 128 ? wk_cstr(names[i % WK_COUNT(names)]) : text(m);
    for (size_t j = 0; j < m->n_tensor; j++)
        if (wk_str_eq(m->tensor[j].name, copy.name)) return;
    m->tensor[m->n_tensor++] = copy;
}

static void drop_tensor(model *m, tensor *t) { *t = m->tensor[--m->n_tensor]; }

static void edit(model *m) {
    static void (*const of_meta[])(model *, meta *) = {set_value,   set_text,  set_array, set_element,
                                                       set_element, drop_meta, set_key,   set_arch};
    static void (*const of_tensor[])(model *, tensor *) = {set_shape, set_type, set_data, set_name, drop_tensor};
    const uint8_t what = next(m), which = next(m);
    if (what % 3 < 2 && m->n_meta)
        of_meta[what / 3 % WK_COUNT(of_meta)](m, &m->meta[which % m->n_meta]);
    else if (m->n_tensor)
        of_tensor[what / 3 % WK_COUNT(of_tensor)](m, &m->tensor[which % m->n_tensor]);
}

/* ---- what is done with it ---------------------------------------------------------------------- */

static void check_refusal(int rc, const wk_err *err) {
    want(rc == err->code && rc != WICK_E_NOMEM && strlen(err->message) >= 16);
    for (const char *p = err->message; *p; p++) want((uint8_t)*p >= 0x20 && *p != 0x7f);
}

static void talk(const wk_chat *c, const wk_tok *t) {
    enum { IDS = 256 };
    static const wk_run run = {{"ab <s>\xff \xe2\x96\x81\n", 12}, true};
    int32_t id[IDS];
    size_t n = 0, len = 0;
    wk_err err = {0};
    want(wk_tok_encode(t, &run, 1, WK_TOK_BOS | WK_TOK_SPECIAL, id, IDS, &n) == WICK_OK && n <= IDS);
    for (size_t i = 0; i < n; i++) want(id[i] >= 0 && id[i] < wk_tok_count(t));
    (void)wk_tok_decode(t, id, n, WK_TOK_SHOW_SPECIAL, NULL, 0, &len); /* asks for the size */
    wk_buf b;
    wk_buf_init(&b, 1 << 24);
    const wk_str request = WK_STR("{\"messages\":[{\"role\":\"user\",\"content\":\"ab\"}]}");
    const int rc = wk_chat_render(c, request, &b, id, IDS, &n, &err);
    if (rc) check_refusal(rc, &err);
    for (size_t i = 0; !rc && i < n && i < IDS; i++) want(id[i] >= 0 && id[i] < wk_tok_count(t));
    wk_buf_fini(&b);
}

static void plan(const wk_store *s) {
    const wk_plan_options o = {.max_tok = 3, .max_out = 2};
    wk_plan *p = NULL;
    wk_err err = {0};
    const int rc = wk_plan_build(&p, s, &o, &err);
    if (rc) check_refusal(rc, &err);
    want(!rc == (p != NULL));
    for (int32_t i = 0; p && i < p->n_weight; i++)
        want((uint64_t)p->weight[i].n_row * p->weight[i].row_bytes <= wk_store_file_bytes(s));
    wk_plan_free(p);
}

static void open_model(const wk_buf *b) {
    wk_err err = {0};
    wk_store *s = NULL;
    wk_tok *t = NULL;
    wk_chat *c = NULL;
    int rc = wk_store_open_memory(&s, b->p, b->n, "f.gguf", &err);
    if (!rc) plan(s);
    if (!rc) rc = wk_tok_open(&t, s, &err);
    if (!rc) rc = wk_chat_open(&c, s, t, &err);
    if (rc)
        check_refusal(rc, &err);
    else
        talk(c, t);
    wk_chat_close(c);
    wk_tok_close(t);
    wk_store_close(s);
}

static void with_base(model *m, const uint8_t *base, size_t n, const uint8_t *data, size_t size) {
    wk_buf b;
    wk_arena_init(&m->arena, 0);
    m->in = wk_rd_of(data, size);
    read_base(m, base, n);
    for (int i = 0; i < EDITS && wk_rd_left(&m->in); i++) edit(m);
    wk_buf_init(&b, 0);
    write_model(&b, m);
    want(!b.failed);
    open_model(&b);
    wk_buf_fini(&b);
    wk_arena_fini(&m->arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t base[4096];
    FILE *f = fopen(BASE, "rb");
    if (!f) {
        (void)fprintf(stderr, "cannot read " BASE "; run in the root of the tree\n");
        abort();
    }
    const size_t n = fread(base, 1, sizeof(base), f);
    (void)fclose(f); /* read only */
    want(n < sizeof(base));
    model *m = wk_new(model);
    want(m);
    with_base(m, base, n, data, size);
    wk_free(m);
    return 0;
}

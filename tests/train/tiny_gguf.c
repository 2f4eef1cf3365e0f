/* tiny_gguf.c: keys, then the tensors of an architecture with random values. */
#include "tests/train/tiny_gguf.h"

#include <stdio.h>

#include "engine/base/rng.h"
#include "tests/unit/unit.h"

enum { MOST = 256 };

typedef struct item {
    char name[48];
    int32_t rows, cols; /* rows 0: a vector */
    bool is_norm;
} item;
typedef struct list {
    item at[MOST];
    uint32_t n;
} list;

double tiny_uniform(uint64_t seed, uint32_t stream, uint32_t i) {
    uint32_t r[4];
    wk_philox(r, seed, (const uint32_t[4]){i, stream, 0, 0});
    return (double)r[0] * 0x1p-31 - 1.0;
}

/* ---- what there is ------------------------------------------------------------------------------- */

static void put(list *l, int32_t layer, const char *part, int32_t rows, int32_t cols) {
    assert_true(l->n < MOST);
    item *t = &l->at[l->n++];
    if (layer < 0)
        (void)snprintf(t->name, sizeof(t->name), "%s", part);
    else
        (void)snprintf(t->name, sizeof(t->name), "blk.%d.%s", (int)layer, part);
    t->rows = rows;
    t->cols = cols;
    t->is_norm = strstr(part, "norm") != NULL;
}

static void put_layer(list *l, const tiny_spec *m, int32_t i) {
    const int32_t q = m->n_head * m->head_dim, kv = m->n_head_kv * m->head_dim;
    const bool gemma = strcmp(m->arch, "gemma3") == 0;
    put(l, i, "attn_norm.weight", 0, m->dim);
    put(l, i, "attn_q.weight", q, m->dim);
    put(l, i, "attn_k.weight", kv, m->dim);
    put(l, i, "attn_v.weight", kv, m->dim);
    put(l, i, "attn_output.weight", m->dim, q);
    if (m->bias) {
        put(l, i, "attn_q.bias", 0, q);
        put(l, i, "attn_k.bias", 0, kv);
        put(l, i, "attn_v.bias", 0, kv);
    }
    if (gemma || strcmp(m->arch, "qwen3") == 0) {
        put(l, i, "attn_q_norm.weight", 0, m->head_dim);
        put(l, i, "attn_k_norm.weight", 0, m->head_dim);
    }
    if (gemma) put(l, i, "post_attention_norm.weight", 0, m->dim);
    put(l, i, "ffn_norm.weight", 0, m->dim);
    put(l, i, "ffn_gate.weight", m->n_ff, m->dim);
    put(l, i, "ffn_up.weight", m->n_ff, m->dim);
    put(l, i, "ffn_down.weight", m->dim, m->n_ff);
    if (gemma) put(l, i, "post_ffw_norm.weight", 0, m->dim);
}

static void put_model(list *l, const tiny_spec *m) {
    put(l, -1, "token_embd.weight", m->n_vocab, m->dim);
    for (int32_t i = 0; i < m->n_layer; i++) put_layer(l, m, i);
    put(l, -1, "output_norm.weight", 0, m->dim);
    if (m->untied) put(l, -1, "output.weight", m->n_vocab, m->dim);
}

/* ---- bytes --------------------------------------------------------------------------------------- */

static void add(wk_buf *b, const void *p, size_t n) { assert_true(wk_buf_add(b, p, n)); }
static void add32(wk_buf *b, uint32_t x) { add(b, &x, sizeof(x)); }
static void add64(wk_buf *b, uint64_t x) { add(b, &x, sizeof(x)); }
static void add_text(wk_buf *b, const char *s) {
    add64(b, strlen(s));
    add(b, s, strlen(s));
}
static void align(wk_buf *b) {
    while (b->n % 32) add(b, "", 1);
}

enum { KEY_U32 = 4, KEY_F32 = 6, KEY_STR = 8 };
static void add_key(wk_buf *b, const char *arch, const char *key, uint32_t type, double v) {
    char name[64];
    (void)snprintf(name, sizeof(name), "%s.%s", arch, key);
    add_text(b, name);
    add32(b, type);
    const float f = (float)v;
    if (type == KEY_F32)
        add(b, &f, sizeof(f));
    else
        add32(b, (uint32_t)v);
}

static void add_keys(wk_buf *b, const tiny_spec *m) {
    const struct {
        const char *key;
        uint32_t type;
        double v;
    } keys[] = {
        {"block_count", KEY_U32, m->n_layer},
        {"context_length", KEY_U32, 512},
        {"embedding_length", KEY_U32, m->dim},
        {"feed_forward_length", KEY_U32, m->n_ff},
        {"attention.head_count", KEY_U32, m->n_head},
        {"attention.head_count_kv", KEY_U32, m->n_head_kv},
        {"attention.key_length", KEY_U32, m->head_dim},
        {"attention.value_length", KEY_U32, m->head_dim},
        {"attention.layer_norm_rms_epsilon", KEY_F32, 1e-5},
        {"rope.freq_base", KEY_F32, 1000.0},
        {"attention.sliding_window", KEY_U32, m->window ? m->window : 16},
        {"attention.scale", KEY_F32, 0.3},
        {"final_logit_softcapping", KEY_F32, (double)m->softcap},
    };
    add64(b, 1 + sizeof(keys) / sizeof(keys[0]));
    add_text(b, "general.architecture");
    add32(b, KEY_STR);
    add_text(b, m->arch);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        add_key(b, m->arch, keys[i].key, keys[i].type, keys[i].v);
}

static uint32_t elements(const item *t) { return (uint32_t)(t->cols * (t->rows ? t->rows : 1)); }

static void add_values(wk_buf *b, const tiny_spec *m, const item *t, uint32_t stream) {
    const double a = t->rows ? (m->amplitude > 0.0f ? (double)m->amplitude : 0.3) : 0.2;
    for (uint32_t i = 0; i < elements(t); i++) {
        const float f = (float)((t->is_norm ? 1.0 : 0.0) + a * tiny_uniform(m->seed, stream, i));
        add(b, &f, sizeof(f));
    }
    align(b);
}

/* Names, shapes and offsets, then values. */
static void add_tensors(wk_buf *b, const tiny_spec *m, const list *l, uint32_t stream) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        const item *t = &l->at[i];
        add_text(b, t->name);
        add32(b, t->rows ? 2 : 1);
        add64(b, (uint64_t)t->cols);
        if (t->rows) add64(b, (uint64_t)t->rows);
        add32(b, 0);
        add64(b, at);
        at += ((uint64_t)elements(t) * sizeof(float) + 31) / 32 * 32;
    }
    align(b);
    for (uint32_t i = 0; i < l->n; i++) add_values(b, m, &l->at[i], stream + i);
}

static void add_head(wk_buf *b, uint32_t n_tensor) {
    add(b, "GGUF", 4);
    add32(b, 3);
    add64(b, n_tensor);
}

void tiny_build(wk_buf *b, const tiny_spec *m) {
    list l = {.n = 0};
    put_model(&l, m);
    add_head(b, l.n);
    add_keys(b, m);
    add_tensors(b, m, &l, 0);
}

static void add_word(wk_buf *b, const char *key, const char *value) {
    add_text(b, key);
    add32(b, KEY_STR);
    add_text(b, value);
}

/* A of every adapted matrix of a layer, and its B. */
static void put_pairs(list *l, const list *layer, int32_t rank) {
    for (uint32_t i = 0; i < layer->n; i++) {
        const item *w = &layer->at[i];
        if (!w->rows) continue;
        assert_true(l->n + 2 <= MOST);
        item *a = &l->at[l->n++], *b = &l->at[l->n++];
        (void)snprintf(a->name, sizeof(a->name), "%.40s.lora_a", w->name);
        (void)snprintf(b->name, sizeof(b->name), "%.40s.lora_b", w->name);
        a->rows = b->cols = rank;
        a->cols = w->cols;
        b->rows = w->rows;
        a->is_norm = b->is_norm = false;
    }
}

void tiny_build_adapter(wk_buf *b, const tiny_spec *m, int32_t rank) {
    list l = {.n = 0};
    for (int32_t i = 0; i < m->n_layer; i++) {
        list layer = {.n = 0};
        put_layer(&layer, m, i);
        put_pairs(&l, &layer, rank);
    }
    add_head(b, l.n);
    add64(b, 4);
    add_word(b, "general.type", "adapter");
    add_word(b, "general.architecture", m->arch);
    add_word(b, "adapter.type", "lora");
    add_key(b, "adapter", "lora.alpha", KEY_F32, 2.0 * rank);
    add_tensors(b, m, &l, MOST);
}

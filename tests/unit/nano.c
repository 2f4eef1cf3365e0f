/* nano.c: writes the smallest GGUF that is a llama. */
#include "tests/unit/nano.h"

#include <stdio.h>

#include "tests/unit/unit.h"

static const nano_key keys[] = {
    {.key = "general.architecture", .type = NANO_STR, .s = "llama"},
    {.key = "llama.block_count", .type = NANO_U32, .u = 2},
    {.key = "llama.context_length", .type = NANO_U32, .u = 32},
    {.key = "llama.embedding_length", .type = NANO_U32, .u = 8},
    {.key = "llama.feed_forward_length", .type = NANO_U32, .u = 12},
    {.key = "llama.attention.head_count", .type = NANO_U32, .u = 2},
    {.key = "llama.attention.head_count_kv", .type = NANO_U32, .u = 1},
    {.key = "llama.attention.layer_norm_rms_epsilon", .type = NANO_F32, .f = 1e-5f},
    {.key = "tokenizer.ggml.tokens", .type = NANO_STRINGS, .n = 5},
};

static const nano_tensor tensors[] = {{"token_embd.weight", {8, 5}, 0, 0},
                                      {"output_norm.weight", {8, 0}, 0, 0},
#define LAYER(i)                                                                                   \
    {"blk." i ".attn_norm.weight", {8, 0}, 0, 0}, {"blk." i ".attn_q.weight", {8, 8}, 0, 0},       \
        {"blk." i ".attn_k.weight", {8, 4}, 0, 0}, {"blk." i ".attn_v.weight", {8, 4}, 0, 0},      \
        {"blk." i ".attn_output.weight", {8, 8}, 0, 0},                                            \
        {"blk." i ".ffn_norm.weight", {8, 0}, 0, 0}, {"blk." i ".ffn_gate.weight", {8, 12}, 0, 0}, \
        {"blk." i ".ffn_up.weight", {8, 12}, 0, 0}, {"blk." i ".ffn_down.weight", {12, 8}, 0, 0},
                                      LAYER("0") LAYER("1")
#undef LAYER
};

enum {
    N_KEY = sizeof(keys) / sizeof(keys[0]),
    N_TENSOR = sizeof(tensors) / sizeof(tensors[0]),
    MOST = 32
};

static void put(wk_buf *b, const void *p, size_t n) {
    assert_true(wk_buf_add(b, p, n));
}
static void put32(wk_buf *b, uint32_t x) {
    put(b, &x, sizeof(x));
}
static void put64(wk_buf *b, uint64_t x) {
    put(b, &x, sizeof(x));
}
static void put_str(wk_buf *b, const char *s) {
    put64(b, strlen(s));
    put(b, s, strlen(s));
}

/* "llama.x" under the name of another architecture. */
static void put_key_name(wk_buf *b, const char *key, const char *arch) {
    char name[96];
    if (arch && strncmp(key, "llama.", 6) == 0) {
        (void)snprintf(name, sizeof(name), "%s%s", arch, key + 5);
        key = name;
    }
    put_str(b, key);
}

static void put_key(wk_buf *b, const nano_key *k, const char *arch) {
    static const uint32_t types[] = {
        [NANO_U32] = 4, [NANO_F32] = 6, [NANO_STR] = 8, [NANO_ARRAY] = 9, [NANO_STRINGS] = 9};
    put_key_name(b, k->key, arch);
    put32(b, types[k->type]);
    switch (k->type) {
    case NANO_U32:
        put32(b, k->u);
        return;
    case NANO_F32:
        put(b, &k->f, sizeof(k->f));
        return;
    case NANO_STR:
        put_str(b, k->s);
        return;
    case NANO_ARRAY:
        put32(b, 4);
        put64(b, k->n);
        for (uint32_t i = 0; i < k->n; i++) put32(b, k->array[i]);
        return;
    case NANO_STRINGS:
        put32(b, 8);
        put64(b, k->n);
        for (uint32_t i = 0; i < k->n; i++) put_str(b, "x");
        return;
    }
}

static bool is_dropped(const nano_edit *e, const char *name) {
    return e->drop && strcmp(e->drop, name) == 0;
}

/* The plain keys that the edit leaves alone, then its own. */
static size_t list_keys(nano_key out[MOST], const nano_edit *e) {
    size_t n = 0;
    for (size_t i = 0; i < N_KEY; i++) {
        bool kept = !is_dropped(e, keys[i].key);
        for (size_t j = 0; j < 4; j++)
            kept &= !e->key[j].key || strcmp(e->key[j].key, keys[i].key) != 0;
        if (!kept) continue;
        out[n] = keys[i];
        if (e->arch && i == 0) out[n].s = e->arch; /* general.architecture */
        if (e->dim && strcmp(keys[i].key, "llama.embedding_length") == 0) out[n].u = e->dim;
        n++;
    }
    for (size_t j = 0; j < 4; j++)
        if (e->key[j].key) out[n++] = e->key[j];
    return n;
}

static uint64_t scaled(uint64_t ne, uint32_t dim) {
    return !dim || (ne != 8 && ne != 4) ? ne : ne * dim / 8;
}

static size_t list_tensors(nano_tensor out[MOST], const nano_edit *e) {
    size_t n = 0;
    for (size_t i = 0; i < N_TENSOR; i++) {
        bool kept = !is_dropped(e, tensors[i].name);
        for (size_t j = 0; j < 2; j++)
            kept &= !e->tensor[j].name || strcmp(e->tensor[j].name, tensors[i].name) != 0;
        if (!kept) continue;
        out[n] = tensors[i];
        for (int j = 0; j < 2; j++) out[n].ne[j] = scaled(tensors[i].ne[j], e->dim);
        n++;
    }
    for (size_t j = 0; j < 2; j++)
        if (e->tensor[j].name) out[n++] = e->tensor[j];
    return n;
}

static size_t bytes_of(const nano_tensor *t) {
    const size_t n = (size_t)(t->ne[0] * (t->ne[1] ? t->ne[1] : 1));
    return t->gguf == 8 ? n / 32 * 34 : n * 4;
}

static void align(wk_buf *b, size_t to) {
    while (b->n % to) put(b, "", 1);
}

void nano_build(wk_buf *b, const nano_edit *e) {
    static const nano_edit none;
    nano_key k[MOST];
    nano_tensor t[MOST];
    if (!e) e = &none;
    const size_t n_key = list_keys(k, e), n_tensor = list_tensors(t, e);
    put(b, "GGUF", 4);
    put32(b, 3);
    put64(b, n_tensor);
    put64(b, n_key);
    for (size_t i = 0; i < n_key; i++) put_key(b, &k[i], e->arch);
    uint64_t at = 0;
    for (size_t i = 0; i < n_tensor; i++) {
        put_str(b, t[i].name);
        put32(b, t[i].ne[1] ? 2 : 1);
        put64(b, t[i].ne[0]);
        if (t[i].ne[1]) put64(b, t[i].ne[1]);
        put32(b, t[i].gguf);
        put64(b, at);
        at += (bytes_of(&t[i]) + 31) / 32 * 32;
    }
    align(b, 32);
    for (size_t i = 0; i < n_tensor; i++) {
        for (size_t j = 0; j < bytes_of(&t[i]) / 4; j++) put(b, &t[i].value, 4);
        for (size_t j = 0; j < bytes_of(&t[i]) % 4; j++) put(b, "", 1);
        align(b, 32);
    }
}

int nano_plan(wk_plan **p, wk_store **s, const wk_buf *bytes, wk_err *err) {
    const wk_plan_options o = {.max_tok = 4, .max_out = 2};
    *s = NULL;
    if (wk_store_open_memory(s, bytes->p, bytes->n, "nano.gguf", err)) fail_msg("%s", err->message);
    const int rc = wk_plan_build(p, *s, &o, err);
    if (rc) {
        wk_store_close(*s);
        *s = NULL;
    }
    return rc;
}

void nano_read_file(wk_buf *out, const char *path) {
    char part[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("cannot open %s", path);
    while ((n = fread(part, 1, sizeof(part), f)) > 0) put(out, part, n);
    (void)fclose(f);
}

wk_store *nano_open_tiny(const char *arch) {
    char path[64];
    wk_err err = {0};
    wk_store *s = NULL;
    (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.gguf", arch);
    if (wk_store_open(&s, path, &err)) fail_msg("%s", err.message);
    return s;
}

void nano_rename(wk_buf *b, const char *old, const char *new_text) {
    const size_t n = strlen(old);
    int found = 0;
    assert_int_equal(n, strlen(new_text));
    for (size_t i = 0; i + n <= b->n; i++)
        if (memcmp(b->p + i, old, n) == 0) {
            memcpy(b->p + i, new_text, n);
            found++;
        }
    assert_true(found > 0);
}

/* init.c: where training from scratch begins: a llama of random weights, as a file like any other.
 *
 * N(0, 0.02), the two projections that write into the residual divided by sqrt(2 L) (Radford et al. 2019, GPT-2,
 * section 2.3): attn_output and ffn_down. Every value is a pure function of (seed, tensor, element). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/rng.h"
#include "engine/file/write.h"
#include "engine/train/trainer.h"
#include "simd/dmath.h"
#include "simd/format.h"

/* Shapes of the llama2.c models (260k, 15m, 42m, 110m) and two between. */
static const struct {
    const char *name;
    wk_shape shape;
} presets[] = {
    {"260k", {64, 5, 8, 4, 172, 512, true, false}},   {"1m", {128, 5, 8, 4, 352, 512, true, false}},
    {"5m", {256, 6, 8, 4, 704, 512, true, false}},    {"15m", {288, 6, 6, 6, 768, 256, true, false}},
    {"42m", {512, 8, 8, 8, 1376, 1024, true, false}}, {"110m", {768, 12, 12, 12, 2048, 1024, true, false}},
};

const wk_shape *wk_shape_find(const char *preset, char *names, size_t cap) {
    if (cap) names[0] = '\0';
    for (size_t i = 0, at = 0; i < WK_COUNT(presets); i++) {
        if (strcmp(presets[i].name, preset) == 0) return &presets[i].shape;
        const int n =
            at < cap ? snprintf(names + at, cap - at, "%s%s", i ? ", " : "", presets[i].name) : 0;
        at += n > 0 ? (size_t)n : 0;
    }
    return NULL;
}

double wk_normal(uint64_t seed, uint32_t use, uint64_t i) {
    uint32_t r[4];
    wk_philox(r, seed,
              (const uint32_t[4]){(uint32_t)(i / 2), (uint32_t)(i / 2 >> 32), use, 0x696e6974});
    const double u = ((double)r[0] + 1.0) * 0x1p-32,
                 a = (double)r[1] * 0x1p-32 + (double)r[2] * 0x1p-64;
    double sn, cs;
    wk_sincos(6.283185307179586 * a, &sn, &cs);
    return sqrt(-2.0 * wk_dlog(u)) * (i % 2 ? sn : cs);
}

/* ---- tensors ------------------------------------------------------------------------------------- */

typedef struct tensor {
    char name[48];
    uint64_t ne[2];
    uint32_t use; /* number of its stream */
    double sigma; /* 0: ones */
    uint64_t seed;
    float *row; /* shared by all */
} tensor;

static const void *make_row(void *ud, uint64_t row) {
    tensor *t = ud;
    for (uint64_t i = 0; i < t->ne[0]; i++)
        t->row[i] = t->sigma > 0.0
                        ? (float)(t->sigma * wk_normal(t->seed, t->use, row * t->ne[0] + i))
                        : 1.0f;
    return t->row;
}

typedef struct maker {
    wk_writer *w;
    tensor *list;
    uint32_t n;
    float *row;
    uint64_t seed;
} maker;

/* n_row 0: a vector of ones. */
static void put(maker *m, int32_t layer, const char *name, int32_t n_row, int32_t k, double sigma) {
    tensor *t = &m->list[m->n];
    *t = (tensor){.ne = {(uint64_t)k, n_row ? (uint64_t)n_row : 1},
                  .use = m->n++,
                  .sigma = sigma,
                  .seed = m->seed,
                  .row = m->row};
    if (layer < 0)
        (void)snprintf(t->name, sizeof(t->name), "%s.weight", name);
    else
        (void)snprintf(t->name, sizeof(t->name), "blk.%d.%s.weight", (int)layer, name);
    const wk_writer_tensor a = {.name = t->name,
                                .fmt = WK_FMT_F32,
                                .n_dim = n_row ? 2 : 1,
                                .ne = {t->ne[0], t->ne[1], 1, 1},
                                .row = make_row,
                                .ud = t};
    wk_writer_add(m->w, &a);
}

static void put_layer(maker *m, const wk_shape *s, int32_t l) {
    const int32_t d = s->dim, kv = d / s->n_head * s->n_head_kv;
    const double out = 0.02 / sqrt(2.0 * (double)s->n_layer);
    put(m, l, "attn_norm", 0, d, 0.0);
    put(m, l, "attn_q", d, d, 0.02);
    put(m, l, "attn_k", kv, d, 0.02);
    put(m, l, "attn_v", kv, d, 0.02);
    put(m, l, "attn_output", d, d, out);
    put(m, l, "ffn_norm", 0, d, 0.0);
    put(m, l, "ffn_gate", s->n_ff, d, 0.02);
    put(m, l, "ffn_up", s->n_ff, d, 0.02);
    put(m, l, "ffn_down", d, s->n_ff, out);
}

static void put_tensors(maker *m, const wk_shape *s, int32_t n_vocab) {
    put(m, -1, "token_embd", n_vocab, s->dim, 0.02);
    for (int32_t l = 0; l < s->n_layer; l++) put_layer(m, s, l);
    put(m, -1, "output_norm", 0, s->dim, 0.0);
    if (!s->tied) put(m, -1, "output", n_vocab, s->dim, 0.02);
}

/* ---- metadata ------------------------------------------------------------------------------------ */

static bool of_tokenizer(void *ud, wk_str key) {
    const wk_shape *s = ud;
    if (s->plain && wk_str_starts(key, wk_cstr("tokenizer.chat_template"))) return false;
    return wk_str_starts(key, wk_cstr("tokenizer."));
}

static void put_meta(wk_writer *w, const wk_shape *s, const wk_store *tok) {
    wk_writer_str(w, "general.architecture", wk_cstr("llama"));
    wk_writer_str(w, "general.name", wk_cstr("wick"));
    wk_writer_u32(w, "llama.block_count", (uint32_t)s->n_layer);
    wk_writer_u32(w, "llama.context_length", (uint32_t)s->n_ctx);
    wk_writer_u32(w, "llama.embedding_length", (uint32_t)s->dim);
    wk_writer_u32(w, "llama.feed_forward_length", (uint32_t)s->n_ff);
    wk_writer_u32(w, "llama.attention.head_count", (uint32_t)s->n_head);
    wk_writer_u32(w, "llama.attention.head_count_kv", (uint32_t)s->n_head_kv);
    wk_writer_u32(w, "llama.rope.dimension_count", (uint32_t)(s->dim / s->n_head));
    wk_writer_f32(w, "llama.rope.freq_base", 10000.0f);
    wk_writer_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    wk_writer_u32(w, "general.file_type", 0);
    wk_writer_meta_of(w, tok, of_tokenizer, (void *)(uintptr_t)s);
}

static int check(const wk_shape *s, wk_err *err) {
    const struct {
        const char *name;
        int32_t v, max;
    } numbers[] = {{"dim", s->dim, 65536},      {"n_layer", s->n_layer, 1024},
                   {"n_head", s->n_head, 1024}, {"n_head_kv", s->n_head_kv, 1024},
                   {"n_ff", s->n_ff, 1 << 20},  {"n_ctx", s->n_ctx, 1 << 20}};
    for (size_t i = 0; i < WK_COUNT(numbers); i++)
        if (numbers[i].v < 1 || numbers[i].v > numbers[i].max)
            return wk_fail(err, WICK_E_ARG, "%s is %d, wanted 1 .. %d", numbers[i].name,
                           (int)numbers[i].v, (int)numbers[i].max);
    if (s->dim % s->n_head || s->dim / s->n_head % 2)
        return wk_fail(err, WICK_E_ARG, "dim %d over %d heads gives no even head size", (int)s->dim,
                       (int)s->n_head);
    if (s->n_head % s->n_head_kv)
        return wk_fail(err, WICK_E_ARG, "%d heads cannot share %d kv heads", (int)s->n_head,
                       (int)s->n_head_kv);
    return WICK_OK;
}

static int write_model(const wk_shape *s, const wk_store *tok, uint64_t seed, const char *out,
                       wk_err *err) {
    wk_array tokens;
    const int found = wk_meta_array(tok, "tokenizer.ggml.tokens", &tokens, err);
    if (found < 0) return found;
    if (!found || tokens.n < 1 || tokens.n > (1u << 22))
        return wk_fail(err, WICK_E_FORMAT, "%s holds no tokenizer",
                       wk_show(wk_cstr(wk_store_path(tok))).text);
    const size_t longest = (size_t)(s->n_ff > s->dim ? s->n_ff : s->dim);
    maker m = {.w = wk_writer_new(),
               .list = wk_new_n(tensor, (size_t)s->n_layer * 9 + 3),
               .row = wk_new_n(float, longest),
               .seed = seed};
    int rc = m.w && m.list && m.row ? WICK_OK
                                    : wk_fail(err, WICK_E_NOMEM, "no memory for the new model");
    if (!rc) {
        put_meta(m.w, s, tok);
        put_tensors(&m, s, (int32_t)tokens.n);
        rc = wk_writer_save(m.w, out, err);
    }
    wk_writer_free(m.w);
    wk_free(m.list);
    wk_free(m.row);
    return rc;
}

int wk_model_init(const wk_shape *shape, const char *tokenizer, uint64_t seed, const char *out,
                  wk_err *err) {
    wk_store *tok = NULL;
    WK_TRY(check(shape, err));
    WK_TRY(wk_store_open(&tok, tokenizer, err));
    const int rc = write_model(shape, tok, seed, out, err);
    wk_store_close(tok);
    return rc;
}

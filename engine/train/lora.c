/* lora.c: where tuning begins: an adapter that changes nothing yet. */
#include "engine/train/lora.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/file/write.h"
#include "engine/graph/adapter.h"
#include "engine/graph/plan.h"
#include "engine/train/trainer.h"
#include "simd/format.h"

/* Words of the option, and how the tensors are called. */
static const struct {
    const char *word, *tensor;
} parts[] = {{"q", "attn_q"},      {"k", "attn_k"},  {"v", "attn_v"},     {"o", "attn_output"},
             {"gate", "ffn_gate"}, {"up", "ffn_up"}, {"down", "ffn_down"}};
enum { N_PART = sizeof(parts) / sizeof(parts[0]) };

static int read_parts(unsigned *out, const char *on, wk_err *err) {
    *out = 0;
    for (const char *p = on; *p;) {
        const size_t n = strcspn(p, ",");
        size_t i = 0;
        while (i < N_PART && !wk_str_eq((wk_str){p, n}, wk_cstr(parts[i].word))) i++;
        if (i == N_PART)
            return wk_fail(err, WICK_E_ARG, "on holds \"%s\", wanted some of q,k,v,o,gate,up,down",
                           wk_show((wk_str){p, n}).text);
        *out |= 1u << i;
        p += n + (p[n] == ',');
    }
    if (*out) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "on is empty, wanted some of q,k,v,o,gate,up,down");
}

/* blk.7.attn_q.weight is among the parts that are on. */
static bool is_on(const wk_weight *w, unsigned on) {
    char name[64];
    for (size_t i = 0; i < N_PART; i++) {
        if (!(on >> i & 1u)) continue;
        (void)snprintf(name, sizeof(name), "blk.%d.%s.weight", (int)w->layer, parts[i].tensor);
        if (strcmp(name, w->name) == 0) return true;
    }
    return false;
}

/* Rows of an A or a B. */
typedef struct half {
    float *row; /* [longest], shared */
    int32_t k;
    bool is_b;
    uint64_t seed;
    uint32_t use; /* number of its stream */
} half;

static const void *make_row(void *ud, uint64_t row) {
    const half *h = (const half *)ud;
    const double sigma = 1.0 / sqrt((double)h->k);
    for (int32_t i = 0; i < h->k; i++)
        h->row[i] =
            h->is_b
                ? 0.0f
                : (float)(sigma * wk_normal(h->seed, h->use, row * (uint64_t)h->k + (uint64_t)i));
    return h->row;
}

static void put_half(wk_writer *w, const wk_weight *base, half *h, int32_t n_row) {
    char name[96];
    (void)snprintf(name, sizeof(name), "%s.lora_%c", base->name, h->is_b ? 'b' : 'a');
    const wk_writer_tensor t = {.name = name,
                                .fmt = WK_FMT_F32,
                                .n_dim = 2,
                                .ne = {(uint64_t)h->k, (uint64_t)n_row, 1, 1},
                                .row = make_row,
                                .ud = h};
    wk_writer_add(w, &t);
}

static void put_keys(wk_writer *w, const wk_store *base, float alpha) {
    char hash[WK_HASH_TEXT];
    wk_str arch = {"", 0};
    (void)wk_meta_str(base, "general.architecture", &arch, NULL); /* the plan has read it */
    wk_base_hash_text(hash, base);
    wk_writer_str(w, "general.type", WK_STR("adapter"));
    wk_writer_str(w, "general.architecture", arch);
    wk_writer_str(w, "adapter.type", WK_STR("lora"));
    wk_writer_f32(w, "adapter.lora.alpha", alpha);
    wk_writer_str(w, "wick.base.hash", wk_cstr(hash));
}

static int save(const wk_plan *p, const wk_store *base, const wk_lora_shape *o, unsigned on,
                const char *out, wk_err *err) {
    int rc = WICK_OK;
    int32_t longest = o->rank;
    wk_writer *w = wk_writer_new();
    half *list = wk_new_n(half, 2 * (size_t)p->n_weight);
    for (int32_t i = 0; i < p->n_weight; i++)
        if (p->weight[i].k > longest) longest = p->weight[i].k;
    float *row = wk_new_n(float, (size_t)longest);
    if (!w || !list || !row) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for an adapter of %d weights", (int)p->n_weight);
        goto out;
    }
    put_keys(w, base, o->alpha);
    for (int32_t i = 0; i < p->n_weight; i++) {
        const wk_weight *b = &p->weight[i];
        if (!is_on(b, on)) continue;
        list[2 * i] = (half){.row = row, .k = b->k, .seed = o->seed, .use = (uint32_t)i};
        list[2 * i + 1] = (half){.row = row, .k = o->rank, .is_b = true};
        put_half(w, b, &list[2 * i], o->rank);
        put_half(w, b, &list[2 * i + 1], b->n_row);
    }
    rc = wk_writer_save(w, out, err);
out:
    wk_writer_free(w);
    wk_free(list);
    wk_free(row);
    return rc;
}

int wk_lora_init(const wk_store *base, const wk_lora_shape *o, const char *out, wk_err *err) {
    const wk_plan_options options = {.max_tok = 1, .max_out = 1};
    wk_plan *p = NULL;
    unsigned on;
    WK_TRY(read_parts(&on, o->on, err));
    if (!(o->alpha >= 0.0f && o->alpha <= 1e6f))
        return wk_fail(err, WICK_E_ARG, "alpha is %g, it must lie in 0 .. 1e6", (double)o->alpha);
    WK_TRY(wk_plan_build(&p, base, &options, err));
    int rc = WICK_OK;
    if (o->rank < 1 || o->rank > p->dim)
        rc = wk_fail(err, WICK_E_ARG, "rank is %d, it must lie in 1 .. %d, the width of the model",
                     (int)o->rank, (int)p->dim);
    if (!rc) rc = save(p, base, o, on, out, err);
    wk_plan_free(p);
    return rc;
}

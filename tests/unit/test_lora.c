/* test_lora.c: adapters: B = 0 changes no bit, an adapter gives what the merged matrices give, the bits depend on no
 * grouping, thread or level, and every mistake in a file is refused with a sentence. */
#include <math.h>
#include <stdio.h>

#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/cpu/cpu.h"
#include "engine/file/write.h"
#include "engine/graph/adapter.h"
#include "engine/run/engine.h"
#include "simd/format.h"
#include "simd/level.h"
#include "tests/unit/folder.h"
#include "tests/unit/unit.h"

enum { N_TOK = 70, N_PAGE = 4 };

static const char *const arch[] = {"llama", "qwen3", "gemma3"};
static const char *const parts[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                    "ffn_gate", "ffn_up", "ffn_down"};
enum { ALL = 127, QV = 5 };

static folder_path tiny(const char *name) {
    folder_path t;
    (void)snprintf(t.p, sizeof(t.p), "tests/golden/tiny/%s.gguf", name);
    return t;
}
static void drop(const char *name) { assert_int_equal(unlink(gguf_in(name).p), 0); }

static wk_store *open_ok(const char *path) {
    wk_store *s = NULL;
    wk_err err = {0};
    if (wk_store_open(&s, path, &err)) fail_msg("%s", err.message);
    return s;
}

static float uniform(uint32_t i, uint64_t seed) {
    uint32_t r[4];
    const uint32_t c[4] = {i, 0, 0, 0};
    wk_philox(r, seed, c);
    return (float)((double)r[0] / 2147483648.0 - 1.0);
}

/* ---- adapters ------------------------------------------------------------------------------------ */

typedef struct want {
    unsigned on; /* parts */
    int rank, fmt;
    float alpha;
    bool zero; /* B */
    uint64_t seed;
} want;

/* What the writer borrows until it has saved. */
static struct {
    void *p[256];
    size_t n;
} borrowed;

static void add_half(wk_writer *w, const char *stem, const char *suffix, int fmt, uint64_t k,
                     uint64_t n, float size, uint64_t seed) {
    char name[96];
    const size_t row = wk_row_bytes(fmt, k);
    float x[1024];
    uint8_t *data = wk_alloc(row * n);
    assert_true(data && k <= 1024 && borrowed.n < WK_COUNT(borrowed.p));
    borrowed.p[borrowed.n++] = data;
    for (uint64_t r = 0; r < n; r++) {
        for (uint64_t i = 0; i < k; i++) x[i] = size * uniform((uint32_t)(r * k + i), seed);
        wk_formats[fmt].encode(data + r * row, x, (int)k);
    }
    (void)snprintf(name, sizeof(name), "%s%s", stem, suffix);
    wk_writer_add(w, &(wk_writer_tensor){name, fmt, 2, {k, n, 1, 1}, data, NULL, NULL});
}

static wk_writer *plain_keys(const char *name, float alpha) {
    wk_writer *w = wk_writer_new();
    wk_writer_str(w, "general.type", WK_STR("adapter"));
    wk_writer_str(w, "general.architecture", wk_cstr(name));
    wk_writer_str(w, "adapter.type", WK_STR("lora"));
    wk_writer_f32(w, "adapter.lora.alpha", alpha);
    return w;
}

static void save(wk_writer *w, const char *path) {
    wk_err err = {0};
    if (wk_writer_save(w, path, &err)) fail_msg("%s", err.message);
    wk_writer_free(w);
    while (borrowed.n) wk_free(borrowed.p[--borrowed.n]);
}

static void make_adapter(const char *name, const char *arch_name, const want *o) {
    wk_store *base = open_ok(tiny(arch_name).p);
    wk_writer *w = plain_keys(arch_name, o->alpha);
    char stem[64];
    uint64_t seed = o->seed * 1000;
    for (int layer = 0; layer < 64; layer++)
        for (size_t i = 0; i < WK_COUNT(parts); i++) {
            (void)snprintf(stem, sizeof(stem), "blk.%d.%s.weight", layer, parts[i]);
            const wk_tensor *t = wk_store_find(base, wk_cstr(stem));
            if (!t || !(o->on >> i & 1)) continue;
            add_half(w, stem, ".lora_a", o->fmt, t->ne[0], (uint64_t)o->rank, 0.3f, seed++);
            add_half(w, stem, ".lora_b", o->fmt, (uint64_t)o->rank, t->ne[1], o->zero ? 0.0f : 0.3f,
                     seed++);
        }
    save(w, gguf_in(name).p);
    wk_store_close(base);
}

/* ---- running ------------------------------------------------------------------------------------- */

typedef struct way {
    int threads;
    bool ungrouped, keep, f32_act;
    uint32_t mask;
    int32_t chunk; /* tokens of a pass; 0: all */
} way;
static const way plain = {.threads = 1, .mask = UINT32_MAX};

typedef struct machine {
    wk_store *base, *lora[WK_ADAPTERS_MAX];
    wk_adapter adapter[WK_ADAPTERS_MAX];
    wk_plan *plan;
    wk_dev *dev;
    wk_exec *exec;
} machine;

static void open_machine(machine *m, const char *base, const char *const *lora, const float *scale,
                         int n, const way *y) {
    wk_err err = {0};
    const wk_backend_ops *ops = wk_cpu_backend();
    *m = (machine){.base = open_ok(base)};
    for (int i = 0; i < n; i++) {
        m->lora[i] = open_ok(gguf_in(lora[i]).p);
        m->adapter[i] = (wk_adapter){m->lora[i], scale ? scale[i] : 1.0f};
    }
    const wk_plan_options o = {.max_tok = N_TOK,
                               .max_out = N_TOK,
                               .kv_type = WK_KV_F32,
                               .keep = y->keep,
                               .ungrouped = y->ungrouped,
                               .f32_act = y->f32_act,
                               .adapter = m->adapter,
                               .n_adapter = n};
    const wk_host host = {
        .size = sizeof(host), .n_thread = y->threads, .n_cpu = 2, .cpu_mask = y->mask};
    if (wk_plan_build(&m->plan, m->base, &o, &err) || ops->open(&m->dev, 0, &host, &err) ||
        ops->prepare(&m->exec, m->dev, m->plan, NULL, N_PAGE, &err))
        fail_msg("%s", err.message);
}

static void close_machine(machine *m) {
    const wk_backend_ops *ops = wk_cpu_backend();
    ops->unprepare(m->exec);
    ops->close(m->dev);
    wk_plan_free(m->plan);
    for (int i = 0; i < WK_ADAPTERS_MAX; i++) wk_store_close(m->lora[i]);
    wk_store_close(m->base);
}

/* [N_TOK][n_vocab] logits; the caller frees them. */
static float *logits_of(const char *base, const char *const *lora, const float *scale, int n,
                        const way *y, size_t *count) {
    static const uint32_t page[] = {1, 3};
    static uint8_t bad[N_TOK];
    int32_t tok[N_TOK], out[N_TOK];
    wk_err err = {0};
    machine m;
    open_machine(&m, base, lora, scale, n, y);
    const size_t v = (size_t)m.plan->n_vocab;
    float *all = wk_alloc_aligned(N_TOK * v * sizeof(float)),
          *some = wk_alloc_aligned(N_TOK * v * sizeof(float));
    assert_true(all && some);
    for (int32_t i = 0; i < N_TOK; i++) tok[i] = (int32_t)(uniform((uint32_t)i, 9) * 140 + 144);
    const int32_t step = y->chunk ? y->chunk : N_TOK;
    for (int32_t at = 0; at < N_TOK; at += step) {
        const int32_t k = N_TOK - at < step ? N_TOK - at : step;
        for (int32_t i = 0; i < k; i++) out[i] = i;
        const wk_batch_seq seq = {0, k, at, (at + k + 63) / 64, page};
        const wk_batch b = {.n_tok = k,
                            .n_seq = 1,
                            .n_out = k,
                            .tok = tok + at,
                            .out = out,
                            .seq = &seq,
                            .zero = page,
                            .n_zero = at ? 0 : 2,
                            .logits = some,
                            .bad_tok = bad};
        if (wk_cpu_backend()->run(m.exec, &b, &err)) fail_msg("%s", err.message);
        memcpy(all + (size_t)at * v, some, (size_t)k * v * sizeof(float));
    }
    close_machine(&m);
    wk_free_aligned(some);
    *count = N_TOK * v;
    return all;
}

static void same_bits(const float *a, const float *b, size_t n, const char *what) {
    if (memcmp(a, b, n * sizeof(float)) != 0) fail_msg("%s: the logits differ", what);
}

static double distance(const float *a, const float *b, size_t n) {
    double d = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return sqrt(d / all);
}

/* ---- what adapters compute ----------------------------------------------------------------------- */

static int to_q8(void *ud, const wk_tensor *t) {
    (void)ud;
    return t->n_dim > 1 ? WK_FMT_Q8_0 : t->fmt;
}
static int to_f32(void *ud, const wk_tensor *t) {
    (void)ud;
    (void)t;
    return WK_FMT_F32;
}
static void convert(const char *name, const char *from, int (*to)(void *, const wk_tensor *)) {
    wk_err err = {0};
    wk_store *s = open_ok(tiny(from).p);
    if (wk_requant(s, gguf_in(name).p, to, NULL, &err)) fail_msg("%s", err.message);
    wk_store_close(s);
}

static void test_zero_b(void **state) {
    (void)state;
    static const char *const lora[] = {"zero"};
    for (size_t a = 0; a < WK_COUNT(arch); a++)
        for (int quant = 0; quant < 2; quant++) {
            size_t n;
            make_adapter("zero", arch[a], &(want){ALL, 8, WK_FMT_F32, 16, true, 1});
            convert("base", arch[a], quant ? to_q8 : to_f32);
            float *x = logits_of(gguf_in("base").p, NULL, NULL, 0, &plain, &n);
            float *y = logits_of(gguf_in("base").p, lora, NULL, 1, &plain, &n);
            same_bits(x, y, n, arch[a]);
            wk_free_aligned(x);
            wk_free_aligned(y);
            drop("base");
            drop("zero");
        }
}

static double value_at(const wk_tensor *t, uint64_t row, uint64_t i) {
    float x[1024];
    wk_formats[t->fmt].decode(x, t->data + row * wk_row_bytes(t->fmt, t->ne[0]), (int)t->ne[0]);
    return (double)x[i];
}

/* W + scale * B A in double, rows in the order of the files. */
static float *merged(const wk_tensor *w, const wk_store *lora, double scale) {
    char name[96];
    float *x = wk_new_n(float, (size_t)(w->ne[0] * w->ne[1]));
    assert_non_null(x);
    (void)snprintf(name, sizeof(name), "%.*s.lora_a", (int)w->name.n, w->name.p);
    const wk_tensor *a = wk_store_find(lora, wk_cstr(name));
    name[strlen(name) - 1] = 'b';
    const wk_tensor *b = wk_store_find(lora, wk_cstr(name));
    double *av = a ? wk_new_n(double, (size_t)(a->ne[0] * a->ne[1])) : NULL;
    for (uint64_t j = 0; a && j < a->ne[1]; j++)
        for (uint64_t i = 0; i < a->ne[0]; i++) av[j * a->ne[0] + i] = value_at(a, j, i);
    for (uint64_t r = 0; r < w->ne[1]; r++) {
        wk_formats[w->fmt].decode(x + r * w->ne[0], w->data + r * wk_row_bytes(w->fmt, w->ne[0]),
                                  (int)w->ne[0]);
        for (uint64_t j = 0; a && j < a->ne[1]; j++) {
            const double c = scale * value_at(b, r, j);
            for (uint64_t i = 0; i < w->ne[0]; i++)
                x[r * w->ne[0] + i] =
                    (float)((double)x[r * w->ne[0] + i] + c * av[j * w->ne[0] + i]);
        }
    }
    wk_free(av);
    return x;
}

static void merge_file(const char *name, const char *base, const char *lora, double scale) {
    char own[96];
    float *data[256];
    wk_store *s = open_ok(tiny(base).p), *l = open_ok(gguf_in(lora).p);
    wk_writer *w = wk_writer_new();
    const size_t n = wk_store_tensor_count(s);
    assert_true(n <= WK_COUNT(data));
    wk_writer_meta_of(w, s, NULL, NULL);
    for (size_t i = 0; i < n; i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        (void)snprintf(own, sizeof(own), "%.*s", (int)t->name.n, t->name.p);
        data[i] = merged(t, l, scale);
        wk_writer_add(
            w, &(wk_writer_tensor){
                   own, WK_FMT_F32, t->n_dim, {t->ne[0], t->ne[1], 1, 1}, data[i], NULL, NULL});
    }
    save(w, gguf_in(name).p);
    for (size_t i = 0; i < n; i++) wk_free(data[i]);
    wk_store_close(s);
    wk_store_close(l);
}

/* Rows of q and k that the file rotates are covered by llama: the merge adds file row to file row. */
static void test_merged(void **state) {
    (void)state;
    static const char *const lora[] = {"lora"};
    static const want wants[] = {{ALL, 8, WK_FMT_F32, 16, false, 2},
                                 {QV, 3, WK_FMT_F16, 4, false, 3},
                                 {ALL, 20, WK_FMT_BF16, 0, false, 4},
                                 {ALL, 1, WK_FMT_F32, 0.5f, false, 5}};
    const float scale = 0.75f;
    for (size_t a = 0; a < WK_COUNT(arch); a++)
        for (size_t i = 0; i < WK_COUNT(wants); i++) {
            size_t n;
            const want *o = &wants[i];
            make_adapter("lora", arch[a], o);
            convert("base", arch[a], to_f32);
            merge_file("merged", arch[a], "lora",
                       (double)scale * (o->alpha > 0 ? (double)o->alpha / o->rank : 1.0));
            way y = plain;
            y.f32_act = i % 2;
            float *want_x = logits_of(gguf_in("merged").p, NULL, NULL, 0, &y, &n);
            float *with = logits_of(gguf_in("base").p, lora, &scale, 1, &y, &n);
            float *without = logits_of(gguf_in("base").p, NULL, NULL, 0, &y, &n);
            if (!(distance(with, want_x, n) < 1e-5))
                fail_msg("%s %zu: %g from the merged model", arch[a], i, distance(with, want_x, n));
            assert_true(distance(without, want_x, n) > 1e-3);
            wk_free_aligned(want_x);
            wk_free_aligned(with);
            wk_free_aligned(without);
            drop("lora");
            drop("base");
            drop("merged");
        }
}

static void test_same_bits_any_way(void **state) {
    (void)state;
    static const char *const lora[] = {"one", "two", "three"};
    static const float scale[] = {1.0f, -0.5f, 2.0f};
    way ways[16] = {
        {2, false, false, false, UINT32_MAX, 0}, {3, false, true, false, UINT32_MAX, 1},
        {4, false, false, false, UINT32_MAX, 2}, {1, true, false, false, UINT32_MAX, 0},
        {2, true, true, false, UINT32_MAX, 7},   {2, false, false, false, UINT32_MAX, 3}};
    size_t n_way = 6;
    for (int i = 0; i < wk_level_count && n_way < WK_COUNT(ways); i++)
        if ((wk_levels[i].mask & ~wk_cpu_detect()) == 0)
            ways[n_way++] =
                (way){i % 2 + 1, false, false, false, wk_levels[i].mask, i % 3 ? 13 : 1};
    for (size_t a = 0; a < WK_COUNT(arch); a++) {
        size_t n;
        make_adapter("one", arch[a], &(want){ALL, 5, WK_FMT_F32, 8, false, 6});
        make_adapter("two", arch[a], &(want){QV, 16, WK_FMT_F16, 8, false, 7});
        make_adapter("three", arch[a], &(want){ALL & ~QV, 17, WK_FMT_BF16, 3, false, 8});
        for (int f32_act = 0; f32_act < 2; f32_act++) {
            way first = plain;
            first.f32_act = f32_act; /* which the device takes where the weights are floats */
            convert("base", arch[a], f32_act ? to_f32 : to_q8);
            float *x = logits_of(gguf_in("base").p, lora, scale, 3, &first, &n);
            for (size_t i = 0; i < n_way; i++) {
                way y = ways[i];
                y.f32_act = f32_act;
                float *got = logits_of(gguf_in("base").p, lora, scale, 3, &y, &n);
                if (memcmp(x, got, n * sizeof(float)) != 0)
                    fail_msg("%s: way %zu differs", arch[a], i);
                wk_free_aligned(got);
            }
            wk_free_aligned(x);
            drop("base");
        }
        drop("one");
        drop("two");
        drop("three");
    }
}

/* Eight adapters of every matrix: the widest stage there is. */
static void test_most(void **state) {
    (void)state;
    static const char *const lora[] = {"l", "l", "l", "l", "l", "l", "l", "l"};
    size_t n;
    make_adapter("l", "qwen3", &(want){ALL, 4, WK_FMT_F32, 1, false, 9});
    const float scale[8] = {1, 1, 1, 1, 1, 1, 1, 1}, eight = 8;
    float *x = logits_of(tiny("qwen3").p, lora, scale, 8, &plain, &n);
    float *y = logits_of(tiny("qwen3").p, lora, &eight, 1, &plain, &n);
    assert_true(distance(x, y, n) < 1e-5);
    wk_free_aligned(x);
    wk_free_aligned(y);
    drop("l");
}

/* ---- the plan ------------------------------------------------------------------------------------ */

static void test_plan(void **state) {
    (void)state;
    static const char *const lora[] = {"lora"};
    machine m;
    make_adapter("lora", "llama", &(want){ALL, 8, WK_FMT_F32, 16, false, 10});
    open_machine(&m, tiny("llama").p, lora, NULL, 1, &plain);
    const wk_plan *p = m.plan;
    int n_a = 0, n_b = 0, n_lora = 0, n_rotated = 0;
    for (int32_t i = 0; i < p->n_weight; i++) {
        const wk_weight *w = &p->weight[i];
        if (w->lora_of < 0) continue;
        const wk_weight *b = &p->weight[w->lora_of];
        assert_int_equal(w->role, b->role);
        assert_int_equal(w->layer, b->layer);
        assert_int_equal(w->is_lora_b ? w->n_row : w->k, w->is_lora_b ? b->n_row : b->k);
        assert_int_equal(w->unrotate, w->is_lora_b ? b->unrotate : 0);
        n_rotated += w->unrotate != 0;
        *(w->is_lora_b ? &n_b : &n_a) += 1;
    }
    for (int32_t i = 0; i < p->n_step; i++) {
        if (p->step[i].op != WK_OP_lora) continue;
        n_lora++;
        assert_true(p->step[i].scale >= 2.0f && p->step[i].scale <= 2.0f);
    }
    assert_int_equal(n_a, 14);
    assert_int_equal(n_b, 14);
    assert_int_equal(n_lora, 14);
    assert_int_equal(n_rotated, 4);
    wk_buf text_of;
    wk_buf_init(&text_of, 0);
    wk_plan_dump(p, &text_of);
    assert_non_null(strstr(text_of.p, "blk.1.attn_q.weight.lora_b F32 [64,8] unrotate 16"));
    wk_buf_fini(&text_of);
    close_machine(&m);
    drop("lora");
}

static void test_fit(void **state) {
    (void)state;
    wk_err err = {0};
    wk_fit f[2];
    make_adapter("lora", "llama", &(want){ALL, 32, WK_FMT_F32, 16, false, 11});
    wk_store *s = open_ok(tiny("llama").p), *l = open_ok(gguf_in("lora").p);
    const wk_adapter a = {l, 1.0f};
    for (int i = 0; i < 2; i++) {
        wk_engine_config c = {.max_seqs = 1,
                              .max_queue = 1,
                              .n_batch = 64,
                              .threads = 1,
                              .adapter = &a,
                              .n_adapter = i};
        if (wk_fit_plan(&f[i], NULL, s, &c, &err)) fail_msg("%s", err.message);
    }
    size_t bytes = 0;
    for (size_t i = 0; i < wk_store_tensor_count(l); i++) bytes += wk_store_tensor(l, i)->bytes;
    assert_int_equal(f[1].weights - f[0].weights, bytes);
    assert_true(f[1].need >= f[0].need + bytes);
    wk_store_close(l);
    wk_store_close(s);
    drop("lora");
}

/* ---- refusals ------------------------------------------------------------------------------------ */

static void refuse(wk_writer *w, int code, const char *says) {
    wk_err err = {0};
    wk_plan *p = NULL;
    save(w, gguf_in("bad").p);
    wk_store *s = open_ok(tiny("llama").p), *l = open_ok(gguf_in("bad").p);
    const wk_adapter a = {l, 1.0f};
    const wk_plan_options o = {.max_tok = 4, .max_out = 4, .adapter = &a, .n_adapter = 1};
    const int rc = wk_plan_build(&p, s, &o, &err);
    if (rc != code || !strstr(err.message, says))
        fail_msg("wanted %d \"%s\", found %d \"%s\"", code, says, rc, err.message);
    wk_store_close(l);
    wk_store_close(s);
    drop("bad");
}

static const float zeros[64 * 200];
#define Q "blk.0.attn_q.weight"

static void put(wk_writer *w, const char *name, int fmt, uint64_t k, uint64_t n,
                const float *data) {
    wk_writer_add(w,
                  &(wk_writer_tensor){name, fmt, 2, {k, n, 1, 1}, data ? data : zeros, NULL, NULL});
}
static wk_writer *pair(const char *stem, uint64_t in, uint64_t r, uint64_t r_b, uint64_t out) {
    char name[96];
    wk_writer *w = plain_keys("llama", 8);
    (void)snprintf(name, sizeof(name), "%s.lora_a", stem);
    put(w, name, WK_FMT_F32, in, r, NULL);
    (void)snprintf(name, sizeof(name), "%s.lora_b", stem);
    put(w, name, WK_FMT_F32, r_b, out, NULL);
    return w;
}

static void test_keys_refused(void **state) {
    (void)state;
    wk_writer *w = pair(Q, 64, 4, 4, 64);
    wk_writer_str(w, "general.type", WK_STR("model"));
    refuse(w, WICK_E_FORMAT, "general.type is \"model\", wanted \"adapter\": this is no adapter");
    w = wk_writer_new();
    wk_writer_str(w, "general.architecture", WK_STR("llama"));
    refuse(w, WICK_E_FORMAT, "general.type is missing, wanted \"adapter\"");
    w = pair(Q, 64, 4, 4, 64);
    wk_writer_str(w, "adapter.type", WK_STR("dora"));
    refuse(w, WICK_E_UNSUPPORTED, "adapter.type is \"dora\", wanted \"lora\"");
    w = pair(Q, 64, 4, 4, 64);
    wk_writer_str(w, "general.architecture", WK_STR("qwen3"));
    refuse(w, WICK_E_ARCH, "general.architecture is \"qwen3\", wanted \"llama\", the model's");
    w = pair(Q, 64, 4, 4, 64);
    wk_writer_f32(w, "adapter.lora.alpha", NAN);
    refuse(w, WICK_E_FORMAT, "adapter.lora.alpha is f32");
    w = pair(Q, 64, 4, 4, 64);
    wk_writer_str(w, "adapter.lora.alpha", WK_STR("8"));
    refuse(w, WICK_E_FORMAT, "adapter.lora.alpha is string");
    refuse(plain_keys("llama", 8), WICK_E_FORMAT, "it adapts nothing");
}

static void test_tensors_refused(void **state) {
    (void)state;
    float bad[4 * 64] = {[70] = NAN};
    wk_writer *w;
    refuse(pair("blk.9.attn_q.weight", 64, 4, 4, 64), WICK_E_FORMAT,
           "adapts blk.9.attn_q.weight, which tests/golden/tiny/llama.gguf does not have");
    refuse(pair("token_embd.weight", 4, 4, 4, 4), WICK_E_UNSUPPORTED, "adapts token_embd.weight");
    refuse(pair("output.weight", 4, 4, 4, 4), WICK_E_UNSUPPORTED,
           "adapters of the embedding and the head");
    refuse(pair("blk.0.attn_norm.weight", 64, 4, 4, 1), WICK_E_SHAPE,
           "adapts a tensor that is no matrix");
    refuse(pair(Q, 32, 4, 4, 64), WICK_E_SHAPE,
           Q ".lora_a is 32 x 4, wanted 64 x 4: rows as long as the base's");
    refuse(pair(Q, 64, 4, 5, 64), WICK_E_SHAPE,
           Q ".lora_b is 5 x 64, wanted 4 x 64: its rows are as long as A has rows");
    refuse(pair(Q, 64, 4, 4, 63), WICK_E_SHAPE,
           Q ".lora_b is 4 x 63, wanted 4 x 64: as many rows as the base");
    refuse(pair(Q, 64, 65, 65, 64), WICK_E_SHAPE, "has the rank 65, more than the matrix");
    w = plain_keys("llama", 8);
    put(w, Q ".lora_a", WK_FMT_F32, 64, 4, NULL);
    refuse(w, WICK_E_FORMAT, Q ".lora_a has no .lora_b beside it");
    w = plain_keys("llama", 8);
    put(w, Q ".lora_b", WK_FMT_F32, 4, 64, NULL);
    refuse(w, WICK_E_FORMAT, Q ".lora_b has no .lora_a beside it");
    w = pair(Q, 64, 4, 4, 64);
    put(w, Q ".lora_magnitude", WK_FMT_F32, 64, 1, NULL);
    refuse(w, WICK_E_FORMAT, "ends with neither .lora_a nor .lora_b");
    w = plain_keys("llama", 8);
    put(w, Q ".lora_a", WK_FMT_Q8_0, 64, 4, NULL);
    put(w, Q ".lora_b", WK_FMT_F32, 4, 64, NULL);
    refuse(w, WICK_E_UNSUPPORTED, "is stored as Q8_0, wanted F32, F16 or BF16");
    w = plain_keys("llama", 8);
    put(w, Q ".lora_a", WK_FMT_F32, 64, 4, bad);
    put(w, Q ".lora_b", WK_FMT_F32, 4, 64, NULL);
    refuse(w, WICK_E_FORMAT, "not a finite number (row 1 of 4)");
    w = plain_keys("llama", 8);
    put(w, Q ".lora_a", WK_FMT_F32, 64, 4, NULL);
    put(w, Q ".lora_b", WK_FMT_F32, 4, 64, bad);
    refuse(w, WICK_E_FORMAT, "not a finite number (row 17 of 64)");
}

static void test_too_many(void **state) {
    (void)state;
    wk_err err = {0};
    wk_plan *p = NULL;
    wk_adapter a[9] = {{NULL, 1}};
    wk_store *s = open_ok(tiny("llama").p);
    const wk_plan_options o = {.max_tok = 4, .max_out = 4, .adapter = a, .n_adapter = 9};
    assert_int_equal(wk_plan_build(&p, s, &o, &err), WICK_E_ARG);
    assert_non_null(strstr(err.message, "9 adapters, at most 8"));
    wk_store_close(s);
}

/* ---- the base that it was made for --------------------------------------------------------------- */

static int n_warned;
static void on_log(void *ud, int level, const char *text_of, size_t n) {
    (void)ud;
    (void)n;
    if (level == WK_LOG_WARN && strstr(text_of, "was made for another base")) n_warned++;
}

static void test_other_base(void **state) {
    (void)state;
    static const char *const from[] = {"llama", "base"};
    static const char *const lora[] = {"lora"};
    char hash[WK_HASH_TEXT];
    machine m;
    convert("base", "llama", to_q8);
    wk_store *s = open_ok(tiny("llama").p);
    wk_base_hash_text(hash, s);
    wk_store_close(s);
    wk_writer *w = pair(Q, 64, 4, 4, 64);
    wk_writer_str(w, "wick.base.hash", wk_cstr(hash));
    save(w, gguf_in("lora").p);
    wk_log_set(on_log, NULL, WK_LOG_WARN);
    for (int i = 0; i < 2; i++) {
        n_warned = 0;
        open_machine(&m, i ? gguf_in(from[i]).p : tiny(from[i]).p, lora, NULL, 1, &plain);
        close_machine(&m);
        assert_int_equal(n_warned, i);
    }
    wk_log_set(NULL, NULL, 0);
    drop("lora");
    drop("base");
}

static void test_no_memory(void **state) {
    (void)state;
    wk_plan *p = NULL;
    make_adapter("lora", "llama", &(want){ALL, 4, WK_FMT_F32, 1, false, 12});
    wk_store *s = open_ok(tiny("llama").p), *l = open_ok(gguf_in("lora").p);
    const wk_adapter a = {l, 1.0f};
    const wk_plan_options o = {.max_tok = 4, .max_out = 4, .adapter = &a, .n_adapter = 1};
    int rc = WICK_E_NOMEM;
    for (uint64_t n = 1; rc == WICK_E_NOMEM; n++) {
        wk_alloc_fail_at(n, false);
        rc = wk_plan_build(&p, s, &o, NULL);
        wk_alloc_fail_at(0, false);
        assert_true(n < 500);
    }
    assert_int_equal(rc, WICK_OK);
    wk_plan_free(p);
    wk_store_close(l);
    wk_store_close(s);
    drop("lora");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_b),
        cmocka_unit_test(test_merged),
        cmocka_unit_test(test_same_bits_any_way),
        cmocka_unit_test(test_most),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_keys_refused),
        cmocka_unit_test(test_tensors_refused),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_other_base),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}

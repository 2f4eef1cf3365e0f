/* test_lora_files.c: fresh adapters, merged files, other formats, and engines with adapters, by the public functions. */
#include <math.h>

#include "engine/base/arena.h"
#include "engine/file/store.h"
#include "engine/graph/adapter.h"
#include "engine/wick_x.h"
#include "simd/format.h"
#include "tests/unit/folder.h"
#include "tests/unit/unit.h"

static void drop(const char *name) { assert_int_equal(unlink(gguf_in(name).p), 0); }

static wk_store *open_ok(const char *path) {
    wk_store *s = NULL;
    wk_err err = {0};
    if (wk_store_open(&s, path, &err)) fail_msg("%s", err.message);
    return s;
}
static void ok(wick_status rc, const wick_error *err) {
    if (rc) fail_msg("%d: %s", (int)rc, err->message);
}

#define LLAMA "tests/golden/tiny/llama.gguf"
#define ALL "q,k,v,o,gate,up,down"

static void init(const char *name, const char *base, int32_t rank, const char *on, uint64_t seed) {
    wick_error err = {0};
    ok(wick_x_adapter_init(base, rank, 16, on, seed, gguf_in(name).p, &err), &err);
}

/* ---- fresh adapters ------------------------------------------------------------------------------ */

static void test_init(void **state) {
    (void)state;
    double sum = 0, square = 0;
    size_t n = 0;
    init("a", LLAMA, 8, ALL, 7);
    wk_store *s = open_ok(gguf_in("a").p), *base = open_ok(LLAMA);
    wk_lora_file f;
    wk_err err = {0};
    ok(wk_lora_read(&f, s, base, &err), &err);
    assert_int_equal(f.n_pair, 14);
    assert_true(f.alpha >= 16 && f.alpha <= 16);
    for (int32_t i = 0; i < f.n_pair; i++) {
        const wk_lora_pair *p = &f.pair[i];
        assert_int_equal(p->rank, 8);
        for (size_t j = 0; j < p->b->bytes; j++) assert_int_equal(p->b->data[j], 0);
        for (size_t j = 0; j < p->a->bytes / 4; j++, n++) {
            float x;
            memcpy(&x, p->a->data + 4 * j, 4);
            const double z = (double)x * sqrt((double)p->a->ne[0]);
            assert_true(fabs(z) < 7);
            sum += z;
            square += z * z;
        }
    }
    const double mean = sum / (double)n, var = square / (double)n - mean * mean;
    assert_true(fabs(mean) < 5 / sqrt((double)n) && fabs(var - 1) < 10 / sqrt((double)n));
    char hash[WK_HASH_TEXT];
    wk_str said;
    wk_base_hash_text(hash, base);
    assert_int_equal(wk_meta_str(s, "wick.base.hash", &said, NULL), 1);
    assert_true(wk_str_is(said, hash));
    wk_lora_fini(&f);
    wk_store_close(base);
    wk_store_close(s);
    drop("a");
}

/* The same seed gives the same file, another one another; q alone is the q of all. */
static void test_init_seeds(void **state) {
    (void)state;
    init("a", LLAMA, 4, ALL, 1);
    init("b", LLAMA, 4, ALL, 1);
    init("c", LLAMA, 4, ALL, 2);
    init("d", LLAMA, 4, "q", 1);
    wk_store *s[4];
    static const char *const names[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++) s[i] = open_ok(gguf_in(names[i]).p);
    const wk_str q = WK_STR("blk.1.attn_q.weight.lora_a");
    const wk_tensor *t = wk_store_find(s[0], q);
    assert_non_null(t);
    assert_memory_equal(t->data, wk_store_find(s[1], q)->data, t->bytes);
    assert_true(memcmp(t->data, wk_store_find(s[2], q)->data, t->bytes) != 0);
    assert_memory_equal(t->data, wk_store_find(s[3], q)->data, t->bytes);
    assert_int_equal(wk_store_tensor_count(s[3]), 4);
    for (int i = 0; i < 4; i++) {
        wk_store_close(s[i]);
        drop(names[i]);
    }
}

static void test_init_refuses(void **state) {
    (void)state;
    static const struct {
        int32_t rank;
        float alpha;
        const char *on, *says;
    } bad[] = {{0, 16, ALL, "rank is 0, it must lie in 1 .. 64"},
               {65, 16, ALL, "rank is 65"},
               {8, NAN, ALL, "alpha is nan"},
               {8, -1, ALL, "alpha is -1"},
               {8, 16, "", "on is empty"},
               {8, 16, "q,w", "on holds \"w\", wanted some of q,k,v,o,gate,up,down"}};
    for (size_t i = 0; i < WK_COUNT(bad); i++) {
        wick_error err = {0};
        const folder_path out = gguf_in("x");
        assert_int_equal(
            wick_x_adapter_init(LLAMA, bad[i].rank, bad[i].alpha, bad[i].on, 1, out.p, &err),
            WICK_E_ARG);
        if (!strstr(err.message, bad[i].says)) fail_msg("%s", err.message);
    }
}

/* ---- engines ------------------------------------------------------------------------------------- */

static void on_row(void *ud, int32_t pos, const float *logits, int32_t n) {
    memcpy((float *)ud + (size_t)pos * (size_t)n, logits, (size_t)n * sizeof(float));
}

enum { N_TOK = 20, V = 288 };

/* Logits of N_TOK tokens with a number of adapters. */
static void logits_of(float *out, const char *model, const char *const *lora, const float *scale,
                      size_t n) {
    wick_token t[N_TOK];
    wick_model *m = NULL;
    wick_engine *e = NULL;
    wick_error err = {0};
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    for (int i = 0; i < N_TOK; i++) t[i] = 2 + (i * 37) % 250;
    o.n_ctx = 64;
    o.threads = 1;
    o.kv_type = WICK_KV_F32;
    o.adapters = lora;
    o.adapter_scale = scale;
    o.n_adapters = n;
    ok(wick_model_open(model, NULL, &m, &err), &err);
    ok(wick_engine_open(m, &o, &e, &err), &err);
    ok(wick_x_logits(e, t, N_TOK, on_row, out, &err), &err);
    wick_engine_close(e);
    wick_model_close(m);
}

/* Random B instead of zeros: written over in place. */
static void fill_b(const char *name) {
    const folder_path out = gguf_in(name);
    wk_store *s = open_ok(out.p);
    FILE *f = fopen(out.p, "r+b");
    assert_non_null(f);
    const uint8_t *first = NULL;
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        if (!first) first = t->data;
    }
    const long head =
        (long)wk_store_file_bytes(s) -
        (long)(wk_store_tensor(s, wk_store_tensor_count(s) - 1)->data - first) -
        (long)((wk_store_tensor(s, wk_store_tensor_count(s) - 1)->bytes + 31) / 32 * 32);
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        if (!wk_str_ends(t->name, WK_STR(".lora_b"))) continue;
        assert_int_equal(fseek(f, head + (long)(t->data - first), SEEK_SET), 0);
        for (size_t j = 0; j < t->bytes / 4; j++) {
            const float x = (float)((j * 7919 + i * 104729) % 2001) * 1e-3f - 1.0f;
            assert_int_equal(fwrite(&x, 4, 1, f), 1);
        }
    }
    assert_int_equal(fclose(f), 0);
    wk_store_close(s);
}

static double distance(const float *a, const float *b) {
    double d = 0, all = 0;
    for (size_t i = 0; i < N_TOK * V; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return sqrt(d / all);
}

static float base_x[N_TOK * V], lora_x[N_TOK * V], merged_x[N_TOK * V];

static void test_engine(void **state) {
    (void)state;
    const folder_path a = gguf_in("a");
    const char *const lora[] = {a.p, a.p};
    const float half[] = {0.5f, 0.5f};
    init("a", LLAMA, 4, ALL, 3);
    logits_of(base_x, LLAMA, NULL, NULL, 0);
    logits_of(lora_x, LLAMA, lora, NULL, 1);
    assert_memory_equal(base_x, lora_x, sizeof(base_x));
    fill_b("a");
    logits_of(lora_x, LLAMA, lora, NULL, 1);
    assert_true(distance(lora_x, base_x) > 1e-2);
    logits_of(merged_x, LLAMA, lora, half, 2);
    assert_true(distance(merged_x, lora_x) < 1e-5);
    drop("a");
}

static void test_merge(void **state) {
    (void)state;
    const folder_path a = gguf_in("a");
    const char *const lora[] = {a.p};
    const float scale[] = {-0.75f};
    wick_error err = {0};
    init("a", LLAMA, 4, "q,k,o,down", 4);
    fill_b("a");
    ok(wick_x_merge(LLAMA, a.p, -0.75, "f32", gguf_in("m").p, &err), &err);
    logits_of(lora_x, LLAMA, lora, scale, 1);
    logits_of(merged_x, gguf_in("m").p, NULL, NULL, 0);
    if (!(distance(merged_x, lora_x) < 1e-5)) fail_msg("%g", distance(merged_x, lora_x));
    wk_store *s = open_ok(gguf_in("m").p), *base = open_ok(LLAMA);
    assert_int_equal(wk_store_tensor_count(s), wk_store_tensor_count(base));
    assert_int_equal(wk_store_meta_count(s) >= wk_store_meta_count(base), 1);
    wk_store_close(base);
    wk_store_close(s);
    drop("m");
    /* B = 0 and no type: the same tensors */
    init("a", LLAMA, 4, ALL, 4);
    ok(wick_x_merge(LLAMA, a.p, 1, NULL, gguf_in("m").p, &err), &err);
    s = open_ok(gguf_in("m").p);
    base = open_ok(LLAMA);
    for (size_t i = 0; i < wk_store_tensor_count(base); i++) {
        const wk_tensor *x = wk_store_tensor(base, i), *y = wk_store_tensor(s, i);
        assert_int_equal(x->fmt, y->fmt);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    wk_store_close(base);
    wk_store_close(s);
    drop("m");
    drop("a");
}

static void test_quantize(void **state) {
    (void)state;
    wick_error err = {0};
    ok(wick_x_quantize(LLAMA, "q8_0", gguf_in("q").p, &err), &err);
    wk_store *s = open_ok(gguf_in("q").p);
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        assert_true((t->fmt == WK_FMT_Q8_0) == (t->n_dim > 1));
    }
    wk_store_close(s);
    logits_of(base_x, LLAMA, NULL, NULL, 0);
    logits_of(merged_x, gguf_in("q").p, NULL, NULL, 0);
    assert_true(distance(merged_x, base_x) < 0.05);
    drop("q");
    assert_int_equal(wick_x_quantize(LLAMA, "q9", gguf_in("q").p, &err), WICK_E_ARG);
    assert_non_null(strstr(err.message, "type is \"q9\""));
    assert_int_equal(wick_x_quantize(LLAMA, "iq2_s", gguf_in("q").p, &err), WICK_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "IQ2_S cannot be written yet"));
    assert_int_equal(wick_x_quantize("absent.gguf", "q8_0", gguf_in("q").p, &err), WICK_E_IO);
    assert_int_equal(wick_x_merge(LLAMA, LLAMA, 1, NULL, gguf_in("q").p, &err), WICK_E_FORMAT);
    assert_non_null(strstr(err.message, "this is no adapter"));
}

static void test_options_refused(void **state) {
    (void)state;
    static const char *const none[] = {NULL}, *const absent[] = {"absent.gguf"},
                             *const model[] = {LLAMA};
    static const float bad[] = {NAN};
    wick_model *m = NULL;
    wick_engine *e = NULL;
    wick_error err = {0};
    ok(wick_model_open(LLAMA, NULL, &m, &err), &err);
    const struct {
        const char *const *path;
        const float *scale;
        size_t n;
        wick_status rc;
        const char *says;
    } cases[] = {{absent, NULL, 9, WICK_E_ARG, "n_adapters is 9"},
                 {NULL, NULL, 1, WICK_E_ARG, "adapters is NULL"},
                 {none, NULL, 1, WICK_E_ARG, "path 0 is NULL"},
                 {absent, bad, 1, WICK_E_ARG, "the scale of absent.gguf is nan"},
                 {absent, NULL, 1, WICK_E_IO, "absent.gguf"},
                 {model, NULL, 1, WICK_E_FORMAT, "general.type is missing"}};
    for (size_t i = 0; i < WK_COUNT(cases); i++) {
        wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
        wick_fit_result f = WICK_FIT_RESULT_INIT;
        o.adapters = cases[i].path;
        o.adapter_scale = cases[i].scale;
        o.n_adapters = cases[i].n;
        assert_int_equal(wick_engine_open(m, &o, &e, &err), cases[i].rc);
        if (!strstr(err.message, cases[i].says)) fail_msg("%s", err.message);
        assert_int_equal(wick_fit(LLAMA, &o, &f, &err), cases[i].rc);
    }
    wick_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_init_seeds),
        cmocka_unit_test(test_init_refuses),
        cmocka_unit_test(test_engine),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_options_refused),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}

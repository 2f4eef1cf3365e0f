/* test_init.c: the weights that training from scratch begins with: how they are spread, and that they are
 * the same again. */
#include <math.h>

#include "engine/base/buf.h"
#include "engine/base/os.h"
#include "engine/train/trainer.h"
#include "simd/format.h"
#include "tests/unit/folder.h"
#include "tests/unit/unit.h"

static const wk_shape shape = {64, 3, 4, 2, 160, 128, false, false};
static const char *const tokenizer = "tests/golden/tiny/llama.gguf";

static void make(const char *name, uint64_t seed) {
    wk_err err = {0};
    if (wk_model_init(&shape, tokenizer, seed, gguf_in(name).p, &err)) fail_msg("%s", err.message);
}

static wk_store *open_ok(const char *name) {
    wk_err err = {0};
    wk_store *s = NULL;
    if (wk_store_open(&s, gguf_in(name).p, &err)) fail_msg("%s", err.message);
    return s;
}

static void check_spread(const wk_store *s, const char *name, double sigma) {
    const wk_tensor *t = wk_store_find(s, wk_cstr(name));
    if (!t) fail_msg("%s is missing", name);
    assert_int_equal(t->fmt, WK_FMT_F32);
    const size_t n = t->bytes / sizeof(float);
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < n; i++) {
        float f;
        memcpy(&f, t->data + i * sizeof(f), sizeof(f));
        sum += (double)f;
        squares += (double)f * (double)f;
    }
    const double mean = sum / (double)n, sd = sqrt(squares / (double)n),
                 error = 1.0 / sqrt((double)n);
    /* five standard errors of a sample of n: of the deviation sd / sqrt(2 n), of the mean sd / sqrt(n) */
    if (!(fabs(sd - sigma) <= 5.0 * 0.71 * error * sigma) || !(fabs(mean) <= 5.0 * error * sigma))
        fail_msg("%s: deviation %.5f and mean %.5f, wanted %.5f and 0", name, sd, mean, sigma);
}

/* What writes into the residual begins smaller, by the number of times that it is written to: attn_output and
 * ffn_down, not ffn_up. */
static void test_spread(void **state) {
    (void)state;
    static const char *const plain[] = {"attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"};
    const double out = 0.02 / sqrt(2.0 * (double)shape.n_layer);
    char name[64];
    make("a", 5);
    wk_store *s = open_ok("a");
    check_spread(s, "token_embd.weight", 0.02);
    check_spread(s, "output.weight", 0.02);
    for (int l = 0; l < shape.n_layer; l++) {
        for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
            (void)snprintf(name, sizeof(name), "blk.%d.%s.weight", l, plain[i]);
            check_spread(s, name, 0.02);
        }
        (void)snprintf(name, sizeof(name), "blk.%d.attn_output.weight", l);
        check_spread(s, name, out);
        (void)snprintf(name, sizeof(name), "blk.%d.ffn_down.weight", l);
        check_spread(s, name, out);
    }
    wk_store_close(s);
    assert_int_equal(unlink(gguf_in("a").p), 0);
}

/* A seed is a model: the same bytes again, and others for another seed. */
static void test_seed(void **state) {
    (void)state;
    static const char *const names[] = {"a", "b", "c"};
    wk_map_file m[3];
    wk_err err = {0};
    for (int i = 0; i < 3; i++) {
        make(names[i], i < 2 ? 7 : 8);
        if (wk_os_map(&m[i], gguf_in(names[i]).p, &err)) fail_msg("%s", err.message);
    }
    assert_int_equal(m[0].n, m[1].n);
    assert_memory_equal(m[0].p, m[1].p, m[0].n);
    assert_int_equal(m[0].n, m[2].n);
    assert_memory_not_equal(m[0].p, m[2].p, m[0].n);
    for (int i = 0; i < 3; i++) {
        wk_os_unmap(&m[i]);
        assert_int_equal(unlink(gguf_in(names[i]).p), 0);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_spread), cmocka_unit_test(test_seed)};
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}

/* test_pretok.c: every family cuts as its regular expression says. The words wanted were made with the
 * regular expression engine of the reference tokenizers; "|" stands between words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "engine/base/attr.h"
#include "engine/base/buf.h"
#include "engine/text/pretok.h"

/* The families by how they cut; every row of pretok.def must be in here. */
enum { GPT2, ALONE, LLAMA3, QWEN2, SHAPES };
static const struct {
    const char *name;
    int shape;
} family[] = {
    {"gpt-2", GPT2},      {"phi-2", GPT2},       {"mpt", GPT2},        {"olmo", GPT2},
    {"default", GPT2},    {"smollm", ALONE},     {"starcoder", ALONE}, {"refact", ALONE},
    {"command-r", ALONE}, {"llama-bpe", LLAMA3}, {"llama3", LLAMA3},   {"llama-v3", LLAMA3},
    {"dbrx", LLAMA3},     {"qwen2", QWEN2},      {"qwen3", QWEN2},     {"deepseek-r1-qwen", QWEN2},
};

static const struct {
    const char *text;
    const char *want[SHAPES];
} sample[] = {
#include "tests/golden/tok/words.def"
};

static void cut(const wk_pretok *pre, wk_str text, wk_buf *out) {
    wk_pretok_walk w = wk_pretok_start(pre, text);
    wk_str word;
    wk_buf_reset(out);
    while (wk_pretok_next(&w, &word)) {
        assert_true(word.n > 0);
        if (out->n) assert_true(wk_buf_addc(out, '|'));
        assert_true(wk_buf_add(out, word.p, word.n));
    }
}

static void test_samples(void **state) {
    (void)state;
    wk_buf out;
    wk_buf_init(&out, 0);
    for (size_t f = 0; f < WK_COUNT(family); f++) {
        const wk_pretok *pre = wk_pretok_find(wk_cstr(family[f].name));
        assert_non_null(pre);
        for (size_t i = 0; i < WK_COUNT(sample); i++) {
            cut(pre, wk_cstr(sample[i].text), &out);
            const char *want = sample[i].want[family[f].shape];
            if (wk_str_is(wk_buf_str(&out), want)) continue;
            fail_msg("%s, sample %zu: \"%s\", wanted \"%s\"", family[f].name, i, out.p, want);
        }
    }
    wk_buf_fini(&out);
}

static void test_every_family_is_here(void **state) {
    (void)state;
    size_t n = 0;
    for (const char *name; (name = wk_pretok_name(n)); n++) {
        size_t f = 0;
        while (f < WK_COUNT(family) && strcmp(family[f].name, name) != 0) f++;
        if (f == WK_COUNT(family)) fail_msg("no test for the family %s", name);
    }
    assert_int_equal(n, WK_COUNT(family));
    assert_null(wk_pretok_find(WK_STR("gpt-9")));
    assert_null(wk_pretok_find(WK_STR("")));
}

/* Any bytes: the words are the text, and a byte that is not UTF-8 never hides what follows it. */
static void test_any_bytes(void **state) {
    (void)state;
    wk_buf out;
    wk_buf_init(&out, 0);
    uint32_t r = 1;
    for (size_t i = 0; wk_pretok_name(i); i++) {
        const wk_pretok *pre = wk_pretok_find(wk_cstr(wk_pretok_name(i)));
        for (int round = 0; round < 200; round++) {
            char text[64];
            const size_t n = (size_t)round % sizeof(text);
            for (size_t k = 0; k < n; k++) {
                r = r * 1664525u + 1013904223u;
                text[k] = (char)(r >> 24);
            }
            wk_pretok_walk w = wk_pretok_start(pre, (wk_str){text, n});
            wk_str word;
            wk_buf_reset(&out);
            while (wk_pretok_next(&w, &word))
                assert_true(word.n && wk_buf_add(&out, word.p, word.n));
            assert_int_equal(out.n, n);
            if (n) assert_memory_equal(out.p, text, n);
        }
        cut(pre, WK_STR("\xff\xfe ab"), &out);
        assert_true(wk_str_is(wk_buf_str(&out), "\xff\xfe| ab"));
    }
    wk_buf_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_every_family_is_here),
        cmocka_unit_test(test_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_tok_bpe.c: byte-level BPE: order of merges, whole words, missing bytes, any bytes, worst inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/base/attr.h"
#include "tests/unit/tok_fixture.h"

enum { BIG = 1 << 20, LIMIT_MS = 1000 };

/* Bytes 0..255, then tokens of a's: 2, 4, 8 … 64 of them, and some words. */
static const char a64[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
enum { A2 = 256, A64 = 261, BC = 262, ABC, BCD, CD, GCD, WORD, USER };

static wk_tok *open_vocab(const char *pre, int lost_byte) {
    fix f;
    static vocab v;
    wk_tok *t;
    wk_err err = {0};
    wk_str merges[16];
    char line[8][160];
    size_t n = 0;
    v = (vocab){0};
    vocab_bytes(&v);
    if (lost_byte >= 0) v.kind[lost_byte] = 5;
    for (size_t k = 1; k < 64; k *= 2) {
        vocab_add(&v, (wk_str){a64, 2 * k}, 1, 0);
        memcpy(line[n], a64, k);
        line[n][k] = ' ';
        memcpy(line[n] + k + 1, a64, k);
        merges[n] = (wk_str){line[n], 2 * k + 1};
        n++;
    }
    const char *more[] = {"bc",
                          "abc",
                          "bcd",
                          "cd",
                          ("\xc4\xa0"
                           "cd"),
                          "w1"};
    for (size_t i = 0; i < WK_COUNT(more); i++) vocab_add(&v, wk_cstr(more[i]), 1, 0);
    vocab_add(&v, WK_STR("\xc4\xa0u"), 4,
              0); /* user-defined: the text as it stands, not byte characters */
    const char *rules[] = {"c d", "b c", "a bc", "b cd", "\xc4\xa0 cd"};
    for (size_t i = 0; i < WK_COUNT(rules); i++) merges[n++] = wk_cstr(rules[i]);
    fix_begin(&f);
    fix_meta_str(&f, "tokenizer.ggml.model", "gpt2");
    fix_meta_str(&f, "tokenizer.ggml.pre", pre);
    vocab_put(&v, &f, false);
    fix_strs(&f, "tokenizer.ggml.merges", merges, n);
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    return t;
}

static void expect(const wk_tok *t, wk_str text, const int32_t *want, size_t n_want) {
    int32_t id[256];
    size_t n = 0;
    const wk_run run = {text, false};
    assert_int_equal(wk_tok_encode(t, &run, 1, 0, id, WK_COUNT(id), &n), WICK_OK);
    assert_int_equal(n, n_want);
    if (n) assert_memory_equal(id, want, n * sizeof(*id));
}
#define EXPECT(t, text, ...)                                                                       \
    do {                                                                                           \
        const int32_t ids_[] = {__VA_ARGS__};                                                      \
        expect((t), WK_STR(text), ids_, WK_COUNT(ids_));                                           \
    } while (0)

static void test_order_of_merges(void **state) {
    (void)state;
    wk_tok *t = open_vocab("gpt-2", -1);
    EXPECT(t, "a", 'a');
    EXPECT(t, "aaa", A2, 'a'); /* the leftmost of equals */
    EXPECT(t, "aaaaa", A2 + 1, 'a');
    EXPECT(t, "abcd", 'a', BCD); /* c d stands before b c */
    EXPECT(t, "abc", ABC);
    EXPECT(t, "cd cd", CD, GCD);
    EXPECT(t, "w1", 'w', '1'); /* no merge makes it */
    EXPECT(t, "\xc4\xa0u", USER);
    EXPECT(t, " u", ' ', 'u');
    expect(t, WK_STR(""), NULL, 0);
    wk_tok_close(t);
    t = open_vocab("llama-bpe", -1);
    EXPECT(t, "abc", ABC);
    EXPECT(t, "bcd", BCD);
    EXPECT(t, "w1", 'w', '1'); /* two words to this family */
    wk_tok_close(t);
}

/* llama-bpe takes a word that is a token, though no merges lead there. */
static void test_whole_words(void **state) {
    (void)state;
    static vocab v;
    const char *const pre[] = {"llama-bpe", "dbrx"};
    for (int i = 0; i < 2; i++) {
        fix f;
        wk_tok *t;
        wk_err err = {0};
        v = (vocab){0};
        vocab_bytes(&v);
        vocab_add(&v, WK_STR("xyz"), 1, 0);
        fix_begin(&f);
        fix_meta_str(&f, "tokenizer.ggml.model", "gpt2");
        fix_meta_str(&f, "tokenizer.ggml.pre", pre[i]);
        vocab_put(&v, &f, false);
        fix_strs(&f, "tokenizer.ggml.merges", NULL, 0);
        if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
        if (i == 0)
            EXPECT(t, "xyz", 256);
        else
            EXPECT(t, "xyz", 'x', 'y', 'z');
        wk_tok_close(t);
    }
}

static void test_missing_byte_is_dropped(void **state) {
    (void)state;
    wk_tok *t = open_vocab("gpt-2", 0x04);
    expect(t, WK_STR("\x04"), NULL, 0);
    EXPECT(t, "x\x04y", 'x', 'y');
    EXPECT(t, "\x05", 5);
    wk_tok_close(t);
}

static void test_round_trip(void **state) {
    (void)state;
    wk_tok *t = open_vocab("smollm", -1);
    uint32_t r = 3;
    for (int round = 0; round < 500; round++) {
        char text[100], back[100];
        int32_t id[100];
        size_t n = 0, len = 0;
        const size_t n_text = (size_t)round % sizeof(text);
        for (size_t i = 0; i < n_text; i++) {
            r = r * 1664525u + 1013904223u;
            text[i] = round % 3 ? (char)(r >> 24) : "ab cd\n1\xc3"[r >> 29];
        }
        const wk_run run = {{text, n_text}, true};
        assert_int_equal(wk_tok_encode(t, &run, 1, WK_TOK_SPECIAL, id, WK_COUNT(id), &n), WICK_OK);
        assert_int_equal(wk_tok_decode(t, id, n, 0, back, sizeof(back), &len), WICK_OK);
        assert_int_equal(len, n_text);
        if (len) assert_memory_equal(text, back, len);
    }
    wk_tok_close(t);
}

static void test_worst_inputs(void **state) {
    (void)state;
    wk_tok *t = open_vocab("gpt-2", -1);
    const char *const unit[] = {"a",    " ",        "\n",   "'",
                                "1",    "ab",       "abcd", "\xe4\xbd\xa0",
                                "\xff", "\xcc\x81", "a1 ",  "\xc4\xa0"};
    char *text = (char *)malloc(BIG);
    assert_non_null(text);
    for (size_t k = 0; k < WK_COUNT(unit); k++) {
        const size_t m = strlen(unit[k]);
        size_t n = 0;
        for (size_t i = 0; i < BIG; i++) text[i] = unit[k][i % m];
        const wk_run run = {{text, BIG}, false};
        const uint64_t from = cpu_ms();
        assert_int_equal(wk_tok_encode(t, &run, 1, 0, NULL, 0, &n), WICK_OK);
        const uint64_t ms = cpu_ms() - from;
        if (getenv("WICK_LONG"))
            print_message("1 MiB of \"%s\": %llu ms\n", unit[k], (unsigned long long)ms);
        if (ms > LIMIT_MS * SLOWER)
            fail_msg("1 MiB of \"%s\" took %llu ms", unit[k], (unsigned long long)ms);
        if (k == 0) assert_int_equal(n, BIG / 64);
    }
    free(text);
    wk_tok_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_merges),
        cmocka_unit_test(test_whole_words),
        cmocka_unit_test(test_missing_byte_is_dropped),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_worst_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

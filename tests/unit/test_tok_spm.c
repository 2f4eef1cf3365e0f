/* test_tok_spm.c: SentencePiece BPE: scores, bytes, the space in front, cuts, worst inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/attr.h"
#include "tests/unit/tok_fixture.h"

enum { BIG = 1 << 20, LIMIT_MS = 1000 };

#define LOW "\xe2\x96\x81" /* U+2581 */
enum {
    UNK,
    BOS,
    EOS,
    BYTE0,
    SP = BYTE0 + 256,
    A,
    B,
    C,
    AB,
    BC,
    AA,
    SPA,
    SPAB,
    A_SP_B,
    EURO,
    TAG,
    NL2,
    SP3,
    COUNT
};

static void make_vocab(vocab *v) {
    *v = (vocab){0};
    vocab_add(v, WK_STR("<unk>"), 2, 0);
    vocab_add(v, WK_STR("<s>"), 3, 0);
    vocab_add(v, WK_STR("</s>"), 3, 0);
    vocab_fallback(v);
    vocab_add(v, WK_STR(LOW), 1, -20);
    vocab_add(v, WK_STR("a"), 1, -21);
    vocab_add(v, WK_STR("b"), 1, -22);
    vocab_add(v, WK_STR("c"), 1, -23);
    vocab_add(v, WK_STR("ab"), 1, -2);
    vocab_add(v, WK_STR("bc"), 1, -1);
    vocab_add(v, WK_STR("aa"), 1, -3);
    vocab_add(v, WK_STR(LOW "a"), 1, -5);
    vocab_add(v, WK_STR(LOW "ab"), 1, -6);
    vocab_add(v, WK_STR("c" LOW "b"), 1, -7);
    vocab_add(v, WK_STR("\xe2\x82\xac"), 1, -24);
    vocab_add(v, WK_STR("<tag>"), 4, 0);
    vocab_add(v, WK_STR("\n\n"), 4, 0);
    vocab_add(v, WK_STR("   "), 4, 0); /* files hold these with spaces */
}

static void begin(fix *f) {
    fix_begin(f);
    fix_meta_str(f, "tokenizer.ggml.model", "llama");
    fix_meta_u32(f, "tokenizer.ggml.bos_token_id", BOS);
    fix_meta_u32(f, "tokenizer.ggml.eos_token_id", EOS);
}

static wk_tok *open_spm(bool space) {
    fix f;
    static vocab v;
    wk_tok *t;
    wk_err err = {0};
    make_vocab(&v);
    begin(&f);
    vocab_put(&v, &f, true);
    if (!space) fix_meta_bool(&f, "tokenizer.ggml.add_space_prefix", false);
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    return t;
}

static void expect(const wk_tok *t, wk_str text, uint32_t flags, const int32_t *want,
                   size_t n_want) {
    int32_t id[256];
    size_t n = 0;
    const wk_run run = {text, true};
    assert_int_equal(wk_tok_encode(t, &run, 1, flags, id, WK_COUNT(id), &n), WICK_OK);
    assert_int_equal(n, n_want);
    if (n) assert_memory_equal(id, want, n * sizeof(*id));
}
#define EXPECT(t, text, flags, ...)                                                                \
    do {                                                                                           \
        const int32_t ids_[] = {__VA_ARGS__};                                                      \
        expect((t), WK_STR(text), (flags), ids_, WK_COUNT(ids_));                                  \
    } while (0)

static void test_scores(void **state) {
    (void)state;
    wk_tok *t = open_spm(false);
    assert_string_equal(wk_tok_family(t), "spm");
    EXPECT(t, "abc", 0, A, BC); /* bc has the higher score */
    EXPECT(t, "aaa", 0, AA, A); /* the leftmost of equals */
    EXPECT(t, "aaab", 0, AA, AB);
    EXPECT(t, " ab", 0, SPAB);
    EXPECT(t, LOW "ab", 0, SPAB);
    EXPECT(t, "a ab", 0, A, SPAB);     /* no token holds "a" and a space side by side: cut */
    EXPECT(t, "ac b", 0, A, C, SP, B); /* nothing leads to "c b" */
    EXPECT(t, "\xe2\x82\xac", 0, EURO);
    EXPECT(t, "a\xe2\x82\xac", 0, A, EURO);
    expect(t, WK_STR(""), 0, NULL, 0);
    wk_tok_close(t);
}

/* Scores of either sign; 0 and -0 are equal, so that the leftmost wins. */
static void test_signs_of_scores(void **state) {
    (void)state;
    static const float score[][2] = {{1, 2},  {-1, 2},       {2, 1},
                                     {2, -1}, {0.0f, -0.0f}, {-0.0f, 0.0f}};
    static vocab v;
    for (size_t i = 0; i < WK_COUNT(score); i++) {
        fix f;
        wk_tok *t;
        wk_err err = {0};
        make_vocab(&v);
        v.score[AB] = score[i][0];
        v.score[BC] = score[i][1];
        begin(&f);
        vocab_put(&v, &f, true);
        fix_meta_bool(&f, "tokenizer.ggml.add_space_prefix", false);
        if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
        if (i < 2)
            EXPECT(t, "abc", 0, A, BC);
        else
            EXPECT(t, "abc", 0, AB, C);
        wk_tok_close(t);
    }
}

static void test_bytes(void **state) {
    (void)state;
    wk_tok *t = open_spm(false);
    EXPECT(t, "\n", 0, BYTE0 + 10);
    EXPECT(t, "\xc3\xa9", 0, BYTE0 + 0xc3, BYTE0 + 0xa9);
    EXPECT(t, "a\xff\xe2\x82", 0, A, BYTE0 + 0xff, BYTE0 + 0xe2, BYTE0 + 0x82);
    EXPECT(t, "\0", 0, BYTE0);
    /* The text of a byte token is text. */
    EXPECT(t, "<0x0A>", 0, BYTE0 + '<', BYTE0 + '0', BYTE0 + 'x', BYTE0 + '0', BYTE0 + 'A',
           BYTE0 + '>');
    wk_tok_close(t);
}

static void test_special(void **state) {
    (void)state;
    wk_tok *t = open_spm(false);
    EXPECT(t, "a<tag>b\n\n\n", 0, A, TAG, B, NL2, BYTE0 + 10);
    EXPECT(t, "    a", 0, SP3, SPA);
    EXPECT(t, "<s>a</s>", WK_TOK_SPECIAL, BOS, A, EOS);
    EXPECT(t, "<s>", 0, BYTE0 + '<', BYTE0 + 's', BYTE0 + '>');
    EXPECT(t, "a", WK_TOK_BOS, BOS, A); /* SPM adds BOS unless the file says no */
    assert_true(wk_tok_adds_bos(t));
    assert_true(wk_tok_is_end(t, EOS) && !wk_tok_is_end(t, BOS));
    wk_tok_close(t);
}

static void test_space_in_front(void **state) {
    (void)state;
    wk_tok *t = open_spm(true);
    EXPECT(t, "ab", WK_TOK_BOS, BOS, SPAB);
    EXPECT(t, " ab", 0, SP, SPAB);
    expect(t, WK_STR(""), 0, NULL, 0);
    EXPECT(t, "<s>ab</s><s>a", WK_TOK_SPECIAL, BOS, SPAB, EOS, BOS,
           SPA); /* after each control token */
    EXPECT(t, "<s></s>", WK_TOK_SPECIAL, BOS, EOS);
    EXPECT(t, "<tag>a<tag>b", 0, SP, TAG, A, TAG, B); /* not after user-defined ones */
    wk_tok_close(t);
}

static void test_decode(void **state) {
    (void)state;
    char buf[64], tmp[8];
    size_t len = 0;
    const int32_t id[] = {BOS, SPAB, SPA, BYTE0 + 0xc3, BYTE0 + 0xa9, TAG, EOS};
    for (int space = 0; space < 2; space++) {
        wk_tok *t = open_spm(space);
        assert_int_equal(wk_tok_decode(t, id, WK_COUNT(id), 0, buf, sizeof(buf), &len), WICK_OK);
        assert_true(
            wk_str_is((wk_str){buf, len}, space ? "ab a\xc3\xa9<tag>" : " ab a\xc3\xa9<tag>"));
        assert_true(wk_str_is(wk_tok_piece(t, SPAB, 0, tmp), " ab"));
        assert_int_equal(wk_tok_piece(t, UNK, 0, tmp).n, 0);
        wk_tok_close(t);
    }
}

static void test_round_trip(void **state) {
    (void)state;
    uint32_t r = 3;
    for (int round = 0; round < 600; round++) {
        wk_tok *t = round % 100 ? NULL : open_spm(round % 200 == 0);
        if (!t) continue;
        for (int k = 0; k < 200; k++) {
            char text[100], back[100];
            int32_t id[128];
            size_t n = 0, len = 0;
            const size_t n_text = (size_t)k % sizeof(text);
            for (size_t i = 0; i < n_text; i++) {
                r = r * 1664525u + 1013904223u;
                text[i] = k % 3 ? (char)(r >> 24) : "ab c\n \xc3\xa9"[r >> 29];
            }
            const wk_run run = {{text, n_text}, true};
            assert_int_equal(wk_tok_encode(t, &run, 1, WK_TOK_SPECIAL, id, WK_COUNT(id), &n),
                             WICK_OK);
            assert_true(n <= WK_COUNT(id));
            assert_int_equal(wk_tok_decode(t, id, n, 0, back, sizeof(back), &len), WICK_OK);
            assert_int_equal(len, n_text);
            if (len) assert_memory_equal(text, back, len);
        }
        wk_tok_close(t);
    }
}

/* Without byte tokens a run of unknown characters is one unknown token. */
static void test_unknown(void **state) {
    (void)state;
    fix f;
    static vocab v;
    wk_tok *t;
    wk_err err = {0};
    v = (vocab){0};
    vocab_add(&v, WK_STR("<unk>"), 2, 0);
    vocab_add(&v, WK_STR("a"), 1, -1);
    fix_begin(&f);
    fix_meta_str(&f, "tokenizer.ggml.model", "llama");
    fix_meta_bool(&f, "tokenizer.ggml.add_space_prefix", false);
    vocab_put(&v, &f, true);
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    EXPECT(t,
           "axy\xc3\xa9"
           "a\xff",
           0, 1, 0, 1, 0);
    wk_tok_close(t);
}

/* A file without kinds: bytes are known by their text, bos and eos are control tokens. */
static void test_no_kinds(void **state) {
    (void)state;
    fix f;
    static vocab v;
    wk_tok *t;
    wk_err err = {0};
    make_vocab(&v);
    begin(&f);
    fix_strs(&f, "tokenizer.ggml.tokens", v.text, v.n);
    fix_array(&f, "tokenizer.ggml.scores", WK_META_I32, v.n); /* integers: such files exist */
    for (size_t i = 0; i < v.n; i++) fix_u32(&f, (uint32_t)(int32_t)v.score[i]);
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    EXPECT(t, "\xff", 0, SP, BYTE0 + 0xff);
    assert_true(wk_tok_is_control(t, BOS) && wk_tok_is_control(t, EOS) && !wk_tok_is_control(t, A));
    wk_tok_close(t);
}

typedef struct bad {
    int scores_off, lost_byte;
    bool no_scores, str_scores, nan, bytes_gone, bad_byte, squeeze;
    int code;
    const char *sentence;
} bad;
static const bad bads[] = {
    {.no_scores = true, .code = WICK_E_FORMAT, .sentence = "scores is missing"},
    {.str_scores = true, .code = WICK_E_FORMAT, .sentence = "wanted numbers"},
    {.scores_off = -1, .code = WICK_E_FORMAT, .sentence = "wanted as many"},
    {.scores_off = 1, .code = WICK_E_FORMAT, .sentence = "wanted as many"},
    {.nan = true, .code = WICK_E_FORMAT, .sentence = "scores[7] is not a finite number"},
    {.lost_byte = 9, .code = WICK_E_FORMAT, .sentence = "255 different byte tokens"},
    {.bytes_gone = true, .code = WICK_E_FORMAT, .sentence = "neither byte tokens nor"},
    {.bad_byte = true, .code = WICK_E_FORMAT, .sentence = "\"<0x-1>\""},
    {.squeeze = true, .code = WICK_E_UNSUPPORTED, .sentence = "remove_extra_whitespaces"},
};

static void test_refusals(void **state) {
    (void)state;
    static vocab v;
    for (size_t i = 0; i < WK_COUNT(bads); i++) {
        const bad *b = &bads[i];
        fix f;
        wk_tok *t;
        wk_err err = {0};
        make_vocab(&v);
        if (b->nan) v.score[7] = NAN;
        if (b->lost_byte) v.kind[BYTE0 + b->lost_byte] = 1;
        if (b->bad_byte) v.text[BYTE0 + 8] = WK_STR("<0x-1>");
        for (int k = 0; b->bytes_gone && k < 256; k++) v.kind[BYTE0 + k] = 1;
        if (b->bytes_gone) v.kind[UNK] = 1;
        begin(&f);
        vocab_put(&v, &f, false);
        const size_t n = (size_t)((int)v.n + b->scores_off);
        if (b->str_scores)
            fix_strs(&f, "tokenizer.ggml.scores", v.text, v.n);
        else if (!b->no_scores) {
            fix_array(&f, "tokenizer.ggml.scores", WK_META_F32, n);
            fix_raw(&f, v.score, n * sizeof(v.score[0]));
        }
        if (b->squeeze) fix_meta_bool(&f, "tokenizer.ggml.remove_extra_whitespaces", true);
        const int rc = fix_open(&f, &t, &err);
        if (rc != b->code || !strstr(err.message, b->sentence)) {
            fail_msg("case %zu: code %d, wanted %d; \"%s\", wanted \"%s\"", i, rc, b->code,
                     err.message, b->sentence);
        }
    }
}

static void test_worst_inputs(void **state) {
    (void)state;
    static const char a64[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static vocab v;
    fix f;
    wk_tok *t;
    wk_err err = {0};
    make_vocab(&v);
    for (size_t k = 3; k <= 64; k++) vocab_add(&v, (wk_str){a64, k}, 1, -100.0f - (float)k);
    begin(&f);
    vocab_put(&v, &f, true);
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    const char *const unit[] = {"a",    " ",    "\n",    "ab", "abc", "a b", "\xe4\xbd\xa0",
                                "\xff", "<tag", "<tag>", LOW,  "c b"};
    char *text = (char *)malloc(BIG);
    assert_non_null(text);
    for (size_t k = 0; k < WK_COUNT(unit); k++) {
        const size_t m = strlen(unit[k]);
        size_t n = 0;
        for (size_t i = 0; i < BIG; i++) text[i] = unit[k][i % m];
        const wk_run run = {{text, BIG}, true};
        const uint64_t from = cpu_ms();
        assert_int_equal(wk_tok_encode(t, &run, 1, WK_TOK_SPECIAL, NULL, 0, &n), WICK_OK);
        const uint64_t ms = cpu_ms() - from;
        if (getenv("WICK_LONG"))
            print_message("1 MiB of \"%s\": %llu ms\n", unit[k], (unsigned long long)ms);
        if (ms > LIMIT_MS * SLOWER)
            fail_msg("1 MiB of \"%s\" took %llu ms", unit[k], (unsigned long long)ms);
    }
    free(text);
    wk_tok_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores),         cmocka_unit_test(test_signs_of_scores),
        cmocka_unit_test(test_bytes),          cmocka_unit_test(test_special),
        cmocka_unit_test(test_space_in_front), cmocka_unit_test(test_decode),
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_no_kinds),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_worst_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

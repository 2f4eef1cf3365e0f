/* test_tok.c: what a tokenizer file must hold, special tokens, decoding. Small vocabularies made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "engine/base/log.h"
#include "tests/unit/tok_fixture.h"

enum { CAP = 256 };
static char logged[4096];

static void sink(void *ud, int level, const char *text, size_t len) {
    (void)ud;
    (void)level;
    const size_t n = strlen(logged);
    if (n + len + 2 < sizeof(logged))
        (void)snprintf(logged + n, sizeof(logged) - n, "%.*s\n", (int)len, text);
}

static int reset_log(void **state) {
    (void)state;
    logged[0] = '\0';
    wk_log_set(sink, NULL, WK_LOG_DEBUG);
    return 0;
}

/* Byte-level BPE: 0..255 bytes, 256 "ab", then special tokens. */
enum { AB = 256, IM_START, IM_END, TOOL, TOOLS, NL2, UNK, BPE_COUNT };
static void make_bpe(vocab *v) {
    *v = (vocab){0};
    vocab_bytes(v);
    vocab_add(v, WK_STR("ab"), 1, 0);
    vocab_add(v, WK_STR("<|im_start|>"), 3, 0);
    vocab_add(v, WK_STR("<|im_end|>"), 3, 0);
    vocab_add(v, WK_STR("<tool>"), 4, 0);
    vocab_add(v, WK_STR("<tool>s"), 4, 0);
    vocab_add(v, WK_STR("\n\n"), 4, 0);
    vocab_add(v, WK_STR("<unk>"), 2, 0);
}

static void begin_bpe(fix *f, const char *pre) {
    fix_begin(f);
    fix_meta_str(f, "tokenizer.ggml.model", "gpt2");
    if (pre) fix_meta_str(f, "tokenizer.ggml.pre", pre);
}

static void put_merges(fix *f) {
    fix_strs(f, "tokenizer.ggml.merges", (const wk_str[]){WK_STR("a b")}, 1);
}

static wk_tok *open_bpe(void) {
    fix f;
    vocab v;
    wk_tok *t;
    wk_err err = {0};
    make_bpe(&v);
    begin_bpe(&f, "gpt-2");
    vocab_put(&v, &f, false);
    put_merges(&f);
    fix_meta_u32(&f, "tokenizer.ggml.bos_token_id", IM_START);
    fix_meta_u32(&f, "tokenizer.ggml.eos_token_id", IM_END);
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    return t;
}

static void expect(const wk_tok *t, const wk_run *run, size_t n_run, uint32_t flags,
                   const char *want) {
    int32_t id[CAP];
    size_t n = 0;
    char got[8 * CAP] = "";
    assert_int_equal(wk_tok_encode(t, run, n_run, flags, id, CAP, &n), WICK_OK);
    assert_true(n <= CAP);
    for (size_t i = 0, k = 0; i < n; i++) {
        k += (size_t)snprintf(got + k, sizeof(got) - k, i ? " %d" : "%d", (int)id[i]);
    }
    assert_string_equal(got, want);
}

static void expect_one(const wk_tok *t, const char *text, bool trusted, uint32_t flags,
                       const char *want) {
    const wk_run run = {wk_cstr(text), trusted};
    expect(t, &run, 1, flags, want);
}

/* ---- special tokens ---------------------------------------------------------------------------- */

static void test_user_text_is_never_special(void **state) {
    (void)state;
    wk_tok *t = open_bpe();
    const char *plain = "60 124 105 109 95 101 110 100 124 62";
    expect_one(t, "<|im_end|>", true, WK_TOK_SPECIAL, "258");
    expect_one(t, "<|im_end|>", false, WK_TOK_SPECIAL, plain);
    expect_one(t, "<|im_end|>", true, 0, plain);
    expect_one(t, "<|im_end|>", false, 0, plain);
    expect_one(t, "<unk>", true, WK_TOK_SPECIAL, "262");
    expect_one(t, "<unk>", false, WK_TOK_SPECIAL, "60 117 110 107 62");
    /* A special token that begins in the template and ends in the user's text, or the reverse, is none. */
    const wk_run into_user[] = {{WK_STR("<|im_"), true}, {WK_STR("end|>"), false}};
    const wk_run from_user[] = {{WK_STR("<|im_end|"), false}, {WK_STR(">"), true}};
    const wk_run hole[] = {{WK_STR("<|im"), true}, {WK_STR("_"), false}, {WK_STR("end|>"), true}};
    const wk_run both[] = {{WK_STR("<|im_"), true}, {WK_STR("end|>"), true}};
    expect(t, into_user, 2, WK_TOK_SPECIAL, plain);
    expect(t, from_user, 2, WK_TOK_SPECIAL, plain);
    expect(t, hole, 3, WK_TOK_SPECIAL, plain);
    expect(t, both, 2, WK_TOK_SPECIAL, "258");
    const wk_run chat[] = {{WK_STR("<|im_start|>"), true},
                           {WK_STR("a<|im_end|>"), false},
                           {WK_STR("<|im_end|>"), true}};
    expect(t, chat, 3, WK_TOK_SPECIAL, "257 97 60 124 105 109 95 101 110 100 124 62 258");
    wk_tok_close(t);
}

static void test_user_defined_in_any_text(void **state) {
    (void)state;
    wk_tok *t = open_bpe();
    expect_one(t, "<tool>", false, 0, "259");
    expect_one(t, "x<tool>y", false, 0, "120 259 121");
    expect_one(t, "<tool>s<tool>", false, 0, "260 259"); /* the longest */
    expect_one(t, "\n\n\n", false, 0, "261 10");         /* the leftmost */
    const wk_run across[] = {{WK_STR("<to"), true}, {WK_STR("ol>"), false}};
    expect(t, across, 2, WK_TOK_SPECIAL, "259");
    wk_tok_close(t);
}

static void test_runs_are_one_text(void **state) {
    (void)state;
    wk_tok *t = open_bpe();
    const wk_run run[] = {
        {WK_STR("a"), true}, {WK_STR(""), false}, {WK_STR("b"), false}, {{NULL, 0}, true}};
    expect(t, run, 4, WK_TOK_SPECIAL, "256");
    expect(t, NULL, 0, WK_TOK_SPECIAL, "");
    wk_tok_close(t);
}

static void test_bos_and_questions(void **state) {
    (void)state;
    wk_tok *t = open_bpe();
    expect_one(t, "a", false, WK_TOK_BOS, "97"); /* gpt-2 adds none unless the file asks for it */
    assert_false(wk_tok_adds_bos(t));
    assert_int_equal(wk_tok_bos(t), IM_START);
    assert_int_equal(wk_tok_eos(t), IM_END);
    assert_int_equal(wk_tok_count(t), BPE_COUNT);
    assert_string_equal(wk_tok_family(t), "bpe/gpt-2");
    assert_true(wk_tok_is_end(t, IM_END) && !wk_tok_is_end(t, IM_START) && !wk_tok_is_end(t, -1));
    assert_true(wk_tok_is_control(t, IM_START) && !wk_tok_is_control(t, TOOL) &&
                !wk_tok_is_control(t, 99999));
    assert_true(wk_str_is(wk_tok_text(t, IM_START), "<|im_start|>"));
    assert_true(wk_str_is(wk_tok_text(t, -1), "") && wk_str_is(wk_tok_text(t, BPE_COUNT), ""));
    wk_tok_close(t);
    fix f;
    vocab v;
    wk_err err = {0};
    make_bpe(&v);
    begin_bpe(&f, "smollm");
    vocab_put(&v, &f, false);
    put_merges(&f);
    fix_meta_u32(&f, "tokenizer.ggml.bos_token_id", IM_START);
    fix_meta_u32(&f, "tokenizer.ggml.eos_token_id", IM_END);
    fix_meta_bool(&f, "tokenizer.ggml.add_bos_token", true);
    fix_meta_bool(&f, "tokenizer.ggml.add_eos_token", true);
    assert_int_equal(fix_open(&f, &t, &err), WICK_OK);
    expect_one(t, "ab", false, WK_TOK_BOS, "257 256 258");
    expect_one(t, "ab", false, 0, "256");
    wk_tok_close(t);
}

static void test_small_capacity(void **state) {
    (void)state;
    wk_tok *t = open_bpe();
    int32_t id[3] = {-7, -7, -7};
    size_t n = 0;
    const wk_run run = {WK_STR("abcd"), false};
    assert_int_equal(wk_tok_encode(t, &run, 1, 0, id, 2, &n), WICK_OK);
    assert_true(n == 3 && id[0] == AB && id[1] == 'c' && id[2] == -7);
    assert_int_equal(wk_tok_encode(t, &run, 1, 0, NULL, 0, &n), WICK_OK);
    assert_int_equal(n, 3);
    char buf[4] = "???";
    size_t len = 0;
    assert_int_equal(wk_tok_decode(t, id, 2, 0, NULL, 0, &len), WICK_OK);
    assert_int_equal(len, 3);
    assert_int_equal(wk_tok_decode(t, id, 2, 0, buf, 2, &len), WICK_E_ARG);
    assert_true(len == 3 && buf[2] == '?');
    wk_tok_close(t);
}

static void test_decode(void **state) {
    (void)state;
    wk_tok *t = open_bpe();
    const int32_t id[] = {IM_START, AB, -5, BPE_COUNT, TOOL, UNK, IM_END};
    char buf[64], tmp[8];
    size_t len = 0;
    assert_int_equal(wk_tok_decode(t, id, WK_COUNT(id), 0, buf, sizeof(buf), &len), WICK_OK);
    assert_true(wk_str_is((wk_str){buf, len}, "ab<tool>"));
    assert_int_equal(
        wk_tok_decode(t, id, WK_COUNT(id), WK_TOK_SHOW_SPECIAL, buf, sizeof(buf), &len), WICK_OK);
    assert_true(wk_str_is((wk_str){buf, len}, "<|im_start|>ab<tool><unk><|im_end|>"));
    assert_int_equal(wk_tok_piece(t, IM_END, 0, tmp).n, 0);
    assert_true(wk_str_is(wk_tok_piece(t, IM_END, WK_TOK_SHOW_SPECIAL, tmp), "<|im_end|>"));
    wk_tok_close(t);
}

/* ---- what is refused --------------------------------------------------------------------------- */

typedef struct bad {
    const char *pre, *model;
    const char *key; /* an id key to set */
    uint32_t id;
    int types_off; /* elements more of token_type */
    bool no_tokens, no_merges, int_tokens, wrong_kind, str_types, huge;
    int code; /* 0: opens, `sentence` is in the log */
    const char *sentence;
} bad;

static const bad bads[] = {
    {.model = "bert", .code = WICK_E_UNSUPPORTED, .sentence = "\"bert\""},
    {.pre = "no-such", .code = WICK_E_UNSUPPORTED, .sentence = "\"no-such\""},
    {.no_tokens = true, .code = WICK_E_FORMAT, .sentence = "tokenizer.ggml.tokens is missing"},
    {.no_merges = true, .code = WICK_E_FORMAT, .sentence = "tokenizer.ggml.merges is missing"},
    {.int_tokens = true, .code = WICK_E_FORMAT, .sentence = "wanted strings"},
    {.types_off = 1, .code = WICK_E_FORMAT, .sentence = "token_type has 264 elements"},
    {.types_off = -1, .code = WICK_E_FORMAT, .sentence = "token_type has 262 elements"},
    {.str_types = true, .code = WICK_E_FORMAT, .sentence = "wanted integers"},
    {.wrong_kind = true, .code = WICK_E_FORMAT, .sentence = "token_type[5] is 7"},
    {.huge = true, .code = WICK_E_UNSUPPORTED, .sentence = "tokens[256] has 2049 bytes"},
    {.key = "tokenizer.ggml.bos_token_id",
     .id = BPE_COUNT,
     .code = WICK_E_BOUNDS,
     .sentence = "bos_token_id is 263"},
    {.key = "tokenizer.ggml.eos_token_id",
     .id = UINT32_MAX,
     .code = WICK_E_BOUNDS,
     .sentence = "eos_token_id"},
    {.key = "tokenizer.ggml.padding_token_id",
     .id = BPE_COUNT,
     .sentence = "padding_token_id is 263"},
    {.key = "tokenizer.ggml.unknown_token_id",
     .id = BPE_COUNT,
     .sentence = "unknown_token_id is 263"},
    {.key = "tokenizer.ggml.eot_token_id", .id = 1u << 31, .sentence = "eot_token_id"},
    {.pre = "", .sentence = "tokenizer.ggml.pre is missing"},
};

static int open_bad(const bad *b, wk_tok **t, wk_err *err) {
    static char huge[2049];
    static const uint32_t ints[BPE_COUNT];
    fix f;
    vocab v;
    make_bpe(&v);
    if (b->huge) v.text[AB] = (wk_str){memset(huge, 'h', sizeof(huge)), sizeof(huge)};
    if (b->wrong_kind) v.kind[5] = 7;
    fix_begin(&f);
    fix_meta_str(&f, "tokenizer.ggml.model", b->model ? b->model : "gpt2");
    if (!b->pre || b->pre[0]) fix_meta_str(&f, "tokenizer.ggml.pre", b->pre ? b->pre : "gpt-2");
    if (b->int_tokens) {
        fix_array(&f, "tokenizer.ggml.tokens", WK_META_U32, BPE_COUNT);
        fix_raw(&f, ints, sizeof(ints));
    } else if (!b->no_tokens) {
        fix_strs(&f, "tokenizer.ggml.tokens", v.text, v.n);
    }
    if (b->str_types) {
        fix_strs(&f, "tokenizer.ggml.token_type", v.text, v.n);
    } else {
        const size_t n = (size_t)((int)v.n + b->types_off);
        fix_array(&f, "tokenizer.ggml.token_type", WK_META_I32, n);
        fix_raw(&f, v.kind, n * sizeof(v.kind[0]));
    }
    if (!b->no_merges) put_merges(&f);
    if (b->key) fix_meta_u32(&f, b->key, b->id);
    return fix_open(&f, t, err);
}

static void test_refusals(void **state) {
    for (size_t i = 0; i < WK_COUNT(bads); i++) {
        wk_tok *t;
        wk_err err = {0};
        (void)reset_log(state);
        const int rc = open_bad(&bads[i], &t, &err);
        const char *said = rc ? err.message : logged;
        if (rc != bads[i].code || !strstr(said, bads[i].sentence)) {
            fail_msg("case %zu: code %d, wanted %d; \"%s\", wanted \"%s\"", i, rc, bads[i].code,
                     said, bads[i].sentence);
        }
        assert_true(rc ? t == NULL : t != NULL);
        wk_tok_close(t);
    }
}

static void test_tolerated(void **state) {
    (void)state;
    fix f;
    vocab v;
    wk_tok *t;
    wk_err err = {0};
    make_bpe(&v);
    vocab_add(&v, WK_STR("ab"), 1, 0);
    vocab_add(&v, WK_STR("<|eot_id|>"), 4, 0);
    vocab_add(&v, WK_STR(""), 1, 0);
    begin_bpe(&f, "gpt-2");
    vocab_put(&v, &f, false);
    const wk_str merges[] = {WK_STR("a b"), WK_STR("q z"),         WK_STR("a"),
                             WK_STR(""),    WK_STR(" "),           WK_STR("a  b"),
                             WK_STR("a b"), WK_STR("<|im_ end|>"), WK_STR("a \xff")};
    fix_strs(&f, "tokenizer.ggml.merges", merges, WK_COUNT(merges));
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    assert_non_null(strstr(logged, "1 texts stand twice"));
    assert_non_null(strstr(logged, "7 of 9 merges name no token"));
    assert_non_null(strstr(logged, "\"<|eot_id|>\" is listed as user-defined"));
    assert_true(wk_tok_is_end(t, BPE_COUNT + 1) && wk_tok_is_control(t, BPE_COUNT + 1));
    assert_int_equal(wk_tok_bos(t), -1);
    expect_one(t, "ab", false, WK_TOK_BOS, "256");
    expect_one(t, "<|eot_id|>", false, WK_TOK_SPECIAL, "60 124 101 111 116 95 105 100 124 62");
    wk_tok_close(t);
}

/* Each allocation of open and encode fails in turn: a code, no leak, no crash. */
static void test_no_memory(void **state) {
    (void)state;
    vocab v;
    make_bpe(&v);
    bool opened = false;
    for (uint64_t n = 1; !opened && n < 100; n++) {
        fix f;
        wk_store *s = NULL;
        wk_tok *t = NULL;
        wk_err err = {0};
        begin_bpe(&f, "gpt-2");
        vocab_put(&v, &f, false);
        put_merges(&f);
        memcpy(f.b.p + 16, &f.n_meta, 8);
        assert_int_equal(wk_store_open_memory(&s, f.b.p, f.b.n, "fixture", &err), WICK_OK);
        wk_alloc_fail_at(n, false);
        const int rc = wk_tok_open(&t, s, &err);
        wk_alloc_fail_at(0, false);
        opened = rc == WICK_OK;
        assert_true(opened || rc == WICK_E_NOMEM);
        wk_store_close(s);
        wk_buf_fini(&f.b);
        wk_tok_close(t);
    }
    assert_true(opened);
    wk_tok *t = open_bpe();
    bool done = false;
    for (uint64_t n = 1; !done && n < 20; n++) {
        int32_t id[CAP];
        size_t k = 0;
        const wk_run run = {WK_STR("ababababababababababababababababababab<tool>"), true};
        wk_alloc_fail_at(n, false);
        const int rc = wk_tok_encode(t, &run, 1, WK_TOK_SPECIAL, id, CAP, &k);
        wk_alloc_fail_at(0, false);
        done = rc == WICK_OK;
        assert_true(done || rc == WICK_E_NOMEM);
    }
    assert_true(done);
    wk_tok_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_user_text_is_never_special, reset_log),
        cmocka_unit_test_setup(test_user_defined_in_any_text, reset_log),
        cmocka_unit_test_setup(test_runs_are_one_text, reset_log),
        cmocka_unit_test_setup(test_bos_and_questions, reset_log),
        cmocka_unit_test_setup(test_small_capacity, reset_log),
        cmocka_unit_test_setup(test_decode, reset_log),
        cmocka_unit_test_setup(test_refusals, reset_log),
        cmocka_unit_test_setup(test_tolerated, reset_log),
        cmocka_unit_test_setup(test_no_memory, reset_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

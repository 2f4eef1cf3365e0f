/* test_bpe_learn.c: a vocabulary is learned as the plainest program would, in the order that the contract says, and
 * encodes as the tokenizers library does (tests/golden/make_bpe.py).
 *
 * Usage: test_bpe_learn [--write]: writes tests/golden/bpe/tokenizer.json anew instead. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/text/bpe_learn.h"
#include "tests/unit/tok_fixture.h"
#include "tests/unit/unit.h"

static const char GOLDEN_TEXT[] = "tests/golden/bpe/text.txt";
static const char GOLDEN_JSON[] = "tests/golden/bpe/tokenizer.json";
static const char GOLDEN_FAMILY[] = "qwen2";
enum { GOLDEN_VOCAB = 512 };

static wk_learned learn_ok(const wk_str *text, size_t n_text, int32_t n_vocab, const char *family) {
    wk_learned l;
    wk_err err = {0};
    if (wk_bpe_learn(&l, text, n_text, n_vocab, family, NULL, NULL, &err)) fail_msg("%s", err.message);
    assert_int_equal(l.n_vocab, 256 + l.n_merge + l.n_control);
    return l;
}

static wk_tok *tok_of(const wk_learned *l, const char *family) {
    fix f;
    wk_tok *t;
    wk_err err = {0};
    fix_begin(&f);
    fix_meta_str(&f, "tokenizer.ggml.model", "gpt2");
    fix_meta_str(&f, "tokenizer.ggml.pre", family);
    fix_strs(&f, "tokenizer.ggml.tokens", l->token, (size_t)l->n_vocab);
    fix_array(&f, "tokenizer.ggml.token_type", WK_META_I32, (uint64_t)l->n_vocab);
    for (int32_t i = 0; i < l->n_vocab; i++) fix_u32(&f, i < l->n_vocab - l->n_control ? 1 : 3);
    fix_strs(&f, "tokenizer.ggml.merges", l->merge, (size_t)l->n_merge);
    fix_meta_u32(&f, "tokenizer.ggml.eos_token_id", (uint32_t)(l->n_vocab - l->n_control));
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    return t;
}

static void check_round_trip(const wk_tok *t, wk_str text) {
    int32_t *id = (int32_t *)malloc((text.n + 1) * sizeof(*id));
    char *back = (char *)malloc(text.n + 1);
    size_t n = 0, len = 0;
    const wk_run run = {text, false};
    assert_true(id && back);
    assert_int_equal(wk_tok_encode(t, &run, 1, 0, id, text.n, &n), WICK_OK);
    assert_true(n <= text.n);
    assert_int_equal(wk_tok_decode(t, id, n, 0, back, text.n, &len), WICK_OK);
    assert_int_equal(len, text.n);
    if (len) assert_memory_equal(back, text.p, len);
    free(id);
    free(back);
}

/* ---- the order of merges ----------------------------------------------------------------------- */

static void check_merges(const char *text, const char *const *want, int32_t n_want) {
    const wk_str s = wk_cstr(text);
    wk_learned l = learn_ok(&s, 1, 1000, "gpt-2");
    assert_int_equal(l.n_merge, n_want);
    for (int32_t i = 0; i < n_want; i++)
        if (!wk_str_is(l.merge[i], want[i]))
            fail_msg("merge %d is \"%.*s\", not \"%s\"", i, (int)l.merge[i].n, l.merge[i].p, want[i]);
    wk_learned_fini(&l);
}
#define CHECK_MERGES(text, ...)                                                                                        \
    do {                                                                                                               \
        const char *const want_[] = {__VA_ARGS__};                                                                     \
        check_merges((text), want_, (int32_t)WK_COUNT(want_));                                                         \
    } while (0)
#define SP "\xc4\xa0" /* a space in GPT-2's letters */

static void test_order(void **state) {
    (void)state;
    CHECK_MERGES("xy xy ab ab", SP " a", SP "a b", "x y");   /* equal counts: by the left part, a space is less */
    CHECK_MERGES("bz\nba\nbz\nba\nbz", "b z", "b a");        /* by count, then by the right part */
    CHECK_MERGES("ab\nab\nabb\nabb", "a b", "ab b");         /* a b four times; the left part ab is new */
    CHECK_MERGES("\xc3\xa9\n\xc3\xa9", "\xc3\x83 \xc2\xa9"); /* bytes over 127 compare unsigned */
    CHECK_MERGES("\xff\xff\nzz\nzz\n\xff\xff", "z z", "\xc3\xbf \xc3\xbf");
    CHECK_MERGES("aaa\naaaa", "a a"); /* leftmost first: aa a and aa aa, once each */
    CHECK_MERGES("aaa\naaaa\naaa", "a a", "aa a");
    check_merges("", NULL, 0);
    check_merges("abc", NULL, 0);
}

/* The plainest program: all pairs of all words are counted anew for each merge. */
typedef struct naive {
    uint16_t sym[64];
    int n;
} naive;

static int compare_parts(wk_str a, wk_str b) {
    const int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static bool naive_best(const naive *w, int n_word, const wk_str *part, int n_part, int best[2]) {
    static uint16_t count[96][96];
    int most = 1;
    memset(count, 0, sizeof(count));
    for (int i = 0; i < n_word; i++)
        for (int k = 0; k + 1 < w[i].n; k++) count[w[i].sym[k]][w[i].sym[k + 1]]++;
    for (int a = 0; a < n_part; a++)
        for (int b = 0; b < n_part; b++) {
            if (count[a][b] < 2 || count[a][b] < most) continue;
            const int c = count[a][b] > most ? -1 : compare_parts(part[a], part[best[0]]);
            if (c > 0 || (c == 0 && compare_parts(part[b], part[best[1]]) >= 0)) continue;
            most = count[a][b];
            best[0] = a;
            best[1] = b;
        }
    return most > 1;
}

static void naive_merge(naive *w, int n_word, const int best[2], int by) {
    for (int i = 0; i < n_word; i++) {
        int n = 0;
        for (int k = 0; k < w[i].n; k++) {
            const bool here = k + 1 < w[i].n && w[i].sym[k] == best[0] && w[i].sym[k + 1] == best[1];
            w[i].sym[n++] = here ? (uint16_t)by : w[i].sym[k];
            k += here;
        }
        w[i].n = n;
    }
}

static void test_against_the_plainest(void **state) {
    (void)state;
    enum { WORDS = 60, PARTS = 96 };
    static const char letters[] = "abc";
    uint32_t r = 1;
    for (int round = 0; round < 60; round++) {
        static naive w[WORDS];
        static char bytes[PARTS][256], text[WORDS * 20];
        wk_str part[PARTS];
        int n_part = 3, best[2] = {0, 0};
        size_t n = 0;
        for (int i = 0; i < 3; i++) part[i] = (wk_str){&letters[i], 1};
        for (int i = 0; i < WORDS; i++) {
            r = r * 1664525u + 1013904223u;
            w[i].n = 1 + (int)(r >> 28);
            for (int k = 0; k < w[i].n; k++) {
                r = r * 1664525u + 1013904223u;
                w[i].sym[k] = (uint16_t)((r >> 24) % ((uint32_t)round % 3 + 1));
                text[n++] = letters[w[i].sym[k]];
            }
            text[n++] = '\n';
        }
        const wk_str s = {text, n};
        wk_learned l = learn_ok(&s, 1, 259 + PARTS - 3, "gpt-2");
        for (int i = 0; i < PARTS - 3; i++) {
            const bool more = naive_best(w, WORDS, part, n_part, best);
            assert_true(more == (i < l.n_merge));
            if (!more) break;
            const wk_str a = part[best[0]], b = part[best[1]];
            char line[600];
            (void)snprintf(line, sizeof(line), "%.*s %.*s", (int)a.n, a.p, (int)b.n, b.p);
            if (!wk_str_is(l.merge[i], line))
                fail_msg("round %d: merge %d is \"%.*s\", not \"%s\"", round, i, (int)l.merge[i].n, l.merge[i].p, line);
            memcpy(bytes[n_part], a.p, a.n);
            memcpy(bytes[n_part] + a.n, b.p, b.n);
            part[n_part] = (wk_str){bytes[n_part], a.n + b.n};
            naive_merge(w, WORDS, best, n_part++);
        }
        wk_learned_fini(&l);
    }
}

/* ---- the golden -------------------------------------------------------------------------------- */

typedef struct golden {
    wk_map_file map;
    wk_str text;
    wk_learned l;
} golden;

static golden golden_open(void) {
    golden g = {0};
    wk_err err = {0};
    if (wk_os_map(&g.map, GOLDEN_TEXT, &err)) fail_msg("%s", err.message);
    g.text = (wk_str){(const char *)g.map.p, g.map.n};
    g.l = learn_ok(&g.text, 1, GOLDEN_VOCAB, GOLDEN_FAMILY);
    return g;
}

static void golden_close(golden *g) {
    wk_learned_fini(&g->l);
    wk_os_unmap(&g->map);
}

static void test_golden_json(void **state) {
    (void)state;
    golden g = golden_open();
    wk_map_file want;
    wk_err err = {0};
    wk_buf json;
    wk_buf_init(&json, 0);
    wk_learned_json(&g.l, GOLDEN_FAMILY, &json);
    if (wk_os_map(&want, GOLDEN_JSON, &err)) fail_msg("%s", err.message);
    assert_int_equal(json.n, want.n);
    assert_memory_equal(json.p, want.p, want.n);
    wk_os_unmap(&want);
    wk_buf_fini(&json);
    golden_close(&g);
}

typedef struct bpe_case {
    const char *text;
    size_t n;
    int32_t n_id, id[160];
} bpe_case;

static const bpe_case cases[] = {
#define X(text, n_id, ...) {text, sizeof(text) - 1, n_id, {__VA_ARGS__}},
#include "tests/golden/bpe/ids.def"
#undef X
};

static void test_golden_ids(void **state) {
    (void)state;
    golden g = golden_open();
    wk_tok *t = tok_of(&g.l, GOLDEN_FAMILY);
    for (size_t i = 0; i < WK_COUNT(cases); i++) {
        int32_t id[160];
        size_t n = 0;
        const wk_run run = {{cases[i].text, cases[i].n}, true};
        assert_int_equal(wk_tok_encode(t, &run, 1, WK_TOK_SPECIAL, id, WK_COUNT(id), &n), WICK_OK);
        if (n != (size_t)cases[i].n_id || memcmp(id, cases[i].id, n * sizeof(*id)) != 0)
            fail_msg("case %zu: \"%s\" gives other ids", i, cases[i].text);
    }
    check_round_trip(t, g.text);
    assert_int_equal(wk_tok_eos(t), g.l.n_vocab - 3);
    assert_true(wk_tok_is_end(t, g.l.n_vocab - 1));
    wk_tok_close(t);
    golden_close(&g);
}

/* ---- the rest ---------------------------------------------------------------------------------- */

static void check_same(const wk_learned *a, const wk_learned *b) {
    assert_int_equal(a->n_merge, b->n_merge);
    for (int32_t i = 0; i < a->n_merge; i++) assert_true(wk_str_eq(a->merge[i], b->merge[i]));
}

/* Words that come in another order, in other documents, give the same vocabulary. */
static void test_order_of_documents(void **state) {
    (void)state;
    golden g = golden_open();
    wk_str line[100];
    size_t n = 0;
    const char *end = g.text.p + g.text.n;
    for (const char *p = g.text.p, *q; p < end && n < WK_COUNT(line); p = q) {
        q = (const char *)memchr(p, '\n', (size_t)(end - p));
        q = q ? q + 1 : end;
        line[n++] = (wk_str){p, (size_t)(q - p)};
    }
    wk_learned a = learn_ok(line, n, 400, "gpt-2");
    for (size_t i = 0; i < n / 2; i++) {
        const wk_str x = line[i];
        line[i] = line[n - 1 - i];
        line[n - 1 - i] = x;
    }
    wk_learned b = learn_ok(line, n, 400, "gpt-2");
    check_same(&a, &b);
    wk_learned_fini(&a);
    wk_learned_fini(&b);
    golden_close(&g);
}

static void test_any_bytes(void **state) {
    (void)state;
    const char *const families[] = {"gpt-2", "smollm", "qwen2", "llama-bpe"};
    static char text[20000];
    uint32_t r = 9;
    for (size_t i = 0; i < sizeof(text); i++) {
        r = r * 1664525u + 1013904223u;
        text[i] = i % 3 ? "ab \n'\xc3\xa9 1."[(r >> 24) % 9] : (char)(r >> 24);
    }
    const wk_str s = {text, sizeof(text)};
    for (size_t k = 0; k < WK_COUNT(families); k++) {
        wk_learned l = learn_ok(&s, 1, 900, families[k]);
        wk_tok *t = tok_of(&l, families[k]);
        check_round_trip(t, s);
        check_round_trip(t, WK_STR(""));
        for (size_t n = 1; n < 300; n += 7) check_round_trip(t, (wk_str){text + n, n});
        wk_tok_close(t);
        wk_learned_fini(&l);
    }
}

/* One word of a megabyte: counted in pieces, so that no merge takes long and no token grows without end. */
static void test_long_words(void **state) {
    (void)state;
    enum { BIG = 1 << 20 };
    char *text = (char *)malloc(BIG);
    assert_non_null(text);
    for (int kind = 0; kind < 2; kind++) {
        uint32_t r = 5;
        for (size_t i = 0; i < BIG; i++) {
            r = r * 1664525u + 1013904223u;
            text[i] = kind ? (char)('a' + (r >> 24) % 26) : 'a';
        }
        const wk_str s = {text, BIG};
        const uint64_t begin = cpu_ms();
        wk_learned l = learn_ok(&s, 1, 600, "gpt-2");
        assert_true(cpu_ms() - begin < (uint64_t)10000 * SLOWER);
        for (int32_t i = 0; i < l.n_vocab; i++) assert_true(l.token[i].n <= 256);
        wk_learned_fini(&l);
    }
    free(text);
}

static bool stop_at(void *ud, uint64_t done, uint64_t total) {
    assert_int_equal(total, 400 - 259);
    return done < *(const uint64_t *)ud;
}

static void test_refusals(void **state) {
    (void)state;
    golden g = golden_open();
    wk_learned l;
    wk_err err = {0};
    uint64_t when = 30;
    assert_int_equal(wk_bpe_learn(&l, &g.text, 1, 258, "gpt-2", NULL, NULL, &err), WICK_E_ARG);
    assert_non_null(strstr(err.message, "258 tokens, wanted 259 to 65536"));
    assert_int_equal(wk_bpe_learn(&l, &g.text, 1, 65537, "gpt-2", NULL, NULL, &err), WICK_E_ARG);
    assert_int_equal(wk_bpe_learn(&l, &g.text, 1, 400, "gpt-22", NULL, NULL, &err), WICK_E_ARG);
    assert_non_null(strstr(err.message, "gpt-22"));
    assert_int_equal(wk_bpe_learn(&l, &g.text, 1, 400, "gpt-2", stop_at, &when, &err), WICK_E_CANCELED);
    assert_null(l.arena);
    wk_learned_fini(&l);
    l = learn_ok(&g.text, 1, 259, "gpt-2");
    assert_int_equal(l.n_merge, 0);
    wk_learned_fini(&l);
    golden_close(&g);
}

static void test_no_memory(void **state) {
    (void)state;
    golden g = golden_open();
    int rc = WICK_E_NOMEM;
    for (uint64_t n = 1; rc; n++) {
        wk_learned l;
        wk_err err = {0};
        wk_alloc_fail_at(n, false);
        rc = wk_bpe_learn(&l, &g.text, 1, 400, "gpt-2", NULL, NULL, &err);
        wk_alloc_fail_at(0, false);
        if (rc) assert_int_equal(rc, WICK_E_NOMEM);
        assert_true(n > 5 || rc);
        wk_learned_fini(&l);
    }
    golden_close(&g);
}

/* TRAINING 7 and T20 on foreign text, where it is there. */
static void test_stories(void **state) {
    (void)state;
    static const char path[] = "../shared/data/tinystories/sample_2M.txt";
    wk_map_file map;
    wk_err err = {0};
    if (wk_os_map(&map, path, &err)) {
        print_message("skipped: %s\n", err.message);
        skip();
    }
    const wk_str text = {(const char *)map.p, map.n};
    const uint64_t begin = cpu_ms();
    wk_learned l = learn_ok(&text, 1, 4096, GOLDEN_FAMILY);
    const uint64_t ms = cpu_ms() - begin;
    print_message("4096 tokens of 2 MiB in %llu ms\n", (unsigned long long)ms);
    assert_true(ms < (uint64_t)5000 * SLOWER);
    wk_learned_fini(&l);
    l = learn_ok(&text, 1, 2048, GOLDEN_FAMILY);
    wk_tok *t = tok_of(&l, GOLDEN_FAMILY);
    size_t n = 0;
    const wk_run run = {text, false};
    assert_int_equal(wk_tok_encode(t, &run, 1, 0, NULL, 0, &n), WICK_OK);
    print_message("2048 tokens: %.3f bytes a token\n", (double)text.n / (double)n);
    assert_true((double)text.n >= 3.65 * (double)n);
    check_round_trip(t, text);
    wk_tok_close(t);
    wk_learned_fini(&l);
    wk_os_unmap(&map);
}

static int write_golden(void) {
    golden g = golden_open();
    wk_buf json;
    wk_buf_init(&json, 0);
    wk_learned_json(&g.l, GOLDEN_FAMILY, &json);
    FILE *f = fopen(GOLDEN_JSON, "wb");
    const bool ok = f && fwrite(json.p, 1, json.n, f) == json.n && fclose(f) == 0;
    wk_buf_fini(&json);
    golden_close(&g);
    return ok ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--write") == 0) return write_golden();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_against_the_plainest),
        cmocka_unit_test(test_golden_json),
        cmocka_unit_test(test_golden_ids),
        cmocka_unit_test(test_order_of_documents),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_long_words),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_stories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

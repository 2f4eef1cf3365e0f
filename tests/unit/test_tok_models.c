/* test_tok_models.c: ids of random text equal those of the reference tokenizers, for real vocabularies.
 *
 * tests/golden/make_tok.py made one hash per string; the strings are made again here. The models come from
 * the environment (WICK_SMOLLM2, WICK_GEMMA3: paths of GGUF files); without any the test is skipped.
 * 2000 strings a model, all 10 000 with WICK_LONG=1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/tok.h"

enum {
    SKIPPED = 77,
    FRAGMENT_MAX = 64,
    FRAGMENTS_MAX = 512,
    TEXT_MAX = 200,
    IDS_MAX = 4 * TEXT_MAX + 8
};

typedef struct fragment {
    uint32_t cp[FRAGMENT_MAX];
    size_t n;
} fragment;

static fragment frag[FRAGMENTS_MAX];
static size_t n_frag;

/* ---- text -------------------------------------------------------------------------------------- */

static uint32_t escape(const char **p) {
    const char c = *(*p)++;
    if (c == 'n') return '\n';
    if (c == 'r') return '\r';
    if (c == 't') return '\t';
    if (c != 'u') return (uint8_t)c;
    char *end;
    const unsigned long cp = strtoul(*p + 1, &end, 16);
    *p = end + 1;
    return (uint32_t)cp;
}

static void read_fragments(void) {
    char line[1024];
    FILE *f = fopen("tests/golden/tok/fragments.txt", "rb");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        if (!line[0] || line[0] == '#') continue;
        assert_true(n_frag < FRAGMENTS_MAX);
        fragment *g = &frag[n_frag++];
        for (const char *p = line; *p;) {
            assert_true(g->n < FRAGMENT_MAX);
            const char c = *p++;
            g->cp[g->n++] = c == '\\' ? escape(&p) : (uint8_t)c;
        }
    }
    fclose(f);
    assert_true(n_frag > 0);
}

static uint32_t below(uint64_t *state, uint32_t n) {
    *state += 0x9E3779B97F4A7C15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ (z >> 31)) % n);
}

typedef struct text {
    char p[4 * TEXT_MAX];
    size_t n, n_cp, want;
} text;

static void put(text *t, uint32_t cp) {
    if (t->n_cp == t->want) return;
    const int k = wk_utf8_encode(t->p + t->n, cp);
    assert_true(k > 0);
    t->n += (size_t)k;
    t->n_cp++;
}

static void make_text(text *t, uint64_t index) {
    uint64_t r = (index + 1) * 0xD1342543DE82EF95u;
    *t = (text){.want = below(&r, 201)};
    while (t->n_cp < t->want) {
        const uint32_t kind = below(&r, 16);
        if (kind < 9) {
            const fragment *g = &frag[below(&r, (uint32_t)n_frag)];
            for (size_t i = 0; i < g->n; i++) put(t, g->cp[i]);
        } else if (kind < 11) {
            for (uint32_t n = 1 + below(&r, 6); n > 0; n--) put(t, 0x20 + below(&r, 0x5f));
        } else if (kind == 11) {
            put(t, 0x80 + below(&r, 0xd800 - 0x80));
        } else if (kind == 12) {
            put(t, 0xe000 + below(&r, 0x22000));
        } else if (kind == 13) {
            const uint32_t n = 1 + below(&r, 40);
            const char c = " \n\ta=-.e"[below(&r, 8)];
            for (uint32_t i = 0; i < n; i++) put(t, (uint8_t)c);
        } else if (kind == 14) {
            for (uint32_t n = 1 + below(&r, 8); n > 0; n--) put(t, 0x30 + below(&r, 10));
        } else {
            put(t, below(&r, 32));
        }
    }
}

/* ---- comparison -------------------------------------------------------------------------------- */

static uint64_t hash_ids(const int32_t *id, size_t n) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 4; k++) h = (h ^ (((uint32_t)id[i] >> 8 * k) & 0xffu)) * 0x100000001B3u;
    return h;
}

static void check_model(const char *path, const char *hashes) {
    wk_err err = {0};
    wk_store *s = NULL;
    wk_tok *tok = NULL;
    if (wk_store_open(&s, path, &err) || wk_tok_open(&tok, s, &err)) fail_msg("%s", err.message);
    wk_store_close(s);
    FILE *f = fopen(hashes, "rb");
    assert_non_null(f);
    const char *is_long = getenv("WICK_LONG");
    const uint64_t count = is_long && strcmp(is_long, "1") == 0 ? 10000 : 2000;
    static text t;
    int32_t id[IDS_MAX];
    for (uint64_t i = 0; i < count; i++) {
        unsigned long long want;
        size_t n = 0;
        assert_int_equal(fscanf(f, "%llx", &want), 1);
        make_text(&t, i);
        const bool trusted = i % 2 == 1;
        const wk_run run = {{t.p, t.n}, trusted};
        assert_int_equal(wk_tok_encode(tok, &run, 1, trusted ? WK_TOK_SPECIAL : 0, id, IDS_MAX, &n),
                         0);
        assert_true(n <= IDS_MAX);
        if (hash_ids(id, n) == want) continue;
        print_error("string %llu, %zu bytes: %s\n", (unsigned long long)i, t.n,
                    wk_show((wk_str){t.p, t.n}).text);
        for (size_t k = 0; k < n; k++) print_error(" %d", (int)id[k]);
        fail_msg("ids of string %llu differ from %s", (unsigned long long)i, hashes);
    }
    print_message("%s: %llu strings equal\n", wk_tok_family(tok), (unsigned long long)count);
    fclose(f);
    wk_tok_close(tok);
}

static void test_smollm2(void **state) {
    (void)state;
    const char *path = getenv("WICK_SMOLLM2");
    if (!path) skip();
    check_model(path, "tests/golden/tok/smollm2.hash");
}

static void test_gemma3(void **state) {
    (void)state;
    const char *path = getenv("WICK_GEMMA3");
    if (!path) skip();
    check_model(path, "tests/golden/tok/gemma3.hash");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_smollm2),
                                       cmocka_unit_test(test_gemma3)};
    if (!getenv("WICK_SMOLLM2") && !getenv("WICK_GEMMA3")) {
        print_message("skipped: neither WICK_SMOLLM2 nor WICK_GEMMA3 names a model file\n");
        return SKIPPED;
    }
    read_fragments();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

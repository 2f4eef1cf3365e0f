/* test_tok_vocabs.c: real vocabularies with texts and the ids that their own tokenizers give. WICK_VOCABS
 * names a folder of ggml-vocab-NAME.gguf, .gguf.inp (texts between lines of __ggml_vocab_test__) and
 * .gguf.out (a line of ids for each); without it the test is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/attr.h"
#include "engine/base/os.h"
#include "engine/text/tok.h"

enum { SKIPPED = 77, IDS = 4096 };
static const char *const names[] = {"gpt-2",  "llama-bpe", "llama-spm", "qwen2", "starcoder",
                                    "refact", "command-r", "phi-3",     "mpt"};
static const char separator[] = "\n__ggml_vocab_test__\n";

static void map_part(wk_map_file *m, const char *name, const char *part, char path[512]) {
    wk_err err = {0};
    assert_true(snprintf(path, 512, "%s/ggml-vocab-%s.gguf%s", getenv("WICK_VOCABS"), name, part) <
                512);
    if (wk_os_map(m, path, &err)) fail_msg("%s", err.message);
}

static size_t text_end(const char *p, size_t n) {
    const size_t m = sizeof(separator) - 1;
    for (size_t i = 0; i + m <= n; i++)
        if (memcmp(p + i, separator, m) == 0) return i;
    return n;
}

static void check_text(const wk_tok *t, wk_str text, const char *line, size_t n_line) {
    static int32_t id[IDS];
    static char got[12 * IDS];
    size_t n = 0, k = 0;
    const wk_run run = {text, false};
    assert_int_equal(wk_tok_encode(t, &run, 1, 0, id, IDS, &n), WICK_OK);
    assert_true(n <= IDS);
    for (size_t i = 0; i < n; i++)
        k += (size_t)snprintf(got + k, sizeof(got) - k, " %d", (int)id[i]);
    if (k == n_line && memcmp(got, line, k) == 0) return;
    fail_msg("\"%s\" gives%.200s, wanted%.*s", wk_show(text).text, got,
             (int)(n_line < 200 ? n_line : 200), line);
}

static void check_vocab(const char *name) {
    char path[512];
    wk_map_file in, out, model;
    wk_err err = {0};
    wk_store *s = NULL;
    wk_tok *t = NULL;
    map_part(&model, name, "", path);
    wk_os_unmap(&model);
    if (wk_store_open(&s, path, &err) || wk_tok_open(&t, s, &err)) fail_msg("%s", err.message);
    wk_store_close(s);
    map_part(&in, name, ".inp", path);
    map_part(&out, name, ".out", path);
    const char *p = (const char *)in.p, *q = (const char *)out.p;
    size_t n = in.n, n_out = out.n, count = 0;
    while (n_out > 0) {
        const char *eol = (const char *)memchr(q, '\n', n_out);
        const size_t n_line = eol ? (size_t)(eol - q) : n_out;
        const size_t n_text = text_end(p, n);
        size_t skip = n_text + sizeof(separator) - 1;
        check_text(t, (wk_str){p, n_text}, q, n_line);
        count++;
        if (skip > n) skip = n;
        p += skip;
        n -= skip;
        q += n_line + (eol ? 1 : 0);
        n_out -= n_line + (eol ? 1 : 0);
    }
    print_message("%s (%s): %zu texts equal\n", name, wk_tok_family(t), count);
    assert_true(count > 0);
    wk_os_unmap(&in);
    wk_os_unmap(&out);
    wk_tok_close(t);
}

static void test_vocabs(void **state) {
    (void)state;
    for (size_t i = 0; i < WK_COUNT(names); i++) check_vocab(names[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vocabs)};
    if (!getenv("WICK_VOCABS")) {
        print_message("skipped: WICK_VOCABS names no folder of vocabularies\n");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

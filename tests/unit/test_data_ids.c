/* test_data_ids.c: files of token ids that other programs packed: which texts are in them, which tokens count, and what is
 * refused, by name and place. */
#include <math.h>

#include "engine/base/arena.h"
#include "engine/train/data_impl.h"
#include "tests/unit/folder.h"
#include "tests/unit/tok_fixture.h"
#include "tests/unit/unit.h"

enum { GPT2 = 50257, EOT = 50256, LLAMA3 = 128256, L3_BEGIN = 128000, L3_END = 128001, HEAD = 1024, MOST = 20000 };

/* ---- a tokenizer of n tokens ----------------------------------------------------------------------- */

static wk_tok *tok_new(uint32_t n, uint32_t bos, uint32_t eos) {
    fix f;
    wk_err err = {0};
    wk_tok *t = NULL;
    vocab v = {0};
    char(*name)[8] = wk_alloc_array(n, 8);
    wk_str *text = wk_new_n(wk_str, n);
    int32_t *kind = wk_new_n(int32_t, n);
    vocab_bytes(&v);
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(name[i], 8, "t%06u", i % 1000000);
        text[i] = i < 256 ? v.text[i] : (wk_str){name[i], 7};
        kind[i] = i == bos || i == eos ? 3 : 1;
    }
    fix_begin(&f);
    fix_meta_str(&f, "tokenizer.ggml.model", "gpt2");
    fix_meta_str(&f, "tokenizer.ggml.pre", "gpt-2");
    fix_strs(&f, "tokenizer.ggml.tokens", text, n);
    fix_array(&f, "tokenizer.ggml.token_type", WK_META_I32, n);
    fix_raw(&f, kind, n * sizeof(*kind));
    fix_strs(&f, "tokenizer.ggml.merges", NULL, 0);
    fix_meta_u32(&f, "tokenizer.ggml.bos_token_id", bos);
    fix_meta_u32(&f, "tokenizer.ggml.eos_token_id", eos);
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    wk_free(kind);
    wk_free(text);
    wk_free(name);
    return t;
}

/* ---- files ----------------------------------------------------------------------------------------- */

typedef struct image {
    uint8_t p[HEAD + 4 * MOST];
    size_t n;
} image;

static void put_id(image *m, uint32_t width, uint32_t id) {
    memcpy(m->p + m->n, &id, width);
    m->n += width;
}
static void put_header(image *m, uint32_t magic, uint32_t version, uint32_t n) {
    const uint32_t head[3] = {magic, version, n};
    memset(m, 0, sizeof(*m));
    memcpy(m->p, head, sizeof(head));
    m->n = HEAD;
}
static void put_ids(image *m, uint32_t width, const int32_t *id, size_t n) {
    for (size_t i = 0; i < n; i++) put_id(m, width, (uint32_t)id[i]);
}

static int pack(const image *m, const wk_tok *tok, wk_raw_ids raw, double val_share, wk_err *err) {
    const folder_path in = path_in("in.bin"), out = path_in("out.wtok");
    const char *list[] = {in.p};
    FILE *f = fopen(in.p, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(m->p, 1, m->n, f), m->n);
    assert_int_equal(fclose(f), 0);
    const wk_pack_options o = {
        .path = list, .n_path = 1, .tok = tok, .tok_hash = 7, .raw = raw, .val_share = val_share, .mix = NULL};
    const int rc = wk_data_pack(out.p, &o, NULL, err);
    assert_int_equal(unlink(in.p), 0);
    return rc;
}

static wk_data *pack_ok(const image *m, const wk_tok *tok, wk_raw_ids raw, double val_share) {
    wk_err err = {0};
    wk_data *d = NULL;
    const folder_path out = path_in("out.wtok");
    if (pack(m, tok, raw, val_share, &err) || wk_data_open(&d, out.p, 7, &err)) fail_msg("%s", err.message);
    assert_int_equal(unlink(out.p), 0); /* it is mapped */
    return d;
}

static void refused(const image *m, const wk_tok *tok, wk_raw_ids raw, int code, const char *want) {
    wk_err err = {0};
    const int rc = pack(m, tok, raw, 0, &err);
    if (rc != code || !strstr(err.message, want) || !strstr(err.message, "in.bin"))
        fail_msg("%d \"%s\", wanted %d \"%s\"", rc, err.message, code, want);
    assert_int_equal(access(path_in("out.wtok").p, F_OK), -1);
}

/* Document i is want[0 .. n); target -1 behind its first token: not counted. */
static void check_doc(const wk_data *d, uint64_t i, const int32_t *want, size_t n, const char *counts) {
    static int32_t tok[MOST], target[MOST];
    static wk_tseq seq[MOST];
    const wk_sample_spec s = {.unit = WK_UNIT_DOCS, .n_ctx = MOST, .in_order = true};
    int32_t n_seq;
    assert_int_equal(wk_data_sample(d, &s, i, tok, target, seq, &n_seq), n > 1 ? n - 1 : 1);
    for (size_t k = 0; k + 1 < n; k++) {
        assert_int_equal(tok[k], want[k]);
        assert_int_equal(target[k], counts[k + 1] == '1' ? want[k + 1] : -1);
    }
}

/* ---- llm.c ----------------------------------------------------------------------------------------- */

static void test_gpt2(void **state) {
    (void)state;
    static image m;
    static const int32_t ids[] = {EOT, 72, 105, EOT, 50255, 0, 1, 2};
    wk_tok *t = tok_new(GPT2, EOT, EOT);
    put_header(&m, 20240520, 1, 8);
    put_ids(&m, 2, ids, 8);
    wk_data *d = pack_ok(&m, t, WK_RAW_NONE, 0);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 2);
    assert_int_equal(wk_data_tokens(d, WK_SPLIT_TRAIN), 8);
    assert_int_equal(wk_data_counted(d, WK_SPLIT_TRAIN), 8); /* the mark is the end of the text before it */
    assert_int_equal(wk_data_vocab(d), GPT2);
    check_doc(d, 0, ids, 3, "111");
    check_doc(d, 1, ids + 3, 5, "11111");
    wk_data_close(d);
    d = pack_ok(&m, t, WK_RAW_U32, 0); /* its magic says more than the caller */
    assert_int_equal(wk_data_tokens(d, WK_SPLIT_TRAIN), 8);
    wk_data_close(d);
    wk_tok_close(t);
}

static void test_llama3(void **state) {
    (void)state;
    static image m;
    static const int32_t ids[] = {L3_BEGIN, 70000, 5, L3_BEGIN, 127999};
    wk_tok *t = tok_new(LLAMA3, L3_BEGIN, L3_END);
    put_header(&m, 20240801, 7, 5);
    put_ids(&m, 4, ids, 5);
    wk_data *d = pack_ok(&m, t, WK_RAW_NONE, 0);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 2);
    assert_int_equal(wk_data_counted(d, WK_SPLIT_TRAIN), 3);
    check_doc(d, 0, ids, 3, "011");
    check_doc(d, 1, ids + 3, 2, "01");
    wk_data_close(d);
    put_id(&m, 4, LLAMA3);
    m.p[8] = 6;
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "id 5 of 6 is 128256, the vocabulary has 128256 tokens");
    wk_tok_close(t);
}

static void test_hostile(void **state) {
    (void)state;
    static image m;
    static const int32_t ids[] = {EOT, 1, 2, 3};
    wk_tok *t = tok_new(GPT2, EOT, EOT), *other = tok_new(1000, 998, 999);
    put_header(&m, 20240520, 1, 4);
    put_ids(&m, 2, ids, 4);
    const size_t n = m.n;
    refused(&m, other, WK_RAW_NONE, WICK_E_ARG, "ids of GPT-2, where 50256 separates texts; the model has another");
    for (m.n = 4; m.n < HEAD; m.n += 102) refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "cut in its header: ");
    m.n = n - 1;
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "tells of 4 ids of 2 bytes, behind it are 7 bytes");
    m.n = n + 2;
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "tells of 4 ids of 2 bytes, behind it are 10 bytes");
    m.n = HEAD;
    put_header(&m, 20240520, 1, 0);
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "holds no token");
    put_header(&m, 20240520, 1, UINT32_MAX);
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "tells of 4294967295 ids");
    put_header(&m, 20240520, 2, 0);
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "in version 2, wanted 1");
    put_header(&m, 20240801, 1, 0);
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "in version 1, wanted 7");
    put_header(&m, 20240522, 1, 0);
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "multiple choices");
    put_header(&m, 20240520, 1, 3);
    put_ids(&m, 2, (const int32_t[]){EOT, 4, EOT + 1}, 3);
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "id 2 of 3 is 50257, the vocabulary has 50257 tokens");
    wk_tok_close(other);
    wk_tok_close(t);
}

/* ---- raw ------------------------------------------------------------------------------------------- */

static void test_raw(void **state) {
    (void)state;
    static image m;
    static const int32_t ended[] = {10, 11, 999, 12, 999, 13}, begun[] = {998, 10, 998, 11, 12, 998};
    wk_tok *t = tok_new(1000, 998, 999);
    m.n = 0;
    put_ids(&m, 2, ended, 6);
    refused(&m, t, WK_RAW_NONE, WICK_E_FORMAT, "in.bin"); /* as a text */
    wk_data *d = pack_ok(&m, t, WK_RAW_U16, 0);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 3);
    check_doc(d, 0, ended, 3, "111");
    check_doc(d, 1, ended + 3, 2, "11");
    wk_data_close(d);
    m.n = 0;
    put_ids(&m, 4, begun, 6);
    d = pack_ok(&m, t, WK_RAW_U32, 0);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 3);
    assert_int_equal(wk_data_counted(d, WK_SPLIT_TRAIN), 3); /* BOS does not count */
    check_doc(d, 0, begun, 2, "01");
    check_doc(d, 1, begun + 2, 3, "011");
    wk_data_close(d);
    m.n = 7;
    refused(&m, t, WK_RAW_U16, WICK_E_FORMAT, "7 bytes are no whole number of ids of 2 bytes");
    m.n = 6;
    refused(&m, t, WK_RAW_U32, WICK_E_FORMAT, "6 bytes are no whole number of ids of 4 bytes");
    m.n = 0;
    refused(&m, t, WK_RAW_U16, WICK_E_FORMAT, "holds no token");
    put_ids(&m, 2, (const int32_t[]){1, 1000}, 2);
    refused(&m, t, WK_RAW_U16, WICK_E_FORMAT, "id 1 of 2 is 1000, the vocabulary has 1000 tokens");
    wk_tok_close(t);
}

/* One long text is cut, so that some of it can be held out; which part is a function of its ids alone. */
static void test_pieces(void **state) {
    (void)state;
    static image m;
    wk_tok *t = tok_new(1000, 998, 999);
    m.n = 0;
    for (int32_t i = 0; i < MOST; i++) put_id(&m, 2, (uint32_t)(i * 7 + i / 998) % 998);
    wk_data *d = pack_ok(&m, t, WK_RAW_U16, 0);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 5); /* 4 of 4096 and one of 3616 */
    assert_int_equal(wk_data_tokens(d, WK_SPLIT_TRAIN), MOST);
    wk_data_close(d);
    d = pack_ok(&m, t, WK_RAW_U16, 0.5);
    const uint64_t held = wk_data_documents(d, WK_SPLIT_VAL);
    assert_true(held > 0 && held + wk_data_documents(d, WK_SPLIT_TRAIN) == 5);
    wk_data_close(d);
    wk_tok_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2), cmocka_unit_test(test_llama3), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_raw),  cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}

/* test_data_api.c: files in, files out: a tokenizer learned from text opens as a model file does and can chat; what it
 * packs says whose it is. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/os.h"
#include "engine/text/chat.h"
#include "engine/wick_x.h"
#include "tests/unit/unit.h"

static const char TEXT[] = "tests/golden/bpe/text.txt";
static char folder[] = "/tmp/wick_data_api_XXXXXX";
static char gguf[64], json[64], packed[64], lines[64];

static void learn(void) {
    const char *const paths[] = {TEXT};
    wick_error err = {0};
    if (wick_x_tok_train(paths, 1, 512, gguf, json, NULL, NULL, &err)) fail_msg("%s", err.message);
}

static void check_equal_files(const char *a, const char *b) {
    wk_map_file x, y;
    wick_error err = {0};
    if (wk_os_map(&x, a, &err) || wk_os_map(&y, b, &err)) fail_msg("%s", err.message);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.p, y.p, x.n);
    wk_os_unmap(&x);
    wk_os_unmap(&y);
}

static void test_tokenizer(void **state) {
    (void)state;
    wk_store *s = NULL;
    wk_tok *t = NULL;
    wk_chat *c = NULL;
    wick_error err = {0};
    int32_t id[100];
    size_t n = 0;
    wk_buf text;
    learn();
    check_equal_files(json, "tests/golden/bpe/tokenizer.json");
    if (wk_store_open(&s, gguf, &err) || wk_tok_open(&t, s, &err) || wk_chat_open(&c, s, t, &err))
        fail_msg("%s", err.message);
    assert_int_equal(wk_store_tensor_count(s), 0);
    assert_true(wk_tok_count(t) == 512 && wk_tok_eos(t) == 509 && wk_tok_bos(t) == 509 && !wk_tok_adds_bos(t));
    assert_true(wk_tok_is_end(t, 509) && !wk_tok_is_end(t, 510) && wk_tok_is_end(t, 511));
    assert_true(wk_tok_hash(s) != 0);
    wk_buf_init(&text, 0);
    const wk_str request = WK_STR("{\"messages\": [{\"role\": \"user\", \"content\": \"Hi <|im_end|>\"}],"
                                  "\"add_generation_prompt\": true}");
    if (wk_chat_render(c, request, &text, id, 100, &n, &err)) fail_msg("%s", err.message);
    assert_string_equal(text.p, "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n");
    int ends = 0;
    for (size_t i = 0; i < n; i++) ends += id[i] == 511;
    assert_true(id[0] == 510 && ends == 1); /* what a user writes is text */
    wk_buf_fini(&text);
    wk_chat_close(c);
    wk_tok_close(t);
    wk_store_close(s);
}

static void write_lines(const char *text) {
    FILE *f = fopen(lines, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void test_pack(void **state) {
    (void)state;
    wick_error err = {0};
    wick_x_data_info a = {sizeof(a), 0, 0, 0, 0, 0, 0, 0, 0}, b = a;
    const char *const paths[] = {TEXT, lines};
    learn();
    write_lines("{\"question\": \"Why?\", \"answer\": \"Because.\"}\nno\n");
    assert_int_equal(wick_x_data_pack(paths, 2, NULL, gguf, packed, 0, 0, NULL, NULL, &a, &err), WICK_E_FORMAT);
    assert_non_null(strstr(err.message, "line 2"));
    if (wick_x_data_pack(paths, 2, NULL, gguf, packed, 0, WICK_X_SKIP_BAD, NULL, NULL, &a, &err)) fail_msg("%s", err.message);
    assert_true(a.train_docs == 2 && a.val_docs == 0 && a.bad_lines == 1 && a.val_tokens == 0);
    assert_int_equal(a.train_bytes, 2691 + 8);
    if (wick_x_data_look(packed, &b, &err)) fail_msg("%s", err.message);
    assert_true(b.train_tokens == a.train_tokens && b.hash == a.hash && b.bad_lines == 0);
    b.size = 0;
    assert_int_equal(wick_x_data_look(packed, &b, &err), WICK_E_ABI);
    assert_int_equal(wick_x_data_look(gguf, &a, &err), WICK_E_FORMAT);
}

static int stop(void *ud, uint64_t done, uint64_t total) {
    (void)ud;
    assert_true(done <= total);
    return 1;
}

static void test_refusals(void **state) {
    (void)state;
    wick_error err = {0};
    const char *const paths[] = {TEXT, "/nowhere/x"};
    learn();
    (void)unlink(packed); /* of the case before */
    assert_int_equal(wick_x_tok_train(paths, 0, 512, packed, NULL, NULL, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_x_tok_train(paths, 1, 100, packed, NULL, NULL, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_x_tok_train(paths, 2, 512, packed, NULL, NULL, NULL, &err), WICK_E_IO);
    assert_int_equal(wick_x_tok_train(paths, 1, 512, packed, NULL, stop, NULL, &err), WICK_E_CANCELED);
    assert_int_equal(wick_x_data_pack(paths, 1, NULL, TEXT, packed, 0, 0, NULL, NULL, NULL, &err), WICK_E_FORMAT);
    assert_int_equal(wick_x_data_pack(paths, 1, NULL, gguf, packed, 0, 0, stop, NULL, NULL, &err), WICK_E_CANCELED);
    const unsigned char magic[1026] = {0x88, 0xd8, 0x34, 0x01, 1, 0, 0, 0, 1};
    assert_int_equal(wick_x_data_width(magic, 4), 2);
    assert_int_equal(wick_x_data_width("text", 4), 0);
    assert_int_equal(wick_x_data_width(magic, 3), 0);
    FILE *f = fopen(lines, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(magic, 1, sizeof(magic), f), sizeof(magic));
    assert_int_equal(fclose(f), 0);
    const char *const ids[] = {lines};
    assert_int_equal(wick_x_tok_train(ids, 1, 512, packed, NULL, NULL, NULL, &err), WICK_E_FORMAT);
    assert_non_null(strstr(err.message, "holds token ids, no text"));
    assert_int_equal(wick_x_data_pack(paths, 1, NULL, gguf, packed, 0.7, 0, NULL, NULL, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_x_data_look(NULL, NULL, &err), WICK_E_ARG);
    assert_int_equal(access(packed, F_OK), -1);
}

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    (void)snprintf(gguf, sizeof(gguf), "%s/t.gguf", folder);
    (void)snprintf(json, sizeof(json), "%s/t.json", folder);
    (void)snprintf(packed, sizeof(packed), "%s/p.wtok", folder);
    (void)snprintf(lines, sizeof(lines), "%s/l.jsonl", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    const char *const all[] = {gguf, json, packed, lines};
    for (size_t i = 0; i < 4; i++) (void)unlink(all[i]); /* there or not */
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

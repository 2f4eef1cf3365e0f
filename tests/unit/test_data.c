/* test_data.c: text and jsonl -> packed tokens -> samples: which tokens, which of them count, what is held out; and
 * what is refused, by name and place. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/train/data_impl.h"
#include "tests/unit/byte_model.h"
#include "tests/unit/unit.h"

enum { IDS_MAX = 1 << 16 };

static const char CHATML[] =
    "{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}";
/* Earlier answers lose their text, as thoughts do in some templates. */
static const char FORGETS[] =
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\\n' }}"
    "{%- if m['role'] != 'assistant' or loop.last %}{{- m['content'] }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";
static const char NO_END[] = "{%- for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{%- endfor %}"
                             "{%- if add_generation_prompt %}{{ 'assistant: ' }}{%- endif %}";

static char folder[] = "/tmp/wick_data_XXXXXX";
static char path_in[64], path_out[64];

/* ---- files ------------------------------------------------------------------------------------- */

static void write_file(const char *path, wk_str text) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
    assert_int_equal(fclose(f), 0);
}

static int count_files(void) {
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

typedef struct how {
    double val_share;
    bool skip_bad, loss_on_all;
} how;

static int pack(const model *m, wk_str text, how h, uint64_t *n_bad, wk_err *err) {
    const char *path = path_in;
    write_file(path_in, text);
    const wk_pack_options o = {.path = &path,
                               .n_path = 1,
                               .tok = m->tok,
                               .chat = m->chat,
                               .tok_hash = wk_tok_hash(m->store),
                               .val_share = h.val_share,
                               .skip_bad = h.skip_bad,
                               .loss_on_all = h.loss_on_all};
    return wk_data_pack(path_out, &o, n_bad, err);
}

static wk_data *pack_ok(const model *m, wk_str text, how h) {
    wk_err err = {0};
    wk_data *d = NULL;
    if (pack(m, text, h, NULL, &err)) fail_msg("%s", err.message);
    if (wk_data_open(&d, path_out, wk_tok_hash(m->store), &err)) fail_msg("%s", err.message);
    return d;
}

/* A document as text: ids over 255 as # < [ ] for <s> </s> <|im_start|> <|im_end|>; not counted: '.' in the mask. */
static void show_doc(const wk_data *d, wk_split split, uint64_t i, char *text, char *mask) {
    static int32_t tok[IDS_MAX], target[IDS_MAX];
    static wk_tseq seq[IDS_MAX];
    const wk_sample_spec s = {.split = split, .unit = WK_UNIT_DOCS, .n_ctx = IDS_MAX, .in_order = true};
    int32_t n_seq;
    const int32_t n = wk_data_sample(d, &s, i, tok, target, seq, &n_seq);
    assert_int_equal(n_seq, 1);
    for (int32_t k = 0; k < n; k++) text[k] = tok[k] < 256 ? (char)tok[k] : "#<[]"[tok[k] - 256];
    mask[0] = '?';
    for (int32_t k = 0; k < n; k++) {
        const int32_t t = target[k];
        mask[k + 1] = t < 0 ? '.' : t < 256 ? (char)t : "#<[]"[t - 256];
    }
    text[n] = 0;
    mask[n + 1] = 0;
}

/* text lacks the last token, mask the first: what a sample gives. */
static void check_doc(const wk_data *d, uint64_t i, const char *want_text, const char *want_mask) {
    static char text[IDS_MAX + 2], mask[IDS_MAX + 2];
    show_doc(d, WK_SPLIT_TRAIN, i, text, mask);
    if (strcmp(text, want_text) != 0 || strcmp(mask + 1, want_mask) != 0)
        fail_msg("document %d is\n%s\n%s\nnot\n%s\n%s", (int)i, text, mask + 1, want_text, want_mask);
}

static void check_refused(const model *m, wk_str text, how h, int code, const char *want) {
    wk_err err = {0};
    (void)unlink(path_out); /* of the case before */
    const int rc = pack(m, text, h, NULL, &err);
    if (rc != code || err.code != code || !strstr(err.message, want))
        fail_msg("%d \"%s\", wanted %d \"%s\"", rc, err.message, code, want);
    assert_int_equal(access(path_out, F_OK), -1); /* nothing is left */
    assert_int_equal(count_files(), 1);
}
static const how plain;

/* ---- text -------------------------------------------------------------------------------------- */

static void test_separated(void **state) {
    (void)state;
    model *m = model_new(CHATML, false);
    wk_data *d = pack_ok(
        m, WK_STR("One.\n<|endoftext|>\nTwo\nlines.<|endoftext|>\r\nThree\r\n<|endoftext|>\n \n<|endoftext|>"), plain);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 3);
    assert_int_equal(wk_data_tokens(d, WK_SPLIT_TRAIN), 5 + 11 + 6);
    assert_int_equal(wk_data_counted(d, WK_SPLIT_TRAIN), 5 + 11 + 6);
    assert_int_equal(wk_data_bytes(d, WK_SPLIT_TRAIN), 4 + 10 + 5);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_VAL), 0);
    assert_int_equal(wk_data_vocab(d), USER_TAG + 1);
    check_doc(d, 0, "One.", "ne.<");
    check_doc(d, 1, "Two\nlines.", "wo\nlines.<");
    check_doc(d, 2, "Three", "hree<");
    wk_data_close(d);
    d = pack_ok(m, WK_STR("\xef\xbb\xbf<s>x</s>"), plain); /* BOM; no control token comes of text */
    check_doc(d, 0, "<s>x</s>", "s>x</s><");
    wk_data_close(d);
    d = pack_ok(m, WK_STR("x"), plain); /* one byte */
    check_doc(d, 0, "x", "<");
    wk_data_close(d);
    model_free(m);
    m = model_new(CHATML, true);
    d = pack_ok(m, WK_STR("a<|endoftext|>b"), plain);
    check_doc(d, 0, "#a", "a<"); /* BOS is no target */
    assert_int_equal(wk_data_counted(d, WK_SPLIT_TRAIN), 4);
    wk_data_close(d);
    model_free(m);
}

static void test_pieces(void **state) {
    (void)state;
    model *m = model_new(NULL, true);
    wk_buf b;
    wk_buf_init(&b, 0);
    for (int i = 0; b.n < 100000; i++) assert_true(wk_buf_addf(&b, "line %d%s\n", i, i % 5 ? "" : "\n\nTITLE:"));
    wk_data *d = pack_ok(m, wk_buf_str(&b), plain);
    const uint64_t n = wk_data_documents(d, WK_SPLIT_TRAIN);
    assert_true(n == 6);
    assert_int_equal(wk_data_tokens(d, WK_SPLIT_TRAIN), b.n + 2); /* one BOS, one EOS */
    const wk_sample_spec s = {.n_ctx = 1000, .in_order = true};
    int32_t tok[1000], target[1000], n_seq;
    wk_tseq seq[1000];
    for (uint64_t i = 0; i < wk_data_samples(d, &s); i++) {
        assert_int_equal(wk_data_sample(d, &s, i, tok, target, seq, &n_seq), 1000);
        for (uint64_t k = 0; k < 1000; k++) {
            const uint64_t at = 1000 * i + k; /* text[at - 1] */
            assert_int_equal(tok[k], at ? (uint8_t)b.p[at - 1] : BOS);
            assert_int_equal(target[k], at < b.n ? (uint8_t)b.p[at] : EOS);
        }
    }
    const wk_sample_spec docs = {.unit = WK_UNIT_DOCS, .n_ctx = 1, .in_order = true};
    for (uint64_t i = 1; i < n; i++) { /* each begins a line that is not blank */
        (void)wk_data_sample(d, &docs, i, tok, target, seq, &n_seq);
        assert_true(tok[0] == 'l' || tok[0] == 'T');
    }
    wk_data_close(d);
    wk_buf_reset(&b);
    for (int i = 0; i < 300000; i++) assert_true(wk_buf_adds(&b, i % 7 ? "\xc3\xa9" : "x")); /* no line, no word */
    d = pack_ok(m, wk_buf_str(&b), plain);
    assert_int_equal(wk_data_tokens(d, WK_SPLIT_TRAIN), b.n + 2);
    for (uint64_t i = 1; i < wk_data_documents(d, WK_SPLIT_TRAIN); i++) {
        (void)wk_data_sample(d, &docs, i, tok, target, seq, &n_seq);
        assert_true(tok[0] == 'x' || tok[0] == 0xc3); /* no character is cut */
    }
    wk_data_close(d);
    wk_buf_fini(&b);
    model_free(m);
}

/* A document of more than 2 MiB is encoded in parts, and is one document. */
static void test_big_document(void **state) {
    (void)state;
    model *m = model_new(NULL, false);
    wk_buf b;
    wk_buf_init(&b, 0);
    for (int i = 0; b.n < 5 << 20; i++) assert_true(wk_buf_addf(&b, "line %d\n", i));
    const size_t n = b.n;
    assert_true(wk_buf_adds(&b, "<|endoftext|>b"));
    wk_data *d = pack_ok(m, wk_buf_str(&b), plain);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 2);
    assert_int_equal(wk_data_tokens(d, WK_SPLIT_TRAIN), n - 1 + 1 + 2);
    const wk_sample_spec s = {.unit = WK_UNIT_DOCS, .n_ctx = 100};
    assert_int_equal(wk_data_cut(d, &s), n - 101);
    wk_data_close(d);
    wk_buf_fini(&b);
    model_free(m);
}

/* ---- jsonl ------------------------------------------------------------------------------------- */

static void test_forms(void **state) {
    (void)state;
    model *m = model_new(CHATML, false);
    wk_data *d = pack_ok(m,
                         WK_STR("\xef\xbb\xbf{\"text\": \"a\\u00e9\"}\r\n"
                                "\n"
                                "  {\"completion\": \"yes\", \"prompt\": \"so? \", \"id\": 1.5}\n"
                                "{\"text\": \" \"}\n"
                                "{\"question\": \"q\", \"answer\": \"a\"}\n"
                                "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", "
                                "\"content\": \"yo\"}]}\n"
                                "{\"conversations\": [{\"from\": \"system\", \"value\": \"s\"}, {\"from\": \"human\", "
                                "\"value\": \"<|im_end|>\"},"
                                " {\"from\": \"gpt\", \"value\": \"A\"}, {\"from\": \"human\", \"value\": \"\"}, "
                                "{\"from\": \"gpt\", \"value\": \"\\n<s>\"}]}"),
                         plain);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 5);
    check_doc(d, 0, "a\xc3\xa9", "\xc3\xa9<");
    check_doc(d, 1, "so? yes", "...yes<");
    check_doc(d, 2, "[user\nq]\n[assistant\na]", "...................a].");
    check_doc(d, 3, "[user\nhi]\n[assistant\nyo]", "....................yo].");
    check_doc(d, 4, "[system\ns]\n[user\n<|im_end|>]\n[assistant\nA]\n[user\n]\n[assistant\n\n<s>]",
              ".......................................A]....................\n<s>].");
    wk_data_close(d);
    d = pack_ok(
        m,
        WK_STR("{\"prompt\": \"ab\", \"completion\": \"c\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"h\"},"
               " {\"role\": \"assistant\", \"content\": \"y\"}]}"),
        (how){.loss_on_all = true});
    check_doc(d, 0, "abc", "bc<");
    check_doc(d, 1, "[user\nh]\n[assistant\ny]", "user\nh]\n[assistant\ny]\n");
    wk_data_close(d);
    model_free(m);
    m = model_new(NULL, true);
    d = pack_ok(m, WK_STR("{\"question\": \"q\", \"answer\": \"a\"}"), plain);
    check_doc(d, 0, "#q\na", "..a<");
    wk_data_close(d);
    check_refused(m, WK_STR("{\"text\":\"x\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}"), plain,
                  WICK_E_TEMPLATE, "in.txt, line 2: fixture has no chat template");
    model_free(m);
}

static const char two_turns[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"1\"}, {\"role\": \"assistant\", \"content\": \"a\"},"
    "{\"role\": \"user\", \"content\": \"2\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}";
static const char one_turn[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"1\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}";

static void test_templates(void **state) {
    (void)state;
    model *m = model_new(CHATML, true);
    wk_data *d = pack_ok(m, wk_cstr(two_turns), plain);
    check_doc(d, 0, "#[user\n1]\n[assistant\na]\n[user\n2]\n[assistant\nb]",
              "....................a].....................b].");
    wk_data_close(d);
    model_free(m);
    m = model_new(FORGETS, false); /* one document an answer */
    d = pack_ok(m, wk_cstr(two_turns), plain);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 2);
    check_doc(d, 0, "[user\n1]\n[assistant\na]", "...................a].");
    check_doc(d, 1, "[user\n1]\n[assistant\n]\n[user\n2]\n[assistant\nb]",
              ".........................................b].");
    wk_data_close(d);
    model_free(m);
    m = model_new(NO_END, false); /* an answer gets an end of ours, so each must be the last */
    d = pack_ok(m, wk_cstr(one_turn), plain);
    check_doc(d, 0, "user: 1\nassistant: a\n", "..................a\n<");
    wk_data_close(d);
    d = pack_ok(m, wk_cstr(two_turns), plain);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 2);
    check_doc(d, 1, "user: 1\nassistant: a\nuser: 2\nassistant: b\n", ".......................................b\n<");
    wk_data_close(d);
    model_free(m);
}

/* ---- refusals: T21 ------------------------------------------------------------------------------ */

static void test_hostile(void **state) {
    (void)state;
    model *m = model_new(CHATML, false);
    check_refused(m, WK_STR(""), plain, WICK_E_FORMAT, "in.txt is empty");
    check_refused(m, WK_STR("\xef\xbb\xbf"), plain, WICK_E_FORMAT, "in.txt is empty");
    check_refused(m, WK_STR(" \n\t\n"), plain, WICK_E_FORMAT, "in.txt holds nothing but blanks");
    check_refused(m, WK_STR("<|endoftext|>"), plain, WICK_E_ARG, "no document in 1 files");
    check_refused(m, WK_STR("a\nb\xff"), plain, WICK_E_FORMAT, "in.txt, line 2: byte 0xff is not UTF-8");
    check_refused(m, WK_STR("a\n\xed\xa0\x80"), plain, WICK_E_FORMAT, "line 2: byte 0xed");
    check_refused(m, WK_STR("x<|endoftext|>\n\0y"), plain, WICK_E_FORMAT, "line 2: byte 0x00");
    check_refused(m, WK_STR("{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n"), plain, WICK_E_FORMAT,
                  "in.txt, line 2: JSON is wrong");
    check_refused(m, WK_STR("\n\n{\"text\": \"a\""), plain, WICK_E_FORMAT, "in.txt, line 3: JSON is wrong");
    check_refused(m, WK_STR("{\"text\": \"a\"} x\n"), plain, WICK_E_FORMAT, "line 1");
    check_refused(m, WK_STR("{\"text\": \"a\"}\n[1]\n"), plain, WICK_E_FORMAT, "line 2: the line is no JSON object");
    check_refused(m, WK_STR("{\"txt\": \"a\"}"), plain, WICK_E_FORMAT, "line 1: the object has neither text, prompt");
    check_refused(m, WK_STR("{\"text\": 1}"), plain, WICK_E_FORMAT, "line 1: \"text\" is no string");
    check_refused(m, WK_STR("{\"prompt\": [], \"completion\": \"\"}"), plain, WICK_E_FORMAT, "\"prompt\" is no string");
    check_refused(m, WK_STR("{\"messages\": []}"), plain, WICK_E_FORMAT, "\"messages\" is no list of messages");
    check_refused(m, WK_STR("{\"messages\": [1]}"), plain, WICK_E_FORMAT, "line 1: none of the 1 messages");
    check_refused(m, WK_STR("{\"messages\": [1, {\"role\": \"assistant\", \"content\": \"a\"}]}"), plain, WICK_E_FORMAT,
                  "line 1: ");
    check_refused(m, WK_STR("{\"conversations\": [{\"from\": \"nobody\", \"value\": \"a\"}]}"), plain, WICK_E_FORMAT,
                  "from \"nobody\"");
    check_refused(m, WK_STR("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"), plain, WICK_E_FORMAT,
                  "none of the 1 messages is the assistant's");
    check_refused(m, WK_STR("[\n{\"text\": \"a\"}]"), plain, WICK_E_FORMAT, "in.txt is one JSON list");
    check_refused(m, WK_STR("a"), (how){.val_share = 0.6}, WICK_E_ARG, "0.6");
    check_refused(m, WK_STR("a"), (how){.val_share = (double)NAN}, WICK_E_ARG, "nan");
    model_free(m);
}

/* A gigabyte without a line break, most of it a hole. */
static void test_long_line(void **state) {
    (void)state;
    model *m = model_new(NULL, false);
    wk_err err = {0};
    const char *path = path_in;
    const wk_pack_options o = {.path = &path, .n_path = 1, .tok = m->tok};
    write_file(path_in, WK_STR("{\"text\": \""));
    assert_int_equal(truncate(path_in, 1 << 30), 0);
    assert_int_equal(wk_data_pack(path_out, &o, NULL, &err), WICK_E_FORMAT);
    assert_non_null(strstr(err.message, "in.txt, line 1: the line has more than 16 MiB"));
    const size_t n = (size_t)20 << 20;
    char *text = (char *)malloc(n);
    assert_non_null(text);
    memset(text, 'a', n);
    memcpy(text, "{\"text\": \"", 10);
    memcpy(text + n - 15, "\n{\"text\": \"b\"}\n", 15);
    uint64_t n_bad = 0;
    if (pack(m, (wk_str){text, n}, (how){.skip_bad = true}, &n_bad, &err)) fail_msg("%s", err.message);
    assert_int_equal(n_bad, 1);
    wk_data *d = NULL;
    if (wk_data_open(&d, path_out, 0, &err)) fail_msg("%s", err.message);
    check_doc(d, 0, "b", "<");
    wk_data_close(d);
    free(text);
    model_free(m);
}

static void test_skip_bad(void **state) {
    (void)state;
    model *m = model_new(NULL, false);
    uint64_t n_bad = 0;
    wk_err err = {0};
    wk_data *d = NULL;
    const how h = {.skip_bad = true};
    if (pack(m, WK_STR("{\"text\": \"a\"}\n{\n{\"messages\": [{\"role\": \"assistant\"}]}\n{}\n{\"text\": \"b\"}"), h,
             &n_bad, &err))
        fail_msg("%s", err.message);
    assert_int_equal(n_bad, 3);
    if (wk_data_open(&d, path_out, 0, &err)) fail_msg("%s", err.message);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 2);
    check_doc(d, 1, "b", "<");
    wk_data_close(d);
    check_refused(m, WK_STR("{}\n{}\n"), h, WICK_E_ARG, "no document in 1 files, 2 lines were left out, the first: ");
    if (pack(m, WK_STR("a<|endoftext|>\xff<|endoftext|>b"), h, &n_bad, &err)) fail_msg("%s", err.message);
    assert_int_equal(n_bad, 1);
    model_free(m);
}

static bool stop(void *ud, uint64_t done, uint64_t total) {
    assert_true(done <= total && total == 6);
    return --*(int *)ud > 0;
}

static void test_files(void **state) {
    (void)state;
    model *m = model_new(NULL, false);
    wk_err err = {0};
    wk_data *d = NULL;
    char second[64];
    (void)snprintf(second, sizeof(second), "%s/second", folder);
    write_file(path_in, WK_STR("abc"));
    write_file(second, WK_STR("def"));
    const char *const paths[] = {path_in, second, "/nowhere/x"};
    int calls = 2;
    wk_pack_options o = {.path = paths, .n_path = 3, .tok = m->tok, .progress = stop, .ud = &calls};
    (void)unlink(path_out); /* of the case before */
    assert_int_equal(wk_data_pack(path_out, &o, NULL, &err), WICK_E_IO);
    assert_non_null(strstr(err.message, "/nowhere/x"));
    o.n_path = 2;
    assert_int_equal(wk_data_pack(path_out, &o, NULL, &err), WICK_E_CANCELED);
    assert_int_equal(access(path_out, F_OK), -1);
    calls = 3;
    if (wk_data_pack(path_out, &o, NULL, &err)) fail_msg("%s", err.message);
    if (wk_data_open(&d, path_out, 0, &err)) fail_msg("%s", err.message);
    assert_int_equal(wk_data_documents(d, WK_SPLIT_TRAIN), 2);
    wk_data_close(d);
    o.n_path = 0;
    assert_int_equal(wk_data_pack(path_out, &o, NULL, &err), WICK_E_ARG);
    assert_int_equal(unlink(second), 0);
    model_free(m);
}

/* ---- what is held out ---------------------------------------------------------------------------- */

static void test_split(void **state) {
    (void)state;
    model *m = model_new(NULL, false);
    wk_buf b;
    wk_buf_init(&b, 0);
    static char text[IDS_MAX + 2], mask[IDS_MAX + 2], first[200][32];
    for (int i = 0; i < 2000; i++) assert_true(wk_buf_addf(&b, "{\"text\": \"document %d\"}\n", i));
    const how h = {.val_share = 0.05};
    wk_data *d = pack_ok(m, wk_buf_str(&b), h);
    const uint64_t n = wk_data_documents(d, WK_SPLIT_VAL), hash = wk_data_hash(d);
    assert_true(n > 60 && n < 140 && wk_data_documents(d, WK_SPLIT_TRAIN) == 2000 - n);
    assert_int_equal(wk_data_tokens(d, WK_SPLIT_VAL) + wk_data_tokens(d, WK_SPLIT_TRAIN),
                     2000 * 10 + 10 + 90 * 2 + 900 * 3 + 1000 * 4);
    for (uint64_t i = 0; i < n; i++) {
        show_doc(d, WK_SPLIT_VAL, i, text, mask);
        (void)snprintf(first[i], sizeof(first[i]), "%.30s", text);
    }
    wk_data_close(d);
    for (int i = 2000; i < 3000; i++) assert_true(wk_buf_addf(&b, "{\"text\": \"document %d\"}\n", i));
    d = pack_ok(m, wk_buf_str(&b), h); /* more data: who was held out still is, and nobody else of the old ones */
    assert_true(wk_data_documents(d, WK_SPLIT_VAL) > n && wk_data_hash(d) != hash);
    for (uint64_t i = 0; i < wk_data_documents(d, WK_SPLIT_VAL); i++) {
        show_doc(d, WK_SPLIT_VAL, i, text, mask);
        if (i < n) assert_string_equal(text, first[i]);
        if (i >= n) assert_true(strtol(text + 9, NULL, 10) >= 2000);
    }
    wk_data_close(d);
    wk_buf_fini(&b);
    model_free(m);
}

/* ---- samples ------------------------------------------------------------------------------------- */

static void test_rows(void **state) {
    (void)state;
    model *m = model_new(NULL, false);
    wk_data *d = pack_ok(m, WK_STR("abcd<|endoftext|>e<|endoftext|>fghijkl"), plain); /* abcd<e<fghijkl< */
    int32_t tok[8], target[8], n_seq;
    wk_tseq seq[8];
    wk_sample_spec s = {.n_ctx = 6, .in_order = true};
    assert_int_equal(wk_data_samples(d, &s), 2);
    assert_int_equal(wk_data_cut(d, &s), 2);
    assert_int_equal(wk_data_sample(d, &s, 0, tok, target, seq, &n_seq), 6);
    assert_memory_equal(tok, ((const int32_t[]){'a', 'b', 'c', 'd', EOS, 'e'}), sizeof(int32_t[6]));
    assert_memory_equal(target, ((const int32_t[]){'b', 'c', 'd', EOS, 'e', EOS}), sizeof(int32_t[6]));
    assert_true(n_seq == 1 && seq[0].first == 0 && seq[0].n_tok == 6);
    s.doc_mask = true;
    assert_int_equal(wk_data_sample(d, &s, 2, tok, target, seq, &n_seq), 6); /* the next epoch */
    assert_memory_equal(target, ((const int32_t[]){'b', 'c', 'd', EOS, -1, EOS}), sizeof(int32_t[6]));
    assert_int_equal(n_seq, 2);
    assert_true(seq[0].first == 0 && seq[0].n_tok == 5 && seq[1].first == 5 && seq[1].n_tok == 1);
    assert_int_equal(wk_data_sample(d, &s, 1, tok, target, seq, &n_seq), 6);
    assert_memory_equal(tok, ((const int32_t[]){EOS, 'f', 'g', 'h', 'i', 'j'}), sizeof(int32_t[6]));
    assert_memory_equal(target, ((const int32_t[]){-1, 'g', 'h', 'i', 'j', 'k'}), sizeof(int32_t[6]));
    assert_true(n_seq == 2 && seq[0].n_tok == 1 && seq[1].first == 1 && seq[1].n_tok == 5);
    s.n_ctx = 5; /* a document ends with the row */
    assert_int_equal(wk_data_sample(d, &s, 0, tok, target, seq, &n_seq), 5);
    assert_true(target[4] == -1 && n_seq == 1 && seq[0].n_tok == 5);
    s.n_ctx = 14;
    assert_int_equal(wk_data_samples(d, &s), 1);
    assert_int_equal(wk_data_cut(d, &s), 0);
    s.n_ctx = 15;
    assert_int_equal(wk_data_samples(d, &s), 0);
    assert_int_equal(wk_data_cut(d, &s), 15);
    assert_int_equal(wk_data_sample(d, &s, 0, tok, target, seq, &n_seq), 0);
    s.split = WK_SPLIT_VAL;
    assert_int_equal(wk_data_samples(d, &s), 0);
    wk_data_close(d);
    model_free(m);
}

static void test_documents(void **state) {
    (void)state;
    model *m = model_new(NULL, false);
    wk_data *d = pack_ok(m, WK_STR("abcd<|endoftext|>e<|endoftext|>fghijkl"), plain);
    int32_t tok[4], target[4], n_seq;
    wk_tseq seq[4];
    wk_sample_spec s = {.unit = WK_UNIT_DOCS, .n_ctx = 4, .seed = 3};
    assert_int_equal(wk_data_samples(d, &s), 3);
    assert_int_equal(wk_data_cut(d, &s), 3);
    int seen[3] = {0}, order[2][3];
    for (uint64_t i = 0; i < 6; i++) { /* two epochs, each document once */
        const int32_t n = wk_data_sample(d, &s, i, tok, target, seq, &n_seq);
        const int which = tok[0] == 'a' ? 0 : tok[0] == 'e' ? 1 : 2;
        assert_int_equal(n, which == 1 ? 1 : 4);
        assert_int_equal(target[n - 1], which == 2 ? 'j' : EOS);
        assert_true(n_seq == 1 && seq[0].first == 0 && seq[0].n_tok == n);
        seen[which]++;
        order[i / 3][i % 3] = which;
    }
    assert_true(seen[0] == 2 && seen[1] == 2 && seen[2] == 2);
    bool differs = false;
    for (s.seed = 0; s.seed < 20; s.seed++)
        for (uint64_t i = 0; i < 3; i++) {
            (void)wk_data_sample(d, &s, i, tok, target, seq, &n_seq);
            differs = differs || (tok[0] == 'a' ? 0 : tok[0] == 'e' ? 1 : 2) != order[0][i];
        }
    assert_true(differs);
    wk_data_close(d);
    model_free(m);
}

/* More tokens than 16 bits hold. */
static void test_wide(void **state) {
    (void)state;
    enum { N = 65540 };
    fix f;
    wk_tok *t;
    wk_err err = {0};
    static char text[N][8];
    static wk_str token[N];
    static vocab v;
    vocab_bytes(&v);
    for (int i = 0; i < N; i++) {
        (void)snprintf(text[i], sizeof(text[i]), "t%d", i);
        token[i] = i < 256 ? v.text[i] : wk_cstr(text[i]);
    }
    fix_begin(&f);
    fix_meta_str(&f, "tokenizer.ggml.model", "gpt2");
    fix_meta_str(&f, "tokenizer.ggml.pre", "gpt-2");
    fix_strs(&f, "tokenizer.ggml.tokens", token, N);
    fix_strs(&f, "tokenizer.ggml.merges", NULL, 0);
    fix_meta_u32(&f, "tokenizer.ggml.eos_token_id", N - 1);
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    const char *path = path_in;
    const wk_pack_options o = {.path = &path, .n_path = 1, .tok = t, .tok_hash = 7};
    write_file(path_in, WK_STR("ab<|endoftext|>c"));
    if (wk_data_pack(path_out, &o, NULL, &err)) fail_msg("%s", err.message);
    wk_data *d = NULL;
    assert_int_equal(wk_data_open(&d, path_out, 8, &err), WICK_E_ARG);
    assert_non_null(strstr(err.message, "0000000000000007"));
    assert_non_null(strstr(err.message, "0000000000000008"));
    assert_null(d);
    if (wk_data_open(&d, path_out, 7, &err)) fail_msg("%s", err.message);
    int32_t tok[4], target[4], n_seq;
    wk_tseq seq[4];
    const wk_sample_spec s = {.n_ctx = 4, .in_order = true};
    assert_int_equal(wk_data_sample(d, &s, 0, tok, target, seq, &n_seq), 4);
    assert_memory_equal(target, ((const int32_t[]){'b', N - 1, 'c', N - 1}), sizeof(target));
    wk_data_close(d);
    wk_tok_close(t);
}

/* ---- damaged files ------------------------------------------------------------------------------- */

/* A file whose hash is right whatever else it says. */
static void rehash(uint8_t *p, size_t n) {
    const wk_hash h = wk_wtok_hash(p, n);
    memcpy(p + n - 16, &h.lo, 8);
    memcpy(p + n - 8, &h.hi, 8);
}

static void check_lie(const uint8_t *good, size_t n, size_t at, uint64_t value, size_t width, const char *want) {
    uint8_t *p = (uint8_t *)malloc(n);
    wk_err err = {0};
    wk_data *d = NULL;
    assert_non_null(p);
    memcpy(p, good, n);
    memcpy(p + at, &value, width);
    rehash(p, n);
    const int rc = wk_data_open_memory(&d, p, n, "f", 0, &err);
    if (rc != WICK_E_FORMAT || !strstr(err.message, want))
        fail_msg("%zu: %d \"%s\", not \"%s\"", at, rc, err.message, want);
    free(p);
}

static void test_damaged(void **state) {
    (void)state;
    model *m = model_new(NULL, false);
    wk_map_file map;
    wk_err err = {0};
    wk_data *d = pack_ok(m, WK_STR("abcd<|endoftext|>e<|endoftext|>fghijkl"), plain);
    wk_data_close(d);
    if (wk_os_map(&map, path_out, &err)) fail_msg("%s", err.message);
    const size_t n = map.n;
    uint8_t *p = (uint8_t *)malloc(n);
    assert_non_null(p);
    for (size_t cut = 0; cut < n; cut++) {
        memcpy(p, map.p, cut);
        assert_int_equal(wk_data_open_memory(&d, p, cut, "f", 0, &err), WICK_E_FORMAT);
        assert_null(d);
    }
    for (size_t i = 0; i < n; i++) { /* one bit anywhere */
        memcpy(p, map.p, n);
        p[i] = (uint8_t)(p[i] ^ 1u << (i % 8));
        assert_int_equal(wk_data_open_memory(&d, p, n, "f", 0, &err), WICK_E_FORMAT);
    }
    wk_wtok_layout l;
    assert_true(wk_wtok_layout_of(&l, 15, 3, 2, 0) && l.size == n);
    check_lie(map.p, n, 8, 3, 4, "3 bytes an id");
    check_lie(map.p, n, l.foot + 8, UINT64_MAX, 8, "do not make");
    check_lie(map.p, n, l.foot + 8, (uint64_t)1 << 63, 8, "do not make");
    check_lie(map.p, n, l.foot + 8, 14, 8, "document 2 ends at token 15 of 14"); /* padding: the same size */
    check_lie(map.p, n, l.foot + 16, UINT64_MAX / 8, 8, "do not make");
    check_lie(map.p, n, l.foot + 24, 100, 8, "the largest 257, of a vocabulary of 100");
    check_lie(map.p, n, l.foot + 24, (uint64_t)1 << 31, 8, "of a vocabulary of 2147483648");
    check_lie(map.p, n, WK_WTOK_HEAD, 65535, 2, "the largest 65535");
    check_lie(map.p, n, l.end, 0, 8, "document 0 ends at token 0");
    check_lie(map.p, n, l.end + 8, 5, 8, "document 1 ends at token 5");
    check_lie(map.p, n, l.end + 8, 16, 8, "document 1 ends at token 16");
    check_lie(map.p, n, l.end + 16, 14, 8, "its documents have 14");
    check_lie(map.p, n, l.bytes, UINT64_MAX, 8, "document 1");
    free(p);
    wk_os_unmap(&map);
    write_file(path_out,
               WK_STR("GGUF and something that is longer than a frame of a file of packed tokens would have to be"));
    assert_int_equal(wk_data_open(&d, path_out, 0, &err), WICK_E_FORMAT);
    assert_non_null(strstr(err.message, "is no packed file of tokens"));
    model_free(m);
}

static void test_failures(void **state) {
    (void)state;
    model *m = model_new(CHATML, false);
    const wk_str text = WK_STR("{\"text\": \"abc\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, "
                               "{\"role\": \"assistant\", \"content\": \"yo\"}]}");
    int rc = WICK_E_NOMEM;
    wk_err err = {0};
    (void)unlink(path_out); /* of the case before */
    for (uint64_t n = 1; rc; n++) {
        wk_alloc_fail_at(n, false);
        rc = pack(m, text, plain, NULL, &err);
        wk_alloc_fail_at(0, false);
        const bool late =
            rc == WICK_E_IO && strstr(err.message, "cannot sync its folder"); /* it stands there already */
        if (rc && rc != WICK_E_NOMEM && !late)
            fail_msg("allocation %llu: %d %s", (unsigned long long)n, rc, err.message);
        assert_int_equal(count_files(), rc && !late ? 1 : 2);
        if (late) (void)unlink(path_out); /* it is there: counted */
        assert_true(n > 5 || rc);
    }
    (void)unlink(path_out); /* again */
    rc = WICK_E_IO;
    for (uint32_t n = 1; rc; n++) {
        wk_os_fail_at(n, ENOSPC);
        rc = pack(m, text, plain, NULL, &err);
        wk_os_fail_at(0, 0);
        if (rc && rc != WICK_E_IO) fail_msg("call %u: %d %s", n, rc, err.message);
        assert_int_equal(count_files(), rc ? 1 : 2);
    }
    wk_data *d = NULL;
    rc = WICK_E_NOMEM;
    for (uint64_t n = 1; rc; n++) {
        wk_alloc_fail_at(n, false);
        rc = wk_data_open(&d, path_out, 0, &err);
        wk_alloc_fail_at(0, false);
        if (rc) assert_true(rc == WICK_E_NOMEM && !d);
    }
    wk_data_close(d);
    model_free(m);
}

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    (void)snprintf(path_in, sizeof(path_in), "%s/in.txt", folder);
    (void)snprintf(path_out, sizeof(path_out), "%s/out.wtok", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    (void)unlink(path_in); /* there or not */
    (void)unlink(path_out);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_separated), cmocka_unit_test(test_pieces),    cmocka_unit_test(test_big_document),
        cmocka_unit_test(test_forms),     cmocka_unit_test(test_templates), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_long_line), cmocka_unit_test(test_skip_bad),  cmocka_unit_test(test_files),
        cmocka_unit_test(test_split),     cmocka_unit_test(test_rows),      cmocka_unit_test(test_documents),
        cmocka_unit_test(test_wide),      cmocka_unit_test(test_damaged),   cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* test_api.c: the library and the model through wick.h: versions, setup, arguments, sizes of structs, buffers, files,
 * engines that do not fit, order of closing. Requests: test_api_request.c. */
#include "tests/api/api.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- memory and log of this process -------------------------------------------------------------- */

static atomic_long n_alloc, n_log;
static char log_line[512];

static void *counted_alloc(void *ud, size_t n) {
    (void)ud;
    atomic_fetch_add(&n_alloc, 1);
    return malloc(n);
}
static void counted_free(void *ud, void *p) {
    (void)ud;
    atomic_fetch_sub(&n_alloc, 1);
    free(p);
}
static void take_log(void *ud, int level, const char *text, size_t len) {
    (void)ud;
    assert_true(level >= WICK_LOG_ERROR && level <= WICK_LOG_DEBUG);
    assert_null(memchr(text, '\n', len));
    (void)snprintf(log_line, sizeof(log_line), "%.*s", (int)len, text);
    atomic_fetch_add(&n_log, 1);
}

static int set_up(void **state) {
    (void)state;
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    o.log = take_log;
    o.min_level = WICK_LOG_DEBUG;
    o.alloc = counted_alloc;
    o.dealloc = counted_free;
    return wick_setup(&o, NULL);
}
static int tear_down(void **state) {
    (void)state;
    const long left = atomic_load(&n_alloc);
    if (left) print_error("%ld blocks were never freed\n", left);
    return left != 0;
}

/* ---- library ------------------------------------------------------------------------------------- */

static void test_version_and_texts(void **s) {
    (void)s;
    assert_int_equal(wick_version_number() / 1000000, WICK_VERSION_MAJOR);
    assert_int_equal(wick_version_number() % 1000000, WICK_VERSION_MINOR * 1000 + WICK_VERSION_PATCH);
#define X(name, value, exit_code, text)                                                                                \
    assert_int_equal(WICK_##name, value);                                                                              \
    assert_string_equal(wick_strerror(WICK_##name), text);
    WICK_STATUS_MAP(X)
#undef X
    assert_non_null(wick_strerror(1));
    assert_non_null(wick_strerror(-1000));
    assert_non_null(wick_strerror(INT32_MIN));
}

static void *never(void *ud, size_t n) {
    (void)ud, (void)n;
    return NULL;
}

static void test_setup_refuses(void **s) {
    (void)s;
    wick_error err = {0};
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    o.alloc = never;
    assert_int_equal(wick_setup(&o, &err), WICK_E_ARG);
    assert_int_equal(err.code, WICK_E_ARG);
    o.alloc = NULL;
    o.cpu_level = "sse9";
    assert_int_equal(wick_setup(&o, &err), WICK_E_ARG);
    assert_non_null(strstr(err.message, "sse9"));
    assert_int_equal(wick_setup(&o, NULL), WICK_E_ARG);
    o.size = 0;
    assert_int_equal(wick_setup(&o, &err), WICK_E_ABI);
    wick_model *m = api_model(TINY_LLAMA); /* a refused setup changes nothing */
    assert_true(atomic_load(&n_alloc) > 0);
    wick_model_close(m);
}

static void test_null_is_no_op(void **s) {
    (void)s;
    wick_model_close(NULL);
    wick_engine_close(NULL);
    wick_request_free(NULL);
    wick_grammar_free(NULL);
    wick_cancel(NULL);
    assert_int_equal(wick_request_fd(NULL), -1);
}

/* ---- model --------------------------------------------------------------------------------------- */

static void test_model_open_refuses(void **s) {
    (void)s;
    wick_error err = {0};
    wick_model *m = (wick_model *)&err;
    assert_int_equal(wick_model_open(NULL, NULL, &m, &err), WICK_E_ARG);
    assert_int_equal(wick_model_open(TINY_LLAMA, NULL, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_model_open("no/such/file.gguf", NULL, &m, &err), WICK_E_IO);
    assert_null(m);
    assert_int_equal(err.code, WICK_E_IO);
    assert_non_null(strstr(err.message, "no/such/file.gguf"));
    assert_int_equal(wick_model_open("tests", NULL, &m, &err), WICK_E_IO);
    assert_true(wick_model_open("tests/api/api.h", NULL, &m, &err) < 0);
    assert_null(m);
    assert_true(wick_model_open("tests/golden/good/nothing.gguf", NULL, &m, NULL) < 0);
    wick_model_options o = WICK_MODEL_OPTIONS_INIT;
    o.size = 3;
    assert_int_equal(wick_model_open(TINY_LLAMA, &o, &m, &err), WICK_E_ABI);
}

static int stop_at_once(void *ud, const char *phase, uint64_t done, uint64_t total) {
    assert_true(done <= total);
    assert_non_null(phase);
    ++*(int *)ud;
    return 1;
}
static int go_on(void *ud, const char *phase, uint64_t done, uint64_t total) {
    (void)phase;
    uint64_t *last = ud;
    assert_true(done >= last[0] && done <= total);
    last[0] = done;
    last[1] = total;
    return 0;
}

static void test_progress_cancels(void **s) {
    (void)s;
    int calls = 0;
    uint64_t last[2] = {0, 1};
    wick_error err = {0};
    wick_model *m = NULL;
    wick_engine *e = NULL;
    wick_model_options mo = WICK_MODEL_OPTIONS_INIT;
    mo.progress = stop_at_once;
    mo.progress_ud = &calls;
    assert_int_equal(wick_model_open(TINY_LLAMA, &mo, &m, &err), WICK_E_CANCELED);
    assert_null(m);
    assert_int_equal(calls, 1);
    m = api_model(TINY_LLAMA);
    wick_engine_options eo = WICK_ENGINE_OPTIONS_INIT;
    eo.progress = stop_at_once;
    eo.progress_ud = &calls;
    assert_int_equal(wick_engine_open(m, &eo, &e, &err), WICK_E_CANCELED);
    assert_null(e);
    assert_int_equal(calls, 2);
    assert_true(err.message[0] != 0);
    eo.progress = go_on;
    eo.progress_ud = last;
    assert_int_equal(wick_engine_open(m, &eo, &e, &err), WICK_OK);
    assert_int_equal(last[0], last[1]); /* all was said to be done */
    wick_engine_close(e);
    wick_model_close(m);
}

static void check_key(const wick_model *m, const char *key, const char *want) {
    char buf[64];
    size_t len = 0;
    assert_int_equal(wick_model_get(m, key, NULL, 0, &len), WICK_OK);
    assert_int_equal(len, strlen(want));
    memset(buf, '#', sizeof(buf));
    if (len) assert_int_equal(wick_model_get(m, key, buf, len, &len), WICK_E_ARG); /* no room for the NUL */
    assert_int_equal(buf[0], '#');
    assert_int_equal(wick_model_get(m, key, buf, len + 1, &len), WICK_OK);
    assert_string_equal(buf, want);
    assert_int_equal(buf[len + 1], '#');
    assert_int_equal(wick_model_get(m, key, buf, sizeof(buf), NULL), WICK_OK);
}

static void test_model_get(void **s) {
    (void)s;
    wick_model *m = api_model(TINY_LLAMA);
    char buf[64];
    size_t len;
    check_key(m, "arch", "llama");
    check_key(m, "n_vocab", "288");
    check_key(m, "n_ctx", "128");
    check_key(m, "n_layer", "2");
    check_key(m, "dim", "64");
    check_key(m, "n_head", "4");
    check_key(m, "n_head_kv", "2");
    check_key(m, "bytes", "400960");
    check_key(m, "bos", "<|start|>");
    check_key(m, "eos", "<|end|>");
    check_key(m, "chat_template", "");
    check_key(m, "llama.feed_forward_length", "96");
    check_key(m, "tokenizer.ggml.model", "gpt2");
    assert_int_equal(wick_model_get(m, "no.such.key", buf, sizeof(buf), &len), WICK_E_ARG);
    assert_int_equal(wick_model_get(m, "", buf, sizeof(buf), &len), WICK_E_ARG);
    assert_int_equal(wick_model_get(NULL, "arch", buf, sizeof(buf), &len), WICK_E_ARG);
    assert_int_equal(wick_model_get(m, NULL, buf, sizeof(buf), &len), WICK_E_ARG);
    assert_int_equal(wick_model_get(m, "arch", NULL, 64, &len), WICK_E_ARG);
    wick_model_close(m);
}

/* The length that is told is the length that is given. */
static void test_model_get_long_value(void **s) {
    (void)s;
    wick_model *m = api_model(TINY_LLAMA);
    size_t len = 0, again = 0;
    assert_int_equal(wick_model_get(m, "tokenizer.ggml.token_type", NULL, 0, &len), WICK_OK);
    char *buf = malloc(len + 1);
    assert_non_null(buf);
    assert_int_equal(wick_model_get(m, "tokenizer.ggml.token_type", buf, len + 1, &again), WICK_OK);
    assert_int_equal(len, again);
    assert_int_equal(strlen(buf), len);
    free(buf);
    wick_model_close(m);
}

static void test_tokenize_buffers(void **s) {
    (void)s;
    wick_model *m = api_model(TINY_LLAMA);
    const char *text = "the rain in the world\n\xc3\xa9 \xff\xfe";
    const size_t text_n = strlen(text);
    wick_token t[64];
    char buf[64];
    size_t n = 0, again = 0, len = 0;
    assert_int_equal(wick_tokenize(m, text, text_n, 0, NULL, 0, &n), WICK_OK);
    assert_true(n > 2 && n < 64);
    assert_int_equal(wick_tokenize(m, text, text_n, 0, t, n - 1, &again), WICK_E_ARG);
    assert_int_equal(again, n);
    t[n] = -77;
    assert_int_equal(wick_tokenize(m, text, text_n, 0, t, n, &again), WICK_OK);
    assert_int_equal(again, n);
    assert_int_equal(t[n], -77);
    assert_int_equal(wick_detokenize(m, t, n, 0, NULL, 0, &len), WICK_OK);
    assert_int_equal(len, text_n);
    assert_int_equal(wick_detokenize(m, t, n, 0, buf, len - 1, &len), WICK_E_ARG);
    assert_int_equal(len, text_n);
    assert_int_equal(wick_detokenize(m, t, n, 0, buf, len, &len), WICK_OK);
    assert_memory_equal(buf, text, text_n);
    assert_int_equal(wick_tokenize(m, NULL, 0, 0, t, 64, &n), WICK_OK);
    assert_int_equal(n, 0);
    assert_int_equal(wick_detokenize(m, NULL, 0, 0, buf, 64, &len), WICK_OK);
    assert_int_equal(len, 0);
    const wick_token wild[] = {-1, INT32_MAX, INT32_MIN, 288};
    assert_int_equal(wick_detokenize(m, wild, 4, 0, buf, 64, &len), WICK_OK);
    assert_int_equal(len, 0);
    wick_model_close(m);
}

static void test_tokenize_arguments(void **s) {
    (void)s;
    wick_model *m = api_model(TINY_LLAMA);
    wick_token t[8];
    char buf[16];
    size_t n;
    assert_int_equal(wick_tokenize(NULL, "a", 1, 0, t, 8, &n), WICK_E_ARG);
    assert_int_equal(wick_tokenize(m, NULL, 1, 0, t, 8, &n), WICK_E_ARG);
    assert_int_equal(wick_tokenize(m, "a", 1, 0, NULL, 8, &n), WICK_E_ARG);
    assert_int_equal(wick_tokenize(m, "a", 1, 0, t, 8, NULL), WICK_E_ARG);
    assert_int_equal(wick_detokenize(NULL, t, 1, 0, buf, 16, &n), WICK_E_ARG);
    assert_int_equal(wick_detokenize(m, NULL, 1, 0, buf, 16, &n), WICK_E_ARG);
    assert_int_equal(wick_detokenize(m, t, 1, 0, NULL, 16, &n), WICK_E_ARG);
    assert_int_equal(wick_detokenize(m, t, 1, 0, buf, 16, NULL), WICK_E_ARG);
    assert_int_equal(wick_tokenize(m, "<|end|>", 7, WICK_TOK_SPECIAL, t, 8, &n), WICK_OK);
    assert_int_equal(n, 1);
    assert_int_equal(t[0], 1);
    assert_int_equal(wick_tokenize(m, "<|end|>", 7, 0, NULL, 0, &n), WICK_OK);
    assert_true(n > 1); /* text, not the control token */
    assert_int_equal(wick_detokenize(m, t, 1, 0, buf, 16, &n), WICK_OK);
    assert_int_equal(n, 0);
    assert_int_equal(wick_detokenize(m, t, 1, WICK_TOK_SHOW_SPECIAL, buf, 16, &n), WICK_OK);
    assert_int_equal(n, 7);
    wick_model_close(m);
}

static void test_chat_render_arguments(void **s) {
    (void)s;
    wick_model *m = api_model(TINY_QWEN3);
    const char *json = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    wick_error err = {0};
    wick_token t[64];
    char text[256];
    size_t n = 0, len = 0;
    assert_int_equal(wick_chat_render(NULL, json, strlen(json), t, 64, &n, NULL, 0, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_chat_render(m, NULL, 0, t, 64, &n, NULL, 0, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_chat_render(m, json, strlen(json), NULL, 64, &n, NULL, 0, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_chat_render(m, json, strlen(json), t, 64, NULL, NULL, 0, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_chat_render(m, json, strlen(json), t, 64, &n, NULL, 16, &len, &err), WICK_E_ARG);
    assert_int_equal(wick_chat_render(m, json, strlen(json), t, 64, &n, text, sizeof(text), NULL, &err), WICK_E_ARG);
    memset(&err, 0, sizeof(err));
    const wick_status rc = wick_chat_render(m, json, strlen(json), t, 64, &n, text, sizeof(text), &len, &err);
    assert_int_equal(rc, WICK_E_TEMPLATE); /* the tiny models carry none */
    assert_int_equal(err.code, WICK_E_TEMPLATE);
    assert_true(err.message[0] != 0);
    wick_model_close(m);
}

/* ---- fit and engine ------------------------------------------------------------------------------ */

static void test_fit(void **s) {
    (void)s;
    wick_error err = {0};
    wick_fit_result f = WICK_FIT_RESULT_INIT, g = WICK_FIT_RESULT_INIT;
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    assert_int_equal(wick_fit(NULL, NULL, &f, &err), WICK_E_ARG);
    assert_int_equal(wick_fit(TINY_LLAMA, NULL, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_fit("no/such/file", NULL, &f, &err), WICK_E_IO);
    assert_int_equal(wick_fit(TINY_LLAMA, NULL, &f, &err), WICK_OK);
    assert_int_equal(f.fits, 1);
    assert_int_equal(f.n_ctx, 128); /* the model's own */
    assert_true(f.need >= f.weights + f.kv + f.activations);
    assert_true(f.threads >= 1 && f.available > f.need);
    o.n_ctx = 1 << 20;
    assert_int_equal(wick_fit(TINY_LLAMA, &o, &g, &err), WICK_OK);
    assert_true(g.kv >= 1000 * f.kv); /* f holds a page a sequence more than its two */
    o.n_ctx = -1;
    assert_int_equal(wick_fit(TINY_LLAMA, &o, &g, &err), WICK_E_ARG);
    f.size = 0;
    assert_int_equal(wick_fit(TINY_LLAMA, NULL, &f, &err), WICK_E_ABI);
}

static void test_engine_does_not_fit(void **s) {
    (void)s;
    wick_error err = {0};
    wick_fit_result f = WICK_FIT_RESULT_INIT;
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    wick_engine *e = NULL;
    wick_model *m = api_model(TINY_GEMMA3);
    o.n_ctx = 1 << 30;
    o.kv_type = WICK_KV_F32;
    assert_int_equal(wick_fit(TINY_GEMMA3, &o, &f, &err), WICK_OK);
    assert_int_equal(f.fits, 0);
    const long before = atomic_load(&n_alloc);
    assert_int_equal(wick_engine_open(m, &o, &e, &err), WICK_E_FIT);
    assert_null(e);
    assert_int_equal(err.code, WICK_E_FIT);
    assert_int_equal(atomic_load(&n_alloc), before);
    char need[32], have[32];
    (void)snprintf(need, sizeof(need), "%.2f GB", (double)f.need / 1e9);
    (void)snprintf(have, sizeof(have), "%.1f", (double)f.available / 1e9);
    assert_non_null(strstr(err.message, need));
    assert_non_null(strstr(err.message, "available"));
    (void)have; /* what is available changes while we look */
    wick_model_close(m);
}

static void refused(wick_model *m, const wick_engine_options *o, wick_status want, const char *word) {
    wick_error err = {0};
    wick_engine *e = (wick_engine *)&err;
    assert_int_equal(wick_engine_open(m, o, &e, &err), want);
    assert_null(e);
    assert_int_equal(err.code, want);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not name %s", err.message, word);
}

static void test_engine_options(void **s) {
    (void)s;
    wick_model *m = api_model(TINY_LLAMA);
    wick_engine *e = NULL;
    const char *const extra[] = {"no_such=1", NULL};
    const wick_engine_options init = WICK_ENGINE_OPTIONS_INIT;
    assert_int_equal(wick_engine_open(NULL, NULL, &e, NULL), WICK_E_ARG);
    assert_int_equal(wick_engine_open(m, NULL, NULL, NULL), WICK_E_ARG);
#define REFUSED(field, value, status, word)                                                                            \
    do {                                                                                                               \
        wick_engine_options o = init;                                                                                  \
        o.field = value;                                                                                               \
        refused(m, &o, status, word);                                                                                  \
    } while (0)
    REFUSED(n_ctx, -1, WICK_E_ARG, "n_ctx");
    REFUSED(kv_tokens, INT32_MAX, WICK_E_ARG, "kv_tokens");
    REFUSED(max_seqs, 257, WICK_E_ARG, "max_seqs");
    REFUSED(max_queue, -5, WICK_E_ARG, "max_queue");
    REFUSED(threads, 1025, WICK_E_ARG, "threads");
    REFUSED(n_batch, 4097, WICK_E_ARG, "n_batch");
    REFUSED(kv_type, 99, WICK_E_ARG, "kv_type");
    REFUSED(kv_type, WICK_KV_Q8_0, WICK_E_UNSUPPORTED, "a head_dim that is a multiple of 32, this model's is 16");
    REFUSED(device, "tpu", WICK_E_DEVICE, "libwick_tpu.so");
    REFUSED(device, "", WICK_E_ARG, "device");
    REFUSED(device, "libwick_cuda.so", WICK_E_ARG, "absolute path");
    REFUSED(device, "/no/such/libwick_x.so", WICK_E_DEVICE, "/no/such/libwick_x.so");
    REFUSED(device, "cuda:1024", WICK_E_ARG, "0 .. 1023");
    REFUSED(gpu_layers, -2, WICK_E_ARG, "gpu_layers");
    REFUSED(extra, extra, WICK_E_ARG, "no_such");
    REFUSED(size, 0, WICK_E_ABI, "size");
#undef REFUSED
    wick_model_close(m);
}

/* ---- struct sizes -------------------------------------------------------------------------------- */

typedef struct bigger {
    wick_engine_options o;
    uint8_t future[64];
} bigger;

static void test_option_sizes(void **s) {
    (void)s;
    wick_model *m = api_model(TINY_LLAMA);
    wick_engine *e = NULL;
    wick_stats st = WICK_STATS_INIT;
    bigger b;
    memset(&b, 0, sizeof(b)); /* of a later header */
    b.o = (wick_engine_options)WICK_ENGINE_OPTIONS_INIT;
    b.o.size = sizeof(b);
    b.o.n_ctx = 256;
    assert_int_equal(wick_engine_open(m, &b.o, &e, NULL), WICK_OK);
    assert_int_equal(wick_engine_stats(e, &st), WICK_OK);
    assert_int_equal(st.n_ctx, 256);
    wick_engine_close(e);
    memset(&b, 0xee, sizeof(b)); /* of an earlier header: what lies behind is never looked at */
    b.o.size = offsetof(wick_engine_options, kv_tokens);
    b.o.n_ctx = 192;
    assert_int_equal(wick_engine_open(m, &b.o, &e, NULL), WICK_OK);
    assert_int_equal(wick_engine_stats(e, &st), WICK_OK);
    assert_int_equal(st.n_ctx, 192);
    wick_engine_close(e);
    wick_model_close(m);
}

static void test_result_sizes(void **s) {
    (void)s;
    wick_model *m = api_model(TINY_LLAMA);
    wick_engine *e = api_engine(m, 128, NULL);
    wick_stats st;
    memset(&st, 0xee, sizeof(st));
    st.size = offsetof(wick_stats, pages_total);
    assert_int_equal(wick_engine_stats(e, &st), WICK_OK);
    assert_int_equal(st.running, 0);
    assert_int_equal(st.pages_total, (int32_t)0xeeeeeeee);
    assert_int_equal(st.size, offsetof(wick_stats, pages_total));
    st.size = 0;
    assert_int_equal(wick_engine_stats(e, &st), WICK_E_ABI);
    assert_int_equal(wick_engine_stats(NULL, &st), WICK_E_ARG);
    assert_int_equal(wick_engine_stats(e, NULL), WICK_E_ARG);
    wick_fit_result f;
    memset(&f, 0xee, sizeof(f));
    f.size = offsetof(wick_fit_result, available);
    assert_int_equal(wick_fit(TINY_LLAMA, NULL, &f, NULL), WICK_OK);
    assert_true(f.need > 0 && f.need < UINT64_MAX / 4);
    assert_int_equal(f.available, 0xeeeeeeeeeeeeeeeeu);
    wick_engine_close(e);
    wick_model_close(m);
}

/* ---- order of closing ---------------------------------------------------------------------------- */

static void test_engine_holds_model(void **s) {
    (void)s;
    answer a;
    wick_token t[10];
    api_fill(t, 10, 1);
    wick_model *m = api_model(TINY_LLAMA);
    wick_engine *e = api_engine(m, 128, NULL);
    wick_model_close(m);
    const wick_request_options o = api_ids(t, 10, 4);
    api_run(e, &o, &a);
    assert_int_equal(a.result.n_generated, 4);
    wick_engine_close(e);
}

static void test_request_outlives_engine(void **s) {
    (void)s;
    answer a;
    wick_token t[10];
    api_fill(t, 10, 1);
    wick_model *m = api_model(TINY_LLAMA);
    wick_engine *e = api_engine(m, 8192, NULL);
    wick_request_options o = api_ids(t, 10, 4);
    wick_request *done = api_submit(e, &o), *fd_one;
    api_read(done, &a);
    o.max_tokens = 0; /* longer than its ring: it cannot be over */
    wick_request *running = api_submit(e, &o), *waiting[12];
    fd_one = api_submit(e, &o);
    assert_true(wick_request_fd(fd_one) >= 0);
    for (int i = 0; i < 12; i++) waiting[i] = api_submit(e, &o);
    wick_request_free(waiting[11]);
    wick_engine_close(e);
    wick_model_close(m);
    wick_cancel(running);
    wick_cancel(done);
    api_read(running, &a);
    assert_int_equal(a.error.code, WICK_E_CANCELED);
    assert_int_equal(a.result.error.code, WICK_E_CANCELED);
    wick_request_free(running);
    for (int i = 0; i < 11; i++) {
        api_read(waiting[i], &a);
        assert_int_equal(a.error.code, WICK_E_CANCELED);
        wick_request_free(waiting[i]);
    }
    wick_request_free(done);
    wick_request_free(fd_one);
}

/* ---- what is not built --------------------------------------------------------------------------- */

static void test_unsupported_names_itself(void **s) {
    (void)s;
    wick_error err = {0};
    wick_model *m = api_model(TINY_LLAMA);
    wick_engine *e = api_engine(m, 128, NULL);
    wick_grammar *g = (wick_grammar *)&err;
    const char *const text[] = {"a"};
    const size_t len[] = {1};
    float v[64];
    const wick_token t[2] = {5, 6};
    assert_int_equal(wick_embed(e, text, len, 1, v, 64, &err), WICK_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "wick_embed"));
    assert_int_equal(wick_grammar_compile(m, 0, "x", 1, &g, &err), WICK_E_UNSUPPORTED);
    assert_null(g);
    assert_non_null(strstr(err.message, "wick_grammar_compile"));
    assert_int_equal(wick_prefix_io(e, 0, t, 2, "x", &err), WICK_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "wick_prefix_io"));
    wick_engine_close(e);
    wick_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_and_texts),     cmocka_unit_test(test_setup_refuses),
        cmocka_unit_test(test_null_is_no_op),         cmocka_unit_test(test_model_open_refuses),
        cmocka_unit_test(test_progress_cancels),      cmocka_unit_test(test_model_get),
        cmocka_unit_test(test_model_get_long_value),  cmocka_unit_test(test_tokenize_buffers),
        cmocka_unit_test(test_tokenize_arguments),    cmocka_unit_test(test_chat_render_arguments),
        cmocka_unit_test(test_fit),                   cmocka_unit_test(test_engine_does_not_fit),
        cmocka_unit_test(test_engine_options),        cmocka_unit_test(test_option_sizes),
        cmocka_unit_test(test_result_sizes),          cmocka_unit_test(test_engine_holds_model),
        cmocka_unit_test(test_request_outlives_engine), cmocka_unit_test(test_unsupported_names_itself),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

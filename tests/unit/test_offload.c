/* test_offload.c: an engine with a device, seen through wick.h. The device is the twin (module/twin.c), which lies
 * beside this program as libwick_cuda.so: a cpu under another name, so that bits are known and everything can fail. */
#include "tests/unit/unit.h"

#include <dlfcn.h>
#include <stdio.h>

#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "engine/wick.h"
#include "engine/wick_x.h"
#include "tests/unit/module/twin.h"

#define MODEL "tests/golden/tiny/gemma3.gguf"
enum { N_LAYER = 7 };

static twin_knobs *twin;
static char said[4096]; /* warnings of the log */

static void on_log(void *ud, int level, const char *text, size_t len) {
    (void)ud;
    const size_t n = strlen(said);
    if (level <= WICK_LOG_WARN) (void)snprintf(said + n, sizeof(said) - n, "%.*s\n", (int)len, text);
}

static int set_up(void **s) {
    (void)s;
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    o.log = on_log;
    void *lib = dlopen(TWIN, RTLD_NOW | RTLD_LOCAL);
    if (!lib) fail_msg("%s", dlerror());
    twin = dlsym(lib, "wick_twin");
    assert_non_null(twin);
    return wick_setup(&o, NULL);
}

static int before(void **s) {
    (void)s;
    static const twin_knobs fresh = TWIN_KNOBS;
    *twin = fresh;
    said[0] = 0;
    return 0;
}

static void heard(const char *word) {
    if (!strstr(said, word)) fail_msg("\"%s\" does not say \"%s\"", said, word);
}

static wick_model *open_model(void) {
    wick_model *m = NULL;
    wick_error err = {0};
    if (wick_model_open(MODEL, NULL, &m, &err)) fail_msg("%s", err.message);
    said[0] = 0; /* about its merges */
    return m;
}

static wick_engine_options with(const char *device, int32_t layers) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.threads = 1;
    o.n_ctx = 128;
    o.device = device;
    o.gpu_layers = layers;
    return o;
}

static wick_engine *open_engine(wick_model *m, const char *device, int32_t layers) {
    wick_engine *e = NULL;
    wick_error err = {0};
    const wick_engine_options o = with(device, layers);
    if (wick_engine_open(m, &o, &e, &err)) fail_msg("%s", err.message);
    return e;
}

static void close_all(wick_engine *e, wick_model *m) {
    wick_engine_close(e);
    wick_model_close(m);
    assert_int_equal(twin->n_open, twin->n_close);
    assert_int_equal(twin->n_prepare, twin->n_unprepare);
}

static wick_status answer(wick_engine *e, wick_result *r, wick_error *err) {
    static wick_token prompt[100];
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    for (int i = 0; i < 100; i++) prompt[i] = 3 + i * 7 % 200;
    *r = (wick_result)WICK_RESULT_INIT;
    o.tokens = prompt;
    o.n_tokens = 100;
    o.max_tokens = 12;
    o.seed = 5;
    o.flags = WICK_REQ_HASH | WICK_REQ_IGNORE_END;
    return wick_generate(e, &o, NULL, NULL, r, err);
}

static wick_stats stats_of(const wick_engine *e) {
    wick_stats s = WICK_STATS_INIT;
    assert_int_equal(wick_engine_stats(e, &s), WICK_OK);
    return s;
}

static wick_result cpu_answer(wick_model *m) {
    wick_result r;
    wick_error err = {0};
    wick_engine *e = open_engine(m, NULL, 0);
    if (answer(e, &r, &err)) fail_msg("%s", err.message);
    assert_int_equal(r.flags, 0);
    assert_string_equal(stats_of(e).device, "cpu");
    assert_int_equal(stats_of(e).gpu_layers, 0);
    assert_int_equal(stats_of(e).n_layer, N_LAYER);
    assert_int_equal(stats_of(e).bytes_device, 0);
    wick_engine_close(e);
    return r;
}

static void same(wick_engine *e, const wick_result *want) {
    wick_result r;
    wick_error err = {0};
    if (answer(e, &r, &err)) fail_msg("%s", err.message);
    assert_memory_equal(r.hash, want->hash, sizeof(r.hash));
    assert_int_equal(r.n_generated, 12);
}

/* ---- how many layers ----------------------------------------------------------------------------- */

static void test_layers(void **s) {
    (void)s;
    wick_model *m = open_model();
    const wick_result want = cpu_answer(m);
    for (int32_t n = 1; n <= N_LAYER + 1; n++) {
        wick_result r;
        wick_error err = {0};
        char text[96];
        wick_engine *e = open_engine(m, n % 2 ? "cuda" : "cuda:1", n);
        const wick_stats st = stats_of(e);
        same(e, &want);
        assert_int_equal(answer(e, &r, &err), WICK_OK);
        assert_int_equal(r.flags, WICK_RESULT_DEVICE_BITS);
        assert_int_equal(st.gpu_layers, n < N_LAYER ? n : N_LAYER);
        assert_true(st.bytes_device > 0 && twin->n_run > 0);
        assert_int_equal(twin->layer_first, n < N_LAYER ? N_LAYER - n : -1);
        assert_int_equal(twin->n_layer, n < N_LAYER ? n : N_LAYER);
        const char *dev = n % 2 ? "twin:0 (Twin): " : "twin:1 (Twin): ";
        if (n >= N_LAYER)
            (void)snprintf(text, sizeof(text), "%sall layers, head", dev);
        else if (n == 1)
            (void)snprintf(text, sizeof(text), "%slayer 6; cpu: layers 0 to 5, head", dev);
        else if (n == N_LAYER - 1)
            (void)snprintf(text, sizeof(text), "%slayers 1 to 6; cpu: layer 0, head", dev);
        else
            (void)snprintf(text, sizeof(text), "%slayers %d to 6; cpu: layers 0 to %d, head", dev, (int)(N_LAYER - n),
                           (int)(N_LAYER - n - 1));
        assert_string_equal(st.device, text);
        wick_engine_close(e);
        assert_int_equal(twin->n_measure, 0); /* a number was given */
    }
    assert_string_equal(said, "");
    close_all(NULL, m);
}

static void test_none(void **s) {
    (void)s;
    wick_model *m = open_model();
    wick_result r;
    wick_error err = {0};
    wick_engine *e = open_engine(m, "cuda", -1);
    assert_int_equal(answer(e, &r, &err), WICK_OK);
    assert_int_equal(r.flags, 0);
    assert_string_equal(stats_of(e).device, "cpu");
    assert_int_equal(twin->n_open, 0);
    close_all(e, m);
}

/* By path, and what the memory holds when no number is given. */
static void test_auto_layers(void **s) {
    (void)s;
    wick_model *m = open_model();
    const wick_result want = cpu_answer(m);
    uint64_t all, last = 0;
    wick_engine *e = open_engine(m, TWIN, 0);
    assert_string_equal(stats_of(e).device, "twin:0 (Twin): all layers, head");
    all = stats_of(e).bytes_device;
    assert_string_equal(said, "");
    assert_int_equal(twin->n_measure, 1);
    same(e, &want);
    wick_engine_close(e);
    int some = 0;
    for (uint64_t room = all; room > 0 && room <= all; room -= all / 16) { /* 90 % of it is less than all */
        wick_error err = {0};
        const wick_engine_options o = with(TWIN ":0", 0);
        twin->mem_free = room;
        said[0] = 0;
        e = NULL;
        const wick_status rc = wick_engine_open(m, &o, &e, &err);
        if (rc) {
            assert_int_equal(rc, WICK_E_FIT);
            assert_null(e);
            assert_non_null(strstr(err.message, "twin:0 has "));
            assert_non_null(strstr(err.message, "one layer with its KV cache of 128 tokens takes"));
            last = room;
            break;
        }
        const wick_stats st = stats_of(e);
        assert_true(st.gpu_layers >= 1 && st.gpu_layers < N_LAYER);
        assert_true((double)st.bytes_device <= 0.9 * (double)room);
        heard("of 7 layers fit 90 % of the");
        same(e, &want);
        wick_engine_close(e);
        some++;
    }
    assert_true(last > 0 && some > 0);
    close_all(NULL, m);
}

static void test_cannot(void **s) {
    (void)s;
    wick_model *m = open_model();
    wick_error err = {0};
    const wick_result want = cpu_answer(m);
    twin->cannot_layer = 3; /* also the norm of layer 3 that stands in the first stage of layer 4 */
    wick_engine *e = open_engine(m, "cuda", 99);
    assert_string_equal(stats_of(e).device, "twin:0 (Twin): layers 0 to 2, layers 5 to 6, head; cpu: layers 3 to 4");
    assert_int_equal(stats_of(e).gpu_layers, 5);
    heard("twin:0 cannot run");
    heard("(layer 3): 2 of 7 layers stay on the cpu");
    same(e, &want);
    wick_engine_close(e);
    twin->cannot_layer = -1;
    said[0] = 0;
    e = open_engine(m, "cuda", 99);
    assert_string_equal(stats_of(e).device, "twin:0 (Twin): layers 1 to 6; cpu: layer 0, head");
    heard("1 of 7 layers and the head stay on the cpu");
    same(e, &want);
    wick_engine_close(e);
    twin->cannot = true;
    e = NULL;
    const wick_engine_options o = with("cuda", 99);
    assert_int_equal(wick_engine_open(m, &o, &e, &err), WICK_E_DEVICE);
    assert_non_null(strstr(err.message, "twin:0 can run no layer of this model: not embed of F32"));
    said[0] = 0;
    e = open_engine(m, "auto", 0);
    heard("device auto: everything runs on the cpu: twin:0 can run no layer");
    same(e, &want);
    close_all(e, m);
}

/* ---- which device -------------------------------------------------------------------------------- */

static void test_slower(void **s) {
    (void)s;
    wick_model *m = open_model();
    const wick_result want = cpu_answer(m);
    twin->read_rate = 1e6; /* 1 MB a second */
    twin->put_rate = twin->get_rate = 1e9;
    wick_engine *e = open_engine(m, "cuda", 0);
    heard("twin:0 reads 0.0 GB/s, this machine");
    heard("everything runs on the cpu");
    assert_string_equal(stats_of(e).device, "cpu");
    assert_int_equal(twin->n_run, 0);
    same(e, &want);
    wick_engine_close(e);
    e = open_engine(m, "cuda", 2); /* as asked for */
    assert_int_equal(stats_of(e).gpu_layers, 2);
    wick_engine_close(e);
    twin->read_rate = 1e15;
    twin->put_rate = twin->get_rate = 1e15;
    e = open_engine(m, "auto", 0);
    assert_int_equal(stats_of(e).gpu_layers, N_LAYER);
    close_all(e, m);
}

static void refused(wick_model *m, const char *device, int32_t layers, wick_status want, const char *word) {
    wick_error err = {0};
    wick_engine *e = NULL;
    const wick_engine_options o = with(device, layers);
    assert_int_equal(wick_engine_open(m, &o, &e, &err), want);
    assert_null(e);
    assert_int_equal(err.code, want);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not say \"%s\"", err.message, word);
}

static void falls_back(wick_model *m, const wick_result *want, const char *word) {
    said[0] = 0;
    wick_engine *e = open_engine(m, "auto", 0);
    heard("device auto: everything runs on the cpu: ");
    heard(word);
    assert_string_equal(stats_of(e).device, "cpu");
    assert_int_equal(stats_of(e).bytes_device, 0);
    same(e, want);
    wick_engine_close(e);
}

static void test_unusable(void **s) {
    (void)s;
    wick_model *m = open_model();
    const wick_result want = cpu_answer(m);
    twin->n_device = 0;
    refused(m, "cuda", 0, WICK_E_DEVICE, "no device of twin: twin: no driver");
    falls_back(m, &want, "twin: no driver");
    twin->n_device = 1;
    refused(m, "cuda:1", 0, WICK_E_DEVICE, "twin has 1 device, index 1 was asked for");
    twin->open_at = 1;
    refused(m, "cuda", 0, WICK_E_DEVICE, "twin:0: twin: it does not open");
    twin->open_at = 1;
    falls_back(m, &want, "it does not open");
    twin->info_at = 1;
    refused(m, "cuda", 3, WICK_E_DEVICE, "twin:0: twin: it says nothing");
    twin->info_at = 1;
    falls_back(m, &want, "it says nothing");
    twin->prepare_at = 1;
    refused(m, "cuda", 3, WICK_E_DEVICE, "layers 4 to 6 on twin:0: twin: out of memory");
    twin->prepare_at = 1;
    falls_back(m, &want, "out of memory");
    refused(m, "tpu", 0, WICK_E_DEVICE, "no module for tpu");
    close_all(NULL, m);
}

static void test_does_not_fit(void **s) {
    (void)s;
    wick_model *m = open_model();
    const wick_result want = cpu_answer(m);
    wick_fit_result f = WICK_FIT_RESULT_INIT, host = WICK_FIT_RESULT_INIT;
    wick_error err = {0};
    wick_engine_options o = with("cuda", 5);
    twin->mem_free = 1000;
    refused(m, "cuda", 5, WICK_E_FIT,
            "5 of 7 layers and their KV cache of 128 tokens need 0.00 GB of twin:0, 0.00 GB are free");
    refused(m, "cuda", 0, WICK_E_FIT, "twin:0 has 0.00 GB of memory free");
    falls_back(m, &want, "twin:0 has 0.00 GB of memory free");
    assert_int_equal(wick_fit(MODEL, &o, &f, &err), WICK_OK);
    assert_int_equal(f.fits, 0);
    assert_int_equal(f.device_free, 1000);
    twin->mem_free = 1 << 30;
    assert_int_equal(wick_fit(MODEL, &o, &f, &err), WICK_OK);
    assert_int_equal(f.fits, 1);
    assert_int_equal(f.gpu_layers, 5);
    assert_int_equal(f.n_layer, N_LAYER);
    assert_true(f.device_need > 0 && f.device_need <= f.device_free);
    assert_string_equal(f.device, "twin:0 (Twin): layers 2 to 6; cpu: layers 0 to 1, head");
    o.device = NULL;
    assert_int_equal(wick_fit(MODEL, &o, &host, &err), WICK_OK);
    assert_string_equal(host.device, "cpu");
    assert_true(host.device_need == 0 && host.device_free == 0 && host.gpu_layers == 0);
    assert_true(f.weights < host.weights); /* the host keeps what it runs */
    o.device = "cuda";
    o.gpu_layers = 99;
    assert_int_equal(wick_fit(MODEL, &o, &f, &err), WICK_OK);
    assert_int_equal(f.weights + f.kv, 0);
    twin->mem_total = twin->mem_free = 0; /* the machine's own memory */
    assert_int_equal(wick_fit(MODEL, &o, &f, &err), WICK_OK);
    assert_true(f.fits == 1 && f.need > host.need - (1 << 20));
    assert_int_equal(f.device_free, 0);
    close_all(NULL, m);
}

/* ---- a device that fails while it works ---------------------------------------------------------- */

static void test_fails_at_work(void **s) {
    (void)s;
    wick_model *m = open_model();
    const wick_result want = cpu_answer(m);
    int *const at[] = {&twin->run_at, &twin->wait_at, &twin->put_at, &twin->get_at};
    static const char *const word[] = {"the launch failed", "the pass failed", "a copy to it failed",
                                       "a copy from it failed"};
    static const int nth[] = {1, 3, 8};
    for (int32_t n = 3; n <= N_LAYER; n += 4) {
        wick_engine *e = open_engine(m, "cuda", n);
        for (size_t i = 0; i < (n < N_LAYER ? 4u : 2u); i++)
            for (size_t k = 0; k < WK_COUNT(nth); k++) {
                wick_result r;
                wick_error err = {0};
                *at[i] = nth[k];
                assert_int_equal(answer(e, &r, &err), WICK_E_DEVICE);
                assert_int_equal(r.finish, WICK_FINISH_ERROR);
                if (!strstr(err.message, word[i])) fail_msg("\"%s\"", err.message);
                if (n < N_LAYER && !strstr(err.message, "on twin:0")) fail_msg("\"%s\"", err.message);
                same(e, &want);
            }
        wick_engine_close(e);
    }
    close_all(NULL, m);
}

/* Opening with each allocation failing in turn: refused, and nothing is left open. With "auto" too: what fails on the way
 * to the device may end on the cpu, which then says so. */
static void test_no_memory(void **s) {
    (void)s;
    static const char *const device[] = {"cuda", "auto"};
    wick_model *m = open_model();
    for (size_t d = 0; d < WK_COUNT(device); d++) {
        const uint64_t from = wk_alloc_count();
        wick_engine_close(open_engine(m, device[d], 3));
        const uint64_t most = wk_alloc_count() - from;
        int n_refused = 0;
        for (uint64_t n = 1; n <= most; n++) {
            wick_error err = {0};
            wick_engine *e = NULL;
            const wick_engine_options o = with(device[d], 3);
            said[0] = 0;
            wk_alloc_fail_at(n, false);
            const wick_status rc = wick_engine_open(m, &o, &e, &err);
            wk_alloc_fail_at(0, false);
            if (rc && (rc != err.code || !err.message[0] || e)) fail_msg("%d, \"%s\"", (int)rc, err.message);
            if (!rc && stats_of(e).gpu_layers != 3) heard("device auto: everything runs on the cpu: ");
            if (!rc && stats_of(e).gpu_layers == 3) assert_memory_equal(stats_of(e).device, "twin:0", 6);
            n_refused += rc != 0;
            wick_engine_close(e);
            assert_int_equal(twin->n_open, twin->n_close);
            assert_int_equal(twin->n_prepare, twin->n_unprepare);
        }
        assert_true(most > 50 && n_refused > 20);
    }
    close_all(NULL, m);
}

/* ---- what is said of devices --------------------------------------------------------------------- */

typedef struct list {
    int n;
    wick_x_device d[4];
} list;
static void on_device(void *ud, const wick_x_device *d) {
    list *l = ud;
    if (l->n < 4) l->d[l->n] = *d;
    l->n++;
}

static void test_list(void **s) {
    (void)s;
    wick_error err = {0};
    list l = {0};
    twin->read_rate = 5e9;
    assert_int_equal(wick_x_devices(NULL, 1, on_device, &l, &err), WICK_OK);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.d[0].spec, "cuda:0");
    assert_string_equal(l.d[1].spec, "cuda:1");
    assert_string_equal(l.d[1].name, "Twin");
    assert_string_equal(l.d[1].why, "");
    assert_true(l.d[0].read_rate > 4e9 && l.d[0].mem_free == 1 << 30);
    l.n = 0;
    twin->open_at = 2;
    assert_int_equal(wick_x_devices(TWIN, 0, on_device, &l, &err), WICK_OK);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.d[0].spec, TWIN ":0");
    assert_true(l.d[0].read_rate < 1);
    assert_string_equal(l.d[1].why, "twin: it does not open");
    l.n = twin->n_device = 0;
    assert_int_equal(wick_x_devices("cuda", 0, on_device, &l, &err), WICK_OK);
    assert_int_equal(l.n, 1);
    assert_string_equal(l.d[0].spec, "cuda");
    assert_string_equal(l.d[0].why, "twin: no driver");
    l.n = 0;
    assert_int_equal(wick_x_devices("tpu", 0, on_device, &l, &err), WICK_OK);
    assert_int_equal(l.n, 1);
    assert_non_null(strstr(l.d[0].why, "libwick_tpu.so"));
    assert_int_equal(wick_x_devices("no device", 0, on_device, &l, &err), WICK_E_ARG);
    assert_int_equal(wick_x_devices(NULL, 0, NULL, NULL, &err), WICK_E_ARG);
}

typedef struct row {
    double copy_s, wall_s;
    uint64_t copies, passes;
} row;
static void on_row(void *ud, const char *name, double seconds, uint64_t calls) {
    row *r = ud;
    if (strcmp(name, "copy") == 0) r->copy_s = seconds, r->copies = calls;
    if (strcmp(name, "wall") == 0) r->wall_s = seconds;
    if (strcmp(name, "pass") == 0) r->passes = calls;
}

/* Passes alone run as for one device; the work of copying is told. */
static void test_trace(void **s) {
    (void)s;
    wick_model *m = open_model();
    wick_error err = {0};
    double seconds[3];
    uint64_t hash = 0, want = 0;
    row r = {0};
    const wick_x_pass o = {.size = sizeof(o), .n_seq = 1, .n_tok = 5, .depth = 10, .warmup = 1, .reps = 3};
    wick_engine *e = open_engine(m, NULL, 0);
    assert_int_equal(wick_x_pass_run(e, &o, seconds, &want, &err), WICK_OK);
    wick_engine_close(e);
    e = open_engine(m, "cuda", 3);
    assert_int_equal(wick_x_trace(e, 1, &err), WICK_OK);
    assert_int_equal(wick_x_pass_run(e, &o, seconds, &hash, &err), WICK_OK);
    assert_int_equal(hash, want);
    assert_int_equal(wick_x_trace_read(e, on_row, &r, &err), WICK_OK);
    assert_int_equal(r.passes, 3);
    assert_true(r.copies >= 3 * 4 && r.copies % 3 == 0); /* there and back, each a put and a get */
    assert_true(r.copy_s > 0 && r.copy_s < r.wall_s);
    assert_int_equal(wick_x_trace(e, 0, &err), WICK_OK);
    close_all(e, m);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, before)
    const struct CMUnitTest tests[] = {
        TEST(test_layers),       TEST(test_none),          TEST(test_auto_layers), TEST(test_cannot), TEST(test_slower),
        TEST(test_unusable),     TEST(test_does_not_fit),  TEST(test_fails_at_work), TEST(test_no_memory),
        TEST(test_list),         TEST(test_trace),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

/* test_fake.c: a device that fails. Whatever call fails, and the n-th of it for every n: an error with a sentence,
 * nothing that cannot be closed, nothing left behind; a run that succeeds says what the undisturbed one said. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/file/store.h"
#include "engine/graph/backend.h"
#include "engine/graph/part.h"
#include "tests/unit/nano.h"
#include "tests/unit/unit.h"

enum { N_TOK = 20, N_PASS = 3, N_PAGE = 2, MAX_IN = 8, MAX_VOCAB = 512 };

static char report[] = "/tmp/test_fake_XXXXXX";
static wk_backend_fn *backend;
static const wk_backend_ops *ops;
static wk_store *store;
static wk_plan *plan;

/* What one drive came to. */
typedef struct outcome {
    int rc;
    const char *stage;
    wk_err err;
    float logits[N_PASS][MAX_VOCAB]; /* of the last token of each pass */
} outcome;
static outcome clean;

static const char *module_path;

static int set_up(void **state) {
    (void)state;
    wk_err err = {0};
    const wk_plan_options o = {.max_tok = N_TOK, .max_out = 2};
    void *so = dlopen(module_path, RTLD_NOW | RTLD_LOCAL);
    if (!so) {
        print_message("%s\n", dlerror());
        return -1;
    }
    *(void **)&backend = dlsym(so, WK_BACKEND_SYMBOL);
    const int fd = mkstemp(report);
    if (!backend || fd < 0 || setenv("WICK_FAKE_REPORT", report, 1)) return -1;
    (void)close(fd);
    ops = backend();
    store = nano_open_tiny("llama");
    if (wk_plan_build(&plan, store, &o, &err)) fail_msg("%s", err.message);
    assert_true(plan->n_vocab <= MAX_VOCAB);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    wk_plan_free(plan);
    wk_store_close(store);
    return unlink(report);
}

/* ---- what the module leaves ---------------------------------------------------------------------- */

/* Every device that was closed since the last look had given everything back. */
static void check_report(int n_device) {
    char line[256];
    FILE *f = fopen(report, "r");
    assert_non_null(f);
    int n = 0;
    for (; fgets(line, sizeof(line), f); n++)
        if (strncmp(line, "live=0 bytes=0 guards=0 ", 24) != 0) fail_msg("a device left behind: %s", line);
    (void)fclose(f);
    assert_int_equal(n, n_device);
    assert_int_equal(truncate(report, 0), 0);
}

static void knob(const char *name, const char *call, long n) {
    char text[64];
    (void)snprintf(text, sizeof(text), "%s%s%ld", call ? call : "", call ? ":" : "", n);
    assert_int_equal(setenv(name, text, 1), 0);
}

static int open_dev(wk_dev **d, wk_err *err) {
    const wk_host host = {.size = sizeof(host), .n_thread = 1, .n_cpu = 1};
    return ops->open(d, 0, &host, err);
}

/* ---- one drive ----------------------------------------------------------------------------------- */

static int between(wk_exec *const *x, const wk_part *part, int32_t n_tok, wk_err *err) {
    int32_t val[MAX_IN], n = 0;
    WK_TRY(wk_part_inputs(plan, part, val, MAX_IN, &n, err));
    for (int32_t i = 0; i < n; i++) {
        float mem[N_TOK * 256];
        assert_true(plan->val[val[i]].dim <= 256);
        WK_TRY(ops->get(x[0], val[i], n_tok, mem, err));
        WK_TRY(ops->put(x[1], val[i], n_tok, mem, err));
    }
    return WICK_OK;
}

static int pass(wk_exec *const *x, const wk_part *part, int32_t from, int32_t n, float *logits, outcome *o) {
    static const uint32_t page[] = {1, 0};
    int32_t tok[N_TOK];
    uint8_t bad[N_TOK] = {0};
    const int32_t last = n - 1;
    for (int32_t i = 0; i < n; i++) tok[i] = (from + i) * 7 % plan->n_vocab;
    const wk_batch_seq seq = {0, n, from, 2, page};
    const wk_batch b = {.n_tok = n, .n_seq = 1, .n_out = 1, .tok = tok, .out = &last, .seq = &seq, .zero = page,
                        .n_zero = from ? 0 : 2, .logits = logits, .bad_tok = bad};
    o->stage = "run";
    WK_TRY(ops->run(x[0], &b, &o->err));
    o->stage = "wait";
    WK_TRY(ops->wait(x[0], &o->err));
    o->stage = "between";
    WK_TRY(between(x, &part[1], n, &o->err));
    o->stage = "run";
    WK_TRY(ops->run(x[1], &b, &o->err));
    o->stage = "wait";
    return ops->wait(x[1], &o->err);
}

/* Two parts on one device, a prompt and two tokens. */
static void drive(outcome *o) {
    wk_dev *d = NULL;
    wk_exec *x[2] = {0};
    const wk_part part[2] = {wk_part_make(plan, 0, 1), wk_part_make(plan, 1, plan->n_layer + 1)};
    memset(o, 0, sizeof(*o));
    o->stage = "open";
    o->rc = open_dev(&d, &o->err);
    for (int i = 0; i < 2 && !o->rc; i++) {
        o->stage = "prepare";
        o->rc = ops->prepare(&x[i], d, plan, &part[i], N_PAGE, &o->err);
    }
    for (int i = 0; i < N_PASS && !o->rc; i++)
        o->rc = pass(x, part, i ? N_TOK + i - 1 : 0, i ? 1 : N_TOK, o->logits[i], o);
    if (o->rc == WICK_E_DEVICE && x[1]) { /* a lost device stays lost, and may be left as it is */
        wk_err err = {0};
        const int a = ops->wait(x[0], &err), b = ops->wait(x[1], &err);
        assert_true(a == WICK_E_DEVICE || b == WICK_E_DEVICE);
    }
    ops->unprepare(x[1]);
    ops->unprepare(x[0]);
    ops->close(d);
}

static void check_error(const outcome *o, int code, long n) {
    if (o->rc != code || o->err.code != code || !o->err.message[0])
        fail_msg("%ld: %s came to %d, record %d \"%s\", wanted %d", n, o->stage, o->rc, (int)o->err.code,
                 o->err.message, code);
}

/* The n-th one fails, n = 1, 2, 3 ..., until there are no more. Returns how many there are. */
static long fail_each(const char *name, const char *call, int code) {
    outcome o;
    long n = 1;
    for (;; n++) {
        knob(name, call, n);
        drive(&o);
        assert_int_equal(unsetenv(name), 0);
        check_report(1);
        if (!o.rc) break;
        check_error(&o, code, n);
        assert_true(n < 10000);
    }
    assert_memory_equal(o.logits, clean.logits, sizeof(o.logits));
    return n - 1;
}

static void test_undisturbed(void **s) {
    (void)s;
    drive(&clean);
    if (clean.rc) fail_msg("%s: %s", clean.stage, clean.err.message);
    check_report(1);
}

static void test_each_allocation(void **s) {
    (void)s;
    const long n = fail_each("WICK_FAKE_NOMEM", NULL, WICK_E_NOMEM);
    print_message("%ld allocations\n", n);
    assert_true(n > 60);
}

static void test_each_call(void **s) {
    (void)s;
    static const char *const call[] = {"open", "upload", "run", "step", "wait", "put", "get"};
    for (size_t i = 0; i < sizeof(call) / sizeof(*call); i++) {
        const long n = fail_each("WICK_FAKE_FAIL", call[i], WICK_E_DEVICE);
        print_message("%s: %ld\n", call[i], n);
        assert_true(n > 0);
        if (strcmp(call[i], "step") == 0) assert_int_equal(n, N_PASS * plan->n_step);
        if (strcmp(call[i], "run") == 0) assert_int_equal(n, N_PASS * 2);
    }
}

static bool fault(void *ud, const char *call) {
    int *left = ud;
    assert_true(call && *call);
    return --*left == 0;
}

/* The host's own hook: asked before each of those calls. */
static void test_the_hosts_faults(void **s) {
    (void)s;
    const wk_part all = {0, plan->n_stage, 0, plan->n_layer};
    for (int n = 1;; n++) {
        int left = n;
        wk_err err = {0};
        wk_dev *d = NULL;
        wk_exec *x = NULL;
        const wk_host host = {.size = sizeof(host), .fault = fault, .fault_ud = &left};
        int rc = ops->open(&d, 0, &host, &err);
        if (!rc) rc = ops->prepare(&x, d, plan, &all, N_PAGE, &err);
        if (!rc) rc = ops->wait(x, &err);
        ops->unprepare(x);
        ops->close(d);
        check_report(1);
        if (!rc) {
            assert_true(n > 60);
            return;
        }
        assert_true(err.code == rc && err.message[0] && (rc == WICK_E_NOMEM || rc == WICK_E_DEVICE));
    }
}

static bool stop_at(void *ud, uint64_t done, uint64_t total) {
    int *left = ud;
    assert_true(done <= total);
    return --*left > 0;
}

static void test_loading_is_cancelled(void **s) {
    (void)s;
    for (int n = 1; n < 6; n++) {
        int left = n;
        wk_err err = {0};
        wk_dev *d = NULL;
        wk_exec *x = NULL;
        const wk_host host = {.size = sizeof(host), .progress = stop_at, .ud = &left};
        assert_int_equal(ops->open(&d, 0, &host, &err), WICK_OK);
        assert_int_equal(ops->prepare(&x, d, plan, NULL, N_PAGE, &err), WICK_E_CANCELED);
        assert_null(x);
        ops->close(d);
        check_report(1);
    }
}

/* ---- what it says of itself ---------------------------------------------------------------------- */

static void test_itself(void **s) {
    (void)s;
    char why[64] = "";
    wk_err err = {0};
    wk_dev *d = NULL;
    assert_int_equal(backend()->abi, WK_BACKEND_ABI);
    assert_int_equal(backend()->size, sizeof(wk_backend_ops));
    assert_string_equal(ops->name, "fake");
    assert_int_equal(ops->count(why, sizeof(why)), 1);
    knob("WICK_FAKE_ABI", NULL, 7);
    knob("WICK_FAKE_SIZE", NULL, 16);
    assert_int_equal(backend()->abi, 7);
    assert_int_equal(backend()->size, 16);
    assert_int_equal(unsetenv("WICK_FAKE_ABI") | unsetenv("WICK_FAKE_SIZE"), 0);
    assert_int_equal(backend()->size, sizeof(wk_backend_ops));
    knob("WICK_FAKE_COUNT", NULL, 0);
    assert_int_equal(ops->count(why, sizeof(why)), 0);
    assert_true(why[0] != 0);
    assert_int_equal(open_dev(&d, &err), WICK_E_DEVICE);
    assert_int_equal(unsetenv("WICK_FAKE_COUNT"), 0);
    const wk_host old = {.size = 8};
    assert_int_equal(ops->open(&d, 0, &old, &err), WICK_E_ABI);
    assert_null(d);
    ops->close(NULL);
    ops->unprepare(NULL);
    check_report(0);
}

static void test_what_it_cannot(void **s) {
    (void)s;
    wk_err err = {0};
    wk_dev *d = NULL;
    assert_int_equal(setenv("WICK_FAKE_CANNOT", "glu,F16", 1), 0);
    assert_int_equal(open_dev(&d, &err), WICK_OK);
    int n = 0;
    for (int32_t i = 0; i < plan->n_step; i++) {
        const bool can = ops->can(d, plan, &plan->step[i]);
        assert_int_equal(can, plan->step[i].op != WK_OP_glu);
        n += !can;
    }
    assert_int_equal(n, plan->n_layer);
    ops->close(d);
    assert_int_equal(unsetenv("WICK_FAKE_CANNOT"), 0);
    check_report(1);
}

static size_t free_memory(wk_dev *d) {
    wk_dev_info i;
    wk_err err = {0};
    assert_int_equal(ops->info(d, false, &i, &err), WICK_OK);
    assert_true(i.name[0] && i.driver[0] && i.mem_free <= i.mem_total && i.read_rate == 0);
    return i.mem_free;
}

/* What bytes says is what prepare takes: a device with that much is enough, with one byte less it is not. */
static void test_bytes(void **s) {
    (void)s;
    for (int32_t b = 0; b <= plan->n_layer + 1; b++) {
        const wk_part part = wk_part_make(plan, b, plan->n_layer + 1);
        const size_t n = ops->bytes(plan, &part, N_PAGE, 0);
        for (size_t less = 0; less < 2; less++) {
            wk_err err = {0};
            wk_dev *d = NULL;
            wk_exec *x = NULL;
            knob("WICK_FAKE_MEM", NULL, (long)(n - less));
            assert_int_equal(open_dev(&d, &err), WICK_OK);
            assert_int_equal(ops->prepare(&x, d, plan, &part, N_PAGE, &err), less ? WICK_E_NOMEM : WICK_OK);
            assert_int_equal(free_memory(d), less ? n - less : 0);
            ops->unprepare(x);
            assert_int_equal(free_memory(d), n - less);
            ops->close(d);
        }
        check_report(2);
    }
    assert_int_equal(unsetenv("WICK_FAKE_MEM"), 0);
    const wk_part all = {0, plan->n_stage, 0, plan->n_layer};
    assert_int_equal(ops->bytes(plan, NULL, N_PAGE, 0), ops->bytes(plan, &all, N_PAGE, 0));
}

/* ---- callers' mistakes --------------------------------------------------------------------------- */

static void refused(int rc, const wk_err *err, const char *word) {
    assert_int_equal(rc, WICK_E_ARG);
    if (!strstr(err->message, word)) fail_msg("\"%s\" says nothing of \"%s\"", err->message, word);
}

static void test_refusals(void **s) {
    (void)s;
    wk_err err = {0};
    wk_dev *d = NULL;
    wk_exec *x = NULL;
    const wk_part part = wk_part_make(plan, 1, plan->n_layer + 1);
    int32_t val[MAX_IN], n_val = 0;
    float mem[N_TOK * 256] = {0}, logits[MAX_VOCAB];
    assert_int_equal(wk_part_inputs(plan, &part, val, MAX_IN, &n_val, &err), WICK_OK);
    assert_true(n_val > 0);
    assert_int_equal(open_dev(&d, &err), WICK_OK);
    assert_int_equal(ops->prepare(&x, d, plan, &part, N_PAGE, &err), WICK_OK);
    const uint32_t page[] = {0, 1}, far[] = {0, N_PAGE};
    const int32_t out[] = {1, 1}, tok[4] = {0};
    wk_batch_seq seq = {0, 4, 0, 1, page};
    wk_batch b = {.n_tok = 4, .n_seq = 1, .n_out = 1, .tok = tok, .out = out, .seq = &seq, .logits = logits};
    refused(ops->run(x, &b, &err), &err, "were put");
    for (int32_t i = 0; i < n_val; i++) assert_int_equal(ops->put(x, val[i], 4, mem, &err), WICK_OK);
    b.n_out = 2;
    refused(ops->run(x, &b, &err), &err, "row");
    b.n_out = 1;
    seq.pos0 = 61;
    refused(ops->run(x, &b, &err), &err, "pages");
    seq = (wk_batch_seq){0, 4, 61, 2, far};
    refused(ops->run(x, &b, &err), &err, "page");
    seq = (wk_batch_seq){0, 5, 0, 1, page};
    refused(ops->run(x, &b, &err), &err, "sequence");
    seq.n_tok = 4;
    b.zero = far;
    b.n_zero = 2;
    refused(ops->run(x, &b, &err), &err, "page");
    b.n_zero = 0;
    b.logits = NULL;
    refused(ops->run(x, &b, &err), &err, "logits");
    b.logits = logits;
    b.n_tok = N_TOK + 1;
    refused(ops->run(x, &b, &err), &err, "takes");
    refused(ops->put(x, plan->logits, 1, mem, &err), &err, "itself");
    refused(ops->put(x, val[0], N_TOK + 1, mem, &err), &err, "rows");
    refused(ops->get(x, plan->n_val, 1, mem, &err), &err, "rows");
    ops->unprepare(x);
    const wk_part beyond = {0, plan->n_stage + 1, 0, plan->n_layer},
                  no_cache = {0, plan->n_stage, 1, plan->n_layer - 1};
    refused(ops->prepare(&x, d, plan, &beyond, N_PAGE, &err), &err, "no part");
    refused(ops->prepare(&x, d, plan, &no_cache, N_PAGE, &err), &err, "layer 0");
    ops->close(d);
    check_report(1);
}

/* Nothing is there before wait; what was put serves one pass. */
static void test_early_looks(void **s) {
    (void)s;
    static const uint32_t page[] = {0};
    static const int32_t tok[] = {1, 2}, out[] = {1};
    wk_err err = {0};
    wk_dev *d = NULL;
    wk_exec *x = NULL;
    float logits[MAX_VOCAB] = {0};
    const wk_batch_seq seq = {0, 2, 0, 1, page};
    wk_batch b = {.n_tok = 2, .n_seq = 1, .n_out = 1, .tok = tok, .out = out, .seq = &seq, .zero = page, .n_zero = 1,
                  .logits = logits};
    assert_int_equal(open_dev(&d, &err), WICK_OK);
    assert_int_equal(ops->prepare(&x, d, plan, NULL, N_PAGE, &err), WICK_OK);
    assert_int_equal(ops->run(x, &b, &err), WICK_OK);
    for (int32_t i = 0; i < plan->n_vocab; i++) assert_true(isnan(logits[i]));
    assert_int_equal(ops->wait(x, &err), WICK_OK);
    for (int32_t i = 0; i < plan->n_vocab; i++) assert_true(isfinite(logits[i]));
    b.n_zero = 0; /* a page that nobody zeroed is poison, where nothing was written */
    wk_exec *y = NULL;
    const wk_batch_seq behind = {0, 2, 30, 1, page};
    b.seq = &behind;
    assert_int_equal(ops->prepare(&y, d, plan, NULL, N_PAGE, &err), WICK_OK);
    assert_int_equal(ops->run(y, &b, &err), WICK_OK);
    assert_int_equal(ops->wait(y, &err), WICK_OK);
    assert_true(isnan(logits[0]));
    assert_int_equal(ops->run(x, &b, &err), WICK_OK); /* and never waited for */
    ops->unprepare(y);
    ops->unprepare(x);
    ops->close(d);
    check_report(1);
}

/* A file with a value that is not a number. */
static void test_not_finite(void **s) {
    (void)s;
    wk_buf bytes;
    wk_store *st = NULL;
    wk_plan *p = NULL;
    wk_dev *d = NULL;
    wk_exec *x = NULL;
    wk_err err = {0};
    const nano_edit e = {.tensor = {{.name = "blk.1.ffn_up.weight", .ne = {8, 12}, .gguf = 0, .value = INFINITY}}};
    wk_buf_init(&bytes, 0);
    nano_build(&bytes, &e);
    if (nano_plan(&p, &st, &bytes, &err)) fail_msg("%s", err.message);
    assert_int_equal(open_dev(&d, &err), WICK_OK);
    assert_int_equal(ops->prepare(&x, d, p, NULL, 1, &err), WICK_E_FORMAT);
    assert_string_equal(err.message, "blk.1.ffn_up.weight holds a value that is not a finite number (row 0 of 12)");
    ops->close(d);
    check_report(1);
    wk_plan_free(p);
    wk_store_close(st);
    wk_buf_fini(&bytes);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_undisturbed),      cmocka_unit_test(test_each_allocation),
        cmocka_unit_test(test_each_call),        cmocka_unit_test(test_the_hosts_faults),
        cmocka_unit_test(test_loading_is_cancelled), cmocka_unit_test(test_itself),
        cmocka_unit_test(test_what_it_cannot),   cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_early_looks),
        cmocka_unit_test(test_not_finite),
    };
    if (argc != 2) return 2;
    module_path = argv[1];
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

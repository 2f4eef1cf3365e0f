/* test_updates.c: a step of the trainer against the same step by hand: which samples it takes, what it
 * divides by, where it clips, how it accumulates; and what it writes against itself. Documents with prompts
 * of unlike length, so that a mean of means shows. */
#include <math.h>

#include "engine/base/arena.h"
#include "engine/train/data_impl.h"
#include "engine/train/lora.h"
#include "engine/train/trainer.h"
#include "simd/level.h"
#include "tests/train/fixture.h"
#include "tests/train/prefill.h"
#include "tests/unit/folder.h"
#include "tests/unit/unit.h"

enum { N_CTX = 32, BATCH = 6, N_STEP = 4, N_DOC = 40 };
static const double LR = 1e-2, CLIP = 0.5;
static const char *const model_path = "tests/golden/tiny/llama.gguf";

/* Questions and answers; an answer has 1 to 13 words. */
static void write_text(void) {
    static const char *const words[] = {"the", "of", "and", "world", "in",
                                        "on",  "at", "is",  "all",   "or"};
    FILE *f = fopen(path_in("a.jsonl").p, "w");
    assert_non_null(f);
    for (int i = 0; i < N_DOC; i++) {
        (void)fprintf(f, "{\"prompt\":\"%s %d\",\"completion\":\"", words[i % 10], i * i);
        for (int j = 0; j <= (i * 5) % 13; j++)
            (void)fprintf(f, "%s%s", j ? " " : "", words[(i + j * j) % 10]);
        (void)fprintf(f, "\"}\n");
    }
    assert_int_equal(fclose(f), 0);
}

static int make_data(void **state) {
    (void)state;
    wk_err err = {0};
    wk_store *s = NULL;
    wk_tok *tok = NULL;
    if (folder_make(state)) return -1;
    write_text();
    const folder_path text = path_in("a.jsonl");
    const char *list[] = {text.p};
    if (wk_store_open(&s, model_path, &err) || wk_tok_open(&tok, s, &err))
        fail_msg("%s", err.message);
    const wk_pack_options o = {.path = list, .n_path = 1, .tok = tok, .tok_hash = wk_tok_hash(s)};
    if (wk_data_pack(path_in("a.wtok").p, &o, NULL, &err)) fail_msg("%s", err.message);
    wk_tok_close(tok);
    wk_store_close(s);
    return 0;
}

static int remove_data(void **state) {
    (void)state;
    (void)unlink(path_in("a.jsonl").p);
    (void)unlink(path_in("a.wtok").p);
    return folder_remove(state);
}

static wk_trainer *open_trainer(const char *data, const char *adapter, int32_t micro,
                                int32_t threads) {
    wk_err err = {0};
    wk_trainer *t = NULL;
    const wk_train_config c = {.model = model_path,
                               .adapter = adapter,
                               .data = data,
                               .n_ctx = N_CTX,
                               .by_document = true,
                               .batch = BATCH,
                               .micro = micro,
                               .steps = 100,
                               .warmup = 0,
                               .schedule = WK_LR_CONST,
                               .lr = LR,
                               .lr_end = 1.0,
                               .decay = 0.1,
                               .beta1 = 0.9,
                               .beta2 = 0.95,
                               .eps = 1e-8,
                               .clip = CLIP,
                               .seed = 3,
                               .gemm = WK_SGEMM_WICK,
                               .threads = threads,
                               .recompute = 0,
                               .cpu_mask = UINT32_MAX};
    if (wk_trainer_open(&t, &c, &err)) fail_msg("%s", err.message);
    return t;
}

/* ---- by hand --------------------------------------------------------------------------------------- */

typedef struct hand {
    fixture f;
    wk_optim opt;
    wk_data *data;
} hand;

static void hand_open(hand *h, const char *data) {
    wk_err err = {0};
    const wk_optim_options o = {.decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    fixture_open(&h->f, model_path, &(fixture_options){.max_tok = N_CTX});
    if (wk_optim_init(&h->opt, h->f.grad, &h->f.gk, h->f.team, wk_texec_params(h->f.exec),
                      wk_texec_grads(h->f.exec), &o, &err) ||
        wk_data_open(&h->data, data, 0, &err))
        fail_msg("%s", err.message);
}

static void hand_close(hand *h) {
    wk_optim_fini(&h->opt);
    wk_data_close(h->data);
    fixture_close(&h->f);
}

/* One sample after the other; loss and norm of the mean over all that counts. */
static void hand_step(hand *h, int64_t step, double *loss, double *norm, int64_t *counted) {
    const wk_sample_spec s = {
        .split = WK_SPLIT_TRAIN, .unit = WK_UNIT_DOCS, .n_ctx = N_CTX, .seed = 3};
    int32_t tok[N_CTX], target[N_CTX], n_seq;
    wk_tseq seq[N_CTX];
    double sum = 0.0;
    *counted = 0;
    for (int i = 0; i < BATCH; i++) {
        wk_tloss l;
        const int32_t n =
            wk_data_sample(h->data, &s, (uint64_t)(step * BATCH + i), tok, target, seq, &n_seq);
        const wk_tbatch b = {n, n_seq, tok, target, seq};
        wk_texec_run(h->f.exec, &b, true, &l);
        sum += l.sum;
        *counted += l.counted;
    }
    *loss = sum / (double)*counted;
    *norm = wk_optim_norm(&h->opt) / (double)*counted;
    const double clip = CLIP / (*norm + 1e-6);
    wk_optim_step(&h->opt, step + 1, LR, (clip < 1.0 ? clip : 1.0) / (double)*counted);
}

/* ---- tests ----------------------------------------------------------------------------------------- */

static void close_to(const char *what, double got, double want, double bound) {
    if (!(fabs(got - want) <= bound * fabs(want)))
        fail_msg("%s is %.9f, wanted %.9f", what, got, want);
}

/* Sample by sample it is the step by hand, to the bit; some steps are clipped and some are not. */
static void test_by_hand(void **state) {
    (void)state;
    const folder_path data = path_in("a.wtok");
    wk_err err = {0};
    wk_train_step s;
    hand h;
    hand_open(&h, data.p);
    wk_trainer *t = open_trainer(data.p, NULL, N_CTX, 1);
    int n_clipped = 0;
    for (int i = 0; i < N_STEP; i++) {
        double loss, norm;
        int64_t counted;
        hand_step(&h, i, &loss, &norm, &counted);
        if (wk_trainer_step(t, &s, &err)) fail_msg("%s", err.message);
        assert_int_equal(s.counted, counted);
        close_to("the loss", s.loss, loss, 1e-12);
        close_to("the norm", s.gnorm, norm, 1e-12);
        assert_memory_equal(wk_texec_params(t->x.x), wk_texec_params(h.f.exec),
                            h.f.grad->n_elem * sizeof(float));
        n_clipped += norm > CLIP;
    }
    assert_true(n_clipped > 0);
    wk_trainer_close(t);
    hand_close(&h);
}

/* How a batch is cut into micro-batches changes the order of the sums, not what they are divided by. */
static void test_micro_batches(void **state) {
    (void)state;
    const folder_path data = path_in("a.wtok");
    static const int32_t micro[] = {N_CTX, 2 * N_CTX, BATCH * N_CTX};
    wk_err err = {0};
    wk_train_step first[N_STEP], s;
    for (int m = 0; m < 3; m++) {
        wk_trainer *t = open_trainer(data.p, NULL, micro[m], 2);
        for (int i = 0; i < N_STEP; i++) {
            if (wk_trainer_step(t, &s, &err)) fail_msg("%s", err.message);
            if (m == 0) first[i] = s;
            assert_int_equal(s.counted, first[i].counted);
            close_to("the loss", s.loss, first[i].loss, 1e-5); /* what ten steps are allowed */
            close_to("the norm", s.gnorm, first[i].gnorm, 1e-4);
        }
        wk_trainer_close(t);
    }
}

/* What is written after some steps gives the trainer's logits, bit for bit, in the engine that samples and serves:
 * nothing in it is from before. */
static void check_export(const char *adapter) {
    const folder_path data = path_in("a.wtok"), out = path_in("out.gguf");
    wk_err err = {0};
    wk_train_step step;
    wk_store *base = NULL, *made = NULL;
    int32_t tok[N_CTX];
    double loss;
    wk_trainer *t = open_trainer(data.p, adapter, N_CTX, 2);
    const size_t n = (size_t)N_CTX * (size_t)t->s.plan->n_vocab;
    float *before = wk_new_n(float, n), *now = wk_new_n(float, n);
    for (int32_t i = 0; i < N_CTX; i++) tok[i] = (i * 37 + 5) % t->s.plan->n_vocab;
    if (wk_trainer_forward(t, tok, N_CTX, before, &loss, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++)
        if (wk_trainer_step(t, &step, &err)) fail_msg("%s", err.message);
    if (wk_trainer_forward(t, tok, N_CTX, now, &loss, &err) || wk_trainer_export(t, out.p, &err) ||
        wk_store_open(&base, model_path, &err) || wk_store_open(&made, out.p, &err))
        fail_msg("%s", err.message);
    float *served = adapter ? prefill(base, made, tok, N_CTX) : prefill(made, NULL, tok, N_CTX);
    assert_memory_not_equal(before, now, n * sizeof(float));
    assert_memory_equal(served, now, n * sizeof(float));
    wk_free_aligned(served);
    wk_free(before);
    wk_free(now);
    wk_store_close(made);
    wk_store_close(base);
    wk_trainer_close(t);
    assert_int_equal(unlink(out.p), 0);
}

static void test_export_model(void **state) {
    (void)state;
    check_export(NULL);
}

static void test_export_adapter(void **state) {
    (void)state;
    const folder_path adapter = path_in("lora.gguf");
    const wk_lora_shape shape = {.rank = 4, .alpha = 8.0f, .on = "q,k,v,o,gate,up,down", .seed = 1};
    wk_err err = {0};
    wk_store *base = NULL;
    if (wk_store_open(&base, model_path, &err) || wk_lora_init(base, &shape, adapter.p, &err))
        fail_msg("%s", err.message);
    check_export(adapter.p);
    wk_store_close(base);
    assert_int_equal(unlink(adapter.p), 0);
}

/* The ids of packed data are indices into the embedding: one packed by a larger vocabulary under the same name. */
static void test_vocabulary(void **state) {
    (void)state;
    const folder_path data = path_in("a.wtok"), forged = path_in("forged.wtok");
    wk_err err = {0};
    wk_map_file m;
    wk_trainer *t = NULL;
    if (wk_os_map(&m, data.p, &err)) fail_msg("%s", err.message);
    uint8_t *p = wk_alloc(m.n);
    memcpy(p, m.p, m.n);
    uint64_t n_vocab, larger;
    memcpy(&n_vocab, p + m.n - WK_WTOK_FOOT + 24, 8);
    for (int more = 0; more < 2; more++) {
        larger = n_vocab + (uint64_t)more;
        memcpy(p + m.n - WK_WTOK_FOOT + 24, &larger, 8);
        const wk_hash h = wk_wtok_hash(p, m.n);
        memcpy(p + m.n - 16, &h.lo, 8);
        memcpy(p + m.n - 8, &h.hi, 8);
        FILE *f = fopen(forged.p, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(p, 1, m.n, f), m.n);
        assert_int_equal(fclose(f), 0);
        const wk_train_config c = {.model = model_path, .data = forged.p, .n_ctx = N_CTX, .by_document = true,
                                   .batch = BATCH, .steps = 1, .lr = LR, .lr_end = 1.0, .beta1 = 0.9, .beta2 = 0.9,
                                   .eps = 1e-8, .gemm = WK_SGEMM_WICK, .threads = 1, .cpu_mask = UINT32_MAX};
        const int rc = wk_trainer_open(&t, &c, &err);
        if (rc != (more ? WICK_E_ARG : WICK_OK)) fail_msg("%d: %s", rc, err.message);
        wk_trainer_close(t);
    }
    char want[128];
    (void)snprintf(want, sizeof(want), "forged.wtok: holds ids up to %d, the model has %d", (int)n_vocab, (int)n_vocab);
    if (!strstr(err.message, want)) fail_msg("%s", err.message);
    wk_os_unmap(&m);
    wk_free(p);
    assert_int_equal(unlink(forged.p), 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand), cmocka_unit_test(test_micro_batches),
        cmocka_unit_test(test_export_model), cmocka_unit_test(test_export_adapter),
        cmocka_unit_test(test_vocabulary)};
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, make_data, remove_data);
}

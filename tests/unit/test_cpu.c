/* test_cpu.c: the host as a device: the same bits whether steps are grouped into stages or not, whether a sequence runs
 * alone or beside others, in one piece or in many, with 1, 2 or 3 threads, whichever rows are asked for, wherever its
 * pages lie, whatever they held before, and when they are copies. */
#include "tests/unit/cpu_dev.h"

#include <stdio.h>

#include "engine/base/rng.h"
#include "engine/cpu/exec.h"
#include "simd/kernels.h"

enum { MAX_TOK = 224, MAX_OUT = 224, N_PAGE = 16, N_IDS = 200, N_LONG = 720 };

static const char *const arch[] = {"llama", "qwen3", "gemma3"};
#define NEAR 6e-4 /* measured 1.9e-4 */
enum { HAS_BLOCKS = 1 }; /* whose head_dim 32 divides: a Q8_0 cache can be had */
static int32_t ids[4][N_IDS], long_ids[N_LONG];

static const wk_backend_ops *ops(void) { return wk_cpu_backend(); }

static int set_up(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 4 * N_IDS; i++) {
        uint32_t r[4];
        const uint32_t c[4] = {i, 0, 0, 0};
        wk_philox(r, 1, c);
        ids[i / N_IDS][i % N_IDS] = (int32_t)(r[0] % 288);
        if (i < N_LONG) long_ids[i] = (int32_t)(r[1] % 288);
    }
    return 0;
}

static dev *open_dev(const char *name, int kv_type, int n_thread, bool ungrouped, bool keep) {
    char path[96];
    const wk_plan_options o = {.max_tok = MAX_TOK, .max_out = MAX_OUT, .kv_type = kv_type,
                               .ungrouped = ungrouped, .keep = keep};
    (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.gguf", name);
    return dev_open(path, &o, n_thread, N_PAGE, NULL);
}

static size_t row_bytes(const dev *d) { return (size_t)d->plan->n_vocab * sizeof(float); }

static void go(dev *d, const wk_batch *b) {
    wk_err err = {0};
    wk_batch c = *b;
    c.logits = d->logits;
    c.bad_tok = d->bad;
    memset(d->bad, 0, MAX_TOK);
    memset(d->logits, 0xff, (size_t)MAX_OUT * row_bytes(d));
    if (ops()->run(d->exec, &c, &err) || ops()->wait(d->exec, &err)) fail_msg("%s", err.message);
    for (int32_t i = 0; i < b->n_tok; i++) assert_int_equal(d->bad[i], 0);
}

/* Ids i0 .. i1-1 of sequence s on these pages; logits of all of them, or of the last alone. */
static void run(dev *d, int s, int32_t i0, int32_t i1, const uint32_t *page, bool all) {
    int32_t out[MAX_TOK];
    uint32_t zero[8];
    int32_t n_zero = 0;
    for (int32_t i = 0; i < i1 - i0; i++) out[i] = all ? i : i1 - i0 - 1;
    for (int32_t p = (i0 + 63) / 64; p < (i1 + 63) / 64; p++) zero[n_zero++] = page[p];
    const wk_batch_seq seq = {0, i1 - i0, i0, (i1 + 63) / 64, page};
    const wk_batch b = {.n_tok = i1 - i0, .n_seq = 1, .n_out = all ? i1 - i0 : 1, .tok = &ids[s][i0], .out = out,
                        .seq = &seq, .zero = zero, .n_zero = n_zero};
    go(d, &b);
}

/* [N_IDS][V] logits of sequence s in one piece: what everything else is compared with. */
static float *whole(const char *name, int kv_type, int s) {
    static const uint32_t page[] = {0, 1, 2, 3};
    dev *d = open_dev(name, kv_type, 1, false, false);
    float *want = wk_alloc((size_t)N_IDS * row_bytes(d));
    assert_non_null(want);
    run(d, s, 0, N_IDS, page, true);
    memcpy(want, d->logits, (size_t)N_IDS * row_bytes(d));
    dev_close(d);
    return want;
}

static void same(const dev *d, const float *want, int32_t want_row, int32_t row, int32_t n, const char *what) {
    const size_t v = (size_t)d->plan->n_vocab;
    for (int32_t i = 0; i < n; i++)
        if (memcmp(want + (size_t)(want_row + i) * v, d->logits + (size_t)(row + i) * v, row_bytes(d)) != 0)
            fail_msg("%s: the logits of position %d differ", what, (int)(want_row + i));
}

/* ---- plans and threads --------------------------------------------------------------------------- */

static void test_grouping_and_threads(void **s) {
    (void)s;
    static const uint32_t page[] = {3, 0, 7, 5};
    for (int a = 0; a < 3; a++) {
        float *want = whole(arch[a], WK_KV_F16, 0);
        for (int way = 0; way < 5; way++) {
            const bool ungrouped = way == 1 || way == 3, keep = way == 2 || way == 3;
            const int threads = way < 3 ? 2 : way == 3 ? 1 : 3;
            dev *d = open_dev(arch[a], WK_KV_F16, threads, ungrouped, keep);
            run(d, 0, 0, N_IDS, page, true);
            same(d, want, 0, 0, N_IDS, ungrouped ? "ungrouped" : "grouped");
            dev_close(d);
        }
        wk_free(want);
    }
}

/* Chunks with every size about the borders of "few rows", a block of attention, and a page. */
static void test_chunks(void **s) {
    (void)s;
    static const uint32_t page[] = {9, 8, 15, 0};
    static const int32_t chunk[] = {1, 2, 3, 1, 12, 13, 31, 1, 1, 63, 2, 65, 1, 4};
    for (int a = 0; a < 3; a++)
        for (int kv = 0; kv < WK_KV_TYPE_COUNT; kv++) {
            if (kv == WK_KV_Q8_0 && a != HAS_BLOCKS) continue;
            float *want = whole(arch[a], kv, 1);
            for (int threads = 1; threads <= 3; threads += 2) {
                dev *d = open_dev(arch[a], kv, threads, false, false);
                int32_t at = 0;
                for (size_t i = 0; at < N_IDS && i < sizeof(chunk) / sizeof(*chunk); i++) {
                    const int32_t end = at + chunk[i] < N_IDS ? at + chunk[i] : N_IDS;
                    run(d, 1, at, end, page, true);
                    same(d, want, at, 0, end - at, arch[a]);
                    at = end;
                }
                assert_int_equal(at, N_IDS);
                dev_close(d);
            }
            wk_free(want);
        }
}

/* What Q8_0 rounds away: logits stay near those of f16, as the golden hashes alone could not tell. */
static void test_q8_0_is_near_f16(void **s) {
    (void)s;
    float *f = whole(arch[HAS_BLOCKS], WK_KV_F16, 1), *q = whole(arch[HAS_BLOCKS], WK_KV_Q8_0, 1);
    double diff = 0, size = 0;
    dev *d = open_dev(arch[HAS_BLOCKS], WK_KV_Q8_0, 1, false, false);
    for (size_t i = 0; i < N_IDS * (size_t)d->plan->n_vocab; i++) {
        diff += ((double)f[i] - (double)q[i]) * ((double)f[i] - (double)q[i]);
        size += (double)f[i] * (double)f[i];
    }
    dev_close(d);
    print_message("q8_0 cache: error energy %.2e of the logits'\n", diff / size);
    assert_true(diff > 0 && diff < NEAR * size);
    wk_free(f);
    wk_free(q);
}

/* Attention of one token over many pages is cut into runs that end in any order: as many as threads want. */
static void go_long(dev *d, int32_t i0, int32_t n, const uint32_t *page) {
    int32_t out[MAX_TOK];
    for (int32_t i = 0; i < n; i++) out[i] = i;
    const int32_t p0 = (i0 + 63) / 64, p1 = (i0 + n + 63) / 64;
    const wk_batch_seq seq = {0, n, i0, p1, page};
    const wk_batch b = {.n_tok = n, .n_seq = 1, .n_out = n, .tok = &long_ids[i0], .out = out, .seq = &seq,
                        .zero = page + p0, .n_zero = p1 - p0};
    go(d, &b);
}

static void test_long_context(void **s) {
    (void)s;
    static const uint32_t page[] = {5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10};
    for (int round = 0; round < 4; round++) {
        const int a = round < 3 ? round : HAS_BLOCKS, kv = round < 3 ? WK_KV_F16 : WK_KV_Q8_0;
        float *want = NULL;
        for (int threads = 1; threads <= 4; threads++) {
            dev *d = open_dev(arch[a], kv, threads, false, false);
            for (int32_t i = 0; i < 672; i += 224) go_long(d, i, 224, page);
            if (!want) { /* in one piece */
                want = wk_alloc((size_t)(N_LONG - 672) * row_bytes(d));
                assert_non_null(want);
                go_long(d, 672, N_LONG - 672, page);
                memcpy(want, d->logits, (size_t)(N_LONG - 672) * row_bytes(d));
            }
            for (int32_t i = 672; i < N_LONG; i++) {
                go_long(d, i, 1, page);
                same(d, want, i - 672, 0, 1, "token by token over 11 pages");
            }
            dev_close(d);
        }
        wk_free(want);
    }
}

/* ---- batches ------------------------------------------------------------------------------------- */

/* Four sequences step by step, each with a size of its own, rows picked from some of their tokens. */
static void check_crowd(const char *name, int threads) {
    static const uint32_t page[4][4] = {{12, 3, 9, 1}, {0, 8, 4, 2}, {5, 10, 6, 7}, {11, 13, 14, 15}};
    static const int32_t size[4] = {50, 1, 7, 22};
    float *want[4];
    int32_t past[4] = {0}, tok[MAX_TOK], out[MAX_TOK], pos[MAX_TOK], of[MAX_TOK];
    for (int q = 0; q < 4; q++) want[q] = whole(name, WK_KV_F16, q);
    dev *d = open_dev(name, WK_KV_F16, threads, false, false);
    for (int step = 0; past[0] < N_IDS - 50; step++) {
        wk_batch_seq seq[4];
        uint32_t zero[16];
        wk_batch b = {.tok = tok, .out = out, .seq = seq, .zero = zero};
        for (int q = 0; q < 4; q++) {
            const int32_t n = size[(q + step) % 4];
            if (past[q] + n > N_IDS || (step + q) % 5 == 4) continue; /* not all are there each time */
            for (int32_t p = (past[q] + 63) / 64; p < (past[q] + n + 63) / 64; p++) zero[b.n_zero++] = page[q][p];
            seq[b.n_seq++] = (wk_batch_seq){b.n_tok, n, past[q], (past[q] + n + 63) / 64, page[q]};
            for (int32_t i = 0; i < n; i++, b.n_tok++) {
                tok[b.n_tok] = ids[q][past[q] + i];
                if ((past[q] + i) % 3 != (int32_t)step % 3) continue;
                out[b.n_out] = b.n_tok;
                pos[b.n_out] = past[q] + i;
                of[b.n_out++] = q;
            }
            past[q] += n;
        }
        go(d, &b);
        for (int32_t i = 0; i < b.n_out; i++) same(d, want[of[i]], pos[i], i, 1, "in a crowd");
    }
    dev_close(d);
    for (int q = 0; q < 4; q++) wk_free(want[q]);
}

static void test_crowd(void **s) {
    (void)s;
    for (int a = 0; a < 3; a++) {
        check_crowd(arch[a], 1);
        check_crowd(arch[a], 2);
    }
}

/* No row, the first, the last, two in the middle: what is not asked for changes nothing. */
static void test_rows_asked_for(void **s) {
    (void)s;
    static const uint32_t page[] = {0, 1, 2, 3};
    static const int32_t rows[][3] = {{0, 0, 0}, {1, 0, 0}, {1, 1, 0}, {2, 0, 1}, {1, 99, 0}, {2, 33, 34}, {2, 0, 99}};
    for (int a = 0; a < 3; a++) {
        float *want = whole(arch[a], WK_KV_F16, 2);
        dev *d = open_dev(arch[a], WK_KV_F16, 2, false, false);
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
            const int32_t n = rows[i][1] < 2 && rows[i][2] < 2 ? 2 : 100; /* few tokens too */
            const wk_batch_seq seq = {0, n, 0, (n + 63) / 64, page};
            const wk_batch b = {.n_tok = n, .n_seq = 1, .n_out = rows[i][0], .tok = ids[2], .out = &rows[i][1],
                                .seq = &seq, .zero = page, .n_zero = (n + 63) / 64};
            go(d, &b);
            for (int32_t k = 0; k < rows[i][0]; k++) same(d, want, rows[i][1 + k], k, 1, arch[a]);
        }
        run(d, 2, 100, 101, page, false);
        run(d, 2, 101, N_IDS, page, true);
        same(d, want, 101, 0, N_IDS - 101, "after a batch without rows");
        dev_close(d);
        wk_free(want);
    }
}

/* ---- pages --------------------------------------------------------------------------------------- */

/* All bytes of a page from position `from` on, in every layer and head: K lies in lanes of 16, V in rows. */
static void check_zero_behind(const dev *d, uint32_t page, int32_t from) {
    const size_t hd = (size_t)d->plan->head_dim;
    for (int32_t layer = 0; layer < d->plan->n_layer; layer++)
        for (int32_t head = 0; head < d->plan->n_head_kv; head++) {
            const uint16_t *k = (const uint16_t *)(const void *)wk_kv_head(d->exec, page, layer, head);
            const uint16_t *v = k + hd * WK_KV_PAGE;
            for (size_t slot = (size_t)from; slot < WK_KV_PAGE; slot++)
                for (size_t j = 0; j < hd; j++) {
                    assert_int_equal(k[slot / 16 * hd * 16 + j * 16 + slot % 16], 0);
                    assert_int_equal(v[slot * hd + j], 0);
                }
        }
}

/* A page handed out anew is zeroed whatever it held, and no other is touched. */
static void test_pages_are_zeroed(void **s) {
    (void)s;
    static const uint32_t first[] = {6, 2, 4, 1}, other[] = {0, 3, 5, 7};
    float *want0 = whole("gemma3", WK_KV_F16, 0), *want1 = whole("gemma3", WK_KV_F16, 1);
    dev *d = open_dev("gemma3", WK_KV_F16, 2, false, false);
    run(d, 0, 0, 150, first, true);
    run(d, 1, 0, N_IDS, other, true);
    run(d, 0, 150, N_IDS, first, true); /* its pages stand as they were */
    same(d, want0, 150, 0, N_IDS - 150, "after another one");
    run(d, 1, 0, N_IDS, first, true); /* the same pages in new hands */
    same(d, want1, 0, 0, N_IDS, "on used pages");
    run(d, 0, 0, 70, other, true);
    check_zero_behind(d, other[1], 6);
    dev_close(d);
    wk_free(want0);
    wk_free(want1);
}

/* A copied tail goes on by itself, and so does the original. The target may be a page that is new. */
static void check_copy(const char *name, bool zero_too, int threads) {
    static const uint32_t a[] = {1, 2, 3, 4}, b[] = {1, 9, 10, 11};
    const uint32_t copy[] = {9, 2}, zero[] = {8, 7, 12, 9, 13};
    float *want = whole(name, WK_KV_F16, 3);
    dev *d = open_dev(name, WK_KV_F16, threads, false, false);
    run(d, 3, 0, 100, a, true);
    const int32_t out[] = {0};
    const wk_batch_seq seq = {0, 1, 100, 2, b};
    const wk_batch batch = {.n_tok = 1, .n_seq = 1, .n_out = 1, .tok = &ids[3][100], .out = out, .seq = &seq,
                            .copy = copy, .n_copy = 1, .zero = zero, .n_zero = zero_too ? 5 : 0};
    go(d, &batch);
    same(d, want, 100, 0, 1, "a copied page");
    run(d, 0, 101, 128, b, true); /* other tokens on the copy */
    run(d, 3, 100, N_IDS, a, true);
    same(d, want, 100, 0, N_IDS - 100, "the original of a copy");
    dev_close(d);
    wk_free(want);
}

static void test_pages_are_copied(void **s) {
    (void)s;
    for (int threads = 1; threads <= 3; threads++)
        for (int i = 0; i < 6; i++) check_copy(arch[i % 3], i >= 3, threads);
}

/* ---- refusals and numbers ------------------------------------------------------------------------ */

static void test_refusals(void **s) {
    (void)s;
    wk_err err = {0};
    wk_dev *no = NULL;
    const wk_host host = {.size = sizeof(host), .n_thread = 1, .n_cpu = 1, .cpu_mask = UINT32_MAX};
    assert_int_equal(ops()->open(&no, 1, &host, &err), WICK_E_DEVICE);
    assert_null(no);
    assert_int_equal(ops()->count(NULL, 0), 1);
    dev *d = open_dev("llama", WK_KV_F16, 1, false, false);
    wk_batch b = {.n_tok = 0, .logits = d->logits, .bad_tok = d->bad};
    assert_int_equal(ops()->run(d->exec, &b, &err), WICK_E_ARG);
    b.n_tok = MAX_TOK + 1;
    assert_int_equal(ops()->run(d->exec, &b, &err), WICK_E_ARG);
    b.n_tok = 1;
    b.n_out = MAX_OUT + 1;
    assert_int_equal(ops()->run(d->exec, &b, &err), WICK_E_ARG);
    assert_true(err.message[0] != 0);
    ops()->unprepare(NULL);
    ops()->close(NULL);
    dev_close(d);
}

/* A vector of f32 in the packed weights; the mapping is writable. */
static float *vector_of(dev *d, const char *name, int32_t *n) {
    for (int32_t i = 0; i < d->plan->n_weight; i++)
        if (strcmp(d->plan->weight[i].name, name) == 0) {
            *n = d->plan->weight[i].k;
            return (float *)(void *)(d->exec->weights.p + (d->exec->w[i].p - d->exec->weights.p));
        }
    fail_msg("no weight %s", name);
    return NULL;
}

/* Keys and values beyond f16: every such token is marked, by whichever thread; f32 holds them. So do the scales of
 * Q8_0, which are 1/127 of the values, until those are as large. */
static void test_values_that_do_not_fit(void **s) {
    (void)s;
    static const uint32_t page[] = {0};
    static const struct {
        int type;
        float by;
        int n_bad;
    } of[] = {{WK_KV_F16, 1e7f, 20}, {WK_KV_F32, 1e7f, 0}, {WK_KV_Q8_0, 1e12f, 20}};
    for (int kv = 0; kv < 3; kv++) {
        wk_err err = {0};
        int32_t n = 0, n_bad = 0;
        const int32_t out[] = {19};
        dev *d = open_dev(of[kv].type == WK_KV_Q8_0 ? arch[HAS_BLOCKS] : "llama", of[kv].type, 3, false, false);
        float *norm = vector_of(d, "blk.0.attn_norm.weight", &n);
        for (int32_t i = 0; i < n; i++) norm[i] *= of[kv].by;
        const wk_batch_seq seq = {0, 20, 0, 1, page};
        const wk_batch b = {.n_tok = 20, .n_seq = 1, .n_out = 1, .tok = ids[0], .out = out, .seq = &seq, .zero = page,
                            .n_zero = 1, .logits = d->logits, .bad_tok = d->bad};
        assert_int_equal(ops()->run(d->exec, &b, &err), WICK_OK);
        for (int i = 0; i < 20; i++) n_bad += d->bad[i];
        assert_int_equal(n_bad, of[kv].n_bad);
        dev_close(d);
    }
}

/* Grouping is worth its name: fewer barriers than steps. */
static void test_stages_save_barriers(void **s) {
    (void)s;
    static const uint32_t page[] = {0, 1, 2, 3};
    for (int a = 0; a < 3; a++) {
        dev *g = open_dev(arch[a], WK_KV_F16, 2, false, false), *u = open_dev(arch[a], WK_KV_F16, 2, true, false);
        run(g, 0, 0, 1, page, true);
        run(u, 0, 0, 1, page, true);
        assert_true(wk_cpu_barriers(g->exec) * 2 < wk_cpu_barriers(u->exec));
        assert_true(wk_cpu_barriers(u->exec) >= (uint64_t)u->plan->n_step);
        dev_close(g);
        dev_close(u);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grouping_and_threads), cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_long_context),         cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_rows_asked_for),       cmocka_unit_test(test_q8_0_is_near_f16),
        cmocka_unit_test(test_pages_are_zeroed),     cmocka_unit_test(test_pages_are_copied),
        cmocka_unit_test(test_refusals),             cmocka_unit_test(test_stages_save_barriers),
        cmocka_unit_test(test_values_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

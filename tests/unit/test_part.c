/* test_part.c: parts of a plan: every stage, layer and weight in exactly the parts it belongs to, whatever the borders;
 * what crosses a border is what the dump of the plan says; a device refuses values that cannot be carried. */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "engine/base/arena.h"
#include "engine/cpu/cpu.h"
#include "engine/file/store.h"
#include "engine/graph/part.h"
#include "simd/kernels.h"

enum { MAX_TOK = 8, MAX_OUT = 4, MAX_IN = 8 };

static const char *const arch[] = {"llama", "qwen2", "qwen3", "gemma3"};

typedef struct model {
    wk_store *store;
    wk_plan *plan;
} model;

static void open_model(model *m, const char *name) {
    wk_err err = {0};
    char path[96];
    const wk_plan_options o = {.max_tok = MAX_TOK, .max_out = MAX_OUT, .kv_type = WK_KV_F16};
    (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.gguf", name);
    if (wk_store_open(&m->store, path, &err) || wk_plan_build(&m->plan, m->store, &o, &err))
        fail_msg("%s: %s", path, err.message);
}

static void close_model(model *m) {
    wk_plan_free(m->plan);
    wk_store_close(m->store);
}

static void count_step(void *ud, const wk_plan *p, const wk_step *s) { ((int32_t *)ud)[s - p->step]++; }

/* Neighbouring parts join without gap or overlap, and hold the layers that they say. */
static void test_borders(void **st) {
    (void)st;
    for (size_t a = 0; a < WK_COUNT(arch); a++) {
        model m;
        open_model(&m, arch[a]);
        const wk_plan *p = m.plan;
        const int32_t end = p->n_layer + 1;
        int32_t *seen = wk_new_n(int32_t, (size_t)p->n_step);
        assert_non_null(seen);
        for (int32_t from = 0; from <= end; from++)
            for (int32_t to = from; to <= end; to++) {
                const wk_part lo = wk_part_make(p, 0, from), in = wk_part_make(p, from, to), hi = wk_part_make(p, to, end);
                assert_int_equal(lo.stage_first, 0);
                assert_int_equal(in.stage_first, lo.n_stage);
                assert_int_equal(hi.stage_first, lo.n_stage + in.n_stage);
                assert_int_equal(lo.n_stage + in.n_stage + hi.n_stage, p->n_stage);
                assert_int_equal(lo.n_layer + in.n_layer + hi.n_layer, p->n_layer);
                assert_int_equal(in.layer_first, from < p->n_layer ? from : p->n_layer);
                assert_true((in.n_stage > 0) == (to > from));
                memset(seen, 0, (size_t)p->n_step * sizeof(*seen));
                wk_part_each(p, &lo, count_step, seen);
                wk_part_each(p, &in, count_step, seen);
                wk_part_each(p, &hi, count_step, seen);
                for (int32_t i = 0; i < p->n_step; i++) assert_int_equal(seen[i], 1);
                for (int32_t i = 0; i < p->n_step; i++) { /* K and V of a layer are in its part */
                    int32_t mine[1] = {0};
                    if (p->step[i].op != WK_OP_kvput && p->step[i].op != WK_OP_attn) continue;
                    const bool inside = p->step[i].layer >= from && p->step[i].layer < to;
                    memset(seen, 0, (size_t)p->n_step * sizeof(*seen));
                    wk_part_each(p, &in, count_step, seen);
                    mine[0] = seen[i];
                    assert_int_equal(mine[0], inside);
                }
            }
        wk_free(seen);
        close_model(&m);
    }
}

static void test_weights(void **st) {
    (void)st;
    for (size_t a = 0; a < WK_COUNT(arch); a++) {
        model m;
        open_model(&m, arch[a]);
        const wk_plan *p = m.plan;
        for (int32_t b = 1; b <= p->n_layer; b++) {
            const wk_part lo = wk_part_make(p, 0, b), hi = wk_part_make(p, b, p->n_layer + 1);
            for (int32_t i = 0; i < p->n_weight; i++) {
                const wk_weight *w = &p->weight[i];
                const bool in_lo = wk_part_uses(p, &lo, i), in_hi = wk_part_uses(p, &hi, i);
                assert_true(in_lo || in_hi);
                assert_true(wk_part_uses(p, NULL, i));
                if (w->layer >= 0 && !w->is_vector) assert_int_equal(in_lo, w->layer < b);
                if (in_lo && in_hi) assert_true(w->layer < 0); /* an embedding that is the head too */
            }
        }
        close_model(&m);
    }
}

/* All that the part reads and does not write, f32, from earlier stages; none for the first part. */
static void test_inputs(void **st) {
    (void)st;
    for (size_t a = 0; a < WK_COUNT(arch); a++) {
        model m;
        wk_err err = {0};
        int32_t val[MAX_IN], n = -1, one[1], n_one = -1;
        open_model(&m, arch[a]);
        const wk_plan *p = m.plan;
        for (int32_t b = 0; b <= p->n_layer; b++) {
            const wk_part hi = wk_part_make(p, b, p->n_layer + 1);
            assert_int_equal(wk_part_inputs(p, &hi, val, MAX_IN, &n, &err), WICK_OK);
            assert_true(b == 0 ? n == 0 : n >= 1 && n <= 2);
            for (int32_t i = 0; i < n; i++) {
                assert_true(i == 0 || val[i] > val[i - 1]);
                assert_int_equal(p->val[val[i]].type, WK_VAL_F32);
                assert_true(p->val[val[i]].stage_def < hi.stage_first && p->val[val[i]].stage_last >= hi.stage_first);
            }
            assert_int_equal(wk_part_inputs(p, &hi, one, 1, &n_one, &err), WICK_OK);
            assert_int_equal(n_one, n); /* counted, though there was no room */
        }
        const wk_part mid = wk_part_make(p, 1, 2);
        assert_int_equal(wk_part_inputs(p, &mid, val, MAX_IN, &n, &err), WICK_OK);
        assert_true(n >= 1);
        close_model(&m);
    }
}

/* A cut inside a layer, between the quantisation of a value and what reads it. */
static void test_torn(void **st) {
    (void)st;
    wk_err err = {0};
    wk_val val[2] = {{.type = WK_VAL_A32, .stage_def = 0}, {.type = WK_VAL_F32, .stage_def = 1}};
    wk_step step[2] = {{.op = WK_OP_quant, .dst = 0, .src = {-1, -1, -1}, .w = {-1, -1}},
                       {.op = WK_OP_matmul, .dst = 1, .src = {0, -1, -1}, .w = {-1, -1}}};
    int32_t order[2] = {0, 1}, in[2], n;
    wk_stage stage[2] = {{.row_first = 0, .row_n = 1, .attn = -1}, {.row_first = 1, .row_n = 1, .attn = -1}};
    const wk_plan p = {.step = step, .n_step = 2, .val = val, .n_val = 2, .stage = stage, .n_stage = 2, .order = order, .n_order = 2};
    const wk_part part = {.stage_first = 1, .n_stage = 1};
    assert_int_equal(wk_part_inputs(&p, &part, in, 2, &n, &err), WICK_E_SHAPE);
    assert_non_null(strstr(err.message, "step 1 (matmul)"));
    val[0].type = WK_VAL_F32;
    assert_int_equal(wk_part_inputs(&p, &part, in, 2, &n, &err), WICK_OK);
    assert_int_equal(n, 1);
    assert_int_equal(in[0], 0);
}

/* ---- values to and from the cpu ------------------------------------------------------------------- */

static void test_put_and_get(void **st) {
    (void)st;
    model m;
    wk_err err = {0};
    wk_dev *d = NULL;
    wk_exec *x = NULL;
    const wk_backend_ops *ops = wk_cpu_backend();
    const wk_host host = {.size = sizeof(host), .n_thread = 1, .n_cpu = 1, .cpu_mask = UINT32_MAX};
    int32_t val[MAX_IN], n = 0;
    open_model(&m, "llama");
    const wk_plan *p = m.plan;
    const wk_part hi = wk_part_make(p, 1, p->n_layer + 1);
    assert_int_equal(wk_part_inputs(p, &hi, val, MAX_IN, &n, &err), WICK_OK);
    assert_int_equal(ops->open(&d, 0, &host, &err), WICK_OK);
    assert_int_equal(ops->prepare(&x, d, p, &hi, 2, &err), WICK_OK);
    const size_t dim = (size_t)p->val[val[0]].dim;
    float *a = wk_new_n(float, dim * MAX_TOK), *b = wk_new_n(float, dim * MAX_TOK);
    for (size_t i = 0; i < dim * MAX_TOK; i++) a[i] = (float)i;
    assert_int_equal(ops->put(x, val[0], MAX_TOK, a, &err), WICK_OK);
    assert_int_equal(ops->get(x, val[0], MAX_TOK, b, &err), WICK_OK);
    assert_memory_equal(a, b, dim * MAX_TOK * sizeof(float));
    b[0] = -1;
    assert_int_equal(ops->put(x, val[0], 1, b, &err), WICK_OK); /* the first row alone */
    assert_int_equal(ops->get(x, val[0], 2, b, &err), WICK_OK);
    assert_true(b[0] < 0 && (size_t)b[dim] == dim);
    assert_int_equal(ops->put(x, val[0], 0, NULL, &err), WICK_OK);
    static const int32_t rows[] = {-1, MAX_TOK + 1, INT32_MAX};
    for (size_t i = 0; i < WK_COUNT(rows); i++) {
        assert_int_equal(ops->put(x, val[0], rows[i], a, &err), WICK_E_ARG);
        assert_int_equal(ops->get(x, val[0], rows[i], b, &err), WICK_E_ARG);
        assert_non_null(strstr(err.message, "at most 8"));
    }
    const int32_t odd[] = {-1, p->n_val, INT32_MAX, p->logits};
    for (size_t i = 0; i < WK_COUNT(odd); i++) {
        assert_int_equal(ops->put(x, odd[i], 1, a, &err), WICK_E_ARG);
        assert_int_equal(ops->get(x, odd[i], 1, b, &err), WICK_E_ARG);
    }
    wk_free(a);
    wk_free(b);
    ops->unprepare(x);
    ops->close(d);
    close_model(&m);
}

/* A part takes less than the whole, and the parts together hold the cache once. */
static void test_bytes(void **st) {
    (void)st;
    model m;
    open_model(&m, "gemma3");
    const wk_plan *p = m.plan;
    const wk_backend_ops *ops = wk_cpu_backend();
    const uint32_t n_page = 4096;
    const size_t all = ops->bytes(p, NULL, n_page, 1), none = ops->bytes(p, NULL, 0, 1);
    for (int32_t b = 1; b <= p->n_layer; b++) {
        const wk_part lo = wk_part_make(p, 0, b), hi = wk_part_make(p, b, p->n_layer + 1);
        const size_t l = ops->bytes(p, &lo, n_page, 1), h = ops->bytes(p, &hi, n_page, 1);
        assert_true(l <= all && h <= all);
        assert_true(b == p->n_layer || (l < all && h < all));
        assert_true(l + h >= all);
    }
    assert_true(all > none);
    close_model(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_borders), cmocka_unit_test(test_weights),     cmocka_unit_test(test_inputs),
        cmocka_unit_test(test_torn),    cmocka_unit_test(test_put_and_get), cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

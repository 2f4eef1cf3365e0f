/* test_slots.c: no two values that live at once share a byte, but for the in-place steps of a chain; by brute
 * force over all pairs. */
#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "engine/graph/slots.h"
#include "engine/graph/stage.h"
#include "tests/unit/nano.h"
#include "tests/unit/unit.h"

static const char *const tiny[] = {"llama", "qwen2", "qwen3", "gemma3"};

enum { KEEP = 1, UNGROUPED = 2, WHOLE = 4, N_MODE = 8 };

static wk_plan *plan_of(const wk_store *s, int mode) {
    const wk_plan_options o = {.max_tok = 23,
                               .max_out = 3,
                               .keep = mode & KEEP,
                               .ungrouped = mode & UNGROUPED,
                               .whole = mode & WHOLE};
    wk_plan *p = NULL;
    wk_err err = {0};
    if (wk_plan_build(&p, s, &o, &err)) fail_msg("%s", err.message);
    return p;
}

/* Chain that writes a value, -1: none. */
static int32_t chain_of(const wk_plan *p, int32_t v) {
    for (int32_t c = 0; c < p->n_chain; c++)
        for (int32_t i = 0; i < p->chain[c].n; i++)
            if (p->step[p->order[p->chain[c].first + i]].dst == v) return c;
    return -1;
}

static bool overlap(size_t a, size_t a_bytes, size_t b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

/* a was made before b. In place: one chain makes both, and nobody reads a after the step that makes b. */
static bool may_share(const wk_plan *p, int32_t a, int32_t b) {
    const wk_val *x = &p->val[a], *y = &p->val[b];
    return x->off == y->off && x->bytes == y->bytes && chain_of(p, a) >= 0 &&
           chain_of(p, a) == chain_of(p, b) && x->last >= 0 && x->last <= y->def;
}

static void check_shared(const wk_plan *p, bool keep) {
    size_t end = 0;
    for (int32_t b = 0; b < p->n_val; b++) {
        const wk_val *y = &p->val[b];
        const size_t rows = y->in_chain ? WK_CHAIN_ROWS : 23;
        assert_true(y->bytes == wk_val_bytes(y->type, y->dim, y->rows == WK_ROWS_TOK ? rows : 3));
        if (y->off == SIZE_MAX) continue;
        assert_int_equal(y->off % 128, 0);
        assert_true(y->off + y->bytes <= p->arena_bytes);
        if (y->off + y->bytes > end) end = y->off + y->bytes;
        for (int32_t a = 0; a < b; a++) {
            const wk_val *x = &p->val[a];
            if (x->off == SIZE_MAX || !overlap(x->off, x->bytes, y->off, y->bytes)) continue;
            assert_false(keep);
            if (x->stage_last >= y->stage_def && !may_share(p, a, b))
                fail_msg("v%d and v%d live at once in the same bytes", (int)a, (int)b);
        }
    }
    assert_true(p->arena_bytes - end < 128);
}

/* Step that reads or writes a value outside of the chain that writes it, -1: none. */
static int32_t outside(const wk_plan *p, int32_t v) {
    const int32_t c = chain_of(p, v);
    for (int32_t i = 0; i < p->n_step; i++) {
        bool in = false, uses = p->step[i].dst == v;
        for (int j = 0; j < 3; j++) uses |= p->step[i].src[j] == v;
        for (int32_t j = 0; c >= 0 && j < p->chain[c].n; j++) in |= p->order[p->chain[c].first + j] == i;
        if (uses && !in) return i;
    }
    return -1;
}

/* What is in a chain is nowhere else; two that live at once are in different places, and those are counted from 0. */
static void check_chains(const wk_plan *p, int mode) {
    int32_t n = 0;
    for (int32_t b = 0; b < p->n_val; b++) {
        const wk_val *y = &p->val[b];
        if (!y->in_chain) continue;
        n++;
        assert_false(mode & (KEEP | WHOLE));
        assert_int_equal(outside(p, b), -1);
        assert_false(y->in_row);
        assert_true(y->off != SIZE_MAX);
        bool below = y->chain_at == 0;
        for (int32_t a = 0; a < b; a++) {
            const wk_val *x = &p->val[a];
            if (!x->in_chain || chain_of(p, a) != chain_of(p, b)) continue;
            below |= x->chain_at == y->chain_at - 1 || x->chain_at == y->chain_at;
            if (x->chain_at == y->chain_at) assert_true(may_share(p, a, b));
        }
        assert_true(below);
    }
    if (!(mode & (KEEP | WHOLE | UNGROUPED))) assert_true(n >= p->n_layer * 6); /* q, k, v, gate, up, what is added */
}

static void check_private(const wk_plan *p) {
    for (int32_t b = 0; b < p->n_val; b++) {
        const wk_val *y = &p->val[b];
        if (!y->in_row) continue;
        const size_t y_bytes = wk_val_bytes(y->type, y->dim, WK_REDUNDANT);
        assert_int_equal(y->priv_off % 128, 0);
        assert_true(y->priv_off + y_bytes <= p->priv_bytes);
        for (int32_t a = 0; a < b; a++) {
            const wk_val *x = &p->val[a];
            if (!x->in_row || x->stage_def != y->stage_def) continue;
            assert_false(overlap(x->priv_off, wk_val_bytes(x->type, x->dim, WK_REDUNDANT),
                                 y->priv_off, y_bytes));
        }
    }
}

static void test_no_overlap(void **state) {
    (void)state;
    for (size_t i = 0; i < WK_COUNT(tiny); i++)
        for (int mode = 0; mode < N_MODE; mode++) {
            wk_store *s = nano_open_tiny(tiny[i]);
            wk_plan *p = plan_of(s, mode);
            check_shared(p, mode & KEEP);
            check_chains(p, mode);
            check_private(p);
            wk_plan_free(p);
            wk_store_close(s);
        }
}

/* The logits go to the caller; what a final step makes in place of goes there too. */
static void test_logits_are_outside(void **state) {
    (void)state;
    for (size_t i = 0; i < WK_COUNT(tiny); i++)
        for (int keep = 0; keep <= KEEP; keep++) {
            wk_store *s = nano_open_tiny(tiny[i]);
            wk_plan *p = plan_of(s, keep);
            int32_t n = 0;
            assert_true(p->val[p->logits].off == SIZE_MAX);
            for (int32_t v = 0; v < p->n_val; v++) n += p->val[v].off == SIZE_MAX;
            const bool in_place =
                !keep && strcmp(tiny[i], "gemma3") == 0; /* softcap over the matrix product */
            assert_int_equal(n, in_place ? 2 : 1);
            wk_plan_free(p);
            wk_store_close(s);
        }
}

/* Layers reuse what the layers before them used. */
static void test_reuse(void **state) {
    (void)state;
    wk_store *s = nano_open_tiny("gemma3");
    wk_plan *reuse = plan_of(s, WHOLE), *keep = plan_of(s, KEEP), *chains = plan_of(s, 0);
    size_t most = 0;
    for (int32_t st = 0; st < reuse->n_stage; st++) {
        size_t sum = 0; /* bytes alive in this stage, were nothing done in place */
        for (int32_t v = 0; v < reuse->n_val; v++) {
            const wk_val *x = &reuse->val[v];
            if (x->off != SIZE_MAX && x->stage_def <= st && st <= x->stage_last)
                sum += (x->bytes + 127) / 128 * 128;
        }
        if (sum > most) most = sum;
    }
    assert_true(reuse->arena_bytes <= most);
    assert_true(keep->arena_bytes > 5 * reuse->arena_bytes);
    assert_true(chains->arena_bytes < reuse->arena_bytes);
    wk_plan_free(chains);
    wk_plan_free(reuse);
    wk_plan_free(keep);
    wk_store_close(s);
}

/* In place: q, its norm and its rope are one memory; the residual, read by another step later, is not. What leaves a
 * chain is in the place of what does not only where all rows are asked for. */
static void check_in_place(int mode) {
    wk_store *s = nano_open_tiny("qwen3");
    wk_plan *p = plan_of(s, mode);
    int n = 0;
    for (int32_t i = 0; i < p->n_step; i++) {
        const wk_step *st = &p->step[i];
        if (st->op == WK_OP_rope || st->op == WK_OP_headrms || st->op == WK_OP_glu ||
            st->op == WK_OP_add) {
            const wk_val *dst = &p->val[st->dst], *src = &p->val[st->src[0]];
            assert_true((dst->off == src->off) == (dst->in_chain == src->in_chain));
            n += dst->off == src->off;
        }
        if (st->op == WK_OP_add) assert_true(p->val[st->dst].off != p->val[st->src[1]].off);
        if (st->op == WK_OP_rms) assert_true(p->val[st->dst].off != p->val[st->src[0]].off);
    }
    assert_int_equal(n, 2 * (mode & WHOLE ? 7 : 3)); /* else: the norm of q, norm and rope of k */
    wk_plan_free(p);
    wk_store_close(s);
}
static void test_in_place(void **state) {
    (void)state;
    check_in_place(0);
    check_in_place(WHOLE);
}

/* A value that is read again later in its chain must outlive the step between: v2 may not take the place of v1. */
static void test_read_twice_in_a_chain(void **state) {
    (void)state;
    wk_step step[] = {{.op = WK_OP_embed, .dst = 0, .src = {-1, -1, -1}, .w = {-1, -1}},
                      {.op = WK_OP_matmul, .dst = 1, .src = {0, -1, -1}, .w = {0, -1}},
                      {.op = WK_OP_softcap, .dst = 2, .src = {1, -1, -1}, .w = {-1, -1}},
                      {.op = WK_OP_add, .dst = 3, .src = {2, 1, -1}, .w = {-1, -1}},
                      {.op = WK_OP_pick, .dst = 4, .src = {3, -1, -1}, .w = {-1, -1}}};
    wk_val val[] = {{.dim = 32, .def = 0, .last = 1},
                    {.dim = 32, .def = 1, .last = 3},
                    {.dim = 32, .def = 2, .last = 3},
                    {.dim = 32, .def = 3, .last = 4},
                    {.dim = 32, .def = 4, .last = -1, .rows = WK_ROWS_OUT}};
    wk_plan p = {.step = step,
                 .n_step = 5,
                 .val = val,
                 .n_val = 5,
                 .logits = 4,
                 .max_tok = 23,
                 .max_out = 3};
    assert_int_equal(wk_stage_build(&p, false, NULL), WICK_OK);
    assert_int_equal(wk_slots_place(&p, false, false, NULL), WICK_OK);
    assert_int_equal(p.n_stage, 2);
    check_shared(&p, false);
    assert_true(val[2].off != val[1].off);
    assert_true(val[1].in_chain && val[2].in_chain && val[2].chain_at != val[1].chain_at);
    assert_true(!val[3].in_chain && val[3].off != val[2].off && val[3].off != val[1].off);
    assert_int_equal(wk_slots_place(&p, false, true, NULL), WICK_OK);
    assert_true(!val[1].in_chain && val[2].off != val[1].off);
    assert_true(val[3].off == val[2].off);
    wk_free(p.order);
    wk_free(p.chain);
    wk_free(p.stage);
}

/* The layout of quantised rows, part by part. */
static void test_bytes(void **state) {
    (void)state;
    assert_int_equal(wk_val_bytes(WK_VAL_F32, 576, 1), 576 * 4);
    assert_int_equal(wk_val_bytes(WK_VAL_F32, 5, 3), 64);
    const size_t dims[] = {32, 64, 576, 2048}, rows[] = {1, 2, 3, 512};
    for (size_t i = 0; i < WK_COUNT(dims); i++)
        for (size_t j = 0; j < WK_COUNT(rows); j++) {
            const size_t ldb = wk_val_ldb((int32_t)dims[i]), r = rows[j];
            const size_t parts[] = {32 * ldb, 4 * ldb, 4 * ldb, 4 * ldb, 8 * ldb, 2 * ldb, 4 * ldb};
            size_t sum = 0;
            for (size_t k = 0; k < WK_COUNT(parts); k++) sum += (r * parts[k] + 63) / 64 * 64;
            assert_int_equal(ldb % 2, 0);
            assert_true(ldb * 32 >= dims[i]);
            assert_int_equal(wk_val_bytes(WK_VAL_A32, (int32_t)dims[i], r), sum);
            assert_int_equal(wk_val_bytes(WK_VAL_A256, (int32_t)dims[i], r), sum);
        }
    assert_true(wk_val_bytes(WK_VAL_F32, INT32_MAX, SIZE_MAX / 8) == SIZE_MAX);
    assert_true(wk_val_bytes(WK_VAL_A32, INT32_MAX, SIZE_MAX / 8) == SIZE_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_overlap),
        cmocka_unit_test(test_logits_are_outside),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_read_twice_in_a_chain),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_stage.c: what a stage promises to who runs it, looked at from outside: no chain reads another, no row work
 * reads a chain, nothing is lost; and the shapes that the engine counts on. */
#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "engine/graph/stage.h"
#include "tests/unit/nano.h"
#include "tests/unit/unit.h"

static wk_plan *plan_of(const wk_store *s, bool ungrouped) {
    const wk_plan_options o = {.max_tok = 16, .max_out = 4, .ungrouped = ungrouped};
    wk_plan *p = NULL;
    wk_err err = {0};
    if (wk_plan_build(&p, s, &o, &err)) fail_msg("%s", err.message);
    return p;
}

/* ---- the promises, for any plan ----------------------------------------------------------------- */

enum { NOWHERE = -9, ROW = -1, ATTN = -2 };
typedef struct seat {
    int32_t stage, part; /* part: ROW, ATTN, or a chain of the plan */
} seat;

static void seat_step(const wk_plan *p, seat *at, int32_t place, int32_t stage, int32_t part) {
    assert_in_range(place, 0, p->n_order - 1);
    const int32_t step = p->order[place];
    assert_in_range(step, 0, p->n_step - 1);
    assert_int_equal(at[step].part, NOWHERE);
    at[step] = (seat){stage, part};
}

static void find_seats(const wk_plan *p, seat *at) {
    for (int32_t i = 0; i < p->n_step; i++) at[i] = (seat){NOWHERE, NOWHERE};
    int32_t next_chain = 0;
    for (int32_t s = 0; s < p->n_stage; s++) {
        const wk_stage *st = &p->stage[s];
        for (int32_t i = 0; i < st->row_n; i++) seat_step(p, at, st->row_first + i, s, ROW);
        assert_int_equal(st->chain_first, next_chain);
        for (int32_t c = 0; c < st->chain_n; c++) {
            const wk_chain *ch = &p->chain[next_chain];
            assert_true(ch->n > 0);
            for (int32_t i = 0; i < ch->n; i++) seat_step(p, at, ch->first + i, s, next_chain);
            next_chain++;
        }
        if (st->attn >= 0) {
            assert_true(st->row_n == 0 && st->chain_n == 0);
            assert_int_equal(at[st->attn].part, NOWHERE);
            at[st->attn] = (seat){s, ATTN};
        }
        assert_true(st->row_n + st->chain_n + (st->attn >= 0) > 0);
    }
    assert_int_equal(next_chain, p->n_chain);
    for (int32_t i = 0; i < p->n_step; i++) assert_int_not_equal(at[i].part, NOWHERE);
}

/* What a step reads is written: in an earlier stage; or in this one, by row work, or before it in its chain. */
static void check_order(const wk_plan *p, const seat *at) {
    for (int32_t i = 0; i < p->n_step; i++)
        for (int j = 0; j < 3; j++) {
            if (p->step[i].src[j] < 0) continue;
            const int32_t def = p->val[p->step[i].src[j]].def;
            assert_true(at[def].stage <= at[i].stage);
            if (at[def].stage < at[i].stage) continue;
            assert_true(def < i);
            assert_true(at[def].part == ROW || at[def].part == at[i].part);
        }
}

static void check_lists_ascend(const wk_plan *p) {
    for (int32_t s = 0; s < p->n_stage; s++)
        for (int32_t i = 1; i < p->stage[s].row_n; i++)
            assert_true(p->order[p->stage[s].row_first + i - 1] <
                        p->order[p->stage[s].row_first + i]);
    for (int32_t c = 0; c < p->n_chain; c++)
        for (int32_t i = 1; i < p->chain[c].n; i++)
            assert_true(p->order[p->chain[c].first + i - 1] < p->order[p->chain[c].first + i]);
}

static void check_units(const wk_plan *p) {
    for (int32_t c = 0; c < p->n_chain; c++) {
        const wk_chain *ch = &p->chain[c];
        assert_true(ch->unit > 0 && ch->unit <= ch->rows);
        assert_true(ch->unit % 16 == 0 || ch->unit == ch->rows);
        assert_int_equal(ch->n_unit, (ch->rows + ch->unit - 1) / ch->unit);
        for (int32_t i = 0; i < ch->n; i++) {
            const wk_step *s = &p->step[p->order[ch->first + i]];
            assert_int_equal(p->val[s->dst >= 0 ? s->dst : s->src[0]].dim, ch->rows);
            if (wk_op_class_of(s->op) != WK_CLASS_HEAD) continue;
            assert_int_equal(ch->unit % s->head_dim, 0);
            assert_int_equal(ch->rows % ch->unit, 0);
        }
    }
}

static void check_values(const wk_plan *p, const seat *at) {
    for (int32_t v = 0; v < p->n_val; v++) {
        const wk_val *x = &p->val[v];
        int32_t last = x->def;
        for (int32_t i = 0; i < p->n_step; i++)
            for (int j = 0; j < 3; j++)
                if (p->step[i].src[j] == v) last = i;
        assert_int_equal(x->last, last == x->def ? -1 : last);
        assert_int_equal(x->stage_def, at[x->def].stage);
        assert_int_equal(x->stage_last, at[last].stage);
        assert_int_equal(x->in_row, at[x->def].part == ROW);
        assert_int_equal(x->escapes, x->in_row && x->stage_last > x->stage_def);
    }
}

static void check_classes(const wk_plan *p, const seat *at) {
    for (int32_t i = 0; i < p->n_step; i++) {
        const wk_op_class class = wk_op_class_of(p->step[i].op);
        assert_true((class == WK_CLASS_ATTN) == (at[i].part == ATTN));
        if (class == WK_CLASS_ROW) assert_int_equal(at[i].part, ROW);
        if (class == WK_CLASS_CUT || class == WK_CLASS_HEAD) assert_true(at[i].part >= 0);
    }
}

static void check_promises(const wk_plan *p) {
    seat *at = wk_new_n(seat, (size_t)p->n_step);
    assert_non_null(at);
    assert_int_equal(p->n_order, p->n_step);
    find_seats(p, at);
    check_order(p, at);
    check_lists_ascend(p);
    check_units(p);
    check_values(p, at);
    check_classes(p, at);
    wk_free(at);
}

static void test_promises(void **state) {
    (void)state;
    static const char *const tiny[] = {"llama", "qwen2", "qwen3", "gemma3"};
    for (size_t i = 0; i < WK_COUNT(tiny); i++)
        for (int ungrouped = 0; ungrouped < 2; ungrouped++) {
            wk_store *s = nano_open_tiny(tiny[i]);
            wk_plan *p = plan_of(s, ungrouped);
            check_promises(p);
            wk_plan_free(p);
            wk_store_close(s);
        }
}

/* ---- the shapes of a layer ---------------------------------------------------------------------- */

/* "rms quant | matmul rope; matmul" = row work | chains */
static void spell(const wk_plan *p, int32_t stage, char *out, size_t cap) {
    const wk_stage *s = &p->stage[stage];
    wk_buf b;
    wk_buf_init(&b, 0);
    for (int32_t i = 0; i < s->row_n; i++)
        (void)wk_buf_addf(&b, "%s%s", i ? " " : "",
                          wk_op_name(p->step[p->order[s->row_first + i]].op));
    (void)wk_buf_addc(&b, '|');
    if (s->attn >= 0) (void)wk_buf_adds(&b, "attn");
    for (int32_t c = 0; c < s->chain_n; c++) {
        const wk_chain *ch = &p->chain[s->chain_first + c];
        for (int32_t i = 0; i < ch->n; i++)
            (void)wk_buf_addf(&b, "%s%s",
                              i   ? " "
                              : c ? ";"
                                  : "",
                              wk_op_name(p->step[p->order[ch->first + i]].op));
    }
    assert_false(b.failed);
    assert_true(b.n < cap);
    memcpy(out, b.p, b.n + 1);
    wk_buf_fini(&b);
}

static void check_spelling(const char *arch, int32_t first, const char *const *want, size_t n) {
    wk_store *s = nano_open_tiny(arch);
    wk_plan *p = plan_of(s, false);
    for (size_t i = 0; i < n; i++) {
        char have[256];
        const int32_t stage = first < 0 ? p->n_stage + first + (int32_t)i : first + (int32_t)i;
        spell(p, stage, have, sizeof(have));
        assert_string_equal(have, want[i]);
    }
    wk_plan_free(p);
    wk_store_close(s);
}

static void test_llama_layer(void **state) {
    (void)state;
    static const char *const begin[] = {"embed rms|matmul rope;matmul rope kvput;matmul kvput",
                                        "|attn",
                                        "|matmul add",
                                        "rms|matmul matmul glu",
                                        "|matmul add",
                                        "rms|matmul rope;matmul rope kvput;matmul kvput"};
    static const char *const end[] = {"pick rms|matmul"};
    check_spelling("llama", 0, begin, WK_COUNT(begin));
    check_spelling("llama", -1, end, WK_COUNT(end));
}

static void test_gemma_layer(void **state) {
    (void)state;
    static const char *const middle[] = {
        "rms add rms|matmul headrms rope;matmul headrms rope kvput;matmul kvput", "|attn",
        "|matmul", "rms add rms|matmul matmul glu", "|matmul"};
    static const char *const end[] = {"rms add pick rms|matmul softcap"};
    check_spelling("gemma3", 5, middle, WK_COUNT(middle));
    check_spelling("gemma3", -1, end, WK_COUNT(end));
}

/* ---- steps that no architecture here has -------------------------------------------------------- */

/* A plan by hand: each row is op, sources; every step but kvput makes one value of `dim`. */
typedef struct raw {
    int op, src0, src1, dim;
} raw;

static void group_raw(wk_plan *p, const raw *r, int32_t n) {
    *p = (wk_plan){.step = wk_new_n(wk_step, (size_t)n), .val = wk_new_n(wk_val, (size_t)n)};
    for (int32_t i = 0; i < n; i++) {
        const int32_t dst = r[i].op == WK_OP_kvput ? -1 : p->n_val;
        p->step[i] = (wk_step){.op = (uint16_t)r[i].op,
                               .dst = dst,
                               .src = {r[i].src0, r[i].src1, -1},
                               .w = {-1, -1},
                               .head_dim = 24};
        for (int j = 0; j < 2; j++)
            if (p->step[i].src[j] >= 0) p->val[p->step[i].src[j]].last = i;
        if (dst >= 0) p->val[p->n_val++] = (wk_val){.dim = r[i].dim, .def = i, .last = -1};
        p->n_step++;
    }
    assert_int_equal(wk_stage_build(p, false, NULL), WICK_OK);
    check_promises(p);
}

static void free_raw(wk_plan *p) {
    wk_free(p->step);
    wk_free(p->val);
    wk_free(p->order);
    wk_free(p->chain);
    wk_free(p->stage);
}

static void check_raw(const raw *r, int32_t n, const char *const *want, int32_t n_want) {
    wk_plan p;
    group_raw(&p, r, n);
    assert_int_equal(p.n_stage, n_want);
    for (int32_t i = 0; i < n_want; i++) {
        char have[256];
        spell(&p, i, have, sizeof(have));
        assert_string_equal(have, want[i]);
    }
    free_raw(&p);
}

static void test_two_chains_of_other_length(void **state) {
    (void)state;
    /* the add cannot merge chains of 32 and 48 rows: it waits for the barrier */
    const raw r[] = {{WK_OP_embed, -1, -1, 32},
                     {WK_OP_matmul, 0, -1, 32},
                     {WK_OP_matmul, 0, -1, 48},
                     {WK_OP_add, 1, 2, 32}};
    const char *const want[] = {"embed|matmul;matmul", "add|"};
    check_raw(r, WK_COUNT(r), want, WK_COUNT(want));
}

static void test_three_chains_become_one(void **state) {
    (void)state;
    const raw r[] = {{WK_OP_embed, -1, -1, 32}, {WK_OP_matmul, 0, -1, 32},
                     {WK_OP_matmul, 0, -1, 32}, {WK_OP_matmul, 0, -1, 32},
                     {WK_OP_add, 2, 3, 32},     {WK_OP_add, 4, 1, 32}};
    const char *const want[] = {"embed|matmul matmul matmul add add"};
    check_raw(r, WK_COUNT(r), want, WK_COUNT(want));
}

static void test_row_step_beside_chains(void **state) {
    (void)state;
    /* a row step that reads no chain of the stage goes before them; one that does opens the next */
    const raw r[] = {{WK_OP_embed, -1, -1, 32}, {WK_OP_matmul, 0, -1, 32},
                     {WK_OP_quant, 0, -1, 32},  {WK_OP_matmul, 2, -1, 32},
                     {WK_OP_quant, 3, -1, 32},  {WK_OP_matmul, 4, -1, 32}};
    const char *const want[] = {"embed quant|matmul;matmul", "quant|matmul"};
    check_raw(r, WK_COUNT(r), want, WK_COUNT(want));
}

static void test_head_step_alone(void **state) {
    (void)state;
    /* on a value of row work: a chain of its own of all rows; behind attention: in the next stage */
    const raw r[] = {{WK_OP_embed, -1, -1, 48},
                     {WK_OP_rope, 0, -1, 48},
                     {WK_OP_attn, 1, -1, 48},
                     {WK_OP_rope, 2, -1, 48},
                     {WK_OP_add, 2, 3, 48}};
    const char *const want[] = {"embed|rope", "|attn", "|rope add"};
    wk_plan p;
    check_raw(r, WK_COUNT(r), want, WK_COUNT(want));
    group_raw(&p, r, 2);
    assert_int_equal(p.chain[0].unit, 48);
    free_raw(&p);
}

static void test_units_hold_heads(void **state) {
    (void)state;
    /* heads of 24: units of lcm(16, 24) = 48, or all rows where 48 does not divide them */
    const raw r[] = {{WK_OP_embed, -1, -1, 32}, {WK_OP_matmul, 0, -1, 96},
                     {WK_OP_rope, 1, -1, 96},   {WK_OP_matmul, 0, -1, 72},
                     {WK_OP_kvput, 3, -1, 0},   {WK_OP_matmul, 0, -1, 40},
                     {WK_OP_matmul, 0, -1, 8}};
    const int32_t units[] = {48, 72, 16, 8}, counts[] = {2, 1, 3, 1};
    wk_plan p;
    group_raw(&p, r, WK_COUNT(r));
    assert_int_equal(p.n_stage, 1);
    assert_int_equal(p.n_chain, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(p.chain[i].unit, units[i]);
        assert_int_equal(p.chain[i].n_unit, counts[i]);
    }
    free_raw(&p);
}

static void test_no_memory(void **state) {
    (void)state;
    wk_step step = {.op = WK_OP_embed, .dst = 0, .src = {-1, -1, -1}, .w = {-1, -1}};
    wk_val val = {.dim = 8, .last = -1};
    for (uint64_t n = 1; n <= 4; n++) {
        wk_plan p = {.step = &step, .n_step = 1, .val = &val, .n_val = 1};
        wk_alloc_fail_at(n, false);
        assert_int_equal(wk_stage_build(&p, false, NULL), WICK_E_NOMEM);
        wk_alloc_fail_at(0, false);
        wk_free(p.order);
        wk_free(p.chain);
        wk_free(p.stage);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_promises),
        cmocka_unit_test(test_llama_layer),
        cmocka_unit_test(test_gemma_layer),
        cmocka_unit_test(test_two_chains_of_other_length),
        cmocka_unit_test(test_three_chains_become_one),
        cmocka_unit_test(test_row_step_beside_chains),
        cmocka_unit_test(test_head_step_alone),
        cmocka_unit_test(test_units_hold_heads),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

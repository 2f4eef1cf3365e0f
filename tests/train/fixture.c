/* fixture.c: opens, closes, compares. */
#include "tests/train/fixture.h"

#include <math.h>

#include "engine/base/arena.h"
#include "simd/level.h"
#include "tests/train/tiny_gguf.h"
#include "tests/unit/unit.h"

/* ---- models -------------------------------------------------------------------------------------- */

static void open_exec(fixture *f, const fixture_options *o) {
    wk_err err = {0};
    const uint32_t cpu = wk_cpu_detect() & (o->cpu ? o->cpu : UINT32_MAX);
    const int n = o->n_thread ? o->n_thread : 2;
    f->team = wk_team_new(n, n);
    assert_non_null(f->team);
    wk_kernels_init(&f->k, cpu);
    wk_grad_kernels_init(&f->gk, cpu);
    if (wk_sgemm_new(&f->gemm, &f->k, &f->gk, f->team, o->bf16 ? WK_SGEMM_BF16 : WK_SGEMM_WICK, &err)) fail_msg("%s", err.message);
    const wk_texec_options x = {.team = f->team, .k = &f->k, .gk = &f->gk, .gemm = f->gemm};
    if (wk_texec_new(&f->exec, f->grad, &x, &err)) fail_msg("%s", err.message);
}

static bool is_adapter(void *ud, const wk_weight *w) {
    (void)ud;
    return w->lora_of >= 0;
}

static void open_plan(fixture *f, const fixture_options *o) {
    wk_err err = {0};
    const wk_adapter a = {.store = o->adapter, .scale = 1.0f};
    const wk_plan_options p = {.max_tok = o->max_tok,
                               .max_out = o->max_tok,
                               .f32_act = true,
                               .adapter = o->adapter ? &a : NULL,
                               .n_adapter = o->adapter ? 1 : 0};
    f->adapter = o->adapter;
    if (wk_plan_build(&f->plan, f->store, &p, &err)) fail_msg("%s", err.message);
    if (o->edit) o->edit(f->plan);
    const wk_grad_options g = {.max_tok = o->max_tok,
                               .recompute = o->recompute,
                               .is_trained = o->adapter ? is_adapter : o->is_trained};
    if (wk_grad_build(&f->grad, f->plan, &g, &err)) fail_msg("%s", err.message);
    if (!o->list_only) open_exec(f, o);
}

void fixture_open(fixture *f, const char *path, const fixture_options *o) {
    wk_err err = {0};
    *f = (fixture){0};
    if (wk_store_open(&f->store, path, &err)) fail_msg("%s", err.message);
    open_plan(f, o);
}

wk_store *store_of(const wk_buf *bytes) {
    wk_err err = {0};
    wk_store *s = NULL;
    if (wk_store_open_memory(&s, bytes->p, bytes->n, "tiny.gguf", &err))
        fail_msg("%s", err.message);
    return s;
}

void fixture_open_memory(fixture *f, wk_buf bytes, const fixture_options *o) {
    *f = (fixture){.bytes = bytes};
    f->store = store_of(&f->bytes);
    open_plan(f, o);
}

void fixture_close(fixture *f) {
    wk_texec_free(f->exec);
    wk_sgemm_free(f->gemm);
    wk_team_free(f->team);
    wk_grad_free(f->grad);
    wk_plan_free(f->plan);
    wk_store_close(f->adapter);
    wk_store_close(f->store);
    wk_buf_fini(&f->bytes);
    wk_buf_fini(&f->adapter_bytes);
    *f = (fixture){0};
}

/* ---- batches ------------------------------------------------------------------------------------- */

void rows_make(rows *r, const int32_t *length, int32_t n_seq, int32_t n_vocab, int32_t masked) {
    *r = (rows){.n_seq = n_seq};
    for (int32_t i = 0; i < n_seq; i++) r->n_tok += length[i];
    r->tok = wk_new_n(int32_t, (size_t)r->n_tok);
    r->target = wk_new_n(int32_t, (size_t)r->n_tok);
    r->seq = wk_new_n(wk_tseq, (size_t)n_seq);
    int32_t t = 0;
    for (int32_t i = 0; i < n_seq; i++) {
        r->seq[i] = (wk_tseq){t, length[i]};
        for (int32_t j = 0; j < length[i]; j++, t++) {
            const double u = tiny_uniform(7, 1, (uint32_t)t), v = tiny_uniform(7, 2, (uint32_t)t);
            r->tok[t] = (int32_t)((u + 1.0) / 2.0 * (double)n_vocab);
            r->target[t] = (int32_t)((v + 1.0) / 2.0 * (double)n_vocab);
            if (i == masked && 3 * j < 2 * length[i]) r->target[t] = -1;
        }
    }
}

void rows_free(rows *r) {
    wk_free(r->tok);
    wk_free(r->target);
    wk_free(r->seq);
}

wk_tbatch rows_batch(const rows *r) {
    return (wk_tbatch){r->n_tok, r->n_seq, r->tok, r->target, r->seq};
}

/* ---- comparing ----------------------------------------------------------------------------------- */

typedef struct sums {
    double diff, aa, bb, ab;
} sums;

static void sum_one(sums *s, double a, double b) {
    s->diff += (a - b) * (a - b);
    s->aa += a * a;
    s->bb += b * b;
    s->ab += a * b;
}

static distance distance_sums(const sums *s) {
    if (s->diff == 0.0) return (distance){0.0, 1.0};
    return (distance){sqrt(s->diff / s->bb), s->ab / sqrt(s->aa * s->bb)};
}

distance distance_of(const float *got, const float *want, size_t n) {
    sums s = {0};
    for (size_t i = 0; i < n; i++) sum_one(&s, (double)got[i], (double)want[i]);
    return distance_sums(&s);
}

distance distance_of_double(const float *got, const double *want, size_t n) {
    sums s = {0};
    for (size_t i = 0; i < n; i++) sum_one(&s, (double)got[i], want[i]);
    return distance_sums(&s);
}

const char *param_name(const wk_grad *g, int32_t param) {
    return g->plan->weight[g->param[param].weight].name;
}

int32_t param_of_name(const wk_grad *g, wk_str name) {
    for (int32_t i = 0; i < g->n_param; i++)
        if (wk_str_is(name, param_name(g, i))) return i;
    fail_msg("no parameter %.*s", (int)name.n, name.p);
    return -1;
}

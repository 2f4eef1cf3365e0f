/* test_plan_logits.c: the steps of a plan mean what the architecture means. A plain interpreter in double walks
 * them in order, knowing op.def and nothing else, and must come to the logits of tests/golden/tiny. No device, no
 * kernel, no stage has a part in it: what is wrong here is wrong in the plan.
 * WICK_STORY=FILE: the same for a trained model made by make.py --story-out, against its known greedy ids. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "simd/format.h"
#include "tests/unit/nano.h"
#include "tests/unit/unit.h"

enum { MOST_TOK = 128 };

typedef struct machine {
    const wk_plan *p;
    const int32_t *tok;
    int32_t n;     /* tokens; all of them are wanted */
    double **val;  /* [n_val][n * dim] */
    double *kv[2]; /* [n_layer][n][n_head_kv * head_dim] */
} machine;

static double weight_at(const wk_weight *w, int32_t row, int32_t k) {
    float f;
    assert_int_equal(w->fmt, WK_FMT_F32);
    memcpy(&f, w->data + (size_t)wk_weight_row(w, row) * w->row_bytes + (size_t)k * 4, 4);
    return (double)f;
}

static double vector_at(const wk_weight *w, int32_t k) {
    float f;
    memcpy(&f, w->data + (size_t)k * 4, 4);
    return (double)f;
}

static void rms(double *dst, const double *x, const wk_weight *w, int32_t n, double eps) {
    double ss = 0;
    for (int32_t i = 0; i < n; i++) ss += x[i] * x[i];
    for (int32_t i = 0; i < n; i++) dst[i] = x[i] / sqrt(ss / n + eps) * vector_at(w, i);
}

static void turn(const machine *m, const wk_step *s, double *x, int32_t pos) {
    const wk_rope_plan *r = &m->p->rope[s->rope];
    const int32_t half = r->n_rot / 2;
    assert_int_equal(s->pairing, 0);
    for (int32_t h = 0; h < s->n_head; h++)
        for (int32_t i = 0; i < half; i++) {
            double *a = x + h * s->head_dim + i, *b = a + half;
            const double c = cos(pos * r->freq[i]) * (double)r->mscale,
                         d = sin(pos * r->freq[i]) * (double)r->mscale;
            const double y0 = *a * c - *b * d, y1 = *a * d + *b * c;
            *a = y0;
            *b = y1;
        }
}

static double *cached(const machine *m, int which, int32_t layer, int32_t pos, int32_t head) {
    const int32_t dim = m->p->n_head_kv * m->p->head_dim;
    return m->kv[which] + ((size_t)layer * (size_t)m->n + (size_t)pos) * (size_t)dim +
           (size_t)(head * m->p->head_dim);
}

static void attend(const machine *m, const wk_step *s, double *dst, const double *q, int32_t pos) {
    const int32_t first = s->window && pos >= s->window ? pos - s->window + 1 : 0;
    for (int32_t h = 0; h < s->n_head; h++) {
        const int32_t kvh = h / (s->n_head / s->n_head_kv);
        double score[MOST_TOK], max = -1e300, sum = 0;
        for (int32_t i = first; i <= pos; i++) {
            double dot = 0;
            for (int32_t d = 0; d < s->head_dim; d++)
                dot += q[h * s->head_dim + d] * cached(m, 0, s->layer, i, kvh)[d];
            score[i] = dot * (double)s->scale;
            if (s->softcap > 0) score[i] = (double)s->softcap * tanh(score[i] / (double)s->softcap);
            max = fmax(max, score[i]);
        }
        for (int32_t i = first; i <= pos; i++) sum += score[i] = exp(score[i] - max);
        for (int32_t d = 0; d < s->head_dim; d++) {
            double o = 0;
            for (int32_t i = first; i <= pos; i++)
                o += score[i] / sum * cached(m, 1, s->layer, i, kvh)[d];
            dst[h * s->head_dim + d] = o;
        }
    }
}

static double glu(int fn, double g, double u) {
    if (fn == 0) return g / (1 + exp(-g)) * u;
    return 0.5 * g * (1 + tanh(0.7978845608028654 * (g + 0.044715 * g * g * g))) * u;
}

/* One step for one token; a, b: its sources there. */
static void run_step(const machine *m, const wk_step *s, int32_t t, double *dst, const double *a,
                     const double *b) {
    const wk_plan *p = m->p;
    const wk_weight *w = s->w[0] >= 0 ? &p->weight[s->w[0]] : NULL;
    const int32_t dim = p->val[s->dst >= 0 ? s->dst : s->src[0]].dim;
    switch (s->op) {
    case WK_OP_embed:
        for (int32_t i = 0; i < dim; i++) dst[i] = (double)s->scale * weight_at(w, m->tok[t], i);
        return;
    case WK_OP_rms:
        rms(dst, a, w, dim, (double)s->eps);
        return;
    case WK_OP_headrms:
        for (int32_t h = 0; h < s->n_head; h++)
            rms(dst + h * s->head_dim, a + h * s->head_dim, w, s->head_dim, (double)s->eps);
        return;
    case WK_OP_matmul:
        for (int32_t n = 0; n < dim; n++) {
            dst[n] = 0;
            for (int32_t k = 0; k < w->k; k++) dst[n] += a[k] * weight_at(w, n, k);
        }
        return;
    case WK_OP_rope:
        memcpy(dst, a, (size_t)dim * sizeof(*dst));
        turn(m, s, dst, t);
        return;
    case WK_OP_kvput:
        memcpy(cached(m, s->which, s->layer, t, 0), a, (size_t)dim * sizeof(*a));
        return;
    case WK_OP_attn:
        attend(m, s, dst, a, t);
        return;
    default:
        break;
    }
    for (int32_t i = 0; i < dim; i++) {
        if (s->op == WK_OP_bias)
            dst[i] = a[i] + vector_at(w, i);
        else if (s->op == WK_OP_add)
            dst[i] = a[i] + b[i];
        else if (s->op == WK_OP_glu)
            dst[i] = glu(s->fn, a[i], b[i]);
        else if (s->op == WK_OP_softcap)
            dst[i] = (double)s->softcap * tanh(a[i] / (double)s->softcap);
        else if (s->op == WK_OP_pick)
            dst[i] = a[i];
        else
            fail_msg("step %s", wk_op_name(s->op));
    }
}

static const double *at(const machine *m, int32_t v, int32_t t) {
    return v < 0 ? NULL : m->val[v] + (size_t)t * (size_t)m->p->val[v].dim;
}

/* Runs all tokens; the logits [n][n_vocab] belong to the machine. */
static const double *run(machine *m, const wk_plan *p, const int32_t *tok, int32_t n) {
    const size_t cache = (size_t)(p->n_layer * n * p->n_head_kv * p->head_dim);
    *m = (machine){.p = p, .tok = tok, .n = n, .val = wk_new_n(double *, (size_t)p->n_val)};
    for (int i = 0; i < 2; i++) m->kv[i] = wk_new_n(double, cache);
    for (int32_t v = 0; v < p->n_val; v++)
        m->val[v] = wk_new_n(double, (size_t)n *(size_t)p->val[v].dim);
    for (int32_t i = 0; i < p->n_step; i++) {
        const wk_step *s = &p->step[i];
        for (int32_t t = 0; t < n; t++) {
            double *dst =
                s->dst < 0 ? NULL : m->val[s->dst] + (size_t)t * (size_t)p->val[s->dst].dim;
            run_step(m, s, t, dst, at(m, s->src[0], t), at(m, s->src[1], t));
        }
    }
    return m->val[p->logits];
}

static void fini(machine *m) {
    for (int32_t v = 0; v < m->p->n_val; v++) wk_free(m->val[v]);
    wk_free(m->val);
    wk_free(m->kv[0]);
    wk_free(m->kv[1]);
}

static wk_plan *plan_of(const wk_store *s) {
    const wk_plan_options o = {.max_tok = MOST_TOK, .max_out = MOST_TOK};
    wk_plan *p = NULL;
    wk_err err = {0};
    if (wk_plan_build(&p, s, &o, &err)) fail_msg("%s", err.message);
    return p;
}

/* ---- golden logits ------------------------------------------------------------------------------ */

enum { N_PROMPT = 60, N_GREEDY = 20, EVERY = 4 };

static void read_ids(const char *arch, int32_t *ids, int n) {
    char path[64];
    (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.ids.txt", arch);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (int i = 0; i < n; i++) assert_int_equal(fscanf(f, "%d", &ids[i]), 1);
    (void)fclose(f);
}

static int32_t best(const double *row, int32_t n) {
    int32_t b = 0;
    for (int32_t i = 1; i < n; i++)
        if (row[i] > row[b]) b = i;
    return b;
}

/* The prompt and its greedy continuation at once: each id must be the best after those before it. */
static void check_golden(const char *arch) {
    char path[64];
    int32_t ids[N_PROMPT + N_GREEDY];
    wk_buf want;
    machine m;
    wk_store *s = nano_open_tiny(arch);
    wk_plan *p = plan_of(s);
    read_ids(arch, ids, N_PROMPT + N_GREEDY);
    (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.logits.bin", arch);
    wk_buf_init(&want, 0);
    nano_read_file(&want, path);
    assert_int_equal(want.n, (size_t)(N_PROMPT / EVERY) * (size_t)p->n_vocab * 4);
    const double *have = run(&m, p, ids, N_PROMPT + N_GREEDY);
    double worst = 0;
    for (int32_t t = 0; t < N_PROMPT; t += EVERY)
        for (int32_t i = 0; i < p->n_vocab; i++) {
            float f;
            memcpy(&f, want.p + ((size_t)(t / EVERY) * (size_t)p->n_vocab + (size_t)i) * 4, 4);
            worst = fmax(worst, fabs((double)f - have[(size_t)t * (size_t)p->n_vocab + (size_t)i]));
        }
    /* The reference keeps norms, softmax and rope angles in f32: measured 2e-6 to 8e-6. */
    if (!(worst < 3e-5)) fail_msg("%s: logits differ by %g", arch, worst);
    for (int32_t t = N_PROMPT; t < N_PROMPT + N_GREEDY; t++)
        assert_int_equal(best(have + (size_t)(t - 1) * (size_t)p->n_vocab, p->n_vocab), ids[t]);
    print_message("%s: largest difference %.2g\n", arch, worst);
    fini(&m);
    wk_buf_fini(&want);
    wk_plan_free(p);
    wk_store_close(s);
}

static void test_llama(void **state) {
    (void)state;
    check_golden("llama");
}
static void test_qwen3(void **state) {
    (void)state;
    check_golden("qwen3");
}
static void test_gemma3(void **state) {
    (void)state;
    check_golden("gemma3");
}

static void test_story(void **state) {
    (void)state;
    static const int32_t ids[] = {1,    80,  147, 201, 282,  57,  313, 598, 303, 1049, 1468,
                                  267,  628, 333, 94,  1210, 263, 251, 604, 94,  1030, 94,
                                  1030, 94,  436, 220, 1053, 615, 303, 328, 552, 319,  1269};
    const char *path = getenv("WICK_STORY");
    if (!path) skip();
    wk_store *s = NULL;
    wk_err err = {0};
    machine m;
    if (wk_store_open(&s, path, &err)) fail_msg("%s", err.message);
    wk_plan *p = plan_of(s);
    const double *have = run(&m, p, ids, WK_COUNT(ids));
    for (int32_t t = 6; t < (int32_t)WK_COUNT(ids); t++)
        assert_int_equal(best(have + (size_t)(t - 1) * (size_t)p->n_vocab, p->n_vocab), ids[t]);
    fini(&m);
    wk_plan_free(p);
    wk_store_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_gemma3),
        cmocka_unit_test(test_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

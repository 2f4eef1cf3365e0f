/* sgemm.c: the object: which engine a product goes to, and what it counts. The engines: sgemm_blocks.c, engine/cpu/onednn.c. */
#include "engine/train/sgemm.h"

#include <math.h>
#include <string.h>

#include "engine/train/sgemm_impl.h"
#include "simd/dmath.h"

struct wk_sgemm {
    wk_sgemm_blocks *blocks;
    wk_sgemm_engine engine;
    wk_onednn *onednn; /* NULL: there is none */
    wk_sgemm_choice *choice;
    size_t n_choice;
    double flops;
};

int wk_sgemm_new(wk_sgemm **out, const wk_kernels *k, const wk_grad_kernels *gk, wk_team *team, wk_sgemm_engine engine,
                 wk_err *err) {
    const size_t n_thread = (size_t)wk_team_size(team);
    wk_sgemm *g = wk_new(wk_sgemm);
    int rc = WICK_OK;
    *out = NULL;
    if (!g || !(g->blocks = wk_sgemm_blocks_new(k, engine == WK_SGEMM_BF16 ? gk : NULL, team))) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for matrix products on %zu threads", n_thread);
        goto out;
    }
    g->engine = engine;
    if (engine == WK_SGEMM_ONEDNN || (engine == WK_SGEMM_AUTO && wk_sgemm_has_onednn()))
        rc = wk_onednn_open(&g->onednn, (int)n_thread, err);
    if (rc) goto out;
    *out = g;
    g = NULL;
out:
    wk_sgemm_free(g);
    return rc;
}

void wk_sgemm_free(wk_sgemm *g) {
    if (!g) return;
    wk_onednn_close(g->onednn);
    wk_sgemm_blocks_free(g->blocks);
    wk_free(g->choice);
    wk_free(g);
}

bool wk_sgemm_has_onednn(void) { return wk_onednn_is_here(); }
wk_sgemm_engine wk_sgemm_asked(const wk_sgemm *g) { return g->engine; }
bool wk_sgemm_can_onednn(const wk_sgemm *g) { return g->onednn != NULL; }
double wk_sgemm_flops(const wk_sgemm *g) { return g->flops; }
void wk_sgemm_uncount(wk_sgemm *g, double flops) { g->flops -= flops; }

void wk_sgemm_choose(wk_sgemm *g, wk_sgemm_choice *c, size_t n) {
    wk_free(g->choice);
    g->choice = c;
    g->n_choice = n;
}

void wk_sgemm_logs(double out[3], int32_t m, int32_t n, int32_t k) {
    const int32_t x[3] = {m, n, k};
    for (int i = 0; i < 3; i++) out[i] = wk_dlog(x[i] > 0 ? (double)x[i] : 1);
}

/* Nearest: the same op and the least sum of factors between the extents. */
static wk_sgemm_engine chosen(const wk_sgemm *g, const wk_sgemm_call *c) {
    double l[3];
    wk_sgemm_engine e = WK_SGEMM_WICK;
    double least_far = (double)INFINITY;
    wk_sgemm_logs(l, c->m, c->n, c->k);
    for (size_t i = 0; i < g->n_choice; i++) {
        const wk_sgemm_choice *h = &g->choice[i];
        const double far = fabs(h->log[0] - l[0]) + fabs(h->log[1] - l[1]) + fabs(h->log[2] - l[2]);
        if (h->shape.op != c->op || far >= least_far) continue;
        least_far = far;
        e = h->engine;
    }
    return e;
}

static void run_onednn(wk_sgemm *g, const wk_sgemm_call *c) {
    const bool before = c->thin && c->thin->before;
    if (before) wk_sgemm_blocks_thin(g->blocks, c);
    wk_onednn_sgemm(g->onednn, &(wk_onednn_call){.turn_a = c->op == WK_SGEMM_TN,
                                                 .turn_b = c->op == WK_SGEMM_NT,
                                                 .add = c->add || before,
                                                 .m = c->m,
                                                 .n = c->n,
                                                 .k = c->k,
                                                 .lda = (int64_t)c->lda,
                                                 .ldb = (int64_t)c->ldb,
                                                 .ldc = (int64_t)c->ldc,
                                                 .a = c->a,
                                                 .b = c->b,
                                                 .c = c->c});
    if (c->thin && !before) wk_sgemm_blocks_thin(g->blocks, c);
}

void wk_sgemm_run_by(wk_sgemm *g, const wk_sgemm_call *c, wk_sgemm_engine e) {
    if (c->m <= 0 || c->n <= 0) return;
    if (c->k <= 0) {
        for (int32_t i = 0; i < c->m && !c->add; i++)
            memset(c->c + (size_t)i * c->ldc, 0, (size_t)c->n * sizeof(float));
        return;
    }
    g->flops += 2.0 * c->m * c->n * (c->k + (c->thin ? c->thin->k : 0));
    if (e == WK_SGEMM_ONEDNN)
        run_onednn(g, c);
    else
        wk_sgemm_blocks_run(g->blocks, c);
}

void wk_sgemm_run(wk_sgemm *g, const wk_sgemm_call *c) {
    wk_sgemm_run_by(g, c, g->engine == WK_SGEMM_AUTO ? chosen(g, c) : g->engine);
}

/* eval_score.c: log-probabilities of the tokens of one sequence. */
#include <math.h>

#include "engine/app/eval_impl.h"
#include "engine/base/err.h"

double wk_eval_log_prob(const float *logits, int32_t n_vocab, wick_token id) {
    float most = logits[0];
    double sum = 0;
    for (int32_t i = 1; i < n_vocab; i++)
        if (logits[i] > most) most = logits[i];
    for (int32_t i = 0; i < n_vocab; i++) sum += exp((double)logits[i] - (double)most);
    return (double)logits[id] - (double)most - log(sum);
}

typedef struct walk {
    const wk_tokens *t;
    size_t from;
    const wk_eval_score *out;
} walk;

/* Two rows from one callback: the row at pos says what stands at pos + 1. */
static void on_row(void *ud, int32_t pos, const float *logits, int32_t n_vocab) {
    const walk *w = ud;
    const size_t at = (size_t)pos + 1;
    if (at < w->from || at >= w->t->n) return;
    const wick_token id = w->t->t[at];
    w->out->log_p[at] = wk_eval_log_prob(logits, n_vocab, id);
    if (!w->out->top) return;
    bool top = true;
    for (int32_t i = 0; i < n_vocab && top; i++) top = logits[i] < logits[id] || i >= id;
    for (int32_t i = id; i < n_vocab && top; i++) top = logits[i] <= logits[id];
    w->out->top[at] = top;
}

wick_status wk_eval_score_run(const wk_eval_model *m, const wk_tokens *t, size_t from, const wk_eval_score *out,
                              wick_error *err) {
    walk w = {t, from ? from : 1, out};
    for (size_t i = 0; i < t->n; i++) out->log_p[i] = 0;
    if (t->n > (size_t)m->n_ctx)
        return wk_fail(err, WICK_E_CONTEXT, "%zu tokens, the context is %d", t->n, (int)m->n_ctx);
    return wick_x_logits(m->engine, t->t, t->n, on_row, &w, err);
}

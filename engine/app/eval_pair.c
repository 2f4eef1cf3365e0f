/* eval_pair.c: two models on the same windows or items. Their difference is judged by the differences of each, drawn again
 * with replacement (Efron 1979; paired, as Koehn 2004 compares translators): what both find hard cancels, so it takes far
 * fewer items to tell two models apart than their two intervals would. */
#include <string.h>

#include "engine/app/bench_stat.h"
#include "engine/app/eval_impl.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"

/* What is compared; NULL: the task has nothing to compare item by item. */
static const struct {
    const char *metric, *of;
} pairs[WK_EVAL_TASK_COUNT] = {[WK_EVAL_PPL] = {"loss, difference", "windows"},
                               [WK_EVAL_HELLASWAG] = {"acc_norm, difference", "tasks"},
                               [WK_EVAL_CHOICE] = {"acc, difference", "questions"},
                               [WK_EVAL_LASTWORD] = {"greedy match, difference", "texts"},
                               [WK_EVAL_EXACT] = {"exact, or last number, difference", "questions"}};

void wk_eval_unit(wk_eval *e, double value) {
    if (e->rival.path) (void)wk_buf_add(&e->unit[e->second], &value, sizeof(value)); /* kept in failed */
}

static wick_status run_second(wk_eval *e, wick_status (*run)(wk_eval *e, wick_error *err), wick_error *err) {
    const wk_eval_model first = e->m;
    e->m = e->rival;
    e->second = true;
    const wick_status rc = run(e, err);
    e->second = false;
    e->m = first;
    return rc ? wk_fail_at(err, "%s", wk_show(wk_cstr(e->rival.path)).text) : WICK_OK;
}

static wick_status put_row(wk_eval *e, wk_eval_task task, wick_error *err) {
    const wk_value *seed = &e->args->v[WK_ARG_SEED];
    const size_t n = e->unit[0].n / sizeof(double);
    if (e->unit[0].failed || e->unit[1].failed) return wk_fail(err, WICK_E_NOMEM, "no memory to compare two models");
    if (e->unit[0].n != e->unit[1].n || e->read[0] != e->read[1])
        return wk_fail(err, WICK_E_ARG, "%s: %s does not read the same windows: another tokenizer or a shorter context",
                       wk_eval_task_name(task), wk_show(wk_cstr(e->rival.path)).text);
    if (n == 0 || n > INT32_MAX) return WICK_OK;
    double *d = wk_new_n(double, n);
    if (!d) return wk_fail(err, WICK_E_NOMEM, "no memory to compare two models");
    for (size_t i = 0; i < n; i++) {
        double one, two;
        memcpy(&one, e->unit[0].p + i * sizeof(one), sizeof(one));
        memcpy(&two, e->unit[1].p + i * sizeof(two), sizeof(two));
        d[i] = one - two;
    }
    double low, high;
    const double mean = wk_stat_mean_bootstrap(d, (int)n, seed->given ? (uint64_t)seed->i : 1, &low, &high);
    wk_eval_row *r = wk_eval_row_add(e, task, pairs[task].metric, mean, n, pairs[task].of);
    if (r) r->low = low;
    if (r) r->high = high;
    wk_free(d);
    return WICK_OK;
}

wick_status wk_eval_pair(wk_eval *e, wk_eval_task task, wick_status (*run)(wk_eval *e, wick_error *err), wick_error *err) {
    wick_status rc = WICK_OK;
    if (pairs[task].metric) {
        rc = run_second(e, run, err);
        if (!rc) rc = put_row(e, task, err);
    }
    for (int i = 0; i < 2; i++) {
        wk_buf_reset(&e->unit[i]);
        e->read[i] = 0;
    }
    return rc;
}

/* merge.c: an adapter taken into its base. Rows are decoded, changed and encoded one at a time; A stays decoded while
 * the rows of its matrix pass. File rows meet file rows, so rotated q and k need no thought. */
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/file/write.h"
#include "engine/graph/adapter.h"
#include "engine/train/lora.h"
#include "simd/format.h"

typedef struct merge {
    wk_lora_file lora;
    double scale;
    int fmt;
    const wk_lora_pair *now; /* whose A is decoded */
    float *a, *b;            /* [rank * in], [rank], of the largest pair */
    double *sum;             /* [in] */
} merge;

static const wk_lora_pair *pair_of(const merge *m, const wk_tensor *t) {
    for (int32_t i = 0; i < m->lora.n_pair; i++)
        if (m->lora.pair[i].base == t) return &m->lora.pair[i];
    return NULL;
}

static int format_of(void *ud, const wk_tensor *t) {
    const merge *m = (const merge *)ud;
    return m->fmt < 0 ? t->fmt : wk_requant_matrix(t, m->fmt);
}

static bool is_changed(void *ud, const wk_tensor *t) {
    return pair_of((const merge *)ud, t) != NULL;
}

static void decode_a(merge *m, const wk_lora_pair *p) {
    const wk_tensor *a = p->a;
    const size_t row_bytes = wk_row_bytes(a->fmt, (size_t)a->ne[0]);
    for (int32_t j = 0; j < p->rank; j++)
        wk_formats[a->fmt].decode(m->a + (size_t)j * (size_t)a->ne[0],
                                  a->data + (size_t)j * row_bytes, (int)a->ne[0]);
    m->now = p;
}

/* x += scale * sum_j B[row, j] A[j, :], summed in double. */
static void change_row(void *ud, const wk_tensor *t, uint64_t row, float *x) {
    merge *m = (merge *)ud;
    const wk_lora_pair *p = m->now && m->now->base == t ? m->now : pair_of(m, t);
    if (!p) return;
    if (p != m->now) decode_a(m, p);
    const wk_format *f = &wk_formats[p->b->fmt];
    const size_t k = (size_t)t->ne[0];
    const double c = wk_lora_scale(&m->lora, p, m->scale);
    f->decode(m->b, p->b->data + (size_t)row * wk_row_bytes(p->b->fmt, (size_t)p->rank), p->rank);
    memset(m->sum, 0, k * sizeof(*m->sum));
    for (int32_t j = 0; j < p->rank; j++) {
        const float *a = m->a + (size_t)j * k;
        for (size_t i = 0; i < k; i++) m->sum[i] += (double)m->b[j] * (double)a[i];
    }
    for (size_t i = 0; i < k; i++) x[i] = (float)((double)x[i] + c * m->sum[i]);
}

static int reserve(merge *m, wk_err *err) {
    size_t a = 0, b = 0, sum = 0;
    for (int32_t i = 0; i < m->lora.n_pair; i++) {
        const wk_lora_pair *p = &m->lora.pair[i];
        const size_t k = (size_t)p->base->ne[0], rank = (size_t)p->rank;
        if (k > SIZE_MAX / rank) return wk_fail(err, WICK_E_SHAPE, "an adapter's size overflows");
        if (k * rank > a) a = k * rank;
        if (rank > b) b = rank;
        if (k > sum) sum = k;
    }
    m->a = wk_new_n(float, a);
    m->b = wk_new_n(float, b);
    m->sum = wk_new_n(double, sum);
    if (m->a && m->b && m->sum) return WICK_OK;
    return wk_fail(err, WICK_E_NOMEM, "no memory for an adapter of %zu values", a);
}

int wk_lora_merge(const wk_store *base, const wk_store *adapter, double scale, int fmt,
                  const char *out, wk_err *err) {
    merge m = {.scale = scale, .fmt = fmt};
    WK_TRY(wk_lora_read(&m.lora, adapter, base, err));
    int rc = reserve(&m, err);
    const wk_requant_how how = {
        .fmt_of = format_of, .is_changed = is_changed, .change = change_row, .ud = &m};
    if (!rc) rc = wk_requant_by(base, out, &how, err);
    wk_lora_fini(&m.lora);
    wk_free(m.a);
    wk_free(m.b);
    wk_free(m.sum);
    return rc;
}

/* split.c: runs the parts of a plan on their devices and carries the values between them. */
#include "engine/run/split.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/run/split_cross.h"

struct wk_dev {
    int32_t n;
    wk_split_part part[];
};

typedef struct copies {
    uint64_t n_put, n_get, put_bytes, get_bytes;
} copies;

struct wk_exec {
    const wk_dev *dev;
    const wk_plan *plan;
    wk_exec **sub;   /* [n] of the parts' own devices */
    copies *copied;  /* [n] */
    wk_split_cross cross;
    uint8_t *bad; /* [max_tok] of one part: a device may write all of it */
    wk_batch batch;
    uint8_t *bad_tok; /* of the pass whose last part is under way, else NULL */
    uint64_t n_pass, wall_ns, copy_ns;
};

/* ---- a pass -------------------------------------------------------------------------------------- */

static int32_t rows_of(const wk_exec *x, int32_t val) {
    return x->plan->val[val].rows == WK_ROWS_TOK ? x->batch.n_tok : x->batch.n_out;
}

/* What failed, and where: the layers and the device. */
static int name_part(const wk_exec *x, int32_t i, int rc, wk_err *err) {
    const wk_split_part *s = &x->dev->part[i];
    const int first = (int)s->part.layer_first, n = (int)s->part.n_layer;
    if (!rc || !err) return rc;
    if (n > 0)
        (void)wk_fail_at(err, "layers %d to %d on %s", first, first + n - 1, s->name);
    else
        (void)wk_fail_at(err, "the last steps on %s", s->name);
    return rc;
}

static int put_inputs(wk_exec *x, int32_t to, wk_err *err) {
    const wk_split_part *s = &x->dev->part[to];
    const uint64_t t0 = wk_os_now_ns();
    for (int32_t i = 0; i < x->cross.n; i++) {
        const wk_split_crossing *c = &x->cross.c[i];
        const int32_t rows = rows_of(x, c->val);
        if (c->to != to || rows == 0) continue;
        WK_TRY(s->ops->put(x->sub[to], c->val, rows, c->at, err));
        x->copied[to].n_put++;
        x->copied[to].put_bytes += (uint64_t)rows * (uint64_t)x->plan->val[c->val].dim * sizeof(float);
    }
    x->copy_ns += wk_os_now_ns() - t0;
    return WICK_OK;
}

/* After the part's wait, so that the time is the copy's alone. */
static int get_outputs(wk_exec *x, int32_t from, wk_err *err) {
    const wk_split_part *s = &x->dev->part[from];
    const uint64_t t0 = wk_os_now_ns();
    for (int32_t i = 0; i < x->cross.n; i++) {
        const wk_split_crossing *c = &x->cross.c[i];
        const int32_t rows = rows_of(x, c->val);
        if (c->from != from || !c->fetches || rows == 0) continue;
        WK_TRY(s->ops->get(x->sub[from], c->val, rows, c->at, err));
        x->copied[from].n_get++;
        x->copied[from].get_bytes += (uint64_t)rows * (uint64_t)x->plan->val[c->val].dim * sizeof(float);
    }
    x->copy_ns += wk_os_now_ns() - t0;
    return WICK_OK;
}

static int start_part(wk_exec *x, int32_t i, wk_err *err) {
    memset(x->bad, 0, (size_t)x->batch.n_tok);
    WK_TRY(put_inputs(x, i, err));
    return x->dev->part[i].ops->run(x->sub[i], &x->batch, err);
}

static int end_part(wk_exec *x, int32_t i, uint8_t *bad_tok, wk_err *err) {
    const int rc = x->dev->part[i].ops->wait(x->sub[i], err);
    for (int32_t t = 0; t < x->batch.n_tok; t++) bad_tok[t] |= x->bad[t];
    return rc;
}

/* A part that failed may still be under way with what the batch points to. */
static void stop_part(wk_exec *x, int32_t i) {
    wk_err ignored = {0};
    (void)x->dev->part[i].ops->wait(x->sub[i], &ignored); /* the first error is the one that is told */
}

static int run_parts(wk_exec *x, uint8_t *bad_tok, wk_err *err) {
    for (int32_t i = 0; i < x->dev->n; i++) {
        const bool last = i + 1 == x->dev->n;
        int rc = start_part(x, i, err);
        if (!rc && !last) rc = end_part(x, i, bad_tok, err);
        if (!rc && !last) rc = get_outputs(x, i, err);
        if (!rc) continue;
        stop_part(x, i);
        return name_part(x, i, rc, err);
    }
    return WICK_OK;
}

static int split_run(wk_exec *x, const wk_batch *b, wk_err *err) {
    if (b->n_tok < 1 || b->n_tok > x->plan->max_tok || b->n_out > x->plan->max_out)
        return wk_fail(err, WICK_E_ARG, "a batch of %d tokens and %d rows, the plan takes %d and %d", (int)b->n_tok,
                       (int)b->n_out, (int)x->plan->max_tok, (int)x->plan->max_out);
    const wk_split_part *last = &x->dev->part[x->dev->n - 1];
    if (b->top && !last->ops->can_top)
        return wk_fail(err, WICK_E_ARG, "%s, which runs the last stage, gives logits, no ids", last->name);
    const uint64_t t0 = wk_os_now_ns();
    x->batch = *b;
    x->batch.bad_tok = x->bad;
    x->bad_tok = b->bad_tok;
    const int rc = run_parts(x, b->bad_tok, err);
    if (rc) x->bad_tok = NULL;
    x->wall_ns += wk_os_now_ns() - t0;
    return rc;
}

static int split_wait(wk_exec *x, wk_err *err) {
    const int32_t last = x->dev->n - 1;
    if (!x->bad_tok) return WICK_OK; /* nothing is under way */
    const uint64_t t0 = wk_os_now_ns();
    const int rc = end_part(x, last, x->bad_tok, err);
    x->bad_tok = NULL;
    x->wall_ns += wk_os_now_ns() - t0;
    if (!rc) x->n_pass++;
    return name_part(x, last, rc, err);
}

/* ---- values of the whole ------------------------------------------------------------------------- */

static int refuse_value(int32_t val, wk_err *err) {
    return wk_fail(err, WICK_E_ARG, "value %d is not carried between the parts", (int)val);
}

static int split_put(wk_exec *x, int32_t val, int32_t rows, const float *src, wk_err *err) {
    bool taken = false;
    for (int32_t i = 0; i < x->cross.n; i++) {
        const wk_split_crossing *c = &x->cross.c[i];
        if (c->val != val) continue;
        WK_TRY(x->dev->part[c->to].ops->put(x->sub[c->to], val, rows, src, err));
        taken = true;
    }
    return taken ? WICK_OK : refuse_value(val, err);
}

static int split_get(wk_exec *x, int32_t val, int32_t rows, float *dst, wk_err *err) {
    if (val < 0 || val >= x->plan->n_val) return refuse_value(val, err);
    const int32_t i = wk_split_part_of(x->dev->part, x->dev->n, x->plan->val[val].stage_def);
    return i < 0 ? refuse_value(val, err) : x->dev->part[i].ops->get(x->sub[i], val, rows, dst, err);
}

/* ---- trace --------------------------------------------------------------------------------------- */

static void split_trace_start(wk_exec *x) {
    x->n_pass = x->wall_ns = x->copy_ns = 0;
    memset(x->copied, 0, (size_t)x->dev->n * sizeof(*x->copied));
    for (int32_t i = 0; i < x->dev->n; i++) x->dev->part[i].ops->trace_start(x->sub[i]);
}

static void split_trace_stop(wk_exec *x) {
    for (int32_t i = 0; i < x->dev->n; i++) x->dev->part[i].ops->trace_stop(x->sub[i]);
}

static uint64_t more(uint64_t a, uint64_t b) { return a > b ? a : b; }

static void split_trace_read(const wk_exec *x, wk_trace *out) {
    uint64_t told_ns = 0;
    *out = (wk_trace){.n_pass = x->n_pass, .wall_ns = x->wall_ns};
    for (int32_t i = 0; i < x->dev->n; i++) {
        const copies *c = &x->copied[i];
        wk_trace t;
        x->dev->part[i].ops->trace_read(x->sub[i], &t);
        for (int op = 0; op < WK_OP_COUNT; op++) out->op_ns[op] += t.op_ns[op];
        out->n_barrier += t.n_barrier;
        out->head_ns += t.head_ns;
        out->wait_ns += t.wait_ns;
        out->n_put += more(c->n_put, t.n_put);
        out->n_get += more(c->n_get, t.n_get);
        out->put_bytes += more(c->put_bytes, t.put_bytes);
        out->get_bytes += more(c->get_bytes, t.get_bytes);
        told_ns += t.copy_ns;
    }
    out->copy_ns = told_ns ? told_ns : x->copy_ns;
}

/* ---- the device ---------------------------------------------------------------------------------- */

static int split_count(char *why, size_t n) {
    if (n) (void)snprintf(why, n, "a split is made of other devices");
    return 0;
}

static int split_open(wk_dev **out, int index, const wk_host *host, wk_err *err) {
    (void)index;
    (void)host;
    *out = NULL;
    return wk_fail(err, WICK_E_DEVICE, "a split is made of other devices");
}

static void split_close(wk_dev *d) { wk_free(d); }

static int split_info(wk_dev *d, bool measure, wk_dev_info *out, wk_err *err) {
    (void)measure;
    (void)err;
    *out = (wk_dev_info){.name = "split"};
    (void)snprintf(out->driver, sizeof(out->driver), "%d parts", (int)d->n);
    return WICK_OK;
}

static bool split_can(wk_dev *d, const wk_plan *p, const wk_step *s) {
    for (int32_t i = 0; i < d->n; i++)
        if (!d->part[i].ops->can(d->part[i].dev, p, s)) return false;
    return true;
}

static size_t split_bytes(const wk_plan *p, const wk_part *part, uint32_t n_page, int n_thread) {
    (void)p;
    (void)part;
    (void)n_page;
    (void)n_thread;
    return SIZE_MAX;
}

static void split_unprepare(wk_exec *x) {
    if (!x) return;
    for (int32_t i = 0; x->sub && i < x->dev->n; i++)
        if (x->sub[i]) x->dev->part[i].ops->unprepare(x->sub[i]);
    wk_free(x->sub);
    wk_free(x->copied);
    wk_split_cross_free(&x->cross);
    wk_free(x->bad);
    wk_free(x);
}

/* In order and without gaps, all of the plan. */
static int check_parts(const wk_dev *d, const wk_plan *p, wk_err *err) {
    int32_t stage = 0, layer = 0;
    for (int32_t i = 0; i < d->n; i++) {
        const wk_part *q = &d->part[i].part;
        if (q->stage_first != stage || q->layer_first != layer)
            return wk_fail(err, WICK_E_ARG, "part %d begins at stage %d and layer %d, %d and %d are next", (int)i,
                           (int)q->stage_first, (int)q->layer_first, (int)stage, (int)layer);
        stage += q->n_stage;
        layer += q->n_layer;
    }
    if (stage == p->n_stage && layer == p->n_layer) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "the parts end at stage %d and layer %d, the plan has %d and %d", (int)stage,
                   (int)layer, (int)p->n_stage, (int)p->n_layer);
}

static int prepare_parts(wk_exec *x, uint32_t n_page, wk_err *err) {
    for (int32_t i = 0; i < x->dev->n; i++) {
        const wk_split_part *s = &x->dev->part[i];
        const int rc = s->ops->prepare(&x->sub[i], s->dev, x->plan, &s->part, n_page, err);
        if (!rc) continue;
        x->sub[i] = NULL;
        return name_part(x, i, rc, err);
    }
    return WICK_OK;
}

static int split_prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n_page,
                         wk_err *err) {
    int rc = WICK_OK;
    *out = NULL;
    if (part) return wk_fail(err, WICK_E_ARG, "a part of a plan cannot be split");
    WK_TRY(check_parts(d, p, err));
    wk_exec *x = wk_new(wk_exec);
    if (!x) return wk_fail(err, WICK_E_NOMEM, "no memory for %d parts", (int)d->n);
    x->dev = d;
    x->plan = p;
    x->sub = wk_new_n(wk_exec *, (size_t)d->n);
    x->copied = wk_new_n(copies, (size_t)d->n);
    x->bad = wk_new_n(uint8_t, (size_t)p->max_tok);
    if (!x->sub || !x->copied || !x->bad) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for %d parts", (int)d->n);
        goto out;
    }
    if ((rc = wk_split_cross_plan(&x->cross, p, d->part, d->n, err))) goto out;
    if ((rc = prepare_parts(x, n_page, err))) goto out;
    *out = x;
    x = NULL;
out:
    split_unprepare(x);
    return rc;
}

int wk_split_open(wk_dev **out, const wk_split_part *part, int32_t n, wk_err *err) {
    *out = NULL;
    if (n < 1) return wk_fail(err, WICK_E_ARG, "a split of %d parts", (int)n);
    wk_dev *d = wk_alloc(sizeof(*d) + (size_t)n * sizeof(*part));
    if (!d) return wk_fail(err, WICK_E_NOMEM, "no memory for %d parts", (int)n);
    d->n = n;
    memcpy(d->part, part, (size_t)n * sizeof(*part));
    *out = d;
    return WICK_OK;
}

const wk_backend_ops *wk_split_backend(void) {
    static const wk_backend_ops ops = {.abi = WK_BACKEND_ABI,
                                       .size = sizeof(wk_backend_ops),
                                       .name = "split",
                                       .count = split_count,
                                       .open = split_open,
                                       .close = split_close,
                                       .info = split_info,
                                       .can = split_can,
                                       .prepare = split_prepare,
                                       .run = split_run,
                                       .wait = split_wait,
                                       .unprepare = split_unprepare,
                                       .put = split_put,
                                       .get = split_get,
                                       .bytes = split_bytes,
                                       .trace_start = split_trace_start,
                                       .trace_stop = split_trace_stop,
                                       .trace_read = split_trace_read};
    return &ops;
}

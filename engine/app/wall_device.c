/* wall_device.c: the same rows on a device, in the same rounds as the cpu's: prefill, decode, steps of training. */
#include <stdio.h>
#include <string.h>

#include "engine/app/wall_impl.h"
#include "engine/base/err.h"

/* The cpu comes first: what is measured of it is what a device is held against. */
wick_status wk_wall_device_list(wk_wall *w, wick_error *err) {
    wk_bench_wish *x = &w->b.wish;
    WK_TRY(wk_device_list(x, w->args.v[WK_ARG_WALL_DEVICE].s, err));
    int at = 0;
    while (at < x->n_device && strcmp(x->device[at], "cpu") != 0) at++;
    if (at == x->n_device && at == WK_BENCH_DEVICES)
        return wk_fail(err, WICK_E_ARG, "--device names %d devices, wall measures %d beside the cpu", at, at - 1);
    if (at == x->n_device) x->n_device++;
    for (; at > 0; at--) memcpy(x->device[at], x->device[at - 1], sizeof(x->device[0]));
    (void)snprintf(x->device[0], sizeof(x->device[0]), "cpu");
    return WICK_OK;
}

/* Rows of the devices; the engine that is open is the cpu's. */
wick_status wk_wall_device_rows(wk_wall *w, wick_error *err) {
    wk_bench *b = &w->b;
    const unsigned only = b->wish.only;
    wick_status rc = WICK_OK;
    if (!b->wish.devices) return WICK_OK;
    wk_device_look(b);
    wk_device_keep(b, 0);
    b->wish.only = WK_ONLY_PREFILL | WK_ONLY_DECODE;
    for (int i = 1; i < b->n_target && !rc; i++) {
        const int first = b->n_row;
        rc = wk_device_open(b, i, err);
        if (rc) break;
        if (b->target[i].why[0]) {
            wk_device_missing(b, i);
            continue;
        }
        wk_device_use(b, i);
        wk_round_rows(b);
        wk_device_mark(b, first, i);
    }
    b->wish.only = only;
    wk_device_use(b, 0);
    return rc;
}

/* The engine of the cpu stays open and is the only one again. */
void wk_wall_device_close(wk_wall *w) {
    wk_bench *b = &w->b;
    if (!b->n_target) return;
    const int n = b->n_target;
    for (int i = 1; i < n; i++) {
        wk_device_use(b, i);
        wk_round_close(b);
        wk_nvml_close(&b->target[i].nvml);
    }
    wk_device_use(b, 0);
    b->n_target = 0;
}

/* ---- training ------------------------------------------------------------------------------------ */

/* The row stays when one job is measured after another. */
static bool take_row(wk_wall *w, wk_wall_train *t, wk_wall_job job, const char *device) {
    if (!t->row) t->row = wk_round_row(&w->b, WK_BENCH_ENGINE, "tok/s", "%s", wk_wall_job_name(job));
    if (t->row) (void)snprintf(t->row->device, sizeof(t->row->device), "%s", device);
    return t->row != NULL;
}

static wick_status open_job(wk_wall *w, int device, wk_wall_job job, wick_error *err) {
    char name[48] = "";
    const char *spec = w->b.wish.device[device], *label = w->b.target[device].label;
    wk_wall_train *t = &w->dev_job[device][job];
    wick_x_train_options o = wk_wall_options(w, job);
    o.device = spec;
    const wick_status rc = wick_x_train_device(&o, name, sizeof(name), err);
    if (!take_row(w, t, job, name[0] ? name : label[0] ? label : spec)) return wk_fail(err, WICK_E_NOMEM, "no room for a row");
    WK_TRY(rc);
    WK_TRY(wick_x_trainer_open(&o, &t->trainer, err));
    t->cost = (wick_x_train_cost){.size = sizeof(t->cost)};
    (void)wick_x_trainer_cost(t->trainer, &t->cost); /* of the notes alone */
    t->row->measure = wk_wall_measure_step;
    return WICK_OK;
}

/* With recompute is the cpu's alone: a device is measured as it would train. */
void wk_wall_device_train_open(wk_wall *w, const bool wanted[WK_JOB_COUNT]) {
    const wk_bench_wish *x = &w->b.wish;
    for (int i = 1; i < x->n_device && x->devices; i++) {
        for (int j = 0; j < WK_JOB_COUNT; j++) {
            wick_error why = {0};
            wk_wall_train *t = &w->dev_job[i][j];
            if (!wanted[j] || j == WK_JOB_RECOMPUTE || !open_job(w, i, (wk_wall_job)j, &why)) continue;
            if (t->row) (void)snprintf(t->row->note, sizeof(t->row->note), "not measured: %.180s", why.message);
        }
    }
}

void wk_wall_device_train_close(wk_wall *w) {
    for (int i = 1; i < WK_BENCH_DEVICES; i++) {
        for (int j = 0; j < WK_JOB_COUNT; j++) {
            wk_wall_train *t = &w->dev_job[i][j];
            wick_x_trainer_close(t->trainer);
            t->trainer = NULL;
            if (t->row) t->row->measure = NULL;
        }
    }
}

/* ---- in words ------------------------------------------------------------------------------------ */

/* The cpu's row of the same name. */
static const wk_bench_row *same_here(const wk_wall *w, const wk_bench_row *r) {
    for (int j = 0; j < WK_JOB_COUNT; j++)
        if (strcmp(r->name, wk_wall_job_name((wk_wall_job)j)) == 0) return w->job[j].row;
    return strcmp(r->name, "decode") == 0 ? w->decode : w->prefill;
}

bool wk_wall_is_device(const wk_bench_row *r) { return r->device[0] && strcmp(r->device, "cpu") != 0; }

/* "fake:0 / this CPU, measured: 0.31 x in decode, 0.8 x in prefill 512"; false: no device was asked for. */
bool wk_wall_device_text(const wk_wall *w, char *out, size_t cap) {
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < w->b.n_row && n < cap; i++) {
        const wk_bench_row *r = &w->b.row[i];
        if (!wk_wall_is_device(r)) continue;
        const wk_bench_row *cpu = same_here(w, r);
        const double base = cpu ? wk_wall_median(cpu) : 0;
        if (!r->n)
            n += (size_t)snprintf(out + n, cap - n, "%s%s, %s: %s", n ? "; " : "", r->device, r->name,
                                  r->note[0] ? r->note : "not measured");
        else if (base > 0)
            n += (size_t)snprintf(out + n, cap - n, "%s%s / this CPU, measured: %.3g x in %s", n ? "; " : "", r->device,
                                  wk_wall_median(r) / base, r->name);
    }
    return n > 0;
}

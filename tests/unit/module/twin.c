/* twin.c: a module with a copy of the cpu in it: everything that an engine does with a device, and the bits known. */
#include "tests/unit/module/twin.h"

#include <stdio.h>

#include "engine/cpu/cpu.h"

WK_EXPORT twin_knobs wick_twin = TWIN_KNOBS;
WK_EXPORT const wk_backend_ops *wick_backend(void);

static bool hit(int *n) { return *n > 0 && --*n == 0; }
static const wk_backend_ops *cpu(void) { return wk_cpu_backend(); }

static int count(char *why, size_t n) {
    if (!wick_twin.n_device) (void)snprintf(why, n, "twin: no driver");
    return wick_twin.n_device;
}
static int open_dev(wk_dev **out, int index, const wk_host *host, wk_err *err) {
    (void)index;
    if (hit(&wick_twin.open_at)) return wk_fail(err, WICK_E_DEVICE, "twin: it does not open");
    wick_twin.n_open++;
    return cpu()->open(out, 0, host, err);
}
static void close_dev(wk_dev *d) {
    wick_twin.n_close++;
    cpu()->close(d);
}
static int info(wk_dev *d, bool measure, wk_dev_info *out, wk_err *err) {
    (void)d;
    if (hit(&wick_twin.info_at)) return wk_fail(err, WICK_E_DEVICE, "twin: it says nothing");
    *out = (wk_dev_info){.name = "Twin", .driver = "none", .mem_total = wick_twin.mem_total, .mem_free = wick_twin.mem_free};
    wick_twin.n_measure += measure;
    if (!measure) return WICK_OK;
    out->read_rate = wick_twin.read_rate;
    out->put_rate = wick_twin.put_rate;
    out->get_rate = wick_twin.get_rate;
    return WICK_OK;
}
static bool can(wk_dev *d, const wk_plan *p, const wk_step *s) {
    (void)d;
    (void)p;
    return !wick_twin.cannot && s->layer != wick_twin.cannot_layer;
}
static int prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n, wk_err *err) {
    if (hit(&wick_twin.prepare_at)) return wk_fail(err, WICK_E_DEVICE, "twin: out of memory");
    wick_twin.n_prepare++;
    wick_twin.layer_first = part ? part->layer_first : -1;
    wick_twin.n_layer = part ? part->n_layer : p->n_layer;
    wick_twin.n_stage = part ? part->n_stage : p->n_stage;
    return cpu()->prepare(out, d, p, part, n, err);
}
static void unprepare(wk_exec *x) {
    wick_twin.n_unprepare += x != NULL;
    cpu()->unprepare(x);
}
static int run(wk_exec *x, const wk_batch *b, wk_err *err) {
    wick_twin.n_run++;
    if (hit(&wick_twin.run_at)) return wk_fail(err, WICK_E_DEVICE, "twin: the launch failed");
    return cpu()->run(x, b, err);
}
static int wait_dev(wk_exec *x, wk_err *err) {
    if (hit(&wick_twin.wait_at)) return wk_fail(err, WICK_E_DEVICE, "twin: the pass failed");
    return cpu()->wait(x, err);
}
static int put(wk_exec *x, int32_t val, int32_t rows, const float *src, wk_err *err) {
    if (hit(&wick_twin.put_at)) return wk_fail(err, WICK_E_DEVICE, "twin: a copy to it failed");
    return cpu()->put(x, val, rows, src, err);
}
static int get(wk_exec *x, int32_t val, int32_t rows, float *dst, wk_err *err) {
    if (hit(&wick_twin.get_at)) return wk_fail(err, WICK_E_DEVICE, "twin: a copy from it failed");
    return cpu()->get(x, val, rows, dst, err);
}
static size_t bytes(const wk_plan *p, const wk_part *part, uint32_t n, int n_thread) {
    (void)n_thread;
    return cpu()->bytes(p, part, n, 1);
}

const wk_backend_ops *wick_backend(void) {
    static wk_backend_ops o;
    o = *cpu();
    o.name = "twin";
    o.count = count;
    o.open = open_dev;
    o.close = close_dev;
    o.info = info;
    o.can = can;
    o.prepare = prepare;
    o.unprepare = unprepare;
    o.run = run;
    o.wait = wait_dev;
    o.put = put;
    o.get = get;
    o.bytes = bytes;
    return &o;
}

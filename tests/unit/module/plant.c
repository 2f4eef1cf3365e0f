/* plant.c: modules that the loader must refuse, one by each PLANT_... definition. */
#include <stdio.h>

#include "engine/graph/backend.h"

#ifndef PLANT_nosymbol
WK_EXPORT const wk_backend_ops *wick_backend(void);

#ifndef PLANT_null
static int count(char *why, size_t n) {
#ifdef PLANT_none
    (void)snprintf(why, n, "planted: no driver is loaded");
    return 0;
#else
    (void)why;
    (void)n;
    return 2;
#endif
}
static int open_dev(wk_dev **out, int index, const wk_host *host, wk_err *err) {
    (void)host;
    *out = NULL;
    if (err) (void)snprintf(err->message, sizeof(err->message), "planted: device %d does not open", index);
    if (err) err->code = WICK_E_DEVICE;
    return WICK_E_DEVICE;
}
static void close_dev(wk_dev *d) { (void)d; }
static int info(wk_dev *d, bool measure, wk_dev_info *out, wk_err *err) {
    (void)d, (void)measure, (void)out, (void)err;
    return WICK_E_DEVICE;
}
static bool can(wk_dev *d, const wk_plan *p, const wk_step *s) {
    (void)d, (void)p, (void)s;
    return false;
}
static int prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n, wk_err *err) {
    (void)out, (void)d, (void)p, (void)part, (void)n, (void)err;
    return WICK_E_DEVICE;
}
static int run(wk_exec *x, const wk_batch *b, wk_err *err) {
    (void)x, (void)b, (void)err;
    return WICK_E_DEVICE;
}
static int wait_dev(wk_exec *x, wk_err *err) {
    (void)x, (void)err;
    return WICK_E_DEVICE;
}
static void unprepare(wk_exec *x) { (void)x; }
static int put(wk_exec *x, int32_t val, int32_t rows, const float *src, wk_err *err) {
    (void)x, (void)val, (void)rows, (void)src, (void)err;
    return WICK_E_DEVICE;
}
static int get(wk_exec *x, int32_t val, int32_t rows, float *dst, wk_err *err) {
    (void)x, (void)val, (void)rows, (void)dst, (void)err;
    return WICK_E_DEVICE;
}
static size_t bytes(const wk_plan *p, const wk_part *part, uint32_t n, int n_thread) {
    (void)p, (void)part, (void)n, (void)n_thread;
    return 0;
}
static void trace(wk_exec *x) { (void)x; }
static void trace_read(const wk_exec *x, wk_trace *out) {
    (void)x;
    *out = (wk_trace){.n_pass = 0};
}

static const wk_backend_ops ops = {
    .abi = WK_BACKEND_ABI,
    .size = sizeof(wk_backend_ops),
    .name = "plant",
    .count = count,
    .open = open_dev,
    .close = close_dev,
    .info = info,
    .can = can,
    .prepare = prepare,
    .run = run,
    .wait = wait_dev,
    .unprepare = unprepare,
    .put = put,
    .get = get,
    .bytes = bytes,
    .trace_start = trace,
    .trace_stop = trace,
    .trace_read = trace_read,
};
#endif

#ifdef PLANT_unresolved
int wick_plant_nowhere(void);
#endif

const wk_backend_ops *wick_backend(void) {
#ifdef PLANT_null
    return NULL;
#else
    static wk_backend_ops o;
    o = ops;
#if defined(PLANT_abi)
    o.abi = WK_BACKEND_ABI + 7;
#elif defined(PLANT_short)
    o.size = sizeof(o) - 8;
#elif defined(PLANT_noname)
    o.name = NULL;
#elif defined(PLANT_hole)
    o.trace_read = NULL;
#elif defined(PLANT_unresolved)
    o.abi = (uint32_t)wick_plant_nowhere();
#endif
    return &o;
#endif
}
#else
WK_EXPORT int wick_other(void);
int wick_other(void) { return 1; }
#endif

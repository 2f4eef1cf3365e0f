/* fake_train.c: a device that trains, of the tests: a module whose trainer is the house's own wk_texec and wk_optim, so that a
 * run on it has the host's bits. Its memory is its own: nobody sees a parameter but by get. It runs no plans.
 *
 * What it does wrong is asked for by the environment:
 *   WICK_FAKE_COUNT=n                    devices (1)
 *   WICK_FAKE_MEM=bytes                  free memory of a device (1 TB)
 *   WICK_FAKE_TRAIN_ABI=n _SIZE=n        what the functions of training say of themselves
 *   WICK_FAKE_TRAIN_MISSING=1            one of them is not there
 *   WICK_FAKE_TRAIN_NOMEM=1              open has no memory
 *   WICK_FAKE_TRAIN_FAIL=call:n          the n-th such call fails: device (of the backend) open put get run norm step zero
 *   WICK_FAKE_REPORT=file                gets one line when a trainer is closed: how many are open, and bf16 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/attr.h"
#include "engine/train/device.h"
#include "engine/train/optim.h"
#include "simd/kernels.h"

struct wk_tdev {
    const wk_grad *g;
    wk_team *team;
    wk_kernels k;
    wk_grad_kernels gk;
    wk_sgemm *gemm;
    wk_texec *x;
    wk_optim opt;
    bool bf16;
};

struct wk_dev {
    int index;
};

static int n_open;

/* ---- knobs --------------------------------------------------------------------------------------- */

static double number(const char *name, double other) {
    const char *s = getenv(name);
    return s ? strtod(s, NULL) : other;
}

/* Counts a call; it fails where the knob says so. */
static int fails(const char *call, wk_err *err) {
    static const char *const names[] = {"device", "open", "put", "get", "run", "norm", "step", "zero"};
    static long count[WK_COUNT(names)];
    const char *knob = getenv("WICK_FAKE_TRAIN_FAIL");
    size_t i = 0;
    while (strcmp(names[i], call) != 0) i++;
    count[i]++;
    const size_t n = strlen(call);
    if (!knob || strncmp(knob, call, n) != 0 || knob[n] != ':' || strtol(knob + n + 1, NULL, 10) != count[i]) return WICK_OK;
    return wk_fail(err, WICK_E_DEVICE, "call %ld of %s was told to fail", count[i], call);
}

/* ---- training ------------------------------------------------------------------------------------ */

static void close_all(wk_tdev *d) {
    wk_optim_fini(&d->opt);
    wk_texec_free(d->x);
    wk_sgemm_free(d->gemm);
    wk_team_free(d->team);
    free(d);
}

static int open_parts(wk_tdev *d, const wk_tdev_options *o, wk_err *err) {
    WK_TRY(fails("open", err));
    if (number("WICK_FAKE_TRAIN_NOMEM", 0) > 0) return wk_fail(err, WICK_E_NOMEM, "no memory of the device for parameters");
    d->team = wk_team_new(o->host->n_thread, o->host->n_cpu);
    if (!d->team) return wk_fail(err, WICK_E_NOMEM, "no team");
    wk_kernels_init(&d->k, o->host->cpu_mask);
    wk_grad_kernels_init(&d->gk, o->host->cpu_mask);
    WK_TRY(wk_sgemm_new(&d->gemm, &d->k, &d->gk, d->team, WK_SGEMM_WICK, err));
    const wk_texec_options x = {.team = d->team, .k = &d->k, .gk = &d->gk, .gemm = d->gemm};
    const wk_optim_options p = {.decay = o->decay, .beta1 = o->beta1, .beta2 = o->beta2, .eps = o->eps, .kind = WK_OPTIM_ADAMW};
    WK_TRY(wk_texec_new(&d->x, d->g, &x, err));
    return wk_optim_init(&d->opt, d->g, &d->gk, d->team, wk_texec_params(d->x), wk_texec_grads(d->x), &p, err);
}

static int train_open(wk_tdev **out, const wk_grad *g, const wk_tdev_options *o, wk_err *err) {
    wk_tdev *d = calloc(1, sizeof(*d));
    *out = NULL;
    if (!d) return wk_fail(err, WICK_E_NOMEM, "no memory");
    d->g = g;
    d->bf16 = o->bf16;
    const int rc = open_parts(d, o, err);
    if (rc) {
        close_all(d);
        return rc;
    }
    n_open++;
    *out = d;
    return WICK_OK;
}

static void train_close(wk_tdev *d) {
    const char *path = getenv("WICK_FAKE_REPORT");
    FILE *f = path ? fopen(path, "a") : NULL;
    n_open--;
    if (f) fprintf(f, "open=%d bf16=%d\n", n_open, d->bf16);
    if (f) fclose(f);
    close_all(d);
}

static const char *train_about(const wk_tdev *d) {
    (void)d;
    return "products by wick";
}

static size_t train_bytes(const wk_grad *g, const wk_tdev_options *o) {
    (void)o;
    size_t params, values, scratch;
    if (!wk_texec_bytes(g, 1, &params, &values, &scratch)) return SIZE_MAX;
    return 2 * params + values + scratch;
}

static float *arena(wk_tdev *d, wk_tdev_arena a) {
    float *const all[WK_TDEV_ARENA_COUNT] = {wk_texec_params(d->x), wk_texec_grads(d->x), (float *)(void *)d->opt.m.p,
                                             (float *)(void *)d->opt.v.p};
    return all[a];
}

static int train_put(wk_tdev *d, wk_tdev_arena a, size_t off, const float *src, size_t n, wk_err *err) {
    WK_TRY(fails("put", err));
    if (off > d->g->n_elem || n > d->g->n_elem - off) return wk_fail(err, WICK_E_ARG, "put beyond the arena");
    memcpy(arena(d, a) + off, src, n * sizeof(float));
    return WICK_OK;
}

static int train_get(wk_tdev *d, wk_tdev_arena a, size_t off, float *dst, size_t n, wk_err *err) {
    WK_TRY(fails("get", err));
    if (off > d->g->n_elem || n > d->g->n_elem - off) return wk_fail(err, WICK_E_ARG, "get beyond the arena");
    memcpy(dst, arena(d, a) + off, n * sizeof(float));
    return WICK_OK;
}

static int train_run(wk_tdev *d, const wk_tbatch *b, bool backward, wk_tloss *out, wk_err *err) {
    WK_TRY(fails("run", err));
    wk_texec_run(d->x, b, backward, out);
    return WICK_OK;
}

static int train_norm(wk_tdev *d, double *out, wk_err *err) {
    WK_TRY(fails("norm", err));
    *out = wk_optim_norm(&d->opt);
    return WICK_OK;
}

static int train_step(wk_tdev *d, int64_t t, double lr, double scale, wk_err *err) {
    WK_TRY(fails("step", err));
    wk_optim_step(&d->opt, t, lr, scale);
    return WICK_OK;
}

static int train_zero(wk_tdev *d, wk_err *err) {
    WK_TRY(fails("zero", err));
    wk_optim_zero(&d->opt);
    return WICK_OK;
}

WK_EXPORT const wk_tdev_ops *wick_trainer(void);
WK_EXPORT const wk_tdev_ops *wick_trainer(void) {
    static wk_tdev_ops ops;
    ops = (wk_tdev_ops){.abi = (uint32_t)number("WICK_FAKE_TRAIN_ABI", WK_TDEV_ABI),
                        .size = (uint32_t)number("WICK_FAKE_TRAIN_SIZE", sizeof(wk_tdev_ops)),
                        .name = "pupil",
                        .open = train_open,
                        .close = train_close,
                        .bytes = train_bytes,
                        .about = train_about,
                        .put = train_put,
                        .get = train_get,
                        .run = train_run,
                        .norm = train_norm,
                        .step = train_step,
                        .zero = number("WICK_FAKE_TRAIN_MISSING", 0) > 0 ? NULL : train_zero};
    return &ops;
}

/* ---- the device: it is there, has memory, and runs nothing ---------------------------------------- */

static int dev_count(char *why, size_t n) {
    (void)snprintf(why, n, "WICK_FAKE_COUNT says so");
    return (int)number("WICK_FAKE_COUNT", 1);
}

static int dev_open(wk_dev **out, int index, const wk_host *host, wk_err *err) {
    (void)host;
    *out = NULL;
    WK_TRY(fails("device", err));
    wk_dev *d = calloc(1, sizeof(*d));
    if (!d) return wk_fail(err, WICK_E_NOMEM, "no memory");
    d->index = index;
    *out = d;
    return WICK_OK;
}

static void dev_close(wk_dev *d) { free(d); }

static int dev_info(wk_dev *d, bool measure, wk_dev_info *out, wk_err *err) {
    (void)d, (void)measure, (void)err;
    *out = (wk_dev_info){.name = "pupil", .driver = "none", .mem_total = (uint64_t)number("WICK_FAKE_MEM", 1e12)};
    out->mem_free = out->mem_total;
    return WICK_OK;
}

static bool dev_can(wk_dev *d, const wk_plan *p, const wk_step *s) {
    (void)d, (void)p, (void)s;
    return false;
}

static int no_plans(wk_err *err) { return wk_fail(err, WICK_E_UNSUPPORTED, "this device runs no plans"); }
static int dev_prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n, wk_err *err) {
    (void)d, (void)p, (void)part, (void)n;
    *out = NULL;
    return no_plans(err);
}
static int dev_run(wk_exec *x, const wk_batch *b, wk_err *err) { return (void)x, (void)b, no_plans(err); }
static int dev_wait(wk_exec *x, wk_err *err) { return (void)x, no_plans(err); }
static void dev_unprepare(wk_exec *x) { (void)x; }
static int dev_put(wk_exec *x, int32_t v, int32_t rows, const float *src, wk_err *err) {
    return (void)x, (void)v, (void)rows, (void)src, no_plans(err);
}
static int dev_get(wk_exec *x, int32_t v, int32_t rows, float *dst, wk_err *err) {
    return (void)x, (void)v, (void)rows, (void)dst, no_plans(err);
}
static size_t dev_bytes(const wk_plan *p, const wk_part *part, uint32_t n, int n_thread) {
    return (void)p, (void)part, (void)n, (void)n_thread, (size_t)0;
}
static void dev_trace(wk_exec *x) { (void)x; }
static void dev_trace_read(const wk_exec *x, wk_trace *out) { (void)x, (void)out; }

WK_EXPORT const wk_backend_ops *wick_backend(void);
WK_EXPORT const wk_backend_ops *wick_backend(void) {
    static const wk_backend_ops ops = {.abi = WK_BACKEND_ABI,
                                       .size = sizeof(wk_backend_ops),
                                       .name = "pupil",
                                       .count = dev_count,
                                       .open = dev_open,
                                       .close = dev_close,
                                       .info = dev_info,
                                       .can = dev_can,
                                       .prepare = dev_prepare,
                                       .run = dev_run,
                                       .wait = dev_wait,
                                       .unprepare = dev_unprepare,
                                       .put = dev_put,
                                       .get = dev_get,
                                       .bytes = dev_bytes,
                                       .trace_start = dev_trace,
                                       .trace_stop = dev_trace,
                                       .trace_read = dev_trace_read};
    return &ops;
}

/* bench_device.c: devices side by side. Their engines stand open together, so that each round holds the rows of all of
 * them; what cannot be used becomes a row that says why, and the others are measured. */
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/base/attr.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

enum { ALL_LAYERS = 1 << 16 };

/* ---- which ones ---------------------------------------------------------------------------------- */

/* "cpu", "cuda", "cuda:1", an absolute path. "auto" would be either of two. */
static bool is_spec(const char *p, size_t n) {
    if (*p == '/') return true;
    if (n == 3 && strncmp(p, "cpu", n) == 0) return true;
    if (n < 4 || strncmp(p, "cuda", 4) != 0) return false;
    return n == 4 || (n > 5 && p[4] == ':' && strspn(p + 5, "0123456789") == n - 5);
}

wick_status wk_device_list(wk_bench_wish *w, const char *text, wick_error *err) {
    if (!text) text = "cpu"; /* not given */
    w->n_device = 0;
    w->devices = strcmp(text, "cpu") != 0;
    for (const char *p = text;;) {
        const size_t n = strcspn(p, ",");
        if (n == 0 || n >= sizeof(w->device[0]) || !is_spec(p, n))
            return wk_fail(err, WICK_E_ARG,
                           "--device wants names such as cpu,cuda or cpu,cuda:1,/abs/module.so, found \"%s\"",
                           wk_show(wk_cstr(text)).text);
        if (w->n_device == WK_BENCH_DEVICES)
            return wk_fail(err, WICK_E_ARG, "--device has more than %d names", (int)WK_BENCH_DEVICES);
        char *spec = w->device[w->n_device++];
        (void)snprintf(spec, sizeof(w->device[0]), "%.*s", (int)n, p);
        for (int i = 0; i + 1 < w->n_device; i++)
            if (strcmp(w->device[i], spec) == 0)
                return wk_fail(err, WICK_E_ARG, "--device names %s twice", wk_show(wk_cstr(spec)).text);
        if (p[n] == 0) return WICK_OK;
        p += n + 1;
    }
}

/* "/abs/libwick_fake.so:0" -> "fake:0" */
static void put_label(wk_bench_target *t, const char *spec) {
    const char *name = strrchr(spec, '/');
    name = name ? name + 1 : spec;
    if (strncmp(name, "libwick_", 8) == 0) name += 8;
    const char *so = strstr(name, ".so");
    const int n = so ? (int)(so - name) : (int)strlen(name);
    (void)snprintf(t->label, sizeof(t->label), "%.55s",
                   wk_show((wk_str){name, (size_t)(n < 50 ? n : 50)}).text);
    const size_t at = strlen(t->label);
    if (so && at < sizeof(t->label) - 8) (void)snprintf(t->label + at, sizeof(t->label) - at, "%.6s", so + 3);
}

/* The first one that is told, or the one with the index that was asked for. */
static void on_device(void *ud, const wick_x_device *d) {
    wk_bench_target *t = ud;
    const char *want = strrchr(t->spec, ':'), *is = strrchr(d->spec, ':');
    if (t->info.size || (want && is && strcmp(want, is) != 0)) return;
    t->info = *d;
    (void)snprintf(t->why, sizeof(t->why), "%s", d->why);
    if (!d->why[0]) put_label(t, d->spec);
}

static void look_at(wk_bench_target *t, const char *spec) {
    wick_error why = {0};
    *t = (wk_bench_target){.is_cpu = strcmp(spec, "cpu") == 0, .layers = ALL_LAYERS};
    (void)snprintf(t->spec, sizeof(t->spec), "%s", spec);
    (void)snprintf(t->label, sizeof(t->label), "cpu");
    if (t->is_cpu) {
        t->layers = WICK_AUTO;
        return;
    }
    put_label(t, spec);
    if (wick_x_devices(spec, 1, on_device, t, &why))
        (void)snprintf(t->why, sizeof(t->why), "%.255s", why.message);
    else if (!t->info.size)
        (void)snprintf(t->why, sizeof(t->why), "there is no device %.60s", t->label);
    if (strncmp(t->label, "cuda", 4) == 0)
        wk_nvml_open(&t->nvml, "libnvidia-ml.so.1");
    else
        (void)snprintf(t->nvml.why, sizeof(t->nvml.why), "not readable: no counter of this device is known");
}

void wk_device_look(wk_bench *b) {
    for (int i = 0; i < b->wish.n_device; i++) look_at(&b->target[i], b->wish.device[i]);
    b->n_target = b->wish.n_device;
}

/* ---- engines ------------------------------------------------------------------------------------- */

void wk_device_keep(wk_bench *b, int i) {
    wk_bench_target *t = &b->target[i];
    t->engine = b->engine;
    t->model = b->model;
    t->stats = b->stats;
    t->cost = b->cost;
}

void wk_device_use(wk_bench *b, int i) {
    if (b->n_target == 0 || b->sweeping) return;
    const wk_bench_target *t = &b->target[i];
    b->use = i;
    b->engine = t->engine;
    b->model = t->model;
    b->stats = t->stats;
    b->cost = t->cost;
}

void wk_device_close(wk_bench *b) {
    for (int i = 0; i < b->n_target; i++) {
        wk_bench_target *t = &b->target[i];
        b->engine = t->engine;
        b->model = t->model;
        wk_round_close(b);
        t->engine = NULL;
        t->model = NULL;
    }
}

/* All layers, else as many as fit. */
static wick_status open_one(wk_bench *b, wk_bench_target *t, wick_error *err) {
    b->engine = NULL;
    b->model = NULL;
    b->keep_depth = !t->is_cpu;
    wick_status rc = wk_round_open(b, err);
    if (rc == WICK_E_FIT && !t->is_cpu && t->layers == ALL_LAYERS) {
        wk_round_close(b);
        t->layers = 0;
        rc = wk_round_open(b, err);
    }
    b->keep_depth = false;
    return rc;
}

wick_status wk_device_open(wk_bench *b, int i, wick_error *err) {
    wk_bench_target *t = &b->target[i];
    wick_error why = {0};
    b->use = i;
    if (t->why[0]) return WICK_OK;
    wick_status rc = open_one(b, t, &why);
    if (!rc && !t->is_cpu && b->stats.gpu_layers == 0)
        rc = wk_fail(&why, WICK_E_FIT, "no layer of the model fits its free memory or is faster there");
    if (rc && (t->is_cpu || wk_round_stopped(b))) {
        if (err) *err = why;
        return rc;
    }
    if (rc) {
        (void)snprintf(t->why, sizeof(t->why), "%.255s", why.message);
        wk_round_close(b);
    }
    wk_device_keep(b, i);
    return WICK_OK;
}

/* ---- rows ---------------------------------------------------------------------------------------- */

void wk_device_missing(wk_bench *b, int i) {
    wk_bench_target *t = &b->target[i];
    b->use = i;
    wk_bench_row *r = wk_round_row(b, WK_BENCH_ENGINE, "tok/s", "%.47s", t->label);
    if (!r) return;
    r->failed = true;
    (void)snprintf(r->note, sizeof(r->note), "not measured: %.180s", t->why);
}

/* The limits of a device are its own; probes are the cpu's. */
void wk_device_mark(wk_bench *b, int first_row, int i) {
    const wk_bench_target *t = &b->target[i];
    const char first = b->machine.format[0];
    const bool floats = first == 'F' || first == 'B';
    for (int k = first_row; k < b->n_row; k++) {
        wk_bench_row *r = &b->row[k];
        if (r->kind == WK_BENCH_PROBE) (void)snprintf(r->device, sizeof(r->device), "cpu");
        if (r->kind == WK_BENCH_PROBE || t->is_cpu) continue;
        r->read_probe = r->peak_probe = -1;
        r->gpu_layers = t->stats.gpu_layers;
        if (r->kind == WK_BENCH_ENGINE && !r->failed) r->note[0] = 0;
        if (t->stats.gpu_layers < t->stats.n_layer) {
            (void)snprintf(r->note, sizeof(r->note), "%d of %d layers fit", (int)t->stats.gpu_layers,
                           (int)t->stats.n_layer);
            continue; /* two machines have no limit in common */
        }
        if (r->unit_bytes <= 0) continue;
        r->limit_read = t->info.read_rate / 1e9;
        r->limit_peak = (floats ? t->info.f16_rate : t->info.int8_rate) / 1e9;
        r->peak = floats ? "f16" : "i8";
    }
}

/* One pass with a trace: a row's other passes have none, for looking at the clock takes time too. */
wick_status wk_device_copies(wk_bench *b, wk_bench_row *r, wick_error *err) {
    const wick_x_pass o = {
        .size = sizeof(o), .n_seq = r->n_seq, .n_tok = r->n_tok, .depth = r->depth, .warmup = 0, .reps = 1};
    wick_x_copies c = {.size = sizeof(c)};
    WK_TRY(wick_x_trace(b->engine, 1, err));
    WK_TRY(wick_x_pass_run(b->engine, &o, b->passes, NULL, err));
    WK_TRY(wick_x_trace_copies(b->engine, &c, err));
    r->put_bytes = (double)c.put_bytes / r->per_pass;
    r->get_bytes = (double)c.get_bytes / r->per_pass;
    r->copy_s = c.seconds / r->per_pass;
    return wick_x_trace(b->engine, 0, err);
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static wick_status load(wk_bench *b, int i, wick_error *err) {
    wk_bench_target *t = &b->target[i];
    const int first = b->n_row;
    if (!(b->wish.only & WK_ONLY_LOAD) || t->why[0]) return WICK_OK;
    wk_device_use(b, i);
    t->engine = NULL;
    t->model = NULL;
    const wick_status rc = wk_answer_load(b, err);
    wk_device_keep(b, i);
    wk_device_mark(b, first, i);
    return rc;
}

static wick_status open_all(wk_bench *b, wick_error *err) {
    wk_device_look(b);
    for (int i = 0; i < b->n_target && !wk_round_stopped(b); i++) {
        WK_TRY(wk_device_open(b, i, err));
        if (!b->target[i].why[0] && !b->machine.name[0]) wk_bench_put_model(b);
        WK_TRY(load(b, i, err));
    }
    return WICK_OK;
}

static void rows(wk_bench *b) {
    for (int i = 0; i < b->n_target; i++) {
        const int first = b->n_row;
        if (b->target[i].why[0]) {
            wk_device_missing(b, i);
            continue;
        }
        wk_device_use(b, i);
        wk_round_rows(b);
        wk_device_mark(b, first, i);
    }
}

static int first_usable(const wk_bench *b) {
    for (int i = 0; i < b->n_target; i++)
        if (!b->target[i].why[0]) return i;
    return -1;
}

static wick_status measure(wk_bench *b, wick_error *err) {
    WK_TRY(open_all(b, err));
    if (wk_round_stopped(b)) return WICK_OK;
    wk_energy_idle(&b->energy);
    rows(b);
    const int first = first_usable(b);
    if (first < 0) return WICK_OK;
    wk_device_use(b, first);
    if (wk_flag(b->args, WK_ARG_KERNELS)) wk_kernel_rows(b);
    WK_TRY(wk_round_run(b, b->wish.reps, err));
    wk_device_use(b, first);
    if (b->wish.soak > 0 && !b->stopped) WK_TRY(wk_round_soak(b, err));
    if (wk_flag(b->args, WK_ARG_TRACE) && !b->stopped) WK_TRY(wk_trace_work(b, err));
    wk_device_close(b); /* a split needs their memory */
    for (int i = 0; i < b->n_target && !b->stopped; i++)
        if (!b->target[i].is_cpu && !b->target[i].why[0]) WK_TRY(wk_sweep_run(b, i, err));
    return WICK_OK;
}

wick_status wk_device_all(wk_bench *b, wick_error *err) {
    const wick_status rc = measure(b, err);
    if (b->sweeping) wk_round_close(b);
    b->sweeping = false;
    wk_device_close(b);
    if (!rc) wk_verdict_lines(b);
    for (int i = 0; i < b->n_target; i++) wk_nvml_close(&b->target[i].nvml);
    return rc;
}

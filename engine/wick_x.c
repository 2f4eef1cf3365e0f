/* wick_x.c: experimental API. */
#include "engine/wick_x.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/buf.h"
#include "engine/base/os.h"
#include "engine/file/store.h"
#include "engine/graph/plan.h"
#include "engine/run/bench.h"
#include "engine/run/engine.h"
#include "engine/run/kbench.h"
#include "engine/run/probe.h"
#include "engine/text/tok.h"
#include "engine/wick_model.h"
#include "gpu/loader/loader.h"
#include "simd/format.h"
#include "simd/kernels.h"
#include "simd/level.h"

wick_status wick_x_steps(const char *path, const wick_engine_options *opt, char *text, size_t cap, size_t *len,
                         wick_error *err) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    wk_engine_config c = {.n_adapter = 0};
    wk_adapters lora = {.n = 0};
    wk_store *s = NULL;
    wk_plan *p = NULL;
    wk_buf b;
    if (!path || !len) return wk_fail(err, WICK_E_ARG, "steps: path and len must be given");
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("engine options", err);
    wk_buf_init(&b, (size_t)64 << 20);
    int rc = wk_store_open(&s, path, err);
    if (!rc) rc = wk_adapters_open(&lora, &o, &c, err);
    const wk_plan_options plan = {.max_tok = 512, .max_out = 16, .adapter = c.adapter, .n_adapter = c.n_adapter};
    if (!rc) rc = wk_plan_build(&p, s, &plan, err);
    if (!rc) {
        wk_plan_dump(p, &b);
        *len = b.n;
        if (b.failed) rc = wk_fail(err, WICK_E_NOMEM, "no memory for the step list");
        if (!rc && cap > b.n) memcpy(text, b.p, b.n + 1);
    }
    wk_buf_fini(&b);
    wk_plan_free(p);
    wk_adapters_close(&lora);
    wk_store_close(s);
    return rc;
}

/* "Name:   123 kB" of a file of /proc, in bytes. */
static uint64_t proc_bytes(const char *text, const char *name) {
    const char *at = strstr(text, name);
    unsigned long long kib = 0;
    return at && sscanf(at + strlen(name), "%llu", &kib) == 1 ? (uint64_t)kib * 1024 : 0;
}

wick_status wick_x_loading_of(const wick_engine *e, wick_x_loading *out) {
    static const char *const cache[] = {"off", "hit", "miss", "refused"};
    char text[4096] = "";
    if (!e || !out) return WICK_E_ARG;
    const wk_cpu_report *r = wk_engine_report(e->e);
    (void)wk_os_read_small("/proc/self/smaps_rollup", text, sizeof(text)); /* absent: "" */
    *out = (wick_x_loading){.pack_s = (double)r->pack_ns * 1e-9,
                            .store_s = (double)r->store_ns * 1e-9,
                            .bytes = r->bytes,
                            .minor_faults = r->minor,
                            .major_faults = r->major,
                            .huge_bytes = proc_bytes(text, "\nAnonHugePages:"),
                            .anon_bytes = proc_bytes(text, "\nAnonymous:"),
                            .cache = cache[r->cache],
                            .stored = r->stored};
    return WICK_OK;
}

wick_status wick_x_meta(const wick_model *m, size_t i, const char **key, size_t *key_len,
                        char *value, size_t cap) {
    if (!m || i >= wk_store_meta_count(m->store)) return WICK_E_ARG;
    const wk_str k = wk_store_meta_key(m->store, i);
    *key = k.p;
    *key_len = k.n;
    (void)wk_store_meta_text(m->store, i, value, cap);
    return WICK_OK;
}

wick_status wick_x_tensor(const wick_model *m, size_t i, const char **name, size_t *name_len,
                          const char **format, uint64_t ne[4], int *n_dim, uint64_t *bytes) {
    if (!m || i >= wk_store_tensor_count(m->store)) return WICK_E_ARG;
    const wk_tensor *t = wk_store_tensor(m->store, i);
    *name = t->name.p;
    *name_len = t->name.n;
    *format = wk_formats[t->fmt].name;
    memcpy(ne, t->ne, sizeof(t->ne));
    *n_dim = t->n_dim;
    *bytes = t->bytes;
    return WICK_OK;
}

wick_status wick_x_piece(const wick_model *m, wick_token id, char *buf, size_t cap, size_t *len,
                         int *control) {
    char tmp[8];
    if (!m || !len || id < 0 || id >= wk_tok_count(m->tok)) return WICK_E_ARG;
    const wk_str s = wk_tok_piece(m->tok, id, WK_TOK_SHOW_SPECIAL, tmp);
    *len = s.n;
    if (control) *control = wk_tok_is_control(m->tok, id);
    if (cap > s.n) {
        memcpy(buf, s.p, s.n);
        buf[s.n] = 0;
    }
    return WICK_OK;
}

wick_status wick_x_machine(int *n_core, int *n_affinity, double *quota, int *n_thread, char *levels,
                           size_t cap) {
    wk_machine m;
    wk_os_machine(&m);
    *n_core = m.n_core;
    *n_affinity = m.n_affinity;
    *quota = m.quota;
    *n_thread = m.n_thread;
    size_t n = 0;
    if (cap) levels[0] = 0;
    for (int i = 0; i < wk_level_count && n < cap; i++)
        if ((wk_levels[i].mask & ~wk_cpu_detect()) == 0) {
            const int w = snprintf(levels + n, cap - n, "%s%s", n ? "," : "", wk_levels[i].name);
            n += w > 0 ? (size_t)w : 0;
        }
    return WICK_OK;
}

wick_status wick_x_memory(uint64_t *available, uint64_t *cgroup_limit) {
    wk_machine m;
    wk_os_machine(&m);
    *available = m.mem_free;
    *cgroup_limit = m.mem_cgroup;
    return WICK_OK;
}

/* ---- devices ------------------------------------------------------------------------------------- */

typedef void on_device_fn(void *ud, const wick_x_device *d);

static void tell_missing(const char *spec, const char *why, on_device_fn *fn, void *ud) {
    wick_x_device d = {.size = sizeof(d)};
    (void)snprintf(d.spec, sizeof(d.spec), "%.255s", spec);
    (void)snprintf(d.why, sizeof(d.why), "%.255s", why);
    fn(ud, &d);
}

static void tell_device(const wk_backend_ops *ops, const char *spec, int index, bool measure, on_device_fn *fn, void *ud) {
    wick_x_device d = {.size = sizeof(d)};
    wk_machine m;
    wk_dev *dev = NULL;
    wk_dev_info i = {.mem_total = 0};
    wk_err why = {0};
    wk_os_machine(&m);
    const wk_host host = {.size = sizeof(host),
                          .n_thread = m.n_thread,
                          .n_cpu = m.n_affinity,
                          .cpu_mask = wk_setup_cpu_mask()};
    int rc = ops->open(&dev, index, &host, &why);
    if (!rc) {
        rc = ops->info(dev, measure, &i, &why);
        ops->close(dev);
    }
    (void)snprintf(d.spec, sizeof(d.spec), "%.*s:%d", (int)wk_gpu_name_bytes(spec), spec, index);
    (void)snprintf(d.name, sizeof(d.name), "%.95s", i.name);
    (void)snprintf(d.driver, sizeof(d.driver), "%.63s", i.driver);
    const char *said = why.message[0] ? why.message : wick_strerror(rc);
    if (rc) (void)snprintf(d.why, sizeof(d.why), "%.255s", said);
    d.mem_total = i.mem_total;
    d.mem_free = i.mem_free;
    d.read_rate = i.read_rate;
    d.put_rate = i.put_rate;
    d.get_rate = i.get_rate;
    d.int8_rate = i.int8_rate;
    d.f16_rate = i.f16_rate;
    fn(ud, &d);
}

static wick_status tell_module(const char *spec, bool measure, on_device_fn *fn, void *ud, wick_error *err) {
    const wk_backend_ops *ops;
    char why[200] = "the module does not say why";
    wk_err missing = {0};
    int index = 0;
    const int rc = wk_gpu_module(&ops, spec, &index, &missing);
    if (rc == WICK_E_ARG) {
        if (err) *err = missing;
        return rc;
    }
    const int n = rc ? 0 : ops->count(why, sizeof(why));
    if (n <= 0) tell_missing(spec, rc ? missing.message : why, fn, ud);
    for (int i = 0; i < n; i++) tell_device(ops, spec, i, measure, fn, ud);
    return WICK_OK;
}

wick_status wick_x_devices(const char *spec, int measure,
                           void (*on_device)(void *ud, const wick_x_device *d), void *ud,
                           wick_error *err) {
    if (!on_device) return wk_fail(err, WICK_E_ARG, "devices: on_device must be given");
    if (spec) return tell_module(spec, measure != 0, on_device, ud, err);
    for (int i = 0; wk_gpu_kind(i); i++)
        WK_TRY(tell_module(wk_gpu_kind(i), measure != 0, on_device, ud, err));
    return WICK_OK;
}

static wick_status read_passes(int threads, size_t bytes, double *best, double *seconds, int n, wick_error *err) {
    wk_machine m;
    wk_os_machine(&m);
    if (threads < 1 || threads > 1024 || n < 1 || bytes < (size_t)threads * 4096)
        return wk_fail(err, WICK_E_ARG, "bandwidth: %d threads, %d times over %zu bytes cannot be measured", threads, n, bytes);
    return wk_probe_read(best, seconds, threads, m.n_affinity, bytes, n, err);
}

wick_status wick_x_bandwidth(int threads, size_t bytes, double *bytes_per_s, wick_error *err) {
    if (!bytes_per_s) return wk_fail(err, WICK_E_ARG, "bandwidth: no place for the result");
    return read_passes(threads, bytes, bytes_per_s, NULL, 8, err);
}

wick_status wick_x_read_times(int threads, size_t bytes, double *seconds, int n, wick_error *err) {
    double best;
    if (!seconds) return wk_fail(err, WICK_E_ARG, "bandwidth: no place for the result");
    return read_passes(threads, bytes, &best, seconds, n, err);
}

/* ---- bench --------------------------------------------------------------------------------------- */

wick_status wick_x_cost_of(const wick_engine *e, wick_x_cost *out) {
    wk_cost c;
    if (!e || !out) return WICK_E_ARG;
    wk_cost_of(&c, wk_engine_plan(e->e));
    *out = (wick_x_cost){.weight_bytes = c.weight_bytes,
                         .kv_bytes_per_pos = c.kv_bytes_per_pos,
                         .layer_macs = c.layer_macs,
                         .head_macs = c.head_macs,
                         .attn_macs_per_pos = c.attn_macs_per_pos};
    return WICK_OK;
}

wick_status wick_x_pass_run(wick_engine *e, const wick_x_pass *opt, double *seconds, uint64_t *hash,
                            wick_error *err) {
    wick_x_pass o = {.size = sizeof(o), .n_seq = 1, .n_tok = 1, .reps = 1};
    wk_hash h = {0, 0};
    if (!e || !opt || !seconds)
        return wk_fail(err, WICK_E_ARG, "pass: engine, options and seconds must be given");
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("pass options", err);
    const wk_pass p = {o.n_seq, o.n_tok, o.depth, o.warmup, o.reps};
    WK_TRY(wk_pass_run(e->e, &p, seconds, hash ? &h : NULL, err));
    if (hash) *hash = h.lo;
    return WICK_OK;
}

wick_status wick_x_trace(wick_engine *e, int on, wick_error *err) {
    if (!e) return wk_fail(err, WICK_E_ARG, "trace: an engine must be given");
    return wk_trace_set(e->e, on != 0, err);
}

wick_status wick_x_trace_read(wick_engine *e,
                              void (*on_row)(void *ud, const char *name, double seconds,
                                             uint64_t calls),
                              void *ud, wick_error *err) {
    wk_trace t;
    if (!e || !on_row) return wk_fail(err, WICK_E_ARG, "trace: engine and on_row must be given");
    WK_TRY(wk_trace_get(e->e, &t, err));
    on_row(ud, "wall", (double)t.wall_ns * 1e-9, 0);
    on_row(ud, "pass", 0, t.n_pass);
    for (int op = 0; op < WK_OP_COUNT; op++)
        on_row(ud, wk_op_name(op), (double)t.op_ns[op] * 1e-9, 0);
    on_row(ud, "head", (double)t.head_ns * 1e-9, 0);
    on_row(ud, "wait", (double)t.wait_ns * 1e-9, t.n_barrier);
    if (t.n_put + t.n_get) on_row(ud, "copy", (double)t.copy_ns * 1e-9, t.n_put + t.n_get);
    return WICK_OK;
}

wick_status wick_x_trace_copies(wick_engine *e, wick_x_copies *out, wick_error *err) {
    wk_trace t;
    if (!e || !out || out->size < sizeof(*out))
        return wk_fail(err, WICK_E_ARG, "trace: engine and a wick_x_copies with its size must be given");
    WK_TRY(wk_trace_get(e->e, &t, err));
    out->n_put = t.n_put;
    out->n_get = t.n_get;
    out->put_bytes = t.put_bytes;
    out->get_bytes = t.get_bytes;
    out->seconds = (double)t.copy_ns * 1e-9;
    return WICK_OK;
}

/* The cpu bits of a level that runs here; NULL: of the best one that wick_setup left in. */
static wick_status mask_of_level(const char *what, const char *level, uint32_t *mask,
                                 wick_error *err) {
    const uint32_t cpu = wk_cpu_detect();
    const int i = level ? wk_level_of_name(level) : wk_level_of_cpu(cpu & wk_setup_cpu_mask());
    if (i < 0)
        return wk_fail(err, WICK_E_ARG, "%s: unknown CPU level \"%s\"", what,
                       wk_show(wk_cstr(level)).text);
    if ((wk_levels[i].mask & ~cpu) != 0)
        return wk_fail(err, WICK_E_ARG, "%s: this CPU cannot run the level %s", what, level);
    *mask = wk_levels[i].mask;
    return WICK_OK;
}

wick_status wick_x_peak(const char *level, const char *kind, int threads, double *macs_per_s,
                        wick_error *err) {
    uint32_t mask = 0;
    wk_kernels k;
    wk_machine m;
    if (!kind || !macs_per_s)
        return wk_fail(err, WICK_E_ARG, "peak: kind and macs_per_s must be given");
    const bool is_i8 = strcmp(kind, "i8") == 0;
    if (!is_i8 && strcmp(kind, "f32") != 0)
        return wk_fail(err, WICK_E_ARG, "peak: kind is \"%s\", it must be i8 or f32",
                       wk_show(wk_cstr(kind)).text);
    if (threads < 1 || threads > 1024)
        return wk_fail(err, WICK_E_ARG, "peak: threads is %d, it must lie in 1 .. 1024", threads);
    WK_TRY(mask_of_level("peak", level, &mask, err));
    wk_os_machine(&m);
    wk_kernels_init(&k, mask);
    return wk_probe_peak(macs_per_s, k.peak[is_i8 ? WK_PEAK_I8 : WK_PEAK_F32], threads,
                         m.n_affinity, err);
}

static wick_status kernel_options(wk_kbench_options *k, const wick_x_kernel *o, wick_error *err) {
    if (!o->format) return wk_fail(err, WICK_E_ARG, "kernel: a format must be given");
    if (o->reps < 1 || o->reps > 1 << 20)
        return wk_fail(err, WICK_E_ARG, "kernel: reps is %d, it must lie in 1 .. %d", (int)o->reps,
                       1 << 20);
    *k = (wk_kbench_options){.fmt = wk_format_of_name(o->format),
                             .n_row = o->n_row,
                             .k = o->k,
                             .n_tok = o->n_tok,
                             .threads = o->threads};
    if (k->fmt < 0)
        return wk_fail(err, WICK_E_ARG, "kernel: unknown format \"%s\"",
                       wk_show(wk_cstr(o->format)).text);
    return mask_of_level("kernel", o->level, &k->cpu_mask, err);
}

wick_status wick_x_kernel_run(const wick_x_kernel *opt, double *seconds, uint64_t *bytes,
                              double *pack_s, wick_error *err) {
    wick_x_kernel o = {.size = sizeof(o), .n_tok = 1, .threads = 1, .reps = 1};
    wk_kbench_options k;
    wk_kbench *b = NULL;
    double warmup;
    if (!opt || !seconds)
        return wk_fail(err, WICK_E_ARG, "kernel: options and seconds must be given");
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("kernel options", err);
    WK_TRY(kernel_options(&k, &o, err));
    WK_TRY(wk_kbench_open(&b, &k, err));
    if (bytes) *bytes = wk_bench_packed(k.fmt, k.n_row, k.k);
    if (pack_s) *pack_s = (double)b->pack_ns * 1e-9;
    int rc = wk_kbench_pass(b, &warmup, err);
    for (int32_t i = 0; i < o.reps && !rc; i++) rc = wk_kbench_pass(b, &seconds[i], err);
    wk_kbench_close(b);
    return rc;
}

wick_status wick_x_selftest(const char *level, uint64_t *n_compared, char *wrong, size_t cap,
                            wick_error *err) {
    wk_buf b;
    const int i = level ? wk_level_of_name(level) : -1;
    if (i < 0 || !n_compared || !wrong || !cap)
        return wk_fail(err, WICK_E_ARG, "selftest: unknown CPU level");
    if ((wk_levels[i].mask & ~wk_cpu_detect()) != 0)
        return wk_fail(err, WICK_E_ARG, "this CPU cannot run the level %s", level);
    wk_buf_init(&b, 4096);
    const int rc = wk_selftest(i, n_compared, &b, err);
    const wk_str text = wk_buf_str(&b);
    const size_t n = text.n < cap ? text.n : cap - 1;
    memcpy(wrong, text.p, n);
    wrong[n] = 0;
    wk_buf_fini(&b);
    return rc;
}

/* wick_engine.c: the engine of the public API: options into its configuration, what it takes, its counters. */
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/wick_model.h"
#include "engine/wick_x.h"

typedef struct progress_of {
    int (*fn)(void *ud, const char *phase, uint64_t done, uint64_t total);
    void *ud;
} progress_of;
static bool on_pack(void *ud, uint64_t done, uint64_t total) {
    const progress_of *p = ud;
    return !p->fn || p->fn(p->ud, "pack", done, total) == 0;
}

static wick_status kv_type_of(int32_t v, int32_t *out, wick_error *err) {
    switch (v) {
    case WICK_KV_DEFAULT:
    case WICK_KV_F16: *out = WK_KV_F16; return WICK_OK;
    case WICK_KV_F32: *out = WK_KV_F32; return WICK_OK;
    case WICK_KV_BF16: *out = WK_KV_BF16; return WICK_OK;
    case WICK_KV_Q8_0: *out = WK_KV_Q8_0; return WICK_OK;
    default: return wk_fail(err, WICK_E_ARG, "kv_type %d is unknown", (int)v);
    }
}

static wick_status config_of(wk_engine_config *c, const wick_engine_options *o, wick_error *err) {
    WK_TRY(wk_check_range("n_ctx", o->n_ctx, 0, 1 << 30, err));
    WK_TRY(wk_check_range("kv_tokens", o->kv_tokens, 0, 1 << 30, err));
    WK_TRY(wk_check_range("max_seqs", o->max_seqs, 0, 256, err));
    WK_TRY(wk_check_range("max_queue", o->max_queue, 0, 1 << 16, err));
    WK_TRY(wk_check_range("threads", o->threads, 0, 1024, err));
    WK_TRY(wk_check_range("n_batch", o->n_batch, 0, 4096, err));
    WK_TRY(wk_check_range("gpu_layers", o->gpu_layers, WK_OFFLOAD_NONE, 1 << 16, err));
    const bool is_cpu = !o->device || strcmp(o->device, "cpu") == 0;
    *c = (wk_engine_config){.n_ctx = o->n_ctx,
                            .kv_tokens = o->kv_tokens,
                            .max_seqs = o->max_seqs ? o->max_seqs : 8,
                            .max_queue = o->max_queue ? o->max_queue : 64,
                            .threads = o->threads,
                            .n_batch = o->n_batch ? o->n_batch : is_cpu ? WICK_N_BATCH : WICK_N_BATCH_DEVICE,
                            .prefix_cache = !o->no_prefix_cache,
                            .fit_check = !o->no_fit_check,
                            .device = o->device,
                            .gpu_layers = o->gpu_layers,
                            .cpu_mask = wk_setup_cpu_mask(),
                            .arith = WICK_ARITH};
    WK_TRY(wk_extra_read(c, o->extra, err));
    return kv_type_of(o->kv_type, &c->kv_type, err);
}

wick_status wick_fit(const char *path, const wick_engine_options *opt, wick_fit_result *out,
                     wick_error *err) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    wk_engine_config c;
    wk_store *s = NULL;
    wk_adapters lora = {.n = 0};
    wk_fit f;
    if (!path || !out) return wk_fail(err, WICK_E_ARG, "fit: path and out must be given");
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("engine options", err);
    WK_TRY(config_of(&c, &o, err));
    WK_TRY(wk_store_open(&s, path, err));
    int rc = wk_adapters_open(&lora, &o, &c, err);
    if (!rc) rc = wk_fit_plan(&f, NULL, s, &c, err);
    wk_adapters_close(&lora);
    wk_store_close(s);
    if (rc) return rc;
    wick_fit_result r = {.need = f.need,
                         .available = f.available,
                         .weights = f.weights,
                         .kv = f.kv,
                         .activations = f.activations,
                         .n_ctx = f.n_ctx,
                         .threads = f.n_thread,
                         .fits = f.fits,
                         .n_layer = f.n_layer,
                         .gpu_layers = f.dev_layers,
                         .device_need = f.dev_need,
                         .device_free = f.dev_free == UINT64_MAX ? 0 : f.dev_free};
    (void)snprintf(r.device, sizeof(r.device), "%s", f.device); /* of the same size */
    return wk_result_give(out, &r, sizeof(r)) ? WICK_OK : wk_options_bad_size("fit result", err);
}

/* What cannot be read or is wrong is left to the opening that follows. */
wick_status wick_x_fit_check(const char *path, const wick_engine_options *opt, wick_error *err) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    wk_engine_config c;
    wk_store *s = NULL;
    wk_map_file file;
    wk_machine m;
    wk_fit f;
    if (!path || !wk_options_take(&o, sizeof(o), opt) || o.no_fit_check || config_of(&c, &o, NULL))
        return WICK_OK;
    if (wk_os_map(&file, path, NULL)) return WICK_OK;
    const size_t n = file.n;
    wk_os_unmap(&file);
    wk_os_machine(&m);
    if (n <= m.mem_free || wk_store_open(&s, path, NULL)) return WICK_OK;
    const int rc = wk_fit_plan(&f, NULL, s, &c, NULL);
    wk_store_close(s);
    return rc || f.fits ? WICK_OK : wk_fit_refuse(&f, err);
}

wick_status wick_engine_open(wick_model *m, const wick_engine_options *opt, wick_engine **out,
                             wick_error *err) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    wk_engine_config c;
    if (!m || !out) return wk_fail(err, WICK_E_ARG, "engine_open: model and out must be given");
    *out = NULL;
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("engine options", err);
    WK_TRY(config_of(&c, &o, err));
    progress_of p = {o.progress, o.progress_ud};
    c.progress = on_pack;
    c.ud = &p;
    wick_engine *e = wk_new(wick_engine);
    if (!e) return wk_fail(err, WICK_E_NOMEM, "no memory for an engine");
    int rc = wk_adapters_open(&e->lora, &o, &c, err);
    if (!rc) rc = wk_engine_open(&e->e, m->store, m->tok, &c, err);
    if (rc) {
        wk_adapters_close(&e->lora);
        wk_free(e);
        return rc;
    }
    wk_model_hold(m);
    e->model = m;
    *out = e;
    return WICK_OK;
}

void wick_engine_close(wick_engine *e) {
    if (!e) return;
    wk_engine_close(e->e);
    wk_adapters_close(&e->lora);
    wick_model_close(e->model);
    wk_free(e);
}

wick_status wick_engine_stats(const wick_engine *e, wick_stats *out) {
    if (!e || !out) return WICK_E_ARG;
    wk_engine_stats s;
    wk_engine_read_stats(e->e, &s);
    const wk_fit *f = wk_engine_fit(e->e);
    const wick_stats r = {.running = s.running,
                          .waiting = s.waiting,
                          .pages_total = s.pages_total,
                          .pages_free = s.pages_free,
                          .pages_cached = s.pages_cached,
                          .n_ctx = f->n_ctx,
                          .threads = f->n_thread,
                          .cpu_level = wk_engine_level(e->e),
                          .steps = s.steps,
                          .prompt_tokens = s.prompt_tokens,
                          .cached_tokens = s.cached_tokens,
                          .generated_tokens = s.generated_tokens,
                          .bytes_weights = f->weights,
                          .bytes_kv = f->kv,
                          .bytes_rest = f->activations,
                          .allocations = wk_alloc_count(),
                          .device = f->device,
                          .bytes_device = f->dev_need,
                          .n_layer = f->n_layer,
                          .gpu_layers = f->dev_layers};
    return wk_result_give(out, &r, sizeof(r)) ? WICK_OK : WICK_E_ABI;
}

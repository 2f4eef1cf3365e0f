/* wick.c: the public API: checks arguments, fills defaults, delegates. */
#include "engine/wick.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/base/utf8.h"
#include "engine/file/store.h"
#include "engine/run/engine.h"
#include "engine/text/chat.h"
#include "engine/text/tok.h"
#include "engine/wick_model.h"
#include "engine/wick_x.h"
#include "simd/format.h"
#include "simd/level.h"

/* The public request is the engine's; the handle keeps what only the caller needs. */
struct wick_request {
    wk_request *r;
};

enum { MAX_BIAS = 1024 };

/* Levels that wick_setup left in; the one process-wide setting beside log sink and allocator. */
static _Atomic uint32_t setup_cpu_mask = UINT32_MAX;

uint32_t wk_setup_cpu_mask(void) { return atomic_load(&setup_cpu_mask); }

bool wk_options_take(void *dst, size_t dst_size, const void *src) {
    if (!src) return true;
    size_t size;
    memcpy(&size, src, sizeof(size));
    if (size < sizeof(size_t) || size > (size_t)1 << 16) return false;
    memcpy(dst, src, size < dst_size ? size : dst_size);
    return true;
}
static bool has_size(const void *p) {
    size_t size;
    memcpy(&size, p, sizeof(size));
    return size >= sizeof(size_t);
}
/* Writes a result no further than the caller's size. */
static bool give_result(void *dst, const void *src, size_t src_size) {
    size_t size;
    memcpy(&size, dst, sizeof(size));
    if (!has_size(dst)) return false;
    const size_t n = size < src_size ? size : src_size;
    memcpy((char *)dst + sizeof(size_t), (const char *)src + sizeof(size_t), n - sizeof(size_t));
    return true;
}
wick_status wk_options_bad_size(const char *what, wick_error *err) {
    return wk_fail(err, WICK_E_ABI, "%s: its size field is not set; use the INIT macro", what);
}
static wick_status missing(const char *what, wick_error *err) {
    return wk_fail(err, WICK_E_UNSUPPORTED, "%s is not built yet", what);
}

/* ---- library ------------------------------------------------------------------------------------- */

uint32_t wick_version_number(void) {
    return WICK_VERSION_MAJOR * 1000000u + WICK_VERSION_MINOR * 1000u + WICK_VERSION_PATCH;
}

const char *wick_strerror(wick_status s) {
    switch (s) {
#define X(name, value, exit_code, text)                                                            \
    case WICK_##name: return text;
        WICK_STATUS_MAP(X)
#undef X
    default: return "unknown status";
    }
}

wick_status wick_setup(const wick_setup_options *opt, wick_error *err) {
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("setup options", err);
    if (!o.alloc != !o.dealloc)
        return wk_fail(err, WICK_E_ARG, "setup: alloc and dealloc are given both or not at all");
    uint32_t mask = UINT32_MAX;
    if (o.cpu_level) {
        const int i = wk_level_of_name(o.cpu_level);
        if (i < 0)
            return wk_fail(err, WICK_E_ARG, "unknown CPU level \"%s\"",
                           wk_show(wk_cstr(o.cpu_level)).text);
        if ((wk_levels[i].mask & ~wk_cpu_detect()) != 0)
            return wk_fail(err, WICK_E_ARG, "this CPU cannot run the level %s", o.cpu_level);
        mask = wk_levels[i].mask;
    }
    atomic_store(&setup_cpu_mask, mask);
    wk_log_set(o.log, o.log_ud, o.min_level);
    wk_alloc_hooks(o.alloc, o.dealloc, o.alloc_ud);
    return WICK_OK;
}

/* ---- model --------------------------------------------------------------------------------------- */

static void model_hold(wick_model *m) { atomic_fetch_add(&m->ref, 1); }

void wick_model_close(wick_model *m) {
    if (!m || atomic_fetch_sub(&m->ref, 1) != 1) return;
    wk_chat_close(m->chat);
    wk_tok_close(m->tok);
    wk_store_close(m->store);
    wk_free(m);
}

wick_status wick_model_open(const char *path, const wick_model_options *opt, wick_model **out,
                            wick_error *err) {
    wick_model_options o = WICK_MODEL_OPTIONS_INIT;
    if (!path || !out) return wk_fail(err, WICK_E_ARG, "model_open: path and out must be given");
    *out = NULL;
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("model options", err);
    int rc = WICK_OK;
    wick_model *m = wk_new(wick_model);
    if (!m) return wk_fail(err, WICK_E_NOMEM, "no memory for the index of %s", path);
    atomic_init(&m->ref, 1);
    if ((rc = wk_store_open(&m->store, path, err))) goto out;
    if ((rc = wk_tok_open(&m->tok, m->store, err))) {
        (void)wk_fail_at(err, "%s", path);
        goto out;
    }
    if ((rc = wk_chat_open(&m->chat, m->store, m->tok, err))) goto out;
    const uint64_t bytes = wk_store_file_bytes(m->store);
    if (o.progress && o.progress(o.progress_ud, "read", bytes, bytes)) {
        rc = wk_fail(err, WICK_E_CANCELED, "opening was cancelled");
        goto out;
    }
    *out = m;
    m = NULL;
out:
    wick_model_close(m);
    return rc;
}

static uint64_t count_parameters(const wk_store *s) {
    uint64_t n = 0;
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        n += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    return n;
}

/* The format that holds most bytes. */
static const char *main_format(const wk_store *s) {
    uint64_t bytes[WK_FMT_COUNT] = {0};
    int best = 0;
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        bytes[t->fmt] += t->bytes;
    }
    for (int f = 1; f < WK_FMT_COUNT; f++)
        if (bytes[f] > bytes[best]) best = f;
    return wk_formats[best].name;
}

static wick_status give_text(wk_str s, char *buf, size_t cap, size_t *len) {
    if (len) *len = s.n;
    if (cap == 0) return WICK_OK;
    if (s.n >= cap) return WICK_E_ARG;
    memcpy(buf, s.p, s.n);
    buf[s.n] = 0;
    return WICK_OK;
}
static wick_status give_number(uint64_t v, char *buf, size_t cap, size_t *len) {
    char tmp[24];
    const int n = snprintf(tmp, sizeof(tmp), "%llu", (unsigned long long)v);
    return give_text((wk_str){tmp, (size_t)n}, buf, cap, len);
}

static wick_status get_arch_number(const wk_store *s, const char *suffix, char *buf, size_t cap,
                                   size_t *len) {
    wk_str arch;
    char key[128];
    uint64_t v;
    if (wk_meta_str(s, "general.architecture", &arch, NULL) != 1 || arch.n > 64) return WICK_E_ARG;
    (void)snprintf(key, sizeof(key), "%.*s.%s", (int)arch.n, arch.p, suffix);
    if (wk_meta_u64(s, key, 0, UINT64_MAX, &v, NULL) != 1) return WICK_E_ARG;
    return give_number(v, buf, cap, len);
}

static wick_status get_meta(const wk_store *s, const char *key, char *buf, size_t cap,
                            size_t *len) {
    wk_str v;
    if (wk_meta_str(s, key, &v, NULL) == 1) return give_text(v, buf, cap, len);
    for (size_t i = 0; i < wk_store_meta_count(s); i++) {
        if (!wk_str_is(wk_store_meta_key(s, i), key)) continue;
        char tmp[1024];
        const size_t n = wk_store_meta_text(s, i, tmp, sizeof(tmp));
        return give_text((wk_str){tmp, n < sizeof(tmp) ? n : sizeof(tmp) - 1}, buf, cap, len);
    }
    return WICK_E_ARG;
}

wick_status wick_model_get(const wick_model *m, const char *key, char *buf, size_t cap,
                           size_t *len) {
    static const struct {
        const char *key, *suffix;
    } numbers[] = {{"n_ctx", "context_length"},
                   {"n_layer", "block_count"},
                   {"dim", "embedding_length"},
                   {"n_head", "attention.head_count"},
                   {"n_head_kv", "attention.head_count_kv"}};
    if (!m || !key || (!buf && cap)) return WICK_E_ARG;
    const wk_store *s = m->store;
    if (strcmp(key, "arch") == 0) return get_meta(s, "general.architecture", buf, cap, len);
    if (strcmp(key, "name") == 0) return get_meta(s, "general.name", buf, cap, len);
    if (strcmp(key, "n_vocab") == 0)
        return give_number((uint64_t)wk_tok_count(m->tok), buf, cap, len);
    if (strcmp(key, "bytes") == 0) return give_number(wk_store_file_bytes(s), buf, cap, len);
    if (strcmp(key, "n_param") == 0) return give_number(count_parameters(s), buf, cap, len);
    if (strcmp(key, "format") == 0) return give_text(wk_cstr(main_format(s)), buf, cap, len);
    if (strcmp(key, "tokenizer") == 0)
        return give_text(wk_cstr(wk_tok_family(m->tok)), buf, cap, len);
    if (strcmp(key, "chat_template") == 0) return give_text(wk_chat_source(m->chat), buf, cap, len);
    if (strcmp(key, "bos") == 0)
        return give_text(wk_tok_text(m->tok, wk_tok_bos(m->tok)), buf, cap, len);
    if (strcmp(key, "eos") == 0)
        return give_text(wk_tok_text(m->tok, wk_tok_eos(m->tok)), buf, cap, len);
    for (size_t i = 0; i < WK_COUNT(numbers); i++)
        if (strcmp(key, numbers[i].key) == 0)
            return get_arch_number(s, numbers[i].suffix, buf, cap, len);
    return get_meta(s, key, buf, cap, len);
}

wick_status wick_tokenize(const wick_model *m, const char *text, size_t len, uint32_t flags,
                          wick_token *out, size_t cap, size_t *n) {
    if (!m || (!text && len) || (!out && cap) || !n) return WICK_E_ARG;
    const wk_run run = {{text ? text : "", len}, true};
    const int rc = wk_tok_encode(m->tok, &run, 1, flags, out, cap, n);
    return rc ? rc : cap && *n > cap ? WICK_E_ARG : WICK_OK;
}

wick_status wick_detokenize(const wick_model *m, const wick_token *t, size_t n, uint32_t flags,
                            char *buf, size_t cap, size_t *len) {
    if (!m || (!t && n) || (!buf && cap) || !len) return WICK_E_ARG;
    const int rc = wk_tok_decode(m->tok, t, n, flags, buf, cap, len);
    return rc ? rc : cap && *len > cap ? WICK_E_ARG : WICK_OK;
}

wick_status wick_chat_render(const wick_model *m, const char *json, size_t len, wick_token *out,
                             size_t cap, size_t *n, char *text, size_t text_cap, size_t *text_len,
                             wick_error *err) {
    if (!m || !json || (!out && cap) || !n || (!text && text_cap) || (text && !text_len))
        return wk_fail(err, WICK_E_ARG,
                       "chat_render: model, json, n and what announces room must be given");
    wk_buf t;
    wk_buf_init(&t, (size_t)16 << 20);
    int rc = wk_chat_render(m->chat, (wk_str){json, len}, &t, out, cap, n, err);
    if (!rc && text_len && (rc = give_text(wk_buf_str(&t), text, text_cap, text_len)) != WICK_OK)
        (void)wk_fail(err, rc, "the prompt has %zu bytes and a NUL, there is room for %zu", t.n,
                      text_cap);
    if (!rc && cap && *n > cap)
        rc = wk_fail(err, WICK_E_ARG, "the prompt has %zu tokens, there is room for %zu", *n, cap);
    wk_buf_fini(&t);
    return rc;
}

/* ---- engine -------------------------------------------------------------------------------------- */

typedef struct progress_of {
    int (*fn)(void *ud, const char *phase, uint64_t done, uint64_t total);
    void *ud;
} progress_of;
static bool on_pack(void *ud, uint64_t done, uint64_t total) {
    const progress_of *p = ud;
    return !p->fn || p->fn(p->ud, "pack", done, total) == 0;
}

static wick_status check_range(const char *name, int64_t v, int64_t min, int64_t max,
                               wick_error *err) {
    if (v >= min && v <= max) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "%s is %lld, it must lie in %lld .. %lld", name, (long long)v,
                   (long long)min, (long long)max);
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
    WK_TRY(check_range("n_ctx", o->n_ctx, 0, 1 << 30, err));
    WK_TRY(check_range("kv_tokens", o->kv_tokens, 0, 1 << 30, err));
    WK_TRY(check_range("max_seqs", o->max_seqs, 0, 256, err));
    WK_TRY(check_range("max_queue", o->max_queue, 0, 1 << 16, err));
    WK_TRY(check_range("threads", o->threads, 0, 1024, err));
    WK_TRY(check_range("n_batch", o->n_batch, 0, 4096, err));
    WK_TRY(check_range("gpu_layers", o->gpu_layers, WK_OFFLOAD_NONE, 1 << 16, err));
    if (o->extra && o->extra[0])
        return wk_fail(err, WICK_E_ARG, "unknown engine option \"%s\"",
                       wk_show(wk_cstr(o->extra[0])).text);
    *c = (wk_engine_config){.n_ctx = o->n_ctx,
                            .kv_tokens = o->kv_tokens,
                            .max_seqs = o->max_seqs ? o->max_seqs : 8,
                            .max_queue = o->max_queue ? o->max_queue : 64,
                            .threads = o->threads,
                            .n_batch = o->n_batch ? o->n_batch : 512,
                            .prefix_cache = !o->no_prefix_cache,
                            .fit_check = !o->no_fit_check,
                            .device = o->device,
                            .gpu_layers = o->gpu_layers,
                            .cpu_mask = wk_setup_cpu_mask()};
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
    return give_result(out, &r, sizeof(r)) ? WICK_OK : wk_options_bad_size("fit result", err);
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
    model_hold(m);
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
    return give_result(out, &r, sizeof(r)) ? WICK_OK : WICK_E_ABI;
}

/* ---- requests ------------------------------------------------------------------------------------ */

static wick_status check_real(const char *name, double v, double min, double max, wick_error *err) {
    if (v >= min && v <= max) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "%s is %g, it must lie in %g .. %g", name, v, min, max);
}

static double recommended(const wk_store *s, const char *key, double min, double max,
                          double otherwise) {
    double v;
    return wk_meta_f64(s, key, min, max, &v, NULL) == 1 ? v : otherwise;
}

static wick_status sampling_of(wk_sampling *p, const wk_store *s, const wick_request_options *o,
                               wick_error *err) {
    const bool temp_auto = o->temperature <= WICK_AUTO_F, top_p_auto = o->top_p <= WICK_AUTO_F;
    p->temperature =
        temp_auto ? recommended(s, "general.sampling.temp", 0, 100, 0.7) : o->temperature;
    p->top_p = top_p_auto ? recommended(s, "general.sampling.top_p", 0x1p-20, 1, 0.95) : o->top_p;
    p->min_p = o->min_p;
    p->top_k = o->top_k;
    if (!(p->temperature >= 0 && p->temperature <= 100))
        return wk_fail(err, WICK_E_ARG, "temperature is %g, it must lie in 0 .. 100",
                       p->temperature);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return wk_fail(err, WICK_E_ARG, "top_p is %g, it must lie in (0, 1]", p->top_p);
    if (!(p->min_p >= 0 && p->min_p < 1))
        return wk_fail(err, WICK_E_ARG, "min_p is %g, it must lie in [0, 1)", p->min_p);
    p->repeat_penalty = o->repeat_penalty == 1.0 ? 0.0 : o->repeat_penalty;
    p->frequency_penalty = o->frequency_penalty;
    p->presence_penalty = o->presence_penalty;
    WK_TRY(check_real("repeat_penalty", o->repeat_penalty, o->repeat_penalty == 0.0 ? 0.0 : 0.01,
                      10, err));
    WK_TRY(check_real("frequency_penalty", o->frequency_penalty, -10, 10, err));
    WK_TRY(check_real("presence_penalty", o->presence_penalty, -10, 10, err));
    WK_TRY(check_range("top_k", p->top_k, 0, INT32_MAX, err));
    WK_TRY(check_range("seed", o->seed, WICK_AUTO, INT64_MAX, err));
    p->seed = (uint64_t)o->seed;
    if (o->seed == WICK_AUTO) {
        wk_os_random(&p->seed, sizeof(p->seed));
        p->seed >>= 1; /* it is returned as a signed number */
    }
    return WICK_OK;
}

/* n_answer: tokens that must have room behind the prompt. */
static wick_status check_length(const wick_engine *e, size_t n, size_t n_answer, wick_error *err) {
    const int32_t n_ctx = wk_engine_n_ctx(e->e);
    if (n == 0) return wk_fail(err, WICK_E_ARG, "the prompt is empty");
    if (n > (size_t)n_ctx - n_answer)
        return wk_fail(err, WICK_E_CONTEXT, "the prompt has %zu tokens, the context holds %d%s", n,
                       (int)n_ctx, n_answer ? " with one for the answer" : "");
    return WICK_OK;
}

/* The prompt's ids in memory of the caller's to free. Its length is checked before anything is taken for it. */
static wick_status prompt_ids(const wick_engine *e, const wick_request_options *o, int32_t **out,
                              size_t *n, wick_error *err) {
    const wick_model *m = e->model;
    *out = NULL;
    *n = 0;
    for (size_t cap = 0;
         ;) { /* once for the count, once for the ids; again if a template's clock made it longer */
        int rc = WICK_OK;
        if (o->tokens) {
            *n = o->n_tokens;
            if (cap) memcpy(*out, o->tokens, *n * sizeof(int32_t));
        } else if (o->chat) {
            rc = wk_chat_render(m->chat, (wk_str){o->chat, o->chat_len}, NULL, *out, cap, n, err);
        } else {
            const wk_run run = {{o->text, o->text_len}, false};
            rc = wk_tok_encode(m->tok, &run, 1, WK_TOK_BOS, *out, cap, n);
            if (rc)
                (void)wk_fail(err, rc, "no memory to encode a prompt of %zu bytes", o->text_len);
        }
        if (rc || (cap && *n <= cap)) return rc;
        WK_TRY(check_length(e, *n, 1, err));
        cap = *n;
        wk_free(*out);
        *out = wk_new_n(int32_t, cap);
        if (!*out) return wk_fail(err, WICK_E_NOMEM, "no memory for a prompt of %zu tokens", cap);
    }
}

static wick_status check_prompt(const wick_engine *e, const int32_t *id, size_t n, size_t n_answer,
                                wick_error *err) {
    const int32_t n_vocab = wk_engine_n_vocab(e->e);
    WK_TRY(check_length(e, n, n_answer, err));
    for (size_t i = 0; i < n; i++)
        if (id[i] < 0 || id[i] >= n_vocab)
            return wk_fail(err, WICK_E_ARG, "token %zu of the prompt is %d, the vocabulary has %d",
                           i, (int)id[i], (int)n_vocab);
    return WICK_OK;
}

static wick_status check_request(const wick_request_options *o, wick_error *err) {
    const int given = (o->tokens != NULL) + (o->text != NULL) + (o->chat != NULL);
    if (given != 1)
        return wk_fail(err, WICK_E_ARG,
                       "a request has one prompt: tokens, text or chat; %d were given", given);
    WK_TRY(check_range("max_tokens", o->max_tokens, 0, INT32_MAX, err));
    WK_TRY(check_range("n", o->n, 0, INT32_MAX, err));
    if (o->n > 1) return missing("more than one choice (n)", err);
    if (o->flags & ~(uint32_t)(WICK_REQ_HASH | WICK_REQ_IGNORE_END))
        return wk_fail(err, WICK_E_ARG, "flags 0x%x hold a flag that is unknown",
                       (unsigned)o->flags);
    if (o->grammar) return missing("a grammar", err);
    return WICK_OK;
}

static wk_str stop_at(const wick_request_options *o, size_t i) {
    return o->stop_len ? (wk_str){o->stop[i], o->stop_len[i]} : wk_cstr(o->stop[i]);
}

static wick_status check_lists(const wick_request_options *o, int32_t n_vocab, wick_error *err) {
    if ((o->n_stop && !o->stop) || (o->n_bias && (!o->bias_token || !o->bias_value)))
        return wk_fail(err, WICK_E_ARG,
                       "a list of %zu stop strings and %zu biases was announced, but not given",
                       o->n_stop, o->n_bias);
    WK_TRY(check_range("stop strings", (int64_t)o->n_stop, 0, 16, err));
    for (size_t i = 0; i < o->n_stop; i++) {
        if (!o->stop[i]) return wk_fail(err, WICK_E_ARG, "stop string %zu is not given", i);
        const wk_str s = stop_at(o, i);
        if (s.n > WK_STOP_MAX)
            return wk_fail(err, WICK_E_ARG, "stop string %zu has %zu bytes, at most %d are taken",
                           i, s.n, (int)WK_STOP_MAX);
        if (!wk_utf8_valid(s))
            return wk_fail(err, WICK_E_ARG, "stop string %zu is not valid UTF-8", i);
    }
    if (o->n_bias > MAX_BIAS)
        return wk_fail(err, WICK_E_ARG, "%zu token biases, at most %d are taken", o->n_bias,
                       MAX_BIAS);
    for (size_t i = 0; i < o->n_bias; i++) {
        WK_TRY(check_range("token of a bias", o->bias_token[i], 0, n_vocab - 1, err));
        WK_TRY(check_real("bias", (double)o->bias_value[i], -1000, 1000, err));
    }
    return WICK_OK;
}

/* The request's own copy of the biases. */
static wick_status copy_bias(wk_request *r, const wick_request_options *o, wick_error *err) {
    if (!o->n_bias) return WICK_OK;
    r->bias_token = wk_new_n(int32_t, o->n_bias);
    r->bias_value = wk_new_n(float, o->n_bias);
    if (!r->bias_token || !r->bias_value)
        return wk_fail(err, WICK_E_NOMEM, "no memory for %zu token biases", o->n_bias);
    memcpy(r->bias_token, o->bias_token, o->n_bias * sizeof(int32_t));
    memcpy(r->bias_value, o->bias_value, o->n_bias * sizeof(float));
    r->sampling.bias_token = r->bias_token;
    r->sampling.bias_value = r->bias_value;
    r->sampling.n_bias = (int32_t)o->n_bias;
    return WICK_OK;
}

static size_t stops_of(wk_str *stop, const wick_request_options *o) {
    size_t n = 0;
    for (size_t i = 0; i < o->n_stop; i++) {
        const wk_str s = stop_at(o, i);
        if (s.n) stop[n++] = s;
    }
    return n;
}

/* A request with its prompt, or with the error that is its first and last event. */
static wick_status make_request(wick_engine *e, const wick_request_options *o, wk_request **out,
                                wick_error *err) {
    wk_sampling p = {0};
    wk_str stop[16];
    wick_error prompt_err = {0};
    int32_t *id = NULL;
    size_t n = 0;
    WK_TRY(sampling_of(&p, e->model->store, o, err));
    int bad = prompt_ids(e, o, &id, &n, &prompt_err);
    if (!bad) bad = check_prompt(e, id, n, 1, &prompt_err);
    const int32_t n_ctx = wk_engine_n_ctx(e->e), n_prompt = bad ? 0 : (int32_t)n;
    const int32_t left = n_ctx - n_prompt,
                  want = o->max_tokens && o->max_tokens < left ? o->max_tokens : left;
    int rc = wk_request_new(out, e->model->tok, id, n_prompt, bad ? 0 : n_prompt + want, stop,
                            stops_of(stop, o), err);
    wk_free(id);
    if (rc) return rc;
    wk_request *r = *out;
    r->engine = e->e;
    wk_engine_hold(e->e);
    r->sampling = p;
    WK_TRY(copy_bias(r, o, err));
    r->hash_logits = (o->flags & WICK_REQ_HASH) != 0;
    r->ignore_end = (o->flags & WICK_REQ_IGNORE_END) != 0;
    if (o->cache_salt)
        r->salt = wk_hash_bytes((wk_hash){0, 0}, o->cache_salt, strlen(o->cache_salt));
    if (bad) {
        r->error = prompt_err;
        r->error.code = bad;
        wk_request_end(r, WK_FIN_ERROR);
    }
    return WICK_OK;
}

wick_status wick_submit(wick_engine *e, const wick_request_options *opt, wick_request **out,
                        wick_error *err) {
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    if (!e || !opt || !out)
        return wk_fail(err, WICK_E_ARG, "submit: engine, options and out must be given");
    *out = NULL;
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("request options", err);
    WK_TRY(check_request(&o, err));
    WK_TRY(check_lists(&o, wk_engine_n_vocab(e->e), err));
    wick_request *r = wk_new(wick_request);
    if (!r) return wk_fail(err, WICK_E_NOMEM, "no memory for a request");
    int rc = make_request(e, &o, &r->r, err);
    if (!rc && r->r->finish == WK_FIN_NONE) rc = wk_engine_submit(e->e, r->r, err);
    if (rc) {
        wick_request_free(r);
        return rc;
    }
    *out = r;
    return WICK_OK;
}

wick_status wick_next(wick_request *r, int timeout_ms, wick_event *ev) {
    if (!r || !ev) return WICK_E_ARG;
    if (!has_size(ev)) return WICK_E_ABI; /* before an event is taken */
    wk_ring_event e;
    wk_str text = {"", 0};
    WK_TRY(wk_request_next(r->r, timeout_ms, &e, &text));
    wick_event v = {.type = e.type, .text = text.p, .text_len = text.n, .n_prompt = e.a};
    if (e.type == WK_EV_ADMITTED) v.n_cached = e.b;
    if (e.type == WK_EV_PROGRESS) v.n_done = e.b;
    if (e.type == WK_EV_ERROR) v.error = r->r->error;
    wk_engine_wake(r->r->engine);         /* there is room again */
    (void)give_result(ev, &v, sizeof(v)); /* its size was looked at */
    return WICK_OK;
}

int wick_request_fd(wick_request *r) { return r ? wk_request_fd(r->r) : -1; }

void wick_cancel(wick_request *r) {
    if (!r) return;
    atomic_store(&r->r->cancel, 1);
    wk_engine_wake(r->r->engine);
}

static double seconds(uint64_t from, uint64_t to) {
    return to > from ? (double)(to - from) * 1e-9 : 0.0;
}

wick_status wick_request_result(const wick_request *q, wick_result *out) {
    if (!q || !out) return WICK_E_ARG;
    const wk_request *r = q->r;
    if (!atomic_load(&r->over)) { /* the rest is being written */
        const wick_result v = {.n_prompt = r->n_prompt, .seed = (int64_t)r->sampling.seed};
        return give_result(out, &v, sizeof(v)) ? WICK_OK : WICK_E_ABI;
    }
    const wick_result v = {.n_prompt = r->n_prompt,
                           .n_cached = r->n_cached,
                           .n_generated = r->n_generated,
                           .finish = (int32_t)r->finish,
                           .prompt_s = r->t_first ? seconds(r->t_admit, r->t_first) : 0,
                           .decode_s = r->t_first ? seconds(r->t_first, r->t_end) : 0,
                           .first_s = r->t_first ? seconds(r->t_submit, r->t_first) : 0,
                           .seed = (int64_t)r->sampling.seed,
                           .hash = {r->hash.lo, r->hash.hi},
                           .flags = r->engine && wk_engine_on_device(r->engine) ? WICK_RESULT_DEVICE_BITS : 0,
                           .error = r->error};
    return give_result(out, &v, sizeof(v)) ? WICK_OK : WICK_E_ABI;
}

void wick_request_free(wick_request *r) {
    if (!r) return;
    if (r->r) {
        wk_engine *e = r->r->engine;
        atomic_store(&r->r->cancel, 1);
        if (e) wk_engine_wake(e);
        wk_request_drop(r->r);
        wk_engine_drop(e);
    }
    wk_free(r);
}

/* ---- one call ------------------------------------------------------------------------------------ */

wick_status wick_generate(wick_engine *e, const wick_request_options *o,
                          int (*on_text)(void *, const char *, size_t), void *ud, wick_result *out,
                          wick_error *err) {
    wick_request *r = NULL;
    wick_event ev = WICK_EVENT_INIT;
    if (out && !has_size(out)) return wk_options_bad_size("result", err);
    WK_TRY(wick_submit(e, o, &r, err));
    int rc = WICK_OK;
    while (!rc && (rc = wick_next(r, -1, &ev)) == WICK_OK) {
        if (ev.type == WICK_EV_TEXT && on_text && on_text(ud, ev.text, ev.text_len)) {
            on_text = NULL; /* what is in the ring already is not wanted either */
            wick_cancel(r);
        }
        if (ev.type == WICK_EV_ERROR) {
            if (err) *err = ev.error;
            rc = ev.error.code;
        }
        if (ev.type == WICK_EV_DONE) break;
    }
    if (out) {
        const int give = wick_request_result(r, out);
        if (!rc) rc = give;
    }
    wick_request_free(r);
    return rc;
}

/* Runs a scoring request to its end. */
static wick_status run_score(wick_engine *e, wk_request *r, wick_error *err) {
    wick_request q = {.r = r};
    wick_event ev = WICK_EVENT_INIT;
    r->engine = e->e;
    int rc = wk_engine_submit(e->e, r, err);
    while (!rc && (rc = wick_next(&q, -1, &ev)) == WICK_OK && ev.type != WICK_EV_DONE &&
           ev.type != WICK_EV_ERROR) {
    }
    if (!rc && ev.type == WICK_EV_ERROR) {
        if (err) *err = ev.error;
        rc = ev.error.code;
    }
    return rc;
}

static wick_status score(wick_engine *e, const wick_token *t, size_t n, float *logprobs,
                         void (*on_row)(void *, int32_t, const float *, int32_t), void *ud,
                         wick_error *err) {
    wk_request *r = NULL;
    WK_TRY(check_prompt(e, t, n, 0, err));
    WK_TRY(wk_request_new(&r, e->model->tok, t, (int32_t)n, (int32_t)n, NULL, 0, err));
    r->score = wk_new_n(float, n + 1);
    r->on_row = on_row;
    r->on_row_ud = ud;
    const int rc = r->score ? run_score(e, r, err)
                            : wk_fail(err, WICK_E_NOMEM, "no memory to score %zu tokens", n);
    if (!rc && logprobs) memcpy(logprobs, r->score, n * sizeof(float));
    wk_request_drop(r);
    return rc;
}

wick_status wick_score(wick_engine *e, const wick_token *t, size_t n, float *logprobs,
                       wick_error *err) {
    if (!e || !t || !logprobs)
        return wk_fail(err, WICK_E_ARG, "score: engine, tokens and logprobs must be given");
    return score(e, t, n, logprobs, NULL, NULL, err);
}

wick_status wick_x_logits(wick_engine *e, const wick_token *t, size_t n,
                          void (*on_row)(void *ud, int32_t pos, const float *logits,
                                         int32_t n_vocab),
                          void *ud, wick_error *err) {
    if (!e || !t || !on_row)
        return wk_fail(err, WICK_E_ARG, "logits: engine, tokens and on_row must be given");
    return score(e, t, n, NULL, on_row, ud, err);
}

wick_status wick_embed(wick_engine *e, const char *const *texts, const size_t *lens, size_t n,
                       float *out, size_t dim, wick_error *err) {
    (void)e, (void)texts, (void)lens, (void)n, (void)out, (void)dim;
    return missing("wick_embed", err);
}

wick_status wick_grammar_compile(const wick_model *m, int kind, const char *src, size_t len,
                                 wick_grammar **out, wick_error *err) {
    (void)m, (void)kind, (void)src, (void)len;
    if (out) *out = NULL;
    return missing("wick_grammar_compile", err);
}

void wick_grammar_free(wick_grammar *g) { (void)g; }

wick_status wick_prefix_io(wick_engine *e, int op, const wick_token *t, size_t n, const char *path,
                           wick_error *err) {
    (void)e, (void)op, (void)t, (void)n, (void)path;
    return missing("wick_prefix_io", err);
}

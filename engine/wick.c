/* wick.c: the public API beside its handles: version, setup, records of any age, and what is not built yet. */
#include "engine/wick.h"

#include <stdatomic.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/wick_model.h"
#include "simd/level.h"

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

bool wk_has_size(const void *p) {
    size_t size;
    memcpy(&size, p, sizeof(size));
    return size >= sizeof(size_t);
}

bool wk_result_give(void *dst, const void *src, size_t src_size) {
    size_t size;
    if (!wk_has_size(dst)) return false;
    memcpy(&size, dst, sizeof(size));
    const size_t n = size < src_size ? size : src_size;
    memcpy((char *)dst + sizeof(size_t), (const char *)src + sizeof(size_t), n - sizeof(size_t));
    return true;
}

wick_status wk_options_bad_size(const char *what, wick_error *err) {
    return wk_fail(err, WICK_E_ABI, "%s: its size field is not set; use the INIT macro", what);
}

wick_status wk_missing(const char *what, wick_error *err) {
    return wk_fail(err, WICK_E_UNSUPPORTED, "%s is not built yet", what);
}

wick_status wk_check_range(const char *name, int64_t v, int64_t min, int64_t max, wick_error *err) {
    if (v >= min && v <= max) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "%s is %lld, it must lie in %lld .. %lld", name, (long long)v,
                   (long long)min, (long long)max);
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

/* ---- not built yet ------------------------------------------------------------------------------- */

wick_status wick_embed(wick_engine *e, const char *const *texts, const size_t *lens, size_t n,
                       float *out, size_t dim, wick_error *err) {
    (void)e, (void)texts, (void)lens, (void)n, (void)out, (void)dim;
    return wk_missing("wick_embed", err);
}

wick_status wick_grammar_compile(const wick_model *m, int kind, const char *src, size_t len,
                                 wick_grammar **out, wick_error *err) {
    (void)m, (void)kind, (void)src, (void)len;
    if (out) *out = NULL;
    return wk_missing("wick_grammar_compile", err);
}

void wick_grammar_free(wick_grammar *g) { (void)g; }

wick_status wick_prefix_io(wick_engine *e, int op, const wick_token *t, size_t n, const char *path,
                           wick_error *err) {
    (void)e, (void)op, (void)t, (void)n, (void)path;
    return wk_missing("wick_prefix_io", err);
}

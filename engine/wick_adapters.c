/* wick_adapters.c: the adapters of an engine: opens what the options name. */
#include <string.h>

#include "engine/wick_model.h"

void wk_adapters_close(wk_adapters *a) {
    for (int32_t i = 0; i < a->n; i++) wk_store_close(a->store[i]);
    *a = (wk_adapters){.n = 0};
}

static wick_status open_one(wk_adapters *a, const char *path, float scale, wick_error *err) {
    const int32_t i = a->n;
    if (!path) return wk_fail(err, WICK_E_ARG, "adapters: path %d is NULL", (int)i);
    if (!(scale >= -1e6f && scale <= 1e6f))
        return wk_fail(err, WICK_E_ARG,
                       "adapter_scale: the scale of %s is %g, it must lie in -1e6 .. 1e6",
                       wk_show(wk_cstr(path)).text, (double)scale);
    WK_TRY(wk_store_open(&a->store[i], path, err));
    a->adapter[i] = (wk_adapter){.store = a->store[i], .scale = scale};
    a->n++;
    return WICK_OK;
}

wick_status wk_adapters_open(wk_adapters *a, const wick_engine_options *o, wk_engine_config *c,
                             wick_error *err) {
    *a = (wk_adapters){.n = 0};
    if (o->n_adapters > WK_ADAPTERS_MAX)
        return wk_fail(err, WICK_E_ARG, "n_adapters is %zu, it must lie in 0 .. %d", o->n_adapters,
                       WK_ADAPTERS_MAX);
    if (o->n_adapters && !o->adapters)
        return wk_fail(err, WICK_E_ARG, "adapters is NULL, n_adapters is %zu", o->n_adapters);
    for (size_t i = 0; i < o->n_adapters; i++) {
        const wick_status rc =
            open_one(a, o->adapters[i], o->adapter_scale ? o->adapter_scale[i] : 1.0f, err);
        if (!rc) continue;
        wk_adapters_close(a);
        return rc;
    }
    c->adapter = a->adapter;
    c->n_adapter = a->n;
    return WICK_OK;
}

/* wick_files.c: files made from files: fresh adapters, merged models, other formats. */
#include <string.h>

#include "engine/base/log.h"
#include "engine/file/store.h"
#include "engine/file/write.h"
#include "engine/wick_model.h"
#include "engine/wick_x.h"
#include "simd/format.h"
#if WK_TRAIN
#include "engine/train/lora.h"
#endif

/* A format that can be written; NULL: -1. */
static wick_status format_of(int *fmt, const char *name, wick_error *err) {
    *fmt = name ? wk_format_of_name(name) : -1;
    if (!name) return WICK_OK;
    if (*fmt < 0)
        return wk_fail(err, WICK_E_ARG,
                       "type is \"%s\", wanted the name of a format such as f16, q8_0 or q4_k",
                       wk_show(wk_cstr(name)).text);
    if (wk_formats[*fmt].encode) return WICK_OK;
    return wk_fail(err, WICK_E_UNSUPPORTED, "the format %s cannot be written yet",
                   wk_formats[*fmt].name);
}

/* Says so when a format cannot be had for all matrices. */
static void warn_kept(const wk_store *s, int fmt) {
    size_t n = 0, kept = 0;
    if (fmt < 0) return;
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        if (t->n_dim < 2) continue;
        n++;
        kept += t->ne[0] % wk_formats[fmt].block != 0;
    }
    if (kept)
        wk_log(
            WK_LOG_WARN,
            "%zu of %zu matrices keep their format: their rows do not divide into %s blocks of %d",
            kept, n, wk_formats[fmt].name, wk_formats[fmt].block);
}

static int matrices(void *ud, const wk_tensor *t) { return wk_requant_matrix(t, *(const int *)ud); }

wick_status wick_x_quantize(const char *in, const char *type, const char *out, wick_error *err) {
    wk_store *s = NULL;
    int fmt;
    if (!in || !type || !out)
        return wk_fail(err, WICK_E_ARG, "quantize: in, type and out must be given");
    WK_TRY(format_of(&fmt, type, err));
    WK_TRY(wk_store_open(&s, in, err));
    const int rc = wk_requant(s, out, matrices, &fmt, err);
    if (!rc) warn_kept(s, fmt);
    wk_store_close(s);
    return rc;
}

#if WK_TRAIN
wick_status wick_x_adapter_init(const char *base, int32_t rank, float alpha, const char *on,
                                uint64_t seed, const char *out, wick_error *err) {
    wk_store *s = NULL;
    if (!base || !on || !out)
        return wk_fail(err, WICK_E_ARG, "adapter_init: base, on and out must be given");
    WK_TRY(wk_store_open(&s, base, err));
    const wk_lora_shape shape = {.rank = rank, .alpha = alpha, .on = on, .seed = seed};
    const int rc = wk_lora_init(s, &shape, out, err);
    wk_store_close(s);
    return rc;
}

wick_status wick_x_merge(const char *base, const char *adapter, double scale, const char *type,
                         const char *out, wick_error *err) {
    wk_store *s = NULL, *a = NULL;
    int fmt;
    if (!base || !adapter || !out)
        return wk_fail(err, WICK_E_ARG, "merge: base, adapter and out must be given");
    if (!(scale >= -1e6 && scale <= 1e6))
        return wk_fail(err, WICK_E_ARG, "merge: scale is %g, it must lie in -1e6 .. 1e6", scale);
    WK_TRY(format_of(&fmt, type, err));
    int rc = wk_store_open(&s, base, err);
    if (!rc) rc = wk_store_open(&a, adapter, err);
    if (!rc) rc = wk_lora_merge(s, a, scale, fmt, out, err);
    if (!rc) warn_kept(s, fmt);
    wk_store_close(a);
    wk_store_close(s);
    return rc;
}
#else
wick_status wick_x_adapter_init(const char *base, int32_t rank, float alpha, const char *on,
                                uint64_t seed, const char *out, wick_error *err) {
    (void)base, (void)rank, (void)alpha, (void)on, (void)seed, (void)out;
    return wk_fail(err, WICK_E_UNSUPPORTED, "adapter_init: this build has no training");
}
wick_status wick_x_merge(const char *base, const char *adapter, double scale, const char *type,
                         const char *out, wick_error *err) {
    (void)base, (void)adapter, (void)scale, (void)type, (void)out;
    return wk_fail(err, WICK_E_UNSUPPORTED, "merge: this build has no training");
}
#endif

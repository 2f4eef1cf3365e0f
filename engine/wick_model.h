/* wick_model.h: the records behind the handles and the reading of options; shared by the files wick*.c only. */
#ifndef WICK_MODEL_H
#define WICK_MODEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/file/store.h"
#include "engine/graph/plan.h"
#include "engine/run/engine.h"
#include "engine/text/chat.h"
#include "engine/text/tok.h"
#include "engine/wick.h"

struct wick_model {
    _Atomic int ref;
    wk_store *store;
    wk_tok *tok;
    wk_chat *chat;
};
void wk_model_hold(wick_model *m);

/* The adapters that an engine's options name. */
typedef struct wk_adapters {
    wk_store *store[WK_ADAPTERS_MAX];
    wk_adapter adapter[WK_ADAPTERS_MAX];
    int32_t n;
} wk_adapters;
/* Also enters them into the configuration, which then borrows from a. */
wick_status wk_adapters_open(wk_adapters *a, const wick_engine_options *o, wk_engine_config *c, wick_error *err);
void wk_adapters_close(wk_adapters *a); /* zeroed record is fine */

/* wick_engine_options.extra into the configuration, which borrows its texts. */
wick_status wk_extra_read(wk_engine_config *c, const char *const *extra, wick_error *err);

struct wick_engine {
    wk_engine *e;
    wick_model *model;
    wk_adapters lora;
};

/* Copies a caller's options over the defaults: fields beyond the caller's size keep their default. false: the size is
 * not set. src NULL: the defaults. */
bool wk_options_take(void *dst, size_t dst_size, const void *src);
wick_status wk_options_bad_size(const char *what, wick_error *err);
bool wk_has_size(const void *p); /* a record of the caller whose size field is set */
/* Writes a result no further than the caller's size. false: the size is not set. */
bool wk_result_give(void *dst, const void *src, size_t src_size);
wick_status wk_check_range(const char *name, int64_t v, int64_t min, int64_t max, wick_error *err);
wick_status wk_missing(const char *what, wick_error *err); /* E_UNSUPPORTED: not built yet */
/* Levels that wick_setup left in, as a mask of level.h. */
uint32_t wk_setup_cpu_mask(void);

#endif

/* engine.h: the engine: one thread that plans steps, runs them on a device and gives out what they made.
 *
 *   submit --> mailbox --> waiting --> active (pages, batch) --> events
 *
 * Lock `mu` guards the mailbox, the calls and `closing`; everything else belongs to the engine thread, the counters of
 * wk_engine_stats are atomics. The thread sleeps on the futex word `wake`. */
#ifndef WK_ENGINE_H
#define WK_ENGINE_H

#include "engine/file/store.h"
#include "engine/graph/backend.h"
#include "engine/run/offload.h"
#include "engine/run/request.h"

typedef struct wk_engine wk_engine;

typedef struct wk_engine_config {
    int32_t n_ctx, kv_tokens, kv_type, max_seqs, max_queue, threads, n_batch;
    bool prefix_cache, fit_check;
    uint32_t cpu_mask;
    const wk_adapter *adapter; /* n_adapter of them; borrowed until the engine is closed */
    int32_t n_adapter;
    const char *device;  /* offload.h; NULL: cpu. Borrowed until the engine is closed */
    int32_t gpu_layers;  /* WK_OFFLOAD_AUTO, WK_OFFLOAD_NONE, or a number of layers */
    bool (*progress)(void *ud, uint64_t done, uint64_t total);
    void *ud;
} wk_engine_config;

/* Memory that an engine takes, in bytes, and what there is. weights + kv + activations is the forecast of the
 * process's largest resident memory: activations are all the rest, the tokenizer and the program among it. */
typedef struct wk_fit {
    uint64_t need, available, weights, kv, activations, margin;
    int32_t n_ctx, n_thread, n_cpu;
    uint32_t n_page;
    bool fits;
    bool ctx_chosen; /* n_ctx was not asked for */
    /* Beside the cpu: need and the rest are then the host's alone. dev_free UINT64_MAX: the device's memory is the
     * machine's, and its bytes are in need. */
    uint64_t dev_need, dev_free;
    int32_t n_layer, dev_layers;
    char dev_name[48], device[160]; /* "cuda:0" or ""; offload.h, wk_offload_text */
} wk_fit;

/* Resolves the defaults of c (threads, n_ctx) and computes the need; builds the plan for it (*plan, may be NULL to
 * discard). Errors as wk_plan_build. Not fitting is no error here. */
int wk_fit_plan(wk_fit *out, wk_plan **plan, const wk_store *s, wk_engine_config *c, wk_err *err);
/* The same, and the device stays open: off is the caller's to close. What was asked for and is not so (layers that stay
 * on the cpu) is a warning of the log. E_DEVICE: the device cannot be used. E_FIT: not one layer fits it. */
int wk_fit_devices(wk_fit *out, wk_plan **plan, wk_offload *off, const wk_store *s, wk_engine_config *c, wk_err *err);
/* E_FIT, with the sentence: both numbers, and the context that would fit if one would. */
int wk_fit_refuse(const wk_fit *f, wk_err *err);

int wk_engine_open(wk_engine **out, const wk_store *s, const wk_tok *tok, const wk_engine_config *c, wk_err *err);
/* Cancels, joins, frees all but the record, which goes with its last request. */
void wk_engine_close(wk_engine *e);
void wk_engine_hold(wk_engine *e);
void wk_engine_drop(wk_engine *e);

/* Takes a reference of r. E_BUSY: queue full. E_CANCELED: closing. */
int wk_engine_submit(wk_engine *e, wk_request *r, wk_err *err);
/* Something changed: cancel flag, room in a ring. Async-signal-safe. */
void wk_engine_wake(wk_engine *e);

/* Runs fn on the engine's thread, between two rounds, with that thread's working set; returns what fn returned, when it
 * is done. Calls run one at a time in order of arrival, requests go on between them. fn may use what a round makes anew
 * (the batch arrays, logits, row) and pages that are not promised to requests; it gives back what it takes. A long one
 * asks wk_engine_is_closing now and then. E_CANCELED: the engine closed before fn began. E_ARG: from the engine's
 * thread itself, which would wait for ever. */
struct wk_sched;
typedef int wk_engine_fn(struct wk_sched *s, void *ud, wk_err *err);
int wk_engine_call(wk_engine *e, wk_engine_fn *fn, void *ud, wk_err *err);
bool wk_engine_is_closing(wk_engine *e);

int32_t wk_engine_n_ctx(const wk_engine *e);
int32_t wk_engine_n_vocab(const wk_engine *e);
const wk_fit *wk_engine_fit(const wk_engine *e);
const char *wk_engine_level(const wk_engine *e);
const wk_plan *wk_engine_plan(const wk_engine *e);
/* Some of it runs on a device that is not the cpu: its bits are its own. */
bool wk_engine_on_device(const wk_engine *e);

typedef struct wk_engine_stats {
    int32_t running, waiting, pages_total, pages_free, pages_cached;
    uint64_t steps, prompt_tokens, cached_tokens, generated_tokens;
} wk_engine_stats;
void wk_engine_read_stats(const wk_engine *e, wk_engine_stats *out);

#endif

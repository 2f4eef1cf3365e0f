/* wick.h: the public API of libwick.
 *
 * Opaque handles; every struct begins with `size`, set by its WICK_..._INIT macro; a zero field means default,
 * and where 0 is itself a wish the INIT macro writes WICK_AUTO. Calls that can fail return a wick_status (0 done,
 * < 0 error) and, where there is more to say, fill a caller-owned wick_error (NULL allowed). The library never
 * prints, exits, aborts, reads the environment or installs signal handlers, and makes no thread before
 * wick_engine_open. fork() after wick_engine_open is not supported. Text is UTF-8 with an explicit length.
 *
 * ONE ARITHMETIC: same file, prompt, options and seed give the same logit bits for every CPU level, thread count,
 * batch, prompt chunking and cache state. WICK_ARITH changes whenever those bits change. */
#ifndef WICK_H
#define WICK_H

#include <stddef.h>
#include <stdint.h>

#include "wick_status.h" /* beside this file, in the tree and when installed */

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WICK_API __attribute__((visibility("default")))
#else
#define WICK_API
#endif

#define WICK_VERSION_MAJOR 0
#define WICK_VERSION_MINOR 1
#define WICK_VERSION_PATCH 0
#define WICK_ARITH 1

/* "choose for me" where 0 means 0 */
#define WICK_AUTO_F (-1.0e300)
#define WICK_AUTO (-1)

typedef struct wick_model wick_model;     /* weights, tokenizer, template; immutable, shared, counted */
typedef struct wick_engine wick_engine;   /* KV pool, team, scheduler for one model */
typedef struct wick_request wick_request; /* one prompt in flight */
typedef struct wick_grammar wick_grammar; /* compiled constraint */
typedef int32_t wick_token;

/* ---- options ------------------------------------------------------------------------------------- */

enum { WICK_LOG_ERROR, WICK_LOG_WARN, WICK_LOG_INFO, WICK_LOG_DEBUG };

typedef struct wick_setup_options {
    size_t size;
    void (*log)(void *ud, int level, const char *text, size_t len); /* one line, no newline; NULL: silence */
    void *log_ud;
    int min_level;
    void *(*alloc)(void *ud, size_t bytes); /* both or neither; zeroing is not expected */
    void (*dealloc)(void *ud, void *p);
    void *alloc_ud;
    const char *cpu_level; /* highest CPU level to use: "ref" "avx2" "avx512" "avx512vnni" "neon" "dotprod" "i8mm"; NULL: all */
} wick_setup_options;
#define WICK_SETUP_OPTIONS_INIT {sizeof(wick_setup_options), 0, 0, WICK_LOG_WARN, 0, 0, 0, 0}

typedef struct wick_model_options {
    size_t size;
    /* phase "read" or "pack"; done of total bytes; non-zero cancels. Called by the opening thread. */
    int (*progress)(void *ud, const char *phase, uint64_t done, uint64_t total);
    void *progress_ud;
} wick_model_options;
#define WICK_MODEL_OPTIONS_INIT {sizeof(wick_model_options), 0, 0}

enum { WICK_N_BATCH = 256, WICK_N_BATCH_DEVICE = 512 }; /* of the CPU alone; with a device beside it */

enum { WICK_KV_DEFAULT, WICK_KV_F16, WICK_KV_F32, WICK_KV_BF16, WICK_KV_Q8_0 };

typedef struct wick_engine_options {
    size_t size;
    int32_t n_ctx;     /* tokens of one sequence; 0: the smaller of the model's length, 8192 and what fits */
    int32_t kv_tokens; /* positions of the KV pool for all sequences; 0: n_ctx */
    int32_t kv_type;   /* WICK_KV_...; 0: f16. q8_0: a model whose head_dim 32 does not divide is E_UNSUPPORTED */
    int32_t max_seqs;  /* sequences in a batch; 0: 8 */
    int32_t max_queue; /* requests that may wait; 0: 64 */
    int32_t threads;   /* 0: min(physical cores, affinity, cgroup quota) */
    int32_t n_batch;   /* tokens of one step, prompt chunk at most; 0: WICK_N_BATCH... */
    int32_t no_prefix_cache; /* 1: prompts are always computed */
    int32_t no_fit_check;    /* 1: do not compare the need with the memory available */
    /* NULL or "cpu"; "auto": the first GPU that can be used, else the cpu and a warning of the log; "cuda", "cuda:1", or
     * the absolute path of a module, ":1" behind it or not: E_DEVICE when it cannot be used, E_FIT when its memory is
     * too small for what gpu_layers asks. */
    const char *device;
    /* "key=value", NULL-ended; unknown keys are refused. gemm=wick|onednn (products of prompts; WICK_RESULT_DEVICE_BITS),
     * cpus=0-3,8 or all (threads bound to CPUs, one per core first), huge=thp|off, cache_dir=DIR or off and
     * cache_max=BYTES (packed weights kept on disk). */
    const char *const *extra;
    /* packing, phase "pack"; non-zero cancels. Called while wick_engine_open waits, by another thread. */
    int (*progress)(void *ud, const char *phase, uint64_t done, uint64_t total);
    void *progress_ud;
    /* LoRA files (GGUF) over the model, for all requests, added up in this order; at most 8. Read by wick_fit and
     * wick_engine_open only. E_FORMAT, E_ARCH, E_SHAPE, E_UNSUPPORTED: what is wrong, and in which file. */
    const char *const *adapters;
    const float *adapter_scale; /* n_adapters factors; NULL: 1 each */
    size_t n_adapters;
    /* The last so many layers run on the device; as many as the model has, or more: the head and all the rest too. 0: as
     * many as fit its memory, if that is faster. -1: none. */
    int32_t gpu_layers;
} wick_engine_options;
#define WICK_ENGINE_OPTIONS_INIT {sizeof(wick_engine_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

enum {
    WICK_REQ_HASH = 1,    /* hash the logits of every sampled position: wick_result.hash */
    WICK_REQ_IGNORE_END = 2 /* go on after an end-of-turn token (measuring) */
};

/* The prompt: exactly one of tokens, text (encoded as it is, with BOS where the model wants it; special tokens in
 * it stay text) and chat (JSON as for wick_chat_render). */
typedef struct wick_request_options {
    size_t size;
    const wick_token *tokens;
    size_t n_tokens;
    const char *text;
    size_t text_len;
    const char *chat;
    size_t chat_len;
    int32_t n;          /* choices; 0: 1 */
    int32_t max_tokens; /* 0: to the end of the context */
    const char *const *stop; /* n_stop strings, at most 16 of at most 1024 bytes */
    const size_t *stop_len;  /* their lengths; NULL: NUL-terminated */
    size_t n_stop;
    double temperature; /* 0 greedy; WICK_AUTO_F: the model's recommendation, else 0.7 */
    double top_p;       /* (0, 1]; WICK_AUTO_F: the model's recommendation, else 0.95 */
    double min_p;       /* [0, 1) */
    int32_t top_k;      /* 0: all */
    int64_t seed;       /* WICK_AUTO: random, returned in the result */
    const wick_grammar *grammar;
    const char *cache_salt; /* prompts share cached prefixes only under equal salts */
    uint32_t flags;         /* WICK_REQ_...; others are E_ARG */
    double repeat_penalty;    /* 0 off, else 0.01 .. 10: over prompt and answer */
    double frequency_penalty; /* -10 .. 10: times the count in the answer */
    double presence_penalty;  /* -10 .. 10: for every token of the answer */
    const wick_token *bias_token; /* n_bias tokens, at most 1024 ... */
    const float *bias_value;      /* ... and what is added to their logits, -1000 .. 1000 */
    size_t n_bias;
} wick_request_options;
#define WICK_REQUEST_OPTIONS_INIT                                                                                      \
    {sizeof(wick_request_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, WICK_AUTO_F, WICK_AUTO_F, 0.0, 0, WICK_AUTO, 0,     \
     0, 0, 0.0, 0.0, 0.0, 0, 0, 0}

/* ---- results ------------------------------------------------------------------------------------- */

enum { WICK_EV_ADMITTED, WICK_EV_PROGRESS, WICK_EV_TEXT, WICK_EV_WARNING, WICK_EV_DONE, WICK_EV_ERROR };

typedef struct wick_event {
    size_t size;
    int32_t type, index;   /* WICK_EV_..., choice */
    const char *text;      /* TEXT, WARNING: bytes at code point borders; lives until the next wick_next */
    size_t text_len;
    int32_t n_prompt, n_cached; /* ADMITTED, PROGRESS */
    int32_t n_done;             /* PROGRESS: prompt tokens computed, cached ones included */
    wick_error error;           /* ERROR */
} wick_event;
#define WICK_EVENT_INIT {sizeof(wick_event), 0, 0, 0, 0, 0, 0, 0, {0, {0}}}

enum { WICK_FINISH_NONE, WICK_FINISH_STOP, WICK_FINISH_LENGTH, WICK_FINISH_TOOL, WICK_FINISH_CANCEL, WICK_FINISH_ERROR };

/* wick_result.flags. DEVICE_BITS: a device that is not the cpu, or oneDNN, computed some of it, so the logits' bits are
 * its own (ONE ARITHMETIC speaks of wick's products on CPUs). */
enum { WICK_RESULT_DEVICE_BITS = 1 };

typedef struct wick_result {
    size_t size;
    int32_t n_prompt, n_cached, n_generated;
    int32_t finish;       /* WICK_FINISH_... */
    double prompt_s, decode_s, first_s; /* computing the prompt, the rest, submit to first token */
    int64_t seed;
    uint64_t hash[2];     /* WICK_REQ_HASH */
    uint32_t warnings, flags;
    wick_error error;
} wick_result;
#define WICK_RESULT_INIT {sizeof(wick_result), 0, 0, 0, 0, 0, 0, 0, 0, {0, 0}, 0, 0, {0, {0}}}

typedef struct wick_stats {
    size_t size;
    int32_t running, waiting;
    int32_t pages_total, pages_free, pages_cached; /* of 64 positions */
    int32_t n_ctx, threads;
    const char *cpu_level;
    uint64_t steps, prompt_tokens, cached_tokens, generated_tokens;
    uint64_t bytes_weights, bytes_kv, bytes_rest;
    uint64_t allocations; /* of the library so far: constant while tokens are made */
    const char *device;   /* "cpu", or "cuda:0 (NVIDIA H100): layers 12 to 23; cpu: layers 0 to 11, head"; the engine's */
    uint64_t bytes_device; /* weights, KV and the rest there; the three above are then the host's */
    int32_t n_layer, gpu_layers;
} wick_stats;
#define WICK_STATS_INIT {sizeof(wick_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

typedef struct wick_fit_result {
    size_t size;
    uint64_t need, available;             /* bytes */
    uint64_t weights, kv, activations;    /* parts of need */
    int32_t n_ctx, threads;
    int32_t fits;                         /* 1 yes, 0 no: the host's memory and the device's */
    int32_t n_layer, gpu_layers;          /* of the model; those on the device */
    uint64_t device_need, device_free;    /* bytes; 0 without a device */
    char device[160];                     /* as in wick_stats */
} wick_fit_result;
#define WICK_FIT_RESULT_INIT {sizeof(wick_fit_result), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}}

enum { WICK_TOK_BOS = 1, WICK_TOK_SPECIAL = 2, WICK_TOK_SHOW_SPECIAL = 4 };

/* ---- library ------------------------------------------------------------------------------------- */

/* MAJOR*1000000 + MINOR*1000 + PATCH of what is loaded. Thread: any. */
WICK_API uint32_t wick_version_number(void);
/* Static text, never NULL. Thread: any. */
WICK_API const char *wick_strerror(wick_status s);
/* Optional, before anything else and not beside anything else: log sink, allocator, CPU level. E_ARG: unknown level. */
WICK_API wick_status wick_setup(const wick_setup_options *o, wick_error *err);

/* ---- model --------------------------------------------------------------------------------------- */

/* What an engine with these options would take, from the file's header alone. Thread: any. */
WICK_API wick_status wick_fit(const char *path, const wick_engine_options *o, wick_fit_result *out, wick_error *err);
/* Opens a GGUF file: everything but the weights' values is read and checked. o may be NULL. Thread: any. */
WICK_API wick_status wick_model_open(const char *path, const wick_model_options *o, wick_model **out, wick_error *err);
WICK_API void wick_model_close(wick_model *m); /* NULL is fine; an engine keeps its model */
/* "arch", "name", "n_vocab", "n_ctx", "n_layer", "dim", "n_head", "n_head_kv", "bytes", "n_param", "format", "tokenizer",
 * "chat_template", "bos", "eos", or any metadata key, as text. cap 0 asks for the length. E_ARG: unknown key or too small. */
WICK_API wick_status wick_model_get(const wick_model *m, const char *key, char *buf, size_t cap, size_t *len);
WICK_API wick_status wick_tokenize(const wick_model *m, const char *text, size_t len, uint32_t flags, wick_token *out,
                                   size_t cap, size_t *n);
WICK_API wick_status wick_detokenize(const wick_model *m, const wick_token *t, size_t n, uint32_t flags, char *buf,
                                     size_t cap, size_t *len);
/* {"messages":[{"role":"user","content":"..."}], "add_generation_prompt":true, ...} by the model's own template.
 * out, text: either may be NULL with cap 0. E_TEMPLATE, E_ARG. */
WICK_API wick_status wick_chat_render(const wick_model *m, const char *json, size_t len, wick_token *out, size_t cap,
                                      size_t *n, char *text, size_t text_cap, size_t *text_len, wick_error *err);

/* ---- engine -------------------------------------------------------------------------------------- */

/* Packs the weights, takes all memory, starts the engine thread. E_FIT comes before any large allocation, with both
 * numbers. o may be NULL. The file is not read afterwards. */
WICK_API wick_status wick_engine_open(wick_model *m, const wick_engine_options *o, wick_engine **out, wick_error *err);
WICK_API void wick_engine_close(wick_engine *e); /* cancels what runs, joins, frees; requests stay valid */
WICK_API wick_status wick_engine_stats(const wick_engine *e, wick_stats *out);

/* ---- requests ------------------------------------------------------------------------------------ */

/* Returns at once. E_BUSY: queue full; E_ARG: bad option. What is wrong with the prompt is the first event, ERROR. */
WICK_API wick_status wick_submit(wick_engine *e, const wick_request_options *o, wick_request **out, wick_error *err);
/* Next event. timeout_ms -1 waits, 0 polls. E_TIMEOUT: none in time. After DONE or ERROR: E_ARG. One thread a request. */
WICK_API wick_status wick_next(wick_request *r, int timeout_ms, wick_event *ev);
/* Readable while an event waits; -1: none left. */
WICK_API int wick_request_fd(wick_request *r);
/* Idempotent, any thread, async-signal-safe. */
WICK_API void wick_cancel(wick_request *r);
/* Before the end: n_prompt, seed, finish NONE; the rest stands after DONE or ERROR. */
WICK_API wick_status wick_request_result(const wick_request *r, wick_result *out);
WICK_API void wick_request_free(wick_request *r);

/* ---- one call ------------------------------------------------------------------------------------ */

/* submit, next until done; non-zero from on_text cancels. */
WICK_API wick_status wick_generate(wick_engine *e, const wick_request_options *o,
                                   int (*on_text)(void *ud, const char *s, size_t n), void *ud, wick_result *out,
                                   wick_error *err);
WICK_API wick_status wick_embed(wick_engine *e, const char *const *texts, const size_t *lens, size_t n, float *out,
                                size_t dim, wick_error *err);
/* logprobs[i] = log p(t[i] | t[<i]) for i >= 1; logprobs[0] = 0. */
WICK_API wick_status wick_score(wick_engine *e, const wick_token *t, size_t n, float *logprobs, wick_error *err);

/* ---- constraints, stored prefixes ---------------------------------------------------------------- */

WICK_API wick_status wick_grammar_compile(const wick_model *m, int kind, const char *src, size_t len,
                                          wick_grammar **out, wick_error *err);
WICK_API void wick_grammar_free(wick_grammar *g);
WICK_API wick_status wick_prefix_io(wick_engine *e, int op, const wick_token *t, size_t n, const char *path,
                                    wick_error *err);

#ifdef __cplusplus
}
#endif
#endif

/* wick_x.h: experimental API. No promise: anything here may change in any release. */
#ifndef WICK_X_H
#define WICK_X_H

#include "wick.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The step list that a model file becomes, as text. text gets at most cap bytes with a NUL; *len is what is needed. */
WICK_API wick_status wick_x_steps(const char *path, char *text, size_t cap, size_t *len, wick_error *err);
/* Metadata entry i as "key", "value": E_ARG behind the last one. Borrowed key; value cut at cap. */
WICK_API wick_status wick_x_meta(const wick_model *m, size_t i, const char **key, size_t *key_len, char *value, size_t cap);
/* Tensor i: name, format name, dims. E_ARG behind the last one. */
WICK_API wick_status wick_x_tensor(const wick_model *m, size_t i, const char **name, size_t *name_len, const char **format,
                                   uint64_t ne[4], int *n_dim, uint64_t *bytes);
/* One token's bytes, control tokens as their text. *control: it is one. */
WICK_API wick_status wick_x_piece(const wick_model *m, wick_token id, char *buf, size_t cap, size_t *len, int *control);
/* Logits of every position of t, in order: on_row is called on the engine's thread, logits live for the call. */
WICK_API wick_status wick_x_logits(wick_engine *e, const wick_token *t, size_t n,
                                   void (*on_row)(void *ud, int32_t pos, const float *logits, int32_t n_vocab), void *ud,
                                   wick_error *err);
/* E_FIT for a file that is larger than the memory available, with the sentence of wick_engine_open, before anything else
 * of it is read: a vocabulary alone takes 30 to 70 ms. WICK_OK says nothing; opening still checks. */
WICK_API wick_status wick_x_fit_check(const char *path, const wick_engine_options *o, wick_error *err);
/* What this process may use; levels: the CPU levels that run here, comma separated. */
WICK_API wick_status wick_x_machine(int *n_core, int *n_affinity, double *quota, int *n_thread, char *levels, size_t cap);

/* Bytes that may be taken (MemAvailable and cgroup headroom) and the cgroup's limit (0: none). */
WICK_API wick_status wick_x_memory(uint64_t *available, uint64_t *cgroup_limit);
/* Read bandwidth of this machine: best of some passes over bytes of memory. Takes a fraction of a second. */
WICK_API wick_status wick_x_bandwidth(int threads, size_t bytes, double *bytes_per_s, wick_error *err);
/* What one token costs: bytes of packed weights that a decode step reads (the vocabulary projection among them), bytes of
 * KV that it reads for each position before it, multiply-adds of the layers, and of one row of logits. Sliding windows
 * are not looked at: beyond a window the two figures by position are upper bounds. */
typedef struct wick_x_cost {
    double weight_bytes, kv_bytes_per_pos, layer_macs, head_macs;
    double attn_macs_per_pos; /* f32 multiply-adds of one token for each position that it sees */
} wick_x_cost;
WICK_API wick_status wick_x_cost_of(const wick_engine *e, wick_x_cost *out);

/* Forward passes alone, without tokenizer and sampler: n_seq sequences bring n_tok tokens each behind depth positions, in
 * steps of at most n_batch tokens, and want one row of logits each. Keys and values of the depth are zero: time does
 * not depend on them. Token ids are a fixed pseudo-random sequence. */
typedef struct wick_x_pass {
    size_t size;
    int32_t n_seq, n_tok, depth;
    int32_t warmup, reps;
} wick_x_pass;
/* seconds [reps]. hash: of the last logits, the first half of what a request with WICK_REQ_HASH gives for the same
 * tokens; may be NULL. Runs between requests on the engine's thread; their answers stay the same. Errors: E_ARG (a
 * number out of range, named; or called from an engine's callback), E_FIT: the cache holds fewer positions (found,
 * wanted), E_NUMERIC, E_CANCELED (the engine was closed meanwhile). */
WICK_API wick_status wick_x_pass_run(wick_engine *e, const wick_x_pass *o, double *seconds, uint64_t *hash,
                                     wick_error *err);
/* Time by kind of work. on starts at zero or stops; a pass_run that comes first after it adds its timed passes alone,
 * later ones their warmup too, requests all they do. read calls on_row once per kind: seconds summed over all threads
 * since then, calls 0 where not counted; "wall" and "pass" (calls) come first. */
WICK_API wick_status wick_x_trace(wick_engine *e, int on, wick_error *err);
WICK_API wick_status wick_x_trace_read(wick_engine *e,
                                       void (*on_row)(void *ud, const char *name, double seconds, uint64_t calls),
                                       void *ud, wick_error *err);

/* Multiply-adds a second that `threads` threads reach with independent chains of the instruction that a level's
 * products use, as many as its registers hold: 24, on avx2 14. kind: "i8" or "f32". level NULL: the best that
 * wick_setup left in. Best of passes of some milliseconds, about a tenth of a second in all. */
WICK_API wick_status wick_x_peak(const char *level, const char *kind, int threads, double *macs_per_s, wick_error *err);
/* One matrix product: n_tok tokens x [n_row, k] of a format, random weights, through packing, quantisation, tickets and
 * barriers as in a model. */
typedef struct wick_x_kernel {
    size_t size;
    const char *level, *format; /* NULL: the best; a name of formats.def */
    int32_t n_row, k, n_tok, threads, reps;
} wick_x_kernel;
/* seconds [reps]; *bytes: of packed weights; *pack_s: time to pack them. Each may be NULL but seconds. E_UNSUPPORTED:
 * the format does not divide k. */
WICK_API wick_status wick_x_kernel_run(const wick_x_kernel *o, double *seconds, uint64_t *bytes, double *pack_s,
                                       wick_error *err);

/* Every kernel of a CPU level against plain C, bit for bit. wrong: names of those that differ, "" if none. */
WICK_API wick_status wick_x_selftest(const char *level, uint64_t *n_compared, char *wrong, size_t cap, wick_error *err);

#ifdef __cplusplus
}
#endif
#endif

/* wick_x.h: experimental API. No promise: anything here may change in any release. */
#ifndef WICK_X_H
#define WICK_X_H

#include "wick.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The step list that a model file becomes with the adapters of o (NULL: none), as text. text gets at most cap bytes with a NUL; *len is what is needed. */
WICK_API wick_status wick_x_steps(const char *path, const wick_engine_options *o, char *text, size_t cap, size_t *len, wick_error *err);
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
/* Devices beside the cpu, and those that might be. why: in one sentence what is missing, "" for one that can be used. */
typedef struct wick_x_device {
    size_t size;
    char spec[256];                /* what wick_engine_options.device takes: "cuda:0"; for what is missing "cuda" */
    char name[96], driver[64];     /* "NVIDIA H100 PCIe", "CUDA 12.4, driver 550.54" */
    char why[256];
    uint64_t mem_total, mem_free;  /* bytes */
    double read_rate;              /* bytes a second of the device reading its own memory; 0: not measured, as below */
    double put_rate, get_rate;     /* bytes a second of copies to and from it */
    double int8_rate, f16_rate;    /* operations a second */
} wick_x_device;
/* Calls on_device for each device of each kind that is known (spec NULL), or of one kind or module ("cuda",
 * "/abs/libwick_x.so"). measure: a second at most a device. E_ARG: spec is no name of a device. */
WICK_API wick_status wick_x_devices(const char *spec, int measure, void (*on_device)(void *ud, const wick_x_device *d),
                                    void *ud, wick_error *err);
/* Read bandwidth of this machine: best of some passes over bytes of memory. Takes a fraction of a second. */
WICK_API wick_status wick_x_bandwidth(int threads, size_t bytes, double *bytes_per_s, wick_error *err);
/* The same, n passes in turn, seconds of each: how even the machine alone is in the work of a token. */
WICK_API wick_status wick_x_read_times(int threads, size_t bytes, double *seconds, int n, wick_error *err);
/* What opening an engine took. pack_s: packing, or reading what was kept; faults of the process meanwhile.
 * huge_bytes of anon_bytes: the process's anonymous memory now, in huge pages (0 of 0: not told). cache: "off", "hit",
 * "miss", "refused" (a file was there and not believed); stored: it is kept for the next start. */
typedef struct wick_x_loading {
    double pack_s, store_s;
    uint64_t bytes, minor_faults, major_faults, huge_bytes, anon_bytes;
    const char *cache;
    int stored;
} wick_x_loading;
WICK_API wick_status wick_x_loading_of(const wick_engine *e, wick_x_loading *out);
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
 * since then, calls 0 where not counted; "wall" and "pass" (calls) come first. "copy", where there
 * are several devices, is time as it passes: values that went from one to another. */
WICK_API wick_status wick_x_trace(wick_engine *e, int on, wick_error *err);
WICK_API wick_status wick_x_trace_read(wick_engine *e,
                                       void (*on_row)(void *ud, const char *name, double seconds, uint64_t calls),
                                       void *ud, wick_error *err);
/* What went between the host and devices while a trace was on: values, token ids, logits. Zeros on the cpu alone. */
typedef struct wick_x_copies {
    size_t size;
    uint64_t n_put, n_get, put_bytes, get_bytes; /* to a device, from it */
    double seconds;                              /* as they pass */
} wick_x_copies;
WICK_API wick_status wick_x_trace_copies(wick_engine *e, wick_x_copies *out, wick_error *err);

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

/* ---- training: files in, files out ----------------------------------------------------------------------------- */

/* A tokenizer learned from text files: byte-level BPE of n_vocab tokens (256 bytes and three control tokens among
 * them), written as a GGUF file that holds a tokenizer and no tensors, and as json (Hugging Face tokenizer.json) where
 * json is not NULL. Errors: E_ARG, E_IO, E_CANCELED (progress gave non-zero; done of total merges). */
WICK_API wick_status wick_x_tok_train(const char *const *paths, size_t n_paths, int32_t n_vocab, const char *out,
                                      const char *json, int (*progress)(void *ud, uint64_t done, uint64_t total),
                                      void *ud, wick_error *err);
/* Text or jsonl files -> one packed file of tokens by the tokenizer (and chat template) of a GGUF file; files of token ids
 * of llm.c are known by their magic, raw ids only where a flag says so. mix: NULL, or [n_paths] the shares that the files
 * shall have in the tokens trained on. val_share: part of the documents held out, by their hash. flags: WICK_X_SKIP_BAD,
 * WICK_X_LOSS_ON_ALL, WICK_X_RAW_U16, WICK_X_RAW_U32. Errors: E_FORMAT with file, line, reason; E_ARG, E_IO, E_TEMPLATE,
 * E_CANCELED. */
enum { WICK_X_SKIP_BAD = 1, WICK_X_LOSS_ON_ALL = 2, WICK_X_RAW_U16 = 4, WICK_X_RAW_U32 = 8, WICK_X_MIX_MAX = 16 };
typedef struct wick_x_data_info {
    size_t size;
    uint64_t train_tokens, val_tokens, train_docs, val_docs, train_bytes, val_bytes, bad_lines, hash;
} wick_x_data_info;
WICK_API wick_status wick_x_data_pack(const char *const *paths, size_t n_paths, const double *mix, const char *tokenizer,
                                      const char *out, double val_share, uint32_t flags,
                                      int (*progress)(void *ud, uint64_t done, uint64_t total), void *ud,
                                      wick_x_data_info *info, wick_error *err);
/* Bytes of a token id in a file that begins with these n bytes, by its magic; 0: it is text, or nobody says. */
WICK_API int wick_x_data_width(const void *p, size_t n);
WICK_API wick_status wick_x_data_look(const char *path, wick_x_data_info *info, wick_error *err);

/* A llama of F32 random weights (N(0, 0.02), o and down / sqrt(2 L)) with the tokenizer of a GGUF file. tied: the
 * embedding is the head too. n_ctx: the length it is trained for. E_ARG: a number out of range or not divisible. */
typedef struct wick_x_shape {
    size_t size;
    int32_t dim, n_layer, n_head, n_head_kv, n_ff, n_ctx, tied;
    int32_t plain; /* 1: the tokenizer's chat template is left out: the model continues text */
} wick_x_shape;
WICK_API wick_status wick_x_model_init(const wick_x_shape *shape, const char *tokenizer, uint64_t seed, const char *out,
                                       wick_error *err);
/* A shape by name ("260k" "1m" "5m" "15m" "42m" "110m"); E_ARG names them all. */
WICK_API wick_status wick_x_shape_of(const char *preset, wick_x_shape *out, wick_error *err);
/* A fresh LoRA adapter for base: A ~ N(0, 1/sqrt(in)), B = 0. on: "q,k,v,o,gate,up,down" or some of them. */
WICK_API wick_status wick_x_adapter_init(const char *base, int32_t rank, float alpha, const char *on, uint64_t seed,
                                         const char *out, wick_error *err);
/* W + scale * alpha/rank * B A for every matrix of the adapter, in format type (NULL: each tensor's own). */
WICK_API wick_status wick_x_merge(const char *base, const char *adapter, double scale, const char *type, const char *out,
                                  wick_error *err);
/* A copy with its matrices in format type; rows that the block does not divide, and tensors of one dimension, stay as
 * they are. E_UNSUPPORTED: type cannot be written. */
WICK_API wick_status wick_x_quantize(const char *in, const char *type, const char *out, wick_error *err);

/* A training run: all calls from one thread. Products by oneDNN may run on a stack that is not the thread's: a program's
 * signal handlers then need SA_ONSTACK. What stands in model (all weights F32, or anything with an adapter) is trained on data. */
typedef struct wick_x_trainer wick_x_trainer;
enum { WICK_X_LR_COSINE, WICK_X_LR_LINEAR, WICK_X_LR_WSD, WICK_X_LR_CONST };
enum { WICK_X_GEMM_AUTO, WICK_X_GEMM_WICK, WICK_X_GEMM_ONEDNN };
/* 8, 6 and 4 bytes a parameter: m and v in f32; v in bf16, rounded by chance; momentum alone. */
enum { WICK_X_ADAMW, WICK_X_ADAMW_V16, WICK_X_SGD };
typedef struct wick_x_train_options {
    size_t size;
    const char *model;   /* GGUF */
    const char *adapter; /* NULL: all weights are trained; else only its A and B */
    const char *data;    /* packed file; must have been packed by the model's tokenizer */
    const char *dir;     /* run folder for checkpoints, made if absent; NULL: nothing is saved */
    const char *resume;  /* a checkpoint folder (dir/step-000500): goes on there; model and adapter are its own */
    int32_t n_ctx;       /* tokens of a sample; 0: the model's, at most 1024 */
    int32_t by_document; /* 1: a sample is a document, else a row of n_ctx tokens of the joined text */
    int32_t doc_mask;    /* rows: attention does not see the document before */
    int32_t batch;       /* samples of a step, all ranks together; > 0 */
    int32_t micro;       /* tokens of a micro-batch; 0: what fits 70 % of the memory available, at most 4096 */
    int32_t recompute;   /* WICK_AUTO: only where it does not fit otherwise; 0, 1 */
    int64_t steps;       /* the schedule's length; > 0 */
    int64_t warmup;      /* steps; WICK_AUTO: 2 % of steps */
    int32_t schedule;    /* WICK_X_LR_... */
    double lr, lr_end;   /* peak; at the end (share of lr) */
    double decay, beta1, beta2, eps, clip; /* AdamW; clip 0: none */
    int64_t seed;
    int32_t gemm;        /* WICK_X_GEMM_... */
    int32_t threads;     /* 0: as for inference */
    int32_t keep;        /* checkpoints kept beside the best; 0: all */
    int32_t no_fit_check;
    int32_t ranks;       /* 1: take part in a job started by mpirun; needs a build with MPI */
    int32_t optimizer;   /* WICK_X_ADAMW...; beta1 is the momentum of SGD */
    int32_t bf16;        /* matrix products with operands rounded to bf16, all else f32: 0 no; 1 yes, E_ARG where the CPU has
                            no instructions for it or gemm is another engine's, E_UNSUPPORTED where the device has none;
                            WICK_AUTO where the CPU has them */
    const char *device;  /* NULL, "cpu"; "auto": a device that trains, if there is one; "cuda", "cuda:1", a module's absolute path */
} wick_x_train_options;
#define WICK_X_TRAIN_OPTIONS_INIT                                                                                      \
    {sizeof(wick_x_train_options), 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, WICK_AUTO, 1000, WICK_AUTO, WICK_X_LR_COSINE, 1e-3,    \
     0.1, 0.1, 0.9, 0.95, 1e-8, 1.0, 1, WICK_X_GEMM_AUTO, 0, 3, 0, 0, WICK_X_ADAMW, 0, 0}

/* What a run takes, from headers alone: bytes by part, FLOPs, nothing is allocated. */
typedef struct wick_x_train_cost {
    size_t size;
    uint64_t params, trainable;           /* elements */
    uint64_t base, weights, grads, moments, activations, scratch, need, available; /* bytes */
    int32_t micro, recompute, n_ctx, batch, fits; /* what was chosen; fits: 0 no, 1 tight (less than 10 % spare), 2 yes */
    double flops_per_token;               /* forward and backward, exact */
    uint64_t tokens_per_step, tokens, epoch_tokens;
    uint64_t device_need, device_free; /* bytes of the device, with one: weights to scratch lie there, need is the host's */
} wick_x_train_cost;
/* The device of these options, looked for as a run would: "cpu", "cuda:0". No file is read. E_ARG: what does not go with it. */
WICK_API wick_status wick_x_train_device(const wick_x_train_options *o, char *name, size_t cap, wick_error *err);
WICK_API wick_status wick_x_train_plan(const wick_x_train_options *o, wick_x_train_cost *out, wick_error *err);

/* Opens everything and takes all memory. Errors: E_FIT with both numbers; E_ARG (data smaller than a batch: both
 * numbers; another tokenizer); E_FORMAT, E_IO, E_UNSUPPORTED, E_NOMEM, E_DEVICE (ranks). */
WICK_API wick_status wick_x_trainer_open(const wick_x_train_options *o, wick_x_trainer **out, wick_error *err);
WICK_API void wick_x_trainer_close(wick_x_trainer *t);

typedef struct wick_x_train_step {
    size_t size;
    int64_t step;                 /* steps done */
    uint64_t tokens, tokens_step; /* trained on so far, by this step */
    int64_t counted;              /* targets of this step, all ranks */
    double loss, lr, gnorm, z;    /* mean over the counted; norm before clipping; sigmas from the running mean of losses */
    int32_t skipped;              /* 0; 1: not finite; 2: more than 6 sigma from the running mean: no update was made */
    int64_t n_skipped;
    double s, forward_s, backward_s, update_s, comm_s, data_s;
    double flops;                 /* of this step */
    double gemm_peak;             /* FLOP/s of the probe over the model's shapes */
} wick_x_train_step;
#define WICK_X_TRAIN_STEP_INIT {sizeof(wick_x_train_step), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
/* One optimizer step. E_ARG: the schedule is at its end. E_NUMERIC: 20 steps in a row were skipped. E_DEVICE. */
WICK_API wick_status wick_x_trainer_step(wick_x_trainer *t, wick_x_train_step *out, wick_error *err);

typedef struct wick_x_train_eval {
    size_t size;
    double loss, bits_per_byte; /* nats per counted token; over the bytes that they stand for */
    uint64_t counted;
    double s;
} wick_x_train_eval;
/* Loss on held-out samples, the same ones each time: at most max_tokens of them (0: all). E_ARG: none are held out. */
WICK_API wick_status wick_x_trainer_eval(wick_x_trainer *t, uint64_t max_tokens, wick_x_train_eval *out, wick_error *err);
/* dir/step-NNNNNN: model.gguf or adapter.gguf (servable), state.gguf, run.json; written beside, synced, renamed; then
 * dir/latest points there, and dir/best where val_loss (NaN: unknown) is the lowest so far. path gets the folder. */
WICK_API wick_status wick_x_trainer_save(wick_x_trainer *t, double val_loss, char *path, size_t cap, wick_error *err);
/* The weights as they are now, as a file that the engine runs. */
WICK_API wick_status wick_x_trainer_export(wick_x_trainer *t, const char *path, wick_error *err);
/* Which product runs on what: one line a shape, "NT 512 x 1536 x 576: wick 301, onednn 288 GFLOP/s". */
WICK_API wick_status wick_x_trainer_gemms(const wick_x_trainer *t, char *text, size_t cap, size_t *len);
/* Loss and logits of a few tokens: for tests. logits (may be NULL): [n_tok][n_vocab]. */
WICK_API wick_status wick_x_trainer_forward(wick_x_trainer *t, const wick_token *tok, size_t n_tok, float *logits,
                                            double *loss, wick_error *err);
/* Of a mixture: the share of the tokens trained on so far (also before a resume) that came from each part, and the share
 * that it was to have. *n: parts, 0: no mixture; at most cap of them are written. */
WICK_API wick_status wick_x_trainer_mix(const wick_x_trainer *t, double *share, double *wanted, size_t cap, size_t *n);
/* Rank and number of ranks of this process. */
WICK_API wick_status wick_x_trainer_rank(const wick_x_trainer *t, int *rank, int *size);
/* *value becomes the sum of all ranks' values, on each of them: for what they must agree upon. One rank: nothing happens. */
WICK_API wick_status wick_x_trainer_sum(wick_x_trainer *t, double *value, wick_error *err);
/* What the schedule's numbers are in this run (also after resume). */
WICK_API wick_status wick_x_trainer_cost(const wick_x_trainer *t, wick_x_train_cost *out);
/* Seconds and tokens of n micro-batches there and back; nothing of the run changes. For --for. */
WICK_API wick_status wick_x_trainer_probe(wick_x_trainer *t, int32_t n, double *seconds, uint64_t *tokens, wick_error *err);
/* Sets the schedule anew: steps and warmup, as --for finds them out; checkpoints written later hold it. E_ARG: steps are
 * not more than those done. */
WICK_API wick_status wick_x_trainer_schedule(wick_x_trainer *t, int64_t steps, int64_t warmup, wick_error *err);

#ifdef __cplusplus
}
#endif
#endif

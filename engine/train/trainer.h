/* trainer.h: a training run: files in, steps, checkpoints. engine/wick_train.c is its public face.
 *
 * All calls come from one thread: the team belongs to it. */
#ifndef WK_TRAINER_H
#define WK_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/comm.h"
#include "engine/file/store.h"
#include "engine/train/compute.h"
#include "engine/train/data.h"

/* Meaning and defaults: wick_x_train_options. Strings are borrowed while the trainer opens. */
typedef struct wk_train_config {
    const char *model, *adapter, *data, *dir, *resume;
    int32_t n_ctx, by_document, doc_mask, batch, micro, recompute;
    int64_t steps, warmup;
    int32_t schedule;
    double lr, lr_end, decay, beta1, beta2, eps, clip;
    int64_t seed;
    int32_t gemm, threads, keep;
    bool fit_check, ranks;
    uint32_t cpu_mask;
    int32_t optimizer; /* wk_optim_kind */
    const char *device; /* NULL, "cpu": the host; "auto"; else as the loader takes it */
    int32_t bf16;       /* products with operands rounded to bf16: 0 no, 1 yes, -1 where the CPU has them */
    int32_t arith; /* WICK_ARITH of the library: a run that goes on with another one is told so */
} wk_train_config;

/* Bytes by part. need: all of them and the margin of the program itself. */
typedef struct wk_train_cost {
    uint64_t params, trainable;
    uint64_t base, weights, grads, moments, activations, scratch, need, available;
    int32_t micro, recompute, n_ctx, batch,
        fits; /* fits: 0 no, 1 with less than 10 % to spare, 2 yes */
    double flops_per_token;
    uint64_t tokens_per_step, epoch_tokens;
    uint64_t device_need, device_free; /* 0: the host computes */
} wk_train_cost;

/* ---- target.c: where a run computes --------------------------------------------------------------- */

typedef struct wk_target {
    const wk_tdev_ops *ops; /* NULL: the host */
    int index;
    char name[48]; /* "cpu", "cuda:0" */
    uint64_t mem_free;
    bool bf16; /* products, as it came out of the wish */
    wk_host host; /* what the device is opened with */
} wk_target;
/* What does not go together: E_ARG. Reads nothing. */
int wk_target_check(const wk_train_config *c, wk_err *err);
/* Errors: of the check and the loader; E_DEVICE (no training there, or its device does not open), E_ABI. auto: without a
 * device that trains the host computes, and the log says why. */
int wk_target_find(wk_target *d, const wk_train_config *c, int n_thread, wk_err *err);

/* ---- setup.c: what a run is made of, without its memory ------------------------------------------- */

typedef struct wk_setup {
    wk_store *store, *adapter; /* adapter NULL: all weights are trained */
    wk_plan *plan;
    wk_grad *grad;
    wk_data *data; /* NULL: no data given (cost alone) */
    wk_sample_spec train, val;
    wk_target target;
    wk_train_cost cost;
} wk_setup;
/* Fills n_ctx, micro, recompute, warmup of c where they are to be chosen. Errors: of opening, planning, E_ARG. */
int wk_setup_open(wk_setup *s, wk_train_config *c, int n_thread, wk_err *err);
void wk_setup_close(wk_setup *s); /* zeroed record is fine */
/* E_FIT with both numbers. */
int wk_setup_refuse(const wk_setup *s, wk_err *err);
/* FLOPs of n sequences of n_ctx tokens that all count, there and back. */
double wk_grad_flops(const wk_grad *g, int32_t n_ctx);

/* ---- ckpt.c -------------------------------------------------------------------------------------- */

/* What a resumed run must find again, beside weights and moments. */
typedef struct wk_run_state {
    int64_t step, n_skipped, n_seen; /* n_seen: steps in the running means */
    uint64_t tokens;
    double loss_mean, loss_var, norm_mean, norm_var;
    double best_val; /* lowest validation loss of a checkpoint; 1e300: none yet */
    int64_t best_step;
    int32_t bad_row; /* skipped steps in a row */
} wk_run_state;

/* ---- open.c, trainer.c --------------------------------------------------------------------------- */

typedef struct wk_trainer {
    wk_train_config c; /* own copies of the strings */
    wk_setup s;
    wk_team *team;
    int n_thread;
    wk_kernels k;
    wk_grad_kernels gk;
    wk_sgemm *gemm;
    wk_compute x;
    wk_comm *comm;
    wk_schedule schedule;
    wk_run_state run;
    /* batch */
    int32_t *tok, *target;
    wk_tseq *seq;
    /* last probe */
    wk_sgemm_shape *shape;
    double *rate;
    wk_sgemm_engine *engine;
    size_t n_shape;
    double peak;                    /* FLOP/s over the shapes: their FLOPs over their times */
    uint64_t data_hash, base_bytes; /* of the run that is resumed; 0: a new one */
    uint64_t drawn[WK_DATA_PARTS];  /* tokens of each part of a mixture, all ranks, the steps before a resume too */
    char ran_on[48];                /* target of the run that is resumed */
    bool ran_bf16;
    char *strings[6];
} wk_trainer;

typedef struct wk_train_step {
    int64_t step, counted;
    uint64_t tokens, tokens_step;
    double loss, lr, gnorm, z;
    int32_t skipped; /* 0; 1 not finite; 2 an outlier */
    double s, forward_s, backward_s, update_s, comm_s, data_s, flops;
} wk_train_step;

int wk_trainer_open(wk_trainer **out, const wk_train_config *c, wk_err *err);
void wk_trainer_close(wk_trainer *t); /* NULL is fine */
int wk_trainer_step(wk_trainer *t, wk_train_step *out, wk_err *err);
/* Seconds of n micro-batches, forward and backward, and their tokens; nothing of the run changes. */
int wk_trainer_probe(wk_trainer *t, int32_t n, double *seconds, uint64_t *tokens, wk_err *err);
int wk_trainer_schedule(wk_trainer *t, int64_t steps, int64_t warmup, wk_err *err);

typedef struct wk_train_eval {
    double sum, s;
    uint64_t counted, bytes;
} wk_train_eval;
int wk_trainer_eval(wk_trainer *t, uint64_t max_tokens, wk_train_eval *out, wk_err *err);
/* Logits of every token (NULL: none) and the loss of the next ones. n_tok <= micro. */
int wk_trainer_forward(wk_trainer *t, const int32_t *tok, int32_t n_tok, float *logits,
                       double *loss, wk_err *err);

/* export.c: the model or the adapter with the parameters as they are, in the order and rotation of its file. */
int wk_trainer_export(wk_trainer *t, const char *path, wk_err *err);
/* ckpt.c: rank 0 writes, all ranks call. path [cap] gets the folder. */
int wk_trainer_save(wk_trainer *t, double val_loss, char *path, size_t cap, wk_err *err);
/* Reads run.json over t->c (its strings go to t->strings) and t->run; logs what differs (arithmetic, engine of the
 * products, threads). */
int wk_ckpt_read(wk_trainer *t, const char *folder, wk_err *err);
/* moments.c. What belongs to it once the memory is there: the moments. Compares data and base with those of the run. */
int wk_ckpt_moments(wk_trainer *t, const char *folder, wk_err *err);
int wk_moments_write(wk_trainer *t, const char *file, wk_err *err);

/* init.c: a llama of random F32 weights with the tokenizer of a file. */
typedef struct wk_shape {
    int32_t dim, n_layer, n_head, n_head_kv, n_ff, n_ctx;
    bool tied, plain;
} wk_shape;
int wk_model_init(const wk_shape *shape, const char *tokenizer, uint64_t seed, const char *out,
                  wk_err *err);
/* NULL: no such name; names [cap] gets the known ones. */
const wk_shape *wk_shape_find(const char *preset, char *names, size_t cap);
/* Draw number i of a normal distribution: two uniform numbers of Philox (seed, use, i) by Box and Muller. */
double wk_normal(uint64_t seed, uint32_t use, uint64_t i);

#endif

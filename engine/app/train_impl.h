/* train_impl.h: train and tune between their files: a run from options to report.
 *
 *   train_wish.c   command line -> record of the run          train_file.c   RUN/options.json, lock, folder, places
 *   train_setup.c  tokenizer, packed data, first weights      train_plan.c   batch, steps, cost, first lines, --plan
 *   train_loop.c   steps, --for, validation, checkpoints      train_sample.c what the model says meanwhile
 *   train_log.c    log.jsonl, live lines                      train_html.c   report.html from log.jsonl                */
#ifndef WK_TRAIN_IMPL_H
#define WK_TRAIN_IMPL_H

#include "engine/app/args.h"
#include "engine/app/emit.h"
#include "engine/app/energy.h"
#include "engine/app/out.h"
#include "engine/base/buf.h"
#include "engine/wick_x.h"

enum { WK_RUN_TEXT = 2048, WK_RUN_PATH = 4096, WK_RUN_SOURCES = 64 };

typedef struct wk_run {
#define S(name) char name[WK_RUN_TEXT];
#define I(name) int64_t name;
#define D(name) double name;
#define WK_RUN(kind, name, meaning) kind(name)
#include "engine/app/train_run.def"
#undef WK_RUN
#undef S
#undef I
#undef D
} wk_run;

/* A row of log.jsonl: one object a step. NaN: not measured. */
typedef struct wk_run_row {
    int64_t step;
    double tokens, loss, counted, val, bpb, lr, gnorm, z, tok_s, flops, share, t_fwd, t_bwd, t_upd, t_comm, t_data, rss, j_cpu;
} wk_run_row;

typedef struct wk_train {
    const wk_args *args;
    wk_emit *emit;
    bool tune, quiet, resumed;
    bool silent;  /* a rank other than 0: says and writes nothing */
    int n_rank;
    wk_progress progress;
    wk_energy energy;
    double joules;   /* at the last row */
    double begun;    /* seconds of the clock when the command began */
    wk_run run;
    char dir[WK_RUN_PATH], from[WK_RUN_PATH]; /* run folder; checkpoint to go on from, "" none */
    const char *phase; /* of the progress line */
    int lock;        /* descriptor that holds RUN/lock, -1 none */
    wk_buf names;    /* texts that source[] points into */
    const char *source[WK_RUN_SOURCES];
    size_t source_at[WK_RUN_SOURCES];
    size_t n_source;
    double mix[WK_RUN_SOURCES]; /* shares of the sources where is_mix */
    bool is_mix;
    int64_t want_tokens, want_steps; /* 0: not said */
    int32_t n_vocab; /* of auto:N */
    char device[48]; /* where it computes: "cpu", "cuda:0" */
    bool on_device;
    wick_x_train_cost cost;
    wick_x_trainer *trainer;
    /* the loop */
    int64_t step, saved; /* steps done; of the last checkpoint, -1 none */
    double val, bpb, best_val; /* the last ones, NaN none */
    int64_t best_step;
    double eval_s, save_s, sample_s, step_s; /* what each takes, the last time */
    double loss, peak;   /* of the last step; FLOP/s */
    int n_mark;          /* marks of the budget that lie behind; when, and at which step, the last one was */
    int64_t mark_step;
    double mark_at;
    int64_t n_timed;     /* steps in step_s */
    double shown;        /* when the live line was drawn */
    bool late, no_samples;
    wk_buf line;
    uint64_t warned[16]; /* hashes of what the library has warned of */
} wk_train;

/* ---- train_wish.c -------------------------------------------------------------------------------- */
wick_status wk_train_read(wk_train *t, wick_error *err);
/* "1.4 M", "350 k"; "2 h 22 min"; "94 MiB": texts that stand in an argument list. */
typedef struct wk_word {
    char text[32];
} wk_word;
wk_word wk_word_count(double n);
wk_word wk_word_time(double seconds);
wk_word wk_word_bytes(double n);
double wk_train_now(void);

/* ---- train_file.c -------------------------------------------------------------------------------- */
/* out [WK_RUN_PATH] = dir/name. */
wick_status wk_train_path(const wk_train *t, char *out, const char *name, wick_error *err);
/* Makes the folder, takes its lock; refuses a folder that holds a run unless it is resumed. */
wick_status wk_train_enter(wk_train *t, wick_error *err);
void wk_train_leave(wk_train *t);
wick_status wk_run_save(const wk_train *t, wick_error *err);
wick_status wk_run_load(wk_train *t, wick_error *err);
/* The list, for who shows it: i from 0; false behind the last. value [WK_RUN_TEXT]. */
bool wk_run_member(const wk_run *r, size_t i, const char **name, const char **meaning, char *value);
/* With --ranks: the others wait until rank 0 has made the files. */
bool wk_train_is_follower(void);
wick_status wk_train_wait(wk_train *t, wick_error *err);
wick_status wk_train_call(const wk_train *t, wick_error *err);
/* A copy of a file, whole or not at all. */
wick_status wk_train_copy(const char *from, const char *to, wick_error *err);

/* ---- train_setup.c ------------------------------------------------------------------------------- */
/* Everything that a run needs, in its folder; what is there and made from the same is taken as it is. *done: --until
 * has been reached. */
wick_status wk_train_files(wk_train *t, bool *done, wick_error *err);
/* The files of --plan, in t->dir, which is a folder for the moment: as above, without data. */
wick_status wk_train_sketch(wk_train *t, wick_error *err);
wick_status wk_train_look(wk_train *t, wick_error *err); /* numbers of run.data into run */
/* Bytes of a token id in a file of data; 0: it is text. */
int wk_train_id_width(const wk_train *t, const void *p, size_t n);
/* What the samples go on from: the beginning of the data. */
void wk_train_prompt(wk_train *t);

/* ---- train_plan.c -------------------------------------------------------------------------------- */
wick_x_train_options wk_train_options(const wk_train *t);
/* Chooses batch, steps, rate and intervals where they are not said; fills cost. */
wick_status wk_train_choose(wk_train *t, wick_error *err);
void wk_train_intervals(wk_train *t, double step_s);
double wk_train_step_tokens(const wk_train *t);
#define WK_TRAIN_OF_PEAK 0.5 /* share of the f32 peak that is reckoned with before anything is measured */
/* Tokens a second that the f32 peak of the cpu, measured now, lets expect; of a device too a guess to begin with. */
double wk_train_expected_rate(const wk_train *t);
void wk_train_head(const wk_train *t);      /* the model, the data, the memory */
void wk_train_head_plan(const wk_train *t); /* and how long, how often */
/* Of a mixture, what each part was to give and gave. */
void wk_train_say_mix(wk_train *t);
/* --plan: the block on stdout, the exit code. */
wick_status wk_train_plan(wk_train *t, int *code, wick_error *err);

/* ---- train_loop.c -------------------------------------------------------------------------------- */
wick_status wk_train_open(wk_train *t, wick_error *err);
/* The steps. *code: 0, or that of the signal that ended them. */
wick_status wk_train_steps(wk_train *t, int *code, wick_error *err);

/* ---- train_sample.c ------------------------------------------------------------------------------ */
/* Appends to RUN/samples.txt; what goes wrong is said once and never stops the run. */
void wk_train_sample(wk_train *t);
/* Of the engine that draws them, beside the trainer's; 0: there are none. */
uint64_t wk_train_sample_bytes(const wk_train *t);

/* ---- train_log.c --------------------------------------------------------------------------------- */
wick_status wk_log_open(const wk_train *t, wick_error *err); /* rows behind the checkpoint are cut off */
wick_status wk_log_row(wk_train *t, const wick_x_train_step *s, bool evaluated, wick_error *err);
void wk_log_live(wk_train *t, const wick_x_train_step *s, bool keep);
/* ", products auto: onednn for 7 of 9 shapes, at most 342 GFLOP/s" */
void wk_log_products(const wk_train *t, wk_buf *b);
/* A line of its own, the live line out of the way. */
void wk_train_say(wk_train *t, const char *fmt, ...) WK_PRINTF(2, 3);

/* ---- train_html.c -------------------------------------------------------------------------------- */
wick_status wk_train_html(wk_train *t, wick_error *err);

#endif

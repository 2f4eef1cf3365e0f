/* eval_impl.h: what a model knows, measured on files, between the files of `wick eval`.
 *
 *   eval_open    model and engine, tokens of a text         eval_score   log-probabilities of a sequence
 *   eval_data    files line by line, CSV, refusals          eval_text    ppl, kl
 *   eval_choice  hellaswag, choice, lastword                eval_gen     exact, samples
 *   eval_pair    two models on the same items      eval_out     rows as a table, as JSON
 *
 * A result is a sum over positions in the order of the file, in double, so that threads and batches cannot move it. */
#ifndef WK_EVAL_IMPL_H
#define WK_EVAL_IMPL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/app/args.h"
#include "engine/app/emit.h"
#include "engine/app/out.h"
#include "engine/base/json.h"
#include "engine/base/os.h"
#include "engine/base/str.h"
#include "engine/wick.h"
#include "engine/wick_x.h"

enum { WK_EVAL_ROWS = 96, WK_EVAL_TASKS = 8, WK_EVAL_CHOICES = 26, WK_EVAL_CELLS = 8 };

typedef enum wk_eval_task {
    WK_EVAL_PPL,
    WK_EVAL_KL,
    WK_EVAL_HELLASWAG,
    WK_EVAL_CHOICE,
    WK_EVAL_LASTWORD,
    WK_EVAL_EXACT,
    WK_EVAL_SAMPLES,
    WK_EVAL_TASK_COUNT
} wk_eval_task;

typedef struct wk_eval_model {
    const char *path;
    wick_model *model;
    wick_engine *engine;
    int32_t n_ctx, n_vocab;
    wick_token bos; /* -1: a text begins without one */
} wk_eval_model;

/* One number; low and high hold its 95 % interval where low < high. */
typedef struct wk_eval_row {
    const char *task, *metric;
    double value, low, high;
    uint64_t n; /* of what it is a mean */
    const char *of;
} wk_eval_row;

typedef struct wk_eval {
    const wk_args *args;
    wk_emit *emit;
    wk_eval_model m, other, rival; /* other: of --kl; rival: of --against */
    bool second;                   /* the tasks run again, in m now the rival: rows and events are left out */
    wk_buf unit[2];                /* double: what the task under way made of each window or item, m's and the rival's */
    uint64_t read[2];              /* hash of the windows that were read */
    const char *data[WK_EVAL_TASK_COUNT];
    pthread_mutex_t lock; /* progress, emit: the library logs from its own thread too */
    wk_progress progress;
    int n_row;
    wk_eval_row row[WK_EVAL_ROWS];
    wk_buf text;   /* of samples, for the table */
    wk_buf samples; /* the same as elements of a JSON array */
    int64_t limit; /* items or windows of a task, 0: all */
    double kl_mean;
} wk_eval;

typedef struct wk_tokens {
    wick_token *t;
    size_t n;
} wk_tokens;

/* eval_open.c */
wick_status wk_eval_open(wk_eval *e, wk_eval_model *m, const char *path, int32_t n_ctx, wick_error *err);
void wk_eval_close(wk_eval_model *m);
wick_status wk_eval_setup(wk_eval *e, wick_error *err);
/* Control tokens written in the text stay text. bos: one at the beginning, where the model wants it. */
wick_status wk_eval_tokens(const wk_eval_model *m, wk_str text, bool bos, wk_tokens *out, wick_error *err);
void wk_eval_tokens_fini(wk_tokens *t);
size_t wk_eval_bytes(const wk_eval_model *m, wick_token id); /* of its text; 0 for control tokens */
/* E_CANCELED after a signal; else the progress line. */
wick_status wk_eval_step(wk_eval *e, const char *task, double done, double total, const char *unit, wick_error *err);
wk_eval_row *wk_eval_row_add(wk_eval *e, wk_eval_task task, const char *metric, double value, uint64_t n,
                             const char *of);
/* A share of n with the 95 % interval of Wilson. */
void wk_eval_share_add(wk_eval *e, wk_eval_task task, const char *metric, uint64_t hits, uint64_t n, const char *of);
const char *wk_eval_task_name(wk_eval_task t);

/* eval_score.c */
/* log softmax(logits)[id] in double. */
double wk_eval_log_prob(const float *logits, int32_t n_vocab, wick_token id);
typedef struct wk_eval_score {
    double *log_p; /* [n] of t[i] behind t[0 .. i-1], for i >= from; others are 0 */
    bool *top;     /* [n] t[i] is the likeliest there, the lowest id where two are; NULL: not asked */
} wk_eval_score;
wick_status wk_eval_score_run(const wk_eval_model *m, const wk_tokens *t, size_t from, const wk_eval_score *out,
                              wick_error *err);

/* eval_data.c: a file, refused with a sentence when it is packed or not UTF-8. */
typedef struct wk_eval_file {
    wk_map_file map;
    const char *path;
    wk_str rest;   /* not yet read */
    size_t number; /* of the line read last, from 1 */
    int n_cell;    /* of the CSV record read last */
    wk_buf cell[WK_EVAL_CELLS];
} wk_eval_file;
wick_status wk_eval_file_open(wk_eval_file *f, const char *path, wick_error *err);
void wk_eval_file_close(wk_eval_file *f);
/* The next line without its end (\n or \r\n); false: there is none. */
bool wk_eval_line(wk_eval_file *f, wk_str *line);
/* The next line that is not empty, parsed; *doc NULL: there is none. */
wick_status wk_eval_json(wk_eval_file *f, wk_json_doc **doc, wick_error *err);
/* A member that must be text, not empty. */
wick_status wk_eval_member(const wk_eval_file *f, const wk_json *v, const char *key, wk_str *out, wick_error *err);
/* The next record of quoted or bare cells into cell[]; n_cell 0: there is none. */
wick_status wk_eval_record(wk_eval_file *f, wick_error *err);
/* Puts "path:line: " before a message. Returns code. */
wick_status wk_eval_at(const wk_eval_file *f, wick_error *err);
/* Items that the file holds, for the progress line: its lines that are not empty, by per; at most limit. */
double wk_eval_count(const wk_eval_file *f, int per, int64_t limit);

/* The tasks. */
wick_status wk_eval_ppl(wk_eval *e, wick_error *err);
wick_status wk_eval_kl(wk_eval *e, wick_error *err);
wick_status wk_eval_hellaswag(wk_eval *e, wick_error *err);
wick_status wk_eval_choice(wk_eval *e, wick_error *err);
wick_status wk_eval_lastword(wk_eval *e, wick_error *err);
wick_status wk_eval_exact(wk_eval *e, wick_error *err);
wick_status wk_eval_samples(wk_eval *e, wick_error *err);

/* eval_pair.c */
/* Notes what became of one window or item; a failure is seen by wk_eval_pair. */
void wk_eval_unit(wk_eval *e, double value);
/* The task again with the rival, and a row with the difference. E_ARG: it has no other windows to compare. */
wick_status wk_eval_pair(wk_eval *e, wk_eval_task task, wick_status (*run)(wk_eval *e, wick_error *err), wick_error *err);

/* eval_out.c */
void wk_eval_put(wk_eval *e);

#endif

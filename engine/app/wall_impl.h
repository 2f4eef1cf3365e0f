/* wall_impl.h: one model, one machine, both jobs, between the files of `wick wall`.
 *
 *   wall_machine  bandwidth, peaks, products     wall_serve   decode, prefill, users, gaps between tokens
 *   wall_train    steps, recompute, stalls       wall_work    temporary files, shapes, the text that is trained on
 *   wall_child    a trainer in another process   wall_sums    what the rows mean: shares, forecasts
 *   wall_report   tables                         wall_verdict lines, advice     wall_figure, wall_map  pictures
 *   wall_html     the page                       wall_table   cells: once, for HTML, JSON and Markdown
 *
 * Rows and rounds are those of `wick bench`: wk_bench is the first member, so that a row's function, which is given
 * the bench, finds the wall around it. */
#ifndef WK_WALL_IMPL_H
#define WK_WALL_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/app/bench_impl.h"

enum {
    WK_WALL_BATCHES = 6, /* 1 2 4 8 16 32 sequences */
    WK_WALL_SWEEP = 8,   /* thread counts */
    WK_WALL_GAPS = 512,
    WK_WALL_TABLES = 24,
    WK_WALL_CELLS = 2400,
    WK_WALL_COLUMNS = 12,
    WK_WALL_PRODUCTS = 4
};

/* ---- training jobs ------------------------------------------------------------------------------- */

typedef enum wk_wall_job { WK_JOB_FULL, WK_JOB_RECOMPUTE, WK_JOB_LORA, WK_JOB_COUNT } wk_wall_job;

typedef struct wk_wall_train {
    wk_bench_row *row;        /* tok/s of a step */
    wick_x_trainer *trainer;  /* open while it is measured */
    wick_x_train_cost cost;   /* of its options, by the plan */
    wick_x_train_step last;
    double forward[WK_BENCH_ROUNDS], backward[WK_BENCH_ROUNDS], update[WK_BENCH_ROUNDS], step[WK_BENCH_ROUNDS];
    double flops;             /* of all measured steps */
    double rss;               /* peak bytes of a process that did two steps; 0: not measured */
    char why[256];            /* not measured: a sentence */
    bool planned;
} wk_wall_train;

/* ---- tables -------------------------------------------------------------------------------------- */

typedef struct wk_wall_cell {
    size_t at, n; /* text in the report's buffer */
    double v;
    bool number;
} wk_wall_cell;

typedef struct wk_wall_table {
    const char *id, *title, *columns; /* columns: names with | between */
    int first, n_col, n_cell;
} wk_wall_table;

typedef struct wk_wall_report {
    wk_buf text;
    int n_table, n_cell;
    wk_wall_table table[WK_WALL_TABLES];
    wk_wall_cell *cell; /* [WK_WALL_CELLS] */
} wk_wall_report;

/* ---- everything ---------------------------------------------------------------------------------- */

typedef struct wk_wall_gaps {
    int n;
    double s[WK_WALL_GAPS]; /* sorted */
} wk_wall_gaps;

typedef struct wk_wall {
    wk_bench b; /* first */
    wk_args args; /* those of b: the sweeps change --threads in this copy */
    bool quick;
    int rounds, n_thread;
    char dir[160];             /* temporary folder, "": none */
    char base[4096];           /* the model itself */
    char fresh[200], adapter[200], data[200], text[200]; /* files in the folder */
    double begun, l3;          /* seconds; bytes of the largest cache, 0: unknown */
    double clock_mhz[2];       /* before and after, 0: not readable */
    /* the model */
    wick_x_shape shape;
    char arch[32];
    double n_param;
    /* probes: by threads */
    int n_sweep, sweep[WK_WALL_SWEEP];
    wk_bench_row *read[WK_WALL_SWEEP], *copy[WK_WALL_SWEEP], *f32[WK_WALL_SWEEP], *i8[WK_WALL_SWEEP];
    int n_product;
    wk_bench_row *product[WK_WALL_PRODUCTS];
    /* serving */
    wk_bench_row *decode, *prefill, *batch[WK_WALL_BATCHES], *decode_by[WK_WALL_SWEEP];
    double batch_p95[WK_WALL_BATCHES]; /* seconds of a step */
    double batch_step[WK_WALL_BATCHES][WK_WALL_GAPS];
    int batch_n[WK_WALL_BATCHES];
    wick_x_cost cost;
    wk_wall_gaps alone, beside, stalled;
    int n_stall;
    char beside_why[256];
    double beside_tok_s; /* of the trainer beside the reader */
    double serve_rss;
    uint64_t serve_need, available;
    /* training */
    char stand_in[48];       /* what is trained in full: the model's shape, or a preset */
    bool stands_in;
    int32_t train_ctx, train_batch;
    wk_wall_train job[WK_JOB_COUNT];
    wk_wall_train dev_job[WK_BENCH_DEVICES][WK_JOB_COUNT]; /* the same on the devices of --device */
    wk_bench_row *train_by[WK_WALL_SWEEP];
    /* stalls in training */
    int stall_steps, stalls;
    double stall_rate[2], stall_low[2], stall_high[2], stall_loss[2]; /* tok/s with its spread: without, with */
    char stall_model[48], stall_why[256];
    wk_wall_report report;
} wk_wall;

static inline wk_wall *wk_wall_of(wk_bench *b) { return (wk_wall *)b; }

/* wall_work.c */
wick_status wk_wall_folder(wk_wall *w, wick_error *err);
void wk_wall_folder_remove(wk_wall *w);
void wk_wall_shape(wk_wall *w);
wick_status wk_wall_text(wk_wall *w, size_t n_token, wick_error *err); /* w->text, then w->data */
double wk_wall_peak_rss(void); /* bytes of this process so far */

/* wall_machine.c, wall_serve.c: rows, then what is measured outside rounds */
void wk_wall_machine_rows(wk_wall *w);
void wk_wall_serve_rows(wk_wall *w);
wick_status wk_wall_serve_sweep(wk_wall *w, wick_error *err);
wick_status wk_wall_gaps_take(wk_wall *w, wk_wall_gaps *out, int stall_every, wick_error *err);

/* wall_device.c */
wick_status wk_wall_device_list(wk_wall *w, wick_error *err);
wick_status wk_wall_device_rows(wk_wall *w, wick_error *err);
void wk_wall_device_close(wk_wall *w);
/* The wanted jobs on each device: their trainers, open or with a sentence why not; then shut. */
void wk_wall_device_train_open(wk_wall *w, const bool wanted[WK_JOB_COUNT]);
void wk_wall_device_train_close(wk_wall *w);
const char *wk_wall_job_name(wk_wall_job job);
wick_status wk_wall_measure_step(wk_bench *b, wk_bench_row *r, int round, wick_error *err);
bool wk_wall_is_device(const wk_bench_row *r);
bool wk_wall_device_text(const wk_wall *w, char *out, size_t cap);

/* wall_train.c */
wick_x_train_options wk_wall_options(const wk_wall *w, wk_wall_job job);
wick_status wk_wall_train_all(wk_wall *w, wick_error *err);
wick_status wk_wall_train_sweep(wk_wall *w, wick_error *err);
/* wall_stall.c */
wick_status wk_wall_stalls(wk_wall *w, wick_error *err);

/* wall_child.c: this program again, as a job of its own: 0 full, 1 recompute, 2 lora, 3 serve. */
enum { WK_CHILD_SERVE = WK_JOB_COUNT };
typedef struct wk_wall_child {
    int pid, in, out; /* pid 0: none */
    double rss, rate; /* what it said: bytes, tok/s */
} wk_wall_child;
/* Waits until it has done its first steps. */
wick_status wk_wall_child_begin(const wk_wall *w, wk_wall_child *c, int job, wick_error *err);
void wk_wall_child_end(wk_wall_child *c);
int wk_wall_child_main(wk_args *a); /* --job, in the child */

/* wall_sums.c */
double wk_wall_median(const wk_bench_row *r); /* 0: not measured */
double wk_wall_read(const wk_wall *w);        /* bytes/s of all threads */
double wk_wall_f32(const wk_wall *w);         /* FLOP/s */
double wk_wall_i8(const wk_wall *w);
/* Of one decode step with n sequences. */
double wk_wall_step_bytes(const wk_wall *w, int n);
double wk_wall_step_flops(const wk_wall *w, int n);
double wk_wall_prefill_flops(const wk_wall *w);
double wk_wall_train_rate(const wk_wall *w, wk_wall_job j);  /* FLOP/s, 0: not measured */
double wk_wall_train_bytes(const wk_wall *w, wk_wall_job j); /* least traffic of a step */
double wk_wall_train_flops(const wk_wall *w, wk_wall_job j); /* of a step */
double wk_wall_share(const wk_wall *w, wk_wall_job j);       /* of the GEMM peak */
bool wk_wall_cached(const wk_wall *w, const wk_bench_row *r); /* achieved > 1.05 x measured bandwidth */
/* A GPU by its figures. */
typedef struct wk_wall_gpu {
    const char *name;
    double flops, bytes; /* sustained, a second */
} wk_wall_gpu;
extern const wk_wall_gpu wk_wall_gpus[3];
double wk_wall_gpu_decode(const wk_wall *w, const wk_wall_gpu *g, int n); /* tok/s */
/* "14 y", "3.2 h" */
typedef struct wk_wall_time {
    char text[32];
} wk_wall_time;
wk_wall_time wk_wall_duration(double s);
wk_wall_time wk_wall_parameters(double n); /* "135 M", "1.6 B" */
/* "; order of magnitude" where flops are more than 1000 times those that were measured, else "". */
const char *wk_wall_far(double flops, double measured);
double wk_wall_full_night(const wk_wall *w); /* parameters, 20 tokens each, 12 h */
double wk_wall_lora_night(const wk_wall *w); /* parameters, 3 M tokens, 12 h */

/* wall_table.c */
void wk_wall_table_begin(wk_wall *w, const char *id, const char *title, const char *columns);
void wk_wall_say(wk_wall *w, const char *fmt, ...) WK_PRINTF(2, 3);
void wk_wall_num(wk_wall *w, double v); /* 0 or not finite: an empty cell */
const wk_wall_table *wk_wall_table_find(const wk_wall *w, const char *id);
void wk_wall_table_html(const wk_wall *w, const wk_wall_table *t, wk_buf *out);
void wk_wall_table_text(const wk_wall *w, const wk_wall_table *t, wk_buf *out);
void wk_wall_json(wk_wall *w);

/* wall_report.c, wall_verdict.c */
void wk_wall_tables(wk_wall *w);
void wk_wall_verdict(wk_wall *w);
void wk_wall_advice(wk_wall *w);
void wk_wall_memory_table(wk_wall *w);
void wk_wall_forecast(wk_wall *w);
void wk_wall_map_table(wk_wall *w);

/* wall_figure.c, wall_map.c: one svg element each; false: there is nothing to draw. */
bool wk_wall_roofline(const wk_wall *w, wk_buf *out);
bool wk_wall_two_gaps(const wk_wall *w, wk_buf *out);
bool wk_wall_map(const wk_wall *w, wk_buf *out);
bool wk_wall_memory(const wk_wall *w, wk_buf *out);
bool wk_wall_threads(const wk_wall *w, wk_buf *out);
bool wk_wall_jitter(const wk_wall *w, wk_buf *out);
bool wk_wall_users(const wk_wall *w, wk_buf *out);

/* wall_html.c */
wick_status wk_wall_html(wk_wall *w, const char *path, wick_error *err);

#endif

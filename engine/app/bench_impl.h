/* bench_impl.h: the rows of `wick bench`, between its files.
 *
 *   bench_wish      options -> what is to be measured         bench_machine  the block that says where
 *   bench_round     rows, shuffled rounds, probes             bench_answer   load, first token, gaps (end to end)
 *   bench_kernel    formats alone, peaks alone                bench_trace    time by kind of work
 *   bench_device    devices side by side                  bench_cross    from where on one is ahead
 *   bench_peer      other programs in turn (bench_child)      bench_gate     against an older result
 *   bench_text      Markdown       bench_data  JSON, CSV      bench_plot     SVG
 *
 * A row is one number measured once a round. Rows of two kinds are never put beside each other: "engine" rows are
 * forward passes, "end-to-end" rows hold tokenizer, template, sampler and detokenizer too. */
#ifndef WK_BENCH_IMPL_H
#define WK_BENCH_IMPL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/app/args.h"
#include "engine/app/bench_stat.h"
#include "engine/app/emit.h"
#include "engine/app/energy.h"
#include "engine/app/energy_nvml.h"
#include "engine/app/out.h"
#include "engine/wick.h"
#include "engine/wick_x.h"

enum {
    WK_BENCH_ROWS = 320,   /* more than every list at its longest asks for */
    WK_BENCH_ROUNDS = 64,
    WK_BENCH_LIST = 16,    /* numbers in --pp, --depth, --clients */
    WK_BENCH_STEPS = 4096, /* passes of one measurement */
    WK_BENCH_PEERS = 4
};

typedef enum wk_bench_kind {
    WK_BENCH_ENGINE,
    WK_BENCH_END,
    WK_BENCH_KERNEL,
    WK_BENCH_PROBE,
    WK_BENCH_AGAINST,
    WK_BENCH_KIND_COUNT
} wk_bench_kind;

/* What --only names, in the order of its words. */
enum { WK_ONLY_PREFILL = 1, WK_ONLY_DECODE = 2, WK_ONLY_BATCH = 4, WK_ONLY_ANSWER = 8, WK_ONLY_LOAD = 16 };
enum { WK_BENCH_MD, WK_BENCH_CSV, WK_BENCH_JSON, WK_BENCH_JSONL, WK_BENCH_SVG };
enum { WK_BENCH_DEVICES = 4, WK_BENCH_LINES = 32 };

typedef struct wk_bench_list {
    int n;
    int32_t v[WK_BENCH_LIST];
} wk_bench_list;

/* What the command line asks for. */
typedef struct wk_bench_wish {
    wk_bench_list pp, depth, clients;
    int32_t tg;
    int reps, rounds, noise, format;
    unsigned only;
    double soak; /* seconds, 0: none */
    bool has_model;
    int n_device; /* --device; "cpu" alone: 1 */
    char device[WK_BENCH_DEVICES][256];
    bool devices; /* --device names more than the cpu */
} wk_bench_wish;

/* A device of --device with its engine; the row's pointers below are those of the device in use. */
typedef struct wk_bench_target {
    char spec[256], label[64]; /* as the options take it; "cpu", "cuda:0" */
    char why[256];             /* it cannot be used: a sentence; else "" */
    bool is_cpu;
    int32_t layers;            /* as gpu_layers of the options */
    wick_x_device info;        /* not of the cpu */
    wk_nvml nvml;
    wick_model *model;
    wick_engine *engine;
    wick_stats stats;
    wick_x_cost cost;
} wk_bench_target;

typedef struct wk_bench wk_bench;
typedef struct wk_bench_row wk_bench_row;

/* Measures one round of a row: value[round] and what belongs to it. */
typedef wick_status wk_bench_fn(wk_bench *b, wk_bench_row *r, int round, wick_error *err);

struct wk_bench_row {
    char name[48];
    const char *unit; /* "tok/s", "GB/s", "GOP/s", "s", "ms" */
    wk_bench_kind kind;
    bool less_is_better;
    wk_bench_fn *measure; /* NULL: another row fills this one */
    int32_t n_seq, n_tok, depth, reps; /* of a pass; reps: passes of a round */
    const char *format, *peak;         /* of a kernel; of a peak probe: "i8" or "f32" */
    size_t bytes;                      /* of a read probe; of a kernel: its packed weights */
    int threads;                       /* of a probe */
    int n;                             /* rounds measured */
    /* in unit; per unit; of the round */
    double value[WK_BENCH_ROUNDS], joules[WK_BENCH_ROUNDS], seconds[WK_BENCH_ROUNDS];
    double per_pass;          /* tokens of a pass, 0: there are none */
    double unit_bytes, unit_macs; /* read and multiplied for each unit of value */
    int read_probe, peak_probe;   /* rows, -1: none */
    bool of_peak;                 /* the share is that of the peak, else that of the read bandwidth */
    int base;                     /* row that this one is compared with, -1: none */
    double pack_s;                /* kernel */
    bool has_hash, hash_differs;
    uint64_t hash;
    char device[64]; /* label of the device that computes: "cpu" */
    int target;      /* of the bench, where there are devices */
    int32_t gpu_layers;                     /* of a row of the sweep of splits, else of the device */
    double limit_read, limit_peak;          /* of a device, in GB/s and GOP/s; 0: not measured, or the cpu */
    double put_bytes, get_bytes, copy_s;    /* for each token, between host and device */
    double p50[WK_BENCH_ROUNDS], p99[WK_BENCH_ROUNDS]; /* ms of a pass */
    double dev_joules[WK_BENCH_ROUNDS];     /* of the device, as joules; 0: not readable */
    char who[24];   /* against: which program */
    wk_interval ratio; /* against: wick / that program; 0: none */
    double share_sum[WK_BENCH_ROUNDS]; /* against: the share that the row of wick reported */
    char note[200]; /* what is to be said of it; why it was not measured */
    bool failed;    /* asked for, and not measured */
};

typedef struct wk_bench_machine {
    char cpu[96], level[32], levels[96], threads[128], governor[48], kernel[96], build[96], memory[120], load[80];
    char model[128], name[96], format[32], hash[40], kv[8];
    uint64_t model_bytes;
    int n_thread, n_ctx;
} wk_bench_machine;

typedef struct wk_bench_work { /* a row of --trace */
    char name[24];
    double seconds[2]; /* decode, prefill: per token */
    double share[2];
} wk_bench_work;

struct wk_bench {
    const wk_args *args;
    wk_emit *emit;
    wk_bench_wish wish;
    wk_bench_machine machine;
    wick_model *model;
    wick_engine *engine;
    wick_stats stats;
    wick_x_cost cost;
    wk_energy energy;
    pthread_mutex_t lock; /* progress, emit: the library logs from its own thread too */
    wk_progress progress;
    double n_done, n_todo; /* measurements, for the progress line */
    int32_t depth_limit;   /* deeper rows do not fit in memory */
    double pack_from, pack_to, pack_bytes; /* seconds of the first and last report of packing; bytes */
    int n_row;
    wk_bench_row *row;  /* [WK_BENCH_ROWS] */
    double *passes;     /* [WK_BENCH_STEPS] seconds */
    uint32_t draws;     /* of the shuffle */
    int n_work;
    wk_bench_work work[24];
    char drift[200];    /* of --soak */
    int n_target, use;  /* devices side by side, 0: the cpu alone; the one in use */
    bool sweeping;      /* the engine is that of a split, no target's */
    bool keep_depth;    /* no deep rows are given up for what does not fit */
    wk_bench_target target[WK_BENCH_DEVICES];
    int n_line;
    char line[WK_BENCH_LINES][400]; /* verdicts, in words */
    bool opened;        /* once: what the library warned of has been said */
    bool stopped;       /* by a signal: what there is is printed */
    int n_loss;         /* of --gate */
};

/* bench_wish.c */
wick_status wk_wish_read(wk_bench_wish *w, const wk_args *a, wick_error *err);

/* cmd_bench.c: names of the model and its engine, into the machine block. */
void wk_bench_put_model(wk_bench *b);

/* bench_machine.c */
void wk_machine_block(wk_bench *b);
/* Of a file: its first 16 MiB. */
wick_status wk_machine_model(wk_bench *b, wick_error *err);

/* bench_round.c */
/* The library's log, then the model, its engine and costs. The deepest rows are given up when they do not fit. */
wick_status wk_round_setup(wk_bench *b, wick_error *err);
wick_status wk_round_open(wk_bench *b, wick_error *err);
void wk_round_close(wk_bench *b);
/* A new row; NULL when there is no room. */
wk_bench_row *wk_round_row(wk_bench *b, wk_bench_kind kind, const char *unit, const char *fmt, ...) WK_PRINTF(4, 5);
/* The probe of a footprint, of a peak: an index, made when it is not there; -1: less than 8 MiB, which no cache has to
 * read from memory. More than 1 GiB is measured as that: no cache is so large. */
int wk_round_read_probe(wk_bench *b, double bytes, int threads);
int wk_round_peak_probe(wk_bench *b, const char *peak, int threads);
void wk_round_rows(wk_bench *b);
wk_bench_fn wk_pass_measure; /* of rows that are passes */
/* One try of each row, which also warms up, then the rounds, each in an order of its own. */
wick_status wk_round_run(wk_bench *b, int rounds, wick_error *err);
wick_status wk_round_soak(wk_bench *b, wick_error *err);
bool wk_round_stopped(wk_bench *b);
void wk_round_step(wk_bench *b); /* a measurement is done: the progress line */
/* Share of what the machine gave in the same round, median; 0: unknown. */
double wk_round_share(const wk_bench *b, const wk_bench_row *r, bool of_peak);

/* bench_answer.c */
void wk_answer_rows(wk_bench *b);
wick_status wk_answer_load(wk_bench *b, wick_error *err);

/* bench_kernel.c */
void wk_kernel_rows(wk_bench *b);
void wk_kernel_peaks(wk_bench *b);

/* bench_trace.c */
wick_status wk_trace_work(wk_bench *b, wick_error *err);

/* bench_device.c: --device. all: engines of all targets, rows, rounds, splits, verdicts. What cannot be used becomes a
 * row that says why. */
wick_status wk_device_list(wk_bench_wish *w, const char *text, wick_error *err);
wick_status wk_device_all(wk_bench *b, wick_error *err);
void wk_device_look(wk_bench *b);               /* targets of the wish: what they are */
wick_status wk_device_open(wk_bench *b, int i, wick_error *err); /* E_DEVICE or E_FIT: kept in why */
void wk_device_use(wk_bench *b, int i);
void wk_device_keep(wk_bench *b, int i); /* what is open is the target's */
void wk_device_close(wk_bench *b); /* all of them */
void wk_device_missing(wk_bench *b, int i);
void wk_device_mark(wk_bench *b, int first_row, int i); /* rows from there on are of target i */
wick_status wk_device_copies(wk_bench *b, wk_bench_row *r, wick_error *err);
/* bench_sweep.c: layers on the device, none to all; bench_verdict.c: b->line. */
wick_status wk_sweep_run(wk_bench *b, int i, wick_error *err);
void wk_verdict_lines(wk_bench *b);

/* bench_peer.c */
wick_status wk_peer_run(wk_bench *b, wick_error *err);

/* bench_child.c: a program of its own process group, with a time limit. */
typedef struct wk_child {
    wk_buf out;     /* stdout, at most 1 MiB */
    char tail[160]; /* the last line of stderr */
    double seconds;
} wk_child;
wick_status wk_child_run(wk_child *c, const char *const *argv, int limit_s, wick_error *err);
void wk_child_fini(wk_child *c);

/* bench_gate.c: *n_loss rows are slower than in the older result by more than the spread. */
wick_status wk_gate_check(wk_bench *b, wk_buf *text, wick_error *err);

/* bench_text.c, bench_data.c, bench_plot.c */
void wk_text_put(const wk_bench *b, wk_buf *out);
void wk_data_csv(const wk_bench *b, wk_buf *out);
void wk_data_json(wk_bench *b); /* one object, or events */
void wk_plot_put(const wk_bench *b, wk_buf *out);
const char *wk_data_kind(wk_bench_kind kind);

#endif

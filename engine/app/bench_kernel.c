/* bench_kernel.c: matrix products of each format without a model, and the peaks of the machine alone. */
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/base/attr.h"
#include "engine/base/err.h"

enum { ROWS = 32768, K = 2048, REPS = 5, PROBE_BYTES = 256 << 20 };
static const int32_t batch[] = {1, 4, 8, 128};
static const char *const formats[] = {"F32",     "F16",   "BF16",    "Q4_0",  "Q4_1",  "Q5_0",  "Q5_1",   "Q8_0",
                                      "Q2_K",    "Q3_K",  "Q4_K",    "Q5_K",  "Q6_K",  "IQ4_NL", "IQ4_XS", "MXFP4",
                                      "IQ2_XXS", "IQ2_XS", "IQ2_S",  "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0"};

/* Bits of a weight, about: the probe has to be made before the kernel is. */
static double bits_of(const char *format) {
    static const struct {
        const char *name;
        double bits;
    } known[] = {{"F32", 32},   {"F16", 16},  {"BF16", 16},  {"Q8_0", 8.5},
                 {"Q6_K", 6.6}, {"Q5_", 5.7}, {"Q3_K", 3.5}, {"Q2_K", 2.7},
                 {"IQ3_", 3.3}, {"IQ2_", 2.3}, {"TQ", 1.9}};
    for (size_t i = 0; i < WK_COUNT(known); i++)
        if (strncmp(format, known[i].name, strlen(known[i].name)) == 0)
            return known[i].bits;
    return 4.5;
}

/* One token: a matrix far larger than the last cache, as its bytes are what counts. */
static int32_t rows_of(const char *format, int32_t n_tok) {
    return n_tok > 1 || bits_of(format) > 16 ? ROWS : bits_of(format) > 9 ? 2 * ROWS : 4 * ROWS;
}

static double macs_of(const wk_bench_row *r) {
    return (double)rows_of(r->format, r->n_tok) * K * r->n_tok;
}

static wick_status measure_kernel(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    const wick_x_kernel o = {.size = sizeof(o),
                             .level = b->machine.level,
                             .format = r->format,
                             .n_row = rows_of(r->format, r->n_tok),
                             .k = K,
                             .n_tok = r->n_tok,
                             .threads = r->threads,
                             .reps = round < 0 ? 1 : r->reps};
    uint64_t bytes = 0;
    double sum = 0;
    WK_TRY(wick_x_kernel_run(&o, b->passes, &bytes, &r->pack_s, err));
    for (int32_t i = 0; i < o.reps; i++) sum += b->passes[i];
    const double each = wk_stat_of(b->passes, o.reps).median;
    r->bytes = (size_t)bytes;
    r->unit_bytes = r->n_tok == 1 ? 1e9 : (double)bytes / (2 * macs_of(r) / 1e9);
    r->unit_macs = r->n_tok == 1 ? macs_of(r) / ((double)bytes / 1e9) : 0.5e9;
    if (round < 0 || each <= 0) return WICK_OK;
    r->value[round] = (r->n_tok == 1 ? (double)bytes : 2 * macs_of(r)) / each / 1e9;
    r->seconds[round] = sum;
    return WICK_OK;
}

void wk_kernel_rows(wk_bench *b) {
    for (size_t f = 0; f < WK_COUNT(formats); f++)
        for (size_t i = 0; i < WK_COUNT(batch); i++) {
            const char *peak = f < 3 ? "f32" : "i8";
            const int threads = b->machine.n_thread;
            const double bytes = bits_of(formats[f]) / 8 * K * rows_of(formats[f], batch[i]);
            const int read = wk_round_read_probe(b, bytes, threads);
            const int top = wk_round_peak_probe(b, peak, threads);
            wk_bench_row *r = wk_round_row(b, WK_BENCH_KERNEL, batch[i] == 1 ? "GB/s" : "GOP/s",
                                           "kernel %s n=%d", formats[f], (int)batch[i]);
            if (!r) return;
            r->format = formats[f];
            r->n_tok = batch[i];
            r->threads = threads;
            r->reps = REPS;
            r->read_probe = read;
            r->peak_probe = top;
            r->of_peak = batch[i] > 1;
            r->measure = measure_kernel;
        }
}

/* One thread and all of them: what a second core adds. */
void wk_kernel_peaks(wk_bench *b) {
    for (int i = 0; i < 2; i++) {
        const int threads = i ? b->machine.n_thread : 1;
        (void)wk_round_read_probe(b, PROBE_BYTES, threads); /* rows by themselves here */
        (void)wk_round_peak_probe(b, "i8", threads);
        (void)wk_round_peak_probe(b, "f32", threads);
    }
}

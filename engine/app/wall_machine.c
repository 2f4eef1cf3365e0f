/* wall_machine.c: what the machine gives: reading, copying, multiplying, by threads. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/wall_impl.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"
#include "engine/base/os.h"

enum { PROBE_BYTES = 256 << 20, COPY_BYTES = 64 << 20, COPY_MOST = 16, PRODUCT_TOKENS = 512 };

/* Bytes of the largest cache of this CPU. */
static double cache_bytes(void) {
    char path[96], text[32];
    double most = 0;
    for (int i = 0; i < 8; i++) {
        (void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (wk_os_read_small(path, text, sizeof(text)) <= 0) continue;
        char *end;
        double v = strtod(text, &end);
        v *= *end == 'K' ? 1024 : *end == 'M' ? 1048576 : 1;
        if (v > most) most = v;
    }
    return most;
}

/* ---- copying ------------------------------------------------------------------------------------- */

typedef struct copier {
    pthread_t thread;
    char *from, *to;
    double seconds; /* of its best pass */
} copier;

static void *copy_some(void *ud) {
    copier *c = ud;
    for (int i = 0; i < 3; i++) {
        const double t = (double)wk_os_now_ns() * 1e-9;
        memcpy(c->to, c->from, COPY_BYTES);
        const double s = (double)wk_os_now_ns() * 1e-9 - t;
        if (i && (c->seconds <= 0 || s < c->seconds)) c->seconds = s;
    }
    return NULL;
}

/* Bytes read and bytes written, both counted. */
static wick_status measure_copy(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    copier c[COPY_MOST] = {0};
    wick_status rc = WICK_OK;
    int n = 0;
    (void)b;
    for (int i = 0; i < r->threads && !rc; i++) {
        c[i].from = wk_alloc_aligned(COPY_BYTES);
        c[i].to = wk_alloc_aligned(COPY_BYTES);
        if (!c[i].from || !c[i].to) rc = wk_fail(err, WICK_E_FIT, "no memory to copy");
    }
    for (; n < r->threads && !rc; n++)
        if (pthread_create(&c[n].thread, NULL, copy_some, &c[n])) break;
    double rate = 0;
    for (int i = 0; i < n; i++) {
        (void)pthread_join(c[i].thread, NULL); /* they end by themselves */
        if (c[i].seconds > 0) rate += 2.0 * COPY_BYTES / c[i].seconds / 1e9;
    }
    for (int i = 0; i < r->threads; i++) {
        wk_free_aligned(c[i].from);
        wk_free_aligned(c[i].to);
    }
    if (!rc && n < r->threads) rc = wk_fail(err, WICK_E_FIT, "no %d threads to copy with", r->threads);
    if (!rc && round >= 0) r->value[round] = rate;
    return rc;
}

/* ---- products ------------------------------------------------------------------------------------ */

static wick_status measure_product(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    wick_x_kernel o = {.size = sizeof(o), .format = r->format, .n_row = r->n_seq, .k = r->depth, .n_tok = r->n_tok,
                       .threads = r->threads, .reps = 1};
    double s = 0;
    (void)b;
    WK_TRY(wick_x_kernel_run(&o, &s, NULL, NULL, err));
    if (round >= 0 && s > 0) r->value[round] = 2.0 * o.n_row * o.k * o.n_tok / s / 1e9;
    return WICK_OK;
}

/* The feed-forward product of the model in each format; its own format is among them. */
static void product_rows(wk_wall *w) {
    static const char *const formats[] = {"F32", "F16", "Q8_0", "Q4_0"};
    for (size_t i = 0; i < WK_COUNT(formats); i++) {
        wk_bench_row *r = wk_round_row(&w->b, WK_BENCH_KERNEL, "GFLOP/s", "product %s %d x %d", formats[i],
                                       (int)w->shape.n_ff, (int)w->shape.dim);
        if (!r) return;
        r->format = formats[i];
        r->n_seq = w->shape.n_ff;
        r->depth = w->shape.dim;
        r->n_tok = PRODUCT_TOKENS;
        r->threads = w->n_thread;
        r->measure = measure_product;
        w->product[w->n_product++] = r;
    }
}

void wk_wall_machine_rows(wk_wall *w) {
    wk_bench *b = &w->b;
    w->l3 = cache_bytes();
    for (int i = 0; i < w->n_sweep; i++) {
        const int t = w->sweep[i];
        const int read = wk_round_read_probe(b, PROBE_BYTES, t), f32 = wk_round_peak_probe(b, "f32", t),
                  i8 = wk_round_peak_probe(b, "i8", t);
        w->read[i] = read < 0 ? NULL : &b->row[read];
        w->f32[i] = f32 < 0 ? NULL : &b->row[f32];
        w->i8[i] = i8 < 0 ? NULL : &b->row[i8];
        if (t > COPY_MOST) continue;
        w->copy[i] = wk_round_row(b, WK_BENCH_PROBE, "GB/s", "copy, %d thread%s", t, t > 1 ? "s" : "");
        if (!w->copy[i]) continue;
        w->copy[i]->threads = t;
        w->copy[i]->measure = measure_copy;
    }
    if (w->shape.n_ff > 0) product_rows(w);
}

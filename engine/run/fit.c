/* fit.c: what an engine will take, before it takes it: the largest resident memory of a process that opens it and
 * generates. `wick plan` is held to 5 % of what a run is measured to take (tests/api/test_rss.py).
 *
 * The margin on top is for what the forecast leaves out: rows of logits that only scoring uses (16 rows of the largest
 * vocabulary known are 17 MB), penalties, long prompts and their events, memory that others take meanwhile. */
#include <stdio.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/cpu/cpu.h"
#include "engine/run/engine.h"
#include "simd/format.h"

enum { CTX_DEFAULT = 8192, CTX_LEAST = 256, MARGIN = 64 << 20 };
/* Resident of a process that runs a model of no size: the program, libc and the other libraries, their heaps and the
 * stacks of the team. Measured: 4.1 to 5.7 MB, of it 3.9 to 5.4 MB pages of files (gcc 12 and clang 14, glibc 2.36,
 * libgomp or pthreads, 2 threads): how many pages a fault brings along is the kernel's choice. */
#define PROGRAM ((uint64_t)4800000)

static uint32_t pages_of(int32_t n) { return (uint32_t)((n + WK_KV_PAGE - 1) / WK_KV_PAGE); }

static uint64_t power_of_two(uint64_t n) {
    uint64_t p = 16;
    while (p < n) p *= 2;
    return p;
}

/* Bytes of the texts of an array of strings: they lie in the file one after the other, each behind its length. */
static uint64_t text_bytes(const wk_array *a) {
    if (a->type != WK_META_STR || a->n == 0) return 0;
    const uint64_t with_lengths = a->str_off[a->n - 1] - a->str_off[0],
                   lengths = 8 * (uint64_t)(a->n - 1);
    return with_lengths - lengths + wk_array_str(a, a->n - 1).n;
}

/* Tokenizer (text/tok_impl.h) and index of the file (file/store_impl.h). */
static uint64_t index_bytes(const wk_store *s) {
    wk_array tok = {0}, merge = {0}, score = {0};
    (void)wk_meta_array(s, "tokenizer.ggml.tokens", &tok,
                        NULL); /* opening the tokenizer says what is wrong */
    (void)wk_meta_array(s, "tokenizer.ggml.merges", &merge, NULL); /* absent: 0 */
    (void)wk_meta_array(s, "tokenizer.ggml.scores", &score, NULL);
    const uint64_t n = tok.n, per_token = sizeof(uint32_t) + 1, slot = 8, pair = 12, record = 100;
    uint64_t bytes = text_bytes(&tok) + n * per_token + power_of_two(n + n / 2) * slot;
    bytes += merge.n ? power_of_two(2 * (uint64_t)merge.n) * sizeof(uint32_t) + merge.n * pair : score.n * sizeof(uint32_t);
    return bytes + (tok.n + merge.n) * sizeof(uint32_t) + wk_store_tensor_count(s) * record;
}

/* Batch, page table, sampler (its weights and candidates), one request with its rings. */
static uint64_t run_bytes(const wk_plan *p, const wk_engine_config *c, const wk_fit *f) {
    const uint64_t v = (uint64_t)p->n_vocab, seqs = (uint64_t)c->max_seqs, page_record = 320,
                   cand = 8;
    const uint64_t rows = seqs < (uint64_t)p->max_out ? seqs : (uint64_t)p->max_out;
    const uint64_t request = 3 * (uint64_t)WK_RING_TEXT + (uint64_t)f->n_ctx * sizeof(int32_t);
    return rows * v * sizeof(float) + v * (sizeof(float) + cand) + f->n_page * page_record +
           seqs * request + (uint64_t)p->n_step * (sizeof(wk_step) + sizeof(wk_val));
}

static void set_need(wk_fit *f, const wk_plan *p, wk_offload *off, const wk_store *s, const wk_engine_config *c,
                     int32_t n_ctx) {
    const int32_t positions = c->kv_tokens > n_ctx ? c->kv_tokens : n_ctx;
    f->n_ctx = n_ctx;
    f->n_page = pages_of(positions) + (uint32_t)c->max_seqs;
    wk_offload_place(off, p, c->gpu_layers, f->n_page);
    const wk_offload_need all = wk_offload_bytes(off, p, f->n_page, f->n_thread),
                          without = wk_offload_bytes(off, p, 0, f->n_thread);
    f->weights = all.weights;
    f->kv = all.host - without.host;
    f->activations = without.host - (without.host < all.weights ? without.host : all.weights) +
                     run_bytes(p, c, f) + index_bytes(s) + PROGRAM;
    for (int32_t i = 0; i < c->n_adapter; i++) f->activations += index_bytes(c->adapter[i].store);
    f->margin = MARGIN;
    f->dev_need = all.dev;
    f->dev_free = off->ops && off->info.mem_total ? off->info.mem_free : UINT64_MAX;
    if (f->dev_free == UINT64_MAX) f->activations += all.dev; /* 0 where the cpu runs everything */
    f->need = f->weights + f->kv + f->activations + f->margin;
    f->fits = f->need <= f->available && f->dev_need <= f->dev_free;
}

static void set_threads(wk_fit *f, wk_engine_config *c) {
    wk_machine m;
    wk_os_machine(&m);
    f->available = m.mem_free;
    f->n_cpu = m.n_affinity;
    if (m.quota > 0 && m.quota < f->n_cpu) f->n_cpu = m.quota < 1 ? 1 : (int32_t)m.quota;
    if (c->cpu.n_pin && c->cpu.n_pin < f->n_cpu) f->n_cpu = c->cpu.n_pin;
    f->n_thread = c->threads > 0 ? c->threads : m.n_thread < f->n_cpu ? m.n_thread : f->n_cpu;
    if (f->n_thread > f->n_cpu)
        wk_log(WK_LOG_WARN, "%d threads on %d CPUs: threads will wait for each other",
               (int)f->n_thread, (int)f->n_cpu);
    c->threads = f->n_thread;
}

/* ---- the device beside the cpu ------------------------------------------------------------------- */

/* Not one layer was placed on it. */
static int refuse_device(const wk_fit *f, const wk_offload *off, const wk_plan *p, const wk_engine_config *c,
                         wk_err *err) {
    wk_offload one = *off;
    const bool any = strcmp(c->device, "auto") == 0;
    wk_err e = {0};
    if (off->is_slower) {
        wk_log(WK_LOG_WARN,
               "%s reads %.1f GB/s, this machine %.1f GB/s: everything runs on the cpu (--gpu-layers N overrides)",
               off->name, off->info.read_rate * 1e-9, off->host_rate * 1e-9);
        return WICK_OK;
    }
    wk_offload_place(&one, p, 1, f->n_page);
    const wk_offload_need need = wk_offload_bytes(&one, p, f->n_page, 1);
    const double takes = (double)need.dev + (double)need.later;
    (void)wk_fail(&e, WICK_E_FIT,
                  "%s has %.2f GB of memory free, one layer with its KV cache of %d tokens takes %.2f GB", off->name,
                  (double)off->info.mem_free / 1e9, (int)f->n_ctx, takes / 1e9);
    if (!any) {
        if (err) *err = e;
        return WICK_E_FIT;
    }
    wk_log(WK_LOG_WARN, "device auto: everything runs on the cpu: %s", e.message);
    return WICK_OK;
}

/* One line for each thing that is not as it was asked for. */
static void warn_device(const wk_offload *off, const wk_plan *p, const wk_engine_config *c) {
    if (off->first_cannot >= 0) {
        const wk_step *s = &p->step[off->first_cannot];
        const char *format = s->w[0] >= 0 ? wk_formats[p->weight[s->w[0]].fmt].name : NULL;
        wk_log(WK_LOG_WARN, "%s cannot run %s%s%s (layer %d): %d of %d layers%s stay on the cpu", off->name,
               wk_op_name(s->op), format ? " of " : "", format ? format : "", (int)s->layer,
               (int)(p->n_layer - off->n_can), (int)p->n_layer, off->can[p->n_layer] ? "" : " and the head");
    }
    if (c->gpu_layers == WK_OFFLOAD_AUTO && off->n < p->n_layer)
        wk_log(WK_LOG_WARN,
               "%d of %d layers fit 90 %% of the %.2f GB free on %s: the others and the head run on the cpu",
               (int)off->n, (int)p->n_layer, (double)off->info.mem_free / 1e9, off->name);
}

static void describe(wk_fit *f, const wk_offload *off, const wk_plan *p) {
    wk_buf b;
    wk_buf_init(&b, sizeof(f->device) - 1);
    wk_offload_text(off, p, &b); /* what has no room is left out */
    (void)snprintf(f->device, sizeof(f->device), "%s", b.n ? b.p : off->ops ? off->name : "cpu");
    wk_buf_fini(&b);
    (void)snprintf(f->dev_name, sizeof(f->dev_name), "%s", off->name);
    f->n_layer = p->n_layer;
    for (int32_t i = 0; off->ops && i < p->n_layer; i++)
        f->dev_layers += off->can[i] && i >= p->n_layer - off->n;
}

static void set_context(wk_fit *f, const wk_plan *p, wk_offload *off, const wk_store *s, wk_engine_config *c) {
    if (c->n_ctx > 0) {
        set_need(f, p, off, s, c, c->n_ctx);
    } else {
        f->ctx_chosen = true;
        int32_t n = p->n_ctx_train > 0 && p->n_ctx_train < CTX_DEFAULT ? p->n_ctx_train : CTX_DEFAULT;
        set_need(f, p, off, s, c, n);
        while (!f->fits && n > CTX_LEAST)
            set_need(f, p, off, s, c, n = n / 2 > CTX_LEAST ? n / 2 : CTX_LEAST);
    }
    c->n_ctx = f->n_ctx;
}

/* Opens it, then settles the context and how many layers it runs. A device that runs nothing is closed again. */
static int fit_device(wk_fit *f, const wk_plan *p, wk_offload *off, const wk_store *s, wk_engine_config *c,
                      wk_err *err) {
    const int32_t asked = c->n_ctx;
    const wk_host host = {.size = sizeof(host),
                          .n_thread = f->n_thread,
                          .n_cpu = f->n_cpu,
                          .cpu_mask = c->cpu_mask,
                          .progress = c->progress,
                          .ud = c->ud};
    WK_TRY(wk_offload_open(off, p, c->device, c->gpu_layers, &host, err));
    set_context(f, p, off, s, c);
    if (off->ops && off->n == 0) {
        WK_TRY(refuse_device(f, off, p, c, err));
        wk_offload_close(off);
        c->n_ctx = asked;
        set_context(f, p, off, s, c);
    }
    if (off->ops) warn_device(off, p, c);
    describe(f, off, p);
    return WICK_OK;
}

int wk_fit_devices(wk_fit *out, wk_plan **plan, wk_offload *off, const wk_store *s, wk_engine_config *c,
                   wk_err *err) {
    wk_plan *p = NULL;
    wk_fit f = {0};
    *off = (wk_offload){.ops = NULL};
    set_threads(&f, c);
    wk_plan_options o = {.max_tok = c->n_batch,
                         .max_out = c->max_seqs > 16 ? c->max_seqs : 16,
                         .kv_type = c->kv_type,
                         .whole = c->cpu.onednn || (c->device && strcmp(c->device, "cpu") != 0),
                         .adapter = c->adapter,
                         .n_adapter = c->n_adapter};
    if (o.max_out > o.max_tok) o.max_out = o.max_tok;
    WK_TRY(wk_plan_build(&p, s, &o, err));
    const int rc = fit_device(&f, p, off, s, c, err);
    if (rc) wk_offload_close(off);
    if (rc || !plan) wk_plan_free(p);
    if (rc) return rc;
    *out = f;
    if (plan) *plan = p;
    return WICK_OK;
}

int wk_fit_plan(wk_fit *out, wk_plan **plan, const wk_store *s, wk_engine_config *c, wk_err *err) {
    wk_offload off;
    const int rc = wk_fit_devices(out, plan, &off, s, c, err);
    if (!rc) wk_offload_close(&off);
    return rc;
}

int wk_fit_refuse(const wk_fit *f, wk_err *err) {
    const double gb = 1e9;
    char hint[80] = "";
    if (f->dev_need > f->dev_free)
        return wk_fail(err, WICK_E_FIT,
                       "%d of %d layers and their KV cache of %d tokens need %.2f GB of %s, %.2f GB are free there; "
                       "--gpu-layers auto takes what fits",
                       (int)f->dev_layers, (int)f->n_layer, (int)f->n_ctx, (double)f->dev_need / gb, f->dev_name,
                       (double)f->dev_free / gb);
    if (!f->ctx_chosen && f->need - f->kv < f->available && f->n_ctx > 512) {
        const double per_tok = (double)f->kv / (double)f->n_ctx;
        const int64_t n =
            (int64_t)((double)(f->available - (f->need - f->kv)) / per_tok) / 256 * 256;
        if (n >= 256) (void)snprintf(hint, sizeof(hint), "; --ctx %lld would fit", (long long)n);
    }
    return wk_fail(err, WICK_E_FIT,
                   "needs %.2f GB (weights %.2f, KV cache of %d tokens %.2f), %.2f GB available%s",
                   (double)f->need / gb, (double)f->weights / gb, (int)f->n_ctx, (double)f->kv / gb,
                   (double)f->available / gb, hint);
}

/* fit.c: what an engine will take, before it takes it. */
#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/cpu/cpu.h"
#include "engine/run/engine.h"

enum { CTX_DEFAULT = 8192, CTX_LEAST = 256, MARGIN = 64 << 20 };

static uint32_t pages_of(int32_t n) { return (uint32_t)((n + WK_KV_PAGE - 1) / WK_KV_PAGE); }

static void set_need(wk_fit *f, const wk_plan *p, const wk_engine_config *c, int32_t n_ctx) {
    const wk_backend_ops *ops = wk_cpu_backend();
    const int32_t positions = c->kv_tokens > n_ctx ? c->kv_tokens : n_ctx;
    f->n_ctx = n_ctx;
    f->n_page = pages_of(positions) + (uint32_t)c->max_seqs;
    f->weights = p->weight_bytes;
    const uint64_t all = ops->bytes(p, f->n_page, f->n_thread), without = ops->bytes(p, 0, f->n_thread);
    f->kv = all - without;
    f->activations = without - (without < p->weight_bytes ? without : p->weight_bytes) +
                     (uint64_t)p->n_vocab * (uint64_t)p->max_out * sizeof(float) + (uint64_t)p->n_vocab * 16;
    f->margin = MARGIN;
    f->need = f->weights + f->kv + f->activations + f->margin;
    f->fits = f->need <= f->available;
}

static void set_threads(wk_fit *f, wk_engine_config *c) {
    wk_machine m;
    wk_os_machine(&m);
    f->available = m.mem_free;
    f->n_cpu = m.n_affinity;
    if (m.quota > 0 && m.quota < f->n_cpu) f->n_cpu = m.quota < 1 ? 1 : (int32_t)m.quota;
    f->n_thread = c->threads > 0 ? c->threads : m.n_thread;
    if (f->n_thread > f->n_cpu)
        wk_log(WK_LOG_WARN, "%d threads on %d CPUs: threads will wait for each other", (int)f->n_thread, (int)f->n_cpu);
    c->threads = f->n_thread;
}

int wk_fit_plan(wk_fit *out, wk_plan **plan, const wk_store *s, wk_engine_config *c, wk_err *err) {
    wk_plan *p = NULL;
    wk_fit f = {0};
    set_threads(&f, c);
    wk_plan_options o = {.max_tok = c->n_batch, .max_out = c->max_seqs > 16 ? c->max_seqs : 16, .kv_type = c->kv_type};
    if (o.max_out > o.max_tok) o.max_out = o.max_tok;
    WK_TRY(wk_plan_build(&p, s, &o, err));
    if (c->n_ctx > 0) {
        set_need(&f, p, c, c->n_ctx);
    } else {
        f.ctx_chosen = true;
        int32_t n = p->n_ctx_train > 0 && p->n_ctx_train < CTX_DEFAULT ? p->n_ctx_train : CTX_DEFAULT;
        set_need(&f, p, c, n);
        while (!f.fits && n > CTX_LEAST) set_need(&f, p, c, n = n / 2 > CTX_LEAST ? n / 2 : CTX_LEAST);
    }
    c->n_ctx = f.n_ctx;
    *out = f;
    if (plan)
        *plan = p;
    else
        wk_plan_free(p);
    return WICK_OK;
}

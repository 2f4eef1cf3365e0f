/* engine.c: life of an engine, its mailbox and its thread. */
#include "engine/run/engine.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/hash.h"
#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/base/pool.h"
#include "engine/cpu/cpu.h"
#include "engine/run/sched.h"
#include "engine/run/split.h"

/* A function that waits for the engine's thread, on its caller's stack. */
typedef struct engine_call {
    wk_engine_fn *fn;
    void *ud;
    wk_err *err;
    int rc;
    bool is_done;
    struct engine_call *next;
} engine_call;

struct wk_engine {
    _Atomic int ref;
    wk_fit fit;
    wk_engine_config cfg, asked; /* resolved; as it came */
    const wk_store *store;       /* while opening */
    const wk_tok *tok; /* borrowed */
    int32_t n_vocab;
    bool on_device; /* stays when the devices are closed: results are read later */
    wk_plan *plan;
    wk_dev *cpu, *split;
    wk_offload off;
    wk_sched s;
    struct {
        uint64_t before, done, total; /* of the parts packed already; of the one that is under way */
    } pack;

    pthread_t thread;
    bool has_thread;
    _Atomic uint32_t ready; /* open_rc and open_err are set; futex word */
    int open_rc;
    wk_err open_err;
    pthread_mutex_t mu;
    wk_request **mail; /* [max_queue] */
    int32_t n_mail;
    engine_call *call;      /* oldest first */
    pthread_cond_t call_end; /* some call is done */
    bool closing;
    bool other_bits;
    wk_cpu_report report;
    _Atomic uint32_t wake;
};

/* Empties the mailbox into the waiting list. true: the engine is closing. */
static bool read_mail(wk_engine *e) {
    pthread_mutex_lock(&e->mu);
    for (int32_t i = 0; i < e->n_mail; i++) wk_sched_enqueue(&e->s, e->mail[i]);
    e->n_mail = 0;
    atomic_store(&e->s.s_waiting, e->s.n_waiting); /* they are counted all the time */
    const bool closing = e->closing;
    pthread_mutex_unlock(&e->mu);
    return closing;
}

/* ---- calls --------------------------------------------------------------------------------------- */

/* The oldest call leaves the list and is the thread's; its caller still waits. */
static engine_call *take_call(wk_engine *e) {
    pthread_mutex_lock(&e->mu);
    engine_call *c = e->call;
    if (c) e->call = c->next;
    pthread_mutex_unlock(&e->mu);
    return c;
}

/* The caller may be gone as soon as the lock is free. */
static void end_call(wk_engine *e, engine_call *c, int rc) {
    pthread_mutex_lock(&e->mu);
    c->rc = rc;
    c->is_done = true;
    pthread_cond_broadcast(&e->call_end);
    pthread_mutex_unlock(&e->mu);
}

static bool run_call(wk_engine *e) {
    engine_call *c = take_call(e);
    if (c) end_call(e, c, c->fn(&e->s, c->ud, c->err));
    return c != NULL;
}

static int refuse_closed(wk_err *err) {
    return wk_fail(err, WICK_E_CANCELED, "the engine was closed");
}

/* Nobody calls any more: closing is set. */
static void cancel_calls(wk_engine *e) {
    engine_call *c;
    while ((c = take_call(e))) end_call(e, c, refuse_closed(c->err));
}

int wk_engine_call(wk_engine *e, wk_engine_fn *fn, void *ud, wk_err *err) {
    engine_call c = {.fn = fn, .ud = ud, .err = err};
    if (pthread_equal(pthread_self(), e->thread))
        return wk_fail(err, WICK_E_ARG, "called from the engine's own thread, inside a callback");
    wk_engine_hold(e); /* the lock outlives a close */
    pthread_mutex_lock(&e->mu);
    if (e->closing) {
        c.rc = refuse_closed(err);
    } else {
        engine_call **at = &e->call;
        while (*at) at = &(*at)->next;
        *at = &c;
        wk_engine_wake(e);
        while (!c.is_done) pthread_cond_wait(&e->call_end, &e->mu);
    }
    pthread_mutex_unlock(&e->mu);
    wk_engine_drop(e);
    return c.rc;
}

bool wk_engine_is_closing(wk_engine *e) {
    pthread_mutex_lock(&e->mu);
    const bool closing = e->closing;
    pthread_mutex_unlock(&e->mu);
    return closing;
}

/* ---- the thread ---------------------------------------------------------------------------------- */

/* Device, team and cache are opened, used and closed by one thread: an OpenMP team belongs to its first thread, and a
 * device library has settings of each thread. */
static void set_ready(wk_engine *e, int rc) {
    e->open_rc = rc;
    atomic_store(&e->ready, 1);
    wk_os_futex_wake_all((const uint32_t *)(void *)&e->ready);
}

static void close_devices(wk_engine *e) {
    if (e->s.exec) e->s.ops->unprepare(e->s.exec);
    e->s.exec = NULL;
    if (e->split) wk_split_backend()->close(e->split);
    e->split = NULL;
    wk_offload_close(&e->off);
    if (e->cpu) wk_cpu_backend()->close(e->cpu);
    e->cpu = NULL;
    wk_plan_free(e->plan);
    e->plan = NULL;
}

/* Parts are packed one after another, each from zero; seen from outside it is one way. */
static bool on_pack(void *ud, uint64_t done, uint64_t total) {
    wk_engine *e = ud;
    if (!e->asked.progress) return true;
    if (done < e->pack.done || (e->pack.done && total != e->pack.total)) e->pack.before += e->pack.total;
    e->pack.done = done;
    e->pack.total = total;
    done += e->pack.before;
    total += e->pack.before;
    if (e->split && total < e->plan->weight_bytes) total = e->plan->weight_bytes;
    return e->asked.progress(e->asked.ud, done, total);
}

/* The parts that the fit settled, each on its device; one that is all of the plan needs no split. */
static int prepare_parts(wk_engine *e, wk_err *err) {
    const size_t most = (size_t)e->plan->n_layer + 2; /* all units apart, and one that stays empty */
    wk_split_part *part = wk_new_n(wk_split_part, most);
    int32_t n = 0;
    bool on_dev = false;
    if (!part) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu parts", most);
    for (int32_t unit = 0; wk_offload_next(&e->off, e->plan, &unit, &part[n].part, &on_dev); n++) {
        part[n].ops = on_dev ? e->off.ops : wk_cpu_backend();
        part[n].dev = on_dev ? e->off.dev : e->cpu;
        part[n].name = on_dev ? e->off.name : "cpu";
    }
    const wk_split_part first = part[0];
    e->s.can_top = part[n - 1].ops->can_top;
    int rc = n > 1 ? wk_split_open(&e->split, part, n, err) : WICK_OK;
    wk_free(part);
    if (rc) return rc;
    e->s.ops = e->split ? wk_split_backend() : first.ops;
    rc = e->s.ops->prepare(&e->s.exec, e->split ? e->split : first.dev, e->plan, NULL, e->fit.n_page, err);
    if (rc) e->s.exec = NULL;
    return rc;
}

/* Which products are oneDNN's is said in any case: who asked for it shall not be left in doubt. */
static void tell_products(wk_engine *e) {
    int n_float = 0, n_other = 0;
    if (!e->cfg.cpu.onednn) return;
    wk_cpu_count_products(e->plan, &n_float, &n_other);
    e->other_bits = n_float > 0;
    if (!n_float)
        wk_log(WK_LOG_WARN, "oneDNN changes nothing: no matrix of this model is F32, F16 or BF16, and quantised ones stay with wick's products");
    else if (n_other)
        wk_log(WK_LOG_WARN, "prompts: %d F32, F16 and BF16 matrices by oneDNN, their bits are outside of the promise; %d quantised ones by wick", n_float, n_other);
    else
        wk_log(WK_LOG_WARN, "prompts: %d F32, F16 and BF16 matrices by oneDNN, their bits are outside of the promise", n_float);
}

/* All files that the weights come from, or zero. */
static void set_cache_key(wk_engine *e) {
    wk_hash h;
    if (!e->cfg.cpu.cache_dir || !wk_store_identity(e->store, &h)) return;
    h = wk_hash_bytes(h, &e->cfg.arith, sizeof(e->cfg.arith));
    for (int32_t i = 0; i < e->cfg.n_adapter; i++) {
        wk_hash a;
        if (!wk_store_identity(e->cfg.adapter[i].store, &a)) return;
        h = wk_hash_bytes(h, &a, sizeof(a));
    }
    e->cfg.cpu.cache_key = h;
}

static int open_devices(wk_engine *e, wk_err *err) {
    e->cfg = e->asked;
    e->pack.before = e->pack.done = e->pack.total = 0;
    e->cfg.progress = on_pack;
    e->cfg.ud = e;
    WK_TRY(wk_fit_devices(&e->fit, &e->plan, &e->off, e->store, &e->cfg, err));
    if (e->cfg.fit_check && !e->fit.fits) return wk_fit_refuse(&e->fit, err);
    e->n_vocab = e->plan->n_vocab;
    tell_products(e);
    set_cache_key(e);
    e->report = (wk_cpu_report){0};
    e->cfg.cpu.report = &e->report;
    e->cfg.cpu.n_node = wk_os_nodes(NULL, 0);
    /* What parsing has read; packing drops what it reads itself, all but the edges of tensors. */
    wk_store_drop(e->store);
    const wk_host host = {.size = sizeof(host),
                          .n_thread = e->fit.n_thread,
                          .n_cpu = e->fit.n_cpu,
                          .cpu_mask = e->cfg.cpu_mask,
                          .progress = e->cfg.progress,
                          .ud = e,
                          .cpu = &e->cfg.cpu};
    WK_TRY(wk_cpu_backend()->open(&e->cpu, 0, &host, err));
    return prepare_parts(e, err);
}

/* With "auto" a device that gives up while it is made ready is done without. */
static int open_any(wk_engine *e, wk_err *err) {
    wk_err why = {0};
    const int rc = open_devices(e, &why);
    const bool is_device = e->off.ops && e->asked.device && strcmp(e->asked.device, "auto") == 0;
    if (is_device && (rc == WICK_E_DEVICE || rc == WICK_E_NOMEM || rc == WICK_E_UNSUPPORTED)) {
        wk_log(WK_LOG_WARN, "device auto: everything runs on the cpu: %s", why.message);
        close_devices(e);
        e->asked.device = NULL;
        return open_devices(e, err);
    }
    if (rc && err) *err = why;
    return rc;
}

static int open_all(wk_engine *e, wk_err *err) {
    WK_TRY(open_any(e, err));
    e->on_device = e->off.ops && strcmp(e->off.ops->name, "cpu") != 0;
    WK_TRY(wk_kv_open(&e->s.pool, e->fit.n_page, err));
    e->s.plan = e->plan;
    e->s.tok = e->tok;
    e->s.kern = wk_cpu_kernels(e->cpu);
    e->s.prefix_cache = e->cfg.prefix_cache;
    e->s.n_ctx = e->cfg.n_ctx;
    e->s.max_seqs = e->cfg.max_seqs;
    return wk_sched_open(&e->s, e->cfg.max_queue, err);
}

static void *engine_thread(void *ud) {
    wk_engine *e = ud;
    const uint32_t fp = wk_fp_enter();
    const int rc = open_all(e, &e->open_err);
    set_ready(e, rc);
    while (!rc) {
        const uint32_t seen = atomic_load(&e->wake);
        if (read_mail(e)) break;
        const bool called = run_call(e), worked = wk_sched_round(&e->s);
        if (!worked && !called) wk_os_futex_wait((const uint32_t *)(void *)&e->wake, seen, -1);
    }
    if (!rc) wk_sched_cancel_all(&e->s);
    cancel_calls(e);
    close_devices(e);
    wk_fp_leave(fp);
    return NULL;
}

static int start_thread(wk_engine *e, wk_err *err) {
    sigset_t all, old;
    (void)sigfillset(&all); /* cannot fail */
    if (pthread_sigmask(SIG_BLOCK, &all, &old))
        return wk_fail(err, WICK_E_NOMEM, "signals could not be blocked");
    const int failed =
        pthread_create(&e->thread, NULL, engine_thread, e); /* the host's signals are not for it */
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);         /* back to what it was */
    if (failed) return wk_fail(err, WICK_E_NOMEM, "the engine thread could not be made");
    e->has_thread = true;
    while (!atomic_load(&e->ready)) wk_os_futex_wait((const uint32_t *)(void *)&e->ready, 0, -1);
    if (e->open_rc && err) *err = e->open_err;
    return e->open_rc;
}

int wk_engine_open(wk_engine **out, const wk_store *s, const wk_tok *tok, const wk_engine_config *c,
                   wk_err *err) {
    int rc = WICK_OK;
    wk_engine *e = wk_new(wk_engine);
    if (!e) return wk_fail(err, WICK_E_NOMEM, "no memory for an engine");
    atomic_init(&e->ref, 1);
    pthread_mutex_init(&e->mu, NULL);
    pthread_cond_init(&e->call_end, NULL);
    e->asked = *c;
    e->cfg.max_queue = c->max_queue;
    e->store = s;
    e->tok = tok;
    e->mail = wk_new_n(wk_request *, (size_t)c->max_queue);
    if (!e->mail) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for a queue of %d requests", (int)c->max_queue);
        goto out;
    }
    if ((rc = start_thread(e, err))) goto out;
    wk_store_drop(s);
    *out = e;
    e = NULL;
out:
    wk_engine_close(e);
    return rc;
}

void wk_engine_close(wk_engine *e) {
    if (!e) return;
    if (e->has_thread) {
        pthread_mutex_lock(&e->mu);
        e->closing = true;
        pthread_mutex_unlock(&e->mu);
        wk_engine_wake(e);
        pthread_join(e->thread, NULL);
    }
    wk_sched_close(&e->s);
    wk_kv_close(e->s.pool);
    pthread_mutex_lock(&e->mu);
    wk_free(e->mail);
    e->mail = NULL;
    e->closing = true;
    pthread_mutex_unlock(&e->mu);
    wk_engine_drop(e);
}

const wk_cpu_report *wk_engine_report(const wk_engine *e) { return &e->report; }

bool wk_engine_has_other_bits(const wk_engine *e) { return e->other_bits; }

void wk_engine_hold(wk_engine *e) { atomic_fetch_add(&e->ref, 1); }

void wk_engine_drop(wk_engine *e) {
    if (!e || atomic_fetch_sub(&e->ref, 1) != 1) return;
    pthread_cond_destroy(&e->call_end);
    pthread_mutex_destroy(&e->mu);
    wk_free(e);
}

int wk_engine_submit(wk_engine *e, wk_request *r, wk_err *err) {
    int rc = WICK_OK;
    pthread_mutex_lock(&e->mu);
    const int32_t n_queued =
        e->n_mail + atomic_load(&e->s.s_waiting); /* falls only, but for read_mail */
    if (e->closing)
        rc = refuse_closed(err);
    else if (n_queued >= e->cfg.max_queue)
        rc = wk_fail(err, WICK_E_BUSY, "%d requests wait already, the queue holds %d",
                     (int)n_queued, (int)e->cfg.max_queue);
    else {
        wk_request_hold(r);
        e->mail[e->n_mail++] = r;
    }
    pthread_mutex_unlock(&e->mu);
    if (!rc) wk_engine_wake(e);
    return rc;
}

void wk_engine_wake(wk_engine *e) {
    atomic_fetch_add(&e->wake, 1);
    wk_os_futex_wake_all((const uint32_t *)(void *)&e->wake);
}

int32_t wk_engine_n_ctx(const wk_engine *e) { return e->fit.n_ctx; }
int32_t wk_engine_n_vocab(const wk_engine *e) { return e->n_vocab; }
const wk_fit *wk_engine_fit(const wk_engine *e) { return &e->fit; }
const char *wk_engine_level(const wk_engine *e) { return e->s.kern->level; }
const wk_plan *wk_engine_plan(const wk_engine *e) { return e->plan; }
bool wk_engine_on_device(const wk_engine *e) { return e->on_device; }

void wk_engine_read_stats(const wk_engine *e, wk_engine_stats *out) {
    const wk_sched *s = &e->s;
    *out = (wk_engine_stats){.running = atomic_load(&s->s_running),
                             .waiting = atomic_load(&s->s_waiting),
                             .pages_total = (int32_t)e->fit.n_page,
                             .pages_free = atomic_load(&s->s_free),
                             .pages_cached = atomic_load(&s->s_known),
                             .steps = atomic_load(&s->n_step),
                             .prompt_tokens = atomic_load(&s->n_prompt_tok),
                             .cached_tokens = atomic_load(&s->n_cached_tok),
                             .generated_tokens = atomic_load(&s->n_gen_tok)};
}

/* pool.c: the team of threads. The only file that knows OpenMP.
 *
 * Two makers of threads behind one interface: an OpenMP region per run (the runtime keeps its workers
 * between runs), or pthreads that sleep on a word (WICK_PTHREADS=1), which ThreadSanitizer understands.
 * The barrier is ours in both: an arrival counter and a phase word on lines of their own. A phase number
 * instead of a flag needs no per-thread sense and cannot be mistaken for the phase before. */
#include "engine/base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>

#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "engine/base/os.h"

#if WK_X86_64
#include <xmmintrin.h>
#endif
#if !WICK_PTHREADS
#include <omp.h>
#endif

enum {
    SPIN_NS = 20000,
    MOVED_SPIN_NS = 50000,
    MOVE_NS = 200000,
    PAUSES = 32,
    N_YIELD = 16,
    FAR = 128
};

/* A shared counter, FAR bytes from the next: prefetchers fetch lines in pairs. */
typedef struct wk_far_word {
    uint32_t v; /* atomic */
    char pad[FAR - sizeof(uint32_t)];
} wk_far_word;

/* A word that threads wait on until it changes. Writer: one thread at a time; readers: the team. */
typedef struct wk_gate {
    wk_far_word word;     /* the futex */
    wk_far_word sleepers; /* threads that may be asleep on word */
} wk_gate;

struct wk_team {
    wk_far_word arrived; /* threads that are at the barrier */
    wk_gate phase;       /* barriers passed */
    wk_gate job;         /* runs started (pthread team) */
    int n;
    const int32_t *bind; /* [n_bind] while wk_team_bind runs */
    int n_bind;
    uint64_t *was;     /* [n][WK_OS_MASK] masks of the ranks before they were bound; NULL: they are not */
    uint32_t refused;  /* atomic: ranks that could not be bound */
    bool spins;        /* false when the team is larger than the CPUs allowed */
    bool quits;        /* pthread team: written before the last job */
    uint64_t moved_ns; /* atomic: when a thread was last moved */
    void (*fn)(void *ud, int rank);
    void *ud;
    pthread_t *thread; /* [n - 1], pthread team only */
    int32_t cpu
        []; /* [n] atomic: CPU of each rank when it came to a barrier, -1 unknown; writer: the rank */
};

static struct {
    uint32_t fail_in; /* atomic; fault hook: threads until the one that cannot be made */
} hook;

void wk_team_fail_at(uint32_t n) { __atomic_store_n(&hook.fail_in, n, __ATOMIC_RELAXED); }

/* ---- FP state ---------------------------------------------------------------------------------- */

uint32_t wk_fp_enter(void) {
#if WK_X86_64
    const uint32_t saved = _mm_getcsr();
    if (saved != 0x1f80u) _mm_setcsr(0x1f80u);
    return saved;
#elif WK_ARM64
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return (uint32_t)saved;
#else
    return 0;
#endif
}

void wk_fp_leave(uint32_t saved) {
#if WK_X86_64
    _mm_setcsr(saved);
#elif WK_ARM64
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)saved));
#else
    (void)saved; /* no state that we know of */
#endif
}

/* ---- waiting ----------------------------------------------------------------------------------- */

WK_INLINE void pause_cpu(void) {
#if WK_X86_64
    _mm_pause();
#elif WK_ARM64
    __asm__ volatile("isb" : : : "memory");
#endif
}

WK_INLINE bool is_open(const wk_gate *g, uint32_t old) {
    return __atomic_load_n(&g->word.v, __ATOMIC_ACQUIRE) != old;
}

/* Spins for ns. The clock is read once per PAUSES: a pause lasts 10 to 140 cycles. */
static bool spin(const wk_gate *g, uint32_t old, uint64_t ns) {
    uint64_t end = 0;
    for (;;) {
        for (int i = 0; i < PAUSES; i++) {
            if (is_open(g, old)) return true;
            pause_cpu();
        }
        const uint64_t now = wk_os_now_ns();
        if (!end) end = now + ns;
        if (now >= end) return false;
    }
}

/* Sleeper: counts itself, then looks. Opener: changes the word, then looks at the count. Both in one
 * total order (seq_cst), so one of them sees the other. */
static void sleep_on(wk_gate *g, uint32_t old) {
    __atomic_fetch_add(&g->sleepers.v, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&g->word.v, __ATOMIC_SEQ_CST) == old)
        wk_os_futex_wait(&g->word.v, old, -1);
    __atomic_fetch_sub(&g->sleepers.v, 1, __ATOMIC_RELAXED);
}

/* Spins, then sleeps. A team with a CPU for each thread does not yield: beside a neighbour that hands him a whole slice
 * of the scheduler (3 ms), while a sleeper comes back at once. A larger team does not spin, it yields to its own. */
static void gate_wait(wk_gate *g, uint32_t old, uint64_t spin_ns) {
    if (spin_ns && spin(g, old, spin_ns)) return;
    for (int i = 0; i < N_YIELD && !spin_ns; i++) {
        if (is_open(g, old)) return;
        (void)sched_yield(); /* never fails here */
    }
    sleep_on(g, old);
}

static void gate_open(wk_gate *g, uint32_t next) {
    __atomic_store_n(&g->word.v, next, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&g->sleepers.v, __ATOMIC_SEQ_CST)) wk_os_futex_wake_all(&g->word.v);
}

/* Two ranks on one CPU, while another CPU is free or serves strangers: the kernel may leave it at that for seconds,
 * because one of the two always sleeps when it looks, and then every barrier costs a spin and two switches. Measured
 * with SmolLM2 beside a neighbour of nice 15 on 2 CPUs: 17 to 60 tokens a second on two threads, 110 to 220 on one.
 * So who has waited in vain, and stands on the CPU of another rank, moves to a CPU that has none. Spinning on for
 * milliseconds was measured too: beside two neighbours 4 to 19 tokens a second, 22 to 42 with sleep. */
static void unstack(wk_team *t, int rank) {
    const int32_t cpu = t->cpu[rank];
    bool shared = false;
    if (t->was) return; /* bound: it stays */
    for (int i = 0; i < t->n; i++)
        shared |= i != rank && __atomic_load_n(&t->cpu[i], __ATOMIC_RELAXED) == cpu;
    if (!shared || cpu < 0) return;
    const uint64_t now = wk_os_now_ns(), last = __atomic_load_n(&t->moved_ns, __ATOMIC_RELAXED);
    if (now - last < MOVE_NS) return;
    __atomic_store_n(&t->moved_ns, now, __ATOMIC_RELAXED);
    (void)wk_os_cpu_move(t->cpu, t->n); /* there may be none */
}

static void note_cpu(wk_team *t, int rank) {
    const int32_t cpu = wk_os_cpu();
    if (t->cpu[rank] != cpu) __atomic_store_n(&t->cpu[rank], cpu, __ATOMIC_RELAXED);
}

void wk_team_barrier(wk_team *t, int rank) {
    if (t->n == 1) return;
    note_cpu(t, rank);
    /* The phase cannot move before this thread has arrived, so it may be read first. */
    const uint32_t old = __atomic_load_n(&t->phase.word.v, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&t->arrived.v, 1, __ATOMIC_ACQ_REL) != (uint32_t)t->n) {
        if (!t->spins) {
            gate_wait(&t->phase, old, 0);
        } else if (!spin(&t->phase, old, SPIN_NS)) {
            unstack(t, rank);
            gate_wait(&t->phase, old, MOVED_SPIN_NS);
            note_cpu(t, rank); /* woken here, perhaps on the CPU of the one who woke it */
            unstack(t, rank);
        }
        return;
    }
    __atomic_store_n(&t->arrived.v, 0, __ATOMIC_RELAXED); /* published by the phase */
    gate_open(&t->phase, old + 1);
}

/* ---- making threads ---------------------------------------------------------------------------- */

static int thread_new(pthread_t *th, void *(*fn)(void *), void *arg) {
    uint32_t left = __atomic_load_n(&hook.fail_in, __ATOMIC_RELAXED);
    if (left) __atomic_store_n(&hook.fail_in, left - 1, __ATOMIC_RELAXED);
    return left == 1 ? -1 : pthread_create(th, NULL, fn, arg);
}

static void quit_threads(wk_team *t, int n) {
    t->quits = true;
    gate_open(&t->job, t->job.word.v + 1);
    for (int i = 0; i < n; i++) (void)pthread_join(t->thread[i], NULL); /* ours and joinable */
}

/* Makes n - 1 threads that run fn(team); signals of the host stay with its own threads. */
static bool make_threads(wk_team *t, void *(*fn)(void *)) {
    t->thread = wk_new_n(pthread_t, (size_t)t->n);
    if (!t->thread) return false;
    sigset_t all, old;
    (void)sigfillset(&all); /* cannot fail */
    if (pthread_sigmask(SIG_BLOCK, &all, &old)) return false;
    int made = 0;
    while (made < t->n - 1 && thread_new(&t->thread[made], fn, t) == 0) made++;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL); /* back to what it was */
    if (made == t->n - 1) return true;
    quit_threads(t, made);
    return false;
}

static void run_rank(wk_team *t, int rank) {
    const uint32_t saved = wk_fp_enter();
    t->fn(t->ud, rank);
    wk_fp_leave(saved);
}

#if WICK_PTHREADS

/* Ranks are dealt by the barrier's own counter at start: no argument per thread is needed. */
static void *worker(void *arg) {
    wk_team *t = (wk_team *)arg;
    const int rank = (int)__atomic_add_fetch(&t->arrived.v, 1, __ATOMIC_ACQ_REL);
    for (uint32_t job = 0;; job++) {
        gate_wait(&t->job, job, t->spins ? MOVED_SPIN_NS : 0);
        if (t->quits) return NULL;
        run_rank(t, rank);
        wk_team_barrier(t, rank);
    }
}

static bool start(wk_team *t) {
    if (!make_threads(t, worker)) return false;
    while (__atomic_load_n(&t->arrived.v, __ATOMIC_ACQUIRE) != (uint32_t)t->n - 1)
        (void)sched_yield();
    __atomic_store_n(&t->arrived.v, 0, __ATOMIC_RELEASE);
    return true;
}

static void stop(wk_team *t) {
    if (t->n > 1) quit_threads(t, t->n - 1);
}

static void run_all(wk_team *t) {
    if (t->n > 1) gate_open(&t->job, t->job.word.v + 1);
    run_rank(t, 0);
    wk_team_barrier(t, 0);
}

#else

static void *do_nothing(void *arg) {
    gate_wait(&((wk_team *)arg)->job, 0, 0);
    return NULL;
}

/* The region ends with our barrier: libgomp's own, where threads would wait for the slowest one, spins for milliseconds
 * whatever else wants the CPU, and its patience can only be set from outside of the process. */
static void run_all(wk_team *t) {
    const int dynamic = omp_get_dynamic();
    if (dynamic) omp_set_dynamic(0);
#pragma omp parallel num_threads(t->n)
    {
        const int rank = omp_get_thread_num();
        run_rank(t, rank);
        wk_team_barrier(t, rank);
    }
    if (dynamic) omp_set_dynamic(dynamic);
}

/* libgomp ends the process when it cannot make a thread. So the same number is made and joined first,
 * all of them alive at once; then the runtime makes its own, once, and it must have given us all. */
static bool start(wk_team *t) {
    if (!make_threads(t, do_nothing)) return false;
    quit_threads(t, t->n - 1);
    sigset_t all, old;
    (void)sigfillset(&all); /* cannot fail */
    if (pthread_sigmask(SIG_BLOCK, &all, &old)) return false;
    int seen =
        0; /* without our barrier: a team that is too small must not wait for the rest of it */
    const int dynamic = omp_get_dynamic();
    omp_set_dynamic(0);
#pragma omp parallel num_threads(t->n) reduction(+ : seen)
    seen++;
    omp_set_dynamic(dynamic);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL); /* back to what it was */
    return seen == t->n;
}

static void stop(wk_team *t) { (void)t; /* the runtime keeps its workers for the next team */ }

#endif

wk_team *wk_team_new(int n, int n_cpu) {
    if (n < 1) return NULL;
    wk_team *t = (wk_team *)wk_alloc_aligned(sizeof(wk_team) + (size_t)n * sizeof(int32_t) +
                                             FAR); /* a last line of its own */
    if (!t) return NULL;
    t->n = n;
    for (int i = 0; i < n; i++) t->cpu[i] = -1;
    t->spins = n <= n_cpu;
    if (n == 1 || start(t)) return t;
    wk_free(t->thread);
    wk_free_aligned(t);
    return NULL;
}

static void bind_rank(void *ud, int rank) {
    wk_team *t = ud;
    if (wk_os_cpu_bind(t->bind[rank % t->n_bind], t->was + (size_t)rank * WK_OS_MASK)) return;
    t->was[(size_t)rank * WK_OS_MASK] = 0; /* an empty mask gives nothing back */
    __atomic_fetch_add(&t->refused, 1, __ATOMIC_RELAXED);
}

static void free_rank(void *ud, int rank) {
    const wk_team *t = ud;
    wk_os_cpu_free(t->was + (size_t)rank * WK_OS_MASK);
}

static void unbind(wk_team *t) {
    wk_team_run(t, free_rank, t);
    wk_free(t->was);
    t->was = NULL;
}

bool wk_team_bind(wk_team *t, const int32_t *cpu, int n) {
    if (n < 1) return false;
    if (t->was) unbind(t);
    t->was = wk_new_n(uint64_t, (size_t)t->n * WK_OS_MASK);
    if (!t->was) return false;
    t->bind = cpu;
    t->n_bind = n;
    t->refused = 0;
    wk_team_run(t, bind_rank, t);
    t->bind = NULL;
    if (!t->refused) return true;
    unbind(t);
    return false;
}

void wk_team_free(wk_team *t) {
    if (!t) return;
    if (t->was) unbind(t);
    if (t->n > 1) stop(t);
    wk_free(t->thread);
    wk_free_aligned(t);
}

int wk_team_size(const wk_team *t) { return t->n; }

void wk_team_run(wk_team *t, void (*fn)(void *ud, int rank), void *ud) {
    t->fn = fn;
    t->ud = ud;
    if (t->n == 1)
        run_rank(t, 0);
    else
        run_all(t);
}

/* ---- tickets ----------------------------------------------------------------------------------- */

static uint64_t run_of(uint32_t first, uint32_t end) { return first | (uint64_t)end << 32; }
static uint32_t first_of(uint64_t left) { return (uint32_t)left; }
static uint32_t count_of(uint64_t left) { return (uint32_t)(left >> 32) - (uint32_t)left; }

static void deal(wk_tickets *k, uint32_t n, uint32_t n_run) {
    k->n = n;
    k->n_run = n_run;
    for (uint32_t i = 0; i < n_run; i++) /* the barrier publishes them */
        __atomic_store_n(&k->run[i].left,
                         run_of((uint32_t)((uint64_t)n * i / n_run), (uint32_t)((uint64_t)n * (i + 1) / n_run)),
                         __ATOMIC_RELAXED);
}

void wk_tickets_set(wk_tickets *k, uint32_t n, int team) {
    k->alone = team == 1;
    deal(k, n, team < WK_TICKET_RUNS ? (uint32_t)team : WK_TICKET_RUNS);
}

void wk_tickets_set_free(wk_tickets *k, uint32_t n, int team) {
    k->alone = team == 1;
    deal(k, n, 1);
}

enum { SEES_ALL = 8 }; /* runs up to which a thread looks at all of them */

/* The longest run that is left of those that rank looks at: of many, some near and far, since each look is a line of
 * another core and the owner of a run comes to its end in any case. n_run: none is left. */
static uint32_t longest(const wk_tickets *k, uint32_t own) {
    uint32_t best = k->n_run, most = 0;
    for (uint32_t step = 1; step < k->n_run; step += k->n_run > SEES_ALL ? step : 1) {
        const uint32_t i = (own + step) % k->n_run, n = count_of(__atomic_load_n(&k->run[i].left, __ATOMIC_RELAXED));
        if (n <= most) continue;
        most = n;
        best = i;
    }
    return best;
}

/* Tickets of run i, from its front or from its end: (left * share + 3) / 4, or one; 0 when it is used up. */
static uint32_t take(wk_tickets *k, uint32_t i, bool from_end, uint32_t share, uint32_t *first) {
    uint64_t left = __atomic_load_n(&k->run[i].left, __ATOMIC_RELAXED), rest;
    uint32_t n;
    do {
        const uint32_t at = first_of(left), all = count_of(left);
        if (!all) return 0;
        n = share ? (uint32_t)(((uint64_t)all * share + 3) / 4) : 1;
        *first = from_end ? at + all - n : at;
        rest = from_end ? run_of(at, at + all - n) : run_of(at + n, at + all);
    } while (!__atomic_compare_exchange_n(&k->run[i].left, &left, rest, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return n;
}

/* From the own run, then from the longest one; a run that another emptied meanwhile is looked past. */
static uint32_t take_any(wk_tickets *k, int rank, uint32_t own_share, uint32_t share, uint32_t *first) {
    const uint32_t own = (uint32_t)rank % k->n_run;
    uint32_t n = take(k, own, false, own_share, first);
    for (uint32_t i; !n && (i = longest(k, own)) < k->n_run;) n = take(k, i, true, share, first);
    return n;
}

bool wk_tickets_next(wk_tickets *k, int rank, uint32_t *ticket) { return take_any(k, rank, 0, 0, ticket) != 0; }

bool wk_tickets_next_run(wk_tickets *k, int rank, uint32_t *first, uint32_t *n) {
    *n = take_any(k, rank, k->alone ? 4 : 3, 2, first);
    return *n != 0;
}

/* pool.h: the team of threads, its barrier, its tickets and the FP state.
 *
 * One OpenMP parallel region (or pthreads, WICK_PTHREADS=1) per wk_team_run. Inside it threads meet at
 * wk_team_barrier; arrival counter and release flag stand on separate 128-byte lines; a waiter spins for 20 us, moves
 * to another CPU if it stands on that of a fellow, spins for 50 us more, then sleeps on a futex. In a team that is
 * larger than the CPUs allowed it yields instead of spinning. */
#ifndef WK_POOL_H
#define WK_POOL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct wk_team wk_team;

/* n >= 1 threads. NULL: no memory or no thread. n_cpu: CPUs allowed (above it waiting does not spin).
 * Call it on the thread that will call wk_team_run, outside any parallel region: OpenMP keeps one set of
 * workers per calling thread, and they are made here, where a failure can still be reported. */
wk_team *wk_team_new(int n, int n_cpu);
void wk_team_free(wk_team *t); /* NULL is fine */
int wk_team_size(const wk_team *t);
/* Binds rank r, the caller among them, to CPU cpu[r % n], until the team is freed. false: the system refused one of
 * them, and all are free again. */
bool wk_team_bind(wk_team *t, const int32_t *cpu, int n);
/* Fault injection: the n-th thread that wk_team_new makes from now on fails (0 = off). Tests only. */
void wk_team_fail_at(uint32_t n);

/* Runs fn(ud, rank) on every thread of the team, rank 0 is the caller. Returns when all are done.
 * FP state is set to nearest-even with denormals on every thread, and restored for the caller. */
void wk_team_run(wk_team *t, void (*fn)(void *ud, int rank), void *ud);
/* All threads of the running region arrive before one leaves. */
void wk_team_barrier(wk_team *t, int rank);

/* Tickets: 0 .. n-1 are handed out once each. Each thread has a run of its own that it takes from the front, so that
 * what it reads is one ascending stream; who is done takes from the end of the longest run that it sees. Reset happens
 * by wk_tickets_set on ONE thread before the barrier that opens the stage (a stage uses the record of its parity, so
 * resetting never races). */
enum { WK_TICKET_RUNS = 64 }; /* of a larger team several threads share a run */
typedef struct wk_tickets {
    uint32_t n, n_run;
    bool alone; /* a team of one */
    struct {
        uint64_t left; /* atomic: first free one, and above it << 32 the end */
        uint64_t apart[7];
    } run[WK_TICKET_RUNS];
} wk_tickets;
void wk_tickets_set(wk_tickets *k, uint32_t n, int team);
/* One run for all: for tickets of unlike size, the largest first. */
void wk_tickets_set_free(wk_tickets *k, uint32_t n, int team);
/* False when there is none left for this rank. */
bool wk_tickets_next(wk_tickets *k, int rank, uint32_t *ticket);
/* The same, *n tickets from *first on: most of what is left of the own run, half of another's. */
bool wk_tickets_next_run(wk_tickets *k, int rank, uint32_t *first, uint32_t *n);

/* Sets nearest-even, denormals kept, exceptions masked; returns what must be given back. */
uint32_t wk_fp_enter(void);
void wk_fp_leave(uint32_t saved);

#endif

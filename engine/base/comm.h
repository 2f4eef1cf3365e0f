/* comm.h: the ranks of a job: MPI where it is built in and the program was started by mpirun, else one rank. The only
 * file that includes mpi.h is comm.c. One thread calls all of it (MPI_THREAD_FUNNELED). */
#ifndef WK_COMM_H
#define WK_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"

typedef struct wk_comm wk_comm;

bool wk_comm_built_in(void);
/* Whether this process was started as one of several (the launcher's environment is not read: MPI is asked; without
 * MPI always one). Once per process. Errors: E_DEVICE with MPI's text, E_NOMEM. */
int wk_comm_open(wk_comm **out, wk_err *err);
/* Every rank calls it. NULL is fine. */
void wk_comm_close(wk_comm *c);
int wk_comm_rank(const wk_comm *c); /* 0 for NULL */
int wk_comm_size(const wk_comm *c); /* 1 for NULL */

/* Sums over all ranks, in place, everywhere the same bits. E_DEVICE: a rank is gone, or MPI's text. One rank: nothing
 * happens. */
int wk_comm_sum_f32(wk_comm *c, float *x, size_t n, wk_err *err);
int wk_comm_sum_f64(wk_comm *c, double *x, size_t n, wk_err *err);
/* The same, begun now: x belongs to the call until wait, which ends all that were begun. At most 64 at a time, then
 * begin waits for the oldest. */
int wk_comm_begin_sum_f32(wk_comm *c, float *x, size_t n, wk_err *err);
int wk_comm_wait(wk_comm *c, wk_err *err);
/* From rank 0 to all. */
int wk_comm_bcast(wk_comm *c, void *p, size_t n, wk_err *err);
int wk_comm_barrier(wk_comm *c, wk_err *err);

#endif

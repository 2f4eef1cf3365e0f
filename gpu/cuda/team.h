/* team.h: rows dealt to threads of the host, for work that is done once: weights on their way to the device. */
#ifndef WKC_TEAM_H
#define WKC_TEAM_H

#include <stdint.h>

typedef void wkc_rows_fn(void *ud, int32_t from, int32_t to);

/* Calls fn for ranges that are [0, n) together, from up to n_thread threads at once, the caller's one of them; back when all
 * are done. A thread that cannot be had is done without: its range is the caller's. */
void wkc_team_run(int n_thread, int32_t n, wkc_rows_fn *fn, void *ud);

#endif

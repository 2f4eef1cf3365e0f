/* team.cpp: threads for one piece of work. They are made anew each time: a piece is megabytes, a thread some ten
 * microseconds; and nothing waits in a module that is never closed. POSIX threads, for std::thread throws. */
#include "gpu/cuda/team.h"

#include <pthread.h>

namespace {

enum { MOST = 64 };

struct share {
    wkc_rows_fn *fn;
    void *ud;
    int32_t from, to;
    pthread_t thread;
    bool is_running;
};

void *run(void *p) {
    const share *s = (const share *)p;
    s->fn(s->ud, s->from, s->to);
    return NULL;
}

} // namespace

void wkc_team_run(int n_thread, int32_t n, wkc_rows_fn *fn, void *ud) {
    share s[MOST];
    int32_t most = n_thread < 1 ? 1 : n_thread > MOST ? MOST : n_thread;
    if (most > n) most = n;
    for (int32_t i = most; i-- > 0;) { /* the caller takes the first when all others are under way */
        const int64_t from = (int64_t)n * i / most, to = (int64_t)n * (i + 1) / most;
        s[i] = {fn, ud, (int32_t)from, (int32_t)to, {}, false};
        if (i > 0) s[i].is_running = pthread_create(&s[i].thread, NULL, run, &s[i]) == 0;
        if (!s[i].is_running) run(&s[i]);
    }
    for (int32_t i = 1; i < most; i++)
        if (s[i].is_running) (void)pthread_join(s[i].thread, NULL); /* it is ours and joinable */
}

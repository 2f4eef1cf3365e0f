/* warm.c: the background populating of pages.
 *
 * A KV cache of 8192 positions is 150 to 260 MB, which the kernel must clear: as long as packing a small model takes,
 * and nearly all of it for nothing when the answer is short. It cannot wait for the first use either: a token would
 * now and then take the faults of a page. So a thread does it in the gaps that the team leaves. It is of the idle
 * class: a thread that is only nicer (10 steps) holds a CPU for a slice of 3 ms whenever a member of the team has
 * slept, and decoding beside it falls to a third; an idle one gives way at once. */
#include "engine/base/warm.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"

#define PIECE ((size_t)2 << 20)

struct wk_warm {
    const uint8_t *p;
    size_t n;
    pthread_t thread;
    atomic_bool stops; /* writer: wk_warm_stop */
};

static void *warm_all(void *ud) {
    wk_warm *w = (wk_warm *)ud;
    const struct sched_param none = {0};
    (void)sched_setscheduler(0, SCHED_IDLE, &none); /* of the calling thread on Linux; a wish */
    for (size_t at = 0; at < w->n && !atomic_load(&w->stops); at += PIECE)
        wk_os_populate(w->p + at, w->n - at < PIECE ? w->n - at : PIECE, true);
    return NULL;
}

wk_warm *wk_warm_start(const void *p, size_t n) {
    sigset_t all, old;
    if (n == 0) return NULL;
    wk_warm *w = wk_new(wk_warm);
    if (!w) return NULL;
    w->p = (const uint8_t *)p;
    w->n = n;
    (void)sigfillset(&all); /* cannot fail */
    if (pthread_sigmask(SIG_BLOCK, &all, &old) == 0) {
        const int failed = pthread_create(&w->thread, NULL, warm_all, w);
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL); /* back to what it was */
        if (!failed) return w;
    }
    wk_free(w);
    return NULL;
}

void wk_warm_stop(wk_warm *w) {
    if (!w) return;
    atomic_store(&w->stops, true);
    (void)pthread_join(w->thread, NULL); /* ours and joinable */
    wk_free(w);
}

/* bench_cross.c: see bench_cross.h. */
#include "engine/app/bench_cross.h"

#include <stdio.h>

static void sort(wk_cross_point *p, int n) {
    for (int i = 1; i < n; i++) {
        const wk_cross_point kept = p[i];
        int k = i;
        for (; k > 0 && p[k - 1].x > kept.x; k--) p[k] = p[k - 1];
        p[k] = kept;
    }
}

int wk_cross_find(wk_cross_point *p, int n) {
    int at = n;
    sort(p, n);
    while (at > 0 && p[at - 1].sign > 0) at--;
    return at < n ? at : -1;
}

void wk_cross_say(wk_cross_point *p, int n, const char *what, const char *device, const char *unit, char *out,
                  size_t cap) {
    const int at = wk_cross_find(p, n);
    int ahead = 0;
    for (int i = 0; i < n; i++) ahead += p[i].sign > 0;
    if (at == 0)
        (void)snprintf(out, cap, "%s: %s is ahead of cpu at every measured place, %.0f .. %.0f %s", what, device, p[0].x,
                       p[n - 1].x, unit);
    else if (at > 0)
        (void)snprintf(out, cap, "%s: %s is ahead of cpu from %.0f %s on (%.0f: %s)", what, device, p[at].x, unit,
                       p[at - 1].x, p[at - 1].sign < 0 ? "behind" : "no difference");
    else
        (void)snprintf(out, cap, "%s: no crossover up to %.0f %s: there %s is %s%s", what, p[n - 1].x, unit, device,
                       p[n - 1].sign < 0 ? "behind cpu" : "no different from cpu",
                       ahead ? ", though ahead at some smaller ones" : "");
}

/* energy.c: see energy.h. Top-level zones only (intel-rapl:0, intel-rapl:1 ...): the zones below are parts of them. */
#include "engine/app/energy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/os.h"

static bool read_u64(const char *path, uint64_t *out) {
    char text[32], *end;
    if (wk_os_read_small(path, text, sizeof(text)) <= 0) return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && end != text && (*end == 0 || *end == '\n');
}

static void add_zone(wk_energy *e, const char *folder) {
    char file[192];
    const int i = e->n_zone;
    (void)snprintf(e->path[i], sizeof(e->path[i]), "%s/energy_uj", folder);
    (void)snprintf(file, sizeof(file), "%s/max_energy_range_uj", folder);
    if (!read_u64(e->path[i], &e->last[i])) return;
    if (!read_u64(file, &e->range[i])) e->range[i] = 0;
    e->n_zone++;
}

void wk_energy_open(wk_energy *e, const char *root, double watts) {
    char folder[128], name[192], text[32];
    bool seen = false;
    *e = (wk_energy){.watts = watts};
    if (watts > 0) {
        e->source = WK_ENERGY_WATTS;
        return;
    }
    for (int i = 0; i < WK_ENERGY_ZONES; i++) {
        (void)snprintf(folder, sizeof(folder), "%s/sys/class/powercap/intel-rapl:%d", root, i);
        (void)snprintf(name, sizeof(name), "%s/name", folder);
        if (wk_os_read_small(name, text, sizeof(text)) <= 0) continue;
        seen = true;
        if (strncmp(text, "package", 7) == 0) add_zone(e, folder);
    }
    if (e->n_zone) {
        e->source = WK_ENERGY_RAPL;
        return;
    }
    (void)snprintf(
        e->why, sizeof(e->why), "not readable: %s",
        seen
            ? "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj makes it so"
            : "no powercap counters here; outside a virtual machine: sudo modprobe intel_rapl_msr");
}

static double now_s(void) { return (double)wk_os_now_ns() * 1e-9; }

double wk_energy_read(wk_energy *e) {
    if (e->source == WK_ENERGY_WATTS) return e->watts * now_s();
    for (int i = 0; i < e->n_zone; i++) {
        uint64_t now;
        if (!read_u64(e->path[i], &now)) continue;
        if (now >= e->last[i])
            e->joules += (double)(now - e->last[i]) * 1e-6;
        else if (e->range[i] >= e->last[i])
            e->joules += (double)(e->range[i] - e->last[i] + now) * 1e-6;
        e->last[i] = now;
    }
    return e->joules;
}

void wk_energy_idle(wk_energy *e) {
    if (e->source != WK_ENERGY_RAPL) return;
    const double t = now_s(), j = wk_energy_read(e);
    const struct timespec half = {.tv_nsec = 500000000};
    (void)nanosleep(&half, NULL); /* a shorter sleep is measured as such */
    const double s = now_s() - t;
    if (s > 0.1) e->idle = (wk_energy_read(e) - j) / s;
}

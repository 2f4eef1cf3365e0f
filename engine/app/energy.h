/* energy.h: joules that the processor took, from the powercap counters of the kernel. Read when they can be read, never
 * estimated, unless the caller gives a power and then says so. */
#ifndef WK_ENERGY_H
#define WK_ENERGY_H

#include <stdbool.h>
#include <stdint.h>

enum { WK_ENERGY_ZONES = 8 };
typedef enum wk_energy_source { WK_ENERGY_NONE, WK_ENERGY_RAPL, WK_ENERGY_WATTS } wk_energy_source;

typedef struct wk_energy {
    wk_energy_source source;
    int n_zone; /* packages */
    char path[WK_ENERGY_ZONES][160];
    uint64_t last[WK_ENERGY_ZONES], range[WK_ENERGY_ZONES]; /* microjoules; range: where a counter begins again */
    double joules; /* since open */
    double watts;  /* given by the caller */
    double idle;   /* watts of the idle machine, 0 = not measured */
    char why[224]; /* NONE: why not, and what makes it readable */
} wk_energy;

/* root: "" = this machine; tests hand in a tree of their own. watts > 0: reckon with that power instead. */
void wk_energy_open(wk_energy *e, const char *root, double watts);
/* Joules since open. Each counter may begin again once between two readings. */
double wk_energy_read(wk_energy *e);
/* Watts over the next half second, into e->idle; nothing for other sources than RAPL. */
void wk_energy_idle(wk_energy *e);

#endif

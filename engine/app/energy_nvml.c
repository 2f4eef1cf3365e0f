/* energy_nvml.c: see energy_nvml.h. Five functions of NVML; each gives 0 when all is well. */
#include "engine/app/energy_nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef int plain_fn(void);
typedef int count_fn(unsigned *n);
typedef int card_fn(unsigned index, void **card);

static void refuse(wk_nvml *n, const char *why, long code) {
    if (n->lib) (void)dlclose(n->lib);
    *n = (wk_nvml){.lib = NULL};
    (void)snprintf(n->why, sizeof(n->why), "not readable: %.110s%.0ld", why, code);
}

/* POSIX has a function's address fit in a void pointer; C has no cast for it. */
static int find(void *lib, const char *name, void *fn) {
    void *p = dlsym(lib, name);
    memcpy(fn, &p, sizeof(p));
    return p != NULL;
}

void wk_nvml_open(wk_nvml *n, const char *lib) {
    plain_fn *init = NULL;
    count_fn *count = NULL;
    card_fn *card = NULL;
    unsigned n_card = 0;
    unsigned long long millijoules = 0;
    int rc;
    *n = (wk_nvml){.lib = dlopen(lib, RTLD_NOW | RTLD_LOCAL)};
    if (!n->lib) {
        const char *why = dlerror();
        refuse(n, why ? why : "the library cannot be loaded", 0);
        return;
    }
    if (!find(n->lib, "nvmlInit_v2", &init) || !find(n->lib, "nvmlShutdown", &n->shutdown) ||
        !find(n->lib, "nvmlDeviceGetCount_v2", &count) || !find(n->lib, "nvmlDeviceGetHandleByIndex_v2", &card) ||
        !find(n->lib, "nvmlDeviceGetTotalEnergyConsumption", &n->read)) {
        refuse(n, "this NVML has no counter of energy", 0);
        return;
    }
    if ((rc = init()) != 0) {
        refuse(n, "NVML does not start, error ", rc);
        return;
    }
    int (*const shutdown)(void) = n->shutdown;
    if ((rc = count(&n_card)) != 0)
        (void)snprintf(n->why, sizeof(n->why), "NVML counts no cards, error ");
    else if (n_card != 1 && (rc = (int)n_card) >= 0)
        (void)snprintf(n->why, sizeof(n->why), "NVML names its cards in an order of its own, and which is meant is not known; cards: ");
    else if ((rc = card(0, &n->card)) != 0)
        (void)snprintf(n->why, sizeof(n->why), "NVML does not give the card, error ");
    else if ((rc = n->read(n->card, &millijoules)) != 0)
        (void)snprintf(n->why, sizeof(n->why), "the card has no counter of energy, error ");
    else
        return;
    char why[160];
    (void)snprintf(why, sizeof(why), "%s", n->why);
    (void)shutdown(); /* before its code goes */
    refuse(n, why, rc);
}

double wk_nvml_read(const wk_nvml *n) {
    unsigned long long millijoules = 0;
    return n->lib && n->read(n->card, &millijoules) == 0 ? (double)millijoules * 1e-3 : 0;
}

void wk_nvml_close(wk_nvml *n) {
    if (!n->lib) return;
    (void)n->shutdown(); /* nothing could be done about it */
    (void)dlclose(n->lib);
    *n = (wk_nvml){.lib = NULL};
}

/* fake_nvml.c: a library like the one of a card's driver: a counter that takes 1.5 J a reading. The environment says
 * what is wrong with it: WICK_FAKE_NVML=init, count, card, read (the call fails with 3), or two (cards). */
#include <stdlib.h>
#include <string.h>

__attribute__((visibility("default"))) int nvmlInit_v2(void);
__attribute__((visibility("default"))) int nvmlShutdown(void);
__attribute__((visibility("default"))) int nvmlDeviceGetCount_v2(unsigned *n);
__attribute__((visibility("default"))) int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **card);
__attribute__((visibility("default"))) int nvmlDeviceGetTotalEnergyConsumption(void *card, unsigned long long *millijoules);

static unsigned long long total;

static int wrong(const char *what) {
    const char *e = getenv("WICK_FAKE_NVML");
    return e && strcmp(e, what) == 0;
}

int nvmlInit_v2(void) { return wrong("init") ? 3 : 0; }
int nvmlShutdown(void) { return 0; }

int nvmlDeviceGetCount_v2(unsigned *n) {
    *n = wrong("two") ? 2 : 1;
    return wrong("count") ? 3 : 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **card) {
    *card = &total;
    return index || wrong("card") ? 3 : 0;
}

int nvmlDeviceGetTotalEnergyConsumption(void *card, unsigned long long *millijoules) {
    if (card != &total || wrong("read")) return 3;
    *millijoules = total += 1500;
    return 0;
}

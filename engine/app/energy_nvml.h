/* energy_nvml.h: joules that a card took, by the library that comes with its driver; it is loaded, not linked. */
#ifndef WK_ENERGY_NVML_H
#define WK_ENERGY_NVML_H

typedef struct wk_nvml {
    void *lib, *card; /* lib NULL: not readable */
    int (*read)(void *card, unsigned long long *millijoules);
    int (*shutdown)(void);
    char why[160]; /* "not readable: ..." */
} wk_nvml;

/* lib: what the loader of programs takes: "libnvidia-ml.so.1". Only where it knows one card: it counts them in an order
 * of its own, and a wrong card's joules are worse than none. */
void wk_nvml_open(wk_nvml *n, const char *lib);
/* Joules of the card's counter; 0 where it cannot be read. */
double wk_nvml_read(const wk_nvml *n);
void wk_nvml_close(wk_nvml *n); /* one of zeros is fine */

#endif

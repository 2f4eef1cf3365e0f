/* machine_impl.h: between machine.c and cpus.c: reading small files below a root, and affinity masks. */
#ifndef WK_MACHINE_IMPL_H
#define WK_MACHINE_IMPL_H

#include "engine/base/os.h"

/* An unsigned number at *p; moves *p behind it. False when there is none or it is too big. */
bool wk_read_u64(const char **p, uint64_t *out);
bool wk_read_below(char *buf, size_t cap, const char *root, const char *path, const char *name);

typedef struct wk_cpu_mask {
    uint64_t *word; /* [n] */
    size_t n;
} wk_cpu_mask;
/* Of the calling thread; word is the caller's to free. */
bool wk_cpu_mask_get(wk_cpu_mask *m);
void wk_cpus_count(wk_machine *m, const char *root, const wk_cpu_mask *mask);

#endif

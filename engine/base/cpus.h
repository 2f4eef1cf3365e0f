/* cpus.h: which CPUs a team is bound to. */
#ifndef WK_CPUS_H
#define WK_CPUS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"

/* CPUs of list ("0-3,8"; NULL: the whole affinity mask of the calling thread) in the order in which threads take them:
 * one per core first, fast cores before slow ones, then the other siblings. *n <= cap of them, each once.
 * Errors: E_ARG (no list of CPUs; a CPU outside of the mask: which, and what is allowed; more than cap). */
int wk_cpus_choose(int32_t *out, int32_t *n, int32_t cap, const char *list, wk_err *err);
/* The same below another root, for a given mask (os.h, wk_os_machine_at). */
int wk_cpus_choose_at(int32_t *out, int32_t *n, int32_t cap, const char *list, const char *root,
                      const uint64_t *mask, size_t n_word, wk_err *err);

#endif

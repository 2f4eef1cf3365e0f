/* models.c: the list of architectures and the lookup by name. */
#include <string.h>

#include "models/arch.h"

#define WK_MODEL(id) extern const wk_arch wk_arch_##id;
#include "models/models.def"
#undef WK_MODEL

#define WK_MODEL(id) &wk_arch_##id,
const wk_arch *const wk_archs[] = {
#include "models/models.def"
    NULL,
};
#undef WK_MODEL

const wk_arch *wk_arch_find(const char *name, size_t len) {
    for (size_t i = 0; wk_archs[i]; i++) {
        const char *have = wk_archs[i]->name;
        if (strlen(have) == len && memcmp(have, name, len) == 0) return wk_archs[i];
    }
    return NULL;
}

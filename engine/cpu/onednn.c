/* onednn.c: dnnl_sgemm by dlopen. Linked in, the library and what it needs (OpenCL) would cost every start of the
 * program. The header gives the types, so a build that knows the header can use the library, wherever it then runs. */
#include "engine/cpu/onednn.h"

#include <dlfcn.h>
#include <string.h>

#include "engine/base/arena.h"

#if WK_WITH_ONEDNN
#include <oneapi/dnnl/dnnl.h>

struct wk_onednn {
    __typeof__(&dnnl_sgemm) sgemm;
    void (*set_threads)(int n); /* omp_set_num_threads of the runtime that it uses; NULL: none */
    int n_thread;
};

/* Never closed: its workers live as long as the process. */
static void *library(void) {
    static const char *const name[] = {"libdnnl.so.2", "libdnnl.so.3", "libdnnl.so"};
    void *h = NULL;
    for (size_t i = 0; i < WK_COUNT(name) && !h; i++) h = dlopen(name[i], RTLD_NOW | RTLD_LOCAL);
    return h;
}

bool wk_onednn_is_here(void) { return library() != NULL; }

/* The runtime that the program is linked with comes first, as for the library's own calls. */
static void *symbol(void *lib, const char *name) {
    void *p = dlsym(RTLD_DEFAULT, name);
    return p ? p : dlsym(lib, name);
}

int wk_onednn_open(wk_onednn **out, int n_thread, wk_err *err) {
    void *lib = library(), *sgemm = lib ? dlsym(lib, "dnnl_sgemm") : NULL;
    *out = NULL;
    if (!sgemm) {
        const char *why = dlerror();
        return wk_fail(err, WICK_E_UNSUPPORTED, "oneDNN was asked for: %s", why ? why : "it has no dnnl_sgemm");
    }
    wk_onednn *o = wk_new(wk_onednn);
    if (!o) return wk_fail(err, WICK_E_NOMEM, "no memory for oneDNN");
    void *set = symbol(lib, "omp_set_num_threads");
    memcpy(&o->sgemm, &sgemm, sizeof(sgemm)); /* ISO C has no cast from an object to a function */
    memcpy(&o->set_threads, &set, sizeof(set));
    o->n_thread = n_thread;
    *out = o;
    return WICK_OK;
}

void wk_onednn_close(wk_onednn *o) { wk_free(o); }

void wk_onednn_sgemm(const wk_onednn *o, const wk_onednn_call *c) {
    if (o->set_threads) o->set_threads(o->n_thread); /* of this thread's regions; cheap */
    (void)o->sgemm(c->turn_a ? 'T' : 'N', c->turn_b ? 'T' : 'N', c->m, c->n, c->k, 1.0f, c->a, c->lda, c->b,
                   c->ldb, c->add ? 1.0f : 0.0f, c->c, c->ldc); /* it fails for extents below 0 only */
}

#else

bool wk_onednn_is_here(void) { return false; }
int wk_onednn_open(wk_onednn **out, int n_thread, wk_err *err) {
    (void)n_thread;
    *out = NULL;
    return wk_fail(err, WICK_E_UNSUPPORTED, "oneDNN was asked for, but this build is without it");
}
void wk_onednn_close(wk_onednn *o) { (void)o; }
void wk_onednn_sgemm(const wk_onednn *o, const wk_onednn_call *c) {
    (void)o;
    (void)c;
}

#endif

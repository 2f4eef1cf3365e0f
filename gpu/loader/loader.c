/* loader.c: finds a module of a device, loads it and checks what it says of itself. */
#include "gpu/loader/loader.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/str.h"

enum { KIND_MAX = 16, MAX_INDEX = 1023 };

#ifndef WK_LIBDIR
#define WK_LIBDIR "lib" /* where the build installs libraries, from above the programs: "lib64", "lib/x86_64-linux-gnu" */
#endif

const char *wk_gpu_kind(int i) {
    static const char *const kinds[] = {"cuda"};
    return i >= 0 && (size_t)i < WK_COUNT(kinds) ? kinds[i] : NULL;
}

/* ---- names --------------------------------------------------------------------------------------- */

size_t wk_gpu_name_bytes(const char *spec) {
    const char *colon = strrchr(spec, ':');
    const bool has_index = colon && colon[1] && strspn(colon + 1, "0123456789") == strlen(colon + 1);
    return has_index ? (size_t)(colon - spec) : strlen(spec);
}

/* What stands before ":digits", and their number. */
static int split_spec(const char *spec, size_t *n, int *index, wk_err *err) {
    *n = wk_gpu_name_bytes(spec);
    *index = 0;
    if (!spec[*n]) return WICK_OK;
    const char *digits = spec + *n + 1;
    const long v = strlen(digits) > 6 ? MAX_INDEX + 1L : strtol(digits, NULL, 10);
    if (v > MAX_INDEX)
        return wk_fail(err, WICK_E_ARG, "device \"%s\": its index must lie in 0 .. %d", wk_show(wk_cstr(spec)).text,
                       MAX_INDEX);
    *index = (int)v;
    return WICK_OK;
}

static bool is_kind(const char *s, size_t n) {
    if (n == 0 || n > KIND_MAX) return false;
    for (size_t i = 0; i < n; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9'))) return false;
    return true;
}

/* ---- where modules lie --------------------------------------------------------------------------- */

/* The folder of the library that holds this function, or of the program that it is linked into. */
static bool own_folder(char out[PATH_MAX]) {
    char path[PATH_MAX];
    Dl_info info;
    const char *(*self)(int) = wk_gpu_kind;
    const char *file = NULL;
    void *at = NULL;
    memcpy(&at, &self, sizeof(at)); /* ISO C has no cast from a function to an object */
#ifdef __GLIBC__
    struct link_map *map = NULL;
    if (!dladdr1(at, &info, (void **)&map, RTLD_DL_LINKMAP)) return false;
    if (map && map->l_name && map->l_name[0]) file = map->l_name;
#else
    if (!dladdr(at, &info)) return false;
    if (info.dli_fname && info.dli_fname[0] == '/') file = info.dli_fname;
#endif
    if (file) {
        (void)snprintf(path, sizeof(path), "%s", file);
    } else { /* the program: its own name is how it was called */
        const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
        if (n <= 0) return false;
        path[n] = 0;
    }
    if (!realpath(path, out)) return false;
    char *slash = strrchr(out, '/');
    if (!slash) return false;
    *(slash == out ? slash + 1 : slash) = 0;
    return true;
}

/* The first place that has it. */
static int find_kind(char out[PATH_MAX], const char *kind, size_t n, wk_err *err) {
    static const char *const beside[] = {"", "/wick", "/../lib", "/../lib/wick", "/../" WK_LIBDIR, "/../" WK_LIBDIR "/wick"};
    char folder[PATH_MAX];
    if (!own_folder(folder))
        return wk_fail(err, WICK_E_DEVICE, "%.*s: the folder that this program lies in cannot be found", (int)n, kind);
    for (size_t i = 0; i < WK_COUNT(beside); i++) {
        const int len = snprintf(out, PATH_MAX, "%s%s/libwick_%.*s.so", folder, beside[i], (int)n, kind);
        if (len > 0 && len < PATH_MAX && access(out, F_OK) == 0) return WICK_OK;
    }
    return wk_fail(err, WICK_E_DEVICE,
                   "no module for %.*s: libwick_%.*s.so is neither in %s nor in wick or ../lib beside it", (int)n,
                   kind, (int)n, kind, wk_show(wk_cstr(folder)).text);
}

/* The file of a name. */
static int find_module(char out[PATH_MAX], const char *spec, int *index, wk_err *err) {
    size_t n = 0;
    WK_TRY(split_spec(spec, &n, index, err));
    if (spec[0] == '/') {
        if (n >= PATH_MAX)
            return wk_fail(err, WICK_E_ARG, "the path of a module has %zu bytes, at most %d are taken", n, PATH_MAX - 1);
        memcpy(out, spec, n);
        out[n] = 0;
        if (access(out, F_OK) == 0) return WICK_OK;
        return wk_fail(err, WICK_E_DEVICE, "there is no module %s", wk_show((wk_str){spec, n}).text);
    }
    if (!is_kind(spec, n))
        return wk_fail(err, WICK_E_ARG,
                       "device \"%s\" is unknown: cpu, auto, cuda, cuda:1, or the absolute path of a module",
                       wk_show(wk_cstr(spec)).text);
    return find_kind(out, spec, n, err);
}

/* ---- what a module says of itself ---------------------------------------------------------------- */

static bool is_whole(const wk_backend_ops *o) {
    return o->name && o->count && o->open && o->close && o->info && o->can && o->prepare && o->run && o->wait &&
           o->unprepare && o->put && o->get && o->bytes && o->trace_start && o->trace_stop && o->trace_read;
}

static int check_module(const wk_backend_ops *o, const char *path, wk_err *err) {
    const wk_shown file = wk_show(wk_cstr(path));
    if (!o) return wk_fail(err, WICK_E_DEVICE, "%s: its %s gives nothing", file.text, WK_BACKEND_SYMBOL);
    if (o->abi != WK_BACKEND_ABI)
        return wk_fail(err, WICK_E_ABI, "%s has version %u of the device interface, this wick has version %u",
                       file.text, (unsigned)o->abi, (unsigned)WK_BACKEND_ABI);
    if (o->size != sizeof(*o))
        return wk_fail(err, WICK_E_ABI, "%s has %u bytes of device interface, this wick has %u", file.text,
                       (unsigned)o->size, (unsigned)sizeof(*o));
    if (!is_whole(o)) return wk_fail(err, WICK_E_ABI, "%s: a function of the device interface is missing", file.text);
    return WICK_OK;
}

static int open_module(void **lib, char path[PATH_MAX], const char *spec, int *index, wk_err *err) {
    WK_TRY(find_module(path, spec, index, err));
    *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* the same handle each time */
    if (*lib) return WICK_OK;
    const char *why = dlerror();
    return wk_fail(err, WICK_E_DEVICE, "the module cannot be loaded: %.220s", why ? why : path);
}

int wk_gpu_module(const wk_backend_ops **out, const char *spec, int *index, wk_err *err) {
    char path[PATH_MAX];
    wk_backend_fn *fn = NULL;
    void *lib = NULL;
    *out = NULL;
    WK_TRY(open_module(&lib, path, spec, index, err));
    void *symbol = dlsym(lib, WK_BACKEND_SYMBOL);
    if (!symbol)
        return wk_fail(err, WICK_E_DEVICE, "%s is no module: it has no %s", wk_show(wk_cstr(path)).text,
                       WK_BACKEND_SYMBOL);
    memcpy(&fn, &symbol, sizeof(symbol));
    const wk_backend_ops *ops = fn();
    WK_TRY(check_module(ops, path, err));
    *out = ops;
    return WICK_OK;
}

int wk_gpu_load(const wk_backend_ops **out, const char *spec, int *index, wk_err *err) {
    const wk_backend_ops *ops;
    char why[200] = "";
    *out = NULL;
    WK_TRY(wk_gpu_module(&ops, spec, index, err));
    const int n = ops->count(why, sizeof(why));
    if (n <= 0)
        return wk_fail(err, WICK_E_DEVICE, "no device of %.32s: %s", ops->name,
                       why[0] ? why : "the module does not say why");
    if (*index >= n)
        return wk_fail(err, WICK_E_DEVICE, "%.32s has %d device%s, index %d was asked for", ops->name, n,
                       n == 1 ? "" : "s", *index);
    *out = ops;
    return WICK_OK;
}

int wk_gpu_symbol(void **fn, const char *spec, const char *symbol, wk_err *err) {
    char path[PATH_MAX];
    const wk_backend_ops *ops;
    void *lib = NULL;
    int index;
    *fn = NULL;
    WK_TRY(wk_gpu_load(&ops, spec, &index, err));
    WK_TRY(open_module(&lib, path, spec, &index, err));
    *fn = dlsym(lib, symbol);
    return WICK_OK;
}

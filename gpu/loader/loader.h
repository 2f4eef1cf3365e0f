/* loader.h: modules of devices, opened at run time. Always built, knows no device library.
 *
 * A device is named "cuda" or "cuda:1" (the module libwick_cuda.so that lies with this library, device 0 or 1), or
 * "/abs/libwick_x.so", "/abs/libwick_x.so:1" (any module, by its absolute path). A kind is looked for in the folder of
 * this library or program, in wick/ below it, and in ../lib and ../lib/wick beside it (and where the build installs
 * libraries, if that is not lib), and nowhere else: what the environment or the current folder hold cannot put a module
 * in its place. */
#ifndef WK_LOADER_H
#define WK_LOADER_H

#include "engine/graph/backend.h"

/* The module's functions, checked: symbol, ABI and size of the struct, no function missing. The index that stands
 * behind the name, 0 if none does, goes to *index. Loaded once per process and never closed: a device library leaves
 * threads and handlers behind that do not survive that. Thread: any.
 * Errors: E_ARG (a name that is none), E_DEVICE (no such module here; it cannot be loaded, with the loader's words; it
 * is no module), E_ABI (ABI or struct size; both numbers). */
int wk_gpu_module(const wk_backend_ops **out, const char *spec, int *index, wk_err *err);
/* As wk_gpu_module, and the device is there: E_DEVICE with the module's own sentence where it finds none, or with both
 * numbers where it finds fewer. */
int wk_gpu_load(const wk_backend_ops **out, const char *spec, int *index, wk_err *err);
/* Another symbol of a module whose device is there (wk_gpu_load first): *fn NULL where the module has none. */
int wk_gpu_symbol(void **fn, const char *spec, const char *symbol, wk_err *err);
/* Bytes of spec before its ":index". */
size_t wk_gpu_name_bytes(const char *spec);
/* The kinds that are looked for by name: i from 0; NULL behind the last. */
const char *wk_gpu_kind(int i);

#endif

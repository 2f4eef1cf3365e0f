/* cpu.h: the host CPU as a device. */
#ifndef WK_CPU_H
#define WK_CPU_H

#include "engine/graph/backend.h"
#include "simd/kernels.h"

/* The one row of functions; static, thread-safe. */
const wk_backend_ops *wk_cpu_backend(void);

/* The kernel table of an open cpu device (for samplers and doctor), and the name of its level. */
const wk_kernels *wk_cpu_kernels(const wk_dev *d);

/* Barriers passed and steps run so far by an exec: for tests and traces. */
uint64_t wk_cpu_barriers(const wk_exec *x);

#endif

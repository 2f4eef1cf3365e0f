/* backend.cu: NVIDIA GPUs as devices: which there are, what they can, and the table of the module. */
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <new>

#include "gpu/cuda/exec.h"
#include "simd/kernels.h"

enum { SM_LEAST = 75 }; /* integer matrix units */

/* ---- errors ------------------------------------------------------------------------------------------------------ */

int wkc_fail(wk_err *err, int code, const char *fmt, ...) {
    if (!err) return code;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(err->message, sizeof(err->message), fmt, ap); /* what does not fit is cut */
    va_end(ap);
    err->code = code;
    return code;
}

bool wkc_is_faulty(const wk_dev *d, const char *call) {
    return d->host.fault && d->host.fault(d->host.fault_ud, call);
}

int wkc_faulted(const wk_dev *d, const char *call, wk_err *err) {
    return wkc_fail(err, WICK_E_DEVICE, "cuda device %d: %s failed: the host wanted it to", d->index, call);
}

int wkc_judge(const wk_dev *d, cudaError_t e, const char *call, wk_err *err) {
    if (e == cudaSuccess) return WICK_OK;
    (void)cudaGetLastError(); /* is reported here, not at the next launch */
    return wkc_fail(err, e == cudaErrorMemoryAllocation ? WICK_E_NOMEM : WICK_E_DEVICE, "cuda device %d: %s failed: %s",
                    d->index, call, cudaGetErrorString(e));
}

uint64_t wkc_now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int wkc_use(const wk_dev *d, wk_err *err) {
    WKC_TRY(d, err, cudaSetDevice, d->index);
    return WICK_OK;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static int cuda_count(char *why, size_t n) {
    int count = 0, driver = 0, wanted = 0;
    const cudaError_t e = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    if (e == cudaSuccess && count > 0) return count;
    if (why && n) {
        if (cudaDriverGetVersion(&driver) == cudaSuccess && !driver)
            (void)snprintf(why, n, "no NVIDIA driver is loaded (libcuda.so.1 was not found)");
        else if (e == cudaErrorInsufficientDriver && cudaRuntimeGetVersion(&wanted) == cudaSuccess)
            (void)snprintf(why, n, "the NVIDIA driver is for CUDA %d.%d, this module wants a driver for CUDA %d.%d or newer",
                           driver / 1000, driver % 1000 / 10, wanted / 1000, wanted % 1000 / 10);
        else
            (void)snprintf(why, n, "CUDA sees no device: %s", cudaGetErrorString(e == cudaSuccess ? cudaErrorNoDevice : e));
    }
    return 0;
}

static void cuda_close(wk_dev *d) { delete d; }

/* Runs where there is code for the device: it may be newer than all that the module holds, and its driver older than the
 * intermediate code. */
static __global__ void nothing(int) {}
static int try_launch(const wk_dev *d, wk_err *err) {
    WKC_LAUNCH(nothing, 1, 1, 0, (cudaStream_t)0, 0);
    return wkc_judge(d, cudaGetLastError(), "launch", err);
}

static int cuda_open(wk_dev **out, int index, const wk_host *host, wk_err *err) {
    cudaDeviceProp prop;
    wk_dev first = {index, {}, 0};
    if (host->size < sizeof(*host))
        return wkc_fail(err, WICK_E_ABI, "a host record of %zu bytes, this module wants %zu", host->size, sizeof(*host));
    first.host = *host;
    const int n = cuda_count(NULL, 0);
    if (index < 0 || index >= n)
        return wkc_fail(err, WICK_E_DEVICE, "there are %d cuda devices, index %d was asked for", n, index);
    WKC_TRY(&first, err, cudaGetDeviceProperties, &prop, index);
    first.sm = 10 * prop.major + prop.minor;
    if (first.sm < SM_LEAST)
        return wkc_fail(err, WICK_E_UNSUPPORTED, "%s has compute capability %d.%d, 7.5 is the least that there are kernels for",
                        prop.name, prop.major, prop.minor);
    WKC_TRY(&first, err, cudaSetDevice, index);
    WK_TRY(try_launch(&first, err));
    *out = new (std::nothrow) wk_dev(first);
    return *out ? WICK_OK : wkc_fail(err, WICK_E_NOMEM, "no memory for the cuda device");
}

/* "550.54.15" of the kernel's module; empty where it does not say. */
static void driver_version(char *dst, size_t n) {
    char line[256] = "";
    FILE *f = fopen("/proc/driver/nvidia/version", "r");
    *dst = 0;
    if (!f) return;
    const bool ok = fgets(line, sizeof(line), f) != NULL;
    fclose(f);
    for (const char *p = ok ? strstr(line, "Module") : NULL; p && *p; p++) {
        if (*p < '0' || *p > '9') continue;
        (void)snprintf(dst, n, "%.*s", (int)strspn(p, "0123456789."), p);
        return;
    }
}

static int cuda_info(wk_dev *d, bool measure, wk_dev_info *out, wk_err *err) {
    cudaDeviceProp prop;
    size_t free_bytes = 0, total = 0;
    int cuda = 0;
    char driver[32];
    memset(out, 0, sizeof(*out));
    WKC_TRY(d, err, cudaSetDevice, d->index);
    WKC_TRY(d, err, cudaGetDeviceProperties, &prop, d->index);
    WKC_TRY(d, err, cudaDriverGetVersion, &cuda);
    WKC_TRY(d, err, cudaMemGetInfo, &free_bytes, &total);
    driver_version(driver, sizeof(driver));
    (void)snprintf(out->name, sizeof(out->name), "%.80s", prop.name);
    (void)snprintf(out->driver, sizeof(out->driver), "CUDA %d.%d%s%s", cuda / 1000, cuda % 1000 / 10,
                   *driver ? ", driver " : "", driver);
    out->mem_free = free_bytes;
    out->mem_total = total;
    return measure ? wkc_measure(d, out, err) : WICK_OK;
}

/* ---- what can be run --------------------------------------------------------------------------------------------- */

static bool has_kernels(const wk_plan *p, int32_t w) { return w < 0 || wkc_mat_bytes(&p->weight[w]) != 0; }

/* Of the values that a matrix of this format is multiplied with. */
static int type_wanted(int fmt) {
    static const uint8_t act[WK_FMT_COUNT] = {
#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note) WK_X_##act,
#include "simd/formats.def"
#undef WK_FORMAT
    };
    return act[fmt] == WK_X_A32 ? WK_VAL_A32 : act[fmt] == WK_X_A256 ? WK_VAL_A256 : WK_VAL_F32;
}

static bool cuda_can(wk_dev *d, const wk_plan *p, const wk_step *s) {
    wkc_kv kv;
    (void)d;
    if (s->op >= WK_OP_COUNT || !has_kernels(p, s->w[0]) || !has_kernels(p, s->w[1])) return false;
    switch (s->op) {
    case WK_OP_matmul: return p->val[s->src[0]].type == type_wanted(p->weight[s->w[0]].fmt);
    case WK_OP_glu: return s->fn < WK_FN_COUNT;
    case WK_OP_rope: return s->pairing < WK_ROPE_COUNT;
    case WK_OP_kvput:
    case WK_OP_attn: return wkc_kv_init(&kv, p->kv_type, p->head_dim, p->n_head_kv, 0, p->n_layer);
    default: return true;
    }
}

/* ---- trace ------------------------------------------------------------------------------------------------------- */

static void cuda_trace_start(wk_exec *x) {
    memset(&x->trace, 0, sizeof(x->trace));
    x->is_traced = true;
}
static void cuda_trace_stop(wk_exec *x) { x->is_traced = false; }
static void cuda_trace_read(const wk_exec *x, wk_trace *out) { *out = x->trace; }

static wk_backend_ops make_ops(void) {
    wk_backend_ops o;
    memset(&o, 0, sizeof(o));
    o.abi = WK_BACKEND_ABI;
    o.size = sizeof(o);
    o.name = "cuda";
    o.can_top = true;
    o.count = cuda_count;
    o.open = cuda_open;
    o.close = cuda_close;
    o.info = cuda_info;
    o.can = cuda_can;
    o.prepare = wkc_prepare;
    o.run = wkc_run;
    o.wait = wkc_wait;
    o.unprepare = wkc_unprepare;
    o.put = wkc_put;
    o.get = wkc_get;
    o.bytes = wkc_bytes;
    o.later = wkc_later;
    o.trace_start = cuda_trace_start;
    o.trace_stop = cuda_trace_stop;
    o.trace_read = cuda_trace_read;
    return o;
}

extern "C" WK_EXPORT const wk_backend_ops *wick_backend(void);
const wk_backend_ops *wick_backend(void) {
    static const wk_backend_ops ops = make_ops();
    return &ops;
}

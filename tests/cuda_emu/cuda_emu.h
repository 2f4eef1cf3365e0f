/* cuda_emu.h: stands in for the CUDA runtime, so that the .cu files compile as C++ (WKC_EMU) and their kernels run on the
 * CPU where no GPU is. Made to find faults, not to be fast:
 *
 *   Threads of a block are fibers of one OS thread, blocks run one after another. A collective that not all of its lanes
 *   reach, a __syncthreads() behind which a thread has returned, and calls that do not match end the program with a
 *   sentence. WKC_EMU_REVERSE=1 in the environment runs threads and blocks in the opposite order: results that change
 *   miss a barrier.
 *   Memory of cudaMalloc is filled with NaN, ends at a page that cannot be touched (or is poisoned for ASan), and the
 *   host cannot touch it at all: it is mapped only while the device works.
 *   Streams are lazy: what was enqueued runs when somebody waits for it, so a buffer that is reused too early is seen.
 *
 * One warp collective carries all: wkc_emu_warp_exchange(). Not there: textures, cooperative groups, several devices,
 * ordering between the null stream and others but by waiting. */
#ifndef WKC_CUDA_EMU_H
#define WKC_CUDA_EMU_H

#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "engine/base/half.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__

#define WKC_LAUNCH(kernel, grid, block, shared, stream, ...) \
    wkc_emu_launch(kernel, grid, block, shared, stream, __VA_ARGS__)
#define WKC_SHARED(type, name) type *const name = static_cast<type *>(wkc_emu_shared())
#define WKC_UNROLL

/* ---- vector types ------------------------------------------------------------------------------------------------ */

#define WKC_VEC2(T, name, a)                          \
    struct __align__(a) name##2 { T x, y; };          \
    static inline name##2 make_##name##2(T x, T y) {  \
        return {x, y};                                \
    }
#define WKC_VEC3(T, name)                                 \
    struct name##3 { T x, y, z; };                        \
    static inline name##3 make_##name##3(T x, T y, T z) { \
        return {x, y, z};                                 \
    }
#define WKC_VEC4(T, name, a)                                   \
    struct __align__(a) name##4 { T x, y, z, w; };             \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { \
        return {x, y, z, w};                                   \
    }
WKC_VEC2(int8_t, char, 2) WKC_VEC2(uint8_t, uchar, 2) WKC_VEC2(int16_t, short, 4) WKC_VEC2(uint16_t, ushort, 4)
WKC_VEC2(int, int, 8) WKC_VEC2(unsigned, uint, 8) WKC_VEC2(float, float, 8) WKC_VEC2(double, double, 16)
WKC_VEC2(long long, longlong, 16) WKC_VEC2(unsigned long long, ulonglong, 16)
WKC_VEC3(int, int) WKC_VEC3(unsigned, uint) WKC_VEC3(float, float)
WKC_VEC4(int8_t, char, 4) WKC_VEC4(uint8_t, uchar, 4) WKC_VEC4(int16_t, short, 8) WKC_VEC4(uint16_t, ushort, 8)
WKC_VEC4(int, int, 16) WKC_VEC4(unsigned, uint, 16) WKC_VEC4(float, float, 16)
#undef WKC_VEC2
#undef WKC_VEC3
#undef WKC_VEC4

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

/* ---- the threads of a block -------------------------------------------------------------------------------------- */

/* All lanes of mask call it with as many bytes (at most 256; under another mask than all, 16); then each gets where the
 * bytes of all lie, lane after lane, until its next collective. op: what called, calls must match. */
enum { WKC_EMU_EXCHANGE = 100 };
const void *wkc_emu_warp_exchange_of(int op, unsigned mask, const void *mine, size_t n);
static inline const void *wkc_emu_warp_exchange(const void *mine, size_t n) {
    return wkc_emu_warp_exchange_of(WKC_EMU_EXCHANGE, 0xffffffffu, mine, n);
}
int wkc_emu_block_sum(int op, int v); /* a __syncthreads() that adds up */
void *wkc_emu_shared(void);
int wkc_emu_lane(void);

#define __syncthreads() ((void)wkc_emu_block_sum(0, 0))
static inline int __syncthreads_count(int p) { return wkc_emu_block_sum(1, p != 0); }
static inline int __syncthreads_or(int p) { return wkc_emu_block_sum(2, p != 0) != 0; }
static inline int __syncthreads_and(int p) {
    return wkc_emu_block_sum(3, p != 0) == static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) { (void)wkc_emu_warp_exchange_of(1, mask, nullptr, 0); }

/* As in CUDA: a source out of the segment gives the lane its own value; one that is not in mask is refused. */
void wkc_emu_source(unsigned mask, int lane);
template <class T> static inline T wkc_emu_shuffle(int op, unsigned mask, T v, int from) {
    static_assert(sizeof(T) <= 16, "a shuffle of more than 16 bytes");
    const T *all = static_cast<const T *>(wkc_emu_warp_exchange_of(op, mask, &v, sizeof(T)));
    wkc_emu_source(mask, from);
    T r;
    memcpy(&r, all + from, sizeof(T));
    return r;
}
template <class T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    const int lane = wkc_emu_lane();
    return wkc_emu_shuffle(2, mask, v, (lane & ~(width - 1)) | (from & (width - 1)));
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32) {
    const int lane = wkc_emu_lane(), from = lane ^ x;
    return wkc_emu_shuffle(3, mask, v, from >= (lane | (width - 1)) + 1 ? lane : from);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32) {
    const int lane = wkc_emu_lane(), from = lane + static_cast<int>(d);
    return wkc_emu_shuffle(4, mask, v, from > (lane | (width - 1)) ? lane : from);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32) {
    const int lane = wkc_emu_lane(), from = lane - static_cast<int>(d);
    return wkc_emu_shuffle(5, mask, v, from < (lane & ~(width - 1)) ? lane : from);
}
unsigned wkc_emu_ballot(int op, unsigned mask, int p);
static inline unsigned __ballot_sync(unsigned mask, int p) { return wkc_emu_ballot(6, mask, p); }
static inline int __any_sync(unsigned mask, int p) { return wkc_emu_ballot(7, mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return wkc_emu_ballot(8, mask, p) == mask; }

/* ---- atomics: one OS thread ---------------------------------------------------------------------------------------- */

template <class T> static inline T wkc_emu_set(T *p, T v) {
    const T old = *p;
    *p = v;
    return old;
}
template <class T> using wkc_same = typename std::enable_if<true, T>::type; /* the pointer alone says what T is */
template <class T> static inline T atomicAdd(T *p, wkc_same<T> v) { return wkc_emu_set(p, static_cast<T>(*p + v)); }
template <class T> static inline T atomicSub(T *p, wkc_same<T> v) { return wkc_emu_set(p, static_cast<T>(*p - v)); }
template <class T> static inline T atomicMax(T *p, wkc_same<T> v) { return wkc_emu_set(p, *p < v ? v : *p); }
template <class T> static inline T atomicMin(T *p, wkc_same<T> v) { return wkc_emu_set(p, v < *p ? v : *p); }
template <class T> static inline T atomicExch(T *p, wkc_same<T> v) { return wkc_emu_set(p, v); }
template <class T> static inline T atomicOr(T *p, wkc_same<T> v) { return wkc_emu_set(p, static_cast<T>(*p | v)); }
template <class T> static inline T atomicAnd(T *p, wkc_same<T> v) { return wkc_emu_set(p, static_cast<T>(*p & v)); }
template <class T> static inline T atomicXor(T *p, wkc_same<T> v) { return wkc_emu_set(p, static_cast<T>(*p ^ v)); }
template <class T> static inline T atomicInc(T *p, wkc_same<T> v) { return wkc_emu_set(p, *p >= v ? T(0) : *p + 1); }
template <class T> static inline T atomicCAS(T *p, wkc_same<T> want, wkc_same<T> v) {
    return wkc_emu_set(p, *p == want ? v : *p);
}
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}
static inline void __nanosleep(unsigned) {}
static inline long long clock64(void) { return 0; }
static inline void __trap(void) { __builtin_trap(); }

/* ---- loads, copies into shared memory --------------------------------------------------------------------------------- */

template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline T __ldcg(const T *p) { return *p; }
template <class T> static inline T __ldca(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, T v) { *p = v; }
template <class T> static inline void __stcg(T *p, T v) { *p = v; }
static inline void __pipeline_memcpy_async(void *dst, const void *src, size_t n, size_t zeros = 0) {
    assert((n == 4 || n == 8 || n == 16) && reinterpret_cast<uintptr_t>(dst) % n == 0 &&
           reinterpret_cast<uintptr_t>(src) % n == 0);
    memcpy(dst, src, n - zeros);
    memset(static_cast<char *>(dst) + n - zeros, 0, zeros);
}
static inline void __pipeline_commit(void) {}
static inline void __pipeline_wait_prior(size_t) {}

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

using std::isfinite;
using std::isinf;
using std::isnan;

template <class T> static inline T wkc_emu_bits(const void *p) {
    T r;
    memcpy(&r, p, sizeof(r));
    return r;
}
static inline int __float_as_int(float x) { return wkc_emu_bits<int>(&x); }
static inline unsigned __float_as_uint(float x) { return wkc_emu_bits<unsigned>(&x); }
static inline float __int_as_float(int x) { return wkc_emu_bits<float>(&x); }
static inline float __uint_as_float(unsigned x) { return wkc_emu_bits<float>(&x); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
static inline float __frsqrt_rn(float a) { return rsqrtf(a); }
/* glibc has these names too */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf(x, y)
static inline float __saturatef(float a) { return a > 1.0f ? 1.0f : a > 0.0f ? a : 0.0f; }
static inline int __float2int_rn(float a) { return static_cast<int>(rintf(a)); }
static inline int __float2int_rz(float a) { return static_cast<int>(a); }
static inline int __float2int_rd(float a) { return static_cast<int>(floorf(a)); }
static inline float __int2float_rn(int a) { return static_cast<float>(a); }
static inline float __uint2float_rn(unsigned a) { return static_cast<float>(a); }
static inline float __double2float_rn(double a) { return static_cast<float>(a); }

#define WKC_MINMAX(T)                                             \
    static inline T min(T a, T b) { return b < a ? b : a; }       \
    static inline T max(T a, T b) { return a < b ? b : a; }
WKC_MINMAX(int) WKC_MINMAX(unsigned) WKC_MINMAX(long) WKC_MINMAX(unsigned long) WKC_MINMAX(long long)
WKC_MINMAX(unsigned long long)
#undef WKC_MINMAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
static inline unsigned __brev(unsigned x) {
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= (x >> i & 1u) << (31 - i);
    return r;
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
    const uint64_t all = static_cast<uint64_t>(y) << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned sel = s >> (4 * i);
        unsigned b = static_cast<unsigned>(all >> (8 * (sel & 7u))) & 0xffu;
        if (sel & 8u) b = b & 0x80u ? 0xffu : 0u;
        r |= b << (8 * i);
    }
    return r;
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n) {
    return static_cast<unsigned>((static_cast<uint64_t>(hi) << 32 | lo) >> (n & 31u));
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n) {
    return static_cast<unsigned>((static_cast<uint64_t>(hi) << 32 | lo) << (n & 31u) >> 32);
}
template <class F> static inline unsigned wkc_emu_bytes(unsigned a, unsigned b, F f) {
    unsigned r = 0;
    for (int i = 0; i < 32; i += 8)
        r |= (static_cast<unsigned>(f(static_cast<int>(a >> i & 0xffu), static_cast<int>(b >> i & 0xffu))) & 0xffu) << i;
    return r;
}
static inline unsigned __vadd4(unsigned a, unsigned b) { return wkc_emu_bytes(a, b, [](int x, int y) { return x + y; }); }
static inline unsigned __vsub4(unsigned a, unsigned b) { return wkc_emu_bytes(a, b, [](int x, int y) { return x - y; }); }
static inline unsigned __vcmpeq4(unsigned a, unsigned b) {
    return wkc_emu_bytes(a, b, [](int x, int y) { return x == y ? 255 : 0; });
}
static inline unsigned __vcmpne4(unsigned a, unsigned b) {
    return wkc_emu_bytes(a, b, [](int x, int y) { return x != y ? 255 : 0; });
}
static inline unsigned __vsubss4(unsigned a, unsigned b) {
    return wkc_emu_bytes(a, b, [](int x, int y) {
        const int d = static_cast<int8_t>(x) - static_cast<int8_t>(y);
        return d > 127 ? 127 : d < -128 ? -128 : d;
    });
}
static inline int __dp4a(int a, int b, int c) {
    unsigned r = static_cast<unsigned>(c);
    for (int i = 0; i < 32; i += 8) r += static_cast<unsigned>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
    return static_cast<int>(r);
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 32; i += 8) c += (a >> i & 0xffu) * (b >> i & 0xffu);
    return c;
}

/* ---- half and bfloat16 -------------------------------------------------------------------------------------------- */

#define WKC_HALF(name, to, from)                                                       \
    struct __align__(2) name {                                                         \
        uint16_t bits;                                                                 \
        name() = default;                                                              \
        name(float x) : bits(from(x)) {}                                               \
        operator float() const { return to(bits); }                                    \
    };                                                                                 \
    struct __align__(4) name##2 { name x, y; };                                        \
    static inline name##2 make_##name##2(name x, name y) {                             \
        return {x, y};                                                                 \
    }                                                                                  \
    static inline name __hadd(name a, name b) { return name(to(a.bits) + to(b.bits)); } \
    static inline name __hsub(name a, name b) { return name(to(a.bits) - to(b.bits)); } \
    static inline name __hmul(name a, name b) { return name(to(a.bits) * to(b.bits)); } \
    static inline name __hfma(name a, name b, name c) {                                \
        return name(fmaf(to(a.bits), to(b.bits), to(c.bits)));                         \
    }                                                                                  \
    static inline name __hmax(name a, name b) { return name(fmaxf(to(a.bits), to(b.bits))); } \
    static inline name##2 __hadd2(name##2 a, name##2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; } \
    static inline name##2 __hsub2(name##2 a, name##2 b) { return {__hsub(a.x, b.x), __hsub(a.y, b.y)}; } \
    static inline name##2 __hmul2(name##2 a, name##2 b) { return {__hmul(a.x, b.x), __hmul(a.y, b.y)}; } \
    static inline name##2 __hfma2(name##2 a, name##2 b, name##2 c) {                   \
        return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};                         \
    }
WKC_HALF(__half, wk_f16_to_f32, wk_f32_to_f16)
WKC_HALF(__nv_bfloat16, wk_bf16_to_f32, wk_f32_to_bf16)
#undef WKC_HALF
typedef __half half;
typedef __half2 half2;
typedef __nv_bfloat162 nv_bfloat162;
typedef __nv_bfloat16 nv_bfloat16;

static inline float __half2float(__half h) { return wk_f16_to_f32(h.bits); }
static inline __half __float2half(float x) { return __half(x); }
static inline __half __float2half_rn(float x) { return __half(x); }
static inline __half __ushort_as_half(uint16_t b) {
    __half h;
    h.bits = b;
    return h;
}
static inline uint16_t __half_as_ushort(__half h) { return h.bits; }
static inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
static inline __half2 __half2half2(__half a) { return {a, a}; }
static inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
static inline __half2 __float22half2_rn(float2 a) { return {__half(a.x), __half(a.y)}; }
static inline __half2 __float2half2_rn(float a) { return {__half(a), __half(a)}; }
static inline float2 __half22float2(__half2 a) { return {__half2float(a.x), __half2float(a.y)}; }
static inline __half __low2half(__half2 a) { return a.x; }
static inline __half __high2half(__half2 a) { return a.y; }
static inline float __low2float(__half2 a) { return __half2float(a.x); }
static inline float __high2float(__half2 a) { return __half2float(a.y); }
static inline float __bfloat162float(__nv_bfloat16 h) { return wk_bf16_to_f32(h.bits); }
static inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
static inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
static inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t b) {
    __nv_bfloat16 h;
    h.bits = b;
    return h;
}
static inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 h) { return h.bits; }
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {__nv_bfloat16(a), __nv_bfloat16(b)}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 a) { return {__bfloat162float(a.x), __bfloat162float(a.y)}; }

/* ---- the runtime -------------------------------------------------------------------------------------------------- */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNotReady = 600,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901
};
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8, cudaFuncAttributePreferredSharedMemoryCarveout = 9 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
enum { cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2, cudaHostAllocWriteCombined = 4 };
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
    int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock, l2CacheSize, integrated;
};

typedef struct wkc_emu_stream *cudaStream_t;
typedef struct wkc_emu_event *cudaEvent_t;
typedef struct wkc_emu_graph *cudaGraph_t;
typedef struct wkc_emu_graph_exec *cudaGraphExec_t;

cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int index);
cudaError_t cudaGetDevice(int *index);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int index);
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int index);
cudaError_t cudaDriverGetVersion(int *v);
cudaError_t cudaRuntimeGetVersion(int *v);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
const char *cudaGetErrorString(cudaError_t e);
const char *cudaGetErrorName(cudaError_t e);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);

cudaError_t wkc_emu_malloc(void **p, size_t n);
template <class T> static inline cudaError_t cudaMalloc(T **p, size_t n) {
    return wkc_emu_malloc(reinterpret_cast<void **>(p), n);
}
cudaError_t cudaFree(void *p); /* waits for everything, and looks at the guard zone */
cudaError_t wkc_emu_host_alloc(void **p, size_t n);
template <class T> static inline cudaError_t cudaHostAlloc(T **p, size_t n, unsigned) {
    return wkc_emu_host_alloc(reinterpret_cast<void **>(p), n);
}
template <class T> static inline cudaError_t cudaMallocHost(T **p, size_t n) { return cudaHostAlloc(p, n, 0); }
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, cudaMemcpyKind kind, cudaStream_t s = nullptr);
cudaError_t cudaMemset(void *dst, int v, size_t n);
cudaError_t cudaMemsetAsync(void *dst, int v, size_t n, cudaStream_t s = nullptr);

cudaError_t cudaStreamCreate(cudaStream_t *s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamQuery(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventQuery(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b);

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x);

cudaError_t wkc_emu_func_attribute(const void *f, cudaFuncAttribute a, int v);
template <class F> static inline cudaError_t cudaFuncSetAttribute(F *f, cudaFuncAttribute a, int v) {
    return wkc_emu_func_attribute(reinterpret_cast<const void *>(f), a, v);
}
template <class F>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, F *, int block, size_t) {
    *n = block > 0 ? 2048 / block : 0;
    return cudaSuccess;
}
template <class T> static inline cudaError_t cudaMemcpyToSymbol(T &dst, const void *src, size_t n) {
    memcpy(&dst, src, n);
    return cudaSuccess;
}

/* A library that stands in for another and works on streams: it is told how by its wkc_emu_blas_set. NULL: not found, or
 * WKC_EMU_NO_BLAS is in the environment. */
void *wkc_emu_library(const char *path);

void wkc_emu_enqueue(cudaStream_t s, const void *f, dim3 grid, dim3 block, size_t shared, std::function<void()> body);
template <class... P, class... A>
static inline void wkc_emu_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t s, A &&...a) {
    std::tuple<P...> args(std::forward<A>(a)...);
    wkc_emu_enqueue(s, reinterpret_cast<const void *>(kernel), grid, block, shared,
                    [kernel, args]() { std::apply(kernel, args); });
}

#endif

/* test_emu.cpp: the emulator runs what is right and refuses what is wrong. Exit 0: all held. */
#include "tests/cuda_emu/cuda_emu.h"

#include <cstdlib>

#include <sys/wait.h>
#include <unistd.h>

static int n_bad;
#define CHECK(x)                                              \
    do {                                                      \
        if (!(x)) {                                           \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #x);    \
            n_bad++;                                          \
        }                                                     \
    } while (0)

/* Sums of rows: warp shuffles, shared memory, two barriers. */
template <int N> static __global__ void row_sum(const float *x, int dim, float *dst) {
    __shared__ float part[32];
    float s = 0.0f;
    for (int i = static_cast<int>(threadIdx.x); i < dim; i += N) s += x[static_cast<int>(blockIdx.x) * dim + i];
    for (int d = 16; d; d >>= 1) s += __shfl_xor_sync(0xffffffffu, s, d);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < N / 32; i++) s += part[i];
        dst[blockIdx.x] = s;
    }
}

static __global__ void collectives(int *out) {
    WKC_SHARED(int, sh);
    const int t = static_cast<int>(threadIdx.x), lane = t % 32;
    sh[t] = t;
    __syncthreads();
    int v = sh[t ^ 63];
    v += __shfl_sync(0xffffffffu, lane, 5, 8);
    v += __shfl_down_sync(0xffffffffu, lane, 1) - __shfl_up_sync(0xffffffffu, lane, 1);
    if (lane < 8) v += __shfl_xor_sync(0xffu, lane, 1);
    else v += __popc(__ballot_sync(0xffffff00u, lane & 1));
    v += __syncthreads_count(lane == 3);
    const uint64_t mine[4] = {1, 2, 3, static_cast<uint64_t>(lane)};
    const uint64_t *all = static_cast<const uint64_t *>(wkc_emu_warp_exchange(mine, sizeof(mine)));
    v += static_cast<int>(all[4 * (31 - lane) + 3]);
    out[t] = v;
    if (t == 0) atomicAdd(out + 64, 7);
}

static int want(int t) {
    const int lane = t % 32;
    int v = (t ^ 63) + (lane & 24) + 5;
    v += (lane == 31 ? lane : lane + 1) - (lane == 0 ? lane : lane - 1);
    v += lane < 8 ? lane ^ 1 : 12;
    return v + 2 + 31 - lane;
}

static __global__ void no_barrier(int *out) { /* wrong: a result that depends on the order */
    __shared__ int sh[64];
    sh[threadIdx.x] = static_cast<int>(threadIdx.x);
    out[threadIdx.x] = sh[threadIdx.x ^ 1];
}
static __global__ void barrier_behind_return(int n) {
    if (static_cast<int>(threadIdx.x) >= n) return;
    __syncthreads();
}
static __global__ void shuffle_without_a_lane(int *out) {
    if (threadIdx.x != 3) out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
static __global__ void different_collectives(int *out) {
    out[threadIdx.x] = threadIdx.x < 16 ? __shfl_sync(0xffffffffu, 1, 0) : __any_sync(0xffffffffu, 1);
}
static __global__ void write_at(uint8_t *p) { *p = 1; }

static int *device_ints(int n) {
    int *p = nullptr;
    CHECK(cudaMalloc(&p, static_cast<size_t>(n) * sizeof(int)) == cudaSuccess);
    return p;
}
static void get(void *dst, const void *src, size_t n) {
    CHECK(cudaMemcpy(dst, src, n, cudaMemcpyDeviceToHost) == cudaSuccess);
}

static void test_right(void) {
    int host[65] = {0};
    int *d = device_ints(65);
    cudaStream_t s;
    CHECK(cudaStreamCreate(&s) == cudaSuccess);
    CHECK(cudaMemsetAsync(d, 0, 65 * sizeof(int), s) == cudaSuccess);
    WKC_LAUNCH(collectives, 1, 64, 64 * sizeof(int), s, d);
    get(host, d, sizeof(host));
    for (int t = 0; t < 64; t++) CHECK(host[t] == want(t));
    CHECK(host[64] == 7);

    float x[3 * 100], sum[3], *dx, *dsum;
    for (int i = 0; i < 300; i++) x[i] = static_cast<float>(i % 100 + i / 100);
    CHECK(cudaMalloc(&dx, sizeof(x)) == cudaSuccess && cudaMalloc(&dsum, sizeof(sum)) == cudaSuccess);
    CHECK(cudaMemcpyAsync(dx, x, sizeof(x), cudaMemcpyHostToDevice, s) == cudaSuccess);
    WKC_LAUNCH(row_sum<128>, 3, 128, 0, s, dx, 100, dsum);
    CHECK(cudaStreamSynchronize(s) == cudaSuccess);
    get(sum, dsum, sizeof(sum));
    for (int i = 0; i < 3; i++) CHECK(sum[i] == 4950.0f + 100.0f * static_cast<float>(i));
    WKC_LAUNCH(row_sum<128>, 3, 2048, 0, s, dx, 100, dsum);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration && cudaGetLastError() == cudaSuccess);
    CHECK(cudaFree(d) == cudaSuccess && cudaFree(dx) == cudaSuccess && cudaFree(dsum) == cudaSuccess);
    CHECK(cudaStreamDestroy(s) == cudaSuccess);
}

static void test_graph(void) {
    int host[65], *pin = nullptr, *d = device_ints(65);
    cudaStream_t s;
    cudaGraph_t g;
    cudaGraphExec_t x;
    CHECK(cudaStreamCreate(&s) == cudaSuccess && cudaHostAlloc(&pin, sizeof(int), 0) == cudaSuccess);
    CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    CHECK(cudaMemcpyAsync(d + 64, pin, sizeof(int), cudaMemcpyHostToDevice, s) == cudaSuccess);
    WKC_LAUNCH(collectives, 1, 64, 64 * sizeof(int), s, d);
    CHECK(cudaStreamSynchronize(s) == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaStreamEndCapture(s, &g) == cudaSuccess && cudaGraphInstantiate(&x, g) == cudaSuccess);
    for (int i = 0; i < 3; i++) {
        *pin = 10 * i;
        CHECK(cudaGraphLaunch(x, s) == cudaSuccess && cudaStreamSynchronize(s) == cudaSuccess);
        get(host, d, sizeof(host));
        CHECK(host[64] == 10 * i + 7 && host[5] == want(5));
    }
    CHECK(cudaGraphExecDestroy(x) == cudaSuccess && cudaGraphDestroy(g) == cudaSuccess);
    CHECK(cudaFree(d) == cudaSuccess && cudaFreeHost(pin) == cudaSuccess && cudaStreamDestroy(s) == cudaSuccess);
}

/* An early reuse of the source of a copy is seen; events order streams. */
static void test_lazy(void) {
    int host = 1, *d = device_ints(1);
    cudaStream_t a = nullptr, b = nullptr;
    cudaEvent_t e = nullptr;
    CHECK(cudaStreamCreate(&a) == cudaSuccess && cudaStreamCreate(&b) == cudaSuccess && cudaEventCreate(&e) == cudaSuccess);
    CHECK(cudaMemcpyAsync(d, &host, sizeof(host), cudaMemcpyHostToDevice, a) == cudaSuccess);
    CHECK(cudaEventRecord(e, a) == cudaSuccess && cudaEventQuery(e) == cudaErrorNotReady);
    host = 2;
    CHECK(cudaStreamWaitEvent(b, e) == cudaSuccess);
    int back = 0;
    CHECK(cudaMemcpyAsync(&back, d, sizeof(back), cudaMemcpyDeviceToHost, b) == cudaSuccess);
    CHECK(back == 0 && cudaStreamSynchronize(b) == cudaSuccess && back == 2 && cudaEventQuery(e) == cudaSuccess);
    CHECK(cudaEventDestroy(e) == cudaSuccess && cudaFree(d) == cudaSuccess);
}

template <class F> static bool dies(F f) {
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(0);
        f();
        (void)cudaDeviceSynchronize();
        _exit(0);
    }
    int st = 0;
    return waitpid(pid, &st, 0) == pid && !(WIFEXITED(st) && WEXITSTATUS(st) == 0);
}

static void test_wrong(void) {
    int *d = device_ints(64);
    CHECK(dies([] { WKC_LAUNCH(barrier_behind_return, 1, 64, 0, nullptr, 40); }));
    CHECK(!dies([] { WKC_LAUNCH(barrier_behind_return, 1, 64, 0, nullptr, 64); }));
    CHECK(dies([d] { WKC_LAUNCH(shuffle_without_a_lane, 1, 32, 0, nullptr, d); }));
    CHECK(dies([d] { WKC_LAUNCH(different_collectives, 1, 32, 0, nullptr, d); }));
    CHECK(dies([d] { WKC_LAUNCH(shuffle_without_a_lane, 1, 24, 0, nullptr, d); }));
    CHECK(dies([d] { *const_cast<volatile int *>(d) = 1; })); /* the host in device memory */
    CHECK(dies([d] { WKC_LAUNCH(write_at, 1, 1, 0, nullptr, reinterpret_cast<uint8_t *>(d) + 64 * sizeof(int)); }));
    CHECK(dies([] {
        uint8_t *p = nullptr;
        (void)cudaMalloc(&p, 100);
        WKC_LAUNCH(write_at, 1, 1, 0, nullptr, p + 100);
        (void)cudaFree(p);
    }));
    CHECK(cudaFree(d) == cudaSuccess);
}

static void run_twice(int *out, const char *reverse) {
    int *d = device_ints(64);
    CHECK(setenv("WKC_EMU_REVERSE", reverse, 1) == 0);
    CHECK(cudaMemset(d, 0, 64 * sizeof(int)) == cudaSuccess);
    WKC_LAUNCH(no_barrier, 1, 64, 0, nullptr, d);
    get(out, d, 64 * sizeof(int));
    CHECK(cudaFree(d) == cudaSuccess);
}

int main(void) {
    test_right();
    test_graph();
    int a[64], b[64];
    run_twice(a, "0");
    run_twice(b, "1");
    CHECK(memcmp(a, b, sizeof(a)) != 0);
    test_right(); /* in reverse */
    test_lazy();
    test_wrong();
    printf("cuda_emu: %d checks failed\n", n_bad);
    return n_bad != 0;
}

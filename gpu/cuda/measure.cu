/* measure.cu: what the device does in a second: reads of its own memory, copies, and 8-bit products of its matrix units. */
#include "gpu/cuda/exec.h"
#include "gpu/cuda/mma.cuh"

enum { READ = 512 << 20, COPY = 64 << 20, ROUNDS = 3, THREADS = 256, MMA_LOOPS = 16384, MMA_WARPS = 8 };

static __global__ void __launch_bounds__(THREADS) read_all(const uint4 *p, size_t n, uint32_t *dst) {
    const size_t step = (size_t)gridDim.x * THREADS;
    uint32_t s = 0;
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    for (; i + 3 * step < n; i += 4 * step) {
        const uint4 a = p[i], b = p[i + step], c = p[i + 2 * step], d = p[i + 3 * step];
        s += (a.x ^ b.y ^ c.z ^ d.w) + (a.y ^ b.z ^ c.w ^ d.x);
    }
    if (s == 0x12345678u) *dst = s; /* so that the loads stay */
}

/* Four products in flight a warp. */
static __global__ void __launch_bounds__(32 * MMA_WARPS) multiply(int loops, int *dst) {
    const int t = (int)threadIdx.x, a[4] = {t, t + 1, t + 2, t + 3}, b[2] = {t, -t};
    int c[4][4] = {};
    for (int i = 0; i < loops; i++) {
        WKC_UNROLL
        for (int j = 0; j < 4; j++) wkc_mma_k32(c[j], a, b);
    }
    int s = 0;
    for (int j = 0; j < 4; j++)
        for (int e = 0; e < 4; e++) s ^= c[j][e];
    if (s == 0x12345678) *dst = s;
}

typedef struct bench {
    wk_dev *d;
    cudaStream_t s;
    cudaEvent_t a, b;
    uint8_t *dev, *host;
    size_t n_read, n_copy;
    int n_sm;
} bench;

typedef int bench_fn(bench *m, wk_err *err);

static int run_read(bench *m, wk_err *err) {
    WKC_LAUNCH(read_all, 16u * (unsigned)m->n_sm, THREADS, 0, m->s, (const uint4 *)m->dev, m->n_read / 16, (uint32_t *)m->dev);
    return wkc_judge(m->d, cudaGetLastError(), "launch", err);
}
static int run_put(bench *m, wk_err *err) {
    WKC_TRY(m->d, err, cudaMemcpyAsync, m->dev, m->host, m->n_copy, cudaMemcpyHostToDevice, m->s);
    return WICK_OK;
}
static int run_get(bench *m, wk_err *err) {
    WKC_TRY(m->d, err, cudaMemcpyAsync, m->host, m->dev, m->n_copy, cudaMemcpyDeviceToHost, m->s);
    return WICK_OK;
}
static int mma_loops(void) {
#ifdef WKC_EMU
    return 2;
#else
    return MMA_LOOPS;
#endif
}
static int run_mma(bench *m, wk_err *err) {
    WKC_LAUNCH(multiply, 4u * (unsigned)m->n_sm, 32 * MMA_WARPS, 0, m->s, mma_loops(), (int *)m->dev);
    return wkc_judge(m->d, cudaGetLastError(), "launch", err);
}

/* work / the best time of some rounds, the first apart. */
static int rate(bench *m, bench_fn *fn, double work, double *out, wk_err *err) {
    double best = 0.0;
    for (int i = 0; i <= ROUNDS; i++) {
        float ms = 0.0f;
        WKC_TRY(m->d, err, cudaEventRecord, m->a, m->s);
        WK_TRY(fn(m, err));
        WKC_TRY(m->d, err, cudaEventRecord, m->b, m->s);
        WKC_TRY(m->d, err, cudaStreamSynchronize, m->s);
        WKC_TRY(m->d, err, cudaEventElapsedTime, &ms, m->a, m->b);
        if (i > 0 && ms > 0.0f && work / ((double)ms * 1e-3) > best) best = work / ((double)ms * 1e-3);
    }
    *out = best;
    return WICK_OK;
}

static int measure(bench *m, wk_dev_info *out, wk_err *err) {
    cudaDeviceProp prop;
    const uint64_t room = out->mem_free / 4;
    WKC_TRY(m->d, err, cudaGetDeviceProperties, &prop, m->d->index);
    m->n_sm = prop.multiProcessorCount;
#ifdef WKC_EMU
    m->n_read = m->n_copy = 1 << 20;
#else
    m->n_read = READ;
    m->n_copy = COPY;
#endif
    while (m->n_read > room && m->n_read > 4096) m->n_read /= 2;
    const size_t lap = (size_t)16 * (size_t)m->n_sm * THREADS * 4 * 16; /* bytes of a turn of read_all's loop: it leaves a rest */
    if (m->n_read > lap) m->n_read -= m->n_read % lap;
    if (m->n_copy > m->n_read) m->n_copy = m->n_read;
    WKC_TRY(m->d, err, cudaStreamCreateWithFlags, &m->s, cudaStreamNonBlocking);
    WKC_TRY(m->d, err, cudaEventCreateWithFlags, &m->a, cudaEventDefault);
    WKC_TRY(m->d, err, cudaEventCreateWithFlags, &m->b, cudaEventDefault);
    WKC_TRY(m->d, err, cudaMalloc, &m->dev, m->n_read);
    WKC_TRY(m->d, err, cudaHostAlloc, &m->host, m->n_copy, cudaHostAllocDefault);
    WKC_TRY(m->d, err, cudaMemsetAsync, m->dev, 0, m->n_read, m->s);
    WK_TRY(rate(m, run_read, (double)m->n_read, &out->read_rate, err));
    WK_TRY(rate(m, run_put, (double)m->n_copy, &out->put_rate, err));
    WK_TRY(rate(m, run_get, (double)m->n_copy, &out->get_rate, err));
    const double products = 16.0 * (double)(m->n_sm * (int)MMA_WARPS * mma_loops());
    return rate(m, run_mma, products * 2.0 * 16 * 8 * 32, &out->int8_rate, err);
}

int wkc_measure(wk_dev *d, wk_dev_info *out, wk_err *err) {
    bench m = {d, NULL, NULL, NULL, NULL, NULL, 0, 0, 1};
    const int rc = measure(&m, out, err);
    if (m.s) (void)cudaStreamSynchronize(m.s);
    (void)cudaFree(m.dev);
    (void)cudaFreeHost(m.host);
    if (m.a) (void)cudaEventDestroy(m.a);
    if (m.b) (void)cudaEventDestroy(m.b);
    if (m.s) (void)cudaStreamDestroy(m.s);
    return rc;
}

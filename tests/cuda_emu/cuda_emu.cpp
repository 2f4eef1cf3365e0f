/* cuda_emu.cpp: blocks of fibers, lazy streams, guarded memory; see cuda_emu.h. */
#include "tests/cuda_emu/cuda_emu.h"

#include <chrono>
#include <cstdarg>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

std::recursive_mutex lock; /* everything below */

[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("cuda_emu: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

/* ---- switching stacks --------------------------------------------------------------------------------------------- */

extern "C" void wkc_emu_switch(void **from, void *to);

#if defined(__x86_64__)
__asm__(".text\n.p2align 4\n.hidden wkc_emu_switch\n.globl wkc_emu_switch\n.type wkc_emu_switch,@function\n"
        "wkc_emu_switch:\n"
        "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
        "  mov %rsp, (%rdi)\n  mov %rsi, %rsp\n"
        "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n  ret\n"
        ".size wkc_emu_switch, .-wkc_emu_switch\n");
void *first_frame(uint8_t *top, void (*entry)()) {
    void **p = reinterpret_cast<void **>(top);
    *--p = nullptr;
    *--p = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++) *--p = nullptr;
    return p;
}
#elif defined(__aarch64__)
__asm__(".text\n.p2align 4\n.hidden wkc_emu_switch\n.globl wkc_emu_switch\n.type wkc_emu_switch,%function\n"
        "wkc_emu_switch:\n"
        "  sub sp, sp, #160\n"
        "  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
        "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
        "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
        "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
        "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #160\n  ret\n"
        ".size wkc_emu_switch, .-wkc_emu_switch\n");
void *first_frame(uint8_t *top, void (*entry)()) {
    void **p = reinterpret_cast<void **>(top - 160);
    memset(p, 0, 160);
    p[11] = reinterpret_cast<void *>(entry);
    return p;
}
#else
#error "cuda_emu: no context switch for this processor"
#endif

enum { STACK = 256 << 10, MAX_THREAD = 1024, MAX_SHARED = 227 << 10, MAX_BYTES = 256, MAX_PART = 16 };
constexpr unsigned ALL = 0xffffffffu;

enum state { FRESH, READY, IN_WARP, IN_BLOCK, DONE };

struct stack {
    uint8_t *low;
    void *sp;
    void *fake; /* of ASan */
};
struct lane {
    uint3 idx;
    state st;
    stack *on;
    int op;
    unsigned mask;
    size_t n;
    const void *result;
    uint8_t mine[MAX_PART]; /* under a partial mask */
};
struct warp {
    unsigned arrived; /* in a collective of all lanes */
    int op;
    size_t n;
    int turn;
    alignas(16) uint8_t data[2][32 * MAX_BYTES];
    alignas(16) uint8_t part[32][32 * MAX_PART];
};

struct block_state {
    int n_thread, n_warp, n_done, next_fresh, current;
    int n_at_barrier, barrier_op, barrier_sum, barrier_result;
    const std::function<void()> *body;
    bool reverse;
} blk;
lane lanes[MAX_THREAD];
warp warps[MAX_THREAD / 32];
std::deque<int> ready;
std::vector<stack *> &idle_stacks = *new std::vector<stack *>(); /* never freed, as their stacks */
stack host, *running = &host;
alignas(128) uint8_t shared_memory[MAX_SHARED];
#ifdef EMU_ASAN
size_t host_stack_size;
const void *host_stack_low;
#endif

void enter_stack(stack *to) {
    stack *from = running;
    running = to;
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&from->fake, to == &host ? host_stack_low : to->low,
                                   to == &host ? host_stack_size : static_cast<size_t>(STACK));
#endif
    wkc_emu_switch(&from->sp, to->sp);
#ifdef EMU_ASAN
    const void *low;
    size_t size;
    __sanitizer_finish_switch_fiber(from->fake, &low, &size);
#endif
}

void work();
void stack_main() {
#ifdef EMU_ASAN
    const void *low;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &low, &size);
    if (!host_stack_low) {
        host_stack_low = low; /* the first stack is entered from the host's */
        host_stack_size = size;
    }
#endif
    work();
    die("a fiber went on after its end");
}

stack *take_stack() {
    stack *s;
    if (!idle_stacks.empty()) {
        s = idle_stacks.back();
        idle_stacks.pop_back();
        if (s->sp) return s;
    } else {
        s = new stack();
        void *p = mmap(nullptr, STACK + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED || mprotect(p, 4096, PROT_NONE)) die("no memory for stacks");
        s->low = static_cast<uint8_t *>(p) + 4096;
    }
    s->sp = first_frame(s->low + STACK, stack_main);
    s->fake = nullptr;
    return s;
}

const char *state_name(const lane &l) {
    return l.st == DONE ? "has returned" : l.st == IN_BLOCK ? "waits at __syncthreads" : l.st == IN_WARP ? "waits in a warp" : "runs";
}

[[noreturn]] void die_stuck() {
    int a = -1, b = -1;
    for (int i = 0; i < blk.n_thread; i++) {
        if (lanes[i].st == IN_WARP || (a < 0 && lanes[i].st == IN_BLOCK)) a = i;
    }
    for (int i = 0; i < blk.n_thread && a >= 0; i++) {
        const bool same_warp = i / 32 == a / 32;
        if (lanes[a].st == IN_WARP ? same_warp && (lanes[a].mask >> (i % 32) & 1u) && lanes[i].st != IN_WARP
                                   : lanes[i].st != IN_BLOCK)
            b = i;
    }
    die("block (%u,%u,%u): thread %d %s (op %d, mask %08x), thread %d %s: not all lanes reach it", blockIdx.x, blockIdx.y,
        blockIdx.z, a, a < 0 ? "" : state_name(lanes[a]), a < 0 ? 0 : lanes[a].op, a < 0 ? 0u : lanes[a].mask, b,
        b < 0 ? "waits elsewhere" : state_name(lanes[b]));
}

void make_ready(int t) {
    lanes[t].st = READY;
    ready.push_back(t);
}

void become(int t) {
    blk.current = t;
    threadIdx = lanes[t].idx;
}

int take_ready() {
    const int t = blk.reverse ? ready.back() : ready.front();
    if (blk.reverse) ready.pop_back();
    else ready.pop_front();
    return t;
}

/* Leaves the running stack, whose thread waits, and comes back when it is ready. */
void wait_here() {
    const int me = blk.current;
    lanes[me].on = running;
    if (!ready.empty()) {
        const int t = take_ready();
        if (t == me) {
            become(me);
            return;
        }
        become(t);
        enter_stack(lanes[t].on);
    } else if (blk.next_fresh < blk.n_thread) {
        enter_stack(take_stack());
    } else {
        die_stuck();
    }
}

/* What a stack does: threads that have not begun, until one of them waits; then it is that thread's. */
void work() {
    for (;;) {
        while (ready.empty() && blk.next_fresh < blk.n_thread) {
            const int i = blk.next_fresh++, t = blk.reverse ? blk.n_thread - 1 - i : i;
            become(t);
            (*blk.body)();
            lanes[blk.current].st = DONE;
            blk.n_done++;
        }
        idle_stacks.push_back(running);
        if (!ready.empty()) {
            const int t = take_ready();
            become(t);
            enter_stack(lanes[t].on);
        } else if (blk.n_done == blk.n_thread) {
            enter_stack(&host);
        } else {
            die_stuck();
        }
    }
}

void run_block() {
    blk.n_done = blk.next_fresh = blk.n_at_barrier = 0;
    blk.barrier_op = -1;
    for (int t = 0; t < blk.n_thread; t++) {
        const unsigned u = static_cast<unsigned>(t);
        lanes[t].idx = {u % blockDim.x, u / blockDim.x % blockDim.y, u / (blockDim.x * blockDim.y)};
        lanes[t].st = FRESH;
    }
    for (int w = 0; w < blk.n_warp; w++) warps[w].arrived = 0;
    enter_stack(take_stack());
}

void complete_part(int w, unsigned mask) {
    const int base = 32 * w;
    unsigned there = 0;
    const lane *first = nullptr;
    for (int i = 0; i < 32; i++) {
        lane &l = lanes[base + i];
        if (!(mask >> i & 1u)) continue;
        if (base + i >= blk.n_thread) die("lane %d of the mask %08x does not exist", i, mask);
        if (l.st != IN_WARP || l.mask != mask) return;
        if (first && (first->op != l.op || first->n != l.n))
            die("lanes of mask %08x are in different collectives (%d and %d)", mask, first->op, l.op);
        first = &l;
        there |= 1u << i;
    }
    for (int i = 0; i < 32; i++) {
        if (!(there >> i & 1u)) continue;
        lane &l = lanes[base + i];
        uint8_t *out = warps[w].part[i];
        memset(out, 0xff, sizeof(warps[w].part[i]));
        for (int j = 0; j < 32; j++)
            if (there >> j & 1u) memcpy(out + static_cast<size_t>(j) * l.n, lanes[base + j].mine, l.n);
        l.result = out;
        make_ready(base + i);
    }
}

} // namespace

/* ---- collectives -------------------------------------------------------------------------------------------------- */

int wkc_emu_lane(void) { return blk.current % 32; }
void *wkc_emu_shared(void) { return shared_memory; }

void wkc_emu_source(unsigned mask, int from) {
    if (from < 0 || from > 31 || !(mask >> from & 1u)) die("a shuffle reads lane %d, the mask is %08x", from, mask);
}

const void *wkc_emu_warp_exchange_of(int op, unsigned mask, const void *mine, size_t n) {
    const int me = blk.current, w = me / 32, i = me % 32;
    lane &l = lanes[me];
    warp &wp = warps[w];
    if (!(mask >> i & 1u)) die("thread %d calls a collective whose mask %08x lacks it", me, mask);
    l.op = op;
    l.mask = mask;
    l.n = n;
    l.st = IN_WARP;
    if (mask != ALL) {
        if (n > MAX_PART) die("%zu bytes under a partial mask", n);
        if (n) memcpy(l.mine, mine, n);
        complete_part(w, mask);
        wait_here();
        return l.result;
    }
    if (n > MAX_BYTES) die("a collective of %zu bytes", n);
    if (32 * w + 32 > blk.n_thread) die("a collective of 32 lanes in a warp of %d threads", blk.n_thread % 32);
    if (!wp.arrived) {
        wp.op = op;
        wp.n = n;
    } else if (wp.op != op || wp.n != n) {
        die("block (%u,%u,%u), warp %d: lanes are in different collectives (%d and %d)", blockIdx.x, blockIdx.y, blockIdx.z, w,
            wp.op, op);
    }
    uint8_t *data = wp.data[wp.turn];
    if (n) memcpy(data + static_cast<size_t>(i) * n, mine, n);
    wp.arrived |= 1u << i;
    if (wp.arrived == ALL) {
        wp.arrived = 0;
        wp.turn ^= 1;
        for (int j = 0; j < 32; j++) make_ready(32 * w + j);
    }
    wait_here();
    return data;
}

unsigned wkc_emu_ballot(int op, unsigned mask, int p) {
    const uint8_t b = p != 0, *all = static_cast<const uint8_t *>(wkc_emu_warp_exchange_of(op, mask, &b, 1));
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        if ((mask >> i & 1u) && all[i]) r |= 1u << i;
    return r;
}

int wkc_emu_block_sum(int op, int v) {
    lane &l = lanes[blk.current];
    if (blk.n_done) die("thread %d is at __syncthreads, %d threads have returned", blk.current, blk.n_done);
    if (!blk.n_at_barrier) {
        blk.barrier_op = op;
        blk.barrier_sum = 0;
    } else if (blk.barrier_op != op) {
        die("threads are at different kinds of __syncthreads");
    }
    blk.barrier_sum += v;
    l.st = IN_BLOCK;
    l.op = op;
    if (++blk.n_at_barrier == blk.n_thread) {
        blk.n_at_barrier = 0;
        blk.barrier_result = blk.barrier_sum;
        for (int t = 0; t < blk.n_thread; t++) make_ready(t);
    }
    wait_here();
    return blk.barrier_result; /* the next barrier is complete only when all have read this one's */
}

/* ---- streams ------------------------------------------------------------------------------------------------------ */

struct wkc_emu_graph {
    std::vector<std::function<void()>> op;
};
struct wkc_emu_graph_exec {
    std::vector<std::function<void()>> op;
};
struct wkc_emu_stream {
    std::deque<std::function<void()>> op;
    uint64_t n_in, n_out;
    wkc_emu_graph *capture;
    bool dead;
};
struct wkc_emu_event {
    wkc_emu_stream *s;
    uint64_t at;
    double when;
};

namespace {

cudaError_t last_error;
std::vector<wkc_emu_stream *> &streams = *new std::vector<wkc_emu_stream *>(); /* never freed: events may name them */
std::map<const void *, size_t> dynamic_shared;
wkc_emu_stream null_stream;

struct allocation {
    uint8_t *base, *p;
    size_t mapped, n;
};
std::map<void *, allocation> device, pinned;
size_t used;
int device_depth;

cudaError_t fail(cudaError_t e) {
    if (e != cudaSuccess && e != cudaErrorNotReady) last_error = e;
    return e;
}

size_t mem_total() {
    const char *e = getenv("WKC_EMU_MEM"); /* MiB */
    return (e ? strtoull(e, nullptr, 10) : 8192) << 20;
}

/* Device memory is there only while the device works. */
struct device_mode {
    device_mode() {
        if (device_depth++ == 0) protect(PROT_READ | PROT_WRITE);
    }
    ~device_mode() {
        if (--device_depth == 0) protect(PROT_NONE);
    }
    static void protect(int how) {
        for (auto &d : device)
            if (mprotect(d.second.base, d.second.mapped, how)) die("mprotect of device memory failed");
    }
};

wkc_emu_stream *stream_of(cudaStream_t s) {
    if (!s) return &null_stream;
    if (s->dead) die("a stream is used after it was destroyed");
    return s;
}

void run_until(wkc_emu_stream *s, uint64_t at) {
    device_mode mode;
    while (s->n_out < at && !s->op.empty()) {
        const std::function<void()> f = std::move(s->op.front());
        s->op.pop_front();
        f();
        s->n_out++;
    }
}
void run_all() {
    run_until(&null_stream, UINT64_MAX);
    for (wkc_emu_stream *s : streams) run_until(s, UINT64_MAX);
}

bool any_capture() {
    for (const wkc_emu_stream *s : streams)
        if (s->capture) return true;
    return false;
}

cudaError_t add_op(cudaStream_t stream, std::function<void()> f) {
    wkc_emu_stream *s = stream_of(stream);
    if (s->capture) {
        s->capture->op.push_back(std::move(f));
        return cudaSuccess;
    }
    s->op.push_back(std::move(f));
    s->n_in++;
    return cudaSuccess;
}

const allocation *find(const std::map<void *, allocation> &m, const void *p) {
    auto it = m.upper_bound(const_cast<void *>(p));
    if (it == m.begin()) return nullptr;
    --it;
    const allocation &a = it->second;
    const uint8_t *b = static_cast<const uint8_t *>(p);
    return b >= a.base && b < a.base + a.mapped ? &a : nullptr;
}

/* The whole range lies inside one allocation of its kind. */
void check_range(const char *what, const void *p, size_t n, bool is_device) {
    const allocation *a = find(device, p);
    const uint8_t *b = static_cast<const uint8_t *>(p);
    if (is_device && (!a || b < a->p || n > a->n - static_cast<size_t>(b - a->p)))
        die("%s: %zu bytes at %p are not inside device memory", what, n, p);
    if (!is_device && a) die("%s: %p is device memory, host memory was said", what, p);
}

double now() {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void run_kernel(dim3 grid, dim3 block, const std::function<void()> &body) {
    const char *e = getenv("WKC_EMU_REVERSE");
    blk.reverse = e && *e == '1';
    blk.body = &body;
    blk.n_thread = static_cast<int>(block.x * block.y * block.z);
    blk.n_warp = (blk.n_thread + 31) / 32;
    gridDim = grid;
    blockDim = block;
    const uint64_t n = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t b = blk.reverse ? n - 1 - i : i;
        blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                    static_cast<unsigned>(b / grid.x / grid.y)};
        run_block();
    }
}

typedef std::lock_guard<std::recursive_mutex> guard;

} // namespace

void wkc_emu_enqueue(cudaStream_t s, const void *f, dim3 grid, dim3 block, size_t shared, std::function<void()> body) {
    guard g(lock);
    const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
    size_t most = 48 << 10;
    const auto it = dynamic_shared.find(f);
    if (it != dynamic_shared.end()) most = it->second;
    if (!threads || threads > MAX_THREAD || block.z > 64 || !grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu ||
        grid.y > 65535 || grid.z > 65535) {
        fail(cudaErrorInvalidConfiguration);
        return;
    }
    if (shared > most) {
        fail(cudaErrorInvalidValue);
        return;
    }
    (void)add_op(s, [grid, block, shared, body]() {
        memset(shared_memory, 0xff, shared); /* NaN */
#ifdef EMU_ASAN
        ASAN_POISON_MEMORY_REGION(shared_memory, sizeof(shared_memory));
        ASAN_UNPOISON_MEMORY_REGION(shared_memory, shared);
#endif
        run_kernel(grid, block, body);
#ifdef EMU_ASAN
        ASAN_UNPOISON_MEMORY_REGION(shared_memory, sizeof(shared_memory));
#endif
    });
}

static void enqueue_call(void *stream, void (*f)(void *), void *arg) {
    guard g(lock);
    (void)add_op(static_cast<cudaStream_t>(stream), [f, arg]() { f(arg); });
}
void *wkc_emu_library(const char *path) {
    void *const lib = dlopen(getenv("WKC_EMU_NO_BLAS") ? "libcublasLt.so.none" : path, RTLD_NOW | RTLD_LOCAL);
    void (*set)(void (*)(void *, void (*)(void *), void *)) = nullptr;
    if (void *const p = lib ? dlsym(lib, "wkc_emu_blas_set") : nullptr) memcpy(&set, &p, sizeof(p));
    if (set) set(enqueue_call);
    return lib;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
    guard g(lock);
    streams.push_back(*s = new wkc_emu_stream());
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithFlags(s, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    guard g(lock);
    run_until(stream_of(s), UINT64_MAX);
    if (s->capture) die("a stream is destroyed while it captures");
    s->dead = true;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    guard g(lock);
    if (stream_of(s)->capture) return fail(cudaErrorStreamCaptureUnsupported);
    run_until(stream_of(s), UINT64_MAX);
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
    guard g(lock);
    return stream_of(s)->op.empty() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize(void) {
    guard g(lock);
    if (any_capture()) return fail(cudaErrorStreamCaptureUnsupported);
    run_all();
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    *e = new wkc_emu_event();
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    guard g(lock);
    if (e->s) run_until(e->s, e->at);
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream) {
    guard g(lock);
    wkc_emu_stream *s = stream_of(stream);
    if (s->capture) die("an event is recorded while its stream captures");
    (void)add_op(stream, [e]() { e->when = now(); });
    e->s = s;
    e->at = s->n_in;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    guard g(lock);
    if (e->s) run_until(e->s, e->at);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    guard g(lock);
    return e->s && e->s->n_out < e->at ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
    guard g(lock);
    if (!a->s || !b->s) return fail(cudaErrorInvalidValue);
    if (a->s->n_out < a->at || b->s->n_out < b->at) return fail(cudaErrorNotReady);
    *ms = static_cast<float>(b->when - a->when);
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    guard g(lock);
    if (stream_of(s)->capture) die("a stream waits for an event while it captures");
    if (!e->s) return cudaSuccess;
    wkc_emu_stream *other = e->s;
    const uint64_t at = e->at;
    if (other == stream_of(s)) return cudaSuccess;
    return add_op(s, [other, at]() { run_until(other, at); });
}

/* ---- graphs ------------------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
    guard g(lock);
    if (!s || stream_of(s)->capture) return fail(cudaErrorStreamCaptureUnsupported);
    s->capture = new wkc_emu_graph();
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph) {
    guard g(lock);
    if (!s || !stream_of(s)->capture) return fail(cudaErrorStreamCaptureInvalidated);
    *graph = s->capture;
    s->capture = nullptr;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t graph, unsigned long long) {
    guard g(lock);
    *x = new wkc_emu_graph_exec{graph->op};
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s) {
    guard g(lock);
    if (stream_of(s)->capture) die("a graph is launched while its stream captures");
    for (const auto &f : x->op) (void)add_op(s, f);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x) {
    delete x;
    return cudaSuccess;
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

cudaError_t wkc_emu_malloc(void **out, size_t n) {
    guard g(lock);
    const size_t page = 4096;
    *out = nullptr;
    if (n > mem_total() || used + n > mem_total()) return fail(cudaErrorMemoryAllocation);
    const size_t room = (n + 255) / 256 * 256, mapped = (room + page - 1) / page * page + (n == 0) * page;
    void *m = mmap(nullptr, mapped + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED) return fail(cudaErrorMemoryAllocation);
    allocation a;
    a.base = static_cast<uint8_t *>(m) + page;
    a.mapped = mapped;
    a.n = n;
    a.p = a.base + (mapped - room); /* aligned to 256, ends near the page that cannot be touched */
    if (mprotect(a.base, mapped, PROT_READ | PROT_WRITE)) die("no device memory");
    if (n <= (64u << 20)) memset(a.base, 0xff, mapped);
    else memset(a.p + n, 0xff, static_cast<size_t>(a.base + mapped - (a.p + n)));
#ifdef EMU_ASAN
    ASAN_POISON_MEMORY_REGION(a.base, mapped);
    ASAN_UNPOISON_MEMORY_REGION(a.p, n);
#endif
    if (!device_depth && mprotect(a.base, mapped, PROT_NONE)) die("no device memory");
    used += n;
    device[a.base] = a;
    *out = a.p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    guard g(lock);
    if (!p) return cudaSuccess;
    if (any_capture()) return fail(cudaErrorStreamCaptureUnsupported);
    run_all();
    const allocation *found = find(device, p);
    if (!found || found->p != p) die("cudaFree of %p, which cudaMalloc did not give", p);
    const allocation a = *found;
    {
        device_mode mode;
#ifdef EMU_ASAN
        ASAN_UNPOISON_MEMORY_REGION(a.base, a.mapped);
#endif
        for (const uint8_t *b = a.p + a.n; b < a.base + a.mapped; b++)
            if (*b != 0xff) die("something was written %zu bytes behind %zu bytes of device memory", static_cast<size_t>(b - a.p) - a.n, a.n);
    }
    device.erase(a.base);
    munmap(a.base - 4096, a.mapped + 2 * 4096);
    used -= a.n;
    return cudaSuccess;
}

cudaError_t wkc_emu_host_alloc(void **p, size_t n) {
    guard g(lock);
    *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096 + (n == 0) * 4096);
    if (!*p) return fail(cudaErrorMemoryAllocation);
    memset(*p, 0xff, n);
    pinned[*p] = {static_cast<uint8_t *>(*p), static_cast<uint8_t *>(*p), n, n};
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) {
    guard g(lock);
    if (!p) return cudaSuccess;
    run_all();
    if (!pinned.erase(p)) die("cudaFreeHost of %p, which cudaHostAlloc did not give", p);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, cudaMemcpyKind kind, cudaStream_t s) {
    guard g(lock);
    if (!n) return cudaSuccess;
    if (kind != cudaMemcpyDefault) {
        check_range("copy, target", dst, n, kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice);
        check_range("copy, source", src, n, kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice);
    }
    return add_op(s, [dst, src, n]() { memcpy(dst, src, n); });
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, cudaMemcpyKind kind) {
    guard g(lock);
    if (any_capture()) return fail(cudaErrorStreamCaptureUnsupported);
    run_all();
    const cudaError_t e = cudaMemcpyAsync(dst, src, n, kind, nullptr);
    if (e == cudaSuccess) run_all();
    return e;
}
cudaError_t cudaMemsetAsync(void *dst, int v, size_t n, cudaStream_t s) {
    guard g(lock);
    if (!n) return cudaSuccess;
    check_range("memset", dst, n, true);
    return add_op(s, [dst, v, n]() { memset(dst, v, n); });
}
cudaError_t cudaMemset(void *dst, int v, size_t n) {
    guard g(lock);
    if (any_capture()) return fail(cudaErrorStreamCaptureUnsupported);
    run_all();
    const cudaError_t e = cudaMemsetAsync(dst, v, n, nullptr);
    if (e == cudaSuccess) run_all();
    return e;
}

/* ---- the device --------------------------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *n) {
    const char *e = getenv("WKC_EMU_DEVICES");
    *n = e ? atoi(e) : 1;
    return *n ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int index) {
    int n;
    (void)cudaGetDeviceCount(&n);
    return index >= 0 && index < n ? cudaSuccess : fail(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int *index) {
    *index = 0;
    return cudaSuccess;
}
/* Compute capability, 10 major + minor. */
static int capability() {
    const char *e = getenv("WKC_EMU_SM");
    return e ? atoi(e) : 80;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    memset(p, 0, sizeof(*p));
    memcpy(p->name, "emulated GPU", 13);
    p->totalGlobalMem = mem_total();
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = p->sharedMemPerMultiprocessor = 99 << 10;
    p->major = capability() / 10;
    p->minor = capability() % 10;
    p->multiProcessorCount = 4;
    p->warpSize = 32;
    p->maxThreadsPerBlock = MAX_THREAD;
    p->l2CacheSize = 4 << 20;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int) {
    *v = a == cudaDevAttrMultiProcessorCount ? 4 : a == cudaDevAttrComputeCapabilityMajor ? capability() / 10
       : a == cudaDevAttrComputeCapabilityMinor ? capability() % 10
       : a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 99 << 10 : 0;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v) {
    *v = 13000;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v) { return cudaDriverGetVersion(v); }
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    guard g(lock);
    *total = mem_total();
    *free_bytes = *total - used;
    return cudaSuccess;
}
cudaError_t cudaPeekAtLastError(void) {
    guard g(lock);
    return last_error;
}
cudaError_t cudaGetLastError(void) {
    guard g(lock);
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
const char *cudaGetErrorString(cudaError_t e) {
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "unknown error";
    }
}
const char *cudaGetErrorName(cudaError_t e) { return cudaGetErrorString(e); }
cudaError_t wkc_emu_func_attribute(const void *f, cudaFuncAttribute a, int v) {
    guard g(lock);
    if (a != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (v < 0 || v > MAX_SHARED) return fail(cudaErrorInvalidValue);
    dynamic_shared[f] = static_cast<size_t>(v);
    return cudaSuccess;
}

/* harness.c: memory between forbidden pages, comparison, counting, the clock. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "tests/check/check.h"

enum { N_SLOT = 48, PAGE = 4096, MAX_PRINT = 5 };
static const size_t slot_bytes = (size_t)4 << 20;

/* Address of the forbidden page behind slot i; the arena is mapped once. */
static uint8_t *slot_end(int i) {
    static uint8_t *arena = NULL;
    const size_t step = slot_bytes + PAGE;
    if (!arena) {
        void *p = mmap(NULL, step * N_SLOT + PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            fprintf(stderr, "check: no address space for %d slots of %zu bytes\n", N_SLOT,
                    slot_bytes);
            exit(2);
        }
        arena = p;
        for (int s = 0; s < N_SLOT; s++) {
            if (mprotect(arena + PAGE + (size_t)s * step, slot_bytes, PROT_READ | PROT_WRITE))
                exit(2);
        }
    }
    return arena + (size_t)(i + 1) * step;
}

static uint8_t *take(ck *c, size_t bytes) {
    if (c->n_slot == N_SLOT || bytes > slot_bytes) {
        fprintf(stderr, "check: %s %s: slot %d, %zu bytes: more than the harness has\n", c->family,
                c->kernel, c->n_slot, bytes);
        exit(2);
    }
    return slot_end(c->n_slot++) - bytes;
}

void *ck_in(ck *c, size_t bytes) {
    uint8_t *p = take(c, bytes);
    memset(p, 0xa5, bytes);
    return p;
}

static void fill_pattern(uint8_t *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)(0xc1 + i % 7);
}

ck_pair ck_out(ck *c, size_t bytes) {
    const size_t all = (bytes + 2 * CK_GUARD + 3) & ~(size_t)3;
    uint8_t *want = take(c, all), *got = take(c, all);
    fill_pattern(want, all);
    memcpy(got, want, all);
    return (ck_pair){.want = want + CK_GUARD, .got = got + CK_GUARD, .bytes = bytes};
}

static bool same_bytes(ck *c, const uint8_t *want, const uint8_t *got, size_t n, const char *name,
                       const char *where) {
    if (memcmp(want, got, n) == 0) return true;
    size_t i = 0;
    while (want[i] == got[i]) i++;
    ck_fail(c, "%s%s: byte %zu is %02x, wanted %02x", name, where, i, got[i], want[i]);
    return false;
}

static bool same_guards(ck *c, const ck_pair *p, const char *name) {
    const uint8_t *want = p->want, *got = p->got;
    return same_bytes(c, want - CK_GUARD, got - CK_GUARD, CK_GUARD, name,
                      ": 256 bytes before it") &&
           same_bytes(c, want + p->bytes, got + p->bytes, CK_GUARD, name, ": 256 bytes behind it");
}

bool ck_same(ck *c, const ck_pair *p, const char *name) {
    return same_guards(c, p, name) && same_bytes(c, p->want, p->got, p->bytes, name, "");
}

static uint32_t normal_form(const uint8_t *p) {
    uint32_t u;
    memcpy(&u, p, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fc00000u;
    return u == 0x80000000u ? 0 : u;
}

bool ck_same_f32(ck *c, const ck_pair *p, const char *name) {
    const uint8_t *want = p->want, *got = p->got;
    if (!same_guards(c, p, name)) return false;
    if (memcmp(want, got, p->bytes) == 0) return true;
    for (size_t i = 0; i < p->bytes / 4; i++) {
        const uint32_t w = normal_form(want + 4 * i), g = normal_form(got + 4 * i);
        if (w == g) continue;
        ck_fail(c, "%s[%zu] is %a (%08" PRIx32 "), wanted %a (%08" PRIx32 ")", name, i,
                (double)wk_f32_from_bits(g), g, (double)wk_f32_from_bits(w), w);
        return false;
    }
    return true;
}

bool ck_case(ck *c, const char *fmt, ...) {
    c->n_slot = 0;
    if (c->n_pick++ % (uint64_t)c->thin != 0) return false;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->what, sizeof(c->what), fmt, ap);
    va_end(ap);
    c->n_case++;
    return true;
}

void ck_fail(ck *c, const char *fmt, ...) {
    c->n_fail++;
    c->n_fail_kernel++;
    if (c->quiet || c->n_fail_kernel > MAX_PRINT) return;
    va_list ap;
    va_start(ap, fmt);
    printf("  WRONG %s %s %s (%s): ", c->level, c->family, c->kernel, c->what);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

/* ---- running ----------------------------------------------------------------------------------- */

static sigjmp_buf escape;

static void on_signal(int sig) { siglongjmp(escape, sig); }

static void catch_signals(bool on) {
    static const int sigs[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction sa = {.sa_handler = on ? on_signal : SIG_DFL};
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < WK_COUNT(sigs); i++) sigaction(sigs[i], &sa, NULL);
}

static uint64_t seed_of(const char *a, const char *b) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *a; a++) h = (h ^ (uint8_t)*a) * 0x100000001b3u;
    for (; *b; b++) h = (h ^ (uint8_t)*b) * 0x100000001b3u;
    return h;
}

void ck_kernel(ck *c, const char *name, bool inherited, void (*body)(ck *c, int arg), int arg) {
    if (inherited && !c->bench) {
        c->n_inherited++;
        return;
    }
    snprintf(c->kernel, sizeof(c->kernel), "%s", name);
    c->rng = seed_of(c->family, name);
    c->n_pick = 0;
    c->n_fail_kernel = 0;
    c->n_kernel++;
    const long before = c->n_case;
    catch_signals(true);
    const int sig = sigsetjmp(escape, 1);
    if (sig == 0)
        body(c, arg);
    else
        ck_fail(c, "signal %d: memory outside the stated ranges was touched", sig);
    catch_signals(false);
    if (c->verbose) {
        printf("  %-10s %-6s %-16s %7ld cases, %d wrong\n", c->level, c->family, name,
               c->n_case - before, c->n_fail_kernel);
    }
}

int ck_shrink(void) {
    const char *s = getenv("WK_CHECK_SHRINK");
    const long n = s ? strtol(s, NULL, 10) : 1;
    return n >= 1 && n <= 1000 ? (int)n : 1;
}

long ck_family_run(ck *c, const ck_family *f) {
    snprintf(c->family, sizeof(c->family), "%s", f->name);
    c->n_case = c->n_kernel = c->n_inherited = c->n_fail = 0;
    const double t0 = ck_now();
    f->run(c);
    if (!c->quiet) {
        printf(
            "%-10s %-7s %3ld kernels compared, %3ld inherited, %8ld cases, %ld wrong  (%.1f s)\n",
            c->level, f->name, c->n_kernel, c->n_inherited, c->n_case, c->n_fail, ck_now() - t0);
        fflush(stdout);
    }
    return c->n_fail;
}

double ck_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void ck_bench_print(ck *c, const char *shape, double seconds, double bytes, double ops) {
    printf("  bench %-10s %-6s %-14s %-22s %12.1f ns", c->level, c->family, c->kernel, shape,
           seconds * 1e9);
    if (bytes > 0) printf(" %8.2f GB/s", bytes / seconds * 1e-9);
    if (ops > 0) printf(" %9.2f GOP/s", ops / seconds * 1e-9);
    printf("\n");
    fflush(stdout);
}

/* ---- data -------------------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea, Flood 2014). */
uint32_t ck_u32(ck *c) {
    uint64_t z = c->rng += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

int ck_range(ck *c, int lo, int hi) { return lo + (int)(ck_u32(c) % (uint32_t)(hi - lo + 1)); }

/* Sum of 12 uniform numbers: close enough, and no libm. */
float ck_gauss(ck *c) {
    double s = -6.0;
    for (int i = 0; i < 12; i++) s += (double)ck_u32(c) * 0x1p-32;
    return (float)s;
}

static float nasty_float(ck *c) {
    const uint32_t u = ck_u32(c), sign = u & 0x80000000u;
    switch (ck_range(c, 0, 7)) {
    case 0: return wk_f32_from_bits(sign);                                 /* zero */
    case 1: return wk_f32_from_bits(sign | (u & 0x007fffffu));             /* denormal */
    case 2: return wk_f32_from_bits(sign | 0x7e000000u | (u & 0x7fffffu)); /* 1e37 .. 1e38 */
    case 3: return wk_f32_from_bits(sign | (ck_u32(c) % 0x7f800000u));     /* any finite */
    default: return ck_gauss(c);
    }
}

void ck_floats(ck *c, float *x, size_t n, ck_data data) {
    for (size_t i = 0; i < n; i++) {
        if (data == CK_GAUSS)
            x[i] = ck_gauss(c);
        else if (data == CK_MIXED)
            x[i] = nasty_float(c);
        else
            x[i] = wk_f32_from_bits(ck_u32(c));
    }
}

float *ck_in_floats(ck *c, size_t n, ck_data data) {
    float *x = ck_in(c, n * sizeof(float));
    ck_floats(c, x, n, data);
    return x;
}

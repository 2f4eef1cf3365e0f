/* check_grad.c: the kernels of training: every level of this CPU against ref, ref against sums in double, and kernels
 * with planted bugs, which must be found.
 *
 *   check_grad [--level NAME] [--bench] [-v] */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "simd/level.h"
#include "tests/check/check_grad.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { THIN = 7 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
enum { THIN = 7 };
#else
enum { THIN = 1 };
#endif
#else
enum { THIN = 1 };
#endif

/* Behind the name of the level the table is pointers and nothing else. */
typedef void (*any_fn)(void);
enum { N_KERNEL = 10 + WK_FN_COUNT };
static_assert(sizeof(wk_grad_kernels) == sizeof(const char *) + N_KERNEL * sizeof(any_fn),
              "a field was added: count it here, and test it");

static int count_missing(const wk_grad_kernels *k) {
    any_fn fn[N_KERNEL];
    int n = 0;
    memcpy(fn, (const uint8_t *)k + sizeof(k->level), sizeof(fn));
    for (int i = 0; i < N_KERNEL; i++) n += fn[i] == NULL;
    return n;
}

/* A hole is seen wherever it is. */
static long holes_are_seen(void) {
    long n_wrong = 0;
    for (size_t i = 0; i < N_KERNEL; i++) {
        wk_grad_kernels k = {0};
        wk_grad_kernels_ref(&k);
        memset((uint8_t *)&k + sizeof(k.level) + i * sizeof(any_fn), 0, sizeof(any_fn));
        n_wrong += count_missing(&k) != 1;
    }
    if (n_wrong) printf("WRONG: %ld missing kernels are not seen\n", n_wrong);
    return n_wrong;
}

static long complete(const wk_grad_kernels *k, const char *name) {
    const int n = count_missing(k);
    if (n) printf("WRONG %s: %d of %d kernels are missing\n", name, n, N_KERNEL);
    if (!k->level) printf("WRONG %s: the table has no name\n", name);
    return n + !k->level;
}

/* Where a level brings nothing of its own, all is inherited and the table keeps the name of the level below. */
static long run_level(int level, bool bench, bool verbose) {
    static const ck_family rows = {"rows", ck_grad_rows}, attn = {"attn", ck_grad_attn},
                           oracle = {"oracle", ck_grad_oracle}, pairs = {"pairs", ck_grad_pairs_oracle};
    wk_grad_kernels k = {0}, ref = {0}, below = {0};
    wk_grad_kernels_ref(&ref);
    wk_grad_kernels_init(&k, wk_levels[level].mask);
    if (level) wk_grad_kernels_init(&below, wk_levels[level - 1].mask);
    ck_grad g = {.base = {.level = wk_levels[level].name,
                          .bench = bench,
                          .verbose = verbose,
                          .thin = THIN * ck_shrink()},
                 .k = &k,
                 .ref = &ref,
                 .below = level ? &below : NULL};
    long n_fail = complete(&k, wk_levels[level].name);
    if (n_fail) return n_fail;
    if (!level) n_fail += ck_family_run(&g.base, &oracle) + ck_family_run(&g.base, &pairs);
    if (level || bench) n_fail += ck_family_run(&g.base, &rows) + ck_family_run(&g.base, &attn);
    return n_fail;
}

/* bf16 is part of no level: beside the highest one. */
static long run_bf16(uint32_t cpu, bool bench, bool verbose) {
    static const ck_family pairs = {"pairs", ck_grad_pairs};
    wk_grad_kernels k = {0}, ref = {0};
    if (!(cpu & WK_CPU_AVX512BF16)) {
        printf("SKIP avx512bf16: this CPU or system does not have it\n");
        return 0;
    }
    wk_grad_kernels_ref(&ref);
    wk_grad_kernels_init(&k, cpu);
    ck_grad g = {.base = {.level = "avx512bf16", .bench = bench, .verbose = verbose, .thin = THIN * ck_shrink()},
                 .k = &k,
                 .ref = &ref,
                 .below = &ref};
    return complete(&k, "avx512bf16") + ck_family_run(&g.base, &pairs);
}

static void print_peak(int level) {
    wk_kernels k;
    wk_kernels_init(&k, wk_levels[level].mask);
    double best = 0;
    for (int i = 0; i < 5; i++) {
        const double t = ck_now();
        const double rate = 2.0 * (double)k.peak[WK_PEAK_F32](2000000) / (ck_now() - t);
        best = rate > best ? rate : best;
    }
    printf("  bench %-10s peak of f32 %.1f GOP/s\n", wk_levels[level].name, best * 1e-9);
}

int main(int argc, char **argv) {
    const char *only = NULL;
    bool bench = false, verbose = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--level") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else if (strcmp(argv[i], "--bench") == 0) {
            bench = true;
        } else if (strcmp(argv[i], "-v") == 0) {
            verbose = true;
        } else {
            fprintf(stderr, "usage: check_grad [--level NAME] [--bench] [-v]\n");
            return 2;
        }
    }
    const uint32_t cpu = wk_cpu_detect();
    long n_fail = holes_are_seen() + (only ? 0 : ck_grad_planted());
    for (int i = 0; i < wk_level_count; i++) {
        if (only && strcmp(only, wk_levels[i].name) != 0) continue;
        if ((cpu & wk_levels[i].mask) != wk_levels[i].mask) {
            printf("SKIP %s: this CPU or system does not have it\n", wk_levels[i].name);
            continue;
        }
        if (bench) print_peak(i);
        n_fail += run_level(i, bench, verbose);
    }
    if (!only || strcmp(only, "avx512bf16") == 0) n_fail += run_bf16(cpu, bench, verbose);
    printf(n_fail ? "check_grad: %ld wrong\n" : "check_grad: all right\n", n_fail);
    return n_fail ? 1 : 0;
}

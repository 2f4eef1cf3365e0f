/* check_kernels.c: every level of this CPU against ref, and ref against the oracle.
 *
 *   check_kernels [--level NAME] [--family NAME] [--bench] [--long] [-v] */
#include <stdio.h>
#include <string.h>

#include "simd/level.h"
#include "tests/check/check.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { THIN = 7 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) ||                         \
    __has_feature(thread_sanitizer)
enum { THIN = 7 };
#else
enum { THIN = 1 };
#endif
#else
enum { THIN = 1 };
#endif

static const ck_family families[] = {
    {"format", ck_format}, {"oracle", ck_oracle}, {"quant", ck_quant}, {"gemv", ck_gemv},
    {"few", ck_few},       {"gemm", ck_gemm},     {"elem", ck_elem},     {"attn", ck_attn}};

typedef struct options {
    const char *level, *family;
    bool bench, exhaustive, verbose;
} options;

static bool parse(options *o, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const bool more = i + 1 < argc;
        if (strcmp(argv[i], "--level") == 0 && more)
            o->level = argv[++i];
        else if (strcmp(argv[i], "--family") == 0 && more)
            o->family = argv[++i];
        else if (strcmp(argv[i], "--bench") == 0)
            o->bench = true;
        else if (strcmp(argv[i], "--long") == 0)
            o->exhaustive = true;
        else if (strcmp(argv[i], "-v") == 0)
            o->verbose = true;
        else
            return false;
    }
    return !o->level || wk_level_of_name(o->level) >= 0;
}

/* ref is held by the oracle and the format checks; its gemm (pieces and tiles) by its own gemv. */
static bool wanted(const options *o, int level, size_t family) {
    const char *name = families[family].name;
    if (o->family && strcmp(o->family, name) != 0) return false;
    const bool of_ref = family <= 1 || strcmp(name, "gemm") == 0;
    return level == 0 ? of_ref || o->bench : family > 1;
}

static long run_level(const options *o, int level) {
    wk_kernels k, ref, below;
    wk_kernels_ref(&ref);
    wk_kernels_init(&k, wk_levels[level].mask);
    if (level > 0) wk_kernels_init(&below, wk_levels[level - 1].mask);
    ck c = {.level = wk_levels[level].name,
            .k = &k,
            .ref = &ref,
            .below = level > 0 ? &below : NULL,
            .formats = wk_formats,
            .bench = o->bench,
            .exhaustive = o->exhaustive,
            .verbose = o->verbose,
            .thin = THIN * ck_shrink()};
    long n_fail = 0;
    if (level > 0 && strcmp(k.level, wk_levels[level].name) != 0) {
        printf("WRONG %s: the table calls itself %s\n", wk_levels[level].name, k.level);
        n_fail++;
    }
    for (size_t f = 0; f < WK_COUNT(families); f++) {
        if (wanted(o, level, f)) n_fail += ck_family_run(&c, &families[f]);
    }
    return n_fail;
}

int main(int argc, char **argv) {
    options o = {0};
    if (!parse(&o, argc, argv)) {
        fprintf(stderr,
                "usage: check_kernels [--level NAME] [--family NAME] [--bench] [--long] [-v]\n");
        return 2;
    }
    const uint32_t cpu = wk_cpu_detect();
    long n_fail = 0;
    for (int i = 0; i < wk_level_count; i++) {
        if (o.level && strcmp(o.level, wk_levels[i].name) != 0) continue;
        if ((cpu & wk_levels[i].mask) == wk_levels[i].mask)
            n_fail += run_level(&o, i);
        else
            printf("SKIP %s: this CPU or system does not have it\n", wk_levels[i].name);
    }
    printf(n_fail ? "check_kernels: %ld wrong\n" : "check_kernels: all right\n", n_fail);
    return n_fail ? 1 : 0;
}

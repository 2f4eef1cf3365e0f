/* level.h: CPU levels: few, ordered bundles of instructions. */
#ifndef WK_LEVEL_H
#define WK_LEVEL_H

#include <stdint.h>

enum {
    WK_CPU_AVX2 = 1u << 0,       /* AVX2 FMA F16C BMI2, enabled by the system */
    WK_CPU_AVX512 = 1u << 1,     /* F BW DQ VL */
    WK_CPU_AVX512VNNI = 1u << 2, /* and VNNI */
    WK_CPU_AVX512BF16 = 1u << 3, /* and BF16: part of no level, training asks for it (simd/grad) */
    WK_CPU_NEON = 1u << 8,
    WK_CPU_DOTPROD = 1u << 9,
    WK_CPU_I8MM = 1u << 10
};

typedef struct wk_level {
    const char *name; /* "ref" "avx2" "avx512" "avx512vnni", or "ref" "neon" "dotprod" "i8mm" */
    uint32_t mask;    /* every bit that this level and the ones below it use */
} wk_level;

/* Levels of this build in ascending order, ref first. */
extern const wk_level wk_levels[];
extern const int wk_level_count;

/* What this CPU and system can run. */
uint32_t wk_cpu_detect(void);
/* Index into wk_levels, or -1. */
int wk_level_of_name(const char *name);
/* Highest level that cpu contains entirely. */
int wk_level_of_cpu(uint32_t cpu);

#endif

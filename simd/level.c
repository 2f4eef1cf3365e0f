/* level.c: what the CPU has and the system saves on a task switch. A level counts only when every bit of it
 * is there, so that one test of one bit suffices everywhere else. */
#include "simd/level.h"

#include <stdbool.h>
#include <string.h>

#include "engine/base/attr.h"

#if WK_X86_64
#include <cpuid.h>

enum {
    LEAF1_ECX_FMA = 1u << 12,
    LEAF1_ECX_OSXSAVE = 1u << 27,
    LEAF1_ECX_AVX = 1u << 28,
    LEAF1_ECX_F16C = 1u << 29,
    LEAF7_EBX_AVX2 = 1u << 5,
    LEAF7_EBX_BMI2 = 1u << 8,
    LEAF7_EBX_AVX512F = 1u << 16,
    LEAF7_EBX_AVX512DQ = 1u << 17,
    LEAF7_EBX_AVX512BW = 1u << 30,
    LEAF7_ECX_VNNI = 1u << 11,
    LEAF71_EAX_AVX512BF16 = 1u << 5,
    STATE_AVX = 0x06,   /* xmm, ymm */
    STATE_AVX512 = 0xe6 /* and k, upper halves of zmm0-15, zmm16-31 */
};
static const uint32_t leaf7_ebx_avx512vl = 1u << 31; /* does not fit an int */

/* XCR0: register sets that the system saves. Needs OSXSAVE. */
static uint32_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

static bool has_bf16(void) {
    unsigned n, a, b, c, d;
    return __get_cpuid_count(7, 0, &n, &b, &c, &d) && n >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
           has(a, LEAF71_EAX_AVX512BF16);
}

uint32_t wk_cpu_detect(void) {
    unsigned a, b, c, d, b7, c7;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!has(c, LEAF1_ECX_OSXSAVE | LEAF1_ECX_AVX | LEAF1_ECX_FMA | LEAF1_ECX_F16C)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d)) return 0;
    const uint32_t state = saved_state();
    if (!has(b7, LEAF7_EBX_AVX2 | LEAF7_EBX_BMI2) || !has(state, STATE_AVX)) return 0;
    const uint32_t avx512 =
        (uint32_t)LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW | leaf7_ebx_avx512vl;
    if (!has(b7, avx512) || !has(state, STATE_AVX512)) return WK_CPU_AVX2;
    const uint32_t bf16 = has_bf16() ? WK_CPU_AVX512BF16 : 0;
    if (!has(c7, LEAF7_ECX_VNNI)) return WK_CPU_AVX2 | WK_CPU_AVX512 | bf16;
    return WK_CPU_AVX2 | WK_CPU_AVX512 | WK_CPU_AVX512VNNI | bf16;
}

const wk_level wk_levels[] = {
    {"ref", 0},
    {"avx2", WK_CPU_AVX2},
    {"avx512", WK_CPU_AVX2 | WK_CPU_AVX512},
    {"avx512vnni", WK_CPU_AVX2 | WK_CPU_AVX512 | WK_CPU_AVX512VNNI},
};
#elif WK_ARM64

/* NEON is part of every 64-bit Arm; the system says whether there are dot products and matrix products. */
#if defined(__linux__)
#include <sys/auxv.h>

enum {
    HWCAP_HAS_ASIMDDP = 1u << 20,
    HWCAP2_HAS_I8MM = 1u << 13
};

static bool has_dotprod(void) { return getauxval(AT_HWCAP) & HWCAP_HAS_ASIMDDP; }
static bool has_i8mm(void) { return getauxval(AT_HWCAP2) & HWCAP2_HAS_I8MM; }
#elif defined(__APPLE__)
#include <sys/sysctl.h>

static bool has_dotprod(void) { return true; } /* every such Mac */
static bool has_i8mm(void) {
    int yes = 0;
    size_t size = sizeof(yes);
    return sysctlbyname("hw.optional.arm.FEAT_I8MM", &yes, &size, NULL, 0) == 0 && yes;
}
#else
static bool has_dotprod(void) { return false; }
static bool has_i8mm(void) { return false; }
#endif

uint32_t wk_cpu_detect(void) {
    if (!has_dotprod()) return WK_CPU_NEON;
    if (!has_i8mm()) return WK_CPU_NEON | WK_CPU_DOTPROD;
    return WK_CPU_NEON | WK_CPU_DOTPROD | WK_CPU_I8MM;
}

const wk_level wk_levels[] = {
    {"ref", 0},
    {"neon", WK_CPU_NEON},
    {"dotprod", WK_CPU_NEON | WK_CPU_DOTPROD},
    {"i8mm", WK_CPU_NEON | WK_CPU_DOTPROD | WK_CPU_I8MM},
};
#else
uint32_t wk_cpu_detect(void) { return 0; }

const wk_level wk_levels[] = {{"ref", 0}};
#endif

const int wk_level_count = (int)WK_COUNT(wk_levels);

int wk_level_of_name(const char *name) {
    for (int i = 0; i < wk_level_count; i++) {
        if (strcmp(name, wk_levels[i].name) == 0) return i;
    }
    return -1;
}

int wk_level_of_cpu(uint32_t cpu) {
    int best = 0;
    for (int i = 0; i < wk_level_count; i++) {
        if ((cpu & wk_levels[i].mask) == wk_levels[i].mask) best = i;
    }
    return best;
}

/* attr.h: the only compiler extensions of the house. */
#ifndef WK_ATTR_H
#define WK_ATTR_H

#if defined(__x86_64__)
#define WK_X86_64 1
#define WK_ARM64 0
#elif defined(__aarch64__)
#define WK_X86_64 0
#define WK_ARM64 1
#else
#define WK_X86_64 0
#define WK_ARM64 0
#endif

#define WK_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define WK_ALIGNED(n) __attribute__((aligned(n)))
#define WK_INLINE static inline __attribute__((always_inline))
#define WK_NOINLINE __attribute__((noinline))
#define WK_RESTRICT __restrict
#define WK_UNUSED __attribute__((unused))
#define WK_EXPORT __attribute__((visibility("default")))
#define WK_LIKELY(x) __builtin_expect(!!(x), 1)
#define WK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define WK_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#endif

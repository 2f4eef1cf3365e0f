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
/* The compiler takes vector v for changed here: it costs no instruction and keeps what v depends on. */
#if WK_X86_64
#define WK_OPAQUE(v) __asm__ volatile("" : "+v"(v))
#elif WK_ARM64
#define WK_OPAQUE(v) __asm__ volatile("" : "+w"(v))
#endif
#define WK_LIKELY(x) __builtin_expect(!!(x), 1)
#define WK_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Vectors of the compiler, where a baseline of 16 bytes is enough and no level is wanted: operators work lane by
 * lane, a cast keeps the bits, lanes move by constant numbers (those of b follow those of a). */
#define WK_VECTOR(bytes) __attribute__((vector_size(bytes)))
#define WK_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
/* The bytes of a file as name[] .. name_end[], 64-byte aligned, in the read-only data of the program. */
#if defined(__APPLE__)
#define WK_EMBED_SECTION ".const_data"
#define WK_EMBED_NAME(name) "_" #name
#define WK_EMBED_END ".text"
#else
#define WK_EMBED_SECTION ".section .rodata"
#define WK_EMBED_NAME(name) #name
#define WK_EMBED_END ".previous"
#endif
#define WK_EMBED(name, path)                                                                       \
    __asm__(WK_EMBED_SECTION "\n.balign 64\n.globl " WK_EMBED_NAME(name) "\n" WK_EMBED_NAME(name) ":\n.incbin \"" path       \
            "\"\n.globl " WK_EMBED_NAME(name##_end) "\n" WK_EMBED_NAME(name##_end) ":\n.byte 0\n" WK_EMBED_END "\n")
#define WK_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#endif

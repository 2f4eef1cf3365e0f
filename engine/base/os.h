/* os.h: what the engine needs of the operating system, behind functions that tests can fail. */
#ifndef WK_OS_H
#define WK_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"

/* A whole file, mapped read-only (regular files only; a folder, FIFO or device is refused by name).
 * Errors: WICK_E_IO with path and cause. n = 0 for an empty file, p then points to no byte. */
typedef struct wk_map_file {
    const uint8_t *p;
    size_t n;
    int64_t mtime_ns, ctime_ns; /* content, content or inode changed */
    int64_t age_ns;             /* since then, when it was mapped */
    uint64_t dev, ino;
} wk_map_file;
int wk_os_map(wk_map_file *out, const char *path, wk_err *err);
void wk_os_unmap(wk_map_file *m); /* zeroed record is fine */
/* Tells the kernel that [p, p+n) of a mapping is not needed any more. */
void wk_os_drop(const void *p, size_t n);
/* Maps all pages that [p, p+n) touches at once, for reading or writing: one call instead of a fault a page. A hint:
 * where the system cannot, or a page cannot be had, the first access finds out. */
void wk_os_populate(const void *p, size_t n, bool write);

/* A file that appears whole or not at all: written as PATH.part, synced, renamed to PATH, the folder synced. A file
 * that stood there stays whole until then. What open, write or commit refuse leaves no PATH.part behind, and the
 * record is then zeroed. Errors: WICK_E_IO with path and cause; E_NOMEM. */
typedef struct wk_out_file {
    char *path, *part; /* NULL: not open */
    int fd;
} wk_out_file;
int wk_os_out_open(wk_out_file *f, const char *path, wk_err *err);
int wk_os_out_write(wk_out_file *f, const void *p, size_t n, wk_err *err);
int wk_os_out_commit(wk_out_file *f, wk_err *err);
void wk_os_out_abandon(wk_out_file *f); /* removes PATH.part; a zeroed record is fine */

/* Reads a small text file (at most cap-1 bytes, NUL-terminated). Returns bytes or -1. */
int64_t wk_os_read_small(const char *path, char *buf, size_t cap);

uint64_t wk_os_now_ns(void); /* monotonic */

/* What this process may use. */
typedef struct wk_machine {
    int n_core;           /* physical cores in the affinity mask */
    int n_fast;           /* of them the fast ones: all, or where kinds differ (Arm capacities, x86 cpu_core) those
                             that do at least two thirds of the best */
    int n_affinity;       /* CPUs in the affinity mask */
    double quota;         /* cgroup CPU quota in CPUs, 0 = none */
    int n_thread;         /* the default team: max(1, min(n_fast, floor(quota))) */
    uint64_t mem_free;    /* bytes available: min(MemAvailable, cgroup headroom) */
    uint64_t mem_cgroup;  /* cgroup limit in bytes, 0 = none */
} wk_machine;
void wk_os_machine(wk_machine *m);
/* The same below another root ("" = the real one), for the CPUs of mask (n_word * 64 bits; NULL = the
 * affinity mask of the calling thread). Tests hand in trees of their own. */
void wk_os_machine_at(wk_machine *m, const char *root, const uint64_t *mask, size_t n_word);

/* Page faults of this process so far; major: that waited for a disk. */
void wk_os_faults(uint64_t *minor, uint64_t *major);

/* NUMA nodes that have a CPU of the affinity mask, 1 where there is no telling; text: "0: CPUs 0-7, 1: CPUs 8-15". */
int wk_os_nodes(char *text, size_t cap);
int wk_os_nodes_at(char *text, size_t cap, const char *root, const uint64_t *mask, size_t n_word);

/* CPU that the calling thread runs on, -1 if unknown. A load from memory where the C library keeps it. */
int wk_os_cpu(void);
/* Moves the calling thread to a CPU of its affinity mask that is none of taken[0 .. n-1] (-1: no CPU; read atomically)
 * and leaves the mask as it was. False: there is none, or the system refuses. */
bool wk_os_cpu_move(const int32_t *taken, int n);

/* Binds the calling thread to one CPU; mask (WK_OS_MASK words) gets what it was bound to, for wk_os_cpu_free. false:
 * the system refuses. */
enum { WK_OS_MASK = 16 };
bool wk_os_cpu_bind(int32_t cpu, uint64_t *mask);
void wk_os_cpu_free(const uint64_t *mask);

/* Bytes that nobody outside can foresee (seeds). Falls back to the clock where the system has none. */
void wk_os_random(void *p, size_t n);

/* Fault injection: the n-th system call of this file from now on fails with error code err_no
 * (1 = the next one, 0 = off). Counted: open, fstat, mmap, read; of a wk_out_file open, write, fsync, close, rename.
 * Tests only. */
void wk_os_fail_at(uint32_t n, int err_no);
/* True, with errno set, when the hook wants this call to fail: for the files of base/. */
bool wk_os_must_fail(void);

/* Futex with a private word; timeout_ns < 0 waits for ever. Spurious returns are allowed. */
void wk_os_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns);
void wk_os_futex_wake_all(const uint32_t *word);

/* An eventfd (a pipe where there is none): readable between set and clear. -1 is a valid, empty one. */
int wk_os_event_open(void);
void wk_os_event_set(int fd);
void wk_os_event_clear(int fd);
void wk_os_event_close(int fd);

#endif

/* os_posix.c: files, clock, futex, and what the machine grants to this process (Linux). */
#include "engine/base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/str.h"

static struct {
    uint32_t fail_in; /* atomic; fault hook: calls until the one that fails, 0 = off */
    int err_no;
} hook;

void wk_os_fail_at(uint32_t n, int err_no) {
    hook.err_no = err_no;
    __atomic_store_n(&hook.fail_in, n, __ATOMIC_RELEASE);
}

bool wk_os_must_fail(void) {
    const uint32_t left = __atomic_load_n(&hook.fail_in, __ATOMIC_ACQUIRE);
    if (left) __atomic_store_n(&hook.fail_in, left - 1, __ATOMIC_RELEASE);
    if (left != 1) return false;
    errno = hook.err_no;
    return true;
}

/* ---- files ------------------------------------------------------------------------------------- */

/* O_NONBLOCK: opening a FIFO must not wait for somebody to write to it. */
static int open_read(const char *path) {
    int fd;
    do {
        fd = wk_os_must_fail() ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static const char *kind_of(mode_t mode) {
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a FIFO";
    if (S_ISSOCK(mode)) return "a socket";
    if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
    return "no regular file";
}

static int fail_io(wk_err *err, const char *path, const char *what) {
    char buf[96];
    const char *cause = strerror_r(errno, buf, sizeof(buf)); /* the GNU form: always a string */
    return wk_fail(err, WICK_E_IO, "%s: %s: %s", wk_show(wk_cstr(path)).text, what, cause);
}

static int64_t ns_of(const struct timespec *t) { return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec; }

static int map_fd(wk_map_file *out, int fd, const char *path, wk_err *err) {
    struct stat st;
    if (wk_os_must_fail() || fstat(fd, &st)) return fail_io(err, path, "cannot read its size");
    if (!S_ISREG(st.st_mode))
        return wk_fail(err, WICK_E_IO, "%s is %s, a regular file is wanted",
                       wk_show(wk_cstr(path)).text, kind_of(st.st_mode));
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with this clock */
    wk_map_file m = {.mtime_ns = ns_of(&st.st_mtim),
                     .ctime_ns = ns_of(&st.st_ctim),
                     .dev = (uint64_t)st.st_dev,
                     .ino = (uint64_t)st.st_ino};
    m.age_ns = ns_of(&now) - (m.ctime_ns > m.mtime_ns ? m.ctime_ns : m.mtime_ns);
    if ((uint64_t)st.st_size > SIZE_MAX / 2)
        return wk_fail(err, WICK_E_IO, "%s: %lld bytes do not fit in the address space",
                       wk_show(wk_cstr(path)).text, (long long)st.st_size);
    m.n = (size_t)st.st_size;
    if (m.n) {
        void *p = wk_os_must_fail() ? MAP_FAILED : mmap(NULL, m.n, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) return fail_io(err, path, "cannot map it");
        m.p = (const uint8_t *)p;
    }
    *out = m;
    return WICK_OK;
}

int wk_os_map(wk_map_file *out, const char *path, wk_err *err) {
    *out = (wk_map_file){0};
    const int fd = open_read(path);
    if (fd < 0) return fail_io(err, path, "cannot open it");
    const int rc = map_fd(out, fd, path, err);
    (void)close(fd); /* read only: nothing can be lost */
    return rc;
}

/* The mapping was made from a plain pointer; const only says that nobody writes. */
static void *loose(const void *p) {
    union {
        const void *in;
        void *out;
    } u = {p};
    return u.out;
}

void wk_os_unmap(wk_map_file *m) {
    if (m->p) (void)munmap(loose(m->p), m->n); /* cannot fail for a range that we mapped */
    *m = (wk_map_file){0};
}

void wk_os_drop(const void *p, size_t n) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)p;
    const uintptr_t skip = (page - at % page) % page;
    if (n <= skip || n - skip < page) return; /* only whole pages inside the range */
    (void)madvise((uint8_t *)loose(p) + skip, (n - skip) / page * page, MADV_DONTNEED); /* a hint */
}

#ifndef MADV_POPULATE_READ /* Linux 5.14; an older kernel refuses the number */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

void wk_os_populate(const void *p, size_t n, bool write) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), skip = (uintptr_t)p % page;
    if (n == 0) return;
    (void)madvise((uint8_t *)loose(p) - skip, (n + skip + page - 1) / page * page,
                  write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ); /* a hint */
}

int64_t wk_os_read_small(const char *path, char *buf, size_t cap) {
    if (cap == 0) return -1;
    buf[0] = '\0';
    const int fd = open_read(path);
    if (fd < 0) return -1;
    size_t n = 0;
    ssize_t got = 1;
    while (got != 0 && n < cap - 1) {
        got = wk_os_must_fail() ? -1 : read(fd, buf + n, cap - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        n += (size_t)got;
    }
    (void)close(fd); /* read only: nothing can be lost */
    buf[n] = '\0';
    return got < 0 ? -1 : (int64_t)n;
}

/* ---- clock, chance, futex ---------------------------------------------------------------------- */

uint64_t wk_os_now_ns(void) {
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail with this clock */
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void wk_os_random(void *p, size_t n) {
    uint8_t *b = (uint8_t *)p;
    size_t done = 0;
    while (done < n) {
        const ssize_t got = getrandom(b + done, n - done, GRND_NONBLOCK);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += (size_t)got;
    }
    uint64_t mix = wk_os_now_ns() ^ (uintptr_t)p; /* only where the system has nothing better */
    for (; done < n; done++) {
        mix = mix * 6364136223846793005u + 1442695040888963407u;
        b[done] = (uint8_t)(mix >> 56);
    }
}

void wk_os_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns) {
    struct timespec t = {.tv_sec = (time_t)(timeout_ns / 1000000000),
                         .tv_nsec = timeout_ns % 1000000000};
    /* Changed, woken, timed out or interrupted: the caller looks at the word again in any case. */
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &t, NULL,
                  0);
}

void wk_os_futex_wake_all(const uint32_t *word) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0); /* number woken */
}

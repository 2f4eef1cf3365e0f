/* own.c: private files by POSIX. */
#include "engine/base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/dir.h"

enum { PATH_BYTES = 4096 };

/* Group and others may not write: S_ISVTX folders are refused as well, a cache needs no shared one. */
static bool is_mine(const struct stat *st) {
    return st->st_uid == geteuid() && (st->st_mode & 022) == 0;
}

bool wk_own_dir(const char *path) {
    struct stat st;
    if (stat(path, &st)) {
        const mode_t mask = umask(077);
        const int rc = wk_dir_make(path, NULL);
        (void)umask(mask);
        if (rc || stat(path, &st)) return false;
    }
    return S_ISDIR(st.st_mode) && is_mine(&st);
}

int wk_own_open(const char *path, uint64_t *size) {
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && is_mine(&st)) {
        *size = (uint64_t)st.st_size;
        return fd;
    }
    (void)close(fd); /* read only: nothing can be lost */
    return -1;
}

bool wk_own_read(int fd, void *p, size_t n, uint64_t at) {
    uint8_t *b = p;
    while (n) {
        const ssize_t got = pread(fd, b, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        b += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

void wk_own_close(int fd) {
    if (fd >= 0) (void)close(fd); /* read only: nothing can be lost */
}

bool wk_own_private(int fd) { return fchmod(fd, 0600) == 0; }

void wk_own_touch(const char *path) {
    (void)utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW); /* a hint */
}

/* ---- trimming ----------------------------------------------------------------------------------- */

typedef struct oldest {
    const char *dir, *prefix;
    uint64_t sum;
    struct timespec when;
    char path[PATH_BYTES]; /* "": none */
} oldest;

static bool is_before(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static void look(void *ud, const char *name) {
    oldest *o = ud;
    struct stat st;
    char path[PATH_BYTES];
    if (strncmp(name, o->prefix, strlen(o->prefix)) != 0) return;
    const int n = snprintf(path, sizeof(path), "%s/%s", o->dir, name);
    if (n < 0 || (size_t)n >= sizeof(path) || lstat(path, &st) || !S_ISREG(st.st_mode)) return;
    o->sum += (uint64_t)st.st_size;
    if (o->path[0] && !is_before(&st.st_mtim, &o->when)) return;
    o->when = st.st_mtim;
    memcpy(o->path, path, (size_t)n + 1);
}

bool wk_own_trim(const char *dir, const char *prefix, uint64_t max) {
    oldest *o = wk_new(oldest);
    bool fits = false;
    while (o) {
        *o = (oldest){.dir = dir, .prefix = prefix};
        if (wk_dir_list(dir, look, o, NULL)) break;
        fits = o->sum <= max;
        if (fits || !o->path[0] || unlink(o->path)) break;
    }
    wk_free(o);
    return fits;
}

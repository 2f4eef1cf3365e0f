/* os_out.c: files that appear whole or not at all. Writing in place was rejected: a full disk or a lost power would
 * leave half a model where a whole one stood. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum { WRITE_MOST = 1 << 30 }; /* bytes a call; Linux takes less than 2^31 */

static const char PART[] = ".part";

static int fail_io(wk_err *err, const char *path, const char *what) {
    char buf[96];
    const char *cause = strerror_r(errno, buf, sizeof(buf)); /* the GNU form: always a string */
    return wk_fail(err, WICK_E_IO, "%s: %s: %s", wk_show(wk_cstr(path)).text, what, cause);
}

static void forget(wk_out_file *f) {
    wk_free(f->path);
    wk_free(f->part);
    *f = (wk_out_file){.fd = -1};
}

void wk_os_out_abandon(wk_out_file *f) {
    if (!f->part) return;
    if (f->fd >= 0) (void)close(f->fd); /* what it holds goes away */
    (void)unlink(f->part);              /* nothing better can be done */
    forget(f);
}

/* The sentence of errno, then nothing is left. */
static int give_up(wk_out_file *f, const char *what, wk_err *err) {
    const int rc = fail_io(err, f->path, what);
    wk_os_out_abandon(f);
    return rc;
}

/* What stands at path may only be a file: found out before gigabytes are written. */
static int check_place(const char *path, wk_err *err) {
    struct stat st;
    if (!path || !*path) return wk_fail(err, WICK_E_IO, "the path of the file to write is empty");
    if (stat(path, &st) || S_ISREG(st.st_mode)) return WICK_OK;
    return wk_fail(err, WICK_E_IO, "%s is %s, it cannot be written over",
                   wk_show(wk_cstr(path)).text,
                   S_ISDIR(st.st_mode) ? "a folder" : "no regular file");
}

int wk_os_out_open(wk_out_file *f, const char *path, wk_err *err) {
    *f = (wk_out_file){.fd = -1};
    WK_TRY(check_place(path, err));
    const size_t n = strlen(path);
    f->path = wk_strdup_n(path, n);
    f->part = (char *)wk_alloc(n + sizeof(PART));
    if (!f->path || !f->part) {
        forget(f);
        return wk_fail(err, WICK_E_NOMEM, "no memory for the name of the file to write");
    }
    memcpy(f->part, path, n);
    memcpy(f->part + n, PART, sizeof(PART));
    do {
        f->fd =
            wk_os_must_fail() ? -1 : open(f->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    } while (f->fd < 0 && errno == EINTR);
    if (f->fd >= 0) return WICK_OK;
    const int rc = fail_io(err, f->part, "cannot make it");
    forget(f);
    return rc;
}

int wk_os_out_write(wk_out_file *f, const void *p, size_t n, wk_err *err) {
    const uint8_t *b = (const uint8_t *)p;
    while (n) {
        const size_t most = n < WRITE_MOST ? n : WRITE_MOST;
        const ssize_t got = wk_os_must_fail() ? -1 : write(f->fd, b, most);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = ENOSPC; /* a file that takes nothing */
        if (got <= 0) return give_up(f, "cannot write it", err);
        b += got;
        n -= (size_t)got;
    }
    return WICK_OK;
}

/* The new name stands in the folder on the disk. File systems without that call (EINVAL) keep it in their own way. */
static bool sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) : 0;
    char *folder = slash ? wk_strdup_n(path, n ? n : 1) : wk_strdup_n(".", 1);
    if (!folder) {
        errno = ENOMEM;
        return false;
    }
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    wk_free(folder);
    if (fd < 0) return errno == EACCES; /* a folder that may be written but not read */
    const bool ok = fsync(fd) == 0 || errno == EINVAL;
    (void)close(fd); /* read only: nothing can be lost */
    return ok;
}

int wk_os_out_commit(wk_out_file *f, wk_err *err) {
    if (wk_os_must_fail() || fsync(f->fd)) return give_up(f, "cannot sync it", err);
    const int fd = f->fd;
    f->fd = -1; /* closed, whatever close says */
    if (wk_os_must_fail() || close(fd)) return give_up(f, "cannot close it", err);
    if (wk_os_must_fail() || rename(f->part, f->path))
        return give_up(f, "cannot rename the written file to it", err);
    const int rc = sync_folder(f->path) ? WICK_OK : fail_io(err, f->path, "cannot sync its folder");
    forget(f);
    return rc;
}

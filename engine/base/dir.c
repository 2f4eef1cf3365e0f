/* dir.c: folders and whole small files by POSIX. */
#include "engine/base/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"

enum { PATH_BYTES = 4096 };

static int fail(wk_err *err, const char *what, const char *path) {
    return wk_fail(err, WICK_E_IO, "%s: %s: %s", wk_show(wk_cstr(path)).text, what,
                   strerror(errno));
}

static int join(char out[PATH_BYTES], const char *a, const char *between, const char *b,
                wk_err *err) {
    const int n = snprintf(out, PATH_BYTES, "%s%s%s", a, between, b);
    if (n > 0 && n < PATH_BYTES) return WICK_OK;
    return wk_fail(err, WICK_E_IO, "%s: the path is longer than %d bytes", wk_show(wk_cstr(a)).text,
                   PATH_BYTES - 1);
}

static bool is_kind(const char *path, mode_t kind) {
    struct stat st;
    return stat(path, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}
bool wk_dir_exists(const char *path) { return is_kind(path, S_IFDIR); }
bool wk_file_exists(const char *path) { return is_kind(path, S_IFREG); }

int wk_dir_make(const char *path, wk_err *err) {
    char part[PATH_BYTES];
    WK_TRY(join(part, path, "", "", err));
    for (char *p = part + 1; *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        if (mkdir(part, 0777) && errno != EEXIST)
            return fail(err, "the folder cannot be made", part);
        *p = '/';
    }
    if (mkdir(part, 0777) == 0) return WICK_OK;
    if (errno == EEXIST && wk_dir_exists(path)) return WICK_OK;
    return fail(err, "the folder cannot be made", path);
}

/* ---- listing ------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

typedef struct names {
    char **p;
    size_t n, room;
} names;

static bool add_name(names *l, const char *name) {
    if (l->n == l->room) {
        const size_t room = l->room ? 2 * l->room : 32;
        char **p = wk_realloc_array(l->p, room, sizeof(*p));
        if (!p) return false;
        l->p = p;
        l->room = room;
    }
    l->p[l->n] = wk_strdup_n(name, strlen(name));
    return l->p[l->n++] != NULL;
}

int wk_dir_list(const char *path, void (*fn)(void *ud, const char *name), void *ud, wk_err *err) {
    names l = {0};
    DIR *d = opendir(path);
    if (!d) return fail(err, "the folder cannot be read", path);
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            ok = add_name(&l, e->d_name);
    (void)closedir(d); /* it was only read */
    if (ok && l.n > 1) qsort(l.p, l.n, sizeof(*l.p), by_name);
    for (size_t i = 0; i < l.n; i++) {
        if (ok) fn(ud, l.p[i]);
        wk_free(l.p[i]);
    }
    wk_free(l.p);
    return ok ? WICK_OK
              : wk_fail(err, WICK_E_NOMEM, "no memory for the names in %s",
                        wk_show(wk_cstr(path)).text);
}

/* ---- removing, renaming, writing ----------------------------------------------------------------- */

typedef struct removal {
    const char *path;
    int rc;
    wk_err *err;
} removal;

static void remove_in(void *ud, const char *name) {
    removal *r = ud;
    char path[PATH_BYTES];
    if (!r->rc) r->rc = join(path, r->path, "/", name, r->err);
    if (!r->rc) r->rc = wk_file_remove(path, r->err);
}

int wk_dir_remove(const char *path, wk_err *err) {
    if (!wk_dir_exists(path)) return WICK_OK;
    removal r = {path, WICK_OK, err};
    WK_TRY(wk_dir_list(path, remove_in, &r, err));
    WK_TRY(r.rc);
    return rmdir(path) ? fail(err, "the folder cannot be removed", path) : WICK_OK;
}

int wk_file_remove(const char *path, wk_err *err) {
    return unlink(path) && errno != ENOENT ? fail(err, "cannot be removed", path) : WICK_OK;
}

int wk_dir_sync(const char *path, wk_err *err) {
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail(err, "the folder cannot be opened", path);
    const bool ok = fsync(fd) == 0 || errno == EINVAL; /* some file systems cannot */
    const int rc = ok ? WICK_OK : fail(err, "the folder cannot be synced", path);
    (void)close(fd);
    return rc;
}

static int sync_parent(const char *path, wk_err *err) {
    char parent[PATH_BYTES];
    WK_TRY(join(parent, path, "", "", err));
    char *slash = strrchr(parent, '/');
    if (slash == parent) slash++;
    if (slash) *slash = '\0';
    return wk_dir_sync(slash ? parent : ".", err);
}

int wk_file_rename(const char *from, const char *to, wk_err *err) {
    if (rename(from, to)) return fail(err, "cannot be renamed", from);
    return sync_parent(to, err);
}

int wk_dir_exchange(const char *a, const char *b, wk_err *err) {
#ifdef RENAME_EXCHANGE
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0) return sync_parent(b, err);
#endif
    char away[PATH_BYTES];
    WK_TRY(join(away, b, ".away", "", err));
    WK_TRY(wk_file_rename(b, away, err));
    WK_TRY(wk_file_rename(a, b, err));
    return wk_file_rename(away, a, err);
}

int wk_file_write(const char *path, wk_str text, wk_err *err) {
    wk_out_file f;
    WK_TRY(wk_os_out_open(&f, path, err));
    WK_TRY(wk_os_out_write(&f, text.p, text.n, err));
    return wk_os_out_commit(&f, err);
}

int wk_file_link(const char *path, const char *target, wk_err *err) {
    char part[PATH_BYTES];
    WK_TRY(join(part, path, ".part", "", err));
    WK_TRY(wk_file_remove(part, err));
    if (symlink(target, part)) return fail(err, "the link cannot be made", part);
    return wk_file_rename(part, path, err);
}

uint64_t wk_disk_free(const char *path) {
    struct statvfs s;
    if (statvfs(path, &s)) return UINT64_MAX;
    return (uint64_t)s.f_bavail * (uint64_t)s.f_frsize;
}

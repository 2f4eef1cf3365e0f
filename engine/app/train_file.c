/* train_file.c: the folder of a run: its options as JSON, its lock, who waits for whom. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/app/env.h"
#include "engine/app/signals.h"
#include "engine/app/train_impl.h"
#include "engine/base/dir.h"
#include "engine/base/err.h"
#include "engine/base/json.h"
#include "engine/base/os.h"

static const struct {
    char kind;
    const char *name, *meaning;
    size_t at;
} members[] = {
#define S 'S'
#define I 'I'
#define D 'D'
#define WK_RUN(kind, name, meaning) {kind, #name, meaning, offsetof(wk_run, name)},
#include "engine/app/train_run.def"
#undef WK_RUN
#undef S
#undef I
#undef D
};

/* Fields of the record by their place; aligned, as offsetof gives it. */
static const void *place(const wk_run *r, size_t i) { return (const char *)r + members[i].at; }
static void *place_in(wk_run *r, size_t i) { return (char *)r + members[i].at; }

bool wk_run_member(const wk_run *r, size_t i, const char **name, const char **meaning, char *value) {
    if (i >= WK_COUNT(members)) return false;
    *name = members[i].name;
    *meaning = members[i].meaning;
    if (members[i].kind == 'S') (void)snprintf(value, WK_RUN_TEXT, "%s", (const char *)place(r, i));
    if (members[i].kind == 'I') (void)snprintf(value, WK_RUN_TEXT, "%lld", (long long)*(const int64_t *)place(r, i));
    if (members[i].kind == 'D') (void)snprintf(value, WK_RUN_TEXT, "%.17g", *(const double *)place(r, i));
    return true;
}

wick_status wk_train_path(const wk_train *t, char *out, const char *name, wick_error *err) {
    const int n = snprintf(out, WK_RUN_PATH, "%s/%s", t->dir, name);
    if (n > 0 && n < WK_RUN_PATH) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "%s: the path is too long", wk_show(wk_cstr(t->dir)).text);
}

wick_status wk_run_save(const wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH], value[WK_RUN_TEXT];
    const char *name, *meaning;
    wk_buf b;
    WK_TRY(wk_train_path(t, path, "options.json", err));
    wk_buf_init(&b, 0);
    (void)wk_buf_adds(&b, "{\"schema\":\"wick.run/1\"");
    for (size_t i = 0; wk_run_member(&t->run, i, &name, &meaning, value); i++) {
        (void)wk_buf_addf(&b, ",\n\"%s\":", name);
        if (members[i].kind == 'S')
            wk_json_put_str(&b, wk_cstr(value));
        else
            (void)wk_buf_adds(&b, value);
    }
    (void)wk_buf_adds(&b, "}\n");
    const wick_status rc = b.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for %s", wk_show(wk_cstr(path)).text)
                                    : wk_file_write(path, wk_buf_str(&b), err);
    wk_buf_fini(&b);
    return rc;
}

static wick_status take(wk_run *r, size_t i, const wk_json *v, wick_error *err) {
    const int type = wk_json_type(v);
    const void *const later[] = {&r->optimizer, r->device, &r->bf16}; /* not in the runs of the first versions: 0 */
    for (size_t j = 0; j < WK_COUNT(later) && !v; j++)
        if (place(r, i) == later[j]) return WICK_OK;
    const wk_str s = type == WK_JSON_STR ? wk_json_str(v) : WK_STR("");
    const bool number = type == WK_JSON_INT || (members[i].kind == 'D' && type == WK_JSON_REAL);
    if (members[i].kind == 'S' ? type != WK_JSON_STR || s.n >= WK_RUN_TEXT || memchr(s.p, 0, s.n) : !number)
        return wk_fail(err, WICK_E_FORMAT, "\"%s\" is missing or of another kind", members[i].name);
    if (members[i].kind == 'S') {
        memcpy(place_in(r, i), s.p, s.n);
        ((char *)place_in(r, i))[s.n] = 0;
    }
    if (members[i].kind == 'I') *(int64_t *)place_in(r, i) = wk_json_int(v);
    if (members[i].kind == 'D') *(double *)place_in(r, i) = wk_json_real(v);
    return WICK_OK;
}

wick_status wk_run_load(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH];
    wk_map_file map = {0};
    wk_json_doc *doc = NULL;
    WK_TRY(wk_train_path(t, path, "options.json", err));
    WK_TRY(wk_os_map(&map, path, err));
    wick_status rc = wk_json_parse(&doc, (wk_str){(const char *)map.p, map.n}, 4, 4096, err);
    for (size_t i = 0; i < WK_COUNT(members) && !rc; i++)
        rc = take(&t->run, i, wk_json_get(wk_json_root(doc), members[i].name), err);
    wk_json_free(doc);
    wk_os_unmap(&map);
    return rc ? wk_fail_at(err, "%s", wk_show(wk_cstr(path)).text) : WICK_OK;
}

/* ---- the folder ---------------------------------------------------------------------------------- */

static wick_status take_lock(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH];
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    WK_TRY(wk_train_path(t, path, "lock", err));
    t->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (t->lock < 0) return wk_fail(err, WICK_E_IO, "%s: %s", wk_show(wk_cstr(path)).text, strerror(errno));
    if (fcntl(t->lock, F_SETLK, &whole) == 0) return WICK_OK;
    if (errno != EACCES && errno != EAGAIN) return WICK_OK; /* a file system without locks */
    return wk_fail(err, WICK_E_BUSY, "%s: another program is training there", wk_show(wk_cstr(t->dir)).text);
}

wick_status wk_train_enter(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH], full[WK_RUN_PATH];
    WK_TRY(wk_dir_make(t->dir, err));
    if (realpath(t->dir, full)) (void)snprintf(t->dir, sizeof(t->dir), "%s", full);
    WK_TRY(take_lock(t, err));
    WK_TRY(wk_train_path(t, path, "latest", err));
    if (t->resumed || !wk_dir_exists(path)) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "%s holds a run; --resume %s goes on with it, -o begins another one elsewhere",
                   wk_show(wk_cstr(t->dir)).text, wk_show(wk_cstr(t->dir)).text);
}

void wk_train_leave(wk_train *t) {
    if (t->lock >= 0) (void)close(t->lock); /* the lock goes with it; the file stays, it is no secret */
    t->lock = -1;
}

wick_status wk_train_copy(const char *from, const char *to, wick_error *err) {
    wk_map_file map = {0};
    WK_TRY(wk_os_map(&map, from, err));
    const wick_status rc = wk_file_write(to, (wk_str){(const char *)map.p, map.n}, err);
    wk_os_unmap(&map);
    return rc;
}

/* ---- ranks --------------------------------------------------------------------------------------- */

bool wk_train_is_follower(void) {
    const char *rank = wk_env("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = wk_env("PMI_RANK");
    return rank && strcmp(rank, "0") != 0;
}

/* Every rank of a job has the same name of it. */
static const char *job_name(void) {
    const char *name = wk_env("PMIX_NAMESPACE");
    if (!name) name = wk_env("OMPI_MCA_ess_base_jobid");
    return name ? name : "job";
}

wick_status wk_train_call(const wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH];
    WK_TRY(wk_train_path(t, path, "job", err));
    return wk_file_write(path, wk_cstr(job_name()), err);
}

wick_status wk_train_wait(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH], text[256];
    const struct timespec pause = {.tv_nsec = 50000000};
    WK_TRY(wk_train_path(t, path, "job", err));
    while (wk_os_read_small(path, text, sizeof(text)) < 0 || strcmp(text, job_name()) != 0) {
        if (wk_signals_interrupted() || wk_signals_terminated())
            return wk_fail(err, WICK_E_CANCELED, "stopped while waiting for rank 0 to make the files of the run");
        (void)nanosleep(&pause, NULL); /* a shorter wait asks again */
    }
    return wk_run_load(t, err);
}

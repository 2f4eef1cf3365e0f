/* bench_child.c: another program in a process group of its own: its output with a bound, its time with a limit, its end
 * as a sentence. posix_spawn, because a library with threads must not be forked. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/app/bench_impl.h"
#include "engine/app/signals.h"
#include "engine/base/err.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum { OUT_MAX = 1 << 20, SLICE_MS = 100 };

typedef struct process {
    pid_t pid;
    int out, err; /* our ends of its pipes, -1: closed */
    char line[160];
    size_t n_line;
} process;

static double now_s(void) { return (double)wk_os_now_ns() * 1e-9; }

static int make_pipe(int fd[2]) { return pipe2(fd, O_CLOEXEC) == 0 ? 0 : errno; }

static void close_end(int *fd) {
    if (*fd >= 0) (void)close(*fd); /* a pipe: nothing is lost */
    *fd = -1;
}

static int spawn(pid_t *pid, const char *const *argv, int out, int err_fd) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t defaults;
    char *const *words = (char *const *)(uintptr_t)argv; /* exec's signature is older than const */
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGXFSZ);
    int rc = posix_spawn_file_actions_init(&files);
    if (rc) return rc;
    rc = posix_spawnattr_init(&attr);
    if (!rc) {
        (void)posix_spawnattr_setsigdefault(&attr, &defaults); /* these three take any value */
        (void)posix_spawnattr_setpgroup(&attr, 0);
        (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
        rc = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        if (!rc) rc = posix_spawn_file_actions_adddup2(&files, out, 1);
        if (!rc) rc = posix_spawn_file_actions_adddup2(&files, err_fd, 2);
        if (!rc) rc = posix_spawn(pid, argv[0], &files, &attr, words, environ);
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return rc;
}

static wick_status begin(process *p, const char *const *argv, wick_error *err) {
    int out[2] = {-1, -1}, errs[2] = {-1, -1};
    int rc = make_pipe(out);
    if (!rc) rc = make_pipe(errs);
    if (!rc) rc = spawn(&p->pid, argv, out[1], errs[1]);
    close_end(&out[1]);
    close_end(&errs[1]);
    p->out = out[0];
    p->err = errs[0];
    if (!rc) return WICK_OK;
    close_end(&p->out);
    close_end(&p->err);
    return wk_fail(err, WICK_E_IO, "%s cannot be run: %s", wk_show(wk_cstr(argv[0])).text,
                   strerror(rc));
}

/* The last line that holds anything. */
static void keep_tail(process *p, wk_child *c, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n') {
            p->n_line = 0;
            continue;
        }
        if (p->n_line < 80) p->line[p->n_line++] = s[i];
        (void)snprintf(c->tail, sizeof(c->tail), "%s", wk_show((wk_str){p->line, p->n_line}).text);
    }
}

/* false: this end is closed. */
static bool pump(process *p, wk_child *c, int *fd) {
    char buf[4096];
    const ssize_t n = read(*fd, buf, sizeof(buf));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (n <= 0) {
        close_end(fd);
        return false;
    }
    if (fd == &p->out)
        (void)wk_buf_add(&c->out, buf, (size_t)n); /* over the cap: seen by the caller of pump */
    else
        keep_tail(p, c, buf, (size_t)n);
    return true;
}

enum { END_CLOSED, END_TIME, END_SIGNAL, END_FULL };

/* Reads until both ends are closed, or until there is a reason to stop. */
static int listen_to(process *p, wk_child *c, double until) {
    while (p->out >= 0 || p->err >= 0) {
        struct pollfd f[2] = {{.fd = p->out, .events = POLLIN}, {.fd = p->err, .events = POLLIN}};
        if (wk_signals_interrupted() || wk_signals_terminated()) return END_SIGNAL;
        if (now_s() > until) return END_TIME;
        if (poll(f, 2, SLICE_MS) <= 0) continue; /* nothing yet, or a signal */
        if (f[0].revents) (void)pump(p, c, &p->out);
        if (f[1].revents) (void)pump(p, c, &p->err);
        if (c->out.failed) return END_FULL;
    }
    return END_CLOSED;
}

/* It has closed its output; it may have some time to end. */
static bool reap(process *p, int *status, double until) {
    for (;;) {
        const pid_t got = waitpid(p->pid, status, WNOHANG);
        if (got == p->pid) return true;
        if (got < 0 && errno != EINTR) return false;
        if (now_s() > until) return false;
        (void)poll(NULL, 0, 5);
    }
}

static wick_status refuse(const wk_child *c, const char *name, const char *what, wick_error *err) {
    const wk_shown who = wk_show(wk_cstr(name));
    if (c->tail[0])
        return wk_fail(err, WICK_E_IO, "%s %s; its last words: %.90s", who.text, what, c->tail);
    return wk_fail(err, WICK_E_IO, "%s %s and said nothing", who.text, what);
}

static wick_status judge(const wk_child *c, const char *name, int end, int status, int limit_s,
                         wick_error *err) {
    char what[64];
    if (end == END_SIGNAL) return wk_fail(err, WICK_E_CANCELED, "stopped by a signal");
    if (end == END_FULL) return refuse(c, name, "wrote more than 1 MiB", err);
    if (end == END_TIME) {
        (void)snprintf(what, sizeof(what), "did not end within %d s", limit_s);
        return refuse(c, name, what, err);
    }
    if (WIFSIGNALED(status)) {
        (void)snprintf(what, sizeof(what), "was ended by signal %d", WTERMSIG(status));
        return refuse(c, name, what, err);
    }
    if (WEXITSTATUS(status) == 0) return WICK_OK;
    (void)snprintf(what, sizeof(what), "ended with exit code %d", WEXITSTATUS(status));
    return refuse(c, name, what, err);
}

wick_status wk_child_run(wk_child *c, const char *const *argv, int limit_s, wick_error *err) {
    process p = {.out = -1, .err = -1};
    int status = 0;
    const double begun = now_s(), until = begun + limit_s;
    wk_buf_init(&c->out, OUT_MAX);
    c->tail[0] = 0;
    WK_TRY(begin(&p, argv, err));
    int end = listen_to(&p, c, until);
    close_end(&p.out);
    close_end(&p.err);
    if (end == END_CLOSED && !reap(&p, &status, until)) end = END_TIME;
    if (end != END_CLOSED) {
        (void)kill(-p.pid, SIGKILL); /* the whole group; it may be gone already */
        while (waitpid(p.pid, &status, 0) < 0 && errno == EINTR) continue;
    }
    c->seconds = now_s() - begun;
    return judge(c, argv[0], end, status, limit_s, err);
}

void wk_child_fini(wk_child *c) { wk_buf_fini(&c->out); }

/* wall_child.c: a job in a process of its own: its peak memory is its own then, and it competes as a neighbour does.
 *
 *   parent                         child (this program again, --job)
 *   begin: spawn, wait       <-    "ready BYTES TOK_S" after its first steps
 *   measures beside it              steps until its stdin is closed
 *   end: closes stdin, reads <-    "rate TOK_S", ends */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/app/signals.h"
#include "engine/app/wall_impl.h"
#include "engine/base/err.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum { READY_S = 180, END_S = 60, SLICE_MS = 100, LINE = 320, SERVE_CTX = 2048, SERVE_PROMPT = 512 };

static double now_s(void) { return (double)wk_os_now_ns() * 1e-9; }

/* ---- child --------------------------------------------------------------------------------------- */

static bool stdin_open(void) {
    struct pollfd f = {.fd = STDIN_FILENO, .events = POLLIN};
    char c;
    if (poll(&f, 1, 0) <= 0) return true;
    return read(STDIN_FILENO, &c, 1) > 0;
}

static void tell(const char *what, double a, double b) {
    char line[LINE];
    const int n = snprintf(line, sizeof(line), "%s %.0f %.6g\n", what, a, b);
    if (n > 0 && write(STDOUT_FILENO, line, (size_t)n) != n) _exit(1); /* nobody listens any more */
}

static wick_status train(const wk_wall *w, wk_wall_job job, wick_error *err) {
    const wick_x_train_options o = wk_wall_options(w, job);
    wick_x_trainer *t = NULL;
    wick_x_train_step s = WICK_X_TRAIN_STEP_INIT;
    WK_TRY(wick_x_trainer_open(&o, &t, err));
    wick_status rc = wick_x_trainer_step(t, &s, err);
    if (!rc) rc = wick_x_trainer_step(t, &s, err);
    if (!rc) tell("ready", wk_wall_peak_rss(), s.s > 0 ? (double)s.tokens_step / s.s : 0);
    const double begun = now_s();
    double tokens = 0;
    while (!rc && stdin_open()) {
        rc = wick_x_trainer_step(t, &s, err);
        tokens += (double)s.tokens_step;
    }
    if (!rc && tokens > 0) tell("rate", 0, tokens / (now_s() - begun));
    wick_x_trainer_close(t);
    return rc;
}

static wick_status serve(const wk_wall *w, wick_error *err) {
    wick_model *m = NULL;
    wick_engine *e = NULL;
    double s[16];
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.n_ctx = SERVE_CTX;
    o.threads = (int32_t)w->args.v[WK_ARG_THREADS].i;
    wick_status rc = wick_model_open(w->base, NULL, &m, err);
    if (!rc) rc = wick_engine_open(m, &o, &e, err);
    wick_x_pass p = {.size = sizeof(p), .n_seq = 1, .n_tok = SERVE_PROMPT, .reps = 1};
    if (!rc) rc = wick_x_pass_run(e, &p, s, NULL, err);
    p.n_tok = 1;
    p.depth = SERVE_PROMPT;
    p.reps = 16;
    if (!rc) rc = wick_x_pass_run(e, &p, s, NULL, err);
    if (!rc) tell("ready", wk_wall_peak_rss(), 0);
    wick_engine_close(e);
    wick_model_close(m);
    return rc;
}

/* --job JOB,CTX,BATCH,FOLDER */
int wk_wall_child_main(wk_args *a) {
    wick_error err = {0};
    int job = 0, ctx = 0, batch = 0, at = 0;
    wk_wall w = {.args = *a};
    const char *s = a->v[WK_ARG_JOB].s;
    const bool ok = sscanf(s, "%d,%d,%d,%n", &job, &ctx, &batch, &at) == 3 && at > 0 && job >= 0 && job <= WK_CHILD_SERVE;
    if (!ok) {
        (void)wk_fail(&err, WICK_E_ARG, "--job wants JOB,CTX,BATCH,FOLDER");
        return wk_report(&err);
    }
    w.train_ctx = ctx;
    w.train_batch = batch;
    (void)snprintf(w.base, sizeof(w.base), "%s", a->model_path);
    (void)snprintf(w.fresh, sizeof(w.fresh), "%.150s/fresh.gguf", s + at);
    (void)snprintf(w.adapter, sizeof(w.adapter), "%.150s/adapter.gguf", s + at);
    (void)snprintf(w.data, sizeof(w.data), "%.150s/data.wtok", s + at);
    const wick_status rc = job == WK_CHILD_SERVE ? serve(&w, &err) : train(&w, (wk_wall_job)job, &err);
    err.code = rc;
    return rc ? wk_report(&err) : 0;
}

/* ---- parent -------------------------------------------------------------------------------------- */

static void close_end(int *fd) {
    if (*fd >= 0) (void)close(*fd); /* a pipe: nothing is lost */
    *fd = -1;
}

static int spawn(const wk_wall *w, wk_wall_child *c, int job, int in, int out) {
    char spec[256], threads[16];
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t defaults;
    (void)snprintf(spec, sizeof(spec), "%d,%d,%d,%s", job, (int)w->train_ctx, (int)w->train_batch, w->dir);
    (void)snprintf(threads, sizeof(threads), "%d", w->n_thread);
    const char *const argv[] = {"wick", "wall", "-m", w->base, "-t", threads, "-q", "--job", spec, NULL};
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    int rc = posix_spawn_file_actions_init(&files);
    if (rc) return rc;
    rc = posix_spawnattr_init(&attr);
    if (!rc) {
        (void)posix_spawnattr_setsigdefault(&attr, &defaults); /* these three take any value */
        (void)posix_spawnattr_setpgroup(&attr, 0);
        (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
        rc = posix_spawn_file_actions_adddup2(&files, in, 0);
        if (!rc) rc = posix_spawn_file_actions_adddup2(&files, out, 1);
        char *const *words = (char *const *)(uintptr_t)argv; /* exec's signature is older than const */
        if (!rc) rc = posix_spawn(&c->pid, "/proc/self/exe", &files, &attr, words, environ);
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* A line of it; false: it has ended, the time is up, or a signal came. */
static bool read_line(const wk_wall_child *c, char line[LINE], double until) {
    size_t n = 0;
    while (n + 1 < LINE && now_s() < until && !wk_signals_interrupted() && !wk_signals_terminated()) {
        struct pollfd f = {.fd = c->out, .events = POLLIN};
        if (poll(&f, 1, SLICE_MS) <= 0) continue; /* nothing yet, or a signal */
        const ssize_t got = read(c->out, line + n, 1);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) return false;
        if (line[n++] != '\n') continue;
        line[n - 1] = 0;
        return true;
    }
    return false;
}

static void stop(wk_wall_child *c) {
    int status;
    close_end(&c->in);
    close_end(&c->out);
    if (c->pid <= 0) return;
    (void)kill(-c->pid, SIGKILL); /* the whole group; it may be gone already */
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR) continue;
    c->pid = 0;
}

wick_status wk_wall_child_begin(const wk_wall *w, wk_wall_child *c, int job, wick_error *err) {
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    char line[LINE];
    *c = (wk_wall_child){.in = -1, .out = -1};
    int rc = pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 ? 0 : errno;
    if (!rc) rc = spawn(w, c, job, in[0], out[1]);
    close_end(&in[0]);
    close_end(&out[1]);
    c->in = in[1];
    c->out = out[0];
    if (rc) c->pid = 0;
    if (!rc && read_line(c, line, now_s() + READY_S) && sscanf(line, "ready %lf %lf", &c->rss, &c->rate) == 2)
        return WICK_OK;
    stop(c);
    if (wk_signals_interrupted() || wk_signals_terminated()) return wk_fail(err, WICK_E_CANCELED, "stopped by a signal");
    return wk_fail(err, WICK_E_IO, "the job in a process of its own did not begin%s%s", rc ? ": " : "",
                   rc ? strerror(rc) : "");
}

void wk_wall_child_end(wk_wall_child *c) {
    char line[LINE];
    double none, rate;
    close_end(&c->in);
    if (c->pid > 0 && read_line(c, line, now_s() + END_S) && sscanf(line, "rate %lf %lf", &none, &rate) == 2)
        c->rate = rate;
    stop(c);
}

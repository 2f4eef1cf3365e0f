/* signals.c: see signals.h. Handlers use async-signal-safe calls only: write, tcsetattr, wick_cancel, raise, _exit. */
#include "engine/app/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "engine/base/attr.h"
#include "engine/base/os.h"

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGQUIT};
static const int taken[] = {SIGINT, SIGTERM, SIGHUP};
enum { N_FATAL = WK_COUNT(fatal), N_TAKEN = WK_COUNT(taken), STACK_BYTES = 65536 };

static struct {
    wick_request *_Atomic watched;
    atomic_int interrupts, terms, code, resized, suspended, editing;
    atomic_int event;      /* descriptor, -1 = none */
    bool open, has_tty;
    struct termios tty;    /* of fd 0 when the program began */
    struct sigaction old_fatal[N_FATAL], old_taken[N_TAKEN], old_winch, old_stop;
    /* Handlers run here: of fatal signals because the stack itself may be what broke; of the others because oneDNN's sgemm
     * points the stack register into the heap while it computes, and a frame put there wrote over its neighbours (1 of 5
     * interrupted trainings). AVX-512 and AMX state take 11 KB of a frame. */
    char stack[STACK_BYTES];
} st = {.event = -1};

static void restore_terminal(void) {
    static const char paste_off[] = "\033[?2004l";
    if (!atomic_load(&st.editing)) return;
    if (write(STDERR_FILENO, paste_off, sizeof(paste_off) - 1) < 0) return; /* the terminal is gone */
    if (st.has_tty) (void)tcsetattr(STDIN_FILENO, TCSANOW, &st.tty); /* nothing more can be done */
}

static void on_fatal(int sig) {
    restore_terminal();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void on_signal(int sig) {
    const int saved = errno;
    wick_request *r = atomic_load(&st.watched);
    if (sig == SIGINT) atomic_fetch_add(&st.interrupts, 1);
    if (sig == SIGWINCH) atomic_store(&st.resized, 1);
    if (sig == SIGTSTP) atomic_store(&st.suspended, 1);
    if (sig == SIGTERM || sig == SIGHUP) {
        atomic_store(&st.code, 128 + sig);
        if (atomic_fetch_add(&st.terms, 1) > 0) {
            restore_terminal();
            _exit(128 + sig);
        }
    }
    if (r && (sig == SIGINT || sig == SIGTERM || sig == SIGHUP)) wick_cancel(r);
    wk_os_event_set(atomic_load(&st.event));
    errno = saved;
}

/* Installs a handler unless the signal is ignored (nohup, background jobs). */
static void take(int sig, void (*handler)(int), int flags, struct sigaction *old) {
    struct sigaction sa;
    memset(&sa, 0, sizeof(sa));
    sa.sa_handler = handler;
    sa.sa_flags = flags;
    sigemptyset(&sa.sa_mask);
    sigaction(sig, NULL, old);
    if (old->sa_handler != SIG_IGN) sigaction(sig, &sa, NULL);
}

/* A handler that somebody else has installed (a sanitizer, a debugger) stays. */
static void take_fatal(size_t i) {
    sigaction(fatal[i], NULL, &st.old_fatal[i]);
    if (st.old_fatal[i].sa_handler == SIG_DFL) take(fatal[i], on_fatal, SA_ONSTACK, &st.old_fatal[i]);
}

void wk_signals_open(void) {
    if (st.open) return;
    st.open = true;
    atomic_store(&st.event, wk_os_event_open());
    st.has_tty = tcgetattr(STDIN_FILENO, &st.tty) == 0;
    const stack_t ss = {.ss_sp = st.stack, .ss_size = sizeof(st.stack)};
    (void)sigaltstack(&ss, NULL); /* without it the handlers run on the ordinary stack */
    for (size_t i = 0; i < N_FATAL; i++) take_fatal(i);
    for (size_t i = 0; i < N_TAKEN; i++) take(taken[i], on_signal, SA_ONSTACK, &st.old_taken[i]);
}

void wk_signals_close(void) {
    if (!st.open) return;
    wk_signals_edit(false);
    for (size_t i = 0; i < N_FATAL; i++) sigaction(fatal[i], &st.old_fatal[i], NULL);
    for (size_t i = 0; i < N_TAKEN; i++) sigaction(taken[i], &st.old_taken[i], NULL);
    const int fd = atomic_exchange(&st.event, -1);
    wk_os_event_close(fd);
    st.open = false;
}

void wk_signals_watch(wick_request *r) {
    atomic_store(&st.watched, r);
    if (r && (wk_signals_interrupted() || wk_signals_terminated())) wick_cancel(r);
}

int wk_signals_fd(void) { return atomic_load(&st.event); }
void wk_signals_calm(void) { wk_os_event_clear(atomic_load(&st.event)); }
bool wk_signals_interrupted(void) { return atomic_load(&st.interrupts) > 0; }
void wk_signals_forget(void) { atomic_store(&st.interrupts, 0); }
int wk_signals_terminated(void) { return atomic_load(&st.code); }
bool wk_signals_resized(void) { return atomic_exchange(&st.resized, 0) != 0; }
bool wk_signals_suspended(void) { return atomic_exchange(&st.suspended, 0) != 0; }

void wk_signals_edit(bool on) {
    if (on == (atomic_load(&st.editing) != 0)) return;
    if (on) {
        take(SIGWINCH, on_signal, SA_ONSTACK, &st.old_winch);
        take(SIGTSTP, on_signal, SA_ONSTACK, &st.old_stop);
    } else {
        sigaction(SIGWINCH, &st.old_winch, NULL);
        sigaction(SIGTSTP, &st.old_stop, NULL);
    }
    atomic_store(&st.editing, on);
}

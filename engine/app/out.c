/* out.c: the writer of the payload, error lines, progress. */
#include "engine/app/out.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/err.h"
#include "engine/base/os.h"

wk_out wk_out_stdout(void) { return (wk_out){.fd = STDOUT_FILENO, .tty = isatty(STDOUT_FILENO) == 1}; }

/* Whole range, short writes and EINTR resumed. */
static int write_all(int fd, const char *p, size_t n) {
    while (n) {
        const ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0 && errno == EAGAIN) {
            struct pollfd f = {.fd = fd, .events = POLLOUT};
            (void)poll(&f, 1, -1); /* an error shows in the next write */
            continue;
        }
        if (w < 0) return errno;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

bool wk_out_write(wk_out *o, const char *p, size_t n) {
    if (!o->error) o->error = write_all(o->fd, p, n);
    return o->error == 0;
}

bool wk_out_text(wk_out *o, const char *p, size_t n) {
    if (!o->tty) return wk_out_write(o, p, n);
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)p[i];
        if ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t') continue;
        char shown[8];
        const int w = snprintf(shown, sizeof(shown), "\\x%02x", c);
        (void)wk_out_write(o, p + from, i - from); /* kept in o->error */
        (void)wk_out_write(o, shown, (size_t)w);
        from = i + 1;
    }
    return wk_out_write(o, p + from, n - from);
}

wick_status wk_out_end(wk_out *o, wick_error *err) {
    if (!o->error) return WICK_OK;
    return wk_fail(err, WICK_E_IO, "the output could not be written: %s", strerror(o->error));
}

int wk_exit_code(wick_status s) {
    switch (s) {
#define X(name, value, exit_code, text)                                                                                \
    case WICK_##name:                                                                                                  \
        return exit_code;
        WICK_STATUS_MAP(X)
#undef X
    default:
        return 1;
    }
}

int wk_report(const wick_error *err) {
    char line[320];
    const int n = snprintf(line, sizeof(line), "wick: %s\n", err->message[0] ? err->message : wick_strerror(err->code));
    (void)write_all(STDERR_FILENO, line, n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1); /* nowhere to say so */
    return wk_exit_code(err->code);
}

void wk_say(bool quiet, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    if (quiet) return;
    va_start(ap, fmt);
    const int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (n > 0) (void)write_all(STDERR_FILENO, line, n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

void wk_progress_init(wk_progress *p, bool quiet) {
    *p = (wk_progress){.quiet = quiet, .tty = isatty(STDERR_FILENO) == 1, .last = 0};
}

void wk_progress_show(wk_progress *p, const char *what, double done, double total, const char *unit) {
    const double now = (double)wk_os_now_ns() * 1e-9, share = total > 0 ? done / total : 1;
    if (p->quiet) return;
    if (p->tty) {
        if (now - p->last < 0.1 && share < 1) return;
        wk_say(false, "\r\033[K%s %3.0f %%  (%.0f of %.0f %s)", what, share * 100, done, total, unit);
        p->drawn = true;
    } else {
        const int tenth = (int)(share * 10);
        if (tenth <= p->tenth) return;
        p->tenth = tenth;
        wk_say(false, "%s %d %%\n", what, tenth * 10);
    }
    p->last = now;
}

void wk_progress_clear(wk_progress *p) {
    if (p->drawn) wk_say(false, "\r\033[K");
    p->drawn = false;
    p->tenth = 0;
    p->last = 0;
}

/* out.c: the writer of the payload, error lines, progress. */
#include "engine/app/out.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/env.h"
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

const char *wk_status_word(wick_status s, char out[32]) {
    const char *name = "unknown";
    switch (s) {
#define X(status, value, exit_code, text)                                                                              \
    case WICK_##status:                                                                                                \
        name = #status;                                                                                                \
        break;
        WICK_STATUS_MAP(X)
#undef X
    default:
        break;
    }
    if (name[0] == 'E' && name[1] == '_') name += 2;
    size_t n = 0;
    for (; name[n] && n < 31; n++) out[n] = (char)(name[n] >= 'A' && name[n] <= 'Z' ? name[n] + 32 : name[n]);
    out[n] = 0;
    return out;
}

/* ---- progress ------------------------------------------------------------------------------------ */

enum { BAR = 20 };
static const double first_after = 0.15, redraw_after = 0.1; /* seconds */

void wk_progress_init(wk_progress *p, bool quiet, bool color) {
    *p = (wk_progress){.quiet = quiet, .tty = wk_env_screen(STDERR_FILENO), .color = color};
}

static char *put(char *at, const char *s) {
    const size_t n = strlen(s);
    memcpy(at, s, n + 1);
    return at + n;
}

/* Twenty cells: cached, done, to do. The shades differ without colour too. out: at least BAR*3 + 16 bytes. */
static void put_bar(char *out, const wk_progress *p, double cached, double done) {
    static const char *const cell[] = {"\xe2\x96\x92", "\xe2\x96\x88", "\xe2\x96\x91"};
    const int n_cached = (int)(cached * BAR), n_done = (int)(done * BAR);
    const bool tinted = p->color && n_cached;
    if (tinted) out = put(out, "\033[36m");
    for (int i = 0; i < BAR; i++) {
        if (tinted && i == n_cached) out = put(out, "\033[0m");
        out = put(out, cell[i < n_cached ? 0 : i < n_done ? 1 : 2]);
    }
    (void)put(out, tinted && n_cached == BAR ? "\033[0m" : "");
}

static void draw(wk_progress *p, const char *what, double done, double cached, double total, const char *unit,
                 double seconds) {
    char bar[BAR * 3 + 16], left[32] = "";
    const int digits = total < 10 ? 2 : 0; /* after the point */
    const double rate = seconds > 0 ? (done - cached) / seconds : 0;
    if (rate > 0 && seconds > 0.5) (void)snprintf(left, sizeof(left), " \xc2\xb7 %.0f s left", (total - done) / rate);
    if (p->tty) {
        put_bar(bar, p, total > 0 ? cached / total : 0, total > 0 ? done / total : 1);
        wk_say(false, "\r\033[K%s %s %.*f/%.*f %s \xc2\xb7 %.*f %s/s%s", what, bar, digits, done, digits, total, unit, digits,
               rate, unit, left);
        p->drawn = true;
    } else if (cached > 0) {
        wk_say(false, "%s %d %% (%.0f of %.0f %s, %.0f cached)\n", what, p->tenth * 10, done, total, unit, cached);
    } else {
        wk_say(false, "%s %d %% (%.*f of %.*f %s)\n", what, p->tenth * 10, digits, done, digits, total, unit);
    }
}

bool wk_progress_show(wk_progress *p, const char *what, double done, double cached, double total, const char *unit) {
    const double now = (double)wk_os_now_ns() * 1e-9, share = total > 0 ? done / total : 1;
    if (p->begun <= 0) {
        p->begun = now;
        p->last = now + first_after - redraw_after;
        p->tenth = (int)(share * 10); /* where it begins is not worth a line */
    }
    if (p->tty) {
        if (now - p->last < redraw_after) return false;
    } else {
        const int tenth = (int)(share * 10);
        if (tenth <= p->tenth) return false;
        p->tenth = tenth;
    }
    p->last = now;
    if (!p->quiet) draw(p, what, done, cached, total, unit, now - p->begun);
    return true;
}

void wk_progress_clear(wk_progress *p) {
    if (p->drawn) wk_say(false, "\r\033[K");
    p->drawn = false;
    p->tenth = 0;
    p->begun = p->last = 0;
}

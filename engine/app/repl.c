/* repl.c: see repl.h. The only file that includes libedit.
 *
 * libedit reads through next_char below, which waits for the terminal and for signals at once, so no signal handler
 * ever touches the editor's state. While a line is edited the terminal makes no signals of keys (a paste may hold such
 * bytes): Ctrl-C and Ctrl-Z are bound to functions, and a SIGINT from elsewhere arrives as if Ctrl-C had been typed. */
#include "engine/app/repl.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/env.h"
#include "engine/app/history.h"
#include "engine/app/out.h"
#include "engine/app/signals.h"
#include "engine/base/utf8.h"

enum { READ_END = -1, READ_SIGNAL = -2, READ_INTERRUPT = -3, READ_RESIZE = -4, READ_SUSPEND = -5 };

/* Waits for stdin or a signal; 0: stdin is readable, else READ_... */
static int wait_input(void) {
    for (;;) {
        struct pollfd f[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = wk_signals_fd(), .events = POLLIN}};
        const int n = poll(f, 2, -1);
        wk_signals_calm();
        if (wk_signals_terminated()) return READ_SIGNAL;
        if (wk_signals_interrupted()) {
            wk_signals_forget();
            return READ_INTERRUPT;
        }
        if (wk_signals_suspended()) return READ_SUSPEND;
        if (wk_signals_resized()) return READ_RESIZE;
        if (n > 0 && f[0].revents) return 0;
        if (n < 0 && errno != EINTR) return READ_END;
    }
}

/* ---- plain lines --------------------------------------------------------------------------------- */

static wk_repl_why read_plain(wk_repl *r) {
    for (;;) {
        const char *end = r->in_n ? memchr(r->in + r->in_at, '\n', r->in_n) : NULL;
        const size_t n = end ? (size_t)(end - (r->in + r->in_at)) : r->in_n;
        (void)wk_buf_add(&r->line, r->in + r->in_at, n); /* over the cap: said below */
        r->in_at += end ? n + 1 : n;
        r->in_n -= end ? n + 1 : n;
        if (r->line.failed) return WK_REPL_TOO_LONG;
        if (end) return WK_REPL_LINE;
        const int why = wait_input();
        if (why == READ_SIGNAL) return WK_REPL_SIGNAL;
        if (why == READ_INTERRUPT) return WK_REPL_INTERRUPT;
        if (why == READ_RESIZE || why == READ_SUSPEND) continue;
        const ssize_t got = read(STDIN_FILENO, r->in, sizeof(r->in));
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) return r->line.n ? WK_REPL_LINE : WK_REPL_END;
        r->in_at = 0;
        r->in_n = (size_t)got;
    }
}

#if WK_WITH_LIBEDIT
#include <histedit.h>

static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l", paste_end[] = "\033[201~";
static const char interrupted[] = "^C"; /* shown behind the text that is given up */
enum { CTRL_C = 3, CTRL_D = 4, CTRL_BACKSLASH = 28 };

static wk_repl *client(EditLine *el) {
    void *r = NULL;
    (void)el_get(el, EL_CLIENTDATA, &r); /* set at open */
    return r;
}

static void put_screen(wk_repl *r, const char *s) {
    (void)fputs(s, r->screen); /* a terminal that is gone shows in the next read */
    (void)fflush(r->screen);
}

/* The terminal as the shell wants it, stop, and back; the line is drawn anew below what the shell has written. */
static void suspend(wk_repl *r, EditLine *el) {
    put_screen(r, paste_off);
    (void)el_set(el, EL_PREP_TERM, 0);
    (void)raise(SIGSTOP);
    (void)el_set(el, EL_PREP_TERM, 1);
    put_screen(r, paste_on);
    (void)el_set(el, EL_REFRESH);
}

/* One byte, or READ_... */
static int next_byte(wk_repl *r, EditLine *el) {
    for (;;) {
        unsigned char b;
        const int why = wait_input();
        if (why == READ_SUSPEND) {
            suspend(r, el);
            continue;
        }
        if (why) return why;
        const ssize_t n = read(STDIN_FILENO, &b, 1);
        if (n == 1) return b;
        if (n == 0 || (errno != EINTR && errno != EAGAIN)) return READ_END;
    }
}

/* What libedit reads by: one code point. 1 done, 0 end, -1 leave. What is no key arrives as one: see r->event. */
static int next_char(EditLine *el, wchar_t *out) {
    wk_repl *r = client(el);
    char s[4];
    uint32_t cp;
    int n = 0, b = r->why == WK_REPL_INTERRUPT ? '\n' : next_byte(r, el); /* on_interrupt wants the line to end */
    r->event = b == READ_INTERRUPT || b == READ_RESIZE;
    if (b == READ_RESIZE) el_resize(el);
    if (r->event) {
        *out = b == READ_INTERRUPT ? CTRL_C : CTRL_BACKSLASH;
        return 1;
    }
    if (b < 0) {
        r->why = b == READ_SIGNAL ? WK_REPL_SIGNAL : WK_REPL_END;
        return b == READ_SIGNAL ? -1 : 0;
    }
    const int want = wk_utf8_lead((uint8_t)b);
    if (b == 0) b = CTRL_D; /* what a Ctrl-D typed during an answer has become */
    for (s[n++] = (char)b; n < want && (b = next_byte(r, el)) >= 0;) s[n++] = (char)b;
    *out = wk_utf8_decode(s, (size_t)n, &cp) > 0 ? (wchar_t)cp : (wchar_t)0xFFFD;
    return 1;
}

static char *show_prompt(EditLine *el) { return client(el)->prompt_text; }

/* Draws the cursor behind the whole text; then next_char ends the line, so that the next prompt stands below it. */
static unsigned char on_interrupt(EditLine *el, int c) {
    (void)c;
    client(el)->why = WK_REPL_INTERRUPT;
    (void)el_cursor(el, WK_REPL_LINE_MAX);
    (void)el_insertstr(el, interrupted); /* no memory: it is not shown */
    return CC_REFRESH;
}

static unsigned char on_suspend(EditLine *el, int c) {
    (void)c;
    suspend(client(el), el);
    return CC_NORM;
}

static unsigned char on_redraw(EditLine *el, int c) {
    (void)el;
    (void)c;
    return CC_REDISPLAY;
}

static unsigned char on_newline(EditLine *el, int c) {
    (void)c;
    return el_insertstr(el, "\n") == 0 ? CC_REFRESH : CC_ERROR;
}

static void add_char(wk_buf *b, wchar_t w) {
    char s[4];
    const int n = w ? wk_utf8_encode(s, (uint32_t)w) : 0;
    (void)wk_buf_add(b, s, (size_t)(n > 0 ? n : 0)); /* over the cap: seen by on_paste */
}

/* CR LF and CR, as terminals send them, become LF. */
static void settle_newlines(wk_buf *b) {
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        if (b->p[i] == '\r' && i + 1 < b->n && b->p[i + 1] == '\n') continue;
        b->p[n++] = b->p[i] == '\r' ? '\n' : b->p[i];
    }
    if (b->p) b->p[b->n = n] = 0;
}

/* Everything up to ESC[201~ goes into the line as it is: its newlines do not end the message, its tabs complete
 * nothing. A paste over the limit is read to its end and not taken. */
static unsigned char on_paste(EditLine *el, int c) {
    wk_repl *r = client(el);
    const size_t n_end = sizeof(paste_end) - 1;
    size_t seen = 0; /* bytes of the end mark that have been matched */
    wchar_t w;
    (void)c;
    wk_buf_reset(&r->paste);
    while (seen < n_end) {
        if (el_wgetc(el, &w) != 1) return r->why == WK_REPL_SIGNAL ? CC_EOF : CC_NEWLINE;
        if (r->event && w == CTRL_C) return on_interrupt(el, c);
        if (r->event) continue; /* a resize: drawn when the paste is in */
        seen = w == (wchar_t)paste_end[seen] ? seen + 1 : w == (wchar_t)paste_end[0] ? 1 : 0;
        add_char(&r->paste, w);
    }
    r->paste_cut = r->paste.failed;
    if (r->paste_cut) return CC_ERROR;
    r->paste.p[r->paste.n -= n_end] = 0;
    settle_newlines(&r->paste);
    if (r->paste.n == 0) return CC_REFRESH;
    return el_insertstr(el, r->paste.p) == 0 ? CC_REFRESH : CC_ERROR;
}

static void show_choices(wk_repl *r, const wk_buf *list) {
    (void)fputc('\n', r->screen);
    for (size_t i = 0; i < list->n; i += strlen(list->p + i) + 1) (void)fprintf(r->screen, "  %s", list->p + i);
    put_screen(r, "\n");
}

static unsigned char on_tab(EditLine *el, int c) {
    wk_repl *r = client(el);
    const LineInfo *line = el_line(el);
    unsigned char done = CC_ERROR;
    wk_buf insert, list;
    (void)c;
    wk_buf_init(&insert, 4096);
    wk_buf_init(&list, 65536);
    if (r->complete) r->complete(r->ud, line->buffer, (size_t)(line->cursor - line->buffer), &insert, &list);
    if (insert.n && !insert.failed) {
        done = el_insertstr(el, insert.p) == 0 ? CC_REFRESH : CC_ERROR;
    } else if (list.n && !list.failed) {
        show_choices(r, &list);
        done = CC_REDISPLAY;
    }
    wk_buf_fini(&insert);
    wk_buf_fini(&list);
    return done;
}

/* Names and help are wide, because libedit keeps the pointers: of narrow ones it makes copies that it never frees. */
static void bind_keys(EditLine *el) {
    static const char *const keys[][2] = {
        {"^C", "wick-interrupt"}, {"^Z", "wick-suspend"}, {"\\034", "wick-redraw"},
        {"\\e[200~", "wick-paste"}, {"^I", "wick-complete"},
        {"\\e^M", "wick-newline"}, {"\\e^J", "wick-newline"}, {"^R", "em-inc-search-prev"}};
    (void)el_wset(el, EL_ADDFN, L"wick-interrupt", L"give up the line", on_interrupt);
    (void)el_wset(el, EL_ADDFN, L"wick-suspend", L"stop the program", on_suspend);
    (void)el_wset(el, EL_ADDFN, L"wick-redraw", L"draw the line anew", on_redraw);
    (void)el_wset(el, EL_ADDFN, L"wick-paste", L"insert a paste", on_paste);
    (void)el_wset(el, EL_ADDFN, L"wick-newline", L"insert a newline", on_newline);
    (void)el_wset(el, EL_ADDFN, L"wick-complete", L"complete a command", on_tab);
    for (size_t i = 0; i < WK_COUNT(keys); i++) (void)el_set(el, EL_BIND, keys[i][0], keys[i][1], NULL);
}

/* libedit recalls an entry only as far as its buffer reaches, so the buffer is made to hold n characters now. */
static void make_room(wk_repl *r, size_t n) {
    enum { STEP = 1024 };
    char blank[STEP + 1];
    memset(blank, ' ', STEP);
    blank[STEP] = 0;
    size_t have = 0;
    while (have < n && el_insertstr(r->edit, blank) == 0) have += STEP;
    for (; have; have -= STEP) el_deletestr(r->edit, STEP);
}

static void recall(wk_repl *r, wk_str text) {
    HistEvent ev;
    if (r->past && history(r->past, &ev, H_ENTER, text.p) < 0) return; /* no memory: it is not recalled */
    make_room(r, text.n + 2);
}

static void load_history(wk_repl *r) {
    wk_buf all;
    wk_err err = {0};
    wk_buf_init(&all, 4 * WK_HISTORY_BYTES);
    if (wk_history_load(&all, r->history, &err) == WICK_OK && !all.failed) {
        for (size_t i = 0; i < all.n; i += strlen(all.p + i) + 1) recall(r, wk_cstr(all.p + i));
    } else {
        wk_say(false, "warning: history: %s; nothing is kept\n", err.message);
        r->history[0] = 0;
    }
    wk_buf_fini(&all);
}

/* Character classes only: numbers never depend on the locale. */
static bool use_utf8(void) {
    const char *set = setlocale(LC_CTYPE, "") ? nl_langinfo(CODESET) : "";
    return strcmp(set, "UTF-8") == 0 || setlocale(LC_CTYPE, "C.UTF-8") != NULL;
}

static void open_edit(wk_repl *r) {
    HistEvent ev;
    if (!wk_env_screen(STDIN_FILENO) || !wk_env_screen(STDERR_FILENO) || !use_utf8()) return;
    const int fd = dup(STDERR_FILENO);
    r->screen = fd >= 0 ? fdopen(fd, "w") : NULL;
    r->edit = r->screen ? el_init("wick", stdin, r->screen, r->screen) : NULL;
    if (!r->edit) {
        if (r->screen) (void)fclose(r->screen);
        else if (fd >= 0) (void)close(fd);
        r->screen = NULL;
        return;
    }
    (void)el_set(r->edit, EL_CLIENTDATA, r);
    (void)el_set(r->edit, EL_EDITOR, "emacs");
    (void)el_set(r->edit, EL_SIGNAL, 0);
    (void)el_set(r->edit, EL_PROMPT_ESC, show_prompt, '\1');
    (void)el_set(r->edit, EL_GETCFN, next_char);
    (void)el_set(r->edit, EL_SETTY, "-d", "-isig", NULL);
    bind_keys(r->edit);
    r->past = history_init();
    if (r->past) {
        (void)history(r->past, &ev, H_SETSIZE, WK_HISTORY_ENTRIES);
        (void)history(r->past, &ev, H_SETUNIQUE, 1);
        (void)el_set(r->edit, EL_HIST, history, r->past);
    }
    if (!wk_env_state(r->history, sizeof(r->history), "wick/history")) r->history[0] = 0;
    if (r->history[0]) load_history(r);
}

static void close_edit(wk_repl *r) {
    if (r->edit) el_end(r->edit);
    if (r->past) history_end(r->past);
    if (r->screen) (void)fclose(r->screen); /* nothing is left in it */
    r->edit = r->past = r->screen = NULL;
}

static wk_repl_why read_edit(wk_repl *r) {
    int n = 0;
    (void)snprintf(r->prompt_text, sizeof(r->prompt_text), r->color ? "\1\033[1m\1%s\1\033[0m\1" : "%s", r->prompt);
    r->why = WK_REPL_LINE;
    r->paste_cut = false;
    wk_signals_edit(true);
    put_screen(r, paste_on);
    (void)el_set(r->edit, EL_PREP_TERM, 1); /* before the prompt is shown: keys may follow it at once */
    const char *s = el_gets(r->edit, &n);
    put_screen(r, paste_off);
    (void)el_set(r->edit, EL_PREP_TERM, 0);
    wk_signals_edit(false);
    size_t len = s ? strlen(s) : 0;
    if (len && s[len - 1] == '\n') len--;
    if (!wk_buf_add(&r->line, s ? s : "", len)) return WK_REPL_TOO_LONG;
    if (r->why == WK_REPL_INTERRUPT && len >= strlen(interrupted)) r->line.p[r->line.n = len - strlen(interrupted)] = 0;
    if (r->why != WK_REPL_LINE) return r->why;
    return s && n > 0 ? WK_REPL_LINE : WK_REPL_END;
}

#else
static void open_edit(wk_repl *r) { (void)r; }
static void close_edit(wk_repl *r) { (void)r; }
static void recall(wk_repl *r, wk_str text) {
    (void)r;
    (void)text;
}
static wk_repl_why read_edit(wk_repl *r) { return read_plain(r); }
#endif

/* ---- both ---------------------------------------------------------------------------------------- */

void wk_repl_open(wk_repl *r, bool color, wk_repl_complete *complete, void *ud) {
    *r = (wk_repl){.person = isatty(STDIN_FILENO) == 1, .color = color, .complete = complete, .ud = ud};
    wk_buf_init(&r->line, WK_REPL_LINE_MAX);
    wk_buf_init(&r->paste, WK_REPL_PASTE_MAX);
    if (r->person) open_edit(r);
}

void wk_repl_close(wk_repl *r) {
    close_edit(r);
    wk_buf_fini(&r->line);
    wk_buf_fini(&r->paste);
}

const char *wk_repl_plain(const wk_repl *r) {
    if (!r->person || r->edit) return NULL;
    return WK_WITH_LIBEDIT ? "this terminal cannot move its cursor" : "this program was built without libedit";
}

wk_repl_why wk_repl_read(wk_repl *r, const char *prompt) {
    wk_buf_reset(&r->line);
    r->prompt = prompt;
    if (r->edit) return read_edit(r);
    if (r->person) wk_say(false, "%s", prompt);
    const wk_repl_why why = read_plain(r);
    while (r->line.n && r->line.p[r->line.n - 1] == '\r') r->line.p[--r->line.n] = 0;
    return why;
}

int wk_repl_remember(wk_repl *r, wk_str text, wk_err *err) {
    if (!r->edit || text.n == 0 || text.n > WK_HISTORY_ENTRY) return WICK_OK;
    recall(r, text);
    return r->history[0] ? wk_history_add(r->history, text, err) : WICK_OK;
}

/* history.c: see history.h. libedit's own format writes in place and shows foreign bytes as octal; this one is a text
 * that survives a kill. */
#include "engine/app/history.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/app/talk.h"

/* mkdir -p of the folder of a path, for its owner only. */
static int make_folder(const char *path, wk_err *err) {
    char folder[4096];
    const int n = snprintf(folder, sizeof(folder), "%s", path);
    if (n < 0 || n >= (int)sizeof(folder)) return wk_fail(err, WICK_E_ARG, "the history's path is longer than 4 KiB");
    for (char *p = strchr(folder + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        if (mkdir(folder, 0700) != 0 && errno != EEXIST)
            return wk_fail(err, WICK_E_IO, "%s could not be made: %s", wk_show(wk_cstr(folder)).text, strerror(errno));
        *p = '/';
    }
    return WICK_OK;
}

static int read_file(wk_buf *b, const char *path, wk_err *err) {
    if (access(path, F_OK) != 0 && errno == ENOENT) return WICK_OK;
    return wk_talk_read_file(b, path, 2 * WK_HISTORY_BYTES, err);
}

/* The next line of *rest, without its newline. */
static wk_str next_line(wk_str *rest) {
    const char *end = memchr(rest->p, '\n', rest->n);
    const wk_str line = {rest->p, end ? (size_t)(end - rest->p) : rest->n};
    const size_t used = line.n + (end != NULL);
    rest->p += used;
    rest->n -= used;
    return line;
}

int wk_history_load(wk_buf *out, const char *path, wk_err *err) {
    wk_buf text;
    wk_buf_init(&text, 0);
    const int rc = read_file(&text, path, err);
    wk_str rest = wk_buf_str(&text);
    while (!rc && rest.n) {
        const wk_str line = next_line(&rest);
        for (size_t i = 0; i < line.n; i++) {
            const bool escaped = line.p[i] == '\\' && i + 1 < line.n;
            if (escaped) i++;
            (void)wk_buf_addc(out, escaped && line.p[i] == 'n' ? '\n' : line.p[i]); /* failure stays in out */
        }
        if (line.n) (void)wk_buf_addc(out, 0);
    }
    wk_buf_fini(&text);
    return rc;
}

static void put_entry(wk_buf *b, wk_str entry) {
    for (size_t i = 0; i < entry.n; i++) {
        if (entry.p[i] == '\n')
            (void)wk_buf_adds(b, "\\n");
        else if (entry.p[i] == '\\')
            (void)wk_buf_adds(b, "\\\\");
        else
            (void)wk_buf_addc(b, entry.p[i]);
    }
    (void)wk_buf_addc(b, '\n');
}

/* Drops lines at the front until both limits hold. */
static wk_str newest(wk_str text) {
    size_t n_line = 0;
    for (size_t i = 0; i < text.n; i++) n_line += text.p[i] == '\n';
    while (n_line > WK_HISTORY_ENTRIES || text.n > WK_HISTORY_BYTES) {
        (void)next_line(&text);
        n_line--;
    }
    return text;
}

int wk_history_add(const char *path, wk_str entry, wk_err *err) {
    wk_buf text;
    if (entry.n == 0 || entry.n > WK_HISTORY_ENTRY) return WICK_OK;
    WK_TRY(make_folder(path, err));
    wk_buf_init(&text, 0);
    int rc = read_file(&text, path, err);
    if (!rc) {
        if (text.n && text.p[text.n - 1] != '\n') (void)wk_buf_addc(&text, '\n');
        put_entry(&text, entry);
        rc = text.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the history")
                         : wk_file_replace(path, newest(wk_buf_str(&text)), err);
    }
    wk_buf_fini(&text);
    return rc;
}

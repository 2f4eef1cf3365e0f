/* editor.c: a message written in the person's own editor. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/app/dialog.h"
#include "engine/app/env.h"
#include "engine/app/signals.h"
#include "engine/base/err.h"

extern char **environ;

/* By the shell, because $EDITOR may hold options. The name of the file is an argument, never part of the command. */
static int spawn(pid_t *pid, const char *editor, const char *path) {
    char command[1024];
    posix_spawnattr_t attr;
    sigset_t plain;
    const int n = snprintf(command, sizeof(command), "%s \"$1\"", editor);
    if (n < 0 || n >= (int)sizeof(command)) return E2BIG;
    char *argv[] = {"sh", "-c", command, "wick", (char *)(uintptr_t)path, NULL};
    sigemptyset(&plain);
    sigaddset(&plain, SIGPIPE); /* ignored here, not there */
    if (posix_spawnattr_init(&attr) != 0) return ENOMEM;
    (void)posix_spawnattr_setsigdefault(&attr, &plain);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    const int rc = posix_spawn(pid, "/bin/sh", NULL, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    return rc;
}

static wick_status edit_file(const char *path, wick_error *err) {
    const char *editor = wk_env("VISUAL") ? wk_env("VISUAL") : wk_env("EDITOR");
    pid_t pid = 0;
    int how = 0;
    if (!editor) editor = "vi";
    const int rc = spawn(&pid, editor, path);
    if (rc) return wk_fail(err, WICK_E_IO, "%s could not be started: %s", wk_show(wk_cstr(editor)).text, strerror(rc));
    while (waitpid(pid, &how, 0) < 0)
        if (errno != EINTR) return wk_fail(err, WICK_E_IO, "the editor was lost: %s", strerror(errno));
    wk_signals_forget(); /* Ctrl-C was meant for the editor */
    wk_signals_calm();
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0) return WICK_OK;
    return wk_fail(err, WICK_E_IO, "%s ended with an error; set EDITOR to the one you want",
                   wk_show(wk_cstr(editor)).text);
}

wick_status wk_editor(wk_buf *text, wick_error *err) {
    char path[512];
    const char *folder = wk_env("TMPDIR");
    const int n = snprintf(path, sizeof(path), "%s/wick-message-XXXXXX", folder ? folder : "/tmp");
    if (n < 0 || n >= (int)sizeof(path)) return wk_fail(err, WICK_E_ARG, "TMPDIR is longer than 500 bytes");
    const int fd = mkstemp(path); /* mode 0600 */
    if (fd < 0)
        return wk_fail(err, WICK_E_IO, "%s could not be made: %s", wk_show(wk_cstr(path)).text, strerror(errno));
    (void)close(fd);
    wick_status rc = wk_file_replace(path, wk_buf_str(text), err);
    if (!rc) rc = edit_file(path, err);
    wk_buf_reset(text);
    if (!rc) rc = wk_talk_read_file(text, path, WK_REPL_LINE_MAX, err);
    (void)unlink(path);
    while (text->n && text->p[text->n - 1] == '\n') text->p[--text->n] = 0;
    return rc;
}

/* env.c: see env.h. */
#include "engine/app/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *wk_env(const char *name) {
    const char *s = getenv(name);
    return s && *s ? s : NULL;
}

/* The base directory specification: a relative value counts as absent. */
static bool place(char *out, size_t cap, const char *variable, const char *below, const char *tail) {
    const char *base = wk_env(variable), *home = wk_env("HOME");
    int n;
    if (base && base[0] == '/')
        n = snprintf(out, cap, "%s/%s", base, tail);
    else if (home && home[0] == '/')
        n = snprintf(out, cap, "%s/%s/%s", home, below, tail);
    else
        return false;
    return n > 0 && (size_t)n < cap;
}

bool wk_env_config(char *out, size_t cap, const char *tail) {
    return place(out, cap, "XDG_CONFIG_HOME", ".config", tail);
}
bool wk_env_state(char *out, size_t cap, const char *tail) {
    return place(out, cap, "XDG_STATE_HOME", ".local/state", tail);
}
bool wk_env_data(char *out, size_t cap, const char *tail) {
    return place(out, cap, "XDG_DATA_HOME", ".local/share", tail);
}

bool wk_env_screen(int fd) {
    const char *term = wk_env("TERM");
    return isatty(fd) == 1 && term && strcmp(term, "dumb") != 0;
}

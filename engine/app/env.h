/* env.h: the environment and the places of a person's files. env.c is the only reader of the environment. */
#ifndef WK_ENV_H
#define WK_ENV_H

#include <stdbool.h>
#include <stddef.h>

/* The variable's text; NULL when it is absent or empty. */
const char *wk_env(const char *name);
/* true: an absolute path of at most cap-1 bytes stands in out. tail: "wick/history" and the like. */
bool wk_env_config(char *out, size_t cap, const char *tail); /* XDG_CONFIG_HOME, else ~/.config */
bool wk_env_state(char *out, size_t cap, const char *tail);  /* XDG_STATE_HOME, else ~/.local/state */
bool wk_env_data(char *out, size_t cap, const char *tail);   /* XDG_DATA_HOME, else ~/.local/share */
/* A terminal on fd that understands cursor movement: TERM is set and is not "dumb". */
bool wk_env_screen(int fd);

#endif

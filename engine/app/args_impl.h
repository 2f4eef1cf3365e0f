/* args_impl.h: the option table as rows, between args.c, args_source.c and args_help.c. */
#ifndef WK_ARGS_IMPL_H
#define WK_ARGS_IMPL_H

#include <string.h>

#include "engine/app/args.h"

typedef struct wk_arg_row {
    const char *name;
    char letter;
    const char *type;
    double min, max;
    const char *dflt, *argument;
    unsigned cmds;
    const char *group;
    char level;
    const char *help;
} wk_arg_row;
extern const wk_arg_row wk_arg_rows[WK_ARG_COUNT];

typedef struct wk_command {
    const char *name;
    unsigned cmd;
    const char *what, *usage;
} wk_command;
enum { WK_COMMAND_COUNT = 11 };
extern const wk_command wk_commands[WK_COMMAND_COUNT];

static inline bool wk_row_is(const wk_arg_row *r, const char *type) {
    return strcmp(r->type, type) == 0;
}
/* One of a list of words. */
static inline bool wk_row_is_choice(const wk_arg_row *r) {
    return !wk_row_is(r, "flag") && !wk_row_is(r, "int") && !wk_row_is(r, "num") && !wk_row_is(r, "str") &&
           !wk_row_is(r, "list");
}
/* May stand in the environment and in the config file. A training run is described by its command line alone, so that it
 * can be repeated from it. */
static inline bool wk_row_is_setting(const wk_arg_row *r) {
    return r->level != 'T' && strcmp(r->group, "help") != 0 && strcmp(r->group, "training") != 0;
}

/* Checks a text and stores it unless a higher source has spoken. */
wick_status wk_args_put(wk_args *a, wk_arg_id id, const char *text, wk_from from, int line, wick_error *err);
/* WICK_CTX for ctx. */
void wk_args_env_name(char out[48], const wk_arg_row *r);
/* The nearest long name among the options of cmd; NULL: none is near. */
const char *wk_args_nearest_option(const char *name, unsigned cmd);
/* A long option (or a command, cmd 0 apart) by its name of n bytes; -1: none. */
int wk_args_find(const char *name, size_t n, unsigned cmd);
wick_status wk_args_read_env(wk_args *a, wick_error *err);
wick_status wk_args_read_config(wk_args *a, wick_error *err);

#endif

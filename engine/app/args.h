/* args.h: the command line, from the option table. */
#ifndef WK_ARGS_H
#define WK_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/wick.h"

enum { WK_CMD_RUN = 1, WK_CMD_CHAT = 2, WK_CMD_SHOW = 4, WK_CMD_TOK = 8, WK_CMD_PLAN = 16 };

typedef enum wk_arg_id {
#define WK_ARG(id, long_name, short_name, type, min, max, dflt, argument, cmds, level, help) WK_ARG_##id,
#include "engine/app/args.def"
#undef WK_ARG
    WK_ARG_COUNT
} wk_arg_id;

enum { WK_ARG_LIST_MAX = 16, WK_ARG_POSITIONAL_MAX = 8 };

typedef struct wk_value {
    bool given;
    int64_t i; /* INT, FLAG, index of the word of a choice */
    double d;  /* NUM */
    const char *s;
} wk_value;

typedef struct wk_args {
    unsigned cmd;
    wk_value v[WK_ARG_COUNT];
    const char *list[WK_ARG_LIST_MAX];
    size_t n_list;
    const char *positional[WK_ARG_POSITIONAL_MAX];
    size_t n_positional;
    char model_path[4096];  /* resolved by wk_args_model */
} wk_args;

/* argv[2..] of a command. WICK_E_ARG with a sentence. */
wick_status wk_args_parse(wk_args *a, unsigned cmd, int argc, char **argv, wick_error *err);
/* The command of a name (0: none), and the nearest name for a wrong one. */
unsigned wk_args_command(const char *name);
const char *wk_args_nearest_command(const char *name);
/* Help pages on stdout. */
void wk_args_usage(void);
void wk_args_help(unsigned cmd, bool all);

/* -m, else the first positional argument if it names a model (it is then taken away), else the default model.
 * WICK_E_IO with the command that installs the default when it is missing. */
wick_status wk_args_model(wk_args *a, wick_error *err);
bool wk_args_color(const wk_args *a, int fd);

static inline bool wk_flag(const wk_args *a, wk_arg_id id) { return a->v[id].i != 0; }

#endif

/* args.h: the command line, the environment and the config file, from the option table. */
#ifndef WK_ARGS_H
#define WK_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/wick.h"

enum {
    WK_CMD_RUN = 1, WK_CMD_CHAT = 2, WK_CMD_SHOW = 4, WK_CMD_TOK = 8, WK_CMD_PLAN = 16, WK_CMD_DOC = 32, WK_CMD_BENCH = 64,
    WK_CMD_EVAL = 128, WK_CMD_WALL = 256, WK_CMD_TRAIN = 512, WK_CMD_TUNE = 1024
};

typedef enum wk_arg_id {
#define WK_ARG(id, long_name, short_name, type, min, max, dflt, argument, cmds, group, level, help) WK_ARG_##id,
#include "engine/app/args.def"
#undef WK_ARG
    WK_ARG_COUNT
} wk_arg_id;

enum { WK_ARG_LISTS = 7, WK_ARG_LIST_MAX = 64, WK_ARG_POSITIONAL_MAX = 8, WK_ARG_LORA_MAX = 8 };

/* Where a value comes from; the higher one wins. */
typedef enum wk_from { WK_FROM_DEFAULT, WK_FROM_CONFIG, WK_FROM_ENV, WK_FROM_FLAG, WK_FROM_CHAT } wk_from;

typedef struct wk_value {
    bool given;
    wk_from from;
    int line;  /* of the config file */
    int64_t i; /* INT, FLAG, index of the word of a choice, number of texts of a LIST */
    double d;  /* INT, NUM */
    const char *s;
} wk_value;

typedef struct wk_args {
    unsigned cmd;
    wk_value v[WK_ARG_COUNT];
    const char *list[WK_ARG_LISTS][WK_ARG_LIST_MAX];
    const char *positional[WK_ARG_POSITIONAL_MAX];
    size_t n_positional;
    const char *lora[WK_ARG_LORA_MAX]; /* paths of --lora, in lora_text, and their scales; set by wk_args_model */
    float lora_scale[WK_ARG_LORA_MAX];
    wk_buf lora_text;
    char model_path[4096];  /* resolved by wk_args_model */
    bool falls_back;        /* the default model is missing: the built-in one stands in */
    char config_path[4096]; /* "" when there is none */
    wk_buf config;          /* its text, cut into strings */
    wk_buf set[WK_ARG_COUNT]; /* texts of wk_args_set */
} wk_args;

/* argv[2..] of a command, then the environment, then the config file. WICK_E_ARG with a sentence. With a help flag
 * nothing but the command line is read. */
wick_status wk_args_parse(wk_args *a, unsigned cmd, int argc, char **argv, wick_error *err);
void wk_args_fini(wk_args *a);
/* A setting of the group "answer" changed while a chat runs; "" puts the default back. name with - or _. */
wick_status wk_args_set(wk_args *a, const char *name, const char *value, wick_error *err);
/* --json or --jsonl stands on a command line that may be wrong elsewhere. */
bool wk_args_wants_json(int argc, char **argv);
/* Texts of a LIST option; *n of them. */
const char *const *wk_args_list(const wk_args *a, wk_arg_id id, size_t *n);
/* "ID=X" of --logit-bias. WICK_E_ARG. */
wick_status wk_args_bias(const char *text, wick_token *token, float *value, wick_error *err);
/* "FILE" or "FILE:SCALE" of --lora: the bytes of FILE and the scale (1). WICK_E_ARG. */
wick_status wk_args_lora(const char *text, size_t *n_path, float *scale, wick_error *err);
/* --gpu-layers as the library takes it: "auto" 0, "all" 65536, "0" WICK_AUTO, else the number. WICK_E_ARG. */
wick_status wk_args_gpu_layers(const char *text, int32_t *n, wick_error *err);
/* The command of a name (0: none), its name, and the nearest name for a wrong one. */
unsigned wk_args_command(const char *name);
const char *wk_args_command_name(unsigned cmd);
const char *wk_args_nearest_command(const char *name);
/* Help pages on stdout (args_help.c). */
void wk_args_usage(void);
void wk_args_help(unsigned cmd, bool all);
void wk_args_man(void); /* roff, section 1 */
/* false: there is no such shell. */
bool wk_args_completion(const char *shell);
/* --explain: every setting of the command, its value and where it comes from; as JSON with --json. */
void wk_args_explain(const wk_args *a, wk_buf *b);
/* The settings that /set changes, a line each. */
void wk_args_list_answer(const wk_args *a, wk_buf *b);
/* The names that /set takes: i from 0; NULL behind the last. */
const char *wk_args_answer_name(size_t i);

/* The built-in model, which "tiny" names. */
#define WK_TINY_MODEL "wick:tiny"
/* -m, else the first positional argument if it names a model (it is then taken away), else the default model; run
 * takes the built-in one where that is not installed. */
wick_status wk_args_model(wk_args *a, wick_error *err);
/* The file of one name. WICK_E_IO: there is none. */
wick_status wk_args_model_path(char *out, size_t cap, const char *name, wick_error *err);
/* "90s", "10m", "2h" as seconds; name: of the option, for the sentence. */
wick_status wk_args_time(double *out, const char *name, const char *text, wick_error *err);
bool wk_args_color(const wk_args *a, int fd);

static inline bool wk_flag(const wk_args *a, wk_arg_id id) { return a->v[id].i != 0; }

#endif

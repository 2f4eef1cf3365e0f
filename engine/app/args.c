/* args.c: the option table and the parser of the command line. */
#include "engine/app/args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/args_impl.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

enum {
    RUN = WK_CMD_RUN, CHAT = WK_CMD_CHAT, SHOW = WK_CMD_SHOW, TOK = WK_CMD_TOK, PLAN = WK_CMD_PLAN,
    DOC = WK_CMD_DOC, BENCH = WK_CMD_BENCH, EVAL = WK_CMD_EVAL, WALL = WK_CMD_WALL,
    TRAIN = WK_CMD_TRAIN, TUNE = WK_CMD_TUNE
};

#define FLAG "flag"
#define INT "int"
#define NUM "num"
#define STR "str"
#define LIST "list"
#define C 'C'
#define A 'A'
#define T 'T'
const wk_arg_row wk_arg_rows[WK_ARG_COUNT] = {
#define WK_ARG(id, long_name, short_name, type, min, max, dflt, argument, cmds, group, level, help)                    \
    [WK_ARG_##id] = {long_name, short_name, type, min, max, dflt, argument, cmds, group, level, help},
#include "engine/app/args.def"
#undef WK_ARG
};
#undef FLAG
#undef INT
#undef NUM
#undef STR
#undef LIST
#undef C
#undef A
#undef T

const wk_command wk_commands[WK_COMMAND_COUNT] = {
    {"run", RUN, "one answer to one prompt", "[MODEL] [PROMPT]"},
    {"chat", CHAT, "a conversation", "[MODEL]"},
    {"show", SHOW, "what a model file holds", "MODEL"},
    {"tokenize", TOK, "text as token ids", "[MODEL] TEXT"},
    {"plan", PLAN, "will it fit, what it does", "MODEL [--steps]"},
    {"bench", BENCH, "how fast it is, of how much", "[MODEL]"},
    {"eval", EVAL, "what a model knows", "MODEL --data FILE"},
    {"train", TRAIN, "a model from text", "--preset P --data F"},
    {"tune", TUNE, "an adapter for a model", "MODEL --data F"},
    {"wall", WALL, "where this computer ends", "[MODEL]"},
    {"doctor", DOC, "what this machine gives", ""},
};

unsigned wk_args_command(const char *name) {
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++)
        if (strcmp(wk_commands[i].name, name) == 0) return wk_commands[i].cmd;
    return 0;
}

const char *wk_args_command_name(unsigned cmd) {
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++)
        if (wk_commands[i].cmd == cmd) return wk_commands[i].name;
    return "";
}

/* Edit distance, both words cut at 31 bytes. */
static int distance(const char *a, const char *b) {
    int row[32];
    const int na = (int)strnlen(a, 31), nb = (int)strnlen(b, 31);
    for (int j = 0; j <= nb; j++) row[j] = j;
    for (int i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            const int up = row[j], change = diagonal + (a[i - 1] != b[j - 1]);
            int best = up + 1 < row[j - 1] + 1 ? up + 1 : row[j - 1] + 1;
            if (change < best) best = change;
            row[j] = best;
            diagonal = up;
        }
    }
    return row[nb];
}

const char *wk_args_nearest_command(const char *name) {
    const char *best = NULL;
    int least = 4;
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++) {
        const int d = distance(name, wk_commands[i].name);
        if (d < least) {
            least = d;
            best = wk_commands[i].name;
        }
    }
    return best;
}

const char *wk_args_nearest_option(const char *name, unsigned cmd) {
    const char *best = NULL;
    int least = 4;
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        const int d = distance(name, wk_arg_rows[i].name);
        if (cmd == ~0U && !wk_row_is_setting(&wk_arg_rows[i])) continue; /* a key of the config file */
        if ((wk_arg_rows[i].cmds & cmd) && strlen(wk_arg_rows[i].name) > 1 && d < least) {
            least = d;
            best = wk_arg_rows[i].name;
        }
    }
    return best;
}

/* ---- values -------------------------------------------------------------------------------------- */

/* 4096, 8k, 2M: the whole text must be a number. */
static bool parse_int(const char *s, int64_t *out) {
    char *end;
    errno = 0;
    const long long v = strtoll(s, &end, 10);
    if (errno || end == s) return false;
    int64_t unit = 1;
    if (*end == 'k' || *end == 'K') unit = 1024;
    if (*end == 'M') unit = 1024 * 1024;
    if (unit > 1) end++;
    return *end == 0 && !__builtin_mul_overflow((int64_t)v, unit, out);
}

static wick_status set_number(wk_value *v, const wk_arg_row *r, const char *s, wick_error *err) {
    char *end;
    bool ok = true;
    if (wk_row_is(r, "int")) {
        ok = parse_int(s, &v->i);
        v->d = (double)v->i;
    } else {
        errno = 0;
        v->d = strtod(s, &end);
        ok = end != s && *end == 0 && isfinite(v->d);
    }
    if (!ok)
        return wk_fail(err, WICK_E_ARG, "--%s wants a number, found \"%s\"", r->name, wk_show(wk_cstr(s)).text);
    if (v->d < r->min || v->d > r->max)
        return wk_fail(err, WICK_E_ARG, "--%s is %s, it must lie in %.15g .. %.15g", r->name,
                       wk_show(wk_cstr(s)).text, r->min, r->max);
    return WICK_OK;
}

static wick_status set_choice(wk_value *v, const wk_arg_row *r, const char *s, wick_error *err) {
    const char *p = r->type;
    for (int64_t i = 0; *p; i++) {
        const size_t n = strcspn(p, "|");
        if (strlen(s) == n && strncmp(p, s, n) == 0) {
            v->i = i;
            return WICK_OK;
        }
        p += n + (p[n] == '|');
    }
    return wk_fail(err, WICK_E_ARG, "--%s is \"%s\", it must be one of %s", r->name, wk_show(wk_cstr(s)).text,
                   r->type);
}

/* Flags in the environment and in the config file. */
static wick_status set_flag(wk_value *v, const wk_arg_row *r, const char *s, wick_error *err) {
    static const char *const words[] = {"0", "1", "false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < WK_COUNT(words); i++)
        if (strcmp(s, words[i]) == 0) {
            v->i = i % 2;
            return WICK_OK;
        }
    return wk_fail(err, WICK_E_ARG, "%s is \"%s\", it must be yes or no", r->name, wk_show(wk_cstr(s)).text);
}

/* Which of the lists belongs to a LIST option. */
static size_t list_slot(wk_arg_id id) {
    size_t n = 0;
    for (int i = 0; i < (int)id; i++) n += wk_row_is(&wk_arg_rows[i], "list");
    return n;
}

const char *const *wk_args_list(const wk_args *a, wk_arg_id id, size_t *n) {
    *n = (size_t)a->v[id].i;
    return a->list[list_slot(id)];
}

wick_status wk_args_bias(const char *text, wick_token *token, float *value, wick_error *err) {
    char *end;
    errno = 0;
    const long long id = strtoll(text, &end, 10);
    const bool has_id = end != text && *end == '=' && errno == 0;
    const char *number = has_id ? end + 1 : text;
    const double x = strtod(number, &end);
    if (!has_id || end == number || *end)
        return wk_fail(err, WICK_E_ARG, "--logit-bias wants ID=X, found \"%s\"", wk_show(wk_cstr(text)).text);
    if (id < 0 || id > INT32_MAX || !(x >= -1000 && x <= 1000))
        return wk_fail(err, WICK_E_ARG, "--logit-bias is %s, ids begin at 0 and X must lie in -1000 .. 1000",
                       wk_show(wk_cstr(text)).text);
    *token = (wick_token)id;
    *value = (float)x;
    return WICK_OK;
}

/* A last part behind a colon that is no number belongs to the name. */
wick_status wk_args_lora(const char *text, size_t *n_path, float *scale, wick_error *err) {
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    *n_path = strlen(text);
    *scale = 1.0f;
    if (colon && colon[1]) {
        const double x = strtod(colon + 1, &end);
        if (!*end && !(x >= -1000 && x <= 1000))
            return wk_fail(err, WICK_E_ARG, "--lora is %s, the scale must lie in -1000 .. 1000",
                           wk_show(wk_cstr(text)).text);
        if (!*end) {
            *n_path = (size_t)(colon - text);
            *scale = (float)x;
        }
    }
    if (*n_path) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "--lora wants FILE or FILE:SCALE, found \"%s\"", wk_show(wk_cstr(text)).text);
}

enum { ALL_LAYERS = 1 << 16 };

wick_status wk_args_gpu_layers(const char *text, int32_t *n, wick_error *err) {
    int64_t v = 0;
    if (strcmp(text, "auto") == 0) {
        *n = 0;
    } else if (strcmp(text, "all") == 0) {
        *n = ALL_LAYERS;
    } else {
        if (!parse_int(text, &v) || v < 0 || v > ALL_LAYERS)
            return wk_fail(err, WICK_E_ARG, "--gpu-layers is \"%s\", it must be auto, all or 0 .. %d",
                           wk_show(wk_cstr(text)).text, ALL_LAYERS);
        *n = v ? (int32_t)v : WICK_AUTO;
    }
    return WICK_OK;
}

wick_status wk_args_put(wk_args *a, wk_arg_id id, const char *text, wk_from from, int line, wick_error *err) {
    const wk_arg_row *r = &wk_arg_rows[id];
    wk_value v = {.given = true, .from = from, .line = line, .s = text};
    if (wk_row_is(r, "int") || wk_row_is(r, "num")) WK_TRY(set_number(&v, r, text, err));
    if (wk_row_is(r, "flag")) WK_TRY(set_flag(&v, r, text, err));
    if (wk_row_is_choice(r)) WK_TRY(set_choice(&v, r, text, err));
    if (id == WK_ARG_BIAS) WK_TRY(wk_args_bias(text, &(wick_token){0}, &(float){0}, err));
    if (id == WK_ARG_GPU_LAYERS) WK_TRY(wk_args_gpu_layers(text, &(int32_t){0}, err));
    if (id == WK_ARG_LORA) WK_TRY(wk_args_lora(text, &(size_t){0}, &(float){0}, err));
    if (a->v[id].from > from) return WICK_OK;
    if (wk_row_is(r, "list")) {
        const int64_t n = a->v[id].from == from && from != WK_FROM_CHAT ? a->v[id].i : 0;
        if (n >= (int64_t)r->max)
            return wk_fail(err, WICK_E_ARG, "--%s is given more than %.0f times", r->name, r->max);
        a->list[list_slot(id)][n] = text;
        v.i = n + 1;
    }
    a->v[id] = v;
    return WICK_OK;
}

wick_status wk_args_set(wk_args *a, const char *name, const char *value, wick_error *err) {
    char dashed[32];
    size_t n = 0;
    for (; name[n] && n + 1 < sizeof(dashed); n++) dashed[n] = (char)(name[n] == '_' ? '-' : name[n]);
    dashed[n] = 0;
    const int id = wk_args_find(dashed, n, a->cmd);
    if (id < 0 || strcmp(wk_arg_rows[id].group, "answer") != 0) {
        const char *near = id < 0 ? wk_args_nearest_option(dashed, a->cmd) : NULL;
        return wk_fail(err, WICK_E_ARG, "\"%s\" is no setting of the answer%s%s%s", wk_show(wk_cstr(name)).text,
                       near ? "; did you mean " : "", near ? near : "", near ? "?" : "; /set lists them");
    }
    if (!*value) {
        a->v[id] = (wk_value){0};
        return WICK_OK;
    }
    wk_buf text;
    wk_buf_init(&text, 65536);
    if (!wk_buf_adds(&text, value)) {
        wk_buf_fini(&text);
        return wk_fail(err, WICK_E_ARG, "%s: the text is longer than 64 KiB", dashed);
    }
    const wick_status rc = wk_args_put(a, (wk_arg_id)id, text.p, WK_FROM_CHAT, 0, err);
    if (rc) {
        wk_buf_fini(&text);
        return rc;
    }
    wk_buf_fini(&a->set[id]);
    a->set[id] = text; /* the value points into it */
    return WICK_OK;
}

/* ---- command line -------------------------------------------------------------------------------- */

int wk_args_find(const char *name, size_t n, unsigned cmd) {
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        const wk_arg_row *r = &wk_arg_rows[i];
        if ((r->cmds & cmd) && strlen(r->name) > 1 && strlen(r->name) == n && strncmp(r->name, name, n) == 0)
            return i;
    }
    return -1;
}

static int find_letter(char c, unsigned cmd) {
    for (int i = 0; i < WK_ARG_COUNT; i++)
        if ((wk_arg_rows[i].cmds & cmd) && wk_arg_rows[i].letter && wk_arg_rows[i].letter == c) return i;
    return -1;
}

static wick_status unknown(const char *text, const char *name, unsigned cmd, wick_error *err) {
    const char *near = wk_args_nearest_option(name, cmd);
    if (near)
        return wk_fail(err, WICK_E_ARG, "unknown option %s; did you mean --%s?", wk_show(wk_cstr(text)).text, near);
    return wk_fail(err, WICK_E_ARG, "unknown option %s; --help lists them all", wk_show(wk_cstr(text)).text);
}

/* --no-NAME of a flag; -1: it is none. */
static int find_negated(const char *name, unsigned cmd) {
    if (strncmp(name, "no-", 3) != 0) return -1;
    const int id = wk_args_find(name + 3, strlen(name + 3), cmd);
    return id >= 0 && wk_row_is(&wk_arg_rows[id], "flag") ? id : -1;
}

/* One option at argv[*i], which begins with a dash. */
static wick_status parse_option(wk_args *a, int argc, char **argv, int *i, wick_error *err) {
    const char *s = argv[*i], *value = NULL;
    int id, on = 1;
    if (s[1] == '-') {
        const char *name = s + 2, *eq = strchr(name, '=');
        id = wk_args_find(name, eq ? (size_t)(eq - name) : strlen(name), a->cmd);
        if (id < 0) {
            id = find_negated(name, a->cmd);
            on = 0;
        }
        if (eq) value = eq + 1;
    } else {
        id = find_letter(s[1], a->cmd);
        if (id >= 0 && s[2]) value = s + 2;
    }
    if (id < 0) return unknown(s, s[1] == '-' ? s + 2 : s + 1, a->cmd, err);
    const wk_arg_row *r = &wk_arg_rows[id];
    if (wk_row_is(r, "flag")) {
        if (value) return wk_fail(err, WICK_E_ARG, "--%s takes no value", r->name);
        a->v[id] = (wk_value){.given = true, .from = WK_FROM_FLAG, .i = on};
        return WICK_OK;
    }
    if (!value) {
        if (*i + 1 >= argc) return wk_fail(err, WICK_E_ARG, "--%s wants a value (%s)", r->name, r->argument);
        value = argv[++*i];
    }
    return wk_args_put(a, (wk_arg_id)id, value, WK_FROM_FLAG, 0, err);
}

static wick_status parse_line(wk_args *a, int argc, char **argv, wick_error *err) {
    bool only_positional = false;
    for (int i = 0; i < argc; i++) {
        const char *s = argv[i];
        if (!only_positional && strcmp(s, "--") == 0) {
            only_positional = true;
        } else if (!only_positional && s[0] == '-' && s[1]) {
            WK_TRY(parse_option(a, argc, argv, &i, err));
        } else {
            if (a->n_positional == WK_ARG_POSITIONAL_MAX)
                return wk_fail(err, WICK_E_ARG, "too many arguments at \"%s\"; put the prompt in quotes",
                               wk_show(wk_cstr(s)).text);
            a->positional[a->n_positional++] = s;
        }
    }
    return WICK_OK;
}

wick_status wk_args_parse(wk_args *a, unsigned cmd, int argc, char **argv, wick_error *err) {
    memset(a, 0, sizeof(*a));
    a->cmd = cmd;
    WK_TRY(parse_line(a, argc, argv, err));
    if (wk_flag(a, WK_ARG_HELP) || wk_flag(a, WK_ARG_HELP_SHORT)) return WICK_OK;
    WK_TRY(wk_args_read_env(a, err));
    return wk_args_read_config(a, err);
}

void wk_args_fini(wk_args *a) {
    wk_buf_fini(&a->config);
    wk_buf_fini(&a->lora_text);
    for (int i = 0; i < WK_ARG_COUNT; i++) wk_buf_fini(&a->set[i]);
}

bool wk_args_wants_json(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "--jsonl") == 0) return true;
    return false;
}

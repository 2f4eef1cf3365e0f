/* args.c: parser and help pages of the option table; the only reader of the environment. */
#include "engine/app/args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/err.h"
#include "engine/base/str.h"

enum { RUN = WK_CMD_RUN, CHAT = WK_CMD_CHAT, SHOW = WK_CMD_SHOW, TOK = WK_CMD_TOK, PLAN = WK_CMD_PLAN };

#define FLAG "flag"
#define INT "int"
#define NUM "num"
#define STR "str"
#define LIST "list"
#define C 'C'
#define A 'A'
#define T 'T'
static const struct arg_row {
    const char *name;
    char letter;
    const char *type;
    double min, max;
    const char *argument;
    unsigned cmds;
    char level;
    const char *help;
} rows[WK_ARG_COUNT] = {
#define WK_ARG(id, long_name, short_name, type, min, max, dflt, argument, cmds, level, help)                           \
    [WK_ARG_##id] = {long_name, short_name, type, min, max, argument, cmds, level, help},
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

static const struct command {
    const char *name;
    unsigned cmd;
    const char *what;
} commands[] = {
    {"run", RUN, "one answer to one prompt:  wick run [MODEL] [PROMPT]"},
    {"chat", CHAT, "a conversation:            wick chat [MODEL]"},
    {"show", SHOW, "what a model file holds:   wick show MODEL"},
    {"tokenize", TOK, "text as token ids:         wick tokenize [MODEL] TEXT"},
    {"plan", PLAN, "will it fit, what it does: wick plan MODEL [--steps]"},
};

unsigned wk_args_command(const char *name) {
    for (size_t i = 0; i < WK_COUNT(commands); i++)
        if (strcmp(commands[i].name, name) == 0) return commands[i].cmd;
    return 0;
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
    for (size_t i = 0; i < WK_COUNT(commands); i++) {
        const int d = distance(name, commands[i].name);
        if (d < least) {
            least = d;
            best = commands[i].name;
        }
    }
    return best;
}

static const char *nearest_option(const char *name, unsigned cmd) {
    const char *best = NULL;
    int least = 4;
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        const int d = distance(name, rows[i].name);
        if ((rows[i].cmds & cmd) && d < least) {
            least = d;
            best = rows[i].name;
        }
    }
    return best;
}

/* ---- values -------------------------------------------------------------------------------------- */

static bool is(const struct arg_row *r, const char *type) { return strcmp(r->type, type) == 0; }
static bool is_choice(const struct arg_row *r) { return !is(r, "flag") && !is(r, "int") && !is(r, "num") && !is(r, "str") && !is(r, "list"); }

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

static wick_status set_number(wk_value *v, const struct arg_row *r, const char *s, wick_error *err) {
    char *end;
    bool ok = true;
    if (is(r, "int")) {
        ok = parse_int(s, &v->i);
        v->d = (double)v->i;
    } else {
        errno = 0;
        v->d = strtod(s, &end);
        ok = end != s && *end == 0 && isfinite(v->d);
    }
    if (!ok) return wk_fail(err, WICK_E_ARG, "--%s wants a number, found \"%s\"", r->name, wk_show(wk_cstr(s)).text);
    if (v->d < r->min || v->d > r->max)
        return wk_fail(err, WICK_E_ARG, "--%s is %s, it must lie in %.15g .. %.15g", r->name, s, r->min, r->max);
    return WICK_OK;
}

static wick_status set_choice(wk_value *v, const struct arg_row *r, const char *s, wick_error *err) {
    const char *p = r->type;
    for (int64_t i = 0; *p; i++) {
        const size_t n = strcspn(p, "|");
        if (strlen(s) == n && strncmp(p, s, n) == 0) {
            v->i = i;
            return WICK_OK;
        }
        p += n + (p[n] == '|');
    }
    return wk_fail(err, WICK_E_ARG, "--%s is \"%s\", it must be one of %s", r->name, wk_show(wk_cstr(s)).text, r->type);
}

static wick_status set_value(wk_args *a, int id, const char *s, wick_error *err) {
    const struct arg_row *r = &rows[id];
    wk_value *v = &a->v[id];
    v->s = s;
    if (is(r, "int") || is(r, "num")) WK_TRY(set_number(v, r, s, err));
    if (is_choice(r)) WK_TRY(set_choice(v, r, s, err));
    if (is(r, "list")) {
        if (a->n_list == WK_ARG_LIST_MAX)
            return wk_fail(err, WICK_E_ARG, "--%s is given more than %d times", r->name, WK_ARG_LIST_MAX);
        a->list[a->n_list++] = s;
    }
    v->given = true;
    return WICK_OK;
}

static int find_long(const char *name, size_t n, unsigned cmd) {
    for (int i = 0; i < WK_ARG_COUNT; i++)
        if ((rows[i].cmds & cmd) && strlen(rows[i].name) > 1 && strlen(rows[i].name) == n &&
            strncmp(rows[i].name, name, n) == 0)
            return i;
    return -1;
}
static int find_letter(char c, unsigned cmd) {
    for (int i = 0; i < WK_ARG_COUNT; i++)
        if ((rows[i].cmds & cmd) && rows[i].letter && rows[i].letter == c) return i;
    return -1;
}

static wick_status unknown(const char *text, const char *name, unsigned cmd, wick_error *err) {
    const char *near = nearest_option(name, cmd);
    if (near) return wk_fail(err, WICK_E_ARG, "unknown option %s; did you mean --%s?", wk_show(wk_cstr(text)).text, near);
    return wk_fail(err, WICK_E_ARG, "unknown option %s; --help lists them all", wk_show(wk_cstr(text)).text);
}

/* One option at argv[*i], which begins with a dash. */
static wick_status parse_option(wk_args *a, int argc, char **argv, int *i, wick_error *err) {
    const char *s = argv[*i], *value = NULL;
    int id;
    if (s[1] == '-') {
        const char *name = s + 2, *eq = strchr(name, '=');
        id = find_long(name, eq ? (size_t)(eq - name) : strlen(name), a->cmd);
        if (id < 0 && strncmp(name, "no-", 3) == 0) {
            id = find_long(name + 3, strlen(name + 3), a->cmd);
            if (id >= 0 && is(&rows[id], "flag")) {
                a->v[id] = (wk_value){.given = true};
                return WICK_OK;
            }
            id = -1;
        }
        if (eq) value = eq + 1;
    } else {
        id = find_letter(s[1], a->cmd);
        if (id >= 0 && s[2]) value = s + 2;
    }
    if (id < 0) return unknown(s, s[1] == '-' ? s + 2 : s + 1, a->cmd, err);
    if (is(&rows[id], "flag")) {
        if (value) return wk_fail(err, WICK_E_ARG, "--%s takes no value", rows[id].name);
        a->v[id] = (wk_value){.given = true, .i = 1};
        return WICK_OK;
    }
    if (!value) {
        if (*i + 1 >= argc) return wk_fail(err, WICK_E_ARG, "--%s wants a value (%s)", rows[id].name, rows[id].argument);
        value = argv[++*i];
    }
    return set_value(a, id, value, err);
}

/* WICK_CTX and so on: below the command line, above the defaults. */
static wick_status read_environment(wk_args *a, wick_error *err) {
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        char name[48] = "WICK_";
        size_t n = 5;
        if (!(rows[i].cmds & a->cmd) || is(&rows[i], "list") || rows[i].level == 'T') continue;
        for (const char *p = rows[i].name; *p && n + 1 < sizeof(name); p++)
            name[n++] = *p == '-' ? '_' : (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
        name[n] = 0;
        const char *s = getenv(name);
        if (!s || !*s) continue;
        if (is(&rows[i], "flag")) {
            a->v[i].i = strcmp(s, "0") != 0;
            continue;
        }
        if (set_value(a, i, s, err)) return wk_fail_at(err, "environment %s", name);
    }
    return WICK_OK;
}

wick_status wk_args_parse(wk_args *a, unsigned cmd, int argc, char **argv, wick_error *err) {
    memset(a, 0, sizeof(*a));
    a->cmd = cmd;
    WK_TRY(read_environment(a, err));
    bool only_positional = false;
    for (int i = 0; i < argc; i++) {
        const char *s = argv[i];
        if (!only_positional && strcmp(s, "--") == 0) {
            only_positional = true;
        } else if (!only_positional && s[0] == '-' && s[1]) {
            WK_TRY(parse_option(a, argc, argv, &i, err));
        } else {
            if (a->n_positional == WK_ARG_POSITIONAL_MAX)
                return wk_fail(err, WICK_E_ARG, "too many arguments at \"%s\"; put the prompt in quotes", wk_show(wk_cstr(s)).text);
            a->positional[a->n_positional++] = s;
        }
    }
    return WICK_OK;
}

/* ---- help ---------------------------------------------------------------------------------------- */

void wk_args_usage(void) {
    printf("wick %d.%d.%d: language models on this computer\n\n", WICK_VERSION_MAJOR, WICK_VERSION_MINOR, WICK_VERSION_PATCH);
    for (size_t i = 0; i < WK_COUNT(commands); i++) printf("  wick %-9s %s\n", commands[i].name, commands[i].what);
    printf("\nwick COMMAND -h shows the common options, --help all of them.\n");
}

void wk_args_help(unsigned cmd, bool all) {
    for (size_t i = 0; i < WK_COUNT(commands); i++)
        if (commands[i].cmd == cmd) printf("wick %s: %s\n\n", commands[i].name, commands[i].what);
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        const struct arg_row *r = &rows[i];
        if (!(r->cmds & cmd) || (!all && r->level != 'C')) continue;
        char left[48], letter[8] = "    ";
        if (r->letter) (void)snprintf(letter, sizeof(letter), "-%c, ", r->letter);
        if (strlen(r->name) == 1)
            (void)snprintf(left, sizeof(left), "-%s", r->name);
        else
            (void)snprintf(left, sizeof(left), "%s--%s %s", letter, r->name, r->argument);
        printf("  %-28s %s%s\n", left, r->help, r->level == 'T' ? " (for tests)" : "");
    }
    if (!all) printf("\n--help lists all options.\n");
}

/* ---- model --------------------------------------------------------------------------------------- */

static bool is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

/* ~/.local/share/wick/models/NAME.gguf */
static bool local_model(char *out, size_t cap, const char *name) {
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n;
    if (strchr(name, '/')) return false;
    if (data && *data)
        n = snprintf(out, cap, "%s/wick/models/%s.gguf", data, name);
    else
        n = snprintf(out, cap, "%s/.local/share/wick/models/%s.gguf", home ? home : "", name);
    return n > 0 && (size_t)n < cap;
}

static bool names_model(const char *s) {
    char path[4096];
    const size_t n = strlen(s);
    if (n > 5 && strcasecmp(s + n - 5, ".gguf") == 0) return true;
    if (strcmp(s, "default") == 0) return true;
    return is_file(s) || (local_model(path, sizeof(path), s) && is_file(path));
}

static void take_first(wk_args *a) {
    a->n_positional--;
    memmove(a->positional, a->positional + 1, a->n_positional * sizeof(a->positional[0]));
}

wick_status wk_args_model(wk_args *a, wick_error *err) {
    const char *name = a->v[WK_ARG_MODEL].s;
    if (!name && a->n_positional && names_model(a->positional[0])) {
        name = a->positional[0];
        take_first(a);
    }
    if (!name) name = "default";
    if (is_file(name) || strchr(name, '/') || (strlen(name) > 5 && strcasecmp(name + strlen(name) - 5, ".gguf") == 0)) {
        (void)snprintf(a->model_path, sizeof(a->model_path), "%s", name);
        return WICK_OK;
    }
    if (!local_model(a->model_path, sizeof(a->model_path), name)) return wk_fail(err, WICK_E_ARG, "the model's name is too long");
    if (is_file(a->model_path)) return WICK_OK;
    if (strcmp(name, "default") == 0)
        return wk_fail(err, WICK_E_IO, "the default model is not installed; ./start fetches it, or name a file with -m FILE.gguf");
    return wk_fail(err, WICK_E_IO, "no file and no local model \"%s\"; the local models are in ~/.local/share/wick/models",
                   wk_show(wk_cstr(name)).text);
}

bool wk_args_color(const wk_args *a, int fd) {
    const char *term = getenv("TERM"), *none = getenv("NO_COLOR");
    if (a->v[WK_ARG_COLOR].i == 1) return true;
    if (a->v[WK_ARG_COLOR].i == 2 || !isatty(fd) || (none && *none)) return false;
    return !term || strcmp(term, "dumb") != 0;
}

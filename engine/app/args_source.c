/* args_source.c: settings from the environment and from the config file, and the file that a model's name means. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/app/args_impl.h"
#include "engine/app/env.h"
#include "engine/base/err.h"
#include "engine/base/os.h"
#include "engine/base/str.h"
#include "engine/base/utf8.h"

enum { CONFIG_MAX = 1 << 20 };

void wk_args_env_name(char out[48], const wk_arg_row *r) {
    size_t n = 5;
    memcpy(out, "WICK_", 5);
    for (const char *p = r->name; *p && n + 1 < 48; p++)
        out[n++] = *p == '-' ? '_' : (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
    out[n] = 0;
}

wick_status wk_args_read_env(wk_args *a, wick_error *err) {
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        char name[48];
        if (!(wk_arg_rows[i].cmds & a->cmd) || !wk_row_is_setting(&wk_arg_rows[i])) continue;
        wk_args_env_name(name, &wk_arg_rows[i]);
        const char *s = wk_env(name);
        if (s && wk_args_put(a, (wk_arg_id)i, s, WK_FROM_ENV, 0, err)) return wk_fail_at(err, "environment %s", name);
    }
    return WICK_OK;
}

/* ---- config file --------------------------------------------------------------------------------- */

/* Without the blanks at both ends; the text is changed. */
static char *trimmed(char *s) {
    while (*s == ' ' || *s == '\t') s++;
    size_t n = strlen(s);
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r')) s[--n] = 0;
    return s;
}

/* "a value" loses its quotes, so that blanks at its ends and a # can be written. Bare values end at " #". */
static char *unquoted(char *s) {
    const size_t n = strlen(s);
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
        s[n - 1] = 0;
        return s + 1;
    }
    for (char *p = s; *p; p++)
        if (*p == '#' && (p == s || p[-1] == ' ' || p[-1] == '\t')) {
            *p = 0;
            break;
        }
    return trimmed(s);
}

/* key = value. Keys of other commands are checked as well, and then not used. */
static wick_status read_line(wk_args *a, char *line, int number, wick_error *err) {
    char *key = trimmed(line);
    if (!*key || *key == '#') return WICK_OK;
    char *eq = strchr(key, '=');
    if (!eq) return wk_fail(err, WICK_E_ARG, "\"%s\" is not of the form key = value", wk_show(wk_cstr(key)).text);
    *eq = 0;
    key = trimmed(key);
    char *value = unquoted(trimmed(eq + 1));
    int id = wk_args_find(key, strlen(key), a->cmd);
    if (id < 0 || !wk_row_is_setting(&wk_arg_rows[id])) id = wk_args_find(key, strlen(key), ~0U);
    if (id < 0 || !wk_row_is_setting(&wk_arg_rows[id])) {
        const char *near = wk_args_nearest_option(key, ~0U);
        return wk_fail(err, WICK_E_ARG, "unknown key \"%s\"%s%s%s", wk_show(wk_cstr(key)).text,
                       near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    wk_args probe = {.cmd = wk_arg_rows[id].cmds}; /* its value must be right for any command */
    const bool used = (wk_arg_rows[id].cmds & a->cmd) != 0;
    if (wk_args_put(used ? a : &probe, (wk_arg_id)id, value, WK_FROM_CONFIG, number, err))
        return wk_fail_at(err, "%s", key);
    return WICK_OK;
}

static wick_status read_lines(wk_args *a, wick_error *err) {
    char *line = a->config.p;
    for (int number = 1; line; number++) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        if (read_line(a, line, number, err))
            return wk_fail_at(err, "%s:%d", wk_show(wk_cstr(a->config_path)).text, number);
        line = end ? end + 1 : NULL;
    }
    return WICK_OK;
}

wick_status wk_args_read_config(wk_args *a, wick_error *err) {
    wk_map_file map = {0};
    if (!wk_env_config(a->config_path, sizeof(a->config_path), "wick/config") || access(a->config_path, F_OK) != 0) {
        a->config_path[0] = 0;
        return WICK_OK;
    }
    WK_TRY(wk_os_map(&map, a->config_path, err));
    const wk_str text = {(const char *)map.p, map.n};
    wick_status rc = WICK_OK;
    wk_buf_init(&a->config, CONFIG_MAX);
    if (text.n > CONFIG_MAX)
        rc = wk_fail(err, WICK_E_ARG, "%s is longer than 1 MiB", wk_show(wk_cstr(a->config_path)).text);
    else if (text.n && (!wk_utf8_valid(text) || memchr(text.p, 0, text.n)))
        rc = wk_fail(err, WICK_E_ARG, "%s is not UTF-8 text", wk_show(wk_cstr(a->config_path)).text);
    else if (text.n && !wk_buf_add(&a->config, text.p, text.n))
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for %s", wk_show(wk_cstr(a->config_path)).text);
    wk_os_unmap(&map);
    return rc ? rc : read_lines(a, err);
}

/* ---- model --------------------------------------------------------------------------------------- */

static bool is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

static bool is_gguf(const char *s) {
    const size_t n = strlen(s);
    return n > 5 && strcasecmp(s + n - 5, ".gguf") == 0;
}

/* ~/.local/share/wick/models/NAME.gguf */
static bool local_model(char *out, size_t cap, const char *name) {
    char tail[300];
    const int n = snprintf(tail, sizeof(tail), "wick/models/%s.gguf", name);
    return n > 0 && n < (int)sizeof(tail) && !strchr(name, '/') && wk_env_data(out, cap, tail);
}

static bool names_model(const char *s) {
    char path[4096];
    if (is_gguf(s) || strcmp(s, "default") == 0 || strcmp(s, "tiny") == 0) return true;
    return is_file(s) || (local_model(path, sizeof(path), s) && is_file(path));
}

static void take_first(wk_args *a) {
    a->n_positional--;
    memmove(a->positional, a->positional + 1, a->n_positional * sizeof(a->positional[0]));
}

wick_status wk_args_model_path(char *out, size_t cap, const char *name, wick_error *err) {
    if (is_file(name) || strchr(name, '/') || is_gguf(name)) {
        if (strlen(name) >= cap) return wk_fail(err, WICK_E_ARG, "the model's path is longer than %zu bytes", cap - 1);
        (void)snprintf(out, cap, "%s", name);
        return WICK_OK;
    }
    if (local_model(out, cap, name) && is_file(out)) return WICK_OK;
    if (strcmp(name, "tiny") == 0) {
        (void)snprintf(out, cap, "%s", WK_TINY_MODEL);
        return WICK_OK;
    }
    if (strcmp(name, "default") == 0)
        return wk_fail(err, WICK_E_IO,
                       "the default model is not installed; ./start fetches it, or name a file with -m FILE.gguf");
    return wk_fail(err, WICK_E_IO,
                   "no file and no local model \"%s\"; the local models are in ~/.local/share/wick/models",
                   wk_show(wk_cstr(name)).text);
}

/* Paths and scales apart; the pointers are set when the buffer grows no more. */
static wick_status take_lora(wk_args *a, wick_error *err) {
    size_t n, n_path, at = 0;
    const char *const *list = wk_args_list(a, WK_ARG_LORA, &n);
    wk_buf_reset(&a->lora_text);
    for (size_t i = 0; i < n; i++) {
        WK_TRY(wk_args_lora(list[i], &n_path, &a->lora_scale[i], err));
        (void)wk_buf_add(&a->lora_text, list[i], n_path); /* a failure shows below */
        (void)wk_buf_addc(&a->lora_text, 0);
    }
    if (a->lora_text.failed) return wk_fail(err, WICK_E_NOMEM, "no memory for the names of the adapters");
    for (size_t i = 0; i < n; i++) {
        a->lora[i] = a->lora_text.p + at;
        at += strlen(a->lora[i]) + 1;
    }
    return WICK_OK;
}

/* Options that are given become keys of the engine. */
static wick_status take_extra(wk_args *a, wick_error *err) {
    static const struct {
        wk_arg_id id;
        const char *key;
    } keys[] = {{WK_ARG_RUN_GEMM, "gemm"}, {WK_ARG_CPUS, "cpus"},
                {WK_ARG_HUGE, "huge"},     {WK_ARG_PACK_CACHE, "cache_dir"},
                {WK_ARG_PACK_MAX, "cache_max"}};
    size_t n = 0, at = 0;
    wk_buf_reset(&a->extra_text);
    for (size_t i = 0; i < WK_COUNT(keys); i++) {
        const wk_value *v = &a->v[keys[i].id];
        if (!(wk_arg_rows[keys[i].id].cmds & a->cmd) || !v->given) continue;
        if (wk_row_is(&wk_arg_rows[keys[i].id], "int"))
            (void)wk_buf_addf(&a->extra_text, "%s=%lld", keys[i].key, (long long)v->i); /* a failure shows below */
        else
            (void)wk_buf_addf(&a->extra_text, "%s=%s", keys[i].key, v->s);
        (void)wk_buf_addc(&a->extra_text, 0);
        n++;
    }
    if (wk_flag(a, WK_ARG_PIN) && !a->v[WK_ARG_CPUS].given) {
        (void)wk_buf_add(&a->extra_text, "cpus=all", sizeof("cpus=all"));
        n++;
    }
    if (a->extra_text.failed) return wk_fail(err, WICK_E_NOMEM, "no memory for the engine's options");
    for (size_t i = 0; i < n; i++) {
        a->extra[i] = a->extra_text.p + at;
        at += strlen(a->extra[i]) + 1;
    }
    a->extra[n] = NULL;
    return WICK_OK;
}

wick_status wk_args_model(wk_args *a, wick_error *err) {
    WK_TRY(take_lora(a, err));
    WK_TRY(take_extra(a, err));
    const wk_value *v = &a->v[WK_ARG_MODEL];
    const char *name = v->from == WK_FROM_FLAG ? v->s : NULL;
    if (!name && a->n_positional && names_model(a->positional[0])) {
        name = a->positional[0];
        take_first(a);
    }
    if (!name) name = v->s ? v->s : "default";
    const wick_status rc = wk_args_model_path(a->model_path, sizeof(a->model_path), name, err);
    a->falls_back = rc && a->cmd == WK_CMD_RUN && strcmp(name, "default") == 0;
    return a->falls_back ? wk_args_model_path(a->model_path, sizeof(a->model_path), "tiny", err) : rc;
}

wick_status wk_args_time(double *out, const char *name, const char *text, wick_error *err) {
    static const struct {
        const char *word;
        double seconds;
    } units[] = {{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
    char *end;
    const double v = strtod(text, &end);
    for (size_t i = 0; end != text && i < WK_COUNT(units); i++)
        if (strcmp(end, units[i].word) == 0 && v * units[i].seconds >= 1 && v * units[i].seconds <= 604800) {
            *out = v * units[i].seconds;
            return WICK_OK;
        }
    return wk_fail(err, WICK_E_ARG, "--%s wants a time such as 90s, 10m or 2h, from 1 s to 168 h, found \"%s\"", name,
                   wk_show(wk_cstr(text)).text);
}

bool wk_args_color(const wk_args *a, int fd) {
    if (a->v[WK_ARG_COLOR].i == 1) return true;
    return a->v[WK_ARG_COLOR].i == 0 && wk_env_screen(fd) && !wk_env("NO_COLOR");
}

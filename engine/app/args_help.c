/* args_help.c: every page that is made from the option table: usage, help, --explain, manual page, completions. */
#include <stdio.h>
#include <string.h>

#include "engine/app/args_impl.h"
#include "engine/base/json.h"
#include "engine/base/str.h"
#include "engine/wick_x.h"

void wk_args_usage(void) {
    printf("wick %d.%d.%d: language models on this computer\n", WICK_VERSION_MAJOR, WICK_VERSION_MINOR,
           WICK_VERSION_PATCH);
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++) {
        char left[40];
        (void)snprintf(left, sizeof(left), "%s %s", wk_commands[i].name, wk_commands[i].usage);
        printf("  wick %-23s %s\n", left, wk_commands[i].what);
    }
    printf("  wick %-23s %s\n", "help [CMD | --man]", "these pages; wick completion bash|zsh|fish");
    printf("wick COMMAND -h shows the common options, --help all of them.\n");
}

/* "-c, --ctx N"; "-h" for the one without a long name. */
static void name_of(char *out, size_t cap, const wk_arg_row *r) {
    const char *gap = *r->argument ? " " : "";
    if (strlen(r->name) == 1)
        (void)snprintf(out, cap, "-%s", r->name);
    else if (r->letter)
        (void)snprintf(out, cap, "-%c, --%s%s%s", r->letter, r->name, gap, r->argument);
    else
        (void)snprintf(out, cap, "    --%s%s%s", r->name, gap, r->argument);
}

void wk_args_help(unsigned cmd, bool all) {
    const char *group = "";
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++)
        if (wk_commands[i].cmd == cmd)
            printf("wick %s %s: %s\n", wk_commands[i].name, wk_commands[i].usage, wk_commands[i].what);
    if (!all) printf("\n");
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        const wk_arg_row *r = &wk_arg_rows[i];
        char left[48];
        if (!(r->cmds & cmd) || (!all && r->level != 'C')) continue;
        if (all && strcmp(group, r->group) != 0) printf("\n%s:\n", r->group);
        group = r->group;
        name_of(left, sizeof(left), r);
        printf("  %-25s %s", left, r->help);
        if (r->dflt)
            printf(" (default: %s)\n", r->dflt);
        else
            printf("\n");
    }
    if (!all) printf("\n--help lists all options.\n");
}

/* ---- --explain ----------------------------------------------------------------------------------- */

static void add_value(wk_buf *b, const wk_args *a, int id) {
    const wk_arg_row *r = &wk_arg_rows[id];
    const wk_value *v = &a->v[id];
    if (!v->given) {
        int n_core, n_affinity, n_thread = 0;
        double quota;
        char levels[96];
        if (id == WK_ARG_THREADS && !wick_x_machine(&n_core, &n_affinity, &quota, &n_thread, levels, sizeof(levels)))
            (void)wk_buf_addf(b, "%d, the ", n_thread); /* failure stays in b, as everywhere here */
        (void)wk_buf_adds(b, r->dflt ? r->dflt : wk_row_is(r, "flag") ? "no" : "none");
    } else if (wk_row_is(r, "flag")) {
        (void)wk_buf_adds(b, v->i ? "yes" : "no");
    } else if (wk_row_is(r, "list")) {
        size_t n;
        const char *const *list = wk_args_list(a, (wk_arg_id)id, &n);
        for (size_t i = 0; i < n; i++) (void)wk_buf_addf(b, "%s\"%s\"", i ? " " : "", wk_show(wk_cstr(list[i])).text);
    } else {
        (void)wk_buf_adds(b, wk_show(wk_cstr(v->s)).text);
    }
}

static void add_source(wk_buf *b, const wk_args *a, int id) {
    char name[48];
    switch (a->v[id].from) {
    case WK_FROM_CONFIG:
        (void)wk_buf_addf(b, "config %s:%d", wk_show(wk_cstr(a->config_path)).text, a->v[id].line);
        break;
    case WK_FROM_ENV:
        wk_args_env_name(name, &wk_arg_rows[id]);
        (void)wk_buf_addf(b, "environment %s", name);
        break;
    case WK_FROM_FLAG:
        (void)wk_buf_adds(b, "flag");
        break;
    case WK_FROM_CHAT:
        (void)wk_buf_adds(b, "/set");
        break;
    default:
        (void)wk_buf_adds(b, "default");
    }
}

static void explain_row(wk_buf *b, const wk_args *a, int id, bool json, bool first) {
    wk_buf value, source;
    wk_buf_init(&value, 0);
    wk_buf_init(&source, 0);
    add_value(&value, a, id);
    add_source(&source, a, id);
    if (value.failed || source.failed) b->failed = true;
    if (json) {
        (void)wk_buf_addf(b, "%s{\"name\":\"%s\",\"value\":", first ? "" : ",", wk_arg_rows[id].name);
        wk_json_put_str(b, wk_buf_str(&value));
        (void)wk_buf_adds(b, ",\"from\":");
        wk_json_put_str(b, wk_buf_str(&source));
        (void)wk_buf_addc(b, '}');
    } else {
        (void)wk_buf_addf(b, "%-16s %-46s %s\n", wk_arg_rows[id].name, value.p ? value.p : "",
                          source.p ? source.p : "");
    }
    wk_buf_fini(&value);
    wk_buf_fini(&source);
}

void wk_args_explain(const wk_args *a, wk_buf *b) {
    const bool json = wk_flag(a, WK_ARG_JSON) || wk_flag(a, WK_ARG_JSONL);
    bool first = true;
    if (json)
        (void)wk_buf_addf(b, "{\"schema\":\"wick.explain/1\",\"command\":\"%s\",\"settings\":[",
                          wk_args_command_name(a->cmd));
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        if (!(wk_arg_rows[i].cmds & a->cmd) || strcmp(wk_arg_rows[i].group, "help") == 0) continue;
        explain_row(b, a, i, json, first);
        first = false;
    }
    if (json) (void)wk_buf_adds(b, "]}\n");
}

void wk_args_list_answer(const wk_args *a, wk_buf *b) {
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        if (!(wk_arg_rows[i].cmds & a->cmd) || strcmp(wk_arg_rows[i].group, "answer") != 0) continue;
        (void)wk_buf_adds(b, "  ");
        explain_row(b, a, i, false, false);
    }
}

const char *wk_args_answer_name(size_t i) {
    for (int id = 0; id < WK_ARG_COUNT; id++)
        if (strcmp(wk_arg_rows[id].group, "answer") == 0 && i-- == 0) return wk_arg_rows[id].name;
    return NULL;
}

/* ---- manual page --------------------------------------------------------------------------------- */

/* Text as roff: dashes stay dashes, a leading dot or quote does not become a request. */
static void put_roff(const char *s) {
    if (*s == '.' || *s == '\'') printf("\\&");
    for (; *s; s++) {
        if (*s == '-' || *s == '\\') printf(*s == '-' ? "\\-" : "\\e");
        else putchar(*s);
    }
}

static void man_option(const wk_arg_row *r) {
    printf(".TP\n.B ");
    if (strlen(r->name) == 1) {
        printf("\\-%s\n", r->name);
    } else {
        if (r->letter) printf("\\-%c, ", r->letter);
        printf("\\-\\-");
        put_roff(r->name);
        if (*r->argument) printf(" \\fI%s\\fR", r->argument);
        printf("\n");
    }
    put_roff(r->help);
    if (r->dflt) {
        printf(" (default: ");
        put_roff(r->dflt);
        printf(")");
    }
    printf(".\nCommands:");
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++)
        if (r->cmds & wk_commands[i].cmd) printf(" %s", wk_commands[i].name);
    printf(".\n");
}

static void man_options(void) {
    const char *group = "";
    printf(".SH OPTIONS\n");
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        if (wk_arg_rows[i].level == 'T') continue;
        if (strcmp(group, wk_arg_rows[i].group) != 0) printf(".SS %s\n", wk_arg_rows[i].group);
        group = wk_arg_rows[i].group;
        man_option(&wk_arg_rows[i]);
    }
}

void wk_args_man(void) {
    printf(".TH WICK 1 \"\" \"wick %d.%d.%d\" \"User Commands\"\n", WICK_VERSION_MAJOR, WICK_VERSION_MINOR,
           WICK_VERSION_PATCH);
    printf(".SH NAME\nwick \\- language models on this computer\n.SH SYNOPSIS\n");
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++) {
        printf(".B wick %s\n", wk_commands[i].name);
        put_roff(wk_commands[i].usage);
        printf(" [\\fIoption\\fR ...]\n.br\n");
    }
    printf(".B wick help\n[\\fIcommand\\fR | \\-\\-man]\n.br\n.B wick completion\nbash|zsh|fish\n");
    printf(".SH DESCRIPTION\nStandard output carries the answer, standard error everything else.\n");
    man_options();
    printf(".SH ENVIRONMENT\nEach option can be set by WICK_ and its long name in capitals, a dash written as\n"
           "an underscore: WICK_CTX, WICK_TOP_P. Flags take 0 or 1. NO_COLOR turns colour off.\n");
    printf(".SH FILES\n.TP\n.I ~/.config/wick/config\nSettings, one \\(lqkey = value\\(rq a line; the keys are the"
           " long names, # begins a comment.\n.TP\n.I ~/.local/state/wick/history\nWhat was typed in chat.\n"
           ".TP\n.I ~/.local/share/wick/models\nLocal models, NAME.gguf.\n");
    printf(".PP\nOrder of settings: built in, config file, environment, command line.\n");
    printf(".SH EXIT STATUS\n0 done, 1 failed, 2 usage, 3 fits with less than 10 %% to spare, 4 does not fit,\n"
           "6 damaged or unsupported file, 7 a check asked for did not hold, 130 interrupted, 143 terminated.\n");
}

/* ---- completions --------------------------------------------------------------------------------- */

/* Words of a choice, separated by blanks; nothing for other types. */
static void put_words(const wk_arg_row *r) {
    if (!wk_row_is_choice(r)) return;
    for (const char *p = r->type; *p; p++) putchar(*p == '|' ? ' ' : *p);
}

static void complete_bash(void) {
    printf("_wick() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} opts=\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then\n        COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++) printf("%s ", wk_commands[i].name);
    printf("help completion\" -- \"$cur\"))\n        return\n    fi\n    case $prev in\n");
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        if (!wk_row_is_choice(&wk_arg_rows[i])) continue;
        printf("    --%s) COMPREPLY=($(compgen -W \"", wk_arg_rows[i].name);
        put_words(&wk_arg_rows[i]);
        printf("\" -- \"$cur\")); return ;;\n");
    }
    printf("    completion) COMPREPLY=($(compgen -W \"bash zsh fish\" -- \"$cur\")); return ;;\n"
           "    esac\n    case ${COMP_WORDS[1]} in\n");
    for (size_t c = 0; c < WK_COMMAND_COUNT; c++) {
        printf("    %s) opts=\"", wk_commands[c].name);
        for (int i = 0; i < WK_ARG_COUNT; i++)
            if ((wk_arg_rows[i].cmds & wk_commands[c].cmd) && strlen(wk_arg_rows[i].name) > 1)
                printf("--%s ", wk_arg_rows[i].name);
        printf("\" ;;\n");
    }
    printf("    esac\n    case $cur in\n    -*) COMPREPLY=($(compgen -W \"$opts\" -- \"$cur\")) ;;\n"
           "    *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n    esac\n}\n"
           "complete -o filenames -F _wick wick\n");
}

/* Text inside single quotes of a shell script; zsh also wants its own marks escaped. */
static void put_quoted(const char *s, bool zsh) {
    for (; *s; s++) {
        if (*s == '\'') printf(zsh ? "'\\''" : "\\'");
        else if (zsh && strchr("[]:\\", *s)) printf("\\%c", *s);
        else putchar(*s);
    }
}

static void complete_zsh(void) {
    printf("#compdef wick\n_wick() {\n    if (( CURRENT == 2 )); then\n        local -a commands=(");
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++) {
        printf("'%s:", wk_commands[i].name);
        put_quoted(wk_commands[i].what, true);
        printf("' ");
    }
    printf("help completion)\n        _describe command commands\n        return\n    fi\n    case $words[2] in\n");
    for (size_t c = 0; c < WK_COMMAND_COUNT; c++) {
        printf("    %s) _arguments", wk_commands[c].name);
        for (int i = 0; i < WK_ARG_COUNT; i++) {
            const wk_arg_row *r = &wk_arg_rows[i];
            if (!(r->cmds & wk_commands[c].cmd) || strlen(r->name) == 1) continue;
            printf(" '--%s[", r->name);
            put_quoted(r->help, true);
            printf("]");
            if (*r->argument) printf(":%s:%s", r->argument, wk_row_is_choice(r) ? "(" : "_files");
            put_words(r);
            printf("%s'", wk_row_is_choice(r) ? ")" : "");
        }
        printf(" '*:file:_files' ;;\n");
    }
    printf("    completion) _values shell bash zsh fish ;;\n    esac\n}\n"
           "if [ \"$funcstack[1]\" = _wick ]; then _wick \"$@\"; else compdef _wick wick; fi\n");
}

static void complete_fish(void) {
    for (size_t i = 0; i < WK_COMMAND_COUNT; i++) {
        printf("complete -c wick -n __fish_use_subcommand -f -a %s -d '", wk_commands[i].name);
        put_quoted(wk_commands[i].what, false);
        printf("'\n");
    }
    printf("complete -c wick -n __fish_use_subcommand -f -a 'help completion'\n"
           "complete -c wick -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n");
    for (int i = 0; i < WK_ARG_COUNT; i++) {
        const wk_arg_row *r = &wk_arg_rows[i];
        printf("complete -c wick -n '__fish_seen_subcommand_from");
        for (size_t c = 0; c < WK_COMMAND_COUNT; c++)
            if (r->cmds & wk_commands[c].cmd) printf(" %s", wk_commands[c].name);
        printf("'");
        if (strlen(r->name) > 1) printf(" -l %s", r->name);
        if (r->letter) printf(" -s %c", r->letter);
        if (*r->argument) printf(" -r");
        if (wk_row_is_choice(r)) {
            printf(" -f -a '");
            put_words(r);
            printf("'");
        }
        printf(" -d '");
        put_quoted(r->help, false);
        printf("'\n");
    }
}

bool wk_args_completion(const char *shell) {
    if (strcmp(shell, "bash") == 0) complete_bash();
    else if (strcmp(shell, "zsh") == 0) complete_zsh();
    else if (strcmp(shell, "fish") == 0) complete_fish();
    else return false;
    return true;
}

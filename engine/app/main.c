/* main.c: which command, which help, which exit code. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "engine/app/cmd.h"
#include "engine/app/out.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

static const struct {
    unsigned cmd;
    int (*run)(wk_args *a);
} table[] = {{WK_CMD_RUN, wk_cmd_run},
             {WK_CMD_CHAT, wk_cmd_chat},
             {WK_CMD_SHOW, wk_cmd_show},
             {WK_CMD_TOK, wk_cmd_tokenize},
             {WK_CMD_PLAN, wk_cmd_plan}};

static int flush_help(void) {
    wick_error err = {0};
    if (fflush(stdout) == 0) return 0;
    (void)wk_fail(&err, WICK_E_IO, "the output could not be written");
    return wk_report(&err);
}

static int unknown_command(const char *name) {
    wick_error err = {0};
    const char *near = wk_args_nearest_command(name);
    (void)wk_fail(&err, WICK_E_ARG, "unknown command \"%s\"%s%s%s", wk_show(wk_cstr(name)).text,
                  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "; `wick` alone lists them");
    return wk_report(&err);
}

static int help_of(int argc, char **argv) {
    const unsigned cmd = argc > 2 ? wk_args_command(argv[2]) : 0;
    if (argc > 2 && !cmd) return unknown_command(argv[2]);
    if (cmd)
        wk_args_help(cmd, true);
    else
        wk_args_usage();
    return flush_help();
}

int main(int argc, char **argv) {
    wk_args a;
    wick_error err = {0};
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write, reported like any other */
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        wk_args_usage();
        return flush_help();
    }
    if (strcmp(argv[1], "help") == 0) return help_of(argc, argv);
    if (strcmp(argv[1], "--version") == 0) {
        printf("wick %d.%d.%d arithmetic %d\n", WICK_VERSION_MAJOR, WICK_VERSION_MINOR, WICK_VERSION_PATCH, WICK_ARITH);
        return flush_help();
    }
    const unsigned cmd = wk_args_command(argv[1]);
    if (!cmd) return unknown_command(argv[1]);
    if (wk_args_parse(&a, cmd, argc - 2, argv + 2, &err)) return wk_report(&err);
    if (wk_flag(&a, WK_ARG_HELP) || wk_flag(&a, WK_ARG_HELP_SHORT)) {
        wk_args_help(cmd, wk_flag(&a, WK_ARG_HELP));
        return flush_help();
    }
    for (size_t i = 0; i < WK_COUNT(table); i++)
        if (table[i].cmd == cmd) return table[i].run(&a);
    return unknown_command(argv[1]);
}

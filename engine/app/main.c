/* main.c: which command, which help, which exit code. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/cmd.h"
#include "engine/app/emit.h"
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
             {WK_CMD_PLAN, wk_cmd_plan},
             {WK_CMD_DOC, wk_cmd_doctor},
             {WK_CMD_BENCH, wk_cmd_bench},
             {WK_CMD_EVAL, wk_cmd_eval},
#ifdef WICK_WITH_TRAIN
             {WK_CMD_WALL, wk_cmd_wall},
             {WK_CMD_TRAIN, wk_cmd_train},
             {WK_CMD_TUNE, wk_cmd_tune},
#endif
};

static int flush_help(void) {
    wick_error err = {0};
    if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
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
    if (argc > 2 && strcmp(argv[2], "--man") == 0) {
        wk_args_man();
        return flush_help();
    }
    const unsigned cmd = argc > 2 ? wk_args_command(argv[2]) : 0;
    if (argc > 2 && !cmd) return unknown_command(argv[2]);
    if (cmd)
        wk_args_help(cmd, true);
    else
        wk_args_usage();
    return flush_help();
}

static int completion(int argc, char **argv) {
    wick_error err = {0};
    if (argc == 3 && wk_args_completion(argv[2])) return flush_help();
    (void)wk_fail(&err, WICK_E_ARG, "completion wants one of bash, zsh, fish, found \"%s\"",
                  wk_show(wk_cstr(argc > 2 ? argv[2] : "")).text);
    return wk_report(&err);
}

/* No file of ours may get the number of a standard stream that was closed: its use must fail, as it would have. */
static void fill_streams(void) {
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0) return;
}

/* A command line that is wrong: the sentence, and the object for who asked for JSON. */
static int refuse(wk_args *a, int argc, char **argv, wick_error *err) {
    wk_emit e;
    wk_emit_init(&e, a);
    if (e.mode == WK_EMIT_TEXT && wk_args_wants_json(argc, argv)) e.mode = WK_EMIT_JSON;
    return wk_emit_finish(&e, err->code, err, 2);
}

static int explain(wk_args *a) {
    wk_emit e;
    wick_error err = {0};
    wk_emit_init(&e, a);
    wk_args_explain(a, &e.line);
    if (!e.line.failed) (void)wk_out_write(&e.out, e.line.p, e.line.n); /* kept in e.out.error */
    return wk_emit_finish(&e, WICK_OK, &err, 0);
}

static int command(unsigned cmd, int argc, char **argv) {
    wk_args a;
    wick_error err = {0};
    int code = 2;
    if (wk_args_parse(&a, cmd, argc - 2, argv + 2, &err)) {
        code = refuse(&a, argc - 2, argv + 2, &err);
    } else if (wk_flag(&a, WK_ARG_HELP) || wk_flag(&a, WK_ARG_HELP_SHORT)) {
        wk_args_help(cmd, wk_flag(&a, WK_ARG_HELP));
        code = flush_help();
    } else if (wk_flag(&a, WK_ARG_EXPLAIN)) {
        code = explain(&a);
    } else {
        int (*run)(wk_args *) = NULL;
        for (size_t i = 0; i < WK_COUNT(table); i++)
            if (table[i].cmd == cmd) run = table[i].run;
        (void)wk_fail(&err, WICK_E_UNSUPPORTED, "this build leaves training out (WICK_TRAIN=OFF)");
        code = run ? run(&a) : wk_report(&err);
    }
    wk_args_fini(&a);
    return code;
}

int main(int argc, char **argv) {
    fill_streams();
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of write too */
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write, reported like any other */
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        wk_args_usage();
        return flush_help();
    }
    if (strcmp(argv[1], "help") == 0) return help_of(argc, argv);
    if (strcmp(argv[1], "completion") == 0) return completion(argc, argv);
    if (strcmp(argv[1], "--version") == 0) {
        printf("wick %d.%d.%d arithmetic %d\n", WICK_VERSION_MAJOR, WICK_VERSION_MINOR, WICK_VERSION_PATCH, WICK_ARITH);
        return flush_help();
    }
    const unsigned cmd = wk_args_command(argv[1]);
    return cmd ? command(cmd, argc, argv) : unknown_command(argv[1]);
}

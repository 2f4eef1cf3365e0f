/* cmd.h: one function per command; each returns the exit code of the program. */
#ifndef WK_CMD_H
#define WK_CMD_H

#include "engine/app/args.h"

int wk_cmd_run(wk_args *a);
int wk_cmd_chat(wk_args *a);
int wk_cmd_show(wk_args *a);
int wk_cmd_tokenize(wk_args *a);
int wk_cmd_plan(wk_args *a);
int wk_cmd_train(wk_args *a);
int wk_cmd_tune(wk_args *a);
int wk_cmd_doctor(wk_args *a);
int wk_cmd_bench(wk_args *a);
int wk_cmd_eval(wk_args *a);
int wk_cmd_wall(wk_args *a);

#endif

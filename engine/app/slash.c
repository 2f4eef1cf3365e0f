/* slash.c: the commands of chat, one row each, and their completion. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/app/dialog.h"
#include "engine/app/env.h"
#include "engine/base/err.h"

enum { FILE_MAX = 4 << 20, PATH_MAX_BYTES = 4096 };

static wick_status do_help(wk_dialog *d, const char *arg, wick_error *err);

/* ~/x as a shell would read it. */
static wick_status home_path(char *out, size_t cap, const char *path, wick_error *err) {
    const char *home = wk_env("HOME");
    const bool tilde = path[0] == '~' && path[1] == '/' && home;
    const int n = snprintf(out, cap, "%s%s", tilde ? home : "", tilde ? path + 1 : path);
    return n < 0 || (size_t)n >= cap ? wk_fail(err, WICK_E_ARG, "the path is longer than 4 KiB") : WICK_OK;
}

static wick_status need(const char *arg, const char *what, wick_error *err) {
    return *arg ? WICK_OK : wk_fail(err, WICK_E_ARG, "%s", what);
}

static wick_status do_exit(wk_dialog *d, const char *arg, wick_error *err) {
    (void)arg;
    (void)err;
    d->leave = true;
    return WICK_OK;
}

static wick_status do_clear(wk_dialog *d, const char *arg, wick_error *err) {
    (void)arg;
    (void)err;
    wk_talk_clear(&d->talk);
    wk_buf_reset(&d->file);
    wk_say(false, "  the conversation is forgotten, %d tokens are free again\n", (int)d->n_used);
    d->n_used = 0;
    return WICK_OK;
}

static wick_status do_undo(wk_dialog *d, const char *arg, wick_error *err) {
    const size_t n = wk_talk_count(&d->talk);
    (void)arg;
    if (d->file.n) {
        wk_buf_reset(&d->file);
        wk_say(false, "  the file is dropped\n");
        return WICK_OK;
    }
    if (n < 2) return wk_fail(err, WICK_E_ARG, "there is no message to take back");
    wk_talk_cut(&d->talk, n - 2);
    wk_say(false, "  the last message and its answer are taken back\n");
    return WICK_OK;
}

static wick_status do_retry(wk_dialog *d, const char *arg, wick_error *err) {
    const size_t n = wk_talk_count(&d->talk);
    wk_talk_role role;
    wk_buf text;
    (void)arg;
    if (n < 2) return wk_fail(err, WICK_E_ARG, "there is no message to answer again");
    const wk_str old = wk_talk_at(&d->talk, n - 2, &role);
    wk_buf_init(&text, 0);
    (void)wk_buf_add(&text, old.p, old.n);
    wk_talk_cut(&d->talk, n - 2);
    d->n_retry++;
    const wick_status rc = text.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the message")
                                       : wk_dialog_ask(d, wk_buf_str(&text), err);
    wk_buf_fini(&text);
    return rc;
}

static wick_status do_system(wk_dialog *d, const char *arg, wick_error *err) {
    (void)err;
    if (strcmp(arg, "none") == 0)
        wk_talk_system(&d->talk, WK_STR(""));
    else if (*arg)
        wk_talk_system(&d->talk, wk_cstr(arg));
    if (d->talk.system.n)
        wk_say(false, "  system message: %s\n", d->talk.system.p);
    else
        wk_say(false, "  there is no system message\n");
    return WICK_OK;
}

static wick_status do_set(wk_dialog *d, const char *arg, wick_error *err) {
    char name[32];
    const size_t n = strcspn(arg, " =");
    if (!*arg) {
        wk_buf b;
        wk_buf_init(&b, 0);
        wk_args_list_answer(d->args, &b);
        wk_say(false, "%s", b.p ? b.p : "");
        wk_buf_fini(&b);
        return WICK_OK;
    }
    if (n >= sizeof(name)) return wk_fail(err, WICK_E_ARG, "\"%s\" is no setting", wk_show(wk_cstr(arg)).text);
    (void)snprintf(name, sizeof(name), "%.*s", (int)n, arg);
    arg += n + strspn(arg + n, " =");
    WK_TRY(wk_args_set(d->args, name, arg, err));
    if (*arg)
        wk_say(false, "  %s is now %s\n", name, wk_show(wk_cstr(arg)).text);
    else
        wk_say(false, "  %s has its default again\n", name);
    return WICK_OK;
}

static wick_status do_stats(wk_dialog *d, const char *arg, wick_error *err) {
    wick_stats st = WICK_STATS_INIT;
    (void)arg;
    const wick_status rc = wick_engine_stats(d->s.engine, &st);
    if (rc) return wk_fail(err, rc, "the engine gives no figures");
    wk_say(false, "  context   %d of %d tokens, %zu messages\n", (int)d->n_used, (int)d->s.stats.n_ctx,
           wk_talk_count(&d->talk));
    wk_say(false, "  prompts   %llu tokens computed, %llu from the cache\n", (unsigned long long)st.prompt_tokens,
           (unsigned long long)st.cached_tokens);
    wk_say(false, "  answers   %llu tokens, the last at %.1f tok/s\n", (unsigned long long)st.generated_tokens,
           wk_session_rate(&d->answer.result));
    wk_say(false, "  memory    weights %.0f MB, KV %.0f MB, the rest %.0f MB\n", (double)st.bytes_weights / 1e6,
           (double)st.bytes_kv / 1e6, (double)st.bytes_rest / 1e6);
    return WICK_OK;
}

static wick_status do_save(wk_dialog *d, const char *arg, wick_error *err) {
    char path[PATH_MAX_BYTES];
    WK_TRY(need(arg, "/save wants the name of a file", err));
    WK_TRY(home_path(path, sizeof(path), arg, err));
    WK_TRY(wk_talk_save(&d->talk, path, wk_cstr(d->args->model_path), err));
    wk_say(false, "  %zu messages are in %s\n", wk_talk_count(&d->talk), wk_show(wk_cstr(path)).text);
    return WICK_OK;
}

static wick_status do_load(wk_dialog *d, const char *arg, wick_error *err) {
    char path[PATH_MAX_BYTES];
    WK_TRY(need(arg, "/load wants the name of a file", err));
    WK_TRY(home_path(path, sizeof(path), arg, err));
    WK_TRY(wk_talk_load(&d->talk, path, err));
    wk_buf_reset(&d->file);
    wk_say(false, "  %zu messages are back\n", wk_talk_count(&d->talk));
    return WICK_OK;
}

static wick_status do_model(wk_dialog *d, const char *arg, wick_error *err) {
    char path[PATH_MAX_BYTES], full[PATH_MAX_BYTES];
    wick_status back = WICK_OK;
    if (!*arg) {
        wk_say(false, "  %s\n", wk_show(wk_cstr(d->args->model_path)).text);
        return WICK_OK;
    }
    WK_TRY(home_path(full, sizeof(full), arg, err));
    WK_TRY(wk_args_model_path(path, sizeof(path), full, err));
    const wick_status rc = wk_session_switch(&d->s, path, d->args->model_path, &back, err);
    if (rc && back) {
        d->leave = true; /* neither model is there any more */
        d->code = wk_exit_code(back);
        return wk_fail_at(err, "no model is open any more");
    }
    if (!rc) (void)snprintf(d->args->model_path, sizeof(d->args->model_path), "%s", path);
    d->n_used = 0;
    return rc;
}

static wick_status do_file(wk_dialog *d, const char *arg, wick_error *err) {
    char path[PATH_MAX_BYTES];
    const size_t before = d->file.n;
    WK_TRY(need(arg, "/file wants the name of a text file", err));
    WK_TRY(home_path(path, sizeof(path), arg, err));
    WK_TRY(wk_talk_read_file(&d->file, path, FILE_MAX, err));
    if (d->file.n > before && d->file.p[d->file.n - 1] != '\n') (void)wk_buf_addc(&d->file, '\n');
    wk_say(false, "  %zu bytes go in front of your next message; /undo drops them\n", d->file.n);
    return WICK_OK;
}

static wick_status do_edit(wk_dialog *d, const char *arg, wick_error *err) {
    wk_buf text;
    if (!d->repl.person) return wk_fail(err, WICK_E_ARG, "/edit needs a terminal");
    wk_buf_init(&text, WK_REPL_LINE_MAX);
    (void)wk_buf_adds(&text, arg);
    wick_status rc = wk_editor(&text, err);
    wick_error lost = {0};
    if (!rc && text.n) {
        wk_say(false, "%s\n", text.p);
        (void)wk_repl_remember(&d->repl, wk_buf_str(&text), &lost); /* a lost history was said at the first message */
        d->n_retry = 0;
        rc = wk_dialog_ask(d, wk_buf_str(&text), err);
    } else if (!rc) {
        wk_say(false, "  the message is empty, nothing is sent\n");
    }
    wk_buf_fini(&text);
    return rc;
}

/* ---- the table ----------------------------------------------------------------------------------- */

enum { NO_WORD, A_SETTING, A_FILE };
static const struct slash {
    const char *name, *arg;
    int completes;
    wick_status (*run)(wk_dialog *d, const char *arg, wick_error *err);
    const char *help;
} commands[] = {
    {"/help", "", NO_WORD, do_help, "this list"},
    {"/clear", "", NO_WORD, do_clear, "forget the conversation; the system message stays"},
    {"/undo", "", NO_WORD, do_undo, "take the last message and its answer back"},
    {"/retry", "", NO_WORD, do_retry, "answer the last message again"},
    {"/system", "TEXT", NO_WORD, do_system, "another system message; none removes it"},
    {"/set", "NAME X", A_SETTING, do_set, "temp, top-p, seed ...; alone: all of them"},
    {"/stats", "", NO_WORD, do_stats, "context, speed, memory"},
    {"/save", "FILE", A_FILE, do_save, "write the conversation as JSON"},
    {"/load", "FILE", A_FILE, do_load, "go on with a saved conversation"},
    {"/model", "MODEL", A_FILE, do_model, "go on with another model"},
    {"/file", "FILE", A_FILE, do_file, "put a text file in front of the next message"},
    {"/edit", "TEXT", NO_WORD, do_edit, "write a message in $EDITOR"},
    {"/exit", "", NO_WORD, do_exit, "leave, as Ctrl-D does"},
};

static wick_status do_help(wk_dialog *d, const char *arg, wick_error *err) {
    (void)d;
    (void)arg;
    (void)err;
    for (size_t i = 0; i < WK_COUNT(commands); i++) {
        char left[32];
        (void)snprintf(left, sizeof(left), "%s %s", commands[i].name, commands[i].arg);
        wk_say(false, "  %-15s %s\n", left, commands[i].help);
    }
    wk_say(false, "  Ctrl-C stops an answer. Alt-Enter, a \\ at the end of a line, or \"\"\" around a block: several"
                  " lines.\n");
    return WICK_OK;
}

/* A command that the word begins, if there is just one; NULL: none or several. */
static const struct slash *only_one(const char *word, size_t n) {
    const struct slash *found = NULL;
    for (size_t i = 0; i < WK_COUNT(commands); i++) {
        if (strncmp(commands[i].name, word, n) != 0) continue;
        if (commands[i].name[n] == 0) return &commands[i];
        if (found) return NULL;
        found = &commands[i];
    }
    return found;
}

wick_status wk_slash(wk_dialog *d, const char *line, wick_error *err) {
    const size_t n = strcspn(line, " \t");
    const char *arg = line + n + strspn(line + n, " \t");
    const struct slash *c = n == 5 && strncmp(line, "/quit", 5) == 0 ? only_one("/exit", 5) : only_one(line, n);
    if (!c || n < 2)
        return wk_fail(err, WICK_E_ARG, "unknown command %s; /help lists them, a blank in front sends it as text",
                       wk_show((wk_str){line, n}).text);
    if (*arg && !*c->arg) return wk_fail(err, WICK_E_ARG, "%s takes nothing behind it", c->name);
    return c->run(d, arg, err);
}

/* ---- completion ---------------------------------------------------------------------------------- */

typedef struct matches {
    const char *word; /* what is there of it */
    size_t n, count, common;
    char first[256];
    wk_buf *list;
} matches;

static void offer(matches *m, const char *name) {
    size_t same = 0;
    if (strncmp(name, m->word, m->n) != 0 || strlen(name) >= sizeof(m->first)) return;
    (void)wk_buf_add(m->list, name, strlen(name) + 1); /* over the cap: nothing is listed */
    if (m->count++ == 0) {
        (void)snprintf(m->first, sizeof(m->first), "%s", name);
        m->common = strlen(name);
    }
    while (same < m->common && name[same] == m->first[same]) same++;
    m->common = same;
}

/* What all matches have in common; a blank behind the only one, unless it is a folder. */
static void settle(const matches *m, wk_buf *insert) {
    if (m->count == 0) return;
    size_t end = m->common;
    while (end > m->n && ((unsigned char)m->first[end] & 0xC0) == 0x80) end--; /* whole code points */
    (void)wk_buf_add(insert, m->first + m->n, end - m->n);
    if (m->count == 1 && end && m->first[end - 1] != '/') (void)wk_buf_addc(insert, ' ');
}

static void offer_files(matches *m, const char *path) {
    char folder[PATH_MAX_BYTES], full[PATH_MAX_BYTES];
    wick_error ignored = {0};
    const char *slash = strrchr(path, '/');
    m->word = slash ? slash + 1 : path;
    m->n = strlen(m->word);
    (void)snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 2, slash ? path : "./");
    if (home_path(full, sizeof(full), folder, &ignored)) return;
    DIR *dir = opendir(full);
    if (!dir) return;
    for (const struct dirent *e; (e = readdir(dir));) {
        char name[300], file[PATH_MAX_BYTES + 300];
        struct stat st;
        if (e->d_name[0] == '.' && m->word[0] != '.') continue;
        (void)snprintf(file, sizeof(file), "%s%s", full, e->d_name);
        const bool is_folder = stat(file, &st) == 0 && S_ISDIR(st.st_mode);
        (void)snprintf(name, sizeof(name), "%s%s", e->d_name, is_folder ? "/" : "");
        offer(m, name);
    }
    (void)closedir(dir);
}

void wk_slash_complete(void *ud, const char *line, size_t n, wk_buf *insert, wk_buf *list) {
    char text[PATH_MAX_BYTES];
    (void)ud;
    if (n == 0 || n >= sizeof(text) || line[0] != '/') return;
    (void)snprintf(text, sizeof(text), "%.*s", (int)n, line);
    const size_t n_name = strcspn(text, " ");
    matches m = {.word = text, .n = n_name, .list = list};
    if (!text[n_name]) {
        for (size_t i = 0; i < WK_COUNT(commands); i++) offer(&m, commands[i].name);
    } else {
        const struct slash *c = only_one(text, n_name);
        const char *arg = text + n_name + strspn(text + n_name, " ");
        m.word = arg;
        m.n = strlen(arg);
        if (c && c->completes == A_FILE) offer_files(&m, arg);
        if (c && c->completes == A_SETTING)
            for (size_t i = 0; wk_args_answer_name(i); i++) offer(&m, wk_args_answer_name(i));
    }
    settle(&m, insert);
}

/* train_wish.c: the command line of train and tune -> the record of a run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/train_impl.h"
#include "engine/base/dir.h"
#include "engine/base/err.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

/* ---- words --------------------------------------------------------------------------------------- */

double wk_train_now(void) { return (double)wk_os_now_ns() * 1e-9; }

wk_word wk_word_count(double n) {
    wk_word w;
    const char *unit = n >= 1e9 ? " G" : n >= 1e6 ? " M" : n >= 1e4 ? " k" : "";
    const double v = n >= 1e9 ? n * 1e-9 : n >= 1e6 ? n * 1e-6 : n >= 1e4 ? n * 1e-3 : n;
    (void)snprintf(w.text, sizeof(w.text), "%.*f%s", *unit && v < 10 ? 2 : *unit && v < 100 ? 1 : 0, v, unit);
    return w;
}

wk_word wk_word_time(double s) {
    wk_word w;
    if (!(s >= 0)) s = 0;
    if (s < 9.95)
        (void)snprintf(w.text, sizeof(w.text), "%.1f s", s);
    else if (s < 120)
        (void)snprintf(w.text, sizeof(w.text), "%.0f s", s);
    else if (s < 7200)
        (void)snprintf(w.text, sizeof(w.text), "%.0f min", s / 60);
    else if (s < 48 * 3600.0)
        (void)snprintf(w.text, sizeof(w.text), "%.1f h", s / 3600);
    else if (s < 700 * 86400.0)
        (void)snprintf(w.text, sizeof(w.text), "%.0f days", s / 86400);
    else
        (void)snprintf(w.text, sizeof(w.text), "%.0f years", s / (365.25 * 86400));
    return w;
}

wk_word wk_word_bytes(double n) {
    wk_word w;
    const bool giga = n >= 1024.0 * 1024 * 1024;
    const double v = giga ? n / (1024.0 * 1024 * 1024) : n / (1024 * 1024);
    (void)snprintf(w.text, sizeof(w.text), "%.*f %s", v < 10 ? 1 : 0, v, giga ? "GiB" : "MiB");
    return w;
}

/* ---- texts --------------------------------------------------------------------------------------- */

static wick_status put(char out[WK_RUN_TEXT], const char *name, const char *text, wick_error *err) {
    const int n = snprintf(out, WK_RUN_TEXT, "%s", text ? text : "");
    if (n < WK_RUN_TEXT) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "--%s is longer than %d bytes", name, WK_RUN_TEXT - 1);
}

/* The absolute path of a file that exists; else as it is. */
static wick_status put_path(char out[WK_RUN_TEXT], const char *name, const char *path, wick_error *err) {
    char full[WK_RUN_PATH];
    return put(out, name, path && realpath(path, full) ? full : path, err);
}

/* A path that may not exist yet, made absolute. */
static wick_status put_target(char out[WK_RUN_TEXT], const char *name, const char *path, wick_error *err) {
    char full[2 * WK_RUN_PATH], here[WK_RUN_PATH];
    if (path[0] == '/' || !getcwd(here, sizeof(here))) return put(out, name, path, err);
    (void)snprintf(full, sizeof(full), "%s/%s", here, path);
    return put(out, name, full, err);
}

static bool ends_gguf(const char *s) {
    const size_t n = strlen(s);
    return n > 5 && strcmp(s + n - 5, ".gguf") == 0;
}

/* ---- data ---------------------------------------------------------------------------------------- */

static wick_status add_source(wk_train *t, size_t at, wick_error *err) {
    if (t->n_source == WK_RUN_SOURCES)
        return wk_fail(err, WICK_E_ARG, "--data names more than %d files", WK_RUN_SOURCES);
    t->source_at[t->n_source++] = at; /* the text may still move */
    return WICK_OK;
}

/* "a.txt,b.jsonl": at the commas, unless a file has just that name. */
static wick_status split(wk_train *t, const char *text, wick_error *err) {
    const bool whole = wk_file_exists(text);
    for (const char *p = text;;) {
        const size_t n = whole ? strlen(p) : strcspn(p, ",");
        if (n == 0) return wk_fail(err, WICK_E_ARG, "--data has an empty name in \"%s\"", wk_show(wk_cstr(text)).text);
        WK_TRY(add_source(t, t->names.n, err));
        (void)wk_buf_add(&t->names, p, n);
        (void)wk_buf_add(&t->names, "", 1);
        if (p[n] == 0) return WICK_OK;
        p += n + 1;
    }
}

/* "a.txt:0.7,b.jsonl:0.3": the share stands behind the last colon of each. */
static wick_status split_mix(wk_train *t, const char *text, wick_error *err) {
    for (const char *p = text;;) {
        const size_t n = strcspn(p, ",");
        const char *colon = memrchr(p, ':', n);
        char *end = NULL;
        const double share = colon ? strtod(colon + 1, &end) : 0;
        if (!colon || colon == p || end != p + n || !(share > 0 && share <= 1e9))
            return wk_fail(err, WICK_E_ARG, "--mix wants FILE:SHARE with a share above 0, found \"%s\"",
                           wk_show((wk_str){p, n}).text);
        WK_TRY(add_source(t, t->names.n, err));
        t->mix[t->n_source - 1] = share;
        (void)wk_buf_add(&t->names, p, (size_t)(colon - p));
        (void)wk_buf_add(&t->names, "", 1);
        if (p[n] == 0) return WICK_OK;
        p += n + 1;
    }
}

static wick_status split_all(wk_train *t, wick_error *err) {
    size_t n, n_mix;
    const char *const *list = wk_args_list(t->args, WK_ARG_DATA, &n);
    const char *const *mix = wk_args_list(t->args, WK_ARG_DATA_MIX, &n_mix);
    if (n && n_mix)
        return wk_fail(err, WICK_E_ARG, "--data takes files as long as they are, --mix in shares: one of them will do");
    if (n + n_mix == 0) return wk_fail(err, WICK_E_ARG, "--data FILE is missing: text or jsonl to learn from");
    for (size_t i = 0; i < n; i++) WK_TRY(split(t, list[i], err));
    for (size_t i = 0; i < n_mix; i++) WK_TRY(split_mix(t, mix[i], err));
    t->is_mix = n_mix > 0;
    if (t->is_mix && t->n_source > WICK_X_MIX_MAX)
        return wk_fail(err, WICK_E_ARG, "--mix names %zu files, at most %d are taken", t->n_source, WICK_X_MIX_MAX);
    return t->names.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the names of the data") : WICK_OK;
}

/* Ids say nothing about the text of their tokens. */
static wick_status check_ids(const wk_train *t, wick_error *err) {
    for (size_t i = 0; i < t->n_source && !t->run.tok[0]; i++) {
        wk_map_file map = {0};
        if (wk_os_map(&map, t->source[i], NULL)) continue; /* what is wrong with it is said by who reads it all */
        const int width = wk_train_id_width(t, map.p, map.n);
        wk_os_unmap(&map);
        if (width)
            return wk_fail(err, WICK_E_ARG, "%s holds token ids: --tok MODEL.gguf says whose they are",
                           wk_show(wk_cstr(t->source[i])).text);
    }
    return WICK_OK;
}

static wick_status read_sources(wk_train *t, wick_error *err) {
    wk_buf all;
    WK_TRY(split_all(t, err));
    wk_buf_init(&all, 0);
    for (size_t i = 0; i < t->n_source; i++) {
        t->source[i] = t->names.p + t->source_at[i];
        (void)wk_buf_addf(&all, "%s%s", i ? ", " : "", t->source[i]);
        if (t->is_mix) (void)wk_buf_addf(&all, ":%g", t->mix[i]);
    }
    const wick_status rc = put(t->run.sources, "data", wk_buf_str(&all).p, err);
    wk_buf_fini(&all);
    return rc ? rc : check_ids(t, err);
}

/* ---- models -------------------------------------------------------------------------------------- */

/* "auto", "auto:4096", or a file. */
static wick_status read_tok(wk_train *t, wick_error *err) {
    const char *s = t->args->v[WK_ARG_TRAIN_TOK].s;
    char path[WK_RUN_PATH], *end;
    if (!s || strcmp(s, "auto") == 0) return WICK_OK;
    if (strncmp(s, "auto:", 5) != 0) {
        WK_TRY(wk_args_model_path(path, sizeof(path), s, err));
        return put_path(t->run.tok, "tok", path, err);
    }
    const long n = strtol(s + 5, &end, 10);
    const bool kilo = end != s + 5 && (*end == 'k' || *end == 'K');
    const long v = kilo ? n * 1024 : n;
    if (end == s + 5 || end[kilo] || n < 1 || n > 65536 || v < 259 || v > 65536)
        return wk_fail(err, WICK_E_ARG, "--tok auto:N wants 259 .. 65536 tokens, found \"%s\"",
                       wk_show(wk_cstr(s)).text);
    t->n_vocab = (int32_t)v;
    return WICK_OK;
}

static wick_status read_train_model(wk_train *t, wick_error *err) {
    const wk_args *a = t->args;
    const bool model = a->v[WK_ARG_TRAIN_MODEL].given;
    char path[WK_RUN_PATH];
    if (a->n_positional)
        return wk_fail(err, WICK_E_ARG, "\"%s\" is one argument too many; train wants options only",
                       wk_show(wk_cstr(a->positional[0])).text);
    if (model + a->v[WK_ARG_PRESET].given + a->v[WK_ARG_LIKE].given != 1)
        return wk_fail(
            err, WICK_E_ARG,
            "train wants one of --preset SIZE, --like FILE (a new model of its shape), --model FILE (its weights)");
    if (a->v[WK_ARG_PRESET].given) return read_tok(t, err);
    WK_TRY(wk_args_model_path(path, sizeof(path), a->v[model ? WK_ARG_TRAIN_MODEL : WK_ARG_LIKE].s, err));
    WK_TRY(put_path(t->run.model, "model", path, err));
    WK_TRY(put(t->run.tok, "tok", t->run.model, err));
    if (!model) return a->v[WK_ARG_TRAIN_TOK].given ? (t->run.tok[0] = 0, read_tok(t, err)) : WICK_OK;
    if (a->v[WK_ARG_TRAIN_TOK].given)
        return wk_fail(err, WICK_E_ARG, "--tok: a model that is trained on keeps its own tokenizer");
    return WICK_OK;
}

static wick_status read_tune_model(wk_train *t, wick_error *err) {
    wk_args copy = *t->args; /* its positional argument may be taken away */
    WK_TRY(wk_args_model(&copy, err));
    if (copy.n_positional)
        return wk_fail(err, WICK_E_ARG, "\"%s\" is one argument too many; tune wants one model",
                       wk_show(wk_cstr(copy.positional[0])).text);
    WK_TRY(put_path(t->run.model, "model", copy.model_path, err));
    return put(t->run.tok, "model", t->run.model, err);
}

/* RUN, or FILE.gguf whose folder is FILE.run. */
static wick_status read_place(wk_train *t, wick_error *err) {
    const wk_value *v = &t->args->v[WK_ARG_RUN_DIR];
    char name[WK_RUN_PATH] = "run";
    if (v->given && strlen(v->s) + 8 >= sizeof(name)) return wk_fail(err, WICK_E_ARG, "--out is too long a path");
    if (v->given) (void)snprintf(name, sizeof(name), "%s", v->s);
    if (!v->given && t->tune) {
        const char *base = strrchr(t->run.model, '/');
        base = base ? base + 1 : t->run.model;
        const int n = (int)strlen(base) - (ends_gguf(base) ? 5 : 0);
        (void)snprintf(name, sizeof(name), "%.*s.lora.gguf", n, base);
    }
    if (ends_gguf(name)) {
        WK_TRY(put_target(t->run.out, "out", name, err));
        (void)snprintf(name + strlen(name) - 5, 5, ".run");
    }
    (void)snprintf(t->dir, sizeof(t->dir), "%s", name);
    if (t->args->v[WK_ARG_MERGE_TYPE].given && !t->args->v[WK_ARG_MERGE_TO].given)
        return wk_fail(err, WICK_E_ARG, "--type is the format of --merge FILE, which is missing");
    WK_TRY(put(t->run.type, "type", t->args->v[WK_ARG_MERGE_TYPE].s, err));
    return t->args->v[WK_ARG_MERGE_TO].given ? put_target(t->run.merge, "merge", t->args->v[WK_ARG_MERGE_TO].s, err)
                                             : WICK_OK;
}

/* ---- numbers ------------------------------------------------------------------------------------- */

/* Before anything is read: a device that is not there, or what does not go with one. */
static wick_status find_device(wk_train *t, wick_error *err) {
    const wick_x_train_options o = wk_train_options(t);
    WK_TRY(wick_x_train_device(&o, t->device, sizeof(t->device), err));
    t->on_device = strcmp(t->device, "cpu") != 0;
    return WICK_OK;
}

/* What a resumed run may change, and a new one says as well. -1: to be chosen. */
static wick_status read_free(wk_train *t, wick_error *err) {
    const wk_args *a = t->args;
    wk_run *r = &t->run;
    const struct {
        wk_arg_id id;
        int64_t *to;
    } rows[] = {{WK_ARG_KEEP, &r->keep},
                {WK_ARG_GEMM, &r->gemm},
                {WK_ARG_THREADS, &r->threads},
                {WK_ARG_EVAL_EVERY, &r->eval_every},
                {WK_ARG_SAVE_EVERY, &r->save_every},
                {WK_ARG_SAMPLE_EVERY, &r->sample_every}};
    for (size_t i = 0; i < WK_COUNT(rows); i++)
        if (a->v[rows[i].id].given) *rows[i].to = a->v[rows[i].id].i;
    if (a->v[WK_ARG_TRAIN_DEVICE].given) WK_TRY(put(r->device, "device", a->v[WK_ARG_TRAIN_DEVICE].s, err));
    if (a->v[WK_ARG_BF16].given) r->bf16 = a->v[WK_ARG_BF16].i - 1; /* auto, off, on */
    WK_TRY(find_device(t, err));
    return a->v[WK_ARG_SAMPLE_PROMPT].given ? put(r->prompt, "sample-prompt", a->v[WK_ARG_SAMPLE_PROMPT].s, err)
                                            : WICK_OK;
}

static int64_t number(const wk_args *a, wk_arg_id id, int64_t otherwise) {
    return a->v[id].given ? a->v[id].i : otherwise;
}
static double real(const wk_args *a, wk_arg_id id, double otherwise) { return a->v[id].given ? a->v[id].d : otherwise; }

static wick_status read_length(wk_train *t, wick_error *err) {
    const wk_args *a = t->args;
    if (a->v[WK_ARG_FOR].given + a->v[WK_ARG_TRAIN_N].given + a->v[WK_ARG_TRAIN_STEPS].given > 1)
        return wk_fail(err, WICK_E_ARG,
                       "--for, --tokens and --steps are three ways to say how long; one of them will do");
    t->want_tokens = a->v[WK_ARG_TRAIN_N].i;
    t->want_steps = a->v[WK_ARG_TRAIN_STEPS].i;
    if (a->v[WK_ARG_FOR].given) return wk_args_time(&t->run.budget, "for", a->v[WK_ARG_FOR].s, err);
    if (!t->tune && !t->want_tokens && !t->want_steps) t->run.budget = 1800;
    return WICK_OK;
}

static wick_status read_numbers(wk_train *t, wick_error *err) {
    const wk_args *a = t->args;
    wk_run *r = &t->run;
    r->val_share = real(a, WK_ARG_VAL_SHARE, 0.05);
    r->doc_mask = a->v[WK_ARG_DOC_MASK].i;
    r->n_ctx = a->v[WK_ARG_TRAIN_CTX].i;
    r->batch = a->v[WK_ARG_TRAIN_BATCH].i;
    r->micro = a->v[WK_ARG_MICRO].i;
    r->recompute = a->v[WK_ARG_RECOMPUTE].i - 1; /* auto, off, on */
    r->warmup = number(a, WK_ARG_WARMUP, WICK_AUTO);
    r->schedule = a->v[WK_ARG_SCHEDULE].i;
    r->optimizer = a->v[WK_ARG_OPTIMIZER].i;
    r->lr = a->v[WK_ARG_LR].d;
    r->lr_end = 0;
    r->decay = t->tune ? 0 : 0.1;
    r->beta2 = t->tune ? 0.999 : 0.95;
    r->seed = number(a, WK_ARG_TRAIN_SEED, 1);
    r->keep = 3;
    r->eval_every = r->save_every = r->sample_every = -1;
    r->rank = t->tune ? number(a, WK_ARG_LORA_RANK, 8) : 0;
    r->alpha = t->tune ? real(a, WK_ARG_LORA_ALPHA, 2 * (double)r->rank) : 0;
    if (t->tune)
        WK_TRY(put(r->on, "on", a->v[WK_ARG_LORA_ON].given ? a->v[WK_ARG_LORA_ON].s : "q,k,v,o,gate,up,down", err));
    WK_TRY(read_length(t, err));
    return read_free(t, err);
}

/* ---- resume -------------------------------------------------------------------------------------- */

/* RUN, or RUN/step-000500, or a link in RUN to one. */
static wick_status read_resume(wk_train *t, wick_error *err) {
    static const wk_arg_id fixed[] = {
        WK_ARG_PRESET,   WK_ARG_LIKE,        WK_ARG_TRAIN_MODEL, WK_ARG_DATA,        WK_ARG_TRAIN_TOK, WK_ARG_FOR,
        WK_ARG_DATA_FORMAT, WK_ARG_DATA_MIX, WK_ARG_OPTIMIZER,
        WK_ARG_TRAIN_N,  WK_ARG_TRAIN_STEPS, WK_ARG_TRAIN_CTX,   WK_ARG_TRAIN_BATCH, WK_ARG_MICRO,     WK_ARG_LR,
        WK_ARG_SCHEDULE, WK_ARG_WARMUP,      WK_ARG_TRAIN_SEED,  WK_ARG_VAL_SHARE,   WK_ARG_RECOMPUTE, WK_ARG_UNTIL,
        WK_ARG_RUN_DIR,  WK_ARG_DOC_MASK,    WK_ARG_LORA_RANK,   WK_ARG_LORA_ALPHA,  WK_ARG_LORA_ON};
    static const char *const names[] = {"preset",   "like",     "model", "data",      "tok",       "for",
                                        "data-format", "mix", "optimizer",
                                        "tokens",   "steps",    "ctx",   "batch",     "micro",     "lr",
                                        "schedule", "warmup",   "seed",  "val-share", "recompute", "until",
                                        "out",      "doc-mask", "rank",  "alpha",     "on"};
    const char *s = t->args->v[WK_ARG_RESUME].s;
    char probe[2 * WK_RUN_PATH], *slash;
    for (size_t i = 0; i < WK_COUNT(fixed); i++)
        if (t->args->v[fixed[i]].given)
            return wk_fail(err, WICK_E_ARG, "--%s is part of the run and cannot change when it is resumed", names[i]);
    if (!realpath(s, t->dir)) return wk_fail(err, WICK_E_IO, "%s: there is no such run", wk_show(wk_cstr(s)).text);
    (void)snprintf(probe, sizeof(probe), "%s/state.gguf", t->dir);
    const bool is_step = wk_file_exists(probe);
    (void)snprintf(probe, sizeof(probe), "%s%s", t->dir, is_step ? "" : "/latest");
    if (!realpath(probe, t->from))
        return wk_fail(err, WICK_E_IO, "%s holds no checkpoint yet: begin again with the command that made it",
                       wk_show(wk_cstr(s)).text);
    if (is_step && (slash = strrchr(t->dir, '/'))) *slash = 0;
    WK_TRY(wk_run_load(t, err));
    if (t->tune != (strcmp(t->run.command, "tune") == 0))
        return wk_fail(err, WICK_E_ARG, "%s is a run of wick %s", wk_show(wk_cstr(s)).text, t->run.command);
    t->resumed = true;
    return read_free(t, err);
}

wick_status wk_train_read(wk_train *t, wick_error *err) {
    if (t->args->v[WK_ARG_RESUME].given) return read_resume(t, err);
    (void)snprintf(t->run.command, sizeof(t->run.command), "%s", t->tune ? "tune" : "train");
    WK_TRY(t->tune ? read_tune_model(t, err) : read_train_model(t, err));
    WK_TRY(read_place(t, err));
    WK_TRY(read_numbers(t, err));
    return read_sources(t, err);
}

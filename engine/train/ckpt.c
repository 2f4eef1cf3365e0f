/* ckpt.c: checkpoints: a folder that appears whole or not at all, with all that a run needs to go on bit for bit.
 *
 *   DIR/step-000500/  model.gguf or adapter.gguf   the parameters, servable
 *                     state.gguf                   both moments, in the order of the parameters
 *                     run.json                     numbers and paths: the list below, written and read by it
 *   DIR/latest, DIR/best                           links
 *
 * All randomness is a function of (seed, step), so there is no generator to save. */
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/dir.h"
#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/train/trainer.h"

enum { SCHEMA = 1, JSON_BYTES = 1 << 20 };

/* ---- the list ------------------------------------------------------------------------------------ */

typedef enum kind { I32, I64, U64, F64, PATH } kind;
typedef struct field {
    const char *name;
    kind kind;
    size_t off;
    bool later; /* not in the runs of the first versions: 0 */
} field;
#define F(kind, place, name)                                                                       \
    { #name, kind, offsetof(wk_trainer, place.name), false }
static const field fields[] = {
    F(PATH, c, model),
    F(PATH, c, adapter),
    F(PATH, c, data),
    F(I32, c, n_ctx),
    F(I32, c, by_document),
    F(I32, c, doc_mask),
    F(I32, c, batch),
    F(I32, c, micro),
    F(I32, c, recompute),
    F(I64, c, steps),
    F(I64, c, warmup),
    F(I32, c, schedule),
    F(F64, c, lr),
    F(F64, c, lr_end),
    F(F64, c, decay),
    F(F64, c, beta1),
    F(F64, c, beta2),
    F(F64, c, eps),
    F(F64, c, clip),
    F(I64, c, seed),
    F(I64, run, step),
    F(I64, run, n_skipped),
    F(I64, run, n_seen),
    F(U64, run, tokens),
    F(F64, run, loss_mean),
    F(F64, run, loss_var),
    F(F64, run, norm_mean),
    F(F64, run, norm_var),
    F(F64, run, best_val),
    F(I64, run, best_step),
    F(I32, run, bad_row),
    {"data_hash", U64, offsetof(wk_trainer, data_hash), false},
    {"base_bytes", U64, offsetof(wk_trainer, base_bytes), false},
    {"optimizer", I32, offsetof(wk_trainer, c.optimizer), true},
};
#undef F

static void put_field(wk_buf *b, const wk_trainer *t, const field *f) {
    const char *p = (const char *)t + f->off;
    (void)wk_buf_addf(b, ",\n \"%s\": ", f->name);
    if (f->kind == I32) (void)wk_buf_addf(b, "%d", (int)*(const int32_t *)(const void *)p);
    if (f->kind == I64) (void)wk_buf_addf(b, "%lld", (long long)*(const int64_t *)(const void *)p);
    /* Numbers of JSON are doubles to many readers: 64 bits go as text. */
    if (f->kind == U64)
        (void)wk_buf_addf(b, "\"%llu\"", (unsigned long long)*(const uint64_t *)(const void *)p);
    if (f->kind == F64) (void)wk_buf_addf(b, "%.17g", *(const double *)(const void *)p);
    if (f->kind != PATH) return;
    const char *path = *(const char *const *)(const void *)p;
    char full[PATH_MAX]; /* the run may be resumed from another folder */
    if (path)
        wk_json_put_str(b, wk_cstr(realpath(path, full) ? full : path));
    else
        (void)wk_buf_adds(b, "null");
}

static int wrong(wk_err *err, const char *folder, const char *name) {
    return wk_fail(err, WICK_E_FORMAT, "%s/run.json: \"%s\" is missing or not what it should be",
                   wk_show(wk_cstr(folder)).text, name);
}

static int take_path(wk_trainer *t, const field *f, const wk_json *v, size_t string,
                     const char *folder, wk_err *err) {
    const char **p = (const char **)(void *)((char *)t + f->off);
    *p = NULL;
    if (wk_json_type(v) == WK_JSON_NULL) return WICK_OK;
    const wk_str s = wk_json_str(v);
    if (wk_json_type(v) != WK_JSON_STR || s.n == 0 || s.n >= PATH_MAX || memchr(s.p, 0, s.n))
        return wrong(err, folder, f->name);
    wk_free(t->strings[string]);
    *p = t->strings[string] = wk_strdup_n(s.p, s.n);
    return *p ? WICK_OK : wk_fail(err, WICK_E_NOMEM, "no memory for the paths of the run");
}

static int take_field(wk_trainer *t, const field *f, const wk_json *v, const char *folder,
                      wk_err *err) {
    void *p = (char *)t + f->off;
    const int type = wk_json_type(v);
    if (f->kind == U64) {
        const wk_str s = wk_json_str(v);
        uint64_t n = 0;
        for (size_t i = 0; i < s.n && i < 20; i++)
            n = s.p[i] >= '0' && s.p[i] <= '9' ? n * 10 + (uint64_t)(s.p[i] - '0') : n;
        *(uint64_t *)p = n;
        return type == WK_JSON_STR && s.n ? WICK_OK : wrong(err, folder, f->name);
    }
    if (f->kind == F64) {
        if (type != WK_JSON_REAL && type != WK_JSON_INT) return wrong(err, folder, f->name);
        *(double *)p = wk_json_real(v);
        return WICK_OK;
    }
    const int64_t n = wk_json_int(v);
    if (type != WK_JSON_INT || (f->kind == I32 && (n < INT32_MIN || n > INT32_MAX)))
        return wrong(err, folder, f->name);
    if (f->kind == I32)
        *(int32_t *)p = (int32_t)n;
    else
        *(int64_t *)p = n;
    return WICK_OK;
}

/* ---- reading ------------------------------------------------------------------------------------- */

typedef struct path {
    char p[PATH_MAX];
} path;

static int join(path *out, const char *folder, const char *name, wk_err *err) {
    const int n = snprintf(out->p, sizeof(out->p), "%s/%s", folder, name);
    if (n > 0 && (size_t)n < sizeof(out->p)) return WICK_OK;
    return wk_fail(err, WICK_E_IO, "%s: the path is too long", wk_show(wk_cstr(folder)).text);
}

static int take_all(wk_trainer *t, const wk_json *root, const char *folder, wk_err *err) {
    if (!wk_str_is(wk_json_str(wk_json_get(root, "schema")), "wick.train/1"))
        return wrong(err, folder, "schema");
    for (size_t i = 0; i < WK_COUNT(fields); i++) {
        const wk_json *v = wk_json_get(root, fields[i].name);
        if (!v && fields[i].later) {
            *(int32_t *)(void *)((char *)t + fields[i].off) = 0;
            continue;
        }
        if (!v) return wrong(err, folder, fields[i].name);
        /* strings[0 .. 2] are model, adapter, data: the first rows of the list */
        WK_TRY(fields[i].kind == PATH ? take_path(t, &fields[i], v, i, folder, err)
                                      : take_field(t, &fields[i], v, folder, err));
    }
    if (t->run.step < 0 || t->run.n_skipped < 0 || t->run.n_skipped > t->run.step ||
        t->c.schedule < 0 || t->c.schedule >= WK_LR_COUNT || t->c.optimizer < 0 || t->c.optimizer >= WK_OPTIM_COUNT)
        return wrong(err, folder, "step");
    return WICK_OK;
}

/* The parameters of the checkpoint take the place of those that the run began with. */
static int take_own_file(wk_trainer *t, const char *folder, wk_err *err) {
    path p;
    const bool adapter = t->c.adapter != NULL;
    WK_TRY(join(&p, folder, adapter ? "adapter.gguf" : "model.gguf", err));
    char *own = wk_strdup_n(p.p, strlen(p.p));
    if (!own) return wk_fail(err, WICK_E_NOMEM, "no memory for the paths of the run");
    wk_free(t->strings[adapter]);
    t->strings[adapter] = own;
    *(adapter ? &t->c.adapter : &t->c.model) = own;
    return WICK_OK;
}

/* Files of the first versions do not say: these ran on the cpu. */
static void note_device(wk_trainer *t, const wk_json *root) {
    const wk_str on = wk_json_str(wk_json_get(root, "device"));
    (void)snprintf(t->ran_on, sizeof(t->ran_on), "%.*s", (int)(on.n < sizeof(t->ran_on) ? on.n : 0), on.n ? on.p : "");
    if (!t->ran_on[0]) (void)snprintf(t->ran_on, sizeof(t->ran_on), "cpu");
    t->ran_bf16 = wk_json_int(wk_json_get(root, "bf16")) == 1;
}

static void compare_engine(const wk_trainer *t, const wk_json *root) {
    const int64_t arith = wk_json_int(wk_json_get(root, "arith"));
    if (arith != t->c.arith)
        wk_log(WK_LOG_WARN, "the run was begun with arithmetic %lld, this library has %d: its numbers will differ",
               (long long)arith, (int)t->c.arith);
    const int64_t gemm = wk_json_int(wk_json_get(root, "gemm")),
                  threads = wk_json_int(wk_json_get(root, "threads"));
    const bool onednn = t->c.gemm != WK_SGEMM_WICK && t->c.threads > 0 && threads != t->c.threads;
    if (!t->c.bf16 && (gemm != t->c.gemm || onednn))
        wk_log(WK_LOG_WARN, "the run goes on with other products or threads: its numbers will "
                            "differ in the last digits from an uninterrupted one");
}

int wk_ckpt_read(wk_trainer *t, const char *folder, wk_err *err) {
    path p;
    wk_map_file m = {0};
    wk_json_doc *d = NULL;
    WK_TRY(join(&p, folder, "run.json", err));
    WK_TRY(wk_os_map(&m, p.p, err));
    int rc = m.n <= JSON_BYTES ? wk_json_parse(&d, (wk_str){(const char *)m.p, m.n}, 8, 1000, err)
                               : wrong(err, folder, "schema");
    if (rc) (void)wk_fail_at(err, "%s", wk_show(wk_cstr(p.p)).text);
    if (!rc) rc = take_all(t, wk_json_root(d), folder, err);
    if (!rc) rc = take_own_file(t, folder, err);
    if (!rc) compare_engine(t, wk_json_root(d));
    if (!rc) note_device(t, wk_json_root(d));
    wk_json_free(d);
    wk_os_unmap(&m);
    return rc;
}

/* ---- writing ------------------------------------------------------------------------------------- */

static int write_json(wk_trainer *t, const char *file, wk_err *err) {
    wk_buf b;
    wk_buf_init(&b, JSON_BYTES);
    t->data_hash = t->s.data ? wk_data_hash(t->s.data) : 0;
    t->base_bytes = t->s.adapter ? wk_store_file_bytes(t->s.store) : 0;
    (void)wk_buf_addf(
        &b, "{\"schema\": \"wick.train/%d\",\n \"gemm\": %d,\n \"threads\": %d,\n \"ranks\": %d,\n \"arith\": %d,\n \"device\": \"%s\",\n \"bf16\": %d",
        SCHEMA, (int)t->c.gemm, t->n_thread, wk_comm_size(t->comm), (int)t->c.arith, t->s.target.name, (int)t->s.target.bf16);
    for (size_t i = 0; i < WK_COUNT(fields); i++) put_field(&b, t, &fields[i]);
    (void)wk_buf_adds(&b, "}\n");
    const int rc =
        b.failed ? wk_fail(err, WICK_E_NOMEM, "no memory to write %s", wk_show(wk_cstr(file)).text)
                 : wk_file_write(file, wk_buf_str(&b), err);
    wk_buf_fini(&b);
    return rc;
}

static int check_room(const wk_trainer *t, wk_err *err) {
    const uint64_t need = 3 * (uint64_t)t->s.grad->n_elem * sizeof(float) + (1 << 20),
                   left = wk_disk_free(t->c.dir);
    if (left >= need) return WICK_OK;
    return wk_fail(err, WICK_E_IO, "%s: a checkpoint takes %.1f MB, %.1f MB are free on that disk",
                   wk_show(wk_cstr(t->c.dir)).text, (double)need * 1e-6, (double)left * 1e-6);
}

static int write_files(wk_trainer *t, const char *folder, wk_err *err) {
    path p;
    WK_TRY(join(&p, folder, t->s.adapter ? "adapter.gguf" : "model.gguf", err));
    WK_TRY(wk_trainer_export(t, p.p, err));
    WK_TRY(join(&p, folder, "state.gguf", err));
    WK_TRY(wk_moments_write(t, p.p, err));
    WK_TRY(join(&p, folder, "run.json", err));
    return write_json(t, p.p, err);
}

/* ---- old ones ------------------------------------------------------------------------------------ */

enum { NAME_BYTES = 24 };
typedef struct old {
    const wk_trainer *t;
    int64_t step[1024];
    int n;
} old;

static void step_name(char out[NAME_BYTES], int64_t step) {
    (void)snprintf(out, NAME_BYTES, "step-%06lld", (long long)step);
}

static void note_old(void *ud, const char *name) {
    old *o = ud;
    char same[NAME_BYTES];
    const int64_t step = strncmp(name, "step-", 5) == 0 ? strtoll(name + 5, NULL, 10) : -1;
    if (step < 0 || step > 999999999999 || o->n == (int)WK_COUNT(o->step)) return;
    step_name(same, step);
    if (strcmp(same, name) == 0 && step != o->t->run.best_step && step != o->t->run.step)
        o->step[o->n++] = step;
}

static int by_step(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Keeps the newest and the best; this one is not in the list. */
static int drop_old(const wk_trainer *t, wk_err *err) {
    old o = {.t = t};
    if (t->c.keep == 0) return WICK_OK;
    WK_TRY(wk_dir_list(t->c.dir, note_old, &o, err));
    qsort(o.step, (size_t)o.n, sizeof(o.step[0]), by_step);
    for (int i = 0; i + t->c.keep - 1 < o.n; i++) {
        char name[NAME_BYTES];
        path p;
        step_name(name, o.step[i]);
        WK_TRY(join(&p, t->c.dir, name, err));
        WK_TRY(wk_dir_remove(p.p, err));
    }
    return WICK_OK;
}

/* ---- saving -------------------------------------------------------------------------------------- */

/* The finished folder takes its name; one of the same step, from an earlier try, changes places with it and goes. */
static int publish(const char *part, const char *folder, wk_err *err) {
    WK_TRY(wk_dir_sync(part, err));
    if (!wk_dir_exists(folder)) return wk_file_rename(part, folder, err);
    WK_TRY(wk_dir_exchange(part, folder, err));
    return wk_dir_remove(part, err);
}

static int link_to(const wk_trainer *t, const char *link, const char *name, wk_err *err) {
    path p;
    WK_TRY(join(&p, t->c.dir, link, err));
    return wk_file_link(p.p, name, err);
}

static int save(wk_trainer *t, double val_loss, path *folder, wk_err *err) {
    char name[NAME_BYTES];
    path part;
    const wk_run_state before = t->run;
    step_name(name, t->run.step);
    WK_TRY(wk_dir_make(t->c.dir, err));
    WK_TRY(check_room(t, err));
    WK_TRY(join(folder, t->c.dir, name, err));
    WK_TRY(join(&part, t->c.dir, "unfinished", err));
    WK_TRY(wk_dir_remove(part.p, err));
    WK_TRY(wk_dir_make(part.p, err));
    const bool best = val_loss < t->run.best_val; /* false for NaN */
    if (best) {
        t->run.best_val = val_loss;
        t->run.best_step = t->run.step;
    }
    int rc = write_files(t, part.p, err);
    if (!rc) rc = publish(part.p, folder->p, err);
    if (rc) {
        t->run = before;
        (void)wk_dir_remove(part.p, NULL); /* the first failure is the one to tell */
        return rc;
    }
    WK_TRY(link_to(t, "latest", name, err));
    if (best) WK_TRY(link_to(t, "best", name, err));
    return drop_old(t, err);
}

int wk_trainer_save(wk_trainer *t, double val_loss, char *out, size_t cap, wk_err *err) {
    if (!t->c.dir) return wk_fail(err, WICK_E_ARG, "the run has no folder to save to");
    path folder = {""};
    int rc = wk_comm_rank(t->comm) == 0 ? save(t, val_loss, &folder, err) : WICK_OK;
    if (!rc && cap) (void)snprintf(out, cap, "%s", folder.p);
    int32_t told = rc; /* the others stop too if it failed */
    const int sent = wk_comm_bcast(t->comm, &told, sizeof(told), err);
    if (rc || sent) return rc ? rc : sent;
    return told ? wk_fail(err, told, "rank 0 could not save the checkpoint") : WICK_OK;
}

/* backend_model.c: whole models on a device, and cut in two at every border: what the device computes of its part goes
 * to the cpu or comes from it, by put and get. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/str.h"
#include "engine/file/store.h"
#include "engine/file/write.h"
#include "engine/graph/adapter.h"
#include "engine/graph/part.h"
#include "tests/check/check_backend.h"

enum { N_SEQ = 2, N_IDS = 200, MAX_PART = 3, MAX_IN = 16, MODULE = 0, CPU = 1 };
static const char *const kv_name[WK_KV_TYPE_COUNT] = {"f16", "f32", "bf16", "q8_0"};

/* Tokens of each sequence in each pass. The second one begins at pass FORK as a copy of the first. */
static const int32_t script[][N_SEQ] = {{70, 0}, {1, 0}, {1, 1}, {13, 9}, {1, 1}, {0, 64}, {2, 1}, {41, 30}, {1, 1}};
enum { FORK = 2, N_PASS = sizeof(script) / sizeof(*script) };

/* A model cut into parts, each on its device. */
typedef struct cut {
    int n;
    int32_t border[MAX_PART + 1];
    int side[MAX_PART];
    wk_part part[MAX_PART];
    wk_exec *x[MAX_PART]; /* NULL: nothing to run */
} cut;

/* The batch of a pass. */
typedef struct feed {
    int32_t id[N_SEQ][N_IDS], past[N_SEQ], tok[BC_TOK + 10], out[BC_TOK + 10], top[BC_TOK + 10];
    uint32_t page[N_SEQ][4], zero[8], copy[2];
    uint8_t bad[BC_TOK + 10];
    wk_batch_seq seq[N_SEQ];
    wk_batch b;
} feed;

static const wk_backend_ops *ops_of(const bc *c, int side) { return side == MODULE ? c->mod : c->cpu; }

static void start(feed *f, int32_t n_vocab) {
    static const uint32_t page[N_SEQ][4] = {{9, 2, 7, 0}, {9, 4, 11, 6}}; /* the first is shared */
    ck rnd = {.rng = 5};
    memset(f, 0, sizeof(*f));
    memcpy(f->page, page, sizeof(page));
    for (int i = 0; i < N_SEQ * N_IDS; i++) f->id[i / N_IDS][i % N_IDS] = ck_range(&rnd, 0, n_vocab - 1);
}

static void next(feed *f, int pass) {
    f->b = (wk_batch){.tok = f->tok, .out = f->out, .seq = f->seq, .zero = f->zero, .copy = f->copy, .bad_tok = f->bad};
    memset(f->bad, 0, sizeof(f->bad));
    if (pass == FORK) {
        f->past[1] = script[0][0];
        f->copy[0] = f->page[1][1];
        f->copy[1] = f->page[0][1];
        f->b.n_copy = 1;
    }
    for (int s = 0; s < N_SEQ; s++) {
        const int32_t n = script[pass][s], from = f->past[s], end = from + n;
        if (!n) continue;
        for (int32_t p = (from + 63) / 64; p < (end + 63) / 64; p++) f->zero[f->b.n_zero++] = f->page[s][p];
        f->seq[f->b.n_seq++] = (wk_batch_seq){f->b.n_tok, n, from, (end + 63) / 64, f->page[s]};
        for (int32_t i = from; i < end; i++) {
            if (pass % 2 == 0 || i + 1 == end) f->out[f->b.n_out++] = f->b.n_tok;
            f->tok[f->b.n_tok++] = f->id[s][i];
        }
        f->past[s] = end;
    }
}

/* Values that part i reads: from whichever part wrote them. */
static int carry(bc *c, const wk_plan *p, const cut *k, int i, const wk_batch *b, wk_err *err) {
    int32_t val[MAX_IN], n = 0;
    WK_TRY(wk_part_inputs(p, &k->part[i], val, MAX_IN, &n, err));
    for (int32_t j = 0; j < n; j++) {
        const wk_val *v = &p->val[val[j]];
        const int32_t rows = v->rows == WK_ROWS_TOK ? b->n_tok : b->n_out;
        int from = 0;
        while (v->stage_def >= k->part[from].stage_first + k->part[from].n_stage) from++;
        float *mem = malloc((size_t)rows * (size_t)v->dim * sizeof(float) + 1);
        if (!mem) exit(2);
        int rc = ops_of(c, k->side[from])->get(k->x[from], val[j], rows, mem, err);
        if (!rc) rc = ops_of(c, k->side[i])->put(k->x[i], val[j], rows, mem, err);
        free(mem);
        WK_TRY(rc);
    }
    return WICK_OK;
}

/* One pass through all parts; the logits come from the last. */
static int go(bc *c, const wk_plan *p, const cut *k, feed *f, float *logits, bool top, wk_err *err) {
    for (int i = 0; i < k->n; i++) {
        const wk_backend_ops *ops = ops_of(c, k->side[i]);
        const bool last = k->part[i].stage_first + k->part[i].n_stage == p->n_stage;
        if (!k->x[i]) continue;
        wk_batch b = f->b;
        b.logits = last ? logits : NULL;
        b.top = last && top && ops->can_top ? f->top : NULL;
        WK_TRY(carry(c, p, k, i, &b, err));
        WK_TRY(ops->run(k->x[i], &b, err));
        WK_TRY(ops->wait(k->x[i], err));
    }
    return WICK_OK;
}

/* false: a part that the module cannot run, or an error. */
static bool prepare(bc *c, const wk_plan *p, cut *k) {
    wk_err err = {0};
    for (int i = 0; i < k->n; i++) {
        const wk_backend_ops *ops = ops_of(c, k->side[i]);
        wk_dev *d = k->side[i] == MODULE ? c->mod_dev : c->cpu_dev;
        k->part[i] = wk_part_make(p, k->border[i], k->border[i + 1]);
        if (!k->part[i].n_stage) continue;
        if (k->side[i] == MODULE && !bc_can(c, p, &k->part[i], -1, -1)) return false;
        if (ops->prepare(&k->x[i], d, p, &k->part[i], BC_PAGE, &err)) {
            bc_fail(c, "prepare: %s", err.message);
            return false;
        }
    }
    return true;
}

static void unprepare(const bc *c, const cut *k) {
    for (int i = 0; i < k->n; i++) ops_of(c, k->side[i])->unprepare(k->x[i]);
}

static void check_top(bc *c, const feed *f, const float *logits, int32_t n_vocab) {
    for (int32_t i = 0; i < f->b.n_out && c->mod->can_top; i++) {
        const int want = c->rnd.ref->argmax(logits + (size_t)i * (size_t)n_vocab, n_vocab);
        if (f->top[i] != want) bc_fail(c, "the largest of row %d is %d, wanted %d", (int)i, (int)f->top[i], want);
    }
}

static int side_of_head(const wk_plan *p, const cut *k) {
    for (int i = 0; i < k->n; i++)
        if (k->part[i].n_stage && k->part[i].stage_first + k->part[i].n_stage == p->n_stage) return k->side[i];
    return CPU; /* prepare has stopped before it */
}

/* want: NULL: logits [passes][rows][vocab] are kept in got; else they are compared. */
static bool run(bc *c, const wk_plan *p, cut *k, float *const *want, float **got, double bound) {
    wk_err err = {0};
    feed *f = malloc(sizeof(*f));
    if (!f) exit(2);
    bool ok = prepare(c, p, k);
    const bool top = side_of_head(p, k) == MODULE;
    start(f, p->n_vocab);
    for (int i = 0; i < N_PASS && ok; i++) {
        next(f, i);
        const size_t n = (size_t)f->b.n_out * (size_t)p->n_vocab;
        float *logits = malloc(n * sizeof(float));
        if (!logits) exit(2);
        memset(logits, 0xff, n * sizeof(float));
        ok = !go(c, p, k, f, logits, top, &err);
        if (!ok) bc_fail(c, "pass %d: %s", i, err.message);
        if (ok && want) ok = bc_same(c, "logits", want[i], logits, n, bound);
        if (ok && top) check_top(c, f, logits, p->n_vocab);
        if (got)
            got[i] = logits;
        else
            free(logits);
    }
    unprepare(c, k);
    free(f);
    return ok;
}

/* ---- a model ------------------------------------------------------------------------------------- */

static void check_cuts(bc *c, const wk_plan *p, const char *name, float *const *want, double bound, bool all) {
    static const int sides[][2] = {{MODULE, CPU}, {CPU, MODULE}, {MODULE, MODULE}};
    const int32_t end = p->n_layer + 1;
    if (bc_case(c, "%s, whole", name)) {
        cut k = {.n = 1, .border = {0, end}, .side = {MODULE}};
        (void)run(c, p, &k, want, NULL, bound);
    }
    for (int32_t b = 0; b <= end && all; b++)
        for (size_t i = 0; i < WK_COUNT(sides); i++) {
            if (!bc_case(c, "%s, cut at %d, %s first", name, (int)b, sides[i][0] == CPU ? "cpu" : "module")) continue;
            cut k = {.n = 2, .border = {0, b, end}, .side = {sides[i][0], sides[i][1]}};
            (void)run(c, p, &k, want, NULL, bound);
        }
    for (int i = 0; i < 2 && all; i++) {
        if (!bc_case(c, "%s, cut in three, %s between", name, i ? "cpu" : "module")) continue;
        const int outer = i ? MODULE : CPU, inner = i ? CPU : MODULE;
        cut k = {.n = 3, .border = {0, 1, p->n_layer, end}, .side = {outer, inner, outer}};
        (void)run(c, p, &k, want, NULL, bound);
    }
}

static void check_plan(bc *c, const char *path, const wk_plan_options *o, bool all) {
    wk_err err = {0};
    wk_store *s = NULL;
    wk_plan *p = NULL;
    float *want[N_PASS] = {0};
    char name[128];
    (void)snprintf(name, sizeof(name), "%s, %s cache%s%s", strrchr(path, '/') + 1, kv_name[o->kv_type],
                   o->ungrouped ? ", ungrouped" : "", o->n_adapter ? ", adapter" : "");
    (void)snprintf(c->what, sizeof(c->what), "%s", name);
    if (wk_store_open(&s, path, &err) || wk_plan_build(&p, s, o, &err)) {
        if (err.code != WICK_E_UNSUPPORTED) bc_fail(c, "%s", err.message); /* a q8_0 cache of heads of 16 */
    } else {
        const double bound = bc_cache_bound(o->kv_type);
        cut k = {.n = 1, .border = {0, p->n_layer + 1}, .side = {CPU}};
        if (run(c, p, &k, NULL, want, bound)) check_cuts(c, p, name, want, bound, all);
    }
    for (int i = 0; i < N_PASS; i++) free(want[i]);
    wk_plan_free(p);
    if (s) wk_store_close(s);
}

/* ---- adapter ------------------------------------------------------------------------------------- */

/* A and B of rank 4 on queries and on what the feed-forward gives back. */
static void add_pair(wk_writer *w, ck *rnd, const wk_weight *to, float **mem) {
    const uint64_t rank = 4, k[2] = {(uint64_t)to->k, rank}, n[2] = {rank, (uint64_t)to->n_row};
    for (int i = 0; i < 2; i++) {
        char name[160];
        mem[i] = malloc(k[i] * n[i] * sizeof(float));
        if (!mem[i]) exit(2);
        for (uint64_t j = 0; j < k[i] * n[i]; j++) mem[i][j] = ck_gauss(rnd) * 0.1f;
        (void)snprintf(name, sizeof(name), "%s.lora_%c", to->name, "ab"[i]);
        wk_writer_add(w, &(wk_writer_tensor){name, WK_FMT_F32, 2, {k[i], n[i], 1, 1}, mem[i], NULL, NULL});
    }
}

static bool make_adapter(const char *base, const char *arch, const char *path) {
    wk_err err = {0};
    wk_store *s = NULL;
    wk_plan *p = NULL;
    ck rnd = {.rng = 9};
    float *mem[64] = {0};
    size_t n = 0;
    const wk_plan_options o = {.max_tok = 1, .max_out = 1};
    if (wk_store_open(&s, base, &err) || wk_plan_build(&p, s, &o, &err)) return false;
    wk_writer *w = wk_writer_new();
    wk_writer_str(w, "general.type", WK_STR("adapter"));
    wk_writer_str(w, "general.architecture", wk_cstr(arch));
    wk_writer_str(w, "adapter.type", WK_STR("lora"));
    wk_writer_f32(w, "adapter.lora.alpha", 8.0f);
    for (int32_t i = 0; i < p->n_weight && n + 2 <= WK_COUNT(mem); i++) {
        const char *name = p->weight[i].name;
        if (!strstr(name, "attn_q.weight") && !strstr(name, "ffn_down.weight")) continue;
        add_pair(w, &rnd, &p->weight[i], &mem[n]);
        n += 2;
    }
    const bool ok = !wk_writer_save(w, path, &err);
    wk_writer_free(w);
    while (n) free(mem[--n]);
    wk_plan_free(p);
    wk_store_close(s);
    return ok;
}

static void check_adapter(bc *c) {
    static const char base[] = "tests/golden/tiny/llama.gguf";
    char path[] = "/tmp/check_backend_XXXXXX";
    const int fd = mkstemp(path);
    wk_adapter a = {.scale = 1};
    wk_store *s = NULL;
    wk_err err = {0};
    wk_plan_options o = {.max_tok = BC_TOK + 10, .max_out = BC_TOK + 10, .adapter = &a, .n_adapter = 1};
    (void)snprintf(c->what, sizeof(c->what), "adapter");
    if (fd >= 0) (void)close(fd);
    if (fd < 0 || !make_adapter(base, "llama", path) || wk_store_open(&s, path, &err)) {
        bc_fail(c, "no adapter: %s", err.message);
    } else {
        a.store = s;
        check_plan(c, base, &o, true);
        wk_store_close(s);
    }
    (void)unlink(path);
}

void bc_models(bc *c) {
    static const char folder[] = "tests/golden/tiny";
    DIR *d = opendir(folder);
    int n = 0;
    for (const struct dirent *e; d && (e = readdir(d));) {
        char path[300];
        if (!strstr(e->d_name, ".gguf")) continue;
        (void)snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        n++;
        for (int kv = 0; kv < WK_KV_TYPE_COUNT; kv++) {
            wk_plan_options o = {.max_tok = BC_TOK + 10, .max_out = BC_TOK + 10, .kv_type = kv};
            check_plan(c, path, &o, true);
            o.ungrouped = o.keep = true;
            check_plan(c, path, &o, false);
        }
    }
    if (d) (void)closedir(d);
    if (!n) bc_fail(c, "no models in %s", folder);
    check_adapter(c);
}

/* bench_peer.c: other programs on the same file, in turn with ours (KERNELS 13). A round holds each program and each
 * kind of work once, in random order, each as a fresh process; the verdict is the median of the ratios of rounds. What
 * a peer prints is foreign text. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/app/bench_impl.h"
#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "engine/base/err.h"
#include "engine/base/json.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum {
    PEER_WORDS = 40,
    PEER_TESTS = 2 * WK_BENCH_LIST,
    PEER_SELF = 4096,
    ROUNDS_LEAST = 3,
    PEER_DEFAULT_LIMIT = 600
};
static const double most_stolen = 0.02, most_off = 0.10;

typedef enum peer_kind { PEER_WICK, PEER_LLAMA, PEER_IK } peer_kind;

typedef struct peer_test {
    bool is_prompt;
    int32_t n, depth;
} peer_test;

typedef struct peer {
    peer_kind kind;
    char who[24], path[PEER_SELF];
    const char *load[2];                   /* how it is told to read the file: option, value */
    const char *depth;                     /* "-d", or "-gp" of prompt,tokens; NULL: it has none */
    const char *pack;                      /* option for repacking, NULL: it has none */
    const char *prompt_pack, *decode_pack; /* its value, frozen before the rounds */
    char commit[40];
} peer;

typedef struct contest {
    wk_bench *b;
    int limit_s, n_peer, n_test;
    peer peer[WK_BENCH_PEERS + 1];
    peer_test test[PEER_TESTS];
    int row[WK_BENCH_PEERS + 1][PEER_TESTS];
    bool rejected[WK_BENCH_ROUNDS];
    char number[8][32]; /* words of a command line */
} contest;

/* ---- command lines ------------------------------------------------------------------------------- */

typedef struct words {
    const char *w[PEER_WORDS];
    int n;
} words;

static void add(words *l, const char *a, const char *value) {
    if (l->n + 2 < PEER_WORDS) l->w[l->n++] = a;
    if (value && l->n + 1 < PEER_WORDS) l->w[l->n++] = value;
}

static const char *number(contest *c, int slot, int64_t v) {
    (void)snprintf(c->number[slot], sizeof(c->number[slot]), "%lld", (long long)v);
    return c->number[slot];
}

/* Ours: one row, one repetition, and what the parent was told. */
static void wick_words(contest *c, const peer *p, const peer_test *t, words *l) {
    const wk_args *a = c->b->args;
    static const wk_arg_id handed[] = {WK_ARG_KV, WK_ARG_CPU, WK_ARG_BATCH};
    static const char *const names[] = {"--kv", "--cpu", "--batch"};
    add(l, p->path, "bench");
    add(l, "-m", a->model_path);
    add(l, "-o", "jsonl");
    add(l, "-q", NULL);
    add(l, "--reps", "1");
    add(l, "--threads", number(c, 0, c->b->machine.n_thread));
    add(l, "--only", t->is_prompt ? "prefill" : "decode");
    add(l, "--pp", t->is_prompt ? number(c, 1, t->n) : "none");
    add(l, "--clients", "none");
    add(l, "--depth", number(c, 2, t->depth));
    if (!t->is_prompt) add(l, "--tg", number(c, 3, t->n));
    for (size_t i = 0; i < WK_COUNT(handed); i++)
        if (a->v[handed[i]].given) add(l, names[i], a->v[handed[i]].s);
}

/* A context and the tokens behind it are one option, and one row that holds both numbers. */
static bool is_paired(const peer *p, const peer_test *t) {
    return t->depth && p->depth && strcmp(p->depth, "-gp") == 0;
}

static void peer_words(contest *c, const peer *p, const peer_test *t, const char *pack, words *l) {
    const wk_args *a = c->b->args;
    add(l, p->path, NULL);
    add(l, "-m", a->model_path);
    add(l, "-t", number(c, 0, c->b->machine.n_thread));
    const bool paired = is_paired(p, t);
    add(l, "-p", number(c, 1, t->is_prompt ? t->n : 0));
    add(l, "-n", number(c, 2, t->is_prompt || paired ? 0 : t->n));
    if (paired)
        (void)snprintf(c->number[3], sizeof(c->number[3]), "%d,%d", (int)t->depth, (int)t->n);
    if (t->depth) add(l, p->depth, paired ? c->number[3] : number(c, 3, t->depth));
    add(l, "-r", "1");
    add(l, "-o", "json");
    if (p->load[0]) add(l, p->load[0], p->load[1]);
    if (p->pack && pack) add(l, p->pack, pack);
    if (!a->v[WK_ARG_KV].given) return;
    add(l, "-ctk", a->v[WK_ARG_KV].s);
    add(l, "-ctv", a->v[WK_ARG_KV].s);
}

/* ---- what they say ------------------------------------------------------------------------------- */

typedef struct answer {
    double rate, share;
    char probe[96], commit[40];
} answer;

static bool is_rate(double v) { return v > 0 && v < 1e9; }

/* llama-bench -o json: an array of objects, one a test. */
static bool read_peer(const peer *p, const wk_json *root, const peer_test *t, answer *out) {
    const bool paired = is_paired(p, t);
    const int64_t prompt = t->is_prompt ? t->n
                           : paired     ? t->depth
                                        : 0,
                  gen = t->is_prompt ? 0 : t->n;
    for (size_t i = 0; i < wk_json_count(root) && wk_json_type(root) == WK_JSON_ARRAY; i++) {
        const wk_json *v = wk_json_at(root, i);
        const int64_t n_prompt = wk_json_int(wk_json_get(v, "n_prompt")),
                      n_gen = wk_json_int(wk_json_get(v, "n_gen"));
        if (n_prompt != prompt || n_gen != gen) continue;
        if (t->depth && !paired && wk_json_int(wk_json_get(v, "n_depth")) != t->depth) continue;
        out->rate = wk_json_real(wk_json_get(v, "avg_ts"));
        (void)snprintf(out->commit, sizeof(out->commit), "%.38s",
                       wk_show(wk_json_str(wk_json_get(v, "build_commit"))).text);
        return is_rate(out->rate);
    }
    return false;
}

/* One line of ours: {"type":"row","kind":"engine",...}. */
static bool read_row(const wk_json *v, answer *out) {
    if (!wk_str_is(wk_json_str(wk_json_get(v, "kind")), "engine")) return false;
    out->rate = wk_json_real(wk_json_get(v, "median"));
    out->share = wk_json_real(wk_json_get(v, "share"));
    const wk_str of = wk_json_str(wk_json_get(v, "share_of"));
    const bool read = wk_str_is(of, "read");
    (void)snprintf(out->probe, sizeof(out->probe), "%.4g %s", wk_json_real(wk_json_get(v, "probe")),
                   read                   ? "GB/s read"
                   : wk_str_is(of, "f32") ? "GOP/s f32"
                                          : "GOP/s i8");
    return is_rate(out->rate);
}

static bool read_answer(const peer *p, const peer_test *t, wk_str text, answer *out,
                        wick_error *err) {
    wk_json_doc *d = NULL;
    bool found = false;
    *out = (answer){0};
    if (p->kind != PEER_WICK) {
        if (wk_json_parse(&d, text, 8, 20000, err)) return false;
        found = read_peer(p, wk_json_root(d), t, out);
        wk_json_free(d);
        return found;
    }
    while (text.n && !found) {
        const char *end = memchr(text.p, '\n', text.n);
        const size_t n = end ? (size_t)(end - text.p) : text.n;
        if (n && wk_json_parse(&d, (wk_str){text.p, n}, 8, 20000, err) == WICK_OK) {
            found = read_row(wk_json_root(d), out);
            wk_json_free(d);
        }
        text.p += n + (end != NULL);
        text.n -= n + (end != NULL);
    }
    return found;
}

static wick_status ask(contest *c, const peer *p, const peer_test *t, const char *pack, answer *out,
                       wick_error *err) {
    words l = {.n = 0};
    wk_child child = {.seconds = 0};
    wick_error parse = {0};
    if (p->kind == PEER_WICK)
        wick_words(c, p, t, &l);
    else
        peer_words(c, p, t, pack, &l);
    wick_status rc = wk_child_run(&child, l.w, c->limit_s, err);
    if (!rc && !read_answer(p, t, wk_buf_str(&child.out), out, &parse))
        rc = wk_fail(err, WICK_E_IO, "%s: its output holds no row of %s %d%s%.90s",
                     wk_show(wk_cstr(p->path)).text, t->is_prompt ? "prompt" : "decode", (int)t->n,
                     parse.message[0] ? ": " : "", parse.message);
    wk_child_fini(&child);
    wk_round_step(c->b);
    return rc;
}

/* ---- who takes part ------------------------------------------------------------------------------ */

static bool has_option(wk_str help, const char *option) {
    const size_t n = strlen(option);
    for (size_t i = 0; i + n <= help.n; i++) {
        const bool before =
            i == 0 || help.p[i - 1] == ' ' || help.p[i - 1] == ',' || help.p[i - 1] == '\n';
        if (before && memcmp(help.p + i, option, n) == 0 &&
            (i + n == help.n || strchr(" ,\n", help.p[i + n])))
            return true;
    }
    return false;
}

/* What its help names: loading without mmap, and repacking. */
static wick_status learn(contest *c, peer *p, wick_error *err) {
    const char *const argv[] = {p->path, "--help", NULL};
    wk_child child = {.seconds = 0};
    const wick_status rc = wk_child_run(&child, argv, c->limit_s, err);
    if (!rc) {
        const wk_str help = wk_buf_str(&child.out);
        const bool mode = has_option(help, "-lm"), map = has_option(help, "-mmp");
        p->depth = has_option(help, "-d") ? "-d" : has_option(help, "-gp") ? "-gp" : NULL;
        p->load[0] = mode ? "-lm" : map ? "-mmp" : NULL;
        p->load[1] = mode ? "none" : "0";
        p->pack = has_option(help, "--repack") ? "--repack"
                  : has_option(help, "-rtr")   ? "-rtr"
                                               : NULL;
    }
    wk_child_fini(&child);
    return rc;
}

static wick_status add_peer(contest *c, const char *text, wick_error *err) {
    static const struct {
        const char *word;
        peer_kind kind;
    } known[] = {{"llama-bench=", PEER_LLAMA}, {"ik=", PEER_IK}};
    for (size_t i = 0; i < WK_COUNT(known); i++) {
        const size_t n = strlen(known[i].word);
        peer *p = &c->peer[c->n_peer];
        if (strncmp(text, known[i].word, n) != 0 || !text[n]) continue;
        if (strlen(text + n) >= sizeof(p->path))
            return wk_fail(err, WICK_E_ARG, "--against: the path is longer than 4095 bytes");
        *p = (peer){.kind = known[i].kind};
        (void)snprintf(p->who, sizeof(p->who), "%.*s", (int)(n - 1), text);
        (void)snprintf(p->path, sizeof(p->path), "%s", text + n);
        c->n_peer++;
        return learn(c, p, err);
    }
    return wk_fail(err, WICK_E_ARG, "--against wants llama-bench=PATH or ik=PATH, found \"%s\"",
                   wk_show(wk_cstr(text)).text);
}

static wick_status add_self(contest *c, wick_error *err) {
    peer *p = &c->peer[c->n_peer++];
    *p = (peer){.kind = PEER_WICK, .who = "wick"};
    const ssize_t n = readlink("/proc/self/exe", p->path, sizeof(p->path) - 1);
    if (n <= 0)
        return wk_fail(err, WICK_E_IO,
                       "this program cannot find its own file through /proc/self/exe");
    p->path[n] = 0;
    return WICK_OK;
}

static wick_status gather(contest *c, wick_error *err) {
    const wk_bench_wish *w = &c->b->wish;
    size_t n;
    const char *const *list = wk_args_list(c->b->args, WK_ARG_AGAINST, &n);
    WK_TRY(add_self(c, err));
    for (size_t i = 0; i < n; i++) WK_TRY(add_peer(c, list[i], err));
    for (int i = 0; i < w->pp.n && (w->only & WK_ONLY_PREFILL); i++)
        c->test[c->n_test++] = (peer_test){.is_prompt = true, .n = w->pp.v[i]};
    for (int i = 0; i < w->depth.n && (w->only & WK_ONLY_DECODE); i++)
        c->test[c->n_test++] = (peer_test){.n = w->tg, .depth = w->depth.v[i]};
    for (int i = 0; i < c->n_test * c->n_peer; i++) {
        const peer *p = &c->peer[i % c->n_peer];
        if (p->kind != PEER_WICK && c->test[i / c->n_peer].depth && !p->depth)
            return wk_fail(
                err, WICK_E_IO,
                "%s has no option for decoding behind a context; --depth 0 leaves it out",
                wk_show(wk_cstr(p->path)).text);
    }
    return c->n_test ? WICK_OK
                     : wk_fail(err, WICK_E_ARG,
                               "--against has nothing to measure: --pp and --depth are none");
}

/* Its better way to lay out weights for this kind of work, found once and then kept. */
static wick_status freeze(contest *c, peer *p, wick_error *err) {
    answer off, on;
    const peer_test *prompt = NULL;
    for (int i = c->n_test - 1; i >= 0; i--)
        if (c->test[i].is_prompt) prompt = &c->test[i];
    p->decode_pack = p->prompt_pack = p->pack ? "1" : NULL;
    if (!p->pack || !prompt) return WICK_OK;
    WK_TRY(ask(c, p, prompt, "0", &off, err));
    WK_TRY(ask(c, p, prompt, "1", &on, err));
    p->prompt_pack = off.rate > on.rate ? "0" : "1";
    return WICK_OK;
}

/* ---- rounds -------------------------------------------------------------------------------------- */

static bool make_rows(contest *c) {
    for (int t = 0; t < c->n_test; t++)
        for (int p = 0; p < c->n_peer; p++) {
            const peer_test *x = &c->test[t];
            const peer *q = &c->peer[p];
            wk_bench_row *r =
                x->depth
                    ? wk_round_row(c->b, WK_BENCH_AGAINST, "tok/s", "decode @%d", (int)x->depth)
                : x->is_prompt
                    ? wk_round_row(c->b, WK_BENCH_AGAINST, "tok/s", "prefill %d", (int)x->n)
                    : wk_round_row(c->b, WK_BENCH_AGAINST, "tok/s", "decode");
            if (!r) return false;
            (void)snprintf(r->who, sizeof(r->who), "%s", q->who);
            c->row[p][t] = c->b->n_row - 1;
        }
    return true;
}

/* Time that the host took from us, and all time, of every CPU, in ticks. */
static void stolen(double *steal, double *all) {
    char text[512] = "";
    unsigned long long v[8] = {0};
    (void)wk_os_read_small("/proc/stat", text, sizeof(text)); /* absent: nothing was stolen */
    (void)sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
                 &v[4], &v[5], &v[6], &v[7]);
    *steal = (double)v[7];
    *all = 0;
    for (int i = 0; i < 8; i++) *all += (double)v[i];
}

static wick_status one_round(contest *c, int round, wick_error *err) {
    int order[(WK_BENCH_PEERS + 1) * PEER_TESTS];
    const int n = c->n_peer * c->n_test;
    double steal0, all0, steal1, all1;
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        const int j = (int)wk_stat_draw(3, &c->b->draws, (uint32_t)(i + 1)), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    stolen(&steal0, &all0);
    for (int i = 0; i < n; i++) {
        answer a;
        peer *p = &c->peer[order[i] % c->n_peer];
        const peer_test *t = &c->test[order[i] / c->n_peer];
        wk_bench_row *r = &c->b->row[c->row[order[i] % c->n_peer][order[i] / c->n_peer]];
        WK_TRY(ask(c, p, t, t->is_prompt ? p->prompt_pack : p->decode_pack, &a, err));
        r->value[round] = a.rate;
        r->share_sum[round] = a.share;
        if (a.probe[0]) (void)snprintf(r->note, sizeof(r->note), "%s", a.probe);
        if (a.commit[0]) (void)snprintf(p->commit, sizeof(p->commit), "%s", a.commit);
    }
    stolen(&steal1, &all1);
    c->rejected[round] = all1 > all0 && (steal1 - steal0) / (all1 - all0) > most_stolen;
    for (int i = 0; i < n; i++) c->b->row[c->row[i % c->n_peer][i / c->n_peer]].n = round + 1;
    return WICK_OK;
}

/* Rounds in which the machine was another one: its probe lies more than 10 % off the median. */
static void judge_rounds(contest *c) {
    const wk_bench_row *r =
        &c->b->row[c->row[0][c->n_test - 1]]; /* ours, decoding: the read probe */
    double probe[WK_BENCH_ROUNDS];
    for (int i = 0; i < r->n; i++)
        probe[i] = r->share_sum[i] > 0 ? r->value[i] / r->share_sum[i] : 0;
    const double median = wk_stat_of(probe, r->n).median;
    for (int i = 0; i < r->n && median > 0; i++)
        if (probe[i] < median * (1 - most_off) || probe[i] > median * (1 + most_off))
            c->rejected[i] = true;
}

static void put_ratio(contest *c, int p, int t, bool all) {
    wk_bench_row *ours = &c->b->row[c->row[0][t]], *r = &c->b->row[c->row[p][t]];
    const peer *q = &c->peer[p];
    double ratio[WK_BENCH_ROUNDS];
    int n = 0;
    for (int i = 0; i < r->n; i++)
        if ((all || !c->rejected[i]) && r->value[i] > 0) ratio[n++] = ours->value[i] / r->value[i];
    r->ratio = wk_stat_bootstrap(ratio, n);
    const char *pack = c->test[t].is_prompt ? q->prompt_pack : q->decode_pack;
    (void)snprintf(r->note, sizeof(r->note), "%d of %d rounds%s%s; %s %s %s %s", n, r->n,
                   q->commit[0] ? "; commit " : "", q->commit, q->load[0] ? q->load[0] : "",
                   q->load[0] ? q->load[1] : "", q->pack ? q->pack : "", q->pack ? pack : "");
}

static void conclude(contest *c) {
    int kept = 0, n = c->b->row[c->row[0][0]].n;
    char text[160];
    judge_rounds(c);
    for (int i = 0; i < n; i++) kept += !c->rejected[i];
    const bool all = kept < ROUNDS_LEAST || 2 * kept < n;
    for (int p = 1; p < c->n_peer; p++)
        for (int t = 0; t < c->n_test; t++) put_ratio(c, p, t, all);
    if (kept == n) return;
    const int len =
        snprintf(text, sizeof(text),
                 "%d of %d rounds had stolen time or a bandwidth more than 10 %% off: %s", n - kept,
                 n, all ? "too many to leave out, all are used" : "left out of the ratios");
    wk_emit_warning(c->b->emit, text, (size_t)len);
}

wick_status wk_peer_run(wk_bench *b, wick_error *err) {
    contest *c = wk_new(contest);
    if (!c) return wk_fail(err, WICK_E_NOMEM, "no memory for the peers");
    c->b = b;
    c->limit_s = b->args->v[WK_ARG_PEER_LIMIT].given ? (int)b->args->v[WK_ARG_PEER_LIMIT].i
                                                     : PEER_DEFAULT_LIMIT;
    wick_status rc = gather(c, err);
    b->n_todo = (double)b->wish.rounds * c->n_peer * c->n_test + 2.0 * (c->n_peer - 1);
    b->n_done = 0;
    for (int p = 1; !rc && p < c->n_peer; p++) rc = freeze(c, &c->peer[p], err);
    if (!rc && !make_rows(c)) rc = wk_fail(err, WICK_E_ARG, "--against: more tests than rows");
    for (int i = 0; !rc && i < b->wish.rounds && !wk_round_stopped(b); i++)
        rc = one_round(c, i, err);
    wk_progress_clear(&b->progress);
    if (rc == WICK_E_CANCELED && wk_round_stopped(b)) rc = WICK_OK;
    if (!rc && b->n_row && c->n_test) conclude(c);
    wk_free(c);
    return rc;
}

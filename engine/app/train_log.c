/* train_log.c: a line of log.jsonl a step, and the line that a person watches. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/app/train_impl.h"
#include "engine/base/dir.h"
#include "engine/base/err.h"
#include "engine/base/os.h"

/* ---- log.jsonl ----------------------------------------------------------------------------------- */

/* The step of a line of ours; -1: a line that a crash has cut. */
static int64_t step_of(wk_str line) {
    static const char head[] = "{\"step\":";
    if (line.n < sizeof(head) || memcmp(line.p, head, sizeof(head) - 1) != 0 || line.p[line.n - 1] != '}') return -1;
    return strtoll(line.p + sizeof(head) - 1, NULL, 10);
}

wick_status wk_log_open(const wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH];
    wk_map_file map = {0};
    WK_TRY(wk_train_path(t, path, "log.jsonl", err));
    if (!t->from[0]) { /* of a try that did not come to its first checkpoint */
        char samples[WK_RUN_PATH];
        WK_TRY(wk_train_path(t, samples, "samples.txt", err));
        WK_TRY(wk_file_remove(samples, err));
        return wk_file_remove(path, err);
    }
    if (access(path, F_OK) != 0) return WICK_OK;
    WK_TRY(wk_os_map(&map, path, err));
    size_t keep = 0;
    for (const char *p = (const char *)map.p; keep < map.n;) {
        const char *end = memchr(p + keep, '\n', map.n - keep);
        const int64_t step = end ? step_of((wk_str){p + keep, (size_t)(end - p) - keep}) : -1;
        if (step < 0 || step > t->step) break;
        keep = (size_t)(end - p) + 1;
    }
    const bool shorter = keep < map.n;
    wk_os_unmap(&map);
    if (shorter && truncate(path, (off_t)keep) != 0)
        return wk_fail(err, WICK_E_IO, "%s: %s", wk_show(wk_cstr(path)).text, strerror(errno));
    return WICK_OK;
}

static double resident(void) {
    char text[64];
    if (wk_os_read_small("/proc/self/statm", text, sizeof(text)) <= 0) return (double)NAN;
    const char *second = strchr(text, ' ');
    return second ? (double)strtoll(second, NULL, 10) * (double)sysconf(_SC_PAGESIZE) : (double)NAN;
}

static double rate_of(const wick_x_train_step *s) { return s->s > 0 ? (double)s->tokens_step / s->s : (double)NAN; }
static double share_of(const wick_x_train_step *s) {
    return s->s > 0 && s->gemm_peak > 0 ? s->flops / s->s / s->gemm_peak : (double)NAN;
}

static void put_number(wk_buf *b, const char *name, double v) {
    (void)wk_buf_addf(b, ",\"%s\":", name);
    if (isfinite(v))
        (void)wk_buf_addf(b, "%.9g", v);
    else
        (void)wk_buf_adds(b, "null");
}

/* Shares of the tokens so far that came from the parts of a mixture. */
static void put_mix(const wk_train *t, wk_buf *b) {
    double share[WICK_X_MIX_MAX], wanted[WICK_X_MIX_MAX];
    size_t n = 0;
    if (wick_x_trainer_mix(t->trainer, share, wanted, WICK_X_MIX_MAX, &n)) return;
    for (size_t i = 0; i < n; i++) (void)wk_buf_addf(b, "%s%.9g", i ? "," : ",\"mix\":[", share[i]);
    if (n) (void)wk_buf_addc(b, ']');
}

/* The members of a row, each with a comma before it. */
static void put_members(wk_train *t, wk_buf *b, const wick_x_train_step *s, bool evaluated) {
    const wick_x_train_step none = {.loss = (double)NAN, .lr = (double)NAN, .gnorm = (double)NAN, .z = (double)NAN};
    const bool real = s != NULL;
    if (!real) s = &none;
    const double joules = t->energy.source == WK_ENERGY_NONE ? (double)NAN : wk_energy_read(&t->energy);
    const struct {
        const char *name;
        double v;
    } rows[] = {{"tokens", (double)s->tokens},
                {"loss", s->loss},
                {"counted", (double)s->counted},
                {"val", evaluated ? t->val : (double)NAN},
                {"bpb", evaluated ? t->bpb : (double)NAN},
                {"lr", s->lr},
                {"gnorm", s->gnorm},
                {"z", s->z},
                {"skipped", s->skipped},
                {"tok_s", real ? rate_of(s) : (double)NAN},
                {"flops", s->flops},
                {"share", real ? share_of(s) : (double)NAN},
                {"t", s->s},
                {"t_fwd", s->forward_s},
                {"t_bwd", s->backward_s},
                {"t_upd", s->update_s},
                {"t_comm", s->comm_s},
                {"t_data", s->data_s},
                {"rss", resident()},
                {"j_cpu", joules - t->joules}};
    for (size_t i = 0; i < WK_COUNT(rows); i++) put_number(b, rows[i].name, rows[i].v);
    put_mix(t, b);
    t->joules = joules;
}

static wick_status append(const wk_train *t, const wk_buf *line, wick_error *err) {
    char path[WK_RUN_PATH];
    WK_TRY(wk_train_path(t, path, "log.jsonl", err));
    if (line->failed) return wk_fail(err, WICK_E_NOMEM, "no memory for a line of the log");
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    wk_out out = {.fd = fd};
    if (fd < 0) return wk_fail(err, WICK_E_IO, "%s: %s", wk_show(wk_cstr(path)).text, strerror(errno));
    (void)wk_out_write(&out, line->p, line->n); /* kept in out.error */
    (void)close(fd);
    return out.error ? wk_fail(err, WICK_E_IO, "%s: %s", wk_show(wk_cstr(path)).text, strerror(out.error)) : WICK_OK;
}

wick_status wk_log_row(wk_train *t, const wick_x_train_step *s, bool evaluated, wick_error *err) {
    wk_buf *b = &t->line;
    wk_buf_reset(b);
    (void)wk_buf_addf(b, "{\"step\":%lld", (long long)t->step);
    const size_t from = b->n;
    put_members(t, b, s, evaluated);
    if (t->emit->mode == WK_EMIT_JSONL && !b->failed) {
        wk_emit_begin(t->emit, "step");
        wk_emit_int(t->emit, "step", t->step);
        (void)wk_buf_add(&t->emit->line, b->p + from, b->n - from);
        wk_emit_end(t->emit);
    }
    (void)wk_buf_adds(b, "}\n");
    return append(t, b, err);
}

/* ---- products ------------------------------------------------------------------------------------ */

/* --bf16 auto: what the trainer has found. */
static bool in_bf16(const wk_train *t) {
    char text[8192];
    size_t len = 0;
    if (t->run.bf16 >= 0 || !t->trainer) return t->run.bf16 > 0;
    return !wick_x_trainer_gemms(t->trainer, text, sizeof(text), &len) && strstr(text, ": bf16 ");
}

void wk_log_products(const wk_train *t, wk_buf *b) {
    static const char *const words[] = {"auto", "wick", "onednn"};
    const bool bf16 = in_bf16(t);
    char text[8192];
    size_t len = 0;
    int n = 0, n_onednn = 0;
    double best = 0;
    (void)wk_buf_addf(b, "products %s", bf16 ? "bf16" : words[t->run.gemm]);
    if (!t->trainer || wick_x_trainer_gemms(t->trainer, text, sizeof(text), &len)) return;
    for (const char *p = text; *p; p += strcspn(p, "\n") + 1) { /* "NT 512 x 1536 x 576: wick 301 GFLOP/s" */
        const char *engine = strstr(p, ": "), *rate = engine ? strchr(engine + 2, ' ') : NULL;
        if (!rate) break;
        n_onednn += strncmp(engine + 2, "onednn", 6) == 0;
        best = fmax(best, strtod(rate, NULL));
        n++;
    }
    if (n == 0) return;
    if (!bf16 && t->run.gemm == WICK_X_GEMM_AUTO) (void)wk_buf_addf(b, " (onednn for %d of %d shapes)", n_onednn, n);
    (void)wk_buf_addf(b, ", at most %.0f GFLOP/s", best);
}

/* ---- the live line ------------------------------------------------------------------------------- */

void wk_train_say(wk_train *t, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    if (t->quiet || t->silent) return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    wk_progress_clear(&t->progress);
    wk_say(false, "%s", text);
}

/* The parts of the line from left to right, and which goes first where a terminal is narrow: the one with the highest
 * number; 0 stays. */
enum { PARTS = 9, PART = 96 };
typedef struct part {
    char text[PART];
    int order;
} part;

static void put_phases(char *out, const wk_train *t, const wick_x_train_step *s) {
    const double all = s->s > 0 ? 100 / s->s : 0;
    const double known = s->forward_s + s->backward_s + s->update_s + s->comm_s + s->data_s;
    int n =
        snprintf(out, PART, "  fwd %.0f bwd %.0f upd %.0f", all * s->forward_s, all * s->backward_s, all * s->update_s);
    if (t->n_rank > 1) n += snprintf(out + n, (size_t)(PART - n), " comm %.0f", all * s->comm_s);
    (void)snprintf(out + n, (size_t)(PART - n), " data %.0f other %.0f %%", all * s->data_s,
                   all * fmax(0, s->s - known));
}

static void make_parts(const wk_train *t, const wick_x_train_step *s, part p[PARTS]) {
    static const int order[PARTS] = {0, 0, 4, 3, 5, 1, 6, 7, 2};
    for (int i = 0; i < PARTS; i++) p[i] = (part){.order = order[i]};
    (void)snprintf(p[0].text, PART, "step %lld/%lld", (long long)t->step, (long long)t->run.steps);
    (void)snprintf(p[1].text, PART, "  loss %.4g", s->loss);
    if (s->skipped)
        (void)snprintf(p[1].text, PART, "  loss %.4g SKIPPED (%s)", s->loss,
                       s->skipped == 1 ? "not finite" : "an outlier");
    (void)snprintf(p[2].text, PART, " (%+.1f\xcf\x83)", s->z);
    if (isfinite(t->val)) (void)snprintf(p[3].text, PART, "  val %.4g %.3g bpb", t->val, t->bpb);
    (void)snprintf(p[4].text, PART, "  lr %.2g |g| %.2g", s->lr, s->gnorm);
    (void)snprintf(p[5].text, PART, "  %s tok/s", wk_word_count(rate_of(s)).text);
    if (s->gemm_peak > 0)
        (void)snprintf(p[6].text, PART, "  %.0f %% of %sGEMM peak (%.0f GF/s)", 100 * share_of(s),
                       in_bf16(t) ? "bf16 " : "", s->gemm_peak * 1e-9);
    put_phases(p[7].text, t, s);
    (void)snprintf(p[8].text, PART, "  eta %s", wk_word_time(t->step_s * (double)(t->run.steps - t->step)).text);
}

/* Characters that a text shows: bytes but the second and later ones of UTF-8. */
static int width_of(const char *s) {
    int n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void narrow(part p[PARTS], int columns) {
    for (;;) {
        int sum = 0, drop = -1;
        for (int i = 0; i < PARTS; i++) {
            sum += width_of(p[i].text);
            if (p[i].text[0] && p[i].order && (drop < 0 || p[i].order > p[drop].order)) drop = i;
        }
        if (sum < columns || drop < 0) return;
        p[drop].text[0] = 0;
    }
}

void wk_log_live(wk_train *t, const wick_x_train_step *s, bool keep) {
    part p[PARTS];
    struct winsize size = {0};
    const double now = wk_train_now();
    if (t->quiet || (!t->progress.tty && !keep) || (!keep && now - t->shown < 0.1)) return;
    t->shown = now;
    make_parts(t, s, p);
    if (t->progress.tty) narrow(p, ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80);
    wk_say(false, "%s%s%s%s%s%s%s%s%s%s%s", t->progress.tty ? "\r\033[K" : "", p[0].text, p[1].text, p[2].text,
           p[3].text, p[4].text, p[5].text, p[6].text, p[7].text, p[8].text, keep ? "\n" : "");
    t->progress.drawn = t->progress.tty && !keep;
}

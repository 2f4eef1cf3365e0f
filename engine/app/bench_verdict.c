/* bench_verdict.c: what devices side by side come to, in words: ratios, where one begins to be ahead, energy, bits. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_cross.h"
#include "engine/app/bench_impl.h"

static WK_PRINTF(2, 3) void say(wk_bench *b, const char *fmt, ...) {
    va_list ap;
    if (b->n_line == WK_BENCH_LINES) return;
    va_start(ap, fmt);
    (void)vsnprintf(b->line[b->n_line++], sizeof(b->line[0]), fmt, ap); /* longer ones are cut */
    va_end(ap);
}

/* The same row of the cpu. */
static const wk_bench_row *cpu_row(const wk_bench *b, const wk_bench_row *r) {
    for (int i = 0; i < b->n_row; i++) {
        const wk_bench_row *c = &b->row[i];
        if (c != r && c->kind == r->kind && c->n && b->target[c->target].is_cpu && strcmp(c->name, r->name) == 0) return c;
    }
    return NULL;
}

static bool is_of(const wk_bench *b, const wk_bench_row *r, int i) {
    return b->target[r->target].spec[0] && r->target == i && r->n && r->kind != WK_BENCH_PROBE &&
           strncmp(r->name, "split ", 6) != 0;
}

static void ratios(wk_bench *b, int i) {
    char text[380] = "";
    size_t n = 0;
    for (int k = 0; k < b->n_row && n < sizeof(text); k++) {
        const wk_bench_row *r = &b->row[k], *c = is_of(b, r, i) ? cpu_row(b, r) : NULL;
        if (!c || r->kind != WK_BENCH_ENGINE) continue;
        const wk_stat cpu = wk_stat_of(c->value, c->n), dev = wk_stat_of(r->value, r->n);
        if (!(cpu.median > 0)) continue;
        const char *doubt = cpu.n < 2 || dev.n < 2 ? " (one round)" : "";
        if (!*doubt && wk_stat_compare(&cpu, &dev, false) == 0)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s: no difference", n ? "; " : "", r->name);
        else
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s: %.3g x cpu%s", n ? "; " : "", r->name,
                                  dev.median / cpu.median, doubt);
    }
    if (n) say(b, "%s: %s", b->target[i].label, text);
}

/* Joules of a token, host and device, as a sample. */
static wk_stat energy(const wk_bench_row *r) {
    double v[WK_BENCH_ROUNDS];
    for (int i = 0; i < r->n; i++) v[i] = r->joules[i] + r->dev_joules[i];
    return wk_stat_of(v, r->n);
}

typedef struct place {
    const char *prefix, *what, *unit;
} place;
static const place places[] = {{"prefill ", "prompt", "tokens"}, {"batch ", "batch", "sequences"}, {"decode", "depth", "tokens"}};

static double place_of(const char *name) {
    double v = 0;
    for (; *name; name++) v = *name >= '0' && *name <= '9' ? 10 * v + (*name - '0') : 0;
    return v;
}

static void crossing(wk_bench *b, int i, const place *p, bool by_energy) {
    wk_cross_point point[WK_BENCH_LIST];
    char what[48], text[380];
    int n = 0;
    for (int k = 0; k < b->n_row && n < WK_BENCH_LIST; k++) {
        const wk_bench_row *r = &b->row[k], *c = is_of(b, r, i) ? cpu_row(b, r) : NULL;
        if (!c || r->kind != WK_BENCH_ENGINE || strncmp(r->name, p->prefix, strlen(p->prefix)) != 0) continue;
        const wk_stat cpu = by_energy ? energy(c) : wk_stat_of(c->value, c->n),
                      dev = by_energy ? energy(r) : wk_stat_of(r->value, r->n);
        if (cpu.n < 2 || dev.n < 2) continue; /* one value has no spread: nothing is claimed */
        point[n++] = (wk_cross_point){place_of(r->name), wk_stat_compare(&cpu, &dev, by_energy)};
    }
    if (!n) return;
    (void)snprintf(what, sizeof(what), "%s, by %s", p->what, by_energy ? "energy" : "time");
    wk_cross_say(point, n, what, b->target[i].label, p->unit, text, sizeof(text));
    say(b, "%s", text);
}

static void about(wk_bench *b, int i) {
    wk_bench_target *t = &b->target[i];
    const wick_x_device *d = &t->info;
    const bool host = b->energy.source == WK_ENERGY_RAPL;
    ratios(b, i);
    for (size_t k = 0; k < WK_COUNT(places); k++) {
        crossing(b, i, &places[k], false);
        if (t->nvml.lib && host) crossing(b, i, &places[k], true);
    }
    if (!t->nvml.lib)
        say(b, "%s, energy: %s", t->label, t->nvml.why);
    else if (!host)
        say(b, "%s, energy: the card's is in its rows, the host's is %s: no crossover by energy", t->label,
            b->energy.source == WK_ENERGY_NONE ? "not readable" : "not measured");
    if (d->read_rate > 0 || d->f16_rate > 0)
        say(b, "%s measured here: reads %.4g GB/s, copies %.4g to it and %.4g from it, i8 %.4g and f16 %.4g GOP/s; "
            "shares of its rows are of these", t->label, d->read_rate / 1e9, d->put_rate / 1e9, d->get_rate / 1e9,
            d->int8_rate / 1e9, d->f16_rate / 1e9);
    say(b, "rows of %s are outside the promise on bits: they are computed by %s%s%s", t->label, d->name[0] ? d->name : t->label,
        d->driver[0] ? ", " : "", d->driver);
}

void wk_verdict_lines(wk_bench *b) {
    for (int i = 0; i < b->n_target; i++)
        if (!b->target[i].is_cpu && !b->target[i].why[0]) about(b, i);
}

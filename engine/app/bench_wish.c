/* bench_wish.c: the options of bench as numbers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

enum { POS_MAX = 1 << 20, CLIENT_MAX = 64 };

/* "1,8,2k" or "none": up to WK_BENCH_LIST numbers of low .. high. */
static wick_status read_list(wk_bench_list *out, const char *name, const char *text, int32_t low,
                             int32_t high, wick_error *err) {
    *out = (wk_bench_list){0};
    if (strcmp(text, "none") == 0) return WICK_OK;
    for (const char *p = text;;) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (errno || end == p || (*p < '0' || *p > '9')) break;
        if (*end == 'k' || *end == 'K') {
            v = v > POS_MAX ? v : v * 1024;
            end++;
        }
        if (v < low || v > high)
            return wk_fail(err, WICK_E_ARG, "--%s is %s, its numbers must lie in %d .. %d", name,
                           wk_show(wk_cstr(text)).text, (int)low, (int)high);
        if (out->n == WK_BENCH_LIST)
            return wk_fail(err, WICK_E_ARG, "--%s has more than %d numbers", name,
                           (int)WK_BENCH_LIST);
        out->v[out->n++] = (int32_t)v;
        if (*end == 0) return WICK_OK;
        if (*end != ',') break;
        p = end + 1;
    }
    return wk_fail(err, WICK_E_ARG,
                   "--%s wants numbers such as 1,8,2k or the word none, found \"%s\"", name,
                   wk_show(wk_cstr(text)).text);
}

static wick_status read_only(unsigned *out, const char *text, wick_error *err) {
    static const char *const words[] = {"prefill", "decode", "batch", "answer", "load"};
    for (const char *p = text; *p;) {
        const size_t n = strcspn(p, ",");
        unsigned bit = 0;
        for (size_t i = 0; i < WK_COUNT(words); i++)
            if (strlen(words[i]) == n && strncmp(words[i], p, n) == 0) bit = 1U << i;
        if (!bit)
            return wk_fail(err, WICK_E_ARG,
                           "--only wants some of prefill,decode,batch,answer,load, found \"%s\"",
                           wk_show(wk_cstr(text)).text);
        *out |= bit;
        p += n + (p[n] == ',');
    }
    return WICK_OK;
}

static const char *text_of(const wk_args *a, wk_arg_id id, const char *otherwise) {
    return a->v[id].given ? a->v[id].s : otherwise;
}

/* --json and --jsonl are what they are everywhere; -o says more. */
static int format_of(const wk_args *a) {
    static const int format[] = {WK_BENCH_MD, WK_BENCH_CSV, WK_BENCH_JSON, WK_BENCH_JSONL,
                                 WK_BENCH_SVG};
    if (wk_flag(a, WK_ARG_JSONL)) return WK_BENCH_JSONL;
    if (wk_flag(a, WK_ARG_JSON)) return WK_BENCH_JSON;
    return format[a->v[WK_ARG_OUTPUT].i];
}

wick_status wk_wish_read(wk_bench_wish *w, const wk_args *a, wick_error *err) {
    const bool peers = a->v[WK_ARG_AGAINST].given;
    *w = (wk_bench_wish){.tg = 128, .reps = 5, .rounds = 15};
    WK_TRY(read_list(&w->pp, "pp", text_of(a, WK_ARG_PP, peers ? "512" : "1,8,32,128,512"), 1,
                     POS_MAX, err));
    WK_TRY(read_list(&w->depth, "depth", text_of(a, WK_ARG_DEPTH, peers ? "0" : "0,2k,8k"), 0,
                     POS_MAX, err));
    WK_TRY(read_list(&w->clients, "clients", text_of(a, WK_ARG_CLIENTS, "1,2,4,8"), 1, CLIENT_MAX,
                     err));
    if (a->v[WK_ARG_TG].given) w->tg = (int32_t)a->v[WK_ARG_TG].i;
    if (a->v[WK_ARG_REPS].given) w->reps = (int)a->v[WK_ARG_REPS].i;
    if (a->v[WK_ARG_ROUNDS].given) w->rounds = (int)a->v[WK_ARG_ROUNDS].i;
    w->noise = (int)a->v[WK_ARG_NOISE].i;
    if (a->v[WK_ARG_ONLY].given) WK_TRY(read_only(&w->only, a->v[WK_ARG_ONLY].s, err));
    if (!w->only)
        w->only = WK_ONLY_PREFILL | WK_ONLY_DECODE | WK_ONLY_BATCH | WK_ONLY_ANSWER | WK_ONLY_LOAD;
    if (a->v[WK_ARG_SOAK].given) WK_TRY(wk_args_time(&w->soak, "soak", a->v[WK_ARG_SOAK].s, err));
    w->format = format_of(a);
    WK_TRY(wk_device_list(w, a->v[WK_ARG_BENCH_DEVICE].s, err));
    if (w->devices && peers)
        return wk_fail(err, WICK_E_ARG, "--device compares devices of this program, --against other programs: one of them");
    return WICK_OK;
}

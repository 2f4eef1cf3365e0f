/* bench_machine.c: where and with what it was measured; a number without that is none. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "engine/app/bench_impl.h"
#include "engine/base/err.h"
#include "engine/base/hash.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum { HASHED_BYTES = 16 << 20 };

/* The value behind the first line that begins with key, of a text like /proc/cpuinfo. */
static bool value_of(const char *text, const char *key, char *out, size_t cap) {
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, key, strlen(key)) != 0) continue;
        const char *p = strchr(line, ':');
        if (!p) return false;
        for (p++; *p == ' '; p++) continue;
        (void)snprintf(out, cap, "%.90s", wk_show((wk_str){p, strcspn(p, "\n")}).text);
        return *out != 0;
    }
    return false;
}

static void put_cpu(wk_bench_machine *m) {
    char text[4096] = "";
    (void)wk_os_read_small("/proc/cpuinfo", text, sizeof(text)); /* "" is an answer */
    if (value_of(text, "model name", m->cpu, sizeof(m->cpu))) return;
    if (wk_os_read_small("/sys/firmware/devicetree/base/model", text, sizeof(text)) > 0)
        (void)snprintf(m->cpu, sizeof(m->cpu), "%.90s", wk_show(wk_cstr(text)).text);
    else
        (void)snprintf(m->cpu, sizeof(m->cpu), "unknown CPU");
}

static void put_threads(wk_bench_machine *m, int asked) {
    int n_core = 1, n_affinity = 1, n_thread = 1;
    double quota = 0;
    char limit[48] = "no cgroup quota";
    (void)wick_x_machine(&n_core, &n_affinity, &quota, &n_thread, m->levels,
                         sizeof(m->levels)); /* cannot fail */
    m->n_thread = asked ? asked : n_thread;
    if (quota > 0) (void)snprintf(limit, sizeof(limit), "cgroup quota %.1f", quota);
    (void)snprintf(m->threads, sizeof(m->threads), "%d (%s: %d physical cores, affinity %d, %s)",
                   m->n_thread, asked ? "as asked" : "by default", n_core, n_affinity, limit);
}

/* What others were doing when we began: on a busy machine every figure is too low. */
static void put_load(wk_bench_machine *m) {
    char text[96] = "";
    if (wk_os_read_small("/proc/loadavg", text, sizeof(text)) <= 0) return;
    (void)snprintf(m->load, sizeof(m->load), "%.*s runnable in the minute before",
                   (int)(strcspn(text, " ") & 15), text);
}

void wk_machine_block(wk_bench *b) {
    wk_bench_machine *m = &b->machine;
    struct utsname u;
    const wk_args *a = b->args;
    put_cpu(m);
    put_load(m);
    put_threads(m, (int)a->v[WK_ARG_THREADS].i);
    const char *best = strrchr(m->levels, ',');
    (void)snprintf(m->level, sizeof(m->level), "%.31s",
                   a->v[WK_ARG_CPU].s ? a->v[WK_ARG_CPU].s
                   : best             ? best + 1
                                      : m->levels);
    char *governor = m->governor;
    if (wk_os_read_small("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor,
                         sizeof(m->governor)) > 0)
        governor[strcspn(governor, "\n")] = 0;
    else
        (void)snprintf(governor, sizeof(m->governor), "not visible here");
    if (uname(&u) == 0)
        (void)snprintf(m->kernel, sizeof(m->kernel), "%.24s %.60s", u.sysname, u.release);
#if defined(__clang__)
    const char *compiler = "clang";
    const int major = __clang_major__;
#else
    const char *compiler = "gcc";
    const int major = __GNUC__;
#endif
    (void)snprintf(m->build, sizeof(m->build), "wick %d.%d.%d arithmetic %d, %s %d",
                   WICK_VERSION_MAJOR, WICK_VERSION_MINOR, WICK_VERSION_PATCH, WICK_ARITH, compiler,
                   major);
}

wick_status wk_machine_model(wk_bench *b, wick_error *err) {
    wk_bench_machine *m = &b->machine;
    wk_map_file file = {0};
    const char *path = b->args->model_path, *slash = strrchr(path, '/');
    WK_TRY(wk_os_map(&file, path, err));
    const wk_hash h =
        wk_hash_bytes((wk_hash){0}, file.p, file.n < HASHED_BYTES ? file.n : HASHED_BYTES);
    m->model_bytes = file.n;
    wk_os_unmap(&file);
    (void)snprintf(m->hash, sizeof(m->hash), "%016llx%016llx", (unsigned long long)h.hi,
                   (unsigned long long)h.lo);
    (void)snprintf(m->model, sizeof(m->model), "%s",
                   wk_show(wk_cstr(slash ? slash + 1 : path)).text);
    return WICK_OK;
}

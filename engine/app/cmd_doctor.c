/* cmd_doctor.c: what this machine gives, each line with what is wanted and what would mend it. */
#include <stdio.h>
#include <string.h>

#include "engine/app/cmd.h"
#include "engine/app/emit.h"
#include "engine/base/err.h"
#include "engine/base/json.h"
#include "engine/base/os.h"
#include "engine/wick_x.h"

enum { PROBE_BYTES = 256 << 20 };

typedef struct doctor {
    wk_emit *e;
    int n_wrong, n_better; /* broken; could be improved */
    bool first;
} doctor;

/* One line: name, found; and, where something is to be wished, wanted and fix. */
static void row(doctor *d, const char *name, const char *found, const char *wanted, const char *fix) {
    wk_buf *b = &d->e->line;
    if (wanted) d->n_better++;
    if (d->e->mode == WK_EMIT_TEXT) {
        (void)wk_buf_addf(b, "%-16s %s\n", name, found); /* failure stays in b */
        if (wanted) (void)wk_buf_addf(b, "%-16s   wanted: %s; %s\n", "", wanted, fix);
        return;
    }
    (void)wk_buf_adds(b, d->first ? "" : ",");
    d->first = false;
    const char *const part[][2] = {{"name", name}, {"found", found}, {"wanted", wanted}, {"fix", fix}};
    for (size_t i = 0; i < WK_COUNT(part); i++) {
        if (!part[i][1] || (i == 3 && !wanted)) continue;
        (void)wk_buf_addf(b, "%s\"%s\":", i ? "," : "{", part[i][0]);
        wk_json_put_str(b, wk_cstr(part[i][1]));
    }
    (void)wk_buf_adds(b, "}");
}

/* First line of a file of /sys or /proc; false if it cannot be read. */
static bool read_line(const char *path, char *out, size_t cap) {
    const int64_t n = wk_os_read_small(path, out, cap);
    if (n <= 0) return false;
    out[strcspn(out, "\n")] = 0;
    return true;
}

static void put_cpu(doctor *d, const char *levels, int n_core, int n_affinity, double quota, int n_thread) {
    char text[160];
    const char *best = strrchr(levels, ',');
    (void)snprintf(text, sizeof(text), "%s (this CPU runs: %s)", best ? best + 1 : levels, levels);
    row(d, "level", text, strcmp(levels, "ref") == 0 ? "a vector level" : NULL, "this CPU has none that wick knows; answers are slow");
    if (quota > 0)
        (void)snprintf(text, sizeof(text), "%d (%d physical cores, affinity %d, cgroup quota %.1f)", n_thread, n_core, n_affinity, quota);
    else
        (void)snprintf(text, sizeof(text), "%d (%d physical cores, affinity %d, no cgroup quota)", n_thread, n_core, n_affinity);
    const bool short_quota = quota > 0 && quota < n_core;
    row(d, "threads", text, short_quota ? "a quota of all cores" : NULL, "raise cpu.max of the cgroup");
}

static void put_memory(doctor *d) {
    uint64_t free = 0, limit = 0;
    char text[96], line[128];
    (void)wick_x_memory(&free, &limit); /* both out parameters are given */
    if (limit)
        (void)snprintf(text, sizeof(text), "%.1f GB available, cgroup limit %.1f GB", (double)free / 1e9, (double)limit / 1e9);
    else
        (void)snprintf(text, sizeof(text), "%.1f GB available, no cgroup limit", (double)free / 1e9);
    row(d, "memory", text, NULL, NULL);
    if (!read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line)))
        row(d, "huge pages", "unknown: the kernel does not say", NULL, NULL);
    else
        row(d, "huge pages", line, strstr(line, "[never]") ? "[madvise]" : NULL,
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
    if (!read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", line, sizeof(line)))
        row(d, "governor", "not visible here", NULL, NULL);
    else
        row(d, "governor", line, strcmp(line, "powersave") == 0 ? "performance" : NULL, "cpupower frequency-set -g performance");
}

static wick_status put_bandwidth(doctor *d, int n_thread, wick_error *err) {
    char text[96];
    double one = 0, all = 0;
    WK_TRY(wick_x_bandwidth(1, PROBE_BYTES, &one, err));
    WK_TRY(wick_x_bandwidth(n_thread, PROBE_BYTES, &all, err));
    (void)snprintf(text, sizeof(text), "%.1f GB/s with 1 thread, %.1f GB/s with %d", one / 1e9, all / 1e9, n_thread);
    row(d, "read bandwidth", text, NULL, NULL);
    return WICK_OK;
}

static wick_status put_selftest(doctor *d, const char *levels, wick_error *err) {
    char list[128], name[64], text[256], wrong[160];
    (void)snprintf(list, sizeof(list), "%s", levels);
    for (char *save = NULL, *l = strtok_r(list, ",", &save); l; l = strtok_r(NULL, ",", &save)) {
        uint64_t n = 0;
        WK_TRY(wick_x_selftest(l, &n, wrong, sizeof(wrong), err));
        (void)snprintf(name, sizeof(name), "test %s", l);
        if (wrong[0]) d->n_wrong++;
        if (wrong[0])
            (void)snprintf(text, sizeof(text), "%s differ from plain C", wrong);
        else
            (void)snprintf(text, sizeof(text), "%llu kernels equal plain C, bit for bit", (unsigned long long)n);
        row(d, name, text, wrong[0] ? "no difference" : NULL, "please report it; --cpu with a lower level avoids it");
    }
    return WICK_OK;
}

static void put_device(void *ud, const wick_x_device *v) {
    doctor *d = ud;
    char text[512], name[80];
    (void)snprintf(name, sizeof(name), "%.79s", v->spec);
    if (v->why[0]) {
        (void)snprintf(text, sizeof(text), "%s", v->why);
        row(d, name, text, NULL, NULL); /* a computer without a GPU is a whole one */
        return;
    }
    (void)snprintf(text, sizeof(text), "%s, %s, %.1f of %.1f GB free (--device %s uses it)", v->name, v->driver,
                   (double)v->mem_free / 1e9, (double)v->mem_total / 1e9, name);
    row(d, name, text, NULL, NULL);
    (void)snprintf(text, sizeof(text),
                   "reads %.0f GB/s, copies %.1f GB/s there, %.1f GB/s back, %.0f T int8 and %.0f T f16 operations/s",
                   v->read_rate / 1e9, v->put_rate / 1e9, v->get_rate / 1e9, v->int8_rate / 1e12, v->f16_rate / 1e12);
    (void)snprintf(name, sizeof(name), "%.70s rates", v->spec);
    row(d, name, text, NULL, NULL);
}

static wick_status examine(doctor *d, const wk_args *a, wick_error *err) {
    char levels[128] = "";
    int n_core = 1, n_affinity = 1, n_thread = 1;
    double quota = 0;
    WK_TRY(wick_x_machine(&n_core, &n_affinity, &quota, &n_thread, levels, sizeof(levels)));
    if (a->v[WK_ARG_THREADS].given) n_thread = (int)a->v[WK_ARG_THREADS].i;
    put_cpu(d, levels, n_core, n_affinity, quota, n_thread);
    put_memory(d);
    WK_TRY(put_bandwidth(d, n_thread, err));
    WK_TRY(wick_x_devices(NULL, 1, put_device, d, err));
    return put_selftest(d, levels, err);
}

int wk_cmd_doctor(wk_args *a) {
    wick_error err = {0};
    wk_emit e;
    doctor d = {.e = &e, .first = true};
    wk_emit_init(&e, a);
    if (e.mode != WK_EMIT_TEXT) {
        wk_emit_begin(&e, "done");
        wk_emit_key(&e, "lines");
        (void)wk_buf_adds(&e.line, "[");
    }
    const wick_status rc = examine(&d, a, &err);
    if (!rc && e.mode == WK_EMIT_TEXT) {
        if (!e.line.failed) (void)wk_out_write(&e.out, e.line.p, e.line.n); /* kept in out.error */
    } else if (!rc) {
        (void)wk_buf_adds(&e.line, "]");
        wk_emit_done(&e);
    }
    return wk_emit_finish(&e, rc, &err, d.n_wrong ? 1 : wk_flag(a, WK_ARG_STRICT) && d.n_better ? 7 : 0);
}

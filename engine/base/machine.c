/* machine.c: CPUs and memory that this process may use: affinity mask, cores, cgroup limits of the
 * process's group and of all above it (v1 and v2), read from /proc and /sys below a root of choice.
 *
 * Where cores are of several kinds the default team has the fast ones only. Decoding waits for memory, which those
 * few take up alone; and each of the 150 barriers of a token waits for the slowest thread.
 *
 * Every one of these files can be absent or odd in some container; what cannot be read does not limit. */
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/machine_impl.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum { PATH_CAP = 4096, TEXT_CAP = 64 * 1024, MAX_DEPTH = 64 };
#define V1_NO_LIMIT ((uint64_t)1 << 60) /* cgroup v1 writes a huge page count for "none" */

/* ---- small parsers ----------------------------------------------------------------------------- */

/* An unsigned number at *p; moves *p behind it. False when there is none or it is too big. */
bool wk_read_u64(const char **p, uint64_t *out) {
    const char *s = *p;
    uint64_t v = 0;
    if (*s < '0' || *s > '9') return false;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return false;
    }
    *p = s;
    *out = v;
    return true;
}

bool wk_read_below(char *buf, size_t cap, const char *root, const char *path, const char *name) {
    char full[PATH_CAP];
    const int n = snprintf(full, sizeof(full), "%s%s%s", root, path, name);
    return n > 0 && (size_t)n < sizeof(full) && wk_os_read_small(full, buf, cap) >= 0;
}

static bool read_number(uint64_t *out, const char *root, const char *path, const char *name) {
    char text[64];
    const char *p = text;
    return wk_read_below(text, sizeof(text), root, path, name) && wk_read_u64(&p, out);
}

/* The number behind "key " at the start of a line. */
static bool find_number(const char *text, const char *key, uint64_t *out) {
    const size_t n = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, key, n)) continue;
        const char *p = line + n;
        while (*p == ' ' || *p == '\t') p++;
        if (p > line + n && wk_read_u64(&p, out)) return true;
    }
    return false;
}

/* ---- cgroups ----------------------------------------------------------------------------------- */

/* One hierarchy: where it is mounted, what part of it is mounted there, and the controller wanted
 * ("" = version 2, which has them all). */
typedef struct cgroup_at {
    const char *controller;
    char mount[PATH_CAP / 4], base[PATH_CAP / 4], group[PATH_CAP / 4];
} cgroup_at;

/* Copies up to the first of the stop characters; false if it does not fit. */
static bool copy_until(char *dst, size_t cap, const char *s, const char *stop) {
    const size_t n = strcspn(s, stop);
    if (n >= cap) return false;
    memcpy(dst, s, n);
    dst[n] = '\0';
    return true;
}

/* Is word one of the comma-separated words of list? */
static bool has_word(wk_str list, const char *word) {
    while (list.n) {
        const char *comma = (const char *)memchr(list.p, ',', list.n);
        const size_t n = comma ? (size_t)(comma - list.p) : list.n;
        if (wk_str_is((wk_str){list.p, n}, word)) return true;
        list.p += comma ? n + 1 : n;
        list.n -= comma ? n + 1 : n;
    }
    return false;
}

/* A line of mountinfo: id parent dev root mountpoint options [tags] - type source super-options. */
static bool read_mount(cgroup_at *c, const char *line) {
    const char *f[5];
    f[0] = line;
    for (int i = 1; i < 5; i++) {
        f[i] = strchr(f[i - 1], ' ');
        if (!f[i]++) return false;
    }
    const char *end = line + strcspn(line, "\n"), *tail = strstr(f[4], " - ");
    if (!tail || tail > end) return false;
    const bool v2 = c->controller[0] == '\0';
    if (strncmp(tail + 3, v2 ? "cgroup2 " : "cgroup ", v2 ? 8 : 7)) return false;
    const char *super = end;
    while (super > tail && super[-1] != ' ') super--;
    if (!v2 && !has_word((wk_str){super, (size_t)(end - super)}, c->controller)) return false;
    return copy_until(c->base, sizeof(c->base), f[3], " ") &&
           copy_until(c->mount, sizeof(c->mount), f[4], " ");
}

/* A line of /proc/self/cgroup: id:controllers:path; version 2 has no controllers. */
static bool read_group(cgroup_at *c, const char *line) {
    const char *list = strchr(line, ':');
    const char *path = list ? strchr(list + 1, ':') : NULL;
    if (!path) return false;
    const wk_str words = {list + 1, (size_t)(path - list - 1)};
    if (c->controller[0] ? !has_word(words, c->controller) : words.n != 0) return false;
    return copy_until(c->group, sizeof(c->group), path + 1, "\n");
}

static bool first_line(cgroup_at *c, const char *text, bool (*fn)(cgroup_at *, const char *)) {
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (*line && fn(c, line)) return true;
    }
    return false;
}

/* Path of the group below the mount point. A container sees the host's path or its own: what is mounted
 * (base) goes off the front; a group outside of what is mounted is taken for the mount itself. */
static const char *below_mount(const cgroup_at *c) {
    const size_t n = strlen(c->base);
    if (n <= 1) return strstr(c->group, "/..") ? "" : c->group;
    if (strncmp(c->group, c->base, n) || (c->group[n] && c->group[n] != '/')) return "";
    return c->group + n;
}

static void read_cpu_limit(wk_machine *m, const char *root, const char *dir, bool v2) {
    uint64_t quota = 0, period = 0;
    if (v2) {
        char text[64];
        const char *p = text;
        if (!wk_read_below(text, sizeof(text), root, dir, "/cpu.max") || !wk_read_u64(&p, &quota)) return;
        while (*p == ' ') p++;
        if (!wk_read_u64(&p, &period)) return;
    } else if (!read_number(&quota, root, dir, "/cpu.cfs_quota_us") ||
               !read_number(&period, root, dir, "/cpu.cfs_period_us")) {
        return; /* -1 is no number: no quota */
    }
    if (!quota || !period) return;
    const double cpus = (double)quota / (double)period;
    if (m->quota == 0.0 || cpus < m->quota) m->quota = cpus;
}

static void read_mem_limit(wk_machine *m, const char *root, const char *dir, bool v2) {
    uint64_t max, now = 0, idle = 0;
    if (!read_number(&max, root, dir, v2 ? "/memory.max" : "/memory.limit_in_bytes")) return;
    if (max >= V1_NO_LIMIT) return;
    if (m->mem_cgroup == 0 || max < m->mem_cgroup) m->mem_cgroup = max;
    (void)read_number(&now, root, dir,
                      v2 ? "/memory.current" : "/memory.usage_in_bytes"); /* or 0 */
    char text[8192];
    if (wk_read_below(text, sizeof(text), root, dir, "/memory.stat"))
        (void)find_number(text, v2 ? "inactive_file" : "total_inactive_file", &idle); /* or 0 */
    const uint64_t used = now > idle ? now - idle : 0, free = max > used ? max - used : 0;
    if (free < m->mem_free) m->mem_free = free;
}

typedef void read_limit_fn(wk_machine *m, const char *root, const char *dir, bool v2);

/* Reads the limit of the group and of every group above it, up to the mount point. */
static void climb(wk_machine *m, const char *root, const cgroup_at *c, read_limit_fn *read_limit) {
    char dir[PATH_CAP / 2];
    const int n = snprintf(dir, sizeof(dir), "%s%s", c->mount, below_mount(c));
    if (n < 0 || (size_t)n >= sizeof(dir)) return;
    const size_t top = strlen(c->mount);
    size_t at = (size_t)n;
    for (int i = 0; i < MAX_DEPTH; i++) {
        while (at > top && dir[at - 1] == '/') at--;
        dir[at] = '\0';
        read_limit(m, root, dir, c->controller[0] == '\0');
        if (at <= top) return;
        while (at > top && dir[at - 1] != '/') at--;
    }
}

typedef struct cgroup_text {
    char mounts[TEXT_CAP], groups[TEXT_CAP / 4];
} cgroup_text;

static void read_controller(wk_machine *m, const char *root, const cgroup_text *t,
                            const char *controller, read_limit_fn *read_limit) {
    cgroup_at c = {.controller = controller};
    if (!first_line(&c, t->groups, read_group) || !first_line(&c, t->mounts, read_mount)) return;
    climb(m, root, &c, read_limit);
}

static void read_cgroups(wk_machine *m, const char *root) {
    cgroup_text *t = wk_new(cgroup_text);
    if (!t) return;
    if (wk_read_below(t->mounts, sizeof(t->mounts), root, "/proc/self/", "mountinfo") &&
        wk_read_below(t->groups, sizeof(t->groups), root, "/proc/self/", "cgroup")) {
        read_controller(m, root, t, "", read_cpu_limit); /* both versions may be mounted at once */
        read_controller(m, root, t, "cpu", read_cpu_limit);
        read_controller(m, root, t, "", read_mem_limit);
        read_controller(m, root, t, "memory", read_mem_limit);
    }
    wk_free(t);
}

/* ---- all of it --------------------------------------------------------------------------------- */

static void read_memory(wk_machine *m, const char *root) {
    char text[8192];
    uint64_t kib = 0;
    m->mem_free = UINT64_MAX;
    if (wk_read_below(text, sizeof(text), root, "/proc/", "meminfo") &&
        find_number(text, "MemAvailable:", &kib) && kib < UINT64_MAX / 1024)
        m->mem_free = kib * 1024;
}

void wk_os_machine_at(wk_machine *m, const char *root, const uint64_t *mask, size_t n_word) {
    *m = (wk_machine){0};
    wk_cpu_mask own = {0};
    if (mask) {
        own.word = wk_new_n(uint64_t, n_word);
        own.n = own.word ? n_word : 0;
        if (own.word) memcpy(own.word, mask, n_word * sizeof(uint64_t));
    }
    if (mask || wk_cpu_mask_get(&own)) wk_cpus_count(m, root, &own);
    wk_free(own.word);
    if (m->n_affinity == 0) m->n_affinity = 1;
    if (m->n_core == 0) m->n_core = 1;
    read_memory(m, root);
    read_cgroups(m, root);
    if (m->n_fast == 0) m->n_fast = m->n_core;
    m->n_thread = m->n_fast;
    if (m->quota > 0.0 && m->quota < (double)m->n_fast) m->n_thread = (int)m->quota;
    if (m->n_thread < 1) m->n_thread = 1;
}

void wk_os_machine(wk_machine *m) { wk_os_machine_at(m, "", NULL, 0); }

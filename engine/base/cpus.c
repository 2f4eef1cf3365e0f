/* cpus.c: the CPUs of an affinity mask: cores, kinds of cores, NUMA nodes, and those that a team is bound to. */
#include "engine/base/cpus.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/machine_impl.h"
#include "engine/base/str.h"

/* ---- masks and lists --------------------------------------------------------------------------- */

static bool mask_has(const wk_cpu_mask *m, uint64_t cpu) {
    return cpu / 64 < m->n && (m->word[cpu / 64] >> (cpu % 64) & 1u);
}

/* Grows until the kernel accepts the size: there are machines with more CPUs than cpu_set_t holds. */
bool wk_cpu_mask_get(wk_cpu_mask *m) {
    for (size_t n = 16; n <= 4096; n *= 2) {
        m->word = wk_new_n(uint64_t, n);
        if (!m->word) return false;
        m->n = n;
        if (sched_getaffinity(0, n * sizeof(uint64_t), (cpu_set_t *)(void *)m->word) == 0)
            return true;
        wk_free(m->word);
        m->word = NULL;
        if (errno != EINVAL) return false;
    }
    return false;
}

typedef struct cpu_range {
    uint64_t a, b;
} cpu_range;

/* The next range of a list such as "0-3,8"; moves *p behind it. False: none, or junk. */
static bool next_range(const char **p, cpu_range *r) {
    if (**p == ',') (*p)++;
    if (!wk_read_u64(p, &r->a)) return false;
    r->b = r->a;
    if (**p != '-') return true;
    (*p)++;
    return wk_read_u64(p, &r->b);
}

static bool read_cpu_file(char *buf, size_t cap, const char *root, uint64_t cpu, const char *name) {
    char path[96];
    (void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%llu/%s",
                   (unsigned long long)cpu, name); /* 89 bytes at most */
    return wk_read_below(buf, cap, root, path, "");
}

/* A core is counted at the first of its siblings that is in the mask. */
static bool is_first_sibling(const wk_cpu_mask *m, const char *root, uint64_t cpu) {
    char text[1024];
    const char *p = text;
    cpu_range r;
    if (!read_cpu_file(text, sizeof(text), root, cpu, "topology/thread_siblings_list")) return true;
    while (next_range(&p, &r)) {
        for (uint64_t c = r.a; c <= r.b && c < cpu; c++)
            if (mask_has(m, c)) return false;
    }
    return true;
}

/* ---- kinds of cores: Arm tells how much each CPU does, x86 which are not the small ones -------- */

typedef struct cpu_kinds {
    uint64_t capacity_max; /* of the mask, 0 = not told */
    char big[1024]; /* list of the performance cores, "" = not told, or none of them in the mask */
} cpu_kinds;

static uint64_t capacity_of(const char *root, uint64_t cpu) {
    char text[64];
    const char *p = text;
    uint64_t v = 0;
    if (!read_cpu_file(text, sizeof(text), root, cpu, "cpu_capacity") || !wk_read_u64(&p, &v))
        return 0;
    return v < UINT32_MAX ? v : 0;
}

static bool list_has(const char *list, uint64_t cpu) {
    cpu_range r;
    while (next_range(&list, &r))
        if (r.a <= cpu && cpu <= r.b) return true;
    return false;
}

static void read_kinds(cpu_kinds *k, const char *root, const wk_cpu_mask *mask) {
    bool any_big = false;
    *k = (cpu_kinds){0};
    (void)wk_read_below(k->big, sizeof(k->big), root, "/sys/devices/cpu_core/", "cpus"); /* or "" */
    for (uint64_t cpu = 0; cpu < 64 * mask->n; cpu++) {
        if (!mask_has(mask, cpu)) continue;
        const uint64_t c = capacity_of(root, cpu);
        if (c > k->capacity_max) k->capacity_max = c;
        any_big |= list_has(k->big, cpu);
    }
    if (!any_big) k->big[0] = '\0';
}

/* At least two thirds of the largest; a CPU that tells nothing is one of the fast ones. */
static bool is_fast(const cpu_kinds *k, const char *root, uint64_t cpu) {
    if (k->big[0] && !list_has(k->big, cpu)) return false;
    if (!k->capacity_max) return true;
    const uint64_t c = capacity_of(root, cpu);
    return c == 0 || 3 * c >= 2 * k->capacity_max;
}

void wk_cpus_count(wk_machine *m, const char *root, const wk_cpu_mask *mask) {
    cpu_kinds kinds;
    read_kinds(&kinds, root, mask);
    for (uint64_t cpu = 0; cpu < 64 * mask->n; cpu++) {
        if (!mask_has(mask, cpu)) continue;
        m->n_affinity++;
        if (!is_first_sibling(mask, root, cpu)) continue;
        m->n_core++;
        m->n_fast += is_fast(&kinds, root, cpu);
    }
}

/* ---- nodes ------------------------------------------------------------------------------------- */

static bool node_is_used(const wk_cpu_mask *mask, const char *root, uint64_t node, char *list, size_t cap) {
    char path[96];
    (void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%llu/cpulist",
                   (unsigned long long)node); /* 70 bytes at most */
    if (!wk_read_below(list, cap, root, path, "")) return false;
    list[strcspn(list, "\n")] = '\0';
    cpu_range r;
    for (const char *p = list; next_range(&p, &r);)
        for (uint64_t cpu = r.a; cpu <= r.b && cpu < 64 * mask->n; cpu++)
            if (mask_has(mask, cpu)) return true;
    return false;
}

int wk_os_nodes_at(char *text, size_t cap, const char *root, const uint64_t *word, size_t n_word) {
    char online[1024], list[1024];
    wk_cpu_mask mask = {0};
    int n = 0;
    size_t at = 0;
    if (cap) text[0] = '\0';
    if (!word && !wk_cpu_mask_get(&mask)) return 1;
    const wk_cpu_mask given = {(uint64_t *)(uintptr_t)word, n_word}, *m = word ? &given : &mask;
    cpu_range r;
    if (!wk_read_below(online, sizeof(online), root, "/sys/devices/system/node/online", "")) online[0] = '\0';
    for (const char *p = online; next_range(&p, &r);)
        for (uint64_t node = r.a; node <= r.b && node < 4096; node++) {
            if (!node_is_used(m, root, node, list, sizeof(list))) continue;
            const int got = at < cap ? snprintf(text + at, cap - at, "%s%llu: CPUs %s", n ? ", " : "",
                                                (unsigned long long)node, list)
                                     : 0;
            at += got > 0 ? (size_t)got : 0;
            n++;
        }
    wk_free(mask.word);
    return n ? n : 1;
}

int wk_os_nodes(char *text, size_t cap) { return wk_os_nodes_at(text, cap, "", NULL, 0); }

/* ---- choosing ---------------------------------------------------------------------------------- */

/* "0-3,8" of a mask, for messages. */
static void show_mask(char *text, size_t cap, const wk_cpu_mask *m) {
    size_t at = 0;
    text[0] = '\0';
    for (uint64_t cpu = 0; cpu < 64 * m->n && at + 48 < cap; cpu++) {
        if (!mask_has(m, cpu)) continue;
        uint64_t end = cpu;
        while (mask_has(m, end + 1)) end++;
        const int n = end > cpu ? snprintf(text + at, cap - at, "%s%llu-%llu", at ? "," : "", (unsigned long long)cpu,
                                           (unsigned long long)end)
                                : snprintf(text + at, cap - at, "%s%llu", at ? "," : "", (unsigned long long)cpu);
        at += n > 0 ? (size_t)n : 0;
        cpu = end;
    }
}

/* Bits of the list into chosen; every one of them must be in allowed. */
static int read_list(wk_cpu_mask *chosen, const char *list, const wk_cpu_mask *allowed, wk_err *err) {
    char text[256];
    const char *p = list;
    cpu_range r;
    while (next_range(&p, &r)) {
        for (uint64_t cpu = r.a; cpu <= r.b; cpu++) {
            if (!mask_has(allowed, cpu)) {
                show_mask(text, sizeof(text), allowed);
                return wk_fail(err, WICK_E_ARG, "CPU %llu is not one of those that this process may use (%s)",
                               (unsigned long long)cpu, text);
            }
            chosen->word[cpu / 64] |= (uint64_t)1 << (cpu % 64);
        }
        if (!*p) return WICK_OK;
        if (*p != ',') break;
    }
    return wk_fail(err, WICK_E_ARG, "\"%s\" is no list of CPUs such as 0-3,8", wk_show(wk_cstr(list)).text);
}

enum { FAST_CORES, SLOW_CORES, SIBLINGS, CLASSES };

static int class_of(const wk_cpu_mask *m, const cpu_kinds *kinds, const char *root, uint64_t cpu) {
    if (!is_first_sibling(m, root, cpu)) return SIBLINGS;
    return is_fast(kinds, root, cpu) ? FAST_CORES : SLOW_CORES;
}

static int put_in_order(int32_t *out, int32_t *n, int32_t cap, const wk_cpu_mask *m, const char *root, wk_err *err) {
    cpu_kinds kinds;
    read_kinds(&kinds, root, m);
    *n = 0;
    for (int class = 0; class < CLASSES; class++)
        for (uint64_t cpu = 0; cpu < 64 * m->n; cpu++) {
            if (!mask_has(m, cpu) || class_of(m, &kinds, root, cpu) != class) continue;
            if (*n == cap) return wk_fail(err, WICK_E_ARG, "more than %d CPUs to bind threads to", (int)cap);
            out[(*n)++] = (int32_t)cpu;
        }
    return *n ? WICK_OK : wk_fail(err, WICK_E_ARG, "there is no CPU to bind a thread to");
}

int wk_cpus_choose_at(int32_t *out, int32_t *n, int32_t cap, const char *list, const char *root, const uint64_t *word,
                      size_t n_word, wk_err *err) {
    const wk_cpu_mask allowed = {(uint64_t *)(uintptr_t)word, n_word};
    if (!list) return put_in_order(out, n, cap, &allowed, root, err);
    wk_cpu_mask chosen = {wk_new_n(uint64_t, n_word), n_word};
    if (!chosen.word) return wk_fail(err, WICK_E_NOMEM, "no memory for a set of CPUs");
    int rc = read_list(&chosen, list, &allowed, err);
    if (!rc) rc = put_in_order(out, n, cap, &chosen, root, err);
    wk_free(chosen.word);
    return rc;
}

int wk_cpus_choose(int32_t *out, int32_t *n, int32_t cap, const char *list, wk_err *err) {
    wk_cpu_mask own = {0};
    if (!wk_cpu_mask_get(&own)) return wk_fail(err, WICK_E_UNSUPPORTED, "the system does not say which CPUs may be used");
    const int rc = wk_cpus_choose_at(out, n, cap, list, "", own.word, own.n, err);
    wk_free(own.word);
    return rc;
}

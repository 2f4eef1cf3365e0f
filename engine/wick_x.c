/* wick_x.c: experimental API. */
#include "engine/wick_x.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/buf.h"
#include "engine/base/os.h"
#include "engine/file/store.h"
#include "engine/graph/plan.h"
#include "engine/run/engine.h"
#include "engine/run/probe.h"
#include "engine/text/tok.h"
#include "engine/wick_model.h"
#include "simd/format.h"
#include "simd/level.h"

wick_status wick_x_steps(const char *path, char *text, size_t cap, size_t *len, wick_error *err) {
    wk_store *s = NULL;
    wk_plan *p = NULL;
    wk_buf b;
    if (!path || !len) return wk_fail(err, WICK_E_ARG, "steps: path and len must be given");
    wk_buf_init(&b, (size_t)64 << 20);
    const wk_plan_options o = {.max_tok = 512, .max_out = 16};
    int rc = wk_store_open(&s, path, err);
    if (!rc) rc = wk_plan_build(&p, s, &o, err);
    if (!rc) {
        wk_plan_dump(p, &b);
        *len = b.n;
        if (b.failed) rc = wk_fail(err, WICK_E_NOMEM, "no memory for the step list");
        if (!rc && cap > b.n) memcpy(text, b.p, b.n + 1);
    }
    wk_buf_fini(&b);
    wk_plan_free(p);
    wk_store_close(s);
    return rc;
}

wick_status wick_x_meta(const wick_model *m, size_t i, const char **key, size_t *key_len,
                        char *value, size_t cap) {
    if (!m || i >= wk_store_meta_count(m->store)) return WICK_E_ARG;
    const wk_str k = wk_store_meta_key(m->store, i);
    *key = k.p;
    *key_len = k.n;
    (void)wk_store_meta_text(m->store, i, value, cap);
    return WICK_OK;
}

wick_status wick_x_tensor(const wick_model *m, size_t i, const char **name, size_t *name_len,
                          const char **format, uint64_t ne[4], int *n_dim, uint64_t *bytes) {
    if (!m || i >= wk_store_tensor_count(m->store)) return WICK_E_ARG;
    const wk_tensor *t = wk_store_tensor(m->store, i);
    *name = t->name.p;
    *name_len = t->name.n;
    *format = wk_formats[t->fmt].name;
    memcpy(ne, t->ne, sizeof(t->ne));
    *n_dim = t->n_dim;
    *bytes = t->bytes;
    return WICK_OK;
}

wick_status wick_x_piece(const wick_model *m, wick_token id, char *buf, size_t cap, size_t *len,
                         int *control) {
    char tmp[8];
    if (!m || !len || id < 0 || id >= wk_tok_count(m->tok)) return WICK_E_ARG;
    const wk_str s = wk_tok_piece(m->tok, id, WK_TOK_SHOW_SPECIAL, tmp);
    *len = s.n;
    if (control) *control = wk_tok_is_control(m->tok, id);
    if (cap > s.n) {
        memcpy(buf, s.p, s.n);
        buf[s.n] = 0;
    }
    return WICK_OK;
}

wick_status wick_x_machine(int *n_core, int *n_affinity, double *quota, int *n_thread, char *levels,
                           size_t cap) {
    wk_machine m;
    wk_os_machine(&m);
    *n_core = m.n_core;
    *n_affinity = m.n_affinity;
    *quota = m.quota;
    *n_thread = m.n_thread;
    size_t n = 0;
    if (cap) levels[0] = 0;
    for (int i = 0; i < wk_level_count && n < cap; i++)
        if ((wk_levels[i].mask & ~wk_cpu_detect()) == 0) {
            const int w = snprintf(levels + n, cap - n, "%s%s", n ? "," : "", wk_levels[i].name);
            n += w > 0 ? (size_t)w : 0;
        }
    return WICK_OK;
}

wick_status wick_x_memory(uint64_t *available, uint64_t *cgroup_limit) {
    wk_machine m;
    wk_os_machine(&m);
    *available = m.mem_free;
    *cgroup_limit = m.mem_cgroup;
    return WICK_OK;
}

wick_status wick_x_bandwidth(int threads, size_t bytes, double *bytes_per_s, wick_error *err) {
    wk_machine m;
    wk_os_machine(&m);
    if (!bytes_per_s || threads < 1 || threads > 1024 || bytes < (size_t)threads * 4096)
        return wk_fail(err, WICK_E_ARG, "bandwidth: %d threads over %zu bytes cannot be measured",
                       threads, bytes);
    return wk_probe_read(bytes_per_s, threads, m.n_affinity, bytes, 8, err);
}

wick_status wick_x_selftest(const char *level, uint64_t *n_compared, char *wrong, size_t cap,
                            wick_error *err) {
    wk_buf b;
    const int i = level ? wk_level_of_name(level) : -1;
    if (i < 0 || !n_compared || !wrong || !cap)
        return wk_fail(err, WICK_E_ARG, "selftest: unknown CPU level");
    if ((wk_levels[i].mask & ~wk_cpu_detect()) != 0)
        return wk_fail(err, WICK_E_ARG, "this CPU cannot run the level %s", level);
    wk_buf_init(&b, 4096);
    const int rc = wk_selftest(i, n_compared, &b, err);
    const wk_str text = wk_buf_str(&b);
    const size_t n = text.n < cap ? text.n : cap - 1;
    memcpy(wrong, text.p, n);
    wrong[n] = 0;
    wk_buf_fini(&b);
    return rc;
}

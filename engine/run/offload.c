/* offload.c: opens a device and deals the layers of a plan between it and the cpu. */
#include "engine/run/offload.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/base/log.h"
#include "engine/base/str.h"
#include "engine/cpu/cpu.h"
#include "engine/graph/part.h"
#include "engine/run/probe.h"
#include "engine/run/split.h"
#include "gpu/loader/loader.h"
#include "simd/format.h"

/* ---- parts --------------------------------------------------------------------------------------- */

static bool is_on_dev(const wk_offload *o, const wk_plan *p, int32_t unit, int32_t n) {
    if (!o->ops || !o->can[unit]) return false;
    return n >= p->n_layer || (unit >= p->n_layer - n && unit < p->n_layer);
}

static bool next_part(const wk_offload *o, const wk_plan *p, int32_t n, int32_t *unit, wk_part *part, bool *on_dev) {
    const int32_t from = *unit;
    if (from > p->n_layer) return false;
    *on_dev = is_on_dev(o, p, from, n);
    while (*unit <= p->n_layer && is_on_dev(o, p, *unit, n) == *on_dev) ++*unit;
    *part = wk_part_make(p, from, *unit);
    return true;
}

bool wk_offload_next(const wk_offload *o, const wk_plan *p, int32_t *unit, wk_part *part, bool *on_dev) {
    return next_part(o, p, o->n, unit, part, on_dev);
}

/* ---- memory -------------------------------------------------------------------------------------- */

static size_t add(size_t a, size_t b) {
    size_t n;
    return wk_add(&n, a, b) ? n : SIZE_MAX;
}

static size_t weights_of(const wk_plan *p, const wk_part *part) {
    size_t n = 0;
    for (int32_t i = 0; i < p->n_weight; i++)
        if (wk_part_uses(p, part, i)) n += (size_t)p->weight[i].n_row * p->weight[i].row_bytes;
    return n;
}

static wk_offload_need need_of(const wk_offload *o, const wk_plan *p, int32_t n, uint32_t n_page, int n_thread) {
    wk_offload_need need = {0, 0, 0, 0};
    wk_part part;
    bool on_dev;
    for (int32_t unit = 0; next_part(o, p, n, &unit, &part, &on_dev);) {
        const wk_part *some = part.n_stage == p->n_stage ? NULL : &part; /* one device runs all of it */
        if (on_dev) {
            need.dev = add(need.dev, o->ops->bytes(p, some, n_page, 0));
            if (o->ops->later) need.later = add(need.later, o->ops->later(p, some));
        } else {
            need.host = add(need.host, wk_cpu_backend()->bytes(p, some, n_page, n_thread));
            need.weights += some ? weights_of(p, some) : p->weight_bytes;
        }
        if (some) need.host = add(need.host, wk_split_bytes(p, some, 1));
    }
    return need;
}

wk_offload_need wk_offload_bytes(const wk_offload *o, const wk_plan *p, uint32_t n_page, int n_thread) {
    return need_of(o, p, o->n, n_page, n_thread);
}

/* ---- how many layers ----------------------------------------------------------------------------- */

#define COPY_S 2e-5 /* of a value between devices beside its bytes: a launch, a wait */

static void add_matrix(void *ud, const wk_plan *p, const wk_step *s) {
    double *bytes = ud;
    if (s->op != WK_OP_matmul) return;
    *bytes += (double)p->weight[s->w[0]].n_row * (double)p->weight[s->w[0]].row_bytes;
}

/* The time of one decoded token by what must be read and carried: weights / rate of the device that holds them, and
 * what crosses a border / rate of the copies. Depth and the time of computing are left out: they are small beside the
 * weights until a context is long, and then speak for the device that reads faster as well. */
static double token_seconds(const wk_offload *o, const wk_plan *p, int32_t n) {
    double s = 0;
    wk_part part;
    bool on_dev;
    for (int32_t unit = 0; next_part(o, p, n, &unit, &part, &on_dev);) {
        double bytes = 0;
        int32_t val[4], n_val = 0;
        wk_part_each(p, &part, add_matrix, &bytes);
        s += bytes / (on_dev ? o->info.read_rate : o->host_rate);
        if (wk_part_inputs(p, &part, val, 4, &n_val, NULL)) continue; /* prepare says what is wrong */
        for (int32_t i = 0; i < n_val && i < 4; i++) {
            const double rate = on_dev ? o->info.put_rate : o->info.get_rate;
            s += COPY_S + (rate > 0 ? p->val[val[i]].dim * 4.0 / rate : 0);
        }
    }
    return s;
}

/* The most layers whose bytes fit. A tenth of the memory stays free: a desktop and other programs come and go, and what
 * is free in pieces is not free for a cache. */
static int32_t most_that_fit(const wk_offload *o, const wk_plan *p, uint32_t n_page) {
    const double room = 0.9 * (double)o->info.mem_free;
    int32_t low = 0, high = p->n_layer;
    if (o->info.mem_total == 0) return high; /* the machine's own memory */
    while (low < high) {
        const int32_t mid = (low + high + 1) / 2;
        const wk_offload_need need = need_of(o, p, mid, n_page, 1);
        const size_t bytes = add(need.dev, need.later);
        if (bytes != SIZE_MAX && (double)bytes <= room)
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

void wk_offload_place(wk_offload *o, const wk_plan *p, int32_t n_layer, uint32_t n_page) {
    o->is_slower = false;
    o->n = 0;
    if (!o->ops || n_layer < 0) return;
    o->n = n_layer < p->n_layer ? n_layer : p->n_layer;
    if (n_layer != WK_OFFLOAD_AUTO) return;
    o->n = most_that_fit(o, p, n_page);
    if (o->n == 0 || o->info.read_rate <= 0 || o->host_rate <= 0) return;
    o->is_slower = token_seconds(o, p, o->n) >= token_seconds(o, p, 0);
    if (o->is_slower) o->n = 0;
}

/* ---- opening ------------------------------------------------------------------------------------- */

typedef struct ask {
    const wk_offload *o;
    bool can;
    int32_t cannot;
} ask;

static void ask_step(void *ud, const wk_plan *p, const wk_step *s) {
    ask *a = ud;
    if (!a->can || a->o->ops->can(a->o->dev, p, s)) return;
    a->can = false;
    a->cannot = (int32_t)(s - p->step);
}

static int ask_units(wk_offload *o, const wk_plan *p, wk_err *err) {
    o->can = wk_new_n(bool, (size_t)p->n_layer + 1);
    if (!o->can) return wk_fail(err, WICK_E_NOMEM, "no memory for the layers of %s", o->name);
    o->first_cannot = -1;
    for (int32_t unit = 0; unit <= p->n_layer; unit++) {
        const wk_part part = wk_part_make(p, unit, unit + 1);
        ask a = {o, true, -1};
        wk_part_each(p, &part, ask_step, &a);
        o->can[unit] = a.can;
        o->n_can += a.can && unit < p->n_layer;
        if (!a.can && o->first_cannot < 0) o->first_cannot = a.cannot;
    }
    if (o->n_can > 0) return WICK_OK;
    const wk_step *s = &p->step[o->first_cannot];
    return wk_fail(err, WICK_E_DEVICE, "%s can run no layer of this model: not %s%s%s", o->name, wk_op_name(s->op),
                   s->w[0] >= 0 ? " of " : "", s->w[0] >= 0 ? wk_formats[p->weight[s->w[0]].fmt].name : "");
}

enum { PROBE_BYTES = 128 << 20, PROBE_PASSES = 4 };

static int open_named(wk_offload *o, const wk_plan *p, const char *spec, bool measure, const wk_host *host,
                      wk_err *err) {
    int index = 0;
    WK_TRY(wk_gpu_load(&o->ops, spec, &index, err));
    (void)snprintf(o->name, sizeof(o->name), "%.32s:%d", o->ops->name, index);
    int rc = o->ops->open(&o->dev, index, host, err);
    if (rc) {
        o->dev = NULL;
        return err ? wk_fail_at(err, "%s", o->name) : rc;
    }
    rc = o->ops->info(o->dev, measure, &o->info, err);
    if (rc) return err ? wk_fail_at(err, "%s", o->name) : rc;
    WK_TRY(ask_units(o, p, err));
    if (measure && o->info.read_rate > 0 &&
        wk_probe_read(&o->host_rate, NULL, host->n_thread, host->n_cpu, PROBE_BYTES, PROBE_PASSES, NULL))
        o->host_rate = 0; /* not measured */
    return WICK_OK;
}

void wk_offload_close(wk_offload *o) {
    if (o->dev) o->ops->close(o->dev);
    wk_free(o->can);
    *o = (wk_offload){.ops = NULL};
}

int wk_offload_open(wk_offload *o, const wk_plan *p, const char *device, int32_t n_layer, const wk_host *host,
                    wk_err *err) {
    const bool any = device && strcmp(device, "auto") == 0;
    wk_err why = {0};
    int rc = WICK_OK;
    *o = (wk_offload){.ops = NULL};
    if (!device || strcmp(device, "cpu") == 0 || n_layer == WK_OFFLOAD_NONE) return WICK_OK;
    for (int i = 0; i == 0 || (any && wk_gpu_kind(i)); i++) {
        rc = open_named(o, p, any ? wk_gpu_kind(i) : device, n_layer == WK_OFFLOAD_AUTO, host, &why);
        if (!rc) return WICK_OK;
        wk_offload_close(o);
    }
    if (!any) {
        if (err) *err = why;
        return rc;
    }
    wk_log(WK_LOG_WARN, "device auto: everything runs on the cpu: %s", why.message);
    return WICK_OK;
}

/* ---- words --------------------------------------------------------------------------------------- */

static void put_parts(const wk_offload *o, const wk_plan *p, bool on_dev, wk_buf *b) {
    wk_part part;
    bool dev;
    const char *comma = "";
    for (int32_t unit = 0; wk_offload_next(o, p, &unit, &part, &dev);) {
        const int first = (int)part.layer_first, last = first + (int)part.n_layer - 1;
        if (dev != on_dev) continue;
        if (last > first)
            (void)wk_buf_addf(b, "%slayers %d to %d", comma, first, last);
        else if (last == first)
            (void)wk_buf_addf(b, "%slayer %d", comma, first);
        if (last >= first) comma = ", ";
        if (unit > p->n_layer) (void)wk_buf_addf(b, "%shead", comma);
    }
}

void wk_offload_text(const wk_offload *o, const wk_plan *p, wk_buf *out) {
    wk_part part;
    bool on_dev;
    int32_t unit = 0;
    if (!o->ops) {
        (void)wk_buf_adds(out, "cpu"); /* failure stays in out, as below */
        return;
    }
    (void)wk_buf_addf(out, "%s (%s): ", o->name, wk_show(wk_cstr(o->info.name)).text);
    if (wk_offload_next(o, p, &unit, &part, &on_dev) && unit > p->n_layer) {
        (void)wk_buf_adds(out, on_dev ? "all layers, head" : "nothing");
        return;
    }
    put_parts(o, p, true, out);
    (void)wk_buf_adds(out, "; cpu: ");
    put_parts(o, p, false, out);
}

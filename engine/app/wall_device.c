/* wall_device.c: the same two rows on a device, in the same rounds as the cpu's. Training there is not built. */
#include <stdio.h>
#include <string.h>

#include "engine/app/wall_impl.h"
#include "engine/base/err.h"

/* The cpu comes first: what is measured of it is what a device is held against. */
wick_status wk_wall_device_list(wk_wall *w, wick_error *err) {
    wk_bench_wish *x = &w->b.wish;
    WK_TRY(wk_device_list(x, w->args.v[WK_ARG_WALL_DEVICE].s, err));
    int at = 0;
    while (at < x->n_device && strcmp(x->device[at], "cpu") != 0) at++;
    if (at == x->n_device && at == WK_BENCH_DEVICES)
        return wk_fail(err, WICK_E_ARG, "--device names %d devices, wall measures %d beside the cpu", at, at - 1);
    if (at == x->n_device) x->n_device++;
    for (; at > 0; at--) memcpy(x->device[at], x->device[at - 1], sizeof(x->device[0]));
    (void)snprintf(x->device[0], sizeof(x->device[0]), "cpu");
    return WICK_OK;
}

/* Rows of the devices; the engine that is open is the cpu's. */
wick_status wk_wall_device_rows(wk_wall *w, wick_error *err) {
    wk_bench *b = &w->b;
    const unsigned only = b->wish.only;
    wick_status rc = WICK_OK;
    if (!b->wish.devices) return WICK_OK;
    wk_device_look(b);
    wk_device_keep(b, 0);
    b->wish.only = WK_ONLY_PREFILL | WK_ONLY_DECODE;
    for (int i = 1; i < b->n_target && !rc; i++) {
        const int first = b->n_row;
        rc = wk_device_open(b, i, err);
        if (rc) break;
        if (b->target[i].why[0]) {
            wk_device_missing(b, i);
            continue;
        }
        wk_device_use(b, i);
        wk_round_rows(b);
        wk_device_mark(b, first, i);
    }
    b->wish.only = only;
    wk_device_use(b, 0);
    return rc;
}

/* The engine of the cpu stays open and is the only one again. */
void wk_wall_device_close(wk_wall *w) {
    wk_bench *b = &w->b;
    if (!b->n_target) return;
    const int n = b->n_target;
    for (int i = 1; i < n; i++) {
        wk_device_use(b, i);
        wk_round_close(b);
        wk_nvml_close(&b->target[i].nvml);
    }
    wk_device_use(b, 0);
    b->n_target = 0;
}

bool wk_wall_is_device(const wk_bench_row *r) { return r->device[0] && strcmp(r->device, "cpu") != 0; }

/* "fake:0 / this CPU, measured: 0.31 x in decode, 0.8 x in prefill 512"; false: no device was asked for. */
bool wk_wall_device_text(const wk_wall *w, char *out, size_t cap) {
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < w->b.n_row && n < cap; i++) {
        const wk_bench_row *r = &w->b.row[i];
        if (!wk_wall_is_device(r)) continue;
        const wk_bench_row *cpu = strcmp(r->name, "decode") == 0 ? w->decode : w->prefill;
        const double base = wk_wall_median(cpu);
        if (!r->n)
            n += (size_t)snprintf(out + n, cap - n, "%s%s: %s", n ? "; " : "", r->device, r->note[0] ? r->note : "not measured");
        else if (base > 0)
            n += (size_t)snprintf(out + n, cap - n, "%s%s / this CPU, measured: %.3g x in %s", n ? "; " : "", r->device,
                                  wk_wall_median(r) / base, r->name);
    }
    if (n && n < cap) (void)snprintf(out + n, cap - n, "; training on a device: not built");
    return n > 0;
}

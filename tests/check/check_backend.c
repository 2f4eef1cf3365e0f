/* check_backend.c: check_backend MODULE.so [nmse]: a device module against the cpu, by the way that the engine takes.
 * Without nmse every bit must be that of the cpu. Steps that the module cannot run are counted and said. */
#include "tests/check/check_backend.h"

#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"
#include "simd/level.h"

enum { SKIPPED = 77, MAX_PRINT = 30 };

bool bc_case(bc *c, const char *fmt, ...) {
    if (c->n_pick++ % (uint64_t)c->thin != 0) return false;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(c->what, sizeof(c->what), fmt, ap);
    va_end(ap);
    c->n_case++;
    return true;
}

void bc_fail(bc *c, const char *fmt, ...) {
    if (c->n_fail++ >= MAX_PRINT) return;
    va_list ap;
    va_start(ap, fmt);
    printf("  WRONG (%s): ", c->what);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

/* Zero has one sign: +0 is added to both. A product that underflows may be -0 where a sum begins with it. */
static bool same_bits(const float *want, const float *got, size_t n, size_t *at) {
    for (size_t i = 0; i < n; i++) {
        const bool both_nan = isnan(want[i]) && isnan(got[i]);
        const float a = want[i] + 0.0f, b = got[i] + 0.0f;
        if (both_nan || memcmp(&a, &b, sizeof(float)) == 0) continue;
        *at = i;
        return false;
    }
    return true;
}

bool bc_same(bc *c, const char *name, const float *want, const float *got, size_t n, double bound) {
    size_t at = 0;
    if (same_bits(want, got, n, &at)) return true;
    if (!c->nmse) {
        bc_fail(c, "%s[%zu] is %a, wanted %a", name, at, (double)got[at], (double)want[at]);
        return false;
    }
    double diff = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)want[i] - (double)got[i];
        diff += d * d;
        size += (double)want[i] * (double)want[i];
    }
    const double nmse = diff / size;
    if (nmse > c->worst) c->worst = nmse;
    if (nmse <= bound) return true; /* NaN is not */
    bc_fail(c, "%s: NMSE %.2e, at most %.0e is right; [%zu] is %g, wanted %g", name, nmse, bound, at, (double)got[at],
            (double)want[at]);
    return false;
}

/* The steps of a part stand together in plan->order. */
bool bc_can(bc *c, const wk_plan *p, const wk_part *part, int op, int fmt) {
    const int32_t end = part->stage_first + part->n_stage;
    const int32_t first = part->stage_first < p->n_stage ? p->stage[part->stage_first].row_first : p->n_order,
                  last = end < p->n_stage ? p->stage[end].row_first : p->n_order;
    bool can = true;
    for (int32_t i = first; i < last; i++) can &= c->mod->can(c->mod_dev, p, &p->step[p->order[i]]);
    if (op >= 0) (can ? c->op_case : c->op_cannot)[op]++;
    if (fmt >= 0) (can ? c->fmt_case : c->fmt_cannot)[fmt]++;
    if (!can) c->n_cannot++;
    return can;
}

/* ---- the module ---------------------------------------------------------------------------------- */

static int open_module(bc *c, const char *path) {
    wk_err err = {0};
    char why[256] = "";
    const wk_host host = {.size = sizeof(host), .n_thread = 1, .n_cpu = 1, .cpu_mask = UINT32_MAX};
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    wk_backend_fn *fn = NULL;
    if (so) *(void **)&fn = dlsym(so, WK_BACKEND_SYMBOL);
    if (!fn) {
        printf("check_backend: %s\n", dlerror());
        return 1;
    }
    c->mod = fn();
    c->cpu = wk_cpu_backend();
    if (c->mod->abi != WK_BACKEND_ABI || c->mod->size < sizeof(wk_backend_ops)) {
        printf("check_backend: %s: ABI %u of %u bytes, wanted %d of %zu\n", path, c->mod->abi, c->mod->size,
               WK_BACKEND_ABI, sizeof(wk_backend_ops));
        return 1;
    }
    if (c->mod->count(why, sizeof(why)) < 1) {
        printf("skipped: %s\n", why);
        return SKIPPED;
    }
    if (c->mod->open(&c->mod_dev, 0, &host, &err) || c->cpu->open(&c->cpu_dev, 0, &host, &err)) {
        printf("check_backend: %s\n", err.message);
        return 1;
    }
    return 0;
}

static void check_info(bc *c) {
    wk_dev_info info;
    wk_err err = {0};
    memset(&info, 0, sizeof(info));
    if (!bc_case(c, "info")) return;
    if (c->mod->info(c->mod_dev, true, &info, &err)) {
        bc_fail(c, "%s", err.message);
        return;
    }
    printf("%s: %s, %s; %.1f of %.1f GB free; reads %.0f GB/s, put %.1f GB/s, get %.1f GB/s\n", c->mod->name, info.name,
           info.driver, (double)info.mem_free * 1e-9, (double)info.mem_total * 1e-9, info.read_rate * 1e-9,
           info.put_rate * 1e-9, info.get_rate * 1e-9);
    if (!info.name[0] || !info.mem_free || info.mem_free > info.mem_total) bc_fail(c, "a record without sense");
}

static const char *const op_name[WK_OP_COUNT] = {
#define WK_OP(name, class, equation) [WK_OP_##name] = #name,
#include "engine/graph/op.def"
#undef WK_OP
};

/* Every row of op.def and formats.def was looked at, or the module said that it cannot. */
static void say_coverage(bc *c) {
    (void)snprintf(c->what, sizeof(c->what), "coverage");
    for (int i = 0; i < WK_OP_COUNT; i++) {
        if (c->op_cannot[i]) printf("  cannot: %s, %ld cases\n", op_name[i], c->op_cannot[i]);
        if (!c->op_case[i] && !c->op_cannot[i]) bc_fail(c, "no case is about %s", op_name[i]);
    }
    for (int i = 0; i < WK_FMT_COUNT; i++) {
        if (c->fmt_cannot[i]) printf("  cannot: %s, %ld cases\n", wk_formats[i].name, c->fmt_cannot[i]);
        if (!c->fmt_case[i] && !c->fmt_cannot[i]) bc_fail(c, "no case is about %s", wk_formats[i].name);
    }
}

int main(int argc, char **argv) {
    static bc c;
    static wk_kernels ref;
    if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "nmse") != 0)) {
        printf("usage: check_backend MODULE.so [nmse]\n");
        return 2;
    }
    wk_kernels_ref(&ref);
    c.nmse = argc == 3;
    c.thin = ck_shrink();
    c.rnd = (ck){.level = "backend", .k = &ref, .ref = &ref, .formats = wk_formats, .thin = 1, .rng = 1};
    const int rc = open_module(&c, argv[1]);
    if (rc) return rc;
    check_info(&c);
    bc_ops(&c);
    const long n_op = c.n_case;
    bc_models(&c);
    if (c.thin == 1) say_coverage(&c);
    c.mod->close(c.mod_dev);
    c.cpu->close(c.cpu_dev);
    printf("%s: %ld cases of operations, %ld of models, %ld wrong, %ld that it cannot run", c.mod->name, n_op,
           c.n_case - n_op, c.n_fail, c.n_cannot);
    if (c.nmse) printf("; worst NMSE %.2e", c.worst);
    printf("\n");
    return c.n_fail ? 1 : 0;
}

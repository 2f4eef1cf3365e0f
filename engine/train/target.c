/* target.c: finds where a run computes: the host, or a device whose module has training. */
#include <stdio.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/train/trainer.h"
#include "gpu/loader/loader.h"
#include "simd/level.h"

static bool is_host(const wk_train_config *c) { return !c->device || strcmp(c->device, "cpu") == 0; }

int wk_target_check(const wk_train_config *c, wk_err *err) {
    if (is_host(c)) return WICK_OK;
    if (c->ranks) return wk_fail(err, WICK_E_ARG, "a device does not go with ranks: one of them");
    if (c->optimizer != WK_OPTIM_ADAMW)
        return wk_fail(err, WICK_E_ARG, "a device has the optimizer adamw alone, optimizer %d was asked for",
                       (int)c->optimizer);
    if (c->gemm == WK_SGEMM_ONEDNN)
        return wk_fail(err, WICK_E_ARG, "oneDNN's products are the cpu's, and a device has its own: one of them");
    return WICK_OK;
}

static bool is_whole(const wk_tdev_ops *o) {
    return o->name && o->open && o->close && o->bytes && o->put && o->get && o->run && o->norm && o->step && o->zero && o->about;
}

static int check_module(const wk_tdev_ops *o, const char *spec, wk_err *err) {
    const wk_shown file = wk_show(wk_cstr(spec));
    if (!o) return wk_fail(err, WICK_E_DEVICE, "%s: its %s gives nothing", file.text, WK_TDEV_SYMBOL);
    if (o->abi != WK_TDEV_ABI)
        return wk_fail(err, WICK_E_ABI, "%s has version %u of training on a device, this wick has version %u", file.text,
                       (unsigned)o->abi, (unsigned)WK_TDEV_ABI);
    if (o->size != sizeof(*o))
        return wk_fail(err, WICK_E_ABI, "%s has %u bytes of functions for training, this wick has %u", file.text,
                       (unsigned)o->size, (unsigned)sizeof(*o));
    return is_whole(o) ? WICK_OK
                       : wk_fail(err, WICK_E_ABI, "%s: a function for training is missing", file.text);
}

/* Its name and how much of its memory is free. */
static int ask(wk_target *d, const wk_backend_ops *ops, wk_err *err) {
    wk_dev *dev = NULL;
    wk_dev_info info = {.mem_total = 0};
    (void)snprintf(d->name, sizeof(d->name), "%.32s:%d", ops->name, d->index);
    int rc = ops->open(&dev, d->index, &d->host, err);
    if (rc) return err ? wk_fail_at(err, "%s", d->name) : rc;
    rc = ops->info(dev, false, &info, err);
    ops->close(dev);
    if (rc) return err ? wk_fail_at(err, "%s", d->name) : rc;
    wk_machine m;
    wk_os_machine(&m);
    d->mem_free = info.mem_total ? info.mem_free : m.mem_free;
    return WICK_OK;
}

static int open_named(wk_target *d, const char *spec, bool bf16, wk_err *err) {
    const wk_backend_ops *ops;
    wk_tdev_fn *fn = NULL;
    void *symbol = NULL;
    WK_TRY(wk_gpu_load(&ops, spec, &d->index, err));
    WK_TRY(wk_gpu_symbol(&symbol, spec, WK_TDEV_SYMBOL, err));
    if (!symbol)
        return wk_fail(err, WICK_E_DEVICE, "%s has no training: the cpu trains, --device cpu",
                       wk_show(wk_cstr(spec)).text);
    memcpy(&fn, &symbol, sizeof(symbol)); /* ISO C has no cast from an object to a function */
    const wk_tdev_ops *train = fn();
    WK_TRY(check_module(train, spec, err));
    WK_TRY(ask(d, ops, err));
    d->ops = train;
    d->bf16 = bf16; /* opening refuses it where the device has none */
    return WICK_OK;
}

/* The host's products. Where the CPU has no bf16 its definition is far slower than f32: refused. */
static int take_bf16(wk_target *d, const wk_train_config *c, wk_err *err) {
    const uint32_t cpu = wk_cpu_detect();
    const bool other = c->gemm == WK_SGEMM_ONEDNN;
    d->bf16 = c->bf16 && (cpu & c->cpu_mask & WK_CPU_AVX512BF16) && !other;
    if (c->bf16 != 1 || d->bf16) return WICK_OK;
    if (other) return wk_fail(err, WICK_E_ARG, "bf16 was asked for, and products by onednn, which makes them in f32 alone");
    if (cpu & WK_CPU_AVX512BF16)
        return wk_fail(err, WICK_E_ARG, "bf16 was asked for, and a CPU level, which leaves its AVX512_BF16 out");
    return wk_fail(err, WICK_E_ARG,
                   "bf16 was asked for, which wants a CPU with AVX512_BF16 (AMD since Zen 4, Intel since Sapphire Rapids); "
                   "the best level of this one is %s",
                   wk_levels[wk_level_of_cpu(cpu)].name);
}

int wk_target_find(wk_target *d, const wk_train_config *c, int n_thread, wk_err *err) {
    wk_machine m;
    wk_os_machine(&m);
    const wk_target host = {.name = "cpu",
                            .host = {.size = sizeof(wk_host),
                                     .n_thread = n_thread,
                                     .n_cpu = m.n_affinity,
                                     .cpu_mask = c->cpu_mask}};
    *d = host;
    WK_TRY(wk_target_check(c, err));
    if (is_host(c)) return take_bf16(d, c, err);
    if (strcmp(c->device, "auto") != 0) return open_named(d, c->device, c->bf16 == 1, err);
    wk_err why = {0};
    for (int i = 0; wk_gpu_kind(i); i++) {
        if (open_named(d, wk_gpu_kind(i), c->bf16 == 1, &why) == WICK_OK) return WICK_OK;
        *d = host;
    }
    wk_log(WK_LOG_WARN, "device auto: the cpu trains: %s", why.message);
    return take_bf16(d, c, err);
}

/* cpu_dev.h: a model file on the cpu device, made ready, with room for logits. */
#ifndef WK_CPU_DEV_H
#define WK_CPU_DEV_H

#include "tests/unit/unit.h"

#include "engine/base/arena.h"
#include "engine/cpu/cpu.h"
#include "engine/file/store.h"

typedef struct dev {
    wk_store *store;
    wk_plan *plan;
    wk_dev *dev;
    wk_exec *exec;
    float *logits; /* [max_out][V] */
    uint8_t *bad;  /* [max_tok] */
} dev;

/* cpu NULL: its defaults; else it outlives the device. */
static inline dev *dev_open(const char *path, const wk_plan_options *o, int n_thread, uint32_t n_page,
                            const wk_cpu_options *cpu) {
    wk_err err = {0};
    dev *d = wk_new(dev);
    assert_non_null(d);
    const wk_backend_ops *ops = wk_cpu_backend();
    const wk_host host = {.size = sizeof(host), .n_thread = n_thread, .n_cpu = 2, .cpu_mask = UINT32_MAX, .cpu = cpu};
    if (wk_store_open(&d->store, path, &err) || wk_plan_build(&d->plan, d->store, o, &err) ||
        ops->open(&d->dev, 0, &host, &err) || ops->prepare(&d->exec, d->dev, d->plan, NULL, n_page, &err))
        fail_msg("%s: %s", path, err.message);
    d->logits = wk_alloc_aligned((size_t)o->max_out * (size_t)d->plan->n_vocab * sizeof(float));
    d->bad = wk_new_n(uint8_t, (size_t)o->max_tok);
    assert_true(d->logits && d->bad);
    return d;
}

static inline void dev_close(dev *d) {
    wk_cpu_backend()->unprepare(d->exec);
    wk_cpu_backend()->close(d->dev);
    wk_plan_free(d->plan);
    wk_store_close(d->store);
    wk_free_aligned(d->logits);
    wk_free(d->bad);
    wk_free(d);
}

#endif

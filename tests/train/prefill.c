/* prefill.c: opens a device, runs one sequence, closes it. */
#include "tests/train/prefill.h"

#include "engine/base/arena.h"
#include "engine/cpu/cpu.h"
#include "tests/unit/unit.h"

enum { PAGES = 8, MOST = PAGES * WK_KV_PAGE };

static void run(wk_exec *x, const wk_plan *p, const int32_t *tok, int32_t n, float *logits) {
    wk_err err = {0};
    uint32_t page[PAGES];
    int32_t out[MOST];
    uint8_t bad[MOST] = {0};
    for (uint32_t i = 0; i < PAGES; i++) page[i] = i;
    for (int32_t i = 0; i < n; i++) out[i] = i;
    const wk_batch_seq seq = {0, n, 0, (n + WK_KV_PAGE - 1) / WK_KV_PAGE, page};
    const wk_batch b = {.n_tok = n,
                        .n_seq = 1,
                        .n_out = n,
                        .tok = tok,
                        .out = out,
                        .seq = &seq,
                        .zero = page,
                        .n_zero = PAGES,
                        .logits = logits,
                        .bad_tok = bad};
    assert_true(n <= p->max_tok);
    if (wk_cpu_backend()->run(x, &b, &err)) fail_msg("%s", err.message);
}

float *prefill(const wk_store *s, const wk_store *adapter, const int32_t *tok, int32_t n) {
    wk_err err = {0};
    wk_plan *p = NULL;
    wk_dev *dev = NULL;
    wk_exec *x = NULL;
    const wk_adapter a = {.store = adapter, .scale = 1.0f};
    const wk_plan_options o = {.max_tok = MOST,
                               .max_out = MOST,
                               .kv_type = WK_KV_F32,
                               .adapter = adapter ? &a : NULL,
                               .n_adapter = adapter ? 1 : 0};
    const wk_host host = {.size = sizeof(host), .n_thread = 2, .n_cpu = 2, .cpu_mask = UINT32_MAX};
    if (wk_plan_build(&p, s, &o, &err) || wk_cpu_backend()->open(&dev, 0, &host, &err) ||
        wk_cpu_backend()->prepare(&x, dev, p, NULL, PAGES, &err))
        fail_msg("%s", err.message);
    float *logits = wk_alloc_aligned((size_t)MOST * (size_t)p->n_vocab * sizeof(float));
    assert_non_null(logits);
    run(x, p, tok, n, logits);
    wk_cpu_backend()->unprepare(x);
    wk_cpu_backend()->close(dev);
    wk_plan_free(p);
    return logits;
}

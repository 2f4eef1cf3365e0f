/* products.c: matrix products of a stage by oneDNN (--gemm onednn), for steps of many rows.
 *
 * A pass is then several regions of the team: one ends behind the row work of a stage that has such products, rank 0
 * asks the library outside of it, on the library's own threads, and the next region runs what is left of the stage.
 * Two teams never spin beside each other. The library wants plain f32, so the team expands as many packed panels as
 * WIDE holds, k across, before each call: a second, plain copy of the weights would take twice their memory or more.
 * Decoding stays with our kernels (nothing is saved in bandwidth), and so do quantised formats (they would become f32,
 * at a quarter of the int8 rate), and adapters (too thin). */
#include <string.h>

#include "engine/base/os.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/exec.h"
#include "engine/cpu/onednn.h"
#include "simd/format.h"

enum {
    WIDE = 2 << 20,
    PART = 4
}; /* f32 values expanded at once; panels that a thread takes together */

static bool is_float(int fmt) {
    return fmt == WK_FMT_F32 || fmt == WK_FMT_F16 || fmt == WK_FMT_BF16;
}

bool wk_product_is(const wk_exec *x, const wk_step *s) {
    if (s->op != WK_OP_matmul || x->plan->val[s->dst].in_chain) return false;
    const wk_weight *w = &x->plan->weight[s->w[0]];
    return is_float(w->fmt) && w->lora_of < 0;
}

void wk_cpu_count_products(const wk_plan *p, int *n_float, int *n_other) {
    const wk_exec x = {.plan = p};
    *n_float = *n_other = 0;
    for (int32_t i = 0; i < p->n_step; i++)
        if (p->step[i].op == WK_OP_matmul) ++*(wk_product_is(&x, &p->step[i]) ? n_float : n_other);
}

/* Calls fn for each product of a stage; the number of them. */
static int each(wk_exec *x, int32_t stage,
                void (*fn)(wk_exec *x, const wk_step *s, int32_t n_rows)) {
    const wk_plan *p = x->plan;
    const wk_stage *st = &p->stage[stage];
    int n = 0;
    for (int32_t c = 0; c < st->chain_n; c++) {
        const wk_chain *ch = &p->chain[st->chain_first + c];
        for (int32_t i = 0; i < ch->n; i++) {
            const wk_step *s = &p->step[p->order[ch->first + i]];
            if (!wk_product_is(x, s)) continue;
            n++;
            if (fn) fn(x, s, x->cut[stage].n_rows);
        }
    }
    return n;
}

bool wk_products_wanted(wk_exec *x, int32_t stage) {
    return x->plan->stage[stage].chain_n && x->cut[stage].n_rows > WK_PRODUCT_ROWS &&
           each(x, stage, NULL) > 0;
}

size_t wk_products_bytes(const wk_plan *p) {
    size_t most = WIDE;
    for (int32_t i = 0; i < p->n_weight; i++)
        if (is_float(p->weight[i].fmt) && (size_t)p->weight[i].k * WK_PANEL > most)
            most = (size_t)p->weight[i].k * WK_PANEL;
    return most * sizeof(float);
}

/* One packed panel as columns dst[k][ld]. */
static void expand(const wk_exec *x, const wk_weight *w, wk_panel *panel, const uint8_t *src,
                   float *dst, size_t ld) {
    const int piece = w->k <= WK_KC_WHOLE ? w->k : WK_KC;
    for (int k0 = 0; k0 < w->k; k0 += piece) {
        const int left = w->k - k0, n = left < piece ? left : piece;
        x->dev->k.expand[w->fmt](panel, src, k0, n);
        for (int k = 0; k < n; k++)
            memcpy(dst + (size_t)(k0 + k) * ld, panel->f + (size_t)k * WK_PANEL,
                   WK_PANEL * sizeof(float));
    }
}

static void expand_rank(void *ud, int rank) {
    wk_exec *x = ud;
    const wk_packed *p = &x->w[x->job.weight];
    const int32_t n = x->job.n_panel, step = x->dev->n_thread * PART;
    for (int32_t at = rank * PART; at < n; at += step)
        for (int32_t i = at; i < at + PART && i < n; i++)
            expand(x, &x->plan->weight[x->job.weight], &x->scratch[rank].panel[0],
                   p->p + (size_t)(x->job.panel + i) * p->panel_bytes,
                   (float *)(void *)x->wide.p + (size_t)i * WK_PANEL, (size_t)n * WK_PANEL);
}

static void product(wk_exec *x, const wk_step *s, int32_t n_rows) {
    const wk_ctx c = {.x = x};
    const wk_weight *w = &x->plan->weight[s->w[0]];
    const int32_t n_panel = x->w[s->w[0]].n_panel, k = w->k;
    int32_t at_once = (int32_t)(x->wide.n / sizeof(float) / ((size_t)k * WK_PANEL));
    const int32_t n_chunk = (n_panel + at_once - 1) / at_once;
    at_once = (n_panel + n_chunk - 1) / n_chunk; /* chunks of one size */
    for (int32_t p = 0; p < n_panel; p += at_once) {
        x->job.weight = s->w[0];
        x->job.panel = p;
        x->job.n_panel = n_panel - p < at_once ? n_panel - p : at_once;
        wk_team_run(x->dev->team, expand_rank, x);
        const int32_t row = p * WK_PANEL, left = w->n_row - row, n = x->job.n_panel * WK_PANEL;
        wk_onednn_sgemm(x->dev->onednn,
                        &(wk_onednn_call){.m = n_rows,
                                          .n = left < n ? left : n,
                                          .k = k,
                                          .a = wk_val_f32(&c, s->src[0], 0),
                                          .lda = k,
                                          .b = (const float *)(const void *)x->wide.p,
                                          .ldb = n,
                                          .c = wk_val_f32(&c, s->dst, 0) + row,
                                          .ldc = x->plan->val[s->dst].dim});
    }
}

void wk_products_run(wk_exec *x, int32_t stage) {
    const uint64_t t0 = x->is_traced ? wk_os_now_ns() : 0;
    (void)each(x, stage, product); /* there are some */
    if (t0)
        x->scratch[0].clock.op_ns[WK_OP_matmul] +=
            (wk_os_now_ns() - t0) * (uint64_t)x->dev->n_thread;
}

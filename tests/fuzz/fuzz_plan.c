/* fuzz_plan.c: any bytes that open as a file, planned: refused with a sentence that names the file, or a plan whose
 * indices all lie inside it; grouped or not, memory kept or not. */
#include <stdbool.h>
#include <string.h>

#include "engine/file/store.h"
#include "engine/graph/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void want(bool b) {
    if (!b) __builtin_trap();
}

static void walk_values(const wk_plan *p) {
    for (int32_t i = 0; i < p->n_val; i++) {
        const wk_val *v = &p->val[i];
        want(v->def >= 0 && v->def < p->n_step && v->last < p->n_step && v->dim > 0);
        want(v->stage_def >= 0 && v->stage_def <= v->stage_last && v->stage_last < p->n_stage);
        want(v->off == SIZE_MAX ||
             (v->off < p->arena_bytes && v->bytes <= p->arena_bytes - v->off));
        want(!v->in_row || v->priv_off < p->priv_bytes);
    }
}

static void walk_plan(const wk_plan *p, const wk_store *s) {
    want(p->n_head % p->n_head_kv == 0 && p->logits >= 0 && p->logits < p->n_val);
    for (int32_t i = 0; i < p->n_step; i++) {
        for (int j = 0; j < 3; j++) want(p->step[i].src[j] < p->n_val);
        for (int j = 0; j < 2; j++) want(p->step[i].w[j] < p->n_weight);
        want(p->step[i].rope >= 0 && p->step[i].rope < p->n_rope && p->step[i].layer < p->n_layer);
    }
    walk_values(p);
    for (int32_t i = 0; i < p->n_weight; i++)
        want((uint64_t)p->weight[i].n_row * p->weight[i].row_bytes <= wk_store_file_bytes(s));
    wk_buf b;
    wk_buf_init(&b, 1 << 20);
    wk_plan_dump(p, &b);
    want(b.n > 0);
    wk_buf_fini(&b);
}

static void plan(const wk_store *s, bool keep, bool ungrouped) {
    const wk_plan_options o = {.max_tok = 3, .max_out = 2, .keep = keep, .ungrouped = ungrouped};
    wk_plan *p = NULL;
    wk_err err = {0};
    const int rc = wk_plan_build(&p, s, &o, &err);
    if (rc)
        want(!p && rc == err.code && strncmp(err.message, "f.gguf: ", 8) == 0);
    else
        walk_plan(p, s);
    wk_plan_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    wk_store *s = NULL;
    if (wk_store_open_memory(&s, data, size, "f.gguf", NULL)) return 0;
    plan(s, false, false);
    plan(s, true, true);
    wk_store_close(s);
    return 0;
}

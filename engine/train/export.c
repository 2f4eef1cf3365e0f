/* export.c: parameters -> the file they came from, with new values: names, order and rotation stay, what was trained
 * becomes F32. */
#include <string.h>

#include "engine/base/arena.h"
#include "engine/file/write.h"
#include "engine/train/trainer.h"
#include "simd/format.h"

typedef struct source {
    const wk_weight *w;
    const float *p;
    float *vector; /* a rotated vector in the file's order */
} source;

/* Inverse of wk_weight_row: the row of the weight that stands at row i of the file. */
static uint64_t row_in_file(const wk_weight *w, uint64_t i) {
    if (!w->unrotate) return i;
    const uint64_t hd = (uint64_t)w->unrotate, h = i / hd, j = i % hd;
    return h * hd + (j % 2 ? hd / 2 : 0) + j / 2;
}

static const void *param_row(void *ud, uint64_t row) {
    const source *s = ud;
    return s->p + row_in_file(s->w, row) * (uint64_t)s->w->k;
}

static const wk_weight *weight_of(const wk_trainer *t, wk_str name, int32_t *param) {
    for (int32_t i = 0; i < t->s.grad->n_param; i++) {
        const wk_weight *w = &t->s.plan->weight[t->s.grad->param[i].weight];
        if (!wk_str_is(name, w->name)) continue;
        *param = i;
        return w;
    }
    return NULL;
}

static bool add(wk_writer *w, wk_trainer *t, const float *params, const wk_tensor *a, source *s, const char *name) {
    int32_t param = 0;
    wk_writer_tensor out = {.name = name, .fmt = a->fmt, .n_dim = a->n_dim, .data = a->data};
    memcpy(out.ne, a->ne, sizeof(out.ne));
    *s = (source){.w = weight_of(t, a->name, &param)};
    if (s->w) {
        s->p = params + t->s.grad->param[param].off;
        out.fmt = WK_FMT_F32;
        out.data = NULL;
        out.row = param_row;
        out.ud = s;
        if (s->w->is_vector && s->w->unrotate) {
            s->vector = wk_new_n(float, (size_t)s->w->k);
            if (!s->vector) return false;
            for (int32_t i = 0; i < s->w->k; i++)
                s->vector[i] = s->p[row_in_file(s->w, (uint64_t)i)];
            out.data = s->vector;
        }
    }
    wk_writer_add(w, &out);
    return true;
}

static int export(wk_trainer *t, const float *params, const char *path, wk_err *err) {
    const wk_store *from = t->s.adapter ? t->s.adapter : t->s.store;
    const size_t n = wk_store_tensor_count(from);
    wk_writer *w = wk_writer_new();
    source *s = wk_new_n(source, n + 1);
    bool ok = w && s;
    if (ok) {
        wk_writer_meta_of(w, from, NULL, NULL);
        if (!t->s.adapter) wk_writer_u32(w, "general.file_type", 0);
    }
    for (size_t i = 0; i < n && ok; i++) {
        const wk_tensor *a = wk_store_tensor(from, i);
        char *name = wk_strdup_n(a->name.p, a->name.n);
        ok = name && add(w, t, params, a, &s[i], name);
        wk_free(name);
    }
    const int rc =
        ok ? wk_writer_save(w, path, err)
           : wk_fail(err, WICK_E_NOMEM, "no memory to write %s", wk_show(wk_cstr(path)).text);
    for (size_t i = 0; s && i < n; i++) wk_free(s[i].vector);
    wk_free(s);
    wk_writer_free(w);
    return rc;
}

int wk_trainer_export(wk_trainer *t, const char *path, wk_err *err) {
    wk_pages copy;
    const void *params;
    WK_TRY(wk_compute_view(&t->x, WK_TDEV_PARAMS, &copy, &params, err));
    const int rc = export(t, params, path, err);
    wk_pages_unmap(&copy);
    return rc;
}

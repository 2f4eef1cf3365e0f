/* moments.c: state.gguf of a checkpoint: both moments of each parameter, in the order of the parameters. */
#include <limits.h>
#include <stdio.h>

#include "engine/file/write.h"
#include "engine/train/trainer.h"
#include "simd/format.h"

/* The two arenas: name, bytes of an element (0: the optimizer has none), format in the file. */
typedef struct moment {
    char name;
    wk_tdev_arena arena;
    size_t bytes;
    int fmt;
} moment;
static moment moment_of(const wk_trainer *t, int i) {
    const wk_tdev_arena a = i == 0 ? WK_TDEV_M : WK_TDEV_V;
    const size_t bytes = wk_compute_elem_bytes(&t->x, a);
    return (moment){i == 0 ? 'm' : 'v', a, bytes, bytes == sizeof(float) ? WK_FMT_F32 : WK_FMT_BF16};
}

typedef struct name {
    char text[256];
} name;
static name name_of(const wk_trainer *t, const moment *m, int32_t i) {
    name n;
    (void)snprintf(n.text, sizeof(n.text), "%c.%s", m->name, t->s.plan->weight[t->s.grad->param[i].weight].name);
    return n;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static int take_moment(wk_trainer *t, const wk_store *s, int32_t i, const moment *m, wk_err *err) {
    const wk_param *p = &t->s.grad->param[i];
    const name n = name_of(t, m, i);
    const wk_tensor *a = wk_store_find(s, wk_cstr(n.text));
    if (!a || a->fmt != m->fmt || a->bytes != p->n * m->bytes)
        return wk_fail(err, WICK_E_FORMAT, "%s: %s is missing or of another size",
                       wk_show(wk_cstr(wk_store_path(s))).text, n.text);
    return wk_compute_put(&t->x, m->arena, p->off, a->data, p->n, err);
}

static int check_same(const wk_trainer *t, wk_err *err) {
    if (t->s.data && t->data_hash != wk_data_hash(t->s.data))
        return wk_fail(err, WICK_E_ARG,
                       "%s has changed since the run began: its hash was %016llx, is %016llx",
                       wk_show(wk_cstr(t->c.data)).text, (unsigned long long)t->data_hash,
                       (unsigned long long)wk_data_hash(t->s.data));
    if (t->s.adapter && t->base_bytes != wk_store_file_bytes(t->s.store))
        return wk_fail(err, WICK_E_ARG,
                       "%s is not the base of this run: it had %llu bytes, has %llu",
                       wk_show(wk_cstr(t->c.model)).text, (unsigned long long)t->base_bytes,
                       (unsigned long long)wk_store_file_bytes(t->s.store));
    return WICK_OK;
}

int wk_ckpt_moments(wk_trainer *t, const char *folder, wk_err *err) {
    char path[PATH_MAX];
    wk_store *s = NULL;
    WK_TRY(check_same(t, err));
    const int len = snprintf(path, sizeof(path), "%s/state.gguf", folder);
    if (len < 0 || (size_t)len >= sizeof(path))
        return wk_fail(err, WICK_E_IO, "%s: the path is too long", wk_show(wk_cstr(folder)).text);
    int rc = wk_store_open(&s, path, err);
    for (int32_t i = 0; i < t->s.grad->n_param && !rc; i++) {
        for (int j = 0; j < 2 && !rc; j++) {
            const moment m = moment_of(t, j);
            if (m.bytes) rc = take_moment(t, s, i, &m, err);
        }
    }
    wk_store_close(s);
    return rc;
}

/* ---- writing ------------------------------------------------------------------------------------- */

static int write_all(const wk_trainer *t, const void *const arena[2], const char *file, wk_err *err) {
    wk_writer *w = wk_writer_new();
    if (!w) return wk_fail(err, WICK_E_NOMEM, "no memory to write %s", wk_show(wk_cstr(file)).text);
    wk_writer_str(w, "general.type", wk_cstr("wick.moments"));
    for (int32_t i = 0; i < t->s.grad->n_param; i++) {
        const wk_param *p = &t->s.grad->param[i];
        for (int j = 0; j < 2; j++) {
            const moment m = moment_of(t, j);
            if (!m.bytes) continue;
            const name n = name_of(t, &m, i);
            const wk_writer_tensor a = {.name = n.text,
                                        .fmt = m.fmt,
                                        .n_dim = 1,
                                        .ne = {p->n, 1, 1, 1},
                                        .data = (const uint8_t *)arena[j] + p->off * m.bytes};
            wk_writer_add(w, &a);
        }
    }
    const int rc = wk_writer_save(w, file, err);
    wk_writer_free(w);
    return rc;
}

int wk_moments_write(wk_trainer *t, const char *file, wk_err *err) {
    wk_pages copy[2] = {{0}};
    const void *arena[2] = {NULL};
    int rc = WICK_OK;
    for (int j = 0; j < 2 && !rc; j++) rc = wk_compute_view(&t->x, moment_of(t, j).arena, &copy[j], &arena[j], err);
    if (!rc) rc = write_all(t, arena, file, err);
    for (int j = 0; j < 2; j++) wk_pages_unmap(&copy[j]);
    return rc;
}

/* place.c: value lifetimes -> offsets, first fit among the values that are alive, those that live longest first in
 * each step. Kept activations live across the border of forward and backward; they are placed from the bottom in the
 * order of the layers and go in the opposite order, so what they leave is one piece. */
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/train/grad_impl.h"

enum { ALIGN = 64 };

static void set_lifetimes(wk_grad *g) {
    for (int32_t i = 0; i < g->n_val; i++) g->val[i].first = g->val[i].last = -1;
    for (int32_t i = 0; i < g->n_step; i++) {
        const wk_tstep *s = &g->step[i];
        int32_t touched[WK_COUNT(s->dst) + WK_COUNT(s->src)];
        memcpy(touched, s->dst, sizeof(s->dst));
        memcpy(touched + WK_COUNT(s->dst), s->src, sizeof(s->src));
        for (size_t j = 0; j < WK_COUNT(touched); j++) {
            if (touched[j] < 0) continue;
            wk_tval *v = &g->val[touched[j]];
            if (v->first < 0) v->first = i;
            v->last = i;
        }
    }
}

/* Kernels count the elements of a value in an int. */
static bool bytes_of(size_t *out, const wk_grad *g, const wk_tval *v) {
    if ((int64_t)v->dim * g->max_tok > INT32_MAX) return false;
    return wk_mul(out, (size_t)v->dim * sizeof(float), (size_t)g->max_tok) &&
           wk_align(out, *out, ALIGN);
}

/* The values alive, by offset. */
typedef struct alive {
    int32_t *v;
    int32_t n;
} alive;

static void drop_dead(alive *a, const wk_grad *g, int32_t step) {
    int32_t n = 0;
    for (int32_t i = 0; i < a->n; i++)
        if (g->val[a->v[i]].last >= step) a->v[n++] = a->v[i];
    a->n = n;
}

static bool put(alive *a, wk_grad *g, int32_t v) {
    size_t want = 0, at = 0, n = 0;
    int32_t i = 0;
    (void)bytes_of(&want, g, &g->val[v]); /* checked before */
    for (; i < a->n; i++) {
        const wk_tval *t = &g->val[a->v[i]];
        if (t->off >= at && t->off - at >= want) break;
        (void)bytes_of(&n, g, t); /* as above */
        at = t->off + n;
    }
    size_t end;
    if (!wk_add(&end, at, want)) return false;
    memmove(a->v + i + 1, a->v + i, (size_t)(a->n - i) * sizeof(*a->v));
    a->v[i] = v;
    a->n++;
    g->val[v].off = at;
    if (end > g->arena_bytes) g->arena_bytes = end;
    return true;
}

/* Destinations of a step that begin with it, the longest-lived first. */
static int32_t born(const wk_grad *g, int32_t step, int32_t out[3]) {
    int32_t n = 0;
    for (size_t i = 0; i < WK_COUNT(g->step[step].dst); i++) {
        const int32_t v = g->step[step].dst[i];
        if (v < 0 || g->val[v].first != step) continue;
        int32_t j = n++;
        for (; j > 0 && g->val[out[j - 1]].last < g->val[v].last; j--) out[j] = out[j - 1];
        out[j] = v;
    }
    return n;
}

static int check_sizes(const wk_grad *g, wk_err *err) {
    size_t n;
    for (int32_t i = 0; i < g->n_val; i++)
        if (!bytes_of(&n, g, &g->val[i]))
            return wk_fail(err, WICK_E_FIT, "a value of %d x %d elements, at most %d are counted: a smaller micro-batch",
                           (int)g->max_tok, (int)g->val[i].dim, INT32_MAX);
    return WICK_OK;
}

int wk_place(wk_grad *g, wk_err *err) {
    WK_TRY(check_sizes(g, err));
    set_lifetimes(g);
    alive a = {.v = wk_new_n(int32_t, (size_t)g->n_val + 1)};
    if (!a.v)
        return wk_fail(err, WICK_E_NOMEM, "no memory to place the values of the training plan");
    bool ok = true;
    for (int32_t i = 0; i < g->n_step && ok; i++) {
        int32_t list[3];
        drop_dead(&a, g, i);
        for (int32_t j = 0, n = born(g, i, list); j < n && ok; j++) ok = put(&a, g, list[j]);
    }
    wk_free(a.v);
    return ok ? WICK_OK
              : wk_fail(err, WICK_E_FIT, "the bytes of the values of the training plan overflow");
}

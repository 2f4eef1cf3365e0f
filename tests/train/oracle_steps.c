/* oracle_steps.c: the equations of engine/graph/op.def and engine/train/pack.def in double. */
#include "tests/train/oracle_steps.h"

#include <math.h>

#include "engine/base/arena.h"
#include "simd/kernels.h"
#include "tests/unit/unit.h"

struct oracle {
    const wk_grad *g;
    double **w, **d, **v; /* by weight, parameter, value */
    const wk_tbatch *b;
    int32_t *pos, *start; /* [n_tok] position, first token of the token's sequence */
    int32_t *row;         /* counted tokens */
    int32_t n_row, room;
    double loss;
    bool backward;
};

static size_t size_of(const wk_weight *w) { return (size_t)w->n_row * (size_t)w->k; }

/* ---- memory ---------------------------------------------------------------------------------------- */

static double f32_at(const wk_weight *w, int32_t row, int32_t i) {
    float f;
    memcpy(&f, w->data + (size_t)row * w->row_bytes + (size_t)i * sizeof(f), sizeof(f));
    return (double)f;
}

/* In the trainer's order: rows of rotated matrices, and elements of rotated vectors, in halves. */
static double *decoded(const wk_weight *w) {
    double *out = wk_new_n(double, size_of(w));
    assert_non_null(out);
    if (w->fmt != WK_FMT_F32) fail_msg("%s is not F32", w->name);
    for (int32_t i = 0; i < w->n_row; i++)
        for (int32_t j = 0; j < w->k; j++)
            out[(size_t)i * (size_t)w->k + (size_t)j] = w->is_vector
                                                            ? f32_at(w, 0, wk_weight_row(w, j))
                                                            : f32_at(w, wk_weight_row(w, i), j);
    return out;
}

oracle *oracle_new(const wk_grad *g) {
    oracle *o = wk_new(oracle);
    assert_non_null(o);
    o->g = g;
    o->room = g->max_tok;
    o->w = wk_new_n(double *, (size_t)g->plan->n_weight);
    o->d = wk_new_n(double *, (size_t)g->n_param);
    o->v = wk_new_n(double *, (size_t)g->n_val);
    o->pos = wk_new_n(int32_t, (size_t)o->room);
    o->start = wk_new_n(int32_t, (size_t)o->room);
    o->row = wk_new_n(int32_t, (size_t)o->room);
    for (int32_t i = 0; i < g->plan->n_weight; i++) o->w[i] = decoded(&g->plan->weight[i]);
    for (int32_t i = 0; i < g->n_param; i++) o->d[i] = wk_new_n(double, g->param[i].n);
    for (int32_t i = 0; i < g->n_val; i++)
        o->v[i] = wk_new_n(double, (size_t)o->room *(size_t)g->val[i].dim);
    return o;
}

void oracle_free(oracle *o) {
    if (!o) return;
    for (int32_t i = 0; i < o->g->plan->n_weight; i++) wk_free(o->w[i]);
    for (int32_t i = 0; i < o->g->n_param; i++) wk_free(o->d[i]);
    for (int32_t i = 0; i < o->g->n_val; i++) wk_free(o->v[i]);
    wk_free(o->w);
    wk_free(o->d);
    wk_free(o->v);
    wk_free(o->pos);
    wk_free(o->start);
    wk_free(o->row);
    wk_free(o);
}

double *oracle_weight(oracle *o, int32_t weight, int64_t *n) {
    *n = (int64_t)size_of(&o->g->plan->weight[weight]);
    return o->w[weight];
}

const double *oracle_grad(const oracle *o, int32_t param) { return o->d[param]; }

/* ---- what a step speaks of ------------------------------------------------------------------------- */

static int32_t rows_of(const oracle *o, int32_t v) {
    return o->g->val[v].rows == WK_ROWS_TOK ? o->b->n_tok : o->n_row;
}
static int32_t dim_of(const oracle *o, int32_t v) { return o->g->val[v].dim; }
static double *at(const oracle *o, int32_t v, int32_t row) {
    return o->v[v] + (size_t)row * (size_t)dim_of(o, v);
}
static double *param_of(const oracle *o, const wk_tstep *s) { return o->d[s->param]; }
/* The row of a destination before anything is added to it. */
static double *opened(const oracle *o, const wk_tstep *s, int i, int32_t row) {
    double *p = at(o, s->dst[i], row);
    for (int32_t j = 0; j < dim_of(o, s->dst[i]) && !(s->add && i == 0); j++) p[j] = 0.0;
    return p;
}

static double dot(const double *a, const double *b, int32_t n) {
    double s = 0.0;
    for (int32_t i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

/* ---- forward --------------------------------------------------------------------------------------- */

static void run_embed(oracle *o, const wk_tstep *s) {
    const int32_t n = dim_of(o, s->dst[0]);
    for (int32_t t = 0; t < o->b->n_tok; t++)
        for (int32_t i = 0; i < n; i++)
            at(o, s->dst[0], t)[i] =
                (double)s->of->scale * o->w[s->w][(size_t)o->b->tok[t] * (size_t)n + (size_t)i];
}

/* Each of n_head pieces of a row by itself; rms has one. */
static void norm_pieces(oracle *o, const wk_tstep *s, int32_t n_head) {
    const int32_t hd = dim_of(o, s->src[0]) / n_head;
    for (int32_t t = 0; t < rows_of(o, s->dst[0]); t++)
        for (int32_t h = 0; h < n_head; h++) {
            const double *x = at(o, s->src[0], t) + h * hd;
            const double r = 1.0 / sqrt(dot(x, x, hd) / (double)hd + (double)s->of->eps);
            if (s->dst[1] >= 0) at(o, s->dst[1], t)[h] = r;
            for (int32_t i = 0; i < hd; i++)
                at(o, s->dst[0], t)[h * hd + i] = x[i] * r * o->w[s->w][i];
        }
}
static void run_rms(oracle *o, const wk_tstep *s) { norm_pieces(o, s, 1); }
static void run_headrms(oracle *o, const wk_tstep *s) { norm_pieces(o, s, s->of->n_head); }

static void run_matmul(oracle *o, const wk_tstep *s) {
    const int32_t n = dim_of(o, s->dst[0]), k = dim_of(o, s->src[0]);
    for (int32_t t = 0; t < rows_of(o, s->dst[0]); t++) {
        double *y = opened(o, s, 0, t);
        for (int32_t i = 0; i < n; i++)
            y[i] += dot(at(o, s->src[0], t), o->w[s->w] + (size_t)i * (size_t)k, k);
        if (s->thin < 0) continue;
        const int32_t r = dim_of(o, s->src[1]);
        for (int32_t i = 0; i < n; i++)
            y[i] += (double)s->scale * dot(at(o, s->src[1], t), o->w[s->thin] + (size_t)i * (size_t)r, r);
    }
}

static void run_bias(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < rows_of(o, s->dst[0]); t++)
        for (int32_t i = 0; i < dim_of(o, s->dst[0]); i++)
            at(o, s->dst[0], t)[i] = at(o, s->src[0], t)[i] + o->w[s->w][i];
}

/* sign 1: as op.def has it; -1: backwards. */
static void turn(oracle *o, const wk_tstep *s, double sign) {
    const wk_rope_plan *r = &o->g->plan->rope[s->of->rope];
    const int32_t hd = s->of->head_dim, half = r->n_rot / 2;
    const bool halves = s->of->pairing == WK_ROPE_HALVES;
    for (int32_t t = 0; t < o->b->n_tok; t++) {
        double *y = at(o, s->dst[0], t);
        memmove(y, at(o, s->src[0], t), (size_t)dim_of(o, s->dst[0]) * sizeof(*y));
        for (int32_t i = 0; i < half; i++) {
            const double angle = (double)o->pos[t] * r->freq[i];
            const double cs = cos(angle) * (double)r->mscale;
            const double sn = sin(angle) * (double)r->mscale * sign;
            for (int32_t h = 0; h < s->of->n_head; h++) {
                double *a = y + h * hd + (halves ? i : 2 * i), *b = halves ? a + half : a + 1;
                const double x0 = *a, x1 = *b;
                *a = x0 * cs - x1 * sn;
                *b = x1 * cs + x0 * sn;
            }
        }
    }
}
static void run_rope(oracle *o, const wk_tstep *s) { turn(o, s, 1.0); }

/* First position that a token sees, as a token of the batch. */
static int32_t seen_from(const oracle *o, const wk_step *a, int32_t t) {
    const int32_t first = a->window && o->pos[t] >= a->window ? o->pos[t] - a->window + 1 : 0;
    return o->start[t] + first;
}

/* The score of query row q and key row k; th: tanh, for the gradient. */
static double score(const wk_step *a, const double *q, const double *k, double *th) {
    const double s = dot(q, k, a->head_dim) * (double)a->scale, cap = (double)a->softcap;
    *th = cap > 0.0 ? tanh(s / cap) : 0.0;
    return cap > 0.0 ? cap * *th : s;
}

static void attend(oracle *o, const wk_tstep *s, int32_t t, int32_t h) {
    const wk_step *a = s->of;
    const int32_t hd = a->head_dim, kv = h / (a->n_head / a->n_head_kv), first = seen_from(o, a, t);
    const double *q = at(o, s->src[0], t) + h * hd;
    double *y = at(o, s->dst[0], t) + h * hd, m = -HUGE_VAL, l = 0.0, th;
    for (int32_t i = 0; i < hd; i++) y[i] = 0.0;
    for (int32_t j = first; j <= t; j++)
        m = fmax(m, score(a, q, at(o, s->src[1], j) + kv * hd, &th));
    for (int32_t j = first; j <= t; j++) {
        const double e = exp(score(a, q, at(o, s->src[1], j) + kv * hd, &th) - m);
        l += e;
        for (int32_t i = 0; i < hd; i++) y[i] += e * at(o, s->src[2], j)[kv * hd + i];
    }
    for (int32_t i = 0; i < hd; i++) y[i] /= l;
    if (s->dst[1] >= 0) at(o, s->dst[1], t)[h] = m;
    if (s->dst[2] >= 0) at(o, s->dst[2], t)[h] = l;
}
static void run_attn(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < o->b->n_tok; t++)
        for (int32_t h = 0; h < s->of->n_head; h++) attend(o, s, t, h);
}

static void run_add(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < rows_of(o, s->dst[0]); t++)
        for (int32_t i = 0; i < dim_of(o, s->dst[0]); i++)
            at(o, s->dst[0], t)[i] = at(o, s->src[0], t)[i] + at(o, s->src[1], t)[i];
}

static void run_lora(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < rows_of(o, s->dst[0]); t++)
        for (int32_t i = 0; i < dim_of(o, s->dst[0]); i++)
            at(o, s->dst[0], t)[i] =
                at(o, s->src[0], t)[i] + (double)s->of->scale * at(o, s->src[1], t)[i];
}

/* fn and its derivative. */
static double activation(int fn, double g, double *slope) {
    if (fn == WK_FN_SILU) {
        const double p = 1.0 / (1.0 + exp(-g));
        *slope = p * (1.0 + g * (1.0 - p));
        return g * p;
    }
    const double c = 0.7978845608028654, a = 0.044715, th = tanh(c * (g + a * g * g * g));
    *slope = 0.5 * (1.0 + th) + 0.5 * g * (1.0 - th * th) * c * (1.0 + 3.0 * a * g * g);
    return 0.5 * g * (1.0 + th);
}
static void run_glu(oracle *o, const wk_tstep *s) {
    double slope;
    for (int32_t t = 0; t < rows_of(o, s->dst[0]); t++)
        for (int32_t i = 0; i < dim_of(o, s->dst[0]); i++)
            at(o, s->dst[0], t)[i] =
                activation(s->of->fn, at(o, s->src[0], t)[i], &slope) * at(o, s->src[1], t)[i];
}

static void run_pick(oracle *o, const wk_tstep *s) {
    for (int32_t i = 0; i < o->n_row; i++)
        memcpy(at(o, s->dst[0], i), at(o, s->src[0], o->row[i]),
               (size_t)dim_of(o, s->dst[0]) * sizeof(double));
}

static void run_scale(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < rows_of(o, s->dst[0]); t++)
        for (int32_t i = 0; i < dim_of(o, s->dst[0]); i++)
            at(o, s->dst[0], t)[i] = (double)s->scale * at(o, s->src[0], t)[i];
}

/* ---- the loss -------------------------------------------------------------------------------------- */

static double cap_of(const wk_plan *p) {
    const wk_step *last = &p->step[p->n_step - 1];
    return last->op == WK_OP_softcap ? (double)last->softcap : 0.0;
}

/* y: the logits of a row become the gradient of its loss. */
static void lose(oracle *o, double *y, int32_t n, int32_t want) {
    const double cap = cap_of(o->g->plan);
    double m = -HUGE_VAL, l = 0.0;
    for (int32_t j = 0; j < n && cap > 0.0; j++) y[j] = cap * tanh(y[j] / cap);
    for (int32_t j = 0; j < n; j++) m = fmax(m, y[j]);
    for (int32_t j = 0; j < n; j++) l += exp(y[j] - m);
    o->loss += log(l) + m - y[want];
    for (int32_t j = 0; j < n; j++) {
        const double slope = cap > 0.0 ? 1.0 - (y[j] / cap) * (y[j] / cap) : 1.0;
        y[j] = (exp(y[j] - m) / l - (j == want ? 1.0 : 0.0)) * slope;
    }
}

static void run_head(oracle *o, const wk_tstep *s) {
    const int32_t n = o->g->plan->weight[s->w].n_row, k = dim_of(o, s->src[0]);
    double *y = wk_new_n(double, (size_t)n);
    for (int32_t i = 0; i < o->n_row; i++) {
        const double *h = at(o, s->src[0], i);
        for (int32_t j = 0; j < n; j++) y[j] = dot(h, o->w[s->w] + (size_t)j * (size_t)k, k);
        lose(o, y, n, o->b->target[o->row[i]]);
        if (!o->backward) continue;
        double *dh = s->dst[0] >= 0 ? opened(o, s, 0, i) : NULL;
        for (int32_t j = 0; j < n; j++)
            for (int32_t c = 0; c < k; c++) {
                const size_t e = (size_t)j * (size_t)k + (size_t)c;
                if (dh) dh[c] += y[j] * o->w[s->w][e];
                if (s->param >= 0) param_of(o, s)[e] += y[j] * h[c];
            }
    }
    wk_free(y);
}

/* ---- backward -------------------------------------------------------------------------------------- */

static void run_unpick(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < o->b->n_tok; t++) (void)opened(o, s, 0, t);
    for (int32_t i = 0; i < o->n_row; i++)
        for (int32_t j = 0; j < dim_of(o, s->dst[0]); j++)
            at(o, s->dst[0], o->row[i])[j] += at(o, s->src[0], i)[j];
}

static void run_matmul_dx(oracle *o, const wk_tstep *s) {
    const int32_t n = dim_of(o, s->src[0]), k = dim_of(o, s->dst[0]);
    for (int32_t t = 0; t < rows_of(o, s->dst[0]); t++) {
        double *dx = opened(o, s, 0, t);
        for (int32_t i = 0; i < n; i++)
            for (int32_t j = 0; j < k; j++)
                dx[j] += at(o, s->src[0], t)[i] * o->w[s->w][(size_t)i * (size_t)k + (size_t)j];
        for (int32_t i = 0; s->thin >= 0 && i < dim_of(o, s->src[1]); i++)
            for (int32_t j = 0; j < k; j++)
                dx[j] += at(o, s->src[1], t)[i] * o->w[s->thin][(size_t)i * (size_t)k + (size_t)j];
    }
}

static void run_matmul_dw(oracle *o, const wk_tstep *s) {
    const int32_t n = dim_of(o, s->src[0]), k = dim_of(o, s->src[1]);
    for (int32_t t = 0; t < rows_of(o, s->src[0]); t++)
        for (int32_t i = 0; i < n; i++)
            for (int32_t j = 0; j < k; j++)
                param_of(o, s)[(size_t)i * (size_t)k + (size_t)j] +=
                    at(o, s->src[0], t)[i] * at(o, s->src[1], t)[j];
}

static void run_bias_db(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < rows_of(o, s->src[0]); t++)
        for (int32_t i = 0; i < dim_of(o, s->src[0]); i++)
            param_of(o, s)[i] += at(o, s->src[0], t)[i];
}

static void norm_dx(oracle *o, const wk_tstep *s, int32_t n_head) {
    const int32_t hd = dim_of(o, s->src[1]) / n_head;
    for (int32_t t = 0; t < rows_of(o, s->src[1]); t++) {
        double *dx = opened(o, s, 0, t);
        for (int32_t h = 0; h < n_head; h++) {
            const double *dy = at(o, s->src[0], t) + h * hd, *x = at(o, s->src[1], t) + h * hd;
            const double r = at(o, s->src[2], t)[h], *w = o->w[s->w];
            double mean = 0.0;
            for (int32_t i = 0; i < hd; i++) mean += dy[i] * w[i] * x[i] / (double)hd;
            for (int32_t i = 0; i < hd; i++)
                dx[h * hd + i] += r * (dy[i] * w[i] - x[i] * r * r * mean);
        }
    }
}
static void run_rms_dx(oracle *o, const wk_tstep *s) { norm_dx(o, s, 1); }
static void run_headrms_dx(oracle *o, const wk_tstep *s) { norm_dx(o, s, s->of->n_head); }

static void norm_dw(oracle *o, const wk_tstep *s, int32_t n_head) {
    const int32_t hd = dim_of(o, s->src[1]) / n_head;
    for (int32_t t = 0; t < rows_of(o, s->src[1]); t++)
        for (int32_t h = 0; h < n_head; h++)
            for (int32_t i = 0; i < hd; i++)
                param_of(o, s)[i] += at(o, s->src[0], t)[h * hd + i] *
                                     at(o, s->src[1], t)[h * hd + i] * at(o, s->src[2], t)[h];
}
static void run_rms_dw(oracle *o, const wk_tstep *s) { norm_dw(o, s, 1); }
static void run_headrms_dw(oracle *o, const wk_tstep *s) { norm_dw(o, s, s->of->n_head); }

static void run_rope_dx(oracle *o, const wk_tstep *s) { turn(o, s, -1.0); }

static void run_attn_delta(oracle *o, const wk_tstep *s) {
    const int32_t hd = s->of->head_dim;
    for (int32_t t = 0; t < o->b->n_tok; t++)
        for (int32_t h = 0; h < s->of->n_head; h++)
            at(o, s->dst[0], t)[h] =
                dot(at(o, s->src[0], t) + h * hd, at(o, s->src[1], t) + h * hd, hd);
}

/* One query against one key. */
static void attend_dx(oracle *o, const wk_tstep *s, int32_t t, int32_t h, int32_t j) {
    const wk_step *a = s->of;
    const int32_t hd = a->head_dim, kv = h / (a->n_head / a->n_head_kv);
    const double *q = at(o, s->src[0], t) + h * hd, *k = at(o, s->src[1], j) + kv * hd;
    const double *v = at(o, s->src[2], j) + kv * hd, *dy = at(o, s->src[3], t) + h * hd;
    double th;
    const double p = exp(score(a, q, k, &th) - at(o, s->src[4], t)[h]) / at(o, s->src[5], t)[h];
    const double ds =
        p * (dot(dy, v, hd) - at(o, s->src[6], t)[h]) * (1.0 - th * th) * (double)a->scale;
    for (int32_t i = 0; i < hd; i++) {
        at(o, s->dst[0], t)[h * hd + i] += ds * k[i];
        at(o, s->dst[1], j)[kv * hd + i] += ds * q[i];
        at(o, s->dst[2], j)[kv * hd + i] += p * dy[i];
    }
}
static void run_attn_dx(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < o->b->n_tok; t++)
        for (int i = 0; i < 3; i++) (void)opened(o, s, i, t);
    for (int32_t t = 0; t < o->b->n_tok; t++)
        for (int32_t h = 0; h < s->of->n_head; h++)
            for (int32_t j = seen_from(o, s->of, t); j <= t; j++) attend_dx(o, s, t, h, j);
}

static void run_glu_dx(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < rows_of(o, s->src[0]); t++)
        for (int32_t i = 0; i < dim_of(o, s->src[0]); i++) {
            double slope;
            const double dy = at(o, s->src[0], t)[i], u = at(o, s->src[2], t)[i];
            const double fn = activation(s->of->fn, at(o, s->src[1], t)[i], &slope);
            at(o, s->dst[0], t)[i] = dy * u * slope;
            at(o, s->dst[1], t)[i] = dy * fn;
        }
}

static void run_add_dx(oracle *o, const wk_tstep *s) {
    for (int32_t t = 0; t < rows_of(o, s->dst[0]); t++) {
        double *dx = opened(o, s, 0, t);
        for (int32_t i = 0; i < dim_of(o, s->dst[0]); i++) dx[i] += at(o, s->src[0], t)[i];
    }
}

static void run_embed_dw(oracle *o, const wk_tstep *s) {
    const int32_t n = dim_of(o, s->src[0]);
    for (int32_t t = 0; t < o->b->n_tok; t++)
        for (int32_t i = 0; i < n; i++)
            param_of(o, s)[(size_t)o->b->tok[t] * (size_t)n + (size_t)i] +=
                (double)s->of->scale * at(o, s->src[0], t)[i];
}

/* ---- the list -------------------------------------------------------------------------------------- */

typedef void (*op_fn)(oracle *o, const wk_tstep *s);
static const op_fn fns[WK_TOP_COUNT] = {
    [WK_OP_embed] = run_embed,   [WK_OP_rms] = run_rms,   [WK_OP_headrms] = run_headrms,
    [WK_OP_matmul] = run_matmul, [WK_OP_bias] = run_bias, [WK_OP_rope] = run_rope,
    [WK_OP_attn] = run_attn,     [WK_OP_add] = run_add,   [WK_OP_glu] = run_glu,
    [WK_OP_pick] = run_pick,     [WK_OP_lora] = run_lora,
#define WK_TOP(name, operands, equation) [WK_TOP_##name] = run_##name,
#include "engine/train/pack.def"
#undef WK_TOP
};

static void take_batch(oracle *o, const wk_tbatch *b) {
    assert_true(b->n_tok <= o->room);
    o->b = b;
    o->n_row = 0;
    for (int32_t i = 0; i < b->n_seq; i++)
        for (int32_t j = 0; j < b->seq[i].n_tok; j++) {
            o->pos[b->seq[i].first + j] = j;
            o->start[b->seq[i].first + j] = b->seq[i].first;
        }
    for (int32_t t = 0; t < b->n_tok; t++)
        if (b->target[t] >= 0) o->row[o->n_row++] = t;
}

double oracle_run(oracle *o, const wk_tbatch *b, bool backward, int64_t *counted) {
    const wk_grad *g = o->g;
    take_batch(o, b);
    o->loss = 0.0;
    o->backward = backward;
    for (int32_t i = 0; i < g->n_val;
         i++) /* what is read before it is written shows in everything */
        for (size_t j = 0; j < (size_t)o->room * (size_t)g->val[i].dim; j++)
            o->v[i][j] = (double)NAN;
    for (int32_t i = 0; i < g->n_param && backward; i++)
        memset(o->d[i], 0, g->param[i].n * sizeof(double));
    for (int32_t i = 0; i < (backward ? g->n_step : g->n_forward); i++) {
        const wk_tstep *s = &g->step[i];
        if (!fns[s->op]) fail_msg("step %d: %s has no equation here", (int)i, wk_top_name(s->op));
        fns[s->op](o, s);
    }
    if (counted) *counted = o->n_row;
    return o->loss;
}

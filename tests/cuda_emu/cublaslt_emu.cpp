/* cublaslt_emu.cpp: stands in for cuBLASLt beside the emulator: the calls that gpu/cuda/grad/tblas.cu makes, matrices by
 * columns, sums in f32. What it is given is looked at: objects that live, sizes that fit, leading dimensions, alignment that
 * was promised to the search, the workspace. Misuse is an invalid value (7), as there. A test can make a call fail, and asks
 * what still lives and what was multiplied. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "engine/base/half.h"
#include "tests/cuda_emu/cuda_emu.h"
/* after it */
#include "gpu/cuda/grad/tblas_abi.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

enum { OK = 0, INVALID = 7, INTERNAL = 14, NOT_SUPPORTED = 15 };
enum { LT = 0x4c54, DESC, LAYOUT, PREF, ALGO };

namespace {

typedef void enqueue_fn(void *stream, void (*f)(void *), void *arg);
enqueue_fn *enqueue;
char failing[64];
int live, multiplied, searched;

struct lt { int tag; };
struct desc { int tag; int32_t turn[2]; };
struct layout { int tag, type; uint64_t rows, cols; int64_t ld; };
struct pref { int tag; uint64_t workspace; uint32_t align[4]; };
struct algo { uint64_t tag, m, n, k, workspace; uint32_t align[4]; int type; };
static_assert(sizeof(algo) <= sizeof(wkc_lt_algo), "an algorithm has 64 bytes");

/* A product on its way. */
struct job {
    layout a, b, c;
    desc d;
    float alpha, beta;
    const void *x, *y;
    float *z;
    void *workspace;
    size_t n_workspace;
    uint64_t m, n, k;
};

bool is_failing(const char *call) { return strcmp(failing, call) == 0; }
template <class T> bool is(const void *p, int tag) { return p && static_cast<const T *>(p)->tag == tag; }
template <class T> int make(void **out, int tag, const T &v) {
    T *p = new T(v);
    p->tag = tag;
    live++;
    *out = p;
    return OK;
}
template <class T> int drop(void *p, int tag) {
    if (!is<T>(p, tag)) return INVALID;
    static_cast<T *>(p)->tag = 0;
    live--;
    delete static_cast<T *>(p);
    return OK;
}

float at(const layout &l, const void *p, uint64_t row, uint64_t col) {
    const uint64_t i = row + col * static_cast<uint64_t>(l.ld);
    if (l.type == WKC_LT_32F) return static_cast<const float *>(p)[i];
    return wk_bf16_to_f32(static_cast<const uint16_t *>(p)[i]);
}

void work(void *arg) {
    job *const j = static_cast<job *>(arg);
    memset(j->workspace, 0xff, j->n_workspace);
    for (uint64_t col = 0; col < j->n; col++)
        for (uint64_t row = 0; row < j->m; row++) {
            float sum = 0.0f;
            for (uint64_t d = 0; d < j->k; d++)
                sum += (j->d.turn[0] ? at(j->a, j->x, d, row) : at(j->a, j->x, row, d)) *
                       (j->d.turn[1] ? at(j->b, j->y, col, d) : at(j->b, j->y, d, col));
            float *const c = j->z + row + col * static_cast<uint64_t>(j->c.ld);
            *c = j->beta != 0.0f ? j->alpha * sum + j->beta * *c : j->alpha * sum;
        }
    delete j;
}

/* Sizes of a product: c[m][n] += a[m][k] . b[k][n]. */
bool sizes(const desc *d, const layout *a, const layout *b, const layout *c, uint64_t s[3]) {
    s[0] = d->turn[0] ? a->cols : a->rows;
    s[1] = d->turn[1] ? b->rows : b->cols;
    s[2] = d->turn[0] ? a->rows : a->cols;
    return (d->turn[1] ? b->cols : b->rows) == s[2] && c->rows == s[0] && c->cols == s[1] && a->type == b->type &&
           c->type == WKC_LT_32F;
}
bool is_aligned(const void *p, uint32_t n) { return p && reinterpret_cast<uintptr_t>(p) % n == 0; }

} // namespace

/* ---- of the test ------------------------------------------------------------------------------------------------- */

EXPORT void wkc_emu_blas_set(enqueue_fn *f) { enqueue = f; }
EXPORT void wkc_emu_blas_fail(const char *call) { (void)snprintf(failing, sizeof(failing), "%s", call); }
EXPORT int wkc_emu_blas_live(void) { return live; }
EXPORT int wkc_emu_blas_multiplied(void) { return multiplied; }
EXPORT int wkc_emu_blas_searched(void) { return searched; }

/* ---- of the library ---------------------------------------------------------------------------------------------- */

EXPORT size_t cublasLtGetVersion(void) { return 130200; }
EXPORT int cublasLtCreate(wkc_lt *out) {
    if (is_failing("cublasLtCreate")) return INTERNAL;
    return make(out, LT, lt{0});
}
EXPORT int cublasLtDestroy(wkc_lt p) { return drop<lt>(p, LT); }

EXPORT int cublasLtMatmulDescCreate(wkc_lt_desc *out, int compute, int scale) {
    if (is_failing("cublasLtMatmulDescCreate")) return INTERNAL;
    if (compute != WKC_LT_COMPUTE_32F || scale != WKC_LT_32F) return INVALID;
    return make(out, DESC, desc{0, {0, 0}});
}
EXPORT int cublasLtMatmulDescSetAttribute(wkc_lt_desc p, int attr, const void *v, size_t n) {
    if (!is<desc>(p, DESC) || n != sizeof(int32_t) || (attr != WKC_LT_DESC_TRANSA && attr != WKC_LT_DESC_TRANSB)) return INVALID;
    memcpy(&static_cast<desc *>(p)->turn[attr - WKC_LT_DESC_TRANSA], v, n);
    return OK;
}
EXPORT int cublasLtMatmulDescDestroy(wkc_lt_desc p) { return drop<desc>(p, DESC); }

EXPORT int cublasLtMatrixLayoutCreate(wkc_lt_layout *out, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    if (is_failing("cublasLtMatrixLayoutCreate")) return INTERNAL;
    if ((type != WKC_LT_32F && type != WKC_LT_16BF) || !rows || !cols || ld < static_cast<int64_t>(rows)) return INVALID;
    return make(out, LAYOUT, layout{0, type, rows, cols, ld});
}
EXPORT int cublasLtMatrixLayoutDestroy(wkc_lt_layout p) { return drop<layout>(p, LAYOUT); }

EXPORT int cublasLtMatmulPreferenceCreate(wkc_lt_pref *out) {
    if (is_failing("cublasLtMatmulPreferenceCreate")) return INTERNAL;
    return make(out, PREF, pref{0, 0, {256, 256, 256, 256}});
}
EXPORT int cublasLtMatmulPreferenceSetAttribute(wkc_lt_pref q, int attr, const void *v, size_t n) {
    pref *const p = static_cast<pref *>(q);
    if (!is<pref>(q, PREF)) return INVALID;
    if (attr == WKC_LT_PREF_WORKSPACE && n == sizeof(p->workspace)) memcpy(&p->workspace, v, n);
    else if (attr >= WKC_LT_PREF_ALIGN_A && attr <= WKC_LT_PREF_ALIGN_D && n == sizeof(p->align[0]))
        memcpy(&p->align[attr - WKC_LT_PREF_ALIGN_A], v, n);
    else return INVALID;
    return OK;
}
EXPORT int cublasLtMatmulPreferenceDestroy(wkc_lt_pref p) { return drop<pref>(p, PREF); }

EXPORT int cublasLtMatmulAlgoGetHeuristic(wkc_lt p, wkc_lt_desc op, wkc_lt_layout la, wkc_lt_layout lb, wkc_lt_layout lc,
                                          wkc_lt_layout ld, wkc_lt_pref q, int want, wkc_lt_found *out, int *n_out) {
    uint64_t s[3];
    *n_out = 0;
    if (!is<lt>(p, LT) || !is<desc>(op, DESC) || !is<layout>(la, LAYOUT) || !is<layout>(lb, LAYOUT) ||
        !is<layout>(lc, LAYOUT) || lc != ld || !is<pref>(q, PREF) || want < 1)
        return INVALID;
    const layout *a = static_cast<layout *>(la);
    if (!sizes(static_cast<desc *>(op), a, static_cast<layout *>(lb), static_cast<layout *>(lc), s)) return INVALID;
    searched++;
    if (is_failing("cublasLtMatmulAlgoGetHeuristic")) return NOT_SUPPORTED;
    /* as there: no algorithm for bf16 whose rows do not begin at 4 bytes */
    if (a->type == WKC_LT_16BF && (a->ld % 2 || static_cast<layout *>(lb)->ld % 2)) return NOT_SUPPORTED;
    const pref *f = static_cast<pref *>(q);
    algo x = {ALGO, s[0], s[1], s[2], f->workspace < 4096 ? f->workspace : 4096, {}, a->type};
    memcpy(x.align, f->align, sizeof(x.align));
    memset(out, 0, sizeof(*out));
    memcpy(&out->algo, &x, sizeof(x));
    out->workspace = x.workspace;
    *n_out = 1;
    return OK;
}

EXPORT int cublasLtMatmul(wkc_lt p, wkc_lt_desc op, const void *alpha, const void *a, wkc_lt_layout la, const void *b,
                          wkc_lt_layout lb, const void *beta, const void *c, wkc_lt_layout lc, void *d, wkc_lt_layout ld,
                          const wkc_lt_algo *how, void *workspace, size_t n_workspace, cudaStream_t stream) {
    job j;
    algo x;
    uint64_t s[3];
    if (is_failing("cublasLtMatmul")) return INTERNAL;
    if (!is<lt>(p, LT) || !is<desc>(op, DESC) || !is<layout>(la, LAYOUT) || !is<layout>(lb, LAYOUT) ||
        !is<layout>(lc, LAYOUT) || lc != ld || c != d || !how || !alpha || !beta)
        return INVALID;
    memcpy(&x, how, sizeof(x));
    j.a = *static_cast<layout *>(la), j.b = *static_cast<layout *>(lb), j.c = *static_cast<layout *>(lc);
    j.d = *static_cast<desc *>(op);
    if (x.tag != ALGO || !sizes(&j.d, &j.a, &j.b, &j.c, s) || s[0] != x.m || s[1] != x.n || s[2] != x.k || j.a.type != x.type)
        return INVALID;
    if (!is_aligned(a, x.align[0]) || !is_aligned(b, x.align[1]) || !is_aligned(c, x.align[2]) || !is_aligned(d, x.align[3]) ||
        !is_aligned(workspace, 256) || n_workspace < x.workspace)
        return INVALID;
    memcpy(&j.alpha, alpha, sizeof(j.alpha));
    memcpy(&j.beta, beta, sizeof(j.beta));
    j.x = a, j.y = b, j.z = static_cast<float *>(d), j.workspace = workspace, j.n_workspace = x.workspace;
    j.m = s[0], j.n = s[1], j.k = s[2];
    multiplied++;
    enqueue(stream, work, new job(j));
    return OK;
}

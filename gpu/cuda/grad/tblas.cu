/* tblas.cu: cuBLASLt by dlopen. Its matrices lie by columns: c[m][n] by rows is its c[n][m], so the second operand comes
 * first. What it found for a product is kept: a search a shape. */
#include "gpu/cuda/grad/tblas.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "gpu/cuda/grad/tblas_abi.h"

/* Micro-batches differ in the number of counted tokens: more shapes than that begin anew. */
enum { MOST = 512, ALIGNED = 256 };

struct table {
#define MEMBER(name, result, parameters) result(*name) parameters;
    WKC_LT_CALLS(MEMBER)
#undef MEMBER
};

/* A product, the bytes its operands are aligned to, and what was found. */
struct kept {
    wkc_product p;
    uint32_t align[3];
    bool is_good;
    wkc_lt_desc desc;
    wkc_lt_layout x, y, c; /* of the first, the second and the result, as the library sees them */
    wkc_lt_algo algo;
};

struct wkc_blas {
    table call;
    wkc_lt lt;
    int n;
    kept kept_of[MOST];
};

/* ---- library ----------------------------------------------------------------------------------------------------- */

static void *library(void) {
#ifdef WKC_EMU
    return wkc_emu_library(WKC_EMU_BLAS);
#else
    static const char *const name[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11"};
    void *h = NULL;
    for (size_t i = 0; i < sizeof(name) / sizeof(name[0]) && !h; i++) h = dlopen(name[i], RTLD_NOW | RTLD_LOCAL);
    return h;
#endif
}

static bool load(table *t, char *why, size_t n) {
    void *const lib = library();
    memset(t, 0, sizeof(*t));
    if (!lib) {
        const char *const e = dlerror();
        (void)snprintf(why, n, "cuBLASLt was not found (%s)", e ? e : "no reason given");
        return false;
    }
#define SYMBOL(name, result, parameters)                                    \
    if (void *const p = dlsym(lib, #name)) memcpy(&t->name, &p, sizeof(p)); \
    else return (void)snprintf(why, n, "cuBLASLt has no %s", #name), false;
    WKC_LT_CALLS(SYMBOL)
#undef SYMBOL
    const size_t v = t->cublasLtGetVersion(); /* before 12 the digits of another scheme */
    if (v < 100000) (void)snprintf(why, n, "cuBLASLt 11");
    else (void)snprintf(why, n, "cuBLASLt %zu.%zu", v / 10000, v / 100 % 100);
    return true;
}

bool wkc_blas_is_here(char *why, size_t n) {
    table t;
    return load(&t, why, n);
}

wkc_blas *wkc_blas_open(char *why, size_t n) {
    wkc_blas *const b = new (std::nothrow) wkc_blas();
    if (!b) return (void)snprintf(why, n, "no memory for cuBLASLt"), (wkc_blas *)NULL;
    const int rc = load(&b->call, why, n) ? b->call.cublasLtCreate(&b->lt) : -1;
    if (!rc) return b;
    if (rc > 0) (void)snprintf(why, n, "cublasLtCreate ended with status %d", rc);
    delete b;
    return NULL;
}

static void drop(const table *t, kept *k) {
    if (k->c) (void)t->cublasLtMatrixLayoutDestroy(k->c);
    if (k->y) (void)t->cublasLtMatrixLayoutDestroy(k->y);
    if (k->x) (void)t->cublasLtMatrixLayoutDestroy(k->x);
    if (k->desc) (void)t->cublasLtMatmulDescDestroy(k->desc);
    memset(k, 0, sizeof(*k));
}

static void drop_all(wkc_blas *b) {
    for (int i = 0; i < b->n; i++) drop(&b->call, &b->kept_of[i]);
    b->n = 0;
}

void wkc_blas_close(wkc_blas *b) {
    if (!b) return;
    drop_all(b);
    (void)b->call.cublasLtDestroy(b->lt);
    delete b;
}

/* ---- what was found ---------------------------------------------------------------------------------------------- */

static int describe(const table *t, kept *k) {
    const wkc_product *p = &k->p;
    const int type = p->bf16 ? WKC_LT_16BF : WKC_LT_32F;
    const int32_t turn_x = p->op == WKC_GEMM_NT ? WKC_LT_OP_T : WKC_LT_OP_N,
                  turn_y = p->op == WKC_GEMM_TN ? WKC_LT_OP_T : WKC_LT_OP_N;
    const uint64_t m = (uint64_t)p->m, n = (uint64_t)p->n, deep = (uint64_t)p->k;
    int rc = t->cublasLtMatmulDescCreate(&k->desc, WKC_LT_COMPUTE_32F, WKC_LT_32F);
    if (!rc) rc = t->cublasLtMatmulDescSetAttribute(k->desc, WKC_LT_DESC_TRANSA, &turn_x, sizeof(turn_x));
    if (!rc) rc = t->cublasLtMatmulDescSetAttribute(k->desc, WKC_LT_DESC_TRANSB, &turn_y, sizeof(turn_y));
    if (!rc) rc = t->cublasLtMatrixLayoutCreate(&k->x, type, turn_x ? deep : n, turn_x ? n : deep, turn_x ? p->k : p->n);
    if (!rc) rc = t->cublasLtMatrixLayoutCreate(&k->y, type, turn_y ? m : deep, turn_y ? deep : m, turn_y ? p->m : p->k);
    if (!rc) rc = t->cublasLtMatrixLayoutCreate(&k->c, WKC_LT_32F, n, m, p->n);
    return rc;
}

static int prefer(const table *t, wkc_lt_pref pref, const uint32_t align[3]) {
    static const int attr[] = {WKC_LT_PREF_ALIGN_A, WKC_LT_PREF_ALIGN_B, WKC_LT_PREF_ALIGN_C, WKC_LT_PREF_ALIGN_D};
    const uint64_t room = WKC_BLAS_WORKSPACE;
    int rc = t->cublasLtMatmulPreferenceSetAttribute(pref, WKC_LT_PREF_WORKSPACE, &room, sizeof(room));
    for (int i = 0; i < 4 && !rc; i++)
        rc = t->cublasLtMatmulPreferenceSetAttribute(pref, attr[i], &align[i < 3 ? i : 2], sizeof(align[0]));
    return rc;
}

static void search(const wkc_blas *b, kept *k) {
    const table *t = &b->call;
    wkc_lt_pref pref = NULL;
    wkc_lt_found found;
    int n = 0;
    memset(&found, 0, sizeof(found));
    int rc = describe(t, k);
    if (!rc) rc = t->cublasLtMatmulPreferenceCreate(&pref);
    if (!rc) rc = prefer(t, pref, k->align);
    if (!rc) rc = t->cublasLtMatmulAlgoGetHeuristic(b->lt, k->desc, k->x, k->y, k->c, k->c, pref, 1, &found, &n);
    if (pref) (void)t->cublasLtMatmulPreferenceDestroy(pref);
    k->is_good = !rc && n > 0 && !found.status && found.workspace <= WKC_BLAS_WORKSPACE;
    k->algo = found.algo;
}

static bool is_same(const kept *a, const kept *b) {
    return a->p.op == b->p.op && a->p.m == b->p.m && a->p.n == b->p.n && a->p.k == b->p.k && a->p.bf16 == b->p.bf16 &&
           memcmp(a->align, b->align, sizeof(a->align)) == 0;
}

static uint32_t alignment(const void *p) {
    const uintptr_t at = (uintptr_t)p;
    uint32_t n = ALIGNED;
    while (at % n) n /= 2;
    return n;
}

static const kept *look(wkc_blas *b, const wkc_product *p, const void *x, const void *y, const float *c) {
    kept want;
    memset(&want, 0, sizeof(want));
    want.p = *p;
    want.align[0] = alignment(y);
    want.align[1] = alignment(x);
    want.align[2] = alignment(c);
    for (int i = 0; i < b->n; i++)
        if (is_same(&b->kept_of[i], &want)) return &b->kept_of[i];
    if (b->n == MOST) drop_all(b);
    kept *const k = &b->kept_of[b->n++];
    *k = want;
    search(b, k);
    return k;
}

bool wkc_blas_can(wkc_blas *b, const wkc_product *p, const void *x, const void *y, const float *c) {
    return look(b, p, x, y, c)->is_good;
}

int wkc_blas_multiply(wkc_blas *b, cudaStream_t s, const wkc_product *p, float alpha, const void *x, const void *y, bool add,
                      float *c, void *workspace) {
    const float beta = add ? 1.0f : 0.0f;
    const kept *const k = look(b, p, x, y, c);
    if (!k->is_good) return WKC_BLAS_NONE;
    return b->call.cublasLtMatmul(b->lt, k->desc, &alpha, y, k->x, x, k->y, &beta, c, k->c, c, k->c, &k->algo, workspace,
                                  WKC_BLAS_WORKSPACE, s);
}

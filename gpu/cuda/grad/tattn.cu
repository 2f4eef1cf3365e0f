/* tattn.cu: attention of whole sequences, there and back (Dao et al. 2022, FlashAttention). A warp owns a row: a query on
 * the way there and for dq, a key for dk and dv, whose sum goes over the query heads of its kv head one after another. The
 * rows that it meets come through shared memory, 32 at a time, one a lane; then each lane owns some elements of the sum. */
#include "gpu/cuda/grad/tkernels.h"

enum { WARPS = WKC_TATTN_ROWS, LANES = 32, PIECES = WKC_TATTN_HD / LANES };
static const unsigned ALL = 0xffffffffu;

/* What a thread knows of its place. */
struct place {
    int lane, warp, row, n_tok; /* row: of this warp, in its sequence; may lie behind the last */
    size_t first;               /* token where the sequence begins */
};
static __device__ place place_of(const wkc_tattn_args &a) {
    const wkc_ttile t = a.tile[blockIdx.x];
    const int warp = (int)threadIdx.x / LANES;
    return {(int)threadIdx.x % LANES, warp, t.at + warp, t.n_tok, (size_t)t.first};
}

/* Rows r0 .. r0+31 of a head of x, zeros behind the last; the barrier before it keeps what was there until all have read. */
static __device__ void fetch(float *tile, const float *x, const place &p, int r0, size_t dim, int head, int hd) {
    __syncthreads();
    for (int i = p.warp; i < LANES; i += WARPS)
        for (int d = p.lane; d < hd; d += LANES)
            tile[i * (hd + 1) + d] =
                r0 + i < p.n_tok ? x[(p.first + (size_t)(r0 + i)) * dim + (size_t)(head * hd + d)] : 0.0f;
    __syncthreads();
}

static __device__ float dot(const float *mine, const float *row, int hd) {
    float s = 0.0f;
    for (int d = 0; d < hd; d++) s = fmaf(mine[d], row[d], s);
    return s;
}

/* sum[d] += sum over the 32 rows of c * row; c: one a lane. */
static __device__ void add_rows(float *sum, float *shared, float c, const float *tile, const place &p, int hd) {
    float *const all = shared + p.warp * LANES;
    __syncwarp();
    all[p.lane] = c;
    __syncwarp();
    WKC_UNROLL
    for (int i = 0; i < PIECES; i++) {
        const int d = i * LANES + p.lane;
        if (d >= hd) continue;
        for (int j = 0; j < LANES; j++) sum[i] = fmaf(all[j], tile[j * (hd + 1) + d], sum[i]);
    }
}

static __device__ void store(float *dst, const float *sum, float c, const place &p, int hd) {
    WKC_UNROLL
    for (int i = 0; i < PIECES; i++)
        if (i * LANES + p.lane < hd) dst[i * LANES + p.lane] = sum[i] * c;
}

static __device__ bool sees(const wkc_tattn_args &a, const place &p, int query, int key) {
    return query < p.n_tok && key <= query && (!a.window || query - key < a.window);
}

/* Score of a product; t: for the slope of the cap. */
static __device__ float score(const wkc_tattn_args &a, float x, float *t) {
    const float s = x * a.scale;
    *t = a.softcap > 0.0f ? tanhf(s * a.cap_inv) : 0.0f;
    return a.softcap > 0.0f ? a.softcap * *t : s;
}

static __device__ int first_key(const wkc_tattn_args &a, int query) {
    return a.window && query >= a.window ? (query - a.window + 1) / LANES * LANES : 0;
}
static __device__ int behind_last(int row, int n_tok) { return row + WARPS < n_tok ? row + WARPS : n_tok; }

/* ---- there ------------------------------------------------------------------------------------------------------- */

struct softmax {
    float m, l;
};
/* s of a lane that sees its key becomes its weight; returns what the sums so far are multiplied by. */
static __device__ float weigh(softmax *x, float *s, bool seen) {
    float top = seen ? *s : -0x1p127f;
    for (int d = 16; d > 0; d >>= 1) top = fmaxf(top, __shfl_xor_sync(ALL, top, d));
    const float m = fmaxf(x->m, top), c = expf(x->m - m);
    float p = seen ? expf(*s - m) : 0.0f, all = p;
    for (int d = 16; d > 0; d >>= 1) all += __shfl_xor_sync(ALL, all, d);
    x->m = m;
    x->l = fmaf(x->l, c, all);
    *s = p;
    return c;
}

static __global__ void __launch_bounds__(WARPS *LANES) there(wkc_tattn_args a) {
    WKC_SHARED(float, tile);
    float *const weight = tile + LANES * (a.hd + 1);
    const place p = place_of(a);
    const int head = (int)blockIdx.y, kv = head / (a.n_head / a.n_head_kv), row0 = p.row - p.warp;
    const size_t q_dim = (size_t)a.n_head * (size_t)a.hd, kv_dim = (size_t)a.n_head_kv * (size_t)a.hd;
    const bool is_row = p.row < p.n_tok;
    const size_t token = p.first + (size_t)(is_row ? p.row : row0), at = token * q_dim + (size_t)(head * a.hd);
    float sum[PIECES] = {}, t;
    softmax x = {-0x1p127f, 0.0f};
    for (int k0 = first_key(a, row0); k0 < behind_last(row0, p.n_tok); k0 += LANES) {
        fetch(tile, a.k, p, k0, kv_dim, kv, a.hd);
        float s = score(a, dot(a.q + at, tile + p.lane * (a.hd + 1), a.hd), &t);
        const float c = weigh(&x, &s, sees(a, p, p.row, k0 + p.lane));
        WKC_UNROLL
        for (int i = 0; i < PIECES; i++) sum[i] *= c;
        fetch(tile, a.v, p, k0, kv_dim, kv, a.hd);
        add_rows(sum, weight, s, tile, p, a.hd);
    }
    if (!is_row) return;
    store(a.o + at, sum, 1.0f / x.l, p, a.hd);
    if (!a.m || p.lane) return;
    a.m[token * (size_t)a.n_head + (size_t)head] = x.m;
    a.l[token * (size_t)a.n_head + (size_t)head] = x.l;
}

static size_t shared_bytes(const wkc_tattn_args *a) {
    return (size_t)(LANES * (a->hd + 1) + WARPS * LANES) * sizeof(float);
}

void wkc_tattn(cudaStream_t s, const wkc_tattn_args *a) {
    if (a->n_tile < 1) return;
    WKC_LAUNCH(there, dim3((unsigned)a->n_tile, (unsigned)a->n_head), WARPS * LANES, shared_bytes(a), s, *a);
}

/* ---- back -------------------------------------------------------------------------------------------------------- */

/* The weight of a pair and the gradient of its product; x: product, dp: gradient of the weight. */
struct pair {
    float p, ds;
};
static __device__ pair slope(const wkc_tattn_args &a, bool seen, float x, float dp, size_t stat) {
    float t;
    if (!seen) return {0.0f, 0.0f};
    const float s = score(a, x, &t), p = expf(s - a.m[stat]) / a.l[stat];
    float ds = p * (dp - a.delta[stat]);
    if (a.softcap > 0.0f) ds *= fmaf(-t, t, 1.0f);
    return {p, ds * a.scale};
}

static __global__ void __launch_bounds__(WARPS *LANES) back_q(wkc_tattn_args a) {
    WKC_SHARED(float, tile);
    float *const weight = tile + LANES * (a.hd + 1);
    const place p = place_of(a);
    const int head = (int)blockIdx.y, kv = head / (a.n_head / a.n_head_kv), row0 = p.row - p.warp;
    const size_t q_dim = (size_t)a.n_head * (size_t)a.hd, kv_dim = (size_t)a.n_head_kv * (size_t)a.hd;
    const bool is_row = p.row < p.n_tok;
    const size_t token = p.first + (size_t)(is_row ? p.row : row0), at = token * q_dim + (size_t)(head * a.hd),
                 stat = token * (size_t)a.n_head + (size_t)head;
    float sum[PIECES] = {};
    for (int k0 = first_key(a, row0); k0 < behind_last(row0, p.n_tok); k0 += LANES) {
        fetch(tile, a.v, p, k0, kv_dim, kv, a.hd);
        const float dp = dot(a.d_o + at, tile + p.lane * (a.hd + 1), a.hd);
        fetch(tile, a.k, p, k0, kv_dim, kv, a.hd);
        const float x = dot(a.q + at, tile + p.lane * (a.hd + 1), a.hd);
        add_rows(sum, weight, slope(a, sees(a, p, p.row, k0 + p.lane), x, dp, stat).ds, tile, p, a.hd);
    }
    if (is_row) store(a.dq + at, sum, 1.0f, p, a.hd);
}

/* Queries that see a key of the tile: from it on, as far as the window goes. */
static __device__ int behind_query(const wkc_tattn_args &a, int row0, int n_tok) {
    if (!a.window || n_tok - row0 <= WARPS) return n_tok;
    return a.window < n_tok - row0 - WARPS + 1 ? row0 + WARPS - 1 + a.window : n_tok;
}

static __global__ void __launch_bounds__(WARPS *LANES) back_kv(wkc_tattn_args a) {
    WKC_SHARED(float, tile);
    float *const weight = tile + LANES * (a.hd + 1);
    const place p = place_of(a);
    const int kv = (int)blockIdx.y, group = a.n_head / a.n_head_kv, row0 = p.row - p.warp;
    const size_t q_dim = (size_t)a.n_head * (size_t)a.hd, kv_dim = (size_t)a.n_head_kv * (size_t)a.hd;
    const bool is_row = p.row < p.n_tok;
    const size_t at = (p.first + (size_t)(is_row ? p.row : row0)) * kv_dim + (size_t)(kv * a.hd);
    float dk[PIECES] = {}, dv[PIECES] = {};
    for (int head = kv * group; head < (kv + 1) * group; head++)
        for (int q0 = row0 / LANES * LANES; q0 < behind_query(a, row0, p.n_tok); q0 += LANES) {
            const int query = q0 + p.lane;
            const size_t stat = (p.first + (size_t)query) * (size_t)a.n_head + (size_t)head;
            fetch(tile, a.q, p, q0, q_dim, head, a.hd);
            const float x = dot(a.k + at, tile + p.lane * (a.hd + 1), a.hd);
            fetch(tile, a.d_o, p, q0, q_dim, head, a.hd);
            const float dp = dot(a.v + at, tile + p.lane * (a.hd + 1), a.hd);
            const pair w = slope(a, is_row && sees(a, p, query, p.row), x, dp, stat);
            add_rows(dv, weight, w.p, tile, p, a.hd);
            fetch(tile, a.q, p, q0, q_dim, head, a.hd);
            add_rows(dk, weight, w.ds, tile, p, a.hd);
        }
    if (!is_row) return;
    store(a.dk + at, dk, 1.0f, p, a.hd);
    store(a.dv + at, dv, 1.0f, p, a.hd);
}

void wkc_tattn_back(cudaStream_t s, const wkc_tattn_args *a) {
    if (a->n_tile < 1) return;
    WKC_LAUNCH(back_q, dim3((unsigned)a->n_tile, (unsigned)a->n_head), WARPS * LANES, shared_bytes(a), s, *a);
    WKC_LAUNCH(back_kv, dim3((unsigned)a->n_tile, (unsigned)a->n_head_kv), WARPS * LANES, shared_bytes(a), s, *a);
}

/* attn_tile.cu: attention of sequences that bring many tokens: a block has 64 columns (attn.cuh) of a kv head and walks the
 * pages that they see. Everything is a product of 64 x 64 x 64 in f32:
 *
 *   S[col][pos] += Q[col][dim] K[pos][dim]   32 dims at a time, both from shared memory
 *   O[col][dim]  = O * old + P[col][pos] V[pos][dim]   64 dims at a time, O in registers
 *
 * A thread has 4 columns x 4 positions, or 4 columns x 4 dims of each 64. Shared memory is 32 KiB whatever the head, so Q
 * is read again for each page: from the second level of cache, half as many bytes as K and V at most. */
#include "gpu/cuda/attn.cuh"

enum { COLS = 64, THREADS = 256, DIMS = 32, PAGE = WK_KV_PAGE };

typedef float row64[PAGE];

/* The tile of this block: its sequence, and its first column there; false if there is none. Sequences lie on the device,
 * so the grid has as many blocks as the numbers of tokens and sequences allow at most. */
static inline __device__ bool find_tile(const wkc_attn_args *a, wkc_cols *s, int *c0) {
    int tile = (int)(gridDim.x - 1 - blockIdx.x); /* the last columns see most: they begin first */
    for (int i = 0; i < a->n_seq; i++) {
        const int count = a->count[i], n = count * a->group, n_tile = count > WKC_FEW ? (n + COLS - 1) / COLS : 0;
        if (tile < n_tile) {
            *s = {i, a->first[i], a->pos0[i], n};
            *c0 = tile * COLS;
            return true;
        }
        tile -= n_tile;
    }
    return false;
}

/* q[dim][col] of dims d0 .. d0 + DIMS - 1: a thread has 8 dims of a column, which is at src; NULL: of none. */
static inline __device__ void load_q(row64 *q, const float *src, int hd, int d0) {
    const int col = (int)threadIdx.x % COLS, part = (int)threadIdx.x / COLS * WKC_CHUNK;
    if (d0 + part >= hd) return;
    float4 lo = make_float4(0, 0, 0, 0), hi = lo;
    if (src) {
        const float4 *p = (const float4 *)(src + d0 + part);
        lo = p[0], hi = p[1];
    }
    q[part][col] = lo.x, q[part + 1][col] = lo.y, q[part + 2][col] = lo.z, q[part + 3][col] = lo.w;
    q[part + 4][col] = hi.x, q[part + 5][col] = hi.y, q[part + 6][col] = hi.z, q[part + 7][col] = hi.w;
}

/* k[dim][pos], as load_q. */
template <int TYPE> static inline __device__ void load_k(row64 *k, const uint8_t *p, int hd, int d0) {
    const int pos = (int)threadIdx.x % PAGE, part = (int)threadIdx.x / PAGE * WKC_CHUNK;
    if (d0 + part >= hd) return;
    float x[WKC_CHUNK];
    wkc_k_chunk<TYPE>(x, p, hd, (d0 + part) / WKC_CHUNK, pos);
    WKC_UNROLL
    for (int i = 0; i < WKC_CHUNK; i++) k[part + i][pos] = x[i];
}

/* v[pos][dim] of 64 dims from d0 on; dims past the head are left as they were and nobody uses what comes of them. */
template <int TYPE> static inline __device__ void load_v(row64 *v, const uint8_t *p, int hd, int d0) {
    const int part = (int)threadIdx.x % (PAGE / WKC_CHUNK) * WKC_CHUNK;
    if (d0 + part >= hd) return;
    for (int pos = (int)threadIdx.x / (PAGE / WKC_CHUNK); pos < PAGE; pos += THREADS / (PAGE / WKC_CHUNK)) {
        float x[WKC_CHUNK];
        wkc_v_chunk<TYPE>(x, p, hd, (d0 + part) / WKC_CHUNK, pos);
        float4 *dst = (float4 *)&v[pos][part];
        dst[0] = make_float4(x[0], x[1], x[2], x[3]);
        dst[1] = make_float4(x[4], x[5], x[6], x[7]);
    }
}

/* c[4][4] += x (4 columns) times y. */
static inline __device__ void outer(float (*c)[4], float4 x, float4 y) {
    const float l[4] = {x.x, x.y, x.z, x.w}, r[4] = {y.x, y.y, y.z, y.w};
    WKC_UNROLL
    for (int i = 0; i < 4; i++) {
        WKC_UNROLL
        for (int j = 0; j < 4; j++) c[i][j] = fmaf(l[i], r[j], c[i][j]);
    }
}

/* Probabilities lie [pos][col], columns in pieces of 4; piece i of a row stands at i xor the row's own number of 4, so that
 * threads that write one piece of different rows meet different banks. */
static inline __device__ float4 *prob_at(row64 *p, int pos, int piece) {
    return (float4 *)p[pos] + (piece ^ (pos / 4));
}

/* A thread's columns: positions, and the softmax so far; its 16 neighbours with the same columns hold the same. */
typedef struct rows4 {
    int pos[4]; /* -1: no column */
    float m[4], l[4];
} rows4;

/* Scores to probabilities, into p; old[i]: what column i's values so far shrink by. pos0: of the page. */
static inline __device__ void softmax(const wkc_attn_args *a, rows4 *r, float (*s)[4], float *old, row64 *p, int pos0) {
    const int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16;
    WKC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int lo = wkc_first_seen(r->pos[i], a->window);
        float m = WKC_M0, sum = 0.0f;
        WKC_UNROLL
        for (int j = 0; j < 4; j++) {
            const int pos = pos0 + 4 * tx + j;
            s[i][j] = pos <= r->pos[i] && pos >= lo ? wkc_score(a, s[i][j] * a->scale) : WKC_M0;
            m = fmaxf(m, s[i][j]);
        }
        for (int o = 8; o > 0; o /= 2) m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, o));
        m = fmaxf(m, r->m[i]);
        WKC_UNROLL
        for (int j = 0; j < 4; j++) {
            const int pos = pos0 + 4 * tx + j;
            s[i][j] = pos <= r->pos[i] && pos >= lo ? exp2f(s[i][j] - m) : 0.0f;
            sum += s[i][j];
        }
        for (int o = 8; o > 0; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
        old[i] = exp2f(r->m[i] - m);
        r->m[i] = m;
        r->l[i] = fmaf(r->l[i], old[i], sum);
    }
    WKC_UNROLL
    for (int j = 0; j < 4; j++) *prob_at(p, 4 * tx + j, ty) = make_float4(s[0][j], s[1][j], s[2][j], s[3][j]);
}

/* Scores of a page. buf: 64 rows, q in the first 32, k in the others. q: as load_q. */
template <int TYPE>
static inline __device__ void scores(float (*c)[4], row64 *buf, const float *q, const uint8_t *k, int hd) {
    const int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16;
    WKC_UNROLL
    for (int i = 0; i < 16; i++) c[i / 4][i % 4] = 0.0f;
    for (int d0 = 0; d0 < hd; d0 += DIMS) {
        const int n = hd - d0 < DIMS ? hd - d0 : DIMS;
        __syncthreads(); /* buf has been read */
        load_q(buf, q, hd, d0);
        load_k<TYPE>(buf + DIMS, k, hd, d0);
        __syncthreads();
        WKC_PRAGMA(unroll 8)
        for (int d = 0; d < n; d++)
            outer(c, *(const float4 *)&buf[d][4 * ty], *(const float4 *)&buf[DIMS + d][4 * tx]);
    }
}

/* o = o * old + p . V, 64 dims at a time. */
template <int TYPE, int ND>
static inline __device__ void values(float (*o)[4][4], const float *old, row64 *p, row64 *buf, const uint8_t *v, int hd) {
    const int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16;
    WKC_UNROLL
    for (int n = 0; n < ND; n++) {
        WKC_UNROLL
        for (int i = 0; i < 16; i++) o[n][i / 4][i % 4] *= old[i / 4];
        __syncthreads(); /* buf has been read, p is written */
        load_v<TYPE>(buf, v, hd, n * PAGE);
        __syncthreads();
        if (n * PAGE + 4 * tx >= hd) continue;
        WKC_PRAGMA(unroll 8)
        for (int i = 0; i < PAGE; i++) outer(o[n], *prob_at(p, i, ty), *(const float4 *)&buf[i][4 * tx]);
    }
}

/* grid: tile, kv head. ND: pieces of 64 dims of a head. */
template <int TYPE, int ND> static __global__ void __launch_bounds__(THREADS, ND >= 4 ? 1 : 2)
    tile_kernel(const wkc_attn_args a) {
    __shared__ __align__(16) float p[PAGE][COLS], buf[PAGE][PAGE];
    const int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16, h = (int)blockIdx.y, hd = a.kv.hd;
    wkc_cols s;
    int c0;
    if (!find_tile(&a, &s, &c0)) return;
    const int last = (c0 + COLS < s.n ? c0 + COLS : s.n) - 1, pos1 = s.pos0 + last / a.group;
    rows4 r;
    float o[ND][4][4], c[4][4], old[4];
    WKC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int col = c0 + 4 * ty + i;
        r.pos[i] = col < s.n ? s.pos0 + col / a.group : -1;
        r.m[i] = WKC_M0, r.l[i] = 0.0f;
    }
    WKC_UNROLL
    for (int i = 0; i < 16 * ND; i++) o[i / 16][i / 4 % 4][i % 4] = 0.0f;
    const int col_q = c0 + (int)threadIdx.x % COLS;
    const float *q = col_q < s.n ? a.q + wkc_col_at(&a, &s, h, col_q) : nullptr;
    const int page0 = wkc_first_seen(s.pos0 + c0 / a.group, a.window) / PAGE;
    for (int page = page0; page <= pos1 / PAGE; page++) {
        const uint8_t *kv = wkc_page_of(&a, s.seq, h, page);
        scores<TYPE>(c, buf, q, kv, hd);
        softmax(&a, &r, c, old, p, page * PAGE); /* p was read before the barriers of scores */
        values<TYPE, ND>(o, old, p, buf, kv + wkc_kv_half(TYPE, hd), hd);
    }
    WKC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int col = c0 + 4 * ty + i;
        const float inv = 1.0f / r.l[i];
        if (col >= s.n) break;
        float *dst = a.dst + wkc_col_at(&a, &s, h, col) + 4 * tx;
        WKC_UNROLL
        for (int n = 0; n < ND; n++)
            if (n * PAGE + 4 * tx < hd)
                *(float4 *)(dst + n * PAGE) =
                    make_float4(o[n][i][0] * inv, o[n][i][1] * inv, o[n][i][2] * inv, o[n][i][3] * inv);
    }
}

template <int TYPE> static void launch(cudaStream_t s, const wkc_attn_args *a, dim3 grid) {
    const dim3 block(THREADS);
    const int nd = (a->kv.hd + PAGE - 1) / PAGE;
    if (nd == 1) WKC_LAUNCH((tile_kernel<TYPE, 1>), grid, block, 0, s, *a);
    else if (nd == 2) WKC_LAUNCH((tile_kernel<TYPE, 2>), grid, block, 0, s, *a);
    else if (nd == 3) WKC_LAUNCH((tile_kernel<TYPE, 3>), grid, block, 0, s, *a);
    else WKC_LAUNCH((tile_kernel<TYPE, 4>), grid, block, 0, s, *a);
}

void wkc_attn_tile(cudaStream_t s, int type, const wkc_attn_args *a, int n_tok) {
    /* Sequences of this kernel, and so the tiles that are not full, are few: each brings more than WKC_FEW tokens. */
    const int64_t most = n_tok / (WKC_FEW + 1), n = most < a->n_seq ? most : a->n_seq;
    const dim3 grid((unsigned)((int64_t)n_tok * a->group / COLS + n), (unsigned)a->n_head_kv);
    if (type == WK_KV_F32) launch<WK_KV_F32>(s, a, grid);
    else if (type == WK_KV_F16) launch<WK_KV_F16>(s, a, grid);
    else if (type == WK_KV_BF16) launch<WK_KV_BF16>(s, a, grid);
    else launch<WK_KV_Q8_0>(s, a, grid);
}

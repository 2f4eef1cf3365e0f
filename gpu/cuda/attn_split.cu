/* attn_split.cu: attention of sequences that bring few tokens. Reading K and V is all the work there is, so positions
 * are shared out among blocks, and in a block among warps, in units of 32: a lane has a position while scores are made,
 * and dims of some of the rows while values are summed. Nothing passes through shared memory but q and the
 * probabilities, and warps do not wait for each other before the end. */
#include "gpu/cuda/attn.cuh"

enum { UNIT = 32, WARPS = 4, THREADS = 32 * WARPS, PER_PAGE = WK_KV_PAGE / UNIT };

/* Blocks of a multiprocessor that registers are shared among: as many as spill nothing. */
template <int NC> constexpr int BLOCKS = NC >= 8 ? 2 : NC >= 4 ? 3 : 4;

/* What a warp has of its units: all of a column's maximum, this lane's part of sum and values. */
template <int NC> struct state {
    float m[NC], l[NC], o[NC][WKC_CHUNK];
};

/* A slot's probabilities, aligned so that they move in one piece. */
template <int NC> struct alignas(NC >= 4 ? 16 : 4 * NC) probs {
    float p[NC];
};

/* Units [u0, u1), and what the piece-th of n pieces has of them. */
typedef struct units {
    int u0, u1;
} units;
static inline __device__ units share(units u, int piece, int n) {
    const int64_t len = u.u1 - u.u0;
    return {u.u0 + (int)(len * piece / n), u.u0 + (int)(len * (piece + 1) / n)};
}

/* Slot of a partial result of token tok of a sequence whose first row is first. */
static inline __device__ size_t slot_of(const wkc_attn_args *a, int seq, int first, int tok, int head, int split) {
    const size_t t = (size_t)((a->by_row ? first : seq * WKC_FEW) + tok);
    return (t * (size_t)a->n_head + (size_t)head) * (size_t)a->n_split + (size_t)split;
}

/* q . k of the lane's slot, for every column; q: shared, [NC][hd], scaled. */
template <int TYPE, int NC>
static inline __device__ void dots(float *s, const uint8_t *k, const float *q, int hd, int slot) {
    WKC_UNROLL
    for (int j = 0; j < NC; j++) s[j] = 0.0f;
    WKC_PRAGMA(unroll 4)
    for (int c = 0; c < hd / WKC_CHUNK; c++) {
        float x[WKC_CHUNK];
        wkc_k_chunk<TYPE>(x, k, hd, c, slot);
        WKC_UNROLL
        for (int j = 0; j < NC; j++) {
            const float4 *y = (const float4 *)(q + j * hd + c * WKC_CHUNK);
            const float4 lo = y[0], hi = y[1];
            s[j] = fmaf(x[0], lo.x, fmaf(x[1], lo.y, fmaf(x[2], lo.z, fmaf(x[3], lo.w, s[j]))));
            s[j] = fmaf(x[4], hi.x, fmaf(x[5], hi.y, fmaf(x[6], hi.z, fmaf(x[7], hi.w, s[j]))));
        }
    }
}

/* o += e . V: lanes stand in rows of hd/8, a row of lanes takes every n_row-th slot. e: shared, of 32 slots. */
template <int TYPE, int NC>
static inline __device__ void values(state<NC> *w, const uint8_t *v, const probs<NC> *e, int hd, int slot0, int lane) {
    const int nc = hd / WKC_CHUNK, n_row = 32 / nc, row = lane / nc, c = lane % nc;
    if (row >= n_row) return;
    WKC_PRAGMA(unroll 4)
    for (int i = row; i < UNIT; i += n_row) {
        float x[WKC_CHUNK];
        wkc_v_chunk<TYPE>(x, v, hd, c, slot0 + i);
        const probs<NC> y = e[i];
        WKC_UNROLL
        for (int j = 0; j < NC; j++) {
            WKC_UNROLL
            for (int d = 0; d < WKC_CHUNK; d++) w->o[j][d] = fmaf(y.p[j], x[d], w->o[j][d]);
        }
    }
}

/* One unit. pos: of the lane's slot; col_pos[j]: of column j, -1 past the last one. */
template <int TYPE, int NC>
static inline __device__ void one_unit(const wkc_attn_args *a, state<NC> *w, const uint8_t *kv, const float *q,
                                       probs<NC> *e, const int *col_pos, int unit, int lane) {
    const int hd = a->kv.hd, slot0 = unit % PER_PAGE * UNIT, pos = unit * UNIT + lane;
    float s[NC];
    probs<NC> y;
    dots<TYPE, NC>(s, kv, q, hd, slot0 + lane);
    WKC_UNROLL
    for (int j = 0; j < NC; j++) {
        const bool seen = pos <= col_pos[j] && pos >= wkc_first_seen(col_pos[j], a->window);
        const float x = seen ? wkc_score(a, s[j]) : WKC_M0;
        float m = x;
        for (int o = 16; o > 0; o /= 2) m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, o));
        m = fmaxf(m, w->m[j]);
        const float old = exp2f(w->m[j] - m), p = seen ? exp2f(x - m) : 0.0f;
        w->m[j] = m;
        w->l[j] = fmaf(w->l[j], old, p);
        WKC_UNROLL
        for (int d = 0; d < WKC_CHUNK; d++) w->o[j][d] *= old;
        y.p[j] = p;
    }
    e[lane] = y;
    __syncwarp();
    values<TYPE, NC>(w, kv + wkc_kv_half(TYPE, hd), e, hd, slot0, lane);
    __syncwarp(); /* e is written again by the next unit */
}

/* The warp's result in shared memory, o[NC][hd] not divided yet: the rows of lanes add up their parts in turn. By shuffles
 * that was 9000 instructions a kernel. */
template <int NC> static inline __device__ void leave(const state<NC> *w, float *o, float2 *ml, int hd, int lane) {
    const int nc = hd / WKC_CHUNK, row = lane / nc, c = lane % nc;
    WKC_UNROLL
    for (int j = 0; j < NC; j++) {
        float l = w->l[j];
        for (int k = 16; k > 0; k /= 2) l += __shfl_xor_sync(0xffffffffu, l, k);
        if (lane == 0) ml[j] = make_float2(w->m[j], l);
    }
    for (int r = 0; r < 32 / nc; r++) {
        WKC_UNROLL
        for (int j = 0; j < NC; j++) {
            float *at = o + j * hd + c * WKC_CHUNK;
            WKC_UNROLL
            for (int d = 0; d < WKC_CHUNK; d++)
                if (r == row) at[d] = r ? at[d] + w->o[j][d] : w->o[j][d];
        }
        __syncwarp();
    }
}

/* The block's result: the warps' as one, to dst where the block has all positions, else to its slot. */
template <int NC>
static inline __device__ void write_out(const wkc_attn_args *a, const wkc_cols *s, const float *o,
                                        const float2 (*ml)[NC], int c0) {
    const int hd = a->kv.hd, h = (int)blockIdx.y;
    for (int j = 0; j < NC && c0 + j < s->n; j++) {
        float m = WKC_M0, l = 0.0f, f[WARPS];
        for (int k = 0; k < WARPS; k++) m = fmaxf(m, ml[k][j].x);
        for (int k = 0; k < WARPS; k++) {
            f[k] = exp2f(ml[k][j].x - m);
            l = fmaf(ml[k][j].y, f[k], l);
        }
        const int tok = (c0 + j) / a->group, head = h * a->group + (c0 + j) % a->group;
        const size_t slot = slot_of(a, s->seq, s->first, tok, head, (int)blockIdx.x);
        const bool is_whole = a->n_split == 1;
        const float inv = is_whole ? 1.0f / l : 1.0f;
        float *dst = is_whole ? a->dst + wkc_col_at(a, s, h, c0 + j) : a->o + slot * (size_t)hd;
        for (int d = (int)threadIdx.x; d < hd; d += THREADS) {
            float sum = 0.0f;
            for (int k = 0; k < WARPS; k++) sum = fmaf(o[(k * NC + j) * hd + d], f[k], sum);
            dst[d] = sum * inv;
        }
        if (!is_whole && threadIdx.x == 0) a->ml[slot] = make_float2(m, l);
    }
}

/* Columns c0 .. c0 + NC - 1. */
template <int TYPE, int NC>
static inline __device__ void columns(const wkc_attn_args *a, const wkc_cols *s, float *q, probs<NC> *e,
                                      float2 (*ml)[NC], int c0) {
    const int hd = a->kv.hd, h = (int)blockIdx.y, warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    int col_pos[NC];
    WKC_UNROLL
    for (int j = 0; j < NC; j++) {
        const bool is = c0 + j < s->n;
        col_pos[j] = is ? s->pos0 + (c0 + j) / a->group : -1;
        for (int d = (int)threadIdx.x; d < hd; d += THREADS)
            q[j * hd + d] = is ? a->q[wkc_col_at(a, s, h, c0 + j) + (size_t)d] * a->scale : 0.0f;
    }
    const int last = (c0 + NC < s->n ? c0 + NC : s->n) - 1, pos1 = s->pos0 + last / a->group;
    const units all = {wkc_first_seen(col_pos[0], a->window) / UNIT, pos1 / UNIT + 1};
    const units mine = share(share(all, (int)blockIdx.x, a->n_split), warp, WARPS);
    state<NC> w;
    WKC_UNROLL
    for (int j = 0; j < NC; j++) {
        w.m[j] = WKC_M0, w.l[j] = 0.0f;
        WKC_UNROLL
        for (int d = 0; d < WKC_CHUNK; d++) w.o[j][d] = 0.0f;
    }
    __syncthreads();
    for (int u = mine.u0; u < mine.u1; u++)
        one_unit<TYPE, NC>(a, &w, wkc_page_of(a, s->seq, h, u / PER_PAGE), q, e + warp * UNIT, col_pos, u, lane);
    __syncthreads(); /* q has been read: its memory is the results' */
    leave<NC>(&w, q + warp * NC * hd, ml[warp], hd, lane);
    __syncthreads();
    write_out<NC>(a, s, q, ml, c0);
    __syncthreads();
}

/* grid: split, kv head, sequence. */
template <int TYPE, int NC> static __global__ void __launch_bounds__(THREADS, BLOCKS<NC>)
    split_kernel(const wkc_attn_args a) {
    WKC_SHARED(float, q); /* [NC][hd], then [WARPS][NC][hd] of results */
    __shared__ probs<NC> e[WARPS * UNIT];
    __shared__ float2 ml[WARPS][NC];
    const int seq = (int)blockIdx.z, count = a.count[seq];
    if (count <= 0 || count > WKC_FEW) return;
    const wkc_cols s = {seq, a.first[seq], a.pos0[seq], count * a.group};
    for (int c0 = 0; c0 < s.n; c0 += NC) columns<TYPE, NC>(&a, &s, q, e, ml, c0);
}

/* The pieces of a column as one, in their order. grid: head, sequence. */
static __global__ void merge_kernel(const wkc_attn_args a) {
    const int head = (int)blockIdx.x, seq = (int)blockIdx.y, count = a.count[seq], hd = a.kv.hd;
    if (count > WKC_FEW) return;
    for (int t = 0; t < count; t++) {
        const size_t slot = slot_of(&a, seq, a.first[seq], t, head, 0);
        float m = WKC_M0, l = 0.0f;
        for (int i = 0; i < a.n_split; i++) m = fmaxf(m, a.ml[slot + i].x);
        for (int i = 0; i < a.n_split; i++) l = fmaf(a.ml[slot + i].y, exp2f(a.ml[slot + i].x - m), l);
        float *dst = a.dst + ((size_t)(a.first[seq] + t) * a.n_head + head) * hd;
        for (int d = (int)threadIdx.x; d < hd; d += (int)blockDim.x) {
            float o = 0.0f;
            for (int i = 0; i < a.n_split; i++) {
                const float2 p = a.ml[slot + i];
                if (p.y != 0.0f) o = fmaf(a.o[(slot + i) * hd + d], exp2f(p.x - m), o);
            }
            dst[d] = o * (1.0f / l);
        }
    }
}

template <int TYPE> static void launch(cudaStream_t s, const wkc_attn_args *a, int nc) {
    const dim3 grid((unsigned)a->n_split, (unsigned)a->n_head_kv, (unsigned)a->n_seq), block(THREADS);
    const size_t shared = (size_t)(WARPS * nc) * (size_t)a->kv.hd * sizeof(float);
    if (nc == 1) WKC_LAUNCH((split_kernel<TYPE, 1>), grid, block, shared, s, *a);
    else if (nc == 2) WKC_LAUNCH((split_kernel<TYPE, 2>), grid, block, shared, s, *a);
    else if (nc == 4) WKC_LAUNCH((split_kernel<TYPE, 4>), grid, block, shared, s, *a);
    else WKC_LAUNCH((split_kernel<TYPE, 8>), grid, block, shared, s, *a);
}

void wkc_attn_split(cudaStream_t s, int type, const wkc_attn_args *a, int n_col) {
    if (type == WK_KV_F32) launch<WK_KV_F32>(s, a, n_col);
    else if (type == WK_KV_F16) launch<WK_KV_F16>(s, a, n_col);
    else if (type == WK_KV_BF16) launch<WK_KV_BF16>(s, a, n_col);
    else launch<WK_KV_Q8_0>(s, a, n_col);
    if (a->n_split == 1) return;
    const dim3 grid((unsigned)a->n_head, (unsigned)a->n_seq), block(a->kv.hd <= 64 ? 64 : a->kv.hd <= 128 ? 128 : 256);
    WKC_LAUNCH(merge_kernel, grid, block, 0, s, *a);
}

/* attn.cu: attention of a batch: which kernels run and in how many blocks. Both numbers come from what the host knows
 * (kernels.h): the kernels find out by themselves which sequences are theirs. */
#include "gpu/cuda/attn.cuh"
extern "C" {
#include "simd/poly.h"
}

enum {
    BLOCKS = 512, /* of the split kernel, more or less: a few for each multiprocessor of a large GPU */
    UNITS = 4,    /* units of 32 positions that a block of it takes at once, one a warp */
};

static int32_t ceil_div(int64_t a, int64_t b) { return (int32_t)((a + b - 1) / b); }

/* Pieces that the positions of a sequence are cut into. One where there are so many sequences and heads that they fill the
 * GPU, so n_seq * n_head_kv * split_of(..) stays below 2 * BLOCKS wherever it is more: what the scratch is for. */
static int32_t split_of(int64_t n_seq, int32_t n_head_kv, int64_t max_page, int32_t window) {
    int64_t n_unit = max_page * (WK_KV_PAGE / 32);
    const int64_t seen = ((int64_t)window + WKC_FEW + 30) / 32 + 1;
    if (window > 0 && seen < n_unit) n_unit = seen;
    const int32_t most = ceil_div(n_unit, UNITS), want = ceil_div(BLOCKS, n_seq * n_head_kv);
    return want < most ? want : most < 1 ? 1 : most;
}

/* Slots of partial results: a column of a piece has one. */
static int64_t slots(int64_t n_tok, int64_t n_seq, int32_t n_head, int32_t n_split) {
    const int64_t few = n_seq * WKC_FEW, n = n_tok < few ? n_tok : few;
    return n_split > 1 ? n * n_head * n_split : 0;
}

static size_t slot_bytes(const wkc_kv *kv) { return sizeof(float2) + (size_t)kv->head_dim * sizeof(float); }

/* Tiles of a batch at most. Sequences that have any, and so tiles that are not full, are few: each of them brings more
 * than WKC_FEW tokens. */
static int64_t tiles(int64_t n_tok, int64_t n_seq, int64_t group) {
    const int64_t n = n_tok / (WKC_FEW + 1);
    return n_tok * group / WKC_TILE_COLS + (n < n_seq ? n : n_seq);
}

/* Queries against codes are codes themselves (KERNELS, A32): so the CPU has it, and so has this, as f32 of the same values.
 * A lane has one value, a warp a block of 32; heads of q8_0 caches are whole blocks. */
__global__ void round_query(const float *q, size_t n, float *dst) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    const float v = i < n ? q[i] : 0.0f;
    uint32_t bits = __float_as_uint(v) & 0x7fffffffu;
    WKC_UNROLL
    for (int m = 16; m > 0; m /= 2) {
        const uint32_t o = __shfl_xor_sync(0xffffffffu, bits, m);
        bits = o > bits ? o : bits;
    }
    const float amax = __uint_as_float(bits);
    const bool finite = bits < 0x7f800000u, some = finite && amax >= WK_QUANT_TINY;
    const float r = some ? rintf(v * (127.0f / amax)) * (amax * WK_QUANT_STEP) : 0.0f;
    if (i < n) dst[i] = finite ? r : __uint_as_float(0x7fc00000u);
}

static size_t rounded_bytes(const wkc_kv *kv, int32_t n_head, int32_t n_tok) {
    return kv->kv_type == WK_KV_Q8_0 ? (size_t)n_tok * (size_t)n_head * (size_t)kv->head_dim * sizeof(float) : 0;
}

/* For any number of pages: a batch may say more than there are (max_page), and at BLOCKS it ends anyway. */
size_t wkc_attn_scratch(const wkc_kv *kv, int32_t n_head, int32_t max_tok, uint32_t n_page) {
    (void)n_page;
    int64_t most = 0;
    for (int32_t n_seq = 1; n_seq <= max_tok && n_seq * kv->n_head_kv < BLOCKS; n_seq++) {
        const int64_t n = slots(max_tok, n_seq, n_head, split_of(n_seq, kv->n_head_kv, INT32_MAX, 0));
        most = n > most ? n : most;
    }
    return (size_t)most * slot_bytes(kv) + rounded_bytes(kv, n_head, max_tok);
}

void wkc_attn(cudaStream_t s, const wkc_kv *kv, int32_t layer, int32_t n_head, float scale, float softcap, int32_t window,
              const float *q, float *dst, const wkc_batch *b, void *scratch) {
    if (b->n_tok <= 0 || b->n_seq <= 0) return;
    wkc_attn_args a = {};
    a.kv = wkc_kv_layer(kv, layer), a.q = q, a.dst = dst;
    a.first = b->first, a.count = b->count, a.pos0 = b->pos0, a.table = b->table, a.page = b->page;
    a.n_seq = b->n_seq, a.n_head = n_head, a.n_head_kv = kv->n_head_kv, a.group = n_head / kv->n_head_kv;
    a.window = window, a.scale = scale, a.softcap = softcap;
    a.softcap_inv = softcap > 0.0f ? (float)(1.0 / (double)softcap) : 0.0f;
    a.by_row = b->n_tok <= b->n_seq * WKC_FEW;
    a.n_split = split_of(b->n_seq, kv->n_head_kv, b->max_page, window);
    if (kv->kv_type == WK_KV_Q8_0) {
        const size_t n = (size_t)b->n_tok * (size_t)n_head * (size_t)kv->head_dim;
        WKC_LAUNCH(round_query, dim3((unsigned)((n + 127) / 128)), dim3(128), 0, s, q, n, (float *)scratch);
        a.q = (const float *)scratch;
        scratch = (uint8_t *)scratch + rounded_bytes(kv, n_head, b->n_tok);
    }
    a.ml = (float2 *)scratch;
    a.o = (float *)(a.ml + slots(b->n_tok, b->n_seq, n_head, a.n_split));
    if (b->n_tok > WKC_FEW) {
        const dim3 grid((unsigned)tiles(b->n_tok, b->n_seq, a.group), (unsigned)a.n_head_kv);
        if (!wkc_attn_mma(s, kv->kv_type, &a, grid)) wkc_attn_tile(s, kv->kv_type, &a, grid);
    }
    /* Where tokens are as many as sequences, each has one, or as good as: then no more columns than a group's. */
    const int32_t n_col = b->n_tok > b->n_seq ? 2 * a.group : a.group;
    wkc_attn_split(s, kv->kv_type, &a, n_col <= 1 ? 1 : n_col <= 2 ? 2 : n_col <= 4 ? 4 : 8);
}

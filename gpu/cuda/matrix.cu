/* matrix.cu: matrices on the device: their size, their upload, and which kernel a product takes. */
#include <string.h>

#include <atomic>

#include "gpu/cuda/matrix.h"
#include "gpu/cuda/team.h"

/* A vector is one row of f32, whatever the file holds. */
static int fmt_of(const wk_weight *w) { return w->is_vector ? WK_FMT_F32 : w->fmt; }
static int32_t rows_of(const wk_weight *w) { return w->is_vector ? 1 : w->n_row; }
static bool known(int fmt) { return wkc_is_float(fmt) || wkc_layout_of(fmt).low; }

/* Planes of n rows, each aligned; returns the size of all. */
static size_t planes(size_t at[WKC_PLANE], size_t bytes[WKC_PLANE], const wk_weight *w, int32_t n) {
    size_t size = 0;
    wkc_plane_bytes(bytes, fmt_of(w), w->k);
    for (int i = 0; i < WKC_PLANE; i++) {
        at[i] = size;
        size += wkc_align(bytes[i] * (size_t)n);
    }
    return size;
}

size_t wkc_mat_bytes(const wk_weight *w) {
    size_t at[WKC_PLANE], bytes[WKC_PLANE];
    const bool whole = w->n_row > 0 && w->k > 0 && w->k % wk_formats[w->fmt].block == 0;
    return known(w->fmt) && whole ? planes(at, bytes, w, rows_of(w)) : 0;
}

size_t wkc_stage_bytes(const wk_weight *w, int32_t n) {
    size_t at[WKC_PLANE], bytes[WKC_PLANE];
    return planes(at, bytes, w, n);
}

void wkc_mat_init(wkc_mat *m, const wk_weight *w, uint8_t *p) {
    size_t bytes[WKC_PLANE];
    *m = {p, fmt_of(w), rows_of(w), w->k, {0, 0, 0, 0}};
    planes(m->plane, bytes, w, rows_of(w));
}

/* A vector's values stand for rows: they are un-rotated one by one (F kinds, whose block is a value). */
static void vector_row(float *dst, const wk_weight *w) {
    const wk_format *f = &wk_formats[w->fmt];
    if (!w->unrotate) f->decode(dst, w->data, w->k);
    for (int32_t i = 0; w->unrotate && i < w->k; i++)
        f->decode(dst + i, w->data + (size_t)wk_weight_row(w, i) * f->bytes, 1);
    memset(dst + w->k, 0, (size_t)(wkc_pad(w->k) - w->k) * sizeof(float));
}

typedef struct piece {
    const wk_weight *w;
    int32_t row; /* the first */
    size_t at[WKC_PLANE], bytes[WKC_PLANE];
    uint8_t *stage;
    std::atomic<int32_t> bad; /* the first row of the piece that is not finite, or their number */
} piece;

/* Rows from .. to-1 of a piece, one thread's; none behind one that is bad. */
static void pack_rows(void *ud, int32_t from, int32_t to) {
    piece *p = (piece *)ud;
    const wk_weight *w = p->w;
    for (int32_t i = from; i < to; i++) {
        const int32_t r = w->is_vector ? 0 : wk_weight_row(w, p->row + i);
        const uint8_t *src = w->data + (size_t)r * w->row_bytes;
        uint8_t *dst[WKC_PLANE];
        for (int j = 0; j < WKC_PLANE; j++) dst[j] = p->stage + p->at[j] + p->bytes[j] * (size_t)i;
        if (wk_formats[w->fmt].find_nonfinite(src, w->k) >= 0) {
            int32_t first = p->bad.load();
            while (i < first && !p->bad.compare_exchange_weak(first, i)) {}
            return;
        }
        if (w->is_vector)
            vector_row((float *)dst[0], w);
        else
            wkc_repack_row(dst, w->fmt, src, w->k);
    }
}

enum { SHARE = 64 << 10 }; /* bytes of the file that are worth a thread: repacking them takes longer than making it */

bool wkc_mat_upload(const wkc_mat *m, const wk_weight *w, int32_t row, int32_t n, uint8_t *stage, int n_thread,
                    cudaStream_t s, int32_t *bad) {
    piece p = {w, row, {}, {}, stage, {n}};
    const size_t shares = (size_t)n * w->row_bytes / SHARE + 1;
    planes(p.at, p.bytes, w, n);
    wkc_team_run(shares < (size_t)n_thread ? (int)shares : n_thread, n, pack_rows, &p);
    if (p.bad < n) {
        *bad = row + p.bad;
        return false;
    }
    for (int j = 0; j < WKC_PLANE; j++)
        if (p.bytes[j])
            cudaMemcpyAsync(m->p + m->plane[j] + p.bytes[j] * (size_t)row, stage + p.at[j], p.bytes[j] * (size_t)n,
                            cudaMemcpyHostToDevice, s);
    return true;
}

size_t wkc_act_bytes(int type, int32_t dim, size_t rows) {
    if (type == WK_VAL_F32) return rows * (size_t)dim * sizeof(float);
    return wkc_act_s16(type, dim, rows) + wkc_align(rows * (size_t)(dim / 16) * sizeof(int16_t));
}

wkc_w wkc_w_of(const wkc_mat *m) {
    wkc_w w = {m->p + m->plane[0], m->p + m->plane[1], m->p + m->plane[2], m->p + m->plane[3], {0, 0, 0, 0},
               1.0f, m->n_row, m->k / WKC_UNIT};
    int8_t table[16];
    wkc_table(table, &w.factor, m->fmt);
    memcpy(w.table, table, 16);
    return w;
}

/* Nothing is kept between the kernels of a product. */
size_t wkc_matmul_scratch(const wk_weight *w, int32_t n) {
    (void)w;
    (void)n;
    return 0;
}

/* x_type is what formats.def asks of the matrix's format; backend.cu refuses other steps (its `can`). */
void wkc_matmul(cudaStream_t s, const wkc_mat *m, const void *x, int x_type, int32_t n, size_t x_rows, float *dst,
                void *scratch) {
    (void)scratch;
    if (n <= 0) return;
    if (wkc_is_float(m->fmt)) {
        if (n <= WKC_GEMV_MAX)
            wkc_gemv_f(s, m, (const float *)x, n, dst);
        else
            wkc_gemm_f(s, m, (const float *)x, n, dst);
        return;
    }
    const wkc_w w = wkc_w_of(m);
    const wkc_a a = wkc_act_of(x_type, x, m->k, x_rows);
    if (n <= WKC_GEMV_MAX)
        wkc_gemv(s, m->fmt, &w, &a, n, dst);
    else
        wkc_gemm(s, m->fmt, &w, &a, n, dst);
}

/* upload.cu: weights from the file's rows to the device. Pieces of a weight are repacked into one of two pinned buffers
 * by the host's threads while the other one is on its way; the file's pages may go when a piece was read. */
#include <sys/mman.h>
#include <unistd.h>

#include "gpu/cuda/exec.h"

enum { PIECE = 16 << 20, ROWS = 64 }; /* bytes of a buffer where rows allow it; rows come in such steps */

typedef struct pinned {
    uint8_t *p; /* pinned */
    cudaEvent_t sent;
    bool is_busy;
} pinned;

typedef struct upload {
    wk_exec *x;
    pinned stage[2];
    int turn;
    uint64_t done, total;
} upload;

/* Rows of a piece: as many as fit a buffer, in whole steps. */
static int32_t rows_of_piece(const wk_weight *w) {
    if (w->is_vector || w->n_row <= ROWS) return w->is_vector ? 1 : w->n_row;
    const size_t step = wkc_stage_bytes(w, ROWS), n = step < PIECE ? PIECE / step : 1;
    return n * ROWS < (size_t)w->n_row ? (int32_t)n * ROWS : w->n_row;
}

static int take_stages(upload *u, wk_err *err) {
    const wk_exec *x = u->x;
    size_t most = 1;
    for (int32_t i = 0; i < x->plan->n_weight; i++) {
        if (!x->w[i].p) continue;
        const wk_weight *w = &x->plan->weight[i];
        const size_t n = wkc_stage_bytes(w, rows_of_piece(w));
        if (n > most) most = n;
        u->total += wkc_mat_bytes(w);
    }
    for (pinned &s : u->stage) {
        WKC_TRY(x->dev, err, cudaHostAlloc, &s.p, most, cudaHostAllocDefault);
        WKC_TRY(x->dev, err, cudaEventCreateWithFlags, &s.sent, cudaEventDisableTiming);
    }
    return WICK_OK;
}

static int fail_row(const wk_weight *w, int32_t row, wk_err *err) {
    if (w->is_vector) return wkc_fail(err, WICK_E_FORMAT, "%s holds a value that is not a finite number", w->name);
    return wkc_fail(err, WICK_E_FORMAT, "%s holds a value that is not a finite number (row %d of %d)", w->name, (int)row,
                    (int)w->n_row);
}

static int send_piece(upload *u, const wkc_mat *m, const wk_weight *w, int32_t row, int32_t n, wk_err *err) {
    wk_exec *x = u->x;
    pinned *s = &u->stage[u->turn ^= 1];
    int32_t bad = row;
    if (s->is_busy) WKC_TRY(x->dev, err, cudaEventSynchronize, s->sent);
    if (wkc_is_faulty(x->dev, "cudaMemcpyAsync")) return wkc_faulted(x->dev, "cudaMemcpyAsync", err);
    const int n_thread = x->dev->host.n_thread > 1 ? x->dev->host.n_thread : 1;
    if (!wkc_mat_upload(m, w, row, n, s->p, n_thread, x->stream, &bad)) return fail_row(w, bad, err);
    WK_TRY(wkc_judge(x->dev, cudaGetLastError(), "cudaMemcpyAsync", err));
    WKC_TRY(x->dev, err, cudaEventRecord, s->sent, x->stream);
    s->is_busy = true;
    return WICK_OK;
}

/* Whole pages between two addresses of the file are not read again. */
static void drop(const uint8_t *p, size_t n) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), a = ((uintptr_t)p + page - 1) / page * page,
                    b = ((uintptr_t)p + n) / page * page;
    if (b > a) (void)madvise((void *)a, b - a, MADV_DONTNEED);
}

static int send_weight(upload *u, int32_t i, wk_err *err) {
    const wk_weight *w = &u->x->plan->weight[i];
    const wkc_mat *m = &u->x->w[i];
    const wk_host *host = &u->x->dev->host;
    const int32_t each = rows_of_piece(w), rows = w->is_vector ? 1 : w->n_row;
    const uint64_t before = u->done, bytes = wkc_mat_bytes(w);
    for (int32_t row = 0; row < rows; row += each) {
        WK_TRY(send_piece(u, m, w, row, rows - row < each ? rows - row : each, err));
        u->done = before + bytes * (uint64_t)(row + each < rows ? row + each : rows) / (uint64_t)rows;
        if (host->progress && !host->progress(host->ud, u->done, u->total))
            return wkc_fail(err, WICK_E_CANCELED, "loading was cancelled");
    }
    drop(w->data, (size_t)w->n_row * w->row_bytes);
    return WICK_OK;
}

static int send_all(upload *u, wk_err *err) {
    WK_TRY(take_stages(u, err));
    for (int32_t i = 0; i < u->x->plan->n_weight; i++)
        if (u->x->w[i].p) WK_TRY(send_weight(u, i, err));
    WKC_TRY(u->x->dev, err, cudaStreamSynchronize, u->x->stream);
    return WICK_OK;
}

int wkc_upload(wk_exec *x, wk_err *err) {
    upload u = {x, {}, 0, 0, 0};
    const int rc = send_all(&u, err);
    if (rc) (void)cudaStreamSynchronize(x->stream); /* the buffers may be on their way */
    for (pinned &s : u.stage) {
        if (s.sent) (void)cudaEventDestroy(s.sent);
        (void)cudaFreeHost(s.p);
    }
    return rc;
}

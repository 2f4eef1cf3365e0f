/* pack.c: weights -> panels. A slice of one matrix at a time, its panels dealt to the team, the file's pages dropped
 * behind it, so that no more than a slice of raw bytes stands in memory beside the packed ones. (A whole matrix was
 * measured: the peak of gemma-3-270m at 256 tokens of context is 371 MB then, and 290 MB with slices.) */
#include "engine/cpu/pack.h"

#include <stdatomic.h>
#include <string.h>

#include "engine/base/ck.h"
#include "engine/base/os.h"
#include "simd/format.h"

/* One weight as the team works on it. */
typedef struct pack_job {
    const wk_weight *w;
    uint8_t *dst;
    uint8_t *gather; /* [team][16 rows] for rows that are taken out of order */
    size_t panel_bytes;
    int32_t first, last; /* panels of this slice */
    wk_tickets tickets;
    int32_t per; /* panels a ticket */
    _Atomic int32_t bad_row;
} pack_job;

static bool weight_bytes(const wk_weight *w, size_t *panel_bytes, int32_t *n_panel, size_t *bytes) {
    if (w->is_vector) {
        *panel_bytes = 0;
        *n_panel = 0;
        return wk_mul(bytes, (size_t)w->k, sizeof(float)) && wk_align(bytes, *bytes, 64);
    }
    *panel_bytes = wk_panel_bytes(w->fmt, (size_t)w->k);
    *n_panel = (w->n_row + WK_PANEL - 1) / WK_PANEL;
    return wk_mul(bytes, *panel_bytes, (size_t)*n_panel);
}

bool wk_pack_bytes(const wk_plan *p, size_t *out) {
    size_t total = 0;
    for (int32_t i = 0; i < p->n_weight; i++) {
        size_t panel_bytes, bytes;
        int32_t n_panel;
        if (!weight_bytes(&p->weight[i], &panel_bytes, &n_panel, &bytes)) return false;
        if (!wk_add(&total, total, bytes)) return false;
    }
    *out = total;
    return true;
}

/* The 16 rows of a panel lie at a fixed distance, or are gathered. */
static const uint8_t *panel_rows(pack_job *j, int rank, int32_t row, int32_t n) {
    const wk_weight *w = j->w;
    if (!w->unrotate) return w->data + (size_t)row * w->row_bytes;
    uint8_t *g = j->gather + (size_t)rank * WK_PANEL * w->row_bytes;
    for (int32_t i = 0; i < n; i++)
        memcpy(g + (size_t)i * w->row_bytes,
               w->data + (size_t)wk_weight_row(w, row + i) * w->row_bytes, w->row_bytes);
    return g;
}

static void pack_panel(pack_job *j, int rank, int32_t panel) {
    const wk_weight *w = j->w;
    const wk_format *f = &wk_formats[w->fmt];
    const int32_t row = panel * WK_PANEL, left = w->n_row - row,
                  n = left < WK_PANEL ? left : WK_PANEL;
    const uint8_t *rows = panel_rows(j, rank, row, n);
    for (int32_t i = 0; i < n; i++)
        if (f->find_nonfinite(rows + (size_t)i * w->row_bytes, w->k) >= 0)
            atomic_store(&j->bad_row, row + i);
    f->pack(j->dst + (size_t)panel * j->panel_bytes, rows, w->row_bytes, n, w->k);
}

static void pack_rank(void *ud, int rank) {
    pack_job *j = ud;
    wk_ticket_it it = {0};
    uint32_t ticket;
    while (wk_tickets_next(&j->tickets, rank, &it, &ticket)) {
        const int32_t first = j->first + (int32_t)ticket * j->per;
        for (int32_t i = first; i < first + j->per && i < j->last; i++) pack_panel(j, rank, i);
    }
}

enum { SLICE = 8 << 20, TICKET = 65536 }; /* bytes */

static void pack_slice(pack_job *j, int32_t first, int32_t last, wk_team *team) {
    const wk_weight *w = j->w;
    const size_t row = (size_t)first * WK_PANEL;
    const size_t end =
        (size_t)last * WK_PANEL < (size_t)w->n_row ? (size_t)last * WK_PANEL : (size_t)w->n_row;
    j->first = first;
    j->last = last;
    wk_tickets_set(&j->tickets, (uint32_t)((last - first + j->per - 1) / j->per),
                   wk_team_size(team));
    wk_team_run(team, pack_rank, j);
    if (!w->unrotate)
        wk_os_drop(w->data + row * w->row_bytes,
                   (end - row) * w->row_bytes); /* else a head may go on */
}

static int pack_matrix(wk_packed *out, uint8_t *dst, const wk_weight *w, wk_team *team,
                       wk_err *err) {
    pack_job j = {.w = w, .dst = dst, .bad_row = -1};
    size_t bytes;
    int32_t n_panel, bad = -1;
    if (!weight_bytes(w, &j.panel_bytes, &n_panel, &bytes))
        return wk_fail(err, WICK_E_SHAPE, "%s: its size overflows", w->name);
    if (w->unrotate) {
        j.gather = wk_alloc_array((size_t)wk_team_size(team) * WK_PANEL, w->row_bytes);
        if (!j.gather) return wk_fail(err, WICK_E_NOMEM, "no memory to pack %s", w->name);
    }
    j.per = (int32_t)(TICKET / j.panel_bytes) + 1;
    const int32_t step = (int32_t)(SLICE / j.panel_bytes) + 1;
    for (int32_t i = 0; i < n_panel && bad < 0; i += step) {
        pack_slice(&j, i, n_panel - i < step ? n_panel : i + step, team);
        bad = atomic_load(&j.bad_row);
    }
    wk_free(j.gather);
    if (bad >= 0)
        return wk_fail(err, WICK_E_FORMAT,
                       "%s holds a value that is not a finite number (row %d of %d)", w->name,
                       (int)bad, (int)w->n_row);
    *out = (wk_packed){dst, j.panel_bytes, n_panel};
    return WICK_OK;
}

static int pack_vector(wk_packed *out, uint8_t *dst, const wk_weight *w, wk_err *err) {
    const wk_format *f = &wk_formats[w->fmt];
    if (f->find_nonfinite(w->data, w->k) >= 0)
        return wk_fail(err, WICK_E_FORMAT, "%s holds a value that is not a finite number", w->name);
    f->decode((float *)(void *)dst, w->data, w->k);
    *out = (wk_packed){dst, 0, 0};
    return WICK_OK;
}

int wk_pack_all(wk_packed *out, wk_pages *mem, const wk_plan *p, wk_team *team, const wk_host *host,
                wk_err *err) {
    size_t total = 0;
    if (!wk_pack_bytes(p, &total)) return wk_fail(err, WICK_E_SHAPE, "the weights' size overflows");
    if (!wk_pages_map(mem, total ? total : 64))
        return wk_fail(err, WICK_E_NOMEM, "no memory for %zu MiB of weights", total >> 20);
    uint8_t *dst = mem->p;
    for (int32_t i = 0; i < p->n_weight; i++) {
        const wk_weight *w = &p->weight[i];
        size_t panel_bytes, bytes = 0;
        int32_t n_panel;
        (void)weight_bytes(w, &panel_bytes, &n_panel, &bytes); /* checked by wk_pack_bytes */
        if (w->is_vector)
            WK_TRY(pack_vector(&out[i], dst, w, err));
        else
            WK_TRY(pack_matrix(&out[i], dst, w, team, err));
        wk_os_drop(w->data, (size_t)w->n_row * w->row_bytes);
        dst += bytes;
        if (host->progress && !host->progress(host->ud, (uint64_t)(dst - mem->p), total))
            return wk_fail(err, WICK_E_CANCELED, "loading was cancelled");
    }
    return WICK_OK;
}

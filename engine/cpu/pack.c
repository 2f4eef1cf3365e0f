/* pack.c: weights -> panels, in one region of the team over all weights.
 *
 * Work is dealt in pieces of the target, one huge page each: whoever packs a piece also takes its page faults (first
 * touch; two threads in one fresh huge page would both clear it, and one of them for nothing), maps the file's bytes
 * for it and drops them behind it, so that no more than a piece a thread of raw bytes stands in memory beside the
 * packed ones. Slices of one matrix at a time, a region each, were measured: 3 s for 0.8 GB of Q4_K_M beside busy
 * neighbours, most of it spent by threads that waited for each other; this takes 0.4 s there. One core packs 3 to 6
 * GB/s; clearing the target's pages comes on top, 1 to 10 GB/s, slowest in a virtual machine that gives them back. */
#include "engine/cpu/pack.h"

#include <stdatomic.h>
#include <string.h>

#include "engine/base/ck.h"
#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/base/str.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/owner.h"
#include "engine/cpu/packcache.h"
#include "engine/graph/part.h"
#include "simd/format.h"

/* Bytes of the target: a huge page; less where there would be few, for the sake of the team and of progress. */
enum { PIECE = 2 << 20, PAGE = 4096, N_PIECE = 32 };
#define ALL_FINITE UINT64_MAX
#define CACHE_MAX ((uint64_t)16 << 30)

typedef struct pack_work {
    const wk_plan *plan;
    const wk_part *part;
    const wk_packed *out; /* [n_weight], in the order of the target */
    uint8_t *base;
    size_t total, piece, n_piece; /* bytes, bytes of a piece */
    uint8_t *gather;              /* [team][gather_bytes]: rows that are taken out of order */
    size_t gather_bytes;
    const wk_host *host;
    uint16_t *owner;           /* [n_piece] ranks that touch them first; NULL: whoever packs them */
    _Atomic size_t next, done; /* pieces dealt out, bytes packed */
    _Atomic uint64_t bad;      /* first weight << 32 | row that is not finite */
    atomic_bool cancelled;
} pack_work;

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

bool wk_pack_bytes(const wk_plan *p, const wk_part *part, size_t *out) {
    size_t total = 0;
    for (int32_t i = 0; i < p->n_weight; i++) {
        size_t panel_bytes, bytes;
        int32_t n_panel;
        if (!wk_part_uses(p, part, i)) continue;
        if (!weight_bytes(&p->weight[i], &panel_bytes, &n_panel, &bytes)) return false;
        if (!wk_add(&total, total, bytes)) return false;
    }
    *out = total;
    return true;
}

/* Keeps the first of all weights and rows, whoever finds it first. */
static void note_bad(pack_work *k, int32_t weight, int32_t row) {
    const uint64_t at = (uint64_t)weight << 32 | (uint32_t)row;
    uint64_t old = atomic_load(&k->bad);
    while (at < old && !atomic_compare_exchange_weak(&k->bad, &old, at)) {
    }
}

/* The rows of a panel lie at a fixed distance, or are gathered. */
static const uint8_t *panel_rows(const wk_weight *w, uint8_t *gather, int32_t row, int32_t n) {
    if (!w->unrotate) return w->data + (size_t)row * w->row_bytes;
    for (int32_t i = 0; i < n; i++)
        memcpy(gather + (size_t)i * w->row_bytes,
               w->data + (size_t)wk_weight_row(w, row + i) * w->row_bytes, w->row_bytes);
    return gather;
}

/* Panels first .. last-1 of a matrix; false when a row is not finite. */
static bool pack_panels(pack_work *k, int32_t weight, uint8_t *gather, int32_t first,
                        int32_t last) {
    const wk_weight *w = &k->plan->weight[weight];
    const wk_packed *o = &k->out[weight];
    const wk_format *f = &wk_formats[w->fmt];
    uint8_t *dst = k->base + (o->p - k->base) + (size_t)first * o->panel_bytes;
    for (int32_t i = first; i < last; i++, dst += o->panel_bytes) {
        const int32_t row = i * WK_PANEL, left = w->n_row - row,
                      n = left < WK_PANEL ? left : WK_PANEL;
        const uint8_t *rows = panel_rows(w, gather, row, n);
        for (int32_t r = 0; r < n; r++) {
            if (f->find_nonfinite(rows + (size_t)r * w->row_bytes, w->k) < 0) continue;
            note_bad(k, weight, row + r);
            return false;
        }
        f->pack(dst, rows, w->row_bytes, n, w->k);
    }
    return true;
}

static bool pack_vector(pack_work *k, int32_t weight) {
    const wk_weight *w = &k->plan->weight[weight];
    const wk_format *f = &wk_formats[w->fmt];
    uint8_t *dst = k->base + (k->out[weight].p - k->base);
    if (f->find_nonfinite(w->data, w->k) >= 0) {
        note_bad(k, weight, 0);
        return false;
    }
    f->decode((float *)(void *)dst, w->data, w->k);
    return true;
}

/* First panel of a weight that begins at byte `at` of the target or behind it. */
static int32_t panel_from(const pack_work *k, const wk_packed *o, size_t at) {
    const size_t off = (size_t)(o->p - k->base);
    if (at <= off) return 0;
    const size_t i = (at - off + o->panel_bytes - 1) / o->panel_bytes;
    return i < (size_t)o->n_panel ? (int32_t)i : o->n_panel;
}

/* What of one weight begins in bytes from .. to-1 of the target. */
static bool pack_part(pack_work *k, int32_t weight, uint8_t *gather, size_t from, size_t to) {
    const wk_weight *w = &k->plan->weight[weight];
    const wk_packed *o = &k->out[weight];
    const size_t off = (size_t)(o->p - k->base);
    if (!o->in_use) return true;
    if (w->is_vector) return off < from || off >= to || pack_vector(k, weight);
    const int32_t first = panel_from(k, o, from), last = panel_from(k, o, to);
    if (first >= last) return true;
    const size_t row = (size_t)first * WK_PANEL, all = (size_t)w->n_row,
                 end = (size_t)last * WK_PANEL < all ? (size_t)last * WK_PANEL : all;
    const uint8_t *src = w->data + row * w->row_bytes;
    const size_t n = (end - row) * w->row_bytes;
    wk_os_populate(src, n, false);
    const bool ok = pack_panels(k, weight, gather, first, last);
    wk_os_drop(src,
               n); /* what another thread still reads of an un-rotated head comes back by a fault */
    return ok;
}

/* The last weight that begins at byte `at` of the target or before it. */
static int32_t weight_at(const pack_work *k, size_t at) {
    int32_t lo = 0, hi = k->plan->n_weight;
    while (hi - lo > 1) {
        const int32_t mid = lo + (hi - lo) / 2;
        if ((size_t)(k->out[mid].p - k->base) <= at)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static bool pack_piece(pack_work *k, size_t piece, uint8_t *gather) {
    const size_t from = piece * k->piece,
                 to = k->total - from < k->piece ? k->total : from + k->piece;
    wk_os_populate(k->base + from, to - from, true);
    for (int32_t i = weight_at(k, from); i < k->plan->n_weight; i++) {
        if ((size_t)(k->out[i].p - k->base) >= to) break;
        if (!pack_part(k, i, gather, from, to)) return false;
    }
    atomic_fetch_add(&k->done, to - from);
    return true;
}

/* Pieces are dealt in order, so that all before a bad row are looked at as well: the first one is named. */
static void pack_rank(void *ud, int rank) {
    pack_work *k = ud;
    uint8_t *gather = k->gather + (size_t)rank * k->gather_bytes;
    while (!atomic_load(&k->cancelled) && atomic_load(&k->bad) == ALL_FINITE) {
        const size_t piece = atomic_fetch_add(&k->next, 1);
        if (piece >= k->n_piece || !pack_piece(k, piece, gather)) return;
        if (rank == 0 && k->host->progress &&
            !k->host->progress(k->host->ud, atomic_load(&k->done), k->total))
            atomic_store(&k->cancelled, true);
    }
}

/* Where each weight goes, and the room that gathering takes. */
static void lay_out(wk_packed *out, pack_work *k) {
    uint8_t *dst = k->base;
    for (int32_t i = 0; i < k->plan->n_weight; i++) {
        const wk_weight *w = &k->plan->weight[i];
        size_t bytes = 0;
        out[i].p = dst;
        out[i].in_use = wk_part_uses(k->plan, k->part, i);
        if (!out[i].in_use) continue;
        (void)weight_bytes(w, &out[i].panel_bytes, &out[i].n_panel, &bytes); /* by wk_pack_bytes */
        if (w->unrotate && w->row_bytes > k->gather_bytes / WK_PANEL)
            k->gather_bytes = WK_PANEL * w->row_bytes;
        dst += bytes;
    }
}

static int judge(pack_work *k, wk_err *err) {
    const uint64_t bad = atomic_load(&k->bad);
    if (bad != ALL_FINITE) {
        const wk_weight *w = &k->plan->weight[bad >> 32];
        if (w->is_vector)
            return wk_fail(err, WICK_E_FORMAT, "%s holds a value that is not a finite number",
                           w->name);
        return wk_fail(err, WICK_E_FORMAT,
                       "%s holds a value that is not a finite number (row %d of %d)", w->name,
                       (int)(uint32_t)bad, (int)w->n_row);
    }
    if (!atomic_load(&k->cancelled) && k->host->progress &&
        !k->host->progress(k->host->ud, k->total, k->total))
        atomic_store(&k->cancelled, true);
    return atomic_load(&k->cancelled) ? wk_fail(err, WICK_E_CANCELED, "loading was cancelled")
                                      : WICK_OK;
}

static void touch_rank(void *ud, int rank) {
    const pack_work *k = ud;
    for (size_t i = 0; i < k->n_piece; i++)
        if (k->owner[i] == rank)
            wk_os_populate(k->base + i * k->piece, i + 1 < k->n_piece ? k->piece : k->total - i * k->piece, true);
}

/* On one node whoever packs a piece touches it; on several that costs a round of its own. A team that is not bound may
 * run anywhere: there is nothing to gain. */
static void touch_by_owner(pack_work *k, wk_team *team) {
    const wk_cpu_options *o = k->host->cpu;
    if (!o || o->n_node < 2 || !o->n_pin || !k->n_piece) return;
    k->owner = wk_alloc_array(k->n_piece, sizeof(*k->owner));
    if (k->owner && wk_owners(k->owner, k->n_piece, k->piece, k->plan, k->out, k->base, wk_team_size(team)))
        wk_team_run(team, touch_rank, k);
    wk_free(k->owner);
}

/* Zero: packed weights are not kept. */
static wk_hash cache_key(const pack_work *k) {
    const wk_cpu_options *o = k->host->cpu;
    if (!o || !o->cache_dir || (!o->cache_key.lo && !o->cache_key.hi) || !k->total) return (wk_hash){0, 0};
    return wk_cache_key(k->plan, k->out, o->cache_key);
}

static void begin_report(wk_cpu_report *r) {
    wk_os_faults(&r->minor, &r->major);
    r->pack_ns = wk_os_now_ns();
}

static void end_report(wk_cpu_report *r) {
    uint64_t minor, major;
    wk_os_faults(&minor, &major);
    r->minor = minor - r->minor;
    r->major = major - r->major;
    r->pack_ns = wk_os_now_ns() - r->pack_ns;
}

/* A plan may be packed in parts. */
static void add_report(wk_cpu_report *all, const wk_cpu_report *r) {
    all->pack_ns += r->pack_ns;
    all->store_ns += r->store_ns;
    all->bytes += r->bytes;
    all->minor += r->minor;
    all->major += r->major;
    all->cache = r->cache > all->cache ? r->cache : all->cache;
    all->stored |= r->stored;
}

static void store(const pack_work *k, wk_hash key, wk_cpu_report *r, wk_team *team) {
    const wk_cpu_options *o = k->host->cpu;
    const uint64_t t0 = wk_os_now_ns(), max = o->cache_max ? o->cache_max : CACHE_MAX;
    r->stored = wk_cache_store(o->cache_dir, max, key, k->base, k->total, team);
    r->store_ns = wk_os_now_ns() - t0;
    if (!r->stored)
        wk_log(WK_LOG_INFO, "packed weights were not kept in %s: no right to write, no room, or not this user's alone",
               wk_show(wk_cstr(o->cache_dir)).text);
}

int wk_pack_all(wk_packed *out, wk_pages *mem, const wk_plan *p, const wk_part *part, wk_team *team,
                const wk_host *host, wk_err *err) {
    pack_work k = {.plan = p, .part = part, .out = out, .host = host, .bad = ALL_FINITE};
    if (!wk_pack_bytes(p, part, &k.total))
        return wk_fail(err, WICK_E_SHAPE, "the weights' size overflows");
    const bool small = host->cpu && host->cpu->small_pages;
    if (!(small ? wk_pages_map_small : wk_pages_map)(mem, k.total ? k.total : 64))
        return wk_fail(err, WICK_E_NOMEM, "no memory for %zu MiB of weights", k.total >> 20);
    k.base = mem->p;
    k.piece = k.total / N_PIECE < PIECE ? k.total / N_PIECE / PAGE * PAGE + PAGE : PIECE;
    k.n_piece = k.total / k.piece + (k.total % k.piece != 0);
    lay_out(out, &k);
    k.gather = wk_alloc_array((size_t)wk_team_size(team), k.gather_bytes);
    if (!k.gather) return wk_fail(err, WICK_E_NOMEM, "no memory to pack the weights");
    wk_cpu_report r = {.bytes = k.total};
    const wk_hash key = cache_key(&k);
    begin_report(&r);
    touch_by_owner(&k, team);
    if (!key.lo && !key.hi) {
        wk_team_run(team, pack_rank, &k);
    } else {
        const wk_cache_found found = wk_cache_load(host->cpu->cache_dir, key, k.base, k.total, team);
        r.cache = found == WK_CACHE_GOOD ? WK_CACHE_HIT : found == WK_CACHE_BAD ? WK_CACHE_REFUSED : WK_CACHE_MISS;
        if (r.cache != WK_CACHE_HIT) wk_team_run(team, pack_rank, &k);
    }
    wk_free(k.gather);
    end_report(&r);
    const int rc = judge(&k, err);
    if (!rc && r.cache > WK_CACHE_HIT) store(&k, key, &r, team);
    if (host->cpu && host->cpu->report) add_report(host->cpu->report, &r);
    for (int32_t i = 0; i < p->n_weight; i++)
        if (out[i].in_use) wk_os_drop(p->weight[i].data, (size_t)p->weight[i].n_row * p->weight[i].row_bytes);
    return rc;
}

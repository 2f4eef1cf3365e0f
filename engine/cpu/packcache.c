/* packcache.c: one file a model, part and version:
 *
 *   magic 8 | version 4 | piece 4 | key 16 | total 8 | hash of each piece 16 n | hash of all that 16 | 0 .. 4096 | data
 *
 * Pieces of 2 MiB are read straight into fresh huge pages by the team and summed while they are in cache: 62 ms of
 * one thread for 247 MB. To map the file itself takes 21 ms, but was rejected: its pages are small ones, from which a
 * token takes 1.31 (Gemma-3-270M) to 1.39 times (SmolLM2) as long in a virtual machine, so that ten tokens cost more
 * than was won; the system takes them back, and what was checked could be changed afterwards. */
#include "engine/cpu/packcache.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/base/dir.h"
#include "engine/base/os.h"
#include "engine/base/own.h"
#include "engine/base/rd.h"

enum {
    VERSION = 1,
    LAYOUT = 1,
    PIECE = 2 << 20,
    PAGE = 4096,
    FIXED = 40,
    SAMPLE = 1024,
    PATH_BYTES = 4096
};
static const char MAGIC[8] = "wickpack";
static const char PREFIX[] = "wick-";

typedef struct cache_file {
    wk_hash key;
    size_t total, n_piece;
    uint8_t *head; /* [head_n] */
    size_t head_n;
    uint8_t *data; /* where the packed bytes are, or go */
    int fd;        /* -1: they are summed only */
    wk_team *team;
    _Atomic size_t next;
    atomic_bool bad;
} cache_file;

/* ---- key ---------------------------------------------------------------------------------------- */

/* Beginning, middle and end: the time stamps of the files speak for the rest. */
static wk_hash add_sample(wk_hash h, const wk_weight *w) {
    const size_t n = (size_t)w->n_row * w->row_bytes, some = n < SAMPLE ? n : SAMPLE;
    h = wk_hash_bytes(h, w->data, some);
    h = wk_hash_bytes(h, w->data + (n - some) / 2, some);
    return wk_hash_bytes(h, w->data + (n - some), some);
}

wk_hash wk_cache_key(const wk_plan *p, const wk_packed *out, wk_hash files) {
    const int32_t layout[] = {VERSION, LAYOUT, p->n_weight};
    wk_hash h = wk_hash_bytes(files, layout, sizeof(layout));
    for (int32_t i = 0; i < p->n_weight; i++) {
        const wk_weight *w = &p->weight[i];
        if (!out[i].in_use) continue;
        const int32_t what[] = {i, w->fmt, w->is_vector, w->n_row, w->k, w->unrotate};
        h = wk_hash_bytes(h, w->name, strlen(w->name));
        h = wk_hash_bytes(h, what, sizeof(what));
        h = add_sample(h, w);
    }
    return h;
}

/* ---- header ------------------------------------------------------------------------------------- */

static bool make_path(char out[PATH_BYTES], const char *dir, wk_hash key) {
    const int n = snprintf(out, PATH_BYTES, "%s/%s%016llx%016llx.pack", dir, PREFIX,
                           (unsigned long long)key.hi, (unsigned long long)key.lo);
    return n > 0 && n < PATH_BYTES;
}

static bool take_head(cache_file *f) {
    size_t n;
    f->n_piece = f->total / PIECE + (f->total % PIECE != 0);
    if (!wk_mul(&n, f->n_piece, sizeof(wk_hash)) || !wk_add(&n, n, FIXED + sizeof(wk_hash)) ||
        !wk_align(&f->head_n, n, PAGE))
        return false;
    f->head = wk_alloc(f->head_n);
    return f->head != NULL;
}

static uint8_t *put(uint8_t *p, const void *v, size_t n) {
    memcpy(p, v, n);
    return p + n;
}

static void fill_fixed(const cache_file *f, uint8_t *p) {
    const uint32_t version = VERSION, piece = PIECE;
    const uint64_t total = f->total;
    p = put(p, MAGIC, sizeof(MAGIC));
    p = put(p, &version, sizeof(version));
    p = put(p, &piece, sizeof(piece));
    p = put(p, &f->key, sizeof(f->key));
    (void)put(p, &total, sizeof(total)); /* the last one */
}

static size_t sums_n(const cache_file *f) { return FIXED + f->n_piece * sizeof(wk_hash); }
static wk_hash head_sum(const cache_file *f) {
    return wk_hash_bytes((wk_hash){0, 0}, f->head, sums_n(f));
}

/* The header is the one that this model must have, and whole. */
static bool check_head(const cache_file *f) {
    uint8_t want[FIXED];
    wk_hash sum = {0, 0};
    fill_fixed(f, want);
    wk_rd r = wk_rd_of(f->head, f->head_n);
    if (!wk_rd_skip(&r, sums_n(f)) || !wk_rd_u64(&r, &sum.lo) || !wk_rd_u64(&r, &sum.hi))
        return false;
    const wk_hash is = head_sum(f);
    return memcmp(f->head, want, FIXED) == 0 && is.lo == sum.lo && is.hi == sum.hi;
}

/* ---- pieces ------------------------------------------------------------------------------------- */

/* Reads the piece where there is a file, sums it, and compares (reading) or keeps the sum (writing). */
static bool run_piece(cache_file *f, size_t i) {
    const size_t at = i * PIECE, n = f->total - at < PIECE ? f->total - at : PIECE;
    uint8_t *slot = f->head + FIXED + i * sizeof(wk_hash);
    if (f->fd >= 0) {
        wk_os_populate(f->data + at, n, true);
        if (!wk_own_read(f->fd, f->data + at, n, f->head_n + at)) return false;
    }
    const wk_hash h = wk_hash_bytes((wk_hash){i, 0}, f->data + at, n);
    if (f->fd >= 0) return memcmp(slot, &h, sizeof(h)) == 0;
    memcpy(slot, &h, sizeof(h));
    return true;
}

static void pieces_rank(void *ud, int rank) {
    cache_file *f = ud;
    (void)rank;
    size_t i;
    while (!atomic_load(&f->bad) && (i = atomic_fetch_add(&f->next, 1)) < f->n_piece)
        if (!run_piece(f, i)) atomic_store(&f->bad, true);
}

wk_cache_found wk_cache_load(const char *dir, wk_hash key, uint8_t *dst, size_t total,
                             wk_team *team) {
    char path[PATH_BYTES];
    uint64_t size = 0;
    cache_file f = {.key = key, .total = total, .data = dst, .fd = -1, .team = team};
    if (!make_path(path, dir, key) || !wk_file_exists(path) || !take_head(&f)) return WK_CACHE_NONE;
    f.fd = wk_own_dir(dir) ? wk_own_open(path, &size) : -1;
    bool good = f.fd >= 0 && size == (uint64_t)f.head_n + total &&
                wk_own_read(f.fd, f.head, f.head_n, 0) && check_head(&f);
    if (good) {
        wk_team_run(team, pieces_rank, &f);
        good = !atomic_load(&f.bad);
    }
    if (good) wk_own_touch(path);
    wk_own_close(f.fd);
    wk_free(f.head);
    return good ? WK_CACHE_GOOD : WK_CACHE_BAD;
}

static bool has_room(const char *dir, uint64_t max, uint64_t n) {
    if (n > max || !wk_own_trim(dir, PREFIX, max - n)) return false;
    const uint64_t left = wk_disk_free(dir);
    return left != UINT64_MAX && n <= left - left / 10;
}

bool wk_cache_store(const char *dir, uint64_t max, wk_hash key, const uint8_t *src, size_t total,
                    wk_team *team) {
    char path[PATH_BYTES];
    wk_out_file out = {0};
    cache_file f = {
        .key = key, .total = total, .data = (uint8_t *)(uintptr_t)src, .fd = -1, .team = team};
    if (!wk_own_dir(dir) || !make_path(path, dir, key) || !take_head(&f)) return false;
    bool good = has_room(dir, max, (uint64_t)f.head_n + total);
    if (good) {
        fill_fixed(&f, f.head);
        wk_team_run(team, pieces_rank, &f);
        const wk_hash sum = head_sum(&f);
        memcpy(f.head + sums_n(&f), &sum, sizeof(sum));
        good = wk_os_out_open(&out, path, NULL) == WICK_OK;
    }
    if (good && !wk_own_private(out.fd)) {
        wk_os_out_abandon(&out);
        good = false;
    }
    good = good && wk_os_out_write(&out, f.head, f.head_n, NULL) == WICK_OK &&
           wk_os_out_write(&out, src, total, NULL) == WICK_OK &&
           wk_os_out_commit(&out, NULL) == WICK_OK;
    wk_free(f.head);
    return good;
}

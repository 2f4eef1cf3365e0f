/* dequant.c: GGUF -> GGUF in F32, with the decoders that unpack tests have compared with every public format.
 *
 * The key-value part is copied byte by byte: it ends where the record of the first tensor begins. */
#include "tests/golden/dequant.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/file/store.h"
#include "simd/format.h"

#define SPARE ((uint64_t)3 << 30)

static void put(FILE *f, const void *p, size_t n) {
    (void)fwrite(p, 1, n, f); /* ferror is looked at in the end */
}
static void put_u32(FILE *f, uint32_t v) { put(f, &v, sizeof(v)); }
static void put_u64(FILE *f, uint64_t v) { put(f, &v, sizeof(v)); }

static void pad(FILE *f, uint64_t to) {
    const long at = ftell(f);
    for (uint64_t i = (uint64_t)at; at >= 0 && i % to; i++) (void)fputc(0, f);
}

static uint64_t n_value(const wk_tensor *t) { return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; }

/* Bytes of the header before the first tensor record: a name of 8 + n bytes. */
static size_t head_bytes(const wk_store *s, const uint8_t *base) {
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const size_t at = (size_t)((const uint8_t *)wk_store_tensor(s, i)->name.p - base) - 8;
        least = at < least ? at : least;
    }
    return least;
}

static void put_records(FILE *f, const wk_store *s, uint64_t align) {
    uint64_t at = 0;
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        put_u64(f, t->name.n);
        put(f, t->name.p, t->name.n);
        put_u32(f, (uint32_t)t->n_dim);
        put(f, t->ne, (size_t)t->n_dim * sizeof(t->ne[0]));
        put_u32(f, wk_formats[WK_FMT_F32].gguf);
        put_u64(f, at);
        at += (n_value(t) * sizeof(float) + align - 1) / align * align;
    }
}

static bool put_values(FILE *f, const wk_store *s, uint64_t align) {
    pad(f, align);
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        const size_t k = (size_t)t->ne[0], row_bytes = wk_row_bytes(t->fmt, k);
        float *x = wk_new_n(float, k);
        if (!x) return false;
        for (size_t r = 0; r < t->bytes / row_bytes; r++) {
            wk_formats[t->fmt].decode(x, t->data + r * row_bytes, (int)k);
            put(f, x, k * sizeof(float));
        }
        wk_free(x);
        wk_os_drop(t->data, t->bytes);
        pad(f, align);
    }
    return true;
}

static int write_all(const char *to, const wk_store *s, const uint8_t *base, wk_err *err) {
    uint64_t align = 32;
    (void)wk_meta_u64(s, "general.alignment", 1, 1 << 20, &align, NULL); /* absent: 32 */
    FILE *f = fopen(to, "wb");
    if (!f) return wk_fail(err, WICK_E_IO, "%s cannot be written", to);
    put(f, base, head_bytes(s, base));
    put_records(f, s, align);
    const bool enough = put_values(f, s, align);
    const bool bad = ferror(f) != 0;
    if (fclose(f) || bad || !enough)
        return wk_fail(err, WICK_E_IO, "%s could not be written to its end", to);
    return WICK_OK;
}

/* The file that is already there, if it is whole and younger than its source. */
static bool is_done(const char *from, const char *to) {
    struct stat a, b;
    wk_store *s = NULL;
    if (stat(from, &a) || stat(to, &b) || b.st_mtime < a.st_mtime || wk_store_open(&s, to, NULL))
        return false;
    wk_store_close(s);
    return true;
}

static int check_room(const char *to, const wk_store *s, wk_err *err) {
    char dir[4096];
    struct statvfs v;
    uint64_t need = SPARE;
    for (size_t i = 0; i < wk_store_tensor_count(s); i++)
        need += n_value(wk_store_tensor(s, i)) * sizeof(float);
    const char *slash = strrchr(to, '/');
    (void)snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - to) : 1, slash ? to : ".");
    if (statvfs(dir, &v)) return wk_fail(err, WICK_E_IO, "%s is not there", dir);
    const uint64_t free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    if (free_bytes >= need) return WICK_OK;
    return wk_fail(err, WICK_E_IO,
                   "%s has %.1f GB of room, %.1f GB are wanted for the f32 model and to spare", dir,
                   (double)free_bytes / 1e9, (double)need / 1e9);
}

int wk_test_dequant(const char *from, const char *to, wk_err *err) {
    char tmp[4096];
    wk_map_file map = {0};
    wk_store *s = NULL;
    if (is_done(from, to)) return WICK_OK;
    (void)snprintf(tmp, sizeof(tmp), "%s.%ld", to, (long)getpid());
    int rc = wk_os_map(&map, from, err);
    if (!rc) rc = wk_store_open_memory(&s, map.p, map.n, from, err);
    if (!rc) rc = check_room(to, s, err);
    if (!rc) rc = write_all(tmp, s, map.p, err);
    if (!rc && rename(tmp, to)) rc = wk_fail(err, WICK_E_IO, "%s cannot be renamed to %s", tmp, to);
    if (rc) (void)unlink(tmp); /* may not be there */
    wk_store_close(s);
    wk_os_unmap(&map);
    return rc;
}

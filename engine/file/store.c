/* store.c: the record behind a model file: open, close, lookup. Lookup is a binary search in sorted
 * indices: 8 bytes an entry while sorting, no seed, the same order on every machine. A hash map was
 * rejected: its slots would take more memory than the rest of the index together. */
#include "engine/file/store.h"

#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/base/hash.h"
#include "engine/file/store_impl.h"
#include "models/tiny.h"

enum { LABEL_TAIL = 72 }; /* bytes of a long path that messages keep */

/* Messages show the path escaped; of a long one its end, where the file name stands. */
static void make_label(char *out, size_t cap, const char *path) {
    const size_t n = strlen(path);
    const char *cut = "";
    if (n > LABEL_TAIL) {
        path += n - LABEL_TAIL;
        while (((uint8_t)*path & 0xc0u) == 0x80u) path++; /* not inside a character */
        cut = "...";
    }
    const wk_shown shown = wk_show(wk_cstr(path));
    const size_t n_cut = strlen(cut), n_shown = strnlen(shown.text, cap - n_cut - 1);
    memcpy(out, cut, n_cut);
    memcpy(out + n_cut, shown.text, n_shown);
    out[n_cut + n_shown] = '\0';
}

/* ---- sorted indices ---------------------------------------------------------------------------- */

typedef int order_fn(const wk_store *s, uint32_t a, uint32_t b);

/* Shorter first, then by bytes: most comparisons end at the length. */
static int compare_str(wk_str a, wk_str b) {
    if (a.n != b.n) return a.n < b.n ? -1 : 1;
    return memcmp(a.p, b.p, a.n);
}

static wk_str key_of(const wk_store *s, size_t i) {
    return (wk_str){(const char *)s->p + s->meta[i].key_at, s->meta[i].key_n};
}

static int order_keys(const wk_store *s, uint32_t a, uint32_t b) {
    return compare_str(key_of(s, a), key_of(s, b));
}

static int order_names(const wk_store *s, uint32_t a, uint32_t b) {
    return compare_str(s->tensor[a].name, s->tensor[b].name);
}

static int order_places(const wk_store *s, uint32_t a, uint32_t b) {
    const uint8_t *pa = s->tensor[a].data, *pb = s->tensor[b].data;
    return (pa > pb) - (pa < pb);
}

/* Merges the sorted runs [lo, mid) and [mid, hi) of src into dst. */
static void merge(const wk_store *s, uint32_t *dst, const uint32_t *src, const size_t at[3],
                  order_fn *order) {
    size_t a = at[0], b = at[1];
    for (size_t i = at[0]; i < at[2]; i++) {
        const bool from_b = a == at[1] || (b < at[2] && order(s, src[b], src[a]) < 0);
        dst[i] = from_b ? src[b++] : src[a++];
    }
}

/* Bottom-up merge sort: stable, no recursion, O(n log n) whatever the input. */
static void sort(const wk_store *s, uint32_t *index, uint32_t *tmp, size_t n, order_fn *order) {
    uint32_t *from = index, *to = tmp;
    for (size_t i = 0; i < n; i++) index[i] = (uint32_t)i;
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * run) {
            const size_t mid = lo + run < n ? lo + run : n;
            const size_t hi = mid + run < n ? mid + run : n;
            merge(s, to, from, (const size_t[3]){lo, mid, hi}, order);
        }
        uint32_t *const was = from;
        from = to;
        to = was;
    }
    if (from != index) memcpy(index, from, n * sizeof(*index));
}

static int64_t find_twice(const wk_store *s, const uint32_t *index, size_t n, order_fn *order) {
    for (size_t i = 1; i < n; i++) {
        if (order(s, index[i - 1], index[i]) == 0) return index[i];
    }
    return -1;
}

void wk_store_sort_meta(wk_store *s, int64_t *dup) {
    sort(s, s->by_key, s->tmp, s->n_meta, order_keys);
    *dup = find_twice(s, s->by_key, s->n_meta, order_keys);
}

void wk_store_sort_tensors(wk_store *s, int64_t *dup) {
    sort(s, s->by_name, s->tmp, s->n_tensor, order_names);
    *dup = find_twice(s, s->by_name, s->n_tensor, order_names);
}

void wk_store_sort_places(wk_store *s) {
    sort(s, s->tmp, s->tmp + s->n_tensor, s->n_tensor, order_places);
}

/* ---- lookup ------------------------------------------------------------------------------------ */

const wk_meta_rec *wk_store_key(const wk_store *s, wk_str key) {
    size_t lo = 0, hi = s->n_meta;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = compare_str(key_of(s, s->by_key[mid]), key);
        if (c == 0) return &s->meta[s->by_key[mid]];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const wk_tensor *wk_store_find(const wk_store *s, wk_str name) {
    size_t lo = 0, hi = s->n_tensor;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const wk_tensor *t = &s->tensor[s->by_name[mid]];
        const int c = compare_str(t->name, name);
        if (c == 0) return t;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const char *wk_store_path(const wk_store *s) {
    return s->path;
}
uint64_t wk_store_file_bytes(const wk_store *s) {
    return s->all_bytes;
}
size_t wk_store_part_count(const wk_store *s) {
    return s->n_part ? s->n_part : 1;
}
uint32_t wk_store_version(const wk_store *s) {
    return s->version;
}
size_t wk_store_tensor_count(const wk_store *s) {
    return s->n_tensor;
}
const wk_tensor *wk_store_tensor(const wk_store *s, size_t i) {
    return &s->tensor[i];
}
size_t wk_store_meta_count(const wk_store *s) {
    return s->n_meta;
}
wk_str wk_store_meta_key(const wk_store *s, size_t i) {
    return key_of(s, i);
}
int wk_store_meta_type(const wk_store *s, size_t i) {
    return s->meta[i].type;
}

/* Entries follow each other: one ends where the length of the next key begins. */
wk_str wk_store_meta_raw(const wk_store *s, size_t i) {
    const size_t at = s->meta[i].key_at + s->meta[i].key_n;
    const size_t end = i + 1 < s->n_meta ? s->meta[i + 1].key_at - sizeof(uint64_t) : s->meta_end;
    return (wk_str){(const char *)s->p + at, end - at};
}

/* ---- open, close ------------------------------------------------------------------------------- */

int wk_store_reserve(wk_store *s, wk_err *err) {
    const size_t most = s->n_meta > s->n_tensor ? s->n_meta : s->n_tensor;
    size_t n_tmp;
    if (most > UINT32_MAX || !wk_mul(&n_tmp, most, 2)) {
        return wk_fail(err, WICK_E_FORMAT, "%zu entries are more than an index can count", most);
    }
    s->meta = wk_new_n(wk_meta_rec, s->n_meta);
    s->tensor = wk_new_n(wk_tensor, s->n_tensor);
    s->str_off = wk_new_n(uint32_t, s->n_str);
    s->by_key = wk_new_n(uint32_t, s->n_meta);
    s->by_name = wk_new_n(uint32_t, s->n_tensor);
    s->tmp = wk_new_n(uint32_t, n_tmp);
    if (s->meta && s->tensor && s->str_off && s->by_key && s->by_name && s->tmp) return WICK_OK;
    return wk_fail(err, WICK_E_NOMEM,
                   "no memory for the index of %zu metadata entries, %zu strings and "
                   "%zu tensors",
                   s->n_meta, s->n_str, s->n_tensor);
}

static void close_file(wk_store *s) {
    if (!s) return;
    wk_os_unmap(&s->map);
    wk_free(s->meta);
    wk_free(s->tensor);
    wk_free(s->str_off);
    wk_free(s->by_key);
    wk_free(s->by_name);
    wk_free(s->tmp);
    wk_free(s->path);
    wk_free(s->part);
    wk_free(s);
}

/* Parts have no parts of their own. */
void wk_store_close(wk_store *s) {
    if (!s) return;
    for (size_t i = 0; s->part && i < s->n_part; i++) close_file(s->part[i]);
    close_file(s);
}

void wk_store_drop(const wk_store *s) {
    wk_os_drop(s->map.p, s->map.n); /* borrowed bytes are nobody's to drop: their map is empty */
    for (size_t i = 0; s->part && i < s->n_part; i++)
        if (s->part[i]) wk_os_drop(s->part[i]->map.p, s->part[i]->map.n);
}

enum { RACY_NS = 2000000000 };

static bool add_identity(const wk_store *s, wk_hash *h) {
    const wk_map_file *m = &s->map;
    if (!m->p || m->age_ns < RACY_NS) return false;
    const int64_t what[] = {(int64_t)m->n, m->mtime_ns, m->ctime_ns, (int64_t)m->dev, (int64_t)m->ino};
    size_t head = m->n;
    for (size_t i = 0; i < s->n_tensor; i++) {
        const uint8_t *at = s->tensor[i].data;
        if (at >= m->p && at < m->p + head) head = (size_t)(at - m->p); /* parts share one table */
    }
    *h = wk_hash_bytes(*h, what, sizeof(what));
    *h = wk_hash_bytes(*h, m->p, head);
    return true;
}

bool wk_store_identity(const wk_store *s, wk_hash *out) {
    wk_hash h = {0, 0};
    if (!add_identity(s, &h)) return false;
    for (size_t i = 0; s->part && i < s->n_part; i++)
        if (s->part[i] && !add_identity(s->part[i], &h)) return false;
    *out = h;
    return true;
}

static wk_store *new_store(const char *path, wk_err *err) {
    wk_store *s = wk_new(wk_store);
    if (s) s->path = wk_strdup_n(path, strlen(path));
    if (s && s->path) {
        make_label(s->label, sizeof(s->label), path);
        return s;
    }
    wk_store_close(s);
    (void)wk_fail(err, WICK_E_NOMEM, "no memory for the name of the model file");
    return NULL;
}

static int parse(wk_store *s, const uint8_t *p, size_t n, wk_err *err) {
    s->p = p ? p : (const uint8_t *)""; /* an empty file has no place */
    s->n = s->all_bytes = n;
    const int rc = wk_gguf_parse(s, err);
    if (rc && err) (void)wk_fail_at(err, "%s", s->label);
    wk_free(s->tmp);
    s->tmp = NULL;
    return rc;
}

/* Looks at the file again: one that was written while it was read is not to be believed. */
static int check_unchanged(const wk_store *s, wk_err *err) {
    wk_map_file now = {0};
    WK_TRY(wk_os_map(&now, s->path, err));
    const size_t n = now.n;
    const bool same = n == s->map.n && now.mtime_ns == s->map.mtime_ns;
    wk_os_unmap(&now);
    if (same) return WICK_OK;
    return wk_fail(err, WICK_E_IO,
                   "%s: changed while it was read: %zu bytes before, %zu bytes after", s->label,
                   s->map.n, n);
}

int wk_store_open_file(wk_store **out, const char *path, wk_err *err) {
    int rc = WICK_OK;
    *out = NULL;
    if (!path || !*path) return wk_fail(err, WICK_E_IO, "the path of the model file is empty");
    wk_store *s = new_store(path, err);
    if (!s) return WICK_E_NOMEM;
    if ((rc = wk_os_map(&s->map, path, err))) goto out;
    if ((rc = parse(s, s->map.p, s->map.n, err))) goto out;
    if ((rc = check_unchanged(s, err))) goto out;
    *out = s;
    s = NULL; /* success: ownership leaves */
out:
    wk_store_close(s);
    return rc;
}

int wk_store_open(wk_store **out, const char *path, wk_err *err) {
    if (path && strcmp(path, WK_STORE_TINY) == 0)
        return wk_store_open_memory(out, wk_tiny_gguf, (size_t)(wk_tiny_gguf_end - wk_tiny_gguf), path, err);
    WK_TRY(wk_store_open_file(out, path, err));
    const int rc = wk_shards_join(out, err);
    if (!rc) return WICK_OK;
    wk_store_close(*out);
    *out = NULL;
    return rc;
}

int wk_store_open_memory(wk_store **out, const void *p, size_t n, const char *name, wk_err *err) {
    *out = NULL;
    wk_store *s = new_store(name, err);
    if (!s) return WICK_E_NOMEM;
    int rc = parse(s, (const uint8_t *)p, n, err);
    if (!rc) rc = wk_shards_refuse(s, err);
    if (rc)
        wk_store_close(s);
    else
        *out = s;
    return rc;
}

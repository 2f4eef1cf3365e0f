/* store_impl.h: what the files of this folder share: the record behind wk_store, and what a container
 * reader has to fill. Everything is sized by what the header really holds, never by what it declares:
 * a reader walks the file once before it allocates. */
#ifndef WK_STORE_IMPL_H
#define WK_STORE_IMPL_H

#include "engine/base/err.h"
#include "engine/base/os.h"
#include "engine/base/str.h"
#include "engine/file/store.h"

/* One metadata entry, as offsets into the file: 48 bytes for at least 14 in the file. */
typedef struct wk_meta_rec {
    size_t key_at, val_at; /* first byte of the key; of the value (arrays: of the elements) */
    size_t n;              /* elements of an array; 1 otherwise */
    size_t first_str;      /* arrays of strings: index into wk_store.str_off */
    uint32_t key_n;
    uint8_t type, elem; /* WK_META_*; elem: of an array */
} wk_meta_rec;

struct wk_store {
    const uint8_t *p; /* the file */
    size_t n;
    wk_map_file map; /* zeroed where the bytes are borrowed */
    char *path;
    char label[128]; /* the path as messages show it: escaped, its tail if it is long */
    uint32_t version;
    size_t n_meta, n_tensor, n_str;
    size_t meta_end; /* first byte behind the metadata */
    wk_meta_rec *meta;
    wk_tensor *tensor;
    uint32_t *str_off; /* [n_str] offsets of the length fields of strings in arrays, from the array's first element */
    uint32_t *by_key, *by_name, *tmp; /* sorted indices; scratch of the sort, freed after parsing */
    /* Of a split file: the other parts, [n_part] with NULL where this record stands itself; tensor and
     * by_name are those of all parts. all_bytes: of all files. */
    struct wk_store **part;
    size_t n_part, all_bytes;
};

/* Fills an opened record (p, n set). The messages do not name the file, the caller does. */
int wk_gguf_parse(wk_store *s, wk_err *err);
/* Refuses bytes that do not begin as GGUF, with the name of the format if it is a known one. */
int wk_foreign_refuse(const uint8_t *p, size_t n, wk_err *err);

/* Opens one file, whatever split.count says. */
int wk_store_open_file(wk_store **out, const char *path, wk_err *err);
/* shards.c: *s, a file just opened, becomes the store of all parts if it is one of several; on failure *s is
 * still to be closed. In memory there are no other files: wk_shards_refuse says so. */
int wk_shards_join(wk_store **s, wk_err *err);
int wk_shards_refuse(const wk_store *s, wk_err *err);

/* Allocates meta, tensor, str_off and the sorted indices for the counts in s. */
int wk_store_reserve(wk_store *s, wk_err *err);
/* Sorts the index of keys or names; then a binary search finds them. *dup gets an entry that occurs
 * twice, or -1. */
void wk_store_sort_meta(wk_store *s, int64_t *dup);
void wk_store_sort_tensors(wk_store *s, int64_t *dup);
/* Orders tmp by the place of the data: tmp[i] = index of the i-th tensor in the file. */
void wk_store_sort_places(wk_store *s);

const wk_meta_rec *wk_store_key(const wk_store *s, wk_str key); /* NULL if absent */
/* Entry i as it lies in the file: from its type to its last byte. */
wk_str wk_store_meta_raw(const wk_store *s, size_t i);
const char *wk_meta_type_name(int type);
size_t wk_meta_type_bytes(int type); /* 0: no fixed size */

#endif

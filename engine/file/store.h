/* store.h: a model file as named tensors and metadata, whatever the container: a read-only view over the
 * mapped bytes. Everything is validated before a wk_store exists: every tensor lies inside the data, every
 * string inside the file; shapes are products that were checked. Names and keys are borrowed slices of the
 * mapping. Immutable after open: any thread may read. */
#ifndef WK_STORE_H
#define WK_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/base/str.h"

typedef struct wk_store wk_store;

typedef struct wk_tensor {
    wk_str name;
    int fmt;            /* wk_fmt */
    int n_dim;          /* 1..4 */
    uint64_t ne[4];     /* ne[0] = length of a row (contiguous), ne[1] = rows, unused = 1 */
    const uint8_t *data;
    size_t bytes;       /* exactly rows * row_bytes */
} wk_tensor;

/* Metadata value types, GGUF's numbering. */
enum {
    WK_META_U8, WK_META_I8, WK_META_U16, WK_META_I16, WK_META_U32, WK_META_I32, WK_META_F32, WK_META_BOOL,
    WK_META_STR, WK_META_ARRAY, WK_META_U64, WK_META_I64, WK_META_F64, WK_META_TYPE_COUNT
};

/* Opens path (GGUF v2, v3). A part of a split file (NAME-00001-of-00003.gguf) opens all of it: the other parts
 * must stand in the same folder; the metadata is the first part's.
 * Errors: WICK_E_IO (missing, folder, unreadable), E_FORMAT (magic, version, truncated, duplicate …), E_BOUNDS
 * (offsets, sizes), E_SHAPE (rows that the block does not divide), E_UNSUPPORTED (big endian, a tensor type not in
 * formats.def: named). The message begins with the path, or, where another part is at fault, with "part 2 of 3: "
 * and its path. */
int wk_store_open(wk_store **out, const char *path, wk_err *err);
#define WK_STORE_TINY "wick:tiny" /* a path that stands for the model inside the library (models/tiny.h) */
void wk_store_close(wk_store *s); /* NULL is fine */
/* Tells the kernel that the pages of the files need not stay in memory; they come back when they are read. */
void wk_store_drop(const wk_store *s);

/* Which content this is, without reading all of it: sizes, inodes, both time stamps and everything before the tensors'
 * data, of all parts. A change of the content changes a time stamp that no program can set back. false: there is no
 * file, or one that was changed less than two seconds before (time stamps may not tell its next change). */
struct wk_hash;
bool wk_store_identity(const wk_store *s, struct wk_hash *out);

/* The same over borrowed bytes, `name` for messages: the built-in model, fuzzing and tests. A device that packs the
 * weights drops their pages behind it: bytes that no file backs are zero then. */
int wk_store_open_memory(wk_store **out, const void *p, size_t n, const char *name, wk_err *err);

const char *wk_store_path(const wk_store *s);
uint64_t wk_store_file_bytes(const wk_store *s); /* of all parts */
size_t wk_store_part_count(const wk_store *s);   /* 1: not split */
uint32_t wk_store_version(const wk_store *s);

size_t wk_store_tensor_count(const wk_store *s);
const wk_tensor *wk_store_tensor(const wk_store *s, size_t i);
const wk_tensor *wk_store_find(const wk_store *s, wk_str name); /* NULL if absent */

/* Metadata by index (for show) and by key. */
size_t wk_store_meta_count(const wk_store *s);
wk_str wk_store_meta_key(const wk_store *s, size_t i);
int wk_store_meta_type(const wk_store *s, size_t i);
/* Value as text: numbers, quoted escaped strings, arrays as "[u32 × 49152] 1, 2, 3, …"; cut at cap. */
size_t wk_store_meta_text(const wk_store *s, size_t i, char *buf, size_t cap);

/* Getters. Any stored integer type is taken if its value fits; floats take f32, f64 and integers.
 * Return 1 found, 0 absent (out untouched), < 0 a status: wrong type or out of [min, max], with key, value
 * found and range wanted in err. */
int wk_meta_u64(const wk_store *s, const char *key, uint64_t min, uint64_t max, uint64_t *out, wk_err *err);
int wk_meta_f64(const wk_store *s, const char *key, double min, double max, double *out, wk_err *err);
int wk_meta_bool(const wk_store *s, const char *key, bool *out, wk_err *err);
int wk_meta_str(const wk_store *s, const char *key, wk_str *out, wk_err *err);

/* A one-dimensional array: element type and count, elements through the accessors (i < n, type checked by
 * the caller through wk_array.type; the integer accessor takes every integer type and bool). */
typedef struct wk_array {
    int type;
    size_t n;
    const uint8_t *p;        /* the elements, in the mapping */
    const uint32_t *str_off; /* strings: offsets of their length fields from p */
} wk_array;
int wk_meta_array(const wk_store *s, const char *key, wk_array *out, wk_err *err);
int64_t wk_array_int(const wk_array *a, size_t i);
double wk_array_real(const wk_array *a, size_t i); /* floats and integers */
wk_str wk_array_str(const wk_array *a, size_t i);

#endif

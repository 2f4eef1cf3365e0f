/* write.h: writes GGUF v3 files: metadata and tensors in the order given, data aligned to 32 bytes. The file appears
 * whole or not at all: written beside as NAME.part, synced, renamed, the folder synced. */
#ifndef WK_WRITE_H
#define WK_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/base/str.h"
#include "engine/file/store.h"

typedef struct wk_writer wk_writer;

wk_writer *wk_writer_new(void); /* NULL: no memory. Later failures of memory show in save */
void wk_writer_free(wk_writer *w); /* NULL is fine */

/* A key that is there already is replaced in its place. */
void wk_writer_u32(wk_writer *w, const char *key, uint32_t v);
void wk_writer_u64(wk_writer *w, const char *key, uint64_t v);
void wk_writer_i32(wk_writer *w, const char *key, int32_t v);
void wk_writer_f32(wk_writer *w, const char *key, float v);
void wk_writer_bool(wk_writer *w, const char *key, bool v);
void wk_writer_str(wk_writer *w, const char *key, wk_str v);
void wk_writer_str_array(wk_writer *w, const char *key, const wk_str *v, size_t n);
void wk_writer_f32_array(wk_writer *w, const char *key, const float *v, size_t n);
void wk_writer_i32_array(wk_writer *w, const char *key, const int32_t *v, size_t n);
/* Every key of s for which want(ud, key) holds (want NULL: all), byte for byte. s must outlive save. */
void wk_writer_meta_of(wk_writer *w, const wk_store *s, bool (*want)(void *ud, wk_str key), void *ud);

/* A tensor; ne[0] is the length of a row. data: its bytes, borrowed until save; NULL: row() is called for row 0, 1, ...
 * (of all dimensions but the first) while saving and gives row_bytes, valid until the next call, or NULL to stop with
 * WICK_E_CANCELED. */
typedef struct wk_writer_tensor {
    const char *name; /* copied */
    int fmt, n_dim;
    uint64_t ne[4];
    const void *data;
    const void *(*row)(void *ud, uint64_t row);
    void *ud;
} wk_writer_tensor;
void wk_writer_add(wk_writer *w, const wk_writer_tensor *t);

/* Errors: E_IO (path, what failed; nothing is left behind), E_NOMEM, E_SHAPE (rows that the block does not divide),
 * E_CANCELED. */
int wk_writer_save(wk_writer *w, const char *path, wk_err *err);

/* A copy of s in other formats: fmt_of(ud, tensor) gives the format of each tensor (as it is: fmt of the tensor).
 * Errors: as save; E_UNSUPPORTED: a format that cannot be written yet, or whose block does not divide the row: named. */
int wk_requant(const wk_store *s, const char *path, int (*fmt_of)(void *ud, const wk_tensor *t), void *ud, wk_err *err);
/* The format of a tensor where all matrices are to have fmt: its own, if it is none or the block does not divide it. */
int wk_requant_matrix(const wk_tensor *t, int fmt);

/* The same with other values in some tensors. */
typedef struct wk_requant_how {
    int (*fmt_of)(void *ud, const wk_tensor *t);
    bool (*is_changed)(void *ud, const wk_tensor *t);                      /* NULL: none is */
    void (*change)(void *ud, const wk_tensor *t, uint64_t row, float *x); /* in place, of a changed tensor, in order */
    void *ud;
} wk_requant_how;
int wk_requant_by(const wk_store *s, const char *path, const wk_requant_how *how, wk_err *err);

#endif

/* nano.h: a llama of two layers as GGUF bytes in memory, with one thing changed: what the tests of graph/ refuse.
 * dim 8, heads 2, kv heads 1, head_dim 4, ffn 12, vocabulary 5, context 32; F32, tied. */
#ifndef WK_NANO_H
#define WK_NANO_H

#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/file/store.h"
#include "engine/graph/plan.h"

typedef enum nano_type { NANO_U32, NANO_F32, NANO_STR, NANO_ARRAY, NANO_STRINGS } nano_type;

/* A key that replaces the plain one of that name, or is added. */
typedef struct nano_key {
    const char *key; /* NULL: none */
    nano_type type;
    uint32_t u;
    float f;
    const char *s;
    uint32_t array[3], n; /* NANO_ARRAY; NANO_STRINGS: n strings "x" */
} nano_key;

/* A tensor that replaces the plain one of that name, or is added. */
typedef struct nano_tensor {
    const char *name; /* NULL: none */
    uint64_t ne[2];   /* row length, rows; rows 0: one dimension */
    uint32_t gguf; /* type; data is zeros of block 32 x 34 for Q8_0 (8), else 4 bytes an element */
    float value;   /* F32: every element */
} nano_tensor;

typedef struct nano_edit {
    const char *drop; /* key or tensor left out */
    const char *arch; /* NULL: llama; else the keys bear this name, the tensors stay a llama's */
    uint32_t dim;     /* 0: 8; else dim, with two heads of half of it */
    nano_key key[4];
    nano_tensor tensor[2];
} nano_edit;

void nano_build(wk_buf *out, const nano_edit *e);

/* Opens the bytes and plans: max_tok 4, max_out 2. On success *s is open and the caller's. */
int nano_plan(wk_plan **p, wk_store **s, const wk_buf *bytes, wk_err *err);

/* A whole file; fails the test if it cannot be read. */
void nano_read_file(wk_buf *out, const char *path);
/* tests/golden/tiny/<arch>.gguf, opened. */
wk_store *nano_open_tiny(const char *arch);
/* Every occurrence of old becomes new, of equal length; fails the test if there is none. */
void nano_rename(wk_buf *b, const char *old, const char *new_text);

#endif

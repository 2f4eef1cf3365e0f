/* tok.h: bytes <-> token ids. One vocabulary, one merge algorithm (bpe.c, spm.c) behind one interface.
 * Immutable after open; every function may be called by any thread at once. */
#ifndef WK_TOK_H
#define WK_TOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/base/str.h"
#include "engine/file/store.h"

typedef struct wk_tok wk_tok;

/* Reads tokenizer.ggml.* of s; copies what it keeps, so s may be closed afterwards.
 * Errors: E_FORMAT / E_BOUNDS (arrays missing, of other length or type, required ids out of range),
 * E_UNSUPPORTED (model or pre-tokenizer family unknown: named). Optional ids out of range: dropped, logged. */
int wk_tok_open(wk_tok **out, const wk_store *s, wk_err *err);
void wk_tok_close(wk_tok *t); /* NULL is fine */

enum {
    WK_TOK_BOS = 1,     /* put BOS (and EOS at the end) where the model's metadata asks for it */
    WK_TOK_SPECIAL = 2, /* control tokens written in the text become their ids; else they are plain text */
    WK_TOK_SHOW_SPECIAL = 4 /* decode: control tokens as their text; else they give nothing */
};

/* One run of text: trusted runs (from a template) may hold special tokens, user runs never do. */
typedef struct wk_run {
    wk_str text;
    bool trusted;
} wk_run;

/* Encodes runs as if their text were one string (pre-tokenizer regexes see across run borders), except
 * that special tokens are matched inside trusted runs only. Writes at most cap ids, *n is the number needed
 * (may exceed cap: then only the first cap were written). text may be any bytes; invalid UTF-8 is encoded
 * byte by byte. O(n log n), no recursion. E_NOMEM is the only failure. */
int wk_tok_encode(const wk_tok *t, const wk_run *run, size_t n_run, uint32_t flags, int32_t *out, size_t cap,
                  size_t *n);
/* Bytes of one id (no leading-space handling); empty for control tokens unless WK_TOK_SHOW_SPECIAL and for
 * ids out of range. Borrowed from t or from the caller's tmp. */
wk_str wk_tok_piece(const wk_tok *t, int32_t id, uint32_t flags, char tmp[8]);
/* Whole sequence; SPM drops the one leading space that encode adds. *len = bytes needed; cap 0 asks for
 * it; WICK_E_ARG if 0 < cap < *len. */
int wk_tok_decode(const wk_tok *t, const int32_t *id, size_t n, uint32_t flags, char *buf, size_t cap, size_t *len);
/* Whether decode drops the first byte of piece, the text of id, where it begins the sequence. */
bool wk_tok_drops_space(const wk_tok *t, int32_t id, wk_str piece);

int32_t wk_tok_count(const wk_tok *t);
int32_t wk_tok_bos(const wk_tok *t); /* -1 = none */
int32_t wk_tok_eos(const wk_tok *t);
bool wk_tok_adds_bos(const wk_tok *t);
bool wk_tok_is_end(const wk_tok *t, int32_t id); /* eos, eot, eom and the family's end-of-turn tokens */
bool wk_tok_is_control(const wk_tok *t, int32_t id);
const char *wk_tok_family(const wk_tok *t); /* "bpe/smollm", "spm" … */
/* Names the tokenizer of s: of its tokens and merges as they stand in the file, never 0. Equal hashes: equal ids. */
uint64_t wk_tok_hash(const wk_store *s);
/* Text of a control token such as bos, for templates ("" if none). */
wk_str wk_tok_text(const wk_tok *t, int32_t id);

#endif

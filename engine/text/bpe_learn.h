/* bpe_learn.h: learns a byte-level BPE vocabulary from text (Sennrich, Haddow, Birch 2016; byte level as in GPT-2).
 * One result for one text on every machine and for every number of threads: pairs are ordered by count (descending),
 * then by the bytes of their parts (ascending). */
#ifndef WK_BPE_LEARN_H
#define WK_BPE_LEARN_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

typedef struct wk_learned {
    int32_t n_vocab; /* tokens: 256 bytes, then merges in order, then control tokens */
    wk_str *token;   /* [n_vocab] as GGUF and tokenizer.json write them: bytes as the letters of GPT-2's table */
    int32_t n_merge;
    wk_str *merge;   /* [n_merge] "left right" */
    int32_t n_control; /* the last ones of token: <|endoftext|>, <|im_start|>, <|im_end|> */
    struct wk_arena *arena;
} wk_learned;

/* text: documents; family: a pre-tokenizer of pretok.def ("gpt2", "smollm", ...). 259 <= n_vocab <= 65536, fewer if the
 * text has no pair left that occurs twice. Errors: E_ARG (n_vocab, family), E_NOMEM, E_CANCELED. */
int wk_bpe_learn(wk_learned *out, const wk_str *text, size_t n_text, int32_t n_vocab, const char *family,
                 bool (*progress)(void *ud, uint64_t done, uint64_t total), void *ud, wk_err *err);
void wk_learned_fini(wk_learned *l); /* zeroed record is fine */
/* The same as a tokenizer.json of the Hugging Face tokenizers library. */
void wk_learned_json(const wk_learned *l, const char *family, wk_buf *out);

#endif

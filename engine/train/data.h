/* data.h: text -> packed tokens on disk (.wtok) -> samples. All randomness is a keyed permutation by counter, so a
 * place in the data is one number. */
#ifndef WK_DATA_H
#define WK_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/text/chat.h"
#include "engine/text/tok.h"
#include "engine/train/exec.h"

/* Input, told by content, not by name: plain text (documents separated by "<|endoftext|>"; a text without any is cut at
 * line ends into documents of about 16 KiB), jsonl with {"text"}, {"prompt","completion"} (also "question","answer"),
 * {"messages"[,"tools"]} or {"conversations":[{"from","value"}]}. Loss counts on every token of a text, on the
 * completion, on what the assistant says; in all cases the end token behind it too. */
/* Files of token ids are taken as they are: those of llm.c by their magic, raw ones (nanoGPT, shards of llama2.c) where
 * raw says so. Texts are separated in them by the model's end of text, or by its begin where the file starts with one. */
typedef enum wk_raw_ids { WK_RAW_NONE, WK_RAW_U16, WK_RAW_U32 } wk_raw_ids;
enum { WK_DATA_PARTS = 16, WK_DATA_BLOCK = 1000 };

typedef struct wk_pack_options {
    const char *const *path;
    size_t n_path;
    const double *mix;     /* [n_path] the shares of the files in what is trained on; NULL: as long as they are */
    wk_raw_ids raw;        /* what a file holds that has no magic of its own */
    const wk_tok *tok;
    const wk_chat *chat;   /* for messages; NULL or unusable: such lines are refused with that sentence */
    uint64_t tok_hash;     /* stored, compared by wk_data_open */
    double val_share;      /* part of the documents that is held out, by hash of their text: 0 .. 0.5 */
    bool skip_bad;         /* lines that do not parse are counted instead of refused */
    bool loss_on_all;      /* prompts count too */
    bool (*progress)(void *ud, uint64_t done, uint64_t total); /* bytes; false cancels */
    void *ud;
} wk_pack_options;

/* Writes the packed file (beside, then renamed). Errors: E_IO; E_FORMAT with file, line and reason; E_ARG (no document
 * left; with the numbers); E_TEMPLATE; E_CANCELED; E_NOMEM. n_bad may be NULL. */
int wk_data_pack(const char *out, const wk_pack_options *o, uint64_t *n_bad, wk_err *err);

typedef struct wk_data wk_data; /* mapped, immutable; any thread */

/* tok_hash 0: not compared. Errors: E_IO, E_FORMAT (not such a file, truncated, lying), E_ARG (other tokenizer: both
 * hashes). */
int wk_data_open(wk_data **out, const char *path, uint64_t tok_hash, wk_err *err);
void wk_data_close(wk_data *d); /* NULL is fine */

typedef enum wk_split { WK_SPLIT_TRAIN, WK_SPLIT_VAL, WK_SPLIT_COUNT } wk_split;
/* ROWS: the documents of the split behind each other, cut every n_ctx tokens (the last, short piece is left out);
 * DOCS: one document a sample, cut at n_ctx + 1 tokens (the rest is dropped: counted in wk_data_cut). */
typedef enum wk_unit { WK_UNIT_ROWS, WK_UNIT_DOCS } wk_unit;
typedef struct wk_sample_spec {
    wk_split split;
    wk_unit unit;
    int32_t n_ctx;
    bool doc_mask; /* ROWS: documents in a row are sequences of their own */
    bool in_order; /* no shuffling: validation */
    uint64_t seed;
    uint16_t quota[WK_DATA_PARTS]; /* of WK_DATA_BLOCK samples, those of each part; all 0: no mixture (wk_data_mix) */
} wk_sample_spec;

uint64_t wk_data_tokens(const wk_data *d, wk_split s);
uint64_t wk_data_counted(const wk_data *d, wk_split s);   /* tokens that count as targets */
uint64_t wk_data_bytes(const wk_data *d, wk_split s);     /* of text that the counted tokens stand for */
uint64_t wk_data_documents(const wk_data *d, wk_split s);
uint64_t wk_data_hash(const wk_data *d);                  /* of the content */
int32_t wk_data_vocab(const wk_data *d);                  /* every id is less */
uint64_t wk_data_samples(const wk_data *d, const wk_sample_spec *s); /* of one epoch */
uint64_t wk_data_cut(const wk_data *d, const wk_sample_spec *s);     /* tokens left out of an epoch */

/* A mixture: files packed with shares. Every WK_DATA_BLOCK samples hold the same number of each part, in an order keyed by
 * seed and block; each part has epochs of its own. So the place is one number here too. */
uint32_t wk_data_parts(const wk_data *d); /* 0: no mixture */
double wk_data_part_share(const wk_data *d, uint32_t part);
/* Fills s->quota (documents of unequal length: so that the shares are of tokens). Nothing where there is no mixture.
 * E_ARG: a part without a whole sample, or whose share is less than one sample in a block. */
int wk_data_mix(const wk_data *d, wk_sample_spec *s, const char *path, wk_err *err);
/* Adds the tokens of samples first .. end - 1 to those of their parts. */
void wk_data_drawn(const wk_data *d, const wk_sample_spec *s, uint64_t first, uint64_t end,
                   uint64_t tokens[WK_DATA_PARTS]);

/* Sample i, counted over all epochs: epoch i / samples has its own permutation (Feistel network on Philox, keyed by
 * seed and epoch). Writes n <= n_ctx tokens, their targets (-1: not counted), and the sequences (first counted from this
 * sample's first token; at most n_ctx of them). Returns n. */
int32_t wk_data_sample(const wk_data *d, const wk_sample_spec *s, uint64_t i, int32_t *tok, int32_t *target,
                       wk_tseq *seq, int32_t *n_seq);

/* The permutation of 0 .. n-1 that a key gives: a bijection for every n. */
uint64_t wk_permute(uint64_t i, uint64_t n, uint64_t seed, uint64_t epoch);

#endif

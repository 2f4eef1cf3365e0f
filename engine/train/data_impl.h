/* data_impl.h: what the data_*.c share, with engine/wick_data.c and their tests; nobody else includes it.
 *
 * Packed file, little endian, sections behind each other, each but the first padded to 8 bytes at its end:
 *   magic "wicktok1", u32 bytes of an id (2 or 4), u32 0
 *   ids [n_tok]; one bit a token: it counts as a target
 *   u64 [n_doc]: tokens up to the end of each document; u64 [n_doc]: bytes of text that its counted tokens stand for
 *   one bit a document: it is held out
 *   of a mixture, for each part: u64 documents up to its end, f64 weight
 *   foot: u64 tokenizer hash, n_tok, n_doc, n_vocab, n_part (0: no mixture), hash of all other bytes (two)
 * The counts stand at the end because the file is written in one pass. Offsets are not stored: they follow from the
 * counts, and the size of the file must agree with them. */
#ifndef WK_DATA_IMPL_H
#define WK_DATA_IMPL_H

#include "engine/base/hash.h"
#include "engine/base/json.h"
#include "engine/base/os.h"
#include "engine/train/data.h"

#define WK_WTOK_MAGIC "wicktok1"
enum {
    WK_WTOK_HEAD = 16,
    WK_WTOK_FOOT = 7 * 8,
    WK_WTOK_BLOCK = 1 << 20, /* bytes hashed at a time: the hash is a chain of them */
    WK_DATA_PIECE = 16 << 10 /* bytes of a document that is cut from a text without separators */
};
#define WK_DATA_LINE_MAX ((size_t)16 << 20)

/* Where the sections begin. */
typedef struct wk_wtok_layout {
    size_t mask, end, bytes, split, part, foot, size;
} wk_wtok_layout;
/* false: too much */
bool wk_wtok_layout_of(wk_wtok_layout *l, uint64_t n_tok, uint64_t n_doc, uint32_t width, uint64_t n_part);
/* Of a whole file of n >= FOOT bytes, without its last two words. */
wk_hash wk_wtok_hash(const uint8_t *p, size_t n);
/* The documents of one split. */
typedef struct wk_split_index {
    uint64_t *doc; /* [n] documents in order */
    uint64_t *at;  /* [n + 1] tokens of the split before each */
    uint64_t n, bytes, counted;
} wk_split_index;

struct wk_data {
    wk_map_file map; /* n 0: borrowed bytes */
    const uint8_t *p;
    wk_wtok_layout at;
    uint64_t n_tok, n_doc, n_vocab, n_part, hash;
    uint32_t width;
    wk_split_index split[WK_SPLIT_COUNT];
    uint64_t part_end[WK_DATA_PARTS];       /* documents of the file up to the end of a part */
    uint64_t part_train_end[WK_DATA_PARTS]; /* of those that are trained on */
    double weight[WK_DATA_PARTS];
};

/* data_mix.c: sample i of a mixture -> which document or row of the split: its index there (documents), its first token
 * (rows). */
uint64_t wk_data_mix_place(const wk_data *d, const wk_sample_spec *s, uint64_t i);
bool wk_data_is_mixed(const wk_sample_spec *s);
uint64_t wk_data_mix_samples(const wk_data *d, const wk_sample_spec *s);
int32_t wk_data_doc_len(const wk_data *d, const wk_sample_spec *s, uint64_t doc); /* tokens of that sample */
/* wk_data_open over borrowed bytes. */
int wk_data_open_memory(wk_data **out, const void *p, size_t n, const char *name, uint64_t tok_hash, wk_err *err);

/* One document as it was read; all is borrowed for the call. */
typedef struct wk_doc {
    wk_str part[2];    /* a text; or prompt and completion, of which only the second counts */
    size_t n_part;     /* 0: a conversation */
    bool is_question;  /* the parts are question and answer: turns of a conversation where a template can write them */
    bool begins, ends; /* it is, or begins or ends, a whole text */
    const wk_json *messages, *tools; /* tools NULL: none */
    bool is_from;                    /* messages are {"from","value"} */
    wk_str key;                      /* decides what is held out */
} wk_doc;

typedef struct wk_reading {
    const char *path; /* for messages */
    wk_str file;
    bool is_mapped; /* of a file: its pages may be given back once they were read */
    bool skip_bad;
    /* E_FORMAT, E_TEMPLATE, E_ARG: the document is bad; any other failure ends the reading. */
    int (*on_doc)(void *ud, const wk_doc *d, wk_err *err);
    bool (*on_place)(void *ud, size_t at); /* bytes done; false cancels; may be NULL */
    void *ud;
    uint64_t n_bad; /* left out, with skip_bad */
    wk_err first_bad;
    size_t told; /* private */
} wk_reading;
int wk_data_read(wk_reading *r, wk_err *err);
/* Bytes of text (n > want) to take so that about want are taken and no line, word or character is cut if possible. */
size_t wk_data_cut_at(wk_str text, size_t want);

/* Ids and whether each counts. */
typedef struct wk_ids {
    int32_t *id;
    uint8_t *counted;
    size_t n, room;
} wk_ids;
bool wk_ids_reserve(wk_ids *x, size_t n); /* false: no memory; contents stay */
void wk_ids_fini(wk_ids *x);

/* data_ids.c: files of token ids. */
typedef struct wk_id_file {
    const char *path;
    const uint8_t *p; /* first id */
    uint64_t n;
    uint32_t width;
    const char *of; /* whose ids they are, in words; NULL: nobody says */
    int32_t mark;   /* the token that separates texts there, -1: not said */
    bool is_mapped;
} wk_id_file;
/* *is: the file is one, by its magic or because raw says so. Errors: E_FORMAT, a lying header. */
uint32_t wk_id_file_width(wk_str file); /* by its magic; 0: it has none */
int wk_id_file_open(wk_id_file *f, wk_str file, const char *path, wk_raw_ids raw, bool *is, wk_err *err);
typedef struct wk_id_reading {
    const wk_tok *tok;
    int (*on_ids)(void *ud, const wk_ids *x, wk_str key, wk_err *err); /* a text, or a piece of one */
    bool (*on_place)(void *ud, size_t at);                             /* bytes of the file done; false cancels */
    void *ud;
} wk_id_reading;
/* Errors: E_FORMAT, an id beyond the vocabulary, with its place; E_ARG, another tokenizer; on_ids' own; E_CANCELED. */
int wk_id_file_read(const wk_id_file *f, const wk_id_reading *r, wk_err *err);

/* A conversation -> ids as the template writes it; what the assistant says counts, up to the token that ends its turn.
 * One call of on_ids; or, where the template changes earlier answers (drops thoughts) or ends none, one for each. */
int wk_data_talk(const wk_doc *d, const wk_tok *tok, const wk_chat *chat,
                 int (*on_ids)(void *ud, const wk_ids *x, wk_err *err), void *ud, wk_err *err);

#endif

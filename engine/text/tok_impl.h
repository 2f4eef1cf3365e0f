/* tok_impl.h: what tok.c, vocab.c, bpe.c, bpe_learn.c and spm.c share. Nobody else includes it. */
#ifndef WK_TOK_IMPL_H
#define WK_TOK_IMPL_H

#include "engine/text/merge.h"
#include "engine/text/pretok.h"
#include "engine/text/tok.h"

/* Kinds of tokens, the values of tokenizer.ggml.token_type. */
enum {
    WK_KIND_UNDEFINED,
    WK_KIND_NORMAL,
    WK_KIND_UNKNOWN,
    WK_KIND_CONTROL,
    WK_KIND_USER,
    WK_KIND_UNUSED,
    WK_KIND_BYTE,
    WK_KIND_COUNT
};

enum {
    WK_TOK_TEXT_MAX = 2048, /* bytes of a token's text; a lookup then costs a bounded time */
    WK_MATCH_MAX = 256      /* bytes of a token that is searched in text */
};

/* Texts sorted by bytes, to find the longest one that starts at a place. */
typedef struct wk_match {
    uint32_t *id; /* [n] ids in the order of their texts, no text twice */
    uint32_t n;
    uint32_t first[257]; /* id[first[b]] … id[first[b + 1] - 1] begin with byte b */
} wk_match;

/* Text -> id, open addressing with a seeded hash. base/map.h was measured: it takes 24 bytes a slot and twice
 * the time, and this lookup is where encoding spends its time. */
typedef struct wk_text_slot {
    uint32_t id, tag; /* id = WK_NO_ID: free; tag: bits of the hash beyond the place */
} wk_text_slot;

typedef struct wk_vocab {
    char *text;    /* what each token decodes to, back to back; SPM: U+2581 already a space */
    uint32_t *at;  /* [n + 1] where a token's text begins */
    uint8_t *kind; /* [n] */
    uint32_t n;
    wk_text_slot *slot; /* [mask + 1] the tokens that merging may produce, by their text */
    uint32_t mask;
    uint64_t seed[2];
    int32_t byte_id[256]; /* the token of a single byte, -1 = none */
    wk_match user;        /* user-defined tokens: found in any text */
    wk_match any;         /* and control tokens: found in trusted text */
} wk_vocab;

/* One encode call: where ids go, and scratch memory of the merge. */
typedef struct wk_enc {
    int32_t *out;
    size_t cap, n;
    wk_merge merge;
} wk_enc;

/* What a tokenizer algorithm supplies. */
typedef struct wk_tok_algo {
    /* Reads the algorithm's own arrays; t->v is filled. */
    int (*load)(wk_tok *t, const wk_store *s, wk_err *err);
    /* Appends the ids of text in which no special token occurs. */
    int (*encode)(const wk_tok *t, wk_enc *e, wk_str text);
} wk_tok_algo;

typedef struct wk_bpe_pair {
    uint32_t left, right, id;
} wk_bpe_pair;

struct wk_tok {
    wk_vocab v;
    const wk_tok_algo *algo;
    const wk_pretok *pre; /* BPE */
    wk_bpe_pair *pair;    /* BPE [merges]: (left, right) -> merged, by rank */
    uint32_t *pair_slot;  /* [pair_mask + 1] ranks by their pair, open addressing; WK_NO_ID: free */
    uint32_t pair_mask;
    uint32_t *rank;      /* SPM [n]: smaller merges first */
    uint32_t ascii[128]; /* SPM: tokens of one-byte characters */
    uint8_t *joins;      /* SPM: 65536 bits, byte pairs that occur inside a token */
    int32_t bos, eos, unk;
    uint32_t end_id[24]; /* ids that end a turn */
    uint32_t n_end;
    bool add_bos, add_eos, add_space;
    char family[32];
};

extern const wk_tok_algo wk_bpe_algo, wk_spm_algo;

static inline wk_str wk_vocab_text(const wk_vocab *v, uint32_t id) {
    return (wk_str){v->text + v->at[id], v->at[id + 1] - v->at[id]};
}
static inline void wk_enc_put(wk_enc *e, uint32_t id) {
    if (e->n < e->cap) e->out[e->n] = (int32_t)id;
    e->n++;
}

/* vocab.c */
typedef struct wk_vocab_opt {
    bool is_spm;
    int64_t bos, eos, unk; /* -1 = none: kinds of a file that has no token_type array */
} wk_vocab_opt;
int wk_vocab_load(wk_vocab *v, const wk_store *s, const wk_vocab_opt *opt, wk_err *err);
int wk_vocab_index(wk_vocab *v, const char *path, wk_err *err);
void wk_vocab_fini(wk_vocab *v);
/* The token that has this text, of those that merging may produce; WK_NO_ID = none. */
uint32_t wk_vocab_find(const wk_vocab *v, wk_str text);
/* Length of the longest text of m that [p, p + n) begins with, 0 = none. */
size_t wk_match_at(const wk_match *m, const wk_vocab *v, const char *p, size_t n, uint32_t *id);
/* Byte that the token text "<0xHH>" names, -1 = it names none. */
int wk_byte_of(wk_str text);
/* Bytes that byte-level text stands for; false if a character stands for none. out: text.n bytes. */
bool wk_bytes_of(wk_str text, char *out, size_t *n);
/* The character that byte-level text has for each byte. */
void wk_letters(uint16_t letter[256]);

#endif

/* spm.c: SentencePiece BPE: symbols are characters, the neighbours whose joined text is the token of
 * highest score merge first, the leftmost of equals; characters that are no token become byte tokens.
 *
 * Text is first cut where no merge can reach across: between two bytes that stand side by side in no
 * token. For the usual vocabularies that is before most spaces, so that words are short and stay in
 * cache; the ids are the same as those of one merge over everything. */
#include "engine/base/arena.h"
#include "engine/base/utf8.h"
#include "engine/text/tok_impl.h"

#include <string.h>

static const char KEY_SCORES[] = "tokenizer.ggml.scores";

/* ---- loading ----------------------------------------------------------------------------------- */

/* Order of merging as an integer: the higher the score, the smaller. */
static uint32_t rank_of(float score) {
    uint32_t u;
    if (score == 0.0f) score = 0.0f; /* -0 is 0 */
    memcpy(&u, &score, sizeof(u));
    return u & 0x80000000u ? u : 0x7fffffffu - u;
}

static int read_scores(wk_tok *t, const wk_store *s, wk_err *err) {
    wk_array scores;
    const int got = wk_meta_array(s, KEY_SCORES, &scores, err);
    if (got < 0) return got;
    if (!got) return wk_fail(err, WICK_E_FORMAT, "%s is missing", KEY_SCORES);
    if (scores.type == WK_META_STR || scores.type == WK_META_ARRAY || scores.type == WK_META_BOOL) {
        return wk_fail(err, WICK_E_FORMAT, "%s has elements of type %d, wanted numbers", KEY_SCORES,
                       scores.type);
    }
    if (scores.n != t->v.n) {
        return wk_fail(err, WICK_E_FORMAT,
                       "%s has %zu elements, there are %u tokens: wanted as many", KEY_SCORES,
                       scores.n, t->v.n);
    }
    t->rank = wk_new_n(uint32_t, scores.n);
    if (!t->rank) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu scores", scores.n);
    for (size_t i = 0; i < scores.n; i++) {
        const double x = wk_array_real(&scores, i);
        if (!(x >= -3.0e38 && x <= 3.0e38)) {
            return wk_fail(err, WICK_E_FORMAT, "%s[%zu] is not a finite number", KEY_SCORES, i);
        }
        t->rank[i] = rank_of((float)x);
    }
    return WICK_OK;
}

static size_t pair_bit(const char *p) { return ((size_t)(uint8_t)p[0] << 8) | (uint8_t)p[1]; }

static int read_joins(wk_tok *t, wk_err *err) {
    t->joins = (uint8_t *)wk_alloc(65536 / 8);
    if (!t->joins) return wk_fail(err, WICK_E_NOMEM, "no memory for the table of byte pairs");
    for (uint32_t i = 0; i < t->v.n; i++) {
        const wk_str text = wk_vocab_text(&t->v, i);
        if (t->v.kind[i] != WK_KIND_NORMAL && t->v.kind[i] != WK_KIND_USER) continue;
        for (size_t k = 0; k + 1 < text.n; k++) {
            const size_t bit = pair_bit(text.p + k);
            t->joins[bit / 8] |= (uint8_t)(1u << bit % 8);
        }
    }
    return WICK_OK;
}

/* All 256 byte tokens or none; without them an unknown token must stand in. */
static int find_bytes(wk_tok *t, wk_err *err) {
    int n = 0;
    for (int b = 0; b < 128; b++) t->ascii[b] = (uint32_t)t->v.byte_id[b];
    for (int b = 0; b < 256; b++) t->v.byte_id[b] = -1;
    for (uint32_t i = 0; i < t->v.n; i++) {
        if (t->v.kind[i] != WK_KIND_BYTE) continue;
        int32_t *id = &t->v.byte_id[(uint8_t)t->v.text[t->v.at[i]]];
        if (*id >= 0) continue;
        *id = (int32_t)i;
        n++;
    }
    if (n == 256 || (n == 0 && t->unk >= 0)) return WICK_OK;
    if (n == 0) {
        return wk_fail(err, WICK_E_FORMAT,
                       "the vocabulary has neither byte tokens nor an unknown token: most text "
                       "could not be encoded");
    }
    return wk_fail(err, WICK_E_FORMAT,
                   "the vocabulary has %d different byte tokens, wanted 256 or none", n);
}

static int spm_load(wk_tok *t, const wk_store *s, wk_err *err) {
    WK_TRY(read_scores(t, s, err));
    WK_TRY(find_bytes(t, err));
    return read_joins(t, err);
}

/* ---- encoding ---------------------------------------------------------------------------------- */

typedef struct word {
    const wk_tok *t;
    const char *p;
} word;

static bool find_text(const void *ud, const wk_sym *l, const wk_sym *r, wk_merged *out) {
    const word *w = (const word *)ud;
    const size_t n = (size_t)l->len + r->len;
    if (n > WK_TOK_TEXT_MAX) return false;
    const uint32_t id = wk_vocab_find(&w->t->v, (wk_str){w->p + l->at, n});
    if (id == WK_NO_ID) return false;
    *out = (wk_merged){w->t->rank[id], id};
    return true;
}

static void put_symbol(const wk_tok *t, wk_enc *e, wk_str text, uint32_t id, bool *was_unk) {
    const bool is_unk = id == WK_NO_ID && t->v.byte_id[0] < 0;
    if (id != WK_NO_ID)
        wk_enc_put(e, id);
    else if (!is_unk) {
        for (size_t i = 0; i < text.n; i++)
            wk_enc_put(e, (uint32_t)t->v.byte_id[(uint8_t)text.p[i]]);
    } else if (!*was_unk)
        wk_enc_put(e, (uint32_t)t->unk); /* one for a run of unknown characters */
    *was_unk = is_unk;
}

static size_t char_len(wk_str s, size_t i) {
    uint32_t cp;
    const int n = (uint8_t)s.p[i] < 0x80 ? 1 : wk_utf8_decode(s.p + i, s.n - i, &cp);
    return n ? (size_t)n : 1;
}

/* Characters of the word that begins at text, up to where it may be cut. */
static bool split_word(const wk_tok *t, wk_enc *e, wk_str text, size_t *n_sym, size_t *n_bytes) {
    size_t n = 0, i = 0;
    do {
        const size_t len = char_len(text, i);
        if (!wk_merge_reserve(&e->merge, n + 1)) return false;
        const uint32_t id = len == 1 && (uint8_t)text.p[i] < 0x80
                                ? t->ascii[(uint8_t)text.p[i]]
                                : wk_vocab_find(&t->v, (wk_str){text.p + i, len});
        e->merge.sym[n++] = (wk_sym){(uint32_t)i, (uint32_t)len, id};
        i += len;
        if (i >= text.n) break;
        const size_t bit = pair_bit(text.p + i - 1);
        if (!(t->joins[bit / 8] >> bit % 8 & 1u)) break;
    } while (true);
    *n_sym = n;
    *n_bytes = i;
    return true;
}

static int spm_encode(const wk_tok *t, wk_enc *e, wk_str text) {
    bool was_unk = false;
    while (text.n) {
        size_t n, n_bytes;
        if (!split_word(t, e, text, &n, &n_bytes)) return WICK_E_NOMEM;
        const word w = {t, text.p};
        if (!wk_merge_run(&e->merge, n, find_text, &w, &n)) return WICK_E_NOMEM;
        for (size_t i = 0; i < n; i++) {
            const wk_sym s = e->merge.sym[i];
            put_symbol(t, e, (wk_str){text.p + s.at, s.len}, s.id, &was_unk);
        }
        text.p += n_bytes;
        text.n -= n_bytes;
    }
    return WICK_OK;
}

const wk_tok_algo wk_spm_algo = {spm_load, spm_encode};

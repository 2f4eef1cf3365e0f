/* bpe.c: byte-level byte pair encoding: words of the pre-tokenizer, symbols are bytes, pairs merge in the
 * order of tokenizer.ggml.merges. */
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/text/tok_impl.h"

static const char KEY_MERGES[] = "tokenizer.ggml.merges";

/* ---- pairs ------------------------------------------------------------------------------------- */

static uint32_t hash_of(const wk_tok *t, uint32_t left, uint32_t right) {
    const uint64_t key = (((uint64_t)left << 32) | right) ^ t->v.seed[0];
    const uint64_t x = (key ^ (key >> 32)) * 0x9E3779B97F4A7C15u;
    return (uint32_t)((x ^ (x >> 29)) * 0xBF58476D1CE4E5B9u >> 32);
}

/* The slot that holds the pair, or the free one where it belongs. */
static uint32_t *slot_of(const wk_tok *t, uint32_t left, uint32_t right) {
    for (uint32_t i = hash_of(t, left, right) & t->pair_mask;; i = (i + 1) & t->pair_mask) {
        const uint32_t rank = t->pair_slot[i];
        if (rank == WK_NO_ID || (t->pair[rank].left == left && t->pair[rank].right == right)) return &t->pair_slot[i];
    }
}

static bool find_pair(const void *ud, const wk_sym *l, const wk_sym *r, wk_merged *out) {
    const wk_tok *t = ud;
    const uint32_t rank = *slot_of(t, l->id, r->id);
    if (rank == WK_NO_ID) return false;
    *out = (wk_merged){rank, t->pair[rank].id};
    return true;
}

/* ---- loading ----------------------------------------------------------------------------------- */

/* Adds "left right"; false if it names something that is no token. An earlier line of the same pair
 * stays. */
static bool add_merge(wk_tok *t, wk_str line, uint32_t rank) {
    char bytes[2 * WK_TOK_TEXT_MAX];
    const char *gap = line.n > 2 ? (const char *)memchr(line.p + 1, ' ', line.n - 1) : NULL;
    if (!gap || line.n > sizeof(bytes)) return false;
    const wk_str a = {line.p, (size_t)(gap - line.p)}, b = {gap + 1, line.n - a.n - 1};
    size_t na, nb;
    if (!wk_bytes_of(a, bytes, &na) || !wk_bytes_of(b, bytes + na, &nb)) return false;
    const uint32_t left = wk_vocab_find(&t->v, (wk_str){bytes, na});
    const uint32_t right = wk_vocab_find(&t->v, (wk_str){bytes + na, nb});
    const uint32_t id = wk_vocab_find(&t->v, (wk_str){bytes, na + nb});
    if (left == WK_NO_ID || right == WK_NO_ID || id == WK_NO_ID) return false;
    uint32_t *slot = slot_of(t, left, right);
    if (*slot != WK_NO_ID) return true;
    *slot = rank;
    t->pair[rank] = (wk_bpe_pair){left, right, id};
    return true;
}

static int reserve_pairs(wk_tok *t, size_t n, wk_err *err) {
    uint32_t mask = 15;
    while (mask / 2 < n && mask < UINT32_MAX / 2) mask = 2 * mask + 1;
    t->pair = wk_new_n(wk_bpe_pair, n);
    t->pair_slot = mask / 2 < n ? NULL : wk_new_n(uint32_t, (size_t)mask + 1);
    if (!t->pair || !t->pair_slot) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu merges", n);
    memset(t->pair_slot, 0xff, ((size_t)mask + 1) * sizeof(*t->pair_slot));
    t->pair_mask = mask;
    return WICK_OK;
}

static void warn_bytes(const wk_tok *t, const char *path) {
    int n = 0, first = -1;
    for (int b = 255; b >= 0; b--) {
        if (t->v.byte_id[b] >= 0) continue;
        n++;
        first = b;
    }
    if (!n) return;
    wk_log(WK_LOG_WARN,
           "%s: %d byte values, the first 0x%02x, have no token: encoding drops them, as the "
           "reference tokenizer does",
           path, n, (unsigned)first);
}

static int bpe_load(wk_tok *t, const wk_store *s, wk_err *err) {
    wk_array merges;
    const int got = wk_meta_array(s, KEY_MERGES, &merges, err);
    if (got < 0) return got;
    if (!got || merges.type != WK_META_STR) {
        return wk_fail(err, WICK_E_FORMAT, "%s is %s, wanted an array of strings", KEY_MERGES,
                       got ? "of another type" : "missing");
    }
    if (merges.n > INT32_MAX)
        return wk_fail(err, WICK_E_UNSUPPORTED, "%s has %zu elements", KEY_MERGES, merges.n);
    WK_TRY(reserve_pairs(t, merges.n, err));
    uint32_t n_bad = 0, bad = 0;
    for (uint32_t i = 0; i < merges.n; i++) {
        if (add_merge(t, wk_array_str(&merges, i), i)) continue;
        if (n_bad++ == 0) bad = i;
    }
    const wk_shown path = wk_show(wk_cstr(wk_store_path(s)));
    if (n_bad) {
        wk_log(WK_LOG_WARN,
               "%s: %u of %zu merges name no token and are skipped, the first is %u: \"%s\"",
               path.text, n_bad, merges.n, bad, wk_show(wk_array_str(&merges, bad)).text);
    }
    warn_bytes(t, path.text);
    return WICK_OK;
}

/* ---- encoding ---------------------------------------------------------------------------------- */

static int encode_word(const wk_tok *t, wk_enc *e, wk_str w) {
    const uint32_t id = t->pre->whole_words ? wk_vocab_find(&t->v, w) : WK_NO_ID;
    if (id != WK_NO_ID) {
        wk_enc_put(e, id);
        return WICK_OK;
    }
    size_t n = 0;
    if (!wk_merge_reserve(&e->merge, w.n)) return WICK_E_NOMEM;
    for (size_t i = 0; i < w.n; i++) {
        const int32_t b = t->v.byte_id[(uint8_t)w.p[i]];
        if (b >= 0) e->merge.sym[n++] = (wk_sym){(uint32_t)i, 1, (uint32_t)b};
    }
    if (!wk_merge_run(&e->merge, n, find_pair, t, &n)) return WICK_E_NOMEM;
    for (size_t i = 0; i < n; i++) wk_enc_put(e, e->merge.sym[i].id);
    return WICK_OK;
}

static int bpe_encode(const wk_tok *t, wk_enc *e, wk_str text) {
    wk_pretok_walk walk = wk_pretok_start(t->pre, text);
    wk_str word;
    while (wk_pretok_next(&walk, &word)) WK_TRY(encode_word(t, e, word));
    return WICK_OK;
}

const wk_tok_algo wk_bpe_algo = {bpe_load, bpe_encode};

/* tok_hash.c: one number for a vocabulary, so that packed tokens know whose they are. */
#include "engine/base/hash.h"
#include "engine/text/tok.h"

/* The strings of an array lie behind each other, each behind its length. */
static wk_hash add_strings(wk_hash h, const wk_store *s, const char *key) {
    wk_array a;
    if (wk_meta_array(s, key, &a, NULL) != 1 || a.type != WK_META_STR || a.n == 0) return wk_hash_bytes(h, "", 0);
    const char *from = wk_array_str(&a, 0).p - sizeof(uint64_t);
    const wk_str last = wk_array_str(&a, a.n - 1);
    return wk_hash_bytes(h, from, (size_t)(last.p + last.n - from));
}

uint64_t wk_tok_hash(const wk_store *s) {
    wk_hash h = add_strings((wk_hash){0, 0}, s, "tokenizer.ggml.tokens");
    h = add_strings(h, s, "tokenizer.ggml.merges");
    return h.lo ? h.lo : 1;
}

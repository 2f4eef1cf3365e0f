/* vocab.c: the table of tokens: what each decodes to, its kind, text -> id, and the search for special
 * tokens in text. Everything is copied out of the file. */
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/base/utf8.h"
#include "engine/text/tok_impl.h"

static const char KEY_TOKENS[] = "tokenizer.ggml.tokens";
static const char KEY_TYPES[] = "tokenizer.ggml.token_type";

/* ---- texts ------------------------------------------------------------------------------------- */

int wk_byte_of(wk_str s) {
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
    int v = 0;
    for (int i = 3; i < 5; i++) {
        const char c = s.p[i];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        v = 16 * v + digit;
    }
    return v;
}

/* Byte-level BPE writes bytes as characters: the visible ones of Latin-1 as themselves, the other 68, in
 * order, as U+0100 and following. */
static int byte_of_char(uint32_t cp) {
    if ((cp >= 0x21 && cp <= 0x7e) || (cp >= 0xa1 && cp <= 0xac) || (cp >= 0xae && cp <= 0xff))
        return (int)cp;
    if (cp < 0x100 || cp > 0x143) return -1;
    const int k = (int)(cp - 0x100);
    if (k <= 0x20) return k;
    return k < 0x43 ? k - 0x21 + 0x7f : 0xad;
}

void wk_letters(uint16_t letter[256]) {
    for (uint32_t cp = 0x21; cp <= 0x143; cp++) {
        const int b = byte_of_char(cp);
        if (b >= 0) letter[b] = (uint16_t)cp;
    }
}

bool wk_bytes_of(wk_str text, char *out, size_t *n) {
    size_t k = 0;
    for (size_t i = 0; i < text.n;) {
        uint32_t cp;
        const int len = wk_utf8_decode(text.p + i, text.n - i, &cp);
        const int b = len ? byte_of_char(cp) : -1;
        if (b < 0) return false;
        out[k++] = (char)b;
        i += (size_t)len;
    }
    *n = k;
    return true;
}

/* Copies text with U+2581 as a space. */
static size_t copy_spaced(char *out, wk_str text) {
    size_t k = 0;
    for (size_t i = 0; i < text.n; k++) {
        const bool is_mark = text.n - i >= 3 && memcmp(text.p + i, "\xe2\x96\x81", 3) == 0;
        out[k] = is_mark ? ' ' : text.p[i];
        i += is_mark ? 3 : 1;
    }
    return k;
}

/* What a token decodes to; raw.n bytes of room. A word of byte-level BPE that is not written in the
 * characters of bytes can come of no text: it is unused. */
static size_t decoded(char *out, wk_str raw, uint8_t *kind, bool is_spm) {
    size_t n;
    const int byte = *kind == WK_KIND_BYTE ? wk_byte_of(raw) : -1;
    if (byte >= 0) {
        out[0] = (char)byte;
        return 1;
    }
    if (is_spm) return copy_spaced(out, raw);
    const bool is_word = *kind == WK_KIND_NORMAL || *kind == WK_KIND_UNUSED;
    if (is_word && wk_bytes_of(raw, out, &n)) return n;
    if (is_word) *kind = WK_KIND_UNUSED;
    memcpy(out, raw.p, raw.n);
    return raw.n;
}

/* ---- reading ----------------------------------------------------------------------------------- */

static bool is_int_type(int type) {
    return (type >= WK_META_U8 && type <= WK_META_I32) || type == WK_META_U64 ||
           type == WK_META_I64;
}

static int read_kinds(wk_vocab *v, const wk_array *types, wk_err *err) {
    if (!is_int_type(types->type)) {
        return wk_fail(err, WICK_E_FORMAT, "%s has elements of type %d, wanted integers", KEY_TYPES,
                       types->type);
    }
    if (types->n != v->n) {
        return wk_fail(err, WICK_E_FORMAT, "%s has %zu elements, %s has %u: wanted as many",
                       KEY_TYPES, types->n, KEY_TOKENS, v->n);
    }
    for (uint32_t i = 0; i < v->n; i++) {
        const int64_t k = wk_array_int(types, i);
        if (k < 0 || k >= WK_KIND_COUNT) {
            return wk_fail(err, WICK_E_FORMAT, "%s[%u] is %lld, wanted 0 to %d", KEY_TYPES, i,
                           (long long)k, WK_KIND_COUNT - 1);
        }
        v->kind[i] = k == WK_KIND_UNDEFINED ? WK_KIND_NORMAL : (uint8_t)k;
    }
    return WICK_OK;
}

/* A file without kinds: bos and eos are control tokens, <0xHH> of an SPM vocabulary are bytes. */
static void guess_kinds(wk_vocab *v, const wk_array *tokens, const wk_vocab_opt *opt) {
    for (uint32_t i = 0; i < v->n; i++) {
        const bool is_byte = opt->is_spm && wk_byte_of(wk_array_str(tokens, i)) >= 0;
        v->kind[i] = is_byte ? WK_KIND_BYTE : WK_KIND_NORMAL;
    }
    if (opt->unk >= 0) v->kind[opt->unk] = WK_KIND_UNKNOWN;
    if (opt->bos >= 0) v->kind[opt->bos] = WK_KIND_CONTROL;
    if (opt->eos >= 0) v->kind[opt->eos] = WK_KIND_CONTROL;
}

static int read_texts(wk_vocab *v, const wk_array *tokens, bool is_spm, wk_err *err) {
    size_t at = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        const wk_str raw = wk_array_str(tokens, i);
        v->at[i] = (uint32_t)at;
        if (raw.n > WK_TOK_TEXT_MAX) {
            return wk_fail(err, WICK_E_UNSUPPORTED, "%s[%u] has %zu bytes, the limit is %d",
                           KEY_TOKENS, i, raw.n, WK_TOK_TEXT_MAX);
        }
        if (is_spm && v->kind[i] == WK_KIND_BYTE && wk_byte_of(raw) < 0) {
            return wk_fail(err, WICK_E_FORMAT,
                           "%s[%u] is a byte token with the text \"%s\", wanted <0x00> to <0xFF>",
                           KEY_TOKENS, i, wk_show(raw).text);
        }
        at += decoded(v->text + at, raw, &v->kind[i], is_spm);
    }
    v->at[v->n] = (uint32_t)at;
    return WICK_OK;
}

/* Allocates the columns; refuses lists that 32-bit offsets cannot address. */
static int reserve(wk_vocab *v, const wk_array *tokens, wk_err *err) {
    uint64_t bytes = 0;
    if (tokens->type != WK_META_STR || tokens->n == 0) {
        return wk_fail(err, WICK_E_FORMAT, "%s has %zu elements of type %d, wanted strings",
                       KEY_TOKENS, tokens->n, tokens->type);
    }
    for (size_t i = 0; i < tokens->n; i++) bytes += wk_array_str(tokens, i).n;
    if (tokens->n > INT32_MAX || bytes > INT32_MAX) {
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "%s has %zu elements and %llu bytes, the limit is 2^31 - 1", KEY_TOKENS,
                       tokens->n, (unsigned long long)bytes);
    }
    v->n = (uint32_t)tokens->n;
    v->text = (char *)wk_alloc((size_t)bytes);
    v->at = wk_new_n(uint32_t, tokens->n + 1);
    v->kind = (uint8_t *)wk_alloc(tokens->n);
    if (v->text && v->at && v->kind) return WICK_OK;
    return wk_fail(err, WICK_E_NOMEM, "no memory for a vocabulary of %u tokens", v->n);
}

int wk_vocab_load(wk_vocab *v, const wk_store *s, const wk_vocab_opt *opt, wk_err *err) {
    wk_array tokens, types;
    int got = wk_meta_array(s, KEY_TOKENS, &tokens, err);
    if (got < 0) return got;
    if (!got) return wk_fail(err, WICK_E_FORMAT, "%s is missing", KEY_TOKENS);
    WK_TRY(reserve(v, &tokens, err));
    got = wk_meta_array(s, KEY_TYPES, &types, err);
    if (got < 0) return got;
    if (got)
        WK_TRY(read_kinds(v, &types, err));
    else
        guess_kinds(v, &tokens, opt);
    return read_texts(v, &tokens, opt->is_spm, err);
}

/* ---- index ------------------------------------------------------------------------------------- */

/* Two texts by bytes, the shorter of equals first, then by id. */
static bool is_before(const wk_vocab *v, uint32_t a, uint32_t b) {
    const wk_str x = wk_vocab_text(v, a), y = wk_vocab_text(v, b);
    const int c = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    if (c) return c < 0;
    return x.n != y.n ? x.n < y.n : a < b;
}

static void sift(const wk_vocab *v, uint32_t *id, size_t n, size_t i) {
    const uint32_t x = id[i];
    for (size_t kid; (kid = 2 * i + 1) < n; i = kid) {
        if (kid + 1 < n && is_before(v, id[kid], id[kid + 1])) kid++;
        if (!is_before(v, x, id[kid])) break;
        id[i] = id[kid];
    }
    id[i] = x;
}

/* Heap sort: in place, no recursion, n log n whatever the file holds. */
static void sort_texts(const wk_vocab *v, uint32_t *id, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift(v, id, n, i);
    while (n > 1) {
        const uint32_t x = id[--n];
        id[n] = id[0];
        id[0] = x;
        sift(v, id, n, 0);
    }
}

static bool is_searched(const wk_vocab *v, uint32_t id, bool control) {
    const size_t n = wk_vocab_text(v, id).n;
    if (n == 0 || n > WK_MATCH_MAX) return false;
    const int k = v->kind[id];
    return k == WK_KIND_USER || (control && (k == WK_KIND_CONTROL || k == WK_KIND_UNKNOWN));
}

static bool build_match(wk_match *m, const wk_vocab *v, bool control) {
    size_t n = 0, k = 0;
    for (uint32_t i = 0; i < v->n; i++) n += is_searched(v, i, control);
    m->id = wk_new_n(uint32_t, n);
    if (!m->id) return false;
    for (uint32_t i = 0; i < v->n; i++)
        if (is_searched(v, i, control)) m->id[k++] = i;
    sort_texts(v, m->id, n);
    k = 0;
    for (size_t i = 0; i < n; i++)
        if (k == 0 || !wk_str_eq(wk_vocab_text(v, m->id[k - 1]), wk_vocab_text(v, m->id[i])))
            m->id[k++] = m->id[i];
    m->n = (uint32_t)k;
    k = 0;
    for (uint32_t b = 0; b <= 256; b++) {
        while (k < m->n && (uint8_t)v->text[v->at[m->id[k]]] < b) k++;
        m->first[b] = (uint32_t)k;
    }
    return true;
}

static uint8_t byte_at(const wk_match *m, const wk_vocab *v, uint32_t i, size_t d) {
    return (uint8_t)v->text[v->at[m->id[i]] + d];
}

/* First place in [lo, hi) whose byte d is not below b. */
static uint32_t lower(const wk_match *m, const wk_vocab *v, uint32_t lo, uint32_t hi, size_t d,
                      unsigned b) {
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (byte_at(m, v, mid, d) < b)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

size_t wk_match_at(const wk_match *m, const wk_vocab *v, const char *p, size_t n, uint32_t *id) {
    if (n == 0) return 0;
    const uint8_t b = (uint8_t)p[0];
    uint32_t lo = m->first[b], hi = m->first[b + 1];
    size_t best = 0;
    for (size_t d = 1; lo < hi; d++) { /* all texts in [lo, hi) begin with the d bytes at p */
        if (wk_vocab_text(v, m->id[lo]).n == d) {
            best = d;
            *id = m->id[lo++];
        }
        if (d == n || lo == hi) break;
        if (hi - lo == 1) {
            const wk_str t = wk_vocab_text(v, m->id[lo]);
            if (t.n > n || memcmp(t.p + d, p + d, t.n - d) != 0) break;
            *id = m->id[lo];
            return t.n;
        }
        const unsigned c = (uint8_t)p[d];
        lo = lower(m, v, lo, hi, d, c);
        hi = lower(m, v, lo, hi, d, c + 1);
    }
    return best;
}

/* ---- text -> id -------------------------------------------------------------------------------- */

static uint64_t load64(const char *p) {
    uint64_t x;
    memcpy(&x, p, sizeof(x));
    return x;
}
static uint32_t load32(const char *p) {
    uint32_t x;
    memcpy(&x, p, sizeof(x));
    return x;
}

/* Folds 64 x 64 bits to 64: the mixing step of multiply-and-fold hashes. */
static uint64_t fold(uint64_t a, uint64_t b) {
    const uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    const uint64_t ll = al * bl, lh = al * bh + (ll >> 32), hl = ah * bl + (uint32_t)lh;
    return (ah * bh + (lh >> 32) + (hl >> 32)) ^ ((hl << 32) | (uint32_t)ll);
}

static uint64_t hash_of(const wk_vocab *v, wk_str s) {
    uint64_t a, b, h = v->seed[0] ^ (s.n * 0x9E3779B97F4A7C15u);
    while (s.n > 16) {
        h = fold(load64(s.p) ^ v->seed[1], load64(s.p + 8) ^ h);
        s = (wk_str){s.p + 16, s.n - 16};
    }
    if (s.n >= 8) {
        a = load64(s.p);
        b = load64(s.p + s.n - 8);
    } else if (s.n >= 4) {
        a = load32(s.p);
        b = load32(s.p + s.n - 4);
    } else {
        a = ((uint64_t)(uint8_t)s.p[0] << 16) | ((uint64_t)(uint8_t)s.p[s.n / 2] << 8) |
            (uint8_t)s.p[s.n - 1];
        b = 0;
    }
    return fold(a ^ v->seed[1], b ^ h);
}

/* The slot that holds the text, or the free one where it belongs. */
static wk_text_slot *slot_of(const wk_vocab *v, wk_str text, uint32_t *tag) {
    const uint64_t h = hash_of(v, text);
    *tag = (uint32_t)(h >> 32);
    for (uint32_t i = (uint32_t)h & v->mask;; i = (i + 1) & v->mask) {
        wk_text_slot *s = &v->slot[i];
        if (s->id == WK_NO_ID) return s;
        if (s->tag == *tag && wk_str_eq(wk_vocab_text(v, s->id), text)) return s;
    }
}

uint32_t wk_vocab_find(const wk_vocab *v, wk_str text) {
    uint32_t tag;
    return text.n ? slot_of(v, text, &tag)->id : WK_NO_ID;
}

static bool reserve_slots(wk_vocab *v) {
    uint32_t mask = 15; /* n < 2^31: at most 2/3 full, at most 2^32 slots */
    while (mask - mask / 3 < v->n) mask = 2 * mask + 1;
    wk_os_random(v->seed, sizeof(v->seed));
    v->slot = wk_new_n(wk_text_slot, (size_t)mask + 1);
    if (!v->slot) return false;
    for (size_t i = 0; i <= mask; i++) v->slot[i].id = WK_NO_ID;
    v->mask = mask;
    return true;
}

/* Which tokens merging may produce: normal ones, and user-defined ones where no normal one has the text.
 * Control tokens are not among them, so no text of a user can become one. */
static void put_kind(wk_vocab *v, int kind, uint32_t *n_twice) {
    for (uint32_t i = 0; i < v->n; i++) {
        const wk_str text = wk_vocab_text(v, i);
        if (v->kind[i] != kind || text.n == 0) continue;
        uint32_t tag;
        wk_text_slot *s = slot_of(v, text, &tag);
        *n_twice += s->id != WK_NO_ID;
        if (s->id == WK_NO_ID) *s = (wk_text_slot){i, tag};
    }
}

static void find_bytes(wk_vocab *v) {
    for (int b = 0; b < 256; b++) {
        const char c = (char)b;
        v->byte_id[b] = (int32_t)wk_vocab_find(v, (wk_str){&c, 1}); /* WK_NO_ID: -1 */
    }
}

int wk_vocab_index(wk_vocab *v, const char *path, wk_err *err) {
    uint32_t n_twice = 0, n_user_twice = 0;
    if (!reserve_slots(v) || !build_match(&v->user, v, false) || !build_match(&v->any, v, true)) {
        return wk_fail(err, WICK_E_NOMEM, "no memory for the index of %u tokens", v->n);
    }
    put_kind(v, WK_KIND_NORMAL, &n_twice);
    put_kind(v, WK_KIND_USER, &n_user_twice);
    find_bytes(v);
    if (n_twice) {
        wk_log(WK_LOG_WARN, "%s: %u texts stand twice in %s, the first is used",
               wk_show(wk_cstr(path)).text, n_twice, KEY_TOKENS);
    }
    return WICK_OK;
}

void wk_vocab_fini(wk_vocab *v) {
    wk_free(v->slot);
    wk_free(v->text);
    wk_free(v->at);
    wk_free(v->kind);
    wk_free(v->user.id);
    wk_free(v->any.id);
    *v = (wk_vocab){0};
}

/* bpe_learn.c: counts the words of the text, then merges the pair that occurs most often, again and again.
 *
 * Text is only read while words are counted; all after that works on the distinct words, so one thread is
 * enough: 2 MiB and 4096 tokens take a fraction of a second. Pairs know the words they occur in; a heap
 * gives the next one. Its entries are not changed when a count falls: an entry that says more than the
 * pair has is put back with what it has.
 *
 * The result depends on no order of words or slots: counts are sums, and the heap is ordered by count and
 * bytes alone. A token's bytes are made by one merge only: without a merge across its borders the bytes of
 * a token always merge in the same way. */
#include "engine/text/bpe_learn.h"

#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/base/map.h"
#include "engine/base/os.h"
#include "engine/base/utf8.h"
#include "engine/text/tok_impl.h"

enum {
    WORD_MAX = 256, /* bytes; longer words are counted in pieces, so that a merge costs a bounded time */
    TOKENS_MIN = 256 + 3,
    TOKENS_MAX = 65536,
    REPORT_WORDS = 1 << 16,
    REPORT_MERGES = 16
};
#define NONE UINT32_MAX

static const char *const controls[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};

typedef struct word {
    wk_str text; /* borrowed */
    uint64_t count;
    size_t at; /* its symbols: sym[at .. at + n) */
    uint32_t n;
} word;

typedef struct pair {
    uint32_t left, right;
    uint64_t count;
    uint32_t spot, last; /* list of words that hold it, newest first; the newest */
} pair;

typedef struct spot {
    uint32_t word, next;
} spot;

typedef struct cand {
    uint64_t count;
    uint32_t pair;
} cand;

typedef struct learn {
    word *word;
    uint32_t *sym;
    pair *pair;
    uint32_t *slot; /* [mask + 1] (left, right) -> pair, NONE: free */
    spot *spot;
    cand *heap;
    wk_str *bytes; /* [n_token] */
    size_t n_word, room_word, n_pair, room_pair, n_spot, room_spot, n_heap, room_heap;
    uint32_t n_token, mask;
    uint64_t seed;
    wk_arena *arena;
    bool (*progress)(void *ud, uint64_t done, uint64_t total);
    void *ud;
} learn;

/* Room for one more element: p, moved if need be; NULL: no memory, p stays. */
static void *grow(void *p, size_t *room, size_t n, size_t size) {
    size_t more;
    if (n < *room) return p;
    if (!wk_mul(&more, *room ? *room : 512, 2)) return NULL;
    void *q = wk_realloc_array(p, more, size);
    if (q) *room = more;
    return q;
}

/* ---- words ------------------------------------------------------------------------------------- */

static bool count_word(learn *l, wk_map *map, wk_str text) {
    uint32_t i = (uint32_t)l->n_word;
    bool was = false;
    if (wk_map_get(map, text, &i)) {
        l->word[i].count++;
        return true;
    }
    word *w = l->n_word < NONE ? (word *)grow(l->word, &l->room_word, l->n_word, sizeof(*w)) : NULL;
    if (!w) return false;
    l->word = w;
    if (!wk_map_put(map, text, i, &was)) return false;
    l->word[l->n_word++] = (word){.text = text, .count = 1};
    return true;
}

/* Bytes of the next piece of a word, not within a character. */
static size_t piece_of(wk_str w) {
    if (w.n <= WORD_MAX) return w.n;
    size_t n = WORD_MAX;
    while (n > WORD_MAX - 4 && ((uint8_t)w.p[n] & 0xc0u) == 0x80u) n--;
    return n;
}

static int count_text(learn *l, wk_map *map, const wk_pretok *pre, wk_str text, uint64_t *seen, int32_t n_merge) {
    wk_pretok_walk walk = wk_pretok_start(pre, text);
    wk_str w;
    while (wk_pretok_next(&walk, &w)) {
        while (w.n) {
            const wk_str piece = {w.p, piece_of(w)};
            if (!count_word(l, map, piece)) return WICK_E_NOMEM;
            w = (wk_str){w.p + piece.n, w.n - piece.n};
        }
        if (++*seen % REPORT_WORDS == 0 && l->progress && !l->progress(l->ud, 0, (uint64_t)n_merge))
            return WICK_E_CANCELED;
    }
    return WICK_OK;
}

static int spread_words(learn *l) {
    size_t n = 0;
    for (size_t i = 0; i < l->n_word; i++)
        if (!wk_add(&n, n, l->word[i].text.n)) return WICK_E_NOMEM;
    l->sym = wk_new_n(uint32_t, n);
    if (!l->sym) return WICK_E_NOMEM;
    n = 0;
    for (size_t i = 0; i < l->n_word; i++) {
        word *w = &l->word[i];
        w->at = n;
        w->n = (uint32_t)w->text.n;
        for (size_t k = 0; k < w->text.n; k++) l->sym[n++] = (uint8_t)w->text.p[k];
        w->text = WK_STR(""); /* the caller's text is not needed any more */
    }
    return WICK_OK;
}

static int count_words(learn *l, const wk_pretok *pre, const wk_str *text, size_t n_text, int32_t n_merge) {
    wk_map map;
    uint64_t seen = 0;
    if (!wk_map_init(&map, 1000)) return WICK_E_NOMEM;
    int rc = WICK_OK;
    for (size_t i = 0; i < n_text && !rc; i++) rc = count_text(l, &map, pre, text[i], &seen, n_merge);
    wk_map_fini(&map);
    return rc ? rc : spread_words(l);
}

/* ---- pairs ------------------------------------------------------------------------------------- */

static uint32_t *slot_of(const learn *l, uint32_t left, uint32_t right) {
    const uint64_t key = (((uint64_t)left << 32) | right) ^ l->seed;
    uint64_t x = (key ^ (key >> 32)) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9u;
    for (uint32_t i = (uint32_t)(x >> 32) & l->mask;; i = (i + 1) & l->mask) {
        const uint32_t p = l->slot[i];
        if (p == NONE || (l->pair[p].left == left && l->pair[p].right == right)) return &l->slot[i];
    }
}

static bool more_slots(learn *l) {
    const uint32_t mask = l->mask ? 2 * l->mask + 1 : (1u << 12) - 1;
    if (l->mask >= UINT32_MAX / 4) return false;
    uint32_t *slot = wk_new_n(uint32_t, (size_t)mask + 1);
    if (!slot) return false;
    memset(slot, 0xff, ((size_t)mask + 1) * sizeof(*slot));
    wk_free(l->slot);
    l->slot = slot;
    l->mask = mask;
    for (uint32_t i = 0; i < l->n_pair; i++) *slot_of(l, l->pair[i].left, l->pair[i].right) = i;
    return true;
}

/* The pair's record, new if need be; NONE: no memory. */
static uint32_t pair_of(learn *l, uint32_t left, uint32_t right) {
    uint32_t *s = l->mask ? slot_of(l, left, right) : NULL;
    if (s && *s != NONE) return *s;
    if (l->n_pair + 1 >= l->mask / 4 * 3) {
        if (!more_slots(l)) return NONE;
        s = slot_of(l, left, right);
    }
    pair *p = (pair *)grow(l->pair, &l->room_pair, l->n_pair, sizeof(*p));
    if (!p) return NONE;
    l->pair = p;
    p[l->n_pair] = (pair){left, right, 0, NONE, NONE};
    *s = (uint32_t)l->n_pair++;
    return *s;
}

/* Counts the pairs of word i in; pairs from number `first` on also learn that they occur there. */
static bool add_pairs(learn *l, uint32_t i, size_t first) {
    const word *w = &l->word[i];
    for (uint32_t k = 0; k + 1 < w->n; k++) {
        const uint32_t id = pair_of(l, l->sym[w->at + k], l->sym[w->at + k + 1]);
        if (id == NONE) return false;
        pair *p = &l->pair[id];
        p->count += w->count;
        if (id < first || p->last == i) continue;
        spot *s = l->n_spot < NONE ? (spot *)grow(l->spot, &l->room_spot, l->n_spot, sizeof(*s)) : NULL;
        if (!s) return false;
        l->spot = s;
        s[l->n_spot] = (spot){i, p->spot};
        p->spot = (uint32_t)l->n_spot++;
        p->last = i;
    }
    return true;
}

static void drop_pairs(learn *l, uint32_t i) {
    const word *w = &l->word[i];
    for (uint32_t k = 0; k + 1 < w->n; k++)
        l->pair[*slot_of(l, l->sym[w->at + k], l->sym[w->at + k + 1])].count -= w->count;
}

/* ---- the heap ---------------------------------------------------------------------------------- */

static int compare(wk_str a, wk_str b) {
    const int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static bool is_before(const learn *l, cand a, cand b) {
    if (a.count != b.count) return a.count > b.count;
    const pair *p = &l->pair[a.pair], *q = &l->pair[b.pair];
    const int c = compare(l->bytes[p->left], l->bytes[q->left]);
    return c ? c < 0 : compare(l->bytes[p->right], l->bytes[q->right]) < 0;
}

static bool push(learn *l, uint32_t id) {
    const cand c = {l->pair[id].count, id};
    if (c.count < 2) return true;
    cand *h = (cand *)grow(l->heap, &l->room_heap, l->n_heap, sizeof(*h));
    if (!h) return false;
    l->heap = h;
    size_t i = l->n_heap++;
    while (i > 0 && is_before(l, c, h[(i - 1) / 2])) {
        h[i] = h[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h[i] = c;
    return true;
}

static cand pop(learn *l) {
    cand *h = l->heap;
    const cand top = h[0], c = h[--l->n_heap];
    size_t i = 0;
    for (size_t kid; (kid = 2 * i + 1) < l->n_heap; i = kid) {
        if (kid + 1 < l->n_heap && is_before(l, h[kid + 1], h[kid])) kid++;
        if (!is_before(l, h[kid], c)) break;
        h[i] = h[kid];
    }
    h[i] = c;
    return top;
}

/* The pair that merges next. *id NONE: none occurs twice. */
static bool next_pair(learn *l, uint32_t *id) {
    *id = NONE;
    while (l->n_heap) {
        const cand c = pop(l);
        if (c.count == l->pair[c.pair].count) {
            *id = c.pair;
            return true;
        }
        if (!push(l, c.pair)) return false; /* the place that pop has freed: cannot fail */
    }
    return true;
}

/* ---- merging ----------------------------------------------------------------------------------- */

static bool holds(const learn *l, const word *w, uint32_t left, uint32_t right) {
    for (uint32_t k = 0; k + 1 < w->n; k++)
        if (l->sym[w->at + k] == left && l->sym[w->at + k + 1] == right) return true;
    return false;
}

static void rewrite(learn *l, word *w, uint32_t left, uint32_t right, uint32_t by) {
    uint32_t *s = l->sym + w->at, n = 0;
    for (uint32_t k = 0; k < w->n; k++) {
        const bool here = k + 1 < w->n && s[k] == left && s[k + 1] == right;
        s[n++] = here ? by : s[k];
        k += here;
    }
    w->n = n;
}

static int merge_pair(learn *l, uint32_t id) {
    const pair p = l->pair[id];
    const wk_str a = l->bytes[p.left], b = l->bytes[p.right];
    char *text = (char *)wk_arena_get(l->arena, a.n + b.n);
    if (!text) return WICK_E_NOMEM;
    memcpy(text, a.p, a.n);
    memcpy(text + a.n, b.p, b.n);
    l->bytes[l->n_token] = (wk_str){text, a.n + b.n};
    const size_t first = l->n_pair;
    for (uint32_t s = p.spot; s != NONE; s = l->spot[s].next) {
        const uint32_t i = l->spot[s].word;
        if (!holds(l, &l->word[i], p.left, p.right)) continue;
        drop_pairs(l, i);
        rewrite(l, &l->word[i], p.left, p.right, l->n_token);
        if (!add_pairs(l, i, first)) return WICK_E_NOMEM;
    }
    l->n_token++;
    for (size_t i = first; i < l->n_pair; i++)
        if (!push(l, (uint32_t)i)) return WICK_E_NOMEM;
    return WICK_OK;
}

/* left, right of each merge go to made [2 * n_merge]. */
static int merge_all(learn *l, uint32_t *made, int32_t n_merge, int32_t *n_made) {
    for (size_t i = 0; i < l->n_word; i++)
        if (!add_pairs(l, (uint32_t)i, 0)) return WICK_E_NOMEM;
    for (size_t i = 0; i < l->n_pair; i++)
        if (!push(l, (uint32_t)i)) return WICK_E_NOMEM;
    for (*n_made = 0; *n_made < n_merge; (*n_made)++) {
        uint32_t id;
        if (*n_made % REPORT_MERGES == 0 && l->progress && !l->progress(l->ud, (uint64_t)*n_made, (uint64_t)n_merge))
            return WICK_E_CANCELED;
        if (!next_pair(l, &id)) return WICK_E_NOMEM;
        if (id == NONE) break;
        made[2 * *n_made] = l->pair[id].left;
        made[2 * *n_made + 1] = l->pair[id].right;
        WK_TRY(merge_pair(l, id));
    }
    return WICK_OK;
}

/* ---- writing down ------------------------------------------------------------------------------ */

static size_t put_letters(char *out, wk_str bytes, const uint16_t letter[256]) {
    size_t n = 0;
    for (size_t i = 0; i < bytes.n; i++) n += (size_t)wk_utf8_encode(out + n, letter[(uint8_t)bytes.p[i]]);
    return n;
}

static bool write_down(const learn *l, wk_learned *out, const uint32_t *made) {
    uint16_t letter[256];
    wk_letters(letter);
    for (uint32_t i = 0; i < l->n_token; i++) {
        char *text = (char *)wk_arena_get(l->arena, 4 * l->bytes[i].n);
        if (!text) return false;
        out->token[i] = (wk_str){text, put_letters(text, l->bytes[i], letter)};
    }
    for (int32_t i = 0; i < out->n_merge; i++) {
        const wk_str a = out->token[made[2 * i]], b = out->token[made[2 * i + 1]];
        char *text = (char *)wk_arena_get(l->arena, a.n + 1 + b.n);
        if (!text) return false;
        memcpy(text, a.p, a.n);
        text[a.n] = ' ';
        memcpy(text + a.n + 1, b.p, b.n);
        out->merge[i] = (wk_str){text, a.n + 1 + b.n};
    }
    out->n_vocab = (int32_t)l->n_token + out->n_control;
    for (int32_t i = 0; i < out->n_control; i++) out->token[(int32_t)l->n_token + i] = wk_cstr(controls[i]);
    return true;
}

static bool begin(learn *l, wk_learned *out, int32_t n_vocab) {
    out->arena = wk_new(wk_arena);
    if (!out->arena) return false;
    wk_arena_init(out->arena, 0);
    l->arena = out->arena;
    out->token = (wk_str *)wk_arena_get(l->arena, (size_t)n_vocab * sizeof(wk_str));
    out->merge = (wk_str *)wk_arena_get(l->arena, (size_t)n_vocab * sizeof(wk_str));
    l->bytes = wk_new_n(wk_str, (size_t)n_vocab);
    char *single = (char *)wk_arena_get(l->arena, 256);
    if (!out->token || !out->merge || !l->bytes || !single) return false;
    for (int b = 0; b < 256; b++) {
        single[b] = (char)b;
        l->bytes[b] = (wk_str){single + b, 1};
    }
    l->n_token = 256;
    out->n_control = (int32_t)WK_COUNT(controls);
    wk_os_random(&l->seed, sizeof(l->seed));
    return true;
}

static void finish(learn *l) {
    wk_free(l->word);
    wk_free(l->sym);
    wk_free(l->pair);
    wk_free(l->slot);
    wk_free(l->spot);
    wk_free(l->heap);
    wk_free(l->bytes);
}

int wk_bpe_learn(wk_learned *out, const wk_str *text, size_t n_text, int32_t n_vocab, const char *family,
                 bool (*progress)(void *ud, uint64_t done, uint64_t total), void *ud, wk_err *err) {
    const wk_pretok *pre = wk_pretok_find(wk_cstr(family));
    learn l = {.progress = progress, .ud = ud};
    const int32_t n_merge = n_vocab - TOKENS_MIN;
    *out = (wk_learned){0};
    if (!pre)
        return wk_fail(err, WICK_E_ARG, "pre-tokenizer family \"%s\" is not known", wk_show(wk_cstr(family)).text);
    if (n_vocab < TOKENS_MIN || n_vocab > TOKENS_MAX)
        return wk_fail(err, WICK_E_ARG, "a vocabulary of %d tokens, wanted %d to %d", n_vocab, TOKENS_MIN, TOKENS_MAX);
    uint32_t *made = wk_new_n(uint32_t, 2 * (size_t)n_merge);
    int rc = made && begin(&l, out, n_vocab) ? WICK_OK : WICK_E_NOMEM;
    if (!rc) rc = count_words(&l, pre, text, n_text, n_merge);
    if (!rc) rc = merge_all(&l, made, n_merge, &out->n_merge);
    if (!rc && !write_down(&l, out, made)) rc = WICK_E_NOMEM;
    wk_free(made);
    finish(&l);
    if (rc == WICK_E_NOMEM) rc = wk_fail(err, rc, "no memory to learn %d tokens from %zu words", n_vocab, l.n_word);
    if (rc == WICK_E_CANCELED) rc = wk_fail(err, rc, "learning of a vocabulary was stopped");
    if (rc) wk_learned_fini(out);
    return rc;
}

void wk_learned_fini(wk_learned *l) {
    if (l->arena) wk_arena_fini(l->arena);
    wk_free(l->arena);
    *l = (wk_learned){0};
}

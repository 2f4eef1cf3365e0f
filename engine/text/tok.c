/* tok.c: opening a tokenizer, special tokens in text, and decoding. What lies between special tokens goes
 * to the algorithm (bpe.c, spm.c).
 *
 * Special tokens are found leftmost first, the longest of those. User-defined tokens are found in any
 * text, control tokens only where every byte of them is trusted. */
#include "engine/text/tok.h"

#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/base/log.h"
#include "engine/text/tok_impl.h"

/* ---- special ids ------------------------------------------------------------------------------- */

/* Texts that end a turn where they are control tokens. Files are known that list them as user-defined
 * tokens: `sure` says that the text cannot mean anything else, so that it is made a control token, which
 * no user may type. "</s>" is an HTML tag in the vocabulary of Gemma. */
static const struct {
    const char *text;
    bool sure;
} turn_ends[] = {
    {"<|im_end|>", true},
    {"<|eot_id|>", true},
    {"<|eom_id|>", true},
    {"<end_of_turn>", true},
    {"<|endoftext|>", true},
    {"<|end_of_text|>", true},
    {"<|end|>", true},
    {"<|eot|>", true},
    {"<|return|>", true},
    {"<|END_OF_TURN_TOKEN|>", true},
    {"<end_of_utterance>", true},
    {"<EOT>", false},
    {"</s>", false},
};

/* An id that must be right if it is there. */
static int needed_id(const wk_store *s, const char *key, uint32_t n, int64_t *id, wk_err *err) {
    uint64_t v = 0;
    *id = -1;
    const int got = wk_meta_u64(s, key, 0, UINT64_MAX, &v, err);
    if (got < 0) return got;
    if (!got) return WICK_OK;
    if (v >= n) {
        return wk_fail(err, WICK_E_BOUNDS,
                       "%s is %llu, wanted less than the %u tokens of the vocabulary", key,
                       (unsigned long long)v, n);
    }
    *id = (int64_t)v;
    return WICK_OK;
}

/* An id that the engine can do without: a bad one is dropped and logged. */
static int64_t optional_id(const wk_store *s, const char *key, uint32_t n) {
    wk_err why = {0};
    int64_t id = -1;
    if (needed_id(s, key, n, &id, &why) == WICK_OK) return id;
    wk_log(WK_LOG_WARN, "%s: ignored: %s", wk_show(wk_cstr(wk_store_path(s))).text, why.message);
    return -1;
}

static void add_end(wk_tok *t, int64_t id) {
    if (id < 0 || wk_tok_is_end(t, (int32_t)id) || t->n_end == WK_COUNT(t->end_id)) return;
    t->end_id[t->n_end++] = (uint32_t)id;
}

static void find_turn_ends(wk_tok *t, const char *path) {
    for (uint32_t i = 0; i < t->v.n; i++) {
        uint8_t *kind = &t->v.kind[i];
        const wk_str text = wk_vocab_text(&t->v, i);
        if (text.n < 4 || text.p[0] != '<' || (*kind != WK_KIND_CONTROL && *kind != WK_KIND_USER))
            continue;
        for (size_t k = 0; k < WK_COUNT(turn_ends); k++) {
            if (!wk_str_is(text, turn_ends[k].text)) continue;
            if (*kind == WK_KIND_USER && turn_ends[k].sure) {
                wk_log(WK_LOG_WARN,
                       "%s: token %u \"%s\" is listed as user-defined, taken as a control token",
                       wk_show(wk_cstr(path)).text, i, turn_ends[k].text);
                *kind = WK_KIND_CONTROL;
            }
            if (*kind == WK_KIND_CONTROL) add_end(t, i);
        }
    }
}

static int64_t first_unknown(const wk_vocab *v) {
    for (uint32_t i = 0; i < v->n; i++)
        if (v->kind[i] == WK_KIND_UNKNOWN) return i;
    return -1;
}

/* ---- open -------------------------------------------------------------------------------------- */

static int read_vocab(wk_tok *t, const wk_store *s, bool is_spm, wk_err *err) {
    wk_array tokens = {0};
    wk_vocab_opt opt = {.is_spm = is_spm};
    const int got = wk_meta_array(s, "tokenizer.ggml.tokens", &tokens, err);
    if (got < 0) return got;
    const uint32_t n = tokens.n > INT32_MAX ? INT32_MAX : (uint32_t)tokens.n;
    if (got) {
        WK_TRY(needed_id(s, "tokenizer.ggml.bos_token_id", n, &opt.bos, err));
        WK_TRY(needed_id(s, "tokenizer.ggml.eos_token_id", n, &opt.eos, err));
        opt.unk = optional_id(s, "tokenizer.ggml.unknown_token_id", n);
    }
    WK_TRY(wk_vocab_load(&t->v, s, &opt, err));
    t->bos = (int32_t)opt.bos;
    t->eos = (int32_t)opt.eos;
    t->unk = (int32_t)(opt.unk >= 0 ? opt.unk : first_unknown(&t->v));
    (void)optional_id(s, "tokenizer.ggml.padding_token_id",
                      n); /* for its log line: nothing pads here */
    add_end(t, t->eos);
    add_end(t, optional_id(s, "tokenizer.ggml.eot_token_id", n));
    add_end(t, optional_id(s, "tokenizer.ggml.eom_token_id", n));
    find_turn_ends(t, wk_store_path(s));
    return wk_vocab_index(&t->v, wk_store_path(s), err);
}

static int choose_family(wk_tok *t, const wk_store *s, wk_err *err) {
    wk_str name = WK_STR("default");
    const int got = wk_meta_str(s, "tokenizer.ggml.pre", &name, err);
    if (got < 0) return got;
    if (!got) {
        wk_log(WK_LOG_WARN,
               "%s: tokenizer.ggml.pre is missing: words are cut as by gpt-2, which may be wrong",
               wk_show(wk_cstr(wk_store_path(s))).text);
    }
    t->pre = wk_pretok_find(name);
    if (!t->pre) {
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "tokenizer.ggml.pre is \"%s\", a pre-tokenizer family that is not "
                       "implemented",
                       wk_show(name).text);
    }
    return WICK_OK;
}

static void set_family(wk_tok *t, const char *algo, const char *pre) {
    size_t n = 0;
    for (; *algo && n + 1 < sizeof(t->family); algo++) t->family[n++] = *algo;
    for (; *pre && n + 1 < sizeof(t->family); pre++) t->family[n++] = *pre;
    t->family[n] = '\0';
}

static int read_flags(wk_tok *t, const wk_store *s, bool is_spm, wk_err *err) {
    bool squeeze = false;
    t->add_bos = is_spm || t->pre->adds_bos;
    t->add_space = is_spm;
    int got = wk_meta_bool(s, "tokenizer.ggml.add_bos_token", &t->add_bos, err);
    if (got >= 0) got = wk_meta_bool(s, "tokenizer.ggml.add_eos_token", &t->add_eos, err);
    if (got >= 0) got = wk_meta_bool(s, "tokenizer.ggml.add_space_prefix", &t->add_space, err);
    if (got >= 0) got = wk_meta_bool(s, "tokenizer.ggml.remove_extra_whitespaces", &squeeze, err);
    if (got < 0) return got;
    t->add_space = t->add_space && is_spm;
    if (squeeze && is_spm) {
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "tokenizer.ggml.remove_extra_whitespaces is true, which is not "
                       "implemented");
    }
    return WICK_OK;
}

static int open_tok(wk_tok *t, const wk_store *s, wk_err *err) {
    wk_str model;
    const int got = wk_meta_str(s, "tokenizer.ggml.model", &model, err);
    if (got < 0) return got;
    if (!got) return wk_fail(err, WICK_E_FORMAT, "tokenizer.ggml.model is missing");
    const bool is_spm = wk_str_is(model, "llama");
    if (!is_spm && !wk_str_is(model, "gpt2")) {
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "tokenizer.ggml.model is \"%s\", wanted gpt2 or llama", wk_show(model).text);
    }
    if (!is_spm) WK_TRY(choose_family(t, s, err));
    WK_TRY(read_flags(t, s, is_spm, err));
    WK_TRY(read_vocab(t, s, is_spm, err));
    set_family(t, is_spm ? "spm" : "bpe/", is_spm ? "" : t->pre->name);
    t->algo = is_spm ? &wk_spm_algo : &wk_bpe_algo;
    return t->algo->load(t, s, err);
}

int wk_tok_open(wk_tok **out, const wk_store *s, wk_err *err) {
    *out = NULL;
    wk_tok *t = wk_new(wk_tok);
    if (!t) return wk_fail(err, WICK_E_NOMEM, "no memory for a tokenizer");
    const int rc = open_tok(t, s, err);
    if (rc)
        wk_tok_close(t);
    else
        *out = t;
    return rc;
}

void wk_tok_close(wk_tok *t) {
    if (!t) return;
    wk_vocab_fini(&t->v);
    wk_free(t->pair);
    wk_free(t->pair_slot);
    wk_free(t->rank);
    wk_free(t->joins);
    wk_free(t);
}

/* ---- encode ------------------------------------------------------------------------------------ */

/* The runs as one text. p[-1] is a spare byte. */
typedef struct joined {
    char *memory, *p;
    uint8_t *trusted; /* [n] NULL = nothing is */
    size_t n;
} joined;

static bool join_runs(joined *j, const wk_run *run, size_t n_run, bool special) {
    size_t n = 0, room;
    for (size_t i = 0; i < n_run; i++)
        if (!wk_add(&n, n, run[i].text.n)) return false;
    if (n > INT32_MAX || !wk_add(&room, n, 1)) return false;
    j->memory = (char *)wk_alloc(room);
    if (special) j->trusted = (uint8_t *)wk_alloc(n);
    if (!j->memory || (special && !j->trusted)) return false;
    j->p = j->memory + 1;
    for (size_t i = 0; i < n_run; i++) {
        if (run[i].text.n == 0) continue;
        memcpy(j->p + j->n, run[i].text.p, run[i].text.n);
        if (special) memset(j->trusted + j->n, run[i].trusted, run[i].text.n);
        j->n += run[i].text.n;
    }
    return true;
}

/* U+2581 and the space are the same to SPM: one byte for both. */
static void unify_spaces(joined *j) {
    size_t k = 0;
    for (size_t i = 0; i < j->n; k++) {
        const bool is_mark = j->n - i >= 3 && memcmp(j->p + i, "\xe2\x96\x81", 3) == 0;
        if (j->trusted) j->trusted[k] = j->trusted[i];
        j->p[k] = is_mark ? ' ' : j->p[i];
        i += is_mark ? 3 : 1;
    }
    j->n = k;
}

/* Bytes of the special token that begins at pos, 0 = none. */
static size_t special_at(const wk_tok *t, const joined *j, size_t pos, uint32_t *id) {
    const uint8_t b = (uint8_t)j->p[pos];
    if (t->v.any.first[b] == t->v.any.first[b + 1]) return 0;
    size_t left = j->n - pos;
    const size_t n_user = wk_match_at(&t->v.user, &t->v, j->p + pos, left, id);
    if (!j->trusted) return n_user;
    if (left > WK_MATCH_MAX) left = WK_MATCH_MAX;
    const void *end = memchr(j->trusted + pos, 0, left);
    if (end) left = (size_t)((const uint8_t *)end - (j->trusted + pos));
    uint32_t any;
    const size_t n = wk_match_at(&t->v.any, &t->v, j->p + pos, left, &any);
    if (n < n_user || n == 0) return n_user;
    *id = any;
    return n;
}

/* Text between special tokens. *space: it begins a text or follows a control token, where SPM puts a
 * space in front. The byte before it is free: the spare one, or the end of that control token. */
static int put_text(const wk_tok *t, wk_enc *e, wk_str text, bool user_next, bool *space) {
    if (text.n == 0 && !(*space && user_next)) return WICK_OK;
    if (*space) text = (wk_str){text.p - 1, text.n + 1};
    *space = false;
    return t->algo->encode(t, e, text);
}

static int encode_joined(const wk_tok *t, wk_enc *e, joined *j) {
    size_t from = 0, pos = 0;
    bool space = t->add_space;
    if (space) j->p[-1] = ' ';
    while (pos < j->n) {
        uint32_t id;
        const size_t n = special_at(t, j, pos, &id);
        if (n == 0) {
            pos++;
            continue;
        }
        const bool is_user = t->v.kind[id] == WK_KIND_USER;
        WK_TRY(put_text(t, e, (wk_str){j->p + from, pos - from}, is_user, &space));
        wk_enc_put(e, id);
        pos += n;
        from = pos;
        if (is_user || !t->add_space) continue;
        space = true;
        j->p[pos - 1] = ' ';
    }
    return put_text(t, e, (wk_str){j->p + from, j->n - from}, false, &space);
}

int wk_tok_encode(const wk_tok *t, const wk_run *run, size_t n_run, uint32_t flags, int32_t *out,
                  size_t cap, size_t *n) {
    int rc = WICK_E_NOMEM;
    joined j = {0};
    wk_enc e = {.out = out, .cap = cap};
    const bool with_bos = flags & WK_TOK_BOS;
    if (!join_runs(&j, run, n_run, (flags & WK_TOK_SPECIAL) != 0)) goto out;
    if (t->algo == &wk_spm_algo) unify_spaces(&j);
    if (with_bos && t->add_bos && t->bos >= 0) wk_enc_put(&e, (uint32_t)t->bos);
    if ((rc = encode_joined(t, &e, &j))) goto out;
    if (with_bos && t->add_eos && t->eos >= 0) wk_enc_put(&e, (uint32_t)t->eos);
    *n = e.n;
out:
    wk_merge_fini(&e.merge);
    wk_free(j.memory);
    wk_free(j.trusted);
    return rc;
}

/* ---- decode ------------------------------------------------------------------------------------ */

static bool in_range(const wk_tok *t, int32_t id) { return id >= 0 && (uint32_t)id < t->v.n; }

wk_str wk_tok_text(const wk_tok *t, int32_t id) {
    return in_range(t, id) ? wk_vocab_text(&t->v, (uint32_t)id) : WK_STR("");
}

wk_str wk_tok_piece(const wk_tok *t, int32_t id, uint32_t flags, char tmp[8]) {
    (void)tmp; /* every piece lies in t, decoded at open */
    if (wk_tok_is_control(t, id) && !(flags & WK_TOK_SHOW_SPECIAL)) return WK_STR("");
    return wk_tok_text(t, id);
}

bool wk_tok_drops_space(const wk_tok *t, int32_t id, wk_str piece) {
    return t->add_space && in_range(t, id) && t->v.kind[id] != WK_KIND_BYTE && piece.n &&
           piece.p[0] == ' ';
}

int wk_tok_decode(const wk_tok *t, const int32_t *id, size_t n, uint32_t flags, char *buf,
                  size_t cap, size_t *len) {
    size_t k = 0;
    bool first = true;
    char tmp[8];
    for (size_t i = 0; i < n; i++) {
        wk_str s = wk_tok_piece(t, id[i], flags, tmp);
        if (wk_tok_is_control(t, id[i]) || s.n == 0) {
            /* not text */
        } else if (first) {
            first = false;
            if (wk_tok_drops_space(t, id[i], s)) s = (wk_str){s.p + 1, s.n - 1};
        }
        if (k < cap && s.n) memcpy(buf + k, s.p, s.n < cap - k ? s.n : cap - k);
        k += s.n;
    }
    *len = k;
    return cap == 0 || k <= cap ? WICK_OK : WICK_E_ARG;
}

/* ---- questions --------------------------------------------------------------------------------- */

int32_t wk_tok_count(const wk_tok *t) { return (int32_t)t->v.n; }
int32_t wk_tok_bos(const wk_tok *t) { return t->bos; }
int32_t wk_tok_eos(const wk_tok *t) { return t->eos; }
bool wk_tok_adds_bos(const wk_tok *t) { return t->add_bos && t->bos >= 0; }
const char *wk_tok_family(const wk_tok *t) { return t->family; }

bool wk_tok_is_end(const wk_tok *t, int32_t id) {
    for (uint32_t i = 0; i < t->n_end; i++)
        if (id >= 0 && t->end_id[i] == (uint32_t)id) return true;
    return false;
}

bool wk_tok_is_control(const wk_tok *t, int32_t id) {
    return in_range(t, id) &&
           (t->v.kind[id] == WK_KIND_CONTROL || t->v.kind[id] == WK_KIND_UNKNOWN);
}

/* data.c: a packed file, mapped: everything is checked at open (counts against the size, every id, every end, the hash
 * of the content), so that later reading needs no failure. That reads the file once, as fast as memory gives it. */
#include "engine/train/data.h"

#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/train/data_impl.h"

/* ---- layout ------------------------------------------------------------------------------------ */

static bool section(size_t *next, size_t begin, uint64_t n, size_t size) {
    size_t count, bytes;
    return wk_u64_to_size(&count, n) && wk_mul(&bytes, count, size) && wk_add(&bytes, bytes, begin) &&
           wk_align(next, bytes, 8);
}

bool wk_wtok_layout_of(wk_wtok_layout *l, uint64_t n_tok, uint64_t n_doc, uint32_t width, uint64_t n_part) {
    return section(&l->mask, WK_WTOK_HEAD, n_tok, width) &&
           section(&l->end, l->mask, n_tok / 8 + (n_tok % 8 != 0), 1) && section(&l->bytes, l->end, n_doc, 8) &&
           section(&l->split, l->bytes, n_doc, 8) && section(&l->part, l->split, n_doc / 8 + (n_doc % 8 != 0), 1) &&
           section(&l->foot, l->part, n_part, 16) &&
           wk_add(&l->size, l->foot, WK_WTOK_FOOT);
}

wk_hash wk_wtok_hash(const uint8_t *p, size_t n) {
    wk_hash h = {0, 0};
    n -= 16;
    for (size_t i = 0; i < n; i += WK_WTOK_BLOCK) {
        const size_t part = n - i < WK_WTOK_BLOCK ? n - i : WK_WTOK_BLOCK;
        h = wk_hash_bytes(h, p + i, part);
    }
    return h;
}

static uint64_t u64_at(const wk_data *d, size_t at, uint64_t i) {
    uint64_t x;
    memcpy(&x, d->p + at + 8 * i, 8);
    return x;
}

static bool bit_at(const wk_data *d, size_t at, uint64_t i) { return d->p[at + i / 8] >> (i % 8) & 1; }

static uint32_t id_at(const wk_data *d, uint64_t i) {
    uint16_t narrow;
    uint32_t wide;
    if (d->width == 2) {
        memcpy(&narrow, d->p + WK_WTOK_HEAD + 2 * i, 2);
        return narrow;
    }
    memcpy(&wide, d->p + WK_WTOK_HEAD + 4 * i, 4);
    return wide;
}

static uint64_t doc_begin(const wk_data *d, uint64_t doc) { return doc ? u64_at(d, d->at.end, doc - 1) : 0; }

/* ---- checks ------------------------------------------------------------------------------------ */

#define DAMAGED "%s is a damaged file of tokens: "

static int read_frame(wk_data *d, size_t n, const char *name, uint64_t tok_hash, wk_err *err) {
    uint64_t foot[7];
    if (n < WK_WTOK_HEAD + WK_WTOK_FOOT || memcmp(d->p, WK_WTOK_MAGIC, 8) != 0)
        return wk_fail(err, WICK_E_FORMAT, "%s (%zu bytes) is no packed file of tokens", name, n);
    memcpy(&d->width, d->p + 8, 4);
    memcpy(foot, d->p + n - WK_WTOK_FOOT, sizeof(foot));
    d->n_tok = foot[1];
    d->n_doc = foot[2];
    d->n_vocab = foot[3];
    d->n_part = foot[4];
    if (d->width != 2 && d->width != 4)
        return wk_fail(err, WICK_E_FORMAT, DAMAGED "%u bytes an id, wanted 2 or 4", name, d->width);
    if (d->n_part > WK_DATA_PARTS)
        return wk_fail(err, WICK_E_FORMAT, DAMAGED "a mixture of %llu parts, at most %d are taken", name,
                       (unsigned long long)d->n_part, WK_DATA_PARTS);
    if (!wk_wtok_layout_of(&d->at, d->n_tok, d->n_doc, d->width, d->n_part) || d->at.size != n)
        return wk_fail(err, WICK_E_FORMAT, DAMAGED "%llu tokens and %llu documents do not make %zu bytes", name,
                       (unsigned long long)d->n_tok, (unsigned long long)d->n_doc, n);
    const wk_hash h = wk_wtok_hash(d->p, n);
    if (h.lo != foot[5] || h.hi != foot[6])
        return wk_fail(err, WICK_E_FORMAT, DAMAGED "its content has changed since it was written", name);
    d->hash = h.lo;
    if (tok_hash && tok_hash != foot[0])
        return wk_fail(err, WICK_E_ARG, "%s was packed by tokenizer %016llx, the model's is %016llx", name,
                       (unsigned long long)foot[0], (unsigned long long)tok_hash);
    return WICK_OK;
}

static int check_ids(const wk_data *d, const char *name, wk_err *err) {
    uint32_t most = 0;
    for (uint64_t i = 0; i < d->n_tok; i++) {
        const uint32_t id = id_at(d, i);
        most = id > most ? id : most;
    }
    if (d->n_vocab > INT32_MAX || d->n_doc == 0 || d->n_tok == 0 || most >= d->n_vocab)
        return wk_fail(err, WICK_E_FORMAT, DAMAGED "%llu tokens, the largest %u, of a vocabulary of %llu", name,
                       (unsigned long long)d->n_tok, most, (unsigned long long)d->n_vocab);
    return WICK_OK;
}

static int check_docs(const wk_data *d, const char *name, wk_err *err) {
    uint64_t last = 0, sum = 0;
    for (uint64_t i = 0; i < d->n_doc; i++) {
        const uint64_t end = u64_at(d, d->at.end, i), bytes = u64_at(d, d->at.bytes, i);
        if (end <= last || end > d->n_tok || __builtin_add_overflow(sum, bytes, &sum))
            return wk_fail(
                err, WICK_E_FORMAT, DAMAGED "document %llu ends at token %llu of %llu, the one before at %llu", name,
                (unsigned long long)i, (unsigned long long)end, (unsigned long long)d->n_tok, (unsigned long long)last);
        last = end;
    }
    if (last != d->n_tok)
        return wk_fail(err, WICK_E_FORMAT, DAMAGED "%llu tokens, its documents have %llu", name,
                       (unsigned long long)d->n_tok, (unsigned long long)last);
    return WICK_OK;
}

static int read_parts(wk_data *d, const char *name, wk_err *err) {
    uint64_t last = 0;
    for (uint64_t i = 0; i < d->n_part; i++) {
        d->part_end[i] = u64_at(d, d->at.part, 2 * i);
        memcpy(&d->weight[i], d->p + d->at.part + 16 * i + 8, 8);
        if (d->part_end[i] < last || d->part_end[i] > d->n_doc || !(d->weight[i] > 0 && d->weight[i] <= 1))
            return wk_fail(err, WICK_E_FORMAT, DAMAGED "part %llu of share %g ends at document %llu of %llu", name,
                           (unsigned long long)i, d->weight[i], (unsigned long long)d->part_end[i],
                           (unsigned long long)d->n_doc);
        last = d->part_end[i];
    }
    if (d->n_part && last != d->n_doc)
        return wk_fail(err, WICK_E_FORMAT, DAMAGED "%llu documents, its parts have %llu", name,
                       (unsigned long long)d->n_doc, (unsigned long long)last);
    return WICK_OK;
}

/* ---- open -------------------------------------------------------------------------------------- */

static uint64_t count_bits(const wk_data *d, uint64_t begin, uint64_t end) {
    uint64_t n = 0;
    for (uint64_t i = begin; i < end; i++) n += bit_at(d, d->at.mask, i);
    return n;
}

static int index_split(wk_data *d, wk_split which, wk_err *err) {
    wk_split_index *s = &d->split[which];
    uint64_t n = 0;
    for (uint64_t i = 0; i < d->n_doc; i++) n += bit_at(d, d->at.split, i) == (which == WK_SPLIT_VAL);
    s->doc = wk_new_n(uint64_t, (size_t)n);
    s->at = wk_new_n(uint64_t, (size_t)n + 1);
    if (!s->doc || !s->at)
        return wk_fail(err, WICK_E_NOMEM, "no memory for the index of %llu documents", (unsigned long long)n);
    for (uint64_t i = 0; i < d->n_doc; i++) {
        if (bit_at(d, d->at.split, i) != (which == WK_SPLIT_VAL)) continue;
        const uint64_t begin = doc_begin(d, i), end = u64_at(d, d->at.end, i);
        s->doc[s->n] = i;
        s->at[s->n + 1] = s->at[s->n] + end - begin;
        s->n++;
        s->bytes += u64_at(d, d->at.bytes, i);
        s->counted += count_bits(d, begin, end);
    }
    return WICK_OK;
}

static void index_parts(wk_data *d) {
    const wk_split_index *s = &d->split[WK_SPLIT_TRAIN];
    for (uint64_t i = 0, doc = 0; i < d->n_part; i++) {
        while (doc < s->n && s->doc[doc] < d->part_end[i]) doc++;
        d->part_train_end[i] = doc;
    }
}

static int open_bytes(wk_data *d, size_t n, const char *path, uint64_t tok_hash, wk_err *err) {
    const wk_shown name = wk_show(wk_cstr(path));
    WK_TRY(read_frame(d, n, name.text, tok_hash, err));
    WK_TRY(check_ids(d, name.text, err));
    WK_TRY(check_docs(d, name.text, err));
    WK_TRY(read_parts(d, name.text, err));
    WK_TRY(index_split(d, WK_SPLIT_TRAIN, err));
    index_parts(d);
    return index_split(d, WK_SPLIT_VAL, err);
}

int wk_data_open_memory(wk_data **out, const void *p, size_t n, const char *name, uint64_t tok_hash, wk_err *err) {
    *out = NULL;
    wk_data *d = wk_new(wk_data);
    if (!d) return wk_fail(err, WICK_E_NOMEM, "no memory for the index of %s", wk_show(wk_cstr(name)).text);
    d->p = (const uint8_t *)p;
    const int rc = open_bytes(d, n, name, tok_hash, err);
    if (rc)
        wk_data_close(d);
    else
        *out = d;
    return rc;
}

int wk_data_open(wk_data **out, const char *path, uint64_t tok_hash, wk_err *err) {
    wk_map_file map;
    *out = NULL;
    WK_TRY(wk_os_map(&map, path, err));
    const int rc = wk_data_open_memory(out, map.p, map.n, path, tok_hash, err);
    if (rc)
        wk_os_unmap(&map);
    else
        (*out)->map = map;
    return rc;
}

void wk_data_close(wk_data *d) {
    if (!d) return;
    for (int i = 0; i < WK_SPLIT_COUNT; i++) {
        wk_free(d->split[i].doc);
        wk_free(d->split[i].at);
    }
    wk_os_unmap(&d->map);
    wk_free(d);
}

/* ---- counts ------------------------------------------------------------------------------------ */

uint64_t wk_data_tokens(const wk_data *d, wk_split s) { return d->split[s].at[d->split[s].n]; }
uint64_t wk_data_counted(const wk_data *d, wk_split s) { return d->split[s].counted; }
uint64_t wk_data_bytes(const wk_data *d, wk_split s) { return d->split[s].bytes; }
uint64_t wk_data_documents(const wk_data *d, wk_split s) { return d->split[s].n; }
uint64_t wk_data_hash(const wk_data *d) { return d->hash; }
int32_t wk_data_vocab(const wk_data *d) { return (int32_t)d->n_vocab; }

uint64_t wk_data_samples(const wk_data *d, const wk_sample_spec *s) {
    const uint64_t n = wk_data_tokens(d, s->split);
    if (wk_data_is_mixed(s)) return wk_data_mix_samples(d, s);
    if (s->unit == WK_UNIT_DOCS) return d->split[s->split].n;
    return n ? (n - 1) / (uint64_t)s->n_ctx : 0;
}

uint64_t wk_data_cut(const wk_data *d, const wk_sample_spec *s) {
    const wk_split_index *x = &d->split[s->split];
    const uint64_t n_ctx = (uint64_t)s->n_ctx, n = wk_data_samples(d, s);
    uint64_t cut = 0;
    if (s->unit == WK_UNIT_ROWS) return x->at[x->n] - (n ? n * n_ctx + 1 : 0);
    for (uint64_t i = 0; i < x->n; i++) {
        const uint64_t len = x->at[i + 1] - x->at[i];
        cut += len > n_ctx + 1 ? len - n_ctx - 1 : 0;
    }
    return cut;
}

/* ---- samples ----------------------------------------------------------------------------------- */

static int32_t target_at(const wk_data *d, uint64_t i) { return bit_at(d, d->at.mask, i) ? (int32_t)id_at(d, i) : -1; }

int32_t wk_data_doc_len(const wk_data *d, const wk_sample_spec *s, uint64_t doc) {
    const wk_split_index *x = &d->split[s->split];
    const uint64_t len = x->at[doc + 1] - x->at[doc];
    return len - 1 > (uint64_t)s->n_ctx ? s->n_ctx : len > 1 ? (int32_t)len - 1 : 1;
}

static int32_t one_document(const wk_data *d, const wk_sample_spec *s, uint64_t i, int32_t *tok, int32_t *target,
                            wk_tseq *seq, int32_t *n_seq) {
    const uint64_t doc = d->split[s->split].doc[i], begin = doc_begin(d, doc);
    const uint64_t len = u64_at(d, d->at.end, doc) - begin;
    const int32_t n = wk_data_doc_len(d, s, i);
    for (int32_t k = 0; k < n; k++) {
        const uint64_t at = begin + (uint64_t)k;
        tok[k] = (int32_t)id_at(d, at);
        target[k] = (uint64_t)k + 1 < len ? target_at(d, at + 1) : -1;
    }
    seq[0] = (wk_tseq){0, n};
    *n_seq = 1;
    return n;
}

/* The document of the split that holds its token t. */
static uint64_t holder_of(const wk_split_index *x, uint64_t t) {
    uint64_t lo = 0, hi = x->n;
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (x->at[mid] <= t)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static int32_t one_row(const wk_data *d, const wk_sample_spec *s, uint64_t first, int32_t *tok, int32_t *target,
                       wk_tseq *seq, int32_t *n_seq) {
    const wk_split_index *x = &d->split[s->split];
    uint64_t doc = holder_of(x, first), at = doc_begin(d, x->doc[doc]) + first - x->at[doc];
    seq[0] = (wk_tseq){0, 0};
    *n_seq = 1;
    for (int32_t k = 0; k < s->n_ctx; k++) {
        tok[k] = (int32_t)id_at(d, at++);
        seq[*n_seq - 1].n_tok++;
        const bool ends = first + (uint64_t)k + 1 == x->at[doc + 1]; /* the next token is another document's */
        if (ends) at = doc_begin(d, x->doc[++doc]);                  /* there is one: a row has a token behind it */
        target[k] = ends && s->doc_mask ? -1 : target_at(d, at);
        if (ends && s->doc_mask && k + 1 < s->n_ctx) seq[(*n_seq)++] = (wk_tseq){k + 1, 0};
    }
    return s->n_ctx;
}

int32_t wk_data_sample(const wk_data *d, const wk_sample_spec *s, uint64_t i, int32_t *tok, int32_t *target,
                       wk_tseq *seq, int32_t *n_seq) {
    const uint64_t n = wk_data_samples(d, s);
    *n_seq = 0;
    if (n == 0) return 0;
    const bool mixed = wk_data_is_mixed(s), docs = s->unit == WK_UNIT_DOCS;
    uint64_t at = mixed ? wk_data_mix_place(d, s, i) : s->in_order ? i % n : wk_permute(i % n, n, s->seed, i / n);
    if (!mixed && !docs) at *= (uint64_t)s->n_ctx;
    return docs ? one_document(d, s, at, tok, target, seq, n_seq) : one_row(d, s, at, tok, target, seq, n_seq);
}

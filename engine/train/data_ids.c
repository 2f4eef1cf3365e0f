/* data_ids.c: files of token ids that other programs have packed.
 *
 *   llm.c       256 int32 of header (magic, version, ids; the rest 0), then the ids: u16 of GPT-2, u32 of Llama 3
 *   nanoGPT     u16 ids and nothing else; each text ends with the end of text
 *   llama2.c    shards of u16 ids and nothing else; each text begins with BOS
 *
 * What has no magic cannot be told from text by looking, so it is read only where the caller says so. */
#include <string.h>

#include "engine/train/data_impl.h"

enum { HEADER = 256 * 4, PIECE = 4096, TELL = 1 << 20 };

static const struct {
    uint32_t magic, version, width;
    int32_t mark;
    const char *of;
} kinds[] = {{20240520, 1, 2, 50256, "GPT-2"}, {20240801, 7, 4, 128000, "Llama 3"}};
static const uint32_t CHOICES = 20240522; /* llm.c's file of multiple choices */

/* ---- opening ------------------------------------------------------------------------------------- */

static int take_header(wk_id_file *f, wk_str file, size_t kind, wk_err *err) {
    const wk_shown name = wk_show(wk_cstr(f->path));
    uint32_t head[3];
    if (file.n < HEADER)
        return wk_fail(err, WICK_E_FORMAT, "%s is a file of token ids of llm.c, cut in its header: %zu bytes of %d",
                       name.text, file.n, HEADER);
    memcpy(head, file.p, sizeof(head));
    if (head[1] != kinds[kind].version)
        return wk_fail(err, WICK_E_FORMAT, "%s is a file of token ids of llm.c in version %u, wanted %u", name.text,
                       head[1], kinds[kind].version);
    const uint64_t bytes = (uint64_t)head[2] * kinds[kind].width;
    if (bytes != file.n - HEADER)
        return wk_fail(err, WICK_E_FORMAT, "%s: its header tells of %u ids of %u bytes, behind it are %zu bytes",
                       name.text, head[2], kinds[kind].width, file.n - HEADER);
    f->p = (const uint8_t *)file.p + HEADER;
    f->n = head[2];
    f->width = kinds[kind].width;
    f->mark = kinds[kind].mark;
    f->of = kinds[kind].of;
    return WICK_OK;
}

static int take_raw(wk_id_file *f, wk_str file, uint32_t width, wk_err *err) {
    if (file.n % width)
        return wk_fail(err, WICK_E_FORMAT, "%s: %zu bytes are no whole number of ids of %u bytes",
                       wk_show(wk_cstr(f->path)).text, file.n, width);
    f->p = (const uint8_t *)file.p;
    f->n = file.n / width;
    f->width = width;
    return WICK_OK;
}

static uint32_t magic_of(wk_str file) {
    uint32_t magic = 0;
    if (file.n >= sizeof(magic)) memcpy(&magic, file.p, sizeof(magic));
    return magic;
}

uint32_t wk_id_file_width(wk_str file) {
    for (size_t i = 0; i < WK_COUNT(kinds); i++)
        if (magic_of(file) == kinds[i].magic) return kinds[i].width;
    return 0;
}

int wk_id_file_open(wk_id_file *f, wk_str file, const char *path, wk_raw_ids raw, bool *is, wk_err *err) {
    const uint32_t magic = magic_of(file);
    *f = (wk_id_file){.path = path, .mark = -1};
    *is = true;
    for (size_t i = 0; i < WK_COUNT(kinds); i++)
        if (magic == kinds[i].magic) return take_header(f, file, i, err);
    if (magic == CHOICES)
        return wk_fail(err, WICK_E_FORMAT, "%s is llm.c's file of multiple choices, not text to learn from",
                       wk_show(wk_cstr(path)).text);
    *is = raw != WK_RAW_NONE;
    return *is ? take_raw(f, file, raw == WK_RAW_U16 ? 2 : 4, err) : WICK_OK;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static uint32_t id_at(const wk_id_file *f, uint64_t i) {
    uint16_t narrow;
    uint32_t wide;
    if (f->width == 2) {
        memcpy(&narrow, f->p + 2 * i, 2);
        return narrow;
    }
    memcpy(&wide, f->p + 4 * i, 4);
    return wide;
}

static int check(const wk_id_file *f, const wk_tok *tok, wk_err *err) {
    const wk_shown name = wk_show(wk_cstr(f->path));
    const uint32_t n_vocab = (uint32_t)wk_tok_count(tok);
    if (f->n == 0) return wk_fail(err, WICK_E_FORMAT, "%s holds no token", name.text);
    if (f->mark >= 0 && f->mark != wk_tok_bos(tok) && f->mark != wk_tok_eos(tok))
        return wk_fail(err, WICK_E_ARG,
                       "%s holds ids of %s, where %d separates texts; the model has another tokenizer, where a text "
                       "begins with %d and ends with %d",
                       name.text, f->of, (int)f->mark, (int)wk_tok_bos(tok), (int)wk_tok_eos(tok));
    for (uint64_t i = 0; i < f->n; i++)
        if (id_at(f, i) >= n_vocab)
            return wk_fail(err, WICK_E_FORMAT, "%s: id %llu of %llu is %u, the vocabulary has %u tokens", name.text,
                           (unsigned long long)i, (unsigned long long)f->n, id_at(f, i), n_vocab);
    return WICK_OK;
}

typedef struct walk {
    const wk_id_file *f;
    int64_t mark; /* the separating token, -1 none */
    bool front;   /* it begins a text; else it ends one */
    bool pieces;  /* no separator but at the file's end or begin */
} walk;

static uint64_t text_end(const walk *w, uint64_t begin) {
    const uint64_t n = w->f->n;
    for (uint64_t i = begin; i < n && w->mark >= 0; i++) {
        if ((int64_t)id_at(w->f, i) != w->mark) continue;
        if (!w->front) return i + 1;
        if (i > begin) return i;
    }
    return n;
}

/* One text of many tokens is cut, so that some of it can be held out. */
static uint64_t next_end(const walk *w, uint64_t begin) {
    const uint64_t left = w->f->n - begin;
    if (!w->pieces) return text_end(w, begin);
    return begin + (left <= PIECE + PIECE / 2 ? left : PIECE);
}

static walk begin_walk(const wk_id_file *f, const wk_tok *tok) {
    walk w = {.f = f, .mark = f->mark >= 0 ? f->mark : wk_tok_bos(tok)};
    w.front = w.mark >= 0 && (int64_t)id_at(f, 0) == w.mark;
    if (!w.front) w.mark = f->mark >= 0 ? f->mark : wk_tok_eos(tok);
    w.pieces = text_end(&w, 0) == f->n;
    return w;
}

static int put_text(const walk *w, uint64_t begin, uint64_t end, const wk_id_reading *r, wk_ids *x, wk_err *err) {
    const int32_t bos = wk_tok_bos(r->tok), eos = wk_tok_eos(r->tok);
    const wk_id_file *f = w->f;
    const size_t n = (size_t)(end - begin);
    if (!wk_ids_reserve(x, n)) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu tokens", n);
    for (size_t i = 0; i < n; i++) {
        x->id[i] = (int32_t)id_at(f, begin + i);
        x->counted[i] = x->id[i] != bos || bos == eos; /* as in packed text */
    }
    x->n = n;
    return r->on_ids(r->ud, x, (wk_str){(const char *)f->p + begin * f->width, n * f->width}, err);
}

static int read_all(const wk_id_file *f, const wk_id_reading *r, wk_ids *x, wk_err *err) {
    const walk w = begin_walk(f, r->tok);
    uint64_t told = 0;
    for (uint64_t at = 0; at < f->n;) {
        const uint64_t end = next_end(&w, at);
        WK_TRY(put_text(&w, at, end, r, x, err));
        at = end;
        if ((at - told) * f->width < TELL && at < f->n) continue;
        if (f->is_mapped) wk_os_drop(f->p + told * f->width, (size_t)(at - told) * f->width);
        told = at;
        if (r->on_place && !r->on_place(r->ud, (size_t)at * f->width))
            return wk_fail(err, WICK_E_CANCELED, "reading of %s was stopped", wk_show(wk_cstr(f->path)).text);
    }
    return WICK_OK;
}

int wk_id_file_read(const wk_id_file *f, const wk_id_reading *r, wk_err *err) {
    wk_ids x = {0};
    WK_TRY(check(f, r->tok, err));
    const int rc = read_all(f, r, &x, err);
    wk_ids_fini(&x);
    return rc;
}

/* data_write.c: documents -> ids -> the packed file. Ids go to the file as they come; in memory stay one document, a
 * bit a token and two numbers a document. */
#include <math.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/train/data_impl.h"

enum { CHUNK = 1 << 20 }; /* bytes of text encoded at a time */

typedef struct packer {
    const wk_pack_options *o;
    wk_out_file file;
    wk_err io; /* code 0: the file is well */
    wk_buf block, mask, end, bytes, split, part;
    wk_hash hash;
    wk_ids ids, prompt;
    uint64_t n_tok, n_doc, n_held, text_bytes, doc_tok, doc_bytes;
    uint32_t width;
    uint64_t before, total; /* bytes of the files before this one, of all */
    wk_str key;
} packer;

/* ---- the file ---------------------------------------------------------------------------------- */

static bool flush(packer *p) {
    p->hash = wk_hash_bytes(p->hash, p->block.p, p->block.n);
    const bool ok = !wk_os_out_write(&p->file, p->block.p, p->block.n, &p->io);
    wk_buf_reset(&p->block);
    return ok;
}

/* False: io says why, or there was no memory for the block. */
static bool put(packer *p, const void *from, size_t n) {
    const char *b = (const char *)from;
    while (n) {
        const size_t room = WK_WTOK_BLOCK - p->block.n, part = n < room ? n : room;
        if (!wk_buf_add(&p->block, b, part)) return false;
        b += part;
        n -= part;
        if (p->block.n == WK_WTOK_BLOCK && !flush(p)) return false;
    }
    return true;
}

static bool put_section(packer *p, const wk_buf *b) {
    static const char zero[8];
    return put(p, b->p, b->n) && put(p, zero, (8 - b->n % 8) % 8);
}

static int fail_put(packer *p, wk_err *err) {
    if (!p->io.code) return wk_fail(err, WICK_E_NOMEM, "no memory for the packed tokens");
    if (err) *err = p->io;
    return p->io.code;
}

static bool put_bit(wk_buf *b, uint64_t i, bool on) {
    if (i % 8 == 0 && !wk_buf_addc(b, 0)) return false;
    if (on) b->p[b->n - 1] = (char)((uint8_t)b->p[b->n - 1] | 1u << (i % 8));
    return true;
}

/* ---- documents --------------------------------------------------------------------------------- */

static bool put_id(packer *p, int32_t id, bool counted) {
    char tmp[8];
    const uint16_t narrow = (uint16_t)id;
    const bool ok = p->width == 2 ? put(p, &narrow, 2) : put(p, &id, 4);
    if (!ok || !put_bit(&p->mask, p->n_tok++, counted)) return false;
    p->doc_tok++;
    if (counted) p->doc_bytes += wk_tok_piece(p->o->tok, id, 0, tmp).n;
    return true;
}

static bool put_all(packer *p, const int32_t *id, size_t n, bool counted) {
    for (size_t i = 0; i < n; i++)
        if (!put_id(p, id[i], counted)) return false;
    return true;
}

/* Whether a document is held out: a function of its text alone, so that it stays where more data comes. */
static bool is_held_out(const packer *p) {
    const double place = (double)(wk_hash_bytes((wk_hash){0, 0}, p->key.p, p->key.n).lo >> 11) * 0x1p-53;
    return place < p->o->val_share;
}

static bool end_doc(packer *p) {
    const bool held = is_held_out(p);
    if (!p->doc_tok) return true;
    if (!wk_buf_add(&p->end, &p->n_tok, 8) || !wk_buf_add(&p->bytes, &p->doc_bytes, 8) ||
        !put_bit(&p->split, p->n_doc, held))
        return false;
    p->n_doc++;
    p->n_held += held;
    p->doc_tok = p->doc_bytes = 0;
    return true;
}

static int encode(const wk_tok *t, wk_str text, wk_ids *x, wk_err *err) {
    const wk_run run = {text, false};
    if (!wk_ids_reserve(x, text.n + 8) || wk_tok_encode(t, &run, 1, 0, x->id, x->room, &x->n) || x->n > x->room)
        return wk_fail(err, WICK_E_NOMEM, "no memory to encode %zu bytes", text.n);
    return WICK_OK;
}

static int put_text(packer *p, wk_str text, bool counted, wk_err *err) {
    while (text.n) {
        const size_t n = text.n > 2 * (size_t)CHUNK ? wk_data_cut_at(text, CHUNK) : text.n;
        WK_TRY(encode(p->o->tok, (wk_str){text.p, n}, &p->ids, err));
        if (!put_all(p, p->ids.id, p->ids.n, counted)) return fail_put(p, err);
        text = (wk_str){text.p + n, text.n - n};
    }
    return WICK_OK;
}

/* A tokenizer that puts a space in front of a text would put one between the two. */
static int put_joined(packer *p, const wk_doc *d, bool all, wk_err *err) {
    wk_buf both;
    size_t same = 0;
    wk_buf_init(&both, 0);
    (void)wk_buf_add(&both, d->part[0].p, d->part[0].n); /* seen below */
    int rc =
        wk_buf_add(&both, d->part[1].p, d->part[1].n) ? WICK_OK : wk_fail(err, WICK_E_NOMEM, "no memory for a line");
    if (!rc) rc = encode(p->o->tok, d->part[0], &p->prompt, err);
    if (!rc) rc = encode(p->o->tok, wk_buf_str(&both), &p->ids, err);
    wk_buf_fini(&both);
    if (rc) return rc;
    while (same < p->prompt.n && same < p->ids.n && p->prompt.id[same] == p->ids.id[same]) same++;
    if (put_all(p, p->ids.id, same, all) && put_all(p, p->ids.id + same, p->ids.n - same, true)) return WICK_OK;
    return fail_put(p, err);
}

static int put_parts(packer *p, const wk_doc *d, wk_err *err) {
    const wk_tok *t = p->o->tok;
    const bool all = p->o->loss_on_all;
    if (d->begins && wk_tok_adds_bos(t) && !put_id(p, wk_tok_bos(t), false)) return fail_put(p, err);
    if (d->n_part == 1) {
        WK_TRY(put_text(p, d->part[0], true, err));
    } else if (wk_str_is(wk_cstr(wk_tok_family(t)), "spm")) {
        WK_TRY(put_joined(p, d, all, err));
    } else {
        WK_TRY(put_text(p, d->part[0], all, err));
        if (d->is_question) WK_TRY(put_text(p, WK_STR("\n"), all, err));
        WK_TRY(put_text(p, d->part[1], true, err));
    }
    if (d->ends && wk_tok_eos(t) >= 0 && !put_id(p, wk_tok_eos(t), true)) return fail_put(p, err);
    return end_doc(p) ? WICK_OK : fail_put(p, err);
}

static int put_talk(void *ud, const wk_ids *x, wk_err *err) {
    packer *p = (packer *)ud;
    for (size_t i = 0; i < x->n; i++) {
        const bool is_bos = i == 0 && x->id[0] == wk_tok_bos(p->o->tok);
        if (!put_id(p, x->id[i], x->counted[i] || (p->o->loss_on_all && !is_bos))) return fail_put(p, err);
    }
    return end_doc(p) ? WICK_OK : fail_put(p, err);
}

static int put_ids(void *ud, const wk_ids *x, wk_str key, wk_err *err) {
    packer *p = (packer *)ud;
    p->key = key;
    for (size_t i = 0; i < x->n; i++)
        if (!put_id(p, x->id[i], x->counted[i])) return fail_put(p, err);
    return end_doc(p) ? WICK_OK : fail_put(p, err);
}

static int on_doc(void *ud, const wk_doc *d, wk_err *err) {
    packer *p = (packer *)ud;
    const bool talks = d->is_question && p->o->chat && wk_chat_usable(p->o->chat, NULL);
    p->key = d->key;
    if (d->n_part && !talks) return put_parts(p, d, err);
    return wk_data_talk(d, p->o->tok, p->o->chat, put_talk, p, err);
}

static bool on_place(void *ud, size_t at) {
    const packer *p = (const packer *)ud;
    return !p->o->progress || p->o->progress(p->o->ud, p->before + at, p->total);
}

/* ---- the whole --------------------------------------------------------------------------------- */

static int read_file(packer *p, const char *path, const wk_map_file *map, uint64_t *n_bad, wk_err *first, wk_err *err) {
    const wk_str file = {map->n ? (const char *)map->p : "", map->n};
    wk_id_file ids;
    bool is_ids = false;
    WK_TRY(wk_id_file_open(&ids, file, path, p->o->raw, &is_ids, err));
    if (is_ids) {
        const wk_id_reading r = {.tok = p->o->tok, .on_ids = put_ids, .on_place = on_place, .ud = p};
        ids.is_mapped = true;
        WK_TRY(wk_id_file_read(&ids, &r, err));
        p->before += map->n;
        return WICK_OK;
    }
    wk_reading r = {.path = path,
                    .file = file,
                    .skip_bad = p->o->skip_bad,
                    .is_mapped = true,
                    .on_doc = on_doc,
                    .on_place = on_place,
                    .ud = p};
    const int rc = wk_data_read(&r, err);
    if (r.n_bad && !*n_bad) *first = r.first_bad;
    *n_bad += r.n_bad;
    p->before += map->n;
    return rc;
}

static bool end_part(packer *p, double share) {
    return wk_buf_add(&p->part, &p->n_doc, 8) && wk_buf_add(&p->part, &share, 8);
}

static int read_files(packer *p, uint64_t *n_bad, wk_err *err) {
    const wk_pack_options *o = p->o;
    double sum = 0;
    for (size_t i = 0; o->mix && i < o->n_path; i++) sum += o->mix[i];
    wk_err first = {0};
    wk_map_file *map = wk_new_n(wk_map_file, o->n_path);
    if (!map) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu files", o->n_path);
    int rc = WICK_OK;
    for (size_t i = 0; i < o->n_path && !rc; i++) {
        rc = wk_os_map(&map[i], o->path[i], err);
        p->total += map[i].n;
    }
    for (size_t i = 0; i < o->n_path && !rc; i++) {
        rc = read_file(p, o->path[i], &map[i], n_bad, &first, err);
        if (!rc && o->mix && !end_part(p, o->mix[i] / sum)) rc = fail_put(p, err);
        wk_os_unmap(&map[i]);
    }
    for (size_t i = 0; i < o->n_path; i++) wk_os_unmap(&map[i]);
    wk_free(map);
    if (rc) return rc;
    if (p->n_doc == 0)
        return wk_fail(err, WICK_E_ARG, "no document in %zu files, %llu lines were left out%s%s", o->n_path,
                       (unsigned long long)*n_bad, *n_bad ? ", the first: " : "", first.message);
    if (p->n_held == p->n_doc)
        return wk_fail(err, WICK_E_ARG, "%llu documents, all of them held out: none is left to learn from",
                       (unsigned long long)p->n_doc);
    return WICK_OK;
}

/* What stands behind the ids. */
static int finish(packer *p, wk_err *err) {
    static const char zero[8];
    const uint64_t foot[5] = {p->o->tok_hash, p->n_tok, p->n_doc, (uint64_t)wk_tok_count(p->o->tok),
                              p->part.n / 16};
    const size_t odd = (size_t)(p->n_tok * p->width % 8);
    bool ok = put(p, zero, (8 - odd) % 8) && put_section(p, &p->mask) && put_section(p, &p->end) &&
              put_section(p, &p->bytes) && put_section(p, &p->split) && put_section(p, &p->part) &&
              put(p, foot, sizeof(foot));
    if (ok && p->block.n) ok = flush(p);
    if (!ok) return fail_put(p, err);
    const uint64_t hash[2] = {p->hash.lo, p->hash.hi};
    WK_TRY(wk_os_out_write(&p->file, hash, sizeof(hash), err));
    return wk_os_out_commit(&p->file, err);
}

static int check_options(const wk_pack_options *o, wk_err *err) {
    if (o->n_path == 0 || !o->tok) return wk_fail(err, WICK_E_ARG, "packing wants files and a tokenizer");
    if (!(o->val_share >= 0 && o->val_share <= 0.5))
        return wk_fail(err, WICK_E_ARG, "a share of %g is held out, wanted 0 to 0.5", o->val_share);
    if (o->mix && o->n_path > WK_DATA_PARTS)
        return wk_fail(err, WICK_E_ARG, "a mixture of %zu files, at most %d are taken", o->n_path, WK_DATA_PARTS);
    for (size_t i = 0; o->mix && i < o->n_path; i++)
        if (!(o->mix[i] > 0) || !isfinite(o->mix[i]))
            return wk_fail(err, WICK_E_ARG, "%s: its share of the mixture is %g, wanted above 0",
                           wk_show(wk_cstr(o->path[i])).text, o->mix[i]);
    return WICK_OK;
}

int wk_data_pack(const char *out, const wk_pack_options *o, uint64_t *n_bad, wk_err *err) {
    packer p = {.o = o};
    uint64_t bad = 0;
    WK_TRY(check_options(o, err));
    p.width = wk_tok_count(o->tok) <= 65536 ? 2 : 4;
    const uint32_t shape[2] = {p.width, 0};
    wk_buf *const all[] = {&p.block, &p.mask, &p.end, &p.bytes, &p.split, &p.part};
    for (size_t i = 0; i < WK_COUNT(all); i++) wk_buf_init(all[i], 0);
    int rc = wk_os_out_open(&p.file, out, err);
    if (!rc && !(put(&p, WK_WTOK_MAGIC, 8) && put(&p, shape, 8))) rc = fail_put(&p, err);
    if (!rc) rc = read_files(&p, &bad, err);
    if (!rc) rc = finish(&p, err);
    wk_os_out_abandon(&p.file);
    for (size_t i = 0; i < WK_COUNT(all); i++) wk_buf_fini(all[i]);
    wk_ids_fini(&p.ids);
    wk_ids_fini(&p.prompt);
    if (n_bad) *n_bad = bad;
    return rc;
}

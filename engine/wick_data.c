/* wick_data.c: the data half of the training API: a tokenizer from text, packed tokens from text. */
#include <assert.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/buf.h"
#include "engine/base/ck.h"
#include "engine/base/os.h"
#include "engine/file/write.h"
#include "engine/text/bpe_learn.h"
#include "engine/train/data_impl.h"
#include "engine/wick_x.h"

/* Of the families that other programs know, the one with the most bytes a token: of TinyStories with 2048 tokens 3.72
 * (gpt-2, smollm 3.63); of verse with 4096 tokens 3.59 (3.24). A digit is a token. */
static const char FAMILY[] = "qwen2";

static const char CHATML[] = "{%- for message in messages %}"
                             "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
                             "{%- endfor %}"
                             "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

/* A caller's progress, which says stop by any number, as the inner one, which says go on by true. */
typedef struct progress {
    int (*fn)(void *ud, uint64_t done, uint64_t total);
    void *ud;
} progress;

static bool go_on(void *ud, uint64_t done, uint64_t total) {
    const progress *p = (const progress *)ud;
    return !p->fn || p->fn(p->ud, done, total) == 0;
}

/* ---- a tokenizer ------------------------------------------------------------------------------- */

/* Texts to learn from: of a text file where they are mapped, of a jsonl file copied. */
typedef struct texts {
    wk_map_file *map;
    size_t n_map;
    wk_str *text;
    size_t n, room;
    wk_arena arena;
    progress progress;
    const wk_map_file *now;
} texts;

static int add_text(texts *t, wk_str text, wk_err *err) {
    const char *p = (const char *)t->now->p;
    size_t room;
    if (t->n == t->room) {
        wk_str *more =
            wk_mul(&room, t->room ? t->room : 256, 2) ? (wk_str *)wk_realloc_array(t->text, room, sizeof(*more)) : NULL;
        if (!more) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu texts", t->n);
        t->text = more;
        t->room = room;
    }
    if (text.p < p || text.p >= p + t->now->n) {
        char *copy = (char *)wk_arena_get(&t->arena, text.n);
        if (!copy) return wk_fail(err, WICK_E_NOMEM, "no memory for the texts");
        if (text.n) memcpy(copy, text.p, text.n);
        text.p = copy;
    }
    t->text[t->n++] = text;
    return WICK_OK;
}

static int on_doc(void *ud, const wk_doc *d, wk_err *err) {
    texts *t = (texts *)ud;
    for (size_t i = 0; i < d->n_part; i++) WK_TRY(add_text(t, d->part[i], err));
    for (size_t i = 0; d->messages && i < wk_json_count(d->messages); i++)
        WK_TRY(
            add_text(t, wk_json_str(wk_json_get(wk_json_at(d->messages, i), d->is_from ? "value" : "content")), err));
    return WICK_OK;
}

static bool on_place(void *ud, size_t at) {
    texts *t = (texts *)ud;
    (void)at; /* reading is the small part: only asked whether to go on */
    return go_on(&t->progress, 0, 1);
}

static int read_texts(texts *t, const char *const *paths, size_t n_paths, wk_err *err) {
    t->map = wk_new_n(wk_map_file, n_paths);
    if (!t->map) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu files", n_paths);
    t->n_map = n_paths;
    for (size_t i = 0; i < n_paths; i++) {
        t->now = &t->map[i];
        WK_TRY(wk_os_map(&t->map[i], paths[i], err));
        wk_reading r = {.path = paths[i],
                        .file = {t->now->n ? (const char *)t->now->p : "", t->now->n},
                        .is_mapped = true,
                        .on_doc = on_doc,
                        .on_place = on_place,
                        .ud = t};
        WK_TRY(wk_data_read(&r, err));
    }
    return WICK_OK;
}

static void texts_fini(texts *t) {
    for (size_t i = 0; i < t->n_map; i++) wk_os_unmap(&t->map[i]);
    wk_free(t->map);
    wk_free(t->text);
    wk_arena_fini(&t->arena);
}

static int save_tok(const wk_learned *l, const char *out, wk_err *err) {
    enum { NORMAL = 1, CONTROL = 3 };
    const int32_t first = l->n_vocab - l->n_control;
    int32_t *kind = wk_new_n(int32_t, (size_t)l->n_vocab);
    wk_writer *w = wk_writer_new();
    int rc = WICK_E_NOMEM;
    if (kind && w) {
        for (int32_t i = 0; i < l->n_vocab; i++) kind[i] = i < first ? NORMAL : CONTROL;
        wk_writer_str(w, "general.architecture", WK_STR("llama"));
        wk_writer_str(w, "general.type", WK_STR("vocab"));
        wk_writer_str(w, "tokenizer.ggml.model", WK_STR("gpt2"));
        wk_writer_str(w, "tokenizer.ggml.pre", wk_cstr(FAMILY));
        wk_writer_str_array(w, "tokenizer.ggml.tokens", l->token, (size_t)l->n_vocab);
        wk_writer_i32_array(w, "tokenizer.ggml.token_type", kind, (size_t)l->n_vocab);
        wk_writer_str_array(w, "tokenizer.ggml.merges", l->merge, (size_t)l->n_merge);
        wk_writer_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)first);
        wk_writer_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)first);
        wk_writer_u32(w, "tokenizer.ggml.eot_token_id", (uint32_t)first + 2);
        wk_writer_bool(w, "tokenizer.ggml.add_bos_token", false);
        wk_writer_str(w, "tokenizer.chat_template", wk_cstr(CHATML));
        rc = wk_writer_save(w, out, err);
    } else {
        rc = wk_fail(err, rc, "no memory to write %d tokens", l->n_vocab);
    }
    wk_writer_free(w);
    wk_free(kind);
    return rc;
}

static int save_json(const wk_learned *l, const char *path, wk_err *err) {
    wk_out_file f = {0};
    wk_buf b;
    wk_buf_init(&b, 0);
    wk_learned_json(l, FAMILY, &b);
    int rc = b.failed ? wk_fail(err, WICK_E_NOMEM, "no memory to write %d tokens", l->n_vocab) : WICK_OK;
    if (!rc) rc = wk_os_out_open(&f, path, err);
    if (!rc) rc = wk_os_out_write(&f, b.p, b.n, err);
    if (!rc) rc = wk_os_out_commit(&f, err);
    wk_os_out_abandon(&f);
    wk_buf_fini(&b);
    return rc;
}

wick_status wick_x_tok_train(const char *const *paths, size_t n_paths, int32_t n_vocab, const char *out,
                             const char *json, int (*progress_fn)(void *ud, uint64_t done, uint64_t total), void *ud,
                             wick_error *err) {
    wk_learned learned = {0};
    texts t = {.progress = {progress_fn, ud}};
    if (!paths || n_paths == 0 || !out)
        return wk_fail(err, WICK_E_ARG, "a tokenizer is learned from files and written to one: none is given");
    int rc = read_texts(&t, paths, n_paths, err);
    if (!rc) rc = wk_bpe_learn(&learned, t.text, t.n, n_vocab, FAMILY, go_on, &t.progress, err);
    if (!rc && json) rc = save_json(&learned, json, err);
    if (!rc) rc = save_tok(&learned, out, err);
    wk_learned_fini(&learned);
    texts_fini(&t);
    return rc;
}

/* ---- packed data ------------------------------------------------------------------------------- */

static_assert((int)WICK_X_MIX_MAX == (int)WK_DATA_PARTS, "the parts of a mixture");

/* The caller's record may be shorter or longer than ours. */
static int give_info(wick_x_data_info *out, const wk_data *d, uint64_t n_bad, wick_error *err) {
    if (!out) return WICK_OK;
    if (out->size < sizeof(out->size)) return wk_fail(err, WICK_E_ABI, "data info: its size field is not set");
    wick_x_data_info i = {.size = out->size, .bad_lines = n_bad, .hash = wk_data_hash(d)};
    i.train_tokens = wk_data_tokens(d, WK_SPLIT_TRAIN);
    i.val_tokens = wk_data_tokens(d, WK_SPLIT_VAL);
    i.train_docs = wk_data_documents(d, WK_SPLIT_TRAIN);
    i.val_docs = wk_data_documents(d, WK_SPLIT_VAL);
    i.train_bytes = wk_data_bytes(d, WK_SPLIT_TRAIN);
    i.val_bytes = wk_data_bytes(d, WK_SPLIT_VAL);
    memcpy(out, &i, out->size < sizeof(i) ? out->size : sizeof(i));
    return WICK_OK;
}

static int look(const char *path, wick_x_data_info *info, uint64_t n_bad, wick_error *err) {
    wk_data *d = NULL;
    int rc = wk_data_open(&d, path, 0, err);
    if (!rc) rc = give_info(info, d, n_bad, err);
    wk_data_close(d);
    return rc;
}

wick_status wick_x_data_pack(const char *const *paths, size_t n_paths, const double *mix, const char *tokenizer,
                             const char *out, double val_share, uint32_t flags,
                             int (*progress_fn)(void *ud, uint64_t done, uint64_t total), void *ud,
                             wick_x_data_info *info, wick_error *err) {
    wk_store *s = NULL;
    wk_tok *tok = NULL;
    wk_chat *chat = NULL;
    uint64_t n_bad = 0;
    progress p = {progress_fn, ud};
    if (!paths || n_paths == 0 || !tokenizer || !out)
        return wk_fail(err, WICK_E_ARG, "packing wants files, a tokenizer and a file to write");
    int rc = wk_store_open(&s, tokenizer, err);
    if (!rc) rc = wk_tok_open(&tok, s, err);
    if (!rc) rc = wk_chat_open(&chat, s, tok, err);
    if (!rc) {
        const wk_pack_options o = {.path = paths,
                                   .n_path = n_paths,
                                   .tok = tok,
                                   .chat = chat,
                                   .mix = mix,
                                   .raw = flags & WICK_X_RAW_U16   ? WK_RAW_U16
                                          : flags & WICK_X_RAW_U32 ? WK_RAW_U32
                                                                   : WK_RAW_NONE,
                                   .tok_hash = wk_tok_hash(s),
                                   .val_share = val_share,
                                   .skip_bad = (flags & WICK_X_SKIP_BAD) != 0,
                                   .loss_on_all = (flags & WICK_X_LOSS_ON_ALL) != 0,
                                   .progress = go_on,
                                   .ud = &p};
        rc = wk_data_pack(out, &o, &n_bad, err);
    }
    if (!rc) rc = look(out, info, n_bad, err);
    wk_chat_close(chat);
    wk_tok_close(tok);
    wk_store_close(s);
    return rc;
}

int wick_x_data_width(const void *p, size_t n) { return p ? (int)wk_id_file_width((wk_str){(const char *)p, n}) : 0; }

wick_status wick_x_data_look(const char *path, wick_x_data_info *info, wick_error *err) {
    if (!path || !info) return wk_fail(err, WICK_E_ARG, "a file and a place for its numbers must be given");
    return look(path, info, 0, err);
}

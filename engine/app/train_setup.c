/* train_setup.c: what a run stands on, in its folder: tokenizer.gguf, data.wtok, init.gguf or init.lora.gguf. Beside each
 * stands NAME.made with a hash of everything it was made from: while that is the same, the file is taken as it is. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/signals.h"
#include "engine/app/train_impl.h"
#include "engine/base/dir.h"
#include "engine/base/err.h"
#include "engine/base/hash.h"
#include "engine/base/json.h"
#include "engine/base/os.h"

/* ---- made from what ------------------------------------------------------------------------------ */

static wk_hash add_text(wk_hash h, const char *s) { return wk_hash_bytes(h, s, strlen(s) + 1); }
static wk_hash add_number(wk_hash h, double v) { return wk_hash_bytes(h, &v, sizeof(v)); }

static wick_status add_file(wk_hash *h, const char *path, wick_error *err) {
    wk_map_file map = {0};
    WK_TRY(wk_os_map(&map, path, err));
    *h = wk_hash_bytes(*h, map.p, map.n);
    wk_os_unmap(&map);
    return WICK_OK;
}

static wick_status add_sources(wk_hash *h, const wk_train *t, wick_error *err) {
    for (size_t i = 0; i < t->n_source; i++) WK_TRY(add_file(h, t->source[i], err));
    return WICK_OK;
}

static void made_text(char out[40], wk_hash h) {
    (void)snprintf(out, 40, "%016llx%016llx\n", (unsigned long long)h.hi, (unsigned long long)h.lo);
}

static bool is_made(const char *path, wk_hash h) {
    char name[WK_RUN_PATH + 8], want[40], found[40];
    made_text(want, h);
    (void)snprintf(name, sizeof(name), "%s.made", path);
    return wk_file_exists(path) && wk_os_read_small(name, found, sizeof(found)) > 0 && strcmp(want, found) == 0;
}

static wick_status set_made(const char *path, wk_hash h, wick_error *err) {
    char name[WK_RUN_PATH + 8], text[40];
    made_text(text, h);
    (void)snprintf(name, sizeof(name), "%s.made", path);
    return wk_file_write(name, wk_cstr(text), err);
}

/* ---- progress ------------------------------------------------------------------------------------ */

static int on_progress(void *ud, uint64_t done, uint64_t total) {
    wk_train *t = ud;
    const bool bytes = strcmp(t->phase, "packing") == 0;
    const double unit = bytes ? 1e-6 : 1;
    (void)wk_progress_show(&t->progress, t->phase, (double)done * unit, 0, (double)total * unit,
                           bytes ? "MB" : "merges");
    return wk_signals_interrupted() || wk_signals_terminated();
}

/* ---- tokenizer ----------------------------------------------------------------------------------- */

/* A vocabulary that fits: with 32000 tokens 9.2 M of the 15.2 M parameters of 15m would be its table. */
static int32_t vocab_of(const wk_args *a) {
    static const int32_t by_preset[] = {512, 1024, 2048, 4096, 8192, 16384};
    return a->v[WK_ARG_PRESET].given ? by_preset[a->v[WK_ARG_PRESET].i] : 4096;
}

static wick_status make_tok(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH], json[WK_RUN_PATH];
    const int32_t n = t->n_vocab ? t->n_vocab : vocab_of(t->args);
    wk_hash h = add_number((wk_hash){0}, n);
    WK_TRY(add_sources(&h, t, err));
    WK_TRY(wk_train_path(t, path, "tokenizer.gguf", err));
    WK_TRY(wk_train_path(t, json, "tokenizer.json", err));
    (void)snprintf(t->run.tok, sizeof(t->run.tok), "%.*s", WK_RUN_TEXT - 1, path);
    if (is_made(path, h)) return WICK_OK;
    t->phase = "tokenizer";
    const wick_status rc = wick_x_tok_train(t->source, t->n_source, n, path, json, on_progress, t, err);
    wk_progress_clear(&t->progress);
    return rc ? rc : set_made(path, h, err);
}

/* ---- data ---------------------------------------------------------------------------------------- */

static bool is_packed(const char *s) {
    const size_t n = strlen(s);
    return n > 5 && strcmp(s + n - 5, ".wtok") == 0;
}

wick_status wk_train_look(wk_train *t, wick_error *err) {
    wick_x_data_info i = {.size = sizeof(i)};
    WK_TRY(wick_x_data_look(t->run.data, &i, err));
    t->run.train_tokens = (int64_t)i.train_tokens;
    t->run.train_docs = (int64_t)i.train_docs;
    t->run.train_bytes = (int64_t)i.train_bytes;
    t->run.val_tokens = (int64_t)i.val_tokens;
    t->run.val_docs = (int64_t)i.val_docs;
    (void)snprintf(t->run.data_hash, sizeof(t->run.data_hash), "%016llx", (unsigned long long)i.hash);
    return WICK_OK;
}

int wk_train_id_width(const wk_train *t, const void *p, size_t n) {
    static const int width[] = {0, 2, 4};
    const int known = wick_x_data_width(p, n);
    return known ? known : width[t->args->v[WK_ARG_DATA_FORMAT].i];
}

static wick_status pack(wk_train *t, const char *path, wk_hash h, wick_error *err) {
    static const uint32_t raw[] = {0, WICK_X_RAW_U16, WICK_X_RAW_U32};
    wick_x_data_info i = {.size = sizeof(i)};
    const uint32_t flags = (wk_flag(t->args, WK_ARG_SKIP_BAD) ? WICK_X_SKIP_BAD : 0U) |
                           (wk_flag(t->args, WK_ARG_LOSS_ALL) ? WICK_X_LOSS_ON_ALL : 0U) |
                           raw[t->args->v[WK_ARG_DATA_FORMAT].i];
    h = add_number(add_number(h, t->run.val_share), flags);
    for (size_t k = 0; t->is_mix && k < t->n_source; k++) h = add_number(add_text(h, t->source[k]), t->mix[k]);
    if (is_made(path, h)) return WICK_OK;
    t->phase = "packing";
    const wick_status rc =
        wick_x_data_pack(t->source, t->n_source, t->is_mix ? t->mix : NULL, t->run.tok, path, t->run.val_share, flags,
                         on_progress, t, &i, err);
    wk_progress_clear(&t->progress);
    if (rc) return rc;
    if (i.bad_lines) {
        char text[96];
        const int n =
            snprintf(text, sizeof(text), "%llu lines of the data could not be read and were left out (--skip-bad)",
                     (unsigned long long)i.bad_lines);
        wk_emit_warning(t->emit, text, (size_t)n);
    }
    return set_made(path, h, err);
}

static wick_status make_data(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH];
    wk_hash h = {0};
    if (is_packed(t->source[0])) {
        if (t->n_source > 1 || t->is_mix)
            return wk_fail(err, WICK_E_ARG, "--data: a packed file stands alone, found %zu files%s", t->n_source,
                           t->is_mix ? " of a mixture" : "");
        (void)snprintf(t->run.data, sizeof(t->run.data), "%.*s", WK_RUN_TEXT - 1, t->source[0]);
        return wk_train_look(t, err);
    }
    WK_TRY(add_sources(&h, t, err));
    WK_TRY(add_file(&h, t->run.tok, err));
    WK_TRY(wk_train_path(t, path, "data.wtok", err));
    (void)snprintf(t->run.data, sizeof(t->run.data), "%.*s", WK_RUN_TEXT - 1, path);
    WK_TRY(pack(t, path, h, err));
    return wk_train_look(t, err);
}

/* ---- first weights ------------------------------------------------------------------------------- */

static int32_t meta_number(const wick_model *m, const char *arch, const char *key) {
    char name[96], text[32];
    (void)snprintf(name, sizeof(name), "%.40s.%s", arch, key);
    return wick_model_get(m, name, text, sizeof(text), NULL) ? 0 : (int32_t)strtol(text, NULL, 10);
}

static bool has_tensor(const wick_model *m, const char *want) {
    const char *name, *format;
    size_t n;
    uint64_t ne[4], bytes;
    int n_dim;
    for (size_t i = 0; wick_x_tensor(m, i, &name, &n, &format, ne, &n_dim, &bytes) == WICK_OK; i++)
        if (wk_str_is((wk_str){name, n}, want)) return true;
    return false;
}

/* The shape of a file that may be of another architecture: what comes out is a llama. */
static wick_status shape_like(const char *path, wick_x_shape *s, wick_error *err) {
    wick_model *m = NULL;
    char arch[48] = "";
    WK_TRY(wick_model_open(path, NULL, &m, err));
    (void)wick_model_get(m, "arch", arch, sizeof(arch), NULL); /* without it the numbers below are 0 and refused */
    s->dim = meta_number(m, arch, "embedding_length");
    s->n_layer = meta_number(m, arch, "block_count");
    s->n_head = meta_number(m, arch, "attention.head_count");
    s->n_head_kv = meta_number(m, arch, "attention.head_count_kv");
    s->n_ff = meta_number(m, arch, "feed_forward_length");
    s->n_ctx = meta_number(m, arch, "context_length");
    s->tied = !has_tensor(m, "output.weight");
    if (s->n_head_kv == 0) s->n_head_kv = s->n_head;
    wick_model_close(m);
    return WICK_OK;
}

/* Before a file of gigabytes is written: weights, gradients and both moments take 16 bytes a parameter. */
static wick_status check_room(const wk_train *t, const wick_x_shape *s, wick_error *err) {
    uint64_t available = 0, limit;
    const double d = s->dim, kv = s->n_head > 0 ? d * s->n_head_kv / s->n_head : d,
                 vocab = t->n_vocab ? t->n_vocab : vocab_of(t->args);
    const double params = vocab * d * (s->tied ? 1 : 2) + s->n_layer * (2 * d * d + 2 * d * kv + 3 * d * s->n_ff);
    if (wk_flag(t->args, WK_ARG_NO_FIT) || wick_x_memory(&available, &limit) || 16 * params <= (double)available)
        return WICK_OK;
    return wk_fail(err, WICK_E_FIT, "training %s parameters needs more than %.1f GB, %.1f GB are available",
                   wk_word_count(params).text, 16e-9 * params, (double)available * 1e-9);
}

static wick_status init_model(wk_train *t, wick_error *err) {
    const wk_args *a = t->args;
    char path[WK_RUN_PATH], like[WK_RUN_TEXT];
    wick_x_shape s = {.size = sizeof(s)};
    const bool preset = a->v[WK_ARG_PRESET].given;
    (void)snprintf(like, sizeof(like), "%s", t->run.model);
    WK_TRY(preset ? wick_x_shape_of(a->v[WK_ARG_PRESET].s, &s, err) : shape_like(like, &s, err));
    s.plain = wk_flag(a, WK_ARG_RAW);
    if (t->run.n_ctx) s.n_ctx = (int32_t)t->run.n_ctx;
    WK_TRY(check_room(t, &s, err));
    wk_hash h =
        wk_hash_bytes(add_number((wk_hash){0}, (double)t->run.seed), &s, offsetof(wick_x_shape, plain) + sizeof(s.plain));
    WK_TRY(add_file(&h, t->run.tok, err));
    WK_TRY(wk_train_path(t, path, "init.gguf", err));
    (void)snprintf(t->run.model, sizeof(t->run.model), "%.*s", WK_RUN_TEXT - 1, path);
    if (!is_made(path, h)) {
        WK_TRY(wick_x_model_init(&s, t->run.tok, (uint64_t)t->run.seed, path, err));
        WK_TRY(set_made(path, h, err));
    }
    return WICK_OK;
}

/* Name and format, for the first line. */
static wick_status name_model(wk_train *t, const char *path, char format[32], wick_error *err) {
    wick_model *m = NULL;
    char name[96] = "", vocab[24] = "";
    WK_TRY(wick_model_open(path, NULL, &m, err));
    (void)wick_model_get(m, "name", name, sizeof(name), NULL); /* absent: "model" stands */
    (void)wick_model_get(m, "format", format, 32, NULL);
    (void)wick_model_get(m, "n_vocab", vocab, sizeof(vocab), NULL);
    wick_model_close(m);
    t->run.n_vocab = strtol(vocab, NULL, 10);
    const wk_value *preset = &t->args->v[WK_ARG_PRESET], *like = &t->args->v[WK_ARG_LIKE];
    if (preset->given)
        (void)snprintf(t->run.title, sizeof(t->run.title), "%s llama", preset->s);
    else if (like->given)
        (void)snprintf(t->run.title, sizeof(t->run.title), "llama like %s", wk_show(wk_cstr(like->s)).text);
    else
        (void)snprintf(t->run.title, sizeof(t->run.title), "%s %s", name[0] ? wk_show(wk_cstr(name)).text : "model",
                       format);
    return WICK_OK;
}

/* All weights are trained in F32: another format is written out as that first. */
static wick_status widen(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH];
    wk_hash h = {0};
    WK_TRY(add_file(&h, t->run.model, err));
    WK_TRY(wk_train_path(t, path, "init.gguf", err));
    if (!is_made(path, h)) {
        WK_TRY(wick_x_quantize(t->run.model, "f32", path, err));
        WK_TRY(set_made(path, h, err));
    }
    (void)snprintf(t->run.model, sizeof(t->run.model), "%.*s", WK_RUN_TEXT - 1, path);
    return WICK_OK;
}

static wick_status init_adapter(wk_train *t, wick_error *err) {
    char path[WK_RUN_PATH];
    wk_run *r = &t->run;
    wk_hash h = add_text(add_text((wk_hash){0}, r->model), r->on);
    h = add_number(add_number(add_number(h, (double)r->rank), r->alpha), (double)r->seed);
    WK_TRY(wk_train_path(t, path, "init.lora.gguf", err));
    (void)snprintf(r->adapter, sizeof(r->adapter), "%.*s", WK_RUN_TEXT - 1, path);
    if (is_made(path, h)) return WICK_OK;
    WK_TRY(wick_x_adapter_init(r->model, (int32_t)r->rank, (float)r->alpha, r->on, (uint64_t)r->seed, path, err));
    return set_made(path, h, err);
}

static wick_status make_weights(wk_train *t, wick_error *err) {
    char format[32] = "";
    const bool fresh = t->args->v[WK_ARG_PRESET].given || t->args->v[WK_ARG_LIKE].given;
    if (fresh) WK_TRY(init_model(t, err));
    WK_TRY(name_model(t, t->run.model, format, err));
    if (t->tune) return init_adapter(t, err);
    return !fresh && strcmp(format, "F32") != 0 ? widen(t, err) : WICK_OK;
}

/* ---- prompt of the samples ----------------------------------------------------------------------- */

static wk_str first_message(const wk_json *list, const char *who_key, const char *who, const char *text_key) {
    for (size_t i = 0; i < wk_json_count(list); i++) {
        const wk_json *m = wk_json_at(list, i);
        const wk_str role = wk_json_str(wk_json_get(m, who_key));
        if (wk_str_is(role, who) || wk_str_is(role, "user")) return wk_json_str(wk_json_get(m, text_key));
    }
    return WK_STR("");
}

/* The user's first words in a line of jsonl. */
static wk_str ask_of(const wk_json *v, bool *chat) {
    const wk_json *messages = wk_json_get(v, "messages"), *talk = wk_json_get(v, "conversations");
    const wk_json *ask = wk_json_get(v, "prompt") ? wk_json_get(v, "prompt") : wk_json_get(v, "question");
    *chat = messages || talk || ask;
    if (messages) return first_message(messages, "role", "user", "content");
    if (talk) return first_message(talk, "from", "human", "value");
    return wk_json_str(ask ? ask : wk_json_get(v, "text"));
}

/* At most n bytes, to the end of a word. */
static void put_words(wk_run *r, wk_str s, size_t n, bool whole) {
    size_t skip = 0;
    if (s.n == 0) return;
    while (skip < s.n && (unsigned char)s.p[skip] <= ' ') skip++;
    s = (wk_str){s.p + skip, s.n - skip};
    size_t end = s.n < n ? s.n : n;
    if (!whole || end < s.n)
        while (end > 0 && end < s.n && s.p[end] != ' ' && s.p[end] != '\n') end--;
    if (!whole && memchr(s.p, '\n', end)) end = (size_t)((const char *)memchr(s.p, '\n', end) - s.p);
    memcpy(r->prompt, s.p, end);
    r->prompt[end] = 0;
}

void wk_train_prompt(wk_train *t) {
    enum { LOOK = 65536 };
    wk_map_file map = {0};
    wk_json_doc *doc = NULL;
    bool chat = false;
    wk_run *r = &t->run;
    if (wk_os_map(&map, t->source[0], NULL)) return; /* what is wrong with it is said by who reads it all */
    size_t at = 0; /* an empty file has no byte to point to */
    while (at < map.n && map.p[at] <= ' ') at++;
    const wk_str text = map.n ? (wk_str){(const char *)map.p + at, map.n - at} : WK_STR("");
    const char *end = text.n ? memchr(text.p, '\n', text.n < LOOK ? text.n : LOOK) : NULL;
    const bool json = text.n && text.p[0] == '{' && !wk_train_id_width(t, map.p, map.n);
    r->by_document = t->tune && json;
    if (json && end && wk_json_parse(&doc, (wk_str){text.p, (size_t)(end - text.p)}, 64, 4096, NULL) == WICK_OK) {
        const wk_str ask = ask_of(wk_json_root(doc), &chat);
        if (!r->prompt[0]) put_words(r, ask, chat ? 400 : 24, chat);
        wk_json_free(doc);
    } else if (!json && !is_packed(t->source[0]) && !wk_train_id_width(t, map.p, map.n) && !r->prompt[0]) {
        put_words(r, text, 24, false);
    }
    r->sample_chat = chat;
    wk_os_unmap(&map);
}

/* ---- all of it ----------------------------------------------------------------------------------- */

wick_status wk_train_files(wk_train *t, bool *done, wick_error *err) {
    const wk_value *until = &t->args->v[WK_ARG_UNTIL];
    *done = false;
    wk_train_prompt(t);
    if (!t->run.tok[0]) WK_TRY(make_tok(t, err));
    if ((*done = until->given && until->i == 0)) return WICK_OK;
    WK_TRY(make_data(t, err));
    if ((*done = until->given && until->i == 1)) return WICK_OK;
    return make_weights(t, err);
}

wick_status wk_train_sketch(wk_train *t, wick_error *err) {
    wk_train_prompt(t);
    if (!t->run.tok[0]) WK_TRY(make_tok(t, err));
    if (is_packed(t->source[0])) WK_TRY(make_data(t, err));
    return make_weights(t, err);
}

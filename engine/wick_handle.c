/* wick_handle.c: the model of the public API: opening, what it says of itself, text to tokens and back. */
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/wick_model.h"
#include "simd/format.h"

void wk_model_hold(wick_model *m) { atomic_fetch_add(&m->ref, 1); }

void wick_model_close(wick_model *m) {
    if (!m || atomic_fetch_sub(&m->ref, 1) != 1) return;
    wk_chat_close(m->chat);
    wk_tok_close(m->tok);
    wk_store_close(m->store);
    wk_free(m);
}

wick_status wick_model_open(const char *path, const wick_model_options *opt, wick_model **out,
                            wick_error *err) {
    wick_model_options o = WICK_MODEL_OPTIONS_INIT;
    if (!path || !out) return wk_fail(err, WICK_E_ARG, "model_open: path and out must be given");
    *out = NULL;
    if (!wk_options_take(&o, sizeof(o), opt)) return wk_options_bad_size("model options", err);
    int rc = WICK_OK;
    wick_model *m = wk_new(wick_model);
    if (!m) return wk_fail(err, WICK_E_NOMEM, "no memory for the index of %s", path);
    atomic_init(&m->ref, 1);
    if ((rc = wk_store_open(&m->store, path, err))) goto out;
    if ((rc = wk_tok_open(&m->tok, m->store, err))) {
        (void)wk_fail_at(err, "%s", path);
        goto out;
    }
    if ((rc = wk_chat_open(&m->chat, m->store, m->tok, err))) goto out;
    const uint64_t bytes = wk_store_file_bytes(m->store);
    if (o.progress && o.progress(o.progress_ud, "read", bytes, bytes)) {
        rc = wk_fail(err, WICK_E_CANCELED, "opening was cancelled");
        goto out;
    }
    *out = m;
    m = NULL;
out:
    wick_model_close(m);
    return rc;
}

static uint64_t count_parameters(const wk_store *s) {
    uint64_t n = 0;
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        n += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    return n;
}

/* The format that holds most bytes. */
static const char *main_format(const wk_store *s) {
    uint64_t bytes[WK_FMT_COUNT] = {0};
    int best = 0;
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        bytes[t->fmt] += t->bytes;
    }
    for (int f = 1; f < WK_FMT_COUNT; f++)
        if (bytes[f] > bytes[best]) best = f;
    return wk_formats[best].name;
}

static wick_status give_text(wk_str s, char *buf, size_t cap, size_t *len) {
    if (len) *len = s.n;
    if (cap == 0) return WICK_OK;
    if (s.n >= cap) return WICK_E_ARG;
    memcpy(buf, s.p, s.n);
    buf[s.n] = 0;
    return WICK_OK;
}
static wick_status give_number(uint64_t v, char *buf, size_t cap, size_t *len) {
    char tmp[24];
    const int n = snprintf(tmp, sizeof(tmp), "%llu", (unsigned long long)v);
    return give_text((wk_str){tmp, (size_t)n}, buf, cap, len);
}

static wick_status get_arch_number(const wk_store *s, const char *suffix, char *buf, size_t cap,
                                   size_t *len) {
    wk_str arch;
    char key[128];
    uint64_t v;
    if (wk_meta_str(s, "general.architecture", &arch, NULL) != 1 || arch.n > 64) return WICK_E_ARG;
    (void)snprintf(key, sizeof(key), "%.*s.%s", (int)arch.n, arch.p, suffix);
    if (wk_meta_u64(s, key, 0, UINT64_MAX, &v, NULL) != 1) return WICK_E_ARG;
    return give_number(v, buf, cap, len);
}

static wick_status get_meta(const wk_store *s, const char *key, char *buf, size_t cap,
                            size_t *len) {
    wk_str v;
    if (wk_meta_str(s, key, &v, NULL) == 1) return give_text(v, buf, cap, len);
    for (size_t i = 0; i < wk_store_meta_count(s); i++) {
        if (!wk_str_is(wk_store_meta_key(s, i), key)) continue;
        char tmp[1024];
        const size_t n = wk_store_meta_text(s, i, tmp, sizeof(tmp));
        return give_text((wk_str){tmp, n < sizeof(tmp) ? n : sizeof(tmp) - 1}, buf, cap, len);
    }
    return WICK_E_ARG;
}

wick_status wick_model_get(const wick_model *m, const char *key, char *buf, size_t cap,
                           size_t *len) {
    static const struct {
        const char *key, *suffix;
    } numbers[] = {{"n_ctx", "context_length"},
                   {"n_layer", "block_count"},
                   {"dim", "embedding_length"},
                   {"n_head", "attention.head_count"},
                   {"n_head_kv", "attention.head_count_kv"}};
    if (!m || !key || (!buf && cap)) return WICK_E_ARG;
    const wk_store *s = m->store;
    if (strcmp(key, "arch") == 0) return get_meta(s, "general.architecture", buf, cap, len);
    if (strcmp(key, "name") == 0) return get_meta(s, "general.name", buf, cap, len);
    if (strcmp(key, "n_vocab") == 0)
        return give_number((uint64_t)wk_tok_count(m->tok), buf, cap, len);
    if (strcmp(key, "bytes") == 0) return give_number(wk_store_file_bytes(s), buf, cap, len);
    if (strcmp(key, "n_param") == 0) return give_number(count_parameters(s), buf, cap, len);
    if (strcmp(key, "format") == 0) return give_text(wk_cstr(main_format(s)), buf, cap, len);
    if (strcmp(key, "tokenizer") == 0)
        return give_text(wk_cstr(wk_tok_family(m->tok)), buf, cap, len);
    if (strcmp(key, "chat_template") == 0) return give_text(wk_chat_source(m->chat), buf, cap, len);
    if (strcmp(key, "bos") == 0)
        return give_text(wk_tok_text(m->tok, wk_tok_bos(m->tok)), buf, cap, len);
    if (strcmp(key, "eos") == 0)
        return give_text(wk_tok_text(m->tok, wk_tok_eos(m->tok)), buf, cap, len);
    for (size_t i = 0; i < WK_COUNT(numbers); i++)
        if (strcmp(key, numbers[i].key) == 0)
            return get_arch_number(s, numbers[i].suffix, buf, cap, len);
    return get_meta(s, key, buf, cap, len);
}

wick_status wick_tokenize(const wick_model *m, const char *text, size_t len, uint32_t flags,
                          wick_token *out, size_t cap, size_t *n) {
    if (!m || (!text && len) || (!out && cap) || !n) return WICK_E_ARG;
    const wk_run run = {{text ? text : "", len}, true};
    const int rc = wk_tok_encode(m->tok, &run, 1, flags, out, cap, n);
    return rc ? rc : cap && *n > cap ? WICK_E_ARG : WICK_OK;
}

wick_status wick_detokenize(const wick_model *m, const wick_token *t, size_t n, uint32_t flags,
                            char *buf, size_t cap, size_t *len) {
    if (!m || (!t && n) || (!buf && cap) || !len) return WICK_E_ARG;
    const int rc = wk_tok_decode(m->tok, t, n, flags, buf, cap, len);
    return rc ? rc : cap && *len > cap ? WICK_E_ARG : WICK_OK;
}

wick_status wick_chat_render(const wick_model *m, const char *json, size_t len, wick_token *out,
                             size_t cap, size_t *n, char *text, size_t text_cap, size_t *text_len,
                             wick_error *err) {
    if (!m || !json || (!out && cap) || !n || (!text && text_cap) || (text && !text_len))
        return wk_fail(err, WICK_E_ARG,
                       "chat_render: model, json, n and what announces room must be given");
    wk_buf t;
    wk_buf_init(&t, (size_t)16 << 20);
    int rc = wk_chat_render(m->chat, (wk_str){json, len}, &t, out, cap, n, err);
    if (!rc && text_len && (rc = give_text(wk_buf_str(&t), text, text_cap, text_len)) != WICK_OK)
        (void)wk_fail(err, rc, "the prompt has %zu bytes and a NUL, there is room for %zu", t.n,
                      text_cap);
    if (!rc && cap && *n > cap)
        rc = wk_fail(err, WICK_E_ARG, "the prompt has %zu tokens, there is room for %zu", *n, cap);
    wk_buf_fini(&t);
    return rc;
}

/* byte_model.h: a model in memory that is a tokenizer alone: the 256 bytes, no merges, control tokens behind them, and a
 * chat template. For tests of chats and of data. */
#ifndef WK_BYTE_MODEL_H
#define WK_BYTE_MODEL_H

#include <stdlib.h>

#include "tests/unit/tok_fixture.h"
#include "tests/unit/unit.h"

#include "engine/text/chat.h"

enum { BOS = 256, EOS, IM_START, IM_END, USER_TAG };

typedef struct model {
    fix f;
    vocab v;
    wk_store *store;
    wk_tok *tok;
    wk_chat *chat;
} model;

/* template NULL: none. */
static inline model *model_new(const char *template, bool adds_bos) {
    static const char *const control[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>"};
    wk_err err = {0};
    model *m = (model *)calloc(1, sizeof(*m));
    assert_non_null(m);
    fix_begin(&m->f);
    vocab_bytes(&m->v);
    for (size_t i = 0; i < WK_COUNT(control); i++) vocab_add(&m->v, wk_cstr(control[i]), 3, 0);
    fix_meta_str(&m->f, "tokenizer.ggml.model", "gpt2");
    fix_meta_str(&m->f, "tokenizer.ggml.pre", "gpt-2");
    vocab_put(&m->v, &m->f, false);
    fix_strs(&m->f, "tokenizer.ggml.merges", NULL, 0);
    fix_meta_u32(&m->f, "tokenizer.ggml.bos_token_id", BOS);
    fix_meta_u32(&m->f, "tokenizer.ggml.eos_token_id", EOS);
    fix_meta_bool(&m->f, "tokenizer.ggml.add_bos_token", adds_bos);
    if (template) fix_meta_str(&m->f, "tokenizer.chat_template", template);
    memcpy(m->f.b.p + 16, &m->f.n_meta, 8);
    if (wk_store_open_memory(&m->store, m->f.b.p, m->f.b.n, "fixture", &err)) fail_msg("%s", err.message);
    if (wk_tok_open(&m->tok, m->store, &err)) fail_msg("%s", err.message);
    if (wk_chat_open(&m->chat, m->store, m->tok, &err)) fail_msg("%s", err.message);
    return m;
}

static inline void model_free(model *m) {
    wk_chat_close(m->chat);
    wk_tok_close(m->tok);
    wk_store_close(m->store);
    wk_buf_fini(&m->f.b);
    free(m);
}

#endif

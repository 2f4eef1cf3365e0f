/* wick_model.h: the record behind wick_model, shared by wick.c and wick_x.c only. */
#ifndef WICK_MODEL_H
#define WICK_MODEL_H

#include <stdatomic.h>

#include "engine/file/store.h"
#include "engine/text/chat.h"
#include "engine/text/tok.h"
#include "engine/wick.h"

struct wick_model {
    _Atomic int ref;
    wk_store *store;
    wk_tok *tok;
    wk_chat *chat;
};

#endif

/* chat_norm.h: a request in the shape that OpenAI's clients send -> the variables of one template. */
#ifndef WK_CHAT_NORM_H
#define WK_CHAT_NORM_H

#include "engine/base/json.h"
#include "engine/text/chat.h"

typedef struct wk_chat_how {
    unsigned traits; /* WK_CHAT_* */
    wk_str bos, eos;
    int64_t now;
} wk_chat_how;

/* Appends the JSON object to out. E_ARG names the member that is wrong; E_NOMEM. */
int wk_chat_rewrite(const wk_chat_how *how, const wk_json *request, wk_buf *out, wk_err *err);
/* "{" and the members that every render gets, each followed by a comma. */
void wk_chat_common(wk_buf *out, wk_str bos, wk_str eos);

#endif

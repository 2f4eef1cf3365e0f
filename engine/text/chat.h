/* chat.h: a conversation -> prompt ids, by the model's own template. */
#ifndef WK_CHAT_H
#define WK_CHAT_H

#include "engine/text/jinja.h"
#include "engine/text/tok.h"

typedef struct wk_chat wk_chat;

/* Parses the template of s once. A file without one, or with a broken one, gives a wk_chat whose render
 * fails with that sentence (E_TEMPLATE); opening does not fail for it. Fails only with E_NOMEM. */
int wk_chat_open(wk_chat **out, const wk_store *s, const wk_tok *tok, wk_err *err);
void wk_chat_close(wk_chat *c);
bool wk_chat_usable(const wk_chat *c, wk_err *why);
wk_str wk_chat_source(const wk_chat *c); /* the template's text, empty if none */

/* What trial renders at open found out about the template; render acts on it. */
enum {
    WK_CHAT_PARTS = 1,         /* reads lists of content parts; else text parts are joined */
    WK_CHAT_STRING_ARGS = 2,   /* wants the arguments of tool calls as text; else as an object */
    WK_CHAT_MERGE_SYSTEM = 4,  /* has no system role: its text goes before that of the first user */
    WK_CHAT_INJECT_TOOLS = 8,  /* ignores tools: they are described in the system text */
    WK_CHAT_FILL_NULL = 16,    /* cannot read content: null */
    WK_CHAT_FILL_NAMES = 32,   /* cannot do without description of a tool, name of a result */
    WK_CHAT_FUNCTIONS = 64,    /* wants the variables functions and datetime */
    WK_CHAT_DEVELOPER = 128    /* knows the role developer; else it becomes system */
};
unsigned wk_chat_traits(const wk_chat *c);

/* request: {"messages":[{"role","content"},…], "tools":[…], "add_generation_prompt":true, …}: further members
 * become variables of the template. Applies the normalisation of SERVER 13. Ids as in wk_tok_encode (special
 * tokens only from template text); text (may be NULL) gets the rendered prompt. */
int wk_chat_render(const wk_chat *c, wk_str request, wk_buf *text, int32_t *out, size_t cap, size_t *n, wk_err *err);
/* v as JSON text behind out; numbers keep their kind (1 and 1.0 print differently). */
void wk_chat_put_json(wk_buf *out, const wk_json *v);

#endif

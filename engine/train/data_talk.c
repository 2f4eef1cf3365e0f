/* data_talk.c: a conversation as the model's template writes it, and which of its tokens the assistant says.
 *
 * Templates do not tell where a turn begins, so the beginnings of the conversation are rendered too: an answer begins
 * where the render of all before it, with the start of an answer asked for, is over. It ends with the first token after
 * that which ends a turn; no text of a message can be such a token. What a template writes behind it (a line break)
 * does not count: nobody will ever ask the model for it. Where a template ends no turn, EOS is put behind the last. */
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/train/data_impl.h"

/* Renders are twice as many as answers, each as long as the conversation at most. */
#define TALK_WORK_MAX ((uint64_t)256 << 20)

typedef struct turn {
    size_t end; /* bytes of the request up to the end of the message */
    bool is_answer;
} turn;

typedef struct talk {
    const wk_tok *tok;
    const wk_chat *chat;
    wk_buf request; /* {...,"messages":[ message,  message,  ... */
    size_t flag;    /* where "true " or "false" stands */
    turn *turn;
    size_t n_turn;
} talk;

typedef struct render {
    wk_buf text;
    wk_ids ids;
} render;

bool wk_ids_reserve(wk_ids *x, size_t n) {
    if (n <= x->room) return true;
    const size_t room = n < x->room * 2 ? x->room * 2 : n;
    int32_t *id = (int32_t *)wk_realloc_array(x->id, room, sizeof(*id));
    if (!id) return false;
    x->id = id;
    uint8_t *counted = (uint8_t *)wk_realloc_array(x->counted, room, 1);
    if (!counted) return false;
    x->counted = counted;
    x->room = room;
    return true;
}

void wk_ids_fini(wk_ids *x) {
    wk_free(x->id);
    wk_free(x->counted);
    *x = (wk_ids){0};
}

/* ---- the request ------------------------------------------------------------------------------- */

/* Failures of appending stay in the buffer; put_all looks once. */
static void put(wk_buf *b, const char *s) { (void)wk_buf_adds(b, s); }

static void put_message(wk_buf *b, wk_str role, const wk_json *content, wk_str text) {
    put(b, "{\"role\":");
    wk_json_put_str(b, role);
    put(b, ",\"content\":");
    if (content)
        wk_chat_put_json(b, content);
    else
        wk_json_put_str(b, text);
    put(b, "}");
}

static wk_str role_of_from(wk_str who) {
    static const char *const names[][2] = {{"human", "user"},          {"user", "user"},       {"gpt", "assistant"},
                                           {"assistant", "assistant"}, {"model", "assistant"}, {"chatgpt", "assistant"},
                                           {"system", "system"},       {"tool", "tool"},       {"observation", "tool"}};
    for (size_t i = 0; i < WK_COUNT(names); i++)
        if (wk_str_is(who, names[i][0])) return wk_cstr(names[i][1]);
    return (wk_str){NULL, 0};
}

static int put_turn(talk *t, const wk_doc *d, size_t i, wk_err *err) {
    const wk_json *m = d->messages ? wk_json_at(d->messages, i) : NULL;
    wk_str role = wk_cstr(i ? "assistant" : "user");
    if (m) role = wk_json_str(wk_json_get(m, d->is_from ? "from" : "role"));
    if (d->is_from) {
        const wk_str who = role;
        role = role_of_from(who);
        if (!role.p)
            return wk_fail(err, WICK_E_FORMAT, "message %zu is from \"%s\", which is no known role", i,
                           wk_show(who).text);
    }
    if (!m)
        put_message(&t->request, role, NULL, d->part[i]);
    else if (d->is_from)
        put_message(&t->request, role, wk_json_get(m, "value"), WK_STR(""));
    else
        wk_chat_put_json(&t->request, m);
    t->turn[i] = (turn){t->request.n, wk_str_is(role, "assistant")};
    put(&t->request, ",  "); /* room for the end of a shorter request */
    return WICK_OK;
}

static int put_all(talk *t, const wk_doc *d, wk_err *err) {
    uint64_t n_answer = 0;
    t->n_turn = d->messages ? wk_json_count(d->messages) : 2;
    t->turn = wk_new_n(turn, t->n_turn);
    if (!t->turn) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu messages", t->n_turn);
    put(&t->request, "{");
    if (d->tools) {
        put(&t->request, "\"tools\":");
        wk_chat_put_json(&t->request, d->tools);
        put(&t->request, ",");
    }
    put(&t->request, "\"add_generation_prompt\":");
    t->flag = t->request.n;
    put(&t->request, "false,\"messages\":[");
    for (size_t i = 0; i < t->n_turn; i++) {
        WK_TRY(put_turn(t, d, i, err));
        n_answer += t->turn[i].is_answer;
    }
    if (t->request.failed) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu messages", t->n_turn);
    if (n_answer == 0) return wk_fail(err, WICK_E_FORMAT, "none of the %zu messages is the assistant's", t->n_turn);
    if (n_answer * t->request.n > TALK_WORK_MAX)
        return wk_fail(err, WICK_E_FORMAT, "a conversation of %zu messages and %zu bytes is too long", t->n_turn,
                       t->request.n);
    return WICK_OK;
}

/* ---- rendering --------------------------------------------------------------------------------- */

static int render_ids(const talk *t, wk_str request, render *r, wk_err *err) {
    for (;;) {
        size_t n = 0;
        wk_buf_reset(&r->text);
        WK_TRY(wk_chat_render(t->chat, request, &r->text, r->ids.id, r->ids.room, &n, err));
        r->ids.n = n;
        if (n <= r->ids.room) return WICK_OK;
        if (!wk_ids_reserve(&r->ids, n + 1)) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu tokens", n);
    }
}

/* The first n messages, with or without the start of an answer. */
static int render_first(talk *t, size_t n, bool ask, render *r, wk_err *err) {
    char kept[2];
    char *p = t->request.p;
    const size_t end = n ? t->turn[n - 1].end : t->flag + strlen("false,\"messages\":[");
    memcpy(p + t->flag, ask ? "true " : "false", 5);
    memcpy(kept, p + end, 2);
    memcpy(p + end, "]}", 2);
    const int rc = render_ids(t, (wk_str){p, end + 2}, r, err);
    memcpy(p + end, kept, 2);
    return rc;
}

static size_t common(const wk_ids *a, const wk_ids *b) {
    size_t n = 0;
    while (n < a->n && n < b->n && a->id[n] == b->id[n]) n++;
    return n;
}

/* Marks answer i of whole, which shows the first n messages. *same false: whole does not show it as it is where it
 * comes last (its text is dropped, or nothing ends it), or not what was asked before it. */
static int mark(talk *t, size_t i, size_t n, render *whole, render *part, bool *same, wk_err *err) {
    wk_ids *x = &whole->ids;
    const int32_t eos = wk_tok_eos(t->tok);
    WK_TRY(render_first(t, i, true, part, err));
    *same = wk_str_starts(wk_buf_str(&whole->text), wk_buf_str(&part->text));
    if (!*same) return WICK_OK;
    const size_t begin = common(&part->ids, x);
    size_t end = begin;
    while (end < x->n && !wk_tok_is_end(t->tok, x->id[end])) end++;
    if (i + 1 < n) {
        WK_TRY(render_first(t, i + 1, false, part, err));
        *same = common(&part->ids, x) > end;
        if (!*same) return WICK_OK;
    } else if (end == x->n) {
        if (eos < 0) return wk_fail(err, WICK_E_TEMPLATE, "neither template nor tokenizer ends an answer");
        if (!wk_ids_reserve(x, x->n + 1)) return wk_fail(err, WICK_E_NOMEM, "no memory for %zu tokens", x->n);
        x->counted[x->n] = 0;
        x->id[x->n++] = eos;
    }
    memset(x->counted + begin, 1, end + 1 - begin);
    return WICK_OK;
}

static void mark_none(wk_ids *x) { memset(x->counted, 0, x->n); }

/* One document for each answer, since no single render shows all of them as they were given. */
static int one_by_one(talk *t, render *whole, render *part, int (*on_ids)(void *ud, const wk_ids *x, wk_err *err),
                      void *ud, wk_err *err) {
    for (size_t i = 0; i < t->n_turn; i++) {
        bool same;
        if (!t->turn[i].is_answer) continue;
        WK_TRY(render_first(t, i + 1, false, whole, err));
        mark_none(&whole->ids);
        WK_TRY(mark(t, i, i + 1, whole, part, &same, err));
        if (!same)
            return wk_fail(err, WICK_E_TEMPLATE,
                           "the template begins the answer, message %zu, in another way than it asks for one", i);
        WK_TRY(on_ids(ud, &whole->ids, err));
    }
    return WICK_OK;
}

static int talk_out(talk *t, render *whole, render *part, int (*on_ids)(void *ud, const wk_ids *x, wk_err *err),
                    void *ud, wk_err *err) {
    bool same = true;
    WK_TRY(render_first(t, t->n_turn, false, whole, err));
    mark_none(&whole->ids);
    for (size_t i = 0; i < t->n_turn && same; i++)
        if (t->turn[i].is_answer) WK_TRY(mark(t, i, t->n_turn, whole, part, &same, err));
    return same ? on_ids(ud, &whole->ids, err) : one_by_one(t, whole, part, on_ids, ud, err);
}

int wk_data_talk(const wk_doc *d, const wk_tok *tok, const wk_chat *chat,
                 int (*on_ids)(void *ud, const wk_ids *x, wk_err *err), void *ud, wk_err *err) {
    talk t = {.tok = tok, .chat = chat};
    render whole = {0}, part = {0};
    wk_err why = {0};
    if (!chat) return wk_fail(err, WICK_E_TEMPLATE, "the model has no chat template, which messages need");
    if (!wk_chat_usable(chat, &why)) return wk_fail(err, WICK_E_TEMPLATE, "%s", why.message);
    wk_buf_init(&t.request, 0);
    wk_buf_init(&whole.text, 0);
    wk_buf_init(&part.text, 0);
    int rc = put_all(&t, d, err);
    if (!rc) rc = talk_out(&t, &whole, &part, on_ids, ud, err);
    wk_buf_fini(&t.request);
    wk_buf_fini(&whole.text);
    wk_buf_fini(&part.text);
    wk_ids_fini(&whole.ids);
    wk_ids_fini(&part.ids);
    wk_free(t.turn);
    return rc;
}

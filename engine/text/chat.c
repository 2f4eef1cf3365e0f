/* chat.c: the model's template, what trials tell about it, and the way from a request to ids. */
#include "engine/text/chat.h"

#include <string.h>
#include <time.h>

#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/text/chat_norm.h"

#define MAX_DEPTH 64
#define MAX_VALUES ((size_t)1000000)
#define TRIAL_STEPS 1000000u

struct wk_chat {
    wk_jinja *template;
    const wk_tok *tok;
    char *source;
    size_t source_bytes;
    wk_err why; /* code 0: usable */
    unsigned traits;
};

static const char *const trusted[] = {"bos_token", "eos_token", "messages[].role", NULL};

static wk_str bos_text(const wk_chat *c) { return wk_tok_text(c->tok, wk_tok_bos(c->tok)); }
static wk_str eos_text(const wk_chat *c) { return wk_tok_text(c->tok, wk_tok_eos(c->tok)); }

/* variables: the JSON object that the template sees. */
static int render(const wk_chat *c, wk_str variables, const wk_jinja_budget *budget,
                  wk_jinja_out *out, wk_err *err) {
    wk_json_doc *doc = NULL;
    *out = (wk_jinja_out){0};
    /* Arguments that came as text stand deeper here than in the request. */
    WK_TRY(wk_json_parse(&doc, variables, MAX_DEPTH + 32, 2 * MAX_VALUES, err));
    const int rc = wk_jinja_render(c->template, wk_json_root(doc), trusted, budget, out, err);
    wk_json_free(doc);
    return rc;
}

/* ---- trials ------------------------------------------------------------------------------------ */

enum {
#define CHAT_TRIAL(name, body) TRIAL_##name,
#include "engine/text/chat.def"
    TRIAL_COUNT
};

static const char *const trial_body[TRIAL_COUNT] = {
#define CHAT_TRIAL(name, body) [TRIAL_##name] = body,
#include "engine/text/chat.def"
};

typedef struct trial {
    bool ok; /* it rendered */
    wk_jinja_out out;
} trial;

/* A template may fail here; memory may not, or the traits would be wrong. */
static int run_trial(const wk_chat *c, int which, trial *t, wk_err *err) {
    const wk_jinja_budget budget = {TRIAL_STEPS, (size_t)1 << 20, (size_t)16 << 20, 100, 0};
    wk_buf text;
    wk_err why = {0};
    int rc = WICK_E_NOMEM;
    wk_buf_init(&text, 0);
    wk_chat_common(&text, bos_text(c), eos_text(c));
    (void)wk_buf_adds(&text, trial_body[which]); /* seen below */
    (void)wk_buf_adds(&text, ",\"add_generation_prompt\":true}");
    if (!text.failed) rc = render(c, wk_buf_str(&text), &budget, &t->out, &why);
    t->ok = rc == WICK_OK;
    wk_buf_fini(&text);
    if (rc != WICK_E_NOMEM) return WICK_OK;
    return wk_fail(err, rc, "no memory to try the chat template");
}

static const char *find(const trial *t, const char *word) {
    const wk_buf *text = &t->out.text;
    return t->ok && text->n ? (const char *)memmem(text->p, text->n, word, strlen(word)) : NULL;
}

/* Whether the word is there, and not as data in quotes. */
static bool shows(const trial *t, const char *word) {
    const char *at = find(t, word);
    return at && !(at > t->out.text.p && (at[-1] == '\'' || at[-1] == '"'));
}

/* Arguments that were encoded once: the name of one stands behind no backslash. */
static bool shows_arguments(const trial *t) {
    const char *call = find(t, "wickvalue");
    return call && find(t, "wickarg") && !find(t, "\\\"wickarg") && !find(t, "\\\"wickvalue");
}

static unsigned find_traits(const trial *t) {
    unsigned traits = 0;
    const bool object = shows_arguments(&t[TRIAL_OBJECT_ARGS]),
               string = shows_arguments(&t[TRIAL_STRING_ARGS]);
    const trial *null = &t[TRIAL_NULL_CONTENT];
    if (!t[TRIAL_BASE].ok && t[TRIAL_FUNCTIONS].ok) return WK_CHAT_FUNCTIONS;
    if (!t[TRIAL_BASE].ok) return 0;
    if (shows(&t[TRIAL_PARTS], "wickfirst") && shows(&t[TRIAL_PARTS], "wicksecond"))
        traits |= WK_CHAT_PARTS;
    if (!object && string) traits |= WK_CHAT_STRING_ARGS;
    if (!find(&t[TRIAL_SYSTEM], "wicksystem")) traits |= WK_CHAT_MERGE_SYSTEM;
    if (!find(&t[TRIAL_TOOLS], "wicktool")) traits |= WK_CHAT_INJECT_TOOLS;
    if (!null->ok || find(null, "None") || find(null, "null")) traits |= WK_CHAT_FILL_NULL;
    if (!t[TRIAL_BARE_TOOLS].ok || !t[TRIAL_BARE_RESULT].ok) traits |= WK_CHAT_FILL_NAMES;
    return traits;
}

/* The role developer is kept only where the template has a name for it: many print any role. */
static bool knows_developer(const wk_chat *c, const trial *t) {
    return memmem(c->source, c->source_bytes, "developer", 9) &&
           find(&t[TRIAL_DEVELOPER], "wicksystem");
}

static void say_traits(const wk_chat *c, const trial *t) {
    if (!t[TRIAL_BASE].ok && !t[TRIAL_FUNCTIONS].ok)
        wk_log(WK_LOG_WARN, "the chat template cannot render one plain user message");
    if (c->traits & WK_CHAT_MERGE_SYSTEM)
        wk_log(WK_LOG_INFO,
               "the chat template has no system role: its text goes before the user's");
    if (c->traits & WK_CHAT_INJECT_TOOLS)
        wk_log(WK_LOG_INFO, "the chat template ignores tools: the system text describes them");
}

static int run_trials(wk_chat *c, wk_err *err) {
    trial t[TRIAL_COUNT] = {0};
    int rc = WICK_OK;
    for (int i = 0; !rc && i < TRIAL_COUNT; i++) rc = run_trial(c, i, &t[i], err);
    if (!rc) {
        c->traits = find_traits(t);
        if (knows_developer(c, t)) c->traits |= WK_CHAT_DEVELOPER;
        say_traits(c, t);
    }
    for (int i = 0; i < TRIAL_COUNT; i++) wk_jinja_out_fini(&t[i].out);
    return rc;
}

/* ---- open -------------------------------------------------------------------------------------- */

static int take_source(wk_chat *c, const wk_store *s, wk_err *err) {
    wk_str text;
    wk_err why = {0};
    const int found = wk_meta_str(s, "tokenizer.chat_template", &text, &why);
    if (found < 0) {
        c->why = why;
        c->why.code = WICK_E_TEMPLATE;
    }
    if (found == 0)
        (void)wk_fail(&c->why, WICK_E_TEMPLATE,
                      "%s has no chat template; use run --raw", /* code kept in why */
                      wk_show(wk_cstr(wk_store_path(s))).text);
    if (found <= 0) return WICK_OK;
    c->source = wk_strdup_n(text.p, text.n);
    if (!c->source) return wk_fail(err, WICK_E_NOMEM, "no memory for the chat template");
    c->source_bytes = text.n;
    return WICK_OK;
}

/* A template that does not parse is kept as a sentence; only memory makes this fail. */
static int take_template(wk_chat *c, wk_err *err) {
    if (!c->source) return WICK_OK;
    const int rc = wk_jinja_parse(&c->template, wk_chat_source(c), &c->why);
    if (rc == WICK_E_NOMEM) return wk_fail(err, rc, "no memory to read the chat template");
    if (!rc) return run_trials(c, err);
    wk_log(WK_LOG_WARN, "chat is not possible: %s", c->why.message);
    return WICK_OK;
}

int wk_chat_open(wk_chat **out, const wk_store *s, const wk_tok *tok, wk_err *err) {
    int rc;
    *out = NULL;
    wk_chat *c = wk_new(wk_chat);
    if (!c) return wk_fail(err, WICK_E_NOMEM, "no memory for the chat template");
    c->tok = tok;
    if ((rc = take_source(c, s, err)) || (rc = take_template(c, err))) {
        wk_chat_close(c);
        return rc;
    }
    *out = c;
    return WICK_OK;
}

void wk_chat_close(wk_chat *c) {
    if (!c) return;
    wk_jinja_free(c->template);
    wk_free(c->source);
    wk_free(c);
}

bool wk_chat_usable(const wk_chat *c, wk_err *why) {
    if (c->template) return true;
    if (why) *why = c->why;
    return false;
}

wk_str wk_chat_source(const wk_chat *c) {
    return (wk_str){c->source ? c->source : "", c->source_bytes};
}

unsigned wk_chat_traits(const wk_chat *c) { return c->traits; }

/* ---- render ------------------------------------------------------------------------------------ */

/* BOS is ours to put unless the template has written it. */
static bool writes_bos(const wk_chat *c, const wk_jinja_out *o) {
    const wk_str bos = bos_text(c);
    return bos.n && o->n_run && !o->run[0].user && o->run[0].end >= bos.n &&
           wk_str_starts(wk_buf_str(&o->text), bos);
}

static int encode(const wk_chat *c, const wk_jinja_out *o, int32_t *out, size_t cap, size_t *n,
                  wk_err *err) {
    const bool bos = wk_tok_adds_bos(c->tok) && wk_tok_bos(c->tok) >= 0 && !writes_bos(c, o);
    wk_run *run = wk_new_n(wk_run, o->n_run);
    if (!run) return wk_fail(err, WICK_E_NOMEM, "no memory for the prompt");
    for (size_t i = 0; i < o->n_run; i++)
        run[i] = (wk_run){{o->text.p + o->run[i].begin, o->run[i].end - o->run[i].begin},
                          !o->run[i].user};
    const bool room = bos && cap > 0;
    if (room) out[0] = wk_tok_bos(c->tok);
    const int rc =
        wk_tok_encode(c->tok, run, o->n_run, WK_TOK_SPECIAL, room ? out + 1 : out, cap - room, n);
    wk_free(run);
    if (rc) return wk_fail(err, rc, "no memory for the prompt");
    *n += bos;
    return WICK_OK;
}

static int render_request(const wk_chat *c, wk_str request, wk_jinja_out *out, wk_err *err) {
    const wk_chat_how how = {c->traits, bos_text(c), eos_text(c), (int64_t)time(NULL)};
    wk_jinja_budget budget = WK_JINJA_BUDGET;
    wk_json_doc *doc = NULL;
    wk_buf variables;
    budget.now = how.now;
    WK_TRY(wk_json_parse(&doc, request, MAX_DEPTH, MAX_VALUES, err));
    wk_buf_init(&variables, 0);
    int rc = wk_chat_rewrite(&how, wk_json_root(doc), &variables, err);
    wk_json_free(doc);
    if (!rc) rc = render(c, wk_buf_str(&variables), &budget, out, err);
    wk_buf_fini(&variables);
    return rc;
}

int wk_chat_render(const wk_chat *c, wk_str request, wk_buf *text, int32_t *out, size_t cap,
                   size_t *n, wk_err *err) {
    wk_jinja_out o = {0};
    *n = 0;
    if (!wk_chat_usable(c, err)) return WICK_E_TEMPLATE;
    int rc = render_request(c, request, &o, err);
    if (!rc) rc = encode(c, &o, out, cap, n, err);
    if (!rc && text && !wk_buf_add(text, o.text.p, o.text.n))
        rc = wk_fail(err, WICK_E_NOMEM, "no room for a prompt of %zu bytes", o.text.n);
    wk_jinja_out_fini(&o);
    return rc;
}

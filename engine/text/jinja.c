/* jinja.c: the parser of statements, and the public parse and free. The code is flat (jinja_val.h) and made
 * in one pass; blocks recurse, at most WK_J_NEST deep. */
#include "engine/text/jinja.h"

#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/jinja_parse.h"

#define MAX_SOURCE ((size_t)4 << 20)
#define MAX_TARGETS 16

/* Tags that end a body. */
enum {
    END_ELIF = 1,
    END_ELSE = 2,
    END_IF = 4,
    END_FOR = 8,
    END_SET = 16,
    END_MACRO = 32,
    END_GENERATION = 64,
    END_FILTER = 128
};

typedef struct targets {
    uint32_t name[MAX_TARGETS], attr;
    int n;
    bool is_tuple, has_attr;
} targets;

static int body(wk_jp *p, uint32_t ends, const char *what);

static int expect_end(wk_jp *p) {
    return p->now.kind == WK_JT_BLOCK_END ? wk_jp_next(p)
                                          : wk_jp_unexpected(p, "the end of the tag");
}

static int expect_name(wk_jp *p, const char *name) {
    return wk_jp_at_name(p, name) ? wk_jp_next(p) : wk_jp_unexpected(p, name);
}

/* The tag that ended a body, its name taken, and its end. */
static int close_tag(wk_jp *p) {
    WK_TRY(wk_jp_next(p));
    return expect_end(p);
}

static int jump(wk_jp *p, int op, size_t *at) {
    *at = p->t->n_op;
    return wk_jp_emit(p, (wk_jop){.op = (uint8_t)op});
}

/* ---- targets of for and set -------------------------------------------------------------------- */

/* The name of a variable that gets a value; the constants get none. */
static int target_name(wk_jp *p, uint32_t *id) {
    static const char *const constants[] = {"true", "True", "false", "False", "none", "None"};
    for (size_t i = 0; i < WK_COUNT(constants); i++)
        if (wk_jp_at_name(p, constants[i])) return wk_jp_fail(p, "cannot set", p->now.text);
    return wk_jp_name(p, id);
}

static int target_names(wk_jp *p, targets *t, bool with_attr) {
    const bool brackets = wk_jp_at(p, '(');
    *t = (targets){.n = 0};
    if (brackets) WK_TRY(wk_jp_next(p));
    for (;;) {
        if (t->n == MAX_TARGETS) return wk_jp_fail(p, "too many targets before", p->now.text);
        WK_TRY(target_name(p, &t->name[t->n++]));
        if (!wk_jp_at(p, ',')) break;
        t->is_tuple = true;
        WK_TRY(wk_jp_next(p));
        if (p->now.kind != WK_JT_NAME || wk_jp_at_name(p, "in")) break;
    }
    if (brackets) return wk_jp_expect(p, ')', "')'");
    if (!with_attr || t->is_tuple || !wk_jp_at(p, '.')) return WICK_OK;
    t->has_attr = true;
    WK_TRY(wk_jp_next(p));
    return wk_jp_name(p, &t->attr);
}

/* Stores what is on the stack. */
static int store(wk_jp *p, const targets *t) {
    if (t->has_attr) {
        WK_TRY(WK_JP_EMIT(p, LOAD, .c = (int32_t)t->name[0]));
        return WK_JP_EMIT(p, SET_ATTR, .c = (int32_t)t->attr);
    }
    if (t->is_tuple) WK_TRY(WK_JP_EMIT(p, UNPACK, .a = (uint8_t)t->n));
    for (int i = 0; i < t->n; i++) WK_TRY(WK_JP_EMIT(p, STORE, .c = (int32_t)t->name[i]));
    return WICK_OK;
}

/* ---- statements: the name of the tag is taken --------------------------------------------------- */

static int if_tag(wk_jp *p) {
    size_t chain = 0; /* jumps to the end: the last + 1, each holds the one before it */
    bool has_else = false;
    for (;;) {
        size_t to_next, at;
        WK_TRY(wk_jp_tuple(p, false, false));
        WK_TRY(expect_end(p));
        WK_TRY(jump(p, WK_JOP_JUMP_NOT, &to_next));
        WK_TRY(body(p, END_ELIF | END_ELSE | END_IF, "if"));
        if (!wk_jp_at_name(p, "endif")) {
            WK_TRY(jump(p, WK_JOP_JUMP, &at));
            p->t->op[at].c = (int32_t)chain;
            chain = at + 1;
        }
        wk_jp_land(p, to_next);
        has_else = wk_jp_at_name(p, "else");
        if (!wk_jp_at_name(p, "elif")) break;
        WK_TRY(wk_jp_next(p));
    }
    WK_TRY(close_tag(p));
    if (has_else) {
        WK_TRY(body(p, END_IF, "else"));
        WK_TRY(close_tag(p));
    }
    while (chain) {
        const size_t at = chain - 1;
        chain = (size_t)p->t->op[at].c;
        wk_jp_land(p, at);
    }
    return WICK_OK;
}

/* for x in y if c: a first loop keeps what fits; loop.length counts that. */
static int select_loop(wk_jp *p, const targets *t) {
    size_t next, skip;
    WK_TRY(wk_jp_next(p)); /* if */
    WK_TRY(WK_JP_EMIT(p, FOR, .a = 1));
    WK_TRY(jump(p, WK_JOP_NEXT, &next));
    WK_TRY(store(p, t));
    WK_TRY(wk_jp_expr(p, true));
    WK_TRY(jump(p, WK_JOP_JUMP_NOT, &skip));
    p->t->op[skip].c = (int32_t)next - (int32_t)skip;
    WK_TRY(WK_JP_EMIT(p, KEEP, .a = 0));
    WK_TRY(WK_JP_EMIT(p, JUMP, .c = wk_jp_back_to(p, next)));
    wk_jp_land(p, next);
    return WK_JP_EMIT(p, END_FOR, .a = 1);
}

static int loop_body(wk_jp *p, wk_jp_loop *l) {
    wk_jp_loop *outer = p->loop;
    p->loop = l;
    WK_TRY(body(p, END_FOR, "for"));
    p->loop = outer;
    WK_TRY(WK_JP_EMIT(p, JUMP, .c = wk_jp_back_to(p, l->next)));
    wk_jp_land(p, l->next);
    while (l->chain) {
        const size_t at = l->chain - 1;
        l->chain = (size_t)p->t->op[at].c;
        wk_jp_land(p, at);
    }
    WK_TRY(WK_JP_EMIT(p, END_FOR, .a = 0));
    return close_tag(p);
}

static int for_tag(wk_jp *p) {
    targets t;
    wk_jp_loop l = {0};
    WK_TRY(target_names(p, &t, false));
    WK_TRY(expect_name(p, "in"));
    WK_TRY(wk_jp_tuple(p, false, false));
    if (wk_jp_at_name(p, "if")) WK_TRY(select_loop(p, &t));
    if (wk_jp_at_name(p, "recursive")) return wk_jp_fail(p, "not supported in a for:", p->now.text);
    WK_TRY(expect_end(p));
    WK_TRY(WK_JP_EMIT(p, FOR, .a = 0));
    WK_TRY(jump(p, WK_JOP_NEXT, &l.next));
    WK_TRY(store(p, &t));
    return loop_body(p, &l);
}

static int break_tag(wk_jp *p) {
    size_t at;
    if (!p->loop) return wk_jp_fail(p, "outside a for:", WK_STR("break"));
    WK_TRY(jump(p, WK_JOP_JUMP, &at));
    p->t->op[at].c = (int32_t)p->loop->chain;
    p->loop->chain = at + 1;
    return expect_end(p);
}

static int continue_tag(wk_jp *p) {
    if (!p->loop) return wk_jp_fail(p, "outside a for:", WK_STR("continue"));
    WK_TRY(WK_JP_EMIT(p, JUMP, .c = wk_jp_back_to(p, p->loop->next)));
    return expect_end(p);
}

static int filter_chain(wk_jp *p) {
    for (;;) {
        WK_TRY(wk_jp_filter(p));
        if (!wk_jp_at(p, '|')) return WICK_OK;
        WK_TRY(wk_jp_next(p));
    }
}

/* Filters stand before the body that they work on:  jump B; F: filters; jump END; B: body; jump F; END */
static int filtered_body(wk_jp *p, uint32_t ends, const char *what) {
    size_t to_body, to_end;
    WK_TRY(jump(p, WK_JOP_JUMP, &to_body));
    WK_TRY(filter_chain(p));
    WK_TRY(expect_end(p));
    WK_TRY(jump(p, WK_JOP_JUMP, &to_end));
    wk_jp_land(p, to_body);
    WK_TRY(WK_JP_EMIT(p, CAPTURE, .a = 0));
    WK_TRY(body(p, ends, what));
    WK_TRY(WK_JP_EMIT(p, END_CAPTURE, .a = 0));
    WK_TRY(WK_JP_EMIT(p, JUMP, .c = wk_jp_back_to(p, to_body + 1)));
    wk_jp_land(p, to_end);
    return WICK_OK;
}

static int set_block(wk_jp *p) {
    if (wk_jp_at(p, '|')) {
        WK_TRY(wk_jp_next(p));
        return filtered_body(p, END_SET, "set");
    }
    WK_TRY(expect_end(p));
    WK_TRY(WK_JP_EMIT(p, CAPTURE, .a = 0));
    WK_TRY(body(p, END_SET, "set"));
    return WK_JP_EMIT(p, END_CAPTURE, .a = 0);
}

static int set_tag(wk_jp *p) {
    targets t;
    WK_TRY(target_names(p, &t, true));
    const bool is_block = !wk_jp_at(p, '=');
    if (is_block)
        WK_TRY(set_block(p));
    else {
        WK_TRY(wk_jp_next(p));
        WK_TRY(wk_jp_tuple(p, true, false));
    }
    WK_TRY(store(p, &t));
    return is_block ? close_tag(p) : expect_end(p);
}

static int macro_param(wk_jp *p, wk_jmacro *m) {
    wk_jinja *t = p->t;
    size_t bound;
    if (!wk_j_grow(&t->param, &t->room_param, t->n_param, sizeof(uint32_t)))
        return wk_jp_no_memory(p);
    WK_TRY(target_name(p, &t->param[t->n_param]));
    const uint32_t id = t->param[t->n_param++];
    m->n_param++;
    if (m->n_param > MAX_TARGETS) return wk_jp_fail(p, "too many parameters before", p->now.text);
    if (!wk_jp_at(p, '=')) return WICK_OK;
    WK_TRY(wk_jp_next(p));
    WK_TRY(jump(p, WK_JOP_PARAM, &bound));
    p->t->op[bound].d = (int32_t)id;
    WK_TRY(wk_jp_expr(p, true));
    WK_TRY(WK_JP_EMIT(p, STORE, .c = (int32_t)id));
    wk_jp_land(p, bound);
    return WICK_OK;
}

static int macro_params(wk_jp *p, wk_jmacro *m) {
    WK_TRY(wk_jp_expect(p, '(', "'('"));
    while (!wk_jp_at(p, ')')) {
        WK_TRY(macro_param(p, m));
        if (wk_jp_at(p, ')')) break;
        WK_TRY(wk_jp_expect(p, ',', "',' or ')'"));
    }
    WK_TRY(wk_jp_next(p));
    return expect_end(p);
}

/*  macro; store; jump END; ENTRY: defaults; body; return; END */
static int macro_tag(wk_jp *p) {
    wk_jinja *t = p->t;
    wk_jmacro m = {.first_param = (uint32_t)t->n_param};
    wk_jp_loop *outer = p->loop;
    size_t over;
    WK_TRY(wk_jp_name(p, &m.name));
    if (!wk_j_grow(&t->macro, &t->room_macro, t->n_macro, sizeof(wk_jmacro)))
        return wk_jp_no_memory(p);
    const size_t id = t->n_macro++;
    WK_TRY(WK_JP_EMIT(p, MACRO, .c = (int32_t)id));
    WK_TRY(WK_JP_EMIT(p, STORE, .c = (int32_t)m.name));
    WK_TRY(jump(p, WK_JOP_JUMP, &over));
    m.entry = (uint32_t)t->n_op;
    WK_TRY(macro_params(p, &m));
    t->macro[id] = m;
    p->loop = NULL;
    WK_TRY(body(p, END_MACRO, "macro"));
    p->loop = outer;
    WK_TRY(WK_JP_EMIT(p, RETURN, .a = 0));
    wk_jp_land(p, over);
    return close_tag(p);
}

static int generation_tag(wk_jp *p) {
    WK_TRY(expect_end(p));
    WK_TRY(WK_JP_EMIT(p, SCOPE, .a = 0));
    WK_TRY(body(p, END_GENERATION, "generation"));
    WK_TRY(WK_JP_EMIT(p, END_SCOPE, .a = 0));
    return close_tag(p);
}

static int filter_tag(wk_jp *p) {
    WK_TRY(filtered_body(p, END_FILTER, "filter"));
    WK_TRY(WK_JP_EMIT(p, EMIT, .a = 0));
    return close_tag(p);
}

typedef struct tag {
    const char *name;
    int (*read)(wk_jp *p);
    uint32_t ends; /* of which body */
} tag;

static const tag *find_tag(wk_str name) {
    static const tag table[] = {
        {"if", if_tag, 0},
        {"for", for_tag, 0},
        {"set", set_tag, 0},
        {"macro", macro_tag, 0},
        {"break", break_tag, 0},
        {"continue", continue_tag, 0},
        {"generation", generation_tag, 0},
        {"filter", filter_tag, 0},
        {"elif", NULL, END_ELIF},
        {"else", NULL, END_ELSE},
        {"endif", NULL, END_IF},
        {"endfor", NULL, END_FOR},
        {"endset", NULL, END_SET},
        {"endmacro", NULL, END_MACRO},
        {"endgeneration", NULL, END_GENERATION},
        {"endfilter", NULL, END_FILTER},
    };
    for (size_t i = 0; i < WK_COUNT(table); i++)
        if (wk_str_is(name, table[i].name)) return &table[i];
    return NULL;
}

static int refuse_tag(wk_jp *p) {
    static const char *const known[] = {"include", "import", "from", "extends",    "block", "call",
                                        "with",    "raw",    "do",   "autoescape", "trans"};
    for (size_t i = 0; i < WK_COUNT(known); i++)
        if (wk_jp_at_name(p, known[i]))
            return wk_jp_fail(p, "a chat template cannot use the tag", p->now.text);
    return wk_jp_fail(p, "unknown tag", p->now.text);
}

/* One tag. *ended: it ends the body and its name is the token at hand. */
static int statement(wk_jp *p, uint32_t ends, const char *what, bool *ended) {
    WK_TRY(wk_jp_next(p)); /* {% */
    if (p->now.kind != WK_JT_NAME) return wk_jp_unexpected(p, "the name of a tag");
    const tag *t = find_tag(p->now.text);
    if (!t) return refuse_tag(p);
    if (t->ends) {
        *ended = (ends & t->ends) != 0;
        if (*ended) return WICK_OK;
        return ends == END_FOR && t->ends == END_ELSE
                   ? wk_jp_fail(p, "not supported in a for:", p->now.text)
                   : wk_fail(p->err, WICK_E_TEMPLATE, "template line %u: '%s' does not end a '%s'",
                             p->now.line, t->name, what);
    }
    WK_TRY(wk_jp_deeper(p));
    WK_TRY(wk_jp_next(p));
    WK_TRY(t->read(p));
    p->depth--;
    return WICK_OK;
}

static int data(wk_jp *p) {
    wk_jv v;
    int32_t id;
    WK_TRY(wk_jp_str(p, p->now.text, &v));
    WK_TRY(wk_jp_constant(p, v, &id));
    WK_TRY(WK_JP_EMIT(p, TEXT, .c = id));
    return wk_jp_next(p);
}

static int print(wk_jp *p) {
    WK_TRY(wk_jp_next(p)); /* {{ */
    WK_TRY(wk_jp_tuple(p, true, false));
    WK_TRY(WK_JP_EMIT(p, EMIT, .a = 0));
    return p->now.kind == WK_JT_PRINT_END ? wk_jp_next(p) : wk_jp_unexpected(p, "'}}'");
}

/* Everything up to a tag of ends, whose name is then the token at hand. */
static int body(wk_jp *p, uint32_t ends, const char *what) {
    const uint32_t line = p->line;
    bool ended = false;
    while (!ended) {
        if (p->now.kind == WK_JT_END && ends)
            return wk_fail(p->err, WICK_E_TEMPLATE, "template line %u: '%s' has no end", line,
                           what);
        if (p->now.kind == WK_JT_END) return WICK_OK;
        if (p->now.kind == WK_JT_DATA)
            WK_TRY(data(p));
        else if (p->now.kind == WK_JT_PRINT)
            WK_TRY(print(p));
        else
            WK_TRY(statement(p, ends, what, &ended));
    }
    return WICK_OK;
}

/* ---- public ------------------------------------------------------------------------------------ */

/* A copy with \n as the only line end; one at the very end of the template is dropped. */
static wk_str normalised(char *to, wk_str src) {
    size_t n = 0;
    for (size_t i = 0; i < src.n; i++) {
        if (src.p[i] == '\r' && i + 1 < src.n && src.p[i + 1] == '\n') continue;
        to[n++] = src.p[i] == '\r' ? '\n' : src.p[i];
    }
    if (n && to[n - 1] == '\n') n--;
    return (wk_str){to, n};
}

static int parse(wk_jp *p, wk_str src) {
    const wk_jv first[] = {wk_j_none(), wk_j_bool(false), wk_j_bool(true), wk_j_undef()};
    int32_t id;
    uint32_t loop_name;
    WK_TRY(wk_jp_intern(p, WK_STR("loop"), &loop_name)); /* WK_J_LOOP_NAME */
    for (size_t i = 0; i < WK_COUNT(first); i++) WK_TRY(wk_jp_constant(p, first[i], &id));
    wk_jlex_init(&p->lex, src, p->err);
    WK_TRY(wk_jp_next(p));
    WK_TRY(body(p, 0, "template"));
    return WK_JP_EMIT(p, HALT, .a = 0);
}

int wk_jinja_parse(wk_jinja **out, wk_str src, wk_err *err) {
    int rc;
    wk_jp p = {.err = err};
    *out = NULL;
    if (src.n > MAX_SOURCE)
        return wk_fail(err, WICK_E_TEMPLATE, "template of %zu bytes, at most %zu are read", src.n,
                       MAX_SOURCE);
    if (!wk_utf8_valid(src)) return wk_fail(err, WICK_E_TEMPLATE, "template is not valid UTF-8");
    p.t = wk_new(wk_jinja);
    if (p.t) {
        wk_arena_init(&p.t->arena, 0); /* bounded by the source */
        p.t->src = (char *)wk_alloc(src.n + 2);
    }
    if (!p.t || !p.t->src || !wk_map_init(&p.names, 64)) {
        rc = wk_jp_no_memory(&p);
        goto out;
    }
    if ((rc = parse(&p, normalised(p.t->src, src)))) goto out;
    *out = p.t;
    p.t = NULL;
out:
    wk_map_fini(&p.names);
    wk_jinja_free(p.t);
    return rc;
}

void wk_jinja_free(wk_jinja *j) {
    if (!j) return;
    wk_arena_fini(&j->arena);
    wk_free(j->src);
    wk_free(j->op);
    wk_free(j->constant);
    wk_free(j->name);
    wk_free(j->keyword);
    wk_free(j->param);
    wk_free(j->macro);
    wk_free(j);
}

/* jinja_expr.c: the parser of expressions. Each one leaves its code in postfix order. It recurses over
 * brackets, at most WK_J_NEST deep; chains of operators, filters and calls are loops. */
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/jinja_parse.h"

#define MAX_ARGS 64
#define MAX_KEYWORDS 32

typedef struct args {
    int n, n_kw;
    uint32_t kw[MAX_KEYWORDS];
} args;

static int binary(wk_jp *p, int min);

/* ---- tokens ------------------------------------------------------------------------------------ */

int wk_jp_fail(wk_jp *p, const char *found, wk_str text) {
    return wk_fail(p->err, WICK_E_TEMPLATE, "template line %u: %s '%s'", p->now.line, found,
                   wk_show(text).text);
}

int wk_jp_no_memory(wk_jp *p) {
    return wk_fail(p->err, WICK_E_NOMEM, "no memory to read the template");
}

int wk_jp_next(wk_jp *p) {
    p->line = p->now.line;
    if (!p->has_ahead) return wk_jlex_next(&p->lex, &p->now);
    p->now = p->ahead;
    p->has_ahead = false;
    return WICK_OK;
}

int wk_jp_peek(wk_jp *p) {
    if (p->has_ahead) return WICK_OK;
    WK_TRY(wk_jlex_next(&p->lex, &p->ahead));
    p->has_ahead = true;
    return WICK_OK;
}

bool wk_jp_at(const wk_jp *p, int op) { return p->now.kind == WK_JT_OP && p->now.op == op; }
bool wk_jp_at_name(const wk_jp *p, const char *name) {
    return p->now.kind == WK_JT_NAME && wk_str_is(p->now.text, name);
}

int wk_jp_unexpected(wk_jp *p, const char *wanted) {
    wk_str found = p->now.text;
    if (p->now.kind == WK_JT_BLOCK_END) found = WK_STR("%}");
    if (p->now.kind == WK_JT_PRINT_END) found = WK_STR("}}");
    return wk_fail(p->err, WICK_E_TEMPLATE, "template line %u: '%s' where %s is wanted",
                   p->now.line, wk_show(found).text, wanted);
}

int wk_jp_expect(wk_jp *p, int op, const char *wanted) {
    return wk_jp_at(p, op) ? wk_jp_next(p) : wk_jp_unexpected(p, wanted);
}

int wk_jp_deeper(wk_jp *p) {
    if (++p->depth <= WK_J_NEST) return WICK_OK;
    return wk_fail(p->err, WICK_E_TEMPLATE, "template line %u: nested deeper than %d", p->now.line,
                   WK_J_NEST);
}

/* ---- code -------------------------------------------------------------------------------------- */

int wk_jp_emit(wk_jp *p, wk_jop op) {
    wk_jinja *t = p->t;
    if (!wk_j_grow(&t->op, &t->room_op, t->n_op, sizeof(wk_jop))) return wk_jp_no_memory(p);
    op.line = p->line ? p->line : 1;
    t->op[t->n_op++] = op;
    return WICK_OK;
}

void wk_jp_land(wk_jp *p, size_t at) { p->t->op[at].c = (int32_t)(p->t->n_op - at); }
int32_t wk_jp_back_to(const wk_jp *p, size_t to) { return (int32_t)to - (int32_t)p->t->n_op; }

int wk_jp_constant(wk_jp *p, wk_jv v, int32_t *id) {
    wk_jinja *t = p->t;
    if (!wk_j_grow(&t->constant, &t->room_constant, t->n_constant, sizeof(wk_jv)))
        return wk_jp_no_memory(p);
    *id = (int32_t)t->n_constant;
    t->constant[t->n_constant++] = v;
    return WICK_OK;
}

int wk_jp_str(wk_jp *p, wk_str text, wk_jv *v) {
    wk_jstr *s = (wk_jstr *)wk_arena_get(&p->t->arena, sizeof(*s));
    if (!s) return wk_jp_no_memory(p);
    *s = (wk_jstr){.p = text.p, .n = text.n};
    *v = wk_j_strv(s);
    return WICK_OK;
}

int wk_jp_intern(wk_jp *p, wk_str text, uint32_t *id) {
    wk_jinja *t = p->t;
    if (wk_map_get(&p->names, text, id)) return WICK_OK;
    bool was;
    if (!wk_j_grow(&t->name, &t->room_name, t->n_name, sizeof(wk_jv))) return wk_jp_no_memory(p);
    WK_TRY(wk_jp_str(p, text, &t->name[t->n_name]));
    if (!wk_map_put(&p->names, text, (uint32_t)t->n_name, &was)) return wk_jp_no_memory(p);
    *id = (uint32_t)t->n_name++;
    return WICK_OK;
}

int wk_jp_name(wk_jp *p, uint32_t *id) {
    if (p->now.kind != WK_JT_NAME) return wk_jp_unexpected(p, "a name");
    WK_TRY(wk_jp_intern(p, p->now.text, id));
    return wk_jp_next(p);
}

static int emit_constant(wk_jp *p, wk_jv v) {
    int32_t id;
    WK_TRY(wk_jp_constant(p, v, &id));
    return WK_JP_EMIT(p, CONST, .c = id);
}

/* ---- literals ---------------------------------------------------------------------------------- */

static int hex(wk_str s, size_t at, size_t n, uint32_t *cp) {
    *cp = 0;
    if (at + n > s.n) return -1;
    for (size_t i = at; i < at + n; i++) {
        const char c = s.p[i];
        const char *digits = "0123456789abcdef0123456789ABCDEF", *d = c ? strchr(digits, c) : NULL;
        if (!d) return -1;
        *cp = *cp * 16 + (uint32_t)((d - digits) & 15);
    }
    return 0;
}

/* Resolves the escape at s.p[*i] (behind the backslash); writes it to out, returns its length or -1. */
static int escape(wk_str s, size_t *i, char out[4]) {
    static const char from[] = "ntr\\'\"abfv", to[] = "\n\t\r\\'\"\a\b\f\v";
    const char c = s.p[*i], *at = c ? strchr(from, c) : NULL;
    uint32_t cp = 0;
    const size_t n_hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    ++*i;
    if (at) out[0] = to[at - from];
    if (at) return 1;
    if (c == '\n') return 0;
    if (n_hex) {
        if (hex(s, *i, n_hex, &cp)) return -1;
        *i += n_hex;
    } else if (c >= '0' && c <= '7') {
        --*i;
        for (int k = 0; k < 3 && *i < s.n && s.p[*i] >= '0' && s.p[*i] <= '7'; k++)
            cp = cp * 8 + (uint32_t)(s.p[(*i)++] - '0');
    } else {
        if (c == 'N') return -1;
        --*i; /* an unknown escape is two characters */
        out[0] = '\\';
        return 1;
    }
    const int len = wk_utf8_encode(out, cp);
    return len ? len : -1;
}

/* Appends the value of one string token to text, which has room for all of it. */
static int unescape(wk_jp *p, wk_str s, char *text, size_t *n) {
    for (size_t i = 0; i < s.n;) {
        char out[4] = {s.p[i]};
        int len = 1;
        if (s.p[i++] == '\\' && i < s.n) len = escape(s, &i, out);
        if (len < 0) return wk_jp_fail(p, "an escape cannot be read in", s);
        memcpy(text + *n, out, (size_t)len);
        *n += (size_t)len;
    }
    return WICK_OK;
}

/* The value of one or more string tokens side by side. */
static int string(wk_jp *p) {
    size_t n = 0, room = 0;
    char *text = NULL;
    while (p->now.kind == WK_JT_STR) {
        const wk_str s = p->now.text;
        if (!text || room - n < s.n) {
            room = 2 * n + s.n;
            char *more = (char *)wk_arena_get(&p->t->arena, room);
            if (!more) return wk_jp_no_memory(p);
            if (n) memcpy(more, text, n);
            text = more;
        }
        WK_TRY(unescape(p, s, text, &n));
        WK_TRY(wk_jp_next(p));
    }
    wk_jv v;
    WK_TRY(wk_jp_str(p, (wk_str){text, n}, &v));
    return emit_constant(p, v);
}

static int integer(wk_jp *p, int64_t *value) {
    const wk_str s = p->now.text;
    const bool prefixed = s.n > 1 && s.p[0] == '0' && strchr("xXoObB", s.p[1]);
    const uint32_t base = !prefixed ? 10 : (s.p[1] | 32) == 'x' ? 16 : (s.p[1] | 32) == 'o' ? 8 : 2;
    int64_t v = 0;
    for (size_t i = prefixed ? 2 : 0; i < s.n; i++) {
        uint32_t d;
        if (s.p[i] == '_') continue;
        if (hex(s, i, 1, &d) || d >= base) return wk_jp_fail(p, "not a number:", s);
        if (__builtin_mul_overflow(v, (int64_t)base, &v) ||
            __builtin_add_overflow(v, (int64_t)d, &v))
            return wk_jp_fail(p, "a number does not fit 64 bits:", s);
    }
    if (s.n > 1 && !prefixed && s.p[0] == '0' && v != 0)
        return wk_jp_fail(p, "a number begins with 0:", s);
    *value = v;
    return WICK_OK;
}

static int literal(wk_jp *p) {
    wk_jv v = wk_j_int(0);
    if (p->now.kind == WK_JT_STR) return string(p);
    if (p->now.kind == WK_JT_INT)
        WK_TRY(integer(p, &v.u.i));
    else {
        v.tag = WK_J_REAL;
        if (!wk_j_parse_real(p->now.text, &v.u.d))
            return wk_jp_fail(p, "not a number:", p->now.text);
    }
    WK_TRY(wk_jp_next(p));
    return emit_constant(p, v);
}

/* ---- primary expressions ----------------------------------------------------------------------- */

int wk_jp_tuple(wk_jp *p, bool ternary, bool explicit) {
    if (explicit && wk_jp_at(p, ')')) return WK_JP_EMIT(p, TUPLE, .a = 0);
    WK_TRY(wk_jp_expr(p, ternary));
    if (!wk_jp_at(p, ',')) return WICK_OK;
    WK_TRY(WK_JP_EMIT(p, TUPLE, .a = 1));
    while (wk_jp_at(p, ',')) {
        WK_TRY(wk_jp_next(p));
        if (wk_jp_at(p, ')') || p->now.kind == WK_JT_PRINT_END || p->now.kind == WK_JT_BLOCK_END)
            break;
        WK_TRY(wk_jp_expr(p, ternary));
        WK_TRY(WK_JP_EMIT(p, APPEND, .a = 0));
    }
    return WICK_OK;
}

static int list(wk_jp *p) {
    WK_TRY(WK_JP_EMIT(p, LIST, .a = 0));
    while (!wk_jp_at(p, ']')) {
        WK_TRY(wk_jp_expr(p, true));
        WK_TRY(WK_JP_EMIT(p, APPEND, .a = 0));
        if (wk_jp_at(p, ']')) break;
        WK_TRY(wk_jp_expect(p, ',', "',' or ']'"));
    }
    return wk_jp_next(p);
}

static int dict(wk_jp *p) {
    WK_TRY(WK_JP_EMIT(p, DICT, .a = 0));
    while (!wk_jp_at(p, '}')) {
        WK_TRY(wk_jp_expr(p, true));
        WK_TRY(wk_jp_expect(p, ':', "':'"));
        WK_TRY(wk_jp_expr(p, true));
        WK_TRY(WK_JP_EMIT(p, PUT, .a = 0));
        if (wk_jp_at(p, '}')) break;
        WK_TRY(wk_jp_expect(p, ',', "',' or '}'"));
    }
    return wk_jp_next(p);
}

static int variable(wk_jp *p) {
    static const struct {
        const char *name;
        int32_t id;
    } word[] = {{"true", WK_JP_TRUE},   {"True", WK_JP_TRUE}, {"false", WK_JP_FALSE},
                {"False", WK_JP_FALSE}, {"none", WK_JP_NONE}, {"None", WK_JP_NONE}};
    static const char *const reserved[] = {"not", "and", "or", "if", "else", "in", "is"};
    uint32_t id;
    for (size_t i = 0; i < WK_COUNT(word); i++) {
        if (!wk_jp_at_name(p, word[i].name)) continue;
        WK_TRY(wk_jp_next(p));
        return WK_JP_EMIT(p, CONST, .c = word[i].id);
    }
    for (size_t i = 0; i < WK_COUNT(reserved); i++)
        if (wk_jp_at_name(p, reserved[i])) return wk_jp_unexpected(p, "a value");
    WK_TRY(wk_jp_name(p, &id));
    return WK_JP_EMIT(p, LOAD, .c = (int32_t)id);
}

static int primary(wk_jp *p) {
    if (p->now.kind == WK_JT_NAME) return variable(p);
    if (p->now.kind == WK_JT_STR || p->now.kind == WK_JT_INT || p->now.kind == WK_JT_REAL)
        return literal(p);
    if (!wk_jp_at(p, '(') && !wk_jp_at(p, '[') && !wk_jp_at(p, '{'))
        return wk_jp_unexpected(p, "a value");
    const int op = p->now.op;
    WK_TRY(wk_jp_next(p));
    if (op == '[') return list(p);
    if (op == '{') return dict(p);
    WK_TRY(wk_jp_tuple(p, true, true));
    return wk_jp_expect(p, ')', "')'");
}

/* ---- calls, access, filters, tests ------------------------------------------------------------- */

static int one_arg(wk_jp *p, args *a) {
    WK_TRY(wk_jp_peek(p));
    if (wk_jp_at(p, '*') || wk_jp_at(p, WK_JT_POW))
        return wk_jp_fail(p, "not supported in a call:", p->now.text);
    if (p->now.kind == WK_JT_NAME && p->ahead.kind == WK_JT_OP && p->ahead.op == '=') {
        if (a->n_kw == MAX_KEYWORDS) return wk_jp_fail(p, "too many arguments before", p->now.text);
        WK_TRY(wk_jp_name(p, &a->kw[a->n_kw++]));
        WK_TRY(wk_jp_next(p));
        return wk_jp_expr(p, true);
    }
    if (a->n_kw) return wk_jp_unexpected(p, "a keyword argument");
    if (a->n++ == MAX_ARGS) return wk_jp_fail(p, "too many arguments before", p->now.text);
    return wk_jp_expr(p, true);
}

static int call_args(wk_jp *p, args *a) {
    a->n = a->n_kw = 0;
    WK_TRY(wk_jp_next(p)); /* ( */
    while (!wk_jp_at(p, ')')) {
        WK_TRY(one_arg(p, a));
        if (wk_jp_at(p, ')')) break;
        WK_TRY(wk_jp_expect(p, ',', "',' or ')'"));
    }
    return wk_jp_next(p);
}

/* A call by op, with its keywords stored in the template. */
static int emit_call(wk_jp *p, int op, const args *a, int32_t d) {
    wk_jinja *t = p->t;
    const int32_t first = (int32_t)t->n_keyword;
    for (int i = 0; i < a->n_kw; i++) {
        if (!wk_j_grow(&t->keyword, &t->room_keyword, t->n_keyword, sizeof(uint32_t)))
            return wk_jp_no_memory(p);
        t->keyword[t->n_keyword++] = a->kw[i];
    }
    return wk_jp_emit(
        p,
        (wk_jop){.op = (uint8_t)op, .a = (uint8_t)a->n, .b = (uint8_t)a->n_kw, .c = first, .d = d});
}

/* A call of what stands on the stack; right after x.name it becomes a method call. */
static int call(wk_jp *p, size_t attr_at) {
    args a;
    int op = WK_JOP_CALL;
    int32_t name = 0;
    if (attr_at + 1 == p->t->n_op) {
        op = WK_JOP_METHOD;
        name = p->t->op[attr_at].c;
        p->t->n_op = attr_at;
    }
    WK_TRY(call_args(p, &a));
    return emit_call(p, op, &a, name);
}

static int slice_bound(wk_jp *p, uint8_t bit, uint8_t *mask) {
    if (wk_jp_at(p, ':') || wk_jp_at(p, ']')) return WICK_OK;
    *mask |= bit;
    return wk_jp_expr(p, true);
}

static int subscript(wk_jp *p) {
    uint8_t mask = 0;
    WK_TRY(wk_jp_next(p)); /* [ */
    if (wk_jp_at(p, ']')) return wk_jp_unexpected(p, "a value");
    WK_TRY(slice_bound(p, 1, &mask));
    if (wk_jp_at(p, ']')) {
        WK_TRY(wk_jp_next(p));
        return WK_JP_EMIT(p, ITEM, .a = 0);
    }
    WK_TRY(wk_jp_expect(p, ':', "']' or ':'"));
    WK_TRY(slice_bound(p, 2, &mask));
    if (wk_jp_at(p, ':')) {
        WK_TRY(wk_jp_next(p));
        WK_TRY(slice_bound(p, 4, &mask));
    }
    WK_TRY(wk_jp_expect(p, ']', "']'"));
    return WK_JP_EMIT(p, SLICE, .a = mask);
}

static int attribute(wk_jp *p) {
    uint32_t id;
    int64_t index;
    WK_TRY(wk_jp_next(p)); /* . */
    if (p->now.kind == WK_JT_INT) {
        WK_TRY(integer(p, &index));
        WK_TRY(wk_jp_next(p));
        WK_TRY(emit_constant(p, wk_j_int(index)));
        return WK_JP_EMIT(p, ITEM, .a = 0);
    }
    WK_TRY(wk_jp_name(p, &id));
    return WK_JP_EMIT(p, ATTR, .c = (int32_t)id);
}

static int postfix(wk_jp *p) {
    size_t attr_at = SIZE_MAX - 1;
    for (;;) {
        if (wk_jp_at(p, '.')) {
            WK_TRY(attribute(p));
            if (p->t->op[p->t->n_op - 1].op == WK_JOP_ATTR) attr_at = p->t->n_op - 1;
        } else if (wk_jp_at(p, '['))
            WK_TRY(subscript(p));
        else if (wk_jp_at(p, '('))
            WK_TRY(call(p, attr_at));
        else
            return WICK_OK;
    }
}

int wk_jp_filter(wk_jp *p) {
    args a = {0};
    const wk_jtoken name = p->now;
    if (name.kind != WK_JT_NAME) return wk_jp_unexpected(p, "the name of a filter");
    const wk_jrow *row = wk_j_find_filter(name.text);
    if (!row) return wk_jp_fail(p, "unknown filter", name.text);
    WK_TRY(wk_jp_next(p));
    if (wk_jp_at(p, '(')) WK_TRY(call_args(p, &a));
    return emit_call(p, WK_JOP_FILTER, &a, (int32_t)(row - wk_j_find_filter(WK_STR(""))));
}

static bool at_argument(const wk_jp *p) {
    if (p->now.kind == WK_JT_NAME)
        return !wk_jp_at_name(p, "else") && !wk_jp_at_name(p, "or") && !wk_jp_at_name(p, "and") &&
               !wk_jp_at_name(p, "if") && !wk_jp_at_name(p, "is") && !wk_jp_at_name(p, "in") &&
               !wk_jp_at_name(p, "not");
    return p->now.kind == WK_JT_STR || p->now.kind == WK_JT_INT || p->now.kind == WK_JT_REAL ||
           wk_jp_at(p, '[') || wk_jp_at(p, '{');
}

static int test(wk_jp *p) {
    args a = {0};
    WK_TRY(wk_jp_next(p)); /* is */
    const bool negated = wk_jp_at_name(p, "not");
    if (negated) WK_TRY(wk_jp_next(p));
    const wk_jtoken name = p->now;
    if (name.kind != WK_JT_NAME) return wk_jp_unexpected(p, "the name of a test");
    const wk_jrow *row = wk_j_find_test(name.text);
    if (!row) return wk_jp_fail(p, "unknown test", name.text);
    WK_TRY(wk_jp_next(p));
    if (wk_jp_at_name(p, "is")) return wk_jp_unexpected(p, "an operator");
    if (wk_jp_at(p, '('))
        WK_TRY(call_args(p, &a));
    else if (at_argument(p)) {
        a.n = 1;
        WK_TRY(primary(p));
        WK_TRY(postfix(p));
    }
    WK_TRY(emit_call(p, WK_JOP_TEST, &a, (int32_t)(row - wk_j_find_test(WK_STR("")))));
    return negated ? WK_JP_EMIT(p, NOT, .a = 0) : WICK_OK;
}

static int filters_and_tests(wk_jp *p) {
    for (;;) {
        if (wk_jp_at(p, '|')) {
            WK_TRY(wk_jp_next(p));
            WK_TRY(wk_jp_filter(p));
        } else if (wk_jp_at_name(p, "is"))
            WK_TRY(test(p));
        else if (wk_jp_at(p, '('))
            WK_TRY(call(p, SIZE_MAX - 1));
        else
            return WICK_OK;
    }
}

/* ---- operators --------------------------------------------------------------------------------- */

enum { BIND_OR = 1, BIND_AND, BIND_NOT, BIND_COMPARE, BIND_ADD, BIND_CONCAT, BIND_MUL, BIND_POW };

static int unary(wk_jp *p, bool with_filter) {
    if (wk_jp_at(p, '-') || wk_jp_at(p, '+')) {
        const bool minus = p->now.op == '-';
        WK_TRY(wk_jp_deeper(p));
        WK_TRY(wk_jp_next(p));
        WK_TRY(unary(p, false));
        p->depth--;
        WK_TRY(WK_JP_EMIT(p, SIGN, .a = minus));
    } else
        WK_TRY(primary(p));
    WK_TRY(postfix(p));
    return with_filter ? filters_and_tests(p) : WICK_OK;
}

typedef struct operator{
    int token; /* of WK_JT_OP, or 0 and a name */
    const char *name;
    int bind;
    uint8_t op, what;
}
operator;

/* The binary operator that stands here, NULL if none. */
static int find_operator(wk_jp *p, const operator** o) {
    static const operator table[] = {
        {0, "or", BIND_OR, WK_JOP_OR, 0},
        {0, "and", BIND_AND, WK_JOP_AND, 0},
        {WK_JT_EQ, NULL, BIND_COMPARE, WK_JOP_COMPARE, WK_J_EQ},
        {WK_JT_NE, NULL, BIND_COMPARE, WK_JOP_COMPARE, WK_J_NE},
        {'<', NULL, BIND_COMPARE, WK_JOP_COMPARE, WK_J_LT},
        {WK_JT_LE, NULL, BIND_COMPARE, WK_JOP_COMPARE, WK_J_LE},
        {'>', NULL, BIND_COMPARE, WK_JOP_COMPARE, WK_J_GT},
        {WK_JT_GE, NULL, BIND_COMPARE, WK_JOP_COMPARE, WK_J_GE},
        {0, "in", BIND_COMPARE, WK_JOP_COMPARE, WK_J_IN},
        {0, "not", BIND_COMPARE, WK_JOP_COMPARE, WK_J_NOT_IN},
        {'+', NULL, BIND_ADD, WK_JOP_MATH, WK_J_ADD},
        {'-', NULL, BIND_ADD, WK_JOP_MATH, WK_J_SUB},
        {'~', NULL, BIND_CONCAT, WK_JOP_CONCAT, 0},
        {'*', NULL, BIND_MUL, WK_JOP_MATH, WK_J_MUL},
        {'/', NULL, BIND_MUL, WK_JOP_MATH, WK_J_DIV},
        {WK_JT_FLOORDIV, NULL, BIND_MUL, WK_JOP_MATH, WK_J_FLOORDIV},
        {'%', NULL, BIND_MUL, WK_JOP_MATH, WK_J_MOD},
        {WK_JT_POW, NULL, BIND_POW, WK_JOP_MATH, WK_J_POW},
    };
    *o = NULL;
    for (size_t i = 0; i < WK_COUNT(table); i++)
        if (table[i].name ? wk_jp_at_name(p, table[i].name) : wk_jp_at(p, table[i].token))
            *o = &table[i];
    if (!*o || (*o)->what != WK_J_NOT_IN || (*o)->bind != BIND_COMPARE) return WICK_OK;
    WK_TRY(wk_jp_peek(p));
    if (p->ahead.kind != WK_JT_NAME || !wk_str_is(p->ahead.text, "in")) *o = NULL;
    return WICK_OK;
}

static int take_operator(wk_jp *p, const operator* o) {
    if (o->bind == BIND_COMPARE && o->what == WK_J_NOT_IN) WK_TRY(wk_jp_next(p));
    return wk_jp_next(p);
}

/* a < b < c is a < b and b < c, with b computed once. */
static int compare(wk_jp *p, const operator* o) {
    size_t chain = 0; /* the last CHAIN + 1 */
    for (;;) {
        const uint8_t what = o->what;
        WK_TRY(take_operator(p, o));
        WK_TRY(binary(p, BIND_COMPARE + 1));
        WK_TRY(find_operator(p, &o));
        if (!o || o->bind != BIND_COMPARE) {
            WK_TRY(WK_JP_EMIT(p, COMPARE, .a = what));
            break;
        }
        WK_TRY(WK_JP_EMIT(p, CHAIN, .a = what, .c = (int32_t)chain));
        chain = p->t->n_op;
    }
    while (chain) {
        const size_t at = chain - 1;
        chain = (size_t)p->t->op[at].c;
        wk_jp_land(p, at);
    }
    return WICK_OK;
}

static int apply(wk_jp *p, const operator* o) {
    const size_t at = p->t->n_op;
    if (o->bind == BIND_COMPARE) return compare(p, o);
    WK_TRY(take_operator(p, o));
    if (o->bind <= BIND_AND) {
        WK_TRY(wk_jp_emit(p, (wk_jop){.op = o->op}));
        WK_TRY(binary(p, o->bind + 1));
        wk_jp_land(p, at);
        return WICK_OK;
    }
    WK_TRY(binary(p, o->bind + 1));
    return wk_jp_emit(p, (wk_jop){.op = o->op, .a = o->what});
}

static int binary(wk_jp *p, int min) {
    if (min <= BIND_NOT && wk_jp_at_name(p, "not")) {
        WK_TRY(wk_jp_deeper(p));
        WK_TRY(wk_jp_next(p));
        WK_TRY(binary(p, BIND_NOT));
        p->depth--;
        WK_TRY(WK_JP_EMIT(p, NOT, .a = 0));
    } else
        WK_TRY(unary(p, true));
    for (;;) {
        const operator* o;
        WK_TRY(find_operator(p, &o));
        if (!o || o->bind < min) return WICK_OK;
        WK_TRY(apply(p, o));
    }
}

/* x if c else y. The code of x is there before we see the if: it moves one step down, behind a jump.
 *   jump C; X: x; jump END; C: c; jump_not Y; jump X; Y: y; END */
static int ternary_tail(wk_jp *p, size_t begin) {
    wk_jinja *t = p->t;
    WK_TRY(WK_JP_EMIT(p, JUMP, .c = 0));
    memmove(t->op + begin + 1, t->op + begin, (t->n_op - 1 - begin) * sizeof(wk_jop));
    t->op[begin] = (wk_jop){.op = WK_JOP_JUMP, .line = p->line};
    const size_t to_end = t->n_op;
    WK_TRY(WK_JP_EMIT(p, JUMP, .c = 0));
    wk_jp_land(p, begin);
    WK_TRY(wk_jp_next(p)); /* if */
    WK_TRY(binary(p, BIND_OR));
    const size_t to_else = t->n_op;
    WK_TRY(WK_JP_EMIT(p, JUMP_NOT, .c = 0));
    WK_TRY(WK_JP_EMIT(p, JUMP, .c = wk_jp_back_to(p, begin + 1)));
    wk_jp_land(p, to_else);
    if (wk_jp_at_name(p, "else")) {
        WK_TRY(wk_jp_next(p));
        WK_TRY(wk_jp_expr(p, true));
    } else
        WK_TRY(WK_JP_EMIT(p, CONST, .c = WK_JP_UNDEF));
    wk_jp_land(p, to_end);
    return WICK_OK;
}

int wk_jp_expr(wk_jp *p, bool ternary) {
    const size_t begin = p->t->n_op;
    const int depth = p->depth;
    WK_TRY(wk_jp_deeper(p));
    WK_TRY(binary(p, BIND_OR));
    while (ternary && wk_jp_at_name(p, "if")) {
        WK_TRY(wk_jp_deeper(p));
        WK_TRY(ternary_tail(p, begin));
    }
    p->depth = depth;
    return WICK_OK;
}

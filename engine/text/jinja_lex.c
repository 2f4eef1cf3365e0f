/* jinja_lex.c: the lexer. Outside tags it looks for the next tag and trims the text before it; inside tags
 * it reads one token a call. */
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/jinja_lex.h"
#include "engine/text/jinja_val.h"

void wk_jlex_init(wk_jlex *x, wk_str src, wk_err *err) {
    *x = (wk_jlex){.p = src.p,
                   .end = src.p + src.n,
                   .line = 1,
                   .at_line_start = true,
                   .mode = WK_JT_DATA,
                   .err = err};
}

static int bad(const wk_jlex *x, const char *what) {
    return wk_fail(x->err, WICK_E_TEMPLATE, "template line %u: %s", x->line, what);
}

static void advance(wk_jlex *x, const char *to) {
    for (; x->p < to; x->p++) x->line += *x->p == '\n';
}

static const char *skip_space(const char *p, const char *end) {
    uint32_t cp;
    int len;
    while (p < end && (len = wk_utf8_decode(p, (size_t)(end - p), &cp)) > 0 && wk_j_is_space(cp))
        p += len;
    return p;
}

static const char *back_space(const char *begin, const char *end) {
    while (end > begin) {
        const char *p = end - 1;
        uint32_t cp;
        while (p > begin && ((uint8_t)*p & 0xc0u) == 0x80u) p--;
        if (!wk_utf8_decode(p, (size_t)(end - p), &cp) || !wk_j_is_space(cp)) break;
        end = p;
    }
    return end;
}

/* ---- outside tags ------------------------------------------------------------------------------ */

static const char *find_tag(const char *p, const char *end) {
    while (p && p < end) {
        p = (const char *)memchr(p, '{', (size_t)(end - p));
        if (!p || end - p < 2) return NULL;
        if (p[1] == '%' || p[1] == '{' || p[1] == '#') return p;
        p++;
    }
    return NULL;
}

/* The end of the text before a tag: '-' takes all white space, a block takes its own indentation. */
static const char *text_end(const wk_jlex *x, const char *tag, char sign) {
    if (sign == '-') return back_space(x->p, tag);
    if (sign == '+' || tag[1] == '{') return tag;
    const char *line = tag;
    while (line > x->p && line[-1] != '\n') line--;
    if (line == x->p && !x->at_line_start) return tag;
    return skip_space(line, tag) == tag ? line : tag;
}

/* After the end of a tag: '-' skips white space, a block or comment takes one line end. */
static void after_tag(wk_jlex *x, const char *p, char sign, bool is_print) {
    if (sign == '-')
        p = skip_space(p, x->end);
    else if (sign != '+' && !is_print && p < x->end && *p == '\n')
        p++;
    advance(x, p);
    x->at_line_start = p[-1] == '\n';
    x->mode = WK_JT_DATA;
}

static int skip_comment(wk_jlex *x, const char *begin) {
    const char *p = begin;
    while (p + 1 < x->end && !(p[0] == '#' && p[1] == '}')) p++;
    if (p + 1 >= x->end) return bad(x, "a comment has no end");
    after_tag(x, p + 2, p > begin ? p[-1] : 0, false);
    return WICK_OK;
}

static int outside(wk_jlex *x, wk_jtoken *t) {
    while (x->p < x->end) {
        const char *tag = find_tag(x->p, x->end), *begin = x->p;
        const uint32_t line = x->line;
        if (!tag) tag = x->end;
        const bool any = tag < x->end;
        const char sign = any && tag + 2 < x->end ? tag[2] : 0;
        const char *stop = any ? text_end(x, tag, sign) : tag;
        const bool signs = sign == '-' || sign == '+';
        advance(x, any ? tag + 2 + signs : tag);
        if (any && tag[1] == '#')
            WK_TRY(skip_comment(x, x->p));
        else if (any) {
            x->mode = tag[1] == '%' ? WK_JT_BLOCK : WK_JT_PRINT;
            x->pending = (wk_jtoken){.kind = x->mode, .line = x->line};
        }
        *t = (wk_jtoken){.kind = WK_JT_DATA, .text = {begin, (size_t)(stop - begin)}, .line = line};
        if (stop > begin) return WICK_OK;
        if (x->pending.kind) {
            *t = x->pending;
            x->pending.kind = 0;
            return WICK_OK;
        }
    }
    *t = (wk_jtoken){.kind = WK_JT_END, .line = x->line};
    return WICK_OK;
}

/* ---- inside tags ------------------------------------------------------------------------------- */

static bool tag_end(wk_jlex *x, wk_jtoken *t) {
    const bool block = x->mode == WK_JT_BLOCK;
    const char *p = x->p, mark = block ? '%' : '}';
    const char sign = *p == '-' || (block && *p == '+') ? *p : 0;
    if (sign) p++;
    if (x->n_open || x->end - p < 2 || p[0] != mark || p[1] != '}') return false;
    *t = (wk_jtoken){.kind = block ? WK_JT_BLOCK_END : WK_JT_PRINT_END, .line = x->line};
    after_tag(x, p + 2, sign, !block);
    return true;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' ||
           (uint8_t)c >= 0x80;
}

static const char *digits(const wk_jlex *x, const char *p) {
    while (p < x->end && (is_digit(*p) || (*p == '_' && p + 1 < x->end && is_digit(p[1])))) p++;
    return p;
}

static void number(wk_jlex *x, wk_jtoken *t) {
    const char *p = digits(x, x->p), *q = p;
    t->kind = WK_JT_INT;
    if (p == x->p + 1 && *x->p == '0' && p < x->end && strchr("xXoObB", *p)) {
        while (p < x->end && is_name(*p)) p++;
    } else {
        if (p + 1 < x->end && *p == '.' && is_digit(p[1])) q = digits(x, p + 1);
        const char *e = q + 1;
        if (q < x->end && (*q == 'e' || *q == 'E')) {
            if (e < x->end && (*e == '-' || *e == '+')) e++;
            if (e < x->end && is_digit(*e)) q = digits(x, e);
        }
        if (q > p) t->kind = WK_JT_REAL;
        p = q;
    }
    t->text = (wk_str){x->p, (size_t)(p - x->p)};
}

static int string(wk_jlex *x, wk_jtoken *t) {
    const char *p = x->p + 1;
    while (p < x->end && *p != *x->p) p += *p == '\\' ? 2 : 1;
    if (p >= x->end) return bad(x, "a string has no end");
    t->kind = WK_JT_STR;
    t->text = (wk_str){x->p + 1, (size_t)(p - x->p - 1)};
    advance(x, p + 1);
    return WICK_OK;
}

static int bracket(wk_jlex *x, char c) {
    static const char opening[] = "([{", closing[] = ")]}";
    const char *at = strchr(opening, c);
    if (at && x->n_open == WK_JLEX_NEST) return bad(x, "nested deeper than 100");
    if (at)
        x->open[x->n_open++] = closing[at - opening];
    else if (x->n_open == 0 || x->open[--x->n_open] != c)
        return bad(x, "a bracket closes that was not opened");
    return WICK_OK;
}

static int op(wk_jlex *x, wk_jtoken *t) {
    static const struct {
        char text[3];
        int op;
    } pair[] = {{"==", WK_JT_EQ}, {"!=", WK_JT_NE},       {">=", WK_JT_GE},
                {"<=", WK_JT_LE}, {"//", WK_JT_FLOORDIV}, {"**", WK_JT_POW}};
    const char c = *x->p;
    t->kind = WK_JT_OP;
    t->text = (wk_str){x->p, 1};
    t->op = c;
    for (size_t i = 0; i < WK_COUNT(pair); i++) {
        if (x->end - x->p < 2 || memcmp(x->p, pair[i].text, 2) != 0) continue;
        t->op = pair[i].op;
        t->text.n = 2;
    }
    if (t->text.n == 1 && (c == 0 || !strchr("+-/*%~[](){}><=.:|,", c))) {
        const wk_shown shown = wk_show((wk_str){x->p, 1});
        return wk_fail(x->err, WICK_E_TEMPLATE, "template line %u: a tag has the character '%s'",
                       x->line, shown.text);
    }
    if (t->text.n == 1 && strchr("[](){}", c)) WK_TRY(bracket(x, c));
    x->p += t->text.n;
    return WICK_OK;
}

static int inside(wk_jlex *x, wk_jtoken *t) {
    advance(x, skip_space(x->p, x->end));
    if (x->p >= x->end) return bad(x, "a tag has no end");
    if (tag_end(x, t)) return WICK_OK;
    *t = (wk_jtoken){.line = x->line};
    if (*x->p == '"' || *x->p == '\'') return string(x, t);
    if (!is_name(*x->p)) return op(x, t);
    if (is_digit(*x->p))
        number(x, t);
    else {
        const char *p = x->p;
        while (p < x->end && is_name(*p)) p++;
        *t = (wk_jtoken){.kind = WK_JT_NAME, .text = {x->p, (size_t)(p - x->p)}, .line = x->line};
    }
    x->p = t->text.p + t->text.n;
    return WICK_OK;
}

int wk_jlex_next(wk_jlex *x, wk_jtoken *t) {
    if (x->pending.kind) {
        *t = x->pending;
        x->pending.kind = 0;
        return WICK_OK;
    }
    return x->mode == WK_JT_DATA ? outside(x, t) : inside(x, t);
}

/* pretok.c: the scanners. A regular expression of alternatives takes the first that matches, so each
 * alternative is a function that returns the bytes it takes, 0 = no match.
 *
 * Character classes come from unicode.def (Unicode 16, as the reference tokenizers have it) and not from
 * a library of the system: ids must not depend on the machine. PCRE2 was rejected: the expressions are
 * two, and the scanners need no limits. A byte that is not UTF-8 counts as a symbol of its own. */
#include "engine/text/pretok.h"

#include <stdint.h>

#include "engine/base/attr.h"
#include "engine/base/utf8.h"

static const wk_pretok families[] = {
#define X(name, shape, digits, alone, whole, bos) {name, WK_PRETOK_##shape, digits, alone, whole, bos},
#include "engine/text/pretok.def"
#undef X
};

const char *wk_pretok_name(size_t i) { return i < WK_COUNT(families) ? families[i].name : NULL; }

const wk_pretok *wk_pretok_find(wk_str name) {
    for (size_t i = 0; i < WK_COUNT(families); i++)
        if (wk_str_is(name, families[i].name)) return &families[i];
    return NULL;
}

/* ---- character classes ------------------------------------------------------------------------- */

enum { CLASS_OTHER, CLASS_L, CLASS_N, CLASS_S, CLASS_D };

typedef struct span {
    uint32_t first, last;
    uint8_t class_of;
} span;
static const span spans[] = {
#define X(first, last, c) {first, last, CLASS_##c},
#include "engine/text/unicode.def"
#undef X
};

static int class_search(uint32_t cp) {
    size_t lo = 0, hi = WK_COUNT(spans);
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (cp > spans[mid].last)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < WK_COUNT(spans) && cp >= spans[lo].first ? spans[lo].class_of : CLASS_OTHER;
}

static int class_ascii(uint8_t b) {
    const uint8_t low = b | 0x20u;
    if (low >= 'a' && low <= 'z') return CLASS_L;
    if (b >= '0' && b <= '9') return CLASS_N;
    return b == ' ' || (b >= 9 && b <= 13) ? CLASS_S : CLASS_OTHER;
}

typedef struct glyph {
    size_t n; /* bytes, 0 = end of the text */
    int class_of;
    bool is_digit; /* to families that cut numbers out */
    uint32_t cp;
} glyph;

static glyph glyph_at(wk_str s, size_t i) {
    if (i >= s.n) return (glyph){0, -1, false, 0};
    const uint8_t b = (uint8_t)s.p[i];
    if (b < 0x80) return (glyph){1, class_ascii(b), b >= '0' && b <= '9', b};
    uint32_t cp;
    const int n = wk_utf8_decode(s.p + i, s.n - i, &cp);
    if (n == 0) return (glyph){1, CLASS_OTHER, false, UINT32_MAX};
    const bool is_common = (cp >= 0x4e00 && cp <= 0x9fff) || (cp >= 0xac00 && cp <= 0xd7a3);
    const int c = is_common ? CLASS_L : class_search(cp);
    return (glyph){(size_t)n, c == CLASS_D ? CLASS_OTHER : c, c == CLASS_N || c == CLASS_D, cp};
}

/* Bytes of the run of up to `most` characters of one class that begins at i. */
static size_t run_of(wk_str s, size_t i, int class_of, size_t most) {
    const size_t from = i;
    for (; most > 0; most--) {
        const glyph g = glyph_at(s, i);
        if (g.class_of != class_of) break;
        i += g.n;
    }
    return i - from;
}

/* ---- alternatives ------------------------------------------------------------------------------ */

/* 's|'t|'re|'ve|'m|'ll|'d. Without regard to case, U+017F (long s) is an s too. */
static size_t take_contraction(wk_str s, bool any_case) {
    if (s.n < 2 || s.p[0] != '\'') return 0;
    const char fold = any_case ? 0x20 : 0;
    const char a = (char)(s.p[1] | fold);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (s.n < 3) return 0;
    if (any_case && s.p[1] == '\xc5' && s.p[2] == '\xbf') return 3;
    const char b = (char)(s.p[2] | fold);
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* " ?" and a run of one class. */
static size_t take_spaced(wk_str s, int class_of) {
    const size_t lead = s.p[0] == ' ';
    const size_t n = run_of(s, lead, class_of, SIZE_MAX);
    return n ? lead + n : 0;
}

/* [^\r\n\p{L}\p{N}]?\p{L}+ */
static size_t take_letters(wk_str s) {
    const glyph g = glyph_at(s, 0);
    if (g.class_of == CLASS_N || g.cp == '\r' || g.cp == '\n') return 0;
    if (g.class_of == CLASS_L) return run_of(s, 0, CLASS_L, SIZE_MAX);
    const size_t n = run_of(s, g.n, CLASS_L, SIZE_MAX);
    return n ? g.n + n : 0;
}

static bool is_newline(char c) { return c == '\r' || c == '\n'; }

/* " ?[^\s\p{L}\p{N}]+[\r\n]*" */
static size_t take_symbols(wk_str s) {
    size_t n = take_spaced(s, CLASS_OTHER);
    while (n && n < s.n && is_newline(s.p[n])) n++;
    return n;
}

/* \s*[\r\n]+ | \s+(?!\S) | \s+, the first only where newlines is set. s begins with white space. */
static size_t take_space(wk_str s, bool newlines) {
    size_t n = 0, last = 0, line_end = 0;
    glyph g;
    while ((g = glyph_at(s, n)).class_of == CLASS_S) {
        last = n;
        n += g.n;
        if (is_newline(s.p[last])) line_end = n;
    }
    if (newlines && line_end) return line_end;
    return n < s.n && last > 0 ? last : n; /* the last one goes to the word that follows */
}

static size_t cut_gpt2(wk_str s) {
    size_t n = take_contraction(s, false);
    if (!n) n = take_spaced(s, CLASS_L);
    if (!n) n = take_spaced(s, CLASS_N);
    if (!n) n = take_spaced(s, CLASS_OTHER);
    return n ? n : take_space(s, false);
}

static size_t cut_cl100k(wk_str s, size_t max_digits) {
    size_t n = take_contraction(s, true);
    if (!n) n = take_letters(s);
    if (!n) n = run_of(s, 0, CLASS_N, max_digits);
    if (!n) n = take_symbols(s);
    return n ? n : take_space(s, true);
}

/* ---- the walk ---------------------------------------------------------------------------------- */

wk_pretok_walk wk_pretok_start(const wk_pretok *pre, wk_str text) {
    return (wk_pretok_walk){pre, text, pre->digits_alone ? 0 : text.n};
}

/* Bytes before the next number. */
static size_t up_to_number(wk_str s) {
    size_t i = 0;
    for (glyph g; (g = glyph_at(s, i)).n && !g.is_digit;) i += g.n;
    return i;
}

bool wk_pretok_next(wk_pretok_walk *w, wk_str *word) {
    if (w->left.n == 0) return false;
    if (w->until == 0) w->until = up_to_number(w->left);
    wk_str s = {w->left.p, w->until};
    if (w->until == 0)
        s.n = glyph_at(w->left, 0).n;
    else if (w->pre->shape == WK_PRETOK_GPT2)
        s.n = cut_gpt2(s);
    else
        s.n = cut_cl100k(s, (size_t)w->pre->max_digits);
    w->until -= w->until ? s.n : 0;
    w->left.p += s.n;
    w->left.n -= s.n;
    *word = s;
    return true;
}

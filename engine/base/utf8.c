/* utf8.c: strict UTF-8, and the Unicode classes that tokenizers ask for (utf8proc). */
#include "engine/base/utf8.h"

#include <utf8proc.h>

int wk_utf8_lead(uint8_t b) {
    if (b < 0x80) return 1;
    if (b < 0xc2) return 0; /* continuation bytes, and leads of overlong pairs */
    if (b < 0xe0) return 2;
    if (b < 0xf0) return 3;
    return b < 0xf5 ? 4 : 0;
}

int wk_utf8_decode(const char *p, size_t n, uint32_t *cp) {
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (n == 0) return 0;
    const uint8_t lead = (uint8_t)p[0];
    const int len = wk_utf8_lead(lead);
    if (len == 0 || (size_t)len > n) return 0;
    uint32_t c = len == 1 ? lead : lead & (0x7fu >> len);
    for (int i = 1; i < len; i++) {
        const uint8_t b = (uint8_t)p[i];
        if ((b & 0xc0u) != 0x80u) return 0;
        c = (c << 6) | (b & 0x3fu);
    }
    if (c < smallest[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    *cp = c;
    return len;
}

int wk_utf8_encode(char out[4], uint32_t cp) {
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) return 0;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    const int len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80u | (cp & 0x3fu));
        cp >>= 6;
    }
    out[0] = (char)((0xf00u >> len) | cp); /* 110, 1110 or 11110 and the top bits */
    return len;
}

bool wk_utf8_valid(wk_str s) {
    uint32_t cp;
    for (size_t i = 0; i < s.n;) {
        const int len = wk_utf8_decode(s.p + i, s.n - i, &cp);
        if (!len) return false;
        i += (size_t)len;
    }
    return true;
}

size_t wk_utf8_count(wk_str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((uint8_t)s.p[i] & 0xc0u) != 0x80u;
    return n;
}

/* Category of a code point; values beyond Unicode are unassigned. */
static utf8proc_category_t category(uint32_t cp) {
    return cp > 0x10ffff ? UTF8PROC_CATEGORY_CN : utf8proc_category((utf8proc_int32_t)cp);
}

bool wk_cp_is_letter(uint32_t cp) {
    const utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}
bool wk_cp_is_mark(uint32_t cp) {
    const utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME;
}
bool wk_cp_is_number(uint32_t cp) {
    const utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}
bool wk_cp_is_punct(uint32_t cp) {
    const utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}
bool wk_cp_is_symbol(uint32_t cp) {
    const utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_SM && c <= UTF8PROC_CATEGORY_SO;
}

bool wk_cp_is_space(uint32_t cp) {
    if (cp <= 0x20) return cp == 0x20 || (cp >= 9 && cp <= 13);
    if (cp == 0x85 || cp == 0xa0 || cp == 0x1680) return true;
    if (cp >= 0x2000 && cp <= 0x200a) return true;
    return cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

uint32_t wk_cp_lower(uint32_t cp) {
    return cp > 0x10ffff ? cp : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}
uint32_t wk_cp_upper(uint32_t cp) {
    return cp > 0x10ffff ? cp : (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
}

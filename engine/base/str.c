/* str.c: foreign text made safe to print: nothing in it can move the cursor, end the line or turn the
 * reading direction of what follows. */
#include "engine/base/str.h"

#include <stdint.h>

#include "engine/base/utf8.h"

enum { SHOW_MAX = 80 };

/* Code points that are valid but must not reach a terminal or a log as they are. */
static bool is_unsafe(uint32_t cp) {
    if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) return true;       /* C0, DEL, C1 */
    if (cp == 0x061c || cp == 0x200e || cp == 0x200f) return true; /* bidi marks */
    if (cp == 0x2028 || cp == 0x2029) return true; /* line and paragraph separator */
    return (cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069); /* bidi embeddings */
}

/* One code point or one bad byte as it is shown; *used bytes of the input. At most 16 bytes. */
static size_t show_one(char out[16], wk_str s, size_t *used) {
    static const char hex[] = "0123456789abcdef";
    uint32_t cp = 0;
    const int n = wk_utf8_decode(s.p, s.n, &cp);
    *used = n ? (size_t)n : 1;
    if (n && !is_unsafe(cp)) {
        memcpy(out, s.p, (size_t)n);
        return (size_t)n;
    }
    for (size_t i = 0; i < *used; i++) {
        const uint8_t b = (uint8_t)s.p[i];
        const char esc[4] = {'\\', 'x', hex[b >> 4], hex[b & 15]};
        memcpy(out + 4 * i, esc, 4);
    }
    return 4 * *used;
}

wk_shown wk_show(wk_str s) {
    wk_shown r;
    size_t at = 0;
    while (s.n) {
        char one[16];
        size_t used;
        const size_t n = show_one(one, s, &used);
        if (at + n > SHOW_MAX) {
            memcpy(r.text + at, "\xe2\x80\xa6", 3); /* ... as one character */
            at += 3;
            break;
        }
        memcpy(r.text + at, one, n);
        at += n;
        s = (wk_str){s.p + used, s.n - used};
    }
    r.text[at] = '\0';
    return r;
}

/* utf8.h: decode, encode, validate. Strict (RFC 3629): no surrogates, no overlong forms. */
#ifndef WK_UTF8_H
#define WK_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/str.h"

/* Bytes of the code point at p (1..4), 0 if the bytes are not valid UTF-8 or n is too small. */
int wk_utf8_decode(const char *p, size_t n, uint32_t *cp);
/* Writes 1..4 bytes; 0 for a value that is no code point. */
int wk_utf8_encode(char out[4], uint32_t cp);
bool wk_utf8_valid(wk_str s);
/* Length that a lead byte announces: 1..4, or 0 for a byte that cannot start a code point. */
int wk_utf8_lead(uint8_t b);
/* Number of code points of valid text. */
size_t wk_utf8_count(wk_str s);

/* Unicode classes and simple case of a code point (utf8proc; the only file that includes it). */
bool wk_cp_is_letter(uint32_t cp); /* \p{L} */
bool wk_cp_is_number(uint32_t cp); /* \p{N} */
bool wk_cp_is_mark(uint32_t cp);   /* \p{M} */
bool wk_cp_is_punct(uint32_t cp);  /* \p{P} */
bool wk_cp_is_symbol(uint32_t cp); /* \p{S} */
bool wk_cp_is_space(uint32_t cp);  /* White_Space, the \s of the tokenizers' regexes */
uint32_t wk_cp_lower(uint32_t cp);
uint32_t wk_cp_upper(uint32_t cp);

#endif

/* pretok.h: cuts text into the words that byte-level BPE merges. Hand-written scanners that do exactly
 * what the families' regular expressions say (pretok.def); linear in the text. */
#ifndef WK_PRETOK_H
#define WK_PRETOK_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/str.h"

enum { WK_PRETOK_GPT2, WK_PRETOK_CL100K };

typedef struct wk_pretok {
    const char *name;
    int shape; /* WK_PRETOK_... */
    int max_digits;
    bool digits_alone, whole_words, adds_bos;
} wk_pretok;

const wk_pretok *wk_pretok_find(wk_str name); /* NULL: no such family */
const char *wk_pretok_name(size_t i);         /* NULL after the last */

/* A walk over text: `left` is what is still to be cut. */
typedef struct wk_pretok_walk {
    const wk_pretok *pre;
    wk_str left;
    size_t until; /* bytes of left up to the next number that stands alone */
} wk_pretok_walk;
wk_pretok_walk wk_pretok_start(const wk_pretok *pre, wk_str text);
/* The next word, never empty; false at the end. The words are the text, nothing is dropped. */
bool wk_pretok_next(wk_pretok_walk *w, wk_str *word);

#endif

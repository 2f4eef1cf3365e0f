/* stream.h: ids -> text that only ever ends at code point borders, and stop strings that never leak a
 * prefix. One record per generated choice; fixed memory after init. */
#ifndef WK_STREAM_H
#define WK_STREAM_H

#include "engine/base/buf.h"
#include "engine/text/tok.h"

typedef struct wk_stream {
    const wk_tok *tok;
    const wk_str *stop; /* borrowed */
    size_t n_stop, max_stop, max_piece;
    wk_buf held;        /* bytes not yet given out: an unfinished code point or a possible stop prefix */
    bool first;         /* the next text begins a sequence: SPM drops its leading space. Set by the
                         * caller after init (which sets false: a continuation keeps its space) */
    bool stopped;
} wk_stream;

int wk_stream_init(wk_stream *s, const wk_tok *tok, const wk_str *stop, size_t n_stop, size_t max_piece);
/* Adds one id, appends what may be shown to out. *stopped: a stop string was completed (its text and what
 * follows are not given out). Impossible bytes become U+FFFD. */
int wk_stream_put(wk_stream *s, int32_t id, wk_buf *out, bool *stopped);
/* Gives out the rest (unfinished code point -> U+FFFD). */
int wk_stream_end(wk_stream *s, wk_buf *out);
void wk_stream_fini(wk_stream *s);

#endif

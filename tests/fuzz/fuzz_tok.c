/* fuzz_tok.c: any GGUF as a tokenizer, any bytes as text. The input is a file; the text is its tail, and the
 * texts of its first tokens. User text must give no control token but the unknown one. */
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/utf8.h"
#include "engine/text/stream.h"
#include "engine/text/tok.h"

enum { TEXT = 400, IDS = 4 * TEXT };

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void try_user(const wk_tok *t, wk_str text) {
    int32_t id[IDS], control = -1;
    size_t k = 0;
    const wk_run run = {text, false};
    if (wk_tok_encode(t, &run, 1, WK_TOK_SPECIAL, id, IDS, &k)) __builtin_trap();
    if (k > IDS) k = IDS;
    for (size_t i = 0; i < k; i++) {
        if (id[i] < 0 || id[i] >= wk_tok_count(t)) __builtin_trap();
        if (!wk_tok_is_control(t, id[i])) continue;
        if (control >= 0 && control != id[i]) __builtin_trap();
        control = id[i];
    }
}

static void try_text(const wk_tok *t, wk_str text) {
    static const wk_str stop[] = {{"ab", 2}, {"\n", 1}};
    int32_t id[IDS];
    char buf[64];
    for (uint32_t flags = 0; flags < 4; flags++) {
        size_t k = 0, len = 0;
        const wk_run run[] = {{{text.p, text.n / 2}, true},
                              {{text.p + text.n / 2, text.n - text.n / 2}, false}};
        if (wk_tok_encode(t, run, 2, flags, id, IDS, &k)) __builtin_trap();
        if (k > IDS) k = IDS;
        (void)wk_tok_decode(t, id, k, flags, buf, sizeof(buf), &len); /* too small is an answer */
        wk_stream s;
        wk_buf out;
        bool stopped = false;
        wk_buf_init(&out, 0);
        if (wk_stream_init(&s, t, stop, 2, 5)) __builtin_trap();
        for (size_t i = 0; i < k; i++)
            if (wk_stream_put(&s, id[i], &out, &stopped)) __builtin_trap();
        if (wk_stream_end(&s, &out)) __builtin_trap();
        if (!wk_utf8_valid(wk_buf_str(&out))) __builtin_trap();
        wk_stream_fini(&s);
        wk_buf_fini(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    wk_err err = {0};
    wk_store *s = NULL;
    wk_tok *t = NULL;
    if (wk_store_open_memory(&s, p, n, "fuzz", &err)) return 0;
    const int rc = wk_tok_open(&t, s, &err);
    wk_store_close(s);
    if (rc) return 0;
    const size_t n_text = n < TEXT ? n : TEXT;
    const wk_str text = {(const char *)p + n - n_text, n_text};
    try_text(t, text);
    try_user(t, text);
    for (int32_t i = 0; i < wk_tok_count(t) && i < 300; i++) try_user(t, wk_tok_text(t, i));
    wk_tok_close(t);
    return 0;
}

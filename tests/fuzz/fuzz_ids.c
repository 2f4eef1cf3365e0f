/* fuzz_ids.c: any bytes as token ids of another program, by magic and raw: refused with a sentence that names the file, or
 * every id of it is handed on once, in order. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/train/data_impl.h"
#include "tests/unit/tok_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void want(bool b) {
    if (!b) __builtin_trap();
}

static wk_tok *make_tok(void) {
    fix f;
    static vocab v;
    wk_tok *t = NULL;
    v.n = 0;
    vocab_bytes(&v);
    vocab_add(&v, WK_STR("<s>"), 3, 0);
    vocab_add(&v, WK_STR("</s>"), 3, 0);
    fix_begin(&f);
    fix_meta_str(&f, "tokenizer.ggml.model", "gpt2");
    fix_meta_str(&f, "tokenizer.ggml.pre", "gpt-2");
    vocab_put(&v, &f, false);
    fix_strs(&f, "tokenizer.ggml.merges", NULL, 0);
    fix_meta_u32(&f, "tokenizer.ggml.bos_token_id", 256);
    fix_meta_u32(&f, "tokenizer.ggml.eos_token_id", 257);
    want(fix_open(&f, &t, NULL) == WICK_OK);
    return t;
}

typedef struct seen {
    const uint8_t *p;
    uint64_t n;
    uint32_t width;
} seen;

static int on_ids(void *ud, const wk_ids *x, wk_str key, wk_err *err) {
    seen *s = (seen *)ud;
    (void)err; /* nothing is refused here */
    want(x->n > 0 && key.n == x->n * s->width && (const uint8_t *)key.p == s->p + s->n * s->width);
    for (size_t i = 0; i < x->n; i++) want(x->id[i] >= 0 && x->id[i] < 258 && x->counted[i] == (x->id[i] != 256));
    s->n += x->n;
    return WICK_OK;
}

static void read_as(const wk_tok *tok, const uint8_t *p, size_t n, wk_raw_ids raw) {
    wk_id_file f;
    bool is = false;
    wk_err err = {0};
    int rc = wk_id_file_open(&f, (wk_str){(const char *)p, n}, "f", raw, &is, &err);
    want(rc || is || raw == WK_RAW_NONE);
    if (!rc && is) {
        want(f.p >= p && f.n * f.width == n - (size_t)(f.p - p));
        seen s = {f.p, 0, f.width};
        const wk_id_reading r = {.tok = tok, .on_ids = on_ids, .ud = &s};
        rc = wk_id_file_read(&f, &r, &err);
        want(rc || s.n == f.n);
    }
    if (rc) want(rc == err.code && err.message[0] == 'f');
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    wk_tok *tok = make_tok();
    for (int raw = WK_RAW_NONE; raw <= WK_RAW_U32; raw++) read_as(tok, p, n, (wk_raw_ids)raw);
    wk_tok_close(tok);
    return 0;
}

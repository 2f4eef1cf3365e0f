/* Any bytes as JSON: refused with a sentence, or a tree that can be walked and written again. */
#include <stdlib.h>

#include "engine/base/json.h"
#include "engine/base/utf8.h"

static void require(bool holds) {
    if (!holds) abort();
}

/* Depth was limited to 16, so this recursion is. */
static size_t walk(const wk_json *v, wk_buf *b) {
    size_t n = 1;
    const wk_json *m;
    wk_str key;
    void *it = NULL;
    switch (wk_json_type(v)) {
    case WK_JSON_STR:
        require(wk_utf8_valid(wk_json_str(v)));
        wk_json_put_str(b, wk_json_str(v));
        break;
    case WK_JSON_ARRAY:
        for (size_t i = 0; i < wk_json_count(v); i++) n += walk(wk_json_at(v, i), b);
        break;
    case WK_JSON_OBJECT:
        while (wk_json_next(v, &it, &key, &m)) {
            wk_json_put_str(b, key);
            n += walk(m, b);
        }
        break;
    default: (void)wk_json_int(v); break;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const wk_str text = {(const char *)data, n};
    wk_json_doc *d = NULL;
    wk_err e = {0};
    wk_buf b;
    wk_buf_init(&b, 0);
    const int rc = wk_json_parse(&d, text, 16, 1000, &e);
    require((rc == WICK_OK) == (d != NULL));
    require(rc == WICK_OK || (e.code == rc && e.message[0] && wk_utf8_valid(wk_cstr(e.message))));
    if (d) require(walk(wk_json_root(d), &b) <= 1000 && !b.failed);
    wk_json_free(d);
    wk_buf_reset(&b);
    wk_json_put_str(&b, text); /* any bytes become a literal that reads back */
    require(wk_json_parse(&d, wk_buf_str(&b), 1, 1, &e) == WICK_OK);
    wk_json_free(d);
    wk_buf_fini(&b);
    return 0;
}

/* fuzz_read.c: any bytes as a file to learn from: every document that is handed on is text of the file (or of its
 * JSON), and pieces of a text that is cut are the text. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/train/data_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void want(bool b) {
    if (!b) __builtin_trap();
}

static int on_doc(void *ud, const wk_doc *d, wk_err *err) {
    size_t *n = (size_t *)ud;
    (void)err; /* nothing is refused here */
    want(d->n_part <= 2 && (d->n_part || wk_json_type(d->messages) == WK_JSON_ARRAY));
    for (size_t i = 0; i < d->n_part; i++) want(wk_utf8_valid(d->part[i]));
    *n += d->n_part == 1 ? d->part[0].n : 0;
    return WICK_OK;
}

static bool on_place(void *ud, size_t at) {
    (void)ud; /* it has the bytes of documents */
    want(at <= 1 << 24);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    for (int skip = 0; skip < 2; skip++) {
        size_t bytes = 0;
        wk_err err = {0};
        wk_reading r = {.path = "f",
                        .file = {(const char *)p, n},
                        .skip_bad = skip,
                        .on_doc = on_doc,
                        .on_place = on_place,
                        .ud = &bytes};
        const int rc = wk_data_read(&r, &err);
        want(bytes <= n && rc == err.code && (skip || r.n_bad == 0));
        if (rc) want(rc == WICK_E_FORMAT && err.message[0] == 'f');
    }
    for (size_t wanted = 2; wanted < n; wanted *= 3) {
        const wk_str text = {(const char *)p, n};
        const size_t cut = wk_data_cut_at(text, wanted);
        want(cut >= 1 && cut <= n && cut <= 2 * wanted);
    }
    return 0;
}

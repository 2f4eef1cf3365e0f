/* test_formats.c: rows of every format of formats.def against what the gguf package makes of them
 * (make_formats.py): the same bits, and with mins within the rounding of one product.
 *
 * A format without its file fails: it comes with a row in make_formats.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "simd/format.h"

enum { MOST = 1 << 16 };

typedef struct fixture {
    uint32_t n_byte, n_value;
    uint8_t row[MOST];
    float value[MOST / 4];
} fixture;

static void load(fixture *f, const char *name, const char *end) {
    char path[128];
    size_t n = 0;
    snprintf(path, sizeof(path), "tests/golden/formats/%s%s.bin", name, end);
    for (char *p = strrchr(path, '/'); *p; p++) *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s is not there", path);
    memset(f, 0, sizeof(*f));
    n += fread(&f->n_byte, 4, 1, file);
    n += fread(&f->n_value, 4, 1, file);
    if (n != 2 || f->n_byte > MOST || f->n_value > MOST / 4) fail_msg("%s is broken", path);
    n = fread(f->row, 1, f->n_byte, file);
    n += fread(f->value, 4, f->n_value, file);
    (void)fclose(file);
    if (n != f->n_byte + f->n_value) fail_msg("%s is cut short", path);
}

/* ggml rounds scale * code before it subtracts the min, we round once: twice half a unit of the larger part. */
static float bound(const wk_format *f, const float *value, uint32_t i) {
    float most = 0.0f;
    if (f->kind != WK_KIND_B32M && f->kind != WK_KIND_S32M && f->kind != WK_KIND_W256M) return 0.0f;
    for (uint32_t j = i / f->block * f->block; j < (i / f->block + 1) * f->block; j++) {
        const float a = value[j] < 0.0f ? -value[j] : value[j];
        if (a > most) most = a;
    }
    return most * 0x1p-22f;
}

static void test_decode(void **state) {
    static fixture f;
    static float got[MOST / 4];
    (void)state;
    for (int fmt = 0; fmt < WK_FMT_COUNT; fmt++) {
        const wk_format *format = &wk_formats[fmt];
        load(&f, format->name, "");
        assert_int_equal(f.n_byte, wk_row_bytes(fmt, f.n_value));
        assert_int_equal(format->find_nonfinite(f.row, (int)f.n_value), -1);
        format->decode(got, f.row, (int)f.n_value);
        for (uint32_t i = 0; i < f.n_value; i++) {
            const float want = f.value[i], most = bound(format, f.value, i), err = got[i] - want;
            if (!(err <= most && -err <= most))
                fail_msg("%s [%u]: %a, wanted %a", format->name, (unsigned)i, (double)got[i], (double)want);
        }
    }
}

static void test_encode(void **state) {
    static fixture f;
    static uint8_t got[MOST];
    (void)state;
    load(&f, "MXFP4", "_x");
    assert_int_equal(f.n_byte, wk_row_bytes(WK_FMT_MXFP4, f.n_value));
    wk_formats[WK_FMT_MXFP4].encode(got, f.value, (int)f.n_value);
    assert_memory_equal(got, f.row, f.n_byte);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decode), cmocka_unit_test(test_encode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

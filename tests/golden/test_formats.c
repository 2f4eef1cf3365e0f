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
                fail_msg("%s [%u]: %a, wanted %a", format->name, (unsigned)i, (double)got[i],
                         (double)want);
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

/* ---- K-quants ------------------------------------------------------------------------------------ */

enum { N_BLOCK = 64 };

static uint32_t next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Blocks of sums of four uniform numbers, of sizes 2^-20 .. 2^11, and every kind of odd one. */
static void make_values(float *x) {
    uint32_t state = 1;
    for (int b = 0; b < N_BLOCK; b++)
        for (int i = 0; i < 256; i++) {
            float v = 0.0f;
            for (int j = 0; j < 4; j++) v += (float)next(&state) * 0x1p-23f - 1.0f;
            v *= (float)(1u << b / 2) * 0x1p-20f;
            if (b == 10 || (b == 11 && i < 64)) v = 0.0f;
            if (b == 12) v = 0.25f;
            if (b == 13) v = -0.25f;
            if (b == 14) v = v < 0.0f ? -v : v;
            if (b == 15) v = v < 0.0f ? v : -v;
            if (b == 16) v = (float)(i % 17 - 8);
            if (b == 17) v *= 1e-30f;
            if (b == 18 && i % 32 == 5) v *= 1000.0f;
            x[b * 256 + i] = v;
        }
}

/* The encoders give the bytes that they gave when they were compared with the public reference (tests/check, where its
 * data is there): a hash of 64 blocks of each. */
static void test_encode_k(void **state) {
    static const struct {
        int fmt;
        uint64_t hash;
    } want[] = {{WK_FMT_Q2_K, 0xc12b4477e8d3685b},
                {WK_FMT_Q3_K, 0xc6c87207b25d7fff},
                {WK_FMT_Q4_K, 0x4497abd02ffcdd71},
                {WK_FMT_Q5_K, 0x01eb756d14671cf1},
                {WK_FMT_Q6_K, 0x98176264171ed23a}};
    static float x[N_BLOCK * 256];
    static uint8_t row[N_BLOCK * 256];
    (void)state;
    make_values(x);
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        const wk_format *f = &wk_formats[want[i].fmt];
        uint64_t h = 14695981039346656037u; /* FNV-1a */
        f->encode(row, x, N_BLOCK * 256);
        assert_int_equal(f->find_nonfinite(row, N_BLOCK * 256), -1);
        for (size_t j = 0; j < (size_t)N_BLOCK * f->bytes; j++) h = (h ^ row[j]) * 1099511628211u;
        if (h != want[i].hash) fail_msg("%s: 0x%016llx", f->name, (unsigned long long)h);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decode), cmocka_unit_test(test_encode),
                                       cmocka_unit_test(test_encode_k)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

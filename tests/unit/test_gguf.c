/* test_gguf.c: the GGUF container: what must be refused, with which code, what must load, what it costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/buf.h"
#include "engine/base/os.h"
#include "engine/file/store.h"
#include "tests/fuzz/walk_store.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(WK_EMULATED)
enum { SLOWER = 20 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) ||                         \
    __has_feature(thread_sanitizer)
enum { SLOWER = 20 };
#else
enum { SLOWER = 1 };
#endif
#else
enum { SLOWER = 1 };
#endif

#define GOOD "tests/golden/good"
#define BAD "tests/golden/bad"

/* ---- a header in memory ------------------------------------------------------------------------ */

static void put_n(wk_buf *b, uint64_t x, size_t n) { assert_true(wk_buf_add(b, &x, n)); }

static void put_str(wk_buf *b, const char *p, size_t n) {
    put_n(b, n, 8);
    assert_true(wk_buf_add(b, p, n));
}

static void put_head(wk_buf *b, uint64_t n_tensor, uint64_t n_meta) {
    wk_buf_init(b, 0);
    assert_true(wk_buf_adds(b, "GGUF"));
    put_n(b, 3, 4);
    put_n(b, n_tensor, 8);
    put_n(b, n_meta, 8);
}

static void put_key(wk_buf *b, const char *key, uint32_t type) {
    put_str(b, key, strlen(key));
    put_n(b, type, 4);
}

static void put_array(wk_buf *b, const char *key, uint32_t elem, uint64_t n) {
    put_key(b, key, WK_META_ARRAY);
    put_n(b, elem, 4);
    put_n(b, n, 8);
}

static int open_buf(wk_store **s, const wk_buf *b, wk_err *err) {
    return wk_store_open_memory(s, b->p, b->n, "mem.gguf", err);
}

/* Time of this thread on a CPU: a busy machine must not fail a test. */
static double cpu_ms(void) {
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- the folders ------------------------------------------------------------------------------- */

typedef void file_fn(const char *path, const char *name);

static size_t each_file(const char *folder, file_fn *fn) {
    DIR *d = opendir(folder);
    assert_non_null(d);
    size_t n = 0;
    for (const struct dirent *e; (e = readdir(d));) {
        const size_t len = strlen(e->d_name);
        if (len < 6 || strcmp(e->d_name + len - 5, ".gguf")) continue;
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        fn(path, e->d_name);
        n++;
    }
    (void)closedir(d);
    return n;
}

/* The status whose name, with '_' behind it, begins the file's name. */
static int expected_code(const char *name) {
    static const struct {
        const char *name;
        int code;
    } codes[] = {
#define X(id, value, exit_code, text) {#id "_", value},
        WICK_STATUS_MAP(X)
#undef X
    };
    for (size_t i = 0; i < WK_COUNT(codes); i++) {
        if (!strncmp(name, codes[i].name, strlen(codes[i].name))) return codes[i].code;
    }
    fail_msg("%s: the name begins with no status", name);
    return 0;
}

/* What the sentence must say, by what the name of the file says. */
/* Part of the name of a bad file, and of the sentence that refuses it; the first that fits counts. */
static const char *const causes[][2] = {
    {"_empty.", "empty"},
    {"FORMAT_cut_", "truncated: "},
    {"BOUNDS_cut_", "outside the file of "},
    {"_magic_1", "truncated: "},
    {"_magic_3", "truncated: "},
    {"_magic_", "not a GGUF file: it begins with"},
    {"_zip", "zip archive"},
    {"_pickle", "pickle"},
    {"_safetensors", "safetensors"},
    {"_html", "web page"},
    {"_lfs", "LFS pointer"},
    {"_ggjt", "ggjt"},
    {"_ggml", "ggml"},
    {"_elf", "ELF"},
    {"_gzip", "gzip"},
    {"_hdf5", "HDF5"},
    {"_text", "a text file"},
    {"_json", "a JSON text"},
    {"_zeros", "zero bytes"},
    {"_escape.", "\\x1b["},
    {"version_0", "version 0;"},
    {"version_1", "version 1;"},
    {"version_4", "version 4;"},
    {"_count_", "truncated: "},
    {"_length_", "truncated: "},
    {"string_", "truncated: "},
    {"array_nested", "truncated: "},
    {"array_strings", "truncated: "},
    {"value_type_13", "unknown type 13"},
    {"array_type_13", "unknown type 13"},
    {"type_99.", "unknown type 99"},
    {"_deep", "deeper than 8"},
    {"bool_", "a bool holds"},
    {"dup_key", "repeats the key"},
    {"dup_tensor", "repeats the name"},
    {"key_nul", "control bytes"},
    {"name_nul", "control bytes"},
    {"utf8", "invalid UTF-8"},
    {"FORMAT_align_", "general.alignment "},
    {"SHAPE_no_dims", "0 dimensions"},
    {"5_dims", "5 dimensions"},
    {"dim_0", "dimension 0 is zero"},
    {"dim_1_0", "dimension 1 is zero"},
    {"dim_3_0", "dimension 3 is zero"},
    {"row_q4_0", "rows of 33 elements"},
    {"row_q8_0", "blocks of 32"},
    {"row_q4_k", "blocks of 256"},
    {"row_2_31", "longer than"},
    {"type_q4_2", "type 4 (Q4_2)"},
    {"type_iq1_s", "type 19 (IQ1_S)"},
    {"type_999", "type 999"},
    {"product_", "size overflows"},
    {"_overlap_", "overlaps tensor "},
    {"offset_odd", "not a multiple of the alignment 32"},
    {"offset_4", "not a multiple"},
    {"big_endian", "big-endian"},
    {"align_64_offset_32", "alignment 64"},
    {"offset_", "outside the file of "},
    {"_no_data", "outside the file of"},
};

static const char *expected_cause(const char *name) {
    for (size_t i = 0; i < WK_COUNT(causes); i++) {
        if (strstr(name, causes[i][0])) return causes[i][1];
    }
    return " ";
}

static void check_sentence(const wk_err *err, const char *name, const char *cause) {
    const size_t n = strlen(err->message);
    if (n < 20 || n >= sizeof(err->message) - 1)
        fail_msg("%s: bad length of: %s", name, err->message);
    if (!strstr(err->message, name)) fail_msg("%s: not named in: %s", name, err->message);
    if (!strstr(err->message, cause)) fail_msg("%s: no \"%s\" in: %s", name, cause, err->message);
    for (size_t i = 0; i < n; i++) {
        if ((uint8_t)err->message[i] < 0x20 || err->message[i] == 0x7f)
            fail_msg("%s: control byte", name);
    }
    if (err->message[n - 1] == '.') fail_msg("%s: ends with a full stop: %s", name, err->message);
}

static void refuse_file(const char *path, const char *name) {
    wk_store *s = NULL;
    wk_err err = {0};
    const double t0 = cpu_ms();
    const int rc = wk_store_open(&s, path, &err);
    const double ms = cpu_ms() - t0;
    if (getenv("WK_TEST_SHOW")) print_message("%s\n", err.message);
    if (rc != expected_code(name))
        fail_msg("%s: got %d: %s", name, rc, rc ? err.message : "loaded");
    assert_null(s);
    assert_int_equal(err.code, rc);
    check_sentence(&err, name, expected_cause(name));
    if (ms > 50.0 * SLOWER) fail_msg("%s: refused after %.1f ms", name, ms);
    assert_int_equal(wk_store_open(&s, path, NULL), rc);
}

static void load_file(const char *path, const char *name) {
    wk_store *s = NULL;
    wk_err err = {0};
    if (wk_store_open(&s, path, &err)) fail_msg("%s: refused: %s", name, err.message);
    if (!wk_walk_store(s)) fail_msg("%s: the store contradicts itself", name);
    assert_string_equal(wk_store_path(s), path);
    wk_store_close(s);
}

static void test_bad_files(void **state) {
    (void)state;
    assert_true(each_file(BAD, refuse_file) >= 45);
}

static void test_good_files(void **state) {
    (void)state;
    assert_true(each_file(GOOD, load_file) >= 12);
}

/* ---- damage ------------------------------------------------------------------------------------ */

/* Opens a copy that ends where the allocation ends, so that a sanitizer sees a byte too far. */
static int open_copy(const uint8_t *p, size_t n, wk_err *err) {
    wk_store *s = NULL;
    uint8_t *copy = wk_alloc(n);
    assert_non_null(copy);
    if (n) memcpy(copy, p, n);
    memset(err, 0, sizeof(*err));
    const int rc = wk_store_open_memory(&s, copy, n, "mem.gguf", err);
    if (rc == WICK_OK)
        assert_true(wk_walk_store(s) != 0);
    else
        check_sentence(err, "mem.gguf: ", ": ");
    wk_store_close(s);
    wk_free(copy);
    return rc;
}

static void cut_file(const char *path, const char *name) {
    wk_map_file m;
    wk_err err;
    assert_int_equal(wk_os_map(&m, path, &err), WICK_OK);
    const size_t step = m.n > 8192 ? 37 : 1;
    for (size_t n = 0; n < m.n; n += step) {
        const int rc = open_copy(m.p, n, &err);
        if (rc != WICK_OK && rc != WICK_E_FORMAT && rc != WICK_E_BOUNDS)
            fail_msg("%s: cut at %zu: %d", name, n, rc);
    }
    wk_os_unmap(&m);
}

/* A cut bad file may have another fault, but it is refused or consistent. */
static void cut_bad_file(const char *path, const char *name) {
    (void)name;
    wk_map_file m;
    wk_err err;
    assert_int_equal(wk_os_map(&m, path, &err), WICK_OK);
    for (size_t n = 0; n < m.n; n++) (void)open_copy(m.p, n, &err);
    wk_os_unmap(&m);
}

static void test_cut_everywhere(void **state) {
    (void)state;
    (void)each_file(GOOD, cut_file);
    (void)each_file(BAD, cut_bad_file);
}

static void check_foreign(const char *p, size_t n, const char *cause) {
    wk_err err;
    assert_int_equal(open_copy((const uint8_t *)p, n, &err), WICK_E_FORMAT);
    check_sentence(&err, "mem.gguf: not a GGUF file: ", cause);
}

static void test_foreign_borders(void **state) {
    (void)state;
    char text[300];
    memset(text, 'x', sizeof(text));
    memcpy(text + 255, "\xc3\xa9", 2); /* a character over the end of what is looked at */
    check_foreign(text, sizeof(text), "a text file");
    check_foreign("\xc3", 1, "begins with");
    check_foreign("A\tB\r\nC", 6, "a text file");
    check_foreign("A\001B", 3, "begins with");
    check_foreign("\x80\x02", 2, "pickle");
    check_foreign("\x80\x05", 2, "pickle");
    check_foreign("\x80\x06", 2, "begins with");
    check_foreign("\2\0\0\0\0\0\0\0{}", 10, "safetensors");
    check_foreign("\3\0\0\0\0\0\0\0{}", 10, "begins with");
    check_foreign("\2\0\0\0\0\0\0\0[]", 10, "begins with");
    check_foreign("PK\3\4", 4, "zip");
    check_foreign("abcd", 4, "a text file");
    check_foreign("<html", 5, "web page");
    check_foreign("<htm", 4, "a text file");
}

/* A cut inside the header says where it was, and how many bytes there are. */
static void test_cut_message(void **state) {
    (void)state;
    wk_map_file m;
    wk_err err;
    assert_int_equal(wk_os_map(&m, GOOD "/plain_v3.gguf", &err), WICK_OK);
    assert_int_equal(open_copy(m.p, 30, &err), WICK_E_FORMAT);
    wk_os_unmap(&m);
    wk_buf b;
    put_head(&b, 0, 2);
    put_key(&b, "a.b", WK_META_U64);
    put_n(&b, 1, 8);
    put_key(&b, "c.d", WK_META_U64);
    put_n(&b, 1, 5);
    assert_int_equal(open_copy((const uint8_t *)b.p, b.n, &err), WICK_E_FORMAT);
    assert_string_equal(
        err.message, "mem.gguf: truncated: metadata 1 (c.d) needs 8 bytes at offset 62, the file "
                     "has 67");
    wk_buf_fini(&b);
}

static void flip_bits(const char *path) {
    wk_map_file m;
    wk_err err;
    assert_int_equal(wk_os_map(&m, path, &err), WICK_OK);
    uint8_t *copy = wk_alloc(m.n);
    assert_non_null(copy);
    memcpy(copy, m.p, m.n);
    const size_t n_bit = 8 * (m.n < 1024 ? m.n : 1024);
    for (size_t i = 0; i < n_bit; i++) {
        copy[i / 8] ^= (uint8_t)(1u << (i % 8));
        const double t0 = cpu_ms();
        (void)open_copy(copy, m.n, &err);
        const double ms = cpu_ms() - t0;
        if (ms > 50.0 * SLOWER) fail_msg("%s: bit %zu took %.1f ms", path, i, ms);
        copy[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    wk_free(copy);
    wk_os_unmap(&m);
}

static void test_flipped_bits(void **state) {
    (void)state;
    flip_bits(GOOD "/plain_v3.gguf");
    flip_bits(GOOD "/quant_rows.gguf");
    flip_bits(GOOD "/nested_arrays.gguf");
    flip_bits(GOOD "/every_type.gguf");
}

/* ---- borders too large for the folders ------------------------------------------------------- */

static int open_key(size_t n) {
    wk_buf b;
    wk_err err;
    char *key = wk_alloc(n);
    memset(key, 'k', n);
    put_head(&b, 0, 1);
    put_str(&b, key, n);
    put_n(&b, WK_META_U8, 4);
    put_n(&b, 1, 1);
    const int rc = open_copy((const uint8_t *)b.p, b.n, &err);
    wk_buf_fini(&b);
    wk_free(key);
    return rc;
}

static int open_name(size_t n) {
    wk_buf b;
    wk_err err;
    char *name = wk_alloc(n);
    memset(name, 't', n);
    put_head(&b, 1, 0);
    put_str(&b, name, n);
    put_n(&b, 1, 4);
    put_n(&b, 2, 8);
    put_n(&b, 0, 4);
    put_n(&b, 0, 8);
    for (int i = 0; i < 16; i++) put_n(&b, 0, 8);
    const int rc = open_copy((const uint8_t *)b.p, b.n, &err);
    wk_buf_fini(&b);
    wk_free(name);
    return rc;
}

static void test_long_names(void **state) {
    (void)state;
    assert_int_equal(open_key(64 * 1024), WICK_OK);
    assert_int_equal(open_key(64 * 1024 + 1), WICK_E_FORMAT);
    assert_int_equal(open_name(4 * 1024), WICK_OK);
    assert_int_equal(open_name(4 * 1024 + 1), WICK_E_FORMAT);
}

static int open_align(uint32_t align) {
    wk_buf b;
    wk_err err;
    put_head(&b, 0, 1);
    put_key(&b, "general.alignment", WK_META_U32);
    put_n(&b, align, 4);
    const int rc = open_copy((const uint8_t *)b.p, b.n, &err);
    wk_buf_fini(&b);
    return rc;
}

static void test_alignment(void **state) {
    (void)state;
    for (uint32_t align = 1; align <= 1u << 20; align *= 2) {
        const bool fine = align >= 8 && align <= 64 * 1024;
        assert_int_equal(open_align(align), fine ? WICK_OK : WICK_E_FORMAT);
        if (align > 2) assert_int_equal(open_align(align - 1), WICK_E_FORMAT);
    }
}

static void test_not_a_file(void **state) {
    (void)state;
    wk_store *s = NULL;
    wk_err err = {0};
    assert_int_equal(wk_store_open(&s, BAD "/no such file.gguf", &err), WICK_E_IO);
    assert_non_null(strstr(err.message, "no such file.gguf"));
    assert_int_equal(wk_store_open(&s, BAD, &err), WICK_E_IO);
    assert_int_equal(wk_store_open(&s, "", &err), WICK_E_IO);
    assert_non_null(strstr(err.message, "is empty"));
    assert_int_equal(wk_store_open(&s, NULL, &err), WICK_E_IO);
    assert_null(s);
    wk_store_close(NULL);
}

/* The file name stands at the end of a path; it must survive the cut. */
static void test_long_path(void **state) {
    (void)state;
    char path[512];
    wk_store *s = NULL;
    wk_err err = {0};
    memset(path, 'd', sizeof(path));
    memcpy(path + 400, "/\x1b[31mmodel.gguf", 17);
    assert_int_equal(wk_store_open_memory(&s, "abc", 3, path, &err), WICK_E_FORMAT);
    check_sentence(&err, "model.gguf: not a GGUF file", "\\x1b[31m");
}

/* ---- cost -------------------------------------------------------------------------------------- */

typedef struct meter {
    size_t total, most;
} meter;

static void *meter_alloc(void *ud, size_t n) {
    meter *m = ud;
    m->total += n;
    if (n > m->most) m->most = n;
    return malloc(n); /* the hook stands for a caller's allocator */
}

static void meter_free(void *ud, void *p) {
    (void)ud;
    free(p);
}

/* Bytes allocated in all by opening b; nothing else may be alive while the hooks change. */
static size_t memory_of(const void *p, size_t n, int want) {
    meter m = {0};
    wk_store *s = NULL;
    wk_alloc_hooks(meter_alloc, meter_free, &m);
    const int rc = wk_store_open_memory(&s, p, n, "mem.gguf", NULL);
    wk_store_close(s);
    wk_alloc_hooks(NULL, NULL, NULL);
    assert_int_equal(rc, want);
    return m.total;
}

/* The most index for the fewest bytes: entries of 16 bytes; empty strings; tensor infos of 35 bytes. */
static void test_memory_is_bounded(void **state) {
    (void)state;
    const size_t n = 20000, slack = 4096;
    wk_buf meta, strings, tensors;
    put_head(&meta, 0, n);
    put_head(&strings, 0, 1);
    put_head(&tensors, n, 0);
    put_array(&strings, "s", WK_META_STR, n);
    for (size_t i = 0; i < n; i++) {
        const char key[3] = {(char)('!' + i % 50), (char)('!' + i / 50 % 50),
                             (char)('!' + i / 2500)};
        put_str(&meta, key, 3);
        put_n(&meta, WK_META_U8, 4);
        put_n(&meta, 1, 1);
        put_n(&strings, 0, 8);
        put_str(&tensors, key, 3);
        put_n(&tensors, 1, 4);
        put_n(&tensors, 1, 8);
        put_n(&tensors, 0, 4);
        put_n(&tensors, i * 32, 8);
    }
    assert_true(memory_of(meta.p, meta.n, WICK_OK) <= 4 * meta.n + slack);
    assert_true(memory_of(strings.p, strings.n, WICK_OK) <= 4 * strings.n + slack);
    assert_true(memory_of(tensors.p, tensors.n, WICK_E_BOUNDS) <= 4 * tensors.n + slack);
    wk_buf_fini(&meta);
    wk_buf_fini(&strings);
    wk_buf_fini(&tensors);
}

/* Counts that the file could just hold, but does not: refused before anything is allocated for them. */
static void test_counts_cost_nothing(void **state) {
    (void)state;
    const size_t n = 1u << 20;
    uint8_t *p = wk_alloc(n);
    assert_non_null(p);
    const uint64_t n_tensor = (n - 24) / 24, n_meta = (n - 24) / 13;
    memcpy(p, "GGUF\3\0\0\0", 8);
    memcpy(p + 8, &n_tensor, 8);
    memcpy(p + 16, &n_meta, 8);
    uint8_t *copy = malloc(n);
    assert_non_null(copy);
    memcpy(copy, p, n);
    wk_free(p);
    assert_true(memory_of(copy, n, WICK_E_FORMAT) < 4096);
    free(copy);
}

/* Tensors that all begin at one place, and keys in falling order: no quadratic path. */
static void test_many_overlaps(void **state) {
    (void)state;
    wk_buf b;
    wk_err err;
    const size_t n = 20000;
    put_head(&b, n, 0);
    for (size_t i = 0; i < n; i++) {
        char name[16];
        const int len = snprintf(name, sizeof(name), "%06zu", n - i);
        put_str(&b, name, (size_t)len);
        put_n(&b, 1, 4);
        put_n(&b, 8, 8);
        put_n(&b, 0, 4);
        put_n(&b, 0, 8);
    }
    for (int i = 0; i < 16; i++) put_n(&b, 0, 8);
    const double t0 = cpu_ms();
    assert_int_equal(open_copy((const uint8_t *)b.p, b.n, &err), WICK_E_BOUNDS);
    assert_true(cpu_ms() - t0 <= 50.0 * SLOWER);
    assert_non_null(strstr(err.message, "overlaps"));
    wk_buf_fini(&b);
}

/* A vocabulary of 262144 tokens with scores and types. */
static void test_large_vocabulary(void **state) {
    (void)state;
    wk_buf b;
    const size_t n = 262144;
    put_head(&b, 0, 3);
    put_array(&b, "tokenizer.ggml.tokens", WK_META_STR, n);
    for (size_t i = 0; i < n; i++) {
        char tok[16];
        const int len = snprintf(tok, sizeof(tok), "t%zu", i);
        put_str(&b, tok, (size_t)len);
    }
    put_array(&b, "tokenizer.ggml.scores", WK_META_F32, n);
    for (size_t i = 0; i < n; i++) put_n(&b, 0xbf800000u, 4);
    put_array(&b, "tokenizer.ggml.token_type", WK_META_I32, n);
    for (size_t i = 0; i < n; i++) put_n(&b, i % 7, 4);
    double best = 1e9;
    for (int run = 0; run < 5; run++) {
        wk_store *s = NULL;
        const double t0 = cpu_ms();
        assert_int_equal(open_buf(&s, &b, NULL), WICK_OK);
        const double ms = cpu_ms() - t0;
        if (ms < best) best = ms;
        wk_array a;
        assert_int_equal(wk_meta_array(s, "tokenizer.ggml.tokens", &a, NULL), 1);
        assert_int_equal(a.n, n);
        assert_true(wk_str_is(wk_array_str(&a, 0), "t0") &&
                    wk_str_is(wk_array_str(&a, n - 1), "t262143"));
        wk_store_close(s);
    }
    print_message("262144 tokens: %.2f ms\n", best);
    assert_true(best <= 30.0 * SLOWER);
    wk_buf_fini(&b);
}

/* ---- faults ------------------------------------------------------------------------------------ */

static void fail_allocations(bool and_later) {
    for (uint64_t n = 1; n < 100; n++) {
        wk_store *s = NULL;
        wk_err err = {0};
        wk_alloc_fail_at(n, and_later);
        const int rc = wk_store_open(&s, GOOD "/every_type.gguf", &err);
        wk_alloc_fail_at(0, false);
        if (rc == WICK_OK) {
            assert_true(n > 3);
            wk_store_close(s);
            return;
        }
        assert_int_equal(rc, WICK_E_NOMEM);
        assert_int_equal(err.code, WICK_E_NOMEM);
        assert_null(s);
    }
    fail_msg("never opened");
}

static void test_no_memory(void **state) {
    (void)state;
    fail_allocations(false);
    fail_allocations(true);
}

/* Each call to the system fails once: the open fails with a sentence, or, at the end, succeeds. */
static void test_io_errors(void **state) {
    (void)state;
    for (uint32_t n = 1; n < 50; n++) {
        wk_store *s = NULL;
        wk_err err = {0};
        wk_os_fail_at(n, EIO);
        const int rc = wk_store_open(&s, GOOD "/plain_v3.gguf", &err);
        wk_os_fail_at(0, 0);
        if (rc == WICK_OK) {
            assert_true(n > 6); /* open, fstat, mmap, twice */
            wk_store_close(s);
            return;
        }
        assert_int_equal(rc, WICK_E_IO);
        check_sentence(&err, "plain_v3.gguf", "Input/output error");
        assert_null(s);
    }
    fail_msg("never opened");
}

/* An allocation of the parser stands for the moment at which somebody else writes. */
typedef struct writer {
    const char *path;
    bool grow, later; /* one byte more; another time */
} writer;

static void *alloc_and_write(void *ud, size_t n) {
    const writer *w = ud;
    struct stat st;
    FILE *f = fopen(w->path, "ab");
    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    if (w->grow) assert_int_equal(fputc(0, f), 0);
    assert_int_equal(fclose(f), 0);
    if (w->later) st.st_mtim.tv_sec++;
    const struct timespec at[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, w->path, at, 0), 0);
    return malloc(n);
}

static void open_while_written(writer *w, int want) {
    wk_store *s = NULL;
    wk_err err = {0};
    wk_map_file m;
    assert_int_equal(wk_os_map(&m, GOOD "/plain_v3.gguf", &err), WICK_OK);
    FILE *f = fopen(w->path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(m.p, 1, m.n, f), m.n);
    assert_int_equal(fclose(f), 0);
    wk_os_unmap(&m);
    wk_alloc_hooks(alloc_and_write, meter_free, w);
    const int rc = wk_store_open(&s, w->path, &err);
    wk_store_close(s);
    wk_alloc_hooks(NULL, NULL, NULL);
    assert_int_equal(rc, want);
    if (want) check_sentence(&err, w->path, "changed while it was read");
}

/* A file that is written while it is read is not believed. */
static void test_changed_file(void **state) {
    (void)state;
    char path[] = "/tmp/wk_gguf_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    open_while_written(&(writer){path, true, true}, WICK_E_IO);
    open_while_written(&(writer){path, false, true}, WICK_E_IO);
    open_while_written(&(writer){path, true, false}, WICK_E_IO);
    open_while_written(&(writer){path, false, false}, WICK_OK);
    assert_int_equal(unlink(path), 0);
}

/* Strings of an array are found by 32-bit offsets: a first one of 4 GiB, which costs no disk. */
static void test_array_past_32_bits(void **state) {
    (void)state;
    char path[] = "/tmp/wk_gguf_XXXXXX";
    const int fd = mkstemp(path);
    wk_store *s = NULL;
    wk_err err = {0};
    wk_buf b;
    assert_true(fd >= 0);
    put_head(&b, 0, 1);
    put_key(&b, "tokenizer.ggml.tokens", 9);
    put_n(&b, 8, 4); /* strings */
    put_n(&b, 2, 8);
    put_n(&b, (uint64_t)1 << 32, 8);
    assert_int_equal(write(fd, b.p, b.n), (ssize_t)b.n);
    assert_int_equal(ftruncate(fd, (off_t)(b.n + ((uint64_t)1 << 32) + 8)), 0); /* and an empty one */
    assert_int_equal(close(fd), 0);
    assert_int_equal(wk_store_open(&s, path, &err), WICK_E_UNSUPPORTED);
    check_sentence(&err, path, "tokenizer.ggml.tokens");
    check_sentence(&err, path, "longer than 4 GiB, at string 1 of 2");
    wk_buf_fini(&b);
    assert_int_equal(unlink(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),           cmocka_unit_test(test_good_files),
        cmocka_unit_test(test_cut_everywhere),      cmocka_unit_test(test_cut_message),
        cmocka_unit_test(test_foreign_borders),     cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_long_names),          cmocka_unit_test(test_not_a_file),
        cmocka_unit_test(test_long_path),           cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_counts_cost_nothing), cmocka_unit_test(test_many_overlaps),
        cmocka_unit_test(test_large_vocabulary),    cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_io_errors),           cmocka_unit_test(test_changed_file),
        cmocka_unit_test(test_alignment),          cmocka_unit_test(test_array_past_32_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_shards.c: files in parts: whole from any part, refused with a sentence that names the part. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/file/store.h"
#include "tests/fuzz/walk_store.h"
#include "tests/unit/unit.h"

#define SPLIT "tests/golden/split"

static const char *const names[] = {"token_embd.weight", "blk.0.a", "blk.0.b", "blk.1.a",
                                    "output_norm.weight"};

static wk_store *open_good(const char *file, size_t n_part) {
    char path[512];
    wk_store *s = NULL;
    wk_err err = {0};
    (void)snprintf(path, sizeof(path), SPLIT "/%s", file);
    if (wk_store_open(&s, path, &err)) fail_msg("%s: %s", file, err.message);
    assert_int_equal(wk_store_part_count(s), n_part);
    return s;
}

/* Five tensors, the i-th full of the number i, wherever it lies. */
static void check_whole(const wk_store *s, const char *file) {
    assert_int_equal(wk_store_tensor_count(s), WK_COUNT(names));
    if (!wk_walk_store(s)) fail_msg("%s: the store contradicts itself", file);
    for (size_t i = 0; i < WK_COUNT(names); i++) {
        const wk_tensor *t = wk_store_find(s, wk_cstr(names[i]));
        float x = -1;
        assert_non_null(t);
        assert_int_equal(t->bytes, 32);
        memcpy(&x, t->data + 28, sizeof(x));
        assert_true(x >= (float)i && x <= (float)i);
    }
    wk_str arch;
    assert_int_equal(wk_meta_str(s, "general.architecture", &arch, NULL), 1);
    assert_true(wk_str_is(arch, "llama"));
}

static void test_whole_from_any_part(void **state) {
    (void)state;
    static const char *const sets[] = {"good_plain", "good_kinds", "good_no_tensors_first",
                                       "good_alignments", "good_metadata_everywhere"};
    for (size_t i = 0; i < WK_COUNT(sets); i++) {
        uint64_t bytes = 0;
        for (int no = 1; no <= 3; no++) {
            char file[96];
            (void)snprintf(file, sizeof(file), "%s-%05d-of-00003.gguf", sets[i], no);
            wk_store *s = open_good(file, 3);
            check_whole(s, file);
            if (no > 1) assert_int_equal(wk_store_file_bytes(s), bytes);
            bytes = wk_store_file_bytes(s);
            assert_non_null(strstr(wk_store_path(s), "-00001-of-00003.gguf"));
            wk_store_close(s);
        }
    }
}

static void test_one_file(void **state) {
    (void)state;
    static const char *const files[] = {"good_one-00001-of-00001.gguf", "good_again_together.gguf"};
    for (size_t i = 0; i < WK_COUNT(files); i++) {
        wk_store *s = open_good(files[i], 1);
        check_whole(s, files[i]);
        wk_store_close(s);
    }
}

/* ---- refusals ---------------------------------------------------------------------------------- */

static int code_of(const char *name) {
    return strncmp(name, "E_IO_", 5) == 0       ? WICK_E_IO
           : strncmp(name, "E_BOUNDS_", 9) == 0 ? WICK_E_BOUNDS
                                                : WICK_E_FORMAT;
}

/* What the sentence holds, by the name of the set; the part at fault among it. */
static const char *cause_of(const char *name) {
    static const char *const causes[][2] = {
        {"no_part_2", "part 2 of 3: " SPLIT "/E_IO_no_part_2-00002-of-00003.gguf: cannot open it"},
        {"no_part_3", "part 3 of 3: " SPLIT "/E_IO_no_part_3-00003-of-00003.gguf: cannot open it"},
        {"no_twice", "no_twice-00002-of-00003.gguf: split.no is 0, part 2 of 3 must have 1"},
        {"no_swapped", "no_swapped-00002-of-00003.gguf: split.no is 2, part 2 of 3 must have 1"},
        {"first_no_1", "is part 2 of 3 by its keys, its name must end with -00002-of-00003.gguf"},
        {"no_equals_count", "-00003-of-00003.gguf: split.no is u16 3, wanted an integer in 0 .. 2"},
        {"no_huge", "-00001-of-00003.gguf: split.no is u64 9223372036854775808, wanted"},
        {"no_missing", "-00001-of-00003.gguf: split.no is missing"},
        {"count_4", "-00002-of-00003.gguf: split.count is 4, part 2 of 3 must have 3"},
        {"count_all_4", "is part 1 of 4 by its keys, its name must end with -00001-of-00004.gguf"},
        {"count_absent", "-00002-of-00003.gguf: split.count is 0, part 2 of 3 must have 3"},
        {"count_0", "-00003-of-00003.gguf: split.count is 0, part 3 of 3 must have 3"},
        {"count_65536", "-00001-of-00003.gguf: split.count is u32 65536, wanted"},
        {"total_6", "split.tensors.count is 6, the 3 parts together have 5 tensors"},
        {"total_4", "split.tensors.count is 4, the 3 parts together have 5 tensors"},
        {"one_total_9", "split.tensors.count is 9, the 1 parts together have 5 tensors"},
        {"total_differs", "-00003-of-00003.gguf: split.tensors.count is 6, part 3 of 3 must have 5"},
        {"total_negative", "-00001-of-00003.gguf: split.tensors.count is i32 -1, wanted"},
        {"total_missing", "-00002-of-00003.gguf: split.tensors.count is missing"},
        {"tensor_twice", "-00003-of-00003.gguf: the tensor blk.0.b is in another part too"},
        {"part_2_cut", "part 2 of 3: " SPLIT "/E_FORMAT_part_2_cut-00002-of-00003.gguf: truncated"},
        {"part_3_text", "part 3 of 3: " SPLIT "/E_FORMAT_part_3_text-00003-of-00003.gguf: not a GGUF"},
        {"part_2_data", "part 2 of 3: " SPLIT "/E_BOUNDS_part_2_data-00002-of-00003.gguf: tensor 1"},
        {"renamed", "E_FORMAT_renamed.gguf is part 1 of 3 by its keys, its name must end with"},
        {"four_digits", "its name must end with -00001-of-00003.gguf"},
        {"other_name", "its name must end with -00001-of-00003.gguf"},
    };
    const char *best = NULL;
    size_t most = 0;
    for (size_t i = 0; i < WK_COUNT(causes); i++) {
        const size_t n = strlen(causes[i][0]);
        if (n <= most || !strstr(name, causes[i][0])) continue;
        most = n;
        best = causes[i][1];
    }
    if (!best) fail_msg("%s: no cause is known", name);
    return best;
}

static void refuse(const char *file) {
    char path[512];
    wk_store *s = NULL;
    wk_err err = {0};
    (void)snprintf(path, sizeof(path), SPLIT "/%s", file);
    const int rc = wk_store_open(&s, path, &err);
    if (rc != code_of(file)) fail_msg("%s: got %d: %s", file, rc, rc ? err.message : "loaded");
    assert_null(s);
    assert_int_equal(err.code, rc);
    if (!strstr(err.message, cause_of(file)))
        fail_msg("%s: no \"%s\" in: %s", file, cause_of(file), err.message);
    assert_int_equal(wk_store_open(&s, path, NULL), rc);
}

/* The first file of each set, and those that are no part of a set. */
static void test_refused(void **state) {
    (void)state;
    DIR *d = opendir(SPLIT);
    size_t n = 0;
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) {
        const char *of = strstr(e->d_name, "-of-");
        const bool later = of && strncmp(of - 6, "-00001", 6) != 0 && !strstr(e->d_name, "other_name");
        if (e->d_name[0] != 'E' || (later && strlen(of) > 10 + 3)) continue;
        refuse(e->d_name);
        n++;
    }
    (void)closedir(d);
    assert_true(n >= 24);
}

/* From a later part the same faults are found, and the sentence names the part that is missing. */
static void test_refused_from_later_part(void **state) {
    (void)state;
    wk_store *s = NULL;
    wk_err err = {0};
    assert_int_equal(wk_store_open(&s, SPLIT "/E_IO_no_part_2-00003-of-00003.gguf", &err), WICK_E_IO);
    assert_non_null(strstr(err.message, "part 2 of 3: "));
    assert_int_equal(wk_store_open(&s, SPLIT "/E_FORMAT_tensor_twice-00002-of-00003.gguf", &err),
                     WICK_E_FORMAT);
    assert_non_null(strstr(err.message, "blk.0.b"));
    assert_int_equal(wk_store_open(&s, SPLIT "/E_FORMAT_first_no_1-00003-of-00003.gguf", &err),
                     WICK_E_FORMAT);
    assert_non_null(strstr(err.message, "part 1 of 3 must have 0"));
    assert_null(s);
}

static void test_in_memory(void **state) {
    (void)state;
    FILE *f = fopen(SPLIT "/good_plain-00002-of-00003.gguf", "rb");
    uint8_t bytes[2048];
    wk_store *s = NULL;
    wk_err err = {0};
    assert_non_null(f);
    const size_t n = fread(bytes, 1, sizeof(bytes), f);
    (void)fclose(f); /* read only */
    assert_int_equal(wk_store_open_memory(&s, bytes, n, "m.gguf", &err), WICK_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "m.gguf is part 2 of 3"));
    assert_null(s);
}

/* Links into another folder, as a download cache keeps them: the parts are looked for beside the links. */
static void test_links(void **state) {
    (void)state;
    char dir[] = "/tmp/wk_shards_XXXXXX", from[512], to[3][512], root[256];
    assert_non_null(mkdtemp(dir));
    assert_non_null(getcwd(root, sizeof(root)));
    for (int i = 0; i < 3; i++) {
        (void)snprintf(from, sizeof(from), "%s/" SPLIT "/good_plain-%05d-of-00003.gguf", root, i + 1);
        (void)snprintf(to[i], sizeof(to[i]), "%s/-%05d-of-00003.gguf", dir, i + 1);
        assert_int_equal(symlink(from, to[i]), 0);
    }
    wk_store *s = NULL;
    wk_err err = {0};
    if (wk_store_open(&s, to[1], &err)) fail_msg("%s", err.message);
    check_whole(s, to[1]);
    wk_store_close(s);
    for (int i = 0; i < 3; i++) (void)unlink(to[i]);
    (void)rmdir(dir);
}

static void test_memory_fails(void **state) {
    (void)state;
    const char *path = SPLIT "/good_plain-00003-of-00003.gguf";
    wk_store *s = NULL;
    wk_err err = {0};
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        wk_alloc_fail_at(n, n % 2);
        const int rc = wk_store_open(&s, path, &err);
        wk_alloc_fail_at(0, false);
        if (!rc) break;
        assert_int_equal(rc, WICK_E_NOMEM);
        assert_null(s);
        failures++;
    }
    check_whole(s, path);
    wk_store_close(s);
    assert_true(failures > 20);
}

typedef struct said {
    int n;
    char text[256];
} said;

static void hear(void *ud, int level, const char *text, size_t len) {
    said *s = ud;
    if (level != WK_LOG_WARN) return;
    s->n++;
    (void)snprintf(s->text, sizeof(s->text), "%.*s", (int)len, text);
}

/* Metadata that only a later part has is ignored aloud. */
static void test_later_metadata(void **state) {
    (void)state;
    said s = {0};
    wk_log_set(hear, &s, WK_LOG_WARN);
    wk_store_close(open_good("good_later_key-00001-of-00002.gguf", 2));
    wk_log_set(NULL, NULL, 0);
    assert_int_equal(s.n, 1);
    assert_non_null(strstr(s.text, "-00002-of-00002.gguf: general.note is ignored"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_from_any_part), cmocka_unit_test(test_one_file),
        cmocka_unit_test(test_refused),             cmocka_unit_test(test_refused_from_later_part),
        cmocka_unit_test(test_in_memory),           cmocka_unit_test(test_links),
        cmocka_unit_test(test_memory_fails),        cmocka_unit_test(test_later_metadata),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

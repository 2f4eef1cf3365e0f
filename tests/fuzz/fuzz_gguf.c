/* fuzz_gguf.c: any bytes as a GGUF file: refused with a message that names the file and a known code, or
 * open and consistent; the same verdict twice. */
#include "tests/fuzz/walk_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int verdict(const uint8_t *data, size_t size, uint64_t *sum) {
    wk_store *s = NULL;
    wk_err err = {0};
    *sum = 0;
    const int rc = wk_store_open_memory(&s, data, size, "f.gguf", &err);
    if (rc == WICK_OK) {
        *sum = wk_walk_store(s);
        if (*sum == 0) __builtin_trap();
    } else if (s || rc != err.code || strncmp(err.message, "f.gguf: ", 8) ||
               strlen(err.message) < 16) {
        __builtin_trap();
    }
    wk_store_close(s);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t first, second;
    const int rc = verdict(data, size, &first);
    if (rc != verdict(data, size, &second) || first != second) __builtin_trap();
    return 0;
}

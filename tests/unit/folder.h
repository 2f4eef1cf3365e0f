/* folder.h: a folder for the moment of one test program: made before its tests, and empty when it is removed behind them.
 * For cmocka_run_group_tests(tests, folder_make, folder_remove). */
#ifndef WK_FOLDER_H
#define WK_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[] = "/tmp/wick_test_XXXXXX";

static inline int folder_make(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}
static inline int folder_remove(void **state) {
    (void)state;
    return rmdir(folder); /* fails where a test left something */
}

/* A path that stands in an argument list. */
typedef struct folder_path {
    char p[160];
} folder_path;
static inline folder_path path_in(const char *name) {
    folder_path t;
    (void)snprintf(t.p, sizeof(t.p), "%s/%s", folder, name);
    return t;
}
static inline folder_path gguf_in(const char *name) {
    folder_path t;
    (void)snprintf(t.p, sizeof(t.p), "%s/%s.gguf", folder, name);
    return t;
}

#endif

/* driver.c: runs a fuzz target without a fuzzer, as an ordinary test: every file of a corpus folder as it
 * is, cut short at every length (sparsely for big files), and changed a few bytes at a time. The changes
 * are a function of the file alone, so that a failure comes back.
 *
 * Usage: fuzz_x FOLDER|FILE... [-r ROUNDS]. Files named on the command line run once, unchanged. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { MAX_FILE = 16 << 20, MAX_CUTS = 512, MAX_EDITS = 8 };

typedef struct corpus {
    int rounds;
    uint64_t n_run,
        bytes_left; /* work is bounded by bytes, so that big files do not take for ever */
} corpus;

/* An exact-size copy: reading one byte too far is then seen by the sanitizer. */
static void run_copy(corpus *c, const uint8_t *p, size_t n) {
    uint8_t *copy = (uint8_t *)malloc(n ? n : 1);
    if (!copy) abort();
    if (n) memcpy(copy, p, n);
    (void)LLVMFuzzerTestOneInput(copy, n); /* always 0 by its convention */
    free(copy);
    c->n_run++;
    c->bytes_left = c->bytes_left > n ? c->bytes_left - n : 0;
}

/* Byte values that parsers stumble over, besides random ones. */
static uint8_t odd_byte(uint32_t r) {
    static const uint8_t odd[] = {0,   1,   0x7f, 0x80, 0xff, '"', '\\', '{',
                                  '}', '[', '%',  '\n', ' ',  '-', '0',  'e'};
    return r & 0x100u ? odd[r & 15u] : (uint8_t)r;
}

/* Overwrites, flips, removes and doubles; n stays within room. Returns the new n. */
static size_t change(uint8_t *p, size_t n, size_t room, uint64_t seed, uint32_t round) {
    for (uint32_t i = 0; i <= seed % MAX_EDITS; i++) {
        uint32_t r[4];
        const uint32_t counter[4] = {round, i, 0, 0};
        wk_philox(r, seed, counter);
        if (n == 0) return 0;
        const size_t at = r[0] % n, len = 1 + r[1] % 16 % (n - at);
        if (r[2] % 8 < 3)
            p[at] = odd_byte(r[3]);
        else if (r[2] % 8 < 5)
            p[at] ^= (uint8_t)(1u << (r[3] & 7u));
        else if (r[2] % 8 < 6)
            memset(p + at, (int)odd_byte(r[3]), len);
        else if (r[2] % 8 < 7) {
            memmove(p + at, p + at + len, n - at - len);
            n -= len;
        } else if (n + len <= room) {
            memmove(p + at + len, p + at, n - at);
            n += len;
        }
    }
    return n;
}

static void run_changed(corpus *c, const uint8_t *p, size_t n) {
    const size_t room = n + 16 * MAX_EDITS;
    uint8_t *q = (uint8_t *)malloc(room);
    if (!q) abort();
    for (int r = 0; r < c->rounds && c->bytes_left; r++) {
        memcpy(q, p, n);
        const size_t m = change(q, n, room, (uint64_t)n * 31 + (uint64_t)r, (uint32_t)r);
        run_copy(c, q, m);
    }
    free(q);
}

static void run_cut(corpus *c, const uint8_t *p, size_t n) {
    const size_t step = n > MAX_CUTS ? n / MAX_CUTS : 1;
    for (size_t i = 0; i < n && c->bytes_left; i += step) run_copy(c, p, i);
}

static uint8_t *read_all(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    uint8_t *p = (uint8_t *)malloc(MAX_FILE);
    *n = p ? fread(p, 1, MAX_FILE, f) : 0;
    const bool bad = !p || ferror(f);
    (void)fclose(f); /* read only */
    if (!bad) return p;
    free(p);
    return NULL;
}

static bool run_file(corpus *c, const char *path, bool also_changed) {
    size_t n;
    uint8_t *p = read_all(path, &n);
    if (!p) {
        (void)fprintf(stderr, "cannot read %s\n", path);
        return false;
    }
    c->bytes_left = (uint64_t)64 << 20;
    run_copy(c, p, n);
    if (also_changed) {
        run_cut(c, p, n);
        run_changed(c, p, n);
    }
    free(p);
    return true;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool run_folder(corpus *c, const char *path) {
    struct dirent **e;
    const int n = scandir(path, &e, NULL, by_name);
    if (n < 0) {
        (void)fprintf(stderr, "cannot read the folder %s\n", path);
        return false;
    }
    bool ok = true;
    int n_file = 0;
    for (int i = 0; i < n; i++) {
        char full[4096];
        if (e[i]->d_name[0] != '.') {
            (void)snprintf(full, sizeof(full), "%s/%s", path, e[i]->d_name);
            ok &= run_file(c, full, true);
            n_file++;
        }
        free(e[i]);
    }
    free(e);
    if (n_file == 0) (void)fprintf(stderr, "%s is empty: nothing was tested\n", path);
    return ok && n_file > 0;
}

int main(int argc, char **argv) {
    corpus c = {.rounds = 300};
    bool ok = argc > 1;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (strcmp(argv[i], "-r") == 0 && i + 1 < argc) {
            c.rounds = (int)strtol(argv[++i], NULL, 10);
        } else if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
            ok &= run_folder(&c, argv[i]);
        } else {
            ok &= run_file(&c, argv[i], false);
        }
    }
    (void)printf("%llu inputs\n", (unsigned long long)c.n_run);
    return ok ? 0 : 1;
}

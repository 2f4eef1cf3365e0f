/* fake_mem.c: memory of the fake device, and the calls that fail on demand. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/fake.h"

enum { GUARD = 64, POISON = 0xff, MARK = 0xa5 }; /* poison is NaN as f32, f16 and bf16 */

/* Stands before the guard in front of the bytes. */
struct fake_block {
    size_t n;
    bool is_device;
};
static_assert(sizeof(fake_block) <= GUARD, "the record has room before the guard");

static const char *const call_name[FAKE_CALL_COUNT] = {"alloc", "open", "info", "upload", "run",
                                                       "step",  "wait", "put",  "get"};

/* The library's own (engine/base/err.c) is not of this module. */
int wk_fail(wk_err *err, int code, const char *fmt, ...) {
    va_list ap;
    if (!err) return code;
    va_start(ap, fmt);
    (void)vsnprintf(err->message, sizeof(err->message), fmt, ap);
    va_end(ap);
    err->code = code;
    return code;
}

bool fake_fails(wk_dev *d, fake_call call) {
    const bool now = ++d->n_call[call] == d->fail_at[call];
    return (d->host.fault && d->host.fault(d->host.fault_ud, call_name[call])) || now;
}

static void *new_block(wk_dev *d, size_t n, bool is_device) {
    const size_t room = (n + 3 * GUARD + GUARD - 1) / GUARD * GUARD;
    uint8_t *b = room > n ? aligned_alloc(GUARD, room) : NULL;
    if (!b) return NULL;
    *(fake_block *)(void *)b = (fake_block){n, is_device};
    memset(b + GUARD, MARK, GUARD);
    memset(b + 2 * GUARD, is_device ? POISON : 0, n);
    memset(b + 2 * GUARD + n, MARK, GUARD);
    d->n_live++;
    if (is_device) d->mem_used += n;
    if (d->mem_used > d->mem_peak) d->mem_peak = d->mem_used;
    return b + 2 * GUARD;
}

static void *get_block(wk_dev *d, size_t n, bool is_device, wk_err *err) {
    d->n_alloc++;
    void *p = NULL;
    if (!fake_fails(d, FAKE_ALLOC) && !(is_device && n > d->mem_total - d->mem_used)) p = new_block(d, n, is_device);
    if (!p)
        (void)wk_fail(err, WICK_E_NOMEM, "fake device %d: no memory for %zu bytes, %zu of %zu are in use", d->index, n,
                      d->mem_used, d->mem_total);
    return p;
}

void *fake_take(wk_dev *d, size_t n, wk_err *err) { return get_block(d, n, true, err); }
void *fake_host(wk_dev *d, size_t n, wk_err *err) { return get_block(d, n, false, err); }

static bool is_marked(const uint8_t *p) {
    for (int i = 0; i < GUARD; i++)
        if (p[i] != MARK) return false;
    return true;
}

void fake_free(wk_dev *d, void *p) {
    if (!p) return;
    uint8_t *b = (uint8_t *)p - 2 * GUARD;
    const fake_block *k = (const fake_block *)(const void *)b;
    if (!is_marked(b + GUARD) || !is_marked(b + 2 * GUARD + k->n)) d->n_guard++;
    if (k->is_device) d->mem_used -= k->n;
    d->n_live--;
    free(b);
}

long fake_number(const char *name, long other) {
    const char *s = getenv(name);
    return s ? strtol(s, NULL, 10) : other;
}

static void copy_text(char *dst, size_t n, const char *name) {
    const char *s = getenv(name);
    (void)snprintf(dst, n, "%s", s ? s : "");
}

void fake_knobs(wk_dev *d) {
    char fail[64];
    d->mem_total = (size_t)fake_number("WICK_FAKE_MEM", 8L << 30);
    d->fail_at[FAKE_ALLOC] = fake_number("WICK_FAKE_NOMEM", 0);
    d->nan_at = fake_number("WICK_FAKE_NAN", 0);
    copy_text(d->cannot, sizeof(d->cannot), "WICK_FAKE_CANNOT");
    copy_text(d->wrong, sizeof(d->wrong), "WICK_FAKE_WRONG");
    copy_text(d->report, sizeof(d->report), "WICK_FAKE_REPORT");
    copy_text(fail, sizeof(fail), "WICK_FAKE_FAIL");
    char *at = strchr(fail, ':');
    if (!at) return;
    *at = '\0';
    for (int i = 0; i < FAKE_CALL_COUNT; i++)
        if (strcmp(fail, call_name[i]) == 0) d->fail_at[i] = strtol(at + 1, NULL, 10);
}

/* wick_extra.c: engine options as "key=value": those that change often, or that few will want. */
#include <string.h>

#include "engine/base/cpus.h"
#include "engine/base/str.h"
#include "engine/wick_model.h"

typedef wick_status read_fn(wk_engine_config *c, const char *value, wick_error *err);

static wick_status bad(const char *key, const char *value, const char *wanted, wick_error *err) {
    return wk_fail(err, WICK_E_ARG, "engine option %s is \"%s\", it must be %s", key,
                   wk_show(wk_cstr(value)).text, wanted);
}

static wick_status read_gemm(wk_engine_config *c, const char *value, wick_error *err) {
    c->cpu.onednn = strcmp(value, "onednn") == 0;
    return c->cpu.onednn || strcmp(value, "wick") == 0 ? WICK_OK
                                                       : bad("gemm", value, "wick or onednn", err);
}

static wick_status read_huge(wk_engine_config *c, const char *value, wick_error *err) {
    c->cpu.small_pages = strcmp(value, "off") == 0;
    return c->cpu.small_pages || strcmp(value, "thp") == 0 ? WICK_OK
                                                           : bad("huge", value, "thp or off", err);
}

static wick_status read_cpus(wk_engine_config *c, const char *value, wick_error *err) {
    return wk_cpus_choose(c->cpu.pin, &c->cpu.n_pin, WK_PIN_MAX,
                          strcmp(value, "all") == 0 ? NULL : value, err);
}

static wick_status read_dir(wk_engine_config *c, const char *value, wick_error *err) {
    if (!*value) return bad("cache_dir", value, "a folder or off", err);
    c->cpu.cache_dir = strcmp(value, "off") == 0 ? NULL : value;
    return WICK_OK;
}

static wick_status read_max(wk_engine_config *c, const char *value, wick_error *err) {
    uint64_t v = 0;
    const char *p = value;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            break;
    if (*p || p == value) return bad("cache_max", value, "a number of bytes", err);
    c->cpu.cache_max = v;
    return WICK_OK;
}

static const struct {
    const char *key;
    read_fn *read;
} keys[] = {{"gemm", read_gemm},
            {"huge", read_huge},
            {"cpus", read_cpus},
            {"cache_dir", read_dir},
            {"cache_max", read_max}};

wick_status wk_extra_read(wk_engine_config *c, const char *const *extra, wick_error *err) {
    for (; extra && *extra; extra++) {
        const size_t n = strcspn(*extra, "=");
        size_t i = 0;
        while (i < WK_COUNT(keys) &&
               (strlen(keys[i].key) != n || strncmp(*extra, keys[i].key, n) != 0))
            i++;
        if (i == WK_COUNT(keys) || (*extra)[n] != '=')
            return wk_fail(
                err, WICK_E_ARG,
                "unknown engine option \"%s\"; there are gemm, huge, cpus, cache_dir and cache_max",
                wk_show(wk_cstr(*extra)).text);
        WK_TRY(keys[i].read(c, *extra + n + 1, err));
    }
    return WICK_OK;
}

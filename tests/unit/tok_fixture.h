/* tok_fixture.h: GGUF files with a tokenizer, made in memory, for tests and fuzz targets. */
#ifndef WK_TOK_FIXTURE_H
#define WK_TOK_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "engine/base/buf.h"
#include "engine/base/utf8.h"
#include "engine/file/store.h"
#include "engine/text/tok.h"

/* How much slower than a release build the time limits of the tests may be. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__) || \
    defined(WK_EMULATED)
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

/* CPU time: the machine may be busy with other things. */
static inline uint64_t cpu_ms(void) {
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* exists on every Linux */
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

typedef struct fix {
    wk_buf b;
    uint64_t n_meta;
} fix;

static inline void fix_raw(fix *f, const void *p, size_t n) { (void)wk_buf_add(&f->b, p, n); }
static inline void fix_u32(fix *f, uint32_t x) { fix_raw(f, &x, 4); }
static inline void fix_u64(fix *f, uint64_t x) { fix_raw(f, &x, 8); }
static inline void fix_text(fix *f, wk_str s) {
    fix_u64(f, s.n);
    fix_raw(f, s.p, s.n);
}
static inline void fix_begin(fix *f) {
    wk_buf_init(&f->b, 0);
    f->n_meta = 0;
    fix_raw(f, "GGUF\3\0\0\0", 8);
    fix_u64(f, 0);
    fix_u64(f, 0); /* number of entries, put in by fix_open */
}
static inline void fix_key(fix *f, const char *key, uint32_t type) {
    f->n_meta++;
    fix_text(f, wk_cstr(key));
    fix_u32(f, type);
}
static inline void fix_meta_str(fix *f, const char *key, const char *text) {
    fix_key(f, key, WK_META_STR);
    fix_text(f, wk_cstr(text));
}
static inline void fix_meta_u32(fix *f, const char *key, uint32_t x) {
    fix_key(f, key, WK_META_U32);
    fix_u32(f, x);
}
static inline void fix_meta_bool(fix *f, const char *key, bool x) {
    fix_key(f, key, WK_META_BOOL);
    fix_raw(f, x ? "\1" : "\0", 1);
}
static inline void fix_array(fix *f, const char *key, uint32_t type, uint64_t n) {
    fix_key(f, key, WK_META_ARRAY);
    fix_u32(f, type);
    fix_u64(f, n);
}
static inline void fix_strs(fix *f, const char *key, const wk_str *s, size_t n) {
    fix_array(f, key, WK_META_STR, n);
    for (size_t i = 0; i < n; i++) fix_text(f, s[i]);
}
static inline int fix_open(fix *f, wk_tok **t, wk_err *err) {
    wk_store *s = NULL;
    *t = NULL;
    memcpy(f->b.p + 16, &f->n_meta, 8);
    int rc = wk_store_open_memory(&s, f->b.p, f->b.n, "fixture", err);
    if (!rc) rc = wk_tok_open(t, s, err);
    wk_store_close(s);
    wk_buf_fini(&f->b); /* the tokenizer keeps nothing of it */
    return rc;
}

/* ---- vocabularies ------------------------------------------------------------------------------ */

enum { VOCAB_MAX = 512 };

typedef struct vocab {
    wk_str text[VOCAB_MAX];
    int32_t kind[VOCAB_MAX];
    float score[VOCAB_MAX];
    size_t n, n_byte_text;
    char byte_text[256][8];
} vocab;

static inline uint32_t vocab_add(vocab *v, wk_str text, int32_t kind, float score) {
    v->text[v->n] = text;
    v->kind[v->n] = kind;
    v->score[v->n] = score;
    return (uint32_t)v->n++;
}

/* The character that byte-level BPE writes for a byte. */
static inline uint32_t byte_char(uint32_t b) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < 256; i++) {
        const bool plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        if (i == b) return plain ? b : 256 + n;
        n += !plain;
    }
    return 0;
}

/* 256 tokens, ids 0 to 255, one of each byte in the writing of byte-level BPE. */
static inline void vocab_bytes(vocab *v) {
    for (uint32_t b = 0; b < 256; b++) {
        const int n = wk_utf8_encode(v->byte_text[b], byte_char(b));
        vocab_add(v, (wk_str){v->byte_text[b], (size_t)n}, 1, 0);
    }
}
/* 256 byte tokens <0xHH>. */
static inline void vocab_fallback(vocab *v) {
    static const char hex[] = "0123456789ABCDEF";
    for (uint32_t b = 0; b < 256; b++) {
        const char text[7] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>', 0};
        memcpy(v->byte_text[b], text, 7);
        vocab_add(v, (wk_str){v->byte_text[b], 6}, 6, 0);
    }
}
static inline void vocab_put(const vocab *v, fix *f, bool with_scores) {
    fix_strs(f, "tokenizer.ggml.tokens", v->text, v->n);
    fix_array(f, "tokenizer.ggml.token_type", WK_META_I32, v->n);
    fix_raw(f, v->kind, v->n * sizeof(v->kind[0]));
    if (!with_scores) return;
    fix_array(f, "tokenizer.ggml.scores", WK_META_F32, v->n);
    fix_raw(f, v->score, v->n * sizeof(v->score[0]));
}

#endif

/* foreign.c: names what a file is that is not GGUF. People hand over the checkpoint beside the model, a
 * web page saved under the model's name, or the pointer that git left: the sentence says so. */
#include <string.h>

#include "engine/base/attr.h"
#include "engine/base/rd.h"
#include "engine/base/utf8.h"
#include "engine/file/store_impl.h"

typedef struct known {
    const char *magic;
    uint8_t n, at; /* bytes, place */
    const char *what;
} known;

#define KNOWN(magic, at, what) \
    { magic, sizeof(magic) - 1, at, what }

static const known known_formats[] = {
    KNOWN("PK\3\4", 0, "a zip archive (a PyTorch checkpoint?); convert it to GGUF first"),
    KNOWN("tjgg", 0, "an old GGML file (ggjt), the format before GGUF; convert it again"),
    KNOWN("ggjt", 0, "an old GGML file (ggjt), the format before GGUF; convert it again"),
    KNOWN("lmgg", 0, "an old GGML file (ggml), the format before GGUF; convert it again"),
    KNOWN("ggml", 0, "an old GGML file (ggml), the format before GGUF; convert it again"),
    KNOWN("fmgg", 0, "an old GGML file (ggmf), the format before GGUF; convert it again"),
    KNOWN("algg", 0, "an old GGML adapter (ggla), the format before GGUF; convert it again"),
    KNOWN("\x7f"
          "ELF",
          0, "an ELF program or library"),
    KNOWN("MZ", 0, "a Windows program (a llamafile?)"),
    KNOWN("\x1f\x8b", 0, "gzip data; unpack it first"),
    KNOWN("\x28\xb5\x2f\xfd", 0, "zstd data; unpack it first"),
    KNOWN("\xfd"
          "7zXZ",
          0, "xz data; unpack it first"),
    KNOWN("7z\xbc\xaf", 0, "a 7z archive; unpack it first"),
    KNOWN("BZh", 0, "bzip2 data; unpack it first"),
    KNOWN("\x89HDF", 0, "an HDF5 file"),
    KNOWN("\x93NUMPY", 0, "a NumPy array"),
    KNOWN("TFL3", 4, "a TensorFlow Lite model"),
    KNOWN("version https://git-lfs", 0,
          "a git LFS pointer, not the model itself; fetch it with: git lfs pull"),
};

static uint8_t lower(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20u) : c;
}

/* A web page: white space, then a tag that pages begin with, in any case. */
static bool is_html(const uint8_t *p, size_t n) {
    static const char *const tags[] = {"<!doctype html", "<html", "<head", "<?xml"};
    while (n && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) p++, n--;
    for (size_t t = 0; t < WK_COUNT(tags); t++) {
        const size_t n_tag = strlen(tags[t]);
        size_t i = 0;
        while (i < n_tag && i < n && lower(p[i]) == (uint8_t)tags[t][i]) i++;
        if (i == n_tag) return true;
    }
    return false;
}

/* safetensors: a u64 length of JSON that the file can hold, then the JSON. */
static bool is_safetensors(const uint8_t *p, size_t n) {
    wk_rd r = wk_rd_of(p, n);
    uint64_t len;
    uint8_t brace;
    return wk_rd_u64(&r, &len) && wk_rd_u8(&r, &brace) && brace == '{' && len >= 2 && len <= n - 8;
}

static bool is_zero(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (p[i]) return false;
    }
    return true;
}

/* Valid UTF-8 without control bytes other than white space, as far as the first n bytes show. */
static bool is_text(const uint8_t *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint32_t cp;
        const int k = wk_utf8_decode((const char *)p + i, n - i, &cp);
        if (k == 0) return n - i < 4 && i >= 64; /* cut inside a character */
        if (cp < 0x20 && cp != '\t' && cp != '\n' && cp != '\r') return false;
        i += (size_t)k;
    }
    return true;
}

static const known *find_known(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < WK_COUNT(known_formats); i++) {
        const known *k = &known_formats[i];
        const size_t end = (size_t)k->at + k->n;
        if (n >= end && memcmp(p + k->at, k->magic, k->n) == 0) return k;
    }
    return NULL;
}

static bool is_pickle(const uint8_t *p, size_t n) {
    return n >= 2 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5;
}

/* Kinds that a magic alone does not tell, in the order in which they are tried. */
static const char *guess(const uint8_t *p, size_t n) {
    const size_t head = n < 256 ? n : 256;
    if (is_pickle(p, n))
        return "a Python pickle (an old PyTorch checkpoint?); convert it to GGUF first";
    if (is_html(p, n)) return "a web page; the download fetched an HTML page instead of the model";
    if (is_zero(p, head)) return "it begins with zero bytes (an unfinished download?)";
    if (is_text(p, head)) return *p == '{' || *p == '[' ? "a JSON text" : "a text file";
    return NULL;
}

int wk_foreign_refuse(const uint8_t *p, size_t n, wk_err *err) {
    if (n == 0) return wk_fail(err, WICK_E_FORMAT, "not a GGUF file: it is empty");
    if (n < 4 && memcmp(p, "GGUF", n) == 0) {
        return wk_fail(err, WICK_E_FORMAT,
                       "truncated: the magic needs 4 bytes at offset 0, the file has %zu", n);
    }
    if (n >= 4 && memcmp(p, "FUGG", 4) == 0) {
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "a big-endian GGUF file; only little-endian ones are read");
    }
    if (is_safetensors(p, n)) { /* before the magics: its length may begin like one */
        return wk_fail(err, WICK_E_FORMAT,
                       "not a GGUF file: a safetensors file; this reader takes GGUF");
    }
    const known *k = find_known(p, n);
    if (k) return wk_fail(err, WICK_E_FORMAT, "not a GGUF file: %s", k->what);
    const char *what = guess(p, n);
    if (what) return wk_fail(err, WICK_E_FORMAT, "not a GGUF file: %s", what);
    const wk_shown shown = wk_show((wk_str){(const char *)p, n < 8 ? n : 8});
    return wk_fail(err, WICK_E_FORMAT, "not a GGUF file: it begins with \"%s\" instead of \"GGUF\"",
                   shown.text);
}

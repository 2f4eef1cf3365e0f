/* data_read.c: text and jsonl files -> documents. The file is mapped and read once from front to back; what lies behind
 * is given back to the kernel, so that memory does not grow with it. */
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/train/data_impl.h"

enum { JSON_DEPTH = 64, TELL = 1 << 20 };
#define JSON_VALUES ((size_t)1 << 20)

static const wk_str SEPARATOR = {"<|endoftext|>", 13};

static bool is_blank(char c) { return c == ' ' || (c >= 9 && c <= 13); }

static size_t blanks(wk_str s) {
    size_t n = 0;
    while (n < s.n && is_blank(s.p[n])) n++;
    return n;
}

static wk_str from(wk_str s, size_t at) { return (wk_str){s.p + at, s.n - at}; }

static size_t line_of(const wk_reading *r, const char *place) {
    size_t line = 1;
    for (const char *p = r->file.p; p < place; p++) line += *p == '\n';
    return line;
}

static bool is_fatal(int rc) {
    return rc != WICK_E_FORMAT && rc != WICK_E_TEMPLATE && rc != WICK_E_ARG && rc != WICK_E_UNSUPPORTED;
}

/* What becomes of a document that failed with rc and the sentence why; line 0: not known yet, it begins at place. */
static int refuse(wk_reading *r, int rc, wk_err *why, const char *place, size_t line, wk_err *err) {
    if (is_fatal(rc)) {
        if (err) *err = *why;
        return rc;
    }
    if (!r->skip_bad || !r->n_bad) {
        if (!line) line = line_of(r, place);
        (void)wk_fail_at(why, "%s, line %zu", wk_show(wk_cstr(r->path)).text, line); /* rc says what it is */
    }
    if (r->skip_bad) {
        if (!r->n_bad++) r->first_bad = *why;
        return WICK_OK;
    }
    why->code = rc == WICK_E_ARG ? WICK_E_FORMAT : rc;
    if (err) *err = *why;
    return why->code;
}

static int hand_on(wk_reading *r, const wk_doc *d, const char *place, size_t line, wk_err *err) {
    wk_err why = {0};
    const int rc = r->on_doc(r->ud, d, &why);
    return rc ? refuse(r, rc, &why, place, line, err) : WICK_OK;
}

/* Tells how far it is, and gives back what was read. */
static int tell(wk_reading *r, const char *place, wk_err *err) {
    const size_t at = (size_t)(place - r->file.p);
    if (at - r->told < TELL && at < r->file.n) return WICK_OK;
    if (r->is_mapped) wk_os_drop(r->file.p + r->told, at - r->told);
    r->told = at;
    if (!r->on_place || r->on_place(r->ud, at)) return WICK_OK;
    return wk_fail(err, WICK_E_CANCELED, "reading of %s was stopped", wk_show(wk_cstr(r->path)).text);
}

/* ---- text -------------------------------------------------------------------------------------- */

size_t wk_data_cut_at(wk_str text, size_t want) {
    size_t line = 0, word = 0;
    const size_t most = text.n / 2 < want ? text.n : 2 * want;
    for (size_t i = want / 2; i < most; i++) {
        const bool next = i + 1 < text.n && !is_blank(text.p[i + 1]);
        if (text.p[i] == '\n' && (next || !line)) line = i + 1;
        if (text.p[i] == ' ' && i > 0 && !is_blank(text.p[i - 1])) word = i;
        if (line && next && i + 1 >= want) return line;
    }
    if (line) return line;
    if (word) return word;
    size_t n = most;
    while (n < text.n && n > most - 3 && ((uint8_t)text.p[n] & 0xc0u) == 0x80u) n--;
    return n;
}

/* The first byte that no text holds: part of no character, or NUL; n: none. */
static size_t first_bad(wk_str s) {
    size_t i = 0;
    while (i < s.n) {
        uint32_t cp;
        const uint8_t b = (uint8_t)s.p[i];
        const int len = b && b < 0x80 ? 1 : b ? wk_utf8_decode(s.p + i, s.n - i, &cp) : 0;
        if (!len) break;
        i += (size_t)len;
    }
    return i;
}

static int take_text(wk_reading *r, wk_str text, bool begins, bool ends, wk_err *err) {
    const size_t bad = first_bad(text);
    wk_err why = {0};
    if (blanks(text) == text.n) return WICK_OK;
    if (bad < text.n) {
        const uint8_t b = (uint8_t)text.p[bad];
        (void)wk_fail(&why, WICK_E_FORMAT, "byte 0x%02x is not UTF-8 text", b); /* given on as a sentence */
        return refuse(r, WICK_E_FORMAT, &why, text.p + bad, 0, err);
    }
    const wk_doc d = {.part = {text}, .n_part = 1, .begins = begins, .ends = ends, .key = text};
    return hand_on(r, &d, text.p, 0, err);
}

/* One line break next to a separator belongs to it. */
static wk_str trimmed(wk_str s, bool front, bool back) {
    if (front && s.n && s.p[0] == '\r') s = from(s, 1);
    if (front && s.n && s.p[0] == '\n') s = from(s, 1);
    if (back && s.n && s.p[s.n - 1] == '\n') s.n--;
    if (back && s.n && s.p[s.n - 1] == '\r') s.n--;
    return s;
}

static int read_separated(wk_reading *r, wk_str left, wk_err *err) {
    for (bool front = false, back = true; back; front = true) {
        const char *at = left.n ? (const char *)memmem(left.p, left.n, SEPARATOR.p, SEPARATOR.n) : NULL;
        back = at != NULL;
        const wk_str text = {left.p, back ? (size_t)(at - left.p) : left.n};
        WK_TRY(take_text(r, trimmed(text, front, back), true, true, err));
        left = from(left, text.n + (back ? SEPARATOR.n : 0));
        WK_TRY(tell(r, left.p, err));
    }
    return WICK_OK;
}

/* Without separators: pieces, so that some can be held out. */
static int read_pieces(wk_reading *r, wk_str left, wk_err *err) {
    for (bool begins = true; left.n; begins = false) {
        const bool last = left.n <= WK_DATA_PIECE + WK_DATA_PIECE / 2;
        const wk_str text = {left.p, last ? left.n : wk_data_cut_at(left, WK_DATA_PIECE)};
        WK_TRY(take_text(r, text, begins, last, err));
        left = from(left, text.n);
        WK_TRY(tell(r, left.p, err));
    }
    return WICK_OK;
}

/* ---- jsonl ------------------------------------------------------------------------------------- */

static int text_of(const wk_json *root, const char *key, wk_str *out, wk_err *err) {
    const wk_json *v = wk_json_get(root, key);
    if (wk_json_type(v) != WK_JSON_STR) return wk_fail(err, WICK_E_FORMAT, "\"%s\" is no string", key);
    *out = wk_json_str(v);
    return WICK_OK;
}

static int two_texts(const wk_json *root, const char *a, const char *b, wk_doc *d, wk_err *err) {
    d->n_part = 2;
    WK_TRY(text_of(root, a, &d->part[0], err));
    return text_of(root, b, &d->part[1], err);
}

static int list_of(const wk_json *v, const char *key, wk_doc *d, wk_err *err) {
    if (wk_json_type(v) != WK_JSON_ARRAY || wk_json_count(v) == 0)
        return wk_fail(err, WICK_E_FORMAT, "\"%s\" is no list of messages", key);
    d->messages = v;
    return WICK_OK;
}

/* Which of the known forms an object has. */
static int form_of(const wk_json *root, wk_doc *d, wk_err *err) {
    const wk_json *talk = wk_json_get(root, "messages"), *shared = wk_json_get(root, "conversations");
    if (wk_json_type(root) != WK_JSON_OBJECT) return wk_fail(err, WICK_E_FORMAT, "the line is no JSON object");
    if (talk || shared) {
        const wk_json *tools = wk_json_get(root, "tools");
        d->is_from = !talk;
        d->tools = wk_json_type(tools) == WK_JSON_NULL ? NULL : tools;
        return list_of(talk ? talk : shared, talk ? "messages" : "conversations", d, err);
    }
    if (wk_json_get(root, "prompt") && wk_json_get(root, "completion"))
        return two_texts(root, "prompt", "completion", d, err);
    if (wk_json_get(root, "question") && wk_json_get(root, "answer")) {
        d->is_question = true;
        return two_texts(root, "question", "answer", d, err);
    }
    if (!wk_json_get(root, "text"))
        return wk_fail(err, WICK_E_FORMAT,
                       "the object has neither text, prompt and completion, question and answer, messages nor "
                       "conversations");
    d->n_part = 1;
    WK_TRY(text_of(root, "text", &d->part[0], err));
    d->key = d->part[0];
    return WICK_OK;
}

static int take_line(wk_reading *r, wk_str line, size_t number, wk_err *err) {
    wk_json_doc *doc = NULL;
    wk_err why = {0};
    wk_doc d = {.begins = true, .ends = true, .key = line};
    int rc = wk_json_parse(&doc, line, JSON_DEPTH, JSON_VALUES, &why);
    if (!rc) rc = form_of(wk_json_root(doc), &d, &why);
    if (rc)
        rc = refuse(r, rc, &why, line.p, number, err);
    else if (d.n_part != 1 || blanks(d.part[0]) < d.part[0].n)
        rc = hand_on(r, &d, line.p, number, err);
    wk_json_free(doc);
    return rc;
}

static int take_long_line(wk_reading *r, wk_str line, size_t number, wk_err *err) {
    wk_err why = {0};
    (void)wk_fail(&why, WICK_E_FORMAT, "the line has more than %zu MiB", WK_DATA_LINE_MAX >> 20); /* given on */
    return refuse(r, WICK_E_FORMAT, &why, line.p, number, err);
}

static int read_lines(wk_reading *r, wk_str left, wk_err *err) {
    for (size_t number = line_of(r, left.p); left.n; number++) {
        const size_t most = left.n < WK_DATA_LINE_MAX + 1 ? left.n : WK_DATA_LINE_MAX + 1;
        const char *end = (const char *)memchr(left.p, '\n', most);
        const bool too_long = !end && most < left.n;
        wk_str line = {left.p, end ? (size_t)(end - left.p) : most};
        if (too_long) {
            WK_TRY(take_long_line(r, line, number, err));
            end = (const char *)memchr(left.p + most, '\n', left.n - most);
            line.n = end ? (size_t)(end - left.p) : left.n;
        }
        left = from(left, line.n + (end != NULL));
        const size_t skip = blanks(line);
        if (!too_long && skip < line.n) WK_TRY(take_line(r, from(line, skip), number, err));
        WK_TRY(tell(r, left.p, err));
    }
    return WICK_OK;
}

/* ---- files ------------------------------------------------------------------------------------- */

static int fail_whole(const wk_reading *r, const char *what, wk_err *err) {
    return wk_fail(err, WICK_E_FORMAT, "%s %s", wk_show(wk_cstr(r->path)).text, what);
}

/* Who packs takes such files before they come here; who learns a tokenizer from text does not. */
static int refuse_ids(const wk_reading *r, wk_err *err) {
    wk_id_file ids;
    bool is = false;
    WK_TRY(wk_id_file_open(&ids, r->file, r->path, WK_RAW_NONE, &is, err));
    return is ? fail_whole(r, "holds token ids, no text: a tokenizer cannot be learned from it", err) : WICK_OK;
}

int wk_data_read(wk_reading *r, wk_err *err) {
    wk_str text = r->file;
    r->told = 0;
    if (wk_str_starts(text, WK_STR("\xef\xbb\xbf"))) text = from(text, 3);
    const wk_str begin = from(text, blanks(text));
    WK_TRY(refuse_ids(r, err));
    if (text.n == 0) return fail_whole(r, "is empty", err);
    if (begin.n == 0) return fail_whole(r, "holds nothing but blanks", err);
    if (begin.p[0] == '{') return read_lines(r, begin, err);
    const wk_str inner = from(begin, 1 + blanks(from(begin, 1)));
    if (begin.p[0] == '[' && inner.n && inner.p[0] == '{')
        return fail_whole(r, "is one JSON list, wanted one object a line", err);
    if (memmem(text.p, text.n, SEPARATOR.p, SEPARATOR.n)) return read_separated(r, text, err);
    return read_pieces(r, text, err);
}

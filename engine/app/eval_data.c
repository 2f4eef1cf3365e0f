/* eval_data.c: files of tasks, read where they lie. What is wrong with one is said with its line. */
#include "engine/app/eval_impl.h"

#include <string.h>

#include "engine/base/err.h"
#include "engine/base/utf8.h"

enum { DEPTH = 32, VALUES = 4096, LINE_MOST = 8 << 20 };

static wick_status check_packed(const wk_eval_file *f, wick_error *err) {
    static const struct {
        const char *magic, *name, *tool;
    } packed[] = {{"BZh", "bzip2", "bunzip2 -k"}, {"\x1f\x8b", "gzip", "gunzip -k"}, {"\xfd" "7zXZ", "xz", "unxz -k"},
                  {"\x28\xb5\x2f\xfd", "zstd", "unzstd"}};
    for (size_t i = 0; i < WK_COUNT(packed); i++)
        if (wk_str_starts(f->rest, wk_cstr(packed[i].magic)))
            return wk_fail(err, WICK_E_FORMAT, "%s is packed by %s, text is wanted: %s unpacks it",
                           wk_show(wk_cstr(f->path)).text, packed[i].name, packed[i].tool);
    return WICK_OK;
}

/* The first line with bytes that are no UTF-8. */
static wick_status check_utf8(const wk_eval_file *f, wick_error *err) {
    wk_eval_file walk = {.path = f->path, .rest = f->rest};
    wk_str line;
    if (wk_utf8_valid(f->rest) && (!f->rest.n || !memchr(f->rest.p, 0, f->rest.n))) return WICK_OK;
    while (wk_eval_line(&walk, &line))
        if (!wk_utf8_valid(line) || (line.n && memchr(line.p, 0, line.n))) break;
    return wk_fail(err, WICK_E_FORMAT, "%s:%zu: the line is not UTF-8 text", wk_show(wk_cstr(f->path)).text, walk.number);
}

wick_status wk_eval_file_open(wk_eval_file *f, const char *path, wick_error *err) {
    *f = (wk_eval_file){.path = path};
    for (int i = 0; i < WK_EVAL_CELLS; i++) wk_buf_init(&f->cell[i], LINE_MOST);
    WK_TRY(wk_os_map(&f->map, path, err));
    f->rest = (wk_str){(const char *)f->map.p, f->map.n};
    if (!f->rest.n) return wk_fail(err, WICK_E_FORMAT, "%s is empty", wk_show(wk_cstr(path)).text);
    WK_TRY(check_packed(f, err));
    return check_utf8(f, err);
}

void wk_eval_file_close(wk_eval_file *f) {
    for (int i = 0; i < WK_EVAL_CELLS; i++) wk_buf_fini(&f->cell[i]);
    wk_os_unmap(&f->map);
}

wick_status wk_eval_at(const wk_eval_file *f, wick_error *err) {
    return wk_fail_at(err, "%s:%zu", wk_show(wk_cstr(f->path)).text, f->number);
}

static void skip(wk_eval_file *f, size_t n) {
    f->rest.p += n;
    f->rest.n -= n;
}

bool wk_eval_line(wk_eval_file *f, wk_str *line) {
    if (!f->rest.n) return false;
    const char *end = memchr(f->rest.p, '\n', f->rest.n);
    const size_t n = end ? (size_t)(end - f->rest.p) : f->rest.n;
    *line = (wk_str){f->rest.p, n};
    if (line->n && line->p[line->n - 1] == '\r') line->n--;
    skip(f, end ? n + 1 : n);
    f->number++;
    return true;
}

double wk_eval_count(const wk_eval_file *f, int per, int64_t limit) {
    wk_eval_file walk = {.rest = f->rest};
    wk_str line;
    double n = 0;
    while (wk_eval_line(&walk, &line)) n += line.n > 0;
    n = (double)(int64_t)(n / per);
    return limit && (double)limit < n ? (double)limit : n;
}

wick_status wk_eval_json(wk_eval_file *f, wk_json_doc **doc, wick_error *err) {
    wk_str line = {0};
    *doc = NULL;
    do {
        if (!wk_eval_line(f, &line)) return WICK_OK;
    } while (!line.n);
    if (line.n > LINE_MOST) {
        (void)wk_fail(err, WICK_E_FORMAT, "the line has %zu bytes, at most %d MiB are taken", line.n, LINE_MOST >> 20);
        return wk_eval_at(f, err);
    }
    if (!wk_json_parse(doc, line, DEPTH, VALUES, err)) {
        if (wk_json_type(wk_json_root(*doc)) == WK_JSON_OBJECT) return WICK_OK;
        wk_json_free(*doc);
        *doc = NULL;
        (void)wk_fail(err, WICK_E_FORMAT, "the line is JSON, but no object");
    }
    if (err) err->code = WICK_E_FORMAT;
    return wk_eval_at(f, err);
}

wick_status wk_eval_member(const wk_eval_file *f, const wk_json *v, const char *key, wk_str *out, wick_error *err) {
    const wk_json *text = wk_json_get(v, key);
    if (wk_json_type(text) == WK_JSON_STR) {
        *out = wk_json_str(text);
        if (out->n) return WICK_OK;
    }
    (void)wk_fail(err, WICK_E_FORMAT, text ? "\"%s\" is not a text or an empty one" : "\"%s\" is missing", key);
    return wk_eval_at(f, err);
}

/* ---- CSV ----------------------------------------------------------------------------------------- */

/* A cell in quotes; a quote is doubled in it, and it may hold ends of lines. */
static wick_status quoted(wk_eval_file *f, wk_buf *b, wick_error *err) {
    const size_t begun = f->number + 1;
    size_t lines = 0;
    skip(f, 1);
    for (;;) {
        if (!f->rest.n) {
            f->number = begun - 1;
            return wk_fail(err, WICK_E_FORMAT, "a cell in quotes has no end");
        }
        const char c = f->rest.p[0];
        const bool twice = c == '"' && f->rest.n > 1 && f->rest.p[1] == '"';
        skip(f, twice ? 2 : 1);
        if (c == '"' && !twice) break;
        lines += c == '\n';
        (void)wk_buf_addc(b, c); /* checked when the record is whole */
    }
    f->number += lines;
    return WICK_OK;
}

static void bare(wk_eval_file *f, wk_buf *b) {
    size_t n = 0;
    while (n < f->rest.n && f->rest.p[n] != ',' && f->rest.p[n] != '\n') n++;
    const size_t end = n && f->rest.p[n - 1] == '\r' && (n == f->rest.n || f->rest.p[n] == '\n') ? n - 1 : n;
    (void)wk_buf_add(b, f->rest.p, end); /* checked when the record is whole */
    skip(f, n);
}

static wick_status read_cell(wk_eval_file *f, bool *last, wick_error *err) {
    if (f->n_cell == WK_EVAL_CELLS)
        return wk_fail(err, WICK_E_FORMAT, "more than %d cells in a record", WK_EVAL_CELLS);
    wk_buf *b = &f->cell[f->n_cell++];
    wk_buf_reset(b);
    if (f->rest.n && f->rest.p[0] == '"')
        WK_TRY(quoted(f, b, err));
    else
        bare(f, b);
    if (b->failed) return wk_fail(err, WICK_E_FORMAT, "a cell is longer than %d MiB", LINE_MOST >> 20);
    if (f->rest.n > 1 && f->rest.p[0] == '\r' && f->rest.p[1] == '\n') skip(f, 1);
    *last = !f->rest.n || f->rest.p[0] == '\n';
    if (!*last && f->rest.p[0] != ',')
        return wk_fail(err, WICK_E_FORMAT, "behind a closing quote stands neither a comma nor the end of the line");
    if (f->rest.n) skip(f, 1);
    return WICK_OK;
}

wick_status wk_eval_record(wk_eval_file *f, wick_error *err) {
    bool last = false;
    f->n_cell = 0;
    while (f->rest.n && (f->rest.p[0] == '\n' || f->rest.p[0] == '\r')) {
        f->number += f->rest.p[0] == '\n';
        skip(f, 1);
    }
    if (!f->rest.n) return WICK_OK;
    while (!last) {
        if (!read_cell(f, &last, err)) continue;
        f->number++;
        return wk_eval_at(f, err);
    }
    f->number++;
    return WICK_OK;
}

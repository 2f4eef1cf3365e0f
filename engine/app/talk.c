/* talk.c: see talk.h. */
#include "engine/app/talk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/json.h"
#include "engine/base/os.h"
#include "engine/base/utf8.h"

enum { TALK_MAX = 64 << 20, FILE_MAX = 64 << 20, DEPTH_MAX = 16, VALUES_MAX = 1 << 20 };

typedef struct wk_talk_row {
    wk_talk_role role;
    size_t at, n; /* in text */
} wk_talk_row;

static const char *const role_names[] = {[WK_TALK_USER] = "user", [WK_TALK_ASSISTANT] = "assistant"};

void wk_talk_init(wk_talk *t) {
    wk_buf_init(&t->text, TALK_MAX);
    wk_buf_init(&t->rows, TALK_MAX);
    wk_buf_init(&t->system, TALK_MAX);
}

void wk_talk_fini(wk_talk *t) {
    wk_buf_fini(&t->text);
    wk_buf_fini(&t->rows);
    wk_buf_fini(&t->system);
}

void wk_talk_clear(wk_talk *t) {
    wk_buf_reset(&t->text);
    wk_buf_reset(&t->rows);
}

void wk_talk_system(wk_talk *t, wk_str text) {
    wk_buf_reset(&t->system);
    (void)wk_buf_add(&t->system, text.p, text.n); /* stays in system.failed */
}

size_t wk_talk_count(const wk_talk *t) { return t->rows.n / sizeof(wk_talk_row); }

static wk_talk_row row_at(const wk_talk *t, size_t i) {
    wk_talk_row r;
    memcpy(&r, t->rows.p + i * sizeof(r), sizeof(r));
    return r;
}

wk_str wk_talk_at(const wk_talk *t, size_t i, wk_talk_role *role) {
    const wk_talk_row r = row_at(t, i);
    *role = r.role;
    return (wk_str){t->text.p + r.at, r.n};
}

void wk_talk_add(wk_talk *t, wk_talk_role role, wk_str text) {
    const wk_talk_row r = {role, t->text.n, text.n};
    if (!wk_buf_add(&t->text, text.n ? text.p : "", text.n)) return; /* stays in text.failed */
    (void)wk_buf_add(&t->rows, &r, sizeof(r));
}

void wk_talk_cut(wk_talk *t, size_t n) {
    if (n >= wk_talk_count(t)) return;
    t->text.n = row_at(t, n).at;
    t->rows.n = n * sizeof(wk_talk_row);
    t->text.failed = t->rows.failed = false; /* what failed was behind the cut */
}

static void put_message(wk_buf *b, const char *role, wk_str text) {
    if (b->n && b->p[b->n - 1] != '[') (void)wk_buf_addc(b, ',');
    (void)wk_buf_addf(b, "{\"role\":\"%s\",\"content\":", role);
    wk_json_put_str(b, text);
    (void)wk_buf_addc(b, '}');
}

static void put_messages(const wk_talk *t, wk_buf *b) {
    (void)wk_buf_adds(b, "\"messages\":[");
    if (t->system.n) put_message(b, "system", wk_buf_str(&t->system));
    for (size_t i = 0; i < wk_talk_count(t); i++) {
        wk_talk_role role;
        const wk_str text = wk_talk_at(t, i, &role);
        put_message(b, role_names[role], text);
    }
    (void)wk_buf_addc(b, ']');
    if (t->text.failed || t->rows.failed || t->system.failed) b->failed = true;
}

void wk_talk_request(const wk_talk *t, wk_buf *request) {
    wk_buf_reset(request);
    (void)wk_buf_addc(request, '{');
    put_messages(t, request);
    (void)wk_buf_adds(request, ",\"add_generation_prompt\":true}");
}

/* ---- files --------------------------------------------------------------------------------------- */

static int write_file(int fd, wk_str text) {
    while (text.n) {
        const ssize_t w = write(fd, text.p, text.n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return errno;
        text.p += w;
        text.n -= (size_t)w;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

/* The rename is durable once the folder is. */
static void sync_folder(const char *path) {
    char folder[4096];
    const char *slash = strrchr(path, '/');
    (void)snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return; /* the file is whole in either case */
    (void)fsync(fd);
    (void)close(fd);
}

int wk_file_replace(const char *path, wk_str text, wk_err *err) {
    char part[4096];
    const int n = snprintf(part, sizeof(part), "%s.part-%ld", path, (long)getpid());
    if (n < 0 || n >= (int)sizeof(part)) return wk_fail(err, WICK_E_ARG, "the path is longer than 4 KiB");
    (void)unlink(part); /* a stray of a killed process with the same number */
    const int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int cause = fd < 0 ? errno : write_file(fd, text);
    if (fd >= 0 && close(fd) != 0 && !cause) cause = errno;
    if (!cause && rename(part, path) != 0) cause = errno;
    if (!cause) {
        sync_folder(path);
        return WICK_OK;
    }
    if (fd >= 0) (void)unlink(part);
    return wk_fail(err, WICK_E_IO, "%s could not be written: %s", wk_show(wk_cstr(path)).text, strerror(cause));
}

int wk_talk_read_file(wk_buf *b, const char *path, size_t max, wk_err *err) {
    wk_map_file map = {0};
    WK_TRY(wk_os_map(&map, path, err));
    const wk_str text = {map.n ? (const char *)map.p : "", map.n};
    int rc = WICK_OK;
    if (text.n > max)
        rc = wk_fail(err, WICK_E_ARG, "%s has %zu bytes, the limit is %zu", wk_show(wk_cstr(path)).text, text.n, max);
    else if (!wk_utf8_valid(text) || (text.n && memchr(text.p, 0, text.n)))
        rc = wk_fail(err, WICK_E_ARG, "%s is not UTF-8 text", wk_show(wk_cstr(path)).text);
    else if (!wk_buf_add(b, text.p, text.n))
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for %s", wk_show(wk_cstr(path)).text);
    wk_os_unmap(&map);
    return rc;
}

/* Messages of a document: the roles take turns, the user first; system only at the front. */
static int take_messages(wk_talk *t, const wk_json *list, wk_err *err) {
    if (!list || wk_json_type(list) != WK_JSON_ARRAY) return wk_fail(err, WICK_E_ARG, "there is no array \"messages\"");
    for (size_t i = 0; i < wk_json_count(list); i++) {
        const wk_json *m = wk_json_at(list, i), *content = NULL;
        if (wk_json_type(m) == WK_JSON_OBJECT) content = wk_json_get(m, "content");
        if (!content || wk_json_type(content) != WK_JSON_STR)
            return wk_fail(err, WICK_E_ARG, "message %zu has no text \"content\"", i);
        const wk_json *role_value = wk_json_get(m, "role");
        const wk_str role = wk_json_type(role_value) == WK_JSON_STR ? wk_json_str(role_value) : WK_STR("");
        const wk_talk_role wanted = wk_talk_count(t) % 2 ? WK_TALK_ASSISTANT : WK_TALK_USER;
        if (i == 0 && wk_str_is(role, "system"))
            wk_talk_system(t, wk_json_str(content));
        else if (wk_str_is(role, role_names[wanted]))
            wk_talk_add(t, wanted, wk_json_str(content));
        else
            return wk_fail(err, WICK_E_ARG, "message %zu has the role \"%s\", the next one is \"%s\"", i,
                           wk_show(role).text, role_names[wanted]);
    }
    if (wk_talk_count(t) % 2) return wk_fail(err, WICK_E_ARG, "the last message has no answer");
    if (t->text.failed || t->rows.failed || t->system.failed)
        return wk_fail(err, WICK_E_NOMEM, "no memory for the conversation");
    return WICK_OK;
}

static int read_talk(wk_talk *t, const char *path, wk_err *err) {
    wk_json_doc *doc = NULL;
    wk_buf text;
    wk_buf_init(&text, 0);
    int rc = wk_talk_read_file(&text, path, FILE_MAX, err);
    if (!rc) {
        rc = wk_json_parse(&doc, wk_buf_str(&text), DEPTH_MAX, VALUES_MAX, err);
        const wk_json *root = rc ? NULL : wk_json_root(doc);
        if (!rc && wk_json_type(root) == WK_JSON_OBJECT) root = wk_json_get(root, "messages");
        if (!rc) rc = take_messages(t, root, err);
        if (rc) rc = wk_fail_at(err, "%s", wk_show(wk_cstr(path)).text);
    }
    wk_json_free(doc);
    wk_buf_fini(&text);
    return rc;
}

int wk_talk_load(wk_talk *t, const char *path, wk_err *err) {
    wk_talk fresh;
    wk_talk_init(&fresh);
    const int rc = read_talk(&fresh, path, err);
    if (rc) {
        wk_talk_fini(&fresh);
        return rc;
    }
    wk_talk_fini(t);
    *t = fresh;
    return WICK_OK;
}

/* Nothing there, or a conversation: it may be replaced. */
static int may_replace(const char *path, wk_err *err) {
    struct stat st;
    wk_talk old;
    wk_err why = {0};
    if (stat(path, &st) != 0) return WICK_OK;
    wk_talk_init(&old);
    const int rc = read_talk(&old, path, &why);
    wk_talk_fini(&old);
    if (!rc) return WICK_OK;
    return wk_fail(err, WICK_E_ARG, "%s exists and is no saved conversation; it is left alone",
                   wk_show(wk_cstr(path)).text);
}

int wk_talk_save(const wk_talk *t, const char *path, wk_str model, wk_err *err) {
    wk_buf b;
    WK_TRY(may_replace(path, err));
    wk_buf_init(&b, 0);
    (void)wk_buf_adds(&b, "{\"schema\":\"wick.chat/1\",\"model\":");
    wk_json_put_str(&b, model);
    (void)wk_buf_addc(&b, ',');
    put_messages(t, &b);
    (void)wk_buf_adds(&b, "}\n");
    const int rc = b.failed ? wk_fail(err, WICK_E_NOMEM, "no memory for the conversation")
                            : wk_file_replace(path, wk_buf_str(&b), err);
    wk_buf_fini(&b);
    return rc;
}

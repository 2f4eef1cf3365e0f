/* jinja_ctx.c: JSON to values. Strings of a request are views into it and count as user text, but for
 * those that a path of the trusted list names: "bos_token", "messages[].role". */
#include <string.h>

#include "engine/text/jinja_val.h"

#define MAX_TRUSTED 16

/* What is left of each trusted path below the value at hand. "" = this value and all in it. */
typedef struct paths {
    const char *rest[MAX_TRUSTED];
    int n;
} paths;

typedef struct importer {
    wk_jvm *vm;
    bool copy, user;
} importer;

static bool import_value(importer *im, const wk_json *v, const paths *at, wk_jv *out);

static bool is_trusted(const paths *at) {
    for (int i = 0; i < at->n; i++)
        if (at->rest[i][0] == 0) return true;
    return false;
}

/* The paths that go on with the member key, or with "[]". */
static paths below(const paths *at, wk_str key) {
    paths p = {.n = 0};
    for (int i = 0; i < at->n; i++) {
        const char *rest = at->rest[i];
        if (rest[0] == '.') rest++;
        if (rest[0] == 0)
            p.rest[p.n++] = rest;
        else if (wk_str_starts(wk_cstr(rest), key) && strchr(".[", rest[key.n]))
            p.rest[p.n++] = rest + key.n;
    }
    return p;
}

static bool import_str(importer *im, wk_str s, const paths *at, wk_jv *out) {
    const bool user = im->user && !is_trusted(at);
    return im->copy ? wk_j_str_new(im->vm, s, user, out) : wk_j_str_view(im->vm, s, user, out);
}

static bool import_list(importer *im, const wk_json *v, const paths *at, wk_jv *out) {
    const size_t n = wk_json_count(v);
    const paths inner = below(at, WK_STR("[]"));
    if (!wk_j_list(im->vm, WK_J_AS_LIST, out)) return false;
    for (size_t i = 0; i < n; i++) {
        wk_jv e;
        if (!import_value(im, wk_json_at(v, i), &inner, &e) || !wk_j_append(im->vm, out->u.list, e))
            return false;
    }
    return true;
}

static bool import_dict(importer *im, const wk_json *v, const paths *at, wk_jv *out) {
    void *it = NULL;
    wk_str key;
    const wk_json *member;
    if (!wk_j_dict(im->vm, out)) return false;
    while (wk_json_next(v, &it, &key, &member)) {
        const paths inner = below(at, key);
        wk_jv k, e;
        if (!import_str(im, key, at, &k) || !import_value(im, member, &inner, &e)) return false;
        if (!wk_j_dict_put(im->vm, out->u.dict, k, e)) return false;
    }
    return true;
}

static bool import_value(importer *im, const wk_json *v, const paths *at, wk_jv *out) {
    bool ok;
    switch (wk_json_type(v)) {
    case WK_JSON_BOOL: *out = wk_j_bool(wk_json_bool(v)); return true;
    case WK_JSON_INT: *out = wk_j_int(wk_json_int(v)); return true;
    case WK_JSON_REAL: *out = wk_j_real(wk_json_real(v)); return true;
    case WK_JSON_STR: return import_str(im, wk_json_str(v), at, out);
    case WK_JSON_ARRAY:
    case WK_JSON_OBJECT: break;
    default: *out = wk_j_none(); return true;
    }
    if (!wk_j_enter(im->vm)) return false;
    ok = wk_json_type(v) == WK_JSON_ARRAY ? import_list(im, v, at, out)
                                          : import_dict(im, v, at, out);
    wk_j_leave(im->vm);
    return ok;
}

bool wk_j_import(wk_jvm *vm, const wk_json *v, const char *const *trusted, bool copy, bool user,
                 wk_jv *out) {
    importer im = {vm, copy, user};
    paths all = {.n = 0};
    for (; trusted && trusted[all.n]; all.n++) {
        if (all.n == MAX_TRUSTED) return wk_j_fail(vm, "more than %d trusted names", MAX_TRUSTED);
        all.rest[all.n] = trusted[all.n];
    }
    return import_value(&im, v, &all, out);
}

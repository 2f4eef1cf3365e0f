/* shards.c: a model cut into files NAME-00001-of-00003.gguf ... as one store. Every part is a GGUF file of its
 * own: the first holds the metadata, each holds some tensors and split.no, split.count, split.tensors.count.
 *
 * The path of part i is the path that was opened with its five digits replaced, and nothing else: no text of
 * a file ever becomes a part of a path. Any part may be opened, the others stand in its folder. */
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "engine/base/ck.h"
#include "engine/base/log.h"
#include "engine/file/store_impl.h"

static const char KEY_NO[] = "split.no";
static const char KEY_COUNT[] = "split.count";
static const char KEY_TENSORS[] = "split.tensors.count";

enum {
    PARTS_MAX = 65535,
    TAIL = 20 /* bytes of "-00001-of-00003.gguf" */
};

typedef struct split {
    uint64_t no, count, n_tensor; /* no counts from 0; count 0: one file */
} split;

/* ---- the keys ---------------------------------------------------------------------------------- */

static int needed(const wk_store *s, const char *key, uint64_t max, uint64_t *out, wk_err *err) {
    const int got = wk_meta_u64(s, key, 0, max, out, err);
    if (got < 0) return got;
    if (got) return WICK_OK;
    return wk_fail(err, WICK_E_FORMAT, "%s: %s is missing, a file with %s needs it", s->label, key,
                   KEY_COUNT);
}

/* A file that was put together again keeps its keys, with a count of 0. */
static int read_split(split *p, const wk_store *s, wk_err *err) {
    *p = (split){0};
    const int got = wk_meta_u64(s, KEY_COUNT, 0, PARTS_MAX, &p->count, err);
    if (got < 0) return got;
    if (p->count == 0) return WICK_OK;
    WK_TRY(needed(s, KEY_NO, p->count - 1, &p->no, err));
    return needed(s, KEY_TENSORS, UINT32_MAX, &p->n_tensor, err);
}

/* ---- the name ---------------------------------------------------------------------------------- */

static void make_tail(char out[TAIL + 1], const split *p) {
    (void)snprintf(out, TAIL + 1, "-%05u-of-%05u.gguf", (unsigned)(p->no + 1) % 100000u,
                   (unsigned)p->count % 100000u);
}

/* The name of a part says what its keys say. */
static int check_name(const wk_store *s, const split *p, wk_err *err) {
    char tail[TAIL + 1];
    make_tail(tail, p);
    const wk_str path = wk_cstr(s->path);
    if (wk_str_ends(path, wk_cstr(tail))) return WICK_OK;
    return wk_fail(err, WICK_E_FORMAT,
                   "%s is part %u of %u by its keys, its name must end with %s, or the other parts "
                   "cannot be found",
                   s->label, (unsigned)p->no + 1, (unsigned)p->count, tail);
}

static char *path_of(const char *path, const split *like, uint64_t no) {
    const size_t n = strlen(path);
    char *own = wk_strdup_n(path, n), tail[TAIL + 1];
    const split p = {.no = no, .count = like->count};
    if (!own) return NULL;
    make_tail(tail, &p);
    memcpy(own + n - TAIL, tail, TAIL);
    return own;
}

/* ---- the parts --------------------------------------------------------------------------------- */

static int check_same(const wk_store *s, const split *p, uint64_t no, const split *want,
                      wk_err *err) {
    const struct {
        const char *key;
        uint64_t found, want;
    } keys[] = {
        {KEY_COUNT, p->count, want->count},
        {KEY_NO, p->no, no},
        {KEY_TENSORS, p->n_tensor, want->n_tensor},
    };
    for (size_t i = 0; i < WK_COUNT(keys); i++) {
        if (keys[i].found == keys[i].want) continue;
        return wk_fail(err, WICK_E_FORMAT, "%s: %s is %llu, part %u of %u must have %llu", s->label,
                       keys[i].key, (unsigned long long)keys[i].found, (unsigned)no + 1,
                       (unsigned)want->count, (unsigned long long)keys[i].want);
    }
    return WICK_OK;
}

static int open_part(wk_store **out, const wk_store *from, const split *want, uint64_t no,
                     wk_err *err) {
    split p;
    char *path = path_of(from->path, want, no);
    if (!path) return wk_fail(err, WICK_E_NOMEM, "no memory for the name of a part");
    int rc = wk_store_open_file(out, path, err);
    wk_free(path);
    if (rc) {
        if (err) (void)wk_fail_at(err, "part %u of %u", (unsigned)no + 1, (unsigned)want->count);
        return rc;
    }
    rc = read_split(&p, *out, err);
    return rc ? rc : check_same(*out, &p, no, want, err);
}

/* Metadata that only a later part has is not looked at; the user should know. */
static void warn_metadata(const wk_store *head) {
    for (size_t i = 1; i < head->n_part; i++) {
        const wk_store *s = head->part[i];
        for (size_t k = 0; k < s->n_meta; k++) {
            const wk_str key = wk_store_meta_key(s, k);
            if (wk_str_is(key, "general.alignment") || wk_store_key(head, key)) continue;
            wk_log(WK_LOG_WARN, "%s: %s is ignored, only the first part's metadata counts",
                   s->label, wk_show(key).text);
            return;
        }
    }
}

/* ---- one store of all -------------------------------------------------------------------------- */

static const wk_store *part_at(const wk_store *head, size_t i) { return i ? head->part[i] : head; }

/* Label of the part that holds tensor i of all. */
static const char *label_of(const wk_store *head, size_t i) {
    size_t part = 0;
    while (i >= part_at(head, part)->n_tensor) i -= part_at(head, part++)->n_tensor;
    return part_at(head, part)->label;
}

static int count_tensors(const wk_store *head, const split *want, size_t *n, wk_err *err) {
    *n = 0;
    for (size_t i = 0; i < head->n_part; i++)
        if (!wk_add(n, *n, part_at(head, i)->n_tensor)) break;
    if (*n == want->n_tensor) return WICK_OK;
    return wk_fail(err, WICK_E_FORMAT, "%s: %s is %llu, the %zu parts together have %zu tensors",
                   head->label, KEY_TENSORS, (unsigned long long)want->n_tensor, head->n_part, *n);
}

/* Tensors of all parts in the order of the parts; names once over all of them. */
static int join_tensors(wk_store *head, size_t n, wk_err *err) {
    size_t n_tmp = 0, at = 0;
    int rc = WICK_OK;
    const bool fits = n <= UINT32_MAX && wk_mul(&n_tmp, n, 2);
    wk_store all = {.n_tensor = n};
    all.tensor = fits ? wk_new_n(wk_tensor, n) : NULL;
    all.by_name = all.tensor ? wk_new_n(uint32_t, n) : NULL;
    all.tmp = all.by_name ? wk_new_n(uint32_t, n_tmp) : NULL;
    if (!all.tmp) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for the index of %zu tensors", n);
        goto out;
    }
    for (size_t i = 0; i < head->n_part; i++) {
        const wk_store *s = part_at(head, i);
        if (s->n_tensor) memcpy(all.tensor + at, s->tensor, s->n_tensor * sizeof(*s->tensor));
        at += s->n_tensor;
    }
    int64_t dup;
    wk_store_sort_tensors(&all, &dup);
    if (dup >= 0) {
        rc = wk_fail(err, WICK_E_FORMAT, "%s: the tensor %s is in another part too",
                     label_of(head, (size_t)dup), wk_show(all.tensor[dup].name).text);
        goto out;
    }
    const wk_store old = *head;
    head->tensor = all.tensor;
    head->by_name = all.by_name;
    head->n_tensor = n;
    all.tensor = old.tensor;
    all.by_name = old.by_name;
out:
    wk_free(all.tensor);
    wk_free(all.by_name);
    wk_free(all.tmp);
    return rc;
}

/* part[no] = s; opens the others. The first becomes the owner of all. */
static int open_parts(wk_store **s, const split *want, wk_err *err) {
    wk_store **part = wk_new_n(wk_store *, (size_t)want->count);
    if (!part)
        return wk_fail(err, WICK_E_NOMEM, "no memory for %u parts", (unsigned)want->count);
    int rc = WICK_OK;
    const wk_store *opened = *s;
    part[want->no] = *s;
    for (uint64_t i = 0; !rc && i < want->count; i++)
        if (i != want->no) rc = open_part(&part[i], opened, want, i, err);
    wk_store *head = part[0] ? part[0] : *s; /* whatever was opened is freed with it */
    if (head != part[0]) part[want->no] = NULL;
    part[0] = NULL;
    head->part = part;
    head->n_part = (size_t)want->count;
    *s = head;
    return rc;
}

int wk_shards_join(wk_store **s, wk_err *err) {
    split p;
    size_t n;
    WK_TRY(read_split(&p, *s, err));
    if (p.count > 1) {
        WK_TRY(check_name(*s, &p, err));
        WK_TRY(open_parts(s, &p, err));
    } else if (p.count == 1) {
        (*s)->n_part = 1;
    }
    if (p.count == 0) return WICK_OK;
    WK_TRY(count_tensors(*s, &p, &n, err));
    if (p.count == 1) return WICK_OK;
    WK_TRY(join_tensors(*s, n, err));
    for (size_t i = 1; i < (*s)->n_part; i++)
        if (!wk_add(&(*s)->all_bytes, (*s)->all_bytes, (*s)->part[i]->n)) (*s)->all_bytes = SIZE_MAX;
    warn_metadata(*s);
    return WICK_OK;
}

int wk_shards_refuse(const wk_store *s, wk_err *err) {
    split p;
    WK_TRY(read_split(&p, s, err));
    if (p.count < 2) return WICK_OK;
    return wk_fail(err, WICK_E_UNSUPPORTED,
                   "%s is part %u of %u; parts are joined from files only, not from memory",
                   s->label, (unsigned)p.no + 1, (unsigned)p.count);
}

/* talk.h: a conversation: a system message, then the user's and the model's in turn. */
#ifndef WK_TALK_H
#define WK_TALK_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

typedef enum wk_talk_role { WK_TALK_USER, WK_TALK_ASSISTANT } wk_talk_role;

/* A failed append stays in `failed` until the next request, which then fails. */
typedef struct wk_talk {
    wk_buf text;   /* of all messages, one behind the other */
    wk_buf rows;   /* of wk_talk_row */
    wk_buf system; /* n = 0: none */
} wk_talk;

void wk_talk_init(wk_talk *t);
void wk_talk_fini(wk_talk *t);
void wk_talk_clear(wk_talk *t); /* the system message stays */
void wk_talk_system(wk_talk *t, wk_str text);
size_t wk_talk_count(const wk_talk *t);
wk_str wk_talk_at(const wk_talk *t, size_t i, wk_talk_role *role);
void wk_talk_add(wk_talk *t, wk_talk_role role, wk_str text);
/* Keeps the first n messages. */
void wk_talk_cut(wk_talk *t, size_t n);

/* {"messages":[...],"add_generation_prompt":true}; request->failed: no memory. */
void wk_talk_request(const wk_talk *t, wk_buf *request);
/* {"schema":"wick.chat/1","model":...,"messages":[...]}, complete or not at all, readable by its owner only. A file
 * that is there and is no saved conversation is refused. */
int wk_talk_save(const wk_talk *t, const char *path, wk_str model, wk_err *err);
/* Such a file, or a bare array of messages. On an error the conversation stays as it was. */
int wk_talk_load(wk_talk *t, const char *path, wk_err *err);
/* A text file of at most max bytes, checked to be UTF-8 without NUL, appended to b. */
int wk_talk_read_file(wk_buf *b, const char *path, size_t max, wk_err *err);

/* Replaces a file: temporary file of mode 0600 beside it, fsync, rename, fsync of the folder. */
int wk_file_replace(const char *path, wk_str text, wk_err *err);

#endif

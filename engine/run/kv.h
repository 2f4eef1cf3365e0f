/* kv.h: the pool of KV pages: who holds which page, and which pages hold known prefixes.
 *
 * Numbers only; the memory belongs to the device. Pages of 64 positions are handed out, shared by reference
 * count and, once full, remembered under the hash of everything up to their last token, so that a later prompt with
 * the same beginning takes them as they are. A remembered page that nobody holds is the first to be reused, least
 * recently used first. Single-threaded: the engine thread's. Nothing is allocated after init. */
#ifndef WK_RUN_KV_H
#define WK_RUN_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/base/hash.h"
#include "engine/graph/backend.h"

#define WK_NO_PAGE UINT32_MAX

typedef struct wk_kv_pool wk_kv_pool;

int wk_kv_open(wk_kv_pool **out, uint32_t n_page, wk_err *err);
void wk_kv_close(wk_kv_pool *p); /* NULL is fine */

uint32_t wk_kv_total(const wk_kv_pool *p);
uint32_t wk_kv_available(const wk_kv_pool *p); /* free, or remembered and held by nobody */
uint32_t wk_kv_remembered(const wk_kv_pool *p);

/* A page with one reference, its content undefined; WK_NO_PAGE if none is available. May forget a prefix. */
uint32_t wk_kv_take(wk_kv_pool *p);
void wk_kv_hold(wk_kv_pool *p, uint32_t page);
void wk_kv_release(wk_kv_pool *p, uint32_t page);

/* The chain: hash of the pages before, then these 64 tokens. */
wk_hash wk_kv_chain(wk_hash before, const int32_t tok[WK_KV_PAGE]);
/* The page that holds exactly these tokens after exactly that prefix, or WK_NO_PAGE. Not yet held. */
uint32_t wk_kv_find(wk_kv_pool *p, wk_hash before, const int32_t tok[WK_KV_PAGE]);
/* Remembers a full page that the caller holds; does nothing if an equal one is known. */
void wk_kv_remember(wk_kv_pool *p, uint32_t page, wk_hash before, const int32_t tok[WK_KV_PAGE]);

#endif

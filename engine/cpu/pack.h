/* pack.h: weights of a plan -> 16-row panels and f32 vectors in one huge-page mapping. */
#ifndef WK_PACK_H
#define WK_PACK_H

#include "engine/base/arena.h"
#include "engine/base/pool.h"
#include "engine/graph/backend.h"

typedef struct wk_packed {
    const uint8_t *p;    /* panels, or f32 values of a vector; 64-byte aligned */
    size_t panel_bytes;
    int32_t n_panel;
    bool in_use;         /* by a step of the part */
} wk_packed;

/* Bytes that wk_pack_all will map. false: overflow. */
bool wk_pack_bytes(const wk_plan *p, const wk_part *part, size_t *out);
/* Packs every weight of the part with the team (the others are left without panels); drops the file's pages behind it.
 * Errors: E_NOMEM, E_FORMAT (a scale or value that is not finite: tensor, row), E_CANCELED (progress). */
int wk_pack_all(wk_packed *out, wk_pages *mem, const wk_plan *p, const wk_part *part, wk_team *team,
                const wk_host *host, wk_err *err);

#endif

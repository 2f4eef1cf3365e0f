/* offload.h: the device beside the cpu that an engine's options name, and which parts of the plan it runs.
 *
 * Units are the layers, the first with what precedes it, and the tail: unit n_layer (last norm, head). A number n of
 * layers means the last n of them; n_layer means all units. What the device cannot run stays on the cpu. */
#ifndef WK_OFFLOAD_H
#define WK_OFFLOAD_H

#include "engine/base/buf.h"
#include "engine/graph/backend.h"

typedef struct wk_offload {
    const wk_backend_ops *ops; /* NULL: the cpu runs everything */
    wk_dev *dev;
    char name[48]; /* "cuda:0" */
    wk_dev_info info;
    double host_rate; /* bytes a second of the host reading its memory; 0: not measured */
    bool *can;        /* [n_layer + 1] units that it can run */
    int32_t n_can, first_cannot; /* step that it cannot run, -1: none */
    int32_t n;        /* layers that it runs */
    bool is_slower;   /* n is 0 because the host reads faster */
} wk_offload;

/* What may be asked: "cpu" (or NULL), "auto", or a name as the loader takes it (gpu/loader/loader.h). n_layer:
 * WK_OFFLOAD_AUTO, WK_OFFLOAD_NONE, or a number of layers. */
enum { WK_OFFLOAD_AUTO = 0, WK_OFFLOAD_NONE = -1 };

/* Opens the device and asks what it can run; measures when n_layer is to be chosen. *o is empty where the cpu was asked
 * for, and, after a line of the log, where "auto" finds nothing usable. Errors: of the loader and the device; E_DEVICE:
 * it can run no layer of this plan. */
int wk_offload_open(wk_offload *o, const wk_plan *p, const char *device, int32_t n_layer, const wk_host *host,
                    wk_err *err);
void wk_offload_close(wk_offload *o); /* empty is fine; o is empty then */
/* Chooses n for a cache of n_page pages: n_layer, or the most layers that fit 90 % of the device's free memory together
 * with what their passes may take later, if a token then takes less time than on the cpu alone. */
void wk_offload_place(wk_offload *o, const wk_plan *p, int32_t n_layer, uint32_t n_page);

/* The parts in order: from unit *unit (0 at first) on as far as one device goes; false behind the last. */
bool wk_offload_next(const wk_offload *o, const wk_plan *p, int32_t *unit, wk_part *part, bool *on_dev);
/* What the parts on the device take of its memory, those on the cpu of the host's, staging included; SIZE_MAX: too much.
 * later: what passes may take of the device beside (backend.h); weights: file bytes of the cpu's parts. */
typedef struct wk_offload_need {
    size_t dev, later, host, weights;
} wk_offload_need;
wk_offload_need wk_offload_bytes(const wk_offload *o, const wk_plan *p, uint32_t n_page, int n_thread);
/* "cuda:0 (NVIDIA H100): layers 12 to 23; cpu: layers 0 to 11, head", or "cpu". */
void wk_offload_text(const wk_offload *o, const wk_plan *p, wk_buf *out);

#endif

/* elem.c: the small operations: rows of norms and quantisation, heads of rope and cache, element by element. */
#include <string.h>

#include "engine/cpu/exec.h"

void wk_exec_embed(const wk_ctx *c, const wk_step *s, wk_range r) {
    const wk_exec *x = c->x;
    const wk_weight *w = &x->plan->weight[s->w[0]];
    const wk_packed *p = &x->w[s->w[0]];
    for (int32_t t = r.t0; t < r.t1; t++) {
        const int32_t id = x->b->tok[t];
        float *dst = wk_val_f32(c, s->dst, t);
        wk_formats[w->fmt].decode_lane(dst, p->p + (size_t)(id / WK_PANEL) * p->panel_bytes,
                                       id % WK_PANEL, w->k);
        if (s->scale != 1.0f) x->dev->k.scale(dst, dst, s->scale, w->k);
    }
}

void wk_exec_rms(const wk_ctx *c, const wk_step *s, wk_range r) {
    const wk_exec *x = c->x;
    const float *w = (const float *)(const void *)x->w[s->w[0]].p;
    const int dim = x->plan->val[s->dst].dim;
    for (int32_t t = r.t0; t < r.t1; t++)
        x->dev->k.rms(wk_val_f32(c, s->dst, t), NULL, wk_val_f32(c, s->src[0], t), w, dim, s->eps);
}

void wk_exec_quant(const wk_ctx *c, const wk_step *s, wk_range r) {
    const wk_exec *x = c->x;
    const wk_val *v = &x->plan->val[s->dst];
    wk_act a = wk_val_act(c, s->dst);
    for (int32_t t = r.t0; t < r.t1; t++)
        x->dev->k.quant[v->type == WK_VAL_A32 ? WK_X_A32 : WK_X_A256](
            &a, t, wk_val_f32(c, s->src[0], t), v->dim);
}

void wk_exec_pick(const wk_ctx *c, const wk_step *s, wk_range r) {
    const int32_t dim = c->x->plan->val[s->dst].dim;
    for (int32_t t = r.t0; t < r.t1; t++)
        memcpy(wk_val_f32(c, s->dst, t), wk_val_f32(c, s->src[0], c->x->b->out[t]),
               (size_t)dim * sizeof(float));
}

void wk_exec_headrms(const wk_ctx *c, const wk_step *s, wk_range r) {
    const wk_exec *x = c->x;
    const float *w = (const float *)(const void *)x->w[s->w[0]].p;
    const wk_piece dst = wk_val_piece(c, s->dst, r), src = wk_val_piece(c, s->src[0], r);
    for (size_t t = 0; t < (size_t)(r.t1 - r.t0); t++)
        for (int32_t i = 0; i < r.r1 - r.r0; i += s->head_dim)
            x->dev->k.rms(dst.p + t * dst.ld + i, NULL, src.p + t * src.ld + i, w, s->head_dim, s->eps);
}

void wk_exec_rope(const wk_ctx *c, const wk_step *s, wk_range r) {
    const wk_exec *x = c->x;
    const int32_t n_rot = x->plan->rope[s->rope].n_rot, n_head = (r.r1 - r.r0) / s->head_dim;
    const wk_piece dst = wk_val_piece(c, s->dst, r), src = wk_val_piece(c, s->src[0], r);
    const float *cs = x->cs[s->rope] + (size_t)r.t0 * (size_t)n_rot;
    for (size_t t = 0; t < (size_t)(r.t1 - r.t0); t++, cs += n_rot) {
        float *y = dst.p + t * dst.ld;
        const float *from = src.p + t * src.ld;
        if (y != from) memcpy(y, from, (size_t)(r.r1 - r.r0) * sizeof(float));
        x->dev->k.rope[s->pairing](y, cs, n_head, s->head_dim, n_rot);
    }
}

/* K goes into the panels (positions in lanes), V into its row. */
static void put_plain(uint8_t *dst, const uint8_t *row, int hd, int slot, size_t elem, bool is_v) {
    if (is_v) {
        memcpy(dst + (size_t)slot * (size_t)hd * elem, row, (size_t)hd * elem);
        return;
    }
    uint8_t *lane = dst + ((size_t)(slot / 16) * (size_t)hd * 16 + (size_t)(slot % 16)) * elem;
    for (int d = 0; d < hd; d++) memcpy(lane + (size_t)d * 16 * elem, row + (size_t)d * elem, elem);
}

/* Q8_0: K into lane slot % 16 of a packed panel (simd/format.h), V as scales and codes apart (simd/kernels.h). */
static void put_q8_k(uint8_t *dst, const wk_block_q8_0 *row, int hd, int slot) {
    const size_t lane = (size_t)(slot % WK_PANEL);
    uint8_t *b = dst + (size_t)(slot / WK_PANEL) * wk_panel_bytes(WK_FMT_Q8_0, (size_t)hd);
    for (int i = 0; i < hd / 32; i++, row++, b += sizeof(*row) * WK_PANEL) {
        memcpy(b + lane * sizeof(wk_f16), &row->d, sizeof(wk_f16));
        for (size_t g = 0; g < 8; g++) {
            uint32_t code;
            memcpy(&code, row->qs + 4 * g, 4);
            code ^= 0x80808080u;
            memcpy(b + WK_PANEL * (sizeof(wk_f16) + 4 * g) + 4 * lane, &code, 4);
        }
    }
}
static void put_q8_v(uint8_t *dst, const wk_block_q8_0 *row, int hd, int slot) {
    const size_t blocks = (size_t)hd / 32, at = (size_t)slot * blocks;
    uint8_t *code = dst + WK_KV_PAGE * blocks * sizeof(wk_f16);
    for (size_t i = 0; i < blocks; i++) {
        memcpy(dst + (at + i) * sizeof(wk_f16), &row[i].d, sizeof(wk_f16));
        memcpy(code + (at + i) * 32, row[i].qs, 32);
    }
}

static void put_slot(uint8_t *dst, const void *row, int type, int hd, int slot, bool is_v) {
    if (type != WK_KV_Q8_0)
        put_plain(dst, row, hd, slot, wk_kv_elem(type), is_v);
    else if (is_v)
        put_q8_v(dst, row, hd, slot);
    else
        put_q8_k(dst, row, hd, slot);
}

void wk_exec_kvput(const wk_ctx *c, const wk_step *s, wk_range r) {
    const wk_exec *x = c->x;
    const int type = x->plan->kv_type, hd = s->head_dim;
    const size_t v_off = wk_kv_k_bytes(type, hd);
    const wk_piece src = wk_val_piece(c, s->src[0], r);
    void *row = x->scratch[c->rank].cast;
    for (int32_t t = r.t0; t < r.t1; t++) {
        const int32_t pos = x->tok_pos[t];
        const uint32_t page = x->b->seq[x->tok_seq[t]].page[pos / WK_KV_PAGE];
        for (int32_t i = r.r0; i < r.r1; i += hd) {
            if (x->dev->k.kv_cast[type](row, src.p + (size_t)(t - r.t0) * src.ld + (i - r.r0), hd))
                __atomic_store_n(&x->b->bad_tok[t], 1,
                                 __ATOMIC_RELAXED); /* heads of a token belong to several threads */
            uint8_t *dst = wk_kv_head(x, page, s->layer, i / hd) + (s->which ? v_off : 0);
            put_slot(dst, row, type, hd, pos % WK_KV_PAGE, s->which);
        }
    }
}

/* Rows of what a step writes and reads, piece by piece. */
typedef struct pieces {
    wk_piece dst, a, b;
    int n, rows;
} pieces;

static pieces pieces_of(const wk_ctx *c, const wk_step *s, wk_range r) {
    pieces p = {.dst = wk_val_piece(c, s->dst, r), .a = wk_val_piece(c, s->src[0], r), .n = r.r1 - r.r0, .rows = r.t1 - r.t0};
    if (s->src[1] >= 0) p.b = wk_val_piece(c, s->src[1], r);
    return p;
}

void wk_exec_bias(const wk_ctx *c, const wk_step *s, wk_range r) {
    const float *b = (const float *)(const void *)c->x->w[s->w[0]].p;
    pieces p = pieces_of(c, s, r);
    for (int t = 0; t < p.rows; t++, p.dst.p += p.dst.ld, p.a.p += p.a.ld)
        c->x->dev->k.add(p.dst.p, p.a.p, b + r.r0, p.n);
}

enum { ROWS_AHEAD = 8 };

/* The same piece of a later row: pieces of 128 bytes at the distance of a row train no prefetcher (prompt of 512,
 * SmolLM2: the step's share 4.2 -> 2.2 %). */
static void fetch_ahead(const wk_piece *v, int n) {
    for (int i = 0; i < n; i += WK_PANEL) __builtin_prefetch(v->p + ROWS_AHEAD * v->ld + i, 0, 3);
}

void wk_exec_add(const wk_ctx *c, const wk_step *s, wk_range r) {
    pieces p = pieces_of(c, s, r);
    const int fetched = p.n <= 4 * WK_PANEL ? p.rows - ROWS_AHEAD : 0;
    for (int t = 0; t < p.rows; t++, p.dst.p += p.dst.ld, p.a.p += p.a.ld, p.b.p += p.b.ld) {
        if (t < fetched && p.a.ld > (size_t)p.n) fetch_ahead(&p.a, p.n);
        if (t < fetched && p.b.ld > (size_t)p.n) fetch_ahead(&p.b, p.n);
        c->x->dev->k.add(p.dst.p, p.a.p, p.b.p, p.n);
    }
}

void wk_exec_lora(const wk_ctx *c, const wk_step *s, wk_range r) {
    pieces p = pieces_of(c, s, r);
    for (int t = 0; t < p.rows; t++, p.dst.p += p.dst.ld, p.a.p += p.a.ld, p.b.p += p.b.ld)
        c->x->dev->k.fma(p.dst.p, p.a.p, p.b.p, s->scale, p.n);
}

void wk_exec_glu(const wk_ctx *c, const wk_step *s, wk_range r) {
    pieces p = pieces_of(c, s, r);
    for (int t = 0; t < p.rows; t++, p.dst.p += p.dst.ld, p.a.p += p.a.ld, p.b.p += p.b.ld)
        c->x->dev->k.glu[s->fn](p.dst.p, p.a.p, p.b.p, p.n);
}

void wk_exec_softcap(const wk_ctx *c, const wk_step *s, wk_range r) {
    const float inv = (float)(1.0 / (double)s->softcap);
    pieces p = pieces_of(c, s, r);
    for (int t = 0; t < p.rows; t++, p.dst.p += p.dst.ld, p.a.p += p.a.ld)
        c->x->dev->k.softcap(p.dst.p, p.a.p, s->softcap, inv, p.n);
}

/* owner.c: from pieces to threads by way of the stages. A unit of a chain reads the same rows of all its matrices
 * (gate and up), and a stage's chains follow each other in its tickets (cpu.c, cut_chains). */
#include "engine/cpu/owner.h"

/* The share of its stage at which a weight begins and ends. */
typedef struct share {
    double from, to;
} share;

int wk_owner_of(double at, int n_thread) {
    const int rank = (int)(at * n_thread);
    return rank < n_thread ? rank : n_thread - 1;
}

static double chain_bytes(const wk_plan *p, const wk_chain *ch, const wk_packed *w) {
    double n = 0;
    for (int32_t i = 0; i < ch->n; i++) {
        const wk_step *s = &p->step[p->order[ch->first + i]];
        if (s->op == WK_OP_matmul) n += (double)w[s->w[0]].panel_bytes * w[s->w[0]].n_panel;
    }
    return n;
}

static void share_stage(share *out, const wk_plan *p, const wk_stage *st, const wk_packed *w) {
    double all = 0, at = 0;
    for (int32_t c = 0; c < st->chain_n; c++) all += chain_bytes(p, &p->chain[st->chain_first + c], w);
    for (int32_t c = 0; c < st->chain_n && all > 0; c++) {
        const wk_chain *ch = &p->chain[st->chain_first + c];
        const double n = chain_bytes(p, ch, w);
        for (int32_t i = 0; i < ch->n; i++) {
            const wk_step *s = &p->step[p->order[ch->first + i]];
            if (s->op == WK_OP_matmul) out[s->w[0]] = (share){at / all, (at + n) / all};
        }
        at += n;
    }
}

bool wk_owners(uint16_t *owner, size_t n_piece, size_t piece, const wk_plan *p, const wk_packed *w, const uint8_t *base,
               int n_thread) {
    share *s = wk_new_n(share, (size_t)p->n_weight);
    if (!s) return false;
    for (int32_t i = 0; i < p->n_weight; i++) s[i] = (share){0, 1}; /* vectors, rows of an embedding */
    for (int32_t i = 0; i < p->n_stage; i++) share_stage(s, p, &p->stage[i], w);
    int32_t at = 0;
    for (size_t i = 0; i < n_piece; i++) {
        const size_t mid = i * piece + piece / 2;
        while (at + 1 < p->n_weight && (size_t)(w[at + 1].p - base) <= mid) at++;
        const double n = (double)w[at].panel_bytes * w[at].n_panel, in = (double)(mid - (size_t)(w[at].p - base));
        const double part = n > 0 && in < n ? in / n : 0;
        owner[i] = (uint16_t)wk_owner_of(s[at].from + part * (s[at].to - s[at].from), n_thread);
    }
    wk_free(s);
    return true;
}

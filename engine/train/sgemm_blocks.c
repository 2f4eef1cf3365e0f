/* sgemm_blocks.c: the engines wick and bf16: products on the team, in blocks. C is cut along its longer side; a ticket is a strip of it, so that every element has
 * one writer, and k runs through all of them in pieces, ascending. Columns of C are packed to panels; rows are read
 * where they lie, or packed if they lie across k (TN) or pages apart. What the longer side needs is packed piece by
 * piece by the thread whose strip it is, what the shorter side needs before that, as many pieces as SHARED holds (a
 * stage). A product of one stage whose shared side lies well, or of few threads, has no barrier at all.
 *
 * The engine bf16 is the same with pairs of k where the other has values: all of both sides is packed then.
 *
 *        shared side                     one tile: 8 rows x 32 columns (the level's) over a piece of k. A strip's
 *      +------------------------------+  piece (64 x 512) stays in L2, the rows of a tile (16 KB) or a pair of panels
 *      | strip of thread 0            |  (64 KB) are used for all of the strip. Cutting the piece once more for L1,
 *      | strip of thread 1            |  64 rows x 128 k, was measured on Zen 4: 0.940 to 0.944 of the peak in L2
 *      | ...                          |  against 0.935 to 0.949 without.
 *      +------------------------------+ */
#include <string.h>

#include "engine/train/sgemm_impl.h"

enum {
    GROUP = WK_SGEMM_GROUP,
    KC = 512,               /* longest piece of k */
    ROW_LD = KC + GROUP,    /* of packed rows: not a power of two */
    PART = 32,              /* of the shared side, packed by one ticket */
    WIDE = 64, NARROW = 32, /* width of a strip: at most, at least */
    SHARED_N = 2048,        /* of the shared side in one stage */
    EACH = 4,               /* threads up to which each packs the shared side for itself */
    SHARED = SHARED_N * ROW_LD,
    FAR = 1024,             /* rows whose distance this divides fall upon each other in L1 */
    COLS_MOST = 16,         /* of a tile, that the house's levels have: rows of C */
    PANELS = 2,             /* of a tile */
    OWN = WIDE * ROW_LD,
    ACC = COLS_MOST * PANELS * GROUP,
    PER_THREAD = OWN + ACC
};
enum { ROWS, COLS };

typedef struct job {
    const wk_sgemm_call *c;
    wk_sgemm_side side[2]; /* A by rows, B by columns */
    int shared, own;       /* which of the sides */
    bool packs_rows;
    bool by_acc;           /* C by way of a buffer */
    bool turned;           /* Ct is made of Bt and At: TN of few columns, which would leave most of a panel empty */
    int32_t k;             /* values, or pairs: so all k below */
    int32_t kc, span;      /* k of a piece, a multiple of 64, and of a stage, a multiple of that */
    int32_t shared_n;      /* of a stage */
    int32_t width;         /* of a strip */
} job;

/* What a stage works on. */
typedef struct stage {
    int32_t s0, n; /* of the shared side */
    int32_t k0, kn;
} stage;

struct wk_sgemm_blocks {
    wk_gemm tile;      /* of the engine */
    wk_gemm thin_tile; /* f32 */
    void (*fma)(float *dst, const float *y, const float *x, float c, int n);
    void (*pair_pack)(const wk_pair_square *s); /* NULL: f32 */
    wk_team *team;
    wk_pages mem;
    float *packed;          /* [1, or threads up to EACH][SHARED] */
    float *mine;            /* [threads][PER_THREAD] */
    wk_tickets pack, strip; /* set by rank 0 between two barriers */
    job job;
};

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t up(int32_t n, int32_t step) { return (n + step - 1) / step * step; }

/* ---- a strip ----------------------------------------------------------------------------------- */

/* One piece of k for some rows and columns; a: row 0, b: panel 0 of them. */
typedef struct piece {
    const wk_gemm *tile;
    const float *a, *b;
    size_t lda;
    int32_t i0, j0;
    int32_t kn;
    bool first;
    const float *scale; /* NULL, or what the piece is multiplied by before it is added */
} piece;

static void copy_rows(float *dst, size_t ld, const float *src, size_t lds, int32_t n_row, int32_t n_col) {
    for (int32_t i = 0; i < n_row; i++)
        memcpy(dst + (size_t)i * ld, src + (size_t)i * lds, (size_t)n_col * sizeof(float));
}

/* A tile of Ct. */
static void run_turned(const wk_sgemm_blocks *g, const piece *p, int32_t i, int32_t j, int32_t n_col, const wk_panel *w,
                       const wk_act *x, float *acc) {
    const size_t ldc = g->job.c->ldc;
    float *dst = g->job.c->c + (size_t)(p->j0 + j) * ldc + (size_t)(p->i0 + i);
    for (int32_t q = 0; q < n_col && !p->first; q++)
        for (int32_t r = 0; r < x->n; r++) acc[r * PANELS * GROUP + q] = dst[(size_t)q * ldc + (size_t)r];
    p->tile->tile(acc, PANELS * GROUP, w, (n_col + GROUP - 1) / GROUP, x, x->n, p->kn, p->first);
    for (int32_t q = 0; q < n_col; q++)
        for (int32_t r = 0; r < x->n; r++) dst[(size_t)q * ldc + (size_t)r] = acc[r * PANELS * GROUP + q];
}

/* Rows i .. and columns j .. of the piece, one tile: into C itself, or by way of acc: the tile writes whole panels. */
static void run_tile(const wk_sgemm_blocks *g, const piece *p, int32_t i, int32_t n_row, int32_t j, int32_t n_col, float *acc) {
    const wk_sgemm_call *c = g->job.c;
    const int np = (n_col + GROUP - 1) / GROUP;
    const float *b = p->b + (size_t)j * (size_t)p->kn;
    const wk_act x = {.n = n_row, .k = p->kn, .ld = p->lda, .x = p->a + (size_t)i * p->lda};
    const wk_panel w[PANELS] = {{.f = (float *)(uintptr_t)b},
                                {.f = (float *)(uintptr_t)(b + (np > 1 ? (size_t)p->kn * GROUP : 0))}};
    if (g->job.turned) {
        run_turned(g, p, i, j, n_col, w, &x, acc);
        return;
    }
    float *dst = c->c + (size_t)(p->i0 + i) * c->ldc + (size_t)(p->j0 + j);
    for (int32_t r = 0; r < n_row; r++) { /* the tile comes to C after a chunk of k */
        __builtin_prefetch(dst + (size_t)r * c->ldc, 1);
        __builtin_prefetch(dst + (size_t)r * c->ldc + (size_t)(n_col - 1), 1);
    }
    if (p->scale) {
        p->tile->tile(acc, PANELS * GROUP, w, np, &x, n_row, p->kn, true);
        for (int32_t r = 0; r < n_row; r++) {
            float *y = dst + (size_t)r * c->ldc;
            g->fma(y, y, acc + r * PANELS * GROUP, *p->scale, n_col);
        }
        return;
    }
    if (!g->job.by_acc && n_col % GROUP == 0) {
        p->tile->tile(dst, c->ldc, w, np, &x, n_row, p->kn, p->first);
        return;
    }
    if (!p->first) copy_rows(acc, PANELS * GROUP, dst, c->ldc, n_row, n_col);
    p->tile->tile(acc, PANELS * GROUP, w, np, &x, n_row, p->kn, p->first);
    copy_rows(dst, c->ldc, acc, PANELS * GROUP, n_row, n_col);
}

/* For each tile's breadth of the shared side all of the strip. */
static void run_piece(const wk_sgemm_blocks *g, const piece *p, int32_t n_shared, int32_t n_own, float *acc) {
    const bool rows_own = g->job.own == ROWS;
    const int32_t by[2] = {p->tile->cols, p->tile->rows};
    const int32_t bs = by[!rows_own ? ROWS : COLS], bo = by[rows_own ? ROWS : COLS];
    for (int32_t s = 0; s < n_shared; s += bs)
        for (int32_t o = 0; o < n_own; o += bo) {
            const int32_t ns = least(n_shared - s, bs), no = least(n_own - o, bo);
            if (rows_own)
                run_tile(g, p, o, no, s, ns, acc);
            else
                run_tile(g, p, s, ns, o, no, acc);
        }
}

static void pack_rows(const wk_sgemm_blocks *g, float *dst, const wk_sgemm_side *s, int32_t i, int32_t n, int32_t k, int32_t kn) {
    if (g->pair_pack)
        wk_sgemm_pair_rows(g->pair_pack, dst, ROW_LD, s, i, n, k, kn);
    else
        wk_sgemm_pack_rows(dst, ROW_LD, s, i, n, k, kn);
}

static void pack_panels(const wk_sgemm_blocks *g, float *dst, const wk_sgemm_side *s, int32_t i, int32_t n, int32_t k, int32_t kn) {
    if (g->pair_pack)
        wk_sgemm_pair_panels(g->pair_pack, dst, s, i, n, k, kn);
    else
        wk_sgemm_pack_panels(dst, s, i, n, k, kn);
}

/* Row i of A from k on where it lies. */
static const float *row_at(const wk_sgemm_call *c, int32_t i, int32_t k) {
    return c->a + (size_t)i * c->lda + (size_t)k;
}

static int n_packed(const wk_sgemm_blocks *g) { return wk_team_size(g->team) <= EACH ? wk_team_size(g->team) : 1; }

/* Packed rows of a stage, or panels: piece by piece. */
static float *shared_at(const wk_sgemm_blocks *g, const stage *st, int32_t k, int rank) {
    const size_t n_pad = (size_t)up(st->n, GROUP);
    return g->packed + (size_t)(rank % n_packed(g)) * SHARED + n_pad * (size_t)(g->job.shared == ROWS ? k / g->job.kc * ROW_LD : k);
}

/* The call's thin product, for o0 .. o0+on-1 of the own side. */
static void run_thin(const wk_sgemm_blocks *g, const stage *st, int32_t o0, int32_t on, float *acc) {
    const wk_sgemm_call *c = g->job.c;
    const wk_sgemm_thin *t = c->thin;
    const bool rows_own = g->job.own == ROWS;
    piece p = {.tile = &g->thin_tile, .lda = t->lda, .i0 = rows_own ? o0 : st->s0, .j0 = rows_own ? st->s0 : o0, .kn = t->k};
    p.a = t->a + (size_t)p.i0 * t->lda;
    p.b = t->panels + (size_t)p.j0 * (size_t)t->k;
    p.first = t->before && !c->add;
    p.scale = t->before ? NULL : &t->scale;
    run_piece(g, &p, st->n, on, acc);
}

static void run_strip(const wk_sgemm_blocks *g, const stage *st, uint32_t ticket, int rank) {
    const job *j = &g->job;
    float *own = g->mine + (size_t)rank * PER_THREAD;
    const int32_t o0 = (int32_t)ticket * j->width, on = least(j->side[j->own].n - o0, j->width);
    const wk_sgemm_thin *thin = j->c->thin;
    const bool writes = !j->c->add && !(thin && thin->before);
    if (thin && thin->before && st->k0 == 0) run_thin(g, st, o0, on, own + OWN);
    for (int32_t k = 0; k < st->kn; k += j->kc) {
        const int32_t k0 = st->k0 + k, kn = least(st->kn - k, j->kc);
        const float *shared = shared_at(g, st, k, rank);
        piece p = {.tile = &g->tile, .kn = kn, .first = writes && k0 == 0, .lda = j->packs_rows ? (size_t)ROW_LD : j->c->lda};
        if (j->own == COLS) {
            pack_panels(g, own, &j->side[COLS], o0, on, k0, kn);
            p.i0 = st->s0;
            p.j0 = o0;
            p.a = j->packs_rows ? shared : row_at(j->c, st->s0, k0);
            p.b = own;
        } else {
            if (j->packs_rows) pack_rows(g, own, &j->side[ROWS], o0, on, k0, kn);
            p.i0 = o0;
            p.j0 = st->s0;
            p.a = j->packs_rows ? own : row_at(j->c, o0, k0);
            p.b = shared;
        }
        run_piece(g, &p, st->n, on, own + OWN);
    }
    if (thin && !thin->before && st->k0 + st->kn == j->k) run_thin(g, st, o0, on, own + OWN);
}

/* ---- stages ------------------------------------------------------------------------------------ */

static bool packs_shared(const job *j) { return j->shared == COLS || j->packs_rows; }
static uint32_t n_parts(const stage *st) { return (uint32_t)((st->n + PART - 1) / PART); }

static uint32_t n_pack(const wk_sgemm_blocks *g, const stage *st) {
    const uint32_t n_piece = (uint32_t)((st->kn + g->job.kc - 1) / g->job.kc);
    return packs_shared(&g->job) ? n_parts(st) * n_piece : 0;
}

static void set_pack(wk_sgemm_blocks *g, const stage *st) { wk_tickets_set(&g->pack, n_pack(g, st), wk_team_size(g->team)); }

static void set_strip(wk_sgemm_blocks *g) {
    const job *j = &g->job;
    wk_tickets_set(&g->strip, (uint32_t)((j->side[j->own].n + j->width - 1) / j->width), wk_team_size(g->team));
}

static void pack_part(const wk_sgemm_blocks *g, const stage *st, uint32_t ticket, int rank) {
    const job *j = &g->job;
    const uint32_t parts = n_parts(st);
    const int32_t at = (int32_t)(ticket % parts) * PART, n = least(st->n - at, PART);
    const int32_t k = (int32_t)(ticket / parts) * j->kc, kn = least(st->kn - k, j->kc);
    float *dst = shared_at(g, st, k, rank);
    if (j->shared == ROWS)
        pack_rows(g, dst + (size_t)at * ROW_LD, &j->side[ROWS], st->s0 + at, n, st->k0 + k, kn);
    else
        pack_panels(g, dst + (size_t)at * (size_t)kn, &j->side[COLS], st->s0 + at, n, st->k0 + k, kn);
}

static stage stage_at(const job *j, int32_t s0, int32_t k0) {
    return (stage){.s0 = s0,
                   .n = least(j->side[j->shared].n - s0, j->shared_n),
                   .k0 = k0,
                   .kn = least(j->k - k0, j->span)};
}

/* Lines that go from core to core are dear: 7 to 9 ns each for packing into what the other one has read, 1.5 ns at
 * home (Zen 4). So few threads pack all of it, each for itself, and wait for nobody. */
static void pack_shared(wk_sgemm_blocks *g, const stage *st, int rank) {
    uint32_t ticket;
    if (n_packed(g) == wk_team_size(g->team)) {
        for (ticket = 0; ticket < n_pack(g, st); ticket++) pack_part(g, st, ticket, rank);
        return;
    }
    while (wk_tickets_next(&g->pack, rank, &ticket)) pack_part(g, st, ticket, rank);
    if (packs_shared(&g->job)) wk_team_barrier(g->team, rank);
}

/* next: NULL for the last one. */
static void run_stage(wk_sgemm_blocks *g, int rank, const stage *st, const stage *next) {
    uint32_t ticket;
    pack_shared(g, st, rank);
    while (wk_tickets_next(&g->strip, rank, &ticket)) run_strip(g, st, ticket, rank);
    if (!next) return;
    wk_team_barrier(g->team, rank);
    if (rank == 0) {
        set_strip(g);
        set_pack(g, next);
    }
    wk_team_barrier(g->team, rank);
}

static void run_rank(void *ud, int rank) {
    wk_sgemm_blocks *g = (wk_sgemm_blocks *)ud;
    const job *j = &g->job;
    const int32_t n = j->side[j->shared].n, k = j->k;
    for (int32_t s = 0; s < n; s += j->shared_n)
        for (int32_t k0 = 0; k0 < k; k0 += j->span) {
            const stage st = stage_at(j, s, k0);
            const bool more_k = k - k0 > j->span, more = more_k || n - s > j->shared_n;
            const stage next = more_k ? stage_at(j, s, k0 + j->span) : stage_at(j, s + j->shared_n, 0);
            run_stage(g, rank, &st, more ? &next : NULL);
        }
}

/* The width with which the last thread is done first, all being equally fast. */
static int32_t strip_width(int32_t n, int32_t n_thread) {
    int32_t best = WIDE, least_time = INT32_MAX;
    for (int32_t w = WIDE; w >= NARROW; w -= GROUP) {
        const int32_t strips = n / w + (n % w != 0);
        const int32_t time = (strips + n_thread - 1) / n_thread * (w < n ? w : n);
        if (time >= least_time) continue;
        least_time = time;
        best = w;
    }
    return best;
}

/* What goes into one stage: all of it, where nothing is packed. */
static void set_stage(job *j) {
    const int32_t n = j->side[j->shared].n, k = up(j->k, j->kc);
    j->shared_n = n;
    j->span = k;
    if (!packs_shared(j)) return;
    j->shared_n = least(n, SHARED_N);
    j->span = least(k, SHARED / (up(j->shared_n, GROUP) * ROW_LD) * j->kc);
}

void wk_sgemm_blocks_run(wk_sgemm_blocks *g, const wk_sgemm_call *c) {
    const int32_t k = g->pair_pack ? c->k / 2 + c->k % 2 : c->k, pieces = k / KC + (k % KC != 0);
    job *j = &g->job;
    *j = (job){.c = c,
               .side = {{c->a, c->lda, c->m, c->k, c->op == WK_SGEMM_TN}, {c->b, c->ldb, c->n, c->k, c->op != WK_SGEMM_NT}},
               .shared = c->m < c->n ? ROWS : COLS,
               .packs_rows = g->pair_pack || c->op == WK_SGEMM_TN || c->lda % FAR == 0,
               .by_acc = c->ldc % FAR == 0,
               .k = k,
               .kc = up(k / pieces + (k % pieces != 0), WK_SGEMM_CHUNK)};
    if (c->op == WK_SGEMM_TN && c->n <= g->tile.cols && c->m >= NARROW) {
        const wk_sgemm_side a = j->side[ROWS];
        j->side[ROWS] = j->side[COLS];
        j->side[COLS] = a;
        j->shared = ROWS;
        j->turned = true;
    }
    j->own = !j->shared;
    j->width = strip_width(j->side[j->own].n, wk_team_size(g->team));
    set_stage(j);
    const stage st = stage_at(j, 0, 0);
    set_pack(g, &st);
    set_strip(g);
    wk_team_run(g->team, run_rank, g);
}

/* The thin product alone: strips of rows, each rank its own. */
static void thin_rank(void *ud, int rank) {
    const wk_sgemm_blocks *g = (const wk_sgemm_blocks *)ud;
    const wk_sgemm_call *c = g->job.c;
    const stage st = {.n = c->n};
    float *acc = g->mine + (size_t)rank * PER_THREAD + OWN;
    for (int32_t i = rank * WIDE; i < c->m; i += wk_team_size(g->team) * WIDE) run_thin(g, &st, i, least(c->m - i, WIDE), acc);
}

void wk_sgemm_blocks_thin(wk_sgemm_blocks *g, const wk_sgemm_call *c) {
    g->job = (job){.c = c, .shared = COLS, .own = ROWS, .by_acc = c->ldc % FAR == 0};
    wk_team_run(g->team, thin_rank, g);
}

/* ---- the object -------------------------------------------------------------------------------- */

static bool take_memory(wk_sgemm_blocks *g) {
    const size_t shared = (size_t)n_packed(g) * SHARED, mine = (size_t)wk_team_size(g->team) * PER_THREAD;
    if (!wk_pages_map(&g->mem, (shared + mine) * sizeof(float))) return false;
    g->packed = (float *)(void *)g->mem.p;
    g->mine = g->packed + shared;
    return true;
}

size_t wk_sgemm_bytes(int32_t n, int32_t k, int n_thread) {
    const size_t huge = (size_t)2 << 20, groups = ((size_t)n + GROUP - 1) / GROUP, pieces = ((size_t)k + KC - 1) / KC,
                 used = groups * GROUP * ROW_LD * pieces, part = used < SHARED ? used : SHARED;
    return ((part * sizeof(float) + huge - 1) / huge * (size_t)(n_thread <= EACH ? n_thread : 1) + 1) * huge;
}

wk_sgemm_blocks *wk_sgemm_blocks_new(const wk_kernels *k, const wk_grad_kernels *gk, wk_team *team) {
    wk_sgemm_blocks *g = (wk_sgemm_blocks *)wk_alloc_aligned(sizeof(wk_sgemm_blocks)); /* runs of tickets are a line each */
    if (!g) return NULL;
    g->tile = g->thin_tile = k->gemm[WK_KIND_F];
    if (gk) {
        g->tile = (wk_gemm){.rows = WK_PAIR_ROWS, .cols = WK_PAIR_COLS, .kc = KC, .tile = gk->pair_tile};
        g->pair_pack = gk->pair_pack;
    }
    g->fma = k->fma;
    g->team = team;
    if (take_memory(g)) return g;
    wk_sgemm_blocks_free(g);
    return NULL;
}

void wk_sgemm_blocks_free(wk_sgemm_blocks *g) {
    if (!g) return;
    wk_pages_unmap(&g->mem);
    wk_free_aligned(g);
}

/* Packing: whatever the team, each panel is the one that the format's pack makes of its rows, also where a piece of the
 * target ends inside a matrix; the first value that is not finite is named; progress ascends and can cancel. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/cpu/cpu.h"
#include "engine/cpu/owner.h"
#include "engine/cpu/pack.h"
#include "simd/format.h"
#include "tests/unit/unit.h"

enum { N_WEIGHT = 6, HEAD = 64 };

typedef struct model {
    wk_weight w[N_WEIGHT];
    wk_plan plan;
    uint8_t
        *data; /* one mapping: dropping its pages must not lose what is in it, so it is a file's */
    size_t n;
    uint64_t last;   /* of progress */
    int calls, stop; /* progress calls, the one that says no */
} model;

static const struct {
    const char *name;
    int fmt;
    int32_t n_row, k, unrotate;
    bool is_vector;
} shape[N_WEIGHT] = {
    {"norm", WK_FMT_F32, 1, 4096, 0, true},      {"q", WK_FMT_Q8_0, 6 * HEAD, 4096, HEAD, false},
    {"up", WK_FMT_Q4_0, 1003, 4096, 0, false},   {"small", WK_FMT_Q5_0, 3, 64, 0, false},
    {"down", WK_FMT_Q6_K, 1040, 4096, 0, false}, {"bias", WK_FMT_F16, 1, 257, 0, true},
};

static void fill(uint8_t *p, size_t n) {
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(x >> 24) & 0x3b; /* no exponent of only ones */
    }
}

static int set_up(void **state) {
    static model m;
    for (int i = 0; i < N_WEIGHT; i++) {
        wk_weight *w = &m.w[i];
        *w = (wk_weight){.name = shape[i].name,
                           .lora_of = -1,
                         .fmt = shape[i].fmt,
                         .n_row = shape[i].n_row,
                         .k = shape[i].k,
                         .unrotate = shape[i].unrotate,
                         .is_vector = shape[i].is_vector};
        w->row_bytes = wk_row_bytes(w->fmt, (size_t)w->k);
        m.n += (size_t)w->n_row * w->row_bytes;
    }
    FILE *f = tmpfile();
    if (!f || ftruncate(fileno(f), (off_t)m.n)) return -1;
    m.data = (uint8_t *)mmap(NULL, m.n, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
    (void)fclose(f);
    if (m.data == MAP_FAILED) return -1;
    fill(m.data, m.n);
    uint8_t *p = m.data;
    for (int i = 0; i < N_WEIGHT; i++) {
        m.w[i].data = p;
        p += (size_t)m.w[i].n_row * m.w[i].row_bytes;
    }
    m.plan = (wk_plan){.weight = m.w, .n_weight = N_WEIGHT};
    *state = &m;
    return 0;
}

static int tear_down(void **state) {
    const model *m = (const model *)*state;
    return munmap(m->data, m->n);
}

static bool on_progress(void *ud, uint64_t done, uint64_t total) {
    model *m = (model *)ud;
    assert_true(done >= m->last && done <= total);
    m->last = done;
    return ++m->calls != m->stop;
}

static int pack(model *m, wk_packed *out, wk_pages *mem, int n_thread, wk_err *err) {
    wk_team *t = wk_team_new(n_thread, 2);
    assert_non_null(t);
    const wk_host host = {.progress = on_progress, .ud = m};
    m->last = 0;
    m->calls = 0;
    const int rc = wk_pack_all(out, mem, &m->plan, NULL, t, &host, err);
    wk_team_free(t);
    return rc;
}

static void check_matrix(const wk_weight *w, const wk_packed *o) {
    uint8_t *rows = (uint8_t *)wk_alloc(WK_PANEL * w->row_bytes);
    uint8_t *want = (uint8_t *)wk_alloc_aligned(o->panel_bytes);
    assert_true(rows && want);
    assert_int_equal(o->n_panel, (w->n_row + WK_PANEL - 1) / WK_PANEL);
    for (int32_t i = 0; i < o->n_panel; i++) {
        int n = 0;
        for (; n < WK_PANEL && i * WK_PANEL + n < w->n_row; n++)
            memcpy(rows + (size_t)n * w->row_bytes,
                   w->data + (size_t)wk_weight_row(w, i * WK_PANEL + n) * w->row_bytes,
                   w->row_bytes);
        wk_formats[w->fmt].pack(want, rows, w->row_bytes, n, w->k);
        assert_memory_equal(o->p + (size_t)i * o->panel_bytes, want, o->panel_bytes);
    }
    wk_free_aligned(want);
    wk_free(rows);
}

static void same_for_every_team(void **state) {
    model *m = (model *)*state;
    for (int n = 1; n <= 4; n++) {
        wk_packed out[N_WEIGHT] = {{0}};
        wk_pages mem = {0};
        wk_err err = {0};
        m->stop = 0;
        assert_int_equal(pack(m, out, &mem, n, &err), WICK_OK);
        assert_true(mem.n > (size_t)6 << 20); /* several pieces */
        assert_int_equal(m->last, mem.n);
        const uint8_t *end = mem.p;
        for (int i = 0; i < N_WEIGHT; i++) {
            const wk_weight *w = &m->w[i];
            assert_ptr_equal(out[i].p, end);
            end += (size_t)out[i].n_panel * out[i].panel_bytes;
            if (!w->is_vector) {
                check_matrix(w, &out[i]);
                continue;
            }
            float want[4096];
            wk_formats[w->fmt].decode(want, w->data, w->k);
            assert_memory_equal(out[i].p, want, (size_t)w->k * sizeof(float));
            end += ((size_t)w->k * sizeof(float) + 63) / 64 * 64;
        }
        assert_ptr_equal(end, mem.p + mem.n);
        wk_pages_unmap(&mem);
    }
}

/* Makes the scale of the first block of a row infinite; returns what stood there. */
static uint16_t plant(model *m, int weight, int32_t row, size_t at, uint16_t bits) {
    uint8_t *p =
        m->data + (m->w[weight].data - m->data) + (size_t)row * m->w[weight].row_bytes + at;
    uint16_t old;
    memcpy(&old, p, 2);
    memcpy(p, &bits, 2);
    return old;
}

static void names_the_first_bad_row(void **state) {
    model *m = (model *)*state;
    const uint16_t down = plant(m, 4, 1039, 208, 0x7c00), up = plant(m, 2, 1001, 0, 0xfe00),
                   late = plant(m, 2, 1002, 0, 0x7c00);
    m->stop = 0;
    for (int n = 1; n <= 3; n++) {
        wk_packed out[N_WEIGHT];
        wk_pages mem = {0};
        wk_err err = {0};
        assert_int_equal(pack(m, out, &mem, n, &err), WICK_E_FORMAT);
        assert_string_equal(err.message,
                            "up holds a value that is not a finite number (row 1001 of 1003)");
        wk_pages_unmap(&mem);
    }
    (void)plant(m, 2, 1001, 0, up);
    (void)plant(m, 2, 1002, 0, late);
    (void)plant(m, 4, 1039, 208, down);
    const uint16_t bias = plant(m, 5, 0, 512, 0x7c00);
    wk_packed out[N_WEIGHT];
    wk_pages mem = {0};
    wk_err err = {0};
    assert_int_equal(pack(m, out, &mem, 2, &err), WICK_E_FORMAT);
    assert_string_equal(err.message, "bias holds a value that is not a finite number");
    wk_pages_unmap(&mem);
    (void)plant(m, 5, 0, 512, bias);
}

static void can_be_cancelled(void **state) {
    model *m = (model *)*state;
    for (m->stop = 1; m->stop <= 3; m->stop++) {
        wk_packed out[N_WEIGHT];
        wk_pages mem = {0};
        wk_err err = {0};
        const int rc = pack(m, out, &mem, 1, &err);
        assert_int_equal(rc, WICK_E_CANCELED);
        assert_int_equal(m->calls, m->stop);
        wk_pages_unmap(&mem);
    }
}

static void no_memory(void **state) {
    model *m = (model *)*state;
    wk_packed out[N_WEIGHT];
    for (uint64_t n = 1; n <= 2; n++) {
        wk_team *t = wk_team_new(2, 2);
        const wk_host host = {.n_thread = 2};
        wk_pages mem = {0};
        wk_err err = {0};
        assert_non_null(t);
        wk_alloc_fail_at(n, false);
        const int rc = wk_pack_all(out, &mem, &m->plan, NULL, t, &host, &err);
        wk_alloc_fail_at(0, false);
        assert_int_equal(rc, WICK_E_NOMEM);
        wk_pages_unmap(&mem);
        wk_team_free(t);
    }
}

/* Pieces belong to the ranks whose static tickets hold them; what is packed is the same. */
static void owners(void **state) {
    model *m = (model *)*state;
    for (int team = 1; team <= 5; team++) {
        wk_tickets k;
        const uint32_t n = 360;
        wk_tickets_set(&k, n, team);
        for (uint32_t round = 0, t; round < n / (uint32_t)team; round++) /* in turn: nobody takes of another's */
            for (int rank = 0; rank < team; rank++) {
                assert_true(wk_tickets_next(&k, rank, &t));
                assert_int_equal(wk_owner_of((t + 0.5) / n, team), rank);
            }
        assert_int_equal(wk_owner_of(0.999999, team), team - 1);
    }
    static wk_cpu_options cpu;
    cpu = (wk_cpu_options){.n_node = 2, .n_pin = 1};
    wk_packed out[2][N_WEIGHT];
    wk_pages mem[2] = {{0}, {0}};
    wk_team *t = wk_team_new(2, 2);
    assert_non_null(t);
    for (int i = 0; i < 2; i++) {
        const wk_host host = {.size = sizeof(host), .n_thread = 2, .cpu = i ? &cpu : NULL};
        wk_err err = {0};
        memset(out[i], 0, sizeof(out[i]));
        if (wk_pack_all(out[i], &mem[i], &m->plan, NULL, t, &host, &err)) fail_msg("%s", err.message);
    }
    assert_memory_equal(mem[0].p, mem[1].p, mem[0].n);
    wk_pages_unmap(&mem[0]);
    wk_pages_unmap(&mem[1]);
    wk_team_free(t);
}

/* A stage of q and k, then one of gate and up: half of the stage is where k begins, gate and up go side by side. */
static void owners_of_stages(void **state) {
    (void)state;
    enum { PANELS = 120, BYTES = 64, N = 4 };
    static uint8_t base[N * PANELS * BYTES];
    wk_weight w[N];
    wk_packed out[N];
    wk_step step[N];
    int32_t order[N];
    uint16_t owner[N * PANELS];
    for (int i = 0; i < N; i++) {
        w[i] = (wk_weight){.name = "w"};
        out[i] = (wk_packed){base + i * PANELS * BYTES, BYTES, PANELS, true};
        step[i] = (wk_step){.op = WK_OP_matmul, .w = {i, -1}};
        order[i] = i;
    }
    wk_chain chain[] = {{.first = 0, .n = 1}, {.first = 1, .n = 1}, {.first = 2, .n = 2}};
    wk_stage stage[] = {{.chain_first = 0, .chain_n = 2, .attn = -1}, {.chain_first = 2, .chain_n = 1, .attn = -1}};
    const wk_plan p = {.weight = w, .n_weight = N, .step = step, .n_step = N, .order = order, .chain = chain,
                       .stage = stage, .n_stage = 2};
    assert_true(wk_owners(owner, N * PANELS, BYTES, &p, out, base, 2));
    for (int i = 0; i < PANELS; i++) {
        const double at = (i + 0.5) / PANELS;
        assert_int_equal(owner[i], wk_owner_of(at / 2, 2));
        assert_int_equal(owner[PANELS + i], wk_owner_of(0.5 + at / 2, 2));
        assert_int_equal(owner[2 * PANELS + i], wk_owner_of(at, 2));
        assert_int_equal(owner[3 * PANELS + i], wk_owner_of(at, 2));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_for_every_team),
        cmocka_unit_test(names_the_first_bad_row),
        cmocka_unit_test(can_be_cancelled),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(owners),
        cmocka_unit_test(owners_of_stages),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

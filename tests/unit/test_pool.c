/* The team: every rank runs, the barrier holds, each ticket is handed out once, FP state is kept. */
#include <fenv.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/pool.h"
#include "tests/unit/unit.h"

enum { MAX_TEAM = 8 };
static const int sizes[] = {1, 2, 3, MAX_TEAM};
enum { N_SIZE = sizeof(sizes) / sizeof(sizes[0]) };

typedef struct work {
    wk_team *team;
    int n_round;
    uint32_t ran[MAX_TEAM];
    uint32_t slot[MAX_TEAM][32]; /* lines apart; one writer each */
    uint32_t wrong;              /* atomic */
    wk_tickets tickets[2];
    uint8_t *taken; /* [n] atomic */
} work;

static void mark(void *ud, int rank) { ((work *)ud)->ran[rank]++; }

static void runs_every_rank(void **state) {
    (void)state;
    for (int i = 0; i < N_SIZE; i++) {
        wk_team *t = wk_team_new(sizes[i], 2);
        assert_non_null(t);
        assert_int_equal(wk_team_size(t), sizes[i]);
        work w = {.team = t};
        for (uint32_t r = 1; r <= 50; r++) {
            wk_team_run(t, mark, &w);
            for (int k = 0; k < sizes[i]; k++) assert_int_equal(w.ran[k], r);
        }
        (void)usleep(2000); /* workers have gone to sleep */
        wk_team_run(t, mark, &w);
        for (int k = 0; k < sizes[i]; k++) assert_int_equal(w.ran[k], 51);
        wk_team_free(t);
    }
    wk_team_free(NULL);
}

/* Each rank writes its round, meets the others, and must see the same round everywhere. */
static void meet(void *ud, int rank) {
    work *w = (work *)ud;
    const int n = wk_team_size(w->team);
    for (uint32_t r = 1; r <= (uint32_t)w->n_round; r++) {
        w->slot[rank][0] = r;
        wk_team_barrier(w->team, rank);
        for (int k = 0; k < n; k++)
            if (w->slot[k][0] != r) __atomic_fetch_add(&w->wrong, 1, __ATOMIC_RELAXED);
        wk_team_barrier(w->team, rank);
        if (r % 512 == 0 && rank == (int)(r / 512) % n)
            (void)usleep(300); /* others spin, yield, sleep */
    }
}

static void barrier_holds(void **state) {
    (void)state;
    for (int i = 0; i < N_SIZE; i++) {
        for (int n_cpu = 1; n_cpu <= MAX_TEAM; n_cpu *= MAX_TEAM) {
            if (n_cpu > 2 && sizes[i] > 2) continue; /* spinning on absent CPUs only takes long */
            work w = {.team = wk_team_new(sizes[i], n_cpu), .n_round = 3000};
            assert_non_null(w.team);
            wk_team_run(w.team, meet, &w);
            assert_int_equal(w.wrong, 0);
            wk_team_free(w.team);
        }
    }
}

static void take_all(void *ud, int rank) {
    work *w = (work *)ud;
    for (int r = 0; r < w->n_round; r++) {
        wk_tickets *k = &w->tickets[r & 1];
        if (rank == 0) wk_tickets_set(&w->tickets[(r + 1) & 1], k->n, wk_team_size(w->team));
        uint32_t t, n = 1;
        while (r % 3 ? wk_tickets_next(k, rank, &t) : wk_tickets_next_run(k, rank, &t, &n))
            for (uint32_t i = t; i < t + n; i++) {
                if (i >= k->n)
                    __atomic_fetch_add(&w->wrong, 1, __ATOMIC_RELAXED);
                else
                    __atomic_fetch_add(&w->taken[i], 1, __ATOMIC_RELAXED);
            }
        for (int again = 0; again < 3; again++)
            if (wk_tickets_next(k, rank, &t)) __atomic_fetch_add(&w->wrong, 1, __ATOMIC_RELAXED);
        wk_team_barrier(w->team, rank);
    }
}

static void each_ticket_once_in_parallel(void **state) {
    (void)state;
    enum { N = 500, ROUNDS = 20 };
    for (int i = 0; i < N_SIZE; i++) {
        work w = {.team = wk_team_new(sizes[i], 2), .n_round = ROUNDS};
        assert_non_null(w.team);
        for (uint32_t n = 0; n <= N; n = n < 20 ? n + 1 : n * 2 + 1) {
            w.taken = (uint8_t *)wk_alloc(n);
            wk_tickets_set(&w.tickets[0], n, sizes[i]);
            wk_team_run(w.team, take_all, &w);
            for (uint32_t k = 0; k < n; k++) assert_int_equal(w.taken[k], ROUNDS);
            wk_free(w.taken);
        }
        assert_int_equal(w.wrong, 0);
        wk_team_free(w.team);
    }
}

/* All (n, team) with ranks that take turns or of which one takes two at once: everyone's own in ascending order, then
 * the end of another's run; in teams of up to 8 nobody goes while there is work, in larger ones its owner does it. */
static void deal_in_turn(uint32_t n, int team, int greedy, bool by_run) {
    wk_tickets k;
    uint8_t taken[260] = {0};
    uint32_t last[40], total = 0, idle = 0;
    wk_tickets_set(&k, n, team);
    for (int r = 0; r < team; r++) last[r] = (uint32_t)((uint64_t)n * (uint64_t)r / (uint64_t)team) - 1;
    for (int r = 0, turn = 0; total < n; r = r == greedy && turn++ % 2 ? r : (r + 1) % team) {
        const uint32_t end = (uint32_t)((uint64_t)n * ((uint64_t)r + 1) / (uint64_t)team);
        uint32_t t, many = 1;
        if (!(by_run ? wk_tickets_next_run(&k, r, &t, &many) : wk_tickets_next(&k, r, &t))) {
            assert_true(team > 8 && ++idle <= (uint32_t)team);
            continue;
        }
        idle = 0;
        assert_true(many >= 1 && t < n && many <= n - t);
        for (uint32_t i = t; i < t + many; i++) assert_int_equal(taken[i]++, 0);
        total += many;
        if (t == last[r] + 1 && t < end) {
            last[r] = t + many - 1;
            continue;
        }
        int of = 0; /* whose run it was: all behind it is taken */
        while ((uint64_t)n * ((uint64_t)of + 1) / (uint64_t)team <= t) of++;
        assert_int_not_equal(of, r);
        for (uint64_t i = t; i < (uint64_t)n * ((uint64_t)of + 1) / (uint64_t)team; i++) assert_int_equal(taken[i], 1);
    }
    uint32_t t;
    for (int r = 0; r < team; r++) assert_false(wk_tickets_next(&k, r, &t));
}

static void each_ticket_once(void **state) {
    (void)state;
    for (int team = 1; team <= 40; team++)
        for (uint32_t n = 0; n < 260; n += team > 8 ? 7 : 1)
            for (int way = 0; way < 4; way++) deal_in_turn(n, team, way & 1 ? team / 2 : -1, way & 2);
}

/* More threads than runs, and the largest count. */
static void tickets_at_the_limits(void **state) {
    (void)state;
    wk_tickets k;
    uint32_t t, n, total = 0;
    wk_tickets_set(&k, 1000, 1000);
    for (int i = 2 * 1000 - 1; i >= 0; i--) total += wk_tickets_next(&k, i % 1000, &t);
    assert_int_equal(total, 1000);
    assert_false(wk_tickets_next(&k, 3, &t));
    wk_tickets_set(&k, UINT32_MAX, 1);
    assert_true(wk_tickets_next_run(&k, 0, &t, &n));
    assert_true(t == 0 && n == UINT32_MAX);
    assert_false(wk_tickets_next_run(&k, 0, &t, &n));
    wk_tickets_set_free(&k, 5, 3);
    for (uint32_t i = 0; i < 5; i++) assert_true(wk_tickets_next(&k, (int)(i * 2 % 3), &t) && t == i);
    assert_false(wk_tickets_next(&k, 1, &t));
}

/* 1 + 2^-24 is a tie: nearest even gives 1, upward gives the next float. */
static bool rounds_to_even(void) {
    volatile float one = 1.0f, tie = 0x1p-24f, tiny = 0x1p-140f, half = 0.5f;
    const volatile float sum = one + tie, product = tiny * half;
    return sum == 1.0f && product == 0x1p-141f;
}

static void check_fp(void *ud, int rank) {
    (void)rank;
    if (!rounds_to_even()) __atomic_fetch_add(&((work *)ud)->wrong, 1, __ATOMIC_RELAXED);
}

static void fp_state(void **state) {
    (void)state;
    wk_team *t = wk_team_new(2, 2);
    assert_non_null(t);
    work w = {.team = t};
    assert_int_equal(fesetround(FE_UPWARD), 0);
    const bool was_even = rounds_to_even();
    wk_team_run(t, check_fp, &w);
    const bool lost = rounds_to_even(); /* by arithmetic: fegetround may look at another unit */
    const uint32_t saved = wk_fp_enter();
    const bool even = rounds_to_even();
    wk_fp_leave(saved);
    const bool lost_again = rounds_to_even();
    assert_int_equal(fesetround(FE_TONEAREST), 0);
    assert_true(even);
    assert_false(was_even || lost || lost_again);
    assert_int_equal(w.wrong, 0);
    wk_team_free(t);
}

static void no_thread_no_team(void **state) {
    (void)state;
    assert_null(wk_team_new(0, 1));
    for (uint32_t n = 1; n <= 3; n++) {
        wk_team_fail_at(n);
        assert_null(wk_team_new(4, 2));
    }
    for (uint64_t n = 1; n <= 2; n++) {
        wk_alloc_fail_at(n, false);
        assert_null(wk_team_new(4, 2));
    }
    wk_alloc_fail_at(0, false);
    wk_team *t = wk_team_new(4, 2);
    assert_non_null(t);
    work w = {.team = t};
    wk_team_run(t, mark, &w);
    assert_int_equal(w.ran[3], 1);
    wk_team_free(t);
}

/* Two teams of one caller, turn by turn. */
static void two_teams(void **state) {
    (void)state;
    wk_team *a = wk_team_new(2, 2), *b = wk_team_new(3, 2);
    assert_true(a && b);
    work wa = {.team = a, .n_round = 20}, wb = {.team = b, .n_round = 20};
    for (int i = 0; i < 20; i++) {
        wk_team_run(a, meet, &wa);
        wk_team_run(b, meet, &wb);
    }
    assert_int_equal(wa.wrong + wb.wrong, 0);
    wk_team_free(b);
    wk_team_free(a);
}

/* All threads on one CPU, free to leave it: a wait is enough to part them, and their masks stay whole. */
typedef struct stack {
    wk_team *team;
    int32_t cpu; /* where they are put */
    int32_t now[MAX_TEAM], allowed[MAX_TEAM], n_same;
} stack;

static void part(void *ud, int rank) {
    stack *s = (stack *)ud;
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof(all), &all)) return;
    CPU_ZERO(&one);
    CPU_SET((size_t)s->cpu, &one);
    if (sched_setaffinity(0, sizeof(one), &one)) return; /* where another thread may be as well */
    wk_team_barrier(s->team, rank);
    wk_team_barrier(s->team, rank);
    if (sched_setaffinity(0, sizeof(all), &all)) return;
    for (int i = 0; i < 200; i++) {
        const uint64_t end = wk_os_now_ns() + (rank == i % 2 ? 300000 : 0);
        while (wk_os_now_ns() < end) {}
        s->now[rank] = wk_os_cpu();
        wk_team_barrier(s->team, rank);
        if (rank == 0) s->n_same += s->now[0] == s->now[1];
        wk_team_barrier(s->team, rank);
    }
    if (sched_getaffinity(0, sizeof(all), &all) == 0) s->allowed[rank] = CPU_COUNT(&all);
}

static void stacked_threads_part(void **state) {
    (void)state;
    cpu_set_t all;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    if (CPU_COUNT(&all) < 2) skip();
    stack s = {.team = wk_team_new(2, 2)};
    while (!CPU_ISSET((size_t)s.cpu, &all)) s.cpu++;
    assert_non_null(s.team);
    wk_team_run(s.team, part, &s);
    assert_int_equal(s.allowed[0], CPU_COUNT(&all));
    assert_int_equal(s.allowed[1], CPU_COUNT(&all));
    printf("on one CPU: %d of 200 rounds\n", (int)s.n_same);
    assert_true(s.n_same < 100);
    wk_team_free(s.team);
}

static void moves_off_a_taken_cpu(void **state) {
    (void)state;
    cpu_set_t all, after, one;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    if (CPU_COUNT(&all) < 2) skip();
    for (int i = 0; i < 20; i++) {
        const int32_t taken[2] = {-1, wk_os_cpu()};
        assert_true(wk_os_cpu_move(taken, 2));
        assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
        assert_true(CPU_EQUAL(&all, &after));
    }
    const int32_t here = wk_os_cpu();
    CPU_ZERO(&one);
    CPU_SET((size_t)here, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    const bool moved = wk_os_cpu_move(&here, 1), to_itself = wk_os_cpu_move(&here, 0);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
    assert_false(moved);
    assert_true(to_itself);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_every_rank),  cmocka_unit_test(barrier_holds),
        cmocka_unit_test(each_ticket_once),
        cmocka_unit_test(tickets_at_the_limits), cmocka_unit_test(each_ticket_once_in_parallel),
        cmocka_unit_test(fp_state),         cmocka_unit_test(no_thread_no_team),
        cmocka_unit_test(two_teams),        cmocka_unit_test(stacked_threads_part),
        cmocka_unit_test(moves_off_a_taken_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

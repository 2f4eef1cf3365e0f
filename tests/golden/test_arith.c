/* test_arith.c: ONE ARITHMETIC through the public API: the hash of all sampled logits of a model is the same for every
 * CPU level, thread count, prompt chunk, prefix cold or reused, alone or beside seven others; and it is the golden one
 * of tests/golden/hash.txt, so that machines agree without meeting.
 *
 * Models: the tiny ones, and the real ones that WICK_SMOLLM2 and WICK_GEMMA3 name. --print writes the golden lines. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/wick.h"
#include "engine/wick_x.h"

enum { N_OTHER = 7, MAX_PROMPT = 600 };

typedef struct setting {
    const char *level; /* NULL: the best one */
    int threads, chunk;
} setting;

typedef struct model {
    const char *name, *path;
    int n_prompt, n_generate, kv_type;
    wick_model *m;
    int n_vocab;
    wick_token prompt[MAX_PROMPT];
    uint64_t hash[2];
    int n_equal;
} model;

static char levels[128];
static bool printing;

/* Ids that any vocabulary has; splitmix64. */
static void make_prompt(wick_token *t, int n, int n_vocab, uint64_t seed) {
    for (int i = 0; i < n; i++) {
        uint64_t z = seed += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        t[i] = (wick_token)((z ^ (z >> 31)) % (uint64_t)n_vocab);
    }
}

static void must(wick_status rc, const wick_error *err, const char *what) {
    if (rc) fail_msg("%s: %s", what, err->message[0] ? err->message : wick_strerror(rc));
}

static wick_engine *open_engine(const model *m, const setting *s, int max_seqs) {
    wick_error err = {0};
    wick_setup_options so = WICK_SETUP_OPTIONS_INIT;
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    wick_engine *e = NULL;
    so.cpu_level = s->level;
    must(wick_setup(&so, &err), &err, "setup");
    o.n_ctx = 704;
    o.kv_tokens = o.n_ctx * max_seqs;
    o.threads = s->threads;
    o.n_batch = s->chunk;
    o.kv_type = m->kv_type;
    o.max_seqs = max_seqs;
    must(wick_engine_open(m->m, &o, &e, &err), &err, m->name);
    return e;
}

static wick_request *submit(wick_engine *e, const wick_token *t, int n, int n_generate) {
    wick_error err = {0};
    wick_request *r = NULL;
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    o.tokens = t;
    o.n_tokens = (size_t)n;
    o.max_tokens = n_generate;
    o.temperature = 0;
    o.flags = WICK_REQ_HASH | WICK_REQ_IGNORE_END;
    must(wick_submit(e, &o, &r, &err), &err, "submit");
    return r;
}

static void finish(wick_request *r, wick_result *res) {
    wick_event ev = WICK_EVENT_INIT;
    while (wick_next(r, -1, &ev) == WICK_OK && ev.type != WICK_EV_DONE &&
           ev.type != WICK_EV_ERROR) {
    }
    if (ev.type == WICK_EV_ERROR) fail_msg("%s", ev.error.message);
    *res = (wick_result)WICK_RESULT_INIT;
    assert_int_equal(wick_request_result(r, res), WICK_OK);
    wick_request_free(r);
}

/* The first hash is the model's; every other must equal it. */
static void take(model *m, const wick_result *res, const char *what) {
    if (m->n_equal++ == 0) memcpy(m->hash, res->hash, sizeof(m->hash));
    if (memcmp(m->hash, res->hash, sizeof(m->hash)) != 0)
        fail_msg("%s, %s: hash %016llx%016llx, the first was %016llx%016llx", m->name, what,
                 (unsigned long long)res->hash[1], (unsigned long long)res->hash[0],
                 (unsigned long long)m->hash[1], (unsigned long long)m->hash[0]);
}

static void run_alone(model *m, const setting *s) {
    char what[96];
    wick_result res;
    wick_engine *e = open_engine(m, s, 1);
    (void)snprintf(what, sizeof(what), "level %s, %d threads, chunk %d",
                   s->level ? s->level : "best", s->threads, s->chunk);
    finish(submit(e, m->prompt, m->n_prompt, m->n_generate), &res);
    assert_int_equal(res.n_cached, 0);
    take(m, &res, what);
    finish(submit(e, m->prompt, m->n_prompt, m->n_generate), &res);
    if (m->n_prompt > 64) assert_true(res.n_cached >= 64);
    (void)snprintf(what, sizeof(what), "level %s, %d threads, chunk %d, prefix reused",
                   s->level ? s->level : "best", s->threads, s->chunk);
    take(m, &res, what);
    wick_engine_close(e);
}

/* Beside seven others of several lengths, in the middle of their crowd. */
static void run_crowd(model *m, const setting *s) {
    wick_token other[N_OTHER][MAX_PROMPT];
    wick_request *r[N_OTHER + 1];
    wick_result res;
    wick_engine *e = open_engine(m, s, N_OTHER + 1);
    for (int i = 0; i <= N_OTHER; i++) {
        const int j = i > 3 ? i - 1 : i;
        if (i == 3) {
            r[i] = submit(e, m->prompt, m->n_prompt, m->n_generate);
            continue;
        }
        const int n = 1 + j * m->n_prompt / 5;
        make_prompt(other[j], n, m->n_vocab, 1000 + (uint64_t)j);
        if (j == 5)
            memcpy(other[j], m->prompt,
                   (size_t)(n < m->n_prompt ? n : m->n_prompt) * sizeof(wick_token));
        r[i] = submit(e, other[j], n, m->n_generate);
    }
    for (int i = 0; i <= N_OTHER; i++) {
        finish(r[i], &res);
        if (i == 3) take(m, &res, "beside seven others");
    }
    wick_engine_close(e);
}

static void compare_golden(const model *m) {
    char line[160], name[64];
    unsigned long long hi = 0, lo = 0;
    int arith = 0;
    if (printing) {
        (void)printf("%s %d %016llx%016llx\n", m->name, WICK_ARITH, (unsigned long long)m->hash[1],
                     (unsigned long long)m->hash[0]);
        return;
    }
    FILE *f = fopen("tests/golden/hash.txt", "r");
    assert_non_null(f);
    bool found = false;
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "%63s %d %16llx%16llx", name, &arith, &hi, &lo) == 4 &&
            strcmp(name, m->name) == 0 && arith == WICK_ARITH) {
            found = true;
            if (hi != m->hash[1] || lo != m->hash[0])
                fail_msg("%s: hash %016llx%016llx, golden %016llx%016llx", name,
                         (unsigned long long)m->hash[1], (unsigned long long)m->hash[0], hi, lo);
        }
    fclose(f);
    if (!found) fail_msg("%s has no golden hash for arithmetic %d", m->name, WICK_ARITH);
}

static void check_model(model *m, bool full) {
    wick_error err = {0};
    char number[32];
    must(wick_model_open(m->path, NULL, &m->m, &err), &err, m->path);
    assert_int_equal(wick_model_get(m->m, "n_vocab", number, sizeof(number), NULL), WICK_OK);
    m->n_vocab = (int)strtol(number, NULL, 10);
    make_prompt(m->prompt, m->n_prompt, m->n_vocab, 7);
    char list[128];
    (void)snprintf(list, sizeof(list), "%s", levels);
    for (char *save = NULL, *l = strtok_r(list, ",", &save); l; l = strtok_r(NULL, ",", &save))
        run_alone(m, &(setting){l, 2, 64});
    static const int threads[] = {1, 2, 3, 8}, chunks[] = {1, 7, 64, 512};
    for (int i = 0; i < 4; i++) run_alone(m, &(setting){NULL, threads[i], 512});
    for (int i = 0; i < 4; i++) run_alone(m, &(setting){NULL, 2, chunks[i]});
    run_crowd(m, &(setting){NULL, 2, 512});
    run_crowd(m, &(setting){NULL, 3, 64});
    if (full) { /* small models: every combination */
        (void)snprintf(list, sizeof(list), "%s", levels);
        for (char *save = NULL, *l = strtok_r(list, ",", &save); l; l = strtok_r(NULL, ",", &save))
            for (int i = 0; i < 16; i++) {
                const setting s = {l, threads[i / 4], chunks[i % 4]};
                run_alone(m, &s);
                if (i % 5 == 0) run_crowd(m, &s);
            }
    }
    print_message("%s: %d runs, one hash %016llx%016llx\n", m->name, m->n_equal,
                  (unsigned long long)m->hash[1], (unsigned long long)m->hash[0]);
    compare_golden(m);
    wick_model_close(m->m);
}

static void test_tiny(void **s) {
    static const char *const name[] = {"llama", "qwen3", "gemma3"};
    (void)s;
    for (int i = 0; i < 3; i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.gguf", name[i]);
        model m = {.name = name[i], .path = path, .n_prompt = 150, .n_generate = 6};
        check_model(&m, true);
    }
}

/* The one tiny model whose heads hold whole blocks. */
static void test_tiny_q8_0(void **s) {
    (void)s;
    model m = {.name = "qwen3-kv-q8_0", .path = "tests/golden/tiny/qwen3.gguf", .n_prompt = 150, .n_generate = 6,
               .kv_type = WICK_KV_Q8_0};
    check_model(&m, true);
}

static void check_real(const char *name, const char *env, int kv_type) {
    model m = {.name = name, .path = getenv(env), .n_prompt = 100, .n_generate = 3, .kv_type = kv_type};
    if (!m.path) {
        print_message("skipped: %s names no file\n", env);
        skip();
    }
    check_model(&m, false);
}
static void test_smollm2(void **s) { (void)s, check_real("smollm2", "WICK_SMOLLM2", 0); }
static void test_gemma3(void **s) { (void)s, check_real("gemma3-270m", "WICK_GEMMA3", 0); }
static void test_smollm2_q8_0(void **s) {
    (void)s, check_real("smollm2-kv-q8_0", "WICK_SMOLLM2", WICK_KV_Q8_0);
}
static void test_gemma3_q8_0(void **s) {
    (void)s, check_real("gemma3-270m-kv-q8_0", "WICK_GEMMA3", WICK_KV_Q8_0);
}

int main(int argc, char **argv) {
    int n_core, n_affinity, n_thread;
    double quota;
    printing = argc > 1 && strcmp(argv[1], "--print") == 0;
    if (wick_x_machine(&n_core, &n_affinity, &quota, &n_thread, levels, sizeof(levels))) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tiny), cmocka_unit_test(test_smollm2),
                                       cmocka_unit_test(test_gemma3), cmocka_unit_test(test_tiny_q8_0),
                                       cmocka_unit_test(test_smollm2_q8_0), cmocka_unit_test(test_gemma3_q8_0)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

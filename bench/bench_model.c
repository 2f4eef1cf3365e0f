/* bench_model.c: prompt and decode speed of a model, one JSON line a repetition. Engine only: ids in, ids out.
 *
 * usage: bench_model MODEL [--threads N] [--pp N] [--tg N] [--depth N] [--reps N] [--batch N]
 *   pp  prompt tokens computed from nothing           tg  tokens decoded, one at a time, behind depth tokens */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/wick.h"

typedef struct bench {
    const char *path;
    int threads, pp, tg, depth, reps, batch;
    wick_model *model;
    wick_engine *engine;
    int n_vocab;
} bench;

static int fail(const char *what, const wick_error *err) {
    (void)fprintf(stderr, "bench_model: %s: %s\n", what, err->message);
    return 1;
}

static bool parse(bench *b, int argc, char **argv) {
    const struct {
        const char *name;
        int *value;
    } known[] = {{"--threads", &b->threads}, {"--pp", &b->pp},     {"--tg", &b->tg},
                 {"--depth", &b->depth},     {"--reps", &b->reps}, {"--batch", &b->batch}};
    for (int i = 1; i < argc; i++) {
        bool found = false;
        for (size_t j = 0; j < sizeof(known) / sizeof(known[0]); j++)
            if (strcmp(argv[i], known[j].name) == 0 && i + 1 < argc) {
                *known[j].value = (int)strtol(argv[++i], NULL, 10);
                found = true;
                break;
            }
        if (!found && !b->path && argv[i][0] != '-')
            b->path = argv[i];
        else if (!found)
            return false;
    }
    return b->path != NULL;
}

/* One request over n prompt ids; different ids each time, so that no prefix is known. */
static int measure(bench *b, int n_prompt, int n_generate, unsigned seed, wick_result *res,
                   wick_error *err) {
    wick_token *t = malloc((size_t)n_prompt * sizeof(*t));
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    if (!t) return -1;
    for (int i = 0; i < n_prompt; i++)
        t[i] = (wick_token)((seed = seed * 1664525u + 1013904223u) % (unsigned)b->n_vocab);
    o.tokens = t;
    o.n_tokens = (size_t)n_prompt;
    o.max_tokens = n_generate;
    o.temperature = 0;
    o.flags = WICK_REQ_IGNORE_END;
    *res = (wick_result)WICK_RESULT_INIT;
    const int rc = wick_generate(b->engine, &o, NULL, NULL, res, err);
    free(t);
    return rc;
}

static int run(bench *b, wick_error *err) {
    wick_result r;
    int rc = measure(b, 16, 8, 1, &r, err); /* warm up */
    for (int i = 0; !rc && i < b->reps; i++) {
        double pp = 0, tg = 0;
        if (b->pp > 0) {
            rc = measure(b, b->pp, 1, 100u + (unsigned)i, &r, err);
            if (!rc && r.prompt_s > 0) pp = b->pp / r.prompt_s;
        }
        if (!rc && b->tg > 0) {
            rc = measure(b, b->depth > 0 ? b->depth : 1, b->tg + 1, 500u + (unsigned)i, &r, err);
            if (!rc && r.decode_s > 0) tg = b->tg / r.decode_s;
        }
        if (!rc)
            printf("{\"pp\":%d,\"pp_tok_s\":%.2f,\"tg\":%d,\"depth\":%d,\"tg_tok_s\":%.2f}\n",
                   b->pp, pp, b->tg, b->depth, tg);
        (void)fflush(stdout);
    }
    return rc;
}

int main(int argc, char **argv) {
    bench b = {.threads = 0, .pp = 512, .tg = 128, .depth = 0, .reps = 3, .batch = 512};
    wick_error err = {0};
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    char number[32];
    if (!parse(&b, argc, argv)) {
        (void)fprintf(stderr, "usage: bench_model MODEL [--threads N] [--pp N] [--tg N] [--depth "
                              "N] [--reps N] [--batch N]\n");
        return 2;
    }
    if (wick_model_open(b.path, NULL, &b.model, &err)) return fail(b.path, &err);
    if (wick_model_get(b.model, "n_vocab", number, sizeof(number), NULL))
        return fail("n_vocab", &err);
    b.n_vocab = (int)strtol(number, NULL, 10);
    o.threads = b.threads;
    o.n_batch = b.batch;
    o.n_ctx = (b.pp > b.depth ? b.pp : b.depth) + b.tg + 64;
    o.max_seqs = 1;
    o.no_prefix_cache = 1;
    if (wick_engine_open(b.model, &o, &b.engine, &err)) return fail(b.path, &err);
    const int rc = run(&b, &err);
    wick_engine_close(b.engine);
    wick_model_close(b.model);
    return rc ? fail("measuring", &err) : 0;
}

/* test_kl.c MODEL CHUNKS: how far the quantised arithmetic is from the f32 model of the same weights.
 *
 * Mean KL(f32 || quantised) over the second halves of chunks of 256 tokens of wikitext-2 must be at most 1.1 times
 * llama.cpp's own on the same tokens (kl.txt). The f32 model is the file decoded to F32 and run by wick with an f32
 * cache (kind F: its logits are compared with transformers in test_logits.c). Exit 77: a file is missing, which is
 * said. Environment: WICK_SMOLLM2, WICK_GEMMA3 the models, WICK_CACHE where the f32 files go,
 * WICK_WIKITEXT the text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/wick.h"
#include "engine/wick_x.h"
#include "tests/golden/dequant.h"

enum { N_CTX = 256, FIRST = N_CTX / 2, N_ROW = N_CTX - 1 - FIRST, TEXT_CAP = 1 << 18, SKIP = 77 };
#define BOUND 1.1       /* the project's own promise */
#define PPL_RATIO 2e-3  /* the quantised model's perplexity against llama.cpp's */
#define PPL_BOUND 1e-3  /* same text, same reference: two f32 programs differ by their sums only */

/* What kl.txt says. */
typedef struct row_of_table {
    double kl, same_top, ppl_f32, ppl;
} row_of_table;

typedef struct side {
    wick_model *model;
    wick_engine *engine;
} side;

/* The run of one chunk. */
typedef struct run_of_chunk {
    const wick_token *tok;
    float *ref; /* [N_ROW][n_vocab] logits of the f32 model */
    int32_t n_vocab;
    double kl, nll_ref, nll; /* sums */
    int same_top, n;
} run_of_chunk;

static bool read_table(row_of_table *out, const char *model, int chunks) {
    char line[256], name[32];
    int c = 0, n = 0;
    bool found = false;
    FILE *f = fopen("tests/golden/kl.txt", "r");
    while (f && !found && fgets(line, sizeof(line), f))
        found = line[0] != '#' && sscanf(line, "%31s %d %d %lf %lf %lf %lf", name, &c, &n, &out->kl, &out->same_top,
                                         &out->ppl_f32, &out->ppl) == 7 && !strcmp(name, model) && c == chunks;
    if (f) (void)fclose(f); /* read only */
    return found;
}

static bool open_side(side *s, const char *path, int32_t kv_type, wick_error *err) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.n_ctx = N_CTX;
    o.n_batch = N_CTX;
    o.max_seqs = 1;
    o.kv_type = kv_type;
    o.no_prefix_cache = 1;
    return !wick_model_open(path, NULL, &s->model, err) && !wick_engine_open(s->model, &o, &s->engine, err);
}

static void close_side(side *s) {
    wick_engine_close(s->engine);
    wick_model_close(s->model);
}

/* log sum exp and the place of the largest logit. */
static double log_sum(const float *x, int32_t n, int32_t *top) {
    double sum = 0;
    *top = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[*top]) *top = i;
    for (int32_t i = 0; i < n; i++) sum += exp((double)x[i] - (double)x[*top]);
    return log(sum) + (double)x[*top];
}

static void keep_row(void *ud, int32_t pos, const float *logits, int32_t n_vocab) {
    run_of_chunk *r = ud;
    if (pos < FIRST || pos >= FIRST + N_ROW) return;
    memcpy(r->ref + (size_t)(pos - FIRST) * (size_t)n_vocab, logits, (size_t)n_vocab * sizeof(float));
}

static void compare_row(void *ud, int32_t pos, const float *logits, int32_t n_vocab) {
    run_of_chunk *r = ud;
    if (pos < FIRST || pos >= FIRST + N_ROW) return;
    const float *ref = r->ref + (size_t)(pos - FIRST) * (size_t)n_vocab;
    int32_t top_ref, top;
    const double z_ref = log_sum(ref, n_vocab, &top_ref), z = log_sum(logits, n_vocab, &top);
    double kl = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        const double lp = (double)ref[i] - z_ref;
        kl += exp(lp) * (lp - ((double)logits[i] - z));
    }
    r->kl += kl;
    r->nll_ref += z_ref - (double)ref[r->tok[pos + 1]];
    r->nll += z - (double)logits[r->tok[pos + 1]];
    r->same_top += top == top_ref;
    r->n++;
}

/* The first tokens of the text; chunks begin with BOS where the model wants one. NULL: too short. */
static wick_token *read_tokens(const wick_model *m, const char *path, int chunks) {
    static char text[TEXT_CAP]; /* one call a process */
    const size_t want = (size_t)chunks * N_CTX;
    size_t n = 0;
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    const size_t len = fread(text, 1, sizeof(text), f);
    (void)fclose(f); /* read only */
    wick_token *tok = malloc((len + 2) * sizeof(*tok)); /* a token has a byte at least; BOS, EOS */
    if (!tok || wick_tokenize(m, text, len, WICK_TOK_BOS, tok, len + 2, &n) || n < want + N_CTX) {
        free(tok);
        return NULL;
    }
    wick_token bos; /* what the empty text becomes */
    const bool has_bos = !wick_tokenize(m, "", 0, WICK_TOK_BOS, &bos, 1, &n) && n == 1;
    for (int c = 1; has_bos && c < chunks; c++) tok[c * N_CTX] = bos;
    return tok;
}

static int judge(const run_of_chunk *r, const row_of_table *want, const char *model) {
    const double n = r->n, kl = r->kl / n, ppl_ref = exp(r->nll_ref / n), ratio = kl / want->kl;
    printf("%s, %d positions: mean KL(f32 || quantised) %.6f, llama.cpp %.6f: ratio %.3f\n"
           "  same top token %.2f %% (llama.cpp %.2f); perplexity f32 %.4f (%.4f), quantised %.4f (%.4f), ratio %.4f\n",
           model, r->n, kl, want->kl, ratio, 100 * r->same_top / n, want->same_top, ppl_ref, want->ppl_f32,
           exp(r->nll / n), want->ppl, exp(r->nll / n) / ppl_ref);
    int bad = 0;
    if (!(ratio <= BOUND))
        bad = printf("FAILED: the mean is %.3f times llama.cpp's, wanted at most %.2f\n", ratio, BOUND);
    if (!(fabs(ppl_ref / want->ppl_f32 - 1) <= PPL_BOUND))
        bad = printf("FAILED: the f32 model's perplexity is %.4f, the table says %.4f: another text, or it is wrong\n",
                     ppl_ref, want->ppl_f32);
    if (!(fabs(exp(r->nll / n) / want->ppl - 1) <= PPL_RATIO))
        bad = printf("FAILED: the perplexity is %.4f, llama.cpp's %.4f: more than 0.2 %% apart\n", exp(r->nll / n),
                     want->ppl);
    if (!(kl > 0)) bad = printf("FAILED: the mean is %g, quantised arithmetic cannot be exact\n", kl);
    return bad ? 1 : 0;
}

static int compare(side *ref, side *quant, const char *text, const char *model, int chunks) {
    wick_error err = {0};
    row_of_table want;
    if (!read_table(&want, model, chunks)) {
        printf("FAILED: tests/golden/kl.txt has no row for %s with %d chunks\n", model, chunks);
        return 1;
    }
    char v[16];
    size_t v_n = 0;
    run_of_chunk r = {0};
    if (wick_model_get(ref->model, "n_vocab", v, sizeof(v), &v_n)) return 1;
    r.n_vocab = (int32_t)strtol(v, NULL, 10);
    wick_token *tok = read_tokens(ref->model, text, chunks);
    r.ref = malloc((size_t)N_ROW * (size_t)r.n_vocab * sizeof(float));
    int rc = r.ref && tok ? 0 : 1;
    for (int c = 0; !rc && c < chunks; c++) {
        r.tok = tok + c * N_CTX;
        rc = wick_x_logits(ref->engine, r.tok, N_CTX, keep_row, &r, &err) ||
             wick_x_logits(quant->engine, r.tok, N_CTX, compare_row, &r, &err);
    }
    if (rc || r.n != chunks * N_ROW) {
        printf("FAILED: %d of %d positions: %s\n", r.n, chunks * N_ROW, tok ? err.message : "the text is too short");
        rc = 1;
    } else {
        rc = judge(&r, &want, model);
    }
    free(r.ref);
    free(tok);
    return rc;
}

static int skipped(const char *why) {
    printf("skipped: %s\n", why);
    return SKIP;
}

static const char *env_or(const char *name, const char *other) {
    const char *v = getenv(name);
    return v && *v ? v : other;
}

static bool is_sanitized(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#else
    return false;
#endif
#else
    return false;
#endif
}

int main(int argc, char **argv) {
    char f32[4096];
    wick_error err = {0};
    side ref = {0}, quant = {0};
    if (argc != 3) return 2;
    const char *model = argv[1], *cache = env_or("WICK_CACHE", NULL);
    const char *path = env_or(!strcmp(model, "gemma3") ? "WICK_GEMMA3" : "WICK_SMOLLM2", NULL);
    const char *text = env_or("WICK_WIKITEXT", "../shared/data/wikitext2/wiki.test.raw");
    FILE *f = fopen(text, "rb");
    if (f) (void)fclose(f); /* it is only tried */
    if (is_sanitized()) return skipped("a whole model takes too long under sanitizers");
    if (!path) return skipped("WICK_SMOLLM2 or WICK_GEMMA3 names no model");
    if (!cache) return skipped("WICK_CACHE names no folder for the f32 model");
    if (!f) return skipped("no wikitext-2 (WICK_WIKITEXT names none)");
    (void)snprintf(f32, sizeof(f32), "%s/%s-f32.gguf", cache, model);
    if (wk_test_dequant(path, f32, &err)) return skipped(err.message);
    int rc = 1;
    if (open_side(&ref, f32, WICK_KV_F32, &err) && open_side(&quant, path, WICK_KV_DEFAULT, &err))
        rc = compare(&ref, &quant, text, model, (int)strtol(argv[2], NULL, 10));
    else if (err.code == WICK_E_FIT || err.code == WICK_E_NOMEM)
        rc = skipped(err.message);
    else
        printf("FAILED: %s\n", err.message);
    close_side(&quant);
    close_side(&ref);
    return rc;
}
